/* One document: PUT, GET, DELETE. What is sent is parsed on the worker that appends it; what is read is written as JSON
 * on a worker too. Bulk writes are in gateway_bulk.c, the export in gateway_export.c, searches in gateway_search.c. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "collection/documents.h"
#include "gateway/gateway-internal.h"

/* Every byte of a document may be written as \u00xx, and its members have names. */
#define ESCAPED_BYTES 6
#define AROUND_BYTES 4096

/* ---- what all of them begin and end with -------------------------------------- */

bool gateway_documents_begin(struct exchange *exchange, char **ret_document_id) {
    const struct gateway_slice *segments = exchange->match.parameters;
    int shown = (int)(segments[0].size < 256 ? segments[0].size : 256);
    if (!gateway_read_name(&segments[0], exchange->collection_name)) {
        exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "there is no collection %.*s: that is no name", shown,
                           segments[0].bytes);
        return false;
    }
    if (!ret_document_id) return true;
    struct error *error = NULL;
    size_t size = 0;
    if (!text_percent_decode(segments[1].bytes, segments[1].size, ret_document_id, &size)) {
        exchange_fail_with(exchange, ERROR_REQUEST, 400, "the document's id is not percent-encoded text");
        return false;
    }
    if (!collection_check_id(*ret_document_id, size, &error)) return true;
    free(TAKE(*ret_document_id));
    exchange_fail(exchange, error);
    return false;
}

bool gateway_documents_check_parameters(struct exchange *exchange, const char *known) {
    struct error *error = NULL;
    if (!http_check_parameters(exchange->request, &known, known ? 1 : 0, &error)) return true;
    exchange_fail(exchange, error);
    return false;
}

bool gateway_documents_take_options(struct exchange *exchange, bool *ret_waits_indexed) {
    *ret_waits_indexed = false;
    if (!gateway_documents_check_parameters(exchange, "wait")) return false;
    const char *wait = http_request_parameter(exchange->request, "wait");
    if (!wait) return true;
    *ret_waits_indexed = text_equal(wait, "indexed");
    if (*ret_waits_indexed) return true;
    exchange_fail_with(exchange, ERROR_CONFIGURATION, 400, "wait=%.64s is not known here: only wait=indexed is", wait);
    return false;
}

enum http_body_mode gateway_documents_take_body(struct exchange *exchange, size_t maximum,
                                                void (*when_whole)(struct exchange *exchange)) {
    exchange->request->body_maximum = maximum;
    exchange->when_body_whole = when_whole;
    exchange_set_step(exchange, EXCHANGE_BODY);
    return HTTP_BODY_WHOLE;
}

void gateway_documents_work(struct exchange *exchange, struct gateway_workers *workers,
                            void (*run)(struct gateway_work *work), void (*done)(struct gateway_work *work)) {
    /* Whoever is gone hears of it a round later; a replica's answer may come before, also when the gateway has ended
     * and has no workers any more. */
    if (http_is_gone(exchange->request)) {
        exchange_break(exchange);
        return;
    }
    exchange_set_step(exchange, EXCHANGE_WORKING);
    exchange->is_with_worker = true;
    exchange->work = (struct gateway_work){.run = run, .done = done};
    gateway_workers_put(workers, &exchange->work);
}

/* A log that cannot be written or read is nothing that the client can mend: 503, with the reason. */
void gateway_documents_fail(struct exchange *exchange, struct error *error) {
    if (error->class != ERROR_DEPLOYMENT && error->class != ERROR_CONFIGURATION) {
        exchange_fail(exchange, error);
        return;
    }
    _cleanup_free_ char *text = error_text(error);
    error_free(error);
    exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "collection %s: %s", exchange->collection_name, text);
}

static void respond_json(struct exchange *exchange, yyjson_mut_doc *document) {
    size_t size;
    char *json = json_write(document, &size);
    exchange_respond_owned(exchange, 200, "application/json", json, size);
}

/* ---- writing one ----------------------------------------------------------------- */

