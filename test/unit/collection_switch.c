/* The list of indexes, the pair and its switch (rules S4, L2, L7, L9, X3, X4, X6, X8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/collection_bed.h"

static int set_up(void **state) {
    *state = collection_bed_new(true);
    return 0;
}

static int tear_down(void **state) {
    collection_bed_free(*state);
    return 0;
}

#define EXPECT_STATE(bed, index_id, wanted)                                                                            \
    do {                                                                                                               \
        char *state_ = bed_state(bed, index_id);                                                                       \
        assert_string_equal(state_, wanted);                                                                           \
        free(state_);                                                                                                  \
    } while (0)

static struct collection_pair load_pair(struct collection_bed *bed) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_pair pair;
    REQUIRE(collection_load_pair(read, &pair, &error));
    return pair;
}

static struct collection_index load_index(struct collection_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_index index;
    REQUIRE(collection_load_index(read, index_id, &index, &error));
    return index;
}

static size_t count_events(struct collection_bed *bed, const char *kind) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_event *events;
    size_t count, found = 0;
    REQUIRE(collection_list_events(read, 0, 1000, &events, &count, &error));
    for (size_t i = 0; i < count; i++) found += !strcmp(events[i].kind, kind);
    collection_events_free(events, count);
    return found;
}

static int64_t epoch_of(struct collection_bed *bed, const char *index_id) {
    struct collection_index index = load_index(bed, index_id);
    int64_t epoch = index.epoch;
    collection_index_clear(&index);
    return epoch;
}

static int64_t flip(struct collection_bed *bed, const char *task, const char *to) {
    int64_t epoch = 0;
    REQUIRE(collection_begin_switch(bed->indexes, task, to, &error));
    REQUIRE(collection_flip(bed->indexes, task, to, 0, &epoch, &error));
    return epoch;
}

/* ---- the list ---- */

static void the_first_pair_is_blue_at_once(void **state) {
    struct collection_bed *bed = *state;
    struct collection_pair pair = load_pair(bed);
    assert_int_equal(pair.epoch, 1);
    assert_string_equal(pair.index_id, BED_BLUE);
    assert_string_equal(pair.query_index_id, BED_BLUE_QUERIES);
    assert_string_equal(pair.deployment_id, "deployment-1");
    assert_string_equal(pair.encoder_digest, "digest-1");
    assert_null(pair.switching_task);
    collection_pair_clear(&pair);
    EXPECT_STATE(bed, BED_BLUE, "blue");
    EXPECT_STATE(bed, BED_BLUE_QUERIES, "blue");
    struct collection_index *indexes;
    size_t count;
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    REQUIRE(collection_list_indexes(read, &indexes, &count, &error));
    assert_int_equal(count, 2);
    assert_int_equal(indexes[0].set, COLLECTION_DOCUMENTS);
    assert_string_equal(indexes[0].partner_id, BED_BLUE_QUERIES);
    assert_int_equal(indexes[1].set, COLLECTION_QUERIES);
    assert_string_equal(indexes[1].partner_id, BED_BLUE);
    assert_int_equal(indexes[1].dimension, 4);
    collection_indexes_free(indexes, count);
}

static void an_index_that_a_broken_attempt_left_is_taken_over(void **state) {
    struct collection_bed *bed = *state;
    bed_add_index(bed, "two", "digest-2");
    const struct collection_index again = {.index_id = "three",
                                           .deployment_id = "deployment-3",
                                           .encoder_digest = "digest-2",
                                           .task_id = "task-3",
                                           .revision = 7,
                                           .dimension = 8};
    _cleanup_free_ char *taken = NULL;
    REQUIRE(collection_add_index(bed->indexes, &again, "three-queries", &taken, &error));
    assert_string_equal(taken, "two");
    struct collection_index index = load_index(bed, "two");
    assert_string_equal(index.task_id, "task-3");
    assert_string_equal(index.deployment_id, "deployment-3");
    assert_int_equal(index.revision, 7);
    collection_index_clear(&index);
    index = load_index(bed, "two-queries");
    assert_string_equal(index.task_id, "task-3");
    collection_index_clear(&index);
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    REFUSED(collection_load_index(read, "three", &index, &error), ERROR_NOT_FOUND, "three");
}

