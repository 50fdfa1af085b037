/* Archives and what they are read from. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "package/package-internal.h"
#include "package/package_archive-internal.h"

/* ---- sources ---- */

static ssize_t read_file(struct package_source *source, void *bytes, size_t size) {
    for (;;) {
        ssize_t got = pread(source->descriptor, bytes, size, (off_t)source->offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) error_set_errno(&source->error, ERROR_DEPLOYMENT, errno, "read the archive");
        if (got > 0) source->offset += (uint64_t)got;
        return got;
    }
}

static ssize_t read_entry(struct package_source *source, void *bytes, size_t size) {
    la_ssize_t got = archive_read_data(source->outer, bytes, size);
    if (got < 0) package_archive_fail(source->outer, &source->error);
    return got;
}

void package_source_of_file(struct package_source *source, int descriptor, uint64_t size_bytes) {
    *source = (struct package_source){.read = read_file, .descriptor = descriptor, .size_bytes = size_bytes};
}

void package_source_of_entry(struct package_source *source, struct archive *outer) {
    *source = (struct package_source){.read = read_entry, .descriptor = -1, .outer = outer};
}

static ssize_t take(struct package_source *source, void *bytes, size_t size) {
    ssize_t got = source->read(source, bytes, size);
    if (got <= 0) return got;
    source->taken += (uint64_t)got;
    if (source->digest) digest_update(source->digest, bytes, (size_t)got);
    return got;
}

int package_source_drain(struct package_source *source, struct error **ret_error) {
    ssize_t got;
    while ((got = take(source, source->block, sizeof source->block)) > 0) {
    }
    if (!got) return 0;
    int result = -(int)source->error->class;
    if (ret_error)
        *ret_error = TAKE(source->error);
    else
        error_free(TAKE(source->error));
    return result;
}

/* ---- libarchive's side ---- */

static la_ssize_t on_read(struct archive *archive, void *context, const void **ret_bytes) {
    struct package_source *source = context;
    ssize_t got = take(source, source->block, sizeof source->block);
    *ret_bytes = source->block;
    if (got < 0) archive_set_error(archive, EIO, "the archive could not be read");
    return got;
}

/* Only what is read from a file, and digested by nobody, is jumped about in: a zip's list of files is at its end. */
static la_int64_t on_seek(struct archive *archive, void *context, la_int64_t offset, int whence) {
    (void)archive;
    struct package_source *source = context;
    int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? (int64_t)source->offset : (int64_t)source->size_bytes;
    int64_t target = 0;
    if (__builtin_add_overflow(base, offset, &target) || target < 0) return ARCHIVE_FATAL;
    source->offset = (uint64_t)target;
    return target;
}

static la_int64_t on_skip(struct archive *archive, void *context, la_int64_t request) {
    (void)archive;
    struct package_source *source = context;
    uint64_t left = source->offset < source->size_bytes ? source->size_bytes - source->offset : 0;
    uint64_t skipped = request < 0 ? 0 : (uint64_t)request < left ? (uint64_t)request : left;
    source->offset += skipped;
    return (la_int64_t)skipped;
}

int package_archive_fail(struct archive *archive, struct error **ret_error) {
    if (!archive_format(archive))
        return error_set(ret_error, ERROR_CONFIGURATION, "it is neither a tar (alone, or in gzip or zstd) nor a zip");
    const char *words = archive_error_string(archive);
    _cleanup_free_ char *text = text_copy(words ? words : "it cannot be read");
    text_make_utf8(text);
    return error_set(ret_error, ERROR_CONFIGURATION, "the archive is broken: %.400s", text);
}

int package_archive_open(struct package_source *source, bool raw, struct archive **ret_archive,
                         struct error **ret_error) {
    _cleanup_archive_ struct archive *archive = archive_read_new();
    if (!archive) return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory to read an archive");
    archive_read_support_filter_gzip(archive);
    archive_read_support_filter_zstd(archive);
    if (raw) {
        archive_read_support_format_raw(archive);
        archive_read_support_format_empty(archive);
    } else {
        archive_read_support_format_tar(archive);
        archive_read_support_format_zip(archive);
    }
    archive_read_set_callback_data(archive, source);
    archive_read_set_read_callback(archive, on_read);
    if (source->read == read_file && !source->digest) {
        archive_read_set_seek_callback(archive, on_seek);
        archive_read_set_skip_callback(archive, on_skip);
    }
    if (archive_read_open1(archive) != ARCHIVE_OK)
        return error_set(ret_error, ERROR_CONFIGURATION, "it is neither a tar (alone, or in gzip or zstd) nor a zip");
    *ret_archive = TAKE(archive);
    return 0;
}

int package_archive_next(struct archive *archive, struct archive_entry **ret_entry, struct error **ret_error) {
    int result = archive_read_next_header(archive, ret_entry);
    if (result == ARCHIVE_EOF) return 0;
    if (result == ARCHIVE_OK || result == ARCHIVE_WARN) return 1;
    return package_archive_fail(archive, ret_error);
}

bool package_archive_has_end(struct archive *archive) {
    if ((archive_format(archive) & ARCHIVE_FORMAT_BASE_MASK) != ARCHIVE_FORMAT_TAR) return true;
    return archive_filter_bytes(archive, 0) > archive_read_header_position(archive);
}

/* ---- names ---- */

static int refuse_name(const char *name, const char *why, struct error **ret_error) {
    _cleanup_free_ char *text = text_copy(name ? name : "");
    text_make_utf8(text);
    return error_set(ret_error, ERROR_CONFIGURATION, "the archive has a file of the name \"%.200s\", which %s", text,
                     why);
}

/* Each part is a name, none of them "." or ".."; *ret_depth counts them. */
static bool has_plain_parts(const char *path, size_t *ret_depth) {
    *ret_depth = 0;
    while (*path) {
        size_t size = strcspn(path, "/");
        if (!size || (size == 1 && *path == '.') || (size == 2 && !memcmp(path, "..", 2)) || size > 255) return false;
        path += size;
        if (*path == '/') path++;
        ++*ret_depth;
    }
    return true;
}

int package_entry_path(struct archive_entry *entry, char **ret_path, struct error **ret_error) {
    const char *name = archive_entry_pathname_utf8(entry);
    if (!name) name = archive_entry_pathname(entry);
    if (!name || !text_is_utf8(name, strlen(name))) return refuse_name(name, "is not UTF-8", ret_error);
    if (*name == '/') return refuse_name(name, "is absolute", ret_error);
    const char *full = name;
    while (name[0] == '.' && name[1] == '/') {
        name += 2;
        name += strspn(name, "/");
    }
    if (!strcmp(name, ".")) name++;
    size_t size = strlen(name), depth = 0;
    while (size && name[size - 1] == '/') size--;
    if (size > PACKAGE_PATH_MAXIMUM) return refuse_name(full, "is too long", ret_error);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f || name[i] == '\\')
            return refuse_name(full, "holds a control character or a backslash", ret_error);
    _cleanup_free_ char *path = text_copy_bytes(name, size);
    if (!has_plain_parts(path, &depth)) return refuse_name(full, "leads elsewhere", ret_error);
    if (depth > PACKAGE_DEPTH_MAXIMUM) return refuse_name(full, "is in too many folders", ret_error);
    *ret_path = TAKE(path);
    return 0;
}
