/* A client's connection: connecting, reading answers, going back to the pool. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "http/http_pool-internal.h"

static void detach(struct http_peer *peer) {
    if (peer->call) peer->call->peer = NULL;
    peer->call = NULL;
}

/* ---- life ---------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle) {
    struct http_peer *peer = handle->data;
    struct http_pool *pool = peer->pool;
    http_output_clear(&peer->output);
    http_message_free(&peer->message);
    buffer_clear(&peer->late);
    free(peer);
    http_pool_peer_gone(pool);
}

static void leave_idle(struct http_peer *peer) {
    http_link_remove(&peer->link);
    if (peer->is_idle) peer->pool->idle_count--;
    peer->is_idle = false;
}

void http_peer_kill(struct http_peer *peer) {
    if (peer->is_dead) return;
    peer->is_dead = true;
    leave_idle(peer);
    detach(peer);
    uv_close(&peer->handle.any, on_closed);
}

/* ---- what the answer brings ---------------------------------------------- */

/* The call fails because of what the peer did. */
static void fail(struct http_peer *peer, int reason, const char *text) {
    struct error *error = NULL;
    error_set(&error, ERROR_UNAVAILABLE, "%s: %s", peer->pool->address_text, text);
    error_mark_transient(&error);
    http_call_lost(peer->call, reason, false, error);
}

/* What is wrong with an answer's head, or NULL. */
static const char *check_head(const struct http_message *message) {
    const llhttp_t *parser = &message->parser;
    if (parser->http_major != 1) return "the answer is not HTTP/1.1";
    if (parser->status_code < 200 || parser->status_code > 599) return "the answer has a status that is none";
    size_t codings = 0;
    const char *coding = NULL;
    for (size_t i = 0; i < message->header_count; i++) {
        if (!http_header_is(&message->headers[i], "Transfer-Encoding")) continue;
        codings++;
        coding = message->headers[i].value;
    }
    if (codings && (codings > 1 || strcasecmp(coding, "chunked")))
        return "the answer has a transfer coding other than chunked";
    if (codings && message->content_length >= 0) return "the answer has conflicting lengths";
    return NULL;
}

static void take_head(struct http_peer *peer) {
    const struct http_message *message = &peer->message;
    struct http_call *call = peer->call;
    const char *trouble = check_head(message);
    if (trouble) {
        fail(peer, UV_EPROTO, trouble);
        return;
    }
    int status = message->parser.status_code;
    struct http_answer answer = {.status = status, .headers = message->headers, .header_count = message->header_count};
    answer.content_length = http_message_is_chunked(message) ? -1 : message->content_length;
    if (answer.content_length < 0 && (status == 204 || status == 304)) answer.content_length = 0;
    call->has_head = true;
    call->handler->on_head(call, &answer, call->context);
}

static size_t buffered(const struct http_peer *peer) {
    return http_message_unparsed(&peer->message) + peer->late.size - peer->late_used + peer->fresh_size;
}

static void take_end(struct http_peer *peer) {
    struct http_call *call = peer->call;
    bool is_reusable = llhttp_should_keep_alive(&peer->message.parser) && call->is_body_done &&
                       http_output_is_empty(&peer->output) && !peer->output.failure && !buffered(peer);
    detach(peer);
    if (is_reusable) {
        peer->was_used = true;
        http_message_restart(&peer->message);
        http_link_remove(&peer->link);
        http_pool_peer_idle(peer);
    } else {
        http_peer_kill(peer);
    }
    http_call_finished(call);
}

static enum http_event next_event(struct http_peer *peer) {
    struct http_message *message = &peer->message;
    if (message->in_head || http_message_unparsed(message)) {
        enum http_event event = http_message_next(message);
        if (event != HTTP_EVENT_MORE || message->in_head) return event;
    }
    size_t used;
    if (peer->late.size) {
        enum http_event event =
            http_message_next_of(message, peer->late.bytes + peer->late_used, peer->late.size - peer->late_used, &used);
        peer->late_used += used;
        if (peer->late_used == peer->late.size) peer->late.size = peer->late_used = 0;
        if (event != HTTP_EVENT_MORE) return event;
    }
    enum http_event event = http_message_next_of(message, peer->fresh, peer->fresh_size, &used);
    if (used) peer->fresh += used;
    peer->fresh_size -= used;
    return event;
}

