#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

struct owned_deployment {
    struct slipway_deployment deployment;
    yyjson_doc *document; /* NULL for an element of a list: the list owns it */
    char *tags, *json;
};

struct owned_task {
    struct slipway_task task;
    yyjson_doc *document;
    char *metadata, *json;
};

struct owned_deployment_list {
    struct slipway_deployment_list list;
    yyjson_doc *document;
};

struct owned_task_list {
    struct slipway_task_list list;
    yyjson_doc *document;
};

static const char *text_field(yyjson_val *object, const char *field) {
    return yyjson_get_str(yyjson_obj_get(object, field));
}

/* A nested value as JSON text, or NULL. */
static char *json_field(yyjson_val *object, const char *field) {
    yyjson_val *value = yyjson_obj_get(object, field);
    return value ? json_write_value(value, NULL) : NULL;
}

static struct slipway_progress read_progress(yyjson_val *object) {
    yyjson_val *progress = yyjson_obj_get(object, "progress");
    if (yyjson_is_num(progress)) /* a re-index task by model ids has a fraction there, and the numbers beside it */
        return (struct slipway_progress){
            .done = yyjson_get_sint(yyjson_obj_get(object, "count")),
            .total = yyjson_get_sint(yyjson_obj_get(object, "total")),
        };
    return (struct slipway_progress){
        .done = yyjson_get_sint(yyjson_obj_get(progress, "done")),
        .total = yyjson_get_sint(yyjson_obj_get(progress, "total")),
        .rate = yyjson_get_num(yyjson_obj_get(progress, "rate")),
        .failed = yyjson_get_sint(yyjson_obj_get(progress, "failed")),
        .step = text_field(progress, "step"),
    };
}

static int read_root(struct client_answer *answer, bool (*is_kind)(yyjson_val *), yyjson_doc **ret_document,
                     struct slipway_error **ret_error) {
    yyjson_doc *document = yyjson_read(answer->body.bytes ? answer->body.bytes : "", answer->body.size, 0);
    if (is_kind(yyjson_doc_get_root(document))) {
        *ret_document = document;
        return 0;
    }
    yyjson_doc_free(document);
    return client_error(ret_error, SLIPWAY_PROTOCOL, (int)answer->http_status,
                        "the answer is not what Slipway gives: is this its URL?");
}

static bool is_object(yyjson_val *value) {
    return yyjson_is_obj(value);
}

static bool is_array(yyjson_val *value) {
    return yyjson_is_arr(value);
}

int client_read_object(struct client_answer *answer, yyjson_doc **ret_document, struct slipway_error **ret_error) {
    return read_root(answer, is_object, ret_document, ret_error);
}

int client_read_array(struct client_answer *answer, yyjson_doc **ret_document, struct slipway_error **ret_error) {
    return read_root(answer, is_array, ret_document, ret_error);
}

/* ---- deployments ---- */

static struct slipway_deployment *make_deployment(yyjson_val *object, yyjson_doc *document) {
    struct owned_deployment *owned = mem_new(struct owned_deployment);
    owned->document = document;
    owned->tags = json_field(object, "tags");
    owned->json = json_write_value(object, NULL);
    owned->deployment = (struct slipway_deployment){
        .deployment_id = text_field(object, "deployment_id"),
        .deployment_name = text_field(object, "deployment_name"),
        .model_uri = text_field(object, "model_uri"),
        .status = text_field(object, "status"),
        .message = text_field(object, "message"),
        .error = client_error_from_object(yyjson_obj_get(object, "error")),
        .endpoint_url = text_field(object, "endpoint_url"),
        .deployed_model_version = text_field(object, "deployed_model_version"),
        .revision = yyjson_get_sint(yyjson_obj_get(object, "revision")),
        .serving_revision = yyjson_get_sint(yyjson_obj_get(object, "serving_revision")),
        .replicas = yyjson_get_sint(yyjson_obj_get(object, "replicas")),
        .task_id = text_field(object, "task_id"),
        .progress = read_progress(object),
        .tags_json = owned->tags,
        .created_at = text_field(object, "created_at"),
        .updated_at = text_field(object, "updated_at"),
        .json = owned->json,
    };
    return &owned->deployment;
}

void slipway_deployment_free(struct slipway_deployment *deployment) {
    if (!deployment) return;
    struct owned_deployment *owned = CONTAINER_OF(deployment, struct owned_deployment, deployment);
    slipway_error_free(deployment->error);
    yyjson_doc_free(owned->document);
    free(owned->tags);
    free(owned->json);
    free(owned);
}

