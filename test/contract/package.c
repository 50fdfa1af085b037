/* What every package back-end promises (package/package.h): the same suite over each, and each system call of it that
 * touches the disk fails once, and is the last one once. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package.h"
#include "support/faults.h"
#include "support/scratch.h"

static const struct package_ops *const back_ends[] = {&folder_packages};
static const struct package_ops *ops; /* the one that runs */

struct place {
    char *folder, *location;
    struct package_store *store;
};

static struct error *error;
static struct faults *injected; /* set in a child whose calls fail */

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
    place->location = scratch_path(place->folder, "packages");
    expect_success(ops->open(place->location, &place->store, &error));
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    ops->close(place->store);
    scratch_free(place->folder);
    free(place->location);
    free(place);
    return 0;
}

/* ---- the model that is published ---- */

static const struct {
    const char *name, *text;
} files[] = {{"model.onnx", "weights"}, {"1_Pooling/config.json", "{}"}, {"onnx/a/b.onnx", ""}};

static void write_model(const char *folder) {
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) scratch_write_text(folder, files[i].name, files[i].text);
}

/* Its digest, from the definition in package.h. */
static void model_digest(char ret_hex[DIGEST_HEX_SIZE]) {
    static const size_t sorted[] = {1, 0, 2};
    _cleanup_free_ char *list = text_copy("");
    for (size_t i = 0; i < ARRAY_SIZE(sorted); i++) {
        char hex[DIGEST_HEX_SIZE];
        const char *text = files[sorted[i]].text;
        digest_bytes(text, strlen(text), hex);
        char *longer = text_format("%s%s %zu %s\n", list, hex, strlen(text), files[sorted[i]].name);
        free(list);
        list = longer;
    }
    digest_bytes(list, strlen(list), ret_hex);
}

static int fetch_and_measure(struct place *place, const char *task, struct package_info *ret_info) {
    _cleanup_free_ char *folder = NULL;
    int result = ops->begin(place->store, task, &folder, &error);
    if (result < 0) return result;
    if (injected) atomic_store(&injected->armed, false); /* what the registry does has its own suite */
    write_model(folder);
    if (injected) atomic_store(&injected->armed, true);
    return ops->measure(place->store, task, NULL, ret_info, &error);
}

static void publish_model(struct place *place, const char *task, struct package_info *ret_info) {
    expect_success(fetch_and_measure(place, task, ret_info));
    expect_success(ops->publish(place->store, task, ret_info, &error));
}

static void add_to_list(const char *digest, void *context) {
    char **list = context, *longer = text_format("%s%s ", *list, digest);
    free(*list);
    *list = longer;
}

/* The digests that are there, each followed by a space. */
static char *list_packages(struct package_store *store) {
    char *list = text_copy("");
    expect_success(ops->scan(store, add_to_list, &list, &error));
    return list;
}

static void expect_model(struct place *place, const char *digest) {
    _cleanup_free_ char *path = NULL;
    expect_success(ops->locate(place->store, digest, &path, &error));
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        _cleanup_free_ char *text = scratch_read(path, files[i].name, NULL);
        assert_non_null(text);
        assert_string_equal(text, files[i].text);
    }
    assert_int_equal(scratch_count(path, ""), 3);
}

/* ---- what is promised ---- */

static void the_digest_is_that_of_the_sorted_list_of_files(void **state) {
    struct place *place = *state;
    struct package_info info;
    char wanted[DIGEST_HEX_SIZE];
    model_digest(wanted);
    expect_success(fetch_and_measure(place, "t1", &info));
    assert_string_equal(info.digest, wanted);
    assert_int_equal(info.file_count, 3);
    assert_int_equal(info.size_bytes, strlen("weights") + strlen("{}"));
}

static void nothing_is_seen_before_it_is_published_and_all_of_it_after(void **state) {
    struct place *place = *state;
    struct package_info info;
    char *path = NULL;
    expect_success(fetch_and_measure(place, "t1", &info));
    _cleanup_free_ char *before = list_packages(place->store);
    assert_string_equal(before, "");
    expect_error(ops->locate(place->store, info.digest, &path, &error), ERROR_NOT_FOUND, info.digest);
    expect_success(ops->publish(place->store, "t1", &info, &error));
    expect_model(place, info.digest);
    _cleanup_free_ char *after = list_packages(place->store);
    assert_memory_equal(after, info.digest, 64);
    assert_int_equal(strlen(after), 65);
}

