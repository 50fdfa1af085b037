/* The switch (RULES X2 to X5). Its parts, each of which can be the last before a kill:
 *
 *   approach   the destination is ready and near the log's end: nobody is held back yet
 *   record     `switching` stands in the database; from then on blue shows no more than is durable of the destination
 *   catch up   the destination takes what is left and syncs; what blue has shown is then durable there
 *   flip       one transaction: the pair, the query pair, the epoch
 *   announce   gateways hear of the epoch, and say when they take it and have left the one before; until then the
 * former blue shows no more than the new one
 *
 * After a restart the database says how far it was (indexer_pair_install); the ask comes again and goes on from there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define STALE_MS 60000 /* past switch_deadline: then nobody asks any more */
#define RETRY_MS 200
#define ROUNDS 64 /* chunks in one run of the ask */
#define WRITES_NONE_RATE 0.2 /* a second: below one write in the five seconds that are looked at */

enum stage { STAGE_APPROACH, STAGE_FENCED, STAGE_FLIPPED };

/* ---- gateways (X5) -------------------------------------------------------------------------- */

static const struct pair_use *find_use(const struct indexer_collection *collection, uint64_t gateway_id) {
    for (size_t i = 0; i < collection->use_count; i++)
        if (collection->uses[i].gateway_id == gateway_id) return &collection->uses[i];
    return NULL;
}

bool indexer_all_use(const struct indexer_collection *collection, int64_t epoch) {
    struct indexer *indexer = collection->indexer;
    struct indexer_gateway *gateway, *next;
    if (!indexer->snapshot_ended) return false; /* who there is has not been told yet */
    HASH_ITER(hh, indexer->gateways, gateway, next) {
        const struct pair_use *use = find_use(collection, gateway->id);
        if (!use || use->epoch < (uint64_t)epoch || use->lowest < (uint64_t)epoch) return false;
    }
    return true;
}

/* ---- while a gateway is being replaced (X9) -------------------------------------------------- */

static bool is_switching(const struct indexer_collection *collection) {
    return collection->phase == COLLECTION_OPEN && !collection->deleted &&
           (collection->switching_task || collection->former);
}

void indexer_tell_held(struct indexer *indexer) {
    if (!indexer->switches_are_held || indexer->told_held || !indexer->was_ready) return;
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, indexer->collections, collection, next) {
        if (is_switching(collection)) return;
    }
    indexer->told_held = true;
    indexer_tell(indexer, switches_held, .unused = 0);
}

void indexer_hold_switches(struct indexer *indexer, bool hold) {
    struct indexer_collection *collection, *next;
    indexer->switches_are_held = hold;
    indexer->told_held = false;
    indexer_tell_held(indexer);
    HASH_ITER(hh, indexer->collections, collection, next) {
        if (!hold) indexer_collection_changed(collection);
    }
}

/* ---- gateways and the pair ------------------------------------------------------------------- */

static void forget_gone(struct indexer_collection *collection) {
    size_t kept = 0;
    for (size_t i = 0; i < collection->use_count; i++) {
        struct indexer_gateway *gateway = NULL;
        HASH_FIND(hh, collection->indexer->gateways, &collection->uses[i].gateway_id, sizeof(uint64_t), gateway);
        if (gateway) collection->uses[kept++] = collection->uses[i];
    }
    collection->use_count = kept;
}

void indexer_pair_settle(struct indexer_collection *collection) {
    forget_gone(collection);
    if (collection->phase != COLLECTION_OPEN || !indexer_all_use(collection, collection->epoch)) return;
    struct indexer_index *former = TAKE(collection->former), *queries = TAKE(collection->former_queries);
    if (former) indexer_fence(former, INDEXER_NO_FENCE, NULL);
    if (queries) indexer_fence(queries, INDEXER_NO_FENCE, NULL);
    indexer_tell_indexed(collection, false);
    indexer_collection_changed(collection);
    indexer_tell_held(collection->indexer);
}

void indexer_pair_used(struct indexer_collection *collection, const struct wire_pair_used *used) {
    struct pair_use *use = (struct pair_use *)find_use(collection, used->gateway_id);
    if (!use) {
        collection->uses = mem_resize(collection->uses, collection->use_count + 1, sizeof *collection->uses);
        use = &collection->uses[collection->use_count++];
    }
    *use = (struct pair_use){.gateway_id = used->gateway_id, .epoch = used->epoch, .lowest = used->lowest};
    indexer_pair_settle(collection);
}

