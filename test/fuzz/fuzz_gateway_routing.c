/* What a client may ask for: "METHOD target\nbody". Whatever it is, dispatch finds a route or none, its parameters are
 * whole segments of the path, an error can name the path, and the search for a body's model stays inside the body. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

static void check_parameters(const struct gateway_match *match, const char *path) {
    size_t size = strcspn(path, "?");
    size_t wanted = 0;
    for (const char *at = match->endpoint->pattern; *at; at++) wanted += *at == '{';
    if (match->parameter_count != wanted) abort();
    for (size_t i = 0; i < match->parameter_count; i++) {
        const struct gateway_slice *slice = &match->parameters[i];
        if (!slice->size || slice->bytes <= path || slice->bytes + slice->size > path + size) abort();
        if (slice->bytes[-1] != '/' || memchr(slice->bytes, '/', slice->size)) abort();
        if (slice->bytes + slice->size < path + size && slice->bytes[slice->size] != '/') abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static struct gateway_dispatch *dispatch;
    if (!dispatch) dispatch = gateway_dispatch_new();
    _cleanup_free_ char *text = text_copy_bytes((const char *)bytes, size);
    char *body = strchr(text, '\n');
    if (!body) body = text + strlen(text);
    if (*body) *body++ = 0;
    char *target = strchr(text, ' ');
    if (!target) return 0;
    *target++ = 0;

    struct gateway_match match;
    char allow[64];
    gateway_dispatch_find(dispatch, text, target, &match);
    gateway_dispatch_allow(dispatch, target, allow);
    if (match.path_exists != (allow[0] != 0)) abort();
    if (match.endpoint) {
        if (!match.path_exists) abort();
        check_parameters(&match, target);
    }
    if (gateway_is_request_id(target) && strlen(target) > GATEWAY_REQUEST_ID_MAXIMUM) abort();

    char model[GATEWAY_NAME_MAXIMUM + 1];
    size_t body_size = strlen(body);
    _cleanup_free_ char *exact = mem_copy(body, body_size);
    if (gateway_find_model(exact, body_size, model) && !text_is_name(model)) abort();
    return 0;
}
