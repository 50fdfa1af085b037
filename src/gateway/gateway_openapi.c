/* GET /openapi.json: an OpenAPI 3.1 description made from tables. http/routes.def has the paths and who may use them,
 * openapi_operations.def what each takes and gives, openapi_schemas.def what bodies hold. It is made when it is first
 * asked for and kept; its ETag is of its bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"
#include "gateway/gateway_openapi-internal.h"
#include "slipway_version.h"

static void add_info(yyjson_mut_doc *document, yyjson_mut_val *root, const char *public_url) {
    yyjson_mut_val *info = yyjson_mut_obj_add_obj(document, root, "info");
    yyjson_mut_obj_add_str(document, info, "title", "Slipway");
    yyjson_mut_obj_add_str(document, info, "version", SLIPWAY_VERSION);
    yyjson_mut_obj_add_str(document, info, "description",
                           "Deploys machine-learning models, serves them, and keeps collections of documents that are "
                           "searched by them.");
    yyjson_mut_val *server = yyjson_mut_arr_add_obj(document, yyjson_mut_obj_add_arr(document, root, "servers"));
    yyjson_mut_obj_add_strcpy(document, server, "url", *public_url ? public_url : "/");
}

/* A handler that stands at two mounts has two operations, whose ids must differ. */
static char *operation_id(size_t index) {
    const char *name = gateway_endpoints[index].name;
    unsigned before = 0;
    for (size_t i = 0; i < index; i++) before += !strcmp(gateway_endpoints[i].name, name);
    return before ? text_format("%s_%u", name, before + 1) : text_copy(name);
}

static void add_paths(yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_val *paths = yyjson_mut_obj_add_obj(document, root, "paths");
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        const struct gateway_endpoint *endpoint = &gateway_endpoints[i];
        yyjson_mut_val *path = yyjson_mut_obj_get(paths, endpoint->pattern);
        if (!path) path = yyjson_mut_obj_add_obj(document, paths, endpoint->pattern);
        _cleanup_free_ char *id = operation_id(i), *method = text_copy(endpoint->method);
        for (char *at = method; *at; at++) *at |= 0x20;
        yyjson_mut_obj_add(path, yyjson_mut_strcpy(document, method), openapi_operation(document, endpoint, id));
    }
}

static void add_components(yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_val *components = yyjson_mut_obj_add_obj(document, root, "components");
    yyjson_mut_obj_add_val(document, components, "schemas", openapi_schemas(document));
    yyjson_mut_obj_add_val(document, components, "responses", openapi_error_answers(document));
    yyjson_mut_obj_add_val(document, components, "headers", openapi_headers(document));
    yyjson_mut_val *schemes = yyjson_mut_obj_add_obj(document, components, "securitySchemes");
    yyjson_mut_val *token = yyjson_mut_obj_add_obj(document, schemes, "token");
    yyjson_mut_obj_add_str(document, token, "type", "http");
    yyjson_mut_obj_add_str(document, token, "scheme", "bearer");
    yyjson_mut_obj_add_str(document, token, "description",
                           "A token with the role that the operation names, or one that includes it: deploy has read "
                           "and infer, admin has all. A service that has no tokens asks for none.");
}

char *openapi_write(const char *public_url, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_str(document, root, "openapi", "3.1.0");
    add_info(document, root, public_url);
    add_paths(document, root);
    add_components(document, root);
    return json_write(document, ret_size);
}

/* ---- serving it -------------------------------------------------------------------- */

static void make(struct gateway *gateway) {
    struct gateway_description *description = &gateway->description;
    if (description->json) return;
    char digest[DIGEST_HEX_SIZE];
    description->json = openapi_write(gateway->settings->public_url, &description->size);
    digest_bytes(description->json, description->size, digest);
    snprintf(description->etag, sizeof description->etag, "\"%.32s\"", digest);
}

/* If-None-Match is a list of tags, weak ones too, or * (RFC 9110 13.1.2). A tag has 32 digits in quotes: to find it
 * somewhere in the list is to find it in the list. */
static bool is_known(const struct exchange *exchange) {
    const char *tags = http_request_header(exchange->request, "If-None-Match");
    return tags && (text_equal(tags, "*") || strstr(tags, exchange->gateway->description.etag));
}

enum http_body_mode gateway_serve_openapi(struct exchange *exchange) {
    make(exchange->gateway);
    const struct gateway_description *description = &exchange->gateway->description;
    const struct http_header headers[] = {{"ETag", description->etag},
                                          {"Cache-Control", "no-cache"}, /* ask whether it is still the same */
                                          {"X-Request-Id", exchange->request_id},
                                          {"Content-Type", "application/json"}};
    if (is_known(exchange))
        exchange_respond_with(exchange, 304, headers, ARRAY_SIZE(headers) - 1, "", 0);
    else
        exchange_respond_with(exchange, 200, headers, ARRAY_SIZE(headers), description->json, description->size);
    return HTTP_BODY_WHOLE;
}
