/* Re-index, switch, rollback, retire (RULES X2, X5 to X7, S6): what the controller makes of them, over a fake indexer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/reindex_bed.h"

#define HOUR_MS (3600 * 1000)

static int open_bed(void **state) {
    struct engine_bed *bed = bed_new();
    reindex_add_model(bed, "one", "digest-one");
    reindex_add_model(bed, "two", "digest-two");
    reindex_add_model(bed, "three", "digest-three");
    reindex_add_model(bed, "twin", "digest-one");
    bed_add_model(bed, "broken", "fail");
    bed_add_model(bed, "hanging", "hang");
    bed_add_model(bed, "plain", "plain");
    bed_open(bed);
    free(bed_deployed(bed, "first", "one", 1));
    free(reindex_collection(bed, "books", "first", NULL));
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    bed_free(*state);
    return 0;
}

static void expect_blue(struct engine_bed *bed, const char *collection, const char *deployment) {
    _cleanup_free_ char *blue = reindex_blue(bed, collection);
    assert_string_equal(blue, deployment);
}

static void expect_deployment(struct engine_bed *bed, const char *name, bool is_there) {
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM deployments WHERE name = ? AND status <> 'inactive'", name),
                     is_there);
}

static void expect_detail(struct engine_bed *bed, const char *task_id, const char *part) {
    _cleanup_task_ struct task task = bed_task(bed, task_id);
    if (!task.detail || !strstr(task.detail, part)) fail_msg("the detail is \"%s\"", task.detail);
}

static struct reindex_order to_two(void) {
    return (struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = HOUR_MS};
}

static char *begin(struct engine_bed *bed, const struct reindex_order *order) {
    char *id = reindex_begin(bed, order, NULL);
    assert_non_null(id);
    return id;
}

static void make_due(struct engine_bed *bed, const char *task_id) {
    bed_run(bed, "UPDATE tasks SET not_before = 1 WHERE id = ?", task_id);
    engine_wake(bed->controller.engine);
}

/* ---- the whole of it ---- */

static void a_reindex_deploys_fills_switches_and_opens_a_window(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    reindex_check(bed, "books");
    expect_blue(bed, "books", "second");
    expect_deployment(bed, "first", true);
    assert_int_equal(reindex_count_indexes(bed, "books", "rollback"), 1);
    _cleanup_free_ char *window = reindex_child(bed, task, "retire");
    _cleanup_task_ struct task retire = bed_task(bed, window);
    assert_int_equal(retire.status, TASK_PENDING);
    assert_string_equal(retire.collection, "books");
    assert_true(retire.not_before > retire.created_at);
}

static void the_end_of_the_window_deletes_the_old_index_and_its_model(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_free_ char *window = reindex_child(bed, task, "retire");
    make_due(bed, window);
    bed_expect_task(bed, window, TASK_DONE);
    reindex_check(bed, "books");
    assert_int_equal(reindex_count_indexes(bed, "books", NULL), 1);
    expect_deployment(bed, "first", false);
    _cleanup_free_ char *deletion = reindex_child(bed, window, "delete");
    bed_expect_task(bed, deletion, TASK_DONE);
    _cleanup_free_ char *event = bed_ask_text(
        bed, "SELECT message FROM events WHERE message LIKE 'deletion of model first is initiated%'", NULL);
    assert_non_null(strstr(event, window));
}

static void a_window_of_0_ends_in_the_same_task(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    order.window_ms = 0;
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    assert_int_equal(reindex_count_indexes(bed, "books", NULL), 1);
    expect_deployment(bed, "first", false);
    reindex_check(bed, "books");
}

static void the_source_stays_when_it_is_not_to_be_deleted(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    order.window_ms = 0;
    order.keep_source = true;
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    expect_deployment(bed, "first", true);
    reindex_check(bed, "books");
}

static void a_destination_that_is_deployed_is_used_and_not_deployed_again(void **state) {
    struct engine_bed *bed = *state;
    free(bed_deployed(bed, "second", "two", 1));
    size_t started = fake_target_started(bed->target);
    struct reindex_order order = {.collection = "books", .destination = "second", .window_ms = HOUR_MS};
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    assert_null(reindex_child(bed, task, "deploy"));
    assert_int_equal(fake_target_started(bed->target), started);
    expect_blue(bed, "books", "second");
    reindex_check(bed, "books");
}

