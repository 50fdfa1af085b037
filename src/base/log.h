/* Log lines on stderr, one line each: time, level, role, message, then key=value pairs.
 *
 *     log_write(LOG_INFO, "replica is up", "replica", id, "pid", pid_text, NULL);
 *
 * Only roles and the CLI log; library code returns errors. Threads may log at the same time: a line is one write(2).
 */
#pragma once
#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

/* Called once at start: who speaks, and from which level on. */
void log_open(const char *role, enum log_level minimum);
bool log_is_on(enum log_level level);
/* Pairs of const char * (key, value) end with NULL; a NULL value leaves its pair out. Values with spaces, quotes or
 * control characters are quoted and escaped, so that no input can forge a line. */
void log_write(enum log_level level, const char *message, ...) __attribute__((sentinel));
bool log_parse_level(const char *text, enum log_level *ret_level);
