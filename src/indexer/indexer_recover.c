/* What an index holds against what the log says (L6). Numbers only, ascending, eight bytes a document.
 *
 * At the number that the index shows, s: every living document whose row is at or below s stands in the index or among
 * the failed items, else rows are missing and the index is set aside. A row that no living document has is one that a
 * change behind s replaces or deletes (the follower will take it), or one that should not be there: it is killed. */
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "indexer/indexer-internal.h"

#define PAGE 4096

struct numbers {
    uint64_t *rows;
    size_t count, capacity;
    uint64_t through;
};

static void numbers_clear(struct numbers *numbers) {
    free(numbers->rows);
}
#define _cleanup_numbers_ __attribute__((cleanup(numbers_clear)))

static void add(struct numbers *numbers, uint64_t row) {
    if (numbers->count == numbers->capacity) {
        numbers->capacity = numbers->capacity ? 2 * numbers->capacity : PAGE;
        numbers->rows = mem_resize(numbers->rows, numbers->capacity, sizeof *numbers->rows);
    }
    numbers->rows[numbers->count++] = row;
}

uint64_t *indexer_view_rows(const struct vector_ops *vectors, struct vector_view *view, size_t *ret_count) {
    struct numbers numbers = {0};
    _cleanup_free_ uint64_t *page = mem_new_array(PAGE, uint64_t);
    uint64_t after = 0;
    for (size_t got; (got = vectors->list(view, after, page, PAGE)) > 0; after = page[got - 1])
        for (size_t i = 0; i < got; i++) add(&numbers, page[i]);
    *ret_count = numbers.count;
    return numbers.rows;
}

static bool take_live(void *context, const struct collection_row *row) {
    struct numbers *numbers = context;
    if (row->seq > numbers->through) return false;
    add(numbers, row->seq);
    return true;
}

int indexer_live_rows(struct collection_read *read, uint64_t through, uint64_t **ret_rows, size_t *ret_count,
                      struct error **ret_error) {
    _cleanup_numbers_ struct numbers numbers = {.through = through};
    int result = collection_each_live(read, 0, false, take_live, &numbers, ret_error);
    if (result < 0) return result;
    *ret_count = numbers.count;
    *ret_rows = TAKE(numbers.rows);
    return 0;
}

int indexer_failed_rows(struct collection_read *read, const char *index_id, uint64_t **ret_rows, size_t *ret_count,
                        struct error **ret_error) {
    _cleanup_numbers_ struct numbers numbers = {0};
    struct collection_failure *failures;
    uint64_t after = 0, total;
    size_t count;
    do {
        failures = NULL;
        int result = collection_list_failures(read, index_id, after, PAGE, &failures, &count, &total, ret_error);
        if (result < 0) return result;
        for (size_t i = 0; i < count; i++) add(&numbers, failures[i].seq);
        if (count) after = failures[count - 1].seq;
        collection_failures_free(failures, count);
    } while (count == PAGE);
    *ret_count = numbers.count;
    *ret_rows = TAKE(numbers.rows);
    return 0;
}

static int compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static bool has(const uint64_t *rows, size_t count, uint64_t row) {
    return count && bsearch(&row, rows, count, sizeof row, compare);
}

/* ---- the comparison ------------------------------------------------------------- */

struct comparison {
    struct indexer_index *index;
    struct numbers shown, live, failed, extra;
    uint64_t seq; /* that the index shows */
};

static void comparison_clear(struct comparison *comparison) {
    numbers_clear(&comparison->shown);
    numbers_clear(&comparison->live);
    numbers_clear(&comparison->failed);
    numbers_clear(&comparison->extra);
}

static int look(struct comparison *comparison, uint64_t head, struct error **ret_error) {
    const struct vector_ops *vectors = comparison->index->collection->indexer->vectors;
    struct vector_reader *reader = NULL;
    struct vector_view *view = NULL;
    struct vector_spec spec;
    indexer_index_spec(comparison->index, &spec);
    int result = vectors->open_reader(comparison->index->folder, &spec, &reader, ret_error);
    if (result < 0) return result;
    result = vectors->look(reader, head, &view, ret_error);
    if (result >= 0) {
        comparison->seq = vectors->seq(view);
        comparison->shown.rows = indexer_view_rows(vectors, view, &comparison->shown.count);
        vectors->release(view);
    }
    vectors->close_reader(reader);
    return result;
}

