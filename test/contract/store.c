/* What every store promises (store/store.h), whatever its driver. test/contract/store_faults.c adds the kills and the
 * failing disk. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/store.h"
#include "support/scratch.h"

struct place {
    char *folder, *path;
    struct store *store;
};

static struct error *error;

static void expect_error(int result, enum error_class class, const char *part) {
    _cleanup_free_ char *text = error_text(error);
    if (result != -(int)class || !strstr(text, part)) fail_msg("got %d: %s", result, result < 0 ? text : "success");
    error_free(error);
    error = NULL;
}

static void expect_success(int result) {
    if (result >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    fail_msg("got %d: %s", result, text);
}

static int set_up(void **state) {
    struct place *place = mem_new(struct place);
    place->folder = scratch_new();
    place->path = scratch_path(place->folder, "control.db");
    expect_success(store_open(place->path, &place->store, &error));
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    store_close(place->store);
    scratch_free(place->folder);
    free(place->path);
    free(place);
    return 0;
}

#define INSERT_EVENT "INSERT INTO events (id, at, kind, message) VALUES (?, ?, ?, ?)"

static int insert_event(struct store_transaction *tx, int64_t id, const char *message) {
    return store_run(tx, NULL, &error, INSERT_EVENT, "iitt", id, (int64_t)1, "package", message);
}

static void commit_event(struct store *store, int64_t id, const char *message) {
    struct store_transaction *tx;
    expect_success(store_begin(store, &tx, &error));
    expect_success(insert_event(tx, id, message));
    expect_success(store_commit(tx, &error));
}

static int64_t ask_number(struct store_transaction *tx, const char *sql) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    expect_success(store_query(tx, &rows, &error, sql, ""));
    assert_int_equal(store_next(rows, &error), 1);
    return store_number(rows, 0);
}

static int64_t count_events(struct store *store) {
    struct store_transaction *tx;
    expect_success(store_begin(store, &tx, &error));
    int64_t count = ask_number(tx, "SELECT count(*) FROM events");
    store_rollback(tx);
    return count;
}

/* ---- transactions ---- */

static void what_was_committed_is_there_when_it_is_opened_again(void **state) {
    struct place *place = *state;
    commit_event(place->store, 1, "kept");
    store_close(place->store);
    expect_success(store_open(place->path, &place->store, &error));
    assert_int_equal(count_events(place->store), 1);
}

static void a_rolled_back_transaction_leaves_nothing(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    expect_success(store_begin(place->store, &tx, &error));
    expect_success(insert_event(tx, 1, "lost"));
    store_rollback(tx);
    store_rollback(NULL);
    assert_int_equal(count_events(place->store), 0);
}

static void a_unique_violation_is_a_conflict_and_the_transaction_goes_on(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    expect_success(store_begin(place->store, &tx, &error));
    expect_success(insert_event(tx, 1, "first"));
    expect_error(insert_event(tx, 1, "again"), ERROR_CONFLICT, "events.id");
    expect_success(insert_event(tx, 2, "second"));
    expect_success(store_commit(tx, &error));
    assert_int_equal(count_events(place->store), 2);
}

static void any_other_failure_dooms_its_transaction_and_no_more(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    expect_success(store_begin(place->store, &tx, &error));
    expect_success(insert_event(tx, 1, "lost"));
    expect_error(store_run(tx, NULL, &error, "INSERT INTO nowhere VALUES (1)", ""), ERROR_DEPLOYMENT, "nowhere");
    expect_error(insert_event(tx, 2, "late"), ERROR_DEPLOYMENT, "only be rolled back");
    expect_error(store_commit(tx, &error), ERROR_DEPLOYMENT, "rolled back");
    commit_event(place->store, 3, "kept");
    assert_int_equal(count_events(place->store), 1);
}

