/* oci: URIs and what WWW-Authenticate says: a URI that is taken can be written and taken again, the same. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"
#include "registry/registry_oci-internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > 16384) return 0;
    _cleanup_free_ char *text = text_copy_bytes((const char *)bytes, size);
    _cleanup_challenge_ struct oci_challenge challenge = {0};
    oci_challenge_parse(text, &challenge);
    if (challenge.scheme == OCI_SCHEME_BEARER && !challenge.realm) abort();
    _cleanup_oci_uri_ struct registry_oci_uri uri = {0}, same = {0};
    _cleanup_error_ struct error *error = NULL;
    if (registry_oci_parse(text, &uri, &error) < 0) return 0;
    if (strstr(uri.reference.repository, "..") || (uri.path && (*uri.path == '/' || strstr(uri.path, "//")))) abort();
    _cleanup_free_ char *written = registry_oci_text(&uri);
    if (registry_oci_parse(written, &same, NULL) < 0 || !text_equal(uri.path, same.path) ||
        !text_equal(uri.reference.repository, same.reference.repository) ||
        !text_equal(uri.reference.tag, same.reference.tag))
        abort();
    return 0;
}
