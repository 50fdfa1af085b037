/* How the service ends: asked to, hurried, too slow, killed (RULES P1, P2, P3). */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "fakes/fake_roles.h"
#include "supervisor/supervisor.h"
#include "support/serve.h"

static const char *const short_drain[] = {"--drain", "1s", "--upstream-timeout", "1s", NULL};

static int begin(void **state) {
    *state = mem_new(struct serve);
    serve_begin(*state);
    return 0;
}

static int begin_with_short_drain(void **state) {
    *state = mem_new(struct serve);
    serve_begin_with(*state, short_drain);
    return 0;
}

static int end(void **state) {
    serve_end(*state);
    free(*state);
    return 0;
}

static pid_t start_runner(struct serve *serve, const char *script) {
    serve_start_replica(serve, "replica-1", script, 5, 0);
    _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->controller, WIRE_replica_up);
    return (pid_t)up.replica_up.pid;
}

static void let_go(struct fake *fake) {
    _cleanup_wire_message_ struct wire_message told = fake_expect(fake, WIRE_hello);
    assert_string_equal(told.hello.role, "SIGTERM");
    fake_order(wire_channel_descriptor(fake->channel), FAKE_EXIT);
    assert_true(process_is_gone(fake->pid));
}

static void sigterm_ends_gateway_then_controller_and_indexer_then_runners(void **state) {
    struct serve *serve = *state;
    pid_t runner = start_runner(serve, "ready");
    kill(serve->pid, SIGTERM);
    /* While the gateway drains, the controller lives and so does the replica: it answers. */
    fake_skip(&serve->gateway, WIRE_hello);
    wire_say(serve->controller.channel, list_processes, .request = 1);
    fake_skip(&serve->controller, WIRE_processes_end);
    assert_int_equal(kill(runner, 0), 0);
    fake_order(wire_channel_descriptor(serve->gateway.channel), FAKE_EXIT);
    fake_skip(&serve->controller, WIRE_gateway_down);
    assert_int_equal(kill(runner, 0), 0);
    let_go(&serve->controller);
    assert_int_equal(kill(runner, 0), 0);
    let_go(&serve->indexer);
    assert_int_equal(serve_wait(serve), SERVE_EXIT_OK);
    assert_true(process_is_gone(runner));
}

static void nothing_is_started_again_while_it_ends(void **state) {
    struct serve *serve = *state;
    pid_t runner = start_runner(serve, "ready");
    kill(serve->pid, SIGTERM);
    fake_skip(&serve->gateway, WIRE_hello);
    kill(runner, SIGKILL);
    fake_skip(&serve->controller, WIRE_replica_down);
    serve_start_replica(serve, "replica-2", "ready", 5, 0);
    kill(serve->controller.pid, SIGKILL);
    kill(serve->indexer.pid, SIGKILL);
    fake_order(wire_channel_descriptor(serve->gateway.channel), FAKE_EXIT);
    assert_int_equal(serve_wait(serve), SERVE_EXIT_OK);
    _cleanup_free_ char *log = serve_stderr(serve);
    char *first = strstr(log, "replica started");
    assert_non_null(first);
    assert_null(strstr(first + 1, "replica started"));
}

static void what_does_not_end_is_killed_at_the_drain_deadline(void **state) {
    struct serve *serve = *state;
    pid_t runner = start_runner(serve, "stubborn");
    kill(serve->pid, SIGTERM); /* and neither gateway nor controller does anything about it */
    assert_int_equal(serve_wait(serve), SERVE_EXIT_OK);
    assert_true(process_is_gone(runner));
    assert_true(process_is_gone(serve->gateway.pid));
    assert_true(process_is_gone(serve->controller.pid));
    assert_true(process_is_gone(serve->indexer.pid));
}

static void a_second_ctrl_c_ends_everything_at_once(void **state) {
    struct serve *serve = *state;
    pid_t runner = start_runner(serve, "stubborn");
    kill(serve->pid, SIGINT);
    fake_skip(&serve->gateway, WIRE_hello);
    kill(serve->pid, SIGINT);
    assert_int_equal(serve_wait(serve), SERVE_EXIT_AT_ONCE);
    assert_true(process_is_gone(runner));
    assert_true(process_is_gone(serve->gateway.pid));
}

static void sighup_is_not_the_end(void **state) {
    struct serve *serve = *state;
    kill(serve->pid, SIGHUP);
    wire_say(serve->controller.channel, list_processes, .request = 1);
    fake_skip(&serve->controller, WIRE_processes_end);
    assert_int_equal(kill(serve->pid, 0), 0);
}

