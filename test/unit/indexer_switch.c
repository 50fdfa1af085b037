/* The switch: nobody sees less than was seen before, whatever dies between its steps (X2 to X6). */
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

#define DOCUMENTS 60

static int open_bed(void **state) {
    *state = indexer_bed_new(false);
    return 0;
}

static int open_bed_with_queries(void **state) {
    *state = indexer_bed_new(true);
    return 0;
}

static int close_bed(void **state) {
    indexer_bed_free(*state);
    return 0;
}

/* A gateway, a replica for each encoder, some documents, and the second index ready. */
static struct indexer_bed *start_with_green(void **state) {
    struct indexer_bed *bed = *state;
    indexer_bed_gateway_up(bed, 7);
    indexer_bed_replica_up(bed, 0, BED_DIGEST, BED_DIMENSION);
    indexer_bed_replica_up(bed, 1, BED_DIGEST_GREEN, BED_DIMENSION_GREEN);
    indexer_bed_start(bed);
    indexer_bed_put_many(bed, "d", DOCUMENTS, "a text");
    indexer_bed_wait_indexed(bed, DOCUMENTS);
    indexer_bed_add_green(bed);
    return bed;
}

static uint64_t ask_flip(struct indexer_bed *bed, const char *task_id, const char *index_id) {
    return indexer_bed_ask(bed, "flip", "{\"task_id\":\"%s\",\"index_id\":\"%s\"}", task_id, index_id);
}

static void assert_state(struct indexer_bed *bed, const char *index_id, const char *expected) {
    _cleanup_free_ char *state = indexer_bed_list_state(bed, index_id);
    assert_string_equal(state ? state : "not there", expected);
}

static void assert_part(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("%s is not in: %s", part, text);
}

static void the_pair_changes_when_every_gateway_follows(void **state) { /* X4, X5 */
    struct indexer_bed *bed = start_with_green(state);
    bed->answers_pairs = false;
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_until(bed, bed->epoch == 2);
    indexer_bed_use_pair(bed, 2, 1); /* takes it for new requests; an old one still runs */
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "late", "written meanwhile"));
    assert_null(indexer_bed_find_answer(bed, request));
    indexer_bed_use_pair(bed, 2, 2);
    const char *answer = indexer_bed_answer(bed, request);
    assert_part(answer, "\"epoch\":2");
    assert_part(answer, "\"source_index_id\":\"" BED_BLUE "\"");
    assert_part(answer, "\"source_deployment_id\":\"deployment-blue\"");
    assert_state(bed, BED_GREEN, "blue");
    assert_state(bed, BED_BLUE, "rollback");
    indexer_bed_check_whole(bed, BED_GREEN);
    indexer_bed_check_whole(bed, BED_BLUE); /* it follows in its window */
    assert_part(indexer_bed_answer(bed, ask_flip(bed, "task-1", BED_GREEN)), "\"epoch\":2"); /* asked again */
}

static void turn_a_while(struct indexer_bed *bed) {
    for (int i = 0; i < 50; i++) indexer_bed_turn(bed);
}

static void X9_no_switch_is_begun_while_a_gateway_is_being_replaced(void **state) {
    struct indexer_bed *bed = start_with_green(state);
    indexer_bed_hold_switches(bed, true);
    indexer_bed_until(bed, bed->holds_switches);
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    turn_a_while(bed);
    assert_null(indexer_bed_find_answer(bed, request));
    assert_state(bed, BED_GREEN, "ready");
    indexer_bed_hold_switches(bed, false);
    assert_part(indexer_bed_answer(bed, request), "\"epoch\":2");
}

