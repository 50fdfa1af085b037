/* RULES P2 and P4, and what is said of replicas: the supervisor with runners that do as their script says. */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "fakes/fake_roles.h"
#include "support/serve.h"

#define ID "0b8ef1c0-7f0b-4f6e-9d1a-2f6b1f1f0c11"

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

#define assert_holds(text, expected)                                                                                   \
    do {                                                                                                               \
        if (!strstr((text), (expected))) fail_msg("\"%s\" lacks \"%s\"", (text), (expected));                          \
    } while (0)

static void a_ready_replica_is_told_to_every_role(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "ready", 5, 0);
    _cleanup_wire_message_ struct wire_message started = fake_expect(&serve->controller, WIRE_replica_started);
    assert_string_equal(started.replica_started.replica_id, ID);
    struct fake *const listeners[] = {&serve->controller, &serve->indexer, &serve->gateway};
    for (size_t i = 0; i < 3; i++) {
        _cleanup_wire_message_ struct wire_message up = fake_expect(listeners[i], WIRE_replica_up);
        assert_string_equal(up.replica_up.replica_id, ID);
        assert_string_equal(up.replica_up.deployment_id, "deployment-1");
        assert_int_equal(up.replica_up.revision, 3);
        assert_int_equal(up.replica_up.pid, started.replica_started.pid);
        assert_int_equal(up.replica_up.incarnation, started.replica_started.incarnation);
        struct stat status;
        assert_int_equal(stat(up.replica_up.address, &status), 0);
        assert_true(S_ISSOCK(status.st_mode));
    }
}

static void a_repeated_request_is_the_same_replica(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "ready", 5, 0);
    _cleanup_wire_message_ struct wire_message first = fake_expect(&serve->controller, WIRE_replica_up);
    serve_start_replica(serve, ID, "exit-7", 5, 0);
    _cleanup_wire_message_ struct wire_message second = fake_next(&serve->controller);
    assert_int_equal(second.type, WIRE_replica_up);
    assert_int_equal(second.replica_up.pid, first.replica_up.pid);
    assert_int_equal(second.replica_up.incarnation, first.replica_up.incarnation);
}

static void a_runner_finds_only_what_is_meant_for_it(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "ready", 5, 0);
    _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->controller, WIRE_replica_up);
    const char *report = up.replica_up.report_json;
    assert_holds(report, "\"descriptors\":\"0 1 2 3 5 \"");
    assert_holds(report, "\"environment\":\"PATH LANG HOME GLIBC_TUNABLES \"");
    assert_holds(report, "\"folder\":\"/\"");
    assert_holds(report, "\"own_group\":1");
    _cleanup_free_ char *path = text_format("/proc/%d/oom_score_adj", (int)up.replica_up.pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    int adjustment = 0;
    assert_int_equal(fscanf(file, "%d", &adjustment), 1);
    fclose(file);
    assert_true(adjustment >= 500);
}

/* Also when it comes back; and RULES P2 holds for it: it ends with its supervisor. */
static void a_replica_of_idle_priority_runs_when_nothing_else_wants_to(void **state) {
    struct serve *serve = *state;
    const char *const ids[] = {"ordinary", "idle"};
    for (uint64_t idle = 0; idle < 2; idle++) {
        _cleanup_free_ char *model = serve_model(serve, "ready");
        wire_say(serve->controller.channel, start_replica, .replica_id = ids[idle], .package_path = model,
                 .restarts_maximum = 5, .idle_priority = idle);
        _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->controller, WIRE_replica_up);
        assert_int_equal(sched_getscheduler((pid_t)up.replica_up.pid), idle ? SCHED_IDLE : SCHED_OTHER);
        if (!idle) continue;
        kill((pid_t)up.replica_up.pid, SIGKILL);
        _cleanup_wire_message_ struct wire_message again = fake_expect(&serve->controller, WIRE_replica_up);
        assert_int_equal(sched_getscheduler((pid_t)again.replica_up.pid), SCHED_IDLE);
        kill(serve->pid, SIGKILL);
        assert_true(process_is_gone((pid_t)again.replica_up.pid));
    }
}

