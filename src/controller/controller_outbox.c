/* Events of the collections, copied to the control database by their ids (S4): the events and how far they were copied
 * are one transaction, so that none comes twice and none is left out. One thread for all collections; it sleeps until
 * it is told of news. What cannot be copied now is tried again a little later.
 *
 * The same thread first removes what a kill left of collections that were being made or removed: folders that no row
 * names. Which these are is settled before the API answers. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

#define PAGE 200
#define RETRY_MS 2000
#define ASK_TIMEOUT_MS 10000

struct noted {
    char *text;
    struct noted *next;
};

struct outbox {
    struct controller *controller;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    struct noted *collections, *folders; /* ids with news; leftovers, names in <state>/collections */
    atomic_bool stopping;
    bool started;
};

static void add(struct noted **list, const char *text) {
    for (; *list; list = &(*list)->next)
        if (text_equal((*list)->text, text)) return;
    *list = mem_new(struct noted);
    (*list)->text = text_copy(text);
}

/* The first one's text, which the caller frees, or NULL. */
static char *take_first(struct noted **list) {
    struct noted *first = *list;
    if (!first) return NULL;
    char *text = first->text;
    *list = first->next;
    free(first);
    return text;
}

void outbox_note(struct outbox *outbox, const char *collection_id) {
    if (!outbox) return;
    pthread_mutex_lock(&outbox->mutex);
    add(&outbox->collections, collection_id);
    pthread_cond_broadcast(&outbox->changed);
    pthread_mutex_unlock(&outbox->mutex);
}

/* ---- copying ---- */

static int read_events(struct outbox *outbox, const struct catalog_entry *entry, struct collection_event **ret_events,
                       size_t *ret_count, struct error **ret_error) {
    _cleanup_free_ char *folder = catalog_folder(outbox->controller, entry->id);
    struct collection *collection = NULL;
    struct collection_read *read = NULL;
    int result = collection_open(folder, COLLECTION_READS, &collection, ret_error);
    if (result >= 0) result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0) result = collection_list_events(read, entry->outbox_id, PAGE, ret_events, ret_count, ret_error);
    collection_read_end(read);
    collection_close(collection);
    return result;
}

static int insert_event(struct store_transaction *tx, const struct catalog_entry *entry,
                        const struct collection_event *event, struct error **ret_error) {
    _cleanup_free_ char *words = text_format("collection %s: %s", entry->name, event->message);
    _cleanup_free_ char *kind = text_format("collection_%s", event->kind);
    return store_run(tx, NULL, ret_error,
                     "INSERT INTO events (at, deployment_id, task_id, kind, message, data_json) VALUES (?, NULL, ?, ?, "
                     "?, ?)",
                     "itttt", event->at, event->task_id, kind, words, event->data_json);
}

static int insert_events(struct outbox *outbox, const struct catalog_entry *entry,
                         const struct collection_event *events, size_t count, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(outbox->controller->store, &tx, ret_error);
    for (size_t i = 0; i < count && result >= 0; i++) result = insert_event(tx, entry, &events[i], ret_error);
    if (result < 0 || (result = store_run(tx, NULL, ret_error, "UPDATE collections SET outbox_id = ? WHERE id = ?",
                                          "it", events[count - 1].id, entry->id)) < 0)
        return result;
    if ((result = store_commit(TAKE(tx), ret_error)) >= 0) api_changed(outbox->controller->api);
    return result;
}

static int load_entry(struct outbox *outbox, const char *id, struct catalog_entry *ret_entry,
                      struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(outbox->controller->store, &tx, ret_error);
    return result < 0 ? result : catalog_find(tx, id, ret_entry, ret_error);
}

/* 1: there may be more. */
static int copy_page(struct outbox *outbox, const char *id, struct error **ret_error) {
    _cleanup_entry_ struct catalog_entry entry = {0};
    struct collection_event *events = NULL;
    size_t count = 0;
    int result = load_entry(outbox, id, &entry, ret_error);
    if (result < 0 || (result = read_events(outbox, &entry, &events, &count, ret_error)) < 0) return result;
    if (count) result = insert_events(outbox, &entry, events, count, ret_error);
    collection_events_free(events, count);
    return result < 0 ? result : count == PAGE;
}

/* False: to be tried again later. */
static bool copy(struct outbox *outbox, const char *id) {
    _cleanup_error_ struct error *error = NULL;
    int result;
    do result = copy_page(outbox, id, &error);
    while (result > 0);
    /* Its collection is gone, or on its way: so are its events. */
    return result >= 0 || reindex_is_gone(error);
}

/* ---- leftovers ---- */

