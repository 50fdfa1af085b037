/* A model URI of the file registry: it is refused with a short sentence, or names an absolute, clean path, which as a
 * URI of its own names the same path. A path that is cleaned is inside a root or it is not, whatever was in it. */
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"

static void require(bool holds) {
    if (!holds) abort();
}

static void check_path(const char *path) {
    require(*path == '/' && strlen(path) < PATH_MAX);
    require(registry_path_is_plain(path));
    require(!strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../"));
    require(!text_ends_with(path, "/.") && !text_ends_with(path, "/.."));
    require(!path[1] || !text_ends_with(path, "/"));
    const char *relative = registry_path_inside("/models", path);
    require(!relative == !(!strcmp(path, "/models") || text_starts_with(path, "/models/")));
    require(registry_path_inside("/", path) == path + 1);
}

static void check_round_trip(const char *path) {
    _cleanup_free_ char *encoded = text_percent_encode(path, strlen(path)), *again = NULL, *bare = NULL;
    require(strlen(encoded) >= 3 && !strncmp(encoded, "%2F", 3)); /* the slash that makes it absolute */
    _cleanup_free_ char *uri = text_format("file:///%s", encoded + 3);
    if (strlen(uri) < 3 * PATH_MAX) {
        require(!registry_file_parse(uri, &again, NULL));
        require(!strcmp(again, path));
    }
    require(!registry_file_parse(path, &bare, NULL));
    require(!strcmp(bare, path));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > 65536) return 0;
    _cleanup_free_ char *uri = text_copy_bytes((const char *)bytes, size), *path = NULL;
    _cleanup_error_ struct error *error = NULL;
    const struct registry_ops *registry = NULL;
    registry_find(uri, &registry, NULL);
    if (registry_file_parse(uri, &path, &error) < 0) {
        require(!path && error->class == ERROR_CONFIGURATION && strlen(error->message) < 800);
        return 0;
    }
    check_path(path);
    check_round_trip(path);
    return 0;
}
