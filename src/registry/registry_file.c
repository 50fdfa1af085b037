/* The file registry: check and resolve. Its promises are in registry.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"

/* ---- check ---- */

static int file_check(const struct registry_context *context, const char *uri, struct error **ret_error) {
    _cleanup_free_ char *path = NULL;
    int result = registry_file_parse(uri, &path, ret_error);
    if (result < 0) return result;
    const char *relative;
    /* Where it leads decides; where that cannot be told yet (nothing is there), how it is written. A path that passes
     * through a link into a root is fine. */
    _cleanup_free_ char *real = realpath(path, NULL);
    if (registry_find_root(context, real ? real : path, &relative)) return 0;
    return registry_refuse_outside(context, path, ret_error);
}

/* ---- resolve ---- */

struct walk {
    const struct registry_context *context;
    struct registry_resolution *resolution;
    const char *base; /* the model's real path */
    size_t entry_count;
};

static const char *const left_out[] = {".git", ".cache"};

static bool is_left_out(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(left_out); i++)
        if (!strcmp(left_out[i], name)) return true;
    return false;
}

#define AT_REST_MS 3000 /* above what any file system's clock is coarse by */

static int64_t time_ms(struct timespec time) {
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* A file that is written again within its clock's tick keeps its times: only one that rests is known by them. */
static char *identity_of(const struct stat *status) {
    int64_t at_rest_since = clock_wall_ms() - AT_REST_MS;
    if (time_ms(status->st_mtim) > at_rest_since || time_ms(status->st_ctim) > at_rest_since) return NULL;
    return text_format("%llu %llu %lld %lld.%09ld %lld.%09ld", (unsigned long long)status->st_dev,
                       (unsigned long long)status->st_ino, (long long)status->st_size,
                       (long long)status->st_mtim.tv_sec, status->st_mtim.tv_nsec, (long long)status->st_ctim.tv_sec,
                       status->st_ctim.tv_nsec);
}

static int add_file(struct walk *walk, const char *path, const struct stat *status, struct error **ret_error) {
    struct registry_resolution *resolution = walk->resolution;
    const struct registry_context *context = walk->context;
    if (context->file_maximum && resolution->file_count >= context->file_maximum)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s has more than the %zu files that a model may have",
                         walk->base, context->file_maximum);
    uint64_t size = (uint64_t)status->st_size;
    if (context->size_maximum &&
        (size > context->size_maximum || resolution->size_bytes > context->size_maximum - size)) {
        _cleanup_free_ char *limit = text_size(context->size_maximum);
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is larger than the %s that a model may have", walk->base,
                         limit);
    }
    _cleanup_free_ char *full = text_format("%s/%s", walk->base, path);
    int result = registry_check_names(context, full, status, ret_error);
    if (result < 0) return result;
    size_t count = resolution->file_count;
    if (!(count & (count + 1))) /* 0, 1, 3, 7, …: room for twice as many */
        resolution->files = mem_resize(resolution->files, 2 * count + 1, sizeof *resolution->files);
    resolution->files[resolution->file_count++] =
        (struct registry_file){.path = text_copy(path), .size_bytes = size, .identity = identity_of(status)};
    resolution->size_bytes += size;
    return 0;
}

/* The target must be a plain file inside a root; it is fetched under the link's name. */
static int add_link(struct walk *walk, const char *path, struct error **ret_error) {
    _cleanup_free_ char *link = text_format("%s/%s", walk->base, path);
    _cleanup_free_ char *target = realpath(link, NULL);
    if (!target && (errno == ENOENT || errno == ELOOP))
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "the link %s leads to nothing", link);
    if (!target) return registry_fail_source(ret_error, errno, link);
    const char *relative;
    if (!registry_find_root(walk->context, target, &relative)) {
        _cleanup_free_ char *what = text_format("the link %s leads to %s, which", link, target);
        return registry_refuse_outside(walk->context, what, ret_error);
    }
    _cleanup_close_ int file = registry_open_inside(walk->context, target, O_PATH);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0) return registry_fail_source(ret_error, errno, target);
    if (!S_ISREG(status.st_mode))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the link %s leads to %s: only links to plain files are followed", link,
                         S_ISDIR(status.st_mode) ? "a folder" : "a device, a pipe or a socket");
    return add_file(walk, path, &status, ret_error);
}

static int walk_folder(struct walk *walk, int folder, const char *path, int depth, struct error **ret_error);

