/* A collection's log: documents written, read, followed, compacted (rules L1, L2, L12, S9). */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/collection_bed.h"
#include "support/scratch.h"

static int set_up(void **state) {
    *state = collection_bed_new(false);
    return 0;
}

static int tear_down(void **state) {
    collection_bed_free(*state);
    return 0;
}

/* ---- the folder ---- */

static void a_collection_is_made_whole_and_once(void **state) {
    struct collection_bed *bed = *state;
    assert_true(scratch_exists(bed->folder, "documents.db"));
    assert_true(scratch_exists(bed->folder, "indexes"));
    assert_false(scratch_exists(bed->folder, "queries.db"));
    assert_int_equal(scratch_count(bed->root, "."), 1); /* nothing is left beside it */
    bed_put(bed, "a", "text");
    REQUIRE(collection_bed_create(bed->root, false, &error));
    assert_int_equal(bed_head(bed), 1); /* and it is still that one */
}

static void what_a_broken_attempt_left_is_no_collection_and_goes(void **state) {
    struct collection_bed *bed = *state;
    scratch_make_folder(bed->root, "other");
    _cleanup_free_ char *root = scratch_path(bed->root, "other");
    scratch_write_text(root, ".new-" BED_COLLECTION "/documents.db", "half");
    REQUIRE(collection_bed_create(root, true, &error));
    assert_int_equal(scratch_count(root, "."), 1);
    _cleanup_free_ char *folder = scratch_path(root, BED_COLLECTION);
    struct collection *collection = NULL;
    REQUIRE(collection_open(folder, COLLECTION_READS, &collection, &error));
    collection_close(collection);
}

static void a_collection_that_is_not_there_is_transiently_so(void **state) {
    struct collection_bed *bed = *state;
    static const enum collection_use uses[] = {COLLECTION_APPENDS, COLLECTION_INDEXES, COLLECTION_READS};
    _cleanup_free_ char *folder = scratch_path(bed->root, "missing");
    for (size_t i = 0; i < ARRAY_SIZE(uses); i++) {
        struct collection *collection = NULL;
        struct error *error = NULL;
        int result = collection_open(folder, uses[i], &collection, &error);
        assert_true(result < 0 && error->transient);
        bed_refused(result, error, ERROR_UNAVAILABLE, "not there yet", "collection_open");
        assert_null(collection);
    }
    assert_false(scratch_exists(bed->root, "missing"));
}

static void a_collection_is_removed_with_all_in_it_and_again(void **state) {
    struct collection_bed *bed = *state;
    collection_bed_close(bed);
    scratch_write_text(bed->folder, "indexes/x/tail", "rows");
    REQUIRE(collection_remove(bed->root, BED_COLLECTION, &error));
    assert_int_equal(scratch_count(bed->root, "."), 0);
    REQUIRE(collection_remove(bed->root, BED_COLLECTION, &error));
}

static void S9_each_log_has_an_id_of_its_own(void **state) {
    struct collection_bed *bed = *state, *other = collection_bed_new(true);
    char *ids[3];
    for (int i = 0; i < 3; i++) {
        struct collection_read *read = bed_read(i ? other : bed, i == 2 ? COLLECTION_QUERIES : COLLECTION_DOCUMENTS);
        struct collection_facts facts;
        REQUIRE(collection_load_facts(read, &facts, &error));
        ids[i] = text_copy(facts.log_id);
        assert_true(text_is_uuid(facts.log_id));
        assert_string_equal(facts.name, "things");
        assert_string_equal(facts.metric, "cosine");
        assert_int_equal(facts.keep_queries, i > 0);
        assert_false(facts.deleted);
        collection_facts_clear(&facts);
        collection_read_end(read);
    }
    assert_string_not_equal(ids[0], ids[1]);
    assert_string_not_equal(ids[1], ids[2]);
    for (int i = 0; i < 3; i++) free(ids[i]);
    collection_bed_free(other);
}

/* ---- writing and reading ---- */