/* ---- the pair --------------------------------------------------------------------------------- */

static void raise_fences(struct indexer_collection *collection) {
    struct indexer_index *to = collection->switching_to;
    if (!to) return;
    indexer_fence(collection->blue, INDEXER_FENCE_DURABLE, to);
    struct indexer_index *queries = indexer_partner(to);
    if (queries) indexer_fence(collection->blue_queries, INDEXER_FENCE_DURABLE, queries);
}

/* Which gateways still use the pair before nobody knows here: all, until they say otherwise. */
static void install_former(struct indexer_collection *collection, const char *source_index_id) {
    struct indexer_index *former = indexer_index_find(collection, source_index_id);
    if (!former || former == collection->blue || !indexer_index_in(former, INDEX_ROLLBACK)) return;
    collection->former = former;
    collection->former_queries = indexer_partner(former);
    indexer_fence(former, INDEXER_FENCE_APPLIED, collection->blue);
    if (collection->blue_queries)
        indexer_fence(collection->former_queries, INDEXER_FENCE_APPLIED, collection->blue_queries);
}

static void set_switching(struct indexer_collection *collection, const char *task_id, const char *to_index) {
    indexer_switch_clear(collection);
    collection->switching_to = indexer_index_find(collection, to_index);
    if (!collection->switching_to) return;
    collection->switching_task = text_copy(task_id);
    raise_fences(collection);
}

void indexer_pair_install(struct indexer_collection *collection, const struct collection_pair *pair) {
    collection->epoch = pair->epoch;
    collection->blue = indexer_index_find(collection, pair->index_id);
    collection->blue_queries = indexer_index_find(collection, pair->query_index_id);
    install_former(collection, pair->source_index_id);
    collection->switching_since = pair->switching_since;
    if (pair->switching_task) set_switching(collection, pair->switching_task, pair->switching_to);
}

void indexer_switch_clear(struct indexer_collection *collection) {
    free(TAKE(collection->switching_task));
    if (!TAKE(collection->switching_to)) return;
    indexer_fence(collection->blue, INDEXER_NO_FENCE, NULL);
    indexer_fence(collection->blue_queries, INDEXER_NO_FENCE, NULL);
    indexer_tell_held(collection->indexer);
}

static int load_pair(struct indexer_collection *collection, struct collection_pair *pair, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    int result = collection_read_begin(collection->store, COLLECTION_DOCUMENTS, &read, ret_error);
    return result >= 0 ? collection_load_pair(read, pair, ret_error) : result;
}

/* ---- how far the destination is (X4) --------------------------------------------------------------- */

struct distance {
    uint64_t rows; /* of the log that are not durable in the destination */
    double write_rate; /* rows a second, of the last five */
    double lag_ms;
};

/* With the lock. */
static struct distance measure(const struct indexer_collection *collection, uint64_t reached) {
    uint64_t head = collection->heads[COLLECTION_DOCUMENTS];
    struct distance distance = {.rows = head > reached ? head - reached : 0,
                                .write_rate = indexer_write_rate(collection)};
    double rate = distance.write_rate > WRITES_NONE_RATE ? distance.write_rate : WRITES_NONE_RATE;
    distance.lag_ms = (double)distance.rows * 1000.0 / rate;
    return distance;
}

static bool is_near(const struct indexer_collection *collection, uint64_t reached) {
    return measure(collection, reached).lag_ms <= (double)collection->indexer->settings->switch_max_lag_ms;
}

static int outrun(struct indexer_collection *collection, const struct indexer_index *to, struct error **ret_error) {
    pthread_mutex_lock(&collection->indexer->lock);
    struct distance distance = measure(collection, to->durable);
    double embed_rate = to->is_starved ? 0 : to->rate;
    pthread_mutex_unlock(&collection->indexer->lock);
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "writes outrun embedding: %.1f writes a second come, %.1f are embedded, and the index %s is %llu "
                     "behind after switch_deadline",
                     distance.write_rate, embed_rate, to->row.index_id, (unsigned long long)distance.rows);
}

/* ---- giving up ---------------------------------------------------------------------------------------- */

