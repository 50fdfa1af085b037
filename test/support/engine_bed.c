#include "engine_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "scratch.h"

#define PATIENCE_MS 20000
#define GATEWAY 7

/* ---- the imagined gateway ---- */

static void take_image(struct engine_bed *bed, const char *what, const char *which);

static void on_announce(uint64_t generation, void *context) {
    struct engine_bed *bed = context;
    take_image(bed, "routes", "announced");
    pthread_mutex_lock(&bed->mutex);
    uint64_t lowest = bed->gateway_lags ? bed->generation : generation;
    if (!bed->gateway_lags) bed->generation = generation;
    pthread_mutex_unlock(&bed->mutex);
    routing_gateway_uses(bed->controller.routing, GATEWAY, generation, lowest);
}

void bed_let_gateway_go_on(struct engine_bed *bed) {
    int64_t generation = bed_ask(bed, "SELECT generation FROM routing", NULL);
    pthread_mutex_lock(&bed->mutex);
    bed->gateway_lags = false;
    bed->generation = (uint64_t)generation;
    pthread_mutex_unlock(&bed->mutex);
    routing_gateway_uses(bed->controller.routing, GATEWAY, (uint64_t)generation, (uint64_t)generation);
}

/* ---- life ---- */

static struct settings *bed_settings(const char *folder) {
    struct settings *settings = settings_new();
    free(settings->state);
    settings->state = text_copy(folder);
    settings->drain_ms = 2000;
    settings->rollback_window_ms = 3600 * 1000;
    settings->step_backoff_ms = 10;
    settings->task_workers = 4;
    return settings;
}

struct engine_bed *bed_new_over(char *folder, struct target *target) {
    struct engine_bed *bed = mem_new(struct engine_bed);
    bed->folder = folder;
    bed->settings = bed_settings(folder);
    bed->target = target;
    bed->indexer = fake_indexer_new(folder);
    pthread_mutex_init(&bed->mutex, NULL);
    pthread_cond_init(&bed->changed, NULL);
    return bed;
}

struct engine_bed *bed_new(void) {
    return bed_new_over(scratch_new(), fake_target_new(1ull << 30));
}

static void on_step(const struct task *task, const char *step, void *context) {
    struct engine_bed *bed = context;
    (void)task;
    take_image(bed, "step", step);
    pthread_mutex_lock(&bed->mutex);
    if (bed->stop_at_step && !strcmp(bed->stop_at_step, step)) {
        bed->is_held = true;
        pthread_cond_broadcast(&bed->changed);
        while (bed->stop_at_step) pthread_cond_wait(&bed->changed, &bed->mutex);
        bed->is_held = false;
    }
    pthread_mutex_unlock(&bed->mutex);
}

static void on_call(const char *call, const char *replica_id, void *context) {
    (void)replica_id;
    take_image(context, "call", call);
}

static void on_ask(const char *when, const char *verb, void *context) {
    _cleanup_free_ char *which = text_format("%s %s", when, verb);
    take_image(context, "ask", which);
}

