/* What the controller asks: indexes made, taken over, waited for, tried again, let go; the gate; a collection's end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/indexer_bed.h"
#include "support/scratch.h"

#define DOCUMENTS 50
#define OTHER_COLLECTION "22222222-2222-4222-8222-222222222222"

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
    indexer_bed_gateway_up(bed, 7);
    indexer_bed_replica_up(bed, 0, BED_DIGEST, BED_DIMENSION);
    indexer_bed_replica_up(bed, 1, BED_DIGEST_GREEN, BED_DIMENSION_GREEN);
    indexer_bed_start(bed);
    indexer_bed_put_many(bed, "d", DOCUMENTS, "a text");
    return bed;
}

static void assert_part(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("%s is not in: %s", part, text);
}

static uint64_t create(struct indexer_bed *bed, const char *index_id, const char *task_id) {
    return indexer_bed_ask(
        bed, "create_index",
        "{\"index_id\":\"%s\",\"task_id\":\"%s\",\"deployment_id\":\"deployment-green\",\"revision\":1,"
        "\"encoder_digest\":\"" BED_DIGEST_GREEN "\",\"dimension\":%d}",
        index_id, task_id, BED_DIMENSION_GREEN);
}

static uint64_t gate(struct indexer_bed *bed, int maximum_failed) {
    return indexer_bed_ask(bed, "gate", "{\"index_id\":\"" BED_GREEN "\",\"maximum_failed\":%d}", maximum_failed);
}

static uint64_t await_ready(struct indexer_bed *bed) {
    return indexer_bed_ask(bed, "await_ready", "{\"index_id\":\"" BED_GREEN "\"}");
}

static void assert_state(struct indexer_bed *bed, const char *index_id, const char *expected) {
    _cleanup_free_ char *state = indexer_bed_list_state(bed, index_id);
    assert_string_equal(state ? state : "not there", expected);
}

/* ---- making and taking over ------------------------------------------------------------- */

static void an_index_is_filled_and_ready(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_add_green(bed);
    indexer_bed_check_whole(bed, BED_GREEN);
    indexer_bed_until(bed, text_equal(bed->state[1], "ready"));
    assert_int_equal(bed->replicas[1].text_count, DOCUMENTS);
    assert_true(bed->replicas[1].largest_batch > 1);
    indexer_bed_put(bed, "later", "ready ones are followed, too");
    indexer_bed_check_whole(bed, BED_GREEN);
}

static void an_index_of_an_empty_collection_is_ready(void **state) {
    struct indexer_bed *bed = *state;
    indexer_bed_start(bed);
    indexer_bed_add_green(bed);
}

static void an_index_that_was_left_is_taken_over(void **state) {
    static const char other[] = "cccccccc-0000-4000-8000-000000000001";
    struct indexer_bed *bed = start(state);
    indexer_bed_add_green(bed);
    assert_part(indexer_bed_answer(bed, create(bed, other, "task-2")), BED_GREEN);
    assert_part(indexer_bed_answer(bed, create(bed, BED_GREEN, "task-2")), BED_GREEN); /* asked again */
    assert_null(indexer_bed_list_state(bed, other));
}

static void a_kill_while_an_index_is_made_or_filled_is_gone_on_from(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_arm(bed, "index_recorded");
    create(bed, BED_GREEN, "task-1");
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    indexer_bed_kill(bed);
    bed->replicas[1].does = BATCH_HOLDS;
    indexer_bed_start(bed);
    indexer_bed_until(bed, bed->replicas[1].held_count);
    indexer_bed_kill(bed);
    bed->replicas[1].does = BATCH_ENCODES;
    indexer_bed_start(bed);
    indexer_bed_answer(bed, create(bed, BED_GREEN, "task-1"));
    indexer_bed_answer(bed, await_ready(bed));
    indexer_bed_check_whole(bed, BED_GREEN);
}

static void an_index_waits_for_its_encoder(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_replica_down(bed, 1);
    indexer_bed_answer(bed, create(bed, BED_GREEN, "task-1"));
    uint64_t request = await_ready(bed);
    indexer_bed_wait_indexed(bed, indexer_bed_put(bed, "more", "the others go on meanwhile"));
    assert_null(indexer_bed_find_answer(bed, request));
    indexer_bed_replica_up(bed, 1, BED_DIGEST_GREEN, BED_DIMENSION_GREEN);
    indexer_bed_answer(bed, request);
}

