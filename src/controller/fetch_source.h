/* By what a source is known: two keys of what a registry resolved. */
#pragma once
#include "registry/registry.h"

/* What has the same key later has the same bytes; NULL when nothing tells. An ETag, say, tells that of one place only,
 * so that the place is in the key; a digest, or a file's device and inode, tells it everywhere. Caller frees. */
char *fetch_known_key(const struct registry_ops *registry, const char *uri,
                      const struct registry_resolution *resolution);
/* What has the same key at the same time is the same thing: the known key, else the immutable name; NULL for none. */
char *fetch_claim_key(const struct registry_ops *registry, const char *uri,
                      const struct registry_resolution *resolution);
