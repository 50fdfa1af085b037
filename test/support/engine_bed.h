/* A controller without its process: real store, collections, packages, file registry, operations and engine over a fake
 * target, a fake indexer and one imagined gateway, in a folder of its own. What is closed can be opened again over the
 * same folder, as after a crash; and with bed_take_images() the folder is copied wherever a kill could come, each copy
 * to be opened as a bed of its own. */
#pragma once
#include "controller/collections.h"
#include "fakes/fake_indexer.h"
#include "fakes/fake_target.h"

struct image {
    char *folder;
    char *where; /* "step verify", "call start", "routes" */
    struct target *target;
};

struct engine_bed {
    char *folder;
    struct settings *settings;
    struct controller controller;
    struct target *target;
    struct fake_indexer *indexer;
    bool is_open, gateway_lags; /* gateway_lags: old generations stay in use until bed_let_gateway_go_on() */
    uint64_t generation; /* that the gateway routes by */
    struct image *images;
    size_t image_count;
    const char *stop_at_step; /* on_step of this step holds the task until bed_release() */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_held, taking;
};

/* Settings: drain 2 s, window 1 h, step_backoff 10 ms, 4 workers; budget 1 GiB. Nothing is open yet. */
struct engine_bed *bed_new(void);
/* One over a folder and a target that it takes (an image's). */
struct engine_bed *bed_new_over(char *folder, struct target *target);
void bed_open(struct engine_bed *bed);
/* As a kill leaves it, but for what a transaction or a step was in the middle of. */
void bed_close(struct engine_bed *bed);
void bed_free(struct engine_bed *bed);

/* A model folder `models/<name>` with some bytes and, unless NULL, a behaviour (fake_target.h). */
void bed_add_model(struct engine_bed *bed, const char *name, const char *behaviour);

struct bed_request {
    const char *name, *model, *target_json; /* target_json NULL: an api_service */
    int64_t replicas, memory_bytes;
};
/* Each gives the task's id (caller frees), NULL when the operation was turned down; *ret_deployment_id may be NULL. */
char *bed_deploy(struct engine_bed *bed, const struct bed_request *request, char **ret_deployment_id);
char *bed_update(struct engine_bed *bed, const char *deployment_id, const struct bed_request *request);
char *bed_scale(struct engine_bed *bed, const char *deployment_id, int64_t replicas, int64_t memory_bytes);
char *bed_rollback(struct engine_bed *bed, const char *deployment_id);
char *bed_restart(struct engine_bed *bed, const char *deployment_id);
char *bed_delete_deployment(struct engine_bed *bed, const char *deployment_id);
int bed_cancel(struct engine_bed *bed, const char *task_id);

/* Waits until the task is finished and asserts how; prints its detail otherwise. */
void bed_expect_task(struct engine_bed *bed, const char *task_id, enum task_status status);
/* Deploys and waits: the deployment's id. */
char *bed_deployed(struct engine_bed *bed, const char *name, const char *model, int64_t replicas);
/* Until the condition holds, or the test fails after 20 s. */
void bed_wait_until(struct engine_bed *bed, bool (*holds)(struct engine_bed *bed, const void *context),
                    const void *context);
/* Waits until no task but a `retire` that is not due is pending or processing. */
void bed_wait_idle(struct engine_bed *bed);

struct deployment bed_load(struct engine_bed *bed, const char *deployment_id);
struct task bed_task(struct engine_bed *bed, const char *task_id);
/* The first column of the first row. */
int64_t bed_ask(struct engine_bed *bed, const char *sql, const char *parameter);
char *bed_ask_text(struct engine_bed *bed, const char *sql, const char *parameter);
void bed_run(struct engine_bed *bed, const char *sql, const char *parameter);

/* Asserts everything that must hold when nothing is going on: rows, routes and processes agree, every package that is
 * there is pinned and the other way round, no pin and no folder of a finished task is left. */
void bed_check_consistent(struct engine_bed *bed);
/* The same for one deployment that serves `revision` with `replicas` replicas. */
void bed_check_serving(struct engine_bed *bed, const char *deployment_id, int64_t revision, int64_t replicas);

/* From now on an image is taken wherever a kill could come. */
void bed_take_images(struct engine_bed *bed);
/* No more; bed_free() removes those that were taken. */
void bed_stop_images(struct engine_bed *bed);

/* The task that comes to that step is held before it begins. */
void bed_hold_at(struct engine_bed *bed, const char *step);
void bed_wait_held(struct engine_bed *bed);
void bed_release(struct engine_bed *bed);
/* What the gateway used before is used no more. */
void bed_let_gateway_go_on(struct engine_bed *bed);
