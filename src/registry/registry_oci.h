/* OCI registries with the operator's settings: for models (oci: URIs) and for images that are pushed.
 *
 * A registry's access is the [oci NAME] section whose hosts have it; without credentials there, those that Docker keeps
 * for it ($DOCKER_CONFIG/config.json, else $HOME/.docker/config.json): auths by registry, with auth, identitytoken or
 * registrytoken. Helper programs (credHelpers, credsStore) are never run: a registry that needs one is refused with
 * words that say what to do instead. Blocking; worker threads only. May use: base, transfer, oci.
 */
#pragma once
#include "oci/oci.h"
#include "registry/registry.h"

/* What Docker's file has for a registry; NULLs when it has nothing. Secrets: registry_docker_clear() wipes them. */
struct registry_docker_access {
    char *username, *password, *identity_token, *token;
};
void registry_docker_clear(struct registry_docker_access *access);
#define _cleanup_docker_access_ __attribute__((cleanup(registry_docker_clear)))
/* Reads the text of a config.json. MODEL_REGISTRY when it is broken, or when it says that a helper program has the
 * credentials of this registry. `where` names the file in errors, which hold none of its words. */
int registry_docker_read(const char *text, size_t size, const char *where, const char *registry,
                         struct registry_docker_access *ret_access, struct error **ret_error);

/* Opens the registry ("localhost:5000") with what is configured for it. Errors of everything that is done with it have
 * the class. The context's servers must live as long as *ret_oci. */
int registry_oci_open(const struct registry_context *context, const char *registry, enum error_class class,
                      struct oci **ret_oci, struct error **ret_error);

/* Of an index the manifest for this machine: linux with its architecture, else linux/amd64, else the only one. What is
 * no index is left alone. */
int registry_oci_choose(struct oci *oci, const char *repository, struct oci_manifest *manifest,
                        struct error **ret_error);
