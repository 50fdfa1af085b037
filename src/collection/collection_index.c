/* The list of indexes and the pair: reading. */
#include <string.h>

#include "collection/collection-internal.h"

#define INDEX                                                                                                          \
    "SELECT index_id, partner_id, kind, deployment_id, encoder_digest, state, task_id, detail, revision, dimension, "  \
    "epoch, created_at, updated_at, progress_at, durable_seq FROM indexes "

void collection_index_clear(struct collection_index *index) {
    char *texts[] = {index->index_id, index->partner_id, index->deployment_id, index->encoder_digest,
                     index->state,    index->task_id,    index->detail};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) free(texts[i]);
    *index = (struct collection_index){0};
}

void collection_indexes_free(struct collection_index *indexes, size_t count) {
    for (size_t i = 0; i < count; i++) collection_index_clear(&indexes[i]);
    free(indexes);
}

static void fill_index(struct store_rows *rows, struct collection_index *index) {
    *index = (struct collection_index){
        .index_id = store_text_copy(rows, 0),
        .partner_id = store_text_copy(rows, 1),
        .set = text_equal(store_text(rows, 2), collection_set_name(COLLECTION_QUERIES)) ? COLLECTION_QUERIES
                                                                                        : COLLECTION_DOCUMENTS,
        .deployment_id = store_text_copy(rows, 3),
        .encoder_digest = store_text_copy(rows, 4),
        .state = store_text_copy(rows, 5),
        .task_id = store_text_copy(rows, 6),
        .detail = store_text_copy(rows, 7),
        .revision = store_number(rows, 8),
        .dimension = store_number(rows, 9),
        .epoch = store_number(rows, 10),
        .created_at = store_number(rows, 11),
        .updated_at = store_number(rows, 12),
        .progress_at = store_number(rows, 13),
        .durable_seq = (uint64_t)store_number(rows, 14),
    };
}

int collection_get_index(struct store_transaction *tx, const char *index_id, struct collection_index *ret_index,
                         struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, INDEX "WHERE index_id = ?", "t", index_id);
    if (!result) result = store_next(rows, ret_error);
    if (result < 0) return result;
    if (!result) return error_set(ret_error, ERROR_NOT_FOUND, "there is no index %.128s", index_id);
    fill_index(rows, ret_index);
    return 0;
}

int collection_load_index(struct collection_read *read, const char *index_id, struct collection_index *ret_index,
                          struct error **ret_error) {
    return collection_get_index(read->tx, index_id, ret_index, ret_error);
}

int collection_list_indexes(struct collection_read *read, struct collection_index **ret_indexes, size_t *ret_count,
                            struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(read->tx, &rows, ret_error, INDEX "ORDER BY created_at, rowid", "");
    if (result < 0) return result;
    struct collection_index *indexes = NULL;
    size_t count = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        indexes = mem_resize(indexes, count + 1, sizeof *indexes);
        fill_index(rows, &indexes[count++]);
    }
    if (result < 0) {
        collection_indexes_free(indexes, count);
        return result;
    }
    *ret_indexes = indexes;
    *ret_count = count;
    return 0;
}

void collection_pair_clear(struct collection_pair *pair) {
    char *texts[] = {pair->index_id,   pair->query_index_id,  pair->deployment_id,  pair->encoder_digest,
                     pair->flipped_by, pair->source_index_id, pair->switching_task, pair->switching_to};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) free(texts[i]);
    *pair = (struct collection_pair){0};
}

int collection_get_pair(struct store_transaction *tx, struct collection_pair *ret_pair, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT epoch, revision, switching_since, index_id, query_index_id, deployment_id, "
                             "encoder_digest, flipped_by, source_index_id, switching_task, switching_to FROM pair",
                             "");
    if (!result) result = store_next(rows, ret_error);
    if (result < 0) return result;
    if (!result) return error_set(ret_error, ERROR_NOT_FOUND, "the collection has no pair");
    *ret_pair = (struct collection_pair){
        .epoch = store_number(rows, 0),
        .revision = store_number(rows, 1),
        .switching_since = store_number(rows, 2),
        .index_id = store_text_copy(rows, 3),
        .query_index_id = store_text_copy(rows, 4),
        .deployment_id = store_text_copy(rows, 5),
        .encoder_digest = store_text_copy(rows, 6),
        .flipped_by = store_text_copy(rows, 7),
        .source_index_id = store_text_copy(rows, 8),
        .switching_task = store_text_copy(rows, 9),
        .switching_to = store_text_copy(rows, 10),
    };
    return 0;
}

int collection_load_pair(struct collection_read *read, struct collection_pair *ret_pair, struct error **ret_error) {
    return collection_get_pair(read->tx, ret_pair, ret_error);
}
