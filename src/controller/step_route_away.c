/* route_away: one transaction takes the deployment out of the routes. The current name stays until the end, so that who
 * asks for the deployment by name sees it leave; gateways pass over names without a route. The point of no return of a
 * delete. */
#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

static int take_away(struct step_run *run, struct step_state *state, struct error **ret_error) {
    const char *id = run->task.deployment_id;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM routes WHERE deployment_id = ?", "t", id)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM route_replicas WHERE deployment_id = ?", "t", id)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM route_names WHERE deployment_id = ? AND is_current = 0",
                            "t", id)) < 0 ||
        (result = store_run(
             tx, NULL, ret_error,
             "UPDATE replicas SET state = 'draining', task_id = ? WHERE deployment_id = ? AND state = 'serving'", "tt",
             run->task.id, id)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE deployments SET serving_revision = NULL WHERE id = ?", "t",
                            id)) < 0 ||
        (result = step_next_generation(tx, &state->generation, ret_error)) < 0)
        return result;
    state->committed = true;
    if ((result = event_add(tx, "route", id, run->task.id, "nothing routes here any more", NULL, ret_error)) < 0 ||
        (result = step_state_write(tx, run, state, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_route_away(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    int result = state.committed ? 0 : take_away(run, &state, ret_error);
    if (result < 0) return result;
    engine_set_committed(run);
    routing_announce(run->controller->routing, (uint64_t)state.generation);
    return 0;
}