static int abort_recorded(struct indexer_collection *collection, const char *task_id, const char *why,
                          struct error **ret_error) {
    int result = collection_abort_switch(collection->store, task_id, why, ret_error);
    if (result < 0) return result;
    pthread_mutex_lock(&collection->indexer->lock);
    if (text_equal(collection->switching_task, task_id)) indexer_switch_clear(collection);
    indexer_collection_changed(collection);
    pthread_mutex_unlock(&collection->indexer->lock);
    indexer_tell_events(collection);
    return 0;
}

static enum ask_outcome give_up(struct ask_job *job, const char *task_id, struct indexer_index *to,
                                struct error **ret_error) {
    struct error *error = NULL;
    outrun(job->collection, to, &error);
    _cleanup_free_ char *why = error_text(error);
    if (job->ask->stage == STAGE_FENCED && abort_recorded(job->collection, task_id, why, ret_error) < 0)
        error_free(error);
    else
        *ret_error = error;
    return ASK_FAILED;
}

int indexer_abort_stale(struct indexer_collection *collection, struct error **ret_error) {
    struct indexer *indexer = collection->indexer;
    _cleanup_free_ char *task_id = NULL;
    pthread_mutex_lock(&indexer->lock);
    int64_t age_ms = clock_wall_ms() - collection->switching_since;
    bool is_stale = collection->switching_task && !collection->is_asking &&
                    age_ms > (int64_t)(indexer->settings->switch_deadline_ms + STALE_MS);
    for (const struct indexer_ask *ask = indexer->asks; ask && is_stale; ask = ask->next)
        is_stale = ask->collection != collection;
    if (is_stale) {
        task_id = text_copy(collection->switching_task);
        collection->is_asking = true; /* nobody takes it up meanwhile */
    }
    pthread_mutex_unlock(&indexer->lock);
    if (!is_stale) return 0;
    int result = abort_recorded(collection, task_id, "nobody asked for it any more", ret_error);
    pthread_mutex_lock(&indexer->lock);
    collection->is_asking = false;
    indexer_wake(indexer);
    pthread_mutex_unlock(&indexer->lock);
    return result;
}

/* ---- the flip ------------------------------------------------------------------------------------------ */

/* Where the ask stands in its switch. */
struct flip {
    struct ask_job *job;
    struct indexer_collection *collection;
    const char *task_id;
    struct indexer_index *to, *to_queries;
};

static enum ask_outcome refuse(struct error **ret_error, const char *why, const char *index_id) {
    error_set(ret_error, ERROR_CONFLICT, "the index %s %s", index_id, why);
    return ASK_FAILED;
}

/* With the lock. */
static enum ask_outcome check_destination(const struct flip *flip, struct error **ret_error) {
    const struct indexer_index *to = flip->to;
    if (flip->collection->switching_task) {
        error_set(ret_error, ERROR_CONFLICT, "task %s is switching to the index %s", flip->collection->switching_task,
                  flip->collection->switching_to->row.index_id);
        return ASK_FAILED;
    }
    if (to == flip->collection->blue) return refuse(ret_error, "is the blue one already", to->row.index_id);
    if (!indexer_index_in(to, INDEX_READY | INDEX_ROLLBACK)) return refuse(ret_error, "is not ready", to->row.index_id);
    if (indexer_is_filling(to) || (flip->to_queries && indexer_is_filling(flip->to_queries))) return ASK_WAITS;
    return flip->collection->former ? ASK_WAITS : ASK_DONE; /* the switch before is not over for every gateway */
}

/* Up to where the destination is to be brought: the documents' index and that of queries. */
struct goal {
    uint64_t through[INDEXER_SETS];
};

/* Claimed. Takes that much of the log, and syncs. */
static int bring_one(struct flip *flip, struct indexer_index *index, uint64_t through, struct error **ret_error) {
    bool more = true;
    for (int round = 0; more && index->written < through && round < ROUNDS; round++) {
        int result = indexer_follow(flip->job->worker, index, through, &more, ret_error);
        if (result < 0) return result;
    }
    bool must_sync = index->durable < through && index->durable < index->written;
    return must_sync ? indexer_sync(index, ret_error) : 0;
}

static int bring_forward(struct flip *flip, const struct goal *goal, struct error **ret_error) {
    int result = bring_one(flip, flip->to, goal->through[COLLECTION_DOCUMENTS], ret_error);
    if (result < 0 || !flip->to_queries) return result;
    return bring_one(flip, flip->to_queries, goal->through[COLLECTION_QUERIES], ret_error);
}

