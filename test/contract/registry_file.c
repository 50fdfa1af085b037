/* What only the file registry promises (registry/registry.h): it reads nothing outside its roots, by whatever name, and
 * fetches what it resolved. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry.h"
#include "support/scratch.h"

struct place {
    char *folder, *root, *cache, *target, *model;
    const char *roots[2];
    struct registry_context context;
    struct registry_resolution resolution;
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

static int set_up(void **state) {
    struct place *place = mem_new(struct place);
    place->folder = scratch_new();
    place->root = scratch_path(place->folder, "root");
    place->cache = scratch_path(place->folder, "cache");
    place->target = scratch_path(place->folder, "target");
    place->model = scratch_path(place->folder, "root/m");
    scratch_make_folder(place->folder, "cache");
    scratch_make_folder(place->folder, "target");
    scratch_write_text(place->folder, "root/m/model.onnx", "weights");
    scratch_write_text(place->folder, "outside/secret", "secret");
    place->roots[0] = place->root;
    place->roots[1] = place->cache;
    place->context = (struct registry_context){.roots = place->roots, .root_count = 2};
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    registry_resolution_clear(&place->resolution);
    scratch_free(place->folder);
    free(place->root);
    free(place->cache);
    free(place->target);
    free(place->model);
    free(place);
    return 0;
}

static void make_link(struct place *place, const char *target, const char *name) {
    _cleanup_free_ char *path = scratch_path(place->folder, name);
    assert_int_equal(symlink(target, path), 0);
}

static void make_hard_link(struct place *place, const char *from, const char *to) {
    _cleanup_free_ char *old = scratch_path(place->folder, from), *new = scratch_path(place->folder, to);
    assert_int_equal(link(old, new), 0);
}

static int resolve(struct place *place, const char *uri) {
    registry_resolution_clear(&place->resolution);
    return file_registry.resolve(&place->context, uri, &place->resolution, &error);
}

static int fetch(struct place *place) {
    return file_registry.fetch(&place->context, &place->resolution, place->target, &error);
}

static void expect_fetched(struct place *place, const char *name, const char *text) {
    _cleanup_free_ char *got = scratch_read(place->target, name, NULL);
    assert_non_null(got);
    assert_string_equal(got, text);
}

/* ---- where a URI may point ---- */

static void a_uri_outside_the_roots_is_refused_before_anything_is_read(void **state) {
    struct place *place = *state;
    static const char *const outside[] = {
        "/etc", "/", "%s/outside", "%s/root/../outside", "file://%s/root/%%2e%%2e/outside", "%s/rootless", "%s"};
    for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
        _cleanup_free_ char *uri = text_copy(outside[i]);
        if (strstr(outside[i], "%s")) {
            free(uri);
            const char *at = strstr(outside[i], "%s");
            uri = text_format("%.*s%s%s", (int)(at - outside[i]), outside[i], place->folder, at + 2);
            char *twice;
            while ((twice = strstr(uri, "%%"))) memmove(twice, twice + 1, strlen(twice));
        }
        expect_error(file_registry.check(&place->context, uri, &error), ERROR_CONFIGURATION, "outside");
        expect_error(resolve(place, uri), ERROR_CONFIGURATION, "outside");
    }
}

static void a_link_in_the_uri_that_leads_out_is_refused(void **state) {
    struct place *place = *state;
    make_link(place, "../outside", "root/way");
    _cleanup_free_ char *uri = text_format("%s/way", place->root);
    expect_error(file_registry.check(&place->context, uri, &error), ERROR_CONFIGURATION, "outside");
    expect_error(resolve(place, uri), ERROR_CONFIGURATION, "outside");
}

static void a_uri_through_a_link_into_a_root_is_fine(void **state) {
    struct place *place = *state;
    make_link(place, "root", "alias");
    _cleanup_free_ char *uri = text_format("file://%s/alias/m", place->folder);
    expect_success(file_registry.check(&place->context, uri, &error));
    expect_success(resolve(place, uri));
    assert_string_equal(place->resolution.location, place->model);
    expect_success(fetch(place));
    expect_fetched(place, "model.onnx", "weights");
}

