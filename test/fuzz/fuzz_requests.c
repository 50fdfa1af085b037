/* The bodies of control requests: DeploymentRequest (whole, as a model's config) and PATCH. Whatever comes in, a
 * request is either refused with an error or complete. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "controller/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void try_request(yyjson_val *root, enum request_form form, const struct registry_context *registry) {
    _cleanup_request_ struct deployment_request request = {0};
    _cleanup_error_ struct error *error = NULL;
    int result = request_parse(root, "", form, registry, &request, &error);
    assert((result < 0) == (error != NULL));
    if (result < 0) {
        assert(error->http_status >= 400 && error->http_status < 500);
        assert(!request.tags_json);
        return;
    }
    assert(request.tags_json && request.target_json);
    assert(request.replicas >= 1 && request.memory_bytes >= 0);
    assert(form == REQUEST_MODEL_CONFIG || (request.name && request.model_uri));
}

static void try_patch(yyjson_val *root) {
    _cleanup_patch_ struct deployment_patch patch = {0};
    _cleanup_error_ struct error *error = NULL;
    int result = request_parse_patch(root, &patch, &error);
    assert((result < 0) == (error != NULL));
    assert(result < 0 || patch.has_replicas || patch.has_resources || patch.has_tags);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const roots[] = {"/nowhere/models"};
    const struct registry_context registry = {.roots = roots, .root_count = 1};
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    if (json_parse_object((const char *)bytes, size, &document, &root, NULL) < 0) return 0;
    try_request(root, REQUEST_WHOLE, &registry);
    try_request(root, REQUEST_MODEL_CONFIG, &registry);
    try_patch(root);
    return 0;
}
