/* The s3 registry. A URI is a prefix that is taken as a folder, or one object whose name ends with .onnx and which is
 * fetched as model.onnx. Only versions are immutable, and only one object can be named with one: a prefix has no
 * resolved_uri. What was listed is what is fetched all the same: each object must still have its ETag, which changes
 * when its bytes do (also that of a multipart upload). */
#include "registry/registry_s3.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"
#include "registry/registry_servers.h"

/* ---- check ---- */

static bool has_any_server(const struct registry_servers *servers) {
    for (size_t i = 0; servers && i < servers->count; i++)
        if (servers->list[i].kind == REGISTRY_S3) return true;
    return false;
}

static int s3_check(const struct registry_context *context, const char *uri, struct error **ret_error) {
    _cleanup_s3_uri_ struct registry_s3_uri parsed = {0};
    int result = registry_s3_parse(uri, &parsed, ret_error);
    if (result < 0) return result;
    if (registry_server_for(context->servers, REGISTRY_S3, parsed.bucket)) return 0;
    if (has_any_server(context->servers))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s: no [s3] section of the registries file has the bucket %s among its buckets", uri,
                         parsed.bucket);
    return registry_fail_unconfigured(uri, REGISTRY_S3_HOW, ret_error);
}

/* ---- resolve ---- */

struct resolving {
    const struct registry_context *context;
    struct s3 *s3;
    const struct registry_s3_uri *uri;
    const char *text; /* the URI as it was given */
    struct registry_resolution *resolution;
};

/* The ETag stands last, where fetch() finds it again. Weak ones, which are not S3's, tell nothing of bytes. */
static char *identity_of(const struct resolving *resolving, const struct s3_object *object) {
    if (!object->etag || *object->etag != '"' || !object->etag[1] || object->etag[1] == '"') return NULL;
    _cleanup_free_ char *key = text_percent_encode(object->key, strlen(object->key));
    return text_format("%s %s/%s %llu %s %s", s3_host(resolving->s3), resolving->uri->bucket, key,
                       (unsigned long long)object->size_bytes, object->version_id ? object->version_id : "-",
                       object->etag);
}

static int add_object(const struct resolving *resolving, const char *path, const struct s3_object *object,
                      struct error **ret_error) {
    _cleanup_free_ char *identity = identity_of(resolving, object);
    return registry_resolution_add(resolving->context, resolving->resolution, path, object->size_bytes, object->sha256,
                                   identity, object->key, ret_error);
}

static size_t count_maximum(const struct registry_context *context) {
    size_t own = REGISTRY_FILES_MAXIMUM, asked = context->file_maximum;
    return asked && asked < own ? asked : own;
}

/* Empty objects that end with '/' are what consoles make so that a folder shows. */
static bool is_folder_mark(const struct s3_object *object) {
    return text_ends_with(object->key, "/") && !object->size_bytes;
}

static int add_objects(const struct resolving *resolving, const char *prefix, const struct s3_objects *objects,
                       struct error **ret_error) {
    for (size_t i = 0; i < objects->count; i++) {
        const struct s3_object *object = &objects->list[i];
        if (is_folder_mark(object)) continue;
        int result = add_object(resolving, object->key + strlen(prefix), object, ret_error);
        if (result < 0) return error_wrap(ret_error, "%s", resolving->text);
    }
    return 0;
}

static int resolve_prefix(const struct resolving *resolving, struct error **ret_error) {
    const struct registry_s3_uri *uri = resolving->uri;
    _cleanup_free_ char *prefix = text_format("%s%s", uri->key, *uri->key && !text_ends_with(uri->key, "/") ? "/" : "");
    /* One more for the mark of the folder itself. */
    size_t maximum = count_maximum(resolving->context);
    struct s3_objects objects = {0};
    int result = s3_list(resolving->s3, uri->bucket, prefix, maximum + 1, &objects, ret_error);
    if (result == -ERROR_CONFIGURATION) return error_wrap(ret_error, "a model may have %zu files at most", maximum);
    if (result >= 0) result = add_objects(resolving, prefix, &objects, ret_error);
    s3_objects_clear(&objects);
    return result;
}

/* The location is the object itself, with the version that it has now. */
static int add_single(const struct resolving *resolving, const struct s3_object *object, struct error **ret_error) {
    struct registry_resolution *resolution = resolving->resolution;
    int result = add_object(resolving, "model.onnx", object, ret_error);
    if (result < 0) return error_wrap(ret_error, "%s", resolving->text);
    if (!object->version_id) return 0;
    free(resolution->location);
    resolution->location =
        text_format("s3://%s/%s?versionId=%s", resolving->uri->bucket, object->key, object->version_id);
    resolution->resolved_uri = text_copy(resolution->location);
    return 0;
}

