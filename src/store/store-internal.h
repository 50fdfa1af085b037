/* What the store's files share: the driver's contract, the migrations, the check of the file system.
 *
 * store.c owns the turn, the life of transactions and rows, and the rule that a broken store stays broken; a driver
 * owns one connection and knows one database. store.c calls a driver only in the caller's turn (but for sync), and once
 * the driver has set connection->broken only to finish, roll back and close.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "store/store.h"

struct store_value {
    enum store_kind { STORE_NULL, STORE_NUMBER, STORE_REAL, STORE_TEXT, STORE_BYTES } kind;
    union {
        int64_t number;
        double real;
        struct {
            const void *bytes; /* text: also NUL-terminated */
            size_t size;
        };
    };
};

/* The head of every driver's own connection. */
struct store_connection {
    atomic_bool broken; /* a failed fsync, a damaged file: nothing may be asked of it any more */
};
struct store_cursor; /* a running statement: the driver's own */

struct store_driver {
    const char *name;
    /* Does not look at the schema. */
    int (*open)(const char *path, const struct store_options *options, struct store_connection **ret_connection,
                struct error **ret_error);
    void (*close)(struct store_connection *connection);
    int (*begin)(struct store_connection *connection, struct error **ret_error);
    int (*commit)(struct store_connection *connection, struct error **ret_error); /* over, also when it fails */
    void (*rollback)(struct store_connection *connection);
    /* The schema's version, 0 for none; setting it takes part in the transaction. */
    int (*get_version)(struct store_connection *connection, int64_t *ret_version, struct error **ret_error);
    int (*set_version)(struct store_connection *connection, int64_t version, struct error **ret_error);
    /* The same of a number beside it, below 2^31: migrations.c. 0: it was never set. */
    int (*get_mark)(struct store_connection *connection, int64_t *ret_mark, struct error **ret_error);
    int (*set_mark)(struct store_connection *connection, int64_t mark, struct error **ret_error);
    /* Several statements without parameters, inside a transaction. */
    int (*script)(struct store_connection *connection, const char *sql, struct error **ret_error);
    /* Readies `sql` with its parameters, which it copies. On success finish() is owed. */
    int (*start)(struct store_connection *connection, const char *sql, const struct store_value *values, size_t count,
                 struct store_cursor **ret_cursor, struct error **ret_error);
    int (*step)(struct store_cursor *cursor, struct error **ret_error); /* 1: a row; 0: done; negative: failed */
    /* As the kind that is wanted (STORE_NULL: as it is); STORE_NULL when it is NULL. Valid until the next step. */
    struct store_value (*column)(struct store_cursor *cursor, int column, enum store_kind wanted);
    void (*finish)(struct store_cursor *cursor, int64_t *ret_changes); /* ret_changes: NULL, or the rows changed */
    int (*checkpoint)(struct store_connection *connection,
                      struct error **ret_error); /* NULL where there is no such thing */
    /* What was committed is durable. Also while a transaction of this connection runs on another thread. */
    int (*sync)(struct store_connection *connection, struct error **ret_error);
    /* store_get_changes(), store_copy(), store_verify(): the last two inside a transaction. */
    int (*get_changes)(struct store_connection *connection, int64_t *ret_changes, struct error **ret_error);
    int (*copy)(struct store_connection *connection, const char *path, const struct store_progress *progress,
                struct error **ret_error);
    int (*verify)(struct store_connection *connection, void (*tell)(void *context, const char *fault), void *context,
                  struct error **ret_error);
};
extern const struct store_driver sqlite_driver;

/* CONFIGURATION error unless this SQLite has the mended write-ahead log (S1). `number` as sqlite3_libversion_number().
 */
int store_check_sqlite_version(int number, const char *version, struct error **ret_error);

extern const struct store_schema control_schema;
/* The version of the control database's schema that this build speaks. */
int64_t store_schema_version(void);
/* Brings it to the schema's newest version, one transaction a step. CONFIGURATION when it is newer already. */
int store_migrate(const struct store_driver *driver, struct store_connection *connection,
                  const struct store_schema *schema, const char *path, struct error **ret_error);
/* CONFIGURATION when the schema is newer than this build, UNAVAILABLE (transient) when it is older. */
int store_check_schema(const struct store_driver *driver, struct store_connection *connection,
                       const struct store_schema *schema, const char *path, struct error **ret_error);
/* The first of the two only. */
int store_check_not_newer(const struct store_driver *driver, struct store_connection *connection,
                          const struct store_schema *schema, const char *path, struct error **ret_error);

/* CONFIGURATION error when the folder of `path` lies on a network file system (S1). */
int store_check_filesystem(const char *path, struct error **ret_error);
/* The name of the network file system that has this statfs(2) magic, or, for FUSE, this type; NULL for others. */
const char *store_network_filesystem(uint64_t magic, const char *type);
/* The file system type in a line of /proc/self/mountinfo when it is for device major:minor, else NULL; caller frees. */
char *store_mountinfo_type(const char *line, unsigned major, unsigned minor);
