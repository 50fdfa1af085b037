/* One object: looking at it, reading it, removing it. */
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "s3/s3-internal.h"

/* ---- looking ---- */

/* x-amz-checksum-sha256 is base64. That of a multipart upload is of the parts' digests, and no one's else. */
static char *read_sha256(const struct transfer_answer *answer) {
    _cleanup_free_ char *text = transfer_answer_header(answer, "x-amz-checksum-sha256");
    _cleanup_free_ char *type = transfer_answer_header(answer, "x-amz-checksum-type");
    unsigned char bytes[33];
    if (!text || strlen(text) != 44 || text[43] != '=' || text[42] == '=' || (type && strcmp(type, "FULL_OBJECT")))
        return NULL;
    if (EVP_DecodeBlock(bytes, (const unsigned char *)text, 44) != 33) return NULL;
    char hex[DIGEST_HEX_SIZE];
    for (size_t i = 0; i < DIGEST_SIZE; i++) snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    return text_copy(hex);
}

/* A bucket that once kept versions says "null" for what it does not keep. */
static char *read_version(const struct transfer_answer *answer) {
    char *version = transfer_answer_header(answer, "x-amz-version-id");
    if (version && *version && strcmp(version, "null")) return version;
    free(version);
    return NULL;
}

static int read_head(struct s3 *s3, const char *key, const struct transfer_answer *answer, struct s3_object *ret_object,
                     struct error **ret_error) {
    _cleanup_free_ char *length = transfer_answer_header(answer, "Content-Length");
    _cleanup_free_ char *etag = transfer_answer_header(answer, "ETag");
    uint64_t size;
    if (!length || !text_parse_number(length, INT64_MAX, &size))
        return error_set(ret_error, s3->transfer_config.class, "the server does not say how large it is");
    *ret_object = (struct s3_object){
        .key = text_copy(key),
        .etag = s3_quote_etag(etag),
        .version_id = read_version(answer),
        .size_bytes = size,
        .sha256 = read_sha256(answer),
    };
    return 0;
}

/* The answer to HEAD has no words: GET of the first byte has. 0 when it is only the object that is missing. */
static int ask_why(struct s3 *s3, const char *url, const struct transfer_answer *head, struct error **ret_error) {
    static const char *const headers[] = {"Range: bytes=0-0"};
    struct transfer_request request = {
        .url = url, .headers = headers, .header_count = 1, .credentials = s3->credentials, .keep_redirect = true};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = transfer_perform(s3->transfer, &request, &answer, ret_error);
    if (result < 0) return result;
    const char *body = answer.body ? answer.body : "";
    if (answer.status == 404 && !strstr(body, "<Code>NoSuchBucket<") && !strstr(body, "<Code>NoSuchVersion<")) return 0;
    return s3_fail_answer(s3, answer.status < 300 ? head : &answer, ret_error);
}

int s3_head(struct s3 *s3, const char *bucket, const char *key, const char *version_id, struct s3_object *ret_object,
            struct error **ret_error) {
    const struct s3_parameter version = {"versionId", version_id};
    _cleanup_free_ char *url = NULL;
    int result = s3_url(s3, bucket, key, &version, 1, &url, ret_error);
    if (result < 0) return result;
    static const char *const headers[] = {"x-amz-checksum-mode: ENABLED"};
    struct transfer_request request = {.method = "HEAD",
                                       .url = url,
                                       .headers = headers,
                                       .header_count = 1,
                                       .credentials = s3->credentials,
                                       .keep_redirect = true};
    _cleanup_answer_ struct transfer_answer answer = {0};
    result = transfer_perform(s3->transfer, &request, &answer, ret_error);
    if (result < 0) return error_wrap(ret_error, "look at s3://%s/%s", bucket, key);
    struct s3_object object = {0};
    result =
        answer.status == 200 ? read_head(s3, key, &answer, &object, ret_error) : ask_why(s3, url, &answer, ret_error);
    if (result < 0) return error_wrap(ret_error, "look at s3://%s/%s", bucket, key);
    *ret_object = object;
    return 0;
}

/* ---- reading ---- */

