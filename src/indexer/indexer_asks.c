/* What the controller asks (asks.def): taken in, run by a worker when it can go on, answered once. An ask that waits is
 * run again when something of its collection has changed; each begins by looking what is done already. */
#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#include <string.h>

#define ASKS_MAXIMUM 10000 /* far more than a controller has tasks; more would be a mistake of its */

const struct ask_verb indexer_verbs[] = {
#define ASK(verb) {#verb, indexer_ask_##verb},
#include "indexer/asks.def"
#undef ASK
    {0},
};

/* All but this one are about a collection that is there and not being deleted. */
static bool is_delete(const struct indexer_ask *ask) {
    return ask->verb->run == indexer_ask_delete;
}

/* ---- the body ------------------------------------------------------------------------- */

int ask_text(const struct ask_job *job, const char *field, const char **ret_text, struct error **ret_error) {
    return json_get_text(job->body, "", field, true, ret_text, ret_error);
}

int ask_index(const struct ask_job *job, struct indexer_index **ret_index, struct error **ret_error) {
    const char *index_id = NULL;
    int result = ask_text(job, "index_id", &index_id, ret_error);
    if (result < 0) return result;
    *ret_index = indexer_index_find(job->collection, index_id);
    return *ret_index ? 0 : error_set(ret_error, ERROR_NOT_FOUND, "the collection has no index %s", index_id);
}

/* ---- taking in and answering --------------------------------------------------------------- */

void indexer_ask_free(struct indexer_ask *ask) {
    yyjson_doc_free(ask->body);
    free(ask->collection_id);
    free(ask);
}

static void answer(struct indexer *indexer, uint64_t request, const struct error *error, const char *body_json) {
    _cleanup_free_ char *error_json = error ? json_from_error(error) : NULL;
    indexer_tell(indexer, indexer_answer, .request = request, .error_json = error_json,
                 .body_json = body_json ? body_json : "{}");
}

static void unlink_ask(struct indexer *indexer, const struct indexer_ask *ask) {
    struct indexer_ask **at = &indexer->asks;
    while (*at != ask) at = &(*at)->next;
    *at = ask->next;
    indexer->ask_count--;
}

/* A controller that was started again counts its requests anew: nobody waits for the one before it any more. One that
 * runs ends without a word. */
static void forget_namesake(struct indexer *indexer, uint64_t request) {
    for (struct indexer_ask *ask = indexer->asks, *next; ask; ask = next) {
        next = ask->next;
        if (ask->request != request) continue;
        ask->was_replaced = true;
        if (ask->is_running) continue;
        unlink_ask(indexer, ask);
        indexer_ask_free(ask);
    }
}

static const struct ask_verb *find_verb(const char *name) {
    for (const struct ask_verb *verb = indexer_verbs; verb->name; verb++)
        if (text_equal(verb->name, name)) return verb;
    return NULL;
}

static int read_ask(struct indexer *indexer, const struct wire_indexer_ask *message, struct indexer_ask *ask,
                    struct error **ret_error) {
    yyjson_val *root;
    ask->verb = find_verb(message->verb);
    if (!ask->verb) return error_set(ret_error, ERROR_CONFIGURATION, "the indexer knows no ask %.64s", message->verb);
    if (!text_is_uuid(message->collection_id))
        return error_set(ret_error, ERROR_CONFIGURATION, "%.64s is not a collection's id", message->collection_id);
    if (indexer->ask_count >= ASKS_MAXIMUM)
        return error_set(ret_error, ERROR_UNAVAILABLE, "%d asks wait already", ASKS_MAXIMUM);
    const char *body = *message->body_json ? message->body_json : "{}";
    int result = json_parse_object(body, strlen(body), &ask->body, &root, ret_error);
    return result < 0 ? error_wrap(ret_error, "read the body of the ask %s", message->verb) : 0;
}

void indexer_ask_take(struct indexer *indexer, const struct wire_indexer_ask *message) {
    struct indexer_ask *ask = mem_new(struct indexer_ask), **end = &indexer->asks;
    _cleanup_error_ struct error *error = NULL;
    ask->request = message->request;
    forget_namesake(indexer, message->request);
    if (read_ask(indexer, message, ask, &error) < 0) {
        answer(indexer, message->request, error, NULL);
        indexer_ask_free(ask);
        return;
    }
    ask->collection_id = text_copy(message->collection_id);
    ask->since_ms = clock_monotonic_ms();
    ask->deadline_ms = INDEXER_FOREVER;
    ask->collection = indexer_collection_find(indexer, ask->collection_id);
    if (!ask->collection) ask->collection = indexer_collection_add(indexer, ask->collection_id);
    while (*end) end = &(*end)->next;
    *end = ask;
    indexer->ask_count++;
    indexer_wake(indexer);
}

void indexer_asks_end(struct indexer_collection *collection, const struct indexer_ask *but, const struct error *error) {
    struct indexer *indexer = collection->indexer;
    for (struct indexer_ask *ask = indexer->asks, *next; ask; ask = next) {
        next = ask->next;
        if (ask->collection != collection || ask == but) continue;
        answer(indexer, ask->request, error, NULL);
        unlink_ask(indexer, ask);
        indexer_ask_free(ask);
    }
}

