/* What requests write down: each operation over a real store, without an engine, so that the rows are all there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/operation.h"

struct bench {
    char folder[32];
    struct settings *settings;
    struct controller controller;
};

static int open_bench(void **state) {
    struct bench *bench = mem_new(struct bench);
    strcpy(bench->folder, "/tmp/slipway-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    _cleanup_free_ char *path = fs_join(bench->folder, "control.db");
    bench->settings = settings_new();
    bench->controller.settings = bench->settings;
    assert_int_equal(store_open(path, &bench->controller.store, NULL), 0);
    *state = bench;
    return 0;
}

static int close_bench(void **state) {
    struct bench *bench = *state;
    store_close(bench->controller.store);
    settings_free(bench->settings);
    assert_int_equal(fs_remove_tree(bench->folder, NULL), 0);
    free(bench);
    return 0;
}

static struct store_transaction *begin(struct bench *bench) {
    struct store_transaction *tx = NULL;
    assert_int_equal(store_begin(bench->controller.store, &tx, NULL), 0);
    return tx;
}

static void commit(struct store_transaction *tx) {
    assert_int_equal(store_commit(tx, NULL), 0);
}

static void run(struct bench *bench, const char *sql, const char *id) {
    struct store_transaction *tx = begin(bench);
    assert_int_equal(store_run(tx, NULL, NULL, sql, "t", id), 0);
    commit(tx);
}

static struct deployment_request request_for(const char *name) {
    return (struct deployment_request){.name = (char *)name,
                                       .model_uri = "file:///models/one",
                                       .target_json = "{\"type\":\"api_service\"}",
                                       .tags_json = "{\"team\":\"search\"}",
                                       .replicas = 2};
}

/* Creates it and lets it serve its first revision. Returns its id; the caller frees. */
static char *serving_deployment(struct bench *bench, const char *name) {
    struct deployment_request request = request_for(name);
    _cleanup_task_ struct task task = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(operation_create(&bench->controller, tx, &request, NULL, &task, NULL), 0);
    assert_int_equal(task_set_status(tx, task.id, TASK_DONE, NULL, NULL, NULL), 0);
    assert_int_equal(deployment_set_status(tx, task.deployment_id, DEPLOYMENT_ACTIVE, NULL, NULL, task.id, NULL), 0);
    commit(tx);
    run(bench, "UPDATE deployments SET serving_revision = revision WHERE id = ?", task.deployment_id);
    run(bench, "UPDATE revisions SET served = 1 WHERE deployment_id = ?", task.deployment_id);
    return TAKE(task.deployment_id);
}

static struct deployment load(struct bench *bench, const char *id_or_name) {
    struct deployment deployment = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(deployment_load(tx, id_or_name, &deployment, NULL), 0);
    store_rollback(tx);
    return deployment;
}

static int update(struct bench *bench, const char *id, const struct deployment_request *request,
                  struct task *ret_task) {
    _cleanup_deployment_ struct deployment deployment = load(bench, id);
    struct store_transaction *tx = begin(bench);
    int result = operation_update(&bench->controller, tx, &deployment, request, ret_task, NULL);
    if (result < 0)
        store_rollback(tx);
    else
        commit(tx);
    return result;
}

static void a_new_deployment_is_creating_with_revision_1_and_a_pending_task(void **state) {
    struct bench *bench = *state;
    struct deployment_request request = request_for("minilm");
    _cleanup_task_ struct task task = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(operation_create(&bench->controller, tx, &request, NULL, &task, NULL), 0);
    commit(tx);
    _cleanup_deployment_ struct deployment deployment = load(bench, "minilm");
    assert_int_equal(deployment.status, DEPLOYMENT_CREATING);
    assert_int_equal(deployment.revision, 1);
    assert_int_equal(deployment.serving_revision, 0);
    assert_string_equal(deployment.task_id, task.id);
    assert_int_equal(task.status, TASK_PENDING);
    assert_true(task.deadline > task.created_at);
}

static void a_taken_name_is_a_conflict_and_changes_nothing(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "minilm");
    struct deployment_request request = request_for("minilm");
    _cleanup_task_ struct task task = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(operation_create(&bench->controller, tx, &request, NULL, &task, NULL), -ERROR_CONFLICT);
    store_rollback(tx);
    _cleanup_deployment_ struct deployment deployment = load(bench, "minilm");
    assert_string_equal(deployment.id, id);
}

