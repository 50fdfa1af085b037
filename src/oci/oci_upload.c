/* Uploads in chunks (OCI Distribution Specification 1.1, "Pushing a blob in chunks"): POST begins one, each PATCH adds
 * bytes behind those that are there, PUT ends it. A chunk whose answer did not come may have arrived whole, in part or
 * not at all: it is never sent again blindly, the registry is asked where the upload stands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "oci/oci-internal.h"

#define CHUNK_BYTES (16u << 20)
#define CHUNK_MAXIMUM (1u << 30) /* the least that a registry may ask a chunk to have */
#define ATTEMPTS 5

struct upload {
    struct oci *oci;
    const char *repository, *digest;
    char *scope;
    char *location; /* where the next request goes; NULL: not begun */
    uint64_t size, done, chunk;
    int (*read)(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size, struct error **ret_error);
    void *context;
};

/* An absolute URL of a Location header (RFC 9110 §10.2.2); other hosts are transfer's to refuse. */
static char *absolute_location(const struct oci *oci, const char *location) {
    if (strstr(location, "://")) return text_copy(location);
    return text_format("%s%s%s", oci->origin, *location == '/' ? "" : "/", location);
}

static int take_location(struct upload *upload, const struct transfer_answer *answer, struct error **ret_error) {
    _cleanup_free_ char *location = transfer_answer_header(answer, "Location");
    if (!location && upload->location) return 0;
    if (!location || strlen(location) > 8192)
        return oci_fail(upload->oci, ret_error, "the answer does not say where the upload goes on");
    free(upload->location);
    upload->location = absolute_location(upload->oci, location);
    return 0;
}

void oci_end_upload(struct oci *oci, const char *repository, const struct transfer_answer *answer) {
    _cleanup_free_ char *location = transfer_answer_header(answer, "Location");
    if (!location) return;
    _cleanup_free_ char *url = absolute_location(oci, location);
    _cleanup_free_ char *scope = oci_scope_push(repository);
    struct transfer_request request = {.method = "DELETE", .url = url};
    _cleanup_answer_ struct transfer_answer ended = {0};
    oci_request(oci, &request, scope, &ended, NULL);
}

/* How many bytes the registry has, of Range ("0-1023", "bytes=0-1023"); "0-0" is what registries say of nothing, and of
 * one byte: nothing is the safe reading, as the chunk is then refused with where it stands. */
static bool read_range(const struct transfer_answer *answer, uint64_t *ret_done) {
    _cleanup_free_ char *range = transfer_answer_header(answer, "Range");
    const char *dash = range ? strchr(range, '-') : NULL;
    uint64_t last = 0;
    if (!dash || !text_parse_number(dash + 1, INT64_MAX - 1, &last)) return false;
    *ret_done = last ? last + 1 : 0;
    return true;
}

static int begin(struct upload *upload, struct error **ret_error) {
    struct oci *oci = upload->oci;
    _cleanup_free_ char *url = text_format("%s/v2/%s/blobs/uploads/", oci->origin, upload->repository);
    struct transfer_request request = {.method = "POST", .url = url};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = oci_request(oci, &request, upload->scope, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status != 202) return oci_fail_answer(oci, &answer, ret_error);
    upload->done = 0;
    upload->chunk = CHUNK_BYTES;
    _cleanup_free_ char *minimum = transfer_answer_header(&answer, "OCI-Chunk-Min-Length");
    uint64_t least = 0;
    if (minimum && text_parse_number(minimum, CHUNK_MAXIMUM, &least) && least > upload->chunk) upload->chunk = least;
    return take_location(upload, &answer, ret_error);
}

/* Where the upload stands by the registry's word; one that it does not know any more is begun anew. */
static int find_place(struct upload *upload, struct error **ret_error) {
    struct transfer_request request = {.url = upload->location};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = oci_request(upload->oci, &request, upload->scope, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status != 204 && answer.status != 202 && answer.status != 200) return begin(upload, ret_error);
    uint64_t done = 0;
    if (!read_range(&answer, &done) || done > upload->size) return begin(upload, ret_error);
    upload->done = done;
    return take_location(upload, &answer, ret_error);
}

struct chunk {
    struct upload *upload;
    uint64_t begin;
};

static int read_chunk(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    const struct chunk *chunk = context;
    return chunk->upload->read(chunk->upload->context, chunk->begin + offset, bytes, size, ret_size, ret_error);
}

