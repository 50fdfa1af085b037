#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

char *client_documents_path(const char *collection, const char *id, bool wait_indexed) {
    _cleanup_free_ char *documents = client_path("/v1/collections/", collection, "/documents");
    _cleanup_free_ char *last = id ? client_path("/", id, "") : text_copy("");
    return text_format("%s%s%s", documents, last, wait_indexed ? "?wait=indexed" : "");
}

static int send_for_write(struct slipway *service, const struct client_request *request,
                          struct slipway_write *ret_write, struct slipway_error **ret_error) {
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, request, &answer, ret_error);
    return result < 0 ? result : client_read_write(&answer, ret_write, ret_error);
}

/* What a document consists of, into an object. */
static int add_document(yyjson_mut_doc *document, yyjson_mut_val *object, const char *text, const char *payload_json,
                        struct slipway_error **ret_error) {
    json_add_text(document, object, "text", text);
    return client_add_json(document, object, "payload", payload_json, ret_error);
}

/* The document as text, or CONFIGURATION when a text in it is not UTF-8. */
static int write_body(yyjson_mut_doc *document, char **ret_body, size_t *ret_size, struct slipway_error **ret_error) {
    *ret_body = yyjson_mut_write(document, 0, ret_size);
    if (*ret_body) return 0;
    return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "a text is not valid UTF-8");
}

int slipway_put_document(struct slipway *service, const char *collection, const char *id, const char *text,
                         const char *payload_json, bool wait_indexed, struct slipway_write *ret_write,
                         struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    int result = add_document(document, root, text, payload_json, ret_error);
    if (result < 0) return result;
    size_t size = 0;
    _cleanup_free_ char *body = NULL;
    if ((result = write_body(document, &body, &size, ret_error)) < 0) return result;
    _cleanup_free_ char *path = client_documents_path(collection, id, wait_indexed);
    const struct client_request request = {.method = "PUT", .path = path, .body = body, .body_size = size};
    return send_for_write(service, &request, ret_write, ret_error);
}

int slipway_delete_document(struct slipway *service, const char *collection, const char *id, bool wait_indexed,
                            struct slipway_write *ret_write, struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_documents_path(collection, id, wait_indexed);
    const struct client_request request = {.method = "DELETE", .path = path};
    return send_for_write(service, &request, ret_write, ret_error);
}

int slipway_get_document(struct slipway *service, const char *collection, const char *id,
                         struct slipway_document **ret_document, struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_documents_path(collection, id, false);
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    return result < 0 ? result : client_read_document(&answer, ret_document, ret_error);
}

/* ---- many ---- */

static int add_write(yyjson_mut_doc *document, yyjson_mut_val *array, const struct slipway_document_write *write,
                     struct slipway_error **ret_error) {
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, array);
    json_add_text(document, object, "id", write->id);
    if (write->text) return add_document(document, object, write->text, write->payload_json, ret_error);
    yyjson_mut_obj_add_bool(document, object, "delete", true);
    return 0;
}

int slipway_write_documents(struct slipway *service, const char *collection,
                            const struct slipway_document_write *writes, size_t count, bool wait_indexed,
                            struct slipway_bulk **ret_bulk, struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_val *array = yyjson_mut_obj_add_arr(document, root, "documents");
    for (size_t i = 0; i < count; i++) {
        int result = add_write(document, array, &writes[i], ret_error);
        if (result >= 0) continue;
        if (ret_error) client_error_add_context(*ret_error, "document %zu", i + 1);
        return result;
    }
    size_t size = 0;
    _cleanup_free_ char *body = NULL;
    int result = write_body(document, &body, &size, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *path = client_documents_path(collection, NULL, wait_indexed);
    const struct client_request request = {.method = "POST", .path = path, .body = body, .body_size = size};
    _cleanup_answer_ struct client_answer answer = {0};
    if ((result = client_send(service, &request, &answer, ret_error)) < 0) return result;
    struct slipway_bulk *bulk = mem_new(struct slipway_bulk);
    result = client_read_bulk(&answer, 0, bulk, ret_error);
    if (result < 0)
        slipway_bulk_free(bulk);
    else
        *ret_bulk = bulk;
    return result;
}
