/* Following events and logs over an answer without an end. A service that restarts or is upgraded breaks it off: then
 * it is asked for again from behind what was taken last, so that nothing is told twice and nothing is left out. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define QUIET_MS 45000 /* the service says something every 15 s, if only that it is there */
#define PAUSE_MS 250
#define LINE_MAXIMUM ((size_t)16 * 1024 * 1024)

struct follower {
    const struct slipway_follow *follow;
    struct buffer line, header;
    char **positions; /* logs: the newest of each replica */
    size_t position_count;
    int64_t event_id; /* events: the last */
    bool is_over; /* the caller has enough */
    uint64_t heard_ms;
};

/* "<replica>:…": one a replica. */
static void keep_position(struct follower *follower, const char *position, size_t size) {
    const char *colon = memchr(position, ':', size);
    size_t id = colon ? (size_t)(colon - position) + 1 : size;
    size_t at = 0;
    while (at < follower->position_count && strncmp(follower->positions[at], position, id) != 0) at++;
    if (at == follower->position_count) {
        follower->positions = mem_resize(follower->positions, ++follower->position_count, sizeof(char *));
        follower->positions[at] = NULL;
    }
    free(follower->positions[at]);
    follower->positions[at] = text_copy_bytes(position, size);
}

/* Where each log stood when the answer began. */
static void keep_header(struct follower *follower) {
    const char *at = follower->header.size ? follower->header.bytes : "";
    while (*at) {
        size_t size = strcspn(at, ",");
        if (size) keep_position(follower, at, size);
        at += size + (at[size] == ',');
    }
    follower->header.size = 0;
}

/* Takes a line without its end; a blank one only says that the service is there. */
static void take_line(struct follower *follower, const char *line, size_t size) {
    if (!size) return;
    _cleanup_json_ yyjson_doc *document = yyjson_read(line, size, 0);
    yyjson_val *root = yyjson_doc_get_root(document);
    if (!yyjson_is_obj(root)) return;
    _cleanup_free_ char *json = text_copy_bytes(line, size);
    if (!follower->follow->take(follower->follow->context, json)) {
        follower->is_over = true;
        return;
    }
    yyjson_val *position = yyjson_obj_get(root, "position"), *event_id = yyjson_obj_get(root, "event_id");
    if (yyjson_is_str(position)) keep_position(follower, yyjson_get_str(position), yyjson_get_len(position));
    if (yyjson_is_int(event_id)) follower->event_id = yyjson_get_sint(event_id);
}

static bool take(void *context, const char *bytes, size_t size) {
    struct follower *follower = context;
    follower->heard_ms = clock_monotonic_ms();
    keep_header(follower);
    if (follower->line.size > LINE_MAXIMUM || !buffer_append(&follower->line, bytes, size)) return false;
    size_t begin = 0;
    char *end;
    while (!follower->is_over && follower->line.size > begin &&
           (end = memchr(follower->line.bytes + begin, '\n', follower->line.size - begin))) {
        take_line(follower, follower->line.bytes + begin, (size_t)(end - follower->line.bytes) - begin);
        begin = (size_t)(end - follower->line.bytes) + 1;
    }
    buffer_consume(&follower->line, begin);
    return !follower->is_over;
}

/* path?follow=true with where to begin; caller frees. */
static char *make_path(const struct follower *follower, const char *path) {
    struct buffer text = {0};
    buffer_append_format(&text, "%s?follow=true", path);
    if (follower->event_id) {
        buffer_append_format(&text, "&after=%lld", (long long)follower->event_id);
    } else if (follower->position_count) {
        for (size_t i = 0; i < follower->position_count; i++)
            buffer_append_format(&text, "%s%s", i ? "," : "&after=", follower->positions[i]);
    } else {
        buffer_append_format(&text, "&limit=%zu", follower->follow->limit ? follower->follow->limit : 100);
    }
    return buffer_take(&text, NULL);
}

static int ask(struct slipway *service, struct follower *follower, const char *path, struct slipway_error **ret_error) {
    _cleanup_free_ char *target = make_path(follower, path);
    const struct client_request request = {.method = "GET",
                                           .path = target,
                                           .take = take,
                                           .take_context = follower,
                                           .quiet_ms = QUIET_MS,
                                           .position = &follower->header};
    _cleanup_answer_ struct client_answer answer = {0};
    follower->line.size = follower->header.size = 0; /* of one that broke off */
    return client_send(service, &request, &answer, ret_error);
}

static int follow(struct slipway *service, const char *path, const struct slipway_follow *how,
                  struct slipway_error **ret_error) {
    struct follower follower = {.follow = how, .heard_ms = clock_monotonic_ms()};
    int result;
    for (;;) {
        struct slipway_error *error = NULL;
        result = ask(service, &follower, path, &error);
        bool is_final = result != -SLIPWAY_UNAVAILABLE || follower.is_over ||
                        clock_monotonic_ms() - follower.heard_ms > service->timeout_ms;
        if (follower.is_over) result = 0;
        if (result < 0 && is_final && ret_error)
            *ret_error = error;
        else
            slipway_error_free(error);
        if (is_final) break;
        usleep(PAUSE_MS * 1000);
    }
    for (size_t i = 0; i < follower.position_count; i++) free(follower.positions[i]);
    free(follower.positions);
    buffer_clear(&follower.line);
    buffer_clear(&follower.header);
    return result;
}

int slipway_follow_events(struct slipway *service, const char *deployment_id, const struct slipway_follow *how,
                          struct slipway_error **ret_error) {
    _cleanup_free_ char *path =
        deployment_id ? client_path("/v1/deployments/", deployment_id, "/events") : text_copy("/v1/events");
    return follow(service, path, how, ret_error);
}

int slipway_follow_logs(struct slipway *service, const char *deployment_id, const struct slipway_follow *how,
                        struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path("/v1/deployments/", deployment_id, "/logs");
    return follow(service, path, how, ret_error);
}
