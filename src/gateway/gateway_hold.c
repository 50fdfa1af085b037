/* Control requests while the controller is being replaced: the supervisor says so before it ends the one that runs, and
 * they wait here for the next one, so that none of them fails. It is not ended before those that change something are
 * answered; one that only asks is sent again. All of it is bounded: a controller that does not come makes them fail as
 * if it had died. */
#include <string.h>

#include "base/memory.h"
#include "gateway/gateway-internal.h"

#define HOLD_MAXIMUM_MS 10000

static void say_held(struct gateway *gateway) {
    struct gateway_hold *hold = &gateway->hold;
    if (!hold->is_on || hold->has_said || hold->changing) return;
    hold->has_said = true;
    gateway_tell_control_held(gateway);
}

static void release(struct gateway *gateway) {
    gateway->hold.is_on = false;
    uv_timer_stop(&gateway->hold.timer);
    while (gateway->hold.waiting.first) {
        struct exchange *exchange = CONTAINER_OF(gateway->hold.waiting.first, struct exchange, waiting);
        gateway_queue_remove(&exchange->waiting);
        exchange->when_released(exchange);
    }
}

static void on_hold_deadline(uv_timer_t *timer) {
    release(timer->data);
}

void gateway_hold_set(struct gateway *gateway, bool is_on) {
    if (gateway->phase == GATEWAY_ENDED) return;
    if (!is_on) {
        release(gateway);
        return;
    }
    gateway->hold.is_on = true;
    gateway->hold.has_said = false;
    uv_timer_start(&gateway->hold.timer, on_hold_deadline, HOLD_MAXIMUM_MS, 0);
    say_held(gateway);
}

bool gateway_hold_wait(struct exchange *exchange, void (*go_on)(struct exchange *exchange)) {
    struct gateway_hold *hold = &exchange->gateway->hold;
    if (!hold->is_on) return false;
    exchange->when_released = go_on;
    exchange_set_step(exchange, EXCHANGE_QUEUED);
    gateway_queue_push(&hold->waiting, &exchange->waiting); /* as many as there are connections */
    return true;
}

static bool changes_something(const struct exchange *exchange) {
    return strcmp(exchange->request->method, "GET") != 0 && strcmp(exchange->request->method, "HEAD") != 0;
}

void gateway_hold_sending(struct exchange *exchange) {
    if (!changes_something(exchange) || exchange->is_changing) return;
    exchange->is_changing = true;
    exchange->gateway->hold.changing++;
}

bool gateway_hold_may_repeat(const struct exchange *exchange, bool was_sent) {
    return exchange->gateway->hold.is_on && (!was_sent || !changes_something(exchange));
}

void gateway_hold_leave(struct exchange *exchange) {
    if (!exchange->is_changing) return;
    exchange->is_changing = false;
    exchange->gateway->hold.changing--;
    say_held(exchange->gateway);
}
