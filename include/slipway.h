/* libslipway: the client side of Slipway, the model deployment service (HTTP API: docs/deploying.md).
 *
 * Every call blocks until the service has answered, or the call's deadline has passed (slipway_set_timeout, 60 s at
 * first). A struct slipway may be used by one thread at a time; different ones are independent. The library neither
 * logs nor exits, keeps no state of its own outside what it returns, and does not touch the environment.
 *
 * Results. A call returns 0, or a negative enum slipway_error_class. Outputs (`ret_…`) are set on success only; what
 * they point to belongs to the caller and is freed with the function named at its type. ret_error may be NULL;
 * otherwise it is set on failure and freed with slipway_error_free(). All strings are UTF-8 and NUL-terminated; a
 * string that the service did not give is NULL. In requests, NULL and 0 leave a field out, so that the service's
 * default holds.
 *
 * Errors that any call can return: SLIPWAY_UNAVAILABLE (the service cannot be reached, is restarting, or the deadline
 * has passed), SLIPWAY_UNAUTHORIZED (token missing, wrong, or not allowed this), SLIPWAY_REQUEST (the request was too
 * large or too many are waiting), SLIPWAY_PROTOCOL (the answer was not Slipway's). Others are named at each call.
 *
 * Link with `pkg-config --cflags --libs slipway`.
 */
#ifndef SLIPWAY_H
#define SLIPWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SLIPWAY_VERSION_MAJOR 0
#define SLIPWAY_VERSION_MINOR 1
#define SLIPWAY_VERSION_PATCH 0

/* ---- errors ---- */

/* Returned negative: `if (slipway_deploy_model(…) == -SLIPWAY_CONFLICT)`. */
enum slipway_error_class {
    SLIPWAY_CONFIGURATION = 1, /* ConfigurationError, 400: the request is wrong; it changed nothing */
    SLIPWAY_UNAUTHORIZED = 2, /* UnauthorizedError, 401 and 403 */
    SLIPWAY_NOT_FOUND = 3, /* ResourceNotFoundError, 404 */
    SLIPWAY_CONFLICT = 4, /* ConflictError, 409: a name is taken, another operation runs, … */
    SLIPWAY_REFUSED = 5, /* RefusedError, 409 and 507: a rule or a capacity forbids it */
    SLIPWAY_MODEL_REGISTRY = 6, /* ModelRegistryError: the registry lacks the model or cannot be reached */
    SLIPWAY_EXTERNAL_SERVICE = 7, /* ExternalServiceError */
    SLIPWAY_DEPLOYMENT = 8, /* DeploymentError: the model could not be brought to serve */
    SLIPWAY_REQUEST = 9, /* RequestError: 405, 408, 413, 429, 431 */
    SLIPWAY_UNAVAILABLE = 10, /* UnavailableError: 503, 504, or the service could not be reached */
    SLIPWAY_PROTOCOL = 11 /* the answer could not be understood */
};

struct slipway_error {
    enum slipway_error_class error_class;
    const char *name; /* "ConflictError" */
    int http_status; /* 0 when no answer came */
    const char *message; /* one sentence with its causes */
    const char *const *causes; /* outermost to root; cause_count of them */
    size_t cause_count;
    uint32_t retry_after_ms; /* 0: the service gave none */
};
void slipway_error_free(struct slipway_error *error); /* NULL is fine */
/* "ConflictError" for SLIPWAY_CONFLICT or its negative. */
const char *slipway_error_class_name(int error_class);

/* ---- the connection ---- */

struct slipway;
/* Nothing is sent yet. `url` like "http://127.0.0.1:8400" (NULL: that one); token may be NULL. Both are copied.
 * SLIPWAY_CONFIGURATION for a URL that is none. Free with slipway_close(). */
int slipway_open(const char *url, const char *token, struct slipway **ret_service, struct slipway_error **ret_error);
void slipway_close(struct slipway *service); /* NULL is fine */
/* The deadline of each later call in milliseconds; 0 goes back to 60 s. */
void slipway_set_timeout(struct slipway *service, uint32_t timeout_ms);
/* The library's version, "0.1.0"; static. */
const char *slipway_version(void);

/* ---- the model deployment service ---- */

