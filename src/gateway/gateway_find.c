/* A search on its worker: one moment of the log, the same moment of the index, the best rows, what the log says of them
 * (L5). With a filter the best rows are tried first; when too few of them fit, those that fit are looked for in the
 * whole log, and only they are compared. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway_search-internal.h"

#define VECTORS (&folder_vectors)
#define TRIES 10 /* an index or a log that is compacted meanwhile asks for a newer moment */
#define PAUSE_US 500 /* before the third try; doubles, so that all of them take a quarter of a second */
#define TRIED_FIRST_TIMES 4 /* with a filter: this often what is asked for, */
#define TRIED_FIRST_MORE 100 /* and so many more */
#define CHANGES_PAGE 256

struct found {
    struct collection_row row;
    float score;
};

struct finding {
    struct gateway_search *search;
    struct gateway_index *index;
    struct vector_reader *reader;
    struct collection_read *read;
    struct vector_view *view;
    struct vector_hit *hits;
    size_t hit_count;
    struct found *found; /* those of the page, at most `limit` */
    size_t found_count;
    uint64_t *only; /* rows that fit the filter, ascending */
    size_t only_count, only_capacity;
};

static void clear_finding(struct finding *finding) {
    for (size_t i = 0; i < finding->found_count; i++) collection_row_clear(&finding->found[i].row);
    free(finding->found);
    free(finding->hits);
    free(finding->only);
    if (finding->view) VECTORS->release(finding->view);
    collection_read_end(finding->read);
    *finding = (struct finding){.search = finding->search, .index = finding->index, .reader = finding->reader};
}

static struct vector_pool *pool_of(const struct gateway_search *search) {
    return search->exchange->gateway->collections.pool;
}

/* ---- one moment ---------------------------------------------------------------- */

/* It was made from another log, or was, and its reader has not seen yet that it was made anew: a look lets it see. */
static int refuse_ahead(struct finding *finding, uint64_t head, struct error **ret_error) {
    struct vector_info info;
    if (!VECTORS->look(finding->reader, head, &finding->view, NULL)) VECTORS->release(TAKE(finding->view));
    VECTORS->info(finding->reader, &info);
    if (info.written <= head) return error_set(ret_error, ERROR_CONFLICT, "the index was made anew");
    error_set(ret_error, ERROR_UNAVAILABLE, "index %s is ahead of its log (%llu, %llu): it is being made anew",
              finding->index->index_id, (unsigned long long)info.written, (unsigned long long)head);
    return error_mark_transient(ret_error);
}

/* How far the index is is read before the log's end is: it cannot be behind it unless it was made from another log
 * (L1). */
static int take_moment(struct finding *finding, struct error **ret_error) {
    struct collection *log = finding->search->exchange->collection->log;
    struct vector_info info;
    VECTORS->info(finding->reader, &info);
    int failed = collection_read_begin(log, finding->search->set, &finding->read, ret_error);
    if (failed) return failed;
    uint64_t head = collection_head(finding->read);
    if (info.written > head) return refuse_ahead(finding, head, ret_error);
    return VECTORS->look(finding->reader, head, &finding->view, ret_error);
}

static int compare(struct finding *finding, size_t limit, struct error **ret_error) {
    const struct vector_query query = {.vector = finding->search->vector,
                                       .limit = limit,
                                       .only = finding->only,
                                       .only_count = finding->only_count,
                                       .pool = pool_of(finding->search)};
    free(finding->hits);
    finding->hits = malloc(limit * sizeof *finding->hits);
    if (!finding->hits) return error_set(ret_error, ERROR_UNAVAILABLE, "there is no memory for %zu hits", limit);
    finding->hit_count = VECTORS->search(finding->view, &query, finding->hits);
    return 0;
}

/* ---- rows of the log -------------------------------------------------------------- */

/* A row that is seen stands in the log of the same moment; CONFLICT when the log has let it go: take a newer one. */
static int load_row(struct finding *finding, uint64_t seq, struct collection_row *ret_row, struct error **ret_error) {
    bool want_text = finding->search->set == COLLECTION_QUERIES; /* a document's is not in the answer */
    int found = collection_find_seq(finding->read, seq, want_text, ret_row, ret_error);
    if (found) return found < 0 ? found : 0;
    return error_set(ret_error, ERROR_CONFLICT, "row %llu of index %s is not in the log any more",
                     (unsigned long long)seq, finding->index->index_id);
}

