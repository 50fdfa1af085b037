/* What the supervisor's own files share. One thread: nothing here is locked. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/log.h"
#include "base/settings.h"
#include "supervisor/supervisor.h"
#include "wire/role.h"
#include "wire/wire.h"

#define NEVER UINT64_MAX /* a point in monotonic milliseconds that does not come */

#define PING_INTERVAL_MS 2000
#define PINGS_UNANSWERED 5 /* killed when the next ping is due and so many have no answer: 10 s */
#define PINGS_UNANSWERED_IDLE 60 /* the same at idle priority, which a busy machine leaves waiting: 2 min */
#define REGISTER_DEADLINE_MS 60000 /* from fork to hello */
#define STABLE_MS 60000 /* up for so long: the deaths before are forgotten */
#define CLOSED_GRACE_MS 5000 /* from the end of its channel to its own end */

struct supervisor;
struct process;

/* ---- one child (supervisor_child.c) ---- */

struct child_spec {
    char *const *arguments, *const *environment; /* ended by NULL */
    const char *members; /* path of the file that it locks shared */
    const char *folder; /* where it works, or NULL: where the supervisor does */
    bool idle_priority; /* SCHED_IDLE, which its threads inherit */
    int listener, control; /* become ROLE_DESCRIPTOR_LISTENER and ROLE_DESCRIPTOR_CONTROL; -1: none */
    int log; /* becomes 1 and 2; -1: the supervisor's stderr */
    int oom_score_adjustment;
};

struct child {
    pid_t pid; /* 0: none runs */
    int pidfd, failure; /* failure: where a child that could not get to its exec says why */
    struct wire_channel *channel; /* NULL once the child has closed its end */
    uint64_t started_ms; /* monotonic */
    int64_t since_ms; /* wall clock */
    uint64_t kill_at_ms; /* NEVER, or when it is killed, for the reason kill_reason */
    char *kill_reason;
    bool killed;
    uint64_t ping_at_ms; /* NEVER until it is known to have a loop */
    uint64_t pings;
    unsigned pings_unanswered;
    uint64_t oom_kills; /* how many the kernel had counted when it was started */
};

/* Forks and executes. `child` must be all zero or have been reaped. */
int child_start(struct child *child, const struct child_spec *spec, struct error **ret_error);
void child_signal(const struct child *child, int signal_number);
/* SIGKILL at once; `reason` becomes its cause of death ("it did not answer for 10 s"). */
void child_kill(struct child *child, const char *reason);
/* SIGKILL at `when`, unless it ends or child_let_live() is called before. */
void child_kill_at(struct child *child, uint64_t when_ms, const char *reason);
void child_let_live(struct child *child);
/* Collects a child that has ended: true, with its wait status and its cause of death in one sentence (caller frees),
 * and the child then has no pid, pidfd and channel. False when it still runs. Messages left in its channel are lost:
 * read them first. */
bool child_reap(struct child *child, int *ret_status, char **ret_cause);

/* ---- causes of death (supervisor_cause.c) ---- */

/* How many processes the kernel has ended for want of memory: in our cgroup where that is told, else on the machine. */
uint64_t cause_count_oom_kills(void);
/* One sentence about a wait status. */
char *cause_of_status(int status, bool memory_ran_out);
/* The last lines, at most 2 KiB, that a file has from byte `start` on. Caller frees. */
char *cause_log_tail(const char *path, off_t start);

/* Opens a runner's log for appending; one over 4 MiB becomes <path>.1 first. *ret_size: what it holds already. Falls
 * back to /dev/null, never to the supervisor's own log, in which a model's output could pass for ours. -1: not even
 * that. */
int log_file_open(const char *path, off_t *ret_size);

/* ---- what is kept up (supervisor_process.c) ---- */

/* What differs between roles and replicas; every function is called by supervisor_process.c, on the one thread. */
struct process_kind {
    const char *role; /* "controller", "indexer", "gateway", "runner" */
    /* Starts a fresh child; when it cannot be forked, that is a death like any other. */
    int (*start)(struct supervisor *, struct process *, struct error **ret_error);
    /* A message of its child; valid during the call. ping and pong do not come here. */
    void (*on_message)(struct supervisor *, struct process *, const struct wire_message *);
    /* Its child has been reaped, or could not be forked (status -1). Decides whether process_restart() follows. */
    void (*on_end)(struct supervisor *, struct process *, int status, const char *cause);
};

