/* initiate_model_deployment_and_wait and initiate_model_deletion (DESIGN §9): the models of a re-index come and go as
 * child tasks of it, of the ordinary kinds. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"
#include "controller/registries.h"

static const char pending_too_long[] = "Deployment task is pending too long.";
static const char processing_too_long[] = "Deployment task is processing too long.";
static const char not_ready[] = "Model is not ready.";

/* ---- finding or deploying ---- */

static int parse_request(struct step_run *run, const struct reindex_work *work, struct deployment_request *ret_request,
                         struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(work->request_json, strlen(work->request_json), &document, &root, ret_error);
    if (result < 0) return result;
    const struct registry_context registry = registries_context(run->controller);
    return request_parse(root, "destination", REQUEST_SERVICE, &registry, ret_request, ret_error);
}

/* 1 when it is there. */
static int look_up(struct store_transaction *tx, const char *name, struct deployment *ret_deployment,
                   struct error **ret_error) {
    struct error *error = NULL;
    int result = deployment_load(tx, name, ret_deployment, &error);
    bool is_missing = result < 0 && error->class == ERROR_NOT_FOUND;
    if (result < 0 && !is_missing && ret_error) *ret_error = TAKE(error);
    error_free(error);
    return is_missing ? 0 : result < 0 ? result : 1;
}

static int say_deployed(struct store_transaction *tx, struct step_run *run, const char *deployment_id,
                        const char *model, struct error **ret_error) {
    _cleanup_free_ char *words = text_format("deployment of model %s is initiated by the re-index task %s of the "
                                             "collection %s",
                                             model, run->task.id, run->task.collection);
    return event_add(tx, "collection", deployment_id, run->task.id, words, NULL, ret_error);
}

static int deploy_child(struct step_run *run, struct store_transaction *tx, const struct deployment_request *request,
                        struct reindex_work *work, struct error **ret_error) {
    const struct operation_origin origin = {.parent_id = run->task.id};
    _cleanup_task_ struct task child = {0};
    int result = operation_create(run->controller, tx, request, &origin, &child, ret_error);
    if (result < 0) return result;
    work->deployment_id = text_copy(child.deployment_id);
    work->deploy_task_id = text_copy(child.id);
    return say_deployed(tx, run, child.deployment_id, request->name, ret_error);
}

static int use_existing(const struct deployment *deployment, const struct deployment_request *request,
                        struct reindex_work *work, struct error **ret_error) {
    if (request && !text_equal(request->model_uri, deployment->model_uri))
        return error_set(ret_error, ERROR_REFUSED, "the name %s stands for a deployment of %s meanwhile",
                         deployment->name, deployment->model_uri);
    work->deployment_id = text_copy(deployment->id);
    return 0;
}

static int find_or_deploy(struct step_run *run, struct reindex_work *work, struct error **ret_error) {
    _cleanup_request_ struct deployment_request request = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    int result = work->request_json ? parse_request(run, work, &request, ret_error) : 0;
    if (result < 0 || (result = step_begin(run, &tx, ret_error)) < 0) return result;
    result = look_up(tx, work->request_json ? request.name : work->destination, &deployment, ret_error);
    if (result > 0)
        result = use_existing(&deployment, work->request_json ? &request : NULL, work, ret_error);
    else if (!result && work->request_json)
        result = deploy_child(run, tx, &request, work, ret_error);
    else if (!result)
        result = error_set(ret_error, ERROR_NOT_FOUND, "no deployment %s", work->destination);
    if (result < 0 || (result = reindex_work_write(tx, run, work, ret_error)) < 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

/* ---- waiting ---- */

/* The task that is bringing the model up, if one is. */
struct bringing {
    struct task task;
    struct deployment deployment;
    bool has_task;
};

static void bringing_clear(struct bringing *bringing) {
    task_clear(&bringing->task);
    deployment_clear(&bringing->deployment);
}

static int load_bringing(struct step_run *run, const struct reindex_work *work, struct bringing *bringing,
                         struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = deployment_load(tx, work->deployment_id, &bringing->deployment, ret_error)) < 0)
        return result;
    enum deployment_status status = bringing->deployment.status;
    bool is_changing = status == DEPLOYMENT_CREATING || status == DEPLOYMENT_UPDATING;
    const char *task_id = work->deploy_task_id ? work->deploy_task_id
                          : is_changing        ? bringing->deployment.task_id
                                               : NULL;
    if (!task_id) return 0;
    bringing->has_task = true;
    return task_load(tx, task_id, &bringing->task, ret_error);
}

