/* The engine: which task runs when. One thread of its own looks at the store whenever something changed or a time has
 * come; each task that runs has a worker thread (engine_task.c). Nothing polls: the thread sleeps until it is woken, or
 * until the next time that the rows name (a retire task's not_before, a deadline). */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"
#include "controller/fetch_claims.h"
#include "controller/steps.h"

#define WORKER_STACK_BYTES (1u << 20)
#define PARENTS_MAXIMUM 256 /* tasks on collections at once: a thread each */
#define STORE_RETRY_MS 1000 /* after the store failed: it may be full for a while */

struct note {
    char *replica_id;
    struct note *next;
};

struct engine {
    struct controller *controller;
    pthread_mutex_t mutex, package_gate;
    struct fetch_claims *claims;
    pthread_cond_t woken; /* the engine's thread, and pausing tasks */
    pthread_t thread;
    bool started, wake, stopping;
    uint64_t version; /* counts wakes and ends of runs */
    struct engine_run *runs;
    struct note *notes, **notes_end;
    void (*on_step)(const struct task *task, const char *step, void *context);
    void *context;
};

static void note_replica(const char *replica_id, void *context) {
    struct engine *engine = context;
    struct note *note = mem_new(struct note);
    note->replica_id = text_copy(replica_id);
    pthread_mutex_lock(&engine->mutex);
    *engine->notes_end = note;
    engine->notes_end = &note->next;
    engine->wake = true;
    pthread_cond_broadcast(&engine->woken);
    pthread_mutex_unlock(&engine->mutex);
}

int engine_new(struct controller *controller, struct engine **ret_engine, struct error **ret_error) {
    (void)ret_error;
    struct engine *engine = mem_new(struct engine);
    engine->controller = controller;
    engine->claims = fetch_claims_new();
    engine->notes_end = &engine->notes;
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_mutex_init(&engine->package_gate, NULL);
    pthread_condattr_t kind;
    pthread_condattr_init(&kind);
    pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
    pthread_cond_init(&engine->woken, &kind);
    pthread_condattr_destroy(&kind);
    replicas_observe(controller->replicas, note_replica, engine);
    *ret_engine = engine;
    return 0;
}

void engine_wake(struct engine *engine) {
    if (!engine) return;
    pthread_mutex_lock(&engine->mutex);
    engine->wake = true;
    engine->version++;
    pthread_cond_broadcast(&engine->woken);
    pthread_mutex_unlock(&engine->mutex);
}

void engine_observe(struct engine *engine, void (*on_step)(const struct task *task, const char *step, void *context),
                    void *context) {
    engine->on_step = on_step;
    engine->context = context;
}

void engine_tell_step(struct engine_run *run, const char *step) {
    if (run->engine->on_step) run->engine->on_step(&run->run.task, step, run->engine->context);
}

struct fetch_claims *engine_fetch_claims(struct engine *engine) {
    return engine->claims;
}

void package_gate_lock(struct engine *engine) {
    pthread_mutex_lock(&engine->package_gate);
}

void package_gate_unlock(struct engine *engine) {
    pthread_mutex_unlock(&engine->package_gate);
}

/* ---- interrupting ---- */

/* Whether `interruption` may stop the run now; under the mutex. The engine's stop outranks the others. */
static bool interrupt(struct engine_run *run, enum engine_interruption interruption) {
    bool stops = interruption == ENGINE_STOPS;
    if (run->interruption == ENGINE_STOPS || (!stops && run->interruption != ENGINE_GOES_ON)) return false;
    if (!stops && run->undoing) return false;
    if (interruption == ENGINE_CANCELED && run->committed) return false;
    run->interruption = interruption;
    atomic_store(&run->run.interrupted, true);
    return true;
}

/* Those who wait in replicas or routing, or pause, look at their flag. */
static void wake_waiters(struct engine *engine) {
    replicas_wake(engine->controller->replicas);
    routing_wake(engine->controller->routing);
    indexer_link_wake(engine->controller->indexer);
    pthread_mutex_lock(&engine->mutex);
    pthread_cond_broadcast(&engine->woken);
    pthread_mutex_unlock(&engine->mutex);
}

enum engine_interruption engine_interruption_of(struct engine_run *run) {
    pthread_mutex_lock(&run->engine->mutex);
    enum engine_interruption interruption = run->interruption;
    pthread_mutex_unlock(&run->engine->mutex);
    return interruption;
}

void engine_set_committed(struct step_run *step_run) {
    struct engine_run *run = CONTAINER_OF(step_run, struct engine_run, run);
    pthread_mutex_lock(&run->engine->mutex);
    run->committed = true;
    if (run->interruption == ENGINE_CANCELED) {
        run->interruption = ENGINE_GOES_ON;
        atomic_store(&run->run.interrupted, false);
    }
    pthread_mutex_unlock(&run->engine->mutex);
}

