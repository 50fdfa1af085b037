/* Files that are mapped: made whole before anybody maps them, and never made shorter, so that no access to a mapping
 * can fail for want of disk space (L3). And where such files must not lie (S1). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "vector/vector-internal.h"

/* Numbers of statfs(2) and linux/magic.h. On a network file system a mapping is not shared with other machines; a
 * copy-on-write one takes new space for each page that is written, whatever was allocated before. */
static const struct {
    uint32_t magic;
    const char *name, *why;
} refused_places[] = {
#define NETWORK "a network file system, on which mapped files are not shared"
#define COPIES "a copy-on-write file system, on which a write can fail for want of space"
    {0x00006969, "NFS", NETWORK},    {0x0000517b, "SMB", NETWORK},  {0xff534d42, "CIFS", NETWORK},
    {0xfe534d42, "SMB", NETWORK},    {0x01021997, "9P", NETWORK},   {0x5346414f, "AFS", NETWORK},
    {0x6b414653, "AFS", NETWORK},    {0x73757245, "Coda", NETWORK}, {0x00c36400, "Ceph", NETWORK},
    {0x0bd00bd0, "Lustre", NETWORK}, {0x47504653, "GPFS", NETWORK}, {0x01161970, "GFS2", NETWORK},
    {0x7461636f, "OCFS2", NETWORK},  {0x2fc12fc1, "ZFS", COPIES},   {0xca451a4e, "bcachefs", COPIES},
    {0x00003434, "NILFS2", COPIES},
};
#define BTRFS_MAGIC 0x9123683eu

int vector_file_error(struct error **ret_error, int errno_value, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *what = text_format_list(format, arguments);
    va_end(arguments);
    bool is_full = errno_value == ENOSPC || errno_value == EDQUOT || errno_value == EFBIG;
    if (!is_full) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno_value, "%s", what);
    error_set(ret_error, ERROR_UNAVAILABLE, "%s: the disk is full (%s); make room, then it goes on", what,
              strerror(errno_value));
    if (ret_error) error_mark_transient(ret_error);
    return -(int)ERROR_UNAVAILABLE;
}

int vector_file_check_place(const char *folder, struct error **ret_error) {
    struct statfs place;
    if (statfs(folder, &place) < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "look at the folder %s", folder);
    for (size_t i = 0; i < ARRAY_SIZE(refused_places); i++)
        if (refused_places[i].magic == (uint32_t)place.f_type)
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "keep a vector index in %s: that is %s, %s; choose a state folder on a local disk", folder,
                             refused_places[i].name, refused_places[i].why);
    return 0;
}

/* On btrfs a file is written in place if it is told so while it is empty. 0, or an errno. */
static int write_in_place(int file) {
    struct statfs place;
    int flags = 0;
    if (fstatfs(file, &place) < 0) return errno;
    if ((uint32_t)place.f_type != BTRFS_MAGIC) return 0;
    if (ioctl(file, FS_IOC_GETFLAGS, &flags) < 0) return errno;
    flags |= FS_NOCOW_FL;
    return ioctl(file, FS_IOC_SETFLAGS, &flags) < 0 ? errno : 0;
}

int vector_file_allocate(const char *path, uint64_t size, struct error **ret_error) {
    _cleanup_close_ int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) return vector_file_error(ret_error, errno, "create %s", path);
    int cause = write_in_place(file);
    if (!cause) cause = posix_fallocate(file, 0, (off_t)size);
    if (!cause && fsync(file) < 0) cause = errno;
    if (!cause) return 0;
    unlink(path);
    return vector_file_error(ret_error, cause, "allocate %llu bytes for %s", (unsigned long long)size, path);
}

bool vector_file_has_name(const struct vector_file_identity *identity, const char *folder, const char *name) {
    char path[PATH_MAX];
    struct stat status;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path || stat(path, &status) < 0) return false;
    return status.st_dev == identity->device && status.st_ino == identity->inode;
}

int vector_file_map(const char *path, uint64_t size, bool writable, void **ret_memory,
                    struct vector_file_identity *ret_identity, struct error **ret_error) {
    struct stat status;
    _cleanup_close_ int file = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0 && errno == ENOENT) return error_set(ret_error, ERROR_CONFLICT, "%s is not there", path);
    if (file < 0 || fstat(file, &status) < 0) return vector_file_error(ret_error, errno, "open %s", path);
    if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size != size)
        return error_set(ret_error, ERROR_CONFLICT, "%s is damaged: it has %lld bytes, and should have %llu", path,
                         (long long)status.st_size, (unsigned long long)size);
    void *memory = mmap(NULL, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return vector_file_error(ret_error, errno, "map %s", path);
    *ret_memory = memory;
    if (ret_identity) *ret_identity = (struct vector_file_identity){status.st_dev, status.st_ino};
    return 0;
}

int vector_file_sync(void *memory, uint64_t size, const char *folder, const char *name, struct error **ret_error) {
    if (msync(memory, size, MS_SYNC) == 0) return 0;
    return vector_file_error(ret_error, errno, "sync %s/%s", folder, name);
}

/* ---- replacing ---- */

static int write_new(const char *path, const char *bytes, size_t size) {
    _cleanup_close_ int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) return errno;
    while (size) {
        ssize_t written = write(file, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return errno;
        bytes += written;
        size -= (size_t)written;
    }
    return fsync(file) < 0 ? errno : 0;
}

int vector_file_replace(const char *folder, const char *name, const void *bytes, size_t size, bool *ret_in_doubt,
                        struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(folder, name), *aside = text_format("%s.new", path);
    *ret_in_doubt = false;
    int cause = write_new(aside, bytes, size);
    if (!cause && rename(aside, path) < 0) cause = errno;
    if (cause) {
        unlink(aside);
        return vector_file_error(ret_error, cause, "write %s", path);
    }
    *ret_in_doubt = true;
    int result = fs_sync_folder(folder, ret_error);
    if (!result) *ret_in_doubt = false;
    return result;
}
