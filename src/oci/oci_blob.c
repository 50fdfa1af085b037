/* Blobs that a registry has: read, described for a download, found, mounted from another repository. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

static int check_digest(const char *digest, struct error **ret_error) {
    if (oci_is_digest(digest)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "\"%.100s\" is no digest that is understood: it reads sha256:...",
                     digest);
}

int oci_get_blob(struct oci *oci, const char *repository, const char *digest, size_t maximum, char **ret_bytes,
                 size_t *ret_size, struct error **ret_error) {
    int result = check_digest(digest, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *url = oci_url(oci, repository, "blobs", digest);
    _cleanup_free_ char *scope = oci_scope_pull(repository);
    struct transfer_request request = {.url = url, .answer_maximum = maximum};
    _cleanup_answer_ struct transfer_answer answer = {0};
    result = oci_request(oci, &request, scope, &answer, ret_error);
    if (result >= 0 && answer.status != 200) result = oci_fail_answer(oci, &answer, ret_error);
    char found[OCI_DIGEST_SIZE];
    if (result >= 0) {
        oci_digest_bytes(answer.body, answer.body_size, found);
        if (strcmp(found, digest)) result = oci_fail(oci, ret_error, "what came has the digest %s", found);
    }
    if (result < 0) return error_wrap(ret_error, "the blob %s of %s/%s", digest, oci->registry, repository);
    *ret_size = answer.body_size;
    *ret_bytes = TAKE(answer.body);
    return 0;
}

int oci_has_blob(struct oci *oci, const char *repository, const char *digest, struct error **ret_error) {
    int result = check_digest(digest, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *url = oci_url(oci, repository, "blobs", digest);
    _cleanup_free_ char *scope = oci_scope_pull(repository);
    struct transfer_request request = {.method = "HEAD", .url = url, .keep_redirect = true};
    _cleanup_answer_ struct transfer_answer answer = {0};
    result = oci_request(oci, &request, scope, &answer, ret_error);
    if (result >= 0 && answer.status == 404) return 0;
    /* A redirect leads to where its bytes are. */
    if (result >= 0 && (answer.status == 200 || (answer.status > 300 && answer.status < 309))) return 1;
    if (result >= 0) result = oci_fail_answer(oci, &answer, ret_error);
    return error_wrap(ret_error, "whether %s/%s has %s", oci->registry, repository, digest);
}

int oci_describe_blob(struct oci *oci, const char *repository, const char *digest, uint64_t size_bytes,
                      struct transfer_file *ret_file, char **ret_url, struct error **ret_error) {
    int result = check_digest(digest, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *scope = oci_scope_pull(repository);
    /* Downloads do not answer challenges: what they need is asked for before. */
    if (!oci_is_ready(oci, scope)) {
        if ((result = oci_has_blob(oci, repository, digest, ret_error)) < 0) return result;
        if (!result)
            return oci_fail(oci, ret_error, "the registry %s has no blob %s of %s", oci->registry, digest, repository);
    }
    *ret_url = oci_url(oci, repository, "blobs", digest);
    *ret_file = (struct transfer_file){.url = *ret_url, .size_bytes = size_bytes, .sha256 = strchr(digest, ':') + 1};
    oci_credentials(oci, scope, &ret_file->credentials);
    return 0;
}

int oci_mount_blob(struct oci *oci, const char *repository, const char *from_repository, const char *digest,
                   struct error **ret_error) {
    int result = check_digest(digest, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *from = text_percent_encode(from_repository, strlen(from_repository));
    _cleanup_free_ char *url =
        text_format("%s/v2/%s/blobs/uploads/?mount=%s&from=%s", oci->origin, repository, digest, from);
    _cleanup_free_ char *push = oci_scope_push(repository);
    _cleanup_free_ char *pull = oci_scope_pull(from_repository);
    _cleanup_free_ char *scope = text_format("%s %s", push, pull);
    struct transfer_request request = {.method = "POST", .url = url};
    _cleanup_answer_ struct transfer_answer answer = {0};
    result = oci_request(oci, &request, scope, &answer, ret_error);
    if (result >= 0 && answer.status == 201) return 1;
    if (result >= 0 && answer.status == 202) {
        oci_end_upload(oci, repository, &answer);
        return 0;
    }
    /* Not allowed to read the other repository, or it lacks the blob: then there is another way. */
    if (result >= 0 && (answer.status == 403 || answer.status == 404 || answer.status == 405)) return 0;
    if (result >= 0) result = oci_fail_answer(oci, &answer, ret_error);
    return error_wrap(ret_error, "mount %s of %s in %s/%s", digest, from_repository, oci->registry, repository);
}
