/* libslipway: the client side of Slipway, the model deployment service (HTTP API: docs/deploying.md,
 * docs/collections.md).
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
#include <stdio.h>

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
/* Nothing is sent yet. `url` like "http://127.0.0.1:8400" (NULL: that one), "https://…", or "unix:/var/lib/slipway/
 * control.sock", the control socket in a state folder, where the service's own user and root need no token; token may
 * be NULL. Both are copied. SLIPWAY_CONFIGURATION for a URL that is none. Free with slipway_close(). */
int slipway_open(const char *url, const char *token, struct slipway **ret_service, struct slipway_error **ret_error);

/* What slipway_open_with() takes; NULL is nothing, or the default. The files are PEM, concern https only, and are read
 * at each new connection. */
struct slipway_options {
    const char *url, *token; /* as slipway_open() takes them */
    /* The authorities of which one must have signed the service's certificate; NULL: the system's. */
    const char *ca_file;
    const char *certificate_file; /* what a service that asks for a certificate is shown */
    const char *key_file; /* its private key; NULL: it is in certificate_file, too */
};
/* The same with more to say. All is copied. SLIPWAY_CONFIGURATION; SLIPWAY_UNAVAILABLE for the folder of a socket that
 * cannot be opened. */
int slipway_open_with(const struct slipway_options *options, struct slipway **ret_service,
                      struct slipway_error **ret_error);
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
    /* Of type "batch_inference_job" (docs/batch-jobs.md); NULL and 0 for the service's defaults. */
    const char *input_uri, *output_uri;
    const char *format; /* ndjson csv */
    const char *on_error; /* fail skip */
    const char *priority; /* idle normal */
    const char *id_field, *input_field, *output_field;
    const char *inputs_json, *outputs_json; /* JSON objects: the field of each of the model's inputs, outputs */
    uint32_t batch_size, part_rows;
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
    const char *parent_id, *deployment_id, *collection;
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

/* ---- tokens ---- */

/* Who may do what (docs/tokens.md). All of it needs a token of role admin. */
struct slipway_token {
    const char *token_id, *name;
    const char *role; /* admin deploy infer read */
    bool is_limited; /* to these, and to nothing else: */
    const char *const *deployments; /* names; deployment_count of them */
    const char *const *collections;
    size_t deployment_count, collection_count;
    double rate; /* requests a second; 0: as many as it likes */
    uint32_t burst; /* how many of them at once */
    const char *created_at;
    const char *revoked_at; /* NULL: it is valid */
    const char *token; /* what requests bring; only slipway_create_token() gives it */
    const char *detail; /* what is to be known about this answer, or NULL */
    const char *json;
};
void slipway_token_free(struct slipway_token *token);
struct slipway_token_list {
    struct slipway_token **tokens; /* newest first, revoked ones too */
    size_t count;
    uint64_t total_count;
};
void slipway_token_list_free(struct slipway_token_list *list);

struct slipway_token_request {
    const char *name; /* as a deployment's; free again when the token is revoked */
    const char *role;
    const char *const *deployments; /* NULL for both kinds: not limited; an admin token cannot be */
    const char *const *collections;
    size_t deployment_count, collection_count;
    double rate; /* 0: as many as it likes */
    uint32_t burst; /* 0: the rate, rounded up */
};
/* The token is valid when this returns, and is told here only. The first one closes the service to requests without a
 * token. SLIPWAY_CONFIGURATION, SLIPWAY_CONFLICT (a valid token has the name). */
int slipway_create_token(struct slipway *service, const struct slipway_token_request *request,
                         struct slipway_token **ret_token, struct slipway_error **ret_error);
/* limit 1 to 1000 (0: 100). */
int slipway_list_tokens(struct slipway *service, size_t limit, size_t offset, struct slipway_token_list **ret_list,
                        struct slipway_error **ret_error);
/* The token is refused when this returns, unless `detail` says that something has not taken it up yet. One that is
 * revoked already stays as it is. ret_token may be NULL. SLIPWAY_NOT_FOUND. */
