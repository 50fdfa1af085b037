/* The file MLmodel of a model from anywhere: refused, or a path inside the model and facts that are JSON. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "registry/registry_mlflow-internal.h"

static void require(bool holds) {
    if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    _cleanup_free_ char *path = NULL, *facts = NULL;
    _cleanup_error_ struct error *error = NULL;
    if (mlflow_model_read((const char *)bytes, size, &path, &facts, &error) < 0) {
        require(error && !path && !facts);
        return 0;
    }
    require(*path && mlflow_path_is_safe(path));
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    require(json_parse_object(facts, strlen(facts), &document, &root, NULL) == 0);
    return 0;
}
