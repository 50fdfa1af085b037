/* A slot as spans, in OTLP's JSON (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding": ids as hexadecimal
 * digits, 64-bit numbers as strings, enumerations as numbers). Names of attributes are those of OpenTelemetry's
 * semantic conventions (HTTP 1.23, stable; gen_ai for embeddings), or begin with "slipway.". The query of a URL is left
 * out: it may carry what is nobody's business. */
#include <stdio.h>
#include <string.h>

#include "base/json_escape.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway_trace-internal.h"

#define KIND_INTERNAL 1
#define KIND_SERVER 2
#define KIND_CLIENT 3
#define STATUS_ERROR 2
#define STATUS_CLIENT_GONE 499 /* there was nobody to answer (gateway_exchange.c) */
#define FLAGS_SAMPLED 0x101 /* W3C's sampled, and "whether the parent is remote is known" */
#define FLAGS_REMOTE 0x200
#define TIMING_MAXIMUM ((uint64_t)1 << 53)

/* ---- what a runner says ------------------------------------------------------ */

bool gateway_trace_parse_timing(const char *text, struct gateway_trace_timing *ret_timing) {
    struct gateway_trace_timing timing = {.is_known = true};
    const struct {
        const char *name;
        uint64_t *number;
    } fields[] = {{"wait=", &timing.wait_us},
                  {";run=", &timing.run_us},
                  {";total=", &timing.total_us},
                  {";tokens=", &timing.tokens}};
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (!text_starts_with(text, fields[i].name)) return false;
        text += strlen(fields[i].name);
        size_t digits = strspn(text, "0123456789");
        char number[20] = "";
        if (digits >= sizeof number) return false;
        memcpy(number, text, digits);
        if (!text_parse_number(number, TIMING_MAXIMUM, fields[i].number)) return false;
        text += digits;
    }
    if (*text) return false;
    *ret_timing = timing;
    return true;
}

/* ---- attributes ------------------------------------------------------------------ */

struct span {
    struct buffer *out;
    const struct gateway_trace *trace;
    bool has_attribute;
};

static void put_key(struct span *span, const char *key) {
    buffer_append_format(span->out, "%s{\"key\":\"%s\",\"value\":", span->has_attribute ? "," : "", key);
    span->has_attribute = true;
}

/* "" and NULL are left out. */
static void put_part(struct span *span, const char *key, const char *text, size_t size) {
    if (!size) return;
    put_key(span, key);
    buffer_append_text(span->out, "{\"stringValue\":\"");
    json_escape(span->out, text, size);
    buffer_append_text(span->out, "\"}}");
}

static void put_text(struct span *span, const char *key, const char *text) {
    put_part(span, key, text, text ? strlen(text) : 0);
}

static void put_number(struct span *span, const char *key, uint64_t number) {
    put_key(span, key);
    buffer_append_format(span->out, "{\"intValue\":\"%llu\"}}", (unsigned long long)number);
}

/* ---- a span ----------------------------------------------------------------------- */

static void put_id(struct buffer *out, const char *key, uint64_t id) {
    char digits[17] = "";
    gateway_trace_write_id(id, digits);
    buffer_append_format(out, ",\"%s\":\"%s\"", key, digits);
}

static unsigned long long wall_ns(const struct gateway_trace *trace, uint64_t us) {
    return (unsigned long long)((int64_t)us + trace->wall_us) * 1000;
}

/* Up to its name, which is followed by rest_of_name and begin_attributes(). */
static struct span begin_span(struct buffer *out, const struct gateway_trace *trace, uint64_t id, uint64_t parent) {
    char trace_id[33] = "";
    bool is_remote = parent && parent == trace->parent;
    gateway_trace_write_id(trace->trace_high, trace_id);
    gateway_trace_write_id(trace->trace_low, trace_id + 16);
    buffer_append_format(out, "{\"traceId\":\"%s\"", trace_id);
    put_id(out, "spanId", id);
    if (parent) put_id(out, "parentSpanId", parent);
    if (*trace->state) {
        buffer_append_text(out, ",\"traceState\":\"");
        json_escape(out, trace->state, strlen(trace->state));
        buffer_append_text(out, "\"");
    }
    buffer_append_format(out, ",\"flags\":%d,\"name\":\"", FLAGS_SAMPLED | (is_remote ? FLAGS_REMOTE : 0));
    return (struct span){.out = out, .trace = trace};
}

