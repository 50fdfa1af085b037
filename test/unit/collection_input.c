/* What clients send: filters, documents, bulk items, lines (API "filter", "write", "bulk"). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "collection/collection.h"
#include "collection/documents.h"

static char *failure_text(int result, struct error *error) {
    char *text = result < 0 ? error_text(error) : text_copy("success");
    if (result < 0) assert_int_equal(result, -(int)ERROR_REQUEST);
    if (result < 0) assert_int_equal(error->class, ERROR_REQUEST);
    error_free(error);
    return text;
}

static void expect_failure(int result, struct error *error, const char *part) {
    _cleanup_free_ char *text = failure_text(result, error);
    if (!strstr(text, part)) fail_msg("\"%s\" is not in: %s", part, text);
}

/* ---- filters ---- */

static struct collection_filter *parse(const char *json) {
    _cleanup_json_ yyjson_doc *document = NULL;
    struct collection_filter *filter = NULL;
    struct error *error = NULL;
    assert_int_equal(json_parse(json, strlen(json), &document, NULL), 0);
    if (collection_filter_parse(yyjson_doc_get_root(document), &filter, &error) < 0)
        fail_msg("%s: %s", json, error_text(error));
    return filter;
}

static void a_filter_accepts_what_its_conditions_say(void **state) {
    (void)state;
    static const struct {
        const char *filter, *payload;
        bool accepts;
    } cases[] = {
        {"{}", "{}", true},
        {"{\"field\":\"lang\",\"eq\":\"de\"}", "{\"lang\":\"de\"}", true},
        {"{\"field\":\"lang\",\"eq\":\"de\"}", "{\"lang\":\"den\"}", false},
        {"{\"field\":\"lang\",\"eq\":\"de\"}", "{\"lang\":\"d\"}", false},
        {"{\"field\":\"lang\",\"eq\":\"de\"}", "{\"lang\":null}", false},
        {"{\"field\":\"lang\",\"eq\":\"de\"}", "{}", false},
        /* the API's example */
        {"{\"and\":[{\"field\":\"lang\",\"eq\":\"de\"},{\"field\":\"year\",\"gte\":2020,\"lt\":2025},"
         "{\"not\":{\"field\":\"tag\",\"in\":[\"x\",\"y\"]}}]}",
         "{\"lang\":\"de\",\"year\":2024,\"tag\":\"z\"}", true},
        {"{\"and\":[{\"field\":\"lang\",\"eq\":\"de\"},{\"field\":\"year\",\"gte\":2020,\"lt\":2025},"
         "{\"not\":{\"field\":\"tag\",\"in\":[\"x\",\"y\"]}}]}",
         "{\"lang\":\"de\",\"year\":2024,\"tag\":\"y\"}", false},
        {"{\"field\":\"year\",\"gte\":2020,\"lt\":2025}", "{\"year\":2025}", false},
        {"{\"field\":\"year\",\"gte\":2020,\"lt\":2025}", "{\"year\":2020}", true},
        {"{\"field\":\"year\",\"gte\":2020,\"lt\":2025}", "{\"year\":2019.999}", false},
        {"{\"or\":[{\"field\":\"a\",\"eq\":1},{\"field\":\"b\",\"eq\":1}]}", "{\"b\":1}", true},
        {"{\"or\":[{\"field\":\"a\",\"eq\":1},{\"field\":\"b\",\"eq\":1}]}", "{\"b\":2,\"a\":0}", false},
        {"{\"not\":{\"field\":\"a\",\"eq\":1}}", "{}", true},
        /* a value compares with its own kind */
        {"{\"field\":\"a\",\"eq\":1}", "{\"a\":\"1\"}", false},
        {"{\"field\":\"a\",\"eq\":1}", "{\"a\":true}", false},
        {"{\"field\":\"a\",\"eq\":true}", "{\"a\":1}", false},
        {"{\"field\":\"a\",\"eq\":true}", "{\"a\":true}", true},
        {"{\"field\":\"a\",\"eq\":1}", "{\"a\":1.0}", true},
        {"{\"field\":\"a\",\"lt\":\"b\"}", "{\"a\":5}", false},
        {"{\"field\":\"a\",\"gt\":\"b\"}", "{\"a\":\"ba\"}", true},
        {"{\"field\":\"a\",\"gt\":\"b\"}", "{\"a\":\"ä\"}", true}, /* by bytes */
        {"{\"field\":\"a\",\"lte\":\"b\"}", "{\"a\":\"b\"}", true},
        {"{\"field\":\"a\",\"eq\":\"\"}", "{\"a\":\"\"}", true},
        {"{\"field\":\"a\",\"eq\":\"x\\u0000y\"}", "{\"a\":\"x\\u0000y\"}", true},
        {"{\"field\":\"a\",\"eq\":\"x\\u0000y\"}", "{\"a\":\"x\"}", false},
        /* whole numbers are exact at any size */
        {"{\"field\":\"a\",\"gt\":9007199254740992}", "{\"a\":9007199254740993}", true},
        {"{\"field\":\"a\",\"eq\":18446744073709551615}", "{\"a\":18446744073709551614}", false},
        {"{\"field\":\"a\",\"lt\":0}", "{\"a\":-9223372036854775808}", true},
        {"{\"field\":\"a\",\"gt\":-1}", "{\"a\":18446744073709551615}", true},
        /* paths and lists */
        {"{\"field\":\"a.b.c\",\"eq\":1}", "{\"a\":{\"b\":{\"c\":1}}}", true},
        {"{\"field\":\"a.b\",\"eq\":1}", "{\"a\":1}", false},
        {"{\"field\":\"a.b\",\"eq\":1}", "{\"a\":[{\"b\":2},{\"b\":1}]}", true},
        {"{\"field\":\"tags\",\"eq\":\"y\"}", "{\"tags\":[\"x\",\"y\"]}", true},
        {"{\"field\":\"tags\",\"in\":[\"q\",\"y\"]}", "{\"tags\":[\"x\",\"y\"]}", true},
        {"{\"field\":\"tags\",\"in\":[]}", "{\"tags\":[\"x\"]}", false},
        {"{\"field\":\"year\",\"gte\":2020,\"lt\":2025}", "{\"year\":[2019,2026]}", false}, /* none lies between */
        {"{\"field\":\"year\",\"gte\":2020,\"lt\":2025}", "{\"year\":[2019,2021]}", true},
        {"{\"field\":\"a\",\"in\":[1,\"x\",true]}", "{\"a\":true}", true},
        {"{\"field\":\"a\",\"exists\":true}", "{\"a\":0}", true},
        {"{\"field\":\"a\",\"exists\":true}", "{\"a\":[]}", true},
        {"{\"field\":\"a\",\"exists\":true}", "{\"a\":{}}", true},
        {"{\"field\":\"a\",\"exists\":true}", "{\"a\":null}", false},
        {"{\"field\":\"a.b\",\"exists\":false}", "{\"a\":{\"c\":1}}", true},
        {"{\"field\":\"a\",\"exists\":false}", "{\"a\":false}", false},
        {"{\"field\":\"a\",\"exists\":true,\"gt\":3}", "{\"a\":4}", true},
        {"{\"field\":\"a\",\"exists\":true,\"gt\":3}", "{\"a\":2}", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct collection_filter *filter = parse(cases[i].filter);
        if (collection_filter_accepts(filter, cases[i].payload) != cases[i].accepts)
            fail_msg("%s of %s is not %d", cases[i].filter, cases[i].payload, cases[i].accepts);
        collection_filter_free(filter);
    }
}

/* `levels` of {"not":…} around a condition. */
static char *nested(int levels) {
    char *text = text_copy("{\"field\":\"a\",\"eq\":1}");
    while (levels--) {
        char *outer = text_format("{\"not\":%s}", text);
        free(text);
        text = outer;
    }
    return text;
}

static char *many(size_t count) {
    struct buffer text = {0};
    buffer_append_text(&text, "{\"and\":[");
    for (size_t i = 0; i < count; i++)
        buffer_append_text(&text, i ? ",{\"field\":\"a\",\"eq\":1}" : "{\"field\":\"a\",\"eq\":1}");
    buffer_append_text(&text, "]}");
    return buffer_take(&text, NULL);
}

static void expect_refused_filter(const char *json, const char *part) {
    _cleanup_json_ yyjson_doc *document = NULL;
    struct collection_filter *filter = NULL;
    struct error *error = NULL;
    assert_int_equal(json_parse(json, strlen(json), &document, NULL), 0);
    int result = collection_filter_parse(yyjson_doc_get_root(document), &filter, &error);
    expect_failure(result, error, part);
    assert_null(filter);
}

static void a_filter_that_is_none_is_refused_with_its_place(void **state) {
    (void)state;
    static const struct {
        const char *filter, *part;
    } cases[] = {
        {"[]", "filter must be an object"},
        {"{\"fields\":\"a\"}", "filter must have one of and, or, not, field"},
        {"{\"and\":[]}", "filter.and must be a list of at least one"},
        {"{\"and\":{}}", "filter.and must be a list"},
        {"{\"and\":[{\"field\":\"a\",\"eq\":1},{\"or\":[{\"field\":\"b\",\"near\":1}]}]}",
         "filter.and[1].or[0].near is unknown"},
        {"{\"and\":[{\"field\":\"a\",\"eq\":1}],\"or\":[{\"field\":\"a\",\"eq\":1}]}",
         "filter has other fields beside"},
        {"{\"not\":{}}", "filter.not must have one of"},
        {"{\"not\":[{\"field\":\"a\",\"eq\":1}]}", "filter.not must be an object"},
        {"{\"and\":[{\"field\":\"a\",\"eq\":1},1,{\"field\":2}]}", "filter.and[1] must be an object"},
        {"{\"and\":[{\"field\":2,\"eq\":1}]}", "filter.and[0].field must be the name"},
        {"{\"field\":\"\",\"eq\":1}", "filter.field must be the name"},
        {"{\"field\":\"a..b\",\"eq\":1}", "filter.field must be the name"},
        {"{\"field\":\".a\",\"eq\":1}", "filter.field must be the name"},
        {"{\"field\":\"a.\",\"eq\":1}", "filter.field must be the name"},
        {"{\"field\":\"a\"}", "filter compares field with nothing"},
        {"{\"field\":\"a\",\"eq\":null}", "filter.eq must be a string, a number, true or false"},
        {"{\"field\":\"a\",\"eq\":[1]}", "filter.eq must be a string"},
        {"{\"field\":\"a\",\"gt\":true}", "filter.gt must be a string or a number"},
        {"{\"field\":\"a\",\"in\":1}", "filter.in must be a list"},
        {"{\"field\":\"a\",\"in\":[1,{}]}", "filter.in[1] must be a string"},
        {"{\"field\":\"a\",\"exists\":1}", "filter.exists must be true or false"},
        {"{\"field\":\"a\",\"eq\\u0000b\":1,\"eq\\u0000c\":1,\"eq\\u0000d\":1,\"eq\\u0000e\":1,\"eq\\u0000f\":1,"
         "\"eq\\u0000g\":1,\"eq\\u0000h\":1,\"eq\\u0000i\":1}",
         "stands twice"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) expect_refused_filter(cases[i].filter, cases[i].part);
}

static void a_filter_has_a_ceiling_of_levels_and_of_conditions(void **state) {
    (void)state;
    _cleanup_free_ char *deepest = nested(15), *too_deep = nested(16), *most = many(256), *too_many = many(257);
    collection_filter_free(parse(deepest));
    collection_filter_free(parse(most));
    expect_refused_filter(too_deep, "deeper than 16 levels");
    expect_refused_filter(too_many, "more than 256 conditions");
    _cleanup_free_ char *half = many(129), *twice = text_format("{\"or\":[%s,%s]}", half, half);
    expect_refused_filter(twice, "one condition too many");
}

/* ---- documents ---- */

static void a_document_is_text_and_payload(void **state) {
    (void)state;
    _cleanup_collection_document_ struct collection_document document = {0};
    const char *body = "{ \"text\": \"a \\u00e4 \", \"payload\": { \"n\" : [ 1, 2.5 ] } }";
    assert_int_equal(collection_parse_document(body, strlen(body), 1024, &document, NULL), 0);
    assert_null(document.id);
    assert_string_equal(document.text, "a ä ");
    assert_string_equal(document.payload_json, "{\"n\":[1,2.5]}");
}

static void a_payload_that_is_left_out_is_an_empty_one(void **state) {
    (void)state;
    static const char *const bodies[] = {"{\"text\":\"a\"}", "{\"text\":\"a\",\"payload\":null}"};
    for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
        _cleanup_collection_document_ struct collection_document document = {0};
        assert_int_equal(collection_parse_document(bodies[i], strlen(bodies[i]), 1024, &document, NULL), 0);
        assert_string_equal(document.payload_json, "{}");
    }
}

static void a_document_that_is_none_is_refused_with_the_reason(void **state) {
    (void)state;
    static const struct {
        const char *body, *part;
    } cases[] = {
        {"", "malformed"},
        {"[]", "object is expected"},
        {"{\"text\":\"a\"", "malformed"},
        {"{}", "text is missing"},
        {"{\"text\":null}", "text is missing"},
        {"{\"text\":1}", "text must be a string"},
        {"{\"text\":\"\"}", "text is empty"},
        {"{\"text\":\" \\t\\n\\u00a0\\u2003\\u3000\"}", "text is empty"},
        {"{\"text\":\"a\\u0000b\"}", "NUL"},
        {"{\"text\":\"a\",\"text\":\"b\"}", "twice"},
        {"{\"text\":\"a\",\"payload\":[]}", "payload must be an object"},
        {"{\"text\":\"a\",\"payload\":\"x\"}", "payload must be an object"},
        {"{\"text\":\"a\",\"payloads\":{}}", "unknown field payloads (did you mean payload?)"},
        {"{\"text\":\"a\",\"id\":\"x\"}", "unknown field id"},
        {"{\"text\":\"\xff\"}", "malformed"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct collection_document document = {0};
        struct error *error = NULL;
        int result = collection_parse_document(cases[i].body, strlen(cases[i].body), 1024, &document, &error);
        expect_failure(result, error, cases[i].part);
        assert_null(document.text);
    }
}

static void text_and_payload_have_one_ceiling(void **state) {
    (void)state;
    struct error *error = NULL;
    struct collection_document document = {0};
    const char *body = "{\"text\":\"12345\",\"payload\":{   \"a\":1}}"; /* 5 and 7 */
    assert_int_equal(collection_parse_document(body, strlen(body), 12, &document, NULL), 0);
    collection_document_clear(&document);
    int result = collection_parse_document(body, strlen(body), 11, &document, &error);
    assert_int_equal(error->http_status, 413);
    expect_failure(result, error, "have 12 bytes, and at most 11");
    assert_null(document.text);
}

static void a_payload_has_a_ceiling_of_levels(void **state) {
    (void)state;
    struct buffer text = {0};
    struct error *error = NULL;
    struct collection_document document = {0};
    buffer_append_text(&text, "{\"text\":\"a\",\"payload\":{\"a\":");
    for (int i = 0; i < 70; i++) buffer_append_text(&text, "[");
    for (int i = 0; i < 70; i++) buffer_append_text(&text, "]");
    buffer_append_text(&text, "}}");
    int result = collection_parse_document(text.bytes, text.size, 1024, &document, &error);
    expect_failure(result, error, "deeper than 64");
    buffer_clear(&text);
}

static void a_bulk_item_writes_or_deletes(void **state) {
    (void)state;
    struct collection_document document;
    const char *write = "{\"id\":\"a/b\",\"text\":\"t\",\"payload\":{\"x\":true},\"delete\":false}";
    assert_int_equal(collection_parse_item(write, strlen(write), 100, &document, NULL), 0);
    assert_string_equal(document.id, "a/b");
    assert_string_equal(document.text, "t");
    assert_string_equal(document.payload_json, "{\"x\":true}");
    collection_document_clear(&document);
    const char *delete = "{\"id\":\"a/b\",\"delete\":true}";
    assert_int_equal(collection_parse_item(delete, strlen(delete), 100, &document, NULL), 0);
    assert_null(document.text);
    assert_null(document.payload_json);
    collection_document_clear(&document);
}

static void a_bad_bulk_item_tells_its_id_where_it_has_one(void **state) {
    (void)state;
    char long_id[600];
    snprintf(long_id, sizeof long_id, "{\"id\":\"%0513d\",\"text\":\"a\"}", 0);
    const struct {
        const char *item, *part, *id;
    } cases[] = {
        {"3", "must be an object", NULL},
        {"{\"text\":\"a\"}", "id is missing", NULL},
        {"{\"id\":7,\"text\":\"a\"}", "id must be a string", NULL},
        {"{\"id\":\"\",\"text\":\"a\"}", "id is empty", NULL},
        {"{\"id\":\"a\\u0000\",\"text\":\"a\"}", "NUL", NULL},
        {long_id, "513 bytes", NULL},
        {"{\"id\":\"a\"}", "text is missing", "a"},
        {"{\"id\":\"a\",\"text\":\" \"}", "text is empty", "a"},
        {"{\"id\":\"a\",\"delete\":true,\"text\":\"b\"}", "neither text nor payload", "a"},
        {"{\"id\":\"a\",\"delete\":\"yes\"}", "delete must be true or false", "a"},
        {"{\"id\":\"a\",\"txt\":\"b\"}", "unknown field txt", "a"},
        {"{\"id\":\"a\",\"text\":\"123456\"}", "at most 7", "a"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct collection_document document;
        struct error *error = NULL;
        int result = collection_parse_item(cases[i].item, strlen(cases[i].item), 7, &document, &error);
        expect_failure(result, error, cases[i].part);
        if (!text_equal(document.id, cases[i].id)) fail_msg("%s: id %s", cases[i].item, document.id);
        collection_document_clear(&document);
    }
}

/* ---- lines ---- */

/* What the lines of `text` are, fed `piece` bytes at a time: "number:line|", "number:!|" for one that is too long. */
static char *cut(const char *text, size_t piece, size_t maximum) {
    _cleanup_collection_lines_ struct collection_lines lines = {.maximum = maximum};
    struct buffer out = {0};
    size_t size = strlen(text);
    for (size_t at = 0; at <= size; at += piece) {
        size_t left = size - at, part = left < piece ? left : piece;
        char *copy = mem_copy(text + at, part); /* so that reading beyond it shows */
        collection_lines_feed(&lines, copy, part, at + part == size);
        struct collection_line line;
        while (collection_lines_next(&lines, &line)) {
            buffer_append_format(&out, "%d:", (int)line.number);
            if (line.too_long)
                buffer_append_text(&out, "!");
            else
                buffer_append(&out, line.bytes, line.size);
            buffer_append_text(&out, "|");
        }
        free(copy);
        if (at + part == size) break;
    }
    return buffer_take(&out, NULL);
}

static void lines_are_the_same_however_they_come(void **state) {
    (void)state;
    static const struct {
        const char *text, *lines;
    } cases[] = {
        {"", ""},
        {"a", "1:a|"},
        {"a\n", "1:a|"},
        {"a\nbc", "1:a|2:bc|"},
        {"a\r\n\r\n \t\n\nbcd\r\ne\r", "1:a|5:bcd|6:e|"},
        {"\n\n", ""},
        {"12345678\n123456789\nx\n123456789", "1:12345678|2:!|3:x|4:!|"},
        {"123456789abcdefghijklmnop\n\n12345678", "1:!|3:12345678|"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        for (size_t piece = 1; piece <= strlen(cases[i].text) + 1; piece++) {
            _cleanup_free_ char *lines = cut(cases[i].text, piece, 8);
            if (strcmp(lines, cases[i].lines)) fail_msg("case %zu by %zu: %s", i, piece, lines);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_accepts_what_its_conditions_say),
        cmocka_unit_test(a_filter_that_is_none_is_refused_with_its_place),
        cmocka_unit_test(a_filter_has_a_ceiling_of_levels_and_of_conditions),
        cmocka_unit_test(a_document_is_text_and_payload),
        cmocka_unit_test(a_payload_that_is_left_out_is_an_empty_one),
        cmocka_unit_test(a_document_that_is_none_is_refused_with_the_reason),
        cmocka_unit_test(text_and_payload_have_one_ceiling),
        cmocka_unit_test(a_payload_has_a_ceiling_of_levels),
        cmocka_unit_test(a_bulk_item_writes_or_deletes),
        cmocka_unit_test(a_bad_bulk_item_tells_its_id_where_it_has_one),
        cmocka_unit_test(lines_are_the_same_however_they_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
