/* What the controller's own files share.
 *
 * Threads. The loop thread runs HTTP, the supervisor's channel and timers, and never waits (P6). API calls run on
 * libuv's pool, one at a time in the store's mutex. Each running task has a worker thread of its own, on which its
 * steps block. The store is the only shared truth; what lives in memory besides it (replicas.c: who runs; routing.c:
 * which gateway uses what) is guarded by one mutex each, with a condition variable for the steps that wait.
 *
 * The split: operation_*.c turn a request into rows (deployment, revision, task, event) in one transaction and then
 * call engine_wake(). The engine (engine.c, step_*.c) does the work that the rows ask for. Neither calls into the
 * other's insides.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/error.h"
#include "base/json.h"
#include "base/settings.h"
#include "package/package.h"
#include "registry/registry.h"
#include "store/store.h"
#include "target/target.h"

enum deployment_status {
#define DEPLOYMENT_STATUS(constant, name) DEPLOYMENT_##constant,
#include "controller/statuses.def"
#undef DEPLOYMENT_STATUS
    DEPLOYMENT_STATUS_COUNT
};
enum task_status {
#define TASK_STATUS(constant, name, finished) TASK_##constant,
#include "controller/statuses.def"
#undef TASK_STATUS
    TASK_STATUS_COUNT
};

struct engine;
struct indexer_link;
struct outbox;
struct registries;
struct replicas;
struct routing;
struct api;

struct controller {
    const struct settings *settings;
    uv_loop_t *loop;
    struct store *store;
    const struct package_ops *packages;
    struct package_store *package_store;
    const struct target_ops *target_ops;
    struct target *target;
    struct registry_context registry; /* roots; what is in force with the servers: registries_context() */
    struct registries *registries; /* registries.h */
    struct replicas *replicas;
    struct routing *routing;
    struct engine *engine;
    struct indexer_link *indexer; /* collections.h */
    struct outbox *outbox; /* collections.h */
    struct api *api;
};

/* ---- records (record_deployment.c) ---- */

/* A row of deployments joined with its wanted revision; all strings owned. */
struct deployment {
    char *id, *name, *message, *error_json, *tags_json, *task_id;
    enum deployment_status status;
    int64_t revision, serving_revision; /* serving_revision 0: nothing serves */
    int64_t replicas, memory_bytes, gpu;
    double cpu;
    int64_t created_at, updated_at, deleted_at;
    char *model_uri, *target_json, *recipe_json; /* of the wanted revision */
    char *deployed_model_version; /* resolved_uri of the serving revision, or NULL */
};
void deployment_clear(struct deployment *deployment);
#define _cleanup_deployment_ __attribute__((cleanup(deployment_clear)))

const char *deployment_status_name(enum deployment_status status);
bool deployment_status_parse(const char *name, enum deployment_status *ret_status);
/* By id or by any name that answers (inactive ones by id only). RESOURCE_NOT_FOUND otherwise. */
int deployment_load(struct store_transaction *tx, const char *id_or_name, struct deployment *ret_deployment,
                    struct error **ret_error);
/* Newest first, then id; status NULL: all. *ret_total counts all pages. Free with deployment_list_free(). */
int deployment_list(struct store_transaction *tx, const char *status, int64_t limit, int64_t offset,
                    struct deployment **ret_deployments, size_t *ret_count, int64_t *ret_total,
                    struct error **ret_error);
void deployment_list_free(struct deployment *deployments, size_t count);
/* The only function that changes a status: row, updated_at and event in the caller's transaction. message and error may
 * be NULL (then those columns become NULL). */
int deployment_set_status(struct store_transaction *tx, const char *deployment_id, enum deployment_status status,
                          const char *message, const struct error *error, const char *task_id,
                          struct error **ret_error);
/* Changes the message alone (what is recorded but has no meaning here, replicas that are down, …). */
int deployment_set_message(struct store_transaction *tx, const char *deployment_id, const char *message,
                           struct error **ret_error);

struct revision {
    int64_t number, served, created_at;
    char *deployment_id, *model_uri, *resolved_uri, *package_digest, *encoder_digest, *target_json, *recipe_json,
        *facts_json;
};
void revision_clear(struct revision *revision);
#define _cleanup_revision_ __attribute__((cleanup(revision_clear)))
int revision_load(struct store_transaction *tx, const char *deployment_id, int64_t number,
                  struct revision *ret_revision, struct error **ret_error);

/* One event in the caller's transaction (S4). data_json may be NULL. */
int event_add(struct store_transaction *tx, const char *kind, const char *deployment_id, const char *task_id,
              const char *message, const char *data_json, struct error **ret_error);

/* ---- tasks (record_task.c) ---- */

struct task {
    char *id, *kind, *step, *deployment_id, *model_id, *parent_id, *parent_label, *leader_id, *collection, *undo_json,
        *state_json, *metadata_json, *detail, *error_json;
    enum task_status status;
    int64_t revision, attempts, cancel_requested, not_before, deadline, created_at, updated_at;
    int64_t progress_done, progress_total, progress_failed;
    double progress_rate;
};
void task_clear(struct task *task);
#define _cleanup_task_ __attribute__((cleanup(task_clear)))
const char *task_status_name(enum task_status status);
bool task_status_parse(const char *name, enum task_status *ret_status);
bool task_status_is_finished(enum task_status status);
/* RESOURCE_NOT_FOUND when there is none. */
int task_load(struct store_transaction *tx, const char *id, struct task *ret_task, struct error **ret_error);
/* Inserts it `pending` with its event: id (made when NULL, then set), kind, deployment_id, revision, model_id,
 * parent_*, leader_id, collection (its name), undo_json, state_json, metadata_json, not_before are read. deadline: now
 * + the pending deadline for deploy kinds. */
