/* What a team does with libslipway, using nothing but the installed header and library: deploy, wait, list, embed,
 * update, roll back, delete, the model-level tasks, and every class of error. test_library.py builds it with pkg-config
 * and runs it:
 *
 *     team URL TOKEN ONE TWO    the URIs of two models whose embeddings differ
 *
 * Prints what it does; exits 1 at the first thing that is not as the header says. */
#include <slipway.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static void check_success(int result, struct slipway_error *error, const char *what) {
    printf("%s\n", what);
    if (result == 0) return;
    fprintf(stderr, "%s: %d %s: %s\n", what, result, error ? error->name : "?", error ? error->message : "?");
    exit(1);
}

/* The call failed with that class, the error says so in all of its forms, and is freed. */
static void check_failure(int result, struct slipway_error *error, enum slipway_error_class wanted, const char *name) {
    if (result != -(int)wanted)
        fprintf(stderr, "%d instead of %d: %s\n", result, -(int)wanted, error ? error->message : "");
    CHECK(result == -(int)wanted);
    CHECK(error != NULL);
    CHECK(error->error_class == wanted);
    CHECK(strcmp(error->name, name) == 0);
    CHECK(strcmp(slipway_error_class_name(result), name) == 0);
    CHECK(error->message && *error->message);
    CHECK(error->cause_count >= 1);
    printf("%s: %s\n", name, error->message);
    slipway_error_free(error);
}

/* The call first, then what it left in `error`: C does not order arguments. */
#define MUST(call, error, what)                                                                                        \
    do {                                                                                                               \
        int result_ = (call);                                                                                          \
        check_success(result_, error, what);                                                                           \
    } while (0)
#define MUST_FAIL(call, error, wanted, name)                                                                           \
    do {                                                                                                               \
        (error) = NULL;                                                                                                \
        int result_ = (call);                                                                                          \
        check_failure(result_, error, wanted, name);                                                                   \
    } while (0)

static struct slipway_deployment *wait_until_settled(struct slipway *service, const char *name, const char *status) {
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    MUST(slipway_wait_for_deployment(service, name, 60000, &deployment, &error), error, "wait");
    if (strcmp(deployment->status, status) != 0)
        fprintf(stderr, "%s instead of %s: %s\n", deployment->status, status,
                deployment->message ? deployment->message : "");
    CHECK(strcmp(deployment->status, status) == 0);
    return deployment;
}

static float first_value(struct slipway *service, const char *name) {
    static const char *const texts[] = {"hello", "a b"};
    struct slipway_embeddings *embeddings = NULL;
    struct slipway_error *error = NULL;
    MUST(slipway_embed(service, name, texts, NULL, 2, &embeddings, &error), error, "embed");
    CHECK(embeddings->count == 2 && embeddings->dimension > 0 && embeddings->prompt_tokens > 0);
    float value = embeddings->values[0];
    slipway_embeddings_free(embeddings);
    return value;
}

static void deploy_serve_and_replace(struct slipway *service, const char *one, const char *two) {
    const struct slipway_deployment_request request = {
        .model_uri = one, .deployment_name = "team", .tags_json = "{\"team\":\"search\"}", .idempotency_key = "first"};
    struct slipway_deployment *deployment = NULL, *again = NULL;
    struct slipway_error *error = NULL;
    MUST(slipway_deploy_model(service, &request, &deployment, &error), error, "deploy");
    CHECK(strcmp(deployment->status, "creating") == 0 && deployment->revision == 1 &&
          deployment->serving_revision == 0);
    MUST(slipway_deploy_model(service, &request, &again, &error), error, "deploy again with the same key");
    CHECK(strcmp(again->deployment_id, deployment->deployment_id) == 0);
    slipway_deployment_free(again);
    slipway_deployment_free(deployment);

    deployment = wait_until_settled(service, "team", "active");
    CHECK(deployment->serving_revision == 1 && deployment->endpoint_url);
    CHECK(strncmp(deployment->deployed_model_version, "package:sha256:", 15) == 0);
    CHECK(strcmp(deployment->tags_json, "{\"team\":\"search\"}") == 0);
    slipway_deployment_free(deployment);
    float of_one = first_value(service, "team");

    struct slipway_deployment_list *list = NULL;
    MUST(slipway_list_deployments(service, 10, 0, "active", &list, &error), error, "list with limit 10");
    CHECK(list->count == 1 && list->total_count == 1 && strcmp(list->deployments[0]->deployment_name, "team") == 0);
    slipway_deployment_list_free(list);

    const struct slipway_deployment_request update = {.model_uri = two, .deployment_name = "team"};
    MUST(slipway_update_deployment(service, "team", &update, &deployment, &error), error, "update");
    CHECK(deployment->revision == 2);
    slipway_deployment_free(deployment);
    slipway_deployment_free(wait_until_settled(service, "team", "active"));
    CHECK(first_value(service, "team") != of_one);

    MUST(slipway_rollback_deployment(service, "team", &deployment, &error), error, "roll back");
    slipway_deployment_free(deployment);
    deployment = wait_until_settled(service, "team", "active");
    CHECK(deployment->serving_revision == 1);
    slipway_deployment_free(deployment);
    CHECK(first_value(service, "team") == of_one);

    const struct slipway_deployment_patch patch = {.replicas = 2, .tags_json = "{}"};
    MUST(slipway_patch_deployment(service, "team", &patch, &deployment, &error), error, "patch");
    slipway_deployment_free(deployment);
    deployment = wait_until_settled(service, "team", "active");
    CHECK(deployment->replicas == 2 && strcmp(deployment->tags_json, "{}") == 0);
    slipway_deployment_free(deployment);
    MUST(slipway_restart_deployment(service, "team", &deployment, &error), error, "restart");
    slipway_deployment_free(deployment);
    slipway_deployment_free(wait_until_settled(service, "team", "active"));
}

