/* Many documents in one request: NDJSON, taken as it comes, or a list. The answer is 200 whatever became of the lines.
 *
 * A stream is written in pieces: what has come while the piece before was being written goes next, up to PIECE_BYTES;
 * when that much waits the client is held back. Each piece is one append, and stands whatever becomes of the next. A
 * list is one append. Bad items are told by line (of a list: by position, from 1), with why; all others stand. Of equal
 * ids the last one wins: they are rows of the log in their order. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "collection/documents.h"
#include "gateway/gateway-internal.h"

#define PIECE_BYTES (512u * 1024)
#define ERRORS_MAXIMUM 1000 /* that are told; all are counted */

struct bad_item {
    uint64_t line;
    char *id, *detail; /* id NULL: it has none */
};

struct item {
    struct collection_document document;
    uint64_t line;
};

struct bulk {
    struct exchange *exchange;
    bool is_list, waits_indexed;
    struct buffer gathering; /* of a stream: what has come */
    struct gateway_batch batch;

    /* the worker's while a batch is under way: */
    struct buffer piece; /* what it writes */
    bool is_last;
    struct collection_lines lines;
    struct item *items;
    struct collection_write *writes; /* of each item */
    size_t count, capacity;
    struct error *bad; /* the whole of it: not a list */

    uint64_t accepted, bad_count, first_seq, last_seq;
    struct bad_item errors[ERRORS_MAXIMUM];
    size_t error_count;
    bool is_writing; /* a piece is on its way */
    bool is_open, is_lost; /* is_lost: there was no memory for what came */

    /* of the blue index, when it was asked for: */
    uint64_t refused;
    char *refusal;
    struct error *error;
};

static void clear_items(struct bulk *bulk) {
    for (size_t i = 0; i < bulk->count; i++) collection_document_clear(&bulk->items[i].document);
    bulk->count = 0;
}

static void free_bulk(void *part) {
    struct bulk *bulk = part;
    clear_items(bulk);
    free(bulk->items);
    free(bulk->writes);
    buffer_clear(&bulk->gathering);
    buffer_clear(&bulk->piece);
    collection_lines_clear(&bulk->lines);
    for (size_t i = 0; i < bulk->error_count; i++) {
        free(bulk->errors[i].id);
        free(bulk->errors[i].detail);
    }
    free(bulk->refusal);
    error_free(bulk->bad);
    error_free(bulk->batch.error);
    error_free(bulk->error);
    free(bulk);
}

/* ---- on the worker --------------------------------------------------------------- */

/* Takes both. */
static void note_bad(struct bulk *bulk, uint64_t line, char *id, struct error *error) {
    bulk->bad_count++;
    if (bulk->error_count < ERRORS_MAXIMUM)
        bulk->errors[bulk->error_count++] = (struct bad_item){line, TAKE(id), error_text(error)};
    free(id);
    error_free(error);
}

static struct item *next_item(struct bulk *bulk, uint64_t line) {
    if (bulk->count == bulk->capacity) {
        bulk->capacity = bulk->capacity ? 2 * bulk->capacity : 64;
        bulk->items = mem_resize(bulk->items, bulk->capacity, sizeof *bulk->items);
    }
    bulk->items[bulk->count] = (struct item){.line = line};
    return &bulk->items[bulk->count];
}

static void take_item(struct bulk *bulk, struct item *item, int failed, struct error *error) {
    if (!failed) {
        bulk->count++;
        return;
    }
    note_bad(bulk, item->line, TAKE(item->document.id), error);
    collection_document_clear(&item->document);
}

static void take_line(struct bulk *bulk, const struct collection_line *line) {
    size_t maximum = bulk->exchange->gateway->settings->document_maximum;
    struct item *item = next_item(bulk, line->number);
    struct error *error = NULL;
    int failed = line->too_long ? error_set_status(&error, ERROR_REQUEST, 413, "longer than a document may be")
                                : collection_parse_item(line->bytes, line->size, maximum, &item->document, &error);
    take_item(bulk, item, failed, error);
}

static void take_lines(struct bulk *bulk) {
    struct collection_line line;
    collection_lines_feed(&bulk->lines, bulk->piece.size ? bulk->piece.bytes : "", bulk->piece.size, bulk->is_last);
    while (collection_lines_next(&bulk->lines, &line)) take_line(bulk, &line);
}

