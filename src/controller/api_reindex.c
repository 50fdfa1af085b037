/* The handlers that begin re-indexes, switches and rollbacks, and what a re-index could not embed. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/api.h"
#include "controller/request_collection.h"

/* ---- what they share ---- */

struct on_collection {
    struct catalog_entry entry;
    struct catalog_view view;
};

static void on_collection_clear(struct on_collection *on) {
    catalog_entry_clear(&on->entry);
    catalog_view_clear(&on->view);
}
#define _cleanup_on_ __attribute__((cleanup(on_collection_clear)))

static int load(struct api_call *call, const char *name, struct on_collection *on, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 || (result = catalog_find(tx, name, &on->entry, ret_error)) < 0) return result;
    store_rollback(TAKE(tx));
    return catalog_view_load(call->controller, on->entry.id, &on->view, ret_error);
}

/* 1 when the client's task id is known and stands for the same thing: then that task is the answer. */
static int find_same_task(struct store_transaction *tx, const char *task_id, const char *kind, const char *collection,
                          struct error **ret_error) {
    _cleanup_task_ struct task task = {0};
    struct error *error = NULL;
    if (!task_id) return 0;
    int result = task_load(tx, task_id, &task, &error);
    bool is_missing = result < 0 && error->class == ERROR_NOT_FOUND;
    if (result < 0 && !is_missing && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if (result < 0) return is_missing ? 0 : result;
    if (text_equal(task.kind, kind) && text_equal(task.collection, collection)) return 1;
    return error_set(ret_error, ERROR_CONFLICT, "the task id %s stands for another task (%s%s%s): take a new id",
                     task.id, task.kind, task.collection ? " of the collection " : "",
                     task.collection ? task.collection : "");
}

static int answer_and_commit(struct api_call *call, struct store_transaction **tx, const char *task_id,
                             struct error **ret_error) {
    int result = api_answer_task(call, *tx, task_id, 202, ret_error);
    if (result < 0) return result;
    call->changed = true;
    return store_commit(TAKE(*tx), ret_error);
}

/* ---- POST …/reindex ---- */

int api_collection_reindex(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_reindex_request_ struct reindex_request request = {0};
    _cleanup_on_ struct on_collection on = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    yyjson_val *root = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
        (result = request_parse_reindex(root, call->controller, &request, ret_error)) < 0 ||
        (result = load(call, call->arguments[0], &on, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = find_same_task(tx, request.task_id, "reindex", on.entry.name, ret_error)) < 0)
        return result;
    if (result) return api_answer_task(call, tx, request.task_id, 202, ret_error);
    const struct operation_origin origin = {.task_id = request.task_id, .parent_id = request.parent_id};
    request.work.collection_id = text_copy(on.entry.id);
    result = operation_reindex(call->controller, tx, &on.entry, &on.view, &origin, &request.work,
                               request.work.request_json ? &request.destination : NULL, &task, ret_error);
    return result < 0 ? result : answer_and_commit(call, &tx, task.id, ret_error);
}

/* ---- POST …/switch, …/rollback ---- */

static int begin_switch(struct api_call *call, bool is_rollback, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_reindex_request_ struct reindex_request request = {0};
    _cleanup_on_ struct on_collection on = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    yyjson_val *root = NULL;
    const char *text = call->body_size ? call->body : "{}";
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 ||
        (result = json_parse_object(text, call->body_size ? call->body_size : 2, &body, &root, ret_error)) < 0 ||
        (result = request_parse_switch(root, is_rollback, &request, ret_error)) < 0 ||
        (result = load(call, call->arguments[0], &on, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = find_same_task(tx, request.task_id, "switch", on.entry.name, ret_error)) < 0)
        return result;
    if (result) return api_answer_task(call, tx, request.task_id, 202, ret_error);
    const struct operation_origin origin = {.task_id = request.task_id, .parent_id = request.parent_id};
    request.work.collection_id = text_copy(on.entry.id);
    result = operation_switch(call->controller, tx, &on.entry, &on.view, &origin, &request.given, &request.work, &task,
                              ret_error);
    return result < 0 ? result : answer_and_commit(call, &tx, task.id, ret_error);
}

int api_collection_switch(struct api_call *call, struct error **ret_error) {
    return begin_switch(call, false, ret_error);
}

int api_collection_rollback(struct api_call *call, struct error **ret_error) {
    return begin_switch(call, true, ret_error);
}

/* ---- GET /v1/tasks/{task}/failed-items ---- */

int api_task_failed_items(struct api_call *call, struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int64_t limit, offset;
    yyjson_mut_val *array = yyjson_mut_arr(document);
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET, ret_error);
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0 ||
        (result = failed_items_render(call->controller, call->arguments[0], limit, offset, document, array,
                                      &call->total_count, ret_error)) < 0)
        return result;
    api_answer(call, 200, document, array);
    return 0;
}
