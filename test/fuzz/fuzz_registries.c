/* A registries file: it is refused with a sentence that names a line, or every server in it has what it needs and is
 * found by its name. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_servers.h"

static void check_server(const struct registry_servers *servers, const struct registry_server *server) {
    if (registry_server_named(servers, server->kind, server->name) != server) abort();
    if (server->kind == REGISTRY_MLFLOW && (!server->url || strchr(server->url, '@') || strchr(server->url, '?')))
        abort();
    if ((server->kind == REGISTRY_HTTP || server->kind == REGISTRY_OCI) && !server->hosts[0]) abort();
    for (char **host = server->hosts; host && *host; host++) {
        const struct registry_server *found = registry_server_for(servers, server->kind, *host);
        if (**host != '*' && (!found || found->kind != server->kind)) abort();
    }
    for (char **bucket = server->buckets; bucket && *bucket; bucket++)
        if (registry_server_for(servers, REGISTRY_S3, *bucket) != server) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > 65536) return 0;
    _cleanup_error_ struct error *error = NULL;
    struct registry_servers *servers = NULL;
    char *const environment[] = {NULL};
    if (registry_servers_new((const char *)bytes, size, "file", environment, &servers, &error)) {
        _cleanup_free_ char *text = error_text(error);
        if (!text_starts_with(text, "file, line ") || strlen(text) > 1000 || servers) abort();
        return 0;
    }
    for (size_t i = 0; i < servers->count; i++) check_server(servers, &servers->list[i]);
    registry_servers_free(servers);
    return 0;
}
