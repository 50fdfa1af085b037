#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/store-internal.h"

/* A statement with more parameters than this is a mistake. */
#define PARAMETERS_MAXIMUM 64

struct store_transaction {
    struct store *store;
    bool failed; /* can only be rolled back */
    struct store_rows *rows;
};

struct store {
    const struct store_driver *driver;
    struct store_connection *connection;
    char *path;
    pid_t owner; /* the process that opened it */
    /* Whose turn it is, from begin to commit or rollback. Not a mutex, for a transaction may change its thread. */
    sem_t turn;
    _Atomic(pthread_t) holder; /* who began what runs; 0: nobody */
    struct store_transaction transaction;
};

struct store_rows {
    struct store_transaction *transaction; /* NULL when it has ended */
    struct store_cursor *cursor;
    bool on_row;
    struct store_rows *next, **link;
};

/* ---- opening ---- */

static struct store *new_store(const struct store_driver *driver, struct store_connection *connection,
                               const char *path) {
    struct store *store = mem_new(struct store);
    store->driver = driver;
    store->connection = connection;
    store->path = text_copy(path);
    store->owner = getpid();
    store->transaction.store = store;
    sem_init(&store->turn, 0, 1);
    return store;
}

static int open_with(const struct store_driver *driver, const char *path, const struct store_options *options,
                     struct store **ret_store, struct error **ret_error) {
    assert(!options->create || options->role == STORE_OWNER);
    struct store_connection *connection = NULL;
    int result = driver->open(path, options, &connection, ret_error);
    if (result < 0) return result;
    result = (options->role == STORE_OWNER ? store_migrate
              : options->any_version       ? store_check_not_newer
                                           : store_check_schema)(driver, connection, options->schema, path, ret_error);
    if (result < 0) {
        driver->close(connection);
        return result;
    }
    *ret_store = new_store(driver, connection, path);
    return 0;
}

int store_open(const char *path, struct store **ret_store, struct error **ret_error) {
    static const struct store_options options = {.schema = &control_schema, .role = STORE_OWNER, .create = true};
    return open_with(&sqlite_driver, path, &options, ret_store, ret_error);
}

int store_open_reader(const char *path, struct store **ret_store, struct error **ret_error) {
    static const struct store_options options = {.schema = &control_schema, .role = STORE_READER};
    return open_with(&sqlite_driver, path, &options, ret_store, ret_error);
}

int store_open_as(const char *path, const struct store_options *options, struct store **ret_store,
                  struct error **ret_error) {
    return open_with(&sqlite_driver, path, options, ret_store, ret_error);
}

void store_close(struct store *store) {
    if (!store) return;
    /* A child's copy of a connection is never closed: that would tidy up files which the parent still uses. */
    if (store->owner == getpid()) store->driver->close(store->connection);
    sem_destroy(&store->turn);
    free(store->path);
    free(store);
}

/* ---- the turn, and what forbids to go on ---- */

static int check_usable(struct store *store, struct error **ret_error) {
    if (store->owner != getpid())
        return error_set(ret_error, ERROR_DEPLOYMENT,
                         "use %s: process %d opened it, and a connection must not cross a fork", store->path,
                         (int)store->owner);
    if (!atomic_load(&store->connection->broken)) return 0;
    return error_set(
        ret_error, ERROR_UNAVAILABLE,
        "use %s: its disk failed or it is damaged, as an earlier error says; restart the service, and look at "
        "the disk first",
        store->path);
}

static void unlock(struct store *store) {
    atomic_store(&store->holder, 0);
    sem_post(&store->turn);
}

static int lock(struct store *store, struct error **ret_error) {
    int result = check_usable(store, ret_error);
    if (result < 0) return result;
    assert(atomic_load(&store->holder) != pthread_self()); /* it would wait for itself for ever */
    while (sem_wait(&store->turn) < 0) assert(errno == EINTR);
    atomic_store(&store->holder, pthread_self());
    result = check_usable(store, ret_error); /* whose turn it was may have broken it */
    if (result < 0) unlock(store);
    return result;
}

bool store_is_broken(struct store *store) {
    return atomic_load(&store->connection->broken);
}

/* ---- transactions ---- */