static void a_failed_index_is_never_resumed_and_takes_its_query_index_along(void **state) {
    struct collection_bed *bed = *state;
    bed_add_index(bed, "two", "digest-2");
    REQUIRE(collection_set_index_state(bed->indexes, "two-queries", "failed", "no progress", NULL, &error));
    EXPECT_STATE(bed, "two", "failed");
    EXPECT_STATE(bed, "two-queries", "failed");
    static const char *const states[] = {"filling", "ready", "blue", "rollback"};
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        REFUSED(collection_set_index_state(bed->indexes, "two", states[i], NULL, NULL, &error), ERROR_CONFLICT,
                "it is failed");
    REFUSED(collection_restart_index(bed->indexes, "two", "why", &error), ERROR_CONFLICT, "it is failed");
    REFUSED(collection_record_durable(bed->indexes, "two", 1, &error), ERROR_CONFLICT, "it is failed");
    bed_add_index(bed, "three", "digest-2"); /* the same encoder, and not that index */
    EXPECT_STATE(bed, "three", "filling");
    REQUIRE(collection_set_index_state(bed->indexes, "two", "deleting", NULL, NULL, &error));
    EXPECT_STATE(bed, "two-queries", "deleting");
}

static void states_follow_each_other_as_the_table_says(void **state) {
    struct collection_bed *bed = *state;
    static const char *const refused[][2] = {
        {BED_BLUE, "failed"}, {BED_BLUE, "deleting"}, {BED_BLUE, "ready"}, {"two", "blue"}, {"two", "rollback"}};
    bed_add_index(bed, "two", "digest-2");
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
        REFUSED(collection_set_index_state(bed->indexes, refused[i][0], refused[i][1], NULL, NULL, &error),
                ERROR_CONFLICT, "cannot become");
    size_t events = count_events(bed, "index");
    REQUIRE(collection_set_index_state(bed->indexes, "two", "ready", NULL, "task-9", &error));
    assert_int_equal(count_events(bed, "index"), events + 1); /* S4 */
    REQUIRE(collection_set_index_state(bed->indexes, "two", "ready", "as before", NULL, &error));
    assert_int_equal(count_events(bed, "index"), events + 1);
    REFUSED(collection_set_index_state(bed->indexes, "two", "filling", NULL, NULL, &error), ERROR_CONFLICT,
            "it is ready");
    REFUSED(collection_set_index_state(bed->indexes, "none", "ready", NULL, NULL, &error), ERROR_NOT_FOUND, "none");
}

static void L7_an_index_that_is_set_aside_begins_at_nothing_and_is_not_ready(void **state) {
    struct collection_bed *bed = *state;
    bed_put(bed, "a", "1");
    bed_add_index(bed, "two", "digest-2");
    bed_make_ready(bed, "two", 1);
    const struct collection_failure failure = {.seq = 1, .id = "a", .stage = "inference", .detail = "d", .attempts = 1};
    REQUIRE(collection_record_failures(bed->indexes, "two", &failure, 1, NULL, 0, &error));
    REQUIRE(collection_restart_index(bed->indexes, "two", "a checksum failed", &error));
    struct collection_index index = load_index(bed, "two");
    assert_int_equal(index.durable_seq, 0);
    assert_string_equal(index.state, "filling");
    assert_string_equal(index.detail, "a checksum failed");
    collection_index_clear(&index);
    REQUIRE(collection_restart_index(bed->indexes, BED_BLUE, "another log", &error));
    EXPECT_STATE(bed, BED_BLUE, "blue");
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    char *detail;
    assert_int_equal(collection_find_failure(read, "two", 1, &detail, NULL), 0);
}

static void a_durable_number_never_goes_back_nor_beyond_the_log(void **state) {
    struct collection_bed *bed = *state;
    bed_put(bed, "a", "1");
    bed_put(bed, "a", "2");
    REQUIRE(collection_record_durable(bed->indexes, BED_BLUE, 2, &error));
    REQUIRE(collection_record_durable(bed->indexes, BED_BLUE, 1, &error));
    struct collection_index index = load_index(bed, BED_BLUE);
    assert_int_equal(index.durable_seq, 2);
    assert_true(index.progress_at > 0);
    collection_index_clear(&index);
    REFUSED(collection_record_durable(bed->indexes, BED_BLUE, 3, &error), ERROR_CONFLICT, "ends at 2");
    REFUSED(collection_record_durable(bed->indexes, "none", 1, &error), ERROR_NOT_FOUND, "none");
}

