/* One row's value of one tensor: from JSON (nested arrays) to the bytes of the wire (little-endian, as the machines
 * that this runs on are; BYTES behind their lengths), and back. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/json_escape.h"
#include "base/memory.h"
#include "base/number.h"
#include "base/text.h"
#include "batch/batch-internal.h"

/* ---- reading ---- */

struct bounds {
    int64_t minimum;
    uint64_t maximum;
};

static bool find_bounds(enum batch_type type, struct bounds *ret_bounds) {
    static const struct bounds bounds[BATCH_TYPE_COUNT] = {
        [BATCH_UINT8] = {0, UINT8_MAX},         [BATCH_UINT16] = {0, UINT16_MAX},
        [BATCH_UINT32] = {0, UINT32_MAX},       [BATCH_UINT64] = {0, UINT64_MAX},
        [BATCH_INT8] = {INT8_MIN, INT8_MAX},    [BATCH_INT16] = {INT16_MIN, INT16_MAX},
        [BATCH_INT32] = {INT32_MIN, INT32_MAX}, [BATCH_INT64] = {INT64_MIN, INT64_MAX},
    };
    *ret_bounds = bounds[type];
    return bounds[type].maximum != 0;
}

static bool read_whole(yyjson_val *value, enum batch_type type, struct buffer *data) {
    struct bounds bounds;
    if (!find_bounds(type, &bounds) || !yyjson_is_int(value)) return false;
    if (yyjson_is_uint(value) ? yyjson_get_uint(value) > bounds.maximum : yyjson_get_sint(value) < bounds.minimum)
        return false;
    uint64_t bits = yyjson_is_uint(value) ? yyjson_get_uint(value) : (uint64_t)yyjson_get_sint(value);
    return buffer_append(data, &bits, batch_types[type].size);
}

static bool read_element(enum batch_type type, yyjson_val *value, struct buffer *data, const char **ret_fault) {
    bool taken = false;
    if (type == BATCH_BYTES) {
        uint32_t size = (uint32_t)yyjson_get_len(value);
        taken = yyjson_is_str(value) && buffer_append(data, &size, sizeof size) &&
                buffer_append(data, yyjson_get_str(value), size);
        *ret_fault = "it is not text";
    } else if (type == BATCH_BOOL) {
        char bit = yyjson_get_bool(value);
        taken = yyjson_is_bool(value) && buffer_append(data, &bit, 1);
        *ret_fault = "it is not true or false";
    } else if (type == BATCH_FP32) {
        float number = (float)yyjson_get_num(value);
        taken = yyjson_is_num(value) && isfinite(number) && buffer_append(data, &number, sizeof number);
        *ret_fault = "it is not a number of that type";
    } else if (type == BATCH_FP64) {
        double number = yyjson_get_num(value);
        taken = yyjson_is_num(value) && buffer_append(data, &number, sizeof number);
        *ret_fault = "it is not a number";
    } else {
        taken = read_whole(value, type, data);
        *ret_fault = "it is not a whole number of that type";
    }
    return taken;
}

static bool read_level(const struct batch_tensor *tensor, size_t depth, yyjson_val *value, int64_t *shape,
                       struct buffer *data, const char **ret_fault) {
    if (depth == tensor->rank) return read_element(tensor->type, value, data, ret_fault);
    if (!yyjson_is_arr(value)) {
        *ret_fault = "it is not a list, or not as deep as the model's shape";
        return false;
    }
    int64_t size = (int64_t)yyjson_arr_size(value);
    if (shape[depth] < 0) shape[depth] = size;
    if (shape[depth] != size) {
        *ret_fault = "a list in it has not as many values as the model's shape, or as its neighbours";
        return false;
    }
    size_t index, count;
    yyjson_val *inner;
    yyjson_arr_foreach(value, index, count, inner) {
        if (!read_level(tensor, depth + 1, inner, shape, data, ret_fault)) return false;
    }
    return true;
}

