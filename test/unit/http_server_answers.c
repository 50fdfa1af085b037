/* What handlers have at hand: paths and parameters, answers whole and streamed, errors as problem documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "support/http_fixture.h"

static int start(void **state) {
    struct http_fixture *fixture = calloc(1, sizeof *fixture);
    http_fixture_start(fixture, &http_fixture_limits);
    *state = fixture;
    return 0;
}

static int stop(void **state) {
    http_fixture_stop(*state);
    free(*state);
    return 0;
}

/* A request that the test holds, on a connection that will be closed after its answer. */
static struct http_request *hold(struct http_fixture *fixture, const char *target, int *ret_descriptor) {
    char request[2000];
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nHost: a\r\nX-Twice: one\r\nConnection: close\r\nx-twice: two\r\n\r\n", target);
    *ret_descriptor = http_raw_connect(fixture);
    fixture->held = NULL;
    http_raw_say(fixture, *ret_descriptor, request);
    http_fixture_wait(fixture, fixture->held);
    return fixture->held;
}

static char *finish(struct http_fixture *fixture, int descriptor) {
    char *answer = http_raw_read_all(fixture, descriptor, NULL);
    close(descriptor);
    return answer;
}

static void let_go(struct http_fixture *fixture, struct http_request *request, int descriptor) {
    http_respond_json(request, 200, "{}", 2);
    free(finish(fixture, descriptor));
}

/* ---- requests ------------------------------------------------------------ */

static void a_target_has_a_path_and_a_query(void **state) {
    int descriptor;
    struct http_request *request = hold(*state, "/hold?a=1&b=?", &descriptor);
    assert_string_equal(request->method, "GET");
    assert_string_equal(request->target, "/hold?a=1&b=?");
    assert_string_equal(request->path, "/hold");
    assert_string_equal(request->query, "a=1&b=?");
    assert_false(request->has_body);
    assert_string_equal(http_request_header(request, "X-TWICE"), "one");
    assert_null(http_request_header(request, "Missing"));
    let_go(*state, request, descriptor);
}

/* /hold is the path that the fixture keeps; what is taken apart is put there by the test, as a handler would see it. */
static void expect_segments(void **state, const char *path, int wanted, const char *const *segments) {
    int descriptor;
    const char *found[4];
    struct http_request *request = hold(*state, "/hold", &descriptor);
    request->path = path;
    int count = http_request_segments(request, found, 4);
    if (count != wanted) fail_msg("%s: %d segments, but %d", path, wanted, count);
    for (int i = 0; i < count; i++) assert_string_equal(found[i], segments[i]);
    let_go(*state, request, descriptor);
}

static void a_path_is_split_and_decoded(void **state) {
    expect_segments(state, "/", 0, NULL);
    expect_segments(state, "/a", 1, (const char *const[]){"a"});
    expect_segments(state, "/a/", 1, (const char *const[]){"a"});
    expect_segments(state, "/v1/de%20pl/%C3%A4", 3, (const char *const[]){"v1", "de pl", "ä"});
    expect_segments(state, "/a%2Fb/%2e%2E", 2, (const char *const[]){"a/b", ".."});
    expect_segments(state, "/a+b", 1, (const char *const[]){"a+b"});
    expect_segments(state, "/a/b/c/d", 4, (const char *const[]){"a", "b", "c", "d"});
}

static void a_malformed_path_has_no_segments(void **state) {
    static const char *const paths[] = {"*",    "//",   "/a//b", "/%",   "/%4",       "/%4/a",
                                        "/%zz", "/%00", "/%ff",  "/%c3", "/a/b/c/d/e"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) expect_segments(state, paths[i], -1, NULL);
}

static void a_long_path_is_split_too(void **state) {
    char target[1500] = "/hold";
    memset(target + 5, '/', 1);
    memset(target + 6, 'x', 1400);
    expect_segments(state, target, 2, (const char *const[]){"hold", target + 6});
}

static void parameters_are_decoded(void **state) {
    int descriptor;
    struct http_request *request =
        hold(*state, "/hold?a=1&&na%6De=%C3%A4+b&flag&empty=&bad=%zz&a=2&eq=x=y", &descriptor);
    assert_string_equal(http_request_parameter(request, "a"), "1");
    assert_string_equal(http_request_parameter(request, "name"), "ä b");
    assert_string_equal(http_request_parameter(request, "flag"), "");
    assert_string_equal(http_request_parameter(request, "empty"), "");
    assert_string_equal(http_request_parameter(request, "eq"), "x=y");
    assert_null(http_request_parameter(request, "bad"));
    assert_null(http_request_parameter(request, "missing"));
    let_go(*state, request, descriptor);
}

