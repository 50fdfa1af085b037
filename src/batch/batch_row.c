/* Records to rows: the fields that the model takes, and the one that names the row. */
#include <stdlib.h>
#include <string.h>

#include "base/json_escape.h"
#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

#define SHOWN 120 /* of a field in a message */

/* ---- the header of CSV ---- */

static size_t find_column(const struct batch_rows *rows, const char *name) {
    for (size_t i = 0; i < rows->column_count; i++)
        if (rows->fields[i].size == strlen(name) && !memcmp(rows->fields[i].bytes, name, rows->fields[i].size))
            return i;
    return BATCH_NO_COLUMN;
}

static int need_column(const struct batch_rows *rows, const char *name, size_t *ret_column, struct error **ret_error) {
    *ret_column = find_column(rows, name);
    if (*ret_column != BATCH_NO_COLUMN) return 0;
    _cleanup_buffer_ struct buffer names = {.maximum = 1000};
    for (size_t i = 0; i < rows->column_count; i++)
        buffer_append_format(&names, "%s%.*s", i ? ", " : "",
                             (int)(rows->fields[i].size < SHOWN ? rows->fields[i].size : SHOWN), rows->fields[i].bytes);
    if (names.size) text_make_utf8(names.bytes);
    return error_set(ret_error, ERROR_MODEL_REGISTRY,
                     "the header of the input, its first line, has no field \"%s\" (it has %s)", name,
                     names.size ? names.bytes : "none");
}

static int read_header(struct batch_rows *rows, struct batch_record *header, struct error **ret_error) {
    rows->fields = mem_new_array(BATCH_COLUMNS_MAXIMUM, struct batch_text);
    rows->input_columns = mem_new_array(rows->model->input_count, size_t);
    rows->id_column = BATCH_NO_COLUMN;
    if (!header) return 0;
    const char *fault = header->fault ? header->fault
                                      : batch_csv_split(header->bytes, header->size, rows->fields,
                                                        BATCH_COLUMNS_MAXIMUM, &rows->column_count);
    if (fault) return error_set(ret_error, ERROR_MODEL_REGISTRY, "the header of the input, its first line: %s", fault);
    int result = rows->spec->id_field ? need_column(rows, rows->spec->id_field, &rows->id_column, ret_error) : 0;
    for (size_t i = 0; i < rows->model->input_count && result >= 0; i++)
        result = need_column(rows, rows->model->inputs[i].field, &rows->input_columns[i], ret_error);
    return result;
}

int batch_rows_open(struct batch_rows *rows, const struct batch_spec *spec, const struct batch_model *model,
                    struct batch_record *header, struct error **ret_error) {
    *rows = (struct batch_rows){.spec = spec, .model = model};
    rows->columns = mem_new_array(model->input_count, struct batch_column);
    buffer_reserve(&rows->id, 1); /* so that there are bytes, if none */
    for (size_t i = 0; i < model->input_count; i++) buffer_reserve(&rows->columns[i].data, 1);
    return spec->format == BATCH_CSV ? read_header(rows, header, ret_error) : 0;
}

void batch_rows_close(struct batch_rows *rows) {
    for (size_t i = 0; rows->columns && i < rows->model->input_count; i++) buffer_clear(&rows->columns[i].data);
    buffer_clear(&rows->id);
    free(rows->columns);
    free(rows->fields);
    free(rows->input_columns);
    *rows = (struct batch_rows){0};
}

/* ---- one record ---- */

static char *field_fault(const struct batch_tensor *tensor, const char *fault) {
    return text_format("the field \"%.*s\": %s", SHOWN, tensor->field, fault);
}

static char *read_object(struct batch_rows *rows, yyjson_val *root) {
    const char *fault = NULL, *id_field = rows->spec->id_field;
    for (size_t i = 0; i < rows->model->input_count; i++) {
        const struct batch_tensor *tensor = &rows->model->inputs[i];
        yyjson_val *value = yyjson_obj_get(root, tensor->field);
        if (!value) return field_fault(tensor, "it is not there");
        if (!batch_value_read(tensor, value, rows->columns[i].shape, &rows->columns[i].data, &fault))
            return field_fault(tensor, fault);
    }
    if (!id_field) return NULL;
    yyjson_val *id = yyjson_obj_get(root, id_field);
    if (!id) return text_format("the field \"%.*s\": it is not there", SHOWN, id_field);
    _cleanup_free_ char *text = json_write_value(id, NULL);
    buffer_append_text(&rows->id, text);
    return NULL;
}

static char *read_json(struct batch_rows *rows, const struct batch_record *record) {
    _cleanup_json_ yyjson_doc *document = NULL;
    _cleanup_error_ struct error *error = NULL;
    yyjson_val *root = NULL;
    if (json_parse_object(record->bytes, record->size, &document, &root, &error) < 0) return error_text(error);
    return read_object(rows, root);
}

