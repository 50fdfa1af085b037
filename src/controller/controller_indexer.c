/* Asking the indexer. A question has a number and waits on its asker's thread; the answer comes on the loop thread. A
 * gone indexer does not answer: when it has come back, everything that is still waiting is asked again, which indexer/
 * asks.def makes harmless. While it is gone nothing is said: it would be dropped on the way. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"
#include "wire/wire.h"

#define PROGRESS_MAXIMUM 4096 /* indexes of which the last word is kept */

struct question {
    uint64_t number;
    const struct indexer_question *asked; /* lives on the asker's stack */
    bool answered;
    char *error_json, *body_json;
    struct question *next;
};

struct indexer_link {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int (*say)(const struct wire_message *message, void *context, struct error **ret_error);
    void *context;
    bool is_up;
    uint64_t
        last_number; /* begins where no controller before began: the indexer may still answer that one's questions */
    struct question *waiting;
    struct index_progress *progress; /* a ring: the oldest makes room */
    size_t progress_count, progress_next;
};

struct indexer_link *indexer_link_new(int (*say)(const struct wire_message *message, void *context,
                                                 struct error **ret_error),
                                      void *context) {
    struct indexer_link *link = mem_new(struct indexer_link);
    link->say = say;
    link->context = context;
    link->last_number = clock_monotonic_us() << 16;
    pthread_mutex_init(&link->mutex, NULL);
    pthread_condattr_t kind;
    pthread_condattr_init(&kind);
    pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
    pthread_cond_init(&link->changed, &kind);
    pthread_condattr_destroy(&kind);
    return link;
}

void indexer_link_free(struct indexer_link *link) {
    if (!link) return;
    pthread_cond_destroy(&link->changed);
    pthread_mutex_destroy(&link->mutex);
    free(link->progress);
    free(link);
}

void indexer_link_wake(struct indexer_link *link) {
    if (!link) return;
    pthread_mutex_lock(&link->mutex);
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->mutex);
}

/* ---- what it tells ---- */

/* `say` copies and does not wait, so that the mutex may be held: an answer cannot overtake its question. */
static void say_question(struct indexer_link *link, const struct question *question) {
    const struct indexer_question *asked = question->asked;
    const struct wire_message message = {.type = WIRE_indexer_ask,
                                         .indexer_ask = {.request = question->number,
                                                         .verb = asked->verb,
                                                         .collection_id = asked->collection_id,
                                                         .body_json = asked->body_json ? asked->body_json : "{}"}};
    link->say(&message, link->context, NULL);
}

static void take_up(struct indexer_link *link, bool is_up) {
    link->is_up = is_up;
    for (struct question *question = link->waiting; is_up && question; question = question->next)
        if (!question->answered) say_question(link, question);
}

static void take_answer(struct indexer_link *link, const struct wire_indexer_answer *answer) {
    for (struct question *question = link->waiting; question; question = question->next) {
        if (question->number != answer->request || question->answered) continue;
        question->answered = true;
        question->error_json = *answer->error_json ? text_copy(answer->error_json) : NULL;
        question->body_json = text_copy(*answer->body_json ? answer->body_json : "{}");
    }
}

static struct index_progress *find_progress(struct indexer_link *link, const char *index_id) {
    for (size_t i = 0; i < link->progress_count; i++)
        if (text_equal(link->progress[i].index_id, index_id)) return &link->progress[i];
    return NULL;
}

static struct index_progress *add_progress(struct indexer_link *link) {
    if (link->progress_count < PROGRESS_MAXIMUM) {
        link->progress = mem_resize(link->progress, link->progress_count + 1, sizeof *link->progress);
        return &link->progress[link->progress_count++];
    }
    struct index_progress *oldest = &link->progress[link->progress_next];
    link->progress_next = (link->progress_next + 1) % PROGRESS_MAXIMUM;
    return oldest;
}

static void take_progress(struct indexer_link *link, const struct wire_index_progress *told) {
    struct index_progress fresh = {
        .done = told->done, .total = told->total, .failed = told->failed, .rate = (double)told->rate_milli / 1000};
    if (strlen(told->index_id) >= sizeof fresh.index_id || strlen(told->state) >= sizeof fresh.state) return;
    strcpy(fresh.index_id, told->index_id);
    strcpy(fresh.state, told->state);
    struct index_progress *progress = find_progress(link, told->index_id);
    *(progress ? progress : add_progress(link)) = fresh;
}

bool indexer_link_take(struct indexer_link *link, const struct wire_message *message) {
    bool taken = true;
    pthread_mutex_lock(&link->mutex);
    switch (message->type) {
    case WIRE_indexer_up: take_up(link, true); break;
    case WIRE_indexer_down: take_up(link, false); break;
    case WIRE_indexer_answer: take_answer(link, &message->indexer_answer); break;
    case WIRE_index_progress: take_progress(link, &message->index_progress); break;
    default: taken = false;
    }
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->mutex);
    return taken;
}

bool indexer_link_progress(struct indexer_link *link, const char *index_id, struct index_progress *ret_progress) {
    if (!link) return false;
    pthread_mutex_lock(&link->mutex);
    const struct index_progress *progress = find_progress(link, index_id);
    if (progress) *ret_progress = *progress;
    pthread_mutex_unlock(&link->mutex);
    return progress != NULL;
}

/* ---- asking ---- */