static void an_index_that_nobody_embeds_lets_the_log_go(void **state) { /* L2 */
    struct indexer_bed *bed = *state;
    indexer_bed_set(bed, "index_ttl", "1s");
    bed = start(state);
    indexer_bed_replica_down(bed, 1);
    indexer_bed_answer(bed, create(bed, BED_GREEN, "task-1"));
    assert_part(indexer_bed_refusal(bed, await_ready(bed)), "index_ttl");
    assert_state(bed, BED_GREEN, "failed");
    indexer_bed_replica_up(bed, 1, BED_DIGEST_GREEN, BED_DIMENSION_GREEN);
    assert_part(indexer_bed_refusal(
                    bed, indexer_bed_ask(bed, "flip", "{\"task_id\":\"task-1\",\"index_id\":\"" BED_GREEN "\"}")),
                "is not ready");
    assert_state(bed, BED_BLUE, "blue");
}

/* ---- the gate ------------------------------------------------------------------------------ */

static void the_gate_reports_what_it_saw(void **state) {
    struct indexer_bed *bed = start(state);
    bed->replicas[1].truncated = 1;
    indexer_bed_add_green(bed);
    indexer_bed_delete(bed, "d1");
    const char *report = indexer_bed_answer(bed, gate(bed, 0));
    assert_part(report, "\"seq\":51,\"live\":49,\"indexed\":49,\"failed\":0");
    assert_part(report, "\"sample\":{\"count\":32,\"lowest_cosine\":");
    assert_null(strstr(report, "\"truncated\":0"));
}

static void the_gate_is_closed_for_too_many_failed_items(void **state) { /* L9 */
    struct indexer_bed *bed = start(state);
    indexer_bed_put(bed, "bad", "refuse this");
    indexer_bed_put(bed, "worse", "refuse that");
    indexer_bed_add_green(bed);
    assert_part(indexer_bed_refusal(bed, gate(bed, 1)), "too many items have failed");
    assert_part(indexer_bed_answer(bed, gate(bed, 2)), "\"failed\":2");
}

static void the_gate_is_closed_for_a_model_that_embeds_otherwise_now(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_add_green(bed);
    bed->replicas[1].drift = 0.5;
    assert_part(indexer_bed_refusal(bed, gate(bed, 0)), "a cosine of");
}

static void the_gate_asks_for_queries_to_compare(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_add_green(bed);
    uint64_t request = indexer_bed_ask(bed, "gate",
                                       "{\"index_id\":\"" BED_GREEN "\",\"maximum_failed\":0,\"overlap_k\":"
                                       "10,\"overlap_at_least\":0.5}");
    assert_part(indexer_bed_refusal(bed, request), "keeps no queries");
}

/* ---- failed items ---------------------------------------------------------------------------- */

static void failed_items_are_tried_again(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_put(bed, "bad", "refuse this");
    indexer_bed_add_green(bed);
    static const char body[] = "{\"index_id\":\"" BED_GREEN "\"}";
    assert_part(indexer_bed_answer(bed, indexer_bed_ask(bed, "retry_failed", body)), "\"failed\":1");
    bed->replicas[1].says_refused_once = true;
    assert_part(indexer_bed_answer(bed, indexer_bed_ask(bed, "retry_failed", body)), "\"failed\":0");
    assert_part(indexer_bed_answer(bed, gate(bed, 0)), "\"indexed\":51,\"failed\":0");
    indexer_bed_check_whole(bed, BED_GREEN);
}

/* ---- the collection ---------------------------------------------------------------------------- */

static void an_ask_of_a_collection_that_is_not_there_is_refused(void **state) {
    struct indexer_bed *bed = start(state);
    static const char *const verbs[] = {"open", "await_ready", "unheard"};
    static const char *const answers[] = {"ResourceNotFoundError", "ResourceNotFoundError", "ConfigurationError"};
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        wire_say(bed->channel, indexer_ask, .request = 1000 + i, .verb = verbs[i], .collection_id = OTHER_COLLECTION);
        assert_part(indexer_bed_refusal(bed, 1000 + i), answers[i]);
    }
    wire_say(bed->channel, indexer_ask, .request = 2000, .verb = "delete", .collection_id = OTHER_COLLECTION);
    indexer_bed_answer(bed, 2000);
}