static void a_percent_encoded_name_is_decoded(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "root/a b#é/model.onnx", "x");
    _cleanup_free_ char *uri = text_format("file://%s/a%%20b%%23%%c3%%a9", place->root);
    expect_success(resolve(place, uri));
    expect_success(fetch(place));
}

/* ---- files and folders ---- */

static void one_onnx_file_is_fetched_as_model_onnx(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "root/tiny.onnx", "tiny");
    _cleanup_free_ char *uri = text_format("%s/tiny.onnx", place->root);
    expect_success(resolve(place, uri));
    assert_int_equal(place->resolution.file_count, 1);
    expect_success(fetch(place));
    expect_fetched(place, "model.onnx", "tiny");
}

static void a_file_of_another_kind_is_refused(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "root/model.pkl", "x");
    _cleanup_free_ char *uri = text_format("%s/model.pkl", place->root);
    expect_error(resolve(place, uri), ERROR_CONFIGURATION, "neither a folder nor an .onnx file");
}

static void a_path_below_a_file_is_not_there(void **state) {
    struct place *place = *state;
    _cleanup_free_ char *uri = text_format("%s/model.onnx/x", place->model);
    expect_error(resolve(place, uri), ERROR_MODEL_REGISTRY, "nothing");
}

static void an_empty_folder_is_no_model(void **state) {
    struct place *place = *state;
    scratch_make_folder(place->folder, "root/none/inner");
    _cleanup_free_ char *uri = text_format("%s/none", place->root);
    expect_error(resolve(place, uri), ERROR_MODEL_REGISTRY, "no files");
}

static void version_control_and_caches_are_left_out(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "root/m/.git/config", "x");
    scratch_write_text(place->folder, "root/m/.cache/huge", "x");
    scratch_write_text(place->folder, "root/m/.gitattributes", "x");
    expect_success(resolve(place, place->model));
    assert_int_equal(place->resolution.file_count, 2);
    assert_string_equal(place->resolution.files[0].path, ".gitattributes");
}

static void devices_pipes_and_sockets_are_refused_by_name(void **state) {
    struct place *place = *state;
    _cleanup_free_ char *pipe = scratch_path(place->model, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "/pipe is a device, a pipe or a socket");
    expect_error(resolve(place, pipe), ERROR_CONFIGURATION, "/pipe is a device, a pipe or a socket");
    unlink(pipe);
    _cleanup_close_ int socket_end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", place->model);
    assert_int_equal(bind(socket_end, (struct sockaddr *)&address, sizeof address), 0);
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "/s is a device, a pipe or a socket");
}

static void names_and_depths_beyond_measure_are_refused(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "root/m/a\nb", "x");
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "control character");
    _cleanup_free_ char *odd = scratch_path(place->model, "a\nb");
    unlink(odd);
    _cleanup_free_ char *deep = text_copy("root/m");
    for (int depth = 0; depth < 40; depth++) {
        char *deeper = text_format("%s/d", deep);
        free(deep);
        deep = deeper;
    }
    scratch_make_folder(place->folder, deep);
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "deeper than");
}

/* ---- links ---- */

static void a_hub_caches_links_are_followed_under_their_own_names(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "cache/blobs/abc", "from the cache");
    scratch_make_folder(place->folder, "root/m/onnx");
    make_link(place, "../../../cache/blobs/abc", "root/m/onnx/model.onnx");
    expect_success(resolve(place, place->model));
    assert_int_equal(place->resolution.file_count, 2);
    expect_success(fetch(place));
    expect_fetched(place, "onnx/model.onnx", "from the cache");
    _cleanup_free_ char *uri = text_format("%s/onnx/model.onnx", place->model);
    expect_success(resolve(place, uri)); /* its target has no suffix */
}

static void a_link_out_of_the_roots_is_refused_by_name(void **state) {
    struct place *place = *state;
    make_link(place, "../../outside/secret", "root/m/config.json");
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "/m/config.json");
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "outside the folders");
    assert_int_equal(place->resolution.file_count, 0);
}

