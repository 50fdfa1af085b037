#include "faults.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

static const struct {
    unsigned kind;
    int number;
} watched[] = {
    {FAULT_SYNC, SYS_fsync},      {FAULT_SYNC, SYS_fdatasync}, {FAULT_WRITE, SYS_write},
    {FAULT_WRITE, SYS_pwrite64},  {FAULT_WRITE, SYS_writev},   {FAULT_WRITE, SYS_copy_file_range},
    {FAULT_WRITE, SYS_ftruncate}, {FAULT_NAME, SYS_renameat2}, {FAULT_NAME, SYS_mkdirat},
    {FAULT_NAME, SYS_unlinkat},   {FAULT_NAME, SYS_fchmod},    {FAULT_NAME, SYS_fchmodat},
    {FAULT_OPEN, SYS_openat},
#ifdef SYS_renameat
    {FAULT_NAME, SYS_renameat},
#endif
#ifdef SYS_rename /* the older calls, which newer architectures lack */
    {FAULT_NAME, SYS_rename},     {FAULT_NAME, SYS_mkdir},     {FAULT_NAME, SYS_unlink},
    {FAULT_NAME, SYS_rmdir},      {FAULT_NAME, SYS_chmod},     {FAULT_OPEN, SYS_open},
#endif
};

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "fault injection: %s: %s\n", what, strerror(errno));
    abort();
}

struct faults *faults_new(unsigned kinds) {
    struct faults *faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(faults != MAP_FAILED, "mmap");
    faults->kinds = kinds;
    atomic_store(&faults->armed, true);
    return faults;
}

void faults_free(struct faults *faults) {
    munmap(faults, sizeof *faults);
}

/* ---- the child ---- */

static int install_filter(unsigned kinds) {
    struct sock_filter filter[2 * ARRAY_SIZE(watched) + 2];
    unsigned short size = 0;
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
        if (!(watched[i].kind & kinds)) continue;
        filter[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)watched[i].number, 0, 1);
        filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    }
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = size, .filter = filter};
    require(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    require(listener >= 0, "seccomp");
    return (int)listener;
}

static void pass_descriptor(int channel, int descriptor) {
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    require(sendmsg(channel, &message, 0) == 1, "sendmsg");
}

static void run_child(struct faults *faults, int channel, void (*body)(struct faults *faults, void *context),
                      void *context) {
    char byte;
    int listener = install_filter(faults->kinds);
    pass_descriptor(channel, listener);
    close(listener);
    require(recv(channel, &byte, 1, 0) == 1, "recv"); /* the parent listens now */
    close(channel);
    body(faults, context);
    _exit(0);
}

/* ---- the parent ---- */

static int receive_descriptor(int channel) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    require(recvmsg(channel, &message, MSG_CMSG_CLOEXEC) == 1, "recvmsg");
    int descriptor;
    require(CMSG_FIRSTHDR(&message) != NULL, "recvmsg: no descriptor");
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return descriptor;
}

/* What becomes of this call: 0 passes, else an errno or FAULT_KILL. */
static int decide(struct faults *faults) {
    if (!atomic_load(&faults->armed)) return 0;
    unsigned number = atomic_fetch_add(&faults->seen, 1) + 1;
    bool is_due = faults->lasting ? number >= faults->at : number == faults->at;
    if (!faults->at || !is_due || faults->action == FAULT_COUNT) return 0;
    atomic_store(&faults->fired, true);
    return faults->action;
}

static void answer_one(struct faults *faults, int listener, pid_t child) {
    struct seccomp_notif call = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) {
        require(errno == ENOENT || errno == EINTR, "receive a call"); /* the child is gone */
        return;
    }
    int fault = decide(faults);
    if (fault == FAULT_KILL) {
        kill(child, SIGKILL);
        return;
    }
    struct seccomp_notif_resp answer = {.id = call.id};
    if (fault)
        answer.error = -fault;
    else
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    require(!ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) || errno == ENOENT, "answer a call");
}

int faults_run(struct faults *faults, void (*body)(struct faults *faults, void *context), void *context) {
    atomic_store(&faults->seen, 0);
    atomic_store(&faults->fired, false);
    fflush(NULL);
    int channels[2];
    require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channels), "socketpair");
    pid_t child = fork();
    require(child >= 0, "fork");
    if (!child) {
        close(channels[0]);
        run_child(faults, channels[1], body, context);
    }
    close(channels[1]);
    _cleanup_close_ int listener = receive_descriptor(channels[0]);
    _cleanup_close_ int process = (int)syscall(SYS_pidfd_open, child, 0);
    require(process >= 0, "pidfd_open");
    require(send(channels[0], "", 1, MSG_NOSIGNAL) == 1, "send");
    close(channels[0]);
    for (;;) {
        struct pollfd wait[] = {{.fd = listener, .events = POLLIN}, {.fd = process, .events = POLLIN}};
        if (poll(wait, 2, -1) < 0) continue;
        if (wait[1].revents) break;
        if (wait[0].revents & POLLIN) answer_one(faults, listener, child);
    }
    int status;
    while (waitpid(child, &status, 0) < 0) require(errno == EINTR, "waitpid");
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
