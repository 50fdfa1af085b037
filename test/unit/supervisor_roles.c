/* Controller, indexer and gateway under the supervisor (RULES P2, P4, R2, R3, X5): what passes between them, and their
 * deaths. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
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

#include "base/memory.h"
#include "base/text.h"
#include "fakes/fake_roles.h"
#include "supervisor/supervisor-internal.h"
#include "support/serve.h"

static int begin(void **state) {
    struct serve *serve = mem_new(struct serve);
    *state = serve;
    serve_begin(serve);
    return 0;
}

static int end(void **state) {
    serve_end(*state);
    free(*state);
    return 0;
}

static void greet(struct fake *fake) {
    wire_say(fake->channel, hello, .role = fake->role, .version = "test");
}

static void the_pause_before_a_restart_doubles_up_to_5_s(void **state) {
    (void)state;
    static const uint64_t expected[] = {0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
    for (uint64_t deaths = 0; deaths < ARRAY_SIZE(expected); deaths++)
        assert_int_equal(process_backoff_ms(deaths, 0), expected[deaths]);
    assert_int_equal(process_backoff_ms(UINT64_MAX, 999), 5000);
}

static void the_pause_before_a_restart_is_at_most_a_quarter_of_the_work_before(void **state) {
    (void)state;
    assert_int_equal(process_backoff_ms(9, 1000), 250);
    assert_int_equal(process_backoff_ms(9, 12000), 3000);
    assert_int_equal(process_backoff_ms(9, 59000), 5000);
    assert_int_equal(process_backoff_ms(2, 1000), 100);
    assert_int_equal(process_backoff_ms(1, 1000), 0);
}

static void routes_are_announced_and_acknowledged_through_the_supervisor(void **state) {
    struct serve *serve = *state;
    wire_say(serve->controller.channel, routes_changed, .generation = 7);
    _cleanup_wire_message_ struct wire_message changed = fake_expect(&serve->gateway, WIRE_routes_changed);
    assert_int_equal(changed.routes_changed.generation, 7);
    wire_say(serve->gateway.channel, routes_used, .gateway_id = 999, .generation = 7, .lowest = 5);
    _cleanup_wire_message_ struct wire_message used = fake_expect(&serve->controller, WIRE_routes_used);
    assert_int_equal(used.routes_used.generation, 7);
    assert_int_equal(used.routes_used.lowest, 5);
    assert_true(used.routes_used.gateway_id != 999); /* the supervisor knows who speaks */
}

static void a_gateway_that_dies_is_told_of_and_comes_back_as_another(void **state) {
    struct serve *serve = *state;
    kill(serve->gateway.pid, SIGKILL);
    struct fake *const listeners[] = {&serve->controller, &serve->indexer};
    uint64_t before[2];
    for (size_t i = 0; i < 2; i++) {
        _cleanup_wire_message_ struct wire_message down = fake_expect(listeners[i], WIRE_gateway_down);
        before[i] = down.gateway_down.gateway_id;
    }
    greet(serve_accept(serve, "gateway"));
    for (size_t i = 0; i < 2; i++) {
        _cleanup_wire_message_ struct wire_message up = fake_expect(listeners[i], WIRE_gateway_up);
        assert_true(up.gateway_up.gateway_id > before[i]);
        assert_int_equal(up.gateway_up.pid, serve->gateway.pid);
    }
}

/* What is passed on, by who says it to whom; the fields stay as they are. */
static void gateway_and_indexer_speak_through_the_supervisor(void **state) {
    struct serve *serve = *state;
    wire_say(serve->gateway.channel, log_appended, .collection_id = "c", .set = "documents", .head = 9);
    _cleanup_wire_message_ struct wire_message appended = fake_expect(&serve->indexer, WIRE_log_appended);
    assert_string_equal(appended.log_appended.collection_id, "c");
    assert_string_equal(appended.log_appended.set, "documents");
    assert_int_equal(appended.log_appended.head, 9);
    wire_say(serve->indexer.channel, log_indexed, .collection_id = "c", .seq = 8);
    _cleanup_wire_message_ struct wire_message indexed = fake_expect(&serve->gateway, WIRE_log_indexed);
    assert_string_equal(indexed.log_indexed.collection_id, "c");
    assert_int_equal(indexed.log_indexed.seq, 8);
    wire_say(serve->indexer.channel, pair_changed, .collection_id = "c", .epoch = 3);
    _cleanup_wire_message_ struct wire_message changed = fake_expect(&serve->gateway, WIRE_pair_changed);
    assert_int_equal(changed.pair_changed.epoch, 3);
}

