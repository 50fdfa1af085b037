#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package-internal.h"

#define READ_BYTES (1u << 20)

int package_fail_errno(struct error **ret_error, int errno_value, const char *what, const char *path) {
    if (errno_value == ENOSPC || errno_value == EDQUOT)
        return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno_value,
                               "%s %s: the disk is full; free some space there", what, path);
    return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno_value, "%s %s", what, path);
}

/* What could not be synced is removed, so that it is never published: a second try would be told that all is well, and
 * it would not be (S1). Not transient, since trying this step again cannot help. */
static int sync_or_remove(int descriptor, const char *path, struct error **ret_error) {
    if (!fsync(descriptor)) return 0;
    int cause = errno;
    package_tree_remove(path, NULL);
    char buffer[128];
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "sync %s: %s; the disk did not take it, so it has to be fetched again", path,
                     strerror_r(cause, buffer, sizeof buffer));
}

/* ---- listing ---- */

void package_tree_clear(struct package_tree *tree) {
    for (size_t i = 0; i < tree->file_count; i++) free(tree->files[i].path);
    for (size_t i = 0; i < tree->folder_count; i++) free(tree->folders[i]);
    free(tree->files);
    free(tree->folders);
    *tree = (struct package_tree){0};
}

static void add_folder(struct package_tree *tree, const char *path) {
    if (!(tree->folder_count & (tree->folder_count + 1))) /* 0, 1, 3, 7, …: room for twice as many */
        tree->folders = mem_resize(tree->folders, 2 * tree->folder_count + 1, sizeof *tree->folders);
    tree->folders[tree->folder_count++] = text_copy(path);
}

static void add_file(struct package_tree *tree, const char *path, uint64_t size_bytes) {
    if (!(tree->file_count & (tree->file_count + 1)))
        tree->files = mem_resize(tree->files, 2 * tree->file_count + 1, sizeof *tree->files);
    tree->files[tree->file_count++] = (struct package_tree_file){.path = text_copy(path), .size_bytes = size_bytes};
    tree->size_bytes += size_bytes;
}

/* A newline in a path would make the digest's list ambiguous; the others would only confuse. */
static int check_path(const char *path, struct error **ret_error) {
    size_t size = strlen(path);
    if (size > PACKAGE_PATH_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "the path %.80s… in the model is longer than %d bytes", path,
                         PACKAGE_PATH_MAXIMUM);
    if (!text_is_utf8(path, size)) return error_set(ret_error, ERROR_CONFIGURATION, "a path in the model is not UTF-8");
    for (const char *at = path; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return error_set(ret_error, ERROR_CONFIGURATION, "the path %s in the model holds a control character",
                             path);
    return 0;
}

static int add_entry(struct package_tree *tree, FTSENT *entry, const char *path, struct error **ret_error) {
    switch (entry->fts_info) {
    case FTS_DP: /* a folder's second visit */ return 0;
    case FTS_D:
        if (entry->fts_level > PACKAGE_DEPTH_MAXIMUM)
            return error_set(ret_error, ERROR_CONFIGURATION, "%s in the model is deeper than %d folders", path,
                             PACKAGE_DEPTH_MAXIMUM);
        if (*path && check_path(path, ret_error) < 0) return -(int)ERROR_CONFIGURATION;
        if (tree->folder_count >= PACKAGE_FILES_MAXIMUM)
            return error_set(ret_error, ERROR_CONFIGURATION, "the model has more than %d folders",
                             PACKAGE_FILES_MAXIMUM);
        add_folder(tree, path);
        return 0;
    case FTS_F:
        if (check_path(path, ret_error) < 0) return -(int)ERROR_CONFIGURATION;
        if (tree->file_count >= PACKAGE_FILES_MAXIMUM)
            return error_set(ret_error, ERROR_CONFIGURATION, "the model has more than %d files", PACKAGE_FILES_MAXIMUM);
        add_file(tree, path, (uint64_t)entry->fts_statp->st_size);
        return 0;
    case FTS_SL:
    case FTS_SLNONE:
        return error_set(ret_error, ERROR_CONFIGURATION, "%s in the model is a link; a package holds plain files only",
                         path);
    case FTS_DEFAULT:
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s in the model is a device, a pipe or a socket; a package holds plain files only", path);
    default: return package_fail_errno(ret_error, entry->fts_errno, "read", entry->fts_path);
    }
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct package_tree_file *)a)->path, ((const struct package_tree_file *)b)->path);
}

static void close_walk(FTS **walk) {
    if (*walk) fts_close(*walk);
}

int package_tree_read(const char *folder, struct package_tree *ret_tree, struct error **ret_error) {
    _cleanup_tree_ struct package_tree tree = {0};
    _cleanup_free_ char *start = text_copy(folder);
    char *const starts[] = {start, NULL};
    __attribute__((cleanup(close_walk))) FTS *walk = fts_open(starts, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!walk) return package_fail_errno(ret_error, errno, "read", folder);
    size_t prefix = strlen(folder);
    FTSENT *entry;
    while ((errno = 0, entry = fts_read(walk))) {
        const char *path = entry->fts_path + prefix;
        if (!entry->fts_level && entry->fts_info != FTS_D && entry->fts_info != FTS_DP)
            return package_fail_errno(ret_error, entry->fts_errno ? entry->fts_errno : ENOTDIR, "read the folder",
                                      folder);
        int result = add_entry(&tree, entry, path + (*path == '/'), ret_error);
        if (result < 0) return result;
    }
    if (errno) return package_fail_errno(ret_error, errno, "read", folder);
    if (tree.file_count) qsort(tree.files, tree.file_count, sizeof *tree.files, by_path);
    *ret_tree = tree;
    tree = (struct package_tree){0};
    return 0;
}