static void L1_a_write_has_the_next_number_and_what_it_takes_the_place_of(void **state) {
    struct collection_bed *bed = *state;
    struct collection_write writes[] = {
        {.id = "a", .text = "one", .payload_json = "{\"n\":1}"},
        {.id = "b", .text = "two"},
        {.id = "a", .text = "three"},
        {.id = "b"},
        {.id = "b"},
        {.id = "never"},
        {.id = "b", .text = "four"},
    };
    uint64_t head;
    REQUIRE(collection_append(bed->writes, writes, ARRAY_SIZE(writes), &head, &error));
    static const uint64_t numbers[] = {1, 2, 3, 4, 0, 0, 5}, previous[] = {0, 0, 0, 1, 2, 4};
    for (size_t i = 0; i < ARRAY_SIZE(writes); i++) assert_int_equal(writes[i].seq, numbers[i]);
    assert_int_equal(head, 5);
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    assert_int_equal(collection_head(read), 5);
    assert_int_equal(collection_live(read), 2);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        _cleanup_collection_row_ struct collection_row row = {0};
        assert_int_equal(collection_find_seq(read, seq, true, &row, NULL), 1);
        assert_int_equal(row.previous, previous[seq]);
        assert_int_equal(row.seq, seq);
        assert_true(row.at > 0);
        assert_int_equal(!row.text, seq == 4);
        if (seq == 1) assert_string_equal(row.payload_json, "{\"n\":1}");
        if (seq == 2) assert_string_equal(row.payload_json, "{}");
        _cleanup_collection_row_ struct collection_row bare = {0};
        assert_int_equal(collection_find_seq(read, seq, false, &bare, NULL), 1);
        assert_null(bare.text);
        assert_int_equal(!bare.payload_json, seq == 4); /* the delete */
    }
    struct collection_row none;
    assert_int_equal(collection_find_seq(read, 6, true, &none, NULL), 0);
}

static void a_document_is_found_by_its_id_while_it_lives(void **state) {
    struct collection_bed *bed = *state;
    bed_put(bed, "ä/ö?", "one");
    bed_put(bed, "ä/ö?", "two");
    struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_row row;
    REQUIRE(collection_find(read, "ä/ö?", &row, &error));
    assert_string_equal(row.text, "two");
    assert_int_equal(row.seq, 2);
    collection_row_clear(&row);
    bed_delete(bed, "ä/ö?");
    REQUIRE(collection_find(read, "ä/ö?", &row, &error)); /* the moment of the read stays */
    collection_row_clear(&row);
    assert_int_equal(collection_head(read), 2);
    collection_read_end(read);
    read = bed_read(bed, COLLECTION_DOCUMENTS);
    REFUSED(collection_find(read, "ä/ö?", &row, &error), ERROR_NOT_FOUND, "ä/ö?");
    REFUSED(collection_find(read, "other", &row, &error), ERROR_NOT_FOUND, "other");
    collection_read_end(read);
}

