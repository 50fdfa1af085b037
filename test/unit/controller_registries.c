/* What the controller makes of registries without asking one: which URIs are credentials, the default registry's
 * pattern, and by what a source is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/fetch_source.h"
#include "controller/registries.h"
#include "controller/request.h"
#include "registry/registry_servers.h"

/* ---- URIs that are credentials ---- */

static void a_uri_that_lets_in_whoever_has_it_is_refused_and_not_repeated(void **state) {
    (void)state;
    static const char *const uris[] = {
        "https://hunter2@host/x",
        "https://u:hunter2@host/x",
        "HTTPS://u:hunter2@host",
        "oci://u:hunter2@host/x:v1",
        "s3://hunter2@bucket/x",
        "runs://hunter2@lab/0/x",
        "https://host/x?X-Amz-Signature=hunter2",
        "https://host/x?x-amz-signature=hunter2",
        "https://host/x?a=b&sig=hunter2",
        "https://host/x?a=b;sig=hunter2#sha256=00",
        "https://host/x?%73ig=hunter2",
        "https://host/x?token=hunter2&a=b",
        "https://host/x?access_token=hunter2",
        "https://host?password=hunter2",
        "s3://bucket/x?X-Amz-Security-Token=hunter2",
    };
    for (size_t i = 0; i < ARRAY_SIZE(uris); i++) {
        _cleanup_error_ struct error *error = NULL;
        if (request_check_public(uris[i], &error) != -(int)ERROR_CONFIGURATION) fail_msg("%s is let through", uris[i]);
        assert_null(strstr(error->message, "hunter2"));
        assert_non_null(strstr(error->message, "registries"));
    }
}

static void a_uri_without_credentials_is_let_through(void **state) {
    (void)state;
    static const char *const uris[] = {
        "/models/a@b/x?token=c",
        "file:///models/a@b",
        "https://host/x@y",
        "https://host/x?version=3#sha256=00",
        "https://host/token=x",
        "models:/m@champion",
        "runs:/0/x",
        "runs://lab/0/x@y",
        "s3://bucket/a@b",
        "package:sha256:00",
        "",
        "oci://host/m:v1@sha256:00",
        "https://host/x#token=",
        "https://host/?",
        "https://host/?&",
        "https://host/x?tokens=2",
    };
    for (size_t i = 0; i < ARRAY_SIZE(uris); i++)
        if (request_check_public(uris[i], NULL)) fail_msg("%s is refused", uris[i]);
}

/* ---- the default registry ---- */

static void a_model_id_goes_where_the_pattern_says(void **state) {
    (void)state;
    const struct registry_context context = {0};
    _cleanup_free_ char *once = request_default_uri(&context, "runs:/{id}/model", "minilm");
    assert_string_equal(once, "runs:/minilm/model");
    _cleanup_free_ char *twice = request_default_uri(&context, "s3://models/{id}/{id}.onnx", "minilm");
    assert_string_equal(twice, "s3://models/minilm/minilm.onnx");
    _cleanup_free_ char *whole = request_default_uri(&context, "{id}", "minilm");
    assert_string_equal(whole, "minilm");
    const char *const roots[] = {"/nowhere/a", "/nowhere/b"};
    const struct registry_context files = {.roots = roots, .root_count = 2};
    _cleanup_free_ char *file = request_default_uri(&files, "", "minilm");
    assert_string_equal(file, "file:///nowhere/b/minilm");
}

static void a_pattern_must_be_a_uri_that_is_configured_with_the_id_in_it(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *expected;
    } cases[] = {
        {"runs:/id/model", "has no {id} in it"},
        {"gopher://{id}", "gopher"},
        {"s3://models/{id}", "is not configured here"},
        {"https://u:hunter2@host/{id}.onnx", "a user or a password before the host"},
        {"/elsewhere/{id}", "outside the folders"},
    };
    static const char text[] = "[mlflow]\nurl = http://host\n";
    char *const nothing[] = {NULL};
    struct registry_servers *servers = NULL;
    assert_int_equal(registry_servers_new(text, strlen(text), "file", nothing, &servers, NULL), 0);
    const char *const roots[] = {"/models"};
    const struct registry_context context = {.roots = roots, .root_count = 1, .servers = servers};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(registries_check_default(&context, cases[i].pattern, &error), -(int)ERROR_CONFIGURATION);
        _cleanup_free_ char *message = error_text(error);
        if (!strstr(message, cases[i].expected)) fail_msg("%s: not \"%s\"", message, cases[i].expected);
        assert_non_null(strstr(message, "default_registry"));
        assert_null(strstr(message, "hunter2"));
    }
    assert_int_equal(registries_check_default(&context, "", NULL), 0);
    assert_int_equal(registries_check_default(&context, NULL, NULL), 0);
    assert_int_equal(registries_check_default(&context, "/models/{id}", NULL), 0);
    assert_int_equal(registries_check_default(&context, "runs:/{id}/model", NULL), 0);
    registry_servers_free(servers);
}

