/* The settings file: one "name = value" a line, and every fault with its line number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/settings.h"
#include "base/text.h"

static int read_text(struct settings *settings, const char *text, struct error **ret_error) {
    return settings_read_text(settings, text, strlen(text), "slipway.conf", ret_error);
}

static void a_file_sets_what_it_names_and_leaves_the_rest(void **state) {
    (void)state;
    struct settings *settings = settings_new();
    assert_int_equal(
        read_text(settings,
                  "\xef\xbb\xbf# a comment\n; another\n\n  drain = 45s  \r\ntoken=a;b # c = d\nmemory-budget =\t2Gi",
                  NULL),
        0);
    assert_int_equal(settings->drain_ms, 45000);
    assert_string_equal(settings->token, "a;b # c = d");
    assert_int_equal(settings->memory_budget, (uint64_t)2 << 30);
    assert_string_equal(settings->listen, "127.0.0.1:8400");
    settings_free(settings);
}

static void a_long_line_is_kept_whole(void **state) {
    (void)state;
    struct settings *settings = settings_new();
    char token[4097];
    memset(token, 'x', 4096);
    token[4096] = 0;
    _cleanup_free_ char *text = text_format("token = %s\ndrain = 31s\n", token);
    assert_int_equal(read_text(settings, text, NULL), 0);
    assert_string_equal(settings->token, token);
    assert_int_equal(settings->drain_ms, 31000);
    settings_free(settings);
}

static void a_fault_names_the_file_and_the_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"drain = 45s\ntokn = x\n", "slipway.conf, line 2: there is no setting tokn; did you mean token?"},
        {"drain = never\n", "slipway.conf, line 1: setting drain: \"never\" is not a duration"},
        {"\n\ndrain\n", "slipway.conf, line 3: \"drain\" is not of the form name = value"},
        {"= 3\n", "line 1: \"= 3\" is not of the form"},
        {"[gateway]\n", "line 1: the settings file has no sections"},
        {"drain = 45s\ndrain = 46s\n", "line 2: setting drain is there a second time"},
        {"token = \xff\xfe\n", "line 1: the line is not UTF-8 text"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct settings *settings = settings_new();
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(read_text(settings, cases[i].text, &error), -ERROR_CONFIGURATION);
        _cleanup_free_ char *text = error_text(error);
        if (!strstr(text, cases[i].expected)) fail_msg("unexpected: %s", text);
        settings_free(settings);
    }
}

static void a_nul_in_the_file_is_refused(void **state) {
    (void)state;
    struct settings *settings = settings_new();
    assert_int_equal(settings_read_text(settings, "token = a\0b\n", 12, "f", NULL), -ERROR_CONFIGURATION);
    settings_free(settings);
}

static void a_file_is_read_from_the_disk(void **state) {
    (void)state;
    char path[] = "/tmp/slipway-settings-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, "drain = 45s\n", 12), 12);
    struct settings *settings = settings_new();
    int result = settings_read_file(settings, path, NULL);
    unlink(path);
    close(file);
    assert_int_equal(result, 0);
    assert_int_equal(settings->drain_ms, 45000);
    settings_free(settings);
}

static void a_file_that_is_not_there_is_the_users_to_mend(void **state) {
    (void)state;
    struct settings *settings = settings_new();
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(settings_read_file(settings, "/nonexistent/slipway.conf", &error), -ERROR_CONFIGURATION);
    _cleanup_free_ char *text = error_text(error);
    assert_non_null(strstr(text, "/nonexistent/slipway.conf: No such file or directory"));
    settings_free(settings);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_sets_what_it_names_and_leaves_the_rest),
        cmocka_unit_test(a_long_line_is_kept_whole),
        cmocka_unit_test(a_fault_names_the_file_and_the_line),
        cmocka_unit_test(a_nul_in_the_file_is_refused),
        cmocka_unit_test(a_file_is_read_from_the_disk),
        cmocka_unit_test(a_file_that_is_not_there_is_the_users_to_mend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
