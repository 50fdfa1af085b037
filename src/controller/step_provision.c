/* provision: admission and reservation in one transaction (S7), then the replicas are asked for.
 *
 * How many are missing is counted from the rows that the task has already, so that a second run adds none. A rollback
 * takes over what is still warm. `recreate` first takes the old revision down: it is admitted before anything is
 * stopped, and what was stopped is remembered, so that the undoing can bring it back. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/batch_job.h"
#include "controller/reindex_work.h"

#define WAIT_FOR_MEMORY 1 /* it will fit once what is leaving has left */
#define REAP_SLACK_MS 15000

struct provision {
    struct step_run *run;
    struct deployment deployment;
    struct revision revision;
    struct replica_rows rows;
    struct step_state state;
    bool idle; /* a re-index deploys it to fill an index, or it works for a batch job: it gives way to all that answers
                */
};

static void provision_clear(struct provision *provision) {
    deployment_clear(&provision->deployment);
    revision_clear(&provision->revision);
    replica_rows_clear(&provision->rows);
    step_state_clear(&provision->state);
}
#define _cleanup_provision_ __attribute__((cleanup(provision_clear)))

/* Whether a re-index had it deployed; whoever else names one as the parent gets ordinary replicas, which nobody would
 * give him later. */
static int find_purpose(struct provision *provision, struct store_transaction *tx, struct error **ret_error) {
    const struct task *task = &provision->run->task;
    _cleanup_task_ struct task parent = {0};
    _cleanup_work_ struct reindex_work work = {0};
    if (text_equal(task->kind, "batch")) {
        provision->idle = batch_job_is_idle(provision->revision.target_json);
        return 0;
    }
    if (!task->parent_id || !text_equal(task->kind, "deploy")) return 0;
    struct error *error = NULL;
    int result = task_load(tx, task->parent_id, &parent, &error);
    bool is_gone = result < 0 && error->class == ERROR_NOT_FOUND;
    if (result < 0 && !is_gone && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if (result < 0) return is_gone ? 0 : result;
    reindex_work_read(&parent, &work);
    provision->idle = text_equal(parent.kind, "reindex") && text_equal(work.deploy_task_id, task->id);
    return 0;
}

static int load(struct provision *provision, struct step_run *run, struct store_transaction *tx,
                struct error **ret_error) {
    provision->run = run;
    step_state_read(&run->task, &provision->state);
    int result = step_load(run, tx, &provision->deployment, &provision->revision, ret_error);
    if (result < 0 || (result = replica_rows_load(tx, run->task.deployment_id, &provision->rows, ret_error)) < 0)
        return result;
    if (!provision->revision.package_digest)
        return error_set(ret_error, ERROR_DEPLOYMENT, "revision %lld has no package",
                         (long long)provision->revision.number);
    return find_purpose(provision, tx, ret_error);
}

static bool is_kind(const struct provision *provision, const char *kind) {
    return text_equal(provision->run->task.kind, kind);
}

static bool has_wanted_resources(const struct provision *provision, const struct replica_row *row) {
    return row->cpu == provision->deployment.cpu && row->memory_limit_bytes == provision->deployment.memory_bytes;
}

/* ---- recreate ---- */

static bool is_serving(const struct replica_row *row) {
    return text_equal(row->state, "serving");
}

static void remember_old(struct provision *provision, const struct replica_row *row) {
    provision->state.old_revision = row->revision;
    provision->state.old_count++;
    provision->state.old_reserved = row->reserved_bytes;
    provision->state.old_limit = row->memory_limit_bytes;
    provision->state.old_cpu = row->cpu;
}

static int take_down_rows(struct provision *provision, struct store_transaction *tx, struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < provision->rows.count && result >= 0; i++) {
        if (!is_serving(&provision->rows.rows[i])) continue;
        result = replica_row_set_state(tx, provision->deployment.id, &provision->rows.rows[i], "draining",
                                       provision->run->task.id, "strategy recreate", ret_error);
    }
    return result;
}