static void a_dead_replica_comes_back_at_another_address(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "ready", 5, 0);
    _cleanup_wire_message_ struct wire_message first = fake_expect(&serve->gateway, WIRE_replica_up);
    kill((pid_t)first.replica_up.pid, SIGKILL);
    _cleanup_wire_message_ struct wire_message down = fake_next(&serve->gateway);
    assert_int_equal(down.type, WIRE_replica_down);
    assert_int_equal(down.replica_down.incarnation, first.replica_up.incarnation);
    assert_int_equal(down.replica_down.pid, first.replica_up.pid);
    assert_int_equal(down.replica_down.final, 0);
    assert_holds(down.replica_down.cause, "killed by signal 9 (Killed, ");
    assert_holds(down.replica_down.cause, "out of memory");
    _cleanup_wire_message_ struct wire_message second = fake_expect(&serve->gateway, WIRE_replica_up);
    assert_true(second.replica_up.incarnation > first.replica_up.incarnation);
    assert_string_not_equal(second.replica_up.address, first.replica_up.address);
    assert_int_equal(second.replica_up.restarts, 1);
    assert_false(fs_exists(first.replica_up.address));
}

static void a_replica_is_kept_up_while_no_controller_lives(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "ready", 5, 0);
    _cleanup_wire_message_ struct wire_message first = fake_expect(&serve->gateway, WIRE_replica_up);
    kill(serve->controller.pid, SIGKILL);
    kill((pid_t)first.replica_up.pid, SIGKILL);
    _cleanup_wire_message_ struct wire_message second = fake_expect(&serve->gateway, WIRE_replica_up);
    assert_true(second.replica_up.pid != first.replica_up.pid);

    struct fake *controller = serve_accept(serve, "controller");
    wire_say(controller->channel, hello, .role = "controller");
    _cleanup_wire_message_ struct wire_message gateway = fake_next(controller);
    assert_int_equal(gateway.type, WIRE_gateway_up);
    fake_skip(controller, WIRE_indexer_up);
    _cleanup_wire_message_ struct wire_message told = fake_next(controller);
    assert_int_equal(told.type, WIRE_replica_up);
    assert_int_equal(told.replica_up.pid, second.replica_up.pid);
    _cleanup_wire_message_ struct wire_message last = fake_next(controller);
    assert_int_equal(last.type, WIRE_snapshot_end);
}

static void a_replica_that_keeps_dying_is_given_up_with_its_last_words(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "exit-7", 2, 0);
    for (uint64_t death = 1; death <= 3; death++) {
        _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
        assert_int_equal(down.replica_down.final, death == 3);
        assert_int_equal(down.replica_down.stopped, 0);
        assert_string_equal(down.replica_down.cause, "exit status 7");
        assert_string_equal(down.replica_down.log_tail, "last words\n");
    }
}

static void a_crash_is_told_with_its_signal(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "crash", 0, 0);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_int_equal(down.replica_down.final, 1);
    assert_string_equal(down.replica_down.log_tail, "last words\n");
    assert_string_equal(down.replica_down.cause, "killed by signal 11 (Segmentation fault)");
}

static void a_failure_for_good_is_final_at_once(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "permanent", 5, 0);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_int_equal(down.replica_down.final, 1);
    assert_int_equal(down.replica_down.restarts, 0);
    assert_string_equal(down.replica_down.error_json, "{\"error\":\"ConfigurationError\"}");
}

static void a_failure_that_may_pass_is_tried_again(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "transient", 1, 0);
    _cleanup_wire_message_ struct wire_message first = fake_expect(&serve->controller, WIRE_replica_down);
    assert_int_equal(first.replica_down.final, 0);
    _cleanup_wire_message_ struct wire_message second = fake_expect(&serve->controller, WIRE_replica_down);
    assert_int_equal(second.replica_down.final, 1);
}

static void a_replica_that_is_not_ready_in_time_is_killed(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "silent", 0, 1000);
    _cleanup_wire_message_ struct wire_message started = fake_expect(&serve->controller, WIRE_replica_started);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_string_equal(down.replica_down.cause, "killed: it was not ready within 1 s");
    assert_true(process_is_gone((pid_t)started.replica_started.pid));
}

static void a_replica_that_cannot_be_executed_is_told_why(void **state) {
    struct serve *serve = *state;
    _cleanup_free_ char *recipe = mem_alloc(150001); /* longer than the kernel takes as one argument */
    memset(recipe, 'x', 150000);
    recipe[150000] = 0;
    wire_say(serve->controller.channel, start_replica, .replica_id = ID, .package_path = "/", .recipe_json = recipe);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_string_equal(down.replica_down.cause, "could not be started: execute the program: Argument list too long");
}

