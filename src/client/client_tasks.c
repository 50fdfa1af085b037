#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define TASKS "/v1/tasks"

int client_send_for_task(struct slipway *service, const struct client_request *request, struct slipway_task **ret_task,
                         struct slipway_error **ret_error) {
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, request, &answer, ret_error);
    return result < 0 ? result : client_read_task(&answer, ret_task, ret_error);
}

int client_post_for_task(struct slipway *service, const char *path, yyjson_mut_doc *body,
                         struct slipway_task **ret_task, struct slipway_error **ret_error) {
    size_t size = 0;
    _cleanup_free_ char *text = body ? json_write(body, &size) : NULL;
    const struct client_request request = {.method = "POST", .path = path, .body = text, .body_size = size};
    return client_send_for_task(service, &request, ret_task, ret_error);
}

static int call_task(struct slipway *service, const char *method, const char *prefix, const char *id,
                     const char *suffix, struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(prefix, id, suffix);
    const struct client_request request = {.method = method, .path = path};
    return client_send_for_task(service, &request, ret_task, ret_error);
}

int slipway_get_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                     struct slipway_error **ret_error) {
    return call_task(service, "GET", TASKS "/", task_id, "", ret_task, ret_error);
}

int slipway_cancel_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                        struct slipway_error **ret_error) {
    return call_task(service, "POST", TASKS "/", task_id, "/cancel", ret_task, ret_error);
}

int slipway_restart_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                         struct slipway_error **ret_error) {
    return call_task(service, "POST", TASKS "/", task_id, "/restart", ret_task, ret_error);
}

int slipway_wait_for_task(struct slipway *service, const char *task_id, uint32_t timeout_ms,
                          struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_wait(service, TASKS "/", task_id, timeout_ms, &answer, ret_error);
    return result < 0 ? result : client_read_task(&answer, ret_task, ret_error);
}

/* "&name=value", or "" for NULL; caller frees. */
static char *parameter(const char *name, const char *value) {
    return value ? client_path(name, value, "") : text_copy("");
}

int slipway_list_tasks(struct slipway *service, size_t limit, size_t offset, const char *kind, const char *status,
                       const char *deployment_id, struct slipway_task_list **ret_list,
                       struct slipway_error **ret_error) {
    _cleanup_free_ char *kinds = parameter("&kind=", kind), *statuses = parameter("&status=", status),
                        *deployments = parameter("&deployment_id=", deployment_id);
    _cleanup_free_ char *path =
        text_format(TASKS "?limit=%zu&offset=%zu%s%s%s", limit ? limit : 100, offset, kinds, statuses, deployments);
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    return result < 0 ? result : client_read_tasks(&answer, ret_list, ret_error);
}

/* ---- model-level tasks ---- */

static yyjson_mut_val *begin_model_body(yyjson_mut_doc *document, const char *model_id, const char *task_id,
                                        const char *parent_id) {
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "embedding_model_id", model_id);
    json_add_text(document, root, "task_id", task_id);
    json_add_text(document, root, "parent_id", parent_id);
    return root;
}

int slipway_deploy(struct slipway *service, const char *embedding_model_id, const char *task_id, const char *parent_id,
                   const struct slipway_deployment_request *config, struct slipway_task **ret_task,
                   struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = begin_model_body(document, embedding_model_id, task_id, parent_id), *object = NULL;
    if (config) {
        int result = client_write_request(config, CLIENT_MODEL_CONFIG, document, &object, ret_error);
        if (result < 0) return result;
        yyjson_mut_obj_add_val(document, root, "config", object);
    }
    return client_post_for_task(service, "/deploy", document, ret_task, ret_error);
}

int slipway_delete(struct slipway *service, const char *embedding_model_id, const char *task_id, const char *parent_id,
                   const char *reason, struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = begin_model_body(document, embedding_model_id, task_id, parent_id);
    json_add_text(document, root, "reason", reason);
    return client_post_for_task(service, "/delete", document, ret_task, ret_error);
}

int slipway_get_deploy_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                            struct slipway_error **ret_error) {
    return call_task(service, "GET", "/deploy/", task_id, "", ret_task, ret_error);
}

int slipway_get_model_deploy_status(struct slipway *service, const char *embedding_model_id,
                                    struct slipway_task **ret_task, struct slipway_error **ret_error) {
    return call_task(service, "GET", "/deploy-status/", embedding_model_id, "", ret_task, ret_error);
}

int slipway_get_delete_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                            struct slipway_error **ret_error) {
    return call_task(service, "GET", "/delete/", task_id, "", ret_task, ret_error);
}

int slipway_get_model_delete_status(struct slipway *service, const char *embedding_model_id,
                                    struct slipway_task **ret_task, struct slipway_error **ret_error) {
    return call_task(service, "GET", "/delete-status/", embedding_model_id, "", ret_task, ret_error);
}