static void expect_parameters(void **state, const char *query, const char *part) {
    static const char *const known[] = {"limit", "offset"};
    int descriptor;
    char target[200];
    snprintf(target, sizeof target, "/hold?%s", query);
    struct http_request *request = hold(*state, target, &descriptor);
    struct error *error = NULL;
    int result = http_check_parameters(request, known, 2, &error);
    assert_int_equal(result, part ? -(int)ERROR_CONFIGURATION : 0);
    if (part && !strstr(error->message, part)) fail_msg("\"%s\" wanted: %s", part, error->message);
    error_free(error);
    let_go(*state, request, descriptor);
}

static void unknown_double_and_malformed_parameters_are_named(void **state) {
    expect_parameters(state, "", NULL);
    expect_parameters(state, "limit=1&offset=2", NULL);
    expect_parameters(state, "limt=1", "limt is not known here; did you mean limit?");
    expect_parameters(state, "limit=1&l%69mit=2", "limit stands twice");
    expect_parameters(state, "limit=%zz", "the value of the query parameter limit");
    expect_parameters(state, "%ff=1", "name");
}

/* ---- answers ------------------------------------------------------------- */

static void headers_cannot_inject(void **state) {
    int descriptor;
    struct http_request *request = hold(*state, "/hold", &descriptor);
    const struct http_header headers[] = {{"X-Value", "a\r\nSet-Cookie: b\n\x01"},
                                          {"X-Name\r\nSet-Cookie", "c"},
                                          {"Content-Length", "99"},
                                          {"Transfer-Encoding", "chunked"},
                                          {"Connection", "keep-alive"},
                                          {"Date", "yesterday"},
                                          {"Server", "another"}};
    http_respond(request, 200, headers, 7, "body", 4, NULL);
    char *answer = finish(*state, descriptor);
    assert_string_equal(answer,
                        "HTTP/1.1 200 OK\r\nX-Value: a  Set-Cookie: b  \r\nDate: yesterday\r\nServer: another\r\n"
                        "Content-Length: 4\r\nConnection: close\r\n\r\nbody");
    free(answer);
}

static unsigned bodies_freed;
static void free_body(void *body) {
    bodies_freed++;
    free(body);
}

static void a_lent_body_is_freed_once_it_is_written(void **state) {
    int descriptor;
    size_t size = 8000000;
    struct http_request *request = hold(*state, "/hold", &descriptor);
    bodies_freed = 0;
    http_respond(request, 200, NULL, 0, calloc(1, size), size, free_body);
    assert_int_equal(bodies_freed, 0); /* the kernel does not take so much */
    size_t received;
    char *answer = http_raw_read_all(*state, descriptor, &received);
    assert_int_equal(bodies_freed, 1);
    assert_int_equal(received - (size_t)(strstr(answer, "\r\n\r\n") + 4 - answer), size);
    free(answer);
    close(descriptor);
}

static void a_lent_body_is_freed_when_the_client_is_gone(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor;
    struct http_request *request = hold(fixture, "/hold", &descriptor);
    bodies_freed = 0;
    close(descriptor);
    http_fixture_wait(fixture, fixture->gone);
    http_respond(request, 200, NULL, 0, calloc(1, 8000000), 8000000, free_body);
    http_fixture_wait(fixture, bodies_freed == 1);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
}