/* RULES P1, P2, P3: kill -9 leaves nothing, and the same folder and port serve again. */
static void after_kill_9_every_child_is_gone_and_a_fresh_serve_starts(void **state) {
    struct serve *serve = *state;
    pid_t runner = start_runner(serve, "stubborn");
    pid_t children[] = {runner, serve->gateway.pid, serve->controller.pid, serve->indexer.pid};
    kill(children[1], SIGSTOP); /* one that could not notice by itself */
    kill(serve->pid, SIGKILL);
    assert_int_equal(serve_wait(serve), -SIGKILL);
    for (size_t i = 0; i < ARRAY_SIZE(children); i++) assert_true(process_is_gone(children[i]));

    _cleanup_free_ char *address = text_format("127.0.0.1:%d", serve->port);
    const char *const flags[] = {"--listen", address, NULL};
    serve_launch(serve, flags);
    serve_accept(serve, "controller");
    _cleanup_free_ char *run = fs_join(serve->state, "run/replica-.1");
    assert_false(fs_exists(run)); /* the sockets of the dead are gone */
}

/* RULES P1: children that outlive their supervisor keep the next one waiting, and it says for whom. */
static void a_serve_waits_for_what_the_one_before_left(void **state) {
    struct serve *serve = *state;
    kill(serve->pid, SIGKILL);
    assert_int_equal(serve_wait(serve), -SIGKILL);
    /* A process in the kernel's hands cannot be had on demand; another holder of the lock stands for it. */
    _cleanup_free_ char *members = fs_join(serve->state, "members");
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t holder = fork();
    if (!holder) {
        int file = open(members, O_RDWR);
        if (flock(file, LOCK_SH) < 0 || write(pipe_ends[1], "", 1) < 0) _exit(1);
        for (;;) pause();
    }
    char byte;
    assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
    serve_launch(serve, NULL);
    int status = serve_wait(serve);
    _cleanup_free_ char *log = serve_stderr(serve);
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    assert_int_equal(status, SERVE_EXIT_IN_USE);
    _cleanup_free_ char *expected = text_format("left behind: pid %d (", (int)holder);
    assert_non_null(strstr(log, expected));
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

/* Sockets are reached by a short path, however long the state folder's own is. */
static void a_long_state_folder_gets_a_short_name(void **state) {
    struct serve *serve = *state;
    serve_prepare(serve);
    char deep[121];
    memset(deep, 'd', 120);
    deep[120] = 0;
    free(serve->state);
    serve->state = text_format("%s/%s/state", serve->folder, deep);
    serve_launch(serve, short_drain);
    serve_accept(serve, "controller");
    wire_say(serve->controller.channel, hello, .role = "controller");
    pid_t runner = start_runner(serve, "ready");
    serve_start_replica(serve, "replica-1", "ready", 5, 0);
    _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->controller, WIRE_replica_up);
    assert_in_range(strlen(up.replica_up.address), 1, 107);
    assert_true(fs_exists(up.replica_up.address));
    _cleanup_free_ char *record = fs_join(serve->state, "alias"), *alias = NULL;
    assert_int_equal(fs_read_file(record, 4096, &alias, NULL, NULL), 0);

    kill(serve->pid, SIGKILL); /* what it leaves, the next one removes */
    serve_wait(serve);
    assert_true(process_is_gone(runner));
    assert_true(fs_exists(alias));
    serve_launch(serve, short_drain);
    serve_accept(serve, "controller");
    assert_false(fs_exists(alias));
    _cleanup_free_ char *second = NULL;
    assert_int_equal(fs_read_file(record, 4096, &second, NULL, NULL), 0);
    kill(serve->pid, SIGTERM);
    assert_int_equal(serve_wait(serve), SERVE_EXIT_OK);
    assert_false(fs_exists(second));
}

static int begin_nothing(void **state) {
    *state = mem_new(struct serve);
    return 0;
}

int main(int argc, char **argv) {
    int status;
    if (fake_roles_main(argc, argv, &status)) return status;
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(sigterm_ends_gateway_then_controller_and_indexer_then_runners),
        TEST(nothing_is_started_again_while_it_ends),
        cmocka_unit_test_setup_teardown(what_does_not_end_is_killed_at_the_drain_deadline, begin_with_short_drain, end),
        TEST(a_second_ctrl_c_ends_everything_at_once),
        TEST(sighup_is_not_the_end),
        TEST(after_kill_9_every_child_is_gone_and_a_fresh_serve_starts),
        TEST(a_serve_waits_for_what_the_one_before_left),
        cmocka_unit_test_setup_teardown(a_long_state_folder_gets_a_short_name, begin_nothing, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
