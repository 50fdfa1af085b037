/* The store: one small SQL surface over a driver (SQLite now; PostgreSQL is a second struct store_driver with the same
 * queries).
 *
 * A struct store is one connection, guarded by store_begin()/store_commit(): what begins a transaction has the
 * connection alone until its end, so that any thread may run one while others wait. A transaction is used by one thread
 * at a time, and a thread has one of a store at a time. A process may have several connections to one file. The control
 * database is written by the controller (store_open) and read by gateways (store_open_reader); others are opened with
 * store_open_as(). Rules S1 to S5. No connection crosses a fork: its calls fail in the child. May use: base.
 *
 *     _cleanup_transaction_ struct store_transaction *tx = NULL;
 *     _cleanup_rows_ struct store_rows *rows = NULL;
 *     store_begin(store, &tx, ret_error)                                        BEGIN IMMEDIATE; locks
 *     store_run(tx, NULL, ret_error, "UPDATE tasks SET status = ? WHERE id = ?", "tt", status, id)
 *     store_query(tx, &rows, ret_error, "SELECT … WHERE …", "i", number)        then while (store_next(rows, …) > 0) …
 *     store_commit(TAKE(tx), ret_error)                                         unlocks
 *
 * Parameter kinds in the format string: t text (NULL gives SQL NULL), i int64_t, d double, b const void * + size_t
 * (NULL gives SQL NULL). They are copied. Pass exactly these types: an int for an i is a fault (cast it). Statements
 * are prepared once and kept (keyed by the address of the SQL text: pass literals).
 *
 * Errors, all naming the file: UNAVAILABLE and transient when it is busy, the disk is full or memory is gone; CONFLICT
 * for a UNIQUE violation; DEPLOYMENT for the rest. After a CONFLICT that one statement is undone and the transaction
 * goes on; after any other error the transaction can only be rolled back: its further calls and its commit fail.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct store;
struct store_transaction;
struct store_rows;

/* Opens or makes <state>/control.db (mode 0600; its folder must be there) and migrates it. CONFIGURATION errors: a
 * database from a newer version (says both numbers), not a database, an unwritable folder, a network file system, an
 * SQLite library that is too old (S1). UNAVAILABLE: no space, another process holds it. */
int store_open(const char *path, struct store **ret_store, struct error **ret_error);
/* Read-only, without checkpoints (S2); UNAVAILABLE (transient) when the file or its schema is not there yet. */
int store_open_reader(const char *path, struct store **ret_store, struct error **ret_error);
void store_close(struct store *store); /* no transaction may be running; NULL is fine */

/* ---- other databases than the control database ---- */

/* A schema: its steps in order, each a script; a step that was released is never edited. Static data.
 *
 * A step has, besides, the oldest version whose programs can work with what it leaves (RULES U3): one that only adds
 * leaves that as it was; one that takes something away comes a version after the last that needed it. It stands in the
 * database, so that a program which does not know the step knows whether it may open it. */
struct store_schema {
    const char *maker; /* who makes it, for messages: "the controller" */
    const char *const *steps;
    size_t count; /* the newest version */
    const int64_t *readers; /* of each step, the oldest such version; NULL: none but its own */
};
/* S2: of the processes that have a database open, one is its owner. */
enum store_role {
    STORE_OWNER, /* writes, migrates, checkpoints */
    STORE_WRITER, /* writes; never checkpoints */
    STORE_READER,
};
struct store_options {
    const struct store_schema *schema;
    enum store_role role;
    bool create; /* owner: makes the file when it is not there; else that is UNAVAILABLE and transient */
    bool relaxed; /* a commit is not synced: a power cut may take the last ones, in their order, until store_sync() */
    bool any_version; /* reader: of an older version, too, to copy it or to look at it */
};
const struct store_schema *store_control_schema(void); /* of the control database */
/* Errors as those of store_open() and, for roles that do not migrate, of store_open_reader(). */
int store_open_as(const char *path, const struct store_options *options, struct store **ret_store,
                  struct error **ret_error);