int store_begin(struct store *store, struct store_transaction **ret_transaction, struct error **ret_error) {
    int result = lock(store, ret_error);
    if (result < 0) return result;
    result = store->driver->begin(store->connection, ret_error);
    if (result < 0) {
        unlock(store);
        return result;
    }
    store->transaction.failed = false;
    *ret_transaction = &store->transaction;
    return 0;
}

static void end_rows(struct store_rows *rows) {
    rows->transaction->store->driver->finish(rows->cursor, NULL);
    *rows->link = rows->next;
    if (rows->next) rows->next->link = rows->link;
    rows->transaction = NULL;
    rows->cursor = NULL;
    rows->on_row = false;
}

static void end_all_rows(struct store_transaction *transaction) {
    while (transaction->rows) end_rows(transaction->rows);
}

int store_commit(struct store_transaction *transaction, struct error **ret_error) {
    struct store *store = transaction->store;
    if (transaction->failed) {
        store_rollback(transaction);
        return error_set(ret_error, ERROR_DEPLOYMENT, "commit to %s: a statement before failed, so all was rolled back",
                         store->path);
    }
    end_all_rows(transaction);
    int result = store->driver->commit(store->connection, ret_error);
    unlock(store);
    return result;
}

void store_rollback(struct store_transaction *transaction) {
    if (!transaction) return;
    struct store *store = transaction->store;
    end_all_rows(transaction);
    store->driver->rollback(store->connection);
    unlock(store);
}

/* ---- statements ---- */

static size_t read_parameters(const char *kinds, va_list arguments, struct store_value *ret_values) {
    size_t count = 0;
    for (const char *kind = kinds; *kind; kind++) {
        assert(count < PARAMETERS_MAXIMUM);
        struct store_value *value = &ret_values[count++];
        *value = (struct store_value){.kind = STORE_NULL};
        switch (*kind) {
        case 'i':
            value->kind = STORE_NUMBER;
            value->number = va_arg(arguments, int64_t);
            break;
        case 'd':
            value->kind = STORE_REAL;
            value->real = va_arg(arguments, double);
            break;
        case 't':
            value->bytes = va_arg(arguments, const char *);
            value->size = value->bytes ? strlen(value->bytes) : 0;
            if (value->bytes) value->kind = STORE_TEXT;
            break;
        case 'b':
            value->bytes = va_arg(arguments, const void *);
            value->size = va_arg(arguments, size_t);
            if (value->bytes) value->kind = STORE_BYTES;
            break;
        default: assert(!"a parameter kind is one of t i d b");
        }
    }
    return count;
}

/* What a failed statement does to its transaction. */
static int note_failure(struct store_transaction *transaction, int result) {
    if (result < 0 && result != -(int)ERROR_CONFLICT) transaction->failed = true;
    return result;
}

static int start(struct store_transaction *transaction, const char *sql, const char *kinds, va_list arguments,
                 struct store_cursor **ret_cursor, struct error **ret_error) {
    struct store *store = transaction->store;
    if (transaction->failed)
        return error_set(ret_error, ERROR_DEPLOYMENT,
                         "use %s: a statement before failed, so its transaction can only be rolled back", store->path);
    struct store_value values[PARAMETERS_MAXIMUM];
    size_t count = read_parameters(kinds, arguments, values);
    return note_failure(transaction,
                        store->driver->start(store->connection, sql, values, count, ret_cursor, ret_error));
}

int store_run(struct store_transaction *transaction, int64_t *ret_changes, struct error **ret_error, const char *sql,
              const char *kinds, ...) {
    struct store_cursor *cursor = NULL;
    va_list arguments;
    va_start(arguments, kinds);
    int result = start(transaction, sql, kinds, arguments, &cursor, ret_error);
    va_end(arguments);
    if (result < 0) return result;
    const struct store_driver *driver = transaction->store->driver;
    while ((result = driver->step(cursor, ret_error)) > 0)
        continue; /* RETURNING gives rows: they are not wanted here */
    int64_t changes = 0;
    driver->finish(cursor, &changes);
    if (result < 0) return note_failure(transaction, result);
    if (ret_changes) *ret_changes = changes;
    return 0;
}

