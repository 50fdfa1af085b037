/* The gate before a switch: at one number of the log, h, read in one transaction, the destination is brought to exactly
 * h and looked at. Live documents = indexed + failed (L9), every row is a living row of the log, a sample embedded now
 * has the vectors that are kept, and, when asked, source and destination agree so far about kept queries. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define NEAR_ROWS 2048 /* what is taken inside the gate; a destination that is further behind comes nearer first */
#define ROUNDS 64
#define SAMPLE 32
#define COSINE_AT_LEAST 0.9999
#define OVERLAP_QUERIES 200
#define OVERLAP_K_MAXIMUM 1000

struct gate {
    struct ask_job *job;
    struct indexer *indexer;
    struct indexer_collection *collection;
    struct indexer_index *index, *source;
    struct collection_read *read; /* of the documents' log, at h */
    struct vector_reader *reader;
    struct vector_view *view; /* of the destination, at h */
    uint64_t seq;
    uint64_t *live, *rows, *failed;
    size_t live_count, row_count, failed_count;
    int64_t maximum_failed, overlap_k;
    double overlap_at_least;
    size_t sample_count;
    double lowest_cosine;
};

static void gate_clear(struct gate *gate) {
    const struct vector_ops *vectors = gate->indexer->vectors;
    if (gate->view) vectors->release(gate->view);
    if (gate->reader) vectors->close_reader(gate->reader);
    collection_read_end(gate->read);
    free(gate->live);
    free(gate->rows);
    free(gate->failed);
}

static int open_view(struct gate *gate, struct indexer_index *index, uint64_t head, struct vector_reader **ret_reader,
                     struct vector_view **ret_view, struct error **ret_error) {
    struct vector_spec spec;
    indexer_index_spec(index, &spec);
    int result = gate->indexer->vectors->open_reader(index->folder, &spec, ret_reader, ret_error);
    return result < 0 ? result : gate->indexer->vectors->look(*ret_reader, head, ret_view, ret_error);
}

/* ---- to one number --------------------------------------------------------------------- */

/* Claimed. 1: it is at h and looked at; 0: it cannot be brought there now. */
static int bring_to(struct gate *gate, struct error **ret_error) {
    bool more = true;
    int result = collection_read_begin(gate->collection->store, COLLECTION_DOCUMENTS, &gate->read, ret_error);
    if (result < 0) return result;
    gate->seq = collection_head(gate->read);
    for (int round = 0; more && gate->index->written < gate->seq && round < ROUNDS; round++) {
        result = indexer_follow(gate->job->worker, gate->index, gate->seq, &more, ret_error);
        if (result < 0) return result;
    }
    if (gate->index->written != gate->seq) return 0;
    result = open_view(gate, gate->index, gate->seq, &gate->reader, &gate->view, ret_error);
    return result < 0 ? result : 1;
}

/* Everything that must be of that moment is read while it is: the claim and the transaction are let go soon. */
static int take_rows(struct gate *gate, struct error **ret_error) {
    gate->rows = indexer_view_rows(gate->indexer->vectors, gate->view, &gate->row_count);
    int result = indexer_live_rows(gate->read, gate->seq, &gate->live, &gate->live_count, ret_error);
    if (result >= 0)
        result =
            indexer_failed_rows(gate->read, gate->index->row.index_id, &gate->failed, &gate->failed_count, ret_error);
    return result;
}

static enum ask_outcome look_at_rows(struct gate *gate, struct error **ret_error) {
    pthread_mutex_lock(&gate->indexer->lock);
    bool near = gate->collection->heads[COLLECTION_DOCUMENTS] - gate->index->written <= NEAR_ROWS &&
                !indexer_is_filling(gate->index);
    if (near) indexer_claim(gate->index);
    pthread_mutex_unlock(&gate->indexer->lock);
    if (!near) return ASK_WAITS;
    int result = bring_to(gate, ret_error);
    if (result > 0 && take_rows(gate, ret_error) < 0) result = -1;
    pthread_mutex_lock(&gate->indexer->lock);
    indexer_release(gate->index);
    pthread_mutex_unlock(&gate->indexer->lock);
    return result < 0 ? ASK_FAILED : result ? ASK_DONE : ASK_WAITS;
}

/* ---- the counts (L9) ------------------------------------------------------------------------ */

