/* Backup, restore and check on a small state folder without a service. (With one: system/test_backup.py.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "collection/collection.h"
#include "package/package.h"
#include "state/state-internal.h"
#include "store/store.h"
#include "vector/vector.h"

#define COLLECTION "01234567-89ab-4cde-8f01-23456789abcd"
#define INDEX "11234567-89ab-4cde-8f01-23456789abcd"
#define QUERY_INDEX "21234567-89ab-4cde-8f01-23456789abcd"

struct bed {
    char folder[64];
    char *state, *backup, *restored;
    struct settings *settings;
    char digest[65];
};

static void run_sql(const char *path, bool owns, const char *sql) {
    const struct store_options options = {.schema = store_control_schema(), .role = owns ? STORE_OWNER : STORE_WRITER};
    struct store *store = NULL;
    struct store_transaction *tx = NULL;
    _cleanup_error_ struct error *error = NULL;
    if (store_open_as(path, &options, &store, &error) < 0) fail_msg("%s", error_text(error));
    assert_int_equal(store_begin(store, &tx, NULL), 0);
    if (store_run(tx, NULL, &error, sql, "") < 0) fail_msg("%s", error_text(error));
    assert_int_equal(store_commit(tx, NULL), 0);
    store_close(store);
}

static void control(const struct bed *bed, const char *sql) {
    _cleanup_free_ char *path = fs_join(bed->state, "control.db");
    run_sql(path, true, sql);
}

static void make_package(struct bed *bed) {
    _cleanup_free_ char *location = fs_join(bed->state, "packages"), *folder = NULL, *path = NULL, *inner = NULL;
    struct package_store *store = NULL;
    struct package_info info;
    assert_int_equal(folder_packages.open(location, &store, NULL), 0);
    assert_int_equal(folder_packages.begin(store, "task", &folder, NULL), 0);
    inner = fs_join(folder, "inner");
    assert_int_equal(mkdir(inner, 0700), 0);
    path = fs_join(inner, "model.onnx");
    assert_int_equal(fs_write_file(path, "a model", 7, NULL), 0);
    assert_int_equal(folder_packages.measure(store, "task", NULL, &info, NULL), 0);
    assert_int_equal(folder_packages.publish(store, "task", &info, NULL), 0);
    folder_packages.close(store);
    memcpy(bed->digest, info.digest, sizeof bed->digest);
    _cleanup_free_ char *rows = text_format(
        "INSERT INTO packages (digest, size_bytes, file_count, created_at, used_at, seen_memory_bytes) VALUES ('%s', 7, 1, 0, 0, 0)",
        bed->digest);
    control(bed, rows);
}

static void make_collection(const struct bed *bed) {
    _cleanup_free_ char *root = fs_join(bed->state, "collections"), *folder = fs_join(root, COLLECTION);
    const struct collection_spec spec = {.collection_id = COLLECTION,
                                         .name = "notes",
                                         .metric = "cosine",
                                         .keep_queries = true,
                                         .index_id = INDEX,
                                         .query_index_id = QUERY_INDEX,
                                         .deployment_id = "deployment",
                                         .encoder_digest = "encoder",
                                         .revision = 1,
                                         .dimension = 4};
    struct collection *collection = NULL;
    struct collection_write writes[] = {
        {.id = "a", .text = "one"}, {.id = "b", .text = "two"}, {.id = "a", .text = "three"}};
    const char *const texts[] = {"a query"};
    uint64_t head = 0;
    assert_int_equal(collection_create(root, &spec, NULL), 0);
    assert_int_equal(collection_open(folder, COLLECTION_APPENDS, &collection, NULL), 0);
    assert_int_equal(collection_append(collection, writes, ARRAY_SIZE(writes), &head, NULL), 0);
    assert_int_equal(collection_note_queries(collection, texts, 1, 100, &head, NULL), 0);
    collection_close(collection);
    control(
        bed,
        "INSERT INTO collections (id, name, state, metric, keep_queries, quantized, created_at) VALUES ('" COLLECTION
        "', 'notes', 'active', 'cosine', 1, 0, 0)");
    control(bed, "INSERT INTO pins VALUES ('encoder:deployment', 'collection:" COLLECTION "/" INDEX "', NULL, 0)");
}

static int set_up(void **state) {
    struct bed *bed = mem_new(struct bed);
    snprintf(bed->folder, sizeof bed->folder, "/tmp/state-folder-XXXXXX");
    assert_non_null(mkdtemp(bed->folder));
    bed->state = fs_join(bed->folder, "state");
    bed->backup = fs_join(bed->folder, "backup");
    bed->restored = fs_join(bed->folder, "restored");
    bed->settings = settings_new();
    assert_int_equal(mkdir(bed->state, 0700), 0);
    _cleanup_free_ char *path = fs_join(bed->state, "control.db");
    struct store *store = NULL;
    assert_int_equal(store_open(path, &store, NULL), 0);
    store_close(store);
    make_package(bed);
    make_collection(bed);
    *state = bed;
    return 0;
}

static int tear_down(void **state) {
    struct bed *bed = *state;
    package_remove_folder(bed->folder, NULL);
    settings_free(bed->settings);
    free(bed->state);
    free(bed->backup);
    free(bed->restored);
    free(bed);
    return 0;
}

static int back_up(const struct bed *bed, bool with_packages, struct error **ret_error) {
    const struct state_backup backup = {
        .state = bed->state, .destination = bed->backup, .with_packages = with_packages};
    struct state_summary summary = {0};
    int result = state_backup(&backup, &summary, ret_error);
    state_summary_clear(&summary);
    return result;
}

static int restore(const struct bed *bed, size_t *ret_missing, struct error **ret_error) {
    const struct state_restore restoring = {.backup = bed->backup, .state = bed->restored, .settings = bed->settings};
    struct state_summary summary = {0};
    int result = state_restore(&restoring, &summary, ret_error);
    if (ret_missing) *ret_missing = summary.missing_count;
    state_summary_clear(&summary);
    return result;
}

static void expect_findings(const char *folder, size_t faults, size_t findings, const char *word) {
    struct state_report report = {0};
    _cleanup_error_ struct error *error = NULL;
    if (state_check(folder, NULL, &report, &error) < 0) fail_msg("%s", error_text(error));
    for (size_t i = 0; i < report.count && (report.count != findings || state_report_faults(&report) != faults); i++)
        print_message("%s: %s\n", report.findings[i].subject, report.findings[i].what);
    assert_int_equal(report.count, findings);
    assert_int_equal(state_report_faults(&report), faults);
    if (word) assert_non_null(strstr(report.findings[0].what, word));
    state_report_clear(&report);
}

static struct collection_index load_index(const char *folder, const char *index_id, struct collection_facts *facts,
                                          struct collection_pair *pair) {
    _cleanup_free_ char *path = text_format("%s/collections/" COLLECTION, folder);
    struct collection *collection = NULL;
    struct collection_read *read = NULL;
    struct collection_index index = {0};
    assert_int_equal(collection_open(path, COLLECTION_READS, &collection, NULL), 0);
    assert_int_equal(collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, NULL), 0);
    assert_int_equal(collection_load_index(read, index_id, &index, NULL), 0);
    assert_int_equal(collection_load_facts(read, facts, NULL), 0);
    assert_int_equal(collection_load_pair(read, pair, NULL), 0);
    collection_read_end(read);
    collection_close(collection);
    return index;
}

/* ---- tests ---- */