static void look_at_tasks(struct slipway *service) {
    struct slipway_task_list *tasks = NULL;
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    MUST(slipway_list_tasks(service, 1, 0, "update", "done", NULL, &tasks, &error), error, "list tasks");
    CHECK(tasks->count == 1 && tasks->total_count == 1);
    MUST(slipway_get_task(service, tasks->tasks[0]->task_id, &task, &error), error, "get task");
    CHECK(strcmp(task->kind, "update") == 0 && strcmp(task->status, "done") == 0);
    MUST_FAIL(slipway_cancel_task(service, task->task_id, NULL, &error), error, SLIPWAY_CONFLICT, "ConflictError");
    MUST_FAIL(slipway_restart_task(service, task->task_id, NULL, &error), error, SLIPWAY_CONFLICT, "ConflictError");
    slipway_task_free(task);
    slipway_task_list_free(tasks);
    char *json = NULL;
    MUST(slipway_get_json(service, "/v1/processes", &json, NULL, &error), error, "processes");
    CHECK(strstr(json, "\"runner\""));
    slipway_text_free(json);
}

static void model_level_tasks(struct slipway *service, const char *one) {
    const struct slipway_deployment_request config = {.model_uri = one};
    struct slipway_task *task = NULL, *ended = NULL;
    struct slipway_error *error = NULL;
    MUST(slipway_deploy(service, "model-7", "task-7", NULL, &config, &task, &error), error, "deploy a model by its id");
    CHECK(strcmp(task->task_id, "task-7") == 0 && strcmp(task->embedding_model_id, "model-7") == 0);
    slipway_task_free(task);
    MUST(slipway_wait_for_task(service, "task-7", 60000, &ended, &error), error, "wait for the task");
    slipway_task_free(ended);
    MUST(slipway_get_deploy_task(service, "task-7", &task, &error), error, "get the deploy task");
    CHECK(strcmp(task->status, "done") == 0 && strcmp(task->deployed_model_id, "model-7") == 0);
    slipway_task_free(task);
    MUST(slipway_get_model_deploy_status(service, "model-7", &task, &error), error, "deploy status by model");
    CHECK(strcmp(task->task_id, "task-7") == 0);
    slipway_task_free(task);
    MUST(slipway_delete(service, "model-7", "task-8", NULL, "replaced", &task, &error), error, "delete the model");
    CHECK(strcmp(task->metadata_json, "{\"reason\":\"replaced\"}") == 0);
    slipway_task_free(task);
    MUST(slipway_wait_for_task(service, "task-8", 60000, &ended, &error), error, "wait for the deletion");
    slipway_task_free(ended);
    MUST(slipway_get_delete_task(service, "task-8", &task, &error), error, "get the delete task");
    CHECK(strcmp(task->status, "done") == 0);
    slipway_task_free(task);
    MUST(slipway_get_model_delete_status(service, "model-7", &task, &error), error, "delete status by model");
    slipway_task_free(task);
}

