#include "fakes/fake_indexer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "wire/wire.h"

#define PATIENCE_S 20
#define VERBS_MAXIMUM 16

struct ask {
    uint64_t request;
    char *verb, *collection_id, *body;
    bool is_done, is_held;
    char *answer, *error_json; /* once done */
    struct ask *next;
};

struct failing {
    const char *verb, *message;
    enum error_class class;
    size_t times;
};

struct fake_indexer {
    char *folder;
    pthread_mutex_t mutex, writing;
    pthread_cond_t changed;
    pthread_t thread;
    struct ask *asks;
    struct indexer_link *link;
    const char *held, *held_answer;
    bool ending, dead, telling;
    size_t failed_items;
    struct failing failing[VERBS_MAXIMUM];
    struct {
        const char *verb;
        size_t count;
    } counts[VERBS_MAXIMUM];
    void (*on_ask)(const char *when, const char *verb, void *context);
    void *context;
};

static const char *const verbs[] = {
#define ASK(verb) #verb,
#include "indexer/asks.def"
#undef ASK
};

static void free_ask(struct ask *ask) {
    free(ask->verb);
    free(ask->collection_id);
    free(ask->body);
    free(ask->answer);
    free(ask->error_json);
    free(ask);
}

/* ---- what the asks do ---- */

struct job {
    struct fake_indexer *fake;
    struct collection *collection;
    yyjson_val *body;
    yyjson_mut_doc *document;
    yyjson_mut_val *answer;
};

static const char *text_of(const struct job *job, const char *key) {
    return yyjson_get_str(yyjson_obj_get(job->body, key));
}

static int load(struct job *job, struct collection_pair *ret_pair, struct collection_index **ret_indexes,
                size_t *ret_count, uint64_t *ret_head, uint64_t *ret_live, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    int result = collection_read_begin(job->collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0 && ret_pair) result = collection_load_pair(read, ret_pair, ret_error);
    if (result >= 0 && ret_indexes) result = collection_list_indexes(read, ret_indexes, ret_count, ret_error);
    if (result < 0) return result;
    if (ret_head) *ret_head = collection_head(read);
    if (ret_live) *ret_live = collection_live(read);
    return 0;
}

static int fail_items(struct job *job, const char *index_id, struct error **ret_error) {
    size_t count = job->fake->failed_items;
    struct collection_failure *failures = mem_new_array(count + 1, struct collection_failure);
    for (size_t i = 0; i < count; i++)
        failures[i] = (struct collection_failure){.seq = i + 1,
                                                  .id = text_format("document-%zu", i + 1),
                                                  .stage = text_copy("inference"),
                                                  .detail = text_copy("the model refused it"),
                                                  .attempts = 1};
    int result = count ? collection_record_failures(job->collection, index_id, failures, count, NULL, 0, ret_error) : 0;
    collection_failures_free(failures, count);
    return result;
}

static int do_create_index(struct job *job, struct error **ret_error) {
    _cleanup_free_ char *index_id = NULL;
    const struct collection_index index = {
        .index_id = (char *)text_of(job, "index_id"),
        .partner_id = (char *)text_of(job, "query_index_id"),
        .task_id = (char *)text_of(job, "task_id"),
        .deployment_id = (char *)text_of(job, "deployment_id"),
        .encoder_digest = (char *)text_of(job, "encoder_digest"),
        .state = (char *)"filling",
        .set = COLLECTION_DOCUMENTS,
        .revision = yyjson_get_sint(yyjson_obj_get(job->body, "revision")),
        .dimension = yyjson_get_sint(yyjson_obj_get(job->body, "dimension")),
    };
    int result = collection_add_index(job->collection, &index, index.partner_id, &index_id, ret_error);
    if (result < 0 || (result = fail_items(job, index_id, ret_error)) < 0) return result;
    json_add_text(job->document, job->answer, "index_id", index_id);
    return 0;
}

static int set_ready(struct job *job, const struct collection_index *index, struct error **ret_error) {
    if (strcmp(index->state, "filling")) return 0;
    return collection_set_index_state(job->collection, index->index_id, "ready", NULL, index->task_id, ret_error);
}