/* The old revision leaves the routes, which keep the name: until the new one is up, gateways answer 503. */
static int take_down(struct provision *provision, struct store_transaction *tx, struct error **ret_error) {
    struct step_state *state = &provision->state;
    uint64_t spare = 0;
    for (size_t i = 0; i < provision->rows.count; i++) {
        if (!is_serving(&provision->rows.rows[i])) continue;
        spare += (uint64_t)provision->rows.rows[i].reserved_bytes;
        remember_old(provision, &provision->rows.rows[i]);
    }
    struct admission admission = {0};
    int result = admission_check_with(provision->run->controller, tx, provision->revision.package_digest,
                                      provision->deployment.memory_bytes, provision->deployment.replicas, spare,
                                      &admission, ret_error);
    free(admission.explanation);
    if (result < 0) return result;
    state->recreated = true;
    step_state_note(state,
                    "strategy recreate: the old revision was stopped before the new one started, so there was a gap");
    if ((result = take_down_rows(provision, tx, ret_error)) < 0 ||
        (result = step_route_serving(tx, provision->deployment.id, ret_error)) < 0 ||
        (result = step_next_generation(tx, &state->generation, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE deployments SET serving_revision = NULL WHERE id = ?", "t",
                            provision->deployment.id)) < 0 ||
        (result = event_add(tx, "route", provision->deployment.id, provision->run->task.id,
                            "strategy recreate: nothing answers until the new revision is up", NULL, ret_error)) < 0)
        return result;
    return step_state_write(tx, provision->run, state, ret_error);
}

static bool must_recreate(const struct provision *provision) {
    if (provision->state.recreated || !step_is_recreate(&provision->revision)) return false;
    if (!is_kind(provision, "update") && !is_kind(provision, "rollback")) return false;
    for (size_t i = 0; i < provision->rows.count; i++)
        if (is_serving(&provision->rows.rows[i])) return true;
    return false;
}

static int begin_recreate(struct step_run *run, struct error **ret_error) {
    _cleanup_provision_ struct provision provision = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = load(&provision, run, tx, ret_error)) < 0) return result;
    if (!must_recreate(&provision)) return 0;
    result = take_down(&provision, tx, ret_error);
    return result < 0 ? result : step_commit(run, TAKE(tx), ret_error);
}

/* Also after a kill: whatever of the old revision is still there goes before the new one is started. */
static int finish_recreate(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    if (!state.recreated) return 0;
    int result = step_wait_drained(run, state.generation, ret_error);
    if (result < 0) return result;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if ((result = store_begin(run->controller->store, &tx, ret_error)) < 0 ||
        (result = step_move_rows(tx, run, "draining", "stopping", NULL, ret_error)) < 0 ||
        (result = step_commit(run, TAKE(tx), ret_error)) < 0)
        return result;
    return step_finish_stopping(run, ret_error);
}

/* ---- how many, and whether they fit ---- */

static int check_limit(struct provision *provision, struct store_transaction *tx, struct error **ret_error) {
    int64_t deployed = 0, maximum = (int64_t)provision->run->controller->settings->maximum_deployments;
    if (!maximum || !is_kind(provision, "deploy")) return 0;
    int result = store_ask_number(tx, &deployed, ret_error,
                                  "SELECT count(DISTINCT deployment_id) FROM replicas WHERE deployment_id <> ? "
                                  "AND state NOT IN ('draining', 'stopping')",
                                  "t", provision->deployment.id);
    if (result < 0 || deployed < maximum) return result < 0 ? result : 0;
    return error_set(ret_error, ERROR_REFUSED,
                     "%lld models are deployed, and maximum_deployments is %lld: delete one, or raise the limit",
                     (long long)deployed, (long long)maximum);
}

/* A rollback inside the window: the replicas are there. */
static int adopt_warm(struct provision *provision, struct store_transaction *tx, int64_t *missing,
                      struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i<provision->rows.count && * missing> 0 && result >= 0; i++) {
        const struct replica_row *row = &provision->rows.rows[i];
        if (!text_equal(row->state, "warm") || row->revision != provision->revision.number ||
            !has_wanted_resources(provision, row))
            continue;
        result = replica_row_set_state(tx, provision->deployment.id, row, "starting", provision->run->task.id,
                                       "taken over warm", ret_error);
        (*missing)--;
    }
    return result;
}

static int64_t count_missing(const struct provision *provision) {
    int64_t missing = provision->deployment.replicas;
    for (size_t i = 0; i < provision->rows.count; i++) {
        const struct replica_row *row = &provision->rows.rows[i];
        bool coming = step_is_coming(row, provision->run->task.id, provision->revision.number);
        bool stays = is_kind(provision, "scale") && is_serving(row) && has_wanted_resources(provision, row);
        if (coming || stays) missing--;
    }
    return missing;
}

