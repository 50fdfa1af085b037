/* The kernels agree with sums in long doubles, whatever the dimension, and keep what the search's bounds build upon. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "support/vector_bed.h"
#include "vector/vector-internal.h"

#define ROWS 13 /* not a multiple of what any kernel takes at a time */

static const uint32_t dimensions[] = {1,   2,   3,   15,  16,  17,   63,   64,   65,   127,
                                      128, 383, 384, 385, 768, 1000, 1024, 4096, 65536};

struct sample {
    size_t dimension, stride, code_stride;
    float *rows, *query;
    int8_t *codes;
    struct vector_code_scale scales[ROWS];
    struct vector_query_code code;
    long double products[ROWS]; /* of rows and query */
};

static void *aligned(size_t size) {
    void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    assert_non_null(memory);
    return memory;
}

static void make_sample(uint32_t dimension, struct sample *sample) {
    struct vector_layout layout;
    vector_layout_of(dimension, true, ROWS, &layout);
    *sample = (struct sample){.dimension = dimension, .stride = layout.stride, .code_stride = layout.code_stride};
    sample->rows = aligned(ROWS * layout.stride * sizeof(float));
    sample->query = aligned(layout.stride * sizeof(float));
    sample->codes = aligned(ROWS * layout.code_stride);
    sample->code.code = aligned(layout.code_stride * sizeof(int16_t));
    _cleanup_free_ float *raw = mem_new_array(dimension, float);
    vector_bed_row(9, dimension, raw);
    assert_true(vector_normalise(raw, dimension, sample->query, layout.stride));
    vector_quantise_query(sample->query, dimension, layout.code_stride, &sample->code);
    for (size_t row = 0; row < ROWS; row++) {
        float *place = sample->rows + row * layout.stride;
        vector_bed_row(9 + row, dimension, raw); /* the first one is the query itself */
        if (row == ROWS - 1) memset(raw + 1, 0, (dimension - 1) * sizeof *raw); /* all in one number */
        assert_true(vector_normalise(raw, dimension, place, layout.stride));
        vector_quantise(place, dimension, sample->codes + row * layout.code_stride, layout.code_stride,
                        &sample->scales[row]);
        for (size_t i = 0; i < dimension; i++) sample->products[row] += (long double)place[i] * sample->query[i];
    }
}

static void clear_sample(struct sample *sample) {
    free(sample->rows);
    free(sample->query);
    free(sample->codes);
    free(sample->code.code);
}

static void products_are_within_the_rounding_that_is_allowed_for(void **state) {
    (void)state;
    size_t kernels = 0;
    for (size_t i = 0; i < ARRAY_SIZE(dimensions); i++) {
        struct sample sample;
        make_sample(dimensions[i], &sample);
        for (kernels = 0; vector_kernels_all[kernels]; kernels++) {
            float products[ROWS];
            if (!vector_kernels_all[kernels]->is_supported()) continue;
            vector_kernels_all[kernels]->products(sample.rows, sample.stride, ROWS, sample.query, products);
            for (size_t row = 0; row < ROWS; row++) {
                long double difference = fabsl(products[row] - sample.products[row]);
                assert_true(difference <= (long double)vector_rounding(sample.stride));
                if (dimensions[i] <= 4096) assert_true(difference < 1e-5L);
            }
        }
        clear_sample(&sample);
    }
    assert_true(kernels >= 1);
    assert_true(vector_kernels_all[kernels - 1]->is_supported()); /* the last one runs anywhere */
}

static void a_row_comes_out_the_same_in_any_company(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(dimensions); i++) {
        struct sample sample;
        make_sample(dimensions[i], &sample);
        for (size_t k = 0; vector_kernels_all[k]; k++) {
            if (!vector_kernels_all[k]->is_supported()) continue;
            float together[ROWS], alone;
            vector_kernels_all[k]->products(sample.rows, sample.stride, ROWS, sample.query, together);
            for (size_t row = 0; row < ROWS; row++) {
                vector_kernels_all[k]->products(sample.rows + row * sample.stride, sample.stride, 1, sample.query,
                                                &alone);
                assert_memory_equal(&alone, &together[row], sizeof alone);
            }
        }
        clear_sample(&sample);
    }
}

static void code_products_are_those_of_whole_numbers(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(dimensions); i++) {
        struct sample sample;
        make_sample(dimensions[i], &sample);
        for (size_t pass = 0; pass < 2; pass++) {
            if (pass) { /* the largest sums that there can be */
                memset(sample.codes, 127, ROWS * sample.code_stride);
                for (size_t j = 0; j < sample.code_stride; j++) sample.code.code[j] = 2047;
            }
            for (size_t k = 0; vector_kernels_all[k]; k++) {
                if (!vector_kernels_all[k]->is_supported()) continue;
                float products[ROWS];
                vector_kernels_all[k]->code_products(sample.codes, sample.code_stride, ROWS, sample.code.code,
                                                     products);
                for (size_t row = 0; row < ROWS; row++) {
                    int64_t sum = 0, size = 0;
                    for (size_t j = 0; j < sample.code_stride; j++) {
                        int64_t product = (int64_t)sample.codes[row * sample.code_stride + j] * sample.code.code[j];
                        sum += product;
                        size += product < 0 ? -product : product;
                    }
                    assert_true(fabs((double)products[row] - (double)sum) <= (double)size * 1e-6);
                }
            }
        }
        clear_sample(&sample);
    }
}

/* What search.c relies on: the true product is within the margin of the codes' product. */
static void the_true_product_is_within_the_margin_of_the_codes(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(dimensions); i++) {
        struct sample sample;
        make_sample(dimensions[i], &sample);
        float products[ROWS], margin_of_query = sample.code.error;
        vector_kernels_best()->code_products(sample.codes, sample.code_stride, ROWS, sample.code.code, products);
        for (size_t row = 0; row < ROWS; row++) {
            long double product = (long double)products[row] * sample.code.scale * sample.scales[row].scale;
            long double error = sample.scales[row].error;
            assert_true(fabsl(product - sample.products[row]) <= error + (1.0001L + error) * margin_of_query + 2e-6L);
            assert_true(error < 0.05L);
        }
        clear_sample(&sample);
    }
}

static void lengths_become_one_or_are_refused(void **state) {
    (void)state;
    static const float factors[] = {1e-40f, 1e-20f, 1, 1e18f, 3e38f};
    float vector[5], result[16];
    for (size_t i = 0; i < ARRAY_SIZE(factors); i++) {
        for (size_t j = 0; j < 5; j++) vector[j] = (float)((double)j - 2.5) / 2.5f * factors[i];
        assert_true(vector_normalise(vector, 5, result, 16));
        double square = 0;
        for (size_t j = 0; j < 5; j++) square += (double)result[j] * (double)result[j];
        assert_true(fabs(square - 1) < 1e-6);
        for (size_t j = 5; j < 16; j++) assert_true(result[j] == 0);
    }
    const float refused[] = {0, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        for (size_t j = 0; j < 5; j++) vector[j] = j == 3 ? refused[i] : refused[i] == 0 ? 0 : 1;
        assert_false(vector_normalise(vector, 5, result, 16));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_within_the_rounding_that_is_allowed_for),
        cmocka_unit_test(a_row_comes_out_the_same_in_any_company),
        cmocka_unit_test(code_products_are_those_of_whole_numbers),
        cmocka_unit_test(the_true_product_is_within_the_margin_of_the_codes),
        cmocka_unit_test(lengths_become_one_or_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
