/* The output: a folder, or a prefix in a bucket. Parts are written into temporary files (beside their final place, or
 * for S3 in the spool), sealed (synced), and published (renamed, or put) after the caller has recorded them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "batch/batch_output-internal.h"

static const char *suffix(const struct batch_output *output) {
    return output->format == BATCH_CSV ? "csv" : "ndjson";
}

static void set_names(struct batch_output *output, int64_t number) {
    snprintf(output->name, sizeof output->name, "part-%05lld.%s", (long long)number, suffix(output));
    snprintf(output->temporary, sizeof output->temporary, ".%.100s.part", output->name);
}

int batch_output_fail(const struct batch_output *output, const char *what, const char *name, struct error **ret_error) {
    int errno_value = errno;
    int result =
        error_set_errno(ret_error, ERROR_DEPLOYMENT, errno_value, "%s %s in the output %s", what, name, output->uri);
    if (errno_value != ENOSPC && errno_value != EDQUOT && errno_value != EIO) return result;
    return ret_error ? error_mark_transient(ret_error) : result;
}

/* The temporary file gets the name. Nothing is replaced; a name that is there is somebody else's. */
static int rename_new(const struct batch_output *output, const char *from, const char *to, struct error **ret_error) {
    if (!renameat2(output->folder, from, output->folder, to, RENAME_NOREPLACE)) return 0;
    if (errno == EINVAL || errno == ENOSYS) { /* a file system that cannot: a hard link never replaces either */
        if (!linkat(output->folder, from, output->folder, to, 0)) return unlinkat(output->folder, from, 0);
    }
    if (errno != EEXIST) return batch_output_fail(output, "make", to, ret_error);
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "%s is in the output %s already, and this job has not written it: it is left as it is", to,
                     output->uri);
}

/* ---- whose it is ---- */

static int refuse(const struct batch_output *output, const char *why, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the output %s %s: a batch job writes into a folder of its own, and replaces nothing; name one "
                     "that is not there yet",
                     output->uri, why);
}

/* 1 when a file of that name holds the job's id, 0 when it does not, negative when there is none. */
static int is_ours(const struct batch_output *output, const char *name) {
    char bytes[4096];
    int descriptor = openat(output->folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) return -1;
    ssize_t size = read(descriptor, bytes, sizeof bytes - 1);
    close(descriptor);
    bytes[size > 0 ? size : 0] = 0;
    return strstr(bytes, output->job_id) != NULL;
}

/* But for the file `besides`, which may be NULL. */
static bool is_empty_folder(int folder, const char *besides) {
    int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = copy < 0 ? NULL : fdopendir(copy);
    bool is_empty = entries != NULL;
    for (struct dirent *entry; is_empty && (entry = readdir(entries));)
        is_empty =
            text_equal(entry->d_name, ".") || text_equal(entry->d_name, "..") || text_equal(entry->d_name, besides);
    if (entries) closedir(entries);
    return is_empty;
}

