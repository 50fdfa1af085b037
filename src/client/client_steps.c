/* The three steps for programs that run re-index tasks themselves: deploy a model and wait, delete one, switch. Each is
 * made of the calls of the other files. */
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define PENDING_MS (5u * 60 * 1000)
#define PROCESSING_MS (30u * 60 * 1000)
#define READY_MS (2u * 60 * 1000)
#define SWITCH_MS (15u * 60 * 1000)
#define LOOK_MS 500 /* a task's end is answered at once; that it has left `pending` is seen this late at most */
#define PAUSE_MS 100

static bool is_finished(const struct slipway_task *task) {
    return !text_equal(task->status, "pending") && !text_equal(task->status, "processing");
}

/* Why a task ended as it did: the service's own words. */
static const char *reason_of(const struct slipway_task *task) {
    if (task->error && task->error->message) return task->error->message;
    return task->detail ? task->detail : task->status;
}

static int tell(const struct slipway_worker *worker, const char *task_id, const char *what,
                struct slipway_error **ret_error) {
    int failure = worker && worker->send ? worker->send(worker, task_id) : 0;
    if (!failure) return 0;
    return client_error(ret_error, SLIPWAY_EXTERNAL_SERVICE, 0,
                        "The %s worker did not take task %s (%d); the task goes on.", what, task_id, failure);
}

/* ---- deploy and wait ---- */

/* Looks until the task is finished, or has been pending or processing too long. A service that does not answer is
 * looked for again within the same deadlines. */
static int await_deployment_task(struct slipway *service, const char *task_id, uint32_t pending_ms,
                                 uint32_t processing_ms, struct slipway_task **ret_task,
                                 struct slipway_error **ret_error) {
    uint64_t deadline = clock_monotonic_ms() + pending_ms;
    bool is_pending = true;
    for (;;) {
        struct slipway_error *error = NULL;
        struct slipway_task *task = NULL;
        int result = slipway_get_task(service, task_id, &task, &error);
        if (result < 0 && result != -SLIPWAY_UNAVAILABLE) {
            client_error_add_context(error, "wait for deployment task %s", task_id);
            if (ret_error)
                *ret_error = error;
            else
                slipway_error_free(error);
            return result;
        }
        slipway_error_free(error);
        if (task && is_finished(task)) {
            *ret_task = task;
            return 0;
        }
        if (task && is_pending && text_equal(task->status, "processing")) {
            is_pending = false;
            deadline = clock_monotonic_ms() + processing_ms;
        }
        slipway_task_free(task);
        uint64_t now = clock_monotonic_ms();
        if (now >= deadline)
            return client_error(ret_error, SLIPWAY_DEPLOYMENT, 0,
                                is_pending ? "Deployment task is pending too long."
                                           : "Deployment task is processing too long.");
        uint32_t slice = (uint32_t)(deadline - now < LOOK_MS ? deadline - now : LOOK_MS);
        if (slipway_wait_for_task(service, task_id, slice, &task, NULL) == 0)
            slipway_task_free(task);
        else if (result < 0)
            usleep(PAUSE_MS * 1000);
    }
}

/* The error of a deployment task that did not end `done`, with its causes. */
static int deployment_failed(struct slipway_task *task, struct slipway_error **ret_error) {
    int result = client_error(ret_error, SLIPWAY_DEPLOYMENT, 0, "Deployment task failed: %s", reason_of(task));
    if (ret_error && task->error)
        for (size_t i = 0; i < task->error->cause_count; i++)
            client_error_add_cause(*ret_error, task->error->causes[i]);
    return result;
}

static bool server_says_ready(struct slipway *service, const char *model_id) {
    _cleanup_free_ char *path = client_path("/v2/models/", model_id, "/ready");
    const struct client_request request = {.method = "GET", .path = path};
    _cleanup_answer_ struct client_answer answer = {0};
    return client_send(service, &request, &answer, NULL) == 0;
}

static int await_ready(struct slipway *service, const struct slipway_plugin *plugin, const char *model_id,
                       uint32_t ready_ms, struct slipway_error **ret_error) {
    uint64_t deadline = clock_monotonic_ms() + ready_ms;
    for (;;) {
        bool has_own = plugin && plugin->is_model_ready;
        if (has_own ? plugin->is_model_ready(plugin, model_id) : server_says_ready(service, model_id)) return 0;
        if (clock_monotonic_ms() >= deadline)
            return client_error(ret_error, SLIPWAY_DEPLOYMENT, 0, "Model is not ready.");
        usleep(PAUSE_MS * 1000);
    }
}

