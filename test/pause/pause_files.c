/* What the program test/slipway-paused does besides: it stops at named points, and its syncs can be made to fail.
 *
 * pause_point() of the program that tests stop: with SLIPWAY_PAUSE_POINTS=<folder> a thread that comes to the point
 * <name>, and finds a file <folder>/<name>, writes its process id into <folder>/<name>.reached and stays until the
 * first of the two is removed.
 *
 * While <folder>/failing_sync holds a process's id, each fsync, fdatasync and msync of that process fails with EIO. */
#include "base/pause.h"

#include <errno.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void write_reached(const char *path) {
    char part[4200], pid[24];
    snprintf(part, sizeof part, "%s.%d", path, (int)gettid());
    int size = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    int file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) return;
    if (write(file, pid, (size_t)size) == size) rename(part, path); /* whole when it is seen */
    close(file);
}

void pause_point(const char *name) {
    const char *folder = getenv("SLIPWAY_PAUSE_POINTS");
    if (!folder) return;
    char path[4096], reached[4104];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (access(path, F_OK)) return;
    snprintf(reached, sizeof reached, "%s.reached", path);
    write_reached(reached);
    while (!access(path, F_OK)) nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static bool sync_fails(void) {
    const char *folder = getenv("SLIPWAY_PAUSE_POINTS");
    char path[4096], text[24] = "";
    if (!folder) return false;
    snprintf(path, sizeof path, "%s/failing_sync", folder);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    bool is_ours = read(file, text, sizeof text - 1) > 0 && strtol(text, NULL, 10) == getpid();
    close(file);
    if (is_ours) errno = EIO;
    return is_ours;
}

/* In place of the C library's, for the whole program. */
int fsync(int file) {
    return sync_fails() ? -1 : (int)syscall(SYS_fsync, file);
}

int fdatasync(int file) {
    return sync_fails() ? -1 : (int)syscall(SYS_fdatasync, file);
}

int msync(void *memory, size_t size, int flags) {
    return sync_fails() ? -1 : (int)syscall(SYS_msync, memory, size, flags);
}
