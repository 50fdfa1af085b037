/* Reads a pair and opens its indexes, on a worker; compares each index with the log it claims to follow (L1). */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "gateway/gateway_collections-internal.h"

#define VECTORS (&folder_vectors)

/* ---- an index -------------------------------------------------------------- */

static char *index_folder(const char *collection_folder, const char *index_id) {
    return text_format("%s/indexes/%s", collection_folder, index_id);
}

static int open_reader(struct gateway_index *index, struct error **ret_error) {
    const struct vector_spec spec = {.index_id = index->index_id,
                                     .log_id = index->log_id,
                                     .encoder_digest = index->digest,
                                     .dimension = index->dimension,
                                     .quantized = index->quantized};
    struct error *error = NULL;
    if (!VECTORS->open_reader(index->folder, &spec, &index->reader, &error)) return 0;
    /* Whatever is wrong with it, the indexer makes it right: for a search it is a matter of time. */
    _cleanup_free_ char *cause = error_text(error);
    error_free(error);
    error_set(ret_error, ERROR_UNAVAILABLE, "index %s cannot be searched yet: %s", index->index_id, cause);
    return error_mark_transient(ret_error);
}

int gateway_index_reader(struct gateway_index *index, struct vector_reader **ret_reader, struct error **ret_error) {
    pthread_mutex_lock(&index->opening);
    int failed = index->reader ? 0 : open_reader(index, ret_error);
    *ret_reader = index->reader;
    pthread_mutex_unlock(&index->opening);
    return failed;
}

static void close_reader(struct gateway_index *index) {
    if (index->reader) VECTORS->close_reader(TAKE(index->reader));
}

static void clear_index(struct gateway_index *index) {
    close_reader(index);
    pthread_mutex_destroy(&index->opening);
    free(index->folder);
    free(index->index_id);
    free(index->log_id);
    free(index->digest);
}

static int load_index(struct gateway_index *index, struct collection_read *read, const char *folder,
                      const char *index_id, struct error **ret_error) {
    struct collection_index row = {0};
    int failed = collection_load_index(read, index_id, &row, ret_error);
    if (failed) return failed;
    index->index_id = text_copy(index_id);
    index->folder = index_folder(folder, index_id);
    index->digest = text_copy(row.encoder_digest);
    bool fits = row.dimension > 0 && row.dimension <= VECTOR_DIMENSION_MAXIMUM;
    if (fits) index->dimension = (uint32_t)row.dimension;
    collection_index_clear(&row);
    return fits ? 0 : error_set(ret_error, ERROR_DEPLOYMENT, "index %s has no dimension", index_id);
}

/* Each set's log has an id of its own. */
static int load_log_id(struct gateway_index *index, struct collection *log, enum collection_set set,
                       struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_facts facts = {0};
    int failed = collection_read_begin(log, set, &read, ret_error);
    if (!failed) failed = collection_load_facts(read, &facts, ret_error);
    if (failed) return failed;
    index->log_id = TAKE(facts.log_id);
    index->quantized = facts.quantized;
    collection_facts_clear(&facts);
    return 0;
}

/* ---- an older log than its indexes (L1) -------------------------------------- */

struct known {
    char *index_id;
    uint64_t written;
};

/* How far an index says it is; 0 when it cannot be read: then it is no evidence. */
static uint64_t written_of(const struct collection_index *row, const struct collection_facts *facts,
                           const char *folder) {
    struct gateway_index index = {.folder = index_folder(folder, row->index_id),
                                  .index_id = row->index_id,
                                  .log_id = facts->log_id,
                                  .digest = row->encoder_digest,
                                  .dimension = (uint32_t)row->dimension,
                                  .quantized = facts->quantized};
    struct vector_info info = {0};
    if (!open_reader(&index, NULL)) {
        VECTORS->info(index.reader, &info);
        VECTORS->close_reader(index.reader);
    }
    free(index.folder);
    return info.written;
}

static bool follows_documents(const struct collection_index *row) {
    return row->set == COLLECTION_DOCUMENTS && row->dimension > 0 && !text_equal(row->state, "failed") &&
           !text_equal(row->state, "deleting");
}

