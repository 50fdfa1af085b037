/* Operations: what a request asks for, written down as rows (deployment, revision, names, task, events) in the caller's
 * transaction. None waits for anything; the engine does the work afterwards (engine_wake). Every operation either
 * changes all of its rows or, with an error, the caller rolls back and nothing has changed.
 */
#pragma once
#include "controller/controller-internal.h"
#include "controller/request.h"

/* Who asks, for the task's record. All may be NULL. Borrowed. */
struct operation_origin {
    const char *task_id; /* the client's own id; must be free */
    const char *parent_id; /* a task here, or a label that is kept */
    const char *reason; /* of a deletion */
};

/* Fills the task's id, parent (one here, or a label) and reason. */
void operation_set_origin(struct store_transaction *tx, const struct operation_origin *origin, struct task *task);

/* A new deployment in `creating` with revision 1 and its deploy task. CONFLICT when the name is taken. */
int operation_create(struct controller *controller, struct store_transaction *tx,
                     const struct deployment_request *request, const struct operation_origin *origin,
                     struct task *ret_task, struct error **ret_error);
/* A new revision of a deployment that has never served or no longer does (model-level deploy of a failed one). */
int operation_deploy_again(struct controller *controller, struct store_transaction *tx,
                           const struct deployment *deployment, const struct deployment_request *request,
                           const struct operation_origin *origin, struct task *ret_task, struct error **ret_error);
/* PUT. CONFLICT while another operation runs, or when it is inactive or being deleted. */
int operation_update(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                     const struct deployment_request *request, struct task *ret_task, struct error **ret_error);
/* PATCH. REFUSED with status 507 and the figures when it does not fit. */
int operation_patch(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                    const struct deployment_patch *patch, struct task *ret_task, struct error **ret_error);
int operation_rollback(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                       struct task *ret_task, struct error **ret_error);
int operation_restart(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                      struct task *ret_task, struct error **ret_error);
/* The same as another task's child. */
int operation_restart_for(struct controller *controller, struct store_transaction *tx,
                          const struct deployment *deployment, const struct operation_origin *origin,
                          struct task *ret_task, struct error **ret_error);
/* Cancels what runs, then deletes. CONFLICT that names the collection when it is an encoder in use. An inactive one: 0
 * and an empty task. One that is being deleted: the task that does it. */
int operation_delete(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                     const struct operation_origin *origin, struct task *ret_task, struct error **ret_error);
/* A failed, refused or canceled task is pending again; CONFLICT otherwise, or when a newer operation stands above it.
 */
int operation_restart_task(struct controller *controller, struct store_transaction *tx, const struct task *task,
                           struct error **ret_error);

/* ---- more of the task records (record_task.c) ---- */

/* 1 with the newest task of that kind for the model id, 0 when there is none. */
int task_find_newest(struct store_transaction *tx, const char *kind, const char *model_id, struct task *ret_task,
                     struct error **ret_error);
/* 1 with the newest pending or processing operation of the deployment (kind NULL: any but `retire` and followers). */
int task_find_unfinished(struct store_transaction *tx, const char *deployment_id, const char *kind,
                         struct task *ret_task, struct error **ret_error);

struct task_filter {
    const char *kind, *status, *parent_id, *deployment_id, *collection; /* NULL: any */
};
/* Newest first, then id. Free with task_list_free(). */
int task_list(struct store_transaction *tx, const struct task_filter *filter, int64_t limit, int64_t offset,
              struct task **ret_tasks, size_t *ret_count, int64_t *ret_total, struct error **ret_error);
void task_list_free(struct task *tasks, size_t count);
