/* What libslipway's files share.
 *
 * client_open.c opens, client.c sends (libcurl); client_error.c makes errors; client_request.c turns requests into
 * JSON; client_answer.c and client_answer_collections.c turn JSON into the public structs; client_deployments.c,
 * client_tasks.c, client_data.c, client_collections.c, client_documents.c, client_stream.c, client_follow.c,
 * client_search.c, client_reindex.c and client_packages.c are the calls, and client_steps.c what is made of several of
 * them. Every public struct is the first member of an owner that keeps the parsed answer, so that its strings are
 * borrowed and one free suffices.
 */
#pragma once
#include <curl/curl.h>

#include "base/buffer.h"
#include "base/json.h"
#include "slipway.h"

struct slipway {
    char *url; /* without a trailing slash; of a socket: what stands in the requests */
    char *shown; /* as it was given */
    char *token; /* or NULL, as all below */
    char *socket; /* a path that fits an address */
    int folder; /* the socket's, where its own path does not; else -1 */
    char *ca_file, *certificate_file, *key_file;
    CURL *curl; /* keeps the connection between calls */
    uint32_t timeout_ms;
};

struct client_request {
    const char *method, *path; /* path begins with "/"; already percent-encoded */
    const char *body; /* NULL: none */
    size_t body_size;
    /* NULL, or gives the body as it is sent, in place of `body`; body_size is all of it, 0: not known. */
    int64_t (*read)(void *context, char *buffer, size_t size);
    void *read_context;
    const char *content_type; /* of the body; NULL: application/json */
    const char *idempotency_key;
    uint32_t timeout_ms; /* 0: the service's */
    /* NULL, or given the body of a 2xx answer as it comes; false breaks off. The deadline is then one without a byte.
     */
    bool (*take)(void *context, const char *bytes, size_t size);
    void *take_context;
    uint32_t
        quiet_ms; /* with take, of an answer without an end: it is broken off when so long nothing came; 0: as above */
    struct buffer *position; /* NULL, or takes the X-Slipway-Position of the answer */
};

struct client_answer {
    struct buffer body;
    long http_status;
    uint64_t total_count;
    uint32_t retry_after_ms;
    bool is_problem; /* application/problem+json */
    const struct client_request *request;
    bool broken_off; /* take() or read() said so */
    uint64_t heard_ms; /* when the last byte came */
};

/* client_open.c: tells libcurl how this service is reached. */
void client_set_way(const struct slipway *service);
/* Sends and reads the answer. An answer of 400 and above becomes the error it stands for. */
int client_send(struct slipway *service, const struct client_request *request, struct client_answer *ret_answer,
                struct slipway_error **ret_error);
void client_answer_clear(struct client_answer *answer);
#define _cleanup_answer_ __attribute__((cleanup(client_answer_clear)))

/* client_error.c */
int client_error(struct slipway_error **ret_error, enum slipway_error_class error_class, int http_status,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
int client_error_from_answer(const struct client_answer *answer, struct slipway_error **ret_error);
/* Puts "<context>: " before the message of an error that a call has just set; NULL is fine. */
void client_error_add_context(struct slipway_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void client_error_add_cause(struct slipway_error *error, const char *cause); /* behind those it has */
/* {"error","message","causes"} as a task or deployment carries it; NULL for a missing one. */
struct slipway_error *client_error_from_object(yyjson_val *object);

/* client_request.c: a body; freed by the caller. CONFIGURATION when one of the JSON texts in it is none. */
enum client_form { CLIENT_DEPLOYMENT, CLIENT_MODEL_CONFIG };
int client_write_request(const struct slipway_deployment_request *request, enum client_form form,
                         yyjson_mut_doc *document, yyjson_mut_val **ret_object, struct slipway_error **ret_error);
int client_add_json(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *json,
                    struct slipway_error **ret_error);
/* "/v1/deployments/" + the id, percent-encoded, + suffix; freed by the caller. */
char *client_path(const char *prefix, const char *id, const char *suffix);

/* client_deployments.c: GET <prefix><id>/wait in slices until it answers 200 or timeout_ms have passed; a service that
 * cannot be reached meanwhile is tried again. */
int client_wait(struct slipway *service, const char *prefix, const char *id, uint32_t timeout_ms,
                struct client_answer *ret_answer, struct slipway_error **ret_error);

/* client_tasks.c: a call whose answer is a task. body: NULL for none. */
int client_send_for_task(struct slipway *service, const struct client_request *request, struct slipway_task **ret_task,
                         struct slipway_error **ret_error);
int client_post_for_task(struct slipway *service, const char *path, yyjson_mut_doc *body,
                         struct slipway_task **ret_task, struct slipway_error **ret_error);

/* client_answer.c: they take the answer's body. */
int client_read_object(struct client_answer *answer, yyjson_doc **ret_document, struct slipway_error **ret_error);
int client_read_array(struct client_answer *answer, yyjson_doc **ret_document, struct slipway_error **ret_error);
int client_read_deployment(struct client_answer *answer, struct slipway_deployment **ret_deployment,
                           struct slipway_error **ret_error);
int client_read_deployments(struct client_answer *answer, struct slipway_deployment_list **ret_list,
                            struct slipway_error **ret_error);
int client_read_task(struct client_answer *answer, struct slipway_task **ret_task, struct slipway_error **ret_error);
int client_read_tasks(struct client_answer *answer, struct slipway_task_list **ret_list,
                      struct slipway_error **ret_error);

/* client_answer_collections.c */
int client_read_collection(struct client_answer *answer, struct slipway_collection **ret_collection,
                           struct slipway_error **ret_error);
int client_read_collections(struct client_answer *answer, struct slipway_collection_list **ret_list,
                            struct slipway_error **ret_error);
int client_read_indexes(struct client_answer *answer, struct slipway_index_list **ret_list,
                        struct slipway_error **ret_error);
int client_read_document(struct client_answer *answer, struct slipway_document **ret_document,
                         struct slipway_error **ret_error);
int client_read_write(struct client_answer *answer, struct slipway_write *ret_write, struct slipway_error **ret_error);
/* Adds to *bulk what an answer says; its lines come after the `lines_before` of earlier ones. */
int client_read_bulk(struct client_answer *answer, uint64_t lines_before, struct slipway_bulk *bulk,
                     struct slipway_error **ret_error);
int client_read_hits(struct client_answer *answer, struct slipway_hits **ret_hits, struct slipway_error **ret_error);
int client_read_failed_items(struct client_answer *answer, struct slipway_failed_item_list **ret_list,
                             struct slipway_error **ret_error);

/* client_documents.c: "/v1/collections/<collection>/documents[/<id>][?wait=indexed]"; caller frees. */
char *client_documents_path(const char *collection, const char *id, bool wait_indexed);
