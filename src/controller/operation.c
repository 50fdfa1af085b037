#include "controller/operation.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "batch/batch.h"
#include "controller/collections.h"
#include "controller/push.h"

/* ---- names ---- */

/* CONFLICT when it is the current name of another deployment; then nothing has changed, and the transaction goes on. */
static int check_name(struct store_transaction *tx, const char *name, const char *deployment_id,
                      struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error,
                             "SELECT d.id, d.status FROM route_names n JOIN deployments d ON d.id = n.deployment_id "
                             "WHERE n.name = ? AND n.is_current = 1 AND d.id <> ?",
                             "tt", name, deployment_id);
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    return error_set(ret_error, ERROR_CONFLICT,
                     "the name %s is taken by deployment %s, which is %s: PUT changes it, DELETE frees the name", name,
                     store_text(rows, 0), store_text(rows, 1));
}

/* Makes `name` answer for the deployment as its current name. A former name of another deployment is taken over. */
static int take_name(struct store_transaction *tx, const char *name, const char *deployment_id,
                     struct error **ret_error) {
    int result = check_name(tx, name, deployment_id, ret_error);
    if (result < 0) return result;
    if ((result = store_run(tx, NULL, ret_error, "UPDATE route_names SET is_current = 0 WHERE deployment_id = ?", "t",
                            deployment_id)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "DELETE FROM route_names WHERE name = ?", "t", name)) < 0 ||
        (result = store_run(tx, NULL, ret_error,
                            "INSERT INTO route_names (name, deployment_id, is_current) VALUES (?, ?, 1)", "tt", name,
                            deployment_id)) < 0)
        return result;
    /* Gateways learn names with the next generation. */
    return store_run(tx, NULL, ret_error, "UPDATE routing SET generation = generation + 1", "");
}

/* ---- undo: the deployment's changeable columns as JSON ---- */

static char *snapshot_deployment(const struct deployment *deployment) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "status", deployment_status_name(deployment->status));
    json_add_text(document, root, "message", deployment->message);
    json_add_text(document, root, "error_json", deployment->error_json);
    json_add_text(document, root, "name", deployment->name);
    json_add_text(document, root, "tags_json", deployment->tags_json);
    yyjson_mut_obj_add_sint(document, root, "revision", deployment->revision);
    yyjson_mut_obj_add_sint(document, root, "replicas", deployment->replicas);
    yyjson_mut_obj_add_real(document, root, "cpu", deployment->cpu);
    yyjson_mut_obj_add_sint(document, root, "memory_bytes", deployment->memory_bytes);
    yyjson_mut_obj_add_sint(document, root, "gpu", deployment->gpu);
    return json_write(document, NULL);
}

static int restore_deployment(struct store_transaction *tx, const char *deployment_id, const char *name,
                              yyjson_val *snapshot, struct error **ret_error) {
    int result = take_name(tx, name, deployment_id, ret_error);
    if (result < 0) return result;
    return store_run(
        tx, NULL, ret_error,
        "UPDATE deployments SET name = ?, tags_json = ?, revision = ?, replicas = ?, cpu = ?, "
        "memory_bytes = ?, gpu = ? WHERE id = ?",
        "ttiidiit", name, yyjson_get_str(yyjson_obj_get(snapshot, "tags_json")),
        yyjson_get_sint(yyjson_obj_get(snapshot, "revision")), yyjson_get_sint(yyjson_obj_get(snapshot, "replicas")),
        yyjson_get_num(yyjson_obj_get(snapshot, "cpu")), yyjson_get_sint(yyjson_obj_get(snapshot, "memory_bytes")),
        yyjson_get_sint(yyjson_obj_get(snapshot, "gpu")), deployment_id);
}

/* The name that an undone operation leaves: the one before, unless another deployment has taken it meanwhile. Borrowed.
 */
