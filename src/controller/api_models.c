/* The model-level task routes (API.md): deploy and delete a model by its id, idempotent by task id. Well-formed calls
 * answer 200 with a task, also when it is refused or failed. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch.h"
#include "controller/api.h"
#include "controller/collections.h"
#include "controller/registries.h"

struct model_call {
    const char *model_id, *task_id, *parent_id, *reason; /* borrowed from the body */
    yyjson_val *config;
};

/* ---- reading ---- */

/* One of two names of the same field; both and different is an error. */
static int get_either(yyjson_val *root, const char *first, const char *second, bool required, const char **ret_text,
                      struct error **ret_error) {
    const char *a = NULL, *b = NULL;
    int result = json_get_text(root, "", first, false, &a, ret_error);
    if (result < 0 || (result = json_get_text(root, "", second, false, &b, ret_error)) < 0) return result;
    if (a && b && !text_equal(a, b))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s and %s are two names of one field and differ: \"%.128s\" and \"%.128s\"", first, second, a,
                         b);
    const char *text = a ? a : b;
    if (!text && required) return error_set(ret_error, ERROR_CONFIGURATION, "the field %s is missing", first);
    if (text && !text_is_name(text))
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "%s must be letters, digits, '.', '_' and '-', begin with a letter or digit and have at most 128 "
            "characters; it is \"%.128s\"",
            first, text);
    *ret_text = text;
    return 0;
}

static int parse_ids(yyjson_val *root, struct model_call *model, struct error **ret_error) {
    int result = get_either(root, "embedding_model_id", "model_id", true, &model->model_id, ret_error);
    if (result < 0 || (result = get_either(root, "task_id", "id", false, &model->task_id, ret_error)) < 0)
        return result;
    return get_either(root, "parent_id", "parent_id", false, &model->parent_id, ret_error);
}

static int parse_deploy(yyjson_val *root, struct model_call *model, struct error **ret_error) {
    static const char *const known[] = {"embedding_model_id", "model_id", "task_id", "id", "parent_id", "config"};
    int result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (result < 0 || (result = parse_ids(root, model, ret_error)) < 0) return result;
    if (text_is_uuid(model->model_id))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "embedding_model_id becomes the deployment's name and must not have the shape of a UUID");
    return json_get_object(root, "", "config", false, &model->config, ret_error);
}

static int parse_delete(yyjson_val *root, struct model_call *model, struct error **ret_error) {
    static const char *const known[] = {"embedding_model_id", "model_id", "task_id", "id", "parent_id", "reason"};
    int result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error);
    if (result < 0 || (result = parse_ids(root, model, ret_error)) < 0) return result;
    return json_get_text(root, "", "reason", false, &model->reason, ret_error);
}

/* ---- answers ---- */

static int answer_model_task(struct api_call *call, struct store_transaction *tx, const char *task_id,
                             struct error **ret_error) {
    _cleanup_task_ struct task task = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int result = task_load(tx, task_id, &task, ret_error);
    if (result < 0) return result;
    api_answer(call, 200, document, render_model_task(&task, document));
    return 0;
}

static int answer_and_commit(struct api_call *call, struct store_transaction **tx, const char *task_id,
                             struct error **ret_error) {
    int result = answer_model_task(call, *tx, task_id, ret_error);
    if (result < 0) return result;
    call->changed = true;
    return store_commit(TAKE(*tx), ret_error);
}

/* 1 when the client's task id is known and stands for the same thing: then that task is the answer. */
static int find_same_task(struct store_transaction *tx, const struct model_call *model, const char *kind,
                          struct error **ret_error) {
    _cleanup_task_ struct task task = {0};
    _cleanup_error_ struct error *error = NULL;
    if (!model->task_id) return 0;
    int result = task_load(tx, model->task_id, &task, &error);
    if (result < 0 && error->class == ERROR_NOT_FOUND) return 0;
    if (result < 0) {
        if (ret_error) *ret_error = TAKE(error);
        return result;
    }
    if (text_equal(task.kind, kind) && text_equal(task.model_id, model->model_id)) return 1;
    return error_set(ret_error, ERROR_CONFLICT, "the task id %s stands for another task (%s of %s): take a new id",
                     task.id, task.kind, task.model_id ? task.model_id : "no model");
}

