/* What every registry does with what it found: checks the names and sizes that came from outside, and fetches. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"
#include "transfer/transfer.h"

#define CONNECT_TIMEOUT_MS 10000
#define STALL_TIMEOUT_MS 30000
#define ATTEMPTS 5
#define PARALLEL 4

/* ---- names ---- */

/* What is wrong with a path, or NULL. */
static const char *path_fault(const char *path) {
    if (!*path) return "is empty";
    if (*path == '/') return "is absolute";
    if (strlen(path) > REGISTRY_PATH_MAXIMUM) return "is too long";
    if (!registry_path_is_plain(path)) return "is not UTF-8, or has a control character in it";
    size_t depth = 0;
    for (const char *name = path;;) {
        size_t size = strcspn(name, "/");
        if (!size) return "has an empty name in it";
        if (size > 255) return "has a name that is too long in it";
        if (!strncmp(name, ".", size) || (size == 2 && !strncmp(name, "..", 2))) return "has . or .. in it";
        if (!name[size]) return NULL;
        if (++depth > REGISTRY_DEPTH_MAXIMUM) return "is too deep";
        name += size + 1;
    }
}

int registry_resolution_add(const struct registry_context *context, struct registry_resolution *resolution,
                            const char *path, uint64_t size_bytes, const char *sha256, const char *identity,
                            const char *source, struct error **ret_error) {
    const char *fault = path_fault(path);
    if (fault) return error_set(ret_error, ERROR_CONFIGURATION, "the name \"%.*s\" of a file %s", 200, path, fault);
    size_t file_maximum = context->file_maximum && context->file_maximum < REGISTRY_FILES_MAXIMUM
                              ? context->file_maximum
                              : REGISTRY_FILES_MAXIMUM;
    if (resolution->file_count >= file_maximum)
        return error_set(ret_error, ERROR_CONFIGURATION, "it has more than the %zu files that a model may have",
                         file_maximum);
    uint64_t known = size_bytes == REGISTRY_SIZE_UNKNOWN ? 0 : size_bytes;
    uint64_t size_maximum = context->size_maximum ? context->size_maximum : INT64_MAX;
    if (known > size_maximum || resolution->size_bytes > size_maximum - known) {
        _cleanup_free_ char *limit = text_size(size_maximum);
        return error_set(ret_error, ERROR_CONFIGURATION, "it is larger than the %s that a model may have", limit);
    }
    size_t count = resolution->file_count;
    if (!(count & (count + 1))) /* 0, 1, 3, 7, …: room for twice as many */
        resolution->files = mem_resize(resolution->files, 2 * count + 1, sizeof *resolution->files);
    resolution->files[resolution->file_count++] = (struct registry_file){.path = text_copy(path),
                                                                         .size_bytes = size_bytes,
                                                                         .sha256 = text_copy(sha256),
                                                                         .identity = text_copy(identity),
                                                                         .source = text_copy(source)};
    resolution->size_bytes += known;
    return 0;
}

/* ---- names among each other ---- */

struct folded {
    char *key; /* lower case, with '\1' for '/', so that what is in a folder comes right behind its name */
    const char *path;
};

static int by_key(const void *a, const void *b) {
    const struct folded *left = a, *right = b;
    int order = strcmp(left->key, right->key);
    return order ? order : strcmp(left->path, right->path);
}

static int refuse_pair(const char *a, const char *b, const char *fault, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION, "its files \"%.*s\" and \"%.*s\" %s", 200, a, 200, b, fault);
}

static int check_pair(const struct folded *a, const struct folded *b, struct error **ret_error) {
    if (!strcmp(a->path, b->path)) return refuse_pair(a->path, b->path, "have one name", ret_error);
    size_t common = 0, folder = 0; /* as far as the keys agree, and the last whole name of that */
    while (a->key[common] && a->key[common] == b->key[common]) {
        common++;
        if (a->key[common - 1] == '\1') folder = common;
    }
    if (!a->key[common] && !b->key[common]) folder = common;
    if (memcmp(a->path, b->path, folder))
        return refuse_pair(a->path, b->path, "have names that differ in upper and lower case only", ret_error);
    if (!a->key[common] && b->key[common] == '\1')
        return refuse_pair(a->path, b->path, "cannot be a file and a folder at once", ret_error);
    return 0;
}

static int check_names(const struct registry_resolution *resolution, struct error **ret_error) {
    size_t count = resolution->file_count;
    struct folded *list = mem_new_array(count, struct folded);
    for (size_t i = 0; i < count; i++) {
        list[i] = (struct folded){text_copy(resolution->files[i].path), resolution->files[i].path};
        for (char *at = list[i].key; *at; at++) *at = *at == '/' ? '\1' : (char)tolower((unsigned char)*at);
    }
    qsort(list, count, sizeof *list, by_key);
    int result = 0;
    for (size_t i = 1; i < count && !result; i++) result = check_pair(&list[i - 1], &list[i], ret_error);
    for (size_t i = 0; i < count; i++) free(list[i].key);
    free(list);
    return result;
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct registry_file *)a)->path, ((const struct registry_file *)b)->path);
}

int registry_resolution_finish(struct registry_resolution *resolution, const char *what, struct error **ret_error) {
    if (!resolution->file_count) return error_set(ret_error, ERROR_MODEL_REGISTRY, "%s has no files", what);
    int result = check_names(resolution, ret_error);
    if (result < 0) return error_wrap(ret_error, "%s", what);
    qsort(resolution->files, resolution->file_count, sizeof *resolution->files, by_path);
    free(resolution->fingerprint);
    resolution->fingerprint = NULL;
    registry_set_fingerprint(resolution);
    return 0;
}

/* ---- fetching ---- */

void registry_transfer_config(const struct registry_context *context, struct transfer_config *ret_config) {
    *ret_config = (struct transfer_config){
        .class = ERROR_MODEL_REGISTRY,
        .connect_timeout_ms = context->connect_timeout_ms ? context->connect_timeout_ms : CONNECT_TIMEOUT_MS,
        .stall_timeout_ms = context->stall_timeout_ms ? context->stall_timeout_ms : STALL_TIMEOUT_MS,
        .deadline_ms = context->deadline_ms,
        .attempts = context->attempts ? context->attempts : ATTEMPTS,
        .parallel = context->parallel ? context->parallel : PARALLEL,
        .canceled = context->canceled,
    };
}

int registry_download(const struct registry_context *context, struct transfer *transfer,
                      const struct registry_resolution *resolution, const char *folder,
                      int (*describe)(void *state, const struct registry_file *file, struct transfer_file *ret_file,
                                      struct error **ret_error),
                      void *state, struct error **ret_error) {
    _cleanup_close_ int target = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open the folder %s", folder);
    _cleanup_free_ struct transfer_file *files = mem_new_array(resolution->file_count, struct transfer_file);
    int result = 0;
    for (size_t i = 0; i < resolution->file_count && !result; i++) {
        const struct registry_file *file = &resolution->files[i];
        files[i] = (struct transfer_file){
            .path = file->path,
            .size_bytes = file->size_bytes == REGISTRY_SIZE_UNKNOWN ? TRANSFER_SIZE_UNKNOWN : file->size_bytes,
            .sha256 = file->sha256};
        result = describe(state, file, &files[i], ret_error);
    }
    struct transfer_download download = {.folder = target,
                                         .files = files,
                                         .count = resolution->file_count,
                                         .size_maximum = context->size_maximum,
                                         .on_progress = context->on_progress,
                                         .progress_context = context->progress_context};
    return result < 0 ? result : transfer_download(transfer, &download, ret_error);
}
