/* A request with a short answer: tried again when that helps, sent elsewhere, credentials, ceilings, clocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/rough_server.h"
#include "transfer/transfer.h"

struct place {
    struct rough_server *server, *other; /* other: answers OK */
    struct transfer *transfer;
    const char *hosts[2];
    char *host, *other_host;
    atomic_bool canceled;
    struct transfer_config config;
    struct transfer_answer answer;
    struct error *error;
};

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"

static int set_up(void **state) {
    struct place *place = mem_new(struct place);
    static const struct rough_answer fine[] = {{.bytes = OK}};
    place->other = rough_server_start(fine, 1, 0);
    place->config = (struct transfer_config){.class = ERROR_EXTERNAL_SERVICE,
                                             .hosts = place->hosts,
                                             .host_count = 2,
                                             .connect_timeout_ms = 5000,
                                             .stall_timeout_ms = 5000,
                                             .attempts = 3,
                                             .parallel = 1,
                                             .canceled = &place->canceled};
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    transfer_answer_clear(&place->answer);
    error_free(place->error);
    transfer_close(place->transfer);
    rough_server_stop(place->server);
    rough_server_stop(place->other);
    free(place->host);
    free(place->other_host);
    free(place);
    return 0;
}

static char *serve(struct place *place, const struct rough_answer *answers, size_t count) {
    place->server = rough_server_start(answers, count, rough_server_port(place->other));
    place->host = text_format("127.0.0.1:%d", rough_server_port(place->server));
    place->other_host = text_format("127.0.0.1:%d", rough_server_port(place->other));
    place->hosts[0] = place->host;
    place->hosts[1] = place->other_host;
    assert_int_equal(transfer_open(&place->config, &place->transfer, &place->error), 0);
    return text_format("http://%s/thing", place->host);
}

static int ask(struct place *place, const struct transfer_request *request) {
    return transfer_perform(place->transfer, request, &place->answer, &place->error);
}

static void expect_answer(struct place *place, int result, const char *body) {
    _cleanup_free_ char *text = place->error ? error_text(place->error) : NULL;
    if (result < 0) fail_msg("%s", text);
    assert_int_equal(place->answer.status, 200);
    assert_string_equal(place->answer.body, body);
}

static void expect_error(struct place *place, int result, bool transient, const char *part) {
    assert_int_equal(result, -ERROR_EXTERNAL_SERVICE);
    _cleanup_free_ char *text = error_text(place->error);
    if (!strstr(text, part) || place->error->transient != transient)
        fail_msg("%s (transient: %d)", text, place->error->transient);
}

