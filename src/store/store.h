/* The store: one small SQL surface over a driver (SQLite now; PostgreSQL is a second struct store_driver with the same queries).
 *
 * A struct store is one connection. The writing connection of the control database belongs to the controller, which
 * guards it with store_begin()/store_commit(): they hold a mutex, so that any of its worker threads may run a transaction
 * while the others wait. Gateways open the same file read-only (store_open_reader) and use it on one worker at a time.
 * Rules S1 to S5. No connection crosses a fork. May use: base.
 *
 *     struct store_transaction *tx; …
 *     store_begin(store, &tx)                       BEGIN IMMEDIATE; locks
 *     store_run(tx, "UPDATE tasks SET status = ? WHERE id = ?", "tt", status, id)
 *     store_query(tx, &rows, "SELECT … WHERE …", "i", number)   then while (store_next(rows)) … store_text(rows, 0)
 *     store_commit(tx) or store_rollback(tx)        unlocks
 *
 * Parameter kinds in the format string: t text (NULL gives SQL NULL), i int64_t, d double, b const void * + size_t.
 * Statements are prepared once and kept (keyed by the address of the SQL text: pass literals).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct store;
struct store_transaction;
struct store_rows;

/* Opens or makes <state>/control.db and migrates it. Errors: a database from a newer version (CONFIGURATION, says both
 * numbers), not a database, no space, unwritable, a network file system. */
int store_open(const char *path, struct store **ret_store, struct error **ret_error);
/* Read-only; UNAVAILABLE (transient) when the file or its schema is not there yet. */
int store_open_reader(const char *path, struct store **ret_store, struct error **ret_error);
void store_close(struct store *store);

/* Write transaction (reader: a read snapshot). Blocks on the mutex and up to 10 s on SQLite's lock. */
int store_begin(struct store *store, struct store_transaction **ret_transaction, struct error **ret_error);
/* Durable when it returns 0 (synchronous=FULL). On an error the transaction is rolled back. Either way it is over. */
int store_commit(struct store_transaction *transaction, struct error **ret_error);
void store_rollback(struct store_transaction *transaction); /* NULL is fine */
static inline void store_rollback_pointer(struct store_transaction **transaction) {
    store_rollback(*transaction);
}
#define _cleanup_transaction_ __attribute__((cleanup(store_rollback_pointer)))

/* Runs a statement; *ret_changes (may be NULL) is how many rows it changed. A UNIQUE violation is ERROR_CONFLICT. */
int store_run(struct store_transaction *transaction, int64_t *ret_changes, struct error **ret_error, const char *sql,
              const char *kinds, ...);
int store_query(struct store_transaction *transaction, struct store_rows **ret_rows, struct error **ret_error,
                const char *sql, const char *kinds, ...);
/* 1: a row is there; 0: no more; negative: failed. */
int store_next(struct store_rows *rows, struct error **ret_error);
void store_rows_free(struct store_rows *rows);
static inline void store_rows_free_pointer(struct store_rows **rows) {
    store_rows_free(*rows);
}
#define _cleanup_rows_ __attribute__((cleanup(store_rows_free_pointer)))
/* Columns from 0. Text is valid until the next store_next(); NULL for SQL NULL. */
const char *store_text(struct store_rows *rows, int column);
char *store_text_copy(struct store_rows *rows, int column);
int64_t store_number(struct store_rows *rows, int column);
double store_real(struct store_rows *rows, int column);
bool store_is_null(struct store_rows *rows, int column);
/* PASSIVE checkpoint of the write-ahead log; the checkpointing process only (S2). */
int store_checkpoint(struct store *store, struct error **ret_error);
