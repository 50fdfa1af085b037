/* oci: URIs. */
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_oci-internal.h"

#define SCHEME "oci://"
#define QUERY "path="

static int refuse(const char *uri, const char *why, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%.300s: %s; it reads oci://registry/repository[:tag][@sha256:...][?path=/models/x]", uri, why);
}

/* A path without empty parts, "." and "..", and without '/' at either end. */
static bool is_clean(const char *path) {
    if (!*path || strlen(path) > REGISTRY_PATH_MAXIMUM || !registry_path_is_plain(path)) return false;
    for (const char *part = path; *part;) {
        size_t length = strcspn(part, "/");
        if (!length || (length == 1 && *part == '.') || (length == 2 && part[0] == '.' && part[1] == '.')) return false;
        part += length;
        if (*part == '/' && !*++part) return false;
    }
    return true;
}

char *registry_oci_clean_path(const char *path) {
    path += strspn(path, "/");
    size_t size = strlen(path);
    while (size && path[size - 1] == '/') size--;
    char *clean = text_copy_bytes(path, size);
    if (is_clean(clean)) return clean;
    free(clean);
    return NULL;
}

static int parse_path(const char *uri, const char *query, char **ret_path, struct error **ret_error) {
    if (!text_starts_with(query, QUERY)) return refuse(uri, "behind the ? only path= is understood", ret_error);
    query += strlen(QUERY);
    _cleanup_free_ char *decoded = NULL;
    size_t size = 0;
    if (!text_percent_decode(query, strlen(query), &decoded, &size)) return refuse(uri, "a % is broken", ret_error);
    char *path = registry_oci_clean_path(decoded);
    if (!path) return refuse(uri, "the path is none that can lie in an image", ret_error);
    *ret_path = path;
    return 0;
}

int registry_oci_parse(const char *uri, struct registry_oci_uri *ret_uri, struct error **ret_error) {
    if (strncasecmp(uri, SCHEME, strlen(SCHEME))) return refuse(uri, "it is no oci: URI", ret_error);
    const char *rest = uri + strlen(SCHEME);
    const char *mark = strchr(rest, '?');
    _cleanup_free_ char *name = text_copy_bytes(rest, mark ? (size_t)(mark - rest) : strlen(rest));
    _cleanup_oci_uri_ struct registry_oci_uri parsed = {0};
    int result = oci_reference_parse(name, &parsed.reference, ret_error);
    if (result >= 0 && mark) result = parse_path(uri, mark + 1, &parsed.path, ret_error);
    if (result < 0) return result;
    *ret_uri = parsed;
    parsed = (struct registry_oci_uri){0};
    return 0;
}

char *registry_oci_text(const struct registry_oci_uri *uri) {
    _cleanup_free_ char *reference = oci_reference_text(&uri->reference);
    if (!uri->path) return text_format(SCHEME "%s", reference);
    _cleanup_free_ char *encoded = text_percent_encode(uri->path, strlen(uri->path));
    /* Slashes are readable as they are. */
    char *to = encoded;
    for (const char *from = encoded; *from; from++) {
        bool is_slash = !strncasecmp(from, "%2F", 3);
        *to++ = is_slash ? '/' : *from;
        if (is_slash) from += 2;
    }
    *to = '\0';
    return text_format(SCHEME "%s?" QUERY "/%s", reference, encoded);
}

void registry_oci_uri_clear(struct registry_oci_uri *uri) {
    oci_reference_clear(&uri->reference);
    free(uri->path);
    *uri = (struct registry_oci_uri){0};
}
