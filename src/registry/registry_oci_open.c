/* A registry as the operator configured it, and the platform that is wanted of it. */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_oci-internal.h"
#include "registry/registry_servers.h"

#define DOCKER_CONFIG_MAXIMUM (1u << 20) /* bytes */

/* ---- credentials ---- */

static char *docker_path(const struct registry_servers *servers) {
    const char *folder = registry_environment(servers, "DOCKER_CONFIG");
    if (folder && *folder) return fs_join(folder, "config.json");
    const char *home = registry_environment(servers, "HOME");
    return home && *home ? fs_join(home, ".docker/config.json") : NULL;
}

static int read_docker(const struct registry_context *context, const char *registry,
                       struct registry_docker_access *ret_access, struct error **ret_error) {
    _cleanup_free_ char *path = docker_path(context->servers);
    if (!path || !fs_exists(path)) return 0;
    char *text = NULL;
    size_t size = 0;
    struct error *cause = NULL;
    if (fs_read_file(path, DOCKER_CONFIG_MAXIMUM, &text, &size, &cause) < 0) {
        _cleanup_free_ char *words = error_text(cause);
        error_free(cause);
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "read Docker's credentials: %s", words);
    }
    int result = registry_docker_read(text, size, path, registry, ret_access, ret_error);
    explicit_bzero(text, size);
    free(text);
    return result;
}

/* The section's own, or else Docker's. */
static int read_access(const struct registry_context *context, const struct registry_server *server,
                       const char *registry, struct registry_docker_access *access, struct error **ret_error) {
    bool has_own = server && (server->username || server->token || server->token_file);
    if (!has_own) return read_docker(context, registry, access, ret_error);
    access->username = text_copy(server->username);
    int result = registry_read_secret(server->password, server->password_file, &access->password, ret_error);
    return result < 0 ? result : registry_read_secret(server->token, server->token_file, &access->token, ret_error);
}

int registry_oci_open(const struct registry_context *context, const char *registry, enum error_class class,
                      struct oci **ret_oci, struct error **ret_error) {
    const struct registry_server *server = registry_server_for(context->servers, REGISTRY_OCI, registry);
    _cleanup_docker_access_ struct registry_docker_access access = {0};
    struct error *error = NULL;
    int result = read_access(context, server, registry, &access, &error);
    if (result < 0) {
        error->class = class;
        if (ret_error)
            *ret_error = error;
        else
            error_free(error);
        return error_wrap(ret_error, "the credentials for %s", registry);
    }
    struct oci_config config = {.registry = registry,
                                .plain_http = server && server->plain_http,
                                .username = access.username,
                                .password = access.password,
                                .token = access.token,
                                .identity_token = access.identity_token};
    registry_transfer_config(context, &config.transfer);
    config.transfer.class = class;
    config.transfer.ca_file = server ? server->ca_file : NULL;
    config.transfer.hosts = server ? (const char *const *)server->redirect_hosts : NULL;
    config.transfer.host_count = 0;
    while (config.transfer.hosts && config.transfer.hosts[config.transfer.host_count]) config.transfer.host_count++;
    return oci_open(&config, ret_oci, ret_error);
}

/* ---- platforms ---- */

/* Go's name of this machine's architecture, as indexes have it. */
static const char *machine_architecture(struct utsname *name) {
    static const char *const names[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}};
    if (uname(name) < 0) return "amd64";
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(name->machine, names[i][0])) return names[i][1];
    return name->machine;
}

/* An entry that is no image: what builders attach about one. */
static bool is_attachment(yyjson_val *entry) {
    yyjson_val *platform = yyjson_obj_get(entry, "platform");
    return text_equal(yyjson_get_str(yyjson_obj_get(platform, "os")), "unknown");
}

static bool is_platform(yyjson_val *entry, const char *architecture) {
    yyjson_val *platform = yyjson_obj_get(entry, "platform");
    return text_equal(yyjson_get_str(yyjson_obj_get(platform, "os")), "linux") &&
           text_equal(yyjson_get_str(yyjson_obj_get(platform, "architecture")), architecture);
}

static yyjson_val *choose_entry(yyjson_val *manifests) {
    struct utsname name;
    const char *const wanted[] = {machine_architecture(&name), "amd64"};
    size_t index, count;
    yyjson_val *entry, *only = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
        yyjson_arr_foreach(manifests, index, count, entry) {
            if (is_platform(entry, wanted[i])) return entry;
        }
    }
    bool is_one = true;
    yyjson_arr_foreach(manifests, index, count, entry) {
        if (is_attachment(entry)) continue;
        if (only) is_one = false;
        only = entry;
    }
    return is_one ? only : NULL;
}

int registry_oci_choose(struct oci *oci, const char *repository, struct oci_manifest *manifest,
                        struct error **ret_error) {
    if (strcmp(manifest->media_type, OCI_TYPE_INDEX) && strcmp(manifest->media_type, OCI_TYPE_DOCKER_LIST)) return 0;
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(manifest->bytes, manifest->size, &document, &root, ret_error);
    if (result < 0) return result;
    const char *digest = yyjson_get_str(yyjson_obj_get(choose_entry(yyjson_obj_get(root, "manifests")), "digest"));
    if (!digest)
        return error_set(ret_error, ERROR_MODEL_REGISTRY,
                         "the index %s has no image for linux on this machine, and more or less than one in all",
                         manifest->digest);
    struct oci_reference reference = {
        .registry = (char *)"", .repository = (char *)repository, .digest = (char *)digest};
    struct oci_manifest chosen = {0};
    if ((result = oci_get_manifest(oci, &reference, &chosen, ret_error)) < 0) return result;
    if (!strcmp(chosen.media_type, OCI_TYPE_INDEX) || !strcmp(chosen.media_type, OCI_TYPE_DOCKER_LIST)) {
        oci_manifest_clear(&chosen);
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "the index %s leads to another index", manifest->digest);
    }
    oci_manifest_clear(manifest);
    *manifest = chosen;
    return 0;
}
