#include "collection/collection_backup.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "collection/collection-internal.h"

bool collection_keeps_queries(struct collection *collection) {
    return collection->keep_queries;
}

int64_t collection_schema_version(void) {
    return (int64_t)collection_schema.count;
}

int collection_version(struct collection_read *read, int64_t *ret_version, struct error **ret_error) {
    return store_get_version(read->tx, ret_version, ret_error);
}

int collection_copy(struct collection_read *read, const char *path, const struct store_progress *progress,
                    struct error **ret_error) {
    return store_copy(read->tx, path, progress, ret_error);
}

/* ---- verifying ---- */

struct expectation {
    const char *sql; /* one number: how many rows are not as they should be */
    const char *fault;
};

static const struct expectation log_expectations[] = {
    {"SELECT count(*) FROM log WHERE seq > (SELECT head FROM meta)", "rows of the log lie above its head"},
    {"SELECT count(*) FROM log l WHERE text IS NULL AND payload_json IS NOT NULL",
     "deletes in the log carry a payload"},
    {"SELECT abs((SELECT live FROM meta) - (SELECT count(*) FROM log l WHERE text IS NOT NULL AND NOT EXISTS "
     "(SELECT 1 FROM log n WHERE n.id = l.id AND n.seq > l.seq)))",
     "documents more or less than the collection counts"},
};
static const struct expectation pair_expectations[] = {
    {"SELECT 1 - count(*) FROM pair", "pair is not there"},
    {"SELECT count(*) FROM pair p WHERE NOT EXISTS (SELECT 1 FROM indexes i WHERE i.index_id = p.index_id AND "
     "i.state = 'blue')",
     "pair names an index that is not blue"},
    {"SELECT count(*) FROM indexes i WHERE i.kind = 'documents' AND i.state = 'blue' AND NOT EXISTS "
     "(SELECT 1 FROM pair p WHERE p.index_id = i.index_id)",
     "index is blue without being the pair's"},
    {"SELECT count(*) FROM indexes WHERE kind = 'documents' AND durable_seq > (SELECT head FROM meta)",
     "index is recorded as further than the log goes"},
};

static int expect(struct collection_read *read, const struct expectation *expectations, size_t count,
                  void (*tell)(void *context, const char *fault), void *context, struct error **ret_error) {
    for (size_t i = 0; i < count; i++) {
        int64_t wrong = 0;
        int result = collection_ask_numbers(read->tx, expectations[i].sql, &wrong, 1, ret_error);
        if (result < 0) return result;
        if (!wrong) continue;
        _cleanup_free_ char *fault = text_format("%" PRId64 " %s", wrong, expectations[i].fault);
        tell(context, fault);
    }
    return 0;
}

struct counting {
    void (*tell)(void *context, const char *fault);
    void *context;
    size_t faults;
};

static void count_and_tell(void *context, const char *fault) {
    struct counting *counting = context;
    counting->faults++;
    counting->tell(counting->context, fault);
}

/* What the rows of a damaged file say about each other is no more to be believed than the file. */
int collection_verify(struct collection_read *read, void (*tell)(void *context, const char *fault), void *context,
                      struct error **ret_error) {
    struct counting counting = {tell, context, 0};
    int result = store_verify(read->tx, count_and_tell, &counting, ret_error);
    if (result < 0 || counting.faults) return result;
    result = expect(read, log_expectations, ARRAY_SIZE(log_expectations), tell, context, ret_error);
    if (result < 0 || read->set != COLLECTION_DOCUMENTS) return result;
    return expect(read, pair_expectations, ARRAY_SIZE(pair_expectations), tell, context, ret_error);
}

/* ---- a new life ---- */

static int renew_log_id(struct store_transaction *tx, struct error **ret_error) {
    char log_id[37];
    text_new_uuid(log_id);
    return store_run(tx, NULL, ret_error, "UPDATE meta SET log_id = ?", "t", log_id);
}

#define FOLLOWS "state NOT IN ('failed', 'deleting')"

/* Those that are let go stay so: nothing builds them again. */
static int begin_indexes(struct store_transaction *tx, const char *why, struct error **ret_error) {
    int64_t now = clock_wall_ms();
    int result =
        store_run(tx, NULL, ret_error,
                  "DELETE FROM failed_items WHERE index_id IN (SELECT index_id FROM indexes WHERE " FOLLOWS ")", "");
    if (result < 0) return result;
    return store_run(tx, NULL, ret_error,
                     "UPDATE indexes SET durable_seq = 0, state = CASE state WHEN 'ready' THEN 'filling' ELSE state "
                     "END, detail = ?, updated_at = ?, progress_at = ? WHERE " FOLLOWS,
                     "tii", why, now, now);
}

static int renew_documents(struct store_transaction *tx, const char *why, struct error **ret_error) {
    int result = renew_log_id(tx, ret_error);
    if (!result) result = begin_indexes(tx, why, ret_error);
    if (!result)
        result = store_run(tx, NULL, ret_error,
                           "UPDATE pair SET switching_task = NULL, switching_to = NULL, switching_since = 0", "");
    return result < 0 ? result : collection_add_event(tx, NULL, "collection", NULL, ret_error, "%s", why);
}

static int renew_set(struct collection *collection, enum collection_set set, const char *why,
                     struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = collection_begin(collection, set, true, &tx, ret_error);
    if (!result)
        result = set == COLLECTION_DOCUMENTS ? renew_documents(tx, why, ret_error) : renew_log_id(tx, ret_error);
    if (!result) result = collection_commit(collection, set, TAKE(tx), ret_error);
    /* The log goes into the file now, where its errors are seen; closing then finds nothing left to do. */
    return result < 0 ? result : store_checkpoint(collection->databases[set].writer, ret_error);
}

int collection_renew(const char *folder, const char *why, struct error **ret_error) {
    struct collection *collection = NULL;
    int result = collection_open(folder, COLLECTION_INDEXES, &collection, ret_error);
    if (result < 0) return result;
    result = renew_set(collection, COLLECTION_DOCUMENTS, why, ret_error);
    if (!result && collection->keep_queries) result = renew_set(collection, COLLECTION_QUERIES, why, ret_error);
    collection_close(collection);
    return result < 0 ? error_wrap(ret_error, "give the collection in %s a new log", folder) : 0;
}