static void a_collection_that_is_made_while_it_runs_is_followed(void **state) {
    struct indexer_bed *bed = start(state);
    const struct collection_spec spec = {.collection_id = OTHER_COLLECTION,
                                         .name = "others",
                                         .metric = "cosine",
                                         .index_id = "dddddddd-0000-4000-8000-000000000001",
                                         .deployment_id = "deployment-blue",
                                         .encoder_digest = BED_DIGEST,
                                         .revision = 1,
                                         .dimension = BED_DIMENSION};
    _cleanup_free_ char *root = fs_join(bed->folder, "collections");
    wire_say(bed->channel, indexer_ask, .request = 1000, .verb = "open", .collection_id = OTHER_COLLECTION);
    indexer_bed_refusal(bed, 1000);
    assert_int_equal(collection_create(root, &spec, NULL), 0);
    wire_say(bed->channel, indexer_ask, .request = 1001, .verb = "open", .collection_id = OTHER_COLLECTION);
    indexer_bed_answer(bed, 1001);
    _cleanup_free_ char *folder =
        text_format("%s/" OTHER_COLLECTION "/indexes/dddddddd-0000-4000-8000-000000000001", root);
    assert_true(fs_exists(folder));
}

static void a_collection_that_is_deleted_is_let_go(void **state) { /* X8 */
    struct indexer_bed *bed = start(state);
    indexer_bed_replica_down(bed, 1);
    indexer_bed_answer(bed, create(bed, BED_GREEN, "task-1"));
    uint64_t waiting = await_ready(bed);
    uint64_t request = indexer_bed_ask(bed, "delete", "{}");
    indexer_bed_answer(bed, request);
    assert_part(indexer_bed_refusal(bed, waiting), "is being deleted");
    assert_part(indexer_bed_refusal(bed, indexer_bed_ask(bed, "open", "{}")), "is being deleted");
    indexer_bed_answer(bed, indexer_bed_ask(bed, "delete", "{}"));
    indexer_bed_close_writes(bed);
    _cleanup_free_ char *root = fs_join(bed->folder, "collections");
    assert_int_equal(collection_remove(root, BED_COLLECTION, NULL), 0);
    assert_part(indexer_bed_refusal(bed, indexer_bed_ask(bed, "open", "{}")), "ResourceNotFoundError");
    indexer_bed_answer(bed, indexer_bed_ask(bed, "delete", "{}"));
}

static void a_kill_in_the_middle_of_a_delete_is_gone_on_from(void **state) {
    struct indexer_bed *bed = start(state);
    indexer_bed_arm(bed, "collection_marked_deleted");
    indexer_bed_ask(bed, "delete", "{}");
    indexer_bed_until(bed, indexer_bed_has_paused(bed));
    indexer_bed_kill(bed);
    indexer_bed_start(bed);
    assert_part(indexer_bed_refusal(bed, indexer_bed_ask(bed, "open", "{}")), "is being deleted");
    indexer_bed_answer(bed, indexer_bed_ask(bed, "delete", "{}"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)
    const struct CMUnitTest tests[] = {
        TEST(an_index_is_filled_and_ready),
        TEST(an_index_of_an_empty_collection_is_ready),
        TEST(an_index_that_was_left_is_taken_over),
        TEST(a_kill_while_an_index_is_made_or_filled_is_gone_on_from),
        TEST(an_index_waits_for_its_encoder),
        TEST(an_index_that_nobody_embeds_lets_the_log_go),
        TEST(the_gate_reports_what_it_saw),
        TEST(the_gate_is_closed_for_too_many_failed_items),
        TEST(the_gate_is_closed_for_a_model_that_embeds_otherwise_now),
        TEST(the_gate_asks_for_queries_to_compare),
        TEST(failed_items_are_tried_again),
        TEST(an_ask_of_a_collection_that_is_not_there_is_refused),
        TEST(a_collection_that_is_made_while_it_runs_is_followed),
        TEST(a_collection_that_is_deleted_is_let_go),
        TEST(a_kill_in_the_middle_of_a_delete_is_gone_on_from),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
