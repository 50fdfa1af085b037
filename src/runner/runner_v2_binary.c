/* The binary part of inference requests. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "runner/runner_v2-internal.h"

static int check_size(const struct tensor *tensor, const char *bytes, size_t size, struct error **ret_error) {
    if (tensor->type == TENSOR_BYTES) {
        int result = tensor_check_bytes(bytes, size, tensor->element_count, ret_error);
        return result < 0 ? error_wrap(ret_error, "the binary data of input %.200s is not what it says", tensor->name)
                          : 0;
    }
    size_t needed = tensor->element_count * tensor_types[tensor->type].size;
    if (size == needed) return 0;
    _cleanup_free_ char *shape = tensor_shape_text(tensor->shape, tensor->rank);
    return error_set(ret_error, ERROR_REQUEST,
                     "input %.200s has %zu bytes of binary data, but %s of the shape %s has %zu", tensor->name, size,
                     tensor_types[tensor->type].name, shape, needed);
}

/* Bytes that are neither 0 nor 1 would be undefined inside the model. */
static bool are_truths(const char *bytes, size_t size) {
    unsigned char all = 0;
    for (size_t i = 0; i < size; i++) all |= (unsigned char)bytes[i];
    return all <= 1;
}

int v2_take_binary(struct tensor *tensor, const char *binary, size_t binary_size, uint64_t data_size, size_t *position,
                   struct error **ret_error) {
    if (data_size > binary_size - *position)
        return error_set(ret_error, ERROR_REQUEST,
                         "input %.200s says it has %llu bytes of binary data, but %zu are left", tensor->name,
                         (unsigned long long)data_size, binary_size - *position);
    const char *bytes = binary + *position;
    size_t size = (size_t)data_size, element = tensor_types[tensor->type].size;
    int result = check_size(tensor, bytes, size, ret_error);
    if (result < 0) return result;
    if (tensor->type == TENSOR_BOOL && !are_truths(bytes, size))
        return error_set(ret_error, ERROR_REQUEST, "input %.200s holds a BOOL that is neither 0 nor 1", tensor->name);
    tensor->data = bytes;
    tensor->data_size = size;
    *position += size;
    if (element < 2 || (uintptr_t)bytes % element == 0) return 0;
    tensor->owned = malloc(size ? size : 1);
    if (!tensor->owned)
        return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for input %.200s", tensor->name);
    memcpy(tensor->owned, bytes, size);
    tensor->data = tensor->owned;
    return 0;
}
