/* What the gateway's files share: the gateway, and one request's way through it.
 *
 * Everything here is the loop thread's, but for what gateway_reader.c hands to a worker and takes back.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "base/settings.h"
#include "gateway/gateway_access_log-internal.h"
#include "gateway/gateway_collections-internal.h"
#include "gateway/gateway_dispatch-internal.h"
#include "gateway/gateway_queue-internal.h"
#include "gateway/gateway_replicas-internal.h"
#include "gateway/gateway_routes-internal.h"
#include "gateway/gateway_tokens-internal.h"
#include "gateway/gateway_trace-internal.h"
#include "http/http_client.h"
#include "http/http_server.h"
#include "wire/wire.h"

struct gateway_reader;

struct gateway_config {
    uv_loop_t *loop;
    const struct settings *settings; /* borrowed, like the loop */
    int supervisor; /* the channel; taken */
    int listener; /* the listening socket; taken */
    int control; /* the listening control socket; taken; -1: none */
    /* Called once, when everything is over and all handles are closing: 0 drained, 1 lost its supervisor or failed. */
    void (*on_end)(void *context, int exit_status);
    void *context;
};

enum gateway_phase {
    GATEWAY_STARTING, /* hears who is up, reads the routes; does not accept yet (R3) */
    GATEWAY_SERVING,
    GATEWAY_DRAINING,
    GATEWAY_ENDED,
};

/* gateway_hold.c */
struct gateway_hold {
    bool is_on; /* the controller is being replaced */
    bool has_said; /* control_held */
    size_t changing; /* requests that change something, and are with the controller */
    struct gateway_queue waiting; /* struct exchange's `waiting` */
    uv_timer_t timer;
};

struct gateway_handover;

/* gateway_openapi.c: made when it is first asked for. */
struct gateway_description {
    char *json; /* NULL: not made yet */
    size_t size;
    char etag[35];
};

struct gateway {
    struct gateway_config config;
    const struct settings *settings;
    enum gateway_phase phase;

    struct wire_channel *supervisor;
    uv_poll_t supervisor_poll;
    uv_timer_t deadline_timer, suspect_timer, drain_timer, lost_timer;

    struct http_server *server;
    struct gateway_dispatch *dispatch;
    struct digest *digest; /* of the tokens that requests bring */
    struct gateway_routes routes;
    struct gateway_replicas replicas;
    struct gateway_collections collections;
    struct gateway_reader *reader;
    struct http_pool *controller; /* control requests: long answers */
    struct http_pool *controller_probe; /* readyz, metrics: short ones */

    struct gateway_hold hold;
    struct gateway_handover *handover, *adoption; /* to a successor, from a predecessor; or NULL */
    struct exchange *endless; /* answers that follow something (gateway_control.c) */
    struct gateway_queue deadlines; /* struct exchange's `deadline`; all have the same span */
    struct gateway_access_log *access_log;
    struct gateway_tracer *tracer;
    struct gateway_code_count kinds[GATEWAY_KINDS][GATEWAY_CODES]; /* answers by kind of route and status */

    char id_prefix[17]; /* of request ids that are made here */
    uint64_t id_count;
    struct gateway_description description;
    struct http_header *headers; /* scratch, refilled for each request and answer */
    size_t header_capacity;
    struct exchange *spare; /* finished ones for the next requests, linked by `next_spare` */
    size_t spare_count, exchange_count;
};

/* ---- the gateway (gateway.c) --------------------------------------------- */

/* Says hello to the supervisor; goes on by itself on the loop. */
struct gateway *gateway_new(const struct gateway_config *config);
/* Stop accepting, finish what runs, then on_end. Called again: nothing. */
void gateway_drain(struct gateway *gateway);
/* The part of it that does not touch the server. */
void gateway_begin_draining(struct gateway *gateway);
/* Whether requests are answered as ever: also while the last of them drain from one that has handed over. */
bool gateway_is_serving(const struct gateway *gateway);
/* Breaks everything off and calls on_end. */
void gateway_end(struct gateway *gateway, int exit_status);
/* After on_end and once the loop has closed its handles. */
void gateway_free(struct gateway *gateway);
/* Who is up was heard, and routes were read: accepts. Called again: nothing. */
void gateway_start_serving(struct gateway *gateway);

/* ---- the doors (gateway_door.c) -------------------------------------------- */

/* Reads the certificate where TLS is asked for, then accepts on both sockets. Blocking. */
int gateway_open_doors(struct gateway *gateway, struct error **ret_error);
/* Closes those that were not opened. */
void gateway_close_doors(struct gateway *gateway);