static void what_is_backed_up_and_restored_is_there_again(void **state) {
    const struct bed *bed = *state;
    size_t missing = 9;
    _cleanup_error_ struct error *error = NULL;
    expect_findings(bed->state, 0, 0, NULL);
    if (back_up(bed, true, &error) < 0 || restore(bed, &missing, &error) < 0) fail_msg("%s", error_text(error));
    assert_int_equal(missing, 0);
    expect_findings(bed->restored, 0, 0, NULL);
    struct collection_facts before = {0}, after = {0};
    struct collection_pair pair = {0}, pair_after = {0};
    struct collection_index index = load_index(bed->state, INDEX, &before, &pair);
    collection_index_clear(&index);
    index = load_index(bed->restored, INDEX, &after, &pair_after);
    assert_int_equal(after.head, 3);
    assert_int_equal(after.live, 2);
    assert_string_not_equal(before.log_id, after.log_id);
    assert_string_equal(index.state, "blue");
    assert_string_equal(pair_after.index_id, pair.index_id);
    collection_index_clear(&index);
    collection_facts_clear(&before);
    collection_facts_clear(&after);
    collection_pair_clear(&pair);
    collection_pair_clear(&pair_after);
}

/* An index that was further than the restored log goes is never believed: all begin at 0, and a switch that was under
 * way has not begun. */
