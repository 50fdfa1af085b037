#include "http/http_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/http_tls_context-internal.h"

/* TLS 1.2's; those of 1.3 are all as they should be. */
#define SUITES "ECDHE+AESGCM:ECDHE+CHACHA20"

/* ---- errors -------------------------------------------------------------- */

/* The innermost reason is the first that OpenSSL recorded. */
static const char *reason_of_failure(void) {
    unsigned long code = ERR_peek_error();
    if (ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE)
        return "it has no such thing in PEM";
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    return reason ? reason : "OpenSSL does not say why";
}

static int refuse(const char *setting, const char *path, struct error **ret_error) {
    int result = error_set(ret_error, ERROR_CONFIGURATION, "%s: %s: %s", setting, path, reason_of_failure());
    ERR_clear_error();
    return result;
}

/* What the file system says is said better by errno. */
static int check_readable(const char *setting, const char *path, struct error **ret_error) {
    if (access(path, R_OK) == 0) return 0;
    return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "%s: read %s", setting, path);
}

/* ---- the files ----------------------------------------------------------- */

/* Nobody is here to be asked; that it was wanted is remembered. */
static int give_no_password(char *room, int size, int is_writing, void *was_asked) {
    (void)room;
    (void)size;
    (void)is_writing;
    if (was_asked) *(bool *)was_asked = true;
    return 0;
}

static int read_certificate(SSL_CTX *ssl, const char *path, struct error **ret_error) {
    int result = check_readable("tls_certificate", path, ret_error);
    if (result < 0) return result;
    return SSL_CTX_use_certificate_chain_file(ssl, path) == 1 ? 0 : refuse("tls_certificate", path, ret_error);
}

static int read_key(SSL_CTX *ssl, const struct http_tls_files *files, struct error **ret_error) {
    int result = check_readable("tls_key", files->key, ret_error);
    if (result < 0) return result;
    bool was_asked = false;
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &was_asked);
    bool is_taken = SSL_CTX_use_PrivateKey_file(ssl, files->key, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    if (was_asked) {
        ERR_clear_error();
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "tls_key: %s is encrypted, and a service cannot be asked for its password: decrypt it",
                         files->key);
    }
    bool is_other = !is_taken && ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_X509; /* it can be read and does not fit */
    if (!is_taken && !is_other) return refuse("tls_key", files->key, ret_error);
    if (!is_other && SSL_CTX_check_private_key(ssl) == 1) return 0;
    ERR_clear_error();
    return error_set(ret_error, ERROR_CONFIGURATION, "tls_key: %s is not the key of the certificate in %s", files->key,
                     files->certificate);
}

static int read_client_ca(SSL_CTX *ssl, const char *path, struct error **ret_error) {
    int result = check_readable("tls_client_ca", path, ret_error);
    if (result < 0) return result;
    if (SSL_CTX_load_verify_file(ssl, path) != 1) return refuse("tls_client_ca", path, ret_error);
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path); /* told to clients, who choose by them */
    if (!names) return refuse("tls_client_ca", path, ret_error);
    SSL_CTX_set_client_CA_list(ssl, names);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

static int read_files(SSL_CTX *ssl, const struct http_tls_files *files, struct error **ret_error) {
    SSL_CTX_set_default_passwd_cb(ssl, give_no_password);
    int result = read_certificate(ssl, files->certificate, ret_error);
    if (!result) result = read_key(ssl, files, ret_error);
    if (!result && files->client_ca && *files->client_ca) result = read_client_ca(ssl, files->client_ca, ret_error);
    return result;
}

/* ---- the terms ----------------------------------------------------------- */

/* A client that offers none of ours (it would have to offer something else than HTTP/1.1) goes on without ALPN. */
static int choose_protocol(SSL *ssl, const unsigned char **ret_chosen, unsigned char *ret_size,
                           const unsigned char *offered, unsigned size, void *context) {
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl;
    (void)context;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, ret_size, ours, sizeof ours - 1, offered, size) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *ret_chosen = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool set_terms(SSL_CTX *ssl) {
    static const unsigned char name[] = "slipway"; /* sessions with client certificates must say whose they are */
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets: what a session needs stays with the client */
    SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, NULL);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(ssl, SUITES) == 1 &&
           SSL_CTX_set_num_tickets(ssl, 1) == 1 && SSL_CTX_set_session_id_context(ssl, name, sizeof name - 1) == 1;
}

static int64_t expiry_ms(SSL_CTX *ssl) {
    int days = 0, seconds = 0;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    const X509 *certificate = SSL_CTX_get0_certificate(ssl);
    if (certificate && epoch) ASN1_TIME_diff(&days, &seconds, epoch, X509_get0_notAfter(certificate));
    ASN1_TIME_free(epoch);
    return ((int64_t)days * 86400 + seconds) * 1000;
}

/* ---- the context --------------------------------------------------------- */

int http_tls_context_new(const struct http_tls_files *files, struct http_tls_context **ret_context,
                         struct error **ret_error) {
    ERR_clear_error();
    SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());
    if (!ssl || !set_terms(ssl)) {
        SSL_CTX_free(ssl);
        return refuse("TLS", "OpenSSL could not be set up", ret_error);
    }
    int result = read_files(ssl, files, ret_error);
    if (result < 0) {
        SSL_CTX_free(ssl);
        return result;
    }
    struct http_tls_context *context = mem_new(struct http_tls_context);
    context->ssl = ssl;
    context->expires_ms = expiry_ms(ssl);
    context->bio_method = http_tls_make_bio_method();
    *ret_context = context;
    return 0;
}

void http_tls_context_free(struct http_tls_context *context) {
    if (!context) return;
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->bio_method);
    free(context);
}

int64_t http_tls_context_expires_ms(const struct http_tls_context *context) {
    return context->expires_ms;
}
