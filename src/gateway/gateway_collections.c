#include "gateway/gateway_collections-internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

#define LOG_THREADS 8 /* they wait for disks */
#define RETRY_MS 500 /* until a pair that could not be read is read again */

/* ---- known ones ----------------------------------------------------------- */

static struct gateway_collection *find(struct gateway *gateway, const char *id) {
    struct gateway_collection *collection = NULL;
    HASH_FIND_STR(gateway->collections.all, id, collection);
    return collection;
}

struct gateway_collection *gateway_collection_take(struct gateway *gateway, const char *id, const char *name) {
    struct gateway_collection *collection = find(gateway, id);
    if (!collection) {
        collection = mem_new(struct gateway_collection);
        collection->gateway = gateway;
        collection->id = text_copy(id);
        collection->folder = text_format("%s/collections/%s", gateway->settings->state, id);
        collection->waiting.end = &collection->waiting.first;
        collection->appending.end = &collection->appending.first;
        HASH_ADD_KEYPTR(hh, gateway->collections.all, collection->id, strlen(collection->id), collection);
    }
    collection->references++;
    if (!text_equal(collection->name, name)) {
        free(collection->name);
        collection->name = text_copy(name);
    }
    return collection;
}

static void close_now(struct gateway_collection *collection) {
    collection_close(collection->log);
    free(collection->id);
    free(collection->name);
    free(collection->folder);
    free(collection->ahead);
    free(collection);
}

static void run_closing(struct gateway_work *work) {
    struct gateway_collection *collection = CONTAINER_OF(work, struct gateway_collection, load);
    collection_close(TAKE(collection->log));
}

static void done_closing(struct gateway_work *work) {
    close_now(CONTAINER_OF(work, struct gateway_collection, load));
}

/* Nobody uses it: its folder is closed, on a worker as long as there are any. */
static void close_collection(struct gateway_collection *collection) {
    struct gateway *gateway = collection->gateway;
    assert(!collection->is_loading && !collection->is_appending && !collection->waiting.count);
    if (collection->pair) gateway_pair_release(TAKE(collection->pair));
    assert(!collection->oldest);
    HASH_DEL(gateway->collections.all, collection);
    gateway_queries_free(collection);
    if (gateway->phase == GATEWAY_ENDED || !collection->log) {
        close_now(collection);
        return;
    }
    collection->load = (struct gateway_work){.run = run_closing, .done = done_closing};
    gateway_workers_put(gateway->collections.logs, &collection->load);
}

void gateway_collection_release(struct gateway_collection *collection) {
    assert(collection->references);
    if (!--collection->references) close_collection(collection);
}

/* ---- the pair in use ------------------------------------------------------- */

/* Said when either has changed, and when it was asked for. */
static void say_used(struct gateway_collection *collection, bool was_asked) {
    if (!collection->pair) return;
    uint64_t epoch = (uint64_t)collection->pair->epoch, lowest = (uint64_t)collection->oldest->epoch;
    if (!was_asked && epoch == collection->said_epoch && lowest == collection->said_lowest) return;
    collection->said_epoch = epoch;
    collection->said_lowest = lowest;
    gateway_tell_pair_used(collection->gateway, collection->id, epoch, lowest);
}

struct gateway_pair *gateway_collection_take_pair(struct gateway_collection *collection) {
    collection->pair->references++;
    return collection->pair;
}

static void run_pair_closing(struct gateway_work *work) {
    gateway_pair_close(CONTAINER_OF(work, struct gateway_pair, closing));
}

static void done_pair_closing(struct gateway_work *work) {
    gateway_pair_free(CONTAINER_OF(work, struct gateway_pair, closing));
}

void gateway_pair_release(struct gateway_pair *pair) {
    assert(pair->references);
    if (--pair->references) return;
    struct gateway_collection *collection = pair->collection;
    struct gateway *gateway = collection->gateway;
    if (pair->older) pair->older->newer = pair->newer;
    if (pair->newer) pair->newer->older = pair->older;
    if (collection->oldest == pair) collection->oldest = pair->newer;
    say_used(collection, false);
    if (gateway->phase == GATEWAY_ENDED) {
        gateway_pair_free(pair);
        return;
    }
    pair->closing = (struct gateway_work){.run = run_pair_closing, .done = done_pair_closing};
    gateway_workers_put(gateway->collections.logs, &pair->closing);
}

static void install_pair(struct gateway_collection *collection, struct gateway_pair *pair) {
    struct gateway_pair *before = collection->pair;
    pair->collection = collection;
    pair->references = 1;
    pair->older = before;
    if (before) before->newer = pair;
    if (!collection->oldest) collection->oldest = pair;
    collection->pair = pair;
    if (before) gateway_pair_release(before);
}

