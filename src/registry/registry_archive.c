/* Archives, by libarchive: unpacked as they are read, so that what counts is what they hold and not what they claim. Of
 * what an archive can say, a model needs names and bytes; everything else is refused. */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry-internal.h"

#define ENTRIES_MAXIMUM 200000 /* with folders */
#define READ_BYTES (1u << 20)
/* What a bomb is: more than so many times the archive's size. Weights hardly shrink; what is small may be all zeros. */
#define SWELLING_MAXIMUM 100
#define SWELLING_FREE_BYTES (256ull << 20)

struct unpacking {
    const struct registry_context *context;
    struct archive *archive;
    const char *name; /* of the archive, for errors */
    int folder; /* where to */
    struct registry_resolution found; /* for its checks of names and ceilings */
    uint64_t written_bytes, bytes_maximum;
    size_t entry_count;
};

bool registry_is_archive(const char *name) {
    static const char *const suffixes[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".zip"};
    size_t length = strlen(name);
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        size_t size = strlen(suffixes[i]);
        if (length > size && !strcasecmp(name + length - size, suffixes[i])) return true;
    }
    return false;
}

bool registry_bytes_are_archive(const char *bytes, size_t size) {
    static const struct {
        size_t offset, size;
        const char *bytes;
    } marks[] = {{0, 3, "\x1f\x8b\x08"}, {0, 4, "\x28\xb5\x2f\xfd"}, {0, 4, "PK\x03\x04"}, {257, 5, "ustar"}};
    for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
        if (size >= marks[i].offset + marks[i].size && !memcmp(bytes + marks[i].offset, marks[i].bytes, marks[i].size))
            return true;
    return false;
}

/* ---- one entry ---- */

static int fail_broken(const struct unpacking *unpacking, struct error **ret_error) {
    const char *reason = archive_error_string(unpacking->archive);
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "the archive is broken: %s",
                     reason ? reason : "it cannot be read");
}

static int fail_write(int errno_value, const char *path, struct error **ret_error) {
    if (errno_value == ENOSPC || errno_value == EDQUOT)
        return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno_value,
                               "write %s: the disk of the state folder is full; free some space there", path);
    return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno_value, "write %s", path);
}

static int check_time(const struct registry_context *context, struct error **ret_error) {
    int result = registry_check_canceled(context, ret_error);
    if (result < 0 || !context->deadline_ms || clock_monotonic_ms() < context->deadline_ms) return result;
    error_set(ret_error, ERROR_MODEL_REGISTRY, "it took too long: its deadline has passed");
    return error_mark_transient(ret_error);
}

/* "./a/b/" is "a/b", and "./" is nothing. The rest is left for the check of names. Caller frees. */
static char *clean_path(const char *raw) {
    while (raw[0] == '.' && raw[1] == '/') raw += 2 + strspn(raw + 2, "/");
    size_t size = strlen(raw);
    while (size > 1 && raw[size - 1] == '/') size--;
    return !strcmp(raw, ".") ? text_copy("") : text_copy_bytes(raw, size);
}

static int refuse_entry(const char *path, const char *what, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION, "\"%.*s\" is %s; a model is made of plain files", 200, path, what);
}

/* Of what kind it is: 1 a file, 0 nothing to write, or an error. */
static int look_at(const struct unpacking *unpacking, struct archive_entry *entry, const char *path,
                   struct error **ret_error) {
    if (archive_entry_hardlink(entry) || archive_entry_hardlink_utf8(entry))
        return refuse_entry(path, "a hard link", ret_error);
    if (archive_entry_is_encrypted(entry) > 0) return refuse_entry(path, "encrypted", ret_error);
    mode_t type = archive_entry_filetype(entry);
    if (type == AE_IFLNK) return refuse_entry(path, "a symbolic link", ret_error);
    if (type == AE_IFREG) return 1;
    /* What a folder "holds" would be read through before the next entry comes. */
    if (type == AE_IFDIR && archive_entry_size(entry) <= 0) return 0;
    (void)unpacking;
    return refuse_entry(path, "a device, a pipe or a socket", ret_error);
}

static int refuse_large(const struct unpacking *unpacking, struct error **ret_error) {
    _cleanup_free_ char *limit = text_size(unpacking->bytes_maximum);
    uint64_t model_maximum = unpacking->context->size_maximum;
    return error_set(ret_error, ERROR_CONFIGURATION, "it unpacks to more than %s, %s", limit,
                     model_maximum && unpacking->bytes_maximum == model_maximum
                         ? "which is what a model may have"
                         : "more than a hundred times its own size");
}

