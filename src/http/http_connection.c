/* A server's connection as a machine of named steps: http_steps.def lists them in order. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/http_server-internal.h"

/* Pipelined bytes that are taken while an answer is pending; reading on is what tells that the client went away. */
#define LATE_MAXIMUM (16 * 1024)
/* Unread rest of a body that is read rather than the connection closed. */
#define DISCARD_MAXIMUM (64 * 1024)
/* How long the client is listened to after the last answer, with and without a part of its request still to come. */
#define LINGER_MS 5000
#define FAREWELL_MS 1000
#define DRAIN_FRESH_MS 1000
#define BODY_KEPT (64 * 1024)

#define STEP(name, function, does) static bool step_##function(struct http_connection *connection);
#include "http/http_steps.def"
#undef STEP

static bool (*const steps[HTTP_STEP_COUNT])(struct http_connection *connection) = {
#define STEP(name, function, does) [HTTP_STEP_##name] = step_##function,
#include "http/http_steps.def"
#undef STEP
};

/* ---- life ---------------------------------------------------------------- */

void http_connection_set_deadline(struct http_connection *connection, uint64_t in_ms) {
    connection->deadline_ms = in_ms ? http_server_now(connection->server) + in_ms : 0;
    connection->is_overdue = false;
}

static void free_connection(struct http_connection *connection) {
    struct http_server *server = connection->server;
    assert(connection->is_closed && !connection->is_request_open);
    http_link_remove(&connection->link);
    http_message_free(&connection->message);
    http_request_memory_free(connection);
    buffer_clear(&connection->late);
    buffer_clear(&connection->body);
    buffer_clear(&connection->head);
    http_tls_free(connection->tls);
    free(connection);
    http_server_connection_gone(server);
}

/* Calls of the handler are made under this guard, so that what they end is gone on with by us and not inside them. */
static bool enter(struct http_connection *connection) {
    bool was_running = connection->is_running;
    connection->is_running = true;
    return was_running;
}

static void tell_gone(struct http_connection *connection) {
    const struct http_handler *handler = connection->server->config.handler;
    void *context = connection->server->config.context;
    if (connection->was_told_gone || !connection->is_request_open) return;
    connection->was_told_gone = true;
    bool was_running = enter(connection);
    if (handler->on_gone) handler->on_gone(&connection->request, context);
    if (!connection->was_handed_over) connection->is_request_open = false; /* the handler never got to work on it */
    /* Who waits for room would wait for ever. */
    if (connection->is_request_open && connection->was_told_full && handler->on_writable) {
        connection->was_told_full = false;
        handler->on_writable(&connection->request, context);
    }
    connection->is_running = was_running;
}

static void on_closed(uv_handle_t *handle) {
    struct http_connection *connection = handle->data;
    connection->is_closed = true;
    http_output_clear(&connection->output);
    tell_gone(connection);
    if (!connection->is_request_open) free_connection(connection);
}

void http_connection_kill(struct http_connection *connection) {
    if (connection->is_dead) return;
    connection->is_dead = true;
    connection->step = HTTP_STEP_CLOSED;
    http_later_remove(&connection->server->later, &connection->later);
    uv_close(&connection->handle.any, on_closed);
}

/* ---- reading ------------------------------------------------------------- */

size_t http_connection_buffered(const struct http_connection *connection) {
    return http_message_unparsed(&connection->message) + connection->late.size - connection->late_used +
           connection->fresh_size;
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_room) {
    struct http_connection *connection = handle->data;
    (void)suggested;
    if (connection->step == HTTP_STEP_READ_HEAD && !connection->tls) {
        ret_room->base = http_message_room(&connection->message, &ret_room->len);
    } else {
        ret_room->base = connection->server->scratch;
        ret_room->len = sizeof connection->server->scratch;
    }
}

/* Whether what comes is of no interest any more. */
bool http_connection_is_deaf(const struct http_connection *connection) {
    return connection->step >= HTTP_STEP_DISCARD_BODY && !connection->keep_alive;
}

void http_connection_ended(struct http_connection *connection) {
    connection->is_gone = true;
    if (connection->step != HTTP_STEP_AWAIT_ANSWER && connection->step != HTTP_STEP_FLUSH)
        http_connection_kill(connection);
    http_connection_run(connection);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *room) {
    struct http_connection *connection = stream->data;
    if (!size) return;
    if (size == UV_EOF) {
        http_connection_ended(connection);
        return;
    }
    if (size < 0) {
        http_connection_kill(connection);
        return;
    }
    if (connection->tls) {
        http_connection_take_sealed(connection, room->base, (size_t)size);
        return;
    }
    if (room->base != connection->server->scratch) {
        http_message_received(&connection->message, (size_t)size);
    } else if (!http_connection_is_deaf(connection)) {
        connection->fresh = room->base;
        connection->fresh_size = (size_t)size;
    }
    http_connection_run(connection);
}

