/* ready: each replica has loaded, warmed up and answered one real inference. What its runner reported is recorded. */
#include "controller/steps.h"

int step_ready(struct step_run *run, struct error **ret_error) {
    int result = step_wait_up(run, run->task.revision, STEP_NO_DEADLINE, ret_error);
    if (result < 0) return result;
    return step_record_ready(run, run->task.revision, ret_error);
}
