/* Tensor requests: checked against the model, joined along the first dimension, run, and taken apart again. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "runner/runner_model-internal.h"

static int check_input(const struct session_value *value, const struct tensor *tensor, struct error **ret_error) {
    if (tensor->type != value->type)
        return error_set(ret_error, ERROR_REQUEST, "input %s is %s, but the model takes %s", value->name,
                         tensor_types[tensor->type].name, tensor_types[value->type].name);
    bool fits = tensor->rank == value->rank;
    for (size_t i = 0; fits && i < value->rank; i++) fits = value->shape[i] < 0 || value->shape[i] == tensor->shape[i];
    if (fits) return 0;
    _cleanup_free_ char *given = tensor_shape_text(tensor->shape, tensor->rank);
    _cleanup_free_ char *taken = tensor_shape_text(value->shape, value->rank);
    return error_set(ret_error, ERROR_REQUEST, "input %s has the shape %s, but the model takes %s", value->name, given,
                     taken);
}

/* Requests run together when, but for the first dimension, their shapes agree and they want the same outputs. Within a
 * request the first dimensions must agree too; where they do not, the request's own address keeps it alone. */
static void make_signature(const struct model *model, struct model_tensors *request, size_t input_count) {
    size_t count = request->wanted_count + 1;
    for (size_t i = 0; i < input_count; i++) count += request->inputs[i].rank;
    int64_t *at = request->signature = mem_new_array(count, int64_t);
    bool alike = model->together;
    for (size_t i = 0; i < input_count && alike; i++)
        alike = request->inputs[i].rank > 0 && request->inputs[i].shape[0] == request->inputs[0].shape[0] &&
                request->inputs[i].shape[0] > 0;
    *at++ = alike ? 0 : (int64_t)(intptr_t)request;
    for (size_t i = 0; i < input_count; i++)
        for (size_t j = 1; j < request->inputs[i].rank; j++) *at++ = request->inputs[i].shape[j];
    for (size_t i = 0; i < request->wanted_count; i++) *at++ = (int64_t)request->wanted[i];
    request->signature_size = (size_t)((char *)at - (char *)request->signature);
}

int model_check_tensors(const struct model *model, struct model_tensors *request, struct error **ret_error) {
    size_t count;
    const struct session_value *values = session_inputs(model->session, &count);
    for (size_t i = 0; i < count; i++) {
        int result = check_input(&values[i], &request->inputs[i], ret_error);
        if (result < 0) return result;
    }
    make_signature(model, request, count);
    return 0;
}

size_t model_rows(const struct model_tensors *request) {
    bool counts = request->inputs && request->inputs[0].rank > 0 && request->inputs[0].shape[0] > 0;
    return counts ? (size_t)request->inputs[0].shape[0] : 1;
}

/* ---- one request --------------------------------------------------------- */

static int copy_output(const struct tensor *from, struct tensor *to, struct error **ret_error) {
    *to = *from;
    to->owned = malloc(from->data_size ? from->data_size : 1);
    if (!to->owned)
        return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for an output of %zu bytes",
                         from->data_size);
    if (from->data_size) memcpy(to->owned, from->data, from->data_size);
    to->data = to->owned;
    return 0;
}

static int run_one(struct model *model, struct model_tensors *request, struct error **ret_error) {
    struct session_result given;
    int result =
        session_run(model->session, request->inputs, request->wanted, request->wanted_count, &given, ret_error);
    if (result < 0) return result;
    for (size_t i = 0; result == 0 && i < request->wanted_count; i++)
        result = copy_output(&given.tensors[i], &request->outputs[i], ret_error);
    session_result_clear(&given);
    return result;
}

/* ---- several ------------------------------------------------------------- */

static int join_input(struct model_tensors *const *requests, size_t count, size_t input, struct tensor *ret_joined,
                      struct error **ret_error) {
    struct tensor joined = requests[0]->inputs[input];
    joined.data_size = joined.element_count = 0;
    joined.shape[0] = 0;
    for (size_t i = 0; i < count; i++) {
        const struct tensor *part = &requests[i]->inputs[input];
        joined.data_size += part->data_size;
        joined.element_count += part->element_count;
        joined.shape[0] += part->shape[0];
    }
    char *at = joined.owned = malloc(joined.data_size ? joined.data_size : 1);
    if (!at) return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for a batch of %zu requests", count);
    for (size_t i = 0; i < count; i++) {
        const struct tensor *part = &requests[i]->inputs[input];
        if (part->data_size) memcpy(at, part->data, part->data_size);
        at += part->data_size;
    }
    joined.data = joined.owned;
    *ret_joined = joined;
    return 0;
}

/* The bytes that `elements` elements take from *position on. */
static size_t part_size(const struct tensor *whole, size_t position, size_t elements) {
    if (whole->type != TENSOR_BYTES) return elements * tensor_types[whole->type].size;
    size_t at = position;
    for (size_t i = 0; i < elements; i++) {
        uint32_t size;
        tensor_next_bytes(whole, &at, &size);
    }
    return at - position;
}

static int split_output(const struct tensor *whole, struct model_tensors *const *requests, size_t count, size_t output,
                        int64_t rows, struct error **ret_error) {
    if (whole->rank == 0 || whole->shape[0] != rows)
        return error_set(ret_error, ERROR_DEPLOYMENT, "output %s does not have a row for each of the batch",
                         whole->name);
    size_t position = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t own = requests[i]->inputs[0].shape[0];
        struct tensor part = *whole;
        part.shape[0] = own;
        part.element_count = whole->element_count / (size_t)rows * (size_t)own;
        part.data = (const char *)whole->data + position;
        part.data_size = part_size(whole, position, part.element_count);
        part.owned = NULL;
        position += part.data_size;
        int result = copy_output(&part, &requests[i]->outputs[output], ret_error);
        if (result < 0) return result;
    }
    return 0;
}

static void clear_outputs(struct model_tensors *request) {
    for (size_t i = 0; i < request->wanted_count; i++) tensor_clear(&request->outputs[i]);
}

static int run_joined(struct model *model, struct model_tensors *const *requests, size_t count,
                      struct error **ret_error) {
    size_t input_count;
    session_inputs(model->session, &input_count);
    struct tensor *joined = mem_new_array(input_count, struct tensor);
    struct session_result given = {0};
    int result = 0;
    for (size_t i = 0; result == 0 && i < input_count; i++)
        result = join_input(requests, count, i, &joined[i], ret_error);
    if (result == 0)
        result = session_run(model->session, joined, requests[0]->wanted, requests[0]->wanted_count, &given, ret_error);
    for (size_t i = 0; result == 0 && i < given.count; i++)
        result = split_output(&given.tensors[i], requests, count, i, joined[0].shape[0], ret_error);
    session_result_clear(&given);
    tensor_clear_all(joined, input_count);
    return result;
}

int model_run_tensors(struct model *model, struct model_tensors *const *requests, size_t count,
                      struct error **ret_error) {
    int result = count == 1 ? run_one(model, requests[0], ret_error) : run_joined(model, requests, count, ret_error);
    for (size_t i = 0; result < 0 && i < count; i++) clear_outputs(requests[i]);
    return result;
}
