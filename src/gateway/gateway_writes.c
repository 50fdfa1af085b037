/* One collection's writes: they wait in line, and one worker at a time appends all that waits, in one transaction with
 * one sync. Nothing is answered before that (the log is the only place where a write is). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"

/* What one append takes together; a batch that is larger alone goes alone. */
#define TOGETHER_BYTES (4u * 1024 * 1024)
#define TOGETHER_BATCHES 1024

static void push(struct gateway_batches *batches, struct gateway_batch *batch) {
    batch->next = NULL;
    *batches->end = batch;
    batches->end = &batch->next;
    batches->count++;
}

static struct gateway_batch *take_first(struct gateway_batches *batches) {
    struct gateway_batch *batch = batches->first;
    batches->first = batch->next;
    if (!batches->first) batches->end = &batches->first;
    batches->count--;
    return batch;
}

/* ---- on the worker --------------------------------------------------------- */

static size_t prepare_all(struct gateway_batches *batches) {
    size_t count = 0;
    for (struct gateway_batch *batch = batches->first; batch; batch = batch->next) {
        batch->prepare(batch);
        count += batch->count;
    }
    return count;
}

/* An index that is ahead of the log may have been set aside by now. */
static int check_ahead(struct gateway_collection *collection, struct error **ret_error) {
    if (!collection->ahead) return 0;
    free(collection->ahead);
    collection->ahead = gateway_pair_find_ahead(collection->log, collection->folder);
    if (!collection->ahead) return 0;
    error_set(ret_error, ERROR_UNAVAILABLE, "nothing can be written yet: %s", collection->ahead);
    return error_mark_transient(ret_error);
}

static int append(struct gateway_collection *collection, struct collection_write *writes, size_t count,
                  struct error **ret_error) {
    int failed = check_ahead(collection, ret_error);
    if (!failed) failed = collection_append(collection->log, writes, count, &collection->append_head, ret_error);
    if (failed) return failed;
    collection->append_count = count;
    pause_point("append_committed");
    return 0;
}

/* The writes' strings stay where they are; only their heads are gathered. */
static int append_together(struct gateway_collection *collection, size_t count, struct error **ret_error) {
    _cleanup_free_ struct collection_write *writes = mem_new_array(count, struct collection_write);
    struct gateway_batches *batches = &collection->appending;
    size_t at = 0;
    for (struct gateway_batch *batch = batches->first; batch; at += batch->count, batch = batch->next)
        if (batch->count) memcpy(&writes[at], batch->writes, batch->count * sizeof *writes);
    int failed = append(collection, writes, count, ret_error);
    if (failed) return failed;
    at = 0;
    for (struct gateway_batch *batch = batches->first; batch; at += batch->count, batch = batch->next)
        for (size_t i = 0; i < batch->count; i++) batch->writes[i].seq = writes[at + i].seq;
    return 0;
}

static void run_append(struct gateway_work *work) {
    struct gateway_collection *collection = CONTAINER_OF(work, struct gateway_collection, append);
    struct gateway_batches *batches = &collection->appending;
    collection->append_count = 0;
    size_t count = prepare_all(batches);
    if (!count) return;
    if (batches->count == 1)
        append(collection, batches->first->writes, count, &collection->append_error);
    else
        append_together(collection, count, &collection->append_error);
}

/* ---- on the loop ------------------------------------------------------------ */

static void begin_append(struct gateway_collection *collection);

static void count_append(struct gateway_collection *collection) {
    gateway_series_count_batch(&collection->writes, collection->append_count);
    collection->documents_written += collection->append_count;
    if (collection->append_head <= collection->head) return; /* deletes of what was not there */
    collection->head = collection->append_head;
    gateway_tell_log_appended(collection->gateway, collection->id, COLLECTION_DOCUMENTS, collection->head);
}

static void done_append(struct gateway_work *work) {
    struct gateway_collection *collection = CONTAINER_OF(work, struct gateway_collection, append);
    _cleanup_error_ struct error *error = TAKE(collection->append_error);
    uint64_t head = collection->append_head;
    if (collection->append_count) count_append(collection);
    struct gateway_batches done = collection->appending;
    collection->appending = (struct gateway_batches){.end = &collection->appending.first};
    collection->is_appending = false;
    begin_append(collection);
    while (done.first) { /* its end pointer is not used any more */
        struct gateway_batch *batch = done.first;
        done.first = batch->next;
        if (batch->count && error) batch->error = error_copy(error);
        batch->head = head;
        batch->done(batch);
    }
    gateway_collection_release(collection);
}

static void begin_append(struct gateway_collection *collection) {
    if (collection->is_appending || !collection->waiting.count) return;
    size_t bytes = 0;
    do {
        bytes += collection->waiting.first->bytes;
        push(&collection->appending, take_first(&collection->waiting));
    } while (collection->waiting.count && collection->appending.count < TOGETHER_BATCHES &&
             bytes + collection->waiting.first->bytes <= TOGETHER_BYTES);
    collection->is_appending = true;
    collection->references++;
    collection->append = (struct gateway_work){.run = run_append, .done = done_append};
    gateway_workers_put(collection->gateway->collections.logs, &collection->append);
}

bool gateway_collection_has_room(const struct gateway_collection *collection) {
    return collection->waiting.count < collection->gateway->settings->queue_maximum;
}

void gateway_collection_write(struct gateway_collection *collection, struct gateway_batch *batch) {
    assert(collection->log);
    push(&collection->waiting, batch);
    begin_append(collection);
}
