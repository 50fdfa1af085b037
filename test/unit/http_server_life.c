/* The life of connections: keep-alive, pipelining, timeouts, clients that go away, ceilings, drain. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/http_fixture.h"

#define GET_HELLO "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
#define HELLO "{\"hello\":true}"

static struct http_fixture *start_with(const struct http_limits *limits) {
    struct http_fixture *fixture = calloc(1, sizeof *fixture);
    http_fixture_start(fixture, limits);
    return fixture;
}

static int start(void **state) {
    *state = start_with(&http_fixture_limits);
    return 0;
}

static int start_hasty(void **state) { /* every time-out is short */
    struct http_limits limits = http_fixture_limits;
    limits.header_timeout_ms = limits.body_timeout_ms = limits.idle_timeout_ms = 80;
    *state = start_with(&limits);
    return 0;
}

static int start_narrow(void **state) {
    struct http_limits limits = http_fixture_limits;
    limits.connections_maximum = 2;
    *state = start_with(&limits);
    return 0;
}

static int stop(void **state) {
    http_fixture_stop(*state);
    free(*state);
    return 0;
}

static void count_drained(void *context) {
    ((struct http_fixture *)context)->drained++;
}

static size_t occurrences(const char *text, const char *of) {
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, of)); at += strlen(of)) count++;
    return count;
}

static void expect_answer(struct http_fixture *fixture, int descriptor, int status, const char *part) {
    char *answer = http_raw_read_answer(fixture, descriptor);
    if (http_raw_status(answer) != status || !strstr(answer, part))
        fail_msg("%d and %s wanted: %s", status, part, answer);
    free(answer);
}

static void expect_end(struct http_fixture *fixture, int descriptor) {
    size_t size;
    char *rest = http_raw_read_all(fixture, descriptor, &size);
    if (size) fail_msg("nothing but the end wanted: %s", rest);
    free(rest);
    close(descriptor);
}

/* ---- keep-alive and pipelining ------------------------------------------- */

