/* The control API over HTTP: what the handler files share.
 *
 * A handler runs on libuv's pool with the request taken apart and answers by filling the call; the loop thread then
 * sends it. A handler that must wait for a change returns API_WAIT: it is run again when something changed, and for the
 * last time (call->wait_is_over) at its deadline.
 */
#pragma once
#include "controller/controller-internal.h"
#include "controller/operation.h"
#include "controller/render.h"
#include "http/http_server.h"

#define API_SEGMENTS_MAXIMUM 8
#define API_WAIT 1

enum api_parameter {
    API_LIMIT,
    API_OFFSET,
    API_STATUS,
    API_KIND,
    API_PARENT_ID,
    API_DEPLOYMENT_ID,
    API_COLLECTION,
    API_TASK_ID,
    API_TIMEOUT,
    API_FOLLOW,
    API_AFTER,
    API_PARAMETER_COUNT
};

struct process_list;

struct api_call {
    struct controller *controller;
    struct http_request *request; /* loop thread only */
    int (*handler)(struct api_call *call, struct error **ret_error);
    const char *arguments[2]; /* what the pattern's {…} took, in their order */
    const char *parameters[API_PARAMETER_COUNT]; /* decoded query parameters or NULL */
    const char *idempotency_key; /* or NULL */
    const char *body;
    size_t body_size;

    uint64_t wait_deadline_ms; /* clock_monotonic_ms(); set by the handler that waits */
    bool wait_is_over;
    uint64_t seen_change; /* api.c: the change it has looked at */

    int status; /* the answer */
    char *answer;
    size_t answer_size;
    const char *content_type; /* NULL: application/json */
    int64_t total_count; /* X-Total-Count; -1: none */
    bool changed; /* it wrote: the engine and those who wait are told */
    struct error *error;
    struct process_list *processes; /* api_processes.c */
    uint64_t question; /* api_upgrade.c, as `told`: the supervisor's answer, owned */
    char *told;
    struct follow *follow; /* follow.h; NULL: an answer that ends */
    bool is_following; /* its answer has begun; loop thread only */
    struct upload *upload; /* upload.h; NULL: its body came whole */
    struct download *download; /* upload.h; NULL: its answer is in memory */
    bool is_downloading; /* its answer has begun; loop thread only */
    struct api_call *next; /* in the list of those that wait */
    uv_work_t work;
};

/* CONFIGURATION error when a parameter other than those (a mask of 1 << enum api_parameter) was given. */
int api_check_parameters(const struct api_call *call, unsigned allowed, struct error **ret_error);
/* limit (1 to 1000, default 100) and offset (default 0). */
int api_page(const struct api_call *call, int64_t *ret_limit, int64_t *ret_offset, struct error **ret_error);
/* timeout in seconds (0 to 600, default 60) as a deadline in call->wait_deadline_ms, once. */
int api_wait_deadline(struct api_call *call, struct error **ret_error);
/* Finishes the call with a document whose root is `root`. */
void api_answer(struct api_call *call, int status, yyjson_mut_doc *document, yyjson_mut_val *root);

/* Finishes the call with that task (api_tasks.c). */
int api_answer_task(struct api_call *call, struct store_transaction *tx, const char *id, int status,
                    struct error **ret_error);

#define ROUTE_OWN(name)
#define ROUTE_HEALTH(name)
#define ROUTE_DATA(name)
#define ROUTE_DOCUMENT(name)
#define ROUTE_CONTROL(name) int api_##name(struct api_call *call, struct error **ret_error);
#define ROUTE(method, pattern, handler, role, name, summary) ROUTE_##handler(name)
#include "http/routes.def"
#undef ROUTE
#undef ROUTE_OWN
#undef ROUTE_HEALTH
#undef ROUTE_DATA
#undef ROUTE_DOCUMENT
#undef ROUTE_CONTROL
int api_metrics(struct api_call *call, struct error **ret_error);
