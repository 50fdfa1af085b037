/* What the files of the folder back-end share. The tour is at the top of folder.c.
 *
 * Names on the disk, in the index's folder:
 *
 *   manifest      the list of segments (vector_manifest.c); replaced by a rename, so always whole
 *   header        one page that every process maps: the numbers that change (struct vector_header)
 *   <n>.rows      a segment's rows: vectors, their numbers, their checksums, with int8 codes where quantized
 *   <n>.marks     one word a row: when it died (L4)
 *
 * A *word* is a number below 2^48 with a check of it in the upper 16 bits, so that what changes all the time, and can
 * have no checksum over many of it, cannot change by itself unnoticed either. VECTOR_LIVING is a word like any other.
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vector/vector.h"

#define VECTOR_SEGMENTS_MAXIMUM 16384
#define VECTOR_MANIFEST_MAXIMUM (16 << 20) /* bytes */
#define VECTOR_LIVING UINT64_MAX
#define VECTOR_NUMBER_MAXIMUM ((UINT64_C(1) << 48) - 1) /* what VECTOR_LIVING stands for: later than everything */

/* ---- words (vector_word.c) ----------------------------------------------------------------------------------------
 */

typedef _Atomic uint64_t vector_word;

uint64_t vector_word_of(uint64_t number); /* number <= VECTOR_NUMBER_MAXIMUM */
bool vector_word_is_sound(uint64_t word);
static inline uint64_t vector_word_number(uint64_t word) {
    return word & VECTOR_NUMBER_MAXIMUM;
}
static inline uint64_t vector_load(const vector_word *word) {
    return vector_word_number(atomic_load_explicit(word, memory_order_acquire));
}
static inline void vector_store(vector_word *word, uint64_t number) {
    atomic_store_explicit(word, vector_word_of(number), memory_order_release);
}

/* CRC-32C (Castagnoli; RFC 3720 appendix B.4), continued from `checksum`, 0 at the start. */
uint32_t vector_checksum(uint32_t checksum, const void *bytes, size_t size);
/* The same, as a machine without an instruction for it does it. */
uint32_t vector_checksum_plain(uint32_t checksum, const void *bytes, size_t size);

/* ---- the header (vector_header.c) ----------------------------------------------------------------------------------
 */

enum vector_header_word {
    HEADER_WRITTEN,
    HEADER_APPLIED,
    HEADER_ANSWERS_FROM, /* VECTOR_NUMBER_MAXIMUM: nothing is answered yet */
    HEADER_DROPPED_THROUGH, /* rows that died up to here may be gone */
    HEADER_GENERATION, /* of the manifest to read; the manifest may be one ahead */
    HEADER_MOVED, /* 1: removed; who has it mapped looks for it anew */
    HEADER_BROKEN, /* 1: a sync failed in this boot (S1) */
    HEADER_ROWS, /* living at written */
    HEADER_RATE, /* the bits of a float */
    HEADER_WORDS,
};

/* What the last sync put on the disk. Two of them take turns, so that one is whole whenever the writer dies. */
struct vector_sync_record {
    uint64_t count; /* of syncs: the larger one counts */
    uint64_t durable;
    uint64_t tail; /* the tail's number, and what was in it: 0 when there was none */
    uint64_t tail_rows;
    uint32_t tail_checksum;
    uint32_t checksum; /* of all before it */
};

#define VECTOR_HEADER_SIZE 4096

struct vector_header {
    uint64_t magic;
    _Atomic uint64_t boot_id[2]; /* of the boot in which it was written last */
    vector_word words[HEADER_WORDS];
    struct vector_sync_record records[2];
};

struct vector_boot {
    uint64_t id[2];
};

/* The running boot's id. CONFIGURATION when the kernel does not say. */
int vector_boot_read(struct vector_boot *ret_boot, struct error **ret_error);
bool vector_header_is_of(const struct vector_header *header, const struct vector_boot *boot);
void vector_header_set_boot(struct vector_header *header, const struct vector_boot *boot);
/* A fresh one: everything 0. */
void vector_header_begin(struct vector_header *ret_header, const struct vector_boot *boot);
/* Whether this can be a header: NULL, or what is wrong with it. *ret_record: the last whole one of the two. */
const char *vector_header_check(const struct vector_header *header, struct vector_sync_record *ret_record);
/* Puts the record in the place of the older one. */
void vector_header_record(struct vector_header *header, struct vector_sync_record *record);

/* ---- the manifest (vector_manifest.c) ------------------------------------------------------------------------------
 */

struct vector_segment_facts {
    uint64_t number; /* from 1; names its files, never used twice */
    uint64_t capacity; /* rows */
    bool sealed; /* all but the last are; the rest is 0 in one that is not */
    uint64_t rows, first, last; /* the first and the last row's number */
    uint32_t checksum; /* of the rows' checksums */
};

