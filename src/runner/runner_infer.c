/* POST /v2/models/{model}/infer: tensors, and for embedding models the input `text` and the output `embedding`. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "runner/runner_service-internal.h"

void v2_fail(struct http_request *request, const struct error *error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    _cleanup_free_ char *text = error_text(error);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    bool utf8 = text_is_utf8(text, strlen(text));
    json_add_text(document, root, "error", utf8 ? text : "the request cannot be answered");
    size_t size;
    _cleanup_free_ char *json = json_write(document, &size);
    const struct http_header headers[] = {{"Content-Type", "application/json"}, {"Retry-After", "1"}};
    bool later = error->http_status == 503 || error->http_status == 429;
    http_respond(request, error->http_status, headers, later ? 2 : 1, json, size, NULL);
}

/* ---- tensors ---------------------------------------------------------------- */

static int find_value(const struct session_value *values, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (text_equal(values[i].name, name)) return (int)i;
    return -1;
}

/* The request's inputs, in the model's order; their data stays the request's. */
static int order_inputs(struct runner_job *job, struct error **ret_error) {
    size_t count;
    const struct session_value *values = session_inputs(job->service->model->session, &count);
    struct tensor *ordered = job->tensors.inputs = mem_new_array(count, struct tensor);
    for (size_t i = 0; i < job->v2.input_count; i++) {
        const struct tensor *given = &job->v2.inputs[i];
        int index = find_value(values, count, given->name);
        if (index < 0)
            return error_set(ret_error, ERROR_REQUEST, "the model has no input %.200s; it has %zu, the first is %s",
                             given->name, count, count ? values[0].name : "none");
        if (ordered[index].name) return error_set(ret_error, ERROR_REQUEST, "input %.200s is given twice", given->name);
        ordered[index] = *given;
        ordered[index].owned = NULL;
    }
    for (size_t i = 0; i < count; i++)
        if (!ordered[i].name) return error_set(ret_error, ERROR_REQUEST, "input %s is missing", values[i].name);
    return 0;
}

static int choose_outputs(struct runner_job *job, struct error **ret_error) {
    size_t count;
    const struct session_value *values = session_outputs(job->service->model->session, &count);
    struct model_tensors *tensors = &job->tensors;
    size_t wanted = job->v2.outputs ? job->v2.output_count : count;
    tensors->wanted = mem_new_array(wanted, size_t);
    tensors->outputs = mem_new_array(wanted, struct tensor);
    for (size_t i = 0; i < wanted; i++) {
        int index = job->v2.outputs ? find_value(values, count, job->v2.outputs[i].name) : (int)i;
        if (index < 0)
            return error_set(ret_error, ERROR_REQUEST, "the model has no output %.200s; it has %zu, the first is %s",
                             job->v2.outputs[i].name, count, values[0].name);
        for (size_t j = 0; j < i; j++)
            if (tensors->wanted[j] == (size_t)index)
                return error_set(ret_error, ERROR_REQUEST, "output %s is asked for twice", values[index].name);
        tensors->wanted[i] = (size_t)index;
        tensors->wanted_count++;
    }
    return 0;
}

static int parse_tensors(struct runner_job *job, struct error **ret_error) {
    int result = v2_parse(job->request->body, job->request->body_size, job->request_head_size, &job->v2, ret_error);
    if (result == 0) result = order_inputs(job, ret_error);
    if (result == 0) result = choose_outputs(job, ret_error);
    if (result == 0) result = model_check_tensors(job->service->model, &job->tensors, ret_error);
    if (result < 0) return result;
    job->units = mem_new(struct batch_unit);
    *job->units = (struct batch_unit){.rows = model_rows(&job->tensors),
                                      .signature = job->tensors.signature,
                                      .signature_size = job->tensors.signature_size,
                                      .payload = &job->tensors};
    job->batch.units = job->units;
    job->batch.unit_count = 1;
    return 0;
}

