/* Power cuts (rules S1, L1, L2, L6, L10): what was acknowledged is there after the next boot, what a number says is
 * durable is, and nothing is half there. Each part is cut in place of every call that writes, names or syncs. */
#include <dirent.h>
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
#include "store/store.h"
#include "support/collection_bed.h"
#include "support/power.h"
#include "support/scratch.h"
#include "support/vector_bed.h"
#include "vector/vector.h"

#define SEED UINT64_C(20261121)
#define CALLS_MAXIMUM 4000
#define IDS 8

enum { NOTE_ACKNOWLEDGED, NOTE_DURABLE, NOTE_SWITCHED };

static uint64_t mix(uint64_t number) {
    number = (number ^ (number >> 31)) * 0x9e3779b97f4a7c15u;
    number = (number ^ (number >> 29)) * 0xbf58476d1ce4e5b9u;
    return number ^ (number >> 32);
}

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

/* ---- the documents' history: the same for whoever works it out ---- */

/* The documents after some steps: the number of the row that each id's text is in, 0 for none. */
struct model {
    uint64_t step, head, rows[IDS];
};

static uint64_t id_of(uint64_t step) {
    return mix(step) % IDS;
}

static bool is_delete(uint64_t step) {
    return mix(step) / IDS % 3 == 0;
}

static void go_on(struct model *model) {
    uint64_t *row = &model->rows[id_of(++model->step)];
    if (is_delete(model->step) && !*row) return;
    model->head++;
    *row = is_delete(model->step) ? 0 : model->head;
}

static void write_steps(struct collection *collection, uint64_t first, size_t count, uint64_t *ret_head) {
    struct collection_write writes[4] = {0};
    char texts[4][32], ids[4][8];
    for (size_t i = 0; i < count; i++) {
        snprintf(ids[i], sizeof ids[i], "d%d", (int)id_of(first + i));
        snprintf(texts[i], sizeof texts[i], "of step %d", (int)(first + i));
        writes[i] = (struct collection_write){.id = ids[i], .text = is_delete(first + i) ? NULL : texts[i]};
    }
    CHILD_CHECK(collection_append(collection, writes, count, ret_head, NULL) == 0);
}

static bool note_live(void *context, const struct collection_row *row) {
    struct model *found = context;
    found->rows[strtoull(row->id + 1, NULL, 10)] = row->seq;
    return true;
}

/* The log that is there is the one after some whole number of writes, and holds all that were acknowledged. */
static void check_documents(struct collection *collection, uint64_t acknowledged) {
    _cleanup_read_ struct collection_read *read = NULL;
    REQUIRE(collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, &error));
    assert_true(collection_head(read) >= acknowledged);
    struct model model = {0}, found = {0};
    while (model.head < collection_head(read)) go_on(&model);
    REQUIRE(collection_each_live(read, 0, true, note_live, &found, &error));
    assert_memory_equal(model.rows, found.rows, sizeof model.rows);
    size_t live = 0;
    for (size_t i = 0; i < IDS; i++) live += model.rows[i] > 0;
    assert_int_equal(collection_live(read), live);
}

static void check_database(const char *folder, const char *name) {
    _cleanup_free_ char *path = scratch_path(folder, name);
    static const char *const no_steps[] = {""}; /* whatever is in it is version 1 */
    static const struct store_schema any = {.maker = "the test", .steps = no_steps, .count = 1};
    const struct store_options options = {.schema = &any, .role = STORE_OWNER};
    struct store *store = NULL;
    struct store_transaction *tx;
    struct store_rows *rows;
    REQUIRE(store_open_as(path, &options, &store, &error));
    REQUIRE(store_begin(store, &tx, &error));
    REQUIRE(store_query(tx, &rows, &error, "PRAGMA integrity_check", ""));
    assert_int_equal(store_next(rows, NULL), 1);
    assert_string_equal(store_text(rows, 0), "ok");
    store_rows_free(rows);
    store_rollback(tx);
    store_close(store);
}

static uint64_t durable_of(struct collection_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_index index;
    REQUIRE(collection_load_index(read, index_id, &index, &error));
    uint64_t durable = index.durable_seq;
    collection_index_clear(&index);
    return durable;
}

/* ---- trials ---- */

struct trial {
    void (*prepare)(const char *folder); /* makes the folder, unwatched */
    void (*run)(struct power *power, const char *folder); /* in the child */
    void (*check)(struct power *power, const char *folder); /* of what is there after the next boot */
};

struct run {
    const struct trial *trial;
    const char *folder;
};