static void X9_a_gateway_is_not_replaced_before_a_switch_is_over_for_all(void **state) {
    struct indexer_bed *bed = start_with_green(state);
    bed->answers_pairs = false;
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_until(bed, bed->epoch == 2);
    indexer_bed_hold_switches(bed, true);
    indexer_bed_use_pair(bed, 2, 1);
    turn_a_while(bed);
    assert_false(bed->holds_switches);
    indexer_bed_use_pair(bed, 2, 2);
    indexer_bed_until(bed, bed->holds_switches);
    indexer_bed_answer(bed, request);
}

static void a_gateway_that_dies_is_not_waited_for(void **state) {
    struct indexer_bed *bed = start_with_green(state);
    bed->answers_pairs = false;
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_until(bed, bed->epoch == 2);
    indexer_bed_gateway_down(bed);
    indexer_bed_answer(bed, request);
}

static void a_kill_at_any_step_is_gone_on_from(void **state) {
    static const char *const points[] = {"switch_recorded", "flip_recorded", "flip_announced", "flip_acknowledged"};
    static const char *const destinations[] = {BED_GREEN, BED_BLUE};
    struct indexer_bed *bed = start_with_green(state);
    for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
        _cleanup_free_ char *task_id = text_format("task-%zu", i), *epoch = text_format("\"epoch\":%zu", i + 2);
        indexer_bed_arm(bed, points[i]);
        ask_flip(bed, task_id, destinations[i % 2]);
        indexer_bed_until(bed, indexer_bed_has_paused(bed));
        indexer_bed_kill(bed);
        indexer_bed_put(bed, "meanwhile", points[i]);
        indexer_bed_start(bed);
        assert_part(indexer_bed_answer(bed, ask_flip(bed, task_id, destinations[i % 2])), epoch);
        assert_state(bed, destinations[i % 2], "blue");
        assert_state(bed, destinations[1 - i % 2], "rollback");
        indexer_bed_check_whole(bed, BED_GREEN);
        indexer_bed_check_whole(bed, BED_BLUE);
    }
}

/* Two indexes then fence each other: the former until gateways have left it, blue for its destination, which is that
 * former one. */
static void a_kill_in_the_middle_of_a_switch_back_is_gone_on_from(void **state) { /* X3 */
    struct indexer_bed *bed = start_with_green(state);
    indexer_bed_answer(bed, ask_flip(bed, "task-1", BED_GREEN));
    indexer_bed_arm(bed, "switch_recorded");
    ask_flip(bed, "task-2", BED_BLUE);
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    indexer_bed_kill(bed);
    uint64_t head = indexer_bed_put(bed, "meanwhile", "a text");
    indexer_bed_start(bed);
    assert_part(indexer_bed_answer(bed, ask_flip(bed, "task-2", BED_BLUE)), "\"epoch\":3");
    assert_state(bed, BED_BLUE, "blue");
    indexer_bed_wait_indexed(bed, head);
    indexer_bed_check_whole(bed, BED_GREEN);
    indexer_bed_check_whole(bed, BED_BLUE);
}

static void blue_shows_no_more_than_is_durable_of_the_destination(void **state) { /* X3 */
    struct indexer_bed *bed = *state;
    indexer_bed_set(bed, "switch_max_lag", "1ms"); /* one write is too many */
    bed = start_with_green(state);
    indexer_bed_arm(bed, "switch_recorded");
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    bed->replicas[1].does = BATCH_HOLDS;
    size_t before = bed->replicas[0].text_count;
    uint64_t head = indexer_bed_put(bed, "new", "not in the destination yet");
    indexer_bed_until(bed,
                      bed->replicas[0].text_count > before); /* the head is known: blue has it, and keeps it back */
    indexer_bed_go_on(bed);
    indexer_bed_until(bed, bed->replicas[1].held_count);
    for (int i = 0; i < 50; i++) indexer_bed_turn(bed);
    assert_true(indexer_bed_applied(bed, BED_BLUE) <= indexer_bed_durable(bed, BED_GREEN));
    assert_true(bed->indexed < head);
    bed->replicas[1].does = BATCH_ENCODES;
    fake_batch_encoder_release(&bed->replicas[1]);
    indexer_bed_answer(bed, request);
    indexer_bed_wait_indexed(bed, head);
    indexer_bed_check_whole(bed, BED_GREEN);
}

