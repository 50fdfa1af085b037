/* The two locks of a state folder (RULES P1): supervisor.lock, held exclusively by one serve for its life, and members,
 * held shared by every child, so that a serve which follows a killed one waits until the last of that one's children
 * has gone. The descriptor of supervisor.lock is not close-on-exec: the lock outlives a re-execution. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define MEMBERS_DEADLINE_MS 10000 /* children of a killed supervisor are killed by the kernel: they need moments */

/* What the holder wrote into the file, if it is a number. */
static long read_pid(int file) {
    char text[32] = "";
    ssize_t size = pread(file, text, sizeof text - 1, 0);
    uint64_t pid = 0;
    if (size > 0) text[strcspn(text, "\n")] = 0;
    return size > 0 && text_parse_number(text, INT32_MAX, &pid) ? (long)pid : 0;
}

static int refuse_in_use(const char *state, long pid, struct error **ret_error) {
    if (pid)
        error_set(
            ret_error, ERROR_CONFLICT,
            "the state folder %s is in use by the slipway serve with pid %ld; stop that one, or name another folder "
            "with --state",
            state, pid);
    else
        error_set(
            ret_error, ERROR_CONFLICT,
            "the state folder %s is in use by another slipway serve; stop that one, or name another folder with --state",
            state);
    return SERVE_EXIT_IN_USE;
}

static int open_lock(const char *path, int flags, int *ret_file, struct error **ret_error) {
    *ret_file = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | flags, 0600);
    if (*ret_file >= 0) return SERVE_EXIT_OK;
    int cause = errno;
    error_set_errno(ret_error, ERROR_CONFIGURATION, cause, "the state folder cannot be used: open %s", path);
    return cause == ENOSPC || cause == EDQUOT ? SERVE_EXIT_DISK_FULL : SERVE_EXIT_UNWRITABLE;
}

int lock_state_folder(struct supervisor *supervisor, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(supervisor->state, "supervisor.lock");
    _cleanup_close_ int file = -1;
    int result = open_lock(path, 0, &file, ret_error);
    if (result) return result;
    if (flock(file, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK) return refuse_in_use(supervisor->state, read_pid(file), ret_error);
        error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "lock %s", path);
        return SERVE_EXIT_UNWRITABLE;
    }
    char pid[16];
    int size = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(file, 0) < 0 || pwrite(file, pid, (size_t)size, 0) < 0)
        log_write(LOG_DEBUG, "the lock file does not name this process", "error", strerror(errno), NULL);
    supervisor->lock = file;
    file = -1;
    return SERVE_EXIT_OK;
}

/* There is no flock() with a deadline, and the wait is short and rare: trying again is all there is. */
static bool lock_exclusively(int file, uint64_t until_ms) {
    static const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    while (flock(file, LOCK_EX | LOCK_NB) < 0) {
        if (clock_monotonic_ms() >= until_ms) return false;
        nanosleep(&pause, NULL);
    }
    return true;
}

static char *name_members(int file) {
    struct stat status;
    char *names = fstat(file, &status) == 0 ? holders_of_file(status.st_dev, status.st_ino) : text_copy("");
    if (*names) return names;
    free(names);
    return text_copy("a process that cannot be seen from here");
}

int lock_wait_for_members(struct supervisor *supervisor, struct error **ret_error) {
    supervisor->members = fs_join(supervisor->state, "members");
    _cleanup_close_ int file = -1;
    int result = open_lock(supervisor->members, O_CLOEXEC, &file, ret_error);
    if (result) return result;
    if (flock(file, LOCK_EX | LOCK_NB) == 0) return SERVE_EXIT_OK;
    _cleanup_free_ char *waiting_for = name_members(file);
    log_write(LOG_INFO, "waiting for the processes of the serve before", "processes", waiting_for, NULL);
    if (lock_exclusively(file, clock_monotonic_ms() + MEMBERS_DEADLINE_MS)) return SERVE_EXIT_OK;
    _cleanup_free_ char *left = name_members(file);
    error_set(ret_error, ERROR_CONFLICT,
              "the state folder %s is still in use by what an earlier slipway serve left behind: %s; end that first",
              supervisor->state, left);
    return SERVE_EXIT_IN_USE;
}
