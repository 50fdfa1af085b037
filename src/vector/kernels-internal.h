/* The kernels, one a file; each is compiled for its instructions and called only where they are. */
#pragma once
#include "vector/vector-internal.h"

extern const struct vector_kernels vector_kernels_plain;
#ifdef __x86_64__
extern const struct vector_kernels vector_kernels_avx2, vector_kernels_avx512;
#endif
