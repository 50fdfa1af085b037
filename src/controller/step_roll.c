/* roll: fresh replicas, one after the other, each started, awaited, routed to in the place of an old one, which then
 * drains and ends. Where memory does not hold one more, an old one goes first, if another one serves meanwhile.
 *
 * How far it has come is read from the rows alone: those of this task are fresh (`starting`, `ready`, `serving`) or on
 * their way out (`draining`, `stopping`); `serving` ones of other tasks are still to be replaced. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

struct roll {
    struct deployment deployment;
    struct revision revision;
    struct replica_rows rows;
    const struct replica_row *old; /* the next to be replaced, or NULL */
    size_t old_count, fresh_count; /* serving */
    bool coming, leaving;
};

static void roll_clear(struct roll *roll) {
    deployment_clear(&roll->deployment);
    revision_clear(&roll->revision);
    replica_rows_clear(&roll->rows);
}
#define _cleanup_roll_ __attribute__((cleanup(roll_clear)))

static int load(struct roll *roll, struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    int result = step_load(run, tx, &roll->deployment, &roll->revision, ret_error);
    if (result < 0 || (result = replica_rows_load(tx, run->task.deployment_id, &roll->rows, ret_error)) < 0)
        return result;
    for (size_t i = 0; i < roll->rows.count; i++) {
        const struct replica_row *row = &roll->rows.rows[i];
        bool ours = text_equal(row->task_id, run->task.id), serving = text_equal(row->state, "serving");
        if (step_is_coming(row, run->task.id, run->task.revision)) roll->coming = true;
        if (ours && (text_equal(row->state, "draining") || text_equal(row->state, "stopping"))) roll->leaving = true;
        if (ours && serving) roll->fresh_count++;
        if (!serving || ours) continue;
        roll->old_count++;
        if (!roll->old) roll->old = row;
    }
    return 0;
}

/* ---- out ---- */

/* `row` leaves the routes in this transaction. */
static int send_out(struct roll *roll, struct step_run *run, struct store_transaction *tx,
                    const struct replica_row *row, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    int result = replica_row_set_state(tx, roll->deployment.id, row, "draining", run->task.id, "restart", ret_error);
    if (result < 0 || (result = step_route_serving(tx, roll->deployment.id, ret_error)) < 0 ||
        (result = step_next_generation(tx, &state.generation, ret_error)) < 0)
        return result;
    return step_state_write(tx, run, &state, ret_error);
}

static int see_off(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    int result = step_wait_drained(run, state.generation, ret_error);
    if (result < 0) return result;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if ((result = store_begin(run->controller->store, &tx, ret_error)) < 0 ||
        (result = step_move_rows(tx, run, "draining", "stopping", NULL, ret_error)) < 0 ||
        (result = step_commit(run, TAKE(tx), ret_error)) < 0)
        return result;
    return step_finish_stopping(run, ret_error);
}

/* ---- in ---- */

static int reserve(struct roll *roll, struct step_run *run, struct store_transaction *tx,
                   const struct admission *admission, struct error **ret_error) {
    const struct replica_row row = {
        .revision = run->task.revision,
        .reserved_bytes = (int64_t)admission->needed_bytes,
        .memory_limit_bytes = roll->deployment.memory_bytes,
        .cpu = roll->deployment.cpu,
    };
    _cleanup_free_ char *note = NULL;
    int result = replica_row_insert(tx, roll->deployment.id, run->task.id, &row, ret_error);
    if (result < 0 ||
        (result = admission_evict(run->controller, tx, run->task.id, admission->budget_bytes, &note, ret_error)) < 0)
        return result;
    return note ? event_add(tx, "replica", roll->deployment.id, run->task.id, note, NULL, ret_error) : 0;
}

