/* What the indexer's files share: the collections with their indexes, the replicas, the asks, the workers.
 *
 * Threads: the loop's (the supervisor's channel, signals) and a few workers. One lock guards every field of the structs
 * here unless it says otherwise; it is held for moments, never across disk, SQLite or a runner. A worker takes a job
 * (schedule), does it without the lock, and comes back. An index is worked on by one worker at a time: who has claimed
 * it alone uses its `writer`, `chunk` and what is marked "claimed". Collections stay while a job runs on them.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>
#include <uv.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/settings.h"
#include "collection/collection.h"
#include "http/http_client.h"
#include "vector/vector.h"
#include "wire/wire.h"

#define INDEXER_SETS 2
#define INDEXER_FOREVER UINT64_MAX /* of a time: never */

struct indexer;
struct indexer_collection;
struct indexer_worker;

/* ---- replicas (indexer_replicas.c) --------------------------------------- */

struct indexer_replica {
    char *id, *address; /* "unix:/path" */
    char *digest; /* what it embeds by: as it reported, then as it answered */
    uint64_t incarnation, dimension, window; /* window: tokens of a text that count; 0: it did not say */
    unsigned in_flight, references;
    bool is_up;
    uint64_t suspect_until_ms;
    double short_tokens; /* tokens that it does in INDEXER_SHORT_MS, as measured */
    UT_hash_handle hh;
};

#define INDEXER_SHORT_MS 10 /* work that a query may have to wait for on a replica that answers queries, too */

/* From the loop. */
void indexer_replica_up(struct indexer *indexer, const struct wire_replica_up *up);
void indexer_replica_down(struct indexer *indexer, const char *id, uint64_t incarnation);
/* With the lock. Whether any with that digest is up. */
bool indexer_replicas_any(const struct indexer *indexer, const char *digest);
/* With the lock. One that has room, with a place taken on it (give it back), or NULL: *ret_retry_ms is when to look
 * again, INDEXER_FOREVER when somebody will say so, 0 when none is up. `is_short`: it answers queries, too. */
struct indexer_replica *indexer_replicas_take(struct indexer *indexer, const char *digest, bool is_bulk,
                                              bool *ret_is_short, uint64_t *ret_retry_ms);
/* With the lock. */
void indexer_replica_give_back(struct indexer *indexer, struct indexer_replica *replica);
/* With the lock: it failed; not again for a moment. */
void indexer_replica_suspect(struct indexer_replica *replica);
/* With the lock: it answered as another encoder than it was taken for; from now on it is what it said. */
void indexer_replica_is_really(struct indexer *indexer, struct indexer_replica *replica, const char *digest);
void indexer_replicas_free(struct indexer *indexer);

/* ---- embedding (indexer_embed.c, indexer_embed_call.c) -------------------- */

enum embed_state { EMBED_WAITING, EMBED_SENT, EMBED_DONE, EMBED_REFUSED };

struct embed_item {
    const char *text;
    size_t size;
    float *vector; /* `dimension` numbers, filled when DONE */
    enum embed_state state;
    bool alone; /* its batch was refused: who of it is the cause? */
    uint8_t failures; /* answers of 500 to it alone or in a batch */
    char *detail; /* REFUSED: what the model said; owned */
};

struct embed_order {
    const char *digest;
    size_t dimension;
    struct embed_item *items;
    size_t count;
    bool is_bulk; /* it fills an index: others go first */
    bool (*should_stop)(void *context); /* with the lock; NULL: only at the end */
    void *context;
    uint64_t truncated; /* out: texts of which the model read only the beginning */
};

enum embed_outcome {
    EMBED_FINISHED, /* each item is DONE or REFUSED */
    EMBED_STARVED, /* no replica with that digest is up */
    EMBED_INTERRUPTED,
};
/* Can be called again with the same order: what is done is not done again. Blocks; without the lock. */
enum embed_outcome indexer_embed(struct indexer_worker *worker, struct embed_order *order);

struct embed_batch;
struct embed_run {
    struct indexer_worker *worker;
    struct embed_order *order;
    uint32_t *sorted; /* items by size, longest first */
    size_t next; /* in sorted: before it nothing waits */
    size_t in_flight;
    struct embed_batch *batches; /* in flight */
    uint64_t retry_ms;
};
/* Sends these items to the replica, which is given back when the answer is there. */
void embed_send(struct embed_run *run, struct indexer_replica *replica, bool is_short, const uint32_t *items,
                size_t count, double tokens);
