/* Replicas: started on the controller's request, kept up under the policy that came with it, also while no controller
 * lives. What is said of a replica: replica_started, replica_up, replica_down, in that order for each incarnation. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define REPLICAS_MAXIMUM 4096
#define FINAL_MAXIMUM 256 /* how many that stay down are remembered for a controller that comes later */
#define DURATION_MAXIMUM_MS ((uint64_t)7 * 24 * 3600 * 1000)
#define REPORT_MAXIMUM (128u * 1024) /* so that replica_up and replica_down fit a message with the rest */
#define ERROR_MAXIMUM (64u * 1024)

static struct replica *replica_of(struct process *process) {
    return CONTAINER_OF(process, struct replica, process);
}

static struct replica *find_replica(struct supervisor *supervisor, const char *id) {
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (process->kind == &runner_kind && !process->forgotten && text_equal(replica_of(process)->id, id))
            return replica_of(process);
    return NULL;
}

void replica_free(struct replica *replica) {
    char *const owned[] = {replica->id,           replica->deployment_id,  replica->deployment_name,
                           replica->package_path, replica->package_digest, replica->recipe_json,
                           replica->address,      replica->log_path,       replica->report_json,
                           replica->error_json,   replica->cause,          replica->log_tail};
    for (size_t i = 0; i < ARRAY_SIZE(owned); i++) free(owned[i]);
    if (replica->log_is_watched) close(replica->log_watched);
    free(replica);
}

static void replace(char **field, char *value) {
    free(*field);
    *field = value;
}

static void log_replica(const struct replica *replica, enum log_level level, const char *message, const char *cause) {
    char pid[16], incarnation[24];
    snprintf(pid, sizeof pid, "%d", (int)replica->process.child.pid);
    snprintf(incarnation, sizeof incarnation, "%" PRIu64, replica->incarnation);
    log_write(level, message, "replica", replica->id, "deployment", replica->deployment_name, "incarnation",
              incarnation, "pid", replica->process.child.pid ? pid : NULL, "cause", cause, NULL);
}

/* ---- what is said ---- */

static struct wire_message started_message(const struct replica *replica) {
    return (struct wire_message){.type = WIRE_replica_started,
                                 .replica_started = {.replica_id = replica->id,
                                                     .incarnation = replica->incarnation,
                                                     .pid = (uint64_t)replica->process.child.pid}};
}

static struct wire_message up_message(const struct replica *replica) {
    return (struct wire_message){.type = WIRE_replica_up,
                                 .replica_up = {.replica_id = replica->id,
                                                .incarnation = replica->incarnation,
                                                .address = replica->address,
                                                .pid = (uint64_t)replica->process.child.pid,
                                                .deployment_id = replica->deployment_id,
                                                .revision = replica->revision,
                                                .report_json = replica->report_json,
                                                .restarts = replica->process.restarts}};
}

static struct wire_message down_message(const struct replica *replica, uint64_t pid) {
    return (struct wire_message){.type = WIRE_replica_down,
                                 .replica_down = {.replica_id = replica->id,
                                                  .incarnation = replica->incarnation,
                                                  .final = replica->final,
                                                  .stopped = replica->stopping,
                                                  .cause = replica->cause,
                                                  .error_json = replica->error_json,
                                                  .log_tail = replica->log_tail,
                                                  .restarts = replica->process.restarts,
                                                  .pid = pid}};
}

/* Replicas in every state are told of: a controller that took silence for absence would start them a second time. */
void replica_tell_snapshot(struct supervisor *supervisor, struct process *to) {
    bool is_controller = to->kind == &role_kinds[ROLE_CONTROLLER];
    for (struct process *process = supervisor->processes; process; process = process->next) {
        if (process->kind != &runner_kind || process->forgotten) continue;
        const struct replica *replica = replica_of(process);
        struct wire_message message = replica->report_json ? up_message(replica)
                                      : process->child.pid ? started_message(replica)
                                                           : down_message(replica, 0);
        if (is_controller || replica->report_json) process_say(to, &message);
    }
}

