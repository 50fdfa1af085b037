/* Metrics of collections: what is in them, and how far their indexes are behind. Each is a database of its own that is
 * opened for a look, so that looking at very many is left when its time is over; how many were seen is told. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"
#include "controller/metrics-internal.h"

#define TIME_MS 300 /* the gateway waits for a second */

struct look {
    struct catalog_view view;
    const char *name; /* borrowed from the entry; needs no escapes */
    bool is_there;
};

static void add_family(struct buffer *out, const char *name, const char *type, const char *help) {
    buffer_append_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_documents(const struct look *looks, size_t count, struct buffer *out) {
    add_family(out, "slipway_collection_documents", "gauge", "Documents in a collection.");
    for (size_t i = 0; i < count; i++)
        if (looks[i].is_there)
            buffer_append_format(out, "slipway_collection_documents{collection=\"%s\"} %llu\n", looks[i].name,
                                 (unsigned long long)looks[i].view.live);
}

/* The log ends where its last write is; an index is durable up to some earlier one. */
static uint64_t lag_of(const struct catalog_view *view, const struct collection_index *index) {
    uint64_t head = index->set == COLLECTION_QUERIES ? view->query_head : view->head;
    return head > index->durable_seq ? head - index->durable_seq : 0;
}

static void add_lags(const struct look *looks, size_t count, struct buffer *out) {
    static const char name[] = "slipway_index_lag";
    add_family(out, name, "gauge", "Writes of a collection's log that an index has not durably taken yet.");
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < looks[i].view.count; k++) {
            const struct collection_index *index = &looks[i].view.indexes[k];
            if (text_equal(index->state, "retired")) continue;
            buffer_append_format(out, "%s{collection=\"%s\",index=\"%s\",set=\"%s\",state=\"%s\"} %llu\n", name,
                                 looks[i].name, index->index_id,
                                 index->set == COLLECTION_QUERIES ? "queries" : "documents", index->state,
                                 (unsigned long long)lag_of(&looks[i].view, index));
        }
}

/* How many were looked at. */
static size_t look_at_all(const struct controller *controller, const struct catalog_entry *entries, size_t count,
                          struct look *looks) {
    uint64_t by_ms = clock_monotonic_ms() + TIME_MS;
    size_t seen = 0;
    for (; seen < count && clock_monotonic_ms() < by_ms; seen++) {
        looks[seen].name = entries[seen].name;
        looks[seen].is_there = text_equal(entries[seen].state, "active") &&
                               catalog_view_load(controller, entries[seen].id, &looks[seen].view, NULL) >= 0;
    }
    return seen;
}

static int load_entries(const struct controller *controller, struct catalog_entry **ret_entries, size_t *ret_count) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int64_t total;
    int result = store_begin(controller->store, &tx, NULL);
    return result < 0 ? result : catalog_list(tx, 0, 0, ret_entries, ret_count, &total, NULL);
}

void metrics_write_collections(const struct controller *controller, struct buffer *out) {
    struct catalog_entry *entries = NULL;
    size_t count = 0;
    if (load_entries(controller, &entries, &count) < 0) return;
    struct look *looks = mem_new_array(count + 1, struct look);
    size_t seen = look_at_all(controller, entries, count, looks);
    add_family(out, "slipway_collections", "gauge", "Collections there are.");
    buffer_append_format(out, "slipway_collections %zu\n", count);
    add_family(out, "slipway_collections_unseen", "gauge", "Collections that there was no time to look at.");
    buffer_append_format(out, "slipway_collections_unseen %zu\n", count - seen);
    add_documents(looks, seen, out);
    add_lags(looks, seen, out);
    for (size_t i = 0; i < seen; i++) catalog_view_clear(&looks[i].view);
    free(looks);
    catalog_list_free(entries, count);
}
