#include "controller/request.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "batch/batch.h"
#include "controller/packages.h"
#include "registry/registry_servers.h"
#include "target/target.h"

#define REPLICAS_MAXIMUM 1000
#define CPU_MAXIMUM 1024
#define GPU_MAXIMUM 1024

void request_clear(struct deployment_request *request) {
    free(request->name);
    free(request->model_uri);
    free(request->target_json);
    free(request->recipe_json);
    free(request->tags_json);
    *request = (struct deployment_request){0};
}

static char *fill_in(const char *pattern, const char *model_id) {
    _cleanup_buffer_ struct buffer uri = {0};
    for (const char *at; (at = strstr(pattern, REQUEST_DEFAULT_ID)); pattern = at + strlen(REQUEST_DEFAULT_ID)) {
        buffer_append(&uri, pattern, (size_t)(at - pattern));
        buffer_append_text(&uri, model_id);
    }
    buffer_append_text(&uri, pattern);
    return buffer_take(&uri, NULL);
}

char *request_default_uri(const struct registry_context *registry, const char *pattern, const char *model_id) {
    _cleanup_free_ char *path = NULL;
    if (pattern && *pattern) return fill_in(pattern, model_id);
    for (size_t i = 0; i < registry->root_count; i++) {
        free(path);
        path = fs_join(registry->roots[i], model_id);
        if (fs_exists(path)) break;
    }
    return text_format("file://%s", path ? path : model_id);
}

static char *inside(const char *where, const char *field) {
    return text_format("%s%s%s", where, *where ? "." : "", field);
}

static int parse_resources(yyjson_val *resources, const char *where, double *ret_cpu, int64_t *ret_memory_bytes,
                           int64_t *ret_gpu, struct error **ret_error) {
    static const char *const known[] = {"cpu", "memory", "gpu"};
    int result = json_check_fields(resources, where, known, ARRAY_SIZE(known), ret_error);
    if (result < 0) return result;
    result = json_get_real(resources, where, "cpu", false, 0, CPU_MAXIMUM, ret_cpu, ret_error);
    if (result < 0) return result;
    result = json_get_number(resources, where, "gpu", false, 0, GPU_MAXIMUM, ret_gpu, ret_error);
    if (result < 0) return result;
    yyjson_val *memory = yyjson_obj_get(resources, "memory");
    if (!memory || yyjson_is_null(memory)) return 0;
    if (!yyjson_is_str(memory))
        return json_get_number(resources, where, "memory", false, 0, INT64_MAX, ret_memory_bytes, ret_error);
    uint64_t bytes = 0;
    if (!text_parse_size(yyjson_get_str(memory), &bytes) || bytes > INT64_MAX)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the field %s.memory must be a number of bytes or a size like \"2Gi\", not \"%.64s\"", where,
                         yyjson_get_str(memory));
    *ret_memory_bytes = (int64_t)bytes;
    return 0;
}

static int check_environment(yyjson_val *environment, const char *where, struct error **ret_error) {
    size_t index, maximum;
    yyjson_val *key, *value;
    yyjson_obj_foreach(environment, index, maximum, key, value) {
        if (!yyjson_is_str(value))
            return error_set(ret_error, ERROR_CONFIGURATION, "the field %s.env.%.64s must be a string", where,
                             yyjson_get_str(key));
    }
    return 0;
}

/* The other addresses in a target configuration, which is kept and shown as the model's is. */
static int check_addresses(yyjson_val *target, const char *where, struct error **ret_error) {
    static const char *const fields[] = {"input_uri", "output_uri", "serving_image"};
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        const char *address = yyjson_get_str(yyjson_obj_get(target, fields[i]));
        if (address && request_check_public(address, ret_error) < 0)
            return error_wrap(ret_error, "%s.%s", where, fields[i]);
    }
    return 0;
}

/* What belongs to one type alone. */
static int check_type(yyjson_val *target, const char *where, const char *type, bool *ret_is_batch,
                      struct error **ret_error) {
    *ret_is_batch = text_equal(type, "batch_inference_job");
    if (*ret_is_batch) {
        _cleanup_batch_spec_ struct batch_spec spec = {0};
        return batch_spec_parse(target, where, &spec, ret_error);
    }
    if (!text_equal(type, "api_service"))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s.type must be api_service or batch_inference_job, not \"%.64s\"", where, type);
    for (size_t i = 0; batch_fields[i]; i++)
        if (yyjson_obj_get(target, batch_fields[i]))
            return error_set(ret_error, ERROR_CONFIGURATION, "the field %s.%s belongs to the type batch_inference_job",
                             where, batch_fields[i]);
    return 0;
}

