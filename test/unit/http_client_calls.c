/* The client against our own server: what a call promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "support/http_fixture.h"

enum moment { NEVER, AT_HEAD, AT_BODY, AT_END, AT_FAILURE, AT_WRITABLE };

/* What a call told, and what is to be done when it tells it. */
struct told {
    struct http_fixture *fixture;
    unsigned heads, ends, failures, writables;
    int status;
    int64_t content_length;
    char server[32];
    struct buffer body;
    struct http_failure failure;
    char *failure_text;
    enum moment cancel_at, pause_at, release_at, call_again_at;
    struct http_call *again;
    struct told *told_again;
};

static void act(struct told *told, struct http_call *call, enum moment moment);

static void on_head(struct http_call *call, const struct http_answer *answer, void *context) {
    struct told *told = context;
    told->heads++;
    told->status = answer->status;
    told->content_length = answer->content_length;
    const char *server = http_find_header(answer->headers, answer->header_count, "server");
    if (server) snprintf(told->server, sizeof told->server, "%s", server);
    act(told, call, AT_HEAD);
}

static void on_body(struct http_call *call, const char *bytes, size_t size, void *context) {
    struct told *told = context;
    buffer_append(&told->body, bytes, size);
    act(told, call, AT_BODY);
}

static void on_end(struct http_call *call, void *context) {
    struct told *told = context;
    told->ends++;
    act(told, call, AT_END);
}

static void on_failed(struct http_call *call, const struct http_failure *failure, void *context) {
    struct told *told = context;
    told->failures++;
    told->failure = *failure;
    told->failure_text = error_text(failure->error);
    act(told, call, AT_FAILURE);
}

static void on_writable(struct http_call *call, void *context) {
    struct told *told = context;
    told->writables++;
    act(told, call, AT_WRITABLE);
}

static const struct http_call_handler handler = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_failed = on_failed, .on_writable = on_writable};

static const struct http_call_request hello = {.method = "GET", .target = "/hello", .host = "test"};

static void act(struct told *told, struct http_call *call, enum moment moment) {
    if (told->release_at == moment) http_pool_release(TAKE(told->fixture->pool));
    if (told->call_again_at == moment) http_call(told->fixture->pool, &hello, &handler, told->told_again);
    if (told->pause_at == moment) http_call_pause(call);
    if (told->cancel_at == moment) http_call_cancel(call);
}

static void forget(struct told *told) {
    buffer_clear(&told->body);
    free(told->failure_text);
}

#define has_ended(told) ((told).ends || (told).failures)

static int start(void **state) {
    struct http_fixture *fixture = calloc(1, sizeof *fixture);
    struct http_limits limits = http_fixture_limits;
    limits.body_maximum = 64 << 20;
    http_fixture_start(fixture, &limits);
    const struct http_pool_config config = {.loop = &fixture->loop,
                                            .address = fixture->address,
                                            .idle_maximum = 4,
                                            .connect_timeout_ms = 10000,
                                            .answer_timeout_ms = 10000,
                                            .body_timeout_ms = 10000,
                                            .head_maximum = 16384};
    fixture->pool = http_pool_new(&config);
    *state = fixture;
    return 0;
}

static int stop(void **state) {
    struct http_fixture *fixture = *state;
    if (fixture->pool) http_pool_release(fixture->pool);
    http_fixture_stop(fixture);
    free(fixture);
    return 0;
}

static void check_body(const struct told *told, const char *wanted) {
    assert_int_equal(told->ends, 1);
    assert_int_equal(told->failures, 0);
    assert_int_equal(told->heads, 1);
    assert_int_equal(told->body.size, strlen(wanted));
    assert_memory_equal(told->body.bytes ? told->body.bytes : "", wanted, strlen(wanted));
}

/* ---- whole requests ------------------------------------------------------ */

