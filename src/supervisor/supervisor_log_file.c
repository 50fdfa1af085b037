/* Where a runner's stdout and stderr go. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

static void rotate(const char *path, uint64_t maximum) {
    struct stat status;
    if (lstat(path, &status) < 0 || (uint64_t)status.st_size <= maximum) return;
    _cleanup_free_ char *older = text_format("%s.1", path);
    if (rename(path, older) < 0)
        log_write(LOG_WARNING, "a log could not be set aside", "path", path, "error", strerror(errno), NULL);
}

int log_file_open(const char *path, uint64_t maximum, off_t *ret_size) {
    *ret_size = 0;
    rotate(path, maximum);
    struct stat status;
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file >= 0 && fstat(file, &status) == 0) {
        *ret_size = status.st_size;
        return file;
    }
    log_write(LOG_WARNING, "a runner has no log", "path", path, "error", strerror(errno), NULL);
    if (file >= 0) close(file);
    return open("/dev/null", O_WRONLY | O_CLOEXEC);
}