static void claim_both(const struct flip *flip) {
    pthread_mutex_lock(&flip->job->indexer->lock);
    indexer_claim(flip->to);
    if (flip->to_queries) indexer_claim(flip->to_queries);
    pthread_mutex_unlock(&flip->job->indexer->lock);
}

static void release_both(const struct flip *flip) {
    pthread_mutex_lock(&flip->job->indexer->lock);
    indexer_release(flip->to);
    if (flip->to_queries) indexer_release(flip->to_queries);
    pthread_mutex_unlock(&flip->job->indexer->lock);
}

/* With the lock. Its encoder is there, and it is near enough to be worth holding blue back for. */
static bool is_within_reach(const struct flip *flip, uint64_t reached) {
    return indexer_replicas_any(flip->job->indexer, flip->to->row.encoder_digest) && is_near(flip->collection, reached);
}

/* The fence stands before the record does: nothing slips out between them. */
static enum ask_outcome record(struct flip *flip, struct error **ret_error) {
    struct indexer_collection *collection = flip->collection;
    pthread_mutex_lock(&collection->indexer->lock);
    if (collection->indexer->switches_are_held) {
        pthread_mutex_unlock(&collection->indexer->lock);
        return ASK_WAITS;
    }
    set_switching(collection, flip->task_id, flip->to->row.index_id);
    collection->switching_since = clock_wall_ms();
    pthread_mutex_unlock(&collection->indexer->lock);
    int result = collection_begin_switch(collection->store, flip->task_id, flip->to->row.index_id, ret_error);
    if (result < 0) {
        pthread_mutex_lock(&collection->indexer->lock);
        indexer_switch_clear(collection);
        pthread_mutex_unlock(&collection->indexer->lock);
        return ASK_FAILED;
    }
    pause_point("switch_recorded");
    indexer_tell_events(collection);
    flip->job->ask->stage = STAGE_FENCED;
    return ASK_DONE;
}

static enum ask_outcome approach(struct flip *flip, struct error **ret_error) {
    struct indexer *indexer = flip->job->indexer;
    pthread_mutex_lock(&indexer->lock);
    enum ask_outcome outcome = check_destination(flip, ret_error);
    bool within = is_within_reach(flip, flip->to->written);
    struct goal goal;
    memcpy(goal.through, flip->collection->heads, sizeof goal.through);
    pthread_mutex_unlock(&indexer->lock);
    if (outcome != ASK_DONE) return outcome;
    if (!within) return ASK_WAITS;
    claim_both(flip);
    int result = bring_forward(flip, &goal, ret_error);
    release_both(flip);
    if (result < 0) return (*ret_error)->transient ? ASK_WAITS : ASK_FAILED;
    pthread_mutex_lock(&indexer->lock);
    within = is_within_reach(flip, flip->to->durable);
    pthread_mutex_unlock(&indexer->lock);
    if (!within) return ASK_WAITS;
    return record(flip, ret_error);
}

/* What anyone can have seen of it: after another boot also what it showed before, up to where its answers begin (L6).
 */
static uint64_t shown_of(const struct indexer_index *index) {
    if (!index) return 0;
    return index->applied > index->answers_from ? index->applied : index->answers_from;
}

/* With the lock. What anyone has seen is durable in the destination, and the rest is little. */
static bool may_flip(const struct flip *flip, uint64_t *ret_shown) {
    *ret_shown = shown_of(flip->collection->blue);
    bool queries_shown = flip->to_queries && shown_of(flip->collection->blue_queries) > flip->to_queries->durable;
    return flip->to->durable >= *ret_shown && !queries_shown && is_within_reach(flip, flip->to->durable);
}

/* With the lock. Blue stands still behind its fence: this is all that is to be durable in the destination. */
static struct goal shown_by_blue(const struct indexer_collection *collection) {
    return (struct goal){.through = {shown_of(collection->blue), shown_of(collection->blue_queries)}};
}

