/* A server over TLS, asked by OpenSSL's client, whose bytes the tests see and may spoil. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "support/certificates.h"
#include "support/http_fixture.h"
#include "support/scratch.h"

#define GET_HELLO "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
#define HELLO "{\"hello\":true}"

struct bed {
    struct http_fixture fixture;
    char *folder;
    struct authority *authority, *other;
};

/* ---- a client ------------------------------------------------------------ */

struct tls_client {
    struct http_fixture *fixture;
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
    int descriptor;
    size_t piece; /* so many bytes are sent at once; 0: all */
    bool is_over; /* the socket's end has come */
};

static struct tls_client *client_new(struct bed *bed, int version) {
    struct tls_client *client = calloc(1, sizeof *client);
    char *ca = scratch_path(bed->folder, "ca.pem");
    client->fixture = &bed->fixture;
    client->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client->context, version);
    SSL_CTX_set_max_proto_version(client->context, version);
    SSL_CTX_set_verify(client->context, SSL_VERIFY_PEER, NULL);
    assert_int_equal(SSL_CTX_load_verify_file(client->context, ca), 1);
    free(ca);
    client->in = BIO_new(BIO_s_mem());
    client->out = BIO_new(BIO_s_mem());
    client->descriptor = http_raw_connect(client->fixture);
    return client;
}

