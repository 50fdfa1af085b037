/* Threads of our own for what waits for a disk or computes (P6): one group for the logs, one for searches, so that
 * neither waits behind the other, nor the reading of routes behind both. Work is put and comes back on the loop thread;
 * in between it is its worker's. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/* Lives inside its owner. */
struct gateway_work {
    void (*run)(struct gateway_work *work); /* on a worker */
    void (*done)(struct gateway_work *work); /* on the loop, exactly once; may free or put it again */
    struct gateway_work *next;
};

struct gateway_workers;
/* threads: at least 1. */
struct gateway_workers *gateway_workers_new(uv_loop_t *loop, size_t threads);
void gateway_workers_put(struct gateway_workers *workers, struct gateway_work *work);
/* What was put and has not come back. */
size_t gateway_workers_busy(const struct gateway_workers *workers);
/* What was put still runs and comes back, also what that puts; after the last it ends its threads and frees itself. */
void gateway_workers_close(struct gateway_workers *workers);
