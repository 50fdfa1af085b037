/* Searches with int8 codes give the hits of searches without, bit for bit, also where the codes tell little. And the
 * best of many, in their order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "support/vector_bed.h"
#include "vector/vector-internal.h"

#define DIMENSION 40
#define ROWS 12000

/* Rows of a kind: how a row follows from its number. */
static void random_row(uint64_t born, float *row) {
    vector_bed_row(born, DIMENSION, row);
}

static void one_of_three(uint64_t born, float *row) {
    vector_bed_row(born % 3, DIMENSION, row);
}

/* All within a hair of each other: no bound tells them apart, so that all of them are compared. */
static void nearly_equal(uint64_t born, float *row) {
    float other[DIMENSION];
    vector_bed_row(1, DIMENSION, row);
    vector_bed_row(born, DIMENSION, other);
    for (size_t i = 0; i < DIMENSION; i++) row[i] += 1e-4f * other[i];
}

/* One number outweighs all others, so that their codes are all 0. */
static void lopsided(uint64_t born, float *row) {
    vector_bed_row(born, DIMENSION, row);
    row[born % 2] = 5000;
}

/* Better and better, so that each is among the best when it comes. */
static void ascending(uint64_t born, float *row) {
    float other[DIMENSION];
    vector_bed_row(7, DIMENSION, row);
    vector_bed_row(8, DIMENSION, other);
    for (size_t i = 0; i < DIMENSION; i++) row[i] = row[i] * (float)born + other[i] * (float)(ROWS - born);
}

struct side {
    struct vector_bed bed;
    struct vector_writer *writer;
    struct vector_reader *reader;
    struct vector_view *view;
};

static void begin(struct side *side, bool quantized, void (*make)(uint64_t born, float *row)) {
    vector_bed_begin(&side->bed, &folder_vectors, DIMENSION, quantized);
    vector_bed_create(&side->bed);
    side->writer = vector_bed_open(&side->bed, 0, NULL);
    for (uint64_t born = 1; born <= ROWS; born++) {
        float row[DIMENSION];
        make(born, row);
        assert_int_equal(side->bed.ops->append(side->writer, born, row, NULL), 0);
    }
    for (uint64_t born = 5; born <= ROWS; born += 5) side->bed.ops->kill(side->writer, born, ROWS + 1);
    side->bed.ops->publish(side->writer, ROWS + 1, ROWS + 1);
    side->reader = vector_bed_read(&side->bed);
    side->view = vector_bed_look(&side->bed, side->reader, ROWS + 1);
}

static void end(struct side *side) {
    side->bed.ops->release(side->view);
    side->bed.ops->close_reader(side->reader);
    side->bed.ops->close_writer(side->writer);
    vector_bed_end(&side->bed);
}

static void codes_change_no_hit(void **state) {
    (void)state;
    static void (*const kinds[])(uint64_t, float *) = {random_row, one_of_three, nearly_equal, lopsided, ascending};
    static const size_t limits[] = {1, 10, 100, ROWS};
    static struct vector_hit plain_hits[ROWS], code_hits[ROWS];
    struct vector_pool *pool = vector_pool_new(3);
    for (size_t kind = 0; kind < ARRAY_SIZE(kinds); kind++) {
        struct side plain, coded;
        begin(&plain, false, kinds[kind]);
        begin(&coded, true, kinds[kind]);
        for (uint64_t seed = 1; seed < 12; seed++) {
            float query[DIMENSION];
            kinds[kind](seed * 3, query);
            struct vector_query what = {.vector = query, .limit = limits[seed % ARRAY_SIZE(limits)]};
            what.pool = seed % 2 ? pool : NULL;
            size_t count = plain.bed.ops->search(plain.view, &what, plain_hits);
            assert_int_equal(coded.bed.ops->search(coded.view, &what, code_hits), count);
            assert_true(count == what.limit || count == ROWS - ROWS / 5);
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(plain_hits[i].born, code_hits[i].born);
                assert_memory_equal(&plain_hits[i].score, &code_hits[i].score, sizeof(float));
            }
        }
        end(&plain);
        end(&coded);
    }
    vector_pool_free(pool);
}

static void the_best_come_best_first_and_equals_by_number(void **state) {
    (void)state;
    for (size_t limit = 1; limit < 40; limit++) {
        struct vector_hit hits[40];
        struct vector_best best = {.hits = hits, .limit = limit};
        for (uint64_t i = 0; i < 500; i++) {
            uint64_t born = i * 211 % 500 + 1; /* each once, in no order */
            vector_best_add(&best, born, (float)(born % 10));
        }
        vector_best_sort(&best);
        assert_int_equal(best.count, limit);
        for (size_t i = 0; i < limit; i++) { /* 9 19 29 … */
            assert_true(hits[i].score == 9);
            assert_int_equal(hits[i].born, 9 + 10 * i);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_change_no_hit),
        cmocka_unit_test(the_best_come_best_first_and_equals_by_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
