/* Which replicas are up, what they embed by, and how much each is given at once. */
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define SUSPECT_MS 200 /* the supervisor tells of a death a moment after the connection does */
#define SHORT_TOKENS_FIRST 256.0
#define BULK_IN_FLIGHT 2 /* the next batch is there when one is done */

static void release(struct indexer *indexer, struct indexer_replica *replica) {
    if (--replica->references) return;
    (void)indexer;
    free(replica->id);
    free(replica->address);
    free(replica->digest);
    free(replica);
}

/* ---- up and down ------------------------------------------------------------- */

static void take_down(struct indexer *indexer, struct indexer_replica *replica) {
    HASH_DEL(indexer->replicas, replica);
    replica->is_up = false;
    release(indexer, replica);
}

static int64_t number_in(yyjson_val *object, const char *field) {
    yyjson_val *value = yyjson_obj_get(object, field);
    return yyjson_is_int(value) && yyjson_get_sint(value) > 0 ? yyjson_get_sint(value) : 0;
}

/* What does not embed is of no use here. */
static bool read_report(struct indexer_replica *replica, const char *report_json) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    if (json_parse_object(report_json, strlen(report_json), &document, &root, NULL) < 0) return false;
    replica->digest = text_copy(yyjson_get_str(yyjson_obj_get(root, "encoder_digest")));
    replica->dimension = (uint64_t)number_in(root, "dimension");
    yyjson_val *window = yyjson_obj_get(yyjson_obj_get(root, "recipe"), "maximum_length");
    replica->window = (uint64_t)number_in(window, "value");
    return replica->digest && *replica->digest;
}

/* Indexes that waited for such a one go on. */
static void end_starving(struct indexer *indexer, const char *digest) {
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, indexer->collections, collection, next) {
        for (struct indexer_index *index = collection->indexes; index; index = index->next)
            if (text_equal(index->row.encoder_digest, digest)) index->is_starved = false;
        indexer_collection_changed(collection);
    }
    indexer_wake(indexer);
    indexer_wake_embedders(indexer);
}

void indexer_replica_up(struct indexer *indexer, const struct wire_replica_up *up) {
    struct indexer_replica *replica = NULL;
    HASH_FIND_STR(indexer->replicas, up->replica_id, replica);
    if (replica && replica->incarnation >= up->incarnation) return;
    if (replica) take_down(indexer, replica);
    replica = mem_new(struct indexer_replica);
    *replica = (struct indexer_replica){.id = text_copy(up->replica_id),
                                        .address = text_format("unix:%s", up->address),
                                        .incarnation = up->incarnation,
                                        .references = 1,
                                        .short_tokens = SHORT_TOKENS_FIRST,
                                        .is_up = true};
    if (!read_report(replica, up->report_json)) {
        release(indexer, replica);
        return;
    }
    HASH_ADD_KEYPTR(hh, indexer->replicas, replica->id, strlen(replica->id), replica);
    end_starving(indexer, replica->digest);
}

void indexer_replica_down(struct indexer *indexer, const char *id, uint64_t incarnation) {
    struct indexer_replica *replica = NULL;
    HASH_FIND_STR(indexer->replicas, id, replica);
    if (!replica || replica->incarnation > incarnation) return;
    take_down(indexer, replica);
    indexer_wake_embedders(indexer);
}

void indexer_replicas_free(struct indexer *indexer) {
    struct indexer_replica *replica, *next;
    HASH_ITER(hh, indexer->replicas, replica, next) take_down(indexer, replica);
}

/* ---- choosing ---------------------------------------------------------------- */

bool indexer_replicas_any(const struct indexer *indexer, const char *digest) {
    struct indexer_replica *replica, *next;
    HASH_ITER(hh, indexer->replicas, replica, next) {
        if (text_equal(replica->digest, digest)) return true;
    }
    return false;
}

/* Whether queries are embedded by this encoder: then nobody's query may wait long behind a batch. */
static bool answers_queries(const struct indexer *indexer, const char *digest) {
    struct indexer_collection *collection, *next;
    HASH_ITER(hh, indexer->collections, collection, next) {
        for (const struct indexer_index *index = collection->indexes; index; index = index->next)
            if (indexer_index_in(index, INDEX_SERVING) && text_equal(index->row.encoder_digest, digest)) return true;
    }
    return false;
}

struct indexer_replica *indexer_replicas_take(struct indexer *indexer, const char *digest, bool is_bulk,
                                              bool *ret_is_short, uint64_t *ret_retry_ms) {
    uint64_t now_ms = clock_monotonic_ms();
    struct indexer_replica *best = NULL, *replica, *next;
    *ret_is_short = answers_queries(indexer, digest);
    /* New writes get a place of their own beside an index that is filled through the same replica. */
    unsigned places = *ret_is_short ? 1 + !is_bulk : BULK_IN_FLIGHT;
    *ret_retry_ms = 0;
    HASH_ITER(hh, indexer->replicas, replica, next) {
        if (!text_equal(replica->digest, digest)) continue;
        uint64_t free_ms = replica->suspect_until_ms > now_ms ? replica->suspect_until_ms
                           : replica->in_flight >= places     ? INDEXER_FOREVER
                                                              : now_ms;
        if (!*ret_retry_ms || free_ms < *ret_retry_ms) *ret_retry_ms = free_ms;
        if (free_ms == now_ms && (!best || replica->in_flight < best->in_flight)) best = replica;
    }
    if (!best) return NULL;
    best->in_flight++;
    best->references++;
    return best;
}

void indexer_replica_give_back(struct indexer *indexer, struct indexer_replica *replica) {
    replica->in_flight--;
    release(indexer, replica);
    indexer_wake_embedders(indexer);
}

void indexer_replica_suspect(struct indexer_replica *replica) {
    replica->suspect_until_ms = clock_monotonic_ms() + SUSPECT_MS;
}

void indexer_replica_is_really(struct indexer *indexer, struct indexer_replica *replica, const char *digest) {
    free(replica->digest);
    replica->digest = text_copy(digest);
    end_starving(indexer, replica->digest);
}
