/* A server and its connections.
 *
 * A connection is a machine of named steps (http_connection.c): each is one function, which says whether the next one
 * can run at once. Its handle, buffers and request live as long as it does, so that a request on a kept-alive
 * connection allocates nothing. It goes when its handle is closed *and* its handler has ended the request.
 */
#pragma once
#include <stdio.h>
#include <uv.h>

#include "http/http-internal.h"
#include "http/http_message-internal.h"
#include "http/http_output-internal.h"
#include "http/http_server.h"

struct http_listener;

/* By which door a connection comes. */
struct http_door {
    struct http_tls_context *tls; /* http_server_listen_tls() */
    bool is_local; /* http_server_listen_local() */
};

struct http_server {
    struct http_server_config config;
    char *server_name;
    struct http_tls_context *tls; /* of http_server_listen_tls(), or NULL */
    struct http_link listeners;
    struct http_link idle; /* kept-alive connections without a byte of a next request, the longest idle first */
    struct http_link busy;
    size_t connections;
    uv_timer_t sweep;
    uint64_t sweep_ms;
    uv_timer_t accept_pause; /* after the process had no descriptors left */
    struct http_later later;
    int reserve; /* a descriptor that is given up to refuse a client when there is no other */
    unsigned open_handles;
    bool is_draining, is_closing, is_accepting;
    void (*take)(int descriptor, void *context); /* draining by handing over; with drained_context */
    void (*on_drained)(void *context);
    void *drained_context;
    int64_t date_second;
    char date[30];
    char scratch[HTTP_SCRATCH_SIZE];
};

enum http_step {
#define STEP(name, function, does) HTTP_STEP_##name,
#include "http/http_steps.def"
#undef STEP
    HTTP_STEP_COUNT
};

enum http_answer_state { HTTP_ANSWER_NONE, HTTP_ANSWER_BEGUN, HTTP_ANSWER_ENDED };

#define HTTP_REQUEST_MEMORY 512

/* A block of a request's memory that did not fit into the connection's own. */
struct http_request_block {
    struct http_request_block *next;
    char bytes[];
};

struct http_connection {
    struct http_link link; /* in the server's idle or busy list */
    struct http_server *server;
    union http_handle handle;
    uv_shutdown_t shutdown;
    struct http_tls *tls; /* NULL: plain */
    struct http_message message;
    struct http_output output;
    struct http_later_item later;
    enum http_step step;

    struct buffer late; /* received, but its turn has not come: behind a paused body, or the next request */
    size_t late_used;
    const char *fresh; /* what the read going on brought */
    size_t fresh_size;
    uint64_t deadline_ms; /* loop time; 0: none */
    bool is_overdue; /* the deadline was past at the last sweep */
    bool has_expired; /* and at this one: to be dealt with from the loop */
    size_t stalled_at; /* how much waited in the kernel's way at the last sweep */
    uint64_t stalled_since_ms;

    struct http_request request; /* what the handler sees */
    struct buffer body; /* HTTP_BODY_WHOLE that did not come in one piece */
    enum http_body_mode body_mode;
    enum http_answer_state answer;
    int64_t answer_length; /* what the answer's head announced; -1: none */
    uint64_t answer_sent; /* bytes of body */
    size_t discarded;
    struct buffer head; /* the answer's, held until the first bytes of its body, so that both leave together */
    bool is_head_held;
    struct http_request_block *blocks;
    size_t memory_used;
    char memory[HTTP_REQUEST_MEMORY];

    bool is_request_open; /* the handler has it */
    bool was_handed_over; /* on_request was called */
    bool is_input_done; /* the whole request was received */
    bool keep_alive;
    bool will_close; /* the client says that it sends nothing more */
    bool is_old; /* HTTP/1.0 */
    bool is_head; /* the method is HEAD */
    bool without_body; /* HEAD, 204, 304 */
    bool is_answer_chunked;
    bool wants_continue; /* Expect: 100-continue, not yet answered */
    bool is_body_paused;
    bool was_told_full, was_told_gone;
    bool is_gone; /* the client closed its side */
    bool is_detached; /* refused by the server itself: what the handler answers goes nowhere */
    bool is_dead; /* the handle is being closed */
    bool is_closed; /* it is closed */
    bool is_running, is_reading, is_idle, has_served;
    bool is_local; /* came by a local door, from one who may */
    bool is_stranger; /* came by it and may not */
    char peer[64];
};