static void remove_leftover(struct outbox *outbox, const char *name) {
    _cleanup_free_ char *root = catalog_root(outbox->controller);
    _cleanup_error_ struct error *error = NULL;
    int result = 0;
    if (text_is_uuid(name)) {
        /* The indexer may have opened it: it is to let go first. If it does not answer, it finds the folder gone. */
        const struct indexer_question question = {
            .verb = "delete", .collection_id = name, .timeout_ms = ASK_TIMEOUT_MS, .interrupted = &outbox->stopping};
        indexer_link_ask(outbox->controller->indexer, &question, NULL, NULL);
        if (atomic_load(&outbox->stopping)) return; /* the next start does it */
        result = collection_remove(root, name, &error);
    } else {
        _cleanup_free_ char *path = fs_join(root, name);
        result = fs_remove_tree(path, &error);
    }
    _cleanup_free_ char *text = error ? error_text(error) : NULL;
    log_write(result < 0 ? LOG_WARNING : LOG_INFO, "a folder that belongs to no collection is removed", "folder", name,
              "error", text, NULL);
}

static bool has_row(const struct catalog_entry *entries, size_t count, const char *id) {
    for (size_t i = 0; i < count; i++)
        if (text_equal(entries[i].id, id)) return true;
    return false;
}

static void find_leftovers(struct outbox *outbox, const struct catalog_entry *entries, size_t count) {
    _cleanup_free_ char *root = catalog_root(outbox->controller);
    DIR *folder = opendir(root);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        const char *name = entry->d_name;
        bool is_half = text_starts_with(name, ".new-") || text_starts_with(name, ".gone-");
        if (is_half || (text_is_uuid(name) && !has_row(entries, count, name))) add(&outbox->folders, name);
    }
    if (folder) closedir(folder);
}

/* ---- the thread ---- */

static struct timespec timespec_of(uint64_t monotonic_ms) {
    return (struct timespec){.tv_sec = (time_t)(monotonic_ms / 1000), .tv_nsec = (long)(monotonic_ms % 1000) * 1000000};
}

/* Waits for news; when something is to be tried again, not for longer than that. */
static void wait_for_news(struct outbox *outbox, const struct noted *later) {
    struct timespec until = timespec_of(clock_monotonic_ms() + RETRY_MS);
    while (!outbox->collections && !outbox->folders && !atomic_load(&outbox->stopping)) {
        if (!later)
            pthread_cond_wait(&outbox->changed, &outbox->mutex);
        else if (pthread_cond_timedwait(&outbox->changed, &outbox->mutex, &until))
            break;
    }
}

static void *run(void *context) {
    struct outbox *outbox = context;
    struct noted *later = NULL;
    while (!atomic_load(&outbox->stopping)) {
        pthread_mutex_lock(&outbox->mutex);
        wait_for_news(outbox, later);
        char *folder = take_first(&outbox->folders), *id = folder ? NULL : take_first(&outbox->collections);
        for (char *again; !folder && !id && (again = take_first(&later)); free(again)) add(&outbox->collections, again);
        pthread_mutex_unlock(&outbox->mutex);
        if (folder) remove_leftover(outbox, folder);
        if (id && !copy(outbox, id)) add(&later, id);
        free(folder);
        free(id);
    }
    for (char *text; (text = take_first(&later));) free(text);
    return NULL;
}

/* ---- life ---- */

static int list_all(struct outbox *outbox, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    int64_t total = 0;
    int result = store_begin(outbox->controller->store, &tx, ret_error);
    if (result < 0 || (result = catalog_list(tx, 0, 0, &entries, &count, &total, ret_error)) < 0) return result;
    pthread_mutex_lock(&outbox->mutex);
    find_leftovers(outbox, entries, count);
    for (size_t i = 0; i < count; i++) add(&outbox->collections, entries[i].id);
    pthread_mutex_unlock(&outbox->mutex);
    catalog_list_free(entries, count);
    return 0;
}

static void clear(struct outbox *outbox) {
    for (char *text; (text = take_first(&outbox->collections));) free(text);
    for (char *text; (text = take_first(&outbox->folders));) free(text);
    pthread_cond_destroy(&outbox->changed);
    pthread_mutex_destroy(&outbox->mutex);
    free(outbox);
}

struct outbox *outbox_new(struct controller *controller) {
    struct outbox *outbox = mem_new(struct outbox);
    outbox->controller = controller;
    pthread_mutex_init(&outbox->mutex, NULL);
    pthread_condattr_t kind;
    pthread_condattr_init(&kind);
    pthread_condattr_setclock(&kind, CLOCK_MONOTONIC);
    pthread_cond_init(&outbox->changed, &kind);
    pthread_condattr_destroy(&kind);
    return outbox;
}

int outbox_start(struct outbox *outbox, struct error **ret_error) {
    int result = list_all(outbox, ret_error);
    if (result < 0) return result;
    int failed = pthread_create(&outbox->thread, NULL, run, outbox);
    if (failed) return error_set_errno(ret_error, ERROR_UNAVAILABLE, failed, "start the thread that copies events");
    outbox->started = true;
    return 0;
}

void outbox_free(struct outbox *outbox) {
    if (!outbox) return;
    pthread_mutex_lock(&outbox->mutex);
    atomic_store(&outbox->stopping, true);
    pthread_cond_broadcast(&outbox->changed);
    pthread_mutex_unlock(&outbox->mutex);
    indexer_link_wake(outbox->controller->indexer);
    if (outbox->started) pthread_join(outbox->thread, NULL);
    clear(outbox);
}
