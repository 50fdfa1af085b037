#include "fakes/fake_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"

struct replica {
    char *id;
    uint64_t incarnation;
    bool up, hangs, plain, idle;
    char digest[40];
    struct replica *next;
};

struct told {
    struct target_event event; /* its texts are owned by this */
    struct told *next;
};

struct target {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t teller;
    struct replica *replicas;
    struct told *queue, **queue_end;
    struct replicas *listener;
    bool ending, telling;
    uint64_t budget_bytes, incarnations;
    size_t started, failing_starts, failing_stops;
    uint64_t memory_bytes; /* that replicas report */
    void (*on_call)(const char *call, const char *replica_id, void *context);
    void *context;
};

/* ---- telling ---- */

static void tell(struct target *target, struct target_event event) {
    if (!target->listener) return;
    struct told *told = mem_new(struct told);
    told->event = event;
    told->event.replica_id = text_copy(event.replica_id);
    told->event.report_json = text_copy(event.report_json);
    told->event.cause = text_copy(event.cause);
    told->event.error_json = text_copy(event.error_json);
    told->event.log_tail = text_copy(event.log_tail);
    *target->queue_end = told;
    target->queue_end = &told->next;
    pthread_cond_broadcast(&target->changed);
}

static void free_told(struct told *told) {
    free((char *)told->event.replica_id);
    free((char *)told->event.report_json);
    free((char *)told->event.cause);
    free((char *)told->event.error_json);
    free((char *)told->event.log_tail);
    free(told);
}

static struct told *take_told(struct target *target) {
    struct told *told = target->queue;
    if (!told) return NULL;
    target->queue = told->next;
    if (!target->queue) target->queue_end = &target->queue;
    return told;
}

static void *tell_all(void *context) {
    struct target *target = context;
    pthread_mutex_lock(&target->mutex);
    while (!target->ending) {
        struct told *told = take_told(target);
        if (!told) {
            pthread_cond_wait(&target->changed, &target->mutex);
            continue;
        }
        struct replicas *listener = target->listener;
        target->telling = true;
        pthread_mutex_unlock(&target->mutex);
        if (listener) replicas_take_event(listener, &told->event);
        free_told(told);
        pthread_mutex_lock(&target->mutex);
        target->telling = false;
        pthread_cond_broadcast(&target->changed);
    }
    pthread_mutex_unlock(&target->mutex);
    return NULL;
}

static void tell_up(struct target *target, struct replica *replica) {
    replica->up = true;
    unsigned long long memory = target->memory_bytes;
    _cleanup_free_ char *report = replica->plain
                                      ? text_format("{\"kind\":\"generic\",\"memory_bytes\":%llu}", memory)
                                      : text_format("{\"kind\":\"embedding\",\"encoder_digest\":\"%s\",\"dimension\":4,"
                                                    "\"memory_bytes\":%llu}",
                                                    *replica->digest ? replica->digest : "e1", memory);
    tell(target, (struct target_event){.kind = TARGET_UP,
                                       .replica_id = replica->id,
                                       .incarnation = replica->incarnation,
                                       .pid = 4000000 + replica->incarnation,
                                       .report_json = report});
}

static void tell_down(struct target *target, const struct replica *replica, bool final, const char *cause,
                      const char *error_json, const char *log_tail) {
    tell(target, (struct target_event){.kind = TARGET_DOWN,
                                       .replica_id = replica->id,
                                       .incarnation = replica->incarnation,
                                       .final = final,
                                       .stopped = !strcmp(cause, "stopped"),
                                       .cause = cause,
                                       .error_json = error_json,
                                       .log_tail = log_tail});
}

/* ---- the list ---- */

static struct replica **find(struct target *target, const char *id) {
    struct replica **link = &target->replicas;
    while (*link && strcmp((*link)->id, id)) link = &(*link)->next;
    return link;
}

static void drop(struct replica **link) {
    struct replica *replica = *link;
    *link = replica->next;
    free(replica->id);
    free(replica);
}

static struct replica *add(struct target *target, const char *id) {
    struct replica *replica = mem_new(struct replica);
    replica->id = text_copy(id);
    replica->incarnation = ++target->incarnations;
    replica->next = target->replicas;
    target->replicas = replica;
    return replica;
}

static void call(struct target *target, const char *name, const char *id) {
    pthread_mutex_lock(&target->mutex);
    void (*on_call)(const char *, const char *, void *) = target->on_call;
    void *context = target->context;
    pthread_mutex_unlock(&target->mutex);
    if (on_call) on_call(name, id, context);
}

/* ---- the contract ---- */

