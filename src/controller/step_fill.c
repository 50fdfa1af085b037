/* fill: until the index has caught up with the log. What the model refused is tried once more, then judged by
 * max_failed. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

/* Progress is a courtesy: what cannot be written now is written with the next. */
static void on_progress(const struct index_progress *progress, void *context) {
    struct step_run *run = context;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if (store_begin(run->controller->store, &tx, NULL) < 0) return;
    if (store_run(tx, NULL, NULL,
                  "UPDATE tasks SET progress_done = ?, progress_total = ?, progress_rate = ?, progress_failed = ?, "
                  "updated_at = ? WHERE id = ?",
                  "iidiit", (int64_t)progress->done, (int64_t)progress->total, progress->rate,
                  (int64_t)progress->failed, clock_wall_ms(), run->task.id) < 0)
        return;
    step_commit(run, TAKE(tx), NULL);
}

static int ask_about_index(struct step_run *run, const struct reindex_work *work, const char *verb,
                           yyjson_doc **ret_answer, struct error **ret_error) {
    yyjson_mut_val *root = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *body = reindex_body(&root);
    json_add_text(body, root, "index_id", work->index_id);
    struct indexer_question question = {
        .verb = verb,
        .collection_id = work->collection_id,
        .timeout_ms = STEP_NO_DEADLINE / 2,
        .index_id = work->index_id,
        .stall_ms = run->controller->settings->reindex_stall_deadline_ms,
        .on_progress = on_progress,
        .context = run,
    };
    return reindex_ask_with(run, &question, body, ret_answer, ret_error);
}

static int say_too_many(struct step_run *run, uint64_t failed, uint64_t live, uint64_t allowed,
                        struct error **ret_error) {
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "%llu of %llu documents could not be embedded, and max_failed allows %llu: "
                     "GET /v1/tasks/%s/failed-items lists them",
                     (unsigned long long)failed, (unsigned long long)live, (unsigned long long)allowed, run->task.id);
}

static int judge_failures(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_view_ struct catalog_view view = {0};
    _cleanup_json_ yyjson_doc *answer = NULL;
    uint64_t failed = 0;
    int result = catalog_view_load(run->controller, work->collection_id, &view, ret_error);
    if (result < 0 ||
        (result = catalog_count_failed(run->controller, work->collection_id, work->index_id, &failed, ret_error)) < 0)
        return result;
    uint64_t allowed = reindex_allowed_failures(work, view.live);
    if (failed) {
        if ((result = ask_about_index(run, work, "retry_failed", &answer, ret_error)) < 0) return result;
        failed = yyjson_get_uint(yyjson_obj_get(yyjson_doc_get_root(answer), "failed"));
    }
    return failed > allowed ? say_too_many(run, failed, view.live, allowed, ret_error) : 0;
}

int step_fill(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    reindex_work_read(&run->task, &work);
    int result = ask_about_index(run, &work, "await_ready", NULL, ret_error);
    return result < 0 ? result : judge_failures(run, &work, ret_error);
}
