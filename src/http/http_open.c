/* A connection's beginning: whose it is, its handle, its first deadline. */
#include <assert.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http/http_server-internal.h"

static void write_peer(struct http_connection *connection, const struct http_address *peer) {
    char host[INET6_ADDRSTRLEN] = "";
    size_t size = sizeof connection->peer;
    if (peer->any.sa_family == AF_INET && !uv_ip4_name(&peer->ip4, host, sizeof host))
        snprintf(connection->peer, size, "%s:%u", host, ntohs(peer->ip4.sin_port));
    else if (peer->any.sa_family == AF_INET6 && !uv_ip6_name(&peer->ip6, host, sizeof host))
        snprintf(connection->peer, size, "[%s]:%u", host, ntohs(peer->ip6.sin6_port));
    else
        snprintf(connection->peer, size, "unix");
}

/* What the peer was when it connected; it may have passed the socket on, as it could pass on what it reads. */
static bool is_ours(int descriptor) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || size != sizeof peer) return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

static int open_handle(struct http_connection *connection, int descriptor, bool is_unix) {
    uv_loop_t *loop = connection->server->config.loop;
    union http_handle *handle = &connection->handle;
    int result = is_unix ? uv_pipe_init(loop, &handle->pipe, 0) : uv_tcp_init(loop, &handle->tcp);
    assert(!result);
    handle->any.data = connection;
    return is_unix ? uv_pipe_open(&handle->pipe, descriptor) : uv_tcp_open(&handle->tcp, descriptor);
}

struct http_connection *http_connection_open(struct http_server *server, int descriptor,
                                             const struct http_address *peer, const struct http_door *door) {
    bool is_unix = peer->any.sa_family != AF_INET && peer->any.sa_family != AF_INET6;
    struct http_connection *connection = http_connection_new(server);
    write_peer(connection, peer);
    if (door->is_local) {
        connection->is_local = is_ours(descriptor);
        connection->is_stranger = !connection->is_local;
    }
    http_server_connection_opened(connection);
    int result = open_handle(connection, descriptor, is_unix);
    http_output_init(&connection->output, &connection->handle.stream, http_connection_progressed);
    if (door->tls) connection->output.tls = connection->tls = http_tls_new(door->tls);
    if (result < 0) {
        close(descriptor);
        http_connection_kill(connection);
        return connection;
    }
    http_connection_set_deadline(connection, server->config.limits.header_timeout_ms);
    http_connection_update_reading(connection);
    return connection;
}
