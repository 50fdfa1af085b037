/* Log lines on stderr, one line each: time, level, role, message, then key=value pairs.
 *
 *     log_write(LOG_INFO, "replica is up", "replica", id, "pid", pid_text, NULL);
 *
 * As text: `2026-11-21T13:09:00.123Z info supervisor replica is up replica=… pid=…`. As JSON (setting log_format), one
 * object: {"time":"…","level":"info","role":"supervisor","message":"replica is up","replica":"…","pid":"…"}.
 *
 * Only roles and the CLI log; library code returns errors. Threads may log at the same time: a line is one write(2).
 */
#pragma once
#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

/* Called once at start: who speaks, and from which level on. */
void log_open(const char *role, enum log_level minimum);
/* The same by names, as settings have them: "debug", "json". What is unknown counts as info and text: settings_check()
 * has refused it. Called again it changes both, also while others log. */
void log_open_as(const char *role, const char *level, const char *format);
bool log_is_on(enum log_level level);
/* Pairs of const char * (key, value) end with NULL; a NULL value leaves its pair out. Keys are written as they are:
 * lower-case words, none of time, level, role, message, none twice. Values with spaces, quotes or control characters
 * are quoted and escaped, so that no input can forge a line; a line is cut off at 16 KiB. */
void log_write(enum log_level level, const char *message, ...) __attribute__((sentinel));
bool log_parse_level(const char *text, enum log_level *ret_level);
/* The form of the lines from now on; text at first. */
void log_set_format(enum log_format format);
enum log_format log_format(void);
bool log_parse_format(const char *text, enum log_format *ret_format);