/* What of a target configuration has a type, and which values are known. */
static int check_target(yyjson_val *target, const char *where, struct deployment_request *request,
                        struct error **ret_error) {
    static const char *const known[] = {
        "type",      "target",      "serving_image", "replicas",   "port",      "strategy", "env",
        "input_uri", "output_uri",  "format",        "batch_size", "part_rows", "on_error", "priority",
        "id_field",  "input_field", "output_field",  "inputs",     "outputs",
    };
    int result = json_check_fields(target, where, known, ARRAY_SIZE(known), ret_error);
    if (result < 0) return result;
    const char *type = NULL, *name = "local", *strategy = "rolling", *text = NULL;
    int64_t number = 0;
    yyjson_val *environment = NULL;
    if ((result = json_get_text(target, where, "type", true, &type, ret_error)) < 0 ||
        (result = json_get_text(target, where, "target", false, &name, ret_error)) < 0 ||
        (result = json_get_text(target, where, "strategy", false, &strategy, ret_error)) < 0 ||
        (result = json_get_text(target, where, "serving_image", false, &text, ret_error)) < 0 ||
        (result = json_get_number(target, where, "port", false, 1, 65535, &number, ret_error)) < 0 ||
        (result = json_get_number(target, where, "replicas", false, 1, REPLICAS_MAXIMUM, &request->replicas,
                                  ret_error)) < 0 ||
        (result = json_get_object(target, where, "env", false, &environment, ret_error)) < 0)
        return result;
    if (!text_equal(strategy, "rolling") && !text_equal(strategy, "recreate"))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s.strategy must be rolling or recreate, not \"%.64s\"",
                         where, strategy);
    if (environment && (result = check_environment(environment, where, ret_error)) < 0) return result;
    if ((result = check_addresses(target, where, ret_error)) < 0 ||
        (result = check_type(target, where, type, &request->is_batch, ret_error)) < 0)
        return result;
    const struct target_ops *ops = NULL;
    return target_find(name, &ops, ret_error);
}

static int parse_target(yyjson_val *object, const char *where, bool required, bool allows_batch,
                        struct deployment_request *request, struct error **ret_error) {
    _cleanup_free_ char *path = inside(where, "deployment_target_config");
    yyjson_val *target = NULL;
    int result = json_get_object(object, where, "deployment_target_config", required, &target, ret_error);
    if (result < 0) return result;
    if (!target) {
        request->target_json = text_copy("{\"type\":\"api_service\"}");
        return 0;
    }
    if (!allows_batch && yyjson_equals_str(yyjson_obj_get(target, "type"), "batch_inference_job"))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s.type must be api_service here: a batch job is begun by POST /v1/deployments", path);
    result = check_target(target, path, request, ret_error);
    if (result >= 0) request->target_json = json_write_canonical(target);
    return result;
}

/* What cannot get better by waiting is refused at once: a link out of the folder, a device in it. What is merely not
 * there is for the task to find out, since it may come. */
