/* Controller, indexer and gateway: their registration, what they ask of the supervisor, and their deaths. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

bool process_is_role(const struct process *process) {
    return process->kind >= role_kinds && process->kind < role_kinds + ROLE_COUNT;
}

struct role *role_of(struct process *process) {
    return CONTAINER_OF(process, struct role, process);
}

enum role_index role_index_of(const struct process *process) {
    return (enum role_index)(process->kind - role_kinds);
}

struct role *role_new(enum role_index index) {
    struct role *role = mem_new(struct role);
    process_init(&role->process, &role_kinds[index]);
    return role;
}

static void forget_last_words(struct role *role) {
    free(TAKE(role->last_words));
}

void role_free(struct role *role) {
    forget_last_words(role);
    free(role);
}

void role_tell(struct supervisor *supervisor, enum role_index to, const struct wire_message *message) {
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (process->kind == &role_kinds[to] && role_of(process)->registered) process_say(process, message);
}

void role_tell_all(struct supervisor *supervisor, const struct wire_message *message) {
    for (size_t i = 0; i < ROLE_COUNT; i++) role_tell(supervisor, (enum role_index)i, message);
}

/* ---- starting ---- */

/* What the settings name was good when they came into force, and may have broken since: only then is it to stand. */
static bool is_strict(const struct supervisor *supervisor, const struct role *role) {
    return !role->has_been_ready || (supervisor->replace.phase && supervisor->replace.cause == REPLACE_RELOAD);
}

static int start_role(struct supervisor *supervisor, struct process *process, struct error **ret_error) {
    struct role *role = role_of(process);
    bool is_gateway = role_index_of(process) == ROLE_GATEWAY;
    char **own = role_index_of(process) == ROLE_CONTROLLER
                     ? environment_for_controller(supervisor->settings, is_strict(supervisor, role))
                     : NULL;
    char *arguments[] = {"slipway", (char *)process->kind->role, NULL};
    struct child_spec spec = {
        .arguments = arguments,
        .environment = own ? own : supervisor->role_environment,
        .members = supervisor->members,
        .listener = is_gateway ? supervisor->listener : -1,
        .control = is_gateway ? supervisor->control : -1,
        .log = -1,
    };
    role->registered = role->ready = role->held = role->outdated = false;
    role->is_fresh = supervisor->replace.phase;
    role->generation = role->lowest = 0;
    forget_last_words(role);
    if (is_gateway) role->gateway_id = ++supervisor->gateways;
    int result = child_start(&process->child, &spec, ret_error);
    environment_free(own);
    if (result) return result;
    child_kill_at(&process->child, process->child.started_ms + REGISTER_DEADLINE_MS, "it did not register within 60 s");
    process_log(process, LOG_DEBUG, "started", NULL, NULL);
    return 0;
}

/* ---- messages ---- */

/* Which roles hear of the coming and going of another. */
static const bool hears_of_gateway[ROLE_COUNT] = {[ROLE_CONTROLLER] = true, [ROLE_INDEXER] = true};
static const bool hears_of_indexer[ROLE_COUNT] = {[ROLE_CONTROLLER] = true, [ROLE_GATEWAY] = true};

static void tell_of_gateway(struct supervisor *supervisor, const struct role *gateway, enum role_index to) {
    if (!gateway->registered || !hears_of_gateway[to]) return;
    role_say(supervisor, to, gateway_up, .gateway_id = gateway->gateway_id,
             .pid = (uint64_t)gateway->process.child.pid);
    if (gateway->generation && to == ROLE_CONTROLLER)
        role_say(supervisor, to, routes_used, .gateway_id = gateway->gateway_id, .generation = gateway->generation,
                 .lowest = gateway->lowest);
}

static void tell_of_gateways(struct supervisor *supervisor, enum role_index to) {
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (process->kind == &role_kinds[ROLE_GATEWAY]) tell_of_gateway(supervisor, role_of(process), to);
}

static void tell_of_indexer(struct supervisor *supervisor, enum role_index to) {
    const struct role *indexer = supervisor->roles[ROLE_INDEXER];
    if (!indexer->registered || !hears_of_indexer[to]) return;
    role_say(supervisor, to, indexer_up, .pid = (uint64_t)indexer->process.child.pid);
}

/* It has registered: the others hear of it, and it of them. */
static void introduce(struct supervisor *supervisor, const struct role *newcomer) {
    enum role_index index = role_index_of(&newcomer->process);
    tell_of_gateways(supervisor, index);
    tell_of_indexer(supervisor, index);
    for (size_t i = 0; i < ROLE_COUNT; i++) {
        if (index == ROLE_GATEWAY) tell_of_gateway(supervisor, newcomer, (enum role_index)i);
        if (index == ROLE_INDEXER) tell_of_indexer(supervisor, (enum role_index)i);
    }
}

/* It hears of everything from here on, so what there is now is told in one go. */
static void take_hello(struct supervisor *supervisor, struct process *process) {
    struct role *role = role_of(process);
    if (role->registered) return;
    role->registered = true;
    child_let_live(&process->child);
    process_expect_pongs(process);
    process->stable_since_ms = clock_monotonic_ms();
    introduce(supervisor, role);
    replace_take_hello(supervisor, role);
    replica_tell_snapshot(supervisor, process);
    process_tell(process, snapshot_end, .unused = 0);
}

/* Once, when all roles answer. */
static void say_ready(struct supervisor *supervisor) {
    if (supervisor->said_ready) return;
    for (size_t i = 0; i < ROLE_COUNT; i++)
        if (!supervisor->roles[i]->ready) return;
    supervisor->said_ready = true;
    char took[24];
    snprintf(took, sizeof took, "%" PRIu64, clock_monotonic_ms() - supervisor->started_ms);
    log_write(LOG_INFO, "ready", "url", supervisor->settings->public_url, "ms", took, NULL);
    notify_manager("READY=1\n");
}