static void the_former_shows_no_more_than_the_new_one_until_all_have_left_it(void **state) { /* X3, L11 */
    struct indexer_bed *bed = start_with_green(state);
    bed->answers_pairs = false;
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_until(bed, bed->epoch == 2);
    bed->replicas[1].does = BATCH_HOLDS;
    uint64_t head = indexer_bed_put(bed, "new", "the former has it first");
    size_t before = bed->replicas[0].text_count;
    indexer_bed_until(bed, bed->replicas[1].held_count && bed->replicas[0].text_count > before);
    for (int i = 0; i < 50; i++) indexer_bed_turn(bed);
    assert_true(indexer_bed_applied(bed, BED_BLUE) <= indexer_bed_applied(bed, BED_GREEN));
    assert_true(bed->indexed < head);
    bed->replicas[1].does = BATCH_ENCODES;
    fake_batch_encoder_release(&bed->replicas[1]);
    indexer_bed_use_pair(bed, 2, 2);
    indexer_bed_answer(bed, request);
    indexer_bed_wait_indexed(bed, head);
}

static void what_blue_holds_back_is_not_shown_by_the_flip(void **state) { /* X3 */
    struct indexer_bed *bed = start_with_green(state);
    bed->answers_pairs = false;
    indexer_bed_arm(bed, "flip_recorded");
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    bed->replicas[1].does = BATCH_HOLDS;
    uint64_t head = indexer_bed_put(bed, "new", "blue has it first, and may not show it");
    indexer_bed_until(bed, indexer_bed_durable(bed, BED_BLUE) >= head);
    indexer_bed_go_on(bed);
    indexer_bed_until(bed, bed->epoch == 2);
    assert_true(indexer_bed_applied(bed, BED_BLUE) <= indexer_bed_applied(bed, BED_GREEN));
    assert_true(bed->indexed < head);
    bed->replicas[1].does = BATCH_ENCODES;
    fake_batch_encoder_release(&bed->replicas[1]);
    indexer_bed_use_pair(bed, 2, 2);
    indexer_bed_answer(bed, request);
    indexer_bed_wait_indexed(bed, head);
}

static void a_switch_that_writes_outrun_is_given_up(void **state) { /* X4 */
    struct indexer_bed *bed = *state;
    indexer_bed_set(bed, "switch_deadline", "1s");
    bed = start_with_green(state);
    indexer_bed_arm(bed, "switch_recorded");
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    indexer_bed_replica_down(bed, 1);
    uint64_t head = indexer_bed_put(bed, "new", "nobody embeds it for the destination");
    indexer_bed_go_on(bed);
    assert_part(indexer_bed_refusal(bed, request), "writes outrun embedding");
    indexer_bed_wait_indexed(bed, head); /* nothing is held back any more */
    assert_state(bed, BED_BLUE, "blue");
    assert_state(bed, BED_GREEN, "ready");
    indexer_bed_replica_up(bed, 1, BED_DIGEST_GREEN, BED_DIMENSION_GREEN);
    assert_part(indexer_bed_answer(bed, ask_flip(bed, "task-2", BED_GREEN)), "\"epoch\":2");
}

static void a_switch_is_not_begun_while_the_destination_is_far_behind(void **state) { /* X4 */
    struct indexer_bed *bed = *state;
    indexer_bed_set(bed, "switch_deadline", "1s");
    bed = start_with_green(state);
    indexer_bed_replica_down(bed, 1);
    indexer_bed_put_many(bed, "more", 20, "nobody embeds them for the destination");
    indexer_bed_wait_indexed(bed, DOCUMENTS + 20);
    uint64_t request = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "new", "seen at once: there is no fence"));
    assert_part(indexer_bed_refusal(bed, request), "writes outrun embedding");
    assert_false(indexer_bed_has_event(bed, "switching from"));
}