void http_connection_update_reading(struct http_connection *connection) {
    if (connection->is_dead) return;
    bool wanted = !connection->is_gone;
    if (connection->step == HTTP_STEP_READ_BODY) wanted &= !connection->is_body_paused;
    if (connection->step == HTTP_STEP_AWAIT_ANSWER || (connection->step == HTTP_STEP_FLUSH && connection->keep_alive))
        wanted &= http_connection_buffered(connection) < LATE_MAXIMUM;
    if (wanted == connection->is_reading) return;
    connection->is_reading = wanted;
    if (!wanted) {
        uv_read_stop(&connection->handle.stream);
    } else if (uv_read_start(&connection->handle.stream, on_room, on_read) < 0) {
        http_connection_kill(connection);
    }
}

/* The next event of the message being read, out of what was received, in the order in which it came. */
static enum http_event next_event(struct http_connection *connection) {
    struct http_message *message = &connection->message;
    if (http_message_unparsed(message)) {
        enum http_event event = http_message_next(message);
        if (event != HTTP_EVENT_MORE) return event;
    }
    size_t used;
    if (connection->late.size) {
        enum http_event event = http_message_next_of(message, connection->late.bytes + connection->late_used,
                                                     connection->late.size - connection->late_used, &used);
        connection->late_used += used;
        if (connection->late_used == connection->late.size) connection->late.size = connection->late_used = 0;
        if (event != HTTP_EVENT_MORE) return event;
    }
    enum http_event event = http_message_next_of(message, connection->fresh, connection->fresh_size, &used);
    if (used) connection->fresh += used;
    connection->fresh_size -= used;
    return event;
}

/* What the read brought and no step took waits for its turn. */
static void keep_fresh(struct http_connection *connection) {
    if (connection->fresh_size && !http_connection_is_deaf(connection) && !connection->is_dead) {
        buffer_consume(&connection->late, connection->late_used);
        connection->late_used = 0;
        if (!buffer_append(&connection->late, connection->fresh, connection->fresh_size))
            http_connection_kill(connection);
    }
    connection->fresh_size = 0;
}

/* ---- running ------------------------------------------------------------- */

void http_connection_run(struct http_connection *connection) {
    if (connection->is_running) return;
    connection->is_running = true;
    for (bool goes_on = true; goes_on && !connection->is_dead;) {
        goes_on = steps[connection->step](connection);
        if (connection->answer == HTTP_ANSWER_ENDED && connection->step < HTTP_STEP_DISCARD_BODY) {
            connection->step = connection->is_input_done ? HTTP_STEP_FLUSH : HTTP_STEP_DISCARD_BODY;
            http_connection_set_deadline(
                connection, connection->is_input_done ? 0 : connection->server->config.limits.body_timeout_ms);
            goes_on = true;
        }
    }
    connection->is_running = false;
    keep_fresh(connection);
    http_connection_update_reading(connection);
}

static void run_later(struct http_later_item *item) {
    struct http_connection *connection = CONTAINER_OF(item, struct http_connection, later);
    if (connection->has_expired) {
        connection->has_expired = false;
        bool is_still = connection->deadline_ms && http_server_now(connection->server) > connection->deadline_ms;
        if (is_still) {
            http_connection_expired(connection);
            return;
        }
    }
    if (http_connection_leave(connection)) return;
    if (connection->is_head_held) http_send_held(connection);
    http_connection_run(connection);
}

struct http_connection *http_connection_new(struct http_server *server) {
    struct http_connection *connection = mem_new(struct http_connection);
    connection->server = server;
    http_link_init(&connection->link);
    http_link_init(&connection->later.link);
    connection->later.run = run_later;
    http_message_init(&connection->message, true, server->config.limits.head_maximum);
    return connection;
}

void http_connection_answered(struct http_connection *connection) {
    connection->is_request_open = false;
    connection->answer = HTTP_ANSWER_ENDED;
    if (connection->is_running) return;
    if (connection->is_closed) {
        free_connection(connection);
    } else if (!connection->is_dead) {
        /* A waiting request would call the handler, which is in the middle of something. */
        if (http_connection_buffered(connection))
            http_later_add(&connection->server->later, &connection->later);
        else
            http_connection_run(connection);
    }
}

