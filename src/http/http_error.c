/* Errors as RFC 9457 problem documents: type, title, status, detail, error, causes. */
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "http/http-internal.h"
#include "http/http_server.h"

/* A message may quote what a client sent; JSON is UTF-8 all the same. */
static void add_clean_text(yyjson_mut_doc *document, yyjson_mut_val *target, const char *key, const char *text) {
    size_t size = strlen(text);
    _cleanup_free_ char *clean = NULL;
    if (!text_is_utf8(text, size)) {
        clean = text_copy_bytes(text, size);
        for (char *at = clean; *at; at++)
            if ((unsigned char)*at >= 0x80) *at = '?';
        text = clean;
    }
    if (key)
        yyjson_mut_obj_add_strcpy(document, target, key, text);
    else
        yyjson_mut_arr_add_strcpy(document, target, text);
}

char *http_problem_document(const struct error *error, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    _cleanup_free_ char *detail = error_text(error);
    yyjson_mut_obj_add_str(document, root, "type", "about:blank");
    yyjson_mut_obj_add_str(document, root, "title", http_reason_phrase(error->http_status));
    yyjson_mut_obj_add_int(document, root, "status", error->http_status);
    add_clean_text(document, root, "detail", detail);
    yyjson_mut_obj_add_str(document, root, "error", error_class_name(error->class));
    yyjson_mut_val *causes = yyjson_mut_obj_add_arr(document, root, "causes");
    for (const struct error *cause = error; cause; cause = cause->cause)
        add_clean_text(document, causes, NULL, cause->message);
    return json_write(document, ret_size);
}

void http_respond_error(struct http_request *request, const struct error *error) {
    size_t size;
    char *document = http_problem_document(error, &size);
    const struct http_header headers[] = {{"Content-Type", "application/problem+json"}, {"Retry-After", "1"}};
    bool later_helps = error->http_status == 429 || error->http_status == 503;
    http_respond(request, error->http_status, headers, later_helps ? 2 : 1, document, size, free);
}
