/* Pooling and normalising, against sums by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "runner/runner_pool-internal.h"

static const float hidden[] = {1, -2, 3, 5, 100, 100}; /* 3 tokens of 2 dimensions, the last one padding */

static void padding_counts_in_no_pooling(void **state) {
    (void)state;
    float vector[2];
    runner_pool(RECIPE_MEAN, hidden, 2, 2, vector);
    assert_float_equal(vector[0], 2, 1e-6);
    assert_float_equal(vector[1], 1.5, 1e-6);
    runner_pool(RECIPE_MAX, hidden, 2, 2, vector);
    assert_float_equal(vector[0], 3, 1e-6);
    assert_float_equal(vector[1], 5, 1e-6);
    runner_pool(RECIPE_CLS, hidden, 2, 2, vector);
    assert_float_equal(vector[0], 1, 1e-6);
    assert_float_equal(vector[1], -2, 1e-6);
    runner_pool(RECIPE_NONE, hidden, 2, 2, vector);
    assert_float_equal(vector[1], -2, 1e-6);
}

static void the_largest_of_negative_values_is_negative(void **state) {
    (void)state;
    const float negative[] = {-3, -1, -2, -4};
    float vector[2];
    runner_pool(RECIPE_MAX, negative, 2, 2, vector);
    assert_float_equal(vector[0], -2, 1e-6);
    assert_float_equal(vector[1], -1, 1e-6);
}

static void a_normalised_vector_has_length_one(void **state) {
    (void)state;
    float vector[] = {3, 4}, zero[] = {0, 0}, large[] = {3e30f, 4e30f};
    runner_normalize(vector, 2);
    assert_float_equal(vector[0], 0.6, 1e-6);
    assert_float_equal(vector[1], 0.8, 1e-6);
    runner_normalize(zero, 2); /* stays nothing instead of becoming NaN */
    assert_true(zero[0] == 0 && zero[1] == 0);
    runner_normalize(large, 2);
    assert_float_equal(large[1], 0.8, 1e-5);
}

static void infinite_and_nan_are_found_anywhere(void **state) {
    (void)state;
    float vector[67] = {0};
    assert_true(runner_is_finite(vector, 67));
    for (int i = 0; i < 67; i++) {
        vector[i] = NAN;
        assert_false(runner_is_finite(vector, 67));
        vector[i] = -INFINITY;
        assert_false(runner_is_finite(vector, 67));
        vector[i] = 3.4e38f;
        assert_true(runner_is_finite(vector, 67));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(padding_counts_in_no_pooling),
        cmocka_unit_test(the_largest_of_negative_values_is_negative),
        cmocka_unit_test(a_normalised_vector_has_length_one),
        cmocka_unit_test(infinite_and_nan_are_found_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
