/* A data request, step by step: take the body, admit (find the route), queue, pick a replica, send; gateway_relay.c
 * brings the answer. A replica that fails before a byte of the answer has left sends the request back into the queue,
 * in front, once (R4); one that was never reached does not count.
 *
 * A request that waits is moved to the newest routes: until it is given to a replica it has begun with none (R1), and
 * what it waited for may be about to be stopped.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

#define RUNNER_HOST "runner"

static void on_failed(struct exchange *exchange, const struct http_failure *failure);
static const struct exchange_stream proxy_stream;

/* ---- the body ------------------------------------------------------------ */

enum http_body_mode gateway_proxy_take_body(struct exchange *exchange) {
    struct http_request *request = exchange->request;
    const struct settings *settings = exchange->gateway->settings;
    if (!request->has_body) {
        gateway_proxy_admit(exchange);
        return HTTP_BODY_WHOLE;
    }
    request->body_maximum = settings->body_maximum;
    exchange_set_step(exchange, EXCHANGE_BODY);
    exchange->when_body_whole = gateway_proxy_admit;
    exchange->body_is_streamed =
        request->content_length < 0 || (uint64_t)request->content_length > settings->retry_body_maximum;
    exchange->stream = &proxy_stream;
    return exchange->body_is_streamed ? HTTP_BODY_STREAM : HTTP_BODY_WHOLE;
}

static void admit_streamed(struct exchange *exchange) {
    http_pause_body(exchange->request); /* until there is a replica that takes it */
    gateway_proxy_admit(exchange);
}

static void body_begins(struct exchange *exchange) {
    if (exchange->request->content_length >= 0) admit_streamed(exchange);
    /* chunked: it may turn out short enough to be kept */
}

static void body_piece(struct exchange *exchange, const char *bytes, size_t size) {
    if (exchange->call) {
        exchange->body_is_lost = true;
        if (!http_call_send(exchange->call, bytes, size)) http_pause_body(exchange->request);
    } else if (!buffer_append(&exchange->body, bytes, size)) {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "no memory to hold the request's body while it waits");
    } else if (exchange->step == EXCHANGE_BODY &&
               exchange->body.size > exchange->gateway->settings->retry_body_maximum) {
        admit_streamed(exchange);
    }
}

static void body_end(struct exchange *exchange) {
    exchange->body_has_ended = true;
    if (exchange->step == EXCHANGE_BODY)
        gateway_proxy_admit(exchange);
    else if (exchange->call)
        http_call_end_body(exchange->call);
}

static const struct exchange_stream proxy_stream = {.begins = body_begins, .piece = body_piece, .end = body_end};

/* Its length sets the time that sending takes: the answer's time begins when it has been sent. */
static bool is_being_uploaded(const struct exchange *exchange) {
    return exchange->body_is_streamed && !exchange->body_has_ended;
}

/* What of a streamed body came before there was a replica, then the rest as it comes. */
static void begin_upload(struct exchange *exchange) {
    bool has_room = true;
    if (exchange->body.size) has_room = http_call_send(exchange->call, exchange->body.bytes, exchange->body.size);
    if (has_room) http_resume_body(exchange->request);
}

/* ---- queue and replica --------------------------------------------------- */

static void arm(uv_timer_t *timer, uv_timer_cb callback, uint64_t at_ms) {
    uint64_t now_ms = uv_now(timer->loop);
    uint64_t span_ms = at_ms > now_ms ? at_ms - now_ms : 0;
    if (!uv_is_active((uv_handle_t *)timer) || uv_timer_get_due_in(timer) > span_ms)
        uv_timer_start(timer, callback, span_ms, 0);
}

static void set_deadline(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    exchange->deadline_ms = uv_now(gateway->config.loop) + gateway->settings->upstream_timeout_ms;
    gateway_queue_push(&gateway->deadlines, &exchange->deadline);
    if (!uv_is_active((uv_handle_t *)&gateway->deadline_timer))
        arm(&gateway->deadline_timer, gateway_proxy_on_deadline, exchange->deadline_ms);
}

