#include "faults.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/memory.h"
#include "watch.h"

static const struct {
    unsigned kind;
    int number;
} watched[] = {
    {FAULT_SYNC, SYS_fsync},      {FAULT_SYNC, SYS_fdatasync},
    {FAULT_SYNC, SYS_msync},      {FAULT_WRITE, SYS_write},
    {FAULT_WRITE, SYS_fallocate}, {FAULT_WRITE, SYS_pwrite64},
    {FAULT_WRITE, SYS_writev},    {FAULT_WRITE, SYS_copy_file_range},
    {FAULT_WRITE, SYS_ftruncate}, {FAULT_NAME, SYS_renameat2},
    {FAULT_NAME, SYS_mkdirat},    {FAULT_NAME, SYS_unlinkat},
    {FAULT_NAME, SYS_fchmod},     {FAULT_NAME, SYS_fchmodat},
    {FAULT_OPEN, SYS_openat},
#ifdef SYS_renameat
    {FAULT_NAME, SYS_renameat},
#endif
#ifdef SYS_rename /* the older calls, which newer architectures lack */
    {FAULT_NAME, SYS_rename},     {FAULT_NAME, SYS_mkdir},
    {FAULT_NAME, SYS_unlink},     {FAULT_NAME, SYS_rmdir},
    {FAULT_NAME, SYS_chmod},      {FAULT_OPEN, SYS_open},
#endif
};

struct faults *faults_new(unsigned kinds) {
    struct faults *faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    watch_require(faults != MAP_FAILED, "mmap");
    faults->kinds = kinds;
    atomic_store(&faults->armed, true);
    return faults;
}

void faults_free(struct faults *faults) {
    munmap(faults, sizeof *faults);
}

/* What becomes of this call: 0 passes, else an errno or FAULT_KILL. */
static int decide(void *context, const struct seccomp_notif *call) {
    struct faults *faults = context;
    (void)call;
    if (!atomic_load(&faults->armed)) return WATCH_PASS;
    unsigned number = atomic_fetch_add(&faults->seen, 1) + 1;
    bool is_due = faults->lasting ? number >= faults->at : number == faults->at;
    if (!faults->at || !is_due || faults->action == FAULT_COUNT) return WATCH_PASS;
    atomic_store(&faults->fired, true);
    return faults->action;
}

struct body {
    struct faults *faults;
    void (*run)(struct faults *faults, void *context);
    void *context;
};

static void run_body(void *context) {
    struct body *body = context;
    body->run(body->faults, body->context);
}

int faults_run(struct faults *faults, void (*body)(struct faults *faults, void *context), void *context) {
    atomic_store(&faults->seen, 0);
    atomic_store(&faults->fired, false);
    int calls[ARRAY_SIZE(watched)];
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(watched); i++)
        if (watched[i].kind & faults->kinds) calls[count++] = watched[i].number;
    const struct watch watch = {.calls = calls, .count = count, .decide = decide, .context = faults};
    return watch_run(&watch, run_body, &(struct body){faults, body, context});
}
