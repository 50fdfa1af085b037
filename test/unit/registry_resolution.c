/* What registries do with names and sizes that came from outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"

static const struct registry_context generous = {0};

static int add(struct registry_resolution *resolution, const char *path, struct error **ret_error) {
    return registry_resolution_add(&generous, resolution, path, 1, NULL, "identity", NULL, ret_error);
}

static void a_name_that_could_lead_elsewhere_is_refused(void **state) {
    (void)state;
    char longest[REGISTRY_PATH_MAXIMUM + 2], deepest[2 * REGISTRY_DEPTH_MAXIMUM + 4] = "a";
    memset(longest, 'x', sizeof longest - 1);
    for (size_t i = 100; i < sizeof longest; i += 100) longest[i] = '/';
    longest[sizeof longest - 1] = '\0';
    for (int i = 0; i <= REGISTRY_DEPTH_MAXIMUM; i++) strcat(deepest, "/a");
    char name[258];
    memset(name, 'n', sizeof name - 2);
    name[256] = '\0';
    const char *const bad[] = {"",   "/",     "/a",   ".",     "..",   "a/..",     "../a",  "a/../b", "./a", "a//b",
                               "a/", "a/./b", "a\nb", "a\x7f", "\xff", "\xc0\xaf", longest, deepest,  name,  "a/b/.."};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct registry_resolution resolution = {0};
        _cleanup_error_ struct error *error = NULL;
        if (add(&resolution, bad[i], &error) != -ERROR_CONFIGURATION) fail_msg("\"%s\" was taken", bad[i]);
        assert_null(resolution.files);
    }
    const char *const good[] = {"a", "...", ".a", "a..", "a/.b/..c", "\xc3\xa4", "a b", "a\\b", "a:b", deepest + 2};
    struct registry_resolution resolution = {0};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        if (add(&resolution, good[i], NULL)) fail_msg("\"%s\" was refused", good[i]);
    registry_resolution_clear(&resolution);
}

static void names_that_clash_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *names[4], *part; /* part NULL: they go together */
    } cases[] = {
        {{"a", "b", "a"}, "one name"},
        {{"a", "A"}, "case"},
        {{"A/x", "b", "a/y"}, "case"},
        {{"a/B/x", "a/b/x"}, "case"},
        {{"A", "a/x"}, "a file and a folder"},
        {{"a", "a-b", "a/b"}, "a file and a folder"},
        {{"a/b", "a/b/c"}, "a file and a folder"},
        {{"a/x", "a-b", "a.x", "aa"}, NULL},
        {{"a/b", "b/A", "ab/c", "c"}, NULL},
        {{"A/x", "A/y", "A/z/q"}, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct registry_resolution resolution = {0};
        _cleanup_error_ struct error *error = NULL;
        for (size_t n = 0; n < 4 && cases[i].names[n]; n++)
            assert_int_equal(add(&resolution, cases[i].names[n], NULL), 0);
        int result = registry_resolution_finish(&resolution, "the model", &error);
        _cleanup_free_ char *text = result < 0 ? error_text(error) : text_copy("");
        assert_int_equal(result, cases[i].part ? -ERROR_CONFIGURATION : 0);
        if (cases[i].part && !strstr(text, cases[i].part)) fail_msg("case %zu: %s", i, text);
        registry_resolution_clear(&resolution);
    }
}

static void files_are_sorted_and_have_one_fingerprint(void **state) {
    (void)state;
    struct registry_resolution one = {0}, two = {0}, three = {0};
    assert_int_equal(add(&one, "b", NULL) + add(&one, "a/c", NULL), 0);
    assert_int_equal(add(&two, "a/c", NULL) + add(&two, "b", NULL), 0);
    assert_int_equal(registry_resolution_add(&generous, &three, "a", 1, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(registry_resolution_finish(&one, "one", NULL), 0);
    assert_int_equal(registry_resolution_finish(&two, "two", NULL), 0);
    assert_int_equal(registry_resolution_finish(&three, "three", NULL), 0);
    assert_string_equal(one.files[0].path, "a/c");
    assert_string_equal(one.fingerprint, two.fingerprint);
    assert_null(three.fingerprint); /* nothing tells whether it is the same */
    registry_resolution_clear(&one);
    registry_resolution_clear(&two);
    registry_resolution_clear(&three);
}

static void ceilings_hold_for_files_and_bytes(void **state) {
    (void)state;
    struct registry_context context = {.file_maximum = 2, .size_maximum = 10};
    struct registry_resolution resolution = {0};
    assert_int_equal(registry_resolution_add(&context, &resolution, "a", 10, NULL, NULL, NULL, NULL), 0);
    assert_int_equal(registry_resolution_add(&context, &resolution, "b", 1, NULL, NULL, NULL, NULL),
                     -ERROR_CONFIGURATION);
    assert_int_equal(registry_resolution_add(&context, &resolution, "b", UINT64_MAX - 5, NULL, NULL, NULL, NULL),
                     -ERROR_CONFIGURATION);
    assert_int_equal(registry_resolution_add(&context, &resolution, "b", REGISTRY_SIZE_UNKNOWN, NULL, NULL, NULL, NULL),
                     0);
    assert_int_equal(resolution.size_bytes, 10);
    assert_int_equal(registry_resolution_add(&context, &resolution, "c", 0, NULL, NULL, NULL, NULL),
                     -ERROR_CONFIGURATION);
    registry_resolution_clear(&resolution);
    for (int i = 0; i <= REGISTRY_FILES_MAXIMUM; i++) {
        char path[16];
        snprintf(path, sizeof path, "%x", i);
        assert_int_equal(add(&resolution, path, NULL), i < REGISTRY_FILES_MAXIMUM ? 0 : -ERROR_CONFIGURATION);
    }
    assert_int_equal(registry_resolution_finish(&resolution, "it", NULL), 0);
    registry_resolution_clear(&resolution);
    assert_int_equal(registry_resolution_finish(&resolution, "nothing", NULL), -ERROR_MODEL_REGISTRY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_could_lead_elsewhere_is_refused),
        cmocka_unit_test(names_that_clash_are_refused),
        cmocka_unit_test(files_are_sorted_and_have_one_fingerprint),
        cmocka_unit_test(ceilings_hold_for_files_and_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
