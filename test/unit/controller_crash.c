/* A kill anywhere: while a task runs, its state folder is copied before each step, at each call to the target and at
 * each announcement of routes. Every copy is what a kill at that moment would have left, and each is opened twice: over
 * the replicas that lived at that moment (the controller was killed), and over none (the machine was). All must come to
 * the end that the task came to without a kill. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/engine_bed.h"
#include "support/scratch.h"

struct end {
    enum task_status task;
    enum deployment_status deployment;
    int64_t revision, replicas; /* that serve; revision 0: none */
    size_t packages, processes;
    size_t warm; /* of the processes: what the machine's death may have taken for good */
};

static void check_end(struct engine_bed *bed, const char *deployment_id, const char *task_id, const struct end *end) {
    bed_expect_task(bed, task_id, end->task);
    if (end->revision)
        bed_check_serving(bed, deployment_id, end->revision, end->replicas);
    else
        bed_check_consistent(bed);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, deployment_id);
    if (deployment.status != end->deployment)
        fail_msg("deployment is %s: %s", deployment_status_name(deployment.status), deployment.message);
    assert_int_equal(scratch_count(bed->folder, "packages/sha256"), end->packages);
    size_t processes = fake_target_count(bed->target);
    if (processes != end->processes) assert_int_equal(processes, end->processes - end->warm);
}

static char *copy_folder(const char *folder) {
    char *copy = scratch_new();
    _cleanup_free_ char *command = text_format("cp -a '%s/.' '%s'", folder, copy);
    assert_int_equal(system(command), 0);
    return copy;
}

static void go_on_from(const struct image *image, bool machine_died, const char *deployment_id, const char *task_id,
                       const struct end *end) {
    print_message("  kill at %s, %s\n", image->where, machine_died ? "nothing lives" : "replicas live");
    struct target *target = fake_target_clone(image->target);
    if (machine_died) fake_target_clear(target);
    struct engine_bed *bed = bed_new_over(copy_folder(image->folder), target);
    bed_open(bed);
    engine_wake(bed->controller.engine);
    check_end(bed, deployment_id, task_id, end);
    /* And once more with nothing left to do. */
    bed_close(bed);
    bed_open(bed);
    check_end(bed, deployment_id, task_id, end);
    bed_free(bed);
}

static void kill_anywhere(struct engine_bed *bed, const char *deployment_id, const char *task_id,
                          const struct end *end) {
    bed_expect_task(bed, task_id, end->task);
    bed_stop_images(bed);
    check_end(bed, deployment_id, task_id, end);
    bed_close(bed);
    assert_true(bed->image_count >= 4);
    for (size_t i = 0; i < bed->image_count; i++) {
        go_on_from(&bed->images[i], false, deployment_id, task_id, end);
        go_on_from(&bed->images[i], true, deployment_id, task_id, end);
    }
}

static int open_bed(void **state) {
    struct engine_bed *bed = bed_new();
    bed_add_model(bed, "one", NULL);
    bed_add_model(bed, "two", NULL);
    bed_add_model(bed, "broken", "fail");
    bed_open(bed);
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    bed_free(*state);
    return 0;
}

static const char recreate[] = "{\"type\":\"api_service\",\"strategy\":\"recreate\"}";

static void a_deploy(void **state) {
    struct engine_bed *bed = *state;
    bed_take_images(bed);
    char *id = NULL;
    _cleanup_free_ char *task =
        bed_deploy(bed, &(struct bed_request){.name = "minilm", .model = "one", .replicas = 2}, &id);
    kill_anywhere(bed, id, task, &(struct end){TASK_DONE, DEPLOYMENT_ACTIVE, 1, 2, 1, 2, 0});
    free(id);
}

static void a_deploy_that_fails(void **state) {
    struct engine_bed *bed = *state;
    bed_take_images(bed);
    char *id = NULL;
    _cleanup_free_ char *task = bed_deploy(bed, &(struct bed_request){.name = "minilm", .model = "broken"}, &id);
    kill_anywhere(bed, id, task, &(struct end){TASK_FAILED, DEPLOYMENT_FAILED, 0, 0, 0, 0, 0});
    free(id);
}