int task_insert(struct store_transaction *tx, const struct settings *settings, struct task *task,
                struct error **ret_error);
/* The only function that changes a status: row, event, and (when finished) the tasks that have it as leader_id, which
 * end the same way. detail and error may be NULL. */
int task_set_status(struct store_transaction *tx, const char *task_id, enum task_status status, const char *detail,
                    const struct error *error, struct error **ret_error);

/* What undo_json holds: {"status","message","revision","replicas","cpu","memory_bytes","gpu","tags_json","name"} as
 * they were before the operation; a refusal or a cancel puts all of it back (names too); undo_json then holds what the
 * operation had set, so that a restart of the task can set it again. A failure puts back nothing and keeps
 * serving_revision as it is. A task without undo_json (deploy) leaves the deployment `failed` when refused or failed; a
 * canceled deploy is undone to `inactive` through the steps of delete. */
int operation_undo(struct store_transaction *tx, const struct task *task, const char *reason, struct error **ret_error);

/* ---- engine (engine.c): works tasks off ---- */

int engine_new(struct controller *controller, struct engine **ret_engine, struct error **ret_error);
/* Compares the record with what lives (replicas_is_synced first), resumes processing tasks from their recorded steps,
 * starts what is missing and stops what nobody owns. Called once, before the API answers. Blocking. */
int engine_reconcile(struct engine *engine, struct error **ret_error);
/* After a transaction that made, changed or canceled tasks. Any thread; returns at once. */
void engine_wake(struct engine *engine);
/* Stops taking tasks; running ones are interrupted and stay `processing` (the next start goes on from their step). */
void engine_stop(struct engine *engine);
void engine_free(struct engine *engine);
/* Marks the task and its children: pending ones end canceled at once, a processing one is interrupted and undoes what
 * it did. CONFLICT when it is finished. In the caller's transaction; engine_wake() afterwards. */
int engine_cancel(struct store_transaction *tx, const char *task_id, const char *reason, struct error **ret_error);

/* One step's run: what step_<name>() gets. */
struct step_run {
    struct controller *controller;
    struct task task; /* as loaded before the step */
    atomic_bool interrupted; /* canceled or stopping: a blocking step gives up with UNAVAILABLE "canceled" soon */
    uint64_t deadline_ms; /* clock_monotonic_ms() */
};

/* ---- admission (admission.c, S7) ---- */

struct admission {
    uint64_t needed_bytes; /* for one replica */
    uint64_t free_bytes, budget_bytes;
    char *explanation; /* "1.2 GiB for 1 replica (…); 0.4 GiB of 4.0 GiB (80 % of 5.0 GiB) are free"; caller frees */
};
/* Whether `count` replicas of this package fit now; REFUSED with the figures otherwise. package_digest may have been
 * seen running before (packages.seen_memory_bytes). Never counts replicas of `warm` state, which are evicted when
 * needed. */
int admission_check(struct controller *controller, struct store_transaction *tx, const char *package_digest,
                    int64_t memory_bytes, int64_t count, struct admission *ret_admission, struct error **ret_error);

/* ---- what runs (replicas.c) ---- */

struct replica_view {
    bool known, up, final_down;
    uint64_t incarnation, pid, restarts;
    char *address; /* where it was up last */
    char *report_json, *cause, *error_json, *log_tail; /* owned copies; may be NULL */
    /* What nobody has recorded yet: the cause of its last death, and that it came up after that. Numbered, so that who
     * records them can say up to where (replicas_told); 0: nothing. */
    char *death;
    uint64_t news, death_news, came_news;
};
void replica_view_clear(struct replica_view *view);
/* Any thread. */
void replicas_get(struct replicas *replicas, const char *replica_id, struct replica_view *ret_view);
/* The news up to view->news are recorded. Any thread. */
void replicas_told(struct replicas *replicas, const char *replica_id, uint64_t news);
size_t replicas_count_up(struct replicas *replicas, const char *const *replica_ids, size_t count);

/* ---- API (api.c and api_*.c): HTTP on <state>/run/controller.sock ---- */

int api_new(struct controller *controller, struct api **ret_api, struct error **ret_error);
/* Opens the socket: from here on it answers. Called when engine_reconcile() has returned. */
int api_listen(struct api *api, struct error **ret_error);
/* Something in the store changed: those who wait for a deployment or a task look again. Any thread. */
void api_changed(struct api *api);
void api_close(struct api *api);
/* When the loop has run its last and the engine, which tells it of changes, is gone. */
void api_free(struct api *api);
/* Answers to a list_processes that api_processes.c sent; loop thread. Other messages: returns false. */
struct wire_message;
bool api_take_message(struct api *api, const struct wire_message *message);
/* Sends a message to the supervisor; loop thread only (controller.c). */
void controller_say(struct controller *controller, const struct wire_message *message);
/* Proportional set size of a process in bytes, 0 when it has gone (api_processes.c). Blocking. */
uint64_t process_memory_bytes(uint64_t pid);
