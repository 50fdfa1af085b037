/* What the engine's own files share: who runs (replicas.c), which gateway uses what (routing.c), pins, health, the work
 * of one task (engine_task.c, engine_undo.c), reconciliation and retention. The API's files do not include this.
 *
 * Order of locks, outermost first: the engine's package gate, the store's mutex; the engine's own mutex, replicas' and
 * routing's are leaves: nothing is called while they are held. No step waits for anything inside a transaction.
 */
#pragma once
#include <pthread.h>

#include "controller/controller-internal.h"

/* ---- who runs (replicas.c) ---- */

struct replicas *replicas_new(void);
void replicas_free(struct replicas *replicas);
/* `on_change` is told the id after each event, on the thread that brought it, with no lock held. */
void replicas_observe(struct replicas *replicas, void (*on_change)(const char *replica_id, void *context),
                      void *context);
/* From the target's listener. */
void replicas_take_event(struct replicas *replicas, const struct target_event *event);
/* A start is about to be asked for: what was said of a former life of this id (final_down) no longer counts. */
void replicas_expect(struct replicas *replicas, const char *replica_id);
/* Its row is gone: so is what was known of it. */
void replicas_forget(struct replicas *replicas, const char *replica_id);
bool replicas_is_synced(struct replicas *replicas);
/* Those that may have a process: known and not finally down. Caller frees each and the array. */
char **replicas_list(struct replicas *replicas, size_t *ret_count);
/* Counts every event, so that a waiter can look, and then wait for what it has not seen. */
uint64_t replicas_version(struct replicas *replicas);
/* Waits until the version is another one. False at the deadline (clock_monotonic_ms()) or when *interrupted. */
bool replicas_wait_change(struct replicas *replicas, uint64_t version, uint64_t deadline_ms,
                          const atomic_bool *interrupted);
/* Something besides events changed (somebody's `interrupted`, a reservation): all who wait look again. */
void replicas_wake(struct replicas *replicas);
/* Why it is down, as an error with its causes: the exit, what the runner said, the last lines of its log, and whether
 * it looks like want of memory. DEPLOYMENT; caller frees. */
struct error *replica_last_words(const char *replica_id, const struct replica_view *view);

/* ---- which gateway uses what (routing.c, R2) ---- */

/* `announce` carries a generation to the gateways (controller.c: over the supervisor); any thread. */
struct routing *routing_new(void (*announce)(uint64_t generation, void *context), void *context);
void routing_free(struct routing *routing);
/* The routes in the database have this generation. Any thread; lower and equal ones are passed over. */
void routing_announce(struct routing *routing, uint64_t generation);
void routing_gateway_up(struct routing *routing, uint64_t gateway_id);
void routing_gateway_down(struct routing *routing, uint64_t gateway_id);
void routing_gateway_uses(struct routing *routing, uint64_t gateway_id, uint64_t generation, uint64_t lowest);

enum routing_outcome { ROUTING_REACHED, ROUTING_DEADLINE, ROUTING_INTERRUPTED };
/* Until every known gateway routes by `generation` or a later one. A gateway that is gone uses nothing. */
enum routing_outcome routing_wait_acknowledged(struct routing *routing, uint64_t generation, uint64_t deadline_ms,
                                               const atomic_bool *interrupted);
/* The same, and no request uses an earlier one any more. */
enum routing_outcome routing_wait(struct routing *routing, uint64_t generation, uint64_t deadline_ms,
                                  const atomic_bool *interrupted);
void routing_wake(struct routing *routing);

/* ---- rows of replicas (replica_rows.c) ---- */

struct replica_row {
    char *id, *task_id, *state;
    int64_t revision, reserved_bytes, memory_limit_bytes, warm_until, created_at;
    double cpu;
    bool idle; /* it only fills an index: it gets what nothing else wants of the processors */
};
struct replica_rows {
    struct replica_row *rows;
    size_t count;
};
void replica_rows_clear(struct replica_rows *rows);
#define _cleanup_replica_rows_ __attribute__((cleanup(replica_rows_clear)))
/* All of a deployment, oldest first. */
int replica_rows_load(struct store_transaction *tx, const char *deployment_id, struct replica_rows *ret_rows,
                      struct error **ret_error);