static void L9_failed_items_are_kept_counted_and_cleared(void **state) {
    struct collection_bed *bed = *state;
    struct collection_failure items[3];
    for (size_t i = 0; i < 3; i++)
        items[i] = (struct collection_failure){
            .seq = i + 4, .id = "a", .stage = "inference", .detail = "refused", .attempts = 1};
    REQUIRE(collection_record_failures(bed->indexes, BED_BLUE, items, 3, NULL, 0, &error));
    items[0].attempts = 2;
    items[0].detail = "refused again";
    const uint64_t cleared[] = {5, 99};
    REQUIRE(collection_record_failures(bed->indexes, BED_BLUE, items, 1, cleared, 2, &error));
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_failure *found;
    size_t count;
    uint64_t total;
    REQUIRE(collection_list_failures(read, BED_BLUE, 0, 1, &found, &count, &total, &error));
    assert_int_equal(count, 1);
    assert_int_equal(total, 2);
    assert_int_equal(found[0].attempts, 2);
    assert_string_equal(found[0].stage, "inference");
    collection_failures_free(found, count);
    REQUIRE(collection_list_failures(read, BED_BLUE, 4, 10, &found, &count, &total, &error));
    assert_int_equal(count, 1);
    assert_int_equal(found[0].seq, 6);
    collection_failures_free(found, count);
    REQUIRE(collection_list_failures(read, BED_BLUE, 0, 0, &found, &count, &total, &error));
    assert_int_equal(count, 0);
    assert_int_equal(total, 2);
    collection_failures_free(found, count);
    _cleanup_free_ char *detail = NULL;
    assert_int_equal(collection_find_failure(read, BED_BLUE, 4, &detail, NULL), 1);
    assert_string_equal(detail, "refused again");
    REQUIRE(collection_record_failures(bed->indexes, "no longer listed", items, 1, NULL, 0, &error));
    REQUIRE(collection_list_failures(read, "no longer listed", 0, 0, &found, &count, &total, &error));
    assert_int_equal(total, 0);
}

/* ---- the switch ---- */

static void X4_a_flip_changes_pair_query_pair_epoch_and_states_together(void **state) {
    struct collection_bed *bed = *state;
    bed_put(bed, "a", "1");
    bed_add_index(bed, "two", "digest-2");
    bed_make_ready(bed, "two", 1);
    REQUIRE(collection_begin_switch(bed->indexes, "task-s", "two", &error));
    struct collection_pair pair = load_pair(bed);
    assert_string_equal(pair.switching_task, "task-s");
    assert_string_equal(pair.switching_to, "two");
    assert_true(pair.switching_since > 0);
    assert_string_equal(pair.index_id, BED_BLUE);
    collection_pair_clear(&pair);
    int64_t epoch;
    size_t events = count_events(bed, "pair");
    REQUIRE(collection_flip(bed->indexes, "task-s", "two", 1, &epoch, &error));
    assert_int_equal(epoch, 2);
    assert_int_equal(count_events(bed, "pair"), events + 1);
    REQUIRE(collection_flip(bed->indexes, "task-s", "two", 99, &epoch, &error)); /* X2: repeated safely */
    REQUIRE(collection_begin_switch(bed->indexes, "task-s", "two", &error));
    REQUIRE(collection_abort_switch(bed->indexes, "task-s", "late", &error));
    assert_int_equal(epoch, 2);
    assert_int_equal(count_events(bed, "pair"), events + 1);
    pair = load_pair(bed);
    assert_int_equal(pair.epoch, 2);
    assert_string_equal(pair.index_id, "two");
    assert_string_equal(pair.query_index_id, "two-queries");
    assert_string_equal(pair.deployment_id, "deployment-2");
    assert_string_equal(pair.encoder_digest, "digest-2");
    assert_int_equal(pair.revision, 2);
    assert_string_equal(pair.flipped_by, "task-s");
    assert_string_equal(pair.source_index_id, BED_BLUE);
    assert_null(pair.switching_task);
    assert_null(pair.switching_to);
    collection_pair_clear(&pair);
    static const char *const states[][2] = {
        {"two", "blue"}, {"two-queries", "blue"}, {BED_BLUE, "rollback"}, {BED_BLUE_QUERIES, "rollback"}};
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        EXPECT_STATE(bed, states[i][0], states[i][1]);
        assert_int_equal(epoch_of(bed, states[i][0]), 2);
    }
}

