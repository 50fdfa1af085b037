/* oci: URIs, what a manifest holds of a model, and Docker's credentials. What real registries make of it is in
 * test/system/test_registry_oci.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_oci-internal.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LAYER(type, notes) "{\"mediaType\":\"" type "\",\"digest\":\"sha256:" HEX "\",\"size\":3" notes "}"
#define MANIFEST(config, layers)                                                                                       \
    "{\"config\":{\"mediaType\":\"" config "\",\"digest\":\"sha256:" HEX "\",\"size\":2},\"layers\":[" layers "]}"
#define TITLED ",\"annotations\":{\"org.opencontainers.image.title\":\"a/b.onnx\"}"

static void a_path_in_an_image_stands_behind_the_reference(void **state) {
    static const struct {
        const char *uri, *path, *again;
    } cases[] = {
        {"oci://r/a:v1?path=/models/x", "models/x", "oci://r/a:v1?path=/models/x"},
        {"OCI://r/a:v1?path=models/x/", "models/x", "oci://r/a:v1?path=/models/x"},
        {"oci://r/a?path=%2Fm%20n%2Fx", "m n/x", "oci://r/a:latest?path=/m%20n/x"},
        {"oci://r/a@sha256:" HEX, NULL, "oci://r/a@sha256:" HEX},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_oci_uri_ struct registry_oci_uri uri = {0};
        assert_int_equal(registry_oci_parse(cases[i].uri, &uri, NULL), 0);
        assert_true(text_equal(uri.path, cases[i].path));
        _cleanup_free_ char *again = registry_oci_text(&uri);
        assert_string_equal(again, cases[i].again);
    }
}

static void a_path_that_leads_elsewhere_is_refused(void **state) {
    static const char *const uris[] = {
        "oci:r/a",           "oci://r/a?path=",         "oci://r/a?path=/",   "oci://r/a?path=a//b",
        "oci://r/a?path=..", "oci://r/a?path=a/%2e%2e", "oci://r/a?path=%00", "oci://r/a?path=%0a",
        "oci://r/a?tag=v1",  "oci://r/a?path=a%",       "http://r/a?path=/a"};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(uris); i++) {
        _cleanup_oci_uri_ struct registry_oci_uri uri = {0};
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(registry_oci_parse(uris[i], &uri, &error), -ERROR_CONFIGURATION);
    }
}

static void layers_are_files_trees_or_of_an_image(void **state) {
    static const struct {
        const char *manifest;
        const char *roles;
    } cases[] = {
        {MANIFEST("application/vnd.oci.empty.v1+json", LAYER("text/plain", TITLED) "," LAYER("x/y.tar", "")), "ft"},
        {MANIFEST("x/y", LAYER("x/tar+gzip", ",\"annotations\":{\"org.opencontainers.image.title\":\"m\","
                                             "\"io.deis.oras.content.unpack\":\"true\"}")),
         "t"},
        {MANIFEST("x/y", LAYER("application/vnd.kitops.modelkit.model.v1.tar+gzip",
                               "") "," LAYER("application/vnd.kitops.modelkit.code.v1.tar",
                                             "") "," LAYER("application/vnd.kitops.modelkit.modelpart.v1.tar", "")),
         "tt"},
        {MANIFEST(
             "x/y",
             LAYER("application/vnd.cncf.model.weight.v1.raw", ",\"annotations\":{\"org.cncf.model.filepath\":\"m\"}") "," LAYER(
                 "application/vnd.cncf.model.weight.config.v1.tar",
                 "") "," LAYER("application/vnd.cncf.model.doc.v1.raw", TITLED)),
         "ft"},
        {MANIFEST(OCI_TYPE_CONFIG, LAYER("x/y.tar", "") "," LAYER("x/y.tar+gzip", "")), "ll"},
        {MANIFEST(OCI_TYPE_CONFIG, LAYER("x/y", TITLED)), "f"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_plan_ struct registry_oci_plan plan = {0};
        assert_int_equal(registry_oci_plan_read(cases[i].manifest, strlen(cases[i].manifest), &plan, NULL), 0);
        assert_int_equal(plan.count, strlen(cases[i].roles));
        for (size_t at = 0; at < plan.count; at++) assert_int_equal(plan.layers[at].role, cases[i].roles[at]);
    }
}

static void an_image_of_ours_says_where_its_model_lies(void **state) {
    static const char note[] =
        "{\"annotations\":{\"io.slipway.package.digest\":\"sha256:" HEX
        "\"},\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG "\"},\"layers\":[" LAYER("x/y.tar", "") "]}";
    static const char config[] = "{\"config\":{\"Labels\":{\"io.slipway.model.path\":\"/opt/m/\"}}}";
    (void)state;
    _cleanup_plan_ struct registry_oci_plan plan = {0};
    assert_int_equal(registry_oci_plan_read(note, strlen(note), &plan, NULL), 0);
    assert_string_equal(plan.path, "model");
    _cleanup_free_ char *path = registry_oci_label(config, strlen(config));
    assert_string_equal(path, "opt/m");
    assert_null(registry_oci_label("{}", 2));
    assert_null(registry_oci_label("[", 1));
}

static void a_manifest_without_a_model_is_refused(void **state) {
    static const char *const manifests[] = {"",
                                            "[]",
                                            "{}",
                                            "{\"layers\":{}}",
                                            "{\"layers\":[]}",
                                            MANIFEST("x/y", "{}"),
                                            MANIFEST("x/y", LAYER("text/plain", "")),
                                            MANIFEST("x/y", "1")};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(manifests); i++) {
        _cleanup_plan_ struct registry_oci_plan plan = {0};
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(registry_oci_plan_read(manifests[i], strlen(manifests[i]), &plan, &error),
                         -ERROR_MODEL_REGISTRY);
    }
}

static int docker(const char *text, struct registry_docker_access *access, struct error **error) {
    return registry_docker_read(text, strlen(text), "config.json", "r.example:5000", access, error);
}

static void dockers_credentials_are_found_by_every_form_of_the_key(void **state) {
    static const char *const keys[] = {"r.example:5000", "https://r.example:5000", "https://r.example:5000/v1/",
                                       "http://r.example:5000"};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        _cleanup_docker_access_ struct registry_docker_access access = {0};
        _cleanup_free_ char *text = text_format("{\"auths\":{\"%s\":{\"auth\":\"ZnJlZDpwYTpzcw==\"}}}", keys[i]);
        assert_int_equal(docker(text, &access, NULL), 0);
        assert_string_equal(access.username, "fred");
        assert_string_equal(access.password, "pa:ss");
    }
    _cleanup_docker_access_ struct registry_docker_access other = {0};
    assert_int_equal(docker("{\"auths\":{\"r.example\":{\"auth\":\"ZnJlZDpwYTpzcw==\"}}}", &other, NULL), 0);
    assert_null(other.username);
}

static void tokens_of_docker_are_told_apart(void **state) {
    (void)state;
    _cleanup_docker_access_ struct registry_docker_access access = {0};
    assert_int_equal(
        docker("{\"auths\":{\"r.example:5000\":{\"identitytoken\":\"i\",\"registrytoken\":\"b\"}}}", &access, NULL), 0);
    assert_string_equal(access.identity_token, "i");
    assert_string_equal(access.token, "b");
}

static void what_docker_leaves_to_a_helper_is_refused(void **state) {
    static const char *const texts[] = {"{\"credHelpers\":{\"r.example:5000\":\"x\"}}",
                                        "{\"credsStore\":\"x\",\"auths\":{\"r.example:5000\":{}}}", "{",
                                        "{\"auths\":{\"r.example:5000\":{\"auth\":\"%%%%\"}}}",
                                        "{\"auths\":{\"r.example:5000\":{\"auth\":\"ZnJlZA==\"}}}"};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        _cleanup_docker_access_ struct registry_docker_access access = {0};
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(docker(texts[i], &access, &error), -ERROR_MODEL_REGISTRY);
        assert_null(strstr(error->message, "%%"));
    }
    _cleanup_docker_access_ struct registry_docker_access access = {0};
    assert_int_equal(docker("{\"credsStore\":\"x\"}", &access, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_in_an_image_stands_behind_the_reference),
        cmocka_unit_test(a_path_that_leads_elsewhere_is_refused),
        cmocka_unit_test(layers_are_files_trees_or_of_an_image),
        cmocka_unit_test(an_image_of_ours_says_where_its_model_lies),
        cmocka_unit_test(a_manifest_without_a_model_is_refused),
        cmocka_unit_test(dockers_credentials_are_found_by_every_form_of_the_key),
        cmocka_unit_test(tokens_of_docker_are_told_apart),
        cmocka_unit_test(what_docker_leaves_to_a_helper_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
