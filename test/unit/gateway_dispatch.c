/* From method and path to the route of http/routes.def. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/gateway-internal.h"

static int open_dispatch(void **state) {
    *state = gateway_dispatch_new();
    return 0;
}

static int close_dispatch(void **state) {
    gateway_dispatch_free(*state);
    return 0;
}

static struct gateway_match find(void **state, const char *method, const char *path) {
    struct gateway_match match;
    gateway_dispatch_find(*state, method, path, &match);
    return match;
}

/* A path of the pattern's form: each {x} becomes p0, p1, … */
static void make_path(const char *pattern, char *ret_path) {
    int parameters = 0;
    while (*pattern) {
        if (*pattern == '{') {
            ret_path += sprintf(ret_path, "p%d", parameters++);
            pattern = strchr(pattern, '}') + 1;
        } else {
            *ret_path++ = *pattern++;
        }
    }
    *ret_path = 0;
}

static void each_route_of_the_table_is_found_by_its_method_with_its_parameters(void **state) {
    assert_true(gateway_endpoint_count > 40);
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        const struct gateway_endpoint *endpoint = &gateway_endpoints[i];
        char path[256], expected[24];
        make_path(endpoint->pattern, path);
        strcat(path, "?limit=3");
        struct gateway_match match = find(state, endpoint->method, path);
        assert_ptr_equal(match.endpoint, endpoint);
        for (size_t p = 0; p < match.parameter_count; p++) {
            sprintf(expected, "p%zu", p);
            assert_int_equal(match.parameters[p].size, strlen(expected));
            assert_memory_equal(match.parameters[p].bytes, expected, strlen(expected));
        }
        size_t braces = 0;
        for (const char *at = endpoint->pattern; *at; at++) braces += *at == '{';
        assert_int_equal(match.parameter_count, braces);
    }
}

static void a_path_that_no_route_has_matches_nothing(void **state) {
    const char *const paths[] = {"/",
                                 "",
                                 "x",
                                 "/v3",
                                 "/v2/",
                                 "/v2//models",
                                 "/v2/models",
                                 "/v2/models/",
                                 "/v2/models/m/infer/x",
                                 "/v1/deployments//",
                                 "//livez",
                                 "/livez//",
                                 "/v1/collections/c/documents/d/x",
                                 "/a/b/c/d/e/f/g/h/i/j",
                                 "/v2/models/m/versions",
                                 "/LIVEZ",
                                 "/%6civez",
                                 "/v1/deployments/../tasks/x/y"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct gateway_match match = find(state, "GET", paths[i]);
        if (!strcmp(paths[i], "/v2/")) {
            assert_string_equal(match.endpoint->name, "v2_server"); /* one slash at the end is passed over */
            continue;
        }
        assert_null(match.endpoint);
        assert_false(match.path_exists);
    }
}

static void another_method_is_told_from_another_path(void **state) {
    struct gateway_match match = find(state, "DELETE", "/v1/deployments");
    assert_null(match.endpoint);
    assert_true(match.path_exists);
    assert_true(find(state, "get", "/livez").path_exists); /* methods are case-sensitive */
    assert_null(find(state, "get", "/livez").endpoint);
}

static void allow_lists_what_a_path_can_be_asked_with(void **state) {
    static const struct {
        const char *path, *allow;
    } cases[] = {
        {"/livez", "GET, HEAD"},
        {"/v2/models/m/infer", "POST"},
        {"/v1/deployments", "POST, GET, HEAD"},
        {"/v1/deployments/x?y", "GET, HEAD, PUT, PATCH, DELETE"},
        {"/v1/collections/c/documents/d", "PUT, GET, HEAD, DELETE"},
        {"/nothing", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char allow[64];
        gateway_dispatch_allow(*state, cases[i].path, allow);
        assert_string_equal(allow, cases[i].allow);
    }
}

static void head_is_served_by_the_route_of_get(void **state) {
    assert_string_equal(find(state, "HEAD", "/readyz").endpoint->name, "readyz");
    assert_null(find(state, "HEAD", "/v2/models/m/infer").endpoint);
}

static void only_health_is_open_without_a_token(void **state) {
    (void)state;
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        const char *pattern = gateway_endpoints[i].pattern;
        bool is_open =
            !strcmp(pattern, "/livez") || !strcmp(pattern, "/readyz") || !strncmp(pattern, "/v2/health/", 11);
        assert_int_equal(gateway_endpoints[i].kind == GATEWAY_HEALTH, is_open);
    }
}

