/* Segments: where rows lie in memory, and how one is found. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "vector/vector-internal.h"

#define PAGE 4096
#define ROWS_MINIMUM 16

/* ---- layout ---- */

static uint64_t round_up(uint64_t number, uint64_t unit) {
    return (number + unit - 1) / unit * unit;
}

void vector_layout_of(uint32_t dimension, bool quantized, uint64_t capacity, struct vector_layout *ret_layout) {
    struct vector_layout layout = {.stride = round_up(dimension, 16),
                                   .code_stride = quantized ? round_up(dimension, 64) : 0};
    layout.born_at = round_up(capacity * layout.stride * sizeof(float), PAGE);
    layout.checksums_at = layout.born_at + round_up(capacity * sizeof(uint64_t), PAGE);
    layout.codes_at = layout.checksums_at + round_up(capacity * sizeof(uint32_t), PAGE);
    layout.scales_at = layout.codes_at + round_up(capacity * layout.code_stride, PAGE);
    layout.size = layout.scales_at + (quantized ? round_up(capacity * sizeof(struct vector_code_scale), PAGE) : 0);
    *ret_layout = layout;
}

uint64_t vector_layout_rows(uint32_t dimension, bool quantized, uint64_t bytes) {
    uint64_t row = round_up(dimension, 16) * sizeof(float) + sizeof(uint64_t) + sizeof(uint32_t);
    if (quantized) row += round_up(dimension, 64) + sizeof(struct vector_code_scale);
    return bytes / row < ROWS_MINIMUM ? ROWS_MINIMUM : bytes / row;
}

/* ---- files ---- */

static char *path_of(const char *folder, uint64_t number, const char *kind) {
    return text_format("%s/%llu.%s", folder, (unsigned long long)number, kind);
}

int vector_segment_create(const char *folder, const struct vector_manifest *manifest, uint64_t number,
                          uint64_t capacity, struct error **ret_error) {
    struct vector_layout layout;
    vector_layout_of(manifest->dimension, manifest->quantized, capacity, &layout);
    _cleanup_free_ char *rows = path_of(folder, number, "rows"), *marks = path_of(folder, number, "marks");
    int result = vector_file_allocate(rows, layout.size, ret_error);
    if (result < 0) return result;
    result = vector_file_allocate(marks, capacity * sizeof(uint64_t), ret_error);
    if (result < 0) unlink(rows);
    return result;
}

void vector_segment_unlink(const char *folder, uint64_t number) {
    _cleanup_free_ char *rows = path_of(folder, number, "rows"), *marks = path_of(folder, number, "marks");
    unlink(rows);
    unlink(marks);
}

int vector_segment_map(const char *folder, const struct vector_manifest *manifest,
                       const struct vector_segment_facts *facts, bool writable, struct vector_segment **ret_segment,
                       struct error **ret_error) {
    _cleanup_free_ char *rows = path_of(folder, facts->number, "rows");
    _cleanup_free_ char *marks = path_of(folder, facts->number, "marks");
    struct vector_segment *segment = mem_new(struct vector_segment);
    *segment = (struct vector_segment){.references = 1, .number = facts->number, .capacity = facts->capacity};
    vector_layout_of(manifest->dimension, manifest->quantized, facts->capacity, &segment->layout);
    int result = vector_file_map(rows, segment->layout.size, writable, &segment->memory, NULL, ret_error);
    if (!result)
        result = vector_file_map(marks, facts->capacity * sizeof(uint64_t), writable, &segment->marks_memory, NULL,
                                 ret_error);
    if (result < 0) {
        vector_segment_release(segment);
        return result;
    }
    char *memory = segment->memory;
    /* What is not in the kernel's cache yet comes in large pages, which a search goes over a tenth faster. Not where
     * rows are still put in: there a sync would write a large page for each small one that changed. */
    if (facts->sealed) madvise(memory, segment->layout.size, MADV_HUGEPAGE);
    segment->vectors = (float *)memory;
    segment->born = (_Atomic uint64_t *)(memory + segment->layout.born_at);
    segment->checksums = (uint32_t *)(memory + segment->layout.checksums_at);
    segment->codes = (int8_t *)(memory + segment->layout.codes_at);
    segment->scales = (struct vector_code_scale *)(memory + segment->layout.scales_at);
    segment->marks = segment->marks_memory;
    *ret_segment = segment;
    return 0;
}

struct vector_segment *vector_segment_reference(struct vector_segment *segment) {
    atomic_fetch_add(&segment->references, 1);
    return segment;
}

