/* The SQLite driver's own: a connection (sqlite.c), its statements (sqlite_statement.c), its errors (sqlite_error.c).
 */
#pragma once
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

#include "store/store-internal.h"

#define STATEMENT_BUCKETS 256 /* a power of two; the statements of a role are a few hundred at most */

struct sqlite_connection;

/* A prepared statement; a running one is the driver's struct store_cursor. */
struct store_cursor {
    struct sqlite_connection *connection;
    const char *sql; /* the caller's pointer: its key */
    sqlite3_stmt *statement;
    bool kept; /* in the table; else freed when finished: the kept one was running */
    bool running;
    struct store_cursor *next; /* in its bucket */
};

struct sqlite_connection {
    struct store_connection base;
    sqlite3 *database;
    char *path;
    enum store_role role;
    int log_pages; /* in the write-ahead log after the last commit */
    uint64_t restart_not_before_ms; /* the log is not begun anew before this */
    uint64_t busy_since_ms; /* since when the statement that runs has been waiting */
    atomic_int log_file; /* of the write-ahead log, to sync it; -1 before the first time */
    struct store_cursor *statements[STATEMENT_BUCKETS];
};

/* Makes an error of a result code: "<what>: <reason>", and marks the connection as broken where the code means that.
 * `ret_error` may be NULL. Returns the class, negative. */
int sqlite_fail(struct sqlite_connection *connection, int code, struct error **ret_error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

int sqlite_start(struct store_connection *connection, const char *sql, const struct store_value *values, size_t count,
                 struct store_cursor **ret_cursor, struct error **ret_error);
int sqlite_step(struct store_cursor *cursor, struct error **ret_error);
struct store_value sqlite_column(struct store_cursor *cursor, int column, enum store_kind wanted);
void sqlite_finish(struct store_cursor *cursor, int64_t *ret_changes);
void sqlite_free_statements(struct sqlite_connection *connection);

/* sqlite_copy.c */
int sqlite_get_changes(struct store_connection *connection, int64_t *ret_changes, struct error **ret_error);
int sqlite_copy(struct store_connection *connection, const char *path, const struct store_progress *progress,
                struct error **ret_error);
int sqlite_verify(struct store_connection *connection, void (*tell)(void *context, const char *fault), void *context,
                  struct error **ret_error);
