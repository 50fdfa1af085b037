/* One layer, applied to what the layers below it left (OCI Image Specification 1.1, "Layer Filesystem Changeset"):
 * first its whiteouts, which speak of lower layers only, then its files. Links are never made, so that no name can lead
 * out. */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_oci-internal.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"
#define BLOCK_BYTES (1u << 20)
#define CANCELED_EVERY 64 /* entries, or blocks, between two looks */

struct reader {
    struct registry_oci_tree *tree;
    struct archive *archive;
};

/* ---- names ---- */

/* Without "./" at its begin and '/' at its end; NULL when it leads out or is not plain. "" for the root. */
static char *clean_name(const char *name) {
    while (text_starts_with(name, "./")) name += 2 + strspn(name + 2, "/");
    if (!strcmp(name, ".") || !*name) return text_copy("");
    if (*name == '/') return NULL;
    return registry_oci_clean_path(name);
}

/* What of a layer's name lies below the wanted path: "" for the path itself; NULL: it lies elsewhere. Borrowed. */
static const char *below(const struct registry_oci_tree *tree, const char *name) {
    size_t length = strlen(tree->path);
    if (!length) return name;
    if (strncmp(name, tree->path, length)) return NULL;
    return name[length] == '/' ? name + length + 1 : name[length] ? NULL : name + length;
}

/* A name that is not clean is only refused where it could be the model's: an image holds much else. */
static bool may_be_below(const struct registry_oci_tree *tree, const char *raw) {
    raw += strspn(raw, "./");
    return !strncmp(raw, tree->path, strlen(tree->path)) || strstr(raw, "..");
}

/* Whether the wanted path lies in (or is) that folder. */
static bool is_above(const struct registry_oci_tree *tree, const char *name) {
    size_t length = strlen(name);
    return !length || (!strncmp(tree->path, name, length) && (!tree->path[length] || tree->path[length] == '/'));
}

static int refuse(const char *name, const char *why, struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFIGURATION, "\"%.300s\" in the archive %s", name, why);
}

static int fail_archive(struct reader *reader, struct error **ret_error) {
    const char *words = archive_error_string(reader->archive);
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "the archive is broken: %s", words ? words : "it ends too early");
}

static int fail_target(int errno_value, const char *name, struct error **ret_error) {
    if (errno_value == ENOSPC || errno_value == EDQUOT)
        return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno_value,
                               "unpack %s: the disk of the state folder is full; free some space there", name);
    return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno_value, "unpack %s", name);
}

/* ---- whiteouts ---- */

static int remove_all_in(const char *path, struct error **ret_error) {
    int result = fs_remove_tree(path, ret_error);
    return result < 0 ? result : fs_make_folders(path, ret_error);
}

/* Lower layers' files go, but the layers that are being unpacked stay. */
static int remove_model(const struct registry_oci_tree *tree, struct error **ret_error) {
    DIR *folder = opendir(tree->folder);
    if (!folder) return fail_target(errno, tree->folder, ret_error);
    int result = 0;
    for (struct dirent *entry; result >= 0 && (entry = readdir(folder));) {
        const char *name = entry->d_name;
        if (!strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, OCI_LAYER_FOLDER)) continue;
        _cleanup_free_ char *path = fs_join(tree->folder, name);
        result = fs_remove_tree(path, ret_error);
    }
    closedir(folder);
    return result;
}

static int white_out(struct registry_oci_tree *tree, const char *name, struct error **ret_error) {
    const char *slash = strrchr(name, '/');
    const char *base = slash ? slash + 1 : name;
    if (!text_starts_with(base, WHITEOUT)) return 0;
    _cleanup_free_ char *folder = slash ? text_copy_bytes(name, (size_t)(slash - name)) : text_copy("");
    bool is_opaque = !strcmp(base, OPAQUE);
    _cleanup_free_ char *gone =
        is_opaque ? text_copy(folder) : text_format("%s%s%s", folder, *folder ? "/" : "", base + strlen(WHITEOUT));
    const char *relative = below(tree, gone);
    if (is_above(tree, gone)) return remove_model(tree, ret_error);
    if (!relative) return 0;
    _cleanup_free_ char *path = fs_join(tree->folder, relative);
    struct stat status;
    if (lstat(path, &status) < 0) return 0;
    return is_opaque && S_ISDIR(status.st_mode) ? remove_all_in(path, ret_error) : fs_remove_tree(path, ret_error);
}

/* ---- files ---- */

static int open_new(const struct registry_oci_tree *tree, const char *relative, const char *path) {
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file >= 0 || (errno != ENOENT && errno != EEXIST && errno != ENOTDIR)) return file;
    /* Whatever stands there, or on the way, comes from a lower layer, and this one is above it. */
    for (const char *slash = strchr(relative, '/'); slash; slash = strchr(slash + 1, '/')) {
        _cleanup_free_ char *part = text_copy_bytes(relative, (size_t)(slash - relative));
        _cleanup_free_ char *folder = fs_join(tree->folder, part);
        struct stat status;
        if (!lstat(folder, &status) && !S_ISDIR(status.st_mode) && unlink(folder) < 0) return -1;
        if (mkdir(folder, 0700) < 0 && errno != EEXIST) return -1;
    }
    struct stat status;
    if (!lstat(path, &status) && fs_remove_tree(path, NULL) < 0) return -1;
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static int take_bytes(struct registry_oci_tree *tree, uint64_t size, struct error **ret_error) {
    tree->size_bytes += size;
    if (!tree->context->size_maximum || tree->size_bytes <= tree->context->size_maximum) return 0;
    _cleanup_free_ char *maximum = text_size(tree->context->size_maximum);
    return error_set(ret_error, ERROR_CONFIGURATION, "the model unpacks to more than %s, which is model_size_maximum",
                     maximum);
}