static bool send_to_replica(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    uint64_t until_ms = 0;
    enum gateway_pick pick = gateway_replicas_pick(&gateway->replicas, exchange->route, uv_now(gateway->config.loop),
                                                   &exchange->incarnation, &until_ms);
    if (pick != GATEWAY_PICKED) {
        if (until_ms) arm(&gateway->suspect_timer, gateway_proxy_on_suspect, until_ms);
        return false;
    }
    struct gateway_lane *lane = exchange->route->lane;
    lane->in_flight++;
    gateway_durations_count(&lane->series.waits, clock_monotonic_us() - exchange->queued_us);
    gateway_trace_part(exchange, GATEWAY_TRACE_REPLICA);
    gateway_queue_remove(&exchange->waiting);
    if (is_being_uploaded(exchange)) gateway_queue_remove(&exchange->deadline);
    (exchange->send ? exchange->send : gateway_relay)(exchange, exchange->incarnation->pool, RUNNER_HOST, on_failed);
    if (is_being_uploaded(exchange)) begin_upload(exchange);
    return true;
}

static void give_back_replica(struct exchange *exchange) {
    if (!exchange->incarnation) return;
    exchange->route->lane->in_flight--;
    gateway_incarnation_release(TAKE(exchange->incarnation));
}

static void drain_lane(struct gateway_lane *lane) {
    while (lane->queue.first) {
        struct exchange *exchange = CONTAINER_OF(lane->queue.first, struct exchange, waiting);
        if (!send_to_replica(exchange)) return;
    }
}

void gateway_proxy_drain_all(struct gateway *gateway) {
    struct gateway_lane *lane, *next;
    HASH_ITER(hh, gateway->replicas.lanes, lane, next) drain_lane(lane);
}

void gateway_proxy_on_suspect(uv_timer_t *timer) {
    gateway_proxy_drain_all(timer->data);
}

static void enqueue(struct exchange *exchange) {
    struct gateway_lane *lane = exchange->route->lane;
    if (!lane->queue.length && send_to_replica(exchange)) return;
    if (exchange->never_waits && !gateway_route_is_up(exchange->route)) {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "deployment %s: no replica of revision %llu is up",
                           exchange->route->name, (unsigned long long)exchange->route->revision);
    } else if (!gateway_queue_push(&lane->queue, &exchange->waiting)) {
        exchange_fail_with(exchange, ERROR_REQUEST, 429,
                           "deployment %s: %zu requests are waiting, which is the most (queue_maximum)",
                           exchange->route->name, lane->queue.length);
    } else {
        exchange_set_step(exchange, EXCHANGE_QUEUED);
    }
}

/* ---- routes -------------------------------------------------------------- */

static struct gateway_route *find_route(const struct exchange *exchange, const struct gateway_snapshot *snapshot) {
    struct gateway_route *route = gateway_snapshot_find(snapshot, exchange->model, strlen(exchange->model));
    return route && exchange->revision_named && exchange->revision != route->revision ? NULL : route;
}

static bool take_route(struct exchange *exchange) {
    struct gateway_snapshot *newest = exchange->gateway->routes.current;
    if (exchange->route && newest == exchange->snapshot) return true;
    struct gateway_route *route = newest ? find_route(exchange, newest) : NULL;
    if (!route) return false; /* keeps what it has */
    struct gateway_snapshot *before = exchange->snapshot;
    exchange->snapshot = gateway_routes_take(&exchange->gateway->routes);
    exchange->route = route;
    if (before) gateway_snapshot_release(before);
    return true;
}

static bool names_another_revision(struct exchange *exchange) {
    const struct gateway_snapshot *newest = exchange->gateway->routes.current;
    const struct gateway_route *route =
        newest ? gateway_snapshot_find(newest, exchange->model, strlen(exchange->model)) : NULL;
    if (!route) return false;
    exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "deployment %s serves revision %llu, not %llu", route->name,
                       (unsigned long long)route->revision, (unsigned long long)exchange->revision);
    return true;
}

void gateway_proxy_admit(struct exchange *exchange) {
    if (!exchange->deadline.queue) set_deadline(exchange);
    if (!exchange->queued_us) exchange->queued_us = clock_monotonic_us();
    gateway_trace_part(exchange, GATEWAY_TRACE_QUEUE);
    if (take_route(exchange)) {
        enqueue(exchange);
    } else if (!names_another_revision(exchange)) {
        exchange_set_step(exchange, EXCHANGE_LOOKUP);
        gateway_reader_explain(exchange->gateway->reader, exchange);
    }
}

