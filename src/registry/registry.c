#include "registry/registry-internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"

/* In the order in which an error lists them. */
static const struct {
    const struct registry_ops *registry;
    const char *example;
} registries[] = {
    {&file_registry, "file:///path or an absolute path"},
    {&http_registry, "https://host/path/model.tar.gz"},
    {&mlflow_registry, "runs:/RUN/path and models:/NAME/VERSION"},
    {&s3_registry, "s3://bucket/prefix"},
    {&oci_registry, "oci://registry/repository:tag"},
};

/* The length of the scheme (RFC 3986, 3.1, and '_' as in mlflow_runs), 0 when there is none. */
static size_t scheme_length(const char *uri) {
    if (!isalpha((unsigned char)*uri)) return 0;
    size_t length = 1;
    while (isalnum((unsigned char)uri[length]) || (uri[length] && strchr("+-._", uri[length]))) length++;
    return uri[length] == ':' ? length : 0;
}

static bool speaks(const struct registry_ops *registry, const char *uri, size_t length) {
    for (const char *const *scheme = registry->schemes; *scheme; scheme++)
        if (strlen(*scheme) == length && !strncasecmp(*scheme, uri, length)) return true;
    return false;
}

int registry_find(const char *uri, const struct registry_ops **ret_registry, struct error **ret_error) {
    size_t length = scheme_length(uri);
    _cleanup_free_ char *known = text_copy("");
    for (size_t i = 0; i < ARRAY_SIZE(registries); i++) {
        if (speaks(registries[i].registry, uri, length)) {
            *ret_registry = registries[i].registry;
            return 0;
        }
        char *longer = text_format("%s%s%s", known, i ? ", " : "", registries[i].example);
        free(known);
        known = longer;
    }
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the model URI scheme \"%.*s:\" is not one that this build has; it has %s",
                     (int)(length < 64 ? length : 64), uri, known);
}

void registry_resolution_clear(struct registry_resolution *resolution) {
    for (size_t i = 0; i < resolution->file_count; i++) {
        free(resolution->files[i].path);
        free(resolution->files[i].sha256);
        free(resolution->files[i].identity);
        free(resolution->files[i].source);
    }
    free(resolution->files);
    free(resolution->resolved_uri);
    free(resolution->location);
    free(resolution->facts_json);
    free(resolution->fingerprint);
    *resolution = (struct registry_resolution){0};
}

void registry_set_fingerprint(struct registry_resolution *resolution) {
    for (size_t i = 0; i < resolution->file_count; i++)
        if (!resolution->files[i].identity) return;
    struct digest *digest = digest_new();
    for (size_t i = 0; i < resolution->file_count; i++) {
        const struct registry_file *file = &resolution->files[i];
        digest_update(digest, file->path, strlen(file->path) + 1);
        digest_update(digest, file->identity, strlen(file->identity) + 1);
    }
    char hex[DIGEST_HEX_SIZE];
    digest_finish(digest, hex);
    resolution->fingerprint = text_copy(hex);
}
