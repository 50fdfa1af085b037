/* drop_collection: a generation of the routes without the collection; until no gateway uses an earlier one, or the
 * drain deadline. */
#include "base/memory.h"
#include "base/pause.h"
#include "controller/collections.h"

static int take_away(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE collections SET state = 'deleting' WHERE id = ?", "t",
                            work->collection_id)) < 0 ||
        (result = step_next_generation(tx, &work->generation, ret_error)) < 0 ||
        (result = reindex_work_write(tx, run, work, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_drop_collection(struct step_run *run, struct error **ret_error) {
    _cleanup_work_ struct reindex_work work = {0};
    reindex_work_read(&run->task, &work);
    int result = work.generation ? 0 : take_away(run, &work, ret_error);
    if (result < 0) return result;
    pause_point("collection_unrouted");
    return step_wait_drained(run, work.generation, ret_error);
}
