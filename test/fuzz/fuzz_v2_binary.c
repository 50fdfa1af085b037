/* An inference request with binary tensors; the first two bytes are the length of the JSON head (0xffff: none is told).
 * Refused with a 400, or tensors inside the body whose data is as large as type and shape say. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "runner/runner_v2-internal.h"

/* Every byte is read, so that a sanitizer sees one that does not belong to us. */
static void check_tensor(const struct tensor *tensor) {
    size_t count, size = tensor_types[tensor->type].size;
    unsigned char sum = 0;
    if (!tensor_count_elements(tensor->shape, tensor->rank, &count) || count != tensor->element_count) abort();
    if (size && tensor->data_size != count * size) abort();
    if (!size && tensor_check_bytes(tensor->data, tensor->data_size, count, NULL)) abort();
    for (size_t i = 0; i < tensor->data_size; i++) sum ^= ((const unsigned char *)tensor->data)[i];
    if (size > 1 && (uintptr_t)tensor->data % size) abort();
    __asm__ volatile("" ::"r"(sum));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2) return 0;
    int64_t head_size = bytes[0] | bytes[1] << 8;
    if (head_size == 0xffff) head_size = -1;
    char *body = malloc(size - 2 ? size - 2 : 1); /* ends where it ends */
    memcpy(body, bytes + 2, size - 2);
    struct v2_request request;
    _cleanup_error_ struct error *error = NULL;
    if (v2_parse(body, size - 2, head_size, &request, &error)) {
        if (!error || error->http_status != 400) abort();
    } else {
        for (size_t i = 0; i < request.input_count; i++) check_tensor(&request.inputs[i]);
        v2_request_clear(&request);
    }
    free(body);
    return 0;
}
