/* tokenizer_dump TOKENIZER.JSON: the tokenizer by itself, for tests that compare it with the reference.
 *
 * Reads records from standard input, each two 32-bit little-endian numbers (bytes of the text, largest number of ids)
 * and the text, and writes for each one line {"ids":[...],"total":N} or {"error":"..."}. When the tokenizer cannot be
 * opened it writes {"error":"..."} and exits with 1.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/memory.h"
#include "runner/tokenizer.h"

#define MAXIMUM_TEXT (64u << 20)
#define MAXIMUM_IDS (16u << 20)

static void print_error(const struct error *error) {
    _cleanup_free_ char *json = json_from_error(error);
    printf("%s\n", json);
}

static bool read_number(uint32_t *ret_number) {
    uint8_t bytes[4];
    if (fread(bytes, 1, sizeof bytes, stdin) != sizeof bytes) return false;
    *ret_number = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    return true;
}

static void encode(const struct tokenizer *tokenizer, const char *text, size_t size, size_t maximum) {
    _cleanup_free_ int64_t *ids = mem_new_array(maximum, int64_t);
    _cleanup_error_ struct error *error = NULL;
    struct tokenizer_encoding encoding;
    if (tokenizer_encode(tokenizer, text, size, ids, maximum, &encoding, &error) < 0) {
        print_error(error);
        return;
    }
    printf("{\"ids\":[");
    for (size_t i = 0; i < encoding.count; i++) printf("%s%" PRId64, i ? "," : "", ids[i]);
    printf("],\"total\":%zu}\n", encoding.total);
}

int main(int argc, char **argv) {
    _cleanup_error_ struct error *error = NULL;
    _cleanup_free_ char *json = NULL;
    struct tokenizer *tokenizer = NULL;
    size_t json_size = 0;
    if (argc != 2) {
        fprintf(stderr, "usage: tokenizer_dump TOKENIZER.JSON\n");
        return 2;
    }
    if (fs_read_file(argv[1], TOKENIZER_MAXIMUM_JSON, &json, &json_size, &error) < 0 ||
        tokenizer_open(json, json_size, &tokenizer, &error) < 0) {
        print_error(error);
        return 1;
    }
    uint32_t size, maximum;
    while (read_number(&size) && read_number(&maximum) && size <= MAXIMUM_TEXT && maximum <= MAXIMUM_IDS) {
        _cleanup_free_ char *text = mem_alloc(size); /* exactly so long: a sanitizer sees reads behind it */
        if (fread(text, 1, size, stdin) != size) break;
        encode(tokenizer, text, size, maximum);
    }
    tokenizer_free(tokenizer);
    return 0;
}