static void update_to(struct engine_bed *bed, const char *model, const char *target_json, const struct end *end) {
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    bed_take_images(bed);
    _cleanup_free_ char *task = bed_update(
        bed, id, &(struct bed_request){.name = "minilm", .model = model, .replicas = 2, .target_json = target_json});
    kill_anywhere(bed, id, task, end);
}

static void an_update(void **state) {
    update_to(*state, "two", NULL, &(struct end){TASK_DONE, DEPLOYMENT_ACTIVE, 2, 2, 2, 4, 2});
}

static void an_update_that_fails(void **state) {
    update_to(*state, "broken", NULL, &(struct end){TASK_FAILED, DEPLOYMENT_FAILED, 1, 2, 1, 2, 0});
}

static void an_update_that_recreates(void **state) {
    update_to(*state, "two", recreate, &(struct end){TASK_DONE, DEPLOYMENT_ACTIVE, 2, 2, 2, 2, 0});
}

static void an_update_that_recreates_and_fails(void **state) {
    update_to(*state, "broken", recreate, &(struct end){TASK_FAILED, DEPLOYMENT_FAILED, 1, 2, 1, 2, 0});
}

static void an_update_to_the_same_package(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->rollback_window_ms = 3600 * 1000;
    update_to(bed, "one", NULL, &(struct end){TASK_DONE, DEPLOYMENT_ACTIVE, 2, 2, 1, 4, 2});
}

static void a_rollback(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    _cleanup_free_ char *update = bed_update(bed, id, &(struct bed_request){.name = "minilm", .model = "two"});
    bed_expect_task(bed, update, TASK_DONE);
    bed_take_images(bed);
    _cleanup_free_ char *task = bed_rollback(bed, id);
    kill_anywhere(bed, id, task, &(struct end){TASK_DONE, DEPLOYMENT_ACTIVE, 1, 1, 2, 2, 1});
}

static void a_change_of_resources(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    bed_take_images(bed);
    _cleanup_free_ char *task = bed_scale(bed, id, 3, 100 << 20);
    kill_anywhere(bed, id, task, &(struct end){TASK_DONE, DEPLOYMENT_ACTIVE, 1, 3, 1, 3, 0});
}

static void fewer_replicas(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 3);
    bed_take_images(bed);
    _cleanup_free_ char *task = bed_scale(bed, id, 1, 0);
    kill_anywhere(bed, id, task, &(struct end){TASK_DONE, DEPLOYMENT_ACTIVE, 1, 1, 1, 1, 0});
}

static void a_restart(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    bed_take_images(bed);
    _cleanup_free_ char *task = bed_restart(bed, id);
    kill_anywhere(bed, id, task, &(struct end){TASK_DONE, DEPLOYMENT_ACTIVE, 1, 2, 1, 2, 0});
}

static void a_delete(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    _cleanup_free_ char *update = bed_update(bed, id, &(struct bed_request){.name = "minilm", .model = "two"});
    bed_expect_task(bed, update, TASK_DONE);
    bed_take_images(bed);
    _cleanup_free_ char *task = bed_delete_deployment(bed, id);
    kill_anywhere(bed, id, task, &(struct end){TASK_DONE, DEPLOYMENT_INACTIVE, 0, 0, 0, 0, 0});
}

/* ---- what a task that is no longer there left behind ---- */

static void a_stop_leaves_the_task_processing_and_the_next_start_goes_on(void **state) {
    struct engine_bed *bed = *state;
    bed_hold_at(bed, "provision");
    char *id = NULL;
    _cleanup_free_ char *task_id = bed_deploy(bed, &(struct bed_request){.name = "minilm", .model = "one"}, &id);
    bed_wait_held(bed);
    bed_close(bed);
    bed_open(bed);
    bed_expect_task(bed, task_id, TASK_DONE);
    bed_check_serving(bed, id, 1, 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM events WHERE kind = 'task_step' AND message = 'fetch'", NULL),
                     1);
    free(id);
}

static void a_cancel_that_was_asked_for_before_a_kill_is_kept(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    bed_hold_at(bed, "ready");
    _cleanup_free_ char *task = bed_update(bed, id, &(struct bed_request){.name = "minilm", .model = "two"});
    bed_wait_held(bed);
    bed_run(bed, "UPDATE tasks SET cancel_requested = 1 WHERE id = ?", task);
    bed_close(bed);
    bed_open(bed);
    bed_expect_task(bed, task, TASK_CANCELED);
    bed_check_serving(bed, id, 1, 1);
}

