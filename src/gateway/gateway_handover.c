/* Connections that go from one gateway to its successor (RULES U2), through a pair of sockets of which the supervisor
 * gives each an end. The one that goes stops accepting, passes its idle connections on, drains like at any end, and
 * ends; the other takes them on, beside those that it accepts itself. What is with the kernel of a connection goes with
 * it, so that its client notices nothing. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "gateway/gateway-internal.h"

struct gateway_handover {
    struct gateway *gateway;
    struct wire_channel *channel;
    uv_poll_t poll;
    bool is_over; /* the other has closed its end */
    bool is_drained; /* all connections are gone from here */
};

static struct gateway_handover *begin(struct gateway *gateway, int descriptor) {
    struct gateway_handover *handover = mem_new(struct gateway_handover);
    handover->gateway = gateway;
    handover->channel = wire_channel_new(descriptor);
    uv_poll_init(gateway->config.loop, &handover->poll, descriptor);
    handover->poll.data = handover;
    return handover;
}

void gateway_handover_close(struct gateway *gateway) {
    if (gateway->handover) uv_close((uv_handle_t *)&gateway->handover->poll, NULL);
    if (gateway->adoption) uv_close((uv_handle_t *)&gateway->adoption->poll, NULL);
}

static void free_one(struct gateway_handover *handover) {
    if (!handover) return;
    wire_channel_free(handover->channel);
    free(handover);
}

void gateway_handover_free(struct gateway *gateway) {
    free_one(TAKE(gateway->handover));
    free_one(TAKE(gateway->adoption));
}

static void stop(struct gateway_handover *handover) {
    handover->is_over = true;
    uv_poll_stop(&handover->poll);
}

/* ---- the one that goes --------------------------------------------------- */

static void on_room(uv_poll_t *poll, int status, int events);

static void watch_room(struct gateway_handover *handover) {
    if (!handover->is_over && wire_channel_wants_write(handover->channel))
        uv_poll_start(&handover->poll, UV_WRITABLE | UV_DISCONNECT, on_room);
    else
        uv_poll_stop(&handover->poll);
}

/* What is still queued is a client's connection: not before it has gone out. */
static void end_when_done(struct gateway_handover *handover) {
    if (handover->is_drained && (handover->is_over || !wire_channel_wants_write(handover->channel)))
        gateway_end(handover->gateway, 0);
}

static void on_room(uv_poll_t *poll, int status, int events) {
    struct gateway_handover *handover = poll->data;
    (void)events;
    if (status < 0 || wire_flush(handover->channel, NULL) < 0)
        stop(handover);
    else
        watch_room(handover);
    end_when_done(handover);
}

/* A successor that is gone leaves nobody to go on with it: closed, as by a gateway that dies. */
static void pass_on(int descriptor, void *context) {
    struct gateway_handover *handover = ((struct gateway *)context)->handover;
    const struct wire_message message = {.type = WIRE_connection};
    if (!handover->is_over && wire_send_with(handover->channel, &message, descriptor, NULL) < 0) stop(handover);
    close(descriptor);
    watch_room(handover);
}

static void on_drained(void *context) {
    struct gateway_handover *handover = ((struct gateway *)context)->handover;
    handover->is_drained = true;
    end_when_done(handover);
}

void gateway_hand_over(struct gateway *gateway, int descriptor) {
    if (descriptor < 0) return;
    if (gateway->phase != GATEWAY_SERVING || gateway->handover) {
        close(descriptor);
        gateway_drain(gateway);
        return;
    }
    gateway->handover = begin(gateway, descriptor);
    log_write(LOG_INFO, "handing over", NULL);
    gateway_begin_draining(gateway);
    http_server_hand_over(gateway->server, pass_on, on_drained, gateway);
}

/* ---- the one that comes -------------------------------------------------- */

static void take_on(struct gateway_handover *handover) {
    struct error *error = NULL;
    int descriptor = wire_take_descriptor(handover->channel);
    if (descriptor < 0 || http_server_adopt(handover->gateway->server, descriptor, &error) == 0) return;
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, "a connection could not be taken on", "error", text, NULL);
    error_free(error);
}

static void on_connections(uv_poll_t *poll, int status, int events) {
    struct gateway_handover *handover = poll->data;
    (void)events;
    while (status >= 0 && handover->gateway->phase == GATEWAY_SERVING) {
        _cleanup_wire_message_ struct wire_message message = {0};
        int received = wire_receive(handover->channel, &message, NULL);
        if (!received) return;
        if (received < 0) break;
        if (message.type == WIRE_connection) take_on(handover);
    }
    stop(handover);
}

void gateway_adopt(struct gateway *gateway, int descriptor) {
    if (descriptor < 0) return;
    if (gateway->phase != GATEWAY_SERVING || gateway->adoption) {
        close(descriptor);
        return;
    }
    gateway->adoption = begin(gateway, descriptor);
    uv_poll_start(&gateway->adoption->poll, UV_READABLE | UV_DISCONNECT, on_connections);
}
