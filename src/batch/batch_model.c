/* What the model takes and gives, by the runner's report, and which fields of the rows that is. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

const struct batch_type_row batch_types[BATCH_TYPE_COUNT] = {
    [BATCH_BOOL] = {"BOOL", 1},     [BATCH_UINT8] = {"UINT8", 1},   [BATCH_UINT16] = {"UINT16", 2},
    [BATCH_UINT32] = {"UINT32", 4}, [BATCH_UINT64] = {"UINT64", 8}, [BATCH_INT8] = {"INT8", 1},
    [BATCH_INT16] = {"INT16", 2},   [BATCH_INT32] = {"INT32", 4},   [BATCH_INT64] = {"INT64", 8},
    [BATCH_FP32] = {"FP32", 4},     [BATCH_FP64] = {"FP64", 8},     [BATCH_BYTES] = {"BYTES", 0},
};

bool batch_type_parse(const char *name, enum batch_type *ret_type) {
    for (size_t i = 0; i < BATCH_TYPE_COUNT; i++) {
        if (!text_equal(name, batch_types[i].name)) continue;
        *ret_type = (enum batch_type)i;
        return true;
    }
    return false;
}

static void clear_tensors(struct batch_tensor *tensors, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(tensors[i].name);
        free(tensors[i].field);
    }
    free(tensors);
}

void batch_model_clear(struct batch_model *model) {
    clear_tensors(model->inputs, model->input_count);
    clear_tensors(model->outputs, model->output_count);
    *model = (struct batch_model){0};
}

/* ---- models that embed ---- */

static struct batch_tensor *one_tensor(const char *name, const char *field, enum batch_type type) {
    struct batch_tensor *tensor = mem_new(struct batch_tensor);
    *tensor = (struct batch_tensor){.name = text_copy(name), .field = text_copy(field), .type = type};
    return tensor;
}

static int read_embedding(const struct batch_spec *spec, struct batch_model *model, struct error **ret_error) {
    if (spec->inputs.count || spec->outputs.count)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the model embeds texts: name its fields by input_field and output_field, not by inputs and "
                         "outputs");
    model->inputs = one_tensor("text", spec->input_field, BATCH_BYTES);
    model->outputs = one_tensor("embedding", spec->output_field, BATCH_FP32);
    model->outputs->rank = 1;
    model->outputs->shape[0] = -1;
    model->input_count = model->output_count = 1;
    model->rows_maximum = BATCH_SIZE_MAXIMUM;
    return 0;
}

/* ---- other models ---- */

/* *ret_rows: how many rows the first dimension allows, 0 for any number. */
static int read_tensor(yyjson_val *value, const char *what, struct batch_tensor *ret_tensor, size_t *ret_rows,
                       struct error **ret_error) {
    const char *name = yyjson_get_str(yyjson_obj_get(value, "name"));
    const char *type = yyjson_get_str(yyjson_obj_get(value, "datatype"));
    yyjson_val *shape = yyjson_obj_get(value, "shape");
    size_t rank = yyjson_arr_size(shape);
    if (!name || !type || !yyjson_is_arr(shape))
        return error_set(ret_error, ERROR_DEPLOYMENT, "the runner's report of the model's %s cannot be read", what);
    if (!batch_type_parse(type, &ret_tensor->type))
        return error_set(ret_error, ERROR_CONFIGURATION, "the model's %s %s is %s, which batch jobs do not %s", what,
                         name, type, text_equal(what, "input") ? "read" : "write");
    if (!rank || rank - 1 > BATCH_RANK_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the model's %s %s has %zu dimensions: a batch job needs one for the rows, and at most %d "
                         "besides",
                         what, name, rank, BATCH_RANK_MAXIMUM);
    int64_t rows = yyjson_get_sint(yyjson_arr_get_first(shape));
    if (rows > 1)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the model's %s %s always has %lld rows: a batch job needs a model that takes any number, or "
                         "one at a time",
                         what, name, (long long)rows);
    *ret_rows = rows < 0 ? 0 : 1;
    ret_tensor->rank = rank - 1;
    for (size_t i = 1; i < rank; i++) ret_tensor->shape[i - 1] = yyjson_get_sint(yyjson_arr_get(shape, i));
    ret_tensor->name = text_copy(name);
    return 0;
}

