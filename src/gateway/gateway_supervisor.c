/* The channel to the supervisor: who is up, when routes change, are you there. What it says is acted on at once; a
 * channel that closes is the supervisor's end, and so the gateway's. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"
#include "slipway_version.h"

static void on_poll(uv_poll_t *poll, int status, int events);

static void end_lost(uv_timer_t *timer) {
    gateway_end(timer->data, 1);
}

/* Ends on the loop's next turn: what is said is often said by a request that is just ending, and ending the gateway
 * frees its requests. */
static void lose(struct gateway *gateway, struct error *error) {
    if (!uv_is_active((uv_handle_t *)&gateway->lost_timer)) {
        _cleanup_free_ char *text = error ? error_text(error) : NULL;
        log_write(LOG_ERROR, "the supervisor is gone; ending", "cause", text, NULL);
        uv_timer_start(&gateway->lost_timer, end_lost, 0, 0);
    }
    error_free(error);
}

/* Asks for writability only while something is queued. */
static void watch(struct gateway *gateway) {
    if (gateway->phase == GATEWAY_ENDED) return;
    int events = UV_READABLE | UV_DISCONNECT | (wire_channel_wants_write(gateway->supervisor) ? UV_WRITABLE : 0);
    uv_poll_start(&gateway->supervisor_poll, events, on_poll);
}

static void say(struct gateway *gateway, const struct wire_message *message) {
    struct error *error = NULL;
    if (gateway->phase == GATEWAY_ENDED) return;
    if (wire_send(gateway->supervisor, message, &error)) {
        lose(gateway, error);
        return;
    }
    watch(gateway);
}

static void act(struct gateway *gateway, const struct wire_message *message) {
    switch (message->type) {
    case WIRE_ping:
        say(gateway, &(struct wire_message){.type = WIRE_pong, .pong = {.sequence = message->ping.sequence}});
        break;
    case WIRE_replica_up: {
        const struct wire_replica_up *up = &message->replica_up;
        _cleanup_free_ char *address = text_format("unix:%s", up->address);
        gateway_replica_up(&gateway->replicas, up->replica_id, up->incarnation, address);
        gateway_proxy_drain_all(gateway);
        break;
    }
    case WIRE_replica_down:
        gateway_replica_down(&gateway->replicas, message->replica_down.replica_id, message->replica_down.incarnation);
        break;
    case WIRE_snapshot_end:
        /* From now on it passes announcements on: none between the reading and now is missed. */
        gateway_reader_want(gateway->reader, 0);
        break;
    case WIRE_routes_changed: gateway_reader_want(gateway->reader, message->routes_changed.generation); break;
    case WIRE_log_indexed:
        gateway_collections_indexed(gateway, message->log_indexed.collection_id, message->log_indexed.seq);
        break;
    case WIRE_pair_changed:
        gateway_collections_pair_changed(gateway, message->pair_changed.collection_id, message->pair_changed.epoch);
        break;
    case WIRE_hold_control: gateway_hold_set(gateway, message->hold_control.hold); break;
    case WIRE_hand_over: gateway_hand_over(gateway, wire_take_descriptor(gateway->supervisor)); break;
    case WIRE_adopt: gateway_adopt(gateway, wire_take_descriptor(gateway->supervisor)); break;
    case WIRE_indexer_up: gateway_collections_indexer_up(gateway); break;
    default: break; /* for others, or from a newer version */
    }
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct gateway *gateway = poll->data;
    struct error *error = NULL;
    if (status < 0) {
        lose(gateway, NULL);
        return;
    }
    if (events & UV_WRITABLE && wire_flush(gateway->supervisor, &error)) {
        lose(gateway, error);
        return;
    }
    for (;;) {
        _cleanup_wire_message_ struct wire_message message = {0};
        int received = wire_receive(gateway->supervisor, &message, &error);
        if (received < 0) {
            lose(gateway, error);
            return;
        }
        if (!received) break;
        act(gateway, &message);
        if (gateway->phase == GATEWAY_ENDED) return;
    }
    watch(gateway);
}

void gateway_tell_routes_used(void *context, uint64_t generation, uint64_t lowest) {
    struct gateway *gateway = context;
    say(gateway, &(struct wire_message){
                     .type = WIRE_routes_used,
                     .routes_used = {.gateway_id = (uint64_t)getpid(), .generation = generation, .lowest = lowest}});
}

void gateway_tell_log_appended(struct gateway *gateway, const char *collection_id, enum collection_set set,
                               uint64_t head) {
    say(gateway, &(struct wire_message){
                     .type = WIRE_log_appended,
                     .log_appended = {.collection_id = collection_id, .set = collection_set_name(set), .head = head}});
}

void gateway_tell_pair_used(struct gateway *gateway, const char *collection_id, uint64_t epoch, uint64_t lowest) {
    say(gateway, &(struct wire_message){.type = WIRE_pair_used,
                                        .pair_used = {.gateway_id = (uint64_t)getpid(),
                                                      .collection_id = collection_id,
                                                      .epoch = epoch,
                                                      .lowest = lowest}});
}

void gateway_tell_ready(struct gateway *gateway) {
    say(gateway, &(struct wire_message){.type = WIRE_role_ready});
}

void gateway_tell_failed(struct gateway *gateway, const char *message) {
    say(gateway, &(struct wire_message){.type = WIRE_role_failed, .role_failed = {.message = message}});
}

void gateway_tell_control_held(struct gateway *gateway) {
    say(gateway, &(struct wire_message){.type = WIRE_control_held});
}

void gateway_supervisor_open(struct gateway *gateway) {
    gateway->supervisor = wire_channel_new(gateway->config.supervisor);
    uv_poll_init(gateway->config.loop, &gateway->supervisor_poll, wire_channel_descriptor(gateway->supervisor));
    gateway->supervisor_poll.data = gateway;
    say(gateway,
        &(struct wire_message){.type = WIRE_hello,
                               .hello = {.role = "gateway", .version = SLIPWAY_VERSION, .pid = (uint64_t)getpid()}});
}

void gateway_supervisor_close(struct gateway *gateway) {
    uv_poll_stop(&gateway->supervisor_poll);
}
