/* Referrers (OCI Distribution Specification 1.1, "Listing Referrers"): by the registry's API, or, where it has none, by
 * an index under the tag sha256-<digest of the subject>, which those who push keep up themselves. Two that do so at the
 * same moment may lose one of the entries: the protocol has no means against it. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "oci/oci-internal.h"

static char *fallback_tag(const char *digest) {
    char *tag = text_copy(digest);
    tag[strcspn(tag, ":")] = '-';
    return tag;
}

/* 1: the API answered; 0: there is none. */
static int ask_api(struct oci *oci, const char *repository, const char *digest, struct oci_manifest *ret_index,
                   struct error **ret_error) {
    _cleanup_free_ char *url = oci_url(oci, repository, "referrers", digest);
    _cleanup_free_ char *scope = oci_scope_pull(repository);
    struct transfer_request request = {.url = url, .answer_maximum = OCI_MANIFEST_MAXIMUM};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = oci_request(oci, &request, scope, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status == 404) return 0;
    if (answer.status != 200) return oci_fail_answer(oci, &answer, ret_error);
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    if (json_parse_object(answer.body, answer.body_size, &document, &root, NULL) < 0 ||
        !yyjson_is_arr(yyjson_obj_get(root, "manifests")))
        return 0;
    *ret_index = (struct oci_manifest){.size = answer.body_size, .media_type = text_copy(OCI_TYPE_INDEX)};
    oci_digest_bytes(answer.body, answer.body_size, ret_index->digest);
    ret_index->bytes = TAKE(answer.body);
    return 1;
}

static void make_empty(struct oci_manifest *ret_index) {
    char *bytes = text_copy("{\"schemaVersion\":2,\"mediaType\":\"" OCI_TYPE_INDEX "\",\"manifests\":[]}");
    *ret_index = (struct oci_manifest){.bytes = bytes, .size = strlen(bytes), .media_type = text_copy(OCI_TYPE_INDEX)};
    oci_digest_bytes(bytes, ret_index->size, ret_index->digest);
}

int oci_get_referrers(struct oci *oci, const char *repository, const char *digest, struct oci_manifest *ret_index,
                      struct error **ret_error) {
    if (!oci_is_digest(digest)) return error_set(ret_error, ERROR_CONFIGURATION, "\"%.80s\" is no digest", digest);
    _cleanup_free_ char *tag = fallback_tag(digest);
    int result = ask_api(oci, repository, digest, ret_index, ret_error);
    if (!result) result = oci_find_manifest(oci, repository, tag, ret_index, ret_error);
    if (!result) make_empty(ret_index);
    return result < 0 ? error_wrap(ret_error, "the referrers of %s in %s/%s", digest, oci->registry, repository) : 0;
}

/* What an index says of a manifest with a subject: its own type or else its config's, and its annotations. */
static yyjson_mut_val *describe(yyjson_mut_doc *document, yyjson_val *manifest, size_t size, const char *media_type,
                                const char *digest) {
    yyjson_mut_val *descriptor = yyjson_mut_obj(document);
    json_add_text(document, descriptor, "mediaType", media_type);
    json_add_text(document, descriptor, "digest", digest);
    yyjson_mut_obj_add_uint(document, descriptor, "size", size);
    const char *type = yyjson_get_str(yyjson_obj_get(manifest, "artifactType"));
    if (!type) type = yyjson_get_str(yyjson_obj_get(yyjson_obj_get(manifest, "config"), "mediaType"));
    json_add_text(document, descriptor, "artifactType", type);
    yyjson_val *annotations = yyjson_obj_get(manifest, "annotations");
    if (annotations)
        yyjson_mut_obj_add_val(document, descriptor, "annotations", yyjson_val_mut_copy(document, annotations));
    return descriptor;
}

static bool lists(yyjson_val *manifests, const char *digest) {
    size_t index, count;
    yyjson_val *entry;
    yyjson_arr_foreach(manifests, index, count, entry) {
        if (text_equal(yyjson_get_str(yyjson_obj_get(entry, "digest")), digest)) return true;
    }
    return false;
}

int oci_note_referrer(struct oci *oci, const char *repository, const char *subject, const char *manifest,
                      size_t manifest_size, const char *media_type, const char *digest, struct error **ret_error) {
    if (!oci_is_digest(subject)) return oci_fail(oci, ret_error, "the subject \"%.80s\" is no digest", subject);
    _cleanup_manifest_ struct oci_manifest index = {0};
    int result = ask_api(oci, repository, subject, &index, ret_error);
    if (result) return result < 0 ? result : 0;
    _cleanup_free_ char *tag = fallback_tag(subject);
    if ((result = oci_find_manifest(oci, repository, tag, &index, ret_error)) < 0) return result;
    if (!result) make_empty(&index);
    _cleanup_json_ yyjson_doc *listed = NULL, *pushed = NULL;
    yyjson_val *root = NULL, *own = NULL;
    if ((result = json_parse_object(index.bytes, index.size, &listed, &root, ret_error)) < 0 ||
        (result = json_parse_object(manifest, manifest_size, &pushed, &own, ret_error)) < 0)
        return result;
    if (!yyjson_is_arr(yyjson_obj_get(root, "manifests")))
        return oci_fail(oci, ret_error, "the tag %s is no index of referrers", tag);
    if (lists(yyjson_obj_get(root, "manifests"), digest)) return 0;
    _cleanup_json_mutable_ yyjson_mut_doc *longer = yyjson_doc_mut_copy(listed, NULL);
    yyjson_mut_arr_append(yyjson_mut_obj_get(yyjson_mut_doc_get_root(longer), "manifests"),
                          describe(longer, own, manifest_size, media_type, digest));
    size_t size = 0;
    _cleanup_free_ char *bytes = json_write(longer, &size);
    char ignored[OCI_DIGEST_SIZE];
    bool has_subject = false;
    return oci_put_manifest(oci, repository, tag, bytes, size, OCI_TYPE_INDEX, ignored, &has_subject, ret_error);
}
