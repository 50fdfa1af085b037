/* A service that answers as a test's script says, for the tests of libslipway: one thread, one connection after the
 * other, on a port of loopback. Everything here ends the test program when it fails.
 *
 * It leaves out all of HTTP but requests with a Content-Length or no body, and answers with a Content-Length. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* An answer to each request whose "METHOD path" begins with `request`; the first row that fits and is not used up is
 * taken. times 0: as often as it is asked. Without a row that fits: 404. */
struct scripted_answer {
    const char *request;
    int status;
    const char *body; /* NULL: {} */
    unsigned times;
};

struct scripted;
struct scripted *scripted_start(const struct scripted_answer *answers, size_t count); /* `answers` are borrowed */
/* "http://127.0.0.1:<port>"; lives as long as it. */
const char *scripted_url(const struct scripted *scripted);
/* What has been asked, "METHOD path\n<content type>\n<body>" each, oldest first; owned by it. Only between the calls of
 * the client. */
size_t scripted_count(const struct scripted *scripted);
const char *scripted_request(const struct scripted *scripted, size_t place);
/* How many requests began so. */
size_t scripted_count_of(const struct scripted *scripted, const char *request);
void scripted_stop(struct scripted *scripted);