/* ---- opening --------------------------------------------------------------- */

static void run_load(struct gateway_work *work) {
    struct gateway_collection *collection = CONTAINER_OF(work, struct gateway_collection, load);
    gateway_pair_load(collection->folder, collection->log, &collection->opened, &collection->load_error);
}

/* Takes over what the worker read; frees what is not news. */
static void take_opened(struct gateway_collection *collection) {
    struct gateway_opened *opened = &collection->opened;
    if (!collection->log) {
        collection->log = opened->log;
        collection->ahead = opened->ahead;
    }
    collection->keep_queries = opened->keep_queries;
    if (opened->head > collection->head) collection->head = opened->head;
    if (collection->pair && collection->pair->epoch >= opened->pair->epoch)
        gateway_pair_free(opened->pair);
    else
        install_pair(collection, opened->pair);
    *opened = (struct gateway_opened){0};
}

/* All that wait, in their order. They may end, and ask again, in here. */
static void go_on_all(struct gateway_collection *collection, const struct error *error) {
    _cleanup_free_ char *cause = error ? error_text(error) : NULL;
    struct gateway_queue all = {0};
    while (collection->opening.first) {
        struct gateway_queue_entry *entry = collection->opening.first;
        gateway_queue_remove(entry);
        gateway_queue_push(&all, entry);
    }
    while (all.first) {
        struct exchange *exchange = CONTAINER_OF(all.first, struct exchange, waiting);
        gateway_queue_remove(&exchange->waiting);
        if (http_is_gone(exchange->request))
            exchange_break(exchange);
        else if (collection->log)
            exchange->when_open(exchange);
        else
            exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "collection %s cannot be opened: %s",
                               exchange->collection_name, cause ? cause : "");
    }
}

static void log_failure(const struct gateway_collection *collection, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, "a collection could not be read", "collection", collection->name, "cause", text, NULL);
}

static void on_retry(uv_timer_t *timer);
static void begin_load(struct gateway_collection *collection);

/* An open one goes on with the pair it has, and is not acknowledged, until it can be read; one that is not open takes
 * no request by any pair before it has read at least the one it was told of. */
static void note_failure(struct gateway_collection *collection, const struct error *error) {
    struct gateway *gateway = collection->gateway;
    log_failure(collection, error);
    collection->load_failed = collection->log;
    if (collection->load_failed) {
        if (gateway->phase != GATEWAY_ENDED) uv_timer_start(&gateway->collections.retry_timer, on_retry, RETRY_MS, 0);
    } else if (collection->told_epoch) {
        gateway_tell_pair_used(gateway, collection->id, collection->told_epoch, collection->told_epoch);
    }
}

static void done_load(struct gateway_work *work) {
    struct gateway_collection *collection = CONTAINER_OF(work, struct gateway_collection, load);
    _cleanup_error_ struct error *error = TAKE(collection->load_error);
    collection->is_loading = collection->load_failed = false;
    if (error)
        note_failure(collection, error);
    else
        take_opened(collection);
    if (collection->load_again)
        begin_load(collection);
    else if (!error)
        say_used(collection, true);
    go_on_all(collection, error);
    gateway_collection_release(collection);
}

static void begin_load(struct gateway_collection *collection) {
    if (collection->is_loading) {
        collection->load_again = true;
        return;
    }
    collection->is_loading = true;
    collection->load_again = false;
    collection->references++;
    collection->load = (struct gateway_work){.run = run_load, .done = done_load};
    gateway_workers_put(collection->gateway->collections.logs, &collection->load);
}

static void on_retry(uv_timer_t *timer) {
    struct gateway *gateway = timer->data;
    struct gateway_collection *collection, *next;
    HASH_ITER(hh, gateway->collections.all, collection, next) {
        if (collection->load_failed && !collection->is_loading) begin_load(collection);
    }
}

/* ---- a request's way in ---------------------------------------------------- */

void gateway_collection_leave(struct exchange *exchange) {
    if (exchange->collection) gateway_queue_remove(&exchange->waiting); /* it may be one of the collection's */
    if (exchange->pair) gateway_pair_release(TAKE(exchange->pair));
    if (exchange->collection) gateway_collection_release(TAKE(exchange->collection));
}

