/* One index of a collection: its folder, made, opened, set aside, removed. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define LIVE_LIMIT 512

/* ---- what it is ---------------------------------------------------------------- */

enum collection_set indexer_set(const struct indexer_index *index) {
    return index->row.set;
}

static const struct {
    enum indexer_state state;
    const char *name;
} states[] = {
#define STATE(constant, name, bit) {INDEX_##constant, name},
    INDEX_STATES
#undef STATE
};

const char *indexer_state_name(enum indexer_state state) {
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (states[i].state == state) return states[i].name;
    return "";
}

/* One from a newer version is left alone, as a failed one is. */
static enum indexer_state parse_state(const char *name) {
    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (text_equal(states[i].name, name)) return states[i].state;
    return INDEX_FAILED;
}

void indexer_index_spec(const struct indexer_index *index, struct vector_spec *ret_spec) {
    *ret_spec = (struct vector_spec){.index_id = index->row.index_id,
                                     .log_id = index->collection->log_ids[index->row.set],
                                     .encoder_digest = index->row.encoder_digest,
                                     .dimension = (uint32_t)index->row.dimension,
                                     .quantized = index->collection->quantized};
}

struct indexer_index *indexer_index_new(struct indexer_collection *collection, struct collection_index *row) {
    struct indexer_index *index = mem_new(struct indexer_index);
    index->collection = collection;
    index->row = *row;
    *row = (struct collection_index){0};
    index->state = parse_state(index->row.state);
    index->folder = text_format("%s/indexes/%s", collection->folder, index->row.index_id);
    index->durable = index->row.durable_seq;
    index->live_limit = LIVE_LIMIT;
    return index;
}

void indexer_index_free(struct indexer_index *index) {
    indexer_chunk_free(index->chunk);
    index->collection->indexer->vectors->close_writer(index->writer);
    collection_index_clear(&index->row);
    free(index->folder);
    free(index);
}

/* With the lock. */
static void enter_state(struct indexer_index *index, enum indexer_state state, const char *detail) {
    index->state = state;
    free(index->row.detail);
    index->row.detail = text_copy(detail);
    indexer_tell_progress(index, true);
}

int indexer_index_set_state(struct indexer_index *index, enum indexer_state state, const char *detail,
                            struct error **ret_error) {
    struct indexer_collection *collection = index->collection;
    pthread_mutex_lock(&collection->indexer->lock);
    _cleanup_free_ char *task_id = text_copy(index->row.task_id); /* another task may take the index over */
    pthread_mutex_unlock(&collection->indexer->lock);
    int result = collection_set_index_state(collection->store, index->row.index_id, indexer_state_name(state), detail,
                                            task_id, ret_error);
    if (result < 0) return result;
    pthread_mutex_lock(&collection->indexer->lock);
    enter_state(index, state, detail);
    struct indexer_index *partner = indexer_partner(index);
    if (partner && state == INDEX_FAILED) enter_state(partner, state, detail); /* what ends the one ends the other */
    indexer_collection_changed(collection);
    pthread_mutex_unlock(&collection->indexer->lock);
    indexer_tell_events(collection);
    return 0;
}

/* ---- opening ---------------------------------------------------------------------- */

static void close_writer(struct indexer_index *index) {
    index->collection->indexer->vectors->close_writer(TAKE(index->writer));
    indexer_chunk_free(TAKE(index->chunk));
}

/* A read of the log that the index follows. */
static int read_head(struct indexer_index *index, uint64_t *ret_head, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    int result = collection_read_begin(index->collection->store, index->row.set, &read, ret_error);
    if (result >= 0) *ret_head = collection_head(read);
    return result;
}

/* What a reader would see of it: whether searches are held back until it has reached some number (L6), and how many
 * rows it has. */
static int read_info(struct indexer_index *index, struct vector_info *ret_info, struct error **ret_error) {
    const struct vector_ops *vectors = index->collection->indexer->vectors;
    struct vector_reader *reader = NULL;
    struct vector_spec spec;
    indexer_index_spec(index, &spec);
    int result = vectors->open_reader(index->folder, &spec, &reader, ret_error);
    if (result < 0) return result;
    vectors->info(reader, ret_info);
    vectors->close_reader(reader);
    return 0;
}

