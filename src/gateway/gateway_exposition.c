/* GET /metrics: the gateway's own figures, and behind them what the controller says of itself. Families are a table:
 * one row a family, with what writes its samples. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"
#include "slipway_version.h"

#define TEXT_MAXIMUM ((size_t)32 * 1024 * 1024)

void gateway_count_answer(struct exchange *exchange, uint64_t duration_us) {
    const struct gateway_endpoint *endpoint = exchange->match.endpoint;
    gateway_codes_count(exchange->gateway->kinds[endpoint ? endpoint->kind : GATEWAY_OWN], exchange->status);
    if (exchange->route) gateway_series_count(&exchange->route->lane->series, exchange->status, duration_us);
    if (exchange->figures) gateway_series_count(exchange->figures, exchange->status, duration_us);
}

/* ---- one value ------------------------------------------------------------ */

static uint64_t generation(const struct gateway *gateway) {
    return gateway->routes.current ? gateway->routes.current->generation : 0;
}

static uint64_t lowest_generation(const struct gateway *gateway) {
    return gateway_routes_lowest(&gateway->routes);
}

static uint64_t connections(const struct gateway *gateway) {
    return http_server_connections(gateway->server);
}

static uint64_t exchanges(const struct gateway *gateway) {
    return gateway->exchange_count;
}

static uint64_t log_lines_left_out(const struct gateway *gateway) {
    return gateway_access_log_left_out(gateway->access_log);
}

static uint64_t spans_sent(const struct gateway *gateway) {
    return gateway_tracer_sent(gateway->tracer);
}

static uint64_t spans_dropped(const struct gateway *gateway) {
    return gateway_tracer_dropped(gateway->tracer);
}

