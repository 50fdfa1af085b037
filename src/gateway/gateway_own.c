/* Whether the gateway lives, and whether the service can be asked anything. */
#include <string.h>

#include "gateway/gateway-internal.h"

enum http_body_mode gateway_serve_livez(struct exchange *exchange) {
    exchange_respond(exchange, 200, "text/plain; charset=utf-8", "ok\n", 3);
    return HTTP_BODY_WHOLE;
}

static void on_controller_asked(struct exchange *exchange, int status, const char *body, size_t size) {
    (void)status, (void)size;
    if (!gateway_is_serving(exchange->gateway))
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the gateway is ending");
    else if (!exchange->gateway->routes.current->tokens)
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the control database could not be read yet");
    else if (!body)
        exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the gateway serves, but the controller does not answer");
    else
        exchange_respond(exchange, 200, "text/plain; charset=utf-8", "ok\n", 3);
}

/* It accepts, so it has its routes (R3). Any answer of the controller's will do: it is its being there that counts. */
enum http_body_mode gateway_serve_readyz(struct exchange *exchange) {
    gateway_fetch(exchange, "/livez", on_controller_asked);
    return HTTP_BODY_WHOLE;
}
