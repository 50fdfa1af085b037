#include "runner/runner_onnx-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"

#define DEPTH_MAXIMUM 100 /* subgraphs in attributes of nodes; protobuf's own parsers stop there too */

enum message { NONE, MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE_TENSOR, FUNCTION, TRAINING, ENTRY };

/* Which field of which message holds a message that can lead to a tensor. All other fields are passed over. */
static const struct {
    enum message in;
    uint32_t field;
    enum message holds;
} paths[] = {
    {MODEL, 7, GRAPH},
    {MODEL, 20, TRAINING},
    {MODEL, 25, FUNCTION},
    {TRAINING, 1, GRAPH},
    {TRAINING, 2, GRAPH},
    {FUNCTION, 7, NODE},
    {FUNCTION, 11, ATTRIBUTE},
    {GRAPH, 1, NODE},
    {GRAPH, 5, TENSOR},
    {GRAPH, 15, SPARSE_TENSOR},
    {SPARSE_TENSOR, 1, TENSOR},
    {SPARSE_TENSOR, 2, TENSOR},
    {NODE, 5, ATTRIBUTE},
    {ATTRIBUTE, 5, TENSOR},
    {ATTRIBUTE, 6, GRAPH},
    {ATTRIBUTE, 10, TENSOR},
    {ATTRIBUTE, 11, GRAPH},
    {ATTRIBUTE, 22, SPARSE_TENSOR},
    {ATTRIBUTE, 23, SPARSE_TENSOR},
    {TENSOR, 13, ENTRY},
};

struct walk {
    const uint8_t *start;
    runner_onnx_visit *visit;
    void *context;
};

struct span {
    const uint8_t *at, *end;
};

static int malformed(const struct walk *walk, const uint8_t *at, const char *what, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION, "not a whole ONNX model: %s at byte %zu", what,
                     (size_t)(at - walk->start));
}

