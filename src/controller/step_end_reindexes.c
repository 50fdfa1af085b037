/* end_reindexes: what works on a collection that is being deleted is canceled and cleans up after itself; its windows
 * end. */
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

/* 1 with an unfinished task of the collection other than this one, 0 when there is none. */
static int find_other(struct step_run *run, struct store_transaction *tx, struct task *ret_task,
                      struct error **ret_error) {
    static const char *const kinds[] = {"reindex", "switch", "retire"};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        int result = task_find_on_collection(tx, run->task.collection, kinds[i], run->task.id, ret_task, ret_error);
        if (result != 0) return result;
    }
    return 0;
}

static int end_one(struct store_transaction *tx, const struct task *task, struct error **ret_error) {
    static const char reason[] = "the collection is deleted";
    bool is_window = text_equal(task->kind, "retire");
    if (is_window && task->status == TASK_PENDING)
        return task_set_status(tx, task->id, TASK_CANCELED, reason, NULL, ret_error);
    /* One that runs is not canceled twice, and a window that is just ending ends by itself. */
    return is_window || task->cancel_requested ? 0 : engine_cancel(tx, task->id, reason, ret_error);
}

/* 1 with the id of one that is to be waited for. */
static int end_next(struct step_run *run, char **ret_id, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task other = {0};
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = find_other(run, tx, &other, ret_error)) <= 0 ||
        (result = end_one(tx, &other, ret_error)) < 0 || (result = step_commit(run, TAKE(tx), ret_error)) < 0)
        return result;
    *ret_id = TAKE(other.id);
    return 1;
}

int step_end_reindexes(struct step_run *run, struct error **ret_error) {
    for (;;) {
        _cleanup_free_ char *id = NULL;
        _cleanup_task_ struct task ended = {0};
        int result = end_next(run, &id, ret_error);
        if (result <= 0) return result;
        if ((result = reindex_wait_task(run, id, &ended, ret_error)) < 0) return result;
    }
}