int store_query(struct store_transaction *transaction, struct store_rows **ret_rows, struct error **ret_error,
                const char *sql, const char *kinds, ...) {
    struct store_cursor *cursor = NULL;
    va_list arguments;
    va_start(arguments, kinds);
    int result = start(transaction, sql, kinds, arguments, &cursor, ret_error);
    va_end(arguments);
    if (result < 0) return result;
    struct store_rows *rows = mem_new(struct store_rows);
    *rows = (struct store_rows){
        .transaction = transaction, .cursor = cursor, .next = transaction->rows, .link = &transaction->rows};
    if (rows->next) rows->next->link = &rows->next;
    transaction->rows = rows;
    *ret_rows = rows;
    return 0;
}

int store_next(struct store_rows *rows, struct error **ret_error) {
    if (!rows->transaction) return error_set(ret_error, ERROR_DEPLOYMENT, "read a row: its transaction is over");
    int result = rows->transaction->store->driver->step(rows->cursor, ret_error);
    rows->on_row = result > 0;
    return note_failure(rows->transaction, result);
}

void store_rows_free(struct store_rows *rows) {
    if (!rows) return;
    if (rows->transaction) end_rows(rows);
    free(rows);
}

/* ---- columns ---- */

static struct store_value column_value(struct store_rows *rows, int column, enum store_kind wanted) {
    assert(rows->on_row);
    return rows->transaction->store->driver->column(rows->cursor, column, wanted);
}

const char *store_text(struct store_rows *rows, int column) {
    struct store_value value = column_value(rows, column, STORE_TEXT);
    return value.kind == STORE_NULL ? NULL : value.bytes;
}

char *store_text_copy(struct store_rows *rows, int column) {
    return text_copy(store_text(rows, column));
}

const void *store_bytes(struct store_rows *rows, int column, size_t *ret_size) {
    struct store_value value = column_value(rows, column, STORE_BYTES);
    *ret_size = value.kind == STORE_NULL ? 0 : value.size;
    return value.kind == STORE_NULL ? NULL : value.bytes;
}

int64_t store_number(struct store_rows *rows, int column) {
    struct store_value value = column_value(rows, column, STORE_NUMBER);
    return value.kind == STORE_NULL ? 0 : value.number;
}

double store_real(struct store_rows *rows, int column) {
    struct store_value value = column_value(rows, column, STORE_REAL);
    return value.kind == STORE_NULL ? 0 : value.real;
}

bool store_is_null(struct store_rows *rows, int column) {
    return column_value(rows, column, STORE_NULL).kind == STORE_NULL;
}

int store_checkpoint(struct store *store, struct error **ret_error) {
    int result = lock(store, ret_error);
    if (result < 0) return result;
    if (store->driver->checkpoint) result = store->driver->checkpoint(store->connection, ret_error);
    unlock(store);
    return result;
}

int store_sync(struct store *store, struct error **ret_error) {
    int result = check_usable(store, ret_error);
    if (result < 0) return result;
    return store->driver->sync(store->connection, ret_error);
}

/* ---- copies and checks ---- */

static int check_transaction(struct store_transaction *transaction, struct error **ret_error) {
    if (!transaction->failed) return check_usable(transaction->store, ret_error);
    return error_set(ret_error, ERROR_DEPLOYMENT, "use %s: a statement before failed", transaction->store->path);
}

int store_get_version(struct store_transaction *transaction, int64_t *ret_version, struct error **ret_error) {
    struct store *store = transaction->store;
    int result = check_transaction(transaction, ret_error);
    if (!result) result = store->driver->get_version(store->connection, ret_version, ret_error);
    return note_failure(transaction, result);
}

int store_get_changes(struct store *store, int64_t *ret_changes, struct error **ret_error) {
    int result = lock(store, ret_error);
    if (result < 0) return result;
    result = store->driver->get_changes(store->connection, ret_changes, ret_error);
    unlock(store);
    return result;
}

int store_copy(struct store_transaction *transaction, const char *path, const struct store_progress *progress,
               struct error **ret_error) {
    struct store *store = transaction->store;
    int result = check_transaction(transaction, ret_error);
    return result < 0 ? result : store->driver->copy(store->connection, path, progress, ret_error);
}

int store_verify(struct store_transaction *transaction, void (*tell)(void *context, const char *fault), void *context,
                 struct error **ret_error) {
    struct store *store = transaction->store;
    int result = check_transaction(transaction, ret_error);
    if (!result) result = store->driver->verify(store->connection, tell, context, ret_error);
    return note_failure(transaction, result);
}