struct slipway_deployment_request {
    const char *model_uri; /* "file:///models/minilm" */
    const char *deployment_name; /* [A-Za-z0-9][A-Za-z0-9._-]{0,127} */
    /* deployment_target_config */
    const char *type; /* NULL: "api_service" */
    const char *target; /* NULL: "local" */
    const char *serving_image; /* recorded where the target has none */
    const char *strategy; /* NULL: "rolling"; or "recreate" */
    uint32_t replicas; /* 0: 1 */
    uint32_t port;
    const char *env_json; /* a JSON object of strings */
    /* resource_allocation */
    double cpu; /* cores for each replica */
    uint64_t memory_bytes; /* for each replica */
    uint32_t gpu;
    const char *tags_json; /* any JSON object */
    const char *recipe_json; /* a JSON object: what overrides the model folder's own recipe */
    const char *idempotency_key; /* deploy only: the same key and request give the same deployment */
};

struct slipway_progress {
    int64_t done, total; /* bytes while fetching */
    double rate; /* of those a second */
    int64_t failed;
    const char *step;
};

struct slipway_deployment {
    const char *deployment_id, *deployment_name, *model_uri;
    const char *status; /* creating active updating failed deleting inactive delete_failed */
    const char *message; /* why it is so */
    struct slipway_error *error; /* of a failed one; belongs to this struct */
    const char *endpoint_url, *deployed_model_version;
    int64_t revision, serving_revision; /* serving_revision 0: nothing serves */
    int64_t replicas;
    const char *task_id;
    struct slipway_progress progress;
    const char *tags_json;
    const char *created_at, *updated_at; /* RFC 3339 */
    const char *json; /* the whole answer as it came */
};
void slipway_deployment_free(struct slipway_deployment *deployment);

struct slipway_deployment_list {
    struct slipway_deployment **deployments; /* newest first */
    size_t count;
    uint64_t total_count; /* on all pages */
};
void slipway_deployment_list_free(struct slipway_deployment_list *list);

/* Deploys a model; returns when that is recorded (`creating`), not when it serves: see slipway_wait_for_deployment().
 * SLIPWAY_CONFIGURATION, SLIPWAY_CONFLICT (the name is taken). */
int slipway_deploy_model(struct slipway *service, const struct slipway_deployment_request *request,
                         struct slipway_deployment **ret_deployment, struct slipway_error **ret_error);
/* By id or name. SLIPWAY_NOT_FOUND. */
int slipway_get_deployment_status(struct slipway *service, const char *deployment_id,
                                  struct slipway_deployment **ret_deployment, struct slipway_error **ret_error);
/* limit 1 to 1000 (0: 100). status NULL: all. SLIPWAY_CONFIGURATION. */
int slipway_list_deployments(struct slipway *service, size_t limit, size_t offset, const char *status,
                             struct slipway_deployment_list **ret_list, struct slipway_error **ret_error);
/* A new revision. SLIPWAY_CONFIGURATION, SLIPWAY_NOT_FOUND, SLIPWAY_CONFLICT (another operation runs). */
int slipway_update_deployment(struct slipway *service, const char *deployment_id,
                              const struct slipway_deployment_request *request,
                              struct slipway_deployment **ret_deployment, struct slipway_error **ret_error);

struct slipway_deployment_patch {
    uint32_t replicas; /* 0: unchanged */
    bool has_resources; /* cpu, memory_bytes and gpu are given */
    double cpu;
    uint64_t memory_bytes;
    uint32_t gpu;
    const char *tags_json; /* NULL: unchanged */
};
/* No new revision. SLIPWAY_REFUSED (507) when it does not fit. */
int slipway_patch_deployment(struct slipway *service, const char *deployment_id,
                             const struct slipway_deployment_patch *patch, struct slipway_deployment **ret_deployment,
                             struct slipway_error **ret_error);
/* Begins the deletion; of an inactive one: unchanged. SLIPWAY_NOT_FOUND, SLIPWAY_CONFLICT (an encoder in use). */
int slipway_delete_deployment(struct slipway *service, const char *deployment_id,
                              struct slipway_deployment **ret_deployment, struct slipway_error **ret_error);
/* SLIPWAY_CONFLICT when no earlier revision has served. */
int slipway_rollback_deployment(struct slipway *service, const char *deployment_id,
                                struct slipway_deployment **ret_deployment, struct slipway_error **ret_error);
int slipway_restart_deployment(struct slipway *service, const char *deployment_id,
                               struct slipway_deployment **ret_deployment, struct slipway_error **ret_error);
/* Blocks until it is active, failed, inactive or delete_failed, at most timeout_ms (then SLIPWAY_UNAVAILABLE, 504).
 * Success means settled, not active: look at its status. Outlives a restart of the service within timeout_ms. */
