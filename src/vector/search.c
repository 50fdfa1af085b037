/* Exact search: every row that is seen is compared with the query, at the speed at which memory can be read.
 *
 * Rows are taken in stretches of chunk_rows, by as many threads as the pool has; each keeps its own best k, and they
 * are put together at the end.
 *
 * In a quantized index the int8 codes are read instead of the rows, a quarter of the bytes. What a code leaves out has
 * a length, which is kept with it, so that the true product lies within product +- margin (Cauchy and Schwarz). A row
 * matters only if its upper bound reaches the k-th best lower bound; those few are compared with their rows as they
 * are. So the hits are the same as without codes, bit for bit.
 */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "vector/vector-internal.h"

#define BLOCK 256 /* rows whose products are made before they are looked at */
#define CHUNK_BYTES (512 << 10) /* what a thread takes at a time */
#define ALONE_BYTES (4 << 20) /* less than this is not worth waking threads for */
#define CANDIDATES 4096
#define ALIGNMENT 64

struct search {
    struct vector_view *view;
    const struct vector_query *query;
    const struct vector_kernels *kernels;
    float *vector; /* normalised, stride floats */
    struct vector_query_code code; /* quantized */
    float margin_factor, margin; /* of a row: its scale's error * margin_factor + margin */
    uint64_t total, chunk; /* rows, or numbers of `only` */
    _Atomic uint64_t next;
    pthread_mutex_t lock; /* of `best` */
    struct vector_best best;
};

struct candidate {
    const struct vector_segment *segment;
    uint64_t row;
    float upper;
};

/* One thread's share. */
struct share {
    struct search *search;
    struct vector_best best;
    struct vector_best lower; /* lower bounds */
    float threshold; /* what an upper bound must reach */
    struct candidate *candidates;
    size_t candidate_count;
};

static void take(struct share *share, const struct vector_segment *segment, uint64_t row, float product) {
    float score = product > 1 ? 1 : product < -1 ? -1 : product; /* rounding goes beyond */
    vector_best_add(&share->best, vector_segment_born(segment, row), score);
}

/* ---- rows as they are
 * -------------------------------------------------------------------------------------------------- */

static void scan_rows(struct share *share, const struct vector_segment *segment, uint64_t from, uint64_t to) {
    const struct search *search = share->search;
    size_t stride = segment->layout.stride;
    float products[BLOCK];
    for (uint64_t start = from; start < to; start += BLOCK) {
        size_t count = to - start < BLOCK ? to - start : BLOCK;
        search->kernels->products(vector_segment_vector(segment, start), stride, count, search->vector, products);
        float threshold = vector_best_threshold(&share->best);
        for (size_t i = 0; i < count; i++) {
            if (products[i] <= threshold || !vector_view_sees(search->view, segment, start + i)) continue;
            take(share, segment, start + i, products[i]);
            threshold = vector_best_threshold(&share->best);
        }
    }
}

/* ---- codes
 * ---------------------------------------------------------------------------------------------------------------- */

/* Compares the candidates that still matter with their rows, and forgets them all. */
static void settle_candidates(struct share *share) {
    const struct search *search = share->search;
    for (size_t i = 0; i < share->candidate_count; i++) {
        const struct candidate *candidate = &share->candidates[i];
        if (candidate->upper < share->threshold) continue;
        float product;
        search->kernels->products(vector_segment_vector(candidate->segment, candidate->row),
                                  candidate->segment->layout.stride, 1, search->vector, &product);
        take(share, candidate->segment, candidate->row, product);
    }
    share->candidate_count = 0;
    float threshold = vector_best_threshold(&share->best);
    if (share->threshold < threshold) share->threshold = threshold;
}

static void add_candidate(struct share *share, const struct vector_segment *segment, uint64_t row, float upper,
                          float lower) {
    if (share->candidate_count == CANDIDATES) settle_candidates(share);
    share->candidates[share->candidate_count++] = (struct candidate){segment, row, upper};
    vector_best_add(&share->lower, row, lower);
    float threshold = vector_best_threshold(&share->lower);
    if (share->threshold < threshold) share->threshold = threshold;
}

static void scan_codes(struct share *share, const struct vector_segment *segment, uint64_t from, uint64_t to) {
    const struct search *search = share->search;
    size_t stride = segment->layout.code_stride;
    float products[BLOCK];
    for (uint64_t start = from; start < to; start += BLOCK) {
        size_t count = to - start < BLOCK ? to - start : BLOCK;
        search->kernels->code_products(segment->codes + start * stride, stride, count, search->code.code, products);
        const struct vector_code_scale *scales = segment->scales + start;
        for (size_t i = 0; i < count; i++) {
            float product = products[i] * search->code.scale * scales[i].scale;
            float margin = scales[i].error * search->margin_factor + search->margin;
            if (product + margin < share->threshold || !vector_view_sees(search->view, segment, start + i)) continue;
            add_candidate(share, segment, start + i, product + margin, product - margin);
        }
    }
}

/* ---- stretches
 * -------------------------------------------------------------------------------------------------------------- */

