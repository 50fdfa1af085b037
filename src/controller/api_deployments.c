/* The handlers of /v1/deployments. Each runs in one store transaction on libuv's pool. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/api.h"
#include "controller/batch_job.h"
#include "controller/registries.h"

#define IDEMPOTENCY_KEY_MAXIMUM 255

/* ---- answers ---- */

static int answer_deployment(struct api_call *call, struct store_transaction *tx, const char *id, int status,
                             struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = NULL;
    int result = deployment_load(tx, id, &deployment, ret_error);
    if (result < 0 || (result = render_deployment(call->controller, tx, &deployment, document, &object, ret_error)) < 0)
        return result;
    api_answer(call, status, document, object);
    return 0;
}

static int parse_body(struct api_call *call, yyjson_doc **ret_document, yyjson_val **ret_root,
                      struct error **ret_error) {
    return json_parse_object(call->body, call->body_size, ret_document, ret_root, ret_error);
}

/* Operations without a body take none, or an empty object. */
static int check_no_body(struct api_call *call, struct error **ret_error) {
    if (!call->body_size) return 0;
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = parse_body(call, &document, &root, ret_error);
    return result < 0 ? result : json_check_fields(root, "", NULL, 0, ret_error);
}

static int commit(struct api_call *call, struct store_transaction **tx, struct error **ret_error) {
    call->changed = true;
    return store_commit(TAKE(*tx), ret_error);
}

/* ---- POST /v1/deployments ---- */

/* 1 when the key is known: the answer has then been given again. */
static int answer_again(struct api_call *call, struct store_transaction *tx, const char *body_digest,
                        struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result =
        store_query(tx, &rows, ret_error, "SELECT body_digest, answer_json FROM idempotency_keys WHERE key = ?", "t",
                    call->idempotency_key);
    if (result < 0 || (result = store_next(rows, ret_error)) <= 0) return result;
    if (!text_equal(store_text(rows, 0), body_digest))
        return error_set(ret_error, ERROR_CONFLICT,
                         "the Idempotency-Key %.255s was used with another body: take a new key",
                         call->idempotency_key);
    call->answer = store_text_copy(rows, 1);
    call->answer_size = strlen(call->answer);
    call->status = 202;
    return 1;
}

static int remember_answer(struct api_call *call, struct store_transaction *tx, const char *body_digest,
                           const char *deployment_id, struct error **ret_error) {
    return store_run(tx, NULL, ret_error,
                     "INSERT INTO idempotency_keys (key, body_digest, deployment_id, answer_json, created_at) "
                     "VALUES (?, ?, ?, ?, ?)",
                     "tttti", call->idempotency_key, body_digest, deployment_id, call->answer, clock_wall_ms());
}

int api_deployment_create(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_request_ struct deployment_request request = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    yyjson_val *root = NULL;
    char digest[DIGEST_HEX_SIZE];
    const struct registry_context registry = registries_context(call->controller);
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = parse_body(call, &body, &root, ret_error)) < 0 ||
        (result = request_parse(root, "", REQUEST_WHOLE, &registry, &request, ret_error)) < 0)
        return result;
    if (request.is_batch && (result = batch_job_check(call->controller, request.target_json, ret_error)) < 0)
        return result;
    if (call->idempotency_key && (!*call->idempotency_key || strlen(call->idempotency_key) > IDEMPOTENCY_KEY_MAXIMUM))
        return error_set(ret_error, ERROR_CONFIGURATION, "Idempotency-Key must have 1 to %d characters",
                         IDEMPOTENCY_KEY_MAXIMUM);
    digest_bytes(call->body, call->body_size, digest);
    if ((result = store_begin(call->controller->store, &tx, ret_error)) < 0) return result;
    if (call->idempotency_key && (result = answer_again(call, tx, digest, ret_error)) != 0)
        return result < 0 ? result : 0;
    if ((result = operation_create(call->controller, tx, &request, NULL, &task, ret_error)) < 0 ||
        (result = answer_deployment(call, tx, task.deployment_id, 202, ret_error)) < 0)
        return result;
    if (call->idempotency_key && (result = remember_answer(call, tx, digest, task.deployment_id, ret_error)) < 0)
        return result;
    return commit(call, &tx, ret_error);
}

/* ---- reading ---- */

int api_deployment_list(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int64_t limit, offset;
    enum deployment_status status;
    const char *wanted = call->parameters[API_STATUS];
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET | 1u << API_STATUS, ret_error);
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0) return result;
    if (wanted && !deployment_status_parse(wanted, &status))
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "status must be creating, active, updating, failed, deleting, inactive or delete_failed, not \"%.64s\"",
            wanted);
    if ((result = store_begin(call->controller->store, &tx, ret_error)) < 0) return result;
    struct deployment *deployments = NULL;
    size_t count = 0;
    result = deployment_list(tx, wanted, limit, offset, &deployments, &count, &call->total_count, ret_error);
    yyjson_mut_val *array = yyjson_mut_arr(document);
    for (size_t i = 0; i < count && result >= 0; i++) {
        yyjson_mut_val *object = NULL;
        result = render_deployment(call->controller, tx, &deployments[i], document, &object, ret_error);
        if (result >= 0) yyjson_mut_arr_append(array, object);
    }
    deployment_list_free(deployments, count);
    if (result >= 0) api_answer(call, 200, document, array);
    return result < 0 ? result : 0;
}