static int count_failed(struct indexer_index *index, uint64_t *ret_failed, struct error **ret_error) {
    _cleanup_read_ struct collection_read *read = NULL;
    struct collection_failure *failures = NULL;
    size_t count = 0;
    int result = collection_read_begin(index->collection->store, COLLECTION_DOCUMENTS, &read, ret_error);
    if (result >= 0)
        result = collection_list_failures(read, index->row.index_id, 0, 0, &failures, &count, ret_failed, ret_error);
    collection_failures_free(failures, count);
    return result;
}

/* Nobody else uses it yet, or it is claimed; those who look at the numbers take the lock. */
static int take_numbers(struct indexer_index *index, const struct vector_state *state, struct error **ret_error) {
    struct vector_info info = {0};
    uint64_t failed = 0;
    int result = read_info(index, &info, ret_error);
    if (result >= 0) result = count_failed(index, &failed, ret_error);
    if (result < 0) return result;
    pthread_mutex_lock(&index->collection->indexer->lock);
    index->written = state->written;
    index->applied = state->applied;
    index->answers_from = state->other_boot ? 0 : info.answers_from; /* of another boot: it is set anew */
    index->rows = info.rows;
    index->failed = failed;
    index->torn_from = state->applied; /* where between them it is whole is not known any more */
    index->torn_to = state->written;
    index->pass_end = index->left = 0;
    index->unsynced_rows = state->written > index->durable;
    index->unsynced_since_ms = index->unsynced_rows ? 1 : 0;
    pthread_mutex_unlock(&index->collection->indexer->lock);
    return 0;
}

/* After another boot, what gateways showed may be more than was on the disk: nothing is answered before the head that
 * stands now is applied (L6). Its rows are compared then: nobody may look before. The same for one that is empty: it
 * may have been set aside, and the process killed before it said so. */
static void let_readers_in(struct indexer_index *index, const struct vector_state *state, uint64_t head) {
    const struct vector_ops *vectors = index->collection->indexer->vectors;
    bool may_show_less = state->other_boot || !state->written;
    if (may_show_less && state->applied < head && indexer_index_in(index, INDEX_SERVING)) {
        vectors->hold(index->writer, head);
        index->answers_from = head;
        index->compare_due = state->other_boot;
    } else if (state->other_boot) {
        vectors->publish(index->writer, state->written, state->applied);
    }
}

/* What the log alone can tell: L7's "a head behind applied_seq", then L6's comparison. */
static int check_against_log(struct indexer_index *index, const struct vector_state *state, struct error **ret_error) {
    uint64_t head = 0;
    int result = read_head(index, &head, ret_error);
    if (result < 0) return result;
    if (state->written > head)
        return error_set(ret_error, ERROR_CONFLICT, "the log ends at %llu, before what the index has, %llu",
                         (unsigned long long)head, (unsigned long long)state->written);
    let_readers_in(index, state, head);
    return index->answers_from <= state->applied ? indexer_recover(index, ret_error) : 0;
}

static int open_there(struct indexer_index *index, struct error **ret_error) {
    const struct vector_ops *vectors = index->collection->indexer->vectors;
    struct vector_spec spec;
    struct vector_state state = {0};
    indexer_index_spec(index, &spec);
    int result = vectors->open_writer(index->folder, &spec, index->durable, &index->writer, &state, ret_error);
    if (result >= 0) result = take_numbers(index, &state, ret_error);
    if (result >= 0) result = check_against_log(index, &state, ret_error);
    if (result < 0) close_writer(index);
    return result;
}

static int create_empty(struct indexer_index *index, struct error **ret_error) {
    struct vector_spec spec;
    indexer_index_spec(index, &spec);
    int result = index->collection->indexer->vectors->create(index->folder, &spec, ret_error);
    return result < 0 ? error_wrap(ret_error, "make the index %s", index->row.index_id) : 0;
}

