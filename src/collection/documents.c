#include "collection/documents.h"

#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "collection/collection.h"

void collection_document_clear(struct collection_document *document) {
    free(document->id);
    free(document->text);
    free(document->payload_json);
    *document = (struct collection_document){0};
}

/* base/json.h says CONFIGURATION, which is for settings; this is somebody's request. */
static int as_request_error(struct error **ret_error) {
    for (struct error *error = ret_error ? *ret_error : NULL; error; error = error->cause) error->class = ERROR_REQUEST;
    return -(int)ERROR_REQUEST;
}

int collection_check_id(const char *id, size_t size, struct error **ret_error) {
    if (!size) return error_set(ret_error, ERROR_REQUEST, "the id is empty");
    if (size > COLLECTION_ID_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST, "the id has %zu bytes, and at most %d are allowed", size,
                         COLLECTION_ID_MAXIMUM);
    if (!text_is_utf8(id, size)) return error_set(ret_error, ERROR_REQUEST, "the id is not UTF-8 without NUL");
    return 0;
}

/* The bytes of the white space (Unicode's property White_Space) that `text` begins with, or 0. */
static size_t space_at(const char *text) {
    static const char *const spaces[] = {
        "\t",           "\n",           "\v",           "\f",           "\r",           " ",
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81", "\xe2\x80\x82",
        "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86", "\xe2\x80\x87", "\xe2\x80\x88",
        "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f",
        "\xe3\x80\x80",
    };
    for (size_t i = 0; i < ARRAY_SIZE(spaces); i++)
        if (text_starts_with(text, spaces[i])) return strlen(spaces[i]);
    return 0;
}

static bool is_blank(const char *text) {
    size_t size;
    while ((size = space_at(text))) text += size;
    return !*text;
}

static int read_text(yyjson_val *object, struct collection_document *document, struct error **ret_error) {
    yyjson_val *text = yyjson_obj_get(object, "text");
    if (!text || yyjson_is_null(text)) return error_set(ret_error, ERROR_REQUEST, "the field text is missing");
    if (!yyjson_is_str(text)) return error_set(ret_error, ERROR_REQUEST, "the field text must be a string");
    if (strlen(yyjson_get_str(text)) != yyjson_get_len(text))
        return error_set(ret_error, ERROR_REQUEST, "the field text must not contain NUL");
    if (is_blank(yyjson_get_str(text))) return error_set(ret_error, ERROR_REQUEST, "the field text is empty");
    document->text = text_copy(yyjson_get_str(text));
    return 0;
}

static int read_payload(yyjson_val *object, struct collection_document *document, struct error **ret_error) {
    yyjson_val *payload = yyjson_obj_get(object, "payload");
    if (payload && !yyjson_is_null(payload) && !yyjson_is_obj(payload))
        return error_set(ret_error, ERROR_REQUEST, "the field payload must be an object");
    document->payload_json = yyjson_is_obj(payload) ? json_write_value(payload, NULL) : text_copy("{}");
    return 0;
}

static int read_content(yyjson_val *object, size_t maximum, struct collection_document *document,
                        struct error **ret_error) {
    int result = read_text(object, document, ret_error);
    if (!result) result = read_payload(object, document, ret_error);
    if (result < 0) return result;
    size_t size = strlen(document->text) + strlen(document->payload_json);
    if (size <= maximum) return 0;
    return error_set_status(ret_error, ERROR_REQUEST, 413,
                            "text and payload have %zu bytes, and at most %zu are allowed (setting document_maximum)",
                            size, maximum);
}

static int read_id(yyjson_val *object, struct collection_document *document, struct error **ret_error) {
    yyjson_val *id = yyjson_obj_get(object, "id");
    if (!id || yyjson_is_null(id)) return error_set(ret_error, ERROR_REQUEST, "the field id is missing");
    if (!yyjson_is_str(id)) return error_set(ret_error, ERROR_REQUEST, "the field id must be a string");
    int result = collection_check_id(yyjson_get_str(id), yyjson_get_len(id), ret_error);
    if (!result) document->id = text_copy(yyjson_get_str(id));
    return result;
}

static int check_delete(yyjson_val *object, struct error **ret_error) {
    if (yyjson_obj_get(object, "text") || yyjson_obj_get(object, "payload"))
        return error_set(ret_error, ERROR_REQUEST, "an item with delete has neither text nor payload");
    return 0;
}

int collection_read_item(yyjson_val *item, size_t maximum, struct collection_document *ret_document,
                         struct error **ret_error) {
    /* seq and updated_at are what an export says of each document: what was exported can be imported. */
    static const char *const fields[] = {"id", "text", "payload", "delete", "seq", "updated_at"};
    *ret_document = (struct collection_document){0};
    if (!yyjson_is_obj(item)) return error_set(ret_error, ERROR_REQUEST, "an item must be an object");
    int result = read_id(item, ret_document, ret_error);
    if (result < 0) return result;
    if (json_check_fields(item, "", fields, ARRAY_SIZE(fields), ret_error) < 0) return as_request_error(ret_error);
    bool is_delete = false;
    if (json_get_boolean(item, "", "delete", &is_delete, ret_error) < 0) return as_request_error(ret_error);
    return is_delete ? check_delete(item, ret_error) : read_content(item, maximum, ret_document, ret_error);
}

int collection_parse_item(const char *bytes, size_t size, size_t maximum, struct collection_document *ret_document,
                          struct error **ret_error) {
    *ret_document = (struct collection_document){0};
    _cleanup_json_ yyjson_doc *document = NULL;
    if (json_parse(bytes, size, &document, ret_error) < 0) return as_request_error(ret_error);
    return collection_read_item(yyjson_doc_get_root(document), maximum, ret_document, ret_error);
}

int collection_parse_document(const char *bytes, size_t size, size_t maximum, struct collection_document *ret_document,
                              struct error **ret_error) {
    static const char *const fields[] = {"text", "payload"};
    _cleanup_json_ yyjson_doc *parsed = NULL;
    yyjson_val *root;
    if (json_parse_object(bytes, size, &parsed, &root, ret_error) < 0 ||
        json_check_fields(root, "", fields, ARRAY_SIZE(fields), ret_error) < 0)
        return as_request_error(ret_error);
    _cleanup_collection_document_ struct collection_document document = {0};
    int result = read_content(root, maximum, &document, ret_error);
    if (result < 0) return result;
    *ret_document = document;
    document = (struct collection_document){0};
    return 0;
}
