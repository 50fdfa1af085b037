/* wait=indexed: a write that is in the log waits until every index that a gateway may use shows it (L11). It waits
 * through the indexer's restarts, and across switches; the indexer says how far it is whenever that grows. */
#include <stdlib.h>

#include "base/memory.h"
#include "gateway/gateway-internal.h"

static void arm(struct gateway *gateway) {
    struct gateway_collections *collections = &gateway->collections;
    if (!collections->indexed_deadlines.first || uv_is_active((uv_handle_t *)&collections->indexed_timer)) return;
    const struct exchange *first = CONTAINER_OF(collections->indexed_deadlines.first, struct exchange, deadline);
    uint64_t now_ms = uv_now(gateway->config.loop);
    uv_timer_start(&collections->indexed_timer, gateway_indexed_on_deadline,
                   first->deadline_ms > now_ms ? first->deadline_ms - now_ms : 0, 0);
}

static void stop_waiting(struct exchange *exchange) {
    gateway_queue_remove(&exchange->waiting);
    gateway_queue_remove(&exchange->deadline);
}

/* The routes are let go of: it may wait for long, and is told when they no longer name its collection. */
void gateway_indexed_wait(struct exchange *exchange, uint64_t seq, void (*go_on)(struct exchange *exchange)) {
    struct gateway *gateway = exchange->gateway;
    struct gateway_collection *collection = exchange->collection;
    exchange->indexed_seq = seq;
    exchange->when_indexed = go_on;
    if (seq <= collection->indexed) {
        go_on(exchange);
        return;
    }
    exchange_set_step(exchange, EXCHANGE_WAITING);
    exchange->deadline_ms = uv_now(gateway->config.loop) + gateway->settings->indexed_timeout_ms;
    gateway_queue_push(&collection->waiting_indexed, &exchange->waiting);
    gateway_queue_push(&gateway->collections.indexed_deadlines, &exchange->deadline);
    arm(gateway);
    if (exchange->snapshot) gateway_snapshot_release(TAKE(exchange->snapshot));
}

void gateway_indexed_told(struct gateway_collection *collection) {
    struct gateway_queue ready = {0};
    struct gateway_queue_entry *next;
    collection->references++; /* the last of those who wait may be the last who use it */
    for (struct gateway_queue_entry *entry = collection->waiting_indexed.first; entry; entry = next) {
        next = entry->next;
        struct exchange *exchange = CONTAINER_OF(entry, struct exchange, waiting);
        if (exchange->indexed_seq > collection->indexed) continue;
        stop_waiting(exchange);
        gateway_queue_push(&ready, &exchange->waiting);
    }
    while (ready.first) {
        struct exchange *exchange = CONTAINER_OF(ready.first, struct exchange, waiting);
        gateway_queue_remove(&exchange->waiting);
        exchange->when_indexed(exchange);
    }
    gateway_collection_release(collection);
}

void gateway_indexed_end_all(struct gateway_collection *collection) {
    collection->references++;
    while (collection->waiting_indexed.first) {
        struct exchange *exchange = CONTAINER_OF(collection->waiting_indexed.first, struct exchange, waiting);
        stop_waiting(exchange);
        exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "collection %s is being deleted, with what was written",
                           exchange->collection_name);
    }
    gateway_collection_release(collection);
}

static void add_seq(yyjson_mut_doc *document, yyjson_mut_val *root, const void *context) {
    const struct exchange *exchange = context;
    yyjson_mut_obj_add_uint(document, root, "seq", exchange->indexed_seq);
}

static void expire(struct exchange *exchange) {
    struct error *error = NULL;
    error_set(&error, ERROR_UNAVAILABLE,
              "the write is safe as number %llu, but the index of collection %s has not shown it for %llu ms: it is at "
              "%llu",
              (unsigned long long)exchange->indexed_seq, exchange->collection_name,
              (unsigned long long)exchange->gateway->settings->indexed_timeout_ms,
              (unsigned long long)exchange->collection->indexed);
    exchange_fail_with_members(exchange, error, add_seq, exchange);
}

void gateway_indexed_on_deadline(uv_timer_t *timer) {
    struct gateway *gateway = timer->data;
    struct gateway_queue *deadlines = &gateway->collections.indexed_deadlines;
    while (deadlines->first) {
        struct exchange *exchange = CONTAINER_OF(deadlines->first, struct exchange, deadline);
        if (exchange->deadline_ms > uv_now(gateway->config.loop)) break;
        stop_waiting(exchange);
        expire(exchange);
    }
    arm(gateway);
}
