/* One request from its head to its end: the server's handler, the steps, and the ways to answer. What an exchange holds
 * elsewhere is given back here and nowhere else (let_go), whichever way it ends. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "gateway/gateway-internal.h"

#define SPARE_MAXIMUM 256 /* finished exchanges that are kept for the next requests */
#define SPARE_BUFFER_MAXIMUM (16u * 1024) /* what each of their buffers may keep */
#define STATUS_CLIENT_GONE 499 /* for log and figures: there was nobody to answer */

#define BIT(step) (1u << EXCHANGE_##step)
static const unsigned next_steps[] = {
#define STEP(constant, words, next) [EXCHANGE_##constant] = (next) | BIT(ENDED),
    EXCHANGE_STEPS
#undef STEP
};

void exchange_set_step(struct exchange *exchange, enum exchange_step step) {
    assert(next_steps[exchange->step] & (1u << step));
    exchange->step = step;
}

/* ---- beginning and end --------------------------------------------------- */

static struct exchange *new_exchange(struct gateway *gateway, struct http_request *request) {
    struct exchange *exchange = gateway->spare;
    if (exchange) {
        gateway->spare = exchange->next_spare;
        gateway->spare_count--;
        exchange->next_spare = NULL;
    } else {
        exchange = mem_new(struct exchange);
        exchange->body.maximum = gateway->settings->retry_body_maximum + 1024 * 1024;
        exchange->answer.maximum = GATEWAY_ANSWER_WHOLE_MAXIMUM;
    }
    gateway->exchange_count++;
    exchange->gateway = gateway;
    exchange->request = request;
    exchange->step = EXCHANGE_HEAD;
    request->context = exchange;
    gateway_set_request_id(exchange);
    return exchange;
}

static struct buffer emptied(struct buffer *buffer) {
    if (buffer->capacity > SPARE_BUFFER_MAXIMUM) buffer_clear(buffer);
    buffer->size = 0;
    return *buffer;
}

static void free_exchange(struct exchange *exchange) {
    buffer_clear(&exchange->body);
    buffer_clear(&exchange->answer_head);
    buffer_clear(&exchange->answer);
    buffer_clear(&exchange->forwarded_for);
    free(exchange);
}

static void recycle(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    gateway->exchange_count--;
    if (gateway->spare_count == SPARE_MAXIMUM) {
        free_exchange(exchange);
        return;
    }
    *exchange = (struct exchange){.body = emptied(&exchange->body),
                                  .answer_head = emptied(&exchange->answer_head),
                                  .answer = emptied(&exchange->answer),
                                  .forwarded_for = emptied(&exchange->forwarded_for),
                                  .next_spare = gateway->spare};
    gateway->spare = exchange;
    gateway->spare_count++;
}

void gateway_free_spare_exchanges(struct gateway *gateway) {
    while (gateway->spare) {
        struct exchange *exchange = gateway->spare;
        gateway->spare = exchange->next_spare;
        free_exchange(exchange);
    }
    gateway->spare_count = 0;
}

static void write_log(struct exchange *exchange, uint64_t duration_us) {
    const struct gateway_route *route = exchange->route;
    const struct gateway_incarnation *incarnation = exchange->incarnation;
    char trace_id[33];
    gateway_access_log_add(exchange->gateway->access_log,
                           &(struct gateway_access){
                               .method = exchange->request->method,
                               .path = exchange->request->path,
                               .status = exchange->status,
                               .bytes = exchange->answer_bytes,
                               .duration_us = duration_us,
                               .request_id = exchange->request_id,
                               .token = exchange->token_name,
                               .collection = exchange->collection ? exchange->collection_name : NULL,
                               .deployment = route ? route->name : NULL,
                               .revision = route ? route->revision : 0,
                               .replica = incarnation && incarnation->replica ? incarnation->replica->id : NULL,
                               .trace_id = gateway_trace_id(exchange, trace_id) ? trace_id : NULL,
                           });
}

/* Before the request is ended: log and figures read it. */
static void close_books(struct exchange *exchange, int status) {
    exchange_set_step(exchange, EXCHANGE_ENDED);
    exchange->status = status;
    uint64_t duration_us = clock_monotonic_us() - exchange->request->received_us;
    gateway_count_answer(exchange, duration_us);
    if (exchange->gateway->access_log) write_log(exchange, duration_us);
    gateway_trace_end(exchange, duration_us);
    if (exchange->call) http_call_cancel(TAKE(exchange->call)); /* it reads the request's body */
}

