/* Writing an object: one PUT, or a multipart upload
 * (https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html), one part after another. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "s3/s3-internal.h"

#define ONE_PUT_MAXIMUM ((uint64_t)64 << 20)
#define PART_SIZE ((uint64_t)32 << 20)
#define PARTS_MAXIMUM 10000
#define ABORT_DEADLINE_MS 15000
#define HASH_BLOCK ((size_t)256 << 10)

struct upload {
    struct s3 *s3;
    const char *bucket, *key;
    int (*read)(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size, struct error **ret_error);
    void *context;
    uint64_t size, part_size;
    char *id;
    char **etags;
    size_t part_count;
};

/* ---- a part, or the whole ---- */

struct slice {
    const struct upload *upload;
    uint64_t offset;
};

static int read_slice(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    const struct slice *slice = context;
    return slice->upload->read(slice->upload->context, slice->offset + offset, bytes, size, ret_size, ret_error);
}

/* Reading it twice is the price of a server that takes nothing but these bytes: some keep what came of an upload that
 * broke off. */
static int hash_slice(struct slice *slice, uint64_t size, char ret_hex[DIGEST_HEX_SIZE], struct error **ret_error) {
    _cleanup_free_ char *bytes = mem_alloc(HASH_BLOCK);
    struct digest *digest = digest_new();
    int result = 0;
    for (uint64_t done = 0; done < size;) {
        size_t wanted = size - done < HASH_BLOCK ? (size_t)(size - done) : HASH_BLOCK, got = 0;
        result = read_slice(slice, done, bytes, wanted, &got, ret_error);
        if (result < 0) {
            digest_free(digest);
            return result;
        }
        digest_update(digest, bytes, got);
        done += got;
    }
    digest_finish(digest, ret_hex);
    return 0;
}