/* Keeps those for which `keep` says so. */
void replica_rows_filter(struct replica_rows *rows, bool (*keep)(const struct replica_row *row, const void *context),
                         const void *context);
/* A new row in state `starting`: the reservation. */
int replica_row_insert(struct store_transaction *tx, const char *deployment_id, const char *task_id,
                       const struct replica_row *row, struct error **ret_error);
/* State, owner and event; `why` goes into the event. */
int replica_row_set_state(struct store_transaction *tx, const char *deployment_id, const struct replica_row *row,
                          const char *state, const char *task_id, const char *why, struct error **ret_error);
int replica_row_delete(struct store_transaction *tx, const char *deployment_id, const char *replica_id,
                       const char *task_id, const char *why, struct error **ret_error);
/* Its row has gone: nobody can ask for its log any more (replica_logs.c). */
void replica_log_remove(struct controller *controller, const char *replica_id);
/* The last 256 KiB of it at most, whole lines, of the file that was set aside too. Caller frees. Blocking. */
char *replica_log_tail(struct controller *controller, const char *replica_id);
/* The logs of replicas without a row. At the start, before anything runs. */
int replica_logs_remove_stale(struct controller *controller, struct store_transaction *tx, struct error **ret_error);
/* Asks the target to have it, unless it is up. Any thread, outside transactions. */
int replica_start(struct controller *controller, const struct deployment *deployment, const struct revision *revision,
                  const struct replica_row *row, struct error **ret_error);

/* ---- admission beyond controller-internal.h (admission.c) ---- */

/* What one replica of the package is reckoned to need: what was seen of it, else 64 MiB + 2 × its size. */
uint64_t admission_estimate(uint64_t size_bytes, uint64_t seen_bytes);
/* Of `present` bytes reserved, those whose replicas are about to go (draining, stopping). */
int admission_leaving(struct store_transaction *tx, uint64_t *ret_bytes, struct error **ret_error);
/* Marks warm replicas `stopping` for task_id until `admission` and what is warm fit together; the retire tasks of the
 * sets that went end done. *ret_note: "…stopped early…" or NULL; caller frees. After admission_check() and the rows'
 * insertion. */
int admission_evict(struct controller *controller, struct store_transaction *tx, const char *task_id,
                    uint64_t budget_bytes, char **ret_note, struct error **ret_error);
/* The same arithmetic with `spare_bytes` counted as free (recreate: what the old revision holds). */
int admission_check_with(struct controller *controller, struct store_transaction *tx, const char *package_digest,
                         int64_t memory_bytes, int64_t count, uint64_t spare_bytes, struct admission *ret_admission,
                         struct error **ret_error);

/* ---- pins and packages (pins.c, S6) ---- */

int pin_package(struct store_transaction *tx, const char *digest, const char *holder, const char *task_id,
                struct error **ret_error);
int pin_release(struct store_transaction *tx, const char *holder, struct error **ret_error);
/* Releases what the revision (0: every revision of the deployment) and the task (NULL: none) hold, and removes the
 * packages that nothing holds then. Takes the package gate. Blocking. */
int pins_let_go(struct controller *controller, const char *deployment_id, int64_t revision, const char *task_id,
                struct error **ret_error);
/* Removes the unused packages that the budget has no room for: after a change of it, and every hour. Takes the gate.
 * Blocking. */
int pins_trim(struct controller *controller, struct error **ret_error);
/* Their rows alone, in the caller's transaction: reconciliation removes what has no row from the disk. */
int pins_drop_excess_rows(struct controller *controller, struct store_transaction *tx, struct error **ret_error);
/* Held while a package is pinned that may be on its way out, and while one is removed. */
void package_gate_lock(struct engine *engine);
void package_gate_unlock(struct engine *engine);
struct fetch_claims *engine_fetch_claims(struct engine *engine); /* fetch_claims.h */

/* ---- health (health.c) ---- */

/* A replica's state changed: row, routes, the deployment's message and status follow. Blocking. */
int health_replica_changed(struct controller *controller, const char *replica_id, struct error **ret_error);
/* Message and status of a deployment from its rows and what runs; only when it is active or failed. In the caller's
 * transaction. */
int health_update(struct controller *controller, struct store_transaction *tx, const char *deployment_id,
                  struct error **ret_error);