static void controller_and_indexer_speak_through_the_supervisor(void **state) {
    struct serve *serve = *state;
    wire_say(serve->controller.channel, indexer_ask, .request = 5, .verb = "open", .collection_id = "c",
             .body_json = "{}");
    _cleanup_wire_message_ struct wire_message ask = fake_expect(&serve->indexer, WIRE_indexer_ask);
    assert_int_equal(ask.indexer_ask.request, 5);
    assert_string_equal(ask.indexer_ask.verb, "open");
    assert_string_equal(ask.indexer_ask.body_json, "{}");
    wire_say(serve->indexer.channel, index_progress, .collection_id = "c", .index_id = "i", .state = "filling",
             .done = 1, .total = 4, .failed = 2, .rate_milli = 7);
    _cleanup_wire_message_ struct wire_message progress = fake_expect(&serve->controller, WIRE_index_progress);
    assert_string_equal(progress.index_progress.state, "filling");
    assert_int_equal(progress.index_progress.rate_milli, 7);
    wire_say(serve->indexer.channel, collection_events, .collection_id = "c", .last_id = 11);
    _cleanup_wire_message_ struct wire_message events = fake_expect(&serve->controller, WIRE_collection_events);
    assert_int_equal(events.collection_events.last_id, 11);
    wire_say(serve->indexer.channel, indexer_answer, .request = 5, .body_json = "{\"a\":1}");
    _cleanup_wire_message_ struct wire_message answer = fake_expect(&serve->controller, WIRE_indexer_answer);
    assert_int_equal(answer.indexer_answer.request, 5);
    assert_string_equal(answer.indexer_answer.body_json, "{\"a\":1}");
}

/* RULES X5: the acknowledgement of a pair carries the gateway's true number, whatever it said itself. */
static void the_supervisor_says_which_gateway_uses_a_pair(void **state) {
    struct serve *serve = *state;
    kill(serve->indexer.pid, SIGKILL);
    greet(serve_accept(serve, "indexer"));
    _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->indexer, WIRE_gateway_up);
    wire_say(serve->gateway.channel, pair_used, .gateway_id = 999, .collection_id = "c", .epoch = 4, .lowest = 2);
    _cleanup_wire_message_ struct wire_message used = fake_expect(&serve->indexer, WIRE_pair_used);
    assert_int_equal(used.pair_used.gateway_id, up.gateway_up.gateway_id);
    assert_int_equal(used.pair_used.epoch, 4);
    assert_int_equal(used.pair_used.lowest, 2);
}

static void an_indexer_that_dies_is_told_of_and_comes_back(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, "replica-1", "ready", 5, 0);
    fake_skip(&serve->controller, WIRE_replica_up);
    pid_t first = serve->indexer.pid;
    kill(first, SIGKILL);
    struct fake *const listeners[] = {&serve->controller, &serve->gateway};
    for (size_t i = 0; i < 2; i++) fake_skip(listeners[i], WIRE_indexer_down);
    /* Asked of one that is not there: dropped, and asked again when it is told of. */
    wire_say(serve->controller.channel, indexer_ask, .request = 1, .verb = "open", .collection_id = "c");
    struct fake *indexer = serve_accept(serve, "indexer");
    assert_true(indexer->pid != first);
    wire_say(serve->controller.channel, list_processes, .request = 1);
    fake_skip(&serve->controller, WIRE_processes_end); /* the supervisor has read what came before */
    greet(indexer);
    for (size_t i = 0; i < 2; i++) {
        _cleanup_wire_message_ struct wire_message up = fake_expect(listeners[i], WIRE_indexer_up);
        assert_int_equal(up.indexer_up.pid, indexer->pid);
    }
    static const enum wire_type expected[] = {WIRE_gateway_up, WIRE_replica_up, WIRE_snapshot_end};
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        _cleanup_wire_message_ struct wire_message told = fake_next(indexer);
        assert_int_equal(told.type, expected[i]);
    }
}

