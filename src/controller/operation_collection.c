/* Requests on collections, written down as rows. What a collection's own database says is read before the transaction
 * (struct catalog_view) and tested once more by the indexer, which alone changes it. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"

/* ---- small questions ---- */

int task_find_on_collection(struct store_transaction *tx, const char *collection, const char *kind, const char *except,
                            struct task *ret_task, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT id FROM tasks WHERE collection = ? AND kind = ? AND id <> ? "
                             "AND status IN ('pending', 'processing') ORDER BY created_at, rowid LIMIT 1",
                             "ttt", collection, kind, except ? except : "");
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    result = task_load(tx, store_text(rows, 0), ret_task, ret_error);
    return result < 0 ? result : 1;
}

static int check_is_active(const struct catalog_entry *entry, struct error **ret_error) {
    if (text_equal(entry->state, "active")) return 0;
    return error_set(ret_error, ERROR_CONFLICT, "collection %s is being deleted", entry->name);
}

static bool is_leaving(const struct deployment *deployment) {
    return deployment->status == DEPLOYMENT_DELETING || deployment->status == DEPLOYMENT_DELETE_FAILED ||
           deployment->status == DEPLOYMENT_INACTIVE;
}

/* The task with its collection, in the caller's transaction. */
static int insert_task(struct controller *controller, struct store_transaction *tx, const char *kind,
                       const char *collection, const char *model_id, const struct operation_origin *origin,
                       const struct reindex_work *work, struct task *ret_task, struct error **ret_error) {
    static const struct operation_origin nobody;
    _cleanup_task_ struct task task = {
        .kind = text_copy(kind),
        .collection = text_copy(collection),
        .model_id = text_copy(model_id),
        .state_json = work ? reindex_work_state(work) : NULL,
    };
    operation_set_origin(tx, origin ? origin : &nobody, &task);
    int result = task_insert(tx, controller->settings, &task, ret_error);
    if (result < 0) return result;
    *ret_task = task;
    task = (struct task){0};
    return 0;
}

/* ---- create ---- */

struct encoder {
    char *deployment_id, *digest;
    int64_t revision, dimension;
};

static void encoder_clear(struct encoder *encoder) {
    free(encoder->deployment_id);
    free(encoder->digest);
    *encoder = (struct encoder){0};
}
#define _cleanup_encoder_ __attribute__((cleanup(encoder_clear)))

static int64_t dimension_of(const struct revision *revision) {
    _cleanup_json_ yyjson_doc *facts =
        revision->facts_json ? yyjson_read(revision->facts_json, strlen(revision->facts_json), 0) : NULL;
    return yyjson_get_sint(yyjson_obj_get(yyjson_doc_get_root(facts), "dimension"));
}

static int check_name_is_free(struct store_transaction *tx, const char *name, struct error **ret_error) {
    int64_t taken = 0;
    int result = store_ask_number(tx, &taken, ret_error, "SELECT count(*) FROM collections WHERE name = ?", "t", name);
    if (result < 0) return result;
    return taken ? error_set(ret_error, ERROR_CONFLICT, "the name %s is taken by another collection", name) : 0;
}

/* What the deployment embeds with now. */
static int find_encoder(struct store_transaction *tx, const char *id_or_name, struct encoder *ret_encoder,
                        struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    int result = deployment_load(tx, id_or_name, &deployment, ret_error);
    if (result < 0) return result;
    if (deployment.status != DEPLOYMENT_ACTIVE || !deployment.serving_revision)
        return error_set(ret_error, ERROR_CONFLICT, "deployment %s is %s: a collection needs one that is active",
                         deployment.name, deployment_status_name(deployment.status));
    if ((result = revision_load(tx, deployment.id, deployment.serving_revision, &revision, ret_error)) < 0)
        return result;
    int64_t dimension = dimension_of(&revision);
    if (!revision.encoder_digest || dimension <= 0)
        return error_set(ret_error, ERROR_CONFIGURATION, "deployment %s is not an embedding model", deployment.name);
    *ret_encoder = (struct encoder){.deployment_id = text_copy(deployment.id),
                                    .digest = text_copy(revision.encoder_digest),
                                    .revision = revision.number,
                                    .dimension = dimension};
    return 0;
}

static int look_before_create(struct controller *controller, const struct collection_request *request,
                              struct encoder *ret_encoder, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = check_name_is_free(tx, request->name, ret_error)) < 0) return result;
    return find_encoder(tx, request->deployment, ret_encoder, ret_error);
}

struct new_ids {
    char collection[37], index[37], query_index[37];
};

