/* The client against peers that misbehave, written by hand: they listen on a plain socket and say what the test says.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "support/http_fixture.h"

struct peer {
    struct http_fixture fixture; /* for its loop and its plain sockets */
    int listener;
    char folder[32];
    char address[80];
};

struct told {
    unsigned heads, ends, failures;
    int status;
    int64_t content_length;
    struct buffer body;
    struct http_failure failure;
    char *failure_text;
};

static void on_head(struct http_call *call, const struct http_answer *answer, void *context) {
    struct told *told = context;
    (void)call;
    told->heads++;
    told->status = answer->status;
    told->content_length = answer->content_length;
}
static void on_body(struct http_call *call, const char *bytes, size_t size, void *context) {
    (void)call;
    buffer_append(&((struct told *)context)->body, bytes, size);
}
static void on_end(struct http_call *call, void *context) {
    (void)call;
    ((struct told *)context)->ends++;
}
static void on_failed(struct http_call *call, const struct http_failure *failure, void *context) {
    struct told *told = context;
    (void)call;
    told->failures++;
    told->failure = *failure;
    told->failure_text = error_text(failure->error);
}
static const struct http_call_handler handler = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_failed = on_failed};

static const struct http_call_request get = {.method = "GET", .target = "/", .host = "test"};
static const struct http_call_request post = {
    .method = "POST", .target = "/", .host = "test", .body = "payload", .body_size = 7};

static void forget(struct told *told) {
    buffer_clear(&told->body);
    free(told->failure_text);
    *told = (struct told){0};
}

static int start(void **state) {
    struct peer *peer = calloc(1, sizeof *peer);
    http_fixture_start(&peer->fixture, &http_fixture_limits);
    strcpy(peer->folder, "/tmp/slipway-http-XXXXXX");
    assert_non_null(mkdtemp(peer->folder));
    snprintf(peer->address, sizeof peer->address, "unix:%s/s", peer->folder);
    assert_int_equal(http_listen(peer->address, &peer->listener, NULL), 0);
    const struct http_pool_config config = {.loop = &peer->fixture.loop,
                                            .address = peer->address,
                                            .idle_maximum = 4,
                                            .connect_timeout_ms = 10000,
                                            .answer_timeout_ms = 100,
                                            .body_timeout_ms = 100,
                                            .head_maximum = 4096};
    peer->fixture.pool = http_pool_new(&config);
    *state = peer;
    return 0;
}

static int stop(void **state) {
    struct peer *peer = *state;
    if (peer->fixture.pool) http_pool_release(peer->fixture.pool);
    http_fixture_stop(&peer->fixture);
    if (peer->listener >= 0) close(peer->listener);
    unlink(peer->address + 5);
    rmdir(peer->folder);
    free(peer);
    return 0;
}

