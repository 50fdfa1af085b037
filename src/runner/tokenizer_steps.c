#include "runner/tokenizer_steps-internal.h"

#include <stdlib.h>
#include <string.h>

/* A step reads `in` and appends to `out`, which is empty. */
typedef bool step_function(const struct codes *in, struct codes *out);

bool codes_reserve(struct codes *codes, size_t more) {
    if (more > CODES_MAXIMUM - codes->count) return false;
    size_t wanted = codes->count + more;
    if (wanted <= codes->capacity) return true;
    size_t capacity = codes->capacity * 2 > wanted ? codes->capacity * 2 : wanted;
    uint32_t *items = realloc(codes->items, capacity * sizeof *items);
    if (!items) return false;
    codes->items = items;
    codes->capacity = capacity;
    return true;
}

void codes_clear(struct codes *codes) {
    free(codes->items);
    *codes = (struct codes){0};
}

bool codes_read(struct codes *codes, const char *text, size_t size) {
    if (!codes_reserve(codes, size)) return false;
    bool broken = false;
    for (size_t at = 0; at < size;) at += unicode_read(text + at, size - at, &codes->items[codes->count++], &broken);
    return true;
}

bool codes_write(const struct codes *codes, struct buffer *out) {
    if (!buffer_reserve(out, codes->count * UNICODE_UTF8_MAXIMUM)) return false;
    for (size_t i = 0; i < codes->count; i++) out->size += unicode_write(codes->items[i], out->bytes + out->size);
    return true;
}

static bool clean(const struct codes *in, struct codes *out) {
    for (size_t i = 0; i < in->count; i++) {
        uint8_t flags = unicode_flags(in->items[i]);
        if (flags & UNICODE_REMOVED) continue;
        if (!codes_push(out, flags & UNICODE_WHITESPACE ? ' ' : in->items[i])) return false;
    }
    return true;
}

static bool surround_chinese(const struct codes *in, struct codes *out) {
    for (size_t i = 0; i < in->count; i++) {
        bool chinese = in->items[i] > 0x7f && unicode_flags(in->items[i]) & UNICODE_CHINESE;
        if (chinese && !codes_push(out, ' ')) return false;
        if (!codes_push(out, in->items[i])) return false;
        if (chinese && !codes_push(out, ' ')) return false;
    }
    return true;
}

static bool drop(const struct codes *in, struct codes *out, uint8_t dropped) {
    for (size_t i = 0; i < in->count; i++)
        if (!(in->items[i] > 0x7f && unicode_flags(in->items[i]) & dropped) && !codes_push(out, in->items[i]))
            return false;
    return true;
}

static bool drop_nonspacing(const struct codes *in, struct codes *out) {
    return drop(in, out, UNICODE_NONSPACING);
}

static bool drop_marks(const struct codes *in, struct codes *out) {
    return drop(in, out, UNICODE_MARK);
}

static bool lowercase(const struct codes *in, struct codes *out) {
    for (size_t i = 0; i < in->count; i++) {
        uint32_t code = in->items[i];
        if (code - 'A' < 26)
            code |= 0x20;
        else if (code > 0x7f && unicode_flags(code) & UNICODE_MAPPED)
            code = unicode_lower(code);
        if (!codes_push(out, code)) return false;
        if (in->items[i] == 0x130 && !codes_push(out, 0x307)) return false;
    }
    return true;
}

/* While marks wait to be put in canonical order, their class stands above the code point's 21 bits. */
#define CLASS_SHIFT 24
#define CODE_MASK ((1u << CLASS_SHIFT) - 1)
#define FEW_MARKS 16

/* Stable, and linear however many marks a text piles up. */
static bool sort_many(uint32_t *marks, size_t count) {
    size_t starts[256] = {0};
    uint32_t *sorted = malloc(count * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < count; i++) starts[marks[i] >> CLASS_SHIFT]++;
    for (size_t class = 0, next = 0; class < 256; class ++) {
        size_t members = starts[class];
        starts[class] = next;
        next += members;
    }
    for (size_t i = 0; i < count; i++) sorted[starts[marks[i] >> CLASS_SHIFT]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *sorted);
    free(sorted);
    return true;
}

