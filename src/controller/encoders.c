/* Encoders in use (S6). Each index on a collection's list has a pin on the deployment that embeds for it: subject
 * 'encoder:<deployment>', holder 'collection:<collection>/<index>'. It is written before the index is on the list and
 * removed after it has left it, so that whoever finds no pin, in his own transaction, may delete the deployment.
 *
 * While a deployment is pinned, all that serves of it has one encoder_digest: what would change that is refused. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

static char *holder_of(const char *collection_id, const char *index_id) {
    return text_format("collection:%s/%s", collection_id, index_id);
}

int encoder_pin(struct store_transaction *tx, const char *deployment_id, const char *collection_id,
                const char *index_id, const char *task_id, struct error **ret_error) {
    _cleanup_free_ char *subject = text_format("encoder:%s", deployment_id);
    _cleanup_free_ char *holder = holder_of(collection_id, index_id);
    return store_run(
        tx, NULL, ret_error,
        "INSERT INTO pins (subject, holder, task_id, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", "ttti",
        subject, holder, task_id, clock_wall_ms());
}

int encoder_unpin(struct store_transaction *tx, const char *collection_id, const char *index_id,
                  struct error **ret_error) {
    _cleanup_free_ char *holder = holder_of(collection_id, index_id ? index_id : "");
    if (index_id) return store_run(tx, NULL, ret_error, "DELETE FROM pins WHERE holder = ?", "t", holder);
    return store_run(tx, NULL, ret_error, "DELETE FROM pins WHERE substr(holder, 1, length(?)) = ?", "tt", holder,
                     holder);
}

/* ---- what pins forbid ---- */

int encoder_find_users(struct store_transaction *tx, const char *deployment_id, char **ret_names,
                       struct error **ret_error) {
    _cleanup_free_ char *subject = text_format("encoder:%s", deployment_id), *names = NULL;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT DISTINCT coalesce(c.name, p.holder) FROM pins p LEFT JOIN collections c "
                             "ON c.id = substr(p.holder, 12, 36) WHERE p.subject = ? ORDER BY 1 LIMIT 10",
                             "t", subject);
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        char *more = names ? text_format("%s, %s", names, store_text(rows, 0)) : store_text_copy(rows, 0);
        free(names);
        names = more;
    }
    if (result < 0) return result;
    if (!names) return 0;
    *ret_names = TAKE(names);
    return 1;
}

int encoder_check_unused(struct store_transaction *tx, const struct deployment *deployment, struct error **ret_error) {
    _cleanup_free_ char *names = NULL;
    int result = encoder_find_users(tx, deployment->id, &names, ret_error);
    if (result <= 0) return result;
    return error_set(ret_error, ERROR_CONFLICT,
                     "deployment %s is an encoder of the collection %s: re-index that to another model, or delete it, "
                     "first",
                     deployment->name, names);
}

int encoder_check_digest(struct store_transaction *tx, const struct deployment *deployment, int64_t serving,
                         const char *digest, struct error **ret_error) {
    _cleanup_free_ char *names = NULL;
    _cleanup_revision_ struct revision revision = {0};
    if (!digest || !serving) return 0;
    int result = encoder_find_users(tx, deployment->id, &names, ret_error);
    if (result <= 0 || (result = revision_load(tx, deployment->id, serving, &revision, ret_error)) < 0) return result;
    if (text_equal(revision.encoder_digest, *digest ? digest : NULL)) return 0;
    return error_set(ret_error, ERROR_CONFLICT,
                     "deployment %s is an encoder of the collection %s, and this revision would embed differently "
                     "(encoder_digest %.16s… instead of %.16s…): deploy it under another name, and re-index the "
                     "collection to it (POST /v1/collections/<name>/reindex)",
                     deployment->name, names, *digest ? digest : "none",
                     revision.encoder_digest ? revision.encoder_digest : "none");
}

int encoder_known_digest(struct store_transaction *tx, const char *package_digest, const char *recipe_json,
                         char **ret_digest, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT encoder_digest FROM revisions WHERE package_digest = ? AND recipe_json IS ? "
                             "AND encoder_digest IS NOT NULL ORDER BY created_at DESC LIMIT 1",
                             "tt", package_digest, recipe_json);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    *ret_digest = result ? store_text_copy(rows, 0) : NULL;
    return 0;
}

/* ---- after a start ---- */

static bool has_referent(const struct catalog_view *view, const char *holder, const char *collection_id) {
    for (size_t i = 0; i < view->count; i++) {
        _cleanup_free_ char *expected = holder_of(collection_id, view->indexes[i].index_id);
        if (text_equal(expected, holder)) return true;
    }
    return false;
}

#define UNFINISHED "EXISTS (SELECT 1 FROM tasks t WHERE t.id = pins.task_id AND t.status IN ('pending', 'processing'))"

/* The pins of one collection that no index explains; its list was read from its database. */
static int drop_stale(struct store_transaction *tx, const struct catalog_view *view, const char *collection_id,
                      struct error **ret_error) {
    _cleanup_free_ char *prefix = holder_of(collection_id, "");
    char *stale[64];
    size_t count = 0;
    struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT holder FROM pins WHERE substr(holder, 1, length(?)) = ? AND NOT " UNFINISHED, "tt",
                             prefix, prefix);
    while (result >= 0 && count < ARRAY_SIZE(stale) && (result = store_next(rows, ret_error)) > 0)
        if (!has_referent(view, store_text(rows, 0), collection_id)) stale[count++] = store_text_copy(rows, 0);
    store_rows_free(rows);
    for (size_t i = 0; i < count; i++) {
        if (result >= 0) result = store_run(tx, NULL, ret_error, "DELETE FROM pins WHERE holder = ?", "t", stale[i]);
        free(stale[i]);
    }
    return result;
}

static int add_missing(struct store_transaction *tx, const struct catalog_view *view, const char *collection_id,
                       struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < view->count && result >= 0; i++)
        if (view->indexes[i].set == COLLECTION_DOCUMENTS)
            result = encoder_pin(tx, view->indexes[i].deployment_id, collection_id, view->indexes[i].index_id, NULL,
                                 ret_error);
    return result;
}

/* A collection whose database cannot be read keeps the pins that it has. */
static int reconcile_one(struct controller *controller, struct store_transaction *tx, const struct catalog_entry *entry,
                         struct error **ret_error) {
    _cleanup_view_ struct catalog_view view = {0};
    if (!text_equal(entry->state, "active") || catalog_view_load(controller, entry->id, &view, NULL) < 0) return 0;
    int result = drop_stale(tx, &view, entry->id, ret_error);
    return result < 0 ? result : add_missing(tx, &view, entry->id, ret_error);
}

int encoder_reconcile(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    int64_t total = 0;
    int result = store_run(tx, NULL, ret_error,
                           "DELETE FROM pins WHERE substr(holder, 1, 11) = 'collection:' AND NOT EXISTS "
                           "(SELECT 1 FROM collections c WHERE c.id = substr(pins.holder, 12, 36)) AND NOT " UNFINISHED,
                           "");
    if (result < 0 || (result = catalog_list(tx, 0, 0, &entries, &count, &total, ret_error)) < 0) return result;
    for (size_t i = 0; i < count && result >= 0; i++) result = reconcile_one(controller, tx, &entries[i], ret_error);
    catalog_list_free(entries, count);
    return result;
}
