/* What arguments name: files of JSON, models. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define INPUT_MAXIMUM ((size_t)256 * 1024 * 1024)

char *cli_read_json(const struct cli *cli, const char *argument) {
    bool is_file = *argument == '@', is_stdin = text_equal(argument, "-");
    if (!is_file && !is_stdin) return text_copy(argument);
    FILE *file = is_stdin ? stdin : fopen(argument + 1, "re");
    if (!file) {
        fprintf(stderr, "slipway %s: open %s: %m\n", cli->command->name, argument + 1);
        return NULL;
    }
    struct buffer bytes = {.maximum = INPUT_MAXIMUM};
    char block[65536];
    size_t size;
    bool fits = true;
    while (fits && (size = fread(block, 1, sizeof block, file)) > 0) fits = buffer_append(&bytes, block, size);
    bool failed = ferror(file) != 0;
    if (!is_stdin) fclose(file);
    if (!fits || failed) {
        fprintf(stderr, "slipway %s: %s cannot be read%s\n", cli->command->name, argument,
                fits ? "" : ": it is too large");
        buffer_clear(&bytes);
        return NULL;
    }
    return buffer_take(&bytes, NULL);
}

char *cli_make_uri(const struct cli *cli, const char *given) {
    if (given[strcspn(given, ":/")] == ':') return text_copy(given);
    _cleanup_free_ char *path = realpath(given, NULL);
    if (!path) {
        fprintf(stderr, "slipway %s: %s: %m (a model is a folder or file here, or a URI like file:///models/minilm)\n",
                cli->command->name, given);
        return NULL;
    }
    _cleanup_free_ char *encoded = text_percent_encode(path, strlen(path));
    char *uri = mem_alloc(strlen(encoded) + 8), *at = stpcpy(uri, "file://");
    for (const char *from = encoded; *from; from++) { /* the slashes of the path stay slashes */
        if (text_starts_with(from, "%2F")) {
            *at++ = '/';
            from += 2;
        } else {
            *at++ = *from;
        }
    }
    *at = 0;
    return uri;
}