static void a_status_that_no_task_works_on_is_put_right_with_its_cause(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    _cleanup_free_ char *other = bed_deployed(bed, "other", "one", 1);
    bed_run(bed, "UPDATE deployments SET status = 'updating' WHERE id = ?", id);
    bed_run(bed, "UPDATE deployments SET status = 'deleting' WHERE id = ?", other);
    bed_close(bed);
    bed_open(bed);
    _cleanup_deployment_ struct deployment updating = bed_load(bed, id), deleting = bed_load(bed, other);
    assert_int_equal(updating.status, DEPLOYMENT_ACTIVE);
    assert_non_null(strstr(updating.message, "no task works on that"));
    assert_int_equal(deleting.status, DEPLOYMENT_DELETE_FAILED);
    assert_non_null(deleting.error_json);
    _cleanup_free_ char *again = bed_delete_deployment(bed, other);
    bed_expect_task(bed, again, TASK_DONE);
}

static void what_nobody_owns_is_stopped_and_removed_at_the_next_start(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    bed_run(
        bed,
        "INSERT INTO replicas (id, deployment_id, revision, task_id, state, reserved_bytes, cpu, memory_limit_bytes, created_at) "
        "VALUES ('left', ?, 1, 'gone', 'starting', 5, 0, 0, 1)",
        id);
    bed_run(bed, "INSERT INTO pins (subject, holder, task_id, created_at) VALUES ('package:x', 'task:gone', 'gone', 1)",
            NULL);
    bed_run(bed, "INSERT INTO packages (digest, size_bytes, file_count, created_at, used_at) VALUES ('x', 1, 1, 1, 1)",
            NULL);
    scratch_write_text(bed->folder, "packages/incoming/gone/model.onnx", "half");
    bed_close(bed);
    fake_target_add_stray(bed->target, "left");
    fake_target_add_stray(bed->target, "stray");
    bed_open(bed);
    bed_check_serving(bed, id, 1, 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 1);
}

static void a_warm_set_without_a_task_is_stopped_at_the_next_start(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    _cleanup_free_ char *task = bed_update(bed, id, &(struct bed_request){.name = "minilm", .model = "two"});
    bed_expect_task(bed, task, TASK_DONE);
    bed_run(bed, "UPDATE tasks SET status = 'done' WHERE kind = 'retire'", NULL);
    bed_close(bed);
    bed_open(bed);
    bed_check_serving(bed, id, 2, 1);
    assert_int_equal(fake_target_count(bed->target), 1);
}

static void a_follower_of_a_leader_that_ended_is_ended_at_the_next_start(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    bed_run(bed,
            "INSERT INTO tasks (id, kind, status, deployment_id, leader_id, created_at, updated_at) "
            "SELECT 'follower', kind, 'pending', deployment_id, id, 1, 1 FROM tasks WHERE deployment_id = ?",
            id);
    bed_close(bed);
    bed_open(bed);
    bed_expect_task(bed, "follower", TASK_DONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)
        T(a_deploy),
        T(a_deploy_that_fails),
        T(an_update),
        T(an_update_that_fails),
        T(an_update_that_recreates),
        T(an_update_that_recreates_and_fails),
        T(an_update_to_the_same_package),
        T(a_rollback),
        T(a_change_of_resources),
        T(fewer_replicas),
        T(a_restart),
        T(a_delete),
        T(a_stop_leaves_the_task_processing_and_the_next_start_goes_on),
        T(a_cancel_that_was_asked_for_before_a_kill_is_kept),
        T(a_status_that_no_task_works_on_is_put_right_with_its_cause),
        T(what_nobody_owns_is_stopped_and_removed_at_the_next_start),
        T(a_warm_set_without_a_task_is_stopped_at_the_next_start),
        T(a_follower_of_a_leader_that_ended_is_ended_at_the_next_start),
    };
    return cmocka_run_group_tests_name("a kill anywhere in", tests, NULL, NULL);
}
