#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry.h"
#include "registry/registry_http-internal.h"
#include "registry/registry_servers.h"

#define HEX "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
#define HEX_UPPER "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"
#define OTHER "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void a_uri_names_a_file_and_perhaps_its_digest(void **state) {
    (void)state;
    static const struct {
        const char *uri, *url, *name, *sha256, *digest_url;
    } cases[] = {
        {"https://h/a/model.onnx", "https://h/a/model.onnx", "model.onnx", NULL, "https://h/a/model.onnx.sha256"},
        {"http://h:81/m.tar.gz#sha256=" HEX_UPPER, "http://h:81/m.tar.gz", "m.tar.gz", HEX,
         "http://h:81/m.tar.gz.sha256"},
        {"HTTPS://h/a%20b.zip?download=1&v=2", "HTTPS://h/a%20b.zip?download=1&v=2", "a b.zip", NULL,
         "HTTPS://h/a%20b.zip.sha256?download=1&v=2"},
        {"http://[::1]:9/m.onnx", "http://[::1]:9/m.onnx", "m.onnx", NULL, "http://[::1]:9/m.onnx.sha256"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_http_uri_ struct http_uri uri = {0};
        assert_int_equal(registry_http_parse(cases[i].uri, &uri, NULL), 0);
        _cleanup_free_ char *digest_url = registry_http_digest_url(&uri);
        assert_string_equal(uri.url, cases[i].url);
        assert_string_equal(uri.name, cases[i].name);
        assert_true(text_equal(uri.sha256, cases[i].sha256));
        assert_string_equal(digest_url, cases[i].digest_url);
    }
}

static void what_is_malformed_or_carries_a_secret_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *uri, *part;
    } cases[] = {
        {"https://h/", "names no file"},
        {"https://h", "names no file"},
        {"https://h/a/", "names no file"},
        {"https://h/%00", "names no file"},
        {"https://h/%zz", "names no file"},
        {"https:///m.onnx", "has no host"},
        {"https://user:hidden@h/m.onnx", "user or password"},
        {"https://hidden@h/m.onnx", "user or password"},
        {"https://h/m.onnx#hidden", "sha256="},
        {"https://h/m.onnx#sha256=" HEX "0", "sha256="},
        {"https://h/m.onnx#sha256=hidden", "sha256="},
        {"https://h/m.onnx#", "sha256="},
        {"https://h/m.onnx?X-Amz-Signature=hidden", "X-Amz-Signature"},
        {"https://h/m.onnx?a=1&%74oken=hidden", "token"},
        {"https://h/a b.onnx", "percent-encoded"},
        {"https://h\\@g/m.onnx", "percent-encoded"},
        {"https://h/m\xc3\xa4.onnx", "percent-encoded"},
        {"ftp://h/m.onnx", "http:// or https://"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_http_uri_ struct http_uri uri = {0};
        _cleanup_error_ struct error *error = NULL;
        int result = registry_http_parse(cases[i].uri, &uri, &error);
        assert_int_equal(result, -ERROR_CONFIGURATION);
        if (!strstr(error->message, cases[i].part) || strstr(error->message, "hidden")) fail_msg("%s", error->message);
    }
}

static void a_digest_is_found_in_what_tools_write(void **state) {
    (void)state;
    static const struct {
        const char *text, *sha256;
    } cases[] = {
        {HEX, HEX},
        {HEX_UPPER "\n", HEX},
        {HEX "  m.tar.gz\n", HEX},
        {HEX " *m.tar.gz\r\n", HEX},
        {HEX "  dist/m.tar.gz\n", HEX},
        {HEX "  renamed.tar.gz\n", HEX}, /* the only one */
        {"SHA256 (m.tar.gz) = " HEX "\n", HEX},
        {OTHER "  other\n" HEX "  m.tar.gz\n", HEX},
        {OTHER "  other\n" HEX "  another\n", NULL},
        {OTHER "  other\n" HEX "\n", NULL},
        {"# made today\n" HEX "  m.tar.gz\n", HEX},
        {HEX "0\n", NULL},
        {"9f86d081\n", NULL},
        {"<html>" HEX "</html>", NULL},
        {"SHA256 (m.tar.gz) = short\n", NULL},
        {"", NULL},
        {"\n\n", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *sha256 = NULL;
        bool found = registry_http_find_digest(cases[i].text, "m.tar.gz", &sha256);
        if (found != (cases[i].sha256 != NULL) || !text_equal(sha256, cases[i].sha256)) fail_msg("%s", cases[i].text);
    }
}

static void only_hosts_that_the_operator_named_are_asked(void **state) {
    (void)state;
    static const char text[] = "[http ours]\nhosts = models.example.com, *.cdn.example.com\n";
    struct registry_servers *servers = NULL;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(registry_servers_new(text, sizeof text - 1, "registries.conf", NULL, &servers, &error), 0);
    struct registry_context context = {.servers = servers};
    assert_int_equal(http_registry.check(&context, "https://models.example.com/m.onnx", NULL), 0);
    assert_int_equal(http_registry.check(&context, "https://eu.cdn.example.com/m.zip", NULL), 0);
    assert_int_equal(http_registry.check(&context, "https://evil.example.com/m.onnx?k=hidden", &error),
                     -ERROR_CONFIGURATION);
    _cleanup_free_ char *message = error_text(error);
    if (!strstr(message, "[http NAME]") || strstr(message, "hidden")) fail_msg("%s", message);
    context.servers = NULL;
    assert_int_equal(http_registry.check(&context, "https://models.example.com/m.onnx", NULL), -ERROR_CONFIGURATION);
    registry_servers_free(servers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_uri_names_a_file_and_perhaps_its_digest),
        cmocka_unit_test(what_is_malformed_or_carries_a_secret_is_refused),
        cmocka_unit_test(a_digest_is_found_in_what_tools_write),
        cmocka_unit_test(only_hosts_that_the_operator_named_are_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
