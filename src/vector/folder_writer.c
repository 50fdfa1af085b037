/* The writer's side: rows, marks, and the numbers that say how far the index is.
 *
 * In what order things become visible (L4). A row's vector, mark and checksum are stored before its number, and its
 * number before `applied`; a segment is in a published manifest before a row lands in it. A reader loads `applied`,
 * then the generation: all rows up to what it loaded are in the segments that it then has.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "vector/vector-internal.h"

int vector_writer_check(struct vector_writer *writer, struct error **ret_error) {
    if (!writer->is_broken) return 0;
    return error_set(
        ret_error, ERROR_DEPLOYMENT,
        "write the vector index %s: an earlier sync of it failed, so that nobody knows what is on the disk; "
        "it has to be built again",
        writer->folder);
}

/* S1: also for the writer after this one: pages that failed to be written count as clean, and another sync of them
 * would pass. */
static void break_writer(struct vector_writer *writer) {
    writer->is_broken = true;
    vector_store(&writer->header->words[HEADER_BROKEN], 1);
}

/* ---- opening and closing -------------------------------------------------------------------------------------------
 */

void folder_close_writer(struct vector_writer *writer) {
    if (!writer) return;
    for (size_t i = 0; i < writer->manifest.count && writer->segments; i++) vector_segment_release(writer->segments[i]);
    free(writer->segments);
    vector_manifest_clear(&writer->manifest);
    vector_header_map_release(writer->map);
    mem_close_descriptor(&writer->lock);
    free(writer->row);
    free(writer->folder);
    free(writer);
}

