/* A collection that is open: one writing connection a set, and as many reading ones as are read with at once. */
#include <assert.h>

#include "base/fs.h"
#include "collection/collection-internal.h"

static const char *const steps[] = {
/* schema_001.inc */
#include "collection/schema_001.inc"
    ,
};
const struct store_schema collection_schema = {.maker = "the controller", .steps = steps, .count = ARRAY_SIZE(steps)};

static const struct {
    const char *name, *file;
} sets[COLLECTION_SETS] = {
    [COLLECTION_DOCUMENTS] = {"documents", "documents.db"},
    [COLLECTION_QUERIES] = {"queries", "queries.db"},
};

const char *collection_set_name(enum collection_set set) {
    return sets[set].name;
}

const char *collection_file_name(enum collection_set set) {
    return sets[set].file;
}

/* ---- opening ---- */

static void set_up_database(struct database *database, const char *folder, enum collection_set set) {
    database->path = fs_join(folder, sets[set].file);
    pthread_mutex_init(&database->mutex, NULL);
    pthread_cond_init(&database->freed, NULL);
}

static void close_database(struct database *database) {
    for (size_t i = 0; i < database->idle_count; i++) store_close(database->idle[i]);
    store_close(database->writer);
    pthread_mutex_destroy(&database->mutex);
    pthread_cond_destroy(&database->freed);
    free(database->path);
}

static int open_writer(struct collection *collection, enum collection_set set, struct error **ret_error) {
    if (collection->use == COLLECTION_READS) return 0;
    struct database *database = &collection->databases[set];
    const struct store_options options = {
        .schema = &collection_schema,
        .role = collection->use == COLLECTION_INDEXES ? STORE_OWNER : STORE_WRITER,
        .relaxed = set == COLLECTION_QUERIES, /* L10 */
    };
    return store_open_as(database->path, &options, &database->writer, ret_error);
}

static int open_sets(struct collection *collection, struct error **ret_error) {
    int result = open_writer(collection, COLLECTION_DOCUMENTS, ret_error);
    if (result < 0) return result;
    struct collection_read *read = NULL;
    result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result < 0) return result;
    int64_t keep_queries = 0;
    result = collection_ask_numbers(read->tx, "SELECT keep_queries FROM meta", &keep_queries, 1, ret_error);
    collection_read_end(read);
    if (result < 0) return result;
    collection->keep_queries = keep_queries;
    return keep_queries ? open_writer(collection, COLLECTION_QUERIES, ret_error) : 0;
}

int collection_open(const char *folder, enum collection_use use, struct collection **ret_collection,
                    struct error **ret_error) {
    struct collection *collection = mem_new(struct collection);
    collection->folder = text_copy(folder);
    collection->use = use;
    for (int set = 0; set < COLLECTION_SETS; set++) set_up_database(&collection->databases[set], folder, set);
    int result = open_sets(collection, ret_error);
    if (result < 0) {
        error_wrap(ret_error, "open the collection %s", folder);
        collection_close(collection);
        return result;
    }
    *ret_collection = collection;
    return 0;
}

void collection_close(struct collection *collection) {
    if (!collection) return;
    for (int set = 0; set < COLLECTION_SETS; set++) close_database(&collection->databases[set]);
    free(collection->folder);
    free(collection);
}

/* ---- what broke ---- */

void collection_note_broken(struct collection *collection) {
    for (int set = 0; set < COLLECTION_SETS; set++) {
        struct store *writer = collection->databases[set].writer;
        if (writer && store_is_broken(writer)) atomic_store(&collection->broken, true);
    }
}

bool collection_is_broken(struct collection *collection) {
    collection_note_broken(collection);
    return atomic_load(&collection->broken);
}

static int check_usable(struct collection *collection, struct error **ret_error) {
    if (!collection_is_broken(collection)) return 0;
    return error_set(ret_error, ERROR_UNAVAILABLE,
                     "use the collection %s: its disk failed or a file is damaged, as an earlier error says; look at "
                     "the disk, then restart the service",
                     collection->folder);
}

static int check_set(struct collection *collection, enum collection_set set, struct error **ret_error) {
    if (set == COLLECTION_DOCUMENTS || collection->keep_queries) return 0;
    return error_set(ret_error, ERROR_NOT_FOUND, "the collection keeps no queries: it was made without keep_queries");
}

/* ---- reading ---- */

