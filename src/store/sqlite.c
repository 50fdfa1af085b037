/* The SQLite driver: opening, transactions, checkpoints. What each setting is for stands beside it. Rules S1 and S2. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "store/sqlite-internal.h"

#define SQLITE_OLDEST 3051003 /* the first without the race between writing and checkpointing connections */
#define BUSY_TIMEOUT_MS 10000
#define BUSY_PAUSE_LONGEST_US 2000
#define CHECKPOINT_PAGES 1000
#define RESTART_PAGES (16 * CHECKPOINT_PAGES)
#define RESTART_TIMEOUT_MS 250
#define RESTART_PAUSE_MS 3000 /* who reads that long, as a backup does, is not waited for at each commit */
#define LOG_SETTINGS /* a log that grew past the limit is cut back to it */                                            \
    "PRAGMA mmap_size = 0; PRAGMA journal_size_limit = 67108864"

int store_check_sqlite_version(int number, const char *version, struct error **ret_error) {
    if (number >= SQLITE_OLDEST) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "use SQLite %s: versions before 3.51.3 can damage a database that several processes use; build "
                     "Slipway with 3.51.3 or newer",
                     version);
}

static struct sqlite_connection *own(struct store_connection *base) {
    return CONTAINER_OF(base, struct sqlite_connection, base);
}

static int run_script(struct sqlite_connection *connection, const char *sql, struct error **ret_error) {
    int code = sqlite3_exec(connection->database, sql, NULL, NULL, NULL);
    if (code == SQLITE_OK) return 0;
    return sqlite_fail(connection, code, ret_error, "run \"%.80s%s\" on %s", sql, strlen(sql) > 80 ? "…" : "",
                       connection->path);
}

/* The first column of the first row; *ret_text is copied. */
static int ask(struct sqlite_connection *connection, const char *sql, char **ret_text, struct error **ret_error) {
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(connection->database, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(statement);
    int result = 0;
    if (code == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        *ret_text = text_copy(text ? text : "");
    } else {
        result = sqlite_fail(connection, code, ret_error, "ask %s for \"%s\"", connection->path, sql);
    }
    sqlite3_finalize(statement);
    return result;
}

/* ---- opening ---- */

static void sqlite_close(struct store_connection *base) {
    struct sqlite_connection *connection = own(base);
    sqlite_free_statements(connection);
    /* The last writer to close moves its log into the database; not one whose disk has just failed (S1). */
    if (atomic_load(&connection->base.broken))
        sqlite3_db_config(connection->database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close_v2(connection->database);
    if (connection->log_file >= 0) close(connection->log_file);
    free(connection->path);
    free(connection);
}

/* A new file is ours alone (0600), and so are the log and the shared memory beside it, which take after it. It is
 * closed again before SQLite opens it: closing any descriptor of a file drops this process's locks on it, and a new one
 * has none. */
static int make_file(const char *path, struct error **ret_error) {
    _cleanup_close_ int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file >= 0 || errno == EEXIST) return 0;
    if (errno == ENOSPC || errno == EDQUOT)
        return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "make %s: the disk is full; free some space there",
                               path);
    return error_set_errno(ret_error, ERROR_CONFIGURATION, errno,
                           "make %s (the state folder must be there and writable)", path);
}

static int require_writable(const char *path, struct error **ret_error) {
    if (!access(path, R_OK | W_OK)) return 0;
    return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open %s for reading and writing", path);
}

static int require_there(const char *path, const struct store_options *options, struct error **ret_error) {
    if (!access(path, R_OK)) return 0;
    if (errno != ENOENT) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open %s for reading", path);
    int result = error_set(ret_error, ERROR_UNAVAILABLE, "open %s: it is not there yet; %s makes it", path,
                           options->schema->maker);
    error_mark_transient(ret_error);
    return result;
}

static int check_file(const char *path, const struct store_options *options, struct error **ret_error) {
    int result = 0;
    if (!options->create && (result = require_there(path, options, ret_error)) < 0) return result;
    if (options->role == STORE_READER) return 0;
    if ((result = store_check_filesystem(path, ret_error)) < 0) return result;
    if (options->create && (result = make_file(path, ret_error)) < 0) return result;
    return require_writable(path, ret_error);
}

/* SQLite's own handler soon pauses for 100 ms at a time, in which another process that writes without a rest takes the
 * lock again and again. With short pauses both get it. */
static int pause_while_busy(void *context, int count) {
    struct sqlite_connection *connection = context;
    uint64_t now = clock_monotonic_ms();
    if (!count) connection->busy_since_ms = now;
    if (now - connection->busy_since_ms >= BUSY_TIMEOUT_MS) return 0;
    useconds_t pause_us = 100 * ((useconds_t)count + 1);
    usleep(pause_us < BUSY_PAUSE_LONGEST_US ? pause_us : BUSY_PAUSE_LONGEST_US);
    return 1;
}

