/* The bad end of a task: what it did is put right, then task and deployment are told so in one transaction.
 *
 * Up to the switch nothing that serves was touched (but by `recreate`, whose old revision is brought back): what was
 * started is stopped, what was taken over warm is warm again, the package is let go. Behind the switch there is no way
 * back: the new revision serves, and the task's failure is one of cleaning up. Every part can be run again after a
 * kill. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"
#include "controller/push.h"

static bool is_kind(const struct step_run *run, const char *kind) {
    return text_equal(run->task.kind, kind);
}

/* Of a deployment that is new: canceled, nothing of it is left. */
static bool is_first(const struct step_run *run) {
    return is_kind(run, "deploy") || is_kind(run, "batch");
}

/* ---- what was started ---- */

/* Coming rows of the revision that the task works towards: warm ones go back, fresh ones end. */
static int turn_back(struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    int result = replica_rows_load(tx, run->task.deployment_id, &rows, ret_error);
    for (size_t i = 0; i < rows.count && result >= 0; i++) {
        const struct replica_row *row = &rows.rows[i];
        if (!step_is_coming(row, run->task.id, run->task.revision)) continue;
        result = replica_row_set_state(tx, run->task.deployment_id, row, row->warm_until ? "warm" : "stopping",
                                       run->task.id, "undone", ret_error);
    }
    return result;
}

static int stop_what_was_started(struct step_run *run, const struct step_state *state, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = 0;
    if (is_kind(run, "restart") && (result = step_wait_drained(run, state->generation, ret_error)) < 0) return result;
    if ((result = store_begin(run->controller->store, &tx, ret_error)) < 0 ||
        (result = turn_back(run, tx, ret_error)) < 0)
        return result;
    if (is_kind(run, "restart") && (result = step_move_rows(tx, run, "draining", "stopping", NULL, ret_error)) < 0)
        return result;
    if ((result = step_commit(run, TAKE(tx), ret_error)) < 0) return result;
    /* A process that does not end keeps its row and reservation until it is reaped (health.c); the task does not wait
     * for it. */
    _cleanup_error_ struct error *error = NULL;
    if (step_finish_stopping(run, &error) >= 0 || !engine_is_stopping(run->controller->engine)) return 0;
    return step_canceled(ret_error);
}

/* ---- recreate: the old revision comes back ---- */

static int route_old(struct step_run *run, const struct step_state *state, struct error **ret_error) {
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    const char *id = run->task.deployment_id;
    int64_t generation = 0;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = replica_rows_load(tx, id, &rows, ret_error)) < 0) return result;
    for (size_t i = 0; i < rows.count && result >= 0; i++)
        if (step_is_coming(&rows.rows[i], run->task.id, state->old_revision))
            result = replica_row_set_state(tx, id, &rows.rows[i], "serving", run->task.id, "brought back", ret_error);
    _cleanup_free_ char *words = text_format("revision %lld answers again", (long long)state->old_revision);
    if (result < 0 || (result = step_route_serving(tx, id, ret_error)) < 0 ||
        (result = step_next_generation(tx, &generation, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE deployments SET serving_revision = ? WHERE id = ?", "it",
                            state->old_revision, id)) < 0 ||
        (result = event_add(tx, "route", id, run->task.id, words, NULL, ret_error)) < 0 ||
        (result = step_commit(run, TAKE(tx), ret_error)) < 0)
        return result;
    routing_announce(run->controller->routing, (uint64_t)generation);
    return 0;
}

/* Those that only drained serve again; for those that were stopped rows are inserted. They fitted before: no admission.
 */
static int bring_back_rows(struct step_run *run, const struct step_state *state, struct error **ret_error) {
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    const char *id = run->task.deployment_id;
    int64_t missing = state->old_count;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = replica_rows_load(tx, id, &rows, ret_error)) < 0) return result;
    for (size_t i = 0; i < rows.count && result >= 0; i++) {
        const struct replica_row *row = &rows.rows[i];
        bool drains = row->revision == state->old_revision && text_equal(row->state, "draining");
        if (drains) result = replica_row_set_state(tx, id, row, "serving", run->task.id, "brought back", ret_error);
        bool serves = row->revision == state->old_revision && text_equal(row->state, "serving");
        if (drains || serves || step_is_coming(row, run->task.id, state->old_revision)) missing--;
    }
    const struct replica_row fresh = {.revision = state->old_revision,
                                      .reserved_bytes = state->old_reserved,
                                      .memory_limit_bytes = state->old_limit,
                                      .cpu = state->old_cpu};
    for (; missing > 0 && result >= 0; missing--) result = replica_row_insert(tx, id, run->task.id, &fresh, ret_error);
    return result < 0 ? result : step_commit(run, TAKE(tx), ret_error);
}

