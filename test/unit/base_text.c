/* Names, sizes, durations, encodings: what the outside may write and what it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"

static void sizes_are_read_with_their_units(void **state) {
    (void)state;
    uint64_t bytes = 0;
    assert_true(text_parse_size("2Gi", &bytes) && bytes == 2147483648u);
    assert_true(text_parse_size("1.5Ki", &bytes) && bytes == 1536);
    assert_true(text_parse_size("3M", &bytes) && bytes == 3000000);
    assert_true(text_parse_size("0", &bytes) && bytes == 0);
    static const char *const bad[] = {"", "-1", "Gi", "1.2.3", "1e9", "99999999Ti", "1 Gi", "1GiB", "0x10", "inf"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) assert_false(text_parse_size(bad[i], &bytes));
}

static void durations_are_read_with_their_units(void **state) {
    (void)state;
    uint64_t milliseconds = 0;
    assert_true(text_parse_duration("30s", &milliseconds) && milliseconds == 30000);
    assert_true(text_parse_duration("1.5", &milliseconds) && milliseconds == 1500);
    assert_true(text_parse_duration("250ms", &milliseconds) && milliseconds == 250);
    assert_false(text_parse_duration("soon", &milliseconds));
}

static void utf8_is_checked_as_the_standard_says(void **state) {
    (void)state;
    assert_true(text_is_utf8("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 10));
    static const char *const bad[] = {"\x80",         "\xc0\xaf", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xe0\x80\x80", "\xff"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) assert_false(text_is_utf8(bad[i], strlen(bad[i])));
    assert_false(text_is_utf8("a\0b", 3));
}

static void percent_decoding_refuses_what_is_malformed(void **state) {
    (void)state;
    char *text = NULL;
    assert_true(text_percent_decode("a%20b%2Fc", 9, &text, NULL));
    assert_string_equal(text, "a b/c");
    free(text);
    static const char *const bad[] = {"%", "%2", "%zz", "%00"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) assert_false(text_percent_decode(bad[i], strlen(bad[i]), &text, NULL));
}

static void the_nearest_word_is_found_and_a_far_one_is_not(void **state) {
    (void)state;
    static const char *const words[] = {"deploy", "delete", "status", "list"};
    assert_string_equal(text_nearest("delpoy", words, 4), "deploy");
    assert_string_equal(text_nearest("stauts", words, 4), "status");
    assert_null(text_nearest("completely-else", words, 4));
}

static void a_new_uuid_has_the_shape_of_one_and_is_new(void **state) {
    (void)state;
    char one[37], other[37];
    text_new_uuid(one);
    text_new_uuid(other);
    assert_true(text_is_uuid(one));
    assert_int_equal(one[14], '4');
    assert_string_not_equal(one, other);
}

static void times_are_rfc_3339(void **state) {
    (void)state;
    char text[25];
    clock_format(1795266540123, text);
    assert_string_equal(text, "2026-11-21T13:09:00.123Z");
}

static void tokens_compare_by_all_of_their_bytes(void **state) {
    (void)state;
    assert_true(text_equal_constant_time("secret", "secret"));
    assert_false(text_equal_constant_time("secret", "secreT"));
    assert_false(text_equal_constant_time("secretsecret", "secret"));
    assert_false(text_equal_constant_time("secret", ""));
    assert_false(text_equal_constant_time("", "secret"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_with_their_units),
        cmocka_unit_test(durations_are_read_with_their_units),
        cmocka_unit_test(utf8_is_checked_as_the_standard_says),
        cmocka_unit_test(percent_decoding_refuses_what_is_malformed),
        cmocka_unit_test(the_nearest_word_is_found_and_a_far_one_is_not),
        cmocka_unit_test(a_new_uuid_has_the_shape_of_one_and_is_new),
        cmocka_unit_test(times_are_rfc_3339),
        cmocka_unit_test(tokens_compare_by_all_of_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
