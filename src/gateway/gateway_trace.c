/* What the loop notes of a traced request. No text is made here but the header; nothing is allocated. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

/* ---- texts ------------------------------------------------------------------ */

/* What is too long is cut off; NULL is "". */
static void keep_text(char *to, size_t room, const char *text) {
    size_t size = text ? strnlen(text, room - 1) : 0;
    if (size) memcpy(to, text, size);
    to[size] = 0;
}
#define KEEP(field, text) keep_text(field, sizeof(field), text)

/* "127.0.0.1:4711" without the port; "" for a unix socket. */
static void keep_peer(struct gateway_trace *trace, const char *peer) {
    const char *port = strrchr(peer, ':');
    bool is_bracketed = port && *peer == '[';
    size_t size = port ? (size_t)(port - peer) - 2 * is_bracketed : 0;
    if (size >= sizeof trace->peer) size = 0;
    memcpy(trace->peer, peer + is_bracketed, size);
    trace->peer[size] = 0;
}

/* Of several headers of that name only when they fit together (W3C Trace Context 3.3: one list, in order). */
static void keep_state(struct gateway_trace *trace, const struct http_request *request) {
    size_t size = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        if (!http_header_is(&request->headers[i], "Tracestate")) continue;
        size_t more = strlen(request->headers[i].value);
        if (size + more + 2 > sizeof trace->state) {
            size = 0;
            break;
        }
        if (size && more) trace->state[size++] = ',';
        memcpy(trace->state + size, request->headers[i].value, more);
        size += more;
    }
    trace->state[size] = 0;
}

/* ---- whose trace it is --------------------------------------------------------- */

static bool find_parent(const struct http_request *request, struct gateway_traceparent *ret_parent) {
    const char *found = NULL;
    for (size_t i = 0; i < request->header_count; i++) {
        if (!http_header_is(&request->headers[i], "Traceparent")) continue;
        if (found) return false; /* two: neither can be believed */
        found = request->headers[i].value;
    }
    return found && gateway_traceparent_parse(found, ret_parent);
}

/* Those who ask whether we are well ask all day long. */
static bool is_worth_it(const struct exchange *exchange) {
    const struct gateway_endpoint *endpoint = exchange->match.endpoint;
    return !endpoint || (endpoint->kind != GATEWAY_HEALTH && endpoint->serve != gateway_serve_metrics);
}

static int64_t wall_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void write_parent(struct gateway_trace *trace, uint64_t span) {
    gateway_traceparent_write(&(struct gateway_traceparent){trace->trace_high, trace->trace_low, span, true},
                              trace->traceparent);
}

void gateway_trace_begin(struct exchange *exchange) {
    struct gateway_tracer *tracer = exchange->gateway->tracer;
    const struct http_request *request = exchange->request;
    struct gateway_traceparent parent = {0};
    if (!gateway_tracer_is_on(tracer)) return;
    bool continues = find_parent(request, &parent);
    if (continues ? !parent.is_sampled : !is_worth_it(exchange) || !gateway_tracer_samples(tracer)) return;
    struct gateway_trace *trace = gateway_tracer_take(tracer);
    if (!trace) return;
    exchange->trace = trace;
    trace->trace_high = continues ? parent.trace_high : gateway_tracer_number(tracer);
    trace->trace_low = continues ? parent.trace_low : gateway_tracer_number(tracer);
    trace->parent = parent.span;
    trace->span = gateway_tracer_number(tracer);
    trace->begin_us = request->received_us;
    trace->wall_us = wall_us() - (int64_t)clock_monotonic_us();
    trace->part_count = 0;
    trace->open = trace->embed = GATEWAY_TRACE_NO_PART;
    trace->state[0] = trace->deployment[0] = 0;
    trace->revision = 0;
    if (continues) keep_state(trace, request);
    write_parent(trace, trace->span);
}

/* ---- parts ------------------------------------------------------------------------ */

static void end_part(struct gateway_trace *trace, int *part, uint64_t now_us) {
    if (*part == GATEWAY_TRACE_NO_PART) return;
    trace->parts[*part].end_us = now_us;
    *part = GATEWAY_TRACE_NO_PART;
}

static void keep_replica(struct gateway_trace_part *part, const struct exchange *exchange) {
    const struct gateway_incarnation *incarnation = exchange->incarnation;
    if (incarnation && incarnation->replica) KEEP(part->replica, incarnation->replica->id);
    part->revision = exchange->route->revision;
    KEEP(exchange->trace->deployment, exchange->route->name);
    exchange->trace->revision = part->revision;
}