/* It comes whole, and to one job. */
static int write_claim(const struct batch_output *output, const char *temporary, struct error **ret_error) {
    int descriptor = openat(output->folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (descriptor < 0) return batch_output_fail(output, "make", temporary, ret_error);
    ssize_t size = (ssize_t)strlen(output->job_id);
    bool written = write(descriptor, output->job_id, (size_t)size) == size && !fsync(descriptor);
    int result = written ? 0 : batch_output_fail(output, "write", temporary, ret_error);
    close(descriptor);
    if (result >= 0) result = rename_new(output, temporary, BATCH_CLAIM, ret_error);
    if (result >= 0 && fsync(output->folder)) result = batch_output_fail(output, "sync", "the folder", ret_error);
    return result;
}

static int claim_folder(struct batch_output *output, struct error **ret_error) {
    int ours = is_ours(output, BATCH_CLAIM);
    if (ours > 0 || is_ours(output, BATCH_MANIFEST) > 0) return 0;
    if (!ours) return refuse(output, "belongs to another batch job (.slipway-batch is there)", ret_error);
    _cleanup_free_ char *temporary = text_format(BATCH_CLAIM ".%s", output->job_id);
    if (!is_empty_folder(output->folder, temporary)) return refuse(output, "is there and not empty", ret_error);
    return write_claim(output, temporary, ret_error);
}

int batch_check(const struct batch_spec *spec, const struct batch_access *access, struct error **ret_error) {
    _cleanup_place_ struct batch_place input = {0}, to = {0};
    _cleanup_close_ int folder = -1, file = -1;
    struct s3 *s3 = NULL;
    int result = batch_place_parse(spec->input_uri, "input_uri", &input, ret_error);
    if (result < 0 || (result = batch_place_parse(spec->output_uri, "output_uri", &to, ret_error)) < 0) return result;
    if (input.bucket && (result = access->open_s3(access->context, input.bucket, &s3, ret_error)) < 0)
        return error_wrap(ret_error, "input_uri");
    if (s3) s3_close(s3);
    s3 = NULL;
    if (to.bucket && (result = access->open_s3(access->context, to.bucket, &s3, ret_error)) < 0)
        return error_wrap(ret_error, "output_uri");
    if (s3) s3_close(s3);
    struct error *error = NULL;
    /* An input that is not there yet may come: the task finds out. */
    if (input.path && (result = batch_place_open_file(access, input.path, &file, &error)) == -ERROR_CONFIGURATION) {
        *ret_error = error;
        return error_wrap(ret_error, "input_uri");
    }
    error_free(error);
    if (!to.path) return 0;
    const struct batch_output output = {.uri = spec->output_uri};
    result = batch_place_open_folder(access, to.path, false, &folder, ret_error);
    if (result > 0 && !is_empty_folder(folder, NULL)) result = refuse(&output, "is there and not empty", ret_error);
    return result < 0 ? error_wrap(ret_error, "output_uri") : 0;
}

/* ---- a name for the newest part ---- */

/* It was recorded; whether a kill came before it got its name tells whether the temporary file is there. */
static int publish_recorded(struct batch_output *output, const struct batch_part *last, struct error **ret_error) {
    struct stat status;
    if (!*last->name) return 0;
    set_names(output, last->number);
    if (!fstatat(output->folder, output->temporary, &status, AT_SYMLINK_NOFOLLOW)) {
        if (S_ISREG(status.st_mode) && status.st_size == last->size_bytes)
            return batch_output_publish(output, ret_error);
        return error_set(ret_error, ERROR_DEPLOYMENT, "%s in the output %s is not what was written there",
                         output->temporary, output->uri);
    }
    if (output->s3) return batch_output_check_object(output, last, ret_error);
    bool is_there = !fstatat(output->folder, output->name, &status, AT_SYMLINK_NOFOLLOW) && S_ISREG(status.st_mode) &&
                    status.st_size == last->size_bytes;
    if (is_there) return 0;
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "%s is gone from the output %s, or has changed: what was written cannot be completed; begin a new "
                     "job with another output_uri",
                     output->name, output->uri);
}

/* ---- opening ---- */

static int open_folder(struct batch_output *output, const struct batch_config *config, struct error **ret_error) {
    int result = batch_place_open_folder(config->access, output->place.path, true, &output->folder, ret_error);
    return result < 0 ? result : claim_folder(output, ret_error);
}

static int open_output(struct batch_output *output, const struct batch_config *config, struct error **ret_error) {
    int result = batch_place_parse(output->uri, "output_uri", &output->place, ret_error);
    if (result < 0) return result;
    result = output->place.path ? open_folder(output, config, ret_error)
                                : batch_output_open_prefix(output, config, ret_error);
    if (result < 0 || !config->checkpoint.parts) return result;
    return publish_recorded(output, &config->checkpoint.last, ret_error);
}

int batch_output_open(const struct batch_config *config, struct batch_output **ret_output, struct error **ret_error) {
    struct batch_output *output = mem_new(struct batch_output);
    output->folder = output->descriptor = -1;
    output->format = config->spec->format;
    output->uri = text_copy(config->spec->output_uri);
    output->job_id = text_copy(config->job_id);
    int result = open_output(output, config, ret_error);
    if (result < 0) {
        batch_output_close(output);
        return result;
    }
    *ret_output = output;
    return 0;
}

