#include "watch.h"

#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

void watch_require(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "watched run: %s: %s\n", what, strerror(errno));
    abort();
}

/* ---- the child ---- */

static int install_filter(const struct watch *watch) {
    struct sock_filter *filter = mem_new_array(2 * watch->count + 2, struct sock_filter);
    unsigned short size = 0;
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < watch->count; i++) {
        filter[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)watch->calls[i], 0, 1);
        filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    }
    filter[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = size, .filter = filter};
    watch_require(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    watch_require(listener >= 0, "seccomp");
    free(filter);
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
    watch_require(sendmsg(channel, &message, 0) == 1, "sendmsg");
}

static void run_child(const struct watch *watch, int channel, void (*body)(void *context), void *context) {
    char byte;
    setpgid(0, 0);
    int listener = install_filter(watch);
    pass_descriptor(channel, listener);
    close(listener);
    watch_require(recv(channel, &byte, 1, 0) == 1, "recv"); /* the parent listens now */
    close(channel);
    body(context);
    _exit(0);
}

/* ---- the parent ---- */

static int receive_descriptor(int channel) {
    char byte, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    watch_require(recvmsg(channel, &message, MSG_CMSG_CLOEXEC) == 1, "recvmsg");
    int descriptor;
    watch_require(CMSG_FIRSTHDR(&message) != NULL, "recvmsg: no descriptor");
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    return descriptor;
}

/* False: all are killed. */
static int answer_one(const struct watch *watch, int listener, pid_t child) {
    struct seccomp_notif call = {0};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0) {
        watch_require(errno == ENOENT || errno == EINTR, "receive a call"); /* who called is gone */
        return 1;
    }
    int decision = watch->decide(watch->context, &call);
    if (decision == WATCH_KILL) {
        kill(-child, SIGKILL);
        return 0;
    }
    struct seccomp_notif_resp answer = {.id = call.id};
    if (decision)
        answer.error = -decision;
    else
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    watch_require(!ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) || errno == ENOENT, "answer a call");
    return 1;
}

int watch_run(const struct watch *watch, void (*body)(void *context), void *context) {
    fflush(NULL);
    int channels[2];
    watch_require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channels), "socketpair");
    pid_t child = fork();
    watch_require(child >= 0, "fork");
    if (!child) {
        close(channels[0]);
        run_child(watch, channels[1], body, context);
    }
    close(channels[1]);
    _cleanup_close_ int listener = receive_descriptor(channels[0]);
    _cleanup_close_ int process = (int)syscall(SYS_pidfd_open, child, 0);
    watch_require(process >= 0, "pidfd_open");
    watch_require(send(channels[0], "", 1, MSG_NOSIGNAL) == 1, "send");
    close(channels[0]);
    for (int listens = 1;;) {
        struct pollfd wait[] = {{.fd = process, .events = POLLIN}, {.fd = listens ? listener : -1, .events = POLLIN}};
        if (poll(wait, 2, -1) < 0) continue;
        if (wait[0].revents) break;
        if (wait[1].revents & POLLIN) listens = answer_one(watch, listener, child);
    }
    kill(-child, SIGKILL); /* what it has left running */
    int status;
    while (waitpid(child, &status, 0) < 0) watch_require(errno == EINTR, "waitpid");
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