static void an_update_waits_for_no_other_operation(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "minilm");
    struct deployment_request request = request_for("minilm");
    _cleanup_task_ struct task first = {0}, second = {0};
    assert_int_equal(update(bench, id, &request, &first), 0);
    assert_int_equal(update(bench, id, &request, &second), -ERROR_CONFLICT);
    _cleanup_deployment_ struct deployment deployment = load(bench, id);
    assert_int_equal(deployment.revision, 2);
    assert_int_equal(deployment.serving_revision, 1);
    assert_int_equal(deployment.status, DEPLOYMENT_UPDATING);
}

static void a_renamed_deployment_answers_to_both_names_until_another_takes_the_old_one(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "old");
    struct deployment_request request = request_for("new");
    _cleanup_task_ struct task task = {0}, other = {0};
    assert_int_equal(update(bench, id, &request, &task), 0);
    _cleanup_deployment_ struct deployment by_old = load(bench, "old"), by_new = load(bench, "new");
    assert_string_equal(by_old.id, id);
    assert_string_equal(by_new.id, id);
    assert_string_equal(by_old.name, "new");

    struct deployment_request taker = request_for("old");
    struct store_transaction *tx = begin(bench);
    assert_int_equal(operation_create(&bench->controller, tx, &taker, NULL, &other, NULL), 0);
    commit(tx);
    _cleanup_deployment_ struct deployment taken = load(bench, "old"), kept = load(bench, "new");
    assert_string_equal(taken.id, other.deployment_id);
    assert_string_equal(kept.id, id);
}

static void undo(struct bench *bench, const char *task_id, enum task_status status) {
    _cleanup_task_ struct task task = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(task_load(tx, task_id, &task, NULL), 0);
    assert_int_equal(operation_undo(tx, &task, "1.2 GiB wanted, 0.4 GiB free", NULL), 0);
    assert_int_equal(task_set_status(tx, task_id, status, "does not fit", NULL, NULL), 0);
    commit(tx);
}

static void a_refused_update_returns_everything_to_what_it_was_with_the_reason(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "old");
    struct deployment_request request = request_for("new");
    request.replicas = 7;
    request.tags_json = "{}";
    _cleanup_task_ struct task task = {0};
    assert_int_equal(update(bench, id, &request, &task), 0);
    undo(bench, task.id, TASK_REFUSED);
    _cleanup_deployment_ struct deployment deployment = load(bench, id);
    assert_int_equal(deployment.status, DEPLOYMENT_ACTIVE);
    assert_string_equal(deployment.message, "1.2 GiB wanted, 0.4 GiB free");
    assert_string_equal(deployment.name, "old");
    assert_string_equal(deployment.tags_json, "{\"team\":\"search\"}");
    assert_int_equal(deployment.revision, 1);
    assert_int_equal(deployment.replicas, 2);
    struct deployment gone = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(deployment_load(tx, "new", &gone, NULL), -ERROR_NOT_FOUND);
    store_rollback(tx);
}

static void a_restarted_task_wants_again_what_was_undone(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "old");
    struct deployment_request request = request_for("new");
    request.replicas = 7;
    _cleanup_task_ struct task task = {0}, again = {0};
    assert_int_equal(update(bench, id, &request, &task), 0);
    undo(bench, task.id, TASK_REFUSED);
    struct store_transaction *tx = begin(bench);
    assert_int_equal(task_load(tx, task.id, &again, NULL), 0);
    assert_int_equal(operation_restart_task(&bench->controller, tx, &again, NULL), 0);
    commit(tx);
    _cleanup_deployment_ struct deployment wanted = load(bench, id);
    assert_int_equal(wanted.status, DEPLOYMENT_UPDATING);
    assert_string_equal(wanted.name, "new");
    assert_int_equal(wanted.replicas, 7);
    assert_int_equal(wanted.revision, 2);
    undo(bench, task.id, TASK_CANCELED); /* and it can be undone once more */
    _cleanup_deployment_ struct deployment before = load(bench, id);
    assert_string_equal(before.name, "old");
    assert_int_equal(before.replicas, 2);
}

