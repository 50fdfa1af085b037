/* The configured servers for those who ask, and their secrets. */
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_servers-internal.h"
#include "transfer/transfer.h"

#define SECRET_MAXIMUM 65536 /* bytes of a file that holds one */

/* ---- life ---- */

struct registry_server *registry_servers_add(struct registry_servers *servers, enum registry_kind kind,
                                             const char *name) {
    servers->list = mem_resize(servers->list, servers->count + 1, sizeof *servers->list);
    struct registry_server *server = &servers->list[servers->count++];
    *server = (struct registry_server){.kind = kind, .name = text_copy(name)};
    return server;
}

static void free_list(char **list) {
    for (char **item = list; item && *item; item++) free(*item);
    free(list);
}

static void free_secret(char *secret) {
    if (secret) explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void clear_server(struct registry_server *server) {
    free_list(server->hosts);
    free_list(server->redirect_hosts);
    free_list(server->buckets);
    free_secret(server->password);
    free_secret(server->token);
    free(server->name);
    free(server->url);
    free(server->region);
    free(server->ca_file);
    free(server->username);
    free(server->password_file);
    free(server->token_file);
    free(server->profile);
}

void registry_servers_free(struct registry_servers *servers) {
    if (!servers) return;
    for (size_t i = 0; i < servers->count; i++) clear_server(&servers->list[i]);
    for (char **variable = servers->environment; variable && *variable; variable++) free_secret(*variable);
    free(servers->environment);
    free(servers->broken);
    free(servers->list);
    free(servers);
}

/* ---- finding ---- */

const struct registry_server *registry_server_named(const struct registry_servers *servers, enum registry_kind kind,
                                                    const char *name) {
    for (size_t i = 0; servers && i < servers->count; i++)
        if (servers->list[i].kind == kind && text_equal(servers->list[i].name, name ? name : ""))
            return &servers->list[i];
    return NULL;
}

static bool has_bucket(const struct registry_server *server, const char *bucket) {
    for (char *const *item = server->buckets; item && *item; item++)
        if (!strcmp(*item, bucket)) return true;
    return false;
}

static const struct registry_server *find_by_bucket(const struct registry_servers *servers, const char *bucket) {
    const struct registry_server *of_every = NULL;
    for (size_t i = 0; i < servers->count; i++) {
        const struct registry_server *server = &servers->list[i];
        if (server->kind != REGISTRY_S3) continue;
        if (has_bucket(server, bucket)) return server;
        if (!server->buckets) of_every = server;
    }
    return of_every;
}

const struct registry_server *registry_server_for(const struct registry_servers *servers, enum registry_kind kind,
                                                  const char *host_or_bucket) {
    if (!servers) return NULL;
    if (kind == REGISTRY_S3) return find_by_bucket(servers, host_or_bucket);
    _cleanup_free_ char *url =
        strstr(host_or_bucket, "://") ? text_copy(host_or_bucket) : text_format("https://%s/", host_or_bucket);
    for (size_t i = 0; i < servers->count; i++) {
        const struct registry_server *server = &servers->list[i];
        size_t count = 0;
        if (server->kind != kind || !server->hosts) continue;
        while (server->hosts[count]) count++;
        if (transfer_host_matches(url, (const char *const *)server->hosts, count)) return server;
    }
    return NULL;
}

const char *registry_environment(const struct registry_servers *servers, const char *name) {
    size_t length = strlen(name);
    for (char *const *variable = servers ? servers->environment : NULL; variable && *variable; variable++)
        if (!strncmp(*variable, name, length) && (*variable)[length] == '=') return *variable + length + 1;
    return NULL;
}

/* ---- secrets ---- */

static int read_first_line(const char *path, char **ret_secret, struct error **ret_error) {
    char *bytes = NULL;
    size_t size = 0;
    _cleanup_error_ struct error *cause = NULL;
    if (fs_read_file(path, SECRET_MAXIMUM, &bytes, &size, &cause) < 0) {
        _cleanup_free_ char *text = error_text(cause);
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "read the secret: %s", text);
    }
    size_t length = strcspn(bytes, "\r\n");
    bool has_nul = length < size && !bytes[length];
    char *line = text_copy_bytes(bytes, length);
    explicit_bzero(bytes, size);
    free(bytes);
    if (*line && !has_nul && registry_text_is_plain(line)) {
        *ret_secret = line;
        return 0;
    }
    bool is_empty = !*line;
    free_secret(line);
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "read the secret: the first line of %s %s", path,
                     is_empty ? "is empty" : "is not plain UTF-8 text");
}

int registry_read_secret(const char *secret, const char *file, char **ret_secret, struct error **ret_error) {
    *ret_secret = NULL;
    if (secret) {
        *ret_secret = text_copy(secret);
        return 0;
    }
    return file ? read_first_line(file, ret_secret, ret_error) : 0;
}

int registry_servers_explain(const struct registry_servers *servers, struct error **error) {
    if (!error || !*error) return -(int)ERROR_CONFIGURATION;
    if (servers && servers->broken && (*error)->class == ERROR_CONFIGURATION)
        error_wrap(error, "the registries file is not in force (%s)", servers->broken);
    return -(int)(*error)->class;
}

int registry_fail_unconfigured(const char *uri, const char *how, struct error **ret_error) {
    size_t length = strcspn(uri, ":");
    return error_set(ret_error, ERROR_CONFIGURATION, "%.*s: is not configured here: %s",
                     (int)(length < 32 ? length : 32), uri, how);
}