static void a_reference_to_nothing_is_refused(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    expect_success(store_begin(place->store, &tx, &error));
    int result = store_run(tx, NULL, &error,
                           "INSERT INTO revisions (deployment_id, number, model_uri, target_json, created_at) "
                           "VALUES ('nobody', 1, '/m', '{}', 1)",
                           "");
    expect_error(result, ERROR_DEPLOYMENT, "FOREIGN KEY");
    store_rollback(tx);
}

static void a_statement_tells_how_many_rows_it_changed(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    int64_t changes = -1;
    for (int64_t id = 1; id <= 3; id++) commit_event(place->store, id, "x");
    expect_success(store_begin(place->store, &tx, &error));
    expect_success(store_run(tx, &changes, &error, "UPDATE events SET message = 'y' WHERE id > ?", "i", (int64_t)1));
    assert_int_equal(changes, 2);
    expect_success(store_run(tx, &changes, &error, "UPDATE events SET message = 'y' WHERE id > ?", "i", (int64_t)9));
    assert_int_equal(changes, 0);
    expect_success(store_commit(tx, &error));
}

/* ---- values and rows ---- */

static void every_kind_of_value_comes_back(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    _cleanup_rows_ struct store_rows *rows = NULL;
    size_t size;
    expect_success(store_begin(place->store, &tx, &error));
    expect_success(store_query(tx, &rows, &error, "SELECT ?, ?, ?, ?, ?, ?", "tidbtb", "é ∑ 🙂", INT64_MIN, 0.1,
                               "a\0b", (size_t)3, NULL, "", (size_t)0));
    assert_int_equal(store_next(rows, &error), 1);
    assert_string_equal(store_text(rows, 0), "é ∑ 🙂");
    assert_true(store_number(rows, 1) == INT64_MIN);
    assert_true(store_real(rows, 2) == 0.1);
    assert_memory_equal(store_bytes(rows, 3, &size), "a\0b", 3);
    assert_int_equal(size, 3);
    assert_null(store_text(rows, 4));
    assert_true(store_is_null(rows, 4));
    assert_int_equal(store_number(rows, 4), 0);
    assert_non_null(store_bytes(rows, 5, &size));
    assert_int_equal(size, 0);
    assert_false(store_is_null(rows, 5));
    _cleanup_free_ char *copy = store_text_copy(rows, 0);
    assert_int_equal(store_next(rows, &error), 0);
    assert_string_equal(copy, "é ∑ 🙂");
    store_rollback(tx);
}

static void a_parameter_is_copied_and_never_read_as_sql(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    _cleanup_rows_ struct store_rows *rows = NULL;
    char text[] = "'); DROP TABLE events; --";
    expect_success(store_begin(place->store, &tx, &error));
    expect_success(store_query(tx, &rows, &error, "SELECT ?", "t", text));
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(store_next(rows, &error), 1);
    assert_string_equal(store_text(rows, 0), "'); DROP TABLE events; --");
    store_rollback(tx);
    assert_int_equal(count_events(place->store), 0);
}

static void rows_end_with_their_transaction(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    struct store_rows *rows = NULL, *other = NULL;
    for (int64_t id = 1; id <= 3; id++) commit_event(place->store, id, "x");
    expect_success(store_begin(place->store, &tx, &error));
    expect_success(store_query(tx, &rows, &error, "SELECT id FROM events ORDER BY id", ""));
    expect_success(store_query(tx, &other, &error, "SELECT id FROM events ORDER BY id DESC", ""));
    assert_int_equal(store_next(rows, &error), 1);
    expect_success(store_commit(tx, &error));
    expect_error(store_next(rows, &error), ERROR_DEPLOYMENT, "over");
    commit_event(place->store, 4, "goes on");
    store_rows_free(rows);
    store_rows_free(other);
    assert_int_equal(count_events(place->store), 4);
}

