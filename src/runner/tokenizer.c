#include "runner/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "runner/tokenizer_added-internal.h"
#include "runner/tokenizer_normalizer-internal.h"
#include "runner/tokenizer_special-internal.h"
#include "runner/tokenizer_unicode-internal.h"
#include "runner/tokenizer_wordpiece-internal.h"
#include "runner/tokenizer_words-internal.h"

struct tokenizer {
    struct normalizer normalizer;
    struct words words;
    const struct tokenizer_model_ops *model;
    void *state; /* of the model */
    struct added_tokens added;
    struct special_tokens special;
    int64_t padding_id, highest_id;
};

static const struct tokenizer_model_ops *const models[] = {&wordpiece_model};

void tokenizer_free(struct tokenizer *tokenizer) {
    if (!tokenizer) return;
    if (tokenizer->model) tokenizer->model->free(tokenizer->state);
    added_clear(&tokenizer->added);
    free(tokenizer);
}

static void free_tokenizer(struct tokenizer **tokenizer) {
    tokenizer_free(*tokenizer);
}

/* ---- opening ---- */

static int check_version(yyjson_val *root, struct error **ret_error) {
    const char *version = "1.0";
    int result = json_get_text(root, "", "version", false, &version, ret_error);
    if (result < 0 || text_equal(version, "1.0")) return result;
    return error_set(ret_error, ERROR_CONFIGURATION, "the version is %.32s; known is 1.0", version);
}

static int open_model(yyjson_val *root, struct tokenizer *tokenizer, struct error **ret_error) {
    yyjson_val *model = NULL;
    const char *type = NULL;
    int result = json_get_object(root, "", "model", true, &model, ret_error);
    if (result == 0) result = json_get_text(model, "model", "type", true, &type, ret_error);
    if (result < 0) return result;
    for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
        if (!text_equal(type, models[i]->name)) continue;
        result = models[i]->open(model, &tokenizer->state, ret_error);
        if (result == 0) tokenizer->model = models[i];
        return result;
    }
    return error_set(ret_error, ERROR_CONFIGURATION, "the tokenizer's model is of the type %.64s; known is WordPiece",
                     type);
}

static int open_padding(yyjson_val *root, struct tokenizer *tokenizer, struct error **ret_error) {
    yyjson_val *padding = NULL;
    int result = json_get_object(root, "", "padding", false, &padding, ret_error);
    if (result == 0 && padding)
        result = json_get_number(padding, "padding", "pad_id", false, 0, tokenizer->highest_id, &tokenizer->padding_id,
                                 ret_error);
    return result;
}

static int open_parts(yyjson_val *root, struct tokenizer *tokenizer, struct error **ret_error) {
    int result = check_version(root, ret_error);
    if (result == 0) result = open_model(root, tokenizer, ret_error);
    if (result == 0) result = normalizer_open(yyjson_obj_get(root, "normalizer"), &tokenizer->normalizer, ret_error);
    if (result == 0) result = words_open(yyjson_obj_get(root, "pre_tokenizer"), &tokenizer->words, ret_error);
    if (result == 0)
        result = added_open(yyjson_obj_get(root, "added_tokens"), tokenizer->model, tokenizer->state,
                            &tokenizer->normalizer, &tokenizer->added, ret_error);
    if (result < 0) return result;
    tokenizer->highest_id = tokenizer->model->highest_id(tokenizer->state);
    if (tokenizer->added.highest_id > tokenizer->highest_id) tokenizer->highest_id = tokenizer->added.highest_id;
    result =
        special_open(yyjson_obj_get(root, "post_processor"), tokenizer->highest_id, &tokenizer->special, ret_error);
    return result < 0 ? result : open_padding(root, tokenizer, ret_error);
}

int tokenizer_open(const char *json, size_t size, struct tokenizer **ret_tokenizer, struct error **ret_error) {
    if (size > TOKENIZER_MAXIMUM_JSON)
        return error_set(ret_error, ERROR_CONFIGURATION, "the tokenizer is %zu bytes long; %u are allowed", size,
                         TOKENIZER_MAXIMUM_JSON);
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(json, size, &document, &root, ret_error);
    if (result < 0) return result;
    __attribute__((cleanup(free_tokenizer))) struct tokenizer *tokenizer = mem_new(struct tokenizer);
    result = open_parts(root, tokenizer, ret_error);
    if (result < 0) return result;
    *ret_tokenizer = TAKE(tokenizer);
    return 0;
}

size_t tokenizer_vocabulary_size(const struct tokenizer *tokenizer) {
    return (size_t)(tokenizer->highest_id + 1);
}

int64_t tokenizer_padding_id(const struct tokenizer *tokenizer) {
    return tokenizer->padding_id;
}