/* ---- starting ---- */

struct arguments {
    char *items[40];
    size_t count;
};

static void add(struct arguments *arguments, const char *flag, char *value) {
    arguments->items[arguments->count++] = text_copy(flag);
    arguments->items[arguments->count++] = value;
}

static void add_number(struct arguments *arguments, const char *flag, uint64_t value) {
    add(arguments, flag, text_format("%" PRIu64, value));
}

static void free_arguments(struct arguments *arguments) {
    for (size_t i = 0; i < arguments->count; i++) free(arguments->items[i]);
}

static void make_arguments(const struct supervisor *supervisor, const struct replica *replica,
                           struct arguments *arguments) {
    const struct settings *settings = supervisor->settings;
    arguments->items[arguments->count++] = text_copy("slipway");
    arguments->items[arguments->count++] = text_copy("runner");
    add_number(arguments, "--supervisor-fd", ROLE_DESCRIPTOR_SUPERVISOR);
    add(arguments, "--model", text_copy(replica->package_path));
    add(arguments, "--socket", text_copy(replica->address));
    if (*replica->deployment_name) add(arguments, "--name", text_copy(replica->deployment_name));
    if (replica->revision) add_number(arguments, "--revision", replica->revision);
    if (*replica->package_digest) add(arguments, "--package-digest", text_copy(replica->package_digest));
    if (*replica->recipe_json) add(arguments, "--recipe", text_copy(replica->recipe_json));
    add_number(arguments, "--threads", replica->threads ? replica->threads : 1);
    add_number(arguments, "--memory-limit", replica->memory_limit_bytes);
    add_number(arguments, "--batch-texts", settings->batch_texts);
    add_number(arguments, "--batch-tokens", settings->batch_tokens);
    add_number(arguments, "--body-maximum", settings->body_maximum);
    add(arguments, "--sandbox-required", text_copy(settings->sandbox_required ? "on" : "off"));
    add(arguments, "--onnxruntime", text_copy(settings->onnxruntime));
    add(arguments, "--log-level", text_copy(settings->log_level));
    add(arguments, "--log-format", text_copy(settings->log_format));
}

static int start_replica(struct supervisor *supervisor, struct process *process, struct error **ret_error) {
    struct replica *replica = replica_of(process);
    replica->incarnation = ++supervisor->incarnations;
    replace(&replica->address,
            text_format("%s/run/%.8s.%" PRIu64, supervisor->settings->state, replica->id, replica->incarnation));
    replace(&replica->error_json, NULL);
    log_rotate_end(replica);
    _cleanup_close_ int log = log_file_open(replica->log_path, supervisor->settings->log_maximum, &replica->log_start);
    __attribute__((cleanup(free_arguments))) struct arguments arguments = {0};
    make_arguments(supervisor, replica, &arguments);
    struct child_spec spec = {
        .arguments = arguments.items,
        .environment = supervisor->runner_environment,
        .members = supervisor->members,
        .folder = "/",
        .idle_priority = process->idle_priority,
        .listener = -1,
        .control = -1,
        .log = log,
        .oom_score_adjustment = 500,
    };
    int result = child_start(&process->child, &spec, ret_error);
    replica->last_pid = result ? 0 : process->child.pid;
    if (result) return result;
    _cleanup_free_ char *reason =
        text_format("it was not ready within %" PRIu64 " s", replica->ready_deadline_ms / 1000);
    child_kill_at(&process->child, process->child.started_ms + replica->ready_deadline_ms, reason);
    log_replica(replica, LOG_INFO, "replica started", NULL);
    struct wire_message message = started_message(replica);
    role_tell(supervisor, ROLE_CONTROLLER, &message);
    return 0;
}

/* ---- what a runner says ---- */

