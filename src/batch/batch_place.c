/* Where jobs may read and write. A path is resolved first (realpath, of what is there of it), must then lie inside a
 * root, and is walked from the root's descriptor one name at a time without following links: whoever changes a name
 * meanwhile gets an error and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

#define SHOWN 200 /* how much of a URI an error repeats */

void batch_place_clear(struct batch_place *place) {
    free(place->path);
    free(place->bucket);
    free(place->key);
    *place = (struct batch_place){0};
}

/* ---- URIs ---- */

static bool is_plain(const char *text) {
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) return false;
    return text_is_utf8(text, strlen(text));
}

static int parse_file(const char *uri, const char *what, struct batch_place *place, struct error **ret_error) {
    size_t size;
    if (*uri == '/') {
        place->path = text_copy(uri);
    } else {
        const char *path = uri + strlen("file:");
        if (text_starts_with(path, "//localhost/")) path += strlen("//localhost");
        if (text_starts_with(path, "///")) path += 2;
        if (*path != '/' || path[1] == '/' || strpbrk(path, "?#"))
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "%s: a file is given as file:///path, with ? and # as %%3F and %%23; it is \"%.*s\"", what,
                             SHOWN, uri);
        if (!text_percent_decode(path, strlen(path), &place->path, &size))
            return error_set(ret_error, ERROR_CONFIGURATION, "%s: a percent escape in %.*s is broken", what, SHOWN,
                             uri);
    }
    if (strlen(place->path) < PATH_MAX && is_plain(place->path)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s: %.*s is longer than any path, not UTF-8, or holds a control character", what, SHOWN, uri);
}

static int parse_s3(const char *uri, const char *what, struct batch_place *place, struct error **ret_error) {
    const char *bucket = uri + strlen("s3://");
    size_t size = strcspn(bucket, "/");
    place->bucket = text_copy_bytes(bucket, size);
    place->key = text_copy(bucket[size] ? bucket + size + 1 : "");
    for (size_t end = strlen(place->key); end && place->key[end - 1] == '/';) place->key[--end] = 0;
    if (size && *place->key && strlen(place->key) <= 900 && is_plain(uri) && !strpbrk(place->bucket, "?#@:%")) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s: an object is given as s3://bucket/key, with at most 900 bytes of key; it is \"%.*s\"", what,
                     SHOWN, uri);
}

int batch_place_parse(const char *uri, const char *what, struct batch_place *ret_place, struct error **ret_error) {
    _cleanup_place_ struct batch_place place = {0};
    int result;
    if (*uri == '/' || !strncasecmp(uri, "file:", strlen("file:")))
        result = parse_file(uri, what, &place, ret_error);
    else if (!strncasecmp(uri, "s3://", strlen("s3://")))
        result = parse_s3(uri, what, &place, ret_error);
    else
        result = error_set(ret_error, ERROR_CONFIGURATION,
                           "%s: a batch job reads and writes file:///path and s3://bucket/key, not \"%.*s\"", what,
                           SHOWN, uri);
    if (result < 0) return result;
    *ret_place = place;
    place = (struct batch_place){0};
    return 0;
}

/* ---- roots ---- */

/* What follows `folder` in `path`, or NULL when it is not inside. */
static const char *inside(const char *folder, const char *path) {
    size_t size = strlen(folder);
    while (size && folder[size - 1] == '/') size--;
    if (strncmp(folder, path, size) != 0 || (path[size] && path[size] != '/')) return NULL;
    return path[size] ? path + size + 1 : path + size;
}

/* The innermost root that has it. */
static const char *find_root(const struct batch_access *access, const char *path, const char **ret_relative) {
    const char *best = NULL;
    for (size_t i = 0; i < access->root_count; i++) {
        const char *relative = inside(access->roots[i], path);
        if (!relative || (best && strlen(access->roots[i]) < strlen(best))) continue;
        best = access->roots[i];
        *ret_relative = relative;
    }
    bool is_ours = best && access->state && inside(access->state, path) && !inside(access->state, best);
    return is_ours ? NULL : best;
}

