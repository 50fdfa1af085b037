/* Statements: prepared once, kept in a small table by the address of their SQL text, run, finished. */
#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "store/sqlite-internal.h"

static size_t bucket_of(const char *sql) {
    return (size_t)(((uintptr_t)sql * (uintptr_t)0x9e3779b97f4a7c15u) >> 32) & (STATEMENT_BUCKETS - 1);
}

static void free_cursor(struct store_cursor *cursor) {
    sqlite3_finalize(cursor->statement);
    free(cursor);
}

void sqlite_free_statements(struct sqlite_connection *connection) {
    for (size_t i = 0; i < STATEMENT_BUCKETS; i++)
        while (connection->statements[i]) {
            struct store_cursor *cursor = connection->statements[i];
            connection->statements[i] = cursor->next;
            free_cursor(cursor);
        }
}

/* The kept statement of this address. An address whose text has changed was no literal: what was kept is let go. */
static struct store_cursor *find_kept(struct sqlite_connection *connection, const char *sql) {
    for (struct store_cursor **link = &connection->statements[bucket_of(sql)]; *link; link = &(*link)->next) {
        struct store_cursor *cursor = *link;
        if (cursor->sql != sql) continue;
        if (!strcmp(sqlite3_sql(cursor->statement), sql)) return cursor;
        *link = cursor->next;
        if (cursor->running)
            cursor->kept = false; /* its rows free it */
        else
            free_cursor(cursor);
        return NULL;
    }
    return NULL;
}

static int prepare(struct sqlite_connection *connection, const char *sql, bool keep, struct store_cursor **ret_cursor,
                   struct error **ret_error) {
    sqlite3_stmt *statement = NULL;
    const char *rest = "";
    int code =
        sqlite3_prepare_v3(connection->database, sql, -1, keep ? SQLITE_PREPARE_PERSISTENT : 0, &statement, &rest);
    if (code != SQLITE_OK)
        return sqlite_fail(connection, code, ret_error, "prepare \"%s\" for %s", sql, connection->path);
    assert(statement && !*rest); /* one statement, nothing behind it */
    struct store_cursor *cursor = mem_new(struct store_cursor);
    *cursor = (struct store_cursor){.connection = connection, .sql = sql, .statement = statement, .kept = keep};
    if (keep) {
        struct store_cursor **bucket = &connection->statements[bucket_of(sql)];
        cursor->next = *bucket;
        *bucket = cursor;
    }
    *ret_cursor = cursor;
    return 0;
}

static int bind(struct store_cursor *cursor, int index, const struct store_value *value) {
    sqlite3_stmt *statement = cursor->statement;
    switch (value->kind) {
    case STORE_NULL: return sqlite3_bind_null(statement, index);
    case STORE_NUMBER: return sqlite3_bind_int64(statement, index, value->number);
    case STORE_REAL: return sqlite3_bind_double(statement, index, value->real);
    case STORE_TEXT:
        return sqlite3_bind_text64(statement, index, value->bytes, value->size, SQLITE_TRANSIENT, SQLITE_UTF8);
    case STORE_BYTES: return sqlite3_bind_blob64(statement, index, value->bytes, value->size, SQLITE_TRANSIENT);
    }
    return SQLITE_MISUSE;
}

int sqlite_start(struct store_connection *base, const char *sql, const struct store_value *values, size_t count,
                 struct store_cursor **ret_cursor, struct error **ret_error) {
    struct sqlite_connection *connection = CONTAINER_OF(base, struct sqlite_connection, base);
    /* SQLite itself rolls back when the disk is full or fails; what came next would commit on its own. */
    if (sqlite3_get_autocommit(connection->database))
        return error_set(ret_error, ERROR_DEPLOYMENT, "use %s: its transaction was rolled back", connection->path);
    struct store_cursor *cursor = find_kept(connection, sql);
    if (!cursor || cursor->running) {
        int result = prepare(connection, sql, !cursor, &cursor, ret_error);
        if (result < 0) return result;
    }
    assert((size_t)sqlite3_bind_parameter_count(cursor->statement) == count);
    cursor->running = true;
    for (size_t i = 0; i < count; i++) {
        int code = bind(cursor, (int)i + 1, &values[i]);
        if (code == SQLITE_OK) continue;
        int result = sqlite_fail(connection, code, ret_error, "give parameter %zu of \"%s\" to %s", i + 1, sql,
                                 connection->path);
        sqlite_finish(cursor, NULL);
        return result;
    }
    *ret_cursor = cursor;
    return 0;
}

int sqlite_step(struct store_cursor *cursor, struct error **ret_error) {
    int code = sqlite3_step(cursor->statement);
    if (code == SQLITE_ROW) return 1;
    if (code == SQLITE_DONE) return 0;
    return sqlite_fail(cursor->connection, code, ret_error, "run \"%s\" on %s", sqlite3_sql(cursor->statement),
                       cursor->connection->path);
}

struct store_value sqlite_column(struct store_cursor *cursor, int column, enum store_kind wanted) {
    sqlite3_stmt *statement = cursor->statement;
    assert(column >= 0 && column < sqlite3_data_count(statement));
    struct store_value value = {.kind = STORE_NULL};
    int type = sqlite3_column_type(statement, column);
    if (type == SQLITE_NULL) return value;
    if (wanted == STORE_NULL)
        wanted = type == SQLITE_INTEGER ? STORE_NUMBER
                 : type == SQLITE_FLOAT ? STORE_REAL
                 : type == SQLITE_TEXT  ? STORE_TEXT
                                        : STORE_BYTES;
    value.kind = wanted;
    switch (wanted) {
    case STORE_NULL: break;
    case STORE_NUMBER: value.number = sqlite3_column_int64(statement, column); break;
    case STORE_REAL: value.real = sqlite3_column_double(statement, column); break;
    case STORE_TEXT: /* NULL only when memory is gone, which must not read like SQL NULL */
        value.bytes = sqlite3_column_text(statement, column);
        if (!value.bytes) abort();
        value.size = (size_t)sqlite3_column_bytes(statement, column);
        break;
    case STORE_BYTES:
        value.bytes = sqlite3_column_blob(statement, column);
        value.size = (size_t)sqlite3_column_bytes(statement, column);
        if (!value.bytes) value.bytes = ""; /* SQLite's way with an empty blob */
        break;
    }
    return value;
}

void sqlite_finish(struct store_cursor *cursor, int64_t *ret_changes) {
    if (ret_changes)
        *ret_changes = sqlite3_stmt_readonly(cursor->statement) ? 0 : sqlite3_changes64(cursor->connection->database);
    if (!cursor->kept) {
        free_cursor(cursor);
        return;
    }
    sqlite3_reset(cursor->statement); /* tells once more what step told */
    sqlite3_clear_bindings(cursor->statement);
    cursor->running = false;
}
