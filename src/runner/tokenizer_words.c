#include "runner/tokenizer_words-internal.h"

#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "runner/tokenizer_unicode-internal.h"

/* What a character is to a pre-tokenizer. */
enum role {
    ROLE_LETTER, /* goes on a word of letters */
    ROLE_SIGN, /* goes on a word of signs */
    ROLE_ALONE, /* is a word */
    ROLE_SPACE, /* is between words */
};

struct words_kind {
    const char *name;
    enum role (*role)(uint8_t flags);
};

static enum role role_bert(uint8_t flags) {
    return flags & UNICODE_WHITESPACE ? ROLE_SPACE : flags & UNICODE_PUNCTUATION ? ROLE_ALONE : ROLE_LETTER;
}

static enum role role_whitespace(uint8_t flags) {
    return flags & UNICODE_WORD ? ROLE_LETTER : flags & UNICODE_WHITESPACE ? ROLE_SPACE : ROLE_SIGN;
}

static enum role role_whitespace_split(uint8_t flags) {
    return flags & UNICODE_WHITESPACE ? ROLE_SPACE : ROLE_LETTER;
}

static enum role role_none(uint8_t flags) {
    (void)flags;
    return ROLE_LETTER;
}

static const struct words_kind kinds[] = {
    {"BertPreTokenizer", role_bert},
    {"Whitespace", role_whitespace},
    {"WhitespaceSplit", role_whitespace_split},
};
static const struct words_kind none = {NULL, role_none};

int words_open(yyjson_val *json, struct words *ret_words, struct error **ret_error) {
    const struct words_kind *kind = json && !yyjson_is_null(json) ? NULL : &none;
    const char *type = yyjson_get_str(yyjson_obj_get(json, "type"));
    for (size_t i = 0; type && i < ARRAY_SIZE(kinds); i++)
        if (text_equal(type, kinds[i].name)) kind = &kinds[i];
    if (!kind)
        return error_set(
            ret_error, ERROR_CONFIGURATION,
            "the pre_tokenizer %.64s is not known; known are BertPreTokenizer, Whitespace and WhitespaceSplit",
            type ? type : "without a type");
    ret_words->kind = kind;
    for (uint32_t code = 0; code < ARRAY_SIZE(ret_words->ascii); code++)
        ret_words->ascii[code] = (uint8_t)kind->role(unicode_flags(code));
    return 0;
}

void words_encode(const struct words *words, const char *text, size_t size, const struct tokenizer_model_ops *model,
                  const void *state, struct tokenizer_sink *sink) {
    size_t word = 0; /* where the present word began */
    enum role before = ROLE_SPACE;
    bool broken = false;
    for (size_t at = 0, taken = 0; at < size; at += taken) {
        uint32_t code = (uint8_t)text[at];
        enum role role = ROLE_LETTER;
        if (code < ARRAY_SIZE(words->ascii)) {
            taken = 1;
            role = (enum role)words->ascii[code];
        } else {
            taken = unicode_read(text + at, size - at, &code, &broken);
            role = words->kind->role(unicode_flags(code));
        }
        if (role == before && role < ROLE_ALONE) continue;
        if (before != ROLE_SPACE) model->encode_word(state, text + word, at - word, sink);
        word = at;
        before = role;
    }
    if (before != ROLE_SPACE) model->encode_word(state, text + word, size - word, sink);
}