void embed_cancel(struct embed_run *run);
/* How much of a text counts for a batch. */
double embed_tokens(const struct embed_item *item, const struct indexer_replica *replica);

/* ---- indexes -------------------------------------------------------------- */

/* A part of the log that an index is taking. Claimed. */
struct chunk_row {
    uint64_t seq, previous;
    char *id, *text; /* text NULL: nothing to embed */
    struct embed_item *item; /* or NULL */
    bool is_no_vector; /* the index refused what the model gave */
};
struct indexer_chunk {
    uint64_t from, through; /* rows in (from, through] */
    bool is_torn; /* rows that are superseded inside it were passed over: it is whole only at its end (L12) */
    struct chunk_row *rows;
    size_t count, capacity, text_bytes;
    struct embed_item *items;
    size_t item_count;
    float *vectors;
    size_t done; /* rows that are in the index already */
    int64_t rows_more; /* living ones, than before it */
    uint64_t failed; /* items of the index, after it */
    struct embed_order order;
};

/* The states of the list, as bits, so that several can be asked for at once. */
enum indexer_state {
#define INDEX_STATES                                                                                                   \
    STATE(FILLING, "filling", 1)                                                                                       \
    STATE(READY, "ready", 2)                                                                                           \
    STATE(BLUE, "blue", 4)                                                                                             \
    STATE(ROLLBACK, "rollback", 8)                                                                                     \
    STATE(FAILED, "failed", 16)                                                                                        \
    STATE(DELETING, "deleting", 32)
#define STATE(constant, name, bit) INDEX_##constant = bit,
    INDEX_STATES
#undef STATE
};

/* Whom an index waits for before it shows more (X3). */
enum indexer_fence { INDEXER_NO_FENCE, INDEXER_FENCE_DURABLE, INDEXER_FENCE_APPLIED };

struct indexer_index {
    struct indexer_collection *collection;
    struct indexer_index *next;
    struct collection_index row; /* as the list had it; what changes stands below */
    enum indexer_state state;
    char *folder;
    struct vector_writer *writer; /* claimed; NULL: not open */
    struct indexer_chunk *chunk; /* claimed */
    bool is_busy;
    unsigned wanted; /* who waits for the claim */
    uint64_t retry_ms, backoff_ms; /* after an error: not before */

    uint64_t written, applied, durable;
    uint64_t answers_from; /* no search before (L6) */
    bool compare_due; /* with the log, once that is reached */
    uint64_t torn_from, torn_to; /* between these it must not be shown: see indexer_chunk.is_torn */
    enum indexer_fence fence;
    struct indexer_index *fenced_by;

    uint64_t pass_end; /* the head that a filling one advances to, or 0 */
    uint64_t left; /* texts of the pass that are still to be embedded */
    uint64_t rows, failed; /* living rows; failed items */
    uint64_t truncated;
    uint64_t live_limit; /* sequence numbers in a chunk */
    bool is_starved; /* no replica with its digest */

    uint64_t unsynced_rows, unsynced_since_ms; /* since: 0 when nothing is */
    uint64_t told_ms; /* progress */
    double rate; /* documents a second */
    uint64_t rate_since_ms, rate_count;
    bool compact_due;
    uint64_t compact_after_ms;
};

/* ---- collections ---------------------------------------------------------- */

enum collection_phase { COLLECTION_UNOPENED, COLLECTION_OPENING, COLLECTION_OPEN, COLLECTION_FAILED };

/* How far a gateway is with the pair (X5). */
struct pair_use {
    uint64_t gateway_id, epoch, lowest;
};

struct head_sample {
    uint64_t at_ms, head;
};
#define INDEXER_HEAD_SAMPLES 64

struct indexer_collection {
    struct indexer *indexer;
    char *id, *folder;
    enum collection_phase phase;
    struct error *error; /* FAILED: why */
    uint64_t retry_ms, backoff_ms;
    unsigned jobs; /* that run on it */
    bool is_closing; /* it is being deleted: no new job */
    bool is_asking; /* one ask at a time */
    bool wants_heads; /* somebody may have written without saying so */
    uint64_t changes; /* grows with everything that an ask may wait for */

    struct collection *store; /* OPEN; set before any job uses it */
    bool deleted, keep_queries, quantized;
    char *log_ids[INDEXER_SETS];
    uint64_t heads[INDEXER_SETS];
    struct head_sample samples[INDEXER_HEAD_SAMPLES]; /* of the documents' head, a ring */
    size_t sample_next;
    struct indexer_index *indexes; /* oldest first */

