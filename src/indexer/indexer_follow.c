/* An index takes a part of the log: read, embed, put into the index, show.
 *
 * A chunk is kept when it cannot be finished (no replica is up, the disk is full, someone else needs the index), and
 * gone on with where it stopped. An index in use takes short chunks, each whole at its end, and shows it. One that is
 * filled advances to the head that it found when it began a pass, and embeds of each document only the row that is
 * newest there (L12); what it passes over makes it whole only at the pass's end, which is before anyone sees it. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define FILLING_TEXTS 2048 /* in a chunk: enough that texts of like length are found for a batch */
#define FILLING_TEXTS_MINIMUM 256
#define FILLING_SECONDS 5 /* of work in a chunk: progress is told after each */
#define CHUNK_BYTES ((size_t)32 << 20) /* texts, and vectors */
#define PAGE 64 /* rows read at once: none is larger than document_maximum */
#define NEAR_ROWS 512 /* behind the head: caught up, for an index that is filled under writes */
#define LIVE_LIMIT_MINIMUM 16
#define LIVE_LIMIT_MAXIMUM 512

bool indexer_is_filling(const struct indexer_index *index) {
    return indexer_index_in(index, INDEX_FILLING) || index->written < index->answers_from;
}

/* ---- the chunk ----------------------------------------------------------------------- */

void indexer_chunk_free(struct indexer_chunk *chunk) {
    if (!chunk) return;
    for (size_t i = 0; i < chunk->count; i++) {
        free(chunk->rows[i].id);
        free(chunk->rows[i].text);
    }
    for (size_t i = 0; i < chunk->item_count; i++) free(chunk->items[i].detail);
    free(chunk->rows);
    free(chunk->items);
    free(chunk->vectors);
    free(chunk);
}

static void take_change(struct indexer_chunk *chunk, struct collection_change *change) {
    if (chunk->count == chunk->capacity) {
        chunk->capacity = chunk->capacity ? 2 * chunk->capacity : PAGE;
        chunk->rows = mem_resize(chunk->rows, chunk->capacity, sizeof *chunk->rows);
    }
    struct chunk_row *row = &chunk->rows[chunk->count++];
    *row = (struct chunk_row){.seq = change->row.seq, .previous = change->row.previous, .id = TAKE(change->row.id)};
    if (change->superseded) {
        chunk->is_torn = true;
    } else if (change->row.text) {
        row->text = TAKE(change->row.text);
        chunk->text_bytes += strlen(row->text);
        chunk->item_count++;
    }
}

/* How a chunk is cut. */
struct cut {
    uint64_t from, through, newest;
    size_t text_limit;
    bool by_size; /* it may end before `through` */
};

static int read_rows(struct collection_read *read, const struct cut *cut, struct indexer_chunk *chunk,
                     struct error **ret_error) {
    uint64_t after = cut->from;
    for (size_t count = PAGE; count == PAGE;) {
        struct collection_change *changes = NULL;
        if (cut->by_size && (chunk->item_count >= cut->text_limit || chunk->text_bytes >= CHUNK_BYTES)) {
            chunk->through = after;
            return 0;
        }
        int result = collection_changes(read, after, cut->through, cut->newest, PAGE, &changes, &count, ret_error);
        if (result < 0) return result;
        for (size_t i = 0; i < count; i++) take_change(chunk, &changes[i]);
        if (count) after = changes[count - 1].row.seq;
        collection_changes_free(changes, count);
    }
    chunk->through = cut->through;
    return 0;
}

static bool should_stop(void *context) {
    const struct indexer_index *index = context;
    return index->wanted || index->collection->is_closing;
}

static int make_items(struct indexer_index *index, struct indexer_chunk *chunk, struct error **ret_error) {
    size_t dimension = (size_t)index->row.dimension, count = chunk->item_count;
    chunk->items = mem_new_array(count, struct embed_item);
    chunk->vectors = malloc((count ? count : 1) * dimension * sizeof *chunk->vectors);
    if (!chunk->vectors) {
        error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for the vectors of %zu texts", count);
        return error_mark_transient(ret_error);
    }
    size_t at = 0;
    for (size_t i = 0; i < chunk->count; i++) {
        if (!chunk->rows[i].text) continue;
        struct embed_item *item = chunk->rows[i].item = &chunk->items[at];
        *item = (struct embed_item){.text = chunk->rows[i].text,
                                    .size = strlen(chunk->rows[i].text),
                                    .vector = chunk->vectors + at++ * dimension};
    }
    chunk->order = (struct embed_order){.digest = index->row.encoder_digest,
                                        .dimension = dimension,
                                        .items = chunk->items,
                                        .count = count,
                                        .should_stop = should_stop,
                                        .context = index};
    return 0;
}

