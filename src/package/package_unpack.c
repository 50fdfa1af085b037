/* An archive's files onto the disk. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package-internal.h"
#include "package/package_archive-internal.h"

#define BLOCK_BYTES (256u * 1024)
#define ENTRIES_TIMES 4 /* entries that are no files (folders, mostly) for each file that is allowed */

static int refuse_kind(struct archive_entry *entry, const char *path, struct error **ret_error) {
    bool is_link = archive_entry_filetype(entry) == AE_IFLNK || archive_entry_hardlink(entry) ||
                   archive_entry_hardlink_utf8(entry);
    if (is_link)
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "%s in the archive is a link; a package holds plain files only (tar takes what links name with "
            "--dereference --hard-dereference)",
            path);
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "%s in the archive is a device, a pipe or a socket; a package holds plain files only", path);
}

static int refuse_size(const struct package_unpacking *unpacking, struct error **ret_error) {
    _cleanup_free_ char *allowed = text_size(unpacking->size_maximum);
    if (unpacking->size_maximum < unpacking->limits->size_maximum)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the archive grows to more than %s, which is more than a model of its size can: it is refused",
                         allowed);
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the model in the archive has more than the %s that a model may have", allowed);
}

int package_unpack_check(struct archive_entry *entry, const char *path, struct package_unpacking *unpacking,
                         struct error **ret_error) {
    bool is_folder = archive_entry_filetype(entry) == AE_IFDIR;
    if (archive_entry_hardlink(entry) || archive_entry_hardlink_utf8(entry) ||
        (!is_folder && archive_entry_filetype(entry) != AE_IFREG))
        return refuse_kind(entry, path, ret_error);
    if (unpacking->limits->canceled && atomic_load(unpacking->limits->canceled))
        return error_set(ret_error, ERROR_UNAVAILABLE, "canceled");
    if (archive_entry_is_encrypted(entry))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s in the archive is encrypted", path);
    size_t files = unpacking->limits->file_maximum;
    unpacking->entry_count++;
    if (!is_folder) unpacking->file_count++;
    if (unpacking->file_count > files || unpacking->entry_count / ENTRIES_TIMES > files)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the archive has more than the %zu files that a model may have", files);
    int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0;
    if (size < 0 || (uint64_t)size > unpacking->size_maximum - unpacking->size_bytes)
        return refuse_size(unpacking, ret_error);
    return 0;
}

/* The folders that the path lies in. */
static int make_parents(const char *folder, const char *path, struct error **ret_error) {
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        _cleanup_free_ char *part = text_format("%s/%.*s", folder, (int)(slash - path), path);
        struct stat status;
        if (!mkdir(part, 0700) || (errno == EEXIST && !lstat(part, &status) && S_ISDIR(status.st_mode))) continue;
        if (errno == EEXIST || errno == ENOTDIR || !errno)
            return error_set(ret_error, ERROR_CONFIGURATION, "%.*s in the archive is a file and a folder",
                             (int)(slash - path), path);
        return package_fail_errno(ret_error, errno, "make the folder", part);
    }
    return 0;
}

static int write_block(int file, const char *bytes, size_t size, const char *path, struct error **ret_error) {
    while (size) {
        ssize_t written = write(file, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return package_fail_errno(ret_error, errno, "write", path);
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

static int write_content(struct archive *archive, struct package_unpacking *unpacking, int file, const char *path,
                         struct error **ret_error) {
    _cleanup_free_ char *block = mem_alloc(BLOCK_BYTES);
    for (;;) {
        if (unpacking->limits->canceled && atomic_load(unpacking->limits->canceled))
            return error_set(ret_error, ERROR_UNAVAILABLE, "canceled");
        la_ssize_t got = archive_read_data(archive, block, BLOCK_BYTES);
        if (got < 0) return package_archive_fail(archive, ret_error);
        if (!got) return 0;
        if ((uint64_t)got > unpacking->size_maximum - unpacking->size_bytes) return refuse_size(unpacking, ret_error);
        unpacking->size_bytes += (uint64_t)got;
        int result = write_block(file, block, (size_t)got, path, ret_error);
        if (result < 0) return result;
    }
}

static int unpack_file(struct archive *archive, struct package_unpacking *unpacking, const char *path,
                       struct error **ret_error) {
    int result = make_parents(unpacking->folder, path, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *target = fs_join(unpacking->folder, path);
    _cleanup_close_ int file = open(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0 && errno == EEXIST)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s stands in the archive twice", path);
    if (file < 0) return package_fail_errno(ret_error, errno, "make", target);
    return write_content(archive, unpacking, file, target, ret_error);
}

/* What of the path lies below the prefix; NULL when it does not. "": the prefix itself. */
static const char *below(const char *path, const char *prefix) {
    size_t size = strlen(prefix);
    if (!size) return path;
    if (strncmp(path, prefix, size)) return NULL;
    return path[size] == '/' ? path + size + 1 : path[size] ? NULL : path + size;
}

static int unpack_entry(struct archive *archive, struct archive_entry *entry, struct package_unpacking *unpacking,
                        struct error **ret_error) {
    _cleanup_free_ char *path = NULL;
    int result = package_entry_path(entry, &path, ret_error);
    if (result < 0) return result;
    const char *inside = below(path, unpacking->prefix);
    if (!inside && !unpacking->others_are_refused) return 0;
    if ((result = package_unpack_check(entry, path, unpacking, ret_error)) < 0) return result;
    bool is_folder = archive_entry_filetype(entry) == AE_IFDIR;
    if (!inside || (!*inside && !is_folder))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s lies outside the model in the archive", path);
    if (is_folder) return 0; /* folders come with their files: empty ones are no part of a package */
    const char *name = strrchr(inside, '/');
    if (text_starts_with(name ? name + 1 : inside, ".wh."))
        return error_set(ret_error, ERROR_CONFIGURATION, "the layer deletes %s of layers below it; it is no package",
                         path);
    return unpack_file(archive, unpacking, inside, ret_error);
}

int package_unpack(struct archive *archive, struct package_unpacking *unpacking, struct error **ret_error) {
    struct archive_entry *entry;
    int result;
    while ((result = package_archive_next(archive, &entry, ret_error)) > 0)
        if ((result = unpack_entry(archive, entry, unpacking, ret_error)) < 0) return result;
    return result;
}
