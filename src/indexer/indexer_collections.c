/* The collections: found in their folder at the start, opened on the controller's word, closed when they are deleted.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define RATE_WINDOW_MS 5000
#define EVENTS_PAGE 1000

/* ---- the table --------------------------------------------------------------------- */

struct indexer_collection *indexer_collection_find(struct indexer *indexer, const char *id) {
    struct indexer_collection *collection = NULL;
    HASH_FIND_STR(indexer->collections, id, collection);
    return collection;
}

struct indexer_collection *indexer_collection_add(struct indexer *indexer, const char *id) {
    struct indexer_collection *collection = mem_new(struct indexer_collection);
    collection->indexer = indexer;
    collection->id = text_copy(id);
    collection->folder = fs_join(indexer->root, id);
    collection->changes = 1;
    HASH_ADD_KEYPTR(hh, indexer->collections, collection->id, strlen(collection->id), collection);
    indexer_wake(indexer);
    return collection;
}

void indexer_collections_scan(struct indexer *indexer) {
    DIR *folder = opendir(indexer->root); /* not there: no collection was ever made */
    pthread_mutex_lock(&indexer->lock);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (text_is_uuid(entry->d_name) && !indexer_collection_find(indexer, entry->d_name))
            indexer_collection_add(indexer, entry->d_name);
    indexer->is_scanned = true;
    indexer_wake(indexer);
    pthread_mutex_unlock(&indexer->lock);
    if (folder) closedir(folder);
}

struct indexer_index *indexer_index_find(struct indexer_collection *collection, const char *index_id) {
    for (struct indexer_index *index = collection->indexes; index && index_id; index = index->next)
        if (text_equal(index->row.index_id, index_id)) return index;
    return NULL;
}

struct indexer_index *indexer_partner(const struct indexer_index *index) {
    return indexer_index_find(index->collection, index->row.partner_id);
}

/* ---- heads ---------------------------------------------------------------------------- */

void indexer_note_head(struct indexer_collection *collection, enum collection_set set, uint64_t head) {
    if (head <= collection->heads[set]) return;
    collection->heads[set] = head;
    if (set == COLLECTION_DOCUMENTS) {
        collection->samples[collection->sample_next++ % INDEXER_HEAD_SAMPLES] =
            (struct head_sample){.at_ms = clock_monotonic_ms(), .head = head};
    }
    indexer_collection_changed(collection);
}

double indexer_write_rate(const struct indexer_collection *collection) {
    uint64_t now_ms = clock_monotonic_ms(), oldest_ms = now_ms, oldest = collection->heads[COLLECTION_DOCUMENTS];
    for (size_t i = 0; i < INDEXER_HEAD_SAMPLES; i++) {
        const struct head_sample *sample = &collection->samples[i];
        if (!sample->at_ms || now_ms - sample->at_ms > RATE_WINDOW_MS || sample->head >= oldest) continue;
        oldest = sample->head;
        oldest_ms = sample->at_ms;
    }
    if (oldest_ms == now_ms) return 0;
    return (double)(collection->heads[COLLECTION_DOCUMENTS] - oldest) * 1000.0 / (double)(now_ms - oldest_ms);
}

int indexer_collection_read_heads(struct indexer_collection *collection, struct error **ret_error) {
    for (int set = 0; set < (collection->keep_queries ? INDEXER_SETS : 1); set++) {
        struct collection_read *read = NULL;
        int result = collection_read_begin(collection->store, set, &read, ret_error);
        if (result < 0) return result;
        uint64_t head = collection_head(read);
        collection_read_end(read);
        pthread_mutex_lock(&collection->indexer->lock);
        indexer_note_head(collection, set, head);
        pthread_mutex_unlock(&collection->indexer->lock);
    }
    return 0;
}

/* ---- events ------------------------------------------------------------------------------ */