static int resolve_object(const struct resolving *resolving, bool *ret_is_there, struct error **ret_error) {
    const struct registry_s3_uri *uri = resolving->uri;
    struct s3_object object = {0};
    int result = s3_head(resolving->s3, uri->bucket, uri->key, uri->version_id, &object, ret_error);
    if (result < 0) return result;
    *ret_is_there = object.key != NULL;
    if (object.key) result = add_single(resolving, &object, ret_error);
    s3_object_clear(&object);
    return result;
}

static int fail_missing(const struct resolving *resolving, struct error **ret_error) {
    const struct registry_s3_uri *uri = resolving->uri;
    struct s3_object object = {0};
    bool is_object = *uri->key && !text_ends_with(uri->key, "/") &&
                     s3_head(resolving->s3, uri->bucket, uri->key, uri->version_id, &object, NULL) >= 0 && object.key;
    s3_object_clear(&object);
    if (is_object)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is neither a prefix nor an .onnx object", resolving->text);
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "there is nothing at %s", resolving->text);
}

static int resolve_opened(const struct resolving *resolving, struct error **ret_error) {
    const struct registry_s3_uri *uri = resolving->uri;
    bool is_there = false;
    int result = 0;
    if (text_ends_with(uri->key, ".onnx")) result = resolve_object(resolving, &is_there, ret_error);
    if (result >= 0 && !is_there && !uri->version_id) result = resolve_prefix(resolving, ret_error);
    if (result < 0) return result;
    if (!resolving->resolution->file_count) return fail_missing(resolving, ret_error);
    return registry_resolution_finish(resolving->resolution, resolving->text, ret_error);
}

static int s3_resolve(const struct registry_context *context, const char *uri,
                      struct registry_resolution *ret_resolution, struct error **ret_error) {
    _cleanup_s3_uri_ struct registry_s3_uri parsed = {0};
    struct s3 *s3 = NULL;
    int result = s3_check(context, uri, ret_error);
    if (result >= 0) result = registry_s3_parse(uri, &parsed, ret_error);
    if (result >= 0) result = registry_s3_open(context, parsed.bucket, &s3, ret_error);
    if (result < 0) return result;
    struct registry_resolution resolution = {.location = text_copy(uri)};
    struct resolving resolving = {.context = context, .s3 = s3, .uri = &parsed, .text = uri, .resolution = &resolution};
    result = resolve_opened(&resolving, ret_error);
    s3_close(s3);
    if (result < 0) {
        registry_resolution_clear(&resolution);
        return result;
    }
    *ret_resolution = resolution;
    return 0;
}

/* ---- fetch ---- */

struct fetching {
    struct s3 *s3;
    const struct registry_s3_uri *uri;
    char **urls; /* as many as there are files */
    size_t url_count;
};

static const char *etag_of(const struct registry_file *file) {
    const char *at = file->identity;
    for (int i = 0; i < 4 && at; i++) at = strchr(at + (i > 0), ' ');
    return at ? at + 1 : NULL;
}

static int describe_object(void *state, const struct registry_file *file, struct transfer_file *ret_file,
                           struct error **ret_error) {
    struct fetching *fetching = state;
    const struct s3_object object = {
        .key = file->source,
        .etag = (char *)etag_of(file),
        .version_id = fetching->uri->version_id,
        .size_bytes = file->size_bytes,
        .sha256 = file->sha256,
    };
    return s3_describe_get(fetching->s3, fetching->uri->bucket, &object, ret_file,
                           &fetching->urls[fetching->url_count++], ret_error);
}

static int s3_fetch(const struct registry_context *context, const struct registry_resolution *resolution,
                    const char *folder, struct error **ret_error) {
    _cleanup_s3_uri_ struct registry_s3_uri uri = {0};
    struct fetching fetching = {.uri = &uri};
    int result = registry_s3_parse(resolution->location, &uri, ret_error);
    if (result >= 0) result = registry_s3_open(context, uri.bucket, &fetching.s3, ret_error);
    if (result < 0) return result;
    fetching.urls = mem_new_array(resolution->file_count, char *);
    result =
        registry_download(context, s3_transfer(fetching.s3), resolution, folder, describe_object, &fetching, ret_error);
    for (size_t i = 0; i < fetching.url_count; i++) free(fetching.urls[i]);
    free(fetching.urls);
    s3_close(fetching.s3);
    return result;
}

static const char *const schemes[] = {"s3", NULL};

const struct registry_ops s3_registry = {
    .name = "s3",
    .schemes = schemes,
    .check = s3_check,
    .resolve = s3_resolve,
    .fetch = s3_fetch,
};
