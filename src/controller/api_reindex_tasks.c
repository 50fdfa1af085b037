/* Re-index tasks by model ids (API.md): the collection is the one that the source model is blue in. Well-formed calls
 * answer 200 with the task. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/api.h"
#include "controller/registries.h"
#include "controller/request_collection.h"

#define ITEMS_SHOWN 1000

/* ---- the answer ---- */

static void add_children(struct store_transaction *tx, const char *task_id, yyjson_mut_doc *document,
                         yyjson_mut_val *object) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    yyjson_mut_val *children = yyjson_mut_obj_add_arr(document, object, "children");
    if (store_query(tx, &rows, NULL, "SELECT id FROM tasks WHERE parent_id = ? ORDER BY created_at, id", "t", task_id) <
        0)
        return;
    while (store_next(rows, NULL) > 0) yyjson_mut_arr_add_strcpy(document, children, store_text(rows, 0));
}

static void add_failed_items(struct store_transaction *tx, const char *task_id, yyjson_mut_doc *document,
                             yyjson_mut_val *object) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    yyjson_mut_val *items = yyjson_mut_obj_add_arr(document, object, "failed_items");
    if (store_query(tx, &rows, NULL,
                    "SELECT id, stage, detail FROM task_failed_items WHERE task_id = ? ORDER BY place LIMIT ?", "ti",
                    task_id, (int64_t)ITEMS_SHOWN) < 0)
        return;
    while (store_next(rows, NULL) > 0) {
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(document, items);
        json_add_text(document, item, "id", store_text(rows, 0));
        json_add_text(document, item, "stage", store_text(rows, 1));
        json_add_text(document, item, "detail", store_text(rows, 2));
    }
}

static double fraction_of(const struct task *task) {
    if (task->status == TASK_DONE) return 1;
    if (task->progress_total <= 0) return 0;
    double fraction = (double)task->progress_done / (double)task->progress_total;
    return fraction < 1 ? fraction : 1;
}

static yyjson_mut_val *render(struct store_transaction *tx, const struct task *task, yyjson_mut_doc *document) {
    yyjson_mut_val *object = render_model_task(task, document);
    json_add_text(document, object, "collection", task->collection);
    yyjson_mut_obj_add_real(document, object, "progress", fraction_of(task));
    yyjson_mut_obj_add_sint(document, object, "count", task->progress_done);
    yyjson_mut_obj_add_sint(document, object, "total", task->progress_total);
    add_children(tx, task->id, document, object);
    add_failed_items(tx, task->id, document, object);
    return object;
}

static int answer(struct api_call *call, struct store_transaction *tx, const char *task_id, struct error **ret_error) {
    _cleanup_task_ struct task task = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int result = task_load(tx, task_id, &task, ret_error);
    if (result < 0) return result;
    api_answer(call, 200, document, render(tx, &task, document));
    return 0;
}

/* ---- run ---- */

struct found {
    char *source_id; /* the source's deployment */
    bool destination_is_there;
    struct catalog_entry *entries;
    size_t count;
};

static void found_clear(struct found *found) {
    free(found->source_id);
    catalog_list_free(found->entries, found->count);
}

static int look_up(struct api_call *call, const struct reindex_run_request *request, struct found *found,
                   struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment source = {0}, destination = {0};
    struct error *missing = NULL;
    int64_t total = 0;
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 || (result = deployment_load(tx, request->source, &source, ret_error)) < 0 ||
        (result = catalog_list(tx, 0, 0, &found->entries, &found->count, &total, ret_error)) < 0)
        return result;
    found->source_id = TAKE(source.id);
    result = deployment_load(tx, request->destination, &destination, &missing);
    bool is_missing = result < 0 && missing->class == ERROR_NOT_FOUND;
    if (result < 0 && !is_missing && ret_error) *ret_error = TAKE(missing);
    error_free(missing);
    found->destination_is_there = result >= 0;
    return is_missing ? 0 : result;
}