static char *read_csv(struct batch_rows *rows, const struct batch_record *record) {
    size_t count = 0;
    const char *fault = batch_csv_split(record->bytes, record->size, rows->fields, rows->column_count, &count);
    if (fault) return text_copy(fault);
    if (count < rows->column_count)
        return text_format("it has %zu fields, and the header has %zu", count, rows->column_count);
    for (size_t i = 0; i < rows->model->input_count; i++) {
        const struct batch_tensor *tensor = &rows->model->inputs[i];
        const struct batch_text *field = &rows->fields[rows->input_columns[i]];
        if (!batch_value_read_text(tensor, field->bytes, field->size, rows->columns[i].shape, &rows->columns[i].data,
                                   &fault))
            return field_fault(tensor, fault);
    }
    if (rows->id_column == BATCH_NO_COLUMN) return NULL;
    const struct batch_text *id = &rows->fields[rows->id_column];
    if (!text_is_utf8(id->bytes, id->size))
        return text_format("the field \"%.*s\": it is not UTF-8", SHOWN, rows->spec->id_field);
    batch_csv_write(&rows->id, id->bytes, id->size);
    return NULL;
}

char *batch_rows_read(struct batch_rows *rows, struct batch_record *record) {
    rows->line = record->line;
    rows->id.size = 0;
    for (size_t i = 0; i < rows->model->input_count; i++) {
        rows->columns[i].data.size = 0;
        memset(rows->columns[i].shape, 0, sizeof rows->columns[i].shape);
    }
    if (record->fault) return text_copy(record->fault);
    char *fault = rows->spec->format == BATCH_CSV ? read_csv(rows, record) : read_json(rows, record);
    if (fault || rows->spec->id_field) return fault;
    buffer_append_format(&rows->id, "%lld", (long long)rows->line);
    return NULL;
}

/* ---- chunks ---- */

void batch_rejects_add(struct batch_rejects *rejects, int64_t line, const char *stage, const char *detail) {
    char *copy = text_format("%.*s", BATCH_DETAIL_MAXIMUM, detail);
    text_make_utf8(copy); /* it may have been cut in a character */
    rejects->list = mem_resize(rejects->list, rejects->count + 1, sizeof *rejects->list);
    rejects->list[rejects->count++] = (struct batch_reject){line, stage, copy};
}

void batch_rejects_clear(struct batch_rejects *rejects) {
    for (size_t i = 0; i < rejects->count; i++) free(rejects->list[i].detail);
    free(rejects->list);
    *rejects = (struct batch_rejects){0};
}

struct batch_chunk *batch_chunk_new(const struct batch_model *model, size_t capacity) {
    struct batch_chunk *chunk = mem_new(struct batch_chunk);
    chunk->capacity = capacity;
    chunk->lines = mem_new_array(capacity, int64_t);
    chunk->id_ends = mem_new_array(capacity, size_t);
    chunk->columns = mem_new_array(model->input_count, struct batch_column);
    buffer_reserve(&chunk->ids, 1);
    for (size_t i = 0; i < model->input_count; i++) {
        chunk->columns[i].ends = mem_new_array(capacity, size_t);
        buffer_reserve(&chunk->columns[i].data, 1);
    }
    return chunk;
}

void batch_chunk_free(struct batch_chunk *chunk, const struct batch_model *model) {
    if (!chunk) return;
    for (size_t i = 0; i < model->input_count; i++) {
        buffer_clear(&chunk->columns[i].data);
        free(chunk->columns[i].ends);
    }
    batch_rejects_clear(&chunk->rejects);
    buffer_clear(&chunk->ids);
    buffer_clear(&chunk->output);
    free(chunk->columns);
    free(chunk->id_ends);
    free(chunk->lines);
    free(chunk);
}

size_t batch_chunk_bytes(const struct batch_chunk *chunk, const struct batch_model *model) {
    size_t size = chunk->ids.size;
    for (size_t i = 0; i < model->input_count; i++) size += chunk->columns[i].data.size;
    return size;
}

bool batch_rows_place(struct batch_rows *rows, struct batch_chunk *chunk) {
    for (size_t i = 0; i < rows->model->input_count && chunk->count; i++)
        if (memcmp(chunk->columns[i].shape, rows->columns[i].shape, sizeof rows->columns[i].shape) != 0) return false;
    for (size_t i = 0; i < rows->model->input_count; i++) {
        struct batch_column *column = &chunk->columns[i];
        memcpy(column->shape, rows->columns[i].shape, sizeof column->shape);
        buffer_append(&column->data, rows->columns[i].data.bytes, rows->columns[i].data.size);
        column->ends[chunk->count] = column->data.size;
    }
    buffer_append(&chunk->ids, rows->id.bytes, rows->id.size);
    chunk->id_ends[chunk->count] = chunk->ids.size;
    chunk->lines[chunk->count++] = rows->line;
    return true;
}