static void a_connection_serves_many_requests(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    for (int i = 0; i < 50; i++) {
        http_raw_say(fixture, descriptor, GET_HELLO);
        expect_answer(fixture, descriptor, 200, HELLO);
        http_raw_say(fixture, descriptor, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde");
        expect_answer(fixture, descriptor, 200, "\r\n\r\nabcde");
    }
    assert_int_equal(http_server_connections(fixture->server), 1);
    close(descriptor);
}

static void pipelined_requests_are_answered_in_order(void **state) {
    struct http_fixture *fixture = *state;
    static const char requests[] = GET_HELLO "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
                                             "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                                             "2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
                                             "POST /echo HTTP/1.0\r\nContent-Length: 3\r\n\r\nghi";
    char *answer = http_raw_ask(fixture, requests, sizeof requests - 1);
    assert_int_equal(occurrences(answer, "HTTP/1.1 200"), 4);
    const char *first = strstr(answer, HELLO), *second = strstr(answer, "\r\n\r\nabcHTTP"),
               *third = strstr(answer, "\r\n\r\ndefHTTP"), *last = strstr(answer, "\r\n\r\nghi");
    assert_true(first && second && third && last && first < second && second < third && third < last);
    free(answer);
}

static void a_pipelined_request_waits_for_the_answer_before_it(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n" GET_HELLO);
    http_fixture_wait(fixture, fixture->held);
    for (int i = 0; i < 20; i++) http_fixture_turn(fixture);
    assert_int_equal(fixture->heads, 1);
    http_respond_json(fixture->held, 200, "\"held\"", 6);
    assert_int_equal(fixture->heads, 1); /* no callback from inside the answering call */
    char *answer = http_raw_read_until(fixture, descriptor, HELLO);
    assert_true(strstr(answer, "\"held\"") < strstr(answer, HELLO));
    free(answer);
    close(descriptor);
}

static void a_flood_of_pipelined_requests_is_not_read_while_one_is_pending(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    static const char request[] = GET_HELLO;
    size_t sent = 0, accepted = 0;
    for (int idle = 0; idle < 200;) { /* until the kernel takes no more */
        size_t rest = sizeof request - 1 - sent % (sizeof request - 1);
        ssize_t size = send(descriptor, request + sent % (sizeof request - 1), rest, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (size > 0) sent += (size_t)size;
        idle = size > 0 ? 0 : idle + 1;
        if (size <= 0) http_fixture_turn(fixture);
        assert_true(sent < 100000000); /* it would take everything */
    }
    accepted = sent;
    assert_int_equal(fixture->heads, 1);
    http_respond_json(fixture->held, 200, "{}", 2);
    char *answer = http_raw_read_until(fixture, descriptor, HELLO);
    assert_true(accepted > 0);
    free(answer);
    close(descriptor);
}

static void connection_close_is_honoured(void **state) {
    struct http_fixture *fixture = *state;
    static const char request[] = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" GET_HELLO;
    char *answer = http_raw_ask(fixture, request, sizeof request - 1);
    assert_int_equal(occurrences(answer, HELLO), 1);
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    assert_null(strstr(answer, "<reset>"));
    free(answer);
}

static void http_1_0_needs_no_host_and_closes(void **state) {
    struct http_fixture *fixture = *state;
    static const char request[] = "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    char *answer = http_raw_ask(fixture, request, sizeof request - 1);
    assert_int_equal(http_raw_status(answer), 200);
    assert_non_null(strstr(answer, HELLO));
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    free(answer);
}

static void http_1_0_gets_no_chunks(void **state) {
    struct http_fixture *fixture = *state;
    static const char request[] = "GET /big?size=50000 HTTP/1.0\r\n\r\n";
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, request);
    size_t size;
    char *answer = http_raw_read_all(fixture, descriptor, &size);
    assert_null(strstr(answer, "Transfer-Encoding"));
    assert_null(strstr(answer, "Content-Length"));
    assert_int_equal(size - (size_t)(strstr(answer, "\r\n\r\n") + 4 - answer), 50000);
    free(answer);
    close(descriptor);
}

static void head_gets_the_head_alone(void **state) {
    struct http_fixture *fixture = *state;
    static const char request[] = "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n"
                                  "HEAD /big?size=1000 HTTP/1.1\r\nHost: a\r\n\r\n"
                                  "HEAD /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    char *answer = http_raw_ask(fixture, request, sizeof request - 1);
    assert_int_equal(occurrences(answer, "HTTP/1.1 200 OK\r\n"), 3);
    assert_int_equal(occurrences(answer, "Content-Length: 14\r\n"), 2);
    assert_null(strstr(answer, HELLO));
    assert_string_equal(answer + strlen(answer) - 4, "\r\n\r\n");
    free(answer);
}

static void bytes_may_come_one_by_one(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    static const char request[] = "POST /echo?x=1 HTTP/1.1\r\nHost:  a \r\nEmpty:\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "3;e=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n";
    for (size_t i = 0; i + 1 < sizeof request; i++) {
        http_raw_send(fixture, descriptor, request + i, 1);
        http_fixture_turn(fixture);
    }
    expect_answer(fixture, descriptor, 200, "abc0123456789");
    close(descriptor);
}

/* ---- expectations -------------------------------------------------------- */

static void a_client_that_waits_is_told_to_continue(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor,
                 "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    char *interim = http_raw_read_until(fixture, descriptor, "\r\n\r\n");
    assert_string_equal(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    free(interim);
    http_raw_say(fixture, descriptor, "abc");
    expect_answer(fixture, descriptor, 200, "\r\n\r\nabc");
    http_raw_say(fixture, descriptor, GET_HELLO); /* the connection stays good */
    expect_answer(fixture, descriptor, 200, HELLO);
    close(descriptor);
}

static void a_client_is_told_to_continue_only_when_the_body_is_wanted(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor,
                 "POST /paused HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    for (int i = 0; i < 10; i++) http_fixture_turn(fixture);
    char byte;
    assert_int_equal(recv(descriptor, &byte, 1, MSG_DONTWAIT), -1);
    http_resume_body(fixture->held);
    free(http_raw_read_until(fixture, descriptor, "100 Continue\r\n\r\n"));
    http_raw_say(fixture, descriptor, "abc");
    http_fixture_wait(fixture, fixture->body_ends);
    http_respond_json(fixture->held, 200, "{}", 2);
    expect_answer(fixture, descriptor, 200, "{}");
    close(descriptor);
}

static void an_early_answer_to_a_client_that_waits_closes(void **state) {
    struct http_fixture *fixture = *state;
    static const char request[] =
        "POST /early HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    char *answer = http_raw_ask(fixture, request, sizeof request - 1);
    assert_int_equal(http_raw_status(answer), 404);
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    free(answer);
}

static void an_early_answer_throws_a_short_body_away(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
    expect_answer(fixture, descriptor, 404, "early");
    http_raw_say(fixture, descriptor, "67890" GET_HELLO);
    expect_answer(fixture, descriptor, 200, HELLO);
    close(descriptor);
}

static void an_early_answer_arrives_though_a_long_body_comes(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    static char body[900000];
    http_raw_say(fixture, descriptor, "POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n");
    http_raw_send(fixture, descriptor, body, sizeof body);
    char *answer = http_raw_read_all(fixture, descriptor, NULL);
    assert_int_equal(http_raw_status(answer), 404);
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    assert_null(strstr(answer, "<reset>"));
    free(answer);
    close(descriptor);
}

/* ---- slow clients -------------------------------------------------------- */

static void a_slow_head_times_out(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hello HT");
    expect_answer(fixture, descriptor, 408, "Connection: close");
    expect_end(fixture, descriptor);
    assert_int_equal(fixture->heads, 0);
}

static void a_head_that_drips_times_out(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    char byte;
    http_raw_say(fixture, descriptor, "GET /hello HTTP/1.1\r\nX: ");
    uint64_t until = uv_hrtime() + 10000000000;
    while (recv(descriptor, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0) {
        http_raw_send(fixture, descriptor, "x", 1);
        http_fixture_turn(fixture);
        assert_true(uv_hrtime() < until);
    }
    expect_answer(fixture, descriptor, 408, "head");
    close(descriptor);
}

static void a_loop_that_was_held_up_reads_before_it_judges(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hello HT");
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 1);
    http_fixture_turn(fixture);
    uint64_t until = uv_hrtime() + 300000000; /* longer than every time-out, with the client in time */
    assert_int_equal(send(descriptor, "TP/1.1\r\nHost: a\r\n\r\n", 19, 0), 19);
    while (uv_hrtime() < until) continue;
    expect_answer(fixture, descriptor, 200, HELLO);
    close(descriptor);
}

static void a_slow_body_times_out_and_the_handler_is_told(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "POST /manual HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123");
    expect_answer(fixture, descriptor, 408, "body");
    expect_end(fixture, descriptor);
    assert_int_equal(fixture->gone, 1);
    assert_true(http_is_gone(fixture->held));
    assert_true(http_has_begun(fixture->held));
    http_begin(fixture->held, 200, NULL, 0, -1); /* goes nowhere */
    assert_true(http_send(fixture->held, "x", 1));
    http_end(fixture->held);
}

static void a_connection_that_says_nothing_is_closed(void **state) {
    struct http_fixture *fixture = *state;
    expect_end(fixture, http_raw_connect(fixture));
}

static void an_idle_connection_is_closed(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, GET_HELLO);
    expect_answer(fixture, descriptor, 200, HELLO);
    expect_end(fixture, descriptor);
}