/* What each may say; false when it is not one of these. */
static bool take_common_message(struct supervisor *supervisor, struct process *process,
                                const struct wire_message *message) {
    struct role *role = role_of(process);
    switch (message->type) {
    case WIRE_hello: take_hello(supervisor, process); return true;
    case WIRE_role_ready:
        role->ready = role->has_been_ready = true;
        process_log(process, LOG_DEBUG, "answers", NULL, NULL);
        say_ready(supervisor);
        replace_take_ready(supervisor, role);
        return true;
    case WIRE_control_held:
    case WIRE_switches_held: role->held = true; return true;
    case WIRE_role_failed:
        forget_last_words(role);
        role->last_words = text_copy_bytes(message->role_failed.message, strnlen(message->role_failed.message, 4096));
        return true;
    default: return false;
    }
}

static void tell_process(struct process *to, uint64_t request, const struct process *process) {
    const struct replica *replica =
        process->kind == &runner_kind ? CONTAINER_OF(process, struct replica, process) : NULL;
    process_tell(to, process, .request = request, .role = process->kind->role, .pid = (uint64_t)process->child.pid,
                 .since_ms = (uint64_t)process->child.since_ms, .restarts = process->restarts,
                 .replica_id = replica ? replica->id : "", .deployment_id = replica ? replica->deployment_id : "",
                 .revision = replica ? replica->revision : 0);
}

static void list_processes(struct supervisor *supervisor, struct process *to, uint64_t request) {
    int64_t since = clock_wall_ms() - (int64_t)(clock_monotonic_ms() - supervisor->started_ms);
    process_tell(to, process, .request = request, .role = "supervisor", .pid = (uint64_t)getpid(),
                 .since_ms = (uint64_t)since);
    for (struct process *process = supervisor->processes; process; process = process->next) {
        bool lasts = process_is_role(process) || process->kind == &runner_kind;
        if (lasts && process->child.pid && !process->forgotten) tell_process(to, request, process);
    }
    process_tell(to, processes_end, .request = request);
}

/* What only the controller asks; false when it is not one of these. */
static bool take_request(struct supervisor *supervisor, struct process *controller,
                         const struct wire_message *message) {
    switch (message->type) {
    case WIRE_start_replica: replica_take_start(supervisor, &message->start_replica); return true;
    case WIRE_stop_replica: replica_take_stop(supervisor, &message->stop_replica); return true;
    case WIRE_upgrade_ask: upgrade_take_ask(supervisor, &message->upgrade_ask); return true;
    case WIRE_list_processes: list_processes(supervisor, controller, message->list_processes.request); return true;
    default: return false;
    }
}

/* So that a controller that comes later can be told. */
static void remember_routes(struct role *gateway, const struct wire_message *message) {
    if (message->type != WIRE_routes_used) return;
    gateway->generation = message->routes_used.generation;
    gateway->lowest = message->routes_used.lowest;
}

static void on_role_message(struct supervisor *supervisor, struct process *process,
                            const struct wire_message *message) {
    enum role_index from = role_index_of(process);
    if (take_common_message(supervisor, process, message)) return;
    if (from == ROLE_CONTROLLER && take_request(supervisor, process, message)) return;
    if (from == ROLE_GATEWAY) remember_routes(role_of(process), message);
    if (!relay_pass(supervisor, role_of(process), message))
        process_log(process, LOG_WARNING, "sent a message that is not its to send", NULL, NULL);
}

/* ---- deaths ---- */

/* It cannot start and never could: trying for ever would hide the reason. */
static bool has_failed_for_good(const struct role *role, int status) {
    return status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == ROLE_EXIT_PERMANENT && !role->has_been_ready;
}

static void tell_of_end(struct supervisor *supervisor, const struct role *gone) {
    enum role_index index = role_index_of(&gone->process);
    for (size_t i = 0; i < ROLE_COUNT; i++) {
        enum role_index to = (enum role_index)i;
        if (index == ROLE_GATEWAY && hears_of_gateway[to])
            role_say(supervisor, to, gateway_down, .gateway_id = gone->gateway_id);
        if (index == ROLE_INDEXER && hears_of_indexer[to]) role_say(supervisor, to, indexer_down, .unused = 0);
    }
}

static void on_role_end(struct supervisor *supervisor, struct process *process, int status, const char *cause) {
    struct role *role = role_of(process);
    bool was_registered = role->registered;
    role->registered = role->ready = false;
    if (was_registered) tell_of_end(supervisor, role);
    if (supervisor->stop.phase) {
        process_log(process, LOG_DEBUG, "ended", "cause", cause);
        return;
    }
    bool for_good = has_failed_for_good(role, status);
    if (replace_take_end(supervisor, role, role->last_words ? role->last_words : cause, for_good)) return;
    process_log(process, LOG_ERROR, "ended", "cause", cause);
    process_count_death(process);
    if (for_good) {
        _cleanup_free_ char *sentence = text_format("the %s cannot start: %s", process->kind->role,
                                                    role->last_words ? role->last_words : "it says why above");
        stop_begin(supervisor, SERVE_EXIT_PERMANENT, sentence);
        return;
    }
    process_restart(process);
}

#define ROLE_KIND(name)                                                                                                \
    { .role = name, .start = start_role, .on_message = on_role_message, .on_end = on_role_end }
const struct process_kind role_kinds[ROLE_COUNT] = {
    [ROLE_CONTROLLER] = ROLE_KIND("controller"),
    [ROLE_INDEXER] = ROLE_KIND("indexer"),
    [ROLE_GATEWAY] = ROLE_KIND("gateway"),
};
