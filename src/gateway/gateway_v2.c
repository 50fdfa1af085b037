/* The Open Inference Protocol: what stands in the path; the rest is the replica's. The body is never looked into. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"
#include "slipway_version.h"

bool gateway_read_name(const struct gateway_slice *segment, char ret_name[GATEWAY_NAME_MAXIMUM + 1]) {
    if (segment->size > 3 * GATEWAY_NAME_MAXIMUM) return false;
    const char *bytes = segment->bytes;
    size_t size = segment->size;
    _cleanup_free_ char *decoded = NULL;
    if (memchr(bytes, '%', size)) {
        if (!text_percent_decode(bytes, size, &decoded, &size)) return false;
        bytes = decoded;
    }
    if (size > GATEWAY_NAME_MAXIMUM) return false;
    memcpy(ret_name, bytes, size);
    ret_name[size] = 0;
    return text_is_name(ret_name);
}

static bool read_revision(const struct gateway_slice *segment, uint64_t *ret_revision) {
    char digits[21];
    if (segment->size >= sizeof digits) return false;
    memcpy(digits, segment->bytes, segment->size);
    digits[segment->size] = 0;
    return text_parse_number(digits, INT64_MAX, ret_revision);
}

static enum http_body_mode serve_model(struct exchange *exchange, bool never_waits) {
    const struct gateway_match *match = &exchange->match;
    exchange->never_waits = never_waits;
    exchange->revision_named = match->parameter_count > 1;
    const struct gateway_slice *name = &match->parameters[0], *version = &match->parameters[1];
    int shown = (int)(name->size < 256 ? name->size : 256);
    if (!gateway_read_name(name, exchange->model)) {
        exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "there is no deployment %.*s: that is no name", shown,
                           name->bytes);
    } else if (exchange->revision_named && !read_revision(version, &exchange->revision)) {
        exchange_fail_with(exchange, ERROR_NOT_FOUND, 404, "deployment %s: a version is a revision's number",
                           exchange->model);
    } else {
        return gateway_proxy_take_body(exchange);
    }
    return HTTP_BODY_WHOLE;
}

#define SERVE_MODEL(name, never_waits)                                                                                 \
    enum http_body_mode gateway_serve_##name(struct exchange *exchange) {                                              \
        return serve_model(exchange, never_waits);                                                                     \
    }
SERVE_MODEL(v2_model, false)
SERVE_MODEL(v2_model_ready, true)
SERVE_MODEL(v2_infer, false)
SERVE_MODEL(v2_version, false)
SERVE_MODEL(v2_version_ready, true)
SERVE_MODEL(v2_version_infer, false)

static enum http_body_mode respond_json(struct exchange *exchange, const char *json) {
    exchange_respond(exchange, 200, "application/json", json, strlen(json));
    return HTTP_BODY_WHOLE;
}

enum http_body_mode gateway_serve_v2_server(struct exchange *exchange) {
    return respond_json(exchange, "{\"name\":\"slipway\",\"version\":\"" SLIPWAY_VERSION
                                  "\",\"extensions\":[\"binary_tensor_data\"]}");
}

enum http_body_mode gateway_serve_v2_live(struct exchange *exchange) {
    return respond_json(exchange, "{\"live\":true}");
}

/* It accepts, so it has its routes (R3); whether a model can take requests is that model's own ready. */
enum http_body_mode gateway_serve_v2_ready(struct exchange *exchange) {
    if (gateway_is_serving(exchange->gateway)) return respond_json(exchange, "{\"ready\":true}");
    exchange_fail_with(exchange, ERROR_UNAVAILABLE, 503, "the gateway is ending");
    return HTTP_BODY_WHOLE;
}
