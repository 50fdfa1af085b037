/* What a manifest holds of a model. The forms: ORAS (one layer a file, titled; a folder is a tar to unpack), ModelKit
 * (KitOps: tars of the model and its parts), ModelPack (CNCF model-spec: weights and their configuration, raw or tar),
 * and images. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_oci-internal.h"

#define TITLE "org.opencontainers.image.title"
#define UNPACK "io.deis.oras.content.unpack"
#define FILE_PATH "org.cncf.model.filepath"
#define FACTS "io.slipway.package.facts"
#define KITOPS "application/vnd.kitops.modelkit."
#define MODELPACK "application/vnd.cncf.model."
#define EMPTY "application/vnd.oci.empty.v1+json"
#define FACTS_MAXIMUM (256u << 10)

static int fail(struct error **ret_error, const char *what) {
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "the manifest %s", what);
}

static const char *annotation(yyjson_val *object, const char *name) {
    const char *text = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(object, "annotations"), name));
    return text && *text ? text : NULL;
}

static bool is_tar(const char *media_type) {
    return strstr(media_type, ".tar") || strstr(media_type, "+tar") || strstr(media_type, "/tar");
}

static bool is_image_config(const char *media_type) {
    return text_equal(media_type, OCI_TYPE_CONFIG) || text_equal(media_type, OCI_TYPE_DOCKER_CONFIG);
}

/* The role of a layer by its media type and annotations; 0: it is no part of the model (documents, data sets, code). */
static int find_role(const char *media_type, yyjson_val *layer, const char **ret_name) {
    const char *title = annotation(layer, TITLE);
    *ret_name = title;
    if (text_starts_with(media_type, KITOPS)) {
        const char *kind = media_type + strlen(KITOPS);
        return text_starts_with(kind, "model.") || text_starts_with(kind, "modelpart.") ? OCI_ROLE_TREE : 0;
    }
    if (text_starts_with(media_type, MODELPACK)) {
        if (!text_starts_with(media_type + strlen(MODELPACK), "weight.")) return 0;
        if (is_tar(media_type)) return OCI_ROLE_TREE;
        if (annotation(layer, FILE_PATH)) *ret_name = annotation(layer, FILE_PATH);
        return *ret_name ? OCI_ROLE_FILE : 0;
    }
    if (!strcmp(media_type, EMPTY)) return 0;
    if (title) return text_equal(annotation(layer, UNPACK), "true") ? OCI_ROLE_TREE : OCI_ROLE_FILE;
    return is_tar(media_type) ? OCI_ROLE_TREE : 0;
}

static int add_layer(struct registry_oci_plan *plan, yyjson_val *layer, struct error **ret_error) {
    const char *media_type = yyjson_get_str(yyjson_obj_get(layer, "mediaType"));
    const char *digest = yyjson_get_str(yyjson_obj_get(layer, "digest"));
    yyjson_val *size = yyjson_obj_get(layer, "size");
    if (!media_type || !digest || !yyjson_is_uint(size) || yyjson_get_uint(size) > INT64_MAX)
        return fail(ret_error, "has a layer without media type, digest or size");
    const char *name = NULL;
    int role = plan->is_image ? OCI_ROLE_LAYER : find_role(media_type, layer, &name);
    if (!role) return 0;
    plan->layers = mem_resize(plan->layers, plan->count + 1, sizeof *plan->layers);
    plan->layers[plan->count++] = (struct registry_oci_layer){.role = (enum registry_oci_role)role,
                                                              .digest = text_copy(digest),
                                                              .name = role == OCI_ROLE_FILE ? text_copy(name) : NULL,
                                                              .size_bytes = yyjson_get_uint(size)};
    return 0;
}

static bool has_titles(yyjson_val *layers) {
    size_t index, count;
    yyjson_val *layer;
    yyjson_arr_foreach(layers, index, count, layer) {
        if (annotation(layer, TITLE)) return true;
    }
    return false;
}

static char *path_of(const char *path, const char *package) {
    if (path) return registry_oci_clean_path(path);
    return package ? text_copy(OCI_PACKAGE_PATH) : NULL;
}

/* What our own packages carry; what is no JSON object is left out. */
static char *read_facts(yyjson_val *root) {
    const char *facts = annotation(root, FACTS);
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *object = NULL;
    if (!facts || strlen(facts) > FACTS_MAXIMUM ||
        json_parse_object(facts, strlen(facts), &document, &object, NULL) < 0)
        return NULL;
    return text_copy(facts);
}

static int read_layers(yyjson_val *root, struct registry_oci_plan *plan, struct error **ret_error) {
    yyjson_val *layers = yyjson_obj_get(root, "layers");
    yyjson_val *config = yyjson_obj_get(root, "config");
    if (!yyjson_is_arr(layers)) return fail(ret_error, "has no list of layers");
    plan->is_image = is_image_config(yyjson_get_str(yyjson_obj_get(config, "mediaType"))) && !has_titles(layers);
    size_t index, count;
    yyjson_val *layer;
    yyjson_arr_foreach(layers, index, count, layer) {
        int result = add_layer(plan, layer, ret_error);
        if (result < 0) return result;
    }
    if (!plan->count) return fail(ret_error, "has no layer that is a model's");
    if (!plan->is_image) return 0;
    plan->path = path_of(annotation(root, OCI_PATH_LABEL), annotation(root, OCI_PACKAGE_LABEL));
    if (!plan->path) plan->config_digest = text_copy(yyjson_get_str(yyjson_obj_get(config, "digest")));
    return 0;
}

int registry_oci_plan_read(const char *bytes, size_t size, struct registry_oci_plan *ret_plan,
                           struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    struct error *error = NULL;
    if (json_parse_object(bytes, size, &document, &root, &error) < 0) {
        error->class = ERROR_MODEL_REGISTRY;
        if (ret_error)
            *ret_error = error;
        else
            error_free(error);
        return error_wrap(ret_error, "read the manifest");
    }
    _cleanup_plan_ struct registry_oci_plan plan = {0};
    int result = read_layers(root, &plan, ret_error);
    if (result < 0) return result;
    plan.facts_json = read_facts(root);
    *ret_plan = plan;
    plan = (struct registry_oci_plan){0};
    return 0;
}

void registry_oci_plan_clear(struct registry_oci_plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        free(plan->layers[i].digest);
        free(plan->layers[i].name);
    }
    free(plan->layers);
    free(plan->path);
    free(plan->config_digest);
    free(plan->facts_json);
    *plan = (struct registry_oci_plan){0};
}

char *registry_oci_label(const char *config, size_t size) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    if (json_parse_object(config, size, &document, &root, NULL) < 0) return NULL;
    yyjson_val *labels = yyjson_obj_get(yyjson_obj_get(root, "config"), "Labels");
    return path_of(yyjson_get_str(yyjson_obj_get(labels, OCI_PATH_LABEL)),
                   yyjson_get_str(yyjson_obj_get(labels, OCI_PACKAGE_LABEL)));
}
