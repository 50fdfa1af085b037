/* A bulk body: the first byte says in what pieces it comes. Its lines are the same as when it comes whole, and each is
 * a write, a delete, or refused. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "collection/collection.h"
#include "collection/documents.h"

#define LINE_MAXIMUM 256
#define DOCUMENT_MAXIMUM 64

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void try_item(const struct collection_line *line) {
    struct collection_document document;
    _cleanup_error_ struct error *error = NULL;
    int result = collection_parse_item(line->bytes, line->size, DOCUMENT_MAXIMUM, &document, &error);
    assert((result < 0) == (error != NULL));
    if (document.id) assert(*document.id && strlen(document.id) <= COLLECTION_ID_MAXIMUM);
    if (!result) {
        assert(document.id && !document.text == !document.payload_json);
        if (document.text) assert(strlen(document.text) + strlen(document.payload_json) <= DOCUMENT_MAXIMUM);
    } else {
        assert(error->class == ERROR_REQUEST);
    }
    collection_document_clear(&document);
}

/* All lines, one behind the other, with their numbers. */
static void cut(const char *text, size_t size, size_t piece, bool try_items, struct buffer *out) {
    _cleanup_collection_lines_ struct collection_lines lines = {.maximum = LINE_MAXIMUM};
    size_t at = 0;
    do {
        size_t part = size - at < piece ? size - at : piece;
        char *copy = mem_copy(text + at, part);
        at += part;
        collection_lines_feed(&lines, copy, part, at == size);
        struct collection_line line;
        while (collection_lines_next(&lines, &line)) {
            assert(line.too_long || line.size <= LINE_MAXIMUM);
            buffer_append_format(out, "%d %d:", (int)line.number, (int)line.too_long);
            if (!line.too_long) buffer_append(out, line.bytes, line.size);
            if (!line.too_long && try_items) try_item(&line);
        }
        free(copy);
    } while (at < size);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (!size) return 0;
    _cleanup_buffer_ struct buffer whole = {0}, pieces = {0};
    const char *text = (const char *)bytes + 1;
    cut(text, size - 1, size, true, &whole);
    cut(text, size - 1, (size_t)bytes[0] + 1, false, &pieces);
    assert(whole.size == pieces.size &&
           !memcmp(whole.bytes ? whole.bytes : "", pieces.bytes ? pieces.bytes : "", whole.size));
    return 0;
}
