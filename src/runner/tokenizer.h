/* Tokenizers: text in, token ids out, exactly as the reference implementation (the `tokenizers` library) gives them.
 *
 * A plug point inside the runner: tokenizer_open() reads tokenizer.json, whose parts run one after the other:
 *
 *     bytes (repaired to UTF-8)
 *       -> added tokens as they stand are cut out          tokenizer_added
 *       -> what is between them goes into normal form      tokenizer_normalizer, tokenizer_steps
 *       -> added tokens in normal form are cut out         tokenizer_added
 *       -> what is between those is cut into words         tokenizer_words
 *       -> each word becomes ids                           a back-end: tokenizer_wordpiece
 *       -> the ids are cut, special tokens go around them  tokenizer_special
 *
 * All but the model is common to every kind; the kind (model.type) is a back-end, a struct tokenizer_model_ops. Today:
 * WordPiece. Any part that is not known is a CONFIGURATION error that names what was found and what is known.
 * Where the file leaves the reference itself undecided or unable (two added tokens of one normal form, an added token
 * whose normal form is empty, an id that stands for two tokens), opening is refused rather than guessed.
 *
 * Uses base/ only. Threads: a tokenizer is immutable after open; tokenizer_encode() may run on several threads at once.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tokenizer;
struct yyjson_val;

/* Ceilings on what comes from outside. */
#define TOKENIZER_MAXIMUM_JSON (64u << 20) /* bytes of tokenizer.json */
#define TOKENIZER_MAXIMUM_TEXT (16u << 20) /* bytes of one text */
#define TOKENIZER_MAXIMUM_ID (8 << 20) /* ids are below it */
#define TOKENIZER_MAXIMUM_TOKEN 1024 /* bytes of one token of a vocabulary */

/* Where a back-end puts ids: the first `maximum` are stored, all are counted. */
struct tokenizer_sink {
    int64_t *ids;
    size_t maximum;
    size_t total;
};

static inline void tokenizer_sink_add(struct tokenizer_sink *sink, int64_t id) {
    if (sink->total < sink->maximum) sink->ids[sink->total] = id;
    sink->total++;
}

/* A kind of model. Called by tokenizer.c only; `open` once, then the others on any thread. */
struct tokenizer_model_ops {
    const char *name; /* model.type in tokenizer.json */
    /* From the object `model`, which is borrowed for the call. CONFIGURATION error. *ret_state goes to free(). */
    int (*open)(struct yyjson_val *model, void **ret_state, struct error **ret_error);
    /* The id of a token of the vocabulary, or -1. */
    int64_t (*find)(const void *state, const char *token, size_t size);
    size_t (*count)(const void *state); /* tokens in the vocabulary */
    int64_t (*highest_id)(const void *state); /* -1: none */
    /* Adds the ids of one word (valid UTF-8, not empty) that the pre-tokenizer cut out. Cannot fail. */
    void (*encode_word)(const void *state, const char *word, size_t size, struct tokenizer_sink *sink);
    void (*free)(void *state);
};

/* From the bytes of a tokenizer.json; its own truncation and padding sections are ignored (the recipe decides). The ids
 * of added tokens are those that the reference gives them, whatever the file says. Free *ret_tokenizer with
 * tokenizer_free(). */
int tokenizer_open(const char *json, size_t size, struct tokenizer **ret_tokenizer, struct error **ret_error);
void tokenizer_free(struct tokenizer *tokenizer); /* NULL is fine */

struct tokenizer_encoding {
    size_t count; /* ids written, special tokens included */
    size_t total; /* ids there would have been without truncation, special tokens included */
    bool truncated; /* count < total */
};

/* Text (any bytes; invalid UTF-8 is decoded with U+FFFD as Python's errors="replace" does) to ids with special tokens,
 * the text's ids cut on the right so that at most `maximum` ids are written to ids[0..maximum). Type ids are all 0.
 * Takes time linear in the text. CONFIGURATION error when `maximum` has no room for the special tokens, REQUEST error
 * for a text above TOKENIZER_MAXIMUM_TEXT, UNAVAILABLE error when memory is gone. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int64_t *ids, size_t maximum,
                     struct tokenizer_encoding *ret_encoding, struct error **ret_error);
size_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer); /* highest id + 1, added tokens included */
int64_t tokenizer_padding_id(const struct tokenizer *tokenizer); /* 0 when tokenizer.json names none */
