/* What roles and replicas have in common: a child that is started again after a pause, is asked whether it still
 * answers, and ends at its deadlines. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAXIMUM_MS 5000
#define WORKED_MS 1000 /* one that works for less has hardly worked */
#define MESSAGES_A_TURN 64 /* so that one talker does not keep the rest waiting */
#define MESSAGES_AT_THE_END 65536 /* what a dead child's socket can hold at most, and more */

void process_init(struct process *process, const struct process_kind *kind) {
    *process = (struct process){.kind = kind, .start_at_ms = NEVER, .stable_since_ms = NEVER};
    process->child = (struct child){.kill_at_ms = NEVER, .ping_at_ms = NEVER};
}

void process_log(const struct process *process, enum log_level level, const char *message, const char *key,
                 const char *value) {
    char pid[16] = "";
    snprintf(pid, sizeof pid, "%d", (int)process->child.pid);
    log_write(level, message, "process", process->kind->role, "pid", process->child.pid ? pid : NULL,
              value ? key : "none", value, NULL);
}

void process_start(struct supervisor *supervisor, struct process *process) {
    _cleanup_error_ struct error *error = NULL;
    process->start_at_ms = NEVER;
    if (process->kind->start(supervisor, process, &error) == 0) return;
    _cleanup_free_ char *text = error_text(error);
    _cleanup_free_ char *cause = text_format("could not be started: %s", text);
    process->kind->on_end(supervisor, process, -1, cause);
}

void process_count_death(struct process *process) {
    uint64_t now = clock_monotonic_ms();
    process->worked_ms = process->stable_since_ms == NEVER ? 0 : now - process->stable_since_ms;
    process->deaths = process->worked_ms >= STABLE_MS ? 1 : process->deaths + 1;
    process->stable_since_ms = NEVER;
}

uint64_t process_backoff_ms(uint64_t deaths, uint64_t worked_ms) {
    if (deaths <= 1) return 0;
    uint64_t doublings = deaths - 2 < 16 ? deaths - 2 : 16;
    uint64_t pause = (uint64_t)BACKOFF_FIRST_MS << doublings;
    if (pause > BACKOFF_MAXIMUM_MS) pause = BACKOFF_MAXIMUM_MS;
    return worked_ms >= WORKED_MS && worked_ms / 4 < pause ? worked_ms / 4 : pause;
}

void process_restart(struct process *process) {
    process->restarts++;
    process->start_at_ms = clock_monotonic_ms() + process_backoff_ms(process->deaths, process->worked_ms);
}

void process_expect_pongs(struct process *process) {
    process->child.ping_at_ms = clock_monotonic_ms() + PING_INTERVAL_MS;
    process->child.pings_unanswered = 0;
}

/* ---- time ---- */

uint64_t process_next_time(const struct process *process) {
    uint64_t next = process->start_at_ms;
    if (process->child.kill_at_ms < next) next = process->child.kill_at_ms;
    if (process->child.ping_at_ms < next) next = process->child.ping_at_ms;
    return next;
}

/* Unanswered pings are counted rather than time: after a sleep of the whole machine, or of the supervisor, every child
 * gets its chance to answer first. */
static void ping(struct process *process, uint64_t now_ms) {
    struct child *child = &process->child;
    if (child->pings_unanswered >= (process->idle_priority ? PINGS_UNANSWERED_IDLE : PINGS_UNANSWERED)) {
        child->ping_at_ms = NEVER;
        child_kill(child, process->idle_priority ? "it did not answer for 2 min" : "it did not answer for 10 s");
        return;
    }
    child->pings_unanswered++;
    child->ping_at_ms = now_ms + PING_INTERVAL_MS;
    process_tell(process, ping, .sequence = ++child->pings);
}

void process_take_time(struct supervisor *supervisor, struct process *process, uint64_t now_ms) {
    struct child *child = &process->child;
    if (child->kill_at_ms <= now_ms) {
        _cleanup_free_ char *reason = text_copy(child->kill_reason);
        child_kill(child, reason);
    }
    if (child->ping_at_ms <= now_ms) ping(process, now_ms);
    if (process->start_at_ms <= now_ms) process_start(supervisor, process);
}

/* ---- messages ---- */

void process_say(struct process *process, const struct wire_message *message) {
    process_say_with(process, message, -1);
}

void process_say_with(struct process *process, const struct wire_message *message, int descriptor) {
    if (!process->child.channel) return;
    _cleanup_error_ struct error *error = NULL;
    if (wire_send_with(process->child.channel, message, descriptor, &error) == 0) return;
    _cleanup_free_ char *text = error_text(error);
    if (error->class == ERROR_REQUEST)
        process_log(process, LOG_ERROR, "a message could not be sent", "error", text);
    else if (wire_channel_wants_write(process->child.channel))
        child_kill(&process->child, "it did not read what it was sent");
    /* otherwise it is gone, which its pidfd tells as well */
}

/* Its channel is of no more use. It usually is about to end, and gets the time to do so with its own status. */
static void close_channel(struct process *process, const char *reason) {
    struct child *child = &process->child;
    wire_channel_free(child->channel);
    child->channel = NULL;
    child->ping_at_ms = NEVER;
    uint64_t latest = clock_monotonic_ms() + CLOSED_GRACE_MS;
    if (child->kill_at_ms > latest) child_kill_at(child, latest, reason);
}

/* Up to `maximum` messages, 0 or a negative class when the channel is done. */
static void receive(struct supervisor *supervisor, struct process *process, unsigned maximum) {
    for (unsigned i = 0; i < maximum && process->child.channel; i++) {
        _cleanup_wire_message_ struct wire_message message = {0};
        _cleanup_error_ struct error *error = NULL;
        int result = wire_receive(process->child.channel, &message, &error);
        if (!result) return;
        if (result < 0) {
            if (error->class == ERROR_REQUEST) {
                child_kill(&process->child, "it sent a malformed message");
                process->child.ping_at_ms = NEVER;
            }
            close_channel(process, "it closed its connection to the supervisor");
        } else if (message.type == WIRE_pong) {
            process->child.pings_unanswered = 0;
        } else if (message.type == WIRE_ping) {
            process_tell(process, pong, .sequence = message.ping.sequence);
        } else {
            process->kind->on_message(supervisor, process, &message);
        }
    }
}

void process_take_socket(struct supervisor *supervisor, struct process *process) {
    if (process->child.channel) wire_flush(process->child.channel, NULL);
    receive(supervisor, process, MESSAGES_A_TURN);
}

void process_take_end(struct supervisor *supervisor, struct process *process) {
    receive(supervisor, process, MESSAGES_AT_THE_END); /* its last words, and what it asked for before it died */
    int status;
    _cleanup_free_ char *cause = NULL;
    if (!child_reap(&process->child, &status, &cause)) return;
    process->kind->on_end(supervisor, process, status, cause);
}