void indexer_tell_events(struct indexer_collection *collection) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct indexer *indexer = collection->indexer;
    if (collection_read_begin(collection->store, COLLECTION_DOCUMENTS, &read, NULL) < 0) return;
    pthread_mutex_lock(&indexer->lock);
    int64_t newest = collection->event_id;
    pthread_mutex_unlock(&indexer->lock);
    for (size_t count = EVENTS_PAGE; count == EVENTS_PAGE;) {
        struct collection_event *events = NULL;
        if (collection_list_events(read, newest, EVENTS_PAGE, &events, &count, NULL) < 0) return;
        if (count) newest = events[count - 1].id;
        collection_events_free(events, count);
    }
    pthread_mutex_lock(&indexer->lock);
    if (newest > collection->event_id) {
        collection->event_id = newest;
        indexer_tell(indexer, collection_events, .collection_id = collection->id, .last_id = (uint64_t)newest);
    }
    pthread_mutex_unlock(&indexer->lock);
}

/* ---- opening ------------------------------------------------------------------------------ */

/* What the database says, read in one transaction. */
struct contents {
    struct collection_facts facts;
    struct collection_pair pair;
    struct collection_index *rows;
    size_t count;
};

static void contents_clear(struct contents *contents) {
    collection_facts_clear(&contents->facts);
    collection_pair_clear(&contents->pair);
    collection_indexes_free(contents->rows, contents->count);
}

static int read_contents(struct collection *store, struct contents *contents, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    int result = collection_read_begin(store, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0) result = collection_load_facts(read, &contents->facts, ret_error);
    if (result >= 0) result = collection_load_pair(read, &contents->pair, ret_error);
    if (result >= 0) result = collection_list_indexes(read, &contents->rows, &contents->count, ret_error);
    return result;
}

/* The queries' log has an id of its own. */
static int read_query_log_id(struct indexer_collection *collection, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_facts facts = {0};
    if (!collection->keep_queries) return 0;
    int result = collection_read_begin(collection->store, COLLECTION_QUERIES, &read, ret_error);
    if (result >= 0) result = collection_load_facts(read, &facts, ret_error);
    if (result >= 0) collection->log_ids[COLLECTION_QUERIES] = TAKE(facts.log_id);
    collection_facts_clear(&facts);
    return result;
}

static void take_facts(struct indexer_collection *collection, struct collection_facts *facts) {
    collection->deleted = facts->deleted;
    collection->keep_queries = facts->keep_queries;
    collection->quantized = facts->quantized;
    free(collection->log_ids[COLLECTION_DOCUMENTS]);
    collection->log_ids[COLLECTION_DOCUMENTS] = TAKE(facts->log_id);
}

static bool is_on_list(const struct contents *contents, const char *name) {
    size_t size = strcspn(name, ".");
    for (size_t i = 0; i < contents->count; i++)
        if (strlen(contents->rows[i].index_id) == size && !strncmp(contents->rows[i].index_id, name, size)) return true;
    return false;
}

/* Folders that a drop took off the list and was killed before it removed them. */
static void remove_orphans(struct indexer_collection *collection, const struct contents *contents) {
    _cleanup_free_ char *path = fs_join(collection->folder, "indexes");
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.' || is_on_list(contents, entry->d_name)) continue;
        _cleanup_free_ char *orphan = fs_join(path, entry->d_name);
        collection->indexer->vectors->remove(orphan, NULL);
        fs_remove_tree(orphan, NULL);
    }
    if (folder) closedir(folder);
}

static void open_index(struct indexer_collection *collection, struct indexer_index *index) {
    _cleanup_error_ struct error *error = NULL;
    if (!indexer_index_in(index, INDEX_FOLLOWED) || indexer_index_open(index, &error) >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_ERROR, "an index cannot be opened now; it will be tried again", "collection", collection->id, "index",
              index->row.index_id, "error", text, NULL);
    indexer_back_off(&index->retry_ms, &index->backoff_ms);
}

static void append_index(struct indexer_collection *collection, struct indexer_index *index) {
    struct indexer_index **end = &collection->indexes;
    while (*end) end = &(*end)->next;
    *end = index;
}

