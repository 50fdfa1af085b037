/* Manifests: got and put as the bytes that they are; their digest is that of those bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

static const char *const accepted[] = {"Accept: " OCI_TYPE_MANIFEST ", " OCI_TYPE_INDEX ", " OCI_TYPE_DOCKER_MANIFEST
                                       ", " OCI_TYPE_DOCKER_LIST};

void oci_manifest_clear(struct oci_manifest *manifest) {
    free(manifest->bytes);
    free(manifest->media_type);
    *manifest = (struct oci_manifest){0};
}

/* The media type of Content-Type without its parameters. */
static char *content_type(const struct transfer_answer *answer) {
    char *type = transfer_answer_header(answer, "Content-Type");
    if (type) type[strcspn(type, "; \t")] = '\0';
    return type;
}

/* A manifest that calls itself something else than the registry does is not to be trusted: one of the two would be read
 * as what it is not. */
static int read_type(struct oci *oci, const struct transfer_answer *answer, char **ret_type, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    struct error *error = NULL;
    if (json_parse_object(answer->body, answer->body_size, &document, &root, &error) < 0) {
        _cleanup_free_ char *words = error_text(error);
        error_free(error);
        return oci_fail(oci, ret_error, "the manifest is no JSON object: %s", words);
    }
    const char *own = yyjson_get_str(yyjson_obj_get(root, "mediaType"));
    _cleanup_free_ char *told = content_type(answer);
    if (own && told && strcmp(own, told) && !text_starts_with(told, "application/json") &&
        !text_starts_with(told, "text/") && !text_equal(told, "application/octet-stream"))
        return oci_fail(oci, ret_error, "the manifest says that it is %.100s, the registry that it is %.100s", own,
                        told);
    if (own)
        *ret_type = text_copy(own);
    else if (told && strstr(told, "manifest."))
        *ret_type = TAKE(told);
    else
        *ret_type = text_copy(yyjson_obj_get(root, "manifests") ? OCI_TYPE_INDEX : OCI_TYPE_MANIFEST);
    return 0;
}

static int check_digest(struct oci *oci, const struct transfer_answer *answer, const char *name, const char *digest,
                        struct error **ret_error) {
    if (text_starts_with(name, OCI_SHA256) && strcmp(name, digest))
        return oci_fail(oci, ret_error, "what came has the digest %s", digest);
    _cleanup_free_ char *told = transfer_answer_header(answer, "Docker-Content-Digest");
    if (told && text_starts_with(told, OCI_SHA256) && strcmp(told, digest))
        return oci_fail(oci, ret_error, "the registry says that its digest is %.80s, what came has %s", told, digest);
    return 0;
}

int oci_find_manifest(struct oci *oci, const char *repository, const char *name, struct oci_manifest *ret_manifest,
                      struct error **ret_error) {
    _cleanup_free_ char *url = oci_url(oci, repository, "manifests", name);
    _cleanup_free_ char *scope = oci_scope_pull(repository);
    struct transfer_request request = {
        .url = url, .headers = accepted, .header_count = ARRAY_SIZE(accepted), .answer_maximum = OCI_MANIFEST_MAXIMUM};
    _cleanup_answer_ struct transfer_answer answer = {0};
    struct oci_manifest manifest = {0};
    int result = oci_request(oci, &request, scope, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status == 404) return 0;
    if (answer.status != 200) return oci_fail_answer(oci, &answer, ret_error);
    oci_digest_bytes(answer.body, answer.body_size, manifest.digest);
    if ((result = check_digest(oci, &answer, name, manifest.digest, ret_error)) < 0 ||
        (result = read_type(oci, &answer, &manifest.media_type, ret_error)) < 0)
        return result;
    manifest.size = answer.body_size;
    manifest.bytes = TAKE(answer.body);
    *ret_manifest = manifest;
    return 1;
}

int oci_get_manifest(struct oci *oci, const struct oci_reference *reference, struct oci_manifest *ret_manifest,
                     struct error **ret_error) {
    const char *name = reference->digest ? reference->digest : reference->tag;
    if (reference->digest && !oci_is_digest(reference->digest))
        return oci_fail(oci, ret_error, "\"%.100s\" is no digest that is understood: it reads sha256:...", name);
    int result = oci_find_manifest(oci, reference->repository, name, ret_manifest, ret_error);
    if (result > 0) return 0;
    if (!result)
        return oci_fail(oci, ret_error, "the registry %s has no manifest %s of %s", oci->registry, name,
                        reference->repository);
    return error_wrap(ret_error, "the manifest %s of %s/%s", name, oci->registry, reference->repository);
}

int oci_put_manifest(struct oci *oci, const char *repository, const char *name, const char *bytes, size_t size,
                     const char *media_type, char ret_digest[OCI_DIGEST_SIZE], bool *ret_has_subject,
                     struct error **ret_error) {
    _cleanup_free_ char *url = oci_url(oci, repository, "manifests", name);
    _cleanup_free_ char *scope = oci_scope_push(repository);
    _cleanup_free_ char *type = text_format("Content-Type: %s", media_type);
    const char *headers[] = {type};
    struct transfer_request request = {.method = "PUT",
                                       .url = url,
                                       .headers = headers,
                                       .header_count = ARRAY_SIZE(headers),
                                       .body = bytes,
                                       .body_size = size};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = oci_request(oci, &request, scope, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status != 201 && answer.status != 200) return oci_fail_answer(oci, &answer, ret_error);
    oci_digest_bytes(bytes, size, ret_digest);
    _cleanup_free_ char *told = transfer_answer_header(&answer, "Docker-Content-Digest");
    if (told && strcmp(told, ret_digest))
        return oci_fail(oci, ret_error, "the registry has stored the manifest as %.80s, what was sent has %s", told,
                        ret_digest);
    _cleanup_free_ char *subject = transfer_answer_header(&answer, "OCI-Subject");
    *ret_has_subject = subject != NULL;
    return 0;
}

int oci_push_manifest(struct oci *oci, const char *repository, const char *tag, const char *bytes, size_t size,
                      const char *media_type, char ret_digest[OCI_DIGEST_SIZE], struct error **ret_error) {
    char digest[OCI_DIGEST_SIZE];
    bool has_subject = false;
    oci_digest_bytes(bytes, size, digest);
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(bytes, size, &document, &root, ret_error);
    if (result >= 0)
        result = oci_put_manifest(oci, repository, tag ? tag : digest, bytes, size, media_type, digest, &has_subject,
                                  ret_error);
    const char *subject = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(root, "subject"), "digest"));
    if (result >= 0 && subject && !has_subject)
        result = oci_note_referrer(oci, repository, subject, bytes, size, media_type, digest, ret_error);
    if (result < 0)
        return error_wrap(ret_error, "push the manifest %s of %s/%s", tag ? tag : digest, oci->registry, repository);
    memcpy(ret_digest, digest, OCI_DIGEST_SIZE);
    return 0;
}
