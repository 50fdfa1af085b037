/* Requests and answers of the Open Inference Protocol with binary tensors, and the lines of the output that answers
 * become. */
#include <string.h>

#include "base/json_escape.h"
#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

/* ---- requests ---- */

static size_t start_of(const size_t *ends, size_t row) {
    return row ? ends[row - 1] : 0;
}

static void write_input(const struct batch_tensor *tensor, const struct batch_column *column, size_t first,
                        size_t count, struct buffer *request) {
    buffer_append_text(request, "{\"name\":\"");
    json_escape(request, tensor->name, strlen(tensor->name));
    buffer_append_format(request, "\",\"datatype\":\"%s\",\"shape\":[%zu", batch_types[tensor->type].name, count);
    for (size_t i = 0; i < tensor->rank; i++) buffer_append_format(request, ",%lld", (long long)column->shape[i]);
    buffer_append_format(request, "],\"parameters\":{\"binary_data_size\":%zu}}",
                         column->ends[first + count - 1] - start_of(column->ends, first));
}

size_t batch_request_write(const struct batch_model *model, const struct batch_chunk *chunk, size_t first, size_t count,
                           struct buffer *request) {
    buffer_append_text(request, "{\"inputs\":[");
    for (size_t i = 0; i < model->input_count; i++) {
        if (i) buffer_append(request, ",", 1);
        write_input(&model->inputs[i], &chunk->columns[i], first, count, request);
    }
    buffer_append_text(request, "],\"outputs\":[");
    for (size_t i = 0; i < model->output_count; i++) {
        buffer_append_text(request, i ? ",{\"name\":\"" : "{\"name\":\"");
        json_escape(request, model->outputs[i].name, strlen(model->outputs[i].name));
        buffer_append_text(request, "\",\"parameters\":{\"binary_data\":true}}");
    }
    buffer_append_text(request, "]}");
    size_t head_size = request->size;
    for (size_t i = 0; i < model->input_count; i++) {
        const struct batch_column *column = &chunk->columns[i];
        size_t start = start_of(column->ends, first);
        buffer_append(request, column->data.bytes + start, column->ends[first + count - 1] - start);
    }
    return head_size;
}

/* ---- answers ---- */

struct output {
    enum batch_type type;
    size_t rank; /* of a row */
    int64_t shape[BATCH_RANK_MAXIMUM];
    size_t elements; /* of a row */
    const char *bytes, *end; /* what is left of it */
};

/* Whether the head's tensor is this one, of `count` rows, and its bytes are there. */
static bool read_output(yyjson_val *value, size_t count, const char **at, const char *end, struct output *output) {
    yyjson_val *shape = yyjson_obj_get(value, "shape");
    uint64_t size = yyjson_get_uint(yyjson_obj_get(yyjson_obj_get(value, "parameters"), "binary_data_size"));
    size_t rank = yyjson_arr_size(shape);
    if (!batch_type_parse(yyjson_get_str(yyjson_obj_get(value, "datatype")), &output->type) || !rank ||
        rank - 1 > BATCH_RANK_MAXIMUM || yyjson_get_uint(yyjson_arr_get_first(shape)) != count ||
        size > (uint64_t)(end - *at))
        return false;
    output->rank = rank - 1;
    output->elements = 1;
    for (size_t i = 1; i < rank; i++) {
        uint64_t dimension = yyjson_get_uint(yyjson_arr_get(shape, i));
        if (dimension > BATCH_ANSWER_MAXIMUM || output->elements * dimension > BATCH_ANSWER_MAXIMUM) return false;
        output->shape[i - 1] = (int64_t)dimension;
        output->elements *= dimension;
    }
    size_t element = batch_types[output->type].size;
    if (element && size != (uint64_t)count * output->elements * element) return false;
    output->bytes = *at;
    output->end = *at += size;
    return true;
}

/* The bytes of the next row. False when there are not so many. */
static bool take_row(struct output *output, const char **ret_bytes, const char **ret_end) {
    *ret_bytes = output->bytes;
    size_t element = batch_types[output->type].size;
    for (size_t i = 0; !element && i < output->elements; i++) {
        uint32_t size;
        if ((size_t)(output->end - output->bytes) < sizeof size) return false;
        memcpy(&size, output->bytes, sizeof size);
        if ((size_t)(output->end - output->bytes) - sizeof size < size) return false;
        output->bytes += sizeof size + size;
    }
    output->bytes += element * output->elements;
    *ret_end = output->bytes;
    return true;
}

static void write_name(struct buffer *out, const char *name) {
    buffer_append(out, "\"", 1);
    json_escape(out, name, strlen(name));
    buffer_append_text(out, "\":");
}

