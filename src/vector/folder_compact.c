/* Compaction (L8): segments of which much is dead are written anew without it, and neighbours that have become small
 * are put together. One run of neighbours a call.
 *
 * A row may go when it died at or below what is synced, so that no recovery brings it back, and at or below `applied`,
 * so that nobody who looks from now on can be shown it. Who looked before has the old segments mapped. Who looks now,
 * but with an older read of the log, is told by `dropped_through`, which is raised before the new generation is
 * published. Marks that are set later land in the new segments only; they are above whatever the old mapping is looked
 * at with.
 */
#include <string.h>

#include "base/memory.h"
#include "vector/vector-internal.h"

#define DEAD_SHARE 4 /* a quarter of the rows */
#define SEGMENT_BYTES (UINT64_C(64) << 20) /* of a new one, at most */
#define SMALL_BYTES (SEGMENT_BYTES / 4) /* what goes along with a neighbour */

/* Segments [from, to) of the manifest. */
struct run {
    size_t from, to;
    uint64_t kept; /* rows */
    uint64_t dropped_through;
};

static uint64_t count_dropped(const struct vector_segment *segment, uint64_t limit, uint64_t *dropped_through) {
    uint64_t dropped = 0;
    if (segment->living == segment->rows) return 0;
    for (uint64_t row = 0; row < segment->rows; row++) {
        uint64_t dead = vector_segment_dead(segment, row);
        if (dead > limit) continue;
        dropped++;
        if (*dropped_through < dead) *dropped_through = dead;
    }
    return dropped;
}

/* Takes a sealed segment into the run: the first one must have enough dead rows, its neighbours that or be small. */
static bool extend(const struct vector_writer *writer, struct run *run, uint64_t limit, uint64_t capacity) {
    if (run->to >= writer->manifest.count || !writer->manifest.segments[run->to].sealed) return false;
    const struct vector_segment *segment = writer->segments[run->to];
    uint64_t dropped_through = run->dropped_through, dropped = count_dropped(segment, limit, &dropped_through);
    uint64_t kept = segment->rows - dropped;
    bool is_due = dropped * DEAD_SHARE >= segment->rows;
    bool goes_along = run->kept && segment->layout.size <= SMALL_BYTES && dropped;
    if (!is_due && !goes_along) return false;
    if (run->to > run->from && run->kept + kept > capacity) return false;
    run->kept += kept;
    run->dropped_through = dropped_through;
    run->to++;
    return true;
}

/* The first run from `from` on; an empty one when there is nothing to do. */
static struct run find_run(const struct vector_writer *writer, size_t from, uint64_t limit) {
    uint64_t capacity = vector_layout_rows(writer->manifest.dimension, writer->manifest.quantized, SEGMENT_BYTES);
    struct run run = {.from = from, .to = from};
    for (; run.from < writer->manifest.count; run.from = ++run.to) {
        while (extend(writer, &run, limit, capacity)) continue;
        if (run.to > run.from) break;
    }
    return run;
}

/* The list with the run replaced by one segment, or by nothing. */
static void list_without(const struct vector_writer *writer, const struct run *run,
                         struct vector_manifest *ret_manifest, struct vector_segment ***ret_segments) {
    struct vector_manifest manifest;
    size_t added = run->kept > 0, behind = writer->manifest.count - run->to;
    vector_manifest_copy(&writer->manifest, &manifest);
    manifest.count = run->from + added + behind;
    manifest.dropped_through =
        manifest.dropped_through < run->dropped_through ? run->dropped_through : manifest.dropped_through;
    struct vector_segment **segments = mem_new_array(manifest.count + 1, struct vector_segment *);
    memcpy(segments, writer->segments, run->from * sizeof *segments);
    memcpy(segments + run->from + added, writer->segments + run->to, behind * sizeof *segments);
    memcpy(manifest.segments + run->from + added, writer->manifest.segments + run->to,
           behind * sizeof *manifest.segments);
    if (added)
        manifest.segments[run->from] =
            (struct vector_segment_facts){.number = manifest.next_number++, .capacity = run->kept};
    *ret_manifest = manifest;
    *ret_segments = segments;
}

