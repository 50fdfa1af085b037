/* The HTTP registry's parsers (registry_http_uri.c): of its URIs, and of files of digests. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define REGISTRY_HTTP_ARCHIVE "model.archive" /* what an archive is called until it is unpacked */

struct http_uri {
    char *url; /* without the fragment */
    char *name; /* the last name of its path, percent-decoded; not empty */
    char *sha256; /* lower case; NULL */
};
void registry_http_uri_clear(struct http_uri *uri);
#define _cleanup_http_uri_ __attribute__((cleanup(registry_http_uri_clear)))

/* "https://host/path/model.onnx", with "#sha256=<64 hexadecimal digits>" or without. CONFIGURATION for another
 * fragment, a user or password, or a query that carries a secret: what is deployed is recorded and shown. */
int registry_http_parse(const char *uri, struct http_uri *ret_uri, struct error **ret_error);
/* Where the digest would lie: ".sha256" behind the path. Caller frees. */
char *registry_http_digest_url(const struct http_uri *uri);
/* Out of "HEX", or what sha256sum writes ("HEX  name", "SHA256 (name) = HEX"): of the line with that name, or of the
 * only line. Caller frees *ret_sha256, lower case. */
bool registry_http_find_digest(const char *text, const char *name, char **ret_sha256);
