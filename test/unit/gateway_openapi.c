/* /openapi.json is made of tables: each route has its rows, and nothing in them leads nowhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "gateway/gateway_openapi-internal.h"

static int make(void **state) {
    size_t size;
    char *json = openapi_write("", &size);
    *state = yyjson_read(json, size, 0);
    free(json);
    return *state ? 0 : -1;
}

static int release(void **state) {
    yyjson_doc_free(*state);
    return 0;
}

static yyjson_val *root_of(void **state) {
    return yyjson_doc_get_root(*state);
}

static yyjson_val *operation_of(void **state, const struct gateway_endpoint *endpoint) {
    char method[16] = "";
    for (size_t i = 0; endpoint->method[i]; i++) method[i] = (char)(endpoint->method[i] | 0x20);
    yyjson_val *path = yyjson_obj_get(yyjson_obj_get(root_of(state), "paths"), endpoint->pattern);
    return yyjson_obj_get(path, method);
}

static void every_route_is_described(void **state) {
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        if (!openapi_has_operation(gateway_endpoints[i].name))
            fail_msg("the route %s has no rows in gateway/openapi_operations.def", gateway_endpoints[i].name);
        yyjson_val *operation = operation_of(state, &gateway_endpoints[i]);
        assert_string_equal(yyjson_get_str(yyjson_obj_get(operation, "summary")), gateway_endpoints[i].summary);
    }
}

static bool has_success(yyjson_val *responses) {
    size_t index, count;
    yyjson_val *key, *value;
    yyjson_obj_foreach(responses, index, count, key, value)
        if (yyjson_get_str(key)[0] == '2') return true;
    return false;
}

static void every_operation_says_how_it_succeeds_and_how_it_fails(void **state) {
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        yyjson_val *responses = yyjson_obj_get(operation_of(state, &gateway_endpoints[i]), "responses");
        if (!has_success(responses)) fail_msg("%s never succeeds", gateway_endpoints[i].name);
        assert_non_null(yyjson_obj_get(responses, "400"));
        if (gateway_endpoints[i].role != ROLE_ANYONE) assert_non_null(yyjson_obj_get(responses, "401"));
        if (strchr(gateway_endpoints[i].pattern, '{')) assert_non_null(yyjson_obj_get(responses, "404"));
    }
}

static void every_part_of_a_path_is_a_parameter(void **state) {
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        size_t braces = 0, found = 0, index, count;
        yyjson_val *parameter, *operation = operation_of(state, &gateway_endpoints[i]);
        for (const char *at = gateway_endpoints[i].pattern; *at; at++) braces += *at == '{';
        yyjson_arr_foreach(yyjson_obj_get(operation, "parameters"), index, count, parameter)
            found += !strcmp(yyjson_get_str(yyjson_obj_get(parameter, "in")), "path");
        if (found != braces) fail_msg("%s: a part of the path has no PARAMETER row", gateway_endpoints[i].pattern);
    }
}

static void each_role_is_told(void **state) {
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        yyjson_val *security = yyjson_obj_get(operation_of(state, &gateway_endpoints[i]), "security");
        yyjson_val *roles = yyjson_obj_get(yyjson_arr_get_first(security), "token");
        enum gateway_role role = gateway_endpoints[i].role;
        assert_int_equal(yyjson_arr_size(security), role != ROLE_ANYONE);
        assert_int_equal(yyjson_arr_size(roles), role != ROLE_ANYONE && role != ROLE_MEMBER);
    }
}

/* ---- references ------------------------------------------------------------- */

static size_t check_references(yyjson_val *root, yyjson_val *value) {
    size_t index, count, found = 0;
    yyjson_val *key, *item;
    if (yyjson_is_arr(value)) {
        yyjson_arr_foreach(value, index, count, item) found += check_references(root, item);
    } else if (yyjson_is_obj(value)) {
        yyjson_obj_foreach(value, index, count, key, item) {
            found += check_references(root, item);
            if (strcmp(yyjson_get_str(key), "$ref")) continue;
            const char *pointer = yyjson_get_str(item);
            assert_int_equal(pointer[0], '#');
            if (!yyjson_ptr_getn(root, pointer + 1, strlen(pointer + 1))) fail_msg("%s leads nowhere", pointer);
            found++;
        }
    }
    return found;
}

static void every_reference_leads_somewhere(void **state) {
    assert_true(check_references(root_of(state), root_of(state)) > 100);
}

/* A row whose JSON is malformed would be left out without a word. */
static size_t count_nulls(yyjson_val *value) {
    size_t index, count, found = yyjson_is_null(value);
    yyjson_val *key, *item;
    yyjson_arr_foreach(value, index, count, item) found += count_nulls(item);
    if (yyjson_is_obj(value)) {
        yyjson_obj_foreach(value, index, count, key, item) {
            assert_non_null(item);
            if (strcmp(yyjson_get_str(key), "enum")) found += count_nulls(item);
        }
    }
    return found;
}

static void no_schema_is_lost(void **state) {
    yyjson_val *schemas = yyjson_ptr_get(root_of(state), "/components/schemas"), *key, *schema;
    size_t index, count;
    yyjson_obj_foreach(schemas, index, count, key, schema) {
        assert_true(openapi_has_schema(yyjson_get_str(key)));
        assert_true(yyjson_obj_size(schema) > 0);
        assert_int_equal(count_nulls(schema), 0);
        if (yyjson_obj_get(schemas, yyjson_get_str(key)) != schema) fail_msg("%s is there twice", yyjson_get_str(key));
    }
    assert_false(openapi_has_schema("Nothing"));
}

static void what_a_request_may_leave_out_may_be_null(void **state) {
    yyjson_val *root = root_of(state);
    yyjson_val *types = yyjson_ptr_get(root, "/components/schemas/DeploymentPatch/properties/replicas/type");
    assert_string_equal(yyjson_get_str(yyjson_arr_get(types, 0)), "integer");
    assert_string_equal(yyjson_get_str(yyjson_arr_get(types, 1)), "null");
    assert_true(yyjson_is_false(yyjson_ptr_get(root, "/components/schemas/DeploymentPatch/additionalProperties")));
    assert_null(yyjson_ptr_get(root, "/components/schemas/EmbeddingsRequest/additionalProperties"));
    assert_true(yyjson_is_str(yyjson_ptr_get(root, "/components/schemas/Task/properties/detail/type")));
}

static void the_public_address_is_its_server(void **state) {
    (void)state;
    size_t size;
    _cleanup_free_ char *json = openapi_write("https://models.example", &size);
    _cleanup_json_ yyjson_doc *document = yyjson_read(json, size, 0);
    yyjson_val *url = yyjson_ptr_get(yyjson_doc_get_root(document), "/servers/0/url");
    assert_string_equal(yyjson_get_str(url), "https://models.example");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_route_is_described, make, release),
        cmocka_unit_test_setup_teardown(every_operation_says_how_it_succeeds_and_how_it_fails, make, release),
        cmocka_unit_test_setup_teardown(every_part_of_a_path_is_a_parameter, make, release),
        cmocka_unit_test_setup_teardown(each_role_is_told, make, release),
        cmocka_unit_test_setup_teardown(every_reference_leads_somewhere, make, release),
        cmocka_unit_test_setup_teardown(no_schema_is_lost, make, release),
        cmocka_unit_test_setup_teardown(what_a_request_may_leave_out_may_be_null, make, release),
        cmocka_unit_test(the_public_address_is_its_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