void bed_open(struct engine_bed *bed) {
    struct controller *controller = &bed->controller;
    struct error *error = NULL;
    *controller =
        (struct controller){.settings = bed->settings, .packages = &folder_packages, .target_ops = &fake_target_ops};
    _cleanup_free_ char *database = fs_join(bed->folder, "control.db"), *packages = fs_join(bed->folder, "packages");
    static const char *const everywhere[] = {"/"};
    controller->registry = (struct registry_context){.roots = everywhere, .root_count = 1, .file_maximum = 100};
    controller->target = bed->target;
    assert_int_equal(store_open(database, &controller->store, &error), 0);
    assert_int_equal(controller->packages->open(packages, &controller->package_store, &error), 0);
    controller->replicas = replicas_new();
    controller->routing = routing_new(on_announce, bed);
    controller->indexer = indexer_link_new(fake_indexer_say, bed->indexer);
    controller->outbox = outbox_new(controller);
    fake_indexer_attach(bed->indexer, controller->indexer);
    routing_gateway_up(controller->routing, GATEWAY);
    assert_int_equal(engine_new(controller, &controller->engine, &error), 0);
    engine_observe(controller->engine, on_step, bed);
    fake_target_attach(bed->target, controller->replicas);
    uint64_t deadline = clock_monotonic_ms() + PATIENCE_MS;
    atomic_bool never = false;
    while (!replicas_is_synced(controller->replicas))
        replicas_wait_change(controller->replicas, replicas_version(controller->replicas), deadline, &never);
    if (engine_reconcile(controller->engine, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        fail_msg("reconcile: %s", text);
    }
    if (outbox_start(controller->outbox, &error) < 0) fail_msg("the outbox does not start");
    bed->is_open = true;
}

void bed_close(struct engine_bed *bed) {
    if (!bed->is_open) return;
    engine_stop(bed->controller.engine);
    bed_release(bed);
    fake_target_detach(bed->target);
    engine_free(bed->controller.engine);
    outbox_free(bed->controller.outbox);
    fake_indexer_detach(bed->indexer);
    indexer_link_free(bed->controller.indexer);
    routing_free(bed->controller.routing);
    replicas_free(bed->controller.replicas);
    bed->controller.packages->close(bed->controller.package_store);
    store_close(bed->controller.store);
    bed->is_open = false;
}

void bed_free(struct engine_bed *bed) {
    bed_close(bed);
    for (size_t i = 0; i < bed->image_count; i++) {
        if (bed->images[i].folder) scratch_free(bed->images[i].folder);
        if (bed->images[i].target) fake_target_free(bed->images[i].target);
        free(bed->images[i].where);
    }
    free(bed->images);
    fake_target_free(bed->target);
    fake_indexer_free(bed->indexer);
    settings_free(bed->settings);
    scratch_free(bed->folder);
    pthread_cond_destroy(&bed->changed);
    pthread_mutex_destroy(&bed->mutex);
    free(bed);
}

/* ---- images ---- */

static void take_image(struct engine_bed *bed, const char *what, const char *which) {
    struct store_transaction *tx = NULL;
    pthread_mutex_lock(&bed->mutex);
    bool taking = bed->taking;
    pthread_mutex_unlock(&bed->mutex);
    if (!taking || store_begin(bed->controller.store, &tx, NULL) < 0) return; /* nobody writes meanwhile */
    char *folder = scratch_new();
    _cleanup_free_ char *command = text_format("cp -a '%s/.' '%s'", bed->folder, folder);
    fake_indexer_rest(bed->indexer);
    if (system(command) != 0) abort();
    fake_indexer_go_on(bed->indexer);
    pthread_mutex_lock(&bed->mutex);
    bed->images = mem_resize(bed->images, bed->image_count + 1, sizeof *bed->images);
    bed->images[bed->image_count++] = (struct image){
        .folder = folder, .where = text_format("%s %s", what, which), .target = fake_target_clone(bed->target)};
    pthread_mutex_unlock(&bed->mutex);
    store_rollback(tx);
}

void bed_take_images(struct engine_bed *bed) {
    fake_target_observe(bed->target, on_call, bed);
    fake_indexer_observe(bed->indexer, on_ask, bed);
    pthread_mutex_lock(&bed->mutex);
    bed->taking = true;
    pthread_mutex_unlock(&bed->mutex);
}

void bed_stop_images(struct engine_bed *bed) {
    fake_target_observe(bed->target, NULL, NULL);
    fake_indexer_observe(bed->indexer, NULL, NULL);
    pthread_mutex_lock(&bed->mutex);
    bed->taking = false;
    pthread_mutex_unlock(&bed->mutex);
}

/* ---- holding ---- */

void bed_hold_at(struct engine_bed *bed, const char *step) {
    pthread_mutex_lock(&bed->mutex);
    bed->stop_at_step = step;
    pthread_mutex_unlock(&bed->mutex);
}

void bed_wait_held(struct engine_bed *bed) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&bed->mutex);
    int waited = 0;
    while (!bed->is_held && !waited) waited = pthread_cond_timedwait(&bed->changed, &bed->mutex, &until);
    bool held = bed->is_held;
    pthread_mutex_unlock(&bed->mutex);
    assert_true(held);
}