static void a_client_that_does_not_read_its_answer_is_given_up(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /big?size=100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->full);
    http_fixture_wait(fixture, fixture->gone == 1);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    close(descriptor);
}

static void a_handler_may_take_its_time(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    /* An idle one that comes later is closed meanwhile: more than every time-out has passed. */
    expect_end(fixture, http_raw_connect(fixture));
    http_respond_json(fixture->held, 200, "{}", 2);
    expect_answer(fixture, descriptor, 200, "{}");
    close(descriptor);
}

/* ---- clients that go away ------------------------------------------------ */

static void a_client_that_goes_away_is_noticed_while_the_handler_works(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    assert_false(http_is_gone(fixture->held));
    close(descriptor);
    http_fixture_wait(fixture, fixture->gone == 1);
    assert_true(http_is_gone(fixture->held));
    http_respond_json(fixture->held, 200, "{}", 2);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    assert_int_equal(fixture->gone, 1);
}

static void a_client_that_resets_is_noticed_while_the_handler_works(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "POST /manual HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123");
    http_fixture_wait(fixture, fixture->body_received == 3);
    const struct linger reset = {.l_onoff = 1};
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(descriptor);
    http_fixture_wait(fixture, fixture->gone == 1);
    http_break(fixture->held);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
}

static void a_client_that_goes_in_the_middle_of_its_body_never_reaches_on_request(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123");
    http_fixture_wait(fixture, fixture->heads == 1);
    close(descriptor);
    http_fixture_wait(fixture, fixture->gone == 1);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    assert_int_equal(fixture->requests, 0);
}