static int do_await_ready(struct job *job, struct error **ret_error) {
    struct collection_index *indexes = NULL;
    size_t count = 0;
    bool found = false;
    int result = load(job, NULL, &indexes, &count, NULL, NULL, ret_error);
    for (size_t i = 0; i < count && result >= 0; i++) {
        if (strcmp(indexes[i].index_id, text_of(job, "index_id"))) continue;
        found = true;
        result = set_ready(job, &indexes[i], ret_error);
        for (size_t p = 0; p < count && result >= 0; p++)
            if (text_equal(indexes[p].index_id, indexes[i].partner_id)) result = set_ready(job, &indexes[p], ret_error);
    }
    collection_indexes_free(indexes, count);
    if (result >= 0 && !found)
        return error_set(ret_error, ERROR_NOT_FOUND, "the collection has no index %s", text_of(job, "index_id"));
    return result;
}

static int count_failures(struct job *job, uint64_t *ret_total, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_failure *failures = NULL;
    size_t count = 0;
    int result = collection_read_begin(job->collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0)
        result =
            collection_list_failures(read, text_of(job, "index_id"), 0, 0, &failures, &count, ret_total, ret_error);
    if (result >= 0) collection_failures_free(failures, count);
    return result;
}

static int do_retry_failed(struct job *job, struct error **ret_error) {
    uint64_t failed = 0;
    int result = count_failures(job, &failed, ret_error);
    yyjson_mut_obj_add_uint(job->document, job->answer, "failed", failed);
    return result;
}

static int do_gate(struct job *job, struct error **ret_error) {
    uint64_t failed = 0, head = 0, live = 0;
    int result = count_failures(job, &failed, ret_error);
    if (result < 0 || (result = load(job, NULL, NULL, NULL, &head, &live, ret_error)) < 0) return result;
    uint64_t maximum = yyjson_get_uint(yyjson_obj_get(job->body, "maximum_failed"));
    if (failed > maximum)
        return error_set(ret_error, ERROR_DEPLOYMENT, "%llu documents failed", (unsigned long long)failed);
    yyjson_mut_obj_add_uint(job->document, job->answer, "seq", head);
    yyjson_mut_obj_add_uint(job->document, job->answer, "live", live);
    yyjson_mut_obj_add_uint(job->document, job->answer, "indexed", live - failed);
    yyjson_mut_obj_add_uint(job->document, job->answer, "failed", failed);
    return 0;
}

static int answer_flip(struct job *job, int64_t epoch, struct error **ret_error) {
    struct collection_pair pair = {0};
    struct collection_index *indexes = NULL;
    size_t count = 0;
    int result = load(job, &pair, &indexes, &count, NULL, NULL, ret_error);
    yyjson_mut_obj_add_sint(job->document, job->answer, "epoch", epoch);
    if (result >= 0) json_add_text(job->document, job->answer, "source_index_id", pair.source_index_id);
    for (size_t i = 0; i < count; i++)
        if (text_equal(indexes[i].index_id, pair.source_index_id))
            json_add_text(job->document, job->answer, "source_deployment_id", indexes[i].deployment_id);
    collection_pair_clear(&pair);
    collection_indexes_free(indexes, count);
    return result;
}

static int do_flip(struct job *job, struct error **ret_error) {
    const char *task_id = text_of(job, "task_id"), *index_id = text_of(job, "index_id");
    uint64_t head = 0;
    int64_t epoch = 0;
    int result = load(job, NULL, NULL, NULL, &head, NULL, ret_error);
    if (result < 0 || (result = collection_begin_switch(job->collection, task_id, index_id, ret_error)) < 0 ||
        (result = collection_record_durable(job->collection, index_id, head, ret_error)) < 0 ||
        (result = collection_flip(job->collection, task_id, index_id, head, &epoch, ret_error)) < 0)
        return result;
    return answer_flip(job, epoch, ret_error);
}

static int do_abort_switch(struct job *job, struct error **ret_error) {
    struct collection_pair pair = {0};
    int result = load(job, &pair, NULL, NULL, NULL, NULL, ret_error);
    bool flipped = result >= 0 && text_equal(pair.flipped_by, text_of(job, "task_id"));
    collection_pair_clear(&pair);
    yyjson_mut_obj_add_bool(job->document, job->answer, "flipped", flipped);
    if (result < 0 || flipped) return result;
    return collection_abort_switch(job->collection, text_of(job, "task_id"), "its task gave it up", ret_error);
}