/* 0: it has arrived; 1: the registry stands elsewhere. */
static int send_chunk(struct upload *upload, struct error **ret_error) {
    uint64_t size = upload->size - upload->done;
    if (size > upload->chunk) size = upload->chunk;
    struct chunk chunk = {.upload = upload, .begin = upload->done};
    char range[64];
    snprintf(range, sizeof range, "Content-Range: %llu-%llu", (unsigned long long)upload->done,
             (unsigned long long)(upload->done + size - 1));
    const char *headers[] = {"Content-Type: application/octet-stream", range};
    struct transfer_request request = {.method = "PATCH",
                                       .url = upload->location,
                                       .headers = headers,
                                       .header_count = ARRAY_SIZE(headers),
                                       .body_size = size,
                                       .read = read_chunk,
                                       .read_context = &chunk,
                                       .only_once = true};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = oci_request(upload->oci, &request, upload->scope, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status == 416 || answer.status == 404) return 1;
    if (answer.status != 202 && answer.status != 201) return oci_fail_answer(upload->oci, &answer, ret_error);
    uint64_t done = 0;
    if (read_range(&answer, &done) && done != upload->done + size && done) return 1;
    upload->done += size;
    return take_location(upload, &answer, ret_error);
}

static int finish(struct upload *upload, struct error **ret_error) {
    _cleanup_free_ char *url =
        text_format("%s%cdigest=%s", upload->location, strchr(upload->location, '?') ? '&' : '?', upload->digest);
    static const char *const headers[] = {"Content-Type: application/octet-stream"};
    struct transfer_request request = {.method = "PUT",
                                       .url = url,
                                       .headers = headers,
                                       .header_count = ARRAY_SIZE(headers),
                                       .body = "",
                                       .body_size = 0};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = oci_request(upload->oci, &request, upload->scope, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status == 201 || answer.status == 204) return 0;
    struct error *error = NULL;
    result = oci_fail_answer(upload->oci, &answer, &error);
    /* Sent twice, the first one may have ended it. */
    if (answer.status == 404 && oci_has_blob(upload->oci, upload->repository, upload->digest, NULL) == 1) {
        error_free(error);
        return 0;
    }
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

/* After a break: 0 when it is worth going on, from upload->done. */
static int recover(struct upload *upload, int result, struct error **error, uint64_t *best, unsigned *attempts,
                   struct error **ret_error) {
    bool is_transient = result > 0 || (*error && (*error)->transient);
    if (upload->done > *best) {
        *best = upload->done;
        *attempts = 0;
    }
    if (!is_transient || ++*attempts >= ATTEMPTS) {
        if (result > 0)
            return oci_fail(upload->oci, ret_error, "the registry does not keep what is sent, %llu of %llu bytes",
                            (unsigned long long)upload->done, (unsigned long long)upload->size);
        if (ret_error) *ret_error = TAKE(*error);
        return result;
    }
    error_free(TAKE(*error));
    return *attempts > 2 ? begin(upload, ret_error) : find_place(upload, ret_error);
}

static int send_chunks(struct upload *upload, struct error **ret_error) {
    uint64_t best = 0;
    unsigned attempts = 0;
    while (upload->done < upload->size) {
        _cleanup_error_ struct error *error = NULL;
        int result = send_chunk(upload, &error);
        if (result) result = recover(upload, result, &error, &best, &attempts, ret_error);
        if (result < 0) return result;
        pause_point("oci-chunk");
    }
    return 0;
}

int oci_push_blob(struct oci *oci, const char *repository, const char *digest, uint64_t size_bytes,
                  int (*read)(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                              struct error **ret_error),
                  void *context, struct error **ret_error) {
    int result = oci_has_blob(oci, repository, digest, ret_error);
    if (result) return result < 0 ? result : 0;
    _cleanup_free_ char *scope = oci_scope_push(repository);
    struct upload upload = {.oci = oci,
                            .repository = repository,
                            .digest = digest,
                            .scope = scope,
                            .size = size_bytes,
                            .read = read,
                            .context = context};
    if ((result = begin(&upload, ret_error)) >= 0 && (result = send_chunks(&upload, ret_error)) >= 0)
        result = finish(&upload, ret_error);
    free(upload.location);
    return result < 0 ? error_wrap(ret_error, "push %s to %s/%s", digest, oci->registry, repository) : 0;
}
