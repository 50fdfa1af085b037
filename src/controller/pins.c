/* Pins (S6): what must not be removed, and for whom. A package is held by every revision that was or may be served from
 * it
 * ('revision:<deployment>/<number>') and, while it is being made, by its task ('task:<id>').
 *
 * The gate. Between the transaction that finds a package without a pin and its removal from the disk, nobody may come
 * to rely on it: who pins a package that may be there already, and who removes one, holds the gate meanwhile. A kill
 * between the two leaves a package without a row and without a pin, which reconciliation removes.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"

int pin_package(struct store_transaction *tx, const char *digest, const char *holder, const char *task_id,
                struct error **ret_error) {
    _cleanup_free_ char *subject = text_format("package:%s", digest);
    return store_run(
        tx, NULL, ret_error,
        "INSERT INTO pins (subject, holder, task_id, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", "ttti",
        subject, holder, task_id, clock_wall_ms());
}

int pin_release(struct store_transaction *tx, const char *holder, struct error **ret_error) {
    return store_run(tx, NULL, ret_error, "DELETE FROM pins WHERE holder = ?", "t", holder);
}

struct digests {
    char **items;
    size_t count;
};

static void digests_clear(struct digests *digests) {
    for (size_t i = 0; i < digests->count; i++) free(digests->items[i]);
    free(digests->items);
}

/* What the holders hold. deployment_prefix is "revision:<deployment>/" or "" for none. */
static int load_held(struct store_transaction *tx, const char *holder, const char *prefix, const char *task_holder,
                     struct digests *digests, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT DISTINCT substr(subject, 9) FROM pins WHERE subject LIKE 'package:%' AND "
                             "(holder = ? OR holder = ? OR (length(?) > 0 AND substr(holder, 1, length(?)) = ?))",
                             "ttttt", holder, task_holder, prefix, prefix, prefix);
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        digests->items = mem_resize(digests->items, digests->count + 1, sizeof *digests->items);
        digests->items[digests->count++] = store_text_copy(rows, 0);
    }
    return result;
}

static int release(struct store_transaction *tx, const char *holder, const char *prefix, const char *task_holder,
                   struct error **ret_error) {
    int result = pin_release(tx, holder, ret_error);
    if (result >= 0) result = pin_release(tx, task_holder, ret_error);
    if (result < 0 || !*prefix) return result;
    return store_run(tx, NULL, ret_error, "DELETE FROM pins WHERE substr(holder, 1, length(?)) = ?", "tt", prefix,
                     prefix);
}

/* Deletes the rows of those that nothing pins; the others leave the list. */
static int drop_unpinned(struct store_transaction *tx, struct digests *digests, struct error **ret_error) {
    size_t kept = 0;
    for (size_t i = 0; i < digests->count; i++) {
        char *digest = digests->items[i];
        _cleanup_free_ char *subject = text_format("package:%s", digest);
        int64_t pins = 0, rows = 0;
        int result =
            store_ask_number(tx, &pins, ret_error, "SELECT count(*) FROM pins WHERE subject = ?", "t", subject);
        if (result >= 0 && !pins)
            result = store_run(tx, &rows, ret_error, "DELETE FROM packages WHERE digest = ?", "t", digest);
        if (result >= 0 && rows) {
            _cleanup_free_ char *words = text_format("package sha256:%s is removed: nothing uses it any more", digest);
            result = event_add(tx, "package", NULL, NULL, words, NULL, ret_error);
        }
        if (result < 0) {
            digests->items[kept++] = digest;
            while (++i < digests->count) digests->items[kept++] = digests->items[i];
            digests->count = kept;
            return result;
        }
        if (pins)
            free(digest);
        else
            digests->items[kept++] = digest;
    }
    digests->count = kept;
    return 0;
}

static int let_go(struct controller *controller, const char *holder, const char *prefix, const char *task_holder,
                  struct error **ret_error) {
    __attribute__((cleanup(digests_clear))) struct digests digests = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = load_held(tx, holder, prefix, task_holder, &digests, ret_error)) < 0 ||
        (result = release(tx, holder, prefix, task_holder, ret_error)) < 0 ||
        (result = drop_unpinned(tx, &digests, ret_error)) < 0 || (result = store_commit(TAKE(tx), ret_error)) < 0)
        return result;
    for (size_t i = 0; i < digests.count && result >= 0; i++)
        result = controller->packages->remove(controller->package_store, digests.items[i], ret_error);
    return result;
}

int pins_let_go(struct controller *controller, const char *deployment_id, int64_t revision, const char *task_id,
                struct error **ret_error) {
    _cleanup_free_ char *holder =
        revision ? text_format("revision:%s/%lld", deployment_id, (long long)revision) : text_copy("");
    _cleanup_free_ char *prefix =
        revision || !deployment_id ? text_copy("") : text_format("revision:%s/", deployment_id);
    _cleanup_free_ char *task_holder = task_id ? text_format("task:%s", task_id) : text_copy("");
    package_gate_lock(controller->engine);
    int result = let_go(controller, holder, prefix, task_holder, ret_error);
    package_gate_unlock(controller->engine);
    return result < 0 ? error_wrap(ret_error, "let packages go") : 0;
}
