/* HTTP/1.1 (RFC 9110, 9112) over libuv and llhttp: what server and client share.
 *
 * All of http/ runs on the thread of its uv_loop_t and is the only user of llhttp. May use: base.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct http_header {
    const char *name; /* as received; compare with http_header_is() */
    const char *value; /* NUL-terminated, without surrounding blanks */
};

bool http_header_is(const struct http_header *header, const char *name); /* ASCII case-insensitive */
/* Connection, Keep-Alive, Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade, Proxy-Authenticate,
 * Proxy-Authorization (RFC 9110 7.6.1). What Connection itself names is the caller's to strip:
 * http_is_named_in_connection. */
bool http_header_is_hop_by_hop(const char *name);
bool http_connection_names(const struct http_header *headers, size_t count, const char *name);
const char *http_find_header(const struct http_header *headers, size_t count, const char *name);
const char *http_reason_phrase(int status);
