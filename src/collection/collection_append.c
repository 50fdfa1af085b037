/* Writes of documents: one transaction for all that wait, numbered in it, synced once (L1). */
#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "collection/collection-internal.h"

/* The write to the row of numbers comes first: on a server it makes other writers wait here, so that whoever commits
 * first has the smaller numbers. */
int collection_lock_end(struct store_transaction *tx, struct log_end *end, struct error **ret_error) {
    int64_t numbers[2];
    int result = collection_ask_numbers(tx, "UPDATE meta SET head = head RETURNING head, live", numbers, 2, ret_error);
    if (result < 0) return result;
    assert(result); /* a read of the same row came before */
    *end = (struct log_end){numbers[0], numbers[1]};
    return 0;
}

int collection_record_end(struct store_transaction *tx, const struct log_end *end, struct error **ret_error) {
    return store_run(tx, NULL, ret_error, "UPDATE meta SET head = ?, live = ?", "ii", end->head, end->live);
}

/* The newest row of the id: its number, or 0, and whether it is a document. */
static int find_previous(struct store_transaction *tx, const char *id, int64_t *ret_seq, bool *ret_alive,
                         struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT seq, text IS NOT NULL FROM log WHERE id = ? ORDER BY seq DESC LIMIT 1", "t", id);
    if (!result) result = store_next(rows, ret_error);
    if (result < 0) return result;
    *ret_seq = result ? store_number(rows, 0) : 0;
    *ret_alive = result && store_number(rows, 1);
    return 0;
}

static int append_one(struct store_transaction *tx, struct collection_write *write, int64_t now, struct log_end *end,
                      struct error **ret_error) {
    size_t id_size = strlen(write->id);
    if (!id_size || id_size > COLLECTION_ID_MAXIMUM)
        return error_set(ret_error, ERROR_REQUEST, "a document's id has 1 to %d bytes, not %zu", COLLECTION_ID_MAXIMUM,
                         id_size);
    int64_t previous = 0;
    bool was_alive = false;
    int result = find_previous(tx, write->id, &previous, &was_alive, ret_error);
    if (result < 0 || (!write->text && !was_alive)) return result;
    const char *payload = write->payload_json ? write->payload_json : "{}";
    result = store_run(tx, NULL, ret_error,
                       "INSERT INTO log (seq, id, previous, at, payload_json, text) VALUES (?, ?, ?, ?, ?, ?)",
                       "itiitt", ++end->head, write->id, previous, now, write->text ? payload : NULL, write->text);
    if (result < 0) return result;
    write->seq = (uint64_t)end->head;
    end->live += !!write->text - was_alive;
    return 0;
}

static int append_all(struct collection *collection, enum collection_set set, struct collection_write *writes,
                      size_t count, uint64_t *ret_head, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = collection_begin(collection, set, false, &tx, ret_error);
    if (result < 0) return result;
    struct log_end end;
    if ((result = collection_lock_end(tx, &end, ret_error)) < 0) return result;
    int64_t before = end.head, now = clock_wall_ms();
    for (size_t i = 0; i < count && !result; i++) result = append_one(tx, &writes[i], now, &end, ret_error);
    if (!result && end.head > before) {
        result = collection_record_end(tx, &end, ret_error);
        if (!result) result = collection_commit(collection, set, TAKE(tx), ret_error);
    }
    if (!result) *ret_head = (uint64_t)end.head;
    return result;
}

int collection_append(struct collection *collection, struct collection_write *writes, size_t count, uint64_t *ret_head,
                      struct error **ret_error) {
    for (size_t i = 0; i < count; i++) writes[i].seq = 0;
    int result = append_all(collection, COLLECTION_DOCUMENTS, writes, count, ret_head, ret_error);
    if (result < 0) {
        for (size_t i = 0; i < count; i++) writes[i].seq = 0;
        error_wrap(ret_error, "write to the log");
    }
    return result;
}
