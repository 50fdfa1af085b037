#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define DEPLOYMENTS "/v1/deployments"
#define WAIT_SLICE_MS 20000 /* one request of a wait; the whole wait outlives a restart of the service */
#define WAIT_PAUSE_MS 200

static int send_for_deployment(struct slipway *service, const struct client_request *request,
                               struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, request, &answer, ret_error);
    return result < 0 ? result : client_read_deployment(&answer, ret_deployment, ret_error);
}

static int send_request(struct slipway *service, const char *method, const char *path,
                        const struct slipway_deployment_request *request, struct slipway_deployment **ret_deployment,
                        struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = NULL;
    int result = client_write_request(request, CLIENT_DEPLOYMENT, document, &root, ret_error);
    if (result < 0) return result;
    yyjson_mut_doc_set_root(document, root);
    size_t size = 0;
    _cleanup_free_ char *body = json_write(document, &size);
    const struct client_request sent = {
        .method = method,
        .path = path,
        .body = body,
        .body_size = size,
        .idempotency_key = !text_equal(method, "POST") ? NULL : request->idempotency_key,
    };
    return send_for_deployment(service, &sent, ret_deployment, ret_error);
}

int slipway_deploy_model(struct slipway *service, const struct slipway_deployment_request *request,
                         struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    return send_request(service, "POST", DEPLOYMENTS, request, ret_deployment, ret_error);
}

int slipway_update_deployment(struct slipway *service, const char *deployment_id,
                              const struct slipway_deployment_request *request,
                              struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(DEPLOYMENTS "/", deployment_id, "");
    return send_request(service, "PUT", path, request, ret_deployment, ret_error);
}

/* A call on one deployment without a body. */
static int call_deployment(struct slipway *service, const char *method, const char *deployment_id, const char *suffix,
                           struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(DEPLOYMENTS "/", deployment_id, suffix);
    const struct client_request request = {.method = method, .path = path};
    return send_for_deployment(service, &request, ret_deployment, ret_error);
}

int slipway_get_deployment_status(struct slipway *service, const char *deployment_id,
                                  struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    return call_deployment(service, "GET", deployment_id, "", ret_deployment, ret_error);
}

int slipway_delete_deployment(struct slipway *service, const char *deployment_id,
                              struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    return call_deployment(service, "DELETE", deployment_id, "", ret_deployment, ret_error);
}

int slipway_rollback_deployment(struct slipway *service, const char *deployment_id,
                                struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    return call_deployment(service, "POST", deployment_id, "/rollback", ret_deployment, ret_error);
}

int slipway_restart_deployment(struct slipway *service, const char *deployment_id,
                               struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    return call_deployment(service, "POST", deployment_id, "/restart", ret_deployment, ret_error);
}

int slipway_patch_deployment(struct slipway *service, const char *deployment_id,
                             const struct slipway_deployment_patch *patch, struct slipway_deployment **ret_deployment,
                             struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    if (patch->replicas) yyjson_mut_obj_add_uint(document, root, "replicas", patch->replicas);
    if (patch->has_resources) {
        yyjson_mut_val *resources = yyjson_mut_obj_add_obj(document, root, "resource_allocation");
        yyjson_mut_obj_add_real(document, resources, "cpu", patch->cpu);
        yyjson_mut_obj_add_uint(document, resources, "memory", patch->memory_bytes);
        yyjson_mut_obj_add_uint(document, resources, "gpu", patch->gpu);
    }
    int result = client_add_json(document, root, "tags", patch->tags_json, ret_error);
    if (result < 0) return result;
    size_t size = 0;
    _cleanup_free_ char *body = json_write(document, &size);
    _cleanup_free_ char *path = client_path(DEPLOYMENTS "/", deployment_id, "");
    const struct client_request request = {.method = "PATCH", .path = path, .body = body, .body_size = size};
    return send_for_deployment(service, &request, ret_deployment, ret_error);
}

int slipway_list_deployments(struct slipway *service, size_t limit, size_t offset, const char *status,
                             struct slipway_deployment_list **ret_list, struct slipway_error **ret_error) {
    _cleanup_free_ char *filter = status ? client_path("&status=", status, "") : text_copy("");
    _cleanup_free_ char *path = text_format(DEPLOYMENTS "?limit=%zu&offset=%zu%s", limit ? limit : 100, offset, filter);
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    return result < 0 ? result : client_read_deployments(&answer, ret_list, ret_error);
}

int client_wait(struct slipway *service, const char *prefix, const char *id, uint32_t timeout_ms,
                struct client_answer *ret_answer, struct slipway_error **ret_error) {
    uint64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    for (;;) {
        uint64_t now = clock_monotonic_ms(), left = deadline_ms > now ? deadline_ms - now : 0;
        uint32_t slice = (uint32_t)(left < WAIT_SLICE_MS ? left : WAIT_SLICE_MS);
        _cleanup_free_ char *suffix = text_format("/wait?timeout=%u.%03u", slice / 1000, slice % 1000);
        _cleanup_free_ char *path = client_path(prefix, id, suffix);
        const struct client_request request = {.method = "GET", .path = path, .timeout_ms = slice + 10000};
        struct slipway_error *error = NULL;
        int result = client_send(service, &request, ret_answer, &error);
        bool is_over = clock_monotonic_ms() + WAIT_PAUSE_MS >= deadline_ms;
        if (result == -SLIPWAY_UNAVAILABLE && !is_over) {
            if (error->http_status != 504)
                usleep(WAIT_PAUSE_MS * 1000); /* it restarts: the next request finds it again */
            slipway_error_free(error);
            continue;
        }
        if (ret_error)
            *ret_error = error;
        else
            slipway_error_free(error);
        return result;
    }
}

int slipway_wait_for_deployment(struct slipway *service, const char *deployment_id, uint32_t timeout_ms,
                                struct slipway_deployment **ret_deployment, struct slipway_error **ret_error) {
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_wait(service, DEPLOYMENTS "/", deployment_id, timeout_ms, &answer, ret_error);
    return result < 0 ? result : client_read_deployment(&answer, ret_deployment, ret_error);
}
