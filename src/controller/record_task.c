/* Rows of tasks: reading, inserting, and the one function that changes a status. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/controller-internal.h"
#include "controller/operation.h"

static const struct {
    const char *name;
    bool finished;
} statuses[TASK_STATUS_COUNT] = {
#define TASK_STATUS(constant, name, finished) [TASK_##constant] = {name, finished},
#include "controller/statuses.def"
#undef TASK_STATUS
};

const char *task_status_name(enum task_status status) {
    return statuses[status].name;
}

bool task_status_is_finished(enum task_status status) {
    return statuses[status].finished;
}

bool task_status_parse(const char *name, enum task_status *ret_status) {
    for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
        if (!text_equal(name, statuses[i].name)) continue;
        *ret_status = (enum task_status)i;
        return true;
    }
    return false;
}

void task_clear(struct task *task) {
    free(task->id);
    free(task->kind);
    free(task->step);
    free(task->deployment_id);
    free(task->model_id);
    free(task->parent_id);
    free(task->parent_label);
    free(task->leader_id);
    free(task->collection);
    free(task->undo_json);
    free(task->state_json);
    free(task->metadata_json);
    free(task->detail);
    free(task->error_json);
    *task = (struct task){0};
}

#define TASK_COLUMNS                                                                                                       \
    "id, kind, status, step, attempts, deployment_id, revision, model_id, parent_id, parent_label, leader_id, undo_json, " \
    "state_json, metadata_json, progress_done, progress_total, progress_rate, progress_failed, detail, error_json, "       \
    "cancel_requested, not_before, deadline, created_at, updated_at, collection"

static int task_from_row(struct store_rows *rows, struct task *ret_task, struct error **ret_error) {
    enum task_status status;
    if (!task_status_parse(store_text(rows, 2), &status))
        return error_set(ret_error, ERROR_DEPLOYMENT, "read task %s: unknown status %s", store_text(rows, 0),
                         store_text(rows, 2));
    *ret_task = (struct task){
        .id = store_text_copy(rows, 0),
        .kind = store_text_copy(rows, 1),
        .status = status,
        .step = store_text_copy(rows, 3),
        .attempts = store_number(rows, 4),
        .deployment_id = store_text_copy(rows, 5),
        .revision = store_number(rows, 6),
        .model_id = store_text_copy(rows, 7),
        .parent_id = store_text_copy(rows, 8),
        .parent_label = store_text_copy(rows, 9),
        .leader_id = store_text_copy(rows, 10),
        .undo_json = store_text_copy(rows, 11),
        .state_json = store_text_copy(rows, 12),
        .metadata_json = store_text_copy(rows, 13),
        .progress_done = store_number(rows, 14),
        .progress_total = store_number(rows, 15),
        .progress_rate = store_real(rows, 16),
        .progress_failed = store_number(rows, 17),
        .detail = store_text_copy(rows, 18),
        .error_json = store_text_copy(rows, 19),
        .cancel_requested = store_number(rows, 20),
        .not_before = store_number(rows, 21),
        .deadline = store_number(rows, 22),
        .created_at = store_number(rows, 23),
        .updated_at = store_number(rows, 24),
        .collection = store_text_copy(rows, 25),
    };
    return 0;
}

static int first_task(struct store_rows *rows, struct task *ret_task, struct error **ret_error) {
    int result = store_next(rows, ret_error);
    if (result <= 0) return result;
    result = task_from_row(rows, ret_task, ret_error);
    return result < 0 ? result : 1;
}

int task_load(struct store_transaction *tx, const char *id, struct task *ret_task, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, "SELECT " TASK_COLUMNS " FROM tasks WHERE id = ?", "t", id);
    if (result < 0 || (result = first_task(rows, ret_task, ret_error)) < 0) return result;
    return result ? 0 : error_set(ret_error, ERROR_NOT_FOUND, "no task %s", id);
}

int task_find_newest(struct store_transaction *tx, const char *kind, const char *model_id, struct task *ret_task,
                     struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT " TASK_COLUMNS " FROM tasks WHERE model_id = ? AND kind = ? "
                             "ORDER BY created_at DESC, rowid DESC LIMIT 1",
                             "tt", model_id, kind);
    return result < 0 ? result : first_task(rows, ret_task, ret_error);
}

int task_find_unfinished(struct store_transaction *tx, const char *deployment_id, const char *kind,
                         struct task *ret_task, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT " TASK_COLUMNS
                             " FROM tasks WHERE deployment_id = ? AND status IN ('pending', 'processing') "
                             "AND kind <> 'retire' AND leader_id IS NULL AND (? IS NULL OR kind = ?) "
                             "ORDER BY created_at DESC, rowid DESC LIMIT 1",
                             "ttt", deployment_id, kind, kind);
    return result < 0 ? result : first_task(rows, ret_task, ret_error);
}

int task_list(struct store_transaction *tx, const struct task_filter *filter, int64_t limit, int64_t offset,
              struct task **ret_tasks, size_t *ret_count, int64_t *ret_total, struct error **ret_error) {
#define TASK_FILTER                                                                                                    \
    " FROM tasks WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR status = ?2) AND (?3 IS NULL OR parent_id = ?3) "  \
    "AND (?4 IS NULL OR deployment_id = ?4) AND (?5 IS NULL OR collection = ?5)"
    _cleanup_rows_ struct store_rows *total = NULL;
    int result = store_query(tx, &total, ret_error, "SELECT count(*)" TASK_FILTER, "ttttt", filter->kind,
                             filter->status, filter->parent_id, filter->deployment_id, filter->collection);
    if (result < 0 || (result = store_next(total, ret_error)) < 0) return result;
    *ret_total = store_number(total, 0);

    _cleanup_rows_ struct store_rows *rows = NULL;
    result = store_query(tx, &rows, ret_error,
                         "SELECT " TASK_COLUMNS TASK_FILTER " ORDER BY created_at DESC, id LIMIT ?6 OFFSET ?7",
                         "tttttii", filter->kind, filter->status, filter->parent_id, filter->deployment_id,
                         filter->collection, limit, offset);
    if (result < 0) return result;
    struct task *tasks = mem_new_array((size_t)limit, struct task);
    size_t count = 0;
    while (count < (size_t)limit && (result = first_task(rows, &tasks[count], ret_error)) > 0) count++;
    if (result < 0) {
        task_list_free(tasks, count);
        return result;
    }
    *ret_tasks = tasks;
    *ret_count = count;
    return 0;
}

void task_list_free(struct task *tasks, size_t count) {
    for (size_t i = 0; i < count; i++) task_clear(&tasks[i]);
    free(tasks);
}

int task_insert(struct store_transaction *tx, const struct settings *settings, struct task *task,
                struct error **ret_error) {
    char uuid[37];
    int64_t now = clock_wall_ms();
    if (!task->id) {
        text_new_uuid(uuid);
        task->id = text_copy(uuid);
    }
    task->status = TASK_PENDING;
    task->created_at = task->updated_at = now;
    if (text_equal(task->kind, "deploy")) task->deadline = now + (int64_t)settings->deploy_pending_deadline_ms;
    int result =
        store_run(tx, NULL, ret_error,
                  "INSERT INTO tasks (id, kind, status, deployment_id, revision, model_id, parent_id, parent_label, "
                  "leader_id, collection, undo_json, state_json, metadata_json, not_before, deadline, created_at, "
                  "updated_at) VALUES (?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                  "tttittttttttiiii", task->id, task->kind, task->deployment_id, task->revision, task->model_id,
                  task->parent_id, task->parent_label, task->leader_id, task->collection, task->undo_json,
                  task->state_json, task->metadata_json, task->not_before, task->deadline, now, now);
    if (result < 0) return error_wrap(ret_error, "record the task %s", task->id);
    return event_add(tx, "task_status", task->deployment_id, task->id, "pending", NULL, ret_error);
}

static int set_one_status(struct store_transaction *tx, const char *task_id, const char *status, const char *detail,
                          const char *error_json, struct error **ret_error) {
    int64_t changes = 0;
    int result = store_run(tx, &changes, ret_error,
                           "UPDATE tasks SET status = ?, detail = ?, error_json = ?, updated_at = ? WHERE id = ?",
                           "tttit", status, detail, error_json, clock_wall_ms(), task_id);
    if (result < 0) return result;
    if (!changes) return error_set(ret_error, ERROR_NOT_FOUND, "no task %s", task_id);
    _cleanup_free_ char *words = detail ? text_format("%s: %s", status, detail) : text_copy(status);
    return store_run(tx, NULL, ret_error,
                     "INSERT INTO events (at, deployment_id, task_id, kind, message, data_json) "
                     "SELECT updated_at, deployment_id, id, 'task_status', ?, ? FROM tasks WHERE id = ?",
                     "ttt", words, error_json, task_id);
}

/* The unfinished tasks that end as their leader does; caller frees. */
static int load_followers(struct store_transaction *tx, const char *task_id, char ***ret_ids, size_t *ret_count,
                          struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error,
                    "SELECT id FROM tasks WHERE leader_id = ? AND status IN ('pending', 'processing')", "t", task_id);
    if (result < 0) return result;
    char **ids = NULL;
    size_t count = 0;
    while ((result = store_next(rows, ret_error)) > 0) {
        ids = mem_resize(ids, count + 1, sizeof *ids);
        ids[count++] = store_text_copy(rows, 0);
    }
    *ret_ids = ids;
    *ret_count = count;
    return result;
}

int task_set_status(struct store_transaction *tx, const char *task_id, enum task_status status, const char *detail,
                    const struct error *error, struct error **ret_error) {
    _cleanup_free_ char *error_json = error ? json_from_error(error) : NULL;
    int result = set_one_status(tx, task_id, task_status_name(status), detail, error_json, ret_error);
    if (result < 0 || status == TASK_PENDING) return result;
    char **followers = NULL;
    size_t count = 0;
    result = load_followers(tx, task_id, &followers, &count, ret_error);
    for (size_t i = 0; i < count; i++) {
        if (result >= 0)
            result = set_one_status(tx, followers[i], task_status_name(status), detail, error_json, ret_error);
        free(followers[i]);
    }
    free(followers);
    return result;
}
