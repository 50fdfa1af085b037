/* What is to be done next, and who does it. A worker that has nothing takes the first job of this order that it finds:
 * collections to open, asks, heads to look at, new writes for indexes that are in use, what is to be synced, upkeep,
 * and last the filling of new indexes, which never takes all workers. Nothing polls: who makes something due says so,
 * and what is due later is slept for. */
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define SYNC_MS 1000 /* what was shown is on the disk by then */
#define SYNC_ROWS 50000
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 30000

enum job_kind { JOB_NONE, JOB_OPEN, JOB_ASK, JOB_HEADS, JOB_FOLLOW, JOB_SYNC, JOB_UPKEEP, JOB_COMPACT };

struct job {
    enum job_kind kind;
    struct indexer_collection *collection;
    struct indexer_index *index;
    struct indexer_ask *ask;
    bool is_bulk;
};

/* ---- saying that something is to do ---------------------------------------------- */

void indexer_wake(struct indexer *indexer) {
    pthread_cond_broadcast(&indexer->changed);
}

void indexer_wake_embedders(struct indexer *indexer) {
    for (size_t i = 0; i < indexer->worker_count; i++) uv_async_send(&indexer->workers[i].wake);
}

void indexer_collection_changed(struct indexer_collection *collection) {
    collection->changes++;
    indexer_wake(collection->indexer);
}

void indexer_claim(struct indexer_index *index) {
    struct indexer *indexer = index->collection->indexer;
    index->wanted++;
    indexer_wake_embedders(indexer);
    while (index->is_busy) pthread_cond_wait(&indexer->changed, &indexer->lock);
    index->wanted--;
    index->is_busy = true;
}

void indexer_release(struct indexer_index *index) {
    index->is_busy = false;
    if (index->applied < index->written) indexer_publish(index); /* the fence may have moved meanwhile */
    indexer_wake(index->collection->indexer);
}

void indexer_back_off(uint64_t *retry_ms, uint64_t *backoff_ms) {
    *backoff_ms = !*backoff_ms ? BACKOFF_FIRST_MS : *backoff_ms * 2;
    if (*backoff_ms > BACKOFF_LAST_MS) *backoff_ms = BACKOFF_LAST_MS;
    *retry_ms = clock_monotonic_ms() + *backoff_ms;
}

/* ---- looking for something to do -------------------------------------------------- */

struct search {
    struct indexer *indexer;
    uint64_t now_ms, next_ms; /* next: when something will be due */
};

static bool is_due(struct search *search, uint64_t at_ms) {
    if (at_ms <= search->now_ms) return true;
    if (at_ms < search->next_ms) search->next_ms = at_ms;
    return false;
}

static bool is_free(const struct indexer_index *index) {
    return !index->is_busy && !index->wanted;
}

static bool has_to_settle(const struct indexer_index *index) {
    const struct indexer_index *partner = indexer_partner(index);
    const struct indexer_collection *collection = index->collection;
    return indexer_index_in(index, INDEX_FILLING) && index->row.set == COLLECTION_DOCUMENTS &&
           index->written >= collection->heads[COLLECTION_DOCUMENTS] &&
           (partner ? partner->written >= collection->heads[COLLECTION_QUERIES] : !index->row.partner_id);
}

static bool has_to_follow(struct search *search, const struct indexer_index *index) {
    if (!is_free(index) || !indexer_index_in(index, INDEX_FOLLOWED)) return false;
    bool behind = !index->writer || index->written < index->collection->heads[indexer_set(index)];
    if (!behind && !has_to_settle(index)) return false;
    return !(index->is_starved && index->writer) && is_due(search, index->retry_ms);
}

static bool has_to_sync(struct search *search, const struct indexer_index *index) {
    if (!is_free(index) || !index->writer || !index->unsynced_since_ms) return false;
    return index->unsynced_rows >= SYNC_ROWS ||
           (is_due(search, index->retry_ms) && is_due(search, index->unsynced_since_ms + SYNC_MS));
}

static bool find_in_use(struct search *search, struct indexer_collection *collection, struct job *job) {
    for (struct indexer_index *index = collection->indexes; index; index = index->next) {
        if (indexer_is_filling(index) || !has_to_follow(search, index)) continue;
        /* The pair that answers queries goes first. */
        bool is_better = !job->index || index == collection->blue;
        if (is_better) *job = (struct job){.kind = JOB_FOLLOW, .collection = collection, .index = index};
    }
    return job->kind;
}