static void an_answer_comes_head_body_end(void **state) {
    struct http_fixture *fixture = *state;
    struct told told = {.fixture = fixture};
    http_call(fixture->pool, &hello, &handler, &told);
    assert_int_equal(http_pool_in_use(fixture->pool), 1);
    assert_int_equal(told.heads, 0); /* nothing from inside http_call() */
    http_fixture_wait(fixture, has_ended(told));
    check_body(&told, "{\"hello\":true}");
    assert_int_equal(told.status, 200);
    assert_int_equal(told.content_length, 14);
    assert_string_equal(told.server, "slipway");
    assert_int_equal(http_pool_in_use(fixture->pool), 0);
    forget(&told);
}

static void a_connection_is_used_again(void **state) {
    struct http_fixture *fixture = *state;
    for (int i = 0; i < 20; i++) {
        struct told told = {.fixture = fixture};
        http_call(fixture->pool, &hello, &handler, &told);
        http_fixture_wait(fixture, has_ended(told));
        check_body(&told, "{\"hello\":true}");
        forget(&told);
    }
    assert_int_equal(http_server_connections(fixture->server), 1);
    assert_int_equal(fixture->requests, 20);
}

static void calls_at_once_have_connections_of_their_own(void **state) {
    struct http_fixture *fixture = *state;
    struct told told[6] = {0};
    for (int i = 0; i < 6; i++) http_call(fixture->pool, &hello, &handler, &told[i]);
    assert_int_equal(http_pool_in_use(fixture->pool), 6);
    for (int i = 0; i < 6; i++) http_fixture_wait(fixture, has_ended(told[i]));
    for (int i = 0; i < 6; i++) check_body(&told[i], "{\"hello\":true}");
    for (int i = 0; i < 6; i++) forget(&told[i]);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 4); /* no more are kept */
}

static void a_whole_body_arrives(void **state) {
    struct http_fixture *fixture = *state;
    size_t size = 3000000;
    char *body = malloc(size);
    for (size_t i = 0; i < size; i++) body[i] = (char)(i * 7 % 251);
    struct http_call_request request = {
        .method = "POST", .target = "/echo", .host = "test", .body = body, .body_size = size};
    struct told told = {.fixture = fixture};
    http_call(fixture->pool, &request, &handler, &told);
    http_fixture_wait(fixture, has_ended(told));
    assert_int_equal(told.ends, 1);
    assert_int_equal(told.body.size, size);
    assert_memory_equal(told.body.bytes, body, size);
    forget(&told);
    free(body);
}

static void the_answer_to_head_has_no_body(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {.method = "HEAD", .target = "/hello", .host = "test"};
    for (int i = 0; i < 3; i++) {
        struct told told = {.fixture = fixture};
        http_call(fixture->pool, &request, &handler, &told);
        http_fixture_wait(fixture, has_ended(told));
        check_body(&told, "");
        assert_int_equal(told.content_length, 14);
        forget(&told);
    }
    assert_int_equal(http_server_connections(fixture->server), 1);
}

static void a_target_that_would_inject_fails(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {.method = "GET", .target = "/hello HTTP/1.1\r\nX: y", .host = "test"};
    struct told told = {.fixture = fixture};
    http_call(fixture->pool, &request, &handler, &told);
    assert_int_equal(told.failures, 0);
    http_fixture_wait(fixture, has_ended(told));
    assert_int_equal(told.failures, 1);
    assert_false(told.failure.sent);
    assert_int_equal(fixture->heads, 0);
    forget(&told);
}

static void a_header_cannot_inject(void **state) {
    struct http_fixture *fixture = *state;
    const struct http_header headers[] = {
        {"X-Bad", "a\r\nContent-Length: 5"}, {"Bad Name", "x"}, {"Content-Length", "77"}};
    struct http_call_request request = {
        .method = "GET", .target = "/hold", .host = "test", .headers = headers, .header_count = 3};
    struct told told = {.fixture = fixture};
    http_call(fixture->pool, &request, &handler, &told);
    http_fixture_wait(fixture, fixture->held);
    assert_string_equal(http_request_header(fixture->held, "X-Bad"), "a  Content-Length: 5");
    assert_null(http_request_header(fixture->held, "Content-Length"));
    assert_int_equal(fixture->held->header_count, 2); /* and Host */
    http_respond_json(fixture->held, 200, "{}", 2);
    http_fixture_wait(fixture, has_ended(told));
    check_body(&told, "{}");
    forget(&told);
}