static inline struct http_connection *http_connection_of(const struct http_request *request) {
    return CONTAINER_OF(request, struct http_connection, request);
}

/* Whether it closes after its answer because the server ends. */
static inline bool http_connection_must_close(const struct http_connection *connection) {
    return connection->server->is_draining && (!connection->server->take || connection->tls);
}

/* ---- http_open.c ---- */

/* Takes the descriptor of an accepted socket. The connection is dead when libuv does not want it. */
struct http_connection *http_connection_open(struct http_server *server, int descriptor,
                                             const struct http_address *peer, const struct http_door *door);

/* ---- http_handover.c ---- */

/* Gives an idle one away, where the server hands over. False: it stays as it is. */
bool http_connection_leave(struct http_connection *connection);
/* The same from the loop, if it is still idle then. */
void http_connection_leave_soon(struct http_connection *connection);

/* ---- http_secure.c ---- */

/* Received bytes of a connection over TLS: decrypts them and goes on with what they are. */
void http_connection_take_sealed(struct http_connection *connection, const char *bytes, size_t size);
/* Says over TLS, as far as the socket takes it, that nothing follows; does nothing on a plain connection. */
void http_connection_end_tls(struct http_connection *connection);
/* Closes one that waits for its client: the end is no accident. */
void http_connection_close(struct http_connection *connection);

/* ---- http_connection.c ---- */

/* The client sends nothing more. */
void http_connection_ended(struct http_connection *connection);
/* What comes is of no interest any more. */
bool http_connection_is_deaf(const struct http_connection *connection);
/* Says goodbye behind what was written, and reads on for a moment, so that the client gets to see it. */
void http_connection_linger(struct http_connection *connection);

/* Without a handle yet; stands in no list. */
struct http_connection *http_connection_new(struct http_server *server);
void http_connection_set_deadline(struct http_connection *connection, uint64_t in_ms); /* 0: none */
/* The output's on_progress. */
void http_connection_progressed(struct http_output *output);
/* What was received and no step has taken. */
size_t http_connection_buffered(const struct http_connection *connection);
/* Goes as far as it can; calls the handler. */
void http_connection_run(struct http_connection *connection);
/* Closes at once; the handler is told from the loop. */
void http_connection_kill(struct http_connection *connection);
/* The answer is complete; calls no handler. */
void http_connection_answered(struct http_connection *connection);
/* Answers for the handler, which is told that its request is gone, and closes. */
void http_connection_refuse(struct http_connection *connection, int status, const char *detail);
void http_connection_expired(struct http_connection *connection);
/* An idle one closes unless bytes have come, a fresh one gets a moment to say something. */
void http_connection_drain(struct http_connection *connection);
void http_connection_update_reading(struct http_connection *connection);

/* Writes the held head of the answer. */
void http_send_held(struct http_connection *connection);
/* A whole problem answer, on the server's own account. */
void http_send_problem(struct http_connection *connection, int status, const char *detail);

void http_server_connection_opened(struct http_connection *connection);
void http_server_connection_idle(struct http_connection *connection);
bool http_server_connection_busy(struct http_connection *connection); /* whether it was idle */
void http_server_connection_gone(struct http_server *server);
const char *http_server_date(struct http_server *server);
uint64_t http_server_now(const struct http_server *server);
/* Accepts on all listeners, or not. */
void http_server_update_accepting(struct http_server *server);
/* After one more has come by another way than accepting: the longest idle one gives way where there are too many. */
void http_server_make_room_for(struct http_connection *connection);
/* Frees the server when nothing of it is left. */
void http_server_maybe_free(struct http_server *server);

/* What a strict server does not accept in a head that llhttp let through: a status and *ret_detail, or 0. */
int http_check_head(const struct http_message *message, const char **ret_detail);
/* Whether a Host header's value is well-formed (RFC 9110 7.2): host [":" port]. */
bool http_is_host(const char *host);

char *http_request_memory(struct http_connection *connection, size_t size);
void http_request_memory_free(struct http_connection *connection);
