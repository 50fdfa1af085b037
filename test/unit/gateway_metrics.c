/* What is counted is what is written, and what is written is Prometheus text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "gateway/gateway_metrics-internal.h"
#include "support/exposition.h"

static void assert_valid(const struct buffer *text) {
    const char *fault = exposition_fault(text->bytes, text->size);
    if (fault) fail_msg("%s", fault);
}

static void a_duration_is_counted_below_its_bound_and_all_above(void **state) {
    (void)state;
    struct gateway_series series = {0};
    gateway_series_count(&series, 200, 500); /* on the bound: below it */
    gateway_series_count(&series, 200, 501);
    gateway_series_count(&series, 503, 90000000); /* above all bounds */
    _cleanup_buffer_ struct buffer text = {0};
    gateway_metrics_family(&text, "d_seconds", "histogram", "Durations.");
    gateway_metrics_durations(&text, "d_seconds", "x=\"y\"", &series.durations);
    assert_valid(&text);
    assert_true(exposition_value(text.bytes, "d_seconds_bucket{x=\"y\",le=\"0.0005\"}") == 1);
    assert_true(exposition_value(text.bytes, "d_seconds_bucket{x=\"y\",le=\"0.001\"}") == 2);
    assert_true(exposition_value(text.bytes, "d_seconds_bucket{x=\"y\",le=\"60\"}") == 2);
    assert_true(exposition_value(text.bytes, "d_seconds_bucket{x=\"y\",le=\"+Inf\"}") == 3);
    assert_true(exposition_value(text.bytes, "d_seconds_count{x=\"y\"}") == 3);
    assert_true(exposition_value(text.bytes, "d_seconds_sum{x=\"y\"}") == 90.001001);
}

static void batch_sizes_are_a_histogram(void **state) {
    (void)state;
    struct gateway_series series = {0};
    gateway_series_count_batch(&series, 1);
    gateway_series_count_batch(&series, 8);
    gateway_series_count_batch(&series, 100000);
    _cleanup_buffer_ struct buffer text = {0};
    gateway_metrics_family(&text, "batch", "histogram", "Sizes.");
    gateway_metrics_batches(&text, "batch", "", &series);
    assert_valid(&text);
    assert_true(exposition_value(text.bytes, "batch_bucket{le=\"4\"}") == 1);
    assert_true(exposition_value(text.bytes, "batch_bucket{le=\"8\"}") == 2);
    assert_true(exposition_value(text.bytes, "batch_sum") == 100009);
}

static void each_status_has_its_count_and_too_many_share_one(void **state) {
    (void)state;
    struct gateway_code_count codes[GATEWAY_CODES] = {0};
    for (int status = 200; status < 230; status++) gateway_codes_count(codes, status);
    gateway_codes_count(codes, 200);
    _cleanup_buffer_ struct buffer text = {0};
    gateway_metrics_family(&text, "answers_total", "counter", "Answers.");
    gateway_metrics_codes(&text, "answers_total", "kind=\"data\"", codes);
    assert_valid(&text);
    assert_true(exposition_value(text.bytes, "answers_total{kind=\"data\",code=\"200\"}") == 2);
    assert_true(exposition_value(text.bytes, "answers_total{kind=\"data\",code=\"222\"}") == 1);
    assert_true(exposition_value(text.bytes, "answers_total{kind=\"data\",code=\"other\"}") == 7);
}

static void a_label_is_escaped(void **state) {
    (void)state;
    _cleanup_free_ char *labels = gateway_metrics_labels("a\"b\\c\nd", 3);
    assert_string_equal(labels, "deployment=\"a\\\"b\\\\c\\nd\",revision=\"3\"");
    _cleanup_buffer_ struct buffer text = {0};
    gateway_metrics_family(&text, "n", "gauge", "N.");
    gateway_metrics_number(&text, "n", labels, 5);
    assert_valid(&text);
}

static void another_processes_figures_follow_without_what_stands_already(void **state) {
    (void)state;
    static const char other[] =
        "lost 1\n# HELP ours Again.\n# TYPE ours gauge\nours 2\n# HELP theirs T.\n# TYPE theirs counter\n"
        "theirs{a=\"b\"} 3\n# HELP ours_too Longer.\n# TYPE ours_too gauge\nours_too 4\ncut o";
    _cleanup_buffer_ struct buffer text = {0};
    gateway_metrics_family(&text, "ours", "gauge", "Ours.");
    gateway_metrics_number(&text, "ours", "", 1);
    gateway_metrics_append(&text, other, strlen(other));
    assert_valid(&text);
    assert_true(exposition_value(text.bytes, "ours") == 1);
    assert_true(exposition_value(text.bytes, "theirs{a=\"b\"}") == 3);
    assert_true(exposition_value(text.bytes, "ours_too") == 4);
    assert_null(strstr(text.bytes, "lost"));
    assert_null(strstr(text.bytes, "cut"));
}

/* The checker itself: a test that cannot fail proves nothing. */
static void the_checker_finds_faults(void **state) {
    (void)state;
    static const char *const faulty[] = {
        "a 1\n",
        "# HELP a A.\n# TYPE a gauge\na 1",
        "# HELP a A.\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a A.\n# TYPE a gauge\nb 1\n",
        "# HELP a A.\n# TYPE a gauge\na{x=y} 1\n",
        "# HELP a A.\n# TYPE a gauge\na{x=\"y} 1\n",
        "# HELP a A.\n# TYPE a gauge\na one\n",
        "# HELP a A.\n# TYPE a thing\na 1\n",
        "# TYPE a gauge\na 1\n",
        "# HELP a A.\n# TYPE a gauge\na 1\n# HELP a A.\n# TYPE a gauge\na{x=\"y\"} 1\n",
        "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_sum 1\na_count 2\n",
        "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_sum 1\na_count 3\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(faulty); i++)
        if (!exposition_fault(faulty[i], strlen(faulty[i]))) fail_msg("taken as valid: %s", faulty[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checker_finds_faults),
        cmocka_unit_test(a_duration_is_counted_below_its_bound_and_all_above),
        cmocka_unit_test(batch_sizes_are_a_histogram),
        cmocka_unit_test(each_status_has_its_count_and_too_many_share_one),
        cmocka_unit_test(a_label_is_escaped),
        cmocka_unit_test(another_processes_figures_follow_without_what_stands_already),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