/* After it: what waits for the same replica may be sent from in here, with the scratch headers. */
static void let_go(struct exchange *exchange) {
    if (exchange->free_part) exchange->free_part(exchange->part);
    gateway_control_leave(exchange);
    gateway_collection_leave(exchange);
    gateway_proxy_leave(exchange);
    gateway_tokens_release(exchange->tokens);
    recycle(exchange);
}

struct http_header *gateway_scratch_headers(struct gateway *gateway, size_t count) {
    if (count > gateway->header_capacity) {
        gateway->header_capacity = count + 32;
        gateway->headers = mem_resize(gateway->headers, gateway->header_capacity, sizeof(struct http_header));
    }
    return gateway->headers;
}

void exchange_respond_with(struct exchange *exchange, int status, const struct http_header *headers, size_t count,
                           const char *body, size_t size) {
    struct http_request *request = exchange->request;
    exchange->answer_bytes = size;
    close_books(exchange, status);
    http_respond(request, status, headers, count, body, size, NULL);
    let_go(exchange);
}

void exchange_respond(struct exchange *exchange, int status, const char *content_type, const char *body, size_t size) {
    const struct http_header headers[] = {{"Content-Type", content_type}, {"X-Request-Id", exchange->request_id}};
    exchange_respond_with(exchange, status, headers, ARRAY_SIZE(headers), body, size);
}

void exchange_respond_owned(struct exchange *exchange, int status, const char *content_type, char *body, size_t size) {
    struct http_request *request = exchange->request;
    const struct http_header headers[] = {{"Content-Type", content_type}, {"X-Request-Id", exchange->request_id}};
    exchange->answer_bytes = size;
    close_books(exchange, status);
    http_respond(request, status, headers, ARRAY_SIZE(headers), body, size, free);
    let_go(exchange);
}

void exchange_end(struct exchange *exchange) {
    struct http_request *request = exchange->request;
    close_books(exchange, exchange->status);
    http_end(request);
    let_go(exchange);
}

void exchange_break(struct exchange *exchange) {
    struct http_request *request = exchange->request;
    int gone = exchange->refused_with ? exchange->refused_with : STATUS_CLIENT_GONE;
    close_books(exchange, http_is_gone(request) ? gone : exchange->status);
    http_break(request);
    let_go(exchange);
}

/* ---- the server's handler ------------------------------------------------ */

static enum http_body_mode on_head(struct http_request *request, void *context) {
    struct gateway *gateway = context;
    struct exchange *exchange = new_exchange(gateway, request);
    gateway_dispatch_find(gateway->dispatch, request->method, request->path, &exchange->match);
    gateway_trace_begin(exchange);
    if (!gateway_authorise(exchange)) return HTTP_BODY_WHOLE;
    const struct gateway_endpoint *endpoint = exchange->match.endpoint;
    return endpoint ? endpoint->serve(exchange) : gateway_serve_nothing(exchange);
}

static void on_request(struct http_request *request, void *context) {
    (void)context;
    struct exchange *exchange = request->context;
    if (exchange->step != EXCHANGE_BODY) return; /* it needs none and went on with the head */
    if (exchange->body_is_streamed)
        exchange->stream->begins(exchange);
    else
        exchange->when_body_whole(exchange);
}

static void on_body(struct http_request *request, const char *bytes, size_t size, void *context) {
    (void)context;
    struct exchange *exchange = request->context;
    exchange->stream->piece(exchange, bytes, size);
}

static void on_body_end(struct http_request *request, void *context) {
    (void)context;
    struct exchange *exchange = request->context;
    exchange->stream->end(exchange);
}

static void on_gone(struct http_request *request, void *context) {
    (void)context;
    struct exchange *exchange = request->context;
    if (!exchange->is_with_worker) exchange_break(exchange);
}

static void on_writable(struct http_request *request, void *context) {
    (void)context;
    struct exchange *exchange = request->context;
    if (exchange->when_writable)
        exchange->when_writable(exchange);
    else
        gateway_relay_client_writable(exchange);
}

static char *write_refusal(const struct http_request *request, const struct error *error, const char **ret_content_type,
                           size_t *ret_size, void *context) {
    (void)context;
    struct exchange *exchange = request->context;
    exchange->refused_with = error->http_status;
    return gateway_write_error(request->path, error, ret_content_type, ret_size);
}

const struct http_handler gateway_http_handler = {
    .on_head = on_head,
    .on_request = on_request,
    .on_body = on_body,
    .on_body_end = on_body_end,
    .on_gone = on_gone,
    .on_writable = on_writable,
    .write_refusal = write_refusal,
};
