/* Traces: what became of a request and when, sent to a collector by OTLP over HTTP. Off unless otlp_endpoint is set.
 *
 * A traced exchange has a slot (struct gateway_trace), in which the loop notes times and names; that is all that it
 * costs a request. When the exchange ends its slot goes to the sender, a thread of its own, which makes spans of it
 * (gateway_trace_spans.c), sends them in batches (gateway_trace_sender.c) and gives the slot back. There are at most
 * GATEWAY_TRACE_SLOTS: while the collector is slow or away, requests find none, are not traced, and are counted. So
 * neither a request nor memory ever waits for the collector.
 *
 * Loop thread only, but for what says that it is the sender's.
 *
 *   SERVER "POST /v2/models/{model}/infer"
 *     INTERNAL "queue"                until a replica had room
 *     CLIENT   "embeddings minilm"    given to that replica; "inference …" for what is no embedding
 *       INTERNAL "batch wait"         as the runner says in X-Slipway-Timing
 *       INTERNAL "inference"
 *   SERVER "POST /v1/collections/{collection}/search"
 *     INTERNAL "embed"                with queue and replica as above
 *     INTERNAL "find"                 compared with the index, read from the log
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "gateway/gateway_traceparent-internal.h"
#include "http/http_client.h"

struct exchange;
struct gateway;

#define GATEWAY_TRACE_SLOTS 2048
#define GATEWAY_TRACE_PARTS 10 /* in one request: more, which is many sendings again, are not noted */
#define GATEWAY_TRACE_NO_PART (-1)

enum gateway_trace_kind { GATEWAY_TRACE_QUEUE, GATEWAY_TRACE_REPLICA, GATEWAY_TRACE_EMBED, GATEWAY_TRACE_FIND };

/* What a runner says of its own time (X-Slipway-Timing), in microseconds. */
struct gateway_trace_timing {
    bool is_known;
    uint64_t wait_us, run_us, total_us; /* in the batcher; in the model; from the request's head to its answer */
    uint64_t tokens; /* 0: not texts */
};

struct gateway_trace_part {
    enum gateway_trace_kind kind;
    int parent; /* a part, or GATEWAY_TRACE_NO_PART: the request */
    uint64_t span, begin_us, end_us; /* end 0: it goes on */
    const char *error; /* static; NULL: none */
    /* of a replica: */
    char replica[40];
    uint64_t revision, batch;
    int status; /* 0: it has not answered */
    bool is_embedding;
    struct gateway_trace_timing timing;
};

/* One request's slot. */
struct gateway_trace {
    struct gateway_trace *next;
    uint64_t trace_high, trace_low, span, parent; /* parent 0: the trace begins here */
    char traceparent[GATEWAY_TRACEPARENT_SIZE]; /* as it goes upstream */
    uint64_t begin_us, end_us; /* monotonic */
    int64_t wall_us; /* what is added to them to get the time since 1970 */
    struct gateway_trace_part parts[GATEWAY_TRACE_PARTS];
    int part_count, open, embed; /* the part that goes on; the one around it, of a search; or GATEWAY_TRACE_NO_PART */

    const char *route; /* of the table; NULL: none */
    bool is_tls, is_old; /* is_old: HTTP/1.0 */
    int status;
    char method[16], path[256], host[128], peer[64], agent[128], state[512], request_id[129];
    char deployment[129], collection[129]; /* "": none */
    uint64_t revision;
};

/* How many spans become of it. Sender. */
size_t gateway_trace_span_count(const struct gateway_trace *trace);
/* Appends its spans, as OTLP's JSON, each with a comma before it but for the first. Sender. */
void gateway_trace_write_spans(const struct gateway_trace *trace, bool is_first, struct buffer *out);
/* Reads X-Slipway-Timing: "wait=120;run=3400;total=3600;tokens=31". False when it is not of that form. */
bool gateway_trace_parse_timing(const char *text, struct gateway_trace_timing *ret_timing);

/* ---- the sender (gateway_trace_sender.c) ---------------------------------- */

struct gateway_tracer;

/* `instance` names this process among others. Nothing runs before it has an endpoint. */
struct gateway_tracer *gateway_tracer_new(const char *instance);
/* endpoint "": nothing is traced from now on; what was is still sent. Both may change at any time. */
void gateway_tracer_configure(struct gateway_tracer *tracer, const char *endpoint, unsigned percent);
/* Tries to send what there is, for less than a second. NULL is fine. */
void gateway_tracer_free(struct gateway_tracer *tracer);
uint64_t gateway_tracer_sent(const struct gateway_tracer *tracer);
/* Spans that were lost: there was no slot (such a request counts as one), or the collector did not take them. */
uint64_t gateway_tracer_dropped(const struct gateway_tracer *tracer);

/* Whether a request without a trace of its own is to be traced. */
bool gateway_tracer_is_on(const struct gateway_tracer *tracer);
bool gateway_tracer_samples(struct gateway_tracer *tracer);
/* A random number that is not 0. */
uint64_t gateway_tracer_number(struct gateway_tracer *tracer);
/* An empty slot, or NULL, which is counted. */
struct gateway_trace *gateway_tracer_take(struct gateway_tracer *tracer);
/* The slot is the sender's. */
void gateway_tracer_put(struct gateway_tracer *tracer, struct gateway_trace *trace);

/* ---- one request (gateway_trace.c) ----------------------------------------- */

/* At its head, when its route is known: gives it a slot if it is to be traced. The others do nothing without one. */
void gateway_trace_begin(struct exchange *exchange);
/* A part begins; what went on before, at the same level, ends. The same again goes on. */
void gateway_trace_part(struct exchange *exchange, enum gateway_trace_kind kind);
/* The replica's answer has begun. */
void gateway_trace_answered(struct exchange *exchange, const struct http_answer *answer);
/* It has failed, which may not be the end of the request; `error` is static text. */
void gateway_trace_replica_failed(struct exchange *exchange, const char *error);
/* What goes on ends, at all levels. */
void gateway_trace_part_end(struct exchange *exchange);
/* With the request's end: its slot goes to the sender. */
void gateway_trace_end(struct exchange *exchange, uint64_t duration_us);
/* Puts our traceparent in place of the client's among headers[0..count), where there is room for one more; the new
 * count. Valid until the next part or the end. */
size_t gateway_trace_headers(struct exchange *exchange, struct http_header *headers, size_t count);
/* The trace's id for the log, in 33 bytes; false: it is not traced. */
bool gateway_trace_id(const struct exchange *exchange, char ret_id[33]);
