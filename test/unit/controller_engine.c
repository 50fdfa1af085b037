/* The engine over a real store, real packages and a fake target: what each kind of task comes to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/engine_bed.h"
#include "support/scratch.h"

static int open_bed(void **state) {
    struct engine_bed *bed = bed_new();
    bed_add_model(bed, "one", NULL);
    bed_add_model(bed, "two", NULL);
    bed_add_model(bed, "three", NULL);
    bed_add_model(bed, "broken", "fail");
    bed_add_model(bed, "hanging", "hang");
    bed_add_model(bed, "flaky", "flaky");
    bed_open(bed);
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    bed_free(*state);
    return 0;
}

static struct bed_request model(const char *name, const char *model) {
    return (struct bed_request){.name = name, .model = model};
}

/* ---- deploy ---- */

static void a_deployed_model_is_active_and_all_of_it_is_recorded(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    bed_check_serving(bed, id, 1, 2);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_ACTIVE);
    assert_null(deployment.message);
    assert_true(text_starts_with(deployment.deployed_model_version, "package:sha256:"));
    _cleanup_free_ char *digest = bed_ask_text(bed, "SELECT encoder_digest FROM revisions WHERE deployment_id = ?", id);
    assert_string_equal(digest, "e1");
    assert_int_equal(bed_ask(bed, "SELECT seen_memory_bytes FROM packages", NULL), 50000000);
    assert_int_equal(bed_ask(bed, "SELECT served FROM revisions WHERE deployment_id = ?", id), 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM events WHERE kind = 'task_step' AND deployment_id = ?", id), 6);
}

static void what_the_target_cannot_use_is_said_in_the_message(void **state) {
    struct engine_bed *bed = *state;
    char *id = NULL;
    struct bed_request request = model("minilm", "one");
    request.target_json = "{\"type\":\"api_service\",\"port\":8080}";
    _cleanup_free_ char *task = bed_deploy(bed, &request, &id);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_string_equal(deployment.message, "port has no meaning here");
    free(id);
}

static void a_model_that_cannot_load_fails_with_its_causes_and_leaves_nothing(void **state) {
    struct engine_bed *bed = *state;
    char *id = NULL;
    struct bed_request request = model("minilm", "broken");
    _cleanup_free_ char *task = bed_deploy(bed, &request, &id);
    bed_expect_task(bed, task, TASK_FAILED);
    bed_check_consistent(bed);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_FAILED);
    assert_int_equal(fake_target_count(bed->target), 0);
    assert_non_null(strstr(deployment.message, "exit status 3"));
    assert_non_null(strstr(deployment.message, "model.onnx is no ONNX model"));
    assert_non_null(strstr(deployment.message, "bad magic"));
    assert_non_null(strstr(deployment.error_json, "DeploymentError"));
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 0);
    free(id);
}

static void a_missing_model_is_a_registry_error_that_is_not_tried_again(void **state) {
    struct engine_bed *bed = *state;
    char *id = NULL;
    struct bed_request request = model("minilm", "nowhere");
    _cleanup_free_ char *task_id = bed_deploy(bed, &request, &id);
    bed_expect_task(bed, task_id, TASK_FAILED);
    _cleanup_task_ struct task task = bed_task(bed, task_id);
    assert_string_equal(task.step, "fetch");
    assert_int_equal(task.attempts, 1);
    assert_non_null(strstr(task.error_json, "ModelRegistryError"));
    free(id);
}

static void a_replica_that_uses_more_than_was_reckoned_is_reserved_for(void **state) {
    struct engine_bed *bed = *state;
    fake_target_report_memory(bed->target, 300000000);
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    assert_int_equal(bed_ask(bed, "SELECT reserved_bytes FROM replicas WHERE deployment_id = ?", id), 300000000);
    assert_int_equal(bed_ask(bed, "SELECT seen_memory_bytes FROM packages", NULL), 300000000);
}

