/* Which task is next: the questions that the engine asks of the table tasks. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

/* Tasks on collections wait for others most of the time: were they counted, children could wait for ever for the
 * worker that their parent holds. Batch jobs take hours, and no deploy shall wait for them. */
bool engine_is_parent(const struct task *task) {
    return task->collection != NULL || text_equal(task->kind, "batch");
}

#define KIND(name, ...) ", '" #name "'"
static const char next_task_sql[] =
    "SELECT t.id FROM tasks t WHERE t.status = 'pending' AND t.leader_id IS NULL AND t.not_before <= ? "
    "AND ((? = 1 AND t.collection IS NULL AND t.kind <> 'batch') OR (? = 1 AND (t.collection IS NOT NULL OR "
    "t.kind = 'batch'))) AND t.kind IN (''"
#include "controller/steps.def"
    ") AND NOT EXISTS (SELECT 1 FROM tasks o WHERE o.deployment_id = t.deployment_id AND o.status = 'processing' "
    "AND o.leader_id IS NULL) "
    /* One at a time for each deployment, in the order in which they came; the end of a window waits for the others. */
    "AND NOT EXISTS (SELECT 1 FROM tasks o WHERE o.deployment_id = t.deployment_id AND o.status = 'pending' "
    "AND o.leader_id IS NULL AND o.id <> t.id AND o.kind <> 'retire' AND (t.kind = 'retire' OR o.created_at < t.created_at "
    "OR (o.created_at = t.created_at AND o.rowid < t.rowid))) "
    /* One re-index of a collection; who waits for another comes when that has ended. */
    "AND NOT EXISTS (SELECT 1 FROM tasks o WHERE t.kind = 'reindex' AND o.kind = 'reindex' "
    "AND o.collection = t.collection AND o.status = 'processing') "
    "ORDER BY t.created_at, t.rowid LIMIT 1";
#undef KIND

/* The first column of the first row, copied: 1, or 0 when there is none. */
static int ask_id(struct store_rows *rows, char **ret_id, struct error **ret_error) {
    int result = store_next(rows, ret_error);
    if (result > 0) *ret_id = store_text_copy(rows, 0);
    store_rows_free(rows);
    return result;
}

static int find_next_task(struct store_transaction *tx, int64_t now, const struct engine_room *room, char **ret_id,
                          struct error **ret_error) {
    struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, next_task_sql, "iii", now, (int64_t)room->for_workers,
                             (int64_t)room->for_parents);
    return result < 0 ? result : ask_id(rows, ret_id, ret_error);
}

static bool has_deadline(const struct task *task) {
    return !text_equal(task->kind, "retire") && !engine_is_parent(task);
}

/* 1 with the task, now `processing`; 0 when there is none that may run. */
int engine_claim(const struct settings *settings, struct store_transaction *tx, int64_t now,
                 const struct engine_room *room, struct task *ret_task, struct error **ret_error) {
    _cleanup_free_ char *id = NULL;
    int result = find_next_task(tx, now, room, &id, ret_error);
    if (result <= 0) return result;
    _cleanup_task_ struct task task = {0};
    if ((result = task_load(tx, id, &task, ret_error)) < 0) return result;
    int64_t deadline = has_deadline(&task) ? clock_wall_ms() + (int64_t)settings->deploy_processing_deadline_ms : 0;
    if ((result = store_run(tx, NULL, ret_error, "UPDATE tasks SET deadline = ? WHERE id = ?", "it", deadline, id)) <
            0 ||
        (result = task_set_status(tx, id, TASK_PROCESSING, NULL, NULL, ret_error)) < 0)
        return result;
    task_clear(&task);
    if ((result = task_load(tx, id, ret_task, ret_error)) < 0) return result;
    return 1;
}

/* Deploy tasks that waited too long fail before they began. 1: one did; 0: none. */
int engine_fail_overdue(struct store_transaction *tx, struct error **ret_error) {
    struct store_rows *rows = NULL;
    _cleanup_free_ char *id = NULL;
    int result = store_query(
        tx, &rows, ret_error,
        "SELECT id FROM tasks WHERE status = 'pending' AND leader_id IS NULL AND deadline > 0 AND deadline <= ? "
        "LIMIT 1",
        "i", clock_wall_ms());
    if (result < 0 || (result = ask_id(rows, &id, ret_error)) <= 0) return result;
    _cleanup_task_ struct task task = {0};
    _cleanup_error_ struct error *error = NULL;
    error_set(&error, ERROR_DEPLOYMENT, "Deployment task is pending too long.");
    if ((result = task_load(tx, id, &task, ret_error)) < 0 ||
        (result = task_set_status(tx, id, TASK_FAILED, error->message, error, ret_error)) < 0 ||
        (result = deployment_set_status(tx, task.deployment_id, DEPLOYMENT_FAILED, error->message, error, id,
                                        ret_error)) < 0)
        return result;
    return 1;
}

/* The next time that a row names; INT64_MAX when none does. `now` is the time by which claim() judged: a task whose
 * time came between two clocks would else be neither claimed nor waited for. */
int engine_next_time(struct store_transaction *tx, int64_t now, int64_t *ret_wall_ms, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(
        tx, &rows, ret_error,
        "SELECT min(CASE WHEN not_before > ? THEN not_before WHEN deadline > 0 THEN deadline END) FROM tasks "
        "WHERE status = 'pending' AND leader_id IS NULL",
        "i", now);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    *ret_wall_ms = store_is_null(rows, 0) ? INT64_MAX : store_number(rows, 0);
    return 0;
}
