/* Writing a backup.
 *
 * Packages are large and never change, so they are copied first, while nothing of the service's is held up; then the
 * databases, from transactions that are open no longer than that takes (while they are, the logs of the databases
 * cannot be begun anew, and grow by what is written). Between the two new packages may come and others go: then the
 * moment is taken anew, and only what is lacking is copied. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "slipway_version.h"
#include "state/state-internal.h"

#define ROUNDS 20
#define ROUNDS_PACKAGES_FIRST 4 /* then a round copies what it lacks after the databases */

void state_summary_clear(struct state_summary *summary) {
    for (size_t i = 0; i < summary->missing_count; i++) free(summary->missing[i]);
    free(summary->missing);
    free(summary->folder);
    free(summary->created_at);
    *summary = (struct state_summary){0};
}

void state_summary_add_missing(struct state_summary *summary, char *sentence) {
    summary->missing = mem_resize(summary->missing, summary->missing_count + 1, sizeof *summary->missing);
    summary->missing[summary->missing_count++] = sentence;
}

void state_count(struct state_counter *counter, uint64_t bytes) {
    counter->done_bytes += bytes;
    if (counter->progress)
        counter->progress->tell(counter->progress->context, counter->what, counter->done_bytes, counter->total_bytes);
}

/* ---- databases ---- */

struct writing {
    const struct state_backup *backup;
    const struct state_part *part;
    struct manifest *manifest;
    const char *saying; /* which database, for whoever waits */
};

static void tell_copied(void *context, uint64_t done_bytes, uint64_t total_bytes) {
    const struct writing *writing = context;
    const struct state_progress *progress = writing->backup->progress;
    if (progress) progress->tell(progress->context, writing->saying, done_bytes, total_bytes);
}

/* One database into the new file at `path`, which is relative to the backup. */
static int write_database(struct writing *writing, const char *path, struct store_transaction *control,
                          struct collection_read *read, struct error **ret_error) {
    _cleanup_free_ char *target = fs_join(writing->part->path, path), *folder = state_parent(target);
    struct store_progress progress = {tell_copied, writing};
    char sha256[DIGEST_HEX_SIZE];
    uint64_t size_bytes = 0;
    int result = fs_make_folders(folder, ret_error);
    if (!result)
        result = control ? store_copy(control, target, &progress, ret_error)
                         : collection_copy(read, target, &progress, ret_error);
    if (!result) result = state_hash_file(writing->part->path, path, &size_bytes, sha256, ret_error);
    if (!result) manifest_add_file(writing->manifest, path, size_bytes, sha256);
    return result;
}

static int describe_collection(struct writing *writing, const struct state_collection *entry,
                               struct error **ret_error) {
    struct collection_read *documents = entry->reads[COLLECTION_DOCUMENTS];
    struct collection_read *queries = entry->reads[COLLECTION_QUERIES];
    struct manifest_collection *collection = manifest_add_collection(writing->manifest, entry->id, entry->name);
    collection->head = collection_head(documents);
    collection->live = collection_live(documents);
    collection->keep_queries = queries != NULL;
    collection->query_head = queries ? collection_head(queries) : 0;
    return collection_version(documents, &writing->manifest->collection_version, ret_error);
}

static int write_collection(struct writing *writing, const struct state_collection *entry, struct error **ret_error) {
    if (entry->error) return 0; /* its folder has gone, and its row is about to */
    writing->saying = entry->name;
    int result = describe_collection(writing, entry, ret_error);
    for (int set = 0; set < 2 && !result; set++) {
        if (!entry->reads[set]) continue;
        _cleanup_free_ char *path = text_format("collections/%s/%s", entry->id, collection_file_name(set));
        result = write_database(writing, path, NULL, entry->reads[set], ret_error);
    }
    return result < 0 ? error_wrap(ret_error, "copy the collection %s", entry->name) : 0;
}

/* What a round before this one wrote. */
static int clear_databases(struct writing *writing, struct error **ret_error) {
    _cleanup_free_ char *control = fs_join(writing->part->path, "control.db");
    _cleanup_free_ char *collections = fs_join(writing->part->path, "collections");
    int result = fs_remove_tree(control, ret_error);
    if (!result) result = fs_remove_tree(collections, ret_error);
    struct manifest *manifest = writing->manifest;
    manifest_drop_files(manifest, "control.db");
    manifest_drop_files(manifest, "collections/");
    for (size_t i = 0; i < manifest->collection_count; i++) free(manifest->collections[i].name);
    manifest->collection_count = 0;
    free(TAKE(manifest->collections));
    return result;
}

/* Each transaction ends as soon as its database is copied. */
static int write_databases(struct writing *writing, struct state_cut *cut, struct error **ret_error) {
    int result = clear_databases(writing, ret_error);
    writing->saying = "control.db";
    if (!result) result = store_get_version(cut->tx, &writing->manifest->control_version, ret_error);
    if (!result) result = write_database(writing, "control.db", cut->tx, NULL, ret_error);
    store_rollback(TAKE(cut->tx));
    for (size_t i = 0; i < cut->count && !result; i++) {
        result = write_collection(writing, &cut->collections[i], ret_error);
        state_collection_release(&cut->collections[i]);
    }
    return result;
}

/* ---- rounds ---- */