int slipway_revoke_token(struct slipway *service, const char *name_or_id, struct slipway_token **ret_token,
                         struct slipway_error **ret_error);

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

/* ---- collections ---- */

/* A vector index of a collection, filled by one encoder. */
struct slipway_index {
    const char *index_id;
    const char *set; /* "documents" or "queries" */
    const char *deployment; /* its name now */
    const char *digest; /* of the encoder */
    const char *state; /* filling ready blue rollback failed deleting */
    int64_t revision, dimension;
    uint64_t applied_seq; /* what searches see */
    uint64_t durable_seq; /* what a loss of power leaves */
    uint64_t head_seq; /* of the log that it follows */
    uint64_t rows; /* documents in it */
    uint64_t failed; /* documents that its model refused */
    double rate; /* documents a second; 0: at rest */
    const char *detail; /* why it is in this state, or NULL */
};
struct slipway_index_list {
    struct slipway_index *indexes; /* newest first */
    size_t count;
    uint64_t total_count;
};
void slipway_index_list_free(struct slipway_index_list *list); /* NULL is fine, as with every _free here */

struct slipway_collection {
    const char *name, *deployment, *metric;
    bool keep_queries, quantized;
    uint64_t documents;
    const struct slipway_index *blue; /* what answers; NULL before the indexer has said */
    const struct slipway_index *rollback; /* what can come back, or NULL */
    const char *json;
};
void slipway_collection_free(struct slipway_collection *collection);
struct slipway_collection_list {
    struct slipway_collection **collections; /* newest first */
    size_t count;
    uint64_t total_count;
};
void slipway_collection_list_free(struct slipway_collection_list *list);

struct slipway_collection_request {
    const char *name; /* as a deployment's */
    const char *deployment; /* name or id of an active embedding model */
    const char *metric; /* NULL: "cosine" */
    bool keep_queries; /* keep searched texts as a second set */
    bool quantized; /* scan int8 rows and re-score: the same hits from a quarter of the memory traffic */
};
/* It takes documents and searches when this returns. SLIPWAY_CONFIGURATION (not an embedding model, …),
 * SLIPWAY_NOT_FOUND (the deployment), SLIPWAY_CONFLICT (the name is taken; the deployment does not serve). */
int slipway_create_collection(struct slipway *service, const struct slipway_collection_request *request,
                              struct slipway_collection **ret_collection, struct slipway_error **ret_error);
/* limit 1 to 1000 (0: 100). */
int slipway_list_collections(struct slipway *service, size_t limit, size_t offset,
                             struct slipway_collection_list **ret_list, struct slipway_error **ret_error);
/* SLIPWAY_NOT_FOUND. */
int slipway_get_collection(struct slipway *service, const char *collection, struct slipway_collection **ret_collection,
                           struct slipway_error **ret_error);
/* Begins the deletion of the collection with all its documents; slipway_wait_for_task() waits for its end, when the
 * name is free. A re-index of it is canceled. SLIPWAY_NOT_FOUND. */
int slipway_delete_collection(struct slipway *service, const char *collection, struct slipway_task **ret_task,
                              struct slipway_error **ret_error);
/* All of them. SLIPWAY_NOT_FOUND. */
int slipway_list_indexes(struct slipway *service, const char *collection, struct slipway_index_list **ret_list,
                         struct slipway_error **ret_error);

/* ---- documents ---- */

struct slipway_document {
    const char *id, *text;
    const char *payload_json; /* an object */
    uint64_t seq; /* of its last write */
    const char *updated_at;
};
void slipway_document_free(struct slipway_document *document);

/* What a write came to. It is in the log and on the disk, whatever `indexed` says. */
struct slipway_write {
    uint64_t seq;
    bool indexed; /* asked to wait: searches see it. false: the model refused the text, or it was not asked to wait */
    char *detail; /* why the model refused it, or NULL */
};
/* Frees what is inside; the struct is the caller's. */
void slipway_write_clear(struct slipway_write *write);

