/* A collection's database: the log of its documents, the list of its indexes, its pair, its events (RULES S3, L1, L2,
 * X1 to X4).
 *
 * A collection is a folder <state>/collections/<uuid>/ with documents.db, with keep_queries also queries.db (a log of
 * the same form, without a sync for each write, L10), and indexes/<index_id>/ (vector/vector.h). Three processes meet
 * in it, each with its own `use`:
 *
 *   COLLECTION_APPENDS  the gateway: appends to the log, reads
 *   COLLECTION_INDEXES  the indexer: everything but the log's head; compacts, checkpoints, marks deleted
 *   COLLECTION_READS    the controller: reads; it also makes the folder and unlinks it
 *
 * A struct collection has a pool of connections: every call may come from any thread, and several at once. Nothing here
 * waits but for the disk and for SQLite's lock. Errors are those of store/store.h; CONFLICT with "is being deleted"
 * once it is marked deleted. May use: base, store. Sequence numbers begin at 1.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

enum collection_use { COLLECTION_APPENDS, COLLECTION_INDEXES, COLLECTION_READS };
enum collection_set { COLLECTION_DOCUMENTS, COLLECTION_QUERIES };
const char *collection_set_name(enum collection_set set); /* "documents", "queries" */

#define COLLECTION_ID_MAXIMUM 512 /* bytes of a document's id */

struct collection;

/* ---- the folder -------------------------------------------------------------------------------------------------- */

/* One of the two encoders' sides of a pair or an index. Strings are owned by whoever loaded it. */
struct collection_index {
    char *index_id, *partner_id; /* partner_id may be NULL */
    enum collection_set set;
    char *deployment_id, *encoder_digest, *state, *task_id, *detail; /* the last two may be NULL */
    int64_t revision, dimension, epoch, created_at, updated_at, progress_at;
    uint64_t durable_seq;
};
void collection_index_clear(struct collection_index *index);

struct collection_spec {
    const char *collection_id, *name, *metric; /* metric: "cosine" */
    bool keep_queries, quantized;
    /* The first pair, blue at once. */
    const char *index_id, *query_index_id; /* the second NULL without keep_queries */
    const char *deployment_id, *encoder_digest;
    int64_t revision, dimension;
};
/* Makes <root>/<collection_id>/ with its databases and an empty indexes/ in a folder beside it, and renames it into
 * place, synced; the indexes' own folders are the indexer's to make. Already there: success. The controller. Names
 * below root that begin with a dot are no collections: what was cut short while it was made or removed. */
int collection_create(const char *root, const struct collection_spec *spec, struct error **ret_error);
/* Unlinks the folder and all in it; not there: success. The controller, when nobody has it open any more. */
int collection_remove(const char *root, const char *collection_id, struct error **ret_error);

/* UNAVAILABLE and transient when it is not there (yet). */
int collection_open(const char *folder, enum collection_use use, struct collection **ret_collection,
                    struct error **ret_error);
void collection_close(struct collection *collection); /* no read may be open; NULL is fine */
/* A failed fsync or a damaged file: every call fails from now on (S1). */
bool collection_is_broken(struct collection *collection);

struct collection_facts {
    char *collection_id, *name, *log_id, *metric;
    bool deleted, keep_queries, quantized;
    uint64_t head, live;
};
void collection_facts_clear(struct collection_facts *facts);

/* ---- reading: one snapshot --------------------------------------------------------------------------------------- */

/* A read transaction on one set's log; everything asked through it is of one moment. Keep it short (S1). One thread at
 * a time. */
struct collection_read;
int collection_read_begin(struct collection *collection, enum collection_set set, struct collection_read **ret_read,
                          struct error **ret_error);
void collection_read_end(struct collection_read *read); /* NULL is fine */
static inline void collection_read_end_pointer(struct collection_read **read) {
    collection_read_end(*read);
}
#define _cleanup_read_ __attribute__((cleanup(collection_read_end_pointer)))

uint64_t collection_head(struct collection_read *read); /* at the snapshot */
uint64_t collection_live(struct collection_read *read);
int collection_load_facts(struct collection_read *read, struct collection_facts *ret_facts, struct error **ret_error);

/* Owned strings; text NULL: the row is a delete. */
struct collection_row {
    uint64_t seq, previous;
    char *id, *text, *payload_json;
    int64_t at;
};
void collection_row_clear(struct collection_row *row);
#define _cleanup_collection_row_ __attribute__((cleanup(collection_row_clear)))
/* The living document of that id. RESOURCE_NOT_FOUND when there is none. */
int collection_find(struct collection_read *read, const char *id, struct collection_row *ret_row,
                    struct error **ret_error);
