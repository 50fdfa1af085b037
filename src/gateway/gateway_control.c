/* Control requests: to the controller, as they are. It is one process and may be starting again: then 503, at once, and
 * the client decides whether to ask again; unless it is being replaced (gateway_hold.c). */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

#define CONTROLLER_HOST "controller"

static void send_on(struct exchange *exchange);
static void send_upload(struct exchange *exchange);

static void when_failed(struct exchange *exchange, const struct http_failure *failure) {
    if (http_has_begun(exchange->request)) {
        exchange_break(exchange);
    } else if (gateway_hold_may_repeat(exchange, failure->sent) && !exchange->body_is_lost) {
        (exchange->body_is_streamed ? send_upload : send_on)(exchange);
    } else if (failure->timed_out && failure->sent) {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 504, "the controller has not answered in time");
    } else {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "%s",
                           failure->sent
                               ? "the controller ended before it answered: what was asked for may have been done"
                               : "the controller does not answer: it may be starting, try again");
    }
}

/* ---- answers without an end ------------------------------------------------- */

/* A client that follows events or logs (?follow=true) would hold a gateway that ends, or that hands over to another, to
 * the end of its drain time. It is cut off instead, sees that its answer is incomplete, and comes again. */
static void note_endless(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    bool is_endless = text_equal(http_request_parameter(exchange->request, "follow"), "true");
    if (!is_endless || exchange->endless_at) return; /* the latter: it is sent again */
    exchange->next_endless = gateway->endless;
    exchange->endless_at = &gateway->endless;
    if (gateway->endless) gateway->endless->endless_at = &exchange->next_endless;
    gateway->endless = exchange;
}

void gateway_control_leave(struct exchange *exchange) {
    gateway_hold_leave(exchange);
    if (!exchange->endless_at) return;
    *exchange->endless_at = exchange->next_endless;
    if (exchange->next_endless) exchange->next_endless->endless_at = exchange->endless_at;
    exchange->endless_at = NULL;
}

void gateway_control_cut_endless(struct gateway *gateway) {
    while (gateway->endless) {
        struct exchange *exchange = gateway->endless;
        gateway_control_leave(exchange);
        if (exchange->call) http_call_cancel(TAKE(exchange->call));
        if (http_has_begun(exchange->request))
            exchange_break(exchange);
        else
            exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the gateway is ending; ask again");
    }
}

static void send_on(struct exchange *exchange) {
    if (gateway_hold_wait(exchange, send_on)) return;
    gateway_hold_sending(exchange);
    note_endless(exchange);
    gateway_relay(exchange, exchange->gateway->controller, CONTROLLER_HOST, when_failed);
}

static void judge(struct exchange *exchange) {
    gateway_limits_judge_control(exchange, send_on);
}

/* ---- bodies that are too large to be held ------------------------------------ */

static void send_upload(struct exchange *exchange) {
    if (gateway_hold_wait(exchange, send_upload)) return;
    gateway_hold_sending(exchange);
    bool goes_on = exchange->request->has_body && !exchange->body_has_ended;
    gateway_relay(exchange, exchange->gateway->controller, CONTROLLER_HOST, when_failed);
    if (!goes_on) return;
    bool has_room = true;
    if (exchange->body.size) has_room = http_call_send(exchange->call, exchange->body.bytes, exchange->body.size);
    if (has_room) http_resume_body(exchange->request);
}

static void upload_begins(struct exchange *exchange) {
    http_pause_body(exchange->request); /* what is on its way already is held, the rest waits at the client */
    send_upload(exchange);
}

static void upload_piece(struct exchange *exchange, const char *bytes, size_t size) {
    if (exchange->call) {
        exchange->body_is_lost = true;
        if (!http_call_send(exchange->call, bytes, size)) http_pause_body(exchange->request);
    } else if (!buffer_append(&exchange->body, bytes, size)) {
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "no memory to hold the upload while it waits");
    }
}

static void upload_end(struct exchange *exchange) {
    exchange->body_has_ended = true;
    if (exchange->call) http_call_end_body(exchange->call);
}

static const struct exchange_stream upload_stream = {.begins = upload_begins, .piece = upload_piece, .end = upload_end};

static enum http_body_mode serve_upload(struct exchange *exchange) {
    exchange->request->body_maximum = exchange->gateway->settings->upload_maximum;
    exchange->stream = &upload_stream;
    exchange->body_is_streamed = true;
    exchange_set_step(exchange, EXCHANGE_BODY);
    return HTTP_BODY_STREAM;
}

enum http_body_mode gateway_serve_control(struct exchange *exchange) {
    if (!strcmp(exchange->match.endpoint->name, "package_import")) return serve_upload(exchange);
    bool is_limited = exchange->token && exchange->token->is_limited;
    uint64_t maximum = exchange->gateway->settings->control_body_maximum;
    if (is_limited && maximum > GATEWAY_LIMITED_BODY_MAXIMUM) maximum = GATEWAY_LIMITED_BODY_MAXIMUM;
    exchange->request->body_maximum = maximum;
    exchange->when_body_whole = is_limited ? judge : send_on;
    exchange_set_step(exchange, EXCHANGE_BODY);
    return HTTP_BODY_WHOLE;
}

/* ---- the gateway's own questions ------------------------------------------ */

static void fetch(struct exchange *exchange);

static void fetched_head(struct http_call *call, const struct http_answer *answer, void *context) {
    (void)call;
    struct exchange *exchange = context;
    exchange->status = answer->status;
}

static void fetched_body(struct http_call *call, const char *bytes, size_t size, void *context) {
    struct exchange *exchange = context;
    if (buffer_append(&exchange->body, bytes, size)) return; /* it has a ceiling */
    http_call_cancel(call);
    exchange->call = NULL;
    exchange->when_fetched(exchange, 0, NULL, 0);
}

static void fetched_end(struct http_call *call, void *context) {
    (void)call;
    struct exchange *exchange = context;
    exchange->call = NULL;
    exchange->when_fetched(exchange, exchange->status, exchange->body.size ? exchange->body.bytes : "",
                           exchange->body.size);
}

static void fetch_failed(struct http_call *call, const struct http_failure *failure, void *context) {
    (void)call, (void)failure;
    struct exchange *exchange = context;
    exchange->call = NULL;
    if (gateway_hold_may_repeat(exchange, true))
        fetch(exchange);
    else
        exchange->when_fetched(exchange, 0, NULL, 0);
}

static const struct http_call_handler fetch_handler = {
    .on_head = fetched_head, .on_body = fetched_body, .on_end = fetched_end, .on_failed = fetch_failed};

void gateway_fetch(struct exchange *exchange, const char *target,
                   void (*done)(struct exchange *exchange, int status, const char *body, size_t size)) {
    exchange->when_fetched = done;
    exchange->fetch_target = target;
    fetch(exchange);
}

static void fetch(struct exchange *exchange) {
    if (gateway_hold_wait(exchange, fetch)) return;
    const struct http_header headers[] = {{"X-Request-Id", exchange->request_id}};
    const struct http_call_request request = {.method = "GET",
                                              .target = exchange->fetch_target,
                                              .host = CONTROLLER_HOST,
                                              .headers = headers,
                                              .header_count = 1};
    exchange->body.size = 0;
    exchange_set_step(exchange, EXCHANGE_SENT);
    exchange->call = http_call(exchange->gateway->controller_probe, &request, &fetch_handler, exchange);
}
