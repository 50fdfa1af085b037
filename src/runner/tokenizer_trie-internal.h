/* A compact, immutable trie over bytes: which is the longest key that a text begins with?
 *
 * Nodes stand in breadth-first order, so that the children of a node lie side by side, sorted by their byte, and end
 * where the next node's begin: 9 bytes a node, built in one pass over the sorted keys, without any search whose cost
 * the keys could drive up. Node 0 is the root and nobody's child, so 0 also says "no such node".
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define TRIE_ROOT 0
#define TRIE_NO_VALUE (-1)

struct trie_key {
    const char *bytes; /* not empty */
    size_t size;
    int32_t value; /* >= 0 */
};

struct trie {
    uint32_t *children; /* where each node's children begin; one more than there are nodes */
    int32_t *values; /* of each node, TRIE_NO_VALUE where no key ends */
    uint8_t *bytes; /* that leads to each node from its parent */
};

/* Sorts keys[0..count) and builds; the keys are not needed afterwards. CONFIGURATION error when two are equal or the
 * trie would be too large. Free with trie_clear(), also after an error. */
int trie_build(struct trie_key *keys, size_t count, struct trie *ret_trie, struct error **ret_error);
void trie_clear(struct trie *trie);

/* The child of `node` by that byte, or TRIE_ROOT when there is none. */
static inline uint32_t trie_step(const struct trie *trie, uint32_t node, uint8_t byte) {
    uint32_t low = trie->children[node], high = trie->children[node + 1], end = high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (trie->bytes[middle] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && trie->bytes[low] == byte ? low : TRIE_ROOT;
}

/* The longest key with which text[0..size) goes on from `node`: its value and, in *ret_size, how many bytes it took
 * beyond that node, at least one. TRIE_NO_VALUE when there is none. */
int32_t trie_find_longest(const struct trie *trie, uint32_t node, const char *text, size_t size, size_t *ret_size);
/* The node that exactly text[0..size) leads to, or TRIE_ROOT. */
uint32_t trie_walk(const struct trie *trie, const char *text, size_t size);
