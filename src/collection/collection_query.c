/* Kept queries: a log of their own, whose ids are the digests of the texts (L10). A text that comes again is counted
 * and not written again: what was embedded stays as it is. */
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "collection/collection-internal.h"

/* 1: it was known, and is counted. */
static int count_again(struct store_transaction *tx, const char *id, int64_t now, struct error **ret_error) {
    int64_t changes = 0;
    int result = store_run(tx, &changes, ret_error, "UPDATE queries SET count = count + 1, last_seen = ? WHERE id = ?",
                           "it", now, id);
    return result < 0 ? result : changes > 0;
}

static int enter(struct store_transaction *tx, const char *id, const char *text, int64_t now, struct log_end *end,
                 struct error **ret_error) {
    int64_t seq = ++end->head;
    int result = store_run(tx, NULL, ret_error,
                           "INSERT INTO log (seq, id, previous, at, payload_json, text) "
                           "VALUES (?, ?, coalesce((SELECT max(seq) FROM log WHERE id = ?), 0), ?, '{}', ?)",
                           "ittit", seq, id, id, now, text);
    if (result < 0) return result;
    end->live++;
    return store_run(tx, NULL, ret_error, "INSERT INTO queries (id, seq, count, last_seen) VALUES (?, ?, 1, ?)", "tii",
                     id, seq, now);
}

/* The query that was longest not seen goes: as a delete in the log. */
static int let_oldest_go(struct store_transaction *tx, int64_t now, struct log_end *end, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, "SELECT id, seq FROM queries ORDER BY last_seen, seq LIMIT 1", "");
    if (!result) result = store_next(rows, ret_error);
    if (result <= 0) return result;
    _cleanup_free_ char *id = store_text_copy(rows, 0);
    int64_t seq = store_number(rows, 1);
    store_rows_free(TAKE(rows));
    result = store_run(tx, NULL, ret_error, "DELETE FROM queries WHERE id = ?", "t", id);
    if (!result)
        result = store_run(tx, NULL, ret_error, "INSERT INTO log (seq, id, previous, at) VALUES (?, ?, ?, ?)", "itii",
                           ++end->head, id, seq, now);
    end->live--;
    return result;
}

static int note_one(struct store_transaction *tx, const char *text, int64_t now, struct log_end *end,
                    struct error **ret_error) {
    char id[DIGEST_HEX_SIZE];
    digest_bytes(text, strlen(text), id);
    int result = count_again(tx, id, now, ret_error);
    if (result) return result < 0 ? result : 0;
    return enter(tx, id, text, now, end, ret_error);
}

int collection_note_queries(struct collection *collection, const char *const *texts, size_t count, uint64_t maximum,
                            uint64_t *ret_head, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = collection_begin(collection, COLLECTION_QUERIES, false, &tx, ret_error);
    struct log_end end;
    if (!result) result = collection_lock_end(tx, &end, ret_error);
    int64_t now = clock_wall_ms();
    for (size_t i = 0; i < count && !result; i++) result = note_one(tx, texts[i], now, &end, ret_error);
    while (!result && (uint64_t)end.live > maximum) result = let_oldest_go(tx, now, &end, ret_error);
    if (!result) result = collection_record_end(tx, &end, ret_error);
    if (!result) result = collection_commit(collection, COLLECTION_QUERIES, TAKE(tx), ret_error);
    if (!result)
        *ret_head = (uint64_t)end.head;
    else
        error_wrap(ret_error, "keep searched texts");
    return result;
}

int collection_query_seen(struct collection_read *read, const char *id, uint64_t *ret_count, int64_t *ret_last_seen,
                          struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(read->tx, &rows, ret_error, "SELECT count, last_seen FROM queries WHERE id = ?", "t", id);
    if (!result) result = store_next(rows, ret_error);
    if (result <= 0) return result;
    *ret_count = (uint64_t)store_number(rows, 0);
    *ret_last_seen = store_number(rows, 1);
    return 1;
}
