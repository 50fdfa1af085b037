/* Changing the list of indexes. A document index and its query index stand and fall together. */
#include <string.h>

#include "base/clock.h"
#include "collection/collection-internal.h"

/* Which states follow which, but for a flip (collection_switch.c) and for an index that is built anew
 * (collection_restart_index). The same state again is a new detail. */
static const struct {
    const char *from, *to;
} transitions[] = {
    {"filling", "ready"},  {"filling", "failed"},  {"filling", "deleting"},  {"ready", "failed"},
    {"ready", "deleting"}, {"rollback", "failed"}, {"rollback", "deleting"}, {"failed", "deleting"},
};

static bool may_become(const char *from, const char *to) {
    for (size_t i = 0; i < ARRAY_SIZE(transitions); i++)
        if (!strcmp(transitions[i].from, from) && !strcmp(transitions[i].to, to)) return true;
    return false;
}

static bool is_any_of(const char *state, const char *a, const char *b) {
    return !strcmp(state, a) || !strcmp(state, b);
}

static int add_index_event(struct store_transaction *tx, const struct collection_index *index, const char *state,
                           const char *task_id, const char *detail, struct error **ret_error) {
    _cleanup_free_ char *data =
        text_format("{\"index_id\":\"%s\",\"set\":\"%s\",\"deployment_id\":\"%s\",\"state\":\"%s\"}", index->index_id,
                    collection_set_name(index->set), index->deployment_id, state);
    return collection_add_event(tx, task_id ? task_id : index->task_id, "index", data, ret_error,
                                "the index %s of %s is %s%s%s", index->index_id, collection_set_name(index->set), state,
                                detail ? ": " : "", detail ? detail : "");
}

/* ---- adding ---- */

int collection_insert_index(struct store_transaction *tx, const struct collection_index *index,
                            struct error **ret_error) {
    int64_t now = clock_wall_ms();
    return store_run(tx, NULL, ret_error,
                     "INSERT INTO indexes (index_id, kind, partner_id, deployment_id, revision, encoder_digest, "
                     "dimension, state, task_id, epoch, created_at, updated_at, progress_at) "
                     "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                     "ttttitittiiii", index->index_id, collection_set_name(index->set), index->partner_id,
                     index->deployment_id, index->revision, index->encoder_digest, index->dimension, index->state,
                     index->task_id, index->epoch, now, now, now);
}

static int insert_filling(struct store_transaction *tx, const struct collection_index *like, enum collection_set set,
                          const char *index_id, const char *partner_id, struct error **ret_error) {
    struct collection_index index = *like;
    index.index_id = (char *)index_id;
    index.partner_id = (char *)partner_id;
    index.set = set;
    index.state = "filling";
    index.epoch = 0;
    int result = collection_insert_index(tx, &index, ret_error);
    if (result < 0) return result;
    return add_index_event(tx, &index, index.state, NULL, NULL, ret_error);
}

/* An index that an attempt before this one left, of the same encoder: the one that is furthest. "" when there is none.
 */
static int find_left_over(struct store_transaction *tx, const char *encoder_digest, char **ret_index_id,
                          struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT index_id FROM indexes WHERE kind = 'documents' AND encoder_digest = ? "
                             "AND state IN ('filling', 'ready') ORDER BY durable_seq DESC LIMIT 1",
                             "t", encoder_digest);
    if (!result) result = store_next(rows, ret_error);
    if (result > 0) *ret_index_id = store_text_copy(rows, 0);
    return result;
}

static int take_over(struct store_transaction *tx, const struct collection_index *wanted, const char *index_id,
                     struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error,
                           "UPDATE indexes SET task_id = ?, deployment_id = ?, revision = ?, updated_at = ? "
                           "WHERE index_id = ? OR partner_id = ?",
                           "ttiitt", wanted->task_id, wanted->deployment_id, wanted->revision, clock_wall_ms(),
                           index_id, index_id);
    if (result < 0 || !strcmp(wanted->index_id, index_id)) return result; /* asked once more */
    return collection_add_event(tx, wanted->task_id, "index", NULL, ret_error,
                                "took over the index %s, which has the same encoder", index_id);
}

static int add_index(struct store_transaction *tx, const struct collection_index *index, const char *query_index_id,
                     char **ret_index_id, struct error **ret_error) {
    int result = find_left_over(tx, index->encoder_digest, ret_index_id, ret_error);
    if (result) return result < 0 ? result : take_over(tx, index, *ret_index_id, ret_error);
    *ret_index_id = text_copy(index->index_id);
    result = insert_filling(tx, index, COLLECTION_DOCUMENTS, index->index_id, query_index_id, ret_error);
    if (result < 0 || !query_index_id) return result;
    return insert_filling(tx, index, COLLECTION_QUERIES, query_index_id, index->index_id, ret_error);
}

