/* The folder of vector/vector.h under kills, crashes, damage and failing disks (rules L3, L4, L6, L7, L8, S1). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/faults.h"
#include "support/scratch.h"
#include "support/vector_bed.h"
#include "vector/vector-internal.h"

#define CALLS_MAXIMUM 500 /* more than any body here makes: a loop that reaches it has gone wrong */
#define DOCUMENTS 64
#define WRITTEN_ONCE 14 /* documents, by the first numbers */
#define SEGMENT 4900 /* rows of the first segment at VECTOR_BED_DIMENSION, nearly */

static int set_up(void **state) {
    struct vector_bed *bed = mem_new(struct vector_bed);
    vector_bed_begin(bed, &folder_vectors, VECTOR_BED_DIMENSION, true);
    *state = bed;
    return 0;
}

static int tear_down(void **state) {
    vector_bed_end(*state);
    free(*state);
    return 0;
}

static uint64_t random_next(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

static void expect_conflict(struct vector_bed *bed, uint64_t durable, const char *part) {
    struct vector_writer *writer;
    struct vector_state found;
    struct error *error = NULL;
    int result = bed->ops->open_writer(bed->folder, &bed->spec, durable, &writer, &found, &error);
    _cleanup_free_ char *text = result < 0 ? error_text(error) : NULL;
    if (result != -(int)ERROR_CONFLICT || !strstr(text, part)) fail_msg("got %d: %s", result, text ? text : "success");
    error_free(error);
}

/* ---- a history that follows from its numbers
 * --------------------------------------------------------------------------- */

/* After the first ones, number n writes document n * n % 50, and every eleventh deletes it. */
static uint64_t document_of(uint64_t seq) {
    return seq <= WRITTEN_ONCE ? DOCUMENTS - seq : seq * seq % (DOCUMENTS - WRITTEN_ONCE);
}

static bool is_delete(uint64_t seq) {
    return seq % 11 == 0;
}

/* The living row of each document at seq; 0: none. */
static void replay(uint64_t seq, uint64_t living[DOCUMENTS]) {
    memset(living, 0, DOCUMENTS * sizeof *living);
    for (uint64_t at = 1; at <= seq; at++) living[document_of(at)] = is_delete(at) ? 0 : at;
}

/* Applies number `seq`, where `living` is the state before it. */
static int apply(struct vector_bed *bed, struct vector_writer *writer, uint64_t seq, uint64_t living[DOCUMENTS],
                 struct error **ret_error) {
    float row[VECTOR_BED_DIMENSION];
    uint64_t *slot = &living[document_of(seq)];
    vector_bed_row(seq, VECTOR_BED_DIMENSION, row);
    if (!is_delete(seq)) {
        int result = bed->ops->append(writer, seq, row, ret_error);
        if (result < 0) return result;
    }
    if (*slot) bed->ops->kill(writer, *slot, seq);
    *slot = is_delete(seq) ? 0 : seq;
    return 0;
}

/* Applies (from, to], publishing now and then, `applied` a little behind. */
static void write_history(struct vector_bed *bed, struct vector_writer *writer, uint64_t from, uint64_t to) {
    uint64_t living[DOCUMENTS];
    replay(from, living);
    for (uint64_t seq = from + 1; seq <= to; seq++) {
        assert_int_equal(apply(bed, writer, seq, living, NULL), 0);
        if (seq % 16 == 0) bed->ops->publish(writer, seq, seq - seq % 48 % 7);
    }
    bed->ops->publish(writer, to, to);
}

/* Whether the view shows each document once, as it was at the view's number. */
static bool shows_history(struct vector_bed *bed, struct vector_view *view) {
    uint64_t living[DOCUMENTS], born[DOCUMENTS + 1];
    replay(bed->ops->seq(view), living);
    size_t count = bed->ops->list(view, 0, born, DOCUMENTS + 1), expected = 0;
    for (size_t i = 0; i < DOCUMENTS; i++) expected += living[i] > 0;
    if (count != expected) return false;
    for (size_t i = 0; i < count; i++)
        if (living[document_of(born[i])] != born[i]) return false;
    float query[VECTOR_BED_DIMENSION];
    struct vector_hit hits[DOCUMENTS + 1];
    if (!count) return true;
    vector_bed_row(born[count - 1], VECTOR_BED_DIMENSION, query);
    struct vector_query what = {.vector = query, .limit = DOCUMENTS + 1};
    return bed->ops->search(view, &what, hits) == count && hits[0].born == born[count - 1] && hits[0].score > 0.99999f;
}

static void check_history(struct vector_bed *bed, uint64_t seq) {
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_view *view = vector_bed_look(bed, reader, UINT64_MAX);
    assert_int_equal(bed->ops->seq(view), seq);
    assert_true(shows_history(bed, view));
    bed->ops->release(view);
    bed->ops->close_reader(reader);
}

/* ---- the folder as bytes
 * --------------------------------------------------------------------------------------------------- */

struct file {
    char *name, *bytes;
    size_t size;
};

struct snapshot {
    struct file files[32];
    size_t count;
};

static void take_snapshot(const struct vector_bed *bed, struct snapshot *ret_snapshot) {
    *ret_snapshot = (struct snapshot){0};
    DIR *folder = opendir(bed->folder);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        struct file *file = &ret_snapshot->files[ret_snapshot->count++];
        assert_in_range(ret_snapshot->count, 1, ARRAY_SIZE(ret_snapshot->files));
        file->name = text_copy(entry->d_name);
        file->bytes = scratch_read(bed->folder, file->name, &file->size);
    }
    closedir(folder);
}

