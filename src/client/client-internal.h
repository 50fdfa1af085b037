/* What libslipway's files share.
 *
 * client.c sends (libcurl); client_error.c makes errors; client_request.c turns requests into JSON; client_answer.c
 * turns JSON into the public structs; client_deployments.c, client_tasks.c and client_data.c are the calls. Every
 * public struct is the first member of an owner that keeps the parsed answer, so that its strings are borrowed and one
 * free suffices.
 */
#pragma once
#include <curl/curl.h>

#include "base/buffer.h"
#include "base/json.h"
#include "slipway.h"

struct slipway {
    char *url; /* without a trailing slash */
    char *token; /* or NULL */
    CURL *curl; /* keeps the connection between calls */
    uint32_t timeout_ms;
};

struct client_request {
    const char *method, *path; /* path begins with "/"; already percent-encoded */
    const char *body; /* NULL: none */
    size_t body_size;
    const char *idempotency_key;
    uint32_t timeout_ms; /* 0: the service's */
};

struct client_answer {
    struct buffer body;
    long http_status;
    uint64_t total_count;
    uint32_t retry_after_ms;
    bool is_problem; /* application/problem+json */
};

/* Sends and reads the answer. An answer of 400 and above becomes the error it stands for. */
int client_send(struct slipway *service, const struct client_request *request, struct client_answer *ret_answer,
                struct slipway_error **ret_error);
void client_answer_clear(struct client_answer *answer);
#define _cleanup_answer_ __attribute__((cleanup(client_answer_clear)))

/* client_error.c */
int client_error(struct slipway_error **ret_error, enum slipway_error_class error_class, int http_status,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
int client_error_from_answer(const struct client_answer *answer, struct slipway_error **ret_error);
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

/* client_answer.c: they take the answer's body. */
int client_read_deployment(struct client_answer *answer, struct slipway_deployment **ret_deployment,
                           struct slipway_error **ret_error);
int client_read_deployments(struct client_answer *answer, struct slipway_deployment_list **ret_list,
                            struct slipway_error **ret_error);
int client_read_task(struct client_answer *answer, struct slipway_task **ret_task, struct slipway_error **ret_error);
int client_read_tasks(struct client_answer *answer, struct slipway_task_list **ret_list,
                      struct slipway_error **ret_error);
