/* The steps that normalizers are made of, over lists of code points. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "runner/tokenizer_normalizer-internal.h"
#include "runner/tokenizer_unicode-internal.h"

/* A growing list of code points; zero-initialise it. The functions return false when memory is gone or the list would
 * pass CODES_MAXIMUM. */
struct codes {
    uint32_t *items;
    size_t count, capacity;
};

#define CODES_MAXIMUM (64u << 20) /* code points; a text at its ceiling of compatibility characters may pass it */

bool codes_reserve(struct codes *codes, size_t more); /* room for `more` items beyond count */
static inline bool codes_push(struct codes *codes, uint32_t code) {
    if (codes->count == codes->capacity && !codes_reserve(codes, 1)) return false;
    codes->items[codes->count++] = code;
    return true;
}
void codes_clear(struct codes *codes);
bool codes_read(struct codes *codes, const char *text, size_t size); /* from valid UTF-8 */
bool codes_write(const struct codes *codes, struct buffer *out); /* appends UTF-8 */

/* Runs the steps over *codes, one after the other. UNAVAILABLE error when memory is gone. */
int steps_run(const enum normalizer_step *steps, size_t count, struct codes *codes, struct error **ret_error);