static int choose_name(struct store_transaction *tx, const struct deployment *now, yyjson_val *undo,
                       const char **ret_name, struct error **ret_error) {
    struct error *error = NULL;
    *ret_name = yyjson_get_str(yyjson_obj_get(undo, "name"));
    int result = check_name(tx, *ret_name, now->id, &error);
    if (result == -ERROR_CONFLICT) {
        error_free(error);
        *ret_name = now->name;
        return 0;
    }
    if (result < 0 && ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

/* A name that only the undone operation had brought does not go on answering. */
static int drop_name_unless(struct store_transaction *tx, const char *deployment_id, const char *name, const char *kept,
                            struct error **ret_error) {
    if (text_equal(name, kept)) return 0;
    return store_run(tx, NULL, ret_error, "DELETE FROM route_names WHERE deployment_id = ? AND name = ?", "tt",
                     deployment_id, name);
}

int operation_undo(struct store_transaction *tx, const struct task *task, const char *reason,
                   struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document =
        task->undo_json ? yyjson_read(task->undo_json, strlen(task->undo_json), 0) : NULL;
    yyjson_val *undo = yyjson_doc_get_root(document);
    if (!yyjson_is_obj(undo)) return 0;
    _cleanup_deployment_ struct deployment now = {0};
    int result = deployment_load(tx, task->deployment_id, &now, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *redo = snapshot_deployment(&now);
    enum deployment_status status = DEPLOYMENT_FAILED;
    deployment_status_parse(yyjson_get_str(yyjson_obj_get(undo, "status")), &status);
    const char *error_text_json = yyjson_get_str(yyjson_obj_get(undo, "error_json"));
    struct error *error = error_text_json ? json_to_error(error_text_json) : NULL;
    const char *name = NULL;
    if ((result = choose_name(tx, &now, undo, &name, ret_error)) >= 0 &&
        (result = restore_deployment(tx, now.id, name, undo, ret_error)) >= 0 &&
        (result = drop_name_unless(tx, now.id, now.name, name, ret_error)) >= 0 &&
        (result = deployment_set_status(tx, now.id, status, reason, error, task->id, ret_error)) >= 0)
        result = store_run(tx, NULL, ret_error, "UPDATE tasks SET undo_json = ? WHERE id = ?", "tt", redo, task->id);
    error_free(error);
    return result;
}

/* ---- writing the rows ---- */

static int insert_revision(struct store_transaction *tx, const char *deployment_id, int64_t number,
                           const struct deployment_request *request, struct error **ret_error) {
    return store_run(tx, NULL, ret_error,
                     "INSERT INTO revisions (deployment_id, number, model_uri, target_json, recipe_json, created_at) "
                     "VALUES (?, ?, ?, ?, ?, ?)",
                     "tittti", deployment_id, number, request->model_uri, request->target_json, request->recipe_json,
                     clock_wall_ms());
}

static int next_revision(struct store_transaction *tx, const char *deployment_id, int64_t *ret_number,
                         struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error, "SELECT coalesce(max(number), 0) + 1 FROM revisions WHERE deployment_id = ?",
                    "t", deployment_id);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    *ret_number = store_number(rows, 0);
    return 0;
}

static int set_wanted(struct store_transaction *tx, const char *deployment_id, const struct deployment_request *request,
                      int64_t revision, struct error **ret_error) {
    return store_run(tx, NULL, ret_error,
                     "UPDATE deployments SET name = ?, revision = ?, replicas = ?, cpu = ?, memory_bytes = ?, gpu = ?, "
                     "tags_json = ? WHERE id = ?",
                     "tiidiitt", request->name, revision, request->replicas, request->cpu, request->memory_bytes,
                     request->gpu, request->tags_json, deployment_id);
}

static bool is_known_task(struct store_transaction *tx, const char *id) {
    _cleanup_task_ struct task task = {0};
    return task_load(tx, id, &task, NULL) == 0;
}

void operation_set_origin(struct store_transaction *tx, const struct operation_origin *origin, struct task *task) {
    bool parent_known = origin->parent_id && is_known_task(tx, origin->parent_id);
    task->id = text_copy(origin->task_id);
    task->parent_id = parent_known ? text_copy(origin->parent_id) : NULL;
    task->parent_label = parent_known ? NULL : text_copy(origin->parent_id);
    if (!origin->reason) return;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "reason", origin->reason);
    task->metadata_json = json_write(document, NULL);
}

/* Inserts the task, names it as the deployment's newest and gives it to the caller. */
static int insert_task(struct controller *controller, struct store_transaction *tx, const char *kind,
                       const char *deployment_id, const char *name, int64_t revision,
                       const struct operation_origin *origin, char *undo_json, struct task *ret_task,
                       struct error **ret_error) {
    static const struct operation_origin nobody;
    _cleanup_task_ struct task task = {
        .kind = text_copy(kind),
        .deployment_id = text_copy(deployment_id),
        .model_id = text_copy(name),
        .revision = revision,
        .undo_json = undo_json,
    };
    operation_set_origin(tx, origin ? origin : &nobody, &task);
    int result = task_insert(tx, controller->settings, &task, ret_error);
    if (result < 0) return result;
    result =
        store_run(tx, NULL, ret_error, "UPDATE deployments SET task_id = ? WHERE id = ?", "tt", task.id, deployment_id);
    if (result < 0) return result;
    *ret_task = task;
    task = (struct task){0};
    return 0;
}

/* CONFLICT when the deployment cannot take a new operation now. */
static int check_is_free(struct store_transaction *tx, const struct deployment *deployment, struct error **ret_error) {
    if (deployment->status == DEPLOYMENT_INACTIVE)
        return error_set(ret_error, ERROR_CONFLICT, "deployment %s was deleted: deploy the model anew with POST",
                         deployment->name);
    if (deployment->status == DEPLOYMENT_DELETING || deployment->status == DEPLOYMENT_DELETE_FAILED)
        return error_set(ret_error, ERROR_CONFLICT, "deployment %s is %s: only DELETE is possible", deployment->name,
                         deployment_status_name(deployment->status));
    _cleanup_task_ struct task running = {0};
    int result = task_find_unfinished(tx, deployment->id, NULL, &running, ret_error);
    if (result <= 0) return result;
    return error_set(ret_error, ERROR_CONFLICT,
                     "task %s (%s) of deployment %s is still running: wait for it or cancel it", running.id,
                     running.kind, deployment->name);
}

/* ---- the operations ---- */

int operation_create(struct controller *controller, struct store_transaction *tx,
                     const struct deployment_request *request, const struct operation_origin *origin,
                     struct task *ret_task, struct error **ret_error) {
    char id[37];
    text_new_uuid(id);
    int64_t now = clock_wall_ms();
    int result = take_name(tx, request->name, id, ret_error);
    if (result < 0) return result;
    result =
        store_run(tx, NULL, ret_error,
                  "INSERT INTO deployments (id, name, status, revision, replicas, cpu, memory_bytes, gpu, tags_json, "
                  "created_at, updated_at) VALUES (?, ?, 'creating', 1, ?, ?, ?, ?, ?, ?, ?)",
                  "ttidiitii", id, request->name, request->replicas, request->cpu, request->memory_bytes, request->gpu,
                  request->tags_json, now, now);
    if (result < 0 || (result = insert_revision(tx, id, 1, request, ret_error)) < 0) return result;
    result = insert_task(controller, tx, request->is_batch ? "batch" : "deploy", id, request->name, 1, origin, NULL,
                         ret_task, ret_error);
    if (result < 0) return result;
    return deployment_set_status(tx, id, DEPLOYMENT_CREATING, NULL, NULL, ret_task->id, ret_error);
}

int operation_deploy_again(struct controller *controller, struct store_transaction *tx,
                           const struct deployment *deployment, const struct deployment_request *request,
                           const struct operation_origin *origin, struct task *ret_task, struct error **ret_error) {
    int64_t revision = 0;
    int result = check_is_free(tx, deployment, ret_error);
    if (result < 0 || (result = next_revision(tx, deployment->id, &revision, ret_error)) < 0 ||
        (result = insert_revision(tx, deployment->id, revision, request, ret_error)) < 0 ||
        (result = set_wanted(tx, deployment->id, request, revision, ret_error)) < 0 ||
        (result = insert_task(controller, tx, "deploy", deployment->id, deployment->name, revision, origin, NULL,
                              ret_task, ret_error)) < 0)
        return result;
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_CREATING, NULL, NULL, ret_task->id, ret_error);
}

