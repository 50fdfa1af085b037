/* A package as an OCI image (image-spec 1.1): a config, one layer that holds the model under model/, and a manifest
 * whose annotations say where the model came from.
 *
 * The store keeps a model once, as the folder that runners read. The layer is that folder as a tar (package_tar.h),
 * made where it is read and byte for byte the same each time and on every machine; config and manifest follow from its
 * digest and the package's row. So the image of a package costs no bytes on the disk, can be read at any offset (to
 * push it, and to go on with that after a break), and one tree gives one layer digest whatever registry it came from.
 *
 * Blocking; one thread at a time on one object. May use: base.
 */
#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "package/package.h"
#include "package/package_tar.h"

#define PACKAGE_MODEL_FOLDER "model" /* where a layer has the model */
#define PACKAGE_MEDIA_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define PACKAGE_MEDIA_CONFIG "application/vnd.oci.image.config.v1+json"
#define PACKAGE_MEDIA_LAYER "application/vnd.oci.image.layer.v1.tar"
#define PACKAGE_MEDIA_INDEX "application/vnd.oci.image.index.v1+json"

/* Annotations of the manifest: what is said of the model besides its bytes. */
#define PACKAGE_NOTE_DIGEST "io.slipway.package.digest" /* of the tree: "sha256:…" */
#define PACKAGE_NOTE_SOURCE "io.slipway.package.source" /* the URI as it was asked for */
#define PACKAGE_NOTE_RESOLVED "io.slipway.package.resolved" /* the exact version behind it */
#define PACKAGE_NOTE_RECIPE "io.slipway.package.recipe" /* JSON */
#define PACKAGE_NOTE_FACTS "io.slipway.package.facts" /* JSON: what the source says of the model: its signature */

/* Where a package came from, all borrowed; each may be NULL. Without credentials. */
struct package_origin {
    const char *source_uri, *resolved_uri, *recipe_json, *facts_json;
};

/* The layer of the package in `folder` (package_ops.locate), or of any folder like it: the same tree gives the same
 * bytes whatever the order, the modes and the times of its files. `files` in package_tree_read()'s sense. *ret_layer is
 * freed with package_tar_free(); its size is package_tar_size(). */
int package_layer_open(const char *folder, struct package_tar **ret_layer, struct error **ret_error);
/* SHA-256 of the layer, and of the tree that it was read from (package.h): reads every byte. The caller compares the
 * tree's with the package's digest. UNAVAILABLE "canceled" when *canceled (may be NULL) is set. */
int package_layer_digest(const char *folder, const atomic_bool *canceled, char ret_layer[DIGEST_HEX_SIZE],
                         uint64_t *ret_size_bytes, char ret_tree[DIGEST_HEX_SIZE], struct error **ret_error);

struct package_image {
    char *config, *manifest; /* JSON, exactly as digested */
    size_t config_size, manifest_size;
    char config_digest[DIGEST_HEX_SIZE], manifest_digest[DIGEST_HEX_SIZE], layer_digest[DIGEST_HEX_SIZE];
    uint64_t layer_size_bytes;
};
/* Config and manifest of the package. The config tells of the layer alone, so that one model has one config; the
 * manifest of where it came from, too. Never fails. */
void package_image_describe(const char *package_digest, const char *layer_digest, uint64_t layer_size_bytes,
                            const struct package_origin *origin, struct package_image *ret_image);
void package_image_clear(struct package_image *image);
#define _cleanup_image_ __attribute__((cleanup(package_image_clear)))

/* The whole image as an OCI image layout in a tar, with the manifest.json that older tools look for; `layer` is
 * borrowed and must outlive it. Its name in the layout is `reference` ("slipway:<digest>" if NULL). */
struct package_tar *package_image_archive(const struct package_image *image, struct package_tar *layer,
                                          const char *reference);
/* Where in that archive the layer begins. */
uint64_t package_image_layer_offset(const struct package_tar *archive, const struct package_tar *layer);
