/* What changes in the control database of a restored state. Replicas, routes and reservations stay: they are what a
 * service finds whose processes were all killed, and reconciliation starts them again. Tasks that were under way go on
 * from their recorded step, but where that step relies on what a backup does not have:
 *
 *   verify, package  the files in packages/incoming, unless the package is there: fetched again
 *   promote, gate, blue_switch of a re-index   a full index that is ready: filled again. Not after the flip, which the
 *                    collection's pair knows of: then the task learns of it by asking once more
 *   gate, blue_switch of a switch   the same: its gate waits until the index is full
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "state/state-internal.h"

struct rewind {
    const struct state_part *part;
    struct rewound {
        char *task_id, *step, *state_json;
    } * items;
    size_t count;
};

static void rewind_clear(struct rewind *rewind) {
    for (size_t i = 0; i < rewind->count; i++) {
        free(rewind->items[i].task_id);
        free(rewind->items[i].step);
        free(rewind->items[i].state_json);
    }
    free(rewind->items);
}

static void add(struct rewind *rewind, const char *task_id, const char *step, const char *state_json) {
    rewind->items = mem_resize(rewind->items, rewind->count + 1, sizeof *rewind->items);
    rewind->items[rewind->count++] = (struct rewound){text_copy(task_id), text_copy(step), text_copy(state_json)};
}

/* ---- packages ---- */

static bool has_package(const struct state_part *part, yyjson_val *state) {
    const char *digest = yyjson_get_str(yyjson_obj_get(state, "digest"));
    _cleanup_free_ char *path = text_format("%s/" STATE_PACKAGES "/%s", part->path, digest ? digest : "-");
    return digest && fs_exists(path);
}

/* ---- re-indexes and switches ---- */

static int read_flipped_by(const struct state_part *part, const char *collection_id, char **ret_task_id,
                           struct error **ret_error) {
    _cleanup_free_ char *folder = text_format("%s/collections/%s", part->path, collection_id);
    struct collection *collection = NULL;
    struct collection_read *read = NULL;
    struct collection_pair pair = {0};
    if (!fs_exists(folder)) return 0;
    int result = collection_open(folder, COLLECTION_READS, &collection, ret_error);
    if (result < 0) return result;
    result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (!result) result = collection_load_pair(read, &pair, ret_error);
    if (!result) *ret_task_id = TAKE(pair.flipped_by);
    collection_pair_clear(&pair);
    collection_read_end(read);
    collection_close(collection);
    return result;
}

/* The state as it was before the flip was asked for; caller frees. */
static char *forget_asking(yyjson_val *state) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_val_mut_copy(document, state);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_val *work = yyjson_mut_obj_get(root, "work");
    if (work) yyjson_mut_obj_remove_key(work, "flip_asked");
    return json_write(document, NULL);
}

static int judge_switch(struct rewind *rewind, const char *task_id, const char *kind, yyjson_val *state,
                        struct error **ret_error) {
    yyjson_val *work = yyjson_obj_get(state, "work");
    const char *collection_id = yyjson_get_str(yyjson_obj_get(work, "collection_id"));
    _cleanup_free_ char *flipped_by = NULL;
    if (yyjson_get_bool(yyjson_obj_get(work, "flipped"))) return 0;
    int result = collection_id ? read_flipped_by(rewind->part, collection_id, &flipped_by, ret_error) : 0;
    if (result < 0 || text_equal(flipped_by, task_id)) return result;
    _cleanup_free_ char *json = forget_asking(state);
    add(rewind, task_id, strcmp(kind, "reindex") ? "gate" : "fill", json);
    return 0;
}

/* ---- tasks ---- */

static bool is_any_of(const char *text, const char *a, const char *b, const char *c) {
    return text_equal(text, a) || text_equal(text, b) || text_equal(text, c);
}

static int judge_task(void *context, struct store_rows *rows, struct error **ret_error) {
    struct rewind *rewind = context;
    const char *id = store_text(rows, 0), *kind = store_text(rows, 1), *step = store_text(rows, 2);
    const char *state_json = store_text(rows, 3);
    _cleanup_json_ yyjson_doc *document = state_json ? yyjson_read(state_json, strlen(state_json), 0) : NULL;
    yyjson_val *state = yyjson_doc_get_root(document);
    if (text_equal(step, "verify") || (text_equal(step, "package") && !has_package(rewind->part, state)))
        add(rewind, id, "fetch", state_json);
    else if (is_any_of(kind, "reindex", "switch", NULL) && is_any_of(step, "promote", "gate", "blue_switch"))
        return judge_switch(rewind, id, kind, state, ret_error);
    return 0;
}

static int rewind_tasks(struct store_transaction *tx, struct rewind *rewind, struct error **ret_error) {
    int result = state_each_row(
        tx,
        "SELECT id, kind, step, state_json FROM tasks WHERE status IN ('pending', 'processing') AND step IS NOT NULL",
        judge_task, rewind, ret_error);
    for (size_t i = 0; i < rewind->count && !result; i++)
        result = store_run(
            tx, NULL, ret_error, "UPDATE tasks SET step = ?, attempts = 0, state_json = ?, updated_at = ? WHERE id = ?",
            "ttit", rewind->items[i].step, rewind->items[i].state_json, clock_wall_ms(), rewind->items[i].task_id);
    return result;
}

static int change(struct store *store, const struct state_part *part, const struct manifest *manifest,
                  struct error **ret_error) {
    __attribute__((cleanup(rewind_clear))) struct rewind rewind = {.part = part};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *words = text_format("the state was restored from the backup of %s", manifest->created_at);
    int result = store_begin(store, &tx, ret_error);
    if (!result) result = rewind_tasks(tx, &rewind, ret_error);
    if (!result)
        result = store_run(tx, NULL, ret_error, "INSERT INTO events (at, kind, message) VALUES (?, 'restore', ?)", "it",
                           clock_wall_ms(), words);
    if (!result) result = store_commit(TAKE(tx), ret_error);
    return result < 0 ? result : store_checkpoint(store, ret_error);
}

int restore_control(const struct state_part *part, const struct manifest *manifest, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(part->path, "control.db");
    struct store *store = NULL;
    int result = store_open(path, &store, ret_error); /* brings an older one to this version */
    if (result < 0) return result;
    result = change(store, part, manifest, ret_error);
    store_close(store);
    return result;
}