static int take_reader(struct database *database, struct store **ret_store, struct error **ret_error) {
    struct store *store = NULL;
    pthread_mutex_lock(&database->mutex);
    while (!database->idle_count && database->reader_count == READERS_MAXIMUM)
        pthread_cond_wait(&database->freed, &database->mutex);
    if (database->idle_count)
        store = database->idle[--database->idle_count];
    else
        database->reader_count++;
    pthread_mutex_unlock(&database->mutex);
    if (store) {
        *ret_store = store;
        return 0;
    }
    const struct store_options options = {.schema = &collection_schema, .role = STORE_READER};
    int result = store_open_as(database->path, &options, ret_store, ret_error);
    if (result < 0) {
        pthread_mutex_lock(&database->mutex);
        database->reader_count--;
        pthread_cond_signal(&database->freed);
        pthread_mutex_unlock(&database->mutex);
    }
    return result;
}

static void give_reader_back(struct collection *collection, struct database *database, struct store *store) {
    bool is_broken = store_is_broken(store);
    if (is_broken) atomic_store(&collection->broken, true);
    pthread_mutex_lock(&database->mutex);
    if (!is_broken && database->idle_count < READERS_IDLE_MAXIMUM) {
        database->idle[database->idle_count++] = store;
        store = NULL;
    } else {
        database->reader_count--;
    }
    pthread_cond_signal(&database->freed);
    pthread_mutex_unlock(&database->mutex);
    store_close(store);
}

/* Takes the snapshot: a transaction has none before its first question. */
static int take_snapshot(struct collection_read *read, struct error **ret_error) {
    int result = store_begin(read->store, &read->tx, ret_error);
    if (result < 0) return result;
    int64_t numbers[2];
    result = collection_ask_numbers(read->tx, "SELECT head, live FROM meta", numbers, 2, ret_error);
    if (result < 0) return result;
    if (!result)
        return error_set(ret_error, ERROR_DEPLOYMENT, "read %s: it describes no collection",
                         read->collection->databases[read->set].path);
    read->head = (uint64_t)numbers[0];
    read->live = (uint64_t)numbers[1];
    return 0;
}

int collection_read_begin(struct collection *collection, enum collection_set set, struct collection_read **ret_read,
                          struct error **ret_error) {
    int result = check_usable(collection, ret_error);
    if (!result) result = check_set(collection, set, ret_error);
    if (result < 0) return result;
    struct collection_read *read = mem_new(struct collection_read);
    *read = (struct collection_read){.collection = collection, .set = set};
    result = take_reader(&collection->databases[set], &read->store, ret_error);
    if (!result) result = take_snapshot(read, ret_error);
    if (result < 0) {
        collection_read_end(read);
        return result;
    }
    *ret_read = read;
    return 0;
}

void collection_read_end(struct collection_read *read) {
    if (!read) return;
    store_rollback(read->tx);
    if (read->store) give_reader_back(read->collection, &read->collection->databases[read->set], read->store);
    free(read);
}

uint64_t collection_head(struct collection_read *read) {
    return read->head;
}

uint64_t collection_live(struct collection_read *read) {
    return read->live;
}

/* ---- writing ---- */

int collection_begin(struct collection *collection, enum collection_set set, bool also_deleted,
                     struct store_transaction **ret_tx, struct error **ret_error) {
    int result = check_usable(collection, ret_error);
    if (!result) result = check_set(collection, set, ret_error);
    if (result < 0) return result;
    assert(collection->databases[set].writer); /* COLLECTION_READS writes nothing (S3) */
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    result = store_begin(collection->databases[set].writer, &tx, ret_error);
    if (result < 0) return result;
    int64_t is_deleted = 0;
    result = collection_ask_numbers(tx, "SELECT deleted FROM meta", &is_deleted, 1, ret_error);
    if (result < 0) return result;
    if (is_deleted && !also_deleted) return error_set(ret_error, ERROR_CONFLICT, "the collection is being deleted");
    *ret_tx = TAKE(tx);
    return 0;
}

int collection_commit(struct collection *collection, enum collection_set set, struct store_transaction *tx,
                      struct error **ret_error) {
    int result = store_commit(tx, ret_error);
    if (store_is_broken(collection->databases[set].writer)) atomic_store(&collection->broken, true);
    return result;
}

int collection_ask_numbers(struct store_transaction *tx, const char *sql, int64_t *ret_numbers, int count,
                           struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, sql, "");
    if (!result) result = store_next(rows, ret_error);
    if (result <= 0) return result;
    for (int i = 0; i < count; i++) ret_numbers[i] = store_number(rows, i);
    while ((result = store_next(rows, ret_error)) > 0) continue; /* what RETURNING belongs to is run to its end */
    return result < 0 ? result : 1;
}