/* Writes one document, new or in place of the one with that id (UTF-8, 1 to 512 bytes). payload_json: a JSON object, or
 * NULL. With wait_indexed it returns when searches see it; after a deadline of the service's (indexed_timeout) that is
 * SLIPWAY_UNAVAILABLE, and the write stands. ret_write may be NULL. SLIPWAY_REQUEST (no text, too large, a wrong id),
 * SLIPWAY_CONFIGURATION (the payload is not JSON), SLIPWAY_NOT_FOUND (the collection), SLIPWAY_CONFLICT (it is being
 * deleted). */
int slipway_put_document(struct slipway *service, const char *collection, const char *id, const char *text,
                         const char *payload_json, bool wait_indexed, struct slipway_write *ret_write,
                         struct slipway_error **ret_error);
/* From the log: what was acknowledged is found at once. SLIPWAY_NOT_FOUND. */
int slipway_get_document(struct slipway *service, const char *collection, const char *id,
                         struct slipway_document **ret_document, struct slipway_error **ret_error);
/* SLIPWAY_NOT_FOUND when there is none. Otherwise as slipway_put_document(). */
int slipway_delete_document(struct slipway *service, const char *collection, const char *id, bool wait_indexed,
                            struct slipway_write *ret_write, struct slipway_error **ret_error);

/* One of many writes; text NULL deletes. */
struct slipway_document_write {
    const char *id, *text, *payload_json;
};
/* What many writes came to. The lines without an error are written, the others are not. */
struct slipway_bulk {
    uint64_t seq; /* of the last that was written */
    uint64_t accepted;
    struct slipway_line_error {
        uint64_t line; /* from 1; of an array: place + 1 */
        char *id; /* NULL where the line has none */
        char *detail;
    } * errors; /* ascending; at most SLIPWAY_BULK_ERRORS of them are kept */
    size_t error_count;
    uint64_t failed; /* lines with an error, also those that are not kept */
    bool indexed; /* asked to wait: searches see all that was accepted. false: the model refused some, or not asked */
    char *detail; /* why the model refused the first of them, or NULL */
};
#define SLIPWAY_BULK_ERRORS 10000
void slipway_bulk_free(struct slipway_bulk *bulk);
/* All in one request, in their order. SLIPWAY_REQUEST when they are too large together: then use
 * slipway_import_documents(). SLIPWAY_CONFIGURATION when one payload is not JSON: nothing was written. */
int slipway_write_documents(struct slipway *service, const char *collection,
                            const struct slipway_document_write *writes, size_t count, bool wait_indexed,
                            struct slipway_bulk **ret_bulk, struct slipway_error **ret_error);

/* Where an import comes from: NDJSON, a line {"id","text","payload"} or {"id","delete":true} each. */
struct slipway_import {
    /* Puts at most `size` bytes into `buffer`; how many, 0 at the end, negative to give up. On the caller's thread. */
    int64_t (*read)(void *context, char *buffer, size_t size);
    /* NULL, or told after each part what has come of it so far and how many bytes that was; false gives up. */
    bool (*progress)(void *context, const struct slipway_bulk *so_far, uint64_t bytes);
    void *context;
    bool wait_indexed; /* each part is waited for; the parts are smaller then */
};
/* Any amount: it is sent in parts of whole lines, so memory does not grow with it. The deadline of the service holds
 * for each part. When it fails in the middle, the message says how many lines are safe; to do all of it again is
 * harmless. A line above 32 MiB is SLIPWAY_CONFIGURATION; a callback that gives up, too. */
int slipway_import_documents(struct slipway *service, const char *collection, const struct slipway_import *import,
                             struct slipway_bulk **ret_bulk, struct slipway_error **ret_error);
/* The same from a file that is open for reading; it stays open. */
int slipway_import_file(struct slipway *service, const char *collection, FILE *file, bool wait_indexed,
                        struct slipway_bulk **ret_bulk, struct slipway_error **ret_error);
