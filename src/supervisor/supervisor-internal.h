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
    int executable; /* what it executes; 0: the program that we are */
    char *const *arguments, *const *environment; /* ended by NULL */
    const char *members; /* path of the file that it locks shared */
    const char *folder; /* where it works, or NULL: where the supervisor does */
    bool idle_priority; /* SCHED_IDLE, which its threads inherit */
    /* They become ROLE_DESCRIPTOR_LISTENER (a check's: ROLE_DESCRIPTOR_STATE) and ROLE_DESCRIPTOR_CONTROL; -1: none. */
    int listener, control;
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

/* Opens a runner's log for appending; one over `maximum` bytes becomes <path>.1 first. *ret_size: what it holds
 * already. Falls back to /dev/null, never to the supervisor's own log, in which a model's output could pass for ours.
 * -1: not even that. */
int log_file_open(const char *path, uint64_t maximum, off_t *ret_size);

/* ---- logs that grow (supervisor_log_rotate.c) ---- */

struct replica;
/* Sets those aside that are over log_maximum; looks at most every 2 s. */
void log_rotate_look(struct supervisor *supervisor, uint64_t now_ms);
/* Its runner has taken the new one (log_file_taken). */
void log_rotate_take(struct replica *replica);
/* Its runner has ended, or is about to be started: what it left half done is finished. */
void log_rotate_end(struct replica *replica);

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
/* The same with a descriptor, which stays the caller's (wire_send_with()). */
void process_say_with(struct process *process, const struct wire_message *message, int descriptor);
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

/* One process of a role. There is one each, but for the gateway: while it is being replaced its successor starts beside
 * it (RULES U2). */
struct role {
    struct process process;
    bool registered; /* its hello came: it hears of everything */
    bool ready; /* it answers requests */
    bool has_been_ready; /* in any life */
    bool outdated; /* an upgrade or a reload is about to replace it */
    bool is_fresh; /* started by the replacement that runs now */
    bool leaving; /* it has been replaced, or failed to replace another: not started again */
    bool held; /* gateway: control_held came; indexer: switches_held */
    char *last_words; /* role_failed */
    uint64_t gateway_id; /* the gateway's; a new one each life */
    uint64_t generation, lowest; /* what the gateway last said in routes_used; 0: nothing yet */
};

/* By enum role_index. */
extern const struct process_kind role_kinds[ROLE_COUNT];
struct role *role_new(enum role_index index);
void role_free(struct role *role);
bool process_is_role(const struct process *process);
struct role *role_of(struct process *process);
enum role_index role_index_of(const struct process *process);
/* To all of that role that have registered; with none it is dropped (wire/messages.def: what is said again when one
 * comes). */