/* With the lock: what the database says now. */
static void install_flip(struct flip *flip, int64_t epoch) {
    struct indexer_collection *collection = flip->collection;
    struct indexer_index *source = collection->blue, *source_queries = collection->blue_queries;
    /* The source's fence is replaced, and not lifted in between: it would show all that it holds back. */
    free(TAKE(collection->switching_task));
    collection->switching_to = NULL;
    collection->epoch = epoch;
    collection->blue = flip->to;
    collection->blue_queries = flip->to_queries;
    flip->to->state = INDEX_BLUE;
    if (flip->to_queries) flip->to_queries->state = INDEX_BLUE;
    if (source_queries) source_queries->state = INDEX_ROLLBACK;
    if (source) {
        source->state = INDEX_ROLLBACK;
        install_former(collection, source->row.index_id);
        indexer_tell_progress(source, true);
    }
    indexer_publish(flip->to); /* claimed by this ask */
    indexer_tell_progress(flip->to, true);
}

static void announce(struct indexer_collection *collection) {
    pthread_mutex_lock(&collection->indexer->lock);
    indexer_tell(collection->indexer, pair_changed, .collection_id = collection->id,
                 .epoch = (uint64_t)collection->epoch);
    indexer_pair_settle(collection); /* without a gateway nobody is waited for */
    pthread_mutex_unlock(&collection->indexer->lock);
}

/* Both are claimed. DONE: it is flipped. */
static enum ask_outcome flip_now(struct flip *flip, struct error **ret_error) {
    struct indexer *indexer = flip->job->indexer;
    uint64_t shown = 0;
    int64_t epoch = 0;
    pthread_mutex_lock(&indexer->lock);
    struct goal goal = shown_by_blue(flip->collection);
    pthread_mutex_unlock(&indexer->lock);
    if (bring_forward(flip, &goal, ret_error) < 0) return ASK_FAILED;
    pthread_mutex_lock(&indexer->lock);
    bool may = may_flip(flip, &shown);
    pthread_mutex_unlock(&indexer->lock);
    if (!may) return ASK_WAITS;
    if (collection_flip(flip->collection->store, flip->task_id, flip->to->row.index_id, shown, &epoch, ret_error) < 0)
        return ASK_FAILED;
    pause_point("flip_recorded");
    pthread_mutex_lock(&indexer->lock);
    install_flip(flip, epoch);
    pthread_mutex_unlock(&indexer->lock);
    announce(flip->collection);
    pause_point("flip_announced");
    indexer_tell_events(flip->collection);
    flip->job->ask->stage = STAGE_FLIPPED;
    return ASK_DONE;
}

/* A fence is not left standing behind a switch that cannot go on. */
static enum ask_outcome catch_up(struct flip *flip, struct error **ret_error) {
    claim_both(flip);
    enum ask_outcome outcome = flip_now(flip, ret_error);
    release_both(flip);
    if (outcome != ASK_FAILED || (*ret_error)->transient) return outcome == ASK_FAILED ? ASK_WAITS : outcome;
    _cleanup_free_ char *why = error_text(*ret_error);
    abort_recorded(flip->collection, flip->task_id, why, NULL);
    return ASK_FAILED;
}

static enum ask_outcome await_gateways(struct flip *flip, const struct collection_pair *pair) {
    struct indexer_collection *collection = flip->collection;
    pthread_mutex_lock(&collection->indexer->lock);
    bool all = indexer_all_use(collection, pair->epoch);
    if (all) indexer_pair_settle(collection);
    struct indexer_index *source = indexer_index_find(collection, pair->source_index_id);
    yyjson_mut_doc *answer = flip->job->answer;
    yyjson_mut_obj_add_sint(answer, flip->job->answer_root, "epoch", pair->epoch);
    json_add_text(answer, flip->job->answer_root, "source_index_id", pair->source_index_id);
    json_add_text(answer, flip->job->answer_root, "source_deployment_id", source ? source->row.deployment_id : NULL);
    pthread_mutex_unlock(&collection->indexer->lock);
    if (!all) return ASK_WAITS;
    pause_point("flip_acknowledged");
    return ASK_DONE;
}

/* The database says where the switch stands, also after a restart. */
static enum ask_outcome go_on(struct flip *flip, struct error **ret_error) {
    struct indexer_ask *ask = flip->job->ask;
    if (ask->stage == STAGE_APPROACH) {
        enum ask_outcome outcome = approach(flip, ret_error);
        if (outcome != ASK_DONE) return outcome;
    }
    if (ask->stage == STAGE_FENCED) return catch_up(flip, ret_error);
    return ASK_DONE;
}

