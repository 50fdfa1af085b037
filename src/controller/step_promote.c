/* promote: replicas that ran at idle priority while they filled the index are replaced by ordinary ones, one after the
 * other, by a child task of kind restart. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

/* 1: the child is there; 0: there is none to replace. */
static int begin_restart(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_task_ struct task child = {0};
    int64_t idle = 0;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = store_ask_number(tx, &idle, ret_error,
                                                 "SELECT count(*) FROM replicas WHERE deployment_id = ? AND idle = 1 "
                                                 "AND state = 'serving'",
                                                 "t", work->deployment_id)) < 0)
        return result;
    if (!idle) return 0;
    const struct operation_origin origin = {.parent_id = run->task.id};
    if ((result = deployment_load(tx, work->deployment_id, &deployment, ret_error)) < 0 ||
        (result = operation_restart_for(run->controller, tx, &deployment, &origin, &child, ret_error)) < 0)
        return result;
    work->restart_task_id = text_copy(child.id);
    if ((result = reindex_work_write(tx, run, work, ret_error)) < 0) return result;
    result = step_commit(run, TAKE(tx), ret_error);
    return result < 0 ? result : 1;
}

/* Another operation on the deployment comes first: promoting waits for it. */
static int wait_for_others(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_task_ struct task other = {0}, ended = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = task_find_unfinished(tx, work->deployment_id, NULL, &other, ret_error)) <= 0)
        return result;
    store_rollback(TAKE(tx));
    return reindex_wait_task(run, other.id, &ended, ret_error);
}

int step_promote(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    _cleanup_task_ struct task child = {0};
    reindex_work_read(&run->task, &work);
    int result = 0;
    if (!work.restart_task_id &&
        ((result = wait_for_others(run, &work, ret_error)) < 0 || (result = begin_restart(run, &work, ret_error)) <= 0))
        return result;
    if ((result = reindex_wait_task(run, work.restart_task_id, &child, ret_error)) < 0) return result;
    if (child.status == TASK_DONE) return 0;
    return error_set(ret_error, child.status == TASK_REFUSED ? ERROR_REFUSED : ERROR_DEPLOYMENT,
                     "replicas of ordinary priority for the destination: the restart is %s%s%s",
                     task_status_name(child.status), child.detail ? ": " : "", child.detail ? child.detail : "");
}
