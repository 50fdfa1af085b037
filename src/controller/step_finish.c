/* finish: the rollback window opens. Its end is a child task of kind retire, pending until then, which knows the epoch
 * and the index that it ends (X6). A window of 0 is waited for here. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/collections.h"

/* After a rollback the model that leaves is deleted only if the re-index that brought it deployed it. */
static bool was_deployed_for(struct store_transaction *tx, const char *maker_id, const char *deployment_id) {
    _cleanup_task_ struct task maker = {0};
    _cleanup_work_ struct reindex_work work = {0};
    if (!maker_id || task_load(tx, maker_id, &maker, NULL) < 0 || !text_equal(maker.kind, "reindex")) return false;
    reindex_work_read(&maker, &work);
    return work.deploy_task_id && text_equal(work.deployment_id, deployment_id);
}

/* The task that made the index which leaves; owned by the caller. */
static char *find_maker(struct step_run *run, const struct reindex_work *work) {
    _cleanup_view_ struct catalog_view view = {0};
    if (!work->is_rollback || catalog_view_load(run->controller, work->collection_id, &view, NULL) < 0) return NULL;
    const struct collection_index *index = catalog_view_find(&view, work->source_index_id);
    return index ? text_copy(index->task_id) : NULL;
}

static int insert_retire(struct step_run *run, struct store_transaction *tx, struct reindex_work *work,
                         const char *maker_id, struct error **ret_error) {
    _cleanup_work_ struct reindex_work end = {
        .collection_id = text_copy(work->collection_id),
        .has_index = true,
        .index_id = text_copy(work->source_index_id),
        .deployment_id = text_copy(work->source_deployment_id),
        .conditional_epoch = work->epoch,
        .delete_source =
            work->is_rollback ? was_deployed_for(tx, maker_id, work->source_deployment_id) : work->delete_source,
    };
    _cleanup_task_ struct task child = {
        .kind = text_copy("retire"),
        .collection = text_copy(run->task.collection),
        .parent_id = text_copy(run->task.id),
        .state_json = reindex_work_state(&end),
        .not_before = work->window_ms ? clock_wall_ms() + work->window_ms : 0,
    };
    int result = task_insert(tx, run->controller->settings, &child, ret_error);
    if (result >= 0) work->retire_task_id = text_copy(child.id);
    return result;
}

/* 1 with a pending retire task of the collection after `after`, 0 when there is none. */
static int next_window(struct store_transaction *tx, const char *collection, const char *after, struct task *ret_task,
                       struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT id FROM tasks WHERE collection = ? AND kind = 'retire' AND status = 'pending' "
                             "AND id > ? ORDER BY id LIMIT 1",
                             "tt", collection, after);
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    result = task_load(tx, store_text(rows, 0), ret_task, ret_error);
    return result < 0 ? result : 1;
}

/* The windows in which the index that is blue now was the one to leave. */
static int end_windows_of_blue(struct step_run *run, struct store_transaction *tx, const char *index_id,
                               struct error **ret_error) {
    _cleanup_free_ char *after = text_copy("");
    for (;;) {
        _cleanup_task_ struct task window = {0};
        _cleanup_work_ struct reindex_work work = {0};
        int result = next_window(tx, run->task.collection, after, &window, ret_error);
        if (result <= 0) return result;
        reindex_work_read(&window, &work);
        if (text_equal(work.index_id, index_id) &&
            (result = task_set_status(tx, window.id, TASK_DONE, "rolled back", NULL, ret_error)) < 0)
            return result;
        free(after);
        after = TAKE(window.id);
    }
}

static int open_window(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    _cleanup_free_ char *maker_id = find_maker(run, work);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = end_windows_of_blue(run, tx, work->index_id, ret_error)) < 0 ||
        (result = insert_retire(run, tx, work, maker_id, ret_error)) < 0 ||
        (result = reindex_work_write(tx, run, work, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

static int wait_for_end(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_task_ struct task child = {0};
    int result = reindex_wait_task(run, work->retire_task_id, &child, ret_error);
    if (result < 0 || (child.status == TASK_DONE && !child.detail)) return result;
    _cleanup_free_ char *words = text_format("the old pair: %s%s%s", task_status_name(child.status),
                                             child.detail ? ": " : "", child.detail ? child.detail : "");
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if ((result = store_begin(run->controller->store, &tx, ret_error)) < 0 ||
        (result = reindex_note(tx, run, words, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_finish(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    reindex_work_read(&run->task, &work);
    int result = 0;
    if (text_equal(run->task.kind, "reindex") && (result = reindex_copy_failed_items(run, &work, ret_error)) < 0)
        return result;
    if (!work.flipped || !work.source_index_id) return 0;
    if (!work.retire_task_id && (result = open_window(run, &work, ret_error)) < 0) return result;
    pause_point("window_opened");
    engine_wake(run->controller->engine);
    return work.window_ms ? 0 : wait_for_end(run, &work, ret_error);
}