/* Whether the source is blue in it; *ret_view is set then. */
static bool is_candidate(struct api_call *call, const struct catalog_entry *entry, const struct found *found,
                         struct catalog_view *ret_view) {
    if (!text_equal(entry->state, "active") || catalog_view_load(call->controller, entry->id, ret_view, NULL) < 0)
        return false;
    if (text_equal(ret_view->pair.deployment_id, found->source_id)) return true;
    catalog_view_clear(ret_view);
    return false;
}

static int say_which(const struct reindex_run_request *request, const char *names, struct error **ret_error) {
    if (!names)
        return error_set(ret_error, ERROR_CONFIGURATION, "model %s is not the encoder of %s%s", request->source,
                         request->collection ? "the collection " : "any collection",
                         request->collection ? request->collection : "");
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "model %s is the encoder of several collections (%s): say which, as `collection`", request->source,
                     names);
}

/* The one collection that is meant, with its view. Borrowed from `found`. */
static int choose(struct api_call *call, const struct reindex_run_request *request, const struct found *found,
                  const struct catalog_entry **ret_entry, struct catalog_view *ret_view, struct error **ret_error) {
    _cleanup_free_ char *names = NULL;
    size_t count = 0;
    for (size_t i = 0; i < found->count; i++) {
        const struct catalog_entry *entry = &found->entries[i];
        struct catalog_view view = {0};
        if (request->collection && !text_equal(request->collection, entry->name)) continue;
        if (!is_candidate(call, entry, found, &view)) continue;
        char *more = names ? text_format("%s, %s", names, entry->name) : text_copy(entry->name);
        free(names);
        names = more;
        if (count++) {
            catalog_view_clear(&view);
            continue;
        }
        *ret_entry = entry;
        *ret_view = view;
    }
    if (count == 1) return 0;
    catalog_view_clear(ret_view);
    return say_which(request, names, ret_error);
}

/* A destination that is not deployed yet is looked for in the default registry, as POST /deploy does. */
static char *request_for(const struct controller *controller, const char *model_id,
                         struct deployment_request *ret_request) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    ret_request->name = text_copy(model_id);
    const struct registry_context registry = registries_context(controller);
    ret_request->model_uri = request_default_uri(&registry, controller->settings->default_registry, model_id);
    json_add_text(document, root, "deployment_name", model_id);
    json_add_text(document, root, "model_uri", ret_request->model_uri);
    json_add_json(document, root, "deployment_target_config", "{\"type\":\"api_service\"}");
    return json_write(document, NULL);
}

static int insert(struct api_call *call, const struct reindex_run_request *request, const struct found *found,
                  const struct catalog_entry *entry, const struct catalog_view *view, struct error **ret_error) {
    const struct settings *settings = call->controller->settings;
    _cleanup_work_ struct reindex_work work = {
        .collection_id = text_copy(entry->id),
        .blue_switch = request->deploy_as_blue,
        .delete_source = true,
        .wait_on_conflict = request->wait_on_conflict,
        .window_ms = (int64_t)settings->rollback_window_ms,
    };
    _cleanup_request_ struct deployment_request destination = {0};
    if (found->destination_is_there)
        work.destination = text_copy(request->destination);
    else
        work.request_json = request_for(call->controller, request->destination, &destination);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    const struct operation_origin origin = {.task_id = request->id};
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = operation_reindex(call->controller, tx, entry, view, &origin, &work,
                                    work.request_json ? &destination : NULL, &task, ret_error)) < 0 ||
        (result = answer(call, tx, task.id, ret_error)) < 0)
        return result;
    call->changed = true;
    return store_commit(TAKE(tx), ret_error);
}

/* 1 when the client's id is known and stands for the same re-index: then that task is the answer. */
static int answer_same(struct api_call *call, const struct reindex_run_request *request, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    struct error *error = NULL;
    if (!request->id) return 0;
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0) return result;
    result = task_load(tx, request->id, &task, &error);
    bool is_missing = result < 0 && error->class == ERROR_NOT_FOUND;
    if (result < 0 && !is_missing && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if (result < 0) return is_missing ? 0 : result;
    if (!text_equal(task.kind, "reindex") || !text_equal(task.model_id, request->destination))
        return error_set(ret_error, ERROR_CONFLICT, "the task id %s stands for another task (%s of %s): take a new id",
                         task.id, task.kind, task.model_id ? task.model_id : "no model");
    result = answer(call, tx, task.id, ret_error);
    return result < 0 ? result : 1;
}

