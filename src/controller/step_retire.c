/* retire: what happens to the replicas that left the routes. After an update or a rollback they are kept warm for the
 * rollback window, and a child task of kind `retire`, pending until the window ends, stops them; otherwise they are
 * stopped at once. One warm set a deployment: an older one is superseded and stopped. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

struct leaving {
    struct deployment deployment;
    struct revision revision;
    struct replica_rows rows;
    int64_t old_revision; /* of those that drain; 0: none do */
    bool already_warm; /* an earlier run of this step has done it */
};

static void leaving_clear(struct leaving *leaving) {
    deployment_clear(&leaving->deployment);
    revision_clear(&leaving->revision);
    replica_rows_clear(&leaving->rows);
}

static int load(struct leaving *leaving, struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    int result = step_load(run, tx, &leaving->deployment, &leaving->revision, ret_error);
    if (result < 0 || (result = replica_rows_load(tx, run->task.deployment_id, &leaving->rows, ret_error)) < 0)
        return result;
    for (size_t i = 0; i < leaving->rows.count; i++) {
        const struct replica_row *row = &leaving->rows.rows[i];
        if (!text_equal(row->task_id, run->task.id)) continue;
        if (text_equal(row->state, "draining")) leaving->old_revision = row->revision;
        if (text_equal(row->state, "warm")) leaving->already_warm = true;
    }
    return 0;
}

/* 1: all that is reserved fits the budget (it may have been lowered since). */
static int has_memory(struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    uint64_t budget = 0;
    int64_t reserved = 0;
    _cleanup_free_ char *source = NULL;
    int result = run->controller->target_ops->budget(run->controller->target, &budget, &source, ret_error);
    if (result < 0 || (result = store_ask_number(tx, &reserved, ret_error,
                                                 "SELECT coalesce(sum(reserved_bytes), 0) FROM replicas", "")) < 0)
        return result;
    return (uint64_t)reserved <= budget;
}

static bool changes_revision(const struct step_run *run) {
    return text_equal(run->task.kind, "update") || text_equal(run->task.kind, "rollback");
}

/* 1: keep them warm. */
static int shall_stay_warm(const struct leaving *leaving, struct step_run *run, struct store_transaction *tx,
                           struct error **ret_error) {
    if (!changes_revision(run) || !leaving->old_revision || leaving->old_revision == run->task.revision) return 0;
    if (!run->controller->settings->rollback_window_ms || step_is_recreate(&leaving->revision)) return 0;
    return has_memory(run, tx, ret_error);
}

/* The warm sets of earlier updates. */
static int supersede(const struct leaving *leaving, struct step_run *run, struct store_transaction *tx,
                     struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < leaving->rows.count && result >= 0; i++)
        if (text_equal(leaving->rows.rows[i].state, "warm"))
            result = replica_row_set_state(tx, leaving->deployment.id, &leaving->rows.rows[i], "stopping", run->task.id,
                                           "superseded by a newer update", ret_error);
    if (result < 0) return result;
    return step_end_retire_tasks(tx, leaving->deployment.id, 0, TASK_DONE, "superseded by a newer update", ret_error);
}

static bool is_up(struct step_run *run, const char *replica_id) {
    return replicas_count_up(run->controller->replicas, &replica_id, 1) == 1;
}

static bool has_one_up(const struct leaving *leaving, struct step_run *run) {
    for (size_t i = 0; i < leaving->rows.count; i++) {
        const struct replica_row *row = &leaving->rows.rows[i];
        if (text_equal(row->state, "draining") && text_equal(row->task_id, run->task.id) && is_up(run, row->id))
            return true;
    }
    return false;
}

/* One that has died meanwhile is not started again only to be kept. */
static int move_rows(const struct leaving *leaving, struct step_run *run, struct store_transaction *tx,
                     struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < leaving->rows.count && result >= 0; i++) {
        const struct replica_row *row = &leaving->rows.rows[i];
        if (!text_equal(row->state, "draining") || !text_equal(row->task_id, run->task.id)) continue;
        bool up = is_up(run, row->id);
        result = replica_row_set_state(tx, leaving->deployment.id, row, up ? "warm" : "stopping", run->task.id,
                                       up ? "kept for a rollback" : "it is not up any more", ret_error);
    }
    return result;
}

static int keep_warm(const struct leaving *leaving, struct step_run *run, struct store_transaction *tx,
                     struct error **ret_error) {
    int64_t until = clock_wall_ms() + (int64_t)run->controller->settings->rollback_window_ms;
    int result = move_rows(leaving, run, tx, ret_error);
    if (result < 0 || (result = store_run(tx, NULL, ret_error,
                                          "UPDATE replicas SET warm_until = ? WHERE task_id = ? AND state = 'warm'",
                                          "it", until, run->task.id)) < 0)
        return result;
    _cleanup_task_ struct task task = {
        .kind = text_copy("retire"),
        .deployment_id = text_copy(run->task.deployment_id),
        .revision = leaving->old_revision,
        .model_id = text_copy(run->task.model_id),
        .parent_id = text_copy(run->task.id),
        .not_before = until,
    };
    return task_insert(tx, run->controller->settings, &task, ret_error);
}

static int say_not_warm(const struct leaving *leaving, struct step_run *run, struct store_transaction *tx,
                        struct error **ret_error) {
    bool for_memory = changes_revision(run) && leaving->old_revision && run->controller->settings->rollback_window_ms &&
                      leaving->old_revision != run->task.revision && !step_is_recreate(&leaving->revision);
    if (!for_memory) return 0;
    _cleanup_free_ char *words =
        text_format("revision %lld is not kept warm: memory is short (a rollback starts it anew)",
                    (long long)leaving->old_revision);
    if (leaving->deployment.message)
        return event_add(tx, "replica", leaving->deployment.id, run->task.id, words, NULL, ret_error);
    return deployment_set_message(tx, leaving->deployment.id, words, ret_error);
}

static int decide(struct step_run *run, struct error **ret_error) {
    __attribute__((cleanup(leaving_clear))) struct leaving leaving = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = load(&leaving, run, tx, ret_error)) < 0) return result;
    if (leaving.already_warm) return 0;
    int warm = has_one_up(&leaving, run) ? shall_stay_warm(&leaving, run, tx, ret_error) : 0;
    if (warm < 0 || (changes_revision(run) && (result = supersede(&leaving, run, tx, ret_error)) < 0))
        return warm < 0 ? warm : result;
    result = warm ? keep_warm(&leaving, run, tx, ret_error)
                  : step_move_rows(tx, run, "draining", "stopping", NULL, ret_error);
    if (result >= 0 && !warm && has_one_up(&leaving, run)) result = say_not_warm(&leaving, run, tx, ret_error);
    return result < 0 ? result : step_commit(run, TAKE(tx), ret_error);
}

int step_retire(struct step_run *run, struct error **ret_error) {
    step_record_memory(run);
    int result = decide(run, ret_error);
    if (result < 0) return result;
    replicas_wake(run->controller->replicas); /* who waits for memory: what is warm can be had */
    engine_wake(run->controller->engine); /* there is a new task with a time */
    return step_finish_stopping(run, ret_error);
}