static void clear_snapshot(struct snapshot *snapshot) {
    for (size_t i = 0; i < snapshot->count; i++) {
        free(snapshot->files[i].name);
        free(snapshot->files[i].bytes);
    }
}

static const struct file *find_file(const struct snapshot *snapshot, const char *name) {
    for (size_t i = 0; i < snapshot->count; i++)
        if (!strcmp(snapshot->files[i].name, name)) return &snapshot->files[i];
    return NULL;
}

static void restore_snapshot(const struct vector_bed *bed, const struct snapshot *snapshot) {
    assert_int_equal(fs_remove_tree(bed->folder, NULL), 0);
    for (size_t i = 0; i < snapshot->count; i++)
        scratch_write(bed->folder, snapshot->files[i].name, snapshot->files[i].bytes, snapshot->files[i].size);
}

static void overwrite(const struct vector_bed *bed, const char *name, size_t at, const void *bytes, size_t size) {
    _cleanup_free_ char *path = scratch_path(bed->folder, name);
    _cleanup_close_ int file = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, bytes, size, (off_t)at), size);
}

/* As if the machine had been started anew since. */
static void pretend_another_boot(const struct vector_bed *bed) {
    static const uint64_t boot[2] = {1, 2};
    overwrite(bed, "header", offsetof(struct vector_header, boot_id), boot, sizeof boot);
}

/* ---- another boot
 * ------------------------------------------------------------------------------------------------------------- */

static void L6_after_another_boot_it_goes_back_to_what_was_recorded(void **state) {
    struct vector_bed *bed = *state;
    struct vector_state found;
    struct vector_view *view;
    struct error *error = NULL;
    vector_bed_create(bed);
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    write_history(bed, writer, 0, 3000);
    assert_int_equal(vector_bed_sync(bed, writer), 3000);
    write_history(bed, writer, 3000, 20000); /* over the end of two segments */
    assert_int_equal(vector_bed_sync(bed, writer), 20000); /* but that was not recorded */
    bed->ops->close_writer(writer);
    pretend_another_boot(bed);
    struct vector_reader *reader = vector_bed_read(bed);
    assert_int_equal(bed->ops->look(reader, 30000, &view, &error), -(int)ERROR_UNAVAILABLE);
    assert_true(error->transient && strstr(error->message, "started anew"));
    error_free(error);
    writer = vector_bed_open(bed, 3000, &found);
    assert_true(found.other_boot);
    assert_int_equal(found.written, 3000);
    assert_int_equal(found.applied, 3000);
    assert_int_equal(bed->ops->look(reader, 30000, &view, &error), -(int)ERROR_UNAVAILABLE); /* not before hold() */
    error_free(error);
    bed->ops->hold(writer, 4000);
    assert_int_equal(bed->ops->look(reader, 30000, &view, &error), -(int)ERROR_UNAVAILABLE);
    assert_non_null(strstr(error->message, "3000 of 4000"));
    error_free(error);
    write_history(bed, writer, 3000, 4000);
    view = vector_bed_look(bed, reader, 30000);
    assert_int_equal(bed->ops->seq(view), 4000);
    assert_true(shows_history(bed, view));
    bed->ops->release(view);
    bed->ops->close_writer(writer);
    writer = vector_bed_open(bed, 3000, &found); /* what was written since is there: it is the same boot */
    assert_false(found.other_boot);
    assert_int_equal(found.written, 4000);
    bed->ops->close_writer(writer);
    bed->ops->close_reader(reader);
    check_history(bed, 4000);
}