static const char *field_of(const struct batch_names *names, const char *tensor) {
    for (size_t i = 0; i < names->count; i++)
        if (text_equal(names->list[i].tensor, tensor)) return names->list[i].field;
    return NULL;
}

/* Whether every name that was given is one of the model's. */
static int check_names(const struct batch_names *names, const char *what, const struct batch_tensor *tensors,
                       size_t count, struct error **ret_error) {
    for (size_t i = 0; i < names->count; i++) {
        bool is_known = false;
        for (size_t t = 0; t < count; t++) is_known |= text_equal(tensors[t].name, names->list[i].tensor);
        if (!is_known)
            return error_set(ret_error, ERROR_CONFIGURATION, "the model has no %s \"%.64s\"", what,
                             names->list[i].tensor);
    }
    return 0;
}

/* Inputs: all of them. Outputs: those that are named, or all. */
static int read_tensors(yyjson_val *list, const char *what, const struct batch_names *names, bool all,
                        struct batch_tensor **ret_tensors, size_t *ret_count, size_t *rows_maximum,
                        struct error **ret_error) {
    struct batch_tensor *tensors = mem_new_array(yyjson_arr_size(list) + 1, struct batch_tensor);
    size_t index, size;
    yyjson_val *value;
    *ret_tensors = tensors;
    yyjson_arr_foreach(list, index, size, value) {
        const char *name = yyjson_get_str(yyjson_obj_get(value, "name")), *field = field_of(names, name);
        if (names->count && !field && !all) continue;
        size_t rows = 0;
        int result = read_tensor(value, what, &tensors[*ret_count], &rows, ret_error);
        if (result < 0) return result;
        tensors[(*ret_count)++].field = text_copy(field ? field : name);
        if (rows) *rows_maximum = rows;
    }
    if (!*ret_count) return error_set(ret_error, ERROR_CONFIGURATION, "the model has no %s", what);
    return check_names(names, what, tensors, *ret_count, ret_error);
}

static int check_output_columns(const struct batch_spec *spec, const struct batch_model *model,
                                struct error **ret_error) {
    const char *id = spec->id_field ? spec->id_field : "line";
    for (size_t i = 0; i < model->output_count; i++)
        if (text_equal(model->outputs[i].field, id))
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "the output would have the field \"%.64s\" twice: give the model's output %s another name "
                             "in `outputs`",
                             id, model->outputs[i].name);
    return 0;
}

int batch_model_read(const char *facts_json, const struct batch_spec *spec, struct batch_model *ret_model,
                     struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = facts_json ? yyjson_read(facts_json, strlen(facts_json), 0) : NULL;
    yyjson_val *root = yyjson_doc_get_root(document);
    if (!yyjson_is_obj(root))
        return error_set(ret_error, ERROR_DEPLOYMENT, "the runner's report of the model cannot be read");
    struct batch_model model = {.rows_maximum = BATCH_SIZE_MAXIMUM};
    int result;
    if (yyjson_equals_str(yyjson_obj_get(root, "kind"), "embedding"))
        result = read_embedding(spec, &model, ret_error);
    else if ((result = read_tensors(yyjson_obj_get(root, "inputs"), "input", &spec->inputs, true, &model.inputs,
                                    &model.input_count, &model.rows_maximum, ret_error)) >= 0 &&
             (result = read_tensors(yyjson_obj_get(root, "outputs"), "output", &spec->outputs, false, &model.outputs,
                                    &model.output_count, &model.rows_maximum, ret_error)) >= 0)
        result = check_output_columns(spec, &model, ret_error);
    if (result < 0) {
        batch_model_clear(&model);
        return result;
    }
    *ret_model = model;
    return 0;
}
