/* Rows of the table collections. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

void catalog_entry_clear(struct catalog_entry *entry) {
    free(entry->id);
    free(entry->name);
    free(entry->state);
    free(entry->metric);
    *entry = (struct catalog_entry){0};
}

#define ENTRY_COLUMNS "id, name, state, metric, keep_queries, quantized, outbox_id, created_at"

static struct catalog_entry entry_from_row(struct store_rows *rows) {
    return (struct catalog_entry){
        .id = store_text_copy(rows, 0),
        .name = store_text_copy(rows, 1),
        .state = store_text_copy(rows, 2),
        .metric = store_text_copy(rows, 3),
        .keep_queries = store_number(rows, 4) != 0,
        .quantized = store_number(rows, 5) != 0,
        .outbox_id = store_number(rows, 6),
        .created_at = store_number(rows, 7),
    };
}

int catalog_find(struct store_transaction *tx, const char *name_or_id, struct catalog_entry *ret_entry,
                 struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = text_is_uuid(name_or_id)
                     ? store_query(tx, &rows, ret_error,
                                   "SELECT " ENTRY_COLUMNS " FROM collections WHERE id = lower(?)", "t", name_or_id)
                     : store_query(tx, &rows, ret_error, "SELECT " ENTRY_COLUMNS " FROM collections WHERE name = ?",
                                   "t", name_or_id);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    if (!result) return error_set(ret_error, ERROR_NOT_FOUND, "no collection %s", name_or_id);
    *ret_entry = entry_from_row(rows);
    return 0;
}

int catalog_list(struct store_transaction *tx, int64_t limit, int64_t offset, struct catalog_entry **ret_entries,
                 size_t *ret_count, int64_t *ret_total, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_ask_number(tx, ret_total, ret_error, "SELECT count(*) FROM collections", "");
    if (result < 0 ||
        (result = store_query(tx, &rows, ret_error,
                              "SELECT " ENTRY_COLUMNS " FROM collections ORDER BY created_at DESC, id LIMIT ? OFFSET ?",
                              "ii", limit ? limit : (int64_t)-1, offset)) < 0)
        return result;
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        entries = mem_resize(entries, count + 1, sizeof *entries);
        entries[count++] = entry_from_row(rows);
    }
    if (result < 0) {
        catalog_list_free(entries, count);
        return result;
    }
    *ret_entries = entries;
    *ret_count = count;
    return 0;
}

void catalog_list_free(struct catalog_entry *entries, size_t count) {
    for (size_t i = 0; i < count; i++) catalog_entry_clear(&entries[i]);
    free(entries);
}

void catalog_wait_routed(struct controller *controller, uint64_t timeout_ms) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    static const atomic_bool never = false;
    int64_t generation = 0;
    if (store_begin(controller->store, &tx, NULL) < 0 ||
        store_ask_number(tx, &generation, NULL, "SELECT generation FROM routing WHERE one = 1", "") < 0)
        return;
    store_rollback(TAKE(tx));
    routing_announce(controller->routing, (uint64_t)generation);
    routing_wait_acknowledged(controller->routing, (uint64_t)generation, clock_monotonic_ms() + timeout_ms, &never);
}

char *catalog_root(const struct controller *controller) {
    return fs_join(controller->settings->state, "collections");
}

char *catalog_folder(const struct controller *controller, const char *collection_id) {
    _cleanup_free_ char *root = catalog_root(controller);
    return fs_join(root, collection_id);
}