static void a_replica_that_dies_once_while_it_loads_does_not_fail_the_deployment(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "flaky", 1);
    bed_check_serving(bed, id, 1, 1);
}

static void a_transient_error_is_tried_again(void **state) {
    struct engine_bed *bed = *state;
    fake_target_fail_starts(bed->target, 2);
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    bed_check_serving(bed, id, 1, 1);
    assert_int_equal(
        bed_ask(bed, "SELECT count(*) FROM events WHERE kind = 'task_step' AND message LIKE '%attempt 3'", NULL), 1);
}

static void a_transient_error_that_stays_fails_after_the_attempts(void **state) {
    struct engine_bed *bed = *state;
    fake_target_fail_starts(bed->target, 1000);
    char *id = NULL;
    struct bed_request request = model("minilm", "one");
    _cleanup_free_ char *task_id = bed_deploy(bed, &request, &id);
    bed_expect_task(bed, task_id, TASK_FAILED);
    _cleanup_task_ struct task task = bed_task(bed, task_id);
    assert_int_equal(task.attempts, 3);
    bed_check_consistent(bed);
    free(id);
}

static void a_deploy_that_takes_too_long_fails(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->deploy_processing_deadline_ms = 300;
    char *id = NULL;
    struct bed_request request = model("minilm", "hanging");
    _cleanup_free_ char *task_id = bed_deploy(bed, &request, &id);
    bed_expect_task(bed, task_id, TASK_FAILED);
    _cleanup_task_ struct task task = bed_task(bed, task_id);
    assert_non_null(strstr(task.detail, "Deployment task is processing too long."));
    bed_check_consistent(bed);
    assert_int_equal(fake_target_count(bed->target), 0);
    free(id);
}

static void a_deploy_that_waits_too_long_fails(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->task_workers = 1;
    bed->settings->deploy_pending_deadline_ms = 200;
    struct bed_request slow = model("slow", "hanging"), late = model("late", "one");
    char *slow_id = NULL, *late_id = NULL;
    _cleanup_free_ char *slow_task = bed_deploy(bed, &slow, &slow_id);
    _cleanup_free_ char *late_task = bed_deploy(bed, &late, &late_id);
    bed_expect_task(bed, late_task, TASK_FAILED);
    _cleanup_task_ struct task task = bed_task(bed, late_task);
    assert_string_equal(task.detail, "Deployment task is pending too long.");
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, late_id);
    assert_int_equal(deployment.status, DEPLOYMENT_FAILED);
    assert_int_equal(bed_cancel(bed, slow_task), 0);
    bed_expect_task(bed, slow_task, TASK_CANCELED);
    free(slow_id);
    free(late_id);
}

static void what_does_not_fit_is_refused_with_the_figures(void **state) {
    struct engine_bed *bed = *state;
    fake_target_set_budget(bed->target, 100 << 20);
    struct bed_request request = model("minilm", "one");
    request.replicas = 2;
    char *id = NULL;
    _cleanup_free_ char *task_id = bed_deploy(bed, &request, &id);
    bed_expect_task(bed, task_id, TASK_REFUSED);
    _cleanup_task_ struct task task = bed_task(bed, task_id);
    assert_non_null(strstr(task.detail, "64"));
    assert_non_null(strstr(task.detail, "100"));
    assert_non_null(strstr(task.detail, "the test's budget"));
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_FAILED);
    bed_check_consistent(bed);
    free(id);
}

static void more_models_than_allowed_are_refused(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->maximum_deployments = 1;
    _cleanup_free_ char *id = bed_deployed(bed, "first", "one", 1);
    struct bed_request request = model("second", "two");
    _cleanup_free_ char *task_id = bed_deploy(bed, &request, NULL);
    bed_expect_task(bed, task_id, TASK_REFUSED);
    bed_check_serving(bed, id, 1, 1);
}