/* ---- the supervisor's channel (gateway_supervisor.c) ---------------------- */

void gateway_supervisor_open(struct gateway *gateway);
void gateway_supervisor_close(struct gateway *gateway);
void gateway_tell_routes_used(void *gateway, uint64_t generation, uint64_t lowest);
void gateway_tell_log_appended(struct gateway *gateway, const char *collection_id, enum collection_set set,
                               uint64_t head);
void gateway_tell_pair_used(struct gateway *gateway, const char *collection_id, uint64_t epoch, uint64_t lowest);
void gateway_tell_ready(struct gateway *gateway);
void gateway_tell_failed(struct gateway *gateway, const char *message);
void gateway_tell_control_held(struct gateway *gateway);

/* ---- reading the control database (gateway_reader.c) ---------------------- */

struct gateway_reader *gateway_reader_new(struct gateway *gateway);
/* Reads until it has at least this generation; then installs it. */
void gateway_reader_want(struct gateway_reader *reader, uint64_t generation);
/* Finds out why a name has no route and answers, or goes on with the request when by then it has one. */
void gateway_reader_explain(struct gateway_reader *reader, struct exchange *exchange);
/* Reads the routes anew for a collection's name that those in force do not have, then gateway_collection_admit_found().
 */
void gateway_reader_find_collection(struct gateway_reader *reader, struct exchange *exchange);
/* Finds all names of the deployment that exchange->model names, then gateway_limits_names_found(). */
void gateway_reader_find_names(struct gateway_reader *reader, struct exchange *exchange);
/* The exchange ends: what was asked for it is not needed. */
void gateway_reader_forget(struct exchange *exchange);
/* Ends it; frees itself when its worker has come back. */
void gateway_reader_close(struct gateway_reader *reader);

/* ---- one request (gateway_exchange.c) ------------------------------------- */

/* STEP(constant, what is being done, the steps that may follow) */
#define EXCHANGE_STEPS                                                                                                 \
    STEP(HEAD, "the head is there", BIT(BODY) | BIT(LOOKUP) | BIT(WAITING) | BIT(WORKING) | BIT(QUEUED) | BIT(SENT))   \
    STEP(BODY, "the body is taken", BIT(LOOKUP) | BIT(WAITING) | BIT(WORKING) | BIT(QUEUED) | BIT(SENT))               \
    STEP(LOOKUP, "a name without a route is looked up",                                                                \
         BIT(BODY) | BIT(WAITING) | BIT(WORKING) | BIT(QUEUED) | BIT(SENT))                                            \
    STEP(WAITING, "it waits for its collection, its turn to write, or the index",                                      \
         BIT(BODY) | BIT(LOOKUP) | BIT(WAITING) | BIT(WORKING) | BIT(QUEUED) | BIT(SENT))                              \
    STEP(WORKING, "a worker has it",                                                                                   \
         BIT(BODY) | BIT(LOOKUP) | BIT(WAITING) | BIT(QUEUED) | BIT(SENT) | BIT(ANSWERING))                            \
    STEP(QUEUED, "it waits for a replica", BIT(SENT))                                                                  \
    STEP(SENT, "the answer has not begun", BIT(QUEUED) | BIT(ANSWERING))                                               \
    STEP(ANSWERING, "the answer comes", BIT(QUEUED) | BIT(LOOKUP) | BIT(WAITING) | BIT(WORKING))                       \
    STEP(ENDED, "answered; any step may come before", 0)
enum exchange_step {
#define STEP(constant, words, next) EXCHANGE_##constant,
    EXCHANGE_STEPS
#undef STEP
};

#define GATEWAY_REQUEST_ID_MAXIMUM 128
#define GATEWAY_NAME_MAXIMUM 128
/* An answer of known length up to this is taken whole and written at once; until then its request can be sent again. */
#define GATEWAY_ANSWER_WHOLE_MAXIMUM (64u * 1024)

/* What a request that takes its body in pieces does with them. */
struct exchange_stream {
    void (*begins)(struct exchange *exchange); /* the head has been dealt with */
    void (*piece)(struct exchange *exchange, const char *bytes, size_t size);
    void (*end)(struct exchange *exchange);
};

struct exchange {
    struct gateway *gateway;
    struct http_request *request;
    struct gateway_match match;
    enum exchange_step step;
    char request_id[GATEWAY_REQUEST_ID_MAXIMUM + 1];
    struct gateway_trace *trace; /* NULL: it is not traced */

