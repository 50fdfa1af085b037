#include "runner/tokenizer_wordpiece-internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "runner/tokenizer_trie-internal.h"

#define MAXIMUM_WORD 1000000 /* a ceiling on max_input_chars_per_word */

struct wordpiece {
    struct trie tokens; /* values are ids */
    size_t count; /* tokens */
    int64_t highest_id; /* -1: none */
    bool can_continue; /* some token begins with the continuing prefix */
    uint32_t continuation; /* the node that the continuing prefix leads to; the root when it is empty */
    int64_t unknown_id;
    size_t maximum_characters;
};

static void wordpiece_free(void *state) {
    struct wordpiece *model = state;
    if (!model) return;
    trie_clear(&model->tokens);
    free(model);
}

static void free_model(struct wordpiece **model) {
    wordpiece_free(*model);
}

/* One entry of the vocabulary as a key; marks its id in the bitmap `taken`. */
static int read_token(yyjson_val *name, yyjson_val *value, uint64_t *taken, struct trie_key *ret_key,
                      struct error **ret_error) {
    size_t size = yyjson_get_len(name);
    if (size > TOKENIZER_MAXIMUM_TOKEN)
        return error_set(ret_error, ERROR_CONFIGURATION, "a token of the vocabulary is %zu bytes long; %u are allowed",
                         size, TOKENIZER_MAXIMUM_TOKEN);
    if (!yyjson_is_uint(value) || yyjson_get_uint(value) >= TOKENIZER_MAXIMUM_ID)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the id of \"%s\" in the vocabulary must be a whole number from 0 to %d", yyjson_get_str(name),
                         TOKENIZER_MAXIMUM_ID - 1);
    uint64_t id = yyjson_get_uint(value), bit = UINT64_C(1) << id % 64;
    if (taken[id / 64] & bit)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the id %" PRIu64 " stands for two tokens of the vocabulary, one of them \"%s\"", id,
                         yyjson_get_str(name));
    taken[id / 64] |= bit;
    *ret_key = (struct trie_key){.bytes = yyjson_get_str(name), .size = size, .value = (int32_t)id};
    return 0;
}

static int read_vocabulary(yyjson_val *vocabulary, struct wordpiece *model, struct error **ret_error) {
    size_t count = yyjson_obj_size(vocabulary), used = 0, index, maximum;
    if (count > TOKENIZER_MAXIMUM_ID)
        return error_set(ret_error, ERROR_CONFIGURATION, "the vocabulary has %zu tokens; %d are allowed", count,
                         TOKENIZER_MAXIMUM_ID);
    _cleanup_free_ uint64_t *taken = calloc(TOKENIZER_MAXIMUM_ID / 64, sizeof *taken);
    _cleanup_free_ struct trie_key *keys = malloc((count + 1) * sizeof *keys);
    if (!taken || !keys)
        return error_set(ret_error, ERROR_UNAVAILABLE, "no memory for a vocabulary of %zu tokens", count);
    yyjson_val *name, *value;
    yyjson_obj_foreach(vocabulary, index, maximum, name, value) {
        int result = read_token(name, value, taken, &keys[used], ret_error);
        if (result < 0) return result;
        if (keys[used].value > model->highest_id) model->highest_id = keys[used].value;
        if (keys[used].size > 0) used++; /* an empty token has an id but never matches */
    }
    model->count = count;
    return trie_build(keys, used, &model->tokens, ret_error);
}

static int64_t wordpiece_find(const void *state, const char *token, size_t size) {
    const struct wordpiece *model = state;
    uint32_t node = trie_walk(&model->tokens, token, size);
    return node == TRIE_ROOT ? -1 : model->tokens.values[node];
}

static int read_options(yyjson_val *object, struct wordpiece *model, struct error **ret_error) {
    const char *unknown = NULL, *prefix = NULL;
    int64_t characters = 0;
    int result = json_get_text(object, "model", "unk_token", true, &unknown, ret_error);
    if (result == 0) result = json_get_text(object, "model", "continuing_subword_prefix", true, &prefix, ret_error);
    if (result == 0)
        result =
            json_get_number(object, "model", "max_input_chars_per_word", true, 0, MAXIMUM_WORD, &characters, ret_error);
    if (result < 0) return result;
    model->maximum_characters = (size_t)characters;
    model->continuation = trie_walk(&model->tokens, prefix, strlen(prefix));
    model->can_continue = !*prefix || model->continuation != TRIE_ROOT;
    model->unknown_id = wordpiece_find(model, unknown, strlen(unknown));
    if (model->unknown_id < 0)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the unknown token \"%s\" (model.unk_token) is not in the vocabulary, so that no unknown word "
                         "could be encoded",
                         unknown);
    return 0;
}

static int wordpiece_open(yyjson_val *object, void **ret_state, struct error **ret_error) {
    __attribute__((cleanup(free_model))) struct wordpiece *model = mem_new(struct wordpiece);
    model->highest_id = -1;
    yyjson_val *vocabulary = NULL;
    int result = json_get_object(object, "model", "vocab", true, &vocabulary, ret_error);
    if (result == 0) result = read_vocabulary(vocabulary, model, ret_error);
    if (result == 0) result = read_options(object, model, ret_error);
    if (result < 0) return result;
    *ret_state = TAKE(model);
    return 0;
}

/* Whether the word has more code points than the model takes; bytes are only counted out where they may be too many. */
static bool is_too_long(const struct wordpiece *model, const char *word, size_t size) {
    if (size <= model->maximum_characters) return false;
    size_t characters = 0;
    for (size_t i = 0; i < size && characters <= model->maximum_characters; i++)
        characters += ((uint8_t)word[i] & 0xc0) != 0x80;
    return characters > model->maximum_characters;
}

static void wordpiece_encode_word(const void *state, const char *word, size_t size, struct tokenizer_sink *sink) {
    const struct wordpiece *model = state;
    size_t before = sink->total;
    bool known = !is_too_long(model, word, size);
    for (size_t at = 0, taken = 0; known && at < size; at += taken) {
        int32_t id = TRIE_NO_VALUE;
        if (at == 0 || model->can_continue)
            id = trie_find_longest(&model->tokens, at ? model->continuation : TRIE_ROOT, word + at, size - at, &taken);
        known = id != TRIE_NO_VALUE;
        if (known) tokenizer_sink_add(sink, id);
    }
    if (known) return;
    sink->total = before;
    tokenizer_sink_add(sink, model->unknown_id);
}

static size_t wordpiece_count(const void *state) {
    return ((const struct wordpiece *)state)->count;
}

static int64_t wordpiece_highest_id(const void *state) {
    return ((const struct wordpiece *)state)->highest_id;
}

const struct tokenizer_model_ops wordpiece_model = {
    .name = "WordPiece",
    .open = wordpiece_open,
    .find = wordpiece_find,
    .count = wordpiece_count,
    .highest_id = wordpiece_highest_id,
    .encode_word = wordpiece_encode_word,
    .free = wordpiece_free,
};