void engine_set_undoing(struct engine_run *run) {
    pthread_mutex_lock(&run->engine->mutex);
    run->undoing = true;
    if (run->interruption != ENGINE_STOPS) {
        run->interruption = ENGINE_GOES_ON;
        atomic_store(&run->run.interrupted, false);
    }
    pthread_mutex_unlock(&run->engine->mutex);
}

bool engine_is_stopping(struct engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    bool stopping = engine->stopping;
    pthread_mutex_unlock(&engine->mutex);
    return stopping;
}

static struct timespec timespec_of(uint64_t monotonic_ms) {
    return (struct timespec){.tv_sec = (time_t)(monotonic_ms / 1000), .tv_nsec = (long)(monotonic_ms % 1000) * 1000000};
}

bool engine_pause(struct engine_run *run, uint64_t pause_ms) {
    struct engine *engine = run->engine;
    struct timespec until = timespec_of(clock_monotonic_ms() + pause_ms);
    pthread_mutex_lock(&engine->mutex);
    while (!atomic_load(&run->run.interrupted))
        if (pthread_cond_timedwait(&engine->woken, &engine->mutex, &until)) break;
    pthread_mutex_unlock(&engine->mutex);
    return !atomic_load(&run->run.interrupted);
}

uint64_t engine_version(struct engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    uint64_t version = engine->version;
    pthread_mutex_unlock(&engine->mutex);
    return version;
}

bool engine_wait_change(struct step_run *run, uint64_t version, uint64_t deadline_ms) {
    struct engine *engine = run->controller->engine;
    struct timespec until = timespec_of(deadline_ms);
    pthread_mutex_lock(&engine->mutex);
    while (engine->version == version && !atomic_load(&run->interrupted))
        if (pthread_cond_timedwait(&engine->woken, &engine->mutex, &until)) break;
    bool changed = engine->version != version;
    pthread_mutex_unlock(&engine->mutex);
    return changed && !atomic_load(&run->interrupted);
}

bool engine_rest(struct engine *engine, uint64_t pause_ms) {
    struct timespec until = timespec_of(clock_monotonic_ms() + pause_ms);
    pthread_mutex_lock(&engine->mutex);
    while (!engine->stopping)
        if (pthread_cond_timedwait(&engine->woken, &engine->mutex, &until)) break;
    bool stopping = engine->stopping;
    pthread_mutex_unlock(&engine->mutex);
    return !stopping;
}

/* ---- running tasks ---- */

static void *work(void *context) {
    struct engine_run *run = context;
    engine_work(run);
    struct engine *engine = run->engine;
    pthread_mutex_lock(&engine->mutex);
    run->finished = true;
    engine->wake = true;
    engine->version++;
    pthread_cond_broadcast(&engine->woken);
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

static bool is_running(struct engine *engine, const char *task_id) {
    for (struct engine_run *run = engine->runs; run; run = run->next)
        if (text_equal(run->run.task.id, task_id)) return true;
    return false;
}

static size_t count_running(struct engine *engine, bool parents) {
    size_t count = 0;
    for (struct engine_run *run = engine->runs; run; run = run->next)
        if (engine_is_parent(&run->run.task) == parents) count++;
    return count;
}

/* Takes the task; false when there is no thread for it now. The list of runs is the engine's thread's own; what others
 * touch in a run is under the mutex. */
static bool start_run(struct engine *engine, struct task *task) {
    struct engine_run *run = mem_new(struct engine_run);
    run->engine = engine;
    run->run.controller = engine->controller;
    run->run.task = *task;
    *task = (struct task){0};
    int64_t left = run->run.task.deadline - clock_wall_ms();
    run->run.deadline_ms =
        run->run.task.deadline ? clock_monotonic_ms() + (uint64_t)(left > 0 ? left : 0) : UINT64_MAX / 2;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
    int failed = pthread_create(&run->thread, &attributes, work, run);
    pthread_attr_destroy(&attributes);
    if (failed) { /* it stays `processing`: the next look finds it without a run */
        log_write(LOG_WARNING, "a task cannot have a thread now", "task", run->run.task.id, NULL);
        task_clear(&run->run.task);
        free(run);
        return false;
    }
    pthread_mutex_lock(&engine->mutex);
    run->next = engine->runs;
    engine->runs = run;
    if (engine->stopping) interrupt(run, ENGINE_STOPS);
    pthread_mutex_unlock(&engine->mutex);
    return true;
}

static void join_finished(struct engine *engine, bool all) {
    pthread_mutex_lock(&engine->mutex);
    struct engine_run **link = &engine->runs, *done = NULL;
    while (*link) {
        struct engine_run *run = *link;
        if (!run->finished && !all) {
            link = &run->next;
            continue;
        }
        *link = run->next;
        run->next = done;
        done = run;
    }
    pthread_mutex_unlock(&engine->mutex);
    while (done) {
        struct engine_run *run = done;
        done = run->next;
        pthread_join(run->thread, NULL);
        task_clear(&run->run.task);
        free(run);
    }
}

/* ---- one look at the store ---- */

/* `processing` tasks: those canceled are interrupted; those of a former process are resumed. */
static int look_at_processing(struct engine *engine, struct store_transaction *tx, struct task **ret_resumed,
                              size_t *ret_count, bool *ret_canceled, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error,
                    "SELECT id, cancel_requested FROM tasks WHERE status = 'processing' AND leader_id IS NULL", "");
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        const char *id = store_text(rows, 0);
        bool canceled = store_number(rows, 1) != 0;
        if (!is_running(engine, id)) {
            struct task task = {0};
            if ((result = task_load(tx, id, &task, ret_error)) < 0) return result;
            *ret_resumed = mem_resize(*ret_resumed, *ret_count + 1, sizeof **ret_resumed);
            (*ret_resumed)[(*ret_count)++] = task;
            continue;
        }
        pthread_mutex_lock(&engine->mutex);
        for (struct engine_run *run = engine->runs; run; run = run->next)
            if (canceled && text_equal(run->run.task.id, id) && interrupt(run, ENGINE_CANCELED)) *ret_canceled = true;
        pthread_mutex_unlock(&engine->mutex);
    }
    return result;
}