static void a_server_that_is_busy_or_breaks_off_is_asked_again(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {
        {.bytes = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"},
        {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf"},
        {.bytes = OK},
    };
    _cleanup_free_ char *url = serve(place, answers, ARRAY_SIZE(answers));
    expect_answer(place, ask(place, &(struct transfer_request){.url = url}), "OK");
    assert_int_equal(rough_server_count(place->server), 3);
}

static void the_last_words_of_a_server_that_stays_busy_are_told(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {
        {.bytes = "HTTP/1.1 500 Oops\r\nContent-Length: 22\r\n\r\n{\"message\":\"no disk\"}\n"}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    expect_error(place, ask(place, &(struct transfer_request){.url = url}), true, "500 from the server: no disk");
    assert_int_equal(rough_server_count(place->server), 3);
}

static void a_refusal_is_an_answer_and_is_not_asked_again(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {
        {.bytes = "HTTP/1.1 404 No\r\nX-Reason: none \r\nContent-Length: 9\r\n\r\nnot there"}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    assert_int_equal(ask(place, &(struct transfer_request){.url = url}), 0);
    assert_int_equal(place->answer.status, 404);
    _cleanup_free_ char *reason = transfer_answer_header(&place->answer, "x-reason");
    assert_string_equal(reason, "none");
    assert_int_equal(rough_server_count(place->server), 1);
    int result = transfer_fail_answer(place->transfer, &place->answer, &place->error);
    expect_error(place, result, false, "404 from the server: not there");
}

static void a_server_that_wants_a_pause_beyond_the_deadline_is_not_waited_for(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {
        {.bytes = "HTTP/1.1 429 Slow down\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n"}};
    place->config.deadline_ms = clock_monotonic_ms() + 60000;
    _cleanup_free_ char *url = serve(place, answers, 1);
    expect_error(place, ask(place, &(struct transfer_request){.url = url}), true, "429");
    assert_int_equal(rough_server_count(place->server), 1);
}

static void a_pause_that_a_server_asks_for_is_kept_within_reason(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {
        {.bytes = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"},
        {.bytes = OK},
        {.bytes = "HTTP/1.1 503 Busy\r\nRetry-After: 301\r\nContent-Length: 0\r\n\r\n"}};
    _cleanup_free_ char *url = serve(place, answers, ARRAY_SIZE(answers));
    uint64_t begun_ms = clock_monotonic_ms();
    expect_answer(place, ask(place, &(struct transfer_request){.url = url}), "OK");
    assert_true(clock_monotonic_ms() - begun_ms >= 1000);
    expect_error(place, ask(place, &(struct transfer_request){.url = url}), true, "503");
    assert_int_equal(rough_server_count(place->server), 3);
}

static void what_counts_twice_is_not_sent_twice(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = NULL}, {.bytes = OK}};
    _cleanup_free_ char *url = serve(place, answers, ARRAY_SIZE(answers));
    struct transfer_request request = {
        .method = "POST", .url = url, .body = "order", .body_size = 5, .only_once = true};
    assert_int_equal(ask(place, &request), -ERROR_EXTERNAL_SERVICE);
    assert_int_equal(rough_server_count(place->server), 1);
}

/* ---- bodies ---- */

static int read_letters(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                        struct error **ret_error) {
    (void)ret_error;
    ++*(unsigned *)context;
    *ret_size = size < 1000 ? size : 1000;
    for (size_t i = 0; i < *ret_size; i++) bytes[i] = (char)('a' + (offset + i) % 26);
    return 0;
}

static void a_streamed_body_is_read_again_for_the_next_try(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = "HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n"},
                                                  {.bytes = OK}};
    _cleanup_free_ char *url = serve(place, answers, ARRAY_SIZE(answers));
    unsigned calls = 0;
    struct transfer_request request = {
        .method = "PUT", .url = url, .body_size = 100000, .read = read_letters, .read_context = &calls};
    expect_answer(place, ask(place, &request), "OK");
    assert_true(calls >= 200);
    const char *sent = rough_server_request(place->server, 1);
    assert_non_null(strstr(sent, "PUT /thing HTTP/1.1\r\n"));
    assert_non_null(strstr(sent, "Content-Length: 100000\r\n"));
    const char *body = strstr(sent, "\r\n\r\n") + 4;
    assert_int_equal(strlen(body), 100000);
    for (size_t i = 0; i < 100000; i += 333) assert_int_equal(body[i], 'a' + i % 26);
}

static int fail_to_read(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                        struct error **ret_error) {
    (void)context, (void)offset, (void)bytes, (void)size, (void)ret_size;
    return error_set(ret_error, ERROR_EXTERNAL_SERVICE, "the source is gone");
}

static void a_body_that_cannot_be_read_ends_the_request_with_its_cause(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = OK}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    struct transfer_request request = {.method = "PUT", .url = url, .body_size = 10, .read = fail_to_read};
    expect_error(place, ask(place, &request), false, "the source is gone");
}

static void an_answer_has_a_ceiling(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    struct transfer_request request = {.url = url, .answer_maximum = 9};
    expect_error(place, ask(place, &request), false, "longer than the 9 bytes");
    assert_int_equal(rough_server_count(place->server), 1);
    error_free(TAKE(place->error));
    request.answer_maximum = 10;
    expect_answer(place, ask(place, &request), "0123456789");
    transfer_answer_clear(&place->answer);
    request.answer_maximum = 4;
    request.cut = true;
    expect_answer(place, ask(place, &request), "0123");
}

