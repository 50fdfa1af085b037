/* What every registry promises (registry/registry.h), over each back-end; what only the file registry promises is in
 * test/contract/registry_file.c. Each back-end brings a bed: how to publish a model in it. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry.h"
#include "support/faults.h"
#include "support/scratch.h"
#include "support/web_models.h"

struct bed {
    const struct registry_ops *registry;
    bool is_packed; /* what a model is made of is known once it is fetched */
    /* Puts a file of the model "minilm" where the registry has it. */
    void (*put)(const char *folder, const char *name, const char *text);
    char *(*uri)(const char *folder, const char *model);
};

static struct web_models *web; /* of the test that runs */

static void put_file(const char *folder, const char *name, const char *text) {
    _cleanup_free_ char *path = text_format("root/minilm/%s", name);
    scratch_write_text(folder, path, text);
}

static char *file_uri(const char *folder, const char *model) {
    return text_format("file://%s/root/%s", folder, model);
}

static char *web_uri(const char *folder, const char *model) {
    (void)folder;
    return web_models_uri(web, model);
}

static const struct bed beds[] = {{&file_registry, false, put_file, file_uri},
                                  {&http_registry, true, put_file, web_uri}};
static const struct bed *bed; /* the one that runs */

struct place {
    char *folder, *root, *uri, *target;
    const char *roots[1];
    atomic_bool canceled;
    uint64_t progress, total;
    size_t calls, cancel_at;
    struct registry_context context;
};

static struct error *error;

static void expect_error(int result, enum error_class class, const char *part) {
    _cleanup_free_ char *text = error_text(error);
    if (result != -(int)class || !strstr(text, part)) fail_msg("got %d: %s", result, result < 0 ? text : "success");
    error_free(error);
    error = NULL;
}