static void indexes_begin_again_and_a_switch_has_not_begun(void **state) {
    const struct bed *bed = *state;
    _cleanup_free_ char *folder = text_format("%s/collections/" COLLECTION, bed->state);
    struct collection *collection = NULL;
    const struct collection_index second = {.index_id = "second",
                                            .deployment_id = "other",
                                            .encoder_digest = "other",
                                            .task_id = "task",
                                            .revision = 1,
                                            .dimension = 4};
    _cleanup_free_ char *index_id = NULL;
    assert_int_equal(collection_open(folder, COLLECTION_INDEXES, &collection, NULL), 0);
    assert_int_equal(collection_add_index(collection, &second, "second-queries", &index_id, NULL), 0);
    assert_int_equal(collection_record_durable(collection, "second", 3, NULL), 0);
    assert_int_equal(collection_set_index_state(collection, "second", "ready", NULL, "task", NULL), 0);
    assert_int_equal(collection_set_index_state(collection, "second-queries", "ready", NULL, "task", NULL), 0);
    assert_int_equal(collection_begin_switch(collection, "task", "second", NULL), 0);
    collection_close(collection);
    assert_int_equal(back_up(bed, true, NULL), 0);
    assert_int_equal(restore(bed, NULL, NULL), 0);
    struct collection_facts facts = {0};
    struct collection_pair pair = {0};
    struct collection_index index = load_index(bed->restored, "second", &facts, &pair);
    assert_string_equal(index.state, "filling");
    assert_int_equal(index.durable_seq, 0);
    assert_null(pair.switching_task);
    collection_index_clear(&index);
    collection_facts_clear(&facts);
    collection_pair_clear(&pair);
}

static char *step_of(const struct bed *bed, const char *task_id, char **ret_state) {
    _cleanup_free_ char *path = fs_join(bed->restored, "control.db");
    struct store *store = NULL;
    struct store_transaction *tx = NULL;
    struct store_rows *rows = NULL;
    assert_int_equal(store_open_reader(path, &store, NULL), 0);
    assert_int_equal(store_begin(store, &tx, NULL), 0);
    assert_int_equal(store_query(tx, &rows, NULL, "SELECT step, state_json FROM tasks WHERE id = ?", "t", task_id), 0);
    assert_int_equal(store_next(rows, NULL), 1);
    char *step = store_text_copy(rows, 0);
    *ret_state = store_text_copy(rows, 1);
    store_rows_free(rows);
    store_rollback(tx);
    store_close(store);
    return step;
}

