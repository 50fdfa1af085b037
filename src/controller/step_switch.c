/* switch: one transaction moves the route to the replicas that came up, a new generation; the deployment is `active`
 * once the gateways route by it, so that whoever waits for `active` gets an answer from the new revision.
 *
 * The point of no return: after that transaction a cancel comes too late. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

struct change {
    struct deployment deployment;
    struct revision revision;
    struct replica_rows rows;
    struct step_state state;
};

static void change_clear(struct change *change) {
    deployment_clear(&change->deployment);
    revision_clear(&change->revision);
    replica_rows_clear(&change->rows);
    step_state_clear(&change->state);
}
#define _cleanup_change_ __attribute__((cleanup(change_clear)))

static int load(struct change *change, struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    step_state_read(&run->task, &change->state);
    int result = step_load(run, tx, &change->deployment, &change->revision, ret_error);
    return result < 0 ? result : replica_rows_load(tx, run->task.deployment_id, &change->rows, ret_error);
}

static bool is_scale(const struct step_run *run) {
    return text_equal(run->task.kind, "scale");
}

/* A replica that was given up between ready and here must not be routed to. */
static int check_alive(struct step_run *run, const struct replica_row *row, struct error **ret_error) {
    struct replica_view view __attribute__((cleanup(replica_view_clear)));
    replicas_get(run->controller->replicas, row->id, &view);
    if (!view.final_down) return 0;
    struct error *words = replica_last_words(row->id, &view);
    if (ret_error)
        *ret_error = words;
    else
        error_free(words);
    return -ERROR_DEPLOYMENT;
}

static int bring_in(struct change *change, struct step_run *run, struct store_transaction *tx, int64_t *ret_count,
                    struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < change->rows.count && result >= 0; i++) {
        const struct replica_row *row = &change->rows.rows[i];
        if (!step_is_coming(row, run->task.id, run->task.revision)) continue;
        if ((result = check_alive(run, row, ret_error)) < 0 ||
            (result = store_run(tx, NULL, ret_error, "UPDATE replicas SET warm_until = 0 WHERE id = ?", "t", row->id)) <
                0)
            return result;
        result = replica_row_set_state(tx, change->deployment.id, row, "serving", run->task.id, NULL, ret_error);
        ++*ret_count;
    }
    return result;
}

/* Of those that served so far, which stay: none, but for scale, where the oldest with the wanted resources do. */
static int send_out(struct change *change, struct step_run *run, struct store_transaction *tx, int64_t fresh,
                    struct error **ret_error) {
    int64_t room = is_scale(run) ? change->deployment.replicas - fresh : 0;
    int result = 0;
    for (size_t i = 0; i < change->rows.count && result >= 0; i++) {
        const struct replica_row *row = &change->rows.rows[i];
        if (!text_equal(row->state, "serving")) continue;
        bool fits = row->revision == run->task.revision && row->cpu == change->deployment.cpu &&
                    row->memory_limit_bytes == change->deployment.memory_bytes;
        if (is_scale(run) && fits && room > 0) {
            room--;
            continue;
        }
        result = replica_row_set_state(tx, change->deployment.id, row, "draining", run->task.id, NULL, ret_error);
    }
    if (result < 0) return result;
    /* Those that were given up have nothing left to say. */
    return store_run(tx, NULL, ret_error, "DELETE FROM replicas WHERE deployment_id = ? AND state = 'failed'", "t",
                     change->deployment.id);
}

static int move_route(struct change *change, struct step_run *run, struct store_transaction *tx,
                      struct error **ret_error) {
    const char *id = change->deployment.id;
    int64_t revision = run->task.revision;
    int result = store_run(tx, NULL, ret_error,
                           "INSERT INTO routes (deployment_id, revision) VALUES (?, ?) "
                           "ON CONFLICT (deployment_id) DO UPDATE SET revision = excluded.revision",
                           "ti", id, revision);
    if (result < 0 || (result = step_route_serving(tx, id, ret_error)) < 0 ||
        (result = store_run(
             tx, NULL, ret_error,
             "INSERT INTO route_names (name, deployment_id, is_current) VALUES (?, ?, 1) ON CONFLICT DO NOTHING", "tt",
             change->deployment.name, id)) < 0 ||
        (result = step_next_generation(tx, &change->state.generation, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE deployments SET serving_revision = ? WHERE id = ?", "it",
                            revision, id)) < 0 ||
        (result =
             store_run(tx, NULL, ret_error, "UPDATE revisions SET served = 1 WHERE deployment_id = ? AND number = ?",
                       "ti", id, revision)) < 0)
        return result;
    _cleanup_free_ char *words = text_format("revision %lld answers (generation %lld of the routes)",
                                             (long long)revision, (long long)change->state.generation);
    return event_add(tx, "route", id, run->task.id, words, NULL, ret_error);
}

