/* POST /v1/packages/{digest}/push. */
#include "base/memory.h"
#include "controller/engine-internal.h"
#include "controller/push.h"

static int make_task(struct api_call *call, const char *digest, const struct oci_reference *reference,
                     struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 || (result = operation_push(call->controller, tx, digest, reference, &task, ret_error)) < 0 ||
        (result = api_answer_task(call, tx, task.id, 202, ret_error)) < 0)
        return result;
    return store_commit(TAKE(tx), ret_error);
}

int api_package_push(struct api_call *call, struct error **ret_error) {
    static const char *const known[] = {"reference"};
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_reference_ struct oci_reference reference = {0};
    yyjson_val *root = NULL;
    const char *text = NULL;
    char digest[DIGEST_HEX_SIZE];
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = package_digest_parse(call->arguments[0], digest, ret_error)) < 0 ||
        (result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
        (result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error)) < 0 ||
        (result = json_get_text(root, "", "reference", true, &text, ret_error)) < 0 ||
        (result = push_place_parse(call->controller, text, &reference, ret_error)) < 0)
        return result;
    if (reference.digest)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "reference: an image is pushed under a tag; its digest is what comes of it");
    package_gate_lock(call->controller->engine);
    result = make_task(call, digest, &reference, ret_error);
    package_gate_unlock(call->controller->engine);
    if (result >= 0) call->changed = true;
    return result;
}