static void a_filling_replica_is_idle_and_replaced_before_the_switch(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold(bed->indexer, "await_ready");
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    assert_true(fake_indexer_wait_held(bed->indexer));
    assert_int_equal(fake_target_count_idle(bed->target), 1);
    fake_indexer_hold(bed->indexer, "flip");
    assert_true(fake_indexer_wait_held(bed->indexer));
    assert_int_equal(fake_target_count_idle(bed->target), 0);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_free_ char *restart = reindex_child(bed, task, "restart");
    bed_expect_task(bed, restart, TASK_DONE);
}

static void a_filling_replica_gives_way_where_memory_holds_no_second(void **state) {
    struct engine_bed *bed = *state;
    fake_target_report_memory(bed->target, 300000000);
    fake_target_set_budget(bed->target, 450000000);
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    assert_int_equal(fake_target_count_idle(bed->target), 0);
    reindex_check(bed, "books");
}

static void tasks_on_collections_take_no_worker_from_their_children(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->task_workers = 1;
    free(reindex_collection(bed, "films", "first", NULL));
    struct reindex_order order = to_two(), other = {.collection = "films", .model = "three", .as = "third"};
    _cleanup_free_ char *task = begin(bed, &order), *second = begin(bed, &other);
    bed_expect_task(bed, task, TASK_DONE);
    bed_expect_task(bed, second, TASK_DONE);
}

/* ---- later ---- */

static void without_blue_switch_it_stops_with_the_index_ready(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    order.no_switch = true;
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    expect_detail(bed, task, "is ready");
    expect_blue(bed, "books", "first");
    assert_int_equal(reindex_count_indexes(bed, "books", "ready"), 1);
    assert_int_equal(fake_target_count_idle(bed->target), 0);
    reindex_check(bed, "books");
    _cleanup_view_ struct catalog_view view = reindex_view(bed, "books");
    _cleanup_free_ char *later = reindex_switch(bed, "books", view.indexes[1].index_id, NULL);
    bed_expect_task(bed, later, TASK_DONE);
    expect_blue(bed, "books", "second");
    reindex_check(bed, "books");
    /* The window is the one that the re-index was asked for. */
    _cleanup_free_ char *window = reindex_child(bed, later, "retire");
    _cleanup_task_ struct task retire = bed_task(bed, window);
    assert_true(retire.not_before >= retire.created_at + HOUR_MS);
}

static void only_a_ready_index_is_switched_to(void **state) {
    struct engine_bed *bed = *state;
    struct error *error = NULL;
    _cleanup_view_ struct catalog_view view = reindex_view(bed, "books");
    assert_null(reindex_switch(bed, "books", view.pair.index_id, &error));
    assert_int_equal(error->class, ERROR_CONFLICT);
    error_free(TAKE(error));
    assert_null(reindex_switch(bed, "books", "unknown", &error));
    assert_int_equal(error->class, ERROR_NOT_FOUND);
    error_free(TAKE(error));
    assert_null(reindex_switch(bed, "books", NULL, &error));
    assert_int_equal(error->class, ERROR_CONFLICT);
    assert_non_null(strstr(error->message, "no pair to go back to"));
    error_free(error);
}

/* ---- rollback ---- */

static void a_rollback_brings_the_old_pair_back_and_opens_a_new_window(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_free_ char *back = reindex_switch(bed, "books", NULL, NULL);
    bed_expect_task(bed, back, TASK_DONE);
    expect_blue(bed, "books", "first");
    reindex_check(bed, "books");
    _cleanup_free_ char *first = reindex_child(bed, task, "retire"), *window = reindex_child(bed, back, "retire");
    bed_expect_task(bed, first, TASK_DONE);
    expect_detail(bed, first, "rolled back");
    /* Its end takes the model with it: that re-index had deployed it. */
    make_due(bed, window);
    bed_expect_task(bed, window, TASK_DONE);
    expect_deployment(bed, "second", false);
    expect_deployment(bed, "first", true);
    assert_int_equal(reindex_count_indexes(bed, "books", NULL), 1);
    reindex_check(bed, "books");
}

static void a_model_that_was_there_before_survives_a_rollback(void **state) {
    struct engine_bed *bed = *state;
    free(bed_deployed(bed, "second", "two", 1));
    struct reindex_order order = {.collection = "books", .destination = "second", .window_ms = HOUR_MS};
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_free_ char *back = reindex_switch(bed, "books", NULL, NULL);
    bed_expect_task(bed, back, TASK_DONE);
    _cleanup_free_ char *window = reindex_child(bed, back, "retire");
    make_due(bed, window);
    bed_expect_task(bed, window, TASK_DONE);
    expect_deployment(bed, "second", true);
    assert_int_equal(reindex_count_indexes(bed, "books", NULL), 1);
}

