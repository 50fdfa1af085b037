/* The end, in phases. Each begins when the one before has done its work or its time is over, so that requests in flight
 * have their gateway, their controller, their indexer and their replicas for as long as the drain deadline allows;
 * whatever is left at the deadline is killed. */
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define MARGIN_MAXIMUM_MS 3000 /* what the others get of the drain time, when the gateway needs it all */

static uint64_t margin_ms(const struct supervisor *supervisor) {
    uint64_t quarter = supervisor->settings->drain_ms / 4;
    return quarter < MARGIN_MAXIMUM_MS ? quarter : MARGIN_MAXIMUM_MS;
}

/* ---- the phases ---- */

static bool is_gone(const struct supervisor *supervisor, enum role_index role) {
    for (const struct process *process = supervisor->processes; process; process = process->next)
        if (process->kind == &role_kinds[role] && process->child.pid) return false;
    return true;
}

static bool gateway_is_gone(const struct supervisor *supervisor) {
    return is_gone(supervisor, ROLE_GATEWAY);
}

static bool controller_and_indexer_are_gone(const struct supervisor *supervisor) {
    return is_gone(supervisor, ROLE_CONTROLLER) && is_gone(supervisor, ROLE_INDEXER);
}

static bool all_are_gone(const struct supervisor *supervisor) {
    for (const struct process *process = supervisor->processes; process; process = process->next)
        if (process->child.pid) return false;
    return true;
}

static void terminate(struct supervisor *supervisor, enum role_index role) {
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (process->kind == &role_kinds[role]) child_signal(&process->child, SIGTERM);
}

/* Nobody connects to a socket that no longer accepts: ours has to go for that, too. */
static void end_gateway(struct supervisor *supervisor) {
    if (supervisor->listener >= 0) close(supervisor->listener);
    supervisor->listener = -1;
    control_close(supervisor);
    terminate(supervisor, ROLE_GATEWAY);
}

/* Together: neither needs the other for its end, and what one still asks of the other is asked again at the next
 * start. */
static void end_controller_and_indexer(struct supervisor *supervisor) {
    terminate(supervisor, ROLE_CONTROLLER);
    terminate(supervisor, ROLE_INDEXER);
}

static void kill_all(struct supervisor *supervisor) {
    const char *reason = supervisor->exit_status == SERVE_EXIT_AT_ONCE ? "the service was ended at once"
                                                                       : "it did not end within the drain deadline";
    for (struct process *process = supervisor->processes; process; process = process->next) {
        if (!process->child.pid) continue;
        process_log(process, LOG_WARNING, "killed", "reason", reason);
        child_kill(&process->child, reason);
    }
}

static const struct phase {
    void (*begin)(struct supervisor *);
    bool (*is_done)(const struct supervisor *);
    int margins; /* it may last until the drain deadline less so many halves of the margin; -1: until it is done */
} phases[] = {
    {NULL, NULL, -1}, /* 0: not stopping */
    {end_gateway, gateway_is_gone, 2},
    {end_controller_and_indexer, controller_and_indexer_are_gone, 1},
    {replica_stop_all, all_are_gone, 0},
    {kill_all, all_are_gone, -1},
};

static void enter(struct supervisor *supervisor, int phase) {
    struct stop *stop = &supervisor->stop;
    stop->phase = phase;
    stop->next_ms = phases[phase].margins < 0 ? NEVER
                                              : stop->begun_ms + supervisor->settings->drain_ms -
                                                    (uint64_t)phases[phase].margins * margin_ms(supervisor) / 2;
    phases[phase].begin(supervisor);
}

void stop_begin(struct supervisor *supervisor, int exit_status, const char *sentence) {
    if (supervisor->stop.phase) return;
    supervisor->exit_status = exit_status;
    supervisor->last_sentence = text_copy(sentence);
    supervisor->stop.begun_ms = clock_monotonic_ms();
    upgrade_cancel(supervisor);
    replace_cancel(supervisor);
    for (struct process *process = supervisor->processes; process; process = process->next) {
        process->start_at_ms = NEVER;
        process->child.ping_at_ms = NEVER;
    }
    log_write(LOG_INFO, "stopping", NULL);
    notify_manager("STOPPING=1\n");
    enter(supervisor, 1);
}

void stop_at_once(struct supervisor *supervisor, int exit_status) {
    stop_begin(supervisor, exit_status, NULL);
    supervisor->exit_status = exit_status;
    enter(supervisor, (int)ARRAY_SIZE(phases) - 1);
}

bool stop_advance(struct supervisor *supervisor, uint64_t now_ms) {
    struct stop *stop = &supervisor->stop;
    if (!stop->phase) return false;
    while (stop->phase + 1 < (int)ARRAY_SIZE(phases) &&
           (phases[stop->phase].is_done(supervisor) || now_ms >= stop->next_ms))
        enter(supervisor, stop->phase + 1);
    return all_are_gone(supervisor);
}