static bool find_sync(struct search *search, struct indexer_collection *collection, struct job *job) {
    for (struct indexer_index *index = collection->indexes; index && !job->kind; index = index->next)
        if (has_to_sync(search, index)) *job = (struct job){.kind = JOB_SYNC, .collection = collection, .index = index};
    return job->kind;
}

static bool find_upkeep(struct search *search, struct indexer_collection *collection, struct job *job) {
    if (indexer_upkeep_is_due(collection, search->now_ms, &search->next_ms))
        *job = (struct job){.kind = JOB_UPKEEP, .collection = collection};
    for (struct indexer_index *index = collection->indexes; index && !job->kind; index = index->next)
        if (is_free(index) && indexer_index_compact_is_due(index, search->now_ms, &search->next_ms))
            *job = (struct job){.kind = JOB_COMPACT, .collection = collection, .index = index};
    return job->kind;
}

static bool find_filling(struct search *search, struct indexer_collection *collection, struct job *job) {
    if (search->indexer->bulk_running >= INDEXER_BULK_WORKERS) return false; /* who ends one wakes us */
    for (struct indexer_index *index = collection->indexes; index && !job->kind; index = index->next)
        if (indexer_is_filling(index) && has_to_follow(search, index))
            *job = (struct job){.kind = JOB_FOLLOW, .collection = collection, .index = index, .is_bulk = true};
    return job->kind;
}

static bool find_heads(struct search *search, struct indexer_collection *collection, struct job *job) {
    (void)search;
    if (collection->wants_heads) *job = (struct job){.kind = JOB_HEADS, .collection = collection};
    return job->kind;
}

static bool (*const finders[])(struct search *, struct indexer_collection *,
                               struct job *) = {find_heads, find_in_use, find_sync, find_upkeep, find_filling};

static bool find_opening(struct search *search, struct job *job) {
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, search->indexer->collections, collection, next) {
        bool wants = collection->phase == COLLECTION_UNOPENED ||
                     (collection->phase == COLLECTION_FAILED && is_due(search, collection->retry_ms));
        if (!wants || collection->is_closing) continue;
        *job = (struct job){.kind = JOB_OPEN, .collection = collection};
        return true;
    }
    return false;
}

static bool can_ask(struct search *search, const struct indexer_ask *ask) {
    const struct indexer_collection *collection = ask->collection;
    if (ask->is_running || collection->is_asking || collection->phase == COLLECTION_UNOPENED ||
        collection->phase == COLLECTION_OPENING)
        return false;
    return ask->seen_changes != collection->changes || is_due(search, ask->deadline_ms);
}

static bool find_ask(struct search *search, struct job *job) {
    for (struct indexer_ask *ask = search->indexer->asks; ask; ask = ask->next) {
        if (!can_ask(search, ask)) continue;
        *job = (struct job){.kind = JOB_ASK, .collection = ask->collection, .ask = ask};
        return true;
    }
    return false;
}

/* With the lock. */
static bool find_job(struct search *search, struct job *job) {
    if (find_opening(search, job)) return true;
    if (!search->indexer->was_ready) return false; /* first everything that is there is opened (L6) */
    if (find_ask(search, job)) return true;
    for (size_t i = 0; i < ARRAY_SIZE(finders); i++) {
        struct indexer_collection *collection, *next;
        HASH_ITER(hh, search->indexer->collections, collection, next) {
            bool is_open = collection->phase == COLLECTION_OPEN && !collection->deleted && !collection->is_closing;
            if (is_open && finders[i](search, collection, job)) return true;
        }
    }
    return false;
}

/* ---- doing it --------------------------------------------------------------------- */

/* With the lock. */
static void begin(struct indexer *indexer, struct job *job) {
    job->collection->jobs++;
    if (job->index) job->index->is_busy = true;
    if (job->is_bulk) indexer->bulk_running++;
    if (job->ask) job->ask->is_running = job->collection->is_asking = true;
    if (job->kind == JOB_HEADS) job->collection->wants_heads = false;
    if (job->kind == JOB_OPEN) job->collection->phase = COLLECTION_OPENING;
}

static void complain(const struct job *job, const char *what, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, what, "collection", job->collection->id, "index",
              job->index ? job->index->row.index_id : NULL, "error", text, NULL);
}

/* S1: what a failed fsync or a damaged page left nobody knows. The process after this one opens the file anew. */
static void end_if_broken(struct indexer *indexer, const struct job *job) {
    if (collection_is_broken(job->collection->store)) indexer_fail(indexer, "a collection's database is broken", NULL);
}