static void a_head_has_a_ceiling(void **state) {
    struct place *place = *state;
    size_t size = 400000;
    _cleanup_free_ char *head = mem_alloc(size);
    memset(head, 'x', size);
    static const char start[] = "HTTP/1.1 200 OK\r\n";
    memcpy(head, start, strlen(start));
    for (size_t i = 1000; i < size; i += 1000) memcpy(head + i, "\r\nX-F: ", 7);
    struct rough_answer answers[] = {{.bytes = head, .size = size}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    assert_int_equal(ask(place, &(struct transfer_request){.url = url}), -ERROR_EXTERNAL_SERVICE);
}

/* ---- redirects ---- */

#define TO_OTHER(status)                                                                                               \
    "HTTP/1.1 " status " Moved\r\nLocation: http://127.0.0.1:PORT/there\r\nContent-Length: 0\r\n\r\n"

static void credentials_stay_at_the_origin_that_they_were_given_for(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = TO_OTHER("307")}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    static const char *const headers[] = {"Authorization: Other secret", "Cookie: secret", "X-Amz-Secret: secret",
                                          "X-Plain: yes"};
    struct transfer_request request = {.url = url,
                                       .headers = headers,
                                       .header_count = ARRAY_SIZE(headers),
                                       .credentials = {.kind = TRANSFER_BASIC, .user = "u", .secret = "secret"}};
    expect_answer(place, ask(place, &request), "OK");
    const char *first = rough_server_request(place->server, 0), *second = rough_server_request(place->other, 0);
    assert_non_null(strstr(first, "secret"));
    assert_null(strstr(second, "secret"));
    assert_null(strcasestr(second, "authorization"));
    assert_non_null(strstr(second, "X-Plain: yes"));
    assert_non_null(strstr(place->answer.url, "/there"));
}

static void credentials_are_sent_as_their_kind_says(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = OK}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    static const struct {
        struct transfer_credentials credentials;
        const char *parts[3];
    } cases[] = {
        {{.kind = TRANSFER_BASIC, .user = "Aladdin", .secret = "open sesame"},
         {"Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"}}, /* RFC 7617, 2 */
        {{.kind = TRANSFER_BEARER, .secret = "abc"}, {"Authorization: Bearer abc\r\n"}},
        {{.kind = TRANSFER_AWS, .user = "AKID", .secret = "hidden", .region = "eu-west-1", .session_token = "tok"},
         {"Authorization: AWS4-HMAC-SHA256 Credential=AKID/", "x-amz-security-token: tok\r\n",
          /* of nothing */
          "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n"}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct transfer_request request = {.url = url, .credentials = cases[i].credentials};
        expect_answer(place, ask(place, &request), "OK");
        transfer_answer_clear(&place->answer);
        const char *sent = rough_server_request(place->server, i);
        for (size_t part = 0; part < 3 && cases[i].parts[part]; part++)
            if (!strstr(sent, cases[i].parts[part])) fail_msg("%s", sent);
        assert_null(strstr(sent, "hidden"));
    }
}

static void a_redirect_keeps_method_and_body_unless_it_says_see_other(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = TO_OTHER("308")}, {.bytes = TO_OTHER("303")}};
    _cleanup_free_ char *url = serve(place, answers, ARRAY_SIZE(answers));
    struct transfer_request request = {.method = "POST", .url = url, .body = "order", .body_size = 5};
    expect_answer(place, ask(place, &request), "OK");
    transfer_answer_clear(&place->answer);
    expect_answer(place, ask(place, &request), "OK");
    assert_true(text_starts_with(rough_server_request(place->other, 0), "POST /there "));
    assert_true(text_ends_with(rough_server_request(place->other, 0), "\r\n\r\norder"));
    assert_true(text_starts_with(rough_server_request(place->other, 1), "GET /there "));
    assert_true(text_ends_with(rough_server_request(place->other, 1), "\r\n\r\n"));
}

static void a_redirect_can_be_the_answer(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = TO_OTHER("307")}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    assert_int_equal(ask(place, &(struct transfer_request){.url = url, .keep_redirect = true}), 0);
    assert_int_equal(place->answer.status, 307);
    assert_int_equal(rough_server_count(place->other), 0);
}

static void a_redirect_to_a_host_that_is_not_allowed_is_final(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = TO_OTHER("302")}};
    place->config.host_count = 1;
    _cleanup_free_ char *url = serve(place, answers, 1);
    expect_error(place, ask(place, &(struct transfer_request){.url = url}), false, "not among those");
    assert_int_equal(rough_server_count(place->other), 0);
}

