#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"

static const char *const level_names[] = {"debug", "info", "warning", "error"};
static const char *log_role = "slipway";
static enum log_level log_minimum = LOG_INFO;

void log_open(const char *role, enum log_level minimum) {
    log_role = role;
    log_minimum = minimum;
}

bool log_is_on(enum log_level level) {
    return level >= log_minimum;
}

bool log_parse_level(const char *text, enum log_level *ret_level) {
    for (size_t i = 0; i < ARRAY_SIZE(level_names); i++) {
        if (strcmp(text, level_names[i])) continue;
        *ret_level = (enum log_level)i;
        return true;
    }
    return false;
}

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

void log_write(enum log_level level, const char *message, ...) {
    if (level < log_minimum) return;
    _cleanup_buffer_ struct buffer line = {.maximum = 16384};
    char now[25];
    clock_format(clock_wall_ms(), now);
    buffer_append_format(&line, "%s %s %s ", now, level_names[level], log_role);
    append_escaped(&line, message);
    va_list pairs;
    va_start(pairs, message);
    for (const char *key; (key = va_arg(pairs, const char *));) {
        const char *value = va_arg(pairs, const char *);
        if (!value) continue;
        buffer_append_format(&line, " %s=", key);
        if (is_plain(value)) {
            buffer_append_text(&line, value);
        } else {
            buffer_append_text(&line, "\"");
            append_escaped(&line, value);
            buffer_append_text(&line, "\"");
        }
    }
    va_end(pairs);
    buffer_append_text(&line, "\n");
    if (write(STDERR_FILENO, line.bytes, line.size) < 0) return; /* nowhere to say so */
}