static void a_statement_can_run_inside_itself(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    static const char sql[] = "SELECT id FROM events WHERE id >= ? ORDER BY id";
    for (int64_t id = 1; id <= 3; id++) commit_event(place->store, id, "x");
    for (int again = 0; again < 2; again++) {
        _cleanup_rows_ struct store_rows *outer = NULL;
        int64_t pairs = 0;
        expect_success(store_begin(place->store, &tx, &error));
        expect_success(store_query(tx, &outer, &error, sql, "i", (int64_t)1));
        while (store_next(outer, &error) > 0) {
            _cleanup_rows_ struct store_rows *inner = NULL;
            expect_success(store_query(tx, &inner, &error, sql, "i", store_number(outer, 0)));
            while (store_next(inner, &error) > 0) pairs += store_number(inner, 0);
        }
        assert_int_equal(pairs, (1 + 2 + 3) + (2 + 3) + 3);
        expect_success(store_commit(tx, &error));
    }
}

static void text_at_a_reused_address_is_another_statement(void **state) {
    struct place *place = *state;
    struct store_transaction *tx;
    char sql[32];
    expect_success(store_begin(place->store, &tx, &error));
    for (int number = 1; number <= 3; number++) {
        snprintf(sql, sizeof sql, "SELECT %d", number);
        assert_int_equal(ask_number(tx, sql), number);
    }
    store_rollback(tx);
}

/* ---- threads, readers, other processes ---- */

static void *count_up(void *context) {
    struct store *store = context;
    for (int i = 0; i < 50; i++) {
        struct store_transaction *tx;
        struct store_rows *rows = NULL;
        if (store_begin(store, &tx, NULL) < 0) abort();
        if (store_query(tx, &rows, NULL, "SELECT at FROM events WHERE id = 1", "") < 0 || store_next(rows, NULL) != 1)
            abort();
        int64_t next = store_number(rows, 0) + 1;
        store_rows_free(rows);
        if (store_run(tx, NULL, NULL, "UPDATE events SET at = ? WHERE id = 1", "i", next) < 0) abort();
        if (store_commit(tx, NULL) < 0) abort();
    }
    return NULL;
}

static void threads_take_turns(void **state) {
    struct place *place = *state;
    commit_event(place->store, 1, "counter");
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, place->store), 0);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) pthread_join(threads[i], NULL);
    struct store_transaction *tx;
    expect_success(store_begin(place->store, &tx, &error));
    assert_int_equal(ask_number(tx, "SELECT at FROM events"), 1 + 4 * 50);
    store_rollback(tx);
}

static void a_second_writer_waits_for_the_first(void **state) {
    struct place *place = *state;
    struct store *other = NULL;
    expect_success(store_open(place->path, &other, &error));
    commit_event(place->store, 1, "counter");
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, count_up, other), 0);
    count_up(place->store);
    pthread_join(thread, NULL);
    struct store_transaction *tx;
    expect_success(store_begin(place->store, &tx, &error));
    assert_int_equal(ask_number(tx, "SELECT at FROM events"), 1 + 2 * 50);
    store_rollback(tx);
    store_close(other);
}

static void a_reader_sees_one_moment(void **state) {
    struct place *place = *state;
    struct store *reader = NULL;
    struct store_transaction *tx;
    expect_success(store_open_reader(place->path, &reader, &error));
    commit_event(place->store, 1, "before");
    expect_success(store_begin(reader, &tx, &error));
    assert_int_equal(ask_number(tx, "SELECT count(*) FROM events"), 1);
    commit_event(place->store, 2, "after");
    assert_int_equal(ask_number(tx, "SELECT count(*) FROM events"), 1);
    expect_success(store_commit(tx, &error));
    assert_int_equal(count_events(reader), 2);
    store_close(reader);
}

static void a_reader_cannot_write(void **state) {
    struct place *place = *state;
    struct store *reader = NULL;
    struct store_transaction *tx;
    expect_success(store_open_reader(place->path, &reader, &error));
    expect_success(store_begin(reader, &tx, &error));
    expect_error(insert_event(tx, 1, "no"), ERROR_CONFIGURATION, "cannot be written");
    store_rollback(tx);
    store_close(reader);
    assert_int_equal(count_events(place->store), 0);
}

