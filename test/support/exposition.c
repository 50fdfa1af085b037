#include "support/exposition.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAMILIES 256
#define SAMPLES 4096

struct reader {
    const char *families[FAMILIES];
    size_t family_sizes[FAMILIES], family_count;
    const char *samples[SAMPLES];
    size_t sample_sizes[SAMPLES], sample_count;
    bool has_type, is_histogram;
    double bucket; /* the last one's value */
    bool bucket_was_infinite, in_buckets;
};

static char fault[512];

static const char *say(const char *line, size_t size, const char *what) {
    snprintf(fault, sizeof fault, "%s: %.*s", what, (int)(size < 200 ? size : 200), line);
    return fault;
}

static size_t name_size(const char *at, bool colons) {
    size_t size = 0;
    while (isalpha((unsigned char)at[size]) || at[size] == '_' || (colons && at[size] == ':') ||
           (size && isdigit((unsigned char)at[size])))
        size++;
    return size;
}

/* Behind the closing brace, or NULL. */
static const char *skip_labels(const char *at) {
    while (*at != '}') {
        size_t size = name_size(at, false);
        if (!size || at[size] != '=' || at[size + 1] != '"') return NULL;
        for (at += size + 2; *at != '"'; at++) {
            if (*at == '\n' || !*at) return NULL;
            if (*at == '\\' && !strchr("\\\"n", *++at)) return NULL;
        }
        at++;
        if (*at == ',')
            at++;
        else if (*at != '}')
            return NULL;
    }
    return at + 1;
}

static const char *read_family(struct reader *reader, const char *line, size_t size) {
    size_t name = name_size(line + 7, true);
    if (!name || line[7 + name] != ' ') return say(line, size, "no name");
    size_t count = reader->family_count;
    bool is_current =
        count && reader->family_sizes[count - 1] == name && !memcmp(reader->families[count - 1], line + 7, name);
    if (!memcmp(line, "# TYPE ", 7)) {
        if (!is_current || reader->has_type) return say(line, size, "TYPE without its HELP");
        reader->has_type = true;
        const char *type = line + 8 + name;
        size_t type_size = size - 8 - name;
        reader->is_histogram = type_size == 9 && !memcmp(type, "histogram", 9);
        bool is_plain =
            (type_size == 7 && !memcmp(type, "counter", 7)) || (type_size == 5 && !memcmp(type, "gauge", 5));
        return reader->is_histogram || is_plain ? NULL : say(line, size, "unknown type");
    }
    for (size_t i = 0; i < count; i++)
        if (reader->family_sizes[i] == name && !memcmp(reader->families[i], line + 7, name))
            return say(line, size, "a family stands twice");
    if (count == FAMILIES) return say(line, size, "too many families");
    reader->families[count] = line + 7;
    reader->family_sizes[count] = name;
    reader->family_count++;
    reader->has_type = false;
    return NULL;
}

static const char *check_histogram(struct reader *reader, const char *line, size_t size, const char *suffix,
                                   double value) {
    if (!strncmp(suffix, "_bucket{", 8)) {
        bool is_infinite = memmem(line, size, "le=\"+Inf\"", 9);
        if (!memmem(line, size, "le=\"", 4)) return say(line, size, "a bucket without its bound");
        if (reader->in_buckets && value < reader->bucket) return say(line, size, "buckets fall");
        reader->in_buckets = !is_infinite;
        reader->bucket = value;
        reader->bucket_was_infinite = is_infinite;
        return NULL;
    }
    if (!reader->bucket_was_infinite || reader->in_buckets) return say(line, size, "buckets do not end with +Inf");
    if (!strncmp(suffix, "_count", 6))
        return value == reader->bucket ? NULL : say(line, size, "count is not the last bucket");
    return !strncmp(suffix, "_sum", 4) ? NULL : say(line, size, "not a histogram's sample");
}

static const char *read_sample(struct reader *reader, const char *line, size_t size) {
    size_t name = name_size(line, true);
    const char *at = line + name;
    if (name && *at == '{') at = skip_labels(at + 1);
    if (!name || !at || *at != ' ') return say(line, size, "malformed sample");
    char *end;
    double value = strtod(at + 1, &end);
    if (end == at + 1 || end != line + size) return say(line, size, "malformed value");
    if (!reader->family_count || !reader->has_type) return say(line, size, "a sample without its family");
    size_t key = (size_t)(at - line);
    for (size_t i = 0; i < reader->sample_count; i++)
        if (reader->sample_sizes[i] == key && !memcmp(reader->samples[i], line, key))
            return say(line, size, "a sample stands twice");
    if (reader->sample_count == SAMPLES) return say(line, size, "too many samples");
    reader->samples[reader->sample_count] = line;
    reader->sample_sizes[reader->sample_count++] = key;
    size_t family = reader->family_sizes[reader->family_count - 1];
    if (name < family || memcmp(line, reader->families[reader->family_count - 1], family))
        return say(line, size, "a sample of another family");
    if (reader->is_histogram) return check_histogram(reader, line, size, line + family, value);
    return name == family ? NULL : say(line, size, "a sample of another family");
}

const char *exposition_fault(const char *text, size_t size) {
    struct reader *reader = calloc(1, sizeof *reader);
    const char *found = NULL;
    if (strlen(text) != size) found = "a NUL";
    if (!found && size && text[size - 1] != '\n') found = "the last line has no end";
    while (!found && *text) {
        size_t line = strcspn(text, "\n");
        if (!line)
            found = "an empty line";
        else if (line > 8 && (!memcmp(text, "# HELP ", 7) || !memcmp(text, "# TYPE ", 7)))
            found = read_family(reader, text, line);
        else
            found = read_sample(reader, text, line);
        text += line + 1;
    }
    free(reader);
    return found;
}

double exposition_value(const char *text, const char *sample) {
    size_t size = strlen(sample);
    for (; *text; text += strcspn(text, "\n") + 1) {
        if (!strncmp(text, sample, size) && text[size] == ' ') return strtod(text + size, NULL);
        if (!text[strcspn(text, "\n")]) break;
    }
    return -1;
}
