/* Packages in a folder:
 *
 *     <location>/incoming/<task>/   what a task is fetching; writable, nobody else looks
 *     <location>/sha256/<digest>/   complete, synced, read-only
 *     <location>/trash/…            on its way out
 *
 * All three are folders of one file system, so that a rename moves a tree from one to the other at once. Where a kill
 * can strike, and why it does no harm: docs/internals/store.md.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package-internal.h"

#define TRASH_TRIES 10000

/* Immutable once opened but for the counter: threads share it without a lock. */
struct package_store {
    char *location;
    char *incoming, *packages, *trash;
    atomic_uint removals; /* makes names in the trash */
};

/* What was made or renamed is there for good once both folders are synced. */
static int sync_both(const char *from, const char *to, struct error **ret_error) {
    int result = fs_sync_folder(to, ret_error);
    return result < 0 ? result : fs_sync_folder(from, ret_error);
}

static void folder_close(struct package_store *store) {
    if (!store) return;
    free(store->location);
    free(store->incoming);
    free(store->packages);
    free(store->trash);
    free(store);
}

static int folder_open(const char *location, struct package_store **ret_store, struct error **ret_error) {
    struct package_store *store = mem_new(struct package_store);
    store->location = text_copy(location);
    store->incoming = fs_join(location, "incoming");
    store->packages = fs_join(location, "sha256");
    store->trash = fs_join(location, "trash");
    const char *slash = strrchr(location, '/');
    _cleanup_free_ char *parent =
        slash ? text_copy_bytes(location, slash == location ? 1 : (size_t)(slash - location)) : text_copy(".");
    const char *folders[] = {store->incoming, store->packages, store->trash};
    int result = 0;
    for (size_t i = 0; i < ARRAY_SIZE(folders) && !result; i++) result = fs_make_folders(folders[i], ret_error);
    if (!result) result = sync_both(location, parent, ret_error); /* their names are there for good as well */
    if (result < 0) {
        error_wrap(ret_error, "open the packages in %s", location);
        folder_close(store);
        return result;
    }
    *ret_store = store;
    return 0;
}

/* ---- names ---- */

static int incoming_path(struct package_store *store, const char *task_id, char **ret_path, struct error **ret_error) {
    if (!text_is_name(task_id))
        return error_set(ret_error, ERROR_CONFIGURATION, "\"%.128s\" cannot be the id of a task that fetches a model",
                         task_id);
    *ret_path = fs_join(store->incoming, task_id);
    return 0;
}