static void client_show(struct tls_client *client, const char *folder, const char *name) {
    char file[64];
    snprintf(file, sizeof file, "%s.pem", name);
    char *certificate = scratch_path(folder, file);
    snprintf(file, sizeof file, "%s.key", name);
    char *key = scratch_path(folder, file);
    assert_int_equal(SSL_CTX_use_certificate_chain_file(client->context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(client->context, key, SSL_FILETYPE_PEM), 1);
    free(certificate);
    free(key);
}

static void client_begin(struct tls_client *client) {
    client->ssl = SSL_new(client->context);
    SSL_set1_host(client->ssl, "localhost");
    SSL_set_bio(client->ssl, client->in, client->out);
    SSL_set_connect_state(client->ssl);
}

static void client_free(struct tls_client *client) {
    if (client->ssl) {
        SSL_free(client->ssl);
    } else {
        BIO_free(client->in);
        BIO_free(client->out);
    }
    SSL_CTX_free(client->context);
    close(client->descriptor);
    free(client);
}

/* What OpenSSL wants to say goes out, what has come goes in, and the server gets a turn. */
static void client_turn(struct tls_client *client) {
    char bytes[16384];
    size_t most = client->piece ? client->piece : sizeof bytes;
    for (int size; (size = BIO_read(client->out, bytes, (int)most)) > 0;)
        http_raw_send(client->fixture, client->descriptor, bytes, (size_t)size);
    http_fixture_turn(client->fixture);
    ssize_t size = recv(client->descriptor, bytes, most, MSG_DONTWAIT);
    if (size > 0) BIO_write(client->in, bytes, (int)size);
    if (size == 0 || (size < 0 && errno != EAGAIN)) client->is_over = true;
}

/* Whether it wants to be asked again. */
static bool client_wants(struct tls_client *client, int result) {
    int reason = SSL_get_error(client->ssl, result);
    if (reason != SSL_ERROR_WANT_READ && reason != SSL_ERROR_WANT_WRITE) return false;
    if (client->is_over && !BIO_pending(client->in)) return false;
    client_turn(client);
    return true;
}

static bool client_shakes_hands(struct tls_client *client) {
    uint64_t until = uv_hrtime() + 10000000000;
    int result;
    while ((result = SSL_do_handshake(client->ssl)) != 1) {
        assert_true(uv_hrtime() < until);
        if (!client_wants(client, result)) return false;
    }
    return true;
}

static struct tls_client *client_open(struct bed *bed, int version) {
    struct tls_client *client = client_new(bed, version);
    client_begin(client);
    if (!client_shakes_hands(client)) fail_msg("no handshake: %s", ERR_reason_error_string(ERR_peek_error()));
    return client;
}

static void client_send(struct tls_client *client, const char *bytes, size_t size) {
    while (size) {
        int piece = size < 16384 ? (int)size : 16384;
        assert_int_equal(SSL_write(client->ssl, bytes, piece), piece);
        client_turn(client);
        bytes += piece;
        size -= (size_t)piece;
    }
}

static void client_say(struct tls_client *client, const char *text) {
    client_send(client, text, strlen(text));
}

/* One read, at most `size`; 0 at the end of the stream. *ret_clean: the server said that it ended. */
static size_t client_read(struct tls_client *client, char *room, size_t size, bool *ret_clean) {
    uint64_t until = uv_hrtime() + 10000000000;
    for (;;) {
        int result = SSL_read(client->ssl, room, (int)size);
        if (result > 0) return (size_t)result;
        assert_true(uv_hrtime() < until);
        if (client_wants(client, result)) continue;
        if (ret_clean) *ret_clean = SSL_get_error(client->ssl, result) == SSL_ERROR_ZERO_RETURN;
        ERR_clear_error();
        return 0;
    }
}

/* Reads until the text has come. NUL-terminated; caller frees. */
static char *client_read_until(struct tls_client *client, const char *text) {
    struct buffer buffer = {0};
    char bytes[16384];
    while (!buffer.bytes || !strstr(buffer.bytes, text)) {
        size_t size = client_read(client, bytes, sizeof bytes, NULL);
        if (!size) fail_msg("ended before %s: %s", text, buffer.bytes ? buffer.bytes : "nothing");
        assert_true(buffer_append(&buffer, bytes, size));
    }
    return buffer_take(&buffer, NULL);
}

static void expect_hello(struct tls_client *client) {
    char *answer = client_read_until(client, HELLO);
    assert_int_equal(http_raw_status(answer), 200);
    free(answer);
}

/* ---- life ---------------------------------------------------------------- */

static struct http_tls_context *read_context(struct bed *bed, bool asks_clients) {
    char *certificate = scratch_path(bed->folder, "server.pem"), *key = scratch_path(bed->folder, "server.key"),
         *ca = scratch_path(bed->folder, "ca.pem");
    const struct http_tls_files files = {certificate, key, asks_clients ? ca : NULL};
    struct http_tls_context *context = NULL;
    struct error *error = NULL;
    if (http_tls_context_new(&files, &context, &error) < 0) fail_msg("%s", error_text(error));
    free(certificate);
    free(key);
    free(ca);
    return context;
}

static struct bed *bed_with(const struct http_limits *limits, bool asks_clients) {
    struct bed *bed = calloc(1, sizeof *bed);
    bed->folder = scratch_new();
    bed->authority = authority_new("the authority");
    bed->other = authority_new("another authority");
    authority_write(bed->authority, bed->folder, "ca.pem");
    authority_issue(bed->authority, bed->folder, "server");
    http_fixture_start_tls(&bed->fixture, limits, read_context(bed, asks_clients));
    return bed;
}

static int start(void **state) {
    *state = bed_with(&http_fixture_limits, false);
    return 0;
}

static int start_asking(void **state) {
    *state = bed_with(&http_fixture_limits, true);
    return 0;
}

static int start_hasty(void **state) {
    struct http_limits limits = http_fixture_limits;
    limits.header_timeout_ms = 80;
    *state = bed_with(&limits, false);
    return 0;
}

static int start_restless(void **state) {
    struct http_limits limits = http_fixture_limits;
    limits.idle_timeout_ms = 80;
    *state = bed_with(&limits, false);
    return 0;
}

static int stop(void **state) {
    struct bed *bed = *state;
    http_fixture_stop(&bed->fixture);
    authority_free(bed->authority);
    authority_free(bed->other);
    scratch_free(bed->folder);
    free(bed);
    return 0;
}

static void count_drained(void *context) {
    ((struct bed *)context)->fixture.drained++;
}

/* ---- what it speaks ------------------------------------------------------ */

static void versions_1_2_and_1_3_are_spoken(void **state) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < 2; i++) {
        struct tls_client *client = client_open(*state, versions[i]);
        assert_int_equal(SSL_version(client->ssl), versions[i]);
        for (int round = 0; round < 3; round++) {
            client_say(client, GET_HELLO);
            expect_hello(client);
        }
        client_free(client);
    }
}

