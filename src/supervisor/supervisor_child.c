/* Fork, exec, signals and the reaping of one child. What runs between fork and exec is in child_become(): the process
 * has one thread, so all of libc may be used there. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define EXECUTABLE 7 /* goes with the exec, as the failure pipe behind it does */
#define ABOVE_ALL_TARGETS 16 /* where descriptors wait until the low numbers are theirs */

/* Why a child did not get to its exec, through a pipe that exec closes. */
struct failure {
    int errno_value;
    char what[60];
};

__attribute__((noreturn)) static void give_up(int failure_pipe, const char *what) {
    struct failure failure = {.errno_value = errno};
    snprintf(failure.what, sizeof failure.what, "%s", what);
    if (write(failure_pipe, &failure, sizeof failure) < 0) _exit(126);
    _exit(127);
}

/* Gives each wanted descriptor its number and closes all else; the failure pipe, whose number is returned, goes with
 * the exec. */
static int arrange_descriptors(const struct child_spec *spec, int socket, int failure_pipe) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int wanted[] = {null,
                    spec->log < 0 ? STDERR_FILENO : spec->log,
                    spec->log < 0 ? STDERR_FILENO : spec->log,
                    socket,
                    spec->listener,
                    -1,
                    spec->control,
                    spec->executable > 0 ? spec->executable : -1,
                    failure_pipe};
    int targets = (int)ARRAY_SIZE(wanted);
    for (int i = 0; i < targets; i++)
        if (wanted[i] >= 0 && (wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, ABOVE_ALL_TARGETS)) < 0) return -1;
    for (int i = 0; i < targets; i++) {
        if (wanted[i] < 0)
            close(i);
        else if (dup2(wanted[i], i) < 0)
            return -1;
    }
    if (spec->executable > 0) fcntl(EXECUTABLE, F_SETFD, FD_CLOEXEC);
    fcntl(targets - 1, F_SETFD, FD_CLOEXEC);
    syscall(SYS_close_range, (unsigned)targets, ~0u, 0u);
    return targets - 1;
}

/* RULES P2: the parent's death ends it, and the parent may have died before that held. */
static void bind_to_parent(pid_t parent, int failure_pipe) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) give_up(failure_pipe, "ask for a signal at the supervisor's death");
    if (getppid() != parent) _exit(127);
}

static void lock_members(const char *path, int failure_pipe) {
    int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) give_up(failure_pipe, "open the members file");
    if (flock(file, LOCK_SH) < 0) give_up(failure_pipe, "lock the members file");
    if (file != ROLE_DESCRIPTOR_MEMBERS) {
        if (dup2(file, ROLE_DESCRIPTOR_MEMBERS) < 0) give_up(failure_pipe, "keep the members file open");
        close(file);
    } else {
        fcntl(file, F_SETFD, 0);
    }
}

static void reset_signals(void) {
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void adjust_oom_score(int adjustment) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    dprintf(file, "%d", adjustment); /* refused in some containers: then all are alike */
    close(file);
}

/* It needs no privilege, and leaves the parent-death signal as it is; only the way back needs one. */
static void become_idle(int failure_pipe) {
    const struct sched_param none = {0};
    if (sched_setscheduler(0, SCHED_IDLE, &none) < 0) give_up(failure_pipe, "take idle priority");
}

__attribute__((noreturn)) static void child_become(const struct child_spec *spec, pid_t parent, int socket,
                                                   int failure) {
    bind_to_parent(parent, failure);
    int failure_pipe = arrange_descriptors(spec, socket, failure);
    if (failure_pipe < 0) give_up(failure, "arrange the descriptors");
    reset_signals();
    setpgid(0, 0); /* a terminal's Ctrl-C is for the supervisor alone */
    lock_members(spec->members, failure_pipe);
    if (spec->oom_score_adjustment) adjust_oom_score(spec->oom_score_adjustment);
    if (spec->idle_priority) become_idle(failure_pipe);
    if (spec->folder && chdir(spec->folder) < 0) give_up(failure_pipe, "enter its folder");
    char there[32] = "/proc/self/exe";
    if (spec->executable > 0) snprintf(there, sizeof there, "/proc/self/fd/%d", EXECUTABLE);
    execve(there, spec->arguments, spec->environment);
    give_up(failure_pipe, "execute the program");
}