static void a_new_gateway_is_told_of_the_indexer(void **state) {
    struct serve *serve = *state;
    kill(serve->gateway.pid, SIGKILL);
    struct fake *gateway = serve_accept(serve, "gateway");
    greet(gateway);
    _cleanup_wire_message_ struct wire_message up = fake_next(gateway);
    assert_int_equal(up.type, WIRE_indexer_up);
    assert_int_equal(up.indexer_up.pid, serve->indexer.pid);
}

/* Who may say what is a table: what another role says in its place goes nowhere. */
static void what_is_not_a_roles_to_send_is_not_passed_on(void **state) {
    struct serve *serve = *state;
    wire_say(serve->gateway.channel, pair_changed, .collection_id = "forged", .epoch = 9);
    wire_say(serve->gateway.channel, stop_replica, .replica_id = "forged");
    wire_say(serve->indexer.channel, start_replica, .replica_id = "forged");
    wire_say(serve->indexer.channel, routes_used, .generation = 77);
    wire_say(serve->indexer.channel, indexer_answer, .request = 1);
    _cleanup_wire_message_ struct wire_message next = fake_next(&serve->controller);
    assert_int_equal(next.type, WIRE_indexer_answer);
    wire_say(serve->gateway.channel, log_appended, .collection_id = "c", .head = 1);
    _cleanup_wire_message_ struct wire_message appended = fake_next(&serve->indexer);
    assert_int_equal(appended.type, WIRE_log_appended);
    _cleanup_free_ char *log = serve_stderr(serve);
    char *at = log;
    for (int count = 0; count < 4; count++) {
        at = strstr(at, "sent a message that is not its to send");
        assert_non_null(at);
        at++;
    }
}

/* No relay waits for its reader, and none keeps without end what it does not read. */
static void a_role_that_does_not_read_is_replaced_and_keeps_nobody_waiting(void **state) {
    struct serve *serve = *state;
    pid_t first = serve->indexer.pid;
    kill(first, SIGSTOP);
    _cleanup_free_ char *body = mem_zeroed(1, 150001);
    memset(body, 'x', 150000);
    for (int i = 0; i < 600 && !kill(first, 0); i++) {
        assert_int_equal(wire_say(serve->controller.channel, indexer_ask, .request = 1, .body_json = body), 0);
        wire_say(serve->controller.channel, list_processes, .request = (uint64_t)i);
        fake_skip(&serve->controller, WIRE_processes_end);
    }
    assert_true(process_is_gone(first));
    serve_accept(serve, "indexer");
    _cleanup_free_ char *log = serve_stderr(serve);
    assert_non_null(strstr(log, "cause=\"killed: it did not read what it was sent\""));
}

static void the_port_stays_open_while_no_gateway_lives(void **state) {
    struct serve *serve = *state;
    kill(serve->gateway.pid, SIGKILL);
    assert_true(process_is_gone(serve->gateway.pid));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)serve->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    close(client);
}

static void a_new_controller_is_told_what_the_gateway_uses(void **state) {
    struct serve *serve = *state;
    wire_say(serve->gateway.channel, routes_used, .generation = 9, .lowest = 8);
    fake_skip(&serve->controller, WIRE_routes_used);
    kill(serve->controller.pid, SIGKILL);
    struct fake *controller = serve_accept(serve, "controller");
    greet(controller);
    _cleanup_wire_message_ struct wire_message up = fake_next(controller);
    assert_int_equal(up.type, WIRE_gateway_up);
    _cleanup_wire_message_ struct wire_message used = fake_next(controller);
    assert_int_equal(used.type, WIRE_routes_used);
    _cleanup_wire_message_ struct wire_message indexer = fake_next(controller);
    assert_int_equal(indexer.type, WIRE_indexer_up);
    assert_int_equal(used.routes_used.gateway_id, up.gateway_up.gateway_id);
    assert_int_equal(used.routes_used.generation, 9);
    assert_int_equal(used.routes_used.lowest, 8);
    _cleanup_wire_message_ struct wire_message last = fake_next(controller);
    assert_int_equal(last.type, WIRE_snapshot_end);
}

