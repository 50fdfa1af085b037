/* Packages: upload and download as streams, and the calls on one of them. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define PACKAGES "/v1/packages"
#define PATIENCE_MS (10u * 60 * 1000) /* while the service reads or writes a whole model, nothing is heard of it */

struct owned_package {
    struct slipway_package package;
    yyjson_doc *document;
    char *json;
};

void slipway_package_free(struct slipway_package *package) {
    if (!package) return;
    struct owned_package *owned = CONTAINER_OF(package, struct owned_package, package);
    yyjson_doc_free(owned->document);
    free(owned->json);
    free(owned);
}

static const char *text_field(yyjson_val *object, const char *field) {
    return yyjson_get_str(yyjson_obj_get(object, field));
}

static int send_for_package(struct slipway *service, const struct client_request *request,
                            struct slipway_package **ret_package, struct slipway_error **ret_error) {
    _cleanup_answer_ struct client_answer answer = {0};
    yyjson_doc *document = NULL;
    int result = client_send(service, request, &answer, ret_error);
    if (result < 0 || (result = client_read_object(&answer, &document, ret_error)) < 0) return result;
    yyjson_val *root = yyjson_doc_get_root(document);
    struct owned_package *owned = mem_new(struct owned_package);
    owned->document = document;
    owned->json = json_write_value(root, NULL);
    owned->package = (struct slipway_package){
        .digest = text_field(root, "digest"),
        .package_uri = text_field(root, "package_uri"),
        .size_bytes = yyjson_get_uint(yyjson_obj_get(root, "size_bytes")),
        .file_count = yyjson_get_uint(yyjson_obj_get(root, "files")),
        .source_uri = text_field(root, "source_uri"),
        .resolved_uri = text_field(root, "resolved_uri"),
        .created_at = text_field(root, "created_at"),
        .used_at = text_field(root, "used_at"),
        .json = owned->json,
    };
    *ret_package = &owned->package;
    return 0;
}

static uint32_t patience(const struct slipway *service) {
    return service->timeout_ms > PATIENCE_MS ? service->timeout_ms : PATIENCE_MS;
}

/* ---- upload ---- */

int slipway_import_package(struct slipway *service, const struct slipway_upload *upload,
                           struct slipway_package **ret_package, struct slipway_error **ret_error) {
    const struct client_request request = {
        .method = "POST",
        .path = PACKAGES,
        .read = upload->read,
        .read_context = upload->context,
        .body_size = (size_t)upload->size_bytes,
        .content_type = "application/x-tar",
        .quiet_ms = patience(service),
    };
    return send_for_package(service, &request, ret_package, ret_error);
}

static int64_t read_file(void *context, char *buffer, size_t size) {
    FILE *file = context;
    size_t count = fread(buffer, 1, size, file);
    return !count && ferror(file) ? -1 : (int64_t)count;
}

int slipway_import_package_file(struct slipway *service, FILE *file, struct slipway_package **ret_package,
                                struct slipway_error **ret_error) {
    struct stat status;
    off_t at = ftello(file);
    bool is_known = !fstat(fileno(file), &status) && S_ISREG(status.st_mode) && at >= 0 && at < status.st_size;
    const struct slipway_upload upload = {
        .read = read_file, .context = file, .size_bytes = is_known ? (uint64_t)(status.st_size - at) : 0};
    return slipway_import_package(service, &upload, ret_package, ret_error);
}

/* ---- download ---- */

int slipway_export_package(struct slipway *service, const char *digest,
                           bool (*take)(void *context, const char *bytes, size_t size), void *context,
                           struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(PACKAGES "/", digest, "/export");
    const struct client_request request = {
        .method = "GET", .path = path, .take = take, .take_context = context, .timeout_ms = patience(service)};
    _cleanup_answer_ struct client_answer answer = {0};
    return client_send(service, &request, &answer, ret_error);
}

static bool write_to_file(void *context, const char *bytes, size_t size) {
    return fwrite(bytes, 1, size, context) == size;
}

int slipway_export_package_file(struct slipway *service, const char *digest, FILE *file,
                                struct slipway_error **ret_error) {
    return slipway_export_package(service, digest, write_to_file, file, ret_error);
}

/* ---- the others ---- */

int slipway_get_package(struct slipway *service, const char *digest, struct slipway_package **ret_package,
                        struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(PACKAGES "/", digest, "");
    const struct client_request request = {.method = "GET", .path = path, .timeout_ms = patience(service)};
    return send_for_package(service, &request, ret_package, ret_error);
}

int slipway_build_package(struct slipway *service, const char *model_uri, const char *recipe_json,
                          struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "model_uri", model_uri);
    int result = client_add_json(document, root, "recipe", recipe_json, ret_error);
    return result < 0 ? result : client_post_for_task(service, PACKAGES "/build", document, ret_task, ret_error);
}

int slipway_remove_package(struct slipway *service, const char *digest, struct slipway_error **ret_error) {
    _cleanup_free_ char *path = client_path(PACKAGES "/", digest, "");
    const struct client_request request = {.method = "DELETE", .path = path, .timeout_ms = patience(service)};
    _cleanup_answer_ struct client_answer answer = {0};
    return client_send(service, &request, &answer, ret_error);
}

int slipway_prune_packages(struct slipway *service, bool all, bool dry_run, char **ret_json,
                           struct slipway_error **ret_error) {
    _cleanup_free_ char *body =
        text_format("{\"all\":%s,\"dry_run\":%s}", all ? "true" : "false", dry_run ? "true" : "false");
    const struct client_request request = {.method = "POST",
                                           .path = PACKAGES "/prune",
                                           .body = body,
                                           .body_size = strlen(body),
                                           .timeout_ms = patience(service)};
    _cleanup_answer_ struct client_answer answer = {0};
    int result = client_send(service, &request, &answer, ret_error);
    if (result >= 0) *ret_json = buffer_take(&answer.body, NULL);
    return result;
}