/* One writer at a time: the lock goes with the process. */
static int lock_header(struct vector_writer *writer, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(writer->folder, "header");
    writer->lock = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (writer->lock < 0 && errno == ENOENT) return error_set(ret_error, ERROR_CONFLICT, "%s is not there", path);
    if (writer->lock < 0) return vector_file_error(ret_error, errno, "open %s", path);
    if (flock(writer->lock, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK) return vector_file_error(ret_error, errno, "lock %s", path);
    error_set(ret_error, ERROR_UNAVAILABLE, "lock %s: another process writes this index", path);
    if (ret_error) error_mark_transient(ret_error);
    return -(int)ERROR_UNAVAILABLE;
}

static int map_segments(struct vector_writer *writer, struct error **ret_error) {
    const struct vector_manifest *manifest = &writer->manifest;
    writer->segments = mem_new_array(manifest->count, struct vector_segment *);
    for (size_t i = 0; i < manifest->count; i++) {
        int result =
            vector_segment_map(writer->folder, manifest, &manifest->segments[i], true, &writer->segments[i], ret_error);
        if (result < 0) return result;
    }
    return 0;
}

static int load(struct vector_writer *writer, const struct vector_spec *spec, struct error **ret_error) {
    int result = lock_header(writer, ret_error);
    if (!result) result = vector_header_map(writer->folder, true, &writer->map, ret_error);
    if (result < 0) return result;
    writer->header = writer->map->header;
    const char *fault = vector_header_check(writer->header, &writer->record);
    if (fault) return error_set(ret_error, ERROR_CONFLICT, "%s/header is damaged: %s", writer->folder, fault);
    result = vector_manifest_load(writer->folder, spec, &writer->manifest, ret_error);
    return result < 0 ? result : map_segments(writer, ret_error);
}

int folder_open_writer(const char *folder, const struct vector_spec *spec, uint64_t durable,
                       struct vector_writer **ret_writer, struct vector_state *ret_state, struct error **ret_error) {
    struct vector_writer *writer = mem_new(struct vector_writer);
    struct error *error = NULL;
    *writer = (struct vector_writer){.folder = text_copy(folder), .lock = -1};
    int result = vector_file_check_place(folder, &error);
    if (result < 0 && !fs_exists(folder)) {
        error_free(error);
        result = error_set(&error, ERROR_CONFLICT, "it is not there");
    }
    if (!result) result = load(writer, spec, &error);
    if (!result) result = vector_writer_recover(writer, durable, ret_state, &error);
    if (result < 0) {
        folder_close_writer(writer);
        error_wrap(&error, "open the vector index %s", folder);
        if (ret_error)
            *ret_error = error;
        else
            error_free(error);
        return result;
    }
    struct vector_layout layout;
    vector_layout_of(spec->dimension, spec->quantized, 1, &layout);
    writer->row = mem_alloc(layout.stride * sizeof(float));
    *ret_writer = writer;
    return 0;
}

/* ---- publishing segments --------------------------------------------------------------------------------------------
 */

int vector_writer_publish(struct vector_writer *writer, struct vector_manifest *manifest,
                          struct vector_segment **segments, struct error **ret_error) {
    size_t size;
    bool in_doubt = false;
    manifest->generation = writer->manifest.generation + 1;
    _cleanup_free_ char *text = vector_manifest_write(manifest, &size);
    int result = manifest->count > VECTOR_SEGMENTS_MAXIMUM || size > VECTOR_MANIFEST_MAXIMUM
                     ? error_set(ret_error, ERROR_DEPLOYMENT, "it has more segments than an index may have")
                     : vector_file_replace(writer->folder, "manifest", text, size, &in_doubt, ret_error);
    if (result < 0) {
        vector_manifest_clear(manifest);
        if (in_doubt) break_writer(writer);
        return result;
    }
    vector_manifest_clear(&writer->manifest);
    free(writer->segments);
    writer->manifest = *manifest;
    writer->segments = segments;
    vector_store(&writer->header->words[HEADER_GENERATION], manifest->generation);
    return 0;
}

/* How large the next segment is: small collections stay small, and large ones have few. */
static uint64_t next_capacity(const struct vector_writer *writer) {
    static const uint64_t steps[] = {1 << 20, 4 << 20, 16 << 20, 64 << 20};
    uint64_t bytes = 0;
    size_t step = 0;
    for (size_t i = 0; i < writer->manifest.count; i++) bytes += writer->segments[i]->layout.size;
    for (uint64_t sum = steps[0] / 2; step + 1 < ARRAY_SIZE(steps) && bytes > sum; step++) sum += steps[step];
    return vector_layout_rows(writer->manifest.dimension, writer->manifest.quantized, steps[step]);
}

static void seal(struct vector_segment_facts *facts, const struct vector_segment *segment) {
    facts->sealed = true;
    facts->rows = segment->rows;
    facts->first = vector_segment_born(segment, 0);
    facts->last = vector_segment_born(segment, segment->rows - 1);
    facts->checksum = segment->checksum;
}

/* The list with the tail sealed and one more behind it. */
static void list_with_tail(const struct vector_writer *writer, uint64_t capacity,
                           struct vector_manifest *ret_manifest) {
    struct vector_manifest manifest;
    vector_manifest_copy(&writer->manifest, &manifest);
    manifest.segments = mem_resize(manifest.segments, manifest.count + 1, sizeof *manifest.segments);
    if (manifest.count) seal(&manifest.segments[manifest.count - 1], writer->segments[manifest.count - 1]);
    manifest.segments[manifest.count++] =
        (struct vector_segment_facts){.number = manifest.next_number++, .capacity = capacity};
    *ret_manifest = manifest;
}

/* Seals the tail, if there is one, and begins another. UNAVAILABLE: the disk is full, and nothing changed. */
static int begin_tail(struct vector_writer *writer, struct error **ret_error) {
    struct vector_manifest manifest;
    list_with_tail(writer, next_capacity(writer), &manifest);
    size_t last = manifest.count - 1;
    struct vector_segment_facts tail = manifest.segments[last];
    struct vector_segment **segments = mem_new_array(manifest.count, struct vector_segment *);
    memcpy(segments, writer->segments, last * sizeof *segments);
    int result = vector_segment_create(writer->folder, &manifest, tail.number, tail.capacity, ret_error);
    if (result < 0) {
        vector_manifest_clear(&manifest);
        free(segments);
        return result;
    }
    result = vector_segment_map(writer->folder, &manifest, &tail, true, &segments[last], ret_error);
    if (result < 0)
        vector_manifest_clear(&manifest);
    else
        result = vector_writer_publish(writer, &manifest, segments, ret_error);
    if (!result) return 0;
    vector_segment_release(segments[last]);
    free(segments);
    if (!writer->is_broken) vector_segment_unlink(writer->folder, tail.number);
    return result;
}

/* ---- rows and marks
 * -------------------------------------------------------------------------------------------------- */

static struct vector_segment *tail_of(const struct vector_writer *writer) {
    size_t count = writer->manifest.count;
    return count && !writer->manifest.segments[count - 1].sealed ? writer->segments[count - 1] : NULL;
}

int folder_append(struct vector_writer *writer, uint64_t born, const float *vector, struct error **ret_error) {
    assert(born > writer->last_born && born < VECTOR_NUMBER_MAXIMUM);
    assert(born > vector_load(&writer->header->words[HEADER_WRITTEN]));
    struct vector_layout layout;
    vector_layout_of(writer->manifest.dimension, false, 1, &layout);
    int result = vector_writer_check(writer, ret_error);
    if (result < 0) return result;
    if (!vector_normalise(vector, writer->manifest.dimension, writer->row, layout.stride))
        return error_set(ret_error, ERROR_REQUEST,
                         "a vector that has no direction: its numbers are all 0, or not all of them are finite");
    const struct vector_segment *tail = tail_of(writer);
    if (!tail || tail->rows == tail->capacity) result = begin_tail(writer, ret_error);
    if (result < 0) return result;
    vector_segment_append(tail_of(writer), born, writer->row);
    writer->last_born = born;
    return 0;
}

bool folder_kill(struct vector_writer *writer, uint64_t born, uint64_t dead) {
    assert(dead > born && dead < VECTOR_NUMBER_MAXIMUM);
    if (writer->is_broken) return false;
    size_t low = 0, high = writer->manifest.count; /* the last segment that does not begin above it */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (vector_segment_born(writer->segments[middle], 0) <= born && writer->segments[middle]->rows)
            low = middle;
        else
            high = middle;
    }
    if (low == high) return false;
    struct vector_segment *segment = writer->segments[low];
    uint64_t row = vector_segment_find(segment, segment->rows, born);
    if (row == UINT64_MAX || vector_segment_dead(segment, row) != VECTOR_NUMBER_MAXIMUM) return false;
    vector_store(&segment->marks[row], dead);
    segment->marks_dirty = true;
    segment->living--;
    return true;
}

