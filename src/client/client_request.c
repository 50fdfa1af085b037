#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

int client_add_json(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *json,
                    struct slipway_error **ret_error) {
    if (!json) return 0;
    yyjson_read_err failure;
    _cleanup_json_ yyjson_doc *parsed = yyjson_read_opts((char *)json, strlen(json), 0, NULL, &failure);
    if (!parsed)
        return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "%s is not JSON, at byte %zu: %s", key, failure.pos,
                            failure.msg);
    yyjson_mut_obj_add_val(document, object, key, yyjson_val_mut_copy(document, yyjson_doc_get_root(parsed)));
    return 0;
}

static void add_number(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, uint64_t number) {
    if (number) yyjson_mut_obj_add_uint(document, object, key, number);
}

static int add_job(const struct slipway_deployment_request *request, yyjson_mut_doc *document, yyjson_mut_val *target,
                   struct slipway_error **ret_error) {
    json_add_text(document, target, "input_uri", request->input_uri);
    json_add_text(document, target, "output_uri", request->output_uri);
    json_add_text(document, target, "format", request->format);
    json_add_text(document, target, "on_error", request->on_error);
    json_add_text(document, target, "priority", request->priority);
    json_add_text(document, target, "id_field", request->id_field);
    json_add_text(document, target, "input_field", request->input_field);
    json_add_text(document, target, "output_field", request->output_field);
    add_number(document, target, "batch_size", request->batch_size);
    add_number(document, target, "part_rows", request->part_rows);
    int result = client_add_json(document, target, "inputs", request->inputs_json, ret_error);
    return result < 0 ? result : client_add_json(document, target, "outputs", request->outputs_json, ret_error);
}

static int add_target(const struct slipway_deployment_request *request, yyjson_mut_doc *document,
                      yyjson_mut_val *object, struct slipway_error **ret_error) {
    yyjson_mut_val *target = yyjson_mut_obj_add_obj(document, object, "deployment_target_config");
    json_add_text(document, target, "type", request->type ? request->type : "api_service");
    json_add_text(document, target, "target", request->target);
    json_add_text(document, target, "serving_image", request->serving_image);
    json_add_text(document, target, "strategy", request->strategy);
    add_number(document, target, "replicas", request->replicas);
    add_number(document, target, "port", request->port);
    int result = add_job(request, document, target, ret_error);
    return result < 0 ? result : client_add_json(document, target, "env", request->env_json, ret_error);
}

int client_write_request(const struct slipway_deployment_request *request, enum client_form form,
                         yyjson_mut_doc *document, yyjson_mut_val **ret_object, struct slipway_error **ret_error) {
    yyjson_mut_val *object = yyjson_mut_obj(document);
    if (form == CLIENT_DEPLOYMENT) json_add_text(document, object, "deployment_name", request->deployment_name);
    json_add_text(document, object, "model_uri", request->model_uri);
    int result = add_target(request, document, object, ret_error);
    if (result < 0 || (result = client_add_json(document, object, "tags", request->tags_json, ret_error)) < 0 ||
        (result = client_add_json(document, object, "recipe", request->recipe_json, ret_error)) < 0)
        return result;
    if (request->cpu > 0 || request->memory_bytes || request->gpu) {
        yyjson_mut_val *resources = yyjson_mut_obj_add_obj(document, object, "resource_allocation");
        if (request->cpu > 0) yyjson_mut_obj_add_real(document, resources, "cpu", request->cpu);
        add_number(document, resources, "memory", request->memory_bytes);
        add_number(document, resources, "gpu", request->gpu);
    }
    *ret_object = object;
    return 0;
}