static int insert_collection(struct controller *controller, const struct collection_request *request,
                             const struct encoder *encoder, const struct new_ids *ids, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_encoder_ struct encoder now = {0};
    _cleanup_task_ struct task task = {0};
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = check_name_is_free(tx, request->name, ret_error)) < 0 ||
        (result = find_encoder(tx, encoder->deployment_id, &now, ret_error)) < 0)
        return result;
    if (!text_equal(now.digest, encoder->digest))
        return error_set(ret_error, ERROR_CONFLICT, "deployment %s has just changed its model: try again",
                         request->deployment);
    if ((result = store_run(tx, NULL, ret_error,
                            "INSERT INTO collections (id, name, state, metric, keep_queries, quantized, created_at) "
                            "VALUES (?, ?, 'active', ?, ?, ?, ?)",
                            "tttiii", ids->collection, request->name, request->metric, (int64_t)request->keep_queries,
                            (int64_t)request->quantized, clock_wall_ms())) < 0 ||
        (result = encoder_pin(tx, encoder->deployment_id, ids->collection, ids->index, NULL, ret_error)) < 0 ||
        (result = insert_task(controller, tx, "collection_create", request->name, request->deployment, NULL, NULL,
                              &task, ret_error)) < 0 ||
        (result = task_set_status(tx, task.id, TASK_DONE, NULL, NULL, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE routing SET generation = generation + 1 WHERE one = 1", "")) <
            0)
        return result;
    return store_commit(TAKE(tx), ret_error);
}

/* The folder comes first: a row without its folder would be a collection that cannot be written, a folder without its
 * row is removed at the next start. */
static int make_folder(struct controller *controller, const struct collection_request *request,
                       const struct encoder *encoder, const struct new_ids *ids, struct error **ret_error) {
    _cleanup_free_ char *root = catalog_root(controller);
    const struct collection_spec spec = {
        .collection_id = ids->collection,
        .name = request->name,
        .metric = request->metric,
        .keep_queries = request->keep_queries,
        .quantized = request->quantized,
        .index_id = ids->index,
        .query_index_id = request->keep_queries ? ids->query_index : NULL,
        .deployment_id = encoder->deployment_id,
        .encoder_digest = encoder->digest,
        .revision = encoder->revision,
        .dimension = encoder->dimension,
    };
    int result = fs_make_folders(root, ret_error);
    return result < 0 ? result : collection_create(root, &spec, ret_error);
}

static int load_entry(struct controller *controller, const char *id, struct catalog_entry *ret_entry,
                      struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    return result < 0 ? result : catalog_find(tx, id, ret_entry, ret_error);
}

int operation_collection_create(struct controller *controller, const struct collection_request *request,
                                struct catalog_entry *ret_entry, struct error **ret_error) {
    _cleanup_encoder_ struct encoder encoder = {0};
    struct new_ids ids;
    text_new_uuid(ids.collection);
    text_new_uuid(ids.index);
    text_new_uuid(ids.query_index);
    int result = look_before_create(controller, request, &encoder, ret_error);
    if (result < 0) return result;
    if ((result = make_folder(controller, request, &encoder, &ids, ret_error)) < 0) return result;
    if ((result = insert_collection(controller, request, &encoder, &ids, ret_error)) < 0) {
        _cleanup_free_ char *root = catalog_root(controller);
        collection_remove(root, ids.collection, NULL);
        return result;
    }
    return load_entry(controller, ids.collection, ret_entry, ret_error);
}

/* ---- delete ---- */

int operation_collection_delete(struct controller *controller, struct store_transaction *tx,
                                const struct catalog_entry *entry, struct task *ret_task, struct error **ret_error) {
    int result = task_find_on_collection(tx, entry->name, "collection_delete", NULL, ret_task, ret_error);
    if (result != 0) return result < 0 ? result : 0;
    _cleanup_work_ struct reindex_work work = {.collection_id = text_copy(entry->id)};
    return insert_task(controller, tx, "collection_delete", entry->name, NULL, NULL, &work, ret_task, ret_error);
}

/* ---- re-index ---- */

/* The destination as it is now: 1, or 0 when it is to be deployed. */
static int find_destination(struct store_transaction *tx, const struct reindex_work *work,
                            const struct deployment_request *request, struct deployment *ret_deployment,
                            struct error **ret_error) {
    struct error *error = NULL;
    int result = deployment_load(tx, request ? request->name : work->destination, ret_deployment, &error);
    bool is_missing = result < 0 && error->class == ERROR_NOT_FOUND;
    if (result < 0 && ret_error && !(is_missing && request)) *ret_error = TAKE(error);
    error_free(error);
    if (result < 0) return is_missing && request ? 0 : result;
    if (request && !text_equal(request->model_uri, ret_deployment->model_uri))
        return error_set(ret_error, ERROR_CONFLICT,
                         "the name %s stands for a deployment of %s, not of %s: name the destination alone, or give "
                         "the other model another name",
                         ret_deployment->name, ret_deployment->model_uri, request->model_uri);
    if (ret_deployment->status == DEPLOYMENT_INACTIVE)
        return error_set(ret_error, ERROR_NOT_FOUND, "deployment %s was deleted", ret_deployment->name);
    return 1;
}

/* Why this re-index is not attempted: -REFUSED with the sentence, or 0. */
static int check_models(struct store_transaction *tx, const struct catalog_view *view,
                        const struct deployment *destination, struct error **ret_error) {
    _cleanup_deployment_ struct deployment source = {0};
    _cleanup_revision_ struct revision revision = {0};
    int result = deployment_load(tx, view->pair.deployment_id, &source, ret_error);
    if (result < 0) return result;
    if (is_leaving(&source))
        return error_set(ret_error, ERROR_REFUSED, "the source model %s is being deleted", source.name);
    if (!destination->id) return 0;
    if (is_leaving(destination))
        return error_set(ret_error, ERROR_REFUSED, "the destination model %s is being deleted", destination->name);
    if (text_equal(destination->id, source.id))
        return error_set(ret_error, ERROR_REFUSED, "the collection is indexed with model %s already", source.name);
    if (!destination->serving_revision) return 0;
    if ((result = revision_load(tx, destination->id, destination->serving_revision, &revision, ret_error)) < 0)
        return result;
    if (!revision.encoder_digest)
        return error_set(ret_error, ERROR_CONFIGURATION, "the destination %s is not an embedding model",
                         destination->name);
    if (text_equal(revision.encoder_digest, view->pair.encoder_digest))
        return error_set(ret_error, ERROR_REFUSED,
                         "model %s embeds exactly as %s does (the same encoder_digest): there is nothing to re-index",
                         destination->name, source.name);
    return 0;
}

static int check_alone(struct store_transaction *tx, const char *collection, const char *task_id,
                       const struct reindex_work *work, struct error **ret_error) {
    _cleanup_task_ struct task other = {0};
    if (work->wait_on_conflict) return 0;
    int result = task_find_on_collection(tx, collection, "reindex", task_id, &other, ret_error);
    if (result <= 0) return result;
    return error_set(ret_error, ERROR_REFUSED, "task %s re-indexes the collection %s already", other.id, collection);
}

int operation_reindex(struct controller *controller, struct store_transaction *tx, const struct catalog_entry *entry,
                      const struct catalog_view *view, const struct operation_origin *origin,
                      const struct reindex_work *work, const struct deployment_request *request, struct task *ret_task,
                      struct error **ret_error) {
    _cleanup_deployment_ struct deployment destination = {0};
    _cleanup_error_ struct error *refusal = NULL;
    int result = check_is_active(entry, ret_error);
    if (result < 0 || (result = find_destination(tx, work, request, &destination, ret_error)) < 0) return result;
    result = check_models(tx, view, &destination, &refusal);
    if (result >= 0) result = check_alone(tx, entry->name, NULL, work, &refusal);
    if (result < 0 && result != -ERROR_REFUSED) {
        if (ret_error) *ret_error = TAKE(refusal);
        return result;
    }
    const char *model = destination.id ? destination.name : request->name;
    result = insert_task(controller, tx, "reindex", entry->name, model, origin, work, ret_task, ret_error);
    if (result < 0 || !refusal) return result;
    return task_set_status(tx, ret_task->id, TASK_REFUSED, refusal->message, refusal, ret_error);
}

/* ---- switch and rollback ---- */

static int find_target(const struct catalog_entry *entry, const struct catalog_view *view,
                       const struct reindex_work *work, const struct collection_index **ret_index,
                       struct error **ret_error) {
    if (work->is_rollback) {
        *ret_index = catalog_view_rollback(view);
        if (*ret_index) return 0;
        return error_set(ret_error, ERROR_CONFLICT,
                         "collection %s has no pair to go back to: there was no switch, or its window is over",
                         entry->name);
    }
    const struct collection_index *index = *ret_index = catalog_view_find(view, work->index_id);
    if (!index || index->set != COLLECTION_DOCUMENTS)
        return error_set(ret_error, ERROR_NOT_FOUND, "no index %s of documents in the collection %s", work->index_id,
                         entry->name);
    if (text_equal(index->state, "ready") || text_equal(index->state, "rollback")) return 0;
    return error_set(ret_error, ERROR_CONFLICT, "index %s is %s: only one that is ready or rollback is switched to",
                     index->index_id, index->state);
}

static int check_no_switch(struct store_transaction *tx, const char *collection, const struct catalog_view *view,
                           const struct collection_index *index, struct error **ret_error) {
    _cleanup_task_ struct task other = {0}, switching = {0}, maker = {0};
    int result = task_find_on_collection(tx, collection, "switch", NULL, &other, ret_error);
    if (result < 0) return result;
    if (result)
        return error_set(ret_error, ERROR_CONFLICT, "task %s switches the collection %s already", other.id, collection);
    const char *task_id = view->pair.switching_task;
    if (task_id && task_load(tx, task_id, &switching, NULL) >= 0 && !task_status_is_finished(switching.status))
        return error_set(ret_error, ERROR_CONFLICT, "task %s switches the collection %s already", task_id, collection);
    if (index->task_id && task_load(tx, index->task_id, &maker, NULL) >= 0 && text_equal(maker.kind, "reindex") &&
        !task_status_is_finished(maker.status))
        return error_set(ret_error, ERROR_CONFLICT, "task %s still works on index %s", maker.id, index->index_id);
    return 0;
}

/* What was not given is what the re-index asked for that made the index. */
static void fill_in(struct controller *controller, struct store_transaction *tx, const struct collection_index *index,
                    const struct switch_given *given, struct reindex_work *work) {
    _cleanup_task_ struct task maker = {0};
    _cleanup_work_ struct reindex_work asked = {.delete_source = true,
                                                .window_ms = (int64_t)controller->settings->rollback_window_ms};
    bool is_known = !work->is_rollback && index->task_id && task_load(tx, index->task_id, &maker, NULL) >= 0 &&
                    text_equal(maker.kind, "reindex");
    if (is_known) reindex_work_read(&maker, &asked);
    if (!given->window) work->window_ms = asked.window_ms;
    if (!given->delete_source) work->delete_source = asked.delete_source;
    work->max_failed = asked.max_failed;
    work->overlap_k = asked.overlap_k;
    work->overlap_at_least = asked.overlap_at_least;
}

static void take_index(const struct collection_index *index, struct reindex_work *work) {
    free(work->index_id);
    work->has_index = work->blue_switch = true;
    work->index_id = text_copy(index->index_id);
    work->deployment_id = text_copy(index->deployment_id);
    work->digest = text_copy(index->encoder_digest);
    work->revision = index->revision;
    work->dimension = index->dimension;
}

int operation_switch(struct controller *controller, struct store_transaction *tx, const struct catalog_entry *entry,
                     const struct catalog_view *view, const struct operation_origin *origin,
                     const struct switch_given *given, struct reindex_work *work, struct task *ret_task,
                     struct error **ret_error) {
    const struct collection_index *index = NULL;
    int result = check_is_active(entry, ret_error);
    if (result < 0 || (result = find_target(entry, view, work, &index, ret_error)) < 0 ||
        (result = check_no_switch(tx, entry->name, view, index, ret_error)) < 0)
        return result;
    if (text_equal(index->state, "rollback")) work->is_rollback = true;
    fill_in(controller, tx, index, given, work);
    take_index(index, work);
    return insert_task(controller, tx, "switch", entry->name, NULL, origin, work, ret_task, ret_error);
}

/* ---- once more ---- */

int operation_restart_collection_task(struct controller *controller, struct store_transaction *tx,
                                      const struct task *task, struct error **ret_error) {
    (void)controller;
    _cleanup_work_ struct reindex_work work = {0};
    _cleanup_entry_ struct catalog_entry entry = {0};
    reindex_work_read(task, &work);
    if (!work.collection_id)
        return error_set(ret_error, ERROR_CONFLICT, "task %s has nothing to begin again with", task->id);
    int result = catalog_find(tx, work.collection_id, &entry, ret_error);
    bool is_delete = text_equal(task->kind, "collection_delete");
    if (result < 0 || (!is_delete && (result = check_is_active(&entry, ret_error)) < 0)) return result;
    if (text_equal(task->kind, "reindex") && (result = check_alone(tx, entry.name, task->id, &work, ret_error)) < 0)
        return result;
    _cleanup_free_ char *state = reindex_work_restart(task);
    result =
        store_run(tx, NULL, ret_error,
                  "UPDATE tasks SET attempts = 0, cancel_requested = 0, state_json = ?, step = NULL, not_before = 0, "
                  "progress_done = 0, progress_total = 0, progress_rate = 0, progress_failed = 0 WHERE id = ?",
                  "tt", state, task->id);
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM task_failed_items WHERE task_id = ?", "t", task->id)) < 0)
        return result;
    return task_set_status(tx, task->id, TASK_PENDING, NULL, NULL, ret_error);
}