static int find_missing(struct comparison *comparison, struct error **ret_error) {
    const struct numbers *live = &comparison->live, *shown = &comparison->shown, *failed = &comparison->failed;
    size_t missing = 0;
    for (size_t i = 0; i < live->count; i++)
        if (!has(shown->rows, shown->count, live->rows[i]) && !has(failed->rows, failed->count, live->rows[i]))
            missing++;
    if (!missing) return 0;
    return error_set(ret_error, ERROR_CONFLICT, "%zu of %zu documents up to %llu are not in it", missing, live->count,
                     (unsigned long long)comparison->seq);
}

static void find_extra(struct comparison *comparison) {
    const struct numbers *shown = &comparison->shown;
    for (size_t i = 0; i < shown->count; i++)
        if (!has(comparison->live.rows, comparison->live.count, shown->rows[i]))
            add(&comparison->extra, shown->rows[i]);
}

/* Those that a change behind what is shown lets go are as they should be: marked by their number becoming 0. */
static int pass_over_changed(struct comparison *comparison, struct collection_read *read, struct error **ret_error) {
    struct numbers *extra = &comparison->extra;
    uint64_t head = collection_head(read), after = comparison->seq;
    _cleanup_free_ bool *changed = mem_new_array(extra->count, bool);
    for (size_t count = PAGE; count == PAGE;) {
        struct collection_change *changes = NULL;
        int result = collection_changes(read, after, head, head, PAGE, &changes, &count, ret_error);
        if (result < 0) return result;
        for (size_t i = 0; i < count; i++) {
            const uint64_t *found =
                bsearch(&changes[i].row.previous, extra->rows, extra->count, sizeof *extra->rows, compare);
            if (found) changed[found - extra->rows] = true;
        }
        if (count) after = changes[count - 1].row.seq;
        collection_changes_free(changes, count);
    }
    for (size_t i = 0; i < extra->count; i++)
        if (changed[i]) extra->rows[i] = 0;
    return 0;
}

static void kill_extra(struct comparison *comparison) {
    struct indexer_index *index = comparison->index;
    size_t killed = 0;
    for (size_t i = 0; i < comparison->extra.count; i++) {
        uint64_t row = comparison->extra.rows[i], dead = row < comparison->seq ? comparison->seq : row + 1;
        if (row) killed += index->collection->indexer->vectors->kill(index->writer, row, dead);
    }
    if (!killed) return;
    char text[24];
    snprintf(text, sizeof text, "%zu", killed);
    log_write(LOG_WARNING, "rows of no document were taken out of an index", "collection", index->collection->id,
              "index", index->row.index_id, "rows", text, NULL);
}

static int compare_all(struct comparison *comparison, struct collection_read *read, struct error **ret_error) {
    int result = look(comparison, collection_head(read), ret_error);
    if (result >= 0)
        result = indexer_live_rows(read, comparison->seq, &comparison->live.rows, &comparison->live.count, ret_error);
    if (result < 0) return result;
    _cleanup_read_ struct collection_read *facts = NULL;
    result = collection_read_begin(comparison->index->collection->store, COLLECTION_DOCUMENTS, &facts, ret_error);
    if (result >= 0)
        result = indexer_failed_rows(facts, comparison->index->row.index_id, &comparison->failed.rows,
                                     &comparison->failed.count, ret_error);
    if (result >= 0) result = find_missing(comparison, ret_error);
    if (result < 0) return result;
    find_extra(comparison);
    if (!comparison->extra.count) return 0;
    if ((result = pass_over_changed(comparison, read, ret_error)) < 0) return result;
    kill_extra(comparison);
    return 0;
}

int indexer_recover(struct indexer_index *index, struct error **ret_error) {
    struct comparison comparison = {.index = index};
    _cleanup_read_ struct collection_read *read = NULL;
    if (!index->applied) return 0; /* it shows nothing */
    int result = collection_read_begin(index->collection->store, index->row.set, &read, ret_error);
    if (result >= 0) result = compare_all(&comparison, read, ret_error);
    comparison_clear(&comparison);
    return result;
}
