/* Where transfers may go: addresses, hosts, URLs, redirects. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "transfer/transfer-internal.h"

static bool is_allowed(const char *text) {
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) return transfer_address_is_allowed((struct sockaddr *)&v4);
    if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) fail_msg("%s is no address", text);
    return transfer_address_is_allowed((struct sockaddr *)&v6);
}

static void servers_may_be_connected_to(void **state) {
    (void)state;
    static const char *const addresses[] = {"127.0.0.1",
                                            "10.0.0.1",
                                            "192.168.1.1",
                                            "100.64.0.1",
                                            "100.100.100.201",
                                            "169.253.255.255",
                                            "169.255.0.0",
                                            "223.255.255.255",
                                            "8.8.8.8",
                                            "168.63.129.17",
                                            "::1",
                                            "2606:4700::1",
                                            "fd00::1",
                                            "fd12:3456::1",
                                            "::ffff:10.0.0.1",
                                            "64:ff9b::8.8.8.8",
                                            "2002:808:808::1",
                                            "fe7f::1",
                                            "2001:db8::1"};
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
        if (!is_allowed(addresses[i])) fail_msg("%s was refused", addresses[i]);
}

static void links_multicast_and_metadata_are_refused_in_every_form(void **state) {
    (void)state;
    static const char *const addresses[] = {"0.0.0.0",
                                            "0.1.2.3",
                                            "169.254.0.0",
                                            "169.254.169.254",
                                            "169.254.170.2",
                                            "169.254.255.255",
                                            "100.100.100.200",
                                            "168.63.129.16",
                                            "192.0.0.192",
                                            "224.0.0.1",
                                            "239.255.255.255",
                                            "240.0.0.1",
                                            "255.255.255.255",
                                            "::",
                                            "fe80::1",
                                            "febf::1",
                                            "fec0::1",
                                            "ff02::1",
                                            "fd00:ec2::254",
                                            "fd00:ec2::23",
                                            "fd20:ce::254",
                                            "fd00:c1::a9fe:a9fe",
                                            "::ffff:169.254.169.254",
                                            "::ffff:0.0.0.0",
                                            "::169.254.169.254",
                                            "::ffff:0:169.254.169.254",
                                            "64:ff9b::169.254.169.254",
                                            "64:ff9b::a9fe:a9fe",
                                            "64:ff9b:1::169.254.169.254",
                                            "2002:a9fe:a9fe::1",
                                            "2001:0:1234:5678::5601:5601", /* Teredo: 169.254.169.254, inverted */
                                            "2001:db8::5efe:169.254.169.254",
                                            "fd00::200:5efe:169.254.169.254"};
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
        if (is_allowed(addresses[i])) fail_msg("%s was allowed", addresses[i]);
    struct sockaddr_un other = {.sun_family = AF_UNIX};
    assert_false(transfer_address_is_allowed((struct sockaddr *)&other));
}