static void X4_each_condition_of_a_flip_holds_it_up_by_itself(void **state) {
    struct collection_bed *bed = *state;
    int64_t epoch = 0;
    bed_put(bed, "a", "1");
    bed_put(bed, "b", "1");
    bed_add_index(bed, "two", "digest-2");
    REFUSED(collection_begin_switch(bed->indexes, "task-s", "none", &error), ERROR_NOT_FOUND, "none");
    REFUSED(collection_begin_switch(bed->indexes, "task-s", "two", &error), ERROR_CONFLICT, "filling, not ready");
    REFUSED(collection_begin_switch(bed->indexes, "task-s", BED_BLUE, &error), ERROR_CONFLICT, "blue, not ready");
    REQUIRE(collection_record_durable(bed->indexes, "two", 1, &error));
    REQUIRE(collection_set_index_state(bed->indexes, "two", "ready", NULL, NULL, &error));
    REFUSED(collection_begin_switch(bed->indexes, "task-s", "two", &error), ERROR_CONFLICT, "two-queries is filling");
    REQUIRE(collection_set_index_state(bed->indexes, "two-queries", "ready", NULL, NULL, &error));
    REFUSED(collection_begin_switch(bed->indexes, "task-s", "two-queries", &error), ERROR_CONFLICT, "one of queries");
    REFUSED(collection_flip(bed->indexes, "task-s", "two", 1, &epoch, &error), ERROR_CONFLICT, "no switch was begun");
    REQUIRE(collection_begin_switch(bed->indexes, "task-s", "two", &error));
    REQUIRE(collection_begin_switch(bed->indexes, "task-s", "two", &error));
    REFUSED(collection_begin_switch(bed->indexes, "other", "two", &error), ERROR_CONFLICT, "task-s is switching");
    REFUSED(collection_flip(bed->indexes, "other", "two", 1, &epoch, &error), ERROR_CONFLICT, "another task");
    REFUSED(collection_flip(bed->indexes, "task-s", "two", 2, &epoch, &error), ERROR_CONFLICT, "durable up to 1");
    REQUIRE(collection_abort_switch(bed->indexes, "other", "not its", &error));
    REQUIRE(collection_abort_switch(bed->indexes, "task-s", "gave up", &error));
    REFUSED(collection_flip(bed->indexes, "task-s", "two", 1, &epoch, &error), ERROR_CONFLICT, "given up");
    REQUIRE(collection_begin_switch(bed->indexes, "task-s", "two", &error));
    REQUIRE(collection_restart_index(bed->indexes, "two", "set aside", &error));
    REFUSED(collection_flip(bed->indexes, "task-s", "two", 0, &epoch, &error), ERROR_CONFLICT, "filling");
    REQUIRE(collection_set_index_state(bed->indexes, "two", "ready", NULL, NULL, &error));
    REQUIRE(collection_mark_deleted(bed->indexes, &error));
    REFUSED(collection_flip(bed->indexes, "task-s", "two", 0, &epoch, &error), ERROR_CONFLICT, "is being deleted");
    assert_int_equal(epoch, 0);
    struct collection_pair pair = load_pair(bed);
    assert_int_equal(pair.epoch, 1);
    assert_string_equal(pair.index_id, BED_BLUE);
    collection_pair_clear(&pair);
}

static void X6_an_older_rollback_index_keeps_its_window_when_another_flip_comes(void **state) {
    struct collection_bed *bed = *state;
    bed_add_index(bed, "two", "digest-2");
    bed_make_ready(bed, "two", 0);
    bed_add_index(bed, "three", "digest-3");
    bed_make_ready(bed, "three", 0);
    assert_int_equal(flip(bed, "task-1", "two"), 2);
    assert_int_equal(flip(bed, "task-2", "three"), 3);
    EXPECT_STATE(bed, BED_BLUE, "rollback");
    assert_int_equal(epoch_of(bed, BED_BLUE), 2);
    assert_int_equal(epoch_of(bed, "two"), 3);
    assert_int_equal(flip(bed, "task-3", BED_BLUE), 4); /* back to the oldest, while its window is open */
    EXPECT_STATE(bed, "two", "rollback");
    assert_int_equal(epoch_of(bed, "two"), 3);
    assert_int_equal(epoch_of(bed, "three"), 4);
    assert_int_equal(epoch_of(bed, BED_BLUE), 4);
}

