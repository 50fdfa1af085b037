#include "controller/render.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch.h"

char *render_endpoint_url(const struct settings *settings, const char *name) {
    if (*settings->public_url) {
        const char *slash = text_ends_with(settings->public_url, "/") ? "" : "/";
        return text_format("%s%sv2/models/%s", settings->public_url, slash, name);
    }
    return text_format("http://%s/v2/models/%s", settings->listen, name);
}

static void add_progress(yyjson_mut_doc *document, yyjson_mut_val *object, const struct task *task) {
    yyjson_mut_val *progress = yyjson_mut_obj_add_obj(document, object, "progress");
    yyjson_mut_obj_add_sint(document, progress, "done", task->progress_done);
    yyjson_mut_obj_add_sint(document, progress, "total", task->progress_total);
    yyjson_mut_obj_add_real(document, progress, "rate", task->progress_rate);
    yyjson_mut_obj_add_sint(document, progress, "failed", task->progress_failed);
}

static int add_running_progress(struct store_transaction *tx, const struct deployment *deployment,
                                yyjson_mut_doc *document, yyjson_mut_val *object, struct error **ret_error) {
    bool is_running = deployment->status == DEPLOYMENT_CREATING || deployment->status == DEPLOYMENT_UPDATING ||
                      deployment->status == DEPLOYMENT_DELETING ||
                      (deployment->status == DEPLOYMENT_ACTIVE && batch_is_job(deployment->target_json));
    if (!is_running || !deployment->task_id) return 0;
    _cleanup_task_ struct task task = {0};
    struct error *error = NULL;
    int result = task_load(tx, deployment->task_id, &task, &error);
    if (result == 0) {
        add_progress(document, object, &task);
        json_add_text(document, yyjson_mut_obj_get(object, "progress"), "step", task.step);
    } else if (error->class == ERROR_NOT_FOUND) {
        error_free(error);
        return 0; /* its record went with the retention */
    } else if (ret_error) {
        *ret_error = error;
    } else {
        error_free(error);
    }
    return result;
}

int render_deployment(struct controller *controller, struct store_transaction *tx, const struct deployment *deployment,
                      yyjson_mut_doc *document, yyjson_mut_val **ret_object, struct error **ret_error) {
    yyjson_mut_val *object = yyjson_mut_obj(document);
    json_add_text(document, object, "deployment_id", deployment->id);
    json_add_text(document, object, "deployment_name", deployment->name);
    json_add_text(document, object, "model_uri", deployment->model_uri);
    json_add_text(document, object, "status", deployment_status_name(deployment->status));
    json_add_text(document, object, "message", deployment->message);
    json_add_json(document, object, "error", deployment->error_json);
    if (deployment->serving_revision) {
        _cleanup_free_ char *url = render_endpoint_url(controller->settings, deployment->name);
        json_add_text(document, object, "endpoint_url", url);
        json_add_text(document, object, "deployed_model_version", deployment->deployed_model_version);
    }
    yyjson_mut_obj_add_sint(document, object, "revision", deployment->revision);
    if (deployment->serving_revision)
        yyjson_mut_obj_add_sint(document, object, "serving_revision", deployment->serving_revision);
    yyjson_mut_obj_add_sint(document, object, "replicas", deployment->replicas);
    json_add_text(document, object, "task_id", deployment->task_id);
    int result = add_running_progress(tx, deployment, document, object, ret_error);
    if (result < 0) return result;
    json_add_json(document, object, "tags", deployment->tags_json);
    json_add_time(document, object, "created_at", deployment->created_at);
    json_add_time(document, object, "updated_at", deployment->updated_at);
    *ret_object = object;
    return 0;
}

static int add_children(struct store_transaction *tx, const char *task_id, yyjson_mut_doc *document,
                        yyjson_mut_val *object, struct error **ret_error) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_query(tx, &rows, ret_error, "SELECT id FROM tasks WHERE parent_id = ? ORDER BY created_at, id",
                             "t", task_id);
    if (result < 0) return result;
    yyjson_mut_val *children = yyjson_mut_obj_add_arr(document, object, "children");
    while ((result = store_next(rows, ret_error)) > 0)
        yyjson_mut_arr_add_strcpy(document, children, store_text(rows, 0));
    return result;
}

int render_task(struct store_transaction *tx, const struct task *task, yyjson_mut_doc *document,
                yyjson_mut_val **ret_object, struct error **ret_error) {
    yyjson_mut_val *object = yyjson_mut_obj(document);
    json_add_text(document, object, "task_id", task->id);
    json_add_text(document, object, "kind", task->kind);
    json_add_text(document, object, "status", task_status_name(task->status));
    json_add_text(document, object, "step", task->step);
    add_progress(document, object, task);
    json_add_text(document, object, "parent_id", task->parent_id ? task->parent_id : task->parent_label);
    int result = add_children(tx, task->id, document, object, ret_error);
    if (result < 0) return result;
    json_add_text(document, object, "deployment_id", task->deployment_id);
    json_add_text(document, object, "collection", task->collection);
    yyjson_mut_obj_add_sint(document, object, "attempts", task->attempts);
    json_add_time(document, object, "deadline", task->deadline);
    json_add_text(document, object, "detail", task->detail);
    json_add_json(document, object, "error", task->error_json);
    json_add_json(document, object, "metadata", task->metadata_json);
    json_add_time(document, object, "created_at", task->created_at);
    json_add_time(document, object, "updated_at", task->updated_at);
    *ret_object = object;
    return 0;
}

/* What a failed or refused task says of itself: its detail, else its error's sentence. */
static void add_detail(yyjson_mut_doc *document, yyjson_mut_val *object, const struct task *task) {
    if (task->status != TASK_FAILED && task->status != TASK_REFUSED) return;
    if (task->detail) {
        json_add_text(document, object, "detail", task->detail);
        return;
    }
    struct error *error = json_to_error(task->error_json);
    _cleanup_free_ char *words = error ? error_text(error) : text_copy("no cause was recorded");
    json_add_text(document, object, "detail", words);
    error_free(error);
}

yyjson_mut_val *render_model_task(const struct task *task, yyjson_mut_doc *document) {
    yyjson_mut_val *object = yyjson_mut_obj(document);
    json_add_text(document, object, "task_id", task->id);
    json_add_text(document, object, "status", task_status_name(task->status));
    json_add_time(document, object, "created_at", task->created_at);
    json_add_time(document, object, "updated_at", task->updated_at);
    json_add_text(document, object, "embedding_model_id", task->model_id);
    if (task->status == TASK_DONE) json_add_text(document, object, "deployed_model_id", task->model_id);
    json_add_json(document, object, "metadata", task->metadata_json);
    add_detail(document, object, task);
    return object;
}