/* All documents as NDJSON, given to `take` piece by piece as they come (a piece is not a line); false gives up
 * (SLIPWAY_CONFIGURATION). What was written after the call began may be in it or not. The deadline is one without any
 * byte. SLIPWAY_NOT_FOUND. */
int slipway_export_documents(struct slipway *service, const char *collection,
                             bool (*take)(void *context, const char *bytes, size_t size), void *context,
                             struct slipway_error **ret_error);
int slipway_export_file(struct slipway *service, const char *collection, FILE *file, struct slipway_error **ret_error);

/* ---- search ---- */

struct slipway_search_request {
    const char *query; /* a text; or */
    const float *vector; /* `dimension` numbers, made by the encoder that encoder_digest names */
    size_t dimension;
    const char *encoder_digest; /* with `vector`: another one than the collection's is refused, not answered */
    size_t limit; /* 0: 10 */
    size_t offset;
    const char *filter_json; /* NULL: none; docs/collections.md */
    bool without_payload, with_vector;
};
struct slipway_hit {
    const char *id;
    double score; /* cosine, -1 to 1 */
    const char *payload_json; /* NULL without payload */
    const float *vector; /* NULL unless asked for */
    size_t dimension;
};
struct slipway_hits {
    struct slipway_hit *hits; /* best first */
    size_t count;
    const char *deployment, *digest; /* the encoder that answered */
    int64_t revision;
    uint64_t applied_seq; /* everything up to it was seen */
    const char *json;
};
void slipway_hits_free(struct slipway_hits *hits);
/* SLIPWAY_CONFIGURATION or SLIPWAY_REQUEST (filter, dimension, limit), SLIPWAY_NOT_FOUND, SLIPWAY_CONFLICT (vectors of
 * another encoder), SLIPWAY_UNAVAILABLE (its only replica, or the index, is coming back). */
int slipway_search(struct slipway *service, const char *collection, const struct slipway_search_request *request,
                   struct slipway_hits **ret_hits, struct slipway_error **ret_error);
/* Past queries that are like this one, of a collection with keep_queries: `id` is no document's; the payload has the
 * text, how often it was asked, and when last. */
int slipway_search_queries(struct slipway *service, const char *collection,
                           const struct slipway_search_request *request, struct slipway_hits **ret_hits,
                           struct slipway_error **ret_error);

/* ---- changing a collection's embedding model ---- */

struct slipway_reindex_request {
    const char *destination; /* name or id of a deployment; or */
    const struct slipway_deployment_request *destination_request; /* one that is made for it */
    bool stop_before_switch; /* slipway_switch() does it later */
    bool wait_on_conflict; /* another re-index of the collection runs: wait for it instead of being refused */
    bool keep_source; /* the source's model stays deployed */
    bool has_rollback_window;
    uint32_t rollback_window_s; /* with has_rollback_window; 0: the source goes in the same task */
    double max_failed; /* documents that the model may refuse: a count, or below 1 a share of all */
    uint32_t overlap_k; /* 0, or: for kept queries, of the best k of both models … */
    double overlap_at_least; /* … at least this share must be the same */
};
/* Fills a new index and makes it the blue one; returns when that is recorded. The task is `done` at the switch; its
 * child of kind retire is pending until the window ends. A task that is `refused` at once (another re-index runs, the
 * destination is being deleted, no memory) is success, too: look at its status. SLIPWAY_CONFIGURATION,
 * SLIPWAY_NOT_FOUND. */
int slipway_reindex(struct slipway *service, const char *collection, const struct slipway_reindex_request *request,
                    struct slipway_task **ret_task, struct slipway_error **ret_error);

struct slipway_switch_options { /* NULL where it is taken: all defaults */
    bool has_rollback_window;
    uint32_t rollback_window_s;
    bool keep_source;
    const char *parent_id; /* the task that this is a step of */
};
/* Makes a `ready` index the blue one; returns the task when that is recorded. SLIPWAY_NOT_FOUND, SLIPWAY_CONFLICT. */
int slipway_switch(struct slipway *service, const char *collection, const char *index_id,
                   const struct slipway_switch_options *options, struct slipway_task **ret_task,
                   struct slipway_error **ret_error);
