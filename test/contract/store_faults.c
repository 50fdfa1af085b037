/* The store under kills, a failing disk and strange files (rules S1, S2): each system call that touches the disk is the
 * last one once. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/store-internal.h"
#include "store/store.h"
#include "support/faults.h"
#include "support/scratch.h"

#define CALLS_MAXIMUM 500 /* more than any body here makes: a loop that reaches it has gone wrong */

struct place {
    char *folder, *path;
};

static int set_up(void **state) {
    struct place *place = mem_new(struct place);
    place->folder = scratch_new();
    place->path = scratch_path(place->folder, "control.db");
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    scratch_free(place->folder);
    free(place->path);
    free(place);
    return 0;
}

static void clear(struct place *place) {
    static const char *const names[] = {"control.db", "control.db-wal", "control.db-shm"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        _cleanup_free_ char *path = scratch_path(place->folder, names[i]);
        unlink(path);
    }
}

static void expect_error(int result, struct error **error, enum error_class class, const char *part) {
    _cleanup_free_ char *text = error_text(*error);
    if (result != -(int)class || !strstr(text, part)) fail_msg("got %d: %s", result, result < 0 ? text : "success");
    error_free(*error);
    *error = NULL;
}

/* ---- what the bodies write: pairs of rows that must be there together ---- */

static int insert_pair(struct store *store, int64_t number, struct error **ret_error) {
    struct store_transaction *tx = NULL;
    int result = store_begin(store, &tx, ret_error);
    if (result < 0) return result;
    for (int64_t half = 0; half < 2 && !result; half++)
        result = store_run(tx, NULL, ret_error, "INSERT INTO events (id, at, kind, message) VALUES (?, ?, 'x', 'y')",
                           "ii", 2 * number + half, number);
    if (result < 0) {
        store_rollback(tx);
        return result;
    }
    return store_commit(tx, ret_error);
}

/* Opens, checks that every pair is whole and the database sound; returns how many pairs there are. */
static int64_t count_pairs(const char *path) {
    struct store *store = NULL;
    struct store_transaction *tx;
    struct store_rows *rows;
    struct error *error = NULL;
    if (store_open(path, &store, &error) < 0) fail_msg("%s", error_text(error));
    assert_int_equal(store_begin(store, &tx, NULL), 0);
    assert_int_equal(store_query(tx, &rows, NULL, "PRAGMA integrity_check", ""), 0);
    assert_int_equal(store_next(rows, NULL), 1);
    assert_string_equal(store_text(rows, 0), "ok");
    store_rows_free(rows);
    assert_int_equal(
        store_query(tx, &rows, NULL, "SELECT count(*), count(DISTINCT at), coalesce(max(at), 0) FROM events", ""), 0);
    assert_int_equal(store_next(rows, NULL), 1);
    int64_t pairs = store_number(rows, 1);
    assert_int_equal(store_number(rows, 0), 2 * pairs);
    assert_int_equal(store_number(rows, 2), pairs); /* numbered from 1: none in between is missing */
    store_rows_free(rows);
    store_rollback(tx);
    store_close(store);
    return pairs;
}

/* ---- kills ---- */

#define NOTE_COMMITTED 0

static void open_and_commit(struct faults *faults, void *path) {
    struct store *store = NULL;
    CHILD_CHECK(store_open(path, &store, NULL) == 0);
    for (int number = 1; number <= 3; number++) {
        CHILD_CHECK(insert_pair(store, number, NULL) == 0);
        atomic_store(&faults->note[NOTE_COMMITTED], number);
    }
    store_close(store);
}