void role_tell(struct supervisor *supervisor, enum role_index to, const struct wire_message *message);
/* To all that have registered. */
void role_tell_all(struct supervisor *supervisor, const struct wire_message *message);
#define role_say(supervisor, to, name_, ...)                                                                           \
    role_tell((supervisor), (to), &(struct wire_message){.type = WIRE_##name_, .name_ = {__VA_ARGS__}})

/* ---- what roles say to each other (supervisor_relay.c) ---- */

/* Passes it on when `from` may send it to another role; false when it may not, or when it is the supervisor's to
 * take. */
bool relay_pass(struct supervisor *supervisor, const struct role *from, const struct wire_message *message);

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
    int log_watched; /* the log, open to look at its size; only while log_is_watched */
    bool log_is_watched;
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

/* ---- replacing the roles (supervisor_replace.c) ---- */

enum replace_cause {
    REPLACE_UPGRADE, /* we are the new program */
    REPLACE_RELOAD, /* settings have changed */
    REPLACE_RETURN, /* back to what was before, because one of these failed */
};

struct replace {
    int phase; /* 0: none is under way */
    enum replace_cause cause;
    uint64_t next_ms; /* when its phase has taken too long */
    char *failure; /* it is to be given up, for this */
    bool is_asked_again; /* a SIGHUP came meanwhile */
};

/* Replaces the roles that are marked outdated. */
void replace_begin(struct supervisor *supervisor, enum replace_cause cause);
/* Once a turn: goes to the next phase when it is time. */
void replace_advance(struct supervisor *supervisor, uint64_t now_ms);
/* From supervisor_role.c: a role's process has said hello, answers, or has ended. take_end() is true when all that
 * follows from it is done: the role is not to be started again in its place. */
void replace_take_hello(struct supervisor *supervisor, struct role *role);
void replace_take_ready(struct supervisor *supervisor, struct role *role);
bool replace_take_end(struct supervisor *supervisor, struct role *role, const char *cause, bool for_good);
void replace_cancel(struct supervisor *supervisor);

/* ---- another program in our place (supervisor_upgrade.c) ---- */

#define UPGRADE_STATES                                                                                                 \
    STATE(NONE, "none")                                                                                                \
    STATE(CHECKING, "checking")                                                                                        \
    STATE(RUNNING, "running")                                                                                          \
    STATE(DONE, "done")                                                                                                \
    STATE(FAILED, "failed")
enum upgrade_state {
#define STATE(constant, name) UPGRADE_##constant,
    UPGRADE_STATES
#undef STATE
};

struct upgrade {
    enum upgrade_state state;
    char *from, *to; /* versions; NULL until known */
    char *program; /* the file */
    char *reason; /* FAILED */
    int64_t began_at, ended_at; /* wall clock; 0: not yet */
    int executable; /* CHECKING: the new program; -1 */
    int previous; /* RUNNING: the one before, until the new roles stand; -1: there is no way back */
    char *previous_program; /* its file */
    int output; /* CHECKING: where the check writes; -1 */
    struct process *check; /* or NULL */
    uint64_t request; /* of the controller, to be answered; 0: none */
    uint64_t execute_by_ms; /* when channels must have taken what is queued; NEVER: the check is not over */
};

void upgrade_take_ask(struct supervisor *supervisor, const struct wire_upgrade_ask *ask);
/* Once a turn: executes when everything is ready for it. */
void upgrade_advance(struct supervisor *supervisor, uint64_t now_ms);
/* The next moment at which upgrade_advance() has something to do. */
uint64_t upgrade_next_time(const struct supervisor *supervisor);
/* The roles stand. */
void upgrade_finish(struct supervisor *supervisor);
/* They do not: back to the program before; returns only when there is no way. */
void upgrade_go_back(struct supervisor *supervisor, const char *reason);
/* Notes that it failed, and that we are the program before. */
void upgrade_take_back(struct supervisor *supervisor, const char *reason);
/* serve ends: what runs of it does, too. */
void upgrade_cancel(struct supervisor *supervisor);
void upgrade_init(struct upgrade *upgrade);
void upgrade_clear(struct upgrade *upgrade);
/* As the API shows it; the caller frees. */
char *upgrade_write(const struct supervisor *supervisor);

/* ---- our state, for the program that follows (supervisor_state.c) ---- */

#define STATE_FORMAT 1 /* grows when a reader of before could not do with it */
#define STATE_MAXIMUM_SIZE ((size_t)1 << 30)

/* JSON; the caller frees. Only looks. */
char *state_write(const struct supervisor *supervisor, size_t *ret_size);
/* Fills a supervisor that has its `settings` and `asked` (with defaults) and nothing else. Channels are made of the
 * descriptors that it names only with `adopt`; otherwise no descriptor is touched. On an error it is partly filled:
 * state_forget() it. */
int state_read(struct supervisor *supervisor, const char *json, size_t size, bool adopt, struct error **ret_error);
/* Frees what state_read() made, and closes nothing: for one that did not adopt. */
void state_forget(struct supervisor *supervisor);
/* Each descriptor that goes along gets or loses FD_CLOEXEC. */
void state_set_close_on_exec(const struct supervisor *supervisor, bool close_on_exec);

/* ---- the exec, and what comes behind it (supervisor_execute.c) ---- */

/* A memfd with the bytes, close-on-exec, or -1 with the error. */
int execute_keep(const char *bytes, size_t size, struct error **ret_error);
/* The text behind a descriptor; caller frees. */
int execute_read(int descriptor, char **ret_text, size_t *ret_size, struct error **ret_error);
/* Becomes the program behind the descriptor, with our state. Returns only when that fails, and nothing has changed then
 * but upgrade.previous. */
int execute_program(struct supervisor *supervisor, int program, const char *path, struct error **ret_error);
/* Whether we were executed so: the descriptors of the state and of the way back. Takes the variable away. */
bool execute_came_here(int *ret_state, int *ret_previous);
/* Takes the place that was handed over. When that cannot be, goes back, and returns only if that fails. */
int execute_take_over(struct supervisor *supervisor, int state, int previous, struct error **ret_error);

/* ---- SIGHUP (supervisor_reload.c) ---- */

void reload_settings(struct supervisor *supervisor);
/* Its roles stand: the settings before are forgotten. Or they do not: these are in force again. */
void reload_keep(struct supervisor *supervisor);
void reload_take_back(struct supervisor *supervisor);

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
    int argc; /* the command line, argv[0] being "serve" */
    char **argv;
    struct settings *settings; /* as effective: absolute paths, the port that is listened on */
    struct settings *asked; /* as flags, variables and file said when they were last read */
    struct settings *former; /* the effective ones before a reload, until its roles stand; or NULL */
    struct settings *former_asked;
    char *program; /* the file that we were started from */
    char *state; /* as the user sees it; settings->state may be the short alias */
    char *alias_folder; /* or NULL */
    char *members;
    char **role_environment, **runner_environment;
    int lock, listener, control, signals, alias_lock;
    struct process *processes; /* every one; owned */
    struct role *roles[ROLE_COUNT]; /* the current ones */
    struct role *successor; /* the gateway that is to follow; or NULL */
    uint64_t look_at_logs_ms; /* not before */
    uint64_t incarnations, gateways; /* numbers given so far; never given twice */
    uint64_t started_ms;
    bool said_ready;
    struct replace replace;
    struct upgrade upgrade;
    struct stop stop;
    int exit_status;
    char *last_sentence;
};

/* Puts it at the list's end. */
void supervisor_add_process(struct supervisor *supervisor, struct process *process);
/* A new role of that kind, in the list. */
struct role *supervisor_add_role(struct supervisor *supervisor, enum role_index index);

/* supervisor_options.c: flags, variables and file into the settings. 0: go on; 1: --help was answered. */
int options_read(struct settings *settings, int argc, char **argv, struct error **ret_error);

/* supervisor_start.c: everything that is checked and taken before the first fork. Returns an enum serve_exit; the error
 * is set unless it is SERVE_EXIT_OK. */
/* supervisor_confinement.c: SERVE_EXIT_CONFINEMENT when the kernel lacks a piece and the settings ask for all;
 * otherwise a warning names it. */
int confinement_check(const struct settings *settings, struct error **ret_error);
int start_prepare(struct supervisor *supervisor, struct error **ret_error);
/* Where models may lie when the settings do not say. */
void start_complete_roots(struct settings *settings, const char *state);
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

/* supervisor_environment.c. Caller frees with environment_free(). For controllers beside that of the other roles: the
 * variables that name registries and their credentials, and, strict, ROLE_VARIABLE_STRICT. */
char **environment_for_roles(const struct settings *settings);
char **environment_for_controller(const struct settings *settings, bool is_strict);
char **environment_for_runners(void);
void environment_free(char **environment);

/* supervisor_notify.c: the service manager's protocol (sd_notify(3)); does nothing without NOTIFY_SOCKET. */
void notify_manager(const char *state);