/* What a PUT or DELETE keeps. */
struct single {
    struct exchange *exchange;
    char *id;
    bool is_delete, waits_indexed;
    struct collection_document document;
    struct collection_write write;
    struct gateway_batch batch;
    struct error *bad; /* what was sent is not a document */
    int refused; /* of the pair's index: 1, with `detail`; 0; or negative, with `error` */
    char *detail;
    struct error *error;
};

static void free_single(void *part) {
    struct single *single = part;
    collection_document_clear(&single->document);
    error_free(single->bad);
    error_free(single->batch.error);
    error_free(single->error);
    free(single->detail);
    free(single->id);
    free(single);
}

/* On the worker. */
static void prepare(struct gateway_batch *batch) {
    struct single *single = CONTAINER_OF(batch, struct single, batch);
    const struct http_request *request = single->exchange->request;
    size_t maximum = single->exchange->gateway->settings->document_maximum;
    single->write = (struct collection_write){.id = single->id};
    if (!single->is_delete) {
        if (collection_parse_document(request->body, request->body_size, maximum, &single->document, &single->bad))
            return;
        single->write.text = single->document.text;
        single->write.payload_json = single->document.payload_json;
    }
    batch->writes = &single->write;
    batch->count = 1;
}

static void answer_write(struct exchange *exchange) {
    const struct single *single = exchange->part;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_str(document, root, "id", single->id);
    yyjson_mut_obj_add_uint(document, root, "seq", single->write.seq);
    if (single->waits_indexed) yyjson_mut_obj_add_bool(document, root, "indexed", !single->refused);
    json_add_text(document, root, "detail", single->detail);
    respond_json(exchange, document);
}

/* Whether the index that is blue now refused the text (L9). */
static int find_refusal(struct single *single) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_pair pair = {0};
    struct error **error = &single->error;
    int failed = collection_read_begin(single->exchange->collection->log, COLLECTION_DOCUMENTS, &read, error);
    if (!failed) failed = collection_load_pair(read, &pair, error);
    if (failed) return failed;
    int found = collection_find_failure(read, pair.index_id, single->write.seq, &single->detail, error);
    collection_pair_clear(&pair);
    return found;
}

static void run_find_refusal(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct single *single = exchange->part;
    single->refused = find_refusal(single);
}

static void done_find_refusal(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct single *single = exchange->part;
    exchange->is_with_worker = false;
    if (single->refused < 0)
        gateway_documents_fail(exchange, TAKE(single->error));
    else
        answer_write(exchange);
}

static void when_indexed(struct exchange *exchange) {
    gateway_documents_work(exchange, exchange->gateway->collections.logs, run_find_refusal, done_find_refusal);
}

static void done_writing(struct gateway_batch *batch) {
    struct single *single = CONTAINER_OF(batch, struct single, batch);
    struct exchange *exchange = single->exchange;
    exchange->is_with_worker = false;
    if (single->bad)
        exchange_fail(exchange, TAKE(single->bad));
    else if (batch->error)
        gateway_documents_fail(exchange, TAKE(batch->error));
    else if (!single->write.seq)
        exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "collection %s has no document %s",
                           exchange->collection_name, single->id);
    else if (http_is_gone(exchange->request))
        exchange_break(exchange); /* it is written all the same */
    else if (single->waits_indexed)
        gateway_indexed_wait(exchange, single->write.seq, when_indexed);
    else
        answer_write(exchange);
}

static void write_now(struct exchange *exchange) {
    struct gateway_collection *collection = exchange->collection;
    struct single *single = exchange->part;
    exchange->figures = &collection->writes;
    if (!gateway_collection_has_room(collection)) {
        exchange_fail_with(exchange, ERROR_REQUEST, 429,
                           "collection %s: %zu writes are waiting, which is the most "
                           "(queue_maximum)",
                           exchange->collection_name, collection->waiting.count);
        return;
    }
    exchange_set_step(exchange, EXCHANGE_WAITING);
    exchange->is_with_worker = true;
    single->batch.prepare = prepare;
    single->batch.done = done_writing;
    single->batch.bytes = exchange->request->body_size + strlen(single->id);
    gateway_collection_write(collection, &single->batch);
}