int api_deployment_get(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, &tx, ret_error)) < 0) return result;
    return answer_deployment(call, tx, call->arguments[0], 200, ret_error);
}

/* 1 when nothing works on it any more: then its status stays, and it can take the next operation. (An updated one is
 * active from the switch on, while the old revision still drains.) */
static int is_settled(struct store_transaction *tx, const struct deployment *deployment, struct error **ret_error) {
    if (deployment->status == DEPLOYMENT_CREATING || deployment->status == DEPLOYMENT_UPDATING ||
        deployment->status == DEPLOYMENT_DELETING)
        return 0;
    _cleanup_task_ struct task running = {0};
    int result = task_find_unfinished(tx, deployment->id, NULL, &running, ret_error);
    return result < 0 ? result : !result;
}

int api_deployment_wait(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    int result = api_check_parameters(call, 1u << API_TIMEOUT, ret_error);
    if (result < 0 || (result = api_wait_deadline(call, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = deployment_load(tx, call->arguments[0], &deployment, ret_error)) < 0 ||
        (result = is_settled(tx, &deployment, ret_error)) < 0)
        return result;
    if (result) return answer_deployment(call, tx, deployment.id, 200, ret_error);
    if (!call->wait_is_over) return API_WAIT;
    return error_set_status(ret_error, ERROR_UNAVAILABLE, 504, "deployment %s is still %s%s%s", deployment.name,
                            deployment_status_name(deployment.status), deployment.message ? ": " : "",
                            deployment.message ? deployment.message : "");
}

/* ---- changing ---- */

/* What the changing handlers share: no parameters, a transaction, the deployment. */
static int begin_change(struct api_call *call, struct store_transaction **ret_tx, struct deployment *ret_deployment,
                        struct error **ret_error) {
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, ret_tx, ret_error)) < 0) return result;
    return deployment_load(*ret_tx, call->arguments[0], ret_deployment, ret_error);
}

/* … and their end: the deployment as it is now, 202, committed. */
static int end_change(struct api_call *call, struct store_transaction **tx, const struct deployment *deployment,
                      struct error **ret_error) {
    int result = answer_deployment(call, *tx, deployment->id, 202, ret_error);
    return result < 0 ? result : commit(call, tx, ret_error);
}

int api_deployment_update(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_request_ struct deployment_request request = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_task_ struct task task = {0};
    yyjson_val *root = NULL;
    const struct registry_context registry = registries_context(call->controller);
    int result = parse_body(call, &body, &root, ret_error);
    if (result < 0 || (result = request_parse(root, "", REQUEST_WHOLE, &registry, &request, ret_error)) < 0 ||
        (result = begin_change(call, &tx, &deployment, ret_error)) < 0 ||
        (result = operation_update(call->controller, tx, &deployment, &request, &task, ret_error)) < 0)
        return result;
    return end_change(call, &tx, &deployment, ret_error);
}

int api_deployment_patch(struct api_call *call, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_task_ struct task task = {0};
    _cleanup_patch_ struct deployment_patch patch = {0};
    yyjson_val *root = NULL;
    int result = parse_body(call, &body, &root, ret_error);
    if (result < 0 || (result = request_parse_patch(root, &patch, ret_error)) < 0 ||
        (result = begin_change(call, &tx, &deployment, ret_error)) < 0 ||
        (result = operation_patch(call->controller, tx, &deployment, &patch, &task, ret_error)) < 0)
        return result;
    return end_change(call, &tx, &deployment, ret_error);
}

int api_deployment_delete(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_task_ struct task task = {0};
    int result = check_no_body(call, ret_error);
    if (result < 0 || (result = begin_change(call, &tx, &deployment, ret_error)) < 0 ||
        (result = operation_delete(call->controller, tx, &deployment, NULL, &task, ret_error)) < 0)
        return result;
    return end_change(call, &tx, &deployment, ret_error);
}

int api_deployment_rollback(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_task_ struct task task = {0};
    int result = check_no_body(call, ret_error);
    if (result < 0 || (result = begin_change(call, &tx, &deployment, ret_error)) < 0 ||
        (result = operation_rollback(call->controller, tx, &deployment, &task, ret_error)) < 0)
        return result;
    return end_change(call, &tx, &deployment, ret_error);
}

int api_deployment_restart(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_task_ struct task task = {0};
    int result = check_no_body(call, ret_error);
    if (result < 0 || (result = begin_change(call, &tx, &deployment, ret_error)) < 0 ||
        (result = operation_restart(call->controller, tx, &deployment, &task, ret_error)) < 0)
        return result;
    return end_change(call, &tx, &deployment, ret_error);
}
