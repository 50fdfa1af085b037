/* The manifest: what an index is, and of which segments it is made. JSON, for people who look into the folder, and in a
 * last line the CRC-32C of it. Nothing in it is believed before it was checked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "vector/vector-internal.h"

#define VERSION 1
#define TRAILER_SIZE 10 /* a line break, 8 hexadecimal digits, a line break */
#define CAPACITY_MAXIMUM (INT64_C(1) << 32) /* rows of one segment */

void vector_manifest_clear(struct vector_manifest *manifest) {
    free(manifest->index_id);
    free(manifest->log_id);
    free(manifest->encoder_digest);
    free(manifest->segments);
    memset(manifest, 0, sizeof *manifest);
}

void vector_manifest_copy(const struct vector_manifest *manifest, struct vector_manifest *ret_copy) {
    *ret_copy = *manifest;
    ret_copy->index_id = text_copy(manifest->index_id);
    ret_copy->log_id = text_copy(manifest->log_id);
    ret_copy->encoder_digest = text_copy(manifest->encoder_digest);
    ret_copy->segments = mem_copy(manifest->segments, manifest->count * sizeof *manifest->segments);
}

const char *vector_manifest_differs(const struct vector_manifest *manifest, const struct vector_spec *spec) {
    if (strcmp(manifest->index_id, spec->index_id)) return "index_id";
    if (strcmp(manifest->log_id, spec->log_id)) return "log_id";
    if (strcmp(manifest->encoder_digest, spec->encoder_digest)) return "encoder_digest";
    if (manifest->dimension != spec->dimension) return "dimension";
    if (manifest->quantized != spec->quantized) return "quantized";
    return NULL;
}

/* ---- writing ---- */

static void add_segment(yyjson_mut_doc *document, yyjson_mut_val *list, const struct vector_segment_facts *facts) {
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, list);
    yyjson_mut_obj_add_uint(document, object, "number", facts->number);
    yyjson_mut_obj_add_uint(document, object, "capacity", facts->capacity);
    if (!facts->sealed) return;
    yyjson_mut_obj_add_uint(document, object, "rows", facts->rows);
    yyjson_mut_obj_add_uint(document, object, "first", facts->first);
    yyjson_mut_obj_add_uint(document, object, "last", facts->last);
    yyjson_mut_obj_add_uint(document, object, "checksum", facts->checksum);
}

char *vector_manifest_write(const struct vector_manifest *manifest, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_uint(document, root, "version", VERSION);
    yyjson_mut_obj_add_str(document, root, "index_id", manifest->index_id);
    yyjson_mut_obj_add_str(document, root, "log_id", manifest->log_id);
    yyjson_mut_obj_add_str(document, root, "encoder_digest", manifest->encoder_digest);
    yyjson_mut_obj_add_uint(document, root, "dimension", manifest->dimension);
    yyjson_mut_obj_add_bool(document, root, "quantized", manifest->quantized);
    yyjson_mut_obj_add_uint(document, root, "generation", manifest->generation);
    yyjson_mut_obj_add_uint(document, root, "next_number", manifest->next_number);
    yyjson_mut_obj_add_uint(document, root, "dropped_through", manifest->dropped_through);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, root, "segments");
    for (size_t i = 0; i < manifest->count; i++) add_segment(document, list, &manifest->segments[i]);
    _cleanup_free_ char *json = json_write(document, NULL);
    char *text = text_format("%s\n%08x\n", json, vector_checksum(0, json, strlen(json)));
    *ret_size = strlen(text);
    return text;
}

/* ---- reading ---- */

static int damaged(struct error **ret_error, const char *what) {
    return error_set(ret_error, ERROR_CONFLICT, "the manifest is damaged: %s", what);
}

static int get_number(yyjson_val *object, const char *field, int64_t minimum, int64_t maximum, uint64_t *ret_number,
                      struct error **ret_error) {
    int64_t number = 0;
    int result = json_get_number(object, "", field, true, minimum, maximum, &number, ret_error);
    *ret_number = (uint64_t)number;
    return result;
}

static int parse_seal(yyjson_val *object, struct vector_segment_facts *facts, struct error **ret_error) {
    const int64_t last = (int64_t)VECTOR_NUMBER_MAXIMUM - 1;
    uint64_t checksum = 0;
    int result = get_number(object, "rows", 1, (int64_t)facts->capacity, &facts->rows, ret_error);
    if (!result) result = get_number(object, "first", 1, last, &facts->first, ret_error);
    if (!result) result = get_number(object, "last", (int64_t)facts->first, last, &facts->last, ret_error);
    if (!result) result = get_number(object, "checksum", 0, UINT32_MAX, &checksum, ret_error);
    facts->sealed = true;
    facts->checksum = (uint32_t)checksum;
    if (!result && facts->last - facts->first < facts->rows - 1)
        return damaged(ret_error, "a segment has more rows than numbers");
    return result;
}