static int insert_rows(struct provision *provision, struct store_transaction *tx, int64_t count,
                       uint64_t reserved_bytes, struct error **ret_error) {
    const struct replica_row row = {
        .revision = provision->revision.number,
        .reserved_bytes = (int64_t)reserved_bytes,
        .memory_limit_bytes = provision->deployment.memory_bytes,
        .cpu = provision->deployment.cpu,
        .idle = provision->idle,
    };
    int result = 0;
    for (int64_t i = 0; i < count && result >= 0; i++)
        result = replica_row_insert(tx, provision->deployment.id, provision->run->task.id, &row, ret_error);
    return result;
}

static int would_fit_later(struct provision *provision, struct store_transaction *tx, int64_t missing) {
    uint64_t leaving = 0;
    struct admission admission = {0};
    if (admission_leaving(tx, &leaving, NULL) < 0 || !leaving) return 0;
    int result = admission_check_with(provision->run->controller, tx, provision->revision.package_digest,
                                      provision->deployment.memory_bytes, missing, leaving, &admission, NULL);
    free(admission.explanation);
    return result >= 0;
}

/* Reserves what is missing: 0, WAIT_FOR_MEMORY (ret_error then says what was lacking), or an error. */
static int reserve(struct provision *provision, struct store_transaction *tx, int64_t missing,
                   struct error **ret_error) {
    struct controller *controller = provision->run->controller;
    struct admission admission = {0};
    struct error *refusal = NULL;
    int result = admission_check(controller, tx, provision->revision.package_digest, provision->deployment.memory_bytes,
                                 missing, &admission, &refusal);
    free(admission.explanation);
    if (result < 0) {
        bool later = result == -ERROR_REFUSED && would_fit_later(provision, tx, missing);
        if (ret_error)
            *ret_error = refusal;
        else
            error_free(refusal);
        return later ? WAIT_FOR_MEMORY : result;
    }
    _cleanup_free_ char *note = NULL;
    if ((result = insert_rows(provision, tx, missing, admission.needed_bytes, ret_error)) < 0 ||
        (result = admission_evict(controller, tx, provision->run->task.id, admission.budget_bytes, &note, ret_error)) <
            0)
        return result;
    return note ? event_add(tx, "replica", provision->deployment.id, provision->run->task.id, note, NULL, ret_error)
                : 0;
}

static int admit(struct step_run *run, struct error **ret_error) {
    _cleanup_provision_ struct provision provision = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = load(&provision, run, tx, ret_error)) < 0 ||
        (result = check_limit(&provision, tx, ret_error)) < 0)
        return result;
    int64_t missing = count_missing(&provision);
    if (is_kind(&provision, "rollback") && (result = adopt_warm(&provision, tx, &missing, ret_error)) < 0)
        return result;
    if (missing > 0 && (result = reserve(&provision, tx, missing, ret_error)) != 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

/* Waits while memory is on its way back from replicas that are leaving, but not longer than they may take. */
static int admit_or_wait(struct step_run *run, struct error **ret_error) {
    struct replicas *replicas = run->controller->replicas;
    uint64_t deadline = clock_monotonic_ms() + run->controller->settings->drain_ms + REAP_SLACK_MS;
    for (;;) {
        uint64_t version = replicas_version(replicas);
        struct error *error = NULL;
        int result = admit(run, &error);
        bool wait = result == WAIT_FOR_MEMORY && clock_monotonic_ms() < deadline;
        if (!wait) {
            if (result == WAIT_FOR_MEMORY) result = -ERROR_REFUSED;
            if (result < 0 && ret_error)
                *ret_error = error;
            else
                error_free(error);
            return result;
        }
        error_free(error);
        replicas_wait_change(replicas, version, deadline, &run->interrupted);
    }
}

int step_provision(struct step_run *run, struct error **ret_error) {
    int result = begin_recreate(run, ret_error);
    if (result < 0 || (result = finish_recreate(run, ret_error)) < 0 || (result = admit_or_wait(run, ret_error)) < 0 ||
        (result = step_finish_stopping(run, ret_error)) < 0)
        return result;
    return step_start_coming(run, run->task.revision, ret_error);
}
