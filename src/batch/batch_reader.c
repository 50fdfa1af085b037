/* The input's bytes as records: lines of NDJSON, or records of CSV, whose quoted fields may hold line ends. A record
 * that is too long is passed over in constant memory and given as a fault, so that what follows it is read. */
#include <string.h>

#include "base/memory.h"
#include "batch/batch-internal.h"

#define READ_BYTES ((size_t)256 << 10)
#define BYTE_ORDER_MARK "\xef\xbb\xbf"
#define BYTE_ORDER_MARK_SIZE 3

void batch_reader_open(struct batch_reader *reader, enum batch_format format, int64_t offset, int64_t line,
                       batch_read read, void *context) {
    *reader = (struct batch_reader){
        .format = format, .read = read, .context = context, .offset = offset, .line = line, .has_begun = offset > 0};
}

void batch_reader_close(struct batch_reader *reader) {
    buffer_clear(&reader->window);
}

static int read_piece(struct batch_reader *reader, struct error **ret_error) {
    size_t size = 0;
    if (!buffer_reserve(&reader->window, READ_BYTES))
        return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory to read the input");
    int result =
        reader->read(reader->context, reader->window.bytes + reader->window.size, READ_BYTES, &size, ret_error);
    if (result < 0) return result;
    reader->window.size += size;
    reader->has_ended = !size;
    return 0;
}

/* More bytes behind the window; at the end, has_ended. */
static int read_more(struct batch_reader *reader, struct error **ret_error) {
    bool is_first = !reader->has_begun;
    reader->has_begun = true;
    int result;
    do result = read_piece(reader, ret_error);
    while (result >= 0 && is_first && !reader->has_ended && reader->window.size < BYTE_ORDER_MARK_SIZE);
    if (result < 0 || !is_first || reader->window.size < BYTE_ORDER_MARK_SIZE ||
        memcmp(reader->window.bytes, BYTE_ORDER_MARK, BYTE_ORDER_MARK_SIZE) != 0)
        return result;
    buffer_consume(&reader->window, BYTE_ORDER_MARK_SIZE);
    reader->offset = BYTE_ORDER_MARK_SIZE;
    return 0;
}

/* Goes on looking for the record's end; true with *ret_size, the line end included. */
static bool find_end(struct batch_reader *reader, size_t *ret_size) {
    const char *bytes = reader->window.bytes;
    size_t size = reader->window.size, at = reader->scanned;
    if (reader->format == BATCH_NDJSON) {
        const char *end = at < size ? memchr(bytes + at, '\n', size - at) : NULL;
        if (end) reader->lines++;
        reader->scanned = end ? (size_t)(end - bytes) + 1 : size;
        *ret_size = reader->scanned;
        return end != NULL;
    }
    char state = reader->scan_state;
    bool found = false;
    while (at < size && !found) {
        char byte = bytes[at++];
        state = batch_csv_scan(state, byte);
        if (byte != '\n') continue;
        reader->lines++;
        found = !batch_csv_is_open(state);
    }
    reader->scan_state = state;
    reader->scanned = *ret_size = at;
    return found;
}

/* Of a record that is too long only its place is kept. */
static void forget_window(struct batch_reader *reader) {
    if (reader->window.size < BATCH_RECORD_MAXIMUM && !reader->is_too_long) return;
    reader->is_too_long = true;
    reader->offset += (int64_t)reader->scanned;
    buffer_consume(&reader->window, reader->scanned);
    reader->scanned = 0;
}

/* 1 with the size of the next record in the window, 0 at the end. */
static int find_record(struct batch_reader *reader, size_t *ret_size, struct error **ret_error) {
    reader->is_too_long = false;
    reader->scanned = 0;
    reader->lines = 0;
    reader->scan_state = BATCH_CSV_BEGINS;
    for (;;) {
        if (find_end(reader, ret_size)) return 1;
        forget_window(reader);
        if (reader->has_ended) break;
        int result = read_more(reader, ret_error);
        if (result < 0) return result;
    }
    *ret_size = reader->window.size;
    return *ret_size || reader->is_too_long;
}

/* Without its line end. */
static size_t trim(const char *bytes, size_t size) {
    if (size && bytes[size - 1] == '\n') size--;
    if (size && bytes[size - 1] == '\r') size--;
    return size;
}

static bool is_blank(const struct batch_record *record) {
    for (size_t i = 0; i < record->size; i++)
        if (record->bytes[i] != ' ' && record->bytes[i] != '\t') return false;
    return !record->fault;
}

int batch_reader_next(struct batch_reader *reader, struct batch_record *ret_record, struct error **ret_error) {
    for (;;) {
        size_t size = 0;
        buffer_consume(&reader->window, reader->last_size);
        reader->last_size = 0;
        int result = find_record(reader, &size, ret_error);
        if (result <= 0) return result;
        bool is_too_long = reader->is_too_long || size > BATCH_RECORD_MAXIMUM;
        *ret_record = (struct batch_record){.line = reader->line + 1};
        if (is_too_long) {
            ret_record->fault = "it is longer than 4 MiB";
        } else {
            ret_record->bytes = reader->window.bytes;
            ret_record->size = trim(reader->window.bytes, size);
        }
        bool lacks_end = !is_too_long && size && reader->window.bytes[size - 1] != '\n';
        reader->line += reader->lines + lacks_end;
        reader->offset += (int64_t)size;
        reader->last_size = size;
        if (!is_blank(ret_record)) return 1;
    }
}