void bed_release(struct engine_bed *bed) {
    pthread_mutex_lock(&bed->mutex);
    bed->stop_at_step = NULL;
    pthread_cond_broadcast(&bed->changed);
    pthread_mutex_unlock(&bed->mutex);
}

/* ---- asking ---- */

static struct store_transaction *begin(struct engine_bed *bed) {
    struct store_transaction *tx = NULL;
    assert_int_equal(store_begin(bed->controller.store, &tx, NULL), 0);
    return tx;
}

struct deployment bed_load(struct engine_bed *bed, const char *deployment_id) {
    struct deployment deployment = {0};
    struct store_transaction *tx = begin(bed);
    assert_int_equal(deployment_load(tx, deployment_id, &deployment, NULL), 0);
    store_rollback(tx);
    return deployment;
}

struct task bed_task(struct engine_bed *bed, const char *task_id) {
    struct task task = {0};
    struct store_transaction *tx = begin(bed);
    assert_int_equal(task_load(tx, task_id, &task, NULL), 0);
    store_rollback(tx);
    return task;
}

char *bed_ask_text(struct engine_bed *bed, const char *sql, const char *parameter) {
    struct store_transaction *tx = begin(bed);
    struct store_rows *rows = NULL;
    int result = parameter ? store_query(tx, &rows, NULL, sql, "t", parameter) : store_query(tx, &rows, NULL, sql, "");
    assert_int_equal(result, 0);
    char *text = store_next(rows, NULL) > 0 ? store_text_copy(rows, 0) : NULL;
    store_rows_free(rows);
    store_rollback(tx);
    return text;
}

int64_t bed_ask(struct engine_bed *bed, const char *sql, const char *parameter) {
    _cleanup_free_ char *text = bed_ask_text(bed, sql, parameter);
    return text ? strtoll(text, NULL, 10) : 0;
}

void bed_run(struct engine_bed *bed, const char *sql, const char *parameter) {
    struct store_transaction *tx = begin(bed);
    assert_int_equal(parameter ? store_run(tx, NULL, NULL, sql, "t", parameter) : store_run(tx, NULL, NULL, sql, ""),
                     0);
    assert_int_equal(store_commit(tx, NULL), 0);
}

