/* The oci registry: check and resolve. docs/registry-oci.md is the manual. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_oci-internal.h"
#include "registry/registry_servers.h"

#define CONFIG_MAXIMUM (8u << 20) /* bytes of an image's config */

static int parse_allowed(const struct registry_context *context, const char *uri, struct registry_oci_uri *ret_uri,
                         struct error **ret_error) {
    int result = registry_oci_parse(uri, ret_uri, ret_error);
    if (result < 0) return result;
    if (registry_server_for(context->servers, REGISTRY_OCI, ret_uri->reference.registry)) return 0;
    _cleanup_free_ char *how =
        text_format("name %s in hosts= of an [oci NAME] section of the registries file", ret_uri->reference.registry);
    return registry_fail_unconfigured(uri, how, ret_error);
}

static int oci_check(const struct registry_context *context, const char *uri, struct error **ret_error) {
    _cleanup_oci_uri_ struct registry_oci_uri parsed = {0};
    return parse_allowed(context, uri, &parsed, ret_error);
}

/* Where the model lies in an image: the URI, the manifest, or else the config says. */
static int find_path(struct oci *oci, const struct registry_oci_uri *uri, const struct registry_oci_plan *plan,
                     char **ret_path, struct error **ret_error) {
    if (uri->path || plan->path || !plan->is_image) {
        *ret_path = text_copy(uri->path ? uri->path : plan->path);
        return 0;
    }
    _cleanup_free_ char *config = NULL;
    size_t size = 0;
    if (plan->config_digest) {
        int result = oci_get_blob(oci, uri->reference.repository, plan->config_digest, CONFIG_MAXIMUM, &config, &size,
                                  ret_error);
        if (result < 0) return result;
        *ret_path = registry_oci_label(config, size);
    }
    if (*ret_path) return 0;
    return error_set(
        ret_error, ERROR_MODEL_REGISTRY,
        "this is an image that does not say where in it a model lies: add ?path=/models/x to the URI, or the "
        "label " OCI_PATH_LABEL " to the image");
}

/* The name of a file of an artifact below the wanted path; NULL: it lies elsewhere. Borrowed. */
static const char *name_below(const char *name, const char *path) {
    size_t length = path ? strlen(path) : 0;
    if (!length) return name;
    if (!strncmp(name, path, length) && name[length] == '/') return name + length + 1;
    if (strcmp(name, path)) return NULL;
    const char *slash = strrchr(name, '/');
    return text_ends_with(name, ".onnx") ? "model.onnx" : slash ? slash + 1 : name;
}

static int add_layers(const struct registry_context *context, const struct registry_oci_plan *plan, const char *path,
                      struct registry_resolution *resolution, struct error **ret_error) {
    for (size_t i = 0; i < plan->count; i++) {
        const struct registry_oci_layer *layer = &plan->layers[i];
        char archive[64];
        snprintf(archive, sizeof archive, OCI_LAYER_FOLDER "/%06zu.tar", i);
        const char *name = layer->role == OCI_ROLE_FILE ? name_below(layer->name, path) : archive;
        if (!name) continue;
        if (!text_starts_with(layer->digest, "sha256:") || strlen(layer->digest) != 71)
            return error_set(ret_error, ERROR_MODEL_REGISTRY, "the layer %.100s has no digest that is understood",
                             layer->digest);
        _cleanup_free_ char *source = text_format("%c%s", (char)layer->role, layer->digest);
        int result = registry_resolution_add(context, resolution, name, layer->size_bytes,
                                             strchr(layer->digest, ':') + 1, layer->digest, source, ret_error);
        if (result < 0) return result;
    }
    return 0;
}

/* The manifest's digest and the path in it tell all, whatever registry it lies in. */
static void set_names(struct registry_resolution *resolution, const struct registry_oci_uri *uri, const char *digest,
                      const char *path) {
    struct registry_oci_uri exact = {.reference = {.registry = uri->reference.registry,
                                                   .repository = uri->reference.repository,
                                                   .digest = (char *)digest},
                                     .path = uri->path};
    resolution->resolved_uri = registry_oci_text(&exact);
    exact.path = (char *)path;
    resolution->location = registry_oci_text(&exact);
    _cleanup_free_ char *what = text_format("oci %s %s", digest, path ? path : "");
    char hex[DIGEST_HEX_SIZE];
    digest_bytes(what, strlen(what), hex);
    free(resolution->fingerprint);
    resolution->fingerprint = text_copy(hex);
}

static int resolve_manifest(const struct registry_context *context, struct oci *oci, const struct registry_oci_uri *uri,
                            struct registry_resolution *resolution, struct error **ret_error) {
    _cleanup_manifest_ struct oci_manifest manifest = {0};
    _cleanup_plan_ struct registry_oci_plan plan = {0};
    _cleanup_free_ char *path = NULL;
    int result = oci_get_manifest(oci, &uri->reference, &manifest, ret_error);
    if (result < 0 || (result = registry_oci_choose(oci, uri->reference.repository, &manifest, ret_error)) < 0 ||
        (result = registry_oci_plan_read(manifest.bytes, manifest.size, &plan, ret_error)) < 0 ||
        (result = find_path(oci, uri, &plan, &path, ret_error)) < 0 ||
        (result = add_layers(context, &plan, path, resolution, ret_error)) < 0)
        return result;
    _cleanup_free_ char *what = oci_reference_text(&uri->reference);
    if ((result = registry_resolution_finish(resolution, what, ret_error)) < 0) return result;
    set_names(resolution, uri, manifest.digest, path);
    resolution->facts_json = TAKE(plan.facts_json);
    return 0;
}

static int oci_resolve(const struct registry_context *context, const char *uri,
                       struct registry_resolution *ret_resolution, struct error **ret_error) {
    _cleanup_oci_uri_ struct registry_oci_uri parsed = {0};
    int result = parse_allowed(context, uri, &parsed, ret_error);
    if (result < 0) return result;
    struct oci *oci = NULL;
    struct registry_resolution resolution = {0};
    result = registry_oci_open(context, parsed.reference.registry, ERROR_MODEL_REGISTRY, &oci, ret_error);
    if (result >= 0) result = resolve_manifest(context, oci, &parsed, &resolution, ret_error);
    oci_close(oci);
    if (result < 0) {
        registry_resolution_clear(&resolution);
        return error_wrap(ret_error, "%s", uri);
    }
    *ret_resolution = resolution;
    return 0;
}

static const char *const schemes[] = {"oci", NULL};

const struct registry_ops oci_registry = {
    .name = "oci",
    .schemes = schemes,
    .check = oci_check,
    .resolve = oci_resolve,
    .fetch = registry_oci_fetch,
};