static int do_drop_index(struct job *job, struct error **ret_error) {
    bool dropped = false;
    int result = collection_drop_index(job->collection, text_of(job, "index_id"), text_of(job, "state"),
                                       yyjson_get_sint(yyjson_obj_get(job->body, "epoch")), &dropped, ret_error);
    yyjson_mut_obj_add_bool(job->document, job->answer, "dropped", dropped);
    return result;
}

static int do_delete(struct job *job, struct error **ret_error) {
    return collection_mark_deleted(job->collection, ret_error);
}

static int do_open(struct job *job, struct error **ret_error) {
    (void)job, (void)ret_error;
    return 0;
}

static int (*const doers[])(struct job *job, struct error **ret_error) = {
#define ASK(verb) do_##verb,
#include "indexer/asks.def"
#undef ASK
};

static size_t index_of(const char *verb) {
    size_t i = 0;
    while (i < ARRAY_SIZE(verbs) - 1 && strcmp(verbs[i], verb)) i++;
    return i;
}

/* A collection that was marked deleted answers no ask but `delete`. */
static int check_not_deleted(struct job *job, const char *verb, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_facts facts = {0};
    int result = collection_read_begin(job->collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result < 0 || (result = collection_load_facts(read, &facts, ret_error)) < 0) return result;
    bool deleted = facts.deleted;
    collection_facts_clear(&facts);
    if (!deleted || !strcmp(verb, "delete")) return 0;
    return error_set(ret_error, ERROR_CONFLICT, "the collection is being deleted");
}

static int open_collection(struct fake_indexer *fake, const struct ask *ask, struct collection **ret_collection,
                           struct error **ret_error) {
    _cleanup_free_ char *folder = text_format("%s/collections/%s", fake->folder, ask->collection_id);
    if (!fs_exists(folder))
        return error_set(ret_error, ERROR_NOT_FOUND, "there is no collection %s", ask->collection_id);
    return collection_open(folder, COLLECTION_INDEXES, ret_collection, ret_error);
}

static int work(struct fake_indexer *fake, struct ask *ask, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = yyjson_read(ask->body, strlen(ask->body), 0);
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    struct job job = {.fake = fake, .body = yyjson_doc_get_root(body), .document = document};
    job.answer = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, job.answer);
    int result = open_collection(fake, ask, &job.collection, ret_error);
    if (result >= 0) result = check_not_deleted(&job, ask->verb, ret_error);
    if (result >= 0) result = doers[index_of(ask->verb)](&job, ret_error);
    collection_close(job.collection);
    ask->answer = json_write(document, NULL);
    return result;
}

static bool shall_fail(struct fake_indexer *fake, const char *verb, struct error **ret_error) {
    struct failing *failing = &fake->failing[index_of(verb)];
    pthread_mutex_lock(&fake->mutex);
    bool fails = failing->times > 0;
    if (fails) failing->times--;
    pthread_mutex_unlock(&fake->mutex);
    if (fails) error_set(ret_error, failing->class, "%s", failing->message);
    return fails;
}

static void tell_observer(struct fake_indexer *fake, const char *when, const char *verb) {
    pthread_mutex_lock(&fake->mutex);
    void (*on_ask)(const char *, const char *, void *) = fake->on_ask;
    void *context = fake->context;
    pthread_mutex_unlock(&fake->mutex);
    if (on_ask) on_ask(when, verb, context);
}

static void work_off(struct fake_indexer *fake, struct ask *ask) {
    _cleanup_error_ struct error *error = NULL;
    tell_observer(fake, "before", ask->verb);
    pthread_mutex_lock(&fake->writing);
    if (!shall_fail(fake, ask->verb, &error)) work(fake, ask, &error);
    pthread_mutex_unlock(&fake->writing);
    ask->error_json = error ? json_from_error(error) : NULL;
    tell_observer(fake, "done", ask->verb);
}

/* ---- the thread ---- */

