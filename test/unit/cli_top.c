/* The figures of `slipway top`: from two looks at /metrics to rates and quantiles; and the page, cut to the window. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "cli/top-internal.h"

static struct top_look look_at(const char *metrics, uint64_t at_s) {
    struct top_look look = {.at_us = at_s * 1000000};
    top_read_metrics(metrics, &look);
    return look;
}

static void rates_are_what_was_counted_between_two_looks_over_all_revisions(void **state) {
    (void)state;
    struct top_look before = look_at("# TYPE slipway_requests_total counter\n"
                                     "slipway_requests_total{deployment=\"a\",revision=\"1\",code=\"200\"} 10\n",
                                     100);
    struct top_look now = look_at("slipway_requests_total{deployment=\"a\",revision=\"1\",code=\"200\"} 30\n"
                                  "slipway_requests_total{deployment=\"a\",revision=\"2\",code=\"200\"} 5\n"
                                  "slipway_requests_total{deployment=\"a\",revision=\"2\",code=\"503\"} 5\n"
                                  "slipway_requests_total{deployment=\"b\",revision=\"1\",code=\"404\"} 7\n"
                                  "slipway_queue_length{deployment=\"a\",revision=\"2\"} 3\n"
                                  "slipway_build_info{version=\"1\"} 1\n",
                                  102);
    struct top_rates rates = top_compare(&before, &now, "a", false);
    assert_true(rates.requests == 15 && rates.errors == 2.5 && rates.median_s < 0);
    assert_true(top_compare(&before, &now, "b", false).requests == 3.5);
    assert_true(top_compare(&before, &now, "a", true).requests == 0); /* a collection of that name is another thing */
    assert_true(top_find(&now, "a", false)->queue == 3);
    top_look_clear(&before);
    top_look_clear(&now);
}

static void a_gateway_that_counts_from_nothing_again_gives_no_negative_rate(void **state) {
    (void)state;
    struct top_look before = look_at("slipway_searches_total{collection=\"c\",code=\"200\"} 1000\n", 1);
    struct top_look now = look_at("slipway_searches_total{collection=\"c\",code=\"200\"} 4\n", 2);
    assert_true(top_compare(&before, &now, "c", true).requests == 4);
    top_look_clear(&before);
    top_look_clear(&now);
}

#define BUCKETS(a, b, c)                                                                                               \
    "slipway_request_duration_seconds_bucket{deployment=\"a\",revision=\"1\",le=\"0.1\"} " #a "\n"                     \
    "slipway_request_duration_seconds_bucket{deployment=\"a\",revision=\"1\",le=\"0.2\"} " #b "\n"                     \
    "slipway_request_duration_seconds_bucket{deployment=\"a\",revision=\"1\",le=\"+Inf\"} " #c "\n"

static bool is_near(double a, double b) {
    return a - b < 1e-9 && b - a < 1e-9;
}

static void quantiles_are_in_proportion_within_their_bucket(void **state) {
    (void)state;
    struct top_look before = look_at(BUCKETS(50, 50, 50), 1), now = look_at(BUCKETS(50, 150, 150), 2);
    struct top_rates rates = top_compare(&before, &now, "a", false);
    assert_true(is_near(rates.median_s, 0.15) && is_near(rates.p99_s, 0.199));
    top_look_clear(&now);
    now = look_at(BUCKETS(50, 50, 60), 2); /* all above the last bound: that is what is known of them */
    assert_true(is_near(top_compare(&before, &now, "a", false).p99_s, 0.2));
    top_look_clear(&before);
    top_look_clear(&now);
}

static void lines_that_are_no_samples_are_passed_over(void **state) {
    (void)state;
    static const char *const texts[] = {"",
                                        "\n\n",
                                        "slipway_requests_total 3\n",
                                        "slipway_requests_total{deployment=\"a",
                                        "slipway_requests_total{deployment=a} 1\n",
                                        "slipway_requests_total{} 1",
                                        "slipway_requests_total{other=\"a\"} 1\n{",
                                        "#"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct top_look look = look_at(texts[i], 1);
        assert_int_equal(look.count, 0);
        top_look_clear(&look);
    }
}

static void the_page_fits_the_window(void **state) {
    (void)state;
    static const char deployments[] =
        "[{\"deployment_name\":\"déjà-vu-a-name-that-is-long\",\"status\":\"active\",\"replicas\":2},"
        "{\"deployment_name\":\"b\",\"status\":\"failed\",\"replicas\":1},"
        "{\"deployment_name\":\"gone\",\"status\":\"inactive\",\"replicas\":1}]";
    struct top_look look = look_at("slipway_replica_up{deployment=\"b\",revision=\"1\",replica=\"x\"} 1\n", 1);
    look.deployments = yyjson_read(deployments, sizeof deployments - 1, 0);
    struct buffer page = {0};
    top_draw(&page, &look, &look, 20, 3);
    size_t lines = 0;
    char *save = NULL;
    for (char *line = strtok_r(page.bytes, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++)
        assert_true(cli_text_width(line) <= 20);
    assert_int_equal(lines, 2); /* and a blank one */
    page.size = 0;
    top_draw(&page, &look, &look, 0, 0);
    assert_non_null(strstr(page.bytes, "1/1"));
    assert_null(strstr(page.bytes, "gone"));
    buffer_clear(&page);
    top_look_clear(&look);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_what_was_counted_between_two_looks_over_all_revisions),
        cmocka_unit_test(a_gateway_that_counts_from_nothing_again_gives_no_negative_rate),
        cmocka_unit_test(quantiles_are_in_proportion_within_their_bucket),
        cmocka_unit_test(lines_that_are_no_samples_are_passed_over),
        cmocka_unit_test(the_page_fits_the_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