/* Back to the pair before, while its window is open. SLIPWAY_NOT_FOUND, SLIPWAY_CONFLICT (there is none any more). */
int slipway_rollback_collection(struct slipway *service, const char *collection, struct slipway_task **ret_task,
                                struct slipway_error **ret_error);

/* What a re-index could not embed, or a row that a batch job rejected. */
struct slipway_failed_item {
    const char *id; /* of the document; of a row: its line in the input, as text */
    const char *stage; /* inference upsert other */
    const char *detail;
};
struct slipway_failed_item_list {
    struct slipway_failed_item *items;
    size_t count;
    uint64_t total_count;
};
void slipway_failed_item_list_free(struct slipway_failed_item_list *list);
/* limit 1 to 1000 (0: 100). SLIPWAY_NOT_FOUND. */
int slipway_list_failed_items(struct slipway *service, const char *task_id, size_t limit, size_t offset,
                              struct slipway_failed_item_list **ret_list, struct slipway_error **ret_error);

/* ---- re-index tasks by model ids ---- */

struct slipway_reindex_task {
    const char *task_id; /* NULL: the service makes one; the same id twice is the same task */
    const char *source_model_id, *dest_model_id;
    const char *collection; /* NULL: the one whose blue encoder is the source */
    bool deploy_as_blue; /* switch when it is filled */
    bool wait_on_conflict;
    uint32_t switch_timeout_ms; /* slipway_blue_switch() only; 0: 15 min */
};
/* Runs it in the service: all steps below, and filling the index between them. SLIPWAY_CONFIGURATION (no collection or
 * several have that source; the message lists them). */
int slipway_run_reindex_task(struct slipway *service, const struct slipway_reindex_task *task,
                             struct slipway_task **ret_task, struct slipway_error **ret_error);
int slipway_get_reindex_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                             struct slipway_error **ret_error);
int slipway_list_reindex_tasks(struct slipway *service, size_t limit, size_t offset, const char *status,
                               struct slipway_task_list **ret_list, struct slipway_error **ret_error);
int slipway_restart_reindex_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                                 struct slipway_error **ret_error);
int slipway_cancel_reindex_task(struct slipway *service, const char *task_id, struct slipway_task **ret_task,
                                struct slipway_error **ret_error);

/* ---- inside a re-index task of one's own ---- */

/* For a program that runs re-index tasks itself and wants the three steps that the service is best at. Both structs are
 * the caller's, are only borrowed, and are called on the caller's thread; `self` is the struct, in which a program can
 * embed its own state. NULL in their place: the server's own. */
struct slipway_plugin {
    /* Whether the model answers well by the program's own measure. Asked again and again until it says so. */
    bool (*is_model_ready)(const struct slipway_plugin *self, const char *embedding_model_id);
};
struct slipway_worker {
    /* Told of a task that was recorded, which the service works on: to show it, or to wake who waits for it. 0, or
     * anything else for a failure, which becomes the call's (the task stands). */
    int (*send)(const struct slipway_worker *self, const char *task_id);
};
struct slipway_model_params {
    const char *embedding_model_id; /* NULL: the re-index task's destination */
    const struct slipway_deployment_request *config; /* as for slipway_deploy(); may be NULL */
    const char *task_id; /* of the child; NULL: the service makes one */
    uint32_t pending_timeout_ms; /* 0: 5 min */
    uint32_t processing_timeout_ms; /* 0: 30 min */
    uint32_t ready_timeout_ms; /* 0: 2 min */
};
/* Deploys the destination as a child task of `task` (its task_id is the parent's), or finds it deployed, and blocks
 * until it is: through pending and processing with a deadline each, then until the model answers ready (of the server:
 * its readiness route; of a plugin: is_model_ready). A service that restarts meanwhile is waited for within those
 * deadlines. The deployment that it returns is finished. SLIPWAY_DEPLOYMENT with "Deployment task is pending too
 * long.", "Deployment task is processing too long.", "Model is not ready." or "Deployment task failed: …" (failed,
 * canceled, refused), whose causes follow. The child task is not canceled. Other classes as slipway_deploy(). */
