/* Filters and the payloads they are asked about: the first line is a filter, the second a payload. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "collection/collection.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    const char *text = (const char *)bytes;
    const char *end = size ? memchr(text, '\n', size) : NULL;
    size_t filter_size = end ? (size_t)(end - text) : size;
    _cleanup_json_ yyjson_doc *document = NULL;
    if (json_parse(text, filter_size, &document, NULL) < 0) return 0;
    struct collection_filter *filter = NULL;
    _cleanup_error_ struct error *error = NULL;
    int result = collection_filter_parse(yyjson_doc_get_root(document), &filter, &error);
    assert((result < 0) == (error != NULL) && (result < 0) == (filter == NULL));
    if (result < 0) {
        assert(error->class == ERROR_REQUEST && !strncmp(error->message, "filter", 6));
        return 0;
    }
    size_t rest = end ? size - filter_size - 1 : 0;
    char *payload = text_copy_bytes(end ? end + 1 : "", rest);
    bool first = collection_filter_accepts(filter, payload);
    assert(collection_filter_accepts(filter, payload) == first);
    free(payload);
    collection_filter_free(filter);
    return 0;
}