/* X6: whoever comes first. */
static void a_rollback_that_races_the_end_of_the_window_wins_or_loses_whole(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_free_ char *window = reindex_child(bed, task, "retire");
    fake_indexer_hold(bed->indexer, "flip");
    _cleanup_free_ char *back = reindex_switch(bed, "books", NULL, NULL);
    assert_true(fake_indexer_wait_held(bed->indexer));
    make_due(bed, window); /* the index goes before the flip comes */
    bed_expect_task(bed, window, TASK_DONE);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, back, TASK_FAILED);
    expect_blue(bed, "books", "second");
    reindex_check(bed, "books");
}

static void the_end_of_a_window_that_was_rolled_back_does_nothing(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_free_ char *window = reindex_child(bed, task, "retire");
    fake_indexer_hold(bed->indexer, "drop_index");
    make_due(bed, window);
    assert_true(fake_indexer_wait_held(bed->indexer));
    _cleanup_free_ char *back = reindex_switch(bed, "books", NULL, NULL);
    bed_expect_task(bed, back, TASK_DONE);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, window, TASK_DONE);
    expect_detail(bed, window, "rolled back");
    expect_blue(bed, "books", "first");
    expect_deployment(bed, "first", true);
    reindex_check(bed, "books");
}

static void an_index_that_was_let_go_in_its_window_is_cleaned_up_at_its_end(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_view_ struct catalog_view view = reindex_view(bed, "books");
    _cleanup_free_ char *folder = catalog_folder(&bed->controller, view.facts.collection_id);
    struct collection *collection = NULL;
    assert_int_equal(collection_open(folder, COLLECTION_INDEXES, &collection, NULL), 0);
    assert_int_equal(
        collection_set_index_state(collection, view.pair.source_index_id, "failed", "index_ttl", NULL, NULL), 0);
    collection_close(collection);
    _cleanup_free_ char *window = reindex_child(bed, task, "retire");
    make_due(bed, window);
    bed_expect_task(bed, window, TASK_DONE);
    assert_int_equal(reindex_count_indexes(bed, "books", NULL), 1);
    expect_deployment(bed, "first", false);
    reindex_check(bed, "books");
}

/* ---- what is refused ---- */

static void expect_refused(struct engine_bed *bed, const struct reindex_order *order, const char *part) {
    _cleanup_free_ char *task = begin(bed, order);
    bed_expect_task(bed, task, TASK_REFUSED);
    expect_detail(bed, task, part);
    expect_blue(bed, "books", "first");
}

static void a_destination_that_embeds_the_same_is_refused(void **state) {
    struct engine_bed *bed = *state;
    expect_refused(bed, &(struct reindex_order){.collection = "books", .destination = "first"}, "already");
    free(bed_deployed(bed, "twin", "twin", 1));
    expect_refused(bed, &(struct reindex_order){.collection = "books", .destination = "twin"}, "encoder_digest");
    /* One that has to be deployed is known later, and goes again. */
    expect_refused(bed, &(struct reindex_order){.collection = "books", .model = "twin", .as = "another"},
                   "encoder_digest");
    expect_deployment(bed, "another", false);
    expect_deployment(bed, "twin", true);
    reindex_check(bed, "books");
}

static void a_destination_that_is_leaving_is_refused(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "second", "two", 1);
    fake_target_fail_stops(bed->target, 1000);
    free(bed_delete_deployment(bed, id));
    expect_refused(bed, &(struct reindex_order){.collection = "books", .destination = "second"}, "being deleted");
    fake_target_fail_stops(bed->target, 0);
    bed_wait_idle(bed);
}

static void a_second_reindex_is_refused_or_waits_if_asked(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold(bed->indexer, "await_ready");
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    assert_true(fake_indexer_wait_held(bed->indexer));
    struct reindex_order third = {.collection = "books", .model = "three", .as = "third", .window_ms = HOUR_MS};
    expect_refused(bed, &third, "re-indexes the collection books already");
    third.waits = true;
    _cleanup_free_ char *waiting = begin(bed, &third);
    _cleanup_task_ struct task pending = bed_task(bed, waiting);
    assert_int_equal(pending.status, TASK_PENDING);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, task, TASK_DONE);
    bed_expect_task(bed, waiting, TASK_DONE);
    expect_blue(bed, "books", "third");
    assert_int_equal(reindex_count_indexes(bed, "books", "rollback"), 2);
    reindex_check(bed, "books");
}

