/* Runs code in a child each of whose chosen system calls is first shown to this process: seccomp hands them over
 * (seccomp_unotify(2), Linux 5.5). No hook in the code under test. The child's own children and threads are watched,
 * too; all of them are one process group, which ends with the child.
 */
#pragma once
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/types.h>

#define WATCH_PASS 0
#define WATCH_KILL -1

struct watch {
    const int *calls; /* system call numbers */
    size_t count;
    /* What becomes of a call: WATCH_PASS, WATCH_KILL (all processes, in place of the call), or the errno it fails with.
     * The caller stands still meanwhile; call->pid is its thread. */
    int (*decide)(void *context, const struct seccomp_notif *call);
    void *context;
};

/* Forks, runs body in the child, _exits it with 0. Returns its exit status, or 128 + signal. */
int watch_run(const struct watch *watch, void (*body)(void *context), void *context);
/* Ends the test program with errno's reason unless it holds. */
void watch_require(int holds, const char *what);
