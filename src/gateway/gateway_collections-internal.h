/* Collections as the gateway uses them: each one's log and pair, opened when first asked for, with what waits for them.
 *
 * A collection is known by its id as long as a snapshot of the routes names it or a request uses it. Snapshots name
 * those that are active, so that one which is being deleted is left by its last request before the generation without
 * it is the lowest in use (X8). Its folder is opened on a worker when first needed and closed with the last use.
 *
 * A pair is what one flip made: encoder and indexes (X1). A search takes the current one once and keeps it to its end;
 * the indexer says when there is another (pair_changed), a worker reads it, and from then on new searches take it. What
 * is in use is told to the indexer at each change (X5).
 *
 * Loop thread only, but for what says that it is a worker's.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "collection/collection.h"
#include "gateway/gateway_metrics-internal.h"
#include "gateway/gateway_queue-internal.h"
#include "gateway/gateway_workers-internal.h"
#include "vector/vector.h"

struct exchange;
struct gateway;
struct gateway_collection;
struct gateway_query_notes;

/* ---- the pair (gateway_pair.c) ------------------------------------------- */

/* One of a pair's indexes. Its reader is opened with the pair when it can be, else by the next search (an index that is
 * being made or rebuilt), and stays until the pair goes. */
struct gateway_index {
    char *folder, *index_id, *log_id, *digest;
    uint32_t dimension; /* 0: there is none */
    bool quantized;
    pthread_mutex_t opening;
    struct vector_reader *reader; /* under the mutex until it is there; then it stays */
};

struct gateway_pair {
    int64_t epoch, revision;
    char *deployment_id, *digest;
    struct gateway_index documents, queries;
    struct gateway_collection *collection; /* from gateway_collection_take_pair() on */
    unsigned references; /* requests, and one for being the current one */
    struct gateway_pair *older, *newer;
    struct gateway_work closing;
};

/* What a worker read of a collection. Owned. */
struct gateway_opened {
    struct collection *log;
    struct gateway_pair *pair;
    bool keep_queries;
    uint64_t head;
    char *ahead; /* why nothing may be appended yet, or NULL (L1) */
};

/* Worker. `log` NULL opens the folder; otherwise only the pair is read anew. An index that cannot be opened is no
 * error: its searches say why. */
int gateway_pair_load(const char *folder, struct collection *log, struct gateway_opened *ret_opened,
                      struct error **ret_error);
/* Worker. NULL, or which index has more than the log: it stems from a longer log, of which this is an older copy. Until
 * the indexer has set it aside nothing may be appended, or the log would grow over what it was compared by. */
char *gateway_pair_find_ahead(struct collection *log, const char *folder);
/* Worker. The index's reader, opened now if it was not; UNAVAILABLE when it cannot be. */
int gateway_index_reader(struct gateway_index *index, struct vector_reader **ret_reader, struct error **ret_error);
/* Worker: closes its indexes, which takes time. */
void gateway_pair_close(struct gateway_pair *pair);
/* Closes them if they are still open. */
void gateway_pair_free(struct gateway_pair *pair);

/* ---- a collection (gateway_collections.c) --------------------------------- */

/* Writes that wait for their turn, and what they became. Lives inside its owner, whose request must not end until
 * `done`. */
struct gateway_batch {
    size_t bytes; /* about how much it holds */
    void (*prepare)(struct gateway_batch *batch); /* worker: sets writes and count */
    void (*done)(struct gateway_batch *batch); /* loop: the append has been, or has failed */
    struct collection_write *writes;
    size_t count;
    uint64_t head; /* the log's, when all was written */
    struct error *error; /* owned by the batch's owner */
    struct gateway_batch *next;
};

struct gateway_batches {
    struct gateway_batch *first, **end;
    size_t count;
};

struct gateway_collection {
    struct gateway *gateway;
    char *id, *name, *folder;
    unsigned references; /* snapshots, requests, jobs */
    UT_hash_handle hh; /* by id */

