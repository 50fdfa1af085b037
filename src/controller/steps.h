/* Steps: the units of which every long operation is made (steps.def lists them and, per kind of task, their order).
 *
 * A step runs on its task's thread and may block; it looks at run->interrupted wherever it waits. It is idempotent:
 * after a kill at any moment it is run again from its beginning, by another process, and must come to the same end.
 * What it has to remember for that stands in the rows it writes and in struct step_state, which is kept as
 * tasks.state_json and written in the same transaction as what it tells of. docs/internals/deployment-life.md has the
 * table of crash points.
 *
 * Errors: REFUSED ends the task refused; transient ones are tried again by the engine; UNAVAILABLE is what an
 * interrupted step returns, whatever interrupted it.
 */
#pragma once
#include "controller/engine-internal.h"

#define STEP(name) int step_##name(struct step_run *run, struct error **ret_error);
#include "controller/steps.def"
#undef STEP

typedef int (*step_function)(struct step_run *run, struct error **ret_error);
/* NULL when there is none of that name. */
step_function step_find(const char *name);
/* The names of the task's steps, ended by NULL, or NULL for a kind that this engine does not work on. */
const char *const *step_pipeline(const struct task *task);

/* False for a step that this task has no need of, which is then passed over. */
bool step_is_wanted(struct step_run *run, const char *name);

/* A task's durable working memory. All owned. */
struct step_state {
    char *digest, *resolved_uri; /* fetch, verify */
    char *facts_json; /* what the source says of the model, or NULL */
    char *fingerprint; /* of the source, when it was the same before and after it was fetched */
    int64_t size_bytes, file_count;
    bool present; /* the package was there already: nothing to fetch */
    int64_t generation; /* of the last change of routes that this task made; 0: none */
    bool committed; /* the route has moved: from here there is no way back */
    int64_t old_revision, old_count, old_reserved, old_limit; /* recreate: what was stopped */
    double old_cpu;
    bool recreated; /* the old revision was taken down before the new one came up */
    char *note; /* what the deployment's message shall say besides */
    char *ending; /* "failed", "refused", "canceled": being undone; tasks.error_json has the cause */
    char *work_json; /* of a task that works on a collection: reindex_work.h */
};
void step_state_clear(struct step_state *state);
#define _cleanup_state_ __attribute__((cleanup(step_state_clear)))
/* Of run->task. */
void step_state_read(const struct task *task, struct step_state *ret_state);
/* Writes it in the transaction and into run->task. */
int step_state_write(struct store_transaction *tx, struct step_run *run, const struct step_state *state,
                     struct error **ret_error);
/* What step_state_write() writes; caller frees. */
char *step_state_as_json(const struct step_state *state);
/* Appends a sentence to state->note. */
void step_state_note(struct step_state *state, const char *sentence);

/* UNAVAILABLE when the run was interrupted. */
int step_check(struct step_run *run, struct error **ret_error);
int step_canceled(struct error **ret_error);
/* A transaction in which the task is known not to be canceled (steps before the point of no return). */
int step_begin(struct step_run *run, struct store_transaction **ret_tx, struct error **ret_error);
/* Commits, then tells those who wait. */
int step_commit(struct step_run *run, struct store_transaction *tx, struct error **ret_error);
/* Task's deployment and the revision it works towards; of a task of kind `package` only model_uri and recipe_json. */
int step_load(struct step_run *run, struct store_transaction *tx, struct deployment *ret_deployment,
              struct revision *ret_revision, struct error **ret_error);

/* generation + 1 in the transaction; *ret_generation is announced after the commit. */
int step_next_generation(struct store_transaction *tx, int64_t *ret_generation, struct error **ret_error);
/* Makes route_replicas of the deployment those rows that are `serving`. */
int step_route_serving(struct store_transaction *tx, const char *deployment_id, struct error **ret_error);
/* Until no gateway uses an earlier generation, or the drain deadline, which is no error. */
int step_wait_drained(struct step_run *run, int64_t generation, struct error **ret_error);
/* Until every gateway routes by it; a gateway that does not answer is not waited for longer than 10 s (R3). */
int step_wait_acknowledged(struct step_run *run, int64_t generation, struct error **ret_error);

/* Stops every `stopping` row of the deployment that this task owns, waits until each is reaped and deletes it. */
int step_finish_stopping(struct step_run *run, struct error **ret_error);
/* Where the engine's deadline for the whole task is the only one: it interrupts. */
#define STEP_NO_DEADLINE (UINT64_MAX / 2)

/* Asks the target for the rows of this task and revision in `starting` or `ready` that are not there. */
int step_start_coming(struct step_run *run, int64_t revision, struct error **ret_error);
/* The same, and waits until all are up. DEPLOYMENT with last
 * words when one is finally down. */
int step_wait_up(struct step_run *run, int64_t revision, uint64_t deadline_ms, struct error **ret_error);
/* Rows of this task and revision in `starting` become `ready`; what their runner reported is recorded (facts, memory).
 */
int step_record_ready(struct step_run *run, int64_t revision, struct error **ret_error);
/* Keeps the most memory that the deployment's replicas were seen to use (PSS) for their packages. */
void step_record_memory(struct step_run *run);

/* Whether it is a coming row (`starting`, `ready`) of this task and revision; and of those states at all. */
bool step_is_coming(const struct replica_row *row, const char *task_id, int64_t revision);
/* The rows of the task in `from` become `to`. */
int step_move_rows(struct store_transaction *tx, struct step_run *run, const char *from, const char *to,
                   const char *why, struct error **ret_error);

/* Whether the revision's target config asks for `"strategy": "recreate"`. */
bool step_is_recreate(const struct revision *revision);
/* Ends the pending retire tasks of the deployment (revision 0: of all its revisions) `done` with that detail. */
int step_end_retire_tasks(struct store_transaction *tx, const char *deployment_id, int64_t revision,
                          enum task_status status, const char *detail, struct error **ret_error);
