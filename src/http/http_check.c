/* What a strict server does not accept in a head that llhttp let through (RFC 9112 3, 3.2, 6). */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "http/http_server-internal.h"

/* sub-delims, unreserved and "%": what a registered name may have (RFC 3986 3.2.2) */
static const char *skip_name(const char *at) {
    for (;; at++) {
        if (*at == '%') {
            if (!isxdigit((unsigned char)at[1]) || !isxdigit((unsigned char)at[2])) return NULL;
            at += 2;
        } else if (!*at || !(isalnum((unsigned char)*at) || strchr("-._~!$&'()*+,;=", *at))) {
            return at;
        }
    }
}

static const char *skip_literal(const char *at) {
    size_t length = strspn(at + 1, "0123456789abcdefABCDEF:.");
    return length && at[1 + length] == ']' ? at + length + 2 : NULL;
}

bool http_is_host(const char *host) {
    const char *at = *host == '[' ? skip_literal(host) : skip_name(host);
    if (!at || at == host) return false;
    if (!*at) return true;
    if (*at++ != ':') return false;
    size_t digits = strspn(at, "0123456789");
    return digits <= 5 && !at[digits];
}

/* The protocol's name is not kept by llhttp, which knows RTSP and ICE as well. */
static bool is_http(const struct http_message *message, const char *target) {
    const char *behind = target + message->start.size + 1;
    return !memcmp(behind, "HTTP/", 5);
}

static int check_start(const struct http_message *message, const char **ret_detail) {
    const llhttp_t *parser = &message->parser;
    const char *target = message->bytes + message->start.at;
    if (!is_http(message, target)) {
        *ret_detail = "the request line does not end in HTTP/1.1";
        return 400;
    }
    if (parser->http_major != 1) {
        *ret_detail = "only HTTP/1.0 and HTTP/1.1 are spoken here";
        return 505;
    }
    if (target[-2] == ' ' || target[-2] == '\t') {
        *ret_detail = "there is more than one blank before the request target";
        return 400;
    }
    if (parser->method == HTTP_CONNECT) {
        *ret_detail = "CONNECT is for proxies; this is none";
        return 400;
    }
    if (target[0] == '*' && message->start.size == 1 && parser->method == HTTP_OPTIONS) return 0;
    if (target[0] != '/') {
        *ret_detail = "the request target must be a path that begins with a slash";
        return 400;
    }
    for (size_t i = 0; i < message->start.size; i++) {
        unsigned char c = (unsigned char)target[i];
        if (c > 0x20 && c < 0x7f && c != '#') continue;
        *ret_detail = "the request target has a byte that must be percent-encoded";
        return 400;
    }
    return 0;
}

static int check_coding(const struct http_message *message, size_t count, const char *coding, const char **ret_detail) {
    if (!count) return 0;
    if (message->parser.http_minor == 0) {
        *ret_detail = "HTTP/1.0 has no Transfer-Encoding";
        return 400;
    }
    if (message->content_length >= 0) {
        *ret_detail = "Content-Length and Transfer-Encoding exclude each other";
        return 400;
    }
    if (count == 1 && !strcasecmp(coding, "chunked")) return 0;
    *ret_detail = "the only transfer coding that is understood here is chunked, once";
    return 501;
}

int http_check_head(const struct http_message *message, const char **ret_detail) {
    int status = check_start(message, ret_detail);
    if (status) return status;
    const char *host = NULL, *coding = NULL;
    size_t hosts = 0, codings = 0;
    for (size_t i = 0; i < message->header_count; i++) {
        size_t size = message->slices[i * 2].size;
        const struct http_header *header = &message->headers[i];
        if (size == 4 && !strcasecmp(header->name, "Host")) {
            hosts++;
            host = header->value;
        } else if (size == 17 && !strcasecmp(header->name, "Transfer-Encoding")) {
            codings++;
            coding = header->value;
        }
    }
    if (hosts > 1) {
        *ret_detail = "there is more than one Host header";
        return 400;
    }
    if (!hosts && message->parser.http_minor) {
        *ret_detail = "the Host header is missing";
        return 400;
    }
    if (hosts && !http_is_host(host)) {
        *ret_detail = "the Host header is malformed";
        return 400;
    }
    return check_coding(message, codings, coding, ret_detail);
}
