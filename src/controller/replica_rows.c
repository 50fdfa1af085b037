/* Rows of the table replicas: what exists or shall exist, and what memory is reserved for it (S7). */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"

static void clear_row(struct replica_row *row) {
    free(row->id);
    free(row->task_id);
    free(row->state);
    *row = (struct replica_row){0};
}

void replica_rows_clear(struct replica_rows *rows) {
    for (size_t i = 0; i < rows->count; i++) clear_row(&rows->rows[i]);
    free(rows->rows);
    *rows = (struct replica_rows){0};
}

int replica_rows_load(struct store_transaction *tx, const char *deployment_id, struct replica_rows *ret_rows,
                      struct error **ret_error) {
    _cleanup_rows_ struct store_rows *found = NULL;
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    int result =
        store_query(tx, &found, ret_error,
                    "SELECT id, task_id, state, revision, reserved_bytes, memory_limit_bytes, warm_until, created_at, "
                    "cpu, idle FROM replicas WHERE deployment_id = ? ORDER BY created_at, rowid",
                    "t", deployment_id);
    if (result < 0) return result;
    while ((result = store_next(found, ret_error)) > 0) {
        rows.rows = mem_resize(rows.rows, rows.count + 1, sizeof *rows.rows);
        rows.rows[rows.count++] = (struct replica_row){
            .id = store_text_copy(found, 0),
            .task_id = store_text_copy(found, 1),
            .state = store_text_copy(found, 2),
            .revision = store_number(found, 3),
            .reserved_bytes = store_number(found, 4),
            .memory_limit_bytes = store_number(found, 5),
            .warm_until = store_number(found, 6),
            .created_at = store_number(found, 7),
            .cpu = store_real(found, 8),
            .idle = store_number(found, 9) != 0,
        };
    }
    if (result < 0) return result;
    *ret_rows = rows;
    rows = (struct replica_rows){0};
    return 0;
}

void replica_rows_filter(struct replica_rows *rows, bool (*keep)(const struct replica_row *row, const void *context),
                         const void *context) {
    size_t kept = 0;
    for (size_t i = 0; i < rows->count; i++) {
        if (keep(&rows->rows[i], context))
            rows->rows[kept++] = rows->rows[i];
        else
            clear_row(&rows->rows[i]);
    }
    rows->count = kept;
}

int replica_row_insert(struct store_transaction *tx, const char *deployment_id, const char *task_id,
                       const struct replica_row *row, struct error **ret_error) {
    char id[37];
    text_new_uuid(id);
    int result = store_run(tx, NULL, ret_error,
                           "INSERT INTO replicas (id, deployment_id, revision, task_id, state, reserved_bytes, cpu, "
                           "memory_limit_bytes, created_at, idle) VALUES (?, ?, ?, ?, 'starting', ?, ?, ?, ?, ?)",
                           "ttitidiii", id, deployment_id, row->revision, task_id, row->reserved_bytes, row->cpu,
                           row->memory_limit_bytes, clock_wall_ms(), (int64_t)row->idle);
    if (result < 0) return error_wrap(ret_error, "reserve memory for a replica");
    _cleanup_free_ char *size = text_size((uint64_t)row->reserved_bytes);
    _cleanup_free_ char *words =
        text_format("replica %s of revision %lld is to start, %s reserved", id, (long long)row->revision, size);
    return event_add(tx, "replica", deployment_id, task_id, words, NULL, ret_error);
}

int replica_row_set_state(struct store_transaction *tx, const char *deployment_id, const struct replica_row *row,
                          const char *state, const char *task_id, const char *why, struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error, "UPDATE replicas SET state = ?, task_id = ? WHERE id = ?", "ttt", state,
                           task_id, row->id);
    if (result < 0) return result;
    _cleanup_free_ char *words = text_format("replica %s of revision %lld: %s%s%s", row->id, (long long)row->revision,
                                             state, why ? ": " : "", why ? why : "");
    return event_add(tx, "replica", deployment_id, task_id, words, NULL, ret_error);
}

int replica_row_delete(struct store_transaction *tx, const char *deployment_id, const char *replica_id,
                       const char *task_id, const char *why, struct error **ret_error) {
    int64_t changes = 0;
    int result = store_run(tx, &changes, ret_error, "DELETE FROM replicas WHERE id = ?", "t", replica_id);
    if (result < 0 || !changes) return result;
    _cleanup_free_ char *words = text_format("replica %s is gone: %s", replica_id, why);
    return event_add(tx, "replica", deployment_id, task_id, words, NULL, ret_error);
}

int replica_start(struct controller *controller, const struct deployment *deployment, const struct revision *revision,
                  const struct replica_row *row, struct error **ret_error) {
    if (!revision->package_digest)
        return error_set(ret_error, ERROR_DEPLOYMENT, "start replica %s: revision %lld has no package", row->id,
                         (long long)revision->number);
    _cleanup_free_ char *path = NULL;
    int result = controller->packages->locate(controller->package_store, revision->package_digest, &path, ret_error);
    if (result < 0) return error_wrap(ret_error, "start replica %s", row->id);
    const struct target_replica_spec spec = {
        .replica_id = row->id,
        .deployment_id = deployment->id,
        .deployment_name = deployment->name,
        .revision = (uint64_t)revision->number,
        .package_path = path,
        .package_digest = revision->package_digest,
        .recipe_json = revision->recipe_json,
        .cpu = row->cpu,
        .memory_limit_bytes = (uint64_t)row->memory_limit_bytes,
        .restarts_maximum = controller->settings->replica_restarts,
        .ready_deadline_ms = controller->settings->replica_ready_deadline_ms,
        .idle_priority = row->idle,
    };
    replicas_expect(controller->replicas, row->id);
    result = controller->target_ops->start(controller->target, &spec, ret_error);
    return result < 0 ? error_wrap(ret_error, "start replica %s", row->id) : 0;
}