/* Without what the answer does not have. */
static void keep(struct finding *finding, struct collection_row *row, float score) {
    const struct gateway_search *search = finding->search;
    if (!search->with_payload) free(TAKE(row->payload_json));
    finding->found[finding->found_count++] = (struct found){*row, score};
}

/* The page of what is asked for, from the hits that fit. *ret_enough: there is no need to look further. */
static int take_page(struct finding *finding, size_t limit, bool *ret_enough, struct error **ret_error) {
    const struct gateway_search *search = finding->search;
    size_t fitting = 0, wanted = search->offset + search->limit;
    for (size_t i = 0; i < finding->hit_count && fitting < wanted; i++) {
        if (!search->filter && i < search->offset) {
            fitting++;
            continue;
        }
        struct collection_row row = {0};
        int failed = load_row(finding, finding->hits[i].born, &row, ret_error);
        if (failed) return failed;
        bool fits = finding->only || !search->filter || collection_filter_accepts(search->filter, row.payload_json);
        if (fits && fitting++ >= search->offset)
            keep(finding, &row, finding->hits[i].score);
        else
            collection_row_clear(&row);
    }
    *ret_enough = fitting == wanted || finding->hit_count < limit;
    return 0;
}

/* ---- those that fit, from the whole log ---------------------------------------------- */

static void add_only(struct finding *finding, uint64_t seq) {
    if (finding->only_count == finding->only_capacity) {
        finding->only_capacity = finding->only_capacity ? 2 * finding->only_capacity : 1024;
        finding->only = mem_resize(finding->only, finding->only_capacity, sizeof *finding->only);
    }
    finding->only[finding->only_count++] = seq;
}

static bool take_fitting(void *context, const struct collection_row *row) {
    struct finding *finding = context;
    if (collection_filter_accepts(finding->search->filter, row->payload_json)) add_only(finding, row->seq);
    return true;
}

static int add_if_fitting(struct finding *finding, uint64_t seq, struct error **ret_error) {
    _cleanup_collection_row_ struct collection_row row = {0};
    int found = collection_find_seq(finding->read, seq, false, &row, ret_error);
    if (found > 0 && row.payload_json) take_fitting(finding, &row);
    return found < 0 ? found : 0;
}

/* What the log has replaced, and the index still shows: the rows that those behind the index's moment followed. */
static int add_replaced(struct finding *finding, struct error **ret_error) {
    uint64_t shown = VECTORS->seq(finding->view), head = collection_head(finding->read), after = shown;
    int failed = 0;
    while (!failed && after < head) {
        struct collection_change *changes = NULL;
        size_t count = 0;
        failed = collection_changes(finding->read, after, head, head, CHANGES_PAGE, &changes, &count, ret_error);
        if (failed || !count) break;
        for (size_t i = 0; i < count && !failed; i++) {
            uint64_t previous = changes[i].row.previous;
            if (previous && previous <= shown) failed = add_if_fitting(finding, previous, ret_error);
        }
        after = changes[count - 1].row.seq;
        collection_changes_free(changes, count);
    }
    return failed;
}