int client_read_deployment(struct client_answer *answer, struct slipway_deployment **ret_deployment,
                           struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_object(answer, &document, ret_error);
    if (result >= 0) *ret_deployment = make_deployment(yyjson_doc_get_root(document), document);
    return result;
}

int client_read_deployments(struct client_answer *answer, struct slipway_deployment_list **ret_list,
                            struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_array(answer, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *array = yyjson_doc_get_root(document), *item;
    struct owned_deployment_list *owned = mem_new(struct owned_deployment_list);
    owned->document = document;
    owned->list.total_count = answer->total_count;
    owned->list.deployments = mem_new_array(yyjson_arr_size(array), struct slipway_deployment *);
    size_t index, maximum;
    yyjson_arr_foreach(array, index, maximum, item) {
        owned->list.deployments[owned->list.count++] = make_deployment(item, NULL);
    }
    *ret_list = &owned->list;
    return 0;
}

void slipway_deployment_list_free(struct slipway_deployment_list *list) {
    if (!list) return;
    struct owned_deployment_list *owned = CONTAINER_OF(list, struct owned_deployment_list, list);
    for (size_t i = 0; i < list->count; i++) slipway_deployment_free(list->deployments[i]);
    free(list->deployments);
    yyjson_doc_free(owned->document);
    free(owned);
}

/* ---- tasks ---- */

static struct slipway_task *make_task(yyjson_val *object, yyjson_doc *document) {
    struct owned_task *owned = mem_new(struct owned_task);
    owned->document = document;
    owned->metadata = json_field(object, "metadata");
    owned->json = json_write_value(object, NULL);
    owned->task = (struct slipway_task){
        .task_id = text_field(object, "task_id"),
        .kind = text_field(object, "kind"),
        .status = text_field(object, "status"),
        .step = text_field(object, "step"),
        .progress = read_progress(object),
        .parent_id = text_field(object, "parent_id"),
        .deployment_id = text_field(object, "deployment_id"),
        .collection = text_field(object, "collection"),
        .embedding_model_id = text_field(object, "embedding_model_id"),
        .deployed_model_id = text_field(object, "deployed_model_id"),
        .detail = text_field(object, "detail"),
        .error = client_error_from_object(yyjson_obj_get(object, "error")),
        .metadata_json = owned->metadata,
        .created_at = text_field(object, "created_at"),
        .updated_at = text_field(object, "updated_at"),
        .json = owned->json,
    };
    owned->task.progress.step = owned->task.step;
    return &owned->task;
}

void slipway_task_free(struct slipway_task *task) {
    if (!task) return;
    struct owned_task *owned = CONTAINER_OF(task, struct owned_task, task);
    slipway_error_free(task->error);
    yyjson_doc_free(owned->document);
    free(owned->metadata);
    free(owned->json);
    free(owned);
}

int client_read_task(struct client_answer *answer, struct slipway_task **ret_task, struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_object(answer, &document, ret_error);
    if (result >= 0) *ret_task = make_task(yyjson_doc_get_root(document), document);
    return result;
}

int client_read_tasks(struct client_answer *answer, struct slipway_task_list **ret_list,
                      struct slipway_error **ret_error) {
    yyjson_doc *document = NULL;
    int result = client_read_array(answer, &document, ret_error);
    if (result < 0) return result;
    yyjson_val *array = yyjson_doc_get_root(document), *item;
    struct owned_task_list *owned = mem_new(struct owned_task_list);
    owned->document = document;
    owned->list.total_count = answer->total_count;
    owned->list.tasks = mem_new_array(yyjson_arr_size(array), struct slipway_task *);
    size_t index, maximum;
    yyjson_arr_foreach(array, index, maximum, item) {
        owned->list.tasks[owned->list.count++] = make_task(item, NULL);
    }
    *ret_list = &owned->list;
    return 0;
}

void slipway_task_list_free(struct slipway_task_list *list) {
    if (!list) return;
    struct owned_task_list *owned = CONTAINER_OF(list, struct owned_task_list, list);
    for (size_t i = 0; i < list->count; i++) slipway_task_free(list->tasks[i]);
    free(list->tasks);
    yyjson_doc_free(owned->document);
    free(owned);
}
