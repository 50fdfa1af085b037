#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"

char *fs_join(const char *folder, const char *name) {
    return text_format("%s%s%s", folder, text_ends_with(folder, "/") ? "" : "/", name);
}

int fs_make_folders(const char *path, struct error **ret_error) {
    _cleanup_free_ char *partial = text_copy(path);
    for (char *at = partial + 1;; at++) {
        if (*at && *at != '/') continue;
        char saved = *at;
        *at = 0;
        if (mkdir(partial, 0700) < 0 && errno != EEXIST)
            return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "make the folder %s", partial);
        *at = saved;
        if (!saved) break;
    }
    struct stat status;
    if (stat(path, &status) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "look at %s", path);
    if (!S_ISDIR(status.st_mode))
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, ENOTDIR, "use %s as a folder", path);
    return 0;
}

int fs_sync_folder(const char *path, struct error **ret_error) {
    _cleanup_close_ int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open the folder %s", path);
    if (fsync(folder) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "sync the folder %s", path);
    return 0;
}

static int write_all(int file, const char *bytes, size_t size) {
    while (size) {
        ssize_t written = write(file, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -1;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

int fs_write_file(const char *path, const void *bytes, size_t size, struct error **ret_error) {
    _cleanup_free_ char *temporary = text_format("%s.%d.new", path, (int)getpid());
    _cleanup_close_ int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "create %s", temporary);
    if (write_all(file, bytes, size) < 0 || fsync(file) < 0 || rename(temporary, path) < 0) {
        int cause = errno;
        unlink(temporary);
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, cause, "write %s", path);
    }
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder =
        slash ? text_copy_bytes(path, slash == path ? 1 : (size_t)(slash - path)) : text_copy(".");
    return fs_sync_folder(folder, ret_error);
}

int fs_read_file(const char *path, size_t maximum, char **ret_bytes, size_t *ret_size, struct error **ret_error) {
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s", path);
    struct stat status;
    if (fstat(file, &status) < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "look at %s", path);
    if (!S_ISREG(status.st_mode)) return error_set(ret_error, ERROR_DEPLOYMENT, "read %s: not a regular file", path);
    if ((uint64_t)status.st_size > maximum)
        return error_set(ret_error, ERROR_DEPLOYMENT, "read %s: %lld bytes, more than the %zu that are allowed", path,
                         (long long)status.st_size, maximum);
    size_t room = (size_t)status.st_size, size = 0;
    _cleanup_free_ char *bytes = malloc(room + 1);
    if (!bytes) return error_set_errno(ret_error, ERROR_DEPLOYMENT, ENOMEM, "read %s", path);
    while (size < room) {
        ssize_t got = read(file, bytes + size, room - size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "read %s", path);
        if (!got) break;
        size += (size_t)got;
    }
    bytes[size] = 0;
    *ret_bytes = TAKE(bytes);
    if (ret_size) *ret_size = size;
    return 0;
}

char *fs_read_tail(const char *path, size_t maximum) {
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0 || !S_ISREG(status.st_mode)) return text_copy("");
    off_t start = status.st_size > (off_t)maximum ? status.st_size - (off_t)maximum : 0;
    _cleanup_free_ char *bytes = mem_alloc(maximum + 1);
    ssize_t size = pread(file, bytes, maximum, start);
    if (size < 0) size = 0;
    bytes[size] = 0;
    char *line = start ? strchr(bytes, '\n') : NULL;
    return text_copy(line ? line + 1 : bytes);
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where) {
    (void)status, (void)kind, (void)where;
    return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

int fs_remove_tree(const char *path, struct error **ret_error) {
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "remove %s", path);
    return 0;
}

bool fs_exists(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0;
}