static bool is_digest(const char *text) {
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static int package_path(struct package_store *store, const char *digest, char **ret_path, struct error **ret_error) {
    if (!is_digest(digest))
        return error_set(ret_error, ERROR_CONFIGURATION, "\"%.128s\" is not the digest of a package", digest);
    *ret_path = fs_join(store->packages, digest);
    return 0;
}

/* ---- a task's own folder ---- */

static int folder_begin(struct package_store *store, const char *task_id, char **ret_folder, struct error **ret_error) {
    _cleanup_free_ char *folder = NULL;
    int result = incoming_path(store, task_id, &folder, ret_error);
    if (!result) result = package_tree_remove(folder, ret_error);
    if (result < 0) return result;
    if (mkdir(folder, 0700) < 0) return package_fail_errno(ret_error, errno, "make the folder", folder);
    *ret_folder = TAKE(folder);
    return 0;
}

static void folder_abandon(struct package_store *store, const char *task_id) {
    _cleanup_free_ char *folder = NULL;
    struct error *error = NULL;
    if (!incoming_path(store, task_id, &folder, &error)) package_tree_remove(folder, &error);
    error_free(error); /* what is left is swept up after the next start */
}

static int folder_measure(struct package_store *store, const char *task_id, const atomic_bool *canceled,
                          struct package_info *ret_info, struct error **ret_error) {
    _cleanup_free_ char *folder = NULL;
    int result = incoming_path(store, task_id, &folder, ret_error);
    if (result < 0) return result;
    _cleanup_tree_ struct package_tree tree = {0};
    result = package_tree_read(folder, &tree, ret_error);
    if (!result) result = package_tree_measure(folder, &tree, canceled, ret_info, ret_error);
    /* The task's folder itself: its name must be there after a power cut too. */
    return result < 0 ? result : fs_sync_folder(store->incoming, ret_error);
}

/* ---- publishing ---- */

/* Lists, compares with what was measured, makes read-only and syncs. */
static int seal(const char *folder, const struct package_info *info, struct error **ret_error) {
    _cleanup_tree_ struct package_tree tree = {0};
    int result = package_tree_read(folder, &tree, ret_error);
    if (result < 0) return result;
    if (tree.file_count != info->file_count || tree.size_bytes != info->size_bytes)
        return error_set(
            ret_error, ERROR_DEPLOYMENT,
            "%s has %zu files of %llu bytes together, but %llu of %llu were verified; it has to be fetched again",
            folder, tree.file_count, (unsigned long long)tree.size_bytes, (unsigned long long)info->file_count,
            (unsigned long long)info->size_bytes);
    return package_tree_seal(folder, &tree, ret_error);
}

/* The package is visible: whoever made it so, make sure that it stays, and drop this task's copy if there still is one.
 */
static int settle(struct package_store *store, const char *package, const char *folder, struct error **ret_error) {
    int result = package_tree_seal_root(package, ret_error);
    if (!result) result = package_tree_remove(folder, ret_error);
    return result < 0 ? result : sync_both(store->incoming, store->packages, ret_error);
}

static int folder_publish(struct package_store *store, const char *task_id, const struct package_info *info,
                          struct error **ret_error) {
    _cleanup_free_ char *folder = NULL, *package = NULL;
    int result = incoming_path(store, task_id, &folder, ret_error);
    if (!result) result = package_path(store, info->digest, &package, ret_error);
    if (result < 0) return result;

    /* Asked first: when it is there, the rest of a half-removed copy is nothing to compare. */
    if (fs_exists(package)) return settle(store, package, folder, ret_error);
    if (!fs_exists(folder))
        return error_set(ret_error, ERROR_NOT_FOUND,
                         "publish package %s: its files are gone; they have to be fetched again", info->digest);
    result = seal(folder, info, ret_error);
    if (result < 0) return result;
    /* Another task with the same files may have been faster since: then the target is a folder that is not empty. */
    if (rename(folder, package) < 0 && errno != ENOTEMPTY && errno != EEXIST)
        return package_fail_errno(ret_error, errno, "rename to", package);
    return settle(store, package, folder, ret_error);
}

static int folder_locate(struct package_store *store, const char *digest, char **ret_path, struct error **ret_error) {
    _cleanup_free_ char *package = NULL;
    int result = package_path(store, digest, &package, ret_error);
    if (result < 0) return result;
    struct stat status;
    if (lstat(package, &status) < 0 || !S_ISDIR(status.st_mode))
        return error_set(ret_error, ERROR_NOT_FOUND, "there is no package sha256:%s", digest);
    *ret_path = TAKE(package);
    return 0;
}

/* ---- removing ---- */

/* Moves it to the trash; *ret_trash stays NULL when there was nothing to move. */
static int hide(struct package_store *store, const char *digest, const char *package, char **ret_trash,
                struct error **ret_error) {
    if (chmod(package, 0700) < 0) { /* read-only folders cannot be moved */
        if (errno == ENOENT) return 0;
        return package_fail_errno(ret_error, errno, "change the mode of", package);
    }
    for (int tries = 0; tries < TRASH_TRIES; tries++) {
        _cleanup_free_ char *trash =
            text_format("%s/%s.%u", store->trash, digest, atomic_fetch_add(&store->removals, 1));
        if (!rename(package, trash)) {
            *ret_trash = TAKE(trash);
            return 0;
        }
        if (errno == ENOENT) return 0;
        if (errno != ENOTEMPTY && errno != EEXIST) return package_fail_errno(ret_error, errno, "move away", package);
    }
    return error_set(ret_error, ERROR_DEPLOYMENT, "move away %s: %s is full of leftovers; empty it", package,
                     store->trash);
}

static int folder_remove(struct package_store *store, const char *digest, struct error **ret_error) {
    _cleanup_free_ char *package = NULL, *trash = NULL;
    int result = package_path(store, digest, &package, ret_error);
    if (!result) result = hide(store, digest, package, &trash, ret_error);
    if (result < 0) return result;
    result = sync_both(store->packages, store->trash, ret_error);
    if (result < 0 || !trash) return result;
    return package_tree_remove(trash, ret_error);
}

/* ---- what is there ---- */

static void close_folder(DIR **folder) {
    if (*folder) closedir(*folder);
}

/* Calls `handle` with each name in a folder but "." and "..". */
static int for_each_name(struct package_store *store, const char *path,
                         int (*handle)(struct package_store *store, const char *name, void *context,
                                       struct error **ret_error),
                         void *context, struct error **ret_error) {
    __attribute__((cleanup(close_folder))) DIR *folder = opendir(path);
    if (!folder) return package_fail_errno(ret_error, errno, "read the folder", path);
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry) return errno ? package_fail_errno(ret_error, errno, "read the folder", path) : 0;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        int result = handle(store, entry->d_name, context, ret_error);
        if (result < 0) return result;
    }
}

static int empty_trash(struct package_store *store, const char *name, void *context, struct error **ret_error) {
    (void)context;
    _cleanup_free_ char *path = fs_join(store->trash, name);
    return package_tree_remove(path, ret_error);
}

struct visitor {
    void (*visit)(const char *digest, void *context);
    void *context;
};

static int visit_package(struct package_store *store, const char *name, void *context, struct error **ret_error) {
    (void)store, (void)ret_error;
    const struct visitor *visitor = context;
    if (is_digest(name)) visitor->visit(name, visitor->context);
    return 0;
}

static int folder_scan(struct package_store *store, void (*visit)(const char *digest, void *context), void *context,
                       struct error **ret_error) {
    int result = for_each_name(store, store->trash, empty_trash, NULL, ret_error);
    if (result < 0) return result;
    struct visitor visitor = {visit, context};
    return for_each_name(store, store->packages, visit_package, &visitor, ret_error);
}

struct sweeper {
    bool (*is_alive)(const char *task_id, void *context);
    void *context;
};

static int sweep_incoming(struct package_store *store, const char *name, void *context, struct error **ret_error) {
    const struct sweeper *sweeper = context;
    if (sweeper->is_alive(name, sweeper->context)) return 0;
    _cleanup_free_ char *path = fs_join(store->incoming, name);
    return package_tree_remove(path, ret_error);
}

static int folder_sweep(struct package_store *store, bool (*is_alive)(const char *task_id, void *context),
                        void *context, struct error **ret_error) {
    struct sweeper sweeper = {is_alive, context};
    return for_each_name(store, store->incoming, sweep_incoming, &sweeper, ret_error);
}

const struct package_ops folder_packages = {
    .name = "folder",
    .open = folder_open,
    .close = folder_close,
    .begin = folder_begin,
    .measure = folder_measure,
    .publish = folder_publish,
    .abandon = folder_abandon,
    .locate = folder_locate,
    .remove = folder_remove,
    .scan = folder_scan,
    .sweep = folder_sweep,
};
