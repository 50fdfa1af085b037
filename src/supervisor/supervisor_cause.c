/* Why a child ended, as a sentence, and the last lines that it wrote. */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define TAIL_MAXIMUM 2048

/* A file of /proc or /sys; those are short. False when it cannot be read. */
static bool read_small(const char *path, char *ret_text, size_t room) {
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    size_t size = 0;
    ssize_t got;
    while (size < room - 1 && (got = read(file, ret_text + size, room - 1 - size)) > 0) size += (size_t)got;
    ret_text[size] = 0;
    return true;
}

/* The number behind "name " at the beginning of a line. */
static bool find_count(const char *text, const char *name, uint64_t *ret_count) {
    size_t length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (!strncmp(line, name, length) && line[length] == ' ')
            return sscanf(line + length + 1, "%" SCNu64, ret_count) == 1;
    return false;
}

uint64_t cause_count_oom_kills(void) {
    char text[16384], group[512];
    uint64_t count = 0;
    if (read_small("/proc/self/cgroup", text, sizeof text)) {
        const char *unified = text_starts_with(text, "0::") ? text : strstr(text, "\n0::");
        if (unified && sscanf(strstr(unified, "0::"), "0::%400[^\n]", group) == 1) {
            _cleanup_free_ char *path = text_format("/sys/fs/cgroup%s/memory.events", strcmp(group, "/") ? group : "");
            if (read_small(path, text, sizeof text) && find_count(text, "oom_kill", &count)) return count;
        }
    }
    if (read_small("/proc/vmstat", text, sizeof text)) find_count(text, "oom_kill", &count);
    return count;
}

char *cause_of_status(int status, bool memory_ran_out) {
    if (WIFEXITED(status)) return text_format("exit status %d", WEXITSTATUS(status));
    int number = WTERMSIG(status);
    const char *name = sigdescr_np(number);
    const char *hint = "";
    if (number == SIGKILL) hint = memory_ran_out ? ", out of memory by the kernel's count" : ", perhaps out of memory";
    return text_format("killed by signal %d (%s%s)", number, name ? name : "unknown", hint);
}

char *cause_log_tail(const char *path, off_t start) {
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat status;
    if (file < 0 || fstat(file, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size <= start)
        return text_copy("");
    bool cut = status.st_size - start > TAIL_MAXIMUM;
    char bytes[TAIL_MAXIMUM + 1];
    ssize_t size = pread(file, bytes, TAIL_MAXIMUM, cut ? status.st_size - TAIL_MAXIMUM : start);
    if (size < 0) size = 0;
    for (ssize_t i = 0; i < size; i++)
        if (!bytes[i]) bytes[i] = '?';
    bytes[size] = 0;
    const char *line = cut ? strchr(bytes, '\n') : NULL;
    return text_copy(line ? line + 1 : bytes);
}
