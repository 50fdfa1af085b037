/* Inference requests in JSON. */
#include "runner/runner_v2-internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

/* ---- elements ------------------------------------------------------------ */

static int wrong_element(const struct tensor *tensor, struct error **ret_error) {
    static const char *const wanted[] = {[TENSOR_FORM_TRUTH] = "true or false",
                                         [TENSOR_FORM_UNSIGNED] = "a whole number that fits",
                                         [TENSOR_FORM_SIGNED] = "a whole number that fits",
                                         [TENSOR_FORM_REAL] = "a number that fits",
                                         [TENSOR_FORM_TEXT] = "a string"};
    return error_set(ret_error, ERROR_REQUEST, "input %.200s holds a value that is not %s (%s)", tensor->name,
                     wanted[tensor_types[tensor->type].form], tensor_types[tensor->type].name);
}

static bool put_truth(yyjson_val *value, char *at) {
    bool is_number = yyjson_is_uint(value) && yyjson_get_uint(value) <= 1;
    *at = (char)(is_number ? yyjson_get_uint(value) : yyjson_get_bool(value));
    return is_number || yyjson_is_bool(value);
}

static bool put_unsigned(yyjson_val *value, size_t size, char *at) {
    uint64_t number = yyjson_get_uint(value);
    memcpy(at, &number, size); /* little endian: the low bytes come first */
    return yyjson_is_uint(value) && (size == 8 || number >> (8 * size) == 0);
}

static bool put_signed(yyjson_val *value, size_t size, char *at) {
    assert(size >= 1 && size <= 8);
    if (!yyjson_is_int(value) || (yyjson_is_uint(value) && yyjson_get_uint(value) > INT64_MAX)) return false;
    int64_t number = yyjson_get_sint(value), limit = size == 8 ? INT64_MAX : ((int64_t)1 << (8 * size - 1)) - 1;
    memcpy(at, &number, size);
    return number <= limit && number >= -limit - 1;
}

static bool put_real(yyjson_val *value, enum tensor_type type, char *at) {
    if (!yyjson_is_num(value)) return false;
    double wide = yyjson_get_num(value);
    float single = (float)wide;
    uint16_t narrow;
    switch (type) {
    case TENSOR_FP64: memcpy(at, &wide, sizeof wide); return true;
    case TENSOR_FP32: memcpy(at, &single, sizeof single); return isfinite(single);
    case TENSOR_FP16:
        narrow = tensor_float_to_half(single);
        memcpy(at, &narrow, sizeof narrow);
        return (narrow & 0x7c00) != 0x7c00;
    default:
        narrow = tensor_float_to_brain(single);
        memcpy(at, &narrow, sizeof narrow);
        return (narrow & 0x7f80) != 0x7f80;
    }
}

static bool put_text(yyjson_val *value, struct buffer *texts) {
    uint32_t size = (uint32_t)yyjson_get_len(value);
    return yyjson_is_str(value) && buffer_append(texts, &size, sizeof size) &&
           buffer_append(texts, yyjson_get_str(value), size);
}

/* ---- data ---------------------------------------------------------------- */

struct filling {
    struct tensor *tensor;
    char *at; /* where the next element goes */
    size_t left; /* elements that are still to come */
    struct buffer texts; /* of a BYTES tensor */
};

static int put_element(struct filling *filling, yyjson_val *value, struct error **ret_error) {
    const struct tensor_type_info *type = &tensor_types[filling->tensor->type];
    bool fits = false;
    switch (type->form) {
    case TENSOR_FORM_TRUTH: fits = put_truth(value, filling->at); break;
    case TENSOR_FORM_UNSIGNED: fits = put_unsigned(value, type->size, filling->at); break;
    case TENSOR_FORM_SIGNED: fits = put_signed(value, type->size, filling->at); break;
    case TENSOR_FORM_REAL: fits = put_real(value, filling->tensor->type, filling->at); break;
    case TENSOR_FORM_TEXT: fits = put_text(value, &filling->texts); break;
    }
    filling->at += type->size;
    filling->left--;
    return fits ? 0 : wrong_element(filling->tensor, ret_error);
}

static int wrong_shape(const struct tensor *tensor, size_t dimension, size_t found, struct error **ret_error) {
    _cleanup_free_ char *shape = tensor_shape_text(tensor->shape, tensor->rank);
    return error_set(ret_error, ERROR_REQUEST,
                     "the data of input %.200s does not match its shape %s: a list at level %zu has %zu values",
                     tensor->name, shape, dimension, found);
}

