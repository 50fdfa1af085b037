#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

/* The public classes have the numbers of base/errors.def, and one more. */
_Static_assert((int)SLIPWAY_CONFIGURATION == (int)ERROR_CONFIGURATION, "one numbering");
_Static_assert((int)SLIPWAY_UNAUTHORIZED == (int)ERROR_UNAUTHORIZED, "one numbering");
_Static_assert((int)SLIPWAY_NOT_FOUND == (int)ERROR_NOT_FOUND, "one numbering");
_Static_assert((int)SLIPWAY_CONFLICT == (int)ERROR_CONFLICT, "one numbering");
_Static_assert((int)SLIPWAY_REFUSED == (int)ERROR_REFUSED, "one numbering");
_Static_assert((int)SLIPWAY_MODEL_REGISTRY == (int)ERROR_MODEL_REGISTRY, "one numbering");
_Static_assert((int)SLIPWAY_EXTERNAL_SERVICE == (int)ERROR_EXTERNAL_SERVICE, "one numbering");
_Static_assert((int)SLIPWAY_DEPLOYMENT == (int)ERROR_DEPLOYMENT, "one numbering");
_Static_assert((int)SLIPWAY_REQUEST == (int)ERROR_REQUEST, "one numbering");
_Static_assert((int)SLIPWAY_UNAVAILABLE == (int)ERROR_UNAVAILABLE, "one numbering");
_Static_assert((int)SLIPWAY_PROTOCOL == (int)ERROR_CLASS_COUNT, "one numbering");

const char *slipway_error_class_name(int error_class) {
    if (error_class < 0) error_class = -error_class;
    return error_class == SLIPWAY_PROTOCOL ? "ProtocolError" : error_class_name((enum error_class)error_class);
}

void slipway_error_free(struct slipway_error *error) {
    if (!error) return;
    for (size_t i = 0; i < error->cause_count; i++) free((char *)error->causes[i]);
    free((void *)error->causes);
    free((char *)error->message);
    free(error);
}

static struct slipway_error *new_error(enum slipway_error_class error_class, int http_status, char *message) {
    struct slipway_error *error = mem_new(struct slipway_error);
    error->error_class = error_class;
    error->name = slipway_error_class_name((int)error_class);
    error->http_status = http_status;
    error->message = message;
    return error;
}

void client_error_add_cause(struct slipway_error *error, const char *cause) {
    const char **causes = mem_resize((void *)error->causes, error->cause_count + 1, sizeof *causes);
    causes[error->cause_count++] = text_copy(cause);
    error->causes = causes;
}

int client_error(struct slipway_error **ret_error, enum slipway_error_class error_class, int http_status,
                 const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *message = text_format_list(format, arguments);
    va_end(arguments);
    if (ret_error) {
        *ret_error = new_error(error_class, http_status, message);
        client_error_add_cause(*ret_error, message);
    } else {
        free(message);
    }
    return -(int)error_class;
}

void client_error_add_context(struct slipway_error *error, const char *format, ...) {
    if (!error) return;
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *context = text_format_list(format, arguments);
    va_end(arguments);
    char *message = text_format("%s: %s", context, error->message);
    free((char *)error->message);
    error->message = message;
    client_error_add_cause(error, context);
    const char **causes = (const char **)error->causes, *outermost = causes[error->cause_count - 1];
    memmove(causes + 1, causes, (error->cause_count - 1) * sizeof *causes);
    causes[0] = outermost;
}

struct slipway_error *client_error_from_object(yyjson_val *object) {
    enum error_class class = error_class_parse(yyjson_get_str(yyjson_obj_get(object, "error")));
    if (!class) return NULL;
    const char *message = yyjson_get_str(yyjson_obj_get(object, "message"));
    if (!message) message = yyjson_get_str(yyjson_obj_get(object, "detail"));
    struct slipway_error *error =
        new_error((enum slipway_error_class) class, (int)yyjson_get_int(yyjson_obj_get(object, "status")),
                  text_copy(message ? message : error_class_name(class)));
    size_t index, maximum;
    yyjson_val *causes = yyjson_obj_get(object, "causes"), *cause;
    if (!yyjson_is_arr(causes)) return error;
    yyjson_arr_foreach(causes, index, maximum, cause) {
        if (yyjson_is_str(cause)) client_error_add_cause(error, yyjson_get_str(cause));
    }
    return error;
}

/* The sentence of the bodies that are no problem document: {"error": "…"} of /v2, {"error": {"message": "…"}} of
 * OpenAI. */
static const char *foreign_message(yyjson_val *root) {
    yyjson_val *error = yyjson_obj_get(root, "error");
    return yyjson_is_obj(error) ? yyjson_get_str(yyjson_obj_get(error, "message")) : yyjson_get_str(error);
}

static enum slipway_error_class class_of_status(long status) {
    switch (status) {
    case 400:
    case 422: return SLIPWAY_CONFIGURATION;
    case 401:
    case 403: return SLIPWAY_UNAUTHORIZED;
    case 404: return SLIPWAY_NOT_FOUND;
    case 409: return SLIPWAY_CONFLICT;
    case 507: return SLIPWAY_REFUSED;
    case 405:
    case 408:
    case 413:
    case 429:
    case 431: return SLIPWAY_REQUEST;
    case 500: return SLIPWAY_DEPLOYMENT;
    case 502: return SLIPWAY_EXTERNAL_SERVICE;
    case 503:
    case 504: return SLIPWAY_UNAVAILABLE;
    default: return SLIPWAY_PROTOCOL;
    }
}

int client_error_from_answer(const struct client_answer *answer, struct slipway_error **ret_error) {
    _cleanup_json_ yyjson_doc *document =
        yyjson_read(answer->body.bytes ? answer->body.bytes : "", answer->body.size, 0);
    yyjson_val *root = yyjson_doc_get_root(document);
    struct slipway_error *error = answer->is_problem ? client_error_from_object(root) : NULL;
    if (!error) {
        const char *message = foreign_message(root);
        struct slipway_error *made = NULL;
        client_error(&made, class_of_status(answer->http_status), (int)answer->http_status, "%s",
                     message ? message : "the service gave no reason");
        error = made;
    }
    error->http_status = (int)answer->http_status;
    error->retry_after_ms = answer->retry_after_ms;
    int result = -(int)error->error_class;
    if (ret_error)
        *ret_error = error;
    else
        slipway_error_free(error);
    return result;
}