/* ---- running --------------------------------------------------------------------------------- */

/* What could not be opened when it was tried last is tried once more for whoever asks. */
static enum ask_outcome check_open(struct ask_job *job, struct error **ret_error) {
    struct indexer_collection *collection = job->collection;
    struct indexer_ask *ask = job->ask;
    enum ask_outcome outcome = ASK_DONE;
    pthread_mutex_lock(&job->indexer->lock);
    if (collection->phase == COLLECTION_FAILED && !ask->tried_open) {
        collection->phase = COLLECTION_UNOPENED;
        ask->tried_open = true;
        outcome = ASK_WAITS;
    } else if (collection->phase == COLLECTION_FAILED) {
        *ret_error = error_copy(collection->error);
        outcome = ASK_FAILED;
    } else if (collection->deleted && !is_delete(ask)) {
        error_set(ret_error, ERROR_CONFLICT, "the collection is being deleted");
        outcome = ASK_FAILED;
    }
    pthread_mutex_unlock(&job->indexer->lock);
    return outcome;
}

/* What is not there is deleted. */
static enum ask_outcome run_verb(struct ask_job *job, struct error **ret_error) {
    enum ask_outcome outcome = check_open(job, ret_error);
    if (outcome == ASK_FAILED && is_delete(job->ask) && (*ret_error)->class == ERROR_NOT_FOUND) {
        error_free(TAKE(*ret_error));
        return ASK_DONE;
    }
    return outcome == ASK_DONE ? job->ask->verb->run(job, ret_error) : outcome;
}

static void log_failure(const struct indexer_ask *ask, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, "an ask of the controller failed", "ask", ask->verb->name, "collection", ask->collection_id,
              "error", text, NULL);
}

/* With the lock. job->collection is NULL when the ask has taken it away. */
static void end_run(struct ask_job *job, enum ask_outcome outcome, const struct error *error) {
    struct indexer_ask *ask = job->ask;
    if (job->collection) {
        job->collection->jobs--;
        job->collection->is_asking = false;
    }
    ask->is_running = false;
    if (outcome == ASK_WAITS && !ask->was_replaced) return;
    _cleanup_free_ char *body = json_write(job->answer, NULL);
    if (!ask->was_replaced) answer(job->indexer, ask->request, outcome == ASK_FAILED ? error : NULL, body);
    if (outcome == ASK_FAILED) log_failure(ask, error);
    if (job->collection) indexer_collection_changed(job->collection);
    unlink_ask(job->indexer, ask);
    indexer_ask_free(ask);
}

void indexer_ask_run(struct indexer_worker *worker, struct indexer_ask *ask) {
    _cleanup_error_ struct error *error = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    struct indexer *indexer = worker->indexer;
    struct ask_job job = {.worker = worker,
                          .indexer = indexer,
                          .ask = ask,
                          .collection = ask->collection,
                          .body = yyjson_doc_get_root(ask->body),
                          .answer = document,
                          .answer_root = yyjson_mut_obj(document)};
    yyjson_mut_doc_set_root(document, job.answer_root);
    pthread_mutex_lock(&indexer->lock);
    ask->seen_changes = ask->collection->changes;
    pthread_mutex_unlock(&indexer->lock);
    enum ask_outcome outcome = run_verb(&job, &error);
    pthread_mutex_lock(&indexer->lock);
    end_run(&job, outcome, error);
    pthread_mutex_unlock(&indexer->lock);
}

/* ---- open, delete -------------------------------------------------------------------------------- */

enum ask_outcome indexer_ask_open(struct ask_job *job, struct error **ret_error) {
    (void)job, (void)ret_error; /* it is open, or this would not have been called */
    return ASK_DONE;
}

/* With the lock. */
static void wait_for_jobs(struct indexer_collection *collection) {
    collection->is_closing = true;
    indexer_wake_embedders(collection->indexer);
    while (collection->jobs > 1) pthread_cond_wait(&collection->indexer->changed, &collection->indexer->lock);
}

enum ask_outcome indexer_ask_delete(struct ask_job *job, struct error **ret_error) {
    struct indexer_collection *collection = job->collection;
    _cleanup_error_ struct error *gone = NULL;
    if (!collection->deleted && collection_mark_deleted(collection->store, ret_error) < 0) return ASK_FAILED;
    if (!collection->deleted) indexer_tell_events(collection);
    pause_point("collection_marked_deleted");
    error_set(&gone, ERROR_CONFLICT, "the collection is being deleted");
    pthread_mutex_lock(&job->indexer->lock);
    wait_for_jobs(collection);
    indexer_asks_end(collection, job->ask, gone);
    indexer_collection_close(collection);
    job->collection = job->ask->collection = NULL;
    pthread_mutex_unlock(&job->indexer->lock);
    return ASK_DONE;
}
