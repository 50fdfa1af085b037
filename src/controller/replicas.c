/* Who runs: what the target has told of each replica, for the steps that wait and for whoever asks. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"

struct entry {
    char *id;
    struct replica_view view;
    struct entry *next;
};

/* A few hundred at most: a list is enough. */
struct replicas {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct entry *entries;
    uint64_t version;
    bool synced;
    void (*on_change)(const char *replica_id, void *context);
    void *context;
};

struct replicas *replicas_new(void) {
    struct replicas *replicas = mem_new(struct replicas);
    pthread_mutex_init(&replicas->mutex, NULL);
    pthread_condattr_t kind;
    pthread_condattr_init(&kind);
    pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
    pthread_cond_init(&replicas->changed, &kind);
    pthread_condattr_destroy(&kind);
    return replicas;
}

void replica_view_clear(struct replica_view *view) {
    free(view->address);
    free(view->death);
    free(view->report_json);
    free(view->cause);
    free(view->error_json);
    free(view->log_tail);
    *view = (struct replica_view){0};
}

static void free_entry(struct entry *entry) {
    replica_view_clear(&entry->view);
    free(entry->id);
    free(entry);
}

void replicas_free(struct replicas *replicas) {
    if (!replicas) return;
    while (replicas->entries) {
        struct entry *entry = replicas->entries;
        replicas->entries = entry->next;
        free_entry(entry);
    }
    pthread_cond_destroy(&replicas->changed);
    pthread_mutex_destroy(&replicas->mutex);
    free(replicas);
}

void replicas_observe(struct replicas *replicas, void (*on_change)(const char *replica_id, void *context),
                      void *context) {
    pthread_mutex_lock(&replicas->mutex);
    replicas->on_change = on_change;
    replicas->context = context;
    pthread_mutex_unlock(&replicas->mutex);
}

static struct entry *find(struct replicas *replicas, const char *id) {
    for (struct entry *entry = replicas->entries; entry; entry = entry->next)
        if (text_equal(entry->id, id)) return entry;
    return NULL;
}

static struct entry *find_or_add(struct replicas *replicas, const char *id) {
    struct entry *entry = find(replicas, id);
    if (entry) return entry;
    entry = mem_new(struct entry);
    entry->id = text_copy(id);
    entry->view.known = true;
    entry->next = replicas->entries;
    replicas->entries = entry;
    return entry;
}

static void replace(char **text, const char *with) {
    free(*text);
    *text = with && *with ? text_copy(with) : NULL;
}

static void apply(struct replica_view *view, const struct target_event *event) {
    /* A late word about a former incarnation changes nothing; a final one always counts. */
    if (event->incarnation < view->incarnation && !event->final) return;
    view->incarnation = event->incarnation > view->incarnation ? event->incarnation : view->incarnation;
    view->restarts = event->restarts;
    view->up = event->kind == TARGET_UP;
    view->final_down = event->kind == TARGET_DOWN && event->final;
    if (event->kind != TARGET_DOWN) view->pid = event->pid;
    if (event->kind == TARGET_UP) {
        replace(&view->address, event->address);
        replace(&view->report_json, event->report_json);
        replace(&view->cause, NULL);
        replace(&view->error_json, NULL);
        replace(&view->log_tail, NULL);
        view->came_news = ++view->news;
    } else if (event->kind == TARGET_DOWN) {
        view->pid = 0;
        replace(&view->death, event->cause);
        view->death_news = ++view->news;
        view->came_news = 0;
        replace(&view->cause, event->cause);
        replace(&view->error_json, event->error_json);
        replace(&view->log_tail, event->log_tail);
    }
}

void replicas_take_event(struct replicas *replicas, const struct target_event *event) {
    pthread_mutex_lock(&replicas->mutex);
    if (event->kind == TARGET_SYNCED)
        replicas->synced = true;
    else
        apply(&find_or_add(replicas, event->replica_id)->view, event);
    replicas->version++;
    pthread_cond_broadcast(&replicas->changed);
    void (*on_change)(const char *, void *) = event->kind == TARGET_SYNCED ? NULL : replicas->on_change;
    void *context = replicas->context;
    pthread_mutex_unlock(&replicas->mutex);
    if (on_change) on_change(event->replica_id, context);
}

void replicas_expect(struct replicas *replicas, const char *replica_id) {
    pthread_mutex_lock(&replicas->mutex);
    struct entry *entry = find_or_add(replicas, replica_id);
    if (entry->view.final_down) {
        uint64_t incarnation = entry->view.incarnation;
        replica_view_clear(&entry->view);
        entry->view.known = true;
        entry->view.incarnation = incarnation;
    }
    pthread_mutex_unlock(&replicas->mutex);
}

void replicas_forget(struct replicas *replicas, const char *replica_id) {
    pthread_mutex_lock(&replicas->mutex);
    for (struct entry **link = &replicas->entries; *link; link = &(*link)->next) {
        if (!text_equal((*link)->id, replica_id)) continue;
        struct entry *entry = *link;
        *link = entry->next;
        free_entry(entry);
        break;
    }
    replicas->version++;
    pthread_cond_broadcast(&replicas->changed);
    pthread_mutex_unlock(&replicas->mutex);
}

bool replicas_is_synced(struct replicas *replicas) {
    pthread_mutex_lock(&replicas->mutex);
    bool synced = replicas->synced;
    pthread_mutex_unlock(&replicas->mutex);
    return synced;
}

