#include "vector_bed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "scratch.h"

static void require(bool holds, const char *what, const struct error *error) {
    if (holds) return;
    _cleanup_free_ char *text = error ? error_text(error) : NULL;
    fprintf(stderr, "vector bed: %s: %s\n", what, text ? text : "");
    abort();
}

void vector_bed_begin(struct vector_bed *bed, const struct vector_ops *ops, uint32_t dimension, bool quantized) {
    *bed = (struct vector_bed){.ops = ops,
                               .parent = scratch_new(),
                               .spec = {.index_id = "8a1f0000-0000-4000-8000-000000000001",
                                        .log_id = "8a1f0000-0000-4000-8000-000000000002",
                                        .encoder_digest = "sha256:0123456789abcdef",
                                        .dimension = dimension,
                                        .quantized = quantized}};
    bed->folder = scratch_path(bed->parent, "index");
}

void vector_bed_end(struct vector_bed *bed) {
    scratch_free(bed->parent);
    free(bed->folder);
}

void vector_bed_create(struct vector_bed *bed) {
    struct error *error = NULL;
    require(bed->ops->create(bed->folder, &bed->spec, &error) == 0, "create", error);
}

struct vector_writer *vector_bed_open(struct vector_bed *bed, uint64_t durable, struct vector_state *ret_state) {
    struct vector_writer *writer;
    struct vector_state state;
    struct error *error = NULL;
    int result =
        bed->ops->open_writer(bed->folder, &bed->spec, durable, &writer, ret_state ? ret_state : &state, &error);
    require(result == 0, "open for writing", error);
    return writer;
}

struct vector_reader *vector_bed_read(struct vector_bed *bed) {
    struct vector_reader *reader;
    struct error *error = NULL;
    require(bed->ops->open_reader(bed->folder, &bed->spec, &reader, &error) == 0, "open for reading", error);
    return reader;
}

struct vector_view *vector_bed_look(struct vector_bed *bed, struct vector_reader *reader, uint64_t head) {
    struct vector_view *view;
    struct error *error = NULL;
    require(bed->ops->look(reader, head, &view, &error) == 0, "look", error);
    return view;
}

/* SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators). */
static uint64_t mix(uint64_t *state) {
    uint64_t value = *state += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

void vector_bed_row(uint64_t born, uint32_t dimension, float *ret_row) {
    uint64_t state = born * 1000003;
    for (uint32_t i = 0; i < dimension; i++) ret_row[i] = (float)((double)(mix(&state) >> 11) * 0x1p-52 - 1);
}

void vector_bed_append(struct vector_bed *bed, struct vector_writer *writer, uint64_t from, uint64_t to) {
    _cleanup_free_ float *row = mem_new_array(bed->spec.dimension, float);
    struct error *error = NULL;
    for (uint64_t born = from; born <= to; born++) {
        vector_bed_row(born, bed->spec.dimension, row);
        require(bed->ops->append(writer, born, row, &error) == 0, "append", error);
    }
}

uint64_t vector_bed_sync(struct vector_bed *bed, struct vector_writer *writer) {
    uint64_t durable;
    struct error *error = NULL;
    require(bed->ops->sync(writer, &durable, &error) == 0, "sync", error);
    return durable;
}

/* ---- what must be found ---- */

static long double product(const float *a, const float *b, uint32_t dimension) {
    long double sum = 0;
    for (uint32_t i = 0; i < dimension; i++) sum += (long double)a[i] * b[i];
    return sum;
}

size_t vector_bed_expect(const struct vector_bed *bed, uint64_t last, bool (*sees)(uint64_t born, const void *context),
                         const void *context, const float *query, size_t limit, struct vector_hit *ret_hits) {
    uint32_t dimension = bed->spec.dimension;
    _cleanup_free_ float *row = mem_new_array(dimension, float);
    long double query_length = sqrtl(product(query, query, dimension));
    size_t count = 0;
    for (uint64_t born = 1; born <= last; born++) {
        if (!sees(born, context)) continue;
        vector_bed_row(born, dimension, row);
        long double length = sqrtl(product(row, row, dimension));
        struct vector_hit hit = {born, (float)(product(row, query, dimension) / length / query_length)};
        if (count == limit && ret_hits[count - 1].score >= hit.score) continue;
        size_t at = count < limit ? count++ : count - 1;
        for (; at && ret_hits[at - 1].score < hit.score; at--) ret_hits[at] = ret_hits[at - 1];
        ret_hits[at] = hit;
    }
    return count;
}

bool vector_bed_same_hits(const struct vector_hit *hits, size_t count, const struct vector_hit *expected,
                          size_t expected_count) {
    if (count != expected_count) return false;
    for (size_t i = 0; i < count; i++) {
        if (fabsf(hits[i].score - expected[i].score) > 1e-6f) return false;
        if (hits[i].born == expected[i].born) continue;
        bool is_near = i + 1 == count; /* the last may have an equal that was left out */
        for (size_t j = 0; j < count; j++)
            is_near |= hits[i].born == expected[j].born && fabsf(expected[i].score - expected[j].score) <= 1e-6f;
        if (!is_near) return false;
    }
    return true;
}
