/* What the collection's files share: its databases, transactions on them, its events.
 *
 *   collection_folder.c    makes and removes the folder
 *   collection.c           opens it: the pool of connections, transactions
 *   collection_read.c      documents at one moment
 *   collection_append.c    writes of documents
 *   collection_query.c     kept queries
 *   collection_changes.c   the log as a follower reads it
 *   collection_index.c     the list of indexes: reading; collection_states.c: changing it
 *   collection_switch.c    the pair and its switch
 *   collection_failures.c  failed items
 *   collection_compact.c   what no index needs any more
 *   collection_events.c    the outbox
 *   collection_backup.c    copying, verifying, a new log after a restore
 *   filter.c, documents.c, lines.c   what clients send
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "base/memory.h"
#include "base/text.h"
#include "collection/collection.h"
#include "collection/collection_backup.h"
#include "store/store.h"

#define COLLECTION_SETS 2
#define READERS_MAXIMUM 64 /* connections of one set; who comes then waits for one */
#define READERS_IDLE_MAXIMUM 16 /* kept when nobody reads */

extern const struct store_schema collection_schema;

struct database {
    char *path;
    struct store *writer; /* NULL for COLLECTION_READS */
    pthread_mutex_t mutex; /* guards the pool */
    pthread_cond_t freed;
    struct store *idle[READERS_IDLE_MAXIMUM];
    size_t idle_count, reader_count;
};

struct collection {
    char *folder;
    enum collection_use use;
    bool keep_queries;
    atomic_bool broken;
    struct database databases[COLLECTION_SETS];
};

struct collection_read {
    struct collection *collection;
    enum collection_set set;
    struct store *store;
    struct store_transaction *tx;
    uint64_t head, live;
};

/* A write transaction of a set: ends with collection_commit(), or by its cleanup. CONFLICT when the collection is
 * marked deleted, unless `also_deleted`. */
int collection_begin(struct collection *collection, enum collection_set set, bool also_deleted,
                     struct store_transaction **ret_tx, struct error **ret_error);
int collection_commit(struct collection *collection, enum collection_set set, struct store_transaction *tx,
                      struct error **ret_error);
/* Looks whether a connection has broken: the collection is, then. */
void collection_note_broken(struct collection *collection);

/* The first row's numbers; 1, or 0 when there is no row. `sql` asks for `count` columns, NULL reads as 0. */
int collection_ask_numbers(struct store_transaction *tx, const char *sql, int64_t *ret_numbers, int count,
                           struct error **ret_error);

/* Where a log ends, as a transaction moves it on. */
struct log_end {
    int64_t head, live;
};
int collection_lock_end(struct store_transaction *tx, struct log_end *ret_end, struct error **ret_error);
int collection_record_end(struct store_transaction *tx, const struct log_end *end, struct error **ret_error);

/* An event of that transaction (S4). kind: "index", "pair", "collection"; data_json and task_id may be NULL. */
int collection_add_event(struct store_transaction *tx, const char *task_id, const char *kind, const char *data_json,
                         struct error **ret_error, const char *format, ...) __attribute__((format(printf, 6, 7)));

/* The index in this transaction; RESOURCE_NOT_FOUND. Clear it. */
int collection_get_index(struct store_transaction *tx, const char *index_id, struct collection_index *ret_index,
                         struct error **ret_error);
int collection_get_pair(struct store_transaction *tx, struct collection_pair *ret_pair, struct error **ret_error);
/* An index's state by a flip: with the epoch. */
int collection_enter_state(struct store_transaction *tx, const char *index_id, const char *state, int64_t epoch,
                           struct error **ret_error);

/* Writes of an index row (collection_states.c); `index->set` says of which kind. */
int collection_insert_index(struct store_transaction *tx, const struct collection_index *index,
                            struct error **ret_error);

#define _cleanup_index_ __attribute__((cleanup(collection_index_clear)))
#define _cleanup_pair_ __attribute__((cleanup(collection_pair_clear)))
