/* Where images go, and which may be asked. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/push.h"
#include "registry/registry_oci.h"
#include "registry/registry_servers.h"

/* The host of the container registry; "" when there is none. Caller frees. */
static char *registry_host(const struct controller *controller) {
    const char *setting = controller->settings->container_registry;
    return text_copy_bytes(setting, strcspn(setting, "/"));
}

/* Whether the reference begins with a registry, as Docker tells it: by a dot, a port, or "localhost"; or with the
 * container registry's own host, whatever that looks like. */
static bool has_registry(const char *text, const char *own_host) {
    size_t length = strcspn(text, "/");
    if (!text[length]) return false;
    if (*own_host && strlen(own_host) == length && !strncmp(text, own_host, length)) return true;
    return memchr(text, '.', length) || memchr(text, ':', length) || *text == '[' ||
           (length == 9 && !strncmp(text, "localhost", 9));
}

int push_place_parse(const struct controller *controller, const char *text, struct oci_reference *ret_reference,
                     struct error **ret_error) {
    const char *setting = controller->settings->container_registry;
    _cleanup_free_ char *own_host = registry_host(controller);
    bool is_whole = has_registry(text, own_host);
    if (!is_whole && !*setting)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "\"%.200s\" names no registry, and the setting container_registry is none", text);
    _cleanup_free_ char *whole = is_whole ? text_copy(text) : text_format("%s/%s", setting, text);
    _cleanup_reference_ struct oci_reference reference = {0};
    int result = oci_reference_parse(whole, &reference, ret_error);
    if (result < 0) return result;
    const struct registry_context context = registries_context(controller);
    if (!text_equal(reference.registry, own_host) &&
        !registry_server_for(context.servers, REGISTRY_OCI, reference.registry))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the registry %s is not configured here: name it in hosts= of an [oci NAME] section of the "
                         "registries file",
                         reference.registry);
    *ret_reference = reference;
    reference = (struct oci_reference){0};
    return 0;
}

/* A deployment's name as a repository's: [a-z0-9]+ with one separator between. */
static char *repository_name(const char *name) {
    char *repository = text_copy(name);
    char *to = repository;
    for (const char *from = name; *from; from++) {
        if (isalnum((unsigned char)*from))
            *to++ = (char)tolower((unsigned char)*from);
        else if (to > repository && isalnum((unsigned char)to[-1]))
            *to++ = *from; /* one of . _ - between two others */
        else if (to > repository)
            to[-1] = '-'; /* several of them are one */
    }
    while (to > repository && !isalnum((unsigned char)to[-1])) to--;
    *to = '\0';
    return repository;
}

int push_place_of_revision(const struct controller *controller, const char *deployment_name, int64_t revision,
                           struct oci_reference *ret_reference, struct error **ret_error) {
    _cleanup_free_ char *repository = repository_name(deployment_name);
    _cleanup_free_ char *text =
        text_format("%s/%s:r%lld", controller->settings->container_registry, repository, (long long)revision);
    int result = oci_reference_parse(text, ret_reference, ret_error);
    return result < 0 ? error_wrap(ret_error, "the setting container_registry") : 0;
}

char *push_serving_image(const struct controller *controller, const char *target_json) {
    if (!*controller->settings->container_registry || !target_json) return NULL;
    _cleanup_json_ yyjson_doc *document = yyjson_read(target_json, strlen(target_json), 0);
    const char *image = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(document), "serving_image"));
    return image && *image ? text_copy(image) : NULL;
}

char *push_without_image(const struct controller *controller, const char *target_json) {
    _cleanup_free_ char *image = push_serving_image(controller, target_json);
    if (!image) return text_copy(target_json);
    _cleanup_json_ yyjson_doc *document = yyjson_read(target_json, strlen(target_json), 0);
    _cleanup_json_mutable_ yyjson_mut_doc *rest = yyjson_doc_mut_copy(document, NULL);
    yyjson_mut_obj_remove_key(yyjson_mut_doc_get_root(rest), "serving_image");
    return json_write(rest, NULL);
}

bool push_image_is_wanted(struct step_run *run) {
    if (!*run->controller->settings->container_registry) return false;
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if (store_begin(run->controller->store, &tx, NULL) < 0 || step_load(run, tx, &deployment, &revision, NULL) < 0)
        return true; /* the step itself says what is wrong */
    _cleanup_free_ char *image = push_serving_image(run->controller, revision.target_json);
    return image != NULL;
}

int push_open(struct step_run *run, const char *registry, struct oci **ret_oci, struct error **ret_error) {
    struct registry_context context = registries_context(run->controller);
    context.canceled = &run->interrupted;
    context.deadline_ms = run->deadline_ms;
    return registry_oci_open(&context, registry, ERROR_EXTERNAL_SERVICE, ret_oci, ret_error);
}
