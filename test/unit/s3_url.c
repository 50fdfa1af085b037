#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "s3/s3-internal.h"

static struct s3 *open_s3(const char *endpoint, const char *region, bool path_style) {
    struct s3_config config = {
        .endpoint = endpoint, .region = region, .path_style = path_style, .transfer = {.class = ERROR_MODEL_REGISTRY}};
    struct s3 *s3 = NULL;
    assert_int_equal(s3_open(&config, &s3, NULL), 0);
    return s3;
}

static void a_bucket_stands_before_the_host_where_it_can(void **state) {
    (void)state;
    static const struct {
        const char *endpoint, *region;
        bool path_style;
        const char *bucket, *key, *url;
    } cases[] = {
        {NULL, NULL, false, "models", "a", "https://models.s3.us-east-1.amazonaws.com/a"},
        {NULL, "eu-west-1", true, "models", "a", "https://s3.eu-west-1.amazonaws.com/models/a"},
        {NULL, "cn-north-1", false, "models", NULL, "https://models.s3.cn-north-1.amazonaws.com.cn/"},
        {NULL, NULL, false, "a.b.models", "a", "https://s3.us-east-1.amazonaws.com/a.b.models/a"}, /* certificate */
        {NULL, NULL, false, "Old_Bucket", "a", "https://s3.us-east-1.amazonaws.com/Old_Bucket/a"},
        {"http://store.example:9000", NULL, false, "models", "a", "http://models.store.example:9000/a"},
        {"http://store.example:9000", NULL, false, "a.models", "a", "http://a.models.store.example:9000/a"},
        {"http://store.example/s3/", NULL, true, "models", "a", "http://store.example/s3/models/a"},
        {"HTTPS://store.example", NULL, true, "models", NULL, "https://store.example/models/"},
        {"http://127.0.0.1:9000", NULL, false, "models", "a", "http://127.0.0.1:9000/models/a"},
        {"http://[::1]:9000", NULL, false, "models", "a", "http://[::1]:9000/models/a"},
        {"http://localhost:9000", NULL, false, "models", "a", "http://localhost:9000/models/a"},
        {"http://s3.localhost:9000", NULL, false, "models", "a", "http://models.s3.localhost:9000/a"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct s3 *s3 = open_s3(cases[i].endpoint, cases[i].region, cases[i].path_style);
        _cleanup_free_ char *url = NULL;
        assert_int_equal(s3_url(s3, cases[i].bucket, cases[i].key, NULL, 0, &url, NULL), 0);
        assert_string_equal(url, cases[i].url);
        s3_close(s3);
    }
}

static void a_key_is_encoded_but_for_its_slashes(void **state) {
    (void)state;
    static const struct {
        const char *key, *path;
    } cases[] = {
        {"plain-._~09AZaz", "plain-._~09AZaz"},
        {"a b/c+d=e", "a%20b/c%2Bd%3De"},
        {"100%25", "100%2525"},
        {"é?#&", "%C3%A9%3F%23%26"},
        {"a//b/", "a//b/"},
        {"/a", "/a"},
        {"...", "..."},
        {".hidden/..x", ".hidden/..x"},
    };
    struct s3 *s3 = open_s3("http://127.0.0.1:9000", NULL, true);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *url = NULL, *wanted = text_format("http://127.0.0.1:9000/models/%s", cases[i].path);
        assert_int_equal(s3_url(s3, "models", cases[i].key, NULL, 0, &url, NULL), 0);
        assert_string_equal(url, wanted);
    }
    s3_close(s3);
}

static void a_query_is_sorted_and_encoded(void **state) {
    (void)state;
    const struct s3_parameter parameters[] = {
        {"prefix", "a/b c+"}, {"list-type", "2"},       {"continuation-token", NULL},
        {"uploads", ""},      {"encoding-type", "url"},
    };
    struct s3 *s3 = open_s3("http://127.0.0.1:9000", NULL, true);
    _cleanup_free_ char *url = NULL;
    assert_int_equal(s3_url(s3, "models", NULL, parameters, ARRAY_SIZE(parameters), &url, NULL), 0);
    assert_string_equal(url,
                        "http://127.0.0.1:9000/models/?encoding-type=url&list-type=2&prefix=a%2Fb%20c%2B&uploads=");
    s3_close(s3);
}

/* Clients and servers take "a/../b" out of a URL: another object, or another bucket, would be asked for. */
static void what_a_url_cannot_say_is_refused(void **state) {
    (void)state;
    static const char *const keys[] = {"", "..", ".", "../other/a", "a/../b", "a/./b", "a/..", "\xFF"};
    static const char *const buckets[] = {"", "..", ".a", "a/b", "a?b", "a b", "a%2F", "é", "a@b", "a:b", "a#"};
    struct s3 *s3 = open_s3("http://127.0.0.1:9000", NULL, true);
    for (size_t i = 0; i < ARRAY_SIZE(keys) + ARRAY_SIZE(buckets); i++) {
        const char *key = i < ARRAY_SIZE(keys) ? keys[i] : "a";
        const char *bucket = i < ARRAY_SIZE(keys) ? "models" : buckets[i - ARRAY_SIZE(keys)];
        char *url = NULL;
        assert_int_equal(s3_url(s3, bucket, key, NULL, 0, &url, NULL), -ERROR_CONFIGURATION);
        assert_null(url);
    }
    char longest[S3_KEY_MAXIMUM + 2] = "";
    memset(longest, 'a', S3_KEY_MAXIMUM + 1);
    char *url = NULL;
    assert_int_equal(s3_url(s3, "models", longest, NULL, 0, &url, NULL), -ERROR_CONFIGURATION);
    longest[S3_KEY_MAXIMUM] = 0;
    assert_int_equal(s3_url(s3, "models", longest, NULL, 0, &url, NULL), 0);
    free(url);
    s3_close(s3);
}

static void a_server_or_region_or_half_a_pair_that_is_none_is_refused(void **state) {
    (void)state;
    static const struct s3_config configs[] = {
        {.endpoint = "store.example"},
        {.endpoint = "ftp://store.example"},
        {.endpoint = "http://"},
        {.endpoint = "http://user@store.example"},
        {.endpoint = "http://store.example/?a"},
        {.region = "us east"},
        {.region = "evil.example/"},
        {.region = ""},
        {.access_key_id = "key"},
        {.secret_access_key = "secret"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
        struct s3 *s3 = NULL;
        _cleanup_error_ struct error *error = NULL;
        assert_int_equal(s3_open(&configs[i], &s3, &error), -ERROR_CONFIGURATION);
        assert_null(s3);
        assert_null(strstr(error->message, "secret\""));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_stands_before_the_host_where_it_can),
        cmocka_unit_test(a_key_is_encoded_but_for_its_slashes),
        cmocka_unit_test(a_query_is_sorted_and_encoded),
        cmocka_unit_test(what_a_url_cannot_say_is_refused),
        cmocka_unit_test(a_server_or_region_or_half_a_pair_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