#define PAGE 4096

/* What a disk may hold after the power went: of each page that changed since the sync, either state. What was synced by
 * itself, like the manifest, is there. */
static void mix_pages(const struct vector_bed *bed, const struct snapshot *synced, const struct snapshot *last,
                      uint64_t seed) {
    static const char zeros[PAGE];
    for (size_t i = 0; i < last->count; i++) {
        const struct file *file = &last->files[i], *before = find_file(synced, file->name);
        if (!strcmp(file->name, "manifest")) continue;
        for (size_t at = 0; at < file->size; at += PAGE) {
            size_t size = file->size - at < PAGE ? file->size - at : PAGE;
            const char *old = before && at < before->size ? before->bytes + at : zeros;
            if (random_next(&seed) % 2) overwrite(bed, file->name, at, old, size);
        }
    }
}

static void L6_after_a_power_failure_all_that_was_synced_is_there(void **state) {
    struct vector_bed *bed = *state;
    vector_bed_create(bed);
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    struct snapshot synced, last;
    write_history(bed, writer, 0, 3000);
    assert_int_equal(vector_bed_sync(bed, writer), 3000);
    take_snapshot(bed, &synced);
    write_history(bed, writer, 3000, 9000);
    bed->ops->close_writer(writer);
    take_snapshot(bed, &last);
    assert_true(last.count > synced.count); /* one more segment was begun */
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct vector_state found;
        restore_snapshot(bed, &last);
        mix_pages(bed, &synced, &last, seed);
        pretend_another_boot(bed);
        writer = vector_bed_open(bed, 3000, &found);
        assert_int_equal(found.written, 3000);
        bed->ops->hold(writer, 0);
        check_history(bed, 3000);
        write_history(bed, writer, 3000, 8000 + seed);
        check_history(bed, 8000 + seed);
        bed->ops->close_writer(writer);
    }
    clear_snapshot(&synced);
    clear_snapshot(&last);
}

/* ---- damage
 * -----------------------------------------------------------------------------------------------------------------------
 */

/* A sealed segment with the few rows that a compaction left, and a tail, all of it synced: at 24000. */
static void make_sample(struct vector_bed *bed) {
    vector_bed_create(bed);
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    bool more = true;
    write_history(bed, writer, 0, 23900);
    for (int i = 0; i < 10 && more; i++)
        assert_int_equal(bed->ops->compact(writer, vector_bed_sync(bed, writer), &more, NULL), 0);
    write_history(bed, writer, 23900, 24000);
    assert_int_equal(vector_bed_sync(bed, writer), 24000);
    bed->ops->close_writer(writer);
}

/* Opens the index; true when it is right in all that it shows, false when it says that it is to be built again. */
static bool is_right_or_refused(struct vector_bed *bed, uint64_t seq) {
    struct vector_writer *writer;
    struct vector_state found;
    struct error *error = NULL;
    int result = bed->ops->open_writer(bed->folder, &bed->spec, seq, &writer, &found, &error);
    if (result == -(int)ERROR_CONFLICT) {
        error_free(error);
        return false;
    }
    if (result < 0) fail_msg("%s", error_text(error));
    bed->ops->hold(writer, 0);
    check_history(bed, seq);
    bed->ops->close_writer(writer);
    return true;
}

