/* Connections that go on in another process (RULES U2): those that leave, and those that come.
 *
 * Only a connection of which nothing is here leaves: no byte of a request, none of an answer. What its client has sent
 * since then is still with the kernel, and the kernel's side of the socket is what moves.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "http/http_server-internal.h"

static bool can_leave(const struct http_connection *connection) {
    return connection->server->take && connection->step == HTTP_STEP_READ_HEAD && !connection->message.size &&
           !http_connection_buffered(connection) && http_output_is_empty(&connection->output) && !connection->tls &&
           !connection->is_gone && !connection->is_dead && !connection->is_running;
}

/* libuv closes the descriptors that it has; a copy is what goes on. */
bool http_connection_leave(struct http_connection *connection) {
    struct http_server *server = connection->server;
    uv_os_fd_t descriptor;
    if (!can_leave(connection) || uv_fileno(&connection->handle.any, &descriptor) < 0) return false;
    int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return false; /* no descriptor is left: the sweep tries again */
    http_connection_kill(connection);
    server->take(copy, server->drained_context);
    return true;
}

void http_connection_leave_soon(struct http_connection *connection) {
    if (can_leave(connection) || connection->is_running) http_later_add(&connection->server->later, &connection->later);
}

static void settle(struct http_connection *connection) {
    struct http_server *server = connection->server;
    connection->has_served = true;
    http_server_connection_idle(connection);
    http_connection_set_deadline(connection, server->config.limits.idle_timeout_ms);
    http_server_make_room_for(connection);
    if (server->take)
        http_connection_leave_soon(connection);
    else if (server->is_draining)
        http_connection_drain(connection);
}

int http_server_adopt(struct http_server *server, int descriptor, struct error **ret_error) {
    assert(!server->is_closing);
    struct http_address peer = {.size = sizeof peer.storage};
    if (getpeername(descriptor, &peer.any, &peer.size) < 0) {
        int cause = errno;
        close(descriptor);
        if (cause == ENOTCONN) return 0;
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, cause, "go on with the connection of descriptor %d",
                               descriptor);
    }
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    bool is_local = peer.any.sa_family == AF_UNIX;
    if (!is_local && server->tls) { /* who is asked for TLS now shall not go on without */
        close(descriptor);
        return 0;
    }
    const struct http_door door = {.is_local = is_local};
    struct http_connection *connection = http_connection_open(server, descriptor, &peer, &door);
    if (!connection->is_dead) settle(connection);
    return 0;
}
