/* Settings: values, names, the environment, and what must hold between them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/settings.h"
#include "base/text.h"

static void free_settings(struct settings **settings) {
    settings_free(*settings);
}
#define _cleanup_settings_ __attribute__((cleanup(free_settings)))

static void free_list(char ***list) {
    for (char **at = *list; at && *at; at++) free(*at);
    free(*list);
}

/* The call fails, is the user's to mend, and its sentence holds `expected`. */
#define assert_refused(call, error, expected)                                                                          \
    do {                                                                                                               \
        assert_int_equal((call), -ERROR_CONFIGURATION);                                                                \
        _cleanup_free_ char *text_ = error_text(error);                                                                \
        if (!strstr(text_, (expected))) fail_msg("unexpected: %s", text_);                                             \
        error_free(error);                                                                                             \
        (error) = NULL;                                                                                                \
    } while (0)

static void the_defaults_are_those_of_the_table(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    assert_string_equal(settings->listen, "127.0.0.1:8400");
    assert_int_equal(settings->drain_ms, 30000);
    assert_int_equal(settings->body_maximum, 67108864);
    assert_true(settings->access_log);
    assert_int_equal(settings_check(settings, NULL), 0);
}

static void every_default_survives_being_written_and_read_again(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    for (size_t i = 0; i < settings_count; i++) {
        _cleanup_free_ char *before = settings_value(settings, &settings_table[i]);
        assert_int_equal(settings_set(settings, settings_table[i].name, before, NULL), 0);
        _cleanup_free_ char *after = settings_value(settings, &settings_table[i]);
        assert_string_equal(before, after);
    }
}

static void dashes_and_underscores_name_the_same_setting(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    assert_int_equal(settings_set(settings, "memory-budget", "2Gi", NULL), 0);
    assert_int_equal(settings->memory_budget, (uint64_t)2 << 30);
    assert_int_equal(settings_set(settings, "memory_budget", "1.5Gi", NULL), 0);
    assert_int_equal(settings->memory_budget, (uint64_t)3 << 29);
    assert_ptr_equal(settings_find("memory-budget"), settings_find("memory_budget"));
}

static void durations_are_named_without_their_unit(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    assert_int_equal(settings_set(settings, "drain", "250ms", NULL), 0);
    assert_int_equal(settings->drain_ms, 250);
    assert_int_equal(settings_set(settings, "drain", "2", NULL), 0);
    assert_int_equal(settings->drain_ms, 2000);
    assert_null(settings_find("drain_ms"));
}

static void the_largest_size_is_kept_to_the_byte(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    assert_int_equal(settings_set(settings, "memory_budget", "9223372036854775807", NULL), 0);
    assert_true(settings->memory_budget == INT64_MAX);
    assert_int_equal(settings_set(settings, "memory_budget", "9223372036854775808", NULL), -ERROR_CONFIGURATION);
}

static void a_bad_value_is_refused_with_what_was_wanted_and_changes_nothing(void **state) {
    (void)state;
    static const struct {
        const char *name, *value, *expected;
    } cases[] = {
        {"drain", "soon", "setting drain: \"soon\" is not a duration like 30s"},
        {"drain", "-1s", "is not a duration"},
        {"drain", "99ms", "setting drain: 99ms is outside of 100ms to 3600000ms"},
        {"memory_budget", "2GB", "is not a size in bytes like"},
        {"task_attempts", "0", "setting task_attempts: 0 is outside of 1 to 100"},
        {"task_attempts", "3.5", "is not a whole number"},
        {"task_attempts", "18446744073709551616", "is not a whole number"},
        {"access_log", "maybe", "is not true or false"},
        {"state", "", "0 bytes, outside of 1 to 4096"},
        {"token", "a\nb", "not plain UTF-8 text"},
        {"token", "a\xff", "not plain UTF-8 text"},
    };
    _cleanup_settings_ struct settings *settings = settings_new();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct setting *setting = settings_find(cases[i].name);
        _cleanup_free_ char *before = settings_value(settings, setting);
        struct error *error = NULL;
        assert_refused(settings_set(settings, cases[i].name, cases[i].value, &error), error, cases[i].expected);
        _cleanup_free_ char *after = settings_value(settings, setting);
        assert_string_equal(before, after);
    }
}

static void a_mistyped_name_is_answered_with_the_nearest_one(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    struct error *error = NULL;
    assert_refused(settings_set(settings, "memory_bugdet", "1", &error), error, "did you mean memory_budget?");
    assert_refused(settings_set(settings, "zzzzzzzzzzzz", "1", &error), error, "there is no setting zzzzzzzzzzzz");
}

static void the_environment_given_to_a_role_is_what_it_reads_back(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    assert_int_equal(settings_set(settings, "drain", "45s", NULL), 0);
    assert_int_equal(settings_set(settings, "token", "a=b c", NULL), 0);
    assert_int_equal(settings_set(settings, "access_log", "false", NULL), 0);
    __attribute__((cleanup(free_list))) char **environment = settings_environment(settings);
    _cleanup_settings_ struct settings *again = settings_new();
    assert_int_equal(settings_read_environment(again, environment, NULL), 0);
    for (size_t i = 0; i < settings_count; i++) {
        _cleanup_free_ char *one = settings_value(settings, &settings_table[i]);
        _cleanup_free_ char *other = settings_value(again, &settings_table[i]);
        assert_string_equal(one, other);
    }
}