static void what_a_controller_asked_for_before_it_died_is_done(void **state) {
    struct serve *serve = *state;
    kill(serve->pid, SIGSTOP); /* so that the request is still in the socket when the controller is dead */
    serve_start_replica(serve, "replica-1", "ready", 5, 0);
    wire_say(serve->controller.channel, routes_changed, .generation = 3);
    fake_order(wire_channel_descriptor(serve->controller.channel), FAKE_EXIT);
    assert_true(process_is_gone(serve->controller.pid));
    kill(serve->pid, SIGCONT);
    fake_skip(&serve->gateway, WIRE_routes_changed);
    _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->gateway, WIRE_replica_up);
    assert_string_equal(up.replica_up.replica_id, "replica-1");
}

static void a_gateway_that_does_not_answer_is_killed_and_started_again(void **state) {
    struct serve *serve = *state;
    pid_t first = serve->gateway.pid;
    kill(first, SIGSTOP);
    serve_accept(serve, "gateway");
    assert_true(serve->gateway.pid != first);
    assert_true(process_is_gone(first));
    _cleanup_free_ char *log = serve_stderr(serve);
    assert_non_null(strstr(log, "cause=\"killed: it did not answer for 10 s\""));
}

static void a_role_that_closes_its_connection_is_replaced(void **state) {
    struct serve *serve = *state;
    static const char rubbish[] = "rubbish";
    assert_int_equal(send(wire_channel_descriptor(serve->gateway.channel), rubbish, sizeof rubbish, 0), sizeof rubbish);
    serve_accept(serve, "gateway");
    _cleanup_free_ char *log = serve_stderr(serve);
    assert_non_null(strstr(log, "cause=\"killed: it sent a malformed message\""));
}

static void every_process_is_listed(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, "replica-1", "ready", 5, 0);
    fake_skip(&serve->controller, WIRE_replica_up);
    wire_say(serve->controller.channel, list_processes, .request = 42);
    const char *const expected[] = {"supervisor", "controller", "indexer", "gateway", "runner"};
    const pid_t pids[] = {serve->pid, serve->controller.pid, serve->indexer.pid, serve->gateway.pid, 0};
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        _cleanup_wire_message_ struct wire_message process = fake_next(&serve->controller);
        assert_int_equal(process.type, WIRE_process);
        assert_int_equal(process.process.request, 42);
        assert_string_equal(process.process.role, expected[i]);
        if (pids[i]) assert_int_equal(process.process.pid, pids[i]);
        assert_true(process.process.since_ms > 1600000000000);
        assert_string_equal(process.process.replica_id, i == 4 ? "replica-1" : "");
        assert_int_equal(process.process.revision, i == 4 ? 3 : 0);
    }
    _cleanup_wire_message_ struct wire_message last = fake_next(&serve->controller);
    assert_int_equal(last.type, WIRE_processes_end);
    assert_int_equal(last.processes_end.request, 42);
}

static void a_role_that_cannot_start_for_good_ends_serve_with_its_words(void **state) {
    struct serve *serve = *state;
    wire_say(serve->controller.channel, role_failed, .message = "the database is of version 9, this program knows 1");
    fake_order(wire_channel_descriptor(serve->controller.channel), FAKE_EXIT_PERMANENT);
    fake_skip(&serve->gateway, WIRE_hello); /* its SIGTERM */
    fake_order(wire_channel_descriptor(serve->gateway.channel), FAKE_EXIT);
    fake_skip(&serve->indexer, WIRE_hello);
    fake_order(wire_channel_descriptor(serve->indexer.channel), FAKE_EXIT);
    assert_int_equal(serve_wait(serve), SERVE_EXIT_PERMANENT);
    _cleanup_free_ char *log = serve_stderr(serve);
    assert_non_null(strstr(
        log, "slipway serve: the controller cannot start: the database is of version 9, this program knows 1\n"));
}

