#include "store/store_handover.h"

#include <inttypes.h>

#include "base/fs.h"

static int read_version(struct store *store, int64_t *ret_version, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *transaction = NULL;
    int result = store_begin(store, &transaction, ret_error);
    return result < 0 ? result : store_get_version(transaction, ret_version, ret_error);
}

static int64_t newest_reader(const struct store_schema *schema) {
    return schema->readers ? schema->readers[schema->count - 1] : (int64_t)schema->count;
}

int store_check_handover(const char *path, const struct store_schema *schema, struct error **ret_error) {
    const struct store_options options = {.schema = schema, .role = STORE_READER, .any_version = true};
    struct store *store = NULL;
    int64_t version = 0;
    if (!fs_exists(path)) return 0;
    int result = store_open_as(path, &options, &store, ret_error);
    if (result < 0) return result;
    result = read_version(store, &version, ret_error);
    store_close(store);
    bool is_migrated = version > 0 && version < (int64_t)schema->count;
    if (result < 0 || !is_migrated || newest_reader(schema) <= version) return result;
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s has schema version %" PRId64 ", and what it would be brought to (%" PRId64
                     ") can only be read from version %" PRId64
                     " on: the program that runs could not be gone back to; upgrade by way of a version between them",
                     path, version, (int64_t)schema->count, newest_reader(schema));
}