static void a_link_to_nothing_to_itself_or_to_a_folder_is_told(void **state) {
    struct place *place = *state;
    _cleanup_free_ char *link = scratch_path(place->model, "link");
    make_link(place, "nowhere", "root/m/link");
    expect_error(resolve(place, place->model), ERROR_MODEL_REGISTRY, "leads to nothing");
    unlink(link);
    make_link(place, "link", "root/m/link");
    expect_error(resolve(place, place->model), ERROR_MODEL_REGISTRY, "leads to nothing");
    unlink(link);
    make_link(place, ".", "root/m/link");
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "a folder");
    unlink(link);
    make_link(place, "/dev/null", "root/m/link");
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "outside");
}

static void a_hard_link_out_of_the_roots_is_refused_by_name(void **state) {
    struct place *place = *state;
    make_hard_link(place, "outside/secret", "root/m/config.json");
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "/m/config.json is a hard link");
}

static void hard_links_among_the_roots_are_fine(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "cache/blobs/abc", "shared");
    make_hard_link(place, "cache/blobs/abc", "root/m/one");
    make_hard_link(place, "cache/blobs/abc", "root/m/two");
    expect_success(resolve(place, place->model));
    expect_success(fetch(place));
    expect_fetched(place, "one", "shared");
    expect_fetched(place, "two", "shared");
    make_hard_link(place, "cache/blobs/abc", "outside/third");
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "hard link");
}

static void a_root_inside_a_root_does_not_count_a_name_twice(void **state) {
    struct place *place = *state;
    place->roots[1] = place->model;
    make_hard_link(place, "root/m/model.onnx", "outside/other");
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "hard link");
    place->roots[1] = place->root;
    expect_error(resolve(place, place->model), ERROR_CONFIGURATION, "hard link");
}

/* ---- what changes between resolve and fetch ---- */

static void expect_changed(struct place *place) {
    int result = fetch(place);
    assert_true(error->transient);
    expect_error(result, ERROR_MODEL_REGISTRY, "changed while it was fetched");
}

static void a_file_that_changed_size_or_vanished_is_not_fetched(void **state) {
    struct place *place = *state;
    expect_success(resolve(place, place->model));
    scratch_write_text(place->folder, "root/m/model.onnx", "longer weights");
    expect_changed(place);
    _cleanup_free_ char *path = scratch_path(place->model, "model.onnx");
    unlink(path);
    expect_changed(place);
}

static void a_file_that_becomes_a_link_out_is_not_fetched(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "outside/weights", "weights"); /* the same size */
    expect_success(resolve(place, place->model));
    _cleanup_free_ char *path = scratch_path(place->model, "model.onnx");
    unlink(path);
    make_link(place, "../../outside/weights", "root/m/model.onnx");
    expect_error(fetch(place), ERROR_MODEL_REGISTRY, "model.onnx");
    assert_int_equal(scratch_count(place->target, ""), 0);
    unlink(path);
    make_hard_link(place, "outside/weights", "root/m/model.onnx");
    expect_error(fetch(place), ERROR_CONFIGURATION, "hard link");
    assert_int_equal(scratch_count(place->target, ""), 0);
}

/* ---- what tells that it is the same ---- */

static bool has_fingerprint(struct place *place) {
    expect_success(resolve(place, place->model));
    return place->resolution.fingerprint;
}

/* Waits until the model is at rest: nothing but time makes a time of change older. */
static char *await_fingerprint(struct place *place) {
    for (int i = 0; i < 400 && !has_fingerprint(place); i++) usleep(50000);
    assert_non_null(place->resolution.fingerprint);
    return text_copy(place->resolution.fingerprint);
}

static void the_same_fingerprint_means_the_same_bytes(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "root/m/zzz", "another file");
    assert_false(has_fingerprint(place)); /* it could be written again within the clock's tick */
    _cleanup_free_ char *first = await_fingerprint(place), *second = await_fingerprint(place);
    assert_string_equal(first, second);
    _cleanup_free_ char *path = scratch_path(place->model, "zzz");
    struct stat before;
    assert_int_equal(stat(path, &before), 0);
    scratch_write_text(place->folder, "root/m/zzz", "ANOTHER FILE");
    struct timespec times[2] = {before.st_atim, before.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0); /* as if nothing had been */
    assert_false(has_fingerprint(place));
    _cleanup_free_ char *third = await_fingerprint(place);
    assert_string_not_equal(first, third);
}

struct disturbance {
    struct place *place;
    uint64_t at_bytes; /* writes to model.onnx once so many bytes are copied */
};