void gateway_proxy_reroute_waiting(struct gateway *gateway) {
    struct gateway_queue all = {0};
    struct gateway_lane *lane, *next;
    HASH_ITER(hh, gateway->replicas.lanes, lane, next) {
        while (lane->queue.first) {
            struct gateway_queue_entry *entry = lane->queue.first;
            gateway_queue_remove(entry);
            gateway_queue_push(&all, entry);
        }
    }
    while (all.first) {
        struct exchange *exchange = CONTAINER_OF(all.first, struct exchange, waiting);
        gateway_queue_remove(&exchange->waiting);
        take_route(exchange);
        struct gateway_queue *queue = &exchange->route->lane->queue;
        if (gateway_queue_push(queue, &exchange->waiting)) continue;
        exchange_fail_with(exchange, ERROR_REQUEST, 429, "deployment %s: too many requests are waiting",
                           exchange->route->name);
    }
    gateway_proxy_drain_all(gateway);
}

/* ---- when it does not work out -------------------------------------------- */

static bool can_go_again(const struct exchange *exchange, const struct http_failure *failure) {
    if (exchange->body_is_lost) return false;
    return !failure->sent || !exchange->retried;
}

static void send_again(struct exchange *exchange, bool was_sent) {
    if (was_sent) {
        exchange->retried = true;
        exchange->route->lane->series.retries++;
    }
    if (is_being_uploaded(exchange)) http_pause_body(exchange->request);
    exchange->answer_is_kept = false;
    exchange->status = 0;
    if (!exchange->deadline.queue) set_deadline(exchange);
    take_route(exchange);
    struct gateway_lane *lane = exchange->route->lane;
    exchange->queued_us = clock_monotonic_us();
    gateway_trace_part(exchange, GATEWAY_TRACE_QUEUE);
    exchange_set_step(exchange, EXCHANGE_QUEUED);
    gateway_queue_push_first(&lane->queue, &exchange->waiting);
    drain_lane(lane);
}

static void on_failed(struct exchange *exchange, const struct http_failure *failure) {
    struct gateway *gateway = exchange->gateway;
    bool was_slow = failure->timed_out && failure->sent;
    gateway_trace_replica_failed(exchange, was_slow ? "timeout" : "connection");
    if (!was_slow) gateway_incarnation_suspect(exchange->incarnation, uv_now(gateway->config.loop));
    if (http_has_begun(exchange->request)) {
        exchange_break(exchange);
    } else if (was_slow) {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 504, "deployment %s: its replica has not answered in time",
                           exchange->route->name);
    } else if (can_go_again(exchange, failure)) {
        give_back_replica(exchange);
        send_again(exchange, failure->sent);
    } else {
        _cleanup_free_ char *cause = error_text(failure->error);
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503,
                           "deployment %s: its replica ended while it worked on the request: %s", exchange->route->name,
                           cause);
    }
}

static void expire(struct exchange *exchange) {
    unsigned long long span_ms = exchange->gateway->settings->upstream_timeout_ms;
    if (exchange->step == EXCHANGE_LOOKUP) {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the routes could not be read for %llu ms", span_ms);
        return;
    }
    const char *name = exchange->route->name;
    if (exchange->step == EXCHANGE_SENT) {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 504, "deployment %s: its replica has not answered for %llu ms",
                           name, span_ms);
    } else if (gateway_route_is_up(exchange->route)) {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "deployment %s: its replicas were busy for %llu ms", name,
                           span_ms);
    } else {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503,
                           "deployment %s: no replica of revision %llu is up, and none came for %llu ms", name,
                           (unsigned long long)exchange->route->revision, span_ms);
    }
}

void gateway_proxy_on_deadline(uv_timer_t *timer) {
    struct gateway *gateway = timer->data;
    while (gateway->deadlines.first) {
        struct exchange *exchange = CONTAINER_OF(gateway->deadlines.first, struct exchange, deadline);
        if (exchange->deadline_ms > uv_now(gateway->config.loop)) {
            arm(timer, gateway_proxy_on_deadline, exchange->deadline_ms);
            return;
        }
        gateway_queue_remove(&exchange->deadline);
        expire(exchange);
    }
}

void gateway_proxy_release_replica(struct exchange *exchange) {
    bool had_replica = exchange->incarnation;
    give_back_replica(exchange);
    if (had_replica && exchange->route->lane->queue.length) drain_lane(exchange->route->lane);
    exchange->route = NULL;
}

void gateway_proxy_leave(struct exchange *exchange) {
    gateway_queue_remove(&exchange->deadline);
    gateway_queue_remove(&exchange->waiting);
    gateway_reader_forget(exchange);
    gateway_proxy_release_replica(exchange);
    if (exchange->snapshot) gateway_snapshot_release(TAKE(exchange->snapshot));
}
