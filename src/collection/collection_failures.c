/* Items that a model refused (L9). */
#include "collection/collection-internal.h"

void collection_failures_free(struct collection_failure *failures, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(failures[i].id);
        free(failures[i].stage);
        free(failures[i].detail);
    }
    free(failures);
}

static int count_failures(struct collection_read *read, const char *index_id, uint64_t *ret_total,
                          struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(read->tx, &rows, ret_error, "SELECT count(*) FROM failed_items WHERE index_id = ?", "t", index_id);
    if (!result) result = store_next(rows, ret_error);
    if (result > 0) *ret_total = (uint64_t)store_number(rows, 0);
    return result < 0 ? result : 0;
}

int collection_list_failures(struct collection_read *read, const char *index_id, uint64_t after, size_t limit,
                             struct collection_failure **ret_failures, size_t *ret_count, uint64_t *ret_total,
                             struct error **ret_error) {
    uint64_t total = 0;
    int result = count_failures(read, index_id, &total, ret_error);
    _cleanup_rows_ struct store_rows *rows = NULL;
    if (!result)
        result = store_query(read->tx, &rows, ret_error,
                             "SELECT seq, id, stage, detail, attempts FROM failed_items "
                             "WHERE index_id = ? AND seq > ? ORDER BY seq LIMIT ?",
                             "tii", index_id, (int64_t)after, (int64_t)limit);
    if (result < 0) return result;
    struct collection_failure *failures = NULL;
    size_t count = 0, room = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        if (count == room) failures = mem_resize(failures, room = room ? 2 * room : 16, sizeof *failures);
        failures[count++] = (struct collection_failure){
            .seq = (uint64_t)store_number(rows, 0),
            .id = store_text_copy(rows, 1),
            .stage = store_text_copy(rows, 2),
            .detail = store_text_copy(rows, 3),
            .attempts = store_number(rows, 4),
        };
    }
    if (result < 0) {
        collection_failures_free(failures, count);
        return result;
    }
    *ret_failures = failures;
    *ret_count = count;
    *ret_total = total;
    return 0;
}

int collection_find_failure(struct collection_read *read, const char *index_id, uint64_t seq, char **ret_detail,
                            struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(read->tx, &rows, ret_error, "SELECT detail FROM failed_items WHERE index_id = ? AND seq = ?", "ti",
                    index_id, (int64_t)seq);
    if (!result) result = store_next(rows, ret_error);
    if (result > 0) *ret_detail = store_text_copy(rows, 0);
    return result;
}

int collection_record_failures(struct collection *collection, const char *index_id,
                               const struct collection_failure *failures, size_t count, const uint64_t *cleared,
                               size_t cleared_count, struct error **ret_error) {
    if (!count && !cleared_count) return 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = collection_begin(collection, COLLECTION_DOCUMENTS, true, &tx, ret_error);
    for (size_t i = 0; i < cleared_count && !result; i++)
        result = store_run(tx, NULL, ret_error, "DELETE FROM failed_items WHERE index_id = ? AND seq = ?", "ti",
                           index_id, (int64_t)cleared[i]);
    for (size_t i = 0; i < count && !result; i++)
        result = store_run(tx, NULL, ret_error,
                           "INSERT INTO failed_items (index_id, seq, id, stage, detail, attempts) "
                           "SELECT ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM indexes WHERE index_id = ?) "
                           "ON CONFLICT (index_id, seq) DO UPDATE SET id = excluded.id, stage = excluded.stage, "
                           "detail = excluded.detail, attempts = excluded.attempts",
                           "tittti"
                           "t",
                           index_id, (int64_t)failures[i].seq, failures[i].id, failures[i].stage, failures[i].detail,
                           failures[i].attempts, index_id);
    if (!result) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), ret_error);
    if (result < 0) error_wrap(ret_error, "record failed items of the index %s", index_id);
    return result;
}
