/* Power cuts of each part alone (rules S1, L1, L6, L10): what was acknowledged is there after the next boot, what a
 * number says is durable is, and nothing is half there. Each is cut in place of every call that writes, names or syncs.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/power_trial.h"
#include "support/scratch.h"
#include "support/vector_bed.h"
#include "vector/vector.h"

enum { NOTE_ACKNOWLEDGED, NOTE_DURABLE };

/* ---- the harness itself ---- */

static void write_file(const char *folder, const char *name, const char *text, bool sync) {
    _cleanup_free_ char *path = scratch_path(folder, name);
    _cleanup_close_ int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHILD_CHECK(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    if (sync) CHILD_CHECK(fsync(file) == 0);
}

static void write_with_and_without_syncs(struct power *power, void *context) {
    (void)power;
    write_file(context, "synced", "kept", true);
    CHILD_CHECK(fs_sync_folder(context, NULL) == 0);
    write_file(context, "synced", "over", false);
    write_file(context, "unsynced", "perhaps", false);
    write_file(context, "nameless", "perhaps", true);
}

static void only_what_was_synced_is_certain(void **state) {
    (void)state;
    enum { KEPT, OVER, NO_NAME, NAME, EMPTY, FULL, KINDS };
    bool seen[KINDS] = {false};
    for (uint64_t seed = 0; seed < 40; seed++) {
        char *folder = scratch_new();
        struct power *power = power_new(folder, seed);
        _cleanup_free_ char *after = text_format("%s-after", folder);
        assert_false(power_run(power, 0, write_with_and_without_syncs, folder));
        power_restore(power, after);
        power_free(power);
        _cleanup_free_ char *synced = scratch_read(after, "synced", NULL),
                            *other = scratch_read(after, "unsynced", NULL),
                            *nameless = scratch_read(after, "nameless", NULL);
        assert_non_null(synced);
        assert_true(!strcmp(synced, "kept") || !strcmp(synced, "over"));
        seen[strcmp(synced, "kept") ? OVER : KEPT] = true;
        seen[nameless ? NAME : NO_NAME] = true;
        if (nameless) assert_string_equal(nameless, "perhaps");
        if (other) seen[!strcmp(other, "perhaps") ? FULL : EMPTY] = true;
        scratch_free(folder);
        REQUIRE(fs_remove_tree(after, &error));
    }
    for (int kind = 0; kind < KINDS; kind++) assert_true(seen[kind]);
}

/* ---- the collection alone ---- */

static void create_collection(struct power *power, const char *folder) {
    CHILD_CHECK(collection_bed_create(folder, true, NULL) == 0);
    atomic_store(&power_notes(power)[NOTE_ACKNOWLEDGED], 1);
}

static void check_created(struct power *power, const char *folder) {
    bool is_there = scratch_exists(folder, BED_COLLECTION);
    if (atomic_load(&power_notes(power)[NOTE_ACKNOWLEDGED])) assert_true(is_there);
    if (!is_there) REQUIRE(collection_bed_create(folder, true, &error));
    _cleanup_free_ char *made = scratch_path(folder, BED_COLLECTION);
    struct collection_bed bed = {.folder = made};
    collection_bed_open(&bed);
    assert_int_equal(bed_put(&bed, "a", "text"), 1);
    collection_bed_close(&bed);
    trial_check_database(made, "documents.db");
    trial_check_database(made, "queries.db");
}

static void a_collection_is_whole_or_not_there_after_a_power_cut_at_any_call(void **state) {
    (void)state;
    static const struct trial trial = {trial_prepare_nothing, create_collection, check_created};
    trial_cut_everywhere(&trial, 30);
}

static uint64_t keep_query(struct collection *collection, int number) {
    char query[32];
    snprintf(query, sizeof query, "query %d", number);
    const char *texts[] = {query};
    uint64_t head;
    CHILD_CHECK(collection_note_queries(collection, texts, 1, 1000, &head, NULL) == 0);
    return head;
}

static void keep_collection(struct power *power, const char *folder) {
    struct collection_bed bed = {.folder = (char *)folder};
    _Atomic uint64_t *notes = power_notes(power);
    uint64_t step = 1, head = 0;
    bool more;
    trial_open(&bed);
    for (int round = 1; round <= 9; round++) {
        size_t count = 1 + trial_mix(step) % 4;
        trial_write_steps(bed.writes, step, count, &head);
        step += count;
        atomic_store(&notes[NOTE_ACKNOWLEDGED], head);
        uint64_t queries = keep_query(bed.writes, round);
        if (round % 3 == 0) {
            CHILD_CHECK(collection_record_durable(bed.indexes, BED_BLUE, head, NULL) == 0);
            atomic_store(&notes[NOTE_DURABLE], head);
            CHILD_CHECK(collection_compact(bed.indexes, COLLECTION_DOCUMENTS, 4, &more, NULL) == 0);
        }
        if (round % 4 == 0) CHILD_CHECK(collection_record_durable(bed.indexes, BED_BLUE_QUERIES, queries, NULL) == 0);
        if (round % 5) continue;
        collection_bed_close(&bed); /* the log goes into the database, and is gone */
        trial_open(&bed);
    }
    collection_bed_close(&bed);
}

/* L10: what the query index holds for good is there, and the rows are the first ones that were written. */
static void check_queries(struct collection_bed *bed) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_QUERIES);
    assert_true(collection_head(read) >= trial_durable_of(bed, BED_BLUE_QUERIES));
    for (uint64_t seq = 1; seq <= collection_head(read); seq++) {
        _cleanup_collection_row_ struct collection_row row = {0};
        _cleanup_free_ char *text = text_format("query %d", (int)seq);
        assert_int_equal(collection_find_seq(read, seq, true, &row, NULL), 1);
        assert_string_equal(row.text, text);
    }
}

