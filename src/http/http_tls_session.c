/* One connection's TLS, between the bytes of the socket and those of HTTP. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "http/http_tls_context-internal.h"

/* What a peer can make us say without reading it (answers to its key updates) ends here; our own sealing is bounded
 * well below. */
#define MADE_MAXIMUM (512 * 1024)

struct http_tls {
    struct http_tls_context *context;
    SSL *ssl;
    const char *given; /* received, and not yet taken by OpenSSL */
    size_t given_size;
    struct buffer made;
    bool has_begun, has_failed;
};

/* ---- as OpenSSL sees it -------------------------------------------------- */

static int take_given(BIO *bio, char *room, int size) {
    struct http_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!tls->given_size) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t taken = (size_t)size < tls->given_size ? (size_t)size : tls->given_size;
    memcpy(room, tls->given, taken);
    tls->given += taken;
    tls->given_size -= taken;
    return (int)taken;
}

static int put_made(BIO *bio, const char *bytes, int size) {
    struct http_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    return buffer_append(&tls->made, bytes, (size_t)size) ? size : -1;
}

static long control(BIO *bio, int command, long number, void *pointer) {
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* there is nothing else to be asked */
}

static int made_bio(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *http_tls_make_bio_method(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "http_tls");
    if (!method) abort(); /* only memory can lack, as in mem_alloc() */
    BIO_meth_set_read(method, take_given);
    BIO_meth_set_write(method, put_made);
    BIO_meth_set_ctrl(method, control);
    BIO_meth_set_create(method, made_bio);
    return method;
}

/* ---- life ---------------------------------------------------------------- */

struct http_tls *http_tls_new(struct http_tls_context *context) {
    struct http_tls *tls = mem_new(struct http_tls);
    tls->context = context;
    tls->made.maximum = MADE_MAXIMUM;
    tls->ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(context->bio_method);
    if (!tls->ssl || !bio) abort(); /* only memory can lack */
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_accept_state(tls->ssl);
    return tls;
}

void http_tls_free(struct http_tls *tls) {
    if (!tls) return;
    SSL_free(tls->ssl);
    buffer_clear(&tls->made);
    free(tls);
}

struct buffer *http_tls_made(struct http_tls *tls) {
    return &tls->made;
}

char *http_tls_scratch(struct http_tls *tls) {
    return tls->context->scratch;
}

bool http_tls_is_ready(const struct http_tls *tls) {
    return SSL_is_init_finished(tls->ssl) && !tls->has_failed;
}

bool http_tls_has_part(const struct http_tls *tls) {
    return SSL_has_pending(tls->ssl);
}

/* ---- in ------------------------------------------------------------------ */

/* A handshake begins with 22; what begins with a letter is most likely a request of somebody who took https for http,
 * and a word that can be read helps them more than an alert. */
static bool is_plain(const struct http_tls *tls) {
    return !tls->has_begun && tls->given[0] >= 'A' && tls->given[0] <= 'Z';
}

static void refuse_plain(struct http_tls *tls) {
    static const char words[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
        "Content-Length: 157\r\nConnection: close\r\n\r\n"
        "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"this port "
        "speaks TLS: use https://\",\"error\":\"RequestError\",\"causes\":[\"plain HTTP on TLS\"]}";
    tls->has_failed = true;
    tls->given_size = 0;
    buffer_append(&tls->made, words, sizeof words - 1);
}

void http_tls_give(struct http_tls *tls, const char *bytes, size_t size) {
    tls->given = bytes;
    tls->given_size = tls->has_failed ? 0 : size;
    if (!tls->given_size) return;
    if (is_plain(tls)) refuse_plain(tls);
    tls->has_begun = true;
}

ptrdiff_t http_tls_open(struct http_tls *tls, char *room, size_t size) {
    if (tls->has_failed) return HTTP_TLS_FAULT;
    ERR_clear_error();
    size_t opened;
    if (SSL_read_ex(tls->ssl, room, size, &opened) == 1) return (ptrdiff_t)opened;
    switch (SSL_get_error(tls->ssl, 0)) {
    case SSL_ERROR_WANT_READ: return HTTP_TLS_MORE;
    case SSL_ERROR_ZERO_RETURN: return HTTP_TLS_END;
    default:
        ERR_clear_error();
        tls->has_failed = true;
        tls->given_size = 0;
        return HTTP_TLS_FAULT;
    }
}

/* ---- out ----------------------------------------------------------------- */

static bool seal(struct http_tls *tls, const char *bytes, size_t size) {
    size_t sealed;
    ERR_clear_error();
    if (!size || SSL_write_ex(tls->ssl, bytes, size, &sealed) == 1) return true;
    ERR_clear_error();
    tls->has_failed = true;
    return false;
}

/* Parts that fit into one record become one: a head and its short body, a chunk and its frame. */
bool http_tls_seal(struct http_tls *tls, const uv_buf_t *parts, unsigned count) {
    char *staging = tls->context->staging;
    size_t staged = 0;
    if (!http_tls_is_ready(tls)) return false;
    for (unsigned i = 0; i < count; i++) {
        if (staged + parts[i].len <= HTTP_TLS_RECORD && count > 1) {
            memcpy(staging + staged, parts[i].base, parts[i].len);
            staged += parts[i].len;
            continue;
        }
        if (!seal(tls, staging, staged) || !seal(tls, parts[i].base, parts[i].len)) return false;
        staged = 0;
    }
    return seal(tls, staging, staged);
}

void http_tls_end(struct http_tls *tls) {
    if (!http_tls_is_ready(tls) || SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN) return;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}