/* Nested data: the list at level d has shape[d] members. */
static int fill_nested(struct filling *filling, yyjson_val *list, size_t dimension, struct error **ret_error) {
    const struct tensor *tensor = filling->tensor;
    size_t index, count;
    yyjson_val *value;
    bool last = dimension + 1 == tensor->rank;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) != (size_t)tensor->shape[dimension])
        return wrong_shape(tensor, dimension, yyjson_arr_size(list), ret_error);
    yyjson_arr_foreach(list, index, count, value) {
        int result =
            last ? put_element(filling, value, ret_error) : fill_nested(filling, value, dimension + 1, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

static int fill_flat(struct filling *filling, yyjson_val *list, struct error **ret_error) {
    size_t index, count;
    yyjson_val *value;
    if (yyjson_arr_size(list) != filling->left)
        return wrong_shape(filling->tensor, 0, yyjson_arr_size(list), ret_error);
    yyjson_arr_foreach(list, index, count, value) {
        int result = put_element(filling, value, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

/* How many values stand in the lists, so that nothing is allocated for a shape that the data does not fill. */
static size_t count_leaves(yyjson_val *list) {
    size_t index, count, leaves = 0;
    yyjson_val *value;
    yyjson_arr_foreach(list, index, count, value) leaves += yyjson_is_arr(value) ? count_leaves(value) : 1;
    return leaves;
}

static int take_data(struct tensor *tensor, yyjson_val *data, struct error **ret_error) {
    bool nested = yyjson_is_arr(yyjson_arr_get_first(data));
    size_t leaves = nested ? count_leaves(data) : yyjson_arr_size(data);
    if (leaves != tensor->element_count) {
        _cleanup_free_ char *shape = tensor_shape_text(tensor->shape, tensor->rank);
        return error_set(ret_error, ERROR_REQUEST, "input %.200s has %zu values, but its shape %s needs %zu",
                         tensor->name, leaves, shape, tensor->element_count);
    }
    struct filling filling = {.tensor = tensor, .left = tensor->element_count};
    size_t size = tensor->element_count * tensor_types[tensor->type].size;
    filling.at = tensor->owned = malloc(size ? size : 1);
    if (!filling.at)
        return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for input %.200s", tensor->name);
    int result =
        nested && tensor->rank ? fill_nested(&filling, data, 0, ret_error) : fill_flat(&filling, data, ret_error);
    if (tensor->type == TENSOR_BYTES) {
        free(tensor->owned);
        tensor->owned = buffer_take(&filling.texts, &size);
    }
    tensor->data = tensor->owned;
    tensor->data_size = size;
    return result;
}

/* ---- inputs, outputs, parameters ------------------------------------------ */

struct parts {
    const char *binary;
    size_t binary_size, position;
};

static int take_shape(struct tensor *tensor, yyjson_val *shape, struct error **ret_error) {
    size_t index, count;
    yyjson_val *value;
    if (!yyjson_is_arr(shape) || yyjson_arr_size(shape) > TENSOR_RANK_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST, "input %.200s needs a shape: a list of at most %d whole numbers",
                         tensor->name, TENSOR_RANK_MAXIMUM);
    yyjson_arr_foreach(shape, index, count, value) {
        if (!yyjson_is_uint(value) || yyjson_get_uint(value) > INT64_MAX)
            return error_set(ret_error, ERROR_REQUEST,
                             "the shape of input %.200s may hold whole numbers from 0 on only", tensor->name);
        tensor->shape[tensor->rank++] = (int64_t)yyjson_get_uint(value);
    }
    if (!tensor_count_elements(tensor->shape, tensor->rank, &tensor->element_count))
        return error_set(ret_error, ERROR_REQUEST, "the shape of input %.200s is larger than any tensor can be",
                         tensor->name);
    return 0;
}

static int take_content(struct tensor *tensor, yyjson_val *object, struct parts *parts, struct error **ret_error) {
    yyjson_val *parameters = NULL, *data = yyjson_obj_get(object, "data");
    int64_t binary_size = -1;
    int result = json_get_object(object, tensor->name, "parameters", false, &parameters, ret_error);
    if (result == 0)
        result =
            json_get_number(parameters, tensor->name, "binary_data_size", false, 0, INT64_MAX, &binary_size, ret_error);
    if (result < 0) return result;
    if ((binary_size >= 0) == (data != NULL))
        return error_set(ret_error, ERROR_REQUEST, "input %.200s needs either data or parameters.binary_data_size",
                         tensor->name);
    if (data && !yyjson_is_arr(data))
        return error_set(ret_error, ERROR_REQUEST, "the data of input %.200s must be a list", tensor->name);
    if (data) return take_data(tensor, data, ret_error);
    return v2_take_binary(tensor, parts->binary, parts->binary_size, (uint64_t)binary_size, &parts->position,
                          ret_error);
}

static int take_input(struct tensor *tensor, yyjson_val *object, struct parts *parts, struct error **ret_error) {
    const char *type = NULL;
    if (!yyjson_is_obj(object)) return error_set(ret_error, ERROR_REQUEST, "every member of inputs must be an object");
    int result = json_get_text(object, "inputs", "name", true, &tensor->name, ret_error);
    if (result == 0) result = json_get_text(object, "inputs", "datatype", true, &type, ret_error);
    if (result < 0) return result;
    if (!tensor_type_parse(type, &tensor->type))
        return error_set(ret_error, ERROR_REQUEST,
                         "input %.200s has the datatype %.40s, which is not one of the protocol's", tensor->name, type);
    result = take_shape(tensor, yyjson_obj_get(object, "shape"), ret_error);
    return result == 0 ? take_content(tensor, object, parts, ret_error) : result;
}

static int take_inputs(struct v2_request *request, yyjson_val *list, struct parts *parts, struct error **ret_error) {
    size_t index, count;
    yyjson_val *value;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) > V2_TENSORS_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST, "the field inputs must be a list of at most %d inputs",
                         V2_TENSORS_MAXIMUM);
    request->inputs = mem_new_array(yyjson_arr_size(list), struct tensor);
    yyjson_arr_foreach(list, index, count, value) {
        int result = take_input(&request->inputs[request->input_count++], value, parts, ret_error);
        if (result < 0) return result;
    }
    if (parts->position != parts->binary_size)
        return error_set(ret_error, ERROR_REQUEST, "the body has %zu bytes behind its last tensor",
                         parts->binary_size - parts->position);
    return 0;
}

static int take_outputs(struct v2_request *request, yyjson_val *list, struct error **ret_error) {
    size_t index, count;
    yyjson_val *value;
    if (!list || yyjson_is_null(list) || (yyjson_is_arr(list) && yyjson_arr_size(list) == 0)) return 0;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) > V2_TENSORS_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST, "the field outputs must be a list of at most %d outputs",
                         V2_TENSORS_MAXIMUM);
    request->outputs = mem_new_array(yyjson_arr_size(list), struct v2_output);
    yyjson_arr_foreach(list, index, count, value) {
        struct v2_output *output = &request->outputs[request->output_count++];
        yyjson_val *parameters = NULL;
        output->binary = request->binary_outputs;
        if (!yyjson_is_obj(value))
            return error_set(ret_error, ERROR_REQUEST, "every member of outputs must be an object");
        int result = json_get_text(value, "outputs", "name", true, &output->name, ret_error);
        if (result == 0) result = json_get_object(value, "outputs", "parameters", false, &parameters, ret_error);
        if (result == 0)
            result = json_get_boolean(parameters, "outputs.parameters", "binary_data", &output->binary, ret_error);
        if (result < 0) return result;
        if (yyjson_obj_get(parameters, "classification"))
            return error_set(ret_error, ERROR_REQUEST,
                             "the classification extension is not offered; ask for the output itself");
    }
    return 0;
}

static int take_request(struct v2_request *request, yyjson_val *root, struct parts *parts, struct error **ret_error) {
    yyjson_val *parameters = NULL;
    int result = json_get_text(root, "", "id", false, &request->id, ret_error);
    if (result == 0) result = json_get_object(root, "", "parameters", false, &parameters, ret_error);
    if (result == 0)
        result = json_get_boolean(parameters, "parameters", "binary_data_output", &request->binary_outputs, ret_error);
    if (result == 0) result = take_inputs(request, yyjson_obj_get(root, "inputs"), parts, ret_error);
    if (result == 0) result = take_outputs(request, yyjson_obj_get(root, "outputs"), ret_error);
    return result;
}

int v2_parse(const char *body, size_t size, int64_t head_size, struct v2_request *ret_request,
             struct error **ret_error) {
    struct v2_request request = {0};
    yyjson_val *root;
    if (head_size > (int64_t)size)
        return error_set(ret_error, ERROR_REQUEST,
                         "Inference-Header-Content-Length is %lld, but the body has only %zu bytes",
                         (long long)head_size, size);
    size_t head = head_size < 0 ? size : (size_t)head_size;
    struct parts parts = {.binary = body + head, .binary_size = size - head};
    int result = json_parse_object(body, head, &request.document, &root, ret_error);
    if (result == 0) result = take_request(&request, root, &parts, ret_error);
    if (result < 0)
        v2_request_clear(&request);
    else
        *ret_request = request;
    return result;
}

void v2_request_clear(struct v2_request *request) {
    tensor_clear_all(request->inputs, request->input_count);
    free(request->outputs);
    yyjson_doc_free(request->document);
    *request = (struct v2_request){0};
}