static void version_1_1_is_refused(void **state) {
    struct tls_client *client = client_new(*state, TLS1_1_VERSION);
    SSL_CTX_set_security_level(client->context, 0);
    assert_int_equal(SSL_CTX_set_cipher_list(client->context, "ALL:@SECLEVEL=0"), 1);
    client_begin(client);
    assert_false(client_shakes_hands(client));
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
    ERR_clear_error();
    client_free(client);
}

static void suites_without_forward_secrecy_are_refused(void **state) {
    struct tls_client *client = client_new(*state, TLS1_2_VERSION);
    assert_int_equal(SSL_CTX_set_cipher_list(client->context, "AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256"), 1);
    client_begin(client);
    assert_false(client_shakes_hands(client));
    ERR_clear_error();
    client_free(client);
}

static void http_1_1_is_agreed_on(void **state) {
    struct tls_client *client = client_new(*state, TLS1_3_VERSION);
    assert_int_equal(SSL_CTX_set_alpn_protos(client->context, (const unsigned char *)"\x02h2\x08http/1.1", 12), 0);
    client_begin(client);
    assert_true(client_shakes_hands(client));
    const unsigned char *chosen;
    unsigned size;
    SSL_get0_alpn_selected(client->ssl, &chosen, &size);
    assert_int_equal(size, 8);
    assert_memory_equal(chosen, "http/1.1", 8);
    client_free(client);
}

static void nothing_is_negotiated_anew(void **state) {
    struct tls_client *client = client_open(*state, TLS1_2_VERSION);
    client_say(client, GET_HELLO);
    expect_hello(client);
    assert_int_equal(SSL_renegotiate(client->ssl), 1);
    assert_int_not_equal(SSL_do_handshake(client->ssl), 1);
    char byte;
    assert_int_equal(client_read(client, &byte, 1, NULL), 0);
    client_free(client);
}

static void the_handler_is_told(void **state) {
    struct bed *bed = *state;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(&bed->fixture, bed->fixture.held);
    assert_true(bed->fixture.held->tls);
    assert_false(bed->fixture.held->local);
    http_respond_json(bed->fixture.held, 200, HELLO, strlen(HELLO));
    expect_hello(client);
    client_free(client);
}

static void a_session_is_resumed(void **state) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < 2; i++) {
        struct tls_client *first = client_open(*state, versions[i]);
        client_say(first, GET_HELLO);
        expect_hello(first);
        SSL_SESSION *session = SSL_get1_session(first->ssl);
        SSL_shutdown(first->ssl); /* one that ends otherwise counts as spoilt */
        client_turn(first);
        struct tls_client *second = client_new(*state, versions[i]);
        client_begin(second);
        assert_int_equal(SSL_set_session(second->ssl, session), 1);
        assert_true(client_shakes_hands(second));
        assert_true(SSL_session_reused(second->ssl));
        client_say(second, GET_HELLO);
        expect_hello(second);
        SSL_SESSION_free(session);
        client_free(first);
        client_free(second);
    }
}

/* ---- bytes --------------------------------------------------------------- */

static void records_may_come_byte_by_byte(void **state) {
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < 2; i++) {
        struct tls_client *client = client_new(*state, versions[i]);
        client->piece = 1;
        client_begin(client);
        assert_true(client_shakes_hands(client));
        client_say(client, GET_HELLO);
        expect_hello(client);
        client_say(client, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n");
        client_say(client, HELLO);
        expect_hello(client);
        client_free(client);
    }
}

static void pipelined_requests_are_answered_in_order(void **state) {
    struct tls_client *client = client_open(*state, TLS1_3_VERSION);
    client_say(client, "GET /early HTTP/1.1\r\nHost: a\r\n\r\n" GET_HELLO);
    char *answer = client_read_until(client, HELLO);
    assert_int_equal(http_raw_status(answer), 404);
    free(answer);
    client_free(client);
}

