#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"

static void a_file_uri_or_an_absolute_path_names_a_clean_path(void **state) {
    (void)state;
    static const struct {
        const char *uri, *path;
    } cases[] = {
        {"/models/minilm", "/models/minilm"},
        {"/models//minilm/", "/models/minilm"},
        {"/models/./x/../minilm/.", "/models/minilm"},
        {"/../..", "/"},
        {"/", "/"},
        {"/a/../../b", "/b"},
        {"/a%20b?#", "/a%20b?#"}, /* a bare path is not encoded */
        {"/...", "/..."},
        {"file:///models/minilm", "/models/minilm"},
        {"FILE:///m", "/m"},
        {"file:/m", "/m"},
        {"file://localhost/m", "/m"},
        {"file://LocalHost/m", "/m"},
        {"file:///a%20b%3f%23", "/a b?#"},
        {"file:///a/%2e%2e/b", "/b"},
        {"file:///a%2fb", "/a/b"},
        {"file:///%C3%A9", "/é"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *path = NULL;
        assert_int_equal(registry_file_parse(cases[i].uri, &path, NULL), 0);
        assert_string_equal(path, cases[i].path);
    }
}

static void what_names_no_path_is_refused_with_the_reason(void **state) {
    (void)state;
    static const struct {
        const char *uri, *reason;
    } cases[] = {
        {"", "relative"},
        {"models/minilm", "relative"},
        {"./m", "relative"},
        {"../m", "relative"},
        {"~/m", "relative"},
        {"file:", "relative"},
        {"file:m", "relative"},
        {"file://", "relative"},
        {"file://localhost", "relative"},
        {"file://server/m", "names the host server"},
        {"file://user@localhost/m", "names the host"},
        {"file://localhost:80/m", "names the host"},
        {"file:///m?x=1", "query or a fragment"},
        {"file:///m#x", "query or a fragment"},
        {"file:///m%", "percent escape"},
        {"file:///m%4", "percent escape"},
        {"file:///m%zz", "percent escape"},
        {"file:///m%00", "percent escape"},
        {"file:///m%0a", "control character"},
        {"file:///%ff", "not UTF-8"},
        {"/m\n", "control character"},
        {"/\xc0\x80", "not UTF-8"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_error_ struct error *error = NULL;
        char *path = NULL;
        assert_int_equal(registry_file_parse(cases[i].uri, &path, &error), -(int)ERROR_CONFIGURATION);
        assert_null(path);
        if (!strstr(error->message, cases[i].reason)) fail_msg("%s: %s", cases[i].uri, error->message);
    }
}

static void a_name_of_megabytes_is_refused_with_a_short_sentence(void **state) {
    (void)state;
    static const size_t sizes[] = {PATH_MAX, 10000000};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        _cleanup_error_ struct error *error = NULL;
        _cleanup_free_ char *uri = mem_zeroed(1, sizes[i] + 1);
        char *path = NULL;
        memset(uri, 'a', sizes[i]);
        *uri = '/';
        assert_int_equal(registry_file_parse(uri, &path, &error), -(int)ERROR_CONFIGURATION);
        assert_in_range(strlen(error->message), 1, 400);
    }
}

static void a_path_is_inside_a_root_only_at_a_slash(void **state) {
    (void)state;
    assert_string_equal(registry_path_inside("/a/b", "/a/b/c/d"), "c/d");
    assert_string_equal(registry_path_inside("/a/b", "/a/b"), "");
    assert_null(registry_path_inside("/a/b", "/a/bc"));
    assert_null(registry_path_inside("/a/b", "/a"));
    assert_string_equal(registry_path_inside("/", "/a"), "a");
    assert_string_equal(registry_path_inside("/", "/"), "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_uri_or_an_absolute_path_names_a_clean_path),
        cmocka_unit_test(what_names_no_path_is_refused_with_the_reason),
        cmocka_unit_test(a_name_of_megabytes_is_refused_with_a_short_sentence),
        cmocka_unit_test(a_path_is_inside_a_root_only_at_a_slash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
