/* Log lines in both forms: what is brought in from outside cannot forge a line, a field, or break the JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/json_escape.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

/* What a call of log_write() puts on stderr; caller frees. */
#define LINE_OF(...)                                                                                                   \
    ({                                                                                                                 \
        int kept_ = begin_capture();                                                                                   \
        log_write(__VA_ARGS__, NULL);                                                                                  \
        end_capture(kept_);                                                                                            \
    })

static int pipe_ends[2];

static int begin_capture(void) {
    int kept = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipe_ends), 0);
    dup2(pipe_ends[1], STDERR_FILENO);
    close(pipe_ends[1]);
    return kept;
}

static char *end_capture(int kept) {
    char *line = mem_alloc(65537);
    size_t size = 0;
    dup2(kept, STDERR_FILENO);
    close(kept);
    for (ssize_t got; (got = read(pipe_ends[0], line + size, 65536 - size)) > 0;) size += (size_t)got;
    close(pipe_ends[0]);
    line[size] = 0;
    return line;
}

/* The line as an object; it is exactly one line. */
static yyjson_doc *parse_line(const char *line) {
    size_t size = strlen(line);
    yyjson_doc *document = NULL;
    yyjson_val *root;
    assert_true(size && line[size - 1] == '\n');
    assert_ptr_equal(strchr(line, '\n'), line + size - 1);
    assert_int_equal(json_parse_object(line, size - 1, &document, &root, NULL), 0);
    return document;
}

static const char *field(yyjson_doc *document, const char *name) {
    return yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(document), name));
}

static void a_json_line_has_time_level_role_message_and_its_pairs(void **state) {
    (void)state;
    log_open_as("gateway", "info", "json");
    _cleanup_free_ char *line = LINE_OF(LOG_WARNING, "replica is up", "replica", "r-1", "cause", NULL, "pid", "7");
    _cleanup_json_ yyjson_doc *document = parse_line(line);
    assert_int_equal(strlen(field(document, "time")), 24);
    assert_string_equal(field(document, "level"), "warning");
    assert_string_equal(field(document, "role"), "gateway");
    assert_string_equal(field(document, "message"), "replica is up");
    assert_string_equal(field(document, "replica"), "r-1");
    assert_string_equal(field(document, "pid"), "7");
    assert_null(yyjson_obj_get(yyjson_doc_get_root(document), "cause"));
}

static void no_value_forges_a_line_or_a_field(void **state) {
    (void)state;
    static const char forged[] = "x\",\"level\":\"error\n{\"time\":\"now\"}\r\t\x01\x7f\\";
    log_open_as("runner", "info", "json");
    _cleanup_free_ char *line = LINE_OF(LOG_INFO, forged, "value", forged);
    _cleanup_json_ yyjson_doc *document = parse_line(line);
    assert_string_equal(field(document, "message"), forged);
    assert_string_equal(field(document, "value"), forged);
    assert_string_equal(field(document, "level"), "info");
    log_open_as("runner", "info", "text");
    _cleanup_free_ char *plain = LINE_OF(LOG_INFO, "m", "value", forged);
    assert_ptr_equal(strchr(plain, '\n'), plain + strlen(plain) - 1);
    assert_non_null(strstr(plain, "value=\"x\\\",\\\"level\\\":"));
}

static void what_is_not_utf8_is_replaced(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"a\xffz", "a\xef\xbf\xbdz"},
        {"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"}, /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* a surrogate */
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* beyond U+10FFFF */
        {"cut \xe2\x82", "cut \xef\xbf\xbd\xef\xbf\xbd"},
    };
    log_open_as("runner", "info", "json");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *line = LINE_OF(LOG_INFO, "m", "value", cases[i].bytes);
        _cleanup_json_ yyjson_doc *document = parse_line(line);
        assert_string_equal(field(document, "value"), cases[i].text);
    }
}

/* Lengths around the ceiling, with characters of one, two (escaped) and three bytes. */
static void a_line_that_is_too_long_is_cut_and_stays_whole(void **state) {
    (void)state;
    static const char *const fillings[] = {"x", "\"", "\xe2\x82\xac", "\x01"};
    log_open_as("runner", "info", "json");
    for (size_t filling = 0; filling < ARRAY_SIZE(fillings); filling++) {
        size_t step = strlen(fillings[filling]);
        for (size_t size = 16200; size < 16500; size += 7) {
            _cleanup_free_ char *value = mem_zeroed(1, size + 1);
            for (size_t at = 0; at + step <= size; at += step) memcpy(value + at, fillings[filling], step);
            _cleanup_free_ char *line = LINE_OF(LOG_INFO, "m", "value", value, "after", "it");
            _cleanup_json_ yyjson_doc *document = parse_line(line);
            assert_true(strlen(line) < 16384 + 64);
            assert_true(text_starts_with(value, field(document, "value")));
            yyjson_doc *of_message;
            _cleanup_free_ char *other = LINE_OF(LOG_INFO, value, "after", "it");
            of_message = parse_line(other);
            assert_true(text_starts_with(value, field(of_message, "message")));
            yyjson_doc_free(of_message);
        }
    }
    log_open_as("runner", "info", "text");
    _cleanup_free_ char *value = mem_zeroed(1, 20001);
    memset(value, 'x', 20000);
    _cleanup_free_ char *line = LINE_OF(LOG_INFO, "m", "value", value);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void lines_below_the_level_are_not_written(void **state) {
    (void)state;
    log_open_as("runner", "warning", "json");
    _cleanup_free_ char *line = LINE_OF(LOG_INFO, "m");
    assert_string_equal(line, "");
    enum log_format format;
    assert_true(log_parse_format("json", &format) && format == LOG_JSON);
    assert_true(log_parse_format("text", &format) && format == LOG_TEXT);
    assert_false(log_parse_format("yaml", &format));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_json_line_has_time_level_role_message_and_its_pairs),
        cmocka_unit_test(no_value_forges_a_line_or_a_field),
        cmocka_unit_test(what_is_not_utf8_is_replaced),
        cmocka_unit_test(a_line_that_is_too_long_is_cut_and_stays_whole),
        cmocka_unit_test(lines_below_the_level_are_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
