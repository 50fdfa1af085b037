/* A stream cut into lines. */
#include <string.h>

#include "collection/documents.h"

size_t collection_line_maximum(size_t document_maximum) {
    return 6 * (document_maximum + 1024) + 4096; /* \u00xx for every byte of id, text and payload */
}

void collection_lines_clear(struct collection_lines *lines) {
    buffer_clear(&lines->partial);
}

void collection_lines_feed(struct collection_lines *lines, const char *bytes, size_t size, bool last) {
    lines->rest = bytes;
    lines->rest_size = size;
    lines->last = last;
}

static bool is_blank(const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r", bytes[i]) || !bytes[i]) return false;
    return true;
}

/* The next bytes up to a line's end; *ret_ended: it was there, and is passed. */
static size_t take_part(struct collection_lines *lines, const char **ret_part, bool *ret_ended) {
    const char *end = lines->rest_size ? memchr(lines->rest, '\n', lines->rest_size) : NULL;
    size_t size = end ? (size_t)(end - lines->rest) : lines->rest_size;
    *ret_part = lines->rest;
    *ret_ended = end;
    if (lines->rest_size) lines->rest += size + !!end;
    lines->rest_size -= size + !!end;
    return size;
}

/* Keeps the part for when the rest comes. A line that gets too long is not kept any more. */
static void keep_part(struct collection_lines *lines, const char *part, size_t size) {
    if (lines->skipping || !size) return;
    if (size <= lines->maximum - lines->partial.size && buffer_append(&lines->partial, part, size)) return;
    lines->skipping = true;
    buffer_clear(&lines->partial);
}

/* The line that ends with this part: from the stream as it lies there, or put together. False: it is blank. */
static bool end_line(struct collection_lines *lines, const char *part, size_t size, struct collection_line *ret_line) {
    *ret_line = (struct collection_line){.number = ++lines->number};
    if (lines->partial.size || size > lines->maximum) {
        keep_part(lines, part, size);
        part = lines->partial.bytes;
        size = lines->partial.size;
    }
    lines->partial.size = 0; /* its bytes stay until something is kept again */
    if (lines->skipping) {
        lines->skipping = false;
        ret_line->too_long = true;
        return true;
    }
    if (size && part[size - 1] == '\r') size--;
    ret_line->bytes = part;
    ret_line->size = size;
    return !is_blank(part, size);
}

bool collection_lines_next(struct collection_lines *lines, struct collection_line *ret_line) {
    while (lines->rest_size || lines->last) {
        const char *part;
        bool ended;
        size_t size = take_part(lines, &part, &ended);
        if (!ended && !lines->last) {
            keep_part(lines, part, size);
            return false;
        }
        if (!ended) {
            lines->last = false;
            if (!size && !lines->partial.size && !lines->skipping) return false;
        }
        if (end_line(lines, part, size, ret_line)) return true;
    }
    return false;
}
