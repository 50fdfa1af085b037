#include "base/text.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/memory.h"

char *text_format_list(const char *format, va_list arguments) {
    char *text = NULL;
    if (vasprintf(&text, format, arguments) < 0) abort();
    return text;
}

char *text_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = text_format_list(format, arguments);
    va_end(arguments);
    return text;
}

char *text_copy(const char *text) {
    return text ? mem_copy(text, strlen(text) + 1) : NULL;
}

char *text_copy_bytes(const char *bytes, size_t size) {
    char *copy = mem_alloc(size + 1);
    if (size) memcpy(copy, bytes, size);
    copy[size] = 0;
    return copy;
}

bool text_equal(const char *a, const char *b) {
    return a && b ? !strcmp(a, b) : a == b;
}

bool text_starts_with(const char *text, const char *prefix) {
    return !strncmp(text, prefix, strlen(prefix));
}

bool text_ends_with(const char *text, const char *suffix) {
    size_t length = strlen(text), ending = strlen(suffix);
    return length >= ending && !memcmp(text + length - ending, suffix, ending);
}

/* How many bytes the well-formed sequence at `bytes` has, 0 when there is none (Unicode 15, table 3-7). */
static size_t utf8_sequence_size(const unsigned char *bytes, size_t size) {
    unsigned char first = bytes[0];
    if (first < 0x80) return first ? 1 : 0;
    size_t wanted = first >= 0xc2 && first <= 0xdf   ? 2
                    : (first & 0xf0) == 0xe0         ? 3
                    : first >= 0xf0 && first <= 0xf4 ? 4
                                                     : 0;
    if (!wanted || wanted > size) return 0;
    unsigned char low = 0x80, high = 0xbf;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
    if (bytes[1] < low || bytes[1] > high) return 0;
    for (size_t i = 2; i < wanted; i++)
        if ((bytes[i] & 0xc0) != 0x80) return 0;
    return wanted;
}

bool text_is_utf8(const char *bytes, size_t size) {
    for (size_t at = 0; at < size;) {
        size_t length = utf8_sequence_size((const unsigned char *)bytes + at, size - at);
        if (!length) return false;
        at += length;
    }
    return true;
}

void text_make_utf8(char *text) {
    for (size_t left = strlen(text); left;) {
        size_t step = utf8_sequence_size((const unsigned char *)text, left);
        if (!step) {
            *text = '?';
            step = 1;
        }
        text += step;
        left -= step;
    }
}

bool text_parse_number(const char *text, uint64_t maximum, uint64_t *ret_number) {
    if (!text || !*text) return false;
    uint64_t number = 0;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9') return false;
        unsigned digit = (unsigned)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10) return false;
        number = number * 10 + digit;
    }
    if (number > maximum) return false;
    *ret_number = number;
    return true;
}

struct unit {
    const char *suffix;
    double factor;
};

/* A decimal number without sign or exponent, followed by one of the units. */
static bool parse_with_unit(const char *text, const struct unit *units, size_t count, uint64_t *ret_value) {
    if (!text || !isdigit((unsigned char)*text)) return false;
    size_t digits = strspn(text, "0123456789.");
    if (digits > 24) return false;
    char number[32];
    memcpy(number, text, digits);
    number[digits] = 0;
    char *end = NULL;
    double value = strtod(number, &end);
    if (*end) return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text + digits, units[i].suffix)) continue;
        value *= units[i].factor;
        if (!(value < 9e18)) return false;
        *ret_value = (uint64_t)llround(value);
        return true;
    }
    return false;
}

bool text_parse_size(const char *text, uint64_t *ret_bytes) {
    static const struct unit units[] = {
        {"", 1},     {"k", 1e3},     {"K", 1e3},        {"M", 1e6},           {"G", 1e9},
        {"T", 1e12}, {"Ki", 1024.0}, {"Mi", 1048576.0}, {"Gi", 1073741824.0}, {"Ti", 1099511627776.0}};
    return parse_with_unit(text, units, ARRAY_SIZE(units), ret_bytes);
}

bool text_parse_duration(const char *text, uint64_t *ret_ms) {
    static const struct unit units[] = {{"", 1000},   {"ms", 1},      {"s", 1000},
                                        {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    return parse_with_unit(text, units, ARRAY_SIZE(units), ret_ms);
}

char *text_count(uint64_t count, const char *one, const char *many) {
    return text_format("%llu %s", (unsigned long long)count, count == 1 ? one : many);
}

char *text_size(uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
        value /= 1024;
        unit++;
    }
    return text_format(unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

bool text_is_name(const char *text) {
    if (!text || !isalnum((unsigned char)*text)) return false;
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return !text[length] && length <= 128;
}

bool text_is_uuid(const char *text) {
    if (!text || strlen(text) != 36) return false;
    for (size_t i = 0; i < 36; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i])) return false;
    }
    return true;
}

void text_new_uuid(char ret_uuid[37]) {
    unsigned char b[16];
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b) abort();
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    snprintf(ret_uuid, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
             b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool text_percent_decode(const char *bytes, size_t size, char **ret_text, size_t *ret_size) {
    _cleanup_free_ char *text = mem_alloc(size + 1);
    size_t length = 0;
    for (size_t i = 0; i < size; i++) {
        char c = bytes[i];
        if (c == '%') {
            if (size - i < 3) return false;
            int high = hex_digit(bytes[i + 1]), low = hex_digit(bytes[i + 2]);
            if (high < 0 || low < 0) return false;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (!c) return false;
        text[length++] = c;
    }
    text[length] = 0;
    if (ret_size) *ret_size = length;
    *ret_text = TAKE(text);
    return true;
}

char *text_percent_encode(const char *bytes, size_t size) {
    char *text = mem_alloc(size * 3 + 1), *at = text;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (isalnum(c) || (c && strchr("-._~", c)))
            *at++ = (char)c;
        else
            at += sprintf(at, "%%%02X", c);
    }
    *at = 0;
    return text;
}

/* Levenshtein distance; words are short (commands and flags). */
static size_t edit_distance(const char *a, const char *b) {
    size_t columns = strlen(b);
    size_t row[65];
    if (columns > 64) return SIZE_MAX;
    for (size_t j = 0; j <= columns; j++) row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            size_t substitution = diagonal + (a[i - 1] != b[j - 1]);
            size_t shorter = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = substitution < shorter + 1 ? substitution : shorter + 1;
        }
    }
    return row[columns];
}

const char *text_nearest(const char *word, const char *const *candidates, size_t count) {
    const char *nearest = NULL;
    size_t best = strlen(word) / 3 + 2;
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, candidates[i]);
        if (distance < best) {
            best = distance;
            nearest = candidates[i];
        }
    }
    return nearest;
}

bool text_equal_constant_time(const char *a, const char *b) {
    size_t length = strlen(a), other = strlen(b);
    unsigned char difference = length != other;
    for (size_t i = 0; i < length; i++) difference |= (unsigned char)(a[i] ^ (other ? b[i % other] : 1));
    return !difference;
}