/* Reserves a fresh one, or sends an old one out to make room. */
static int make_room(struct roll *roll, struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    struct admission admission = {0};
    struct error *refusal = NULL;
    int result = admission_check(run->controller, tx, roll->revision.package_digest, roll->deployment.memory_bytes, 1,
                                 &admission, &refusal);
    free(admission.explanation);
    if (result >= 0) return reserve(roll, run, tx, &admission, ret_error);
    /* One that only fills an index answers no query that its going could fail. */
    bool can_spare = roll->old && (roll->old_count + roll->fresh_count >= 2 || roll->old->idle);
    if (result == -ERROR_REFUSED && can_spare) {
        error_free(refusal);
        return send_out(roll, run, tx, roll->old, ret_error);
    }
    if (refusal) error_wrap(&refusal, "start a fresh replica beside the one that serves");
    if (ret_error)
        *ret_error = refusal;
    else
        error_free(refusal);
    return result;
}

static const struct replica_row *find_coming(const struct roll *roll, const struct step_run *run) {
    for (size_t i = 0; i < roll->rows.count; i++)
        if (step_is_coming(&roll->rows.rows[i], run->task.id, run->task.revision)) return &roll->rows.rows[i];
    return NULL;
}

/* The fresh one serves; an old one, unless fewer serve than are wanted, leaves in the same generation. */
static int exchange(struct step_run *run, struct error **ret_error) {
    _cleanup_roll_ struct roll roll = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = load(&roll, run, tx, ret_error)) < 0) return result;
    const struct replica_row *fresh = find_coming(&roll, run);
    if (!fresh) return 0;
    if ((result = replica_row_set_state(tx, roll.deployment.id, fresh, "serving", run->task.id, "restart", ret_error)) <
            0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM replicas WHERE deployment_id = ? AND state = 'failed'",
                            "t", roll.deployment.id)) < 0)
        return result;
    bool replaces = roll.old && (int64_t)(roll.old_count + roll.fresh_count) >= roll.deployment.replicas;
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    if (replaces) {
        result = send_out(&roll, run, tx, roll.old, ret_error);
    } else if ((result = step_route_serving(tx, roll.deployment.id, ret_error)) >= 0 &&
               (result = step_next_generation(tx, &state.generation, ret_error)) >= 0) {
        result = step_state_write(tx, run, &state, ret_error);
    }
    if (result < 0 || (result = step_commit(run, TAKE(tx), ret_error)) < 0) return result;
    step_state_clear(&state);
    step_state_read(&run->task, &state);
    return step_wait_acknowledged(run, state.generation, ret_error);
}

static int bring_in(struct step_run *run, struct error **ret_error) {
    int result = step_finish_stopping(run, ret_error); /* what was evicted for it */
    if (result < 0 || (result = step_wait_up(run, run->task.revision, STEP_NO_DEADLINE, ret_error)) < 0 ||
        (result = step_record_ready(run, run->task.revision, ret_error)) < 0)
        return result;
    return exchange(run, ret_error);
}

/* ---- one after the other ---- */

/* 1: one move was made; 0: nothing is left to do. */
static int move_on(struct step_run *run, struct error **ret_error) {
    _cleanup_roll_ struct roll roll = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = load(&roll, run, tx, ret_error)) < 0) return result;
    bool complete = !roll.old && (int64_t)roll.fresh_count >= roll.deployment.replicas;
    bool anew = !roll.coming && !roll.leaving && !complete;
    if (anew && (result = make_room(&roll, run, tx, ret_error)) >= 0)
        result = step_commit(run, TAKE(tx), ret_error);
    else
        store_rollback(TAKE(tx));
    if (result < 0) return result;
    if (anew) return 1;
    if (roll.coming)
        result = bring_in(run, ret_error);
    else if (roll.leaving)
        result = see_off(run, ret_error);
    else
        return 0;
    return result < 0 ? result : 1;
}

int step_roll(struct step_run *run, struct error **ret_error) {
    int result;
    do result = move_on(run, ret_error);
    while (result > 0);
    return result;
}