void bed_wait_until(struct engine_bed *bed, bool (*holds)(struct engine_bed *bed, const void *context),
                    const void *context) {
    uint64_t deadline = clock_monotonic_ms() + PATIENCE_MS;
    while (!holds(bed, context)) {
        if (clock_monotonic_ms() > deadline) fail_msg("it did not come true within %d s", PATIENCE_MS / 1000);
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

static bool is_finished(struct engine_bed *bed, const void *task_id) {
    _cleanup_task_ struct task task = bed_task(bed, task_id);
    return task_status_is_finished(task.status);
}

void bed_expect_task(struct engine_bed *bed, const char *task_id, enum task_status status) {
    assert_non_null(task_id);
    bed_wait_until(bed, is_finished, task_id);
    _cleanup_task_ struct task task = bed_task(bed, task_id);
    if (task.status != status) fail_msg("task %s is %s: %s", task.kind, task_status_name(task.status), task.detail);
}

static bool is_idle(struct engine_bed *bed, const void *context) {
    (void)context;
    return !bed_ask(
        bed,
        "SELECT count(*) FROM tasks WHERE status IN ('pending', 'processing') AND (kind <> 'retire' OR not_before = 0)",
        NULL);
}

void bed_wait_idle(struct engine_bed *bed) {
    bed_wait_until(bed, is_idle, NULL);
}

/* ---- operations ---- */

void bed_add_model(struct engine_bed *bed, const char *name, const char *behaviour) {
    _cleanup_free_ char *model = text_format("models/%s/model.onnx", name);
    _cleanup_free_ char *behaviour_path = text_format("models/%s/behaviour", name);
    scratch_write_text(bed->folder, model, name);
    if (behaviour) scratch_write_text(bed->folder, behaviour_path, behaviour);
}

static struct deployment_request request_of(struct engine_bed *bed, const struct bed_request *request) {
    return (struct deployment_request){
        .name = text_copy(request->name),
        .model_uri = text_format("%s/models/%s", bed->folder, request->model),
        .target_json = text_copy(request->target_json ? request->target_json : "{\"type\":\"api_service\"}"),
        .tags_json = text_copy("{}"),
        .replicas = request->replicas ? request->replicas : 1,
        .memory_bytes = request->memory_bytes,
    };
}

/* Commits or rolls back, wakes the engine, and hands the task's id over. */
static char *finish(struct engine_bed *bed, struct store_transaction *tx, int result, struct task *task,
                    struct error *error) {
    if (result < 0) {
        store_rollback(tx);
        _cleanup_free_ char *text = error_text(error);
        print_message("turned down: %s\n", text);
        error_free(error);
        return NULL;
    }
    assert_int_equal(store_commit(tx, NULL), 0);
    engine_wake(bed->controller.engine);
    char *id = TAKE(task->id);
    task_clear(task);
    return id;
}

char *bed_deploy(struct engine_bed *bed, const struct bed_request *bed_request, char **ret_deployment_id) {
    _cleanup_request_ struct deployment_request request = request_of(bed, bed_request);
    struct task task = {0};
    struct error *error = NULL;
    struct store_transaction *tx = begin(bed);
    int result = operation_create(&bed->controller, tx, &request, NULL, &task, &error);
    if (ret_deployment_id) *ret_deployment_id = text_copy(task.deployment_id);
    return finish(bed, tx, result, &task, error);
}

static int operate(struct engine_bed *bed, const char *deployment_id, struct store_transaction *tx,
                   int (*operation)(struct controller *controller, struct store_transaction *tx,
                                    const struct deployment *deployment, struct task *ret_task,
                                    struct error **ret_error),
                   struct task *task, struct error **error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    int result = deployment_load(tx, deployment_id, &deployment, error);
    return result < 0 ? result : operation(&bed->controller, tx, &deployment, task, error);
}

char *bed_update(struct engine_bed *bed, const char *deployment_id, const struct bed_request *bed_request) {
    _cleanup_request_ struct deployment_request request = request_of(bed, bed_request);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, deployment_id);
    struct task task = {0};
    struct error *error = NULL;
    struct store_transaction *tx = begin(bed);
    int result = operation_update(&bed->controller, tx, &deployment, &request, &task, &error);
    return finish(bed, tx, result, &task, error);
}

char *bed_scale(struct engine_bed *bed, const char *deployment_id, int64_t replicas, int64_t memory_bytes) {
    const struct deployment_patch patch = {
        .has_replicas = true, .replicas = replicas, .has_resources = memory_bytes > 0, .memory_bytes = memory_bytes};
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, deployment_id);
    struct task task = {0};
    struct error *error = NULL;
    struct store_transaction *tx = begin(bed);
    int result = operation_patch(&bed->controller, tx, &deployment, &patch, &task, &error);
    return finish(bed, tx, result, &task, error);
}

char *bed_rollback(struct engine_bed *bed, const char *deployment_id) {
    struct task task = {0};
    struct error *error = NULL;
    struct store_transaction *tx = begin(bed);
    int result = operate(bed, deployment_id, tx, operation_rollback, &task, &error);
    return finish(bed, tx, result, &task, error);
}

char *bed_restart(struct engine_bed *bed, const char *deployment_id) {
    struct task task = {0};
    struct error *error = NULL;
    struct store_transaction *tx = begin(bed);
    int result = operate(bed, deployment_id, tx, operation_restart, &task, &error);
    return finish(bed, tx, result, &task, error);
}

static int delete_without_origin(struct controller *controller, struct store_transaction *tx,
                                 const struct deployment *deployment, struct task *ret_task, struct error **ret_error) {
    return operation_delete(controller, tx, deployment, NULL, ret_task, ret_error);
}

char *bed_delete_deployment(struct engine_bed *bed, const char *deployment_id) {
    struct task task = {0};
    struct error *error = NULL;
    struct store_transaction *tx = begin(bed);
    int result = operate(bed, deployment_id, tx, delete_without_origin, &task, &error);
    return finish(bed, tx, result, &task, error);
}

