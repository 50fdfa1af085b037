/* The asks about one index: make it, wait for it, try its failed items again, drop it. */
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define RETRIED_MAXIMUM 10000 /* failed items that are tried again at once */

/* ---- create_index ------------------------------------------------------------------------ */

static int read_body(const struct ask_job *job, struct collection_index *index, const char **ret_query_index_id,
                     struct error **ret_error) {
    const struct {
        const char *field;
        char **text;
    } texts[] = {{"index_id", &index->index_id},
                 {"task_id", &index->task_id},
                 {"deployment_id", &index->deployment_id},
                 {"encoder_digest", &index->encoder_digest}};
    int result = 0;
    for (size_t i = 0; i < ARRAY_SIZE(texts) && result >= 0; i++)
        result = ask_text(job, texts[i].field, (const char **)texts[i].text, ret_error);
    if (result >= 0) result = json_get_text(job->body, "", "query_index_id", false, ret_query_index_id, ret_error);
    if (result >= 0)
        result = json_get_number(job->body, "", "revision", true, 1, INT64_MAX, &index->revision, ret_error);
    if (result >= 0)
        result = json_get_number(job->body, "", "dimension", true, 1, VECTOR_DIMENSION_MAXIMUM, &index->dimension,
                                 ret_error);
    index->state = "filling";
    index->set = COLLECTION_DOCUMENTS;
    index->partner_id = (char *)*ret_query_index_id;
    return result;
}

static void open_new(struct indexer_index *index) {
    _cleanup_error_ struct error *error = NULL;
    if (indexer_index_open(index, &error) >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, "a new index cannot be made now; it will be tried again", "index", index->row.index_id,
              "error", text, NULL);
    indexer_back_off(&index->retry_ms, &index->backoff_ms);
}

/* What the list has that is not followed yet. */
static void adopt(struct indexer_collection *collection, struct collection_index *row) {
    pthread_mutex_lock(&collection->indexer->lock);
    struct indexer_index *index = indexer_index_find(collection, row->index_id), **end = &collection->indexes;
    if (index) { /* taken over: its events go to the new task */
        free(index->row.task_id);
        free(index->row.deployment_id);
        index->row.task_id = TAKE(row->task_id);
        index->row.deployment_id = TAKE(row->deployment_id);
    }
    pthread_mutex_unlock(&collection->indexer->lock);
    if (index) return;
    index = indexer_index_new(collection, row);
    if (indexer_index_in(index, INDEX_FOLLOWED)) open_new(index);
    pthread_mutex_lock(&collection->indexer->lock);
    while (*end) end = &(*end)->next;
    *end = index;
    indexer_tell_progress(index, true);
    indexer_collection_changed(collection);
    pthread_mutex_unlock(&collection->indexer->lock);
}

static int adopt_all(struct indexer_collection *collection, struct error **ret_error) {
    struct collection_index *rows = NULL;
    struct collection_read *read = NULL;
    size_t count = 0;
    int result = collection_read_begin(collection->store, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0) result = collection_list_indexes(read, &rows, &count, ret_error);
    collection_read_end(read);
    for (size_t i = 0; result >= 0 && i < count; i++) adopt(collection, &rows[i]);
    collection_indexes_free(rows, count);
    return result;
}

enum ask_outcome indexer_ask_create_index(struct ask_job *job, struct error **ret_error) {
    struct collection_index index = {0};
    const char *query_index_id = NULL;
    _cleanup_free_ char *index_id = NULL;
    int result = read_body(job, &index, &query_index_id, ret_error);
    if (result >= 0)
        result = collection_add_index(job->collection->store, &index, query_index_id, &index_id, ret_error);
    if (result >= 0) pause_point("index_recorded");
    if (result >= 0) result = adopt_all(job->collection, ret_error);
    if (result < 0) return ASK_FAILED;
    indexer_tell_events(job->collection);
    json_add_text(job->answer, job->answer_root, "index_id", index_id);
    return ASK_DONE;
}

/* ---- await_ready ---------------------------------------------------------------------------- */

/* With the lock. */
static enum ask_outcome judge(const struct indexer_index *index, struct error **ret_error) {
    if (indexer_index_in(index, INDEX_FILLING)) return ASK_WAITS;
    if (!indexer_index_in(index, INDEX_FAILED)) return ASK_DONE;
    error_set(ret_error, ERROR_DEPLOYMENT, "the index %s has failed: %s", index->row.index_id,
              index->row.detail ? index->row.detail : "no cause is recorded");
    return ASK_FAILED;
}

