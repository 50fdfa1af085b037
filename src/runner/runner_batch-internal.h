/* Batching: which of the waiting texts or requests run together, and when. The hot path.
 *
 * A request is made of units (the texts of an embedding request; the whole of a tensor request). One inference thread
 * works in rounds: it takes from the waiting requests, one unit of each in turn, so that a request of a thousand texts
 * does not hold up a request of one; sorts what it took by length, and cuts it into groups that cost least (padding
 * against the fixed cost of a run) under two ceilings. A group is one call of `run`. What comes in during a round goes
 * into the next.
 *
 * A unit alone never waits. After a round, the thread lingers for as many to be there as that round had and as were
 * waiting when it ended: closed-loop clients, all answered at the same moment, would otherwise fall into two half
 * batches that alternate, and stay in them. It lingers at most 2 % of the time that the round took since something
 * last came in or went out, and at most three times that in all: writing the answers of a round and reading the next
 * requests is itself some percent of a round where one core does it all, and it is work, not waiting. A request that
 * was abandoned is dropped before it runs. When a group of several fails, its units run again alone, so that one bad
 * request does not fail its neighbours.
 *
 * Threads: submit and abandon from any thread; run and finished are called on the inference thread.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct batch_request;

struct batch_unit {
    struct batch_request *request;
    size_t rows; /* of the batch dimension; 1 for a text */
    size_t length; /* tokens; what is padded to the longest of a group. 0: no padding */
    const void *signature; /* only units with equal bytes here run together; NULL: none */
    size_t signature_size;
    void *payload; /* the owner's */
};

/* Embedded in the owner's own request. The owner fills `units`; submit fills the rest. */
struct batch_request {
    struct batch_unit *units;
    size_t unit_count;
    atomic_bool abandoned; /* nobody waits any more */
    size_t largest_batch; /* units of the largest group that a unit of it ran in; 0: none ran */
    struct error *error; /* the first failure; the owner frees it */
    uint64_t queued_us; /* when it was submitted */
    uint64_t waited_us; /* until its first unit ran */
    uint64_t ran_us; /* from then until its last unit had run */
    size_t taken, unfinished; /* the batcher's */
    struct batch_request *next;
};

struct batch_statistics {
    atomic_uint_fast64_t batches, units, run_us, queued_units;
    atomic_uint_fast64_t sizes[8]; /* groups of up to 1, 2, 4, 8, 16, 32, 64 and more units */
};

struct batch_config {
    size_t rows_maximum; /* in a group; a single unit may have more */
    size_t tokens_maximum; /* rows × longest length in a group; likewise */
    bool together; /* false: every unit runs alone */
    /* Runs the group; on failure nothing of it counts. */
    int (*run)(void *context, struct batch_unit *const *units, size_t count, struct error **ret_error);
    /* All units of the request have run, or it failed or was abandoned. The request is the owner's again. */
    void (*finished)(void *context, struct batch_request *request);
    void *context;
};

struct batcher;
/* Starts the inference thread. */
struct batcher *batcher_new(const struct batch_config *config);
/* Ends the thread after what is queued has run. */
void batcher_free(struct batcher *batcher);
void batcher_submit(struct batcher *batcher, struct batch_request *request);
/* Tells that answers have gone out, so that the thread lingers on. From any thread. */
void batcher_stir(struct batcher *batcher);
static inline void batch_abandon(struct batch_request *request) {
    atomic_store(&request->abandoned, true);
}
const struct batch_statistics *batcher_statistics(const struct batcher *batcher);

/* The planning alone, for tests. Sorts units[0..count) by signature and length and cuts them into groups: ret_ends[i]
 * is the end of group i. Returns how many groups. count ≤ BATCH_PLAN_MAXIMUM. */
#define BATCH_PLAN_MAXIMUM 4096
size_t batch_plan(const struct batch_config *config, struct batch_unit **units, size_t count, size_t *ret_ends);
