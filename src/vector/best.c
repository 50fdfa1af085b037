/* The best k of many: a binary heap with the worst of them on top. */
#include "vector/vector-internal.h"

static bool is_worse(const struct vector_hit *hit, const struct vector_hit *than) {
    return hit->score < than->score || (hit->score == than->score && hit->born > than->born);
}

static void sink(struct vector_hit *hits, size_t count, size_t at) {
    struct vector_hit hit = hits[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && is_worse(&hits[child + 1], &hits[child])) child++;
        if (!is_worse(&hits[child], &hit)) break;
        hits[at] = hits[child];
    }
    hits[at] = hit;
}

static void rise(struct vector_hit *hits, size_t at) {
    struct vector_hit hit = hits[at];
    for (; at && is_worse(&hit, &hits[(at - 1) / 2]); at = (at - 1) / 2) hits[at] = hits[(at - 1) / 2];
    hits[at] = hit;
}

void vector_best_add(struct vector_best *best, uint64_t born, float score) {
    struct vector_hit hit = {.born = born, .score = score};
    if (best->count < best->limit) {
        best->hits[best->count] = hit;
        rise(best->hits, best->count++);
    } else if (is_worse(&best->hits[0], &hit)) {
        best->hits[0] = hit;
        sink(best->hits, best->count, 0);
    }
}

void vector_best_sort(struct vector_best *best) {
    for (size_t count = best->count; count > 1; count--) {
        struct vector_hit worst = best->hits[0];
        best->hits[0] = best->hits[count - 1];
        best->hits[count - 1] = worst;
        sink(best->hits, count - 1, 0);
    }
}
