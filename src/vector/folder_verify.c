/* Looking at all of an index without changing it, also while a writer is at work on it: every row against its checksum,
 * every mark against its check, sealed segments against the manifest, the last sync against what it recorded.
 *
 * A writer changes what is looked at in its own order (folder_writer.c): what is at or below `written` is whole in the
 * segments of a manifest that is read after it. A compaction may take a segment's files away between two looks, and a
 * record of a sync may be read half: so what seems wrong is looked at again. */
#include <time.h>

#include "base/memory.h"
#include "vector/vector-internal.h"

#define TRIES 3
#define PAUSE_NS (50 * 1000 * 1000)

struct look {
    const char *folder;
    struct vector_sync_record record;
    uint64_t limit; /* the last number that must be whole */
    uint64_t before; /* the last one that was seen */
};

static int damaged(const struct look *look, const struct vector_segment *segment, const char *what,
                   struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFLICT, "%s/%llu.rows is damaged: %s", look->folder,
                     (unsigned long long)segment->number, what);
}

static int verify_mark(const struct look *look, const struct vector_segment *segment, uint64_t row,
                       struct error **ret_error) {
    uint64_t word = atomic_load_explicit(&segment->marks[row], memory_order_acquire);
    if (vector_word_is_sound(word) && vector_word_number(word) > vector_segment_born(segment, row)) return 0;
    return error_set(ret_error, ERROR_CONFLICT, "%s/%llu.marks is damaged: a mark fails its check", look->folder,
                     (unsigned long long)segment->number);
}

/* The rows up to the limit; *ret_rows of them, with the checksum of their checksums. */
static int verify_rows(struct look *look, const struct vector_segment *segment, uint64_t *ret_rows,
                       uint32_t *ret_checksum, struct error **ret_error) {
    bool is_recorded = look->record.tail == segment->number;
    uint32_t all = 0;
    uint64_t row = 0;
    for (;; row++) {
        if (is_recorded && row == look->record.tail_rows && all != look->record.tail_checksum)
            return damaged(look, segment, "its rows are not those of the last sync", ret_error);
        uint64_t born = row < segment->capacity ? atomic_load_explicit(&segment->born[row], memory_order_acquire) : 0;
        if (!born || born > look->limit) break;
        if (born <= look->before) return damaged(look, segment, "its numbers do not ascend", ret_error);
        uint32_t checksum = vector_segment_row_checksum(segment, row);
        if (checksum != segment->checksums[row])
            return damaged(look, segment, "a row's checksum does not hold", ret_error);
        int result = verify_mark(look, segment, row, ret_error);
        if (result < 0) return result;
        all = vector_checksum(all, &checksum, sizeof checksum);
        look->before = born;
    }
    if (is_recorded && row < look->record.tail_rows && look->record.durable <= look->limit)
        return damaged(look, segment, "rows of the last sync are missing", ret_error);
    *ret_rows = row;
    *ret_checksum = all;
    return 0;
}

static int verify_generation(struct look *look, const struct vector_generation *generation, struct error **ret_error) {
    look->before = 0;
    for (size_t i = 0; i < generation->manifest.count; i++) {
        const struct vector_segment *segment = generation->segments[i];
        const struct vector_segment_facts *facts = &generation->manifest.segments[i];
        uint64_t rows = 0;
        uint32_t checksum = 0;
        int result = verify_rows(look, segment, &rows, &checksum, ret_error);
        if (result < 0) return result;
        if (facts->sealed && facts->last <= look->limit &&
            (rows != facts->rows || checksum != facts->checksum || look->before != facts->last))
            return damaged(look, segment, "its rows are not those that the manifest says", ret_error);
    }
    return 0;
}

static int verify_header(struct look *look, const struct vector_header *header, uint64_t durable,
                         struct error **ret_error) {
    struct vector_boot boot;
    const char *fault = vector_header_check(header, &look->record);
    if (fault) return error_set(ret_error, ERROR_CONFLICT, "%s/header is damaged: %s", look->folder, fault);
    if (look->record.durable < durable)
        return error_set(ret_error, ERROR_CONFLICT,
                         "%s was synced up to %llu, and %llu has been recorded: it is an older copy", look->folder,
                         (unsigned long long)look->record.durable, (unsigned long long)durable);
    int result = vector_boot_read(&boot, ret_error);
    if (result < 0) return result;
    look->limit = vector_header_is_of(header, &boot) ? vector_load(&header->words[HEADER_WRITTEN]) : durable;
    return 0;
}

static int verify_once(const char *folder, const struct vector_spec *spec, uint64_t durable, struct error **ret_error) {
    struct look look = {.folder = folder};
    struct vector_header_map *map = NULL;
    struct vector_generation *generation = NULL;
    int result = vector_header_map(folder, false, &map, ret_error);
    if (result < 0) return result;
    result = verify_header(&look, map->header, durable, ret_error);
    if (!result) result = vector_generation_load(folder, spec, map, NULL, &generation, ret_error);
    if (!result) result = verify_generation(&look, generation, ret_error);
    vector_generation_release(generation);
    vector_header_map_release(map);
    return result;
}

int folder_verify(const char *folder, const struct vector_spec *spec, uint64_t durable, struct error **ret_error) {
    static const struct timespec pause = {.tv_nsec = PAUSE_NS};
    for (int tries = 1;; tries++) {
        struct error *error = NULL;
        int result = verify_once(folder, spec, durable, &error);
        if (result != -(int)ERROR_CONFLICT || tries == TRIES) {
            if (ret_error)
                *ret_error = error;
            else
                error_free(error);
            return result;
        }
        error_free(error);
        nanosleep(&pause, NULL);
    }
}
