/* stop: every replica of the deployment ends (delete), or those whose rollback window is over (retire). */
#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

static int mark_all(struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    const char *id = run->task.deployment_id;
    int result =
        store_run(tx, NULL, ret_error, "UPDATE replicas SET state = 'stopping', task_id = ? WHERE deployment_id = ?",
                  "tt", run->task.id, id);
    if (result < 0) return result;
    return step_end_retire_tasks(tx, id, 0, TASK_CANCELED, "the deployment is deleted", ret_error);
}

/* Only what is still warm and due: what a rollback took over, or a newer window keeps, is not ours to end. */
static int mark_due(struct step_run *run, struct store_transaction *tx, struct error **ret_error) {
    return store_run(tx, NULL, ret_error,
                     "UPDATE replicas SET state = 'stopping', task_id = ? "
                     "WHERE deployment_id = ? AND revision = ? AND state = 'warm' AND warm_until <= ?",
                     "ttii", run->task.id, run->task.deployment_id, run->task.revision, clock_wall_ms());
}

int step_stop(struct step_run *run, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0) return result;
    result = text_equal(run->task.kind, "retire") ? mark_due(run, tx, ret_error) : mark_all(run, tx, ret_error);
    if (result < 0 || (result = step_commit(run, TAKE(tx), ret_error)) < 0) return result;
    return step_finish_stopping(run, ret_error);
}
