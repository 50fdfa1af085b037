/* The supervisor's loop, and the tour of its files:
 *
 *   supervisor_options.c      what `serve` is asked to do
 *   supervisor_start.c        what must hold before the first child; supervisor_lock.c, supervisor_alias.c,
 *                             supervisor_listen.c, supervisor_control.c and supervisor_holders.c are parts of it
 *   supervisor_child.c        fork, exec, reap; supervisor_environment.c, supervisor_log_file.c: what a child finds
 *   supervisor_process.c      what is common to all that is kept up: pauses, pings, deadlines, messages
 *   supervisor_role.c         controller, indexer and gateway; supervisor_relay.c: what is passed between them
 *   supervisor_replica.c      runners; supervisor_log_rotate.c sets their logs aside
 *   supervisor_cause.c        causes of death
 *   supervisor_replace.c      a gateway, controller and indexer in the place of those that run; supervisor_reload.c: at
 *                             SIGHUP, with other settings
 *   supervisor_upgrade.c      another program in our own place: supervisor_check.c asks it, supervisor_state.c is what
 *                             it is told, supervisor_execute.c the exec
 *   supervisor_stop.c         the end; supervisor_notify.c tells a service manager of it, and of the beginning */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/version.h"
#include "supervisor/supervisor-internal.h"

/* ---- signals ---- */

static int open_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool is_ours(const struct supervisor *supervisor, pid_t pid) {
    for (const struct process *process = supervisor->processes; process; process = process->next)
        if (process->child.pid == pid) return true;
    return false;
}

/* Children that we did not make (of a script that became this process, or orphans where we are a container's first
 * process) would stay as zombies. Ours are left to their pidfds; each that ends brings us here again. */
static void collect_strangers(const struct supervisor *supervisor) {
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || !info.si_pid ||
            is_ours(supervisor, info.si_pid))
            return;
        waitpid(info.si_pid, NULL, WNOHANG);
    }
}