    int64_t epoch; /* of the pair */
    struct indexer_index *blue, *blue_queries;
    struct indexer_index *former, *former_queries; /* until every gateway has left them; else NULL */
    char *switching_task; /* recorded; or NULL */
    struct indexer_index *switching_to;
    int64_t switching_since; /* wall clock */
    struct pair_use *uses;
    size_t use_count;
    uint64_t told_indexed; /* log_indexed */
    int64_t event_id, told_event; /* the newest in the outbox; claimed by the ask or the job that made it */

    bool compact_due[INDEXER_SETS];
    uint64_t compact_after_ms, last_ttl_ms;
    UT_hash_handle hh;
};

struct indexer_gateway {
    uint64_t id;
    UT_hash_handle hh;
};

/* ---- asks ----------------------------------------------------------------- */

enum ask_outcome { ASK_DONE, ASK_FAILED, ASK_WAITS };

struct indexer_ask {
    struct indexer_ask *next;
    uint64_t request;
    const struct ask_verb *verb;
    char *collection_id;
    yyjson_doc *body;
    struct indexer_collection *collection; /* while it is in the table */
    bool is_running, has_begun, was_given_up, was_replaced, tried_open;
    uint64_t seen_changes, since_ms, deadline_ms;
    int64_t epoch; /* flip: made */
    int stage; /* a verb's own */
};

struct ask_job {
    struct indexer_worker *worker;
    struct indexer *indexer;
    struct indexer_ask *ask;
    struct indexer_collection *collection;
    yyjson_val *body;
    yyjson_mut_doc *answer;
    yyjson_mut_val *answer_root;
};

struct ask_verb {
    const char *name;
    /* On a worker, one ask of a collection at a time. WAITS: called again when something has changed. */
    enum ask_outcome (*run)(struct ask_job *job, struct error **ret_error);
};
extern const struct ask_verb indexer_verbs[];

/* From the loop. */
void indexer_ask_take(struct indexer *indexer, const struct wire_indexer_ask *message);
/* On a worker: runs it once; answers it and frees it when it is over. */
void indexer_ask_run(struct indexer_worker *worker, struct indexer_ask *ask);
void indexer_ask_free(struct indexer_ask *ask);
/* The ask's field; CONFIGURATION when it is missing. */
int ask_text(const struct ask_job *job, const char *field, const char **ret_text, struct error **ret_error);
/* The index on the list or NOT_FOUND; with the lock. */
int ask_index(const struct ask_job *job, struct indexer_index **ret_index, struct error **ret_error);

/* With the lock: every other ask of the collection ends so. */
void indexer_asks_end(struct indexer_collection *collection, const struct indexer_ask *but, const struct error *error);

#define ASK(verb) enum ask_outcome indexer_ask_##verb(struct ask_job *job, struct error **ret_error);
#include "indexer/asks.def"
#undef ASK

/* ---- the indexer ---------------------------------------------------------- */

struct indexer_outgoing {
    char *bytes;
    size_t size;
    struct indexer_outgoing *next;
};

struct worker_pool {
    char *address;
    struct http_pool *pool;
    UT_hash_handle hh;
};

struct indexer_worker {
    struct indexer *indexer;
    pthread_t thread;
    uv_loop_t loop; /* its own: for calls to runners */
    uv_async_t wake;
    uv_timer_t timer;
    struct worker_pool *pools;
};

#define INDEXER_WORKERS 4
#define INDEXER_BULK_WORKERS 2 /* how many of them may be filling */

struct indexer_config {
    uv_loop_t *loop;
    const struct settings *settings; /* borrowed, like the loop */
    int supervisor; /* the channel; taken */
    /* Called once, on the loop, when it should be ended: 0 asked to, otherwise the exit status. */
    void (*on_end)(void *context, int exit_status);
    void *context;
};

struct indexer {
    struct indexer_config config;
    const struct settings *settings;
    const struct vector_ops *vectors;
    char *root; /* <state>/collections */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a worker may find something to do; on the monotonic clock */
    struct indexer_collection *collections;
    struct indexer_replica *replicas;
    struct indexer_gateway *gateways;
    struct indexer_ask *asks;
    size_t ask_count;
    unsigned bulk_running;
    bool is_ending, is_scanned, was_ready, snapshot_ended;
    bool switches_are_held, told_held; /* a gateway is being replaced: no switch is begun (X9) */
    struct indexer_worker workers[INDEXER_WORKERS];
    size_t worker_count;
    struct indexer_outgoing *outbox, **outbox_end;
    int fatal_status; /* a worker met what this process cannot go on from */