enum ask_outcome indexer_ask_await_ready(struct ask_job *job, struct error **ret_error) {
    struct indexer_index *index = NULL;
    pthread_mutex_lock(&job->indexer->lock);
    enum ask_outcome outcome = ask_index(job, &index, ret_error) < 0 ? ASK_FAILED : judge(index, ret_error);
    if (outcome == ASK_WAITS && !job->ask->has_begun) indexer_tell_progress(index, true);
    job->ask->has_begun = true;
    pthread_mutex_unlock(&job->indexer->lock);
    return outcome;
}

/* ---- retry_failed ------------------------------------------------------------------------------ */

/* The failed items' texts as they stand in the log. */
struct retry {
    struct collection_failure *failures;
    size_t count;
    char **texts; /* NULL: the row is there no more */
    struct embed_item *items;
    float *vectors;
    size_t item_count, embedded;
};

static void retry_clear(struct retry *retry) {
    for (size_t i = 0; i < retry->count; i++) free(retry->texts ? retry->texts[i] : NULL);
    for (size_t i = 0; i < retry->item_count; i++) free(retry->items[i].detail);
    collection_failures_free(retry->failures, retry->count);
    free(retry->texts);
    free(retry->items);
    free(retry->vectors);
}

static int read_texts(struct indexer_index *index, struct retry *retry, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    int result = collection_read_begin(index->collection->store, index->row.set, &read, ret_error);
    retry->texts = mem_new_array(retry->count, char *);
    for (size_t i = 0; result >= 0 && i < retry->count; i++) {
        _cleanup_collection_row_ struct collection_row row = {0};
        result = collection_find_seq(read, retry->failures[i].seq, true, &row, ret_error);
        if (result > 0) retry->texts[i] = TAKE(row.text);
    }
    return result < 0 ? result : 0;
}

static int load_failed(struct indexer_index *index, struct retry *retry, struct error **ret_error) {
    struct collection_read *read = NULL;
    uint64_t total = 0;
    int result = collection_read_begin(index->collection->store, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0)
        result = collection_list_failures(read, index->row.index_id, 0, RETRIED_MAXIMUM, &retry->failures,
                                          &retry->count, &total, ret_error);
    collection_read_end(read);
    return result >= 0 && retry->count ? read_texts(index, retry, ret_error) : result;
}

static bool embed_again(struct ask_job *job, struct indexer_index *index, struct retry *retry) {
    size_t dimension = (size_t)index->row.dimension;
    retry->items = mem_new_array(retry->count, struct embed_item);
    retry->vectors = malloc(dimension * sizeof *retry->vectors); /* only whether it can be embedded counts */
    for (size_t i = 0; retry->vectors && i < retry->count; i++)
        if (retry->texts[i])
            retry->items[retry->item_count++] = (struct embed_item){
                .text = retry->texts[i], .size = strlen(retry->texts[i]), .vector = retry->vectors, .alone = true};
    struct embed_order order = {.digest = index->row.encoder_digest,
                                .dimension = dimension,
                                .items = retry->items,
                                .count = retry->item_count,
                                .is_bulk = true};
    if (!retry->vectors || indexer_embed(job->worker, &order) != EMBED_FINISHED) return false;
    for (size_t i = 0; i < retry->item_count; i++) retry->embedded += retry->items[i].state == EMBED_DONE;
    return true;
}

static int count_attempts(struct indexer_index *index, struct retry *retry, struct error **ret_error) {
    for (size_t i = 0; i < retry->count; i++) retry->failures[i].attempts++;
    return collection_record_failures(index->collection->store, index->row.index_id, retry->failures, retry->count,
                                      NULL, 0, ret_error);
}

/* Rows of an index stand in the order of the log: what failed cannot be put in behind. An index that nobody searches is
 * built again for it; one that serves keeps its failed items until their documents are written anew. */
static enum ask_outcome retry_claimed(struct ask_job *job, struct indexer_index *index, struct error **ret_error) {
    struct retry retry = {0};
    enum ask_outcome outcome = ASK_DONE;
    int result = load_failed(index, &retry, ret_error);
    if (result >= 0 && retry.count && !embed_again(job, index, &retry))
        outcome = ASK_WAITS;
    else if (retry.embedded && indexer_index_in(index, INDEX_FILLING | INDEX_READY))
        outcome =
            indexer_index_set_aside(index, "failed items can be embedded now", ret_error) < 0 ? ASK_FAILED : ASK_WAITS;
    else if (result < 0 || (retry.count && count_attempts(index, &retry, ret_error) < 0))
        outcome = ASK_FAILED;
    if (outcome == ASK_WAITS && retry.embedded) job->ask->stage = 1;
    retry_clear(&retry);
    return outcome;
}