static void a_streamed_answer_is_chunked(void **state) {
    int descriptor;
    struct http_request *request = hold(*state, "/hold", &descriptor);
    assert_false(http_has_begun(request));
    http_begin(request, 202, NULL, 0, -1);
    assert_true(http_has_begun(request));
    assert_true(http_send(request, "hello", 5));
    assert_true(http_send(request, "", 0));
    assert_true(http_send(request, "0123456789abcdef", 16));
    http_end(request);
    char *answer = finish(*state, descriptor);
    assert_int_equal(http_raw_status(answer), 202);
    assert_non_null(strstr(answer, "Transfer-Encoding: chunked\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
    free(answer);
}

static void the_head_leaves_though_no_body_follows_yet(void **state) {
    int descriptor;
    struct http_request *request = hold(*state, "/hold", &descriptor);
    http_begin(request, 200, NULL, 0, -1);
    free(http_raw_read_until(*state, descriptor, "\r\n\r\n"));
    http_end(request);
    char *rest = finish(*state, descriptor);
    assert_string_equal(rest, "0\r\n\r\n");
    free(rest);
}

static void a_slow_reader_holds_the_sender_back(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /big?size=40000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    http_fixture_wait(fixture, fixture->full);
    for (int i = 0; i < 50; i++) http_fixture_turn(fixture);
    assert_true(fixture->to_send > 10000000); /* what the reader does not take is not made */
    assert_int_equal(fixture->writable, 0);
    size_t size;
    free(http_raw_read_all(fixture, descriptor, &size));
    assert_true(size > 40000000);
    assert_true(fixture->writable > 0);
    close(descriptor);
}

static void a_paused_body_holds_the_client_back(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    static char body[1 << 20];
    http_raw_say(fixture, descriptor, "POST /paused HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n");
    size_t sent = 0;
    for (int idle = 0; idle < 50 && sent < sizeof body;) {
        ssize_t size = send(descriptor, body + sent, sizeof body - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size > 0) sent += (size_t)size;
        idle = size > 0 ? 0 : idle + 1;
        http_fixture_turn(fixture);
    }
    assert_int_equal(fixture->body_received, 0);
    http_resume_body(fixture->held);
    http_raw_send(fixture, descriptor, body, sizeof body - sent);
    http_fixture_wait(fixture, fixture->body_ends);
    assert_int_equal(fixture->body_received, sizeof body);
    http_respond_json(fixture->held, 200, "{}", 2);
    char *answer = http_raw_read_answer(fixture, descriptor);
    assert_int_equal(http_raw_status(answer), 200);
    free(answer);
    close(descriptor);
}

static void a_broken_answer_is_seen_to_be_incomplete(void **state) {
    int descriptor;
    struct http_request *request = hold(*state, "/hold", &descriptor);
    http_begin(request, 200, NULL, 0, -1);
    http_send(request, "hello", 5);
    http_break(request);
    char *answer = finish(*state, descriptor);
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n5\r\nhello\r\n");
    free(answer);
}

static void a_broken_answer_resets_an_http_1_0_client(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.0\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    http_begin(fixture->held, 200, NULL, 0, -1);
    http_send(fixture->held, "hello", 5);
    http_break(fixture->held);
    char *answer = finish(fixture, descriptor);
    assert_non_null(strstr(answer, "<reset>"));
    free(answer);
}

static void more_or_less_than_announced_breaks_the_connection(void **state) {
    for (int64_t announced = 4; announced <= 6; announced += 2) {
        int descriptor;
        struct http_request *request = hold(*state, "/hold", &descriptor);
        http_begin(request, 200, NULL, 0, announced);
        http_send(request, "hello", 5);
        http_end(request);
        char *answer = finish(*state, descriptor);
        const char *body = strstr(answer, "\r\n\r\n");
        assert_true(!body || strlen(body + 4) < (size_t)announced);
        free(answer);
    }
}

static void statuses_without_a_body_have_none(void **state) {
    static const int statuses[] = {204, 304};
    for (size_t i = 0; i < 2; i++) {
        int descriptor;
        struct http_request *request = hold(*state, "/hold", &descriptor);
        http_respond(request, statuses[i], NULL, 0, "surprise", i ? 8 : 0, NULL);
        char *answer = finish(*state, descriptor);
        assert_int_equal(http_raw_status(answer), statuses[i]);
        assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
        assert_true(!strstr(answer, "Content-Length") == (statuses[i] == 204));
        free(answer);
    }
}

/* ---- errors -------------------------------------------------------------- */

static yyjson_doc *respond_error(void **state, const struct error *error, char **ret_answer) {
    int descriptor;
    struct http_request *request = hold(*state, "/hold", &descriptor);
    http_respond_error(request, error);
    *ret_answer = finish(*state, descriptor);
    const char *body = strstr(*ret_answer, "\r\n\r\n") + 4;
    yyjson_doc *document = yyjson_read(body, strlen(body), 0);
    assert_non_null(document);
    return document;
}

static const char *text_at(yyjson_doc *document, const char *key) {
    return yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(document), key));
}

