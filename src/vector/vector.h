/* Vector indexes: where embedded rows are kept and searched. One back-end today, the embedded folder.
 *
 * An index belongs to one log (log_id) and one encoder (encoder_digest). Its rows are known by the sequence number of
 * the log row that they were made from (`born`), which no other row of the index shares; they stop being seen at `dead`
 * (RULES L4). What a row's document is called and what it carries stands in the log and is read there by `born` (L5).
 *
 * Two numbers tell how far an index is: `written` (everything up to it is in the rows and marks) and `applied` (what
 * searches may see: at most `written`, and held back while a switch needs it, X3). A third, durable, is recorded by the
 * caller in the collection's database once sync() has returned it.
 *
 * Who: one writer (the indexer, one thread at a time), any number of readers in any process, which share the memory
 * through mapped files and never wait for the writer. May use: base.
 *
 * Scores are cosine similarities, -1 to 1: rows and queries are normalised here (float32), rows of length 0 or with a
 * NaN or an infinity are refused by append() with REQUEST.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define VECTOR_DIMENSION_MAXIMUM 65536

struct vector_writer;
struct vector_reader;
struct vector_view;

struct vector_spec {
    const char *index_id, *log_id, *encoder_digest;
    uint32_t dimension;
    bool quantized; /* int8 rows are scanned, float32 rows re-score: the same hits, less memory read */
};

/* What opening found (L6, L7). */
struct vector_state {
    uint64_t written, applied; /* after recovery */
    bool other_boot; /* the machine was started anew since it was written: it went back to the durable number */
};

struct vector_info {
    uint64_t written, applied;
    uint64_t rows; /* living at `written` */
    uint64_t answers_from; /* no search below this (see hold()) */
    double rate; /* rows a second, as the writer said last; 0: at rest */
    uint64_t memory_bytes; /* mapped */
};

struct vector_hit {
    uint64_t born;
    float score;
};

/* Threads that share the work of one search in a large index; a search may come from any thread. */
struct vector_pool;
struct vector_pool *vector_pool_new(size_t threads); /* 0 or 1: none, the caller's thread does all of it */
void vector_pool_free(struct vector_pool *pool);

struct vector_query {
    const float *vector; /* `dimension` numbers, any length but 0; not changed */
    size_t limit; /* how many hits at most */
    const uint64_t *only; /* NULL, or the only rows that count: `born` numbers, ascending */
    size_t only_count;
    struct vector_pool *pool; /* or NULL */
};

struct vector_ops {
    const char *name; /* "folder" */

    /* ---- the writer's side (indexer) ---- */

    /* Makes an empty index in `folder`, which is not there yet; whole and synced when it returns 0, not there when it
     * fails. UNAVAILABLE: the disk is full. CONFIGURATION: the file system is one that mapped files must not be on. */
    int (*create)(const char *folder, const struct vector_spec *spec, struct error **ret_error);
    /* Opens it for writing and recovers (L6): on the same boot what is above `written` is dropped; after another boot
     * all that is above `durable`. Verifies every checksum. CONFLICT: it must be set aside and built again: another
     * log_id, digest or dimension, a manifest behind `durable`, a failed checksum, a file that is missing (L7). */
    int (*open_writer)(const char *folder, const struct vector_spec *spec, uint64_t durable,
                       struct vector_writer **ret_writer, struct vector_state *ret_state, struct error **ret_error);
    void (*close_writer)(struct vector_writer *writer); /* NULL is fine; does not sync */
    /* A row; not seen before `written` and `applied` pass `born`, which must be above every one before. UNAVAILABLE:
     * the disk is full, and nothing changed. REQUEST: not a vector that can be compared. */
    int (*append)(struct vector_writer *writer, uint64_t born, const float *vector, struct error **ret_error);
    /* From `dead` on the row is not seen. False: no living row has this number. */
    bool (*kill)(struct vector_writer *writer, uint64_t born, uint64_t dead);
    /* Everything up to `written` is in; searches may see up to `applied` (<= written). Neither goes back. */
    void (*publish)(struct vector_writer *writer, uint64_t written, uint64_t applied);
    /* No search is answered before `applied` has reached this (L6: the head found at start). After another boot none is
     * answered before hold() or publish() has been called, so that nobody slips in between open_writer() and hold(). */
    void (*hold)(struct vector_writer *writer, uint64_t answers_from);
    void (*set_rate)(struct vector_writer *writer, double rows_per_second);
    /* Everything up to `written` is on the disk when it returns 0. A failed sync is fatal: the writer refuses all that
     * follows (S1). */
    int (*sync)(struct vector_writer *writer, uint64_t *ret_durable, struct error **ret_error);
    /* Rewrites segments of which much is dead at `durable` (L8); readers go over by themselves. Bounded work a call;
     * *ret_more: there is more to do. */
    int (*compact)(struct vector_writer *writer, uint64_t durable, bool *ret_more, struct error **ret_error);
    /* Readers find it gone (`moved`), then its files go. Not there already: success. */
    int (*remove)(const char *folder, struct error **ret_error);

    /* Looks at every byte of it and changes nothing, also while a writer has it open: CONFLICT as open_writer() would
     * say, or as it would find a row or a mark. `durable`: as it is recorded. For `slipway check`. */
    int (*verify)(const char *folder, const struct vector_spec *spec, uint64_t durable, struct error **ret_error);

    /* ---- the reader's side (gateway, controller, indexer) ---- */

    /* UNAVAILABLE (transient): not there, or not whole yet. CONFLICT: not the index of this log, encoder or dimension.
     */
    int (*open_reader)(const char *folder, const struct vector_spec *spec, struct vector_reader **ret_reader,
                       struct error **ret_error);
    void (*close_reader)(struct vector_reader *reader); /* no view may be left */
    void (*info)(struct vector_reader *reader, struct vector_info *ret_info);
    /* A look at one sequence number: s = min(applied, log_head), where log_head was read from the log in a transaction
     * that is still open (L5). Any thread. UNAVAILABLE and transient: `answers_from` is not reached (says how far it
     * is), or the index has moved and is not there again. CONFLICT: s lies below what a compaction has dropped: take a
     * new read transaction, and look again. */
    int (*look)(struct vector_reader *reader, uint64_t log_head, struct vector_view **ret_view,
                struct error **ret_error);
    uint64_t (*seq)(const struct vector_view *view);
    /* The best `limit` rows that are seen, best first, equal scores by `born`; exact. ret_hits has room for limit. */
    size_t (*search)(struct vector_view *view, const struct vector_query *query, struct vector_hit *ret_hits);
    /* The row's normalised vector; false: it is not seen. */
    bool (*fetch)(struct vector_view *view, uint64_t born, float *ret_vector);
    /* Every row that is seen, ascending by born, from `after` on: at most `limit`; how many. For checks and samples. */
    size_t (*list)(struct vector_view *view, uint64_t after, uint64_t *ret_born, size_t limit);
    void (*release)(struct vector_view *view);
};

extern const struct vector_ops folder_vectors;