int slipway_initiate_model_deployment_and_wait(struct slipway *service, const struct slipway_plugin *plugin,
                                               const struct slipway_reindex_task *task,
                                               const struct slipway_model_params *params,
                                               const struct slipway_worker *deployment_worker,
                                               struct slipway_deployment **ret_deployment,
                                               struct slipway_error **ret_error) {
    const struct slipway_model_params none = {0}, *given = params ? params : &none;
    const char *model_id = given->embedding_model_id ? given->embedding_model_id : task->dest_model_id;
    struct slipway_task *child = NULL;
    int result = slipway_deploy(service, model_id, given->task_id, task->task_id, given->config, &child, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *child_id = text_copy(child->task_id);
    slipway_task_free(TAKE(child));
    if ((result = tell(deployment_worker, child_id, "deployment", ret_error)) < 0) return result;

    result = await_deployment_task(
        service, child_id, given->pending_timeout_ms ? given->pending_timeout_ms : PENDING_MS,
        given->processing_timeout_ms ? given->processing_timeout_ms : PROCESSING_MS, &child, ret_error);
    if (result >= 0 && !text_equal(child->status, "done")) result = deployment_failed(child, ret_error);
    slipway_task_free(child);
    if (result >= 0)
        result = await_ready(service, plugin, model_id, given->ready_timeout_ms ? given->ready_timeout_ms : READY_MS,
                             ret_error);
    return result < 0 ? result : slipway_get_deployment_status(service, model_id, ret_deployment, ret_error);
}

/* ---- deletion ---- */

int slipway_initiate_model_deletion(struct slipway *service, const struct slipway_reindex_task *task,
                                    const char *embedding_model_id, const struct slipway_worker *deletion_worker,
                                    struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_free_ char *reason = task->task_id ? text_format("re-index task %s", task->task_id) : NULL;
    struct slipway_task *child = NULL;
    int result = slipway_delete(service, embedding_model_id, NULL, task->task_id, reason, &child, ret_error);
    if (result < 0) return result;
    if (text_equal(child->status, "refused"))
        result = client_error(ret_error, SLIPWAY_REFUSED, 0, "Deletion task is refused: %s", reason_of(child));
    else if (text_equal(child->status, "failed") || text_equal(child->status, "canceled"))
        result = client_error(ret_error, SLIPWAY_DEPLOYMENT, 0, "Deletion task failed: %s", reason_of(child));
    else
        result = tell(deletion_worker, child->task_id, "deletion", ret_error);
    if (result < 0)
        slipway_task_free(child);
    else
        *ret_task = child;
    return result;
}

/* ---- the switch ---- */

/* The newest task of that kind and parent; *ret_task_id stays NULL when there is none. */
static int find_child(struct slipway *service, const char *parent_id, const char *kind, char **ret_task_id,
                      struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path("/v1/tasks?limit=1&parent_id=", parent_id, "&kind=");
    _cleanup_free_ char *whole = text_format("%s%s", path, kind);
    const struct client_request request = {.method = "GET", .path = whole};
    _cleanup_answer_ struct client_answer answer = {0};
    struct slipway_task_list *list = NULL;
    int result = client_send(service, &request, &answer, ret_error);
    if (result >= 0) result = client_read_tasks(&answer, &list, ret_error);
    if (result < 0) return result;
    if (list->count) *ret_task_id = text_copy(list->tasks[0]->task_id);
    slipway_task_list_free(list);
    return 0;
}

/* The collection that the task names, or the only one whose blue encoder is the source; caller frees. */
static int find_collection(struct slipway *service, const struct slipway_reindex_task *task, char **ret_name,
                           struct slipway_error **ret_error) {
    if (task->collection) {
        *ret_name = text_copy(task->collection);
        return 0;
    }
    _cleanup_buffer_ struct buffer names = {0};
    _cleanup_free_ char *found = NULL;
    size_t count = 0, offset = 0;
    for (bool more = true; more;) {
        struct slipway_collection_list *list = NULL;
        int result = slipway_list_collections(service, 1000, offset, &list, ret_error);
        if (result < 0) return result;
        for (size_t i = 0; i < list->count; i++) {
            const struct slipway_collection *collection = list->collections[i];
            const char *encoder = collection->blue ? collection->blue->deployment : collection->deployment;
            if (!text_equal(encoder, task->source_model_id)) continue;
            buffer_append_format(&names, "%s%s", count++ ? ", " : "", collection->name);
            free(found);
            found = text_copy(collection->name);
        }
        offset += list->count;
        more = list->count && offset < list->total_count;
        slipway_collection_list_free(list);
    }
    if (count > 1)
        return client_error(ret_error, SLIPWAY_CONFIGURATION, 0,
                            "Several collections are embedded by %s: %s; name one.", task->source_model_id,
                            names.bytes);
    if (!found)
        return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "No collection is embedded by %s.",
                            task->source_model_id);
    *ret_name = TAKE(found);
    return 0;
}

