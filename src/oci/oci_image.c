#include "oci/oci_image.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

#define LAYERS_MAXIMUM 1000
#define EPOCH "1970-01-01T00:00:00Z"

void oci_image_clear(struct oci_image *image) {
    free(image->config);
    free(image->manifest);
    free(image->media_type);
    free(image->base_layers);
    *image = (struct oci_image){0};
}

static int fail(struct error **ret_error, const char *what) {
    return error_set(ret_error, ERROR_EXTERNAL_SERVICE, "%s", what);
}

static int parse(const char *bytes, size_t size, const char *what, yyjson_doc **ret_document, yyjson_val **ret_root,
                 struct error **ret_error) {
    struct error *error = NULL;
    if (json_parse_object(bytes, size, ret_document, ret_root, &error) >= 0) return 0;
    _cleanup_free_ char *words = error_text(error);
    error_free(error);
    return error_set(ret_error, ERROR_EXTERNAL_SERVICE, "the image's %s is no JSON object: %s", what, words);
}

static int read_blob(yyjson_val *descriptor, struct oci_blob *ret_blob, struct error **ret_error) {
    const char *digest = yyjson_get_str(yyjson_obj_get(descriptor, "digest"));
    yyjson_val *size = yyjson_obj_get(descriptor, "size");
    if (!digest || !oci_is_digest(digest) || !yyjson_is_uint(size) || yyjson_get_uint(size) > INT64_MAX)
        return fail(ret_error,
                    "the image's manifest has a blob without a digest that is understood, or without a size");
    memcpy(ret_blob->digest, digest, strlen(digest) + 1);
    ret_blob->size_bytes = yyjson_get_uint(size);
    return 0;
}

int oci_image_config(const struct oci_manifest *manifest, struct oci_blob *ret_config, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = parse(manifest->bytes, manifest->size, "manifest", &document, &root, ret_error);
    if (result < 0) return result;
    yyjson_val *config = yyjson_obj_get(root, "config");
    const char *type = yyjson_get_str(yyjson_obj_get(config, "mediaType"));
    if (!text_equal(type, OCI_TYPE_CONFIG) && !text_equal(type, OCI_TYPE_DOCKER_CONFIG))
        return fail(ret_error, "this is no container image: its config is of another type");
    return read_blob(config, ret_config, ret_error);
}

static int read_layers(yyjson_val *root, struct oci_image *image, struct error **ret_error) {
    yyjson_val *layers = yyjson_obj_get(root, "layers");
    if (!yyjson_is_arr(layers) || yyjson_arr_size(layers) > LAYERS_MAXIMUM)
        return fail(ret_error, "the image's manifest has no list of layers, or a very long one");
    image->base_layers = mem_new_array(yyjson_arr_size(layers) + 1, struct oci_blob);
    size_t index, count;
    yyjson_val *layer;
    yyjson_arr_foreach(layers, index, count, layer) {
        int result = read_blob(layer, &image->base_layers[image->base_count++], ret_error);
        if (result < 0) return result;
    }
    return 0;
}

/* The object under the key, made when it is missing or null. */
static yyjson_mut_val *object_under(yyjson_mut_doc *document, yyjson_mut_val *parent, const char *key) {
    yyjson_mut_val *object = yyjson_mut_obj_get(parent, key);
    if (yyjson_mut_is_obj(object)) return object;
    yyjson_mut_obj_remove_key(parent, key);
    return yyjson_mut_obj_add_obj(document, parent, key);
}

static void set_labels(yyjson_mut_doc *document, yyjson_mut_val *object, const struct oci_label *labels, size_t count) {
    for (size_t i = 0; i < count; i++) {
        yyjson_mut_obj_remove_key(object, labels[i].name);
        json_add_text(document, object, labels[i].name, labels[i].value);
    }
}