static void X6_only_the_index_of_its_own_window_is_retired(void **state) {
    struct collection_bed *bed = *state;
    bool dropped;
    bed_add_index(bed, "two", "digest-2");
    bed_make_ready(bed, "two", 0);
    flip(bed, "task-1", "two");
    REQUIRE(collection_drop_index(bed->indexes, BED_BLUE, "rollback", 3, &dropped, &error));
    assert_false(dropped); /* another window */
    REQUIRE(collection_drop_index(bed->indexes, "two", NULL, 0, &dropped, &error));
    assert_false(dropped); /* blue */
    REQUIRE(collection_drop_index(bed->indexes, "two-queries", NULL, 0, &dropped, &error));
    assert_false(dropped);
    REQUIRE(collection_begin_switch(bed->indexes, "task-back", BED_BLUE, &error));
    struct error *error = NULL;
    int result = collection_drop_index(bed->indexes, BED_BLUE, "rollback", 2, &dropped, &error);
    assert_true(error && error->transient);
    bed_refused(result, error, ERROR_CONFLICT, "task-back is switching to it", "a rollback races the window's end");
    int64_t epoch;
    REQUIRE(collection_flip(bed->indexes, "task-back", BED_BLUE, 0, &epoch, &error));
    REQUIRE(collection_drop_index(bed->indexes, BED_BLUE, "rollback", 2, &dropped, &error));
    assert_false(dropped); /* rolled back */
    const struct collection_failure failure = {.seq = 1, .id = "a", .stage = "other", .detail = "d", .attempts = 1};
    REQUIRE(collection_record_failures(bed->indexes, "two", &failure, 1, NULL, 0, &error));
    REQUIRE(collection_drop_index(bed->indexes, "two", "rollback", epoch, &dropped, &error));
    assert_true(dropped);
    dropped = false;
    REQUIRE(collection_drop_index(bed->indexes, "two", "rollback", epoch, &dropped, &error));
    assert_true(dropped); /* asked again after a crash */
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_index index;
    REFUSED(collection_load_index(read, "two", &index, &error), ERROR_NOT_FOUND, "two");
    REFUSED(collection_load_index(read, "two-queries", &index, &error), ERROR_NOT_FOUND, "two");
    char *detail;
    assert_int_equal(collection_find_failure(read, "two", 1, &detail, NULL), 0);
}

static void S4_events_come_in_order_and_from_where_one_was(void **state) {
    struct collection_bed *bed = *state;
    bed_add_index(bed, "two", "digest-2");
    bed_make_ready(bed, "two", 0);
    flip(bed, "task-1", "two");
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_event *events;
    size_t count;
    REQUIRE(collection_list_events(read, 0, 100, &events, &count, &error));
    assert_true(count > 4);
    assert_string_equal(events[0].kind, "collection");
    for (size_t i = 1; i < count; i++) assert_true(events[i].id > events[i - 1].id);
    assert_string_equal(events[count - 1].task_id, "task-1");
    assert_non_null(strstr(events[count - 1].data_json, "\"epoch\":2"));
    int64_t last = events[count - 2].id;
    collection_events_free(events, count);
    REQUIRE(collection_list_events(read, last, 100, &events, &count, &error));
    assert_int_equal(count, 1);
    collection_events_free(events, count);
}

/* ---- kept queries ---- */

static void L10_a_query_is_kept_once_and_counted(void **state) {
    struct collection_bed *bed = *state;
    const char *texts[] = {"red shoes", "blue shoes", "red shoes"};
    uint64_t head, count = 0;
    int64_t seen = 0;
    REQUIRE(collection_note_queries(bed->writes, texts, 3, 100, &head, &error));
    assert_int_equal(head, 2);
    REQUIRE(collection_note_queries(bed->writes, texts, 1, 100, &head, &error));
    assert_int_equal(head, 2);
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_QUERIES);
    assert_int_equal(collection_live(read), 2);
    _cleanup_collection_row_ struct collection_row row = {0};
    assert_int_equal(collection_find_seq(read, 1, true, &row, NULL), 1);
    assert_string_equal(row.text, "red shoes");
    assert_int_equal(collection_query_seen(read, row.id, &count, &seen, NULL), 1);
    assert_int_equal(count, 3);
    assert_true(seen > 0);
    assert_int_equal(collection_query_seen(read, "none", &count, &seen, NULL), 0);
}

