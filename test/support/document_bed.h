/* A gateway bed with one real collection, "c", of four dimensions: its log, its blue index, and a replica of its
 * encoder (fakes/fake_encoder.h: a text is its own vector). The test plays the indexer: document_bed_index() follows
 * the log.
 */
#pragma once
#include "collection/collection.h"
#include "fakes/fake_encoder.h"
#include "support/gateway_bed.h"
#include "vector/vector.h"

#define BED_COLLECTION_ID "11111111-1111-4111-8111-111111111111"
#define BED_BLUE_ID "aaaaaaaa-0000-4000-8000-000000000001"
#define BED_QUERIES_ID "aaaaaaaa-0000-4000-8000-000000000002"
#define BED_GREEN_ID "bbbbbbbb-0000-4000-8000-000000000001"
#define BED_DIGEST "digest-1"
#define BED_GREEN_DIGEST "digest-2"
#define BED_DIMENSION 4

/* An index and how far it follows. */
struct bed_index {
    const char *index_id, *digest;
    enum collection_set set;
    struct vector_writer *writer;
    uint64_t written;
};

struct document_bed {
    struct gateway_bed bed;
    bool keep_queries, quantized;
    char *root, *folder;
    struct collection *log; /* as the indexer has it */
    struct bed_index blue, queries, green;
    struct fake_encoder a, b;
    struct client client; /* of the last document_bed_ask() */
};

/* Settings may be changed between these two. */
void document_bed_open(struct document_bed *bed, bool keep_queries, bool quantized);
void document_bed_start(struct document_bed *bed);
void document_bed_close(struct document_bed *bed);
/* A second replica of the encoder. */
void document_bed_second_replica(struct document_bed *bed);

/* The answer is in bed->client; its status. `type` NULL: application/json. body NULL: none. */
int document_bed_ask(struct document_bed *bed, const char *method, const char *target, const char *type,
                     const char *body);
/* The same without waiting for the answer. */
void document_bed_begin(struct document_bed *bed, struct client *client, const char *method, const char *target,
                        const char *type, const char *body, size_t size);
/* Fails the test unless the status is this one. */
void document_bed_expect(struct document_bed *bed, int status, const char *method, const char *target,
                         const char *body);
/* PUT of {"text": text} that must succeed; its seq. */
uint64_t document_bed_put(struct document_bed *bed, const char *id, const char *text, const char *payload);
bool document_bed_answer_has(const struct document_bed *bed, const char *part);
/* A number in the answer's top object; fails the test when there is none. */
uint64_t document_bed_number(const struct document_bed *bed, const char *key);
/* The ids of the answer's hits, joined by blanks. Valid until the next call. */
const char *document_bed_hits(const struct document_bed *bed);

/* Makes the folder of an index. */
void document_bed_make_index(struct document_bed *bed, struct bed_index *index);
/* Follows the log to its end; says nothing. */
void document_bed_follow(struct document_bed *bed, struct bed_index *index);
/* Follows with the blue one and says log_indexed. */
void document_bed_index(struct document_bed *bed);
void document_bed_say_indexed(struct document_bed *bed, uint64_t seq);
/* Adds the green index (deployment e, digest-2), has it follow, flips to it; says nothing. */
void document_bed_flip(struct document_bed *bed);