static char *fake_check_config(const char *target_config_json) {
    bool has_port = target_config_json && strstr(target_config_json, "\"port\"");
    return has_port ? text_copy("port has no meaning here") : NULL;
}

static char *read_behaviour(const char *package_path) {
    _cleanup_free_ char *path = fs_join(package_path, "behaviour");
    char *text = NULL;
    size_t size = 0;
    return fs_read_file(path, 64, &text, &size, NULL) < 0 ? text_copy("") : text;
}

static void begin_life(struct target *target, struct replica *replica, const char *behaviour) {
    tell(target, (struct target_event){.kind = TARGET_STARTED,
                                       .replica_id = replica->id,
                                       .incarnation = replica->incarnation,
                                       .pid = 4000000 + replica->incarnation});
    if (text_starts_with(behaviour, "hang")) {
        replica->hangs = true;
    } else if (text_starts_with(behaviour, "fail")) {
        tell_down(target, replica, true, "exit status 3",
                  "{\"error\":\"DeploymentError\",\"message\":\"model.onnx is no ONNX model\",\"causes\":[]}",
                  "loading\nmodel.onnx: bad magic\n");
        drop(find(target, replica->id));
    } else {
        if (text_starts_with(behaviour, "flaky")) tell_down(target, replica, false, "killed by signal 11", NULL, NULL);
        tell_up(target, replica);
    }
}

static struct replica *add_as(struct target *target, const struct target_replica_spec *spec, const char *behaviour) {
    struct replica *replica = add(target, spec->replica_id);
    replica->idle = spec->idle_priority;
    replica->plain = text_starts_with(behaviour, "plain");
    if (text_starts_with(behaviour, "encoder "))
        snprintf(replica->digest, sizeof replica->digest, "%s", behaviour + strlen("encoder "));
    return replica;
}

static int fake_start(struct target *target, const struct target_replica_spec *spec, struct error **ret_error) {
    call(target, "start", spec->replica_id);
    _cleanup_free_ char *behaviour = read_behaviour(spec->package_path);
    int result = 0;
    pthread_mutex_lock(&target->mutex);
    struct replica *replica = *find(target, spec->replica_id);
    if (target->failing_starts) {
        target->failing_starts--;
        error_set(ret_error, ERROR_UNAVAILABLE, "the machine is busy");
        result = error_mark_transient(ret_error);
    } else if (!replica) {
        target->started++;
        begin_life(target, add_as(target, spec, behaviour), behaviour);
    } else if (replica->up) {
        tell_up(target, replica);
    }
    pthread_mutex_unlock(&target->mutex);
    return result;
}

static int fake_stop(struct target *target, const char *replica_id, uint64_t drain_ms, struct error **ret_error) {
    (void)drain_ms;
    call(target, "stop", replica_id);
    pthread_mutex_lock(&target->mutex);
    struct replica **link = find(target, replica_id);
    int result = 0;
    if (target->failing_stops) {
        target->failing_stops--;
        error_set(ret_error, ERROR_UNAVAILABLE, "the machine is busy");
        result = error_mark_transient(ret_error);
    } else if (*link) {
        tell_down(target, *link, true, "stopped", NULL, NULL);
        drop(link);
    } else {
        tell_down(target, &(struct replica){.id = (char *)replica_id}, true, "stopped", NULL, NULL);
    }
    pthread_mutex_unlock(&target->mutex);
    return result;
}

static int fake_budget(struct target *target, uint64_t *ret_bytes, char **ret_source, struct error **ret_error) {
    (void)ret_error;
    pthread_mutex_lock(&target->mutex);
    *ret_bytes = target->budget_bytes;
    pthread_mutex_unlock(&target->mutex);
    *ret_source = text_copy("the test's budget");
    return 0;
}

const struct target_ops fake_target_ops = {
    .name = "fake", .check_config = fake_check_config, .start = fake_start, .stop = fake_stop, .budget = fake_budget};

/* ---- what tests do to it ---- */

struct target *fake_target_new(uint64_t budget_bytes) {
    struct target *target = mem_new(struct target);
    target->budget_bytes = budget_bytes;
    target->memory_bytes = 50000000;
    target->queue_end = &target->queue;
    pthread_mutex_init(&target->mutex, NULL);
    pthread_cond_init(&target->changed, NULL);
    pthread_create(&target->teller, NULL, tell_all, target);
    return target;
}

void fake_target_free(struct target *target) {
    pthread_mutex_lock(&target->mutex);
    target->ending = true;
    pthread_cond_broadcast(&target->changed);
    pthread_mutex_unlock(&target->mutex);
    pthread_join(target->teller, NULL);
    for (struct told *told = take_told(target); told; told = take_told(target)) free_told(told);
    while (target->replicas) drop(&target->replicas);
    pthread_cond_destroy(&target->changed);
    pthread_mutex_destroy(&target->mutex);
    free(target);
}

