/* Opening for writing: is everything as it was left (L7), and how far back must it go (L6)?
 *
 * On the same boot the memory that was mapped is all there, whatever became of the process that wrote it: only what is
 * above `written` may be half done. After another boot what lies above the number that was synced, and recorded as
 * such, may be anything. In both cases the rows above the limit go, and the marks above it are taken back; all that
 * remains is verified. Each step can be done again, and the boot's id, which lets readers in, is stored last.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "vector/vector-internal.h"

struct recovery {
    struct vector_writer *writer;
    uint64_t limit;
    bool other_boot;
    uint64_t before; /* the last number of the segments before */
    size_t kept; /* segments that stay */
    bool changes_manifest;
};

static int damaged(const struct recovery *recovery, const struct vector_segment *segment, const char *what,
                   struct error **ret_error) {
    return error_set(ret_error, ERROR_CONFLICT, "%s/%llu.rows is damaged: %s", recovery->writer->folder,
                     (unsigned long long)segment->number, what);
}

/* ---- one segment ---- */

/* Counts and verifies the rows that stay: ascending, each as its checksum says. */
static int verify_rows(struct recovery *recovery, struct vector_segment *segment, struct error **ret_error) {
    const struct vector_sync_record *record = &recovery->writer->record;
    bool is_recorded = record->tail == segment->number && record->durable <= recovery->limit;
    segment->rows = 0;
    segment->checksum = 0;
    for (uint64_t row = 0; row < segment->capacity; row++) {
        uint64_t born = vector_segment_born(segment, row);
        if (is_recorded && row == record->tail_rows && segment->checksum != record->tail_checksum)
            return damaged(recovery, segment, "its rows are not those of the last sync", ret_error);
        if (!born || born > recovery->limit) break;
        if (born <= recovery->before) return damaged(recovery, segment, "its numbers do not ascend", ret_error);
        uint32_t checksum = vector_segment_row_checksum(segment, row);
        if (checksum != segment->checksums[row])
            return damaged(recovery, segment, "a row's checksum does not hold", ret_error);
        segment->checksum = vector_checksum(segment->checksum, &checksum, sizeof checksum);
        segment->rows++;
        recovery->before = born;
    }
    if (is_recorded && (segment->rows < record->tail_rows ||
                        (segment->rows == record->tail_rows && segment->checksum != record->tail_checksum)))
        return damaged(recovery, segment, "rows of the last sync are missing", ret_error);
    for (uint64_t row = segment->rows; row < segment->capacity; row++) {
        uint64_t born = vector_segment_born(segment, row);
        if (born && born <= recovery->limit) return damaged(recovery, segment, "a row is missing", ret_error);
    }
    return 0;
}

static int verify_seal(struct recovery *recovery, const struct vector_segment *segment,
                       const struct vector_segment_facts *facts, struct error **ret_error) {
    if (!facts->sealed || facts->last > recovery->limit) return 0;
    if (segment->rows != facts->rows || segment->checksum != facts->checksum || recovery->before != facts->last ||
        vector_segment_born(segment, 0) != facts->first)
        return damaged(recovery, segment, "its rows are not those that the manifest says", ret_error);
    return 0;
}

/* What died above the limit lives again. */
static int verify_marks(struct recovery *recovery, struct vector_segment *segment, struct error **ret_error) {
    segment->living = 0;
    for (uint64_t row = 0; row < segment->rows; row++) {
        uint64_t word = atomic_load_explicit(&segment->marks[row], memory_order_relaxed);
        if (!vector_word_is_sound(word) || vector_word_number(word) <= vector_segment_born(segment, row))
            return error_set(ret_error, ERROR_CONFLICT, "%s/%llu.marks is damaged: a mark fails its check",
                             recovery->writer->folder, (unsigned long long)segment->number);
        if (vector_word_number(word) > recovery->limit) {
            if (word != VECTOR_LIVING) vector_store(&segment->marks[row], VECTOR_NUMBER_MAXIMUM);
            segment->living++;
        }
    }
    return 0;
}

/* ---- all of them ---- */

static int verify_segments(struct recovery *recovery, struct error **ret_error) {
    struct vector_writer *writer = recovery->writer;
    recovery->kept = 0;
    for (size_t i = 0; i < writer->manifest.count; i++) {
        struct vector_segment *segment = writer->segments[i];
        const struct vector_segment_facts *facts = &writer->manifest.segments[i];
        int result = verify_rows(recovery, segment, ret_error);
        if (!result) result = verify_seal(recovery, segment, facts, ret_error);
        if (!result) result = verify_marks(recovery, segment, ret_error);
        if (result < 0) return result;
        segment->rows_dirty = segment->marks_dirty = true; /* who knows what the writer before had synced */
        bool is_whole = facts->sealed && facts->last <= recovery->limit;
        if (is_whole || segment->rows || !facts->sealed) recovery->kept = i + 1;
        if (!is_whole && facts->sealed) recovery->changes_manifest = true;
    }
    return 0;
}

/* Whole segments that lie above the limit go; one of which some rows stay is the tail again. */
static int cut_manifest(struct recovery *recovery, struct error **ret_error) {
    struct vector_writer *writer = recovery->writer;
    if (!recovery->changes_manifest) return 0;
    struct vector_manifest manifest;
    vector_manifest_copy(&writer->manifest, &manifest);
    size_t count = 0;
    while (count < manifest.count && manifest.segments[count].sealed &&
           manifest.segments[count].last <= recovery->limit)
        count++;
    if (count < manifest.count && writer->segments[count]->rows) {
        struct vector_segment_facts *facts = &manifest.segments[count++];
        *facts = (struct vector_segment_facts){.number = facts->number, .capacity = facts->capacity};
    }
    manifest.count = count;
    size_t before = writer->manifest.count;
    struct vector_segment **segments = mem_new_array(count, struct vector_segment *);
    struct vector_segment **all = mem_copy(writer->segments, before * sizeof *all);
    memcpy(segments, all, count * sizeof *segments);
    int result = vector_writer_publish(writer, &manifest, segments, ret_error);
    if (result < 0) free(segments);
    for (size_t i = count; i < before && !result; i++) vector_segment_release(all[i]);
    free(all);
    return result;
}