static void a_follower_ends_as_its_leader(void **state) {
    struct engine_bed *bed = *state;
    bed_hold_at(bed, "ready");
    struct bed_request request = model("minilm", "one");
    char *id = NULL;
    _cleanup_free_ char *leader = bed_deploy(bed, &request, &id);
    bed_wait_held(bed);
    bed_run(
        bed,
        "INSERT INTO tasks (id, kind, status, deployment_id, revision, leader_id, deadline, created_at, updated_at) "
        "SELECT 'follower', kind, 'pending', deployment_id, revision, id, 1, created_at, updated_at FROM tasks WHERE id = ?",
        leader);
    engine_wake(bed->controller.engine);
    bed_release(bed);
    bed_expect_task(bed, leader, TASK_DONE);
    bed_expect_task(bed, "follower", TASK_DONE);
    free(id);
}

/* ---- update ---- */

static void an_update_moves_to_the_new_revision_and_keeps_the_old_one_warm(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    struct bed_request request = model("minilm", "two");
    request.replicas = 2;
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_DONE);
    bed_check_serving(bed, id, 2, 2);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM replicas WHERE state = 'warm' AND revision = 1", NULL), 2);
    assert_int_equal(fake_target_count(bed->target), 4);
    assert_int_equal(
        bed_ask(bed, "SELECT count(*) FROM tasks WHERE kind = 'retire' AND status = 'pending' AND parent_id = ?", task),
        1);
}

static void the_old_replicas_stay_until_no_gateway_uses_them(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->rollback_window_ms = 0;
    bed->settings->drain_ms = 3600 * 1000;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    pthread_mutex_lock(&bed->mutex);
    bed->gateway_lags = true;
    pthread_mutex_unlock(&bed->mutex);
    struct bed_request request = model("minilm", "two");
    bed_hold_at(bed, "drain");
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_wait_held(bed);
    bed_release(bed);
    assert_int_equal(fake_target_count(bed->target), 2);
    _cleanup_task_ struct task seen = bed_task(bed, task);
    assert_int_equal(seen.status, TASK_PROCESSING);
    bed_let_gateway_go_on(bed);
    bed_expect_task(bed, task, TASK_DONE);
    assert_int_equal(fake_target_count(bed->target), 1);
    bed_check_serving(bed, id, 2, 1);
}

static void without_a_window_the_old_replicas_are_stopped(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->rollback_window_ms = 0;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    struct bed_request request = model("minilm", "two");
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_DONE);
    bed_check_serving(bed, id, 2, 1);
    assert_int_equal(fake_target_count(bed->target), 1);
}

static void a_failed_update_keeps_the_old_revision_serving(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    struct bed_request request = model("minilm", "broken");
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_FAILED);
    bed_check_serving(bed, id, 1, 2);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_FAILED);
    assert_int_equal(deployment.revision, 2);
    assert_non_null(strstr(deployment.message, "revision 1 goes on serving"));
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 1);
    struct bed_request mended = model("minilm", "two");
    _cleanup_free_ char *again = bed_update(bed, id, &mended);
    bed_expect_task(bed, again, TASK_DONE);
    bed_check_serving(bed, id, 3, 1);
}

static void a_refused_update_puts_everything_back(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    fake_target_set_budget(bed->target, 100 << 20);
    struct bed_request request = model("minilm", "two");
    request.replicas = 3;
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_REFUSED);
    bed_check_serving(bed, id, 1, 1);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_ACTIVE);
    assert_int_equal(deployment.revision, 1);
    assert_int_equal(deployment.replicas, 1);
    assert_non_null(strstr(deployment.message, "not enough memory"));
}