static int copy_data(struct reader *reader, int file, const char *name, struct error **ret_error) {
    _cleanup_free_ char *block = mem_alloc(BLOCK_BYTES);
    for (;;) {
        ssize_t size = archive_read_data(reader->archive, block, BLOCK_BYTES);
        if (size == 0) return 0;
        if (size < 0) return fail_archive(reader, ret_error);
        int result = registry_check_canceled(reader->tree->context, ret_error);
        if (result < 0 || (result = take_bytes(reader->tree, (uint64_t)size, ret_error)) < 0) return result;
        for (ssize_t done = 0; done < size;) {
            ssize_t written = write(file, block + done, (size_t)(size - done));
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) return fail_target(errno, name, ret_error);
            done += written;
        }
    }
}

/* The path itself being a file is the model of that one file. */
static const char *name_of(const char *name, const char *relative) {
    if (*relative) return relative;
    const char *slash = strrchr(name, '/');
    return text_ends_with(name, ".onnx") ? "model.onnx" : slash ? slash + 1 : name;
}

static int write_file(struct reader *reader, const char *name, const char *relative, struct error **ret_error) {
    struct registry_oci_tree *tree = reader->tree;
    relative = name_of(name, relative);
    uint64_t maximum = tree->context->file_maximum ? tree->context->file_maximum : REGISTRY_FILES_MAXIMUM;
    if (++tree->file_count > maximum)
        return error_set(ret_error, ERROR_CONFIGURATION, "the model has more than %llu files, which is %s",
                         (unsigned long long)maximum,
                         tree->context->file_maximum ? "model_files_maximum" : "the most that one may have");
    if (!strncmp(relative, OCI_LAYER_FOLDER, strlen(OCI_LAYER_FOLDER)))
        return refuse(name, "has a name that is kept for the layers themselves", ret_error);
    _cleanup_free_ char *path = fs_join(tree->folder, relative);
    _cleanup_close_ int file = open_new(tree, relative, path);
    if (file < 0) return fail_target(errno, relative, ret_error);
    tree->has_files = true;
    return copy_data(reader, file, relative, ret_error);
}

static int take_entry(struct reader *reader, struct archive_entry *entry, const char *name, bool has_whiteouts,
                      struct error **ret_error) {
    const char *slash = strrchr(name, '/');
    const char *relative = below(reader->tree, name);
    if (has_whiteouts && text_starts_with(slash ? slash + 1 : name, WHITEOUT)) return 0;
    if (!relative || archive_entry_filetype(entry) == AE_IFDIR) return 0;
    if (archive_entry_hardlink(entry)) return refuse(name, "is a hard link; a model is made of plain files", ret_error);
    if (archive_entry_filetype(entry) == AE_IFLNK)
        return refuse(name, "is a symbolic link; a model is made of plain files", ret_error);
    if (archive_entry_filetype(entry) != AE_IFREG)
        return refuse(name, "is a device, pipe or socket; a model is made of plain files", ret_error);
    return write_file(reader, name, relative, ret_error);
}

/* ---- the archive ---- */

static int open_archive(const char *path, struct reader *reader, struct error **ret_error) {
    reader->archive = archive_read_new();
    if (!reader->archive) return error_set(ret_error, ERROR_UNAVAILABLE, "no memory to unpack %s", path);
    archive_read_support_format_tar(reader->archive);
    archive_read_support_filter_gzip(reader->archive);
    archive_read_support_filter_zstd(reader->archive);
    archive_read_set_option(reader->archive, "tar", "hdrcharset", "UTF-8");
    /* A tar without entries is an empty layer. */
    archive_read_support_format_empty(reader->archive);
    return archive_read_open_filename(reader->archive, path, BLOCK_BYTES) == ARCHIVE_OK
               ? 0
               : fail_archive(reader, ret_error);
}

static int visit(struct reader *reader, struct archive_entry *entry, bool is_first_pass, bool has_whiteouts,
                 struct error **ret_error) {
    const char *raw = archive_entry_pathname_utf8(entry);
    if (!raw) raw = archive_entry_pathname(entry);
    if (!raw) return refuse("?", "has no name that can be read", ret_error);
    _cleanup_free_ char *name = clean_name(raw);
    if (!name && has_whiteouts && !may_be_below(reader->tree, raw)) return 0;
    if (!name) return refuse(raw, "is an absolute name, or leads out, or is not plain", ret_error);
    if (!*name) return 0;
    return is_first_pass ? white_out(reader->tree, name, ret_error)
                         : take_entry(reader, entry, name, has_whiteouts, ret_error);
}

static int pass(struct registry_oci_tree *tree, const char *path, bool is_first_pass, bool has_whiteouts,
                struct error **ret_error) {
    struct reader reader = {.tree = tree};
    int result = open_archive(path, &reader, ret_error);
    for (uint64_t i = 0; result >= 0; i++) {
        struct archive_entry *entry = NULL;
        int status = archive_read_next_header(reader.archive, &entry);
        if (status == ARCHIVE_EOF) break;
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN) result = fail_archive(&reader, ret_error);
        if (result >= 0 && i % CANCELED_EVERY == 0) result = registry_check_canceled(tree->context, ret_error);
        if (result >= 0) result = visit(&reader, entry, is_first_pass, has_whiteouts, ret_error);
    }
    archive_read_free(reader.archive);
    return result;
}

int registry_oci_apply(struct registry_oci_tree *tree, const char *archive, bool has_whiteouts,
                       struct error **ret_error) {
    int result = 0;
    if (has_whiteouts && tree->has_files) result = pass(tree, archive, true, true, ret_error);
    return result < 0 ? result : pass(tree, archive, false, has_whiteouts, ret_error);
}