static void a_write_that_cannot_be_taken_takes_none_of_those_beside_it(void **state) {
    struct collection_bed *bed = *state;
    char long_id[COLLECTION_ID_MAXIMUM + 2];
    memset(long_id, 'i', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = '\0';
    struct collection_write writes[] = {{.id = "a", .text = "one"}, {.id = long_id, .text = "two"}};
    uint64_t head = 77;
    REFUSED(collection_append(bed->writes, writes, 2, &head, &error), ERROR_REQUEST, "512");
    assert_int_equal(writes[0].seq, 0);
    assert_int_equal(head, 77);
    assert_int_equal(bed_head(bed), 0);
    writes[1].id = long_id + 1;
    REQUIRE(collection_append(bed->writes, writes, 2, &head, &error));
    assert_int_equal(head, 2);
}

static bool collect(void *context, const struct collection_row *row) {
    char **list = context;
    char *longer = text_format("%s%s=%s ", *list, row->id, row->text ? row->text : row->payload_json);
    free(*list);
    *list = longer;
    return !strstr(longer, "stop=");
}

static void living_documents_come_in_order_and_stop_when_told(void **state) {
    struct collection_bed *bed = *state;
    bed_put(bed, "a", "1");
    bed_put(bed, "b", "1");
    bed_put(bed, "c", "1");
    bed_put(bed, "a", "2");
    bed_delete(bed, "b");
    bed_put(bed, "stop", "!");
    bed_put(bed, "d", "1");
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    char *list = text_copy("");
    REQUIRE(collection_each_live(read, 0, true, collect, &list, &error));
    assert_string_equal(list, "c=1 a=2 stop=! ");
    free(list);
    list = text_copy("");
    REQUIRE(collection_each_live(read, 3, false, collect, &list, &error));
    assert_string_equal(list, "a={} stop={} ");
    free(list);
}

static void X8_a_collection_that_is_marked_deleted_takes_no_write(void **state) {
    struct collection_bed *bed = *state;
    bed_put(bed, "a", "1");
    REQUIRE(collection_mark_deleted(bed->indexes, &error));
    REQUIRE(collection_mark_deleted(bed->indexes, &error));
    struct collection_write write = {.id = "b", .text = "2"};
    uint64_t head;
    REFUSED(collection_append(bed->writes, &write, 1, &head, &error), ERROR_CONFLICT, "is being deleted");
    assert_int_equal(write.seq, 0);
    assert_int_equal(bed_head(bed), 1);
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_facts facts;
    REQUIRE(collection_load_facts(read, &facts, &error));
    assert_true(facts.deleted);
    collection_facts_clear(&facts);
}

/* ---- following ---- */

static void L12_a_follower_is_told_which_rows_a_newer_one_has_taken_the_place_of(void **state) {
    struct collection_bed *bed = *state;
    bed_put(bed, "a", "1"); /* 1, superseded by 3 */
    bed_put(bed, "b", "1"); /* 2, superseded by 4 */
    bed_put(bed, "a", "2"); /* 3, superseded by 6 */
    bed_delete(bed, "b"); /* 4 */
    bed_put(bed, "c", "1"); /* 5 */
    bed_put(bed, "a", "3"); /* 6 */
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_change *changes;
    size_t count;
    REQUIRE(collection_changes(read, 0, 5, 5, 100, &changes, &count, &error));
    assert_int_equal(count, 5);
    static const bool superseded[] = {true, true, false, false, false};
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(changes[i].row.seq, i + 1);
        assert_int_equal(changes[i].superseded, superseded[i]);
        assert_int_equal(!!changes[i].row.text, i == 2 || i == 4);
        assert_non_null(changes[i].row.id);
    }
    assert_int_equal(changes[2].row.previous, 1);
    assert_int_equal(changes[3].row.previous, 2);
    collection_changes_free(changes, count);
    REQUIRE(collection_changes(read, 1, 6, 6, 2, &changes, &count, &error));
    assert_int_equal(count, 2);
    assert_int_equal(changes[0].row.seq, 2);
    assert_true(changes[1].superseded); /* by 6, which this follower goes on to */
    assert_null(changes[1].row.text);
    collection_changes_free(changes, count);
    uint64_t rows, embeds;
    REQUIRE(collection_count_changes(read, 0, &rows, &embeds, &error));
    assert_int_equal(rows, 6);
    assert_int_equal(embeds, 2);
    REQUIRE(collection_count_changes(read, 5, &rows, &embeds, &error));
    assert_int_equal(rows, 1);
    assert_int_equal(embeds, 1);
    REQUIRE(collection_count_changes(read, 6, &rows, &embeds, &error));
    assert_int_equal(rows + embeds, 0);
}

/* The numbers that are in the log, as a text. */
static char *numbers(struct collection_bed *bed) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_change *changes;
    size_t count;
    REQUIRE(collection_changes(read, 0, UINT32_MAX, 0, 1000, &changes, &count, &error));
    char *text = text_copy("");
    for (size_t i = 0; i < count; i++) {
        char *longer = text_format("%s%d ", text, (int)changes[i].row.seq);
        free(text);
        text = longer;
    }
    collection_changes_free(changes, count);
    return text;
}

static void compact(struct collection_bed *bed, size_t limit) {
    bool more = true;
    while (more) REQUIRE(collection_compact(bed->indexes, COLLECTION_DOCUMENTS, limit, &more, &error));
}

#define EXPECT_NUMBERS(bed, wanted)                                                                                    \
    do {                                                                                                               \
        char *text_ = numbers(bed);                                                                                    \
        assert_string_equal(text_, wanted);                                                                            \
        free(text_);                                                                                                   \
    } while (0)