static void follow(struct indexer_worker *worker, const struct job *job) {
    _cleanup_error_ struct error *error = NULL;
    bool more = false;
    int result = job->index->writer ? 0 : indexer_index_open(job->index, &error);
    if (result >= 0) result = indexer_follow(worker, job->index, INDEXER_FOREVER, &more, &error);
    if (result >= 0) result = indexer_settle(job->index, &error);
    pthread_mutex_lock(&worker->indexer->lock);
    if (result < 0)
        indexer_back_off(&job->index->retry_ms, &job->index->backoff_ms);
    else
        job->index->backoff_ms = job->index->retry_ms = 0;
    pthread_mutex_unlock(&worker->indexer->lock);
    if (result < 0) complain(job, "an index cannot follow its log now; it will be tried again", error);
    if (result < 0) end_if_broken(worker->indexer, job);
}

static void sync_index(struct indexer_worker *worker, const struct job *job) {
    _cleanup_error_ struct error *error = NULL;
    if (indexer_sync(job->index, &error) >= 0) return;
    pthread_mutex_lock(&worker->indexer->lock);
    indexer_back_off(&job->index->retry_ms, &job->index->backoff_ms);
    pthread_mutex_unlock(&worker->indexer->lock);
    complain(job, "what an index holds cannot be made durable now", error);
    end_if_broken(worker->indexer, job);
}

static void read_heads(const struct job *job) {
    _cleanup_error_ struct error *error = NULL;
    if (indexer_collection_read_heads(job->collection, &error) < 0) complain(job, "a log cannot be read now", error);
}

static void compact(const struct job *job) {
    _cleanup_error_ struct error *error = NULL;
    if (indexer_index_compact(job->index, &error) < 0) complain(job, "an index cannot be compacted now", error);
}

static void do_job(struct indexer_worker *worker, const struct job *job) {
    switch (job->kind) {
    case JOB_OPEN: indexer_collection_open(worker, job->collection); break;
    case JOB_ASK: indexer_ask_run(worker, job->ask); break;
    case JOB_HEADS: read_heads(job); break;
    case JOB_FOLLOW: follow(worker, job); break;
    case JOB_SYNC: sync_index(worker, job); break;
    case JOB_UPKEEP: indexer_upkeep(job->collection); break;
    case JOB_COMPACT: compact(job); break;
    case JOB_NONE: break;
    }
}

/* With the lock. Ready once everything that was found at the start has been opened, or cannot be. */
static void check_ready(struct indexer *indexer) {
    if (indexer->was_ready || !indexer->is_scanned) return;
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, indexer->collections, collection, next) {
        if (collection->phase == COLLECTION_UNOPENED || collection->phase == COLLECTION_OPENING) return;
    }
    indexer->was_ready = true;
    indexer_tell(indexer, role_ready, 0);
    indexer_tell_held(indexer);
    log_write(LOG_INFO, "the indexer follows its logs", NULL);
}

/* With the lock. A delete has taken collection and ask away by itself. */
static void finish(struct indexer *indexer, struct job *job) {
    if (job->is_bulk) indexer->bulk_running--;
    if (job->kind != JOB_ASK) {
        if (job->index) indexer_release(job->index);
        job->collection->jobs--;
    }
    check_ready(indexer);
    indexer_wake(indexer);
}

/* With the lock. */
static void sleep_until(struct indexer *indexer, uint64_t at_ms) {
    if (at_ms == INDEXER_FOREVER) {
        pthread_cond_wait(&indexer->changed, &indexer->lock);
        return;
    }
    const struct timespec at = {.tv_sec = (time_t)(at_ms / 1000), .tv_nsec = (long)(at_ms % 1000) * 1000000};
    pthread_cond_timedwait(&indexer->changed, &indexer->lock, &at);
}

void *indexer_work(void *context) {
    struct indexer_worker *worker = context;
    struct indexer *indexer = worker->indexer;
    pthread_mutex_lock(&indexer->lock);
    check_ready(indexer);
    while (!indexer->is_ending) {
        struct search search = {.indexer = indexer, .now_ms = clock_monotonic_ms(), .next_ms = INDEXER_FOREVER};
        struct job job = {0};
        if (!find_job(&search, &job)) {
            sleep_until(indexer, search.next_ms);
            continue;
        }
        begin(indexer, &job);
        pthread_mutex_unlock(&indexer->lock);
        do_job(worker, &job);
        pthread_mutex_lock(&indexer->lock);
        finish(indexer, &job);
    }
    pthread_mutex_unlock(&indexer->lock);
    return NULL;
}
