/* CSV as RFC 4180 has it: fields in quotes may hold commas, line ends and quotes (doubled); lines end with CRLF or LF.
 * A quote inside a field that does not begin with one, and text behind a closing quote, are faults: whatever wrote them
 * did not mean what a guess would make of them. Pure functions over bytes from outside. */
#include <string.h>

#include "batch/batch-internal.h"

enum { FIELD_BEGINS = BATCH_CSV_BEGINS, FIELD_PLAIN, FIELD_QUOTED, FIELD_CLOSED };

char batch_csv_scan(char state, char byte) {
    if (state == FIELD_QUOTED) return byte == '"' ? FIELD_CLOSED : FIELD_QUOTED;
    /* One that opens a field, or the second of a doubled one. */
    if (byte == '"' && (state == FIELD_BEGINS || state == FIELD_CLOSED)) return FIELD_QUOTED;
    return byte == ',' || byte == '\n' ? FIELD_BEGINS : FIELD_PLAIN;
}

bool batch_csv_is_open(char state) {
    return state == FIELD_QUOTED;
}

static const char *take_quoted(char *bytes, size_t size, size_t *position, struct batch_text *ret_field) {
    size_t at = *position + 1, written = at;
    ret_field->bytes = bytes + at;
    for (;; at++) {
        if (at >= size) return "a quote is opened and not closed";
        if (bytes[at] != '"') {
            bytes[written++] = bytes[at];
        } else if (at + 1 < size && bytes[at + 1] == '"') {
            bytes[written++] = bytes[at++];
        } else {
            break;
        }
    }
    ret_field->size = (size_t)(bytes + written - ret_field->bytes);
    *position = at + 1;
    return *position < size && bytes[*position] != ',' ? "something stands behind a closing quote" : NULL;
}

static const char *take_plain(char *bytes, size_t size, size_t *position, struct batch_text *ret_field) {
    const char *comma = memchr(bytes + *position, ',', size - *position);
    size_t end = comma ? (size_t)(comma - bytes) : size;
    *ret_field = (struct batch_text){bytes + *position, end - *position};
    *position = end;
    return memchr(ret_field->bytes, '"', ret_field->size) ? "a quote stands inside a field that does not begin with one"
                                                          : NULL;
}

const char *batch_csv_split(char *bytes, size_t size, struct batch_text *fields, size_t maximum, size_t *ret_count) {
    size_t position = 0;
    *ret_count = 0;
    for (;;) {
        if (*ret_count == maximum) return "it has more fields than the header, or than is allowed";
        bool quoted = position < size && bytes[position] == '"';
        const char *fault = quoted ? take_quoted(bytes, size, &position, &fields[*ret_count])
                                   : take_plain(bytes, size, &position, &fields[*ret_count]);
        if (fault) return fault;
        ++*ret_count;
        if (position >= size) return NULL;
        position++; /* the comma */
    }
}

void batch_csv_write(struct buffer *out, const char *bytes, size_t size) {
    bool plain = true;
    for (size_t i = 0; i < size && plain; i++) plain = !strchr(",\"\r\n", bytes[i]) || !bytes[i];
    if (plain) {
        buffer_append(out, bytes, size);
        return;
    }
    buffer_append(out, "\"", 1);
    for (size_t i = 0; i < size; i++) buffer_append(out, bytes[i] == '"' ? "\"\"" : &bytes[i], bytes[i] == '"' ? 2 : 1);
    buffer_append(out, "\"", 1);
}