static void tasks_go_back_to_the_step_that_makes_what_a_backup_lacks(void **state) {
    struct bed *bed = *state;
    static const struct {
        const char *kind, *status, *step, *json, *expected;
    } tasks[] = {
        {"deploy", "processing", "fetch", "{}", "fetch"},
        {"deploy", "processing", "verify", "{}", "fetch"},
        {"deploy", "processing", "package", "{\"digest\":\"00\"}", "fetch"},
        {"deploy", "processing", "package", "{\"digest\":\"%s\"}", "package"}, /* it is in the backup */
        {"deploy", "processing", "ready", "{}", "ready"},
        {"deploy", "failed", "verify", "{}", "verify"},
        {"reindex", "processing", "fill", "{\"work\":{\"collection_id\":\"" COLLECTION "\"}}", "fill"},
        {"reindex", "processing", "gate", "{\"work\":{\"collection_id\":\"" COLLECTION "\"}}", "fill"},
        {"reindex", "processing", "blue_switch",
         "{\"work\":{\"collection_id\":\"" COLLECTION "\",\"flip_asked\":true}}", "fill"},
        {"reindex", "processing", "blue_switch",
         "{\"work\":{\"collection_id\":\"" COLLECTION "\",\"flip_asked\":true,\"flipped\":true}}", "blue_switch"},
        {"switch", "processing", "blue_switch", "{\"work\":{\"collection_id\":\"" COLLECTION "\",\"flip_asked\":true}}",
         "gate"},
        {"reindex", "processing", "finish", "{\"work\":{\"collection_id\":\"" COLLECTION "\"}}", "finish"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
        _cleanup_free_ char *json =
            strstr(tasks[i].json, "%s") ? text_format("{\"digest\":\"%s\"}", bed->digest) : text_copy(tasks[i].json);
        _cleanup_free_ char *sql =
            text_format("INSERT INTO tasks (id, kind, status, step, state_json, created_at, updated_at) VALUES "
                        "('t%zu', '%s', '%s', '%s', '%s', 0, 0)",
                        i, tasks[i].kind, tasks[i].status, tasks[i].step, json);
        control(bed, sql);
    }
    assert_int_equal(back_up(bed, true, NULL), 0);
    assert_int_equal(restore(bed, NULL, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(tasks); i++) {
        _cleanup_free_ char *id = text_format("t%zu", i), *json = NULL, *step = step_of(bed, id, &json);
        if (strcmp(step, tasks[i].expected) != 0) fail_msg("%zu: %s instead of %s", i, step, tasks[i].expected);
        if (strcmp(tasks[i].step, tasks[i].expected) != 0) assert_null(strstr(json, "flip_asked"));
    }
}

static void a_backup_without_packages_names_them(void **state) {
    const struct bed *bed = *state;
    assert_int_equal(back_up(bed, false, NULL), 0);
    _cleanup_free_ char *packages = fs_join(bed->backup, "packages");
    assert_false(fs_exists(packages));
    assert_int_equal(restore(bed, NULL, NULL), 0);
    expect_findings(bed->restored, 0, 1, "not there"); /* a note: no deployment uses it */
}

static void a_package_that_is_damaged_is_not_backed_up(void **state) {
    const struct bed *bed = *state;
    _cleanup_free_ char *path = text_format("%s/packages/sha256/%s/inner/model.onnx", bed->state, bed->digest);
    _cleanup_error_ struct error *error = NULL;
    assert_int_equal(chmod(path, 0600), 0);
    FILE *file = fopen(path, "r+");
    assert_true(file && fputc('A', file) == 'A' && !fclose(file));
    assert_true(back_up(bed, true, &error) < 0);
    _cleanup_free_ char *text = error_text(error), *part = text_format("%s.part", bed->backup);
    assert_non_null(strstr(text, "damaged"));
    assert_false(fs_exists(bed->backup) || fs_exists(part));
    expect_findings(bed->state, 1, 1, "damaged");
}

/* A row without its folder, but only while it is on its way out. */
static void a_collection_that_is_being_deleted_may_have_gone(void **state) {
    const struct bed *bed = *state;
    _cleanup_free_ char *folder = text_format("%s/collections/" COLLECTION, bed->state);
    _cleanup_error_ struct error *error = NULL;
    package_remove_folder(folder, NULL);
    assert_true(back_up(bed, true, &error) < 0);
    control(bed, "UPDATE collections SET state = 'deleting'");
    assert_int_equal(back_up(bed, true, NULL), 0);
    assert_int_equal(restore(bed, NULL, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_backed_up_and_restored_is_there_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(indexes_begin_again_and_a_switch_has_not_begun, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tasks_go_back_to_the_step_that_makes_what_a_backup_lacks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_backup_without_packages_names_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_package_that_is_damaged_is_not_backed_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_collection_that_is_being_deleted_may_have_gone, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
