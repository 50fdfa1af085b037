/* Images that are made of other images: a layer on top of what is there (OCI Image Specification 1.1; Docker's image
 * manifest, version 2, schema 2). Pure: bytes in, bytes out, the same each time. May use: base. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "oci/oci.h"

struct oci_label {
    const char *name, *value; /* a NULL value: left out */
};
/* What goes on top: a tar in gzip. */
struct oci_layer {
    const char *digest, *diff_id; /* "sha256:…" of the gzip, and of the tar in it */
    uint64_t size_bytes;
    const char *created_by; /* for the config's history */
};
struct oci_blob {
    char digest[72];
    uint64_t size_bytes;
};
struct oci_image {
    char *config, *manifest; /* JSON, exactly as digested */
    size_t config_size, manifest_size;
    char config_digest[72], manifest_digest[72];
    char *media_type; /* of the manifest: the base's */
    struct oci_blob *base_layers;
    size_t base_count;
};
void oci_image_clear(struct oci_image *image);
#define _cleanup_oci_image_ __attribute__((cleanup(oci_image_clear)))

/* The digest and size of the config that a manifest names. EXTERNAL_SERVICE when it is no image's. */
int oci_image_config(const struct oci_manifest *manifest, struct oci_blob *ret_config, struct error **ret_error);
/* The image with this layer for its only one; its config stays as it is. */
int oci_image_set_layer(const char *manifest, size_t size, const struct oci_layer *layer, char **ret_manifest,
                        size_t *ret_size, struct error **ret_error);
/* The base with the layer on top: diff_ids and history are extended, the labels set in the config and, where the
 * manifest is OCI's, as annotations; all else stays as it is. EXTERNAL_SERVICE when base and config do not fit
 * together. */
int oci_image_extend(const struct oci_manifest *base, const char *config, size_t config_size,
                     const struct oci_layer *layer, const struct oci_label *labels, size_t label_count,
                     struct oci_image *ret_image, struct error **ret_error);
