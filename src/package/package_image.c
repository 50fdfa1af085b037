#include "package/package_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package-internal.h"

#define READ_BYTES (1u << 20)
#define LAYOUT_VERSION "1.0.0"
#define EPOCH "1970-01-01T00:00:00Z"

/* ---- the layer ---- */

/* The folders that `path` lies in and `previous` does not, outermost first. Paths come sorted, so each stands once and
 * before what it holds. */
static void add_folders(struct package_tar *layer, const char *path, const char *previous) {
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t size = (size_t)(slash - path) + 1;
        if (!strncmp(path, previous, size)) continue;
        _cleanup_free_ char *name = text_format(PACKAGE_MODEL_FOLDER "/%.*s", (int)size - 1, path);
        package_tar_add_folder(layer, name);
    }
}

static struct package_tar *make_layer(const char *folder, const struct package_tree *tree) {
    struct package_tar *layer = package_tar_new();
    package_tar_add_folder(layer, PACKAGE_MODEL_FOLDER);
    const char *previous = "";
    for (size_t i = 0; i < tree->file_count; i++) {
        const struct package_tree_file *file = &tree->files[i];
        _cleanup_free_ char *path = fs_join(folder, file->path);
        _cleanup_free_ char *name = text_format(PACKAGE_MODEL_FOLDER "/%s", file->path);
        add_folders(layer, file->path, previous);
        package_tar_add_file(layer, name, path, file->size_bytes);
        previous = file->path;
    }
    return layer;
}

int package_layer_open(const char *folder, struct package_tar **ret_layer, struct error **ret_error) {
    _cleanup_tree_ struct package_tree tree = {0};
    int result = package_tree_read(folder, &tree, ret_error);
    if (result < 0) return result;
    *ret_layer = make_layer(folder, &tree);
    return 0;
}

int package_layer_digest(const char *folder, const atomic_bool *canceled, char ret_layer[DIGEST_HEX_SIZE],
                         uint64_t *ret_size_bytes, char ret_tree[DIGEST_HEX_SIZE], struct error **ret_error) {
    _cleanup_tree_ struct package_tree tree = {0};
    int result = package_tree_read(folder, &tree, ret_error);
    if (result < 0) return result;
    struct package_info info = {0};
    /* Two readings: what the second one reads stands in the kernel's cache for all but the largest models. */
    if ((result = package_hash_folder(folder, &info, ret_error)) < 0) return result;
    _cleanup_tar_ struct package_tar *layer = make_layer(folder, &tree);
    _cleanup_free_ char *block = mem_alloc(READ_BYTES);
    struct digest *digest = digest_new();
    uint64_t offset = 0;
    size_t size = 1;
    while (result >= 0 && size) {
        if (canceled && atomic_load(canceled))
            result = error_set(ret_error, ERROR_UNAVAILABLE, "canceled");
        else if ((result = package_tar_read(layer, offset, block, READ_BYTES, &size, ret_error)) >= 0)
            digest_update(digest, block, size);
        offset += size;
    }
    digest_finish(digest, ret_layer);
    if (result < 0) return result;
    memcpy(ret_tree, info.digest, DIGEST_HEX_SIZE);
    *ret_size_bytes = package_tar_size(layer);
    return 0;
}

/* ---- config and manifest ---- */

static void add_digest(yyjson_mut_doc *document, yyjson_mut_val *object, const char *key, const char *hex) {
    _cleanup_free_ char *text = text_format("sha256:%s", hex);
    json_add_text(document, object, key, text);
}

/* A model is for every machine, but an image must name one: what most engines run on pulls it without being asked. */
static char *write_config(const char *layer_digest, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "created", EPOCH);
    json_add_text(document, root, "architecture", "amd64");
    json_add_text(document, root, "os", "linux");
    yyjson_mut_obj_add_obj(document, root, "config");
    yyjson_mut_val *rootfs = yyjson_mut_obj_add_obj(document, root, "rootfs");
    json_add_text(document, rootfs, "type", "layers");
    yyjson_mut_val *ids = yyjson_mut_obj_add_arr(document, rootfs, "diff_ids");
    _cleanup_free_ char *id = text_format("sha256:%s", layer_digest);
    yyjson_mut_arr_add_strcpy(document, ids, id);
    yyjson_mut_val *history = yyjson_mut_obj_add_arr(document, root, "history");
    yyjson_mut_val *step = yyjson_mut_arr_add_obj(document, history);
    json_add_text(document, step, "created", EPOCH);
    json_add_text(document, step, "created_by", "slipway package");
    return json_write(document, ret_size);
}

static void add_descriptor(yyjson_mut_doc *document, yyjson_mut_val *object, const char *media_type, const char *hex,
                           uint64_t size) {
    json_add_text(document, object, "mediaType", media_type);
    add_digest(document, object, "digest", hex);
    yyjson_mut_obj_add_uint(document, object, "size", size);
}