static void clear_rows_above(struct vector_writer *writer) {
    for (size_t i = 0; i < writer->manifest.count; i++) {
        struct vector_segment *segment = writer->segments[i];
        for (uint64_t row = segment->capacity; row-- > segment->rows;)
            if (vector_segment_born(segment, row)) atomic_store(&segment->born[row], 0);
    }
}

static bool is_listed(const struct vector_manifest *manifest, uint64_t number) {
    for (size_t i = 0; i < manifest->count; i++)
        if (manifest->segments[i].number == number) return true;
    return false;
}

/* What a writer left that died between making files and listing them, or the other way round. */
static void remove_orphans(const struct vector_writer *writer) {
    DIR *folder = opendir(writer->folder);
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder));) {
        unsigned long long number;
        char kind[8];
        if (sscanf(entry->d_name, "%llu.%7s", &number, kind) != 2) continue;
        if (strcmp(kind, "rows") != 0 && strcmp(kind, "marks") != 0) continue;
        if (is_listed(&writer->manifest, number)) continue;
        _cleanup_free_ char *path = text_format("%s/%s", writer->folder, entry->d_name);
        unlink(path);
    }
    closedir(folder);
    _cleanup_free_ char *aside = text_format("%s/manifest.new", writer->folder);
    unlink(aside);
}

/* ---- the numbers ---- */

static int check_numbers(struct recovery *recovery, uint64_t durable, struct error **ret_error) {
    const struct vector_writer *writer = recovery->writer;
    const vector_word *words = writer->header->words;
    const char *folder = writer->folder;
    if (vector_load(&words[HEADER_MOVED])) return error_set(ret_error, ERROR_CONFLICT, "%s was being removed", folder);
    if (vector_load(&words[HEADER_BROKEN]) && !recovery->other_boot)
        return error_set(ret_error, ERROR_CONFLICT, "a sync of %s has failed: what is on the disk is not known",
                         folder);
    if (writer->manifest.generation < vector_load(&words[HEADER_GENERATION]))
        return error_set(ret_error, ERROR_CONFLICT, "%s/manifest is older than its header", folder);
    if (writer->record.durable < durable)
        return error_set(ret_error, ERROR_CONFLICT,
                         "%s was synced up to %llu, and %llu has been recorded: it is an older copy", folder,
                         (unsigned long long)writer->record.durable, (unsigned long long)durable);
    if (recovery->limit < (recovery->other_boot ? durable : writer->record.durable))
        return error_set(ret_error, ERROR_CONFLICT, "%s/header has less written than synced", folder);
    if (writer->manifest.dropped_through > recovery->limit)
        return error_set(ret_error, ERROR_CONFLICT, "%s has lost rows above %llu", folder,
                         (unsigned long long)recovery->limit);
    return 0;
}

static void set_numbers(const struct recovery *recovery, const struct vector_boot *boot) {
    struct vector_writer *writer = recovery->writer;
    vector_word *words = writer->header->words;
    uint64_t living = 0, applied = vector_load(&words[HEADER_APPLIED]);
    for (size_t i = 0; i < writer->manifest.count; i++) living += writer->segments[i]->living;
    vector_store(&words[HEADER_ROWS], living);
    vector_store(&words[HEADER_RATE], 0);
    vector_store(&words[HEADER_GENERATION], writer->manifest.generation);
    if (vector_load(&words[HEADER_DROPPED_THROUGH]) < writer->manifest.dropped_through || recovery->other_boot)
        vector_store(&words[HEADER_DROPPED_THROUGH], writer->manifest.dropped_through);
    if (!recovery->other_boot) return;
    vector_store(&words[HEADER_BROKEN], 0);
    vector_store(&words[HEADER_ANSWERS_FROM], VECTOR_NUMBER_MAXIMUM); /* until hold() or publish() */
    if (applied > recovery->limit) vector_store(&words[HEADER_APPLIED], recovery->limit);
    vector_store(&words[HEADER_WRITTEN], recovery->limit);
    vector_writer_record(writer, recovery->limit); /* the one that is there may tell of rows that went */
    vector_header_set_boot(writer->header, boot);
}

int vector_writer_recover(struct vector_writer *writer, uint64_t durable, struct vector_state *ret_state,
                          struct error **ret_error) {
    struct vector_boot boot;
    int result = vector_boot_read(&boot, ret_error);
    if (result < 0) return result;
    struct recovery recovery = {.writer = writer, .other_boot = !vector_header_is_of(writer->header, &boot)};
    recovery.limit = recovery.other_boot ? durable : vector_load(&writer->header->words[HEADER_WRITTEN]);
    result = check_numbers(&recovery, durable, ret_error);
    if (!result) result = verify_segments(&recovery, ret_error);
    if (!result) result = cut_manifest(&recovery, ret_error);
    if (result < 0) return result;
    writer->last_born = recovery.before;
    clear_rows_above(writer);
    remove_orphans(writer);
    set_numbers(&recovery, &boot);
    *ret_state = (struct vector_state){.written = recovery.limit,
                                       .applied = vector_load(&writer->header->words[HEADER_APPLIED]),
                                       .other_boot = recovery.other_boot};
    return 0;
}
