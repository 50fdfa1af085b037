#include "gateway/gateway_dispatch-internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "gateway/gateway-internal.h"

const char *const gateway_kind_names[GATEWAY_KINDS] = {"health", "own", "data", "document", "control"};

#define SERVE_HEALTH(name) gateway_serve_##name
#define SERVE_OWN(name) gateway_serve_##name
#define SERVE_DATA(name) gateway_serve_##name
#define SERVE_DOCUMENT(name) gateway_serve_##name
#define SERVE_CONTROL(name) gateway_serve_control

const struct gateway_endpoint gateway_endpoints[] = {
#define ROUTE(method, pattern, kind, role, name, summary)                                                              \
    {method, pattern, #name, summary, GATEWAY_##kind, ROLE_##role, SERVE_##kind(name)},
#include "http/routes.def"
#undef ROUTE
};
const size_t gateway_endpoint_count = ARRAY_SIZE(gateway_endpoints);

struct pattern {
    size_t segment_count;
    struct gateway_slice segments[GATEWAY_SEGMENTS]; /* bytes NULL: a parameter */
};

struct gateway_dispatch {
    struct pattern patterns[ARRAY_SIZE(gateway_endpoints)]; /* as in gateway_endpoints */
};

/* How many segments, or SIZE_MAX when the path is none of ours: not from the root, an empty segment, too many. */
static size_t split(const char *path, struct gateway_slice segments[GATEWAY_SEGMENTS]) {
    if (*path != '/') return SIZE_MAX;
    size_t count = 0;
    while (*path == '/') {
        const char *begin = ++path;
        path += strcspn(path, "/?");
        if (path == begin) return *path == '/' || !count ? SIZE_MAX : count;
        if (count == GATEWAY_SEGMENTS) return SIZE_MAX;
        segments[count++] = (struct gateway_slice){begin, (size_t)(path - begin)};
    }
    return count;
}

struct gateway_dispatch *gateway_dispatch_new(void) {
    struct gateway_dispatch *dispatch = mem_new(struct gateway_dispatch);
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        struct pattern *pattern = &dispatch->patterns[i];
        pattern->segment_count = split(gateway_endpoints[i].pattern, pattern->segments);
        assert(pattern->segment_count <= GATEWAY_SEGMENTS);
        for (size_t s = 0; s < pattern->segment_count; s++)
            if (pattern->segments[s].bytes[0] == '{') pattern->segments[s].bytes = NULL;
    }
    return dispatch;
}

void gateway_dispatch_free(struct gateway_dispatch *dispatch) {
    free(dispatch);
}

static bool matches(const struct pattern *pattern, const struct gateway_slice *segments, size_t count) {
    if (pattern->segment_count != count) return false;
    for (size_t i = 0; i < count; i++) {
        const struct gateway_slice *literal = &pattern->segments[i];
        if (!literal->bytes) continue;
        if (literal->size != segments[i].size || memcmp(literal->bytes, segments[i].bytes, literal->size)) return false;
    }
    return true;
}

/* Going through the table: a pattern without parameters that matches takes the path from those with parameters behind
 * it, whatever the method. */
static bool fits(const struct pattern *pattern, const struct gateway_slice *segments, size_t count, bool *is_literal) {
    if (!matches(pattern, segments, count)) return false;
    bool has_parameter = false;
    for (size_t i = 0; i < count; i++) has_parameter |= !pattern->segments[i].bytes;
    if (!has_parameter) *is_literal = true;
    return !has_parameter || !*is_literal;
}

static void take_parameters(const struct pattern *pattern, const struct gateway_slice *segments,
                            struct gateway_match *match) {
    for (size_t i = 0; i < pattern->segment_count; i++) {
        if (pattern->segments[i].bytes) continue;
        assert(match->parameter_count < GATEWAY_PARAMETERS);
        match->parameters[match->parameter_count++] = segments[i];
    }
}

void gateway_dispatch_find(const struct gateway_dispatch *dispatch, const char *method, const char *path,
                           struct gateway_match *ret_match) {
    *ret_match = (struct gateway_match){0};
    struct gateway_slice segments[GATEWAY_SEGMENTS] = {0};
    size_t count = split(path, segments);
    if (!strcmp(method, "HEAD")) method = "GET";
    bool is_literal = false;
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        if (!fits(&dispatch->patterns[i], segments, count, &is_literal)) continue;
        ret_match->path_exists = true;
        if (strcmp(gateway_endpoints[i].method, method)) continue;
        ret_match->endpoint = &gateway_endpoints[i];
        take_parameters(&dispatch->patterns[i], segments, ret_match);
        return;
    }
}

void gateway_dispatch_allow(const struct gateway_dispatch *dispatch, const char *path, char ret_allow[64]) {
    struct gateway_slice segments[GATEWAY_SEGMENTS] = {0};
    size_t count = split(path, segments), size = 0;
    bool is_literal = false;
    ret_allow[0] = 0;
    for (size_t i = 0; i < gateway_endpoint_count; i++) {
        if (!fits(&dispatch->patterns[i], segments, count, &is_literal)) continue;
        const char *method = gateway_endpoints[i].method;
        int more = snprintf(ret_allow + size, 64 - size, "%s%s%s", size ? ", " : "", method,
                            strcmp(method, "GET") ? "" : ", HEAD");
        size += (size_t)more;
        assert(size < 64);
    }
}