/* The destination's ready index in the collection; caller frees. */
static int find_ready_index(struct slipway *service, const char *collection, const char *model_id, char **ret_index_id,
                            struct slipway_error **ret_error) {
    struct slipway_index_list *list = NULL;
    int result = slipway_list_indexes(service, collection, &list, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *other = NULL; /* the state of one that is not ready */
    for (size_t i = 0; i < list->count && !*ret_index_id; i++) {
        const struct slipway_index *index = &list->indexes[i];
        if (!text_equal(index->set, "documents") || !text_equal(index->deployment, model_id)) continue;
        if (text_equal(index->state, "ready"))
            *ret_index_id = text_copy(index->index_id);
        else if (!other)
            other = text_copy(index->state);
    }
    slipway_index_list_free(list);
    if (*ret_index_id) return 0;
    if (other)
        return client_error(ret_error, SLIPWAY_CONFLICT, 0, "The index of %s in collection %s is %s, not ready.",
                            model_id, collection, other);
    return client_error(ret_error, SLIPWAY_NOT_FOUND, 0, "Collection %s has no index of %s.", collection, model_id);
}

/* Begins the switch, or finds the one that an earlier call for this task began; caller frees. */
static int begin_switch(struct slipway *service, const struct slipway_reindex_task *task, char **ret_task_id,
                        struct slipway_error **ret_error) {
    int result = task->task_id ? find_child(service, task->task_id, "switch", ret_task_id, ret_error) : 0;
    if (result < 0) return result;
    struct slipway_task *begun = NULL;
    if (*ret_task_id) {
        result = slipway_get_task(service, *ret_task_id, &begun, ret_error);
        if (result < 0) return result;
        bool goes_on = !is_finished(begun) || text_equal(begun->status, "done");
        slipway_task_free(TAKE(begun));
        if (goes_on) return 0;
        free(TAKE(*ret_task_id)); /* it failed: a new one */
    }
    _cleanup_free_ char *collection = NULL, *index_id = NULL;
    const struct slipway_switch_options options = {.has_rollback_window = true, .parent_id = task->task_id};
    if ((result = find_collection(service, task, &collection, ret_error)) < 0 ||
        (result = find_ready_index(service, collection, task->dest_model_id, &index_id, ret_error)) < 0 ||
        (result = slipway_switch(service, collection, index_id, &options, &begun, ret_error)) < 0)
        return result;
    *ret_task_id = text_copy(begun->task_id);
    slipway_task_free(begun);
    return 0;
}

/* Tells the worker of the task that deletes the source model: a child of the switch or of its retirement. */
static int tell_of_deletion(struct slipway *service, const char *switch_id, const struct slipway_worker *worker,
                            struct slipway_error **ret_error) {
    if (!worker) return 0;
    _cleanup_free_ char *deletion = NULL, *retirement = NULL;
    int result = find_child(service, switch_id, "delete", &deletion, ret_error);
    if (result >= 0 && !deletion) result = find_child(service, switch_id, "retire", &retirement, ret_error);
    if (result >= 0 && retirement) result = find_child(service, retirement, "delete", &deletion, ret_error);
    return result < 0 || !deletion ? result : tell(worker, deletion, "deletion", ret_error);
}

int slipway_blue_switch(struct slipway *service, const struct slipway_reindex_task *task,
                        const struct slipway_worker *deletion_worker, struct slipway_task **ret_task,
                        struct slipway_error **ret_error) {
    _cleanup_free_ char *task_id = NULL;
    struct slipway_task *ended = NULL;
    int result = begin_switch(service, task, &task_id, ret_error);
    if (result >= 0)
        result = slipway_wait_for_task(service, task_id, task->switch_timeout_ms ? task->switch_timeout_ms : SWITCH_MS,
                                       &ended, ret_error);
    if (result < 0) return result;
    if (!text_equal(ended->status, "done"))
        result = client_error(ret_error, SLIPWAY_DEPLOYMENT, 0, "The switch failed: %s", reason_of(ended));
    else
        result = tell_of_deletion(service, task_id, deletion_worker, ret_error);
    if (result < 0)
        slipway_task_free(ended);
    else
        *ret_task = ended;
    return result;
}
