/* Pre-tokenizers: cut text in normal form into the words that the model encodes one by one. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "runner/tokenizer.h"

struct yyjson_val;

struct words {
    const struct words_kind *kind;
    uint8_t ascii[128]; /* what each ASCII character is to the kind */
};

/* From the field `pre_tokenizer` of tokenizer.json; NULL and null make one word of all. CONFIGURATION error. */
int words_open(struct yyjson_val *json, struct words *ret_words, struct error **ret_error);

/* Gives each word of text[0..size), which is valid UTF-8, to the model. */
void words_encode(const struct words *words, const char *text, size_t size, const struct tokenizer_model_ops *model,
                  const void *state, struct tokenizer_sink *sink);