static void write_while_copying(uint64_t done, uint64_t total, void *context) {
    (void)total;
    struct disturbance *disturbance = context;
    if (done == disturbance->at_bytes)
        scratch_write_text(disturbance->place->folder, "root/m/model.onnx", "WEIGHTS"); /* the same size */
}

static void a_file_that_is_written_while_the_model_is_fetched_is_noticed(void **state) {
    struct place *place = *state;
    scratch_write_text(place->folder, "root/m/zzz", "fetched later");
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    _cleanup_free_ char *path = scratch_path(place->model, "model.onnx");
    static const uint64_t moments[] = {sizeof "weights" - 1, sizeof "weights" + sizeof "fetched later" - 2};
    for (size_t i = 0; i < ARRAY_SIZE(moments); i++) { /* while it is copied itself, and while another one is */
        struct disturbance disturbance = {place, moments[i]};
        assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
        expect_success(resolve(place, place->model));
        place->context.on_progress = write_while_copying;
        place->context.progress_context = &disturbance;
        scratch_free(text_copy(place->target));
        scratch_make_folder(place->folder, "target");
        expect_changed(place);
    }
}

/* ---- rights ---- */

static void fetch_without_rights(void *context) {
    struct place *place = context;
    CHILD_CHECK(!resolve(place, place->model));
    CHILD_CHECK(fetch(place) == -(int)ERROR_CONFIGURATION);
    _cleanup_free_ char *text = error_text(error);
    CHILD_CHECK(strstr(text, "model.onnx") && strstr(text, "the right to read it") && !error->transient);
    _exit(0);
}

static void a_file_that_may_not_be_read_is_told_with_what_to_do(void **state) {
    struct place *place = *state;
    _cleanup_free_ char *path = scratch_path(place->model, "model.onnx");
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(place->folder, 0755), 0);
    assert_int_equal(scratch_run_unprivileged(place->target, fetch_without_rights, place), 0);
}

/* ---- finding the registry ---- */

static void a_scheme_that_this_build_lacks_is_told_with_those_it_has(void **state) {
    (void)state;
    const struct registry_ops *found = NULL;
    static const char *const unknown[] = {"ftp://host/m", "gs://bucket/m", "hdfs://name/m", "x:"};
    for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
        expect_error(registry_find(unknown[i], &found, &error), ERROR_CONFIGURATION, "file:///path");
    assert_null(found);
    static const char *const known[] = {"file:///m", "FILE:///m", "/m", "relative", "/a:b", ""};
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        expect_success(registry_find(known[i], &found, &error));
        assert_ptr_equal(found, &file_registry);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_uri_outside_the_roots_is_refused_before_anything_is_read),
        TEST(a_link_in_the_uri_that_leads_out_is_refused),
        TEST(a_uri_through_a_link_into_a_root_is_fine),
        TEST(a_percent_encoded_name_is_decoded),
        TEST(one_onnx_file_is_fetched_as_model_onnx),
        TEST(a_file_of_another_kind_is_refused),
        TEST(a_path_below_a_file_is_not_there),
        TEST(an_empty_folder_is_no_model),
        TEST(version_control_and_caches_are_left_out),
        TEST(devices_pipes_and_sockets_are_refused_by_name),
        TEST(names_and_depths_beyond_measure_are_refused),
        TEST(a_hub_caches_links_are_followed_under_their_own_names),
        TEST(a_link_out_of_the_roots_is_refused_by_name),
        TEST(a_link_to_nothing_to_itself_or_to_a_folder_is_told),
        TEST(a_hard_link_out_of_the_roots_is_refused_by_name),
        TEST(hard_links_among_the_roots_are_fine),
        TEST(a_root_inside_a_root_does_not_count_a_name_twice),
        TEST(a_file_that_changed_size_or_vanished_is_not_fetched),
        TEST(a_file_that_becomes_a_link_out_is_not_fetched),
        TEST(a_file_that_is_written_while_the_model_is_fetched_is_noticed),
        TEST(the_same_fingerprint_means_the_same_bytes),
        TEST(a_file_that_may_not_be_read_is_told_with_what_to_do),
        cmocka_unit_test(a_scheme_that_this_build_lacks_is_told_with_those_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