/* A body of many records there and back; whole, and piece by piece. */
static void large_bodies_go_both_ways(void **state) {
    struct bed *bed = *state;
    static const char *const paths[] = {"/echo", "/echo-stream"};
    size_t size = 1000000;
    char *body = malloc(size), *back = malloc(size + 65536), head[128];
    for (size_t i = 0; i < size; i++) body[i] = (char)(i * 7 % 251);
    for (size_t path = 0; path < 2; path++) {
        struct tls_client *client = client_open(bed, TLS1_3_VERSION);
        snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", paths[path], size);
        client_say(client, head);
        client_send(client, body, size);
        size_t got = 0, at = 0;
        while (!at || got < at + size) {
            size_t more = client_read(client, back + got, size + 65536 - got, NULL);
            assert_true(more > 0);
            got += more;
            const char *end = at ? NULL : memmem(back, got, "\r\n\r\n", 4);
            if (end) at = (size_t)(end + 4 - back);
        }
        assert_int_equal(got, at + size);
        assert_memory_equal(back + at, body, size);
        client_free(client);
    }
    free(body);
    free(back);
}

static void a_slow_reader_holds_the_sender_back(void **state) {
    struct bed *bed = *state;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, "GET /big?size=20000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(&bed->fixture, bed->fixture.full);
    for (int i = 0; i < 50; i++) http_fixture_turn(&bed->fixture);
    assert_true(bed->fixture.to_send > 10000000); /* far more than kernel and queue hold waits with the handler */
    size_t got = 0;
    static char bytes[65536];
    while (got < 20000000) {
        size_t more = client_read(client, bytes, sizeof bytes, NULL);
        assert_true(more > 0);
        got += more;
    }
    assert_true(bed->fixture.writable > 0);
    client_free(client);
}

static unsigned freed;
static void count_freed(void *memory) {
    freed++;
    free(memory);
}

static void a_lent_body_is_freed_once_it_is_sent(void **state) {
    struct bed *bed = *state;
    freed = 0;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(&bed->fixture, bed->fixture.held);
    size_t size = 8000000, got = 0;
    char *body = malloc(size), bytes[16384] = "";
    memset(body, 'x', size);
    body[size - 1] = '!';
    http_respond(bed->fixture.held, 200, NULL, 0, body, size, count_freed);
    assert_int_equal(freed, 0);
    do got += client_read(client, bytes, sizeof bytes, NULL);
    while (!memchr(bytes, '!', sizeof bytes));
    assert_true(got > size);
    http_fixture_wait(&bed->fixture, freed == 1);
    client_say(client, GET_HELLO);
    expect_hello(client);
    client_free(client);
}

static void a_lent_body_is_freed_when_the_client_goes(void **state) {
    struct bed *bed = *state;
    freed = 0;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(&bed->fixture, bed->fixture.held);
    http_respond(bed->fixture.held, 200, NULL, 0, malloc(20000000), 20000000, count_freed);
    client_free(client);
    http_fixture_wait(&bed->fixture, freed == 1 && !http_server_connections(bed->fixture.server));
}

/* ---- what does not fit --------------------------------------------------- */

static void a_plain_request_is_told_what_this_port_speaks(void **state) {
    struct bed *bed = *state;
    char *answer = http_raw_ask(&bed->fixture, GET_HELLO, strlen(GET_HELLO));
    assert_int_equal(http_raw_status(answer), 400);
    const char *body = strstr(answer, "\r\n\r\n"), *length = strstr(answer, "Content-Length: ");
    assert_true(body && length);
    assert_int_equal(strlen(body + 4), strtoul(length + 16, NULL, 10));
    assert_non_null(strstr(body, "https://"));
    assert_int_equal(bed->fixture.heads, 0);
    free(answer);
}

