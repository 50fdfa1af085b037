/* A model file: the walk ends, reads nothing beyond it, and shows only locations that lie within it. */
#include <stdint.h>
#include <stdlib.h>

#include "runner/runner_onnx-internal.h"

struct range {
    const char *begin, *end;
};

static int check_range(const char *location, size_t size, void *context, struct error **ret_error) {
    const struct range *range = context;
    (void)ret_error;
    if (location < range->begin || size > (size_t)(range->end - location)) abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct range range = {(const char *)bytes, (const char *)bytes + size};
    _cleanup_error_ struct error *error = NULL;
    int result = runner_onnx_walk(bytes, size, check_range, &range, &error);
    if ((result < 0) != (error != NULL)) abort();
    return 0;
}