static void a_newer_update_ends_the_window_of_the_one_before(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    struct bed_request second = model("minilm", "two"), third = model("minilm", "three");
    _cleanup_free_ char *first_task = bed_update(bed, id, &second);
    bed_expect_task(bed, first_task, TASK_DONE);
    _cleanup_free_ char *second_task = bed_update(bed, id, &third);
    bed_expect_task(bed, second_task, TASK_DONE);
    bed_check_serving(bed, id, 3, 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM replicas WHERE state = 'warm' AND revision = 2", NULL), 1);
    assert_int_equal(fake_target_count(bed->target), 2);
}

static bool has_one_replica(struct engine_bed *bed, const void *context) {
    (void)context;
    return fake_target_count(bed->target) == 1 &&
           !bed_ask(bed, "SELECT count(*) FROM replicas WHERE state <> 'serving'", NULL);
}

static void the_end_of_the_window_stops_the_old_replicas(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->rollback_window_ms = 100;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    struct bed_request request = model("minilm", "two");
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_DONE);
    bed_wait_until(bed, has_one_replica, NULL);
    bed_wait_idle(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 2); /* a rollback can still be made */
    _cleanup_free_ char *rollback = bed_rollback(bed, id);
    bed_expect_task(bed, rollback, TASK_DONE);
}

static void warm_replicas_are_stopped_when_their_memory_is_needed(void **state) {
    struct engine_bed *bed = *state;
    fake_target_set_budget(bed->target, 150 << 20); /* room for two */
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    struct bed_request request = model("minilm", "two");
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_DONE);
    assert_int_equal(fake_target_count(bed->target), 2);
    _cleanup_free_ char *other = bed_deployed(bed, "other", "three", 1);
    bed_check_serving(bed, id, 2, 1);
    bed_check_serving(bed, other, 1, 1);
    assert_int_equal(fake_target_count(bed->target), 2);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_non_null(strstr(deployment.message, "its memory was needed"));
}

/* ---- recreate ---- */

static const char recreate[] = "{\"type\":\"api_service\",\"strategy\":\"recreate\"}";

static void recreate_stops_the_old_before_it_starts_the_new(void **state) {
    struct engine_bed *bed = *state;
    fake_target_set_budget(bed->target, 80 << 20); /* room for one */
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    struct bed_request request = model("minilm", "two");
    _cleanup_free_ char *refused = bed_update(bed, id, &request);
    bed_expect_task(bed, refused, TASK_REFUSED);
    request.target_json = recreate;
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_DONE);
    bed_check_serving(bed, id, 3, 1);
    assert_int_equal(fake_target_count(bed->target), 1);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_non_null(strstr(deployment.message, "there was a gap"));
}

static void a_failed_recreate_brings_the_old_revision_back(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    struct bed_request request = model("minilm", "broken");
    request.target_json = recreate;
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_FAILED);
    bed_check_serving(bed, id, 1, 2);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_FAILED);
    assert_non_null(strstr(deployment.message, "revision 1 was started again"));
}

static void a_recreate_that_would_not_fit_stops_nothing(void **state) {
    struct engine_bed *bed = *state;
    fake_target_set_budget(bed->target, 80 << 20);
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    size_t started = fake_target_started(bed->target);
    struct bed_request request = model("minilm", "two");
    request.target_json = recreate;
    request.replicas = 2;
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_REFUSED);
    bed_check_serving(bed, id, 1, 1);
    assert_int_equal(fake_target_started(bed->target), started);
}

/* ---- rollback, scale, restart, delete ---- */

static void a_rollback_takes_the_warm_replicas_over(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    struct bed_request request = model("minilm", "two");
    request.replicas = 2;
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_DONE);
    size_t started = fake_target_started(bed->target);
    _cleanup_free_ char *rollback = bed_rollback(bed, id);
    bed_expect_task(bed, rollback, TASK_DONE);
    bed_check_serving(bed, id, 1, 2);
    assert_int_equal(fake_target_started(bed->target), started);
    _cleanup_free_ char *detail =
        bed_ask_text(bed, "SELECT detail FROM tasks WHERE kind = 'retire' AND parent_id = ?", task);
    assert_string_equal(detail, "rolled back");
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM replicas WHERE state = 'warm' AND revision = 2", NULL), 2);
}