static char *write_manifest(const char *package_digest, const struct package_image *image,
                            const struct package_origin *origin, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_int(document, root, "schemaVersion", 2);
    json_add_text(document, root, "mediaType", PACKAGE_MEDIA_MANIFEST);
    add_descriptor(document, yyjson_mut_obj_add_obj(document, root, "config"), PACKAGE_MEDIA_CONFIG,
                   image->config_digest, image->config_size);
    yyjson_mut_val *layers = yyjson_mut_obj_add_arr(document, root, "layers");
    add_descriptor(document, yyjson_mut_arr_add_obj(document, layers), PACKAGE_MEDIA_LAYER, image->layer_digest,
                   image->layer_size_bytes);
    yyjson_mut_val *notes = yyjson_mut_obj_add_obj(document, root, "annotations");
    add_digest(document, notes, PACKAGE_NOTE_DIGEST, package_digest);
    json_add_text(document, notes, PACKAGE_NOTE_SOURCE, origin->source_uri);
    json_add_text(document, notes, PACKAGE_NOTE_RESOLVED, origin->resolved_uri);
    json_add_text(document, notes, PACKAGE_NOTE_RECIPE, origin->recipe_json);
    json_add_text(document, notes, PACKAGE_NOTE_FACTS, origin->facts_json);
    return json_write(document, ret_size);
}

void package_image_describe(const char *package_digest, const char *layer_digest, uint64_t layer_size_bytes,
                            const struct package_origin *origin, struct package_image *ret_image) {
    static const struct package_origin nowhere;
    struct package_image image = {.layer_size_bytes = layer_size_bytes};
    snprintf(image.layer_digest, sizeof image.layer_digest, "%s", layer_digest);
    image.config = write_config(layer_digest, &image.config_size);
    digest_bytes(image.config, image.config_size, image.config_digest);
    image.manifest = write_manifest(package_digest, &image, origin ? origin : &nowhere, &image.manifest_size);
    digest_bytes(image.manifest, image.manifest_size, image.manifest_digest);
    *ret_image = image;
}

void package_image_clear(struct package_image *image) {
    free(image->config);
    free(image->manifest);
    *image = (struct package_image){0};
}

/* ---- the layout ---- */

static char *write_index(const struct package_image *image, const char *reference, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_obj_add_int(document, root, "schemaVersion", 2);
    json_add_text(document, root, "mediaType", PACKAGE_MEDIA_INDEX);
    yyjson_mut_val *entry = yyjson_mut_arr_add_obj(document, yyjson_mut_obj_add_arr(document, root, "manifests"));
    add_descriptor(document, entry, PACKAGE_MEDIA_MANIFEST, image->manifest_digest, image->manifest_size);
    json_add_text(document, yyjson_mut_obj_add_obj(document, entry, "annotations"), "org.opencontainers.image.ref.name",
                  reference);
    return json_write(document, ret_size);
}

static char *blob_path(const char *hex) {
    return text_format("blobs/sha256/%s", hex);
}

/* As `docker save` writes it: tools that know no layouts load the same blobs by it. */
static char *write_docker_manifest(const struct package_image *image, const char *reference, size_t *ret_size) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_arr(document), *entry = yyjson_mut_arr_add_obj(document, root);
    yyjson_mut_doc_set_root(document, root);
    _cleanup_free_ char *config = blob_path(image->config_digest), *layer = blob_path(image->layer_digest);
    json_add_text(document, entry, "Config", config);
    yyjson_mut_arr_add_strcpy(document, yyjson_mut_obj_add_arr(document, entry, "RepoTags"), reference);
    yyjson_mut_arr_add_strcpy(document, yyjson_mut_obj_add_arr(document, entry, "Layers"), layer);
    return json_write(document, ret_size);
}

static void add_blob(struct package_tar *archive, const char *hex, const char *bytes, size_t size) {
    _cleanup_free_ char *path = blob_path(hex);
    package_tar_add_bytes(archive, path, bytes, size);
}

struct package_tar *package_image_archive(const struct package_image *image, struct package_tar *layer,
                                          const char *reference) {
    static const char layout[] = "{\"imageLayoutVersion\":\"" LAYOUT_VERSION "\"}";
    _cleanup_free_ char *name =
        reference ? text_copy(reference) : text_format("slipway/package:%.12s", image->layer_digest);
    size_t index_size = 0, docker_size = 0;
    _cleanup_free_ char *index = write_index(image, name, &index_size);
    _cleanup_free_ char *docker = write_docker_manifest(image, name, &docker_size);
    _cleanup_free_ char *layer_path = blob_path(image->layer_digest);
    struct package_tar *archive = package_tar_new();
    package_tar_add_bytes(archive, "oci-layout", layout, sizeof layout - 1);
    package_tar_add_bytes(archive, "index.json", index, index_size);
    package_tar_add_bytes(archive, "manifest.json", docker, docker_size);
    package_tar_add_folder(archive, "blobs");
    package_tar_add_folder(archive, "blobs/sha256");
    add_blob(archive, image->config_digest, image->config, image->config_size);
    add_blob(archive, image->manifest_digest, image->manifest, image->manifest_size);
    package_tar_add_tar(archive, layer_path, layer);
    return archive;
}

/* It is the last entry: behind it are two empty blocks, and a tar is whole blocks long. */
uint64_t package_image_layer_offset(const struct package_tar *archive, const struct package_tar *layer) {
    return package_tar_size(archive) - PACKAGE_TAR_END_BYTES - package_tar_size(layer);
}
