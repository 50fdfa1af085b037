/* One moment of a control database and of all collections that it names.
 *
 * The read transactions are begun one after the other. If nobody has committed to the control database between the
 * first and the last, it said the same all that time; so for each collection there was a moment at which both were as
 * the two transactions see them. Collections have nothing to do with each other, so that is enough. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "state/state-internal.h"

#define TRIES 60
#define PAUSE_LONGEST_MS 250

int state_each_row(struct store_transaction *tx, const char *sql,
                   int (*take)(void *context, struct store_rows *rows, struct error **ret_error), void *context,
                   struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, sql, "");
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0)
        if ((result = take(context, rows, ret_error)) < 0) return result;
    return result;
}

/* ---- one collection ---- */

void state_collection_release(struct state_collection *entry) {
    for (size_t set = 0; set < 2; set++) collection_read_end(TAKE(entry->reads[set]));
}

static void end_reads(struct state_collection *entry) {
    state_collection_release(entry);
    error_free(TAKE(entry->error));
}

static void clear_entry(struct state_collection *entry) {
    end_reads(entry);
    collection_close(entry->collection);
    free(entry->name);
    free(entry->state);
    *entry = (struct state_collection){0};
}

static int open_entry(const struct state_cut *cut, struct state_collection *entry, struct error **ret_error) {
    _cleanup_free_ char *root = fs_join(cut->folder, "collections"), *folder = fs_join(root, entry->id);
    if (entry->collection) return 0;
    if (!fs_exists(folder))
        return error_set(ret_error, ERROR_NOT_FOUND, "the folder %s of the collection %s is not there", folder,
                         entry->name);
    return collection_open(folder, COLLECTION_READS, &entry->collection, ret_error);
}

static int begin_reads(const struct state_cut *cut, struct state_collection *entry, struct error **ret_error) {
    int result = open_entry(cut, entry, ret_error);
    if (!result)
        result = collection_read_begin(entry->collection, COLLECTION_DOCUMENTS, &entry->reads[COLLECTION_DOCUMENTS],
                                       ret_error);
    if (!result && collection_keeps_queries(entry->collection))
        result =
            collection_read_begin(entry->collection, COLLECTION_QUERIES, &entry->reads[COLLECTION_QUERIES], ret_error);
    return result;
}

/* ---- all of them ---- */

/* A connection that is open from the try before is used again. */
static int take_row(void *context, struct store_rows *rows, struct error **ret_error) {
    struct state_cut *list = context;
    const char *id = store_text(rows, 0);
    if (!text_is_uuid(id)) return error_set(ret_error, ERROR_DEPLOYMENT, "a collection has the id \"%.64s\"", id);
    list->collections = mem_resize(list->collections, list->count + 1, sizeof *list->collections);
    struct state_collection *entry = &list->collections[list->count++];
    *entry = (struct state_collection){.name = store_text_copy(rows, 1), .state = store_text_copy(rows, 2)};
    memcpy(entry->id, id, sizeof entry->id);
    return 0;
}

static void clear_list(struct state_cut *list) {
    for (size_t i = 0; i < list->count; i++) clear_entry(&list->collections[i]);
    free(list->collections);
    list->collections = NULL;
    list->count = 0;
}

static void keep_connections(struct state_cut *cut, struct state_cut *former) {
    for (size_t i = 0; i < cut->count; i++)
        for (size_t j = 0; j < former->count && !cut->collections[i].collection; j++)
            if (!strcmp(cut->collections[i].id, former->collections[j].id))
                cut->collections[i].collection = TAKE(former->collections[j].collection);
}

static int list_collections(struct state_cut *cut, struct error **ret_error) {
    struct state_cut former = {.collections = cut->collections, .count = cut->count};
    cut->collections = NULL;
    cut->count = 0;
    int result =
        state_each_row(cut->tx, "SELECT id, name, state FROM collections ORDER BY id", take_row, cut, ret_error);
    if (!result) keep_connections(cut, &former);
    clear_list(&former);
    return result;
}

/* Errors stay with their collections: they count only when the control database stood still meanwhile. */
static int try_once(struct state_cut *cut, bool *ret_stood_still, struct error **ret_error) {
    int64_t before = 0, after = 0;
    int result = store_get_changes(cut->watch, &before, ret_error);
    if (!result) result = store_begin(cut->control, &cut->tx, ret_error);
    if (!result) result = list_collections(cut, ret_error);
    for (size_t i = 0; i < cut->count && !result; i++) {
        begin_reads(cut, &cut->collections[i], &cut->collections[i].error);
        if (!i) pause_point("backup_cutting");
    }
    if (!result) result = store_get_changes(cut->watch, &after, ret_error);
    *ret_stood_still = before == after;
    return result;
}

static int judge_errors(struct state_cut *cut, struct error **ret_error) {
    for (size_t i = 0; i < cut->count && !cut->tolerant; i++) {
        struct state_collection *entry = &cut->collections[i];
        bool has_gone = entry->error && entry->error->class == ERROR_NOT_FOUND && strcmp(entry->state, "active") != 0;
        if (!entry->error || has_gone) continue;
        if (ret_error) *ret_error = TAKE(entry->error);
        return error_wrap(ret_error, "read the collection %s", entry->name);
    }
    return 0;
}

void state_cut_release(struct state_cut *cut) {
    for (size_t i = 0; i < cut->count; i++) end_reads(&cut->collections[i]);
    store_rollback(TAKE(cut->tx));
}

static void pause_for(int tries) {
    long ms = 5L * tries < PAUSE_LONGEST_MS ? 5L * tries : PAUSE_LONGEST_MS;
    const struct timespec pause = {.tv_nsec = ms * 1000 * 1000};
    nanosleep(&pause, NULL);
}

int state_cut_take(struct state_cut *cut, struct error **ret_error) {
    for (int tries = 1; tries <= TRIES; tries++) {
        bool stood_still = false;
        state_cut_release(cut);
        int result = try_once(cut, &stood_still, ret_error);
        if (result < 0) return result;
        if (stood_still) return judge_errors(cut, ret_error);
        pause_for(tries);
    }
    state_cut_release(cut);
    int result = error_set(ret_error, ERROR_UNAVAILABLE,
                           "take one moment of %s: in %d tries the service never left its records alone for long "
                           "enough; try again when it does less",
                           cut->folder, TRIES);
    error_mark_transient(ret_error);
    return result;
}

/* ---- opening ---- */

/* Six files a collection are open at once. */
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int open_control(const char *path, struct store **ret_store, struct error **ret_error) {
    const struct store_options options = {.schema = store_control_schema(), .role = STORE_READER, .any_version = true};
    return store_open_as(path, &options, ret_store, ret_error);
}

int state_cut_open(const char *folder, bool tolerant, struct state_cut **ret_cut, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, "control.db");
    if (!fs_exists(path))
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "%s is no state folder of Slipway: there is no control.db in it; name another one with --state", folder);
    raise_descriptor_limit();
    struct state_cut *cut = mem_new(struct state_cut);
    *cut = (struct state_cut){.folder = text_copy(folder), .tolerant = tolerant};
    int result = open_control(path, &cut->control, ret_error);
    if (!result) result = open_control(path, &cut->watch, ret_error);
    if (!result) result = state_cut_take(cut, ret_error);
    if (result < 0) {
        state_cut_close(cut);
        return result;
    }
    *ret_cut = cut;
    return 0;
}

void state_cut_close(struct state_cut *cut) {
    if (!cut) return;
    state_cut_release(cut);
    clear_list(cut);
    store_close(cut->control);
    store_close(cut->watch);
    free(cut->folder);
    free(cut);
}
