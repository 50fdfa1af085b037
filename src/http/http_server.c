/* Listening, accepting, the sweep over deadlines, draining, closing. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "http/http_server-internal.h"

#define ACCEPT_AT_ONCE 64
#define ACCEPT_PAUSE_MS 100
#define SWEEP_LONGEST_MS 1000
#define SWEEP_SHORTEST_MS 10

struct http_listener {
    struct http_link link;
    struct http_server *server;
    struct http_door door;
    uv_poll_t poll;
    int descriptor;
};

/* ---- life ---------------------------------------------------------------- */

static uint64_t sweep_interval(const struct http_limits *limits) {
    const uint64_t timeouts[] = {limits->header_timeout_ms, limits->body_timeout_ms, limits->idle_timeout_ms};
    uint64_t interval = SWEEP_LONGEST_MS;
    for (size_t i = 0; i < ARRAY_SIZE(timeouts); i++)
        if (timeouts[i] && timeouts[i] / 8 < interval) interval = timeouts[i] / 8;
    return interval < SWEEP_SHORTEST_MS ? SWEEP_SHORTEST_MS : interval;
}

struct http_server *http_server_new(const struct http_server_config *config) {
    assert(config->handler->on_head && config->handler->on_request);
    http_ignore_broken_pipes();
    struct http_server *server = mem_new(struct http_server);
    server->config = *config;
    server->server_name = text_copy(config->server_name);
    server->config.server_name = server->server_name;
    http_link_init(&server->listeners);
    http_link_init(&server->idle);
    http_link_init(&server->busy);
    server->sweep_ms = sweep_interval(&config->limits);
    uv_timer_init(config->loop, &server->sweep);
    uv_timer_init(config->loop, &server->accept_pause);
    server->sweep.data = server->accept_pause.data = server;
    http_later_init(&server->later, config->loop);
    server->open_handles = 3;
    server->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    server->is_accepting = true;
    return server;
}

void http_server_maybe_free(struct http_server *server) {
    if (!server->is_closing || server->open_handles || server->connections) return;
    if (server->reserve >= 0) close(server->reserve);
    http_tls_context_free(server->tls);
    free(server->server_name);
    free(server);
}

size_t http_server_connections(const struct http_server *server) {
    return server->connections;
}

uint64_t http_server_now(const struct http_server *server) {
    return uv_now(server->config.loop);
}

const char *http_server_date(struct http_server *server) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (now.tv_sec != server->date_second || !server->date[0]) {
        struct tm parts;
        gmtime_r(&now.tv_sec, &parts);
        strftime(server->date, sizeof server->date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
        server->date_second = now.tv_sec;
    }
    return server->date;
}

/* ---- the sweep ----------------------------------------------------------- */

/* What the client has not taken yet, in the kernel too: that takes new bytes only when a good part of its megabytes has
 * gone, which a client that reads slowly needs a long time for. */
static size_t untaken(const struct http_connection *connection) {
    size_t waiting = uv_stream_get_write_queue_size(&connection->handle.stream);
    uv_os_fd_t descriptor;
    int sent = 0;
    if (waiting && !uv_fileno(&connection->handle.any, &descriptor) && !ioctl(descriptor, SIOCOUTQ, &sent))
        waiting += (size_t)sent;
    return waiting;
}

/* A client that reads nothing of its answer, for as long as one may pause while sending a body, is gone. */
static bool is_stalled(struct http_connection *connection, uint64_t now) {
    uint64_t limit = connection->server->config.limits.body_timeout_ms;
    size_t waiting = untaken(connection);
    if (!waiting || waiting != connection->stalled_at) {
        connection->stalled_at = waiting;
        connection->stalled_since_ms = now;
        return false;
    }
    return limit && now - connection->stalled_since_ms > limit;
}

/* A deadline must be past at two sweeps in a row: when the loop itself was held up, clients get to be read first. */
static void sweep_list(struct http_server *server, struct http_link *list) {
    uint64_t now = http_server_now(server);
    for (struct http_link *link = list->next, *next; link != list; link = next) {
        next = link->next;
        struct http_connection *connection = CONTAINER_OF(link, struct http_connection, link);
        if (connection->is_dead) continue;
        if (is_stalled(connection, now)) {
            http_connection_kill(connection);
        } else if (connection->deadline_ms && now > connection->deadline_ms) {
            if (connection->is_overdue) {
                connection->has_expired = true;
                http_later_add(&server->later, &connection->later);
            }
            connection->is_overdue = true;
        }
    }
}

static void tell_drained(struct http_server *server) {
    if (!server->is_draining || server->connections || !server->on_drained) return;
    void (*on_drained)(void *context) = server->on_drained;
    server->on_drained = NULL;
    on_drained(server->drained_context);
}

