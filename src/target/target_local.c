/* The local target: runner processes on this machine, which the supervisor starts and keeps. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "target/target.h"
#include "wire/wire.h"

#define DEFAULT_SHARE                                                                                                  \
    80 /* percent of the machine's memory: the rest is for the system, the page cache and ourselves                    \
        */

struct target {
    int (*say)(const struct wire_message *message, void *context, struct error **ret_error);
    void *context;
    uint64_t memory_budget;
};

struct target *local_target_new(int (*say)(const struct wire_message *message, void *context, struct error **ret_error),
                                void *context, uint64_t memory_budget) {
    struct target *target = mem_new(struct target);
    *target = (struct target){.say = say, .context = context, .memory_budget = memory_budget};
    return target;
}

void local_target_free(struct target *target) {
    free(target);
}

/* ---- what has no meaning here ---- */

static char *local_check_config(const char *target_config_json) {
    static const char *const meaningless[] = {"serving_image", "port", "env"};
    if (!target_config_json) return NULL;
    _cleanup_json_ yyjson_doc *document = yyjson_read(target_config_json, strlen(target_config_json), 0);
    yyjson_val *root = yyjson_doc_get_root(document);
    char *fields = NULL;
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(meaningless); i++) {
        yyjson_val *value = yyjson_obj_get(root, meaningless[i]);
        if (!value || yyjson_is_null(value)) continue;
        char *more = fields ? text_format("%s, %s", fields, meaningless[i]) : text_copy(meaningless[i]);
        free(fields);
        fields = more;
        count++;
    }
    if (!fields) return NULL;
    char *sentence = text_format("%s %s no meaning on the local target and %s only recorded", fields,
                                 count == 1 ? "has" : "have", count == 1 ? "is" : "are");
    free(fields);
    return sentence;
}

/* ---- starting and stopping ---- */

static int local_start(struct target *target, const struct target_replica_spec *spec, struct error **ret_error) {
    const struct wire_message message = {
        .type = WIRE_start_replica,
        .start_replica = {.replica_id = spec->replica_id,
                          .deployment_id = spec->deployment_id,
                          .deployment_name = spec->deployment_name,
                          .revision = spec->revision,
                          .package_path = spec->package_path,
                          .package_digest = spec->package_digest,
                          .recipe_json = spec->recipe_json,
                          .threads = spec->cpu > 1 ? (uint64_t)ceil(spec->cpu) : 1,
                          .memory_limit_bytes = spec->memory_limit_bytes,
                          .restarts_maximum = spec->restarts_maximum,
                          .ready_deadline_ms = spec->ready_deadline_ms,
                          .idle_priority = spec->idle_priority},
    };
    return target->say(&message, target->context, ret_error);
}

static int local_stop(struct target *target, const char *replica_id, uint64_t drain_ms, struct error **ret_error) {
    const struct wire_message message = {.type = WIRE_stop_replica,
                                         .stop_replica = {.replica_id = replica_id, .drain_ms = drain_ms}};
    return target->say(&message, target->context, ret_error);
}

/* ---- memory ---- */

/* A file with one number; UINT64_MAX for "max", for what is not there and for what is no number. */
static uint64_t read_number(const char *path) {
    FILE *file = fopen(path, "re");
    if (!file) return UINT64_MAX;
    unsigned long long number = 0;
    bool read = fscanf(file, "%llu", &number) == 1;
    fclose(file);
    return read && number ? number : UINT64_MAX;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* What `line` of /proc/self/cgroup says of a limit: "0::/group" (version 2), "4:memory:/group" (version 1). */
static uint64_t limit_of_line(char *line) {
    line[strcspn(line, "\n")] = 0;
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) return UINT64_MAX;
    *group++ = 0;
    controllers++;
    bool version_2 = !*controllers;
    if (!version_2 && !strstr(controllers, "memory")) return UINT64_MAX;
    const char *root = version_2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const char *name = version_2 ? "memory.max" : "memory.limit_in_bytes";
    _cleanup_free_ char *own = text_format("%s%s/%s", root, group, name);
    _cleanup_free_ char *mounted =
        text_format("%s/%s", root, name); /* in a container the group is mounted as the root */
    return smaller(read_number(own), read_number(mounted));
}

static uint64_t find_memory(void) {
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    FILE *groups = fopen("/proc/self/cgroup", "re");
    char line[4096];
    while (groups && fgets(line, sizeof line, groups)) memory = smaller(memory, limit_of_line(line));
    if (groups) fclose(groups);
    return memory;
}

static int local_budget(struct target *target, uint64_t *ret_bytes, char **ret_source, struct error **ret_error) {
    (void)ret_error;
    if (target->memory_budget) {
        *ret_bytes = target->memory_budget;
        *ret_source = text_copy("memory_budget");
        return 0;
    }
    uint64_t memory = find_memory();
    _cleanup_free_ char *size = text_size(memory);
    *ret_bytes = memory / 100 * DEFAULT_SHARE;
    *ret_source = text_format("%d %% of %s", DEFAULT_SHARE, size);
    return 0;
}

const struct target_ops local_target = {
    .name = "local",
    .check_config = local_check_config,
    .start = local_start,
    .stop = local_stop,
    .budget = local_budget,
};

/* ---- what the supervisor tells ---- */

bool local_target_event(const struct wire_message *message, struct target_event *ret_event) {
    switch (message->type) {
    case WIRE_replica_started:
        *ret_event = (struct target_event){.kind = TARGET_STARTED,
                                           .replica_id = message->replica_started.replica_id,
                                           .incarnation = message->replica_started.incarnation,
                                           .pid = message->replica_started.pid};
        return true;
    case WIRE_replica_up:
        *ret_event = (struct target_event){.kind = TARGET_UP,
                                           .replica_id = message->replica_up.replica_id,
                                           .address = message->replica_up.address,
                                           .report_json = message->replica_up.report_json,
                                           .incarnation = message->replica_up.incarnation,
                                           .pid = message->replica_up.pid,
                                           .restarts = message->replica_up.restarts};
        return true;
    case WIRE_replica_down:
        *ret_event = (struct target_event){.kind = TARGET_DOWN,
                                           .replica_id = message->replica_down.replica_id,
                                           .cause = message->replica_down.cause,
                                           .error_json = message->replica_down.error_json,
                                           .log_tail = message->replica_down.log_tail,
                                           .incarnation = message->replica_down.incarnation,
                                           .pid = message->replica_down.pid,
                                           .restarts = message->replica_down.restarts,
                                           .final = message->replica_down.final != 0,
                                           .stopped = message->replica_down.stopped != 0};
        return true;
    case WIRE_snapshot_end: *ret_event = (struct target_event){.kind = TARGET_SYNCED}; return true;
    default: return false;
    }
}
