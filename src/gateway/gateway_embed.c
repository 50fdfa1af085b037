/* The query's vector, from a replica of the pair's deployment: queued, sent, and sent again as any data request is
 * (gateway_proxy.c), but with a body of our own and an answer that stays here. The replica says by which encoder it
 * answered: if that is not the pair's, the vector is never compared with the index's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway_search-internal.h"

#define HEAD_MAXIMUM 65536 /* what stands before the vector in an answer */

/* ---- the answer --------------------------------------------------------------- */

static void count_answer(struct exchange *exchange, int status) {
    const struct gateway_search *search = exchange->part;
    gateway_series_count(&exchange->route->lane->series, status, clock_monotonic_us() - search->begun_us);
}

/* The runner's own words: {"error": "…"}. */
static char *read_error(const struct buffer *answer) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root;
    const char *message = NULL;
    if (!json_parse_object(answer->bytes ? answer->bytes : "", answer->size, &document, &root, NULL))
        message = yyjson_get_str(yyjson_obj_get(root, "error"));
    return text_copy(message ? message : "no reason given");
}

/* A text that the model refuses is the client's; everything else is ours. */
static void fail_refused(struct exchange *exchange, int status) {
    const struct gateway_search *search = exchange->part;
    _cleanup_free_ char *message = read_error(&search->answer);
    bool is_theirs = status >= 400 && status < 500 && status != 404 && status != 429;
    if (is_theirs)
        exchange_fail_with(exchange, ERROR_REQUEST, status, "the query could not be embedded: %s", message);
    else
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, status == 429 ? 429 : 503,
                           "the query could not be embedded: the replica answered %d: %s", status, message);
}

static void fail_mismatch(struct exchange *exchange) {
    exchange->collection->mismatches++;
    exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503,
                       "the replica's encoder is not the one that the index of collection %s was made with: nothing is "
                       "compared; try again",
                       exchange->collection_name);
}

/* False: it is not a vector of the index's dimension. */
static bool take_vector(struct gateway_search *search, uint32_t dimension) {
    size_t size = (size_t)dimension * sizeof(float);
    if (search->answer.size != search->head_size + size) return false;
    search->vector = mem_copy(search->answer.bytes + search->head_size, size); /* little endian, as we are */
    search->dimension = dimension;
    float sum = 0;
    for (size_t i = 0; i < dimension; i++) {
        if (!isfinite(search->vector[i])) return false;
        sum += fabsf(search->vector[i]);
    }
    return sum > 0;
}

static uint32_t dimension_of(const struct exchange *exchange) {
    return exchange->pair->documents.dimension; /* both sets have the same encoder */
}

static void on_end(struct http_call *call, void *context) {
    (void)call;
    struct exchange *exchange = context;
    struct gateway_search *search = exchange->part;
    exchange->call = NULL;
    int status = exchange->status;
    exchange->status = 0;
    count_answer(exchange, status);
    search->revision = (int64_t)exchange->route->revision;
    gateway_trace_part_end(exchange);
    gateway_proxy_release_replica(exchange);
    if (status != 200)
        fail_refused(exchange, status);
    else if (!search->is_same_encoder)
        fail_mismatch(exchange);
    else if (!take_vector(search, dimension_of(exchange)))
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the replica's answer is not a vector of %u numbers",
                           dimension_of(exchange));
    else
        search->when_embedded(exchange);
}

static void on_head(struct http_call *call, const struct http_answer *answer, void *context) {
    (void)call;
    struct exchange *exchange = context;
    struct gateway_search *search = exchange->part;
    const char *encoder = http_find_header(answer->headers, answer->header_count, "X-Slipway-Encoder");
    const char *head = http_find_header(answer->headers, answer->header_count, "Inference-Header-Content-Length");
    const char *batch = http_find_header(answer->headers, answer->header_count, "X-Slipway-Batch");
    uint64_t batch_size;
    gateway_queue_remove(&exchange->deadline); /* it has begun to answer in time */
    exchange_set_step(exchange, EXCHANGE_ANSWERING);
    exchange->status = answer->status;
    gateway_trace_answered(exchange, answer);
    search->is_same_encoder = encoder && text_equal(encoder, exchange->pair->digest);
    search->head_size = 0;
    if (head) text_parse_number(head, HEAD_MAXIMUM, &search->head_size);
    if (batch && text_parse_number(batch, 1000000, &batch_size))
        gateway_series_count_batch(&exchange->route->lane->series, batch_size);
}

