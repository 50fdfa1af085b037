/* A page that says that it is a vector index's header. It is refused, or all its numbers are what they can be. The
 * first byte says what is made right first, so that what lies behind the checks is reached: the beginning, the numbers'
 * checks, a record's checksum. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vector/vector-internal.h"

static void require(bool holds) {
    if (!holds) abort();
}

static void make_right(struct vector_header *header, unsigned what) {
    struct vector_header begun;
    struct vector_boot boot = {{1, 2}};
    vector_header_begin(&begun, &boot);
    if (what & 1) header->magic = begun.magic;
    for (size_t i = 0; (what & 2) && i < HEADER_WORDS; i++)
        vector_store(&header->words[i], vector_load(&header->words[i]));
    if (what & 4) {
        struct vector_sync_record record = header->records[what >> 7];
        vector_header_record(header, &record);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static _Alignas(64) char page[VECTOR_HEADER_SIZE];
    struct vector_header *header = (struct vector_header *)page;
    struct vector_sync_record record;
    if (!size || size > sizeof page) return 0;
    memset(page, 0, sizeof page);
    memcpy(page, bytes + 1, size - 1);
    make_right(header, bytes[0]);
    const char *fault = vector_header_check(header, &record);
    if (fault) {
        require(*fault != 0);
        return 0;
    }
    require(record.durable <= VECTOR_NUMBER_MAXIMUM);
    require(vector_load(&header->words[HEADER_APPLIED]) <= vector_load(&header->words[HEADER_WRITTEN]));
    uint64_t count = record.count;
    vector_header_record(header, &record); /* the next one is taken then, and nothing else has changed */
    require(record.count == count + 1 && !vector_header_check(header, &record) && record.count == count + 1);
    return 0;
}
