#include "support/http_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"

const struct http_limits http_fixture_limits = {.head_maximum = 65536,
                                                .body_maximum = 1 << 20,
                                                .connections_maximum = 100,
                                                .header_timeout_ms = 60000,
                                                .body_timeout_ms = 60000,
                                                .idle_timeout_ms = 60000};

/* ---- the handler --------------------------------------------------------- */

static bool is_path(const struct http_request *request, const char *path) {
    return !strcmp(request->path, path);
}

static void send_big(struct http_fixture *fixture, struct http_request *request) {
    static const char bytes[10000];
    while (fixture->to_send) {
        size_t size = fixture->to_send < sizeof bytes ? fixture->to_send : sizeof bytes;
        fixture->to_send -= size;
        if (http_send(request, bytes, size)) continue;
        fixture->full++;
        return;
    }
    http_end(request);
}

static enum http_body_mode on_head(struct http_request *request, void *context) {
    struct http_fixture *fixture = context;
    fixture->heads++;
    if (is_path(request, "/early")) http_respond(request, 404, NULL, 0, "early", 5, NULL);
    if (is_path(request, "/small-body")) request->body_maximum = 10;
    bool streams = is_path(request, "/echo-stream") || is_path(request, "/paused") || is_path(request, "/manual");
    return streams ? HTTP_BODY_STREAM : HTTP_BODY_WHOLE;
}

static void on_request(struct http_request *request, void *context) {
    struct http_fixture *fixture = context;
    fixture->requests++;
    if (is_path(request, "/hello")) {
        http_respond_json(request, 200, "{\"hello\":true}", 14);
    } else if (is_path(request, "/hold") || is_path(request, "/manual") || is_path(request, "/paused")) {
        fixture->held = request;
        fixture->all_held[fixture->held_count++ % 16] = request;
        if (is_path(request, "/paused")) http_pause_body(request);
    } else if (is_path(request, "/echo-stream")) {
        http_begin(request, 200, NULL, 0, request->content_length);
    } else if (is_path(request, "/big")) {
        const char *size = http_request_parameter(request, "size");
        fixture->to_send = size ? strtoull(size, NULL, 10) : 0;
        http_begin(request, 200, NULL, 0, -1);
        send_big(fixture, request);
    } else if (is_path(request, "/short")) {
        http_begin(request, 200, NULL, 0, 100);
        http_send(request, "only this", 9);
        http_end(request);
    } else {
        http_respond(request, 200, NULL, 0, request->body, request->body_size, NULL);
    }
}

static void on_body(struct http_request *request, const char *bytes, size_t size, void *context) {
    struct http_fixture *fixture = context;
    fixture->pieces++;
    fixture->body_received += size;
    if (is_path(request, "/echo-stream")) http_send(request, bytes, size);
}

static void on_body_end(struct http_request *request, void *context) {
    struct http_fixture *fixture = context;
    fixture->body_ends++;
    if (is_path(request, "/echo-stream")) http_end(request);
}

static void on_gone(struct http_request *request, void *context) {
    struct http_fixture *fixture = context;
    fixture->gone++;
    bool is_the_tests = is_path(request, "/hold") || is_path(request, "/manual") || is_path(request, "/paused") ||
                        is_path(request, "/forgetful");
    if (!is_the_tests) http_break(request);
}

static void on_writable(struct http_request *request, void *context) {
    struct http_fixture *fixture = context;
    fixture->writable++;
    if (is_path(request, "/big")) send_big(fixture, request);
}

static const struct http_handler handler = {.on_head = on_head,
                                            .on_request = on_request,
                                            .on_body = on_body,
                                            .on_body_end = on_body_end,
                                            .on_gone = on_gone,
                                            .on_writable = on_writable};

/* ---- life ---------------------------------------------------------------- */

void http_fixture_start(struct http_fixture *fixture, const struct http_limits *limits) {
    http_fixture_start_tls(fixture, limits, NULL);
}

void http_fixture_start_tls(struct http_fixture *fixture, const struct http_limits *limits,
                            struct http_tls_context *tls) {
    *fixture = (struct http_fixture){0};
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    const struct http_server_config config = {
        .loop = &fixture->loop, .limits = *limits, .handler = &handler, .context = fixture, .server_name = "slipway"};
    fixture->server = http_server_new(&config);
    int descriptor = -1;
    struct error *error = NULL;
    assert_int_equal(http_listen("127.0.0.1:0", &descriptor, &error), 0);
    struct sockaddr_in name;
    socklen_t size = sizeof name;
    assert_int_equal(getsockname(descriptor, (struct sockaddr *)&name, &size), 0);
    fixture->port = ntohs(name.sin_port);
    snprintf(fixture->address, sizeof fixture->address, "127.0.0.1:%d", fixture->port);
    if (tls)
        assert_int_equal(http_server_listen_tls(fixture->server, descriptor, tls, &error), 0);
    else
        assert_int_equal(http_server_listen(fixture->server, descriptor, &error), 0);
}

