#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/top-internal.h"

/* ---- Prometheus text ---- */

enum figure { FIGURE_REQUESTS, FIGURE_BUCKET, FIGURE_QUEUE, FIGURE_MEMORY, FIGURE_UP };

static const struct {
    const char *metric, *label;
    enum figure figure;
} figures[] = {
    {"slipway_requests_total", "deployment", FIGURE_REQUESTS},
    {"slipway_request_duration_seconds_bucket", "deployment", FIGURE_BUCKET},
    {"slipway_queue_length", "deployment", FIGURE_QUEUE},
    {"slipway_replica_memory_bytes", "deployment", FIGURE_MEMORY},
    {"slipway_replica_up", "deployment", FIGURE_UP},
    {"slipway_searches_total", "collection", FIGURE_REQUESTS},
    {"slipway_search_duration_seconds_bucket", "collection", FIGURE_BUCKET},
    {"slipway_document_queue_length", "collection", FIGURE_QUEUE},
};

/* The value of a label in `labels` ("a="b",c="d"}"), as a slice; NULL when it has none. Names have no escapes. */
static const char *find_label(const char *labels, const char *name, size_t *ret_size) {
    size_t length = strlen(name);
    for (const char *at = labels; *at && *at != '}';) {
        const char *equals = strchr(at, '=');
        if (!equals || equals[1] != '"') return NULL;
        const char *value = equals + 2, *end = strchr(value, '"');
        if (!end) return NULL;
        *ret_size = (size_t)(end - value);
        if ((size_t)(equals - at) == length && !memcmp(at, name, length)) return value;
        at = end + 1 + (end[1] == ',');
    }
    return NULL;
}

static struct top_series *take_series(struct top_look *look, const char *name, size_t size, bool is_collection) {
    for (size_t i = 0; i < look->count; i++) {
        struct top_series *series = &look->series[i];
        if (series->is_collection == is_collection && !strncmp(series->name, name, size) && !series->name[size])
            return series;
    }
    look->series = mem_resize(look->series, look->count + 1, sizeof *look->series);
    look->series[look->count] =
        (struct top_series){.name = text_copy_bytes(name, size), .is_collection = is_collection};
    return &look->series[look->count++];
}

/* Buckets of all revisions together; each histogram has the same bounds in the same order. */
static void add_bucket(struct top_series *series, const char *labels, double value) {
    size_t size, at = 0;
    const char *text = find_label(labels, "le", &size);
    double bound = text ? strtod(text, NULL) : INFINITY; /* "+Inf" is one that strtod knows */
    while (at < series->bound_count && series->bounds[at] < bound) at++;
    if (at == series->bound_count && at < TOP_BOUNDS) {
        series->bounds[series->bound_count++] = bound;
        series->buckets[at] = 0;
    }
    if (at < TOP_BOUNDS) series->buckets[at] += value;
}

static void add(struct top_series *series, enum figure figure, const char *labels, double value) {
    size_t size;
    const char *code;
    switch (figure) {
    case FIGURE_REQUESTS:
        series->requests += value;
        code = find_label(labels, "code", &size);
        if (code && *code == '5') series->errors += value;
        break;
    case FIGURE_BUCKET: add_bucket(series, labels, value); break;
    case FIGURE_QUEUE: series->queue += value; break;
    case FIGURE_MEMORY: series->memory_bytes += value; break;
    case FIGURE_UP: series->replicas_up += value; break;
    }
}

static void take_sample(struct top_look *look, const char *line) {
    size_t length = strcspn(line, "{ \n"), size;
    if (line[length] != '{') return;
    const char *labels = line + length + 1, *end = strchr(labels, '}');
    if (!end) return;
    for (size_t i = 0; i < ARRAY_SIZE(figures); i++) {
        if (strlen(figures[i].metric) != length || strncmp(figures[i].metric, line, length) != 0) continue;
        const char *name = find_label(labels, figures[i].label, &size);
        bool is_collection = text_equal(figures[i].label, "collection");
        if (name) add(take_series(look, name, size, is_collection), figures[i].figure, labels, strtod(end + 1, NULL));
    }
}

