/* Sends a request on and its answer back. A short answer of known length is kept until it is whole and written at once:
 * one write instead of three, and its request can go to another replica until then. Longer ones stream, and whichever
 * side is slower sets the pace. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

/* Headers as "name NUL value NUL": they live past the call's callback. */
static bool keep_headers(struct exchange *exchange, const struct http_header *headers, size_t count) {
    struct buffer *kept = &exchange->answer_head;
    kept->size = 0;
    exchange->answer_header_count = count;
    for (size_t i = 0; i < count; i++) {
        if (!buffer_append(kept, headers[i].name, strlen(headers[i].name) + 1)) return false;
        if (!buffer_append(kept, headers[i].value, strlen(headers[i].value) + 1)) return false;
    }
    return true;
}

static void respond_kept(struct exchange *exchange) {
    struct http_header *headers = gateway_scratch_headers(exchange->gateway, exchange->answer_header_count);
    const char *at = exchange->answer_head.bytes;
    for (size_t i = 0; i < exchange->answer_header_count; i++) {
        headers[i].name = at;
        at += strlen(at) + 1;
        headers[i].value = at;
        at += strlen(at) + 1;
    }
    exchange_respond_with(exchange, exchange->status, headers, exchange->answer_header_count, exchange->answer.bytes,
                          exchange->answer.size);
}

static void count_batch(struct exchange *exchange, const struct http_answer *answer) {
    if (!exchange->route) return;
    const char *batch = http_find_header(answer->headers, answer->header_count, "X-Slipway-Batch");
    uint64_t size;
    if (batch && text_parse_number(batch, 1000000, &size))
        gateway_series_count_batch(&exchange->route->lane->series, size);
}

static void on_head(struct http_call *call, const struct http_answer *answer, void *context) {
    (void)call;
    struct exchange *exchange = context;
    gateway_queue_remove(&exchange->deadline); /* it has begun to answer in time */
    exchange_set_step(exchange, EXCHANGE_ANSWERING);
    exchange->status = answer->status;
    count_batch(exchange, answer);
    gateway_trace_answered(exchange, answer);
    size_t count = gateway_headers_downstream(exchange, answer);
    exchange->answer.size = 0;
    exchange->answer_is_kept = answer->content_length >= 0 && answer->content_length <= GATEWAY_ANSWER_WHOLE_MAXIMUM &&
                               keep_headers(exchange, exchange->gateway->headers, count);
    if (!exchange->answer_is_kept)
        http_begin(exchange->request, answer->status, exchange->gateway->headers, count, answer->content_length);
    if (!exchange->answer_is_kept && !strcmp(exchange->request->method, "HEAD"))
        exchange_end(exchange); /* its body, which nobody asked for, may have no end */
}

static void on_body(struct http_call *call, const char *bytes, size_t size, void *context) {
    struct exchange *exchange = context;
    if (exchange->answer_is_kept) {
        buffer_append(&exchange->answer, bytes, size); /* at most content_length: the client side sees to that */
        return;
    }
    exchange->answer_bytes += size;
    if (!http_send(exchange->request, bytes, size)) http_call_pause(call);
}

static void on_end(struct http_call *call, void *context) {
    (void)call;
    struct exchange *exchange = context;
    exchange->call = NULL;
    if (exchange->answer_is_kept)
        respond_kept(exchange);
    else
        exchange_end(exchange);
}

static void on_failed(struct http_call *call, const struct http_failure *failure, void *context) {
    (void)call;
    struct exchange *exchange = context;
    exchange->call = NULL;
    exchange->when_failed(exchange, failure);
}

/* The replica takes more of a streamed body again. */
static void on_writable(struct http_call *call, void *context) {
    (void)call;
    struct exchange *exchange = context;
    if (exchange->body_is_streamed && !exchange->body_has_ended) http_resume_body(exchange->request);
}

static const struct http_call_handler relay_handler = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_failed = on_failed,
    .on_writable = on_writable,
};

void gateway_relay(struct exchange *exchange, struct http_pool *pool, const char *host,
                   void (*when_failed)(struct exchange *exchange, const struct http_failure *failure)) {
    const struct http_request *request = exchange->request;
    size_t header_count = gateway_headers_upstream(exchange);
    struct http_call_request upstream = {
        .method = strcmp(request->method, "HEAD") ? request->method : "GET", /* the server leaves the body out */
        .target = request->target,
        .host = host,
        .headers = exchange->gateway->headers,
        .header_count = header_count,
        .content_length = request->content_length,
        .has_body = request->has_body,
    };
    if (request->has_body && !exchange->body_is_streamed) {
        upstream.body = request->body;
        upstream.body_size = request->body_size;
    } else if (request->has_body && exchange->body_has_ended && !exchange->body_is_lost) {
        upstream.body = exchange->body.size ? exchange->body.bytes : "";
        upstream.body_size = exchange->body.size;
    }
    exchange->when_failed = when_failed;
    exchange_set_step(exchange, EXCHANGE_SENT);
    exchange->call = http_call(pool, &upstream, &relay_handler, exchange);
}

void gateway_relay_client_writable(struct exchange *exchange) {
    if (exchange->call) http_call_resume(exchange->call);
}
