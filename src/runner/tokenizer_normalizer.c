#include "runner/tokenizer_normalizer-internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "runner/tokenizer_steps-internal.h"

/* What of the json a kind reads; appends its steps. */
struct kind {
    const char *name;
    int (*read)(yyjson_val *json, const struct kind *kind, struct normalizer *normalizer, struct error **ret_error);
    enum normalizer_step steps[2]; /* for read_simple() */
    size_t count;
};

static int read_one(yyjson_val *json, struct normalizer *normalizer, struct error **ret_error);

static int add_step(struct normalizer *normalizer, enum normalizer_step step, struct error **ret_error) {
    if (normalizer->count == NORMALIZER_MAXIMUM_STEPS)
        return error_set(ret_error, ERROR_CONFIGURATION, "the normalizer has more than %d steps",
                         NORMALIZER_MAXIMUM_STEPS);
    normalizer->steps[normalizer->count++] = step;
    return 0;
}

static int read_simple(yyjson_val *json, const struct kind *kind, struct normalizer *normalizer,
                       struct error **ret_error) {
    (void)json;
    int result = 0;
    for (size_t i = 0; result == 0 && i < kind->count; i++) result = add_step(normalizer, kind->steps[i], ret_error);
    return result;
}

static int read_sequence(yyjson_val *json, const struct kind *kind, struct normalizer *normalizer,
                         struct error **ret_error) {
    (void)kind;
    yyjson_val *parts = yyjson_obj_get(json, "normalizers"), *part;
    if (!yyjson_is_arr(parts))
        return error_set(ret_error, ERROR_CONFIGURATION, "the normalizer Sequence must have a list \"normalizers\"");
    size_t index, maximum;
    int result = 0;
    yyjson_arr_foreach(parts, index, maximum, part) {
        result = read_one(part, normalizer, ret_error);
        if (result < 0) break;
    }
    return result;
}

/* The reference insists on these three, so a file without them is broken. */
static int read_switch(yyjson_val *json, const char *field, bool *ret_on, struct error **ret_error) {
    if (!yyjson_is_bool(yyjson_obj_get(json, field)))
        return error_set(ret_error, ERROR_CONFIGURATION, "normalizer.%s must be true or false", field);
    *ret_on = yyjson_get_bool(yyjson_obj_get(json, field));
    return 0;
}

static int read_bert(yyjson_val *json, const struct kind *kind, struct normalizer *normalizer,
                     struct error **ret_error) {
    (void)kind;
    bool clean = false, chinese = false, lower = false;
    int result = read_switch(json, "clean_text", &clean, ret_error);
    if (result == 0) result = read_switch(json, "handle_chinese_chars", &chinese, ret_error);
    if (result == 0) result = read_switch(json, "lowercase", &lower, ret_error);
    bool strip = lower; /* unless the file says otherwise, accents go with upper case */
    if (result == 0) result = json_get_boolean(json, "normalizer", "strip_accents", &strip, ret_error);
    if (result == 0 && clean) result = add_step(normalizer, NORMALIZER_CLEAN, ret_error);
    if (result == 0 && chinese) result = add_step(normalizer, NORMALIZER_SURROUND_CHINESE, ret_error);
    if (result == 0 && strip) result = add_step(normalizer, NORMALIZER_DECOMPOSE, ret_error);
    if (result == 0 && strip) result = add_step(normalizer, NORMALIZER_DROP_NONSPACING, ret_error);
    if (result == 0 && lower) result = add_step(normalizer, NORMALIZER_LOWERCASE, ret_error);
    return result;
}

static const struct kind kinds[] = {
    {.name = "BertNormalizer", .read = read_bert},
    {.name = "Sequence", .read = read_sequence},
    {"Lowercase", read_simple, {NORMALIZER_LOWERCASE}, 1},
    {"NFC", read_simple, {NORMALIZER_DECOMPOSE, NORMALIZER_COMPOSE}, 2},
    {"NFD", read_simple, {NORMALIZER_DECOMPOSE}, 1},
    {"NFKC", read_simple, {NORMALIZER_DECOMPOSE_FULLY, NORMALIZER_COMPOSE}, 2},
    {"NFKD", read_simple, {NORMALIZER_DECOMPOSE_FULLY}, 1},
    {"StripAccents", read_simple, {NORMALIZER_DROP_MARKS}, 1},
};

static int read_one(yyjson_val *json, struct normalizer *normalizer, struct error **ret_error) {
    const char *type = yyjson_get_str(yyjson_obj_get(json, "type"));
    for (size_t i = 0; type && i < ARRAY_SIZE(kinds); i++)
        if (text_equal(type, kinds[i].name)) return kinds[i].read(json, &kinds[i], normalizer, ret_error);
    return error_set(
        ret_error, ERROR_CONFIGURATION,
        "the normalizer %.64s is not known; known are BertNormalizer, Sequence, Lowercase, NFC, NFD, NFKC, "
        "NFKD and StripAccents",
        type ? type : "without a type");
}

/* What the steps make of one ASCII character: always one of ASCII, or nothing. */
static int fill_ascii(struct normalizer *normalizer, struct error **ret_error) {
    int result = 0;
    for (uint32_t code = 0; result == 0 && code < ARRAY_SIZE(normalizer->ascii); code++) {
        struct codes codes = {0};
        result =
            codes_push(&codes, code) ? 0 : error_set(ret_error, ERROR_UNAVAILABLE, "no memory to read a normalizer");
        if (result == 0) result = steps_run(normalizer->steps, normalizer->count, &codes, ret_error);
        if (result == 0) normalizer->ascii[code] = codes.count ? (uint8_t)codes.items[0] : NORMALIZER_REMOVED;
        codes_clear(&codes);
    }
    return result;
}

int normalizer_open(yyjson_val *json, struct normalizer *ret_normalizer, struct error **ret_error) {
    struct normalizer normalizer = {0};
    int result = json && !yyjson_is_null(json) ? read_one(json, &normalizer, ret_error) : 0;
    if (result == 0) result = fill_ascii(&normalizer, ret_error);
    if (result == 0) *ret_normalizer = normalizer;
    return result;
}

static int no_memory(size_t size, struct error **ret_error) {
    return error_set(ret_error, ERROR_UNAVAILABLE, "no memory to normalise a text of %zu bytes", size);
}

static int run_ascii(const struct normalizer *normalizer, const char *text, size_t size, struct buffer *out,
                     struct error **ret_error) {
    if (!buffer_reserve(out, size)) return no_memory(size, ret_error);
    char *to = out->bytes + out->size;
    for (size_t i = 0; i < size; i++) {
        uint8_t becomes = normalizer->ascii[(uint8_t)text[i]];
        *to = (char)becomes;
        to += becomes != NORMALIZER_REMOVED;
    }
    out->size = (size_t)(to - out->bytes);
    return 0;
}

int normalizer_run(const struct normalizer *normalizer, const char *text, size_t size, struct buffer *out,
                   struct error **ret_error) {
    if (unicode_is_ascii(text, size)) return run_ascii(normalizer, text, size, out, ret_error);
    struct codes codes = {0};
    bool ok = codes_read(&codes, text, size);
    int result = ok ? steps_run(normalizer->steps, normalizer->count, &codes, ret_error) : no_memory(size, ret_error);
    if (result == 0 && !codes_write(&codes, out)) result = no_memory(size, ret_error);
    codes_clear(&codes);
    return result;
}