enum ask_outcome indexer_ask_retry_failed(struct ask_job *job, struct error **ret_error) {
    struct indexer_index *index = NULL;
    enum ask_outcome outcome = ASK_FAILED;
    pthread_mutex_lock(&job->indexer->lock);
    if (ask_index(job, &index, ret_error) >= 0) {
        bool is_rebuilt = job->ask->stage && !indexer_is_filling(index);
        outcome = is_rebuilt ? ASK_DONE : ASK_WAITS;
        if (!job->ask->stage && index->writer) {
            indexer_claim(index);
            pthread_mutex_unlock(&job->indexer->lock);
            outcome = retry_claimed(job, index, ret_error);
            pthread_mutex_lock(&job->indexer->lock);
            indexer_release(index);
        }
        yyjson_mut_obj_add_uint(job->answer, job->answer_root, "failed", index->failed);
    }
    pthread_mutex_unlock(&job->indexer->lock);
    return outcome;
}

/* ---- drop_index ----------------------------------------------------------------------------------- */

/* With the lock; claimed. */
static void take_off(struct indexer_index *index) {
    struct indexer_index **at = &index->collection->indexes;
    while (*at != index) at = &(*at)->next;
    *at = index->next;
    indexer_collection_changed(index->collection);
}

/* It is off the list: what cannot be removed now goes at the next start. */
static void drop_files(struct indexer_index *index) {
    if (!index) return;
    struct indexer *indexer = index->collection->indexer;
    _cleanup_error_ struct error *error = NULL;
    pthread_mutex_lock(&indexer->lock);
    take_off(index);
    pthread_mutex_unlock(&indexer->lock);
    if (indexer_index_remove(index, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        log_write(LOG_WARNING, "the files of a dropped index cannot be removed now", "index", index->row.index_id,
                  "error", text, NULL);
    }
    indexer_index_free(index);
}

/* Both are claimed. */
static enum ask_outcome drop_claimed(struct ask_job *job, struct indexer_index *index, struct indexer_index *partner,
                                     struct error **ret_error) {
    const char *state = NULL;
    int64_t epoch = 0;
    bool dropped = false;
    int result = json_get_text(job->body, "", "state", false, &state, ret_error);
    if (result >= 0) result = json_get_number(job->body, "", "epoch", false, 0, INT64_MAX, &epoch, ret_error);
    if (result >= 0)
        result = collection_drop_index(job->collection->store, index->row.index_id, state, epoch, &dropped, ret_error);
    if (result >= 0 && dropped) {
        pause_point("index_dropped");
        drop_files(partner);
        drop_files(index);
        indexer_tell_events(job->collection);
    }
    yyjson_mut_obj_add_bool(job->answer, job->answer_root, "dropped", dropped);
    if (!dropped) {
        pthread_mutex_lock(&job->indexer->lock);
        indexer_release(index);
        if (partner) indexer_release(partner);
        pthread_mutex_unlock(&job->indexer->lock);
    }
    return result < 0 ? ASK_FAILED : ASK_DONE;
}

/* With the lock. */
static enum ask_outcome may_drop(struct indexer_collection *collection, const struct indexer_index *index,
                                 struct error **ret_error) {
    if (index == collection->former) return ASK_WAITS; /* some gateway may still search it */
    if (index != collection->switching_to) return ASK_DONE;
    error_set(ret_error, ERROR_CONFLICT, "a switch to the index %s is under way", index->row.index_id);
    return ASK_FAILED;
}

enum ask_outcome indexer_ask_drop_index(struct ask_job *job, struct error **ret_error) {
    struct indexer_index *partner = NULL, *index = NULL;
    const char *index_id = NULL;
    if (ask_text(job, "index_id", &index_id, ret_error) < 0) return ASK_FAILED;
    pthread_mutex_lock(&job->indexer->lock);
    index = indexer_index_find(job->collection, index_id);
    enum ask_outcome outcome = index ? may_drop(job->collection, index, ret_error) : ASK_DONE;
    if (index && outcome == ASK_DONE) {
        partner = indexer_partner(index);
        indexer_claim(index);
        if (partner) indexer_claim(partner);
    }
    pthread_mutex_unlock(&job->indexer->lock);
    if (index && outcome == ASK_DONE) return drop_claimed(job, index, partner, ret_error);
    if (!index) yyjson_mut_obj_add_bool(job->answer, job->answer_root, "dropped", true);
    return outcome;
}
