/* Compaction of a log: what every index has behind it goes (L2).
 *
 * It walks the log once, from meta.compacted to the smallest durable_seq, and at each row lets go what that row took
 * the place of, and the row itself if it is a delete. So a document's rows go in their order, and a delete never before
 * what it deleted: whoever follows the log from its beginning finds the same documents at every step. */
#include <sys/stat.h>

#include "collection/collection-internal.h"

#define LOG_GROWN_BYTES (4 << 20)

/* The smallest durable_seq of the set's indexes; 0 when there is none. */
static int find_bound(struct collection *collection, enum collection_set set, int64_t *ret_bound,
                      struct error **ret_error) {
    struct collection_read *read = NULL;
    int result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result < 0) return result;
    _cleanup_rows_ struct store_rows *rows = NULL;
    result = store_query(read->tx, &rows, ret_error,
                         "SELECT coalesce(min(durable_seq), 0) FROM indexes "
                         "WHERE kind = ? AND state NOT IN ('failed', 'deleting')",
                         "t", collection_set_name(set));
    if (!result) result = store_next(rows, ret_error);
    if (result > 0) *ret_bound = store_number(rows, 0);
    store_rows_free(TAKE(rows));
    collection_read_end(read);
    return result < 0 ? result : 0;
}

struct step {
    int64_t seq, previous;
    bool is_delete;
};

/* The next rows of the walk. */
static int plan(struct store_transaction *tx, int64_t bound, size_t limit, struct step *ret_steps, size_t *ret_count,
                struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT seq, previous, text IS NULL FROM log "
                             "WHERE seq > (SELECT compacted FROM meta) AND seq <= ? ORDER BY seq LIMIT ?",
                             "ii", bound, (int64_t)limit);
    size_t count = 0;
    while (!result && (result = store_next(rows, ret_error)) > 0) {
        ret_steps[count++] = (struct step){store_number(rows, 0), store_number(rows, 1), (bool)store_number(rows, 2)};
        result = 0;
    }
    *ret_count = count;
    return result;
}

static int let_go(struct store_transaction *tx, int64_t seq, struct error **ret_error) {
    return store_run(tx, NULL, ret_error, "DELETE FROM log WHERE seq = ?", "i", seq);
}

static int walk(struct store_transaction *tx, int64_t bound, size_t limit, bool *ret_more, struct error **ret_error) {
    _cleanup_free_ struct step *steps = mem_new_array(limit, struct step);
    size_t count = 0;
    int result = plan(tx, bound, limit, steps, &count, ret_error);
    for (size_t i = 0; i < count && !result; i++) {
        if (steps[i].previous) result = let_go(tx, steps[i].previous, ret_error);
        if (!result && steps[i].is_delete) result = let_go(tx, steps[i].seq, ret_error);
    }
    *ret_more = count == limit;
    int64_t through = count == limit ? steps[count - 1].seq : bound;
    if (!result) result = store_run(tx, NULL, ret_error, "UPDATE meta SET compacted = ?", "i", through);
    return result;
}

/* Other processes' commits make the write-ahead log grow, too; this process alone moves it into the database (S2). */
static int checkpoint_if_grown(struct database *database, struct error **ret_error) {
    _cleanup_free_ char *log = text_format("%s-wal", database->path);
    struct stat status;
    if (stat(log, &status) < 0 || status.st_size < LOG_GROWN_BYTES) return 0;
    return store_checkpoint(database->writer, ret_error);
}

/* Nothing to do is by far the most frequent, and must not take the lock from those who write. */
static int is_due(struct collection *collection, enum collection_set set, int64_t bound, bool *ret_due,
                  struct error **ret_error) {
    struct collection_read *read = NULL;
    int result = collection_read_begin(collection, set, &read, ret_error);
    if (result < 0) return result;
    int64_t compacted = 0;
    result = collection_ask_numbers(read->tx, "SELECT compacted FROM meta", &compacted, 1, ret_error);
    collection_read_end(read);
    *ret_due = bound > compacted;
    return result < 0 ? result : 0;
}

int collection_compact(struct collection *collection, enum collection_set set, size_t limit, bool *ret_more,
                       struct error **ret_error) {
    int64_t bound = 0;
    bool due = false, more = false;
    int result = find_bound(collection, set, &bound, ret_error);
    if (!result) result = is_due(collection, set, bound, &due, ret_error);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if (!result && due) {
        result = collection_begin(collection, set, true, &tx, ret_error);
        if (!result) result = walk(tx, bound, limit, &more, ret_error);
        if (!result) result = collection_commit(collection, set, TAKE(tx), ret_error);
    }
    if (!result) result = checkpoint_if_grown(&collection->databases[set], ret_error);
    collection_note_broken(collection);
    if (result < 0)
        error_wrap(ret_error, "compact the log of %s", collection_set_name(set));
    else
        *ret_more = more;
    return result;
}