/* Flips the bit, and puts the file back afterwards, and the header, which opening changes. */
static bool survives_flip(struct vector_bed *bed, const struct snapshot *sample, const struct file *file, size_t at,
                          unsigned bit) {
    const struct file *header = find_file(sample, "header");
    char byte = (char)(file->bytes[at] ^ 1 << bit);
    overwrite(bed, file->name, at, &byte, 1);
    bool survived = is_right_or_refused(bed, 24000);
    overwrite(bed, file->name, at, file->bytes + at, 1);
    overwrite(bed, "header", 0, header->bytes, header->size);
    return survived;
}

static void L7_a_flipped_bit_is_noticed_wherever_it_matters(void **state) {
    struct vector_bed *bed = *state;
    struct snapshot sample;
    make_sample(bed);
    take_snapshot(bed, &sample);
    uint64_t seed = 4711;
    size_t noticed = 0;
    for (size_t i = 0; i < sample.count; i++) {
        const struct file *file = &sample.files[i];
        bool is_small = file->size <= PAGE; /* manifest, header, small marks */
        for (size_t times = 0; times < (is_small ? 1 : 300); times++) {
            for (size_t at = 0; is_small && at < file->size && file->bytes[at]; at++)
                noticed += !survives_flip(bed, &sample, file, at, (unsigned)(random_next(&seed) % 8));
            if (!is_small)
                noticed += !survives_flip(bed, &sample, file, random_next(&seed) % file->size,
                                          (unsigned)(random_next(&seed) % 8));
        }
        if (!strcmp(file->name, "header")) /* zeros in it matter, too */
            for (size_t at = 0; at < sizeof(struct vector_header); at++)
                noticed += !survives_flip(bed, &sample, file, at, (unsigned)(random_next(&seed) % 8));
    }
    assert_true(noticed > 500);
    clear_snapshot(&sample);
}

/* Where every bit is in use: the first row of the first segment, its mark, the whole manifest, the header's numbers. */
static void L7_a_flipped_bit_of_a_row_a_mark_the_manifest_or_a_number_is_a_conflict(void **state) {
    struct vector_bed *bed = *state;
    struct snapshot sample;
    struct vector_manifest manifest;
    struct vector_layout layout;
    make_sample(bed);
    take_snapshot(bed, &sample);
    assert_int_equal(vector_manifest_load(bed->folder, &bed->spec, &manifest, NULL), 0);
    assert_true(manifest.count >= 2 && manifest.segments[0].sealed);
    for (size_t i = 0; i < 2; i++) {
        const struct vector_segment_facts *facts = &manifest.segments[i ? manifest.count - 1 : 0]; /* sealed; tail */
        vector_layout_of(manifest.dimension, manifest.quantized, facts->capacity, &layout);
        _cleanup_free_ char *rows = text_format("%d.rows", (int)facts->number);
        _cleanup_free_ char *marks = text_format("%d.marks", (int)facts->number);
        const struct file *file = find_file(&sample, rows);
        const size_t places[] = {0,
                                 layout.stride * sizeof(float) - 1,
                                 layout.born_at,
                                 layout.born_at + 7,
                                 layout.checksums_at,
                                 layout.codes_at,
                                 layout.scales_at,
                                 layout.scales_at + 4};
        for (size_t place = 0; place < ARRAY_SIZE(places); place++)
            for (unsigned bit = 0; bit < 8; bit++) assert_false(survives_flip(bed, &sample, file, places[place], bit));
        for (size_t at = 0; at < sizeof(uint64_t); at++)
            for (unsigned bit = 0; bit < 8; bit++)
                assert_false(survives_flip(bed, &sample, find_file(&sample, marks), at, bit));
    }
    const struct file *file = find_file(&sample, "manifest");
    for (size_t at = 0; at < file->size; at++) assert_false(survives_flip(bed, &sample, file, at, at % 8));
    for (size_t at = 0; at < HEADER_WORDS * sizeof(uint64_t); at++)
        for (unsigned bit = 0; bit < 8; bit++)
            assert_false(survives_flip(bed, &sample, find_file(&sample, "header"),
                                       offsetof(struct vector_header, words) + at, bit));
    assert_true(is_right_or_refused(bed, 24000)); /* and without a flip it is right */
    vector_manifest_clear(&manifest);
    clear_snapshot(&sample);
}