static int parse_segment(yyjson_val *value, struct vector_manifest *manifest, bool is_last, struct error **ret_error) {
    static const char *const known[] = {"number", "capacity", "rows", "first", "last", "checksum"};
    struct vector_segment_facts *facts = &manifest->segments[manifest->count];
    const struct vector_segment_facts *before = manifest->count ? facts - 1 : NULL;
    if (!yyjson_is_obj(value)) return damaged(ret_error, "a segment is not an object");
    int result = json_check_fields(value, "segments", known, ARRAY_SIZE(known), ret_error);
    if (!result) result = get_number(value, "number", 1, (int64_t)manifest->next_number - 1, &facts->number, ret_error);
    if (!result) result = get_number(value, "capacity", 1, CAPACITY_MAXIMUM, &facts->capacity, ret_error);
    if (!result && yyjson_obj_get(value, "rows")) result = parse_seal(value, facts, ret_error);
    if (result < 0) return result;
    if (!facts->sealed && (!is_last || yyjson_obj_size(value) != 2))
        return damaged(ret_error, "a segment that is not the last one is open");
    if (before && facts->sealed && facts->first <= before->last)
        return damaged(ret_error, "the segments are not in their order");
    for (size_t i = 0; i < manifest->count; i++)
        if (manifest->segments[i].number == facts->number) return damaged(ret_error, "a segment is listed twice");
    manifest->count++;
    return 0;
}

static int parse_segments(yyjson_val *root, struct vector_manifest *manifest, struct error **ret_error) {
    yyjson_val *list = yyjson_obj_get(root, "segments"), *value;
    size_t count = yyjson_arr_size(list), i, maximum;
    if (!yyjson_is_arr(list)) return damaged(ret_error, "it has no list of segments");
    if (count > VECTOR_SEGMENTS_MAXIMUM) return damaged(ret_error, "it has too many segments");
    manifest->segments = mem_new_array(count + 1, struct vector_segment_facts);
    yyjson_arr_foreach(list, i, maximum, value) {
        int result = parse_segment(value, manifest, i + 1 == count, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

static int parse_text(yyjson_val *root, const char *field, char **ret_text, struct error **ret_error) {
    const char *text = NULL;
    int result = json_get_text(root, "", field, true, &text, ret_error);
    if (!result) *ret_text = text_copy(text);
    return result;
}

static int parse_root(yyjson_val *root, struct vector_manifest *manifest, struct error **ret_error) {
    static const char *const known[] = {"version",   "index_id",   "log_id",      "encoder_digest",  "dimension",
                                        "quantized", "generation", "next_number", "dropped_through", "segments"};
    uint64_t version, dimension = 0;
    const int64_t last = (int64_t)VECTOR_NUMBER_MAXIMUM - 1;
    int result = get_number(root, "version", VERSION, VERSION, &version, ret_error);
    if (!result) result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (!result) result = parse_text(root, "index_id", &manifest->index_id, ret_error);
    if (!result) result = parse_text(root, "log_id", &manifest->log_id, ret_error);
    if (!result) result = parse_text(root, "encoder_digest", &manifest->encoder_digest, ret_error);
    if (!result) result = get_number(root, "dimension", 1, VECTOR_DIMENSION_MAXIMUM, &dimension, ret_error);
    if (!result) result = json_get_boolean(root, "", "quantized", &manifest->quantized, ret_error);
    if (!result) result = get_number(root, "generation", 1, last, &manifest->generation, ret_error);
    if (!result) result = get_number(root, "next_number", 1, last, &manifest->next_number, ret_error);
    if (!result) result = get_number(root, "dropped_through", 0, last, &manifest->dropped_through, ret_error);
    manifest->dimension = (uint32_t)dimension;
    return result < 0 ? result : parse_segments(root, manifest, ret_error);
}

/* The JSON before the last line, if that is the checksum of it. */
static bool checksum_holds(const char *bytes, size_t size, size_t *ret_json_size) {
    char expected[TRAILER_SIZE + 1];
    if (size <= TRAILER_SIZE) return false;
    *ret_json_size = size - TRAILER_SIZE;
    snprintf(expected, sizeof expected, "\n%08x\n", vector_checksum(0, bytes, *ret_json_size));
    return !memcmp(bytes + *ret_json_size, expected, TRAILER_SIZE);
}

int vector_manifest_parse(const char *bytes, size_t size, struct vector_manifest *ret_manifest,
                          struct error **ret_error) {
    size_t json_size = 0;
    if (size > VECTOR_MANIFEST_MAXIMUM) return damaged(ret_error, "it is too large");
    if (!checksum_holds(bytes, size, &json_size)) return damaged(ret_error, "its checksum does not hold");
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    _cleanup_error_ struct error *cause = NULL;
    struct vector_manifest manifest = {0};
    int result = json_parse_object(bytes, json_size, &document, &root, &cause);
    if (!result) result = parse_root(root, &manifest, &cause);
    if (result < 0) {
        vector_manifest_clear(&manifest);
        _cleanup_free_ char *text = error_text(cause);
        return cause->class == ERROR_CONFLICT ? error_set(ret_error, ERROR_CONFLICT, "%s", text)
                                              : damaged(ret_error, text);
    }
    *ret_manifest = manifest;
    return 0;
}
