#include "fakes/fake_runner.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"

static void note(struct fake_runner *runner, const struct http_request *request) {
    runner->request_count++;
    runner->body_received = 0;
    runner->body_ended = false;
    snprintf(runner->method, sizeof runner->method, "%s", request->method);
    snprintf(runner->target, sizeof runner->target, "%s", request->target);
    runner->headers.size = runner->body.size = 0;
    for (size_t i = 0; i < request->header_count; i++)
        buffer_append_format(&runner->headers, "%s: %s\n", request->headers[i].name, request->headers[i].value);
}

static void answer(struct fake_runner *runner, struct http_request *request) {
    const struct http_header headers[] = {{"Content-Type", "application/json"},
                                          {"X-Slipway-Batch", "4"},
                                          {"Keep-Alive", "timeout=5"},
                                          {"X-Request-Id", "not-mine-to-say"},
                                          {"X-Custom", "kept"}};
    http_respond(request, 200, headers, ARRAY_SIZE(headers), runner->answer, strlen(runner->answer), NULL);
}

static void stream(struct fake_runner *runner, struct http_request *request) {
    static const char piece[16384];
    runner->streaming = request;
    while (runner->sent < runner->stream_size) {
        size_t size = runner->stream_size - runner->sent;
        if (size > sizeof piece) size = sizeof piece;
        runner->sent += size;
        if (!http_send(request, piece, size)) return;
    }
    runner->streaming = NULL;
    http_end(request);
}

static void die_halfway(struct fake_runner *runner, struct http_request *request) {
    http_begin(request, 200, NULL, 0, 1000);
    http_send(request, "half", 4);
    http_break(request);
    fake_runner_die(runner);
}

static void break_off(struct http_request *request) {
    static const char piece[100000];
    http_begin(request, 200, NULL, 0, 1000000);
    http_send(request, piece, sizeof piece);
    http_break(request);
}

static enum http_body_mode on_head(struct http_request *request, void *context) {
    struct fake_runner *runner = context;
    note(runner, request);
    request->body_maximum = SIZE_MAX / 4;
    return runner->does == FAKE_DOES_NOT_READ ? HTTP_BODY_STREAM : HTTP_BODY_WHOLE;
}

static void on_request(struct http_request *request, void *context) {
    struct fake_runner *runner = context;
    if (runner->does != FAKE_DOES_NOT_READ && request->has_body)
        buffer_append(&runner->body, request->body, request->body_size);
    switch (runner->does) {
    case FAKE_ANSWERS: answer(runner, request); break;
    case FAKE_HOLDS:
        assert(runner->held_count < FAKE_HELD_MAXIMUM);
        runner->held[runner->held_count++] = request;
        break;
    case FAKE_DIES: fake_runner_die(runner); break;
    case FAKE_DROPS: http_break(request); break;
    case FAKE_DIES_HALFWAY: die_halfway(runner, request); break;
    case FAKE_BREAKS_OFF: break_off(request); break;
    case FAKE_STREAMS:
        runner->sent = 0;
        http_begin(request, 200, NULL, 0, -1);
        stream(runner, request);
        break;
    case FAKE_DOES_NOT_READ:
        runner->reading = request;
        http_pause_body(request);
        break;
    }
}

static void on_body(struct http_request *request, const char *bytes, size_t size, void *context) {
    (void)request, (void)bytes;
    struct fake_runner *runner = context;
    runner->body_received += size;
}

static void on_body_end(struct http_request *request, void *context) {
    struct fake_runner *runner = context;
    runner->body_ended = true;
    runner->reading = NULL;
    answer(runner, request);
}

static void on_gone(struct http_request *request, void *context) {
    struct fake_runner *runner = context;
    runner->gone_count++;
    size_t kept = 0;
    for (size_t i = 0; i < runner->held_count; i++)
        if (runner->held[i] != request) runner->held[kept++] = runner->held[i];
    runner->held_count = kept;
    if (runner->streaming == request) runner->streaming = NULL;
    if (runner->reading == request) runner->reading = NULL;
    http_break(request);
}

static void on_writable(struct http_request *request, void *context) {
    stream(context, request);
}

static const struct http_handler handler = {.on_head = on_head,
                                            .on_request = on_request,
                                            .on_body = on_body,
                                            .on_body_end = on_body_end,
                                            .on_gone = on_gone,
                                            .on_writable = on_writable};

void fake_runner_open(struct fake_runner *runner, uv_loop_t *loop, const char *path) {
    *runner = (struct fake_runner){.loop = loop, .answer = "{}"};
    const struct http_server_config config = {
        .loop = loop,
        .limits = {.head_maximum = 65536, .body_maximum = SIZE_MAX / 4, .connections_maximum = 256},
        .handler = &handler,
        .context = runner,
    };
    _cleanup_free_ char *address = text_format("unix:%s", path);
    int descriptor = -1;
    runner->server = http_server_new(&config);
    if (http_listen(address, &descriptor, NULL) || http_server_listen(runner->server, descriptor, NULL)) abort();
}

void fake_runner_die(struct fake_runner *runner) {
    if (runner->server) http_server_close(TAKE(runner->server));
}

void fake_runner_release(struct fake_runner *runner) {
    while (runner->held_count) answer(runner, runner->held[--runner->held_count]);
}

void fake_runner_read(struct fake_runner *runner) {
    if (runner->reading) http_resume_body(runner->reading);
}

void fake_runner_close(struct fake_runner *runner) {
    fake_runner_die(runner);
    buffer_clear(&runner->headers);
    buffer_clear(&runner->body);
}

bool fake_runner_saw(const struct fake_runner *runner, const char *line) {
    size_t size = strlen(line);
    const char *at = runner->headers.bytes;
    for (; at && *at; at = strchr(at, '\n') + 1)
        if (!strncmp(at, line, size) && at[size] == '\n') return true;
    return false;
}
