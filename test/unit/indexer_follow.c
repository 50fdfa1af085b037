/* An index follows its log: every write is found with the vector of its text, whatever happens meanwhile (L1 to L12).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/indexer_bed.h"
#include "support/scratch.h"

static int open_bed(void **state) {
    *state = indexer_bed_new(false);
    return 0;
}

static int close_bed(void **state) {
    indexer_bed_free(*state);
    return 0;
}

static struct indexer_bed *start(void **state) {
    struct indexer_bed *bed = *state;
    indexer_bed_replica_up(bed, 0, BED_DIGEST, BED_DIMENSION);
    indexer_bed_start(bed);
    return bed;
}

static void what_is_written_is_found(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_put(bed, "a", "an apple");
    indexer_bed_put(bed, "b", "a boat");
    indexer_bed_wait_indexed(bed, 2);
    indexer_bed_check_whole(bed, BED_BLUE);
}

static void what_is_written_anew_or_deleted_is_seen_once_or_not_at_all(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_put_many(bed, "d", 100, "one of many");
    indexer_bed_put(bed, "d7", "another text for number seven");
    indexer_bed_delete(bed, "d8");
    indexer_bed_delete(bed, "d9");
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "d9", "back again"));
    indexer_bed_check_whole(bed, BED_BLUE);
}

static void a_document_that_is_rewritten_a_hundred_times_is_embedded_once(void **state) { /* L12 */
    struct indexer_bed *bed = *state;
    indexer_bed_start(bed);
    uint64_t head = 0;
    for (int i = 0; i < 100; i++) {
        _cleanup_free_ char *text = text_format("version %d", i);
        head = indexer_bed_put(bed, "one", text);
    }
    indexer_bed_replica_up(bed, 0, BED_DIGEST, BED_DIMENSION);
    indexer_bed_wait_indexed(bed, head);
    assert_true(bed->replicas[0].text_count <= 2); /* it may have begun before the last was written */
    indexer_bed_check_whole(bed, BED_BLUE);
}

static void a_text_that_the_model_refuses_stops_nothing(void **state) { /* L9 */
    struct indexer_bed *bed = start(state);
    indexer_bed_put_many(bed, "d", 40, "a text");
    indexer_bed_put(bed, "bad", "refuse this");
    indexer_bed_put(bed, "worse", "broken by this");
    indexer_bed_put(bed, "none", "zero is no direction");
    indexer_bed_wait_indexed(bed, 43);
    assert_int_equal(indexer_bed_failed(bed, BED_BLUE), 3);
    indexer_bed_check_whole(bed, BED_BLUE);
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "bad", "a better text"));
    assert_int_equal(indexer_bed_failed(bed, BED_BLUE), 2);
    indexer_bed_check_whole(bed, BED_BLUE);
}

static void a_replica_that_dies_in_the_middle_costs_nothing(void **state) {
    struct indexer_bed *bed = start(state);
    bed->replicas[0].does = BATCH_DIES;
    indexer_bed_put_many(bed, "d", 200, "a text");
    indexer_bed_until(bed, !bed->replicas[0].server);
    indexer_bed_replica_down(bed, 0);
    indexer_bed_replica_up(bed, 1, BED_DIGEST, BED_DIMENSION);
    indexer_bed_wait_indexed(bed, 200);
    indexer_bed_check_whole(bed, BED_BLUE);
}

static void a_replica_of_another_encoder_is_not_used(void **state) {
    struct indexer_bed *bed = *state;
    indexer_bed_replica_up(bed, 0, BED_DIGEST, BED_DIMENSION);
    bed->replicas[0].digest = "digest-of-another"; /* says one thing in its report and another in its answers */
    indexer_bed_start(bed);
    wire_say(bed->channel, replica_up, .replica_id = "liar", .incarnation = 1, .address = "/nowhere",
             .report_json = "{}");
    indexer_bed_put(bed, "a", "an apple");
    indexer_bed_replica_up(bed, 1, BED_DIGEST, BED_DIMENSION);
    indexer_bed_wait_indexed(bed, 1);
    indexer_bed_check_whole(bed, BED_BLUE);
}

static void a_busy_replica_is_asked_again(void **state) {
    struct indexer_bed *bed = start(state);
    bed->replicas[0].does = BATCH_IS_BUSY;
    indexer_bed_put(bed, "a", "an apple");
    indexer_bed_until(bed, bed->replicas[0].request_count >= 2);
    bed->replicas[0].does = BATCH_ENCODES;
    indexer_bed_wait_indexed(bed, 1);
}

static void writes_of_a_gateway_that_died_before_it_told_are_found(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_gateway_up(bed, 7);
    bed->is_silent = true;
    indexer_bed_put(bed, "a", "an apple");
    indexer_bed_gateway_down(bed);
    indexer_bed_wait_indexed(bed, 1);
}

static void a_kill_anywhere_loses_nothing(void **state) {
    static const char *const points[] = {"index_rows_written", "index_published"};
    struct indexer_bed *bed = start(state);
    for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
        _cleanup_free_ char *prefix = text_format("p%zu-", i);
        indexer_bed_arm(bed, points[i]);
        indexer_bed_put_many(bed, prefix, 50, "a text");
        indexer_bed_until(bed, indexer_bed_has_paused(bed));
        indexer_bed_kill(bed);
        indexer_bed_put(bed, "meanwhile", points[i]);
        indexer_bed_start(bed);
        indexer_bed_wait_indexed(bed, 51 * (i + 1));
        indexer_bed_check_whole(bed, BED_BLUE);
    }
}

static void a_stop_leaves_everything_durable(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_put_many(bed, "d", 30, "a text");
    indexer_bed_wait_indexed(bed, 30);
    indexer_bed_stop(bed);
    assert_int_equal(indexer_bed_durable(bed, BED_BLUE), 30);
    indexer_bed_start(bed);
    indexer_bed_wait_indexed(bed, 30);
    assert_int_equal(bed->replicas[0].text_count, 30);
}

static void what_is_shown_becomes_durable_by_itself(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_put(bed, "a", "an apple");
    indexer_bed_until(bed, indexer_bed_durable(bed, BED_BLUE) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_found, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(what_is_written_anew_or_deleted_is_seen_once_or_not_at_all, open_bed,
                                        close_bed),
        cmocka_unit_test_setup_teardown(a_document_that_is_rewritten_a_hundred_times_is_embedded_once, open_bed,
                                        close_bed),
        cmocka_unit_test_setup_teardown(a_text_that_the_model_refuses_stops_nothing, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_replica_that_dies_in_the_middle_costs_nothing, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_replica_of_another_encoder_is_not_used, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_busy_replica_is_asked_again, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(writes_of_a_gateway_that_died_before_it_told_are_found, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_kill_anywhere_loses_nothing, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_stop_leaves_everything_durable, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(what_is_shown_becomes_durable_by_itself, open_bed, close_bed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
