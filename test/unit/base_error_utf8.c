#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

static void any_text_becomes_utf8_and_utf8_stays(void **state) {
    (void)state;
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"", ""},
        {"é ∑ 🙂", "é ∑ 🙂"},
        {"\xff", "?"},
        {"a\xc3", "a?"}, /* cut in the middle */
        {"a\xf0\x9f\x99", "a???"},
        {"\xc0\x80/\xed\xa0\x80", "?"
                                  "?/??"
                                  "?"}, /* overlong, surrogate */
        {"\xc3\xa9\xa9", "é?"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *text = text_copy(cases[i].before);
        text_make_utf8(text);
        assert_string_equal(text, cases[i].after);
        assert_true(text_is_utf8(text, strlen(text)));
    }
}

static void an_error_is_utf8_whatever_it_names(void **state) {
    (void)state;
    struct error *error = NULL;
    error_set_errno(&error, ERROR_DEPLOYMENT, 2, "open %.2s\xfe", &"éé"[1]);
    error_wrap(&error, "look at %.1s", "é");
    _cleanup_free_ char *text = error_text(error);
    assert_true(text_is_utf8(text, strlen(text)));
    error_free(error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_text_becomes_utf8_and_utf8_stays),
        cmocka_unit_test(an_error_is_utf8_whatever_it_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
