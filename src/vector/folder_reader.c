/* The reader's side: a look at one sequence number, without waiting for the writer (L4, L5).
 *
 * The reader keeps the generation that it has mapped last and takes another when the header says so. Its lock guards
 * that one pointer; views count themselves into the generation that they look at.
 */
#include <stdarg.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "vector/vector-internal.h"

#define TRIES 16 /* of reading a manifest and mapping what it lists, while a compaction may unlink it */

struct vector_reader {
    char *folder, *index_id, *log_id, *encoder_digest;
    struct vector_spec spec; /* of the strings above */
    struct vector_boot boot;
    pthread_mutex_t lock;
    struct vector_generation *generation; /* what was mapped last; never NULL */
};

static int unavailable(struct error **ret_error, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int unavailable(struct error **ret_error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *text = text_format_list(format, arguments);
    va_end(arguments);
    error_set(ret_error, ERROR_UNAVAILABLE, "%s", text);
    if (ret_error) error_mark_transient(ret_error);
    return -(int)ERROR_UNAVAILABLE;
}

/* ---- opening -------------------------------------------------------------------------------------------------------
 */

/* Whether the header can be trusted with what the reader takes from it. */
static int open_header(const char *folder, struct vector_header_map **ret_map, struct error **ret_error) {
    struct vector_sync_record record;
    struct vector_header_map *map;
    struct error *error = NULL;
    if (vector_header_map(folder, false, &map, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        error_free(error);
        return unavailable(ret_error, "the vector index %s is not there yet: %s", folder, text);
    }
    const char *fault = vector_header_check(map->header, &record);
    if (!fault) {
        *ret_map = map;
        return 0;
    }
    vector_header_map_release(map);
    return unavailable(ret_error, "the vector index %s is damaged, and has to be built again: %s", folder, fault);
}

/* Whether the folder's manifest is another index's, which trying again does not help. */
static bool is_of_another(const char *folder, const struct vector_spec *spec) {
    _cleanup_free_ char *path = fs_join(folder, "manifest"), *bytes = NULL;
    struct vector_manifest manifest = {0};
    size_t size;
    if (fs_read_file(path, VECTOR_MANIFEST_MAXIMUM, &bytes, &size, NULL) < 0) return false;
    if (vector_manifest_parse(bytes, size, &manifest, NULL) < 0) return false;
    bool is_another = vector_manifest_differs(&manifest, spec) != NULL;
    vector_manifest_clear(&manifest);
    return is_another;
}

/* Between reading the manifest and mapping what it lists, the writer may have put another in its place. */
static int load_generation(const char *folder, const struct vector_spec *spec, struct vector_header_map *header,
                           const struct vector_generation *before, struct vector_generation **ret_generation,
                           struct error **ret_error) {
    struct error *error = NULL;
    for (int tries = 0; tries < TRIES; tries++) {
        error_free(error);
        error = NULL;
        if (!vector_generation_load(folder, spec, header, before, ret_generation, &error)) return 0;
        if (error->class != ERROR_CONFLICT || is_of_another(folder, spec)) break;
    }
    _cleanup_free_ char *text = error_text(error);
    bool is_conflict = error->class == ERROR_CONFLICT && is_of_another(folder, spec);
    error_free(error);
    if (is_conflict) return error_set(ret_error, ERROR_CONFLICT, "open the vector index %s: %s", folder, text);
    return unavailable(ret_error, "open the vector index %s: %s", folder, text);
}

static int open_generation(const char *folder, const struct vector_spec *spec,
                           struct vector_generation **ret_generation, struct error **ret_error) {
    struct vector_header_map *header = NULL;
    int result = open_header(folder, &header, ret_error);
    if (result < 0) return result;
    result = load_generation(folder, spec, header, NULL, ret_generation, ret_error);
    vector_header_map_release(header);
    return result;
}

int folder_open_reader(const char *folder, const struct vector_spec *spec, struct vector_reader **ret_reader,
                       struct error **ret_error) {
    struct vector_generation *generation;
    struct vector_boot boot;
    int result = vector_boot_read(&boot, ret_error);
    if (!result) result = open_generation(folder, spec, &generation, ret_error);
    if (result < 0) return result;
    struct vector_reader *reader = mem_new(struct vector_reader);
    *reader = (struct vector_reader){.folder = text_copy(folder),
                                     .index_id = text_copy(spec->index_id),
                                     .log_id = text_copy(spec->log_id),
                                     .encoder_digest = text_copy(spec->encoder_digest),
                                     .spec = *spec,
                                     .boot = boot,
                                     .generation = generation};
    reader->spec.index_id = reader->index_id;
    reader->spec.log_id = reader->log_id;
    reader->spec.encoder_digest = reader->encoder_digest;
    pthread_mutex_init(&reader->lock, NULL);
    *ret_reader = reader;
    return 0;
}

void folder_close_reader(struct vector_reader *reader) {
    if (!reader) return;
    vector_generation_release(reader->generation);
    pthread_mutex_destroy(&reader->lock);
    free(reader->folder);
    free(reader->index_id);
    free(reader->log_id);
    free(reader->encoder_digest);
    free(reader);
}

/* ---- looking -------------------------------------------------------------------------------------------------------
 */

static uint64_t header_number(const struct vector_reader *reader, enum vector_header_word word) {
    return vector_load(&reader->generation->header->header->words[word]);
}

static void replace_generation(struct vector_reader *reader, struct vector_generation *generation) {
    vector_generation_release(reader->generation);
    reader->generation = generation;
}

/* Under the lock: the index was removed; takes the one that was made in its place. */
static int follow_move(struct vector_reader *reader, struct error **ret_error) {
    struct vector_generation *generation;
    _cleanup_error_ struct error *cause = NULL;
    if (open_generation(reader->folder, &reader->spec, &generation, &cause) < 0)
        return unavailable(ret_error, "the vector index %s was removed, and is not there again: %s", reader->folder,
                           cause->message);
    replace_generation(reader, generation);
    return 0;
}

/* Under the lock: takes the generation that the manifest has now. */
static int follow_generation(struct vector_reader *reader, struct error **ret_error) {
    struct vector_generation *current = reader->generation, *generation;
    int result = load_generation(reader->folder, &reader->spec, current->header, current, &generation, ret_error);
    if (!result) replace_generation(reader, generation);
    return result;
}

/* Under the lock: *ret_applied, and the reader's generation has all rows up to it. `moved` is read last: what was
 * mapped by the folder's name before it was set is of the index that the header belongs to. */
static int catch_up(struct vector_reader *reader, uint64_t *ret_applied, struct error **ret_error) {
    for (int tries = 0; tries < TRIES; tries++) {
        struct error *error = NULL;
        uint64_t applied = header_number(reader, HEADER_APPLIED);
        uint64_t number = header_number(reader, HEADER_GENERATION); /* after applied (L4) */
        bool is_current = reader->generation->manifest.generation >= number;
        int result = is_current ? 0 : follow_generation(reader, &error);
        if (vector_header_has_moved(reader->generation->header, reader->folder)) {
            error_free(error);
            result = follow_move(reader, ret_error);
            if (result < 0) return result;
        } else if (result < 0) {
            if (ret_error)
                *ret_error = error;
            else
                error_free(error);
            return result;
        } else if (is_current) {
            *ret_applied = applied;
            return 0;
        }
    }
    return unavailable(ret_error, "open the vector index %s: it is written anew all the time", reader->folder);
}

static int check_answers(const struct vector_reader *reader, uint64_t applied, uint64_t seq, struct error **ret_error) {
    const struct vector_header *header = reader->generation->header->header;
    if (!vector_header_is_of(header, &reader->boot))
        return unavailable(ret_error, "the vector index %s waits to be checked: the machine has been started anew",
                           reader->folder);
    uint64_t from = header_number(reader, HEADER_ANSWERS_FROM);
    if (from == VECTOR_NUMBER_MAXIMUM)
        return unavailable(ret_error,
                           "the vector index %s was checked after the machine was started anew, and waits "
                           "for its indexer",
                           reader->folder);
    if (applied < from)
        return unavailable(ret_error, "the vector index %s is catching up: %llu of %llu", reader->folder,
                           (unsigned long long)applied, (unsigned long long)from);
    uint64_t dropped = header_number(reader, HEADER_DROPPED_THROUGH);
    if (seq < dropped)
        return error_set(ret_error, ERROR_CONFLICT,
                         "look at the vector index %s as of %llu: what died up to %llu is gone; read the log anew",
                         reader->folder, (unsigned long long)seq, (unsigned long long)dropped);
    return 0;
}

/* Rows of each segment that are not too new. */
static struct vector_view *make_view(struct vector_generation *generation, uint64_t seq) {
    size_t count = generation->manifest.count;
    struct vector_view *view = mem_alloc(sizeof *view + count * sizeof *view->rows);
    atomic_fetch_add(&generation->references, 1);
    *view = (struct vector_view){.generation = generation, .seq = seq};
    for (size_t i = 0; i < count; i++) {
        const struct vector_segment_facts *facts = &generation->manifest.segments[i];
        const struct vector_segment *segment = generation->segments[i];
        if (facts->sealed && facts->last <= seq)
            view->rows[i] = facts->rows;
        else
            view->rows[i] = vector_segment_count(segment, segment->capacity, seq);
        view->total += view->rows[i];
    }
    return view;
}

int folder_look(struct vector_reader *reader, uint64_t log_head, struct vector_view **ret_view,
                struct error **ret_error) {
    uint64_t applied = 0;
    pthread_mutex_lock(&reader->lock);
    int result = catch_up(reader, &applied, ret_error);
    uint64_t seq = result || applied > log_head ? log_head : applied;
    if (!result) result = check_answers(reader, applied, seq, ret_error);
    if (!result) *ret_view = make_view(reader->generation, seq);
    pthread_mutex_unlock(&reader->lock);
    return result;
}

void folder_release(struct vector_view *view) {
    if (!view) return;
    vector_generation_release(view->generation);
    free(view);
}

uint64_t folder_seq(const struct vector_view *view) {
    return view->seq;
}

void folder_info(struct vector_reader *reader, struct vector_info *ret_info) {
    pthread_mutex_lock(&reader->lock);
    uint32_t bits = (uint32_t)header_number(reader, HEADER_RATE);
    float rate;
    memcpy(&rate, &bits, sizeof rate);
    struct vector_info info = {.written = header_number(reader, HEADER_WRITTEN),
                               .applied = header_number(reader, HEADER_APPLIED),
                               .rows = header_number(reader, HEADER_ROWS),
                               .answers_from = header_number(reader, HEADER_ANSWERS_FROM),
                               .rate = (double)rate,
                               .memory_bytes = VECTOR_HEADER_SIZE};
    for (size_t i = 0; i < reader->generation->manifest.count; i++)
        info.memory_bytes += vector_segment_bytes(reader->generation->segments[i]);
    pthread_mutex_unlock(&reader->lock);
    *ret_info = info;
}

/* ---- single rows
 * ----------------------------------------------------------------------------------------------------- */

bool folder_fetch(struct vector_view *view, uint64_t born, float *ret_vector) {
    if (!born || born > view->seq) return false;
    for (size_t i = 0; i < view->generation->manifest.count; i++) {
        const struct vector_segment *segment = view->generation->segments[i];
        if (!view->rows[i] || vector_segment_born(segment, view->rows[i] - 1) < born) continue;
        uint64_t row = vector_segment_find(segment, view->rows[i], born);
        if (row == UINT64_MAX || !vector_view_sees(view, segment, row)) return false;
        memcpy(ret_vector, vector_segment_vector(segment, row),
               view->generation->manifest.dimension * sizeof *ret_vector);
        return true;
    }
    return false;
}

size_t folder_list(struct vector_view *view, uint64_t after, uint64_t *ret_born, size_t limit) {
    size_t count = 0;
    for (size_t i = 0; i < view->generation->manifest.count && count < limit; i++) {
        const struct vector_segment *segment = view->generation->segments[i];
        uint64_t row = vector_segment_count(segment, view->rows[i], after);
        for (; row < view->rows[i] && count < limit; row++)
            if (vector_view_sees(view, segment, row)) ret_born[count++] = vector_segment_born(segment, row);
    }
    return count;
}
