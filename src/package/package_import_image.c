/* Which layer of an image holds the model: by the OCI image layout (image-spec, image-layout.md: index.json, then blobs
 * by their digests), or by the manifest.json of `docker save`. Everything that is named by a digest is compared with
 * it.
 */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package_image.h"
#include "package/package_import-internal.h"

#define INDEX_DEPTH 4 /* indexes that name indexes */
#define NOTE_MAXIMUM 4096 /* bytes of a URI that is kept */
#define JSON_NOTE_MAXIMUM (256u * 1024)

static const struct package_blob *find_blob(const struct package_survey *survey, const char *path) {
    for (size_t i = 0; i < survey->blob_count; i++)
        if (text_equal(survey->blobs[i].path, path)) return &survey->blobs[i];
    return NULL;
}

/* "sha256:<hex>" of a descriptor. */
static int read_digest(const char *text, const char *what, char ret_hex[DIGEST_HEX_SIZE], struct error **ret_error) {
    unsigned char bytes[DIGEST_SIZE];
    if (!text || !text_starts_with(text, "sha256:") || strlen(text) != 7 + 64 || !digest_parse(text + 7, bytes))
        return error_set(ret_error, ERROR_CONFIGURATION, "the image names %s by \"%.100s\", which is no SHA-256 digest",
                         what, text ? text : "");
    snprintf(ret_hex, DIGEST_HEX_SIZE, "%s", text + 7);
    return 0;
}

/* The JSON that a descriptor names; *ret_document is the caller's. */
static int read_blob(const struct package_survey *survey, const char *digest, const char *what,
                     yyjson_doc **ret_document, struct error **ret_error) {
    char hex[DIGEST_HEX_SIZE], actual[DIGEST_HEX_SIZE];
    int result = read_digest(digest, what, hex, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *path = text_format("blobs/sha256/%s", hex);
    const struct package_blob *blob = find_blob(survey, path);
    if (!blob)
        return error_set(ret_error, ERROR_CONFIGURATION, "the image lacks its %s, %s, or it is too large", what, path);
    digest_bytes(blob->bytes, blob->size, actual);
    if (!text_equal(actual, hex))
        return error_set(ret_error, ERROR_CONFIGURATION, "the image's %s is damaged: it has the digest %s, not %s",
                         what, actual, hex);
    yyjson_val *root = NULL;
    result = json_parse_object(blob->bytes, blob->size, ret_document, &root, ret_error);
    return result < 0 ? error_wrap(ret_error, "read the image's %s", what) : 0;
}

/* ---- from index to manifest ---- */

/* Signatures and attestations stand in indexes as manifests of no platform. */
static bool is_attestation(yyjson_val *descriptor) {
    return yyjson_equals_str(yyjson_obj_get(yyjson_obj_get(descriptor, "platform"), "os"), "unknown");
}

static int choose_manifest(yyjson_val *index, const char **ret_digest, struct error **ret_error) {
    yyjson_val *manifests = yyjson_obj_get(index, "manifests"), *descriptor;
    size_t at, count, found = 0;
    yyjson_arr_foreach(manifests, at, count, descriptor) {
        if (is_attestation(descriptor)) continue;
        *ret_digest = yyjson_get_str(yyjson_obj_get(descriptor, "digest"));
        found++;
    }
    if (found == 1) return 0;
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "the archive has %zu images: a package is one; copy the one that is meant into an archive of its own", found);
}

static int find_manifest(const struct package_survey *survey, yyjson_doc **ret_manifest, struct error **ret_error) {
    const struct package_blob *index = find_blob(survey, "index.json");
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(index->bytes, index->size, &document, &root, ret_error);
    if (result < 0) return error_wrap(ret_error, "read the image's index.json");
    for (int depth = 0; depth < INDEX_DEPTH; depth++) {
        if (!yyjson_obj_get(root, "manifests")) break;
        const char *digest = NULL;
        yyjson_doc *next = NULL;
        if ((result = choose_manifest(root, &digest, ret_error)) < 0 ||
            (result = read_blob(survey, digest, "manifest", &next, ret_error)) < 0)
            return result;
        yyjson_doc_free(document);
        document = next;
        root = yyjson_doc_get_root(document);
    }
    if (!yyjson_is_obj(yyjson_obj_get(root, "config")) || !yyjson_is_arr(yyjson_obj_get(root, "layers")))
        return error_set(ret_error, ERROR_CONFIGURATION, "the archive's index.json leads to no image manifest");
    *ret_manifest = TAKE(document);
    return 0;
}

/* ---- what the manifest says ---- */

static char *copy_note(yyjson_val *notes, const char *key) {
    const char *text = yyjson_get_str(yyjson_obj_get(notes, key));
    return text && *text && strlen(text) <= NOTE_MAXIMUM ? text_copy(text) : NULL;
}

/* JSON of ours that others may have touched: kept only when it is an object. */
static char *copy_json_note(yyjson_val *notes, const char *key) {
    const char *text = yyjson_get_str(yyjson_obj_get(notes, key));
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    if (!text || strlen(text) > JSON_NOTE_MAXIMUM || json_parse_object(text, strlen(text), &document, &root, NULL) < 0)
        return NULL;
    return text_copy(text);
}