static void a_rollback_after_the_window_starts_the_old_revision_anew(void **state) {
    struct engine_bed *bed = *state;
    bed->settings->rollback_window_ms = 0;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    struct bed_request second = model("minilm", "two"), third = model("minilm", "three");
    _cleanup_free_ char *first_task = bed_update(bed, id, &second);
    bed_expect_task(bed, first_task, TASK_DONE);
    _cleanup_free_ char *second_task = bed_update(bed, id, &third);
    bed_expect_task(bed, second_task, TASK_DONE);
    _cleanup_free_ char *back = bed_rollback(bed, id);
    bed_expect_task(bed, back, TASK_DONE);
    bed_check_serving(bed, id, 2, 1);
    _cleanup_free_ char *further_back = bed_rollback(bed, id);
    bed_expect_task(bed, further_back, TASK_DONE);
    bed_check_serving(bed, id, 1, 1);
}

static void a_canceled_rollback_leaves_the_warm_replicas_warm(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    struct bed_request request = model("minilm", "two");
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_expect_task(bed, task, TASK_DONE);
    bed_hold_at(bed, "switch");
    _cleanup_free_ char *rollback = bed_rollback(bed, id);
    bed_wait_held(bed);
    assert_int_equal(bed_cancel(bed, rollback), 0);
    bed_release(bed);
    bed_expect_task(bed, rollback, TASK_CANCELED);
    bed_check_serving(bed, id, 2, 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM replicas WHERE state = 'warm' AND revision = 1", NULL), 1);
}

static void more_and_fewer_replicas_of_the_same_revision(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    _cleanup_free_ char *more = bed_scale(bed, id, 4, 0);
    bed_expect_task(bed, more, TASK_DONE);
    bed_check_serving(bed, id, 1, 4);
    assert_int_equal(fake_target_started(bed->target), 4);
    _cleanup_free_ char *oldest = bed_ask_text(bed, "SELECT id FROM replicas ORDER BY created_at, rowid LIMIT 1", NULL);
    _cleanup_free_ char *fewer = bed_scale(bed, id, 1, 0);
    bed_expect_task(bed, fewer, TASK_DONE);
    bed_check_serving(bed, id, 1, 1);
    assert_true(fake_target_has(bed->target, oldest));
    _cleanup_free_ char *same = bed_scale(bed, id, 1, 0);
    bed_expect_task(bed, same, TASK_DONE);
    bed_check_serving(bed, id, 1, 1);
    assert_int_equal(fake_target_started(bed->target), 4);
}

static void other_resources_replace_the_replicas(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    _cleanup_free_ char *task = bed_scale(bed, id, 2, 100 << 20);
    bed_expect_task(bed, task, TASK_DONE);
    bed_check_serving(bed, id, 1, 2);
    assert_int_equal(fake_target_started(bed->target), 4);
    assert_int_equal(fake_target_count(bed->target), 2);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM replicas WHERE reserved_bytes = 104857600", NULL), 2);
}

static void a_restart_replaces_every_replica_and_never_leaves_the_route_empty(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 3);
    _cleanup_free_ char *task = bed_restart(bed, id);
    bed_expect_task(bed, task, TASK_DONE);
    bed_check_serving(bed, id, 1, 3);
    assert_int_equal(fake_target_started(bed->target), 6);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_ACTIVE);
}

static void a_restart_without_room_for_one_more_stops_one_first(void **state) {
    struct engine_bed *bed = *state;
    fake_target_set_budget(bed->target, 140 << 20); /* room for two */
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    _cleanup_free_ char *task = bed_restart(bed, id);
    bed_expect_task(bed, task, TASK_DONE);
    bed_check_serving(bed, id, 1, 2);
    assert_int_equal(fake_target_started(bed->target), 4);
}

