/* Addresses as settings and messages write them. */
#include <netdb.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "http/http-internal.h"

static int parse_local(const char *text, const char *path, struct http_address *ret_address, struct error **ret_error) {
    size_t length = strlen(path);
    if (!length || length >= sizeof ret_address->local.sun_path)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s: the path of a unix socket has 1 to %zu bytes, this one %zu; use a shorter folder", text,
                         sizeof ret_address->local.sun_path - 1, length);
    struct http_address address = {.size = sizeof address.local};
    address.local.sun_family = AF_UNIX;
    memcpy(address.local.sun_path, path, length + 1);
    *ret_address = address;
    return 0;
}

int http_address_parse(const char *text, struct http_address *ret_address, struct error **ret_error) {
    if (text_starts_with(text, "unix:")) return parse_local(text, text + strlen("unix:"), ret_address, ret_error);
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || colon == text || !text_parse_number(colon + 1, 65535, &port))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is no address: give HOST:PORT, [IPV6]:PORT or unix:/path",
                         text);
    bool in_brackets = text[0] == '[' && colon[-1] == ']';
    _cleanup_free_ char *host = in_brackets ? text_copy_bytes(text + 1, (size_t)(colon - text) - 2)
                                            : text_copy_bytes(text, (size_t)(colon - text));
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE}, *found = NULL;
    int result = getaddrinfo(host, colon + 1, &hints, &found);
    if (result)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s: look up %s: %s", text, host, gai_strerror(result));
    *ret_address = (struct http_address){.size = found->ai_addrlen};
    memcpy(&ret_address->storage, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}