static int take(struct peer *peer) {
    int descriptor = -1;
    http_fixture_wait(&peer->fixture, (descriptor = accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    return descriptor;
}

/* Accepts and reads a request's head; caller frees. */
static char *take_request(struct peer *peer, int *ret_descriptor, const char *until) {
    *ret_descriptor = take(peer);
    return http_raw_read_until(&peer->fixture, *ret_descriptor, until);
}

#define ENDED(told) ((told).ends || (told).failures)

/* One call that is answered with these bytes, after which the peer closes. */
static void ask(struct peer *peer, const struct http_call_request *request, const char *answer, struct told *told) {
    int descriptor;
    http_call(peer->fixture.pool, request, &handler, told);
    free(take_request(peer, &descriptor, "\r\n\r\n"));
    http_raw_say(&peer->fixture, descriptor, answer);
    shutdown(descriptor, SHUT_WR);
    http_fixture_wait(&peer->fixture, ENDED(*told));
    close(descriptor);
}

static void expect_failure(struct peer *peer, const char *answer, unsigned heads) {
    struct told told = {0};
    ask(peer, &get, answer, &told);
    if (!told.failures) fail_msg("a failure wanted for: %s", answer);
    assert_int_equal(told.ends, 0);
    assert_int_equal(told.heads, heads);
    assert_true(told.failure.answer_begun == (answer[0] != 0));
    assert_true(told.failure.sent);
    assert_false(told.failure.timed_out);
    assert_int_equal(told.failure.error ? 1 : 0, 1);
    assert_non_null(strstr(told.failure_text, peer->address));
    forget(&told);
}

static void expect_body(struct peer *peer, const struct http_call_request *request, const char *answer,
                        const char *body) {
    struct told told = {0};
    ask(peer, request, answer, &told);
    if (told.failures) fail_msg("%s for: %s", told.failure_text, answer);
    assert_int_equal(told.ends, 1);
    assert_int_equal(told.body.size, strlen(body));
    if (*body) assert_memory_equal(told.body.bytes, body, strlen(body));
    forget(&told);
}

/* ---- answers ------------------------------------------------------------- */

#define OK "HTTP/1.1 200 OK\r\n"

static void an_answer_until_the_end_of_the_connection_is_whole(void **state) {
    expect_body(*state, &get, OK "\r\nall of it", "all of it");
    expect_body(*state, &get, "HTTP/1.0 200 OK\r\n\r\n", "");
}

static void interim_answers_are_passed_over(void **state) {
    expect_body(*state, &post,
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK
                "Content-Length: 2\r\n\r\nok",
                "ok");
}

static void answers_without_a_body_end_with_their_head(void **state) {
    struct http_call_request head = get;
    head.method = "HEAD";
    expect_body(*state, &head, OK "Content-Length: 20\r\n\r\n", "");
    expect_body(*state, &head, OK "Transfer-Encoding: chunked\r\n\r\n", "");
    expect_body(*state, &get, "HTTP/1.1 204 No Content\r\n\r\n", "");
    expect_body(*state, &get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n", "");
    expect_body(*state, &get, OK "Content-Length: 0\r\n\r\n", "");
}

static void chunks_and_trailers_are_understood(void **state) {
    expect_body(*state, &get, OK "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n",
                "abcde");
}

static void conflicting_lengths_are_a_failure(void **state) {
    expect_failure(*state, OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 0);
    expect_failure(*state, OK "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", 0);
    expect_failure(*state, OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0);
    expect_failure(*state, OK "Content-Length: 2, 2\r\n\r\nok", 0);
}

static void another_transfer_coding_is_a_failure(void **state) {
    expect_failure(*state, OK "Transfer-Encoding: gzip\r\n\r\nok", 0);
    expect_failure(*state, OK "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 0);
}

static void a_malformed_answer_is_a_failure(void **state) {
    expect_failure(*state, "SSH-2.0-OpenSSH_9.2\r\n\r\n", 0);
    expect_failure(*state, "HTTP/1.1 2x0 OK\r\n\r\n", 0);
    expect_failure(*state, "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", 0);
    expect_failure(*state, "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", 0);
    expect_failure(*state, OK "X: a\r\n b\r\n\r\n", 0);
    expect_failure(*state, OK "X: a\x01\r\n\r\n", 0);
    expect_failure(*state, OK "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 1);
}

static void a_switch_of_protocols_is_a_failure(void **state) {
    expect_failure(*state, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0);
}

static void a_too_large_head_is_a_failure(void **state) {
    char answer[6000] = OK "X: ";
    memset(answer + strlen(answer), 'x', 5000);
    expect_failure(*state, answer, 0);
}

static void a_peer_that_dies_before_its_answer_is_a_failure(void **state) {
    expect_failure(*state, "", 0);
}

static void a_peer_that_dies_in_its_answer_is_a_failure(void **state) {
    expect_failure(*state, "HTTP/1.1 20", 0);
    expect_failure(*state, OK "Content-Length: 10\r\n\r\nabc", 1);
    expect_failure(*state, OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 1);
}

/* ---- time ---------------------------------------------------------------- */

static void a_peer_that_does_not_answer_times_out(void **state) {
    struct peer *peer = *state;
    struct told told = {0};
    int descriptor;
    http_call(peer->fixture.pool, &post, &handler, &told);
    free(take_request(peer, &descriptor, "payload"));
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.failures, 1);
    assert_true(told.failure.timed_out);
    assert_true(told.failure.sent);
    assert_false(told.failure.answer_begun);
    forget(&told);
    close(descriptor);
}

static void a_peer_that_stops_in_its_answer_times_out(void **state) {
    struct peer *peer = *state;
    struct told told = {0};
    int descriptor;
    http_call(peer->fixture.pool, &get, &handler, &told);
    free(take_request(peer, &descriptor, "\r\n\r\n"));
    http_raw_say(&peer->fixture, descriptor, OK "Content-Length: 10\r\n\r\nabc");
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.failures, 1);
    assert_true(told.failure.timed_out);
    assert_true(told.failure.answer_begun);
    assert_memory_equal(told.body.bytes, "abc", 3);
    forget(&told);
    close(descriptor);
}

static void a_peer_that_does_not_read_times_out(void **state) {
    struct peer *peer = *state;
    struct told told = {0};
    static char body[20000000];
    struct http_call_request request = post;
    request.body = body;
    request.body_size = sizeof body;
    http_call(peer->fixture.pool, &request, &handler, &told);
    int descriptor = take(peer);
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_true(told.failure.timed_out);
    forget(&told);
    close(descriptor);
}

static void a_peer_that_reads_slowly_but_on_does_not_time_out(void **state) {
    struct peer *peer = *state;
    struct told told = {0};
    static char body[100000000], bytes[65536];
    struct http_call_request request = post;
    request.body = body;
    request.body_size = sizeof body;
    http_call(peer->fixture.pool, &request, &handler, &told);
    int descriptor = take(peer);
    uint64_t until = uv_hrtime() + 500000000; /* several times as long as it may stand still */
    for (uint64_t next = 0; uv_hrtime() < until && !ENDED(told);) {
        if (uv_hrtime() > next) { /* one piece a millisecond: it cannot come to the end */
            recv(descriptor, bytes, sizeof bytes, MSG_DONTWAIT);
            next = uv_hrtime() + 1000000;
        }
        http_fixture_turn(&peer->fixture);
    }
    assert_int_equal(told.failures, 0);
    close(descriptor);
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_false(told.failure.timed_out);
    forget(&told);
}

static void a_paused_answer_does_not_time_out(void **state) {
    struct peer *peer = *state;
    struct told told = {0}, other = {0};
    int descriptor, silent;
    struct http_call *call = http_call(peer->fixture.pool, &get, &handler, &told);
    free(take_request(peer, &descriptor, "\r\n\r\n"));
    http_raw_say(&peer->fixture, descriptor, OK "Content-Length: 6\r\n\r\nabc");
    http_fixture_wait(&peer->fixture, told.body.size == 3);
    http_call_pause(call);
    http_raw_say(&peer->fixture, descriptor, "def");
    /* Another call that nobody answers times out meanwhile. */
    http_call(peer->fixture.pool, &post, &handler, &other);
    free(take_request(peer, &silent, "payload"));
    http_fixture_wait(&peer->fixture, ENDED(other));
    assert_true(other.failure.timed_out);
    assert_int_equal(told.failures, 0);
    http_call_resume(call);
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.ends, 1);
    assert_memory_equal(told.body.bytes, "abcdef", 6);
    forget(&told);
    forget(&other);
    close(descriptor);
    close(silent);
}

static void a_body_that_its_sender_pauses_does_not_time_out(void **state) {
    struct peer *peer = *state;
    struct told told = {0}, other = {0};
    int descriptor, silent;
    struct http_call_request streamed = {
        .method = "POST", .target = "/", .host = "test", .has_body = true, .content_length = -1};
    struct http_call *call = http_call(peer->fixture.pool, &streamed, &handler, &told);
    free(take_request(peer, &descriptor, "\r\n\r\n"));
    http_call(peer->fixture.pool, &post, &handler, &other);
    free(take_request(peer, &silent, "payload"));
    http_fixture_wait(&peer->fixture, ENDED(other));
    assert_int_equal(told.failures, 0);
    http_call_send(call, "abc", 3);
    http_call_end_body(call);
    char *body = http_raw_read_until(&peer->fixture, descriptor, "0\r\n\r\n");
    assert_string_equal(body, "3\r\nabc\r\n0\r\n\r\n");
    http_raw_say(&peer->fixture, descriptor, OK "Content-Length: 2\r\n\r\nok");
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.ends, 1);
    free(body);
    forget(&told);
    forget(&other);
    close(descriptor);
    close(silent);
}

/* ---- kept-alive connections ---------------------------------------------- */

/* Leaves an idle connection in the pool and gives its other end. */
static int leave_idle(struct peer *peer) {
    struct told told = {0};
    int descriptor;
    http_call(peer->fixture.pool, &get, &handler, &told);
    free(take_request(peer, &descriptor, "\r\n\r\n"));
    http_raw_say(&peer->fixture, descriptor, OK "Content-Length: 2\r\n\r\nok");
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.ends, 1);
    forget(&told);
    return descriptor;
}

