/* A server with a handler of many manners, and plain sockets to talk to it, all in one thread and one loop.
 *
 * Whatever waits, waits on a condition while the loop turns, with a deadline of ten seconds; there is no sleeping. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "http/http_client.h"
#include "http/http_server.h"

struct http_fixture {
    uv_loop_t loop;
    struct http_server *server;
    char address[64]; /* for http_pool_new() */
    int port;
    struct http_request *held; /* the last request to /hold, /manual or /paused */
    struct http_request *all_held[16];
    unsigned held_count;
    unsigned heads, requests, pieces, body_ends, gone, writable, drained;
    size_t body_received; /* bytes that came in pieces */
    size_t to_send; /* what /big still sends */
    unsigned full; /* how often it was told to wait */
    struct http_pool *pool;
};

/* What the handler does, by path:
 *   /hello           answers a JSON object
 *   /echo            answers with the whole body
 *   /echo-stream     answers the body piece by piece
 *   /hold            keeps the request for the test to answer
 *   /manual          streams, and keeps the request for the test
 *   /paused          the same, with the body paused
 *   /early           answers 404 in on_head
 *   /big?size=N      N bytes, chunked, waiting when told so
 *   /short           announces more than it sends
 *   /forgetful       echoes, but does not end a request whose client is gone
 *   /small-body      lowers the body's ceiling to 10 bytes */
extern const struct http_limits http_fixture_limits; /* generous */
void http_fixture_start(struct http_fixture *fixture, const struct http_limits *limits);
/* The same over TLS; takes the context. */
void http_fixture_start_tls(struct http_fixture *fixture, const struct http_limits *limits,
                            struct http_tls_context *tls);
/* Closes all, runs the loop to its end, and fails when a handle is left. */
void http_fixture_stop(struct http_fixture *fixture);

/* Turns the loop once; waits a little when there is nothing to do. */
void http_fixture_turn(struct http_fixture *fixture);
#define http_fixture_wait(fixture, condition)                                                                          \
    do {                                                                                                               \
        uint64_t until_ = uv_hrtime() + 10000000000;                                                                   \
        while (!(condition)) {                                                                                         \
            if (uv_hrtime() > until_) fail_msg("waited in vain for: %s", #condition);                                  \
            http_fixture_turn(fixture);                                                                                \
        }                                                                                                              \
    } while (0)

/* Plain sockets. */
int http_raw_connect(struct http_fixture *fixture);
void http_raw_send(struct http_fixture *fixture, int descriptor, const char *bytes, size_t size);
void http_raw_say(struct http_fixture *fixture, int descriptor, const char *text);
/* Everything up to the end of the stream; a reset adds "<reset>". NUL-terminated; caller frees. */
char *http_raw_read_all(struct http_fixture *fixture, int descriptor, size_t *ret_size);
/* Until the text has come; caller frees. */
char *http_raw_read_until(struct http_fixture *fixture, int descriptor, const char *text);
/* One answer, its body by Content-Length or chunks; caller frees. */
char *http_raw_read_answer(struct http_fixture *fixture, int descriptor);
/* Says it on a connection of its own, which is then read to its end; caller frees. */
char *http_raw_ask(struct http_fixture *fixture, const char *text, size_t size);
int http_raw_status(const char *answer);