static void admit_write(struct exchange *exchange) {
    gateway_collection_admit(exchange, write_now);
}

static bool begin_single(struct exchange *exchange, bool is_delete) {
    _cleanup_free_ char *id = NULL;
    bool waits_indexed;
    if (!gateway_documents_begin(exchange, &id) || !gateway_documents_take_options(exchange, &waits_indexed))
        return false;
    struct single *single = mem_new(struct single);
    *single =
        (struct single){.exchange = exchange, .id = TAKE(id), .is_delete = is_delete, .waits_indexed = waits_indexed};
    exchange->part = single;
    exchange->free_part = free_single;
    return true;
}

enum http_body_mode gateway_serve_document_put(struct exchange *exchange) {
    const struct settings *settings = exchange->gateway->settings;
    if (!begin_single(exchange, false)) return HTTP_BODY_WHOLE;
    return gateway_documents_take_body(exchange, ESCAPED_BYTES * settings->document_maximum + AROUND_BYTES,
                                       admit_write);
}

enum http_body_mode gateway_serve_document_delete(struct exchange *exchange) {
    if (!begin_single(exchange, true)) return HTTP_BODY_WHOLE;
    return gateway_documents_take_body(exchange, GATEWAY_NO_BODY_MAXIMUM, admit_write);
}

/* ---- reading one ------------------------------------------------------------------- */

struct reading {
    char *id, *json;
    size_t size;
    struct error *error;
};

static void free_reading(void *part) {
    struct reading *reading = part;
    free(reading->id);
    free(reading->json);
    error_free(reading->error);
    free(reading);
}

/* The payload is put in as it is kept. */
char *gateway_documents_write_row(const struct collection_row *row, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_str(document, root, "id", row->id);
    yyjson_mut_obj_add_str(document, root, "text", row->text);
    yyjson_mut_obj_add_val(document, root, "payload",
                           yyjson_mut_raw(document, row->payload_json ? row->payload_json : "{}"));
    yyjson_mut_obj_add_uint(document, root, "seq", row->seq);
    json_add_time(document, root, "updated_at", row->at);
    return json_write(document, ret_size);
}

static void run_reading(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct reading *reading = exchange->part;
    _cleanup_read_ struct collection_read *read = NULL;
    _cleanup_collection_row_ struct collection_row row = {0};
    if (collection_read_begin(exchange->collection->log, COLLECTION_DOCUMENTS, &read, &reading->error)) return;
    if (collection_find(read, reading->id, &row, &reading->error)) return;
    reading->json = gateway_documents_write_row(&row, &reading->size);
}

static void done_reading(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct reading *reading = exchange->part;
    exchange->is_with_worker = false;
    if (reading->error)
        gateway_documents_fail(exchange, TAKE(reading->error));
    else
        exchange_respond_owned(exchange, 200, "application/json", TAKE(reading->json), reading->size);
}

static void read_now(struct exchange *exchange) {
    gateway_documents_work(exchange, exchange->gateway->collections.logs, run_reading, done_reading);
}

static void admit_reading(struct exchange *exchange) {
    gateway_collection_admit(exchange, read_now);
}

enum http_body_mode gateway_serve_document_get(struct exchange *exchange) {
    _cleanup_free_ char *id = NULL;
    if (!gateway_documents_begin(exchange, &id) || !gateway_documents_check_parameters(exchange, NULL))
        return HTTP_BODY_WHOLE;
    struct reading *reading = mem_new(struct reading);
    reading->id = TAKE(id);
    exchange->part = reading;
    exchange->free_part = free_reading;
    return gateway_documents_take_body(exchange, GATEWAY_NO_BODY_MAXIMUM, admit_reading);
}
