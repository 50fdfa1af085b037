/* A model URI of the HTTP registry, the text of a file of digests, and an answer's error: each is refused with a short
 * sentence, or taken apart without a secret in what is kept and shown. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_http-internal.h"
#include "transfer/transfer-internal.h"

static void require(bool holds) {
    if (!holds) abort();
}

static void try_uri(const char *text) {
    _cleanup_http_uri_ struct http_uri uri = {0};
    _cleanup_error_ struct error *error = NULL;
    if (registry_http_parse(text, &uri, &error) < 0) {
        require(!uri.url && error->class == ERROR_CONFIGURATION && strlen(error->message) < 5000);
        return;
    }
    require(*uri.name && !strchr(uri.url, '#') && (!uri.sha256 || strlen(uri.sha256) == 64));
    _cleanup_free_ char *shown = transfer_public_url(uri.url), *origin = transfer_origin(uri.url);
    require(!strchr(shown, '?') && (!origin || !strchr(origin, '@')));
}

static void try_digests(const char *text) {
    _cleanup_free_ char *sha256 = NULL;
    bool found = registry_http_find_digest(text, "model.onnx", &sha256);
    require(found == (sha256 != NULL) && (!found || strspn(sha256, "0123456789abcdef") == 64));
}

static void try_answer(const char *text, size_t size) {
    _cleanup_free_ char *words = transfer_words(text, size), *length = transfer_find_header(text, "Content-Length");
    require(!words || (*words && strlen(words) <= 300 && text_is_utf8(words, strlen(words))));
    require(!length || !strpbrk(length, "\r\n"));
    uint64_t first, total, number = transfer_content_length(text);
    require(number <= INT64_MAX || number == TRANSFER_SIZE_UNKNOWN);
    if (transfer_content_range(text, &first, &total)) require(first < total && (total <= INT64_MAX || !(total + 1)));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > 65536) return 0;
    _cleanup_free_ char *text = text_copy_bytes((const char *)bytes, size);
    try_uri(text);
    try_digests(text);
    try_answer(text, size);
    return 0;
}
