/* The strictness of what we read from outside, and the errors that it gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"

static void assert_malformed(const char *json, size_t size) {
    _cleanup_json_ yyjson_doc *document = NULL;
    _cleanup_error_ struct error *error = NULL;
    assert_true(json_parse(json, size, &document, &error) < 0);
    assert_null(document);
    assert_int_equal(error->class, ERROR_CONFIGURATION);
}

static void malformed_json_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",           "{",       "{\"a\":}",         "[1,]",
                                      "{\"a\":1,}", "NaN",     "{\"a\":Infinity}", "\"\xff\"",
                                      "{\"a\":1}x", "{'a':1}", "// c\n1",          "\"\\ud800\""};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) assert_malformed(bad[i], strlen(bad[i]));
    assert_malformed("\0", 1);
}

static void a_key_that_stands_twice_is_refused(void **state) {
    (void)state;
    assert_malformed("{\"a\":1,\"b\":{\"c\":1,\"c\":2}}", 25);
}

static void nesting_has_a_ceiling(void **state) {
    (void)state;
    char deep[200001];
    memset(deep, '[', 100000);
    memset(deep + 100000, ']', 100000);
    assert_malformed(deep, 200000);
    _cleanup_json_ yyjson_doc *document = NULL;
    assert_int_equal(json_parse(deep + 100000 - JSON_MAXIMUM_DEPTH, 2 * JSON_MAXIMUM_DEPTH, &document, NULL), 0);
}

static void the_canonical_form_does_not_depend_on_order(void **state) {
    (void)state;
    static const char *const forms[] = {"{\"b\":[1,{\"y\":2,\"x\":1}],\"a\":\"q\"}",
                                        " { \"a\" : \"q\", \"b\":[1,{\"x\":1,\"y\":2}] }"};
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        _cleanup_json_ yyjson_doc *document = NULL;
        assert_int_equal(json_parse(forms[i], strlen(forms[i]), &document, NULL), 0);
        _cleanup_free_ char *canonical = json_write_canonical(yyjson_doc_get_root(document));
        assert_string_equal(canonical, "{\"a\":\"q\",\"b\":[1,{\"x\":1,\"y\":2}]}");
    }
}

static void an_error_keeps_its_causes_through_the_store(void **state) {
    (void)state;
    _cleanup_error_ struct error *error = NULL;
    error_set(&error, ERROR_MODEL_REGISTRY, "403 from the server");
    error_wrap(&error, "fetch %s", "s3://b/m");
    error_wrap(&error, "deploy minilm");
    _cleanup_free_ char *json = json_from_error(error);
    struct error *again = json_to_error(json);
    _cleanup_free_ char *text = error_text(again);
    assert_string_equal(text, "deploy minilm: fetch s3://b/m: 403 from the server");
    assert_int_equal(again->class, ERROR_MODEL_REGISTRY);
    assert_non_null(strstr(json, "\"causes\":[\"deploy minilm\",\"fetch s3://b/m\",\"403 from the server\"]"));
    error_free(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_json_is_refused),
        cmocka_unit_test(a_key_that_stands_twice_is_refused),
        cmocka_unit_test(nesting_has_a_ceiling),
        cmocka_unit_test(the_canonical_form_does_not_depend_on_order),
        cmocka_unit_test(an_error_keeps_its_causes_through_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
