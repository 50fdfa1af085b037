/* The replacement of the roles, in phases: behind an upgrade by those of the new program, behind a reload by such with
 * other settings, and back again when these do not work.
 *
 *   hold control     gateways keep control requests for the controller that follows
 *   controller, indexer   each gets SIGTERM, is reaped, and only then followed by another (RULES U2)
 *   hold switches    the indexer begins none and says when none is under way (X9); this may last
 *   gateway          its successor starts beside it
 *   hand over        when that answers: the former gives its connections to it, drains, and ends
 *   release          switches may be begun again
 *
 * A role that need not be replaced passes its phases by. What must not fail: the requests of clients. What may: a new
 * role that dies thrice, or says that it cannot start, or does not answer within a minute ends the replacement, and
 * what was before comes back in the same way. That has no way back of its own: it goes on until it stands. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define HELD_DEADLINE_MS 5000 /* requests that are with the controller get so long to be answered */
#define END_DEADLINE_MS 5000 /* a controller or indexer, from SIGTERM */
#define ASK_AGAIN_MS 5000 /* whether switches are held: what ended one may not have been seen */
#define READY_DEADLINE_MS 60000
#define DEATHS_MAXIMUM 3 /* of one new role */
#define DRAIN_MARGIN_MS 3000

static struct role *role_at(const struct supervisor *supervisor, enum role_index index) {
    return supervisor->roles[index];
}

static void forget(struct role *role) {
    role->process.forgotten = true;
    role->process.start_at_ms = NEVER;
}

/* ---- hold control ---- */

static void hold_control(struct supervisor *supervisor) {
    if (!role_at(supervisor, ROLE_CONTROLLER)->outdated) return;
    role_at(supervisor, ROLE_GATEWAY)->held = false;
    role_say(supervisor, ROLE_GATEWAY, hold_control, .hold = 1);
}

static bool control_is_held(const struct supervisor *supervisor) {
    const struct role *gateway = role_at(supervisor, ROLE_GATEWAY);
    return !role_at(supervisor, ROLE_CONTROLLER)->outdated || !gateway->registered || gateway->held;
}

/* ---- controller and indexer ---- */

static void end_outdated(struct supervisor *supervisor) {
    static const enum role_index singles[] = {ROLE_CONTROLLER, ROLE_INDEXER};
    for (size_t i = 0; i < ARRAY_SIZE(singles); i++) {
        struct role *role = role_at(supervisor, singles[i]);
        struct child *child = &role->process.child;
        if (!role->outdated) continue;
        if (!child->pid) {
            process_start(supervisor, &role->process);
            continue;
        }
        child->ping_at_ms = NEVER;
        child_signal(child, SIGTERM);
        child_kill_at(child, clock_monotonic_ms() + END_DEADLINE_MS, "it was to be replaced, and did not end");
    }
}

static bool stands(const struct role *role) {
    return !role->outdated && role->ready;
}

static bool controller_and_indexer_stand(const struct supervisor *supervisor) {
    return stands(role_at(supervisor, ROLE_CONTROLLER)) && stands(role_at(supervisor, ROLE_INDEXER));
}

/* ---- the gateway ---- */

static void hold_switches(struct supervisor *supervisor) {
    if (!role_at(supervisor, ROLE_GATEWAY)->outdated) return;
    role_at(supervisor, ROLE_INDEXER)->held = false;
    role_say(supervisor, ROLE_INDEXER, hold_switches, .hold = 1);
}

static bool switches_are_held(const struct supervisor *supervisor) {
    return !role_at(supervisor, ROLE_GATEWAY)->outdated || role_at(supervisor, ROLE_INDEXER)->held;
}

static void start_gateway(struct supervisor *supervisor) {
    struct role *former = role_at(supervisor, ROLE_GATEWAY);
    if (!former->outdated) return;
    if (!former->process.child.pid) {
        process_start(supervisor, &former->process); /* there is nothing to hand over */
        return;
    }
    supervisor->successor = supervisor_add_role(supervisor, ROLE_GATEWAY);
    supervisor->successor->process.restarts = former->process.restarts;
    supervisor->successor->has_been_ready = former->has_been_ready; /* its role has been */
    process_start(supervisor, &supervisor->successor->process);
}

static bool gateway_stands(const struct supervisor *supervisor) {
    return supervisor->successor ? supervisor->successor->ready : stands(role_at(supervisor, ROLE_GATEWAY));
}

/* Its place is the successor's now. */
static struct role *make_way(struct supervisor *supervisor) {
    struct role *former = role_at(supervisor, ROLE_GATEWAY);
    supervisor->roles[ROLE_GATEWAY] = TAKE(supervisor->successor);
    former->leaving = true;
    former->outdated = false;
    return former;
}

