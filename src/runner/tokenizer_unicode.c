#include "runner/tokenizer_unicode-internal.h"

#include <string.h>

/* Code points first, first + step, ..., last have the value. */
struct code_run {
    uint32_t first, last;
    uint8_t step;
    int32_t value;
};
/* Each of first..last becomes `length` code points of the pool, the first one's at `at`, the next ones' behind it. */
struct decomposition_run {
    uint32_t first, last;
    uint8_t length;
    uint16_t at;
};
struct composition {
    uint32_t first, second, composed;
};

#include "runner/tokenizer_tables.inc"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Hangul syllables are composed by arithmetic (Unicode 16 §3.12). */
enum {
    HANGUL_SYLLABLE = 0xac00,
    HANGUL_LEAD = 0x1100,
    HANGUL_VOWEL = 0x1161,
    HANGUL_TRAIL = 0x11a7, /* one before the first */
    HANGUL_LEADS = 19,
    HANGUL_VOWELS = 21,
    HANGUL_TRAILS = 28,
    HANGUL_SYLLABLES = HANGUL_LEADS * HANGUL_VOWELS * HANGUL_TRAILS,
};

uint8_t unicode_flags(uint32_t code) {
    uint32_t block = flag_top[code >> (LEAF_BITS + MIDDLE_BITS)];
    uint32_t leaf = flag_middle[block << MIDDLE_BITS | (code >> LEAF_BITS & ((1u << MIDDLE_BITS) - 1))];
    return flag_leaves[leaf << LEAF_BITS | (code & ((1u << LEAF_BITS) - 1))];
}

static int32_t find_value(const struct code_run *runs, size_t count, uint32_t code) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > runs[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == count || code < runs[low].first || (code - runs[low].first) % runs[low].step) return 0;
    return runs[low].value;
}

uint8_t unicode_combining_class(uint32_t code) {
    return (uint8_t)find_value(class_runs, COUNT(class_runs), code);
}

uint32_t unicode_lower(uint32_t code) {
    if (code == 0x130) return 'i';
    return (uint32_t)((int32_t)code + find_value(lower_runs, COUNT(lower_runs), code));
}

static size_t find_decomposition(const struct decomposition_run *runs, size_t count, uint32_t code,
                                 uint32_t *ret_codes) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code > runs[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == count || code < runs[low].first) return 0;
    const uint32_t *parts = decomposition_pool + runs[low].at + (size_t)(code - runs[low].first) * runs[low].length;
    for (size_t i = 0; i < runs[low].length; i++) ret_codes[i] = parts[i];
    return runs[low].length;
}

static size_t decompose_hangul(uint32_t code, uint32_t *ret_codes) {
    uint32_t index = code - HANGUL_SYLLABLE, trail = index % HANGUL_TRAILS;
    ret_codes[0] = HANGUL_LEAD + index / (HANGUL_VOWELS * HANGUL_TRAILS);
    ret_codes[1] = HANGUL_VOWEL + index / HANGUL_TRAILS % HANGUL_VOWELS;
    ret_codes[2] = HANGUL_TRAIL + trail;
    return trail ? 3 : 2;
}

size_t unicode_decompose(uint32_t code, bool compatible, uint32_t *ret_codes) {
    if (code - HANGUL_SYLLABLE < HANGUL_SYLLABLES) return decompose_hangul(code, ret_codes);
    size_t count = compatible ? find_decomposition(compatible_runs, COUNT(compatible_runs), code, ret_codes) : 0;
    if (!count) count = find_decomposition(canonical_runs, COUNT(canonical_runs), code, ret_codes);
    if (!count) ret_codes[count++] = code;
    return count;
}

static uint32_t compose_hangul(uint32_t first, uint32_t second) {
    uint32_t lead = first - HANGUL_LEAD, vowel = second - HANGUL_VOWEL;
    if (lead < HANGUL_LEADS && vowel < HANGUL_VOWELS)
        return HANGUL_SYLLABLE + (lead * HANGUL_VOWELS + vowel) * HANGUL_TRAILS;
    uint32_t syllable = first - HANGUL_SYLLABLE, trail = second - HANGUL_TRAIL;
    if (syllable < HANGUL_SYLLABLES && syllable % HANGUL_TRAILS == 0 && trail > 0 && trail < HANGUL_TRAILS)
        return first + trail;
    return 0;
}

uint32_t unicode_compose(uint32_t first, uint32_t second) {
    uint32_t composed = compose_hangul(first, second);
    size_t low = 0, high = composed ? 0 : COUNT(compositions);
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct composition *pair = &compositions[middle];
        if (pair->first == first && pair->second == second) return pair->composed;
        if (pair->first < first || (pair->first == first && pair->second < second))
            low = middle + 1;
        else
            high = middle;
    }
    return composed;
}

/* The lead bytes of UTF-8 by kind: how many bytes follow, and what the first of those may be. */
static const struct lead {
    uint8_t first, last, following, low, high;
} leads[] = {
    {0xc2, 0xdf, 1, 0x80, 0xbf}, {0xe0, 0xe0, 2, 0xa0, 0xbf}, {0xe1, 0xec, 2, 0x80, 0xbf}, {0xed, 0xed, 2, 0x80, 0x9f},
    {0xee, 0xef, 2, 0x80, 0xbf}, {0xf0, 0xf0, 3, 0x90, 0xbf}, {0xf1, 0xf3, 3, 0x80, 0xbf}, {0xf4, 0xf4, 3, 0x80, 0x8f},
};

size_t unicode_read(const char *text, size_t size, uint32_t *ret_code, bool *ret_broken) {
    const uint8_t *bytes = (const uint8_t *)text;
    if (bytes[0] < 0x80) {
        *ret_code = bytes[0];
        return 1;
    }
    const struct lead *lead = leads, *end = leads + COUNT(leads);
    while (lead < end && (bytes[0] < lead->first || bytes[0] > lead->last)) lead++;
    size_t taken = 1;
    if (lead < end) {
        uint32_t code = bytes[0] & (0x3fu >> lead->following);
        for (uint8_t low = lead->low, high = lead->high; taken <= lead->following; taken++, low = 0x80, high = 0xbf) {
            if (taken >= size || bytes[taken] < low || bytes[taken] > high) break;
            code = code << 6 | (bytes[taken] & 0x3f);
        }
        if (taken > lead->following) {
            *ret_code = code;
            return taken;
        }
    }
    *ret_code = UNICODE_REPLACEMENT;
    *ret_broken = true;
    return taken;
}

size_t unicode_read_back(const char *text, size_t size, uint32_t *ret_code) {
    size_t start = size - 1;
    while (start > 0 && ((uint8_t)text[start] & 0xc0) == 0x80) start--;
    bool broken = false;
    return unicode_read(text + start, size - start, ret_code, &broken);
}

size_t unicode_write(uint32_t code, char *ret_bytes) {
    if (code < 0x80) {
        ret_bytes[0] = (char)code;
        return 1;
    }
    size_t following = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    for (size_t i = following; i > 0; i--, code >>= 6) ret_bytes[i] = (char)(0x80 | (code & 0x3f));
    ret_bytes[0] = (char)(0xf80u >> following | code);
    return following + 1;
}

bool unicode_is_ascii(const char *text, size_t size) {
    uint64_t seen = 0, word;
    size_t i = 0;
    for (; i + sizeof word <= size; i += sizeof word) {
        memcpy(&word, text + i, sizeof word);
        seen |= word;
    }
    for (; i < size; i++) seen |= (uint8_t)text[i];
    return !(seen & UINT64_C(0x8080808080808080));
}