static int make_pipes(int ret_sockets[2], int ret_failure[2], struct error **ret_error) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_sockets) < 0)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "make a socket pair");
    if (pipe2(ret_failure, O_CLOEXEC | O_NONBLOCK) == 0) return 0;
    int cause = errno;
    close(ret_sockets[0]);
    close(ret_sockets[1]);
    return error_set_errno(ret_error, ERROR_DEPLOYMENT, cause, "make a pipe");
}

int child_start(struct child *child, const struct child_spec *spec, struct error **ret_error) {
    int sockets[2] = {-1, -1}, failure[2] = {-1, -1};
    int result = make_pipes(sockets, failure, ret_error);
    if (result) return result;
    uint64_t oom_kills = cause_count_oom_kills();
    pid_t parent = getpid(), pid = fork();
    if (!pid) child_become(spec, parent, sockets[1], failure[1]);
    int cause = errno;
    close(sockets[1]);
    close(failure[1]);
    int pidfd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        if (pid > 0) {
            cause = errno;
            kill(pid, SIGKILL); /* not reaped yet, so the number is still its own */
            waitpid(pid, NULL, 0);
        }
        close(sockets[0]);
        close(failure[0]);
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, cause, "make a process");
    }
    *child = (struct child){.pid = pid,
                            .pidfd = pidfd,
                            .failure = failure[0],
                            .channel = wire_channel_new(sockets[0]),
                            .started_ms = clock_monotonic_ms(),
                            .since_ms = clock_wall_ms(),
                            .kill_at_ms = NEVER,
                            .ping_at_ms = NEVER,
                            .oom_kills = oom_kills};
    return 0;
}

void child_signal(const struct child *child, int signal_number) {
    if (child->pid) syscall(SYS_pidfd_send_signal, child->pidfd, signal_number, NULL, 0);
}

static void set_reason(struct child *child, const char *reason) {
    char *copy = text_copy(reason);
    free(child->kill_reason);
    child->kill_reason = copy;
}

void child_kill(struct child *child, const char *reason) {
    if (!child->pid || child->killed) return;
    set_reason(child, reason);
    child->killed = true;
    child->kill_at_ms = NEVER;
    child_signal(child, SIGKILL);
}

void child_kill_at(struct child *child, uint64_t when_ms, const char *reason) {
    if (!child->pid || child->killed) return;
    set_reason(child, reason);
    child->kill_at_ms = when_ms;
}

void child_let_live(struct child *child) {
    child->kill_at_ms = NEVER;
}

/* Its cause of death, from the nearest to the truth that is known to the farthest. */
static char *find_cause(const struct child *child, int status) {
    struct failure failure;
    if (read(child->failure, &failure, sizeof failure) == (ssize_t)sizeof failure) {
        char reason[128];
        failure.what[sizeof failure.what - 1] = 0;
        return text_format("could not be started: %s: %s", failure.what,
                           strerror_r(failure.errno_value, reason, sizeof reason));
    }
    if (child->killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return text_format("killed: %s", child->kill_reason);
    return cause_of_status(status, cause_count_oom_kills() > child->oom_kills);
}

bool child_reap(struct child *child, int *ret_status, char **ret_cause) {
    int status;
    pid_t reaped;
    do reaped = waitpid(child->pid, &status, WNOHANG);
    while (reaped < 0 && errno == EINTR);
    if (reaped != child->pid) return false;
    *ret_status = status;
    *ret_cause = find_cause(child, status);
    close(child->pidfd);
    close(child->failure);
    wire_channel_free(child->channel);
    free(child->kill_reason);
    *child = (struct child){.kill_at_ms = NEVER, .ping_at_ms = NEVER};
    return true;
}
