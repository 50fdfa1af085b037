/* Tasks of kind `package`: fetch, verify, package, and nothing that runs. What such a task was asked for stands in its
 * metadata: {"model_uri", "recipe"}; what came of it too: "package_uri". */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/packages.h"
#include "controller/steps.h"

int operation_build_package(struct controller *controller, struct store_transaction *tx, const char *model_uri,
                            const char *recipe_json, struct task *ret_task, struct error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "model_uri", model_uri);
    json_add_json(document, root, "recipe", recipe_json);
    _cleanup_task_ struct task task = {.kind = text_copy("package"), .metadata_json = json_write(document, NULL)};
    int result = task_insert(tx, controller->settings, &task, ret_error);
    if (result < 0) return result;
    *ret_task = task;
    task = (struct task){0};
    return 0;
}

bool package_task_is(const struct task *task) {
    return text_equal(task->kind, "package");
}

int package_task_load(const struct task *task, struct revision *ret_revision, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(task->metadata_json ? task->metadata_json : "",
                                   task->metadata_json ? strlen(task->metadata_json) : 0, &document, &root, ret_error);
    if (result < 0) return error_wrap(ret_error, "read what task %s is to make", task->id);
    yyjson_val *recipe = yyjson_obj_get(root, "recipe");
    *ret_revision = (struct revision){
        .model_uri = text_copy(yyjson_get_str(yyjson_obj_get(root, "model_uri"))),
        .recipe_json = recipe ? json_write_value(recipe, NULL) : NULL,
    };
    return 0;
}

/* The task tells what came of it. */
static int tell_uri(struct step_run *run, struct store_transaction *tx, const char *digest, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *before = yyjson_read(run->task.metadata_json, strlen(run->task.metadata_json), 0);
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_doc_mut_copy(before, NULL);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(document);
    _cleanup_free_ char *uri = text_format(PACKAGE_URI_PREFIX "%s", digest);
    yyjson_mut_obj_remove_key(root, "package_uri");
    json_add_text(document, root, "package_uri", uri);
    _cleanup_free_ char *metadata = json_write(document, NULL);
    return store_run(tx, NULL, ret_error, "UPDATE tasks SET metadata_json = ? WHERE id = ?", "tt", metadata,
                     run->task.id);
}

int package_task_record(struct step_run *run, struct store_transaction *tx, const char *digest,
                        struct error **ret_error) {
    _cleanup_free_ char *kept = package_kept_holder(digest), *task_holder = text_format("task:%s", run->task.id);
    int result = pin_release(tx, kept, ret_error); /* its hour begins anew */
    if (result < 0 || (result = pin_package(tx, digest, kept, NULL, ret_error)) < 0 ||
        (result = tell_uri(run, tx, digest, ret_error)) < 0)
        return result;
    return pin_release(tx, task_holder, ret_error);
}

int package_task_undo(struct step_run *run, enum task_status ending, const struct error *why,
                      struct error **ret_error) {
    struct controller *controller = run->controller;
    controller->packages->abandon(controller->package_store, run->task.id);
    int result = pins_let_go(controller, NULL, 0, run->task.id, ret_error);
    if (result < 0) return result;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    if ((result = store_begin(controller->store, &tx, ret_error)) < 0 ||
        (result = task_load(tx, run->task.id, &task, ret_error)) < 0)
        return result;
    _cleanup_free_ char *detail = why           ? error_text(why)
                                  : task.detail ? text_format("canceled: %s", task.detail)
                                                : text_copy("canceled");
    if ((result = task_set_status(tx, run->task.id, ending, detail, why, ret_error)) < 0) return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int package_task_restart(struct store_transaction *tx, const struct task *task, struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error,
                           "UPDATE tasks SET attempts = 0, cancel_requested = 0, state_json = NULL, step = NULL, "
                           "deadline = 0 WHERE id = ?",
                           "t", task->id);
    return result < 0 ? result : task_set_status(tx, task->id, TASK_PENDING, NULL, NULL, ret_error);
}
