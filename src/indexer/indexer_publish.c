/* How much of an index is shown, and how much of it is on the disk.
 *
 * Shown is what is written, but for fences (X3): while a switch is under way, the blue index shows no more than what is
 * durable of the one that will follow it; from the flip until every gateway has left it, the former one shows no more
 * than the new one does. What a fence holds back is shown when it moves, by whoever moves it. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define PROGRESS_MS 1000

/* ---- showing --------------------------------------------------------------------------- */

static uint64_t fence_of(const struct indexer_index *index) {
    switch (index->fence) {
    case INDEXER_FENCE_DURABLE: return index->fenced_by->durable;
    case INDEXER_FENCE_APPLIED: return index->fenced_by->applied;
    case INDEXER_NO_FENCE: break;
    }
    return UINT64_MAX;
}

/* Not in the middle of what is only whole at its end. */
static uint64_t showable(const struct indexer_index *index) {
    uint64_t fence = fence_of(index), seq = index->written < fence ? index->written : fence;
    if (seq > index->torn_from && seq < index->torn_to) seq = index->torn_from;
    return seq < index->applied ? index->applied : seq;
}

/* Those that are fenced by it. A busy one is shown when it is released. */
static void publish_fenced(struct indexer_index *by) {
    for (struct indexer_index *index = by->collection->indexes; index; index = index->next)
        if (index->fence != INDEXER_NO_FENCE && index->fenced_by == by && !index->is_busy) indexer_publish(index);
}

void indexer_publish(struct indexer_index *index) {
    if (!index->writer) return;
    uint64_t before = index->applied;
    index->applied = showable(index);
    index->collection->indexer->vectors->publish(index->writer, index->written, index->applied);
    /* Two that fence each other (a switch back that is begun before every gateway has left the former) end here. */
    if (index->applied > before) publish_fenced(index);
    indexer_tell_indexed(index->collection, false);
}

void indexer_fence(struct indexer_index *index, enum indexer_fence kind, struct indexer_index *by) {
    if (!index) return;
    index->fence = by ? kind : INDEXER_NO_FENCE;
    index->fenced_by = by;
    if (!index->is_busy) indexer_publish(index);
}

/* ---- keeping ----------------------------------------------------------------------------- */

static void note_durable(struct indexer_index *index, uint64_t durable, uint64_t rows_before) {
    struct indexer *indexer = index->collection->indexer;
    pthread_mutex_lock(&indexer->lock);
    if (durable > index->durable) {
        index->durable = durable;
        index->collection->compact_due[index->row.set] = true;
        index->compact_due = true;
    }
    index->unsynced_rows -= rows_before < index->unsynced_rows ? rows_before : index->unsynced_rows;
    index->unsynced_since_ms = index->unsynced_rows ? clock_monotonic_ms() : 0;
    publish_fenced(index);
    indexer_collection_changed(index->collection);
    pthread_mutex_unlock(&indexer->lock);
}

/* S1: what a failed sync leaves on the disk nobody knows. The file is not tried again; the index is built anew. */
static int give_up_file(struct indexer_index *index, const struct error *error, struct error **ret_error) {
    _cleanup_free_ char *why = error_text(error);
    return indexer_index_set_aside(index, why, ret_error);
}

int indexer_sync(struct indexer_index *index, struct error **ret_error) {
    _cleanup_error_ struct error *error = NULL;
    uint64_t durable = 0, rows = index->unsynced_rows;
    if (!index->writer) return 0;
    if (index->collection->indexer->vectors->sync(index->writer, &durable, &error) < 0) {
        if (!error->transient) return give_up_file(index, error, ret_error);
        if (ret_error) *ret_error = TAKE(error);
        return -(int)ERROR_UNAVAILABLE;
    }
    int result = collection_record_durable(index->collection->store, index->row.index_id, durable, ret_error);
    if (result < 0) return error_wrap(ret_error, "record what is durable of the index %s", index->row.index_id);
    note_durable(index, durable, rows);
    return 0;
}

/* ---- telling ------------------------------------------------------------------------------- */

/* L11: what every index shows that some gateway may still use. */
void indexer_tell_indexed(struct indexer_collection *collection, bool again) {
    if (!collection->blue) return;
    uint64_t seq = collection->blue->applied;
    if (collection->former && collection->former->applied < seq) seq = collection->former->applied;
    if (seq <= collection->told_indexed && !again) return;
    if (seq > collection->told_indexed) collection->told_indexed = seq;
    indexer_tell(collection->indexer, log_indexed, .collection_id = collection->id, .seq = seq);
}

void indexer_tell_progress(struct indexer_index *index, bool now) {
    uint64_t now_ms = clock_monotonic_ms();
    if (!now && now_ms - index->told_ms < PROGRESS_MS) return;
    index->told_ms = now_ms;
    indexer_tell(index->collection->indexer, index_progress, .collection_id = index->collection->id,
                 .index_id = index->row.index_id, .state = indexer_state_name(index->state),
                 .done = index->rows + index->failed, .total = index->rows + index->failed + index->left,
                 .failed = index->failed, .rate_milli = index->is_starved ? 0 : (uint64_t)(index->rate * 1000.0));
}
