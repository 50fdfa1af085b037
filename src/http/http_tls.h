/* TLS for a server's connections (RFC 8446, RFC 5246): versions 1.2 and 1.3, by OpenSSL.
 *
 * A context holds what was read from the files, once; http_server_listen_tls() (http_server.h) takes it. A certificate
 * is replaced by a process that reads the new files and takes the connections over.
 *
 * What is offered: of TLS 1.2 only suites with an ephemeral key exchange and authenticated encryption, in our order; no
 * renegotiation, no compression, no early data; tickets for resumption, whose keys live as long as the context; ALPN
 * "http/1.1".
 */
#pragma once
#include <stdint.h>

#include "base/error.h"

struct http_tls_context;

/* PEM files. */
struct http_tls_files {
    const char *certificate; /* the server's own first, then those between it and the authority */
    const char *key; /* its private key, not encrypted */
    const char *client_ca; /* authorities: clients must show a certificate of one of these; NULL or "": none is asked */
};

/* Reads the files. CONFIGURATION error that names the file and the reason. Blocking. */
int http_tls_context_new(const struct http_tls_files *files, struct http_tls_context **ret_context,
                         struct error **ret_error);
void http_tls_context_free(struct http_tls_context *context);
/* When the server's certificate ends, in ms since 1970. */
int64_t http_tls_context_expires_ms(const struct http_tls_context *context);