/* What a package that is here embeds with may be known: then an encoder in use says no at once. */
static int check_known_digest(struct store_transaction *tx, const struct deployment *deployment,
                              const struct deployment_request *request, struct error **ret_error) {
    static const char prefix[] = "package:sha256:";
    _cleanup_free_ char *digest = NULL;
    if (!text_starts_with(request->model_uri, prefix)) return 0;
    int result =
        encoder_known_digest(tx, request->model_uri + sizeof prefix - 1, request->recipe_json, &digest, ret_error);
    return result < 0 ? result : encoder_check_digest(tx, deployment, deployment->serving_revision, digest, ret_error);
}

int operation_update(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                     const struct deployment_request *request, struct task *ret_task, struct error **ret_error) {
    int64_t revision = 0;
    if (request->is_batch || batch_is_job(deployment->target_json))
        return error_set(ret_error, ERROR_CONFLICT,
                         "a batch job is not updated, nor does a service become one: POST a new one%s",
                         request->is_batch ? "" : ", and DELETE this");
    int result = check_is_free(tx, deployment, ret_error);
    if (result < 0 || (result = check_known_digest(tx, deployment, request, ret_error)) < 0 ||
        (result = next_revision(tx, deployment->id, &revision, ret_error)) < 0 ||
        (result = insert_revision(tx, deployment->id, revision, request, ret_error)) < 0)
        return result;
    if (!text_equal(request->name, deployment->name) &&
        (result = take_name(tx, request->name, deployment->id, ret_error)) < 0)
        return result;
    if ((result = set_wanted(tx, deployment->id, request, revision, ret_error)) < 0) return result;
    result = insert_task(controller, tx, "update", deployment->id, request->name, revision, NULL,
                         snapshot_deployment(deployment), ret_task, ret_error);
    if (result < 0) return result;
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_UPDATING, NULL, NULL, ret_task->id, ret_error);
}

