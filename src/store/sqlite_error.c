/* SQLite's result codes (sqlite.org/rescode.html) as our errors: one table. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/sqlite-internal.h"

static const struct fault {
    int code; /* extended, or primary for all of its kind that have no row */
    enum error_class class;
    bool transient;
    bool fatal; /* nothing may be asked of this connection any more */
    const char *reason;
} faults[] = {
    {SQLITE_BUSY, ERROR_UNAVAILABLE, true, false, "another process or connection is using it; try again"},
    {SQLITE_LOCKED, ERROR_UNAVAILABLE, true, false, "another statement is using it; try again"},
    {SQLITE_FULL, ERROR_UNAVAILABLE, true, false, "the disk is full; free some space there"},
    {SQLITE_NOMEM, ERROR_UNAVAILABLE, true, false, "out of memory"},
    {SQLITE_IOERR_NOMEM, ERROR_UNAVAILABLE, true, false, "out of memory"},
    {SQLITE_IOERR_FSYNC, ERROR_UNAVAILABLE, false, true,
     "the disk did not take what was written (fsync failed), so nothing more is written; look at the disk, then restart "
     "the service"},
    {SQLITE_IOERR_DIR_FSYNC, ERROR_UNAVAILABLE, false, true,
     "the disk did not take what was written (fsync of the folder failed), so nothing more is written; look at the disk, "
     "then restart the service"},
    {SQLITE_IOERR, ERROR_UNAVAILABLE, true, false, "the disk or its file system failed"},
    {SQLITE_CORRUPT, ERROR_DEPLOYMENT, false, true,
     "the file is damaged; restore it from a backup, then restart the service"},
    {SQLITE_NOTADB, ERROR_CONFIGURATION, false, true,
     "the file is not a database; give another state folder, or put the right file there"},
    {SQLITE_READONLY_DBMOVED, ERROR_DEPLOYMENT, false, true,
     "the file was moved or removed while it was open; restart the "
     "service"},
    {SQLITE_READONLY, ERROR_CONFIGURATION, false, false,
     "it cannot be written; check the rights of the file and its folder"},
    {SQLITE_PERM, ERROR_CONFIGURATION, false, false, "access is denied; check the rights of the file and its folder"},
    {SQLITE_CANTOPEN, ERROR_CONFIGURATION, false, false,
     "it cannot be opened; check the rights of the file and its folder"},
    {SQLITE_CONSTRAINT_UNIQUE, ERROR_CONFLICT, false, false, NULL},
    {SQLITE_CONSTRAINT_PRIMARYKEY, ERROR_CONFLICT, false, false, NULL},
    {SQLITE_CONSTRAINT_ROWID, ERROR_CONFLICT, false, false, NULL},
    {SQLITE_TOOBIG, ERROR_DEPLOYMENT, false, false, "a value is too large"},
};

static const struct fault *find_fault(int code) {
    static const struct fault unknown = {.class = ERROR_DEPLOYMENT};
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
        if (faults[i].code == code) return &faults[i];
    return code == (code & 0xff) ? &unknown : find_fault(code & 0xff);
}

/* "reason (what SQLite and the system say)". */
static char *describe(const struct sqlite_connection *connection, int code, const struct fault *fault,
                      int errno_value) {
    char buffer[128];
    /* The connection speaks of its last failure, which may be another one than `code`. */
    bool same = connection->database && sqlite3_extended_errcode(connection->database) == code;
    const char *says = same ? sqlite3_errmsg(connection->database) : sqlite3_errstr(code);
    const char *system = errno_value ? strerror_r(errno_value, buffer, sizeof buffer) : NULL;
    if (!fault->reason) return text_format("%s%s%s", says, system ? ": " : "", system ? system : "");
    return text_format("%s (%s%s%s)", fault->reason, says, system ? ": " : "", system ? system : "");
}

int sqlite_fail(struct sqlite_connection *connection, int code, struct error **ret_error, const char *format, ...) {
    const struct fault *fault = find_fault(code);
    int errno_value = 0;
    if (connection->database && ((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN))
        errno_value = sqlite3_system_errno(connection->database);
    if (!fault->fatal && (errno_value == ENOSPC || errno_value == EDQUOT)) fault = find_fault(SQLITE_FULL);
    if (fault->fatal) atomic_store(&connection->base.broken, true);

    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *what = text_format_list(format, arguments);
    va_end(arguments);
    _cleanup_free_ char *why = describe(connection, code, fault, errno_value);
    int result = error_set(ret_error, fault->class, "%s: %s", what, why);
    if (fault->transient) error_mark_transient(ret_error);
    return result;
}
