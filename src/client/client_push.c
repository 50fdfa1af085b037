/* Pushing a package to a container registry. */
#include "base/memory.h"
#include "client/client-internal.h"

int slipway_push_package(struct slipway *service, const char *digest, const char *reference,
                         struct slipway_task **ret_task, struct slipway_error **ret_error) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "reference", reference);
    _cleanup_free_ char *path = client_path("/v1/packages/", digest, "/push");
    return client_post_for_task(service, path, document, ret_task, ret_error);
}
