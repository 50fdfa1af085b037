/* Packages for their own sake: kept, removed one by one, pruned. Each removal is decided in one transaction that also
 * takes the row away, behind the gate (pins.c), and only then the files go: two at once never tell of the same one, and
 * a kill between the two leaves files without a row, which the next start removes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/engine-internal.h"
#include "controller/packages.h"

/* ---- keeping ---- */

static int record_kept(struct controller *controller, const struct package_info *info,
                       const struct package_origin *origin, bool *ret_created, struct error **ret_error) {
    _cleanup_free_ char *holder = package_kept_holder(info->digest), *size = text_size(info->size_bytes);
    _cleanup_free_ char *words = text_format("package sha256:%s was uploaded: %s in %llu files", info->digest, size,
                                             (unsigned long long)info->file_count);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int64_t before = 0;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = store_ask_number(tx, &before, ret_error, "SELECT count(*) FROM packages WHERE digest = ?", "t",
                                   info->digest)) < 0 ||
        (result = package_row_record(tx, info->digest, (int64_t)info->size_bytes, (int64_t)info->file_count, origin,
                                     ret_error)) < 0 ||
        /* Uploaded again: its hour begins anew. */
        (result = pin_release(tx, holder, ret_error)) < 0 ||
        (result = pin_package(tx, info->digest, holder, NULL, ret_error)) < 0 ||
        (result = event_add(tx, "package", NULL, NULL, words, NULL, ret_error)) < 0 ||
        (result = store_commit(TAKE(tx), ret_error)) < 0)
        return result;
    *ret_created = !before;
    return 0;
}

/* It could not be recorded: unless somebody else needs it, it goes again. Without a transaction the next start does
 * that. */
static void take_back(struct controller *controller, const char *digest) {
    _cleanup_free_ char *subject = text_format("package:%s", digest);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int64_t rows = 1, pins = 1;
    if (store_begin(controller->store, &tx, NULL) < 0 ||
        store_ask_number(tx, &rows, NULL, "SELECT count(*) FROM packages WHERE digest = ?", "t", digest) < 0 ||
        store_ask_number(tx, &pins, NULL, "SELECT count(*) FROM pins WHERE subject = ?", "t", subject) < 0)
        return;
    store_rollback(TAKE(tx));
    if (!rows && !pins) controller->packages->remove(controller->package_store, digest, NULL);
}

int package_keep(struct controller *controller, const char *work_id, const struct package_info *info,
                 const struct package_origin *origin, bool *ret_created, struct error **ret_error) {
    package_gate_lock(controller->engine);
    int result = controller->packages->publish(controller->package_store, work_id, info, ret_error);
    if (result >= 0) {
        pause_point("package_published");
        result = record_kept(controller, info, origin, ret_created, ret_error);
        if (result < 0) take_back(controller, info->digest);
    }
    package_gate_unlock(controller->engine);
    return result;
}

/* ---- removing one ---- */

/* The first thing besides 'kept' that holds it, as package_add_pins() says it; NULL: nothing. */
static int find_holder(struct store_transaction *tx, const char *digest, char **ret_words, struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = yyjson_mut_obj(document), *item;
    int result = package_add_pins(tx, digest, document, object, ret_error);
    size_t at, count;
    yyjson_mut_arr_foreach(yyjson_mut_obj_get(object, "pinned_by"), at, count, item) {
        if (yyjson_mut_equals_str(item, "kept") || *ret_words) continue;
        *ret_words = text_copy(yyjson_mut_get_str(item));
    }
    return result;
}

static int drop_row(struct store_transaction *tx, const char *digest, const char *why, struct error **ret_error) {
    _cleanup_free_ char *holder = package_kept_holder(digest);
    _cleanup_free_ char *words = text_format("package sha256:%s is removed: %s", digest, why);
    int result = pin_release(tx, holder, ret_error);
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM packages WHERE digest = ?", "t", digest)) < 0)
        return result;
    return event_add(tx, "package", NULL, NULL, words, NULL, ret_error);
}

static int remove_row(struct controller *controller, const char *digest, struct error **ret_error) {
    _cleanup_free_ char *holder = NULL;
    _cleanup_package_row_ struct package_row row = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = package_row_load(tx, digest, &row, ret_error)) < 0 ||
        (result = find_holder(tx, digest, &holder, ret_error)) < 0)
        return result;
    if (holder) return error_set(ret_error, ERROR_CONFLICT, "package sha256:%s is in use: %s needs it", digest, holder);
    if ((result = drop_row(tx, digest, "somebody asked for that", ret_error)) < 0) return result;
    return store_commit(TAKE(tx), ret_error);
}

int package_remove(struct controller *controller, const char *digest, struct error **ret_error) {
    package_gate_lock(controller->engine);
    int result = remove_row(controller, digest, ret_error);
    if (result >= 0) {
        pause_point("package_removing");
        result = controller->packages->remove(controller->package_store, digest, ret_error);
    }
    package_gate_unlock(controller->engine);
    return result;
}

/* ---- pruning ---- */

struct list {
    struct package_pruned *items;
    size_t count;
};

static int load_prunable(struct store_transaction *tx, bool all, struct list *list, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT digest, size_bytes FROM packages k WHERE NOT EXISTS (SELECT 1 FROM pins p WHERE "
                             "p.subject = 'package:' || k.digest AND (substr(p.holder, 1, 5) <> 'kept:' OR "
                             "(? = 0 AND p.created_at > ?))) ORDER BY used_at, digest",
                             "ii", (int64_t)all, clock_wall_ms() - PACKAGE_KEPT_MS);
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        list->items = mem_resize(list->items, list->count + 1, sizeof *list->items);
        struct package_pruned *item = &list->items[list->count++];
        *item = (struct package_pruned){.size_bytes = store_number(rows, 1)};
        snprintf(item->digest, sizeof item->digest, "%s", store_text(rows, 0));
    }
    return result;
}

static int prune_rows(struct controller *controller, bool all, bool dry_run, struct list *list,
                      struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = load_prunable(tx, all, list, ret_error)) < 0) return result;
    if (dry_run) return 0;
    for (size_t i = 0; i < list->count && result >= 0; i++)
        result = drop_row(tx, list->items[i].digest, "nothing uses it, and somebody pruned", ret_error);
    return result < 0 ? result : store_commit(TAKE(tx), ret_error);
}

/* Each as far as it goes: what cannot be removed now has no row any more, and goes at the next start. */
static int remove_files(struct controller *controller, const struct list *list, struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < list->count; i++) {
        pause_point("package_pruning");
        struct error *error = NULL;
        int removed = controller->packages->remove(controller->package_store, list->items[i].digest, &error);
        if (removed < 0 && result >= 0 && ret_error) {
            *ret_error = TAKE(error);
            result = removed;
        }
        error_free(error);
    }
    return result;
}

int package_prune(struct controller *controller, bool all, bool dry_run, struct package_pruned **ret_pruned,
                  size_t *ret_count, struct error **ret_error) {
    struct list list = {0};
    package_gate_lock(controller->engine);
    int result = prune_rows(controller, all, dry_run, &list, ret_error);
    if (result >= 0 && !dry_run) result = remove_files(controller, &list, ret_error);
    package_gate_unlock(controller->engine);
    if (result < 0) {
        free(list.items);
        return result;
    }
    *ret_pruned = list.items;
    *ret_count = list.count;
    return 0;
}