static int give_old_up(struct step_run *run, const struct step_state *state, struct error **ret_error) {
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = replica_rows_load(tx, run->task.deployment_id, &rows, ret_error)) < 0) return result;
    for (size_t i = 0; i < rows.count && result >= 0; i++)
        if (step_is_coming(&rows.rows[i], run->task.id, state->old_revision))
            result = replica_row_set_state(tx, run->task.deployment_id, &rows.rows[i], "stopping", run->task.id,
                                           "it did not come back", ret_error);
    if (result < 0 || (result = step_commit(run, TAKE(tx), ret_error)) < 0) return result;
    return step_finish_stopping(run, ret_error);
}

/* *ret_words: how that went, for the message. */
static int bring_old_back(struct step_run *run, const struct step_state *state, char **ret_words,
                          struct error **ret_error) {
    int result = bring_back_rows(run, state, ret_error);
    if (result < 0) return result;
    _cleanup_error_ struct error *error = NULL;
    uint64_t deadline = clock_monotonic_ms() + run->controller->settings->replica_ready_deadline_ms;
    if (step_wait_up(run, state->old_revision, deadline, &error) >= 0) {
        *ret_words = text_format("revision %lld was started again, after a gap", (long long)state->old_revision);
        return route_old(run, state, ret_error);
    }
    if (engine_is_stopping(run->controller->engine)) return step_canceled(ret_error);
    _cleanup_free_ char *text = error_text(error);
    *ret_words = text_format("revision %lld did not come back: %s", (long long)state->old_revision, text);
    return give_old_up(run, state, ret_error);
}

/* ---- packages ---- */

static int let_package_go(struct step_run *run, bool deployment_goes, struct error **ret_error) {
    struct controller *controller = run->controller;
    if (!is_first(run) && !is_kind(run, "update")) return 0;
    controller->packages->abandon(controller->package_store, run->task.id);
    return pins_let_go(controller, run->task.deployment_id, deployment_goes ? 0 : run->task.revision, run->task.id,
                       ret_error);
}

/* ---- telling ---- */

int engine_make_inactive(struct store_transaction *tx, const char *deployment_id, const char *task_id,
                         const char *message, struct error **ret_error) {
    int result = deployment_set_status(tx, deployment_id, DEPLOYMENT_INACTIVE, message, NULL, task_id, ret_error);
    if (result < 0) return result;
    return store_run(tx, NULL, ret_error, "DELETE FROM route_names WHERE deployment_id = ?", "t", deployment_id);
}

struct telling {
    struct deployment deployment;
    enum task_status ending;
    const struct error *why;
    char *detail; /* of the task */
    char *words; /* the deployment's message */
};

static void telling_clear(struct telling *telling) {
    deployment_clear(&telling->deployment);
    free(telling->detail);
    free(telling->words);
}

static int tell_delete(struct step_run *run, struct store_transaction *tx, const struct telling *telling,
                       struct error **ret_error) {
    const struct deployment *deployment = &telling->deployment;
    enum deployment_status status = DEPLOYMENT_DELETE_FAILED;
    if (telling->ending == TASK_CANCELED) status = deployment->serving_revision ? DEPLOYMENT_ACTIVE : DEPLOYMENT_FAILED;
    return deployment_set_status(tx, deployment->id, status, telling->words, telling->why, run->task.id, ret_error);
}

/* Behind the switch: the revision serves whatever became of the rest. */
static int tell_committed(struct step_run *run, struct store_transaction *tx, const struct telling *telling,
                          struct error **ret_error) {
    const struct deployment *deployment = &telling->deployment;
    if (deployment->status == DEPLOYMENT_DELETING) return 0;
    _cleanup_free_ char *words = text_format("revision %lld answers, but not all of the old one is cleaned up: %s",
                                             (long long)run->task.revision, telling->words);
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_ACTIVE, words, NULL, run->task.id, ret_error);
}

