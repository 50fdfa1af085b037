/* Kernels in plain C, for any machine: loops in a shape that compilers make vectors of. */
#include <string.h>

#include "vector/kernels-internal.h"

#define LANES 16

static float sum_of(const float sums[LANES]) {
    float sum = 0;
    for (size_t i = 0; i < LANES; i++) sum += sums[i];
    return sum;
}

static void products(const float *rows, size_t stride, size_t count, const float *query, float *ret_products) {
    for (size_t row = 0; row < count; row++, rows += stride) {
        float sums[LANES] = {0};
        for (size_t i = 0; i < stride; i += LANES)
            for (size_t lane = 0; lane < LANES; lane++) sums[lane] += rows[i + lane] * query[i + lane];
        ret_products[row] = sum_of(sums);
    }
}

static void code_products(const int8_t *rows, size_t stride, size_t count, const int16_t *query, float *ret_products) {
    for (size_t row = 0; row < count; row++, rows += stride) {
        int32_t sums[LANES] = {0}; /* 65536 / 16 products of at most 127 * 2047 fit */
        for (size_t i = 0; i < stride; i += LANES)
            for (size_t lane = 0; lane < LANES; lane++) sums[lane] += rows[i + lane] * query[i + lane];
        int64_t sum = 0;
        for (size_t lane = 0; lane < LANES; lane++) sum += sums[lane];
        ret_products[row] = (float)sum;
    }
}

static bool is_supported(void) {
    return true;
}

const struct vector_kernels vector_kernels_plain = {"plain", is_supported, products, code_products};
