#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define COLLECTIONS "/v1/collections"

static int send_for_collection(struct slipway *service, const struct client_request *request,
                               struct slipway_collection **ret_collection, struct slipway_error **ret_error) {
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, request, &answer, ret_error);
    return result < 0 ? result : client_read_collection(&answer, ret_collection, ret_error);
}

int slipway_create_collection(struct slipway *service, const struct slipway_collection_request *request,
                              struct slipway_collection **ret_collection, struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "name", request->name);
    json_add_text(document, root, "deployment", request->deployment);
    json_add_text(document, root, "metric", request->metric);
    if (request->keep_queries) yyjson_mut_obj_add_bool(document, root, "keep_queries", true);
    if (request->quantized) yyjson_mut_obj_add_bool(document, root, "quantized", true);
    size_t size = 0;
    _cleanup_free_ char *body = json_write(document, &size);
    const struct client_request sent = {.method = "POST", .path = COLLECTIONS, .body = body, .body_size = size};
    return send_for_collection(service, &sent, ret_collection, ret_error);
}

int slipway_get_collection(struct slipway *service, const char *collection, struct slipway_collection **ret_collection,
                           struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(COLLECTIONS "/", collection, "");
    const struct client_request request = {.method = "GET", .path = path};
    return send_for_collection(service, &request, ret_collection, ret_error);
}

int slipway_list_collections(struct slipway *service, size_t limit, size_t offset,
                             struct slipway_collection_list **ret_list, struct slipway_error **ret_error) {
    _cleanup_free_ char *path = text_format(COLLECTIONS "?limit=%zu&offset=%zu", limit ? limit : 100, offset);
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    return result < 0 ? result : client_read_collections(&answer, ret_list, ret_error);
}

int slipway_delete_collection(struct slipway *service, const char *collection, struct slipway_task **ret_task,
                              struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(COLLECTIONS "/", collection, "");
    const struct client_request request = {.method = "DELETE", .path = path};
    return client_send_for_task(service, &request, ret_task, ret_error);
}

int slipway_list_indexes(struct slipway *service, const char *collection, struct slipway_index_list **ret_list,
                         struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(COLLECTIONS "/", collection, "/indexes?limit=1000");
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    return result < 0 ? result : client_read_indexes(&answer, ret_list, ret_error);
}