static void only_a_ready_index_is_switched_to(void **state) {
    struct indexer_bed *bed = start_with_green(state);
    assert_part(indexer_bed_refusal(bed, ask_flip(bed, "task-1", BED_BLUE)), "is the blue one already");
    assert_part(indexer_bed_refusal(bed, ask_flip(bed, "task-1", "cccccccc-0000-4000-8000-000000000001")),
                "ResourceNotFoundError");
    indexer_bed_replica_down(bed, 1);
    indexer_bed_answer(bed, indexer_bed_ask(bed, "drop_index", "{\"index_id\":\"" BED_GREEN "\"}"));
    indexer_bed_answer(bed,
                       indexer_bed_ask(bed, "create_index",
                                       "{\"index_id\":\"" BED_GREEN
                                       "\",\"task_id\":\"task-2\",\"deployment_id\":\"deployment-green\","
                                       "\"revision\":1,\"encoder_digest\":\"" BED_DIGEST_GREEN "\",\"dimension\":6}"));
    assert_part(indexer_bed_refusal(bed, ask_flip(bed, "task-2", BED_GREEN)), "is not ready");
}

static void a_task_gives_its_switch_up(void **state) {
    struct indexer_bed *bed = start_with_green(state);
    indexer_bed_arm(bed, "switch_recorded");
    uint64_t flip = ask_flip(bed, "task-1", BED_GREEN);
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    indexer_bed_replica_down(bed, 1);
    uint64_t head = indexer_bed_put(bed, "new", "keeps the switch from going on");
    indexer_bed_go_on(bed);
    assert_part(indexer_bed_answer(bed, indexer_bed_ask(bed, "abort_switch", "{\"task_id\":\"task-1\"}")),
                "\"flipped\":false");
    assert_part(indexer_bed_refusal(bed, flip), "given up");
    indexer_bed_wait_indexed(bed, head);
    indexer_bed_replica_up(bed, 1, BED_DIGEST_GREEN, BED_DIMENSION_GREEN);
    indexer_bed_answer(bed, ask_flip(bed, "task-2", BED_GREEN));
    assert_part(indexer_bed_answer(bed, indexer_bed_ask(bed, "abort_switch", "{\"task_id\":\"task-2\"}")),
                "\"flipped\":true");
}

static void a_rollback_is_a_flip_and_retiring_is_conditional(void **state) { /* X6 */
    struct indexer_bed *bed = start_with_green(state);
    indexer_bed_answer(bed, ask_flip(bed, "task-1", BED_GREEN));
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "in-the-window", "followed by both"));
    assert_part(indexer_bed_answer(bed, ask_flip(bed, "task-2", BED_BLUE)), "\"epoch\":3");
    static const char retire[] = "{\"index_id\":\"%s\",\"state\":\"rollback\",\"epoch\":%d}";
    assert_part(indexer_bed_answer(bed, indexer_bed_ask(bed, "drop_index", retire, BED_BLUE, 2)), "\"dropped\":false");
    assert_part(indexer_bed_answer(bed, indexer_bed_ask(bed, "drop_index", retire, BED_GREEN, 2)), "\"dropped\":false");
    indexer_bed_check_whole(bed, BED_BLUE);
    indexer_bed_check_whole(bed, BED_GREEN);
    assert_part(indexer_bed_answer(bed, indexer_bed_ask(bed, "drop_index", retire, BED_GREEN, 3)), "\"dropped\":true");
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_GREEN);
    assert_false(scratch_exists(folder, ""));
    assert_part(indexer_bed_answer(bed, indexer_bed_ask(bed, "drop_index", retire, BED_GREEN, 3)), "\"dropped\":true");
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "after", "goes on"));
}

