/* One connection's TLS: bytes in, bytes out; it touches no socket.
 *
 * What was received is lent with http_tls_give() and decrypted by http_tls_open() until that says MORE; what is to
 * leave (the handshake's messages, alerts, and what http_tls_seal() encrypts) collects in http_tls_made(), in order,
 * for http_output to write.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buffer.h"
#include "http/http_tls.h"

#define HTTP_TLS_RECORD 16384 /* the most that one record carries */

struct http_tls;

enum http_tls_state {
    HTTP_TLS_MORE = 0, /* all that was given is used up */
    HTTP_TLS_END = -1, /* the peer has said that it sends nothing more */
    HTTP_TLS_FAULT = -2, /* nothing can be read any more; an alert, where there is one, is in http_tls_made() */
};

struct http_tls *http_tls_new(struct http_tls_context *context);
void http_tls_free(struct http_tls *tls);

/* Received bytes, used until http_tls_open() returns MORE. */
void http_tls_give(struct http_tls *tls, const char *bytes, size_t size);
/* Decrypts up to `size` > 0 bytes: how many, or an enum http_tls_state. Works the handshake out first. */
ptrdiff_t http_tls_open(struct http_tls *tls, char *room, size_t size);
/* Where http_tls_open() of those that need no room of their own may decrypt to: HTTP_TLS_RECORD bytes, the context's.
 */
char *http_tls_scratch(struct http_tls *tls);
/* Encrypts parts[0..count) behind what is there. False: the connection is of no use any more. */
bool http_tls_seal(struct http_tls *tls, const uv_buf_t *parts, unsigned count);
/* Says that nothing more follows. */
void http_tls_end(struct http_tls *tls);
struct buffer *http_tls_made(struct http_tls *tls);
bool http_tls_is_ready(const struct http_tls *tls); /* the handshake is over */
bool http_tls_has_part(const struct http_tls *tls); /* a record has begun to come */