static void the_death_of_an_indexer_that_cannot_start_again_ends_nothing_else(void **state) {
    struct serve *serve = *state;
    wire_say(serve->indexer.channel, role_ready, .unused = 0);
    for (int deaths = 0; deaths < 3; deaths++) {
        pid_t before = serve->indexer.pid;
        wire_say(serve->indexer.channel, role_failed, .message = "no room on the disk");
        fake_order(wire_channel_descriptor(serve->indexer.channel), FAKE_EXIT_PERMANENT);
        serve_accept(serve, "indexer");
        assert_true(serve->indexer.pid != before);
    }
    wire_say(serve->controller.channel, routes_changed, .generation = 7);
    fake_skip(&serve->gateway, WIRE_routes_changed);
}

static void a_role_that_could_start_before_is_tried_again(void **state) {
    struct serve *serve = *state;
    wire_say(serve->controller.channel, role_ready, .unused = 0);
    fake_order(wire_channel_descriptor(serve->controller.channel), FAKE_EXIT_PERMANENT);
    pid_t first = serve->controller.pid;
    serve_accept(serve, "controller");
    assert_true(serve->controller.pid != first);
    fake_order(wire_channel_descriptor(serve->controller.channel), FAKE_EXIT_PERMANENT);
    first = serve->controller.pid;
    serve_accept(serve, "controller");
    assert_true(serve->controller.pid != first);
}

static void readiness_is_told_to_the_service_manager_once_all_answer(void **state) {
    struct serve serve;
    (void)state;
    char path[] = "/tmp/slipway-notify-XXXXXX";
    assert_non_null(mkdtemp(path));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", path);
    int manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(manager, (struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    serve_begin(&serve);
    unsetenv("NOTIFY_SOCKET");
    struct fake *const roles[] = {&serve.controller, &serve.gateway, &serve.indexer};
    char text[64] = "";
    for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
        wire_say(roles[i]->channel, role_ready, .unused = 0);
        if (i == 2) break;
        wire_say(roles[i]->channel, ping, .sequence = i); /* answered when what came before has been read */
        fake_skip(roles[i], WIRE_pong);
        assert_int_equal(recv(manager, text, sizeof text, MSG_DONTWAIT), -1);
    }
    struct timeval deadline = {.tv_sec = SERVE_DEADLINE_MS / 1000};
    setsockopt(manager, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    assert_int_equal(recv(manager, text, sizeof text, 0), 8);
    assert_string_equal(text, "READY=1\n");
    close(manager);
    unlink(address.sun_path);
    rmdir(path);
    serve_end(&serve);
}

int main(int argc, char **argv) {
    int status;
    if (fake_roles_main(argc, argv, &status)) return status;
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pause_before_a_restart_doubles_up_to_5_s),
        cmocka_unit_test(the_pause_before_a_restart_is_at_most_a_quarter_of_the_work_before),
        TEST(routes_are_announced_and_acknowledged_through_the_supervisor),
        TEST(a_gateway_that_dies_is_told_of_and_comes_back_as_another),
        TEST(the_port_stays_open_while_no_gateway_lives),
        TEST(gateway_and_indexer_speak_through_the_supervisor),
        TEST(controller_and_indexer_speak_through_the_supervisor),
        TEST(the_supervisor_says_which_gateway_uses_a_pair),
        TEST(an_indexer_that_dies_is_told_of_and_comes_back),
        TEST(a_new_gateway_is_told_of_the_indexer),
        TEST(what_is_not_a_roles_to_send_is_not_passed_on),
        TEST(a_role_that_does_not_read_is_replaced_and_keeps_nobody_waiting),
        TEST(the_death_of_an_indexer_that_cannot_start_again_ends_nothing_else),
        TEST(a_new_controller_is_told_what_the_gateway_uses),
        TEST(what_a_controller_asked_for_before_it_died_is_done),
        TEST(a_gateway_that_does_not_answer_is_killed_and_started_again),
        TEST(a_role_that_closes_its_connection_is_replaced),
        TEST(every_process_is_listed),
        TEST(a_role_that_cannot_start_for_good_ends_serve_with_its_words),
        TEST(a_role_that_could_start_before_is_tried_again),
        cmocka_unit_test(readiness_is_told_to_the_service_manager_once_all_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
