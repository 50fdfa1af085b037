/* Normalizers of tokenizer.json: text in, text in normal form out, as the reference's.
 *
 * All kinds are taken apart into a flat list of steps over code points, which run one after the other. What the steps
 * do to ASCII does not depend on its neighbours, so it is worked out once for each ASCII character when the normalizer
 * is opened, and texts that are all ASCII only go through that table. Immutable after open; any thread.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

struct yyjson_val;

#define NORMALIZER_MAXIMUM_STEPS 64
#define NORMALIZER_REMOVED 0x80 /* in `ascii` */

/* name, what it does */
#define NORMALIZER_STEPS(STEP)                                                                                         \
    STEP(CLEAN, clean) /* drops controls, makes whitespace U+0020 */                                                   \
    STEP(SURROUND_CHINESE, surround_chinese) /* spaces around Chinese characters */                                    \
    STEP(DECOMPOSE, decompose_canonical) /* NFD */                                                                     \
    STEP(DECOMPOSE_FULLY, decompose_compatible) /* NFKD */                                                             \
    STEP(COMPOSE, compose) /* what makes NFC of NFD, NFKC of NFKD */                                                   \
    STEP(DROP_NONSPACING, drop_nonspacing) /* category Mn */                                                           \
    STEP(DROP_MARKS, drop_marks) /* category M */                                                                      \
    STEP(LOWERCASE, lowercase) /* one code point at a time, no final sigma */

enum normalizer_step {
#define STEP(name, function) NORMALIZER_##name,
    NORMALIZER_STEPS(STEP)
#undef STEP
};

struct normalizer {
    size_t count;
    enum normalizer_step steps[NORMALIZER_MAXIMUM_STEPS];
    uint8_t ascii[128]; /* what becomes of each ASCII character, or NORMALIZER_REMOVED */
};

/* From the field `normalizer` of tokenizer.json; NULL or null is one without steps. CONFIGURATION error otherwise. */
int normalizer_open(struct yyjson_val *json, struct normalizer *ret_normalizer, struct error **ret_error);

/* The normal form of text[0..size), which is valid UTF-8, appended to *out. Linear in the text. UNAVAILABLE error when
 * memory is gone or the result too large, *out then as it was. */
int normalizer_run(const struct normalizer *normalizer, const char *text, size_t size, struct buffer *out,
                   struct error **ret_error);
