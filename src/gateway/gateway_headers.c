/* Which headers pass, in which direction (RFC 9110 7.6.1), and the request's id. */
#include <stdlib.h>
#include <string.h>

#include "gateway/gateway-internal.h"

/* ---- request ids --------------------------------------------------------- */

static bool is_id_character(unsigned char byte) {
    return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') || byte == '.' ||
           byte == '_' || byte == '-';
}

bool gateway_is_request_id(const char *text) {
    size_t size = 0;
    while (is_id_character((unsigned char)text[size]))
        if (++size > GATEWAY_REQUEST_ID_MAXIMUM) return false;
    return size && !text[size];
}

/* The process's random prefix and a running number: unique without asking the kernel for each. */
static void make_request_id(struct gateway *gateway, char ret_id[GATEWAY_REQUEST_ID_MAXIMUM + 1]) {
    static const char digits[] = "0123456789abcdef";
    size_t size = strlen(gateway->id_prefix);
    memcpy(ret_id, gateway->id_prefix, size);
    ret_id[size++] = '-';
    uint64_t number = ++gateway->id_count;
    int shift = 28;
    while (shift < 60 && number >> (shift + 4)) shift += 4;
    for (; shift >= 0; shift -= 4) ret_id[size++] = digits[number >> shift & 15];
    ret_id[size] = 0;
}

void gateway_set_request_id(struct exchange *exchange) {
    const char *brought = http_request_header(exchange->request, "X-Request-Id");
    if (brought && gateway_is_request_id(brought))
        strcpy(exchange->request_id, brought); /* its length was checked */
    else
        make_request_id(exchange->gateway, exchange->request_id);
}

/* ---- what passes --------------------------------------------------------- */

static const char *const dropped_upstream[] = {"Host",   "Content-Length",  "Authorization",
                                               "Expect", "X-Forwarded-For", "X-Request-Id"};
static const char *const dropped_downstream[] = {"Content-Length",   "Date",        "Server", "X-Slipway-Batch",
                                                 "X-Slipway-Timing", "X-Request-Id"};

static bool is_among(const struct http_header *header, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (http_header_is(header, names[i])) return true;
    return false;
}

/* By the first letter: most headers are none of those that are dropped, and need one look. */
static bool may_be_dropped(const char *name) {
    static const char initials[] = "acdehkpstux";
    return memchr(initials, name[0] | 0x20, sizeof initials - 1);
}

/* Only a Connection that names more than what every client sends is worth searching. */
static bool names_headers(const struct http_header *headers, size_t count) {
    const char *connection = http_find_header(headers, count, "Connection");
    if (!connection) return false;
    struct http_header value = {.name = connection};
    return !http_header_is(&value, "keep-alive") && !http_header_is(&value, "close");
}

static bool passes(const struct http_header *header, const char *const *dropped, size_t dropped_count) {
    if (!may_be_dropped(header->name)) return true;
    return !http_header_is_hop_by_hop(header->name) && !is_among(header, dropped, dropped_count);
}

static size_t copy_passing(struct http_header *to, const struct http_header *headers, size_t count,
                           const char *const *dropped, size_t dropped_count) {
    bool search = names_headers(headers, count);
    size_t passed = 0;
    for (size_t i = 0; i < count; i++) {
        if (!passes(&headers[i], dropped, dropped_count)) continue;
        if (search && http_connection_names(headers, count, headers[i].name)) continue;
        to[passed++] = headers[i];
    }
    return passed;
}

/* The peer's address without its port, behind what the client brought. */
static const char *forwarded_for(struct exchange *exchange) {
    const struct http_request *request = exchange->request;
    struct buffer *text = &exchange->forwarded_for;
    text->size = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        if (!http_header_is(&request->headers[i], "X-Forwarded-For")) continue;
        buffer_append_text(text, request->headers[i].value);
        buffer_append(text, ", ", 2);
    }
    const char *peer = request->peer, *port = strrchr(peer, ':');
    bool is_bracketed = port && *peer == '['; /* [::1]:4711 */
    if (port)
        buffer_append(text, peer + is_bracketed, (size_t)(port - peer) - 2 * is_bracketed);
    else
        buffer_append_text(text, "unknown"); /* a unix socket: RFC 7239 6.3 */
    return text->bytes;
}

size_t gateway_headers_upstream(struct exchange *exchange) {
    const struct http_request *request = exchange->request;
    struct http_header *to = gateway_scratch_headers(exchange->gateway, request->header_count + 3);
    size_t count = copy_passing(to, request->headers, request->header_count, dropped_upstream,
                                sizeof dropped_upstream / sizeof *dropped_upstream);
    to[count++] = (struct http_header){"X-Forwarded-For", forwarded_for(exchange)};
    to[count++] = (struct http_header){"X-Request-Id", exchange->request_id};
    return gateway_trace_headers(exchange, to, count);
}

size_t gateway_headers_downstream(struct exchange *exchange, const struct http_answer *answer) {
    struct http_header *to = gateway_scratch_headers(exchange->gateway, answer->header_count + 1);
    size_t count = copy_passing(to, answer->headers, answer->header_count, dropped_downstream,
                                sizeof dropped_downstream / sizeof *dropped_downstream);
    to[count++] = (struct http_header){"X-Request-Id", exchange->request_id};
    return count;
}