/* The child's own deadlines end it with these sentences; they are the parent's, too. */
static int say_failed(const struct task *task, struct error **ret_error) {
    const char *detail = task->detail ? task->detail : "";
    enum error_class class = task->status == TASK_REFUSED ? ERROR_REFUSED : ERROR_DEPLOYMENT;
    if (strstr(detail, pending_too_long)) return error_set(ret_error, class, "%s", pending_too_long);
    if (strstr(detail, processing_too_long)) return error_set(ret_error, class, "%s", processing_too_long);
    return error_set(ret_error, class, "Deployment task failed: %s%s%s", task_status_name(task->status),
                     *detail ? ": " : "", detail);
}

/* When what it does now has taken too long: a time of the wall clock, INT64_MAX for never. */
static int64_t deadline_of(const struct step_run *run, const struct task *task) {
    if (task->status == TASK_PENDING)
        return task->created_at + (int64_t)run->controller->settings->deploy_pending_deadline_ms;
    return task->deadline ? task->deadline : INT64_MAX;
}

#define OWN_END_MS 2000 /* the engine ends an overdue task itself; this much later we say so for it */

/* 1: the task has done its work, or there is none; 0: not yet, look again at *ret_until (monotonic). */
static int judge(const struct step_run *run, const struct bringing *bringing, uint64_t *ret_until,
                 struct error **ret_error) {
    const struct task *task = &bringing->task;
    if (!bringing->has_task) return 1;
    if (task->status == TASK_DONE) return 1;
    /* An update that failed leaves the model that served before. */
    if (task_status_is_finished(task->status))
        return bringing->deployment.serving_revision && !text_equal(task->kind, "deploy") ? 1
                                                                                          : say_failed(task, ret_error);
    int64_t deadline = deadline_of(run, task), left = deadline - clock_wall_ms() + OWN_END_MS;
    if (deadline == INT64_MAX) left = INT32_MAX;
    if (left <= 0)
        return error_set(ret_error, ERROR_DEPLOYMENT, "%s",
                         task->status == TASK_PENDING ? pending_too_long : processing_too_long);
    *ret_until = clock_monotonic_ms() + (uint64_t)left;
    return 0;
}

static int wait_deployed(struct step_run *run, const struct reindex_work *work, struct error **ret_error) {
    engine_wake(run->controller->engine);
    for (;;) {
        uint64_t version = engine_version(run->controller->engine), until = 0;
        __attribute__((cleanup(bringing_clear))) struct bringing bringing = {0};
        int result = load_bringing(run, work, &bringing, ret_error);
        if (result < 0 || (result = judge(run, &bringing, &until, ret_error)) != 0) return result < 0 ? result : 0;
        engine_wait_change(run, version, until);
        if ((result = step_check(run, ret_error)) < 0) return result;
    }
}

/* ---- ready ---- */

static bool is_serving(const struct replica_row *row, const void *context) {
    (void)context;
    return text_equal(row->state, "serving");
}

/* 1: it answers; 0: not yet. */
static int is_ready(struct step_run *run, const char *deployment_id, struct deployment *ret_deployment,
                    struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_replica_rows_ struct replica_rows rows = {0};
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = deployment_load(tx, deployment_id, ret_deployment, ret_error)) < 0 ||
        (result = replica_rows_load(tx, deployment_id, &rows, ret_error)) < 0)
        return result;
    enum deployment_status status = ret_deployment->status;
    if (status == DEPLOYMENT_DELETING || status == DEPLOYMENT_DELETE_FAILED || status == DEPLOYMENT_INACTIVE)
        return error_set(ret_error, ERROR_REFUSED, "the destination model %s is being deleted", ret_deployment->name);
    replica_rows_filter(&rows, is_serving, NULL);
    for (size_t i = 0; i < rows.count; i++) {
        const char *id = rows.rows[i].id;
        if (ret_deployment->serving_revision && replicas_count_up(run->controller->replicas, &id, 1)) return 1;
    }
    return 0;
}