static void L7_a_file_that_is_missing_cut_or_rubbish_is_a_conflict(void **state) {
    struct vector_bed *bed = *state;
    struct snapshot sample;
    make_sample(bed);
    take_snapshot(bed, &sample);
    for (size_t i = 0; i < sample.count; i++) {
        const struct file *file = &sample.files[i];
        _cleanup_free_ char *path = scratch_path(bed->folder, file->name), *rubbish = mem_alloc(file->size);
        memset(rubbish, 'r', file->size);
        assert_int_equal(unlink(path), 0);
        expect_conflict(bed, 24000, "");
        for (size_t size = 0; size < file->size; size += file->size / 3) {
            scratch_write(bed->folder, file->name, file->bytes, size);
            expect_conflict(bed, 24000, "");
        }
        scratch_write(bed->folder, file->name, rubbish, file->size);
        expect_conflict(bed, 24000, "");
        restore_snapshot(bed, &sample);
    }
    assert_true(is_right_or_refused(bed, 24000));
    clear_snapshot(&sample);
}

static void L7_a_manifest_or_header_of_earlier_is_a_conflict(void **state) {
    struct vector_bed *bed = *state;
    struct snapshot early;
    vector_bed_create(bed);
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    write_history(bed, writer, 0, 1000);
    assert_int_equal(vector_bed_sync(bed, writer), 1000);
    take_snapshot(bed, &early);
    write_history(bed, writer, 1000, 20000);
    assert_int_equal(vector_bed_sync(bed, writer), 20000);
    bed->ops->close_writer(writer);
    struct snapshot last;
    take_snapshot(bed, &last);
    const struct file *manifest = find_file(&early, "manifest"), *header = find_file(&early, "header");
    scratch_write(bed->folder, "manifest", manifest->bytes, manifest->size);
    expect_conflict(bed, 20000, "older");
    restore_snapshot(bed, &last);
    overwrite(bed, "header", 0, header->bytes, header->size);
    expect_conflict(bed, 20000, "older copy");
    restore_snapshot(bed, &early);
    expect_conflict(bed, 20000, "older copy");
    restore_snapshot(bed, &last);
    assert_true(is_right_or_refused(bed, 20000));
    clear_snapshot(&early);
    clear_snapshot(&last);
}

/* ---- kills
 * ---------------------------------------------------------------------------------------------------------------------------
 */

#define NOTE_BEGUN 0 /* the number being published */
#define NOTE_PUBLISHED 1
#define NOTE_DURABLE 2

/* Writes the history on and on, as the indexer does, until it is killed. */
static void write_for_ever(struct vector_bed *bed, uint64_t seed, _Atomic uint64_t *notes) {
    struct vector_writer *writer = vector_bed_open(bed, notes[NOTE_DURABLE], NULL);
    struct vector_reader *reader = vector_bed_read(bed);
    struct vector_info info;
    uint64_t living[DOCUMENTS];
    bool more;
    bed->ops->info(reader, &info);
    uint64_t seq = info.written;
    replay(seq, living);
    for (;;) {
        for (uint64_t count = random_next(&seed) % 64 + 1; count; count--)
            CHILD_CHECK(!apply(bed, writer, ++seq, living, NULL));
        notes[NOTE_BEGUN] = seq;
        bed->ops->publish(writer, seq, seq - random_next(&seed) % 3);
        notes[NOTE_PUBLISHED] = seq;
        if (random_next(&seed) % 32 == 0) notes[NOTE_DURABLE] = vector_bed_sync(bed, writer);
        if (random_next(&seed) % 64 == 0) CHILD_CHECK(!bed->ops->compact(writer, notes[NOTE_DURABLE], &more, NULL));
    }
}

static pid_t fork_writer(struct vector_bed *bed, uint64_t seed, _Atomic uint64_t *notes) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child) return child;
    write_for_ever(bed, seed, notes);
    _exit(0);
}

