/* What a re-index could not embed: while it runs, from the index's own list; afterwards from the copy with the task.
 * And the rows that a batch job rejected. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/batch_job.h"
#include "controller/collections.h"

#define LOOKED_AT_MAXIMUM 11000 /* of a running one: as many as are copied at its end, and a page */

static void add_item(yyjson_mut_doc *document, yyjson_mut_val *array, const char *id, const char *stage,
                     const char *detail) {
    yyjson_mut_val *object = yyjson_mut_arr_add_obj(document, array);
    json_add_text(document, object, "id", id);
    json_add_text(document, object, "stage", stage);
    json_add_text(document, object, "detail", detail);
}

static int add_copied(struct store_transaction *tx, const char *task_id, int64_t limit, int64_t offset,
                      yyjson_mut_doc *document, yyjson_mut_val *array, int64_t *ret_total, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_ask_number(tx, ret_total, ret_error, "SELECT count(*) FROM task_failed_items WHERE task_id = ?",
                                  "t", task_id);
    if (result < 0 || (result = store_query(tx, &rows, ret_error,
                                            "SELECT id, stage, detail FROM task_failed_items WHERE task_id = ? "
                                            "ORDER BY place LIMIT ? OFFSET ?",
                                            "tii", task_id, limit, offset)) < 0)
        return result;
    while ((result = store_next(rows, ret_error)) > 0)
        add_item(document, array, store_text(rows, 0), store_text(rows, 1), store_text(rows, 2));
    return result;
}

static int add_present(struct controller *controller, const struct reindex_work *work, int64_t limit, int64_t offset,
                       yyjson_mut_doc *document, yyjson_mut_val *array, int64_t *ret_total, struct error **ret_error) {
    _cleanup_free_ char *folder = catalog_folder(controller, work->collection_id);
    struct collection *collection = NULL;
    struct collection_read *read = NULL;
    struct collection_failure *failures = NULL;
    size_t count = 0;
    uint64_t total = 0;
    int64_t wanted = offset < LOOKED_AT_MAXIMUM - limit ? offset + limit : LOOKED_AT_MAXIMUM;
    int result = collection_open(folder, COLLECTION_READS, &collection, ret_error);
    if (result >= 0) result = collection_read_begin(collection, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0)
        result =
            collection_list_failures(read, work->index_id, 0, (size_t)wanted, &failures, &count, &total, ret_error);
    for (size_t i = (size_t)offset; result >= 0 && i < count; i++)
        add_item(document, array, failures[i].id, failures[i].stage, failures[i].detail);
    if (result >= 0) *ret_total = (int64_t)total;
    collection_failures_free(failures, count);
    collection_read_end(read);
    collection_close(collection);
    return result;
}

int failed_items_render(struct controller *controller, const char *task_id, int64_t limit, int64_t offset,
                        yyjson_mut_doc *document, yyjson_mut_val *array, int64_t *ret_total, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    _cleanup_work_ struct reindex_work work = {0};
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = task_load(tx, task_id, &task, ret_error)) < 0) return result;
    if (text_equal(task.kind, "batch"))
        return batch_job_render_rejected(tx, task_id, limit, offset, document, array, ret_total, ret_error);
    if ((result = add_copied(tx, task_id, limit, offset, document, array, ret_total, ret_error)) < 0) return result;
    store_rollback(TAKE(tx));
    reindex_work_read(&task, &work);
    bool is_filling = text_equal(task.kind, "reindex") && !task_status_is_finished(task.status) && work.index_id;
    if (!is_filling || *ret_total) return 0;
    return add_present(controller, &work, limit, offset, document, array, ret_total, ret_error);
}
