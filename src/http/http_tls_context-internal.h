/* What http_tls.c and http_tls_session.c share. */
#pragma once
#include <openssl/ssl.h>

#include "base/memory.h"
#include "http/http_tls-internal.h"

struct http_tls_context {
    SSL_CTX *ssl;
    BIO_METHOD *bio_method; /* struct http_tls as OpenSSL's source and sink */
    int64_t expires_ms;
    char scratch[HTTP_TLS_RECORD]; /* decrypted bytes on their way */
    char staging[HTTP_TLS_RECORD]; /* small parts on their way into one record */
};

BIO_METHOD *http_tls_make_bio_method(void);
