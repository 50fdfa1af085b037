/* The indexer's life, and a tour.
 *
 *   indexer_supervisor.c    the channel: replicas, gateways, new writes, asks come in; an outbox goes out
 *   indexer_schedule.c      the workers: what is to be done next; claims of indexes
 *   indexer_collections.c   the collections: found, opened, closed; heads and events
 *   indexer_index.c         one index: made, opened, set aside (L7), removed
 *   indexer_recover.c       what an index holds against what the log says (L6)
 *   indexer_follow.c        a part of the log: read, embedded, put into the index, shown
 *   indexer_embed.c indexer_embed_call.c   texts to vectors, by whatever replicas are up
 *   indexer_replicas.c      which replicas are up, and what each is given
 *   indexer_publish.c       how much is shown and how much is durable; fences (X3)
 *   indexer_switch.c        the flip, and gateways that follow it (X2 to X5)
 *   indexer_gate.c          the checks before it
 *   indexer_asks.c indexer_ask_index.c     what the controller asks
 *   indexer_upkeep.c        compaction, index_ttl, switches that were left
 *
 * Start: hello, the folder of collections; each is opened and recovered; then asks are answered. End: SIGTERM breaks
 * calls off, syncs and closes. A lost supervisor ends it at once. */
#include "indexer/indexer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"
#include "wire/role.h"

#define LOCK_WAIT_MS 10000 /* an indexer that was killed is reaped by then */

/* ---- workers ------------------------------------------------------------------------ */

static void on_wake(uv_async_t *async) {
    (void)async; /* the loop's turn is what it is for */
}

static void open_worker(struct indexer *indexer, struct indexer_worker *worker) {
    worker->indexer = indexer;
    uv_loop_init(&worker->loop);
    uv_async_init(&worker->loop, &worker->wake, on_wake);
    uv_timer_init(&worker->loop, &worker->timer);
}

static void start_workers(struct indexer *indexer) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
    for (size_t i = 0; i < INDEXER_WORKERS; i++) open_worker(indexer, &indexer->workers[i]);
    indexer->worker_count = INDEXER_WORKERS;
    for (size_t i = 0; i < INDEXER_WORKERS; i++)
        if (pthread_create(&indexer->workers[i].thread, NULL, indexer_work, &indexer->workers[i])) abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void close_worker(struct indexer_worker *worker) {
    struct worker_pool *pool, *next;
    HASH_ITER(hh, worker->pools, pool, next) {
        HASH_DEL(worker->pools, pool);
        http_pool_release(pool->pool);
        free(pool->address);
        free(pool);
    }
    uv_close((uv_handle_t *)&worker->wake, NULL);
    uv_close((uv_handle_t *)&worker->timer, NULL);
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    uv_loop_close(&worker->loop);
}

/* ---- life ------------------------------------------------------------------------------ */