static void an_error_says_that_the_file_is_not_in_force(void **state) {
    (void)state;
    struct registry_servers servers = {.broken = "registries, line 3: …"};
    _cleanup_error_ struct error *error = NULL;
    error_set(&error, ERROR_CONFIGURATION, "s3: is not configured here");
    assert_int_equal(registry_servers_explain(&servers, &error), -(int)ERROR_CONFIGURATION);
    _cleanup_free_ char *message = error_text(error);
    assert_string_equal(message,
                        "the registries file is not in force (registries, line 3: …): s3: is not configured here");
    _cleanup_error_ struct error *other = NULL;
    error_set(&other, ERROR_MODEL_REGISTRY, "it is down");
    assert_int_equal(registry_servers_explain(&servers, &other), -(int)ERROR_MODEL_REGISTRY);
    assert_string_equal(other->message, "it is down");
}

/* ---- by what a source is known ---- */

static struct registry_file tagged[] = {{.path = (char *)"model.onnx", .identity = (char *)"etag \"1\""}};
static struct registry_file digested[] = {
    {.path = (char *)"model.onnx", .identity = (char *)"sha256 00", .sha256 = (char *)"00"}};

static void the_same_tag_at_another_place_is_another_source(void **state) {
    (void)state;
    const struct registry_resolution here = {
        .files = tagged, .file_count = 1, .fingerprint = (char *)"f", .location = (char *)"http://a/x"};
    struct registry_resolution there = here;
    there.location = (char *)"http://b/x";
    _cleanup_free_ char *first = fetch_known_key(&http_registry, "http://a/x", &here),
                        *again = fetch_known_key(&http_registry, "http://A/x", &here),
                        *other = fetch_known_key(&http_registry, "http://b/x", &there),
                        *kind = fetch_known_key(&s3_registry, "http://a/x", &here);
    assert_string_equal(first, again);
    assert_string_not_equal(first, other);
    assert_string_not_equal(first, kind);
    _cleanup_free_ char *claim = fetch_claim_key(&http_registry, "http://a/x", &here);
    assert_string_equal(first, claim);
}

static void the_same_digests_are_the_same_source_wherever_they_are(void **state) {
    (void)state;
    const struct registry_resolution here = {
        .files = digested, .file_count = 1, .fingerprint = (char *)"f", .location = (char *)"http://a/x"};
    struct registry_resolution there = here;
    there.location = (char *)"http://b/x";
    _cleanup_free_ char *first = fetch_known_key(&http_registry, "http://a/x", &here),
                        *other = fetch_known_key(&oci_registry, "oci://b/x", &there);
    assert_string_equal(first, other);
}

static void what_nothing_tells_of_is_never_known_and_shared_only_by_a_name_that_cannot_change(void **state) {
    (void)state;
    static struct registry_file bare[] = {{.path = (char *)"model.onnx"}};
    struct registry_resolution resolution = {.files = bare, .file_count = 1, .location = (char *)"http://a/x"};
    assert_null(fetch_known_key(&mlflow_registry, "models:/m@champion", &resolution));
    assert_null(fetch_claim_key(&mlflow_registry, "models:/m@champion", &resolution));
    resolution.resolved_uri = (char *)"models:/m/3";
    assert_null(fetch_known_key(&mlflow_registry, "models:/m@champion", &resolution));
    _cleanup_free_ char *one = fetch_claim_key(&mlflow_registry, "models:/m@champion", &resolution),
                        *two = fetch_claim_key(&mlflow_registry, "models:/m/3", &resolution);
    assert_non_null(one);
    assert_string_equal(one, two);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_uri_that_lets_in_whoever_has_it_is_refused_and_not_repeated),
        cmocka_unit_test(a_uri_without_credentials_is_let_through),
        cmocka_unit_test(a_model_id_goes_where_the_pattern_says),
        cmocka_unit_test(a_pattern_must_be_a_uri_that_is_configured_with_the_id_in_it),
        cmocka_unit_test(an_error_says_that_the_file_is_not_in_force),
        cmocka_unit_test(the_same_tag_at_another_place_is_another_source),
        cmocka_unit_test(the_same_digests_are_the_same_source_wherever_they_are),
        cmocka_unit_test(what_nothing_tells_of_is_never_known_and_shared_only_by_a_name_that_cannot_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