/* Holes count as bytes: whoever reads the file reads them. */
static int write_data(struct unpacking *unpacking, int file, const char *path, struct error **ret_error) {
    uint64_t room = unpacking->bytes_maximum - unpacking->written_bytes, end = 0;
    for (;;) {
        const void *bytes;
        size_t size;
        la_int64_t offset;
        int result = check_time(unpacking->context, ret_error);
        if (result < 0) return result;
        int status = archive_read_data_block(unpacking->archive, &bytes, &size, &offset);
        if (status == ARCHIVE_EOF) size = 0; /* offset: the end of a last hole */
        if (status != ARCHIVE_EOF && status < ARCHIVE_WARN) return fail_broken(unpacking, ret_error);
        if (offset < 0 || (uint64_t)offset > room || size > room - (uint64_t)offset)
            return refuse_large(unpacking, ret_error);
        for (size_t done = 0; done < size;) {
            ssize_t written = pwrite(file, (const char *)bytes + done, size - done, offset + (off_t)done);
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) return fail_write(errno, path, ret_error);
            done += (size_t)written;
        }
        if ((uint64_t)offset + size > end) end = (uint64_t)offset + size;
        if (status != ARCHIVE_EOF) continue;
        if (ftruncate(file, (off_t)end) < 0) return fail_write(errno, path, ret_error);
        unpacking->written_bytes += end;
        return 0;
    }
}

static int unpack_file(struct unpacking *unpacking, struct archive_entry *entry, const char *path,
                       struct error **ret_error) {
    uint64_t claimed = archive_entry_size_is_set(entry) ? (uint64_t)archive_entry_size(entry) : 0;
    int result = registry_resolution_add(unpacking->context, &unpacking->found, path, REGISTRY_SIZE_UNKNOWN, NULL, NULL,
                                         NULL, ret_error);
    if (result < 0) return result;
    if (claimed > unpacking->bytes_maximum - unpacking->written_bytes) return refuse_large(unpacking, ret_error);
    _cleanup_close_ int file = registry_make_file(unpacking->folder, path);
    if (file < 0 && (errno == EEXIST || errno == ENOTDIR || errno == EISDIR || errno == ELOOP))
        return error_set(ret_error, ERROR_CONFIGURATION, "\"%.*s\" stands in it twice, as a file or a folder", 200,
                         path);
    if (file < 0) return fail_write(errno, path, ret_error);
    return write_data(unpacking, file, path, ret_error);
}

static int unpack_entry(struct unpacking *unpacking, struct archive_entry *entry, struct error **ret_error) {
    int result = check_time(unpacking->context, ret_error);
    if (result < 0) return result;
    if (++unpacking->entry_count > ENTRIES_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "it holds more than %d files and folders", ENTRIES_MAXIMUM);
    const char *raw = archive_entry_pathname_utf8(entry);
    if (!raw) raw = archive_entry_pathname(entry);
    if (!raw) return error_set(ret_error, ERROR_CONFIGURATION, "it has a file whose name cannot be read");
    _cleanup_free_ char *path = clean_path(raw);
    int kind = look_at(unpacking, entry, path, ret_error);
    return kind == 1 ? unpack_file(unpacking, entry, path, ret_error) : kind;
}

/* ---- the whole ---- */

/* Nothing that would start another program, and no other format than those that are told of. */
static int open_archive(struct unpacking *unpacking, int descriptor, struct error **ret_error) {
    struct archive *archive = unpacking->archive;
    bool is_ready = archive_read_support_filter_gzip(archive) == ARCHIVE_OK &&
                    archive_read_support_filter_zstd(archive) == ARCHIVE_OK &&
                    archive_read_support_format_tar(archive) == ARCHIVE_OK &&
                    archive_read_support_format_zip_seekable(archive) == ARCHIVE_OK;
    if (!is_ready)
        return error_set(ret_error, ERROR_DEPLOYMENT, "this libarchive lacks tar, zip, gzip or zstd: %s",
                         archive_error_string(archive));
    archive_read_set_options(archive, "hdrcharset=UTF-8"); /* where the format does not say */
    return archive_read_open_fd(archive, descriptor, READ_BYTES) == ARCHIVE_OK ? 0 : fail_broken(unpacking, ret_error);
}