static void a_request_that_never_reached_on_request_is_over_with_on_gone(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "POST /forgetful HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123");
    http_fixture_wait(fixture, fixture->heads == 1);
    close(descriptor);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    assert_int_equal(fixture->gone, 1);
    assert_int_equal(fixture->requests, 0);
}

static void a_client_that_only_stops_sending_still_gets_its_answer(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    shutdown(descriptor, SHUT_WR);
    http_fixture_wait(fixture, fixture->gone == 1);
    http_respond_json(fixture->held, 200, "{}", 2);
    expect_answer(fixture, descriptor, 200, "{}");
    expect_end(fixture, descriptor);
}

/* ---- ceilings ------------------------------------------------------------ */

static void no_more_connections_than_the_ceiling_are_taken(void **state) {
    struct http_fixture *fixture = *state;
    int descriptors[4];
    for (int i = 0; i < 4; i++) {
        descriptors[i] = http_raw_connect(fixture);
        http_raw_say(fixture, descriptors[i], "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    http_fixture_wait(fixture, fixture->requests == 2);
    for (int i = 0; i < 50; i++) http_fixture_turn(fixture);
    assert_int_equal(fixture->requests, 2);
    assert_int_equal(http_server_connections(fixture->server), 2);
    for (unsigned i = 0; i < 4; i++) { /* each that is answered makes room for the next that waits */
        http_fixture_wait(fixture, fixture->held_count > i);
        http_respond(fixture->all_held[i], 200, NULL, 0, "x", 1, NULL);
        expect_answer(fixture, descriptors[i], 200, "x");
        close(descriptors[i]);
    }
}

static void an_idle_connection_gives_way_to_a_client_that_waits(void **state) {
    struct http_fixture *fixture = *state;
    int idle[2];
    for (int i = 0; i < 2; i++) {
        idle[i] = http_raw_connect(fixture);
        http_raw_say(fixture, idle[i], GET_HELLO);
        expect_answer(fixture, idle[i], 200, HELLO);
    }
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, GET_HELLO);
    expect_answer(fixture, descriptor, 200, HELLO);
    expect_end(fixture, idle[0]); /* the longest idle one */
    close(idle[1]);
    close(descriptor);
}

static void lower_descriptors(rlim_t *ret_before) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    *ret_before = limit.rlim_cur;
    int highest = open("/dev/null", O_RDONLY);
    close(highest);
    limit.rlim_cur = (rlim_t)highest; /* the lowest free one is already too high */
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void restore_descriptors(rlim_t before) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = before;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void without_descriptors_a_client_is_told_and_service_goes_on_later(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    rlim_t before;
    lower_descriptors(&before);
    size_t size;
    char *answer = http_raw_read_all(fixture, descriptor, &size);
    restore_descriptors(before);
    assert_int_equal(http_raw_status(answer), 503);
    const char *length = strstr(answer, "Content-Length: "), *body = strstr(answer, "\r\n\r\n") + 4;
    assert_int_equal(strtoul(length + 16, NULL, 10), size - (size_t)(body - answer));
    free(answer);
    close(descriptor);
    descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, GET_HELLO);
    expect_answer(fixture, descriptor, 200, HELLO);
    close(descriptor);
}

/* ---- drain --------------------------------------------------------------- */

static void a_drain_without_connections_is_told_from_the_loop(void **state) {
    struct http_fixture *fixture = *state;
    http_server_drain(fixture->server, count_drained, fixture);
    assert_int_equal(fixture->drained, 0);
    http_fixture_wait(fixture, fixture->drained == 1);
}

