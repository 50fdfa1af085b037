#include "support/reindex_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"

void reindex_add_model(struct engine_bed *bed, const char *name, const char *digest) {
    _cleanup_free_ char *behaviour = text_format("encoder %s", digest);
    bed_add_model(bed, name, behaviour);
}

static struct store_transaction *begin(struct engine_bed *bed) {
    struct store_transaction *tx = NULL;
    assert_int_equal(store_begin(bed->controller.store, &tx, NULL), 0);
    return tx;
}

char *reindex_collection(struct engine_bed *bed, const char *name, const char *deployment, struct error **ret_error) {
    const struct collection_request request = {.name = name, .deployment = deployment, .metric = "cosine"};
    _cleanup_entry_ struct catalog_entry entry = {0};
    if (operation_collection_create(&bed->controller, &request, &entry, ret_error) < 0) return NULL;
    engine_wake(bed->controller.engine);
    return TAKE(entry.id);
}

static void load(struct engine_bed *bed, const char *name, struct catalog_entry *entry, struct catalog_view *view) {
    struct store_transaction *tx = begin(bed);
    assert_int_equal(catalog_find(tx, name, entry, NULL), 0);
    store_rollback(tx);
    struct error *error = NULL;
    if (catalog_view_load(&bed->controller, entry->id, view, &error) < 0)
        fail_msg("read the collection: %s", error->message);
}

static char *end(struct engine_bed *bed, struct store_transaction *tx, int result, struct task *task) {
    if (result < 0) {
        store_rollback(tx);
        return NULL;
    }
    assert_int_equal(store_commit(tx, NULL), 0);
    engine_wake(bed->controller.engine);
    char *id = TAKE(task->id);
    task_clear(task);
    return id;
}

static void fill_request(struct engine_bed *bed, const struct reindex_order *order, struct reindex_work *work,
                         struct deployment_request *request) {
    request->name = text_copy(order->as);
    request->model_uri = text_format("%s/models/%s", bed->folder, order->model);
    work->request_json = text_format("{\"deployment_name\":\"%s\",\"model_uri\":\"%s\","
                                     "\"deployment_target_config\":{\"type\":\"api_service\"}}",
                                     order->as, request->model_uri);
}

char *reindex_begin(struct engine_bed *bed, const struct reindex_order *order, struct error **ret_error) {
    _cleanup_entry_ struct catalog_entry entry = {0};
    _cleanup_view_ struct catalog_view view = {0};
    _cleanup_request_ struct deployment_request request = {0};
    load(bed, order->collection, &entry, &view);
    _cleanup_work_ struct reindex_work work = {
        .collection_id = text_copy(entry.id),
        .destination = text_copy(order->destination),
        .blue_switch = !order->no_switch,
        .delete_source = !order->keep_source,
        .wait_on_conflict = order->waits,
        .window_ms = order->window_ms,
        .max_failed = order->max_failed,
    };
    if (order->model) fill_request(bed, order, &work, &request);
    struct task task = {0};
    struct store_transaction *tx = begin(bed);
    int result = operation_reindex(&bed->controller, tx, &entry, &view, &(struct operation_origin){0}, &work,
                                   order->model ? &request : NULL, &task, ret_error);
    return end(bed, tx, result, &task);
}

char *reindex_switch(struct engine_bed *bed, const char *collection, const char *index_id, struct error **ret_error) {
    _cleanup_entry_ struct catalog_entry entry = {0};
    _cleanup_view_ struct catalog_view view = {0};
    load(bed, collection, &entry, &view);
    _cleanup_work_ struct reindex_work work = {
        .collection_id = text_copy(entry.id), .index_id = text_copy(index_id), .is_rollback = !index_id};
    struct task task = {0};
    struct store_transaction *tx = begin(bed);
    int result = operation_switch(&bed->controller, tx, &entry, &view, &(struct operation_origin){0},
                                  &(struct switch_given){0}, &work, &task, ret_error);
    return end(bed, tx, result, &task);
}

char *reindex_delete(struct engine_bed *bed, const char *collection) {
    _cleanup_entry_ struct catalog_entry entry = {0};
    struct task task = {0};
    struct store_transaction *tx = begin(bed);
    assert_int_equal(catalog_find(tx, collection, &entry, NULL), 0);
    int result = operation_collection_delete(&bed->controller, tx, &entry, &task, NULL);
    return end(bed, tx, result, &task);
}

struct catalog_view reindex_view(struct engine_bed *bed, const char *collection) {
    _cleanup_entry_ struct catalog_entry entry = {0};
    struct catalog_view view = {0};
    load(bed, collection, &entry, &view);
    return view;
}

char *reindex_blue(struct engine_bed *bed, const char *collection) {
    _cleanup_view_ struct catalog_view view = reindex_view(bed, collection);
    return bed_ask_text(bed, "SELECT name FROM deployments WHERE id = ?", view.pair.deployment_id);
}

size_t reindex_count_indexes(struct engine_bed *bed, const char *collection, const char *state) {
    _cleanup_view_ struct catalog_view view = reindex_view(bed, collection);
    size_t count = 0;
    for (size_t i = 0; i < view.count; i++)
        if (view.indexes[i].set == COLLECTION_DOCUMENTS && (!state || !strcmp(view.indexes[i].state, state))) count++;
    return count;
}

char *reindex_child(struct engine_bed *bed, const char *parent_id, const char *kind) {
    struct store_transaction *tx = begin(bed);
    struct store_rows *rows = NULL;
    assert_int_equal(store_query(tx, &rows, NULL,
                                 "SELECT id FROM tasks WHERE parent_id = ? AND kind = ? "
                                 "ORDER BY created_at DESC, rowid DESC",
                                 "tt", parent_id, kind),
                     0);
    char *id = store_next(rows, NULL) > 0 ? store_text_copy(rows, 0) : NULL;
    store_rows_free(rows);
    store_rollback(tx);
    return id;
}

void reindex_check(struct engine_bed *bed, const char *collection) {
    bed_check_consistent(bed);
    _cleanup_view_ struct catalog_view view = reindex_view(bed, collection);
    assert_int_equal(reindex_count_indexes(bed, collection, "blue"), 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM routes WHERE deployment_id = ?", view.pair.deployment_id), 1);
    assert_null(view.pair.switching_task);
    size_t documents = 0;
    for (size_t i = 0; i < view.count; i++) {
        const struct collection_index *index = &view.indexes[i];
        if (index->set != COLLECTION_DOCUMENTS) continue;
        documents++;
        _cleanup_free_ char *holder = text_format("collection:%s/%s", view.facts.collection_id, index->index_id);
        _cleanup_free_ char *subject = bed_ask_text(bed, "SELECT subject FROM pins WHERE holder = ?", holder);
        _cleanup_free_ char *expected = text_format("encoder:%s", index->deployment_id);
        if (!text_equal(subject, expected))
            fail_msg("index %s (%s) is pinned by %s", index->index_id, index->state, subject);
    }
    _cleanup_free_ char *prefix = text_format("collection:%s/", view.facts.collection_id);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM pins WHERE substr(holder, 1, 48) = ?", prefix),
                     (int64_t)documents);
}
