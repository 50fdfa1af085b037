/* Collections on top of engine_bed: requests on them, and what must hold of them when nothing is going on. */
#pragma once
#include "support/engine_bed.h"

/* A model that embeds with that encoder_digest. */
void reindex_add_model(struct engine_bed *bed, const char *name, const char *digest);
/* A collection over the deployment: its id (caller frees). NULL with *ret_error when it was turned down. */
char *reindex_collection(struct engine_bed *bed, const char *name, const char *deployment, struct error **ret_error);

struct reindex_order {
    const char *collection;
    const char *destination; /* a deployment's name, or NULL with `model` */
    const char *model; /* to be deployed under `as` */
    const char *as;
    int64_t window_ms;
    double max_failed;
    bool keep_source, no_switch, waits;
};
/* The task's id (caller frees); NULL when it was turned down. */
char *reindex_begin(struct engine_bed *bed, const struct reindex_order *order, struct error **ret_error);
/* index_id NULL: a rollback. */
char *reindex_switch(struct engine_bed *bed, const char *collection, const char *index_id, struct error **ret_error);
char *reindex_delete(struct engine_bed *bed, const char *collection);

/* The pair and the list of indexes of the collection of that name. */
struct catalog_view reindex_view(struct engine_bed *bed, const char *collection);
/* The name of the deployment that is blue; caller frees. */
char *reindex_blue(struct engine_bed *bed, const char *collection);
size_t reindex_count_indexes(struct engine_bed *bed, const char *collection, const char *state);
/* The newest task of that kind under the parent; caller frees. NULL when there is none. */
char *reindex_child(struct engine_bed *bed, const char *parent_id, const char *kind);

/* Asserts that exactly one pair is blue, that it serves, that every index is pinned and every pin has its index, and
 * what bed_check_consistent() asserts. */
void reindex_check(struct engine_bed *bed, const char *collection);
