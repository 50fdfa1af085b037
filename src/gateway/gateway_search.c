/* Searches, step by step: the body is read, the collection opened, its pair taken once (X1), the query embedded by a
 * replica of the pair's deployment, and a worker compares it with the pair's index and reads the hits from the log. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway_search-internal.h"

#define READ_HERE_MAXIMUM 65536 /* larger bodies are read on a worker (P6) */
#define BODY_MAXIMUM (4u * 1024 * 1024) /* a vector of the largest dimension, written out, or a long text */
#define LIMIT_DEFAULT 10

static void free_search(void *part) {
    struct gateway_search *search = part;
    yyjson_doc_free(search->body);
    collection_filter_free(search->filter);
    buffer_clear(&search->request);
    buffer_clear(&search->answer);
    error_free(search->error);
    free(search->vector);
    free(search->deployment);
    free(search->json);
    free(search);
}

/* ---- what is asked -------------------------------------------------------------- */

static int read_vector(struct gateway_search *search, yyjson_val *list, struct error **ret_error) {
    size_t index, count = yyjson_arr_size(list);
    yyjson_val *number;
    bool has_length = false;
    if (!yyjson_is_arr(list)) return error_set(ret_error, ERROR_REQUEST, "vector must be a list of numbers");
    if (!count || count > VECTOR_DIMENSION_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST, "vector has %zu numbers; 1 to %d are possible", count,
                         VECTOR_DIMENSION_MAXIMUM);
    search->vector = mem_new_array(count, float);
    search->dimension = count;
    yyjson_arr_foreach(list, index, count, number) {
        search->vector[index] = (float)yyjson_get_num(number);
        if (!yyjson_is_num(number) || !isfinite(search->vector[index]))
            return error_set(ret_error, ERROR_REQUEST, "vector: number %zu is none that can be compared", index);
        has_length = has_length || search->vector[index] != 0;
    }
    if (has_length) return 0;
    return error_set(ret_error, ERROR_REQUEST, "vector has the length 0, so that nothing is more or less like it");
}

static int read_question(struct gateway_search *search, yyjson_val *root, struct error **ret_error) {
    yyjson_val *vector = yyjson_obj_get(root, "vector");
    if (yyjson_is_null(vector)) vector = NULL;
    int failed = json_get_text(root, "", "query", false, &search->query, ret_error);
    if (!failed) failed = json_get_text(root, "", "encoder_digest", false, &search->digest, ret_error);
    if (failed) return failed;
    if (!search->query == !vector)
        return error_set(ret_error, ERROR_REQUEST, "a search has either a query or a vector");
    if (!vector && search->digest)
        return error_set(ret_error, ERROR_REQUEST,
                         "encoder_digest says what made a vector: with a query it is not needed");
    if (vector && !search->digest)
        return error_set(ret_error, ERROR_REQUEST, "a vector needs encoder_digest: which encoder it was made by");
    if (vector) return read_vector(search, vector, ret_error);
    if (search->query[strspn(search->query, " \t\r\n")]) return 0;
    return error_set(ret_error, ERROR_REQUEST, "the query is empty");
}

static int read_range(struct gateway_search *search, yyjson_val *root, struct error **ret_error) {
    int64_t maximum = (int64_t)search->exchange->gateway->settings->search_limit_maximum;
    int64_t limit = LIMIT_DEFAULT, offset = 0;
    if (limit > maximum) limit = maximum;
    int failed = json_get_number(root, "", "limit", false, 1, maximum, &limit, ret_error);
    if (!failed) failed = json_get_number(root, "", "offset", false, 0, maximum, &offset, ret_error);
    if (failed) return failed;
    search->limit = (size_t)limit;
    search->offset = (size_t)offset;
    if (limit + offset <= maximum) return 0;
    return error_set(ret_error, ERROR_REQUEST,
                     "limit and offset are %lld together; %lld is the most "
                     "(search_limit_maximum)",
                     (long long)limit + (long long)offset, (long long)maximum);
}

static int read_body(struct gateway_search *search, struct error **ret_error) {
    static const char *const known[] = {"query",  "vector", "encoder_digest", "limit",
                                        "offset", "filter", "with_payload",   "with_vector"};
    const struct http_request *request = search->exchange->request;
    yyjson_val *root = NULL;
    int failed =
        json_parse_object(request->body_size ? request->body : "", request->body_size, &search->body, &root, ret_error);
    if (!failed) failed = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (!failed) failed = read_question(search, root, ret_error);
    if (!failed) failed = read_range(search, root, ret_error);
    if (!failed) failed = json_get_boolean(root, "", "with_payload", &search->with_payload, ret_error);
    if (!failed) failed = json_get_boolean(root, "", "with_vector", &search->with_vector, ret_error);
    if (failed) return failed;
    yyjson_val *filter = yyjson_obj_get(root, "filter");
    if (!filter || yyjson_is_null(filter)) return 0;
    if (yyjson_is_obj(filter) && !yyjson_obj_size(filter)) return 0; /* {}: everything */
    return collection_filter_parse(filter, &search->filter, ret_error);
}