static int by_number(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static int find_fitting(struct finding *finding, struct error **ret_error) {
    int failed = collection_each_live(finding->read, 0, false, take_fitting, finding, ret_error);
    size_t living = finding->only_count;
    if (!failed) failed = add_replaced(finding, ret_error);
    if (finding->only_count > living) qsort(finding->only, finding->only_count, sizeof *finding->only, by_number);
    return failed;
}

/* ---- the search ------------------------------------------------------------------------ */

static int search_all(struct finding *finding, struct error **ret_error) {
    const struct gateway_search *search = finding->search;
    size_t wanted = search->offset + search->limit;
    size_t limit = search->filter ? TRIED_FIRST_TIMES * wanted + TRIED_FIRST_MORE : wanted;
    bool is_enough = true;
    finding->found = mem_new_array(search->limit, struct found);
    int failed = compare(finding, limit, ret_error);
    if (!failed) failed = take_page(finding, limit, &is_enough, ret_error);
    if (failed || is_enough) return failed;
    while (finding->found_count) collection_row_clear(&finding->found[--finding->found_count].row);
    finding->hit_count = 0;
    failed = find_fitting(finding, ret_error);
    if (!failed && finding->only_count) failed = compare(finding, wanted, ret_error);
    return failed ? failed : take_page(finding, wanted, &is_enough, ret_error);
}

/* Until it is of one moment. */
static int search_moment(struct finding *finding, struct error **ret_error) {
    struct error *error = NULL;
    for (int tries = 1;; tries++) {
        int failed = take_moment(finding, &error);
        if (!failed) failed = search_all(finding, &error);
        if (!failed) return 0;
        if (error->class != ERROR_CONFLICT) break;
        if (tries == TRIES) {
            _cleanup_free_ char *text = error_text(error);
            error_free(TAKE(error));
            error_set(&error, ERROR_UNAVAILABLE, "the index changes faster than it can be searched: %s", text);
            break;
        }
        error_free(TAKE(error));
        clear_finding(finding);
        if (tries > 1) usleep(PAUSE_US << (tries - 2));
    }
    *ret_error = error;
    return -(int)error->class;
}

/* ---- the answer -------------------------------------------------------------------------- */

/* Nine digits tell one float from every other. */
static yyjson_mut_val *number(yyjson_mut_doc *document, float value) {
    char text[32];
    int size = snprintf(text, sizeof text, "%.9g", (double)value);
    return yyjson_mut_rawncpy(document, text, (size_t)size);
}

static void add_vector(yyjson_mut_doc *document, yyjson_mut_val *hit, const struct finding *finding, uint64_t born,
                       float *vector) {
    if (!VECTORS->fetch(finding->view, born, vector)) return;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(document, hit, "vector");
    for (size_t i = 0; i < finding->index->dimension; i++) yyjson_mut_arr_append(list, number(document, vector[i]));
}

/* What is known of a kept query, as its payload. */
static int add_query(yyjson_mut_doc *document, yyjson_mut_val *hit, const struct finding *finding,
                     const struct collection_row *row, struct error **ret_error) {
    uint64_t count = 0;
    int64_t last_seen = 0;
    int found = collection_query_seen(finding->read, row->id, &count, &last_seen, ret_error);
    if (found < 0) return found;
    yyjson_mut_val *payload = yyjson_mut_obj_add_obj(document, hit, "payload");
    if (row->text) yyjson_mut_obj_add_str(document, payload, "text", row->text);
    yyjson_mut_obj_add_uint(document, payload, "count", count);
    json_add_time(document, payload, "last_seen", last_seen);
    return 0;
}

static int add_hits(yyjson_mut_doc *document, yyjson_mut_val *list, const struct finding *finding,
                    struct error **ret_error) {
    const struct gateway_search *search = finding->search;
    _cleanup_free_ float *vector = search->with_vector ? mem_new_array(finding->index->dimension, float) : NULL;
    int failed = 0;
    for (size_t i = 0; i < finding->found_count && !failed; i++) {
        const struct found *found = &finding->found[i];
        yyjson_mut_val *hit = yyjson_mut_arr_add_obj(document, list);
        yyjson_mut_obj_add_str(document, hit, "id", found->row.id);
        yyjson_mut_obj_add_val(document, hit, "score", number(document, found->score));
        if (search->set == COLLECTION_QUERIES && search->with_payload)
            failed = add_query(document, hit, finding, &found->row, ret_error);
        else if (found->row.payload_json)
            yyjson_mut_obj_add_val(document, hit, "payload", yyjson_mut_raw(document, found->row.payload_json));
        if (search->with_vector) add_vector(document, hit, finding, found->row.seq, vector);
    }
    return failed;
}

static int write_answer(struct finding *finding, struct error **ret_error) {
    struct gateway_search *search = finding->search;
    const struct gateway_pair *pair = search->exchange->pair;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    int failed = add_hits(document, yyjson_mut_obj_add_arr(document, root, "hits"), finding, ret_error);
    if (failed) return failed;
    yyjson_mut_val *encoder = yyjson_mut_obj_add_obj(document, root, "encoder");
    yyjson_mut_obj_add_str(document, encoder, "deployment", search->deployment);
    yyjson_mut_obj_add_sint(document, encoder, "revision", search->revision);
    yyjson_mut_obj_add_str(document, encoder, "digest", pair->digest);
    yyjson_mut_obj_add_uint(document, root, "applied_seq", VECTORS->seq(finding->view));
    search->json = json_write(document, &search->size);
    return 0;
}

void gateway_find(struct gateway_search *search) {
    struct gateway_pair *pair = search->exchange->pair;
    struct finding finding = {.search = search,
                              .index = search->set == COLLECTION_QUERIES ? &pair->queries : &pair->documents};
    int failed = gateway_index_reader(finding.index, &finding.reader, &search->error);
    if (!failed) failed = search_moment(&finding, &search->error);
    if (!failed) write_answer(&finding, &search->error);
    clear_finding(&finding);
}
