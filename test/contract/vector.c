/* The contract of vector/vector.h, over every back-end, with and without int8 codes. Rules L4 to L8. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "support/scratch.h"
#include "support/vector_bed.h"
#include "vector/vector.h"

static const struct variant {
    const char *name;
    const struct vector_ops *ops;
    bool quantized;
} variants[] = {{"folder, float32", &folder_vectors, false}, {"folder, int8 codes", &folder_vectors, true}};

static const struct variant *variant; /* that the tests run over now */

static int set_up(void **state) {
    struct vector_bed *bed = mem_new(struct vector_bed);
    vector_bed_begin(bed, variant->ops, VECTOR_BED_DIMENSION, variant->quantized);
    vector_bed_create(bed);
    *state = bed;
    return 0;
}

static int tear_down(void **state) {
    vector_bed_end(*state);
    free(*state);
    return 0;
}

static void expect_error(int result, struct error **error, enum error_class class, bool transient, const char *part) {
    _cleanup_free_ char *text = *error ? error_text(*error) : NULL;
    if (result != -(int)class || !strstr(text, part) || (*error)->transient != transient)
        fail_msg("got %d: %s", result, text ? text : "success");
    error_free(*error);
    *error = NULL;
}

static bool sees_all(uint64_t born, const void *context) {
    (void)born, (void)context;
    return true;
}

/* Searches for vector_bed_row(seed) and compares with what is worked out over rows 1 to last. */
static void check_search(struct vector_bed *bed, struct vector_view *view, uint64_t seed, uint64_t last,
                         bool (*sees)(uint64_t born, const void *context), const void *context, size_t limit) {
    float query[VECTOR_BED_DIMENSION];
    struct vector_hit *hits = mem_new_array(limit, struct vector_hit),
                      *expected = mem_new_array(limit, struct vector_hit);
    vector_bed_row(seed, VECTOR_BED_DIMENSION, query);
    struct vector_query what = {.vector = query, .limit = limit};
    size_t count = bed->ops->search(view, &what, hits);
    size_t expected_count = vector_bed_expect(bed, last, sees, context, query, limit, expected);
    assert_int_equal(count, expected_count);
    assert_true(vector_bed_same_hits(hits, count, expected, expected_count));
    free(hits);
    free(expected);
}

static size_t count_seen(struct vector_bed *bed, struct vector_view *view) {
    uint64_t born[1000], after = 0;
    size_t total = 0, count;
    while ((count = bed->ops->list(view, after, born, 1000))) {
        for (size_t i = 0; i < count; i++) {
            assert_true(born[i] > after);
            after = born[i];
        }
        total += count;
    }
    return total;
}

/* ---- life
 * ------------------------------------------------------------------------------------------------------------ */

static void an_index_is_there_whole_and_empty_after_create(void **state) {
    struct vector_bed *bed = *state;
    struct vector_state found;
    struct vector_writer *writer = vector_bed_open(bed, 0, &found);
    assert_int_equal(found.written, 0);
    assert_int_equal(found.applied, 0);
    assert_false(found.other_boot);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view = vector_bed_look(bed, reader, 100);
    assert_int_equal(bed->ops->seq(view), 0);
    check_search(bed, view, 7, 0, sees_all, NULL, 10);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
    assert_int_equal(scratch_count(bed->parent, ""), 1); /* nothing beside it */
}

static void what_is_not_there_is_transient_for_a_reader_and_a_conflict_for_the_writer(void **state) {
    struct vector_bed *bed = *state;
    struct vector_reader *reader;
    struct vector_writer *writer;
    struct vector_state found;
    struct error *error = NULL;
    for (int times = 0; times < 2; times++) /* the second time there is nothing to remove */
        assert_int_equal(bed->ops->remove(bed->folder, &error), 0);
    assert_false(scratch_exists(bed->parent, "index"));
    int result = bed->ops->open_reader(bed->folder, &bed->spec, &reader, &error);
    expect_error(result, &error, ERROR_UNAVAILABLE, true, "not there");
    result = bed->ops->open_writer(bed->folder, &bed->spec, 0, &writer, &found, &error);
    expect_error(result, &error, ERROR_CONFLICT, false, "not there");
}

