/* unpin: a deleted deployment lets its packages go; those that nothing pins are removed from the disk (S6).
 *
 * The end of a rollback window lets none go: every revision that served can be rolled back to as long as its deployment
 * lives, and a rollback fetches nothing. */
#include "base/text.h"
#include "controller/steps.h"

int step_unpin(struct step_run *run, struct error **ret_error) {
    if (text_equal(run->task.kind, "retire")) return 0;
    const char *task_id = text_equal(run->task.kind, "batch") ? run->task.id : NULL;
    return pins_let_go(run->controller, run->task.deployment_id, 0, task_id, ret_error);
}
