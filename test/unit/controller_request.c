/* What a DeploymentRequest may say: every bad one is a CONFIGURATION error that names the field, and changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/request.h"

static const char *const roots[] = {"/models"};
static const struct registry_context registry = {.roots = roots, .root_count = 1};

static int parse(const char *json, enum request_form form, struct deployment_request *ret_request, char **ret_message) {
    _cleanup_json_ yyjson_doc *document = NULL;
    _cleanup_error_ struct error *error = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(json, strlen(json), &document, &root, &error);
    if (result >= 0) result = request_parse(root, "", form, &registry, ret_request, &error);
    *ret_message = error ? error_text(error) : NULL;
    if (error) assert_int_equal(error->class, ERROR_CONFIGURATION);
    return result;
}

static void assert_refused(const char *json, const char *words) {
    struct deployment_request request = {0};
    _cleanup_free_ char *message = NULL;
    assert_true(parse(json, REQUEST_WHOLE, &request, &message) < 0);
    assert_null(request.name);
    if (!strstr(message, words)) fail_msg("\"%s\" does not say \"%s\"", message, words);
}

#define TARGET "\"deployment_target_config\":{\"type\":\"api_service\"}"
#define WHOLE "\"deployment_name\":\"m\",\"model_uri\":\"/models/m\"," TARGET

static void a_whole_request_is_read(void **state) {
    (void)state;
    _cleanup_request_ struct deployment_request request = {0};
    _cleanup_free_ char *message = NULL;
    assert_int_equal(
        parse("{\"deployment_name\":\"minilm-v1.2_x\",\"model_uri\":\"/models/m\","
              "\"deployment_target_config\":{\"type\":\"api_service\",\"replicas\":3,\"strategy\":\"recreate\","
              "\"port\":8080,\"env\":{\"A\":\"b\"}},"
              "\"resource_allocation\":{\"cpu\":1.5,\"memory\":\"2Gi\",\"gpu\":1},\"tags\":{\"a\":[1]},"
              "\"recipe\":{\"pooling\":\"cls\"}}",
              REQUEST_WHOLE, &request, &message),
        0);
    assert_string_equal(request.name, "minilm-v1.2_x");
    assert_int_equal(request.replicas, 3);
    assert_true(request.memory_bytes == 2147483648);
    assert_true(request.cpu == 1.5);
    assert_string_equal(request.tags_json, "{\"a\":[1]}");
    assert_string_equal(request.recipe_json, "{\"pooling\":\"cls\"}");
}

static void missing_fields_are_named(void **state) {
    (void)state;
    assert_refused("{}", "deployment_name");
    assert_refused("{\"deployment_name\":\"m\"}", "model_uri");
    assert_refused("{\"deployment_name\":\"m\",\"model_uri\":\"/models/m\"}", "deployment_target_config");
    assert_refused("{\"deployment_name\":\"m\",\"model_uri\":\"/models/m\",\"deployment_target_config\":{}}",
                   "deployment_target_config.type");
}

static void unknown_fields_are_named_with_the_nearest_known_one(void **state) {
    (void)state;
    assert_refused("{" WHOLE ",\"tag\":{}}", "unknown field tag (did you mean tags?)");
    assert_refused("{\"deployment_name\":\"m\",\"model_uri\":\"/models/m\",\"deployment_target_config\":"
                   "{\"type\":\"api_service\",\"replica\":1}}",
                   "deployment_target_config.replica");
    assert_refused("{" WHOLE ",\"resource_allocation\":{\"mem\":1}}", "resource_allocation.mem");
}

static void names_that_no_route_can_carry_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"",    "../m",    "a/b",       "-a", ".a",
                                        "a b", "\\u0000", "a\\u0000b", "ä",  "123e4567-e89b-12d3-a456-426614174000"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        _cleanup_free_ char *json =
            text_format("{\"deployment_name\":\"%s\",\"model_uri\":\"/models/m\"," TARGET "}", names[i]);
        assert_refused(json, "deployment_name");
    }
    char *json = mem_alloc(10 * 1024 * 1024 + 200);
    char *at = stpcpy(json, "{\"deployment_name\":\"");
    memset(at, 'a', 10 * 1024 * 1024);
    strcpy(at + 10 * 1024 * 1024, "\",\"model_uri\":\"/models/m\"," TARGET "}");
    assert_refused(json, "at most 128 characters");
    free(json);
}

static void wrong_types_and_bounds_are_named(void **state) {
    (void)state;
    assert_refused("{\"deployment_name\":7,\"model_uri\":\"/models/m\"," TARGET "}",
                   "deployment_name must be a string");
    assert_refused("{" WHOLE ",\"tags\":[]}", "tags must be an object");
    assert_refused("{" WHOLE ",\"resource_allocation\":{\"memory\":\"lots\"}}", "resource_allocation.memory");
    assert_refused("{" WHOLE ",\"resource_allocation\":{\"memory\":-1}}", "resource_allocation.memory");
    assert_refused("{" WHOLE ",\"resource_allocation\":{\"cpu\":-1}}", "resource_allocation.cpu");
    assert_refused("{\"deployment_name\":\"m\",\"model_uri\":\"/models/m\",\"deployment_target_config\":"
                   "{\"type\":\"api_service\",\"replicas\":0}}",
                   "replicas must be a whole number from 1");
    assert_refused("{\"deployment_name\":\"m\",\"model_uri\":\"/models/m\",\"deployment_target_config\":"
                   "{\"type\":\"api_service\",\"env\":{\"A\":1}}}",
                   "env.A must be a string");
}

static void targets_that_this_build_lacks_are_named_with_those_it_has(void **state) {
    (void)state;
    assert_refused("{\"deployment_name\":\"m\",\"model_uri\":\"/models/m\",\"deployment_target_config\":"
                   "{\"type\":\"lambda\"}}",
                   "must be api_service or batch_inference_job");
    assert_refused("{\"deployment_name\":\"m\",\"model_uri\":\"/models/m\",\"deployment_target_config\":"
                   "{\"type\":\"api_service\",\"target\":\"kubernetes\"}}",
                   "local");
}

static void a_uri_outside_the_roots_is_refused(void **state) {
    (void)state;
    static const char *const uris[] = {"/etc", "file:///etc/passwd", "/models/../etc", "s3://bucket/m", "models/m", ""};
    for (size_t i = 0; i < ARRAY_SIZE(uris); i++) {
        _cleanup_free_ char *json = text_format("{\"deployment_name\":\"m\",\"model_uri\":\"%s\"," TARGET "}", uris[i]);
        assert_refused(json, "model_uri");
    }
}

static void a_model_config_takes_no_name_and_needs_nothing(void **state) {
    (void)state;
    _cleanup_request_ struct deployment_request request = {0};
    _cleanup_free_ char *message = NULL, *refusal = NULL;
    assert_int_equal(parse("{}", REQUEST_MODEL_CONFIG, &request, &message), 0);
    assert_null(request.model_uri);
    assert_string_equal(request.target_json, "{\"type\":\"api_service\"}");
    struct deployment_request other = {0};
    assert_true(parse("{\"deployment_name\":\"m\"}", REQUEST_MODEL_CONFIG, &other, &refusal) < 0);
}

static void a_patch_must_change_something(void **state) {
    (void)state;
    static const struct {
        const char *json, *words;
    } bad[] = {{"{}", "changes nothing"},
               {"{\"replicas\":0}", "replicas"},
               {"{\"model_uri\":\"/models/m\"}", "unknown field model_uri"},
               {"{\"resource_allocation\":{\"cpu\":\"2\"}}", "resource_allocation.cpu"}};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        _cleanup_json_ yyjson_doc *document = NULL;
        _cleanup_error_ struct error *error = NULL;
        struct deployment_patch patch = {0};
        yyjson_val *root = NULL;
        assert_int_equal(json_parse_object(bad[i].json, strlen(bad[i].json), &document, &root, &error), 0);
        assert_true(request_parse_patch(root, &patch, &error) < 0);
        _cleanup_free_ char *message = error_text(error);
        assert_non_null(strstr(message, bad[i].words));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_request_is_read),
        cmocka_unit_test(missing_fields_are_named),
        cmocka_unit_test(unknown_fields_are_named_with_the_nearest_known_one),
        cmocka_unit_test(names_that_no_route_can_carry_are_refused),
        cmocka_unit_test(wrong_types_and_bounds_are_named),
        cmocka_unit_test(targets_that_this_build_lacks_are_named_with_those_it_has),
        cmocka_unit_test(a_uri_outside_the_roots_is_refused),
        cmocka_unit_test(a_model_config_takes_no_name_and_needs_nothing),
        cmocka_unit_test(a_patch_must_change_something),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
