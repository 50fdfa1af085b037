/* The local target: what it asks the supervisor for, and what it makes of the answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "target/target.h"
#include "wire/wire.h"

struct said {
    struct wire_message message; /* as decoded again: its own storage */
    int count;
};

static int keep(const struct wire_message *message, void *context, struct error **ret_error) {
    struct said *said = context;
    char *bytes = NULL;
    size_t size = 0;
    if (wire_encode(message, &bytes, &size, ret_error) < 0) return -ERROR_UNAVAILABLE;
    wire_message_clear(&said->message);
    said->count++;
    int result = wire_decode(bytes, size, &said->message, ret_error);
    free(bytes);
    return result;
}

static void a_start_carries_all_that_the_supervisor_needs(void **state) {
    (void)state;
    struct said said = {0};
    struct target *target = local_target_new(keep, &said, 0);
    const struct target_replica_spec spec = {.replica_id = "r",
                                             .deployment_id = "d",
                                             .deployment_name = "minilm",
                                             .revision = 3,
                                             .package_path = "/p",
                                             .package_digest = "abc",
                                             .cpu = 1.5,
                                             .memory_limit_bytes = 77,
                                             .restarts_maximum = 5,
                                             .ready_deadline_ms = 9,
                                             .idle_priority = true};
    assert_int_equal(local_target.start(target, &spec, NULL), 0);
    const struct wire_start_replica *start = &said.message.start_replica;
    assert_int_equal(said.message.type, WIRE_start_replica);
    assert_string_equal(start->replica_id, "r");
    assert_string_equal(start->deployment_name, "minilm");
    assert_string_equal(start->recipe_json, "");
    assert_int_equal(start->revision, 3);
    assert_int_equal(start->threads, 2); /* part of a core is a thread */
    assert_int_equal(start->memory_limit_bytes, 77);
    assert_int_equal(start->restarts_maximum, 5);
    assert_int_equal(start->idle_priority, 1);
    assert_int_equal(local_target.stop(target, "r", 100, NULL), 0);
    assert_int_equal(said.message.type, WIRE_stop_replica);
    assert_int_equal(said.message.stop_replica.drain_ms, 100);
    wire_message_clear(&said.message);
    local_target_free(target);
}

static void what_has_no_meaning_here_is_named_in_one_sentence(void **state) {
    (void)state;
    assert_null(local_target.check_config("{\"type\":\"api_service\",\"replicas\":2}"));
    assert_null(local_target.check_config("{\"port\":null}"));
    assert_null(local_target.check_config(NULL));
    _cleanup_free_ char *one = local_target.check_config("{\"port\":8080}");
    assert_string_equal(one, "port has no meaning on the local target and is only recorded");
    _cleanup_free_ char *two = local_target.check_config("{\"port\":8080,\"serving_image\":\"x\"}");
    assert_string_equal(two, "serving_image, port have no meaning on the local target and are only recorded");
}

static void the_budget_is_the_setting_or_four_fifths_of_the_machine(void **state) {
    (void)state;
    uint64_t bytes = 0;
    char *source = NULL;
    struct target *given = local_target_new(keep, NULL, 12345), *own = local_target_new(keep, NULL, 0);
    assert_int_equal(local_target.budget(given, &bytes, &source, NULL), 0);
    assert_int_equal(bytes, 12345);
    assert_string_equal(source, "memory_budget");
    free(source);
    assert_int_equal(local_target.budget(own, &bytes, &source, NULL), 0);
    assert_true(bytes > (64u << 20));
    assert_ptr_equal(strstr(source, "80 % of "), source);
    free(source);
    local_target_free(given);
    local_target_free(own);
}

static void each_message_about_a_replica_is_an_event(void **state) {
    (void)state;
    struct target_event event;
    struct wire_message up = {
        .type = WIRE_replica_up,
        .replica_up = {.replica_id = "r", .incarnation = 4, .address = "/a", .pid = 9, .report_json = "{}"}};
    assert_true(local_target_event(&up, &event));
    assert_int_equal(event.kind, TARGET_UP);
    assert_string_equal(event.report_json, "{}");
    assert_int_equal(event.incarnation, 4);
    struct wire_message down = {
        .type = WIRE_replica_down,
        .replica_down = {.replica_id = "r", .final = 1, .cause = "exit status 3", .log_tail = "x"}};
    assert_true(local_target_event(&down, &event));
    assert_int_equal(event.kind, TARGET_DOWN);
    assert_true(event.final);
    assert_false(event.stopped);
    struct wire_message started = {.type = WIRE_replica_started, .replica_started = {.replica_id = "r", .pid = 9}};
    assert_true(local_target_event(&started, &event));
    assert_int_equal(event.kind, TARGET_STARTED);
    assert_true(local_target_event(&(struct wire_message){.type = WIRE_snapshot_end}, &event));
    assert_int_equal(event.kind, TARGET_SYNCED);
    assert_false(local_target_event(&(struct wire_message){.type = WIRE_ping}, &event));
}

static void a_target_that_this_build_lacks_is_an_error_that_says_what_it_has(void **state) {
    (void)state;
    const struct target_ops *target = NULL;
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(target_find("local", &target, NULL), 0);
    assert_ptr_equal(target, &local_target);
    assert_int_equal(target_find("kubernetes", &target, &error), -ERROR_CONFIGURATION);
    assert_non_null(strstr(error->message, "\"local\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_carries_all_that_the_supervisor_needs),
        cmocka_unit_test(what_has_no_meaning_here_is_named_in_one_sentence),
        cmocka_unit_test(the_budget_is_the_setting_or_four_fifths_of_the_machine),
        cmocka_unit_test(each_message_about_a_replica_is_an_event),
        cmocka_unit_test(a_target_that_this_build_lacks_is_an_error_that_says_what_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
