/* The access log: one line a request, gathered and written in batches on a worker, so that neither a slow terminal nor
 * a full pipe holds up the loop. Lines never have the query (it may carry a token) nor bodies. What does not fit while
 * the outside does not read is left out and counted. Their form is that of the process's log (base/log.h). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct gateway_access_log;

struct gateway_access {
    const char *method, *path; /* without the query */
    int status;
    uint64_t bytes, duration_us;
    const char *request_id;
    const char *token; /* its name, never itself; NULL: nobody is asked for one */
    const char *collection, *deployment, *replica; /* NULL: none */
    const char *trace_id; /* 32 hexadecimal digits; NULL: it is not traced */
    uint64_t revision;
};

/* Writes to `descriptor`, which stays the caller's. */
struct gateway_access_log *gateway_access_log_new(uv_loop_t *loop, int descriptor);
void gateway_access_log_add(struct gateway_access_log *log, const struct gateway_access *access);
uint64_t gateway_access_log_left_out(const struct gateway_access_log *log);
/* Writes what there is, here and now, and closes its handles. Lines may still come, of the requests that are broken
 * off. NULL is fine. */
void gateway_access_log_close(struct gateway_access_log *log);
/* Writes those too. When the loop has run its last; NULL is fine. */
void gateway_access_log_free(struct gateway_access_log *log);