static void garbage_is_sent_away(void **state) {
    struct bed *bed = *state;
    static const char *const words[] = {"\x01garbage that is no record of any kind\r\n\r\n", "\x16\x03\x01\xff\xff....",
                                        "\x16\x03\x03\x00\x04\x01\x00\x00\x00"};
    static const size_t sizes[] = {42, 9, 9};
    for (size_t i = 0; i < 3; i++) {
        int descriptor = http_raw_connect(&bed->fixture);
        http_raw_send(&bed->fixture, descriptor, words[i], sizes[i]);
        shutdown(descriptor, SHUT_WR);
        size_t size;
        free(http_raw_read_all(&bed->fixture, descriptor, &size));
        close(descriptor);
    }
    http_fixture_wait(&bed->fixture, !http_server_connections(bed->fixture.server));
    assert_int_equal(bed->fixture.heads, 0);
}

static void a_spoilt_record_ends_the_connection(void **state) {
    struct bed *bed = *state;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, GET_HELLO);
    expect_hello(client);
    assert_true(SSL_write(client->ssl, GET_HELLO, (int)strlen(GET_HELLO)) > 0);
    char bytes[1024];
    int size = BIO_read(client->out, bytes, sizeof bytes);
    bytes[size - 3] ^= 1;
    http_raw_send(&bed->fixture, client->descriptor, bytes, (size_t)size);
    char byte;
    assert_int_equal(client_read(client, &byte, 1, NULL), 0);
    assert_int_equal(bed->fixture.requests, 1);
    client_free(client);
}

static void a_handshake_that_takes_too_long_is_broken_off(void **state) {
    struct bed *bed = *state;
    int silent = http_raw_connect(&bed->fixture), begun = http_raw_connect(&bed->fixture);
    http_raw_send(&bed->fixture, begun, "\x16\x03\x01\x02\x00\x01", 6);
    size_t size;
    free(http_raw_read_all(&bed->fixture, silent, &size));
    free(http_raw_read_all(&bed->fixture, begun, &size));
    close(silent);
    close(begun);
}

static void an_idle_connection_ends_as_agreed(void **state) {
    struct bed *bed = *state;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, GET_HELLO);
    expect_hello(client);
    char byte;
    bool is_clean = false;
    assert_int_equal(client_read(client, &byte, 1, &is_clean), 0);
    assert_true(is_clean);
    client_free(client);
}

static void a_broken_answer_is_seen_to_be_incomplete(void **state) {
    struct bed *bed = *state;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, "GET /manual HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(&bed->fixture, bed->fixture.held && bed->fixture.body_ends);
    http_begin(bed->fixture.held, 200, NULL, 0, -1);
    http_send(bed->fixture.held, "a part", 6);
    http_break(bed->fixture.held);
    char *part = client_read_until(client, "a part");
    free(part);
    char bytes[64];
    bool is_clean = true;
    while (client_read(client, bytes, sizeof bytes, &is_clean)) continue;
    assert_false(is_clean);
    client_free(client);
}

static void a_client_that_only_stops_sending_still_gets_its_answer(void **state) {
    struct bed *bed = *state;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(&bed->fixture, bed->fixture.held);
    SSL_shutdown(client->ssl);
    client_turn(client);
    http_fixture_wait(&bed->fixture, bed->fixture.gone);
    http_respond_json(bed->fixture.held, 200, HELLO, strlen(HELLO));
    expect_hello(client);
    client_free(client);
}

/* ---- clients that must say who they are ---------------------------------- */

/* Whether a request of a client with that certificate (NULL: none) is answered. */
static bool is_let_in(struct bed *bed, int version, const char *name) {
    struct tls_client *client = client_new(bed, version);
    if (name) client_show(client, bed->folder, name);
    client_begin(client);
    bool is_in = client_shakes_hands(client); /* in 1.3 the server's verdict comes behind the client's handshake */
    if (is_in && SSL_write(client->ssl, GET_HELLO, (int)strlen(GET_HELLO)) > 0) {
        char bytes[4096];
        is_in = client_read(client, bytes, sizeof bytes, NULL) > 0;
    }
    ERR_clear_error();
    client_free(client);
    return is_in;
}

static void only_the_authoritys_clients_are_let_in(void **state) {
    struct bed *bed = *state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    authority_issue(bed->authority, bed->folder, "friend");
    authority_issue(bed->other, bed->folder, "stranger");
    for (size_t i = 0; i < 2; i++) {
        assert_false(is_let_in(bed, versions[i], NULL));
        assert_false(is_let_in(bed, versions[i], "stranger"));
        assert_int_equal(bed->fixture.heads, i);
        assert_true(is_let_in(bed, versions[i], "friend"));
    }
}