static void expect_one_answer(struct peer *peer, const struct http_call_request *request, struct told *told) {
    int descriptor;
    char *head = take_request(peer, &descriptor, request->body ? "payload" : "\r\n\r\n");
    assert_memory_equal(head, request->method, strlen(request->method));
    http_raw_say(&peer->fixture, descriptor, OK "Content-Length: 2\r\n\r\nok");
    http_fixture_wait(&peer->fixture, ENDED(*told));
    assert_int_equal(told->ends, 1);
    assert_int_equal(told->heads, 1);
    assert_int_equal(told->failures, 0);
    free(head);
    close(descriptor);
    forget(told);
}

/* No further connection was tried. */
static void expect_nobody(struct peer *peer) {
    assert_int_equal(accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC), -1);
}

static void a_connection_that_was_closed_before_the_call_is_passed_over(void **state) {
    struct peer *peer = *state;
    close(leave_idle(peer)); /* the loop has not seen it */
    struct told told = {0};
    http_call(peer->fixture.pool, &post, &handler, &told);
    expect_one_answer(peer, &post, &told);
}

static void a_body_on_a_connection_that_closes_under_it_is_sent_again(void **state) {
    struct peer *peer = *state;
    int idle = leave_idle(peer);
    struct told told = {0};
    http_call(peer->fixture.pool, &post, &handler, &told);
    close(idle); /* with the request unread: the kernel tells the client */
    expect_one_answer(peer, &post, &told);
}

