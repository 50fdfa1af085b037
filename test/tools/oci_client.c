/* The calls of src/oci/oci.h that nothing in the service makes yet, for tests, over plain http:
 *
 *   oci_client HOST put REPOSITORY TAG FILE    pushes a manifest (its mediaType stands in it); prints its digest
 *   oci_client HOST referrers REPOSITORY DIGEST   prints the index of what refers to it
 *   oci_client HOST mount REPOSITORY FROM DIGEST   prints 1 (mounted) or 0 (the registry would not)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/oci.h"

static int put(struct oci *oci, char **arguments, struct error **error) {
    _cleanup_free_ char *bytes = NULL;
    size_t size = 0;
    char digest[72];
    int result = fs_read_file(arguments[2], OCI_MANIFEST_MAXIMUM, &bytes, &size, error);
    if (result >= 0)
        result = oci_push_manifest(oci, arguments[0], arguments[1], bytes, size, OCI_TYPE_MANIFEST, digest, error);
    if (result >= 0) puts(digest);
    return result;
}

static int referrers(struct oci *oci, char **arguments, struct error **error) {
    _cleanup_manifest_ struct oci_manifest index = {0};
    int result = oci_get_referrers(oci, arguments[0], arguments[1], &index, error);
    if (result >= 0) puts(index.bytes);
    return result;
}

static int mount(struct oci *oci, char **arguments, struct error **error) {
    int result = oci_mount_blob(oci, arguments[0], arguments[1], arguments[2], error);
    if (result >= 0) printf("%d\n", result);
    return result;
}

static const struct {
    const char *name;
    int count;
    int (*call)(struct oci *oci, char **arguments, struct error **error);
} calls[] = {{"put", 3, put}, {"referrers", 2, referrers}, {"mount", 3, mount}};

int main(int count, char **arguments) {
    for (size_t i = 0; count > 2 && i < ARRAY_SIZE(calls); i++) {
        if (strcmp(arguments[2], calls[i].name) || count - 3 != calls[i].count) continue;
        const struct oci_config config = {.registry = arguments[1],
                                          .plain_http = true,
                                          .transfer = {.class = ERROR_EXTERNAL_SERVICE,
                                                       .connect_timeout_ms = 10000,
                                                       .stall_timeout_ms = 10000,
                                                       .attempts = 2,
                                                       .parallel = 1}};
        _cleanup_error_ struct error *error = NULL;
        struct oci *oci = NULL;
        int result = oci_open(&config, &oci, &error);
        if (result >= 0) result = calls[i].call(oci, arguments + 3, &error);
        oci_close(oci);
        if (result >= 0) return 0;
        _cleanup_free_ char *text = error_text(error);
        fprintf(stderr, "%s\n", text);
        return 1;
    }
    fputs("usage: oci_client HOST put|referrers|mount ...\n", stderr);
    return 2;
}