static void publishing_twice_is_success(void **state) {
    struct place *place = *state;
    struct package_info info;
    publish_model(place, "t1", &info);
    expect_success(ops->publish(place->store, "t1", &info, &error));
    expect_model(place, info.digest);
}

static void the_same_files_are_one_package(void **state) {
    struct place *place = *state;
    struct package_info first, second;
    publish_model(place, "t1", &first);
    publish_model(place, "t2", &second);
    assert_string_equal(first.digest, second.digest);
    _cleanup_free_ char *list = list_packages(place->store);
    assert_int_equal(strlen(list), 65);
    expect_model(place, first.digest);
}

struct publisher {
    struct place *place;
    const char *task;
    struct package_info info;
    int result;
};

static void *publish_on_a_thread(void *context) {
    struct publisher *publisher = context;
    publisher->result = ops->publish(publisher->place->store, publisher->task, &publisher->info, NULL);
    return NULL;
}

static void tasks_that_publish_the_same_at_once_all_succeed(void **state) {
    struct place *place = *state;
    static const char *const tasks[] = {"t1", "t2", "t3", "t4"};
    for (int round = 0; round < 10; round++) {
        struct publisher publishers[ARRAY_SIZE(tasks)];
        pthread_t threads[ARRAY_SIZE(tasks)];
        for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
            publishers[i] = (struct publisher){.place = place, .task = tasks[i]};
            expect_success(fetch_and_measure(place, tasks[i], &publishers[i].info));
        }
        for (size_t i = 0; i < ARRAY_SIZE(tasks); i++)
            assert_int_equal(pthread_create(&threads[i], NULL, publish_on_a_thread, &publishers[i]), 0);
        for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) pthread_join(threads[i], NULL);
        for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) assert_int_equal(publishers[i].result, 0);
        expect_model(place, publishers[0].info.digest);
        expect_success(ops->remove(place->store, publishers[0].info.digest, &error));
    }
}

static void a_leftover_of_the_same_task_is_emptied(void **state) {
    struct place *place = *state;
    struct package_info info, again;
    expect_success(fetch_and_measure(place, "t1", &info));
    _cleanup_free_ char *folder = NULL;
    expect_success(ops->begin(place->store, "t1", &folder, &error));
    assert_int_equal(scratch_count(folder, ""), 0);
    scratch_write_text(folder, "other", "x");
    expect_success(ops->measure(place->store, "t1", NULL, &again, &error));
    assert_int_equal(again.file_count, 1);
}

static void what_was_abandoned_is_gone(void **state) {
    struct place *place = *state;
    struct package_info info;
    expect_success(fetch_and_measure(place, "t1", &info));
    ops->abandon(place->store, "t1");
    ops->abandon(place->store, "t1");
    expect_error(ops->publish(place->store, "t1", &info, &error), ERROR_NOT_FOUND, "fetched again");
}

static void what_changed_since_it_was_measured_is_not_published(void **state) {
    struct place *place = *state;
    struct package_info info;
    _cleanup_free_ char *folder = NULL;
    expect_success(ops->begin(place->store, "t1", &folder, &error));
    write_model(folder);
    expect_success(ops->measure(place->store, "t1", NULL, &info, &error));
    scratch_write_text(folder, "late", "x");
    expect_error(ops->publish(place->store, "t1", &info, &error), ERROR_DEPLOYMENT, "fetched again");
    _cleanup_free_ char *list = list_packages(place->store);
    assert_string_equal(list, "");
}

static void a_removed_package_is_gone_and_can_come_again(void **state) {
    struct place *place = *state;
    struct package_info info;
    char *path = NULL;
    for (int round = 0; round < 2; round++) {
        publish_model(place, "t1", &info);
        expect_success(ops->remove(place->store, info.digest, &error));
        expect_success(ops->remove(place->store, info.digest, &error));
        expect_error(ops->locate(place->store, info.digest, &path, &error), ERROR_NOT_FOUND, "no package");
        _cleanup_free_ char *list = list_packages(place->store);
        assert_string_equal(list, "");
    }
}

static void names_that_are_none_are_refused(void **state) {
    struct place *place = *state;
    struct package_info info = {.digest = "../../etc"};
    char *path = NULL;
    static const char *const names[] = {"..", "../x", "", "a/b", ".hidden"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        expect_error(ops->begin(place->store, names[i], &path, &error), ERROR_CONFIGURATION, "id of a task");
        expect_error(ops->locate(place->store, names[i], &path, &error), ERROR_CONFIGURATION, "not the digest");
        expect_error(ops->remove(place->store, names[i], &error), ERROR_CONFIGURATION, "not the digest");
    }
    expect_error(ops->publish(place->store, "t1", &info, &error), ERROR_CONFIGURATION, "not the digest");
}

