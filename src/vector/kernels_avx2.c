/* Kernels for AVX2 with FMA (Intel since Haswell, AMD since Zen). Four rows at a time, so that there is enough to add
 * up at once while memory is waited for; each row has sums of its own, so that it comes out the same in any company. */
#ifdef __x86_64__
#include <immintrin.h>

#include "vector/kernels-internal.h"

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE TARGET static inline __attribute__((always_inline))

INLINE float sum_of(__m256 sums) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* `together` rows: a constant where it is called. */
INLINE void rows_products(const float *rows, size_t stride, size_t together, const float *query, float *ret_products) {
    __m256 low[4], high[4];
    for (size_t row = 0; row < together; row++) low[row] = high[row] = _mm256_setzero_ps();
    for (size_t i = 0; i < stride; i += 16) {
        __m256 first = _mm256_load_ps(query + i), second = _mm256_load_ps(query + i + 8);
        for (size_t row = 0; row < together; row++) {
            const float *at = rows + row * stride + i;
            low[row] = _mm256_fmadd_ps(_mm256_load_ps(at), first, low[row]);
            high[row] = _mm256_fmadd_ps(_mm256_load_ps(at + 8), second, high[row]);
        }
    }
    for (size_t row = 0; row < together; row++) ret_products[row] = sum_of(_mm256_add_ps(low[row], high[row]));
}

TARGET static void products(const float *rows, size_t stride, size_t count, const float *query, float *ret_products) {
    for (; count >= 4; count -= 4, rows += 4 * stride, ret_products += 4)
        rows_products(rows, stride, 4, query, ret_products);
    for (; count; count--, rows += stride, ret_products++) rows_products(rows, stride, 1, query, ret_products);
}

/* A lane adds at most 65536 / 16 times two products of 127 * 2047, which fits in 32 bits; they add up as floats. */
INLINE void rows_code_products(const int8_t *rows, size_t stride, size_t together, const int16_t *query,
                               float *ret_products) {
    __m256i sums[4];
    for (size_t row = 0; row < together; row++) sums[row] = _mm256_setzero_si256();
    for (size_t i = 0; i < stride; i += 16) {
        __m256i part = _mm256_load_si256((const __m256i *)(query + i));
        for (size_t row = 0; row < together; row++) {
            __m256i code = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(rows + row * stride + i)));
            sums[row] = _mm256_add_epi32(sums[row], _mm256_madd_epi16(code, part));
        }
    }
    for (size_t row = 0; row < together; row++) ret_products[row] = sum_of(_mm256_cvtepi32_ps(sums[row]));
}

TARGET static void code_products(const int8_t *rows, size_t stride, size_t count, const int16_t *query,
                                 float *ret_products) {
    for (; count >= 4; count -= 4, rows += 4 * stride, ret_products += 4)
        rows_code_products(rows, stride, 4, query, ret_products);
    for (; count; count--, rows += stride, ret_products++) rows_code_products(rows, stride, 1, query, ret_products);
}

static bool is_supported(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct vector_kernels vector_kernels_avx2 = {"avx2", is_supported, products, code_products};
#endif
