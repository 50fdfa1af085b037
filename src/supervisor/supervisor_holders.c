/* Who has a file or a port open, as far as /proc tells us: for messages only. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

/* What an open descriptor must be to count: this inode, on this device unless `any_device` (sockets have one of their
 * own). */
struct wanted {
    dev_t device;
    ino_t inode;
    bool any_device;
};

static bool holds(const char *pid, const struct wanted *wanted) {
    _cleanup_free_ char *path = text_format("/proc/%s/fd", pid);
    DIR *folder = opendir(path);
    if (!folder) return false;
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(folder));) {
        struct stat status;
        if (fstatat(dirfd(folder), entry->d_name, &status, 0) < 0 || status.st_ino != wanted->inode) continue;
        found = wanted->any_device ? S_ISSOCK(status.st_mode) : status.st_dev == wanted->device;
    }
    closedir(folder);
    return found;
}

static void append_process(struct buffer *list, const char *pid) {
    char name[32] = "";
    _cleanup_free_ char *path = text_format("/proc/%s/comm", pid);
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? 0 : read(file, name, sizeof name - 1);
    name[size > 0 ? strcspn(name, "\n") : 0] = 0;
    buffer_append_format(list, "%spid %s (%s)", list->size ? ", " : "", pid, *name ? name : "?");
}

static char *find_holders(const struct wanted *wanted) {
    struct buffer list = {.maximum = 1024};
    DIR *processes = opendir("/proc");
    if (!processes) return text_copy("");
    char self[16];
    snprintf(self, sizeof self, "%d", (int)getpid());
    for (struct dirent *entry; (entry = readdir(processes));)
        if (isdigit((unsigned char)entry->d_name[0]) && strcmp(entry->d_name, self) && holds(entry->d_name, wanted))
            append_process(&list, entry->d_name);
    closedir(processes);
    return buffer_take(&list, NULL);
}

char *holders_of_file(dev_t device, ino_t inode) {
    return find_holders(&(struct wanted){.device = device, .inode = inode});
}

/* The inode of the first socket that listens on the port: in a line of /proc/net/tcp, state 0A. */
static bool find_listener(const char *path, uint16_t port, ino_t *ret_inode) {
    FILE *table = fopen(path, "re");
    if (!table) return false;
    char line[512];
    bool found = false;
    while (!found && fgets(line, sizeof line, table)) {
        unsigned local_port, state;
        unsigned long long inode;
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %llu", &local_port, &state,
                   &inode) != 3)
            continue;
        if (state != 0x0a || local_port != port) continue;
        *ret_inode = (ino_t)inode;
        found = true;
    }
    fclose(table);
    return found;
}

char *holders_of_port(uint16_t port) {
    ino_t inode;
    if (!find_listener("/proc/net/tcp", port, &inode) && !find_listener("/proc/net/tcp6", port, &inode))
        return text_copy("");
    return find_holders(&(struct wanted){.inode = inode, .any_device = true});
}