static int write_outputs(struct runner_job *job, const struct tensor *outputs, size_t count, struct error **ret_error) {
    _cleanup_free_ bool *binary = mem_new_array(count, bool);
    for (size_t i = 0; i < count; i++) binary[i] = job->v2.outputs ? job->v2.outputs[i].binary : job->v2.binary_outputs;
    const struct v2_answer answer = {.model_name = job->model_name,
                                     .model_version = job->service->version,
                                     .id = job->v2.id,
                                     .outputs = outputs,
                                     .binary = binary,
                                     .output_count = count};
    return v2_write(&answer, &job->answer, &job->head_size, ret_error);
}

static int write_tensors(struct runner_job *job, struct error **ret_error) {
    return write_outputs(job, job->tensors.outputs, job->tensors.wanted_count, ret_error);
}

static size_t tensors_bytes(const struct runner_job *job) {
    size_t size = 0;
    for (size_t i = 0; i < job->tensors.wanted_count; i++) size += 2 * job->tensors.outputs[i].data_size;
    return size;
}

const struct runner_protocol v2_tensor_protocol = {.large_bytes = RUNNER_LARGE_BYTES,
                                                   .parse = parse_tensors,
                                                   .write = write_tensors,
                                                   .answer_bytes = tensors_bytes,
                                                   .fail = v2_fail};

/* ---- texts ------------------------------------------------------------------- */

static int check_text_request(const struct v2_request *request, struct error **ret_error) {
    const struct tensor *text = request->inputs;
    if (request->input_count != 1 || !text_equal(text->name, "text"))
        return error_set(ret_error, ERROR_REQUEST, "an embedding model takes one input: text, BYTES [n] or [n,1]");
    if (text->type != TENSOR_BYTES || !(text->rank == 1 || (text->rank == 2 && text->shape[1] == 1))) {
        _cleanup_free_ char *shape = tensor_shape_text(text->shape, text->rank);
        return error_set(ret_error, ERROR_REQUEST, "input text is %s %s; it must be BYTES [n] or [n,1]",
                         tensor_types[text->type].name, shape);
    }
    for (size_t i = 0; i < request->output_count; i++)
        if (!text_equal(request->outputs[i].name, "embedding") || i > 0)
            return error_set(ret_error, ERROR_REQUEST, "an embedding model has one output: embedding, not %.200s",
                             request->outputs[i].name);
    return 0;
}

static int parse_texts(struct runner_job *job, struct error **ret_error) {
    int result = v2_parse(job->request->body, job->request->body_size, job->request_head_size, &job->v2, ret_error);
    if (result == 0) result = check_text_request(&job->v2, ret_error);
    size_t position = 0, count = result == 0 ? job->v2.inputs[0].element_count : 0;
    for (size_t i = 0; result == 0 && i < count; i++) {
        uint32_t size;
        const char *text = tensor_next_bytes(&job->v2.inputs[0], &position, &size);
        result = runner_texts_add(&job->texts, job->service->model, text, size, ret_error);
    }
    return result == 0 ? runner_texts_finish(job, ret_error) : result;
}

static int write_texts(struct runner_job *job, struct error **ret_error) {
    size_t dimension = job->service->model->dimension;
    struct tensor embedding = {.name = "embedding",
                               .type = TENSOR_FP32,
                               .rank = 2,
                               .shape = {(int64_t)job->texts.count, (int64_t)dimension},
                               .element_count = job->texts.count * dimension,
                               .data = job->texts.vectors,
                               .data_size = job->texts.count * dimension * sizeof(float)};
    return write_outputs(job, &embedding, 1, ret_error);
}

static size_t texts_bytes(const struct runner_job *job) {
    return job->texts.count * job->service->model->dimension * 12;
}

const struct runner_protocol v2_text_protocol = {.large_bytes = RUNNER_LARGE_TEXT_BYTES,
                                                 .parse = parse_texts,
                                                 .write = write_texts,
                                                 .answer_bytes = texts_bytes,
                                                 .fail = v2_fail};