static void a_drain_closes_idle_connections_and_lets_answers_end(void **state) {
    struct http_fixture *fixture = *state;
    int idle = http_raw_connect(fixture), busy = http_raw_connect(fixture);
    http_raw_say(fixture, idle, GET_HELLO);
    expect_answer(fixture, idle, 200, HELLO);
    http_raw_say(fixture, busy, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    http_server_drain(fixture->server, count_drained, fixture);
    expect_end(fixture, idle);
    for (int i = 0; i < 20; i++) http_fixture_turn(fixture);
    assert_int_equal(fixture->drained, 0);
    assert_false(http_is_gone(fixture->held));
    http_respond_json(fixture->held, 200, "{}", 2);
    expect_answer(fixture, busy, 200, "Connection: close\r\n");
    expect_end(fixture, busy);
    http_fixture_wait(fixture, fixture->drained == 1);
    assert_int_equal(http_server_connections(fixture->server), 0);
}

static void a_request_that_came_before_the_drain_is_answered(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, GET_HELLO);
    expect_answer(fixture, descriptor, 200, HELLO);
    /* It lies in the kernel and the loop has not seen it. */
    assert_int_equal(send(descriptor, GET_HELLO, sizeof(GET_HELLO) - 1, 0), sizeof(GET_HELLO) - 1);
    http_server_drain(fixture->server, count_drained, fixture);
    expect_answer(fixture, descriptor, 200, "Connection: close\r\n");
    expect_end(fixture, descriptor);
    http_fixture_wait(fixture, fixture->drained == 1);
}

static void a_fresh_connection_may_still_say_its_request(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 1);
    http_server_drain(fixture->server, count_drained, fixture);
    http_fixture_turn(fixture);
    http_raw_say(fixture, descriptor, GET_HELLO);
    expect_answer(fixture, descriptor, 200, HELLO);
    expect_end(fixture, descriptor);
    http_fixture_wait(fixture, fixture->drained == 1);
}

static void a_silent_fresh_connection_does_not_hold_a_drain_up(void **state) {
    struct http_fixture *fixture = *state; /* its header time-out is a minute */
    int descriptor = http_raw_connect(fixture);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 1);
    http_server_drain(fixture->server, count_drained, fixture);
    http_fixture_wait(fixture, fixture->drained == 1);
    close(descriptor);
}

static void after_a_drain_connecting_is_refused(void **state) {
    struct http_fixture *fixture = *state;
    http_server_drain(fixture->server, count_drained, fixture);
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)fixture->port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&name, sizeof name), -1);
    close(descriptor);
}

static void a_closed_server_waits_for_its_handlers(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    http_server_close(fixture->server);
    fixture->server = NULL;
    http_fixture_wait(fixture, fixture->gone == 1);
    assert_string_equal(fixture->held->path, "/hold"); /* still there */
    http_respond_json(fixture->held, 200, "{}", 2);
    expect_end(fixture, descriptor);
}

/* ---- listening ----------------------------------------------------------- */

static void a_unix_socket_is_served_and_an_old_one_replaced(void **state) {
    struct http_fixture *fixture = *state;
    char folder[] = "/tmp/slipway-http-XXXXXX", address[64];
    assert_non_null(mkdtemp(folder));
    snprintf(address, sizeof address, "unix:%s/s", folder);
    for (int i = 0; i < 2; i++) { /* the second finds the first one's file */
        int listener;
        assert_int_equal(http_listen(address, &listener, NULL), 0);
        struct stat status;
        assert_int_equal(stat(address + 5, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0600);
        if (!i) {
            close(listener);
            continue;
        }
        assert_int_equal(http_server_listen(fixture->server, listener, NULL), 0);
    }
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    strcpy(name.sun_path, address + 5);
    int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&name, sizeof name), 0);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    assert_string_equal(fixture->held->peer, "unix");
    http_respond_json(fixture->held, 200, "{}", 2);
    expect_answer(fixture, descriptor, 200, "{}");
    close(descriptor);
    unlink(address + 5);
    rmdir(folder);
}

static void expect_no_listening(const char *address, const char *part) {
    struct error *error = NULL;
    int descriptor = -1;
    assert_int_equal(http_listen(address, &descriptor, &error), -(int)ERROR_CONFIGURATION);
    char *text = error_text(error);
    if (!strstr(text, part) || !strstr(text, address)) fail_msg("\"%s\" wanted: %s", part, text);
    free(text);
    error_free(error);
    assert_int_equal(descriptor, -1);
}

static void a_port_in_use_says_so(void **state) {
    struct http_fixture *fixture = *state;
    expect_no_listening(fixture->address, "another program uses it");
}