static bool read_varint(struct span *span, uint64_t *ret_value) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70 && span->at < span->end; shift += 7) {
        uint8_t byte = *span->at++;
        if (shift < 64) value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* One field: its number, and for a length-delimited one its bytes (otherwise an empty ret_bytes with at NULL). */
static int read_field(const struct walk *walk, struct span *span, uint64_t *ret_field, struct span *ret_bytes,
                      struct error **ret_error) {
    const uint8_t *begin = span->at;
    uint64_t tag, size = 0;
    *ret_bytes = (struct span){0};
    if (!read_varint(span, &tag) || tag >> 3 == 0) return malformed(walk, begin, "a broken field tag", ret_error);
    *ret_field = tag >> 3;
    switch (tag & 7) {
    case 0:
        if (!read_varint(span, &size)) return malformed(walk, begin, "a broken number", ret_error);
        return 0;
    case 1: size = 8; break;
    case 5: size = 4; break;
    case 2:
        if (!read_varint(span, &size)) return malformed(walk, begin, "a broken length", ret_error);
        break;
    default: return malformed(walk, begin, "a field of an unknown kind", ret_error);
    }
    if (size > (uint64_t)(span->end - span->at))
        return malformed(walk, begin, "a field that reaches past the end", ret_error);
    if ((tag & 7) == 2) *ret_bytes = (struct span){span->at, span->at + size};
    span->at += size;
    return 0;
}

/* StringStringEntryProto {key = 1, value = 2}. Where fields repeat, parsers differ in which counts: if any key says
 * "location", every value is visited. */
static int walk_entry(const struct walk *walk, struct span span, struct error **ret_error) {
    bool is_location = false;
    for (int pass = 0; pass < 2; pass++) {
        struct span rest = span, bytes;
        while (rest.at < rest.end) {
            uint64_t field;
            int result = read_field(walk, &rest, &field, &bytes, ret_error);
            if (result < 0) return result;
            if (!bytes.at) continue;
            size_t size = (size_t)(bytes.end - bytes.at);
            if (field == 1 && size == 8 && !memcmp(bytes.at, "location", 8)) is_location = true;
            if (field != 2 || pass == 0 || !is_location) continue;
            result = walk->visit((const char *)bytes.at, size, walk->context, ret_error);
            if (result < 0) return result;
        }
    }
    return 0;
}

static enum message held_by(enum message in, uint64_t field) {
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        if (paths[i].in == in && paths[i].field == field) return paths[i].holds;
    return NONE;
}

static int walk_message(const struct walk *walk, enum message message, struct span span, int depth,
                        struct error **ret_error) {
    if (message == ENTRY) return walk_entry(walk, span, ret_error);
    if (depth > DEPTH_MAXIMUM) return malformed(walk, span.at, "nesting that is too deep", ret_error);
    while (span.at < span.end) {
        struct span bytes = {0};
        uint64_t field = 0;
        int result = read_field(walk, &span, &field, &bytes, ret_error);
        if (result < 0) return result;
        enum message inner = held_by(message, field);
        if (inner == NONE) continue;
        if (!bytes.at) return malformed(walk, span.at, "a message of a wrong kind", ret_error);
        result = walk_message(walk, inner, bytes, depth + 1, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

int runner_onnx_walk(const void *bytes, size_t size, runner_onnx_visit *visit, void *context,
                     struct error **ret_error) {
    struct walk walk = {bytes, visit, context};
    struct span all = {bytes, (const uint8_t *)bytes + size};
    struct span rest = all, inner = {0};
    bool has_graph = false;
    while (rest.at < rest.end) {
        uint64_t field = 0;
        int result = read_field(&walk, &rest, &field, &inner, ret_error);
        if (result < 0) return result;
        has_graph = has_graph || (field == 7 && inner.at);
    }
    if (!has_graph) return error_set(ret_error, ERROR_CONFIGURATION, "not an ONNX model: there is no graph in it");
    return walk_message(&walk, MODEL, all, 0, ret_error);
}

/* ---- external data ------------------------------------------------------- */

/* Goes down the location part by part from the folder's descriptor, so that no link is followed anywhere. */
static int check_regular(int folder, char *location, struct error **ret_error) {
    _cleanup_close_ int at = dup(folder);
    char *rest = location, *part;
    while ((part = strsep(&rest, "/"))) {
        if (!*part || !strcmp(part, ".")) continue;
        if (!strcmp(part, ".."))
            return error_set(ret_error, ERROR_CONFIGURATION, "external data may not be named with \"..\"");
        int next = openat(at, part, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "external data %s", part);
        close(at);
        at = next;
        struct stat state;
        if (fstat(at, &state) < 0)
            return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "external data %s", part);
        if (rest ? !S_ISDIR(state.st_mode) : !S_ISREG(state.st_mode))
            return error_set(ret_error, ERROR_CONFIGURATION, "external data %s is not a %s inside the model folder",
                             part, rest ? "folder" : "regular file");
    }
    return 0;
}

static int check_location(const char *location, size_t size, void *context, struct error **ret_error) {
    if (!text_is_utf8(location, size) || size == 0 || size > 4096)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "external data has a name that is empty, too long or not UTF-8");
    _cleanup_free_ char *copy = text_copy_bytes(location, size);
    _cleanup_free_ char *parts = text_copy(copy);
    int result = 0;
    if (*copy == '/')
        result = error_set(ret_error, ERROR_CONFIGURATION, "external data may not have an absolute path");
    else if (strstr(copy, "_ORT_MEM_ADDR_")) /* ONNX Runtime would take its offset for an address in memory */
        result = error_set(ret_error, ERROR_CONFIGURATION, "external data may not name memory");
    else
        result = check_regular(*(int *)context, parts, ret_error);
    return result < 0 ? error_wrap(ret_error, "external data at \"%.200s\" is refused", copy) : 0;
}

static int check_mapped(const char *path, int descriptor, int folder, struct error **ret_error) {
    struct stat state;
    if (fstat(descriptor, &state) < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "stat %s", path);
    if (!S_ISREG(state.st_mode)) return error_set(ret_error, ERROR_CONFIGURATION, "%s is not a regular file", path);
    if (state.st_size == 0) return error_set(ret_error, ERROR_CONFIGURATION, "%s is empty", path);
    size_t size = (size_t)state.st_size;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (bytes == MAP_FAILED) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "map %s", path);
    int result = runner_onnx_walk(bytes, size, check_location, &folder, ret_error);
    munmap(bytes, size);
    return result < 0 ? error_wrap(ret_error, "check %s", path) : 0;
}

int runner_onnx_check(const char *folder, const char *file, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, file);
    _cleanup_free_ char *beside = text_copy(path); /* locations are relative to the model file's own folder */
    *strrchr(beside, '/') = 0;
    _cleanup_close_ int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open %s", path);
    _cleanup_close_ int folder_descriptor = open(beside, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder_descriptor < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open %s", beside);
    return check_mapped(path, descriptor, folder_descriptor, ret_error);
}
