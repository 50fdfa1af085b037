/* Documents and searches: every collection's routes. */
#include "gateway/gateway-internal.h"

static enum http_body_mode refuse(struct exchange *exchange) {
    exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "there is no collection of that name");
    return HTTP_BODY_WHOLE;
}

#define SERVE(name)                                                                                                    \
    enum http_body_mode gateway_serve_##name(struct exchange *exchange) {                                              \
        return refuse(exchange);                                                                                       \
    }
SERVE(document_put)
SERVE(document_get)
SERVE(document_delete)
SERVE(documents_write)
SERVE(documents_export)
SERVE(search)
SERVE(query_search)
