/* What tests of vector indexes share: an index in a scratch folder, rows that follow from their numbers, and what a
 * search must find, worked out in long doubles. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vector/vector.h"

#define VECTOR_BED_DIMENSION 24

struct vector_bed {
    const struct vector_ops *ops;
    char *folder; /* of the index, in a scratch folder */
    char *parent;
    struct vector_spec spec;
};

/* Makes the folder around, not the index. */
void vector_bed_begin(struct vector_bed *bed, const struct vector_ops *ops, uint32_t dimension, bool quantized);
void vector_bed_end(struct vector_bed *bed);
/* Each ends the test program when it fails. */
void vector_bed_create(struct vector_bed *bed);
struct vector_writer *vector_bed_open(struct vector_bed *bed, uint64_t durable, struct vector_state *ret_state);
struct vector_reader *vector_bed_read(struct vector_bed *bed);
struct vector_view *vector_bed_look(struct vector_bed *bed, struct vector_reader *reader, uint64_t head);
/* The row that a number stands for: pseudo-random, not normalised. */
void vector_bed_row(uint64_t born, uint32_t dimension, float *ret_row);
/* Appends rows [from, to], each with its own number. */
void vector_bed_append(struct vector_bed *bed, struct vector_writer *writer, uint64_t from, uint64_t to);
uint64_t vector_bed_sync(struct vector_bed *bed, struct vector_writer *writer);

/* The best `limit` of the rows of vector_bed_row() for which sees() is true, out of the numbers 1 to `last`. */
size_t vector_bed_expect(const struct vector_bed *bed, uint64_t last, bool (*sees)(uint64_t born, const void *context),
                         const void *context, const float *query, size_t limit, struct vector_hit *ret_hits);
/* Whether two lists of hits are one list, but for the order of rows whose scores are within 1e-6 of each other. */
bool vector_bed_same_hits(const struct vector_hit *hits, size_t count, const struct vector_hit *expected,
                          size_t expected_count);
