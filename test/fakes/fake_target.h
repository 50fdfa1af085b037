/* A target without processes: replicas are entries in a list, which a controller may lose sight of and find again, as
 * it finds what a supervisor kept while it was dead.
 *
 * What a replica does is written in its model: a file `behaviour` in the package with "fail" (cannot load, for good),
 * "hang" (never ready), "flaky" (dies once, then comes up), "plain" (embeds nothing) or "encoder <digest>" (embeds with
 * that encoder_digest, others with "e1"). Without one it comes up at once.
 *
 * Left out: memory, processes, sockets, restarts with back-off; a death is what the test says it is, and a drain takes
 * no time. Events come on the fake's own thread, as they do from a supervisor's channel.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "controller/engine-internal.h"
#include "target/target.h"

extern const struct target_ops fake_target_ops;

/* Give it as `struct target *` with fake_target_ops. `budget_bytes` is what its replicas may use together. */
struct target *fake_target_new(uint64_t budget_bytes);
void fake_target_free(struct target *target);
/* The same replicas, up as they are: what a crash image of the controller will find. */
struct target *fake_target_clone(struct target *target);

/* From now on `replicas` hears of everything: what is there, then TARGET_SYNCED, then each change. */
void fake_target_attach(struct target *target, struct replicas *replicas);
/* Whoever was attached is gone; returns when nothing is being told any more. */
void fake_target_detach(struct target *target);
/* `on_call` is called on the caller's thread at the beginning of each start and stop. */
void fake_target_observe(struct target *target,
                         void (*on_call)(const char *call, const char *replica_id, void *context), void *context);

void fake_target_set_budget(struct target *target, uint64_t budget_bytes);
/* The replica dies: it comes back by itself unless `final`. */
void fake_target_kill(struct target *target, const char *replica_id, bool final, const char *cause,
                      const char *log_tail);
/* What died without `final` is up again. */
void fake_target_revive(struct target *target, const char *replica_id);
/* Makes a process that nobody asked for. */
void fake_target_add_stray(struct target *target, const char *replica_id);
/* Everything dies untold: the machine went down with its supervisor. Before attaching. */
void fake_target_clear(struct target *target);
bool fake_target_has(struct target *target, const char *replica_id);
size_t fake_target_count(struct target *target);
/* Those that were started at idle priority. */
size_t fake_target_count_idle(struct target *target);
/* How often start() made something new. */
size_t fake_target_started(struct target *target);
/* start(), stop() fail that many times with a transient error. */
void fake_target_fail_starts(struct target *target, size_t count);
void fake_target_fail_stops(struct target *target, size_t count);
/* What replicas report from now on that they use. */
void fake_target_report_memory(struct target *target, uint64_t bytes);
