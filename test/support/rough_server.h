/* A web server that says what a test wrote, byte for byte: truths, lies, halves and nothing. One thread, one connection
 * after the other on a port of loopback, one request each. Everything here ends the test program when it fails. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct rough_answer {
    const char *bytes; /* head and body; "PORT" in it becomes `other_port`, for redirects. NULL: nothing is said */
    size_t size; /* 0: it is text */
    bool hangs; /* after that the connection stays open until the client closes it, instead of ending */
};

struct rough_server;
/* Answers in order, the last one for ever. They are borrowed. */
struct rough_server *rough_server_start(const struct rough_answer *answers, size_t count, int other_port);
/* The same, by a function that is told each request; what it gives is borrowed until it is called again. */
struct rough_server *rough_server_start_with(struct rough_answer (*answer)(void *context, const char *request),
                                             void *context);
int rough_server_port(const struct rough_server *server);
/* Between the calls of the client: how many requests came, and one of them, head and body; owned by it. Without a
 * function, it takes 64. */
size_t rough_server_count(struct rough_server *server);
const char *rough_server_request(struct rough_server *server, size_t place);
void rough_server_stop(struct rough_server *server);