static int open_contents(struct indexer_collection *collection, struct contents *contents, struct error **ret_error) {
    take_facts(collection, &contents->facts);
    if (collection->deleted) return 0;
    int result = read_query_log_id(collection, ret_error);
    if (result >= 0) result = indexer_collection_read_heads(collection, ret_error);
    if (result < 0) return result;
    remove_orphans(collection, contents);
    for (size_t i = 0; i < contents->count; i++) {
        struct indexer_index *index = indexer_index_new(collection, &contents->rows[i]);
        open_index(collection, index);
        pthread_mutex_lock(&collection->indexer->lock);
        append_index(collection, index);
        pthread_mutex_unlock(&collection->indexer->lock);
    }
    pthread_mutex_lock(&collection->indexer->lock);
    indexer_pair_install(collection, &contents->pair);
    pthread_mutex_unlock(&collection->indexer->lock);
    return 0;
}

static void free_contents(struct indexer_collection *collection) {
    while (collection->indexes) {
        struct indexer_index *index = collection->indexes;
        collection->indexes = index->next;
        indexer_index_free(index);
    }
    collection_close(TAKE(collection->store));
    for (int set = 0; set < INDEXER_SETS; set++) free(TAKE(collection->log_ids[set]));
    free(TAKE(collection->switching_task));
    free(TAKE(collection->uses));
    collection->use_count = 0;
    collection->blue = collection->blue_queries = collection->former = collection->former_queries = NULL;
    collection->switching_to = NULL;
}

static void set_open(struct indexer_collection *collection) {
    collection->phase = COLLECTION_OPEN;
    collection->retry_ms = collection->backoff_ms = 0;
    if (!collection->deleted) {
        indexer_tell(collection->indexer, pair_changed, .collection_id = collection->id,
                     .epoch = (uint64_t)collection->epoch);
        indexer_tell_indexed(collection, true);
    }
}

/* What is not there is not looked for again by itself; what could not be opened is. */
static void set_failed(struct indexer_collection *collection, struct error *error) {
    free_contents(collection);
    error_free(collection->error);
    collection->error = error;
    collection->phase = COLLECTION_FAILED;
    indexer_back_off(&collection->retry_ms, &collection->backoff_ms);
    if (error->class == ERROR_NOT_FOUND) collection->retry_ms = INDEXER_FOREVER;
}

static int open_store(struct indexer_collection *collection, struct error **ret_error) {
    if (!fs_exists(collection->folder))
        return error_set(ret_error, ERROR_NOT_FOUND, "there is no collection %s", collection->id);
    struct contents contents = {0};
    int result = collection_open(collection->folder, COLLECTION_INDEXES, &collection->store, ret_error);
    if (result >= 0) result = read_contents(collection->store, &contents, ret_error);
    if (result >= 0) result = open_contents(collection, &contents, ret_error);
    contents_clear(&contents);
    return result;
}

void indexer_collection_open(struct indexer_worker *worker, struct indexer_collection *collection) {
    struct indexer *indexer = worker->indexer;
    struct error *error = NULL;
    int result = open_store(collection, &error);
    if (result < 0 && error->class != ERROR_NOT_FOUND) {
        _cleanup_free_ char *text = error_text(error);
        log_write(LOG_ERROR, "a collection cannot be opened", "collection", collection->id, "error", text, NULL);
    }
    pthread_mutex_lock(&indexer->lock);
    if (result < 0)
        set_failed(collection, error);
    else
        set_open(collection);
    indexer_collection_changed(collection);
    pthread_mutex_unlock(&indexer->lock);
    if (result >= 0) indexer_tell_events(collection);
}

void indexer_collection_close(struct indexer_collection *collection) {
    HASH_DEL(collection->indexer->collections, collection);
    free_contents(collection);
    error_free(collection->error);
    free(collection->id);
    free(collection->folder);
    free(collection);
}
