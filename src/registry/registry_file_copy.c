/* The file registry: fetch. Every file is opened anew without leaving its root, compared with what was resolved, copied
 * by pieces, and looked at again: once it is copied, and once more when all are, so that the copies belong together. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"

#define PIECE_BYTES (8u << 20) /* between two looks at *canceled */
#define BLOCK_BYTES (1u << 20) /* where the kernel cannot copy by itself */

struct source {
    int descriptor;
    struct stat status; /* when it was opened */
};

struct fetch {
    const struct registry_context *context;
    const struct registry_resolution *resolution;
    int folder; /* where to */
    char *block; /* NULL until it is needed */
    uint64_t done_bytes;
};

static int fail_changed(const char *path, struct error **ret_error) {
    int result = error_set(ret_error, ERROR_MODEL_REGISTRY,
                           "%s changed while it was fetched; try again when it is at rest", path);
    error_mark_transient(ret_error);
    return result;
}

static int fail_target(int errno_value, const char *path, struct error **ret_error) {
    if (errno_value == ENOSPC || errno_value == EDQUOT)
        return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno_value,
                               "write the copy of %s: the disk of the state folder is full; free some space there",
                               path);
    return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno_value, "write the copy of %s", path);
}

/* ---- the source ---- */

static char *source_path(const struct registry_resolution *resolution, size_t index) {
    struct stat status;
    if (!lstat(resolution->location, &status) && S_ISREG(status.st_mode)) return text_copy(resolution->location);
    return text_format("%s/%s", resolution->location, resolution->files[index].path);
}

static bool is_same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int open_source(const struct fetch *fetch, size_t index, const char *path, struct source *ret_source,
                       struct error **ret_error) {
    _cleanup_free_ char *real = realpath(path, NULL);
    if (!real) return errno == ENOENT ? fail_changed(path, ret_error) : registry_fail_source(ret_error, errno, path);
    _cleanup_close_ int file = registry_open_inside(fetch->context, real, O_RDONLY | O_NONBLOCK);
    if (file < 0 && errno == ENOENT) return fail_changed(path, ret_error);
    if (file < 0) return registry_fail_source(ret_error, errno, path);
    struct stat status;
    if (fstat(file, &status) < 0) return registry_fail_source(ret_error, errno, path);
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size != fetch->resolution->files[index].size_bytes)
        return fail_changed(path, ret_error);
    int result = registry_check_names(fetch->context, path, &status, ret_error);
    if (result < 0) return result;
    *ret_source = (struct source){file, status};
    file = -1; /* given away */
    return 0;
}

/* ---- the copy ---- */

int registry_make_file(int folder, const char *path) {
    int at = dup(folder);
    for (;;) {
        size_t size = strcspn(path, "/");
        _cleanup_free_ char *name = text_copy_bytes(path, size);
        bool is_last = !path[size];
        int next = -1;
        if (is_last)
            next = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        else if (!mkdirat(at, name, 0700) || errno == EEXIST)
            next = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        mem_close_descriptor(&at);
        if (next < 0 || is_last) return next;
        at = next;
        path += size + 1;
    }
}

static int write_all(int target, const char *bytes, size_t size) {
    while (size) {
        ssize_t written = write(target, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -1;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

/* Up to `size` bytes; returns how many, 0 at the end, or a negative class. */
static ssize_t copy_by_hand(struct fetch *fetch, int source, int target, size_t size, const char *path,
                            struct error **ret_error) {
    if (!fetch->block) fetch->block = mem_alloc(BLOCK_BYTES);
    ssize_t got;
    do got = read(source, fetch->block, size < BLOCK_BYTES ? size : BLOCK_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0) return registry_fail_source(ret_error, errno, path);
    if (write_all(target, fetch->block, (size_t)got) < 0) return fail_target(errno, path, ret_error);
    return got;
}

/* The same. The kernel copies, or shares the blocks, where it can: not across every pair of file systems, which shows
 * in errno; whether a failure is the source's or the target's does not, so copying by hand finds out. */
static ssize_t copy_piece(struct fetch *fetch, int source, int target, size_t size, const char *path,
                          struct error **ret_error) {
    ssize_t got = fetch->block ? -1 : copy_file_range(source, NULL, target, NULL, size, 0);
    return got > 0 ? got : copy_by_hand(fetch, source, target, size, path, ret_error);
}

static int copy_file(struct fetch *fetch, size_t index, const char *path, int source, struct error **ret_error) {
    const struct registry_context *context = fetch->context;
    _cleanup_close_ int target = registry_make_file(fetch->folder, fetch->resolution->files[index].path);
    if (target < 0) return fail_target(errno, path, ret_error);
    uint64_t left = fetch->resolution->files[index].size_bytes;
    while (left) {
        int result = registry_check_canceled(context, ret_error);
        if (result < 0) return result;
        ssize_t got = copy_piece(fetch, source, target, left < PIECE_BYTES ? left : PIECE_BYTES, path, ret_error);
        if (got < 0) return (int)got;
        if (!got) return fail_changed(path, ret_error); /* shorter than it was */
        left -= (uint64_t)got;
        fetch->done_bytes += (uint64_t)got;
        if (context->on_progress)
            context->on_progress(fetch->done_bytes, fetch->resolution->size_bytes, context->progress_context);
    }
    return 0;
}

/* Copies one file and notes how it was. */
static int fetch_file(struct fetch *fetch, size_t index, struct stat *ret_status, struct error **ret_error) {
    _cleanup_free_ char *path = source_path(fetch->resolution, index);
    struct source source = {.descriptor = -1};
    int result = registry_check_canceled(fetch->context, ret_error);
    if (!result) result = open_source(fetch, index, path, &source, ret_error);
    if (result < 0) return result;
    struct stat after;
    result = copy_file(fetch, index, path, source.descriptor, ret_error);
    if (!result && (fstat(source.descriptor, &after) < 0 || !is_same(&source.status, &after)))
        result = fail_changed(path, ret_error);
    close(source.descriptor);
    *ret_status = source.status;
    return result;
}

static int check_unchanged(const struct fetch *fetch, const struct stat *statuses, struct error **ret_error) {
    for (size_t i = 0; i < fetch->resolution->file_count; i++) {
        _cleanup_free_ char *path = source_path(fetch->resolution, i);
        struct stat now;
        if (stat(path, &now) < 0 || !is_same(&statuses[i], &now)) return fail_changed(path, ret_error);
    }
    return 0;
}

int registry_file_fetch(const struct registry_context *context, const struct registry_resolution *resolution,
                        const char *folder, struct error **ret_error) {
    _cleanup_close_ int target = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open the folder %s", folder);
    struct fetch fetch = {.context = context, .resolution = resolution, .folder = target};
    _cleanup_free_ struct stat *statuses = mem_new_array(resolution->file_count, struct stat);
    int result = 0;
    for (size_t i = 0; i < resolution->file_count && !result; i++)
        result = fetch_file(&fetch, i, &statuses[i], ret_error);
    if (!result) result = check_unchanged(&fetch, statuses, ret_error);
    free(fetch.block);
    return result;
}