/* 1: the backup is whole; 0: another round. */
static int run_round(struct writing *writing, struct state_cut *cut, struct backup_packages *packages, int round,
                     struct error **ret_error) {
    const struct state_backup *backup = writing->backup;
    size_t gone = 0;
    int result = backup_packages_list(cut, packages, ret_error);
    if (result < 0) return result;
    bool lacks = backup->with_packages && backup_packages_lacking(packages);
    if (lacks && round < ROUNDS_PACKAGES_FIRST) {
        state_cut_release(cut);
        pause_point("backup_packages_listed");
        return backup_packages_copy(backup, writing->part, packages, writing->manifest, &gone, ret_error);
    }
    if ((result = write_databases(writing, cut, ret_error)) < 0) return result;
    state_cut_release(cut);
    pause_point("backup_databases_written");
    if (lacks) result = backup_packages_copy(backup, writing->part, packages, writing->manifest, &gone, ret_error);
    return result < 0 ? result : !gone;
}

static int run_rounds(struct writing *writing, struct state_cut *cut, struct backup_packages *packages,
                      struct error **ret_error) {
    for (int round = 0; round < ROUNDS; round++) {
        int result = round ? state_cut_take(cut, ret_error) : 0;
        if (!result) result = run_round(writing, cut, packages, round, ret_error);
        if (result) return result < 0 ? result : 0;
    }
    int result = error_set(ret_error, ERROR_UNAVAILABLE,
                           "models were deployed and deleted faster than they could be copied, %d times in a row; try "
                           "again when the service does less, or leave them out (--without-packages)",
                           ROUNDS);
    error_mark_transient(ret_error);
    return result;
}

/* ---- the end ---- */

static int write_manifest(struct writing *writing, struct error **ret_error) {
    char created_at[25], sha256[DIGEST_HEX_SIZE];
    struct manifest *manifest = writing->manifest;
    clock_format(clock_wall_ms(), created_at);
    manifest->slipway = text_copy(SLIPWAY_VERSION);
    manifest->created_at = text_copy(created_at);
    manifest->with_packages = writing->backup->with_packages;
    size_t size = 0;
    _cleanup_free_ char *json = manifest_write(manifest, &size);
    digest_bytes(json, size, sha256);
    _cleanup_free_ char *line = text_format("%s  manifest.json\n", sha256);
    _cleanup_free_ char *path = fs_join(writing->part->path, "manifest.json");
    _cleanup_free_ char *checksum = fs_join(writing->part->path, "manifest.sha256");
    int result = fs_write_file(path, json, size, ret_error);
    return result < 0 ? result : fs_write_file(checksum, line, strlen(line), ret_error);
}

static void summarize(const struct manifest *manifest, const char *folder, struct state_summary *ret_summary) {
    *ret_summary = (struct state_summary){.folder = text_copy(folder),
                                          .created_at = text_copy(manifest->created_at),
                                          .collections = manifest->collection_count,
                                          .packages = manifest->package_count,
                                          .files = manifest->file_count,
                                          .with_packages = manifest->with_packages};
    for (size_t i = 0; i < manifest->collection_count; i++) ret_summary->documents += manifest->collections[i].live;
    for (size_t i = 0; i < manifest->file_count; i++) ret_summary->size_bytes += manifest->files[i].size_bytes;
}

/* A backup in the state folder would go with it, and would be found there by the next check. */
static int check_place(const struct state_backup *backup, struct error **ret_error) {
    char state[PATH_MAX], parent[PATH_MAX];
    _cleanup_free_ char *above = state_parent(backup->destination);
    if (!realpath(backup->state, state))
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open the state folder %s", backup->state);
    if (!realpath(above, parent))
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open the folder %s that the backup is to lie in",
                               above);
    size_t size = strlen(state);
    if (strncmp(parent, state, size) || (parent[size] && parent[size] != '/')) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s lies inside the state folder: name a place outside, best on another disk",
                     backup->destination);
}

static int fill(const struct state_backup *backup, struct state_part *part, struct manifest *manifest,
                struct error **ret_error) {
    _cleanup_cut_ struct state_cut *cut = NULL;
    __attribute__((cleanup(backup_packages_clear))) struct backup_packages packages = {0};
    struct writing writing = {.backup = backup, .part = part, .manifest = manifest};
    int result = state_cut_open(backup->state, false, &cut, ret_error);
    if (!result) result = run_rounds(&writing, cut, &packages, ret_error);
    if (!result) result = backup_packages_drop(part, &packages, manifest, ret_error);
    if (!result) result = write_manifest(&writing, ret_error);
    return result < 0 ? result : state_part_finish(part, ret_error);
}

int state_backup(const struct state_backup *backup, struct state_summary *ret_summary, struct error **ret_error) {
    _cleanup_part_ struct state_part part = {.lock = -1};
    _cleanup_manifest_ struct manifest manifest = {0};
    int result = check_place(backup, ret_error);
    if (!result) result = state_part_begin(backup->destination, &part, ret_error);
    if (!result) result = fill(backup, &part, &manifest, ret_error);
    if (result < 0) return error_wrap(ret_error, "back %s up to %s", backup->state, backup->destination);
    summarize(&manifest, part.destination, ret_summary);
    return 0;
}
