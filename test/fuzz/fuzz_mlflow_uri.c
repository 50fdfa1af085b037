/* What MLflow's URIs name: any bytes are refused, or a URI is written that reads as the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"

static void require(bool holds) {
    if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    _cleanup_free_ char *text = text_copy_bytes((const char *)bytes, size);
    _cleanup_mlflow_uri_ struct mlflow_uri uri = {0}, again = {0};
    _cleanup_error_ struct error *error = NULL;
    if (mlflow_uri_parse(text, &uri, &error) < 0) {
        require(error && !uri.name);
        return 0;
    }
    require(mlflow_path_is_safe(uri.path));
    _cleanup_free_ char *written = mlflow_uri_write(&uri);
    require(mlflow_uri_parse(written, &again, NULL) == 0);
    require(again.kind == uri.kind && text_equal(again.server, uri.server) && text_equal(again.name, uri.name) &&
            text_equal(again.selector, uri.selector) && text_equal(again.path, uri.path));
    return 0;
}
