/* The work of one task, on its own thread: its steps in their order, each recorded before it begins, tried again where
 * that can help; then the end, good or bad. What cannot be recorded (a full disk) is tried again until it can: a task
 * never ends otherwise than in the store. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"
#include "controller/fetch_claims.h"
#include "controller/push.h"

#define BACKOFF_MAXIMUM_MS 30000
#define RECORD_RETRY_MS 1000

typedef int (*recording)(struct engine_run *run, void *context, struct error **ret_error);

/* Until it succeeds or the engine stops; false then. */
static bool persist(struct engine_run *run, recording record, void *context) {
    for (;;) {
        _cleanup_error_ struct error *error = NULL;
        if (record(run, context, &error) >= 0) return true;
        _cleanup_free_ char *text = error_text(error);
        log_write(LOG_WARNING, "a task cannot be recorded now; tried again", "task", run->run.task.id, "error", text,
                  NULL);
        if (!engine_rest(run->engine, RECORD_RETRY_MS)) return false;
    }
}

static int begin(struct engine_run *run, struct store_transaction **ret_tx, struct error **ret_error) {
    return store_begin(run->run.controller->store, ret_tx, ret_error);
}

/* ---- steps ---- */

struct attempt {
    const char *step;
    int64_t number;
};

static int record_step(struct engine_run *run, void *context, struct error **ret_error) {
    const struct attempt *attempt = context;
    struct task *task = &run->run.task;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = begin(run, &tx, ret_error);
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE tasks SET step = ?, attempts = ?, updated_at = ? WHERE id = ?",
                            "tiit", attempt->step, attempt->number, clock_wall_ms(), task->id)) < 0)
        return result;
    _cleanup_free_ char *words = attempt->number > 1
                                     ? text_format("%s, attempt %lld", attempt->step, (long long)attempt->number)
                                     : text_copy(attempt->step);
    if ((result = event_add(tx, "task_step", task->deployment_id, task->id, words, NULL, ret_error)) < 0 ||
        (result = step_commit(&run->run, TAKE(tx), ret_error)) < 0)
        return result;
    free(task->step);
    task->step = text_copy(attempt->step);
    task->attempts = attempt->number;
    return 0;
}

static uint64_t backoff_of(const struct settings *settings, int64_t attempt) {
    uint64_t pause = settings->step_backoff_ms;
    for (; attempt > 1 && pause < BACKOFF_MAXIMUM_MS; attempt--) pause *= 2;
    return pause < BACKOFF_MAXIMUM_MS ? pause : BACKOFF_MAXIMUM_MS;
}

static int record_retry(struct engine_run *run, void *context, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = begin(run, &tx, ret_error);
    if (result < 0 || (result = event_add(tx, "task_step", run->run.task.deployment_id, run->run.task.id, context, NULL,
                                          ret_error)) < 0)
        return result;
    return step_commit(&run->run, TAKE(tx), ret_error);
}

/* Trying again can help, and is still allowed. */
static bool try_again(struct engine_run *run, const struct error *error, int64_t attempt) {
    const struct settings *settings = run->run.controller->settings;
    if (!error || !error->transient || attempt >= (int64_t)settings->task_attempts) return false;
    _cleanup_free_ char *text = error_text(error);
    uint64_t pause = backoff_of(settings, attempt);
    _cleanup_free_ char *words =
        text_format("%s failed and is tried again in %llu ms: %s", run->run.task.step, (unsigned long long)pause, text);
    return persist(run, record_retry, words) && engine_pause(run, pause);
}

static int run_step(struct engine_run *run, const char *name, struct error **ret_error) {
    step_function step = step_find(name);
    int64_t first = text_equal(run->run.task.step, name) && run->run.task.attempts > 0 ? run->run.task.attempts : 1;
    for (int64_t number = first;; number++) {
        struct attempt attempt = {name, number};
        if (!persist(run, record_step, &attempt)) return step_canceled(ret_error);
        engine_tell_step(run, name);
        struct error *error = NULL;
        int result = step_check(&run->run, &error);
        if (result >= 0) result = step(&run->run, &error);
        if (result >= 0) return 0;
        if (!error) error_set(&error, (enum error_class) - result, "%s failed", name);
        if (!atomic_load(&run->run.interrupted) && try_again(run, error, number)) {
            error_free(error);
            continue;
        }
        *ret_error = error;
        return result;
    }
}

static int wrap_name(const struct task *task, struct error **ret_error) {
    const char *name = task->collection ? task->collection : task->model_id ? task->model_id : "";
    return error_wrap(ret_error, "%s %s", task->kind, name);
}

static int run_steps(struct engine_run *run, struct error **ret_error) {
    const char *const *steps = step_pipeline(&run->run.task);
    size_t i = 0;
    for (size_t known = 0; steps[known]; known++)
        if (text_equal(steps[known], run->run.task.step)) i = known;
    for (; steps[i]; i++) {
        if (!step_is_wanted(&run->run, steps[i])) continue;
        int result = run_step(run, steps[i], ret_error);
        if (result < 0) return wrap_name(&run->run.task, ret_error);
    }
    return 0;
}

/* ---- the good end ---- */

static int end_restart(struct engine_run *run, struct store_transaction *tx, struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    int result = deployment_load(tx, run->run.task.deployment_id, &deployment, ret_error);
    if (result < 0 || deployment.status != DEPLOYMENT_UPDATING) return result;
    _cleanup_free_ char *message = health_base_message(run->run.controller, deployment.target_json);
    result = deployment_set_status(tx, deployment.id, DEPLOYMENT_ACTIVE, message, NULL, run->run.task.id, ret_error);
    return result < 0 ? result : health_update(run->run.controller, tx, deployment.id, ret_error);
}