void http_connection_progressed(struct http_output *output) {
    struct http_connection *connection = CONTAINER_OF(output, struct http_connection, output);
    const struct http_handler *handler = connection->server->config.handler;
    if (output->failure) {
        http_connection_kill(connection);
        return;
    }
    if (connection->was_told_full && output->waiting <= HTTP_OUTPUT_ROOM && connection->is_request_open) {
        connection->was_told_full = false;
        bool was_running = enter(connection);
        if (handler->on_writable) handler->on_writable(&connection->request, connection->server->config.context);
        connection->is_running = was_running;
    }
    if (connection->answer == HTTP_ANSWER_ENDED) http_connection_run(connection);
}

void http_connection_refuse(struct http_connection *connection, int status, const char *detail) {
    connection->keep_alive = false;
    if (connection->answer == HTTP_ANSWER_BEGUN) { /* too late for another answer: what was sent stays incomplete */
        http_connection_kill(connection);
        return;
    }
    connection->is_detached = connection->is_request_open;
    http_send_problem(connection, status, detail);
    connection->answer = HTTP_ANSWER_ENDED;
    connection->step = HTTP_STEP_FLUSH;
    http_connection_set_deadline(connection, 0);
    tell_gone(connection);
}

void http_connection_expired(struct http_connection *connection) {
    bool has_begun_head = connection->step == HTTP_STEP_READ_HEAD && connection->message.size;
    if (has_begun_head)
        http_connection_refuse(connection, 408, "the request head did not arrive in time");
    else if (connection->step == HTTP_STEP_READ_BODY)
        http_connection_refuse(connection, 408, "the request body did not arrive in time");
    else
        http_connection_close(connection);
    http_connection_run(connection);
}