static int take_list(struct bulk *bulk, struct error **ret_error) {
    static const char *const known[] = {"documents"};
    const struct http_request *request = bulk->exchange->request;
    _cleanup_json_ yyjson_doc *body = NULL;
    yyjson_val *root, *member;
    int failed = json_parse_object(request->body, request->body_size, &body, &root, ret_error);
    if (!failed) failed = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (failed) return failed;
    yyjson_val *list = yyjson_obj_get(root, "documents");
    if (!yyjson_is_arr(list)) return error_set(ret_error, ERROR_CONFIGURATION, "documents must be a list of documents");
    size_t index, size, maximum = bulk->exchange->gateway->settings->document_maximum;
    yyjson_arr_foreach(list, index, size, member) {
        struct item *item = next_item(bulk, index + 1);
        struct error *error = NULL;
        int bad = collection_read_item(member, maximum, &item->document, &error);
        take_item(bulk, item, bad, error);
    }
    return 0;
}

static void prepare(struct gateway_batch *batch) {
    struct bulk *bulk = CONTAINER_OF(batch, struct bulk, batch);
    clear_items(bulk);
    if (bulk->is_list)
        take_list(bulk, &bulk->bad);
    else
        take_lines(bulk);
    if (bulk->capacity) bulk->writes = mem_resize(bulk->writes, bulk->capacity, sizeof *bulk->writes);
    for (size_t i = 0; i < bulk->count; i++) {
        const struct collection_document *document = &bulk->items[i].document;
        bulk->writes[i] = (struct collection_write){
            .id = document->id, .text = document->text, .payload_json = document->payload_json};
    }
    batch->writes = bulk->writes;
    batch->count = bulk->count;
}

/* ---- the answer ------------------------------------------------------------------- */

static int by_line(const void *a, const void *b) {
    uint64_t left = ((const struct bad_item *)a)->line, right = ((const struct bad_item *)b)->line;
    return left < right ? -1 : left > right;
}

static void add_outcome(yyjson_mut_doc *document, yyjson_mut_val *root, const void *context) {
    const struct bulk *bulk = context;
    yyjson_mut_obj_add_uint(document, root, "seq", bulk->last_seq);
    yyjson_mut_obj_add_uint(document, root, "accepted", bulk->accepted);
    yyjson_mut_obj_add_uint(document, root, "rejected", bulk->bad_count);
    yyjson_mut_val *errors = yyjson_mut_obj_add_arr(document, root, "errors");
    for (size_t i = 0; i < bulk->error_count; i++) {
        yyjson_mut_val *error = yyjson_mut_arr_add_obj(document, errors);
        yyjson_mut_obj_add_uint(document, error, "line", bulk->errors[i].line);
        json_add_text(document, error, "id", bulk->errors[i].id);
        yyjson_mut_obj_add_str(document, error, "detail", bulk->errors[i].detail);
    }
}

static void answer(struct exchange *exchange) {
    struct bulk *bulk = exchange->part;
    qsort(bulk->errors, bulk->error_count, sizeof *bulk->errors, by_line);
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    add_outcome(document, root, bulk);
    if (bulk->waits_indexed) yyjson_mut_obj_add_bool(document, root, "indexed", !bulk->refused);
    json_add_text(document, root, "detail", bulk->refusal);
    size_t size;
    char *json = json_write(document, &size);
    exchange_respond_owned(exchange, 200, "application/json", json, size);
}

/* What was written before stands, and is told. */
static void fail(struct exchange *exchange, struct error *error) {
    const struct bulk *bulk = exchange->part;
    if (!bulk->accepted && !bulk->bad_count) {
        gateway_documents_fail(exchange, error);
        return;
    }
    struct error *told = NULL;
    _cleanup_free_ char *text = error_text(error);
    bool is_ours = error->class == ERROR_DEPLOYMENT || error->class == ERROR_CONFIGURATION;
    error_set_status(&told, is_ours ? ERROR_UNAVAILABLE : error->class, is_ours ? 503 : error->http_status,
                     "written up to number %llu, then: %s", (unsigned long long)bulk->last_seq, text);
    error_free(error);
    exchange_fail_with_members(exchange, told, add_outcome, bulk);
}