struct process {
    const struct process_kind *kind;
    struct process *next;
    struct child child;
    uint64_t start_at_ms; /* NEVER, or when the pause before the next start ends */
    uint64_t stable_since_ms; /* NEVER until it does its work */
    uint64_t worked_ms; /* how long it had done its work when it died last */
    uint64_t deaths; /* in a row */
    uint64_t restarts; /* in all */
    bool idle_priority; /* it runs when nothing else wants the processor, and answers pings as late */
    bool forgotten; /* freed at the end of this turn of the loop */
};

void process_init(struct process *process, const struct process_kind *kind);
/* Starts it now. */
void process_start(struct supervisor *supervisor, struct process *process);
/* Counts a death; the count begins anew after STABLE_MS of work. */
void process_count_death(struct process *process);
/* Starts it again after the pause that its deaths in a row ask for. */
void process_restart(struct process *process);
/* None, then 100 ms doubling to 5 s; but for one that had worked for a second or more, at most a quarter of that time:
 * what serves between its deaths is not kept away for longer than it needs to come back. */
uint64_t process_backoff_ms(uint64_t deaths, uint64_t worked_ms);
/* From now on its loop is expected to answer pings. */
void process_expect_pongs(struct process *process);
/* The next moment at which process_take_time() has something to do. */
uint64_t process_next_time(const struct process *process);
void process_take_time(struct supervisor *supervisor, struct process *process, uint64_t now_ms);
/* Its socket is readable, writable or closed; its pidfd is readable. */
void process_take_socket(struct supervisor *supervisor, struct process *process);
void process_take_end(struct supervisor *supervisor, struct process *process);
/* Sends; a child that has stopped reading is killed. Does nothing when it has no channel. */
void process_say(struct process *process, const struct wire_message *message);
#define process_tell(process, name_, ...)                                                                              \
    process_say((process), &(struct wire_message){.type = WIRE_##name_, .name_ = {__VA_ARGS__}})
/* A log line about it: its role, pid, and one pair more. */
void process_log(const struct process *process, enum log_level level, const char *message, const char *key,
                 const char *value);

/* ---- controller, indexer and gateway (supervisor_role.c) ---- */

enum role_index {
    ROLE_CONTROLLER,
    ROLE_INDEXER,
    ROLE_GATEWAY,
    ROLE_COUNT
}; /* in the order in which they are started */

struct role {
    struct process process;
    bool registered; /* its hello came: it hears of everything */
    bool ready; /* it answers requests */
    bool has_been_ready; /* in any life */
    char *last_words; /* role_failed */
    uint64_t gateway_id; /* the gateway's; a new one each life */
    uint64_t generation, lowest; /* what the gateway last said in routes_used; 0: nothing yet */
};

/* By enum role_index. */
extern const struct process_kind role_kinds[ROLE_COUNT];
void role_clear(struct role *role);
/* To one that has registered; to another it is dropped (wire/messages.def: what is said again when it comes). */
void role_tell(struct supervisor *supervisor, enum role_index to, const struct wire_message *message);
/* To all that have registered. */
void role_tell_all(struct supervisor *supervisor, const struct wire_message *message);

/* ---- what roles say to each other (supervisor_relay.c) ---- */

/* Passes it on when `from` may send it to another role; false when it may not, or when it is the supervisor's to
 * take. */
bool relay_pass(struct supervisor *supervisor, enum role_index from, const struct wire_message *message);

/* ---- replicas (supervisor_replica.c) ---- */

struct replica {
    struct process process;
    char *id, *deployment_id, *deployment_name, *package_path, *package_digest, *recipe_json;
    uint64_t revision, threads, memory_limit_bytes, restarts_maximum, ready_deadline_ms;
    uint64_t incarnation; /* its idle_priority stands in `process` */
    pid_t last_pid;
    char *address; /* the socket of this incarnation */
    char *log_path;
    off_t log_start; /* where this incarnation's lines begin */
    char *report_json; /* not NULL: it is up */
    char *error_json; /* what it said in runner_failed */
    bool permanent; /* it said that trying again cannot help */
    bool stopping, final; /* final: it stays down; kept for controllers that come later */
    char *cause, *log_tail; /* of its last death */
};

extern const struct process_kind runner_kind;
void replica_take_start(struct supervisor *supervisor, const struct wire_start_replica *request);
void replica_take_stop(struct supervisor *supervisor, const struct wire_stop_replica *request);
/* Tells a role that has just registered what there is of each replica. */
void replica_tell_snapshot(struct supervisor *supervisor, struct process *to);
void replica_free(struct replica *replica);
/* SIGTERM to all, none is started again. */
void replica_stop_all(struct supervisor *supervisor);

/* ---- the end (supervisor_stop.c) ---- */

struct stop {
    int phase; /* 0: not stopping */
    uint64_t begun_ms, next_ms; /* when the next phase begins at the latest */
};

/* Begins to end: gateway, controller and indexer, runners, within the drain deadline. `sentence` (or NULL) is the last
 * that is said. */
void stop_begin(struct supervisor *supervisor, int exit_status, const char *sentence);
/* Ends everything now. */
void stop_at_once(struct supervisor *supervisor, int exit_status);
/* Once a turn: goes to the next phase when it is time. True when nothing is left. */
bool stop_advance(struct supervisor *supervisor, uint64_t now_ms);

/* ---- the whole ---- */

struct supervisor {
    struct settings *settings; /* as effective: absolute paths, the port that is listened on */
    char *state; /* as the user sees it; settings->state may be the short alias */
    char *alias_folder; /* or NULL */
    char *members;
    char **role_environment, **runner_environment;
    int lock, listener, control, signals, alias_lock;
    struct process *processes; /* every one, roles first */
    struct role roles[ROLE_COUNT];
    uint64_t incarnations, gateways; /* numbers given so far; never given twice */
    uint64_t started_ms;
    bool said_ready;
    struct stop stop;
    int exit_status;
    char *last_sentence;
};

/* supervisor_options.c: flags, variables and file into the settings. 0: go on; 1: --help was answered. */
int options_read(struct settings *settings, int argc, char **argv, struct error **ret_error);

/* supervisor_start.c: everything that is checked and taken before the first fork. Returns an enum serve_exit; the error
 * is set unless it is SERVE_EXIT_OK. */
/* supervisor_confinement.c: SERVE_EXIT_CONFINEMENT when the kernel lacks a piece and the settings ask for all;
 * otherwise a warning names it. */
int confinement_check(const struct settings *settings, struct error **ret_error);
int start_prepare(struct supervisor *supervisor, struct error **ret_error);
void start_release(struct supervisor *supervisor);

/* supervisor_lock.c: the locks of RULES P1. Return an enum serve_exit. */
int lock_state_folder(struct supervisor *supervisor, struct error **ret_error);
int lock_wait_for_members(struct supervisor *supervisor, struct error **ret_error);

/* supervisor_holders.c: "pid 12 (nginx), pid 13 (slipway)" of those that have the file, or the listening port, open; ""
 * when none can be seen. Caller frees. */
char *holders_of_file(dev_t device, ino_t inode);
char *holders_of_port(uint16_t port);

/* supervisor_listen.c: opens settings->listen; settings->listen and public_url then say what it is. Returns an enum
 * serve_exit. */
int listen_open(struct supervisor *supervisor, struct error **ret_error);

/* supervisor_control.c: the control socket in the state folder. Returns an enum serve_exit. control_close() removes its
 * file, too. */
int control_open(struct supervisor *supervisor, struct error **ret_error);
void control_close(struct supervisor *supervisor);

/* supervisor_alias.c: a short name for the state folder when sockets in it would not fit an address. */
int alias_make(struct supervisor *supervisor, struct error **ret_error);
void alias_remove(struct supervisor *supervisor);

/* supervisor_environment.c. Caller frees with environment_free(). */
char **environment_for_roles(const struct settings *settings);
char **environment_for_runners(void);
void environment_free(char **environment);

/* supervisor_notify.c: the service manager's protocol (sd_notify(3)); does nothing without NOTIFY_SOCKET. */
void notify_manager(const char *state);