static void nobody_listening_is_a_failure_that_names_the_address(void **state) {
    struct http_fixture *fixture = *state;
    struct http_pool_config config = {
        .loop = &fixture->loop, .address = "unix:/nonexistent/slipway.sock", .head_maximum = 4096};
    struct http_pool *pool = http_pool_new(&config);
    struct told told = {.fixture = fixture};
    http_call(pool, &hello, &handler, &told);
    assert_int_equal(told.failures, 0);
    http_fixture_wait(fixture, has_ended(told));
    assert_int_equal(told.failures, 1);
    assert_false(told.failure.sent);
    assert_false(told.failure.answer_begun);
    assert_false(told.failure.timed_out);
    assert_non_null(strstr(told.failure_text, "unix:/nonexistent/slipway.sock"));
    http_pool_release(pool);
    forget(&told);
}

static void a_malformed_address_is_a_failure_of_each_call(void **state) {
    struct http_fixture *fixture = *state;
    struct http_pool_config config = {.loop = &fixture->loop, .address = "nowhere", .head_maximum = 4096};
    struct http_pool *pool = http_pool_new(&config);
    for (int i = 0; i < 2; i++) {
        struct told told = {.fixture = fixture};
        http_call(pool, &hello, &handler, &told);
        http_fixture_wait(fixture, has_ended(told));
        assert_int_equal(told.failures, 1);
        forget(&told);
    }
    http_pool_release(pool);
}

/* ---- streams ------------------------------------------------------------- */

static void check_streamed(struct http_fixture *fixture, int64_t content_length) {
    struct http_call_request request = {
        .method = "POST", .target = "/echo-stream", .host = "test", .has_body = true, .content_length = content_length};
    struct told told = {.fixture = fixture};
    struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
    assert_true(http_call_send(call, "hello ", 6));
    for (int i = 0; i < 5; i++) http_fixture_turn(fixture);
    assert_true(http_call_send(call, "world", 5));
    http_call_end_body(call);
    http_fixture_wait(fixture, has_ended(told));
    check_body(&told, "hello world");
    assert_int_equal(told.content_length, content_length);
    forget(&told);
}

static void a_streamed_body_is_chunked_when_its_length_is_unknown(void **state) {
    check_streamed(*state, -1);
    check_streamed(*state, -1);
    assert_int_equal(http_server_connections(((struct http_fixture *)*state)->server), 1);
}

static void a_streamed_body_of_known_length_says_it(void **state) {
    check_streamed(*state, 11);
    check_streamed(*state, 11);
    assert_int_equal(http_server_connections(((struct http_fixture *)*state)->server), 1);
}

static void a_streamed_body_may_be_empty(void **state) {
    struct http_fixture *fixture = *state;
    for (int64_t length = -1; length <= 0; length++) {
        struct http_call_request request = {
            .method = "POST", .target = "/echo", .host = "test", .has_body = true, .content_length = length};
        struct told told = {.fixture = fixture};
        http_call_end_body(http_call(fixture->pool, &request, &handler, &told));
        http_fixture_wait(fixture, has_ended(told));
        check_body(&told, "");
        forget(&told);
    }
}

static void a_body_of_another_length_than_announced_fails(void **state) {
    struct http_fixture *fixture = *state;
    for (int64_t length = 4; length <= 6; length += 2) {
        struct http_call_request request = {
            .method = "POST", .target = "/echo", .host = "test", .has_body = true, .content_length = length};
        struct told told = {.fixture = fixture};
        struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
        http_call_send(call, "hello", 5);
        http_call_end_body(call);
        assert_int_equal(told.failures, 0);
        http_fixture_wait(fixture, has_ended(told));
        assert_int_equal(told.failures, 1);
        forget(&told);
    }
    assert_int_equal(fixture->requests, 0);
}