/* ---- hashing, syncing, sealing ---- */

/* A plain file, opened without following a link or waiting for a pipe. */
static int open_file(const char *path, int *ret_descriptor, struct error **ret_error) {
    int descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return package_fail_errno(ret_error, errno, "open", path);
    struct stat status;
    if (fstat(descriptor, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(descriptor);
        return error_set(ret_error, ERROR_CONFIGURATION, "open %s: not a plain file", path);
    }
    *ret_descriptor = descriptor;
    return 0;
}

static int measure_file(const char *path, uint64_t size_bytes, char *block, const atomic_bool *canceled,
                        char ret_hex[DIGEST_HEX_SIZE], struct error **ret_error) {
    _cleanup_close_ int file = -1;
    int result = open_file(path, &file, ret_error);
    if (result < 0) return result;
    struct digest *digest = digest_new();
    uint64_t total = 0;
    for (;;) {
        if (canceled && atomic_load(canceled)) {
            result = error_set(ret_error, ERROR_UNAVAILABLE, "canceled");
            break;
        }
        ssize_t size = read(file, block, READ_BYTES);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) result = package_fail_errno(ret_error, errno, "read", path);
        if (size <= 0) break;
        digest_update(digest, block, (size_t)size);
        total += (uint64_t)size;
    }
    digest_finish(digest, ret_hex);
    if (result < 0) return result;
    if (total != size_bytes) return error_set(ret_error, ERROR_DEPLOYMENT, "read %s: it changed meanwhile", path);
    return sync_or_remove(file, path, ret_error);
}

/* `mode` 0: as it is. */
static int sync_folder(const char *path, mode_t mode, struct error **ret_error) {
    _cleanup_close_ int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) return package_fail_errno(ret_error, errno, "open the folder", path);
    if (mode && fchmod(folder, mode) < 0) return package_fail_errno(ret_error, errno, "change the mode of", path);
    return sync_or_remove(folder, path, ret_error);
}

int package_tree_measure(const char *folder, const struct package_tree *tree, const atomic_bool *canceled,
                         struct package_info *ret_info, struct error **ret_error) {
    if (!tree->file_count) return error_set(ret_error, ERROR_MODEL_REGISTRY, "the model has no files");
    _cleanup_free_ char *block = mem_alloc(READ_BYTES);
    struct digest *list = digest_new();
    char hex[DIGEST_HEX_SIZE];
    int result = 0;
    for (size_t i = 0; i < tree->file_count && !result; i++) {
        const struct package_tree_file *file = &tree->files[i];
        _cleanup_free_ char *path = fs_join(folder, file->path);
        result = measure_file(path, file->size_bytes, block, canceled, hex, ret_error);
        if (result < 0) break;
        _cleanup_free_ char *line = text_format("%s %llu %s\n", hex, (unsigned long long)file->size_bytes, file->path);
        digest_update(list, line, strlen(line));
    }
    digest_finish(list, hex);
    for (size_t i = tree->folder_count; i-- > 0 && !result;) {
        _cleanup_free_ char *path = fs_join(folder, tree->folders[i]);
        result = sync_folder(path, 0, ret_error);
    }
    if (result < 0) return result;
    memcpy(ret_info->digest, hex, sizeof hex);
    ret_info->size_bytes = tree->size_bytes;
    ret_info->file_count = tree->file_count;
    return 0;
}

int package_tree_seal(const char *folder, const struct package_tree *tree, struct error **ret_error) {
    for (size_t i = 0; i < tree->file_count; i++) {
        _cleanup_free_ char *path = fs_join(folder, tree->files[i].path);
        _cleanup_close_ int file = -1;
        int result = open_file(path, &file, ret_error);
        if (result < 0) return result;
        if (fchmod(file, 0444) < 0) return package_fail_errno(ret_error, errno, "change the mode of", path);
        if ((result = sync_or_remove(file, path, ret_error)) < 0) return result;
    }
    for (size_t i = tree->folder_count; i-- > 0;) {
        _cleanup_free_ char *path = fs_join(folder, tree->folders[i]);
        int result = sync_folder(path, i ? 0555 : 0755, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

int package_tree_seal_root(const char *folder, struct error **ret_error) {
    if (chmod(folder, 0555) < 0) return package_fail_errno(ret_error, errno, "change the mode of", folder);
    return fs_sync_folder(folder, ret_error);
}

/* ---- removing ---- */

int package_tree_remove(const char *folder, struct error **ret_error) {
    _cleanup_free_ char *start = text_copy(folder);
    char *const starts[] = {start, NULL};
    __attribute__((cleanup(close_walk))) FTS *walk = fts_open(starts, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!walk) return package_fail_errno(ret_error, errno, "remove", folder);
    FTSENT *entry;
    while ((errno = 0, entry = fts_read(walk))) {
        int result = 0;
        if (entry->fts_info == FTS_D)
            result = chmod(entry->fts_accpath, 0700); /* else nothing in it could be removed */
        else if (entry->fts_info == FTS_DP)
            result = rmdir(entry->fts_accpath);
        else if (entry->fts_info == FTS_NS && !entry->fts_level)
            return 0;
        else
            result = unlink(entry->fts_accpath);
        if (result < 0 && errno != ENOENT) return package_fail_errno(ret_error, errno, "remove", entry->fts_path);
    }
    return errno ? package_fail_errno(ret_error, errno, "remove", folder) : 0;
}