int slipway_initiate_model_deployment_and_wait(struct slipway *service, const struct slipway_plugin *plugin,
                                               const struct slipway_reindex_task *task,
                                               const struct slipway_model_params *params,
                                               const struct slipway_worker *deployment_worker,
                                               struct slipway_deployment **ret_deployment,
                                               struct slipway_error **ret_error);
/* Begins the deletion of a model as a child task of `task`; does not wait: the task it returns is pending or on its
 * way. SLIPWAY_REFUSED when the service refuses it at once (the encoder of a collection; the message names it),
 * SLIPWAY_DEPLOYMENT when it fails at once (no such model is deployed). */
int slipway_initiate_model_deletion(struct slipway *service, const struct slipway_reindex_task *task,
                                    const char *embedding_model_id, const struct slipway_worker *deletion_worker,
                                    struct slipway_task **ret_task, struct slipway_error **ret_error);
/* Makes the destination's ready index the blue one, with a rollback window of 0: the source's indexes go in the same
 * task, whose child deletes the source model; deletion_worker is told of that child. Blocks until that task is done, at
 * most switch_timeout_ms, and returns it. The window, once 0, has no way back.
 * Called again for the same task_id, it goes on with the switch that it began.
 * SLIPWAY_CONFIGURATION (no collection or several have that source: name one), SLIPWAY_NOT_FOUND (no index of the
 * destination), SLIPWAY_CONFLICT (that index is not ready, or is blue already), SLIPWAY_DEPLOYMENT ("The switch failed:
 * …"), SLIPWAY_UNAVAILABLE (not within the deadline; the task goes on). */
int slipway_blue_switch(struct slipway *service, const struct slipway_reindex_task *task,
                        const struct slipway_worker *deletion_worker, struct slipway_task **ret_task,
                        struct slipway_error **ret_error);

/* ---- following events and logs ---- */

struct slipway_follow {
    /* Given each one as a JSON object, oldest first, on the caller's thread; false ends it. */
    bool (*take)(void *context, const char *json);
    void *context;
    size_t limit; /* how many of those that are there already come first, 1 to 1000; 0: 100 */
};
/* Goes on until `take` says false (then 0), or nothing can come any more (0: the logs of a deployment that is deleted).
 * A service that breaks it off, because it restarts or is upgraded, is asked again and goes on behind the last one that
 * was taken: none comes twice. SLIPWAY_NOT_FOUND, SLIPWAY_UNAUTHORIZED; SLIPWAY_UNAVAILABLE when the service does not
 * come back within its deadline (slipway_set_timeout()). deployment_id NULL: what happens in the whole service. */
int slipway_follow_events(struct slipway *service, const char *deployment_id, const struct slipway_follow *how,
                          struct slipway_error **ret_error);
/* What the replicas of a deployment write: {"at","replica_id","revision","line","position"}. */
int slipway_follow_logs(struct slipway *service, const char *deployment_id, const struct slipway_follow *how,
                        struct slipway_error **ret_error);

/* ---- packages: models that were fetched and verified (docs/packages.md) ---- */

/* Strings are NULL where the service gives none. */
struct slipway_package {
    const char *digest; /* "sha256:…", of the file tree */
    const char *package_uri; /* what to give as model_uri to deploy it */
    uint64_t size_bytes, file_count;
    const char *source_uri, *resolved_uri, *created_at, *used_at;
    const char *json; /* all that the service said */
};
void slipway_package_free(struct slipway_package *package); /* NULL is fine */

/* Where an upload comes from: an image as slipway_export_package() gives it, or a model's folder; tar, alone or in gzip
 * or zstd, or zip. */
