/* The life of a task of kind `push`. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/push.h"

static char *holder_of(const char *task_id) {
    return text_format("task:%s", task_id);
}

int operation_push(struct controller *controller, struct store_transaction *tx, const char *package_digest,
                   const struct oci_reference *reference, struct task *ret_task, struct error **ret_error) {
    _cleanup_package_row_ struct package_row row = {0};
    int result = package_row_load(tx, package_digest, &row, ret_error);
    if (result < 0) return result;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    _cleanup_free_ char *uri = text_format(PACKAGE_URI_PREFIX "%s", package_digest);
    _cleanup_free_ char *place = oci_reference_text(reference);
    json_add_text(document, root, "package_uri", uri);
    json_add_text(document, root, "image_reference", place);
    _cleanup_task_ struct task task = {.kind = text_copy("push"), .metadata_json = json_write(document, NULL)};
    if ((result = task_insert(tx, controller->settings, &task, ret_error)) < 0) return result;
    _cleanup_free_ char *holder = holder_of(task.id);
    if ((result = pin_package(tx, package_digest, holder, task.id, ret_error)) < 0) return result;
    *ret_task = task;
    task = (struct task){0};
    return 0;
}

bool push_task_is(const struct task *task) {
    return text_equal(task->kind, "push");
}

int push_task_load(const struct task *task, char **ret_package_digest, struct oci_reference *ret_reference,
                   struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    const char *metadata = task->metadata_json ? task->metadata_json : "";
    int result = json_parse_object(metadata, strlen(metadata), &document, &root, ret_error);
    if (result < 0) return error_wrap(ret_error, "read what task %s is to push", task->id);
    const char *uri = yyjson_get_str(yyjson_obj_get(root, "package_uri"));
    const char *place = yyjson_get_str(yyjson_obj_get(root, "image_reference"));
    if (!uri || !place || !text_starts_with(uri, PACKAGE_URI_PREFIX))
        return error_set(ret_error, ERROR_DEPLOYMENT, "task %s does not say what it is to push", task->id);
    if ((result = oci_reference_parse(place, ret_reference, ret_error)) < 0) return result;
    *ret_package_digest = text_copy(uri + strlen(PACKAGE_URI_PREFIX));
    return 0;
}

int push_task_record(struct step_run *run, struct store_transaction *tx, const char *image_digest,
                     struct error **ret_error) {
    _cleanup_json_ yyjson_doc *before = yyjson_read(run->task.metadata_json, strlen(run->task.metadata_json), 0);
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_doc_mut_copy(before, NULL);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(document);
    yyjson_mut_obj_remove_key(root, "image_digest");
    json_add_text(document, root, "image_digest", image_digest);
    _cleanup_free_ char *metadata = json_write(document, NULL), *holder = holder_of(run->task.id);
    int result =
        store_run(tx, NULL, ret_error, "UPDATE tasks SET metadata_json = ? WHERE id = ?", "tt", metadata, run->task.id);
    return result < 0 ? result : pin_release(tx, holder, ret_error);
}

char *push_task_detail(const struct task *task) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(task, &state);
    return TAKE(state.note);
}

int push_task_restart(struct store_transaction *tx, const struct task *task, struct error **ret_error) {
    _cleanup_free_ char *digest = NULL, *holder = holder_of(task->id);
    _cleanup_reference_ struct oci_reference reference = {0};
    _cleanup_package_row_ struct package_row row = {0};
    int result = push_task_load(task, &digest, &reference, ret_error);
    if (result < 0) return result;
    if (package_row_load(tx, digest, &row, NULL) < 0)
        return error_set(ret_error, ERROR_CONFLICT, "the package of task %s is gone: there is nothing to push",
                         task->id);
    if ((result = pin_package(tx, digest, holder, task->id, ret_error)) < 0 ||
        (result = store_run(tx, NULL, ret_error,
                            "UPDATE tasks SET attempts = 0, cancel_requested = 0, state_json = NULL, step = NULL, "
                            "deadline = 0 WHERE id = ?",
                            "t", task->id)) < 0)
        return result;
    return task_set_status(tx, task->id, TASK_PENDING, NULL, NULL, ret_error);
}