/* An ask that is not held, out of the list; with the mutex. */
static struct ask *take_next(struct fake_indexer *fake) {
    for (struct ask **place = &fake->asks; *place; place = &(*place)->next) {
        struct ask *ask = *place;
        const char *held = ask->is_done ? fake->held_answer : fake->held;
        ask->is_held = held && !strcmp(held, ask->verb);
        if (ask->is_held) continue;
        *place = ask->next;
        return ask;
    }
    pthread_cond_broadcast(&fake->changed);
    return NULL;
}

static void put_back(struct fake_indexer *fake, struct ask *ask) {
    struct ask **end = &fake->asks;
    while (*end) end = &(*end)->next;
    ask->next = NULL;
    *end = ask;
}

/* With the mutex, which is let go meanwhile. */
static void tell(struct fake_indexer *fake, const struct wire_message *message) {
    struct indexer_link *link = fake->dead ? NULL : fake->link;
    fake->telling = true;
    pthread_mutex_unlock(&fake->mutex);
    if (link) indexer_link_take(link, message);
    pthread_mutex_lock(&fake->mutex);
    fake->telling = false;
    pthread_cond_broadcast(&fake->changed);
}

static void answer(struct fake_indexer *fake, struct ask *ask) {
    tell(fake, &(struct wire_message){.type = WIRE_indexer_answer,
                                      .indexer_answer = {.request = ask->request,
                                                         .error_json = ask->error_json ? ask->error_json : "",
                                                         .body_json = ask->answer ? ask->answer : "{}"}});
    free_ask(ask);
}

static void *run(void *context) {
    struct fake_indexer *fake = context;
    pthread_mutex_lock(&fake->mutex);
    while (!fake->ending) {
        struct ask *ask = take_next(fake);
        if (!ask) {
            pthread_cond_wait(&fake->changed, &fake->mutex);
            continue;
        }
        if (!ask->is_done) {
            pthread_mutex_unlock(&fake->mutex);
            work_off(fake, ask);
            pthread_mutex_lock(&fake->mutex);
            ask->is_done = true;
        }
        bool holds_answer = fake->held_answer && !strcmp(fake->held_answer, ask->verb);
        if (holds_answer)
            put_back(fake, ask);
        else
            answer(fake, ask);
    }
    pthread_mutex_unlock(&fake->mutex);
    return NULL;
}

/* ---- life ---- */

struct fake_indexer *fake_indexer_new(const char *state_folder) {
    struct fake_indexer *fake = mem_new(struct fake_indexer);
    fake->folder = text_copy(state_folder);
    pthread_mutex_init(&fake->mutex, NULL);
    pthread_mutex_init(&fake->writing, NULL);
    pthread_cond_init(&fake->changed, NULL);
    pthread_create(&fake->thread, NULL, run, fake);
    return fake;
}

static void forget_asks(struct fake_indexer *fake) {
    while (fake->asks) {
        struct ask *ask = fake->asks;
        fake->asks = ask->next;
        free_ask(ask);
    }
}

void fake_indexer_free(struct fake_indexer *fake) {
    pthread_mutex_lock(&fake->mutex);
    fake->ending = true;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->mutex);
    pthread_join(fake->thread, NULL);
    forget_asks(fake);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->writing);
    pthread_mutex_destroy(&fake->mutex);
    free(fake->folder);
    free(fake);
}

int fake_indexer_say(const struct wire_message *message, void *context, struct error **ret_error) {
    struct fake_indexer *fake = context;
    (void)ret_error;
    if (message->type != WIRE_indexer_ask) return 0;
    struct ask *ask = mem_new(struct ask);
    *ask = (struct ask){.request = message->indexer_ask.request,
                        .verb = text_copy(message->indexer_ask.verb),
                        .collection_id = text_copy(message->indexer_ask.collection_id),
                        .body = text_copy(message->indexer_ask.body_json)};
    pthread_mutex_lock(&fake->mutex);
    fake->counts[index_of(ask->verb)].count++;
    if (fake->dead)
        free_ask(ask);
    else
        put_back(fake, ask);
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->mutex);
    return 0;
}

void fake_indexer_attach(struct fake_indexer *fake, struct indexer_link *link) {
    pthread_mutex_lock(&fake->mutex);
    fake->link = link;
    tell(fake, &(struct wire_message){.type = WIRE_indexer_up, .indexer_up = {.pid = 1}});
    pthread_mutex_unlock(&fake->mutex);
}

