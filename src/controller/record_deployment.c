/* Rows of deployments, revisions and events: reading them into structs, and the two functions that change a
 * deployment's status and message. Everything happens in the caller's transaction. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/controller-internal.h"

static const char *const status_names[DEPLOYMENT_STATUS_COUNT] = {
#define DEPLOYMENT_STATUS(constant, name) [DEPLOYMENT_##constant] = name,
#include "controller/statuses.def"
#undef DEPLOYMENT_STATUS
};

const char *deployment_status_name(enum deployment_status status) {
    return status_names[status];
}

bool deployment_status_parse(const char *name, enum deployment_status *ret_status) {
    for (size_t i = 0; i < ARRAY_SIZE(status_names); i++) {
        if (!text_equal(name, status_names[i])) continue;
        *ret_status = (enum deployment_status)i;
        return true;
    }
    return false;
}

void deployment_clear(struct deployment *deployment) {
    free(deployment->id);
    free(deployment->name);
    free(deployment->message);
    free(deployment->error_json);
    free(deployment->tags_json);
    free(deployment->task_id);
    free(deployment->model_uri);
    free(deployment->target_json);
    free(deployment->recipe_json);
    free(deployment->deployed_model_version);
    *deployment = (struct deployment){0};
}

/* The columns of every query that deployment_from_row() reads. */
#define DEPLOYMENT_COLUMNS                                                                                             \
    "d.id, d.name, d.status, d.message, d.error_json, d.revision, d.serving_revision, d.replicas, d.cpu, "             \
    "d.memory_bytes, d.gpu, d.tags_json, d.task_id, d.created_at, d.updated_at, d.deleted_at, r.model_uri, "           \
    "r.target_json, r.recipe_json, s.resolved_uri"
#define DEPLOYMENT_TABLES                                                                                              \
    " FROM deployments d JOIN revisions r ON r.deployment_id = d.id AND r.number = d.revision "                        \
    "LEFT JOIN revisions s ON s.deployment_id = d.id AND s.number = d.serving_revision "

static int deployment_from_row(struct store_rows *rows, struct deployment *ret_deployment, struct error **ret_error) {
    enum deployment_status status;
    if (!deployment_status_parse(store_text(rows, 2), &status))
        return error_set(ret_error, ERROR_DEPLOYMENT, "read deployment %s: unknown status %s", store_text(rows, 0),
                         store_text(rows, 2));
    *ret_deployment = (struct deployment){
        .id = store_text_copy(rows, 0),
        .name = store_text_copy(rows, 1),
        .status = status,
        .message = store_text_copy(rows, 3),
        .error_json = store_text_copy(rows, 4),
        .revision = store_number(rows, 5),
        .serving_revision = store_number(rows, 6),
        .replicas = store_number(rows, 7),
        .cpu = store_real(rows, 8),
        .memory_bytes = store_number(rows, 9),
        .gpu = store_number(rows, 10),
        .tags_json = store_text_copy(rows, 11),
        .task_id = store_text_copy(rows, 12),
        .created_at = store_number(rows, 13),
        .updated_at = store_number(rows, 14),
        .deleted_at = store_number(rows, 15),
        .model_uri = store_text_copy(rows, 16),
        .target_json = store_text_copy(rows, 17),
        .recipe_json = store_text_copy(rows, 18),
        .deployed_model_version = store_text_copy(rows, 19),
    };
    return 0;
}

int deployment_load(struct store_transaction *tx, const char *id_or_name, struct deployment *ret_deployment,
                    struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result;
    if (text_is_uuid(id_or_name))
        result = store_query(tx, &rows, ret_error,
                             "SELECT " DEPLOYMENT_COLUMNS DEPLOYMENT_TABLES "WHERE d.id = lower(?)", "t", id_or_name);
    else
        result = store_query(tx, &rows, ret_error,
                             "SELECT " DEPLOYMENT_COLUMNS DEPLOYMENT_TABLES
                             "WHERE d.id = (SELECT deployment_id FROM route_names WHERE name = ?)",
                             "t", id_or_name);
    if (result < 0) return result;
    result = store_next(rows, ret_error);
    if (result < 0) return result;
    if (!result) return error_set(ret_error, ERROR_NOT_FOUND, "no deployment %s", id_or_name);
    return deployment_from_row(rows, ret_deployment, ret_error);
}