static struct known *list_known(struct collection *log, const char *folder, size_t *ret_count) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_index *rows = NULL;
    struct collection_facts facts = {0};
    size_t count = 0;
    *ret_count = 0;
    if (collection_read_begin(log, COLLECTION_DOCUMENTS, &read, NULL)) return NULL;
    if (collection_load_facts(read, &facts, NULL)) return NULL;
    if (collection_list_indexes(read, &rows, &count, NULL)) count = 0;
    struct known *known = mem_new_array(count, struct known);
    for (size_t i = 0; i < count; i++) {
        if (!follows_documents(&rows[i])) continue;
        known[*ret_count].index_id = text_copy(rows[i].index_id);
        known[(*ret_count)++].written = written_of(&rows[i], &facts, folder);
    }
    collection_indexes_free(rows, count);
    collection_facts_clear(&facts);
    return known;
}

/* The head is read after the indexes, which never pass it: whoever is above it now was made from another log. */
char *gateway_pair_find_ahead(struct collection *log, const char *folder) {
    size_t count;
    _cleanup_free_ struct known *known = list_known(log, folder, &count);
    _cleanup_read_ struct collection_read *read = NULL;
    char *ahead = NULL;
    bool is_read = !collection_read_begin(log, COLLECTION_DOCUMENTS, &read, NULL);
    uint64_t head = is_read ? collection_head(read) : UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        if (!ahead && known[i].written > head)
            ahead = text_format("index %s goes to %llu, but the log ends at %llu: it was made from a longer log, and "
                                "has to be set aside first",
                                known[i].index_id, (unsigned long long)known[i].written, (unsigned long long)head);
        free(known[i].index_id);
    }
    return ahead;
}

/* ---- the pair ----------------------------------------------------------------- */

static struct gateway_pair *new_pair(const struct collection_pair *row) {
    struct gateway_pair *pair = mem_new(struct gateway_pair);
    pair->epoch = row->epoch;
    pair->revision = row->revision;
    pair->deployment_id = text_copy(row->deployment_id);
    pair->digest = text_copy(row->encoder_digest);
    pthread_mutex_init(&pair->documents.opening, NULL);
    pthread_mutex_init(&pair->queries.opening, NULL);
    return pair;
}

void gateway_pair_close(struct gateway_pair *pair) {
    close_reader(&pair->documents);
    close_reader(&pair->queries);
}

void gateway_pair_free(struct gateway_pair *pair) {
    if (!pair) return;
    clear_index(&pair->documents);
    clear_index(&pair->queries);
    free(pair->deployment_id);
    free(pair->digest);
    free(pair);
}

static void free_pair_pointer(struct gateway_pair **pair) {
    gateway_pair_free(*pair);
}

static int read_pair(struct collection *log, const char *folder, struct gateway_opened *opened,
                     struct gateway_pair **ret_pair, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_pair row = {0};
    int failed = collection_read_begin(log, COLLECTION_DOCUMENTS, &read, ret_error);
    if (!failed) failed = collection_load_pair(read, &row, ret_error);
    if (failed) return failed;
    struct gateway_pair *pair = *ret_pair = new_pair(&row);
    opened->head = collection_head(read);
    failed = load_index(&pair->documents, read, folder, row.index_id, ret_error);
    if (!failed && row.query_index_id) failed = load_index(&pair->queries, read, folder, row.query_index_id, ret_error);
    opened->keep_queries = row.query_index_id;
    collection_pair_clear(&row);
    return failed;
}

static int load_pair(struct collection *log, const char *folder, struct gateway_opened *opened,
                     struct error **ret_error) {
    __attribute__((cleanup(free_pair_pointer))) struct gateway_pair *pair = NULL;
    struct vector_reader *reader;
    int failed = read_pair(log, folder, opened, &pair, ret_error);
    if (!failed) failed = load_log_id(&pair->documents, log, COLLECTION_DOCUMENTS, ret_error);
    if (!failed && pair->queries.dimension) failed = load_log_id(&pair->queries, log, COLLECTION_QUERIES, ret_error);
    if (failed) return failed;
    gateway_index_reader(&pair->documents, &reader, NULL);
    if (pair->queries.dimension) gateway_index_reader(&pair->queries, &reader, NULL);
    opened->pair = TAKE(pair);
    return 0;
}

int gateway_pair_load(const char *folder, struct collection *log, struct gateway_opened *ret_opened,
                      struct error **ret_error) {
    struct gateway_opened opened = {.log = log};
    int failed = log ? 0 : collection_open(folder, COLLECTION_APPENDS, &opened.log, ret_error);
    if (failed) return failed;
    failed = load_pair(opened.log, folder, &opened, ret_error);
    if (failed) {
        if (!log) collection_close(opened.log);
        return failed;
    }
    if (!log) opened.ahead = gateway_pair_find_ahead(opened.log, folder);
    pause_point("pair_read");
    *ret_opened = opened;
    return 0;
}