/* Looks on from this process while the other writes; a view that shows a document twice, or not at all, is wrong. */
static uint64_t watch_until(struct vector_bed *bed, struct vector_reader *reader, uint64_t seq, uint64_t log_head,
                            pid_t writer) {
    uint64_t looks = 0, seen = 0, last = 0;
    while (seen < seq) {
        struct vector_view *view;
        struct error *error = NULL;
        assert_int_equal(waitpid(writer, NULL, WNOHANG), 0);
        if (bed->ops->look(reader, log_head, &view, &error) < 0) fail_msg("%s", error_text(error));
        seen = bed->ops->seq(view);
        assert_true(seen >= last); /* nothing that was shown is taken back */
        last = seen;
        if (!shows_history(bed, view)) fail_msg("wrong at %d", (int)seen);
        bed->ops->release(view);
        looks++;
    }
    return looks;
}

static void L4_L6_a_writer_that_is_killed_again_and_again_is_never_seen_half_done(void **state) {
    struct vector_bed *bed = *state;
    _Atomic uint64_t *notes = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(notes, MAP_FAILED);
    vector_bed_create(bed);
    struct vector_reader *reader = vector_bed_read(bed);
    uint64_t written = 0;
    for (uint64_t round = 1; round <= 25; round++) {
        uint64_t seed = round;
        pid_t writer = fork_writer(bed, round, notes);
        watch_until(bed, reader, written + random_next(&seed) % 2000 + 100, UINT64_MAX, writer);
        assert_int_equal(kill(writer, SIGKILL), 0);
        assert_int_equal(waitpid(writer, NULL, 0), writer);
        struct vector_state found;
        uint64_t published = notes[NOTE_PUBLISHED], begun = notes[NOTE_BEGUN];
        bed->ops->close_writer(vector_bed_open(bed, notes[NOTE_DURABLE], &found));
        assert_true(found.written == published || found.written == begun);
        assert_false(found.other_boot);
        written = found.written;
        struct vector_view *view = vector_bed_look(bed, reader, UINT64_MAX);
        assert_int_equal(bed->ops->seq(view), found.applied);
        assert_true(shows_history(bed, view));
        bed->ops->release(view);
    }
    assert_true(notes[NOTE_DURABLE] > 0);
    bed->ops->close_reader(reader);
    munmap((void *)notes, PAGE);
}

/* ---- failing calls
 * ----------------------------------------------------------------------------------------------------------------------
 */

/* Creates an index and takes it through its life, going on after what is transient. Tells what is durable. */
static void live(struct faults *faults, void *context) {
    struct vector_bed *bed = context;
    struct vector_writer *writer = NULL;
    struct vector_state found;
    uint64_t living[DOCUMENTS] = {0}, durable;
    bool more = true;
    for (int tries = 0; tries < 3 && !scratch_exists(bed->parent, "index"); tries++)
        bed->ops->create(bed->folder, &bed->spec, NULL);
    for (int tries = 0; tries < 3 && !writer; tries++)
        bed->ops->open_writer(bed->folder, &bed->spec, 0, &writer, &found, NULL);
    CHILD_CHECK(writer);
    for (uint64_t seq = 1; seq <= SEGMENT * 2; seq++) {
        int result = apply(bed, writer, seq, living, NULL);
        if (result == -(int)ERROR_UNAVAILABLE) result = apply(bed, writer, seq, living, NULL);
        if (result < 0) _exit(3);
        if (seq % 1000) continue;
        bed->ops->publish(writer, seq, seq);
        if (bed->ops->sync(writer, &durable, NULL) < 0) {
            CHILD_CHECK(bed->ops->sync(writer, &durable, NULL) < 0); /* S1: and never again */
            CHILD_CHECK(apply(bed, writer, seq + 1, living, NULL) < 0 || is_delete(seq + 1));
            atomic_store(&faults->note[1], 1);
            _exit(3);
        }
        atomic_store(&faults->note[0], (int)durable);
        if (seq >= SEGMENT + 2000) bed->ops->compact(writer, durable, &more, NULL);
    }
    bed->ops->close_writer(writer);
}

static void check_after(struct vector_bed *bed, struct faults *faults) {
    struct vector_writer *writer;
    struct vector_state found;
    struct error *error = NULL;
    uint64_t durable = (uint64_t)atomic_load(&faults->note[0]);
    int result = bed->ops->open_writer(bed->folder, &bed->spec, durable, &writer, &found, &error);
    if (result == -(int)ERROR_CONFLICT) {
        /* Only where a sync failed, or where there never was a whole index. */
        _cleanup_free_ char *text = error_text(error);
        bool was_never = !durable && strstr(text, "not there");
        if (!strstr(text, "a sync of") && !was_never) fail_msg("%s", text);
        error_free(error);
        return;
    }
    if (result < 0) fail_msg("%s", error_text(error));
    assert_false(atomic_load(&faults->note[1])); /* S1: who comes after a failed sync is told so */
    assert_true(found.written >= durable && found.written % 1000 == 0);
    check_history(bed, found.applied);
    bed->ops->close_writer(writer);
}

