/* Documents as they are at the moment of a read. */
#include "collection/collection-internal.h"

#define ROW "seq, previous, id, at, payload_json, text"

void collection_row_clear(struct collection_row *row) {
    free(row->id);
    free(row->text);
    free(row->payload_json);
    *row = (struct collection_row){0};
}

/* Of columns ROW. */
static void fill_row(struct store_rows *rows, struct collection_row *row) {
    *row = (struct collection_row){
        .seq = (uint64_t)store_number(rows, 0),
        .previous = (uint64_t)store_number(rows, 1),
        .id = store_text_copy(rows, 2),
        .at = store_number(rows, 3),
        .payload_json = store_text_copy(rows, 4),
        .text = store_text_copy(rows, 5),
    };
}

void collection_facts_clear(struct collection_facts *facts) {
    free(facts->collection_id);
    free(facts->name);
    free(facts->log_id);
    free(facts->metric);
    *facts = (struct collection_facts){0};
}

int collection_load_facts(struct collection_read *read, struct collection_facts *ret_facts, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(read->tx, &rows, ret_error,
                    "SELECT collection_id, name, log_id, metric, deleted, keep_queries, quantized FROM meta", "");
    if (!result) result = store_next(rows, ret_error);
    if (result < 0) return result;
    *ret_facts = (struct collection_facts){
        .collection_id = store_text_copy(rows, 0),
        .name = store_text_copy(rows, 1),
        .log_id = store_text_copy(rows, 2),
        .metric = store_text_copy(rows, 3),
        .deleted = store_number(rows, 4),
        .keep_queries = store_number(rows, 5),
        .quantized = store_number(rows, 6),
        .head = read->head,
        .live = read->live,
    };
    return 0;
}

int collection_find(struct collection_read *read, const char *id, struct collection_row *ret_row,
                    struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(read->tx, &rows, ret_error,
                             "SELECT " ROW " FROM log WHERE id = ? ORDER BY seq DESC LIMIT 1", "t", id);
    if (!result) result = store_next(rows, ret_error);
    if (result < 0) return result;
    if (!result || store_is_null(rows, 5))
        return error_set(ret_error, ERROR_NOT_FOUND, "there is no document with the id %.128s", id);
    fill_row(rows, ret_row);
    return 0;
}

int collection_find_seq(struct collection_read *read, uint64_t seq, bool want_text, struct collection_row *ret_row,
                        struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(read->tx, &rows, ret_error,
                             want_text ? "SELECT " ROW " FROM log WHERE seq = ?"
                                       : "SELECT seq, previous, id, at, payload_json, NULL FROM log WHERE seq = ?",
                             "i", (int64_t)seq);
    if (!result) result = store_next(rows, ret_error);
    if (result > 0) fill_row(rows, ret_row);
    return result;
}

#define LIVING                                                                                                         \
    "FROM log AS row WHERE seq > ? AND text IS NOT NULL AND NOT EXISTS "                                               \
    "(SELECT 1 FROM log AS newer WHERE newer.id = row.id AND newer.seq > row.seq) ORDER BY seq"

int collection_each_live(struct collection_read *read, uint64_t after, bool want_text,
                         bool (*take)(void *context, const struct collection_row *row), void *context,
                         struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(read->tx, &rows, ret_error,
                    want_text ? "SELECT " ROW " " LIVING : "SELECT seq, previous, id, at, payload_json, NULL " LIVING,
                    "i", (int64_t)after);
    while (!result && (result = store_next(rows, ret_error)) > 0) {
        /* Borrowed until the next row: copying each would cost more than reading it. */
        const struct collection_row row = {
            .seq = (uint64_t)store_number(rows, 0),
            .previous = (uint64_t)store_number(rows, 1),
            .id = (char *)store_text(rows, 2),
            .at = store_number(rows, 3),
            .payload_json = (char *)store_text(rows, 4),
            .text = (char *)store_text(rows, 5),
        };
        result = 0;
        if (!take(context, &row)) break;
    }
    return result;
}
