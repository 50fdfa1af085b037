/* Which kernels this machine can run; best first. */
#include "vector/kernels-internal.h"

const struct vector_kernels *const vector_kernels_all[] = {
#ifdef __x86_64__
    &vector_kernels_avx512,
    &vector_kernels_avx2,
#endif
    &vector_kernels_plain,
    NULL,
};

const struct vector_kernels *vector_kernels_best(void) {
    size_t i = 0;
    while (!vector_kernels_all[i]->is_supported()) i++;
    return vector_kernels_all[i];
}
