#include "controller/fetch_source.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"

static bool is_known_by_digests(const struct registry_resolution *resolution) {
    for (size_t i = 0; i < resolution->file_count; i++)
        if (!resolution->files[i].sha256) return false;
    return resolution->file_count > 0;
}

static char *digest_of(const char *kind, const char *place, const char *what) {
    char hex[DIGEST_HEX_SIZE];
    struct digest *digest = digest_new();
    digest_update(digest, kind, strlen(kind) + 1);
    digest_update(digest, place, strlen(place) + 1);
    digest_update(digest, what, strlen(what) + 1);
    digest_finish(digest, hex);
    return text_copy(hex);
}

char *fetch_known_key(const struct registry_ops *registry, const char *uri,
                      const struct registry_resolution *resolution) {
    if (!resolution->fingerprint) return NULL;
    if (registry->is_local || is_known_by_digests(resolution)) return text_copy(resolution->fingerprint);
    const char *place = resolution->resolved_uri ? resolution->resolved_uri
                        : resolution->location   ? resolution->location
                                                 : uri;
    return digest_of(registry->name, place, resolution->fingerprint);
}

char *fetch_claim_key(const struct registry_ops *registry, const char *uri,
                      const struct registry_resolution *resolution) {
    char *known = fetch_known_key(registry, uri, resolution);
    if (known || !resolution->resolved_uri) return known;
    return digest_of(registry->name, resolution->resolved_uri, "");
}
