/* References to images, and what a registry asks for in WWW-Authenticate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void check(const char *text, const char *registry, const char *repository, const char *tag, const char *digest) {
    _cleanup_reference_ struct oci_reference reference = {0};
    assert_int_equal(oci_reference_parse(text, &reference, NULL), 0);
    assert_string_equal(reference.registry, registry);
    assert_string_equal(reference.repository, repository);
    assert_true(text_equal(reference.tag, tag));
    assert_true(text_equal(reference.digest, digest));
}

static void a_reference_has_registry_repository_tag_and_digest(void **state) {
    (void)state;
    check("ghcr.io/models/minilm:v1.2_x-y", "ghcr.io", "models/minilm", "v1.2_x-y", NULL);
    check("localhost:5000/a", "localhost:5000", "a", "latest", NULL);
    check("[::1]:9000/a/b__c/d--e:T", "[::1]:9000", "a/b__c/d--e", "T", NULL);
    check("registry/a@" DIGEST, "registry", "a", NULL, DIGEST);
    check("registry/a:v1@" DIGEST, "registry", "a", "v1", DIGEST);
}

static void a_reference_written_again_is_the_same(void **state) {
    static const char *const texts[] = {"ghcr.io/a/b:v1", "localhost:5000/a:latest", "r/a:v1@" DIGEST, "r/a@" DIGEST};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        _cleanup_reference_ struct oci_reference reference = {0};
        assert_int_equal(oci_reference_parse(texts[i], &reference, NULL), 0);
        _cleanup_free_ char *text = oci_reference_text(&reference);
        assert_string_equal(text, texts[i]);
    }
}

static void what_is_no_reference_is_refused(void **state) {
    static const char *const texts[] = {"",
                                        "a",
                                        "a/",
                                        "/a",
                                        "r/A",
                                        "r/a//b",
                                        "r/a_",
                                        "r/a___b",
                                        "r/-a",
                                        "r/a..b",
                                        "r/../a",
                                        "r/a:",
                                        "r/a:-x",
                                        "r/a@",
                                        "r/a@sha256:12",
                                        "r/a@md5:00",
                                        "r:0/a",
                                        "r:99999/a",
                                        "r:x/a",
                                        "user@r/a",
                                        "r/a?b",
                                        "r/a b",
                                        "[::1/a",
                                        "[]/a",
                                        "r/a/:v",
                                        "r/a:v:w/x",
                                        "-r/a",
                                        "r/a@" DIGEST "0"};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        _cleanup_reference_ struct oci_reference reference = {0};
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(oci_reference_parse(texts[i], &reference, &error), -ERROR_CONFIGURATION);
        assert_null(reference.registry);
    }
}

static void check_challenge(const char *value, enum oci_scheme scheme, const char *realm, const char *service,
                            const char *scope) {
    _cleanup_challenge_ struct oci_challenge challenge = {0};
    oci_challenge_parse(value, &challenge);
    assert_int_equal(challenge.scheme, scheme);
    assert_true(text_equal(challenge.realm, realm));
    assert_true(text_equal(challenge.service, service));
    assert_true(text_equal(challenge.scope, scope));
}

static void a_bearer_challenge_gives_realm_service_and_scope(void **state) {
    (void)state;
    check_challenge("Bearer realm=\"https://auth/token\",service=\"reg\",scope=\"repository:a/b:pull,push\"",
                    OCI_SCHEME_BEARER, "https://auth/token", "reg", "repository:a/b:pull,push");
    check_challenge("bEARER service = reg , error=\"x\", realm=\"a\\\"b\"", OCI_SCHEME_BEARER, "a\"b", "reg", NULL);
}

static void bearer_comes_before_basic_wherever_it_stands(void **state) {
    (void)state;
    check_challenge("Basic realm=\"r\"", OCI_SCHEME_BASIC, "r", NULL, NULL);
    check_challenge("Basic realm=\"r\", Bearer realm=\"t\"", OCI_SCHEME_BEARER, "t", NULL, NULL);
    check_challenge("Bearer realm=\"t\", Basic realm=\"r\"", OCI_SCHEME_BEARER, "t", NULL, NULL);
    check_challenge("Negotiate abc==, Basic realm=\"r\"", OCI_SCHEME_BASIC, "r", NULL, NULL);
}

static void what_is_broken_is_no_challenge(void **state) {
    static const char *const values[] = {"",  ",",  "Bearer",    "Bearer realm", "Bearer realm=", "Bearer realm=\"x",
                                         "=", "\"", "Digest x=y"};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) check_challenge(values[i], OCI_SCHEME_NONE, NULL, NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reference_has_registry_repository_tag_and_digest),
        cmocka_unit_test(a_reference_written_again_is_the_same),
        cmocka_unit_test(what_is_no_reference_is_refused),
        cmocka_unit_test(a_bearer_challenge_gives_realm_service_and_scope),
        cmocka_unit_test(bearer_comes_before_basic_wherever_it_stands),
        cmocka_unit_test(what_is_broken_is_no_challenge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