static void an_error_is_a_problem_document(void **state) {
    struct error *error = NULL;
    char *answer;
    error_set(&error, ERROR_CONFLICT, "the name is taken");
    error_wrap(&error, "deploy \"minilm\"");
    yyjson_doc *document = respond_error(state, error, &answer);
    assert_int_equal(http_raw_status(answer), 409);
    assert_non_null(strstr(answer, "Content-Type: application/problem+json\r\n"));
    assert_null(strstr(answer, "Retry-After"));
    assert_string_equal(text_at(document, "type"), "about:blank");
    assert_string_equal(text_at(document, "title"), "Conflict");
    assert_string_equal(text_at(document, "detail"), "deploy \"minilm\": the name is taken");
    assert_string_equal(text_at(document, "error"), "ConflictError");
    yyjson_val *root = yyjson_doc_get_root(document), *causes = yyjson_obj_get(root, "causes");
    assert_int_equal(yyjson_get_int(yyjson_obj_get(root, "status")), 409);
    assert_int_equal(yyjson_arr_size(causes), 2);
    assert_string_equal(yyjson_get_str(yyjson_arr_get(causes, 0)), "deploy \"minilm\"");
    assert_string_equal(yyjson_get_str(yyjson_arr_get(causes, 1)), "the name is taken");
    yyjson_doc_free(document);
    error_free(error);
    free(answer);
}

static void where_waiting_helps_the_answer_says_so(void **state) {
    static const int statuses[] = {429, 503};
    for (size_t i = 0; i < 2; i++) {
        struct error *error = NULL;
        char *answer;
        error_set_status(&error, ERROR_UNAVAILABLE, statuses[i], "busy");
        yyjson_doc_free(respond_error(state, error, &answer));
        assert_int_equal(http_raw_status(answer), statuses[i]);
        assert_non_null(strstr(answer, "Retry-After: 1\r\n"));
        error_free(error);
        free(answer);
    }
}

static void an_error_that_quotes_broken_bytes_is_json_all_the_same(void **state) {
    struct error *error = NULL;
    char *answer;
    error_set(&error, ERROR_CONFIGURATION, "the name \xff\xfe is no name\n");
    yyjson_doc *document = respond_error(state, error, &answer);
    assert_string_equal(text_at(document, "detail"), "the name ?? is no name\n");
    yyjson_doc_free(document);
    error_free(error);
    free(answer);
}

/* ---- headers ------------------------------------------------------------- */

static void hop_by_hop_headers_are_known(void **state) {
    (void)state;
    assert_true(http_header_is_hop_by_hop("connection"));
    assert_true(http_header_is_hop_by_hop("Transfer-Encoding"));
    assert_true(http_header_is_hop_by_hop("Upgrade"));
    assert_true(http_header_is_hop_by_hop("Proxy-Authorization"));
    assert_false(http_header_is_hop_by_hop("Content-Length"));
    assert_false(http_header_is_hop_by_hop("Authorization"));
    assert_false(http_header_is_hop_by_hop("TEX"));
}

static void what_connection_names_is_found(void **state) {
    (void)state;
    const struct http_header headers[] = {
        {"Connection", "close, X-Internal"}, {"connection", "\tx-two ,"}, {"X", "x-three"}};
    assert_true(http_connection_names(headers, 3, "x-internal"));
    assert_true(http_connection_names(headers, 3, "X-Two"));
    assert_true(http_connection_names(headers, 3, "close"));
    assert_false(http_connection_names(headers, 3, "x-three"));
    assert_false(http_connection_names(headers, 3, "X-Inter"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_target_has_a_path_and_a_query),
        TEST(a_path_is_split_and_decoded),
        TEST(a_malformed_path_has_no_segments),
        TEST(a_long_path_is_split_too),
        TEST(parameters_are_decoded),
        TEST(unknown_double_and_malformed_parameters_are_named),
        TEST(headers_cannot_inject),
        TEST(a_lent_body_is_freed_once_it_is_written),
        TEST(a_lent_body_is_freed_when_the_client_is_gone),
        TEST(a_streamed_answer_is_chunked),
        TEST(the_head_leaves_though_no_body_follows_yet),
        TEST(a_slow_reader_holds_the_sender_back),
        TEST(a_paused_body_holds_the_client_back),
        TEST(a_broken_answer_is_seen_to_be_incomplete),
        TEST(a_broken_answer_resets_an_http_1_0_client),
        TEST(more_or_less_than_announced_breaks_the_connection),
        TEST(statuses_without_a_body_have_none),
        TEST(an_error_is_a_problem_document),
        TEST(where_waiting_helps_the_answer_says_so),
        TEST(an_error_that_quotes_broken_bytes_is_json_all_the_same),
        cmocka_unit_test(hop_by_hop_headers_are_known),
        cmocka_unit_test(what_connection_names_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
