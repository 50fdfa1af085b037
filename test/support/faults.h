/* Runs code in a child and makes a chosen system call of it fail, or kills the child in place of it: every step that
 * touches the disk can be made the last one. No hook in the code under test: support/watch.h.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

enum fault_kind {
    FAULT_SYNC = 1, /* fsync fdatasync msync */
    FAULT_WRITE = 2, /* write pwrite64 writev copy_file_range ftruncate fallocate */
    FAULT_NAME = 4, /* rename mkdir unlink rmdir and their kin, chmod */
    FAULT_OPEN = 8, /* openat */
    FAULT_ALL = 15,
};

#define FAULT_COUNT 0 /* only count */
#define FAULT_KILL -1 /* as WATCH_KILL */

/* In memory shared with the child: body may change it at any time. */
struct faults {
    unsigned kinds;
    atomic_bool armed; /* else all calls pass and none is counted */
    atomic_uint seen; /* watched calls while armed */
    unsigned at; /* the one that fails, from 1 */
    bool lasting; /* and all after it */
    int action; /* an errno, FAULT_COUNT or FAULT_KILL */
    atomic_bool fired;
    atomic_int note[8]; /* for the body to tell what it got to: outlives it */
};

struct faults *faults_new(unsigned kinds);
void faults_free(struct faults *faults);
/* Forks, runs body in the child, _exits it with 0. Returns its exit status, or 128 + signal. */
int faults_run(struct faults *faults, void (*body)(struct faults *faults, void *context), void *context);