/* From the newest routes; false: they do not name it. */
static bool take_from_routes(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    struct gateway_collection *collection =
        gateway_snapshot_find_collection(gateway->routes.current, exchange->collection_name);
    struct gateway_snapshot *snapshot = exchange->snapshot;
    struct gateway_collection *before = exchange->collection;
    /* A request that lasts stays with the collection it began with, whatever has its name by now. */
    if (!collection || (before && before != collection)) return false;
    if (!before) {
        collection->references++;
        exchange->collection = collection;
    }
    exchange->snapshot = gateway_routes_take(&gateway->routes);
    if (snapshot) gateway_snapshot_release(snapshot);
    return true;
}

static void fail_not_there(struct exchange *exchange) {
    exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "there is no collection %s%s", exchange->collection_name,
                       exchange->collection ? " any more: it is being deleted" : "");
}

static void enter(struct exchange *exchange) {
    struct gateway_collection *collection = exchange->collection;
    if (collection->pair) {
        exchange->when_open(exchange);
        return;
    }
    exchange_set_step(exchange, EXCHANGE_WAITING);
    gateway_queue_push(&collection->opening, &exchange->waiting);
    if (!collection->is_loading) begin_load(collection);
}

void gateway_collection_admit(struct exchange *exchange, void (*go_on)(struct exchange *exchange)) {
    exchange->when_open = go_on;
    if (take_from_routes(exchange)) {
        enter(exchange);
    } else if (exchange->collection) {
        fail_not_there(exchange);
    } else { /* it may have been made a moment ago */
        exchange_set_step(exchange, EXCHANGE_LOOKUP);
        gateway_reader_find_collection(exchange->gateway->reader, exchange);
    }
}

void gateway_collection_admit_found(struct exchange *exchange) {
    if (take_from_routes(exchange))
        enter(exchange);
    else
        fail_not_there(exchange);
}

/* ---- what the indexer says -------------------------------------------------- */

void gateway_collections_pair_changed(struct gateway *gateway, const char *collection_id, uint64_t epoch) {
    struct gateway_collection *collection = find(gateway, collection_id);
    if (!collection || (!collection->log && !collection->is_loading)) {
        gateway_tell_pair_used(gateway, collection_id, epoch, epoch); /* it will read at least that one */
        return;
    }
    if (epoch > collection->told_epoch) collection->told_epoch = epoch;
    if (collection->pair && (uint64_t)collection->pair->epoch >= epoch)
        say_used(collection, true);
    else
        begin_load(collection);
}

void gateway_collections_indexed(struct gateway *gateway, const char *collection_id, uint64_t seq) {
    struct gateway_collection *collection = find(gateway, collection_id);
    if (!collection || seq <= collection->indexed) return;
    collection->indexed = seq;
    gateway_indexed_told(collection);
}

/* What was said while it was away went nowhere. */
void gateway_collections_indexer_up(struct gateway *gateway) {
    struct gateway_collection *collection, *next;
    HASH_ITER(hh, gateway->collections.all, collection, next) {
        if (collection->log) gateway_tell_log_appended(gateway, collection->id, COLLECTION_DOCUMENTS, collection->head);
    }
}

/* One whose waiting requests the newest routes do not name any more, or NULL. */
static struct gateway_collection *find_left(struct gateway *gateway) {
    struct gateway_collection *collection, *next;
    HASH_ITER(hh, gateway->collections.all, collection, next) {
        if (!collection->waiting_indexed.length) continue;
        if (gateway_snapshot_find_collection(gateway->routes.current, collection->name) != collection)
            return collection;
    }
    return NULL;
}

void gateway_collections_rerouted(struct gateway *gateway) {
    struct gateway_collection *left;
    while ((left = find_left(gateway))) gateway_indexed_end_all(left);
}

/* ---- the gateway's life ------------------------------------------------------ */

void gateway_collections_open(struct gateway *gateway) {
    struct gateway_collections *collections = &gateway->collections;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t threads = gateway->settings->search_threads ? gateway->settings->search_threads
                     : cores > 0                       ? (size_t)cores
                                                       : 1;
    collections->logs = gateway_workers_new(gateway->config.loop, LOG_THREADS);
    collections->searches = gateway_workers_new(gateway->config.loop, threads);
    collections->pool = vector_pool_new(threads);
    uv_timer_init(gateway->config.loop, &collections->retry_timer);
    uv_timer_init(gateway->config.loop, &collections->indexed_timer);
    collections->retry_timer.data = collections->indexed_timer.data = gateway;
}

void gateway_collections_close(struct gateway *gateway) {
    struct gateway_collections *collections = &gateway->collections;
    uv_close((uv_handle_t *)&collections->retry_timer, NULL);
    uv_close((uv_handle_t *)&collections->indexed_timer, NULL);
    gateway_workers_close(collections->logs);
    gateway_workers_close(collections->searches);
}
