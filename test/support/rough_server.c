#include "support/rough_server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"

#define REQUESTS_MAXIMUM 64

struct rough_server {
    const struct rough_answer *answers; /* or: */
    struct rough_answer (*answer)(void *context, const char *request);
    void *context;
    size_t count, request_count;
    char *requests[REQUESTS_MAXIMUM];
    int other_port, port, listener, over;
    pthread_t thread;
    pthread_mutex_t mutex;
};

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "rough_server: %s failed\n", what);
    abort();
}

/* Until there is something to read, or it is over. */
static bool wait_for(const struct rough_server *server, int descriptor) {
    struct pollfd watched[] = {{.fd = descriptor, .events = POLLIN}, {.fd = server->over, .events = POLLIN}};
    while (poll(watched, 2, -1) < 0) continue;
    return !watched[1].revents;
}

static size_t body_size(const char *head) {
    const char *field = strcasestr(head, "\nContent-Length:");
    return field ? strtoul(field + 16, NULL, 10) : 0;
}

/* One request with its body; false when the client went away or it is over. */
static bool read_request(struct rough_server *server, int connection, struct buffer *request) {
    for (;;) {
        const char *end = request->bytes ? strstr(request->bytes, "\r\n\r\n") : NULL;
        size_t wanted = end ? (size_t)(end - request->bytes) + 4 + body_size(request->bytes) : 0;
        if (end && request->size >= wanted) return true;
        char bytes[65536];
        if (!wait_for(server, connection)) return false;
        ssize_t got = recv(connection, bytes, sizeof bytes, 0);
        if (got <= 0) return false;
        require(buffer_append(request, bytes, (size_t)got), "keeping a request");
    }
}

static void send_all(int connection, const char *bytes, size_t size) {
    while (size) {
        ssize_t sent = send(connection, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0) return; /* the client has enough */
        bytes += sent;
        size -= (size_t)sent;
    }
}

static void say(struct rough_server *server, int connection, const struct rough_answer *answer) {
    if (answer->bytes) {
        const char *port = answer->size ? NULL : strstr(answer->bytes, "PORT");
        _cleanup_free_ char *changed =
            port ? text_format("%.*s%d%s", (int)(port - answer->bytes), answer->bytes, server->other_port, port + 4)
                 : NULL;
        const char *bytes = changed ? changed : answer->bytes;
        send_all(connection, bytes, answer->size ? answer->size : strlen(bytes));
    }
    char ignored[4096];
    while (answer->hangs && wait_for(server, connection) && recv(connection, ignored, sizeof ignored, 0) > 0) continue;
}

static void serve(struct rough_server *server, int connection) {
    _cleanup_buffer_ struct buffer request = {0};
    if (!read_request(server, connection, &request)) return;
    if (server->answer) {
        struct rough_answer answer = server->answer(server->context, request.bytes);
        say(server, connection, &answer);
        return;
    }
    pthread_mutex_lock(&server->mutex);
    size_t place = server->request_count++;
    require(place < REQUESTS_MAXIMUM, "keeping so many requests");
    server->requests[place] = buffer_take(&request, NULL);
    pthread_mutex_unlock(&server->mutex);
    say(server, connection, &server->answers[place < server->count ? place : server->count - 1]);
}

static void finish(int connection) {
    shutdown(connection, SHUT_WR);
    char ignored[4096]; /* a reset would take away what was said */
    struct pollfd watched = {.fd = connection, .events = POLLIN};
    while (poll(&watched, 1, 1000) > 0 && recv(connection, ignored, sizeof ignored, 0) > 0) continue;
}

static void *run(void *context) {
    struct rough_server *server = context;
    while (wait_for(server, server->listener)) {
        int connection = accept(server->listener, NULL, NULL);
        if (connection < 0) continue;
        serve(server, connection);
        finish(connection);
        close(connection);
    }
    return NULL;
}

static struct rough_server *start(const struct rough_server *how) {
    struct rough_server *server = mem_copy(how, sizeof *how);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    server->over = eventfd(0, EFD_CLOEXEC);
    require(server->listener >= 0 && server->over >= 0, "socket");
    require(!bind(server->listener, (struct sockaddr *)&address, size) && !listen(server->listener, 16) &&
                !getsockname(server->listener, (struct sockaddr *)&address, &size),
            "listening");
    server->port = ntohs(address.sin_port);
    pthread_mutex_init(&server->mutex, NULL);
    require(!pthread_create(&server->thread, NULL, run, server), "starting a thread");
    return server;
}

struct rough_server *rough_server_start(const struct rough_answer *answers, size_t count, int other_port) {
    return start(&(struct rough_server){.answers = answers, .count = count, .other_port = other_port});
}

struct rough_server *rough_server_start_with(struct rough_answer (*answer)(void *context, const char *request),
                                             void *context) {
    return start(&(struct rough_server){.answer = answer, .context = context});
}

int rough_server_port(const struct rough_server *server) {
    return server->port;
}

size_t rough_server_count(struct rough_server *server) {
    pthread_mutex_lock(&server->mutex);
    size_t count = server->request_count;
    pthread_mutex_unlock(&server->mutex);
    return count;
}

const char *rough_server_request(struct rough_server *server, size_t place) {
    require(place < rough_server_count(server), "finding that request");
    return server->requests[place];
}

void rough_server_stop(struct rough_server *server) {
    if (!server) return;
    eventfd_write(server->over, 1);
    pthread_join(server->thread, NULL);
    close(server->listener);
    close(server->over);
    for (size_t i = 0; i < server->request_count; i++) free(server->requests[i]);
    pthread_mutex_destroy(&server->mutex);
    free(server);
}