static void open_lock(struct indexer *indexer) {
    pthread_condattr_t attributes;
    pthread_mutex_init(&indexer->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&indexer->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

struct indexer *indexer_new(const struct indexer_config *config) {
    struct indexer *indexer = mem_new(struct indexer);
    indexer->config = *config;
    indexer->settings = config->settings;
    indexer->vectors = &folder_vectors;
    indexer->root = fs_join(config->settings->state, "collections");
    open_lock(indexer);
    indexer_supervisor_open(indexer);
    indexer_collections_scan(indexer);
    start_workers(indexer);
    return indexer;
}

void indexer_fail(struct indexer *indexer, const char *what, const struct error *error) {
    _cleanup_free_ char *text = error ? error_text(error) : NULL;
    log_write(LOG_ERROR, what, "error", text, NULL);
    pthread_mutex_lock(&indexer->lock);
    indexer->fatal_status = EXIT_FAILURE;
    uv_async_send(&indexer->woken);
    pthread_mutex_unlock(&indexer->lock);
}

/* So that the next start has nothing to do again. */
static void sync_all(struct indexer *indexer) {
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, indexer->collections, collection, next) {
        for (struct indexer_index *index = collection->indexes; index; index = index->next)
            if (index->durable < index->written && indexer_index_in(index, INDEX_FOLLOWED)) indexer_sync(index, NULL);
    }
}

void indexer_stop(struct indexer *indexer, bool in_order) {
    pthread_mutex_lock(&indexer->lock);
    indexer->is_ending = true;
    indexer_wake(indexer);
    indexer_wake_embedders(indexer);
    pthread_mutex_unlock(&indexer->lock);
    for (size_t i = 0; i < INDEXER_WORKERS; i++) pthread_join(indexer->workers[i].thread, NULL);
    if (in_order) sync_all(indexer);
    indexer_supervisor_close(indexer);
    for (size_t i = 0; i < INDEXER_WORKERS; i++) close_worker(&indexer->workers[i]);
}

void indexer_free(struct indexer *indexer) {
    struct indexer_collection *collection, *next;
    struct indexer_gateway *gateway, *next_gateway;
    HASH_ITER(hh, indexer->collections, collection, next) indexer_collection_close(collection);
    HASH_ITER(hh, indexer->gateways, gateway, next_gateway) {
        HASH_DEL(indexer->gateways, gateway);
        free(gateway);
    }
    while (indexer->asks) {
        struct indexer_ask *ask = indexer->asks;
        indexer->asks = ask->next;
        indexer_ask_free(ask);
    }
    while (indexer->outbox) {
        struct indexer_outgoing *outgoing = indexer->outbox;
        indexer->outbox = outgoing->next;
        free(outgoing->bytes);
        free(outgoing);
    }
    indexer_replicas_free(indexer);
    wire_channel_free(indexer->supervisor);
    pthread_cond_destroy(&indexer->changed);
    pthread_mutex_destroy(&indexer->lock);
    free(indexer->root);
    free(indexer);
}

/* ---- the role ------------------------------------------------------------------------------ */

struct role {
    struct indexer *indexer;
    uv_loop_t loop;
    uv_signal_t sigterm;
    int exit_status, lock;
};

static void on_end(void *context, int exit_status) {
    struct role *role = context;
    role->exit_status = exit_status;
    uv_stop(&role->loop);
}

static void on_sigterm(uv_signal_t *signal, int number) {
    (void)number;
    log_write(LOG_INFO, "asked to end", NULL);
    on_end(signal->data, EXIT_SUCCESS);
}

/* Exactly one indexer a state folder. The one before may still be being reaped (U2). */
static int take_lock(struct role *role, const struct settings *settings, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(settings->state, "indexer.lock");
    role->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (role->lock < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open %s", path);
    uint64_t deadline_ms = clock_monotonic_ms() + LOCK_WAIT_MS;
    while (flock(role->lock, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "lock %s", path);
        if (clock_monotonic_ms() >= deadline_ms) {
            error_set(ret_error, ERROR_UNAVAILABLE, "lock %s: another indexer holds it", path);
            return error_mark_transient(ret_error);
        }
        usleep(50 * 1000);
    }
    return 0;
}

static int fail_start(const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    struct wire_channel *channel = wire_channel_new(ROLE_DESCRIPTOR_SUPERVISOR);
    log_write(LOG_ERROR, "the indexer cannot start", "error", text, NULL);
    wire_say(channel, role_failed, .message = text);
    wire_channel_free(channel);
    return error->transient ? EXIT_FAILURE : ROLE_EXIT_PERMANENT;
}

static void run(struct role *role, struct settings *settings) {
    uv_loop_init(&role->loop);
    uv_signal_init(&role->loop, &role->sigterm);
    role->sigterm.data = role;
    uv_signal_start(&role->sigterm, on_sigterm, SIGTERM);
    role->indexer = indexer_new(&(struct indexer_config){.loop = &role->loop,
                                                         .settings = settings,
                                                         .supervisor = ROLE_DESCRIPTOR_SUPERVISOR,
                                                         .on_end = on_end,
                                                         .context = role});
    uv_run(&role->loop, UV_RUN_DEFAULT);
    indexer_stop(role->indexer, role->exit_status == EXIT_SUCCESS);
    uv_close((uv_handle_t *)&role->sigterm, NULL);
    uv_run(&role->loop, UV_RUN_DEFAULT);
    indexer_free(role->indexer);
    uv_loop_close(&role->loop);
}

int indexer_main(struct settings *settings) {
    struct role role = {.lock = -1};
    _cleanup_error_ struct error *error = NULL;
    signal(SIGPIPE, SIG_IGN);
    log_open_as("indexer", settings->log_level, settings->log_format);
    if (take_lock(&role, settings, &error) < 0) return fail_start(error);
    run(&role, settings);
    mem_close_descriptor(&role.lock);
    return role.exit_status;
}
