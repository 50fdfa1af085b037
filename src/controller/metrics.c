/* The controller's share of /metrics: deployments, tasks, replicas, memory, disk, as Prometheus text 0.0.4. The gateway
 * appends it to its own. metrics_collections.c writes what is in the collections. */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "controller/api.h"
#include "controller/api_processes.h"
#include "controller/engine-internal.h"
#include "controller/metrics-internal.h"

static const double duration_bounds_s[] = {0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800};

/* What there is none of is told too, so that the first one is a change. */
static const char *const deployment_statuses[] = {
#define DEPLOYMENT_STATUS(constant, name) name,
#include "controller/statuses.def"
#undef DEPLOYMENT_STATUS
};
static const char *const task_statuses[] = {
#define TASK_STATUS(constant, name, finished) name,
#include "controller/statuses.def"
#undef TASK_STATUS
};
static const char *const task_kinds[] = {
#define KIND(name, ...) #name,
#include "controller/steps.def"
#undef KIND
    "collection_create", /* which has no steps */
};

static int add_deployments(struct store_transaction *tx, struct buffer *out) {
    int64_t counts[ARRAY_SIZE(deployment_statuses)] = {0};
    _cleanup_rows_ struct store_rows *rows = NULL;
    if (store_query(tx, &rows, NULL, "SELECT status, count(*) FROM deployments GROUP BY status", "") < 0) return -1;
    while (store_next(rows, NULL) > 0)
        for (size_t i = 0; i < ARRAY_SIZE(deployment_statuses); i++)
            if (!strcmp(store_text(rows, 0), deployment_statuses[i])) counts[i] = store_number(rows, 1);
    buffer_append_text(out, "# HELP slipway_deployments Deployments by status.\n# TYPE slipway_deployments gauge\n");
    for (size_t i = 0; i < ARRAY_SIZE(deployment_statuses); i++)
        buffer_append_format(out, "slipway_deployments{status=\"%s\"} %lld\n", deployment_statuses[i],
                             (long long)counts[i]);
    return 0;
}

static int add_tasks(struct store_transaction *tx, struct buffer *out) {
    int64_t counts[ARRAY_SIZE(task_kinds)][ARRAY_SIZE(task_statuses)] = {0};
    _cleanup_rows_ struct store_rows *rows = NULL;
    if (store_query(tx, &rows, NULL, "SELECT kind, status, count(*) FROM tasks GROUP BY kind, status", "") < 0)
        return -1;
    while (store_next(rows, NULL) > 0)
        for (size_t i = 0; i < ARRAY_SIZE(task_kinds); i++)
            for (size_t k = 0; k < ARRAY_SIZE(task_statuses); k++)
                if (!strcmp(store_text(rows, 0), task_kinds[i]) && !strcmp(store_text(rows, 1), task_statuses[k]))
                    counts[i][k] = store_number(rows, 2);
    buffer_append_text(out, "# HELP slipway_tasks Tasks on record by kind and status.\n# TYPE slipway_tasks gauge\n");
    for (size_t i = 0; i < ARRAY_SIZE(task_kinds); i++)
        for (size_t k = 0; strcmp(task_kinds[i], "retire_index") && k < ARRAY_SIZE(task_statuses); k++)
            buffer_append_format(out, "slipway_tasks{kind=\"%s\",status=\"%s\"} %lld\n", task_kinds[i],
                                 task_statuses[k], (long long)counts[i][k]);
    return 0;
}

struct histogram {
    char kind[32];
    uint64_t counts[ARRAY_SIZE(duration_bounds_s) + 1];
    double sum_s;
};

static void write_histogram(struct buffer *out, const struct histogram *histogram) {
    uint64_t total = 0;
    for (size_t i = 0; i < ARRAY_SIZE(duration_bounds_s); i++) {
        total += histogram->counts[i];
        buffer_append_format(out, "slipway_task_duration_seconds_bucket{kind=\"%s\",le=\"%g\"} %llu\n", histogram->kind,
                             duration_bounds_s[i], (unsigned long long)total);
    }
    total += histogram->counts[ARRAY_SIZE(duration_bounds_s)];
    buffer_append_format(out,
                         "slipway_task_duration_seconds_bucket{kind=\"%s\",le=\"+Inf\"} %llu\n"
                         "slipway_task_duration_seconds_sum{kind=\"%s\"} %g\n"
                         "slipway_task_duration_seconds_count{kind=\"%s\"} %llu\n",
                         histogram->kind, (unsigned long long)total, histogram->kind, histogram->sum_s, histogram->kind,
                         (unsigned long long)total);
}

static void observe(struct histogram *histogram, double seconds) {
    size_t bucket = 0;
    while (bucket < ARRAY_SIZE(duration_bounds_s) && seconds > duration_bounds_s[bucket]) bucket++;
    histogram->counts[bucket]++;
    histogram->sum_s += seconds;
}

/* From creation to the end, of the finished tasks on record. */
static int add_durations(struct store_transaction *tx, struct buffer *out) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    if (store_query(tx, &rows, NULL,
                    "SELECT kind, updated_at - created_at FROM tasks WHERE status NOT IN ('pending', 'processing') "
                    "ORDER BY kind",
                    "") < 0)
        return -1;
    buffer_append_text(out, "# HELP slipway_task_duration_seconds From a task's creation to its end.\n"
                            "# TYPE slipway_task_duration_seconds histogram\n");
    struct histogram histogram = {0};
    while (store_next(rows, NULL) > 0) {
        if (strcmp(histogram.kind, store_text(rows, 0)) != 0) {
            if (*histogram.kind) write_histogram(out, &histogram);
            histogram = (struct histogram){0};
            snprintf(histogram.kind, sizeof histogram.kind, "%s", store_text(rows, 0));
        }
        observe(&histogram, (double)store_number(rows, 1) / 1000);
    }
    if (*histogram.kind) write_histogram(out, &histogram);
    return 0;
}