static void an_idempotent_request_is_sent_again_even_when_it_may_have_been_read(void **state) {
    struct peer *peer = *state;
    int idle = leave_idle(peer);
    struct told told = {0};
    http_call(peer->fixture.pool, &get, &handler, &told);
    free(http_raw_read_until(&peer->fixture, idle, "\r\n\r\n"));
    close(idle);
    expect_one_answer(peer, &get, &told);
}

static void a_request_that_was_read_and_is_not_idempotent_is_not_sent_again(void **state) {
    struct peer *peer = *state;
    int idle = leave_idle(peer);
    struct told told = {0};
    http_call(peer->fixture.pool, &post, &handler, &told);
    free(http_raw_read_until(&peer->fixture, idle, "payload"));
    close(idle);
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.failures, 1);
    assert_true(told.failure.sent);
    assert_false(told.failure.answer_begun);
    assert_false(told.failure.timed_out);
    expect_nobody(peer);
    forget(&told);
}

static void a_request_on_a_new_connection_is_not_sent_again(void **state) {
    struct peer *peer = *state;
    struct told told = {0};
    http_call(peer->fixture.pool, &get, &handler, &told);
    close(take(peer));
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.failures, 1);
    expect_nobody(peer);
    forget(&told);
}

static void a_request_is_not_sent_again_once_an_answer_has_begun(void **state) {
    struct peer *peer = *state;
    int idle = leave_idle(peer);
    struct told told = {0};
    http_call(peer->fixture.pool, &get, &handler, &told);
    free(http_raw_read_until(&peer->fixture, idle, "\r\n\r\n"));
    http_raw_say(&peer->fixture, idle, "H");
    close(idle);
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.failures, 1);
    assert_true(told.failure.answer_begun);
    forget(&told);
}

static void a_streamed_body_is_not_sent_again(void **state) {
    struct peer *peer = *state;
    int idle = leave_idle(peer);
    struct told told = {0};
    struct http_call_request streamed = {
        .method = "POST", .target = "/", .host = "test", .has_body = true, .content_length = 3};
    struct http_call *call = http_call(peer->fixture.pool, &streamed, &handler, &told);
    http_call_send(call, "abc", 3);
    close(idle);
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.failures, 1);
    assert_false(told.failure.timed_out);
    expect_nobody(peer);
    forget(&told);
}

/* Whether the second call comes on a connection of its own after such a first answer. */
static void expect_not_kept(struct peer *peer, const char *answer) {
    struct told told = {0};
    int first;
    http_call(peer->fixture.pool, &get, &handler, &told);
    free(take_request(peer, &first, "\r\n\r\n"));
    http_raw_say(&peer->fixture, first, answer);
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.ends, 1);
    forget(&told);
    char *rest = http_raw_read_all(&peer->fixture, first, NULL); /* closed by the client */
    assert_string_equal(rest, "");
    free(rest);
    close(first);
    http_call(peer->fixture.pool, &get, &handler, &told);
    expect_one_answer(peer, &get, &told);
}