static void malformed_addresses_are_refused(void **state) {
    (void)state;
    static const char *const addresses[] = {"",      "8400",       "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000",
                                            ":8400", "127.0.0.1:x"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++)
        expect_no_listening(addresses[i], "is no address");
    expect_no_listening("unix:", "path of a unix socket");
    char longer[200] = "unix:/";
    memset(longer + 6, 'x', 150);
    expect_no_listening(longer, "use a shorter folder");
}

static void a_file_that_is_no_socket_is_left_alone(void **state) {
    (void)state;
    char path[] = "/tmp/slipway-http-XXXXXX", address[64];
    close(mkstemp(path));
    snprintf(address, sizeof address, "unix:%s", path);
    expect_no_listening(address, "another program uses it");
    assert_int_equal(access(path, F_OK), 0);
    unlink(path);
}

static void a_descriptor_that_does_not_listen_is_refused(void **state) {
    struct http_fixture *fixture = *state;
    struct error *error = NULL;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(http_server_listen(fixture->server, descriptor, &error), -(int)ERROR_CONFIGURATION);
    assert_int_equal(fcntl(descriptor, F_GETFD), -1); /* taken, so closed */
    error_free(error);
}

static void the_peer_is_known(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    getsockname(descriptor, (struct sockaddr *)&name, &size);
    http_raw_say(fixture, descriptor, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(fixture, fixture->held);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "127.0.0.1:%d", ntohs(name.sin_port));
    assert_string_equal(fixture->held->peer, wanted);
    assert_true(fixture->held->received_us > 0);
    http_respond_json(fixture->held, 200, "{}", 2);
    close(descriptor);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
#define HASTY(name) cmocka_unit_test_setup_teardown(name, start_hasty, stop)
#define NARROW(name) cmocka_unit_test_setup_teardown(name, start_narrow, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_connection_serves_many_requests),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(a_pipelined_request_waits_for_the_answer_before_it),
        TEST(a_flood_of_pipelined_requests_is_not_read_while_one_is_pending),
        TEST(connection_close_is_honoured),
        TEST(http_1_0_needs_no_host_and_closes),
        TEST(http_1_0_gets_no_chunks),
        TEST(head_gets_the_head_alone),
        TEST(bytes_may_come_one_by_one),
        TEST(a_client_that_waits_is_told_to_continue),
        TEST(a_client_is_told_to_continue_only_when_the_body_is_wanted),
        TEST(an_early_answer_to_a_client_that_waits_closes),
        TEST(an_early_answer_throws_a_short_body_away),
        TEST(an_early_answer_arrives_though_a_long_body_comes),
        HASTY(a_slow_head_times_out),
        HASTY(a_head_that_drips_times_out),
        HASTY(a_loop_that_was_held_up_reads_before_it_judges),
        HASTY(a_slow_body_times_out_and_the_handler_is_told),
        HASTY(a_connection_that_says_nothing_is_closed),
        HASTY(an_idle_connection_is_closed),
        HASTY(a_client_that_does_not_read_its_answer_is_given_up),
        HASTY(a_handler_may_take_its_time),
        TEST(a_client_that_goes_away_is_noticed_while_the_handler_works),
        TEST(a_client_that_resets_is_noticed_while_the_handler_works),
        TEST(a_client_that_goes_in_the_middle_of_its_body_never_reaches_on_request),
        TEST(a_request_that_never_reached_on_request_is_over_with_on_gone),
        TEST(a_client_that_only_stops_sending_still_gets_its_answer),
        NARROW(no_more_connections_than_the_ceiling_are_taken),
        NARROW(an_idle_connection_gives_way_to_a_client_that_waits),
        TEST(without_descriptors_a_client_is_told_and_service_goes_on_later),
        TEST(a_drain_without_connections_is_told_from_the_loop),
        TEST(a_drain_closes_idle_connections_and_lets_answers_end),
        TEST(a_request_that_came_before_the_drain_is_answered),
        TEST(a_fresh_connection_may_still_say_its_request),
        TEST(a_silent_fresh_connection_does_not_hold_a_drain_up),
        TEST(after_a_drain_connecting_is_refused),
        TEST(a_closed_server_waits_for_its_handlers),
        TEST(a_unix_socket_is_served_and_an_old_one_replaced),
        TEST(a_port_in_use_says_so),
        TEST(malformed_addresses_are_refused),
        TEST(a_file_that_is_no_socket_is_left_alone),
        TEST(a_descriptor_that_does_not_listen_is_refused),
        TEST(the_peer_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
