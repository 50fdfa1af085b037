/* A kill anywhere in a task on a collection: its state folder is copied before each step, at each call to the target,
 * at each announcement of routes, and before and after everything that the indexer does. Every copy is opened twice:
 * over the replicas that lived at that moment, and over none. All must come to the end that the task came to without a
 * kill (RULES X2, X4, X6, X7, X8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/reindex_bed.h"
#include "support/scratch.h"

struct end {
    enum task_status task;
    const char *blue; /* the deployment; NULL: the collection is gone */
    size_t indexes;
    const char *gone; /* a deployment that must not be there, or NULL */
    const char *there; /* one that must */
};

static void check_end(struct engine_bed *bed, const char *task_id, const struct end *end) {
    bed_expect_task(bed, task_id, end->task);
    bed_wait_idle(bed);
    if (end->blue) {
        reindex_check(bed, "books");
        _cleanup_free_ char *blue = reindex_blue(bed, "books");
        assert_string_equal(blue, end->blue);
        assert_int_equal(reindex_count_indexes(bed, "books", NULL), end->indexes);
    } else {
        bed_check_consistent(bed);
        assert_int_equal(bed_ask(bed, "SELECT count(*) FROM collections", NULL), 0);
        assert_int_equal(bed_ask(bed, "SELECT count(*) FROM pins WHERE subject LIKE 'encoder:%'", NULL), 0);
        assert_int_equal(scratch_count(bed->folder, "collections"), 0);
    }
    static const char is_there[] = "SELECT count(*) FROM deployments WHERE name = ? AND status = 'active'";
    static const char is_known[] = "SELECT count(*) FROM deployments WHERE name = ? AND status <> 'inactive'";
    if (end->gone) assert_int_equal(bed_ask(bed, is_known, end->gone), 0);
    if (end->there) assert_int_equal(bed_ask(bed, is_there, end->there), 1);
}

static char *copy_folder(const char *folder) {
    char *copy = scratch_new();
    _cleanup_free_ char *command = text_format("cp -a '%s/.' '%s'", folder, copy);
    assert_int_equal(system(command), 0);
    return copy;
}

static void go_on_from(const struct image *image, bool machine_died, const char *task_id, const struct end *end) {
    print_message("  kill at %s, %s\n", image->where, machine_died ? "nothing lives" : "replicas live");
    struct target *target = fake_target_clone(image->target);
    if (machine_died) fake_target_clear(target);
    struct engine_bed *bed = bed_new_over(copy_folder(image->folder), target);
    bed_open(bed);
    engine_wake(bed->controller.engine);
    check_end(bed, task_id, end);
    bed_close(bed);
    bed_open(bed);
    check_end(bed, task_id, end);
    bed_free(bed);
}

static void kill_anywhere(struct engine_bed *bed, const char *task_id, const struct end *end) {
    bed_expect_task(bed, task_id, end->task);
    bed_wait_idle(bed);
    bed_stop_images(bed);
    check_end(bed, task_id, end);
    bed_close(bed);
    assert_true(bed->image_count >= 4);
    for (size_t i = 0; i < bed->image_count; i++) {
        go_on_from(&bed->images[i], false, task_id, end);
        go_on_from(&bed->images[i], true, task_id, end);
    }
}

/* So that no image shows a time before the task. */
static bool is_announced(struct engine_bed *bed, const void *context) {
    (void)context;
    pthread_mutex_lock(&bed->mutex);
    int64_t generation = (int64_t)bed->generation;
    pthread_mutex_unlock(&bed->mutex);
    return generation == bed_ask(bed, "SELECT generation FROM routing", NULL);
}

static int open_bed(void **state) {
    struct engine_bed *bed = bed_new();
    reindex_add_model(bed, "one", "digest-one");
    reindex_add_model(bed, "two", "digest-two");
    bed_add_model(bed, "broken", "fail");
    bed_open(bed);
    free(bed_deployed(bed, "first", "one", 1));
    free(reindex_collection(bed, "books", "first", NULL));
    bed_wait_until(bed, is_announced, NULL);
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    bed_free(*state);
    return 0;
}

static char *begin(struct engine_bed *bed, const char *model, int64_t window_ms) {
    bed_take_images(bed);
    char *task = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = model, .as = "second", .window_ms = window_ms},
        NULL);
    assert_non_null(task);
    return task;
}

static void a_reindex(void **state) {
    _cleanup_free_ char *task = begin(*state, "two", 3600 * 1000);
    kill_anywhere(*state, task, &(struct end){TASK_DONE, "second", 2, NULL, "first"});
}

static void a_reindex_with_a_window_of_0(void **state) {
    _cleanup_free_ char *task = begin(*state, "two", 0);
    kill_anywhere(*state, task, &(struct end){TASK_DONE, "second", 1, "first", "second"});
}

static void a_reindex_whose_model_fails(void **state) {
    _cleanup_free_ char *task = begin(*state, "broken", 0);
    kill_anywhere(*state, task, &(struct end){TASK_FAILED, "first", 1, "second", "first"});
}