static void copy_rows(const struct vector_writer *writer, const struct run *run, uint64_t limit,
                      struct vector_segment *segment, struct vector_segment_facts *facts) {
    for (size_t i = run->from; i < run->to; i++) {
        const struct vector_segment *from = writer->segments[i];
        for (uint64_t row = 0; row < from->rows; row++)
            if (vector_segment_dead(from, row) > limit) vector_segment_append_copy(segment, from, row);
    }
    facts->sealed = true;
    facts->rows = segment->rows;
    facts->first = vector_segment_born(segment, 0);
    facts->last = vector_segment_born(segment, segment->rows - 1);
    facts->checksum = segment->checksum;
}

/* Makes the run's new segment, synced. */
static int write_segment(struct vector_writer *writer, const struct run *run, uint64_t limit,
                         const struct vector_manifest *manifest, struct vector_segment_facts *facts,
                         struct vector_segment **ret_segment, struct error **ret_error) {
    struct vector_segment *segment = NULL;
    int result = vector_segment_create(writer->folder, manifest, facts->number, facts->capacity, ret_error);
    if (result < 0) return result;
    result = vector_segment_map(writer->folder, manifest, facts, true, &segment, ret_error);
    if (!result) {
        copy_rows(writer, run, limit, segment, facts);
        result = vector_segment_sync(segment, writer->folder, ret_error);
    }
    if (result < 0) {
        vector_segment_release(segment);
        vector_segment_unlink(writer->folder, facts->number);
        return result;
    }
    *ret_segment = segment;
    return 0;
}

static void raise_dropped(struct vector_writer *writer, uint64_t through) {
    vector_word *word = &writer->header->words[HEADER_DROPPED_THROUGH];
    if (vector_load(word) < through) vector_store(word, through);
}

static int rewrite(struct vector_writer *writer, const struct run *run, uint64_t limit, struct error **ret_error) {
    struct vector_manifest manifest;
    struct vector_segment **segments, *added = NULL;
    list_without(writer, run, &manifest, &segments);
    uint64_t number = run->kept ? manifest.segments[run->from].number : 0;
    int result = 0;
    if (run->kept) {
        result = write_segment(writer, run, limit, &manifest, &manifest.segments[run->from], &added, ret_error);
        segments[run->from] = added;
    }
    if (result < 0) {
        vector_manifest_clear(&manifest);
        free(segments);
        return result;
    }
    size_t gone = run->to - run->from;
    struct vector_segment **old = mem_copy(writer->segments + run->from, gone * sizeof *old);
    raise_dropped(writer, manifest.dropped_through);
    result = vector_writer_publish(writer, &manifest, segments, ret_error);
    if (!result) {
        for (size_t i = 0; i < gone; i++) {
            vector_segment_unlink(writer->folder, old[i]->number);
            vector_segment_release(old[i]);
        }
    } else {
        vector_segment_release(added);
        free(segments);
        if (number && !writer->is_broken) vector_segment_unlink(writer->folder, number);
    }
    free(old);
    return result;
}

int folder_compact(struct vector_writer *writer, uint64_t durable, bool *ret_more, struct error **ret_error) {
    int result = vector_writer_check(writer, ret_error);
    if (result < 0) return result;
    uint64_t applied = vector_load(&writer->header->words[HEADER_APPLIED]), limit = durable;
    if (limit > applied) limit = applied;
    if (limit > writer->record.durable) limit = writer->record.durable;
    struct run run = find_run(writer, 0, limit);
    if (run.to > run.from) result = rewrite(writer, &run, limit, ret_error);
    if (result < 0) return result;
    size_t next = run.from + (run.kept > 0);
    run = find_run(writer, next < writer->manifest.count ? next : writer->manifest.count, limit);
    *ret_more = run.to > run.from;
    return 0;
}