struct target *fake_target_clone(struct target *target) {
    struct target *clone = fake_target_new(0);
    pthread_mutex_lock(&target->mutex);
    clone->budget_bytes = target->budget_bytes;
    clone->incarnations = target->incarnations;
    for (const struct replica *replica = target->replicas; replica; replica = replica->next) {
        struct replica *copy = add(clone, replica->id);
        char *id = copy->id;
        struct replica *next = copy->next;
        *copy = *replica;
        copy->id = id;
        copy->next = next;
    }
    clone->incarnations = target->incarnations;
    pthread_mutex_unlock(&target->mutex);
    return clone;
}

void fake_target_attach(struct target *target, struct replicas *replicas) {
    pthread_mutex_lock(&target->mutex);
    target->listener = replicas;
    for (struct replica *replica = target->replicas; replica; replica = replica->next) {
        if (!replica->up && !replica->hangs) continue;
        if (replica->up)
            tell_up(target, replica);
        else
            tell(target, (struct target_event){.kind = TARGET_STARTED,
                                               .replica_id = replica->id,
                                               .incarnation = replica->incarnation,
                                               .pid = 4000000 + replica->incarnation});
    }
    tell(target, (struct target_event){.kind = TARGET_SYNCED});
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_detach(struct target *target) {
    pthread_mutex_lock(&target->mutex);
    target->listener = NULL;
    for (struct told *told = take_told(target); told; told = take_told(target)) free_told(told);
    while (target->telling) pthread_cond_wait(&target->changed, &target->mutex);
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_observe(struct target *target,
                         void (*on_call)(const char *call, const char *replica_id, void *context), void *context) {
    pthread_mutex_lock(&target->mutex);
    target->on_call = on_call;
    target->context = context;
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_set_budget(struct target *target, uint64_t budget_bytes) {
    pthread_mutex_lock(&target->mutex);
    target->budget_bytes = budget_bytes;
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_kill(struct target *target, const char *replica_id, bool final, const char *cause,
                      const char *log_tail) {
    pthread_mutex_lock(&target->mutex);
    struct replica **link = find(target, replica_id);
    if (*link) {
        (*link)->up = false;
        tell_down(target, *link, final, cause, NULL, log_tail);
        if (final) drop(link);
    }
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_revive(struct target *target, const char *replica_id) {
    pthread_mutex_lock(&target->mutex);
    struct replica *replica = *find(target, replica_id);
    if (replica) {
        replica->incarnation = ++target->incarnations;
        tell_up(target, replica);
    }
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_add_stray(struct target *target, const char *replica_id) {
    pthread_mutex_lock(&target->mutex);
    tell_up(target, add(target, replica_id));
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_clear(struct target *target) {
    pthread_mutex_lock(&target->mutex);
    while (target->replicas) drop(&target->replicas);
    pthread_mutex_unlock(&target->mutex);
}

bool fake_target_has(struct target *target, const char *replica_id) {
    pthread_mutex_lock(&target->mutex);
    const struct replica *replica = *find(target, replica_id);
    bool has = replica && replica->up;
    pthread_mutex_unlock(&target->mutex);
    return has;
}

size_t fake_target_count(struct target *target) {
    size_t count = 0;
    pthread_mutex_lock(&target->mutex);
    for (const struct replica *replica = target->replicas; replica; replica = replica->next) count++;
    pthread_mutex_unlock(&target->mutex);
    return count;
}

size_t fake_target_count_idle(struct target *target) {
    size_t count = 0;
    pthread_mutex_lock(&target->mutex);
    for (const struct replica *replica = target->replicas; replica; replica = replica->next) count += replica->idle;
    pthread_mutex_unlock(&target->mutex);
    return count;
}

size_t fake_target_started(struct target *target) {
    pthread_mutex_lock(&target->mutex);
    size_t started = target->started;
    pthread_mutex_unlock(&target->mutex);
    return started;
}

void fake_target_fail_starts(struct target *target, size_t count) {
    pthread_mutex_lock(&target->mutex);
    target->failing_starts = count;
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_fail_stops(struct target *target, size_t count) {
    pthread_mutex_lock(&target->mutex);
    target->failing_stops = count;
    pthread_mutex_unlock(&target->mutex);
}

void fake_target_report_memory(struct target *target, uint64_t bytes) {
    pthread_mutex_lock(&target->mutex);
    target->memory_bytes = bytes;
    pthread_mutex_unlock(&target->mutex);
}
