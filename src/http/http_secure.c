/* The part of a connection that is there over TLS only: what comes is decrypted to where a read would have put plain
 * bytes, and from there on all is the same. */
#include "http/http_server-internal.h"

static bool is_reading_head(const struct http_connection *connection) {
    return connection->step == HTTP_STEP_READ_HEAD;
}

static ptrdiff_t open_into_head(struct http_connection *connection) {
    size_t room;
    char *base = http_message_room(&connection->message, &room);
    if (!room) return HTTP_TLS_FAULT;
    ptrdiff_t size = http_tls_open(connection->tls, base, room);
    if (size <= 0) return size;
    http_message_received(&connection->message, (size_t)size);
    http_connection_run(connection);
    return size;
}

static ptrdiff_t open_into_scratch(struct http_connection *connection) {
    char *scratch = http_tls_scratch(connection->tls);
    ptrdiff_t size = http_tls_open(connection->tls, scratch, HTTP_TLS_RECORD);
    if (size <= 0 || http_connection_is_deaf(connection)) return size;
    connection->fresh = scratch;
    connection->fresh_size = (size_t)size;
    http_connection_run(connection);
    return size;
}

/* The handshake failed, or a record did. The client gets to see why when nothing else is going on. */
static void fail(struct http_connection *connection) {
    if (!is_reading_head(connection) || connection->is_gone) {
        http_connection_kill(connection);
        return;
    }
    http_server_connection_busy(connection);
    http_connection_linger(connection);
}

void http_connection_take_sealed(struct http_connection *connection, const char *bytes, size_t size) {
    if (connection->step == HTTP_STEP_LINGER) return;
    ptrdiff_t result = 1;
    http_tls_give(connection->tls, bytes, size);
    while (result > 0 && !connection->is_dead)
        result = is_reading_head(connection) ? open_into_head(connection) : open_into_scratch(connection);
    if (connection->is_dead) return;
    http_output_flush(&connection->output);
    if (connection->output.failure)
        http_connection_kill(connection);
    else if (result == HTTP_TLS_FAULT)
        fail(connection);
    else if (result == HTTP_TLS_END && !connection->is_gone)
        http_connection_ended(connection);
}

void http_connection_end_tls(struct http_connection *connection) {
    if (!connection->tls || connection->is_dead) return;
    http_tls_end(connection->tls);
    http_output_flush(&connection->output);
}

void http_connection_close(struct http_connection *connection) {
    http_connection_end_tls(connection);
    http_connection_kill(connection);
}