static int put(const struct upload *upload, uint64_t offset, uint64_t size, const struct s3_parameter *parameters,
               size_t count, struct transfer_answer *ret_answer, struct error **ret_error) {
    _cleanup_free_ char *url = NULL;
    int result = s3_url(upload->s3, upload->bucket, upload->key, parameters, count, &url, ret_error);
    if (result < 0) return result;
    struct slice slice = {upload, offset};
    char hex[DIGEST_HEX_SIZE];
    result = hash_slice(&slice, size, hex, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *hash = text_format("x-amz-content-sha256: %s", hex);
    const char *headers[] = {"Content-Type: application/octet-stream", hash};
    struct transfer_request request = {.method = "PUT", .url = url, .headers = headers, .header_count = 2};
    request.body_size = size;
    if (size) {
        request.read = read_slice;
        request.read_context = &slice;
    }
    return s3_perform(upload->s3, &request, (const int[]){200}, 1, ret_answer, ret_error);
}

static int put_whole(const struct upload *upload, struct error **ret_error) {
    _cleanup_answer_ struct transfer_answer answer = {0};
    return put(upload, 0, upload->size, NULL, 0, &answer, ret_error);
}

static int put_part(struct upload *upload, size_t index, struct error **ret_error) {
    uint64_t offset = index * upload->part_size, rest = upload->size - offset;
    _cleanup_free_ char *number = text_format("%zu", index + 1);
    const struct s3_parameter parameters[] = {{"partNumber", number}, {"uploadId", upload->id}};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = put(upload, offset, rest < upload->part_size ? rest : upload->part_size, parameters,
                     ARRAY_SIZE(parameters), &answer, ret_error);
    if (result < 0) return error_wrap(ret_error, "part %zu of %zu", index + 1, upload->part_count);
    upload->etags[index] = transfer_answer_header(&answer, "ETag");
    if (upload->etags[index]) return 0;
    return error_set(ret_error, upload->s3->transfer_config.class, "the server gives no ETag for part %zu", index + 1);
}

/* ---- the upload around the parts ---- */

static int post(const struct upload *upload, const struct s3_parameter *parameter, const char *body,
                struct transfer_answer *ret_answer, struct error **ret_error) {
    _cleanup_free_ char *url = NULL;
    int result = s3_url(upload->s3, upload->bucket, upload->key, parameter, 1, &url, ret_error);
    if (result < 0) return result;
    struct transfer_request request = {.method = "POST", .url = url, .body = body, .body_size = strlen(body)};
    return s3_perform(upload->s3, &request, (const int[]){200}, 1, ret_answer, ret_error);
}

static int on_begun(void *context, const char *path, const char *text, struct error **ret_error) {
    (void)ret_error;
    char **id = context;
    if (!strcmp(path, "InitiateMultipartUploadResult/UploadId") && !*id) *id = text_copy(text);
    return 0;
}

static int begin(struct upload *upload, struct error **ret_error) {
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = post(upload, &(const struct s3_parameter){"uploads", ""}, "", &answer, ret_error);
    if (result >= 0) result = s3_read_answer(upload->s3, &answer, on_begun, &upload->id, ret_error);
    if (result >= 0 && (!upload->id || !*upload->id))
        result = error_set(ret_error, upload->s3->transfer_config.class, "the server begins no upload");
    return result;
}

static char *list_parts(const struct upload *upload) {
    _cleanup_buffer_ struct buffer body = {0};
    buffer_append_text(&body, "<CompleteMultipartUpload>");
    for (size_t i = 0; i < upload->part_count; i++) {
        _cleanup_free_ char *etag = s3_xml_escape(upload->etags[i]);
        buffer_append_format(&body, "<Part><PartNumber>%zu</PartNumber><ETag>%s</ETag></Part>", i + 1, etag);
    }
    buffer_append_text(&body, "</CompleteMultipartUpload>");
    return buffer_take(&body, NULL);
}

static int on_completed(void *context, const char *path, const char *text, struct error **ret_error) {
    (void)text, (void)ret_error;
    if (!strcmp(path, "CompleteMultipartUploadResult")) *(bool *)context = true;
    return 0;
}

/* An answer that was lost, and asked for again, is that the upload is not there any more. */
static bool is_completed(const struct upload *upload) {
    struct s3_object object = {0};
    bool is_there = s3_head(upload->s3, upload->bucket, upload->key, NULL, &object, NULL) >= 0 && object.key;
    _cleanup_free_ char *ending = text_format("-%zu\"", upload->part_count);
    is_there = is_there && object.size_bytes == upload->size && object.etag && text_ends_with(object.etag, ending);
    s3_object_clear(&object);
    return is_there;
}

/* The status is sent before all is joined: a failure may stand in the body of a 200. */
static int complete(const struct upload *upload, struct error **ret_error) {
    _cleanup_free_ char *body = list_parts(upload);
    _cleanup_answer_ struct transfer_answer answer = {0};
    _cleanup_error_ struct error *error = NULL;
    bool is_done = false;
    int result = post(upload, &(const struct s3_parameter){"uploadId", upload->id}, body, &answer, &error);
    if (result >= 0) result = s3_read_answer(upload->s3, &answer, on_completed, &is_done, &error);
    if (result >= 0 && !is_done) result = s3_fail_answer(upload->s3, &answer, &error);
    if (result >= 0) return 0;
    _cleanup_free_ char *text = error_text(error);
    if (strstr(text, "NoSuchUpload") && is_completed(upload)) return 0;
    if (ret_error) *ret_error = TAKE(error);
    return result;
}

/* Parts are stored, and paid for, until then. Also done when all else was canceled or is too late. */
static void abort_upload(const struct upload *upload) {
    struct s3 again = *upload->s3;
    again.transfer_config.canceled = NULL;
    again.transfer_config.deadline_ms = clock_monotonic_ms() + ABORT_DEADLINE_MS;
    const struct s3_parameter parameter = {"uploadId", upload->id};
    _cleanup_free_ char *url = NULL;
    if (s3_url(&again, upload->bucket, upload->key, &parameter, 1, &url, NULL) < 0) return;
    if (transfer_open(&again.transfer_config, &again.transfer, NULL) < 0) return;
    struct transfer_request request = {.method = "DELETE", .url = url};
    struct transfer_answer answer = {0};
    if (s3_perform(&again, &request, (const int[]){200, 204, 404}, 3, &answer, NULL) >= 0)
        transfer_answer_clear(&answer);
    transfer_close(again.transfer);
}

static int put_parts(struct upload *upload, struct error **ret_error) {
    int result = begin(upload, ret_error);
    if (result < 0) return result;
    for (size_t i = 0; i < upload->part_count && result >= 0; i++) result = put_part(upload, i, ret_error);
    if (result >= 0) result = complete(upload, ret_error);
    if (result < 0) abort_upload(upload);
    return result;
}

static int put_in_parts(struct upload *upload, struct error **ret_error) {
    uint64_t least = (upload->size + PARTS_MAXIMUM - 1) / PARTS_MAXIMUM;
    upload->part_size = least > PART_SIZE ? least : PART_SIZE;
    upload->part_count = (size_t)((upload->size + upload->part_size - 1) / upload->part_size);
    upload->etags = mem_new_array(upload->part_count, char *);
    int result = put_parts(upload, ret_error);
    for (size_t i = 0; i < upload->part_count; i++) free(upload->etags[i]);
    free(upload->etags);
    free(upload->id);
    return result;
}

int s3_write(struct s3 *s3, const char *bucket, const char *key,
             int (*read)(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                         struct error **ret_error),
             void *context, uint64_t size_bytes, struct error **ret_error) {
    struct upload upload = {
        .s3 = s3, .bucket = bucket, .key = key, .read = read, .context = context, .size = size_bytes};
    int result = size_bytes > ONE_PUT_MAXIMUM ? put_in_parts(&upload, ret_error) : put_whole(&upload, ret_error);
    return result < 0 ? error_wrap(ret_error, "write s3://%s/%s", bucket, key) : 0;
}
