#include "gateway/gateway_metrics-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Seconds; microseconds beside them, so that counting compares whole numbers. */
static const struct {
    const char *le;
    uint64_t us;
} duration_bounds[GATEWAY_DURATION_BOUNDS] = {
    {"0.0005", 500},  {"0.001", 1000},  {"0.0025", 2500}, {"0.005", 5000},  {"0.01", 10000},
    {"0.025", 25000}, {"0.05", 50000},  {"0.1", 100000},  {"0.25", 250000}, {"0.5", 500000},
    {"1", 1000000},   {"2.5", 2500000}, {"10", 10000000}, {"60", 60000000},
};
static const uint64_t batch_bounds[GATEWAY_BATCH_BOUNDS] = {1, 2, 4, 8, 16, 32, 64, 128, 256};

/* ---- counting ------------------------------------------------------------ */

void gateway_codes_count(struct gateway_code_count codes[GATEWAY_CODES], int status) {
    for (size_t i = 0; i < GATEWAY_CODES; i++) {
        if (codes[i].status != status && codes[i].count && i + 1 < GATEWAY_CODES) continue;
        if (!codes[i].count) codes[i].status = i + 1 < GATEWAY_CODES ? status : 0;
        codes[i].count++;
        return;
    }
}

void gateway_durations_count(struct gateway_durations *durations, uint64_t duration_us) {
    size_t bound = 0;
    while (bound < GATEWAY_DURATION_BOUNDS && duration_us > duration_bounds[bound].us) bound++;
    durations->counts[bound]++;
    durations->sum_us += duration_us;
    durations->count++;
}

void gateway_series_count(struct gateway_series *series, int status, uint64_t duration_us) {
    gateway_codes_count(series->codes, status);
    gateway_durations_count(&series->durations, duration_us);
}

void gateway_series_count_batch(struct gateway_series *series, uint64_t size) {
    size_t bound = 0;
    while (bound < GATEWAY_BATCH_BOUNDS && size > batch_bounds[bound]) bound++;
    series->batches[bound]++;
    series->batch_sum += size;
    series->batch_count++;
}

/* ---- writing ------------------------------------------------------------- */

void gateway_metrics_family(struct buffer *text, const char *name, const char *type, const char *help) {
    buffer_append_format(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_name(struct buffer *text, const char *name, const char *suffix, const char *labels,
                       const char *more) {
    bool is_labelled = labels[0] || more[0];
    buffer_append_format(text, "%s%s%s%s%s%s%s", name, suffix, is_labelled ? "{" : "", labels,
                         labels[0] && more[0] ? "," : "", more, is_labelled ? "} " : " ");
}

void gateway_metrics_number(struct buffer *text, const char *name, const char *labels, uint64_t value) {
    write_name(text, name, "", labels, "");
    buffer_append_format(text, "%llu\n", (unsigned long long)value);
}

void gateway_metrics_real(struct buffer *text, const char *name, const char *labels, double value) {
    write_name(text, name, "", labels, "");
    buffer_append_format(text, "%.6f\n", value);
}

/* Backslash, quote and line feed are escaped (exposition format). */
char *gateway_metrics_labels(const char *deployment, uint64_t revision) {
    struct buffer text = {0};
    buffer_append_text(&text, "deployment=\"");
    for (; *deployment; deployment++) {
        if (*deployment == '\\' || *deployment == '"') buffer_append(&text, "\\", 1);
        buffer_append(&text, *deployment == '\n' ? "\\n" : deployment, *deployment == '\n' ? 2 : 1);
    }
    buffer_append_format(&text, "\",revision=\"%llu\"", (unsigned long long)revision);
    return buffer_take(&text, NULL);
}

void gateway_metrics_codes(struct buffer *text, const char *name, const char *labels,
                           const struct gateway_code_count codes[GATEWAY_CODES]) {
    for (size_t i = 0; i < GATEWAY_CODES && codes[i].count; i++) {
        char code[24] = "code=\"other\"";
        if (codes[i].status) snprintf(code, sizeof code, "code=\"%d\"", codes[i].status);
        write_name(text, name, "", labels, code);
        buffer_append_format(text, "%llu\n", (unsigned long long)codes[i].count);
    }
}

static void write_bucket(struct buffer *text, const char *name, const char *labels, const char *le, uint64_t value) {
    char bound[32];
    snprintf(bound, sizeof bound, "le=\"%s\"", le);
    write_name(text, name, "_bucket", labels, bound);
    buffer_append_format(text, "%llu\n", (unsigned long long)value);
}

void gateway_metrics_durations(struct buffer *text, const char *name, const char *labels,
                               const struct gateway_durations *durations) {
    uint64_t sum = 0;
    for (size_t i = 0; i < GATEWAY_DURATION_BOUNDS; i++)
        write_bucket(text, name, labels, duration_bounds[i].le, sum += durations->counts[i]);
    write_bucket(text, name, labels, "+Inf", durations->count);
    write_name(text, name, "_sum", labels, "");
    buffer_append_format(text, "%.6f\n", (double)durations->sum_us / 1e6);
    write_name(text, name, "_count", labels, "");
    buffer_append_format(text, "%llu\n", (unsigned long long)durations->count);
}

void gateway_metrics_batches(struct buffer *text, const char *name, const char *labels,
                             const struct gateway_series *series) {
    uint64_t sum = 0;
    for (size_t i = 0; i < GATEWAY_BATCH_BOUNDS; i++) {
        char le[24];
        snprintf(le, sizeof le, "%llu", (unsigned long long)batch_bounds[i]);
        write_bucket(text, name, labels, le, sum += series->batches[i]);
    }
    write_bucket(text, name, labels, "+Inf", series->batch_count);
    write_name(text, name, "_sum", labels, "");
    buffer_append_format(text, "%llu\n", (unsigned long long)series->batch_sum);
    write_name(text, name, "_count", labels, "");
    buffer_append_format(text, "%llu\n", (unsigned long long)series->batch_count);
}

/* ---- another process's figures ------------------------------------------- */

/* The family that a HELP or TYPE line is about, or NULL. */
static const char *family_of(const char *line, size_t size, size_t *ret_size) {
    if (size < 8 || (memcmp(line, "# HELP ", 7) && memcmp(line, "# TYPE ", 7))) return NULL;
    *ret_size = 0;
    while (7 + *ret_size < size && line[7 + *ret_size] != ' ') ++*ret_size;
    return line + 7;
}

static bool stands_in(const struct buffer *text, size_t until, const char *family, size_t size) {
    for (const char *line = text->bytes; line && line < text->bytes + until;) {
        const char *end = memchr(line, '\n', (size_t)(text->bytes + until - line));
        if (!end) return false;
        size_t other_size;
        const char *other = family_of(line, (size_t)(end - line), &other_size);
        if (other && other_size == size && !memcmp(other, family, size)) return true;
        line = end + 1;
    }
    return false;
}

void gateway_metrics_append(struct buffer *text, const char *other, size_t size) {
    size_t ours = text->size;
    bool is_left_out = true; /* samples before the first family are nobody's */
    for (const char *end = other + size; other < end;) {
        const char *line_end = memchr(other, '\n', (size_t)(end - other));
        if (!line_end) return; /* cut off: the last line is not whole */
        size_t line = (size_t)(line_end - other), family_size;
        const char *family = family_of(other, line, &family_size);
        if (family) is_left_out = stands_in(text, ours, family, family_size);
        if (!is_left_out) buffer_append(text, other, line + 1);
        other = line_end + 1;
    }
}