/* The failed items come with the index and stay in its database, so that every copy fails as the first did. */
static void a_reindex_with_too_many_failed_items(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_fail_items(bed->indexer, 2);
    _cleanup_free_ char *task = begin(bed, "two", 0);
    bed_expect_task(bed, task, TASK_FAILED);
    bed_stop_images(bed);
    size_t kept = 0; /* before the index is made, a copy's fake indexer does not know of any */
    for (size_t i = 0; i < bed->image_count; i++) {
        bool is_made = kept || !strcmp(bed->images[i].where, "ask done create_index");
        if (is_made) {
            struct image image = bed->images[kept];
            bed->images[kept++] = bed->images[i];
            bed->images[i] = image;
        }
    }
    const struct end end = {TASK_FAILED, "first", 1, "second", "first"};
    check_end(bed, task, &end);
    bed_close(bed);
    assert_true(kept >= 4);
    for (size_t i = 0; i < kept; i++) {
        go_on_from(&bed->images[i], false, task, &end);
        go_on_from(&bed->images[i], true, task, &end);
    }
}

static void a_rollback(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *task = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = 3600 * 1000},
        NULL);
    bed_expect_task(bed, task, TASK_DONE);
    bed_take_images(bed);
    _cleanup_free_ char *back = reindex_switch(bed, "books", NULL, NULL);
    kill_anywhere(bed, back, &(struct end){TASK_DONE, "first", 2, NULL, "second"});
}

static void the_end_of_a_window(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *task = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = 3600 * 1000},
        NULL);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_free_ char *window = reindex_child(bed, task, "retire");
    bed_take_images(bed);
    bed_run(bed, "UPDATE tasks SET not_before = 1 WHERE id = ?", window);
    engine_wake(bed->controller.engine);
    kill_anywhere(bed, window, &(struct end){TASK_DONE, "second", 1, "first", "second"});
}

static void a_delete_of_a_collection(void **state) {
    struct engine_bed *bed = *state;
    bed_take_images(bed);
    _cleanup_free_ char *task = reindex_delete(bed, "books");
    kill_anywhere(bed, task, &(struct end){TASK_DONE, NULL, 0, NULL, "first"});
}

/* ---- what no task will come back for ---- */

static void a_pin_that_no_index_explains_goes_and_a_missing_one_comes(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_view_ struct catalog_view view = reindex_view(bed, "books");
    _cleanup_free_ char *stale = text_format("collection:%s/gone", view.facts.collection_id);
    bed_run(bed, "INSERT INTO pins (subject, holder, task_id, created_at) VALUES ('encoder:x', ?, 'gone', 1)", stale);
    bed_run(bed,
            "INSERT INTO pins (subject, holder, task_id, created_at) VALUES ('encoder:y', "
            "'collection:00000000-0000-0000-0000-000000000000/i', NULL, 1)",
            NULL);
    bed_run(bed, "DELETE FROM pins WHERE subject = 'encoder:' || ?", view.pair.deployment_id);
    bed_close(bed);
    bed_open(bed);
    reindex_check(bed, "books");
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM pins WHERE subject LIKE 'encoder:%'", NULL), 1);
}

static void a_pin_of_a_task_that_runs_stays(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold(bed->indexer, "create_index");
    _cleanup_free_ char *task =
        reindex_begin(bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second"}, NULL);
    assert_true(fake_indexer_wait_held(bed->indexer));
    bed_close(bed);
    bed_open(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM pins WHERE task_id = ? AND subject LIKE 'encoder:%'", task), 1);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, task, TASK_DONE);
}

static bool has_one_folder(struct engine_bed *bed, const void *context) {
    (void)context;
    return scratch_count(bed->folder, "collections") == 1;
}

static void folders_of_no_collection_are_removed_at_the_next_start(void **state) {
    struct engine_bed *bed = *state;
    bed_close(bed);
    scratch_write_text(bed->folder, "collections/.new-11111111-1111-4111-8111-111111111111/half", "x");
    scratch_write_text(bed->folder, "collections/.gone-21111111-1111-4111-8111-111111111111/half", "x");
    scratch_write_text(bed->folder, "collections/31111111-1111-4111-8111-111111111111/documents.db", "x");
    bed_open(bed);
    bed_wait_until(bed, has_one_folder, NULL);
    reindex_check(bed, "books");
}

static void a_cancel_asked_for_before_a_kill_that_came_after_the_flip_is_too_late(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold_answer(bed->indexer, "flip");
    _cleanup_free_ char *task = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = 3600 * 1000},
        NULL);
    assert_true(fake_indexer_wait_held(bed->indexer));
    bed_run(bed, "UPDATE tasks SET cancel_requested = 1 WHERE id = ?", task);
    bed_close(bed);
    fake_indexer_release(bed->indexer);
    bed_open(bed);
    bed_expect_task(bed, task, TASK_DONE);
    reindex_check(bed, "books");
    _cleanup_free_ char *blue = reindex_blue(bed, "books"), *window = reindex_child(bed, task, "retire");
    assert_string_equal(blue, "second");
    assert_non_null(window);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)
        T(a_reindex),
        T(a_reindex_with_a_window_of_0),
        T(a_reindex_whose_model_fails),
        T(a_reindex_with_too_many_failed_items),
        T(a_rollback),
        T(the_end_of_a_window),
        T(a_delete_of_a_collection),
        T(a_pin_that_no_index_explains_goes_and_a_missing_one_comes),
        T(a_pin_of_a_task_that_runs_stays),
        T(folders_of_no_collection_are_removed_at_the_next_start),
        T(a_cancel_asked_for_before_a_kill_that_came_after_the_flip_is_too_late),
    };
    return cmocka_run_group_tests_name("a kill anywhere in a task on a collection", tests, NULL, NULL);
}
