/* What is counted, and how it is written as Prometheus text (exposition format 0.0.4). A series belongs to one revision
 * of one deployment and lives in its lane. Counting allocates nothing. Loop thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define GATEWAY_DURATION_BOUNDS 14 /* le in seconds: gateway_metrics.c */
#define GATEWAY_BATCH_BOUNDS 9
#define GATEWAY_CODES 24 /* different statuses that are told apart in one series; the last takes all others */

struct gateway_code_count {
    int status; /* 0: others */
    uint64_t count;
};

struct gateway_durations {
    uint64_t counts[GATEWAY_DURATION_BOUNDS + 1]; /* not cumulative; the last is above all bounds */
    uint64_t sum_us, count;
};

struct gateway_series {
    struct gateway_code_count codes[GATEWAY_CODES];
    struct gateway_durations durations, waits; /* waits: for a replica, of the requests that got one */
    uint64_t batches[GATEWAY_BATCH_BOUNDS + 1];
    uint64_t batch_sum, batch_count;
    uint64_t retries;
};

void gateway_codes_count(struct gateway_code_count codes[GATEWAY_CODES], int status);
void gateway_series_count(struct gateway_series *series, int status, uint64_t duration_us);
void gateway_durations_count(struct gateway_durations *durations, uint64_t duration_us);
void gateway_series_count_batch(struct gateway_series *series, uint64_t size);

/* A family's HELP and TYPE lines; its samples follow. */
void gateway_metrics_family(struct buffer *text, const char *name, const char *type, const char *help);
/* A sample with one value; `labels` is what stands between the braces, or "". */
void gateway_metrics_number(struct buffer *text, const char *name, const char *labels, uint64_t value);
void gateway_metrics_real(struct buffer *text, const char *name, const char *labels, double value);
/* deployment="…",revision="…" with the value escaped as the format asks. Caller frees. */
char *gateway_metrics_labels(const char *deployment, uint64_t revision);
/* One sample a status. */
void gateway_metrics_codes(struct buffer *text, const char *name, const char *labels,
                           const struct gateway_code_count codes[GATEWAY_CODES]);
/* The histograms of a series. */
void gateway_metrics_durations(struct buffer *text, const char *name, const char *labels,
                               const struct gateway_durations *durations);
void gateway_metrics_batches(struct buffer *text, const char *name, const char *labels,
                             const struct gateway_series *series);
/* Appends another exposition without the families that stand in `text` already, and without a last line that is cut
 * off, so that the whole stays valid. */
void gateway_metrics_append(struct buffer *text, const char *other, size_t size);
