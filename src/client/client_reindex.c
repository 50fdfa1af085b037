#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define REINDEX_TASKS "/api/v1/internal/reindex-tasks"

static void add_count_or_share(yyjson_mut_doc *document, yyjson_mut_val *root, double maximum) {
    if (maximum >= 1)
        yyjson_mut_obj_add_uint(document, root, "max_failed", (uint64_t)floor(maximum));
    else if (maximum > 0)
        yyjson_mut_obj_add_real(document, root, "max_failed", maximum);
}

static int write_reindex(const struct slipway_reindex_request *request, yyjson_mut_doc *document,
                         struct slipway_error **ret_error) {
    yyjson_mut_val *root = yyjson_mut_obj(document), *destination = NULL;
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "destination", request->destination);
    if (!request->destination && request->destination_request) {
        int result =
            client_write_request(request->destination_request, CLIENT_DEPLOYMENT, document, &destination, ret_error);
        if (result < 0) return result;
        yyjson_mut_obj_add_val(document, root, "destination", destination);
    }
    if (request->stop_before_switch) yyjson_mut_obj_add_bool(document, root, "blue_switch", false);
    if (request->wait_on_conflict) yyjson_mut_obj_add_bool(document, root, "wait_on_conflict", true);
    if (request->keep_source) yyjson_mut_obj_add_bool(document, root, "delete_source", false);
    if (request->has_rollback_window)
        yyjson_mut_obj_add_uint(document, root, "rollback_window", request->rollback_window_s);
    add_count_or_share(document, root, request->max_failed);
    if (request->overlap_k) {
        yyjson_mut_val *overlap = yyjson_mut_obj_add_obj(document, root, "min_overlap");
        yyjson_mut_obj_add_uint(document, overlap, "k", request->overlap_k);
        yyjson_mut_obj_add_real(document, overlap, "at_least", request->overlap_at_least);
    }
    return 0;
}

int slipway_reindex(struct slipway *service, const char *collection, const struct slipway_reindex_request *request,
                    struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int result = write_reindex(request, document, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *path = client_path("/v1/collections/", collection, "/reindex");
    return client_post_for_task(service, path, document, ret_task, ret_error);
}

int slipway_switch(struct slipway *service, const char *collection, const char *index_id,
                   const struct slipway_switch_options *options, struct slipway_task **ret_task,
                   struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "index_id", index_id);
    if (options && options->has_rollback_window)
        yyjson_mut_obj_add_uint(document, root, "rollback_window", options->rollback_window_s);
    if (options && options->keep_source) yyjson_mut_obj_add_bool(document, root, "delete_source", false);
    if (options) json_add_text(document, root, "parent_id", options->parent_id);
    _cleanup_free_ char *path = client_path("/v1/collections/", collection, "/switch");
    return client_post_for_task(service, path, document, ret_task, ret_error);
}

int slipway_rollback_collection(struct slipway *service, const char *collection, struct slipway_task **ret_task,
                                struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path("/v1/collections/", collection, "/rollback");
    return client_post_for_task(service, path, NULL, ret_task, ret_error);
}

int slipway_list_failed_items(struct slipway *service, const char *task_id, size_t limit, size_t offset,
                              struct slipway_failed_item_list **ret_list, struct slipway_error **ret_error) {
    _cleanup_free_ char *suffix = text_format("/failed-items?limit=%zu&offset=%zu", limit ? limit : 100, offset);
    _cleanup_free_ char *path = client_path("/v1/tasks/", task_id, suffix);
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    return result < 0 ? result : client_read_failed_items(&answer, ret_list, ret_error);
}

/* ---- by model ids ---- */

static void add_model(yyjson_mut_doc *document, yyjson_mut_val *root, const char *field, const char *model_id) {
    yyjson_mut_val *model = yyjson_mut_obj_add_obj(document, root, field);
    json_add_text(document, model, "embedding_model_id", model_id);
}

int slipway_run_reindex_task(struct slipway *service, const struct slipway_reindex_task *task,
                             struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    char made[37];
    if (!task->task_id) text_new_uuid(made);
    json_add_text(document, root, "id", task->task_id ? task->task_id : made);
    add_model(document, root, "source", task->source_model_id);
    add_model(document, root, "dest", task->dest_model_id);
    json_add_text(document, root, "collection", task->collection);
    if (task->deploy_as_blue) yyjson_mut_obj_add_bool(document, root, "deploy_as_blue", true);
    if (task->wait_on_conflict) yyjson_mut_obj_add_bool(document, root, "wait_on_conflict", true);
    return client_post_for_task(service, REINDEX_TASKS "/run", document, ret_task, ret_error);
}

/* A call that names the task in its query. */
static int call_reindex_task(struct slipway *service, const char *method, const char *path, const char *task_id,
                             struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_free_ char *whole = client_path(path, task_id, "");
    const struct client_request request = {.method = method, .path = whole};
    return client_send_for_task(service, &request, ret_task, ret_error);
}

int slipway_get_reindex_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                             struct slipway_error **ret_error) {
    return call_reindex_task(service, "GET", REINDEX_TASKS "/info?task_id=", task_id, ret_task, ret_error);
}

int slipway_restart_reindex_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                                 struct slipway_error **ret_error) {
    return call_reindex_task(service, "PUT", REINDEX_TASKS "/restart?task_id=", task_id, ret_task, ret_error);
}

int slipway_cancel_reindex_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                                struct slipway_error **ret_error) {
    return call_reindex_task(service, "PUT", REINDEX_TASKS "/cancel?task_id=", task_id, ret_task, ret_error);
}

int slipway_list_reindex_tasks(struct slipway *service, size_t limit, size_t offset, const char *status,
                               struct slipway_task_list **ret_list, struct slipway_error **ret_error) {
    _cleanup_free_ char *filter = status ? client_path("&status=", status, "") : text_copy("");
    _cleanup_free_ char *path =
        text_format(REINDEX_TASKS "/list?limit=%zu&offset=%zu%s", limit ? limit : 100, offset, filter);
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    return result < 0 ? result : client_read_tasks(&answer, ret_list, ret_error);
}