static void begin_attributes(struct span *span, int kind, uint64_t begin_us, uint64_t end_us) {
    buffer_append_format(span->out,
                         "\",\"kind\":%d,\"startTimeUnixNano\":\"%llu\",\"endTimeUnixNano\":\"%llu\",\"attributes\":[",
                         kind, wall_ns(span->trace, begin_us), wall_ns(span->trace, end_us));
}

static void end_span(struct span *span, bool is_error) {
    buffer_append_text(span->out, "]");
    if (is_error) buffer_append_format(span->out, ",\"status\":{\"code\":%d}", STATUS_ERROR);
    buffer_append_text(span->out, "}");
}

/* ---- the request -------------------------------------------------------------------- */

/* "127.0.0.1:8400", "[::1]:8400", "models.example". */
static void put_server(struct span *span, const char *host, bool is_tls) {
    const char *port = strrchr(host, ':'), *bracket = strchr(host, ']');
    uint64_t number = is_tls ? 443 : 80;
    if (port && bracket && port < bracket) port = NULL;
    if (port && !text_parse_number(port + 1, UINT16_MAX, &number)) return;
    size_t size = port ? (size_t)(port - host) : strlen(host);
    bool is_bracketed = size > 2 && *host == '[' && host[size - 1] == ']';
    if (!size) return;
    put_part(span, "server.address", host + is_bracketed, size - 2 * is_bracketed);
    put_number(span, "server.port", number);
}

static void put_method(struct span *span, const char *method) {
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (!text_equal(method, known[i])) continue;
        put_text(span, "http.request.method", method);
        return;
    }
    put_text(span, "http.request.method", "_OTHER");
    put_text(span, "http.request.method_original", method);
}

/* What went wrong, in words that are few; false: nothing that is ours. */
static bool put_status(struct span *span, int status) {
    char text[12];
    if (status == STATUS_CLIENT_GONE) {
        put_text(span, "error.type", "client_gone");
        return true;
    }
    put_number(span, "http.response.status_code", (uint64_t)status);
    if (status < 500) return false;
    snprintf(text, sizeof text, "%d", status);
    put_text(span, "error.type", text);
    return true;
}

static void put_slipway(struct span *span, const char *deployment, uint64_t revision) {
    put_text(span, "slipway.deployment", deployment);
    if (*deployment) put_number(span, "slipway.revision", revision);
}

static void write_request(const struct gateway_trace *trace, struct buffer *out) {
    struct span span = begin_span(out, trace, trace->span, trace->parent);
    json_escape(out, trace->method, strlen(trace->method));
    if (trace->route) buffer_append_format(out, " %s", trace->route);
    begin_attributes(&span, KIND_SERVER, trace->begin_us, trace->end_us);
    put_method(&span, trace->method);
    put_text(&span, "http.route", trace->route);
    put_text(&span, "url.scheme", trace->is_tls ? "https" : "http");
    put_text(&span, "url.path", trace->path);
    put_server(&span, trace->host, trace->is_tls);
    put_text(&span, "client.address", trace->peer);
    put_text(&span, "network.peer.address", trace->peer);
    put_text(&span, "network.protocol.version", trace->is_old ? "1.0" : "1.1");
    put_text(&span, "user_agent.original", trace->agent);
    put_text(&span, "slipway.request_id", trace->request_id);
    put_text(&span, "slipway.collection", trace->collection);
    put_slipway(&span, trace->deployment, trace->revision);
    end_span(&span, put_status(&span, trace->status));
}

/* ---- its parts ------------------------------------------------------------------------ */

static const char *const part_names[] = {
    [GATEWAY_TRACE_QUEUE] = "queue",
    [GATEWAY_TRACE_REPLICA] = "inference",
    [GATEWAY_TRACE_EMBED] = "embed",
    [GATEWAY_TRACE_FIND] = "find",
};

static uint64_t parent_of(const struct gateway_trace *trace, const struct gateway_trace_part *part) {
    return part->parent == GATEWAY_TRACE_NO_PART ? trace->span : trace->parts[part->parent].span;
}