static void fail_lost(struct exchange *exchange) {
    struct error *error = NULL;
    error_set(&error, ERROR_UNAVAILABLE, "there is no memory for what comes");
    fail(exchange, error);
}

/* ---- what the model refused --------------------------------------------------------- */

/* Of the index that is blue now, in the range that this request wrote in. */
static int find_refusals(struct bulk *bulk, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_pair pair = {0};
    struct collection_failure *failures = NULL;
    size_t count = 0;
    uint64_t total;
    int failed = collection_read_begin(bulk->exchange->collection->log, COLLECTION_DOCUMENTS, &read, ret_error);
    if (!failed) failed = collection_load_pair(read, &pair, ret_error);
    if (failed) return failed;
    failed = collection_list_failures(read, pair.index_id, bulk->first_seq - 1, ERRORS_MAXIMUM, &failures, &count,
                                      &total, ret_error);
    collection_pair_clear(&pair);
    for (size_t i = 0; i < count; i++)
        if (failures[i].seq <= bulk->last_seq) bulk->refused++;
    if (bulk->refused)
        bulk->refusal =
            text_format("the model refused %llu of the documents from number %llu to %llu; the first: %s: %s",
                        (unsigned long long)bulk->refused, (unsigned long long)bulk->first_seq,
                        (unsigned long long)bulk->last_seq, failures[0].id, failures[0].detail);
    collection_failures_free(failures, count);
    return failed;
}

static void run_find_refusals(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct bulk *bulk = exchange->part;
    find_refusals(bulk, &bulk->error);
}

static void done_find_refusals(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct bulk *bulk = exchange->part;
    exchange->is_with_worker = false;
    if (bulk->error)
        fail(exchange, TAKE(bulk->error));
    else
        answer(exchange);
}

static void when_indexed(struct exchange *exchange) {
    gateway_documents_work(exchange, exchange->gateway->collections.logs, run_find_refusals, done_find_refusals);
}

/* ---- writing ------------------------------------------------------------------------- */

static void write_next(struct exchange *exchange);

static void note_missing(struct bulk *bulk, size_t index) {
    struct error *error = NULL;
    error_set(&error, ERROR_NOT_FOUND, "there is no such document to delete");
    note_bad(bulk, bulk->items[index].line, TAKE(bulk->items[index].document.id), error);
}

static void count_written(struct bulk *bulk) {
    for (size_t i = 0; i < bulk->batch.count; i++) {
        uint64_t seq = bulk->writes[i].seq;
        if (!seq) {
            note_missing(bulk, i);
            continue;
        }
        bulk->accepted++;
        if (!bulk->first_seq) bulk->first_seq = seq;
        bulk->last_seq = seq;
    }
}

static void done_writing(struct gateway_batch *batch) {
    struct bulk *bulk = CONTAINER_OF(batch, struct bulk, batch);
    struct exchange *exchange = bulk->exchange;
    exchange->is_with_worker = bulk->is_writing = false;
    bulk->piece.size = 0;
    if (!batch->error) count_written(bulk);
    if (http_is_gone(exchange->request))
        exchange_break(exchange); /* what is written is written */
    else if (bulk->is_lost)
        fail_lost(exchange);
    else if (bulk->bad)
        exchange_fail(exchange, TAKE(bulk->bad));
    else if (batch->error)
        fail(exchange, TAKE(batch->error));
    else if (!bulk->is_list && !bulk->is_last)
        write_next(exchange);
    else if (bulk->waits_indexed && bulk->last_seq)
        gateway_indexed_wait(exchange, bulk->last_seq, when_indexed);
    else
        answer(exchange);
}

static void write_batch(struct exchange *exchange, size_t bytes) {
    struct bulk *bulk = exchange->part;
    exchange_set_step(exchange, EXCHANGE_WAITING);
    exchange->is_with_worker = true;
    bulk->batch = (struct gateway_batch){.prepare = prepare, .done = done_writing, .bytes = bytes};
    gateway_collection_write(exchange->collection, &bulk->batch);
}

/* ---- a list ---------------------------------------------------------------------------- */