/* False: nothing more for now. */
static bool take_event(struct http_peer *peer) {
    struct http_call *call = peer->call;
    switch (next_event(peer)) {
    case HTTP_EVENT_HEAD: take_head(peer); return true;
    case HTTP_EVENT_PIECE:
        call->handler->on_body(call, peer->message.piece, peer->message.piece_size, call->context);
        return true;
    case HTTP_EVENT_END: take_end(peer); return false;
    case HTTP_EVENT_FAULT: fail(peer, UV_EPROTO, peer->message.fault_text); return false;
    default: return false;
    }
}

static void keep_fresh(struct http_peer *peer) {
    if (peer->fresh_size && !peer->is_dead) {
        buffer_consume(&peer->late, peer->late_used);
        peer->late_used = 0;
        if (!buffer_append(&peer->late, peer->fresh, peer->fresh_size))
            fail(peer, UV_ENOMEM, "no memory for its answer");
    }
    peer->fresh_size = 0;
}

void http_peer_run(struct http_peer *peer) {
    if (peer->is_running) return;
    peer->is_running = true;
    while (!peer->is_dead && peer->call && !peer->call->is_paused)
        if (!take_event(peer)) break;
    peer->is_running = false;
    if (peer->is_dead) return;
    keep_fresh(peer);
    http_peer_update_reading(peer);
}

/* ---- reading ------------------------------------------------------------- */

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_room) {
    struct http_peer *peer = handle->data;
    (void)suggested;
    if (peer->call && peer->message.in_head) {
        ret_room->base = http_message_room(&peer->message, &ret_room->len);
    } else {
        ret_room->base = peer->pool->scratch;
        ret_room->len = sizeof peer->pool->scratch;
    }
}

static void on_end_of_stream(struct http_peer *peer) {
    if (!peer->message.in_head && http_message_finish(&peer->message) == HTTP_EVENT_END) {
        take_end(peer); /* its length was "until the connection closes" */
        return;
    }
    fail(peer, peer->output.failure ? peer->output.failure : UV_EOF,
         peer->call->answer_begun ? "closed the connection in the middle of its answer"
                                  : "closed the connection before it answered");
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *room) {
    struct http_peer *peer = stream->data;
    if (!size) return;
    if (!peer->call) { /* idle: closed by the peer, or it speaks unasked */
        http_peer_kill(peer);
        return;
    }
    if (size == UV_EOF) {
        on_end_of_stream(peer);
        return;
    }
    if (size < 0) {
        fail(peer, (int)size, uv_strerror((int)size));
        return;
    }
    peer->since_ms = http_pool_now(peer->pool);
    peer->is_overdue = false;
    peer->call->answer_begun = true;
    if (room->base != peer->pool->scratch) {
        http_message_received(&peer->message, (size_t)size);
    } else {
        peer->fresh = room->base;
        peer->fresh_size = (size_t)size;
    }
    http_peer_run(peer);
}

void http_peer_update_reading(struct http_peer *peer) {
    if (peer->is_dead || !peer->is_connected) return;
    bool wanted = !peer->call || !peer->call->is_paused;
    if (wanted == peer->is_reading) return;
    peer->is_reading = wanted;
    if (wanted)
        uv_read_start(&peer->handle.stream, on_room, on_read);
    else
        uv_read_stop(&peer->handle.stream);
}

/* ---- deadlines ----------------------------------------------------------- */

uint64_t http_peer_limit(const struct http_peer *peer) {
    const struct http_pool_config *config = &peer->pool->config;
    const struct http_call *call = peer->call;
    if (!call) return 0;
    if (!peer->is_connected) return config->connect_timeout_ms;
    if (peer->output.waiting) return config->answer_timeout_ms; /* it does not read */
    if (call->is_paused || !call->is_body_done) return 0; /* it is our turn */
    return call->has_head ? config->body_timeout_ms : config->answer_timeout_ms;
}