bool batch_value_read(const struct batch_tensor *tensor, yyjson_val *value, int64_t *shape, struct buffer *data,
                      const char **ret_fault) {
    memcpy(shape, tensor->shape, sizeof tensor->shape);
    if (!read_level(tensor, 0, value, shape, data, ret_fault)) return false;
    for (size_t i = 0; i < tensor->rank; i++)
        if (shape[i] < 0) shape[i] = 0; /* below an empty list */
    return true;
}

bool batch_value_read_text(const struct batch_tensor *tensor, const char *bytes, size_t size, int64_t *shape,
                           struct buffer *data, const char **ret_fault) {
    if (tensor->type == BATCH_BYTES && !tensor->rank) {
        uint32_t length = (uint32_t)size;
        *ret_fault = "it is not UTF-8";
        return text_is_utf8(bytes, size) && buffer_append(data, &length, sizeof length) &&
               buffer_append(data, bytes, size);
    }
    while (size && (*bytes == ' ' || *bytes == '\t')) bytes++, size--;
    while (size && (bytes[size - 1] == ' ' || bytes[size - 1] == '\t')) size--;
    _cleanup_json_ yyjson_doc *document = NULL;
    *ret_fault = "it is neither a number nor a JSON list";
    return size && json_parse(bytes, size, &document, NULL) >= 0 &&
           batch_value_read(tensor, yyjson_doc_get_root(document), shape, data, ret_fault);
}

/* ---- writing ---- */

static bool write_text(const char **bytes, const char *end, struct buffer *out) {
    uint32_t size;
    if ((size_t)(end - *bytes) < sizeof size) return false;
    memcpy(&size, *bytes, sizeof size);
    *bytes += sizeof size;
    if ((size_t)(end - *bytes) < size || !text_is_utf8(*bytes, size)) return false;
    buffer_append(out, "\"", 1);
    json_escape(out, *bytes, size);
    *bytes += size;
    return buffer_append(out, "\"", 1);
}

/* A whole number of the type, sign-extended. */
static int64_t take_signed(enum batch_type type, const char *bytes) {
    size_t size = batch_types[type].size;
    uint64_t bits = 0;
    memcpy(&bits, bytes, size);
    unsigned unused = (unsigned)(64 - 8 * size);
    return (int64_t)(bits << unused) >> unused;
}

static bool write_element(enum batch_type type, const char **bytes, const char *end, struct buffer *out) {
    if (type == BATCH_BYTES) return write_text(bytes, end, out);
    size_t size = batch_types[type].size, written;
    char text[NUMBER_TEXT_MAXIMUM];
    if ((size_t)(end - *bytes) < size) return false;
    const char *at = *bytes;
    *bytes += size;
    if (type == BATCH_BOOL) return buffer_append_text(out, *at ? "true" : "false");
    if (type == BATCH_FP32) {
        float number;
        memcpy(&number, at, sizeof number);
        if (!isfinite(number)) return false;
        written = number_write_float(number, text);
    } else if (type == BATCH_FP64) {
        double number;
        memcpy(&number, at, sizeof number);
        if (!isfinite(number)) return false;
        written = number_write_double(number, text);
    } else if (type <= BATCH_UINT64) {
        uint64_t number = 0;
        memcpy(&number, at, size);
        written = number_write_unsigned(number, text);
    } else {
        written = number_write_signed(take_signed(type, at), text);
    }
    return buffer_append(out, text, written);
}

bool batch_value_write(enum batch_type type, const int64_t *shape, size_t rank, const char **bytes, const char *end,
                       struct buffer *out) {
    if (!rank) return write_element(type, bytes, end, out);
    if (!buffer_append(out, "[", 1)) return false;
    for (int64_t i = 0; i < *shape; i++) {
        if (i) buffer_append(out, ",", 1);
        if (!batch_value_write(type, shape + 1, rank - 1, bytes, end, out)) return false;
    }
    return buffer_append(out, "]", 1);
}