static void expect_success(int result) {
    if (result >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    fail_msg("got %d: %s", result, text);
}

static void note_progress(uint64_t done, uint64_t total, void *context) {
    struct place *place = context;
    assert_true(done >= place->progress && done <= total);
    place->progress = done;
    place->total = total;
    if (++place->calls == place->cancel_at) atomic_store(&place->canceled, true);
}

static int set_up(void **state) {
    struct place *place = mem_new(struct place);
    place->folder = scratch_new();
    place->root = scratch_path(place->folder, "root");
    place->target = scratch_path(place->folder, "target");
    scratch_make_folder(place->folder, "root");
    scratch_make_folder(place->folder, "target");
    web = web_models_start(place->folder);
    place->uri = bed->uri(place->folder, "minilm");
    place->roots[0] = place->root;
    place->context = (struct registry_context){.roots = place->roots,
                                               .root_count = 1,
                                               .servers = web_models_servers(web),
                                               .attempts = 2,
                                               .canceled = &place->canceled,
                                               .on_progress = note_progress,
                                               .progress_context = place};
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    web_models_stop(web);
    scratch_free(place->folder);
    free(place->root);
    free(place->uri);
    free(place->target);
    free(place);
    return 0;
}

static void put_model(struct place *place) {
    bed->put(place->folder, "model.onnx", "weights");
    bed->put(place->folder, "1_Pooling/config.json", "{}");
    bed->put(place->folder, "empty", "");
}

static void expect_model(struct place *place) {
    _cleanup_free_ char *weights = scratch_read(place->target, "model.onnx", NULL);
    _cleanup_free_ char *config = scratch_read(place->target, "1_Pooling/config.json", NULL);
    _cleanup_free_ char *empty = scratch_read(place->target, "empty", NULL);
    assert_string_equal(weights, "weights");
    assert_string_equal(config, "{}");
    assert_string_equal(empty, "");
    assert_int_equal(scratch_count(place->target, ""), 3);
}

static void expect_files(const struct registry_resolution *resolution) {
    assert_int_equal(resolution->file_count, 3);
    assert_string_equal(resolution->files[0].path, "1_Pooling/config.json");
    assert_string_equal(resolution->files[1].path, "empty");
    assert_string_equal(resolution->files[2].path, "model.onnx");
    assert_int_equal(resolution->files[2].size_bytes, 7);
    assert_int_equal(resolution->size_bytes, 9);
}

static void what_is_resolved_is_what_is_fetched(void **state) {
    struct place *place = *state;
    put_model(place);
    struct registry_resolution resolution;
    expect_success(bed->registry->check(&place->context, place->uri, &error));
    expect_success(bed->registry->resolve(&place->context, place->uri, &resolution, &error));
    if (!bed->is_packed) expect_files(&resolution);
    assert_int_equal(scratch_count(place->target, ""), 0); /* no byte was moved */
    expect_success(bed->registry->fetch(&place->context, &resolution, place->target, &error));
    expect_model(place);
    assert_int_equal(place->progress, resolution.size_bytes);
    assert_int_equal(place->total, resolution.size_bytes);
    registry_resolution_clear(&resolution);
    registry_resolution_clear(&resolution);
}

static void what_is_not_there_is_a_final_registry_error(void **state) {
    struct place *place = *state;
    struct registry_resolution resolution;
    _cleanup_free_ char *uri = bed->uri(place->folder, "missing");
    int result = bed->registry->resolve(&place->context, uri, &resolution, &error);
    assert_false(error->transient);
    expect_error(result, ERROR_MODEL_REGISTRY, "missing");
}

static void a_model_past_a_ceiling_is_refused_with_the_figure(void **state) {
    struct place *place = *state;
    struct registry_resolution resolution;
    put_model(place);
    place->context.size_maximum = 8;
    expect_error(bed->registry->resolve(&place->context, place->uri, &resolution, &error), ERROR_CONFIGURATION, "8 B");
    place->context.size_maximum = bed->is_packed ? 0 : 9;
    place->context.file_maximum = 2;
    int result = bed->registry->resolve(&place->context, place->uri, &resolution, &error);
    if (!result) { /* it shows when it is unpacked */
        result = bed->registry->fetch(&place->context, &resolution, place->target, &error);
        registry_resolution_clear(&resolution);
    }
    expect_error(result, ERROR_CONFIGURATION, "2 files");
    place->context.file_maximum = 3;
    expect_success(bed->registry->resolve(&place->context, place->uri, &resolution, &error));
    registry_resolution_clear(&resolution);
}

static void a_canceled_fetch_ends(void **state) {
    struct place *place = *state;
    struct registry_resolution resolution;
    put_model(place);
    expect_success(bed->registry->resolve(&place->context, place->uri, &resolution, &error));
    place->cancel_at = 1;
    expect_error(bed->registry->fetch(&place->context, &resolution, place->target, &error), ERROR_UNAVAILABLE,
                 "canceled");
    expect_error(bed->registry->resolve(&place->context, place->uri, &resolution, &error), ERROR_UNAVAILABLE,
                 "canceled");
    registry_resolution_clear(&resolution);
}

/* ---- each system call failing in turn ---- */

#define CALLS_MAXIMUM 500
#define NOTE_RESULT 0
#define NOTE_TRANSIENT 1

static void resolve_and_fetch(struct faults *faults, void *context) {
    struct place *place = context;
    struct registry_resolution resolution;
    int result = bed->registry->resolve(&place->context, place->uri, &resolution, &error);
    if (!result) {
        result = bed->registry->fetch(&place->context, &resolution, place->target, &error);
        registry_resolution_clear(&resolution);
    }
    atomic_store(&faults->note[NOTE_RESULT], result);
    atomic_store(&faults->note[NOTE_TRANSIENT], error && error->transient);
    _exit(0);
}

static void empty_target(struct place *place) {
    scratch_free(text_copy(place->target));
    scratch_make_folder(place->folder, "target");
}

static void fail_each_call(struct place *place, int action) {
    put_model(place);
    struct faults *faults = faults_new(FAULT_WRITE | FAULT_NAME | FAULT_OPEN);
    faults->action = action;
    do {
        faults->at++;
        assert_in_range(faults->at, 1, CALLS_MAXIMUM);
        empty_target(place);
        int status = faults_run(faults, resolve_and_fetch, place);
        assert_int_equal(status, action == FAULT_KILL && atomic_load(&faults->fired) ? 128 + SIGKILL : 0);
        int result = atomic_load(&faults->note[NOTE_RESULT]);
        if (action != FAULT_KILL && !result) expect_model(place); /* it found another way, or told */
        if (action == ENOSPC && result < 0) assert_true(atomic_load(&faults->note[NOTE_TRANSIENT]));
    } while (atomic_load(&faults->fired));
    assert_in_range(faults->at, 8, CALLS_MAXIMUM);
    empty_target(place); /* what an interrupted task does, and then it is as if nothing had been */
    struct registry_resolution resolution;
    expect_success(bed->registry->resolve(&place->context, place->uri, &resolution, &error));
    expect_success(bed->registry->fetch(&place->context, &resolution, place->target, &error));
    expect_model(place);
    registry_resolution_clear(&resolution);
    faults_free(faults);
}

static void a_kill_at_any_call_harms_no_later_fetch(void **state) {
    fail_each_call(*state, FAULT_KILL);
}

static void a_full_disk_at_any_call_is_told_and_transient(void **state) {
    fail_each_call(*state, ENOSPC);
}

static void a_failing_disk_at_any_call_is_told(void **state) {
    fail_each_call(*state, EIO);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_is_resolved_is_what_is_fetched),
        TEST(what_is_not_there_is_a_final_registry_error),
        TEST(a_model_past_a_ceiling_is_refused_with_the_figure),
        TEST(a_canceled_fetch_ends),
        TEST(a_kill_at_any_call_harms_no_later_fetch),
        TEST(a_full_disk_at_any_call_is_told_and_transient),
        TEST(a_failing_disk_at_any_call_is_told),
    };
    int failures = 0;
    for (size_t i = 0; i < ARRAY_SIZE(beds); i++) {
        bed = &beds[i];
        failures += cmocka_run_group_tests_name(bed->registry->name, tests, NULL, NULL);
    }
    return failures;
}