void vector_segment_release(struct vector_segment *segment) {
    if (!segment || atomic_fetch_sub(&segment->references, 1) > 1) return;
    if (segment->memory) munmap(segment->memory, segment->layout.size);
    if (segment->marks_memory) munmap(segment->marks_memory, segment->capacity * sizeof(uint64_t));
    free(segment);
}

uint64_t vector_segment_bytes(const struct vector_segment *segment) {
    return segment->layout.size + round_up(segment->capacity * sizeof(uint64_t), PAGE);
}

int vector_segment_sync(struct vector_segment *segment, const char *folder, struct error **ret_error) {
    char name[40];
    int result = 0;
    snprintf(name, sizeof name, "%llu.rows", (unsigned long long)segment->number);
    if (segment->rows_dirty) result = vector_file_sync(segment->memory, segment->layout.size, folder, name, ret_error);
    if (!result) segment->rows_dirty = false;
    snprintf(name, sizeof name, "%llu.marks", (unsigned long long)segment->number);
    if (!result && segment->marks_dirty)
        result = vector_file_sync(segment->marks_memory, segment->capacity * sizeof(uint64_t), folder, name, ret_error);
    if (!result) segment->marks_dirty = false;
    return result;
}

/* ---- rows ---- */

/* Rows that are there stand in front, ascending, so the first that is not there, or is too new, can be halved for. What
 * the writer puts behind meanwhile is above every seq that anybody may look at. */
uint64_t vector_segment_count(const struct vector_segment *segment, uint64_t rows, uint64_t seq) {
    uint64_t low = 0, high = rows;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2, born = vector_segment_born(segment, middle);
        if (born && born <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t vector_segment_find(const struct vector_segment *segment, uint64_t rows, uint64_t born) {
    uint64_t count = vector_segment_count(segment, rows, born);
    return count && vector_segment_born(segment, count - 1) == born ? count - 1 : UINT64_MAX;
}

uint32_t vector_segment_row_checksum(const struct vector_segment *segment, uint64_t row) {
    const struct vector_layout *layout = &segment->layout;
    uint64_t born = vector_segment_born(segment, row);
    uint32_t checksum = vector_checksum(0, vector_segment_vector(segment, row), layout->stride * sizeof(float));
    checksum = vector_checksum(checksum, &born, sizeof born);
    if (!layout->code_stride) return checksum;
    checksum = vector_checksum(checksum, segment->codes + row * layout->code_stride, layout->code_stride);
    return vector_checksum(checksum, &segment->scales[row], sizeof *segment->scales);
}

/* Counts the row that was put behind the last. Its number comes last: a row that has one is whole. */
static void finish_row(struct vector_segment *segment, uint64_t born, uint32_t checksum) {
    uint64_t row = segment->rows;
    segment->checksums[row] = checksum;
    segment->checksum = vector_checksum(segment->checksum, &checksum, sizeof checksum);
    if (vector_segment_dead(segment, row) == VECTOR_NUMBER_MAXIMUM) segment->living++;
    atomic_store_explicit(&segment->born[row], born, memory_order_release);
    segment->rows++;
    segment->rows_dirty = segment->marks_dirty = true;
}

void vector_segment_append(struct vector_segment *segment, uint64_t born, const float *vector) {
    const struct vector_layout *layout = &segment->layout;
    uint64_t row = segment->rows;
    assert(row < segment->capacity);
    float *place = segment->vectors + row * layout->stride;
    memcpy(place, vector, layout->stride * sizeof *vector);
    uint32_t checksum = vector_checksum(0, place, layout->stride * sizeof *vector);
    checksum = vector_checksum(checksum, &born, sizeof born);
    if (layout->code_stride) {
        int8_t *code = segment->codes + row * layout->code_stride;
        vector_quantise(vector, layout->stride, code, layout->code_stride, &segment->scales[row]);
        checksum = vector_checksum(checksum, code, layout->code_stride);
        checksum = vector_checksum(checksum, &segment->scales[row], sizeof *segment->scales);
    }
    vector_store(&segment->marks[row], VECTOR_NUMBER_MAXIMUM);
    finish_row(segment, born, checksum);
}

void vector_segment_append_copy(struct vector_segment *segment, const struct vector_segment *from, uint64_t row) {
    const struct vector_layout *layout = &segment->layout;
    uint64_t place = segment->rows;
    assert(place < segment->capacity);
    memcpy(segment->vectors + place * layout->stride, vector_segment_vector(from, row), layout->stride * sizeof(float));
    if (layout->code_stride) {
        memcpy(segment->codes + place * layout->code_stride, from->codes + row * layout->code_stride,
               layout->code_stride);
        segment->scales[place] = from->scales[row];
    }
    vector_store(&segment->marks[place], vector_segment_dead(from, row));
    finish_row(segment, vector_segment_born(from, row), from->checksums[row]);
}