static void L2_what_every_index_has_behind_it_goes(void **state) {
    struct collection_bed *bed = *state;
    bed_put(bed, "a", "1");
    bed_put(bed, "b", "1");
    bed_put(bed, "a", "2");
    bed_delete(bed, "b");
    bed_put(bed, "b", "2");
    bed_put(bed, "a", "3");
    compact(bed, 10);
    EXPECT_NUMBERS(bed, "1 2 3 4 5 6 "); /* the blue index has nothing yet */
    REQUIRE(collection_record_durable(bed->indexes, BED_BLUE, 3, &error));
    compact(bed, 10);
    EXPECT_NUMBERS(bed, "2 3 4 5 6 ");
    bed_add_index(bed, "second", "digest-2");
    REQUIRE(collection_record_durable(bed->indexes, BED_BLUE, 6, &error));
    compact(bed, 10);
    EXPECT_NUMBERS(bed, "2 3 4 5 6 "); /* the new index holds the log from its first moment */
    REQUIRE(collection_record_durable(bed->indexes, "second", 4, &error));
    compact(bed, 1); /* by small bites */
    EXPECT_NUMBERS(bed, "3 5 6 ");
    REQUIRE(collection_set_index_state(bed->indexes, "second", "failed", "gave up", NULL, &error));
    compact(bed, 10);
    EXPECT_NUMBERS(bed, "5 6 ");
    bool dropped = false;
    REQUIRE(collection_drop_index(bed->indexes, "second", NULL, 0, &dropped, &error));
    assert_true(dropped);
}

/* ---- threads ---- */

struct crowd {
    struct collection *collection;
    int me;
    bool is_good;
};

/* Writes, and finds what it wrote in a read that began after. */
static void *write_and_find(void *context) {
    struct crowd *crowd = context;
    crowd->is_good = true;
    for (int i = 0; i < 12 && crowd->is_good; i++) {
        char id[16], text[32];
        snprintf(id, sizeof id, "%d", crowd->me);
        snprintf(text, sizeof text, "%d of %d", i, crowd->me);
        struct collection_write write = {.id = id, .text = text};
        uint64_t head;
        _cleanup_read_ struct collection_read *read = NULL;
        _cleanup_collection_row_ struct collection_row row = {0};
        crowd->is_good = !collection_append(crowd->collection, &write, 1, &head, NULL) &&
                         !collection_read_begin(crowd->collection, COLLECTION_DOCUMENTS, &read, NULL) &&
                         !collection_find(read, id, &row, NULL) && row.seq == write.seq && !strcmp(row.text, text) &&
                         collection_head(read) >= head;
    }
    return NULL;
}

static void any_thread_may_call_at_any_time(void **state) {
    struct collection_bed *bed = *state;
    enum { THREADS = 20 }; /* more than are kept connected when they rest */
    struct crowd crowds[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        crowds[i] = (struct crowd){.collection = bed->writes, .me = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_find, &crowds[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) assert_true(crowds[i].is_good);
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    assert_int_equal(collection_live(read), THREADS);
    assert_int_equal(collection_head(read), THREADS * 12);
}

static void *end_read(void *read) {
    collection_read_end(read);
    return NULL;
}

static void a_read_may_end_on_another_thread(void **state) {
    struct collection_bed *bed = *state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, end_read, bed_read(bed, COLLECTION_DOCUMENTS)), 0);
    pthread_join(thread, NULL);
    collection_read_end(bed_read(bed, COLLECTION_DOCUMENTS));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_collection_is_made_whole_and_once),
        TEST(what_a_broken_attempt_left_is_no_collection_and_goes),
        TEST(a_collection_that_is_not_there_is_transiently_so),
        TEST(a_collection_is_removed_with_all_in_it_and_again),
        TEST(S9_each_log_has_an_id_of_its_own),
        TEST(L1_a_write_has_the_next_number_and_what_it_takes_the_place_of),
        TEST(a_document_is_found_by_its_id_while_it_lives),
        TEST(a_write_that_cannot_be_taken_takes_none_of_those_beside_it),
        TEST(living_documents_come_in_order_and_stop_when_told),
        TEST(X8_a_collection_that_is_marked_deleted_takes_no_write),
        TEST(L12_a_follower_is_told_which_rows_a_newer_one_has_taken_the_place_of),
        TEST(L2_what_every_index_has_behind_it_goes),
        TEST(any_thread_may_call_at_any_time),
        TEST(a_read_may_end_on_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