static void a_sender_is_told_to_wait_and_when_to_go_on(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {
        .method = "POST", .target = "/paused", .host = "test", .has_body = true, .content_length = -1};
    struct told told = {.fixture = fixture};
    struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
    static char piece[50000];
    size_t sent = 0;
    uint64_t until = uv_hrtime() + 10000000000;
    while (http_call_send(call, piece, sizeof piece)) {
        sent += sizeof piece;
        http_fixture_turn(fixture);
        assert_true(uv_hrtime() < until);
    }
    sent += sizeof piece;
    assert_int_equal(fixture->body_received, 0);
    http_resume_body(fixture->held);
    http_fixture_wait(fixture, told.writables == 1);
    http_call_end_body(call);
    http_fixture_wait(fixture, fixture->body_ends == 1);
    assert_int_equal(fixture->body_received, sent);
    http_respond_json(fixture->held, 200, "{}", 2);
    http_fixture_wait(fixture, has_ended(told));
    check_body(&told, "{}");
    forget(&told);
}

static void a_paused_answer_holds_the_server_back(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {.method = "GET", .target = "/big?size=30000000", .host = "test"};
    struct told told = {.fixture = fixture, .pause_at = AT_HEAD};
    struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
    http_fixture_wait(fixture, fixture->full && told.heads);
    for (int i = 0; i < 50; i++) http_fixture_turn(fixture);
    assert_int_equal(told.body.size, 0);
    assert_true(fixture->to_send > 1000000);
    told.pause_at = NEVER;
    http_call_resume(call);
    http_fixture_wait(fixture, has_ended(told));
    assert_int_equal(told.ends, 1);
    assert_int_equal(told.body.size, 30000000);
    assert_true(fixture->writable > 0);
    forget(&told);
}

static void pausing_at_every_piece_loses_nothing(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {.method = "GET", .target = "/big?size=500000", .host = "test"};
    struct told told = {.fixture = fixture, .pause_at = AT_BODY};
    struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
    size_t before = 0;
    while (told.body.size < 500000) {
        http_fixture_wait(fixture, told.body.size > before);
        before = told.body.size;
        for (int i = 0; i < 2; i++) http_fixture_turn(fixture);
        assert_int_equal(told.body.size, before); /* paused is paused */
        http_call_resume(call);
    }
    http_fixture_wait(fixture, has_ended(told));
    assert_int_equal(told.ends, 1);
    forget(&told);
}

static void pausing_before_the_body_begins_loses_nothing(void **state) {
    struct http_fixture *fixture = *state;
    struct told first = {.fixture = fixture}, told = {.fixture = fixture};
    http_call(fixture->pool, &hello, &handler, &first);
    http_fixture_wait(fixture, has_ended(first));
    struct http_call_request request = {
        .method = "POST", .target = "/echo", .host = "test", .has_body = true, .content_length = 5};
    struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
    http_call_pause(call);
    http_call_resume(call);
    http_call_send(call, "hello", 5);
    http_call_end_body(call);
    http_fixture_wait(fixture, has_ended(told));
    check_body(&told, "hello");
    forget(&first);
    forget(&told);
}

static void an_answer_that_breaks_off_is_a_failure_in_its_middle(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {.method = "GET", .target = "/short", .host = "test"};
    struct told told = {.fixture = fixture};
    http_call(fixture->pool, &request, &handler, &told);
    http_fixture_wait(fixture, has_ended(told));
    assert_int_equal(told.ends, 0);
    assert_int_equal(told.failures, 1);
    assert_int_equal(told.heads, 1);
    assert_true(told.failure.answer_begun);
    assert_true(told.failure.sent);
    assert_memory_equal(told.body.bytes, "only this", 9);
    forget(&told);
}

