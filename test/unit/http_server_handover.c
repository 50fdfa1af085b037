/* Connections that move from one server to another, as they do from a gateway to its successor (RULES U2). */
#include <netinet/in.h>
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

#include "support/http_fixture.h"

#define GET_HELLO "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
#define HELLO "{\"hello\":true}"
#define CLIENTS 60

/* The old server in a fixture of its own, and its successor. */
struct move {
    struct http_fixture from, to;
    int moved[CLIENTS * 4]; /* descriptors on their way */
    unsigned moved_count, drained;
    bool is_held_up; /* they wait until the test lets them arrive */
};

static void arrive(struct move *move) {
    struct error *error = NULL;
    for (unsigned i = 0; i < move->moved_count; i++)
        assert_int_equal(http_server_adopt(move->to.server, move->moved[i], &error), 0);
    move->moved_count = 0;
}

static void take(int descriptor, void *context) {
    struct move *move = context;
    assert_true(move->moved_count < CLIENTS * 4);
    move->moved[move->moved_count++] = descriptor;
    if (!move->is_held_up) arrive(move);
}

static void count_drained(void *context) {
    ((struct move *)context)->drained++;
}

static void hand_over(struct move *move) {
    http_server_hand_over(move->from.server, take, count_drained, move);
}

static void turn(struct move *move) {
    http_fixture_turn(&move->from);
    http_fixture_turn(&move->to);
}