struct slipway_upload {
    /* Puts at most `size` bytes into `buffer`; how many, 0 at the end, negative to give up. On the caller's thread. */
    int64_t (*read)(void *context, char *buffer, size_t size);
    void *context;
    uint64_t size_bytes; /* of all of it; 0: not known before its end */
};
/* Sends it as it is read, so that memory does not grow with it, and waits until the service has made a package of it,
 * which stays until it is removed or pruned. The deadline is one without progress, ten minutes at least. The same model
 * again is success. SLIPWAY_CONFIGURATION: what is wrong with the archive, or the callback gave up; SLIPWAY_REFUSED:
 * the service's disk has no room; SLIPWAY_REQUEST: it is larger than uploads may be. */
int slipway_import_package(struct slipway *service, const struct slipway_upload *upload,
                           struct slipway_package **ret_package, struct slipway_error **ret_error);
/* The same from a file that is open for reading, from where it stands; it stays open. */
int slipway_import_package_file(struct slipway *service, FILE *file, struct slipway_package **ret_package,
                                struct slipway_error **ret_error);
/* The package as an OCI image layout in a tar, given to `take` piece by piece as it comes; false gives up
 * (SLIPWAY_CONFIGURATION). The deadline is one without any byte, ten minutes at least: the first time the service reads
 * the whole model before it begins. `digest`: with or without "sha256:". SLIPWAY_NOT_FOUND; SLIPWAY_UNAVAILABLE when it
 * broke off, so that what was taken is not whole. */
int slipway_export_package(struct slipway *service, const char *digest,
                           bool (*take)(void *context, const char *bytes, size_t size), void *context,
                           struct slipway_error **ret_error);
int slipway_export_package_file(struct slipway *service, const char *digest, FILE *file,
                                struct slipway_error **ret_error);
/* One package; its json also has its files ("contents") and its image. Waits as an export does. SLIPWAY_NOT_FOUND. */
int slipway_get_package(struct slipway *service, const char *digest, struct slipway_package **ret_package,
                        struct slipway_error **ret_error);
/* Fetches a model and keeps it, without deploying it: a task of kind `package`; its json has metadata.package_uri once
 * it is done. recipe_json may be NULL. SLIPWAY_CONFIGURATION. */
int slipway_build_package(struct slipway *service, const char *model_uri, const char *recipe_json,
                          struct slipway_task **ret_task, struct slipway_error **ret_error);
/* Pushes it as an image to "registry/repository:tag", or to "repository:tag" in the service's container registry: a
 * task of kind `push`; its json has metadata.image_digest once it is done. SLIPWAY_CONFIGURATION, SLIPWAY_NOT_FOUND. */
int slipway_push_package(struct slipway *service, const char *digest, const char *reference,
                         struct slipway_task **ret_task, struct slipway_error **ret_error);
/* SLIPWAY_CONFLICT while something uses it, SLIPWAY_NOT_FOUND. */
int slipway_remove_package(struct slipway *service, const char *digest, struct slipway_error **ret_error);
/* Removes every package that nothing uses; those that were uploaded or built within the last hour only with `all`.
 * *ret_json: {"removed":[{"digest","size_bytes"}],"size_bytes","dry_run"}, freed with slipway_text_free(). */
int slipway_prune_packages(struct slipway *service, bool all, bool dry_run, char **ret_json,
                           struct slipway_error **ret_error);

/* ---- what else the service tells, as JSON ---- */

/* GET of a path below the service's URL ("/v1/processes", "/v1/deployments/m/events?limit=10"): the body as it came,
 * freed with slipway_text_free(). ret_total_count may be NULL. */
int slipway_get_json(struct slipway *service, const char *path, char **ret_json, uint64_t *ret_total_count,
                     struct slipway_error **ret_error);
/* Any other call: `json` is its body, or NULL for none; *ret_json (NULL: not wanted) the answer's, freed with
 * slipway_text_free(). */
int slipway_send_json(struct slipway *service, const char *method, const char *path, const char *json, char **ret_json,
                      struct slipway_error **ret_error);
void slipway_text_free(char *text);

#ifdef __cplusplus
}
#endif
#endif