int collection_add_index(struct collection *collection, const struct collection_index *index,
                         const char *query_index_id, char **ret_index_id, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *index_id = NULL;
    int result = collection_begin(collection, COLLECTION_DOCUMENTS, false, &tx, ret_error);
    if (!result) result = add_index(tx, index, query_index_id, &index_id, ret_error);
    if (!result) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), ret_error);
    if (result < 0)
        error_wrap(ret_error, "add the index %s", index->index_id);
    else
        *ret_index_id = TAKE(index_id);
    return result;
}

/* ---- states ---- */

int collection_enter_state(struct store_transaction *tx, const char *index_id, const char *state, int64_t epoch,
                           struct error **ret_error) {
    return store_run(tx, NULL, ret_error,
                     "UPDATE indexes SET state = ?, epoch = ?, updated_at = ?, detail = NULL WHERE index_id = ?",
                     "tiit", state, epoch, clock_wall_ms(), index_id);
}

static int change_state(struct store_transaction *tx, const struct collection_index *index, const char *state,
                        const char *detail, const char *task_id, struct error **ret_error) {
    int result =
        store_run(tx, NULL, ret_error, "UPDATE indexes SET state = ?, detail = ?, updated_at = ? WHERE index_id = ?",
                  "ttit", state, detail, clock_wall_ms(), index->index_id);
    if (result < 0 || !strcmp(index->state, state)) return result;
    return add_index_event(tx, index, state, task_id, detail, ret_error);
}

/* What ends the one ends the other: they are switched together or not at all. */
static int change_partner(struct store_transaction *tx, const char *partner_id, const char *state, const char *detail,
                          const char *task_id, struct error **ret_error) {
    _cleanup_index_ struct collection_index partner = {0};
    int result = collection_get_index(tx, partner_id, &partner, ret_error);
    if (result < 0 || !may_become(partner.state, state)) return result;
    return change_state(tx, &partner, state, detail, task_id, ret_error);
}

static int set_state(struct store_transaction *tx, const char *index_id, const char *state, const char *detail,
                     const char *task_id, struct error **ret_error) {
    _cleanup_index_ struct collection_index index = {0};
    int result = collection_get_index(tx, index_id, &index, ret_error);
    if (result < 0) return result;
    if (strcmp(index.state, state) && !may_become(index.state, state))
        return error_set(ret_error, ERROR_CONFLICT, "it is %s, and cannot become %s", index.state, state);
    result = change_state(tx, &index, state, detail, task_id, ret_error);
    if (result < 0 || !index.partner_id || !is_any_of(state, "failed", "deleting")) return result;
    return change_partner(tx, index.partner_id, state, detail, task_id, ret_error);
}

int collection_set_index_state(struct collection *collection, const char *index_id, const char *state,
                               const char *detail, const char *task_id, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = collection_begin(collection, COLLECTION_DOCUMENTS, true, &tx, ret_error);
    if (!result) result = set_state(tx, index_id, state, detail, task_id, ret_error);
    if (!result) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), ret_error);
    if (result < 0) error_wrap(ret_error, "set the index %s to %s", index_id, state);
    return result;
}

static int restart_index(struct store_transaction *tx, const char *index_id, const char *why,
                         struct error **ret_error) {
    _cleanup_index_ struct collection_index index = {0};
    int result = collection_get_index(tx, index_id, &index, ret_error);
    if (result < 0) return result;
    if (is_any_of(index.state, "failed", "deleting"))
        return error_set(ret_error, ERROR_CONFLICT, "it is %s, and is not built any more", index.state);
    const char *state = strcmp(index.state, "ready") ? index.state : "filling";
    int64_t now = clock_wall_ms();
    result = store_run(tx, NULL, ret_error,
                       "UPDATE indexes SET durable_seq = 0, state = ?, detail = ?, updated_at = ?, progress_at = ? "
                       "WHERE index_id = ?",
                       "ttiit", state, why, now, now, index_id);
    if (!result) result = store_run(tx, NULL, ret_error, "DELETE FROM failed_items WHERE index_id = ?", "t", index_id);
    if (result < 0) return result;
    _cleanup_free_ char *detail = text_format("set aside and built again: %s", why);
    return add_index_event(tx, &index, state, NULL, detail, ret_error);
}

int collection_restart_index(struct collection *collection, const char *index_id, const char *why,
                             struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = collection_begin(collection, COLLECTION_DOCUMENTS, true, &tx, ret_error);
    if (!result) result = restart_index(tx, index_id, why, ret_error);
    if (!result) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), ret_error);
    if (result < 0) error_wrap(ret_error, "begin the index %s again", index_id);
    return result;
}

/* ---- durable_seq ---- */