/* ---- how far it is
 * ----------------------------------------------------------------------------------------------------- */

static void raise(vector_word *word, uint64_t number) {
    if (number > vector_load(word)) vector_store(word, number);
}

void folder_publish(struct vector_writer *writer, uint64_t written, uint64_t applied) {
    assert(applied <= written && written < VECTOR_NUMBER_MAXIMUM);
    if (writer->is_broken) return;
    vector_word *words = writer->header->words;
    uint64_t living = 0;
    for (size_t i = 0; i < writer->manifest.count; i++) living += writer->segments[i]->living;
    vector_store(&words[HEADER_ROWS], living);
    raise(&words[HEADER_WRITTEN], written);
    raise(&words[HEADER_APPLIED], applied);
    if (vector_load(&words[HEADER_ANSWERS_FROM]) == VECTOR_NUMBER_MAXIMUM) vector_store(&words[HEADER_ANSWERS_FROM], 0);
}

void folder_hold(struct vector_writer *writer, uint64_t answers_from) {
    vector_store(&writer->header->words[HEADER_ANSWERS_FROM], answers_from);
}

void folder_set_rate(struct vector_writer *writer, double rows_per_second) {
    float rate = (float)rows_per_second;
    uint32_t bits;
    memcpy(&bits, &rate, sizeof bits);
    vector_store(&writer->header->words[HEADER_RATE], bits);
}

/* ---- to the disk
 * --------------------------------------------------------------------------------------------------------- */

void vector_writer_record(struct vector_writer *writer, uint64_t durable) {
    const struct vector_segment *tail = tail_of(writer);
    struct vector_sync_record record = {.count = writer->record.count, .durable = durable};
    if (tail && writer->last_born <= durable) { /* else some of its rows are not covered */
        record.tail = tail->number;
        record.tail_rows = tail->rows;
        record.tail_checksum = tail->checksum;
    }
    vector_header_record(writer->header, &record);
    writer->record = record;
}

static int sync_everything(struct vector_writer *writer, uint64_t durable, struct error **ret_error) {
    for (size_t i = 0; i < writer->manifest.count; i++) {
        int result = vector_segment_sync(writer->segments[i], writer->folder, ret_error);
        if (result < 0) return result;
    }
    vector_writer_record(writer, durable);
    return vector_file_sync(writer->header, VECTOR_HEADER_SIZE, writer->folder, "header", ret_error);
}

int folder_sync(struct vector_writer *writer, uint64_t *ret_durable, struct error **ret_error) {
    int result = vector_writer_check(writer, ret_error);
    if (result < 0) return result;
    uint64_t durable = vector_load(&writer->header->words[HEADER_WRITTEN]);
    result = sync_everything(writer, durable, ret_error);
    if (result < 0)
        break_writer(writer);
    else
        *ret_durable = durable;
    return result;
}
