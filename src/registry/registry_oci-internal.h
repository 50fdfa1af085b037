/* The oci registry's own files: registry_oci_uri.c (what a URI names), registry_oci_credentials.c (who we are),
 * registry_oci_open.c (a registry as it is configured), registry_oci_manifest.c (what a manifest holds of a model),
 * registry_oci.c (check and resolve), registry_oci_fetch.c (fetch), registry_oci_layer.c (one layer).
 *
 * A manifest's layers are files (one layer a file, named by an annotation), trees (a tar that is part of the model), or
 * the layers of an image (tars on top of each other, with whiteouts, of which the model is what lies under a path).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/registry-internal.h"
#include "registry/registry_oci.h"

/* Where our own images have the model, unless they say otherwise: an annotation of the manifest, and a label of the
 * config. docs/registry-oci.md. */
#define OCI_PATH_LABEL "io.slipway.model.path"
#define OCI_PACKAGE_LABEL "io.slipway.package.digest" /* package_image.h: the model lies in model/ */
#define OCI_PACKAGE_PATH "model"
#define OCI_LAYER_FOLDER ".slipway-layers" /* of the folder that is fetched into; gone in the end */

struct registry_oci_uri {
    struct oci_reference reference;
    char *path; /* without '/' at either end; NULL: not given */
};
/* oci://registry/repository[:tag][@digest][?path=/models/x]. CONFIGURATION otherwise. */
int registry_oci_parse(const char *uri, struct registry_oci_uri *ret_uri, struct error **ret_error);
/* Without '/' at either end; NULL when it has empty parts, "." or "..", or is empty. Caller frees. */
char *registry_oci_clean_path(const char *path);
char *registry_oci_text(const struct registry_oci_uri *uri); /* caller frees */
void registry_oci_uri_clear(struct registry_oci_uri *uri);
#define _cleanup_oci_uri_ __attribute__((cleanup(registry_oci_uri_clear)))

enum registry_oci_role {
    OCI_ROLE_FILE = 'f', /* the layer is the file */
    OCI_ROLE_TREE = 't', /* a tar whose files are the model's */
    OCI_ROLE_LAYER = 'l', /* a layer of an image */
};
struct registry_oci_layer {
    enum registry_oci_role role;
    char *digest, *name; /* name: of a file; else NULL */
    uint64_t size_bytes;
};
struct registry_oci_plan {
    struct registry_oci_layer *layers;
    size_t count;
    bool is_image;
    char *path; /* where an image says that the model lies, without '/' at either end; NULL: it does not say */
    char *config_digest; /* of an image without such an annotation: its labels may say */
    char *facts_json; /* what our own packages carry of the source's words; NULL: nothing */
};
/* Reads a manifest that is no index. MODEL_REGISTRY when it is broken or holds no model. */
int registry_oci_plan_read(const char *bytes, size_t size, struct registry_oci_plan *ret_plan,
                           struct error **ret_error);
void registry_oci_plan_clear(struct registry_oci_plan *plan);
#define _cleanup_plan_ __attribute__((cleanup(registry_oci_plan_clear)))
/* The model's path by the labels of an image's config, or NULL; caller frees. */
char *registry_oci_label(const char *config, size_t size);

/* Where layers are applied, one after the other. */
struct registry_oci_tree {
    const struct registry_context *context;
    const char *folder; /* of the model */
    const char *path; /* what of the layers is wanted, without '/' at either end; "": all */
    uint64_t file_count, size_bytes; /* written so far */
    bool has_files; /* something was written: whiteouts may matter */
};
/* Applies the tar at `archive` (plain, gzip or zstd). Plain files and folders under the path only: links and devices
 * there are CONFIGURATION errors, as are names that lead out. */
int registry_oci_apply(struct registry_oci_tree *tree, const char *archive, bool has_whiteouts,
                       struct error **ret_error);

int registry_oci_fetch(const struct registry_context *context, const struct registry_resolution *resolution,
                       const char *folder, struct error **ret_error);