static void an_early_answer_ends_the_call_and_the_connection(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {
        .method = "POST", .target = "/early", .host = "test", .has_body = true, .content_length = -1};
    struct told told = {.fixture = fixture};
    struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
    assert_true(http_call_send(call, "begun", 5));
    http_fixture_wait(fixture, has_ended(told));
    check_body(&told, "early");
    assert_int_equal(told.status, 404);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    forget(&told);
}

/* ---- cancelling, releasing, calling from callbacks ----------------------- */

static void check_cancelled(struct http_fixture *fixture, const char *target, struct told *told) {
    struct http_call_request request = {.method = "GET", .target = target, .host = "test"};
    http_call(fixture->pool, &request, &handler, told);
    http_fixture_wait(fixture, http_pool_in_use(fixture->pool) == 0);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    assert_int_equal(told->ends + told->failures, 0);
    forget(told);
}

static void a_call_may_be_cancelled_at_its_head(void **state) {
    struct told told = {.fixture = *state, .cancel_at = AT_HEAD};
    check_cancelled(*state, "/big?size=3000000", &told);
    assert_int_equal(told.body.size, 0);
}

static void a_call_may_be_cancelled_in_its_body(void **state) {
    struct told told = {.fixture = *state, .cancel_at = AT_BODY};
    check_cancelled(*state, "/big?size=3000000", &told);
}

static void a_call_may_be_cancelled_when_there_is_room(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {
        .method = "POST", .target = "/paused", .host = "test", .has_body = true, .content_length = -1};
    struct told told = {.fixture = fixture, .cancel_at = AT_WRITABLE};
    struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
    static char piece[50000];
    while (http_call_send(call, piece, sizeof piece)) http_fixture_turn(fixture);
    http_resume_body(fixture->held);
    http_fixture_wait(fixture, http_pool_in_use(fixture->pool) == 0);
    http_fixture_wait(fixture, fixture->gone == 1);
    http_break(fixture->held);
    assert_int_equal(told.ends + told.failures, 0);
}

static void a_call_may_be_cancelled_before_anything_happened(void **state) {
    struct http_fixture *fixture = *state;
    struct told told = {.fixture = fixture};
    http_call_cancel(http_call(fixture->pool, &hello, &handler, &told));
    assert_int_equal(http_pool_in_use(fixture->pool), 0);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    assert_int_equal(told.heads + told.ends + told.failures, 0);
}

static void a_cancelled_call_is_noticed_by_the_server(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {.method = "GET", .target = "/hold", .host = "test"};
    struct told told = {.fixture = fixture};
    struct http_call *call = http_call(fixture->pool, &request, &handler, &told);
    http_fixture_wait(fixture, fixture->held);
    http_call_cancel(call);
    http_fixture_wait(fixture, fixture->gone == 1);
    assert_true(http_is_gone(fixture->held));
    http_respond_json(fixture->held, 200, "{}", 2);
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
}

static void releasing_lets_running_calls_end(void **state) {
    struct http_fixture *fixture = *state;
    struct http_call_request request = {.method = "GET", .target = "/hold", .host = "test"};
    struct told told = {.fixture = fixture}, before = {.fixture = fixture};
    http_call(fixture->pool, &hello, &handler, &before);
    http_fixture_wait(fixture, has_ended(before));
    http_call(fixture->pool, &request, &handler, &told);
    http_fixture_wait(fixture, fixture->held);
    http_pool_release(TAKE(fixture->pool));
    http_respond_json(fixture->held, 200, "{}", 2);
    http_fixture_wait(fixture, has_ended(told));
    check_body(&told, "{}");
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    forget(&told);
    forget(&before);
}