static int note_log_pages(void *context, sqlite3 *database, const char *name, int pages) {
    (void)database, (void)name;
    ((struct sqlite_connection *)context)->log_pages = pages;
    return SQLITE_OK;
}

static int expect(struct sqlite_connection *connection, const char *sql, const char *wanted, struct error **ret_error) {
    _cleanup_free_ char *answer = NULL;
    int result = ask(connection, sql, &answer, ret_error);
    if (result < 0) return result;
    if (!strcmp(answer, wanted)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "set up %s: \"%s\" gave %s instead of %s", connection->path, sql,
                     answer, wanted);
}

static int set_up(struct sqlite_connection *connection, bool relaxed, struct error **ret_error) {
    sqlite3 *database = connection->database;
    sqlite3_extended_result_codes(database, 1);
    sqlite3_busy_handler(database, pause_while_busy, connection);
    sqlite3_db_config(database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL); /* a file from elsewhere runs no functions */
    sqlite3_db_config(database, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    sqlite3_limit(database, SQLITE_LIMIT_ATTACHED, 0);
    /* Its own checkpoint after a commit would hide a failed fsync: ours (checkpoint_if_due) does not. */
    sqlite3_wal_autocheckpoint(database, 0);
    if (connection->role != STORE_OWNER) sqlite3_db_config(database, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    int result = 0;
    if (connection->role == STORE_READER) {
        result = run_script(connection, "PRAGMA query_only = 1; PRAGMA mmap_size = 0", ret_error);
    } else {
        sqlite3_wal_hook(database, note_log_pages, connection);
        result = expect(connection, "PRAGMA journal_mode = WAL", "wal", ret_error);
        if (!result)
            result = run_script(connection,
                                relaxed ? "PRAGMA synchronous = NORMAL; " LOG_SETTINGS
                                        : "PRAGMA synchronous = FULL; " LOG_SETTINGS,
                                ret_error);
        if (!result) result = expect(connection, "PRAGMA synchronous", relaxed ? "1" : "2", ret_error);
    }
    if (!result) result = expect(connection, "PRAGMA foreign_keys", "1", ret_error);
    sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return result;
}

static int sqlite_open(const char *path, const struct store_options *options, struct store_connection **ret_connection,
                       struct error **ret_error) {
    int result = store_check_sqlite_version(sqlite3_libversion_number(), sqlite3_libversion(), ret_error);
    if (!result) result = check_file(path, options, ret_error);
    if (result < 0) return result;

    struct sqlite_connection *connection = mem_new(struct sqlite_connection);
    connection->path = text_copy(path);
    connection->role = options->role;
    connection->log_file = -1;
    int flags = options->role == STORE_READER ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    int code = sqlite3_open_v2(path, &connection->database, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code == SQLITE_OK)
        result = set_up(connection, options->relaxed, ret_error);
    else
        result = sqlite_fail(connection, code, ret_error, "open %s", path);
    if (result < 0) {
        sqlite_close(&connection->base);
        return result;
    }
    *ret_connection = &connection->base;
    return 0;
}

/* ---- transactions ---- */

static int sqlite_begin(struct store_connection *base, struct error **ret_error) {
    struct sqlite_connection *connection = own(base);
    const char *sql = connection->role == STORE_READER ? "BEGIN" : "BEGIN IMMEDIATE";
    int code = sqlite3_exec(connection->database, sql, NULL, NULL, NULL);
    if (code == SQLITE_OK) return 0;
    return sqlite_fail(connection, code, ret_error, "begin a transaction on %s", connection->path);
}

static void sqlite_rollback(struct store_connection *base) {
    struct sqlite_connection *connection = own(base);
    if (!sqlite3_get_autocommit(connection->database)) sqlite3_exec(connection->database, "ROLLBACK", NULL, NULL, NULL);
}

static int sqlite_checkpoint(struct store_connection *base, struct error **ret_error) {
    struct sqlite_connection *connection = own(base);
    int code = sqlite3_wal_checkpoint_v2(connection->database, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (code == SQLITE_OK || code == SQLITE_BUSY) return 0; /* readers are in the way: the rest goes next time */
    return sqlite_fail(connection, code, ret_error, "move the log of %s into it", connection->path);
}

/* Where somebody reads at every moment, the log is never begun anew by itself: this makes new readers and writers wait
 * a moment for those that use it. Busy: next time. */
static void restart_log(struct sqlite_connection *connection) {
    if (clock_monotonic_ms() < connection->restart_not_before_ms) return;
    sqlite3_busy_timeout(connection->database, RESTART_TIMEOUT_MS);
    int code = sqlite3_wal_checkpoint_v2(connection->database, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    if (code != SQLITE_OK && code != SQLITE_BUSY)
        sqlite_fail(connection, code, NULL, "begin the log of %s anew", connection->path);
    if (code == SQLITE_BUSY) connection->restart_not_before_ms = clock_monotonic_ms() + RESTART_PAUSE_MS;
    sqlite3_busy_handler(connection->database, pause_while_busy, connection);
}

/* The commit stands whatever becomes of this. What can be tried again is, after the next commit; a failed fsync marks
 * the connection, and the next call says so. */
static void checkpoint_if_due(struct sqlite_connection *connection) {
    if (connection->role != STORE_OWNER || connection->log_pages < CHECKPOINT_PAGES) return;
    if (sqlite_checkpoint(&connection->base, NULL) < 0) return;
    if (connection->log_pages >= RESTART_PAGES) restart_log(connection);
}

/* The descriptor is kept: an error that the kernel meets later is told to those that were open then. Closing one of the
 * log costs no lock, unlike one of the database itself. */
static int open_log(struct sqlite_connection *connection, int *ret_file, struct error **ret_error) {
    *ret_file = atomic_load(&connection->log_file);
    if (*ret_file >= 0) return 0;
    _cleanup_free_ char *path = text_format("%s-wal", connection->path);
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "open %s", path);
    _cleanup_free_ char *folder = text_copy_bytes(path, (size_t)(strrchr(path, '/') - path) + 1);
    int result = fs_sync_folder(folder, ret_error); /* its name, too, was not synced before */
    if (result < 0) return result;
    int none = -1;
    *ret_file = file;
    if (atomic_compare_exchange_strong(&connection->log_file, &none, file))
        file = -1;
    else
        *ret_file = none; /* another thread was first */
    return 0;
}

/* What is no longer in the log was synced into the database before the log was begun anew. */
static int sqlite_sync(struct store_connection *base, struct error **ret_error) {
    struct sqlite_connection *connection = own(base);
    int file, result = open_log(connection, &file, ret_error);
    if (result < 0) return result;
    if (!fdatasync(file)) return 0;
    atomic_store(&connection->base.broken, true);
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno,
                           "sync the log of %s (the disk did not take what was written; look at the disk, then restart "
                           "the service)",
                           connection->path);
}

static int sqlite_commit(struct store_connection *base, struct error **ret_error) {
    struct sqlite_connection *connection = own(base);
    if (sqlite3_get_autocommit(connection->database)) /* SQLite has rolled back by itself */
        return error_set(ret_error, ERROR_DEPLOYMENT, "commit to %s: its transaction was rolled back",
                         connection->path);
    connection->log_pages = 0;
    int code = sqlite3_exec(connection->database, "COMMIT", NULL, NULL, NULL);
    if (code == SQLITE_OK) {
        checkpoint_if_due(connection);
        return 0;
    }
    int result = sqlite_fail(connection, code, ret_error, "commit to %s", connection->path);
    sqlite_rollback(base);
    return result;
}

/* ---- the schema ---- */

static int sqlite_get_version(struct store_connection *base, int64_t *ret_version, struct error **ret_error) {
    _cleanup_free_ char *answer = NULL;
    int result = ask(own(base), "PRAGMA user_version", &answer, ret_error);
    if (!result) *ret_version = strtoll(answer, NULL, 10);
    return result;
}

static int sqlite_set_version(struct store_connection *base, int64_t version, struct error **ret_error) {
    _cleanup_free_ char *sql = text_format("PRAGMA user_version = %lld", (long long)version);
    return run_script(own(base), sql, ret_error);
}

/* The file's header has a number that is the application's to use. */
static int sqlite_get_mark(struct store_connection *base, int64_t *ret_mark, struct error **ret_error) {
    _cleanup_free_ char *answer = NULL;
    int result = ask(own(base), "PRAGMA application_id", &answer, ret_error);
    if (!result) *ret_mark = strtoll(answer, NULL, 10);
    return result;
}

static int sqlite_set_mark(struct store_connection *base, int64_t mark, struct error **ret_error) {
    _cleanup_free_ char *sql = text_format("PRAGMA application_id = %lld", (long long)mark);
    return run_script(own(base), sql, ret_error);
}

static int sqlite_script(struct store_connection *base, const char *sql, struct error **ret_error) {
    return run_script(own(base), sql, ret_error);
}

const struct store_driver sqlite_driver = {
    .name = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .get_version = sqlite_get_version,
    .set_version = sqlite_set_version,
    .get_mark = sqlite_get_mark,
    .set_mark = sqlite_set_mark,
    .script = sqlite_script,
    .start = sqlite_start,
    .step = sqlite_step,
    .column = sqlite_column,
    .finish = sqlite_finish,
    .checkpoint = sqlite_checkpoint,
    .sync = sqlite_sync,
    .get_changes = sqlite_get_changes,
    .copy = sqlite_copy,
    .verify = sqlite_verify,
};