static void a_restart_of_a_single_replica_without_room_is_refused(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    fake_target_set_budget(bed->target, 90 << 20);
    _cleanup_free_ char *task = bed_restart(bed, id);
    bed_expect_task(bed, task, TASK_REFUSED);
    bed_check_serving(bed, id, 1, 1);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_ACTIVE);
    assert_non_null(strstr(deployment.message, "not enough memory"));
}

static void a_delete_leaves_neither_process_nor_package(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    _cleanup_free_ char *other = bed_deployed(bed, "other", "one", 1);
    struct bed_request request = model("minilm", "two");
    _cleanup_free_ char *update = bed_update(bed, id, &request);
    bed_expect_task(bed, update, TASK_DONE);
    _cleanup_free_ char *task = bed_delete_deployment(bed, id);
    bed_expect_task(bed, task, TASK_DONE);
    bed_check_serving(bed, other, 1, 1);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_INACTIVE);
    assert_true(deployment.deleted_at > 0);
    assert_int_equal(fake_target_count(bed->target), 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 1); /* the other's */
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM route_names WHERE deployment_id = ?", id), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM tasks WHERE kind = 'retire' AND status = 'canceled'", NULL), 1);
    _cleanup_free_ char *again = bed_deployed(bed, "minilm", "one", 1);
    assert_string_not_equal(again, id);
}

static void a_delete_that_fails_says_so_and_another_one_goes_on(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    fake_target_fail_stops(bed->target, 3); /* as often as a step is tried */
    _cleanup_free_ char *task = bed_delete_deployment(bed, id);
    bed_expect_task(bed, task, TASK_FAILED);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_DELETE_FAILED);
    assert_non_null(strstr(deployment.message, "the machine is busy"));
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM routes", NULL), 0);
    _cleanup_free_ char *again = bed_delete_deployment(bed, id);
    assert_string_not_equal(again, task);
    bed_expect_task(bed, again, TASK_DONE);
    bed_check_consistent(bed);
    assert_int_equal(fake_target_count(bed->target), 0);
}

static void a_delete_during_a_deploy_cancels_it_first(void **state) {
    struct engine_bed *bed = *state;
    bed_hold_at(bed, "ready");
    char *id = NULL;
    struct bed_request request = model("minilm", "one");
    _cleanup_free_ char *deploy = bed_deploy(bed, &request, &id);
    bed_wait_held(bed);
    _cleanup_free_ char *delete = bed_delete_deployment(bed, id);
    bed_release(bed);
    bed_expect_task(bed, deploy, TASK_CANCELED);
    bed_expect_task(bed, delete, TASK_DONE);
    bed_check_consistent(bed);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_INACTIVE);
    assert_int_equal(fake_target_count(bed->target), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM events WHERE message LIKE 'active%'", NULL), 0);
    free(id);
}

static void a_delete_during_an_update_cancels_it_first(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    bed_hold_at(bed, "switch");
    struct bed_request request = model("minilm", "two");
    _cleanup_free_ char *update = bed_update(bed, id, &request);
    bed_wait_held(bed);
    _cleanup_free_ char *delete = bed_delete_deployment(bed, id);
    bed_release(bed);
    bed_expect_task(bed, update, TASK_CANCELED);
    bed_expect_task(bed, delete, TASK_DONE);
    bed_check_consistent(bed);
    assert_int_equal(fake_target_count(bed->target), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 0);
}

/* ---- cancel ---- */

static void cancel_deploy_at(struct engine_bed *bed, const char *step) {
    bed_hold_at(bed, step);
    char *id = NULL;
    struct bed_request request = model("minilm", "one");
    _cleanup_free_ char *task = bed_deploy(bed, &request, &id);
    bed_wait_held(bed);
    assert_int_equal(bed_cancel(bed, task), 0);
    bed_release(bed);
    bed_expect_task(bed, task, TASK_CANCELED);
    bed_check_consistent(bed);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_INACTIVE);
    assert_int_equal(fake_target_count(bed->target), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 0);
    free(id);
}