/* What the runner says of itself is known as spans of time only: they are laid in the middle of the time that passed
 * between here and there. */
static void write_inside(const struct gateway_trace *trace, const struct gateway_trace_part *part, struct buffer *out) {
    const struct gateway_trace_timing *timing = &part->timing;
    uint64_t whole = part->end_us - part->begin_us, in_batcher = timing->wait_us + timing->run_us;
    uint64_t slack =
        timing->total_us > in_batcher && timing->total_us < whole ? whole - timing->total_us : whole - in_batcher;
    uint64_t begin = part->begin_us + slack / 2;
    struct span span = begin_span(out, trace, part->span ^ 1, part->span);
    buffer_append_text(out, "batch wait");
    begin_attributes(&span, KIND_INTERNAL, begin, begin + timing->wait_us);
    end_span(&span, false);
    buffer_append_text(out, ",");
    span = begin_span(out, trace, part->span ^ 2, part->span);
    buffer_append_text(out, "inference");
    begin_attributes(&span, KIND_INTERNAL, begin + timing->wait_us, begin + in_batcher);
    if (part->batch) put_number(&span, "slipway.batch.size", part->batch);
    end_span(&span, false);
}

static bool put_replica(struct span *span, const struct gateway_trace_part *part) {
    const struct gateway_trace *trace = span->trace;
    put_slipway(span, trace->deployment, part->revision);
    put_text(span, "slipway.replica", part->replica);
    if (part->batch) put_number(span, "slipway.batch.size", part->batch);
    if (part->is_embedding) {
        put_text(span, "gen_ai.operation.name", "embeddings");
        put_text(span, "gen_ai.provider.name", "slipway");
        put_text(span, "gen_ai.request.model", trace->deployment);
        if (part->timing.is_known) put_number(span, "gen_ai.usage.input_tokens", part->timing.tokens);
    }
    if (part->status) put_number(span, "http.response.status_code", (uint64_t)part->status);
    char text[12];
    snprintf(text, sizeof text, "%d", part->status);
    const char *error = part->error;
    if (!error) error = !part->status ? "not_answered" : part->status >= 400 ? text : NULL;
    put_text(span, "error.type", error);
    return error;
}

static void write_part(const struct gateway_trace *trace, const struct gateway_trace_part *part, struct buffer *out) {
    bool is_replica = part->kind == GATEWAY_TRACE_REPLICA, is_error = part->error;
    struct span span = begin_span(out, trace, part->span, parent_of(trace, part));
    buffer_append_text(out, part->is_embedding ? "embeddings" : part_names[part->kind]);
    if (is_replica && *trace->deployment) {
        buffer_append_text(out, " ");
        json_escape(out, trace->deployment, strlen(trace->deployment));
    }
    begin_attributes(&span, is_replica ? KIND_CLIENT : KIND_INTERNAL, part->begin_us, part->end_us);
    if (is_replica)
        is_error = put_replica(&span, part);
    else
        put_text(&span, "error.type", part->error);
    end_span(&span, is_error);
}

/* ---- all of it ------------------------------------------------------------------------- */

/* Otherwise another clock measured it, and nothing can be said. */
static bool has_inside(const struct gateway_trace_part *part) {
    return part->timing.is_known && part->timing.wait_us + part->timing.run_us <= part->end_us - part->begin_us;
}

size_t gateway_trace_span_count(const struct gateway_trace *trace) {
    size_t count = 1 + (size_t)trace->part_count;
    for (int i = 0; i < trace->part_count; i++) count += has_inside(&trace->parts[i]) ? 2 : 0;
    return count;
}

void gateway_trace_write_spans(const struct gateway_trace *trace, bool is_first, struct buffer *out) {
    if (!is_first) buffer_append_text(out, ",");
    write_request(trace, out);
    for (int i = 0; i < trace->part_count; i++) {
        const struct gateway_trace_part *part = &trace->parts[i];
        buffer_append_text(out, ",");
        write_part(trace, part, out);
        if (!has_inside(part)) continue;
        buffer_append_text(out, ",");
        write_inside(trace, part, out);
    }
}