static void a_metadata_address_is_refused_also_where_its_host_is_allowed(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {
        {.bytes = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    place->hosts[1] = "169.254.169.254";
    expect_error(place, ask(place, &(struct transfer_request){.url = url}), false, "169.254.169.254");
    assert_int_equal(rough_server_count(place->server), 1);
    error_free(TAKE(place->error));
    place->hosts[1] = "[::ffff:a9fe:a9fe]";
    struct transfer_request request = {.url = "http://[::ffff:a9fe:a9fe]/latest"};
    expect_error(place, ask(place, &request), false, "not one that may be connected to");
}

static void redirects_have_an_end(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {
        {.bytes = "HTTP/1.1 302 Found\r\nLocation: /thing\r\nContent-Length: 0\r\n\r\n"}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    expect_error(place, ask(place, &(struct transfer_request){.url = url}), false, "more than 5 times");
    assert_int_equal(rough_server_count(place->server), 6);
}

/* ---- clocks, proxies ---- */

static void silence_breaks_a_connection_and_is_worth_another_try(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = NULL, .hangs = true}, {.bytes = OK}};
    place->config.stall_timeout_ms = 100;
    _cleanup_free_ char *url = serve(place, answers, ARRAY_SIZE(answers));
    expect_answer(place, ask(place, &(struct transfer_request){.url = url}), "OK");
}

static void a_deadline_ends_the_wait(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = NULL, .hangs = true}};
    place->config.deadline_ms = clock_monotonic_ms() + 200;
    _cleanup_free_ char *url = serve(place, answers, 1);
    expect_error(place, ask(place, &(struct transfer_request){.url = url}), true, "deadline");
}

static void what_is_canceled_ends(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = OK}};
    _cleanup_free_ char *url = serve(place, answers, 1);
    atomic_store(&place->canceled, true);
    assert_int_equal(ask(place, &(struct transfer_request){.url = url}), -ERROR_UNAVAILABLE);
    assert_string_equal(place->error->message, "canceled");
}

static void the_proxies_of_the_environment_are_not_used(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = OK}};
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    _cleanup_free_ char *url = serve(place, answers, 1);
    int result = ask(place, &(struct transfer_request){.url = url});
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    expect_answer(place, result, "OK");
}

static void a_url_with_a_password_or_another_host_is_not_asked(void **state) {
    struct place *place = *state;
    static const struct rough_answer answers[] = {{.bytes = OK}};
    free(serve(place, answers, 1));
    _cleanup_free_ char *with_password = text_format("http://user:hidden@%s/thing", place->host);
    int result = ask(place, &(struct transfer_request){.url = with_password});
    expect_error(place, result, false, "user or password");
    _cleanup_free_ char *text = error_text(place->error);
    assert_null(strstr(text, "hidden"));
    error_free(TAKE(place->error));
    expect_error(place, ask(place, &(struct transfer_request){.url = "http://127.0.0.1:1/"}), false, "not among those");
    assert_int_equal(rough_server_count(place->server), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_server_that_is_busy_or_breaks_off_is_asked_again),
        CASE(the_last_words_of_a_server_that_stays_busy_are_told),
        CASE(a_refusal_is_an_answer_and_is_not_asked_again),
        CASE(a_server_that_wants_a_pause_beyond_the_deadline_is_not_waited_for),
        CASE(a_pause_that_a_server_asks_for_is_kept_within_reason),
        CASE(what_counts_twice_is_not_sent_twice),
        CASE(a_streamed_body_is_read_again_for_the_next_try),
        CASE(a_body_that_cannot_be_read_ends_the_request_with_its_cause),
        CASE(an_answer_has_a_ceiling),
        CASE(a_head_has_a_ceiling),
        CASE(credentials_stay_at_the_origin_that_they_were_given_for),
        CASE(credentials_are_sent_as_their_kind_says),
        CASE(a_redirect_keeps_method_and_body_unless_it_says_see_other),
        CASE(a_redirect_can_be_the_answer),
        CASE(a_redirect_to_a_host_that_is_not_allowed_is_final),
        CASE(a_metadata_address_is_refused_also_where_its_host_is_allowed),
        CASE(redirects_have_an_end),
        CASE(silence_breaks_a_connection_and_is_worth_another_try),
        CASE(a_deadline_ends_the_wait),
        CASE(what_is_canceled_ends),
        CASE(the_proxies_of_the_environment_are_not_used),
        CASE(a_url_with_a_password_or_another_host_is_not_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
