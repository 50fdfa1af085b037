/* Texts to vectors: batches of texts of like length, given to replicas of the encoder as they have room, until every
 * text has its vector or was refused. One worker, its own loop, several batches in flight. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define BATCH_BYTES_MAXIMUM ((size_t)8 << 20) /* far below what a runner takes in one request */
#define BYTES_A_TOKEN 4.0 /* of European text; only a guess for how much fits */
#define SPECIAL_TOKENS 2.0

double embed_tokens(const struct embed_item *item, const struct indexer_replica *replica) {
    double tokens = (double)item->size / BYTES_A_TOKEN + SPECIAL_TOKENS;
    return replica->window && tokens > (double)replica->window ? (double)replica->window : tokens;
}

/* ---- batches --------------------------------------------------------------- */

static int by_size(const void *left, const void *right, void *context) {
    const struct embed_item *items = context;
    size_t a = items[*(const uint32_t *)left].size, b = items[*(const uint32_t *)right].size;
    return a < b ? 1 : a > b ? -1 : 0;
}

static void sort_items(struct embed_run *run) {
    run->sorted = mem_new_array(run->order->count, uint32_t);
    for (size_t i = 0; i < run->order->count; i++) run->sorted[i] = (uint32_t)i;
    qsort_r(run->sorted, run->order->count, sizeof *run->sorted, by_size, run->order->items);
}

static struct embed_item *item_at(struct embed_run *run, size_t at) {
    return &run->order->items[run->sorted[at]];
}

static bool has_more(struct embed_run *run) {
    while (run->next < run->order->count && item_at(run, run->next)->state != EMBED_WAITING) run->next++;
    return run->next < run->order->count;
}

/* The next texts, of which the first is the longest: what they cost is its length times their number. */
static size_t gather(struct embed_run *run, const struct indexer_replica *replica, double budget, size_t limit,
                     uint32_t *ret_items, double *ret_tokens) {
    size_t count = 0, bytes = 0;
    double longest = 0;
    for (size_t at = run->next; at < run->order->count && count < limit; at++) {
        const struct embed_item *item = item_at(run, at);
        if (item->state != EMBED_WAITING) continue;
        if (!count) longest = embed_tokens(item, replica);
        bool fits = longest * (double)(count + 1) <= budget && bytes + item->size <= BATCH_BYTES_MAXIMUM;
        if (count && (item->alone || !fits)) break;
        bytes += item->size;
        ret_items[count++] = run->sorted[at];
        if (item->alone) break;
    }
    *ret_tokens = longest * (double)count;
    return count;
}

static void send_next(struct embed_run *run, struct indexer_replica *replica, bool is_short) {
    const struct settings *settings = run->worker->indexer->settings;
    double budget = (double)settings->batch_tokens, tokens;
    if (is_short && replica->short_tokens < budget) budget = replica->short_tokens;
    _cleanup_free_ uint32_t *items = mem_new_array(settings->batch_texts, uint32_t);
    size_t count = gather(run, replica, budget, settings->batch_texts, items, &tokens);
    embed_send(run, replica, is_short, items, count, tokens);
}

/* ---- the run ---------------------------------------------------------------- */

static bool must_stop(struct embed_run *run) {
    struct indexer *indexer = run->worker->indexer;
    return indexer->is_ending || (run->order->should_stop && run->order->should_stop(run->order->context));
}

/* Gives replicas what they have room for. False: no more is to be sent. */
static bool send_all(struct embed_run *run) {
    struct indexer *indexer = run->worker->indexer;
    while (has_more(run)) {
        bool is_short = false;
        pthread_mutex_lock(&indexer->lock);
        bool stop = must_stop(run);
        struct indexer_replica *replica =
            stop ? NULL
                 : indexer_replicas_take(indexer, run->order->digest, run->order->is_bulk, &is_short, &run->retry_ms);
        pthread_mutex_unlock(&indexer->lock);
        if (stop) return false;
        if (!replica) return true;
        send_next(run, replica, is_short);
    }
    return true;
}

static void on_timer(uv_timer_t *timer) {
    (void)timer; /* it has woken the loop: that is all */
}

static void wait_for_something(struct embed_run *run) {
    struct indexer_worker *worker = run->worker;
    uv_timer_stop(&worker->timer);
    uv_update_time(&worker->loop);
    if (run->retry_ms && run->retry_ms != INDEXER_FOREVER) {
        uint64_t now_ms = clock_monotonic_ms();
        uv_timer_start(&worker->timer, on_timer, run->retry_ms > now_ms ? run->retry_ms - now_ms : 1, 0);
    }
    uv_run(&worker->loop, UV_RUN_ONCE);
}

/* Pools of replicas that are gone. */
static void sweep_pools(struct indexer_worker *worker) {
    struct indexer *indexer = worker->indexer;
    struct worker_pool *pool, *next_pool;
    struct indexer_replica *replica, *next;
    HASH_ITER(hh, worker->pools, pool, next_pool) {
        bool is_up = false;
        pthread_mutex_lock(&indexer->lock);
        HASH_ITER(hh, indexer->replicas, replica, next) {
            is_up = is_up || text_equal(replica->address, pool->address);
        }
        pthread_mutex_unlock(&indexer->lock);
        if (is_up) continue;
        HASH_DEL(worker->pools, pool);
        http_pool_release(pool->pool);
        free(pool->address);
        free(pool);
    }
}

static bool is_ending(struct indexer *indexer) {
    pthread_mutex_lock(&indexer->lock);
    bool ending = indexer->is_ending;
    pthread_mutex_unlock(&indexer->lock);
    return ending;
}

static enum embed_outcome run_all(struct embed_run *run) {
    for (;;) {
        run->retry_ms = INDEXER_FOREVER;
        bool goes_on = send_all(run);
        if (!goes_on && is_ending(run->worker->indexer)) embed_cancel(run);
        if (!run->in_flight) {
            if (!has_more(run)) return EMBED_FINISHED;
            if (!goes_on) return EMBED_INTERRUPTED;
            if (!run->retry_ms) return EMBED_STARVED;
        }
        wait_for_something(run);
    }
}

enum embed_outcome indexer_embed(struct indexer_worker *worker, struct embed_order *order) {
    if (!order->count) return EMBED_FINISHED;
    struct embed_run run = {.worker = worker, .order = order};
    sweep_pools(worker);
    sort_items(&run);
    enum embed_outcome outcome = run_all(&run);
    uv_timer_stop(&worker->timer);
    free(run.sorted);
    return outcome;
}
