/* The handlers of /v1/packages. What is streamed is told of in upload.h. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/packages.h"
#include "controller/registries.h"
#include "controller/request.h"
#include "controller/upload.h"

#define DESCRIBE_WAIT_MS (10u * 60 * 1000)

/* ---- showing ---- */

static void add_digest(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *hex) {
    if (!hex) return;
    _cleanup_free_ char *text = text_format("sha256:%s", hex);
    json_add_text(document, object, key, text);
}

int package_render(struct store_transaction *tx, const struct package_row *row, yyjson_mut_doc *document,
                   yyjson_mut_val **ret_object, struct error **ret_error) {
    yyjson_mut_val *object = yyjson_mut_obj(document);
    _cleanup_free_ char *uri = text_format(PACKAGE_URI_PREFIX "%s", row->digest);
    add_digest(document, object, "digest", row->digest);
    json_add_text(document, object, "package_uri", uri);
    yyjson_mut_obj_add_sint(document, object, "size_bytes", row->size_bytes);
    yyjson_mut_obj_add_sint(document, object, "files", row->file_count);
    json_add_text(document, object, "source_uri", row->source_uri);
    json_add_text(document, object, "resolved_uri", row->resolved_uri);
    int result = package_add_pins(tx, row->digest, document, object, ret_error);
    if (result < 0) return result;
    json_add_time(document, object, "created_at", row->created_at);
    json_add_time(document, object, "used_at", row->used_at);
    *ret_object = object;
    return 0;
}

int api_package_list(struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    struct package_row *rows = NULL;
    size_t count = 0;
    int64_t limit, offset;
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_OFFSET, ret_error);
    if (result < 0 || (result = api_page(call, &limit, &offset, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = package_row_list(tx, limit, offset, &rows, &count, &call->total_count, ret_error)) < 0)
        return result;
    yyjson_mut_val *array = yyjson_mut_arr(document);
    for (size_t i = 0; i < count && result >= 0; i++) {
        yyjson_mut_val *object = NULL;
        result = package_render(tx, &rows[i], document, &object, ret_error);
        if (result >= 0) yyjson_mut_arr_append(array, object);
    }
    package_row_list_free(rows, count);
    if (result >= 0) api_answer(call, 200, document, array);
    return result < 0 ? result : 0;
}

/* ---- one: what it is, and what is in it ---- */

/* Row and image; API_WAIT while somebody else digests a layer. */
static int describe(struct api_call *call, struct package_row *ret_row, struct package_image *ret_image,
                    struct error **ret_error) {
    char digest[DIGEST_HEX_SIZE];
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = package_digest_parse(call->arguments[0], digest, ret_error)) < 0) return result;
    if (!call->wait_deadline_ms) call->wait_deadline_ms = clock_monotonic_ms() + DESCRIBE_WAIT_MS;
    result = package_describe(call->controller, digest, ret_row, ret_image, ret_error);
    if (result == API_WAIT && call->wait_is_over)
        return error_set(ret_error, ERROR_UNAVAILABLE, "other packages are being read; ask again");
    return result;
}

struct listing {
    yyjson_mut_doc *document;
    yyjson_mut_val *array;
};

static void list_file(const char *path, uint64_t size_bytes, void *context) {
    struct listing *listing = context;
    yyjson_mut_val *file = yyjson_mut_arr_add_obj(listing->document, listing->array);
    json_add_text(listing->document, file, "path", path);
    yyjson_mut_obj_add_uint(listing->document, file, "size_bytes", size_bytes);
}

static int add_contents(struct api_call *call, const struct package_row *row, yyjson_mut_doc *document,
                        yyjson_mut_val *object, struct error **ret_error) {
    _cleanup_free_ char *folder = NULL;
    int result = call->controller->packages->locate(call->controller->package_store, row->digest, &folder, ret_error);
    if (result < 0) return result;
    struct listing listing = {document, yyjson_mut_obj_add_arr(document, object, "contents")};
    return package_list_folder(folder, list_file, &listing, ret_error);
}

static void add_image(yyjson_mut_doc *document, yyjson_mut_val *object, const struct package_image *image) {
    add_digest(document, object, "manifest_digest", image->manifest_digest);
    add_digest(document, object, "config_digest", image->config_digest);
    add_digest(document, object, "layer_digest", image->layer_digest);
    yyjson_mut_obj_add_uint(document, object, "layer_size_bytes", image->layer_size_bytes);
    json_add_json(document, object, "manifest", image->manifest);
}

int api_package_get(struct api_call *call, struct error **ret_error) {
    _cleanup_package_row_ struct package_row row = {0};
    _cleanup_image_ struct package_image image = {0};
    int result = describe(call, &row, &image, ret_error);
    if (result) return result;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = NULL;
    if ((result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = package_render(tx, &row, document, &object, ret_error)) < 0)
        return result;
    store_rollback(TAKE(tx));
    json_add_json(document, object, "recipe", row.recipe_json);
    json_add_json(document, object, "facts", row.facts_json);
    add_image(document, object, &image);
    if ((result = add_contents(call, &row, document, object, ret_error)) < 0) return result;
    api_answer(call, 200, document, object);
    return 0;
}

