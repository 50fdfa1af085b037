/* Health: what the death and the return of replicas does to their deployment. A serving replica that is down shows in
 * the message while the supervisor brings it back; one that is given up leaves the routes, and its deployment is
 * `failed` with its last words while the others go on serving. Runs on the engine's thread, one event at a time. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/push.h"

/* ---- the message ---- */

#define DOWN_WORDS " replicas up"

static bool is_health_message(const char *message) {
    return message && *message >= '0' && *message <= '9' && strstr(message, DOWN_WORDS);
}

char *health_base_message(struct controller *controller, const char *target_json) {
    if (!controller->target_ops->check_config) return NULL;
    _cleanup_free_ char *rest = push_without_image(controller, target_json);
    return controller->target_ops->check_config(rest);
}

struct census {
    size_t serving, up;
    char *cause; /* of the first that is down */
    char *last_words; /* of the first that was given up */
};

static void census_clear(struct census *census) {
    free(census->cause);
    free(census->last_words);
}

static void count_serving(struct controller *controller, const struct replica_rows *rows, struct census *census) {
    for (size_t i = 0; i < rows->count; i++) {
        const struct replica_row *row = &rows->rows[i];
        bool given_up = text_equal(row->state, "failed");
        if (!given_up && !text_equal(row->state, "serving")) continue;
        census->serving++;
        if (given_up) continue;
        struct replica_view view;
        replicas_get(controller->replicas, row->id, &view);
        if (view.up)
            census->up++;
        else if (!census->cause)
            census->cause = text_copy(view.cause ? view.cause : "starting");
        replica_view_clear(&view);
    }
}

static int load_last_words(struct store_transaction *tx, const char *deployment_id, char **ret_words,
                           struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(
        tx, &rows, ret_error,
        "SELECT last_words FROM replicas WHERE deployment_id = ? AND state = 'failed' ORDER BY created_at LIMIT 1", "t",
        deployment_id);
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    *ret_words = store_text_copy(rows, 0);
    return 0;
}

static int set_failed(struct store_transaction *tx, const struct deployment *deployment, const struct census *census,
                      struct error **ret_error) {
    _cleanup_free_ char *words =
        text_format("%zu of %zu" DOWN_WORDS ": %s", census->up, census->serving, census->last_words);
    _cleanup_error_ struct error *error = NULL;
    error_set(&error, ERROR_DEPLOYMENT, "%s", census->last_words);
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_FAILED, words, error, NULL, ret_error);
}

static int set_active_message(struct controller *controller, struct store_transaction *tx,
                              const struct deployment *deployment, const struct census *census,
                              struct error **ret_error) {
    bool all_up = census->up == census->serving;
    if (all_up && !is_health_message(deployment->message)) return 0;
    _cleanup_free_ char *message =
        all_up ? health_base_message(controller, deployment->target_json)
               : text_format("%zu of %zu" DOWN_WORDS ": %s", census->up, census->serving, census->cause);
    if (text_equal(message, deployment->message)) return 0;
    return deployment_set_message(tx, deployment->id, message, ret_error);
}

int health_update(struct controller *controller, struct store_transaction *tx, const char *deployment_id,
                  struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    __attribute__((cleanup(census_clear))) struct census census = {0};
    int result = deployment_load(tx, deployment_id, &deployment, ret_error);
    if (result < 0) return result;
    if (deployment.status != DEPLOYMENT_ACTIVE) return 0;
    if ((result = replica_rows_load(tx, deployment_id, &rows, ret_error)) < 0 ||
        (result = load_last_words(tx, deployment_id, &census.last_words, ret_error)) < 0)
        return result;
    count_serving(controller, &rows, &census);
    if (census.last_words) return set_failed(tx, &deployment, &census, ret_error);
    return set_active_message(controller, tx, &deployment, &census, ret_error);
}

/* ---- one replica's change ---- */

struct replica_known {
    char *deployment_id, *task_id, *state;
    int64_t revision;
};

static void replica_known_clear(struct replica_known *known) {
    free(known->deployment_id);
    free(known->task_id);
    free(known->state);
}

/* 1, or 0 when it has no row. */
static int load_known(struct store_transaction *tx, const char *replica_id, struct replica_known *ret_known,
                      struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error, "SELECT deployment_id, task_id, state, revision FROM replicas WHERE id = ?",
                    "t", replica_id);
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    *ret_known = (struct replica_known){
        .deployment_id = store_text_copy(rows, 0),
        .task_id = store_text_copy(rows, 1),
        .state = store_text_copy(rows, 2),
        .revision = store_number(rows, 3),
    };
    return 1;
}

