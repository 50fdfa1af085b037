#include "power_trial.h"

#include <dirent.h>
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
#include "scratch.h"
#include "store/store.h"
#include "vector_bed.h"

#define CALLS_MAXIMUM 4000

uint64_t trial_mix(uint64_t number) {
    number = (number ^ (number >> 31)) * 0x9e3779b97f4a7c15u;
    number = (number ^ (number >> 29)) * 0xbf58476d1ce4e5b9u;
    return number ^ (number >> 32);
}

/* ---- the documents' history: the same for whoever works it out ---- */

static uint64_t id_of(uint64_t step) {
    return trial_mix(step) % TRIAL_IDS;
}

static bool is_delete(uint64_t step) {
    return trial_mix(step) / TRIAL_IDS % 3 == 0;
}

static void go_on(struct trial_model *model) {
    uint64_t *row = &model->rows[id_of(++model->step)];
    if (is_delete(model->step) && !*row) return;
    model->head++;
    *row = is_delete(model->step) ? 0 : model->head;
}

struct trial_model trial_model_at(uint64_t head) {
    struct trial_model model = {0};
    while (model.head < head) go_on(&model);
    return model;
}

void trial_write_steps(struct collection *collection, uint64_t first, size_t count, uint64_t *ret_head) {
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
    struct trial_model *found = context;
    found->rows[strtoull(row->id + 1, NULL, 10)] = row->seq;
    return true;
}

void trial_check_documents(struct collection *collection, uint64_t acknowledged) {
    _cleanup_read_ struct collection_read *read = NULL;
    REQUIRE(collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, &error));
    assert_true(collection_head(read) >= acknowledged);
    struct trial_model model = trial_model_at(collection_head(read)), found = {0};
    REQUIRE(collection_each_live(read, 0, true, note_live, &found, &error));
    assert_memory_equal(model.rows, found.rows, sizeof model.rows);
    size_t live = 0;
    for (size_t i = 0; i < TRIAL_IDS; i++) live += model.rows[i] > 0;
    assert_int_equal(collection_live(read), live);
}

void trial_check_database(const char *folder, const char *name) {
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

uint64_t trial_durable_of(struct collection_bed *bed, const char *index_id) {
    _cleanup_read_ struct collection_read *read = bed_read(bed, COLLECTION_DOCUMENTS);
    struct collection_index index;
    REQUIRE(collection_load_index(read, index_id, &index, &error));
    uint64_t durable = index.durable_seq;
    collection_index_clear(&index);
    return durable;
}

bool trial_is_vector_of(const float *kept, uint64_t born, uint32_t dimension) {
    float *row = mem_new_array(dimension, float);
    vector_bed_row(born, dimension, row);
    double product = 0, size = 0;
    for (size_t i = 0; i < dimension; i++) product += (double)row[i] * kept[i], size += (double)row[i] * row[i];
    free(row);
    return product > 0 && product * product > 0.99999 * size; /* of one direction, and kept[] has length 1 */
}

/* ---- trials ---- */

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

bool trial_cut_once(const struct trial *trial, unsigned at, uint64_t seed, unsigned *ret_calls) {
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

void trial_cut_everywhere(const struct trial *trial, unsigned fewest) {
    unsigned at = 1, calls;
    while (trial_cut_once(trial, at, TRIAL_SEED + at, &calls)) {
        at++;
        assert_in_range(at, 1, CALLS_MAXIMUM);
    }
    assert_true(at > fewest); /* in earnest, and often */
    print_message("cut at %u calls\n", at);
}

void trial_prepare_nothing(const char *folder) {
    _cleanup_free_ char *inner = scratch_path(folder, "x");
    scratch_make_folder(folder, "x");
    assert_int_equal(rmdir(inner), 0);
}

void trial_prepare_collection(const char *folder) {
    _cleanup_free_ char *root = text_format("%s-root", folder), *made = text_format("%s/" BED_COLLECTION, root);
    REQUIRE(collection_bed_create(root, true, &error));
    assert_int_equal(rename(made, folder), 0);
}

void trial_open(struct collection_bed *bed) {
    CHILD_CHECK(collection_open(bed->folder, COLLECTION_INDEXES, &bed->indexes, NULL) == 0);
    CHILD_CHECK(collection_open(bed->folder, COLLECTION_APPENDS, &bed->writes, NULL) == 0);
}