/* A task that is over as soon as it is written down, or that ends as its leader does. */
static int insert_settled_task(struct api_call *call, struct store_transaction *tx, const struct model_call *model,
                               const char *kind, const char *deployment_id, const char *leader_id,
                               enum task_status status, const char *detail, const struct error *cause, char **ret_id,
                               struct error **ret_error) {
    const struct operation_origin origin = {model->task_id, model->parent_id, model->reason};
    _cleanup_task_ struct task task = {
        .kind = text_copy(kind),
        .model_id = text_copy(model->model_id),
        .deployment_id = text_copy(deployment_id),
        .leader_id = text_copy(leader_id),
    };
    operation_set_origin(tx, &origin, &task);
    int result = task_insert(tx, call->controller->settings, &task, ret_error);
    if (result >= 0 && status != TASK_PENDING) result = task_set_status(tx, task.id, status, detail, cause, ret_error);
    if (result >= 0) *ret_id = TAKE(task.id);
    return result;
}

/* ---- POST /deploy ---- */

static int deploy_new(struct api_call *call, struct store_transaction *tx, const struct model_call *model,
                      struct deployment_request *request, const struct deployment *failed, char **ret_task_id,
                      struct error **ret_error) {
    const struct operation_origin origin = {.task_id = model->task_id, .parent_id = model->parent_id};
    _cleanup_task_ struct task task = {0};
    const struct registry_context registry = registries_context(call->controller);
    if (!request->model_uri)
        request->model_uri =
            request_default_uri(&registry, call->controller->settings->default_registry, model->model_id);
    int result = failed ? operation_deploy_again(call->controller, tx, failed, request, &origin, &task, ret_error)
                        : operation_create(call->controller, tx, request, &origin, &task, ret_error);
    if (result >= 0) *ret_task_id = TAKE(task.id);
    return result;
}

/* The model's deployment is there already: done, a follower, refused, or deployed again where it had failed. */
static int deploy_existing(struct api_call *call, struct store_transaction *tx, const struct model_call *model,
                           struct deployment_request *request, const struct deployment *deployment, char **ret_task_id,
                           struct error **ret_error) {
    bool failed_for_good = deployment->status == DEPLOYMENT_FAILED && !deployment->serving_revision;
    if (batch_is_job(deployment->target_json))
        return error_set(ret_error, ERROR_CONFLICT, "the name %s is taken by the batch job %s: DELETE frees it",
                         deployment->name, deployment->id);
    if (request->model_uri && !text_equal(request->model_uri, deployment->model_uri) && !failed_for_good)
        return error_set(ret_error, ERROR_CONFLICT,
                         "model %s is deployed from %s, not %s: PUT /v1/deployments/%s changes it", model->model_id,
                         deployment->model_uri, request->model_uri, deployment->name);
    _cleanup_task_ struct task running = {0};
    switch (deployment->status) {
    case DEPLOYMENT_CREATING: {
        int result = task_find_unfinished(tx, deployment->id, "deploy", &running, ret_error);
        if (result < 0) return result;
        return insert_settled_task(call, tx, model, "deploy", deployment->id, running.id, TASK_PENDING, NULL, NULL,
                                   ret_task_id, ret_error);
    }
    case DEPLOYMENT_DELETING:
    case DEPLOYMENT_DELETE_FAILED: {
        _cleanup_error_ struct error *cause = NULL;
        error_set(&cause, ERROR_REFUSED, "model %s is being deleted: deploy it when that is done", model->model_id);
        return insert_settled_task(call, tx, model, "deploy", deployment->id, NULL, TASK_REFUSED, cause->message, cause,
                                   ret_task_id, ret_error);
    }
    case DEPLOYMENT_FAILED:
        if (failed_for_good) return deploy_new(call, tx, model, request, deployment, ret_task_id, ret_error);
        break;
    default: break;
    }
    return insert_settled_task(call, tx, model, "deploy", deployment->id, NULL, TASK_DONE, NULL, NULL, ret_task_id,
                               ret_error);
}

int api_model_deploy(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_request_ struct deployment_request request = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_error_ struct error *missing = NULL;
    _cleanup_free_ char *task_id = NULL;
    struct model_call model = {0};
    yyjson_val *root = NULL;
    const struct registry_context registry = registries_context(call->controller);
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
        (result = parse_deploy(root, &model, ret_error)) < 0 ||
        (result = request_parse(model.config, "config", REQUEST_MODEL_CONFIG, &registry, &request, ret_error)) < 0)
        return result;
    request.name = text_copy(model.model_id);
    if ((result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = find_same_task(tx, &model, "deploy", ret_error)) < 0)
        return result;
    if (result) return answer_model_task(call, tx, model.task_id, ret_error);
    result = deployment_load(tx, model.model_id, &deployment, &missing);
    if (result >= 0)
        result = deploy_existing(call, tx, &model, &request, &deployment, &task_id, ret_error);
    else if (missing->class == ERROR_NOT_FOUND)
        result = deploy_new(call, tx, &model, &request, NULL, &task_id, ret_error);
    else if (ret_error)
        *ret_error = TAKE(missing);
    return result < 0 ? result : answer_and_commit(call, &tx, task_id, ret_error);
}