static void for_each_connection(struct http_server *server, void (*visit)(struct http_connection *connection)) {
    struct http_link *const lists[] = {&server->idle, &server->busy};
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
        for (struct http_link *link = lists[i]->next, *next; link != lists[i]; link = next) {
            next = link->next;
            visit(CONTAINER_OF(link, struct http_connection, link));
        }
}

static void sweep(uv_timer_t *timer) {
    struct http_server *server = timer->data;
    if (server->take) for_each_connection(server, http_connection_leave_soon); /* those that could not before */
    sweep_list(server, &server->idle);
    sweep_list(server, &server->busy);
    if (!server->connections) uv_timer_stop(timer);
    if (!server->is_accepting) http_server_update_accepting(server);
    tell_drained(server);
}

/* ---- connections --------------------------------------------------------- */

void http_server_connection_opened(struct http_connection *connection) {
    struct http_server *server = connection->server;
    http_link_put_after(&connection->link, server->busy.previous);
    if (!server->connections++) uv_timer_start(&server->sweep, sweep, server->sweep_ms, server->sweep_ms);
    http_server_update_accepting(server);
}

void http_server_connection_idle(struct http_connection *connection) {
    http_link_put_after(&connection->link, connection->server->idle.previous);
    connection->is_idle = true;
    if (!connection->server->is_accepting) http_server_update_accepting(connection->server);
}

bool http_server_connection_busy(struct http_connection *connection) {
    if (!connection->is_idle) return false;
    connection->is_idle = false;
    http_link_put_after(&connection->link, connection->server->busy.previous);
    return true;
}

void http_server_connection_gone(struct http_server *server) {
    server->connections--;
    if (server->is_closing) {
        http_server_maybe_free(server);
        return;
    }
    http_server_update_accepting(server);
    /* Draining is told from the sweep: its timer is at hand and nobody is in the middle of a call there. */
    if (server->is_draining && !server->connections) uv_timer_start(&server->sweep, sweep, 0, server->sweep_ms);
}

/* ---- accepting ----------------------------------------------------------- */

static void refuse_with_reserve(struct http_server *server, int listener) {
    static const char words[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
        "Content-Length: 123\r\nConnection: close\r\n\r\n"
        "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"
        "\"detail\":\"no descriptors left\",\"error\":\"UnavailableError\"}";
    if (server->reserve < 0) return;
    close(server->reserve);
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0) {
        if (send(descriptor, words, sizeof words - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) shutdown(descriptor, SHUT_RDWR);
        close(descriptor);
    }
    server->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_accept_pause_over(uv_timer_t *timer) {
    struct http_server *server = timer->data;
    if (server->reserve < 0) server->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    http_server_update_accepting(server);
}

/* False: no more for this time. */
static bool accept_one(struct http_listener *listener) {
    struct http_server *server = listener->server;
    struct http_address peer = {.size = sizeof peer.storage};
    int descriptor = accept4(listener->descriptor, &peer.any, &peer.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0) {
        http_connection_open(server, descriptor, &peer, &listener->door);
        return true;
    }
    if (errno == EINTR || errno == ECONNABORTED) return true;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        refuse_with_reserve(server, listener->descriptor);
        uv_timer_start(&server->accept_pause, on_accept_pause_over, ACCEPT_PAUSE_MS, 0);
        http_server_update_accepting(server);
    }
    return false;
}

static void on_acceptable(uv_poll_t *poll, int status, int events) {
    struct http_listener *listener = poll->data;
    struct http_server *server = listener->server;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPT_AT_ONCE && server->is_accepting && !server->is_draining; i++)
        if (!accept_one(listener)) return;
}

static bool is_client_waiting(const struct http_server *server) {
    for (struct http_link *link = server->listeners.next; link != &server->listeners; link = link->next) {
        struct pollfd listener = {.fd = CONTAINER_OF(link, struct http_listener, link)->descriptor, .events = POLLIN};
        if (poll(&listener, 1, 0) > 0) return true;
    }
    return false;
}

/* The longest idle connection gives way to a client that waits; one at a time. */
static void make_room(struct http_server *server) {
    if (http_link_is_alone(&server->idle) || !is_client_waiting(server)) return;
    struct http_connection *connection = CONTAINER_OF(server->idle.next, struct http_connection, link);
    if (!connection->is_dead) http_connection_close(connection);
}

void http_server_make_room_for(struct http_connection *connection) {
    struct http_server *server = connection->server;
    size_t maximum = server->config.limits.connections_maximum;
    struct http_link *longest = server->idle.next;
    if (!maximum || server->connections <= maximum || longest == &server->idle || longest == &connection->link) return;
    http_connection_close(CONTAINER_OF(longest, struct http_connection, link));
}

