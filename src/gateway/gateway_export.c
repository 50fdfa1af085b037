/* GET …/documents: every living document as a line of NDJSON, in the order of their numbers. Pages are read on a
 * worker, each in a short read transaction of its own, as the client takes them; a document that is rewritten meanwhile
 * may come twice, the newer one later. `after` goes on behind a number. What cannot be read to its end breaks off
 * without one, so that nobody takes it for the whole. */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

#define PAGE_BYTES (256u * 1024)
#define PAGE_ROWS 1000

struct export {
    uint64_t after;
    struct buffer page;
    size_t rows; /* in the page; 0: it was the last */
    bool client_is_full;
    struct error *error;
};

static void free_export(void *part) {
    struct export *export = part;
    buffer_clear(&export->page);
    error_free(export->error);
    free(export);
}

/* ---- on the worker ----------------------------------------------------------- */

static bool take_row(void *context, const struct collection_row *row) {
    struct export *export = context;
    size_t size;
    _cleanup_free_ char *line = gateway_documents_write_row(row, &size);
    if (!buffer_append(&export->page, line, size) || !buffer_append(&export->page, "\n", 1)) {
        error_set(&export->error, ERROR_UNAVAILABLE, "there is no memory for a page");
        return false;
    }
    export->after = row->seq;
    export->rows++;
    return export->rows < PAGE_ROWS && export->page.size < PAGE_BYTES;
}

static void run_page(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct export *export = exchange->part;
    _cleanup_read_ struct collection_read *read = NULL;
    export->page.size = export->rows = 0;
    if (collection_read_begin(exchange->collection->log, COLLECTION_DOCUMENTS, &read, &export->error)) return;
    collection_each_live(read, export->after, true, take_row, export, &export->error);
}

/* ---- on the loop --------------------------------------------------------------- */

static void read_page(struct exchange *exchange);

/* Newest routes for each page (R1): an export may last longer than they. */
static void next_page(struct exchange *exchange) {
    gateway_collection_admit(exchange, read_page);
}

static void break_off(struct exchange *exchange) {
    struct export *export = exchange->part;
    _cleanup_free_ char *text = error_text(export->error);
    log_write(LOG_WARNING, "an export breaks off", "collection", exchange->collection_name, "cause", text, NULL);
    exchange_break(exchange);
}

/* Without routes: it may take as long as it likes (R1). */
static void wait_for_room(struct exchange *exchange) {
    struct export *export = exchange->part;
    export->client_is_full = true;
    if (exchange->snapshot) gateway_snapshot_release(TAKE(exchange->snapshot));
}

static void begin(struct exchange *exchange) {
    const struct http_header headers[] = {{"Content-Type", "application/x-ndjson"},
                                          {"X-Request-Id", exchange->request_id}};
    exchange->status = 200;
    http_begin(exchange->request, 200, headers, ARRAY_SIZE(headers), -1);
}

static void done_page(struct gateway_work *work) {
    struct exchange *exchange = CONTAINER_OF(work, struct exchange, work);
    struct export *export = exchange->part;
    exchange->is_with_worker = false;
    if (http_is_gone(exchange->request)) {
        exchange_break(exchange);
    } else if (export->error && !http_has_begun(exchange->request)) {
        gateway_documents_fail(exchange, TAKE(export->error));
    } else if (export->error) {
        break_off(exchange);
    } else {
        exchange_set_step(exchange, EXCHANGE_ANSWERING);
        if (!exchange->status) begin(exchange);
        bool is_last = !export->rows || !text_equal(exchange->request->method, "GET");
        exchange->answer_bytes += export->page.size;
        bool has_room = !export->page.size || http_send(exchange->request, export->page.bytes, export->page.size);
        if (is_last)
            exchange_end(exchange);
        else if (has_room)
            next_page(exchange);
        else
            wait_for_room(exchange);
    }
}

static void read_page(struct exchange *exchange) {
    gateway_documents_work(exchange, exchange->gateway->collections.logs, run_page, done_page);
}

static void when_writable(struct exchange *exchange) {
    struct export *export = exchange->part;
    if (!export->client_is_full) return;
    export->client_is_full = false;
    next_page(exchange);
}

static bool take_after(struct exchange *exchange, uint64_t *ret_after) {
    *ret_after = 0;
    if (!gateway_documents_check_parameters(exchange, "after")) return false;
    const char *after = http_request_parameter(exchange->request, "after");
    if (!after || text_parse_number(after, INT64_MAX, ret_after)) return true;
    exchange_fail_with(exchange, ERROR_CONFIGURATION, 400, "after=%.32s is not the number of a document", after);
    return false;
}

enum http_body_mode gateway_serve_documents_export(struct exchange *exchange) {
    uint64_t after;
    if (!gateway_documents_begin(exchange, NULL) || !take_after(exchange, &after)) return HTTP_BODY_WHOLE;
    struct export *export = mem_new(struct export);
    export->after = after;
    exchange->part = export;
    exchange->free_part = free_export;
    exchange->when_writable = when_writable;
    return gateway_documents_take_body(exchange, GATEWAY_NO_BODY_MAXIMUM, next_page);
}