static void hand_over(struct supervisor *supervisor) {
    if (!supervisor->successor) return;
    struct role *former = make_way(supervisor);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        log_write(LOG_WARNING, "connections cannot be handed over: no socket pair", "error", strerror(errno), NULL);
        child_signal(&former->process.child, SIGTERM); /* it drains */
    } else {
        const struct wire_message adopt = {.type = WIRE_adopt}, give = {.type = WIRE_hand_over};
        process_say_with(&role_at(supervisor, ROLE_GATEWAY)->process, &adopt, pair[0]);
        process_say_with(&former->process, &give, pair[1]);
        close(pair[0]);
        close(pair[1]);
    }
    child_kill_at(&former->process.child, clock_monotonic_ms() + supervisor->settings->drain_ms + DRAIN_MARGIN_MS,
                  "it did not end within the drain deadline");
}

static bool former_is_gone(const struct supervisor *supervisor) {
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (process_is_role(process) && role_of(process)->leaving && process->child.pid) return false;
    return true;
}

/* ---- the end ---- */

static void release(struct supervisor *supervisor) {
    role_say(supervisor, ROLE_INDEXER, hold_switches, .hold = 0);
    role_say(supervisor, ROLE_GATEWAY, hold_control, .hold = 0);
}

static bool is_released(const struct supervisor *supervisor) {
    (void)supervisor;
    return true;
}

/* What follows when a phase takes longer than it may. */
enum late { LATE_GO_ON, LATE_FAIL, LATE_AGAIN };

static const struct phase {
    void (*begin)(struct supervisor *);
    bool (*is_done)(const struct supervisor *);
    uint64_t maximum_ms; /* 0: until it is done */
    enum late late;
} phases[] = {
    {NULL, NULL, 0, LATE_GO_ON}, /* 0: none is under way */
    {hold_control, control_is_held, HELD_DEADLINE_MS, LATE_GO_ON},
    {end_outdated, controller_and_indexer_stand, READY_DEADLINE_MS, LATE_FAIL},
    {hold_switches, switches_are_held, ASK_AGAIN_MS, LATE_AGAIN},
    {start_gateway, gateway_stands, READY_DEADLINE_MS, LATE_FAIL},
    {hand_over, former_is_gone, 0, LATE_GO_ON},
    {release, is_released, 0, LATE_GO_ON},
};
enum { PHASE_HOLD_CONTROL = 1, PHASE_END_OUTDATED, PHASE_HOLD_SWITCHES, PHASE_GATEWAY, PHASE_HAND_OVER };

static void enter(struct supervisor *supervisor, int phase) {
    struct replace *replace = &supervisor->replace;
    replace->phase = phase;
    replace->next_ms = phases[phase].maximum_ms ? clock_monotonic_ms() + phases[phase].maximum_ms : NEVER;
    phases[phase].begin(supervisor);
}

static void tell_manager_of_begin(void) {
    _cleanup_free_ char *text = text_format("RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\n", clock_monotonic_us());
    notify_manager(text);
}

void replace_begin(struct supervisor *supervisor, enum replace_cause cause) {
    supervisor->replace.cause = cause;
    free(TAKE(supervisor->replace.failure));
    for (struct process *process = supervisor->processes; process; process = process->next) {
        if (!process_is_role(process)) continue;
        role_of(process)->is_fresh = false;
        process->deaths = 0;
    }
    tell_manager_of_begin();
    enter(supervisor, PHASE_HOLD_CONTROL);
}

static void finish(struct supervisor *supervisor) {
    static const char *const messages[] = {
        [REPLACE_UPGRADE] = "upgraded", [REPLACE_RELOAD] = "reloaded", [REPLACE_RETURN] = "went back"};
    struct replace *replace = &supervisor->replace;
    replace->phase = 0;
    for (size_t i = 0; i < ROLE_COUNT; i++) supervisor->roles[i]->is_fresh = false;
    log_write(LOG_INFO, messages[replace->cause], NULL);
    notify_manager("READY=1\n");
    if (replace->cause == REPLACE_UPGRADE) upgrade_finish(supervisor);
    if (replace->cause == REPLACE_RELOAD) reload_keep(supervisor);
}

/* A gateway that was to follow does not. */
static void drop_successor(struct supervisor *supervisor) {
    struct role *successor = TAKE(supervisor->successor);
    if (!successor) return;
    successor->leaving = true;
    child_kill(&successor->process.child, "it is not to follow");
    if (!successor->process.child.pid) forget(successor);
}

/* What the replacement started is to go, what it had not come to may stay. */
static void turn_back(struct supervisor *supervisor) {
    for (size_t i = 0; i < ROLE_COUNT; i++) supervisor->roles[i]->outdated = supervisor->roles[i]->is_fresh;
}

static void restart_dead(struct supervisor *supervisor) {
    for (size_t i = 0; i < ROLE_COUNT; i++)
        if (!supervisor->roles[i]->process.child.pid) supervisor->roles[i]->outdated = true;
}