static void expect_refusal(struct place *place, const char *folder, const char *part, enum error_class class) {
    struct package_info info;
    expect_error(ops->measure(place->store, "t1", NULL, &info, &error), class, part);
    _cleanup_free_ char *again = NULL;
    expect_success(ops->begin(place->store, "t1", &again, &error));
    assert_string_equal(folder, again);
}

static void only_plain_files_with_plain_names_are_taken(void **state) {
    struct place *place = *state;
    _cleanup_free_ char *folder = NULL, *link = NULL, *pipe = NULL, *deep = text_copy("x");
    expect_success(ops->begin(place->store, "t1", &folder, &error));
    expect_refusal(place, folder, "no files", ERROR_MODEL_REGISTRY);

    link = scratch_path(folder, "link");
    assert_int_equal(symlink("/etc/passwd", link), 0);
    expect_refusal(place, folder, "link", ERROR_CONFIGURATION);

    pipe = scratch_path(folder, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    expect_refusal(place, folder, "pipe", ERROR_CONFIGURATION);

    scratch_write_text(folder, "two\nlines", "x");
    expect_refusal(place, folder, "control character", ERROR_CONFIGURATION);

    scratch_write_text(folder, "\xff", "x");
    expect_refusal(place, folder, "UTF-8", ERROR_CONFIGURATION);

    for (int depth = 0; depth <= PACKAGE_DEPTH_MAXIMUM; depth++) {
        char *deeper = text_format("d/%s", deep);
        free(deep);
        deep = deeper;
    }
    scratch_write_text(folder, deep, "x");
    expect_refusal(place, folder, "deeper", ERROR_CONFIGURATION);
}

static void a_canceled_measure_ends(void **state) {
    struct place *place = *state;
    struct package_info info;
    atomic_bool canceled = true;
    _cleanup_free_ char *folder = NULL;
    expect_success(ops->begin(place->store, "t1", &folder, &error));
    write_model(folder);
    expect_error(ops->measure(place->store, "t1", &canceled, &info, &error), ERROR_UNAVAILABLE, "canceled");
}

static bool is_alive(const char *task, void *context) {
    return !strcmp(task, context);
}

static void a_sweep_takes_what_ended_tasks_left_and_no_more(void **state) {
    struct place *place = *state;
    struct package_info dead, alive;
    char task[] = "alive";
    expect_success(fetch_and_measure(place, "dead", &dead));
    expect_success(fetch_and_measure(place, "alive", &alive));
    expect_success(ops->sweep(place->store, is_alive, task, &error));
    expect_error(ops->publish(place->store, "dead", &dead, &error), ERROR_NOT_FOUND, "gone");
    expect_success(ops->publish(place->store, "alive", &alive, &error));
}

/* ---- without privileges, to whom read-only folders are in earnest ---- */

static void live_without_privileges(void *context) {
    struct place place = {.location = context};
    struct package_info info;
    struct stat status;
    CHILD_CHECK(ops->open(place.location, &place.store, NULL) == 0);
    for (int round = 0; round < 2; round++) {
        _cleanup_free_ char *path = NULL;
        CHILD_CHECK(fetch_and_measure(&place, "t1", &info) == 0);
        CHILD_CHECK(ops->publish(place.store, "t1", &info, NULL) == 0);
        CHILD_CHECK(ops->locate(place.store, info.digest, &path, NULL) == 0);
        CHILD_CHECK(!stat(path, &status) && (status.st_mode & 0777) == 0555);
        _cleanup_free_ char *inner = scratch_path(path, "1_Pooling");
        CHILD_CHECK(!stat(inner, &status) && (status.st_mode & 0777) == 0555);
        _cleanup_free_ char *file = scratch_path(path, "model.onnx");
        CHILD_CHECK(!stat(file, &status) && (status.st_mode & 0777) == 0444);
        CHILD_CHECK(unlink(file) < 0 && errno == EACCES);
        CHILD_CHECK(fetch_and_measure(&place, "t2", &info) == 0); /* the second copy of what is there */
        CHILD_CHECK(ops->publish(place.store, "t2", &info, NULL) == 0);
        CHILD_CHECK(ops->remove(place.store, info.digest, NULL) == 0);
        CHILD_CHECK(ops->locate(place.store, info.digest, &path, NULL) < 0);
    }
    ops->close(place.store);
}

static void a_published_package_is_read_only_and_can_still_be_removed(void **state) {
    struct place *place = *state;
    _cleanup_free_ char *location = scratch_path(place->folder, "own/packages");
    scratch_make_folder(place->folder, "own");
    _cleanup_free_ char *own = scratch_path(place->folder, "own");
    assert_int_equal(chmod(place->folder, 0755), 0);
    assert_int_equal(scratch_run_unprivileged(own, live_without_privileges, location), 0);
}

/* ---- each system call the last one ---- */

#define CALLS_MAXIMUM 500
#define NOTE_STEP 0 /* as a task records it: 0 fetch, 1 publish, 2 remove, 3 over */

/* A task from its recorded step on, as the controller takes it up again. */
static void go_on(struct faults *faults, struct place *place, int until) {
    struct package_info info; /* what a task records with its step */
    if (atomic_load(&faults->note[NOTE_STEP]) == 0) {
        if (fetch_and_measure(place, "t1", &info) < 0) return;
        atomic_store(&faults->note[NOTE_STEP], 1);
    }
    model_digest(info.digest);
    info.file_count = 3;
    info.size_bytes = strlen("weights") + strlen("{}");
    if (atomic_load(&faults->note[NOTE_STEP]) == 1) {
        if (ops->publish(place->store, "t1", &info, &error) < 0) return;
        atomic_store(&faults->note[NOTE_STEP], 2);
    }
    if (atomic_load(&faults->note[NOTE_STEP]) == 2 && until > 2) {
        if (ops->remove(place->store, info.digest, &error) < 0) return;
        atomic_store(&faults->note[NOTE_STEP], 3);
    }
}

static void run_task(struct faults *faults, void *context) {
    struct place *place = context;
    injected = faults;
    if (ops->open(place->location, &place->store, &error) == 0) go_on(faults, place, 3);
}

/* Whatever is visible is complete; and the task, taken up again, ends well and leaves nothing. */
static void expect_to_converge(struct faults *faults, struct place *place) {
    char digest[DIGEST_HEX_SIZE];
    model_digest(digest);
    _cleanup_free_ char *list = list_packages(place->store);
    if (*list) expect_model(place, digest);
    if (atomic_load(&faults->note[NOTE_STEP]) == 2 && !*list)
        ops->remove(place->store, digest, NULL);
    else
        go_on(faults, place, 2);
    if (error &&
        atomic_load(&faults->note[NOTE_STEP]) == 1) { /* its copy was spoilt: it says so, and is fetched again */
        assert_non_null(strstr(error->message, "fetched again"));
        error_free(error);
        error = NULL;
        atomic_store(&faults->note[NOTE_STEP], 0);
        go_on(faults, place, 2);
    }
    if (error) fail_msg("%s", error_text(error));
    expect_success(ops->remove(place->store, digest, &error));
    _cleanup_free_ char *after = list_packages(place->store);
    assert_string_equal(after, "");
    ops->abandon(place->store, "t1");
    assert_int_equal(scratch_count(place->location, "incoming"), 0);
    assert_int_equal(scratch_count(place->location, "trash"), 0);
}

static void fail_each_call(struct place *place, int action) {
    struct faults *faults = faults_new(FAULT_WRITE | FAULT_SYNC | FAULT_NAME);
    faults->action = action;
    do {
        faults->at++;
        assert_in_range(faults->at, 1, CALLS_MAXIMUM);
        atomic_store(&faults->note[NOTE_STEP], 0);
        int status = faults_run(faults, run_task, place);
        if (status && status != 128 + SIGKILL)
            assert_int_equal(status, 128 + SIGABRT); /* the test's own write failed */
        bool fired = atomic_load(&faults->fired);
        if (!fired) assert_int_equal(atomic_load(&faults->note[NOTE_STEP]), 3);
        expect_to_converge(faults, place);
    } while (atomic_load(&faults->fired));
    assert_in_range(faults->at, 20, CALLS_MAXIMUM);
    faults_free(faults);
}

static void S8_a_kill_at_any_call_shows_nothing_by_halves_and_is_gone_on_from(void **state) {
    fail_each_call(*state, FAULT_KILL);
}

static void S8_a_full_disk_at_any_call_shows_nothing_by_halves_and_is_gone_on_from(void **state) {
    fail_each_call(*state, ENOSPC);
}

static void S8_a_failing_disk_at_any_call_shows_nothing_by_halves_and_is_gone_on_from(void **state) {
    fail_each_call(*state, EIO);
}

static void fill_the_disk(struct faults *faults, void *context) {
    struct place *place = context;
    struct package_info info;
    atomic_store(&faults->armed, false);
    CHILD_CHECK(fetch_and_measure(place, "t1", &info) == 0);
    atomic_store(&faults->armed, true);
    char *folder = NULL;
    CHILD_CHECK(ops->begin(place->store, "t2", &folder, &error) == -(int)ERROR_UNAVAILABLE);
    CHILD_CHECK(error->transient && strstr(error->message, "the disk is full"));
    error_free(error);
    CHILD_CHECK(ops->publish(place->store, "t1", &info, &error) == -(int)ERROR_UNAVAILABLE);
    CHILD_CHECK(error->transient && strstr(error->message, "the disk is full"));
    _exit(0);
}

static void a_full_disk_is_transient(void **state) {
    struct faults *faults = faults_new(FAULT_NAME);
    faults->at = 1;
    faults->lasting = true;
    faults->action = ENOSPC;
    assert_int_equal(faults_run(faults, fill_the_disk, *state), 0);
    faults_free(faults);
}

static void fail_a_sync(struct faults *faults, void *context) {
    struct place *place = context;
    struct package_info info;
    atomic_store(&faults->armed, false);
    CHILD_CHECK(fetch_and_measure(place, "t1", &info) == 0);
    atomic_store(&faults->armed, true);
    CHILD_CHECK(ops->publish(place->store, "t1", &info, &error) == -(int)ERROR_DEPLOYMENT);
    CHILD_CHECK(!error->transient && strstr(error->message, "sync"));
    error_free(error);
    CHILD_CHECK(ops->publish(place->store, "t1", &info, &error) == -(int)ERROR_DEPLOYMENT);
    CHILD_CHECK(strstr(error->message, "fetched again"));
    _exit(0);
}

static void S1_a_copy_whose_sync_failed_is_never_published(void **state) {
    struct faults *faults = faults_new(FAULT_SYNC);
    faults->at = 1;
    faults->action = EIO;
    assert_int_equal(faults_run(faults, fail_a_sync, *state), 0);
    faults_free(faults);
}

static void count_syncs(struct faults *faults, void *context) {
    struct place *place = context;
    struct package_info info;
    CHILD_CHECK(fetch_and_measure(place, "t1", &info) == 0);
    /* 3 files, 4 folders, and the folder that holds the task's */
    CHILD_CHECK(atomic_load(&faults->seen) >= 8);
    unsigned before = atomic_load(&faults->seen);
    CHILD_CHECK(ops->publish(place->store, "t1", &info, NULL) == 0);
    CHILD_CHECK(atomic_load(&faults->seen) >= before + 10); /* the same, and both ends of the rename */
    _exit(0);
}

static void S8_files_and_folders_are_synced_before_a_step_is_over(void **state) {
    struct faults *faults = faults_new(FAULT_SYNC);
    assert_int_equal(faults_run(faults, count_syncs, *state), 0);
    faults_free(faults);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_digest_is_that_of_the_sorted_list_of_files),
        TEST(nothing_is_seen_before_it_is_published_and_all_of_it_after),
        TEST(publishing_twice_is_success),
        TEST(the_same_files_are_one_package),
        TEST(tasks_that_publish_the_same_at_once_all_succeed),
        TEST(a_leftover_of_the_same_task_is_emptied),
        TEST(what_was_abandoned_is_gone),
        TEST(what_changed_since_it_was_measured_is_not_published),
        TEST(a_removed_package_is_gone_and_can_come_again),
        TEST(names_that_are_none_are_refused),
        TEST(only_plain_files_with_plain_names_are_taken),
        TEST(a_canceled_measure_ends),
        TEST(a_sweep_takes_what_ended_tasks_left_and_no_more),
        TEST(a_published_package_is_read_only_and_can_still_be_removed),
        TEST(S8_a_kill_at_any_call_shows_nothing_by_halves_and_is_gone_on_from),
        TEST(S8_a_full_disk_at_any_call_shows_nothing_by_halves_and_is_gone_on_from),
        TEST(S8_a_failing_disk_at_any_call_shows_nothing_by_halves_and_is_gone_on_from),
        TEST(a_full_disk_is_transient),
        TEST(S1_a_copy_whose_sync_failed_is_never_published),
        TEST(S8_files_and_folders_are_synced_before_a_step_is_over),
    };
    int failures = 0;
    for (size_t i = 0; i < ARRAY_SIZE(back_ends); i++) {
        ops = back_ends[i];
        failures += cmocka_run_group_tests_name(ops->name, tests, NULL, NULL);
    }
    return failures;
}