static void take_ready(struct supervisor *supervisor, struct replica *replica, const char *report_json) {
    if (replica->report_json || replica->stopping) return;
    if (strlen(report_json) > REPORT_MAXIMUM) {
        child_kill(&replica->process.child, "its report is larger than 128 KiB");
        return;
    }
    replace(&replica->report_json, text_copy(report_json));
    child_let_live(&replica->process.child);
    process_expect_pongs(&replica->process);
    replica->process.stable_since_ms = clock_monotonic_ms();
    log_replica(replica, LOG_INFO, "replica is up", NULL);
    struct wire_message message = up_message(replica);
    role_tell_all(supervisor, &message);
}

/* A runner works on what others bring: from it come these three messages and pongs; their text is passed on unread. */
static void on_runner_message(struct supervisor *supervisor, struct process *process,
                              const struct wire_message *message) {
    struct replica *replica = replica_of(process);
    if (message->type == WIRE_runner_ready) {
        take_ready(supervisor, replica, message->runner_ready.report_json);
    } else if (message->type == WIRE_runner_failed) {
        const char *error_json = message->runner_failed.error_json;
        replace(&replica->error_json, text_copy(strlen(error_json) <= ERROR_MAXIMUM ? error_json : ""));
        replica->permanent = message->runner_failed.permanent;
    } else if (message->type == WIRE_log_file_taken) {
        log_rotate_take(replica);
    } else {
        child_kill(&process->child, "it sent a message that is not a runner's");
    }
}

/* ---- deaths ---- */

static void forget(struct replica *replica) {
    replica->process.forgotten = true;
    replica->process.start_at_ms = NEVER;
}

/* Those that stay down are kept for the next controller, but not without end. */
static void forget_oldest_final(struct supervisor *supervisor) {
    struct replica *oldest = NULL;
    size_t count = 0;
    for (struct process *process = supervisor->processes; process; process = process->next) {
        if (process->kind != &runner_kind || process->forgotten || !replica_of(process)->final) continue;
        count++;
        if (!oldest || replica_of(process)->incarnation < oldest->incarnation) oldest = replica_of(process);
    }
    if (count > FINAL_MAXIMUM) forget(oldest);
}

static void on_runner_end(struct supervisor *supervisor, struct process *process, int status, const char *cause) {
    struct replica *replica = replica_of(process);
    (void)status;
    unlink(replica->address);
    log_rotate_end(replica);
    process_count_death(process);
    replica->final = replica->stopping || replica->permanent || process->deaths > replica->restarts_maximum;
    replace(&replica->report_json, NULL);
    replace(&replica->cause,
            replica->stopping && !text_starts_with(cause, "killed: ") ? text_copy("stopped") : text_copy(cause));
    replace(&replica->log_tail, replica->stopping ? NULL : cause_log_tail(replica->log_path, replica->log_start));
    log_replica(replica, replica->stopping ? LOG_INFO : LOG_WARNING,
                replica->stopping ? "replica stopped"
                : replica->final  ? "replica is given up"
                                  : "replica died",
                cause);
    struct wire_message message = down_message(replica, (uint64_t)replica->last_pid);
    role_tell_all(supervisor, &message);
    if (replica->stopping)
        forget(replica);
    else if (replica->final)
        forget_oldest_final(supervisor);
    else if (!supervisor->stop.phase)
        process_restart(process);
}

const struct process_kind runner_kind = {
    .role = "runner", .start = start_replica, .on_message = on_runner_message, .on_end = on_runner_end};

/* ---- what the controller asks for ---- */

static void refuse(struct supervisor *supervisor, const char *id, const char *cause) {
    log_write(LOG_WARNING, "replica refused", "replica", id, "cause", cause, NULL);
    role_tell(supervisor, ROLE_CONTROLLER,
              &(struct wire_message){.type = WIRE_replica_down,
                                     .replica_down = {.replica_id = id, .final = 1, .cause = cause}});
}

static uint64_t bounded(uint64_t duration_ms) {
    return duration_ms < DURATION_MAXIMUM_MS ? duration_ms : DURATION_MAXIMUM_MS;
}