static void each_call_failing_in_turn_loses_nothing(void **state) {
    struct vector_bed *bed = *state;
    static const int actions[] = {ENOSPC, EIO, FAULT_KILL};
    for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
        struct faults *faults = faults_new(FAULT_SYNC | FAULT_WRITE | FAULT_NAME | FAULT_OPEN);
        faults->action = actions[i];
        do {
            faults->at++;
            assert_in_range(faults->at, 1, CALLS_MAXIMUM);
            assert_int_equal(bed->ops->remove(bed->folder, NULL), 0);
            atomic_store(&faults->note[0], 0);
            atomic_store(&faults->note[1], 0);
            int status = faults_run(faults, live, bed);
            assert_true(status == 0 || status == 3 || status == 128 + SIGKILL);
            check_after(bed, faults);
            assert_in_range(scratch_count(bed->parent, ""), 0, 2); /* at most one attempt beside it */
        } while (atomic_load(&faults->fired));
        assert_in_range(faults->at, 30, CALLS_MAXIMUM);
        faults_free(faults);
    }
}

static void fail_the_sync(struct faults *faults, void *context) {
    struct vector_bed *bed = context;
    struct error *error = NULL;
    uint64_t durable = 77;
    float row[VECTOR_BED_DIMENSION];
    bool more;
    atomic_store(&faults->armed, false);
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    vector_bed_append(bed, writer, 1, 3);
    bed->ops->publish(writer, 3, 3);
    atomic_store(&faults->armed, true);
    CHILD_CHECK(bed->ops->sync(writer, &durable, &error) == -(int)ERROR_DEPLOYMENT);
    CHILD_CHECK(durable == 77);
    error_free(error);
    vector_bed_row(4, VECTOR_BED_DIMENSION, row);
    CHILD_CHECK(bed->ops->sync(writer, &durable, NULL) < 0);
    CHILD_CHECK(bed->ops->append(writer, 4, row, NULL) < 0);
    CHILD_CHECK(!bed->ops->kill(writer, 1, 4));
    CHILD_CHECK(bed->ops->compact(writer, 0, &more, NULL) < 0);
    bed->ops->publish(writer, 4, 4);
}

static void S1_a_failed_sync_is_fatal_for_the_writer_and_told_to_the_next(void **state) {
    struct vector_bed *bed = *state;
    vector_bed_create(bed);
    struct faults *faults = faults_new(FAULT_SYNC);
    faults->at = 1;
    faults->action = EIO;
    assert_int_equal(faults_run(faults, fail_the_sync, bed), 0);
    faults_free(faults);
    check_history(bed, 3); /* what was shown is shown; nothing more comes */
    expect_conflict(bed, 0, "a sync of");
    pretend_another_boot(bed); /* what is on the disk now is on the disk */
    struct vector_state found;
    bed->ops->close_writer(vector_bed_open(bed, 0, &found));
    assert_int_equal(found.written, 0);
}

static void fill_the_disk(void *context) {
    struct vector_bed *bed = context;
    struct rlimit limit = {2 << 20, RLIM_INFINITY};
    struct error *error = NULL;
    struct vector_writer *writer = vector_bed_open(bed, 0, NULL);
    float row[VECTOR_BED_DIMENSION];
    uint64_t born = 1;
    signal(SIGXFSZ, SIG_IGN);
    CHILD_CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
    for (int result = 0; !result; born += !result) { /* the first segment fits, the second does not */
        vector_bed_row(born, VECTOR_BED_DIMENSION, row);
        result = bed->ops->append(writer, born, row, &error);
    }
    CHILD_CHECK(error->class == ERROR_UNAVAILABLE && error->transient && strstr(error->message, "the disk is full"));
    error_free(error);
    bed->ops->publish(writer, born - 1, born - 1);
    CHILD_CHECK(bed->ops->append(writer, born, row, NULL) == -(int)ERROR_UNAVAILABLE);
    CHILD_CHECK(scratch_count(bed->folder, "") == 4); /* manifest, header, the segment's two files */
    limit.rlim_cur = RLIM_INFINITY;
    CHILD_CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
    vector_bed_append(bed, writer, born, born + 10);
    bed->ops->publish(writer, born + 10, born + 10);
    uint64_t durable = vector_bed_sync(bed, writer);
    CHILD_CHECK(durable == born + 10 && born > SEGMENT);
    bed->ops->close_writer(writer);
}