/* procfs answers from memory; nothing waits. */
static uint64_t resident_bytes(const struct gateway *gateway) {
    (void)gateway;
    unsigned long long total, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return 0;
    if (fscanf(file, "%llu %llu", &total, &resident) != 2) resident = 0;
    fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- one value a lane ------------------------------------------------------ */

static void write_requests(struct buffer *text, const char *name, const char *labels, const struct gateway_lane *lane) {
    gateway_metrics_codes(text, name, labels, lane->series.codes);
}

static void write_durations(struct buffer *text, const char *name, const char *labels,
                            const struct gateway_lane *lane) {
    gateway_metrics_durations(text, name, labels, &lane->series.durations);
}

static void write_waits(struct buffer *text, const char *name, const char *labels, const struct gateway_lane *lane) {
    gateway_metrics_durations(text, name, labels, &lane->series.waits);
}

static void write_batches(struct buffer *text, const char *name, const char *labels, const struct gateway_lane *lane) {
    gateway_metrics_batches(text, name, labels, &lane->series);
}

static void write_queue(struct buffer *text, const char *name, const char *labels, const struct gateway_lane *lane) {
    gateway_metrics_number(text, name, labels, lane->queue.length);
}

static void write_in_flight(struct buffer *text, const char *name, const char *labels,
                            const struct gateway_lane *lane) {
    gateway_metrics_number(text, name, labels, lane->in_flight);
}

static void write_retries(struct buffer *text, const char *name, const char *labels, const struct gateway_lane *lane) {
    gateway_metrics_number(text, name, labels, lane->series.retries);
}

/* ---- one value a collection -------------------------------------------------- */

static void write_writes(struct buffer *text, const char *name, const char *labels,
                         const struct gateway_collection *collection) {
    gateway_metrics_codes(text, name, labels, collection->writes.codes);
}

static void write_write_durations(struct buffer *text, const char *name, const char *labels,
                                  const struct gateway_collection *collection) {
    gateway_metrics_durations(text, name, labels, &collection->writes.durations);
}

static void write_written(struct buffer *text, const char *name, const char *labels,
                          const struct gateway_collection *collection) {
    gateway_metrics_number(text, name, labels, collection->documents_written);
}

static void write_appends(struct buffer *text, const char *name, const char *labels,
                          const struct gateway_collection *collection) {
    gateway_metrics_batches(text, name, labels, &collection->writes);
}

static void write_waiting(struct buffer *text, const char *name, const char *labels,
                          const struct gateway_collection *collection) {
    gateway_metrics_number(text, name, labels, collection->waiting.count);
}

static void write_searches(struct buffer *text, const char *name, const char *labels,
                           const struct gateway_collection *collection) {
    gateway_metrics_codes(text, name, labels, collection->searches.codes);
}

static void write_search_durations(struct buffer *text, const char *name, const char *labels,
                                   const struct gateway_collection *collection) {
    gateway_metrics_durations(text, name, labels, &collection->searches.durations);
}

static void write_mismatches(struct buffer *text, const char *name, const char *labels,
                             const struct gateway_collection *collection) {
    gateway_metrics_number(text, name, labels, collection->mismatches);
}

/* ---- the table -------------------------------------------------------------- */

static const struct family {
    const char *name, *type, *help;
    void (*write_lane)(struct buffer *text, const char *name, const char *labels, const struct gateway_lane *lane);
    uint64_t (*value)(const struct gateway *gateway);
} families[] = {
    {"slipway_requests_total", "counter", "Data requests answered, by status.", write_requests, NULL},
    {"slipway_request_duration_seconds", "histogram", "From the request's head to its answer.", write_durations, NULL},
    {"slipway_queue_wait_seconds", "histogram", "From a request's body to its replica.", write_waits, NULL},
    {"slipway_queue_length", "gauge", "Requests waiting for a replica.", write_queue, NULL},
    {"slipway_requests_in_flight", "gauge", "Requests that replicas work on.", write_in_flight, NULL},
    {"slipway_batch_size", "histogram", "Size of the batch that a request was computed in.", write_batches, NULL},
    {"slipway_retries_total", "counter", "Requests sent again because their replica ended.", write_retries, NULL},
    {"slipway_route_generation", "gauge", "Generation of the routes in force.", NULL, generation},
    {"slipway_route_generation_lowest", "gauge", "Lowest generation that a request still uses.", NULL,
     lowest_generation},
    {"slipway_http_connections", "gauge", "Open client connections.", NULL, connections},
    {"slipway_http_requests_open", "gauge", "Requests of any kind that are not answered yet.", NULL, exchanges},
    {"slipway_access_log_left_out_total", "counter", "Access log lines that nobody read in time.", NULL,
     log_lines_left_out},
    {"slipway_trace_spans_sent_total", "counter", "Spans that the collector has taken.", NULL, spans_sent},
    {"slipway_trace_spans_dropped_total", "counter", "Spans that were lost: too many, or not taken.", NULL,
     spans_dropped},
    {"slipway_gateway_resident_memory_bytes", "gauge", "Resident memory of the gateway.", NULL, resident_bytes},
};

static const struct collection_family {
    const char *name, *type, *help;
    void (*write)(struct buffer *text, const char *name, const char *labels,
                  const struct gateway_collection *collection);
} collection_families[] = {
    {"slipway_document_requests_total", "counter", "Requests that write documents answered, by status.", write_writes},
    {"slipway_document_request_duration_seconds", "histogram", "From a write's head to its answer.",
     write_write_durations},
    {"slipway_documents_written_total", "counter", "Documents written and deleted, durably.", write_written},
    {"slipway_document_append_size", "histogram", "Documents that shared one append and its sync.", write_appends},
    {"slipway_document_queue_length", "gauge", "Writes waiting for their append.", write_waiting},
    {"slipway_searches_total", "counter", "Searches answered, by status.", write_searches},
    {"slipway_search_duration_seconds", "histogram", "From a search's head to its answer.", write_search_durations},
    {"slipway_search_encoder_mismatch_total", "counter",
     "Searches refused because the replica's encoder was not the index's.", write_mismatches},
};

/* Those that are routed: of two with one name only one is. */
static void write_collections(struct buffer *text, const struct gateway *gateway) {
    if (!gateway->routes.current || !gateway->routes.current->collections) return;
    for (size_t i = 0; i < ARRAY_SIZE(collection_families); i++) {
        const struct collection_family *family = &collection_families[i];
        const struct gateway_collection_name *name = gateway->routes.current->collections;
        gateway_metrics_family(text, family->name, family->type, family->help);
        for (; name; name = name->hh.next) {
            _cleanup_free_ char *labels = text_format("collection=\"%s\"", name->name); /* needs no escapes */
            family->write(text, family->name, labels, name->collection);
        }
    }
}

static void write_lanes(struct buffer *text, const struct family *family, const struct gateway *gateway) {
    struct gateway_lane *lane, *next;
    HASH_ITER(hh, gateway->replicas.lanes, lane, next) {
        _cleanup_free_ char *labels = gateway_metrics_labels(lane->name, lane->revision);
        family->write_lane(text, family->name, labels, lane);
    }
}

/* Those whose rate is limited: tokens bound how many samples there are. */
static void write_limited(struct buffer *text, const struct gateway *gateway) {
    static const char name[] = "slipway_requests_limited_total";
    const struct gateway_tokens *tokens = gateway->routes.current ? gateway->routes.current->tokens : NULL;
    gateway_metrics_family(text, name, "counter", "Requests answered 429 because their token had made too many.");
    for (size_t i = 0; tokens && i < tokens->count; i++) {
        const struct gateway_token *token = &tokens->all[i];
        if (!token->rate_milli) continue;
        char label[sizeof "token=\"\"" + GATEWAY_TOKEN_NAME_SIZE]; /* a name needs no escapes */
        snprintf(label, sizeof label, "token=\"%s\"", token->name);
        gateway_metrics_number(text, name, label, token->limited_total);
    }
}

static void write_kinds(struct buffer *text, const struct gateway *gateway) {
    static const char name[] = "slipway_http_answers_total";
    gateway_metrics_family(text, name, "counter", "Answers of every kind, by status.");
    for (size_t kind = 0; kind < GATEWAY_KINDS; kind++) {
        char label[32];
        snprintf(label, sizeof label, "kind=\"%s\"", gateway_kind_names[kind]);
        gateway_metrics_codes(text, name, label, gateway->kinds[kind]);
    }
}

static void write_own(struct buffer *text, const struct gateway *gateway) {
    gateway_metrics_family(text, "slipway_build_info", "gauge", "What this is; always 1.");
    gateway_metrics_number(text, "slipway_build_info", "version=\"" SLIPWAY_VERSION "\",commit=\"" SLIPWAY_COMMIT "\"",
                           1);
    for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
        const struct family *family = &families[i];
        gateway_metrics_family(text, family->name, family->type, family->help);
        if (family->write_lane)
            write_lanes(text, family, gateway);
        else
            gateway_metrics_number(text, family->name, "", family->value(gateway));
    }
    write_collections(text, gateway);
    write_limited(text, gateway);
    write_kinds(text, gateway);
}

static void on_controller_asked(struct exchange *exchange, int status, const char *body, size_t size) {
    _cleanup_buffer_ struct buffer text = {.maximum = TEXT_MAXIMUM};
    bool is_up = body && status == 200;
    write_own(&text, exchange->gateway);
    gateway_metrics_family(&text, "slipway_controller_up", "gauge", "Whether the controller's figures follow.");
    gateway_metrics_number(&text, "slipway_controller_up", "", is_up);
    if (is_up) gateway_metrics_append(&text, body, size);
    exchange_respond(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", text.bytes, text.size);
}

enum http_body_mode gateway_serve_metrics(struct exchange *exchange) {
    gateway_fetch(exchange, "/metrics", on_controller_asked);
    return HTTP_BODY_WHOLE;
}
