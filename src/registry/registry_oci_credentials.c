/* Docker's config.json: the credentials that `docker login` (and podman, skopeo, crane, oras) leaves there. */
#include <openssl/evp.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_oci.h"

#define SECRET_MAXIMUM 65536 /* bytes of one entry's base64 */

static void wipe(char **secret) {
    if (*secret) explicit_bzero(*secret, strlen(*secret));
    free(*secret);
    *secret = NULL;
}

void registry_docker_clear(struct registry_docker_access *access) {
    wipe(&access->username);
    wipe(&access->password);
    wipe(&access->identity_token);
    wipe(&access->token);
}

/* base64 of "user:password". */
static bool decode_auth(const char *auth, struct registry_docker_access *access) {
    size_t length = strlen(auth);
    if (!length || length % 4 || length > SECRET_MAXIMUM) return false;
    unsigned char *plain = mem_zeroed(length + 1, 1);
    int size = EVP_DecodeBlock(plain, (const unsigned char *)auth, (int)length);
    if (size > 0) plain[(size_t)size - (auth[length - 1] == '=') - (auth[length - 2] == '=')] = '\0';
    char *colon = size > 0 ? strchr((char *)plain, ':') : NULL;
    bool is_good = colon && colon != (char *)plain;
    if (is_good) {
        *colon = '\0';
        access->username = text_copy((char *)plain);
        access->password = text_copy(colon + 1);
        size_t end = strlen(access->password);
        is_good = text_is_utf8(access->password, end) && text_is_utf8(access->username, strlen(access->username));
    }
    explicit_bzero(plain, length);
    free(plain);
    return is_good;
}

/* The keys that tools use for one registry. */
static yyjson_val *find_entry(yyjson_val *object, const char *registry) {
    static const char *const forms[] = {"%s",        "https://%s",     "https://%s/",
                                        "http://%s", "https://%s/v1/", "https://%s/v2/"};
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        const char *mark = strstr(forms[i], "%s");
        _cleanup_free_ char *key = text_format("%.*s%s%s", (int)(mark - forms[i]), forms[i], registry, mark + 2);
        yyjson_val *entry = yyjson_obj_get(object, key);
        if (entry) return entry;
    }
    if (strcmp(registry, "docker.io") && strcmp(registry, "registry-1.docker.io")) return NULL;
    return yyjson_obj_get(object, "https://index.docker.io/v1/");
}

static int refuse_helper(const char *where, const char *registry, struct error **ret_error) {
    return error_set(ret_error, ERROR_MODEL_REGISTRY,
                     "%s leaves the credentials of %s to a helper program, which is not run here; put username and "
                     "password_file (or token_file) into an [oci] section of the registries file",
                     where, registry);
}

static int read_entry(yyjson_val *entry, const char *where, const char *registry,
                      struct registry_docker_access *ret_access, struct error **ret_error) {
    const struct {
        const char *field;
        char **place;
    } fields[] = {{"username", &ret_access->username},
                  {"password", &ret_access->password},
                  {"identitytoken", &ret_access->identity_token},
                  {"registrytoken", &ret_access->token}};
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        const char *text = yyjson_get_str(yyjson_obj_get(entry, fields[i].field));
        if (text && *text) *fields[i].place = text_copy(text);
    }
    const char *auth = yyjson_get_str(yyjson_obj_get(entry, "auth"));
    if (!auth || !*auth) return 0;
    wipe(&ret_access->username);
    wipe(&ret_access->password);
    if (decode_auth(auth, ret_access)) return 0;
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "the auth of %s in %s is not base64 of user:password", registry,
                     where);
}

int registry_docker_read(const char *text, size_t size, const char *where, const char *registry,
                         struct registry_docker_access *ret_access, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    /* The parser's own words tell a place, never bytes. */
    if (json_parse_object(text, size, &document, &root, NULL) < 0)
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "%s is no JSON object", where);
    if (find_entry(yyjson_obj_get(root, "credHelpers"), registry)) return refuse_helper(where, registry, ret_error);
    yyjson_val *entry = find_entry(yyjson_obj_get(root, "auths"), registry);
    if (!entry) return 0;
    _cleanup_docker_access_ struct registry_docker_access access = {0};
    int result = read_entry(entry, where, registry, &access, ret_error);
    if (result < 0) return result;
    bool is_empty = !access.username && !access.identity_token && !access.token;
    if (is_empty && yyjson_get_str(yyjson_obj_get(root, "credsStore")))
        return refuse_helper(where, registry, ret_error);
    *ret_access = access;
    access = (struct registry_docker_access){0};
    return 0;
}