void replicas_get(struct replicas *replicas, const char *replica_id, struct replica_view *ret_view) {
    *ret_view = (struct replica_view){0};
    pthread_mutex_lock(&replicas->mutex);
    const struct entry *entry = find(replicas, replica_id);
    if (entry) {
        *ret_view = entry->view;
        ret_view->address = text_copy(entry->view.address);
        ret_view->death = text_copy(entry->view.death);
        ret_view->report_json = text_copy(entry->view.report_json);
        ret_view->cause = text_copy(entry->view.cause);
        ret_view->error_json = text_copy(entry->view.error_json);
        ret_view->log_tail = text_copy(entry->view.log_tail);
    }
    pthread_mutex_unlock(&replicas->mutex);
}

void replicas_told(struct replicas *replicas, const char *replica_id, uint64_t news) {
    pthread_mutex_lock(&replicas->mutex);
    struct entry *entry = find(replicas, replica_id);
    if (entry && entry->view.death_news <= news) {
        replace(&entry->view.death, NULL);
        entry->view.death_news = 0;
    }
    if (entry && entry->view.came_news <= news) entry->view.came_news = 0;
    pthread_mutex_unlock(&replicas->mutex);
}

size_t replicas_count_up(struct replicas *replicas, const char *const *replica_ids, size_t count) {
    size_t up = 0;
    pthread_mutex_lock(&replicas->mutex);
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = find(replicas, replica_ids[i]);
        if (entry && entry->view.up) up++;
    }
    pthread_mutex_unlock(&replicas->mutex);
    return up;
}

char **replicas_list(struct replicas *replicas, size_t *ret_count) {
    char **ids = NULL;
    size_t count = 0;
    pthread_mutex_lock(&replicas->mutex);
    for (const struct entry *entry = replicas->entries; entry; entry = entry->next) {
        if (entry->view.final_down) continue;
        ids = mem_resize(ids, count + 1, sizeof *ids);
        ids[count++] = text_copy(entry->id);
    }
    pthread_mutex_unlock(&replicas->mutex);
    *ret_count = count;
    return ids;
}

uint64_t replicas_version(struct replicas *replicas) {
    pthread_mutex_lock(&replicas->mutex);
    uint64_t version = replicas->version;
    pthread_mutex_unlock(&replicas->mutex);
    return version;
}

bool replicas_wait_change(struct replicas *replicas, uint64_t version, uint64_t deadline_ms,
                          const atomic_bool *interrupted) {
    struct timespec until = {.tv_sec = (time_t)(deadline_ms / 1000), .tv_nsec = (long)(deadline_ms % 1000) * 1000000};
    pthread_mutex_lock(&replicas->mutex);
    while (replicas->version == version && !atomic_load(interrupted))
        if (pthread_cond_timedwait(&replicas->changed, &replicas->mutex, &until)) break;
    bool changed = replicas->version != version && !atomic_load(interrupted);
    pthread_mutex_unlock(&replicas->mutex);
    return changed;
}

void replicas_wake(struct replicas *replicas) {
    pthread_mutex_lock(&replicas->mutex);
    replicas->version++;
    pthread_cond_broadcast(&replicas->changed);
    pthread_mutex_unlock(&replicas->mutex);
}

/* ---- last words ---- */

static bool has_word(const char *text, const char *word) {
    return text && strcasestr(text, word) != NULL;
}

/* How allocators and runtimes say it. What the supervisor found out stands in the cause already. */
static bool looks_out_of_memory(const struct replica_view *view) {
    static const char *const words[] = {"out of memory", "bad_alloc", "cannot allocate memory", "failed to allocate"};
    if (has_word(view->cause, words[0])) return false;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (has_word(view->log_tail, words[i]) || has_word(view->error_json, words[i])) return true;
    return false;
}

/* The last `count` lines without the final newline; caller frees. */
static char *last_lines(const char *text, int count) {
    size_t end = strlen(text);
    while (end && text[end - 1] == '\n') end--;
    size_t begin = end;
    for (; begin; begin--)
        if (text[begin - 1] == '\n' && --count == 0) break;
    return text_copy_bytes(text + begin, end - begin);
}

struct error *replica_last_words(const char *replica_id, const struct replica_view *view) {
    struct error *error = NULL;
    if (view->log_tail) {
        _cleanup_free_ char *lines = last_lines(view->log_tail, 5);
        error_set(&error, ERROR_DEPLOYMENT, "its last lines: %s", lines);
    }
    struct error *said = view->error_json ? json_to_error(view->error_json) : NULL;
    if (said) {
        struct error *innermost = said;
        while (innermost->cause) innermost = innermost->cause;
        innermost->cause = error;
        error = said;
    }
    if (looks_out_of_memory(view)) {
        const char *text = "out of memory: give it more with resource_allocation.memory";
        if (error)
            error_wrap(&error, "%s", text);
        else
            error_set(&error, ERROR_DEPLOYMENT, "%s", text);
    }
    const char *cause = view->cause ? view->cause : "it is gone";
    const char *times = view->restarts ? " and will not be started again" : "";
    if (error)
        error_wrap(&error, "replica %s: %s%s", replica_id, cause, times);
    else
        error_set(&error, ERROR_DEPLOYMENT, "replica %s: %s%s", replica_id, cause, times);
    for (struct error *layer = error; layer; layer = layer->cause) layer->class = ERROR_DEPLOYMENT;
    return error;
}