#define wait_for(move, condition)                                                                                      \
    do {                                                                                                               \
        uint64_t until_ = uv_hrtime() + 10000000000;                                                                   \
        while (!(condition)) {                                                                                         \
            if (uv_hrtime() > until_) fail_msg("waited in vain for: %s", #condition);                                  \
            turn(move);                                                                                                \
        }                                                                                                              \
    } while (0)

static int start_with(void **state, const struct http_limits *limits) {
    struct move *move = calloc(1, sizeof *move);
    http_fixture_start(&move->from, limits);
    http_fixture_start(&move->to, limits);
    *state = move;
    return 0;
}

static int start(void **state) {
    return start_with(state, &http_fixture_limits);
}

static int start_hasty(void **state) {
    struct http_limits limits = http_fixture_limits;
    limits.idle_timeout_ms = 80;
    return start_with(state, &limits);
}

static int start_narrow(void **state) {
    struct http_limits limits = http_fixture_limits;
    limits.connections_maximum = 2;
    return start_with(state, &limits);
}

static int stop(void **state) {
    struct move *move = *state;
    http_fixture_stop(&move->from);
    http_fixture_stop(&move->to);
    free(move);
    return 0;
}

/* One answer's text from whoever has the connection now; caller frees. */
static char *read_answer(struct move *move, int client) {
    char bytes[4096];
    size_t size = 0;
    uint64_t until = uv_hrtime() + 10000000000;
    while (size < sizeof bytes - 1) {
        ssize_t more = recv(client, bytes + size, sizeof bytes - 1 - size, MSG_DONTWAIT);
        if (more == 0) break;
        if (more > 0) size += (size_t)more;
        bytes[size] = 0;
        if (size && strstr(bytes, HELLO)) break;
        if (uv_hrtime() > until) fail_msg("no answer: %s", size ? bytes : "nothing");
        turn(move);
    }
    bytes[size] = 0;
    return strdup(bytes);
}

static void expect_hello(struct move *move, int client) {
    char *answer = read_answer(move, client);
    if (http_raw_status(answer) != 200 || !strstr(answer, HELLO)) fail_msg("no greeting: %s", answer);
    assert_null(strstr(answer, "Connection: close"));
    free(answer);
}

static void say(struct move *move, int client, const char *text) {
    http_raw_say(&move->from, client, text);
}

/* A client that has had an answer from the old server, which then waits for its next request. */
static int connect_idle(struct move *move) {
    int client = http_raw_connect(&move->from);
    say(move, client, GET_HELLO);
    expect_hello(move, client);
    return client;
}

static void an_idle_connection_goes_on_in_the_other_server(void **state) {
    struct move *move = *state;
    int client = connect_idle(move);
    hand_over(move);
    wait_for(move, move->drained);
    assert_int_equal(http_server_connections(move->from.server), 0);
    assert_int_equal(http_server_connections(move->to.server), 1);
    for (int i = 0; i < 3; i++) {
        say(move, client, GET_HELLO);
        expect_hello(move, client);
    }
    assert_int_equal(move->from.requests, 1);
    assert_int_equal(move->to.requests, 3);
    close(client);
}

static void one_that_never_asked_anything_moves_too(void **state) {
    struct move *move = *state;
    int client = http_raw_connect(&move->from);
    wait_for(move, http_server_connections(move->from.server) == 1);
    hand_over(move);
    wait_for(move, move->drained);
    say(move, client, GET_HELLO);
    expect_hello(move, client);
    assert_int_equal(move->to.requests, 1);
    close(client);
}

static void a_request_in_work_is_answered_and_then_its_connection_moves(void **state) {
    struct move *move = *state;
    int client = http_raw_connect(&move->from);
    say(move, client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for(move, move->from.held);
    hand_over(move);
    for (int i = 0; i < 20; i++) turn(move);
    assert_int_equal(http_server_connections(move->to.server), 0);
    assert_int_equal(move->drained, 0);
    http_respond_json(move->from.held, 200, HELLO, strlen(HELLO));
    expect_hello(move, client);
    wait_for(move, move->drained);
    say(move, client, GET_HELLO);
    expect_hello(move, client);
    assert_int_equal(move->to.requests, 1);
    close(client);
}

static void a_streamed_answer_ends_and_then_its_connection_moves(void **state) {
    struct move *move = *state;
    int client = http_raw_connect(&move->from);
    say(move, client, "GET /manual HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for(move, move->from.held && move->from.body_ends);
    http_begin(move->from.held, 200, NULL, 0, -1);
    http_send(move->from.held, "first ", 6);
    hand_over(move);
    for (int i = 0; i < 20; i++) turn(move);
    http_send(move->from.held, HELLO, strlen(HELLO));
    http_end(move->from.held);
    expect_hello(move, client);
    wait_for(move, move->drained);
    char rest[16];
    while (recv(client, rest, sizeof rest, MSG_DONTWAIT) > 0) continue; /* the last chunk */
    say(move, client, GET_HELLO);
    expect_hello(move, client);
    close(client);
}

static void a_request_whose_head_has_begun_is_answered_before_it_moves(void **state) {
    struct move *move = *state;
    int client = connect_idle(move);
    say(move, client, "GET /hello HTTP/1.1\r\nHo");
    for (int i = 0; i < 20; i++) turn(move);
    hand_over(move);
    for (int i = 0; i < 20; i++) turn(move);
    assert_int_equal(http_server_connections(move->from.server), 1);
    say(move, client, "st: a\r\n\r\n");
    expect_hello(move, client);
    assert_int_equal(move->from.requests, 2);
    wait_for(move, move->drained);
    say(move, client, GET_HELLO);
    expect_hello(move, client);
    close(client);
}

/* Three requests at once behind one that is held: all bytes but the first request's are read before the move. */
static void pipelined_requests_are_not_lost(void **state) {
    struct move *move = *state;
    int client = http_raw_connect(&move->from);
    say(move, client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n" GET_HELLO GET_HELLO "GET /hel");
    wait_for(move, move->from.held);
    for (int i = 0; i < 20; i++) turn(move);
    hand_over(move);
    http_respond(move->from.held, 204, NULL, 0, NULL, 0, NULL);
    wait_for(move, move->from.requests == 3);
    for (int i = 0; i < 20; i++) turn(move);
    assert_int_equal(move->drained, 0); /* a part of the fourth is here */
    say(move, client, "lo HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for(move, move->drained);
    assert_int_equal(move->from.requests, 4);
    say(move, client, GET_HELLO);
    wait_for(move, move->to.requests == 1);
    close(client);
}

static void what_comes_while_it_is_on_its_way_waits_in_the_kernel(void **state) {
    struct move *move = *state;
    int client = connect_idle(move);
    move->is_held_up = true;
    hand_over(move);
    wait_for(move, move->moved_count == 1);
    wait_for(move, move->drained);
    say(move, client, GET_HELLO GET_HELLO);
    for (int i = 0; i < 20; i++) turn(move);
    assert_int_equal(move->from.requests, 1);
    arrive(move);
    wait_for(move, move->to.requests == 2);
    expect_hello(move, client);
    close(client);
}

static void one_whose_client_has_gone_on_the_way_is_no_error(void **state) {
    struct move *move = *state;
    int client = connect_idle(move);
    move->is_held_up = true;
    hand_over(move);
    wait_for(move, move->moved_count == 1);
    const struct linger reset = {.l_onoff = 1};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(client);
    arrive(move);
    wait_for(move, !http_server_connections(move->to.server));
}

static void a_descriptor_that_is_no_connection_is_refused(void **state) {
    struct move *move = *state;
    struct error *error = NULL;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_true(http_server_adopt(move->to.server, ends[0], &error) < 0);
    assert_non_null(error);
    error_free(error);
    assert_int_equal(close(ends[0]), -1); /* it was taken all the same */
    close(ends[1]);
}

static void the_peer_of_one_that_came_is_known(void **state) {
    struct move *move = *state;
    int client = connect_idle(move);
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    assert_int_equal(getsockname(client, (struct sockaddr *)&name, &size), 0);
    hand_over(move);
    wait_for(move, move->drained);
    say(move, client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for(move, move->to.held);
    char peer[64];
    snprintf(peer, sizeof peer, "127.0.0.1:%u", ntohs(name.sin_port));
    assert_string_equal(move->to.held->peer, peer);
    assert_false(move->to.held->local);
    assert_false(move->to.held->tls);
    http_respond_json(move->to.held, 200, HELLO, strlen(HELLO));
    expect_hello(move, client);
    close(client);
}

static void one_that_came_is_closed_when_it_stays_idle(void **state) {
    struct move *move = *state;
    int client = http_raw_connect(&move->from);
    wait_for(move, http_server_connections(move->from.server) == 1);
    hand_over(move);
    wait_for(move, http_server_connections(move->to.server) == 1);
    wait_for(move, !http_server_connections(move->to.server));
    char byte;
    assert_int_equal(recv(client, &byte, 1, 0), 0);
    close(client);
}

/* Two may be there: of the two idle ones that came first one gives way to each that comes. */
static void the_longest_idle_one_gives_way_to_one_that_comes(void **state) {
    struct move *move = *state;
    int first = http_raw_connect(&move->to), second = http_raw_connect(&move->to);
    const int clients[] = {first, second};
    for (int i = 0; i < 2; i++) {
        say(move, clients[i], GET_HELLO);
        expect_hello(move, clients[i]);
    }
    int client = connect_idle(move);
    hand_over(move);
    wait_for(move, move->drained && http_server_connections(move->to.server) == 2);
    char byte;
    assert_int_equal(recv(first, &byte, 1, 0), 0);
    say(move, client, GET_HELLO);
    expect_hello(move, client);
    say(move, second, GET_HELLO);
    expect_hello(move, second);
    close(first);
    close(second);
    close(client);
}

static void a_drain_in_the_middle_of_a_hand_over_ends_it(void **state) {
    struct move *move = *state;
    int client = http_raw_connect(&move->from);
    say(move, client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for(move, move->from.held);
    hand_over(move);
    http_server_drain(move->from.server, count_drained, move);
    http_respond_json(move->from.held, 200, HELLO, strlen(HELLO));
    char *answer = read_answer(move, client);
    assert_non_null(strstr(answer, "Connection: close"));
    free(answer);
    close(client);
    wait_for(move, move->drained);
    assert_int_equal(http_server_connections(move->to.server), 0);
}

static void a_second_hand_over_moves_them_on(void **state) {
    struct move *move = *state;
    int client = connect_idle(move);
    hand_over(move);
    wait_for(move, move->drained);
    struct move third = {.from = {.server = NULL}};
    http_fixture_start(&third.to, &http_fixture_limits);
    http_server_hand_over(move->to.server, take, NULL, &third);
    wait_for(move, !http_server_connections(move->to.server));
    http_raw_say(&third.to, client, GET_HELLO);
    http_fixture_wait(&third.to, third.to.requests == 1);
    http_fixture_stop(&third.to);
    close(client);
}

/* Clients ask as fast as they are answered while their connections move: each gets an answer to each request. */
static void none_is_dropped_under_load(void **state) {
    struct move *move = *state;
    int clients[CLIENTS];
    unsigned answered[CLIENTS] = {0}, total = 0, before = 0;
    bool is_waiting[CLIENTS] = {false};
    for (int i = 0; i < CLIENTS; i++) clients[i] = http_raw_connect(&move->from);
    uint64_t until = uv_hrtime() + 20000000000;
    while (total < CLIENTS * 40) {
        for (int i = 0; i < CLIENTS; i++) {
            char bytes[4096];
            if (!is_waiting[i])
                is_waiting[i] = send(clients[i], GET_HELLO, strlen(GET_HELLO), MSG_NOSIGNAL) == sizeof GET_HELLO - 1;
            assert_true(is_waiting[i]);
            ssize_t size = recv(clients[i], bytes, sizeof bytes - 1, MSG_DONTWAIT);
            assert_int_not_equal(size, 0);
            if (size < 0) continue;
            bytes[size] = 0;
            assert_non_null(strstr(bytes, HELLO));
            is_waiting[i] = false;
            answered[i]++;
            total++;
        }
        if (total > CLIENTS * 10 && !before) {
            before = total;
            hand_over(move);
        }
        assert_true(uv_hrtime() < until);
        turn(move);
    }
    wait_for(move, move->drained);
    assert_true(move->from.requests >= before && move->to.requests > 0);
    assert_true(move->from.requests + move->to.requests >= total);
    for (int i = 0; i < CLIENTS; i++) {
        assert_true(answered[i] > 0);
        close(clients[i]);
    }
}

#define moves(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        moves(an_idle_connection_goes_on_in_the_other_server),
        moves(one_that_never_asked_anything_moves_too),
        moves(a_request_in_work_is_answered_and_then_its_connection_moves),
        moves(a_streamed_answer_ends_and_then_its_connection_moves),
        moves(a_request_whose_head_has_begun_is_answered_before_it_moves),
        moves(pipelined_requests_are_not_lost),
        moves(what_comes_while_it_is_on_its_way_waits_in_the_kernel),
        moves(one_whose_client_has_gone_on_the_way_is_no_error),
        moves(a_descriptor_that_is_no_connection_is_refused),
        moves(the_peer_of_one_that_came_is_known),
        cmocka_unit_test_setup_teardown(one_that_came_is_closed_when_it_stays_idle, start_hasty, stop),
        cmocka_unit_test_setup_teardown(the_longest_idle_one_gives_way_to_one_that_comes, start_narrow, stop),
        moves(a_drain_in_the_middle_of_a_hand_over_ends_it),
        moves(a_second_hand_over_moves_them_on),
        moves(none_is_dropped_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
