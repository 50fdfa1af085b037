/* Heads on their way out: what both sides write in front of a body. */
#include <stdio.h>
#include <string.h>

#include "http/http-internal.h"

bool http_is_token(const char *text) {
    static const char allowed[] = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    return *text && !text[strspn(text, allowed)];
}

size_t http_header_size(const struct http_header *header) {
    return strlen(header->name) + strlen(header->value) + 4;
}

char *http_put(char *at, const char *bytes, size_t size) {
    memcpy(at, bytes, size);
    return at + size;
}

char *http_put_text(char *at, const char *text) {
    return http_put(at, text, strlen(text));
}

char *http_put_header(char *at, const struct http_header *header) {
    if (!http_is_token(header->name)) return at;
    at = http_put_text(at, header->name);
    at = http_put(at, ": ", 2);
    for (const char *value = header->value; *value; value++) {
        unsigned char c = (unsigned char)*value;
        *at++ = (c < 0x20 && c != '\t') || c == 0x7f ? ' ' : (char)c;
    }
    return http_put(at, "\r\n", 2);
}

char *http_put_number(char *at, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) *at++ = digits[--count];
    return at;
}

char *http_put_chunk_size(char *at, size_t size) {
    static const char hex[] = "0123456789abcdef";
    char digits[16];
    size_t count = 0;
    do digits[count++] = hex[size % 16];
    while (size /= 16);
    while (count) *at++ = digits[--count];
    return http_put(at, "\r\n", 2);
}
