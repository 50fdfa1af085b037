/* The controller: the control API and the task engine (`slipway controller`, started by the supervisor with the channel
 * to it as descriptor 3). Exactly one a state folder; the only writer of the control database (S3).
 *
 * A tour: controller.c is the main loop. A request becomes rows (request.c, operation_*.c) behind the API (api.c); the
 * engine works them off: engine.c and engine_choose.c decide which task runs when, engine_task.c takes one through its
 * steps (steps.def, step_*.c), engine_undo.c puts right what a task that ended badly did. replicas.c knows what runs,
 * routing.c which gateway uses which routes, admission.c what fits; reconcile.c puts the record right after a start.
 * collections.h leads to what belongs to collections: re-index, switch, rollback.
 * docs/internals/deployment-life.md and reindex-life.md tell it as stories.
 */
#pragma once
#include "base/settings.h"

/* Runs until SIGTERM (0) or until the supervisor is gone (1). Returns the exit status; ROLE_EXIT_PERMANENT
 * (wire/role.h) when starting it again would fail the same way. Borrows the settings. */
int controller_main(struct settings *settings);
