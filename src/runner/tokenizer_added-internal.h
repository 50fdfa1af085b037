/* Added tokens: strings that are cut out of the text before the model sees it, such as "[MASK]".
 *
 * There are two sets: tokens that are looked for in the text as it stands, and those (`normalized`) whose normal form
 * is looked for in the normal form of what is between the first. In each the leftmost match counts, of those that begin
 * at one place the longest, and the search goes on where a match ended. Immutable after open; any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "runner/tokenizer.h"
#include "runner/tokenizer_normalizer-internal.h"
#include "runner/tokenizer_trie-internal.h"

#define ADDED_MAXIMUM 65536 /* tokens */

struct added_token {
    int64_t id;
    bool single_word; /* only between what is no part of a word */
    bool strip_left; /* takes the whitespace before it along */
    bool strip_right; /* and behind it */
};

struct added_set {
    bool empty;
    bool begins[256]; /* by the first byte: whether some token begins so */
    struct trie trie; /* values are indices of `tokens` of the added tokens */
};

struct added_tokens {
    struct added_token *tokens;
    size_t count;
    struct added_set raw, normalized;
    int64_t highest_id; /* -1: none */
};

/* From the field `added_tokens` of tokenizer.json (NULL or null: none). A token that the model's vocabulary has keeps
 * its id there; the others are numbered from the vocabulary's size on, in the file's order, as the reference does
 * whatever ids the file names. CONFIGURATION error. Free with added_clear(), also after an error. */
int added_open(struct yyjson_val *json, const struct tokenizer_model_ops *model, const void *state,
               const struct normalizer *normalizer, struct added_tokens *ret_added, struct error **ret_error);
void added_clear(struct added_tokens *added);

/* A search through one text; zero-initialise it but for text and size. */
struct added_search {
    const char *text;
    size_t size;
    size_t at; /* where to look next */
    size_t done; /* where the last match ended, stripped whitespace included */
    size_t space_from, space; /* text[space_from..space) is whitespace that a match stripped */
};

/* The next match as text[*ret_start..search->done) and the token's id; what is between the former `done` and *ret_start
 * is plain text. A match whose text an earlier one has stripped away altogether begins at or behind its end and is to
 * be dropped. False when there are no more. */
bool added_next(const struct added_tokens *added, const struct added_set *set, struct added_search *search,
                size_t *ret_start, int64_t *ret_id);