/* A value in a CSV field: as JSON, but that text stands as it is. */
static bool write_field(const struct output *output, const char *bytes, const char *end, struct buffer *out) {
    if (output->type == BATCH_BYTES && !output->rank) {
        const char *text = bytes + sizeof(uint32_t);
        if (!text_is_utf8(text, (size_t)(end - text))) return false;
        batch_csv_write(out, text, (size_t)(end - text));
        return true;
    }
    _cleanup_buffer_ struct buffer json = {0};
    if (!batch_value_write(output->type, output->shape, output->rank, &bytes, end, &json)) return false;
    batch_csv_write(out, json.bytes, json.size);
    return true;
}

/* The row's values; false when one of them cannot be written: *ret_column says which. */
static bool write_row(const struct batch_spec *spec, const struct batch_model *model, struct output *outputs,
                      const char *id, size_t id_size, struct buffer *out, size_t *ret_column, bool *ret_broken) {
    bool is_csv = spec->format == BATCH_CSV, is_whole = true;
    if (!is_csv) {
        buffer_append(out, "{", 1);
        write_name(out, spec->id_field ? spec->id_field : "line");
    }
    buffer_append(out, id, id_size);
    for (size_t i = 0; i < model->output_count; i++) {
        const char *bytes = NULL, *end = NULL;
        if (!take_row(&outputs[i], &bytes, &end)) {
            *ret_broken = true;
            return false;
        }
        buffer_append(out, ",", 1);
        if (!is_csv) write_name(out, model->outputs[i].field);
        bool written = is_csv ? write_field(&outputs[i], bytes, end, out)
                              : batch_value_write(outputs[i].type, outputs[i].shape, outputs[i].rank, &bytes, end, out);
        if (!written && is_whole) *ret_column = i;
        is_whole &= written;
    }
    if (!is_csv) buffer_append(out, "}", 1);
    buffer_append(out, "\n", 1);
    return is_whole;
}

static bool read_outputs(const struct batch_model *model, size_t count, const char *bytes, size_t size,
                         size_t head_size, struct output *outputs) {
    _cleanup_json_ yyjson_doc *document = NULL;
    if (!head_size || head_size > size || json_parse(bytes, head_size, &document, NULL) < 0) return false;
    yyjson_val *list = yyjson_obj_get(yyjson_doc_get_root(document), "outputs");
    const char *at = bytes + head_size, *end = bytes + size;
    if (yyjson_arr_size(list) != model->output_count) return false;
    for (size_t i = 0; i < model->output_count; i++) {
        yyjson_val *value = yyjson_arr_get(list, i);
        if (!yyjson_equals_str(yyjson_obj_get(value, "name"), model->outputs[i].name) ||
            !read_output(value, count, &at, end, &outputs[i]))
            return false;
    }
    return at == end;
}

bool batch_answer_take(const struct batch_spec *spec, const struct batch_model *model, struct batch_chunk *chunk,
                       size_t first, size_t count, const char *bytes, size_t size, size_t head_size) {
    _cleanup_free_ struct output *outputs = mem_new_array(model->output_count, struct output);
    size_t output_size = chunk->output.size, reject_count = chunk->rejects.count;
    int64_t rows = chunk->rows;
    bool is_broken = !read_outputs(model, count, bytes, size, head_size, outputs);
    for (size_t row = first; row < first + count && !is_broken; row++) {
        size_t before = chunk->output.size, id = start_of(chunk->id_ends, row), column = 0;
        if (write_row(spec, model, outputs, chunk->ids.bytes + id, chunk->id_ends[row] - id, &chunk->output, &column,
                      &is_broken)) {
            chunk->rows++;
            continue;
        }
        chunk->output.size = before;
        _cleanup_free_ char *detail =
            text_format("the model's %.100s has a value that is no finite number, or text that is no UTF-8",
                        model->outputs[column].name);
        batch_rejects_add(&chunk->rejects, chunk->lines[row], "inference", detail);
    }
    if (!is_broken) return true;
    chunk->output.size = output_size;
    chunk->rows = rows;
    while (chunk->rejects.count > reject_count) free(chunk->rejects.list[--chunk->rejects.count].detail);
    return false;
}

void batch_answer_header(const struct batch_spec *spec, const struct batch_model *model, struct buffer *out) {
    if (spec->format != BATCH_CSV) return;
    const char *id = spec->id_field ? spec->id_field : "line";
    batch_csv_write(out, id, strlen(id));
    for (size_t i = 0; i < model->output_count; i++) {
        buffer_append(out, ",", 1);
        batch_csv_write(out, model->outputs[i].field, strlen(model->outputs[i].field));
    }
    buffer_append(out, "\n", 1);
}