static int extend_config(const char *config, size_t size, const struct oci_layer *layer, const struct oci_label *labels,
                         size_t label_count, struct oci_image *image, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *read = NULL;
    yyjson_val *read_root = NULL;
    int result = parse(config, size, "config", &read, &read_root, ret_error);
    if (result < 0) return result;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_doc_mut_copy(read, NULL);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(document);
    yyjson_mut_val *ids = yyjson_mut_obj_get(yyjson_mut_obj_get(root, "rootfs"), "diff_ids");
    if (!yyjson_mut_is_arr(ids) || yyjson_mut_arr_size(ids) != image->base_count)
        return fail(ret_error, "the image's config does not have as many layers as its manifest");
    yyjson_mut_arr_add_strcpy(document, ids, layer->diff_id);
    yyjson_mut_val *history = yyjson_mut_obj_get(root, "history");
    if (yyjson_mut_is_arr(history)) { /* without one, an only entry would not fit the layers */
        yyjson_mut_val *entry = yyjson_mut_arr_add_obj(document, history);
        json_add_text(document, entry, "created", EPOCH);
        json_add_text(document, entry, "created_by", layer->created_by);
    }
    yyjson_mut_val *inner = object_under(document, root, "config");
    set_labels(document, object_under(document, inner, "Labels"), labels, label_count);
    image->config = json_write(document, &image->config_size);
    oci_digest_bytes(image->config, image->config_size, image->config_digest);
    return 0;
}

static void extend_manifest(yyjson_doc *base, const struct oci_layer *layer, const struct oci_label *labels,
                            size_t label_count, struct oci_image *image) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_doc_mut_copy(base, NULL);
    yyjson_mut_val *root = yyjson_mut_doc_get_root(document);
    yyjson_mut_val *config = yyjson_mut_obj_get(root, "config");
    bool is_docker = text_equal(image->media_type, OCI_TYPE_DOCKER_MANIFEST);
    yyjson_mut_obj_remove_key(config, "digest");
    yyjson_mut_obj_remove_key(config, "size");
    yyjson_mut_obj_remove_key(config, "data"); /* it may hold the old config's bytes */
    json_add_text(document, config, "digest", image->config_digest);
    yyjson_mut_obj_add_uint(document, config, "size", image->config_size);
    yyjson_mut_val *entry = yyjson_mut_arr_add_obj(document, yyjson_mut_obj_get(root, "layers"));
    json_add_text(document, entry, "mediaType", is_docker ? OCI_TYPE_DOCKER_LAYER : OCI_TYPE_LAYER);
    json_add_text(document, entry, "digest", layer->digest);
    yyjson_mut_obj_add_uint(document, entry, "size", layer->size_bytes);
    if (!is_docker) set_labels(document, object_under(document, root, "annotations"), labels, label_count);
    image->manifest = json_write(document, &image->manifest_size);
    oci_digest_bytes(image->manifest, image->manifest_size, image->manifest_digest);
}

int oci_image_set_layer(const char *manifest, size_t size, const struct oci_layer *layer, char **ret_manifest,
                        size_t *ret_size, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *read = NULL;
    yyjson_val *ignored = NULL;
    int result = parse(manifest, size, "manifest", &read, &ignored, ret_error);
    if (result < 0) return result;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_doc_mut_copy(read, NULL);
    yyjson_mut_val *layers = yyjson_mut_obj_get(yyjson_mut_doc_get_root(document), "layers");
    yyjson_mut_val *entry = yyjson_mut_arr_get_first(layers);
    if (yyjson_mut_arr_size(layers) != 1 || !yyjson_mut_is_obj(entry))
        return fail(ret_error, "the image's manifest does not have one layer");
    static const char *const replaced[] = {"mediaType", "digest", "size"};
    for (size_t i = 0; i < ARRAY_SIZE(replaced); i++) yyjson_mut_obj_remove_key(entry, replaced[i]);
    json_add_text(document, entry, "mediaType", OCI_TYPE_LAYER);
    json_add_text(document, entry, "digest", layer->digest);
    yyjson_mut_obj_add_uint(document, entry, "size", layer->size_bytes);
    *ret_manifest = json_write(document, ret_size);
    return 0;
}

int oci_image_extend(const struct oci_manifest *base, const char *config, size_t config_size,
                     const struct oci_layer *layer, const struct oci_label *labels, size_t label_count,
                     struct oci_image *ret_image, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    _cleanup_oci_image_ struct oci_image image = {.media_type = text_copy(base->media_type)};
    struct oci_blob ignored;
    int result = parse(base->bytes, base->size, "manifest", &document, &root, ret_error);
    if (result < 0 || (result = oci_image_config(base, &ignored, ret_error)) < 0 ||
        (result = read_layers(root, &image, ret_error)) < 0 ||
        (result = extend_config(config, config_size, layer, labels, label_count, &image, ret_error)) < 0)
        return result;
    extend_manifest(document, layer, labels, label_count, &image);
    *ret_image = image;
    image = (struct oci_image){0};
    return 0;
}
