/* Copying and hashing a package's folder, wherever it lies: for backups and checks. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "package/package-internal.h"

#define BLOCK_BYTES (1u << 20)

struct copy {
    int target; /* -1: only hashed */
    const char *path, *target_path;
    char *block;
};

static int write_block(const struct copy *copy, const char *bytes, size_t size, struct error **ret_error) {
    while (size) {
        ssize_t written = write(copy->target, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return package_fail_errno(ret_error, errno, "write", copy->target_path);
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

/* Reads all of `file`; what is read is what is hashed and what is written. */
static int pump(const struct copy *copy, int file, uint64_t size_bytes, char ret_hex[DIGEST_HEX_SIZE],
                struct error **ret_error) {
    struct digest *digest = digest_new();
    uint64_t total = 0;
    int result = 0;
    while (!result) {
        ssize_t size = read(file, copy->block, BLOCK_BYTES);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) result = package_fail_errno(ret_error, errno, "read", copy->path);
        if (size <= 0) break;
        digest_update(digest, copy->block, (size_t)size);
        total += (uint64_t)size;
        if (copy->target >= 0) result = write_block(copy, copy->block, (size_t)size, ret_error);
    }
    digest_finish(digest, ret_hex);
    if (result < 0) return result;
    if (total != size_bytes) return error_set(ret_error, ERROR_DEPLOYMENT, "read %s: it changed meanwhile", copy->path);
    if (copy->target >= 0 && fsync(copy->target) < 0)
        return package_fail_errno(ret_error, errno, "sync", copy->target_path);
    return 0;
}

static int take_file(const char *from, const char *to, const struct package_tree_file *file, char *block,
                     char ret_hex[DIGEST_HEX_SIZE], struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(from, file->path), *target_path = to ? fs_join(to, file->path) : NULL;
    _cleanup_close_ int source = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (source < 0) return package_fail_errno(ret_error, errno, "open", path);
    _cleanup_close_ int target = to ? open(target_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    if (to && target < 0) return package_fail_errno(ret_error, errno, "make", target_path);
    struct copy copy = {.target = target, .path = path, .target_path = target_path, .block = block};
    return pump(&copy, source, file->size_bytes, ret_hex, ret_error);
}

static int make_folders(const char *to, const struct package_tree *tree, struct error **ret_error) {
    for (size_t i = 0; i < tree->folder_count; i++) {
        _cleanup_free_ char *path = *tree->folders[i] ? fs_join(to, tree->folders[i]) : text_copy(to);
        if (mkdir(path, 0700) < 0 && (errno != EEXIST || *tree->folders[i]))
            return package_fail_errno(ret_error, errno, "make the folder", path);
    }
    return 0;
}

static int sync_folders(const char *to, const struct package_tree *tree, struct error **ret_error) {
    int result = 0;
    for (size_t i = tree->folder_count; i-- > 0 && !result;) {
        _cleanup_free_ char *path = *tree->folders[i] ? fs_join(to, tree->folders[i]) : text_copy(to);
        result = fs_sync_folder(path, ret_error);
    }
    return result;
}

static int take_files(const char *from, const char *to, const struct package_tree *tree,
                      const struct package_listener *listener, struct package_info *ret_info,
                      struct error **ret_error) {
    _cleanup_free_ char *block = mem_alloc(BLOCK_BYTES);
    struct digest *list = digest_new();
    char hex[DIGEST_HEX_SIZE];
    int result = 0;
    for (size_t i = 0; i < tree->file_count && !result; i++) {
        const struct package_tree_file *file = &tree->files[i];
        if ((result = take_file(from, to, file, block, hex, ret_error)) < 0) break;
        _cleanup_free_ char *line = text_format("%s %llu %s\n", hex, (unsigned long long)file->size_bytes, file->path);
        digest_update(list, line, strlen(line));
        if (listener) listener->took(listener->context, file->path, file->size_bytes, hex);
    }
    digest_finish(list, ret_info->digest);
    ret_info->size_bytes = tree->size_bytes;
    ret_info->file_count = tree->file_count;
    return result;
}

int package_copy_folder(const char *from, const char *to, const struct package_listener *listener,
                        struct package_info *ret_info, struct error **ret_error) {
    _cleanup_tree_ struct package_tree tree = {0};
    int result = package_tree_read(from, &tree, ret_error);
    if (!result && to) result = make_folders(to, &tree, ret_error);
    if (!result) result = take_files(from, to, &tree, listener, ret_info, ret_error);
    if (!result && to) result = sync_folders(to, &tree, ret_error);
    return result;
}

int package_hash_folder(const char *folder, struct package_info *ret_info, struct error **ret_error) {
    return package_copy_folder(folder, NULL, NULL, ret_info, ret_error);
}

int package_list_folder(const char *folder, void (*visit)(const char *path, uint64_t size_bytes, void *context),
                        void *context, struct error **ret_error) {
    _cleanup_tree_ struct package_tree tree = {0};
    int result = package_tree_read(folder, &tree, ret_error);
    if (result < 0) return result;
    for (size_t i = 0; i < tree.file_count; i++) visit(tree.files[i].path, tree.files[i].size_bytes, context);
    return 0;
}

int package_remove_folder(const char *folder, struct error **ret_error) {
    return package_tree_remove(folder, ret_error);
}