/* ---- the search itself ------------------------------------------------------------- */

static void run_search(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    gateway_find(exchange->part);
}

static void done_search(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct gateway_search *search = exchange->part;
    exchange->is_with_worker = false;
    gateway_trace_part_end(exchange);
    if (search->error) {
        gateway_documents_fail(exchange, TAKE(search->error));
        return;
    }
    if (search->query && search->set == COLLECTION_DOCUMENTS && exchange->collection->keep_queries)
        gateway_queries_note(exchange->collection, search->query);
    exchange_respond_owned(exchange, 200, "application/json", TAKE(search->json), search->size);
}

/* What waits for a worker is bounded as what waits for a replica is. */
static bool has_room(const struct gateway *gateway) {
    return gateway_workers_busy(gateway->collections.searches) < gateway->settings->queue_maximum;
}

static void compare(struct exchange *exchange) {
    struct gateway_search *search = exchange->part;
    if (!has_room(exchange->gateway)) {
        exchange_fail_with(exchange, ERROR_REQUEST, 429, "%llu searches are waiting, which is the most (queue_maximum)",
                           (unsigned long long)exchange->gateway->settings->queue_maximum);
        return;
    }
    const struct gateway_route *route = exchange->snapshot
                                            ? gateway_snapshot_find(exchange->snapshot, exchange->pair->deployment_id,
                                                                    strlen(exchange->pair->deployment_id))
                                            : NULL;
    if (!search->query) search->revision = exchange->pair->revision;
    search->deployment = text_copy(route ? route->name : exchange->pair->deployment_id);
    gateway_trace_part(exchange, GATEWAY_TRACE_FIND);
    gateway_documents_work(exchange, exchange->gateway->collections.searches, run_search, done_search);
}

static void fail_wrong_vector(struct exchange *exchange) {
    const struct gateway_search *search = exchange->part;
    const struct gateway_pair *pair = exchange->pair;
    if (!text_equal(search->digest, pair->digest))
        exchange_fail_with(exchange, ERROR_CONFLICT, 409,
                           "collection %s is searched by the encoder %s: vectors of another one, %.80s, cannot be "
                           "compared with it",
                           exchange->collection_name, pair->digest, search->digest);
    else
        exchange_fail_with(exchange, ERROR_REQUEST, 400, "the vector has %zu numbers, and those of collection %s %u",
                           search->dimension, exchange->collection_name, pair->documents.dimension);
}

static void begin_search(struct exchange *exchange) {
    struct gateway_search *search = exchange->part;
    struct gateway_collection *collection = exchange->collection;
    exchange->figures = &collection->searches;
    exchange->pair = gateway_collection_take_pair(collection);
    if (search->set == COLLECTION_QUERIES && !collection->keep_queries)
        exchange_fail_with(exchange, ERROR_CONFLICT, 409, "collection %s keeps no queries (keep_queries)",
                           exchange->collection_name);
    else if (search->query)
        gateway_embed(exchange, compare);
    else if (text_equal(search->digest, exchange->pair->digest) &&
             search->dimension == exchange->pair->documents.dimension)
        compare(exchange);
    else
        fail_wrong_vector(exchange);
}

/* ---- the body ------------------------------------------------------------------------ */

static void go_on(struct exchange *exchange) {
    struct gateway_search *search = exchange->part;
    if (search->error)
        exchange_fail(exchange, TAKE(search->error));
    else
        gateway_collection_admit(exchange, begin_search);
}

static void run_reading(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct gateway_search *search = exchange->part;
    read_body(search, &search->error);
}

static void done_reading(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    exchange->is_with_worker = false;
    if (http_is_gone(exchange->request))
        exchange_break(exchange);
    else
        go_on(exchange);
}

static void when_whole(struct exchange *exchange) {
    struct gateway_search *search = exchange->part;
    if (exchange->request->body_size > READ_HERE_MAXIMUM) {
        gateway_documents_work(exchange, exchange->gateway->collections.searches, run_reading, done_reading);
        return;
    }
    read_body(search, &search->error);
    go_on(exchange);
}

static enum http_body_mode serve(struct exchange *exchange, enum collection_set set) {
    if (!gateway_documents_begin(exchange, NULL) || !gateway_documents_check_parameters(exchange, NULL))
        return HTTP_BODY_WHOLE;
    struct gateway_search *search = mem_new(struct gateway_search);
    search->exchange = exchange;
    search->set = set;
    search->with_payload = true;
    exchange->part = search;
    exchange->free_part = free_search;
    return gateway_documents_take_body(exchange, BODY_MAXIMUM, when_whole);
}

enum http_body_mode gateway_serve_search(struct exchange *exchange) {
    return serve(exchange, COLLECTION_DOCUMENTS);
}

enum http_body_mode gateway_serve_query_search(struct exchange *exchange) {
    return serve(exchange, COLLECTION_QUERIES);
}