/* Whether what the PATCH adds fits: more replicas, or all of them anew when their resources change. */
static int check_patch_fits(struct controller *controller, struct store_transaction *tx,
                            const struct deployment *deployment, const struct deployment_patch *patch,
                            struct error **ret_error) {
    int64_t wanted = patch->has_replicas ? patch->replicas : deployment->replicas;
    bool anew =
        patch->has_resources && (patch->memory_bytes != deployment->memory_bytes || patch->cpu != deployment->cpu);
    int64_t added = anew ? wanted : wanted - deployment->replicas;
    if (added <= 0) return 0;
    _cleanup_revision_ struct revision serving = {0};
    int result = revision_load(tx, deployment->id, deployment->serving_revision, &serving, ret_error);
    if (result < 0) return result;
    struct error *error = NULL;
    struct admission admission = {0};
    result = admission_check(controller, tx, serving.package_digest,
                             patch->has_resources ? patch->memory_bytes : deployment->memory_bytes, added, &admission,
                             &error);
    free(admission.explanation);
    if (result >= 0) return 0;
    if (error && error->class == ERROR_REFUSED) error->http_status = 507;
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

int operation_patch(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                    const struct deployment_patch *patch, struct task *ret_task, struct error **ret_error) {
    int result = check_is_free(tx, deployment, ret_error);
    if (result < 0) return result;
    bool tags_only = !patch->has_replicas && !patch->has_resources;
    if (!tags_only && !deployment->serving_revision)
        return error_set(ret_error, ERROR_CONFLICT, "nothing of deployment %s serves yet: PUT a model that does first",
                         deployment->name);
    if (!tags_only && (result = check_patch_fits(controller, tx, deployment, patch, ret_error)) < 0) return result;
    result = store_run(tx, NULL, ret_error,
                       "UPDATE deployments SET replicas = ?, cpu = ?, memory_bytes = ?, gpu = ?, tags_json = ?, "
                       "updated_at = ? WHERE id = ?",
                       "idiitit", patch->has_replicas ? patch->replicas : deployment->replicas,
                       patch->has_resources ? patch->cpu : deployment->cpu,
                       patch->has_resources ? patch->memory_bytes : deployment->memory_bytes,
                       patch->has_resources ? patch->gpu : deployment->gpu,
                       patch->has_tags ? patch->tags_json : deployment->tags_json, clock_wall_ms(), deployment->id);
    if (result < 0) return result;
    int64_t revision = tags_only ? deployment->revision : deployment->serving_revision;
    result = insert_task(controller, tx, "scale", deployment->id, deployment->name, revision, NULL,
                         snapshot_deployment(deployment), ret_task, ret_error);
    if (result < 0) return result;
    if (tags_only) return task_set_status(tx, ret_task->id, TASK_DONE, NULL, NULL, ret_error);
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_UPDATING, deployment->message, NULL, ret_task->id,
                                 ret_error);
}

