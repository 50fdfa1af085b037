/* The pair and its switch (X3, X4, X6, X8): what can be decided in the database is decided in the transaction that acts
 * on it.
 *
 * A flip concerns two indexes, each with its query index: the destination becomes blue, what was blue becomes rollback,
 * and both carry the new epoch. A third index that is still in its window from an earlier flip is not touched: it keeps
 * its state and the epoch of its own window, so that the task which ends that window finds it, and until then it
 * follows the log and may be switched to like any other. pair.source_index_id, which a rollback goes to, is what was
 * blue last. */
#include <string.h>

#include "base/clock.h"
#include "collection/collection-internal.h"

static int check_not_deleted(struct store_transaction *tx, struct error **ret_error) {
    int64_t is_deleted = 0;
    int result = collection_ask_numbers(tx, "SELECT deleted FROM meta", &is_deleted, 1, ret_error);
    if (result < 0) return result;
    return is_deleted ? error_set(ret_error, ERROR_CONFLICT, "the collection is being deleted") : 0;
}

static int check_state(const struct collection_index *index, struct error **ret_error) {
    if (!strcmp(index->state, "ready") || !strcmp(index->state, "rollback")) return 0;
    return error_set(ret_error, ERROR_CONFLICT, "the index %s is %s, not ready", index->index_id, index->state);
}

/* The destination as it can be switched to, with its query index when the pair has one. */
static int load_destination(struct store_transaction *tx, const struct collection_pair *pair, const char *to_index,
                            struct collection_index *ret_index, struct error **ret_error) {
    int result = collection_get_index(tx, to_index, ret_index, ret_error);
    if (!result) result = check_state(ret_index, ret_error);
    if (result < 0) return result;
    if (ret_index->set != COLLECTION_DOCUMENTS)
        return error_set(ret_error, ERROR_CONFLICT,
                         "the index %s is one of queries: it is switched with its documents'", to_index);
    if (!pair->query_index_id) return 0;
    if (!ret_index->partner_id)
        return error_set(ret_error, ERROR_CONFLICT, "the index %s has no query index", to_index);
    _cleanup_index_ struct collection_index partner = {0};
    result = collection_get_index(tx, ret_index->partner_id, &partner, ret_error);
    return result < 0 ? result : check_state(&partner, ret_error);
}

static bool is_done(const struct collection_pair *pair, const char *task_id, const char *to_index) {
    return text_equal(pair->flipped_by, task_id) && !strcmp(pair->index_id, to_index);
}

/* ---- before ---- */

static int record_switch(struct store_transaction *tx, const char *task_id, const char *to_index, int64_t since,
                         struct error **ret_error) {
    return store_run(tx, NULL, ret_error, "UPDATE pair SET switching_task = ?, switching_to = ?, switching_since = ?",
                     "tti", task_id, to_index, since);
}

/* *ret_changed: there is something to commit. */
static int begin_switch(struct store_transaction *tx, const char *task_id, const char *to_index, bool *ret_changed,
                        struct error **ret_error) {
    _cleanup_pair_ struct collection_pair pair = {0};
    _cleanup_index_ struct collection_index index = {0};
    int result = collection_get_pair(tx, &pair, ret_error);
    if (result < 0 || is_done(&pair, task_id, to_index)) return result;
    if (pair.switching_task && strcmp(pair.switching_task, task_id))
        return error_set(ret_error, ERROR_CONFLICT, "task %s is switching to %s", pair.switching_task,
                         pair.switching_to);
    result = load_destination(tx, &pair, to_index, &index, ret_error);
    if (result < 0) return result;
    if (pair.switching_task) {
        if (!strcmp(pair.switching_to, to_index)) return 0;
        return error_set(ret_error, ERROR_CONFLICT, "this task is switching to %s", pair.switching_to);
    }
    *ret_changed = true;
    result = record_switch(tx, task_id, to_index, clock_wall_ms(), ret_error);
    if (result < 0) return result;
    return collection_add_event(tx, task_id, "pair", NULL, ret_error, "switching from %s to %s", pair.index_id,
                                to_index);
}

int collection_begin_switch(struct collection *collection, const char *task_id, const char *to_index,
                            struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    bool changed = false;
    int result = collection_begin(collection, COLLECTION_DOCUMENTS, false, &tx, ret_error);
    if (!result) result = begin_switch(tx, task_id, to_index, &changed, ret_error);
    if (!result && changed) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), ret_error);
    if (result < 0) error_wrap(ret_error, "begin the switch to %s", to_index);
    return result;
}

int collection_abort_switch(struct collection *collection, const char *task_id, const char *why,
                            struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_pair_ struct collection_pair pair = {0};
    int result = collection_begin(collection, COLLECTION_DOCUMENTS, true, &tx, ret_error);
    if (!result) result = collection_get_pair(tx, &pair, ret_error);
    if (!result && text_equal(pair.switching_task, task_id)) {
        result = record_switch(tx, NULL, NULL, 0, ret_error);
        if (!result)
            result = collection_add_event(tx, task_id, "pair", NULL, ret_error, "gave up switching to %s: %s",
                                          pair.switching_to, why);
        if (!result) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), ret_error);
    }
    if (result < 0) error_wrap(ret_error, "give up a switch");
    return result;
}