int api_reindex_task_run(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    __attribute__((cleanup(found_clear))) struct found found = {0};
    _cleanup_view_ struct catalog_view view = {0};
    const struct catalog_entry *entry = NULL;
    struct reindex_run_request request;
    yyjson_val *root = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
        (result = request_parse_reindex_run(root, &request, ret_error)) < 0 ||
        (result = answer_same(call, &request, ret_error)) != 0)
        return result < 0 ? result : 0;
    if ((result = look_up(call, &request, &found, ret_error)) < 0 ||
        (result = choose(call, &request, &found, &entry, &view, ret_error)) < 0)
        return result;
    return insert(call, &request, &found, entry, &view, ret_error);
}

/* ---- info, restart, cancel ---- */

/* The task of ?task_id=, which must be a re-index. */
static int begin_with_task(struct api_call *call, struct store_transaction **ret_tx, struct task *ret_task,
                           struct error **ret_error) {
    struct error *error = NULL;
    const char *id = call->parameters[API_TASK_ID];
    int result = api_check_parameters(call, 1u << API_TASK_ID, ret_error);
    if (result < 0) return result;
    if (!id) return error_set(ret_error, ERROR_CONFIGURATION, "the query parameter task_id is missing");
    if ((result = store_begin(call->controller->store, ret_tx, ret_error)) < 0) return result;
    result = task_load(*ret_tx, id, ret_task, &error);
    bool is_missing = result < 0 ? error->class == ERROR_NOT_FOUND : !text_equal(ret_task->kind, "reindex");
    if (result < 0 && !is_missing && ret_error) *ret_error = TAKE(error);
    error_free(error);
    if (is_missing) return error_set(ret_error, ERROR_NOT_FOUND, "Reindex task with ID `%s` is not found", id);
    return result;
}

static int end_with_task(struct api_call *call, struct store_transaction **tx, const struct task *task,
                         struct error **ret_error) {
    int result = answer(call, *tx, task->id, ret_error);
    if (result < 0) return result;
    call->changed = true;
    return store_commit(TAKE(*tx), ret_error);
}

int api_reindex_task_info(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    int result = begin_with_task(call, &tx, &task, ret_error);
    return result < 0 ? result : answer(call, tx, task.id, ret_error);
}

int api_reindex_task_restart(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    int result = begin_with_task(call, &tx, &task, ret_error);
    if (result < 0 || (result = operation_restart_task(call->controller, tx, &task, ret_error)) < 0) return result;
    return end_with_task(call, &tx, &task, ret_error);
}

int api_reindex_task_cancel(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    int result = begin_with_task(call, &tx, &task, ret_error);
    if (result < 0 || (result = engine_cancel(tx, task.id, "canceled on request", ret_error)) < 0) return result;
    return end_with_task(call, &tx, &task, ret_error);
}

/* ---- list ---- */

int api_reindex_task_list(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    const char *status = call->parameters[API_STATUS];
    enum task_status parsed;
    int64_t limit, offset;
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET | 1u << API_STATUS, ret_error);
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0) return result;
    if (status && !task_status_parse(status, &parsed))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "status must be pending, processing, done, canceled, failed or refused, not \"%.64s\"",
                         status);
    const struct task_filter filter = {.kind = "reindex", .status = status};
    struct task *tasks = NULL;
    size_t count = 0;
    if ((result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = task_list(tx, &filter, limit, offset, &tasks, &count, &call->total_count, ret_error)) < 0)
        return result;
    yyjson_mut_val *array = yyjson_mut_arr(document);
    for (size_t i = 0; i < count; i++) yyjson_mut_arr_append(array, render(tx, &tasks[i], document));
    task_list_free(tasks, count);
    api_answer(call, 200, document, array);
    return 0;
}