struct look {
    struct task *tasks; /* to be started after the commit */
    size_t count;
    bool changed, canceled;
    int64_t now, generation, next_wall_ms;
};

static void look_clear(struct look *look) {
    for (size_t i = 0; i < look->count; i++) task_clear(&look->tasks[i]);
    free(look->tasks);
}

static size_t count_claimed(const struct look *look, bool parents) {
    size_t count = 0;
    for (size_t i = 0; i < look->count; i++)
        if (engine_is_parent(&look->tasks[i]) == parents) count++;
    return count;
}

static struct engine_room room_for(struct engine *engine, const struct look *look) {
    return (struct engine_room){
        .for_workers =
            count_running(engine, false) + count_claimed(look, false) < engine->controller->settings->task_workers,
        .for_parents = count_running(engine, true) + count_claimed(look, true) < PARENTS_MAXIMUM,
    };
}

static int claim_all(struct engine *engine, struct store_transaction *tx, struct look *look, struct error **ret_error) {
    int result = 0;
    for (;;) {
        struct engine_room room = room_for(engine, look);
        struct task task = {0};
        if ((result = engine_claim(engine->controller->settings, tx, look->now, &room, &task, ret_error)) <= 0) break;
        look->tasks = mem_resize(look->tasks, look->count + 1, sizeof *look->tasks);
        look->tasks[look->count++] = task;
        look->changed = true;
    }
    return result;
}

static int look_at_store(struct engine *engine, struct look *look, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(engine->controller->store, &tx, ret_error);
    if (result < 0) return result;
    while ((result = engine_fail_overdue(tx, ret_error)) > 0) look->changed = true;
    if (result < 0 ||
        (result = look_at_processing(engine, tx, &look->tasks, &look->count, &look->canceled, ret_error)) < 0 ||
        (result = claim_all(engine, tx, look, ret_error)) < 0 ||
        (result = store_ask_number(tx, &look->generation, ret_error, "SELECT generation FROM routing WHERE one = 1",
                                   "")) < 0 ||
        (result = engine_next_time(tx, look->now, &look->next_wall_ms, ret_error)) < 0)
        return result;
    return look->changed ? store_commit(TAKE(tx), ret_error) : 0;
}

/* Interrupts what passed its deadline; the next one's time, or UINT64_MAX. */
static uint64_t interrupt_overdue(struct engine *engine, bool *ret_any) {
    uint64_t now = clock_monotonic_ms(), next = UINT64_MAX;
    pthread_mutex_lock(&engine->mutex);
    for (struct engine_run *run = engine->runs; run; run = run->next) {
        if (run->interruption != ENGINE_GOES_ON || run->undoing) continue;
        if (run->run.deadline_ms <= now)
            *ret_any |= interrupt(run, ENGINE_OVERDUE);
        else if (run->run.deadline_ms < next)
            next = run->run.deadline_ms;
    }
    pthread_mutex_unlock(&engine->mutex);
    return next;
}

static void log_error(const char *what, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, what, "error", text, NULL);
}

static void tell_of_change(struct engine *engine) {
    if (engine->controller->api) api_changed(engine->controller->api);
    pthread_mutex_lock(&engine->mutex);
    engine->version++;
    pthread_cond_broadcast(&engine->woken);
    pthread_mutex_unlock(&engine->mutex);
}