/* The row with that number (a hit's born): 1, or 0 when the log has it no more. want_text false: without its text,
 * which may be long; a delete is told by payload_json NULL as well. */
int collection_find_seq(struct collection_read *read, uint64_t seq, bool want_text, struct collection_row *ret_row,
                        struct error **ret_error);
/* Living documents in the order of their numbers, those above `after`; stops when `take` returns false. For export and
 * for filters: pass want_text false where only payloads count. */
int collection_each_live(struct collection_read *read, uint64_t after, bool want_text,
                         bool (*take)(void *context, const struct collection_row *row), void *context,
                         struct error **ret_error);
/* For kept queries: how often, and when last. 1, or 0 when it is not known. */
int collection_query_seen(struct collection_read *read, const char *id, uint64_t *ret_count, int64_t *ret_last_seen,
                          struct error **ret_error);

/* The pair, and what is being switched. Owned strings. */
struct collection_pair {
    int64_t epoch, revision, switching_since;
    char *index_id, *query_index_id, *deployment_id, *encoder_digest;
    char *flipped_by, *source_index_id, *switching_task, *switching_to; /* may be NULL, as query_index_id may */
};
void collection_pair_clear(struct collection_pair *pair);
/* Reads of documents.db: a read of the documents' set. */
int collection_load_pair(struct collection_read *read, struct collection_pair *ret_pair, struct error **ret_error);
int collection_list_indexes(struct collection_read *read, struct collection_index **ret_indexes, size_t *ret_count,
                            struct error **ret_error); /* oldest first; free with the next */
void collection_indexes_free(struct collection_index *indexes, size_t count);
int collection_load_index(struct collection_read *read, const char *index_id, struct collection_index *ret_index,
                          struct error **ret_error); /* RESOURCE_NOT_FOUND */

struct collection_failure {
    uint64_t seq;
    char *id, *stage, *detail;
    int64_t attempts;
};
void collection_failures_free(struct collection_failure *failures, size_t count);
/* Failed items of an index by number, those above `after`, at most `limit` (0: only the total). *ret_total: all. */
int collection_list_failures(struct collection_read *read, const char *index_id, uint64_t after, size_t limit,
                             struct collection_failure **ret_failures, size_t *ret_count, uint64_t *ret_total,
                             struct error **ret_error);
/* One item: 1 and its owned detail, or 0. */
int collection_find_failure(struct collection_read *read, const char *index_id, uint64_t seq, char **ret_detail,
                            struct error **ret_error);

/* ---- appending (gateway) ----------------------------------------------------------------------------------------- */

struct collection_write {
    const char *id, *text, *payload_json; /* text NULL: delete. payload_json: an object's text, or NULL for {} */
    uint64_t seq; /* out: 0 for a delete of what is not there: nothing was written */
};
/* All of them in one transaction, in their order, durable when it returns 0: those who wait together share one sync.
 * *ret_head: the head then. CONFLICT: marked deleted; nothing was written. */
int collection_append(struct collection *collection, struct collection_write *writes, size_t count, uint64_t *ret_head,
                      struct error **ret_error);
/* A searched text: a new row of the queries' log, or one more count. Not synced (L10). Above `maximum` the least
 * recently seen go. *ret_head: of the queries' log. A query's id is the SHA-256 of its text. */
int collection_note_queries(struct collection *collection, const char *const *texts, size_t count, uint64_t maximum,
                            uint64_t *ret_head, struct error **ret_error);

/* ---- indexing (indexer): each call is one durable transaction, with its event where there is one ------------------
 */

/* The rows of the log in (after, through], ascending, at most `limit`: every row, deletes too. `superseded`: a newer
 * row of the same id stands at or below `newest`: it need not be embedded (L12), and comes without text. Payloads are
 * left out. */
struct collection_change {
    struct collection_row row;
    bool superseded;
};
int collection_changes(struct collection_read *read, uint64_t after, uint64_t through, uint64_t newest, size_t limit,
                       struct collection_change **ret_changes, size_t *ret_count, struct error **ret_error);
void collection_changes_free(struct collection_change *changes, size_t count);
/* How many rows a follower at `after` has before it, and how many of them are to be embedded, up to the snapshot. Looks
 * at each of those rows (not from 0): ask once and count down. */
