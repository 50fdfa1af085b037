/* A call: one request and its answer. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http/http_pool-internal.h"

#define HEAD_EXTRA 128 /* the request line's constants, Content-Length or Transfer-Encoding, the last line */

/* ---- the end of a call --------------------------------------------------- */

static void free_call(struct http_call *call) {
    struct http_pool *pool = call->pool;
    http_later_remove(&pool->later, &call->later);
    error_free(call->error);
    free(call);
    http_pool_call_gone(pool);
}

void http_call_finished(struct http_call *call) {
    call->handler->on_end(call, call->context);
    free_call(call);
}

static void tell_failure(struct http_call *call) {
    const struct http_failure failure = {
        .answer_begun = call->answer_begun, .sent = call->was_sent, .timed_out = call->timed_out, .error = call->error};
    call->handler->on_failed(call, &failure, call->context);
    free_call(call);
}

/* Whether the request may be sent once more: the kept-alive connection was closed under it, and it is idempotent, or
 * the kernel says that the peer threw it away without having read all of it (a reset; the plain end of the stream would
 * also come from a peer that read it and died). */
static bool can_be_sent_again(const struct http_call *call, const struct http_peer *peer, int reason) {
    bool was_thrown_away = reason == UV_ECONNRESET || reason == UV_EPIPE;
    bool is_at_hand = !call->is_streamed;
    return peer->was_used && is_at_hand && !call->answer_begun &&
           (was_thrown_away || (reason == UV_EOF && call->is_idempotent));
}

void http_call_lost(struct http_call *call, int reason, bool timed_out, struct error *error) {
    struct http_peer *peer = call->peer;
    call->was_sent = peer->is_connected;
    call->timed_out = timed_out;
    bool goes_again = can_be_sent_again(call, peer, reason);
    http_peer_kill(peer);
    if (goes_again) {
        error_free(error);
        http_peer_connect(call->pool, call);
        return;
    }
    call->error = error;
    tell_failure(call);
}

/* From inside the caller's call: the loop tells it. */
static void fail_later(struct http_call *call, struct error *error) {
    if (call->error) {
        error_free(error);
        return;
    }
    call->error = error;
    call->was_sent = call->peer && call->peer->is_connected;
    if (call->peer) http_peer_kill(call->peer);
    http_later_add(&call->pool->later, &call->later);
}

static void run_later(struct http_later_item *item) {
    struct http_call *call = CONTAINER_OF(item, struct http_call, later);
    if (call->error) {
        tell_failure(call);
        return;
    }
    call->is_resuming = false;
    if (call->is_head_held && call->peer) http_call_write(call);
    if (call->peer) http_peer_run(call->peer);
}

void http_call_cancel(struct http_call *call) {
    if (call->peer) http_peer_kill(call->peer);
    free_call(call);
}

/* ---- beginning ----------------------------------------------------------- */

