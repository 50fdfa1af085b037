/* The ends of tasks on collections. The good one: the task's detail, and what goes in the same transaction. The bad
 * one: whatever happened before the flip is undone and the source stays blue; once the indexer has flipped there is no
 * way back, and the task goes on to its good end. Every part can be run again after a kill. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

int collection_task_done(struct step_run *run, struct store_transaction *tx, char **ret_detail,
                         struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    _cleanup_work_ struct reindex_work work = {0};
    step_state_read(&run->task, &state);
    *ret_detail = text_copy(state.note);
    if (!text_equal(run->task.kind, "collection_delete")) return 0;
    reindex_work_read(&run->task, &work);
    return store_run(tx, NULL, ret_error, "DELETE FROM collections WHERE id = ?", "t", work.collection_id);
}

/* ---- whether it has flipped ---- */

static int ask_whether_flipped(struct step_run *run, const struct reindex_work *work, bool *ret_flipped,
                               struct error **ret_error) {
    yyjson_mut_val *root = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *body = reindex_body(&root);
    _cleanup_json_ yyjson_doc *answer = NULL;
    struct error *error = NULL;
    json_add_text(body, root, "task_id", run->task.id);
    int result = reindex_ask(run, "abort_switch", work->collection_id, body, &answer, &error);
    bool is_gone = result < 0 && reindex_is_gone(error);
    if (result < 0 && !is_gone && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if (result >= 0) *ret_flipped = yyjson_get_bool(yyjson_obj_get(yyjson_doc_get_root(answer), "flipped"));
    return is_gone ? 0 : result;
}

static int end_done(struct step_run *run, struct error **ret_error) {
    _cleanup_free_ char *detail = NULL;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = collection_task_done(run, tx, &detail, ret_error)) < 0 ||
        (result = task_set_status(tx, run->task.id, TASK_DONE, detail, NULL, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

/* Too late: the switch is completed as if nothing had come between. */
static int go_on(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    int result = 0;
    if (!work->flipped) {
        work->flipped = true; /* known from here on, whatever later switches do */
        if ((result = reindex_record(run, work, ret_error)) < 0) return result;
    }
    if ((result = blue_switch(run, work, ret_error)) < 0 || (result = step_finish(run, ret_error)) < 0) return result;
    return end_done(run, ret_error);
}

/* ---- cleaning up before it ---- */

static int drop_index(struct step_run *run, const struct reindex_work *work, const char *index_id,
                      struct error **ret_error) {
    yyjson_mut_val *root = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *body = reindex_body(&root);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    struct error *error = NULL;
    json_add_text(body, root, "index_id", index_id);
    int result = reindex_ask(run, "drop_index", work->collection_id, body, NULL, &error);
    bool is_gone = result < 0 && reindex_is_gone(error);
    if (result < 0 && !is_gone && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if ((result < 0 && !is_gone) || (result = store_begin(run->controller->store, &tx, ret_error)) < 0 ||
        (result = encoder_unpin(tx, work->collection_id, index_id, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

/* Also one that the indexer took over for this task, if a kill came before that was known here. */
static int drop_others(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_view_ struct catalog_view view = {0};
    if (catalog_view_load(run->controller, work->collection_id, &view, NULL) < 0) return 0;
    int result = 0;
    for (size_t i = 0; i < view.count && result >= 0; i++) {
        const struct collection_index *index = &view.indexes[i];
        bool is_free = !text_equal(index->state, "blue") && !text_equal(index->state, "rollback");
        if (index->set == COLLECTION_DOCUMENTS && is_free && text_equal(index->task_id, run->task.id))
            result = drop_index(run, work, index->index_id, ret_error);
    }
    return result;
}

static int end_child(struct step_run *run, const char *task_id, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task child = {0}, ended = {0};
    if (!task_id) return 0;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = task_load(tx, task_id, &child, ret_error)) < 0) return result;
    if (task_status_is_finished(child.status)) return 0;
    if (!child.cancel_requested && (result = engine_cancel(tx, task_id, "the re-index has ended", ret_error)) < 0)
        return result;
    if ((result = step_commit(run, TAKE(tx), ret_error)) < 0) return result;
    return reindex_wait_task(run, task_id, &ended, ret_error);
}

/* Only what this task's own child has deployed, and only if no other collection has come to use it (X7). */
static int delete_destination(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    _cleanup_task_ struct task ended = {0};
    struct error *error = NULL;
    int result = end_child(run, work->restart_task_id, ret_error);
    if (result < 0 || (result = end_child(run, work->deploy_task_id, ret_error)) < 0) return result;
    if (!work->deploy_task_id) return 0;
    result =
        initiate_model_deletion(run, work, work->deployment_id, "its re-index has ended before the switch", &error);
    bool refused = result == -ERROR_REFUSED;
    if (result < 0 && !refused && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if ((result < 0 && !refused) || !work->delete_task_id) return refused ? 0 : result;
    return reindex_wait_task(run, work->delete_task_id, &ended, ret_error);
}

static int clean_up(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    int result = 0;
    if (work->index_id) {
        reindex_copy_failed_items(run, work, NULL); /* of a collection that is gone there is nothing to list */
        if ((result = drop_index(run, work, work->index_id, ret_error)) < 0 ||
            (result = drop_others(run, work, ret_error)) < 0)
            return result;
    }
    return delete_destination(run, work, ret_error);
}

/* ---- telling ---- */

static int tell(struct step_run *run, enum task_status ending, const struct error *why, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = task_load(tx, run->task.id, &task, ret_error)) < 0) return result;
    _cleanup_free_ char *detail = why           ? error_text(why)
                                  : task.detail ? text_format("canceled: %s", task.detail)
                                                : text_copy("canceled");
    if ((result = task_set_status(tx, run->task.id, ending, detail, why, ret_error)) < 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

/* Deleting the collection ends what works on it, by a cancel or, where that comes second, by the indexer's answer. */
static bool ends_with_collection(const struct error *why) {
    for (; why; why = why->cause)
        if (why->class == ERROR_CONFLICT && strstr(why->message, "the collection is being deleted")) return true;
    return false;
}

int collection_task_undo(struct step_run *run, enum task_status ending, const struct error *why,
                         struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    reindex_work_read(&run->task, &work);
    bool flipped = work.flipped, is_reindex = text_equal(run->task.kind, "reindex");
    int result = work.flip_asked && !flipped ? ask_whether_flipped(run, &work, &flipped, ret_error) : 0;
    if (result < 0) return result;
    if (flipped) return go_on(run, &work, ret_error);
    if (is_reindex && (result = clean_up(run, &work, ret_error)) < 0) return result;
    if (ending != TASK_CANCELED && ends_with_collection(why)) ending = TASK_CANCELED;
    return tell(run, ending, why, ret_error);
}