static int add_entry(struct walk *walk, int folder, const char *path, const char *name, int depth,
                     struct error **ret_error) {
    int result = registry_check_canceled(walk->context, ret_error);
    if (result < 0) return result;
    if (++walk->entry_count > REGISTRY_FILES_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s holds more than %d files and folders", walk->base,
                         REGISTRY_FILES_MAXIMUM);
    if (strlen(path) > REGISTRY_PATH_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s holds the path %.80s…, longer than %d bytes", walk->base,
                         path, REGISTRY_PATH_MAXIMUM);
    if (!registry_path_is_plain(path))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s holds a name that is not UTF-8 or has a control character in it", walk->base);
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) return registry_fail_source(ret_error, errno, path);
    if (S_ISREG(status.st_mode)) return add_file(walk, path, &status, ret_error);
    if (S_ISLNK(status.st_mode)) return add_link(walk, path, ret_error);
    if (!S_ISDIR(status.st_mode))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s/%s is a device, a pipe or a socket; a model is made of plain files", walk->base, path);
    if (depth >= REGISTRY_DEPTH_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s/%s is deeper than %d folders", walk->base, path,
                         REGISTRY_DEPTH_MAXIMUM);
    int inner = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (inner < 0) return registry_fail_source(ret_error, errno, path);
    return walk_folder(walk, inner, path, depth + 1, ret_error);
}

static void close_folder(DIR **folder) {
    if (*folder) closedir(*folder);
}

/* Takes the descriptor. `path` is the folder's, relative to the model: "" for the model itself. */
static int walk_folder(struct walk *walk, int folder, const char *path, int depth, struct error **ret_error) {
    __attribute__((cleanup(close_folder))) DIR *entries = fdopendir(folder);
    if (!entries) {
        int cause = errno;
        close(folder);
        return registry_fail_source(ret_error, cause, walk->base);
    }
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(entries);
        if (!entry) return errno ? registry_fail_source(ret_error, errno, walk->base) : 0;
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..") || is_left_out(name)) continue;
        _cleanup_free_ char *inner = text_format("%s%s%s", path, *path ? "/" : "", name);
        int result = add_entry(walk, dirfd(entries), inner, name, depth, ret_error);
        if (result < 0) return result;
    }
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct registry_file *)a)->path, ((const struct registry_file *)b)->path);
}

static int resolve_folder(struct walk *walk, struct error **ret_error) {
    int folder = registry_open_inside(walk->context, walk->base, O_RDONLY | O_DIRECTORY);
    if (folder < 0) return registry_fail_source(ret_error, errno, walk->base);
    int result = walk_folder(walk, folder, "", 0, ret_error);
    if (result < 0) return result;
    struct registry_resolution *resolution = walk->resolution;
    if (!resolution->file_count)
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "the folder %s has no files", walk->base);
    qsort(resolution->files, resolution->file_count, sizeof *resolution->files, by_path);
    return 0;
}

/* The name that was asked for decides, not the one that it leads to: in a hub's cache the files have no suffix. */
static int resolve_file(struct walk *walk, const char *path, const struct stat *status, struct error **ret_error) {
    if (!S_ISREG(status->st_mode))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is a device, a pipe or a socket", path);
    if (!text_ends_with(path, ".onnx"))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is neither a folder nor an .onnx file", path);
    return add_file(walk, "model.onnx", status, ret_error);
}

static int file_resolve(const struct registry_context *context, const char *uri,
                        struct registry_resolution *ret_resolution, struct error **ret_error) {
    _cleanup_free_ char *path = NULL;
    int result = registry_file_parse(uri, &path, ret_error);
    if (!result) result = file_check(context, uri, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *real = realpath(path, NULL);
    if (!real && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "there is nothing at %s", path);
    if (!real) return registry_fail_source(ret_error, errno, path);
    _cleanup_close_ int found = registry_open_inside(context, real, O_PATH);
    struct stat status;
    if (found < 0 || fstat(found, &status) < 0) return registry_fail_source(ret_error, errno, real);

    struct registry_resolution resolution = {.location = text_copy(real)};
    struct walk walk = {.context = context, .resolution = &resolution, .base = real};
    result = S_ISDIR(status.st_mode) ? resolve_folder(&walk, ret_error) : resolve_file(&walk, path, &status, ret_error);
    if (result < 0) {
        registry_resolution_clear(&resolution);
        return result;
    }
    registry_set_fingerprint(&resolution);
    *ret_resolution = resolution;
    return 0;
}

static const char *const schemes[] = {"file", "", NULL};

const struct registry_ops file_registry = {
    .name = "file",
    .schemes = schemes,
    .is_local = true,
    .check = file_check,
    .resolve = file_resolve,
    .fetch = registry_file_fetch,
};
