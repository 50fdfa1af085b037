/* A manifest of a vector index, its checksum made right, so that what it says is reached: it is refused with a
 * sentence, or is a list of segments that can be, which is read as the same when it is written. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "vector/vector-internal.h"

static void require(bool holds) {
    if (!holds) abort();
}

static void check(const struct vector_manifest *manifest) {
    const struct vector_segment_facts *before = NULL;
    require(manifest->dimension >= 1 && manifest->dimension <= VECTOR_DIMENSION_MAXIMUM);
    require(manifest->count <= VECTOR_SEGMENTS_MAXIMUM && manifest->generation && manifest->index_id);
    for (size_t i = 0; i < manifest->count; i++) {
        const struct vector_segment_facts *facts = &manifest->segments[i];
        struct vector_layout layout;
        vector_layout_of(manifest->dimension, manifest->quantized, facts->capacity, &layout);
        require(layout.size / facts->capacity >= layout.stride * sizeof(float)); /* nothing wrapped around */
        require(facts->number && facts->number < manifest->next_number);
        require(facts->sealed || i + 1 == manifest->count);
        if (facts->sealed) require(facts->rows && facts->rows <= facts->capacity && facts->first <= facts->last);
        if (before && facts->sealed) require(before->last < facts->first);
        before = facts;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > 65536) return 0;
    struct vector_manifest manifest, again;
    _cleanup_error_ struct error *error = NULL;
    _cleanup_free_ char *text = mem_alloc(size + 11);
    if (size) memcpy(text, bytes, size);
    snprintf(text + size, 11, "\n%08x\n", vector_checksum(0, text, size));
    if (vector_manifest_parse(text, size + 10, &manifest, &error) < 0) {
        require(error->class == ERROR_CONFLICT && *error->message);
        return 0;
    }
    check(&manifest);
    _cleanup_free_ char *written = vector_manifest_write(&manifest, &size);
    require(!vector_manifest_parse(written, size, &again, NULL));
    require(again.count == manifest.count && again.generation == manifest.generation);
    require(!memcmp(again.segments, manifest.segments, again.count * sizeof *again.segments));
    vector_manifest_clear(&manifest);
    vector_manifest_clear(&again);
    return 0;
}