static void a_client_without_a_certificate_is_told_why(void **state) {
    struct tls_client *client = client_new(*state, TLS1_3_VERSION);
    client_begin(client);
    assert_true(client_shakes_hands(client));
    client_say(client, GET_HELLO);
    char byte;
    int result;
    while ((result = SSL_read(client->ssl, &byte, 1)) <= 0 && client_wants(client, result)) continue;
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED);
    ERR_clear_error();
    client_free(client);
}

/* ---- the end ------------------------------------------------------------- */

static void a_drain_ends_connections_as_agreed(void **state) {
    struct bed *bed = *state;
    struct tls_client *idle = client_open(bed, TLS1_3_VERSION), *busy = client_open(bed, TLS1_3_VERSION);
    client_say(idle, GET_HELLO);
    expect_hello(idle);
    client_say(busy, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
    http_fixture_wait(&bed->fixture, bed->fixture.held);
    http_server_drain(bed->fixture.server, count_drained, bed);
    char byte;
    bool is_clean = false;
    assert_int_equal(client_read(idle, &byte, 1, &is_clean), 0);
    assert_true(is_clean);
    http_respond_json(bed->fixture.held, 200, HELLO, strlen(HELLO));
    char *answer = client_read_until(busy, HELLO);
    assert_non_null(strstr(answer, "Connection: close"));
    free(answer);
    client_free(idle);
    client_free(busy);
    http_fixture_wait(&bed->fixture, bed->fixture.drained);
}

static void must_not_be_taken(int descriptor, void *context) {
    (void)context;
    fail_msg("descriptor %d was handed over", descriptor);
}

static void a_hand_over_lets_each_have_one_more_answer(void **state) {
    struct bed *bed = *state;
    struct tls_client *client = client_open(bed, TLS1_3_VERSION);
    client_say(client, GET_HELLO);
    expect_hello(client);
    http_server_hand_over(bed->fixture.server, must_not_be_taken, count_drained, bed);
    for (int i = 0; i < 20; i++) http_fixture_turn(&bed->fixture);
    assert_int_equal(http_server_connections(bed->fixture.server), 1);
    client_say(client, GET_HELLO);
    char *answer = client_read_until(client, HELLO);
    assert_non_null(strstr(answer, "Connection: close"));
    free(answer);
    client_free(client);
    http_fixture_wait(&bed->fixture, bed->fixture.drained);
}

static void a_plain_connection_does_not_come_over_to_a_server_of_tls(void **state) {
    struct bed *bed = *state;
    int listener, client, served;
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    assert_int_equal(http_listen("127.0.0.1:0", &listener, NULL), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &size), 0);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&name, size), 0);
    http_fixture_wait(&bed->fixture, (served = accept(listener, NULL, NULL)) >= 0);
    assert_int_equal(http_server_adopt(bed->fixture.server, served, NULL), 0);
    char byte;
    assert_int_equal(recv(client, &byte, 1, 0), 0);
    close(client);
    close(listener);
}

/* ---- the files ----------------------------------------------------------- */

/* Reading the files fails with a text that has all of `parts`. */
static void expect_refusal(struct bed *bed, const char *certificate, const char *key, const char *ca,
                           const char *const parts[]) {
    char *paths[] = {scratch_path(bed->folder, certificate), scratch_path(bed->folder, key),
                     ca ? scratch_path(bed->folder, ca) : NULL};
    struct http_tls_context *context = NULL;
    struct error *error = NULL;
    assert_true(http_tls_context_new(&(struct http_tls_files){paths[0], paths[1], paths[2]}, &context, &error) < 0);
    assert_null(context);
    assert_int_equal(error->class, ERROR_CONFIGURATION);
    char *text = error_text(error);
    for (; *parts; parts++)
        if (!strstr(text, *parts)) fail_msg("\"%s\" wanted: %s", *parts, text);
    free(text);
    error_free(error);
    for (size_t i = 0; i < 3; i++) free(paths[i]);
}
#define expect_refusal_of(bed, certificate, key, ca, ...)                                                              \
    expect_refusal(bed, certificate, key, ca, (const char *const[]){__VA_ARGS__, NULL})

