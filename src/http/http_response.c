/* Answers: whole ones in one write where the kernel takes it, streamed ones with back-pressure. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "http/http_server-internal.h"

#define DISCARD_MAXIMUM (64 * 1024)
#define HEAD_EXTRA 256 /* status line, Date, Content-Length, Connection and the last line */

/* What is answered now goes nowhere: the client has gone, or the server answered itself. */
static bool is_in_vain(const struct http_connection *connection) {
    return connection->is_dead || connection->is_detached;
}

bool http_is_gone(const struct http_request *request) {
    const struct http_connection *connection = http_connection_of(request);
    return is_in_vain(connection) || connection->is_gone;
}

bool http_has_begun(const struct http_request *request) {
    return http_connection_of(request)->answer != HTTP_ANSWER_NONE;
}

/* ---- the head ------------------------------------------------------------ */

/* Framing is ours to say. */
static bool is_ours(const struct http_header *header) {
    static const char *const names[] = {"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (http_header_is(header, names[i])) return true;
    return false;
}

static char *put_status(char *at, int status) {
    if (status == 200) return http_put(at, "HTTP/1.1 200 OK\r\n", 17);
    at = http_put(at, "HTTP/1.1 ", 9);
    at = http_put_number(at, (uint64_t)status);
    *at++ = ' ';
    at = http_put_text(at, http_reason_phrase(status));
    return http_put(at, "\r\n", 2);
}

static char *put_own_header(char *at, const char *name, const char *value) {
    return http_put(http_put_text(http_put_text(at, name), value), "\r\n", 2);
}

static char *put_framing(struct http_connection *connection, char *at, int status) {
    if (connection->is_answer_chunked) return put_own_header(at, "Transfer-Encoding: chunked", "");
    bool may_have_length = status != 204 && connection->answer_length >= 0;
    if (!may_have_length) return at;
    at = http_put_text(at, "Content-Length: ");
    at = http_put_number(at, (uint64_t)connection->answer_length);
    return http_put(at, "\r\n", 2);
}

/* Puts the head together in connection->head. */
static void make_head(struct http_connection *connection, int status, const struct http_header *headers, size_t count) {
    struct http_server *server = connection->server;
    size_t size = HEAD_EXTRA + (server->server_name ? strlen(server->server_name) : 0);
    for (size_t i = 0; i < count; i++) size += http_header_size(&headers[i]);
    connection->head.size = 0;
    if (!buffer_reserve(&connection->head, size))
        abort(); /* no ceiling is set: only memory can lack, as in mem_alloc() */
    bool has_date = false, has_server = false;
    char *at = put_status(connection->head.bytes, status);
    for (size_t i = 0; i < count; i++) {
        if (is_ours(&headers[i])) continue;
        has_date |= http_header_is(&headers[i], "Date");
        has_server |= http_header_is(&headers[i], "Server");
        at = http_put_header(at, &headers[i]);
    }
    if (!has_date) at = put_own_header(at, "Date: ", http_server_date(server));
    if (!has_server && server->server_name) at = put_own_header(at, "Server: ", server->server_name);
    at = put_framing(connection, at, status);
    if (!connection->keep_alive) at = put_own_header(at, "Connection: close", "");
    at = http_put(at, "\r\n", 2);
    connection->head.size = (size_t)(at - connection->head.bytes);
}

/* Whether the rest of the body is so short that it is rather read than the connection closed. */
static bool is_rest_short(const struct http_connection *connection) {
    if (connection->is_input_done) return true;
    if (connection->wants_continue || connection->request.content_length < 0) return false;
    return connection->message.parser.content_length <= DISCARD_MAXIMUM;
}

/* content_length -1: unknown */
static void begin(struct http_connection *connection, int status, const struct http_header *headers, size_t count,
                  int64_t content_length) {
    assert(status >= 200 && status <= 599 && connection->answer == HTTP_ANSWER_NONE);
    connection->answer = HTTP_ANSWER_BEGUN;
    connection->without_body = connection->is_head || status == 204 || status == 304;
    connection->answer_length = content_length;
    connection->is_answer_chunked = content_length < 0 && !connection->without_body && !connection->is_old;
    if (http_connection_must_close(connection) || connection->wants_continue) connection->keep_alive = false;
    if (content_length < 0 && connection->is_old) connection->keep_alive = false;
    make_head(connection, status, headers, count);
}

/* ---- writing ------------------------------------------------------------- */

static void let_go(struct http_connection *connection) {
    connection->is_head_held = false;
    http_later_remove(&connection->server->later, &connection->later);
}

static uv_buf_t part_of(const char *bytes, size_t size) {
    return (uv_buf_t){.base = (char *)bytes, .len = size};
}

/* Writes the held head, if any, and up to three parts in one go. */
static void write_parts(struct http_connection *connection, const uv_buf_t *parts, unsigned count,
                        const struct http_lent *lent) {
    uv_buf_t all[4];
    unsigned total = 0;
    if (connection->is_head_held) {
        all[total++] = part_of(connection->head.bytes, connection->head.size);
        let_go(connection);
    }
    for (unsigned i = 0; i < count; i++) all[total++] = parts[i];
    if (total) http_output_send(&connection->output, all, total, lent);
    if (connection->output.failure) http_connection_kill(connection);
}

void http_send_held(struct http_connection *connection) {
    write_parts(connection, NULL, 0, NULL);
}

/* ---- whole answers ------------------------------------------------------- */

static void send_whole(struct http_connection *connection, int status, const struct http_header *headers, size_t count,
                       const char *body, size_t size, void (*free_body)(void *body)) {
    if (!is_rest_short(connection)) connection->keep_alive = false;
    begin(connection, status, headers, count, (int64_t)size);
    connection->is_head_held = true;
    const uv_buf_t part = part_of(body, size);
    const struct http_lent lent = {free_body, (void *)body};
    if (connection->without_body || !size) {
        write_parts(connection, NULL, 0, NULL);
        if (free_body) free_body((void *)body);
        return;
    }
    write_parts(connection, &part, 1, free_body ? &lent : NULL);
}

void http_respond(struct http_request *request, int status, const struct http_header *headers, size_t header_count,
                  const char *body, size_t body_size, void (*free_body)(void *body)) {
    struct http_connection *connection = http_connection_of(request);
    if (!is_in_vain(connection))
        send_whole(connection, status, headers, header_count, body, body_size, free_body);
    else if (free_body)
        free_body((void *)body);
    http_connection_answered(connection);
}

void http_respond_json(struct http_request *request, int status, const char *json, size_t size) {
    const struct http_header header = {"Content-Type", "application/json"};
    http_respond(request, status, &header, 1, json, size, NULL);
}

void http_send_problem(struct http_connection *connection, int status, const char *detail) {
    struct error *error = NULL;
    enum error_class class = status == 503 ? ERROR_UNAVAILABLE : status == 403 ? ERROR_UNAUTHORIZED : ERROR_REQUEST;
    error_set_status(&error, class, status, "%s", detail);
    const struct http_server_config *config = &connection->server->config;
    struct http_header header = {"Content-Type", "application/problem+json"};
    size_t size;
    char *document =
        connection->is_request_open && config->handler->write_refusal
            ? config->handler->write_refusal(&connection->request, error, &header.value, &size, config->context)
            : http_problem_document(error, &size);
    send_whole(connection, status, &header, 1, document, size, free);
    error_free(error);
}

/* ---- streamed answers ---------------------------------------------------- */

void http_begin(struct http_request *request, int status, const struct http_header *headers, size_t header_count,
                int64_t content_length) {
    struct http_connection *connection = http_connection_of(request);
    if (is_in_vain(connection)) return;
    begin(connection, status, headers, header_count, content_length);
    /* The first piece of the body mostly follows at once; alone the head leaves in the loop's next turn. */
    connection->is_head_held = true;
    http_later_add(&connection->server->later, &connection->later);
}

static void send_piece(struct http_connection *connection, const char *bytes, size_t size) {
    if (!connection->is_answer_chunked) {
        const uv_buf_t part = part_of(bytes, size);
        write_parts(connection, &part, 1, NULL);
        return;
    }
    char line[20];
    const uv_buf_t parts[] = {part_of(line, (size_t)(http_put_chunk_size(line, size) - line)), part_of(bytes, size),
                              part_of("\r\n", 2)};
    write_parts(connection, parts, 3, NULL);
}

bool http_send(struct http_request *request, const char *bytes, size_t size) {
    struct http_connection *connection = http_connection_of(request);
    if (is_in_vain(connection) || !size) return true;
    assert(connection->answer == HTTP_ANSWER_BEGUN);
    if (connection->without_body) return true;
    connection->answer_sent += size;
    if (connection->answer_length >= 0 && connection->answer_sent > (uint64_t)connection->answer_length) {
        http_connection_kill(connection); /* more than was announced would be read as the next answer */
        return true;
    }
    send_piece(connection, bytes, size);
    if (connection->is_dead || connection->output.waiting <= HTTP_OUTPUT_FULL) return true;
    connection->was_told_full = true;
    return false;
}

void http_end(struct http_request *request) {
    struct http_connection *connection = http_connection_of(request);
    if (!is_in_vain(connection)) {
        assert(connection->answer == HTTP_ANSWER_BEGUN);
        bool is_short = connection->answer_length >= 0 && !connection->without_body &&
                        connection->answer_sent < (uint64_t)connection->answer_length;
        const uv_buf_t last = part_of("0\r\n\r\n", 5);
        if (is_short)
            http_connection_kill(connection);
        else
            write_parts(connection, &last, connection->is_answer_chunked, NULL);
    }
    http_connection_answered(connection);
}

void http_break(struct http_request *request) {
    struct http_connection *connection = http_connection_of(request);
    if (!is_in_vain(connection)) {
        /* An HTTP/1.0 client takes the end of the connection for the end of the answer, unless it is a reset. */
        const struct linger reset = {.l_onoff = 1};
        uv_os_fd_t descriptor;
        if (connection->is_old && !uv_fileno(&connection->handle.any, &descriptor))
            setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        http_connection_kill(connection);
    }
    http_connection_answered(connection);
}

/* ---- the body ------------------------------------------------------------ */

void http_pause_body(struct http_request *request) {
    struct http_connection *connection = http_connection_of(request);
    connection->is_body_paused = true;
    if (!connection->is_running) http_connection_update_reading(connection);
}

void http_resume_body(struct http_request *request) {
    struct http_connection *connection = http_connection_of(request);
    if (!connection->is_body_paused) return;
    connection->is_body_paused = false;
    if (connection->is_running || connection->is_dead) return;
    http_later_add(&connection->server->later, &connection->later); /* what waits is delivered from the loop */
}
