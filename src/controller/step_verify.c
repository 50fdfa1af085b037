/* verify: what was fetched is hashed. The package is pinned by the task before it becomes visible, so that whoever
 * removes packages meanwhile leaves one with this digest alone (S6). */
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

static int record(struct step_run *run, const struct package_info *info, struct step_state *state,
                  struct error **ret_error) {
    free(state->digest);
    state->digest = text_copy(info->digest);
    state->size_bytes = (int64_t)info->size_bytes;
    state->file_count = (int64_t)info->file_count;
    _cleanup_free_ char *holder = text_format("task:%s", run->task.id);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = pin_package(tx, info->digest, holder, run->task.id, ret_error)) < 0 ||
        (result = step_state_write(tx, run, state, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_verify(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    if (state.present) return 0;
    struct controller *controller = run->controller;
    struct package_info info = {0};
    int result =
        controller->packages->measure(controller->package_store, run->task.id, &run->interrupted, &info, ret_error);
    if (result < 0) return error_wrap(ret_error, "verify what was fetched");
    package_gate_lock(controller->engine);
    result = record(run, &info, &state, ret_error);
    package_gate_unlock(controller->engine);
    return result;
}