static int unpack_entries(struct unpacking *unpacking, int descriptor, struct error **ret_error) {
    int result = open_archive(unpacking, descriptor, ret_error);
    while (!result) {
        struct archive_entry *entry;
        int status = archive_read_next_header(unpacking->archive, &entry);
        if (status == ARCHIVE_EOF) break;
        result = status < ARCHIVE_WARN ? fail_broken(unpacking, ret_error) : unpack_entry(unpacking, entry, ret_error);
    }
    return result < 0 ? result : registry_resolution_finish(&unpacking->found, "it", ret_error);
}

/* libarchive gives names in the thread's character set; in the plain C locale that would be ASCII. */
static int unpack_in_utf8(struct unpacking *unpacking, int descriptor, struct error **ret_error) {
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    int result = unpack_entries(unpacking, descriptor, ret_error);
    if (before) uselocale(before);
    if (utf8) freelocale(utf8);
    return result;
}

static int unpack_to(const struct registry_context *context, int descriptor, int folder, struct error **ret_error) {
    struct stat status;
    if (fstat(descriptor, &status) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "look at it");
    uint64_t maximum = (uint64_t)status.st_size < INT64_MAX / SWELLING_MAXIMUM
                           ? (uint64_t)status.st_size * SWELLING_MAXIMUM + SWELLING_FREE_BYTES
                           : INT64_MAX;
    if (context->size_maximum && context->size_maximum < maximum) maximum = context->size_maximum;
    struct unpacking unpacking = {
        .context = context, .archive = archive_read_new(), .folder = folder, .bytes_maximum = maximum};
    if (!unpacking.archive) return error_set(ret_error, ERROR_DEPLOYMENT, "libarchive could not be started");
    int result = unpack_in_utf8(&unpacking, descriptor, ret_error);
    archive_read_free(unpacking.archive);
    registry_resolution_clear(&unpacking.found);
    return result;
}

static void close_listing(DIR **listing) {
    if (*listing) closedir(*listing);
}

/* Calls `take` for each entry of a folder. */
static int list_folder(const char *path, int (*take)(const char *path, const char *name, void *context), void *context,
                       struct error **ret_error) {
    __attribute__((cleanup(close_listing))) DIR *listing = opendir(path);
    struct dirent *entry;
    while (listing && (errno = 0, entry = readdir(listing)))
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") && take(path, entry->d_name, context) < 0) break;
    return errno ? error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "arrange what was unpacked in %s", path) : 0;
}

struct only {
    size_t count;
    char *name;
};

static int take_only(const char *path, const char *name, void *context) {
    struct only *only = context;
    (void)path;
    free(only->name);
    only->name = text_copy(name);
    only->count++;
    return 0;
}

static int move_up(const char *path, const char *name, void *context) {
    _cleanup_free_ char *from = fs_join(path, name);
    _cleanup_free_ char *to = fs_join(context, name);
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
}

/* Everything in `inner`, or in the only folder that is in it, becomes everything in `folder`. */
static int arrange(const char *inner, char *folder, struct error **ret_error) {
    struct only only = {0};
    int result = list_folder(inner, take_only, &only, ret_error);
    _cleanup_free_ char *single = only.name ? fs_join(inner, only.name) : NULL;
    free(only.name);
    struct stat status;
    bool is_wrapped = !result && only.count == 1 && !lstat(single, &status) && S_ISDIR(status.st_mode);
    if (!result) result = list_folder(is_wrapped ? single : inner, move_up, folder, ret_error);
    return result < 0 ? result : fs_remove_tree(inner, ret_error);
}

int registry_unpack(const struct registry_context *context, const char *folder, const char *archive,
                    struct error **ret_error) {
    char uuid[37];
    text_new_uuid(uuid);
    _cleanup_free_ char *inner = text_format("%s/.unpacking-%s", folder, uuid); /* no name that the archive can have */
    _cleanup_free_ char *path = fs_join(folder, archive);
    _cleanup_free_ char *target = text_copy(folder);
    _cleanup_close_ int descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open the archive %s", path);
    if (mkdir(inner, 0700) < 0) return fail_write(errno, inner, ret_error);
    _cleanup_close_ int into = open(inner, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (into < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open the folder %s", inner);
    int result = unpack_to(context, descriptor, into, ret_error);
    if (result < 0) return error_wrap(ret_error, "unpack %s", archive);
    if (unlink(path) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "remove %s", path);
    return arrange(inner, target, ret_error);
}