static void a_host_is_matched_whole(void **state) {
    (void)state;
    static const struct {
        const char *url, *pattern;
        bool matches;
    } cases[] = {
        {"https://models.example.com/a", "models.example.com", true},
        {"https://MODELS.example.com:8443/a", "models.Example.com", true},
        {"https://models.example.com./a", "models.example.com", true},
        {"https://models.example.com.evil/a", "models.example.com", false},
        {"https://evilmodels.example.com/a", "models.example.com", false},
        {"https://models.example.com@evil/a", "models.example.com", false},
        {"https://evil/models.example.com", "models.example.com", false},
        {"http://localhost:5000/", "localhost:5000", true},
        {"http://localhost:5001/", "localhost:5000", false},
        {"http://localhost/", "localhost:80", true},
        {"https://localhost/", "localhost:443", true},
        {"https://localhost/", "localhost:80", false},
        {"https://a.b.example.com/", "*.example.com", true},
        {"https://example.com/", "*.example.com", false},
        {"https://aexample.com/", "*.example.com", false},
        {"https://a.example.com:444/", "*.example.com:443", false},
        {"https://a.example.com/", "*.example.com:443", true},
        {"http://[::1]:9000/", "[::1]:9000", true},
        {"http://[::1]:9000/", "[::1]", true},
        {"http://[::2]:9000/", "[::1]", false},
        {"http://2130706433/", "127.0.0.1", true}, /* what is connected to, however it is written */
        {"http://0x7f.1/", "127.0.0.1", true},
        {"not a url", "not a url", false},
        {"", "", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (transfer_host_matches(cases[i].url, &cases[i].pattern, 1) != cases[i].matches)
            fail_msg("%s against %s", cases[i].url, cases[i].pattern);
    assert_false(transfer_host_matches("http://a/", NULL, 0));
}

static void what_is_shown_of_a_url_holds_no_secret(void **state) {
    (void)state;
    static const struct {
        const char *url, *shown;
    } cases[] = {
        {"https://user:secret@host/a/b?token=secret#secret", "https://host/a/b"},
        {"https://host:8443/a%20b?X-Amz-Signature=secret", "https://host:8443/a%20b"},
        {"s3://bucket/key?versionId=1", "s3://bucket/key"},
        {"secret@nowhere at all", "a malformed URL"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *shown = transfer_public_url(cases[i].url);
        assert_string_equal(shown, cases[i].shown);
    }
}

static const char *const hosts[] = {"models.example.com", "*.cdn.example.com"};
static const struct transfer transfer = {
    .config = {.class = ERROR_MODEL_REGISTRY, .hosts = hosts, .host_count = ARRAY_SIZE(hosts)}};

static void a_redirect_is_followed_only_where_a_first_request_could_go(void **state) {
    (void)state;
    static const struct {
        const char *from, *location, *to; /* NULL: refused */
    } cases[] = {
        {"https://models.example.com/a/b", "c", "https://models.example.com/a/c"},
        {"https://models.example.com/a/b?x=1", "/c?y=2", "https://models.example.com/c?y=2"},
        {"https://models.example.com/a", "https://eu.cdn.example.com/x?sig=1", "https://eu.cdn.example.com/x?sig=1"},
        {"https://models.example.com/a", "//eu.cdn.example.com/x", "https://eu.cdn.example.com/x"},
        {"http://models.example.com/a", "https://models.example.com/a", "https://models.example.com/a"},
        {"https://models.example.com/a", "http://models.example.com/a", NULL},
        {"https://models.example.com/a", "https://evil.example.com/a", NULL},
        {"https://models.example.com/a", "https://u:p@models.example.com/a", NULL},
        {"http://models.example.com/a", "http://169.254.169.254/latest", NULL},
        {"http://models.example.com/a", "file:///etc/passwd", NULL},
        {"http://models.example.com/a", "ftp://models.example.com/a", NULL},
        {"http://models.example.com/a", "http://", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *to = NULL;
        _cleanup_error_ struct error *error = NULL;
        int result = transfer_follow(&transfer, cases[i].from, cases[i].location, &to, &error);
        if (!text_equal(to, cases[i].to)) fail_msg("%s led to %s", cases[i].location, to ? to : "nothing");
        assert_int_equal(result, cases[i].to ? 0 : -ERROR_MODEL_REGISTRY);
        assert_true(!error || !error->transient);
    }
}

static void an_origin_is_scheme_host_and_port(void **state) {
    (void)state;
    static const struct {
        const char *url, *origin;
    } cases[] = {{"HTTPS://Models.Example.com/a", "https://models.example.com:443"},
                 {"http://models.example.com./a", "http://models.example.com:80"},
                 {"http://models.example.com:8080/", "http://models.example.com:8080"},
                 {"ftp://models.example.com/", NULL},
                 {"nothing", NULL}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *origin = transfer_origin(cases[i].url);
        assert_true(text_equal(origin, cases[i].origin));
    }
}

static void the_words_of_an_error_are_found_in_what_servers_write(void **state) {
    (void)state;
    static const struct {
        const char *body, *words;
    } cases[] = {
        {"{\"error_code\":\"RESOURCE_DOES_NOT_EXIST\",\"message\":\"Run 'x' not found\"}",
         "RESOURCE_DOES_NOT_EXIST: Run 'x' not found"},
        {"{\"error\":{\"message\":\"no\"}}", "no"},
        {"{\"error\":\"invalid_token\"}", "invalid_token"},
        {"{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}",
         "MANIFEST_UNKNOWN: manifest unknown"},
        {"{\"detail\":\"Not Found\"}", "Not Found"},
        {"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>The key</Message></Error>",
         "NoSuchKey: The key"},
        {"<html><head><title>403 Forbidden</title></head>", "403 Forbidden"},
        {"  plain\r\n\twords\x1b[31m \xff", "plain words [31m ?"},
        {"{\"unknown\":1}", "{\"unknown\":1}"},
        {"<nothing/>", NULL},
        {" \n ", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *words = transfer_words(cases[i].body, strlen(cases[i].body));
        if (!text_equal(words, cases[i].words)) fail_msg("%s gave %s", cases[i].body, words ? words : "nothing");
    }
    char flood[5000];
    memset(flood, 'x', sizeof flood);
    flood[sizeof flood - 1] = '\0';
    _cleanup_free_ char *words = transfer_words(flood, sizeof flood - 1);
    assert_int_equal(strlen(words), 300);
    assert_null(transfer_words(NULL, 0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_may_be_connected_to),
        cmocka_unit_test(links_multicast_and_metadata_are_refused_in_every_form),
        cmocka_unit_test(a_host_is_matched_whole),
        cmocka_unit_test(what_is_shown_of_a_url_holds_no_secret),
        cmocka_unit_test(a_redirect_is_followed_only_where_a_first_request_could_go),
        cmocka_unit_test(an_origin_is_scheme_host_and_port),
        cmocka_unit_test(the_words_of_an_error_are_found_in_what_servers_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