/* What of the serving revision's target config has no meaning here, or NULL; caller frees. */
char *health_base_message(struct controller *controller, const char *target_json);

/* ---- which task is next (engine_choose.c) ---- */

/* Tasks on collections wait for others, and batch jobs take long: they have threads of their own, beside the workers,
 * and no deadline. */
bool engine_is_parent(const struct task *task);
/* Which tasks there are threads for. */
struct engine_room {
    bool for_workers, for_parents;
};
/* 1 with the task, now `processing`; 0 when there is none that may run at `now` (wall clock). */
int engine_claim(const struct settings *settings, struct store_transaction *tx, int64_t now,
                 const struct engine_room *room, struct task *ret_task, struct error **ret_error);
/* Deploy tasks that waited too long fail before they began. 1: one did; 0: none. */
int engine_fail_overdue(struct store_transaction *tx, struct error **ret_error);
/* The next time that a row names; INT64_MAX when none does. `now` as for engine_claim(). */
int engine_next_time(struct store_transaction *tx, int64_t now, int64_t *ret_wall_ms, struct error **ret_error);

/* ---- the work of one task (engine.c, engine_task.c, engine_undo.c) ---- */

enum engine_interruption { ENGINE_GOES_ON, ENGINE_STOPS, ENGINE_CANCELED, ENGINE_OVERDUE };

struct engine_run {
    struct step_run run; /* what steps see */
    struct engine *engine;
    pthread_t thread;
    enum engine_interruption interruption; /* under the engine's mutex, as are the next three */
    bool committed; /* past the point of no return: a cancel comes too late */
    bool undoing; /* only the engine's stop interrupts */
    bool finished;
    struct engine_run *next;
};

/* The thread's body: runs the task to its end, or until the engine stops. */
void engine_work(struct engine_run *run);
/* Pauses a task's thread; false when it was interrupted. */
bool engine_pause(struct engine_run *run, uint64_t pause_ms);
/* Pauses whoever cannot go on, canceled or not; false when the engine stops. */
bool engine_rest(struct engine *engine, uint64_t pause_ms);
enum engine_interruption engine_interruption_of(struct engine_run *run);
/* From here on the run is not canceled any more (a cancel that came just now is forgotten). */
void engine_set_committed(struct step_run *run);
/* From here on only the engine's stop interrupts the run. */
void engine_set_undoing(struct engine_run *run);
bool engine_is_stopping(struct engine *engine);
/* Counts what may have changed a task, so that a task that waits for others can look, and then wait for what it has not
 * seen. */
uint64_t engine_version(struct engine *engine);
/* Until the version is another one. False at the deadline (clock_monotonic_ms()) or when the run is interrupted. */
bool engine_wait_change(struct step_run *run, uint64_t version, uint64_t deadline_ms);
/* Tests stop the world here: called on the task's thread after a step was recorded and before it begins. */
void engine_observe(struct engine *engine, void (*on_step)(const struct task *task, const char *step, void *context),
                    void *context);
void engine_tell_step(struct engine_run *run, const char *step);

/* Puts right what the task did, then ends it so and its deployment accordingly. UNAVAILABLE: the engine stops; the next
 * start goes on. */
int engine_undo(struct step_run *run, enum task_status ending, const struct error *why, struct error **ret_error);
/* The deployment is gone: `inactive`, its names free. */
int engine_make_inactive(struct store_transaction *tx, const char *deployment_id, const char *task_id,
                         const char *message, struct error **ret_error);

int reconcile_run(struct controller *controller, struct error **ret_error);
/* Deletes what is older than the settings keep, and checkpoints. Blocking. */
int retention_run(struct controller *controller, struct error **ret_error);

/* The first column of the first row: 1 and *ret_number, 0 when there is no row, or negative. */
#define store_ask_number(tx, ret_number, ret_error, ...)                                                               \
    ({                                                                                                                 \
        _cleanup_rows_ struct store_rows *rows_ = NULL;                                                                \
        int result_ = store_query((tx), &rows_, (ret_error), __VA_ARGS__);                                             \
        if (result_ >= 0 && (result_ = store_next(rows_, (ret_error))) > 0) *(ret_number) = store_number(rows_, 0);    \
        result_;                                                                                                       \
    })
