/* Controller and gateway: their registration, what is passed between them, and their deaths. */
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

static struct role *role_of(struct process *process) {
    return CONTAINER_OF(process, struct role, process);
}

void role_clear(struct role *role) {
    free(role->last_words);
    role->last_words = NULL;
}

void role_tell_controller(struct supervisor *supervisor, const struct wire_message *message) {
    if (supervisor->controller.registered) process_say(&supervisor->controller.process, message);
}

void role_tell_all(struct supervisor *supervisor, const struct wire_message *message) {
    role_tell_controller(supervisor, message);
    if (supervisor->gateway.registered) process_say(&supervisor->gateway.process, message);
}

/* ---- starting ---- */

static int start_role(struct supervisor *supervisor, struct process *process, struct error **ret_error) {
    struct role *role = role_of(process);
    bool is_gateway = process->kind == &gateway_kind;
    char *arguments[] = {"slipway", (char *)process->kind->role, NULL};
    struct child_spec spec = {
        .arguments = arguments,
        .environment = supervisor->role_environment,
        .members = supervisor->members,
        .listener = is_gateway ? supervisor->listener : -1,
        .log = -1,
    };
    role->registered = role->ready = false;
    role->generation = role->lowest = 0;
    role_clear(role);
    if (is_gateway) role->gateway_id = ++supervisor->gateways;
    int result = child_start(&process->child, &spec, ret_error);
    if (result) return result;
    child_kill_at(&process->child, process->child.started_ms + REGISTER_DEADLINE_MS, "it did not register within 60 s");
    process_log(process, LOG_DEBUG, "started", NULL, NULL);
    return 0;
}

/* ---- messages ---- */

static void tell_of_gateway(struct supervisor *supervisor) {
    struct role *gateway = &supervisor->gateway;
    if (!supervisor->controller.registered || !gateway->registered) return;
    struct process *controller = &supervisor->controller.process;
    process_tell(controller, gateway_up, .gateway_id = gateway->gateway_id,
                 .pid = (uint64_t)gateway->process.child.pid);
    if (gateway->generation)
        process_tell(controller, routes_used, .gateway_id = gateway->gateway_id, .generation = gateway->generation,
                     .lowest = gateway->lowest);
}

/* It hears of everything from here on, so what there is now is told in one go. */
static void take_hello(struct supervisor *supervisor, struct process *process) {
    struct role *role = role_of(process);
    if (role->registered) return;
    role->registered = true;
    child_let_live(&process->child);
    process_expect_pongs(process);
    process->stable_since_ms = clock_monotonic_ms();
    tell_of_gateway(supervisor);
    replica_tell_snapshot(supervisor, process);
    process_tell(process, snapshot_end, .unused = 0);
}

/* Once, when both roles answer. */
static void say_ready(struct supervisor *supervisor) {
    if (supervisor->said_ready || !supervisor->controller.ready || !supervisor->gateway.ready) return;
    supervisor->said_ready = true;
    char took[24];
    snprintf(took, sizeof took, "%" PRIu64, clock_monotonic_ms() - supervisor->started_ms);
    log_write(LOG_INFO, "ready", "url", supervisor->settings->public_url, "ms", took, NULL);
    notify_manager("READY=1\n");
}

/* What both may say; false when it is not one of these. */
static bool take_common_message(struct supervisor *supervisor, struct process *process,
                                const struct wire_message *message) {
    struct role *role = role_of(process);
    switch (message->type) {
    case WIRE_hello: take_hello(supervisor, process); return true;
    case WIRE_role_ready:
        role->ready = role->has_been_ready = true;
        process_log(process, LOG_DEBUG, "answers", NULL, NULL);
        say_ready(supervisor);
        return true;
    case WIRE_role_failed:
        role_clear(role);
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
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (process->child.pid && !process->forgotten) tell_process(to, request, process);
    process_tell(to, processes_end, .request = request);
}

static void on_controller_message(struct supervisor *supervisor, struct process *process,
                                  const struct wire_message *message) {
    if (take_common_message(supervisor, process, message)) return;
    switch (message->type) {
    case WIRE_start_replica: replica_take_start(supervisor, &message->start_replica); break;
    case WIRE_stop_replica: replica_take_stop(supervisor, &message->stop_replica); break;
    case WIRE_routes_changed:
        if (supervisor->gateway.registered) process_say(&supervisor->gateway.process, message);
        break;
    case WIRE_list_processes: list_processes(supervisor, process, message->list_processes.request); break;
    default: process_log(process, LOG_WARNING, "sent a message that is not its to send", NULL, NULL);
    }
}

static void on_gateway_message(struct supervisor *supervisor, struct process *process,
                               const struct wire_message *message) {
    struct role *gateway = role_of(process);
    if (take_common_message(supervisor, process, message)) return;
    if (message->type == WIRE_routes_used) {
        gateway->generation = message->routes_used.generation;
        gateway->lowest = message->routes_used.lowest;
        role_tell_controller(supervisor, &(struct wire_message){.type = WIRE_routes_used,
                                                                .routes_used = {.gateway_id = gateway->gateway_id,
                                                                                .generation = gateway->generation,
                                                                                .lowest = gateway->lowest}});
    } else {
        process_log(process, LOG_WARNING, "sent a message that is not its to send", NULL, NULL);
    }
}

/* ---- deaths ---- */

/* It cannot start and never could: trying for ever would hide the reason. */
static bool has_failed_for_good(const struct role *role, int status) {
    return status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == ROLE_EXIT_PERMANENT && !role->has_been_ready;
}

static void on_role_end(struct supervisor *supervisor, struct process *process, int status, const char *cause) {
    struct role *role = role_of(process);
    bool was_registered = role->registered;
    role->registered = role->ready = false;
    if (process == &supervisor->gateway.process && was_registered)
        role_tell_controller(supervisor, &(struct wire_message){.type = WIRE_gateway_down,
                                                                .gateway_down = {.gateway_id = role->gateway_id}});
    if (supervisor->stop.phase) {
        process_log(process, LOG_DEBUG, "ended", "cause", cause);
        return;
    }
    process_log(process, LOG_ERROR, "ended", "cause", cause);
    process_count_death(process);
    if (has_failed_for_good(role, status)) {
        _cleanup_free_ char *sentence = text_format("the %s cannot start: %s", process->kind->role,
                                                    role->last_words ? role->last_words : "it says why above");
        stop_begin(supervisor, SERVE_EXIT_PERMANENT, sentence);
        return;
    }
    process_restart(process);
}

const struct process_kind controller_kind = {
    .role = "controller", .start = start_role, .on_message = on_controller_message, .on_end = on_role_end};
const struct process_kind gateway_kind = {
    .role = "gateway", .start = start_role, .on_message = on_gateway_message, .on_end = on_role_end};
