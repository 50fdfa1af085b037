/* Pins (S6): what must not be removed, and for whom. A package is held by every revision that was or may be served from
 * it ('revision:<deployment>/<number>') and, while it is being made, by its task ('task:<id>').
 *
 * What nothing holds any more stays as long as all such packages together fit into package_budget; then the one that
 * is unused for longest leaves first.
 *
 * The gate. Between the transaction that finds a package without a pin and its removal from the disk, nobody may come
 * to rely on it: who pins a package that may be there already, and who removes one, holds the gate meanwhile. A kill
 * between the two leaves a package without a row and without a pin, which reconciliation removes.
 */
#include <stdlib.h>
#include <string.h>

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

static void digests_drop(struct digests *digests, size_t at) {
    free(digests->items[at]);
    memmove(digests->items + at, digests->items + at + 1, (--digests->count - at) * sizeof *digests->items);
}

/* Of those that nothing pins any more, the last use was now. What stays in the list has no row and has to leave the
 * disk: its task never got to record it. */
static int note_last_use(struct store_transaction *tx, struct digests *digests, struct error **ret_error) {
    for (size_t i = digests->count; i-- > 0;) {
        _cleanup_free_ char *subject = text_format("package:%s", digests->items[i]);
        int64_t pins = 0, rows = 0;
        int result =
            store_ask_number(tx, &pins, ret_error, "SELECT count(*) FROM pins WHERE subject = ?", "t", subject);
        if (result >= 0 && !pins)
            result = store_run(tx, &rows, ret_error, "UPDATE packages SET used_at = ? WHERE digest = ?", "it",
                               clock_wall_ms(), digests->items[i]);
        if (result < 0) return result;
        if (pins || rows) digests_drop(digests, i);
    }
    return 0;
}

/* ---- the budget of what is unused ---- */

struct unused {
    char *digest;
    int64_t size_bytes;
};

struct unused_list {
    struct unused *items; /* the one that is unused for longest first */
    size_t count;
    uint64_t size_bytes;
};

static void unused_clear(struct unused_list *list) {
    for (size_t i = 0; i < list->count; i++) free(list->items[i].digest);
    free(list->items);
}

static int load_unused(struct store_transaction *tx, struct unused_list *list, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT digest, size_bytes FROM packages WHERE NOT EXISTS (SELECT 1 FROM pins "
                             "WHERE pins.subject = 'package:' || packages.digest) ORDER BY used_at, digest",
                             "");
    if (result < 0) return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        list->items = mem_resize(list->items, list->count + 1, sizeof *list->items);
        list->items[list->count++] = (struct unused){store_text_copy(rows, 0), store_number(rows, 1)};
        list->size_bytes += (uint64_t)store_number(rows, 1);
    }
    return result;
}

/* Its row goes, and it joins those that leave the disk after the commit. */
static int drop(struct store_transaction *tx, struct unused *unused, uint64_t budget, struct digests *leaving,
                struct error **ret_error) {
    _cleanup_free_ char *size = text_size(budget);
    _cleanup_free_ char *words =
        budget ? text_format("package sha256:%s is removed: nothing uses it, and unused packages may take %s",
                             unused->digest, size)
               : text_format("package sha256:%s is removed: nothing uses it any more", unused->digest);
    int result = store_run(tx, NULL, ret_error, "DELETE FROM packages WHERE digest = ?", "t", unused->digest);
    if (result < 0 || (result = event_add(tx, "package", NULL, NULL, words, NULL, ret_error)) < 0) return result;
    leaving->items = mem_resize(leaving->items, leaving->count + 1, sizeof *leaving->items);
    leaving->items[leaving->count++] = TAKE(unused->digest);
    return 0;
}

/* First what is larger than the budget alone: it cannot stay, whatever else went for it. */
static int drop_excess(struct controller *controller, struct store_transaction *tx, struct digests *leaving,
                       struct error **ret_error) {
    uint64_t budget = controller->settings->package_budget;
    __attribute__((cleanup(unused_clear))) struct unused_list list = {0};
    int result = load_unused(tx, &list, ret_error);
    for (int only_too_large = 1; only_too_large >= 0; only_too_large--) {
        for (size_t i = 0; i < list.count && result >= 0 && list.size_bytes > budget; i++) {
            struct unused *unused = &list.items[i];
            if (!unused->digest || (only_too_large && (uint64_t)unused->size_bytes <= budget)) continue;
            list.size_bytes -= (uint64_t)unused->size_bytes;
            result = drop(tx, unused, budget, leaving, ret_error);
        }
    }
    return result;
}

static int remove_from_disk(struct controller *controller, const struct digests *leaving, struct error **ret_error) {
    int result = 0;
    for (size_t i = 0; i < leaving->count && result >= 0; i++)
        result = controller->packages->remove(controller->package_store, leaving->items[i], ret_error);
    return result;
}

int pins_drop_excess_rows(struct controller *controller, struct store_transaction *tx, struct error **ret_error) {
    __attribute__((cleanup(digests_clear))) struct digests leaving = {0};
    return drop_excess(controller, tx, &leaving, ret_error);
}

static int trim(struct controller *controller, struct error **ret_error) {
    __attribute__((cleanup(digests_clear))) struct digests leaving = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = drop_excess(controller, tx, &leaving, ret_error)) < 0 ||
        (result = store_commit(TAKE(tx), ret_error)) < 0)
        return result;
    if (leaving.count) api_changed(controller->api);
    return remove_from_disk(controller, &leaving, ret_error);
}

int pins_trim(struct controller *controller, struct error **ret_error) {
    package_gate_lock(controller->engine);
    int result = trim(controller, ret_error);
    package_gate_unlock(controller->engine);
    return result < 0 ? error_wrap(ret_error, "remove unused packages") : 0;
}

/* ---- letting go ---- */

static int let_go(struct controller *controller, const char *holder, const char *prefix, const char *task_holder,
                  struct error **ret_error) {
    __attribute__((cleanup(digests_clear))) struct digests digests = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = load_held(tx, holder, prefix, task_holder, &digests, ret_error)) < 0 ||
        (result = release(tx, holder, prefix, task_holder, ret_error)) < 0 ||
        (result = note_last_use(tx, &digests, ret_error)) < 0 ||
        (result = drop_excess(controller, tx, &digests, ret_error)) < 0 ||
        (result = store_commit(TAKE(tx), ret_error)) < 0)
        return result;
    if (digests.count) api_changed(controller->api);
    return remove_from_disk(controller, &digests, ret_error);
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
