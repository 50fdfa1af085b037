/* Inference answers, JSON and binary. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/number.h"
#include "base/text.h"
#include "runner/runner_v2-internal.h"

/* A string as JSON. Bytes that are not UTF-8 cannot stand in JSON: false. */
static bool write_text(struct buffer *body, const char *text, size_t size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_doc_set_root(document, yyjson_mut_strn(document, text, size));
    size_t json_size;
    _cleanup_free_ char *json = yyjson_mut_write(document, 0, &json_size);
    return json && buffer_append(body, json, json_size);
}

static uint64_t unsigned_at(const struct tensor *tensor, size_t index) {
    size_t size = tensor_types[tensor->type].size;
    uint64_t value = 0;
    memcpy(&value, (const char *)tensor->data + index * size, size);
    return value;
}

static int64_t signed_at(const struct tensor *tensor, size_t index) {
    unsigned shift = 64 - 8 * (unsigned)tensor_types[tensor->type].size;
    return (int64_t)(unsigned_at(tensor, index) << shift) >> shift;
}

static size_t write_number(const struct tensor *tensor, size_t index, char text[NUMBER_TEXT_MAXIMUM]) {
    switch (tensor_types[tensor->type].form) {
    case TENSOR_FORM_TRUTH:
        if (unsigned_at(tensor, index)) return (size_t)(stpcpy(text, "true") - text);
        return (size_t)(stpcpy(text, "false") - text);
    case TENSOR_FORM_UNSIGNED: return number_write_unsigned(unsigned_at(tensor, index), text);
    case TENSOR_FORM_SIGNED: return number_write_signed(signed_at(tensor, index), text);
    default:
        if (tensor->type == TENSOR_FP64) return number_write_double(tensor_real_at(tensor, index), text);
        return number_write_float((float)tensor_real_at(tensor, index), text);
    }
}

static int no_memory(struct error **ret_error) {
    return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for the answer");
}

static int write_texts(const struct tensor *tensor, struct buffer *body, struct error **ret_error) {
    size_t position = 0;
    for (size_t i = 0; i < tensor->element_count; i++) {
        uint32_t size;
        const char *bytes = tensor_next_bytes(tensor, &position, &size);
        if (i && !buffer_append(body, ",", 1)) return no_memory(ret_error);
        if (!write_text(body, bytes, size))
            return error_set(ret_error, ERROR_DEPLOYMENT,
                             "output %s holds bytes that are not UTF-8, which JSON cannot show: ask for binary data",
                             tensor->name);
    }
    return 0;
}

static int write_data(const struct tensor *tensor, struct buffer *body, struct error **ret_error) {
    if (tensor->type == TENSOR_BYTES) return write_texts(tensor, body, ret_error);
    bool real = tensor_types[tensor->type].form == TENSOR_FORM_REAL;
    for (size_t i = 0; i < tensor->element_count; i++) {
        if (real && !isfinite(tensor_real_at(tensor, i)))
            return error_set(
                ret_error, ERROR_DEPLOYMENT,
                "the model gave a value in output %s that is not finite, which JSON cannot show: ask for binary data",
                tensor->name);
        if (!buffer_reserve(body, NUMBER_TEXT_MAXIMUM + 1)) return no_memory(ret_error);
        if (i) body->bytes[body->size++] = ',';
        body->size += write_number(tensor, i, body->bytes + body->size);
    }
    return 0;
}

static int write_output(const struct tensor *tensor, bool binary, struct buffer *body, struct error **ret_error) {
    _cleanup_free_ char *shape = tensor_shape_text(tensor->shape, tensor->rank);
    bool written =
        buffer_append_text(body, "{\"name\":") && write_text(body, tensor->name, strlen(tensor->name)) &&
        buffer_append_format(body, ",\"datatype\":\"%s\",\"shape\":%s,", tensor_types[tensor->type].name, shape);
    if (written && binary)
        return buffer_append_format(body, "\"parameters\":{\"binary_data_size\":%zu}}", tensor->data_size)
                   ? 0
                   : no_memory(ret_error);
    if (!written || !buffer_append_text(body, "\"data\":[")) return no_memory(ret_error);
    int result = write_data(tensor, body, ret_error);
    if (result == 0 && !buffer_append_text(body, "]}")) result = no_memory(ret_error);
    return result;
}

static bool write_head(const struct v2_answer *answer, struct buffer *body) {
    const struct {
        const char *key, *value;
    } fields[] = {{"model_name", answer->model_name}, {"model_version", answer->model_version}, {"id", answer->id}};
    bool written = buffer_append_text(body, "{");
    for (size_t i = 0; written && i < ARRAY_SIZE(fields); i++) {
        if (!fields[i].value) continue;
        written = buffer_append_format(body, "\"%s\":", fields[i].key) &&
                  write_text(body, fields[i].value, strlen(fields[i].value)) && buffer_append_text(body, ",");
    }
    return written && buffer_append_text(body, "\"outputs\":[");
}

int v2_write(const struct v2_answer *answer, struct buffer *body, int64_t *ret_head_size, struct error **ret_error) {
    bool any_binary = false;
    if (!write_head(answer, body)) return no_memory(ret_error);
    for (size_t i = 0; i < answer->output_count; i++) {
        if (i && !buffer_append(body, ",", 1)) return no_memory(ret_error);
        int result = write_output(&answer->outputs[i], answer->binary[i], body, ret_error);
        if (result < 0) return result;
        any_binary = any_binary || answer->binary[i];
    }
    if (!buffer_append_text(body, "]}")) return no_memory(ret_error);
    *ret_head_size = any_binary ? (int64_t)body->size : -1;
    for (size_t i = 0; i < answer->output_count; i++) {
        const struct tensor *output = &answer->outputs[i];
        if (answer->binary[i] && !buffer_append(body, output->data, output->data_size)) return no_memory(ret_error);
    }
    return 0;
}
