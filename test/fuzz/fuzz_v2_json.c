/* An inference request in JSON: refused with a 400, or tensors whose data is as large as type and shape say, and which
 * can be written as an answer and read again as the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "runner/runner_v2-internal.h"

static void check_tensor(const struct tensor *tensor) {
    size_t count, size = tensor_types[tensor->type].size;
    if (!tensor_count_elements(tensor->shape, tensor->rank, &count) || count != tensor->element_count) abort();
    if (size && tensor->data_size != count * size) abort();
    if (!size && tensor_check_bytes(tensor->data, tensor->data_size, count, NULL)) abort();
}

/* What was read in JSON is finite and UTF-8, so it can be written; reading that gives the same. */
static void check_round_trip(const struct tensor *tensor) {
    _cleanup_buffer_ struct buffer body = {0};
    int64_t head_size;
    const bool binary = false;
    const struct v2_answer answer = {
        .model_name = "m", .model_version = "1", .outputs = tensor, .binary = &binary, .output_count = 1};
    if (v2_write(&answer, &body, &head_size, NULL)) abort();
    char *outputs = strstr(body.bytes, "\"outputs\"");
    memcpy(outputs, "\"inputs\" ", 9);
    struct v2_request again;
    if (v2_parse(body.bytes, body.size, -1, &again, NULL)) abort();
    if (again.inputs[0].data_size != tensor->data_size) abort();
    if (tensor->data_size && memcmp(again.inputs[0].data, tensor->data, tensor->data_size)) abort();
    v2_request_clear(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct v2_request request;
    _cleanup_error_ struct error *error = NULL;
    if (v2_parse((const char *)bytes, size, -1, &request, &error)) {
        if (!error || error->http_status != 400) abort();
        return 0;
    }
    for (size_t i = 0; i < request.input_count; i++) {
        check_tensor(&request.inputs[i]);
        if (request.inputs[i].name[0]) check_round_trip(&request.inputs[i]);
    }
    v2_request_clear(&request);
    return 0;
}