static void create_does_not_touch_what_is_there(void **state) {
    struct vector_bed *bed = *state;
    struct error *error = NULL;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    vector_bed_append(bed, writer, 1, 5);
    bed->ops->publish(writer, 5, 5);
    bed->ops->close_writer(writer);
    expect_error(bed->ops->create(bed->folder, &bed->spec, &error), &error, ERROR_CONFLICT, false, "there already");
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view = vector_bed_look(bed, reader, 5);
    assert_int_equal(count_seen(bed, view), 5);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
}

static void L7_another_log_encoder_or_dimension_is_a_conflict(void **state) {
    struct vector_bed *bed = *state;
    struct vector_spec specs[] = {bed->spec, bed->spec, bed->spec, bed->spec};
    static const char *const names[] = {"log_id", "encoder_digest", "dimension", "quantized"};
    specs[0].log_id = "8a1f0000-0000-4000-8000-00000000000f";
    specs[1].encoder_digest = "sha256:0123456789abcdee";
    specs[2].dimension++;
    specs[3].quantized = !specs[3].quantized;
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
        struct vector_writer *writer;
        struct vector_reader *reader;
        struct vector_state found;
        struct error *error = NULL;
        int result = bed->ops->open_writer(bed->folder, &specs[i], 0, &writer, &found, &error);
        expect_error(result, &error, ERROR_CONFLICT, false, names[i]);
        result = bed->ops->open_reader(bed->folder, &specs[i], &reader, &error);
        expect_error(result, &error, ERROR_CONFLICT, false, names[i]);
    }
}

static void there_is_one_writer(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL), *other;
    struct vector_state found;
    struct error *error = NULL;
    int result = bed->ops->open_writer(bed->folder, &bed->spec, 0, &other, &found, &error);
    expect_error(result, &error, ERROR_UNAVAILABLE, true, "another process writes");
    bed->ops->close_writer(writer);
    bed->ops->close_writer(vector_bed_open(bed, 0, NULL));
}

/* ---- what is seen
 * ------------------------------------------------------------------------------------------------------ */