    struct collection *log; /* NULL: not open */
    bool keep_queries;
    char *ahead; /* a worker's while it appends */
    struct gateway_pair *pair, *oldest; /* the current one; the oldest in use */
    uint64_t said_epoch, said_lowest; /* what the indexer was told */
    struct gateway_queue opening; /* exchanges that wait for it */

    struct gateway_work load;
    bool is_loading, load_again, load_failed; /* load_again: asked for while one ran; load_failed: to be tried again */
    struct gateway_opened opened; /* the load's result */
    struct error *load_error;
    uint64_t told_epoch; /* by the indexer, while nothing was open */

    struct gateway_work append;
    struct gateway_batches waiting, appending;
    bool is_appending;
    struct error *append_error; /* a worker's while it appends, as the next two */
    size_t append_count; /* writes that are in the log now */
    uint64_t append_head;

    uint64_t head; /* the log's, as far as it is known here */
    uint64_t indexed; /* what the indexer says */
    struct gateway_queue waiting_indexed; /* exchanges */

    struct gateway_query_notes *notes; /* kept queries on their way to the log, or NULL */

    struct gateway_series writes, searches;
    uint64_t documents_written, mismatches;
};

struct gateway_collections {
    struct gateway_collection *all;
    struct gateway_workers *logs, *searches;
    struct vector_pool *pool;
    uv_timer_t retry_timer, indexed_timer;
    struct gateway_queue indexed_deadlines; /* of exchanges; all have the same span */
};

void gateway_collections_open(struct gateway *gateway);
/* At the end of the gateway: no new work; what runs comes back. */
void gateway_collections_close(struct gateway *gateway);

/* For snapshots of the routes: counted. */
struct gateway_collection *gateway_collection_take(struct gateway *gateway, const char *id, const char *name);
void gateway_collection_release(struct gateway_collection *collection);
/* New routes: who waits for a collection that they do not name is answered. */
void gateway_collections_rerouted(struct gateway *gateway);

/* Takes the collection that the request's path names, opens it, and goes on with the request in `go_on`; or answers
 * (404, 503) and ends the exchange. The exchange holds it to its end, with the snapshot that names it. May be called
 * again for a request that lasts: it takes the newest routes. */
void gateway_collection_admit(struct exchange *exchange, void (*go_on)(struct exchange *exchange));
/* The name was looked up in the database and the newest routes were installed. */
void gateway_collection_admit_found(struct exchange *exchange);
/* Gives back what the exchange holds of collections: part of every end. */
void gateway_collection_leave(struct exchange *exchange);

/* The current pair, counted. Only of an open collection. */
struct gateway_pair *gateway_collection_take_pair(struct gateway_collection *collection);
void gateway_pair_release(struct gateway_pair *pair);

/* What the indexer says. */
void gateway_collections_pair_changed(struct gateway *gateway, const char *collection_id, uint64_t epoch);
void gateway_collections_indexed(struct gateway *gateway, const char *collection_id, uint64_t seq);
void gateway_collections_indexer_up(struct gateway *gateway);

/* ---- writing (gateway_writes.c) ------------------------------------------- */

/* Whether another write may wait (queue_maximum). */
bool gateway_collection_has_room(const struct gateway_collection *collection);
/* Takes its turn: one append at a time, with all that waits then, so that they share one sync. */
void gateway_collection_write(struct gateway_collection *collection, struct gateway_batch *batch);

/* ---- waiting for the index (gateway_indexed.c) ----------------------------- */

/* Goes on in `go_on` when every index that a gateway may use shows everything up to seq (L11); answers 503 with the seq
 * when that does not come in time, 404 when the collection goes. */
void gateway_indexed_wait(struct exchange *exchange, uint64_t seq, void (*go_on)(struct exchange *exchange));
void gateway_indexed_told(struct gateway_collection *collection);
/* The collection is not routed any more. */
void gateway_indexed_end_all(struct gateway_collection *collection);
void gateway_indexed_on_deadline(uv_timer_t *timer);

/* ---- kept queries (gateway_queries.c) --------------------------------------- */

/* Notes a searched text, best effort: what there is no room for is left out (L10). */
void gateway_queries_note(struct gateway_collection *collection, const char *text);
void gateway_queries_free(struct gateway_collection *collection);