/* What any connection of any process has committed before is durable when it returns 0: for relaxed databases. Any
 * role. A failed fsync breaks this connection (S1). Does not wait for a transaction of this connection. */
int store_sync(struct store *store, struct error **ret_error);

/* True from a failed fsync or a damaged file on: every later call fails and says so. The role should end; the one that
 * is started next opens the file anew. Any thread. */
bool store_is_broken(struct store *store);

/* Write transaction (reader: a snapshot, taken by its first query). Blocks on the mutex and up to 10 s on SQLite's
 * lock. */
int store_begin(struct store *store, struct store_transaction **ret_transaction, struct error **ret_error);
/* Durable when it returns 0 (synchronous=FULL). On an error the transaction is rolled back, except when the store is
 * broken from then on: then only the next opening tells. Either way it is over, and its rows have ended. */
int store_commit(struct store_transaction *transaction, struct error **ret_error);
void store_rollback(struct store_transaction *transaction); /* NULL is fine; its rows have ended */
static inline void store_rollback_pointer(struct store_transaction **transaction) {
    store_rollback(*transaction);
}
#define _cleanup_transaction_ __attribute__((cleanup(store_rollback_pointer)))

/* Runs a statement; *ret_changes (may be NULL) is how many rows it changed. A UNIQUE violation is ERROR_CONFLICT. */
int store_run(struct store_transaction *transaction, int64_t *ret_changes, struct error **ret_error, const char *sql,
              const char *kinds, ...);
/* Rows stand before the first one; free them with store_rows_free(), before or after the transaction's end. */
int store_query(struct store_transaction *transaction, struct store_rows **ret_rows, struct error **ret_error,
                const char *sql, const char *kinds, ...);
/* 1: a row is there; 0: no more; negative: failed. */
int store_next(struct store_rows *rows, struct error **ret_error);
void store_rows_free(struct store_rows *rows);
static inline void store_rows_free_pointer(struct store_rows **rows) {
    store_rows_free(*rows);
}
#define _cleanup_rows_ __attribute__((cleanup(store_rows_free_pointer)))
/* Columns from 0, of the row that store_next() gave. Text and bytes are valid until the next store_next(); NULL for SQL
 * NULL. */
const char *store_text(struct store_rows *rows, int column);
char *store_text_copy(struct store_rows *rows, int column);
const void *store_bytes(struct store_rows *rows, int column, size_t *ret_size);
int64_t store_number(struct store_rows *rows, int column);
double store_real(struct store_rows *rows, int column);
bool store_is_null(struct store_rows *rows, int column);
/* PASSIVE checkpoint of the write-ahead log; the owner only (S2). Its commits do it by themselves when the log has
 * grown to 1000 pages, and begin the log anew when constant reading has let it grow far beyond. */
int store_checkpoint(struct store *store, struct error **ret_error);

/* ---- copies and checks (state/) ---- */

/* The version of its schema, as the transaction sees it. */
int store_get_version(struct store_transaction *transaction, int64_t *ret_version, struct error **ret_error);
/* Another number than before when any other connection, of any process, has committed since this one was asked last.
 * Not while a transaction of this connection runs on the same thread. */
int store_get_changes(struct store *store, int64_t *ret_changes, struct error **ret_error);

struct store_progress {
    void (*tell)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};
/* Writes what the transaction sees into the new file `path`, synced but for its name, and nothing else: others go on
 * writing, and the copy does not move. `progress` may be NULL. On an error a part of it may be there. */
int store_copy(struct store_transaction *transaction, const char *path, const struct store_progress *progress,
               struct error **ret_error);
/* Looks at all of it: its structure, its indexes against its tables, its foreign keys. Calls `tell` for each fault, at
 * most some hundred. What is inside of a text or a number has no checksum: a flipped bit there is not seen. Negative
 * when the file is so damaged that the look ends there. */
int store_verify(struct store_transaction *transaction, void (*tell)(void *context, const char *fault), void *context,
                 struct error **ret_error);
