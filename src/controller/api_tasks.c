/* The handlers of /v1/tasks. */
#include "base/memory.h"
#include "base/text.h"
#include "controller/api.h"

int api_answer_task(struct api_call *call, struct store_transaction *tx, const char *id, int status,
                    struct error **ret_error) {
    _cleanup_task_ struct task task = {0};
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = NULL;
    int result = task_load(tx, id, &task, ret_error);
    if (result < 0 || (result = render_task(tx, &task, document, &object, ret_error)) < 0) return result;
    api_answer(call, status, document, object);
    return 0;
}

static int check_filter(const struct api_call *call, struct error **ret_error) {
    static const char *const kinds[] = {
        "deploy", "delete", "update", "rollback", "scale", "restart",           "reindex",
        "switch", "retire", "batch",  "package",  "push",  "collection_create", "collection_delete"};
    enum task_status status;
    const char *wanted = call->parameters[API_STATUS], *kind = call->parameters[API_KIND];
    if (wanted && !task_status_parse(wanted, &status))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "status must be pending, processing, done, canceled, failed or refused, not \"%.64s\"",
                         wanted);
    for (size_t i = 0; kind && i < ARRAY_SIZE(kinds); i++)
        if (text_equal(kind, kinds[i])) return 0;
    return kind ? error_set(ret_error, ERROR_CONFIGURATION, "there is no task kind \"%.64s\"", kind) : 0;
}

int api_task_list(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    int64_t limit, offset;
    int result = api_check_parameters(call,
                                      1u << API_LIMIT | 1u << API_OFFSET | 1u << API_KIND | 1u << API_STATUS |
                                          1u << API_PARENT_ID | 1u << API_DEPLOYMENT_ID | 1u << API_COLLECTION,
                                      ret_error);
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0 ||
        (result = check_filter(call, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0)
        return result;
    struct task_filter filter = {
        .kind = call->parameters[API_KIND],
        .status = call->parameters[API_STATUS],
        .parent_id = call->parameters[API_PARENT_ID],
        .deployment_id = call->parameters[API_DEPLOYMENT_ID],
        .collection = call->parameters[API_COLLECTION],
    };
    struct task *tasks = NULL;
    size_t count = 0;
    result = task_list(tx, &filter, limit, offset, &tasks, &count, &call->total_count, ret_error);
    yyjson_mut_val *array = yyjson_mut_arr(document);
    for (size_t i = 0; i < count && result >= 0; i++) {
        yyjson_mut_val *object = NULL;
        result = render_task(tx, &tasks[i], document, &object, ret_error);
        if (result >= 0) yyjson_mut_arr_append(array, object);
    }
    task_list_free(tasks, count);
    if (result >= 0) api_answer(call, 200, document, array);
    return result < 0 ? result : 0;
}

int api_task_get(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, &tx, ret_error)) < 0) return result;
    return api_answer_task(call, tx, call->arguments[0], 200, ret_error);
}

int api_task_wait(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    int result = api_check_parameters(call, 1u << API_TIMEOUT, ret_error);
    if (result < 0 || (result = api_wait_deadline(call, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = task_load(tx, call->arguments[0], &task, ret_error)) < 0)
        return result;
    if (task_status_is_finished(task.status)) return api_answer_task(call, tx, task.id, 200, ret_error);
    if (!call->wait_is_over) return API_WAIT;
    return error_set_status(ret_error, ERROR_UNAVAILABLE, 504, "task %s is still %s%s%s", task.id,
                            task_status_name(task.status), task.step ? ", at the step " : "",
                            task.step ? task.step : "");
}

int api_task_cancel(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = engine_cancel(tx, call->arguments[0], "canceled on request", ret_error)) < 0 ||
        (result = api_answer_task(call, tx, call->arguments[0], 202, ret_error)) < 0)
        return result;
    call->changed = true;
    return store_commit(TAKE(tx), ret_error);
}

int api_task_restart(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = task_load(tx, call->arguments[0], &task, ret_error)) < 0 ||
        (result = operation_restart_task(call->controller, tx, &task, ret_error)) < 0 ||
        (result = api_answer_task(call, tx, task.id, 202, ret_error)) < 0)
        return result;
    call->changed = true;
    return store_commit(TAKE(tx), ret_error);
}