static void check_collection(struct power *power, const char *folder) {
    struct collection_bed bed = {.folder = (char *)folder};
    collection_bed_open(&bed);
    trial_check_documents(bed.writes, atomic_load(&power_notes(power)[NOTE_ACKNOWLEDGED]));
    assert_true(trial_durable_of(&bed, BED_BLUE) >= atomic_load(&power_notes(power)[NOTE_DURABLE]));
    check_queries(&bed);
    collection_bed_close(&bed);
    trial_check_database(folder, "documents.db");
    trial_check_database(folder, "queries.db");
}

static void S1_acknowledged_writes_outlive_a_power_cut_at_any_call(void **state) {
    (void)state;
    static const struct trial trial = {trial_prepare_collection, keep_collection, check_collection};
    trial_cut_everywhere(&trial, 100);
}

/* ---- an index alone ---- */

#define ROWS 60
#define DIMENSION 40

static struct vector_bed index_of(const char *folder, bool quantized) {
    return (struct vector_bed){.ops = &folder_vectors,
                               .folder = (char *)folder,
                               .spec = {.index_id = "8a1f0000-0000-4000-8000-000000000001",
                                        .log_id = "8a1f0000-0000-4000-8000-000000000002",
                                        .encoder_digest = "sha256:0123456789abcdef",
                                        .dimension = DIMENSION,
                                        .quantized = quantized}};
}

/* When the row with this number dies; 0: never. The rows are the numbers from 1, and each kills one before it. */
static uint64_t death_of(uint64_t born) {
    for (uint64_t dead = born + 1; dead <= ROWS; dead++)
        if (dead - 1 - trial_mix(dead) % 12 == born) return dead;
    return 0;
}

static void append_row(struct vector_bed *bed, struct vector_writer *writer, uint64_t born) {
    float row[DIMENSION];
    vector_bed_row(born, DIMENSION, row);
    CHILD_CHECK(bed->ops->append(writer, born, row, NULL) == 0);
    power_point();
    uint64_t victim = born - 1 - trial_mix(born) % 12;
    if (victim >= 1 && victim < born) bed->ops->kill(writer, victim, born);
    power_point();
    bed->ops->publish(writer, born, born);
    power_point();
}

static void prepare_index(const char *folder) {
    struct vector_bed bed = index_of(folder, false);
    REQUIRE(bed.ops->create(folder, &bed.spec, &error));
}

static void keep_index(struct power *power, const char *folder) {
    struct vector_bed bed = index_of(folder, false);
    struct vector_writer *writer = NULL;
    struct vector_state found;
    CHILD_CHECK(bed.ops->open_writer(folder, &bed.spec, 0, &writer, &found, NULL) == 0);
    bed.ops->hold(writer, 0);
    for (uint64_t born = 1; born <= ROWS; born++) {
        append_row(&bed, writer, born);
        if (born % 4) continue;
        uint64_t durable = 0;
        CHILD_CHECK(bed.ops->sync(writer, &durable, NULL) == 0);
        atomic_store(&power_notes(power)[NOTE_DURABLE], durable);
        bool more = born % 20 == 0;
        while (more) CHILD_CHECK(bed.ops->compact(writer, durable, &more, NULL) == 0);
    }
    bed.ops->close_writer(writer);
}

/* Exactly the rows that live at `seq` are seen there, each with its own numbers. */
static void check_rows(struct vector_bed *bed, uint64_t seq) {
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view = vector_bed_look(bed, reader, seq);
    assert_int_equal(bed->ops->seq(view), seq);
    uint64_t listed[ROWS + 1];
    size_t count = bed->ops->list(view, 0, listed, ROWS + 1), at = 0;
    for (uint64_t born = 1; born <= seq; born++) {
        if (death_of(born) && death_of(born) <= seq) continue;
        float kept[DIMENSION];
        assert_true(at < count);
        assert_int_equal(listed[at++], born);
        assert_true(bed->ops->fetch(view, born, kept));
        assert_true(trial_is_vector_of(kept, born, DIMENSION));
    }
    assert_int_equal(at, count);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
}

static void check_index(struct power *power, const char *folder) {
    struct vector_bed bed = index_of(folder, false);
    uint64_t durable = atomic_load(&power_notes(power)[NOTE_DURABLE]);
    struct vector_state found;
    struct vector_writer *writer = vector_bed_open(&bed, durable, &found);
    assert_true(found.other_boot);
    assert_int_equal(found.written, durable);
    bed.ops->publish(writer, durable, durable);
    bed.ops->hold(writer, durable);
    if (durable) check_rows(&bed, durable);
    for (uint64_t born = durable + 1; born <= ROWS; born++) append_row(&bed, writer, born); /* it goes on from there */
    assert_int_equal(vector_bed_sync(&bed, writer), ROWS);
    bed.ops->hold(writer, ROWS);
    check_rows(&bed, ROWS);
    bed.ops->close_writer(writer);
}

static void L6_an_index_goes_back_to_its_durable_number_after_a_power_cut_at_any_call(void **state) {
    (void)state;
    static const struct trial trial = {prepare_index, keep_index, check_index};
    trial_cut_everywhere(&trial, 50);
}

int main(void) {
    /* In memory: what a disk keeps is worked out here, and its own syncs would take minutes. */
    if (!access("/dev/shm", W_OK)) setenv("TMPDIR", "/dev/shm", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_was_synced_is_certain),
        cmocka_unit_test(a_collection_is_whole_or_not_there_after_a_power_cut_at_any_call),
        cmocka_unit_test(S1_acknowledged_writes_outlive_a_power_cut_at_any_call),
        cmocka_unit_test(L6_an_index_goes_back_to_its_durable_number_after_a_power_cut_at_any_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
