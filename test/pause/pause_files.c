/* pause_point() of the program that tests stop: with SLIPWAY_PAUSE_POINTS=<folder> a thread that comes to the point
 * <name>, and finds a file <folder>/<name>, writes its process id into <folder>/<name>.reached and stays until the
 * first of the two is removed. */
#include "base/pause.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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
