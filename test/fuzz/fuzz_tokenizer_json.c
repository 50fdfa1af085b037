/* A tokenizer.json: it is refused with a sentence, or it opens and every id that it gives lies in its vocabulary. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "runner/tokenizer.h"

#define MAXIMUM 160

static void check_text(const struct tokenizer *tokenizer, const char *text) {
    int64_t ids[MAXIMUM];
    struct tokenizer_encoding encoding;
    if (tokenizer_encode(tokenizer, text, strlen(text), ids, MAXIMUM, &encoding, NULL) < 0) abort();
    if (encoding.count > MAXIMUM || encoding.count > encoding.total) abort();
    for (size_t i = 0; i < encoding.count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= tokenizer_vocabulary_size(tokenizer)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char *const texts[] = {"", "a", "abab [MASK] foo.", "\xc3\x89t\xc3\xa9 \xe5\xad\x97 \xcc\x81 \xff",
                                        " \t x"};
    struct tokenizer *tokenizer = NULL;
    _cleanup_error_ struct error *error = NULL;
    if (size > 65536) return 0;
    if (tokenizer_open((const char *)bytes, size, &tokenizer, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        if (tokenizer || !*text) abort();
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) check_text(tokenizer, texts[i]);
    tokenizer_free(tokenizer);
    return 0;
}