static int is_query_index(struct collection *collection, const char *index_id, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    _cleanup_index_ struct collection_index index = {0};
    int result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (!result) result = collection_load_index(read, index_id, &index, ret_error);
    return result < 0 ? result : index.set == COLLECTION_QUERIES;
}

static int record_durable(struct store_transaction *tx, const struct collection_index *index, uint64_t durable_seq,
                          struct error **ret_error) {
    if (is_any_of(index->state, "failed", "deleting"))
        return error_set(ret_error, ERROR_CONFLICT, "it is %s", index->state);
    int64_t head = 0;
    int result = collection_ask_numbers(tx, "SELECT head FROM meta", &head, 1, ret_error);
    if (result < 0) return result;
    if (index->set == COLLECTION_DOCUMENTS && durable_seq > (uint64_t)head)
        return error_set(ret_error, ERROR_CONFLICT, "the log ends at %lld", (long long)head);
    int64_t now = clock_wall_ms();
    return store_run(tx, NULL, ret_error,
                     "UPDATE indexes SET durable_seq = ?, updated_at = ?, progress_at = ? WHERE index_id = ?", "iiit",
                     (int64_t)durable_seq, now, now, index->index_id);
}

int collection_record_durable(struct collection *collection, const char *index_id, uint64_t durable_seq,
                              struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_index_ struct collection_index index = {0};
    /* A query index goes with queries.db, which is synced first, outside of the transaction: that takes a while. */
    struct store *queries = collection->databases[COLLECTION_QUERIES].writer;
    int result = 0;
    if (queries && (result = is_query_index(collection, index_id, ret_error)) > 0)
        result = store_sync(queries, ret_error);
    if (!result) result = collection_begin(collection, COLLECTION_DOCUMENTS, true, &tx, ret_error);
    if (!result) result = collection_get_index(tx, index_id, &index, ret_error);
    if (!result && durable_seq > index.durable_seq) {
        result = record_durable(tx, &index, durable_seq, ret_error);
        if (!result) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), ret_error);
    }
    collection_note_broken(collection);
    if (result < 0)
        error_wrap(ret_error, "record that the index %s is durable up to %llu", index_id,
                   (unsigned long long)durable_seq);
    return result;
}

/* ---- dropping ---- */

static int check_drop(struct store_transaction *tx, const struct collection_index *index, const char *state,
                      int64_t epoch, bool *ret_holds, struct error **ret_error) {
    _cleanup_pair_ struct collection_pair pair = {0};
    int result = collection_get_pair(tx, &pair, ret_error);
    if (result < 0) return result;
    *ret_holds =
        strcmp(index->state, "blue") && (!state || !strcmp(index->state, state)) && (!epoch || index->epoch == epoch);
    if (!*ret_holds || !pair.switching_to) return 0;
    if (strcmp(pair.switching_to, index->index_id) && !text_equal(pair.switching_to, index->partner_id)) return 0;
    error_set(ret_error, ERROR_CONFLICT, "task %s is switching to it; try again when that is over",
              pair.switching_task);
    error_mark_transient(ret_error);
    return -(int)ERROR_CONFLICT;
}

static int drop_one(struct store_transaction *tx, const char *index_id, struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error, "DELETE FROM failed_items WHERE index_id = ?", "t", index_id);
    if (result < 0) return result;
    return store_run(tx, NULL, ret_error, "DELETE FROM indexes WHERE index_id = ?", "t", index_id);
}

static int drop_index(struct store_transaction *tx, const char *index_id, const char *state, int64_t epoch,
                      bool *ret_dropped, struct error **ret_error) {
    _cleanup_index_ struct collection_index index = {0};
    int result = collection_get_index(tx, index_id, &index, ret_error);
    if (!result) result = check_drop(tx, &index, state, epoch, ret_dropped, ret_error);
    if (result < 0 || !*ret_dropped) return result;
    result = drop_one(tx, index.index_id, ret_error);
    if (!result && index.partner_id) result = drop_one(tx, index.partner_id, ret_error);
    if (result < 0) return result;
    return collection_add_event(tx, index.task_id, "index", NULL, ret_error, "dropped the index %s, which was %s",
                                index.index_id, index.state);
}

int collection_drop_index(struct collection *collection, const char *index_id, const char *state, int64_t epoch,
                          bool *ret_dropped, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_error_ struct error *error = NULL;
    bool dropped = false;
    int result = collection_begin(collection, COLLECTION_DOCUMENTS, true, &tx, &error);
    if (!result) result = drop_index(tx, index_id, state, epoch, &dropped, &error);
    if (!result && dropped) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), &error);
    if (result == -(int)ERROR_NOT_FOUND) {
        result = 0;
        dropped = true; /* it was dropped before */
    }
    if (result < 0) {
        error_wrap(&error, "drop the index %s", index_id);
        if (ret_error) *ret_error = TAKE(error);
        return result;
    }
    *ret_dropped = dropped;
    return 0;
}