static void enter(struct indexer_link *link, struct question *question) {
    pthread_mutex_lock(&link->mutex);
    question->number = ++link->last_number;
    question->next = link->waiting;
    link->waiting = question;
    if (link->is_up) say_question(link, question);
    pthread_mutex_unlock(&link->mutex);
}

static void leave(struct indexer_link *link, struct question *question) {
    pthread_mutex_lock(&link->mutex);
    struct question **place = &link->waiting;
    while (*place != question) place = &(*place)->next;
    *place = question->next;
    pthread_mutex_unlock(&link->mutex);
}

static bool is_interrupted(const struct question *question) {
    return question->asked->interrupted && atomic_load(question->asked->interrupted);
}

/* What the asker has seen of the index's progress. */
struct watch {
    struct index_progress seen;
    bool any;
    uint64_t moved_ms; /* when `done` grew last */
};

static bool is_same(const struct index_progress *a, const struct index_progress *b) {
    return a->done == b->done && a->total == b->total && a->failed == b->failed && a->rate == b->rate &&
           text_equal(a->state, b->state);
}

static bool is_news(struct indexer_link *link, const struct question *question, const struct watch *watch) {
    const char *index_id = question->asked->index_id;
    const struct index_progress *progress = index_id ? find_progress(link, index_id) : NULL;
    return progress && (!watch->any || !is_same(progress, &watch->seen));
}

enum heard { HEARD_NOTHING, HEARD_NEWS, HEARD_ANSWER };

/* Until there is an answer, an interruption, news of the index, or the time has come. *ret_progress: the news. */
static enum heard listen_until(struct indexer_link *link, struct question *question, const struct watch *watch,
                               uint64_t until_ms, struct index_progress *ret_progress) {
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000), .tv_nsec = (long)(until_ms % 1000) * 1000000};
    pthread_mutex_lock(&link->mutex);
    while (!question->answered && !is_interrupted(question) && !is_news(link, question, watch))
        if (pthread_cond_timedwait(&link->changed, &link->mutex, &until)) break;
    enum heard heard = question->answered ? HEARD_ANSWER : is_news(link, question, watch) ? HEARD_NEWS : HEARD_NOTHING;
    if (heard == HEARD_NEWS) *ret_progress = *find_progress(link, question->asked->index_id);
    pthread_mutex_unlock(&link->mutex);
    return heard;
}

static int say_stalled(const struct question *question, const struct watch *watch, struct error **ret_error) {
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "no progress for %llu s: %llu of %llu documents are indexed (%llu failed); the index is %s",
                     (unsigned long long)(question->asked->stall_ms / 1000), (unsigned long long)watch->seen.done,
                     (unsigned long long)watch->seen.total, (unsigned long long)watch->seen.failed,
                     watch->any ? watch->seen.state : "not heard of");
}

static int say_unanswered(struct indexer_link *link, const struct question *question, struct error **ret_error) {
    pthread_mutex_lock(&link->mutex);
    bool is_up = link->is_up;
    pthread_mutex_unlock(&link->mutex);
    error_set(ret_error, ERROR_UNAVAILABLE, "the indexer has not answered within %llu s%s",
              (unsigned long long)(question->asked->timeout_ms / 1000), is_up ? "" : ": it is not running");
    return ret_error ? error_mark_transient(ret_error) : -ERROR_UNAVAILABLE;
}

static int wait_for_answer(struct indexer_link *link, struct question *question, struct error **ret_error) {
    const struct indexer_question *asked = question->asked;
    uint64_t now = clock_monotonic_ms(), deadline = now + asked->timeout_ms;
    struct watch watch = {.moved_ms = now};
    for (;;) {
        uint64_t stall = asked->stall_ms ? watch.moved_ms + asked->stall_ms : UINT64_MAX;
        struct index_progress progress;
        enum heard heard = listen_until(link, question, &watch, stall < deadline ? stall : deadline, &progress);
        if (heard == HEARD_ANSWER) return 0;
        if (is_interrupted(question)) return error_set(ret_error, ERROR_UNAVAILABLE, "it was interrupted");
        now = clock_monotonic_ms();
        if (heard == HEARD_NEWS) {
            if (!watch.any || progress.done != watch.seen.done) watch.moved_ms = now;
            watch.seen = progress;
            watch.any = true;
            if (asked->on_progress) asked->on_progress(&progress, asked->context);
        } else if (now >= stall) {
            return say_stalled(question, &watch, ret_error);
        } else if (now >= deadline) {
            return say_unanswered(link, question, ret_error);
        }
    }
}

static int take_result(struct question *question, char **ret_body, struct error **ret_error) {
    if (!question->error_json) {
        if (ret_body) *ret_body = TAKE(question->body_json);
        return 0;
    }
    struct error *error = json_to_error(question->error_json);
    if (!error) return error_set(ret_error, ERROR_DEPLOYMENT, "the indexer's error cannot be read");
    int result = -(int)error->class;
    if (error->class == ERROR_UNAVAILABLE) error_mark_transient(&error);
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

int indexer_link_ask(struct indexer_link *link, const struct indexer_question *asked, char **ret_body,
                     struct error **ret_error) {
    struct question question = {.asked = asked};
    enter(link, &question);
    int result = wait_for_answer(link, &question, ret_error);
    leave(link, &question);
    if (result >= 0) result = take_result(&question, ret_body, ret_error);
    free(question.error_json);
    free(question.body_json);
    return result < 0 ? error_wrap(ret_error, "%s", asked->verb) : 0;
}