void gateway_trace_part(struct exchange *exchange, enum gateway_trace_kind kind) {
    struct gateway_trace *trace = exchange->trace;
    if (!trace || (trace->open >= 0 && trace->parts[trace->open].kind == kind)) return;
    uint64_t now_us = clock_monotonic_us();
    end_part(trace, &trace->open, now_us);
    if (trace->part_count == GATEWAY_TRACE_PARTS) return;
    int number = trace->part_count++;
    struct gateway_trace_part *part = &trace->parts[number];
    *part = (struct gateway_trace_part){.kind = kind,
                                        .parent = trace->embed,
                                        .span = gateway_tracer_number(exchange->gateway->tracer),
                                        .begin_us = now_us};
    if (kind == GATEWAY_TRACE_EMBED)
        trace->embed = number;
    else
        trace->open = number;
    if (kind != GATEWAY_TRACE_REPLICA) return;
    keep_replica(part, exchange);
    write_parent(trace, part->span);
}

void gateway_trace_answered(struct exchange *exchange, const struct http_answer *answer) {
    struct gateway_trace *trace = exchange->trace;
    if (!trace || trace->open < 0 || trace->parts[trace->open].kind != GATEWAY_TRACE_REPLICA) return;
    struct gateway_trace_part *part = &trace->parts[trace->open];
    const char *batch = http_find_header(answer->headers, answer->header_count, "X-Slipway-Batch");
    const char *timing = http_find_header(answer->headers, answer->header_count, "X-Slipway-Timing");
    part->status = answer->status;
    part->is_embedding = http_find_header(answer->headers, answer->header_count, "X-Slipway-Encoder");
    if (batch) text_parse_number(batch, 1000000, &part->batch);
    if (timing) gateway_trace_parse_timing(timing, &part->timing);
}

void gateway_trace_replica_failed(struct exchange *exchange, const char *error) {
    struct gateway_trace *trace = exchange->trace;
    if (!trace || trace->open < 0) return;
    trace->parts[trace->open].error = error;
    end_part(trace, &trace->open, clock_monotonic_us());
}

void gateway_trace_part_end(struct exchange *exchange) {
    struct gateway_trace *trace = exchange->trace;
    if (!trace) return;
    uint64_t now_us = clock_monotonic_us();
    end_part(trace, &trace->open, now_us);
    end_part(trace, &trace->embed, now_us);
}

/* ---- the end ------------------------------------------------------------------------ */

static void keep_request(struct gateway_trace *trace, const struct exchange *exchange) {
    const struct http_request *request = exchange->request;
    trace->route = exchange->match.endpoint ? exchange->match.endpoint->pattern : NULL;
    trace->status = exchange->status;
    trace->is_tls = request->tls;
    trace->is_old = request->is_old;
    KEEP(trace->method, request->method);
    KEEP(trace->path, request->path);
    KEEP(trace->host, http_request_header(request, "Host"));
    KEEP(trace->agent, http_request_header(request, "User-Agent"));
    KEEP(trace->request_id, exchange->request_id);
    KEEP(trace->collection, exchange->collection ? exchange->collection_name : NULL);
    keep_peer(trace, request->peer);
    if (!exchange->route) return; /* a search has given it back */
    KEEP(trace->deployment, exchange->route->name);
    trace->revision = exchange->route->revision;
}

void gateway_trace_end(struct exchange *exchange, uint64_t duration_us) {
    struct gateway_trace *trace = exchange->trace;
    if (!trace) return;
    exchange->trace = NULL;
    trace->end_us = trace->begin_us + duration_us;
    end_part(trace, &trace->open, trace->end_us);
    end_part(trace, &trace->embed, trace->end_us);
    keep_request(trace, exchange);
    gateway_tracer_put(exchange->gateway->tracer, trace);
}

/* ---- headers ---------------------------------------------------------------------------- */

size_t gateway_trace_headers(struct exchange *exchange, struct http_header *headers, size_t count) {
    const struct gateway_trace *trace = exchange->trace;
    size_t kept = 0;
    if (!trace) return count; /* who does not take part passes on what came */
    for (size_t i = 0; i < count; i++) {
        if (http_header_is(&headers[i], "Traceparent")) continue;
        if (!trace->parent && http_header_is(&headers[i], "Tracestate")) continue; /* of a trace that is not ours */
        headers[kept++] = headers[i];
    }
    headers[kept++] = (struct http_header){"Traceparent", trace->traceparent};
    return kept;
}

bool gateway_trace_id(const struct exchange *exchange, char ret_id[33]) {
    if (!exchange->trace) return false;
    gateway_trace_write_id(exchange->trace->trace_high, ret_id);
    gateway_trace_write_id(exchange->trace->trace_low, ret_id + 16);
    ret_id[32] = 0;
    return true;
}
