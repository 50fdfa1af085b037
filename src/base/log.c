#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/json_escape.h"
#include "base/memory.h"

#define LINE_MAXIMUM 16384u /* what is longer is cut off */
#define END_MAXIMUM 8u /* what ends a line, beyond that */

static const char *const level_names[] = {"debug", "info", "warning", "error"};
static const char *log_role = "slipway";
static const char *const format_names[] = {"text", "json"};
static atomic_int log_minimum = LOG_INFO;
static atomic_int log_form = LOG_TEXT;

void log_open(const char *role, enum log_level minimum) {
    log_role = role;
    atomic_store(&log_minimum, minimum);
}

bool log_is_on(enum log_level level) {
    return (int)level >= atomic_load_explicit(&log_minimum, memory_order_relaxed);
}

bool log_parse_level(const char *text, enum log_level *ret_level) {
    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
        if (strcmp(text, level_names[i])) continue;
        *ret_level = (enum log_level)i;
        return true;
    }
    return false;
}

void log_set_format(enum log_format format) {
    atomic_store(&log_form, format);
}

enum log_format log_format(void) {
    return (enum log_format)atomic_load_explicit(&log_form, memory_order_relaxed);
}

bool log_parse_format(const char *text, enum log_format *ret_format) {
    for (size_t i = 0; i < ARRAY_SIZE(format_names); i++) {
        if (strcmp(text, format_names[i])) continue;
        *ret_format = (enum log_format)i;
        return true;
    }
    return false;
}

void log_open_as(const char *role, const char *level_name, const char *format_name) {
    enum log_level level = LOG_INFO;
    enum log_format format = LOG_TEXT;
    log_parse_level(level_name, &level);
    log_parse_format(format_name, &format);
    log_open(role, level);
    log_set_format(format);
}

/* ---- as text --------------------------------------------------------------- */

static bool is_plain(const char *text) {
    if (!*text) return false;
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if (*at <= ' ' || *at == '"' || *at == '=' || *at == '\\' || *at == 0x7f) return false;
    return true;
}

static void append_escaped(struct buffer *line, const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '\n')
            buffer_append_text(line, "\\n");
        else if (*at < ' ' || *at == 0x7f)
            buffer_append_format(line, "\\x%02x", *at);
        else if (*at == '"' || *at == '\\')
            buffer_append_format(line, "\\%c", *at);
        else
            buffer_append(line, at, 1);
    }
}

static void write_text_head(struct buffer *line, const char *now, enum log_level level, const char *message) {
    buffer_append_format(line, "%s %s %s ", now, level_names[level], log_role);
    append_escaped(line, message);
}

static void write_text_pair(struct buffer *line, const char *key, const char *value) {
    buffer_append_format(line, " %s=", key);
    if (is_plain(value)) {
        buffer_append_text(line, value);
    } else {
        buffer_append_text(line, "\"");
        append_escaped(line, value);
        buffer_append_text(line, "\"");
    }
}

/* ---- as JSON --------------------------------------------------------------- */

static void write_json_head(struct buffer *line, const char *now, enum log_level level, const char *message) {
    buffer_append_format(line, "{\"time\":\"%s\",\"level\":\"%s\",\"role\":\"%s\",\"message\":\"", now,
                         level_names[level], log_role);
    json_escape(line, message, strlen(message));
    line->maximum++; /* whatever was cut off: its end is there */
    buffer_append_text(line, "\"");
}

/* Not at all when there is no room for its key; with the beginning of its value when that is too long. */
static void write_json_pair(struct buffer *line, const char *key, const char *value) {
    if (!buffer_append_format(line, ",\"%s\":\"", key)) return;
    json_escape(line, value, strlen(value));
    line->maximum++;
    buffer_append_text(line, "\"");
}

/* ---- a line ------------------------------------------------------------------ */

static const struct {
    void (*head)(struct buffer *line, const char *now, enum log_level level, const char *message);
    void (*pair)(struct buffer *line, const char *key, const char *value);
    const char *end;
} forms[] = {
    [LOG_TEXT] = {write_text_head, write_text_pair, "\n"}, [LOG_JSON] = {write_json_head, write_json_pair, "}\n"}};

void log_write(enum log_level level, const char *message, ...) {
    if (!log_is_on(level)) return;
    _cleanup_buffer_ struct buffer line = {.maximum = LINE_MAXIMUM};
    enum log_format form = log_format();
    char now[25];
    clock_format(clock_wall_ms(), now);
    forms[form].head(&line, now, level, message);
    va_list pairs;
    va_start(pairs, message);
    for (const char *key; (key = va_arg(pairs, const char *));) {
        const char *value = va_arg(pairs, const char *);
        if (value) forms[form].pair(&line, key, value);
    }
    va_end(pairs);
    line.maximum = line.size + END_MAXIMUM;
    buffer_append_text(&line, forms[form].end);
    if (write(STDERR_FILENO, line.bytes, line.size) < 0) return; /* nowhere to say so */
}
