/* The log as a follower reads it (L12). */
#include "collection/collection-internal.h"

/* A newer row of the same id at or below ?2. */
#define SUPERSEDED                                                                                                     \
    "EXISTS (SELECT 1 FROM log AS newer WHERE newer.id = row.id AND newer.seq > row.seq AND newer.seq <= ?)"

void collection_changes_free(struct collection_change *changes, size_t count) {
    for (size_t i = 0; i < count; i++) collection_row_clear(&changes[i].row);
    free(changes);
}

static void fill_change(struct store_rows *rows, struct collection_change *change) {
    change->row = (struct collection_row){
        .seq = (uint64_t)store_number(rows, 0),
        .previous = (uint64_t)store_number(rows, 1),
        .id = store_text_copy(rows, 2),
        .at = store_number(rows, 3),
    };
    change->superseded = store_number(rows, 4);
    /* Asked for only where it is wanted: SQLite reads a long text when its column is asked for. */
    if (!change->superseded) change->row.text = store_text_copy(rows, 5);
}

int collection_changes(struct collection_read *read, uint64_t after, uint64_t through, uint64_t newest, size_t limit,
                       struct collection_change **ret_changes, size_t *ret_count, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(read->tx, &rows, ret_error,
                             "SELECT seq, previous, id, at, " SUPERSEDED ", text FROM log AS row "
                             "WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                             "iiii", (int64_t)newest, (int64_t)after, (int64_t)through, (int64_t)limit);
    if (result < 0) return result;
    struct collection_change *changes = NULL;
    size_t count = 0, room = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        if (count == room) changes = mem_resize(changes, room = room ? 2 * room : 64, sizeof *changes);
        fill_change(rows, &changes[count++]);
    }
    if (result < 0) {
        collection_changes_free(changes, count);
        return result;
    }
    *ret_changes = changes;
    *ret_count = count;
    return 0;
}

int collection_count_changes(struct collection_read *read, uint64_t after, uint64_t *ret_rows, uint64_t *ret_embeds,
                             struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    /* From the beginning both are in the index of ids or known, so that no document is read. */
    int result = after
                     ? store_query(read->tx, &rows, ret_error,
                                   "SELECT count(*), coalesce(sum(text IS NOT NULL AND NOT " SUPERSEDED "), 0) "
                                   "FROM log AS row WHERE seq > ?",
                                   "ii", (int64_t)read->head, (int64_t)after)
                     : store_query(read->tx, &rows, ret_error, "SELECT count(*), ? FROM log", "i", (int64_t)read->live);
    if (!result) result = store_next(rows, ret_error);
    if (result < 0) return result;
    *ret_rows = (uint64_t)store_number(rows, 0);
    *ret_embeds = (uint64_t)store_number(rows, 1);
    return 0;
}
