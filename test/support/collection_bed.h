/* A collection in a scratch folder, with the calls that tests make often: each ends the test when it fails. */
#pragma once
#include "collection/collection.h"

struct collection_bed {
    char *root, *folder; /* root/<id>, made by collection_bed_create() */
    struct collection *writes, *indexes; /* as the gateway and as the indexer have it open; NULL when not */
};
#define BED_COLLECTION "11111111-1111-4111-8111-111111111111"
#define BED_BLUE "aaaaaaaa-0000-4000-8000-000000000001"
#define BED_BLUE_QUERIES "aaaaaaaa-0000-4000-8000-000000000002"

struct collection_bed *collection_bed_new(bool keep_queries); /* made and open */
void collection_bed_free(struct collection_bed *bed);
/* Makes it in an existing folder. */
int collection_bed_create(const char *root, bool keep_queries, struct error **ret_error);
void collection_bed_open(struct collection_bed *bed);
void collection_bed_close(struct collection_bed *bed);

/* Ends the test with the error's text when `result` is negative. */
void bed_require(int result, struct error *error, const char *what);
#define REQUIRE(call)                                                                                                  \
    do {                                                                                                               \
        struct error *error = NULL;                                                                                    \
        int result_ = (call);                                                                                          \
        bed_require(result_, error, #call);                                                                            \
    } while (0)
/* The call fails with that class, and its text has that part. */
void bed_refused(int result, struct error *error, enum error_class class, const char *part, const char *what);
#define REFUSED(call, class, part)                                                                                     \
    do {                                                                                                               \
        struct error *error = NULL;                                                                                    \
        int result_ = (call);                                                                                          \
        bed_refused(result_, error, class, part, #call);                                                               \
    } while (0)

uint64_t bed_put(struct collection_bed *bed, const char *id, const char *text); /* its seq */
uint64_t bed_delete(struct collection_bed *bed, const char *id);
struct collection_read *bed_read(struct collection_bed *bed, enum collection_set set);
uint64_t bed_head(struct collection_bed *bed);
/* Adds an index (and a query index named after it) and, `ready`, takes it there with durable_seq. */
void bed_add_index(struct collection_bed *bed, const char *index_id, const char *digest);
void bed_make_ready(struct collection_bed *bed, const char *index_id, uint64_t durable_seq);
/* The state of an index; caller frees. */
char *bed_state(struct collection_bed *bed, const char *index_id);
