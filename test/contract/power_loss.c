/* Power cuts of all together (rules S1, L1, L2, L6, X4): a log that is written, two indexes that follow it, a switch
 * from one to the other, cut at random calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "support/power_trial.h"
#include "support/scratch.h"
#include "support/vector_bed.h"
#include "vector/vector.h"

#define DIMENSION 40

enum { NOTE_ACKNOWLEDGED, NOTE_SWITCHED };

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
    trial_open(&service->bed);
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
        size_t count = 1 + trial_mix(step) % 4;
        trial_write_steps(service.bed.writes, step, count, &head);
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
    struct trial_model model = trial_model_at(collection_head(read));
    struct vector_reader *reader = vector_bed_read((struct vector_bed *)index);
    struct vector_view *view = vector_bed_look((struct vector_bed *)index, reader, model.head);
    uint64_t listed[TRIAL_IDS + 1];
    size_t count = index->ops->list(view, 0, listed, TRIAL_IDS + 1), live = collection_live(read);
    assert_int_equal(count, live);
    for (size_t id = 0; id < TRIAL_IDS; id++) {
        float kept[DIMENSION];
        if (!model.rows[id]) continue;
        assert_true(index->ops->fetch(view, model.rows[id], kept));
        assert_true(trial_is_vector_of(kept, model.rows[id] * ENCODERS + (uint64_t)i, DIMENSION));
    }
    index->ops->release(view);
    index->ops->close_reader(reader);
}

/* As the indexer starts: goes back to what was recorded, and on from there. */
static void recover_index(struct service *service, int i) {
    struct vector_bed *index = &service->indexes[i];
    struct vector_state found;
    service->durable[i] = trial_durable_of(&service->bed, index_ids[i]);
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
    trial_check_documents(service.bed.writes, atomic_load(&notes[NOTE_ACKNOWLEDGED]));
    check_pair(&service.bed, atomic_load(&notes[NOTE_SWITCHED]));
    recover_index(&service, 0);
    if (is_listed(&service.bed, index_ids[1])) recover_index(&service, 1);
    close_service(&service);
}

/* Cuts at random calls: as often as POWER_LOSS_TRIALS says. */
static void log_index_and_switch_agree_after_a_power_cut_anywhere(void **state) {
    (void)state;
    static const struct trial trial = {trial_prepare_collection, serve, check_service};
    const char *wanted = getenv("POWER_LOSS_TRIALS");
    uint64_t trials = wanted ? strtoull(wanted, NULL, 10) : 60, cuts = 0;
    unsigned all, until_cut;
    assert_false(trial_cut_once(&trial, 0, TRIAL_SEED, &all));
    for (uint64_t i = 1; i <= trials; i++) {
        uint64_t seed = TRIAL_SEED + i;
        unsigned at = 1 + (unsigned)(trial_mix(seed) % all);
        print_message("seed %llu, call %u of about %u\n", (unsigned long long)seed, at, all);
        cuts += trial_cut_once(&trial, at, seed, &until_cut);
    }
    assert_true(2 * cuts > trials);
}

int main(void) {
    /* In memory: what a disk keeps is worked out here, and its own syncs would take minutes. */
    if (!access("/dev/shm", W_OK)) setenv("TMPDIR", "/dev/shm", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(log_index_and_switch_agree_after_a_power_cut_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