static void a_destination_that_does_not_fit_is_refused_with_the_figures(void **state) {
    struct engine_bed *bed = *state;
    fake_target_set_budget(bed->target, 60000000);
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_REFUSED);
    expect_detail(bed, task, "MiB");
    expect_deployment(bed, "second", false);
    reindex_check(bed, "books");
}

static void an_unknown_destination_is_not_found(void **state) {
    struct engine_bed *bed = *state;
    struct error *error = NULL;
    assert_null(reindex_begin(bed, &(struct reindex_order){.collection = "books", .destination = "nobody"}, &error));
    assert_int_equal(error->class, ERROR_NOT_FOUND);
    error_free(TAKE(error));
    free(bed_deployed(bed, "second", "two", 1));
    assert_null(
        reindex_begin(bed, &(struct reindex_order){.collection = "books", .model = "three", .as = "second"}, &error));
    assert_int_equal(error->class, ERROR_CONFLICT);
    error_free(error);
}

/* ---- failures ---- */

static void expect_clean(struct engine_bed *bed) {
    expect_blue(bed, "books", "first");
    assert_int_equal(reindex_count_indexes(bed, "books", NULL), 1);
    expect_deployment(bed, "second", false);
    reindex_check(bed, "books");
}

static void a_destination_that_fails_ends_the_reindex_and_is_cleaned_up(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    order.model = "broken";
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_FAILED);
    expect_detail(bed, task, "Deployment task failed: failed");
    expect_clean(bed);
}

static void a_destination_that_takes_too_long_says_so(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->deploy_processing_deadline_ms = 200;
    struct reindex_order order = to_two();
    order.model = "hanging";
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_FAILED);
    expect_detail(bed, task, "reindex books: Deployment task is processing too long.");
    bed->settings->deploy_processing_deadline_ms = 60000;
    expect_clean(bed);
}

static void a_destination_that_waits_too_long_says_so(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->task_workers = 1;
    bed_hold_at(bed, "ready");
    char *busy_id = NULL;
    _cleanup_free_ char *busy = bed_deploy(bed, &(struct bed_request){.name = "busy", .model = "three"}, &busy_id);
    bed_wait_held(bed);
    bed->settings->deploy_pending_deadline_ms = 200;
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order), *child = NULL;
    while (!child) child = reindex_child(bed, task, "deploy");
    bed_expect_task(bed, child, TASK_FAILED);
    bed_release(bed); /* the clean-up needs the worker, too */
    bed_expect_task(bed, busy, TASK_DONE);
    bed_expect_task(bed, task, TASK_FAILED);
    expect_detail(bed, task, "reindex books: Deployment task is pending too long.");
    expect_clean(bed);
    free(busy_id);
}

static void a_destination_that_embeds_nothing_ends_the_reindex(void **state) {
    struct engine_bed *bed = *state;
    struct reindex_order order = to_two();
    order.model = "plain";
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_FAILED);
    expect_detail(bed, task, "not an embedding model");
    expect_clean(bed);
}

static void more_failed_items_than_allowed_fail_it_and_stay_listed(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_fail_items(bed->indexer, 3);
    struct reindex_order order = to_two();
    order.max_failed = 2;
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_FAILED);
    expect_detail(bed, task, "3 of 0 documents could not be embedded, and max_failed allows 2");
    assert_int_equal(fake_indexer_count(bed->indexer, "retry_failed"), 1);
    expect_clean(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM task_failed_items WHERE task_id = ?", task), 3);
    _cleanup_free_ char *stage =
        bed_ask_text(bed, "SELECT stage || ' ' || id FROM task_failed_items WHERE task_id = ? ORDER BY place", task);
    assert_string_equal(stage, "inference document-1");
}

static void as_many_failed_items_as_allowed_do_not(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_fail_items(bed->indexer, 3);
    struct reindex_order order = to_two();
    order.max_failed = 3;
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_task_ struct task done = bed_task(bed, task);
    assert_int_equal(done.progress_failed, 3);
    assert_non_null(strstr(done.metadata_json, "\"gate\":{"));
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM task_failed_items WHERE task_id = ?", task), 3);
}

static void a_gate_that_does_not_pass_ends_it(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_fail(bed->indexer, "gate", ERROR_DEPLOYMENT, "a sample re-embeds at 0.91", 1);
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_FAILED);
    expect_detail(bed, task, "a sample re-embeds at 0.91");
    expect_clean(bed);
}

