/* delete_source: with the old index goes its model, by a child task. Where another collection still uses it, the child
 * is refused, and this task is done with that as its detail (X7). */
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

static int note_child(struct step_run *run, const struct task *child, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *words =
        text_format("the model %s stays: its deletion is %s%s%s", child->model_id ? child->model_id : "",
                    task_status_name(child->status), child->detail ? ": " : "", child->detail ? child->detail : "");
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = reindex_note(tx, run, words, ret_error)) < 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_delete_source(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    _cleanup_task_ struct task child = {0};
    struct error *error = NULL;
    reindex_work_read(&run->task, &work);
    if (!work.delete_source || !work.deployment_id) return 0;
    _cleanup_free_ char *reason = text_format("the collection %s was re-indexed", run->task.collection);
    int result = initiate_model_deletion(run, &work, work.deployment_id, reason, &error);
    bool refused = result == -ERROR_REFUSED;
    if (result < 0 && !refused && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if ((result < 0 && !refused) || !work.delete_task_id) return refused ? 0 : result;
    if ((result = reindex_wait_task(run, work.delete_task_id, &child, ret_error)) < 0) return result;
    return child.status == TASK_DONE ? 0 : note_child(run, &child, ret_error);
}
