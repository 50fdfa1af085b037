/* Errors as each family's clients expect them: problem+json (RFC 9457), the Open Inference Protocol's {"error": "…"},
 * and OpenAI's {"error": {"message", "type", "code", "param"}}. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

struct shape {
    const char *prefix; /* of the path: a whole segment */
    const char *content_type;
    const char *schema; /* in openapi_schemas.def */
    void (*write)(yyjson_mut_doc *document, yyjson_mut_val *root, const struct error *error);
};

static void write_problem(yyjson_mut_doc *document, yyjson_mut_val *root, const struct error *error) {
    _cleanup_free_ char *detail = error_text(error);
    yyjson_mut_obj_add_str(document, root, "type", "about:blank");
    yyjson_mut_obj_add_str(document, root, "title", http_reason_phrase(error->http_status));
    yyjson_mut_obj_add_int(document, root, "status", error->http_status);
    yyjson_mut_obj_add_strcpy(document, root, "detail", detail);
    yyjson_mut_obj_add_str(document, root, "error", error_class_name(error->class));
    yyjson_mut_val *causes = yyjson_mut_obj_add_arr(document, root, "causes");
    for (; error; error = error->cause) yyjson_mut_arr_add_strcpy(document, causes, error->message);
}

static void write_v2(yyjson_mut_doc *document, yyjson_mut_val *root, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    yyjson_mut_obj_add_strcpy(document, root, "error", text);
}

/* Its clients look for all four members. */
static void add_text_or_null(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *text) {
    if (text)
        yyjson_mut_obj_add_str(document, object, key, text);
    else
        yyjson_mut_obj_add_null(document, object, key);
}

static void write_openai(yyjson_mut_doc *document, yyjson_mut_val *root, const struct error *error) {
    static const struct {
        enum error_class class;
        const char *type, *code, *param;
    } kinds[] = {
        {ERROR_UNAUTHORIZED, "authentication_error", "invalid_api_key", NULL},
        {ERROR_NOT_FOUND, "invalid_request_error", "model_not_found", "model"},
        {ERROR_CONFIGURATION, "invalid_request_error", NULL, "model"},
        {ERROR_REQUEST, "invalid_request_error", NULL, NULL},
    };
    const char *type = "server_error", *code = NULL, *param = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (kinds[i].class != error->class) continue;
        type = kinds[i].type, code = kinds[i].code, param = kinds[i].param;
    }
    if (error->http_status == 403) type = "permission_error", code = "insufficient_permissions";
    if (error->http_status == 429) type = "rate_limit_error", code = "rate_limit_exceeded";
    _cleanup_free_ char *text = error_text(error);
    yyjson_mut_val *object = yyjson_mut_obj_add_obj(document, root, "error");
    yyjson_mut_obj_add_strcpy(document, object, "message", text);
    yyjson_mut_obj_add_str(document, object, "type", type);
    add_text_or_null(document, object, "code", code);
    add_text_or_null(document, object, "param", param);
}

static const struct shape shapes[] = {
    {"/v2", "application/json", "InferenceError", write_v2},
    {"/v1/embeddings", "application/json", "OpenAIError", write_openai},
    {"/v1/models", "application/json", "OpenAIError", write_openai},
    {"", "application/problem+json", "Problem", write_problem},
};

static const struct shape *shape_of(const char *path) {
    for (size_t i = 0;; i++) {
        size_t size = strlen(shapes[i].prefix);
        if (!size) return &shapes[i];
        if (!strncmp(path, shapes[i].prefix, size) && strchr("/?", path[size])) return &shapes[i];
    }
}

const char *gateway_error_schema(const char *path) {
    return shape_of(path)->schema;
}

char *gateway_write_error(const char *path, const struct error *error, const char **ret_content_type,
                          size_t *ret_size) {
    const struct shape *shape = shape_of(path);
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    shape->write(document, root, error);
    *ret_content_type = shape->content_type;
    return json_write(document, ret_size);
}

/* RFC 6750 3: what was wrong is said only to who brought a token. */
static const char *challenge_of(const struct exchange *exchange) {
    return exchange->token_was_wrong ? "Bearer realm=\"slipway\", error=\"invalid_token\"" : "Bearer realm=\"slipway\"";
}

/* With the headers that belong to its status; an answer that has begun can only be broken off. Takes the error. */
static void respond(struct exchange *exchange, struct error *error, const char *content_type, const char *body,
                    size_t size) {
    if (http_has_begun(exchange->request)) {
        error_free(error);
        exchange_break(exchange);
        return;
    }
    struct http_header headers[4] = {{"Content-Type", content_type}, {"X-Request-Id", exchange->request_id}};
    size_t count = 2;
    char allow[64], retry_after[24];
    switch (error->http_status) {
    case 401: headers[count++] = (struct http_header){"WWW-Authenticate", challenge_of(exchange)}; break;
    case 403:
        headers[count++] =
            (struct http_header){"WWW-Authenticate", "Bearer realm=\"slipway\", error=\"insufficient_scope\""};
        break;
    case 405:
        gateway_dispatch_allow(exchange->gateway->dispatch, exchange->request->path, allow);
        headers[count++] = (struct http_header){"Allow", allow};
        break;
    case 429:
    case 503:
        snprintf(retry_after, sizeof retry_after, "%llu",
                 exchange->retry_after_s ? (unsigned long long)exchange->retry_after_s : 1);
        headers[count++] = (struct http_header){"Retry-After", retry_after};
        break;
    default: break;
    }
    int status = error->http_status;
    error_free(error);
    exchange_respond_with(exchange, status, headers, count, body, size);
}

void exchange_fail(struct exchange *exchange, struct error *error) {
    const char *content_type;
    size_t size;
    _cleanup_free_ char *body = gateway_write_error(exchange->request->path, error, &content_type, &size);
    respond(exchange, error, content_type, body, size);
}

void exchange_fail_with_members(struct exchange *exchange, struct error *error,
                                void (*add)(yyjson_mut_doc *document, yyjson_mut_val *root, const void *context),
                                const void *context) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    write_problem(document, root, error);
    add(document, root, context);
    size_t size;
    _cleanup_free_ char *body = json_write(document, &size);
    respond(exchange, error, "application/problem+json", body, size);
}

void exchange_fail_with(struct exchange *exchange, enum error_class class, int status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *message = text_format_list(format, arguments);
    va_end(arguments);
    struct error *error = NULL;
    error_set_status(&error, class, status ? status : error_class_status(class), "%s", message);
    exchange_fail(exchange, error);
}

enum http_body_mode gateway_serve_nothing(struct exchange *exchange) {
    const struct http_request *request = exchange->request;
    int shown = (int)strcspn(request->path, "?");
    if (shown > 256) shown = 256;
    if (exchange->match.path_exists) {
        exchange_fail_with(exchange, ERROR_REQUEST, 405, "%s is not answered at %.*s", request->method, shown,
                           request->path);
    } else {
        exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "nothing is served at %.*s", shown, request->path);
    }
    return HTTP_BODY_WHOLE;
}