static void a_switch_that_writes_outrun_ends_it(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_fail(bed->indexer, "flip", ERROR_DEPLOYMENT, "writes outrun embedding", 1);
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_FAILED);
    expect_detail(bed, task, "writes outrun embedding");
    expect_clean(bed);
}

static void no_progress_for_the_stall_deadline_ends_it(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->reindex_stall_deadline_ms = 300;
    fake_indexer_hold(bed->indexer, "await_ready");
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    bed_expect_task(bed, task, TASK_FAILED);
    expect_detail(bed, task, "no progress for");
    fake_indexer_release(bed->indexer);
    expect_clean(bed);
}

static void a_failed_reindex_can_be_restarted(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_fail(bed->indexer, "gate", ERROR_DEPLOYMENT, "not yet", 1);
    struct reindex_order order = to_two();
    _cleanup_free_ char *id = begin(bed, &order);
    bed_expect_task(bed, id, TASK_FAILED);
    _cleanup_task_ struct task task = bed_task(bed, id);
    struct store_transaction *tx = NULL;
    assert_int_equal(store_begin(bed->controller.store, &tx, NULL), 0);
    assert_int_equal(operation_restart_task(&bed->controller, tx, &task, NULL), 0);
    assert_int_equal(store_commit(tx, NULL), 0);
    engine_wake(bed->controller.engine);
    bed_expect_task(bed, id, TASK_DONE);
    expect_blue(bed, "books", "second");
    reindex_check(bed, "books");
}

static bool has_progress(struct engine_bed *bed, const void *task_id) {
    _cleanup_task_ struct task task = bed_task(bed, task_id);
    return task.progress_done == 7 && task.progress_total == 10 && task.progress_rate == 1.5;
}

static void progress_is_told_while_it_fills(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold(bed->indexer, "await_ready");
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    assert_true(fake_indexer_wait_held(bed->indexer));
    _cleanup_view_ struct catalog_view view = reindex_view(bed, "books");
    fake_indexer_tell_progress(bed->indexer, view.facts.collection_id, view.indexes[1].index_id, 7, 10);
    bed_wait_until(bed, has_progress, task);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, task, TASK_DONE);
}

/* ---- cancel ---- */

static void cancel_at(struct engine_bed *bed, const char *verb) {
    fake_indexer_hold(bed->indexer, verb);
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    assert_true(fake_indexer_wait_held(bed->indexer));
    assert_int_equal(bed_cancel(bed, task), 0);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, task, TASK_CANCELED);
    expect_clean(bed);
}

static void a_cancel_while_the_index_is_made_cleans_up(void **state) {
    cancel_at(*state, "create_index");
}

static void a_cancel_while_it_fills_cleans_up(void **state) {
    cancel_at(*state, "await_ready");
}

static void a_cancel_at_the_gate_cleans_up(void **state) {
    cancel_at(*state, "gate");
}

static void a_cancel_before_the_flip_cleans_up(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold(bed->indexer, "flip");
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    assert_true(fake_indexer_wait_held(bed->indexer));
    assert_int_equal(bed_cancel(bed, task), 0);
    bed_expect_task(bed, task, TASK_CANCELED); /* the flip never came */
    assert_int_equal(fake_indexer_count(bed->indexer, "abort_switch"), 1);
    expect_clean(bed);
}

static void a_cancel_after_the_flip_comes_too_late(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold_answer(bed->indexer, "flip");
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    assert_true(fake_indexer_wait_held(bed->indexer));
    assert_int_equal(bed_cancel(bed, task), 0);
    while (!fake_indexer_count(bed->indexer, "abort_switch")) sched_yield();
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, task, TASK_DONE);
    expect_blue(bed, "books", "second");
    reindex_check(bed, "books");
    _cleanup_free_ char *window = reindex_child(bed, task, "retire");
    assert_non_null(window);
}

/* ---- an indexer that dies ---- */

static void what_was_asked_is_asked_again_when_the_indexer_comes_back(void **state) {
    struct engine_bed *bed = *state;
    static const char *const verbs[] = {"create_index", "await_ready", "gate", "flip"};
    struct reindex_order order = to_two();
    fake_indexer_hold(bed->indexer, verbs[0]);
    _cleanup_free_ char *task = begin(bed, &order);
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        assert_true(fake_indexer_wait_held(bed->indexer));
        fake_indexer_die(bed->indexer);
        if (i + 1 < ARRAY_SIZE(verbs))
            fake_indexer_hold(bed->indexer, verbs[i + 1]);
        else
            fake_indexer_release(bed->indexer);
        fake_indexer_come_back(bed->indexer);
    }
    bed_expect_task(bed, task, TASK_DONE);
    reindex_check(bed, "books");
}

