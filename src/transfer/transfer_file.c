/* Files of a download: made new below a folder that is held by its descriptor, through no link. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "transfer/transfer-internal.h"

#define WRITEBACK_BYTES (4u << 20)

static int open_beneath(int folder, const char *path, int flags, unsigned mode) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .mode = mode,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long result;
    do result = syscall(SYS_openat2, folder, path, &how, sizeof how);
    while (result < 0 && errno == EAGAIN); /* something above was renamed meanwhile */
    return (int)result;
}

/* The folders on the way, each below the one before. */
static int make_folders(int folder, const char *path) {
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        _cleanup_free_ char *parents = text_copy_bytes(path, (size_t)(slash - path));
        char *name = strrchr(parents, '/');
        if (!name) {
            if (mkdirat(folder, parents, 0700) < 0 && errno != EEXIST) return -1;
            continue;
        }
        *name++ = '\0';
        _cleanup_close_ int above = open_beneath(folder, parents, O_PATH | O_DIRECTORY, 0);
        if (above < 0 || (mkdirat(above, name, 0700) < 0 && errno != EEXIST)) return -1;
    }
    return 0;
}

int transfer_make_file(int folder, const char *path) {
    int flags = O_WRONLY | O_CREAT | O_EXCL;
    int made = open_beneath(folder, path, flags, 0600);
    if (made >= 0 || errno != ENOENT || !strchr(path, '/')) return made;
    return make_folders(folder, path) < 0 ? -1 : open_beneath(folder, path, flags, 0600);
}

int transfer_write(int descriptor, const char *bytes, size_t size) {
    while (size) {
        ssize_t written = write(descriptor, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -1;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

void transfer_begin_writeback(int descriptor, uint64_t written_before, size_t size) {
    uint64_t begin = written_before / WRITEBACK_BYTES, end = (written_before + size) / WRITEBACK_BYTES;
    if (begin < end)
        sync_file_range(descriptor, (off64_t)(begin * WRITEBACK_BYTES), (off64_t)((end - begin) * WRITEBACK_BYTES),
                        SYNC_FILE_RANGE_WRITE);
}

int transfer_fail_disk(const struct transfer *transfer, int errno_value, const char *path, struct error **ret_error) {
    if (errno_value == ENOSPC || errno_value == EDQUOT)
        return error_set_errno(ret_error, ERROR_UNAVAILABLE, errno_value,
                               "write %s: the disk of the state folder is full; free some space there", path);
    (void)transfer;
    return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno_value, "write %s", path);
}
