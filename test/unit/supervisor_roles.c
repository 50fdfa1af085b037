/* Controller and gateway under the supervisor (RULES P2, P4, R2, R3): what passes between them, and their deaths. */
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
        assert_int_equal(process_backoff_ms(deaths), expected[deaths]);
    assert_int_equal(process_backoff_ms(UINT64_MAX), 5000);
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
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_gateway_down);
    greet(serve_accept(serve, "gateway"));
    _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->controller, WIRE_gateway_up);
    assert_true(up.gateway_up.gateway_id > down.gateway_down.gateway_id);
    assert_int_equal(up.gateway_up.pid, serve->gateway.pid);
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
    const char *const expected[] = {"supervisor", "controller", "gateway", "runner"};
    const pid_t pids[] = {serve->pid, serve->controller.pid, serve->gateway.pid, 0};
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        _cleanup_wire_message_ struct wire_message process = fake_next(&serve->controller);
        assert_int_equal(process.type, WIRE_process);
        assert_int_equal(process.process.request, 42);
        assert_string_equal(process.process.role, expected[i]);
        if (pids[i]) assert_int_equal(process.process.pid, pids[i]);
        assert_true(process.process.since_ms > 1600000000000);
        assert_string_equal(process.process.replica_id, i == 3 ? "replica-1" : "");
        assert_int_equal(process.process.revision, i == 3 ? 3 : 0);
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
    assert_int_equal(serve_wait(serve), SERVE_EXIT_PERMANENT);
    _cleanup_free_ char *log = serve_stderr(serve);
    assert_non_null(strstr(
        log, "slipway serve: the controller cannot start: the database is of version 9, this program knows 1\n"));
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

static void readiness_is_told_to_the_service_manager_once_both_answer(void **state) {
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
    wire_say(serve.controller.channel, role_ready, .unused = 0);
    wire_say(serve.controller.channel, list_processes, .request = 1);
    fake_skip(&serve.controller, WIRE_processes_end); /* the supervisor has read what came before */
    char text[64] = "";
    assert_int_equal(recv(manager, text, sizeof text, MSG_DONTWAIT), -1);
    wire_say(serve.gateway.channel, role_ready, .unused = 0);
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
        TEST(routes_are_announced_and_acknowledged_through_the_supervisor),
        TEST(a_gateway_that_dies_is_told_of_and_comes_back_as_another),
        TEST(the_port_stays_open_while_no_gateway_lives),
        TEST(a_new_controller_is_told_what_the_gateway_uses),
        TEST(what_a_controller_asked_for_before_it_died_is_done),
        TEST(a_gateway_that_does_not_answer_is_killed_and_started_again),
        TEST(a_role_that_closes_its_connection_is_replaced),
        TEST(every_process_is_listed),
        TEST(a_role_that_cannot_start_for_good_ends_serve_with_its_words),
        TEST(a_role_that_could_start_before_is_tried_again),
        cmocka_unit_test(readiness_is_told_to_the_service_manager_once_both_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
