/* The input of a batch job: the first byte says which form it has, and in what pieces it comes. Its records are the
 * same as when it comes whole; each becomes a row or a sentence why not; and reading goes on from any record's end as
 * it went on before. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

#define ROWS 16

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct input {
    const char *bytes;
    size_t size, position, piece;
};

static int read_piece(void *context, char *bytes, size_t size, size_t *ret_size, struct error **ret_error) {
    struct input *input = context;
    (void)ret_error;
    size_t left = input->size - input->position, wanted = input->piece < size ? input->piece : size;
    *ret_size = left < wanted ? left : wanted;
    memcpy(bytes, input->bytes + input->position, *ret_size);
    input->position += *ret_size;
    return 0;
}

/* What each record is, as text. `from`: the record behind which the reading begins anew, as after a kill. */
static void read_all(enum batch_format format, const char *bytes, size_t size, size_t piece, size_t from,
                     struct buffer *out) {
    struct input input = {bytes, size, 0, piece};
    struct batch_reader reader;
    struct batch_record record;
    size_t count = 0;
    int64_t line = 0;
    batch_reader_open(&reader, format, 0, 0, read_piece, &input);
    while (batch_reader_next(&reader, &record, NULL) > 0) {
        assert(record.line > line && reader.offset <= (int64_t)size && reader.line >= record.line);
        line = record.line;
        buffer_append_format(out, "%lld:", (long long)line);
        buffer_append(out, record.bytes, record.size);
        buffer_append(out, "\1", 1);
        if (++count != from) continue;
        int64_t offset = reader.offset, lines = reader.line;
        batch_reader_close(&reader);
        input.position = (size_t)offset;
        batch_reader_open(&reader, format, offset, lines, read_piece, &input);
    }
    assert(reader.offset == (int64_t)size);
    batch_reader_close(&reader);
}

static struct batch_tensor inputs[] = {
    {.name = (char *)"text", .field = (char *)"t", .type = BATCH_BYTES},
    {.name = (char *)"x", .field = (char *)"x", .type = BATCH_FP32, .rank = 2, .shape = {-1, 2}},
    {.name = (char *)"n", .field = (char *)"n", .type = BATCH_INT8},
};
static const struct batch_model model = {.inputs = inputs, .input_count = ARRAY_SIZE(inputs)};

/* Rows that were taken fill a chunk, whose bytes are those of its rows. */
static void take_rows(enum batch_format format, const char *bytes, size_t size) {
    const struct batch_spec spec = {.format = format, .id_field = (char *)"id"};
    struct input input = {bytes, size, 0, SIZE_MAX};
    struct batch_reader reader;
    struct batch_rows rows;
    struct batch_record record;
    struct batch_chunk *chunk = batch_chunk_new(&model, ROWS);
    batch_reader_open(&reader, format, 0, 0, read_piece, &input);
    bool has_header = format == BATCH_CSV && batch_reader_next(&reader, &record, NULL) > 0;
    bool goes_on = batch_rows_open(&rows, &spec, &model, has_header ? &record : NULL, NULL) >= 0;
    while (goes_on && chunk->count < ROWS && batch_reader_next(&reader, &record, NULL) > 0) {
        char *fault = batch_rows_read(&rows, &record);
        if (!fault && !batch_rows_place(&rows, chunk)) break;
        if (fault) batch_rejects_add(&chunk->rejects, record.line, "other", fault);
        free(fault);
    }
    if (chunk->count) {
        struct buffer request = {0};
        size_t head = batch_request_write(&model, chunk, 0, chunk->count, &request);
        assert(request.size - head == batch_chunk_bytes(chunk, &model) - chunk->ids.size);
        buffer_clear(&request);
    }
    batch_chunk_free(chunk, &model);
    batch_rows_close(&rows);
    batch_reader_close(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 1) return 0;
    enum batch_format format = bytes[0] & 1 ? BATCH_CSV : BATCH_NDJSON;
    const char *text = (const char *)bytes + 1;
    struct buffer whole = {0}, pieces = {0};
    read_all(format, text, size - 1, SIZE_MAX, 0, &whole);
    read_all(format, text, size - 1, (size_t)(bytes[0] >> 4) + 1, (bytes[0] >> 1) & 7, &pieces);
    assert(whole.size == pieces.size && (!whole.size || !memcmp(whole.bytes, pieces.bytes, whole.size)));
    take_rows(format, text, size - 1);
    buffer_clear(&whole);
    buffer_clear(&pieces);
    return 0;
}
