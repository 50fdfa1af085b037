/* The reading thread: the input becomes chunks, as long as there is room for more of them. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

#define REJECTS_MAXIMUM 1024 /* of one chunk: an input of nothing but rubbish makes chunks, too */

struct feed {
    struct batch_run *run;
    struct batch_reader reader;
    struct batch_rows rows;
    uint64_t position; /* of the source */
    int64_t made;
    bool has_row; /* one that did not fit into the chunk before */
};

static int read_source(void *context, char *bytes, size_t size, size_t *ret_size, struct error **ret_error) {
    struct feed *feed = context;
    int result = batch_source_read(feed->run->source, feed->position, bytes, size, ret_size, ret_error);
    if (result >= 0) feed->position += *ret_size;
    return result;
}

static void open_at(struct feed *feed, int64_t offset, int64_t line) {
    feed->position = (uint64_t)offset;
    batch_reader_open(&feed->reader, feed->run->config->spec->format, offset, line, read_source, feed);
}

/* CSV's header is read in any case; then the reader goes on where the last part ended. */
static int begin(struct feed *feed, struct error **ret_error) {
    const struct batch_config *config = feed->run->config;
    const struct batch_checkpoint *checkpoint = &config->checkpoint;
    struct batch_record header;
    bool is_csv = config->spec->format == BATCH_CSV;
    open_at(feed, 0, 0);
    int result = is_csv ? batch_reader_next(&feed->reader, &header, ret_error) : 0;
    if (result < 0 || (result = batch_rows_open(&feed->rows, config->spec, &feed->run->model, result ? &header : NULL,
                                                ret_error)) < 0)
        return result;
    if (!checkpoint->input_end) return 0;
    batch_reader_close(&feed->reader);
    open_at(feed, checkpoint->input_end, checkpoint->line_end);
    return 0;
}

/* Waits until there may be one more. False when the run stops. */
static bool take_room(struct batch_run *run) {
    pthread_mutex_lock(&run->lock);
    while (!run->is_stopping && run->chunks >= run->chunk_maximum) pthread_cond_wait(&run->changed, &run->lock);
    bool goes_on = !run->is_stopping;
    if (goes_on) run->chunks++;
    pthread_mutex_unlock(&run->lock);
    return goes_on;
}

static void give(struct batch_run *run, struct batch_chunk *chunk) {
    pthread_mutex_lock(&run->lock);
    *run->ready_end = chunk;
    run->ready_end = &chunk->next;
    pthread_mutex_unlock(&run->lock);
    uv_async_send(&run->woken);
}

static bool is_full(const struct feed *feed, const struct batch_chunk *chunk) {
    return chunk->count == chunk->capacity || chunk->rejects.count >= REJECTS_MAXIMUM ||
           batch_chunk_bytes(chunk, &feed->run->model) >= BATCH_CHUNK_BYTES;
}

/* 1: it is full; 0: the input is at its end. */
static int fill(struct feed *feed, struct batch_chunk *chunk, struct error **ret_error) {
    if (feed->has_row) batch_rows_place(&feed->rows, chunk);
    feed->has_row = false;
    for (;;) {
        chunk->input_end = feed->reader.offset;
        chunk->line_end = feed->reader.line;
        if (is_full(feed, chunk)) return 1;
        struct batch_record record;
        int result = batch_reader_next(&feed->reader, &record, ret_error);
        if (result <= 0) {
            chunk->input_end = feed->reader.offset;
            chunk->line_end = feed->reader.line;
            return result;
        }
        _cleanup_free_ char *fault = batch_rows_read(&feed->rows, &record);
        if (fault) {
            batch_rejects_add(&chunk->rejects, record.line, "other", fault);
        } else if (!batch_rows_place(&feed->rows, chunk)) {
            feed->has_row = true;
            return 1;
        }
    }
}

static int read_all(struct feed *feed, struct error **ret_error) {
    struct batch_run *run = feed->run;
    size_t capacity = run->config->spec->batch_size;
    if (capacity > run->model.rows_maximum) capacity = run->model.rows_maximum;
    int result = begin(feed, ret_error);
    for (int more = 1; result >= 0 && more;) {
        if (!take_room(run)) return 0;
        struct batch_chunk *chunk = batch_chunk_new(&run->model, capacity);
        result = more = fill(feed, chunk, ret_error);
        if (result < 0) {
            batch_chunk_free(chunk, &run->model);
            return result;
        }
        more = more || feed->has_row;
        chunk->number = feed->made++;
        give(run, chunk);
    }
    return result < 0 ? result : batch_source_check(run->source, ret_error);
}

void *batch_feed(void *context) {
    struct batch_run *run = context;
    struct feed feed = {.run = run};
    struct error *error = NULL;
    if (read_all(&feed, &error) < 0) batch_run_fail(run, error);
    batch_rows_close(&feed.rows);
    batch_reader_close(&feed.reader);
    pthread_mutex_lock(&run->lock);
    run->made = feed.made;
    run->has_read_all = true;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}