static void run_trial(struct power *power, void *context) {
    const struct run *run = context;
    run->trial->run(power, run->folder);
}

/* The id of the boot in which an index was written is no longer that of the machine. */
static void change_boot(const char *folder) {
    DIR *listing = opendir(folder);
    assert_non_null(listing);
    for (struct dirent *entry; (entry = readdir(listing));) {
        if (entry->d_name[0] == '.') continue;
        _cleanup_free_ char *path = scratch_path(folder, entry->d_name);
        if (entry->d_type == DT_DIR) change_boot(path);
        if (strcmp(entry->d_name, "header")) continue;
        FILE *header = fopen(path, "r+");
        char id[16];
        if (fseek(header, 8, SEEK_SET) || fread(id, sizeof id, 1, header) != 1) fail_msg("%s has no header", path);
        for (size_t i = 0; i < sizeof id; i++) id[i] ^= 0x5a;
        assert_int_equal(fseek(header, 8, SEEK_SET), 0);
        assert_int_equal(fwrite(id, sizeof id, 1, header), 1);
        fclose(header);
    }
    closedir(listing);
}

/* One cut in place of call `at`, or at the end; *ret_calls: how many there were until then. Whether it was cut. */
static bool cut_once(const struct trial *trial, unsigned at, uint64_t seed, unsigned *ret_calls) {
    char *scratch = scratch_new();
    _cleanup_free_ char *folder = scratch_path(scratch, "before"), *after = scratch_path(scratch, "after");
    trial->prepare(folder);
    struct power *power = power_new(folder, seed);
    bool was_cut = power_run(power, at, run_trial, &(struct run){trial, folder});
    power_restore(power, after);
    change_boot(after);
    trial->check(power, after);
    *ret_calls = power_calls(power);
    power_free(power);
    scratch_free(scratch);
    return was_cut;
}

/* A cut in place of every `step`th call, until there are no more. */
static void cut_everywhere(const struct trial *trial, unsigned step, unsigned fewest) {
    unsigned at = 1, calls;
    while (cut_once(trial, at, SEED + at, &calls)) {
        at += step;
        assert_in_range(at, 1, CALLS_MAXIMUM);
    }
    assert_true(at > fewest); /* in earnest, and often */
    print_message("cut at %u calls\n", at);
}

static void prepare_nothing(const char *folder) {
    _cleanup_free_ char *inner = scratch_path(folder, "x");
    scratch_make_folder(folder, "x");
    assert_int_equal(rmdir(inner), 0);
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
    check_database(made, "documents.db");
    check_database(made, "queries.db");
}

static void a_collection_is_whole_or_not_there_after_a_power_cut_at_any_call(void **state) {
    (void)state;
    static const struct trial trial = {prepare_nothing, create_collection, check_created};
    cut_everywhere(&trial, 1, 30);
}

static void prepare_collection(const char *folder) {
    _cleanup_free_ char *root = text_format("%s-root", folder), *made = text_format("%s/" BED_COLLECTION, root);
    REQUIRE(collection_bed_create(root, true, &error));
    assert_int_equal(rename(made, folder), 0);
}

static void open_both(struct collection_bed *bed) {
    CHILD_CHECK(collection_open(bed->folder, COLLECTION_INDEXES, &bed->indexes, NULL) == 0);
    CHILD_CHECK(collection_open(bed->folder, COLLECTION_APPENDS, &bed->writes, NULL) == 0);
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
    open_both(&bed);
    for (int round = 1; round <= 9; round++) {
        size_t count = 1 + mix(step) % 4;
        write_steps(bed.writes, step, count, &head);
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
        open_both(&bed);
    }
    collection_bed_close(&bed);
}

/* L10: what the query index holds for good is there, and the rows are the first ones that were written. */
static void check_queries(struct collection_bed *bed) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_QUERIES);
    assert_true(collection_head(read) >= durable_of(bed, BED_BLUE_QUERIES));
    for (uint64_t seq = 1; seq <= collection_head(read); seq++) {
        _cleanup_collection_row_ struct collection_row row = {0};
        _cleanup_free_ char *text = text_format("query %d", (int)seq);
        assert_int_equal(collection_find_seq(read, seq, &row, NULL), 1);
        assert_string_equal(row.text, text);
    }
}

static void check_collection(struct power *power, const char *folder) {
    struct collection_bed bed = {.folder = (char *)folder};
    collection_bed_open(&bed);
    check_documents(bed.writes, atomic_load(&power_notes(power)[NOTE_ACKNOWLEDGED]));
    assert_true(durable_of(&bed, BED_BLUE) >= atomic_load(&power_notes(power)[NOTE_DURABLE]));
    check_queries(&bed);
    collection_bed_close(&bed);
    check_database(folder, "documents.db");
    check_database(folder, "queries.db");
}

