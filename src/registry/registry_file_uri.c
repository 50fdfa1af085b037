/* What a file URI names (RFC 8089, RFC 3986). Pure: looks at no disk. */
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"

/* How much of a URI an error repeats: clients send ones of megabytes. */
#define SHOWN 200

bool registry_path_is_plain(const char *path) {
    if (!text_is_utf8(path, strlen(path))) return false;
    for (const char *at = path; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) return false;
    return true;
}

/* Resolves "//", "." and ".." in an absolute path in place; ".." at the top stays there. */
static void clean(char *path) {
    char *end = path; /* behind what is kept */
    for (const char *at = path; *at;) {
        while (*at == '/') at++;
        size_t size = strcspn(at, "/");
        if (size == 2 && at[0] == '.' && at[1] == '.') {
            while (end > path && *--end != '/') continue;
        } else if (size && !(size == 1 && at[0] == '.')) {
            *end++ = '/';
            memmove(end, at, size);
            end += size;
        }
        at += size;
    }
    if (end == path) *end++ = '/';
    *end = 0;
}

/* "file:" and what follows, without authority or with this machine's. */
static int decode_uri(const char *uri, char **ret_path, struct error **ret_error) {
    const char *path = uri + strlen("file:");
    if (text_starts_with(path, "//")) {
        const char *host = path + 2;
        path = host + strcspn(host, "/?#");
        size_t size = (size_t)(path - host);
        if (size && !(size == strlen("localhost") && !strncasecmp(host, "localhost", size)))
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "the model URI %.*s names the host %.*s; a file URI is file:///path with three slashes",
                             SHOWN, uri, (int)(size < SHOWN ? size : SHOWN), host);
    }
    if (strpbrk(path, "?#"))
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "the model URI %.*s has a query or a fragment, which a file has not; write ? as %%3F and # as %%23", SHOWN,
            uri);
    size_t size;
    if (!text_percent_decode(path, strlen(path), ret_path, &size))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the model URI %.*s has a percent escape that is broken or a NUL", SHOWN, uri);
    return 0;
}

int registry_file_parse(const char *uri, char **ret_path, struct error **ret_error) {
    if (!registry_path_is_plain(uri))
        return error_set(ret_error, ERROR_CONFIGURATION, "the model URI is not UTF-8 or holds a control character");
    if (strlen(uri) >= 3 * PATH_MAX)
        return error_set(ret_error, ERROR_CONFIGURATION, "the model URI %.*s… is longer than any path", SHOWN, uri);
    _cleanup_free_ char *path = NULL;
    if (!strncasecmp(uri, "file:", strlen("file:"))) {
        int result = decode_uri(uri, &path, ret_error);
        if (result < 0) return result;
    } else {
        path = text_copy(uri);
    }
    if (*path != '/')
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "the model URI \"%.*s\" is a relative path, and the service does not know where from; give it from the "
            "root on, /…",
            SHOWN, uri);
    if (!registry_path_is_plain(path))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the path in the model URI %.*s is not UTF-8 or holds a control "
                         "character",
                         SHOWN, uri);
    if (strlen(path) >= PATH_MAX)
        return error_set(ret_error, ERROR_CONFIGURATION, "the path in the model URI %.*s… is longer than %d bytes",
                         SHOWN, uri, PATH_MAX - 1);
    clean(path);
    *ret_path = TAKE(path);
    return 0;
}

const char *registry_path_inside(const char *root, const char *path) {
    size_t size = strlen(root);
    if (size && root[size - 1] == '/') size--; /* "/" itself */
    if (strncmp(root, path, size)) return NULL;
    if (!path[size]) return path + size;
    return path[size] == '/' ? path + size + 1 : NULL;
}