/* X2 and X5: repeated after the indexer died with the flip made. */
static void a_flip_whose_answer_was_lost_is_one_flip(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold_answer(bed->indexer, "flip");
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    assert_true(fake_indexer_wait_held(bed->indexer));
    fake_indexer_die(bed->indexer);
    fake_indexer_release(bed->indexer);
    fake_indexer_come_back(bed->indexer);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_view_ struct catalog_view view = reindex_view(bed, "books");
    assert_int_equal(view.pair.epoch, 2);
    reindex_check(bed, "books");
}

/* X2. */
static void the_flip_is_not_asked_before_every_gateway_routes_the_destination(void **state) {
    struct engine_bed *bed = *state;
    fake_indexer_hold(bed->indexer, "gate");
    struct reindex_order order = to_two();
    _cleanup_free_ char *task = begin(bed, &order);
    assert_true(fake_indexer_wait_held(bed->indexer));
    routing_gateway_up(bed->controller.routing, 99); /* it routes nothing yet */
    fake_indexer_release(bed->indexer);
    bed_hold_at(bed, "nothing");
    _cleanup_free_ char *step = NULL;
    do {
        free(step);
        step = bed_ask_text(bed, "SELECT step FROM tasks WHERE id = ?", task);
    } while (!text_equal(step, "blue_switch"));
    assert_int_equal(fake_indexer_count(bed->indexer, "flip"), 0);
    routing_gateway_uses(bed->controller.routing, 99, UINT32_MAX, UINT32_MAX);
    bed_expect_task(bed, task, TASK_DONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)
        T(a_reindex_deploys_fills_switches_and_opens_a_window),
        T(the_end_of_the_window_deletes_the_old_index_and_its_model),
        T(a_window_of_0_ends_in_the_same_task),
        T(the_source_stays_when_it_is_not_to_be_deleted),
        T(a_destination_that_is_deployed_is_used_and_not_deployed_again),
        T(a_filling_replica_is_idle_and_replaced_before_the_switch),
        T(a_filling_replica_gives_way_where_memory_holds_no_second),
        T(tasks_on_collections_take_no_worker_from_their_children),
        T(without_blue_switch_it_stops_with_the_index_ready),
        T(only_a_ready_index_is_switched_to),
        T(a_rollback_brings_the_old_pair_back_and_opens_a_new_window),
        T(a_model_that_was_there_before_survives_a_rollback),
        T(a_rollback_that_races_the_end_of_the_window_wins_or_loses_whole),
        T(the_end_of_a_window_that_was_rolled_back_does_nothing),
        T(an_index_that_was_let_go_in_its_window_is_cleaned_up_at_its_end),
        T(a_destination_that_embeds_the_same_is_refused),
        T(a_destination_that_is_leaving_is_refused),
        T(a_second_reindex_is_refused_or_waits_if_asked),
        T(a_destination_that_does_not_fit_is_refused_with_the_figures),
        T(an_unknown_destination_is_not_found),
        T(a_destination_that_fails_ends_the_reindex_and_is_cleaned_up),
        T(a_destination_that_takes_too_long_says_so),
        T(a_destination_that_waits_too_long_says_so),
        T(a_destination_that_embeds_nothing_ends_the_reindex),
        T(more_failed_items_than_allowed_fail_it_and_stay_listed),
        T(as_many_failed_items_as_allowed_do_not),
        T(a_gate_that_does_not_pass_ends_it),
        T(a_switch_that_writes_outrun_ends_it),
        T(no_progress_for_the_stall_deadline_ends_it),
        T(a_failed_reindex_can_be_restarted),
        T(progress_is_told_while_it_fills),
        T(a_cancel_while_the_index_is_made_cleans_up),
        T(a_cancel_while_it_fills_cleans_up),
        T(a_cancel_at_the_gate_cleans_up),
        T(a_cancel_before_the_flip_cleans_up),
        T(a_cancel_after_the_flip_comes_too_late),
        T(what_was_asked_is_asked_again_when_the_indexer_comes_back),
        T(a_flip_whose_answer_was_lost_is_one_flip),
        T(the_flip_is_not_asked_before_every_gateway_routes_the_destination),
    };
    return cmocka_run_group_tests_name("re-index", tests, NULL, NULL);
}