int slipway_wait_for_deployment(struct slipway *service, const char *deployment_id, uint32_t timeout_ms,
                                struct slipway_deployment **ret_deployment, struct slipway_error **ret_error);

/* ---- tasks ---- */

struct slipway_task {
    const char *task_id, *kind;
    const char *status; /* pending processing done canceled failed refused */
    const char *step;
    struct slipway_progress progress;
    const char *parent_id, *deployment_id;
    const char *embedding_model_id, *deployed_model_id; /* model-level tasks; the latter once done */
    const char *detail;
    struct slipway_error *error; /* of a failed one; belongs to this struct */
    const char *metadata_json;
    const char *created_at, *updated_at;
    const char *json;
};
void slipway_task_free(struct slipway_task *task);
struct slipway_task_list {
    struct slipway_task **tasks;
    size_t count;
    uint64_t total_count;
};
void slipway_task_list_free(struct slipway_task_list *list);

int slipway_get_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                     struct slipway_error **ret_error);
/* kind, status, deployment_id NULL: any. */
int slipway_list_tasks(struct slipway *service, size_t limit, size_t offset, const char *kind, const char *status,
                       const char *deployment_id, struct slipway_task_list **ret_list,
                       struct slipway_error **ret_error);
/* SLIPWAY_CONFLICT when it is finished. */
int slipway_cancel_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                        struct slipway_error **ret_error);
/* SLIPWAY_CONFLICT unless it failed, was refused or canceled. */
int slipway_restart_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                         struct slipway_error **ret_error);
int slipway_wait_for_task(struct slipway *service, const char *task_id, uint32_t timeout_ms,
                          struct slipway_task **ret_task, struct slipway_error **ret_error);

/* ---- model-level tasks ---- */

/* Deploys a model by its id, which becomes the deployment's name. task_id NULL: the service makes one; the same id
 * twice is the same task. config NULL, or its model_uri NULL: the id is looked up in the default registry;
 * deployment_name in it is ignored. Returns the task as it is recorded, also when it is refused or failed.
 * SLIPWAY_CONFIGURATION, SLIPWAY_CONFLICT (the id stands for another task, or the model is deployed from another URI).
 */
int slipway_deploy(struct slipway *service, const char *embedding_model_id, const char *task_id, const char *parent_id,
                   const struct slipway_deployment_request *config, struct slipway_task **ret_task,
                   struct slipway_error **ret_error);
int slipway_get_deploy_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                            struct slipway_error **ret_error);
/* The newest deployment task of the model. SLIPWAY_NOT_FOUND. */
int slipway_get_model_deploy_status(struct slipway *service, const char *embedding_model_id,
                                    struct slipway_task **ret_task, struct slipway_error **ret_error);
/* reason may be NULL; it is kept in the task's metadata. */
int slipway_delete(struct slipway *service, const char *embedding_model_id, const char *task_id, const char *parent_id,
                   const char *reason, struct slipway_task **ret_task, struct slipway_error **ret_error);
int slipway_get_delete_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                            struct slipway_error **ret_error);
int slipway_get_model_delete_status(struct slipway *service, const char *embedding_model_id,
                                    struct slipway_task **ret_task, struct slipway_error **ret_error);

/* ---- data ---- */

struct slipway_embeddings {
    float *values; /* count × dimension, row by row */
    size_t count, dimension;
    uint64_t prompt_tokens;
    uint64_t truncated_texts; /* texts longer than the model's window, cut */
};
void slipway_embeddings_free(struct slipway_embeddings *embeddings);
/* texts[i] has sizes[i] bytes, or is NUL-terminated when sizes is NULL. SLIPWAY_NOT_FOUND, SLIPWAY_CONFIGURATION. */
int slipway_embed(struct slipway *service, const char *deployment_name, const char *const *texts, const size_t *sizes,
                  size_t count, struct slipway_embeddings **ret_embeddings, struct slipway_error **ret_error);
/* An Open Inference Protocol V2 request as JSON; the answer's JSON is freed with slipway_text_free(). */
int slipway_infer(struct slipway *service, const char *deployment_name, const char *request_json,
                  char **ret_answer_json, struct slipway_error **ret_error);

/* ---- what else the service tells, as JSON ---- */

/* GET of a path below the service's URL ("/v1/processes", "/v1/deployments/m/events?limit=10"): the body as it came,
 * freed with slipway_text_free(). ret_total_count may be NULL. */
int slipway_get_json(struct slipway *service, const char *path, char **ret_json, uint64_t *ret_total_count,
                     struct slipway_error **ret_error);
void slipway_text_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