void http_connection_drain(struct http_connection *connection) {
    if (connection->step != HTTP_STEP_READ_HEAD || connection->message.size) return;
    uv_os_fd_t descriptor;
    char byte;
    if (!uv_fileno(&connection->handle.any, &descriptor) && recv(descriptor, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
        return; /* a request has come: it is answered */
    if (connection->tls && http_tls_has_part(connection->tls)) return;
    if (connection->has_served)
        http_connection_close(connection);
    else if (!connection->deadline_ms || connection->deadline_ms > http_server_now(connection->server) + DRAIN_FRESH_MS)
        http_connection_set_deadline(connection, DRAIN_FRESH_MS);
}

/* ---- the steps ----------------------------------------------------------- */

static void begin_anew(struct http_connection *connection) {
    const struct http_limits *limits = &connection->server->config.limits;
    http_request_memory_free(connection);
    if (connection->body.capacity > BODY_KEPT) buffer_clear(&connection->body);
    connection->body.size = 0;
    if (connection->head.capacity > BODY_KEPT) buffer_clear(&connection->head);
    http_message_restart(&connection->message);
    connection->answer = HTTP_ANSWER_NONE;
    connection->answer_sent = 0;
    connection->discarded = 0;
    connection->was_handed_over = connection->is_input_done = connection->is_body_paused = false;
    connection->was_told_full = connection->was_told_gone = false;
    connection->is_head = connection->is_old = connection->will_close = connection->wants_continue = false;
    connection->has_served = true;
    if (http_connection_buffered(connection)) {
        http_connection_set_deadline(connection, limits->header_timeout_ms);
    } else {
        http_server_connection_idle(connection);
        http_connection_set_deadline(connection, limits->idle_timeout_ms);
        if (connection->server->take) http_connection_leave_soon(connection);
    }
}

/* Bytes that came while the request before was worked on. */
static void take_over_late(struct http_connection *connection) {
    if (connection->late.size) {
        http_message_add(&connection->message, connection->late.bytes + connection->late_used,
                         connection->late.size - connection->late_used);
        if (connection->late.capacity > LATE_MAXIMUM) buffer_clear(&connection->late);
        connection->late.size = connection->late_used = 0;
    }
    if (connection->fresh_size) http_message_add(&connection->message, connection->fresh, connection->fresh_size);
    connection->fresh_size = 0;
}

static bool step_read_head(struct http_connection *connection) {
    take_over_late(connection);
    if (connection->message.size && http_server_connection_busy(connection))
        http_connection_set_deadline(connection, connection->server->config.limits.header_timeout_ms);
    switch (http_message_next(&connection->message)) {
    case HTTP_EVENT_HEAD: connection->step = HTTP_STEP_OFFER; return true;
    case HTTP_EVENT_FAULT:
        http_connection_refuse(connection, connection->message.fault_status, connection->message.fault_text);
        return true;
    default:
        if (connection->is_gone) http_connection_kill(connection);
        return false;
    }
}

static void fill_request(struct http_connection *connection) {
    struct http_message *message = &connection->message;
    struct http_request *request = &connection->request;
    char *target = message->bytes + message->start.at;
    target[message->start.size] = 0;
    char *query = memchr(target, '?', message->start.size);
    *request = (struct http_request){.target = target, .path = target, .query = ""};
    if (query) {
        size_t size = (size_t)(query - target);
        char *path = http_request_memory(connection, size + 1);
        memcpy(path, target, size);
        path[size] = 0;
        request->path = path;
        request->query = query + 1;
    }
    request->method = llhttp_method_name(message->parser.method);
    request->headers = message->headers;
    request->header_count = message->header_count;
    request->content_length = http_message_is_chunked(message) ? -1
                              : message->content_length > 0    ? message->content_length
                                                               : 0;
    request->has_body = request->content_length != 0;
    request->body_maximum = connection->server->config.limits.body_maximum;
    request->received_us = clock_monotonic_us();
    request->peer = connection->peer;
    request->local = connection->is_local;
    request->tls = connection->tls;
    request->is_old = connection->is_old;
}

/* What the head says about the connection. Returns a status to refuse with, or 0. */
static int read_terms(struct http_connection *connection, const char **ret_detail) {
    const struct http_message *message = &connection->message;
    connection->is_old = message->parser.http_minor == 0;
    connection->is_head = message->parser.method == HTTP_HEAD;
    connection->will_close = connection->is_old || !llhttp_should_keep_alive(&message->parser);
    int status = http_check_head(message, ret_detail);
    if (status) return status;
    *ret_detail = "this socket is for the user that the service runs as, and for root";
    if (connection->is_stranger) return 403;
    fill_request(connection);
    connection->keep_alive = !connection->will_close && !http_connection_must_close(connection);
    connection->is_input_done = !connection->request.has_body;
    const char *expectation = http_find_header(message->headers, message->header_count, "Expect");
    connection->wants_continue = false;
    if (!expectation || connection->is_old) return 0;
    *ret_detail = "the only expectation that can be met here is 100-continue";
    if (strcasecmp(expectation, "100-continue")) return 417;
    connection->wants_continue = connection->request.has_body;
    return 0;
}

static bool step_offer(struct http_connection *connection) {
    const struct http_handler *handler = connection->server->config.handler;
    void *context = connection->server->config.context;
    struct http_request *request = &connection->request;
    const char *detail;
    int status = read_terms(connection, &detail);
    if (status) {
        http_connection_refuse(connection, status, detail);
        return true;
    }
    http_connection_set_deadline(connection, 0);
    connection->is_request_open = true;
    connection->body_mode = handler->on_head(request, context);
    if (connection->answer == HTTP_ANSWER_ENDED) return true;
    if (request->content_length > 0 && (uint64_t)request->content_length > request->body_maximum) {
        http_connection_refuse(connection, 413, "the body is larger than its ceiling");
        return true;
    }
    connection->message.body_maximum = request->body_maximum;
    connection->body.maximum = request->body_maximum ? request->body_maximum : 1;
    connection->step = request->has_body ? HTTP_STEP_READ_BODY : HTTP_STEP_HAND_OVER;
    if (request->has_body) http_connection_set_deadline(connection, connection->server->config.limits.body_timeout_ms);
    if (connection->body_mode == HTTP_BODY_STREAM) {
        assert(handler->on_body && handler->on_body_end && handler->on_gone);
        connection->was_handed_over = true;
        handler->on_request(request, context);
    }
    return true;
}

/* RFC 9110 10.1.1: only to a client that waits, and never after the answer has begun. */
static void answer_expectation(struct http_connection *connection) {
    static const char words[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (!connection->wants_continue) return;
    connection->wants_continue = false;
    if (http_connection_buffered(connection) || connection->answer != HTTP_ANSWER_NONE) return;
    const uv_buf_t part = {.base = (char *)words, .len = sizeof words - 1};
    http_output_send(&connection->output, &part, 1, NULL);
    if (connection->output.failure) http_connection_kill(connection);
}

/* False: memory is gone. */
static bool collect(struct http_connection *connection) {
    struct http_message *message = &connection->message;
    struct http_request *request = &connection->request;
    bool is_all = request->content_length >= 0 && message->piece_size == (size_t)request->content_length;
    bool is_ours = message->piece >= message->bytes && message->piece < message->bytes + message->size;
    if (is_all && is_ours) { /* it came with the head, whose buffer stays as it is until the request has ended */
        request->body = message->piece;
        request->body_size = message->piece_size;
        return true;
    }
    if (!buffer_append(&connection->body, message->piece, message->piece_size)) return false;
    request->body = connection->body.bytes;
    request->body_size = connection->body.size;
    return true;
}

static bool step_read_body(struct http_connection *connection) {
    const struct http_server_config *config = &connection->server->config;
    struct http_message *message = &connection->message;
    if (connection->is_body_paused) {
        http_connection_set_deadline(connection, 0);
        return false;
    }
    answer_expectation(connection);
    if (!connection->deadline_ms) http_connection_set_deadline(connection, config->limits.body_timeout_ms);
    switch (next_event(connection)) {
    case HTTP_EVENT_PIECE:
        http_connection_set_deadline(connection, config->limits.body_timeout_ms);
        if (connection->body_mode == HTTP_BODY_STREAM)
            config->handler->on_body(&connection->request, message->piece, message->piece_size, config->context);
        else if (!collect(connection))
            http_connection_refuse(connection, 503, "there is no memory for the body");
        return true;
    case HTTP_EVENT_END:
        connection->is_input_done = true;
        connection->step = HTTP_STEP_HAND_OVER;
        return true;
    case HTTP_EVENT_FAULT: http_connection_refuse(connection, message->fault_status, message->fault_text); return true;
    default: return false;
    }
}

static bool step_hand_over(struct http_connection *connection) {
    const struct http_server_config *config = &connection->server->config;
    http_connection_set_deadline(connection, 0);
    connection->step = HTTP_STEP_AWAIT_ANSWER;
    if (connection->body_mode == HTTP_BODY_STREAM) {
        config->handler->on_body_end(&connection->request, config->context);
        return true;
    }
    if (!connection->request.body) connection->request.body = "";
    connection->was_handed_over = true;
    config->handler->on_request(&connection->request, config->context);
    return true;
}

static bool step_await_answer(struct http_connection *connection) {
    if (connection->is_gone) tell_gone(connection);
    return false;
}

static bool step_discard_body(struct http_connection *connection) {
    if (connection->keep_alive) {
        switch (next_event(connection)) {
        case HTTP_EVENT_MORE: return false;
        case HTTP_EVENT_PIECE:
            connection->discarded += connection->message.piece_size;
            if (connection->discarded <= DISCARD_MAXIMUM) return true;
            connection->keep_alive = false;
            break;
        case HTTP_EVENT_END: connection->is_input_done = true; break;
        default: connection->keep_alive = false;
        }
    }
    connection->step = HTTP_STEP_FLUSH;
    http_connection_set_deadline(connection, 0);
    return true;
}

static void on_shut_down(uv_shutdown_t *shutdown, int status) {
    struct http_connection *connection = shutdown->handle->data;
    if (status < 0) http_connection_kill(connection);
}

void http_connection_linger(struct http_connection *connection) {
    connection->keep_alive = false;
    if (uv_shutdown(&connection->shutdown, &connection->handle.stream, on_shut_down) < 0) {
        http_connection_kill(connection);
        return;
    }
    connection->step = HTTP_STEP_LINGER;
    http_connection_set_deadline(connection, connection->is_input_done ? FAREWELL_MS : LINGER_MS);
}

static void say_goodbye(struct http_connection *connection) {
    /* Closing a socket with unread bytes resets it, which can take the answer from the client's hands. */
    bool is_quiet = connection->is_input_done && connection->will_close && !http_connection_buffered(connection);
    http_connection_end_tls(connection);
    if (connection->is_gone || is_quiet)
        http_connection_kill(connection);
    else
        http_connection_linger(connection);
}

static bool step_flush(struct http_connection *connection) {
    if (connection->output.failure) http_connection_kill(connection);
    if (connection->is_dead || !http_output_is_empty(&connection->output)) return false;
    bool is_over = !connection->keep_alive || http_connection_must_close(connection) ||
                   (connection->is_gone && !http_connection_buffered(connection));
    if (is_over) {
        connection->keep_alive = false;
        say_goodbye(connection);
        return false;
    }
    connection->step = HTTP_STEP_READ_HEAD;
    begin_anew(connection);
    return true;
}

static bool step_linger(struct http_connection *connection) {
    (void)connection;
    return false;
}

static bool step_closed(struct http_connection *connection) {
    (void)connection;
    return false;
}