static void variables_that_are_no_settings_are_left_alone(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    char *const environment[] = {"SLIPWAY_URL=http://x", "SLIPWAY_DRAINING=1", "DRAIN=1s", "SLIPWAY_DRAIN=31s", NULL};
    assert_int_equal(settings_read_environment(settings, environment, NULL), 0);
    assert_int_equal(settings->drain_ms, 31000);
}

static void a_bad_variable_is_named(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    char *const environment[] = {"SLIPWAY_DRAIN=never", NULL};
    struct error *error = NULL;
    assert_refused(settings_read_environment(settings, environment, &error), error,
                   "environment variable SLIPWAY_DRAIN: setting drain:");
}

static void loopback_is_told_from_the_rest(void **state) {
    (void)state;
    static const char *const loopback[] = {"127.0.0.1:8400", "127.9.9.9:1", "[::1]:8400", "localhost:0"};
    static const char *const beyond[] = {"0.0.0.0:8400",
                                         "[::]:8400",
                                         "10.0.0.1:80",
                                         "[fe80::1]:80",
                                         "128.0.0.1:1",
                                         "127.0.0.1",
                                         "127.0.0.1:",
                                         "example:80",
                                         "[127.0.0.1]:80",
                                         "::1:80",
                                         ""};
    for (size_t i = 0; i < ARRAY_SIZE(loopback); i++) assert_true(settings_is_loopback(loopback[i]));
    for (size_t i = 0; i < ARRAY_SIZE(beyond); i++) assert_false(settings_is_loopback(beyond[i]));
}

static void an_address_is_taken_apart_or_refused(void **state) {
    (void)state;
    _cleanup_free_ char *host = NULL;
    uint16_t port = 0;
    assert_true(settings_parse_listen("[::1]:65535", &host, &port));
    assert_string_equal(host, "::1");
    assert_int_equal(port, 65535);
    static const char *const broken[] = {"[::1]:65536",     "[::1:80",          "[]:80",  ":80", "127.0.0.1:-1",
                                         "127.0.0.1:8400x", "127.0.0.1:000080", "host:80"};
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        char *other = NULL;
        assert_false(settings_parse_listen(broken[i], &other, &port));
    }
}

static void listening_beyond_loopback_needs_a_token(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    struct error *error = NULL;
    assert_int_equal(settings_set(settings, "listen", "0.0.0.0:8400", NULL), 0);
    assert_refused(settings_check(settings, &error), error, "set a token");
    assert_int_equal(settings_set(settings, "token", "secret", NULL), 0);
    assert_int_equal(settings_check(settings, NULL), 0);
}

static void a_drain_deadline_below_the_upstream_timeout_is_refused(void **state) {
    (void)state;
    _cleanup_settings_ struct settings *settings = settings_new();
    struct error *error = NULL;
    assert_int_equal(settings_set(settings, "drain", "10s", NULL), 0);
    assert_refused(settings_check(settings, &error), error, "raise drain or lower upstream_timeout");
    assert_int_equal(settings_set(settings, "upstream_timeout", "10s", NULL), 0);
    assert_int_equal(settings_check(settings, NULL), 0);
}

static void a_listen_address_or_level_or_url_that_means_nothing_is_refused(void **state) {
    (void)state;
    static const char *const cases[][3] = {{"listen", "8400", "127.0.0.1:8400"},
                                           {"log_level", "loud", "debug, info, warning or error"},
                                           {"public_url", "ftp://x", "http://"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_settings_ struct settings *settings = settings_new();
        struct error *error = NULL;
        assert_int_equal(settings_set(settings, cases[i][0], cases[i][1], NULL), 0);
        assert_refused(settings_check(settings, &error), error, cases[i][2]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_defaults_are_those_of_the_table),
        cmocka_unit_test(every_default_survives_being_written_and_read_again),
        cmocka_unit_test(dashes_and_underscores_name_the_same_setting),
        cmocka_unit_test(durations_are_named_without_their_unit),
        cmocka_unit_test(the_largest_size_is_kept_to_the_byte),
        cmocka_unit_test(a_bad_value_is_refused_with_what_was_wanted_and_changes_nothing),
        cmocka_unit_test(a_mistyped_name_is_answered_with_the_nearest_one),
        cmocka_unit_test(the_environment_given_to_a_role_is_what_it_reads_back),
        cmocka_unit_test(variables_that_are_no_settings_are_left_alone),
        cmocka_unit_test(a_bad_variable_is_named),
        cmocka_unit_test(loopback_is_told_from_the_rest),
        cmocka_unit_test(an_address_is_taken_apart_or_refused),
        cmocka_unit_test(listening_beyond_loopback_needs_a_token),
        cmocka_unit_test(a_drain_deadline_below_the_upstream_timeout_is_refused),
        cmocka_unit_test(a_listen_address_or_level_or_url_that_means_nothing_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