static void files_that_do_not_fit_are_named(void **state) {
    struct bed *bed = *state;
    scratch_write_text(bed->folder, "empty.pem", "");
    scratch_write_text(bed->folder, "broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    certificates_write_key(bed->folder, "other.key", "EC", NULL);
    certificates_write_key(bed->folder, "rsa.key", "RSA", NULL);
    certificates_write_key(bed->folder, "locked.key", "EC", "secret");
    expect_refusal_of(bed, "none.pem", "server.key", NULL, "tls_certificate", "none.pem", "No such file");
    expect_refusal_of(bed, "server.pem", "none.key", NULL, "tls_key", "none.key", "No such file");
    expect_refusal_of(bed, "server.pem", "server.key", "none.pem", "tls_client_ca", "none.pem", "No such file");
    expect_refusal_of(bed, "empty.pem", "server.key", NULL, "tls_certificate", "empty.pem", "PEM");
    expect_refusal_of(bed, "broken.pem", "server.key", NULL, "tls_certificate", "broken.pem");
    expect_refusal_of(bed, "server.pem", "empty.pem", NULL, "tls_key", "empty.pem");
    expect_refusal_of(bed, "server.pem", "other.key", NULL, "tls_key", "other.key", "not the key", "server.pem");
    expect_refusal_of(bed, "server.pem", "rsa.key", NULL, "tls_key", "rsa.key", "not the key", "server.pem");
    expect_refusal_of(bed, "server.pem", "locked.key", NULL, "tls_key", "locked.key", "encrypted");
    expect_refusal_of(bed, "server.pem", "server.key", "empty.pem", "tls_client_ca", "empty.pem");
}

static void the_end_of_the_certificate_is_known(void **state) {
    struct http_tls_context *context = read_context(*state, false);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left_ms = http_tls_context_expires_ms(context) - (int64_t)now.tv_sec * 1000;
    assert_in_range(left_ms, 86400000 - 600000, 86400000 + 1000);
    http_tls_context_free(context);
}

#define tls(test) cmocka_unit_test_setup_teardown(test, start, stop)
#define hasty(test) cmocka_unit_test_setup_teardown(test, start_hasty, stop)
#define asking(test) cmocka_unit_test_setup_teardown(test, start_asking, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        tls(versions_1_2_and_1_3_are_spoken),
        tls(version_1_1_is_refused),
        tls(suites_without_forward_secrecy_are_refused),
        tls(http_1_1_is_agreed_on),
        tls(nothing_is_negotiated_anew),
        tls(the_handler_is_told),
        tls(a_session_is_resumed),
        tls(records_may_come_byte_by_byte),
        tls(pipelined_requests_are_answered_in_order),
        tls(large_bodies_go_both_ways),
        tls(a_slow_reader_holds_the_sender_back),
        tls(a_lent_body_is_freed_once_it_is_sent),
        tls(a_lent_body_is_freed_when_the_client_goes),
        tls(a_plain_request_is_told_what_this_port_speaks),
        tls(garbage_is_sent_away),
        tls(a_spoilt_record_ends_the_connection),
        hasty(a_handshake_that_takes_too_long_is_broken_off),
        cmocka_unit_test_setup_teardown(an_idle_connection_ends_as_agreed, start_restless, stop),
        tls(a_broken_answer_is_seen_to_be_incomplete),
        tls(a_client_that_only_stops_sending_still_gets_its_answer),
        asking(only_the_authoritys_clients_are_let_in),
        asking(a_client_without_a_certificate_is_told_why),
        tls(a_drain_ends_connections_as_agreed),
        tls(a_hand_over_lets_each_have_one_more_answer),
        tls(a_plain_connection_does_not_come_over_to_a_server_of_tls),
        tls(files_that_do_not_fit_are_named),
        tls(the_end_of_the_certificate_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