static void check_release(struct http_fixture *fixture, enum moment moment, const char *target) {
    struct http_call_request request = {.method = "GET", .target = target, .host = "test"};
    struct told told = {.fixture = fixture, .release_at = moment};
    http_call(fixture->pool, &request, &handler, &told);
    http_fixture_wait(fixture, has_ended(told));
    http_fixture_wait(fixture, http_server_connections(fixture->server) == 0);
    assert_null(fixture->pool);
    forget(&told);
}

static void a_pool_may_be_released_at_a_head(void **state) {
    check_release(*state, AT_HEAD, "/hello");
}
static void a_pool_may_be_released_at_an_end(void **state) {
    check_release(*state, AT_END, "/hello");
}
static void a_pool_may_be_released_at_a_failure(void **state) {
    check_release(*state, AT_FAILURE, "/short");
}

static void a_call_may_be_made_at_the_end_of_another(void **state) {
    struct http_fixture *fixture = *state;
    struct told second = {.fixture = fixture};
    struct told first = {.fixture = fixture, .call_again_at = AT_END, .told_again = &second};
    http_call(fixture->pool, &hello, &handler, &first);
    http_fixture_wait(fixture, has_ended(second));
    check_body(&first, "{\"hello\":true}");
    check_body(&second, "{\"hello\":true}");
    assert_int_equal(http_server_connections(fixture->server), 1); /* the same one */
    forget(&first);
    forget(&second);
}

static void a_connection_that_the_server_closed_is_not_used(void **state) {
    struct http_fixture *fixture = *state;
    struct told first = {.fixture = fixture}, second = {.fixture = fixture};
    http_call(fixture->pool, &hello, &handler, &first);
    http_fixture_wait(fixture, has_ended(first));
    /* The server closes it and our loop has not yet heard of that. */
    struct http_call_request request = {
        .method = "POST", .target = "/echo", .host = "test", .body = "x", .body_size = 1};
    http_server_drain(fixture->server, NULL, NULL);
    http_call(fixture->pool, &request, &handler, &second);
    http_fixture_wait(fixture, has_ended(second));
    assert_int_equal(second.failures, 1); /* nobody listens any more: but it was tried on a connection of its own */
    assert_non_null(strstr(second.failure_text, "connection refused"));
    forget(&first);
    forget(&second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_answer_comes_head_body_end),
        TEST(a_connection_is_used_again),
        TEST(calls_at_once_have_connections_of_their_own),
        TEST(a_whole_body_arrives),
        TEST(the_answer_to_head_has_no_body),
        TEST(a_target_that_would_inject_fails),
        TEST(a_header_cannot_inject),
        TEST(nobody_listening_is_a_failure_that_names_the_address),
        TEST(a_malformed_address_is_a_failure_of_each_call),
        TEST(a_streamed_body_is_chunked_when_its_length_is_unknown),
        TEST(a_streamed_body_of_known_length_says_it),
        TEST(a_streamed_body_may_be_empty),
        TEST(a_body_of_another_length_than_announced_fails),
        TEST(a_sender_is_told_to_wait_and_when_to_go_on),
        TEST(a_paused_answer_holds_the_server_back),
        TEST(pausing_at_every_piece_loses_nothing),
        TEST(pausing_before_the_body_begins_loses_nothing),
        TEST(an_answer_that_breaks_off_is_a_failure_in_its_middle),
        TEST(an_early_answer_ends_the_call_and_the_connection),
        TEST(a_call_may_be_cancelled_at_its_head),
        TEST(a_call_may_be_cancelled_in_its_body),
        TEST(a_call_may_be_cancelled_when_there_is_room),
        TEST(a_call_may_be_cancelled_before_anything_happened),
        TEST(a_cancelled_call_is_noticed_by_the_server),
        TEST(releasing_lets_running_calls_end),
        TEST(a_pool_may_be_released_at_a_head),
        TEST(a_pool_may_be_released_at_an_end),
        TEST(a_pool_may_be_released_at_a_failure),
        TEST(a_call_may_be_made_at_the_end_of_another),
        TEST(a_connection_that_the_server_closed_is_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