static void a_dropped_index_leaves_no_files_after_a_kill(void **state) {
    struct indexer_bed *bed = start_with_green(state);
    indexer_bed_arm(bed, "index_dropped");
    indexer_bed_ask(bed, "drop_index", "{\"index_id\":\"" BED_GREEN "\"}");
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    indexer_bed_kill(bed);
    indexer_bed_start(bed);
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_GREEN);
    assert_false(scratch_exists(folder, ""));
}

static void queries_are_switched_with_their_documents(void **state) { /* L10 */
    struct indexer_bed *bed = *state;
    indexer_bed_gateway_up(bed, 7);
    indexer_bed_replica_up(bed, 0, BED_DIGEST, BED_DIMENSION);
    indexer_bed_replica_up(bed, 1, BED_DIGEST_GREEN, BED_DIMENSION_GREEN);
    indexer_bed_start(bed);
    indexer_bed_put_many(bed, "d", DOCUMENTS, "a text");
    indexer_bed_note_query(bed, "where are the texts");
    indexer_bed_note_query(bed, "what is a text");
    indexer_bed_wait_indexed(bed, DOCUMENTS);
    indexer_bed_add_green(bed);
    indexer_bed_note_query(bed, "asked late");
    indexer_bed_check_queries_whole(bed, BED_BLUE_QUERIES);
    const char *report = indexer_bed_answer(bed, indexer_bed_ask(bed, "gate",
                                                                 "{\"index_id\":\"" BED_GREEN "\",\"maximum_failed\":0,"
                                                                 "\"overlap_k\":5,\"overlap_at_least\":0.0}"));
    assert_part(report, "\"overlap\":{\"k\":5,\"queries\":");
    assert_part(indexer_bed_refusal(bed, indexer_bed_ask(bed, "gate",
                                                         "{\"index_id\":\"" BED_GREEN "\",\"maximum_failed\":0,"
                                                         "\"overlap_k\":5,\"overlap_at_least\":1.0}")),
                "are asked for");
    indexer_bed_answer(bed, ask_flip(bed, "task-1", BED_GREEN));
    assert_state(bed, BED_GREEN_QUERIES, "blue");
    assert_state(bed, BED_BLUE_QUERIES, "rollback");
    indexer_bed_check_queries_whole(bed, BED_GREEN_QUERIES);
    indexer_bed_check_queries_whole(bed, BED_BLUE_QUERIES);
    indexer_bed_answer(bed, indexer_bed_ask(bed, "drop_index", "{\"index_id\":\"" BED_BLUE "\"}"));
    _cleanup_free_ char *folder = indexer_bed_index_folder(bed, BED_BLUE_QUERIES);
    assert_false(scratch_exists(folder, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_pair_changes_when_every_gateway_follows, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_gateway_that_dies_is_not_waited_for, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_kill_at_any_step_is_gone_on_from, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_kill_in_the_middle_of_a_switch_back_is_gone_on_from, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(blue_shows_no_more_than_is_durable_of_the_destination, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(the_former_shows_no_more_than_the_new_one_until_all_have_left_it, open_bed,
                                        close_bed),
        cmocka_unit_test_setup_teardown(X9_no_switch_is_begun_while_a_gateway_is_being_replaced, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(X9_a_gateway_is_not_replaced_before_a_switch_is_over_for_all, open_bed,
                                        close_bed),
        cmocka_unit_test_setup_teardown(what_blue_holds_back_is_not_shown_by_the_flip, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_switch_that_writes_outrun_is_given_up, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_switch_is_not_begun_while_the_destination_is_far_behind, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(only_a_ready_index_is_switched_to, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_task_gives_its_switch_up, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_rollback_is_a_flip_and_retiring_is_conditional, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(a_dropped_index_leaves_no_files_after_a_kill, open_bed, close_bed),
        cmocka_unit_test_setup_teardown(queries_are_switched_with_their_documents, open_bed_with_queries, close_bed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
