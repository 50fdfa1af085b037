/* Manifests and configs of images, and Docker's config.json. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "oci/oci_image.h"
#include "registry/registry_oci-internal.h"

static void check_image(char *manifest, size_t size, const char *config, size_t config_size) {
    const struct oci_manifest base = {.bytes = manifest, .size = size, .media_type = (char *)OCI_TYPE_MANIFEST};
    const struct oci_layer layer = {.digest = "sha256:x", .diff_id = "sha256:y", .size_bytes = 1, .created_by = "fuzz"};
    const struct oci_label labels[] = {{"a", "b"}};
    _cleanup_oci_image_ struct oci_image image = {0};
    _cleanup_error_ struct error *error = NULL;
    if (oci_image_extend(&base, config, config_size, &layer, labels, 1, &image, &error) >= 0 &&
        (!image.config_size || !image.manifest_size))
        abort();
    char *replaced = NULL;
    size_t replaced_size = 0;
    oci_image_set_layer(manifest, size, &layer, &replaced, &replaced_size, NULL);
    free(replaced);
}

/* A manifest, and behind a NUL a config. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > 65536) return 0;
    _cleanup_free_ char *text = text_copy_bytes((const char *)bytes, size);
    size_t first = strnlen(text, size);
    const char *config = first < size ? text + first + 1 : "";
    _cleanup_plan_ struct registry_oci_plan plan = {0};
    _cleanup_error_ struct error *error = NULL;
    if (registry_oci_plan_read(text, first, &plan, &error) >= 0 && !plan.count) abort();
    if (plan.path && (*plan.path == '/' || !*plan.path)) abort();
    free(registry_oci_label(config, strlen(config)));
    check_image(text, first, config, strlen(config));
    _cleanup_docker_access_ struct registry_docker_access access = {0};
    registry_docker_read(text, first, "config.json", "r", &access, NULL);
    return 0;
}
