/* mark_deleted: the collection is marked deleted in its own database, which every append and every flip tests (X8).
 * From here on there is no way back. */
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/collections.h"

static int record(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    step_state_read(&run->task, &state);
    state.committed = true;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = step_state_write(tx, run, &state, ret_error)) < 0 ||
        (result = step_commit(run, TAKE(tx), ret_error)) < 0)
        return result;
    engine_set_committed(run);
    return 0;
}

int step_mark_deleted(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    struct error *error = NULL;
    reindex_work_read(&run->task, &work);
    int result = reindex_ask(run, "delete", work.collection_id, NULL, NULL, &error);
    bool is_gone = result < 0 && reindex_is_gone(error);
    if (result < 0 && !is_gone && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if (result < 0 && !is_gone) return result;
    pause_point("collection_delete_answered");
    return record(run, ret_error);
}