struct vector_manifest {
    char *index_id, *log_id, *encoder_digest;
    uint32_t dimension;
    bool quantized;
    uint64_t generation; /* one more each time that it is written; from 1 */
    uint64_t next_number;
    uint64_t dropped_through;
    struct vector_segment_facts *segments; /* ascending */
    size_t count;
};

/* Checks everything that it says. CONFLICT that says what is wrong. */
int vector_manifest_parse(const char *bytes, size_t size, struct vector_manifest *ret_manifest,
                          struct error **ret_error);
/* As text, with its checksum in the last line; caller frees. */
char *vector_manifest_write(const struct vector_manifest *manifest, size_t *ret_size);
void vector_manifest_copy(const struct vector_manifest *manifest, struct vector_manifest *ret_copy);
void vector_manifest_clear(struct vector_manifest *manifest);
/* NULL, or the first field in which it is not the index of `spec`. */
const char *vector_manifest_differs(const struct vector_manifest *manifest, const struct vector_spec *spec);

/* ---- files (vector_file.c) -----------------------------------------------------------------------------------------
 */

/* An error of class DEPLOYMENT, or UNAVAILABLE when the disk is full. */
int vector_file_error(struct error **ret_error, int errno_value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* CONFIGURATION: mapped files must not lie there (S1). */
int vector_file_check_place(const char *folder, struct error **ret_error);
/* A new file, every byte of it allocated, zero and synced; there is none when it fails. */
int vector_file_allocate(const char *path, uint64_t size, struct error **ret_error);
/* What tells a file from all others for as long as somebody has it open or mapped. */
struct vector_file_identity {
    uint64_t device, inode;
};
/* Whether this file has the name now. */
bool vector_file_has_name(const struct vector_file_identity *identity, const char *folder, const char *name);
/* Maps a file of exactly `size` bytes. CONFLICT: it is not there, or of another size. ret_identity may be NULL. */
int vector_file_map(const char *path, uint64_t size, bool writable, void **ret_memory,
                    struct vector_file_identity *ret_identity, struct error **ret_error);
/* Everything in the mapping is on the disk when it returns 0. */
int vector_file_sync(void *memory, uint64_t size, const char *folder, const char *name, struct error **ret_error);
/* Replaces folder/name with the bytes; *ret_in_doubt: it failed after it took effect, but may not outlive a crash. */
int vector_file_replace(const char *folder, const char *name, const void *bytes, size_t size, bool *ret_in_doubt,
                        struct error **ret_error);

/* ---- segments (vector_segment.c) -----------------------------------------------------------------------------------
 */

struct vector_code_scale {
    float scale, error; /* a row is scale * code + a rest of length <= error */
};

/* Where the parts of a segment's file lie, and how large it is. */
struct vector_layout {
    size_t stride; /* floats of a row, a multiple of 16, the last ones 0 */
    size_t code_stride; /* bytes of a code, a multiple of 64; 0: not quantized */
    uint64_t born_at, checksums_at, codes_at, scales_at, size; /* bytes; the vectors are at 0 */
};

void vector_layout_of(uint32_t dimension, bool quantized, uint64_t capacity, struct vector_layout *ret_layout);
/* How many rows a segment has that takes about this many bytes: at least 16. */
uint64_t vector_layout_rows(uint32_t dimension, bool quantized, uint64_t bytes);

/* A mapped segment, shared by the generations of one reader that have it, or a writer's own. */
struct vector_segment {
    atomic_size_t references;
    uint64_t number, capacity;
    struct vector_layout layout;
    void *memory, *marks_memory;
    float *vectors;
    _Atomic uint64_t *born; /* 0: no row yet. Ascending, then zeros */
    uint32_t *checksums;
    int8_t *codes;
    struct vector_code_scale *scales;
    vector_word *marks;
    /* The writer's: */
    uint64_t rows, living;
    uint32_t checksum; /* of the checksums of `rows` rows */
    bool rows_dirty, marks_dirty;
};

/* Makes its two files, synced (but not their names). UNAVAILABLE: the disk is full; nothing is left. */
int vector_segment_create(const char *folder, const struct vector_manifest *manifest, uint64_t number,
                          uint64_t capacity, struct error **ret_error);
void vector_segment_unlink(const char *folder, uint64_t number);
/* CONFLICT: a file is not there or not as large as it must be. */
int vector_segment_map(const char *folder, const struct vector_manifest *manifest,
                       const struct vector_segment_facts *facts, bool writable, struct vector_segment **ret_segment,
                       struct error **ret_error);
struct vector_segment *vector_segment_reference(struct vector_segment *segment);
void vector_segment_release(struct vector_segment *segment); /* NULL is fine */
uint64_t vector_segment_bytes(const struct vector_segment *segment); /* mapped */
int vector_segment_sync(struct vector_segment *segment, const char *folder, struct error **ret_error);

/* Rows with a number <= seq, out of the first `rows`. */
uint64_t vector_segment_count(const struct vector_segment *segment, uint64_t rows, uint64_t seq);
/* The place of that row among the first `rows`, or UINT64_MAX. */
uint64_t vector_segment_find(const struct vector_segment *segment, uint64_t rows, uint64_t born);
static inline uint64_t vector_segment_born(const struct vector_segment *segment, uint64_t row) {
    return atomic_load_explicit(&segment->born[row], memory_order_relaxed);
}
static inline const float *vector_segment_vector(const struct vector_segment *segment, uint64_t row) {
    return segment->vectors + row * segment->layout.stride;
}
/* From what number on the row is not seen. */
static inline uint64_t vector_segment_dead(const struct vector_segment *segment, uint64_t row) {
    return vector_load(&segment->marks[row]);
}
uint32_t vector_segment_row_checksum(const struct vector_segment *segment, uint64_t row);
/* The writer puts a normalised row (stride floats) behind the last; there must be room. */
void vector_segment_append(struct vector_segment *segment, uint64_t born, const float *vector);
/* The same with a row of another segment, as it is, mark and all. */
void vector_segment_append_copy(struct vector_segment *segment, const struct vector_segment *from, uint64_t row);

/* ---- generations (vector_generation.c) -----------------------------------------------------------------------------
 */

struct vector_header_map {
    atomic_size_t references;
    struct vector_header *header;
    struct vector_file_identity identity;
};

int vector_header_map(const char *folder, bool writable, struct vector_header_map **ret_map, struct error **ret_error);
/* Whether folder/header is the mapped file no more: the index was removed, or another one was put in its place. */
bool vector_header_has_moved(const struct vector_header_map *map, const char *folder);
struct vector_header_map *vector_header_map_reference(struct vector_header_map *map);
void vector_header_map_release(struct vector_header_map *map); /* NULL is fine */

/* A manifest with its segments mapped. */
struct vector_generation {
    atomic_size_t references;
    struct vector_header_map *header;
    struct vector_manifest manifest;
    struct vector_segment **segments; /* manifest.count */
};

/* Reads folder/manifest and checks it against spec. CONFLICT: damaged, missing or another's. */
int vector_manifest_load(const char *folder, const struct vector_spec *spec, struct vector_manifest *ret_manifest,
                         struct error **ret_error);
/* Maps what the manifest in the folder lists; segments that `before` (may be NULL) has too are shared. CONFLICT as
 * above: a reader tries again, for a file may have gone between two looks. */
int vector_generation_load(const char *folder, const struct vector_spec *spec, struct vector_header_map *header,
                           const struct vector_generation *before, struct vector_generation **ret_generation,
                           struct error **ret_error);
void vector_generation_release(struct vector_generation *generation); /* NULL is fine */

/* ---- the writer (folder_writer.c, folder_recover.c, folder_compact.c) -----------------------------------------------
 */

struct vector_writer {
    char *folder;
    int lock; /* of the header's file: one writer */
    struct vector_header_map *map;
    struct vector_header *header; /* map->header */
    struct vector_manifest manifest; /* what is on the disk */
    struct vector_segment **segments; /* manifest.count */
    uint64_t last_born;
    struct vector_sync_record record;
    float *row; /* stride floats */
    bool is_broken;
};

int vector_writer_check(struct vector_writer *writer, struct error **ret_error); /* not broken */
/* Makes `manifest`, which it takes whatever comes, the one on the disk with the next generation, tells the readers, and
 * takes `segments` (manifest->count) for the writer's own. When it fails nothing has changed and `segments` stay the
 * caller's, or the writer is broken. */
int vector_writer_publish(struct vector_writer *writer, struct vector_manifest *manifest,
                          struct vector_segment **segments, struct error **ret_error);
/* Notes in the header that everything up to `durable` has been synced. */
void vector_writer_record(struct vector_writer *writer, uint64_t durable);
/* After the writer's manifest and header have been mapped: verifies, and goes back to what was written or durable. */
int vector_writer_recover(struct vector_writer *writer, uint64_t durable, struct vector_state *ret_state,
                          struct error **ret_error);
int folder_compact(struct vector_writer *writer, uint64_t durable, bool *ret_more, struct error **ret_error);
int folder_verify(const char *folder, const struct vector_spec *spec, uint64_t durable, struct error **ret_error);

/* ---- the reader (folder_reader.c) and the search (search.c)
 * ---------------------------------------------------------- */

struct vector_view {
    struct vector_generation *generation;
    uint64_t seq;
    uint64_t total; /* sum of rows */
    uint64_t rows[]; /* of each segment: those with a number <= seq */
};

static inline bool vector_view_sees(const struct vector_view *view, const struct vector_segment *segment,
                                    uint64_t row) {
    return vector_segment_dead(segment, row) > view->seq;
}
size_t folder_search(struct vector_view *view, const struct vector_query *query, struct vector_hit *ret_hits);

int folder_open_writer(const char *folder, const struct vector_spec *spec, uint64_t durable,
                       struct vector_writer **ret_writer, struct vector_state *ret_state, struct error **ret_error);
void folder_close_writer(struct vector_writer *writer);
int folder_append(struct vector_writer *writer, uint64_t born, const float *vector, struct error **ret_error);
bool folder_kill(struct vector_writer *writer, uint64_t born, uint64_t dead);
void folder_publish(struct vector_writer *writer, uint64_t written, uint64_t applied);
void folder_hold(struct vector_writer *writer, uint64_t answers_from);
void folder_set_rate(struct vector_writer *writer, double rows_per_second);
int folder_sync(struct vector_writer *writer, uint64_t *ret_durable, struct error **ret_error);
int folder_open_reader(const char *folder, const struct vector_spec *spec, struct vector_reader **ret_reader,
                       struct error **ret_error);
void folder_close_reader(struct vector_reader *reader);
void folder_info(struct vector_reader *reader, struct vector_info *ret_info);
int folder_look(struct vector_reader *reader, uint64_t log_head, struct vector_view **ret_view,
                struct error **ret_error);
uint64_t folder_seq(const struct vector_view *view);
bool folder_fetch(struct vector_view *view, uint64_t born, float *ret_vector);
size_t folder_list(struct vector_view *view, uint64_t after, uint64_t *ret_born, size_t limit);
void folder_release(struct vector_view *view);

/* ---- numbers (vector_number.c)
 * --------------------------------------------------------------------------------------- */

/* Divides by its length; ret has room for `stride` floats, those above dimension become 0. False: no length, or not
 * numbers. */
bool vector_normalise(const float *vector, size_t dimension, float *ret_vector, size_t stride);
/* int8 codes of a normalised row; `code_stride` bytes, those above dimension become 0. */
void vector_quantise(const float *vector, size_t dimension, int8_t *ret_code, size_t code_stride,
                     struct vector_code_scale *ret_scale);

/* A query in whole numbers of 12 bits: it is scale * code + a rest of length <= error. */
struct vector_query_code {
    int16_t *code; /* code_stride numbers; the caller's, aligned to 64 */
    float scale, error;
};
void vector_quantise_query(const float *vector, size_t dimension, size_t code_stride, struct vector_query_code *code);
/* How far a kernel's product of two vectors of length 1 can be from the true one, at most. */
float vector_rounding(size_t dimension);

/* ---- kernels (kernels.c, kernels_<instruction set>.c)
 * ------------------------------------------------------------------ */

/* Rows and query are aligned to 64 bytes; strides are multiples of 64 bytes. A row's result does not depend on which
 * rows are handed over with it. */
struct vector_kernels {
    const char *name;
    bool (*is_supported)(void);
    void (*products)(const float *rows, size_t stride, size_t count, const float *query, float *ret_products);
    /* Codes from -127 to 127 times a query's from -2047 to 2047; `stride` at most VECTOR_DIMENSION_MAXIMUM. */
    void (*code_products)(const int8_t *rows, size_t stride, size_t count, const int16_t *query, float *ret_products);
};

extern const struct vector_kernels *const vector_kernels_all[]; /* best first, NULL last; the last one always works */
const struct vector_kernels *vector_kernels_best(void);

/* ---- the best k (best.c)
 * ---------------------------------------------------------------------------------------------- */

/* A heap whose top is the worst of the best. */
struct vector_best {
    struct vector_hit *hits;
    size_t count, limit;
};

/* What a row's score must be above to matter, unless its number is below those of its equals. */
static inline float vector_best_threshold(const struct vector_best *best) {
    return best->count < best->limit ? -2 : best->hits[0].score;
}
void vector_best_add(struct vector_best *best, uint64_t born, float score);
/* Best first. */
void vector_best_sort(struct vector_best *best);

/* ---- the pool (pool.c)
 * -------------------------------------------------------------------------------------------------- */

/* Runs work(context) on the calling thread and, as long as it has not returned, on the pool's that are free; returns
 * when all have returned. */
void vector_pool_run(struct vector_pool *pool, void (*work)(void *context), void *context);
