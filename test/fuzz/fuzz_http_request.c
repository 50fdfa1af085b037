/* Request bytes into a real server connection over a socket pair, whole and in small pieces: both must be answered
 * alike.
 *
 * The handler does with each request what handlers do: segments, parameters, whole and streamed bodies, early answers.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "http/http_server-internal.h"

#define INPUT_MAXIMUM 20000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_target(struct http_request *request) {
    static const char *const known[] = {"limit", "offset"};
    const char *segments[4];
    struct error *error = NULL;
    int count = http_request_segments(request, segments, 4);
    for (int i = 0; i < count; i++)
        if (strlen(segments[i]) > strlen(request->path)) abort();
    http_request_parameter(request, "limit");
    if (http_check_parameters(request, known, 2, &error) < 0) error_free(error);
}

static enum http_body_mode on_head(struct http_request *request, void *context) {
    (void)context;
    read_target(request);
    for (size_t i = 0; i < request->header_count; i++)
        if (strpbrk(request->headers[i].value, "\r\n") || !request->headers[i].name[0]) abort();
    if (request->path[0] != '/' && strcmp(request->path, "*")) abort();
    if (!strncmp(request->path, "/early", 6)) http_respond(request, 404, NULL, 0, "early", 5, NULL);
    return strncmp(request->path, "/stream", 7) ? HTTP_BODY_WHOLE : HTTP_BODY_STREAM;
}

static void on_request(struct http_request *request, void *context) {
    size_t *received = context;
    *received = 0;
    if (strncmp(request->path, "/stream", 7))
        http_respond(request, 200, NULL, 0, request->body, request->body_size, NULL);
}

static void on_body(struct http_request *request, const char *bytes, size_t size, void *context) {
    size_t *received = context;
    (void)request;
    if (!size || !bytes) abort();
    *received += size;
}

/* Not begun before: how much of a broken body's answer has left by then is a matter of time. */
static void on_body_end(struct http_request *request, void *context) {
    size_t *received = context;
    char text[32];
    http_begin(request, 200, NULL, 0, -1);
    http_send(request, text, (size_t)snprintf(text, sizeof text, "%zu bytes", *received));
    http_end(request);
}

static void on_gone(struct http_request *request, void *context) {
    (void)context;
    http_break(request);
}

static const struct http_handler handler = {
    .on_head = on_head, .on_request = on_request, .on_body = on_body, .on_body_end = on_body_end, .on_gone = on_gone};

static void take_answers(int descriptor, struct buffer *answers) {
    char bytes[4096];
    for (;;) {
        ssize_t size = recv(descriptor, bytes, sizeof bytes, MSG_DONTWAIT);
        if (size <= 0) return;
        buffer_append(answers, bytes, (size_t)size);
    }
}

static void cut(struct buffer *answers, const char *text, size_t size) {
    char *at;
    while (answers->size && (at = memmem(answers->bytes, answers->size, text, strlen(text)))) {
        size_t behind = (size_t)(answers->bytes + answers->size - at);
        size_t gone = size < behind ? size : behind;
        memmove(at, at + gone, behind - gone);
        answers->size -= gone;
    }
}

/* What time decides: the date, and whether the client had to be told to continue. */
static void drop_times(struct buffer *answers) {
    cut(answers, "\r\nDate: ", 37);
    cut(answers, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

/* All answers to the bytes, given in pieces of that size. */
static void serve(const uint8_t *data, size_t size, size_t piece, struct buffer *ret_answers) {
    uv_loop_t loop;
    size_t received = 0;
    int pair[2];
    if (uv_loop_init(&loop) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) abort();
    const struct http_server_config config = {
        .loop = &loop,
        .limits = {.head_maximum = 2048, .body_maximum = 4096, .connections_maximum = 4},
        .handler = &handler,
        .context = &received};
    struct http_server *server = http_server_new(&config);
    const struct http_address peer = {.size = 0};
    http_connection_open(server, pair[1], &peer, &(struct http_door){0});
    for (size_t at = 0; at < size;) {
        size_t part = size - at < piece ? size - at : piece;
        ssize_t sent = send(pair[0], data + at, part, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) break; /* refused and closed */
        if (sent > 0) at += (size_t)sent;
        uv_run(&loop, UV_RUN_NOWAIT);
        take_answers(pair[0], ret_answers);
    }
    shutdown(pair[0], SHUT_WR);
    for (int turns = 0; http_server_connections(server); turns++) {
        if (turns > 10000) abort(); /* the client said all it has: nothing may hold the connection */
        uv_run(&loop, UV_RUN_NOWAIT);
        take_answers(pair[0], ret_answers);
    }
    http_server_close(server);
    uv_run(&loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&loop)) abort();
    take_answers(pair[0], ret_answers);
    close(pair[0]);
    drop_times(ret_answers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    _cleanup_buffer_ struct buffer whole = {0}, pieces = {0};
    if (size > INPUT_MAXIMUM) return 0;
    serve(data, size, size ? size : 1, &whole);
    serve(data, size, size < 600 ? 1 : 97, &pieces);
    if (whole.size != pieces.size || (whole.size && memcmp(whole.bytes, pieces.bytes, whole.size))) {
        fprintf(stderr, "whole:\n%s\n\nin pieces:\n%s\n", whole.bytes ? whole.bytes : "",
                pieces.bytes ? pieces.bytes : "");
        abort();
    }
    return 0;
}