/* What it came to stands in the message of the deployment, which is over. */
static int end_batch(struct engine_run *run, struct store_transaction *tx, char **ret_detail,
                     struct error **ret_error) {
    const struct task *task = &run->run.task;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_state_ struct step_state state = {0};
    step_state_read(task, &state);
    *ret_detail = text_copy(state.note);
    int result = deployment_load(tx, task->deployment_id, &deployment, ret_error);
    if (result < 0 || deployment.status == DEPLOYMENT_DELETING) return result; /* a delete task ends it */
    return engine_make_inactive(tx, task->deployment_id, task->id, state.note, ret_error);
}

static int record_done(struct engine_run *run, void *context, struct error **ret_error) {
    (void)context;
    const struct task *task = &run->run.task;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *detail = NULL;
    int result = begin(run, &tx, ret_error);
    if (result >= 0 && task->collection) result = collection_task_done(&run->run, tx, &detail, ret_error);
    if (result >= 0 && text_equal(task->kind, "delete"))
        result = engine_make_inactive(tx, task->deployment_id, task->id, NULL, ret_error);
    if (result >= 0 && text_equal(task->kind, "batch")) result = end_batch(run, tx, &detail, ret_error);
    if (result >= 0 && text_equal(task->kind, "restart")) result = end_restart(run, tx, ret_error);
    if (result >= 0 && push_task_is(task)) detail = push_task_detail(task);
    if (result >= 0) result = task_set_status(tx, task->id, TASK_DONE, detail, NULL, ret_error);
    return result < 0 ? result : step_commit(&run->run, TAKE(tx), ret_error);
}

/* ---- the bad end ---- */

struct ending {
    enum task_status status;
    struct error *error; /* NULL when canceled */
};

/* A step may see the cancel in the store before the engine's thread has: whoever sees it first, it is one. */
static bool is_canceled(struct engine_run *run) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->run.task, &state);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int64_t canceled = 0;
    if (state.committed || begin(run, &tx, NULL) < 0) return false;
    store_ask_number(tx, &canceled, NULL, "SELECT cancel_requested FROM tasks WHERE id = ?", "t", run->run.task.id);
    return canceled != 0;
}

static void decide_ending(struct engine_run *run, struct error *error, struct ending *ending) {
    *ending = (struct ending){.status = TASK_FAILED, .error = error};
    enum engine_interruption interruption = engine_interruption_of(run);
    if (interruption == ENGINE_GOES_ON && error->class == ERROR_UNAVAILABLE && is_canceled(run))
        interruption = ENGINE_CANCELED;
    switch (interruption) {
    case ENGINE_CANCELED:
        ending->status = TASK_CANCELED;
        ending->error = NULL;
        error_free(error);
        break;
    case ENGINE_OVERDUE:
        error_wrap(&ending->error, "Deployment task is processing too long.");
        for (struct error *layer = ending->error; layer; layer = layer->cause) layer->class = ERROR_DEPLOYMENT;
        break;
    default:
        /* A rule forbids it: what is in the way is named. */
        if (error->class == ERROR_REFUSED || error->class == ERROR_CONFLICT) ending->status = TASK_REFUSED;
    }
}

/* From here on the task is being undone: another process goes on with that, not with the step. */
static int record_ending(struct engine_run *run, void *context, struct error **ret_error) {
    const struct ending *ending = context;
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->run.task, &state);
    free(state.ending);
    state.ending = text_copy(task_status_name(ending->status));
    _cleanup_free_ char *error_json = ending->error ? json_from_error(ending->error) : NULL;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = begin(run, &tx, ret_error);
    if (result < 0 || (result = step_state_write(tx, &run->run, &state, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE tasks SET error_json = ? WHERE id = ?", "tt", error_json,
                            run->run.task.id)) < 0)
        return result;
    return step_commit(&run->run, TAKE(tx), ret_error);
}

static int undo(struct engine_run *run, void *context, struct error **ret_error) {
    const struct ending *ending = context;
    return engine_undo(&run->run, ending->status, ending->error, ret_error);
}

/* What a former process had begun to undo. */
static bool read_ending(struct engine_run *run, struct ending *ending) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->run.task, &state);
    if (state.committed) engine_set_committed(&run->run);
    if (!state.ending) return false;
    *ending = (struct ending){.status = TASK_FAILED};
    task_status_parse(state.ending, &ending->status);
    if (run->run.task.error_json) ending->error = json_to_error(run->run.task.error_json);
    return true;
}

void engine_work(struct engine_run *run) {
    struct ending ending = {0};
    if (!read_ending(run, &ending)) {
        struct error *error = NULL;
        int result = run_steps(run, &error);
        fetch_claim_release(&run->run);
        if (result >= 0) {
            persist(run, record_done, NULL);
            return;
        }
        if (engine_interruption_of(run) == ENGINE_STOPS || engine_is_stopping(run->engine)) {
            error_free(error);
            return; /* it stays `processing`: the next start goes on */
        }
        decide_ending(run, error, &ending);
        engine_set_undoing(run);
        if (!persist(run, record_ending, &ending)) {
            error_free(ending.error);
            return;
        }
    }
    engine_set_undoing(run);
    persist(run, undo, &ending);
    error_free(ending.error);
}