void batch_output_close(struct batch_output *output) {
    if (!output) return;
    if (output->descriptor >= 0) unlinkat(output->folder, output->temporary, 0);
    mem_close_descriptor(&output->descriptor);
    mem_close_descriptor(&output->folder);
    if (output->digest) digest_free(output->digest);
    if (output->s3) s3_close(output->s3);
    batch_place_clear(&output->place);
    buffer_clear(&output->pending);
    free(output->spool);
    free(output->uri);
    free(output->job_id);
    free(output);
}

/* ---- a part ---- */

int batch_output_begin(struct batch_output *output, int64_t number, struct error **ret_error) {
    set_names(output, number);
    unlinkat(output->folder, output->temporary, 0); /* of a run that was killed */
    output->descriptor = openat(output->folder, output->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (output->descriptor < 0) return batch_output_fail(output, "make", output->temporary, ret_error);
    output->number = number;
    output->size = 0;
    output->digest = digest_new();
    return 0;
}

static int flush(struct batch_output *output, struct error **ret_error) {
    for (size_t done = 0; done < output->pending.size;) {
        ssize_t size = write(output->descriptor, output->pending.bytes + done, output->pending.size - done);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return batch_output_fail(output, "write", output->temporary, ret_error);
        done += (size_t)size;
    }
    output->pending.size = 0;
    return 0;
}

int batch_output_write(struct batch_output *output, const char *bytes, size_t size, struct error **ret_error) {
    digest_update(output->digest, bytes, size);
    output->size += (int64_t)size;
    if (!buffer_append(&output->pending, bytes, size))
        return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory to write the output");
    return output->pending.size < BATCH_PENDING_BYTES ? 0 : flush(output, ret_error);
}

int batch_output_seal(struct batch_output *output, struct batch_part *part, struct error **ret_error) {
    int result = flush(output, ret_error);
    if (result < 0) return result;
    if (fsync(output->descriptor) || fsync(output->folder))
        return batch_output_fail(output, "sync", output->temporary, ret_error);
    digest_finish(TAKE(output->digest), output->sha256);
    part->name = output->name;
    part->size_bytes = output->size;
    part->sha256 = output->sha256;
    mem_close_descriptor(&output->descriptor);
    output->descriptor = -1;
    return 0;
}

int batch_output_publish(struct batch_output *output, struct error **ret_error) {
    if (output->s3) return batch_output_put(output, output->temporary, output->name, ret_error);
    int result = rename_new(output, output->temporary, output->name, ret_error);
    if (result < 0) return result;
    return fsync(output->folder) ? batch_output_fail(output, "sync", "the folder", ret_error) : 0;
}

/* ---- the end ---- */

static int write_manifest(struct batch_output *output, const char *bytes, size_t size, struct error **ret_error) {
    static const char temporary[] = "." BATCH_MANIFEST ".part";
    unlinkat(output->folder, temporary, 0);
    int descriptor = openat(output->folder, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor < 0) return batch_output_fail(output, "make", temporary, ret_error);
    size_t done = 0;
    for (ssize_t got = 0; done < size && got >= 0; done += (size_t)(got > 0 ? got : 0))
        got = write(descriptor, bytes + done, size - done);
    bool written = done == size && !fsync(descriptor);
    int result = written ? 0 : batch_output_fail(output, "write", temporary, ret_error);
    close(descriptor);
    if (result < 0) return result;
    if (output->s3) return batch_output_put(output, temporary, BATCH_MANIFEST, ret_error);
    result = rename_new(output, temporary, BATCH_MANIFEST, ret_error);
    return result < 0 || !fsync(output->folder) ? result : batch_output_fail(output, "sync", "the folder", ret_error);
}

int batch_output_finish(struct batch_output *output, const char *bytes, size_t size, struct error **ret_error) {
    bool is_there = !output->s3 && is_ours(output, BATCH_MANIFEST) > 0; /* of a run that was killed behind it */
    int result = is_there ? 0 : write_manifest(output, bytes, size, ret_error);
    if (result < 0) return result;
    if (output->s3) return batch_output_release_prefix(output, ret_error);
    if (unlinkat(output->folder, BATCH_CLAIM, 0) && errno != ENOENT)
        return batch_output_fail(output, "remove", BATCH_CLAIM, ret_error);
    return 0;
}