static int read_notes(yyjson_val *manifest, struct package_import *import, struct error **ret_error) {
    yyjson_val *notes = yyjson_obj_get(manifest, "annotations");
    const char *tree = yyjson_get_str(yyjson_obj_get(notes, PACKAGE_NOTE_DIGEST));
    int result = tree ? read_digest(tree, "its package", import->tree_digest, ret_error) : 0;
    if (result < 0) return result;
    import->source_uri = copy_note(notes, PACKAGE_NOTE_SOURCE);
    import->resolved_uri = copy_note(notes, PACKAGE_NOTE_RESOLVED);
    import->recipe_json = copy_json_note(notes, PACKAGE_NOTE_RECIPE);
    import->facts_json = copy_json_note(notes, PACKAGE_NOTE_FACTS);
    return 0;
}

/* The last: a model goes on top of what serves it. */
static int read_diff_id(yyjson_val *config, size_t layer_count, char ret_hex[DIGEST_HEX_SIZE],
                        struct error **ret_error) {
    yyjson_val *ids = yyjson_obj_get(yyjson_obj_get(config, "rootfs"), "diff_ids");
    if (!layer_count || yyjson_arr_size(ids) != layer_count)
        return error_set(ret_error, ERROR_CONFIGURATION, "the image's config tells of %zu layers, its manifest of %zu",
                         yyjson_arr_size(ids), layer_count);
    return read_digest(yyjson_get_str(yyjson_arr_get_last(ids)), "its layer", ret_hex, ret_error);
}

static int understand_layout(const struct package_survey *survey, struct package_layer_reference *reference,
                             struct package_import *import, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *manifest = NULL, *config = NULL;
    int result = find_manifest(survey, &manifest, ret_error);
    if (result < 0) return result;
    yyjson_val *root = yyjson_doc_get_root(manifest), *layers = yyjson_obj_get(root, "layers");
    yyjson_val *layer = yyjson_arr_get_last(layers);
    if ((result = read_blob(survey, yyjson_get_str(yyjson_obj_get(yyjson_obj_get(root, "config"), "digest")), "config",
                            &config, ret_error)) < 0 ||
        (result = read_diff_id(yyjson_doc_get_root(config), yyjson_arr_size(layers), reference->diff_id, ret_error)) <
            0 ||
        (result = read_digest(yyjson_get_str(yyjson_obj_get(layer, "digest")), "its layer", reference->digest,
                              ret_error)) < 0 ||
        (result = read_notes(root, import, ret_error)) < 0)
        return result;
    yyjson_val *size = yyjson_obj_get(layer, "size");
    reference->size_bytes = yyjson_is_int(size) ? yyjson_get_sint(size) : -1;
    reference->path = text_format("blobs/sha256/%s", reference->digest);
    return 0;
}

/* ---- docker save ---- */

/* Its config is named by its digest: "<hex>.json" or "sha256:<hex>". */
static int check_config_name(const char *name, const struct package_blob *config, struct error **ret_error) {
    char actual[DIGEST_HEX_SIZE];
    digest_bytes(config->bytes, config->size, actual);
    if (strstr(name, actual)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "the image's config is damaged: %s has the digest %s", name,
                     actual);
}

static int understand_docker(const struct package_survey *survey, struct package_layer_reference *reference,
                             struct error **ret_error) {
    const struct package_blob *manifest = find_blob(survey, "manifest.json");
    _cleanup_json_ yyjson_doc *document = NULL, *config = NULL;
    int result = json_parse(manifest->bytes, manifest->size, &document, ret_error);
    if (result < 0) return error_wrap(ret_error, "read the image's manifest.json");
    yyjson_val *images = yyjson_doc_get_root(document), *image = yyjson_arr_get_first(images), *root = NULL;
    const char *config_path = yyjson_get_str(yyjson_obj_get(image, "Config"));
    yyjson_val *layers = yyjson_obj_get(image, "Layers");
    const struct package_blob *blob = config_path ? find_blob(survey, config_path) : NULL;
    const char *layer = yyjson_get_str(yyjson_arr_get_last(layers));
    if (yyjson_arr_size(images) != 1 || !blob || !layer)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the archive's manifest.json does not tell of one image with its config and layers");
    if ((result = check_config_name(config_path, blob, ret_error)) < 0) return result;
    if ((result = json_parse_object(blob->bytes, blob->size, &config, &root, ret_error)) < 0)
        return error_wrap(ret_error, "read the image's config");
    if ((result = read_diff_id(root, yyjson_arr_size(layers), reference->diff_id, ret_error)) < 0) return result;
    reference->size_bytes = -1;
    reference->path = text_copy(layer);
    return 0;
}

int package_image_understand(const struct package_survey *survey, struct package_layer_reference *ret_reference,
                             struct package_import *import, struct error **ret_error) {
    import->is_image = true;
    *ret_reference = (struct package_layer_reference){.size_bytes = -1};
    if (survey->has_layout && survey->has_index) return understand_layout(survey, ret_reference, import, ret_error);
    return understand_docker(survey, ret_reference, ret_error);
}
