/* A text for a tokenizer (the first byte picks one): the ids are those that every shorter maximum begins with. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "runner/tokenizer.h"

#define MAXIMUM 4096

static const char *const normalizers[] = {
    "null",
    "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"lowercase\":true}",
    "{\"type\":\"BertNormalizer\",\"clean_text\":false,\"handle_chinese_chars\":true,\"lowercase\":false}",
    "{\"type\":\"NFC\"}",
    "{\"type\":\"NFKC\"}",
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKD\"},{\"type\":\"StripAccents\"},{\"type\":\"Lowercase\"}]}",
};
static const char *const pre_tokenizers[] = {"null", "{\"type\":\"BertPreTokenizer\"}", "{\"type\":\"Whitespace\"}"};

static struct tokenizer *open_tokenizer(uint8_t choice) {
    _cleanup_free_ char *json = text_format(
        "{\"added_tokens\":["
        "{\"id\":5,\"content\":\"[MASK]\",\"single_word\":false,\"lstrip\":true,\"rstrip\":true,\"normalized\":false},"
        "{\"id\":6,\"content\":\"\u00c9x\",\"single_word\":true,\"lstrip\":false,\"rstrip\":true,\"normalized\":true}],"
        "\"normalizer\":%s,\"pre_tokenizer\":%s,"
        "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"s\",1],\"cls\":[\"c\",2]},"
        "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"#\","
        "\"max_input_chars_per_word\":9,\"vocab\":{\"u\":0,\"a\":1,\"#a\":2,\"ab\":3,\"#\u00e9\":4}}}",
        normalizers[choice % ARRAY_SIZE(normalizers)], pre_tokenizers[choice / 8 % ARRAY_SIZE(pre_tokenizers)]);
    struct tokenizer *tokenizer = NULL;
    if (tokenizer_open(json, strlen(json), &tokenizer, NULL) < 0) abort();
    return tokenizer;
}

/* The same text cut shorter: the same ids, but for the last special one. */
static void check_cut(const struct tokenizer *tokenizer, const char *text, size_t size, const int64_t *all,
                      size_t total) {
    int64_t ids[8];
    struct tokenizer_encoding encoding;
    if (tokenizer_encode(tokenizer, text, size, ids, ARRAY_SIZE(ids), &encoding, NULL) < 0) abort();
    if (encoding.total != total || encoding.count != (total < ARRAY_SIZE(ids) ? total : ARRAY_SIZE(ids))) abort();
    if (encoding.truncated != (encoding.count < total)) abort();
    if (memcmp(ids, all, (encoding.count - 1) * sizeof *ids) || ids[encoding.count - 1] != 1) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 1 || size > 65536) return 0;
    struct tokenizer *tokenizer = open_tokenizer(bytes[0]);
    _cleanup_free_ int64_t *ids = mem_new_array(MAXIMUM, int64_t);
    struct tokenizer_encoding encoding;
    const char *text = (const char *)bytes + 1;
    if (tokenizer_encode(tokenizer, text, size - 1, ids, MAXIMUM, &encoding, NULL) < 0) abort();
    for (size_t i = 0; i < encoding.count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= tokenizer_vocabulary_size(tokenizer)) abort();
    check_cut(tokenizer, text, size - 1, ids, encoding.total);
    tokenizer_free(tokenizer);
    return 0;
}