static void stopping_ends_the_process_and_its_socket(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "ready", 5, 0);
    _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->controller, WIRE_replica_up);
    wire_say(serve->controller.channel, stop_replica, .replica_id = ID, .drain_ms = 10000);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_int_equal(down.replica_down.final, 1);
    assert_int_equal(down.replica_down.stopped, 1);
    assert_string_equal(down.replica_down.cause, "stopped");
    assert_true(process_is_gone((pid_t)up.replica_up.pid));
    assert_false(fs_exists(up.replica_up.address));
}

static void a_replica_that_does_not_stop_is_killed_after_its_drain_time(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "stubborn", 5, 0);
    _cleanup_wire_message_ struct wire_message up = fake_expect(&serve->controller, WIRE_replica_up);
    wire_say(serve->controller.channel, stop_replica, .replica_id = ID, .drain_ms = 300);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_int_equal(down.replica_down.stopped, 1);
    assert_string_equal(down.replica_down.cause, "killed: it did not end within its drain time");
    assert_true(process_is_gone((pid_t)up.replica_up.pid));
}

static void stopping_what_is_not_known_is_answered(void **state) {
    struct serve *serve = *state;
    wire_say(serve->controller.channel, stop_replica, .replica_id = "no-such-replica", .drain_ms = 300);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_string_equal(down.replica_down.replica_id, "no-such-replica");
    assert_int_equal(down.replica_down.final, 1);
}

static void a_replica_given_up_is_told_to_the_next_controller_until_it_is_stopped(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "permanent", 5, 0);
    fake_skip(&serve->controller, WIRE_replica_down);
    kill(serve->controller.pid, SIGKILL);
    struct fake *controller = serve_accept(serve, "controller");
    wire_say(controller->channel, hello, .role = "controller");
    _cleanup_wire_message_ struct wire_message told = fake_expect(controller, WIRE_replica_down);
    assert_string_equal(told.replica_down.replica_id, ID);
    assert_int_equal(told.replica_down.final, 1);
    fake_skip(controller, WIRE_snapshot_end);
    wire_say(controller->channel, stop_replica, .replica_id = ID);
    _cleanup_wire_message_ struct wire_message stopped = fake_expect(controller, WIRE_replica_down);
    assert_int_equal(stopped.replica_down.stopped, 1);
    wire_say(controller->channel, stop_replica, .replica_id = ID);
    _cleanup_wire_message_ struct wire_message unknown = fake_expect(controller, WIRE_replica_down);
    assert_string_equal(unknown.replica_down.cause, "not known");
}

static void a_runner_that_speaks_out_of_turn_is_killed(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, "other", "ready", 5, 0);
    fake_skip(&serve->controller, WIRE_replica_up);
    static const struct {
        const char *script, *cause;
    } cases[] = {{"rubbish", "killed: it sent a malformed message"},
                 {"forge", "killed: it sent a message that is not a runner's"}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        serve_start_replica(serve, cases[i].script, cases[i].script, 0, 0);
        _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
        assert_string_equal(down.replica_down.replica_id, cases[i].script); /* and not "other", which it told to stop */
        assert_string_equal(down.replica_down.cause, cases[i].cause);
    }
}

static void a_replica_that_answers_no_ping_is_killed(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, ID, "deaf", 0, 0);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_string_equal(down.replica_down.cause, "killed: it did not answer for 10 s");
}

static void an_id_that_is_no_file_name_is_refused(void **state) {
    struct serve *serve = *state;
    serve_start_replica(serve, "../../etc/x", "ready", 5, 0);
    _cleanup_wire_message_ struct wire_message down = fake_next(&serve->controller);
    assert_int_equal(down.type, WIRE_replica_down);
    assert_int_equal(down.replica_down.final, 1);
}

static void a_long_log_is_set_aside_at_the_next_start(void **state) {
    struct serve *serve = *state;
    _cleanup_free_ char *path = text_format("%s/logs/%s.log", serve->state, ID);
    _cleanup_free_ char *older = text_format("%s.1", path);
    _cleanup_free_ char *bytes = mem_zeroed(1, (4 << 20) + 1);
    assert_int_equal(fs_write_file(path, bytes, (4 << 20) + 1, NULL), 0);
    serve_start_replica(serve, ID, "exit-7", 0, 0);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_string_equal(down.replica_down.log_tail, "last words\n");
    struct stat status;
    assert_int_equal(stat(older, &status), 0);
    assert_int_equal(status.st_size, (4 << 20) + 1);
}

/* ---- a log that grows ---- */

static int begin_with_small_logs(void **state) {
    static const char *const flags[] = {"--log-maximum", "4096", NULL};
    *state = mem_new(struct serve);
    serve_begin_with(*state, flags);
    return 0;
}