static void S1_no_connection_crosses_a_fork(void **state) {
    struct place *place = *state;
    commit_event(place->store, 1, "before");
    pid_t child = fork();
    if (!child) {
        struct store_transaction *tx;
        struct error *refused = NULL;
        CHILD_CHECK(store_begin(place->store, &tx, &refused) == -(int)ERROR_DEPLOYMENT);
        CHILD_CHECK(strstr(refused->message, "fork") != NULL);
        error_free(refused);
        store_close(place->store);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    commit_event(place->store, 2, "after");
    assert_int_equal(count_events(place->store), 2);
}

/* ---- opening ---- */

static void opening_a_reader_too_early_is_transient(void **state) {
    struct place *place = *state;
    struct store *reader = NULL;
    _cleanup_free_ char *path = scratch_path(place->folder, "early.db");
    int result = store_open_reader(path, &reader, &error);
    assert_true(error->transient);
    expect_error(result, ERROR_UNAVAILABLE, "not there yet");

    scratch_write_text(place->folder, "early.db", ""); /* the writer has made the file and no more */
    result = store_open_reader(path, &reader, &error);
    assert_true(error->transient);
    expect_error(result, ERROR_UNAVAILABLE, "not ready yet");
    assert_null(reader);
}

static void a_new_database_is_nobody_elses(void **state) {
    struct place *place = *state;
    struct stat status;
    commit_event(place->store, 1, "x");
    assert_int_equal(stat(place->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_folder_that_is_not_there_is_named(void **state) {
    struct place *place = *state;
    struct store *store = NULL;
    _cleanup_free_ char *path = scratch_path(place->folder, "missing/control.db");
    expect_error(store_open(path, &store, &error), ERROR_CONFIGURATION, "/missing");
    assert_null(store);
}

static void open_in_a_foreign_folder(void *context) {
    struct store *store = NULL;
    struct error *refused = NULL;
    CHILD_CHECK(store_open(context, &store, &refused) == -(int)ERROR_CONFIGURATION);
    _cleanup_free_ char *text = error_text(refused);
    CHILD_CHECK(strstr(text, "Permission denied") && strstr(text, context));
    error_free(refused);
}

static void a_folder_without_the_right_to_write_is_a_clear_error(void **state) {
    struct place *place = *state;
    _cleanup_free_ char *path = scratch_path(place->folder, "other.db");
    assert_int_equal(chmod(place->folder, 0555), 0);
    assert_int_equal(scratch_run_unprivileged(NULL, open_in_a_foreign_folder, path), 0);
    assert_int_equal(chmod(place->folder, 0755), 0);
    assert_int_equal(scratch_run_unprivileged(NULL, open_in_a_foreign_folder, place->path), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_was_committed_is_there_when_it_is_opened_again),
        TEST(a_rolled_back_transaction_leaves_nothing),
        TEST(a_unique_violation_is_a_conflict_and_the_transaction_goes_on),
        TEST(any_other_failure_dooms_its_transaction_and_no_more),
        TEST(a_reference_to_nothing_is_refused),
        TEST(a_statement_tells_how_many_rows_it_changed),
        TEST(every_kind_of_value_comes_back),
        TEST(a_parameter_is_copied_and_never_read_as_sql),
        TEST(rows_end_with_their_transaction),
        TEST(a_statement_can_run_inside_itself),
        TEST(text_at_a_reused_address_is_another_statement),
        TEST(threads_take_turns),
        TEST(a_second_writer_waits_for_the_first),
        TEST(a_reader_sees_one_moment),
        TEST(a_reader_cannot_write),
        TEST(S1_no_connection_crosses_a_fork),
        TEST(opening_a_reader_too_early_is_transient),
        TEST(a_new_database_is_nobody_elses),
        TEST(a_folder_that_is_not_there_is_named),
        TEST(a_folder_without_the_right_to_write_is_a_clear_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