int operation_rollback(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                       struct task *ret_task, struct error **ret_error) {
    int result = check_is_free(tx, deployment, ret_error);
    if (result < 0) return result;
    _cleanup_rows_ struct store_rows *rows = NULL;
    result = store_query(tx, &rows, ret_error,
                         "SELECT max(number) FROM revisions WHERE deployment_id = ? AND served = 1 AND number < ?",
                         "ti", deployment->id, deployment->serving_revision);
    if (result < 0 || (result = store_next(rows, ret_error)) < 0) return result;
    if (store_is_null(rows, 0))
        return error_set(ret_error, ERROR_CONFLICT,
                         "deployment %s has no revision below the serving one that has served", deployment->name);
    int64_t revision = store_number(rows, 0);
    _cleanup_revision_ struct revision target = {0};
    if ((result = revision_load(tx, deployment->id, revision, &target, ret_error)) < 0 ||
        (result = encoder_check_digest(tx, deployment, deployment->serving_revision,
                                       target.encoder_digest ? target.encoder_digest : "", ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error, "UPDATE deployments SET revision = ? WHERE id = ?", "it", revision,
                            deployment->id)) < 0 ||
        (result = insert_task(controller, tx, "rollback", deployment->id, deployment->name, revision, NULL,
                              snapshot_deployment(deployment), ret_task, ret_error)) < 0)
        return result;
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_UPDATING, NULL, NULL, ret_task->id, ret_error);
}

int operation_restart(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                      struct task *ret_task, struct error **ret_error) {
    return operation_restart_for(controller, tx, deployment, NULL, ret_task, ret_error);
}

int operation_restart_for(struct controller *controller, struct store_transaction *tx,
                          const struct deployment *deployment, const struct operation_origin *origin,
                          struct task *ret_task, struct error **ret_error) {
    int result = check_is_free(tx, deployment, ret_error);
    if (result < 0) return result;
    if (!deployment->serving_revision)
        return error_set(ret_error, ERROR_CONFLICT, "deployment %s has nothing that serves: PUT it instead",
                         deployment->name);
    result = insert_task(controller, tx, "restart", deployment->id, deployment->name, deployment->serving_revision,
                         origin, snapshot_deployment(deployment), ret_task, ret_error);
    if (result < 0) return result;
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_UPDATING, NULL, NULL, ret_task->id, ret_error);
}

int operation_delete(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                     const struct operation_origin *origin, struct task *ret_task, struct error **ret_error) {
    if (deployment->status == DEPLOYMENT_INACTIVE) return 0;
    int result = task_find_unfinished(tx, deployment->id, "delete", ret_task, ret_error);
    if (result != 0) return result < 0 ? result : 0;
    if ((result = encoder_check_unused(tx, deployment, ret_error)) < 0) return result;
    _cleanup_task_ struct task running = {0};
    result = task_find_unfinished(tx, deployment->id, NULL, &running, ret_error);
    if (result < 0) return result;
    if (result && (result = engine_cancel(tx, running.id, "the deployment is deleted", ret_error)) < 0) return result;
    result = insert_task(controller, tx, "delete", deployment->id, deployment->name, deployment->revision, origin, NULL,
                         ret_task, ret_error);
    if (result < 0) return result;
    return deployment_set_status(tx, deployment->id, DEPLOYMENT_DELETING, origin ? origin->reason : NULL, NULL,
                                 ret_task->id, ret_error);
}

/* ---- restarting a task ---- */