static void S1_acknowledged_writes_outlive_a_power_cut_at_any_call(void **state) {
    (void)state;
    static const struct trial trial = {prepare_collection, keep_collection, check_collection};
    cut_everywhere(&trial, 1, 100);
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
        if (dead - 1 - mix(dead) % 12 == born) return dead;
    return 0;
}

static void append_row(struct vector_bed *bed, struct vector_writer *writer, uint64_t born) {
    float row[DIMENSION];
    vector_bed_row(born, DIMENSION, row);
    CHILD_CHECK(bed->ops->append(writer, born, row, NULL) == 0);
    power_point();
    uint64_t victim = born - 1 - mix(born) % 12;
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
        float row[DIMENSION], kept[DIMENSION];
        assert_true(at < count);
        assert_int_equal(listed[at++], born);
        vector_bed_row(born, DIMENSION, row);
        assert_true(bed->ops->fetch(view, born, kept));
        double product = 0, size = 0;
        for (size_t i = 0; i < DIMENSION; i++) product += (double)row[i] * kept[i], size += (double)row[i] * row[i];
        assert_true(product * product > 0.99999 * size); /* of one direction, and kept[] has length 1 */
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
    cut_everywhere(&trial, 1, 50);
}

/* ---- both together, with a switch ---- */

#define ENCODERS 2
static const char *const index_ids[ENCODERS] = {BED_BLUE, "second"}, *const digests[ENCODERS] = {"digest-1",
                                                                                                 "digest-2"};

/* A gateway and an indexer in one: it writes documents and follows the log with two indexes. */
struct service {
    struct collection_bed bed;
    struct vector_bed indexes[ENCODERS];
    struct vector_writer *writers[ENCODERS];
    uint64_t at[ENCODERS], durable[ENCODERS];
    char *log_id;
};

static void describe_indexes(struct service *service, const char *folder) {
    service->bed.folder = (char *)folder;
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_facts facts;
    CHILD_CHECK(collection_read_begin(service->bed.indexes, COLLECTION_DOCUMENTS, &read, NULL) == 0);
    CHILD_CHECK(collection_load_facts(read, &facts, NULL) == 0);
    service->log_id = text_copy(facts.log_id);
    collection_facts_clear(&facts);
    for (int i = 0; i < ENCODERS; i++)
        service->indexes[i] = (struct vector_bed){.ops = &folder_vectors,
                                                  .folder = text_format("%s/indexes/%s", folder, index_ids[i]),
                                                  .spec = {.index_id = index_ids[i],
                                                           .log_id = service->log_id,
                                                           .encoder_digest = digests[i],
                                                           .dimension = DIMENSION}};
}

static void open_service(struct service *service, const char *folder) {
    *service = (struct service){.bed = {.folder = (char *)folder}};
    open_both(&service->bed);
    describe_indexes(service, folder);
}

static void close_service(struct service *service) {
    for (int i = 0; i < ENCODERS; i++) {
        service->indexes[i].ops->close_writer(service->writers[i]);
        free(service->indexes[i].folder);
    }
    free(service->log_id);
    collection_bed_close(&service->bed);
}

/* What a row's vector is: of its text's number and the encoder. */
static void append_document(struct service *service, int i, uint64_t seq) {
    float row[DIMENSION];
    vector_bed_row(seq * ENCODERS + (uint64_t)i, DIMENSION, row);
    CHILD_CHECK(service->indexes[i].ops->append(service->writers[i], seq, row, NULL) == 0);
}

/* The index takes in the log up to its head. */
static void follow(struct service *service, int i) {
    const struct vector_ops *ops = service->indexes[i].ops;
    _cleanup_read_ struct collection_read *read = NULL;
    CHILD_CHECK(collection_read_begin(service->bed.indexes, COLLECTION_DOCUMENTS, &read, NULL) == 0);
    uint64_t head = collection_head(read);
    struct collection_change *changes;
    size_t count;
    CHILD_CHECK(collection_changes(read, service->at[i], head, head, 1000, &changes, &count, NULL) == 0);
    for (size_t c = 0; c < count; c++) {
        if (changes[c].row.previous) ops->kill(service->writers[i], changes[c].row.previous, changes[c].row.seq);
        if (changes[c].row.text && !changes[c].superseded) append_document(service, i, changes[c].row.seq);
        power_point();
    }
    collection_changes_free(changes, count);
    ops->publish(service->writers[i], head, head);
    service->at[i] = head;
}

