#include "runner/tokenizer_trie-internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Nodes of one trie: with their building blocks, some 400 MB. Real vocabularies need under 5 million. */
#define TRIE_MAXIMUM_NODES (16u << 20)

/* A node while it is being built: the sorted keys[first..last) share its first `depth` bytes. */
struct range {
    uint32_t first, last, depth;
};

static int compare_keys(const void *a, const void *b) {
    const struct trie_key *left = a, *right = b;
    int order = memcmp(left->bytes, right->bytes, left->size < right->size ? left->size : right->size);
    return order ? order : (left->size > right->size) - (left->size < right->size);
}

static size_t shared_prefix(const struct trie_key *a, const struct trie_key *b) {
    size_t size = a->size < b->size ? a->size : b->size, i = 0;
    while (i < size && a->bytes[i] == b->bytes[i]) i++;
    return i;
}

/* How many nodes the sorted keys make: one for each byte that a key does not share with the one before. */
static int count_nodes(const struct trie_key *keys, size_t count, size_t *ret_nodes, struct error **ret_error) {
    size_t nodes = 1;
    for (size_t i = 0; i < count; i++) {
        size_t shared = i ? shared_prefix(&keys[i - 1], &keys[i]) : 0;
        if (shared == keys[i].size)
            return error_set(ret_error, ERROR_CONFIGURATION, "the token \"%.*s\" stands there twice", (int)keys[i].size,
                             keys[i].bytes);
        nodes += keys[i].size - shared;
        if (nodes > TRIE_MAXIMUM_NODES)
            return error_set(ret_error, ERROR_CONFIGURATION, "the tokens need more than %u nodes", TRIE_MAXIMUM_NODES);
    }
    *ret_nodes = nodes;
    return 0;
}

/* Adds the children of node `node`, whose range is ranges[node], behind the nodes made so far. */
static uint32_t add_children(struct trie *trie, struct range *ranges, const struct trie_key *keys, uint32_t node,
                             uint32_t made) {
    struct range range = ranges[node];
    trie->values[node] = TRIE_NO_VALUE;
    trie->children[node] = made;
    if (range.first < range.last && keys[range.first].size == range.depth)
        trie->values[node] = keys[range.first++].value;
    while (range.first < range.last) {
        char byte = keys[range.first].bytes[range.depth];
        uint32_t last = range.first + 1;
        while (last < range.last && keys[last].bytes[range.depth] == byte) last++;
        trie->bytes[made] = (uint8_t)byte;
        ranges[made++] = (struct range){.first = range.first, .last = last, .depth = range.depth + 1};
        range.first = last;
    }
    return made;
}

int trie_build(struct trie_key *keys, size_t count, struct trie *ret_trie, struct error **ret_error) {
    size_t nodes = 0;
    if (count > TRIE_MAXIMUM_NODES) return error_set(ret_error, ERROR_CONFIGURATION, "there are %zu tokens", count);
    if (count > 1) qsort(keys, count, sizeof *keys, compare_keys);
    int result = count_nodes(keys, count, &nodes, ret_error);
    if (result < 0) return result;
    assert(nodes); /* the root at least */

    _cleanup_free_ struct range *ranges = malloc(nodes * sizeof *ranges);
    ret_trie->children = malloc((nodes + 1) * sizeof *ret_trie->children);
    ret_trie->values = malloc(nodes * sizeof *ret_trie->values);
    ret_trie->bytes = calloc(nodes, 1);
    if (!ranges || !ret_trie->children || !ret_trie->values || !ret_trie->bytes)
        return error_set(ret_error, ERROR_UNAVAILABLE, "no memory for %zu nodes of a vocabulary", nodes);
    ranges[0] = (struct range){.first = 0, .last = (uint32_t)count, .depth = 0};
    uint32_t made = 1;
    for (uint32_t node = 0; node < made; node++) made = add_children(ret_trie, ranges, keys, node, made);
    ret_trie->children[nodes] = made;
    return 0;
}

void trie_clear(struct trie *trie) {
    free(trie->children);
    free(trie->values);
    free(trie->bytes);
    *trie = (struct trie){0};
}

int32_t trie_find_longest(const struct trie *trie, uint32_t node, const char *text, size_t size, size_t *ret_size) {
    int32_t value = TRIE_NO_VALUE;
    for (size_t i = 0; i < size; i++) {
        node = trie_step(trie, node, (uint8_t)text[i]);
        if (node == TRIE_ROOT) break;
        if (trie->values[node] == TRIE_NO_VALUE) continue;
        value = trie->values[node];
        *ret_size = i + 1;
    }
    return value;
}

uint32_t trie_walk(const struct trie *trie, const char *text, size_t size) {
    uint32_t node = TRIE_ROOT;
    for (size_t i = 0; i < size; i++) {
        node = trie_step(trie, node, (uint8_t)text[i]);
        if (node == TRIE_ROOT) break;
    }
    return node;
}