/* ---- POST /delete ---- */

static int delete_deployed(struct api_call *call, struct store_transaction *tx, const struct model_call *model,
                           const struct deployment *deployment, char **ret_task_id, struct error **ret_error) {
    _cleanup_task_ struct task task = {0};
    int result = task_find_unfinished(tx, deployment->id, "delete", &task, ret_error);
    if (result < 0) return result;
    if (result)
        return insert_settled_task(call, tx, model, "delete", deployment->id, task.id, TASK_PENDING, NULL, NULL,
                                   ret_task_id, ret_error);
    _cleanup_error_ struct error *refusal = NULL;
    result = encoder_check_unused(tx, deployment, &refusal);
    if (result == -ERROR_CONFLICT)
        return insert_settled_task(call, tx, model, "delete", deployment->id, NULL, TASK_REFUSED, refusal->message,
                                   refusal, ret_task_id, ret_error);
    if (result < 0) {
        if (ret_error) *ret_error = TAKE(refusal);
        return result;
    }
    const struct operation_origin origin = {model->task_id, model->parent_id, model->reason};
    result = operation_delete(call->controller, tx, deployment, &origin, &task, ret_error);
    if (result >= 0) *ret_task_id = TAKE(task.id);
    return result;
}

int api_model_delete(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_error_ struct error *missing = NULL;
    _cleanup_free_ char *task_id = NULL;
    struct model_call model = {0};
    yyjson_val *root = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
        (result = parse_delete(root, &model, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = find_same_task(tx, &model, "delete", ret_error)) < 0)
        return result;
    if (result) return answer_model_task(call, tx, model.task_id, ret_error);
    result = deployment_load(tx, model.model_id, &deployment, &missing);
    if (result >= 0) {
        result = delete_deployed(call, tx, &model, &deployment, &task_id, ret_error);
    } else if (missing->class == ERROR_NOT_FOUND) {
        _cleanup_free_ char *detail = text_format("model %s is not deployed", model.model_id);
        result = insert_settled_task(call, tx, &model, "delete", NULL, NULL, TASK_FAILED, detail, missing, &task_id,
                                     ret_error);
    } else if (ret_error) {
        *ret_error = TAKE(missing);
    }
    return result < 0 ? result : answer_and_commit(call, &tx, task_id, ret_error);
}

/* ---- the four GETs ---- */

static int task_by_id(struct api_call *call, const char *kind, const char *noun, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    _cleanup_error_ struct error *error = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, &tx, ret_error)) < 0) return result;
    result = task_load(tx, call->arguments[0], &task, &error);
    if (result < 0 && error->class != ERROR_NOT_FOUND) {
        if (ret_error) *ret_error = TAKE(error);
        return result;
    }
    if (result < 0 || !text_equal(task.kind, kind))
        return error_set(ret_error, ERROR_NOT_FOUND, "%s task with ID `%s` is not found", noun, call->arguments[0]);
    return answer_model_task(call, tx, task.id, ret_error);
}

static int newest_task(struct api_call *call, const char *kind, const char *noun, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = task_find_newest(tx, kind, call->arguments[0], &task, ret_error)) < 0)
        return result;
    if (!result)
        return error_set(ret_error, ERROR_NOT_FOUND, "%s task with embedding model ID `%s` is not found", noun,
                         call->arguments[0]);
    return answer_model_task(call, tx, task.id, ret_error);
}

int api_model_deploy_task(struct api_call *call, struct error **ret_error) {
    return task_by_id(call, "deploy", "Deployment", ret_error);
}

int api_model_deploy_status(struct api_call *call, struct error **ret_error) {
    return newest_task(call, "deploy", "Deployment", ret_error);
}

int api_model_delete_task(struct api_call *call, struct error **ret_error) {
    return task_by_id(call, "delete", "Deletion", ret_error);
}

int api_model_delete_status(struct api_call *call, struct error **ret_error) {
    return newest_task(call, "delete", "Deletion", ret_error);
}