static void make_durable(struct service *service, int i) {
    CHILD_CHECK(service->indexes[i].ops->sync(service->writers[i], &service->durable[i], NULL) == 0);
    CHILD_CHECK(collection_record_durable(service->bed.indexes, index_ids[i], service->durable[i], NULL) == 0);
}

static void create_index(struct service *service, int i) {
    struct vector_bed *index = &service->indexes[i];
    struct vector_state found;
    CHILD_CHECK(index->ops->create(index->folder, &index->spec, NULL) == 0);
    CHILD_CHECK(index->ops->open_writer(index->folder, &index->spec, 0, &service->writers[i], &found, NULL) == 0);
    index->ops->hold(service->writers[i], 0);
}

static void add_second(struct service *service) {
    const struct collection_index index = {.index_id = (char *)index_ids[1],
                                           .deployment_id = (char *)"deployment-2",
                                           .encoder_digest = (char *)digests[1],
                                           .revision = 1,
                                           .dimension = DIMENSION};
    _cleanup_free_ char *added = NULL;
    CHILD_CHECK(collection_add_index(service->bed.indexes, &index, "second-queries", &added, NULL) == 0);
    create_index(service, 1);
}

/* Everything of a switch that lies in the database and the indexes. */
static void switch_over(struct service *service) {
    int64_t epoch;
    follow(service, 1);
    make_durable(service, 1);
    CHILD_CHECK(collection_set_index_state(service->bed.indexes, index_ids[1], "ready", NULL, NULL, NULL) == 0);
    CHILD_CHECK(collection_set_index_state(service->bed.indexes, "second-queries", "ready", NULL, NULL, NULL) == 0);
    CHILD_CHECK(collection_begin_switch(service->bed.indexes, "task", index_ids[1], NULL) == 0);
    CHILD_CHECK(collection_flip(service->bed.indexes, "task", index_ids[1], service->at[0], &epoch, NULL) == 0);
}

#define ROUNDS 20
#define ADDED_AT 6
#define SWITCHED_AT 12

static void serve(struct power *power, const char *folder) {
    struct service service;
    _Atomic uint64_t *notes = power_notes(power);
    uint64_t step = 1, head;
    open_service(&service, folder);
    create_index(&service, 0);
    for (int round = 1; round <= ROUNDS; round++) {
        size_t count = 1 + mix(step) % 4;
        write_steps(service.bed.writes, step, count, &head);
        step += count;
        atomic_store(&notes[NOTE_ACKNOWLEDGED], head);
        if (round == ADDED_AT) add_second(&service);
        if (round == SWITCHED_AT) {
            switch_over(&service);
            atomic_store(&notes[NOTE_SWITCHED], 1);
        }
        for (int i = 0; i < (round < ADDED_AT ? 1 : ENCODERS); i++) {
            if (power_random(power, 2)) follow(&service, i);
            if (!power_random(power, 4)) make_durable(&service, i);
            bool more = !power_random(power, 6);
            while (more)
                CHILD_CHECK(service.indexes[i].ops->compact(service.writers[i], service.durable[i], &more, NULL) == 0);
        }
        bool more = !power_random(power, 3);
        while (more) CHILD_CHECK(collection_compact(service.bed.indexes, COLLECTION_DOCUMENTS, 8, &more, NULL) == 0);
    }
    close_service(&service);
}

/* The index shows the log's documents and no others, with the vectors of its own encoder. */
static void check_shown(struct service *service, int i) {
    const struct vector_bed *index = &service->indexes[i];
    _cleanup_read_ struct collection_read *read = bed_read(&service->bed, COLLECTION_DOCUMENTS);
    struct model model = {0};
    while (model.head < collection_head(read)) go_on(&model);
    struct vector_reader *reader = vector_bed_read((struct vector_bed *)index);
    struct vector_view *view = vector_bed_look((struct vector_bed *)index, reader, model.head);
    uint64_t listed[IDS + 1];
    size_t count = index->ops->list(view, 0, listed, IDS + 1), live = collection_live(read);
    assert_int_equal(count, live);
    for (size_t id = 0; id < IDS; id++) {
        float row[DIMENSION], kept[DIMENSION];
        if (!model.rows[id]) continue;
        vector_bed_row(model.rows[id] * ENCODERS + (uint64_t)i, DIMENSION, row);
        assert_true(index->ops->fetch(view, model.rows[id], kept));
        double product = 0, size = 0;
        for (size_t n = 0; n < DIMENSION; n++) product += (double)row[n] * kept[n], size += (double)row[n] * row[n];
        assert_true(product > 0 && product * product > 0.99999 * size);
    }
    index->ops->release(view);
    index->ops->close_reader(reader);
}