static void give_up(struct supervisor *supervisor, const char *reason) {
    _cleanup_free_ char *why = text_copy(reason);
    bool is_upgrade = supervisor->replace.cause == REPLACE_UPGRADE;
    log_write(LOG_ERROR,
              is_upgrade ? "the new program does not work; going back" : "the new settings do not work; going back",
              "cause", why, NULL);
    drop_successor(supervisor);
    if (is_upgrade) {
        upgrade_go_back(supervisor, why);
        restart_dead(supervisor); /* there was no way: what we are must do */
    } else {
        reload_take_back(supervisor);
        turn_back(supervisor);
        restart_dead(supervisor);
    }
    replace_begin(supervisor, REPLACE_RETURN);
}

static char *describe_lateness(const struct supervisor *supervisor) {
    const struct role *late = supervisor->successor;
    for (size_t i = 0; i < ROLE_COUNT && !late; i++)
        if (!supervisor->roles[i]->ready) late = supervisor->roles[i];
    return text_format("the %s was not ready within %d s", late ? late->process.kind->role : "service",
                       READY_DEADLINE_MS / 1000);
}

/* The phase is not done. True when it is over nevertheless. */
static bool is_over(struct supervisor *supervisor, uint64_t now_ms) {
    struct replace *replace = &supervisor->replace;
    const struct phase *phase = &phases[replace->phase];
    if (replace->failure) return true;
    if (now_ms < replace->next_ms) return false;
    replace->next_ms = NEVER;
    if (phase->late == LATE_AGAIN) enter(supervisor, replace->phase);
    if (phase->late == LATE_FAIL && replace->cause != REPLACE_RETURN) replace->failure = describe_lateness(supervisor);
    return phase->late == LATE_GO_ON || replace->failure;
}

void replace_advance(struct supervisor *supervisor, uint64_t now_ms) {
    struct replace *replace = &supervisor->replace;
    if (!replace->phase && replace->is_asked_again) {
        replace->is_asked_again = false;
        reload_settings(supervisor);
    }
    while (replace->phase && !supervisor->stop.phase) {
        if (!phases[replace->phase].is_done(supervisor) && !is_over(supervisor, now_ms)) return;
        if (replace->failure)
            give_up(supervisor, replace->failure);
        else if (replace->phase + 1 < (int)ARRAY_SIZE(phases))
            enter(supervisor, replace->phase + 1);
        else
            finish(supervisor);
    }
}

void replace_cancel(struct supervisor *supervisor) {
    supervisor->replace.phase = 0;
    free(TAKE(supervisor->replace.failure));
}

/* ---- what roles do meanwhile ---- */

void replace_take_hello(struct supervisor *supervisor, struct role *role) {
    int phase = supervisor->replace.phase;
    enum role_index index = role_index_of(&role->process);
    if (index == ROLE_GATEWAY && (phase == PHASE_HOLD_CONTROL || phase == PHASE_END_OUTDATED) &&
        !role_at(supervisor, ROLE_CONTROLLER)->ready)
        process_tell(&role->process, hold_control, .hold = 1);
    if (index == ROLE_INDEXER && phase >= PHASE_HOLD_SWITCHES && phase <= PHASE_HAND_OVER)
        process_tell(&role->process, hold_switches, .hold = 1);
}

void replace_take_ready(struct supervisor *supervisor, struct role *role) {
    if (supervisor->replace.phase && role_index_of(&role->process) == ROLE_CONTROLLER)
        role_say(supervisor, ROLE_GATEWAY, hold_control, .hold = 0);
}

/* The one that was asked to end has: the next. */
static bool is_due(const struct supervisor *supervisor, const struct role *role) {
    return role->outdated && supervisor->replace.phase == PHASE_END_OUTDATED &&
           role_index_of(&role->process) != ROLE_GATEWAY;
}

/* Whether this death of a new role is one too many. */
static bool is_fatal(const struct supervisor *supervisor, const struct role *role, bool for_good) {
    return supervisor->replace.cause != REPLACE_RETURN && role->is_fresh &&
           (for_good || role->process.deaths + 1 >= DEATHS_MAXIMUM);
}

bool replace_take_end(struct supervisor *supervisor, struct role *role, const char *cause, bool for_good) {
    struct process *process = &role->process;
    if (role->leaving) {
        process_log(process, LOG_INFO, "was replaced", "cause", cause);
        forget(role);
        return true;
    }
    if (!supervisor->replace.phase) return false;
    if (role == role_at(supervisor, ROLE_GATEWAY) && supervisor->successor) {
        process_log(process, LOG_ERROR, "ended before it was replaced", "cause", cause);
        make_way(supervisor);
        forget(role);
        return true;
    }
    if (is_due(supervisor, role)) {
        process_log(process, LOG_INFO, "ended, to be replaced", "cause", cause);
        process_start(supervisor, process);
        return true;
    }
    if (!is_fatal(supervisor, role, for_good)) return false;
    process_log(process, LOG_ERROR, "ended", "cause", cause);
    if (!supervisor->replace.failure)
        supervisor->replace.failure = text_format("the %s cannot work: %s", process->kind->role, cause);
    return true;
}