int collection_count_changes(struct collection_read *read, uint64_t after, uint64_t *ret_rows, uint64_t *ret_embeds,
                             struct error **ret_error);

/* Enters the index (and its query index) in state filling; from then on the log is kept for it (L2). An index of the
 * same digest that is filling or ready already is taken instead (its id comes back, its task becomes this one). */
int collection_add_index(struct collection *collection, const struct collection_index *index,
                         const char *query_index_id, char **ret_index_id, struct error **ret_error);
/* State and detail, with an event; `failed` lets the log go in the same transaction, and is never left again. Which may
 * follow which: collection_states.c; CONFLICT otherwise. An index takes its query index with it, and the other way
 * round, into `failed` and `deleting`. */
int collection_set_index_state(struct collection *collection, const char *index_id, const char *state,
                               const char *detail, const char *task_id, struct error **ret_error);
/* durable_seq after a sync; the queries' log is synced first for a query index (L10). */
int collection_record_durable(struct collection *collection, const char *index_id, uint64_t durable_seq,
                              struct error **ret_error);
/* The index was set aside and begins at 0 again (L7), with an event that says why. A ready one is filling again. */
int collection_restart_index(struct collection *collection, const char *index_id, const char *why,
                             struct error **ret_error);
/* Takes the index, its query index and their failed items off the list. *ret_dropped false: the conditions did not hold
 * (state not `state`, or its epoch not `epoch`; NULL and 0 stand for any). The blue one is never dropped. True also
 * when it is not on the list any more. CONFLICT and transient while a switch to it is under way. */
int collection_drop_index(struct collection *collection, const char *index_id, const char *state, int64_t epoch,
                          bool *ret_dropped, struct error **ret_error);
/* Failed items: those of rows that are superseded go with `cleared`. */
int collection_record_failures(struct collection *collection, const char *index_id,
                               const struct collection_failure *failures, size_t count, const uint64_t *cleared,
                               size_t cleared_count, struct error **ret_error);
/* X3: recorded before the fence goes up. CONFLICT: another task switches, or the destination cannot be switched to: it,
 * and with kept queries its query index, must be `ready` or, to go back, `rollback`. Blue by that task already:
 * success, and nothing is recorded. */
int collection_begin_switch(struct collection *collection, const char *task_id, const char *to_index,
                            struct error **ret_error);
int collection_abort_switch(struct collection *collection, const char *task_id, const char *why,
                            struct error **ret_error);
/* X4: pair, query pair, epoch, the states of both indexes, event; the destination's durable_seq must have been
 * recorded. Blue by that task already: success. *ret_epoch is the pair's epoch now. What was blue is in state rollback
 * under that epoch; a third index in rollback keeps its state and its epoch, and follows the log until its own window
 * ends. CONFLICT: one of X4's conditions does not hold, or this task's switch is not the one that was begun. */
int collection_flip(struct collection *collection, const char *task_id, const char *to_index, uint64_t shown_seq,
                    int64_t *ret_epoch, struct error **ret_error);
/* X8. */
int collection_mark_deleted(struct collection *collection, struct error **ret_error);
/* Deletes superseded rows, and tombstones, that every index has behind it (L2): those whose successor (for a tombstone:
 * itself) is at or below the smallest durable_seq. At most `limit` rows; *ret_more. Then checkpoints when due. */
int collection_compact(struct collection *collection, enum collection_set set, size_t limit, bool *ret_more,
                       struct error **ret_error);

/* ---- events (controller copies, S4) ------------------------------------------------------------------------------ */

struct collection_event {
    int64_t id, at;
    char *task_id, *kind, *message, *data_json;
};
int collection_list_events(struct collection_read *read, int64_t after, size_t limit,
                           struct collection_event **ret_events, size_t *ret_count, struct error **ret_error);
void collection_events_free(struct collection_event *events, size_t count);

/* ---- what clients send (also documents.h) ------------------------------------------------------------------------ */

/* A filter on payloads (API "filter"). Parsed once, asked for many rows; any thread may ask. */
struct collection_filter;
/* REQUEST that names the place: an unknown operator, a wrong type, deeper than 16 levels, more than 256 conditions. */
int collection_filter_parse(yyjson_val *value, struct collection_filter **ret_filter, struct error **ret_error);
bool collection_filter_accepts(const struct collection_filter *filter, const char *payload_json);
void collection_filter_free(struct collection_filter *filter);
