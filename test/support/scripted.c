#include "support/scripted.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"

struct scripted {
    const struct scripted_answer *answers;
    size_t count;
    unsigned *used;
    char url[64];
    int listener;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    char **requests;
    size_t request_count;
    int connection;
    bool ends;
};

static void must(bool holds, const char *what) {
    if (holds) return;
    perror(what);
    abort();
}

/* Reads until the head is whole, then the body. False when the client has closed. */
static bool read_request(int connection, struct buffer *request, size_t *ret_head) {
    char block[65536];
    size_t head = 0, body = 0;
    for (;;) {
        if (!head && request->size) {
            const char *end = strstr(request->bytes, "\r\n\r\n"), *length;
            if (end) {
                head = (size_t)(end - request->bytes) + 4;
                length = strcasestr(request->bytes, "\r\ncontent-length:");
                body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
            }
        }
        if (head && request->size >= head + body) break;
        ssize_t size = read(connection, block, sizeof block);
        if (size <= 0) return false;
        must(buffer_append(request, block, (size_t)size), "memory");
    }
    *ret_head = head;
    return true;
}

/* "METHOD path\n<content type>\n<body>" */
static char *describe(const struct buffer *request, size_t head) {
    size_t line = strcspn(request->bytes, "\r");
    size_t method = strcspn(request->bytes, " "), path = strcspn(request->bytes + method + 1, " ");
    must(method + 1 + path < line, "a request line");
    const char *type = strcasestr(request->bytes, "\r\ncontent-type: ");
    bool has_type = type && type < request->bytes + head;
    return text_format("%.*s\n%.*s\n%s", (int)(method + 1 + path), request->bytes,
                       has_type ? (int)strcspn(type + 16, "\r") : 0, has_type ? type + 16 : "", request->bytes + head);
}

static const struct scripted_answer *find_answer(struct scripted *scripted, const char *request) {
    static const struct scripted_answer nothing = {
        "", 404, "{\"error\":\"ResourceNotFoundError\",\"detail\":\"not in the script\"}", 0};
    for (size_t i = 0; i < scripted->count; i++) {
        const struct scripted_answer *answer = &scripted->answers[i];
        if (!text_starts_with(request, answer->request) || (answer->times && scripted->used[i] >= answer->times))
            continue;
        scripted->used[i]++;
        return answer;
    }
    return &nothing;
}

static void answer_on(struct scripted *scripted, int connection) {
    for (;;) {
        _cleanup_buffer_ struct buffer request = {0};
        size_t head = 0;
        if (!read_request(connection, &request, &head)) return;
        char *described = describe(&request, head);
        const struct scripted_answer *answer = find_answer(scripted, described);
        pthread_mutex_lock(&scripted->lock);
        scripted->requests = mem_resize(scripted->requests, scripted->request_count + 1, sizeof *scripted->requests);
        scripted->requests[scripted->request_count++] = described;
        pthread_mutex_unlock(&scripted->lock);
        const char *body = answer->body ? answer->body : "{}";
        _cleanup_free_ char *bytes =
            text_format("HTTP/1.1 %d Scripted\r\nContent-Type: %s\r\nX-Total-Count: 7\r\nContent-Length: %zu\r\n\r\n%s",
                        answer->status, answer->status >= 400 ? "application/problem+json" : "application/json",
                        strlen(body), body);
        if (write(connection, bytes, strlen(bytes)) != (ssize_t)strlen(bytes)) return;
    }
}

static void *serve(void *context) {
    struct scripted *scripted = context;
    for (;;) {
        int connection = accept(scripted->listener, NULL, NULL);
        if (connection < 0) return NULL;
        pthread_mutex_lock(&scripted->lock);
        scripted->connection = connection;
        bool ends = scripted->ends;
        pthread_mutex_unlock(&scripted->lock);
        if (!ends) answer_on(scripted, connection);
        pthread_mutex_lock(&scripted->lock);
        scripted->connection = -1;
        pthread_mutex_unlock(&scripted->lock);
        close(connection);
    }
}

struct scripted *scripted_start(const struct scripted_answer *answers, size_t count) {
    struct scripted *scripted = mem_new(struct scripted);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    scripted->answers = answers;
    scripted->count = count;
    scripted->used = mem_new_array(count, unsigned);
    scripted->connection = -1;
    scripted->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(scripted->listener >= 0, "socket");
    must(bind(scripted->listener, (struct sockaddr *)&address, size) == 0, "bind");
    must(listen(scripted->listener, 16) == 0, "listen");
    must(getsockname(scripted->listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
    snprintf(scripted->url, sizeof scripted->url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    pthread_mutex_init(&scripted->lock, NULL);
    must(pthread_create(&scripted->thread, NULL, serve, scripted) == 0, "pthread_create");
    return scripted;
}

const char *scripted_url(const struct scripted *scripted) {
    return scripted->url;
}

size_t scripted_count(const struct scripted *scripted) {
    return scripted->request_count;
}

const char *scripted_request(const struct scripted *scripted, size_t place) {
    return place < scripted->request_count ? scripted->requests[place] : "";
}

size_t scripted_count_of(const struct scripted *scripted, const char *request) {
    size_t count = 0;
    for (size_t i = 0; i < scripted->request_count; i++) count += text_starts_with(scripted->requests[i], request);
    return count;
}

void scripted_stop(struct scripted *scripted) {
    pthread_mutex_lock(&scripted->lock);
    scripted->ends = true;
    if (scripted->connection >= 0) shutdown(scripted->connection, SHUT_RDWR);
    pthread_mutex_unlock(&scripted->lock);
    shutdown(scripted->listener, SHUT_RDWR);
    pthread_join(scripted->thread, NULL);
    close(scripted->listener);
    for (size_t i = 0; i < scripted->request_count; i++) free(scripted->requests[i]);
    free(scripted->requests);
    free(scripted->used);
    pthread_mutex_destroy(&scripted->lock);
    free(scripted);
}
