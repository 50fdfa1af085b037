/* The recipe: how a model folder is to be used, read from its own files and from the revision's overrides.
 *
 * Every decision is noted with the file it came from ("recipe" for an override), and nothing is guessed silently: where
 * no file says it, that is an error which names the override that would. Sources: the file layouts of
 * sentence-transformers (modules.json, 1_Pooling/config.json, sentence_bert_config.json) and of Hugging Face
 * (config.json, tokenizer.json, tokenizer_config.json). Blocking (reads files).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/digest.h"
#include "base/json.h"

#define RECIPE_VERSION 1 /* raised when the same recipe comes to mean another embedding */
#define RECIPE_LENGTH_MAXIMUM 65536

enum recipe_kind { RECIPE_TENSOR, RECIPE_EMBEDDING };
enum recipe_pooling { RECIPE_POOLING_UNKNOWN, RECIPE_MEAN, RECIPE_CLS, RECIPE_MAX, RECIPE_NONE };

struct recipe {
    enum recipe_kind kind;
    char *model_file; /* relative to the folder */
    char *tokenizer_file; /* relative; embedding only, as all that follows */
    size_t maximum_length; /* tokens, special ones included */
    enum recipe_pooling pooling; /* UNKNOWN: no file says it; the graph's output decides (recipe_set_pooling) */
    bool normalize;
    char *prompt; /* put in front of every text; "" for none */
    yyjson_mut_doc *report; /* {"pooling": {"value", "from"}, …} */
};

/* Reads folder and overrides (`overrides_json` NULL or "": none). CONFIGURATION error for unknown override fields,
 * values that do not fit, contradicting or missing files. */
int recipe_read(const char *folder, const char *overrides_json, struct recipe **ret_recipe, struct error **ret_error);
void recipe_free(struct recipe *recipe);

/* Notes a decision that the graph made. */
void recipe_note_text(struct recipe *recipe, const char *field, const char *value, const char *from);
void recipe_set_pooling(struct recipe *recipe, enum recipe_pooling pooling, const char *from);
const char *recipe_pooling_name(enum recipe_pooling pooling);

/* SHA-256 over package digest, recipe version and the values (not the sources) of the recipe. */
void recipe_encoder_digest(const struct recipe *recipe, const char *package_digest, char ret_digest[DIGEST_HEX_SIZE]);