void top_read_metrics(const char *text, struct top_look *look) {
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (*line != '#') take_sample(look, line);
}

const struct top_series *top_find(const struct top_look *look, const char *name, bool is_collection) {
    for (size_t i = 0; i < look->count; i++)
        if (look->series[i].is_collection == is_collection && text_equal(look->series[i].name, name))
            return &look->series[i];
    return NULL;
}

/* ---- between two looks ---- */

/* The time that a share of the answers took at most, between the bounds of its bucket in proportion. */
static double quantile(const double *counts, const struct top_series *series, double share) {
    double all = series->bound_count ? counts[series->bound_count - 1] : 0, wanted = all * share;
    if (all <= 0) return -1;
    for (size_t i = 0; i < series->bound_count; i++) {
        if (counts[i] < wanted) continue;
        double low = i ? series->bounds[i - 1] : 0, under = i ? counts[i - 1] : 0;
        if (isinf(series->bounds[i])) return low;
        double part = counts[i] > under ? (wanted - under) / (counts[i] - under) : 1;
        return low + (series->bounds[i] - low) * part;
    }
    return series->bounds[series->bound_count - 1];
}

static double grown(double before, double now) {
    return now >= before ? now - before : now; /* a gateway that started again counts from 0 */
}

struct top_rates top_compare(const struct top_look *before, const struct top_look *now, const char *name,
                             bool is_collection) {
    static const struct top_series none = {0};
    struct top_rates rates = {.median_s = -1, .p99_s = -1};
    const struct top_series *old = top_find(before, name, is_collection), *new = top_find(now, name, is_collection);
    double seconds = (double)(now->at_us - before->at_us) / 1e6, counts[TOP_BOUNDS];
    if (!new || seconds <= 0) return rates;
    if (!old) old = &none;
    rates.requests = grown(old->requests, new->requests) / seconds;
    rates.errors = grown(old->errors, new->errors) / seconds;
    for (size_t i = 0; i < new->bound_count; i++)
        counts[i] = grown(i < old->bound_count ? old->buckets[i] : 0, new->buckets[i]);
    rates.median_s = quantile(counts, new, 0.5);
    rates.p99_s = quantile(counts, new, 0.99);
    return rates;
}

/* ---- a look ---- */

void top_look_clear(struct top_look *look) {
    for (size_t i = 0; i < look->count; i++) free(look->series[i].name);
    free(look->series);
    yyjson_doc_free(look->deployments);
    yyjson_doc_free(look->collections);
    yyjson_doc_free(look->tasks);
    yyjson_doc_free(look->processes);
    *look = (struct top_look){0};
}

static int take_list(struct slipway *service, const char *path, yyjson_doc **ret_document,
                     struct slipway_error **ret_error) {
    char *json = NULL;
    int result = slipway_get_json(service, path, &json, NULL, ret_error);
    if (result < 0) return result;
    *ret_document = yyjson_read(json, strlen(json), 0);
    slipway_text_free(json);
    return 0;
}

int top_look_take(struct slipway *service, struct top_look *ret_look, struct slipway_error **ret_error) {
    struct top_look look = {0};
    char *metrics = NULL;
    int result = slipway_get_json(service, "/metrics", &metrics, NULL, ret_error); /* as it came */
    look.at_us = clock_monotonic_us();
    if (result >= 0) result = take_list(service, "/v1/deployments?limit=1000", &look.deployments, ret_error);
    if (result >= 0) result = take_list(service, "/v1/collections?limit=1000", &look.collections, ret_error);
    if (result >= 0) result = take_list(service, "/v1/tasks?status=processing&limit=100", &look.tasks, ret_error);
    if (result >= 0) result = take_list(service, "/v1/processes?limit=1000", &look.processes, ret_error);
    if (result >= 0) top_read_metrics(metrics, &look);
    slipway_text_free(metrics);
    if (result < 0)
        top_look_clear(&look);
    else
        *ret_look = look;
    return result;
}
