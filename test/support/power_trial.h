/* Trials by power cut: code runs in a child until the power is cut, and what is there after the next boot is looked at.
 * With a history of documents that both sides can work out. */
#pragma once
#include "collection_bed.h"
#include "power.h"

#define TRIAL_SEED UINT64_C(20261121)

struct trial {
    void (*prepare)(const char *folder); /* makes the folder, unwatched */
    void (*run)(struct power *power, const char *folder); /* in the child */
    void (*check)(struct power *power, const char *folder); /* of what is there after the next boot */
};
/* One cut in place of call `at`, or at the end; *ret_calls: how many there were until then. Whether it was cut. */
bool trial_cut_once(const struct trial *trial, unsigned at, uint64_t seed, unsigned *ret_calls);
/* A cut in place of every call, until there are no more: at least `fewest`. */
void trial_cut_everywhere(const struct trial *trial, unsigned fewest);

/* A folder with nothing in it; a collection's folder, with queries. */
void trial_prepare_nothing(const char *folder);
void trial_prepare_collection(const char *folder);
/* In the child: as collection_bed_open(). */
void trial_open(struct collection_bed *bed);

uint64_t trial_mix(uint64_t number);

/* The documents after some steps: the number of the row that each id's text is in, 0 for none. */
#define TRIAL_IDS 8
struct trial_model {
    uint64_t step, head, rows[TRIAL_IDS];
};
/* The model after the steps that lead to that head. */
struct trial_model trial_model_at(uint64_t head);
/* In the child: steps [first, first + count), at most 4, in one append. */
void trial_write_steps(struct collection *collection, uint64_t first, size_t count, uint64_t *ret_head);
/* The log that is there is the one after some whole number of writes, and holds all that were acknowledged. */
void trial_check_documents(struct collection *collection, uint64_t acknowledged);
/* SQLite's own check of a database in that folder. */
void trial_check_database(const char *folder, const char *name);
uint64_t trial_durable_of(struct collection_bed *bed, const char *index_id);

/* A row's vector is that of vector_bed_row(), normalised. */
bool trial_is_vector_of(const float *kept, uint64_t born, uint32_t dimension);
