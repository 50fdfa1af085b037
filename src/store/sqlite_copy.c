/* Copying and verifying a SQLite database as a transaction sees it.
 *
 * sqlite3_backup_step() reads through the connection that it is given, and where that has a read transaction open, it
 * reads what that one sees: the copy is of that moment, however much is written meanwhile (sqlite.org/c3ref,
 * "sqlite3_backup_init"; VACUUM INTO does not run inside a transaction). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/sqlite-internal.h"

#define STEP_PAGES 1024
#define FAULTS_MAXIMUM "100"

static struct sqlite_connection *own(struct store_connection *base) {
    return CONTAINER_OF(base, struct sqlite_connection, base);
}

int sqlite_get_changes(struct store_connection *base, int64_t *ret_changes, struct error **ret_error) {
    struct sqlite_connection *connection = own(base);
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(connection->database, "PRAGMA data_version", -1, &statement, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(statement);
    if (code == SQLITE_ROW) *ret_changes = sqlite3_column_int64(statement, 0);
    int result = code == SQLITE_ROW
                     ? 0
                     : sqlite_fail(connection, code, ret_error, "ask %s whether it has changed", connection->path);
    sqlite3_finalize(statement);
    return result;
}

/* ---- copying ---- */

static int make_target(const char *path, struct error **ret_error) {
    _cleanup_close_ int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file >= 0) return 0;
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "make %s", path);
}

/* Nobody else knows of the file before it is whole: no journal, and one sync at the end. */
static int open_target(struct sqlite_connection *target, struct error **ret_error) {
    int code = sqlite3_open_v2(target->path, &target->database,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(target->database, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : sqlite_fail(target, code, ret_error, "open %s", target->path);
}

static void tell(const struct store_progress *progress, sqlite3_backup *backup, uint64_t page_bytes) {
    uint64_t total = (uint64_t)sqlite3_backup_pagecount(backup) * page_bytes;
    uint64_t left = (uint64_t)sqlite3_backup_remaining(backup) * page_bytes;
    if (progress && progress->tell) progress->tell(progress->context, total - left, total);
}

static int copy_pages(struct sqlite_connection *connection, struct sqlite_connection *target,
                      const struct store_progress *progress, struct error **ret_error) {
    sqlite3_backup *backup = sqlite3_backup_init(target->database, "main", connection->database, "main");
    int code = backup ? SQLITE_OK : sqlite3_extended_errcode(target->database);
    while (backup && (code = sqlite3_backup_step(backup, STEP_PAGES)) == SQLITE_OK) tell(progress, backup, 4096);
    if (backup && code == SQLITE_DONE) tell(progress, backup, 4096);
    int end = sqlite3_backup_finish(backup);
    if (code == SQLITE_DONE && end == SQLITE_OK) return 0;
    return sqlite_fail(target, code == SQLITE_DONE ? end : code, ret_error, "copy %s to %s", connection->path,
                       target->path);
}

static int sync_target(const char *path, struct error **ret_error) {
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file >= 0 && !fsync(file)) return 0;
    return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno, "sync %s", path);
}

int sqlite_copy(struct store_connection *base, const char *path, const struct store_progress *progress,
                struct error **ret_error) {
    struct sqlite_connection *connection = own(base);
    struct sqlite_connection target = {.path = (char *)path, .log_file = -1};
    int result = make_target(path, ret_error);
    if (result < 0) return result;
    result = open_target(&target, ret_error);
    if (!result) result = copy_pages(connection, &target, progress, ret_error);
    int code = sqlite3_close_v2(target.database);
    if (!result && code != SQLITE_OK) {
        target.database = NULL;
        result = sqlite_fail(&target, code, ret_error, "close %s", path);
    }
    return result < 0 ? result : sync_target(path, ret_error);
}

/* ---- verifying ---- */

struct listener {
    void (*tell)(void *context, const char *fault);
    void *context;
};

/* Some come with a title, "*** in database main ***", on a line of its own. */
static void tell_structure(const struct listener *listener, sqlite3_stmt *statement) {
    const char *text = (const char *)sqlite3_column_text(statement, 0);
    if (!text || !strcmp(text, "ok")) return;
    const char *end = text_starts_with(text, "***") ? strchr(text, '\n') : NULL;
    _cleanup_free_ char *fault = text_copy(end ? end + 1 : text);
    for (char *at = fault; (at = strchr(at, '\n'));) *at = ';';
    listener->tell(listener->context, fault);
}

/* Columns: table, rowid, the table that is referred to, which key. */
static void tell_reference(const struct listener *listener, sqlite3_stmt *statement) {
    _cleanup_free_ char *fault =
        text_format("row %lld of %s refers to a row of %s that is not there", sqlite3_column_int64(statement, 1),
                    sqlite3_column_text(statement, 0), sqlite3_column_text(statement, 2));
    listener->tell(listener->context, fault);
}

static int run_check(struct sqlite_connection *connection, const char *sql,
                     void (*take)(const struct listener *listener, sqlite3_stmt *statement),
                     const struct listener *listener, struct error **ret_error) {
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(connection->database, sql, -1, &statement, NULL);
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(statement);
        if (code == SQLITE_ROW) take(listener, statement);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? 0 : sqlite_fail(connection, code, ret_error, "look at all of %s", connection->path);
}

int sqlite_verify(struct store_connection *base, void (*tell_fault)(void *context, const char *fault), void *context,
                  struct error **ret_error) {
    struct sqlite_connection *connection = own(base);
    struct listener listener = {tell_fault, context};
    int result =
        run_check(connection, "PRAGMA integrity_check(" FAULTS_MAXIMUM ")", tell_structure, &listener, ret_error);
    if (result < 0) return result;
    return run_check(connection, "PRAGMA foreign_key_check", tell_reference, &listener, ret_error);
}
