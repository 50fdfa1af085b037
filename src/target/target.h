/* Targets: where replicas run. The controller's steps provision and retire through this contract only.
 *
 * All calls return at once (what they start is reported later through the listener, on the thread that feeds the
 * target); all are idempotent by replica id. Back-end today: local (runner processes that the supervisor keeps, over
 * wire/). May use: base, wire.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct target; /* one opened back-end */

struct target_replica_spec {
    const char *replica_id, *deployment_id, *deployment_name;
    uint64_t revision;
    const char *package_path, *package_digest;
    const char *recipe_json; /* or NULL */
    double cpu; /* cores; 0: one */
    uint64_t memory_limit_bytes; /* 0: none */
    uint64_t restarts_maximum, ready_deadline_ms;
    bool idle_priority; /* it gets only what nothing else wants of the processors, where the target can say so */
};

enum target_event_kind {
    TARGET_STARTED, /* the process is there; not ready yet */
    TARGET_UP, /* ready at `address`; report_json says what it is */
    TARGET_DOWN, /* gone; `final`: it will not come again by itself */
    TARGET_SYNCED, /* after a (re)connection: every replica that is up has been told; what was not named does not run */
};

struct target_event {
    enum target_event_kind kind;
    const char *replica_id, *address, *report_json, *cause, *error_json, *log_tail;
    uint64_t incarnation, pid, restarts;
    bool final, stopped; /* stopped: because stop() was asked for */
};

struct target_ops {
    const char *name; /* "local": what `target` in deployment_target_config says */
    /* Says, in one sentence, what of the request's target config has no meaning here (for `message`), or NULL; caller
     * frees. */
    char *(*check_config)(const char *target_config_json);
    int (*start)(struct target *target, const struct target_replica_spec *spec, struct error **ret_error);
    int (*stop)(struct target *target, const char *replica_id, uint64_t drain_ms, struct error **ret_error);
    /* Bytes that its replicas together may use, and what that is taken from ("80 % of 23.4 GiB"); caller frees
     * *ret_source. */
    int (*budget)(struct target *target, uint64_t *ret_bytes, char **ret_source, struct error **ret_error);
};
/* The back-end of that name; CONFIGURATION error that says what this build has. */
int target_find(const char *name, const struct target_ops **ret_target, struct error **ret_error);

extern const struct target_ops local_target;
struct wire_message;
/* local: `say` takes a message to the supervisor, from any thread, and copies it. memory_budget 0: 80 % of what the
 * machine or cgroup has. */
struct target *local_target_new(int (*say)(const struct wire_message *message, void *context, struct error **ret_error),
                                void *context, uint64_t memory_budget);
void local_target_free(struct target *target);
/* Turns a message from the supervisor into an event; false when it is about something else. Borrowed from the message.
 */
bool local_target_event(const struct wire_message *message, struct target_event *ret_event);