void http_fixture_turn(struct http_fixture *fixture) {
    if (uv_run(&fixture->loop, UV_RUN_NOWAIT) >= 0) {
        struct pollfd loop = {.fd = uv_backend_fd(&fixture->loop), .events = POLLIN};
        poll(&loop, 1, 1);
    }
}

void http_fixture_stop(struct http_fixture *fixture) {
    if (fixture->server) http_server_close(fixture->server);
    uint64_t until = uv_hrtime() + 10000000000;
    while (uv_run(&fixture->loop, UV_RUN_NOWAIT)) assert_true(uv_hrtime() < until);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
}

/* ---- plain sockets ------------------------------------------------------- */

int http_raw_connect(struct http_fixture *fixture) {
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)fixture->port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(descriptor, (struct sockaddr *)&name, sizeof name), 0);
    return descriptor;
}

void http_raw_send(struct http_fixture *fixture, int descriptor, const char *bytes, size_t size) {
    uint64_t until = uv_hrtime() + 10000000000;
    while (size) {
        ssize_t sent = send(descriptor, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return; /* the server has heard enough */
        if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
        }
        assert_true(uv_hrtime() < until);
        http_fixture_turn(fixture);
    }
}

void http_raw_say(struct http_fixture *fixture, int descriptor, const char *text) {
    http_raw_send(fixture, descriptor, text, strlen(text));
}

/* One more read into the buffer; false at the end of the stream. */
static bool read_more(struct http_fixture *fixture, int descriptor, struct buffer *buffer) {
    char bytes[65536];
    uint64_t until = uv_hrtime() + 10000000000;
    for (;;) {
        ssize_t size = recv(descriptor, bytes, sizeof bytes, MSG_DONTWAIT);
        if (size > 0) return buffer_append(buffer, bytes, (size_t)size);
        if (!size) return false;
        if (errno != EAGAIN) {
            buffer_append_text(buffer, "<reset>");
            return false;
        }
        if (uv_hrtime() > until) fail_msg("no answer; so far: %s", buffer->bytes ? buffer->bytes : "nothing");
        http_fixture_turn(fixture);
    }
}

char *http_raw_read_all(struct http_fixture *fixture, int descriptor, size_t *ret_size) {
    struct buffer buffer = {0};
    while (read_more(fixture, descriptor, &buffer)) continue;
    buffer_append(&buffer, "", 0);
    return buffer_take(&buffer, ret_size);
}

char *http_raw_read_until(struct http_fixture *fixture, int descriptor, const char *text) {
    struct buffer buffer = {0};
    size_t size = strlen(text);
    while (!buffer.bytes || !memmem(buffer.bytes, buffer.size, text, size))
        if (!read_more(fixture, descriptor, &buffer))
            fail_msg("the stream ended before \"%s\": %s", text, buffer.bytes ? buffer.bytes : "nothing");
    return buffer_take(&buffer, NULL);
}

/* Whether the bytes are one whole answer. */
static bool is_answer(const struct buffer *buffer) {
    const char *end = buffer->bytes ? strstr(buffer->bytes, "\r\n\r\n") : NULL;
    if (!end) return false;
    const char *length = strstr(buffer->bytes, "Content-Length: ");
    if (length && length < end)
        return buffer->size >= (size_t)(end + 4 - buffer->bytes) + strtoul(length + 16, NULL, 10);
    const char *chunked = strstr(buffer->bytes, "Transfer-Encoding: chunked");
    return !chunked || chunked > end || strstr(end, "0\r\n\r\n");
}

char *http_raw_read_answer(struct http_fixture *fixture, int descriptor) {
    struct buffer buffer = {0};
    while (!is_answer(&buffer) && read_more(fixture, descriptor, &buffer)) continue;
    return buffer_take(&buffer, NULL);
}

char *http_raw_ask(struct http_fixture *fixture, const char *text, size_t size) {
    int descriptor = http_raw_connect(fixture);
    http_raw_send(fixture, descriptor, text, size);
    char *answer = http_raw_read_all(fixture, descriptor, NULL);
    close(descriptor);
    return answer;
}

int http_raw_status(const char *answer) {
    return !strncmp(answer, "HTTP/1.1 ", 9) ? atoi(answer + 9) : -1;
}
