/* Retention: what is older than the settings keep goes. The deploy task of a deployment that lives stays as long as it
 * does, and so do parent and children of every unfinished task. */
#include "base/clock.h"
#include "base/memory.h"
#include "controller/batch_job.h"
#include "controller/engine-internal.h"

static int delete_tasks(struct store_transaction *tx, int64_t before, struct error **ret_error) {
    return store_run(
        tx, NULL, ret_error,
        "DELETE FROM tasks WHERE status NOT IN ('pending', 'processing') AND updated_at < ? "
        "AND NOT EXISTS (SELECT 1 FROM deployments d WHERE d.id = tasks.deployment_id AND d.status <> 'inactive' "
        "AND (tasks.kind = 'deploy' OR d.task_id = tasks.id)) "
        /* A rollback asks the re-index that made an index whether its model was deployed for it. */
        "AND NOT (kind = 'reindex' AND status = 'done' AND EXISTS (SELECT 1 FROM collections c WHERE c.name = "
        "tasks.collection)) "
        "AND NOT EXISTS (SELECT 1 FROM tasks c WHERE (c.parent_id = tasks.id OR c.leader_id = tasks.id OR c.id = "
        "tasks.parent_id) AND c.status IN ('pending', 'processing'))",
        "i", before);
}

/* The newest one stays: without it the next would be given an id that was told already. */
static int delete_events(struct store_transaction *tx, int64_t before, struct error **ret_error) {
    return store_run(tx, NULL, ret_error, "DELETE FROM events WHERE at < ? AND id < (SELECT max(id) FROM events)", "i",
                     before);
}

static int delete_tokens(struct store_transaction *tx, int64_t before, struct error **ret_error) {
    return store_run(tx, NULL, ret_error, "DELETE FROM tokens WHERE revoked_at IS NOT NULL AND revoked_at < ?", "i",
                     before);
}

static int delete_deployments(struct store_transaction *tx, int64_t before, struct error **ret_error) {
#define IS_GONE                                                                                                        \
    "status = 'inactive' AND deleted_at > 0 AND deleted_at < ? AND NOT EXISTS (SELECT 1 FROM tasks t WHERE "           \
    "t.deployment_id = deployments.id AND t.status IN ('pending', 'processing'))"
#define GONE "(SELECT id FROM deployments WHERE " IS_GONE ")"
    int result =
        store_run(tx, NULL, ret_error, "DELETE FROM idempotency_keys WHERE deployment_id IN " GONE, "i", before);
    if (result < 0 || (result = store_run(tx, NULL, ret_error, "DELETE FROM revisions WHERE deployment_id IN " GONE,
                                          "i", before)) < 0)
        return result;
    return store_run(tx, NULL, ret_error, "DELETE FROM deployments WHERE " IS_GONE, "i", before);
#undef GONE
#undef IS_GONE
}

int retention_run(struct controller *controller, struct error **ret_error) {
    const struct settings *settings = controller->settings;
    int64_t now = clock_wall_ms();
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(controller->store, &tx, ret_error);
    if (result < 0 || (result = delete_tasks(tx, now - (int64_t)settings->task_retention_ms, ret_error)) < 0 ||
        (result = store_run(
             tx, NULL, ret_error,
             "DELETE FROM task_failed_items WHERE NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = task_id)", "")) < 0 ||
        (result = batch_job_forget(tx, ret_error)) < 0 ||
        (result = delete_events(tx, now - (int64_t)settings->event_retention_ms, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM idempotency_keys WHERE created_at < ?", "i",
                            now - (int64_t)settings->idempotency_retention_ms)) < 0 ||
        (result = delete_tokens(tx, now - (int64_t)settings->inactive_retention_ms, ret_error)) < 0 ||
        (result = delete_deployments(tx, now - (int64_t)settings->inactive_retention_ms, ret_error)) < 0 ||
        (result = store_commit(TAKE(tx), ret_error)) < 0)
        return error_wrap(ret_error, "delete what is past its retention");
    if ((result = batch_job_trim_spool(controller, ret_error)) >= 0) result = pins_trim(controller, ret_error);
    return result < 0 ? result : store_checkpoint(controller->store, ret_error);
}