static int change_routes(struct step_run *run, struct error **ret_error) {
    _cleanup_change_ struct change change = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int64_t fresh = 0;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = load(&change, run, tx, ret_error)) < 0 ||
        (result = bring_in(&change, run, tx, &fresh, ret_error)) < 0)
        return result;
    int64_t serving = change.state.recreated ? change.state.old_revision : change.deployment.serving_revision;
    const char *digest = change.revision.encoder_digest; /* a replica has told it by now, if there is one */
    result = encoder_check_digest(tx, &change.deployment, serving, digest ? digest : "", ret_error);
    if (result < 0) return result;
    if (!fresh && !is_scale(run))
        return error_set(ret_error, ERROR_DEPLOYMENT, "there is no replica of revision %lld to switch to",
                         (long long)run->task.revision);
    change.state.committed = true;
    if ((result = send_out(&change, run, tx, fresh, ret_error)) < 0 ||
        (result = move_route(&change, run, tx, ret_error)) < 0)
        return result;
    if (text_equal(run->task.kind, "rollback") &&
        (result = step_end_retire_tasks(tx, change.deployment.id, run->task.revision, TASK_DONE, "rolled back",
                                        ret_error)) < 0)
        return result;
    result = step_state_write(tx, run, &change.state, ret_error);
    if (result < 0 || (result = step_commit(run, TAKE(tx), ret_error)) < 0) return result;
    for (size_t i = 0; i < change.rows.count; i++)
        if (text_equal(change.rows.rows[i].state, "failed"))
            replica_log_remove(run->controller, change.rows.rows[i].id);
    return 0;
}

/* What the request asked for that has no meaning here, and what the way here was like. */
static char *message_of(struct step_run *run, const struct change *change) {
    _cleanup_free_ char *base = health_base_message(run->controller, change->revision.target_json);
    const char *note = change->state.note;
    if (base && note) return text_format("%s; %s", base, note);
    return base ? TAKE(base) : text_copy(note);
}

static int tell_active(struct step_run *run, struct error **ret_error) {
    _cleanup_change_ struct change change = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = load(&change, run, tx, ret_error)) < 0) return result;
    /* A delete that came meanwhile keeps its word. */
    bool is_ours = change.deployment.status == DEPLOYMENT_CREATING || change.deployment.status == DEPLOYMENT_UPDATING;
    if (!is_ours) return 0;
    _cleanup_free_ char *message = message_of(run, &change);
    if ((result = deployment_set_status(tx, change.deployment.id, DEPLOYMENT_ACTIVE, message, NULL, run->task.id,
                                        ret_error)) < 0 ||
        (result = health_update(run->controller, tx, change.deployment.id, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

static bool is_serving_here(const struct replica_row *row, const void *context) {
    return text_equal(row->state, "serving") && text_equal(row->task_id, context);
}

/* A death between the look at a replica and the transaction was told while its row said `ready`: it is looked at again.
 */
static int look_again(struct step_run *run, struct error **ret_error) {
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = replica_rows_load(tx, run->task.deployment_id, &rows, ret_error)) < 0) return result;
    store_rollback(TAKE(tx));
    replica_rows_filter(&rows, is_serving_here, run->task.id);
    for (size_t i = 0; i < rows.count && result >= 0; i++) {
        struct replica_view view;
        replicas_get(run->controller->replicas, rows.rows[i].id, &view);
        bool down = view.final_down;
        replica_view_clear(&view);
        if (down) result = health_replica_changed(run->controller, rows.rows[i].id, ret_error);
    }
    return result;
}

/* kind deploy over what still serves (a failed deployment that is deployed again): its pipeline ends here, so the old
 * replicas are seen off here. */
static int see_off(struct step_run *run, struct error **ret_error) {
    if (!text_equal(run->task.kind, "deploy")) return 0;
    int result = step_drain(run, ret_error);
    return result < 0 ? result : step_retire(run, ret_error);
}

int step_switch(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    int result = 0;
    /* After a kill of the whole machine what `ready` saw up is gone: it is started again before anything is routed to
     * it. */
    if (!state.committed && ((result = step_wait_up(run, run->task.revision, STEP_NO_DEADLINE, ret_error)) < 0 ||
                             (result = change_routes(run, ret_error)) < 0))
        return result;
    engine_set_committed(run);
    step_state_clear(&state);
    step_state_read(&run->task, &state);
    if ((result = step_wait_acknowledged(run, state.generation, ret_error)) < 0 ||
        (result = tell_active(run, ret_error)) < 0 || (result = look_again(run, ret_error)) < 0)
        return result;
    return see_off(run, ret_error);
}