static void L4_a_row_is_seen_from_applied_on_and_not_before(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_info info;
    vector_bed_append(bed, writer, 1, 10);
    struct vector_view *none = vector_bed_look(bed, reader, 100);
    bed->ops->publish(writer, 10, 4); /* held back: a switch needs it (X3) */
    struct vector_view *four = vector_bed_look(bed, reader, 100), *three = vector_bed_look(bed, reader, 3);
    bed->ops->publish(writer, 10, 10);
    struct vector_view *ten = vector_bed_look(bed, reader, 100);
    assert_int_equal(bed->ops->seq(none), 0);
    assert_int_equal(count_seen(bed, none), 0);
    assert_int_equal(bed->ops->seq(four), 4);
    check_search(bed, four, 77, 4, sees_all, NULL, 10);
    assert_int_equal(bed->ops->seq(three), 3); /* the log's reader is behind (L5) */
    check_search(bed, three, 77, 3, sees_all, NULL, 10);
    assert_int_equal(bed->ops->seq(ten), 10);
    check_search(bed, ten, 77, 10, sees_all, NULL, 10);
    bed->ops->info(reader, &info);
    assert_int_equal(info.written, 10);
    assert_int_equal(info.applied, 10);
    assert_int_equal(info.rows, 10);
    assert_true(info.memory_bytes > 10 * VECTOR_BED_DIMENSION * sizeof(float));
    bed->ops->publish(writer, 5, 2); /* neither goes back */
    bed->ops->info(reader, &info);
    assert_int_equal(info.written, 10);
    assert_int_equal(info.applied, 10);
    struct vector_view *views[] = {none, four, three, ten};
    for (size_t i = 0; i < ARRAY_SIZE(views); i++) bed->ops->release(views[i]);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static void L4_a_replaced_document_is_seen_old_or_new(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    float row[VECTOR_BED_DIMENSION];
    vector_bed_append(bed, writer, 1, 2);
    bed->ops->publish(writer, 2, 2);
    struct vector_view *before = vector_bed_look(bed, reader, 100);
    vector_bed_append(bed, writer, 3, 3); /* in the place of 1 */
    assert_true(bed->ops->kill(writer, 1, 3));
    assert_true(bed->ops->fetch(before, 1, row));
    assert_false(bed->ops->fetch(before, 3, row));
    bed->ops->publish(writer, 3, 3);
    struct vector_view *after = vector_bed_look(bed, reader, 100), *behind = vector_bed_look(bed, reader, 2);
    for (struct vector_view *view = before; view; view = view == before ? behind : NULL) {
        assert_true(bed->ops->fetch(view, 1, row));
        assert_false(bed->ops->fetch(view, 3, row));
        assert_int_equal(count_seen(bed, view), 2);
    }
    assert_false(bed->ops->fetch(after, 1, row));
    assert_true(bed->ops->fetch(after, 3, row));
    assert_int_equal(count_seen(bed, after), 2);
    struct vector_info info;
    bed->ops->info(reader, &info);
    assert_int_equal(info.rows, 2);
    bed->ops->release(before);
    bed->ops->release(behind);
    bed->ops->release(after);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static void only_a_living_row_can_be_killed(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    assert_false(bed->ops->kill(writer, 1, 2));
    vector_bed_append(bed, writer, 10, 12);
    assert_false(bed->ops->kill(writer, 9, 20));
    assert_false(bed->ops->kill(writer, 13, 20));
    assert_true(bed->ops->kill(writer, 11, 20));
    assert_false(bed->ops->kill(writer, 11, 21));
    bed->ops->close_writer(writer);
}

static void a_vector_without_a_direction_is_refused_and_nothing_changes(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    float rows[3][VECTOR_BED_DIMENSION] = {{0}};
    rows[1][5] = NAN;
    rows[2][VECTOR_BED_DIMENSION - 1] = INFINITY;
    struct error *error = NULL;
    for (size_t i = 0; i < 3; i++)
        expect_error(bed->ops->append(writer, 1, rows[i], &error), &error, ERROR_REQUEST, false, "direction");
    vector_bed_append(bed, writer, 1, 1);
    bed->ops->publish(writer, 1, 1);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view = vector_bed_look(bed, reader, 1);
    assert_int_equal(count_seen(bed, view), 1);
    struct vector_hit hits[4];
    for (size_t i = 0; i < 3; i++) /* a query without one finds nothing */
        assert_int_equal(bed->ops->search(view, &(struct vector_query){.vector = rows[i], .limit = 4}, hits), 0);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static void rows_of_any_length_are_compared_by_direction(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    static const float lengths[] = {1e-38f, 1e-3f, 1, 1e30f};
    float row[VECTOR_BED_DIMENSION], got[VECTOR_BED_DIMENSION];
    for (uint64_t born = 1; born <= 4; born++) {
        for (size_t i = 0; i < VECTOR_BED_DIMENSION; i++) row[i] = lengths[born - 1] * (float)(i + 1);
        assert_int_equal(bed->ops->append(writer, born, row, NULL), 0);
    }
    bed->ops->publish(writer, 4, 4);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view = vector_bed_look(bed, reader, 4);
    struct vector_hit hits[4];
    assert_int_equal(bed->ops->search(view, &(struct vector_query){.vector = row, .limit = 4}, hits), 4);
    for (size_t i = 0; i < 4; i++) assert_true(fabsf(hits[i].score - 1) < 1e-6f && hits[i].score <= 1);
    assert_true(bed->ops->fetch(view, 4, got));
    float square = 0;
    for (size_t i = 0; i < VECTOR_BED_DIMENSION; i++) square += got[i] * got[i];
    assert_true(fabsf(square - 1) < 1e-5f);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

/* ---- searching
 * ------------------------------------------------------------------------------------------------------------ */

#define MANY 40000 /* rows: four segments of the folder */

static bool dies_by_seven(uint64_t born, const void *context) {
    return born % 7 != 0 || born + MANY > *(const uint64_t *)context;
}

static void fill_many(struct vector_bed *bed, struct vector_writer *writer) {
    vector_bed_append(bed, writer, 1, MANY);
    for (uint64_t born = 7; born <= MANY; born += 7) assert_true(bed->ops->kill(writer, born, born + MANY));
    bed->ops->publish(writer, 2 * MANY, 2 * MANY);
}

static void a_search_finds_the_best_rows_that_are_seen(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    fill_many(bed, writer);
    static const uint64_t seqs[] = {1, 300, MANY - 1, MANY, MANY + 7, 3 * MANY / 2, 2 * MANY};
    static const size_t limits[] = {1, 10, 333};
    for (size_t i = 0; i < ARRAY_SIZE(seqs); i++) {
        struct vector_view *view = vector_bed_look(bed, reader, seqs[i]);
        uint64_t last = seqs[i] < MANY ? seqs[i] : MANY;
        for (size_t j = 0; j < ARRAY_SIZE(limits); j++)
            check_search(bed, view, 1000000 + i, last, dies_by_seven, &seqs[i], limits[j]);
        bed->ops->release(view);
    }
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static void a_pool_finds_the_same_as_one_thread(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    fill_many(bed, writer);
    struct vector_view *view = vector_bed_look(bed, reader, 2 * MANY);
    struct vector_pool *pool = vector_pool_new(4);
    struct vector_hit alone[50], together[50];
    float query[VECTOR_BED_DIMENSION];
    for (uint64_t seed = 0; seed < 20; seed++) {
        vector_bed_row(seed + 1, VECTOR_BED_DIMENSION, query);
        struct vector_query what = {.vector = query, .limit = 50};
        assert_int_equal(bed->ops->search(view, &what, alone), 50);
        what.pool = pool;
        assert_int_equal(bed->ops->search(view, &what, together), 50);
        for (size_t i = 0; i < 50; i++)
            assert_true(alone[i].born == together[i].born && alone[i].score == together[i].score);
    }
    vector_pool_free(pool);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static bool is_in_list(uint64_t born, const void *context) {
    uint64_t seq = 2 * MANY;
    return born % *(const uint64_t *)context == 0 && dies_by_seven(born, &seq);
}

static void only_the_rows_of_a_list_count(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    fill_many(bed, writer);
    struct vector_view *view = vector_bed_look(bed, reader, 2 * MANY);
    static const uint64_t steps[] = {1, 2, 7, 1000, 39999};
    uint64_t *only = mem_new_array(MANY + 10, uint64_t);
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        size_t count = 0;
        for (uint64_t born = steps[i]; born <= MANY + 5 * steps[i] && count < MANY + 10; born += steps[i])
            only[count++] = born; /* some of them are not there */
        float query[VECTOR_BED_DIMENSION];
        struct vector_hit hits[20], expected[20];
        vector_bed_row(31337 + i, VECTOR_BED_DIMENSION, query);
        struct vector_query what = {.vector = query, .limit = 20, .only = only, .only_count = count};
        size_t found = bed->ops->search(view, &what, hits);
        size_t wanted = vector_bed_expect(bed, MANY, is_in_list, &steps[i], query, 20, expected);
        assert_true(vector_bed_same_hits(hits, found, expected, wanted));
        what.only_count = 0;
        assert_int_equal(bed->ops->search(view, &what, hits), 0);
    }
    free(only);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static void equal_scores_come_by_their_numbers(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    float row[VECTOR_BED_DIMENSION];
    vector_bed_row(5, VECTOR_BED_DIMENSION, row);
    for (uint64_t born = 1; born <= 9000; born++) assert_int_equal(bed->ops->append(writer, born, row, NULL), 0);
    bed->ops->publish(writer, 9000, 9000);
    struct vector_view *view = vector_bed_look(bed, reader, 9000);
    struct vector_hit hits[100];
    assert_int_equal(bed->ops->search(view, &(struct vector_query){.vector = row, .limit = 100}, hits), 100);
    for (uint64_t i = 0; i < 100; i++) assert_int_equal(hits[i].born, i + 1);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static void a_limit_above_the_number_of_rows_gives_all_of_them(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    vector_bed_append(bed, writer, 1, 30);
    assert_true(bed->ops->kill(writer, 30, 31));
    bed->ops->publish(writer, 31, 31);
    struct vector_view *view = vector_bed_look(bed, reader, 31);
    check_search(bed, view, 99, 29, sees_all, NULL, 500);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

/* ---- holding back
 * ------------------------------------------------------------------------------------------------------------ */

static void nothing_is_answered_before_the_held_number(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view;
    struct vector_info info;
    struct error *error = NULL;
    bed->ops->hold(writer, 10);
    bed->ops->set_rate(writer, 12.5);
    vector_bed_append(bed, writer, 1, 9);
    bed->ops->publish(writer, 9, 9);
    expect_error(bed->ops->look(reader, 100, &view, &error), &error, ERROR_UNAVAILABLE, true, "9 of 10");
    bed->ops->info(reader, &info);
    assert_int_equal(info.answers_from, 10);
    assert_true(info.rate > 12.4 && info.rate < 12.6);
    vector_bed_append(bed, writer, 10, 10);
    bed->ops->publish(writer, 10, 10);
    bed->ops->release(vector_bed_look(bed, reader, 100));
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

/* ---- coming back
 * ---------------------------------------------------------------------------------------------------------------- */

static void L6_what_was_not_published_is_gone_after_the_writer_died(void **state) {
    struct vector_bed *bed = *state;
    struct vector_state found;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    vector_bed_append(bed, writer, 1, 10);
    assert_true(bed->ops->kill(writer, 2, 10));
    bed->ops->publish(writer, 10, 8);
    vector_bed_append(bed, writer, 11, 7000); /* over the end of a segment */
    assert_true(bed->ops->kill(writer, 3, 11));
    assert_true(bed->ops->kill(writer, 11, 12));
    bed->ops->close_writer(writer);
    writer = vector_bed_open(bed, 0, &found);
    assert_int_equal(found.written, 10);
    assert_int_equal(found.applied, 8);
    assert_false(found.other_boot);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view = vector_bed_look(bed, reader, 100);
    assert_int_equal(count_seen(bed, view), 8);
    bed->ops->release(view);
    assert_true(bed->ops->kill(writer, 3, 11)); /* it lives again */
    vector_bed_append(bed, writer, 11, 12);
    bed->ops->publish(writer, 9000, 9000); /* and the others do not come back when their numbers have passed */
    view = vector_bed_look(bed, reader, 9000);
    assert_int_equal(count_seen(bed, view), 10);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static void L7_an_index_that_is_behind_what_was_recorded_is_a_conflict(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_state found;
    struct error *error = NULL;
    vector_bed_append(bed, writer, 1, 10);
    bed->ops->publish(writer, 10, 10);
    assert_int_equal(vector_bed_sync(bed, writer), 10);
    bed->ops->publish(writer, 20, 20);
    bed->ops->close_writer(writer);
    int result = bed->ops->open_writer(bed->folder, &bed->spec, 11, &writer, &found, &error);
    expect_error(result, &error, ERROR_CONFLICT, false, "older copy");
    writer = vector_bed_open(bed, 10, &found);
    assert_int_equal(found.written, 20);
    bed->ops->close_writer(writer);
}

/* ---- compaction
 * --------------------------------------------------------------------------------------------------------------------
 */

static void compact_all(struct vector_bed *bed, struct vector_writer *writer, uint64_t durable) {
    bool more = true;
    struct error *error = NULL;
    for (int calls = 0; more; calls++) {
        assert_in_range(calls, 0, 100);
        if (bed->ops->compact(writer, durable, &more, &error) < 0) fail_msg("%s", error_text(error));
    }
}

static bool lives_in_view(uint64_t born, const void *context) {
    (void)context;
    return born % 3 == 0;
}

static void L8_compaction_gives_room_back_and_readers_go_over_by_themselves(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_info before, after;
    vector_bed_append(bed, writer, 1, MANY);
    bed->ops->publish(writer, MANY, MANY);
    struct vector_view *old = vector_bed_look(bed, reader, MANY);
    for (uint64_t born = 1; born <= MANY; born++)
        if (born % 3) assert_true(bed->ops->kill(writer, born, MANY + 1));
    bed->ops->publish(writer, MANY + 1, MANY + 1);
    bed->ops->info(reader, &before);
    assert_int_equal(before.rows, MANY / 3);
    uint64_t durable = vector_bed_sync(bed, writer);
    compact_all(bed, writer, durable);
    struct vector_view *view = vector_bed_look(bed, reader, MANY + 1), *refused;
    bed->ops->info(reader, &after);
    assert_int_equal(after.rows, MANY / 3);
    assert_true(after.memory_bytes < before.memory_bytes);
    assert_int_equal(count_seen(bed, view), MANY / 3);
    check_search(bed, view, 271828, MANY, lives_in_view, NULL, 25);
    assert_int_equal(count_seen(bed, old), MANY); /* what is being looked at stays */
    check_search(bed, old, 271828, MANY, sees_all, NULL, 25);
    struct error *error = NULL;
    expect_error(bed->ops->look(reader, MANY, &refused, &error), &error, ERROR_CONFLICT, false, "read the log anew");
    /* Marks go on where the rows went. */
    assert_true(bed->ops->kill(writer, 3, MANY + 2));
    bed->ops->publish(writer, MANY + 2, MANY + 2);
    struct vector_view *last = vector_bed_look(bed, reader, MANY + 2);
    assert_int_equal(count_seen(bed, last), MANY / 3 - 1);
    assert_int_equal(count_seen(bed, view), MANY / 3);
    bed->ops->release(old);
    bed->ops->release(view);
    bed->ops->release(last);
    bed->ops->close_writer(writer);
    writer = vector_bed_open(bed, durable, NULL);
    view = vector_bed_look(bed, reader, MANY + 2);
    assert_int_equal(count_seen(bed, view), MANY / 3 - 1);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

static void compaction_keeps_what_somebody_may_still_be_shown(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    vector_bed_append(bed, writer, 1, MANY);
    bed->ops->publish(writer, MANY, MANY);
    for (uint64_t born = 1; born <= MANY; born++) assert_true(bed->ops->kill(writer, born, MANY + 1));
    bed->ops->publish(writer, MANY + 1, MANY); /* X3: nobody has been shown that they died */
    uint64_t durable = vector_bed_sync(bed, writer);
    compact_all(bed, writer, durable);
    struct vector_view *view = vector_bed_look(bed, reader, MANY + 1);
    assert_int_equal(bed->ops->seq(view), MANY);
    assert_int_equal(count_seen(bed, view), MANY);
    bed->ops->release(view);
    bed->ops->publish(writer, MANY + 1, MANY + 1);
    compact_all(bed, writer, durable - 1); /* and not what may come back */
    view = vector_bed_look(bed, reader, MANY);
    assert_int_equal(count_seen(bed, view), MANY);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

/* ---- removing
 * --------------------------------------------------------------------------------------------------------------------------
 */

static void a_reader_finds_the_index_that_was_built_again(void **state) {
    struct vector_bed *bed = *state;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view;
    struct error *error = NULL;
    vector_bed_append(bed, writer, 1, 100);
    bed->ops->publish(writer, 100, 100);
    struct vector_view *old = vector_bed_look(bed, reader, 100);
    bed->ops->close_writer(writer);
    assert_int_equal(bed->ops->remove(bed->folder, NULL), 0);
    expect_error(bed->ops->look(reader, 100, &view, &error), &error, ERROR_UNAVAILABLE, true, "was removed");
    vector_bed_create(bed);
    writer = vector_bed_open(bed, 0, NULL);
    vector_bed_append(bed, writer, 50, 60);
    bed->ops->publish(writer, 60, 60);
    view = vector_bed_look(bed, reader, 100);
    assert_int_equal(bed->ops->seq(view), 60);
    assert_int_equal(count_seen(bed, view), 11);
    assert_int_equal(count_seen(bed, old), 100); /* whoever looks at it has it */
    bed->ops->release(old);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
    bed->ops->close_writer(writer);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_index_is_there_whole_and_empty_after_create),
        TEST(what_is_not_there_is_transient_for_a_reader_and_a_conflict_for_the_writer),
        TEST(create_does_not_touch_what_is_there),
        TEST(L7_another_log_encoder_or_dimension_is_a_conflict),
        TEST(there_is_one_writer),
        TEST(L4_a_row_is_seen_from_applied_on_and_not_before),
        TEST(L4_a_replaced_document_is_seen_old_or_new),
        TEST(only_a_living_row_can_be_killed),
        TEST(a_vector_without_a_direction_is_refused_and_nothing_changes),
        TEST(rows_of_any_length_are_compared_by_direction),
        TEST(a_search_finds_the_best_rows_that_are_seen),
        TEST(a_pool_finds_the_same_as_one_thread),
        TEST(only_the_rows_of_a_list_count),
        TEST(equal_scores_come_by_their_numbers),
        TEST(a_limit_above_the_number_of_rows_gives_all_of_them),
        TEST(nothing_is_answered_before_the_held_number),
        TEST(L6_what_was_not_published_is_gone_after_the_writer_died),
        TEST(L7_an_index_that_is_behind_what_was_recorded_is_a_conflict),
        TEST(L8_compaction_gives_room_back_and_readers_go_over_by_themselves),
        TEST(compaction_keeps_what_somebody_may_still_be_shown),
        TEST(a_reader_finds_the_index_that_was_built_again),
    };
    int failed = 0;
    for (variant = variants; variant < variants + ARRAY_SIZE(variants); variant++)
        failed += cmocka_run_group_tests_name(variant->name, tests, NULL, NULL);
    return failed;
}