static int refuse_outside(const struct batch_access *access, const char *path, struct error **ret_error) {
    _cleanup_buffer_ struct buffer roots = {0};
    for (size_t i = 0; i < access->root_count; i++)
        buffer_append_format(&roots, "%s%s", i ? ", " : "", access->roots[i]);
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s is outside the folders that batch jobs may read and write (%s); name its folder in the "
                     "setting batch_roots",
                     path, roots.size ? roots.bytes : "none");
}

/* Walks the names of `relative`; those that are missing are made when `make`. */
static int walk(const char *root, const char *relative, int flags, bool make) {
    int folder = open(root, (*relative ? O_PATH | O_DIRECTORY : flags) | O_CLOEXEC);
    while (folder >= 0 && *relative) {
        size_t size = strcspn(relative, "/");
        bool is_last = !relative[size];
        _cleanup_free_ char *name = text_copy_bytes(relative, size);
        int wanted = (is_last ? flags : O_PATH | O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC;
        int next = openat(folder, name, wanted);
        if (next < 0 && errno == ENOENT && make && (!mkdirat(folder, name, 0755) || errno == EEXIST))
            next = openat(folder, name, wanted);
        mem_close_descriptor(&folder);
        folder = next;
        relative += is_last ? size : size + 1;
    }
    return folder;
}

/* The real path of what is there of it, and the names behind that. Caller frees; NULL with errno. */
static char *resolve(const char *path) {
    _cleanup_free_ char *there = text_copy(path);
    for (;;) {
        _cleanup_free_ char *real = realpath(there, NULL);
        if (real) {
            const char *rest = path + strlen(there);
            while (*rest == '/') rest++;
            return text_format("%s%s%s", text_equal(real, "/") ? "" : real, *rest ? "/" : "", rest);
        }
        char *slash = strrchr(there, '/');
        if (errno != ENOENT || !slash || slash == there) return NULL;
        *slash = 0;
    }
}

/* Names that are not there cannot be resolved: they must be plain ones. */
static bool has_odd_names(const char *path) {
    for (const char *at = path; *at;) {
        size_t size = strcspn(at, "/");
        if ((size == 1 && at[0] == '.') || (size == 2 && at[0] == '.' && at[1] == '.')) return true;
        at += size;
        while (*at == '/') at++;
    }
    return strstr(path, "//") != NULL;
}

int batch_place_open_file(const struct batch_access *access, const char *path, int *ret_descriptor,
                          struct error **ret_error) {
    struct stat status;
    const char *relative = NULL;
    _cleanup_free_ char *real = realpath(path, NULL);
    if (!real) {
        int errno_value = errno;
        const char *root = find_root(access, path, &relative);
        if (!root || has_odd_names(path)) return refuse_outside(access, path, ret_error);
        return error_set_errno(ret_error, ERROR_MODEL_REGISTRY, errno_value, "open the input %s", path);
    }
    const char *root = find_root(access, real, &relative);
    if (!root) return refuse_outside(access, path, ret_error);
    _cleanup_close_ int descriptor = walk(root, relative, O_RDONLY | O_NONBLOCK | O_NOCTTY, false);
    if (descriptor < 0 || fstat(descriptor, &status))
        return error_set_errno(ret_error, ERROR_MODEL_REGISTRY, errno, "open the input %s", path);
    if (!S_ISREG(status.st_mode)) return error_set(ret_error, ERROR_CONFIGURATION, "the input %s is no file", path);
    *ret_descriptor = descriptor;
    descriptor = -1;
    return 0;
}

int batch_place_open_folder(const struct batch_access *access, const char *path, bool make, int *ret_descriptor,
                            struct error **ret_error) {
    const char *relative = NULL;
    _cleanup_free_ char *real = resolve(path);
    if (!real) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "find the output %s", path);
    const char *root = has_odd_names(real) ? NULL : find_root(access, real, &relative);
    if (!root) return refuse_outside(access, path, ret_error);
    _cleanup_close_ int folder = walk(root, relative, O_RDONLY | O_DIRECTORY, make);
    if (folder < 0 && errno == ENOENT && !make) return 0;
    if (folder < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open the output %s, which is a folder", path);
    *ret_descriptor = folder;
    folder = -1;
    return 1;
}
