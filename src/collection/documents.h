/* What clients write, as they send it: one document, one item of a bulk write, lines of NDJSON (API "write", "bulk").
 *
 * Parsing only: nothing here touches a database. A document's id is 1 to COLLECTION_ID_MAXIMUM bytes of UTF-8 without
 * NUL; its text is not empty (white space alone is empty) and has no NUL; its payload is an object; text and payload as
 * it is kept (without spaces) are at most `maximum` bytes together (setting document_maximum). Errors are REQUEST
 * errors that name the field, 413 for what is too large. May use: base. Any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"

/* Owned strings. */
struct collection_document {
    char *id; /* NULL when it was not asked for: it stands in the path */
    char *text; /* NULL: a delete */
    char *payload_json; /* "{}" when there was none; NULL with a delete */
};
void collection_document_clear(struct collection_document *document);
#define _cleanup_collection_document_ __attribute__((cleanup(collection_document_clear)))

int collection_check_id(const char *id, size_t size, struct error **ret_error);

/* The body of a PUT: {"text","payload"}. */
int collection_parse_document(const char *bytes, size_t size, size_t maximum, struct collection_document *ret_document,
                              struct error **ret_error);
/* A bulk item, as a line of NDJSON or as a member of the list: {"id","text","payload"} or {"id","delete":true}; `seq`
 * and `updated_at`, which an export has, are passed over. On an error ret_document->id is set when the item has a valid
 * one (for the answer's "errors"); clear it in both cases. */
int collection_parse_item(const char *bytes, size_t size, size_t maximum, struct collection_document *ret_document,
                          struct error **ret_error);
int collection_read_item(yyjson_val *item, size_t maximum, struct collection_document *ret_document,
                         struct error **ret_error);

/* ---- lines ------------------------------------------------------------------------------------------------------- */

/* A ceiling for a line whose document is within `document_maximum`: every byte may be escaped (\u00xx). */
size_t collection_line_maximum(size_t document_maximum);

/* Cuts a stream into lines, fed as it comes. Zero-initialise it and set `maximum`; free with collection_lines_clear().
 *
 *     collection_lines_feed(&lines, piece, size, is_last);
 *     while (collection_lines_next(&lines, &line)) …
 *
 * LF or CR LF ends a line; the last one needs no end. Lines of white space are passed over, but counted. */
struct collection_lines {
    size_t maximum; /* bytes of a line */
    struct buffer partial; /* the beginning of a line whose end is to come */
    uint64_t number; /* lines that have ended */
    bool skipping, last;
    const char *rest;
    size_t rest_size;
};
struct collection_line {
    const char *bytes; /* valid until the next call */
    size_t size;
    uint64_t number; /* from 1 */
    bool too_long; /* longer than the ceiling: `bytes` is NULL; the next line is read as usual */
};
/* `bytes` must stay until collection_lines_next() has returned false. */
void collection_lines_feed(struct collection_lines *lines, const char *bytes, size_t size, bool last);
bool collection_lines_next(struct collection_lines *lines, struct collection_line *ret_line);
void collection_lines_clear(struct collection_lines *lines);
#define _cleanup_collection_lines_ __attribute__((cleanup(collection_lines_clear)))