static void L10_above_the_ceiling_the_queries_not_seen_for_longest_go(void **state) {
    struct collection_bed *bed = *state;
    const char *texts[] = {"a", "b", "c", "d"};
    uint64_t head;
    REQUIRE(collection_note_queries(bed->writes, texts, 4, 2, &head, &error));
    assert_int_equal(head, 6);
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_QUERIES);
    assert_int_equal(collection_live(read), 2);
    struct collection_change *changes;
    size_t count;
    REQUIRE(collection_changes(read, 0, head, head, 100, &changes, &count, &error));
    assert_int_equal(count, 6);
    assert_true(changes[0].superseded && changes[1].superseded);
    assert_null(changes[4].row.text);
    assert_int_equal(changes[4].row.previous, 1);
    collection_changes_free(changes, count);
    const char *again[] = {"a"};
    REQUIRE(collection_note_queries(bed->writes, again, 1, 2, &head, &error));
    assert_int_equal(head, 8); /* it comes, and another goes */
    REQUIRE(collection_record_durable(bed->indexes, BED_BLUE_QUERIES, 8, &error));
    bool more;
    REQUIRE(collection_compact(bed->indexes, COLLECTION_QUERIES, 100, &more, &error));
    collection_read_end(read);
    read = bed_read(bed, COLLECTION_QUERIES);
    REQUIRE(collection_changes(read, 0, head, head, 100, &changes, &count, &error));
    assert_int_equal(count, 2);
    collection_changes_free(changes, count);
}

static void a_collection_without_queries_says_so(void **state) {
    struct collection_bed *bed = collection_bed_new(false);
    (void)state;
    const char *texts[] = {"a"};
    uint64_t head;
    struct collection_read *read;
    REFUSED(collection_note_queries(bed->writes, texts, 1, 2, &head, &error), ERROR_NOT_FOUND, "keeps no queries");
    REFUSED(collection_read_begin(bed->writes, COLLECTION_QUERIES, &read, &error), ERROR_NOT_FOUND, "keeps no queries");
    collection_bed_free(bed);
}

static void X8_a_deleted_collection_keeps_no_query_and_gets_no_index(void **state) {
    struct collection_bed *bed = *state;
    REQUIRE(collection_mark_deleted(bed->indexes, &error));
    const char *texts[] = {"a"};
    uint64_t head;
    char *index_id;
    const struct collection_index index = {
        .index_id = "i", .deployment_id = "d", .encoder_digest = "e", .revision = 1, .dimension = 2};
    REFUSED(collection_note_queries(bed->writes, texts, 1, 2, &head, &error), ERROR_CONFLICT, "is being deleted");
    REFUSED(collection_add_index(bed->indexes, &index, NULL, &index_id, &error), ERROR_CONFLICT, "is being deleted");
    REFUSED(collection_begin_switch(bed->indexes, "t", BED_BLUE, &error), ERROR_CONFLICT, "is being deleted");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_first_pair_is_blue_at_once),
        TEST(an_index_that_a_broken_attempt_left_is_taken_over),
        TEST(a_failed_index_is_never_resumed_and_takes_its_query_index_along),
        TEST(states_follow_each_other_as_the_table_says),
        TEST(L7_an_index_that_is_set_aside_begins_at_nothing_and_is_not_ready),
        TEST(a_durable_number_never_goes_back_nor_beyond_the_log),
        TEST(L9_failed_items_are_kept_counted_and_cleared),
        TEST(X4_a_flip_changes_pair_query_pair_epoch_and_states_together),
        TEST(X4_each_condition_of_a_flip_holds_it_up_by_itself),
        TEST(X6_an_older_rollback_index_keeps_its_window_when_another_flip_comes),
        TEST(X6_only_the_index_of_its_own_window_is_retired),
        TEST(S4_events_come_in_order_and_from_where_one_was),
        TEST(L10_a_query_is_kept_once_and_counted),
        TEST(L10_above_the_ceiling_the_queries_not_seen_for_longest_go),
        cmocka_unit_test(a_collection_without_queries_says_so),
        TEST(X8_a_deleted_collection_keeps_no_query_and_gets_no_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