static void a_finished_task_is_not_restarted(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "minilm");
    _cleanup_deployment_ struct deployment deployment = load(bench, id);
    _cleanup_task_ struct task task = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(task_load(tx, deployment.task_id, &task, NULL), 0);
    assert_int_equal(operation_restart_task(&bench->controller, tx, &task, NULL), -ERROR_CONFLICT);
    store_rollback(tx);
}

static void a_rollback_goes_to_the_newest_revision_below_that_has_served(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "minilm");
    struct deployment_request request = request_for("minilm");
    for (int revision = 2; revision <= 4; revision++) { /* 2 served, 3 failed, 4 serves */
        _cleanup_task_ struct task task = {0};
        assert_int_equal(update(bench, id, &request, &task), 0);
        run(bench, "UPDATE tasks SET status = 'done' WHERE id = ?", task.id);
        run(bench, "UPDATE deployments SET status = 'active' WHERE id = ?", id);
    }
    run(bench, "UPDATE revisions SET served = 1 WHERE deployment_id = ? AND number IN (2, 4)", id);
    run(bench, "UPDATE deployments SET serving_revision = 4 WHERE id = ?", id);
    _cleanup_deployment_ struct deployment deployment = load(bench, id);
    _cleanup_task_ struct task task = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(operation_rollback(&bench->controller, tx, &deployment, &task, NULL), 0);
    commit(tx);
    assert_int_equal(task.revision, 2);
}

static void a_rollback_of_the_first_revision_is_a_conflict(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "minilm");
    _cleanup_deployment_ struct deployment deployment = load(bench, id);
    _cleanup_task_ struct task task = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(operation_rollback(&bench->controller, tx, &deployment, &task, NULL), -ERROR_CONFLICT);
    store_rollback(tx);
}

static void a_second_deletion_is_the_first_ones_task(void **state) {
    struct bench *bench = *state;
    _cleanup_free_ char *id = serving_deployment(bench, "minilm");
    _cleanup_task_ struct task first = {0}, second = {0};
    struct task *tasks[] = {&first, &second};
    for (int i = 0; i < 2; i++) {
        _cleanup_deployment_ struct deployment deployment = load(bench, id);
        struct store_transaction *tx = begin(bench);
        assert_int_equal(operation_delete(&bench->controller, tx, &deployment, NULL, tasks[i], NULL), 0);
        commit(tx);
    }
    assert_string_equal(first.id, second.id);
}

static void a_follower_ends_as_its_leader_does(void **state) {
    struct bench *bench = *state;
    struct deployment_request request = request_for("minilm");
    _cleanup_task_ struct task leader = {0}, ended = {0};
    struct store_transaction *tx = begin(bench);
    assert_int_equal(operation_create(&bench->controller, tx, &request, NULL, &leader, NULL), 0);
    _cleanup_task_ struct task follower = {.kind = text_copy("deploy"), .leader_id = text_copy(leader.id)};
    assert_int_equal(task_insert(tx, bench->settings, &follower, NULL), 0);
    assert_int_equal(task_set_status(tx, leader.id, TASK_FAILED, "no such model", NULL, NULL), 0);
    assert_int_equal(task_load(tx, follower.id, &ended, NULL), 0);
    commit(tx);
    assert_int_equal(ended.status, TASK_FAILED);
    assert_string_equal(ended.detail, "no such model");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bench, close_bench)
    const struct CMUnitTest tests[] = {
        TEST(a_new_deployment_is_creating_with_revision_1_and_a_pending_task),
        TEST(a_taken_name_is_a_conflict_and_changes_nothing),
        TEST(an_update_waits_for_no_other_operation),
        TEST(a_renamed_deployment_answers_to_both_names_until_another_takes_the_old_one),
        TEST(a_refused_update_returns_everything_to_what_it_was_with_the_reason),
        TEST(a_restarted_task_wants_again_what_was_undone),
        TEST(a_finished_task_is_not_restarted),
        TEST(a_rollback_goes_to_the_newest_revision_below_that_has_served),
        TEST(a_rollback_of_the_first_revision_is_a_conflict),
        TEST(a_second_deletion_is_the_first_ones_task),
        TEST(a_follower_ends_as_its_leader_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
