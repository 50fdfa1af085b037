/* A pool, its connections (peers) and the calls on them.
 *
 * A call has a peer from http_call() on: an idle one that is still whole, else a new one that connects. A peer serves
 * one call after the other and goes back to the idle ones, the last used first, when both messages were complete.
 * Callbacks of a call are made from the loop only.
 */
#pragma once
#include <errno.h>
#include <stdio.h>
#include <uv.h>

#include "http/http-internal.h"
#include "http/http_client.h"
#include "http/http_message-internal.h"
#include "http/http_output-internal.h"

struct http_pool {
    struct http_pool_config config;
    char *address_text;
    struct http_address address;
    struct error *address_error; /* the address is malformed: every call fails with it */
    struct http_link idle; /* the last used first */
    struct http_link busy;
    size_t idle_count, in_use, peers;
    uv_timer_t sweep;
    uint64_t sweep_ms;
    struct http_later later;
    unsigned open_handles;
    bool is_released, is_closing;
    char scratch[HTTP_SCRATCH_SIZE];
};

struct http_peer {
    struct http_link link; /* in the pool's idle or busy list */
    struct http_pool *pool;
    struct http_call *call;
    union http_handle handle;
    uv_connect_t connect;
    struct http_message message;
    struct http_output output;
    struct buffer late; /* received behind a paused answer */
    size_t late_used;
    const char *fresh; /* what the read going on brought */
    size_t fresh_size;
    uint64_t since_ms; /* loop time of the last thing that happened */
    size_t stalled_at; /* bytes that waited to be written at the last sweep */
    bool is_overdue;
    bool is_connected, was_used, is_idle, is_reading, is_dead, is_running;
};

struct http_call {
    struct http_pool *pool;
    struct http_peer *peer; /* NULL: between two, or failed */
    struct http_later_item later;
    const struct http_call_handler *handler;
    void *context;
    const char *body; /* whole, or NULL */
    size_t body_size;
    int64_t content_length; /* of a streamed body; -1: chunked */
    uint64_t body_sent;
    struct error *error; /* it has failed; told from the loop */
    bool is_streamed, is_chunked, is_head, is_idempotent;
    bool is_head_held; /* not written yet: waits for the first piece */
    bool is_body_done; /* nothing more is to be given */
    bool was_sent, answer_begun, has_head, timed_out, is_paused, is_resuming, was_told_full;
    size_t head_size;
    char head[]; /* the request's, kept for a second try */
};

/* ---- http_peer.c ---- */

/* Begins a new connection for the call; errors are told from the loop. */
void http_peer_connect(struct http_pool *pool, struct http_call *call);
/* Gives an idle one that is still whole to the call; false: there is none. */
bool http_peer_reuse(struct http_pool *pool, struct http_call *call);
void http_peer_kill(struct http_peer *peer);
/* Goes on with what was received, as far as the call lets it. */
void http_peer_run(struct http_peer *peer);
void http_peer_update_reading(struct http_peer *peer);
/* The peer's deadline is past. */
void http_peer_expired(struct http_peer *peer);
/* In ms from peer->since_ms; 0: none at this time. */
uint64_t http_peer_limit(const struct http_peer *peer);

/* ---- http_call.c ---- */

/* The connection failed under the call: a second try, or on_failed. Takes the error. */
void http_call_lost(struct http_call *call, int reason, bool timed_out, struct error *error);
/* Writes the request to call->peer. */
void http_call_write(struct http_call *call);
/* There is room again in the output. */
void http_call_room(struct http_call *call);
void http_call_finished(struct http_call *call);

/* ---- http_pool.c ---- */

void http_pool_peer_opened(struct http_peer *peer);
void http_pool_peer_busy(struct http_peer *peer);
void http_pool_peer_idle(struct http_peer *peer); /* or closes it */
void http_pool_peer_gone(struct http_pool *pool);
void http_pool_call_gone(struct http_pool *pool);
uint64_t http_pool_now(const struct http_pool *pool);