static int fail(struct gate *gate, struct error **ret_error, const char *why) {
    return error_set(ret_error, ERROR_DEPLOYMENT,
                     "the gate is closed: %s (at %llu: %zu live documents, %zu indexed, %zu failed)", why,
                     (unsigned long long)gate->seq, gate->live_count, gate->row_count, gate->failed_count);
}

/* Both ascending: indexed and failed together must be the live ones, each once. */
static int check_rows(struct gate *gate, struct error **ret_error) {
    size_t row = 0, failure = 0;
    for (size_t i = 0; i < gate->live_count; i++) {
        bool is_row = row < gate->row_count && gate->rows[row] == gate->live[i];
        bool is_failure = failure < gate->failed_count && gate->failed[failure] == gate->live[i];
        if (is_row == is_failure) return fail(gate, ret_error, "a living document is not in the index exactly once");
        row += is_row;
        failure += is_failure;
    }
    if (row != gate->row_count) return fail(gate, ret_error, "the index has a row that is no living document");
    if (failure != gate->failed_count) return fail(gate, ret_error, "an item is kept as failed that is not living");
    if ((int64_t)gate->failed_count > gate->maximum_failed) return fail(gate, ret_error, "too many items have failed");
    return 0;
}

/* ---- the sample -------------------------------------------------------------------------------- */