static void write_list(struct exchange *exchange) {
    exchange->figures = &exchange->collection->writes;
    if (gateway_collection_has_room(exchange->collection))
        write_batch(exchange, exchange->request->body_size);
    else
        exchange_fail_with(exchange, ERROR_REQUEST, 429, "collection %s: too many writes are waiting (queue_maximum)",
                           exchange->collection_name);
}

static void admit_list(struct exchange *exchange) {
    gateway_collection_admit(exchange, write_list);
}

/* ---- a stream --------------------------------------------------------------------------- */

/* The routes may have changed since the piece before; this one takes the newest (R1). */
static void write_piece(struct exchange *exchange) {
    struct bulk *bulk = exchange->part;
    struct buffer empty = bulk->piece;
    bulk->piece = bulk->gathering;
    bulk->gathering = empty;
    bulk->gathering.size = 0;
    bulk->is_last = exchange->body_has_ended;
    write_batch(exchange, bulk->piece.size);
    if (!exchange->body_has_ended) http_resume_body(exchange->request);
}

/* Between pieces no routes are held, so that a slow client keeps none. */
static void write_next(struct exchange *exchange) {
    struct bulk *bulk = exchange->part;
    bulk->is_writing = bulk->gathering.size || exchange->body_has_ended;
    if (bulk->is_writing) {
        gateway_collection_admit(exchange, write_piece);
        return;
    }
    if (exchange->step != EXCHANGE_BODY) exchange_set_step(exchange, EXCHANGE_BODY);
    if (exchange->snapshot) gateway_snapshot_release(TAKE(exchange->snapshot));
    http_resume_body(exchange->request);
}

static void when_open(struct exchange *exchange) {
    struct bulk *bulk = exchange->part;
    exchange->figures = &exchange->collection->writes;
    bulk->is_open = true;
    write_next(exchange);
}

static void stream_begins(struct exchange *exchange) {
    http_pause_body(exchange->request);
    gateway_collection_admit(exchange, when_open); /* 404 now, and not after the upload */
}

static void stream_piece(struct exchange *exchange, const char *bytes, size_t size) {
    struct bulk *bulk = exchange->part;
    if (!buffer_append(&bulk->gathering, bytes, size)) bulk->is_lost = true;
    bool is_idle = bulk->is_open && !bulk->is_writing;
    if (is_idle && bulk->is_lost)
        fail_lost(exchange);
    else if (is_idle)
        write_next(exchange);
    else if (bulk->gathering.size >= PIECE_BYTES)
        http_pause_body(exchange->request);
}

static void stream_end(struct exchange *exchange) {
    struct bulk *bulk = exchange->part;
    exchange->body_has_ended = true;
    if (bulk->is_open && !bulk->is_writing) write_next(exchange);
}

static const struct exchange_stream bulk_stream = {.begins = stream_begins, .piece = stream_piece, .end = stream_end};

/* application/json is a list; whatever else it is called, it is taken as lines. */
static bool is_list(const struct http_request *request) {
    static const char json[] = "application/json";
    const char *type = http_request_header(request, "Content-Type");
    if (!type) return false;
    for (size_t i = 0; i < sizeof json - 1; i++)
        if ((type[i] | 0x20) != (json[i] | 0x20)) return false;
    return !type[sizeof json - 1] || strchr("; \t", type[sizeof json - 1]);
}

enum http_body_mode gateway_serve_documents_write(struct exchange *exchange) {
    bool waits_indexed;
    if (!gateway_documents_begin(exchange, NULL) || !gateway_documents_take_options(exchange, &waits_indexed))
        return HTTP_BODY_WHOLE;
    const struct settings *settings = exchange->gateway->settings;
    struct bulk *bulk = mem_new(struct bulk);
    bulk->exchange = exchange;
    bulk->is_list = is_list(exchange->request);
    bulk->waits_indexed = waits_indexed;
    bulk->lines.maximum = collection_line_maximum(settings->document_maximum);
    exchange->part = bulk;
    exchange->free_part = free_bulk;
    if (bulk->is_list) return gateway_documents_take_body(exchange, settings->body_maximum, admit_list);
    exchange->request->body_maximum = SIZE_MAX / 4; /* a stream has no end that is known */
    exchange->stream = &bulk_stream;
    exchange->body_is_streamed = true;
    exchange_set_step(exchange, EXCHANGE_BODY);
    return HTTP_BODY_STREAM;
}
