/* The input: a file or an object, read from an offset on, and known again by what it was when the job began. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

struct batch_source {
    struct batch_place place;
    char *uri, *identity;
    uint64_t size;
    int descriptor; /* of a file */
    struct s3 *s3;
    struct s3_object object;
};

static int fail_changed(const struct batch_source *source, struct error **ret_error) {
    return error_set(ret_error, ERROR_MODEL_REGISTRY,
                     "the input %s has changed since the job began (its size, time or ETag is another): what was "
                     "written belongs to what it was; begin a new job with another output_uri",
                     source->uri);
}

static char *identity_of(const struct stat *status) {
    return text_format("%lld bytes, changed %lld.%09ld", (long long)status->st_size, (long long)status->st_mtim.tv_sec,
                       status->st_mtim.tv_nsec);
}

static int open_file(struct batch_source *source, const struct batch_access *access, struct error **ret_error) {
    struct stat status;
    int result = batch_place_open_file(access, source->place.path, &source->descriptor, ret_error);
    if (result < 0) return result;
    if (fstat(source->descriptor, &status))
        return error_set_errno(ret_error, ERROR_MODEL_REGISTRY, errno, "look at the input %s", source->uri);
    posix_fadvise(source->descriptor, 0, 0, POSIX_FADV_SEQUENTIAL);
    source->size = (uint64_t)status.st_size;
    source->identity = identity_of(&status);
    return 0;
}

static char *object_identity(const struct s3_object *object) {
    return text_format("%llu bytes, ETag %s", (unsigned long long)object->size_bytes,
                       object->etag ? object->etag : "none");
}

static int open_object(struct batch_source *source, const struct batch_access *access, struct error **ret_error) {
    int result = access->open_s3(access->context, source->place.bucket, &source->s3, ret_error);
    if (result < 0 ||
        (result = s3_head(source->s3, source->place.bucket, source->place.key, NULL, &source->object, ret_error)) < 0)
        return result;
    if (!source->object.key)
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "open the input %s: there is no such object", source->uri);
    source->size = source->object.size_bytes;
    source->identity = object_identity(&source->object);
    return 0;
}

int batch_source_open(const struct batch_config *config, struct batch_source **ret_source, struct error **ret_error) {
    struct batch_source *source = mem_new(struct batch_source);
    source->descriptor = -1;
    source->uri = text_copy(config->spec->input_uri);
    int result = batch_place_parse(source->uri, "input_uri", &source->place, ret_error);
    if (result >= 0)
        result = source->place.path ? open_file(source, config->access, ret_error)
                                    : open_object(source, config->access, ret_error);
    const char *before = config->checkpoint.input_identity;
    if (result >= 0 && before && !text_equal(before, source->identity)) result = fail_changed(source, ret_error);
    if (result < 0) {
        batch_source_close(source);
        return result;
    }
    *ret_source = source;
    return 0;
}

void batch_source_close(struct batch_source *source) {
    if (!source) return;
    mem_close_descriptor(&source->descriptor);
    s3_object_clear(&source->object);
    if (source->s3) s3_close(source->s3);
    batch_place_clear(&source->place);
    free(source->uri);
    free(source->identity);
    free(source);
}

const char *batch_source_identity(const struct batch_source *source) {
    return source->identity;
}

uint64_t batch_source_size(const struct batch_source *source) {
    return source->size;
}

static int read_file(struct batch_source *source, uint64_t offset, char *bytes, size_t size, struct error **ret_error) {
    for (size_t done = 0; done < size;) {
        ssize_t got = pread(source->descriptor, bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            error_set_errno(ret_error, ERROR_MODEL_REGISTRY, errno, "read the input %s", source->uri);
            return error_mark_transient(ret_error);
        }
        if (!got) return fail_changed(source, ret_error);
        done += (size_t)got;
    }
    return 0;
}

static int read_object(struct batch_source *source, uint64_t offset, char *bytes, size_t size,
                       struct error **ret_error) {
    for (size_t done = 0; done < size;) {
        size_t got = 0;
        int result = s3_read(source->s3, source->place.bucket, &source->object, offset + done, bytes + done,
                             size - done, &got, ret_error);
        if (result < 0) return error_wrap(ret_error, "read the input %s", source->uri);
        if (!got) return fail_changed(source, ret_error);
        done += got;
    }
    return 0;
}

int batch_source_read(struct batch_source *source, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    uint64_t left = offset < source->size ? source->size - offset : 0;
    if (left < size) size = (size_t)left;
    *ret_size = size;
    if (!size) return 0;
    return source->place.path ? read_file(source, offset, bytes, size, ret_error)
                              : read_object(source, offset, bytes, size, ret_error);
}

int batch_source_check(struct batch_source *source, struct error **ret_error) {
    _cleanup_free_ char *now = NULL;
    if (source->place.path) {
        struct stat status;
        if (fstat(source->descriptor, &status))
            return error_set_errno(ret_error, ERROR_MODEL_REGISTRY, errno, "look at the input %s", source->uri);
        now = identity_of(&status);
    } else {
        struct s3_object object = {0};
        int result = s3_head(source->s3, source->place.bucket, source->place.key, NULL, &object, ret_error);
        if (result < 0) return result;
        now = object.key ? object_identity(&object) : NULL;
        s3_object_clear(&object);
    }
    return text_equal(now, source->identity) ? 0 : fail_changed(source, ret_error);
}
