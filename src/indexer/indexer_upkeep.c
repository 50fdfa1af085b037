/* What is done now and then: superseded rows of the logs and dead rows of the indexes go, in small bites between other
 * work; an index that nobody embeds lets the log go (L2); a switch that nobody asks for any more is given up. */
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define COMPACT_PAUSE_MS 10000 /* between two times that a log or an index is compacted, when there is anything */
#define COMPACT_ROWS 500 /* of a log in one transaction */
#define TTL_LOOKS 10 /* in one index_ttl */
#define TTL_PAUSE_MAXIMUM_MS 60000

static bool is_past(uint64_t at_ms, uint64_t now_ms, uint64_t *next_ms) {
    if (at_ms <= now_ms) return true;
    if (at_ms < *next_ms) *next_ms = at_ms;
    return false;
}

static uint64_t ttl_pause_ms(const struct indexer *indexer) {
    uint64_t pause_ms = indexer->settings->index_ttl_ms / TTL_LOOKS;
    return pause_ms < TTL_PAUSE_MAXIMUM_MS ? pause_ms : TTL_PAUSE_MAXIMUM_MS;
}

/* While a fence stands, an index shows less than it has on the disk: rows that it still shows must stay in the log. */
static bool is_fenced(const struct indexer_collection *collection) {
    return collection->switching_to || collection->former;
}

bool indexer_upkeep_is_due(const struct indexer_collection *collection, uint64_t now_ms, uint64_t *next_ms) {
    bool compact = collection->compact_due[COLLECTION_DOCUMENTS] || collection->compact_due[COLLECTION_QUERIES];
    if (compact && !is_fenced(collection) && is_past(collection->compact_after_ms, now_ms, next_ms)) return true;
    return is_past(collection->last_ttl_ms + ttl_pause_ms(collection->indexer), now_ms, next_ms);
}

/* ---- the log -------------------------------------------------------------------------------- */

static void compact_log(struct indexer_collection *collection, enum collection_set set) {
    _cleanup_error_ struct error *error = NULL;
    bool more = false;
    if (collection_compact(collection->store, set, COMPACT_ROWS, &more, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        log_write(LOG_WARNING, "a log cannot be compacted now", "collection", collection->id, "error", text, NULL);
    }
    pthread_mutex_lock(&collection->indexer->lock);
    if (more)
        collection->compact_due[set] = true;
    else
        collection->compact_after_ms = clock_monotonic_ms() + COMPACT_PAUSE_MS;
    pthread_mutex_unlock(&collection->indexer->lock);
}

static void compact_logs(struct indexer_collection *collection) {
    for (int set = 0; set < INDEXER_SETS; set++) {
        pthread_mutex_lock(&collection->indexer->lock);
        bool due = collection->compact_due[set] && !is_fenced(collection) &&
                   collection->compact_after_ms <= clock_monotonic_ms();
        if (due) collection->compact_due[set] = false;
        pthread_mutex_unlock(&collection->indexer->lock);
        if (due && (set == COLLECTION_DOCUMENTS || collection->keep_queries)) compact_log(collection, set);
    }
}

/* ---- an index that stands still ----------------------------------------------------------------- */

static int fail_index(struct indexer_collection *collection, struct indexer_index *index, struct error **ret_error) {
    struct indexer *indexer = collection->indexer;
    _cleanup_free_ char *detail =
        text_format("nothing was embedded for it for %llu s (index_ttl); the log is no longer kept for it",
                    (unsigned long long)(indexer->settings->index_ttl_ms / 1000));
    log_write(LOG_WARNING, "an index has failed", "collection", collection->id, "index", index->row.index_id, "cause",
              detail, NULL);
    return indexer_index_set_state(index, INDEX_FAILED, detail, ret_error);
}

/* The pair that answers queries is never let go: it answers, late as it is. */
static struct indexer_index *find_stale(struct indexer_collection *collection, const struct collection_index *row) {
    struct indexer *indexer = collection->indexer;
    pthread_mutex_lock(&indexer->lock);
    struct indexer_index *index = indexer_index_find(collection, row->index_id);
    bool may_fail = index && indexer_index_in(index, INDEX_FILLING | INDEX_READY | INDEX_ROLLBACK) &&
                    index != collection->former && index != collection->former_queries &&
                    index != collection->switching_to;
    bool is_behind = may_fail && index->written < collection->heads[row->set];
    bool is_stale = is_behind && clock_wall_ms() - row->progress_at > (int64_t)indexer->settings->index_ttl_ms;
    pthread_mutex_unlock(&indexer->lock);
    return is_stale ? index : NULL;
}

static int fail_stale(struct indexer_collection *collection, struct error **ret_error) {
    struct collection_index *rows = NULL;
    struct collection_read *read = NULL;
    size_t count = 0;
    int result = collection_read_begin(collection->store, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0) result = collection_list_indexes(read, &rows, &count, ret_error);
    collection_read_end(read);
    for (size_t i = 0; result >= 0 && i < count; i++) {
        struct indexer_index *index = find_stale(collection, &rows[i]);
        if (index) result = fail_index(collection, index, ret_error);
    }
    collection_indexes_free(rows, count);
    return result;
}

static void look_at_ttl(struct indexer_collection *collection) {
    _cleanup_error_ struct error *error = NULL;
    struct indexer *indexer = collection->indexer;
    uint64_t now_ms = clock_monotonic_ms();
    pthread_mutex_lock(&indexer->lock);
    bool due = collection->last_ttl_ms + ttl_pause_ms(indexer) <= now_ms;
    if (due) collection->last_ttl_ms = now_ms;
    pthread_mutex_unlock(&indexer->lock);
    if (!due) return;
    int result = fail_stale(collection, &error);
    if (result >= 0) result = indexer_abort_stale(collection, &error);
    if (result >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, "indexes that stand still cannot be looked for now", "collection", collection->id, "error",
              text, NULL);
}

void indexer_upkeep(struct indexer_collection *collection) {
    compact_logs(collection);
    look_at_ttl(collection);
}

/* ---- an index ------------------------------------------------------------------------------------- */

bool indexer_index_compact_is_due(const struct indexer_index *index, uint64_t now_ms, uint64_t *next_ms) {
    bool due =
        index->compact_due && index->writer && indexer_index_in(index, INDEX_FOLLOWED) && !indexer_is_filling(index);
    return due && is_past(index->compact_after_ms, now_ms, next_ms);
}

int indexer_index_compact(struct indexer_index *index, struct error **ret_error) {
    struct indexer *indexer = index->collection->indexer;
    bool more = false;
    pthread_mutex_lock(&indexer->lock);
    uint64_t bound = index->durable < index->applied ? index->durable : index->applied; /* rows that are still shown */
    pthread_mutex_unlock(&indexer->lock);
    int result = indexer->vectors->compact(index->writer, bound, &more, ret_error);
    pthread_mutex_lock(&indexer->lock);
    index->compact_due = result >= 0 && more;
    if (!index->compact_due) index->compact_after_ms = clock_monotonic_ms() + COMPACT_PAUSE_MS;
    if (result < 0) index->compact_due = true;
    pthread_mutex_unlock(&indexer->lock);
    return result;
}
