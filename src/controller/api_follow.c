/* The loop's side of answers without an end: when a follow's next round runs, and what is sent meanwhile (follow.h).
 *
 * A follow is running (its round is on the pool), full (its client has stopped reading), or idle. Idle ones are woken
 * by a commit or a change in the log folder, and get a blank line every now and then: without it nobody would notice
 * that the client has gone, and every proxy between would take the silence for death. Log changes come in bursts, a
 * line at a time; a short pause makes one round of a burst. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/follow.h"

#define FOLLOWS_MAXIMUM 256 /* each holds a connection, here and in the gateway */
#define KEEP_ALIVE_MS 15000
#define KEEP_ALIVE_LOOK_MS 2500
#define LOG_PAUSE_MS 50
#define LOG_LOOK_MS 1000 /* where inotify has no room left (max_user_instances, max_user_watches) */

struct follows {
    struct controller *controller;
    void (*run)(struct api_call *call);
    struct follow *first;
    size_t count;
    uint64_t changes, log_changes;
    uv_timer_t keep_alive, log_pause;
    uv_fs_event_t logs;
    bool watches_logs, is_closed;
};

/* ---- rounds ---- */

static void run_round(struct follows *follows, struct follow *follow) {
    follow->record_changed = follow->record_changed || follow->seen_changes != follows->changes;
    follow->seen_changes = follows->changes;
    follow->seen_log_changes = follows->log_changes;
    follow->is_running = true;
    follow->more = false;
    follows->run(follow->call);
}

static bool has_news(const struct follows *follows, const struct follow *follow) {
    return follow->more || follow->seen_changes != follows->changes ||
           (follow->source->reads_logs && follow->seen_log_changes != follows->log_changes);
}

static void go_on(struct follows *follows, struct follow *follow) {
    if (!follow->is_running && !follow->is_full && has_news(follows, follow)) run_round(follows, follow);
}

static void wake_all(struct follows *follows) {
    for (struct follow *follow = follows->first; follow; follow = follow->next) go_on(follows, follow);
}

/* ---- the log folder ---- */

static void on_log_pause(uv_timer_t *timer) {
    struct follows *follows = timer->data;
    follows->log_changes++;
    wake_all(follows);
}

static void on_log_change(uv_fs_event_t *watch, const char *name, int events, int status) {
    struct follows *follows = watch->data;
    (void)name, (void)events, (void)status;
    if (!uv_is_active((uv_handle_t *)&follows->log_pause))
        uv_timer_start(&follows->log_pause, on_log_pause, LOG_PAUSE_MS, 0);
}

static void watch_logs(struct follows *follows) {
    if (follows->watches_logs) return;
    follows->watches_logs = true;
    _cleanup_free_ char *path = text_format("%s/logs", follows->controller->settings->state);
    int result = uv_fs_event_start(&follows->logs, on_log_change, path, 0);
    if (result >= 0) return;
    log_write(LOG_WARNING, "changes of logs are not told; looking every second instead", "path", path, "error",
              uv_strerror(result), NULL);
    uv_timer_start(&follows->log_pause, on_log_pause, LOG_LOOK_MS, LOG_LOOK_MS);
}

static void stop_watching(struct follows *follows) {
    for (struct follow *follow = follows->first; follow; follow = follow->next)
        if (follow->source->reads_logs) return;
    uv_fs_event_stop(&follows->logs);
    uv_timer_stop(&follows->log_pause);
    follows->watches_logs = false;
}

/* ---- keeping alive ---- */

static void on_keep_alive(uv_timer_t *timer) {
    struct follows *follows = timer->data;
    uint64_t now = clock_monotonic_ms();
    for (struct follow *follow = follows->first; follow; follow = follow->next) {
        if (follow->is_running || follow->is_full || now - follow->spoken_ms + KEEP_ALIVE_LOOK_MS < KEEP_ALIVE_MS)
            continue;
        follow->spoken_ms = now;
        follow->is_full = !http_send(follow->call->request, "\n", 1);
    }
}

/* ---- beginning and end ---- */

static void begin(struct follows *follows, struct follow *follow) {
    struct http_header headers[] = {{"Content-Type", "application/x-ndjson"},
                                    {"Cache-Control", "no-store"},
                                    {"X-Slipway-Position", follow->position ? follow->position : ""}};
    http_begin(follow->call->request, 200, headers, follow->position ? 3 : 2, -1);
    follow->call->is_following = true;
    follow->next = follows->first;
    follows->first = follow;
    if (!follows->count++) uv_timer_start(&follows->keep_alive, on_keep_alive, KEEP_ALIVE_LOOK_MS, KEEP_ALIVE_LOOK_MS);
    if (!follow->source->reads_logs) return;
    watch_logs(follows);
    follow->more = true; /* what was written between its first round and the watch */
}

