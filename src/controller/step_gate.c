/* gate: what must hold before a switch, checked by the indexer; its report is kept with the task (metadata "gate"). A
 * rollback goes back to what answered before, at once. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/collections.h"

static yyjson_mut_doc *describe(const struct reindex_work *work, uint64_t live) {
    yyjson_mut_val *root = NULL;
    yyjson_mut_doc *body = reindex_body(&root);
    json_add_text(body, root, "index_id", work->index_id);
    yyjson_mut_obj_add_uint(body, root, "maximum_failed", reindex_allowed_failures(work, live));
    if (!work->overlap_k) return body;
    yyjson_mut_obj_add_sint(body, root, "overlap_k", work->overlap_k);
    yyjson_mut_obj_add_real(body, root, "overlap_at_least", work->overlap_at_least);
    return body;
}

static int keep_report(struct step_run *run, yyjson_doc *answer, struct error **ret_error) {
    yyjson_val *report = yyjson_doc_get_root(answer);
    _cleanup_free_ char *text = json_write_value(report, NULL);
    _cleanup_free_ char *metadata = text_format("{\"gate\":%s}", text);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error,
                            "UPDATE tasks SET metadata_json = ?, progress_done = ?, progress_total = ?, "
                            "progress_failed = ?, updated_at = ? WHERE id = ?",
                            "tiiiit", metadata, yyjson_get_sint(yyjson_obj_get(report, "indexed")),
                            yyjson_get_sint(yyjson_obj_get(report, "live")),
                            yyjson_get_sint(yyjson_obj_get(report, "failed")), clock_wall_ms(), run->task.id)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

static int note_stop(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *words = text_format("index %s is ready: POST /v1/collections/%s/switch makes it blue",
                                             work->index_id, run->task.collection);
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = reindex_note(tx, run, words, ret_error)) < 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_gate(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    _cleanup_view_ struct catalog_view view = {0};
    _cleanup_json_ yyjson_doc *answer = NULL;
    reindex_work_read(&run->task, &work);
    if (work.is_rollback || work.flip_asked) return 0;
    int result = catalog_view_load(run->controller, work.collection_id, &view, ret_error);
    if (result < 0) return result;
    _cleanup_json_mutable_ yyjson_mut_doc *body = describe(&work, view.live);
    struct indexer_question question = {
        .verb = "gate",
        .collection_id = work.collection_id,
        .timeout_ms = run->controller->settings->reindex_stall_deadline_ms,
    };
    if ((result = reindex_ask_with(run, &question, body, &answer, ret_error)) < 0 ||
        (result = keep_report(run, answer, ret_error)) < 0)
        return result;
    pause_point("gate_passed");
    return work.blue_switch ? 0 : note_stop(run, &work, ret_error);
}