static void an_answer_that_says_close_ends_the_connection(void **state) {
    expect_not_kept(*state, OK "Connection: close\r\nContent-Length: 2\r\n\r\nok");
    expect_not_kept(*state, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

static void bytes_behind_an_answer_end_the_connection(void **state) {
    expect_not_kept(*state, OK "Content-Length: 2\r\n\r\nok" OK "Content-Length: 0\r\n\r\n");
}

static void an_answer_before_the_end_of_the_body_ends_the_connection(void **state) {
    struct peer *peer = *state;
    struct told told = {0};
    int descriptor;
    struct http_call_request streamed = {
        .method = "POST", .target = "/", .host = "test", .has_body = true, .content_length = 10};
    http_call_send(http_call(peer->fixture.pool, &streamed, &handler, &told), "abc", 3);
    free(take_request(peer, &descriptor, "abc"));
    http_raw_say(&peer->fixture, descriptor, OK "Content-Length: 2\r\n\r\nok");
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.ends, 1);
    forget(&told);
    char *rest = http_raw_read_all(&peer->fixture, descriptor, NULL); /* closed by the client */
    assert_string_equal(rest, "");
    free(rest);
    close(descriptor);
}

static void a_peer_that_speaks_unasked_is_not_asked_again(void **state) {
    struct peer *peer = *state;
    int idle = leave_idle(peer);
    http_raw_say(&peer->fixture, idle, OK "Content-Length: 4\r\n\r\nevil");
    struct told told = {0};
    http_call(peer->fixture.pool, &get, &handler, &told);
    expect_one_answer(peer, &get, &told);
    close(idle);
}

static void idle_connections_close_when_the_pool_is_released(void **state) {
    struct peer *peer = *state;
    int idle = leave_idle(peer);
    http_pool_release(peer->fixture.pool);
    peer->fixture.pool = NULL;
    char *rest = http_raw_read_all(&peer->fixture, idle, NULL);
    assert_string_equal(rest, "");
    free(rest);
    close(idle);
}

static void an_early_answer_is_read_though_the_peer_stopped_reading(void **state) {
    struct peer *peer = *state;
    struct told told = {0};
    static char body[20000000];
    struct http_call_request request = post;
    request.body = body;
    request.body_size = sizeof body;
    int descriptor;
    http_call(peer->fixture.pool, &request, &handler, &told);
    free(take_request(peer, &descriptor, "\r\n\r\n"));
    http_raw_say(&peer->fixture, descriptor,
                 "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
    http_fixture_wait(&peer->fixture, ENDED(told));
    assert_int_equal(told.ends, 1);
    assert_int_equal(told.status, 413);
    forget(&told);
    close(descriptor);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_answer_until_the_end_of_the_connection_is_whole),
        TEST(interim_answers_are_passed_over),
        TEST(answers_without_a_body_end_with_their_head),
        TEST(chunks_and_trailers_are_understood),
        TEST(conflicting_lengths_are_a_failure),
        TEST(another_transfer_coding_is_a_failure),
        TEST(a_malformed_answer_is_a_failure),
        TEST(a_switch_of_protocols_is_a_failure),
        TEST(a_too_large_head_is_a_failure),
        TEST(a_peer_that_dies_before_its_answer_is_a_failure),
        TEST(a_peer_that_dies_in_its_answer_is_a_failure),
        TEST(a_peer_that_does_not_answer_times_out),
        TEST(a_peer_that_stops_in_its_answer_times_out),
        TEST(a_peer_that_does_not_read_times_out),
        TEST(a_peer_that_reads_slowly_but_on_does_not_time_out),
        TEST(a_paused_answer_does_not_time_out),
        TEST(a_body_that_its_sender_pauses_does_not_time_out),
        TEST(a_connection_that_was_closed_before_the_call_is_passed_over),
        TEST(a_body_on_a_connection_that_closes_under_it_is_sent_again),
        TEST(an_idempotent_request_is_sent_again_even_when_it_may_have_been_read),
        TEST(a_request_that_was_read_and_is_not_idempotent_is_not_sent_again),
        TEST(a_request_on_a_new_connection_is_not_sent_again),
        TEST(a_request_is_not_sent_again_once_an_answer_has_begun),
        TEST(a_streamed_body_is_not_sent_again),
        TEST(an_answer_that_says_close_ends_the_connection),
        TEST(bytes_behind_an_answer_end_the_connection),
        TEST(an_answer_before_the_end_of_the_body_ends_the_connection),
        TEST(a_peer_that_speaks_unasked_is_not_asked_again),
        TEST(idle_connections_close_when_the_pool_is_released),
        TEST(an_early_answer_is_read_though_the_peer_stopped_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
