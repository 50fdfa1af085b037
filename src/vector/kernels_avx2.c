/* Kernels for AVX2 with FMA (Intel since Haswell, AMD since Zen). Row after row, as in kernels_avx512.c. */
#ifdef __x86_64__
#include <immintrin.h>

#include "vector/kernels-internal.h"

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define TOGETHER 4

/* Each of the four added up by itself. */
INLINE __m128 add_up(const __m256 sums[TOGETHER]) {
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(sums[0], sums[1]), _mm256_hadd_ps(sums[2], sums[3]));
    return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

INLINE __m256 row_product(const float *row, size_t stride, const float *query) {
    __m256 sums[4];
    for (size_t i = 0; i < 4; i++) sums[i] = _mm256_setzero_ps();
    size_t at = 0;
    for (; at + 32 <= stride; at += 32)
        for (size_t i = 0; i < 4; i++)
            sums[i] = _mm256_fmadd_ps(_mm256_load_ps(row + at + 8 * i), _mm256_load_ps(query + at + 8 * i), sums[i]);
    for (size_t i = 0; at < stride; at += 8, i++) /* a half that is left over */
        sums[i] = _mm256_fmadd_ps(_mm256_load_ps(row + at), _mm256_load_ps(query + at), sums[i]);
    return _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
}

TARGET static void products(const float *rows, size_t stride, size_t count, const float *query, float *ret_products) {
    __m256 sums[TOGETHER];
    for (; count >= TOGETHER; count -= TOGETHER, rows += TOGETHER * stride, ret_products += TOGETHER) {
        for (size_t i = 0; i < TOGETHER; i++) sums[i] = row_product(rows + i * stride, stride, query);
        _mm_storeu_ps(ret_products, add_up(sums));
    }
    for (; count; count--, rows += stride) {
        sums[0] = sums[1] = sums[2] = sums[3] = row_product(rows, stride, query);
        *ret_products++ = _mm_cvtss_f32(add_up(sums));
    }
}

INLINE __m256i sixteen(const int8_t *codes) {
    return _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)codes));
}

/* A lane adds at most 65536 / 32 times two products of 127 * 2047, which fits in 32 bits; they add up as floats. */
INLINE __m256 row_code_product(const int8_t *row, size_t stride, const int16_t *query) {
    __m256i first = _mm256_setzero_si256(), second = first;
    for (size_t at = 0; at < stride; at += 32) {
        __m256i low = _mm256_madd_epi16(sixteen(row + at), _mm256_load_si256((const __m256i *)(query + at)));
        __m256i high = _mm256_madd_epi16(sixteen(row + at + 16), _mm256_load_si256((const __m256i *)(query + at + 16)));
        first = _mm256_add_epi32(first, low);
        second = _mm256_add_epi32(second, high);
    }
    return _mm256_add_ps(_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second));
}

TARGET static void code_products(const int8_t *rows, size_t stride, size_t count, const int16_t *query,
                                 float *ret_products) {
    __m256 sums[TOGETHER];
    for (; count >= TOGETHER; count -= TOGETHER, rows += TOGETHER * stride, ret_products += TOGETHER) {
        for (size_t i = 0; i < TOGETHER; i++) sums[i] = row_code_product(rows + i * stride, stride, query);
        _mm_storeu_ps(ret_products, add_up(sums));
    }
    for (; count; count--, rows += stride) {
        sums[0] = sums[1] = sums[2] = sums[3] = row_code_product(rows, stride, query);
        *ret_products++ = _mm_cvtss_f32(add_up(sums));
    }
}

static bool is_supported(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

const struct vector_kernels vector_kernels_avx2 = {"avx2", is_supported, products, code_products};
#endif
