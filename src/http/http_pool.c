/* A pool of connections to one address: its life, its lists, the sweep over deadlines. */
#include <assert.h>
#include <stdlib.h>

#include "base/text.h"
#include "http/http_pool-internal.h"

#define SWEEP_LONGEST_MS 1000
#define SWEEP_SHORTEST_MS 10

static uint64_t sweep_interval(const struct http_pool_config *config) {
    const uint64_t timeouts[] = {config->connect_timeout_ms, config->answer_timeout_ms, config->body_timeout_ms};
    uint64_t interval = SWEEP_LONGEST_MS;
    for (size_t i = 0; i < ARRAY_SIZE(timeouts); i++)
        if (timeouts[i] && timeouts[i] / 8 < interval) interval = timeouts[i] / 8;
    return interval < SWEEP_SHORTEST_MS ? SWEEP_SHORTEST_MS : interval;
}

struct http_pool *http_pool_new(const struct http_pool_config *config) {
    http_ignore_broken_pipes();
    struct http_pool *pool = mem_new(struct http_pool);
    pool->config = *config;
    pool->config.address = pool->address_text = text_copy(config->address);
    http_address_parse(pool->address_text, &pool->address, &pool->address_error);
    http_link_init(&pool->idle);
    http_link_init(&pool->busy);
    pool->sweep_ms = sweep_interval(config);
    uv_timer_init(config->loop, &pool->sweep);
    pool->sweep.data = pool;
    http_later_init(&pool->later, config->loop);
    pool->open_handles = 2;
    return pool;
}

size_t http_pool_in_use(const struct http_pool *pool) {
    return pool->in_use;
}

uint64_t http_pool_now(const struct http_pool *pool) {
    return uv_now(pool->config.loop);
}

/* ---- the end ------------------------------------------------------------- */

static void maybe_free(struct http_pool *pool) {
    if (!pool->is_closing || pool->open_handles || pool->peers) return;
    error_free(pool->address_error);
    free(pool->address_text);
    free(pool);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct http_pool *pool = handle->data;
    pool->open_handles--;
    maybe_free(pool);
}

static void maybe_close(struct http_pool *pool) {
    if (!pool->is_released || pool->in_use || pool->is_closing) return;
    pool->is_closing = true;
    pool->later.idle.data = pool; /* nothing is put off any more */
    uv_close((uv_handle_t *)&pool->sweep, on_handle_closed);
    uv_close((uv_handle_t *)&pool->later.idle, on_handle_closed);
}

void http_pool_release(struct http_pool *pool) {
    assert(!pool->is_released);
    pool->is_released = true;
    while (!http_link_is_alone(&pool->idle)) http_peer_kill(CONTAINER_OF(pool->idle.next, struct http_peer, link));
    maybe_close(pool);
}

void http_pool_call_gone(struct http_pool *pool) {
    pool->in_use--;
    maybe_close(pool);
}

/* ---- the lists ----------------------------------------------------------- */

/* As in the server: past at two sweeps in a row, so that a loop that was held up reads first. */
static void sweep(uv_timer_t *timer) {
    struct http_pool *pool = timer->data;
    uint64_t now = http_pool_now(pool);
    struct http_link due; /* a callback may end any other call */
    http_link_init(&due);
    for (struct http_link *link = pool->busy.next, *next; link != &pool->busy; link = next) {
        next = link->next;
        struct http_peer *peer = CONTAINER_OF(link, struct http_peer, link);
        size_t waiting = uv_stream_get_write_queue_size(&peer->handle.stream);
        if (waiting != peer->stalled_at) peer->since_ms = now;
        peer->stalled_at = waiting;
        uint64_t limit = http_peer_limit(peer);
        bool is_past = limit && now - peer->since_ms > limit;
        if (is_past && peer->is_overdue) http_link_put_after(&peer->link, due.previous);
        peer->is_overdue = is_past;
    }
    while (!http_link_is_alone(&due)) {
        struct http_peer *peer = CONTAINER_OF(due.next, struct http_peer, link);
        http_link_put_after(&peer->link, &pool->busy);
        http_peer_expired(peer);
    }
    if (http_link_is_alone(&pool->busy)) uv_timer_stop(timer);
}

void http_pool_peer_opened(struct http_peer *peer) {
    peer->pool->peers++;
    http_link_init(&peer->link);
}

void http_pool_peer_busy(struct http_peer *peer) {
    struct http_pool *pool = peer->pool;
    http_link_put_after(&peer->link, &pool->busy);
    peer->since_ms = http_pool_now(pool);
    peer->is_overdue = false;
    if (!uv_is_active((uv_handle_t *)&pool->sweep)) uv_timer_start(&pool->sweep, sweep, pool->sweep_ms, pool->sweep_ms);
}

void http_pool_peer_idle(struct http_peer *peer) {
    struct http_pool *pool = peer->pool;
    if (pool->is_released || !pool->config.idle_maximum) {
        http_peer_kill(peer);
        return;
    }
    if (pool->idle_count == pool->config.idle_maximum)
        http_peer_kill(CONTAINER_OF(pool->idle.previous, struct http_peer, link));
    http_link_put_after(&peer->link, &pool->idle);
    peer->is_idle = true;
    pool->idle_count++;
}

void http_pool_peer_gone(struct http_pool *pool) {
    pool->peers--;
    maybe_free(pool);
}
