/* drop_index: the end of a rollback window. Only an index still in state rollback under the epoch that opened the
 * window goes (X6); one that was rolled back to stays, and the task is done. One that was let go meanwhile (`failed`)
 * goes, too: nobody can come back to it. */
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/collections.h"

#define SWITCH_PAUSE_MS 1000

/* `state` and epoch are the condition; epoch 0: any. */
static int drop(struct step_run *run, const struct reindex_work *work, const char *state, int64_t epoch,
                bool *ret_dropped, struct error **ret_error) {
    yyjson_mut_val *root = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *body = reindex_body(&root);
    _cleanup_json_ yyjson_doc *answer = NULL;
    json_add_text(body, root, "index_id", work->index_id);
    json_add_text(body, root, "state", state);
    if (epoch) yyjson_mut_obj_add_sint(body, root, "epoch", epoch);
    int result = reindex_ask(run, "drop_index", work->collection_id, body, &answer, ret_error);
    if (result >= 0) *ret_dropped = yyjson_get_bool(yyjson_obj_get(yyjson_doc_get_root(answer), "dropped"));
    return result;
}

/* An earlier run of this step may have dropped it already. */
static int look_why_not(struct step_run *run, const struct reindex_work *work, bool *ret_dropped,
                        struct error **ret_error) {
    _cleanup_view_ struct catalog_view view = {0};
    int result = catalog_view_load(run->controller, work->collection_id, &view, ret_error);
    if (result < 0) return result;
    const struct collection_index *index = catalog_view_find(&view, work->index_id);
    if (index && text_equal(index->state, "failed")) return drop(run, work, "failed", 0, ret_dropped, ret_error);
    *ret_dropped = !index;
    return 0;
}

static int record(struct step_run *run, struct reindex_work *work, bool dropped, const char *words,
                  struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (!dropped) work->delete_source = false;
    if (result >= 0 && dropped) result = encoder_unpin(tx, work->collection_id, work->index_id, ret_error);
    if (result >= 0 && words) result = reindex_note(tx, run, words, ret_error);
    if (result < 0 || (result = reindex_work_write(tx, run, work, ret_error)) < 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

/* A rollback may be switching to the index at this very moment. Then it is waited for: it ends with the index blue, or
 * with the index where it was. 1: look again. */
static int wait_for_switch(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_view_ struct catalog_view view = {0};
    _cleanup_task_ struct task switching = {0};
    int result = catalog_view_load(run->controller, work->collection_id, &view, ret_error);
    if (result < 0) return result;
    if (view.pair.switching_task && reindex_wait_task(run, view.pair.switching_task, &switching, NULL) >= 0) return 1;
    if ((result = step_check(run, ret_error)) < 0) return result;
    /* Its task is gone: the indexer gives such a switch up by itself. */
    struct engine_run *engine_run = CONTAINER_OF(run, struct engine_run, run);
    return engine_pause(engine_run, SWITCH_PAUSE_MS) ? 1 : step_canceled(ret_error);
}

static int drop_or_wait(struct step_run *run, const struct reindex_work *work, bool *ret_dropped,
                        struct error **ret_error) {
    for (;;) {
        struct error *error = NULL;
        int result = drop(run, work, "rollback", work->conditional_epoch, ret_dropped, &error);
        if (result != -ERROR_CONFLICT || reindex_is_gone(error)) {
            if (result < 0 && ret_error)
                *ret_error = error;
            else
                error_free(error);
            return result;
        }
        error_free(error);
        if ((result = wait_for_switch(run, work, ret_error)) < 0) return result;
    }
}

int step_drop_index(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    struct error *error = NULL;
    bool dropped = false;
    reindex_work_read(&run->task, &work);
    pause_point("retire_due");
    int result = drop_or_wait(run, &work, &dropped, &error);
    if (result >= 0 && !dropped) result = look_why_not(run, &work, &dropped, &error);
    bool is_gone = result < 0 && reindex_is_gone(error);
    if (result < 0 && !is_gone && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if (is_gone) return record(run, &work, false, "the collection is being deleted", ret_error);
    if (result < 0) return result;
    pause_point("index_dropped");
    return record(run, &work, dropped, dropped ? NULL : "rolled back", ret_error);
}