static void sort_few(uint32_t *marks, size_t count) {
    for (size_t i = 1; i < count; i++) {
        uint32_t mark = marks[i];
        size_t at = i;
        for (; at > 0 && marks[at - 1] >> CLASS_SHIFT > mark >> CLASS_SHIFT; at--) marks[at] = marks[at - 1];
        marks[at] = mark;
    }
}

/* Puts the marks items[from..count) in order and takes their classes off. */
static bool settle_marks(struct codes *codes, size_t from) {
    uint32_t *marks = codes->items + from;
    size_t count = codes->count - from;
    if (count > FEW_MARKS) {
        if (!sort_many(marks, count)) return false;
    } else if (count > 1) {
        sort_few(marks, count);
    }
    for (size_t i = 0; i < count; i++) marks[i] &= CODE_MASK;
    return true;
}

static uint8_t combining_class(uint32_t code) {
    return code > 0x7f && unicode_flags(code) & UNICODE_MAPPED ? unicode_combining_class(code) : 0;
}

/* Appends one code point of a decomposition; *marks is where the marks begin that still wait. */
static bool push_decomposed(struct codes *out, uint32_t code, size_t *marks) {
    uint32_t class = combining_class(code);
    if (class == 0 && *marks < out->count && !settle_marks(out, *marks)) return false;
    if (!codes_push(out, code | class << CLASS_SHIFT)) return false;
    if (class == 0) *marks = out->count;
    return true;
}

/* Decomposes and puts marks in canonical order (Unicode 16 §3.11). */
static bool decompose(const struct codes *in, struct codes *out, bool compatible) {
    uint32_t parts[UNICODE_DECOMPOSITION_MAXIMUM];
    size_t marks = 0;
    for (size_t i = 0; i < in->count; i++) {
        uint32_t code = in->items[i];
        size_t count = 1;
        parts[0] = code;
        if (code > 0x7f) count = unicode_decompose(code, compatible, parts);
        for (size_t part = 0; part < count; part++)
            if (!push_decomposed(out, parts[part], &marks)) return false;
    }
    return settle_marks(out, marks);
}

static bool decompose_canonical(const struct codes *in, struct codes *out) {
    return decompose(in, out, false);
}

static bool decompose_compatible(const struct codes *in, struct codes *out) {
    return decompose(in, out, true);
}

/* Composes what is in canonical order (Unicode 16 §3.11): a mark joins the last starter unless one of its own or a
 * higher class stands between. */
static bool compose(const struct codes *in, struct codes *out) {
    uint32_t *starter = NULL; /* in out */
    uint8_t last_class = 0; /* of the code point before, 0: the starter itself */
    if (!codes_reserve(out, in->count)) return false;
    for (size_t i = 0; i < in->count; i++) {
        uint32_t code = in->items[i];
        uint8_t class = combining_class(code);
        bool blocked = !starter || (last_class && last_class >= class);
        uint32_t composed = blocked ? 0 : unicode_compose(*starter, code);
        if (composed) {
            *starter = composed;
            continue;
        }
        out->items[out->count] = code;
        if (class == 0) starter = &out->items[out->count];
        last_class = class;
        out->count++;
    }
    return true;
}

static step_function *const functions[] = {
#define STEP(name, function) [NORMALIZER_##name] = function,
    NORMALIZER_STEPS(STEP)
#undef STEP
};

int steps_run(const enum normalizer_step *steps, size_t count, struct codes *codes, struct error **ret_error) {
    struct codes other = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        other.count = 0;
        ok = codes_reserve(&other, codes->count) && functions[steps[i]](codes, &other);
        struct codes done = other;
        other = *codes;
        *codes = done;
    }
    codes_clear(&other);
    return ok ? 0 : error_set(ret_error, ERROR_UNAVAILABLE, "no memory to normalise a text");
}
