/* drain: until no gateway's generation names the replicas that leave (R2), or the drain deadline. */
#include "controller/steps.h"

int step_drain(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    return step_wait_drained(run, state.generation, ret_error);
}