    /* who asks: */
    struct gateway_tokens *tokens; /* counted; `token` is in it */
    const struct gateway_token *token; /* NULL: whoever may everything */
    const char *token_name; /* for the access log; NULL: nobody is asked for one */
    bool token_was_wrong; /* one was brought, and is not valid */
    uint64_t retry_after_s; /* for an answer that says when to come again; 0: in a second */

    /* data: */
    char model[GATEWAY_NAME_MAXIMUM + 1]; /* the name it asked for */
    bool revision_named; /* by /versions/{n} */
    uint64_t revision;
    struct gateway_snapshot *snapshot; /* held from admission to the end (R1) */
    struct gateway_route *route; /* in it */
    struct gateway_queue_entry waiting, deadline;
    uint64_t deadline_ms, queued_us; /* queued_us: since when it waits for a replica; 0: not yet */
    struct gateway_incarnation *incarnation; /* while it works on it */
    bool retried;
    bool never_waits; /* asks whether it could be served now */
    struct gateway_lookup *lookup;
    /* Sends it to the replica that was picked; NULL: as it came, and the answer goes to the client. */
    void (*send)(struct exchange *exchange, struct http_pool *pool, const char *host,
                 void (*when_failed)(struct exchange *exchange, const struct http_failure *failure));

    /* documents and searches: */
    char collection_name[GATEWAY_NAME_MAXIMUM + 1];
    struct gateway_collection *collection; /* counted */
    struct gateway_pair *pair; /* counted; the one it began with (X1) */
    struct gateway_series *figures; /* of the collection, or NULL */
    uint64_t indexed_seq; /* what it waits for */
    void (*when_open)(struct exchange *exchange); /* when its collection is */
    void (*when_indexed)(struct exchange *exchange);
    void (*when_writable)(struct exchange *exchange); /* it streams its answer; NULL: a relayed one */
    struct gateway_work work;
    void *part; /* what its route keeps of it; freed by free_part */
    void (*free_part)(void *part);

    /* the body: */
    struct buffer body; /* what a streamed one has brought so far, at most retry_body_maximum and a piece */
    void (*when_body_whole)(struct exchange *exchange); /* when it is taken whole */
    void (*when_judged)(struct exchange *exchange); /* when what it names is found to be in its token's limits */
    const struct exchange_stream *stream; /* of a streamed one */
    bool body_is_streamed, body_has_ended;
    bool is_with_worker; /* which reads its body or its part: the request must not end yet */
    bool body_is_lost; /* pieces went on that were not kept: it cannot be sent again */

    /* the answer: */
    void (*when_failed)(struct exchange *exchange, const struct http_failure *failure);
    void (*when_released)(struct exchange *exchange); /* when it no longer waits for another controller */
    const char *fetch_target;
    bool is_changing; /* counted in gateway->hold */
    void (*when_fetched)(struct exchange *exchange, int status, const char *body, size_t size); /* own routes */
    struct http_call *call;
    int status;
    int refused_with; /* the status with which the server refused the body itself; 0: it did not */
    bool answer_is_kept; /* collected in `answer` */
    struct buffer answer_head, answer;
    size_t answer_header_count;
    uint64_t answer_bytes; /* of the body */
    struct buffer forwarded_for;
    struct exchange *next_endless, **endless_at; /* in gateway->endless */
    struct exchange *next_spare;
};

/* The server's handler; its context is the gateway. */
extern const struct http_handler gateway_http_handler;
/* The only place that changes a step. */
void exchange_set_step(struct exchange *exchange, enum exchange_step step);
/* These answer and end: afterwards neither exchange nor request may be touched. Headers and bodies are copied. */
void exchange_respond(struct exchange *exchange, int status, const char *content_type, const char *body, size_t size);
void exchange_respond_with(struct exchange *exchange, int status, const struct http_header *headers, size_t count,
                           const char *body, size_t size);
/* The same with a body of its own (malloc), which it takes. */
void exchange_respond_owned(struct exchange *exchange, int status, const char *content_type, char *body, size_t size);
/* A streamed answer has ended, or broken off. */
void exchange_end(struct exchange *exchange);
void exchange_break(struct exchange *exchange);
/* gateway->headers with room for `count`. */
struct http_header *gateway_scratch_headers(struct gateway *gateway, size_t count);
void gateway_free_spare_exchanges(struct gateway *gateway);

/* ---- errors in each family's shape (gateway_errors.c) --------------------- */