/* ---- where the next one ends -------------------------------------------------------------- */

static int count_left(struct indexer_index *index, struct collection_read *read, struct error **ret_error) {
    uint64_t rows = 0, embeds = 0;
    int result = collection_count_changes(read, index->written, &rows, &embeds, ret_error);
    if (result < 0) return result;
    pthread_mutex_lock(&index->collection->indexer->lock);
    index->left = embeds;
    pthread_mutex_unlock(&index->collection->indexer->lock);
    return 0;
}

/* A pass ends at the head that it began with, that of an index that is built again where it is shown from. */
static int cut_filling(struct indexer_index *index, struct collection_read *read, struct cut *cut,
                       struct error **ret_error) {
    if (index->pass_end <= index->written) {
        bool is_new = indexer_index_in(index, INDEX_FILLING);
        int result = count_left(index, read, ret_error);
        if (result < 0) return result;
        index->pass_end = is_new ? collection_head(read) : index->answers_from;
    }
    size_t vector_bytes = (size_t)index->row.dimension * sizeof(float);
    cut->through = cut->newest = index->pass_end;
    cut->text_limit = index->rate > 0 ? (size_t)(index->rate * FILLING_SECONDS) : FILLING_TEXTS_MINIMUM;
    if (cut->text_limit < FILLING_TEXTS_MINIMUM) cut->text_limit = FILLING_TEXTS_MINIMUM;
    if (cut->text_limit > FILLING_TEXTS) cut->text_limit = FILLING_TEXTS;
    if (cut->text_limit * vector_bytes > CHUNK_BYTES) cut->text_limit = CHUNK_BYTES / vector_bytes;
    if (cut->text_limit < PAGE) cut->text_limit = PAGE;
    cut->by_size = true;
    return 0;
}

/* Every number may become the one that a fenced index stops at: nothing may be passed over (X3). */
static void cut_in_use(struct indexer_index *index, uint64_t head, struct cut *cut) {
    pthread_mutex_lock(&index->collection->indexer->lock);
    bool is_fenced = index->fence != INDEXER_NO_FENCE;
    pthread_mutex_unlock(&index->collection->indexer->lock);
    cut->through = head - index->written > index->live_limit ? index->written + index->live_limit : head;
    cut->newest = is_fenced ? 0 : cut->through;
}

static void note_size(struct indexer_index *index, const struct indexer_chunk *chunk) {
    if (chunk->text_bytes > CHUNK_BYTES && index->live_limit > LIVE_LIMIT_MINIMUM)
        index->live_limit /= 2;
    else if (index->live_limit < LIVE_LIMIT_MAXIMUM)
        index->live_limit *= 2;
}

static int read_chunk(struct indexer_index *index, uint64_t limit, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct cut cut = {.from = index->written};
    int result = collection_read_begin(index->collection->store, index->row.set, &read, ret_error);
    if (result < 0) return result;
    uint64_t head = collection_head(read) < limit ? collection_head(read) : limit;
    if (index->written >= head) return 0;
    if (!indexer_is_filling(index))
        cut_in_use(index, head, &cut);
    else if ((result = cut_filling(index, read, &cut, ret_error)) < 0)
        return result;
    struct indexer_chunk *chunk = mem_new(struct indexer_chunk);
    chunk->from = cut.from;
    result = read_rows(read, &cut, chunk, ret_error);
    if (result >= 0) result = make_items(index, chunk, ret_error);
    if (result < 0) {
        indexer_chunk_free(chunk);
        return result;
    }
    chunk->is_torn = chunk->is_torn || cut.by_size;
    chunk->order.is_bulk = cut.by_size;
    note_size(index, chunk);
    index->chunk = chunk;
    return 1;
}

/* ---- into the index --------------------------------------------------------------------------- */

/* What could not be embedded or kept (L9). Details are borrowed from `details`. */
struct failures {
    struct collection_failure *items;
    uint64_t *cleared; /* items that failed, and whose document has a newer row now */
    size_t count, cleared_count;
};

static void add_failure(struct failures *failures, const struct chunk_row *row, const char *stage, char *detail) {
    failures->items = mem_resize(failures->items, failures->count + 1, sizeof *failures->items);
    failures->items[failures->count++] = (struct collection_failure){
        .seq = row->seq, .id = row->id, .stage = (char *)stage, .detail = detail, .attempts = 1};
}

static void failures_clear(struct failures *failures) {
    free(failures->items);
    free(failures->cleared);
}
#define _cleanup_failures_ __attribute__((cleanup(failures_clear)))