int indexer_index_open(struct indexer_index *index, struct error **ret_error) {
    struct error *error = NULL;
    int result;
    if (!fs_exists(index->folder)) {
        if (index->durable) return indexer_index_set_aside(index, "its files are gone", ret_error);
        if ((result = create_empty(index, ret_error)) < 0) return result;
    }
    result = open_there(index, &error);
    if (result >= 0) return 0;
    if (error->class == ERROR_CONFLICT) {
        _cleanup_free_ char *why = error_text(error);
        error_free(error);
        return indexer_index_set_aside(index, why, ret_error);
    }
    error_wrap(&error, "open the index %s", index->row.index_id);
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    return result;
}

/* ---- setting aside (L7) -------------------------------------------------------------- */

/* The next free <index_id>.broken-<n>; the ones before it are removed: one is enough to find out what happened. */
static char *make_room_aside(struct indexer_index *index) {
    _cleanup_free_ char *parent = fs_join(index->collection->folder, "indexes");
    _cleanup_free_ char *prefix = text_format("%s.broken-", index->row.index_id);
    unsigned long long newest = 0;
    DIR *folder = opendir(parent);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (!text_starts_with(entry->d_name, prefix)) continue;
        unsigned long long number = strtoull(entry->d_name + strlen(prefix), NULL, 10);
        if (number > newest) newest = number;
        _cleanup_free_ char *path = fs_join(parent, entry->d_name);
        fs_remove_tree(path, NULL);
    }
    if (folder) closedir(folder);
    return text_format("%s.broken-%llu", index->folder, newest + 1);
}

static int move_aside(struct indexer_index *index, struct error **ret_error) {
    if (!fs_exists(index->folder)) return 0;
    _cleanup_free_ char *aside = make_room_aside(index);
    if (rename(index->folder, aside))
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "move %s to %s", index->folder, aside);
    _cleanup_free_ char *parent = fs_join(index->collection->folder, "indexes");
    return fs_sync_folder(parent, ret_error);
}

static void begin_anew(struct indexer_index *index, uint64_t head) {
    struct indexer *indexer = index->collection->indexer;
    pthread_mutex_lock(&indexer->lock);
    index->written = index->applied = index->durable = index->torn_from = index->torn_to = 0;
    index->pass_end = index->left = index->rows = index->failed = 0;
    index->unsynced_rows = index->unsynced_since_ms = 0;
    index->row.durable_seq = 0;
    index->answers_from = head;
    index->compare_due = false;
    if (index->state == INDEX_READY) index->state = INDEX_FILLING; /* as the list has it now */
    indexer_tell_progress(index, true);
    pthread_mutex_unlock(&indexer->lock);
}

/* The recorded number goes back before an empty folder is there: killed in between, it is created as a new one is. */
int indexer_index_set_aside(struct indexer_index *index, const char *why, struct error **ret_error) {
    const struct vector_ops *vectors = index->collection->indexer->vectors;
    struct vector_state state = {0};
    struct vector_spec spec;
    uint64_t head = 0;
    close_writer(index);
    log_write(LOG_ERROR, "an index is set aside and built again from its log", "collection", index->collection->id,
              "index", index->row.index_id, "cause", why, NULL);
    int result = move_aside(index, ret_error);
    if (result >= 0) result = collection_restart_index(index->collection->store, index->row.index_id, why, ret_error);
    if (result < 0) return error_wrap(ret_error, "set the index %s aside", index->row.index_id);
    pause_point("index_set_aside");
    indexer_tell_events(index->collection);
    result = read_head(index, &head, ret_error);
    if (result >= 0) result = create_empty(index, ret_error);
    if (result < 0) return result;
    indexer_index_spec(index, &spec);
    result = vectors->open_writer(index->folder, &spec, 0, &index->writer, &state, ret_error);
    if (result < 0) return result;
    vectors->hold(index->writer, head);
    begin_anew(index, head);
    return 0;
}

int indexer_index_remove(struct indexer_index *index, struct error **ret_error) {
    close_writer(index);
    free(make_room_aside(index));
    return index->collection->indexer->vectors->remove(index->folder, ret_error);
}
