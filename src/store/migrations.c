/* Numbered migrations. schema_NNN.inc is the step to version NNN: adjacent C strings that make one script. A step runs
 * in one transaction together with the new version's number, so that a kill in the middle leaves the version before.
 * They only ever grow: a step that was released is never edited. */
#include <inttypes.h>

#include "base/memory.h"
#include "base/text.h"
#include "store/store-internal.h"

static const char *const steps[] = {
/* schema_001.inc */
#include "store/schema_001.inc"
    ,
/* schema_002.inc */
#include "store/schema_002.inc"
    ,
/* schema_003.inc */
#include "store/schema_003.inc"
    ,
/* schema_004.inc */
#include "store/schema_004.inc"
    ,
};

static const int64_t readers[ARRAY_SIZE(steps)] = {1, 2, 2, 2}; /* 2 → 3 and 3 → 4 only add */

const struct store_schema control_schema = {
    .maker = "the controller", .steps = steps, .count = ARRAY_SIZE(steps), .readers = readers};

const struct store_schema *store_control_schema(void) {
    return &control_schema;
}

int64_t store_schema_version(void) {
    return (int64_t)control_schema.count;
}

static int refuse_newer(const struct store_schema *schema, const char *path, int64_t version,
                        struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "open %s: it was written by a newer Slipway (schema version %" PRId64
                     ", and this one knows versions up to %" PRId64 "); start the newer one, or restore a backup",
                     path, version, (int64_t)schema->count);
}

#define READER_LIMIT 32768

/* What stands beside the version: the oldest version that can work with what the step to it leaves, and the version
 * itself, so that a program that knows nothing of this cannot have left the one without the other. */
static int64_t mark_of(const struct store_schema *schema, int64_t version) {
    return version * READER_LIMIT + (schema->readers ? schema->readers[version - 1] : version);
}

/* Refuses a database that this program cannot work with: a newer one whose steps took away what it needs. */
static int check_readable(const struct store_driver *driver, struct store_connection *connection,
                          const struct store_schema *schema, const char *path, int64_t version,
                          struct error **ret_error) {
    int64_t mark = 0;
    if (version <= (int64_t)schema->count) return 0;
    int result = driver->get_mark(connection, &mark, ret_error);
    if (result < 0) return result;
    bool is_told = mark / READER_LIMIT == version;
    return is_told && mark % READER_LIMIT <= (int64_t)schema->count ? 0
                                                                    : refuse_newer(schema, path, version, ret_error);
}

/* One step, if it is still due. *ret_version is the version after it. */
static int migrate_once(const struct store_driver *driver, struct store_connection *connection,
                        const struct store_schema *schema, const char *path, int64_t *ret_version,
                        struct error **ret_error) {
    int result = driver->begin(connection, ret_error);
    if (result < 0) return result;
    int64_t version = 0; /* asked again: another process may have been first */
    result = driver->get_version(connection, &version, ret_error);
    if (result < 0) goto failed;
    if ((result = check_readable(driver, connection, schema, path, version, ret_error)) < 0) goto failed;
    if (version < (int64_t)schema->count) {
        if ((result = driver->script(connection, schema->steps[version], ret_error)) < 0) goto failed;
        if ((result = driver->set_version(connection, ++version, ret_error)) < 0) goto failed;
        if ((result = driver->set_mark(connection, mark_of(schema, version), ret_error)) < 0) goto failed;
    }
    result = driver->commit(connection, ret_error);
    if (result < 0) return result;
    *ret_version = version;
    return 0;
failed:
    driver->rollback(connection);
    return result;
}

int store_migrate(const struct store_driver *driver, struct store_connection *connection,
                  const struct store_schema *schema, const char *path, struct error **ret_error) {
    int64_t version = 0;
    int result = driver->get_version(connection, &version, ret_error);
    if (result < 0) return result;
    if ((result = check_readable(driver, connection, schema, path, version, ret_error)) < 0) return result;
    while (version < (int64_t)schema->count) {
        int64_t next = version + 1;
        result = migrate_once(driver, connection, schema, path, &version, ret_error);
        if (result < 0) {
            error_wrap(ret_error, "bring %s to schema version %" PRId64, path, next);
            return result;
        }
    }
    return 0;
}

int store_check_not_newer(const struct store_driver *driver, struct store_connection *connection,
                          const struct store_schema *schema, const char *path, struct error **ret_error) {
    int64_t version = 0;
    int result = driver->get_version(connection, &version, ret_error);
    if (result < 0) return result;
    return check_readable(driver, connection, schema, path, version, ret_error);
}

int store_check_schema(const struct store_driver *driver, struct store_connection *connection,
                       const struct store_schema *schema, const char *path, struct error **ret_error) {
    int64_t version = 0;
    int result = driver->get_version(connection, &version, ret_error);
    if (result < 0) return result;
    if ((result = check_readable(driver, connection, schema, path, version, ret_error)) < 0) return result;
    if (version >= (int64_t)schema->count) return 0;
    error_set(ret_error, ERROR_UNAVAILABLE,
              "open %s: its schema is not ready yet (version %" PRId64 " of %" PRId64 "); %s makes it", path, version,
              (int64_t)schema->count, schema->maker);
    error_mark_transient(ret_error);
    return -(int)ERROR_UNAVAILABLE;
}
