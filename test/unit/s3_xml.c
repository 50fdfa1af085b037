#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"
#include "s3/s3_xml.h"

static int note(void *context, const char *path, const char *text, struct error **ret_error) {
    (void)ret_error;
    buffer_append_format(context, "%s=%s;", path, text);
    return 0;
}

static int read_all(const char *xml, char **ret_seen, struct error **ret_error) {
    struct buffer seen = {0};
    int result = s3_xml_read(xml, strlen(xml), note, &seen, ret_error);
    *ret_seen = buffer_take(&seen, NULL);
    return result;
}

static void elements_are_told_with_path_and_text_as_they_end(void **state) {
    (void)state;
    static const struct {
        const char *xml, *seen;
    } cases[] = {
        {"<a/>", "a=;"},
        {"<a></a>\n", "a=;"},
        {"\xEF\xBB\xBF<?xml version=\"1.0\" encoding='UTF-8'?>\n<a>x</a>", "a=x;"},
        {"<a xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"> <b c='d' >x y</b >\n<b/></a>", "a/b=x y;a/b=;a=;"},
        {"<s:a><s:b>1</s:b></s:a>", "a/b=1;a=;"},
        {"<a>&lt;&gt;&amp;&quot;&apos;&#34;&#x22;&#xe9;&#x20AC;&#x1F600;</a>", "a=<>&\"'\"\"é€😀;"},
        {"<a>before<b>in</b>behind</a>", "a/b=in;a=;"},
        {"<a>\xC3\xA9\t\r\n</a>", "a=é\t\r\n;"},
        {"<a><b><c>1</c></b><b><c>2</c></b></a>", "a/b/c=1;a/b=;a/b/c=2;a/b=;a=;"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *seen = NULL;
        assert_int_equal(read_all(cases[i].xml, &seen, NULL), 0);
        assert_string_equal(seen, cases[i].seen);
    }
}

static void what_is_not_that_xml_is_refused_with_its_place(void **state) {
    (void)state;
    static const char *const cases[] = {
        "",
        " ",
        "x",
        "<",
        "<a",
        "<a>",
        "<a></b>",
        "<a></ab>",
        "<ab></a>",
        "<a></a><b/>",
        "<a/>x",
        "</a>",
        "<a",
        "<a b></a>",
        "<a b=c></a>",
        "<a b='c></a>",
        "<a b='<'></a>",
        "<a>&amp</a>",
        "<a>&unknown;</a>",
        "<a>&#0;</a>",
        "<a>&#xD800;</a>",
        "<a>&#x110000;</a>",
        "<a>&#99999999999999999999;</a>",
        "<a>&#;</a>",
        "<a>&#xg;</a>",
        "<a>\x01</a>",
        "<a>\xFF</a>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "<a><![CDATA[x]]></a>",
        "<a><!-- x --></a>",
        "<a><?x?></a>",
        "<?xml version='1.0'><a/>",
        "<?xml",
        "<a><b></a></b>",
        "<a><></></a>",
        "<a:></a:>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a>",
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *seen = NULL;
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(read_all(cases[i], &seen, &error), -ERROR_MODEL_REGISTRY);
        assert_non_null(strstr(error->message, ": byte "));
    }
    _cleanup_free_ char *seen = NULL;
    char longest[S3_XML_PATH_MAXIMUM + 8] = "<";
    memset(longest + 1, 'a', S3_XML_PATH_MAXIMUM);
    strcat(longest, "/>");
    assert_int_equal(read_all(longest, &seen, NULL), -ERROR_MODEL_REGISTRY);
}

static int refuse(void *context, const char *path, const char *text, struct error **ret_error) {
    (void)text;
    (*(int *)context)++;
    return strcmp(path, "a/c") ? 0 : error_set(ret_error, ERROR_CONFIGURATION, "enough");
}

static void who_is_told_may_end_it(void **state) {
    (void)state;
    static const char xml[] = "<a><b/><c/><d/></a>";
    int calls = 0;
    assert_int_equal(s3_xml_read(xml, sizeof xml - 1, refuse, &calls, NULL), -ERROR_CONFIGURATION);
    assert_int_equal(calls, 2);
}

static void escaped_text_comes_back_as_it_was(void **state) {
    (void)state;
    static const char text[] = "\"a<b>&amp;'é\"";
    _cleanup_free_ char *escaped = s3_xml_escape(text), *xml = text_format("<a>%s</a>", escaped);
    _cleanup_free_ char *wanted = text_format("a=%s;", text), *seen = NULL;
    assert_int_equal(read_all(xml, &seen, NULL), 0);
    assert_string_equal(seen, wanted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_told_with_path_and_text_as_they_end),
        cmocka_unit_test(what_is_not_that_xml_is_refused_with_its_place),
        cmocka_unit_test(who_is_told_may_end_it),
        cmocka_unit_test(escaped_text_comes_back_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