static void on_body(struct http_call *call, const char *bytes, size_t size, void *context) {
    struct exchange *exchange = context;
    struct gateway_search *search = exchange->part;
    if (buffer_append(&search->answer, bytes, size)) return;
    http_call_cancel(call);
    exchange->call = NULL;
    exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the replica's answer is longer than a vector");
}

static void on_failed(struct http_call *call, const struct http_failure *failure, void *context) {
    (void)call;
    struct exchange *exchange = context;
    exchange->call = NULL;
    exchange->when_failed(exchange, failure);
}

static const struct http_call_handler handler = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_failed = on_failed};

/* ---- the request ---------------------------------------------------------------- */

/* The Open Inference Protocol with its binary extension for the answer: numbers as they are, not as JSON. */
static void write_request(struct gateway_search *search) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_val *input = yyjson_mut_arr_add_obj(document, yyjson_mut_obj_add_arr(document, root, "inputs"));
    yyjson_mut_obj_add_str(document, input, "name", "text");
    yyjson_mut_obj_add_str(document, input, "datatype", "BYTES");
    yyjson_mut_arr_add_uint(document, yyjson_mut_obj_add_arr(document, input, "shape"), 1);
    yyjson_mut_arr_add_str(document, yyjson_mut_obj_add_arr(document, input, "data"), search->query);
    yyjson_mut_val *output = yyjson_mut_arr_add_obj(document, yyjson_mut_obj_add_arr(document, root, "outputs"));
    yyjson_mut_obj_add_str(document, output, "name", "embedding");
    yyjson_mut_val *parameters = yyjson_mut_obj_add_obj(document, output, "parameters");
    yyjson_mut_obj_add_bool(document, parameters, "binary_data", true);
    size_t size;
    _cleanup_free_ char *json = json_write(document, &size);
    buffer_append(&search->request, json, size);
}

/* Called for each replica that it is sent to. */
static void ask_replica(struct exchange *exchange, struct http_pool *pool, const char *host,
                        void (*when_failed)(struct exchange *exchange, const struct http_failure *failure)) {
    struct gateway_search *search = exchange->part;
    struct http_header headers[3] = {{"Content-Type", "application/json"}, {"X-Request-Id", exchange->request_id}};
    size_t header_count = gateway_trace_headers(exchange, headers, 2);
    _cleanup_free_ char *target = text_format("/v2/models/%s/infer", exchange->route->name);
    search->answer.size = 0;
    search->begun_us = clock_monotonic_us();
    exchange->when_failed = when_failed;
    exchange_set_step(exchange, EXCHANGE_SENT);
    exchange->call = http_call(pool,
                               &(struct http_call_request){.method = "POST",
                                                           .target = target,
                                                           .host = host,
                                                           .headers = headers,
                                                           .header_count = header_count,
                                                           .body = search->request.bytes,
                                                           .body_size = search->request.size,
                                                           .has_body = true},
                               &handler, exchange);
}

void gateway_embed(struct exchange *exchange, void (*done)(struct exchange *exchange)) {
    struct gateway_search *search = exchange->part;
    search->when_embedded = done;
    search->answer.maximum = HEAD_MAXIMUM + (size_t)VECTOR_DIMENSION_MAXIMUM * sizeof(float);
    write_request(search);
    exchange->send = ask_replica;
    gateway_trace_part(exchange, GATEWAY_TRACE_EMBED);
    snprintf(exchange->model, sizeof exchange->model, "%s", exchange->pair->deployment_id);
    gateway_proxy_admit(exchange);
}