static int tell_put_back(struct step_run *run, struct store_transaction *tx, const struct telling *telling,
                         struct error **ret_error) {
    int result = operation_undo(tx, &run->task, telling->words, ret_error);
    return result < 0 ? result : health_update(run->controller, tx, run->task.deployment_id, ret_error);
}

static bool is_put_back(const struct step_run *run, const struct telling *telling) {
    if (!run->task.undo_json) return false;
    return telling->ending != TASK_FAILED || is_kind(run, "scale") || is_kind(run, "restart");
}

static int tell_deployment(struct step_run *run, struct store_transaction *tx, const struct step_state *state,
                           const struct telling *telling, struct error **ret_error) {
    const struct deployment *deployment = &telling->deployment;
    if (is_kind(run, "retire")) return 0;
    if (is_kind(run, "delete")) return tell_delete(run, tx, telling, ret_error);
    if (state->committed) return tell_committed(run, tx, telling, ret_error);
    if (deployment->status == DEPLOYMENT_DELETING) return 0; /* a delete task stands behind this one */
    if (telling->ending == TASK_CANCELED && is_first(run) && !deployment->serving_revision)
        return engine_make_inactive(tx, deployment->id, run->task.id, telling->words, ret_error);
    if (is_put_back(run, telling)) return tell_put_back(run, tx, telling, ret_error);
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_FAILED, telling->words, telling->why, run->task.id,
                                 ret_error);
}

/* The reason that engine_cancel() left in the row. */
static int load_reason(struct step_run *run, struct store_transaction *tx, char **ret_reason,
                       struct error **ret_error) {
    _cleanup_task_ struct task task = {0};
    int result = task_load(tx, run->task.id, &task, ret_error);
    if (result >= 0) *ret_reason = task.detail ? text_format("canceled: %s", task.detail) : text_copy("canceled");
    return result;
}

static char *words_of(const struct telling *telling, const char *old_words) {
    int64_t serving = telling->deployment.serving_revision;
    if (old_words) return text_format("%s; %s", telling->detail, old_words);
    if (telling->ending == TASK_FAILED && serving)
        return text_format("%s; revision %lld goes on serving", telling->detail, (long long)serving);
    return text_copy(telling->detail);
}

static int tell(struct step_run *run, const struct step_state *state, enum task_status ending, const struct error *why,
                const char *old_words, struct error **ret_error) {
    __attribute__((cleanup(telling_clear))) struct telling telling = {.ending = ending, .why = why};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = deployment_load(tx, run->task.deployment_id, &telling.deployment, ret_error)) < 0)
        return result;
    if (why)
        telling.detail = error_text(why);
    else if ((result = load_reason(run, tx, &telling.detail, ret_error)) < 0)
        return result;
    telling.words = words_of(&telling, old_words);
    if ((result = tell_deployment(run, tx, state, &telling, ret_error)) < 0 ||
        (result = task_set_status(tx, run->task.id, ending, telling.detail, why, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

static int is_leaving_for_good(struct step_run *run, enum task_status ending, bool *ret_goes,
                               struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = deployment_load(tx, run->task.deployment_id, &deployment, ret_error)) < 0)
        return result;
    *ret_goes = ending == TASK_CANCELED && is_first(run) && !deployment.serving_revision;
    return 0;
}

int engine_undo(struct step_run *run, enum task_status ending, const struct error *why, struct error **ret_error) {
    if (run->task.collection) return collection_task_undo(run, ending, why, ret_error);
    if (package_task_is(&run->task) || push_task_is(&run->task)) return package_task_undo(run, ending, why, ret_error);
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    _cleanup_free_ char *old_words = NULL;
    bool goes = false, plain = state.committed || is_kind(run, "delete") || is_kind(run, "retire");
    int result = 0;
    if (!plain && ((result = stop_what_was_started(run, &state, ret_error)) < 0 ||
                   (state.recreated && (result = bring_old_back(run, &state, &old_words, ret_error)) < 0) ||
                   (result = is_leaving_for_good(run, ending, &goes, ret_error)) < 0 ||
                   (result = let_package_go(run, goes, ret_error)) < 0))
        return result;
    if ((result = tell(run, &state, ending, why, old_words, ret_error)) < 0) return result;
    replicas_wake(run->controller->replicas);
    return 0;
}
