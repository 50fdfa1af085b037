/* `slipway top`: command_top.c runs it, top_figures.c makes figures of what the service tells, top_draw.c a page of
 * them.
 */
#pragma once
#include "base/buffer.h"
#include "cli/cli-internal.h"

#define TOP_BOUNDS 64 /* buckets of a histogram */

/* What /metrics counts of one deployment (all its revisions) or one collection. */
struct top_series {
    char *name;
    bool is_collection;
    double requests, errors, queue, memory_bytes, replicas_up;
    double bounds[TOP_BOUNDS], buckets[TOP_BOUNDS]; /* seconds, ascending; how many took at most so long */
    size_t bound_count;
};

/* One look at the service; clear with top_look_clear(). */
struct top_look {
    uint64_t at_us;
    struct top_series *series;
    size_t count;
    yyjson_doc *deployments, *collections, *tasks, *processes;
};
void top_look_clear(struct top_look *look);
/* An error as the library's calls give it. */
int top_look_take(struct slipway *service, struct top_look *ret_look, struct slipway_error **ret_error);
/* The figures in a text of Prometheus; for tests as well. */
void top_read_metrics(const char *text, struct top_look *look);
const struct top_series *top_find(const struct top_look *look, const char *name, bool is_collection);

/* What happened between two looks. */
struct top_rates {
    double requests, errors; /* a second */
    double median_s, p99_s; /* negative: nothing was answered */
};
struct top_rates top_compare(const struct top_look *before, const struct top_look *now, const char *name,
                             bool is_collection);

/* Appends the page: at most `height` lines of at most `width` columns; 0: no limit. */
void top_draw(struct buffer *page, const struct top_look *before, const struct top_look *now, size_t width,
              size_t height);
