/* GET /openapi.json: the table of routes as an OpenAPI 3.1 description: paths, methods, their parameters and what they
 * are for. What bodies hold is in the documentation. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"
#include "slipway_version.h"

static void add_parameters(yyjson_mut_doc *document, yyjson_mut_val *operation, const char *pattern) {
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, operation, "parameters");
    while ((pattern = strchr(pattern, '{'))) {
        size_t size = strcspn(++pattern, "}");
        yyjson_mut_val *parameter = yyjson_mut_arr_add_obj(document, list);
        yyjson_mut_obj_add_strncpy(document, parameter, "name", pattern, size);
        yyjson_mut_obj_add_str(document, parameter, "in", "path");
        yyjson_mut_obj_add_bool(document, parameter, "required", true);
        yyjson_mut_val *schema = yyjson_mut_obj_add_obj(document, parameter, "schema");
        yyjson_mut_obj_add_str(document, schema, "type", "string");
    }
}

/* A handler that stands at two mounts has two operations, whose ids must differ. */
static void add_id(yyjson_mut_doc *document, yyjson_mut_val *operation, size_t index) {
    const char *name = gateway_endpoints[index].name;
    unsigned before = 0;
    for (size_t i = 0; i < index; i++) before += !strcmp(gateway_endpoints[i].name, name);
    _cleanup_free_ char *id = before ? text_format("%s_%u", name, before + 1) : text_copy(name);
    yyjson_mut_obj_add_strcpy(document, operation, "operationId", id);
}

static void add_operation(yyjson_mut_doc *document, yyjson_mut_val *path, size_t index) {
    const struct gateway_endpoint *endpoint = &gateway_endpoints[index];
    char method[16] = "";
    for (size_t i = 0; endpoint->method[i] && i < sizeof method - 1; i++)
        method[i] = (char)tolower(endpoint->method[i]);
    yyjson_mut_val *operation = yyjson_mut_obj(document);
    yyjson_mut_obj_add(path, yyjson_mut_strcpy(document, method), operation);
    add_id(document, operation, index);
    yyjson_mut_obj_add_str(document, operation, "summary", endpoint->summary);
    yyjson_mut_val *tags = yyjson_mut_obj_add_arr(document, operation, "tags");
    yyjson_mut_arr_add_str(document, tags, gateway_kind_names[endpoint->kind]);
    add_parameters(document, operation, endpoint->pattern);
    if (endpoint->kind == GATEWAY_HEALTH) yyjson_mut_obj_add_arr(document, operation, "security"); /* none */
    yyjson_mut_val *responses = yyjson_mut_obj_add_obj(document, operation, "responses");
    yyjson_mut_val *any = yyjson_mut_obj_add_obj(document, responses, "default");
    yyjson_mut_obj_add_str(document, any, "description", "the answer, or an error in its family's shape");
}

static void add_security(yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_val *components = yyjson_mut_obj_add_obj(document, root, "components");
    yyjson_mut_val *schemes = yyjson_mut_obj_add_obj(document, components, "securitySchemes");
    yyjson_mut_val *token = yyjson_mut_obj_add_obj(document, schemes, "token");
    yyjson_mut_obj_add_str(document, token, "type", "http");
    yyjson_mut_obj_add_str(document, token, "scheme", "bearer");
    yyjson_mut_val *security = yyjson_mut_obj_add_arr(document, root, "security");
    yyjson_mut_obj_add_arr(document, yyjson_mut_arr_add_obj(document, security), "token");
}

enum http_body_mode gateway_serve_openapi(struct exchange *exchange) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_str(document, root, "openapi", "3.1.0");
    yyjson_mut_val *info = yyjson_mut_obj_add_obj(document, root, "info");
    yyjson_mut_obj_add_str(document, info, "title", "Slipway");
    yyjson_mut_obj_add_str(document, info, "version", SLIPWAY_VERSION);
    if (exchange->gateway->settings->token[0]) add_security(document, root);
    yyjson_mut_val *paths = yyjson_mut_obj_add_obj(document, root, "paths");
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        yyjson_mut_val *path = yyjson_mut_obj_get(paths, gateway_endpoints[i].pattern);
        if (!path) path = yyjson_mut_obj_add_obj(document, paths, gateway_endpoints[i].pattern);
        add_operation(document, path, i);
    }
    size_t size;
    _cleanup_free_ char *json = json_write(document, &size);
    exchange_respond(exchange, 200, "application/json", json, size);
    return HTTP_BODY_WHOLE;
}
