/* remove_collection: its folder is unlinked, then its encoders are let go (S6). The row, and with it the name, goes in
 * the transaction that ends the task. */
#include "base/memory.h"
#include "base/pause.h"
#include "controller/collections.h"

int step_remove_collection(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *root = catalog_root(run->controller);
    reindex_work_read(&run->task, &work);
    int result = collection_remove(root, work.collection_id, ret_error);
    if (result < 0) return result;
    pause_point("collection_removed");
    if ((result = store_begin(run->controller->store, &tx, ret_error)) < 0 ||
        (result = encoder_unpin(tx, work.collection_id, NULL, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}