void fake_indexer_detach(struct fake_indexer *fake) {
    pthread_mutex_lock(&fake->mutex);
    fake->link = NULL;
    forget_asks(fake);
    while (fake->telling) pthread_cond_wait(&fake->changed, &fake->mutex);
    pthread_mutex_unlock(&fake->mutex);
}

/* ---- what tests do to it ---- */

void fake_indexer_die(struct fake_indexer *fake) {
    pthread_mutex_lock(&fake->mutex);
    forget_asks(fake);
    tell(fake, &(struct wire_message){.type = WIRE_indexer_down});
    fake->dead = true;
    pthread_mutex_unlock(&fake->mutex);
}

void fake_indexer_come_back(struct fake_indexer *fake) {
    pthread_mutex_lock(&fake->mutex);
    fake->dead = false;
    tell(fake, &(struct wire_message){.type = WIRE_indexer_up, .indexer_up = {.pid = 2}});
    pthread_mutex_unlock(&fake->mutex);
}

static void set_held(struct fake_indexer *fake, const char *held, const char *held_answer) {
    pthread_mutex_lock(&fake->mutex);
    fake->held = held;
    fake->held_answer = held_answer;
    for (struct ask *ask = fake->asks; ask; ask = ask->next) ask->is_held = false; /* the thread looks anew */
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->mutex);
}

void fake_indexer_hold(struct fake_indexer *fake, const char *verb) {
    set_held(fake, verb, NULL);
}

void fake_indexer_hold_answer(struct fake_indexer *fake, const char *verb) {
    set_held(fake, NULL, verb);
}

void fake_indexer_release(struct fake_indexer *fake) {
    set_held(fake, NULL, NULL);
}

static bool holds_one(const struct fake_indexer *fake) {
    for (const struct ask *ask = fake->asks; ask; ask = ask->next)
        if (ask->is_held) return true;
    return false;
}

bool fake_indexer_wait_held(struct fake_indexer *fake) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&fake->mutex);
    int waited = 0;
    while (!holds_one(fake) && !waited) waited = pthread_cond_timedwait(&fake->changed, &fake->mutex, &until);
    bool held = holds_one(fake);
    pthread_mutex_unlock(&fake->mutex);
    return held;
}

void fake_indexer_fail(struct fake_indexer *fake, const char *verb, enum error_class class, const char *message,
                       size_t times) {
    pthread_mutex_lock(&fake->mutex);
    fake->failing[index_of(verb)] = (struct failing){verb, message, class, times};
    pthread_mutex_unlock(&fake->mutex);
}

void fake_indexer_fail_items(struct fake_indexer *fake, size_t count) {
    pthread_mutex_lock(&fake->mutex);
    fake->failed_items = count;
    pthread_mutex_unlock(&fake->mutex);
}

void fake_indexer_tell_progress(struct fake_indexer *fake, const char *collection_id, const char *index_id,
                                uint64_t done, uint64_t total) {
    pthread_mutex_lock(&fake->mutex);
    tell(fake, &(struct wire_message){.type = WIRE_index_progress,
                                      .index_progress = {.collection_id = collection_id,
                                                         .index_id = index_id,
                                                         .state = "filling",
                                                         .done = done,
                                                         .total = total,
                                                         .rate_milli = 1500}});
    pthread_mutex_unlock(&fake->mutex);
}

size_t fake_indexer_count(struct fake_indexer *fake, const char *verb) {
    pthread_mutex_lock(&fake->mutex);
    size_t count = fake->counts[index_of(verb)].count;
    pthread_mutex_unlock(&fake->mutex);
    return count;
}

void fake_indexer_observe(struct fake_indexer *fake, void (*on_ask)(const char *when, const char *verb, void *context),
                          void *context) {
    pthread_mutex_lock(&fake->mutex);
    fake->on_ask = on_ask;
    fake->context = context;
    pthread_mutex_unlock(&fake->mutex);
}

void fake_indexer_rest(struct fake_indexer *fake) {
    pthread_mutex_lock(&fake->writing);
}

void fake_indexer_go_on(struct fake_indexer *fake) {
    pthread_mutex_unlock(&fake->writing);
}
