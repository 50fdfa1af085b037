/* A replica, played on the test's own loop: our HTTP server on a unix socket that does what the test says with each
 * request and keeps what it was asked. Left out: a process, a model, batching, the protocol's bodies. It also plays the
 * controller's socket. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buffer.h"
#include "http/http_server.h"

enum fake_runner_does {
    FAKE_ANSWERS, /* 200, `answer` with X-Slipway-Batch: 4 and headers of its hop */
    FAKE_HOLDS, /* nothing, until fake_runner_release() */
    FAKE_DIES, /* closes socket and connections without a word */
    FAKE_DROPS, /* closes the connection, and lives */
    FAKE_DIES_HALFWAY, /* sends half of a short answer first */
    FAKE_BREAKS_OFF, /* begins a long answer, then closes the connection */
    FAKE_STREAMS, /* `stream_size` bytes, as fast as they are taken */
    FAKE_DOES_NOT_READ, /* leaves a streamed body where it is, until fake_runner_read() */
};

#define FAKE_HELD_MAXIMUM 64

struct fake_runner {
    uv_loop_t *loop;
    struct http_server *server; /* NULL: dead */
    enum fake_runner_does does;
    const char *answer;
    size_t stream_size;

    size_t request_count, gone_count;
    char method[16], target[512];
    struct buffer headers; /* of the newest request: "name: value\n"… */
    struct buffer body; /* of the newest whole one */
    size_t body_received; /* of the newest streamed one */
    bool body_ended;
    size_t sent; /* of the streamed answer */
    struct http_request *streaming, *reading;
    struct http_request *held[FAKE_HELD_MAXIMUM];
    size_t held_count;
};

void fake_runner_open(struct fake_runner *runner, uv_loop_t *loop, const char *path);
/* Closes everything, as death does. */
void fake_runner_die(struct fake_runner *runner);
/* Answers all that is held. */
void fake_runner_release(struct fake_runner *runner);
void fake_runner_read(struct fake_runner *runner);
/* Frees what it kept; dead or not. */
void fake_runner_close(struct fake_runner *runner);
/* Whether the newest request had this header line, "name: value". */
bool fake_runner_saw(const struct fake_runner *runner, const char *line);
