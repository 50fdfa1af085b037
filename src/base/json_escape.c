#include "base/json_escape.h"

#include <stdbool.h>
#include <stdint.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* How long the well-formed character at `at` is; 0 when it is none (RFC 3629 section 4). */
static size_t character_size(const unsigned char *at, size_t left) {
    static const struct {
        unsigned char first, last, second_from, second_to;
        size_t size;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    if (*at < 0x80) return 1;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (*at < forms[i].first || *at > forms[i].last) continue;
        if (left < forms[i].size || at[1] < forms[i].second_from || at[1] > forms[i].second_to) return 0;
        for (size_t k = 2; k < forms[i].size; k++)
            if ((at[k] & 0xc0) != 0x80) return 0;
        return forms[i].size;
    }
    return 0;
}

static bool append_control(struct buffer *out, unsigned char byte) {
    switch (byte) {
    case '"': return buffer_append(out, "\\\"", 2);
    case '\\': return buffer_append(out, "\\\\", 2);
    case '\n': return buffer_append(out, "\\n", 2);
    case '\r': return buffer_append(out, "\\r", 2);
    case '\t': return buffer_append(out, "\\t", 2);
    default: return buffer_append_format(out, "\\u%04x", byte);
    }
}

static bool is_plain(unsigned char byte) {
    return byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\';
}

/* As much of it as there is room for. */
static bool append_run(struct buffer *out, const unsigned char *bytes, size_t size) {
    size_t room = out->maximum ? out->maximum - out->size : size;
    return buffer_append(out, bytes, size < room ? size : room) && size <= room;
}

void json_escape(struct buffer *out, const char *text, size_t size) {
    const unsigned char *at = (const unsigned char *)text, *end = at + size;
    bool fits = true;
    while (fits && at < end) {
        const unsigned char *begin = at;
        while (at < end && is_plain(*at)) at++;
        if (at > begin) {
            fits = append_run(out, begin, (size_t)(at - begin));
            continue;
        }
        size_t length = character_size(at, (size_t)(end - at));
        if (!length)
            fits = buffer_append(out, REPLACEMENT, sizeof REPLACEMENT - 1);
        else if (length == 1)
            fits = append_control(out, *at);
        else
            fits = buffer_append(out, at, length);
        at += length ? length : 1;
    }
}
