/* The handlers of /v1/collections that make, show and delete them. What stands in a collection's own database is read
 * outside the control database's transactions. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/api.h"
#include "controller/request_collection.h"

#define OPEN_TIMEOUT_MS 2000 /* how long a POST waits for gateways and indexer; the collection is there in any case */

/* ---- showing ---- */

static int load_entry(struct api_call *call, const char *name, struct catalog_entry *ret_entry,
                      struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(call->controller->store, &tx, ret_error);
    return result < 0 ? result : catalog_find(tx, name, ret_entry, ret_error);
}

/* The deployment's current name, or its id when it is gone; caller frees. */
static char *name_of(struct api_call *call, const char *deployment_id) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    if (store_begin(call->controller->store, &tx, NULL) < 0 ||
        deployment_load(tx, deployment_id, &deployment, NULL) < 0)
        return text_copy(deployment_id);
    return TAKE(deployment.name);
}

static yyjson_mut_val *render_index(struct api_call *call, const struct catalog_view *view,
                                    const struct collection_index *index, yyjson_mut_doc *document) {
    _cleanup_free_ char *name = name_of(call, index->deployment_id);
    return catalog_render_index(call->controller, view, index, name, document);
}

static void add_pair(struct api_call *call, const struct catalog_view *view, yyjson_mut_doc *document,
                     yyjson_mut_val *object) {
    const struct collection_index *blue = catalog_view_find(view, view->pair.index_id);
    const struct collection_index *rollback = catalog_view_rollback(view);
    if (blue) yyjson_mut_obj_add_val(document, object, "blue", render_index(call, view, blue, document));
    if (rollback) yyjson_mut_obj_add_val(document, object, "rollback", render_index(call, view, rollback, document));
}

/* One whose database is on its way out is shown by its row alone. */
static yyjson_mut_val *render_collection(struct api_call *call, const struct catalog_entry *entry,
                                         yyjson_mut_doc *document) {
    _cleanup_view_ struct catalog_view view = {0};
    yyjson_mut_val *object = yyjson_mut_obj(document);
    bool is_there = catalog_view_load(call->controller, entry->id, &view, NULL) >= 0;
    _cleanup_free_ char *deployment = is_there ? name_of(call, view.pair.deployment_id) : NULL;
    json_add_text(document, object, "collection_id", entry->id);
    json_add_text(document, object, "name", entry->name);
    json_add_text(document, object, "state", entry->state);
    json_add_text(document, object, "deployment", deployment);
    json_add_text(document, object, "metric", entry->metric);
    yyjson_mut_obj_add_bool(document, object, "keep_queries", entry->keep_queries);
    yyjson_mut_obj_add_bool(document, object, "quantized", entry->quantized);
    if (is_there) {
        yyjson_mut_obj_add_uint(document, object, "documents", view.live);
        add_pair(call, &view, document, object);
    }
    json_add_time(document, object, "created_at", entry->created_at);
    return object;
}

int api_collection_get(struct api_call *call, struct error **ret_error) {
    _cleanup_entry_ struct catalog_entry entry = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = load_entry(call, call->arguments[0], &entry, ret_error)) < 0) return result;
    api_answer(call, 200, document, render_collection(call, &entry, document));
    return 0;
}

static int load_page(struct api_call *call, int64_t limit, int64_t offset, struct catalog_entry **ret_entries,
                     size_t *ret_count, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0) return result;
    return catalog_list(tx, limit, offset, ret_entries, ret_count, &call->total_count, ret_error);
}

int api_collection_list(struct api_call *call, struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    int64_t limit, offset;
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET, ret_error);
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0 ||
        (result = load_page(call, limit, offset, &entries, &count, ret_error)) < 0)
        return result;
    yyjson_mut_val *array = yyjson_mut_arr(document);
    for (size_t i = 0; i < count; i++) yyjson_mut_arr_append(array, render_collection(call, &entries[i], document));
    catalog_list_free(entries, count);
    api_answer(call, 200, document, array);
    return 0;
}

/* Newest first, as every list. */
int api_collection_indexes(struct api_call *call, struct error **ret_error) {
    _cleanup_entry_ struct catalog_entry entry = {0};
    _cleanup_view_ struct catalog_view view = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int64_t limit, offset;
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET, ret_error);
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0 ||
        (result = load_entry(call, call->arguments[0], &entry, ret_error)) < 0 ||
        (result = catalog_view_load(call->controller, entry.id, &view, ret_error)) < 0)
        return result;
    yyjson_mut_val *array = yyjson_mut_arr(document);
    for (int64_t i = (int64_t)view.count - 1 - offset; i >= 0 && limit-- > 0; i--)
        yyjson_mut_arr_append(array, render_index(call, &view, &view.indexes[i], document));
    call->total_count = (int64_t)view.count;
    api_answer(call, 200, document, array);
    return 0;
}

/* ---- making ---- */

/* The first index is made by the indexer. It finds the collection by itself, too, so that nothing hangs on its answer.
 */
static void wait_for_indexer(struct api_call *call, const char *collection_id) {
    const struct indexer_question question = {
        .verb = "open", .collection_id = collection_id, .timeout_ms = OPEN_TIMEOUT_MS};
    indexer_link_ask(call->controller->indexer, &question, NULL, NULL);
}

int api_collection_create(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_entry_ struct catalog_entry entry = {0};
    struct collection_request request;
    yyjson_val *root = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
        (result = request_parse_collection(root, &request, ret_error)) < 0 ||
        (result = operation_collection_create(call->controller, &request, &entry, ret_error)) < 0)
        return result;
    call->changed = true;
    catalog_wait_routed(call->controller, OPEN_TIMEOUT_MS); /* so that whoever writes to it now is not told 404 */
    wait_for_indexer(call, entry.id);
    api_answer(call, 201, document, render_collection(call, &entry, document));
    return 0;
}

/* ---- deleting ---- */

int api_collection_delete(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_entry_ struct catalog_entry entry = {0};
    _cleanup_task_ struct task task = {0};
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = catalog_find(tx, call->arguments[0], &entry, ret_error)) < 0 ||
        (result = operation_collection_delete(call->controller, tx, &entry, &task, ret_error)) < 0 ||
        (result = api_answer_task(call, tx, task.id, 202, ret_error)) < 0)
        return result;
    call->changed = true;
    return store_commit(TAKE(tx), ret_error);
}