static void a_full_disk_is_transient_and_nothing_changed(void **state) {
    struct vector_bed *bed = *state;
    vector_bed_create(bed);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        fill_the_disk(bed);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    struct vector_state found;
    bed->ops->close_writer(vector_bed_open(bed, 0, &found));
    assert_true(found.written > SEGMENT);
}

/* ---- files that lie about
 * ------------------------------------------------------------------------------------------------------------------ */

static void what_a_dead_writer_left_is_cleared_away(void **state) {
    struct vector_bed *bed = *state;
    make_sample(bed);
    size_t count = scratch_count(bed->folder, "");
    scratch_write_text(bed->folder, "999.rows", "x");
    scratch_write_text(bed->folder, "999.marks", "x");
    scratch_write_text(bed->folder, "manifest.new", "x");
    assert_true(is_right_or_refused(bed, 24000));
    assert_int_equal(scratch_count(bed->folder, ""), count);
}

static void L3_no_published_file_is_ever_made_shorter_or_has_holes(void **state) {
    struct vector_bed *bed = *state;
    make_sample(bed);
    struct snapshot sample;
    take_snapshot(bed, &sample);
    for (size_t i = 0; i < sample.count; i++) {
        struct stat status;
        _cleanup_free_ char *path = scratch_path(bed->folder, sample.files[i].name);
        assert_int_equal(stat(path, &status), 0);
        assert_true((uint64_t)status.st_blocks * 512 >= (uint64_t)status.st_size);
    }
    clear_snapshot(&sample);
}

static void a_reader_notices_a_folder_that_was_renamed_away(void **state) {
    struct vector_bed *bed = *state;
    make_sample(bed);
    struct vector_reader *reader = vector_bed_read(bed);
    bed->ops->release(vector_bed_look(bed, reader, UINT64_MAX));
    _cleanup_free_ char *aside = scratch_path(bed->parent, "index.aside");
    assert_int_equal(rename(bed->folder, aside), 0);
    struct vector_view *view;
    struct error *error = NULL;
    assert_int_equal(bed->ops->look(reader, UINT64_MAX, &view, &error), -(int)ERROR_UNAVAILABLE);
    assert_true(error->transient);
    error_free(error);
    vector_bed_create(bed);
    view = vector_bed_look(bed, reader, UINT64_MAX);
    assert_int_equal(bed->ops->seq(view), 0);
    bed->ops->release(view);
    bed->ops->close_reader(reader);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(L6_after_another_boot_it_goes_back_to_what_was_recorded),
        TEST(L6_after_a_power_failure_all_that_was_synced_is_there),
        TEST(L7_a_flipped_bit_is_noticed_wherever_it_matters),
        TEST(L7_a_flipped_bit_of_a_row_a_mark_the_manifest_or_a_number_is_a_conflict),
        TEST(L7_a_file_that_is_missing_cut_or_rubbish_is_a_conflict),
        TEST(L7_a_manifest_or_header_of_earlier_is_a_conflict),
        TEST(L4_L6_a_writer_that_is_killed_again_and_again_is_never_seen_half_done),
        TEST(each_call_failing_in_turn_loses_nothing),
        TEST(S1_a_failed_sync_is_fatal_for_the_writer_and_told_to_the_next),
        TEST(a_full_disk_is_transient_and_nothing_changed),
        TEST(what_a_dead_writer_left_is_cleared_away),
        TEST(L3_no_published_file_is_ever_made_shorter_or_has_holes),
        TEST(a_reader_notices_a_folder_that_was_renamed_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