int reindex_wait_ready(struct step_run *run, const char *deployment_id, struct deployment *ret_deployment,
                       struct error **ret_error) {
    struct replicas *replicas = run->controller->replicas;
    uint64_t deadline = clock_monotonic_ms() + run->controller->settings->replica_ready_deadline_ms;
    for (;;) {
        uint64_t version = replicas_version(replicas);
        _cleanup_deployment_ struct deployment deployment = {0};
        int result = is_ready(run, deployment_id, &deployment, ret_error);
        if (result < 0) return result;
        if (result) {
            *ret_deployment = deployment;
            deployment = (struct deployment){0};
            return 0;
        }
        bool is_hopeless = !deployment.serving_revision && deployment.status == DEPLOYMENT_FAILED;
        if (is_hopeless || clock_monotonic_ms() >= deadline)
            return error_set(ret_error, ERROR_DEPLOYMENT, "%s", not_ready);
        replicas_wait_change(replicas, version, deadline, &run->interrupted);
        if ((result = step_check(run, ret_error)) < 0) return result;
    }
}

int initiate_model_deployment_and_wait(struct step_run *run, struct reindex_work *work,
                                       struct deployment *ret_deployment, struct error **ret_error) {
    int result = work->deployment_id ? 0 : find_or_deploy(run, work, ret_error);
    if (result < 0 || (result = wait_deployed(run, work, ret_error)) < 0) return result;
    return reindex_wait_ready(run, work->deployment_id, ret_deployment, ret_error);
}

/* ---- deletion ---- */

static int insert_refused(struct step_run *run, struct store_transaction *tx, const struct deployment *deployment,
                          const struct operation_origin *origin, const struct error *why, struct reindex_work *work,
                          struct error **ret_error) {
    _cleanup_task_ struct task child = {.kind = text_copy("delete"),
                                        .deployment_id = text_copy(deployment->id),
                                        .model_id = text_copy(deployment->name)};
    operation_set_origin(tx, origin, &child);
    int result = task_insert(tx, run->controller->settings, &child, ret_error);
    if (result < 0) return result;
    work->delete_task_id = text_copy(child.id);
    return task_set_status(tx, child.id, TASK_REFUSED, why->message, why, ret_error);
}

static int insert_deletion(struct step_run *run, struct store_transaction *tx, const struct deployment *deployment,
                           const char *reason, struct reindex_work *work, struct error **ret_refusal,
                           struct error **ret_error) {
    const struct operation_origin origin = {.parent_id = run->task.id, .reason = reason};
    _cleanup_task_ struct task child = {0};
    int result = encoder_check_unused(tx, deployment, ret_refusal);
    if (result == -ERROR_CONFLICT) {
        (*ret_refusal)->class = ERROR_REFUSED;
        (*ret_refusal)->http_status = error_class_status(ERROR_REFUSED);
        return insert_refused(run, tx, deployment, &origin, *ret_refusal, work, ret_error);
    }
    if (result < 0) {
        if (ret_error) *ret_error = TAKE(*ret_refusal);
        return result;
    }
    if ((result = operation_delete(run->controller, tx, deployment, &origin, &child, ret_error)) < 0) return result;
    work->delete_task_id = text_copy(child.id);
    _cleanup_free_ char *words =
        text_format("deletion of model %s is initiated by the task %s of the collection %s%s%s", deployment->name,
                    run->task.id, run->task.collection, reason ? ": " : "", reason ? reason : "");
    return event_add(tx, "collection", deployment->id, run->task.id, words, NULL, ret_error);
}

int initiate_model_deletion(struct step_run *run, struct reindex_work *work, const char *deployment_id,
                            const char *reason, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_error_ struct error *refusal = NULL;
    if (work->delete_task_id) return 0;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 || (result = look_up(tx, deployment_id, &deployment, ret_error)) < 0) return result;
    if (!result || deployment.status == DEPLOYMENT_INACTIVE) return 0;
    if ((result = insert_deletion(run, tx, &deployment, reason, work, &refusal, ret_error)) < 0 ||
        (result = reindex_work_write(tx, run, work, ret_error)) < 0 ||
        (result = step_commit(run, TAKE(tx), ret_error)) < 0)
        return result;
    engine_wake(run->controller->engine);
    if (!refusal) return 0;
    if (ret_error) *ret_error = TAKE(refusal);
    return -ERROR_REFUSED;
}