/* ---- encoding ---- */

/* One text on its way. */
struct run {
    const struct tokenizer *tokenizer;
    struct tokenizer_sink *sink;
    struct buffer normal; /* the normal form of the present piece */
};

static void encode_words(struct run *run, const char *text, size_t size) {
    words_encode(&run->tokenizer->words, text, size, run->tokenizer->model, run->tokenizer->state, run->sink);
}

/* A piece without added tokens as they stand: normalises it and cuts it at those that are looked for in normal form. */
static int encode_piece(struct run *run, const char *text, size_t size, struct error **ret_error) {
    const struct tokenizer *tokenizer = run->tokenizer;
    if (tokenizer->normalizer.count) {
        run->normal.size = 0;
        int result = normalizer_run(&tokenizer->normalizer, text, size, &run->normal, ret_error);
        if (result < 0) return result;
        text = run->normal.bytes;
        size = run->normal.size;
    }
    struct added_search search = {.text = text, .size = size};
    size_t done = 0, start;
    int64_t id;
    for (; added_next(&tokenizer->added, &tokenizer->added.normalized, &search, &start, &id); done = search.done) {
        if (done < start) encode_words(run, text + done, start - done);
        if (start < search.done) tokenizer_sink_add(run->sink, id);
    }
    encode_words(run, text + done, size - done);
    return 0;
}

static int encode_text(struct run *run, const char *text, size_t size, struct error **ret_error) {
    const struct added_tokens *added = &run->tokenizer->added;
    struct added_search search = {.text = text, .size = size};
    size_t done = 0, start;
    int64_t id;
    int result = 0;
    for (; added_next(added, &added->raw, &search, &start, &id); done = search.done) {
        if (done < start) result = encode_piece(run, text + done, start - done, ret_error);
        if (result < 0) return result;
        if (start < search.done) tokenizer_sink_add(run->sink, id);
    }
    return done < size ? encode_piece(run, text + done, size - done, ret_error) : 0;
}

/* Puts U+FFFD where text is not UTF-8; appends nothing when all of it is. */
static int repair_text(const char *text, size_t size, struct buffer *out, struct error **ret_error) {
    bool broken = false;
    size_t valid = 0, taken;
    uint32_t code;
    for (; valid < size; valid += taken) {
        taken = unicode_read(text + valid, size - valid, &code, &broken);
        if (broken) break;
    }
    if (!broken) return 0;
    /* Each byte becomes three at most. */
    if (!buffer_reserve(out, valid + 3 * (size - valid)))
        return error_set(ret_error, ERROR_UNAVAILABLE, "no memory for a text of %zu bytes", size);
    memcpy(out->bytes, text, valid);
    out->size = valid;
    for (size_t at = valid; at < size; at += taken) {
        taken = unicode_read(text + at, size - at, &code, &broken);
        out->size += unicode_write(code, out->bytes + out->size);
    }
    return 0;
}

static void copy_ids(int64_t *to, const struct special_ids *ids) {
    for (size_t i = 0; i < ids->count; i++) to[i] = ids->ids[i];
}

int tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size, int64_t *ids, size_t maximum,
                     struct tokenizer_encoding *ret_encoding, struct error **ret_error) {
    const struct special_ids *before = &tokenizer->special.before, *behind = &tokenizer->special.behind;
    size_t special = before->count + behind->count;
    if (maximum < special)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "a maximum length of %zu has no room for the %zu special tokens", maximum, special);
    if (size > TOKENIZER_MAXIMUM_TEXT)
        return error_set_status(ret_error, ERROR_REQUEST, 413, "a text is %zu bytes long; %u are allowed", size,
                                TOKENIZER_MAXIMUM_TEXT);
    _cleanup_buffer_ struct buffer repaired = {0};
    int result = unicode_is_ascii(text, size) ? 0 : repair_text(text, size, &repaired, ret_error);
    if (result < 0) return result;
    if (repaired.size) {
        text = repaired.bytes;
        size = repaired.size;
    }

    struct tokenizer_sink sink = {.ids = ids + before->count, .maximum = maximum - special};
    struct run run = {.tokenizer = tokenizer, .sink = &sink};
    result = encode_text(&run, text, size, ret_error);
    buffer_clear(&run.normal);
    if (result < 0) return result;
    size_t kept = sink.total < sink.maximum ? sink.total : sink.maximum;
    copy_ids(ids, before);
    copy_ids(ids + before->count + kept, behind);
    *ret_encoding = (struct tokenizer_encoding){
        .count = special + kept,
        .total = special + sink.total,
        .truncated = kept < sink.total,
    };
    return 0;
}