static void leave(struct follows *follows, struct follow *follow) {
    if (!follow->call->is_following) return;
    struct follow **at = &follows->first;
    while (*at != follow) at = &(*at)->next;
    *at = follow->next;
    if (!--follows->count) uv_timer_stop(&follows->keep_alive);
    if (follow->source->reads_logs && !follows->is_closed) stop_watching(follows);
}

static void end_follow(struct follows *follows, struct api_call *call, bool is_whole,
                       void (*end)(struct api_call *call)) {
    leave(follows, call->follow);
    if (is_whole)
        http_end(call->request);
    else
        http_break(call->request);
    end(call);
}

/* Whether its first round went well and there is room for one more; else the call has its error. */
static bool is_admitted(struct follows *follows, struct api_call *call) {
    if (call->error) return false;
    if (follows->count < FOLLOWS_MAXIMUM) return true;
    error_set_status(&call->error, ERROR_UNAVAILABLE, 503,
                     "%d clients follow events or logs already; no more are let in until one of them goes",
                     FOLLOWS_MAXIMUM);
    return false;
}

void follows_take(struct follows *follows, struct api_call *call, void (*end)(struct api_call *call)) {
    struct follow *follow = call->follow;
    follow->is_running = false;
    if (!call->is_following && !is_admitted(follows, call)) {
        http_respond_error(call->request, call->error);
        end(call);
        return;
    }
    if (call->error || http_is_gone(call->request)) {
        end_follow(follows, call, false, end);
        return;
    }
    if (!call->is_following) begin(follows, follow);
    if (follow->out.size) {
        follow->spoken_ms = clock_monotonic_ms();
        follow->is_full = !http_send(call->request, follow->out.bytes, follow->out.size);
        follow->out.size = 0;
    } else if (!follow->spoken_ms) {
        follow->spoken_ms = clock_monotonic_ms();
    }
    if (follow->is_over && !follow->more)
        end_follow(follows, call, true, end);
    else
        go_on(follows, follow);
}

void follows_writable(struct follows *follows, struct api_call *call) {
    call->follow->is_full = false;
    if (!http_is_gone(call->request)) go_on(follows, call->follow);
}

void follows_gone(struct follows *follows, struct api_call *call, void (*end)(struct api_call *call)) {
    if (!call->follow->is_running) end_follow(follows, call, false, end);
}

void follows_look_again(struct follows *follows) {
    follows->changes++;
    wake_all(follows);
}

/* ---- the pool's side ---- */

int follow_is_asked(const struct api_call *call, bool *ret_asked, struct error **ret_error) {
    const char *text = call->parameters[API_FOLLOW];
    *ret_asked = text_equal(text, "true");
    if (!text || *ret_asked || text_equal(text, "false")) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "follow must be true or false, not \"%.64s\"", text);
}

int follow_round(struct api_call *call, struct error **ret_error) {
    struct follow *follow = call->follow;
    int result = follow->source->read(follow, call, &follow->out, &follow->more, ret_error);
    follow->record_changed = false;
    return result;
}

int follow_begin(struct api_call *call, struct follow *follow, struct error **ret_error) {
    call->follow = follow;
    follow->call = call;
    follow->record_changed = true;
    return follow_round(call, ret_error);
}

void follow_append(struct buffer *out, yyjson_mut_doc *document) {
    size_t size = 0;
    _cleanup_free_ char *json = json_write(document, &size);
    buffer_append(out, json, size);
    buffer_append(out, "\n", 1);
}

/* ---- life ---- */

struct follows *follows_new(struct controller *controller, void (*run)(struct api_call *call)) {
    struct follows *follows = mem_new(struct follows);
    follows->controller = controller;
    follows->run = run;
    uv_timer_init(controller->loop, &follows->keep_alive);
    uv_timer_init(controller->loop, &follows->log_pause);
    uv_fs_event_init(controller->loop, &follows->logs);
    follows->keep_alive.data = follows->log_pause.data = follows->logs.data = follows;
    return follows;
}

void follows_close(struct follows *follows) {
    follows->is_closed = true;
    uv_close((uv_handle_t *)&follows->keep_alive, NULL);
    uv_close((uv_handle_t *)&follows->log_pause, NULL);
    uv_close((uv_handle_t *)&follows->logs, NULL);
}

void follows_free(struct follows *follows) {
    free(follows);
}

void follow_free(struct follow *follow) {
    if (!follow) return;
    buffer_clear(&follow->out);
    free(follow->position);
    follow->source->free(follow);
}