static void scan_stretch(struct share *share, uint64_t from, uint64_t to) {
    const struct vector_view *view = share->search->view;
    const struct vector_generation *generation = view->generation;
    for (size_t i = 0; i < generation->manifest.count; i++) {
        uint64_t rows = view->rows[i];
        if (from < rows) {
            uint64_t end = to < rows ? to : rows;
            if (generation->manifest.quantized)
                scan_codes(share, generation->segments[i], from, end);
            else
                scan_rows(share, generation->segments[i], from, end);
            from = end;
        }
        if (to <= rows) break;
        from -= rows;
        to -= rows;
    }
}

/* The numbers of `only` from the from-th to before the to-th. */
static void scan_only(struct share *share, uint64_t from, uint64_t to) {
    const struct search *search = share->search;
    const struct vector_view *view = search->view;
    const uint64_t *only = search->query->only;
    size_t at = 0;
    for (; from < to; from++) {
        const struct vector_segment *segment = NULL;
        for (; at < view->generation->manifest.count; at++) {
            segment = view->generation->segments[at];
            if (view->rows[at] && vector_segment_born(segment, view->rows[at] - 1) >= only[from]) break;
        }
        if (at == view->generation->manifest.count) return;
        uint64_t row = vector_segment_find(segment, view->rows[at], only[from]);
        if (row == UINT64_MAX || !vector_view_sees(view, segment, row)) continue;
        float product;
        search->kernels->products(vector_segment_vector(segment, row), segment->layout.stride, 1, search->vector,
                                  &product);
        if (product > vector_best_threshold(&share->best)) take(share, segment, row, product);
    }
}

/* On each thread: stretch after stretch until there is none left. */
static void work(void *context) {
    struct search *search = context;
    struct share share = {.search = search, .best.limit = search->best.limit, .threshold = -2};
    bool uses_codes = search->code.code != NULL;
    uint64_t from = atomic_fetch_add(&search->next, search->chunk);
    if (from >= search->total) return;
    share.best.hits = mem_alloc(share.best.limit * sizeof *share.best.hits);
    if (uses_codes) {
        share.lower = (struct vector_best){mem_alloc(share.best.limit * sizeof *share.best.hits), 0, share.best.limit};
        share.candidates = mem_alloc(CANDIDATES * sizeof *share.candidates);
    }
    for (; from < search->total; from = atomic_fetch_add(&search->next, search->chunk)) {
        uint64_t to = search->total - from < search->chunk ? search->total : from + search->chunk;
        if (search->query->only)
            scan_only(&share, from, to);
        else
            scan_stretch(&share, from, to);
    }
    settle_candidates(&share);
    pthread_mutex_lock(&search->lock);
    for (size_t i = 0; i < share.best.count; i++)
        vector_best_add(&search->best, share.best.hits[i].born, share.best.hits[i].score);
    pthread_mutex_unlock(&search->lock);
    free(share.best.hits);
    free(share.lower.hits);
    free(share.candidates);
}

/* ---- the whole
 * ----------------------------------------------------------------------------------------------------------------- */

/* The query as the kernels want it; false when it has no direction. Free search->vector. */
static bool prepare(struct search *search) {
    const struct vector_manifest *manifest = &search->view->generation->manifest;
    struct vector_layout layout;
    vector_layout_of(manifest->dimension, manifest->quantized, 1, &layout);
    size_t vector_size = (layout.stride * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    bool uses_codes = manifest->quantized && !search->query->only;
    size_t row_bytes = uses_codes ? layout.code_stride : layout.stride * sizeof(float);
    search->vector = aligned_alloc(ALIGNMENT, vector_size + layout.code_stride * sizeof(int16_t));
    if (!search->vector || !vector_normalise(search->query->vector, manifest->dimension, search->vector, layout.stride))
        return false;
    search->chunk = CHUNK_BYTES / row_bytes + 1;
    if (!uses_codes) return true;
    search->code.code = (int16_t *)((char *)search->vector + vector_size);
    vector_quantise_query(search->vector, manifest->dimension, layout.code_stride, &search->code);
    search->margin_factor = 1.0001f + search->code.error;
    search->margin = 1.0001f * search->code.error + vector_rounding(layout.stride) + 2e-6f;
    return true;
}

size_t folder_search(struct vector_view *view, const struct vector_query *query, struct vector_hit *ret_hits) {
    struct search search = {.view = view, .query = query, .kernels = vector_kernels_best()};
    search.total = query->only ? query->only_count : view->total;
    search.best =
        (struct vector_best){.hits = ret_hits, .limit = query->limit < view->total ? query->limit : view->total};
    if (search.best.limit && search.total && prepare(&search)) {
        bool is_small = search.total / search.chunk < ALONE_BYTES / CHUNK_BYTES;
        pthread_mutex_init(&search.lock, NULL);
        vector_pool_run(is_small ? NULL : query->pool, work, &search);
        pthread_mutex_destroy(&search.lock);
        vector_best_sort(&search.best);
    }
    free(search.vector);
    return search.best.count;
}
