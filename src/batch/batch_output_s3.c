/* Output in a bucket: the job's claim is an object below the prefix, parts are put whole from the job's spool folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "batch/batch_output-internal.h"

#define LISTED_MAXIMUM 100000 /* objects below the prefix that are looked at */

static char *key_of(const struct batch_output *output, const char *name) {
    return text_format("%s/%s", output->place.key, name);
}

struct bytes {
    const char *at;
    size_t size;
};

static int read_bytes(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                      struct error **ret_error) {
    (void)ret_error;
    const struct bytes *all = context;
    size_t left = offset < all->size ? all->size - (size_t)offset : 0;
    *ret_size = left < size ? left : size;
    memcpy(bytes, all->at + (left ? offset : 0), *ret_size);
    return 0;
}

static int read_file(void *context, uint64_t offset, char *bytes, size_t size, size_t *ret_size,
                     struct error **ret_error) {
    ssize_t got;
    do got = pread(*(int *)context, bytes, size, (off_t)offset);
    while (got < 0 && errno == EINTR);
    if (got < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "read a part from the spool");
    *ret_size = (size_t)got;
    return 0;
}

/* ---- whose the prefix is ---- */

/* The claim's first bytes, which are the id of the job that made it. */
static int is_our_claim(struct batch_output *output, const struct s3_object *object, bool *ret_ours,
                        struct error **ret_error) {
    char bytes[64] = {0};
    size_t size = 0;
    int result = s3_read(output->s3, output->place.bucket, object, 0, bytes,
                         object->size_bytes < sizeof bytes - 1 ? (size_t)object->size_bytes : sizeof bytes - 1, &size,
                         ret_error);
    *ret_ours = result >= 0 && text_equal(bytes, output->job_id);
    return result;
}

static int refuse(const struct batch_output *output, const char *why, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the output %s %s: a batch job writes below a prefix of its own, and replaces nothing; name one "
                     "that is empty",
                     output->uri, why);
}

static int look_at_prefix(struct batch_output *output, const struct s3_objects *objects, bool *ret_ours,
                          struct error **ret_error) {
    _cleanup_free_ char *claim = key_of(output, BATCH_CLAIM);
    for (size_t i = 0; i < objects->count; i++)
        if (text_equal(objects->list[i].key, claim))
            return is_our_claim(output, &objects->list[i], ret_ours, ret_error);
    return 0;
}

static int claim_prefix(struct batch_output *output, bool has_begun, struct error **ret_error) {
    struct s3_objects objects = {0};
    _cleanup_free_ char *prefix = key_of(output, ""), *claim = key_of(output, BATCH_CLAIM);
    bool is_ours = false;
    int result = s3_list(output->s3, output->place.bucket, prefix, LISTED_MAXIMUM, &objects, ret_error);
    if (result >= 0) result = look_at_prefix(output, &objects, &is_ours, ret_error);
    /* A job that has recorded parts may have come to its end already, behind which the claim goes. */
    if (result >= 0 && !is_ours && !has_begun && objects.count)
        result = refuse(output, "is there and not empty", ret_error);
    s3_objects_clear(&objects);
    if (result < 0 || is_ours) return result;
    struct bytes id = {output->job_id, strlen(output->job_id)};
    return s3_write(output->s3, output->place.bucket, claim, read_bytes, &id, id.size, ret_error);
}

int batch_output_open_prefix(struct batch_output *output, const struct batch_config *config, struct error **ret_error) {
    const struct batch_access *access = config->access;
    int result = access->open_s3(access->context, output->place.bucket, &output->s3, ret_error);
    if (result < 0) return result;
    output->spool = fs_join(access->spool, output->job_id);
    if ((result = fs_make_folders(output->spool, ret_error)) < 0) return result;
    output->folder = open(output->spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (output->folder < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s", output->spool);
    result = claim_prefix(output, config->checkpoint.parts > 0, ret_error);
    return result < 0 ? error_wrap(ret_error, "take the output %s", output->uri) : 0;
}

/* ---- parts ---- */

int batch_output_put(struct batch_output *output, const char *temporary, const char *name, struct error **ret_error) {
    struct stat status;
    _cleanup_free_ char *key = key_of(output, name);
    _cleanup_close_ int descriptor = openat(output->folder, temporary, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, &status)) return batch_output_fail(output, "open", temporary, ret_error);
    int result =
        s3_write(output->s3, output->place.bucket, key, read_file, &descriptor, (uint64_t)status.st_size, ret_error);
    if (result < 0) return error_wrap(ret_error, "write %s to the output %s", name, output->uri);
    unlinkat(output->folder, temporary, 0);
    return 0;
}

int batch_output_check_object(struct batch_output *output, const struct batch_part *part, struct error **ret_error) {
    struct s3_object object = {0};
    _cleanup_free_ char *key = key_of(output, part->name);
    int result = s3_head(output->s3, output->place.bucket, key, NULL, &object, ret_error);
    bool is_there = result >= 0 && object.key && object.size_bytes == (uint64_t)part->size_bytes;
    s3_object_clear(&object);
    if (result < 0 || is_there) return result;
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "%s is gone from the output %s, or has changed: what was written cannot be completed; begin a new "
                     "job with another output_uri",
                     part->name, output->uri);
}

int batch_output_release_prefix(struct batch_output *output, struct error **ret_error) {
    _cleanup_free_ char *claim = key_of(output, BATCH_CLAIM);
    int result = s3_remove(output->s3, output->place.bucket, claim, ret_error);
    return result < 0 ? result : fs_remove_tree(output->spool, ret_error);
}
