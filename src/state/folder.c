/* Folders that become visible whole, and files that go into them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "state/state-internal.h"

#define BLOCK_BYTES (1u << 20)
#define TREE_DESCRIPTORS 32

/* As for packages: a full disk is not a fault of ours, and passes. */
static int fail_errno(struct error **ret_error, int cause, const char *what, const char *path) {
    if (cause != ENOSPC && cause != EDQUOT)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, cause, "%s %s", what, path);
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, cause, "%s %s: the disk is full; free some space there", what,
                           path);
}

char *state_parent(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return text_copy(".");
    return slash == path ? text_copy("/") : text_copy_bytes(path, (size_t)(slash - path));
}

/* ---- a folder beside its place ---- */

/* 1: not there, or empty; 0: something is in it. */
static int is_free(const char *path, struct error **ret_error) {
    DIR *folder = opendir(path);
    if (!folder && errno == ENOENT) return 1;
    if (!folder && errno == ENOTDIR) return 0;
    if (!folder) return fail_errno(ret_error, errno, "look into", path);
    bool is_empty = true;
    for (struct dirent *entry; is_empty && (entry = readdir(folder));)
        is_empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
    closedir(folder);
    return is_empty;
}

static int require_free(const char *destination, struct error **ret_error) {
    int result = is_free(destination, ret_error);
    if (result) return result < 0 ? result : 0;
    return error_set(ret_error, ERROR_CONFLICT,
                     "%s is there already and not empty; name a folder that is not there yet", destination);
}

/* What an earlier one that was killed left in it is removed, once it is ours. */
static int empty(const struct state_part *part, struct error **ret_error) {
    DIR *folder = opendir(part->path);
    int result = folder ? 0 : fail_errno(ret_error, errno, "look into", part->path);
    for (struct dirent *entry; folder && !result && (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        _cleanup_free_ char *path = fs_join(part->path, entry->d_name);
        result = package_remove_folder(path, ret_error);
    }
    if (folder) closedir(folder);
    return result;
}

static int lock_part(struct state_part *part, struct error **ret_error) {
    if (mkdir(part->path, 0700) < 0 && errno != EEXIST)
        return fail_errno(ret_error, errno, "make the folder", part->path);
    part->lock = open(part->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (part->lock < 0) return fail_errno(ret_error, errno, "open the folder", part->path);
    if (!flock(part->lock, LOCK_EX | LOCK_NB)) return 0;
    if (errno != EWOULDBLOCK) return fail_errno(ret_error, errno, "lock", part->path);
    close(part->lock);
    part->lock = -1; /* so that nobody removes what is another's */
    return error_set(ret_error, ERROR_CONFLICT, "%s is being filled by another process; wait for its end", part->path);
}

int state_part_begin(const char *destination, struct state_part *ret_part, struct error **ret_error) {
    size_t size = strlen(destination);
    while (size > 1 && destination[size - 1] == '/') size--;
    struct state_part part = {.destination = text_copy_bytes(destination, size), .lock = -1};
    part.path = text_format("%s.part", part.destination);
    int result = require_free(part.destination, ret_error);
    if (!result) result = lock_part(&part, ret_error);
    if (!result) result = empty(&part, ret_error);
    if (result < 0) {
        state_part_end(&part);
        return result;
    }
    *ret_part = part;
    return 0;
}

static int sync_entry(const char *path, const struct stat *status, int kind, struct FTW *where) {
    (void)status, (void)where;
    return kind == FTW_DP || kind == FTW_D ? fs_sync_folder(path, NULL) : 0;
}

int state_part_finish(struct state_part *part, struct error **ret_error) {
    errno = 0;
    if (nftw(part->path, sync_entry, TREE_DESCRIPTORS, FTW_DEPTH | FTW_PHYS))
        return fail_errno(ret_error, errno ? errno : EIO, "sync the folders in", part->path);
    int result = require_free(part->destination, ret_error);
    if (result < 0) return result;
    pause_point("state_before_rename");
    /* An empty folder that is there gives way; one that has been filled since does not. */
    if (rename(part->path, part->destination) < 0)
        return fail_errno(ret_error, errno, "rename what is ready to", part->destination);
    close(part->lock);
    part->lock = -1;
    _cleanup_free_ char *parent = state_parent(part->destination);
    return fs_sync_folder(parent, ret_error);
}

void state_part_end(struct state_part *part) {
    if (part->lock >= 0) {
        package_remove_folder(part->path, NULL);
        close(part->lock);
    }
    free(part->path);
    free(part->destination);
    *part = (struct state_part){.lock = -1};
}

/* ---- files ---- */

struct pump {
    const char *path, *target_path;
    int source, target; /* target -1: only hashed */
};

static int write_all(const struct pump *pump, const char *bytes, size_t size, struct error **ret_error) {
    while (size) {
        ssize_t written = write(pump->target, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail_errno(ret_error, errno, "write", pump->target_path);
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

static int run_pump(const struct pump *pump, uint64_t *ret_size, char ret_sha256[DIGEST_HEX_SIZE],
                    struct error **ret_error) {
    _cleanup_free_ char *block = mem_alloc(BLOCK_BYTES);
    struct digest *digest = digest_new();
    int result = 0;
    *ret_size = 0;
    while (!result) {
        ssize_t size = read(pump->source, block, BLOCK_BYTES);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) result = fail_errno(ret_error, errno, "read", pump->path);
        if (size <= 0) break;
        digest_update(digest, block, (size_t)size);
        *ret_size += (uint64_t)size;
        if (pump->target >= 0) result = write_all(pump, block, (size_t)size, ret_error);
    }
    digest_finish(digest, ret_sha256);
    if (!result && pump->target >= 0 && fsync(pump->target) < 0)
        result = fail_errno(ret_error, errno, "sync", pump->target_path);
    return result;
}

static int open_source(const char *path, int *ret_file, struct error **ret_error) {
    struct stat status;
    int file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) return fail_errno(ret_error, errno, "open", path);
    if (fstat(file, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(file);
        return error_set(ret_error, ERROR_DEPLOYMENT, "open %s: not a plain file", path);
    }
    *ret_file = file;
    return 0;
}

int state_hash_file(const char *root, const char *from, uint64_t *ret_size, char ret_sha256[DIGEST_HEX_SIZE],
                    struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(root, from);
    _cleanup_close_ int source = -1;
    int result = open_source(path, &source, ret_error);
    if (result < 0) return result;
    return run_pump(&(struct pump){.path = path, .source = source, .target = -1}, ret_size, ret_sha256, ret_error);
}

int state_copy_file(const char *root, const char *from, const char *to, uint64_t *ret_size,
                    char ret_sha256[DIGEST_HEX_SIZE], struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(root, from), *folder = state_parent(to);
    _cleanup_close_ int source = -1;
    int result = open_source(path, &source, ret_error);
    if (!result) result = fs_make_folders(folder, ret_error);
    if (result < 0) return result;
    _cleanup_close_ int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (target < 0) return fail_errno(ret_error, errno, "make", to);
    struct pump pump = {.path = path, .target_path = to, .source = source, .target = target};
    return run_pump(&pump, ret_size, ret_sha256, ret_error);
}