/* A small generator with a seed (splitmix64): the same index gives the same sample. */
static uint64_t next_random(uint64_t *state) {
    uint64_t value = *state += 0x9e3779b97f4a7c15u;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

static uint64_t seed_of(const char *text) {
    uint64_t seed = 0;
    for (; *text; text++) seed = seed * 31 + (unsigned char)*text;
    return seed;
}

struct sample {
    uint64_t rows[SAMPLE];
    struct embed_item items[SAMPLE];
    char *texts[SAMPLE];
    float *embedded, *kept;
    size_t count;
};

static void sample_clear(struct sample *sample) {
    for (size_t i = 0; i < sample->count; i++) {
        free(sample->texts[i]);
        free(sample->items[i].detail);
    }
    free(sample->embedded);
    free(sample->kept);
}

static int take_sample(struct gate *gate, struct sample *sample, struct error **ret_error) {
    size_t dimension = (size_t)gate->index->row.dimension;
    uint64_t random = seed_of(gate->index->row.index_id);
    size_t count = gate->row_count < SAMPLE ? gate->row_count : SAMPLE;
    sample->embedded = mem_new_array(SAMPLE * dimension, float);
    sample->kept = mem_new_array(SAMPLE * dimension, float);
    for (size_t i = 0; i < count; i++) {
        _cleanup_collection_row_ struct collection_row row = {0};
        uint64_t seq = gate->rows[count == SAMPLE ? next_random(&random) % gate->row_count : i];
        int result = collection_find_seq(gate->read, seq, true, &row, ret_error);
        if (result < 0) return result;
        bool is_there =
            result && row.text && gate->indexer->vectors->fetch(gate->view, seq, sample->kept + i * dimension);
        if (!is_there) return fail(gate, ret_error, "a row of the index has no text or no vector");
        sample->texts[i] = TAKE(row.text);
        sample->items[i] = (struct embed_item){
            .text = sample->texts[i], .size = strlen(sample->texts[i]), .vector = sample->embedded + i * dimension};
        sample->count++;
    }
    return 0;
}

static double cosine(const float *left, const float *right, size_t dimension) {
    double product = 0, left_square = 0, right_square = 0;
    for (size_t i = 0; i < dimension; i++) {
        product += (double)left[i] * right[i];
        left_square += (double)left[i] * left[i];
        right_square += (double)right[i] * right[i];
    }
    double length = sqrt(left_square * right_square);
    return length > 0 ? product / length : 0;
}

static int compare_sample(struct gate *gate, struct sample *sample, struct error **ret_error) {
    size_t dimension = (size_t)gate->index->row.dimension;
    gate->lowest_cosine = 1;
    gate->sample_count = sample->count;
    for (size_t i = 0; i < sample->count; i++) {
        double same = sample->items[i].state != EMBED_DONE
                          ? -1
                          : cosine(sample->embedded + i * dimension, sample->kept + i * dimension, dimension);
        if (same < gate->lowest_cosine) gate->lowest_cosine = same;
    }
    if (gate->lowest_cosine >= COSINE_AT_LEAST) return 0;
    _cleanup_free_ char *why =
        text_format("a document that was embedded again has a cosine of %.6f with its vector", gate->lowest_cosine);
    return fail(gate, ret_error, why);
}

static enum ask_outcome check_sample(struct gate *gate, struct error **ret_error) {
    struct sample sample = {0};
    enum ask_outcome outcome = take_sample(gate, &sample, ret_error) < 0 ? ASK_FAILED : ASK_DONE;
    struct embed_order order = {.digest = gate->index->row.encoder_digest,
                                .dimension = (size_t)gate->index->row.dimension,
                                .items = sample.items,
                                .count = sample.count};
    if (outcome == ASK_DONE && indexer_embed(gate->job->worker, &order) != EMBED_FINISHED)
        outcome = ASK_WAITS; /* no replica is up: one will be */
    if (outcome == ASK_DONE && compare_sample(gate, &sample, ret_error) < 0) outcome = ASK_FAILED;
    sample_clear(&sample);
    return outcome;
}

/* ---- the overlap ------------------------------------------------------------------------------------ */

/* One side: the index of documents and that of queries, as they are now. */
struct side {
    struct vector_reader *reader, *query_reader;
    struct vector_view *view, *query_view;
    float *vector;
    struct vector_hit *hits;
};

static void side_clear(const struct vector_ops *vectors, struct side *side) {
    if (side->view) vectors->release(side->view);
    if (side->query_view) vectors->release(side->query_view);
    if (side->reader) vectors->close_reader(side->reader);
    if (side->query_reader) vectors->close_reader(side->query_reader);
    free(side->vector);
    free(side->hits);
}

static int open_side(struct gate *gate, struct indexer_index *index, uint64_t query_head, struct side *side,
                     struct error **ret_error) {
    pthread_mutex_lock(&gate->indexer->lock);
    struct indexer_index *queries = indexer_partner(index);
    pthread_mutex_unlock(&gate->indexer->lock);
    if (!queries) return error_set(ret_error, ERROR_DEPLOYMENT, "the collection keeps no queries to compare with");
    int result = open_view(gate, index, gate->seq, &side->reader, &side->view, ret_error);
    if (result >= 0) result = open_view(gate, queries, query_head, &side->query_reader, &side->query_view, ret_error);
    side->vector = mem_new_array((size_t)index->row.dimension, float);
    side->hits = mem_new_array((size_t)gate->overlap_k, struct vector_hit);
    return result;
}

static size_t search(const struct gate *gate, struct side *side, uint64_t query) {
    const struct vector_ops *vectors = gate->indexer->vectors;
    if (!vectors->fetch(side->query_view, query, side->vector)) return 0;
    return vectors->search(side->view, &(struct vector_query){.vector = side->vector, .limit = (size_t)gate->overlap_k},
                           side->hits);
}

static double share_of(const struct side *source, size_t source_count, const struct side *destination,
                       size_t destination_count) {
    size_t both = 0, larger = source_count > destination_count ? source_count : destination_count;
    for (size_t i = 0; i < source_count; i++)
        for (size_t j = 0; j < destination_count; j++) both += source->hits[i].born == destination->hits[j].born;
    return larger ? (double)both / (double)larger : 1;
}

static int measure_overlap(struct gate *gate, struct side sides[2], double *ret_mean, size_t *ret_queries) {
    const struct vector_ops *vectors = gate->indexer->vectors;
    _cleanup_free_ uint64_t *queries = NULL;
    size_t count = 0, measured = 0;
    double sum = 0;
    queries = indexer_view_rows(vectors, sides[1].query_view, &count);
    size_t step = count > OVERLAP_QUERIES ? count / OVERLAP_QUERIES : 1;
    for (size_t i = 0; i < count; i += step) {
        size_t found[2] = {search(gate, &sides[0], queries[i]), search(gate, &sides[1], queries[i])};
        if (!found[0]) continue; /* the source has it no more, or not yet */
        sum += share_of(&sides[0], found[0], &sides[1], found[1]);
        measured++;
    }
    *ret_queries = measured;
    *ret_mean = measured ? sum / (double)measured : 0;
    return measured > 0;
}

static void report_overlap(struct gate *gate, size_t queries, double mean) {
    yyjson_mut_doc *answer = gate->job->answer;
    yyjson_mut_val *overlap = yyjson_mut_obj(answer);
    yyjson_mut_obj_add_int(answer, overlap, "k", gate->overlap_k);
    yyjson_mut_obj_add_uint(answer, overlap, "queries", queries);
    yyjson_mut_obj_add_real(answer, overlap, "mean", mean);
    yyjson_mut_obj_add_val(answer, gate->job->answer_root, "overlap", overlap);
}

static int check_overlap(struct gate *gate, struct error **ret_error) {
    struct side sides[2] = {0};
    struct collection_read *read = NULL;
    size_t queries = 0;
    double mean = 0;
    if (!gate->overlap_k || !gate->source) return 0;
    if (!gate->collection->keep_queries)
        return fail(gate, ret_error, "the collection keeps no queries to compare with");
    int result = collection_read_begin(gate->collection->store, COLLECTION_QUERIES, &read, ret_error);
    if (result >= 0) result = open_side(gate, gate->source, collection_head(read), &sides[0], ret_error);
    if (result >= 0) result = open_side(gate, gate->index, collection_head(read), &sides[1], ret_error);
    collection_read_end(read);
    if (result >= 0 && !measure_overlap(gate, sides, &mean, &queries))
        result = fail(gate, ret_error, "there are no kept queries to measure the overlap with");
    for (size_t i = 0; i < ARRAY_SIZE(sides); i++) side_clear(gate->indexer->vectors, &sides[i]);
    if (result < 0) return result;
    if (mean < gate->overlap_at_least) {
        _cleanup_free_ char *why = text_format(
            "source and destination share %.3f of their first %lld hits over %zu queries, and %.3f are asked for", mean,
            (long long)gate->overlap_k, queries, gate->overlap_at_least);
        return fail(gate, ret_error, why);
    }
    report_overlap(gate, queries, mean);
    return 0;
}

/* ---- the ask --------------------------------------------------------------------------------------------- */

static int read_gate(struct gate *gate, struct error **ret_error) {
    yyjson_val *body = gate->job->body;
    int result = json_get_number(body, "", "maximum_failed", true, 0, INT64_MAX, &gate->maximum_failed, ret_error);
    if (result >= 0)
        result = json_get_number(body, "", "overlap_k", false, 1, OVERLAP_K_MAXIMUM, &gate->overlap_k, ret_error);
    if (result >= 0)
        result = json_get_real(body, "", "overlap_at_least", false, 0, 1, &gate->overlap_at_least, ret_error);
    if (result < 0) return result;
    pthread_mutex_lock(&gate->indexer->lock);
    result = ask_index(gate->job, &gate->index, ret_error);
    gate->source = gate->collection->blue;
    if (result >= 0 && indexer_index_in(gate->index, INDEX_FAILED))
        result = error_set(ret_error, ERROR_DEPLOYMENT, "the index %s has failed", gate->index->row.index_id);
    pthread_mutex_unlock(&gate->indexer->lock);
    return result;
}

static void report(struct gate *gate) {
    yyjson_mut_doc *answer = gate->job->answer;
    yyjson_mut_val *root = gate->job->answer_root, *sample = yyjson_mut_obj(answer);
    yyjson_mut_obj_add_uint(answer, root, "seq", gate->seq);
    yyjson_mut_obj_add_uint(answer, root, "live", gate->live_count);
    yyjson_mut_obj_add_uint(answer, root, "indexed", gate->row_count);
    yyjson_mut_obj_add_uint(answer, root, "failed", gate->failed_count);
    yyjson_mut_obj_add_uint(answer, root, "truncated", gate->index->truncated);
    yyjson_mut_obj_add_uint(answer, sample, "count", gate->sample_count);
    yyjson_mut_obj_add_real(answer, sample, "lowest_cosine", gate->lowest_cosine);
    yyjson_mut_obj_add_val(answer, root, "sample", sample);
}

static enum ask_outcome run_gate(struct gate *gate, struct error **ret_error) {
    if (read_gate(gate, ret_error) < 0) return ASK_FAILED;
    enum ask_outcome outcome = look_at_rows(gate, ret_error);
    if (outcome == ASK_DONE && check_rows(gate, ret_error) < 0) outcome = ASK_FAILED;
    if (outcome == ASK_DONE) outcome = check_sample(gate, ret_error);
    if (outcome == ASK_DONE && check_overlap(gate, ret_error) < 0) outcome = ASK_FAILED;
    if (outcome == ASK_DONE) report(gate);
    return outcome;
}

enum ask_outcome indexer_ask_gate(struct ask_job *job, struct error **ret_error) {
    struct gate gate = {.job = job, .indexer = job->indexer, .collection = job->collection};
    enum ask_outcome outcome = run_gate(&gate, ret_error);
    gate_clear(&gate);
    return outcome;
}