static int check_content(const struct registry_ops *back_end, const struct registry_context *registry, const char *uri,
                         struct error **ret_error) {
    struct registry_resolution resolution = {0};
    struct error *error = NULL;
    int result = back_end->resolve(registry, uri, &resolution, &error);
    registry_resolution_clear(&resolution);
    if (result != -ERROR_CONFIGURATION) {
        error_free(error);
        return 0;
    }
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

static int check_uri(const struct registry_context *registry, const char *where, const char *uri,
                     struct error **ret_error) {
    const struct registry_ops *back_end = NULL;
    if (text_starts_with(uri, "package:")) { /* one that is here, or the fetch step says that it is not */
        char digest[DIGEST_HEX_SIZE];
        int malformed = package_digest_parse(uri, digest, ret_error);
        return malformed ? error_wrap(ret_error, "%s%smodel_uri", where, *where ? "." : "") : 0;
    }
    int result = request_check_public(uri, ret_error);
    if (result >= 0) result = registry_find(uri, &back_end, ret_error);
    if (result >= 0 && (result = back_end->check(registry, uri, ret_error)) < 0)
        registry_servers_explain(registry->servers, ret_error);
    if (result >= 0 && back_end->is_local) result = check_content(back_end, registry, uri, ret_error);
    return result < 0 ? error_wrap(ret_error, "%s%smodel_uri", where, *where ? "." : "") : 0;
}

static int parse_optional_objects(yyjson_val *object, const char *where, struct deployment_request *request,
                                  struct error **ret_error) {
    yyjson_val *tags = NULL, *recipe = NULL, *resources = NULL;
    int result;
    if ((result = json_get_object(object, where, "tags", false, &tags, ret_error)) < 0 ||
        (result = json_get_object(object, where, "recipe", false, &recipe, ret_error)) < 0 ||
        (result = json_get_object(object, where, "resource_allocation", false, &resources, ret_error)) < 0)
        return result;
    request->tags_json = tags ? json_write_value(tags, NULL) : text_copy("{}");
    request->recipe_json = recipe ? json_write_canonical(recipe) : NULL;
    if (!resources) return 0;
    _cleanup_free_ char *path = inside(where, "resource_allocation");
    return parse_resources(resources, path, &request->cpu, &request->memory_bytes, &request->gpu, ret_error);
}

static int parse_fields(yyjson_val *object, const char *where, enum request_form form,
                        const struct registry_context *registry, struct deployment_request *request,
                        struct error **ret_error) {
    static const char *const known[] = {"model_uri", "deployment_target_config", "resource_allocation", "tags",
                                        "recipe",    "deployment_name"};
    bool whole = form != REQUEST_MODEL_CONFIG;
    int result = json_check_fields(object, where, known, ARRAY_SIZE(known) - !whole, ret_error);
    if (result < 0) return result;
    const char *name = NULL, *uri = NULL;
    if ((result = json_get_text(object, where, "deployment_name", whole, &name, ret_error)) < 0 ||
        (result = json_get_text(object, where, "model_uri", whole, &uri, ret_error)) < 0)
        return result;
    if (whole && (!text_is_name(name) || text_is_uuid(name)))
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "deployment_name must be letters, digits, '.', '_' and '-', begin with a letter or digit, have "
            "at most 128 characters and not the shape of a UUID; it is \"%.128s\"",
            name);
    request->name = text_copy(name);
    request->model_uri = text_copy(uri);
    if ((result = parse_target(object, where, whole, form == REQUEST_WHOLE, request, ret_error)) < 0) return result;
    if ((result = parse_optional_objects(object, where, request, ret_error)) < 0) return result;
    return uri ? check_uri(registry, where, uri, ret_error) : 0;
}

int request_parse(yyjson_val *object, const char *where, enum request_form form,
                  const struct registry_context *registry, struct deployment_request *ret_request,
                  struct error **ret_error) {
    _cleanup_request_ struct deployment_request request = {.replicas = 1};
    int result = parse_fields(object, where, form, registry, &request, ret_error);
    if (result < 0) return result;
    *ret_request = request;
    request = (struct deployment_request){0};
    return 0;
}

void request_clear_patch(struct deployment_patch *patch) {
    free(patch->tags_json);
    *patch = (struct deployment_patch){0};
}

int request_parse_patch(yyjson_val *object, struct deployment_patch *ret_patch, struct error **ret_error) {
    static const char *const known[] = {"replicas", "resource_allocation", "tags"};
    struct deployment_patch patch = {.replicas = -1};
    yyjson_val *resources = NULL, *tags = NULL;
    int result;
    if ((result = json_check_fields(object, "", known, ARRAY_SIZE(known), ret_error)) < 0 ||
        (result = json_get_number(object, "", "replicas", false, 1, REPLICAS_MAXIMUM, &patch.replicas, ret_error)) <
            0 ||
        (result = json_get_object(object, "", "resource_allocation", false, &resources, ret_error)) < 0 ||
        (result = json_get_object(object, "", "tags", false, &tags, ret_error)) < 0)
        return result;
    if (resources && (result = parse_resources(resources, "resource_allocation", &patch.cpu, &patch.memory_bytes,
                                               &patch.gpu, ret_error)) < 0)
        return result;
    patch.has_replicas = patch.replicas >= 0;
    patch.has_resources = resources != NULL;
    patch.has_tags = tags != NULL;
    if (!patch.has_replicas && !patch.has_resources && !patch.has_tags)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the PATCH changes nothing: give replicas, resource_allocation or tags");
    patch.tags_json = tags ? json_write_value(tags, NULL) : NULL;
    *ret_patch = patch;
    return 0;
}
