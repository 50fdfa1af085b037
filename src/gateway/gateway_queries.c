/* Kept queries: the texts that a collection was searched by, noted in its second log in batches, by one worker at a
 * time. Best effort: a search never waits for it, and what there is no room for is not noted (L10). */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

#define TEXTS_MAXIMUM 256 /* that wait */
#define TEXT_BYTES_MAXIMUM 16384 /* longer ones are no queries that anybody would look for */

struct gateway_query_notes {
    struct gateway_collection *collection;
    char *waiting[TEXTS_MAXIMUM];
    size_t waiting_count;
    struct gateway_work work;
    bool is_writing;
    char *texts[TEXTS_MAXIMUM]; /* the worker's */
    size_t count;
    uint64_t head;
    struct error *error;
};

static void free_texts(char **texts, size_t *count) {
    while (*count) free(texts[--*count]);
}

void gateway_queries_free(struct gateway_collection *collection) {
    struct gateway_query_notes *notes = TAKE(collection->notes);
    if (!notes) return;
    free_texts(notes->waiting, &notes->waiting_count);
    free(notes);
}

static void run(struct gateway_work *work) {
    struct gateway_query_notes *notes = CONTAINER_OF(work, struct gateway_query_notes, work);
    const struct gateway_collection *collection = notes->collection;
    collection_note_queries(collection->log, (const char *const *)notes->texts, notes->count,
                            collection->gateway->settings->kept_queries_maximum, &notes->head, &notes->error);
}

static void begin(struct gateway_query_notes *notes);

static void done(struct gateway_work *work) {
    struct gateway_query_notes *notes = CONTAINER_OF(work, struct gateway_query_notes, work);
    struct gateway_collection *collection = notes->collection;
    _cleanup_error_ struct error *error = TAKE(notes->error);
    free_texts(notes->texts, &notes->count);
    notes->is_writing = false;
    if (error) {
        _cleanup_free_ char *text = error_text(error);
        log_write(LOG_WARNING, "queries could not be kept", "collection", collection->name, "cause", text, NULL);
        free_texts(notes->waiting, &notes->waiting_count);
    } else {
        gateway_tell_log_appended(collection->gateway, collection->id, COLLECTION_QUERIES, notes->head);
        begin(notes);
    }
    gateway_collection_release(collection);
}

static void begin(struct gateway_query_notes *notes) {
    if (notes->is_writing || !notes->waiting_count) return;
    memcpy(notes->texts, notes->waiting, notes->waiting_count * sizeof *notes->texts);
    notes->count = notes->waiting_count;
    notes->waiting_count = 0;
    notes->is_writing = true;
    notes->collection->references++;
    notes->work = (struct gateway_work){.run = run, .done = done};
    gateway_workers_put(notes->collection->gateway->collections.logs, &notes->work);
}

void gateway_queries_note(struct gateway_collection *collection, const char *text) {
    size_t size = strlen(text);
    if (size > TEXT_BYTES_MAXIMUM || collection->gateway->phase == GATEWAY_ENDED) return;
    if (!collection->notes) {
        collection->notes = mem_new(struct gateway_query_notes);
        collection->notes->collection = collection;
    }
    struct gateway_query_notes *notes = collection->notes;
    if (notes->waiting_count == TEXTS_MAXIMUM) return;
    notes->waiting[notes->waiting_count++] = text_copy_bytes(text, size);
    begin(notes);
}