int deployment_list(struct store_transaction *tx, const char *status, int64_t limit, int64_t offset,
                    struct deployment **ret_deployments, size_t *ret_count, int64_t *ret_total,
                    struct error **ret_error) {
    _cleanup_rows_ struct store_rows *total = NULL;
    int result = store_query(tx, &total, ret_error, "SELECT count(*) FROM deployments WHERE ? IS NULL OR status = ?",
                             "tt", status, status);
    if (result < 0 || (result = store_next(total, ret_error)) < 0) return result;
    *ret_total = store_number(total, 0);

    _cleanup_rows_ struct store_rows *rows = NULL;
    result = status ? store_query(tx, &rows, ret_error,
                                  "SELECT " DEPLOYMENT_COLUMNS DEPLOYMENT_TABLES
                                  "WHERE d.status = ? ORDER BY d.created_at DESC, d.id LIMIT ? OFFSET ?",
                                  "tii", status, limit, offset)
                    : store_query(tx, &rows, ret_error,
                                  "SELECT " DEPLOYMENT_COLUMNS DEPLOYMENT_TABLES
                                  "ORDER BY d.created_at DESC, d.id LIMIT ? OFFSET ?",
                                  "ii", limit, offset);
    if (result < 0) return result;
    struct deployment *deployments = mem_new_array((size_t)limit, struct deployment);
    size_t count = 0;
    while (count < (size_t)limit && (result = store_next(rows, ret_error)) > 0) {
        result = deployment_from_row(rows, &deployments[count], ret_error);
        if (result < 0) break;
        count++;
    }
    if (result < 0) {
        deployment_list_free(deployments, count);
        return result;
    }
    *ret_deployments = deployments;
    *ret_count = count;
    return 0;
}

void deployment_list_free(struct deployment *deployments, size_t count) {
    for (size_t i = 0; i < count; i++) deployment_clear(&deployments[i]);
    free(deployments);
}

int deployment_set_status(struct store_transaction *tx, const char *deployment_id, enum deployment_status status,
                          const char *message, const struct error *error, const char *task_id,
                          struct error **ret_error) {
    _cleanup_free_ char *error_json = error ? json_from_error(error) : NULL;
    int64_t changes = 0, now = clock_wall_ms();
    int result =
        store_run(tx, &changes, ret_error,
                  "UPDATE deployments SET status = ?, message = ?, error_json = ?, updated_at = ?, "
                  "deleted_at = CASE WHEN ? = 'inactive' THEN ? ELSE 0 END WHERE id = ?",
                  "tttitit", status_names[status], message, error_json, now, status_names[status], now, deployment_id);
    if (result < 0) return result;
    if (!changes) return error_set(ret_error, ERROR_NOT_FOUND, "no deployment %s", deployment_id);
    _cleanup_free_ char *words =
        message ? text_format("%s: %s", status_names[status], message) : text_copy(status_names[status]);
    return event_add(tx, "deployment_status", deployment_id, task_id, words, error_json, ret_error);
}

int deployment_set_message(struct store_transaction *tx, const char *deployment_id, const char *message,
                           struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error, "UPDATE deployments SET message = ?, updated_at = ? WHERE id = ?",
                           "tit", message, clock_wall_ms(), deployment_id);
    if (result < 0 || !message) return result;
    return event_add(tx, "deployment_status", deployment_id, NULL, message, NULL, ret_error);
}

void revision_clear(struct revision *revision) {
    free(revision->deployment_id);
    free(revision->model_uri);
    free(revision->resolved_uri);
    free(revision->package_digest);
    free(revision->encoder_digest);
    free(revision->target_json);
    free(revision->recipe_json);
    free(revision->facts_json);
    *revision = (struct revision){0};
}

int revision_load(struct store_transaction *tx, const char *deployment_id, int64_t number,
                  struct revision *ret_revision, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error,
                    "SELECT deployment_id, number, served, created_at, model_uri, resolved_uri, package_digest, "
                    "encoder_digest, target_json, recipe_json, facts_json FROM revisions "
                    "WHERE deployment_id = ? AND number = ?",
                    "ti", deployment_id, number);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    if (!result)
        return error_set(ret_error, ERROR_NOT_FOUND, "no revision %lld of deployment %s", (long long)number,
                         deployment_id);
    *ret_revision = (struct revision){
        .deployment_id = store_text_copy(rows, 0),
        .number = store_number(rows, 1),
        .served = store_number(rows, 2),
        .created_at = store_number(rows, 3),
        .model_uri = store_text_copy(rows, 4),
        .resolved_uri = store_text_copy(rows, 5),
        .package_digest = store_text_copy(rows, 6),
        .encoder_digest = store_text_copy(rows, 7),
        .target_json = store_text_copy(rows, 8),
        .recipe_json = store_text_copy(rows, 9),
        .facts_json = store_text_copy(rows, 10),
    };
    return 0;
}

int event_add(struct store_transaction *tx, const char *kind, const char *deployment_id, const char *task_id,
              const char *message, const char *data_json, struct error **ret_error) {
    return store_run(
        tx, NULL, ret_error,
        "INSERT INTO events (at, deployment_id, task_id, kind, message, data_json) VALUES (?, ?, ?, ?, ?, ?)", "ittttt",
        clock_wall_ms(), deployment_id, task_id, kind, message, data_json);
}