static struct replica *replica_new(const struct supervisor *supervisor, const struct wire_start_replica *request) {
    struct replica *replica = mem_new(struct replica);
    process_init(&replica->process, &runner_kind);
    replica->id = text_copy(request->replica_id);
    replica->deployment_id = text_copy(request->deployment_id);
    replica->deployment_name = text_copy(request->deployment_name);
    replica->package_path = text_copy(request->package_path);
    replica->package_digest = text_copy(request->package_digest);
    replica->recipe_json = text_copy(request->recipe_json);
    replica->revision = request->revision;
    replica->threads = request->threads;
    replica->memory_limit_bytes = request->memory_limit_bytes;
    replica->restarts_maximum = request->restarts_maximum;
    replica->process.idle_priority = request->idle_priority;
    replica->ready_deadline_ms = bounded(request->ready_deadline_ms ? request->ready_deadline_ms
                                                                    : supervisor->settings->replica_ready_deadline_ms);
    replica->log_path = text_format("%s/logs/%s.log", supervisor->state, request->replica_id);
    return replica;
}

/* A repeat is told what there is: the answer to the first may have been lost with a controller. */
static void repeat(struct supervisor *supervisor, const struct replica *replica) {
    struct wire_message message = replica->report_json         ? up_message(replica)
                                  : replica->process.child.pid ? started_message(replica)
                                                               : down_message(replica, 0);
    role_tell(supervisor, ROLE_CONTROLLER, &message);
}

static size_t count_processes(const struct supervisor *supervisor) {
    size_t count = 0;
    for (const struct process *process = supervisor->processes; process; process = process->next) count++;
    return count;
}

void replica_take_start(struct supervisor *supervisor, const struct wire_start_replica *request) {
    if (supervisor->stop.phase) return;
    if (!text_is_name(request->replica_id)) {
        refuse(supervisor, request->replica_id, "the replica's id cannot be a file name");
        return;
    }
    struct replica *replica = find_replica(supervisor, request->replica_id);
    if (replica) {
        if (!replica->stopping) repeat(supervisor, replica); /* otherwise its end is told soon */
        return;
    }
    if (count_processes(supervisor) >= REPLICAS_MAXIMUM) {
        refuse(supervisor, request->replica_id, "there are 4096 processes already");
        return;
    }
    replica = replica_new(supervisor, request);
    struct process **last = &supervisor->processes;
    while (*last) last = &(*last)->next;
    *last = &replica->process;
    process_start(supervisor, &replica->process);
}

/* SIGTERM, and SIGKILL when the time is over. One that does not run is down at once. */
static void stop_replica(struct supervisor *supervisor, struct replica *replica, uint64_t drain_ms) {
    if (replica->stopping) return;
    replica->stopping = true;
    if (!replica->process.child.pid) {
        replica->final = true;
        replace(&replica->cause, text_copy("stopped"));
        struct wire_message message = down_message(replica, 0);
        role_tell_all(supervisor, &message);
        forget(replica);
        return;
    }
    child_signal(&replica->process.child, SIGTERM);
    replica->process.child.ping_at_ms = NEVER;
    child_kill_at(&replica->process.child, clock_monotonic_ms() + bounded(drain_ms),
                  "it did not end within its drain time");
}

void replica_take_stop(struct supervisor *supervisor, const struct wire_stop_replica *request) {
    struct replica *replica = find_replica(supervisor, request->replica_id);
    if (replica) {
        stop_replica(supervisor, replica, request->drain_ms);
        return;
    }
    role_tell(supervisor, ROLE_CONTROLLER,
              &(struct wire_message){
                  .type = WIRE_replica_down,
                  .replica_down = {.replica_id = request->replica_id, .final = 1, .stopped = 1, .cause = "not known"}});
}

void replica_stop_all(struct supervisor *supervisor) {
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (process->kind == &runner_kind && !process->forgotten)
            stop_replica(supervisor, replica_of(process), supervisor->settings->drain_ms);
}