    /* The loop's. */
    struct wire_channel *supervisor;
    uv_poll_t channel;
    uv_async_t woken;
    bool has_ended;
};

/* ---- life (indexer.c) ------------------------------------------------------ */

/* Says hello, scans the folder of collections, starts the workers. */
struct indexer *indexer_new(const struct indexer_config *config);
/* With `in_order`: breaks calls off, syncs what is not, closes everything. Blocks. */
void indexer_stop(struct indexer *indexer, bool in_order);
/* After indexer_stop() and once the loop has closed its handles. */
void indexer_free(struct indexer *indexer);
/* Any thread: the process must end, because of that. Takes nothing. */
void indexer_fail(struct indexer *indexer, const char *what, const struct error *error);

/* ---- the supervisor's channel (indexer_supervisor.c) ------------------------ */

void indexer_supervisor_open(struct indexer *indexer);
void indexer_supervisor_close(struct indexer *indexer);
/* Any thread; with the lock. */
void indexer_say(struct indexer *indexer, const struct wire_message *message);
#define indexer_tell(indexer, name_, ...)                                                                              \
    indexer_say((indexer), &(struct wire_message){.type = WIRE_##name_, .name_ = {__VA_ARGS__}})

/* ---- what is to be done (indexer_schedule.c) --------------------------------- */

void *indexer_work(void *worker); /* a worker's thread */
/* With the lock: workers look for something to do again. */
void indexer_wake(struct indexer *indexer);
/* Any thread: those that wait for a runner look again whether one has room, or whether to stop. */
void indexer_wake_embedders(struct indexer *indexer);
/* With the lock: an ask of this collection may go on. */
void indexer_collection_changed(struct indexer_collection *collection);
/* With the lock, which is let go while waiting. Only jobs that hold no other claim but the partner's. */
void indexer_claim(struct indexer_index *index);
void indexer_release(struct indexer_index *index);
/* With the lock: after an error, when to try again. */
void indexer_back_off(uint64_t *retry_ms, uint64_t *backoff_ms);

/* ---- collections (indexer_collections.c) -------------------------------------- */

struct indexer_collection *indexer_collection_find(struct indexer *indexer, const char *id); /* with the lock */
/* With the lock: there from now on, to be opened. */
struct indexer_collection *indexer_collection_add(struct indexer *indexer, const char *id);
void indexer_collections_scan(struct indexer *indexer);
/* On a worker; sets phase. */
void indexer_collection_open(struct indexer_worker *worker, struct indexer_collection *collection);
/* With the lock, when no job but the caller's runs on it: closes its indexes and its database, and takes it away. */
void indexer_collection_close(struct indexer_collection *collection);
/* Reads the heads; tells when they have grown. Without the lock. */
int indexer_collection_read_heads(struct indexer_collection *collection, struct error **ret_error);
/* Tells the controller of new events in the outbox; without the lock. */
void indexer_tell_events(struct indexer_collection *collection);
/* With the lock. */
struct indexer_index *indexer_index_find(struct indexer_collection *collection, const char *index_id);
struct indexer_index *indexer_partner(const struct indexer_index *index); /* or NULL */
void indexer_note_head(struct indexer_collection *collection, enum collection_set set, uint64_t head);
/* Writes a second in the last five. */
double indexer_write_rate(const struct indexer_collection *collection);

/* ---- one index (indexer_index.c, indexer_recover.c) ---------------------------- */

struct indexer_index *indexer_index_new(struct indexer_collection *collection, struct collection_index *row);
void indexer_index_free(struct indexer_index *index); /* closes its writer */
/* Creates it when it was never there, opens it, recovers it; sets it aside when it must be (L6, L7). Claimed, or known
 * to nobody else; without the lock. */
int indexer_index_open(struct indexer_index *index, struct error **ret_error);
/* L7: the folder goes aside, an empty one takes its place and is followed from 0. Claimed; without the lock. */
int indexer_index_set_aside(struct indexer_index *index, const char *why, struct error **ret_error);
/* Takes the files away. Claimed; without the lock. */
int indexer_index_remove(struct indexer_index *index, struct error **ret_error);
void indexer_index_spec(const struct indexer_index *index, struct vector_spec *ret_spec);
enum collection_set indexer_set(const struct indexer_index *index);
static inline bool indexer_index_in(const struct indexer_index *index, unsigned states) {
    return index->state & states;
}
#define INDEX_FOLLOWED (INDEX_FILLING | INDEX_READY | INDEX_BLUE | INDEX_ROLLBACK)
#define INDEX_SERVING (INDEX_BLUE | INDEX_ROLLBACK)
const char *indexer_state_name(enum indexer_state state);
/* Records the state, with its event, and tells it. Without the lock. */
int indexer_index_set_state(struct indexer_index *index, enum indexer_state state, const char *detail,
                            struct error **ret_error);

/* Compares the rows of an index that has just been opened with the log (L6): 0, and what no document has is killed;
 * CONFLICT when rows are missing. */
int indexer_recover(struct indexer_index *index, struct error **ret_error);
/* All rows that a view sees, ascending; caller frees. */
uint64_t *indexer_view_rows(const struct vector_ops *vectors, struct vector_view *view, size_t *ret_count);
/* The numbers of all living documents up to `through`, ascending; caller frees. */
int indexer_live_rows(struct collection_read *read, uint64_t through, uint64_t **ret_rows, size_t *ret_count,
                      struct error **ret_error);
/* The numbers of an index's failed items, ascending; caller frees. */
int indexer_failed_rows(struct collection_read *read, const char *index_id, uint64_t **ret_rows, size_t *ret_count,
                        struct error **ret_error);

/* ---- following (indexer_follow.c) ----------------------------------------------- */

/* Takes the next part of the log into the index, at most up to `limit` (INDEXER_FOREVER: the head). Claimed; without
 * the lock. *ret_more false: nothing is left up to there, or it waits for something else. */
int indexer_follow(struct indexer_worker *worker, struct indexer_index *index, uint64_t limit, bool *ret_more,
                   struct error **ret_error);
void indexer_chunk_free(struct indexer_chunk *chunk);
/* Follows by long parts, each document once (L12), because nothing of it is shown before the end. With the lock. */
bool indexer_is_filling(const struct indexer_index *index);
/* filling → ready, when it and its partner have caught up. Without the lock. */
int indexer_settle(struct indexer_index *index, struct error **ret_error);

/* ---- showing and keeping (indexer_publish.c) --------------------------------------- */

/* With the lock; claimed or free. Shows as much as it may, and so do those who wait for it. */
void indexer_publish(struct indexer_index *index);
/* On the disk, and recorded so. Claimed; without the lock. */
int indexer_sync(struct indexer_index *index, struct error **ret_error);
/* With the lock. */
void indexer_fence(struct indexer_index *index, enum indexer_fence kind, struct indexer_index *by);
void indexer_tell_indexed(struct indexer_collection *collection, bool again);
void indexer_tell_progress(struct indexer_index *index, bool now);

/* ---- the switch (indexer_switch.c) --------------------------------------------------- */

/* With the lock, from the pair as it was read: blue, former, what is being switched; fences as they must be. */
void indexer_pair_install(struct indexer_collection *collection, const struct collection_pair *pair);
/* With the lock: whether every gateway uses the pair of this epoch and none an older one. */
bool indexer_all_use(const struct indexer_collection *collection, int64_t epoch);
/* With the lock: no switch is begun from now on, or they may be again (X9). */
void indexer_hold_switches(struct indexer *indexer, bool hold);
/* With the lock: says so once none is under way any more. */
void indexer_tell_held(struct indexer *indexer);
/* With the lock: gateways that are gone use nothing; lets go of the former pair when all have left it. */
void indexer_pair_settle(struct indexer_collection *collection);
void indexer_pair_used(struct indexer_collection *collection, const struct wire_pair_used *used);
/* With the lock: no switch is under way any more. */
void indexer_switch_clear(struct indexer_collection *collection);
/* A switch that was recorded, and that nobody asks for any more. Without the lock. */
int indexer_abort_stale(struct indexer_collection *collection, struct error **ret_error);

/* ---- upkeep (indexer_upkeep.c) --------------------------------------------------------- */

/* With the lock. */
bool indexer_upkeep_is_due(const struct indexer_collection *collection, uint64_t now_ms, uint64_t *next_ms);
/* One bite of compaction of log and indexes, and the look at index_ttl. Without the lock. */
void indexer_upkeep(struct indexer_collection *collection);
bool indexer_index_compact_is_due(const struct indexer_index *index, uint64_t now_ms, uint64_t *next_ms);
int indexer_index_compact(struct indexer_index *index, struct error **ret_error);