struct replica_sample {
    char *deployment, *replica_id;
    int64_t revision;
    struct replica_view view;
};

/* The names of the replicas and what is known of them; the caller frees. */
static size_t load_replicas(struct controller *controller, struct store_transaction *tx,
                            struct replica_sample **ret_samples) {
    _cleanup_rows_ struct store_rows *rows = NULL;
    struct replica_sample *samples = NULL;
    size_t count = 0;
    if (store_query(tx, &rows, NULL,
                    "SELECT d.name, r.id, r.revision FROM replicas r JOIN deployments d ON d.id = r.deployment_id "
                    "ORDER BY d.name, r.id",
                    "") >= 0) {
        while (store_next(rows, NULL) > 0) {
            samples = mem_resize(samples, count + 1, sizeof *samples);
            samples[count] =
                (struct replica_sample){store_text_copy(rows, 0), store_text_copy(rows, 1), store_number(rows, 2), {0}};
            replicas_get(controller->replicas, samples[count].replica_id, &samples[count].view);
            count++;
        }
    }
    *ret_samples = samples;
    return count;
}

static void add_replica_family(struct buffer *out, const struct replica_sample *samples, size_t count, const char *name,
                               const char *type, const char *help, uint64_t (*value)(const struct replica_sample *)) {
    buffer_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    for (size_t i = 0; i < count; i++)
        buffer_append_format(out, "%s{deployment=\"%s\",revision=\"%lld\",replica=\"%s\"} %llu\n", name,
                             samples[i].deployment, (long long)samples[i].revision, samples[i].replica_id,
                             (unsigned long long)value(&samples[i]));
}

static uint64_t restarts_of(const struct replica_sample *sample) {
    return sample->view.restarts;
}

static uint64_t memory_of(const struct replica_sample *sample) {
    return sample->view.up ? process_memory_bytes(sample->view.pid) : 0;
}

static uint64_t is_up(const struct replica_sample *sample) {
    return sample->view.up;
}

static void add_replicas(struct controller *controller, struct store_transaction *tx, struct buffer *out) {
    struct replica_sample *samples = NULL;
    size_t count = load_replicas(controller, tx, &samples);
    add_replica_family(out, samples, count, "slipway_replica_up", "gauge", "Whether a replica is ready to serve.",
                       is_up);
    add_replica_family(out, samples, count, "slipway_replica_restarts_total", "counter",
                       "How often a replica was started again after it died.", restarts_of);
    add_replica_family(out, samples, count, "slipway_replica_memory_bytes", "gauge",
                       "Proportional set size of a replica's process.", memory_of);
    for (size_t i = 0; i < count; i++) {
        free(samples[i].deployment);
        free(samples[i].replica_id);
        replica_view_clear(&samples[i].view);
    }
    free(samples);
}

/* ---- memory and disk ---- */

static void add_number(struct buffer *out, const char *name, const char *help, uint64_t value) {
    buffer_append_format(out, "# HELP %s %s\n# TYPE %s gauge\n%s %llu\n", name, help, name, name,
                         (unsigned long long)value);
}

static void add_memory(struct controller *controller, struct store_transaction *tx, struct buffer *out) {
    uint64_t budget = 0;
    int64_t reserved = 0;
    _cleanup_free_ char *source = NULL;
    if (controller->target_ops->budget(controller->target, &budget, &source, NULL) < 0 ||
        store_ask_number(tx, &reserved, NULL, "SELECT coalesce(sum(reserved_bytes), 0) FROM replicas", "") < 0)
        return;
    add_number(out, "slipway_memory_budget_bytes", "What all replicas together may be given.", budget);
    add_number(out, "slipway_memory_reserved_bytes", "What replicas have been given.", (uint64_t)reserved);
}

static void add_disk(const struct controller *controller, struct buffer *out) {
    struct statvfs disk;
    if (statvfs(controller->settings->state, &disk) < 0) return;
    add_number(out, "slipway_state_disk_size_bytes", "Size of the file system that the state folder is on.",
               (uint64_t)disk.f_blocks * disk.f_frsize);
    add_number(out, "slipway_state_disk_free_bytes", "What is free of it.", (uint64_t)disk.f_bavail * disk.f_frsize);
}

/* ---- all of it ---- */

static char *write_metrics(struct controller *controller, const struct process_list *processes) {
    struct buffer out = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if (store_begin(controller->store, &tx, NULL) >= 0 && add_deployments(tx, &out) >= 0 && add_tasks(tx, &out) >= 0 &&
        add_durations(tx, &out) >= 0) {
        add_replicas(controller, tx, &out);
        add_memory(controller, tx, &out);
    }
    if (tx) store_rollback(TAKE(tx)); /* the collections take their time, and have their own */
    add_disk(controller, &out);
    process_list_write_metrics(processes, &out);
    metrics_write_collections(controller, &out);
    return buffer_take(&out, NULL);
}

int api_metrics(struct api_call *call, struct error **ret_error) {
    int result = api_check_parameters(call, 0, ret_error);
    if (result < 0) return result;
    call->answer = write_metrics(call->controller, call->processes);
    call->answer_size = strlen(call->answer);
    call->content_type = "text/plain; version=0.0.4; charset=utf-8";
    call->status = 200;
    return 0;
}