/* The outputs stay as they were when a call fails. */
static void every_class_of_error(struct slipway *service, const char *url, const char *one) {
    struct slipway_deployment *deployment = (struct slipway_deployment *)&service;
    struct slipway_error *error = NULL;
    struct slipway_deployment_request request = {.model_uri = "/etc", .deployment_name = "other"};
    MUST_FAIL(slipway_deploy_model(service, &request, &deployment, &error), error, SLIPWAY_CONFIGURATION,
              "ConfigurationError");
    request = (struct slipway_deployment_request){.model_uri = one, .deployment_name = "team"};
    MUST_FAIL(slipway_deploy_model(service, &request, &deployment, &error), error, SLIPWAY_CONFLICT, "ConflictError");
    MUST_FAIL(slipway_get_deployment_status(service, "nobody", &deployment, &error), error, SLIPWAY_NOT_FOUND,
              "ResourceNotFoundError");
    const struct slipway_deployment_patch huge = {.replicas = 1000, .has_resources = true, .memory_bytes = 1ull << 40};
    MUST_FAIL(slipway_patch_deployment(service, "team", &huge, &deployment, &error), error, SLIPWAY_REFUSED,
              "RefusedError");
    CHECK(deployment == (struct slipway_deployment *)&service);

    request = (struct slipway_deployment_request){.model_uri = "file:///nowhere/at/all", .deployment_name = "lost"};
    MUST_FAIL(slipway_deploy_model(service, &request, &deployment, &error), error, SLIPWAY_CONFIGURATION,
              "ConfigurationError");
    char missing[4096];
    snprintf(missing, sizeof missing, "%s-that-is-not-there", one);
    request.model_uri = missing;
    MUST(slipway_deploy_model(service, &request, &deployment, &error), error, "deploy what is not there");
    slipway_deployment_free(deployment);
    deployment = wait_until_settled(service, "lost", "failed");
    CHECK(deployment->error && deployment->error->error_class == SLIPWAY_MODEL_REGISTRY);
    CHECK(strcmp(deployment->error->name, "ModelRegistryError") == 0);
    slipway_deployment_free(deployment);

    struct slipway *other = NULL;
    MUST(slipway_open(url, "wrong", &other, &error), error, "open with a wrong token");
    MUST_FAIL(slipway_list_deployments(other, 0, 0, NULL, NULL, &error), error, SLIPWAY_UNAUTHORIZED,
              "UnauthorizedError");
    slipway_close(other);
    MUST(slipway_open("http://127.0.0.1:1", NULL, &other, &error), error, "open where nobody listens");
    MUST_FAIL(slipway_list_deployments(other, 0, 0, NULL, NULL, &error), error, SLIPWAY_UNAVAILABLE,
              "UnavailableError");
    slipway_close(other);
    MUST_FAIL(slipway_open("nonsense", NULL, &other, &error), error, SLIPWAY_CONFIGURATION, "ConfigurationError");
    CHECK(slipway_get_deployment_status(service, "nobody", &deployment, NULL) == -SLIPWAY_NOT_FOUND);

    char *answer = NULL;
    size_t size = 3u << 20;
    char *body = malloc(size + 1);
    memset(body, ' ', size);
    body[size] = 0;
    MUST_FAIL(slipway_infer(service, "team", body, &answer, &error), error, SLIPWAY_REQUEST, "RequestError");
    free(body);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    struct slipway *service = NULL;
    struct slipway_error *error = NULL;
    CHECK(strcmp(slipway_version(), "0.1.0") == 0);
    MUST(slipway_open(argv[1], argv[2], &service, &error), error, "open");
    slipway_set_timeout(service, 30000);
    deploy_serve_and_replace(service, argv[3], argv[4]);
    look_at_tasks(service);
    model_level_tasks(service, argv[3]);
    every_class_of_error(service, argv[1], argv[3]);

    struct slipway_deployment *deployment = NULL;
    MUST(slipway_delete_deployment(service, "team", &deployment, &error), error, "delete");
    char id[64];
    snprintf(id, sizeof id, "%s", deployment->deployment_id);
    slipway_deployment_free(deployment);
    slipway_deployment_free(wait_until_settled(service, id, "inactive"));
    MUST_FAIL(slipway_get_deployment_status(service, "team", &deployment, &error), error, SLIPWAY_NOT_FOUND,
              "ResourceNotFoundError");
    slipway_close(service);
    printf("done\n");
    return 0;
}