static void a_deploy_canceled_in_any_step_leaves_nothing(void **state) {
    static const char *const steps[] = {"fetch", "verify", "package", "provision", "ready", "switch"};
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) cancel_deploy_at(*state, steps[i]);
}

static void cancel_update_at(struct engine_bed *bed, const char *id, const char *step, const char *target_json) {
    bed_hold_at(bed, step);
    struct bed_request request = model("minilm", "two");
    request.target_json = target_json;
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_wait_held(bed);
    assert_int_equal(bed_cancel(bed, task), 0);
    bed_release(bed);
    bed_expect_task(bed, task, TASK_CANCELED);
    bed_check_serving(bed, id, 1, 2);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_ACTIVE);
    assert_int_equal(deployment.revision, 1);
    assert_int_equal(fake_target_count(bed->target), 2);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL), 1);
}

static void an_update_canceled_before_the_switch_never_happened(void **state) {
    static const char *const steps[] = {"fetch", "verify", "package", "provision", "ready", "switch"};
    _cleanup_free_ char *id = bed_deployed(*state, "minilm", "one", 2);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        cancel_update_at(*state, id, steps[i], NULL);
        cancel_update_at(*state, id, steps[i], recreate);
    }
}

static void a_cancel_after_the_switch_comes_too_late(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 1);
    bed_hold_at(bed, "drain");
    struct bed_request request = model("minilm", "two");
    _cleanup_free_ char *task = bed_update(bed, id, &request);
    bed_wait_held(bed);
    assert_int_equal(bed_cancel(bed, task), 0);
    bed_release(bed);
    bed_expect_task(bed, task, TASK_DONE);
    bed_check_serving(bed, id, 2, 1);
}

static bool has_started_one(struct engine_bed *bed, const void *context) {
    (void)context;
    return fake_target_started(bed->target) == 1;
}

static void a_hanging_model_can_be_canceled(void **state) {
    struct engine_bed *bed = *state;
    char *id = NULL;
    struct bed_request request = model("minilm", "hanging");
    _cleanup_free_ char *task = bed_deploy(bed, &request, &id);
    bed_wait_until(bed, has_started_one, NULL);
    assert_int_equal(bed_cancel(bed, task), 0);
    bed_expect_task(bed, task, TASK_CANCELED);
    bed_check_consistent(bed);
    free(id);
}

/* ---- health ---- */

static bool message_has(struct engine_bed *bed, const void *words) {
    _cleanup_free_ char *message = bed_ask_text(bed, "SELECT message FROM deployments", NULL);
    return words ? message && strstr(message, words) : !message;
}

static void a_replica_that_is_down_shows_in_the_message_until_it_is_up_again(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    _cleanup_free_ char *replica = bed_ask_text(bed, "SELECT id FROM replicas LIMIT 1", NULL);
    fake_target_kill(bed->target, replica, false, "killed by signal 9 (Killed)", NULL);
    bed_wait_until(bed, message_has, "1 of 2 replicas up: killed by signal 9 (Killed)");
    fake_target_revive(bed->target, replica);
    bed_wait_until(bed, message_has, NULL);
    bed_check_serving(bed, id, 1, 2);
}

static bool has_failed(struct engine_bed *bed, const void *id) {
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    return deployment.status == DEPLOYMENT_FAILED;
}

