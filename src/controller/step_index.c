/* index: the destination's index is on the collection's list, in state filling, and follows the log from there. Its
 * encoder is pinned before (S6). One of the same encoder that a broken attempt left is taken over. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/collections.h"

/* Nothing may have changed the model since it was looked at; from the pin on nothing will. */
static int check_encoder(struct store_transaction *tx, const struct reindex_work *work, struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    int result = deployment_load(tx, work->deployment_id, &deployment, ret_error);
    if (result < 0) return result;
    if (deployment.status == DEPLOYMENT_DELETING || deployment.status == DEPLOYMENT_DELETE_FAILED ||
        deployment.status == DEPLOYMENT_INACTIVE)
        return error_set(ret_error, ERROR_REFUSED, "the destination model %s is being deleted", deployment.name);
    if ((result = revision_load(tx, deployment.id, deployment.serving_revision, &revision, ret_error)) < 0)
        return result;
    if (text_equal(revision.encoder_digest, work->digest)) return 0;
    return error_set(ret_error, ERROR_CONFLICT, "the destination %s has just changed its model", deployment.name);
}

static int pin(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_entry_ struct catalog_entry entry = {0};
    char uuid[37];
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = check_encoder(tx, work, ret_error)) < 0 ||
        (result = catalog_find(tx, work->collection_id, &entry, ret_error)) < 0)
        return result;
    text_new_uuid(uuid);
    work->index_id = text_copy(uuid);
    text_new_uuid(uuid);
    if (entry.keep_queries) work->query_index_id = text_copy(uuid);
    if ((result = encoder_pin(tx, work->deployment_id, work->collection_id, work->index_id, run->task.id, ret_error)) <
            0 ||
        (result = reindex_work_write(tx, run, work, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

static yyjson_mut_doc *describe(const struct step_run *run, const struct reindex_work *work) {
    yyjson_mut_val *root = NULL;
    yyjson_mut_doc *body = reindex_body(&root);
    json_add_text(body, root, "index_id", work->index_id);
    json_add_text(body, root, "query_index_id", work->query_index_id);
    json_add_text(body, root, "task_id", run->task.id);
    json_add_text(body, root, "deployment_id", work->deployment_id);
    yyjson_mut_obj_add_sint(body, root, "revision", work->revision);
    json_add_text(body, root, "encoder_digest", work->digest);
    yyjson_mut_obj_add_sint(body, root, "dimension", work->dimension);
    return body;
}

/* The index that was there is ours now: its pin first, then ours, which was for nothing, goes. */
static int take_over(struct step_run *run, struct reindex_work *work, const char *index_id, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *unused = TAKE(work->index_id);
    work->index_id = text_copy(index_id);
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = encoder_pin(tx, work->deployment_id, work->collection_id, index_id, run->task.id, ret_error)) < 0 ||
        (result = encoder_unpin(tx, work->collection_id, unused, ret_error)) < 0 ||
        (result = reindex_work_write(tx, run, work, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_index(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    _cleanup_json_ yyjson_doc *answer = NULL;
    reindex_work_read(&run->task, &work);
    int result = work.index_id ? 0 : pin(run, &work, ret_error);
    if (result < 0) return result;
    pause_point("index_pinned");
    _cleanup_json_mutable_ yyjson_mut_doc *body = describe(run, &work);
    if ((result = reindex_ask(run, "create_index", work.collection_id, body, &answer, ret_error)) < 0) return result;
    const char *index_id = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(answer), "index_id"));
    pause_point("index_created");
    if (!index_id || text_equal(index_id, work.index_id)) return 0;
    return take_over(run, &work, index_id, ret_error);
}