static int find_stage(struct flip *flip, struct collection_pair *pair, struct error **ret_error) {
    struct indexer_ask *ask = flip->job->ask;
    int result = load_pair(flip->collection, pair, ret_error);
    if (result < 0) return result;
    if (text_equal(pair->flipped_by, flip->task_id) && text_equal(pair->index_id, flip->to->row.index_id))
        ask->stage = STAGE_FLIPPED;
    else if (text_equal(pair->switching_task, flip->task_id))
        ask->stage = STAGE_FENCED;
    else if (ask->was_given_up || ask->stage != STAGE_APPROACH)
        return error_set(ret_error, ERROR_CONFLICT, "the switch was given up");
    return 0;
}

static int read_flip(struct ask_job *job, struct flip *flip, struct error **ret_error) {
    int result = ask_text(job, "task_id", &flip->task_id, ret_error);
    pthread_mutex_lock(&job->indexer->lock);
    if (result >= 0) result = ask_index(job, &flip->to, ret_error);
    if (result >= 0) flip->to_queries = indexer_partner(flip->to);
    pthread_mutex_unlock(&job->indexer->lock);
    return result;
}

/* What failed for a moment is tried again soon; nothing will say when it can be. */
static enum ask_outcome wait_or_give_up(struct flip *flip, struct error **ret_error) {
    struct indexer_ask *ask = flip->job->ask;
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t last_ms = ask->since_ms + flip->job->indexer->settings->switch_deadline_ms;
    ask->deadline_ms = *ret_error && now_ms + RETRY_MS < last_ms ? now_ms + RETRY_MS : last_ms;
    error_free(TAKE(*ret_error));
    if (now_ms < last_ms) return ASK_WAITS;
    return give_up(flip->job, flip->task_id, flip->to, ret_error);
}

enum ask_outcome indexer_ask_flip(struct ask_job *job, struct error **ret_error) {
    struct flip flip = {.job = job, .collection = job->collection};
    struct collection_pair pair = {0};
    if (read_flip(job, &flip, ret_error) < 0) return ASK_FAILED;
    enum ask_outcome outcome = find_stage(&flip, &pair, ret_error) < 0 ? ASK_FAILED : go_on(&flip, ret_error);
    if (outcome == ASK_WAITS) outcome = wait_or_give_up(&flip, ret_error);
    if (outcome == ASK_DONE) { /* flipped, by this run or before */
        collection_pair_clear(&pair);
        pair = (struct collection_pair){0};
        job->ask->deadline_ms = INDEXER_FOREVER;
        outcome = load_pair(job->collection, &pair, ret_error) < 0 ? ASK_FAILED : await_gateways(&flip, &pair);
    }
    collection_pair_clear(&pair);
    return outcome;
}

/* ---- abort_switch ------------------------------------------------------------------------------------------ */

/* With the lock: flips of that task that have not come to the point of being recorded. */
static void give_up_waiting(struct ask_job *job, const char *task_id) {
    for (struct indexer_ask *ask = job->indexer->asks; ask; ask = ask->next) {
        yyjson_val *task = yyjson_obj_get(yyjson_doc_get_root(ask->body), "task_id");
        if (ask != job->ask && ask->collection == job->collection && text_equal(ask->verb->name, "flip") &&
            yyjson_equals_str(task, task_id))
            ask->was_given_up = true;
    }
    indexer_collection_changed(job->collection);
}

enum ask_outcome indexer_ask_abort_switch(struct ask_job *job, struct error **ret_error) {
    struct collection_pair pair = {0};
    const char *task_id = NULL;
    int result = ask_text(job, "task_id", &task_id, ret_error);
    if (result >= 0) result = load_pair(job->collection, &pair, ret_error);
    bool flipped = result >= 0 && text_equal(pair.flipped_by, task_id);
    if (result >= 0 && !flipped) {
        pthread_mutex_lock(&job->indexer->lock);
        give_up_waiting(job, task_id);
        pthread_mutex_unlock(&job->indexer->lock);
        if (text_equal(pair.switching_task, task_id))
            result = abort_recorded(job->collection, task_id, "its task gave it up", ret_error);
    }
    yyjson_mut_obj_add_bool(job->answer, job->answer_root, "flipped", flipped);
    collection_pair_clear(&pair);
    return result < 0 ? ASK_FAILED : ASK_DONE;
}