/* Does what there is to do now; when to look again at the latest. */
static uint64_t dispatch(struct engine *engine) {
    __attribute__((cleanup(look_clear))) struct look look = {.now = clock_wall_ms(), .next_wall_ms = INT64_MAX};
    _cleanup_error_ struct error *error = NULL;
    join_finished(engine, false);
    if (look_at_store(engine, &look, &error) < 0) {
        log_error("the task engine cannot read or write the store; it tries again", error);
        return clock_monotonic_ms() + STORE_RETRY_MS;
    }
    bool woken = look.canceled, started = true;
    for (size_t i = 0; i < look.count; i++) started &= start_run(engine, &look.tasks[i]);
    uint64_t next = interrupt_overdue(engine, &woken);
    if (!started && clock_monotonic_ms() + STORE_RETRY_MS < next) next = clock_monotonic_ms() + STORE_RETRY_MS;
    if (woken) wake_waiters(engine);
    routing_announce(engine->controller->routing, (uint64_t)look.generation);
    if (look.changed) tell_of_change(engine);
    if (look.next_wall_ms == INT64_MAX) return next;
    int64_t wait = look.next_wall_ms - clock_wall_ms();
    uint64_t at = clock_monotonic_ms() + (wait > 0 ? (uint64_t)wait : 1);
    return at < next ? at : next;
}

static struct note *take_notes(struct engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    struct note *notes = engine->notes;
    engine->notes = NULL;
    engine->notes_end = &engine->notes;
    pthread_mutex_unlock(&engine->mutex);
    return notes;
}

static void put_notes_back(struct engine *engine, struct note *notes) {
    struct note **end = &notes;
    while (*end) end = &(*end)->next;
    pthread_mutex_lock(&engine->mutex);
    *end = engine->notes;
    if (!engine->notes) engine->notes_end = end;
    engine->notes = notes;
    pthread_mutex_unlock(&engine->mutex);
}

/* False when the store failed: what is left is done later. */
static bool work_off_notes(struct engine *engine) {
    struct note *notes = take_notes(engine);
    while (notes) {
        _cleanup_error_ struct error *error = NULL;
        if (health_replica_changed(engine->controller, notes->replica_id, &error) < 0) {
            log_error("the change of a replica cannot be recorded now", error);
            put_notes_back(engine, notes);
            return false;
        }
        struct note *done = notes;
        notes = done->next;
        free(done->replica_id);
        free(done);
    }
    return true;
}

static void *engine_main(void *context) {
    struct engine *engine = context;
    for (;;) {
        pthread_mutex_lock(&engine->mutex);
        engine->wake = false;
        bool stopping = engine->stopping;
        pthread_mutex_unlock(&engine->mutex);
        if (stopping) return NULL;
        bool noted = work_off_notes(engine);
        uint64_t next = dispatch(engine), soon = clock_monotonic_ms() + STORE_RETRY_MS;
        if (!noted && soon < next) next = soon;
        struct timespec until = timespec_of(next == UINT64_MAX ? UINT64_MAX / 2000 : next);
        pthread_mutex_lock(&engine->mutex);
        while (!engine->wake && !engine->stopping)
            if (pthread_cond_timedwait(&engine->woken, &engine->mutex, &until)) break;
        pthread_mutex_unlock(&engine->mutex);
    }
}

/* ---- life ---- */

int engine_reconcile(struct engine *engine, struct error **ret_error) {
    int result = reconcile_run(engine->controller, ret_error);
    if (result < 0) return error_wrap(ret_error, "put the record right with what lives");
    int failed = pthread_create(&engine->thread, NULL, engine_main, engine);
    if (failed) return error_set_errno(ret_error, ERROR_UNAVAILABLE, failed, "start the task engine's thread");
    pthread_mutex_lock(&engine->mutex);
    engine->started = true;
    pthread_mutex_unlock(&engine->mutex);
    return 0;
}

void engine_stop(struct engine *engine) {
    if (!engine) return;
    pthread_mutex_lock(&engine->mutex);
    engine->stopping = true;
    for (struct engine_run *run = engine->runs; run; run = run->next) interrupt(run, ENGINE_STOPS);
    pthread_mutex_unlock(&engine->mutex);
    wake_waiters(engine);
}

void engine_free(struct engine *engine) {
    if (!engine) return;
    engine_stop(engine);
    if (engine->started) pthread_join(engine->thread, NULL);
    engine_stop(engine); /* what the thread started while it was told to stop */
    join_finished(engine, true);
    replicas_observe(engine->controller->replicas, NULL, NULL);
    for (struct note *note = take_notes(engine), *next; note; note = next) {
        next = note->next;
        free(note->replica_id);
        free(note);
    }
    pthread_cond_destroy(&engine->woken);
    fetch_claims_free(engine->claims);
    pthread_mutex_destroy(&engine->package_gate);
    pthread_mutex_destroy(&engine->mutex);
    free(engine);
}