static bool is_ours(const struct http_header *header) {
    static const char *const names[] = {"Host", "Content-Length", "Transfer-Encoding", "Connection"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (http_header_is(header, names[i])) return true;
    return false;
}

static bool is_target(const char *target) {
    if (!*target) return false;
    for (const unsigned char *at = (const unsigned char *)target; *at; at++)
        if (*at <= 0x20 || *at >= 0x7f) return false;
    return true;
}

static bool is_idempotent(const char *method) {
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        if (!strcmp(method, methods[i])) return true;
    return false;
}

static char *put_framing(char *at, const struct http_call_request *request) {
    bool has_whole = request->body != NULL;
    if (!has_whole && !request->has_body) return at;
    if (!has_whole && request->content_length < 0) return http_put_text(at, "Transfer-Encoding: chunked\r\n");
    at = http_put_text(at, "Content-Length: ");
    at = http_put_number(at, has_whole ? request->body_size : (uint64_t)request->content_length);
    return http_put(at, "\r\n", 2);
}

static struct http_call *make_call(const struct http_call_request *request) {
    const struct http_header host = {"Host", request->host};
    size_t size = HEAD_EXTRA + strlen(request->method) + strlen(request->target) + http_header_size(&host);
    for (size_t i = 0; i < request->header_count; i++) size += http_header_size(&request->headers[i]);
    struct http_call *call = mem_alloc(sizeof *call + size);
    *call = (struct http_call){.body = request->body, .body_size = request->body_size};
    char *at = http_put_text(call->head, request->method);
    *at++ = ' ';
    at = http_put_text(at, request->target);
    at = http_put_text(at, " HTTP/1.1\r\n");
    at = http_put_header(at, &host);
    for (size_t i = 0; i < request->header_count; i++)
        if (!is_ours(&request->headers[i])) at = http_put_header(at, &request->headers[i]);
    at = put_framing(at, request);
    at = http_put(at, "\r\n", 2);
    call->head_size = (size_t)(at - call->head);
    call->is_streamed = !request->body && request->has_body;
    call->content_length = request->content_length;
    call->is_chunked = call->is_streamed && request->content_length < 0;
    call->is_body_done = !call->is_streamed;
    call->is_head_held = call->is_streamed; /* the first piece mostly follows at once */
    call->is_head = !strcmp(request->method, "HEAD");
    call->is_idempotent = is_idempotent(request->method);
    return call;
}

struct http_call *http_call(struct http_pool *pool, const struct http_call_request *request,
                            const struct http_call_handler *handler, void *context) {
    assert(!pool->is_released);
    struct http_call *call = make_call(request);
    call->pool = pool;
    call->handler = handler;
    call->context = context;
    call->later.run = run_later;
    http_link_init(&call->later.link);
    pool->in_use++;
    struct error *error = error_copy(pool->address_error);
    if (!error && (!is_target(request->target) || !http_is_token(request->method)))
        error_set(&error, ERROR_CONFIGURATION, "ask %s: the method or target cannot stand in a request",
                  pool->address_text);
    if (error) {
        fail_later(call, error);
        return call;
    }
    if (call->is_head_held) http_later_add(&pool->later, &call->later);
    if (!http_peer_reuse(pool, call)) http_peer_connect(pool, call);
    return call;
}

/* ---- the request's body -------------------------------------------------- */

static uv_buf_t part_of(const char *bytes, size_t size) {
    return (uv_buf_t){.base = (char *)bytes, .len = size};
}

/* Writes the held head, if any, and up to three parts. */
static void write_parts(struct http_call *call, const uv_buf_t *parts, unsigned count) {
    uv_buf_t all[4];
    unsigned total = 0;
    if (call->is_head_held) {
        all[total++] = part_of(call->head, call->head_size);
        call->is_head_held = false;
        if (!call->is_resuming) http_later_remove(&call->pool->later, &call->later);
    }
    for (unsigned i = 0; i < count; i++) all[total++] = parts[i];
    if (total) http_output_send(&call->peer->output, all, total, NULL);
}

void http_call_write(struct http_call *call) {
    static const struct http_lent lent = {NULL,
                                          NULL}; /* the body lives as long as the call, the call as its connection */
    const uv_buf_t parts[] = {part_of(call->head, call->head_size), part_of(call->body, call->body_size)};
    if (call->is_head_held)
        write_parts(call, NULL, 0);
    else if (call->body_size)
        http_output_send(&call->peer->output, parts, 2, &lent);
    else
        http_output_send(&call->peer->output, parts, 1, NULL);
}

static void fail_length(struct http_call *call) {
    struct error *error = NULL;
    error_set(&error, ERROR_UNAVAILABLE, "%s: the body has another length than was announced",
              call->pool->address_text);
    fail_later(call, error);
}

bool http_call_send(struct http_call *call, const char *bytes, size_t size) {
    if (!call->peer || !size) return true;
    assert(call->is_streamed && !call->is_body_done);
    call->body_sent += size;
    if (!call->is_chunked && call->body_sent > (uint64_t)call->content_length) {
        fail_length(call);
        return true;
    }
    char line[20];
    const uv_buf_t parts[] = {part_of(line, 0), part_of(bytes, size), part_of("\r\n", 2)};
    if (call->is_chunked) {
        const uv_buf_t chunk[] = {part_of(line, (size_t)(http_put_chunk_size(line, size) - line)), parts[1], parts[2]};
        write_parts(call, chunk, 3);
    } else {
        write_parts(call, &parts[1], 1);
    }
    if (call->peer->output.waiting <= HTTP_OUTPUT_FULL) return true;
    call->was_told_full = true;
    return false;
}

void http_call_end_body(struct http_call *call) {
    if (!call->peer || call->is_body_done) return;
    if (!call->is_chunked && call->body_sent < (uint64_t)call->content_length) {
        fail_length(call);
        return;
    }
    call->is_body_done = true;
    const uv_buf_t last = part_of("0\r\n\r\n", 5);
    write_parts(call, &last, call->is_chunked);
    call->peer->since_ms = http_pool_now(call->pool);
}

void http_call_room(struct http_call *call) {
    if (!call->was_told_full || call->is_body_done) return;
    call->was_told_full = false;
    if (call->handler->on_writable) call->handler->on_writable(call, call->context);
}

/* ---- the answer's body --------------------------------------------------- */

void http_call_pause(struct http_call *call) {
    call->is_paused = true;
    if (call->peer && !call->peer->is_running) http_peer_update_reading(call->peer);
}

void http_call_resume(struct http_call *call) {
    if (!call->is_paused) return;
    call->is_paused = false;
    if (!call->peer) return;
    call->peer->since_ms = http_pool_now(call->pool);
    if (call->peer->is_running) return;
    call->is_resuming = true;
    http_later_add(&call->pool->later, &call->later);
}