static void both_mounts_of_the_model_tasks_go_to_the_controller(void **state) {
    const char *const mounts[] = {"", "/api/v1/internal/inference-deployment"};
    const char *const paths[][2] = {{"POST", "/deploy"}, {"GET", "/deploy/t"}, {"GET", "/deploy-status/m"},
                                    {"POST", "/delete"}, {"GET", "/delete/t"}, {"GET", "/delete-status/m"}};
    for (size_t m = 0; m < 2; m++) {
        for (size_t p = 0; p < 6; p++) {
            char path[128];
            sprintf(path, "%s%s", mounts[m], paths[p][1]);
            struct gateway_match match = find(state, paths[p][0], path);
            assert_non_null(match.endpoint);
            assert_int_equal(match.endpoint->kind, GATEWAY_CONTROL);
        }
    }
}

/* ---- what stands in a request --------------------------------------------- */

static void the_model_is_found_wherever_it_stands_in_the_body(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "{\"model\":\"m-1\",\"input\":\"x\"}",
        " { \"input\" : [\"a\", \"}\\\"\", {\"model\": \"no\"}], \"n\": -1.5e3, \"t\" : true , \"model\" : \"m-1\" } ",
        "{\"input\":{\"model\":\"no\",\"a\":[[],[{}]]},\"model\":\"m\\u002d1\"}",
        "{\"s\":\"\\\\\",\"model\":\"m-1\"}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char model[GATEWAY_NAME_MAXIMUM + 1] = "";
        assert_true(gateway_find_model(bodies[i], strlen(bodies[i]), model));
        assert_string_equal(model, "m-1");
    }
}

static void a_body_without_a_model_names_none(void **state) {
    (void)state;
    char deep[2048], long_name[1024];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    memset(long_name, 'a', sizeof long_name - 1);
    memcpy(long_name, "{\"model\":\"", 10);
    memcpy(long_name + sizeof long_name - 3, "\"}", 3);
    const char *const bodies[] = {
        "",
        "{",
        "{}",
        "[]",
        "null",
        "\"model\"",
        "{\"model\":1}",
        "{\"model\":null}",
        "{\"model\":\"\"}",
        "{\"model\"",
        "{\"model\":\"a b\"}",
        "{\"model\":\"../x\"}",
        "{\"model\":\"x",
        "{\"model\":\"\\",
        "{\"input\":\"model\"}",
        "{\"input\":[\"model\",\"m\"]}",
        "{\"a\":1 \"model\":\"m\"}",
        "{\"Model\":\"m\"}",
        "{\"a\":[1,2,\"model\":\"m\"}",
        deep,
        long_name,
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char model[GATEWAY_NAME_MAXIMUM + 1];
        size_t size = strlen(bodies[i]);
        char *exact = test_malloc(size ? size : 1); /* so that a sanitizer sees one byte too many */
        memcpy(exact, bodies[i], size);
        assert_false(gateway_find_model(exact, size, model));
        test_free(exact);
    }
}

static void only_plain_request_ids_are_taken(void **state) {
    (void)state;
    char longest[130];
    memset(longest, 'a', 129);
    longest[129] = 0;
    assert_false(gateway_is_request_id(longest));
    longest[128] = 0;
    assert_true(gateway_is_request_id(longest));
    assert_true(gateway_is_request_id("a.B_9-z"));
    assert_false(gateway_is_request_id(""));
    assert_false(gateway_is_request_id("a b"));
    assert_false(gateway_is_request_id("a\"b"));
    assert_false(gateway_is_request_id("\xc3\xa4"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_route_of_the_table_is_found_by_its_method_with_its_parameters),
        cmocka_unit_test(a_path_that_no_route_has_matches_nothing),
        cmocka_unit_test(another_method_is_told_from_another_path),
        cmocka_unit_test(allow_lists_what_a_path_can_be_asked_with),
        cmocka_unit_test(head_is_served_by_the_route_of_get),
        cmocka_unit_test(only_health_is_open_without_a_token),
        cmocka_unit_test(both_mounts_of_the_model_tasks_go_to_the_controller),
        cmocka_unit_test(the_model_is_found_wherever_it_stands_in_the_body),
        cmocka_unit_test(a_body_without_a_model_names_none),
        cmocka_unit_test(only_plain_request_ids_are_taken),
    };
    return cmocka_run_group_tests(tests, open_dispatch, close_dispatch);
}