int api_package_export(struct api_call *call, struct error **ret_error) {
    _cleanup_package_row_ struct package_row row = {0};
    _cleanup_image_ struct package_image image = {0};
    int result = describe(call, &row, &image, ret_error);
    if (result) return result;
    _cleanup_free_ char *folder = NULL, *holder = NULL;
    struct package_tar *layer = NULL;
    if ((result = package_hold(call->controller, row.digest, &folder, &holder, ret_error)) < 0) return result;
    if ((result = package_layer_open(folder, &layer, ret_error)) < 0) {
        package_let_go(call->controller, row.digest, holder, NULL);
        return result;
    }
    _cleanup_free_ char *reference = text_format("slipway/package:%.12s", row.digest);
    struct download *download = mem_new(struct download);
    download->layer = layer;
    download->archive = package_image_archive(&image, layer, reference);
    download->layer_offset = package_image_layer_offset(download->archive, layer);
    download->holder = TAKE(holder);
    download->file_name = text_format("%.12s.tar", row.digest);
    memcpy(download->layer_digest, image.layer_digest, sizeof download->layer_digest);
    memcpy(download->package_digest, row.digest, sizeof download->package_digest);
    call->download = download;
    return 0;
}

/* ---- making and removing ---- */

int api_package_import(struct api_call *call, struct error **ret_error) {
    (void)call; /* api_upload.c answers, unless the path was written in such a way that it was not known in time */
    return error_set(ret_error, ERROR_CONFIGURATION, "upload packages to /v1/packages, written so");
}

int api_package_build(struct api_call *call, struct error **ret_error) {
    static const char *const known[] = {"model_uri", "recipe"};
    _cleanup_json_ yyjson_doc *body = NULL;
    _cleanup_request_ struct deployment_request request = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_task_ struct task task = {0};
    yyjson_val *root = NULL;
    const char *uri = NULL;
    const struct registry_context registry = registries_context(call->controller);
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
        (result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error)) < 0 ||
        (result = json_get_text(root, "", "model_uri", true, &uri, ret_error)) < 0 ||
        (result = request_parse(root, "", REQUEST_MODEL_CONFIG, &registry, &request, ret_error)) < 0 ||
        (result = store_begin(call->controller->store, &tx, ret_error)) < 0 ||
        (result = operation_build_package(call->controller, tx, request.model_uri, request.recipe_json, &task,
                                          ret_error)) < 0 ||
        (result = api_answer_task(call, tx, task.id, 202, ret_error)) < 0)
        return result;
    call->changed = true;
    return store_commit(TAKE(tx), ret_error);
}

int api_package_delete(struct api_call *call, struct error **ret_error) {
    char digest[DIGEST_HEX_SIZE];
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0 || (result = package_digest_parse(call->arguments[0], digest, ret_error)) < 0 ||
        (result = package_remove(call->controller, digest, ret_error)) < 0)
        return result;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = yyjson_mut_obj(document);
    add_digest(document, object, "digest", digest);
    api_answer(call, 200, document, object);
    call->changed = true;
    return 0;
}

static void answer_pruned(struct api_call *call, const struct package_pruned *pruned, size_t count, bool dry_run) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = yyjson_mut_obj(document);
    yyjson_mut_val *array = yyjson_mut_obj_add_arr(document, object, "removed");
    int64_t size_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_val *item = yyjson_mut_arr_add_obj(document, array);
        add_digest(document, item, "digest", pruned[i].digest);
        yyjson_mut_obj_add_sint(document, item, "size_bytes", pruned[i].size_bytes);
        size_bytes += pruned[i].size_bytes;
    }
    yyjson_mut_obj_add_sint(document, object, "size_bytes", size_bytes);
    yyjson_mut_obj_add_bool(document, object, "dry_run", dry_run);
    api_answer(call, 200, document, object);
}

int api_package_prune(struct api_call *call, struct error **ret_error) {
    static const char *const known[] = {"dry_run", "all"};
    _cleanup_json_ yyjson_doc *body = NULL;
    yyjson_val *root = NULL;
    bool dry_run = false, all = false;
    int result = api_check_parameters(call, 0, ret_error);
    if (result >= 0 && call->body_size &&
        ((result = json_parse_object(call->body, call->body_size, &body, &root, ret_error)) < 0 ||
         (result = json_check_fields(root, "", known, ARRAY_SIZE(known), ret_error)) < 0 ||
         (result = json_get_boolean(root, "", "dry_run", &dry_run, ret_error)) < 0 ||
         (result = json_get_boolean(root, "", "all", &all, ret_error)) < 0))
        return result;
    struct package_pruned *pruned = NULL;
    size_t count = 0;
    if (result < 0 || (result = package_prune(call->controller, all, dry_run, &pruned, &count, ret_error)) < 0)
        return result;
    answer_pruned(call, pruned, count, dry_run);
    free(pruned);
    call->changed = !dry_run;
    return 0;
}
