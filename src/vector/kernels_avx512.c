/* Kernels for AVX-512 (F and BW: Intel servers since Skylake, AMD since Zen 4). Four rows at a time; see
 * kernels_avx2.c. */
#ifdef __x86_64__
#include <immintrin.h>

#include "vector/kernels-internal.h"

#define TARGET __attribute__((target("avx512f,avx512bw")))
#define INLINE TARGET static inline __attribute__((always_inline))

/* `together` rows: a constant where it is called. */
INLINE void rows_products(const float *rows, size_t stride, size_t together, const float *query, float *ret_products) {
    __m512 sums[4];
    for (size_t row = 0; row < together; row++) sums[row] = _mm512_setzero_ps();
    for (size_t i = 0; i < stride; i += 16) {
        __m512 part = _mm512_load_ps(query + i);
        for (size_t row = 0; row < together; row++)
            sums[row] = _mm512_fmadd_ps(_mm512_load_ps(rows + row * stride + i), part, sums[row]);
    }
    for (size_t row = 0; row < together; row++) ret_products[row] = _mm512_reduce_add_ps(sums[row]);
}

TARGET static void products(const float *rows, size_t stride, size_t count, const float *query, float *ret_products) {
    for (; count >= 4; count -= 4, rows += 4 * stride, ret_products += 4)
        rows_products(rows, stride, 4, query, ret_products);
    for (; count; count--, rows += stride, ret_products++) rows_products(rows, stride, 1, query, ret_products);
}

/* Sums as in kernels_avx2.c, half as many in a lane. */
INLINE void rows_code_products(const int8_t *rows, size_t stride, size_t together, const int16_t *query,
                               float *ret_products) {
    __m512i sums[4];
    for (size_t row = 0; row < together; row++) sums[row] = _mm512_setzero_si512();
    for (size_t i = 0; i < stride; i += 32) {
        __m512i part = _mm512_load_si512(query + i);
        for (size_t row = 0; row < together; row++) {
            __m512i code = _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i *)(rows + row * stride + i)));
            sums[row] = _mm512_add_epi32(sums[row], _mm512_madd_epi16(code, part));
        }
    }
    for (size_t row = 0; row < together; row++) ret_products[row] = _mm512_reduce_add_ps(_mm512_cvtepi32_ps(sums[row]));
}

TARGET static void code_products(const int8_t *rows, size_t stride, size_t count, const int16_t *query,
                                 float *ret_products) {
    for (; count >= 4; count -= 4, rows += 4 * stride, ret_products += 4)
        rows_code_products(rows, stride, 4, query, ret_products);
    for (; count; count--, rows += stride, ret_products++) rows_code_products(rows, stride, 1, query, ret_products);
}

static bool is_supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

const struct vector_kernels vector_kernels_avx512 = {"avx512", is_supported, products, code_products};
#endif