void http_peer_expired(struct http_peer *peer) {
    const struct http_call *call = peer->call;
    const char *what = !peer->is_connected    ? "no connection within %llu ms"
                       : peer->output.waiting ? "took nothing of the request for %llu ms"
                       : call->has_head       ? "sent nothing more of its answer for %llu ms"
                                              : "no answer within %llu ms";
    char text[96];
    snprintf(text, sizeof text, what, (unsigned long long)http_peer_limit(peer));
    struct error *error = NULL;
    error_set_status(&error, ERROR_UNAVAILABLE, 504, "%s: %s", peer->pool->address_text, text);
    error_mark_transient(&error);
    http_call_lost(peer->call, UV_ETIMEDOUT, true, error);
}

/* ---- beginning ----------------------------------------------------------- */

static void on_progress(struct http_output *output) {
    struct http_peer *peer = CONTAINER_OF(output, struct http_peer, output);
    peer->since_ms = http_pool_now(peer->pool);
    /* A failed write is told by the reading side, behind an answer that may have come before it. */
    if (!output->failure && peer->call && output->waiting <= HTTP_OUTPUT_ROOM) http_call_room(peer->call);
}

static void attach(struct http_peer *peer, struct http_call *call) {
    peer->call = call;
    call->peer = peer;
    peer->message.without_body = call->is_head;
    http_pool_peer_busy(peer);
}

static void on_connected(uv_connect_t *connect, int status) {
    struct http_peer *peer = connect->handle->data;
    if (peer->is_dead) return;
    if (status < 0) {
        fail(peer, status, uv_strerror(status));
        return;
    }
    peer->is_connected = true;
    peer->since_ms = http_pool_now(peer->pool);
    http_peer_update_reading(peer);
}

static int begin_connecting(struct http_peer *peer) {
    struct http_pool *pool = peer->pool;
    if (pool->address.any.sa_family != AF_UNIX) {
        int result = uv_tcp_connect(&peer->connect, &peer->handle.tcp, &pool->address.any, on_connected);
        return result < 0 ? result : uv_tcp_nodelay(&peer->handle.tcp, 1);
    }
    uv_pipe_connect(&peer->connect, &peer->handle.pipe, pool->address.local.sun_path, on_connected);
    return 0;
}

void http_peer_connect(struct http_pool *pool, struct http_call *call) {
    struct http_peer *peer = mem_new(struct http_peer);
    peer->pool = pool;
    http_message_init(&peer->message, false, pool->config.head_maximum);
    int result = pool->address.any.sa_family == AF_UNIX ? uv_pipe_init(pool->config.loop, &peer->handle.pipe, 0)
                                                        : uv_tcp_init(pool->config.loop, &peer->handle.tcp);
    assert(!result);
    peer->handle.any.data = peer;
    http_output_init(&peer->output, &peer->handle.stream, on_progress);
    http_pool_peer_opened(peer);
    attach(peer, call);
    result = begin_connecting(peer);
    if (result < 0) {
        error_set(&call->error, ERROR_UNAVAILABLE, "%s: %s", pool->address_text, uv_strerror(result));
        error_mark_transient(&call->error);
        http_peer_kill(peer);
        http_later_add(&pool->later, &call->later);
    } else if (!call->is_head_held) {
        http_call_write(call);
    }
}

/* Whether the connection is still open and silent. */
static bool is_whole(struct http_peer *peer) {
    uv_os_fd_t descriptor;
    char byte;
    if (peer->output.failure || uv_fileno(&peer->handle.any, &descriptor) < 0) return false;
    return recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

bool http_peer_reuse(struct http_pool *pool, struct http_call *call) {
    while (!http_link_is_alone(&pool->idle)) {
        struct http_peer *peer = CONTAINER_OF(pool->idle.next, struct http_peer, link);
        if (!is_whole(peer)) {
            http_peer_kill(peer);
            continue;
        }
        leave_idle(peer);
        attach(peer, call);
        if (!call->is_head_held) http_call_write(call);
        return true;
    }
    return false;
}