static void take_signals(struct supervisor *supervisor) {
    struct signalfd_siginfo info;
    while (read(supervisor->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            collect_strangers(supervisor);
        else if (info.ssi_signo == SIGHUP)
            reload_settings(supervisor);
        else if (info.ssi_signo == SIGINT && supervisor->stop.phase)
            stop_at_once(supervisor, SERVE_EXIT_AT_ONCE);
        else
            stop_begin(supervisor, SERVE_EXIT_OK, NULL);
    }
}

/* ---- one turn of the loop ---- */

struct watch {
    struct process *process; /* NULL: the signals */
    bool is_end; /* its pidfd, not its socket */
};

/* What poll() waits on. The arrays grow to the number of processes and stay. */
struct watches {
    struct pollfd *descriptors;
    struct watch *what;
    size_t count, capacity;
};

static void add_watch(struct watches *watches, int descriptor, short events, struct watch what) {
    if (watches->count == watches->capacity) {
        watches->capacity = watches->capacity ? watches->capacity * 2 : 16;
        watches->descriptors = mem_resize(watches->descriptors, watches->capacity, sizeof *watches->descriptors);
        watches->what = mem_resize(watches->what, watches->capacity, sizeof *watches->what);
    }
    watches->descriptors[watches->count] = (struct pollfd){.fd = descriptor, .events = events};
    watches->what[watches->count++] = what;
}

static void collect_watches(struct supervisor *supervisor, struct watches *watches) {
    watches->count = 0;
    add_watch(watches, supervisor->signals, POLLIN, (struct watch){0});
    for (struct process *process = supervisor->processes; process; process = process->next) {
        const struct child *child = &process->child;
        if (!child->pid) continue;
        add_watch(watches, child->pidfd, POLLIN, (struct watch){process, true});
        if (!child->channel) continue;
        short events = wire_channel_wants_write(child->channel) ? POLLIN | POLLOUT : POLLIN;
        add_watch(watches, wire_channel_descriptor(child->channel), events, (struct watch){process, false});
    }
}

static int milliseconds_to_wait(const struct supervisor *supervisor) {
    uint64_t next = supervisor->stop.phase ? supervisor->stop.next_ms : upgrade_next_time(supervisor);
    if (!supervisor->stop.phase && supervisor->replace.phase && supervisor->replace.next_ms < next)
        next = supervisor->replace.next_ms;
    for (const struct process *process = supervisor->processes; process; process = process->next) {
        uint64_t time = process_next_time(process);
        if (time < next) next = time;
    }
    if (next == NEVER) return -1;
    uint64_t now = clock_monotonic_ms();
    return next <= now ? 0 : next - now < 60000 ? (int)(next - now) : 60000;
}

/* Messages before ends before time: whoever has answered, or has died with a cause of its own, is not killed for being
 * late. */
static void take_events(struct supervisor *supervisor, const struct watches *watches) {
    for (size_t i = 1; i < watches->count; i++)
        if (watches->descriptors[i].revents && !watches->what[i].is_end)
            process_take_socket(supervisor, watches->what[i].process);
    for (size_t i = 1; i < watches->count; i++)
        if (watches->descriptors[i].revents && watches->what[i].is_end)
            process_take_end(supervisor, watches->what[i].process);
    if (watches->descriptors[0].revents) take_signals(supervisor);
}

static void take_time(struct supervisor *supervisor) {
    uint64_t now = clock_monotonic_ms();
    for (struct process *process = supervisor->processes; process; process = process->next)
        process_take_time(supervisor, process, now);
    log_rotate_look(supervisor, now);
}

static void free_process(struct process *process) {
    if (process->kind == &runner_kind)
        replica_free(CONTAINER_OF(process, struct replica, process));
    else if (process_is_role(process))
        role_free(role_of(process));
    else
        free(process);
}

static void sweep(struct supervisor *supervisor, bool all) {
    for (struct process **at = &supervisor->processes; *at;) {
        struct process *process = *at;
        if (all || process->forgotten) {
            *at = process->next;
            free_process(process);
        } else {
            at = &process->next;
        }
    }
}

static void run_loop(struct supervisor *supervisor) {
    struct watches watches = {0};
    while (!stop_advance(supervisor, clock_monotonic_ms())) {
        collect_watches(supervisor, &watches);
        int ready = poll(watches.descriptors, watches.count, milliseconds_to_wait(supervisor));
        if (ready < 0 && errno != EINTR) {
            log_write(LOG_ERROR, "poll failed", "error", strerror(errno), NULL);
            stop_at_once(supervisor, SERVE_EXIT_FAILURE);
        }
        if (ready > 0) take_events(supervisor, &watches);
        take_time(supervisor);
        sweep(supervisor, false);
        replace_advance(supervisor, clock_monotonic_ms());
        upgrade_advance(supervisor, clock_monotonic_ms());
    }
    free(watches.descriptors);
    free(watches.what);
}

/* ---- the processes ---- */

void supervisor_add_process(struct supervisor *supervisor, struct process *process) {
    struct process **last = &supervisor->processes;
    while (*last) last = &(*last)->next;
    *last = process;
}

struct role *supervisor_add_role(struct supervisor *supervisor, enum role_index index) {
    struct role *role = role_new(index);
    supervisor_add_process(supervisor, &role->process);
    return role;
}

static void start_roles(struct supervisor *supervisor) {
    for (size_t i = 0; i < ROLE_COUNT; i++) supervisor->roles[i] = supervisor_add_role(supervisor, (enum role_index)i);
    for (size_t i = 0; i < ROLE_COUNT; i++) process_start(supervisor, &supervisor->roles[i]->process);
}

static int fail(int status, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    fprintf(stderr, "slipway serve: %s\n", text);
    return status;
}

static int run(struct supervisor *supervisor) {
    run_loop(supervisor);
    sweep(supervisor, true);
    close(supervisor->signals);
    if (supervisor->last_sentence)
        fprintf(stderr, "slipway serve: %s\n", supervisor->last_sentence);
    else
        log_write(LOG_INFO, "stopped", NULL);
    free(supervisor->last_sentence);
    return supervisor->exit_status;
}

static int watch_signals(struct supervisor *supervisor) {
    _cleanup_error_ struct error *error = NULL;
    supervisor->signals = open_signals();
    if (supervisor->signals >= 0) return SERVE_EXIT_OK;
    error_set_errno(&error, ERROR_DEPLOYMENT, errno, "make a signalfd");
    return fail(SERVE_EXIT_FAILURE, error);
}

static int serve(struct supervisor *supervisor) {
    _cleanup_error_ struct error *error = NULL;
    int result = start_prepare(supervisor, &error);
    if (result) return fail(result, error);
    if ((result = watch_signals(supervisor))) return result;
    collect_strangers(supervisor);
    log_write(LOG_INFO, "listening", "url", supervisor->settings->public_url, "address", supervisor->settings->listen,
              "state", supervisor->state, NULL);
    start_roles(supervisor);
    return run(supervisor);
}

/* Behind an exec: everything is there already. */
static int go_on(struct supervisor *supervisor, int state, int previous) {
    _cleanup_error_ struct error *error = NULL;
    if (execute_take_over(supervisor, state, previous, &error) < 0) return fail(SERVE_EXIT_FAILURE, error);
    log_open_as("supervisor", supervisor->settings->log_level, supervisor->settings->log_format);
    int result = watch_signals(supervisor);
    if (result) return result;
    log_write(LOG_INFO, "took over", "version", build_version(), "program", supervisor->program, NULL);
    replace_begin(supervisor, supervisor->upgrade.state == UPGRADE_RUNNING ? REPLACE_UPGRADE : REPLACE_RETURN);
    return run(supervisor);
}

/* ---- the whole ---- */

static void release(struct supervisor *supervisor) {
    start_release(supervisor);
    upgrade_clear(&supervisor->upgrade);
    settings_free(supervisor->asked);
    settings_free(supervisor->former);
    settings_free(supervisor->former_asked);
    free(supervisor->program);
}

int supervisor_main(struct settings *settings, int argc, char **argv) {
    struct supervisor supervisor = {.argc = argc,
                                    .argv = argv,
                                    .settings = settings,
                                    .asked = settings_new(),
                                    .lock = -1,
                                    .listener = -1,
                                    .control = -1,
                                    .alias_lock = -1,
                                    .signals = -1,
                                    .started_ms = clock_monotonic_ms()};
    _cleanup_error_ struct error *error = NULL;
    int state, previous, status;
    upgrade_init(&supervisor.upgrade);
    if (execute_came_here(&state, &previous)) {
        status = go_on(&supervisor, state, previous);
        release(&supervisor);
        return status;
    }
    int result = options_read(settings, argc, argv, &error);
    if (result == 0) result = options_read(supervisor.asked, argc, argv, &error);
    if (result == 0) {
        log_open_as("supervisor", settings->log_level, settings->log_format);
        status = serve(&supervisor);
    } else {
        status = result > 0 ? SERVE_EXIT_OK : fail(SERVE_EXIT_SETTINGS, error);
    }
    release(&supervisor);
    return status;
}