/* Looks without the store, which would finish the migration. Returns whether there is a schema. */
static bool check_schema_is_whole_or_absent(const char *path) {
    sqlite3 *database;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
    const char *sql = "SELECT (SELECT count(*) FROM sqlite_schema), user_version FROM pragma_user_version";
    assert_int_equal(sqlite3_prepare_v2(database, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int objects = sqlite3_column_int(statement, 0), version = sqlite3_column_int(statement, 1);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    assert_in_range(version, 0, store_schema_version());
    assert_int_equal(version > 0, objects > 0);
    static int objects_of[16]; /* each step is seen often, and always with all that it makes */
    if (!objects_of[version]) objects_of[version] = objects;
    assert_int_equal(objects, objects_of[version]);
    return version == store_schema_version();
}

static void a_kill_at_any_call_leaves_no_half_of_a_migration_or_a_commit_and_loses_nothing(void **state) {
    struct place *place = *state;
    struct faults *faults = faults_new(FAULT_ALL);
    faults->action = FAULT_KILL;
    int status = 128 + SIGKILL;
    bool was_absent = false, was_whole = false;
    for (faults->at = 1; status == 128 + SIGKILL; faults->at++) {
        assert_in_range(faults->at, 1, CALLS_MAXIMUM);
        clear(place);
        atomic_store(&faults->note[NOTE_COMMITTED], 0);
        status = faults_run(faults, open_and_commit, place->path);
        if (scratch_exists(place->folder, "control.db")) {
            bool is_whole = check_schema_is_whole_or_absent(place->path);
            was_whole |= is_whole;
            was_absent |= !is_whole;
        }
        int64_t pairs = count_pairs(place->path), told = atomic_load(&faults->note[NOTE_COMMITTED]);
        assert_true(pairs == told || pairs == told + 1); /* killed before it could tell */
    }
    assert_int_equal(status, 0);
    assert_in_range(faults->at, 30, CALLS_MAXIMUM); /* it was killed in earnest, and often */
    assert_true(was_absent && was_whole);
    faults_free(faults);
}

/* ---- a failing disk ---- */

static void commit_three(struct faults *faults, void *path) {
    struct store *store = NULL;
    atomic_store(&faults->armed, false);
    CHILD_CHECK(store_open(path, &store, NULL) == 0);
    atomic_store(&faults->armed, true);
    for (int number = 1; number <= 3; number++) {
        unsigned before = atomic_load(&faults->seen);
        CHILD_CHECK(insert_pair(store, number, NULL) == 0);
        CHILD_CHECK(atomic_load(&faults->seen) > before);
    }
    _exit(0);
}

static void S1_every_commit_syncs_before_it_returns(void **state) {
    struct place *place = *state;
    struct faults *faults = faults_new(FAULT_SYNC);
    assert_int_equal(faults_run(faults, commit_three, place->path), 0);
    faults_free(faults);
}

static void fail_a_sync(struct faults *faults, void *path) {
    struct store *store = NULL;
    struct store_transaction *tx;
    struct error *error = NULL;
    atomic_store(&faults->armed, false);
    CHILD_CHECK(store_open(path, &store, NULL) == 0);
    CHILD_CHECK(insert_pair(store, 1, NULL) == 0);
    CHILD_CHECK(!store_is_broken(store));
    atomic_store(&faults->armed, true);
    CHILD_CHECK(insert_pair(store, 2, &error) == -(int)ERROR_UNAVAILABLE);
    CHILD_CHECK(!error->transient && strstr(error->message, "fsync") && strstr(error->message, "restart"));
    error_free(error);
    error = NULL;
    unsigned syncs = atomic_load(&faults->seen);
    CHILD_CHECK(store_is_broken(store)); /* the disk is well again, and still nothing is tried */
    CHILD_CHECK(store_begin(store, &tx, &error) == -(int)ERROR_UNAVAILABLE);
    CHILD_CHECK(!error->transient && strstr(error->message, "restart"));
    CHILD_CHECK(store_checkpoint(store, NULL) < 0);
    error_free(error);
    store_close(store);
    CHILD_CHECK(atomic_load(&faults->seen) == syncs);
}

static void S1_a_failed_sync_breaks_the_store_and_is_never_tried_again(void **state) {
    struct place *place = *state;
    struct faults *faults = faults_new(FAULT_SYNC);
    faults->at = 1;
    faults->action = EIO;
    assert_int_equal(faults_run(faults, fail_a_sync, place->path), 0);
    assert_true(atomic_load(&faults->fired));
    assert_in_range(count_pairs(place->path), 1, 2);
    faults_free(faults);
}

static void fail_the_sync_of_a_checkpoint(struct faults *faults, void *path) {
    struct store *store = NULL;
    struct store_transaction *tx;
    atomic_store(&faults->armed, false);
    CHILD_CHECK(store_open(path, &store, NULL) == 0);
    _cleanup_free_ char *large = mem_zeroed(1, 6000000);
    memset(large, 'x', 5999999);
    CHILD_CHECK(store_begin(store, &tx, NULL) == 0);
    for (int64_t id = 2; id <= 3; id++) /* the pair number 1, large enough for a checkpoint */
        CHILD_CHECK(store_run(tx, NULL, NULL, "INSERT INTO events (id, at, kind, message) VALUES (?, 1, 'x', ?)", "it",
                              id, large) == 0);
    atomic_store(&faults->armed, true);
    CHILD_CHECK(store_commit(tx, NULL) == 0); /* it is in the log, and the log was synced */
    CHILD_CHECK(store_is_broken(store));
    store_close(store);
}

static void S1_a_failed_sync_of_a_checkpoint_is_not_passed_over(void **state) {
    struct place *place = *state;
    struct faults *faults = faults_new(FAULT_SYNC);
    faults->at = 2; /* the first is the commit's */
    faults->action = EIO;
    assert_int_equal(faults_run(faults, fail_the_sync_of_a_checkpoint, place->path), 0);
    assert_true(atomic_load(&faults->fired));
    assert_int_equal(count_pairs(place->path), 1);
    faults_free(faults);
}

static void fill_the_disk(struct faults *faults, void *path) {
    struct store *store = NULL;
    struct error *error = NULL;
    atomic_store(&faults->armed, false);
    CHILD_CHECK(store_open(path, &store, NULL) == 0);
    CHILD_CHECK(insert_pair(store, 1, NULL) == 0);
    atomic_store(&faults->armed, true);
    for (int tries = 0; tries < 2; tries++) {
        CHILD_CHECK(insert_pair(store, 2, &error) == -(int)ERROR_UNAVAILABLE);
        CHILD_CHECK(error->transient && strstr(error->message, "the disk is full"));
        error_free(error);
        error = NULL;
    }
    atomic_store(&faults->armed, false);
    CHILD_CHECK(insert_pair(store, 2, NULL) == 0);
    store_close(store);
}

static void a_full_disk_is_transient_and_the_store_goes_on(void **state) {
    struct place *place = *state;
    struct faults *faults = faults_new(FAULT_WRITE);
    faults->at = 1;
    faults->lasting = true;
    faults->action = ENOSPC;
    assert_int_equal(faults_run(faults, fill_the_disk, place->path), 0);
    assert_int_equal(count_pairs(place->path), 2);
    faults_free(faults);
}

/* Goes on after each failure, as a role would: opens until it is open, and writes each pair until it is there. */
static void persist(struct faults *faults, void *path) {
    struct store *store = NULL;
    for (int tries = 0; tries < 3 && store_open(path, &store, NULL) < 0; tries++) continue;
    CHILD_CHECK(store);
    for (int number = 1; number <= 3; number++) {
        int result = insert_pair(store, number, NULL);
        if (result == -(int)ERROR_UNAVAILABLE && !store_is_broken(store)) result = insert_pair(store, number, NULL);
        CHILD_CHECK(!result || store_is_broken(store));
        if (result < 0) _exit(0);
        atomic_store(&faults->note[NOTE_COMMITTED], number);
    }
    store_close(store);
}

static void each_call_failing_in_turn_loses_nothing(void **state) {
    struct place *place = *state;
    static const int errors[] = {ENOSPC, EIO};
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        struct faults *faults = faults_new(FAULT_WRITE | FAULT_SYNC | FAULT_NAME);
        faults->action = errors[i];
        atomic_store(&faults->fired, true);
        faults->at = 0;
        do {
            faults->at++;
            assert_in_range(faults->at, 1, CALLS_MAXIMUM);
            clear(place);
            atomic_store(&faults->note[NOTE_COMMITTED], 0);
            assert_int_equal(faults_run(faults, persist, place->path), 0);
            int64_t pairs = count_pairs(place->path), told = atomic_load(&faults->note[NOTE_COMMITTED]);
            assert_true(pairs == told || pairs == told + 1); /* in doubt only when the store broke */
        } while (atomic_load(&faults->fired));
        assert_in_range(faults->at, 20, CALLS_MAXIMUM);
        faults_free(faults);
    }
}

/* ---- who checkpoints ---- */

static void commit_and_vanish(struct faults *faults, void *path) {
    (void)faults;
    struct store *store = NULL;
    CHILD_CHECK(store_open(path, &store, NULL) == 0);
    CHILD_CHECK(insert_pair(store, 1, NULL) == 0);
    _exit(0);
}

static void S2_a_reader_reads_a_dead_writers_log_and_leaves_it_alone(void **state) {
    struct place *place = *state;
    struct faults *faults = faults_new(FAULT_SYNC);
    assert_int_equal(faults_run(faults, commit_and_vanish, place->path), 0);
    faults_free(faults);
    size_t size_before, size_after, log_before, log_after;
    _cleanup_free_ char *before = scratch_read(place->folder, "control.db", &size_before);
    _cleanup_free_ char *log = scratch_read(place->folder, "control.db-wal", &log_before);
    assert_true(log_before > 0);

    struct store *reader = NULL;
    struct store_transaction *tx;
    _cleanup_rows_ struct store_rows *rows = NULL;
    assert_int_equal(store_open_reader(place->path, &reader, NULL), 0);
    assert_int_equal(store_begin(reader, &tx, NULL), 0);
    assert_int_equal(store_query(tx, &rows, NULL, "SELECT count(*) FROM events", ""), 0);
    assert_int_equal(store_next(rows, NULL), 1);
    assert_int_equal(store_number(rows, 0), 2);
    assert_int_equal(store_commit(tx, NULL), 0);
    store_close(reader);

    _cleanup_free_ char *after = scratch_read(place->folder, "control.db", &size_after);
    _cleanup_free_ char *log_now = scratch_read(place->folder, "control.db-wal", &log_after);
    assert_int_equal(size_before, size_after);
    assert_memory_equal(before, after, size_before);
    assert_non_null(log_now);
    assert_int_equal(log_before, log_after);
    assert_memory_equal(log, log_now, log_before);
}

static void S2_the_writer_moves_a_long_log_into_the_database(void **state) {
    struct place *place = *state;
    struct store *store = NULL;
    struct stat status;
    assert_int_equal(store_open(place->path, &store, NULL), 0);
    _cleanup_free_ char *log = text_format("%s-wal", place->path);
    for (int64_t number = 1; number <= 600; number++) assert_int_equal(insert_pair(store, number, NULL), 0);
    assert_int_equal(stat(log, &status), 0);
    assert_in_range(status.st_size, 1, 1200 * 4200); /* pages of about 4 KiB: it was begun again at the top */
    assert_int_equal(insert_pair(store, 601, NULL), 0);
    assert_int_equal(store_checkpoint(store, NULL), 0);
    store_close(store);
    assert_int_equal(count_pairs(place->path), 601);
}

/* ---- roles ---- */

static const char *const other_steps[] = {"CREATE TABLE things (number BIGINT PRIMARY KEY)"};
static const struct store_schema other_schema = {.maker = "the owner", .steps = other_steps, .count = 1};

static int add_thing(struct store *store, int64_t number) {
    struct store_transaction *tx = NULL;
    int result = store_begin(store, &tx, NULL);
    if (result < 0) return result;
    result = store_run(tx, NULL, NULL, "INSERT INTO things (number) VALUES (?)", "i", number);
    if (!result) return store_commit(tx, NULL);
    store_rollback(tx);
    return result;
}

static void S2_only_an_owner_makes_and_migrates_a_database(void **state) {
    struct place *place = *state;
    static const enum store_role roles[] = {STORE_OWNER, STORE_WRITER, STORE_READER};
    struct store *stores[3] = {NULL}, *second = NULL;
    for (size_t i = 0; i < 3; i++) {
        const struct store_options options = {.schema = &other_schema, .role = roles[i]};
        struct error *error = NULL;
        int result = store_open_as(place->path, &options, &stores[i], &error);
        assert_true(error && error->transient);
        expect_error(result, &error, ERROR_UNAVAILABLE, "the owner makes it");
    }
    for (size_t i = 0; i < 3; i++) {
        const struct store_options options = {.schema = &other_schema, .role = roles[i], .create = !i};
        assert_int_equal(store_open_as(place->path, &options, &stores[i], NULL), 0);
    }
    const struct store_options again = {.schema = &other_schema, .role = STORE_READER};
    assert_int_equal(store_open_as(place->path, &again, &second, NULL), 0); /* several of one process */
    assert_int_equal(add_thing(stores[0], 1), 0);
    assert_int_equal(add_thing(stores[1], 2), 0);
    assert_true(add_thing(stores[2], 3) < 0);
    store_close(second);
    for (size_t i = 0; i < 3; i++) store_close(stores[i]);
    /* the owner was closed while others had it open, and these leave the log as it is */
    assert_true(scratch_exists(place->folder, "control.db-wal"));
}

static void commit_relaxed(struct faults *faults, void *path) {
    const struct store_options options = {
        .schema = &other_schema, .role = STORE_OWNER, .create = true, .relaxed = true};
    struct store *store = NULL;
    CHILD_CHECK(store_open_as(path, &options, &store, NULL) == 0);
    CHILD_CHECK(add_thing(store, 1) == 0); /* the first page of a new log is synced once */
    unsigned before = atomic_load(&faults->seen);
    for (int64_t number = 2; number < 10; number++) CHILD_CHECK(add_thing(store, number) == 0);
    CHILD_CHECK(atomic_load(&faults->seen) == before);
    CHILD_CHECK(store_sync(store, NULL) == 0);
    CHILD_CHECK(atomic_load(&faults->seen) > before);
    before = atomic_load(&faults->seen);
    faults->at = before + 1;
    faults->action = EIO;
    struct error *error = NULL;
    CHILD_CHECK(store_sync(store, &error) == -(int)ERROR_UNAVAILABLE && !error->transient);
    error_free(error);
    CHILD_CHECK(store_is_broken(store) && store_sync(store, NULL) < 0 && add_thing(store, 99) < 0);
    CHILD_CHECK(atomic_load(&faults->seen) == before + 1); /* S1: it is not tried again */
    store_close(store);
}

static void L10_a_relaxed_database_is_synced_when_asked(void **state) {
    struct place *place = *state;
    struct faults *faults = faults_new(FAULT_SYNC);
    assert_int_equal(faults_run(faults, commit_relaxed, place->path), 0);
    assert_true(atomic_load(&faults->fired));
    faults_free(faults);
}

/* ---- strange files ---- */

static void set_version(const char *path, const char *sql) {
    sqlite3 *database;
    assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(database);
}

static void a_database_of_a_newer_version_is_refused_with_both_numbers(void **state) {
    struct place *place = *state;
    struct store *store = NULL;
    struct error *error = NULL;
    assert_int_equal(count_pairs(place->path), 0);
    set_version(place->path, "PRAGMA user_version = 4711");
    _cleanup_free_ char *ours = text_format("up to %d", (int)store_schema_version());
    _cleanup_free_ char *before = scratch_read(place->folder, "control.db", NULL);
    expect_error(store_open(place->path, &store, &error), &error, ERROR_CONFIGURATION, "4711");
    expect_error(store_open(place->path, &store, &error), &error, ERROR_CONFIGURATION, ours);
    expect_error(store_open_reader(place->path, &store, &error), &error, ERROR_CONFIGURATION, "4711");
    assert_null(store);
    size_t size;
    _cleanup_free_ char *after = scratch_read(place->folder, "control.db", &size);
    assert_memory_equal(before, after, size);
}

/* RULES U3: what the newer version's steps left stands in the database. */
static void U3_a_newer_database_is_opened_when_it_says_that_our_version_can_read_it(void **state) {
    struct place *place = *state;
    struct store *store = NULL;
    struct error *error = NULL;
    int newer = (int)store_schema_version() + 1;
    assert_int_equal(count_pairs(place->path), 0);
    _cleanup_free_ char *kind =
        text_format("PRAGMA user_version = %d; PRAGMA application_id = %d", newer, newer * 32768 + newer - 1);
    set_version(place->path, kind);
    assert_int_equal(store_open(place->path, &store, &error), 0);
    store_close(TAKE(store));
    assert_int_equal(store_open_reader(place->path, &store, &error), 0);
    store_close(TAKE(store));
    _cleanup_free_ char *strict = text_format("PRAGMA application_id = %d", newer * 32768 + newer);
    set_version(place->path, strict);
    expect_error(store_open(place->path, &store, &error), &error, ERROR_CONFIGURATION, "a newer Slipway");
    expect_error(store_open_reader(place->path, &store, &error), &error, ERROR_CONFIGURATION, "a newer Slipway");
}

static void U3_a_step_leaves_the_oldest_version_that_can_read_it(void **state) {
    struct place *place = *state;
    int version = (int)store_schema_version();
    assert_int_equal(count_pairs(place->path), 0);
    sqlite3 *database;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open(place->path, &database), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(database, "PRAGMA application_id", -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int mark = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(database);
    assert_int_equal(mark / 32768, version);
    assert_in_range(mark % 32768, 1, version);
}

static void a_reader_waits_for_a_schema_that_is_older(void **state) {
    struct place *place = *state;
    struct store *store = NULL;
    struct error *error = NULL;
    set_version(place->path, "PRAGMA journal_mode = WAL; CREATE TABLE t (x)");
    int result = store_open_reader(place->path, &store, &error);
    assert_true(error->transient);
    expect_error(result, &error, ERROR_UNAVAILABLE, "not ready yet");
}

static void a_file_that_is_no_database_is_refused_and_left_as_it_was(void **state) {
    struct place *place = *state;
    struct store *store = NULL;
    struct error *error = NULL;
    char noise[8192];
    memset(noise, 'n', sizeof noise);
    scratch_write(place->folder, "control.db", noise, sizeof noise);
    expect_error(store_open(place->path, &store, &error), &error, ERROR_CONFIGURATION, "not a database");
    expect_error(store_open_reader(place->path, &store, &error), &error, ERROR_CONFIGURATION, "not a database");
    size_t size;
    _cleanup_free_ char *after = scratch_read(place->folder, "control.db", &size);
    assert_int_equal(size, sizeof noise);
    assert_memory_equal(after, noise, size);
}

static void a_damaged_database_is_told_apart_and_never_written_again(void **state) {
    struct place *place = *state;
    struct store *store = NULL;
    struct store_transaction *tx;
    struct error *error = NULL;
    assert_int_equal(store_open(place->path, &store, NULL), 0);
    assert_int_equal(insert_pair(store, 1, NULL), 0);
    store_close(store);
    size_t size;
    _cleanup_free_ char *bytes = scratch_read(place->folder, "control.db", &size);
    memset(bytes + 4096, 0xa5, size - 4096); /* the first page, with the schema, stays */
    scratch_write(place->folder, "control.db", bytes, size);
    int result = store_open(place->path, &store, &error);
    if (!result) {
        result = insert_pair(store, 2, &error);
        assert_true(store_is_broken(store));
        assert_true(store_begin(store, &tx, NULL) < 0);
        store_close(store);
    }
    expect_error(result, &error, ERROR_DEPLOYMENT, "damaged");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_kill_at_any_call_leaves_no_half_of_a_migration_or_a_commit_and_loses_nothing),
        TEST(S1_every_commit_syncs_before_it_returns),
        TEST(S1_a_failed_sync_breaks_the_store_and_is_never_tried_again),
        TEST(S1_a_failed_sync_of_a_checkpoint_is_not_passed_over),
        TEST(a_full_disk_is_transient_and_the_store_goes_on),
        TEST(each_call_failing_in_turn_loses_nothing),
        TEST(S2_a_reader_reads_a_dead_writers_log_and_leaves_it_alone),
        TEST(S2_the_writer_moves_a_long_log_into_the_database),
        TEST(S2_only_an_owner_makes_and_migrates_a_database),
        TEST(L10_a_relaxed_database_is_synced_when_asked),
        TEST(a_database_of_a_newer_version_is_refused_with_both_numbers),
        TEST(U3_a_newer_database_is_opened_when_it_says_that_our_version_can_read_it),
        TEST(U3_a_step_leaves_the_oldest_version_that_can_read_it),
        TEST(a_reader_waits_for_a_schema_that_is_older),
        TEST(a_file_that_is_no_database_is_refused_and_left_as_it_was),
        TEST(a_damaged_database_is_told_apart_and_never_written_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