int s3_describe_get(struct s3 *s3, const char *bucket, const struct s3_object *object, struct transfer_file *ret_file,
                    char **ret_url, struct error **ret_error) {
    const struct s3_parameter version = {"versionId", object->version_id};
    int result = s3_url(s3, bucket, object->key, &version, 1, ret_url, ret_error);
    if (result < 0) return result;
    ret_file->url = *ret_url;
    ret_file->credentials = s3->credentials;
    ret_file->size_bytes = object->size_bytes;
    ret_file->validator = object->etag;
    if (object->sha256) ret_file->sha256 = object->sha256;
    return 0;
}

static int fail_changed(struct s3 *s3, struct error **ret_error) {
    error_set(ret_error, s3->transfer_config.class, "it has changed since it was looked at");
    return error_mark_transient(ret_error);
}

static int check_read(struct s3 *s3, const struct s3_object *object, const struct transfer_answer *answer, size_t size,
                      struct error **ret_error) {
    _cleanup_free_ char *etag = transfer_answer_header(answer, "ETag"), *quoted = s3_quote_etag(etag);
    if (answer->status == 412 || (object->etag && !text_equal(quoted, object->etag)))
        return fail_changed(s3, ret_error);
    if (answer->status == 206 && answer->body_size == size) return 0;
    if (answer->status == 200 && answer->body_size == object->size_bytes) return 0;
    return error_set(ret_error, s3->transfer_config.class, "%zu bytes of it came where %zu were asked for",
                     answer->body_size, size);
}

/* If-Match keeps the bytes of one object together over any number of calls. */
static int read_range(struct s3 *s3, const char *bucket, const struct s3_object *object, uint64_t offset, char *bytes,
                      size_t size, struct error **ret_error) {
    const struct s3_parameter version = {"versionId", object->version_id};
    _cleanup_free_ char *url = NULL, *match = NULL;
    int result = s3_url(s3, bucket, object->key, &version, 1, &url, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *range =
        text_format("Range: bytes=%llu-%llu", (unsigned long long)offset, (unsigned long long)(offset + size - 1));
    if (object->etag) match = text_format("If-Match: %s", object->etag);
    const char *headers[] = {range, match};
    struct transfer_request request = {
        .url = url, .headers = headers, .header_count = match ? 2 : 1, .answer_maximum = size + (64u << 10)};
    static const int wanted[] = {206, 200, 412};
    _cleanup_answer_ struct transfer_answer answer = {0};
    result = s3_perform(s3, &request, wanted, ARRAY_SIZE(wanted), &answer, ret_error);
    if (result >= 0) result = check_read(s3, object, &answer, size, ret_error);
    if (result < 0) return result;
    memcpy(bytes, answer.body + (answer.status == 200 ? offset : 0), size);
    return 0;
}

int s3_read(struct s3 *s3, const char *bucket, const struct s3_object *object, uint64_t offset, char *bytes,
            size_t size, size_t *ret_size, struct error **ret_error) {
    uint64_t rest = offset < object->size_bytes ? object->size_bytes - offset : 0;
    if (size > rest) size = (size_t)rest;
    int result = size ? read_range(s3, bucket, object, offset, bytes, size, ret_error) : 0;
    if (result < 0) return error_wrap(ret_error, "read s3://%s/%s", bucket, object->key);
    *ret_size = size;
    return 0;
}

/* ---- removing ---- */

int s3_remove(struct s3 *s3, const char *bucket, const char *key, struct error **ret_error) {
    _cleanup_free_ char *url = NULL;
    int result = s3_url(s3, bucket, key, NULL, 0, &url, ret_error);
    if (result < 0) return result;
    struct transfer_request request = {.method = "DELETE", .url = url};
    static const int wanted[] = {200, 204, 404};
    _cleanup_answer_ struct transfer_answer answer = {0};
    result = s3_perform(s3, &request, wanted, ARRAY_SIZE(wanted), &answer, ret_error);
    if (result >= 0 && answer.status == 404 && !(answer.body && strstr(answer.body, "NoSuchKey")))
        result = s3_fail_answer(s3, &answer, ret_error);
    return result < 0 ? error_wrap(ret_error, "remove s3://%s/%s", bucket, key) : 0;
}