static int append_row(struct indexer_index *index, struct chunk_row *row, struct error **ret_error) {
    const struct vector_ops *vectors = index->collection->indexer->vectors;
    struct error *error = NULL;
    int result = vectors->append(index->writer, row->seq, row->item->vector, &error);
    if (result >= 0) {
        index->chunk->rows_more++;
        return 0;
    }
    if (error->class == ERROR_REQUEST) { /* no vector: the item is to blame, not the index */
        row->item->state = EMBED_REFUSED;
        row->item->detail = error_text(error);
        row->is_no_vector = true;
        error_free(error);
        return 1;
    }
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

/* Goes on after the last row that is in. */
static int apply_rows(struct indexer_index *index, struct error **ret_error) {
    struct indexer_chunk *chunk = index->chunk;
    for (; chunk->done < chunk->count; chunk->done++) {
        struct chunk_row *row = &chunk->rows[chunk->done];
        if (row->previous && index->collection->indexer->vectors->kill(index->writer, row->previous, row->seq))
            chunk->rows_more--;
        if (!row->item || row->item->state != EMBED_DONE) continue;
        int result = append_row(index, row, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

/* Recorded before the rows are shown: who waits for its write then finds why it is not there (L11). */
static int record_failures(struct indexer_index *index, struct error **ret_error) {
    struct indexer_chunk *chunk = index->chunk;
    _cleanup_failures_ struct failures failures = {0};
    bool had_failed = index->failed;
    chunk->failed = index->failed;
    if (had_failed) failures.cleared = mem_new_array(chunk->count, uint64_t);
    for (size_t i = 0; i < chunk->count; i++) {
        struct chunk_row *row = &chunk->rows[i];
        if (had_failed && row->previous) failures.cleared[failures.cleared_count++] = row->previous;
        if (!row->item || row->item->state != EMBED_REFUSED) continue;
        add_failure(&failures, row, row->is_no_vector ? "upsert" : "inference", row->item->detail);
    }
    if (!failures.count && !failures.cleared_count) return 0;
    int result = collection_record_failures(index->collection->store, index->row.index_id, failures.items,
                                            failures.count, failures.cleared, failures.cleared_count, ret_error);
    if (result < 0) return error_wrap(ret_error, "record what could not be embedded");
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_failure *none = NULL;
    size_t none_count = 0;
    result = collection_read_begin(index->collection->store, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0)
        result =
            collection_list_failures(read, index->row.index_id, 0, 0, &none, &none_count, &chunk->failed, ret_error);
    collection_failures_free(none, none_count);
    return result;
}

static void note_rate(struct indexer_index *index, size_t texts) {
    uint64_t now_ms = clock_monotonic_ms();
    if (!index->rate_since_ms) index->rate_since_ms = now_ms;
    index->rate_count += texts;
    uint64_t span_ms = now_ms - index->rate_since_ms;
    if (span_ms < 1000) return;
    double rate = (double)index->rate_count * 1000.0 / (double)span_ms;
    index->rate = index->rate > 0 ? (index->rate + rate) / 2 : rate;
    index->rate_since_ms = now_ms;
    index->rate_count = 0;
}

/* Shows it. With that the chunk is done. */
static void show(struct indexer_index *index) {
    struct indexer *indexer = index->collection->indexer;
    struct indexer_chunk *chunk = index->chunk;
    pthread_mutex_lock(&indexer->lock);
    if (chunk->is_torn) {
        if (index->torn_to <= index->applied) index->torn_from = chunk->from;
        index->torn_to = chunk->through;
    }
    index->written = chunk->through;
    index->rows = (uint64_t)((int64_t)index->rows + chunk->rows_more);
    index->failed = chunk->failed;
    index->unsynced_rows += chunk->count;
    if (!index->unsynced_since_ms) index->unsynced_since_ms = clock_monotonic_ms();
    index->left -= chunk->item_count < index->left ? chunk->item_count : index->left;
    index->truncated += chunk->order.truncated;
    index->is_starved = false;
    note_rate(index, chunk->item_count);
    index->collection->indexer->vectors->set_rate(index->writer, index->rate);
    indexer_publish(index);
    indexer_tell_progress(index, false);
    indexer_collection_changed(index->collection);
    pthread_mutex_unlock(&indexer->lock);
    indexer_chunk_free(TAKE(index->chunk));
}

/* ---- following ------------------------------------------------------------------------------------ */

static void starve(struct indexer_index *index) {
    struct indexer *indexer = index->collection->indexer;
    pthread_mutex_lock(&indexer->lock);
    bool is_news = !index->is_starved && !indexer_replicas_any(indexer, index->row.encoder_digest);
    if (is_news) index->is_starved = true;
    if (is_news) indexer_tell_progress(index, true);
    pthread_mutex_unlock(&indexer->lock);
    if (is_news)
        log_write(LOG_WARNING, "an index waits: no replica of its encoder is up", "collection", index->collection->id,
                  "index", index->row.index_id, NULL);
}

static bool has_begun(const struct indexer_chunk *chunk) {
    for (size_t i = 0; i < chunk->item_count; i++)
        if (chunk->items[i].state != EMBED_WAITING) return true;
    return false;
}

/* Others show no more than what of this one is on the disk (X3). */
static bool is_switched_to(struct indexer_index *index) {
    struct indexer_collection *collection = index->collection;
    pthread_mutex_lock(&collection->indexer->lock);
    struct indexer_index *to = collection->switching_to;
    bool is = to && (index == to || index == indexer_partner(to));
    pthread_mutex_unlock(&collection->indexer->lock);
    return is;
}

/* An index that was held back after another boot has reached what it waited for. */
static int compare(struct indexer_index *index, struct error **ret_error) {
    struct error *error = NULL;
    if (!index->compare_due || indexer_is_filling(index)) return 0;
    index->compare_due = false;
    int result = indexer_recover(index, &error);
    if (result >= 0) return 0;
    _cleanup_free_ char *why = error_text(error);
    bool must_go = error->class == ERROR_CONFLICT;
    if (must_go || !ret_error)
        error_free(error);
    else
        *ret_error = error;
    return must_go ? indexer_index_set_aside(index, why, ret_error) : result;
}

int indexer_follow(struct indexer_worker *worker, struct indexer_index *index, uint64_t limit, bool *ret_more,
                   struct error **ret_error) {
    *ret_more = false;
    if (!index->chunk) {
        int result = read_chunk(index, limit, ret_error);
        if (result <= 0) return result;
    }
    enum embed_outcome outcome = indexer_embed(worker, &index->chunk->order);
    if (outcome == EMBED_STARVED) starve(index);
    if (outcome != EMBED_FINISHED) {
        if (!has_begun(index->chunk)) indexer_chunk_free(TAKE(index->chunk)); /* by then more may be superseded (L12) */
        return 0;
    }
    int result = apply_rows(index, ret_error);
    if (result >= 0) result = record_failures(index, ret_error);
    if (result < 0) return error_wrap(ret_error, "bring the index %s forward", index->row.index_id);
    pause_point("index_rows_written");
    show(index);
    pause_point("index_published");
    *ret_more = true;
    result = compare(index, ret_error);
    return result >= 0 && is_switched_to(index) ? indexer_sync(index, ret_error) : result;
}

/* ---- filling → ready --------------------------------------------------------------------------------- */

/* While writes come in all the time it is always a few behind; what it is at the end of a pass is whole. */
static int has_caught_up(struct indexer_index *index, bool *ret_has, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    int result = collection_read_begin(index->collection->store, index->row.set, &read, ret_error);
    if (result < 0) return result;
    uint64_t head = collection_head(read);
    pthread_mutex_lock(&index->collection->indexer->lock);
    indexer_note_head(index->collection, index->row.set, head);
    bool is_whole = index->pass_end && index->written == index->pass_end;
    *ret_has = index->writer && (index->written >= head || (is_whole && head - index->written <= NEAR_ROWS));
    pthread_mutex_unlock(&index->collection->indexer->lock);
    return 0;
}

/* The index of the documents is ready last: whoever sees it so may switch to both. */
int indexer_settle(struct indexer_index *index, struct error **ret_error) {
    struct indexer *indexer = index->collection->indexer;
    pthread_mutex_lock(&indexer->lock);
    struct indexer_index *partner = indexer_partner(index);
    struct indexer_index *documents = index->row.set == COLLECTION_DOCUMENTS ? index : partner;
    struct indexer_index *queries = documents == index ? partner : index;
    bool is_whole = documents && (queries || !documents->row.partner_id); /* else the other is being made */
    bool is_filling = is_whole && indexer_index_in(documents, INDEX_FILLING);
    pthread_mutex_unlock(&indexer->lock);
    if (!is_filling) return 0;
    bool has = false;
    int result = has_caught_up(documents, &has, ret_error);
    if (result >= 0 && has && queries) result = has_caught_up(queries, &has, ret_error);
    if (result < 0 || !has) return result;
    if (queries && (result = indexer_index_set_state(queries, INDEX_READY, NULL, ret_error)) < 0) return result;
    return indexer_index_set_state(documents, INDEX_READY, NULL, ret_error);
}