/* The body in the shape of the family that the path belongs to; the caller frees. */
char *gateway_write_error(const char *path, const struct error *error, const char **ret_content_type, size_t *ret_size);
/* The name of that shape in openapi_schemas.def. */
const char *gateway_error_schema(const char *path);
/* Answers with the error, in the shape of the family that the path belongs to, and ends the exchange. Takes it. */
void exchange_fail(struct exchange *exchange, struct error *error);
void exchange_fail_with(struct exchange *exchange, enum error_class class, int status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* As problem+json with more members. */
void exchange_fail_with_members(struct exchange *exchange, struct error *error,
                                void (*add)(yyjson_mut_doc *document, yyjson_mut_val *root, const void *context),
                                const void *context);
/* 404, or 405 with Allow. */
enum http_body_mode gateway_serve_nothing(struct exchange *exchange);

/* ---- authentication (gateway_auth.c) -------------------------------------- */

/* Finds out who asks, and whether who asks may use the route that was found (NULL: none was). False: answered, with
 * 401, 403, 429, or 503 while it is not known yet which tokens there are. */
bool gateway_authorise(struct exchange *exchange);

/* ---- what a limited token may use (gateway_limits.c) ------------------------ */

/* For a limited token: judges what can be told by the head alone. False: answered (403). */
bool gateway_limits_judge_head(struct exchange *exchange);
/* A control request whose body is there: judges what its path and body name, then go_on(), or answers. */
void gateway_limits_judge_control(struct exchange *exchange, void (*go_on)(struct exchange *exchange));
/* What gateway_reader_find_names() found: names, each with its NUL, or an error. */
void gateway_limits_names_found(struct exchange *exchange, const struct buffer *names, const struct error *error);
/* Whether a token (NULL: anybody) may use the deployment that answers to the name. */
bool gateway_limits_allow(const struct gateway_token *token, const struct gateway_snapshot *snapshot, const char *name);
/* 403: outside of the token's limits. What the names stand for, or whether for anything, changes nothing. */
void gateway_limits_refuse(struct exchange *exchange, const char *kind, const char *name);
/* What a control request with a limited token may carry: it is looked through here, on the loop. */
#define GATEWAY_LIMITED_BODY_MAXIMUM (256u * 1024)

/* ---- request ids and headers (gateway_headers.c) -------------------------- */

bool gateway_is_request_id(const char *text);
/* The client's if it is well-formed, else a new one. */
void gateway_set_request_id(struct exchange *exchange);
/* The request's headers as they go upstream, in gateway->headers: without those of the hop and Authorization, with
 * X-Forwarded-For and X-Request-Id. Valid until the next use of the scratch. */
size_t gateway_headers_upstream(struct exchange *exchange);
/* The answer's headers as they go to the client, in gateway->headers. */
size_t gateway_headers_downstream(struct exchange *exchange, const struct http_answer *answer);

/* ---- answers that come from elsewhere (gateway_relay.c) ------------------- */

/* Sends the request on; the answer goes to the client by itself, streamed with back-pressure. `when_failed` is called
 * instead of the answer's end, with exchange->call gone already. */
void gateway_relay(struct exchange *exchange, struct http_pool *pool, const char *host,
                   void (*when_failed)(struct exchange *exchange, const struct http_failure *failure));
/* The client has room again. */
void gateway_relay_client_writable(struct exchange *exchange);

/* ---- data requests (gateway_proxy.c) -------------------------------------- */

/* The model's name is known (exchange->model) and the body is there or streams: find its route and queue. */
void gateway_proxy_admit(struct exchange *exchange);
/* Takes the body, if there is one, whole or streamed as its size asks, then admits. */
enum http_body_mode gateway_proxy_take_body(struct exchange *exchange);
/* The replica has done what it was asked for, though the exchange goes on: gives it back. */
void gateway_proxy_release_replica(struct exchange *exchange);
/* Gives back what it holds of queue, replica and routes: part of every end. */
void gateway_proxy_leave(struct exchange *exchange);
/* Sends what waits, as far as there is room. */
void gateway_proxy_drain_all(struct gateway *gateway);
/* New routes: whoever still waits takes them. */
void gateway_proxy_reroute_waiting(struct gateway *gateway);
void gateway_proxy_on_deadline(uv_timer_t *timer);
void gateway_proxy_on_suspect(uv_timer_t *timer);

/* ---- names in paths (gateway_v2.c) ----------------------------------------- */

/* A percent-encoded segment as a name; false when it cannot be one. */
bool gateway_read_name(const struct gateway_slice *segment, char ret_name[GATEWAY_NAME_MAXIMUM + 1]);

/* ---- documents (gateway_documents.c, and what it is divided into) ----------- */

/* Reads the collection's name and, when `document` is given, the document's id from the path; false: answered (404). */
bool gateway_documents_begin(struct exchange *exchange, char **ret_document_id);
/* The exchange's work on a worker of the group; it does not end until `done`. */
void gateway_documents_work(struct exchange *exchange, struct gateway_workers *workers,
                            void (*run)(struct gateway_work *work), void (*done)(struct gateway_work *work));
/* What a request may carry that needs no body. */
#define GATEWAY_NO_BODY_MAXIMUM 65536
/* Goes on when the body is there, also when there is none: not before may a worker have the request. */
enum http_body_mode gateway_documents_take_body(struct exchange *exchange, size_t maximum,
                                                void (*when_whole)(struct exchange *exchange));
/* False: answered (400), for another query parameter than `known` (NULL: none is) stands in the target. */
bool gateway_documents_check_parameters(struct exchange *exchange, const char *known);
/* Query parameters: wait=indexed or none. False: answered (400). */
bool gateway_documents_take_options(struct exchange *exchange, bool *ret_waits_indexed);
/* Errors of a collection's log as clients see them: takes `error`; a broken one is unavailable, not a fault of theirs.
 */
void gateway_documents_fail(struct exchange *exchange, struct error *error);
/* {"id","text","payload","seq","updated_at"}; caller frees. */
char *gateway_documents_write_row(const struct collection_row *row, size_t *ret_size);

/* ---- OpenAI's routes (gateway_openai.c) ----------------------------------- */

/* The text of the top-level member "model" of a JSON object, unescaped; false when there is none that is a name. Reads
 * the text once and judges nothing else: the replica does. */
bool gateway_find_model(const char *json, size_t size, char ret_model[GATEWAY_NAME_MAXIMUM + 1]);

/* ---- the controller (gateway_control.c) ------------------------------------ */

/* Breaks off the answers that would never end by themselves. */
void gateway_control_cut_endless(struct gateway *gateway);
/* Part of every end. */
void gateway_control_leave(struct exchange *exchange);
/* Asks the controller over the probe's pool and answers in `done`; body NULL: no answer
 * (down, slow, or above the ceiling of a body that is kept). */
void gateway_fetch(struct exchange *exchange, const char *target,
                   void (*done)(struct exchange *exchange, int status, const char *body, size_t size));

/* ---- a controller that is replaced (gateway_hold.c) ------------------------ */

void gateway_hold_set(struct gateway *gateway, bool is_on);
/* True: it waits, and goes on later, in any case. */
bool gateway_hold_wait(struct exchange *exchange, void (*go_on)(struct exchange *exchange));
/* It is about to be sent to the controller. */
void gateway_hold_sending(struct exchange *exchange);
/* The controller is gone without an answer: whether to ask the next one. */
bool gateway_hold_may_repeat(const struct exchange *exchange, bool was_sent);
/* Part of every end. */
void gateway_hold_leave(struct exchange *exchange);

/* ---- another gateway (gateway_handover.c) ----------------------------------- */

/* Take the descriptor. To a successor: gives it every connection as soon as that is idle, drains, ends. From a
 * predecessor: goes on with its connections. */
void gateway_hand_over(struct gateway *gateway, int descriptor);
void gateway_adopt(struct gateway *gateway, int descriptor);
void gateway_handover_close(struct gateway *gateway);
void gateway_handover_free(struct gateway *gateway);

/* ---- figures (gateway_exposition.c) ---------------------------------------- */

void gateway_count_answer(struct exchange *exchange, uint64_t duration_us);

/* ---- the handlers that http/routes.def names ------------------------------ */

#define SERVES_HEALTH(name) enum http_body_mode gateway_serve_##name(struct exchange *exchange);
#define SERVES_OWN(name) enum http_body_mode gateway_serve_##name(struct exchange *exchange);
#define SERVES_DATA(name) enum http_body_mode gateway_serve_##name(struct exchange *exchange);
#define SERVES_DOCUMENT(name) enum http_body_mode gateway_serve_##name(struct exchange *exchange);
#define SERVES_CONTROL(name)
#define ROUTE(method, pattern, kind, role, name, summary) SERVES_##kind(name)
#include "http/routes.def"
#undef ROUTE
#undef SERVES_HEALTH
#undef SERVES_OWN
#undef SERVES_DATA
#undef SERVES_DOCUMENT
#undef SERVES_CONTROL
enum http_body_mode gateway_serve_control(struct exchange *exchange);
