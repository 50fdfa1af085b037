/* Tokenizers: text in, token ids out, exactly as the reference implementation (the `tokenizers` library) gives them.
 *
 * A plug point inside the runner: tokenizer_open() reads tokenizer.json and picks the implementation by model.type.
 * Today: WordPiece (BertNormalizer or none/Sequence of known parts, BertPreTokenizer, TemplateProcessing or
 * BertProcessing). Any other kind is a CONFIGURATION error that names what was found and what is known.
 * Threads: a tokenizer is immutable after open; tokenizer_encode() may run on several threads at once.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tokenizer;

struct tokenizer_ops {
    const char *name; /* model.type in tokenizer.json */
    /* `state` is what open made. Appends the ids of the text, without special tokens, cutting at `maximum` ids;
     * *ret_total is how many there would have been. */
    int (*encode)(const void *state, const char *text, size_t size, int64_t *ids, size_t maximum, size_t *ret_count,
                  size_t *ret_total, struct error **ret_error);
    void (*free)(void *state);
};

/* From the bytes of a tokenizer.json; its own truncation and padding sections are ignored (the recipe decides). */
int tokenizer_open(const char *json, size_t size, struct tokenizer **ret_tokenizer, struct error **ret_error);
void tokenizer_free(struct tokenizer *tokenizer);

struct tokenizer_encoding {
    size_t count;   /* ids written, special tokens included */
    size_t total;   /* ids there would have been without truncation, special tokens included */
    bool truncated; /* count < total */
};

/* Text (any bytes; invalid UTF-8 is decoded with U+FFFD as Python's errors="replace" does) to ids with special tokens, the
 * text's ids cut on the right so that at most `maximum` ids are written to ids[0..maximum). Type ids are all 0. */
int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int64_t *ids, size_t maximum,
                     struct tokenizer_encoding *ret_encoding, struct error **ret_error);
size_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer); /* highest id + 1, added tokens included */
int64_t tokenizer_padding_id(const struct tokenizer *tokenizer);     /* 0 when tokenizer.json names none */