/* A serving replica that will not come back: out of the routes; its row stays, without a reservation, to tell why. */
static int give_up(struct controller *controller, struct store_transaction *tx, const char *replica_id,
                   const struct replica_known *known, const struct replica_view *view, int64_t *ret_generation,
                   struct error **ret_error) {
    _cleanup_error_ struct error *error = replica_last_words(replica_id, view);
    _cleanup_free_ char *words = error_text(error);
    int result = store_run(tx, NULL, ret_error,
                           "UPDATE replicas SET state = 'failed', reserved_bytes = 0, last_words = ? WHERE id = ?",
                           "tt", words, replica_id);
    if (result < 0 || (result = event_add(tx, "replica", known->deployment_id, NULL, words, NULL, ret_error)) < 0 ||
        (result = step_route_serving(tx, known->deployment_id, ret_error)) < 0 ||
        (result = step_next_generation(tx, ret_generation, ret_error)) < 0)
        return result;
    return health_update(controller, tx, known->deployment_id, ret_error);
}

static int serving_changed(struct controller *controller, struct store_transaction *tx, const char *replica_id,
                           const struct replica_known *known, const struct replica_view *view, int64_t *ret_generation,
                           struct error **ret_error) {
    if (view->final_down) return give_up(controller, tx, replica_id, known, view, ret_generation, ret_error);
    /* It may have died and come back before this looks: both are told, once. */
    _cleanup_free_ char *died =
        view->death_news ? text_format("replica %s is down: %s", replica_id, view->death ? view->death : "it is gone")
                         : NULL;
    _cleanup_free_ char *came = view->came_news ? text_format("replica %s is up", replica_id) : NULL;
    int result = 0;
    if (died) result = event_add(tx, "replica", known->deployment_id, NULL, died, NULL, ret_error);
    if (result >= 0 && came) result = event_add(tx, "replica", known->deployment_id, NULL, came, NULL, ret_error);
    if (result < 0) return result;
    return health_update(controller, tx, known->deployment_id, ret_error);
}

/* Nobody ordered it (any longer): a start that a kill cut off from its row, or a row that is gone. */
static int orphan_changed(struct controller *controller, const char *replica_id, const struct replica_view *view,
                          struct error **ret_error) {
    if (view->final_down) {
        replicas_forget(controller->replicas, replica_id);
        replica_log_remove(controller, replica_id);
        return 0;
    }
    if (!view->pid) return 0;
    return controller->target_ops->stop(controller->target, replica_id, controller->settings->drain_ms, ret_error);
}

static bool leaves_when_down(const char *state) {
    return text_equal(state, "stopping") || text_equal(state, "draining") || text_equal(state, "warm");
}

int health_replica_changed(struct controller *controller, const char *replica_id, struct error **ret_error) {
    struct replica_view view __attribute__((cleanup(replica_view_clear)));
    __attribute__((cleanup(replica_known_clear))) struct replica_known known = {0};
    replicas_get(controller->replicas, replica_id, &view);
    if (!view.known) return 0;
    int64_t generation = 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = load_known(tx, replica_id, &known, ret_error)) < 0) return result;
    if (!result) {
        store_rollback(TAKE(tx));
        return orphan_changed(controller, replica_id, &view, ret_error);
    }
    bool leaves = view.final_down && leaves_when_down(known.state);
    if (leaves)
        result = replica_row_delete(tx, known.deployment_id, replica_id, known.task_id,
                                    view.cause ? view.cause : "stopped", ret_error);
    else if (text_equal(known.state, "serving"))
        result = serving_changed(controller, tx, replica_id, &known, &view, &generation, ret_error);
    else { /* its task waits for it; what became of it while it comes is no news */
        if (view.up) replicas_told(controller->replicas, replica_id, view.news);
        return 0;
    }
    if (result < 0 || (result = store_commit(TAKE(tx), ret_error)) < 0) return result;
    replicas_told(controller->replicas, replica_id, view.news);
    if (leaves) {
        replicas_forget(controller->replicas, replica_id);
        replica_log_remove(controller, replica_id);
    }
    if (generation) routing_announce(controller->routing, (uint64_t)generation);
    if (controller->api) api_changed(controller->api);
    return 0;
}