struct log_files {
    char *path, *aside;
};

static struct log_files log_files_of(const struct serve *serve) {
    char *path = text_format("%s/logs/%s.log", serve->state, ID);
    return (struct log_files){path, text_format("%s.1", path)};
}

static void log_files_clear(struct log_files *files) {
    free(files->path);
    free(files->aside);
}

/* Both files one after the other: the numbers go up by one from the first, and no line is torn. */
static void check_lines(const struct log_files *files, unsigned first, const char *end) {
    _cleanup_free_ char *older = NULL, *newer = NULL;
    assert_int_equal(fs_read_file(files->aside, 64 << 20, &older, NULL, NULL), 0);
    assert_int_equal(fs_read_file(files->path, 64 << 20, &newer, NULL, NULL), 0);
    _cleanup_free_ char *all = text_format("%s%s", older, newer);
    unsigned line = first;
    char *save = NULL, *text = strtok_r(all, "\n", &save);
    for (; text && !text_equal(text, end); text = strtok_r(NULL, "\n", &save), line++) {
        _cleanup_free_ char *expected = text_format("line %u", line);
        assert_string_equal(text, expected);
    }
    assert_true(line > first + 500);
    if (end) assert_non_null(text);
}

static void a_log_that_grows_is_set_aside_while_its_runner_writes_and_loses_no_line(void **state) {
    struct serve *serve = *state;
    __attribute__((cleanup(log_files_clear))) struct log_files files = log_files_of(serve);
    serve_start_replica(serve, ID, "loud", 5, 0);
    struct stat status = {0};
    for (unsigned waited = 0; !fs_exists(files.aside) || stat(files.path, &status) < 0 || status.st_size < 1000;
         waited += 10, usleep(10000))
        assert_true(waited < SERVE_DEADLINE_MS);
    wire_say(serve->controller.channel, stop_replica, .replica_id = ID, .drain_ms = 5000);
    fake_skip(&serve->controller, WIRE_replica_down);
    check_lines(&files, 0, NULL);
}

static void a_runner_that_dies_with_its_new_log_leaves_it_in_its_place(void **state) {
    struct serve *serve = *state;
    __attribute__((cleanup(log_files_clear))) struct log_files files = log_files_of(serve);
    serve_start_replica(serve, ID, "dies-loud", 0, 0);
    _cleanup_wire_message_ struct wire_message down = fake_expect(&serve->controller, WIRE_replica_down);
    assert_string_equal(down.replica_down.log_tail, "last words\n");
    check_lines(&files, 0, "last words");
    _cleanup_free_ char *left = text_format("%s.new", files.path);
    assert_false(fs_exists(left));
}

int main(int argc, char **argv) {
    int status;
    if (fake_roles_main(argc, argv, &status)) return status;
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_ready_replica_is_told_to_every_role),
        TEST(a_repeated_request_is_the_same_replica),
        TEST(a_runner_finds_only_what_is_meant_for_it),
        TEST(a_replica_of_idle_priority_runs_when_nothing_else_wants_to),
        TEST(a_dead_replica_comes_back_at_another_address),
        TEST(a_replica_is_kept_up_while_no_controller_lives),
        TEST(a_replica_that_keeps_dying_is_given_up_with_its_last_words),
        TEST(a_crash_is_told_with_its_signal),
        TEST(a_failure_for_good_is_final_at_once),
        TEST(a_failure_that_may_pass_is_tried_again),
        TEST(a_replica_that_is_not_ready_in_time_is_killed),
        TEST(a_replica_that_cannot_be_executed_is_told_why),
        TEST(stopping_ends_the_process_and_its_socket),
        TEST(a_replica_that_does_not_stop_is_killed_after_its_drain_time),
        TEST(stopping_what_is_not_known_is_answered),
        TEST(a_replica_given_up_is_told_to_the_next_controller_until_it_is_stopped),
        TEST(a_runner_that_speaks_out_of_turn_is_killed),
        TEST(a_replica_that_answers_no_ping_is_killed),
        TEST(an_id_that_is_no_file_name_is_refused),
        TEST(a_long_log_is_set_aside_at_the_next_start),
        cmocka_unit_test_setup_teardown(a_log_that_grows_is_set_aside_while_its_runner_writes_and_loses_no_line,
                                        begin_with_small_logs, end),
        cmocka_unit_test_setup_teardown(a_runner_that_dies_with_its_new_log_leaves_it_in_its_place,
                                        begin_with_small_logs, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
