#include <string.h>

#include "base/text.h"
#include "gateway/gateway-internal.h"

/* The scheme is case-insensitive, one or more blanks follow (RFC 9110 11.4). */
static const char *bearer_token(const char *authorization) {
    static const char scheme[] = "bearer";
    for (size_t i = 0; i < sizeof scheme - 1; i++)
        if ((authorization[i] | 0x20) != scheme[i]) return NULL;
    const char *token = authorization + sizeof scheme - 1;
    if (*token != ' ') return NULL;
    return token + strspn(token, " ");
}

bool gateway_is_authorised(const struct gateway *gateway, const struct http_request *request) {
    if (!gateway->settings->token[0]) return true;
    const char *authorization = http_request_header(request, "Authorization");
    const char *token = authorization ? bearer_token(authorization) : NULL;
    return token && text_equal_constant_time(token, gateway->settings->token);
}

enum http_body_mode gateway_serve_unauthorised(struct exchange *exchange) {
    bool brought = http_request_header(exchange->request, "Authorization");
    exchange_fail_with(exchange, ERROR_UNAUTHORIZED, 0, "%s",
                       brought ? "the Authorization header has no token that is valid here"
                               : "this service asks for a token: send \"Authorization: Bearer <token>\"");
    return HTTP_BODY_WHOLE;
}