/* What the deployment is while a task of that kind runs. */
static enum deployment_status status_during(const char *kind) {
    if (text_equal(kind, "deploy") || text_equal(kind, "batch")) return DEPLOYMENT_CREATING;
    if (text_equal(kind, "delete")) return DEPLOYMENT_DELETING;
    return DEPLOYMENT_UPDATING;
}

/* A refused or canceled operation was undone, and operation_undo() left in undo_json what it had set: it is set again,
 * and undo_json is once more what was before. */
static int redo(struct store_transaction *tx, const struct task *task, const struct deployment *deployment,
                struct error **ret_error) {
    if (!task->undo_json || task->status == TASK_FAILED) return 0;
    _cleanup_json_ yyjson_doc *document = yyjson_read(task->undo_json, strlen(task->undo_json), 0);
    _cleanup_free_ char *undo = snapshot_deployment(deployment);
    yyjson_val *root = yyjson_doc_get_root(document);
    int result =
        restore_deployment(tx, task->deployment_id, yyjson_get_str(yyjson_obj_get(root, "name")), root, ret_error);
    if (result < 0) return result;
    return store_run(tx, NULL, ret_error, "UPDATE tasks SET undo_json = ? WHERE id = ?", "tt", undo, task->id);
}

/* A canceled deploy made its deployment inactive and freed the name: it takes it again. One that was deleted stays so.
 */
static int revive(struct store_transaction *tx, const struct task *task, const struct deployment *deployment,
                  struct error **ret_error) {
    if (text_equal(task->kind, "deploy") || text_equal(task->kind, "batch"))
        return take_name(tx, deployment->name, deployment->id, ret_error);
    return error_set(ret_error, ERROR_CONFLICT, "the deployment of task %s is gone: deploy the model anew", task->id);
}

int operation_restart_task(struct controller *controller, struct store_transaction *tx, const struct task *task,
                           struct error **ret_error) {
    if (task->status != TASK_FAILED && task->status != TASK_REFUSED && task->status != TASK_CANCELED)
        return error_set(ret_error, ERROR_CONFLICT,
                         "task %s is %s: only failed, refused and canceled tasks are restarted", task->id,
                         task_status_name(task->status));
    if (task->collection) return operation_restart_collection_task(controller, tx, task, ret_error);
    if (package_task_is(task)) return package_task_restart(tx, task, ret_error);
    if (push_task_is(task)) return push_task_restart(tx, task, ret_error);
    if (!task->deployment_id)
        return error_set(ret_error, ERROR_CONFLICT, "task %s has no deployment to work on: send a new one", task->id);
    _cleanup_deployment_ struct deployment deployment = {0};
    int result = deployment_load(tx, task->deployment_id, &deployment, ret_error);
    if (result < 0) return result;
    if (!text_equal(deployment.task_id, task->id))
        return error_set(ret_error, ERROR_CONFLICT,
                         "task %s is not the newest operation of deployment %s: that is task %s", task->id,
                         deployment.name, deployment.task_id);
    if (deployment.status == DEPLOYMENT_INACTIVE && (result = revive(tx, task, &deployment, ret_error)) < 0)
        return result;
    if (text_equal(task->kind, "delete") && (result = encoder_check_unused(tx, &deployment, ret_error)) < 0)
        return result;
    if ((result = redo(tx, task, &deployment, ret_error)) < 0) return result;
    int64_t now = clock_wall_ms();
    bool is_deploy = text_equal(task->kind, "deploy");
    /* What a failure cleaned up must be made again: the steps find out themselves what is still there. */
    result = store_run(tx, NULL, ret_error,
                       "UPDATE tasks SET attempts = 0, cancel_requested = 0, state_json = NULL, deadline = ?, "
                       "step = CASE WHEN kind = 'delete' THEN step ELSE NULL END WHERE id = ?",
                       "it", is_deploy ? now + (int64_t)controller->settings->deploy_pending_deadline_ms : (int64_t)0,
                       task->id);
    if (result < 0 || (result = task_set_status(tx, task->id, TASK_PENDING, NULL, NULL, ret_error)) < 0) return result;
    return deployment_set_status(tx, deployment.id, status_during(task->kind), NULL, NULL, task->id, ret_error);
}