/* As the indexer starts: goes back to what was recorded, and on from there. */
static void recover_index(struct service *service, int i) {
    struct vector_bed *index = &service->indexes[i];
    struct vector_state found;
    service->durable[i] = durable_of(&service->bed, index_ids[i]);
    if (!service->durable[i]) { /* it may not be there at all: made anew */
        REQUIRE(index->ops->remove(index->folder, &error));
        create_index(service, i);
        found.written = 0;
    } else {
        REQUIRE(index->ops->open_writer(index->folder, &index->spec, service->durable[i], &service->writers[i], &found,
                                        &error));
        assert_true(found.other_boot);
        assert_int_equal(found.written, service->durable[i]);
    }
    service->at[i] = found.written;
    follow(service, i);
    index->ops->hold(service->writers[i], service->at[i]);
    check_shown(service, i);
}

static bool is_listed(struct collection_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_index index;
    if (collection_load_index(read, index_id, &index, NULL) < 0) return false;
    collection_index_clear(&index);
    return true;
}

/* Exactly one pair is blue, and all that belongs to it: not half of a switch. */
static void check_pair(struct collection_bed *bed, bool was_switched) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_pair pair;
    REQUIRE(collection_load_pair(read, &pair, &error));
    bool is_second = !strcmp(pair.index_id, index_ids[1]);
    if (was_switched) assert_true(is_second);
    assert_int_equal(pair.epoch, is_second ? 2 : 1);
    assert_string_equal(pair.query_index_id, is_second ? "second-queries" : BED_BLUE_QUERIES);
    assert_string_equal(pair.encoder_digest, digests[is_second]);
    struct collection_index *indexes;
    size_t count;
    REQUIRE(collection_list_indexes(read, &indexes, &count, &error));
    for (size_t i = 0; i < count; i++) {
        bool is_blue = !strcmp(indexes[i].index_id, pair.index_id) || !strcmp(indexes[i].index_id, pair.query_index_id);
        assert_int_equal(!strcmp(indexes[i].state, "blue"), is_blue);
        assert_int_equal(!strcmp(indexes[i].state, "rollback"), is_second && !is_blue);
    }
    collection_indexes_free(indexes, count);
    collection_pair_clear(&pair);
}

static void check_service(struct power *power, const char *folder) {
    struct service service;
    _Atomic uint64_t *notes = power_notes(power);
    open_service(&service, folder);
    check_documents(service.bed.writes, atomic_load(&notes[NOTE_ACKNOWLEDGED]));
    check_pair(&service.bed, atomic_load(&notes[NOTE_SWITCHED]));
    recover_index(&service, 0);
    if (is_listed(&service.bed, index_ids[1])) recover_index(&service, 1);
    close_service(&service);
}

/* Cuts at random calls: as often as POWER_LOSS_TRIALS says. */
static void log_index_and_switch_agree_after_a_power_cut_anywhere(void **state) {
    (void)state;
    static const struct trial trial = {prepare_collection, serve, check_service};
    const char *wanted = getenv("POWER_LOSS_TRIALS");
    uint64_t trials = wanted ? strtoull(wanted, NULL, 10) : 60, cuts = 0;
    unsigned all, until_cut;
    assert_false(cut_once(&trial, 0, SEED, &all));
    for (uint64_t i = 1; i <= trials; i++) {
        uint64_t seed = SEED + i;
        unsigned at = 1 + (unsigned)(mix(seed) % all);
        print_message("seed %llu, call %u of about %u\n", (unsigned long long)seed, at, all);
        cuts += cut_once(&trial, at, seed, &until_cut);
    }
    assert_true(2 * cuts > trials);
}

int main(void) {
    /* In memory: what a disk keeps is worked out here, and its own syncs would take minutes. */
    if (!access("/dev/shm", W_OK)) setenv("TMPDIR", "/dev/shm", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_was_synced_is_certain),
        cmocka_unit_test(a_collection_is_whole_or_not_there_after_a_power_cut_at_any_call),
        cmocka_unit_test(S1_acknowledged_writes_outlive_a_power_cut_at_any_call),
        cmocka_unit_test(L6_an_index_goes_back_to_its_durable_number_after_a_power_cut_at_any_call),
        cmocka_unit_test(log_index_and_switch_agree_after_a_power_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