int bed_cancel(struct engine_bed *bed, const char *task_id) {
    struct store_transaction *tx = begin(bed);
    int result = engine_cancel(tx, task_id, "a test asked for it", NULL);
    if (result < 0) {
        store_rollback(tx);
        return result;
    }
    assert_int_equal(store_commit(tx, NULL), 0);
    engine_wake(bed->controller.engine);
    return 0;
}

char *bed_deployed(struct engine_bed *bed, const char *name, const char *model, int64_t replicas) {
    char *deployment_id = NULL;
    _cleanup_free_ char *task =
        bed_deploy(bed, &(struct bed_request){.name = name, .model = model, .replicas = replicas}, &deployment_id);
    bed_expect_task(bed, task, TASK_DONE);
    return deployment_id;
}

/* ---- what must hold ---- */

static void check_replicas(struct engine_bed *bed) {
    struct store_transaction *tx = begin(bed);
    struct store_rows *rows = NULL;
    assert_int_equal(store_query(tx, &rows, NULL, "SELECT id, state FROM replicas WHERE state <> 'failed'", ""), 0);
    size_t count = 0;
    while (store_next(rows, NULL) > 0) {
        if (!fake_target_has(bed->target, store_text(rows, 0)))
            fail_msg("replica %s (%s) is not up", store_text(rows, 0), store_text(rows, 1));
        count++;
    }
    store_rows_free(rows);
    store_rollback(tx);
    assert_int_equal(fake_target_count(bed->target), count);
}

static bool is_settled(struct engine_bed *bed, const void *context) {
    (void)context;
    size_t rows = (size_t)bed_ask(bed, "SELECT count(*) FROM replicas WHERE state <> 'failed'", NULL);
    return fake_target_count(bed->target) == rows &&
           !bed_ask(bed, "SELECT count(*) FROM replicas WHERE state NOT IN ('serving', 'warm', 'failed')", NULL);
}

void bed_check_consistent(struct engine_bed *bed) {
    bed_wait_idle(bed);
    bed_wait_until(bed, is_settled, NULL);
    check_replicas(bed);
    assert_int_equal(bed_ask(bed,
                             "SELECT count(*) FROM replicas r WHERE (state = 'serving') <> EXISTS "
                             "(SELECT 1 FROM route_replicas p WHERE p.replica_id = r.id)",
                             NULL),
                     0);
    assert_int_equal(
        bed_ask(bed, "SELECT count(*) FROM route_replicas WHERE replica_id NOT IN (SELECT id FROM replicas)", NULL), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM pins WHERE holder LIKE 'task:%'", NULL), 0);
    assert_int_equal(bed_ask(bed,
                             "SELECT count(*) FROM packages WHERE NOT EXISTS "
                             "(SELECT 1 FROM pins WHERE subject = 'package:' || digest)",
                             NULL),
                     0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM packages", NULL),
                     scratch_count(bed->folder, "packages/sha256"));
    assert_int_equal(scratch_count(bed->folder, "packages/incoming"), 0);
    /* A warm set has exactly one task that will end it. */
    assert_int_equal(
        bed_ask(bed, "SELECT count(DISTINCT deployment_id || '/' || revision) FROM replicas WHERE state = 'warm'",
                NULL),
        bed_ask(bed, "SELECT count(*) FROM tasks WHERE kind = 'retire' AND status = 'pending' AND collection IS NULL",
                NULL));
}

void bed_check_serving(struct engine_bed *bed, const char *deployment_id, int64_t revision, int64_t replicas) {
    bed_check_consistent(bed);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, deployment_id);
    assert_int_equal(deployment.serving_revision, revision);
    assert_int_equal(bed_ask(bed, "SELECT revision FROM routes WHERE deployment_id = ?", deployment_id), revision);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM route_replicas WHERE deployment_id = ?", deployment_id),
                     replicas);
    assert_int_equal(
        bed_ask(bed, "SELECT count(DISTINCT revision) FROM replicas WHERE state = 'serving' AND deployment_id = ?",
                deployment_id),
        1);
    assert_int_equal(
        bed_ask(bed, "SELECT min(revision) FROM replicas WHERE state = 'serving' AND deployment_id = ?", deployment_id),
        revision);
}
