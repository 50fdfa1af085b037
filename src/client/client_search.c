#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

static int add_vector(yyjson_mut_doc *document, yyjson_mut_val *root, const struct slipway_search_request *request,
                      struct slipway_error **ret_error) {
    yyjson_mut_val *vector = yyjson_mut_obj_add_arr(document, root, "vector");
    for (size_t i = 0; i < request->dimension; i++) {
        if (!isfinite(request->vector[i]))
            return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "search: number %zu of the vector is not finite",
                                i + 1);
        yyjson_mut_arr_add_real(document, vector, (double)request->vector[i]);
    }
    json_add_text(document, root, "encoder_digest", request->encoder_digest);
    return 0;
}

static int write_search(const struct slipway_search_request *request, yyjson_mut_doc *document,
                        struct slipway_error **ret_error) {
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "query", request->query);
    if (request->vector) {
        int result = add_vector(document, root, request, ret_error);
        if (result < 0) return result;
    }
    if (request->limit) yyjson_mut_obj_add_uint(document, root, "limit", request->limit);
    if (request->offset) yyjson_mut_obj_add_uint(document, root, "offset", request->offset);
    if (request->without_payload) yyjson_mut_obj_add_bool(document, root, "with_payload", false);
    if (request->with_vector) yyjson_mut_obj_add_bool(document, root, "with_vector", true);
    return client_add_json(document, root, "filter", request->filter_json, ret_error);
}

static int search(struct slipway *service, const char *collection, const char *suffix,
                  const struct slipway_search_request *request, struct slipway_hits **ret_hits,
                  struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int result = write_search(request, document, ret_error);
    if (result < 0) return result;
    size_t size = 0;
    _cleanup_free_ char *body = yyjson_mut_write(document, 0, &size);
    if (!body) return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "search: the query is not valid UTF-8");
    _cleanup_free_ char *path = client_path("/v1/collections/", collection, suffix);
    const struct client_request sent = {.method = "POST", .path = path, .body = body, .body_size = size};
    _cleanup_answer_ struct client_answer answer = {0};
    result = client_send(service, &sent, &answer, ret_error);
    return result < 0 ? result : client_read_hits(&answer, ret_hits, ret_error);
}

int slipway_search(struct slipway *service, const char *collection, const struct slipway_search_request *request,
                   struct slipway_hits **ret_hits, struct slipway_error **ret_error) {
    return search(service, collection, "/search", request, ret_hits, ret_error);
}

int slipway_search_queries(struct slipway *service, const char *collection,
                           const struct slipway_search_request *request, struct slipway_hits **ret_hits,
                           struct slipway_error **ret_error) {
    return search(service, collection, "/queries/search", request, ret_hits, ret_error);
}