/* ---- the flip ---- */

static int check_flip(struct store_transaction *tx, const struct collection_pair *pair, const char *task_id,
                      const char *to_index, uint64_t shown_seq, struct collection_index *ret_index,
                      struct error **ret_error) {
    int result = check_not_deleted(tx, ret_error);
    if (result < 0) return result;
    if (!text_equal(pair->switching_task, task_id) || !text_equal(pair->switching_to, to_index))
        return error_set(ret_error, ERROR_CONFLICT, "this task is not switching to it: %s",
                         pair->switching_task ? "another task switches" : "no switch was begun, or it was given up");
    result = load_destination(tx, pair, to_index, ret_index, ret_error);
    if (result < 0) return result;
    if (ret_index->durable_seq >= shown_seq) return 0;
    return error_set(ret_error, ERROR_CONFLICT, "it is durable up to %llu, and what was shown goes up to %llu",
                     (unsigned long long)ret_index->durable_seq, (unsigned long long)shown_seq);
}

static int change_pair(struct store_transaction *tx, const struct collection_pair *pair,
                       const struct collection_index *to, const char *task_id, struct error **ret_error) {
    return store_run(tx, NULL, ret_error,
                     "UPDATE pair SET epoch = ?, index_id = ?, query_index_id = ?, deployment_id = ?, revision = ?, "
                     "encoder_digest = ?, flipped_by = ?, source_index_id = ?, switching_task = NULL, "
                     "switching_to = NULL, switching_since = 0",
                     "itttittt", pair->epoch + 1, to->index_id, pair->query_index_id ? to->partner_id : NULL,
                     to->deployment_id, to->revision, to->encoder_digest, task_id, pair->index_id);
}

static int change_states(struct store_transaction *tx, const struct collection_pair *pair,
                         const struct collection_index *to, struct error **ret_error) {
    const struct {
        const char *index_id, *state;
    } changes[] = {
        {to->index_id, "blue"},
        {pair->query_index_id ? to->partner_id : NULL, "blue"},
        {pair->index_id, "rollback"},
        {pair->query_index_id, "rollback"},
    };
    int result = 0;
    for (size_t i = 0; i < ARRAY_SIZE(changes) && !result; i++)
        if (changes[i].index_id)
            result = collection_enter_state(tx, changes[i].index_id, changes[i].state, pair->epoch + 1, ret_error);
    return result;
}

static int flip(struct store_transaction *tx, const struct collection_pair *pair, const char *task_id,
                const char *to_index, uint64_t shown_seq, struct error **ret_error) {
    _cleanup_index_ struct collection_index to = {0};
    int result = check_flip(tx, pair, task_id, to_index, shown_seq, &to, ret_error);
    if (!result) result = change_pair(tx, pair, &to, task_id, ret_error);
    if (!result) result = change_states(tx, pair, &to, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *data =
        text_format("{\"epoch\":%lld,\"index_id\":\"%s\",\"deployment_id\":\"%s\",\"source_index_id\":\"%s\","
                    "\"source_deployment_id\":\"%s\"}",
                    (long long)pair->epoch + 1, to_index, to.deployment_id, pair->index_id, pair->deployment_id);
    return collection_add_event(tx, task_id, "pair", data, ret_error, "switched from %s to %s, epoch %lld",
                                pair->index_id, to_index, (long long)pair->epoch + 1);
}

int collection_flip(struct collection *collection, const char *task_id, const char *to_index, uint64_t shown_seq,
                    int64_t *ret_epoch, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_pair_ struct collection_pair pair = {0};
    int result = collection_begin(collection, COLLECTION_DOCUMENTS, true, &tx, ret_error);
    if (!result) result = collection_get_pair(tx, &pair, ret_error);
    if (!result && is_done(&pair, task_id, to_index)) {
        *ret_epoch = pair.epoch;
        return 0;
    }
    if (!result) result = flip(tx, &pair, task_id, to_index, shown_seq, ret_error);
    if (!result) result = collection_commit(collection, COLLECTION_DOCUMENTS, TAKE(tx), ret_error);
    if (result < 0)
        error_wrap(ret_error, "switch to the index %s", to_index);
    else
        *ret_epoch = pair.epoch + 1;
    return result;
}

/* ---- the end ---- */

static int mark_deleted(struct collection *collection, enum collection_set set, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int64_t changes = 0;
    int result = collection_begin(collection, set, true, &tx, ret_error);
    if (!result) result = store_run(tx, &changes, ret_error, "UPDATE meta SET deleted = 1 WHERE deleted = 0", "");
    if (result < 0 || !changes) return result;
    if (set == COLLECTION_DOCUMENTS)
        result = collection_add_event(tx, NULL, "collection", NULL, ret_error, "marked as deleted");
    if (!result) result = collection_commit(collection, set, TAKE(tx), ret_error);
    return result;
}

int collection_mark_deleted(struct collection *collection, struct error **ret_error) {
    /* The documents last: when they are marked, all is. */
    int result = collection->keep_queries ? mark_deleted(collection, COLLECTION_QUERIES, ret_error) : 0;
    if (!result) result = mark_deleted(collection, COLLECTION_DOCUMENTS, ret_error);
    if (result < 0) error_wrap(ret_error, "mark the collection as deleted");
    return result;
}
