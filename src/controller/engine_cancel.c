/* Canceling: what has not begun ends at once, with its operation undone; what runs is asked to, and undoes itself. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

static bool is_kind(const struct task *task, const char *kind) {
    return text_equal(task->kind, kind);
}

/* An operation that never began: its rows go back to what they were. */
static int undo_pending(struct store_transaction *tx, const struct task *task, const char *words,
                        struct error **ret_error) {
    if (task->leader_id || !task->deployment_id) return 0; /* it had no operation of its own */
    _cleanup_deployment_ struct deployment deployment = {0};
    int result = deployment_load(tx, task->deployment_id, &deployment, ret_error);
    if (result < 0) return result;
    if (task->undo_json) return operation_undo(tx, task, words, ret_error);
    if ((is_kind(task, "deploy") || is_kind(task, "batch")) && !deployment.serving_revision)
        return engine_make_inactive(tx, deployment.id, task->id, words, ret_error);
    return deployment_set_status(tx, deployment.id, deployment.serving_revision ? DEPLOYMENT_ACTIVE : DEPLOYMENT_FAILED,
                                 words, NULL, task->id, ret_error);
}

static int cancel_pending(struct store_transaction *tx, const struct task *task, const char *reason,
                          struct error **ret_error) {
    _cleanup_free_ char *words = reason ? text_format("canceled: %s", reason) : text_copy("canceled");
    int result = undo_pending(tx, task, words, ret_error);
    return result < 0 ? result : task_set_status(tx, task->id, TASK_CANCELED, words, NULL, ret_error);
}

static int ask_processing(struct store_transaction *tx, const struct task *task, const char *reason,
                          struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error, "UPDATE tasks SET cancel_requested = 1, detail = ? WHERE id = ?", "tt",
                           reason, task->id);
    if (result < 0) return result;
    _cleanup_free_ char *words = text_format("a cancel was asked for%s%s", reason ? ": " : "", reason ? reason : "");
    return event_add(tx, "task_status", task->deployment_id, task->id, words, NULL, ret_error);
}

/* 1 with the id of an unfinished child after `after`, 0 when there is none. Windows end by themselves. */
static int next_child(struct store_transaction *tx, const char *parent_id, const char *after, char **ret_id,
                      struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error,
                    "SELECT id FROM tasks WHERE parent_id = ? AND id > ? AND status IN ('pending', 'processing') "
                    "AND kind <> 'retire' ORDER BY id LIMIT 1",
                    "tt", parent_id, after);
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    *ret_id = store_text_copy(rows, 0);
    return 1;
}

static int cancel_children(struct store_transaction *tx, const char *parent_id, const char *reason,
                           struct error **ret_error) {
    _cleanup_free_ char *after = text_copy("");
    for (;;) {
        char *id = NULL;
        int result = next_child(tx, parent_id, after, &id, ret_error);
        if (result <= 0) return result;
        free(after);
        after = id;
        if ((result = engine_cancel(tx, id, reason, ret_error)) < 0) return result;
    }
}

int engine_cancel(struct store_transaction *tx, const char *task_id, const char *reason, struct error **ret_error) {
    _cleanup_task_ struct task task = {0};
    int result = task_load(tx, task_id, &task, ret_error);
    if (result < 0) return result;
    if (task_status_is_finished(task.status))
        return error_set(ret_error, ERROR_CONFLICT,
                         "task %s is %s already: only pending and processing tasks are canceled", task.id,
                         task_status_name(task.status));
    if (is_kind(&task, "retire"))
        return error_set(ret_error, ERROR_CONFLICT,
                         "task %s ends a rollback window: it is not canceled; a rollback ends the window early",
                         task.id);
    if ((result = cancel_children(tx, task.id, reason, ret_error)) < 0) return result;
    return task.status == TASK_PENDING ? cancel_pending(tx, &task, reason, ret_error)
                                       : ask_processing(tx, &task, reason, ret_error);
}