void http_server_update_accepting(struct http_server *server) {
    if (server->is_draining || server->is_closing) return;
    bool is_full =
        server->config.limits.connections_maximum && server->connections >= server->config.limits.connections_maximum;
    if (is_full) make_room(server);
    bool wanted = !is_full && !uv_is_active((uv_handle_t *)&server->accept_pause);
    if (wanted == server->is_accepting) return;
    server->is_accepting = wanted;
    for (struct http_link *link = server->listeners.next; link != &server->listeners; link = link->next) {
        struct http_listener *listener = CONTAINER_OF(link, struct http_listener, link);
        if (wanted)
            uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
        else
            uv_poll_stop(&listener->poll);
    }
}

/* ---- listening ----------------------------------------------------------- */

static int begin_listening(struct http_server *server, int descriptor, const struct http_door *door,
                           struct error **ret_error) {
    int is_listening = 0, yes = 1;
    socklen_t size = sizeof is_listening;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size) < 0 || !is_listening)
        return error_set(ret_error, ERROR_CONFIGURATION, "serve on descriptor %d: it is no listening socket",
                         descriptor);
    /* Accepted sockets inherit it; unix sockets refuse it. */
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct http_listener *listener = mem_new(struct http_listener);
    int result = uv_poll_init(server->config.loop, &listener->poll, descriptor);
    if (result < 0) {
        free(listener);
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, -result, "serve on descriptor %d", descriptor);
    }
    listener->server = server;
    listener->door = *door;
    listener->descriptor = descriptor;
    listener->poll.data = listener;
    http_link_init(&listener->link);
    http_link_put_after(&listener->link, &server->listeners);
    server->open_handles++;
    if (server->is_accepting) uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
    return 0;
}

static int listen_by(struct http_server *server, int descriptor, const struct http_door *door,
                     struct error **ret_error) {
    assert(!server->is_draining && !server->is_closing);
    int result = begin_listening(server, descriptor, door, ret_error);
    if (result < 0) close(descriptor);
    return result;
}

int http_server_listen(struct http_server *server, int descriptor, struct error **ret_error) {
    return listen_by(server, descriptor, &(struct http_door){0}, ret_error);
}

int http_server_listen_tls(struct http_server *server, int descriptor, struct http_tls_context *tls,
                           struct error **ret_error) {
    assert(!server->tls);
    server->tls = tls;
    return listen_by(server, descriptor, &(struct http_door){.tls = tls}, ret_error);
}

int http_server_listen_local(struct http_server *server, int descriptor, struct error **ret_error) {
    return listen_by(server, descriptor, &(struct http_door){.is_local = true}, ret_error);
}

static void on_listener_closed(uv_handle_t *handle) {
    struct http_listener *listener = handle->data;
    struct http_server *server = listener->server;
    free(listener);
    server->open_handles--;
    http_server_maybe_free(server);
}

static void close_listeners(struct http_server *server) {
    while (!http_link_is_alone(&server->listeners)) {
        struct http_listener *listener = CONTAINER_OF(server->listeners.next, struct http_listener, link);
        http_link_remove(&listener->link);
        uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
        close(listener->descriptor); /* at once: what another process does not take shall be refused and not wait */
    }
}

/* ---- draining and closing ------------------------------------------------ */

void http_server_drain(struct http_server *server, void (*on_drained)(void *context), void *context) {
    assert(!server->is_closing);
    server->on_drained = on_drained;
    server->drained_context = context;
    server->is_draining = true;
    server->take = NULL;
    close_listeners(server);
    for_each_connection(server, http_connection_drain);
    if (!server->connections) uv_timer_start(&server->sweep, sweep, 0, server->sweep_ms);
}

void http_server_hand_over(struct http_server *server, void (*take)(int descriptor, void *context),
                           void (*on_drained)(void *context), void *context) {
    assert(take && !server->is_closing);
    server->on_drained = on_drained;
    server->drained_context = context;
    server->is_draining = true;
    server->take = take;
    close_listeners(server);
    for_each_connection(server, http_connection_leave_soon);
    if (!server->connections) uv_timer_start(&server->sweep, sweep, 0, server->sweep_ms);
}

static void on_own_handle_closed(uv_handle_t *handle) {
    struct http_server *server = handle->data;
    server->open_handles--;
    http_server_maybe_free(server);
}

static void end_connection(struct http_connection *connection) {
    if (connection->is_idle)
        http_connection_close(connection);
    else
        http_connection_kill(connection);
}

void http_server_close(struct http_server *server) {
    if (server->is_closing) return;
    server->is_closing = server->is_draining = true;
    server->on_drained = NULL;
    server->take = NULL;
    close_listeners(server);
    for_each_connection(server, end_connection);
    server->later.idle.data = server; /* nothing is put off any more */
    uv_close((uv_handle_t *)&server->sweep, on_own_handle_closed);
    uv_close((uv_handle_t *)&server->accept_pause, on_own_handle_closed);
    uv_close((uv_handle_t *)&server->later.idle, on_own_handle_closed);
}