static void a_replica_that_is_given_up_fails_the_deployment_while_the_others_serve(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = bed_deployed(bed, "minilm", "one", 2);
    _cleanup_free_ char *replica = bed_ask_text(bed, "SELECT id FROM replicas LIMIT 1", NULL);
    fake_target_kill(bed->target, replica, true, "exit status 1", "a\nb\nstd::bad_alloc\n");
    bed_wait_until(bed, has_failed, id);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_non_null(strstr(deployment.message, "std::bad_alloc"));
    assert_non_null(strstr(deployment.message, "out of memory"));
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM route_replicas WHERE deployment_id = ?", id), 1);
    assert_int_equal(deployment.serving_revision, 1);
    _cleanup_free_ char *restart = bed_restart(bed, id);
    bed_expect_task(bed, restart, TASK_DONE);
    bed_check_serving(bed, id, 1, 2);
    _cleanup_deployment_ struct deployment healed = bed_load(bed, id);
    assert_int_equal(healed.status, DEPLOYMENT_ACTIVE);
}

static bool is_down_to(struct engine_bed *bed, const void *count) {
    return fake_target_count(bed->target) == *(const size_t *)count;
}

static void a_process_that_nobody_asked_for_is_stopped(void **state) {
    struct engine_bed *bed = *state;
    size_t none = 0;
    fake_target_add_stray(bed->target, "stray");
    bed_wait_until(bed, is_down_to, &none);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)
        T(a_deployed_model_is_active_and_all_of_it_is_recorded),
        T(what_the_target_cannot_use_is_said_in_the_message),
        T(a_model_that_cannot_load_fails_with_its_causes_and_leaves_nothing),
        T(a_missing_model_is_a_registry_error_that_is_not_tried_again),
        T(a_replica_that_uses_more_than_was_reckoned_is_reserved_for),
        T(a_replica_that_dies_once_while_it_loads_does_not_fail_the_deployment),
        T(a_transient_error_is_tried_again),
        T(a_transient_error_that_stays_fails_after_the_attempts),
        T(a_deploy_that_takes_too_long_fails),
        T(a_deploy_that_waits_too_long_fails),
        T(what_does_not_fit_is_refused_with_the_figures),
        T(more_models_than_allowed_are_refused),
        T(a_follower_ends_as_its_leader),
        T(an_update_moves_to_the_new_revision_and_keeps_the_old_one_warm),
        T(the_old_replicas_stay_until_no_gateway_uses_them),
        T(without_a_window_the_old_replicas_are_stopped),
        T(a_failed_update_keeps_the_old_revision_serving),
        T(a_refused_update_puts_everything_back),
        T(a_newer_update_ends_the_window_of_the_one_before),
        T(the_end_of_the_window_stops_the_old_replicas),
        T(warm_replicas_are_stopped_when_their_memory_is_needed),
        T(recreate_stops_the_old_before_it_starts_the_new),
        T(a_failed_recreate_brings_the_old_revision_back),
        T(a_recreate_that_would_not_fit_stops_nothing),
        T(a_rollback_takes_the_warm_replicas_over),
        T(a_rollback_after_the_window_starts_the_old_revision_anew),
        T(a_canceled_rollback_leaves_the_warm_replicas_warm),
        T(more_and_fewer_replicas_of_the_same_revision),
        T(other_resources_replace_the_replicas),
        T(a_restart_replaces_every_replica_and_never_leaves_the_route_empty),
        T(a_restart_without_room_for_one_more_stops_one_first),
        T(a_restart_of_a_single_replica_without_room_is_refused),
        T(a_delete_leaves_neither_process_nor_package),
        T(a_delete_that_fails_says_so_and_another_one_goes_on),
        T(a_delete_during_a_deploy_cancels_it_first),
        T(a_delete_during_an_update_cancels_it_first),
        T(a_deploy_canceled_in_any_step_leaves_nothing),
        T(an_update_canceled_before_the_switch_never_happened),
        T(a_cancel_after_the_switch_comes_too_late),
        T(a_hanging_model_can_be_canceled),
        T(a_replica_that_is_down_shows_in_the_message_until_it_is_up_again),
        T(a_replica_that_is_given_up_fails_the_deployment_while_the_others_serve),
        T(a_process_that_nobody_asked_for_is_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
