/* One batch to a replica and back: an inference request of the Open Inference Protocol with binary tensors. What the
 * answer means for each text is decided here. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "indexer/indexer-internal.h"

#define CONNECT_TIMEOUT_MS 2000
#define ANSWER_TIMEOUT_MS (5u * 60 * 1000) /* a replica that runs only when nothing else does may wait for long */
#define BODY_TIMEOUT_MS 30000
#define ANSWER_HEAD_MAXIMUM ((size_t)64 << 10) /* the JSON before the vectors, or an error */
#define ENOUGH_FAILURES 3 /* answers of 500 before a text is what is to blame */
#define SHORT_TOKENS_MINIMUM 32.0
#define GROWTH 1.25

struct embed_batch {
    struct embed_run *run;
    struct embed_batch *next;
    struct indexer_replica *replica;
    struct http_call *call;
    bool is_short;
    double tokens;
    uint32_t *items;
    size_t count;
    struct buffer request, answer;
    int status;
    uint64_t head_size, truncated, sent_us;
    char *encoder; /* as the answer says, or NULL */
};

/* ---- the end of a batch ------------------------------------------------------ */

static void free_batch(struct embed_batch *batch) {
    struct embed_batch **at = &batch->run->batches;
    while (*at != batch) at = &(*at)->next;
    *at = batch->next;
    batch->run->in_flight--;
    buffer_clear(&batch->request);
    buffer_clear(&batch->answer);
    free(batch->items);
    free(batch->encoder);
    free(batch);
}

static struct embed_item *item_of(struct embed_batch *batch, size_t i) {
    return &batch->run->order->items[batch->items[i]];
}

/* To be sent again. */
static void put_back(struct embed_batch *batch) {
    for (size_t i = 0; i < batch->count; i++) item_of(batch, i)->state = EMBED_WAITING;
    batch->run->next = 0;
}

static void finish(struct embed_batch *batch, bool replica_failed) {
    struct indexer *indexer = batch->run->worker->indexer;
    pthread_mutex_lock(&indexer->lock);
    if (replica_failed) indexer_replica_suspect(batch->replica);
    indexer_replica_give_back(indexer, batch->replica);
    pthread_mutex_unlock(&indexer->lock);
    free_batch(batch);
}

/* ---- vectors ------------------------------------------------------------------ */

static bool is_output(yyjson_val *output, size_t count, size_t dimension) {
    yyjson_val *shape = yyjson_obj_get(output, "shape");
    uint64_t bytes = yyjson_get_uint(yyjson_obj_get(yyjson_obj_get(output, "parameters"), "binary_data_size"));
    return yyjson_equals_str(yyjson_obj_get(output, "datatype"), "FP32") && yyjson_arr_size(shape) == 2 &&
           yyjson_get_uint(yyjson_arr_get(shape, 0)) == count &&
           yyjson_get_uint(yyjson_arr_get(shape, 1)) == dimension && bytes == count * dimension * sizeof(float);
}

static bool take_vectors(struct embed_batch *batch) {
    _cleanup_json_ yyjson_doc *document = NULL;
    size_t dimension = batch->run->order->dimension, bytes = dimension * sizeof(float);
    if (!batch->head_size || batch->head_size > batch->answer.size ||
        batch->answer.size - batch->head_size != batch->count * bytes ||
        json_parse(batch->answer.bytes, batch->head_size, &document, NULL) < 0)
        return false;
    yyjson_val *outputs = yyjson_obj_get(yyjson_doc_get_root(document), "outputs");
    if (!is_output(yyjson_arr_get_first(outputs), batch->count, dimension)) return false;
    const char *at = batch->answer.bytes + batch->head_size;
    for (size_t i = 0; i < batch->count; i++, at += bytes) {
        memcpy(item_of(batch, i)->vector, at, bytes);
        item_of(batch, i)->state = EMBED_DONE;
    }
    batch->run->order->truncated += batch->truncated;
    return true;
}

/* With the lock. Shrinks at once to what was measured, and grows slowly. */
static void adapt(struct embed_batch *batch, double maximum) {
    struct indexer_replica *replica = batch->replica;
    double took_ms = (double)(clock_monotonic_us() - batch->sent_us) / 1000.0;
    if (took_ms > INDEXER_SHORT_MS) {
        double fits = batch->tokens * INDEXER_SHORT_MS / took_ms;
        if (fits < replica->short_tokens) replica->short_tokens = fits;
    } else if (batch->tokens * GROWTH > replica->short_tokens) {
        replica->short_tokens *= GROWTH;
    }
    if (replica->short_tokens < SHORT_TOKENS_MINIMUM) replica->short_tokens = SHORT_TOKENS_MINIMUM;
    if (replica->short_tokens > maximum) replica->short_tokens = maximum;
}

/* ---- what an answer means ------------------------------------------------------- */

/* Not the encoder of this index, or not what its report said: it is used for it no more (X: never mixed). */
static void disown(struct embed_batch *batch, const char *digest) {
    struct indexer *indexer = batch->run->worker->indexer;
    put_back(batch);
    pthread_mutex_lock(&indexer->lock);
    indexer_replica_is_really(indexer, batch->replica, digest);
    pthread_mutex_unlock(&indexer->lock);
    finish(batch, false);
}

static void take_success(struct embed_batch *batch) {
    struct indexer *indexer = batch->run->worker->indexer;
    if (!text_equal(batch->encoder, batch->run->order->digest)) {
        disown(batch, batch->encoder);
        return;
    }
    if (!take_vectors(batch)) {
        disown(batch, NULL);
        return;
    }
    if (batch->is_short) {
        pthread_mutex_lock(&indexer->lock);
        adapt(batch, (double)indexer->settings->batch_tokens);
        pthread_mutex_unlock(&indexer->lock);
    }
    finish(batch, false);
}

static char *detail_of(struct embed_batch *batch) {
    _cleanup_json_ yyjson_doc *document = NULL;
    const char *sentence = NULL;
    if (batch->answer.size && json_parse(batch->answer.bytes, batch->answer.size, &document, NULL) >= 0)
        sentence = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(document), "error"));
    return sentence ? text_format("the model refused it: %s", sentence)
                    : text_format("the model refused it with status %d", batch->status);
}

static void refuse(struct embed_batch *batch, struct embed_item *item) {
    item->state = EMBED_REFUSED;
    item->detail = detail_of(batch);
}

/* The model's own answer: of several, each is tried alone; what is refused alone is refused. */
static void take_refusal(struct embed_batch *batch) {
    put_back(batch);
    if (batch->count == 1) refuse(batch, item_of(batch, 0));
    for (size_t i = 0; i < batch->count; i++) item_of(batch, i)->alone = true;
    finish(batch, false);
}

/* An error of the replica's own may be one text's doing all the same; after a few such answers it counts as that. */
static void take_error(struct embed_batch *batch) {
    put_back(batch);
    for (size_t i = 0; i < batch->count; i++) {
        struct embed_item *item = item_of(batch, i);
        item->failures++;
        if (item->failures >= ENOUGH_FAILURES - 1) item->alone = true;
    }
    if (batch->count == 1 && item_of(batch, 0)->failures >= ENOUGH_FAILURES) refuse(batch, item_of(batch, 0));
    finish(batch, true);
}

static void take_nothing(struct embed_batch *batch) {
    put_back(batch);
    finish(batch, true);
}

static void on_end(struct http_call *call, void *context) {
    (void)call;
    struct embed_batch *batch = context;
    switch (batch->status) {
    case 200: take_success(batch); break;
    case 408:
    case 429:
    case 502:
    case 503:
    case 504: take_nothing(batch); break;
    default:
        if (batch->status >= 400 && batch->status < 500)
            take_refusal(batch);
        else
            take_error(batch);
    }
}

/* ---- the call --------------------------------------------------------------------- */

static void on_head(struct http_call *call, const struct http_answer *answer, void *context) {
    (void)call;
    struct embed_batch *batch = context;
    const struct http_header *headers = answer->headers;
    const char *head = http_find_header(headers, answer->header_count, "Inference-Header-Content-Length");
    const char *truncated = http_find_header(headers, answer->header_count, "X-Slipway-Truncated");
    batch->status = answer->status;
    batch->encoder = text_copy(http_find_header(headers, answer->header_count, "X-Slipway-Encoder"));
    if (head) text_parse_number(head, ANSWER_HEAD_MAXIMUM, &batch->head_size);
    if (truncated) text_parse_number(truncated, batch->count, &batch->truncated);
}

static void on_failed(struct http_call *call, const struct http_failure *failure, void *context) {
    (void)call, (void)failure;
    take_nothing(context); /* embedding changes nothing: it is sent again (R4) */
}

static void on_body(struct http_call *call, const char *bytes, size_t size, void *context) {
    struct embed_batch *batch = context;
    if (buffer_append(&batch->answer, bytes, size)) return;
    http_call_cancel(call); /* longer than its vectors can be */
    disown(batch, NULL);
}

static const struct http_call_handler handler = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_failed = on_failed};

static struct http_pool *pool_of(struct indexer_worker *worker, const char *address) {
    struct worker_pool *pool = NULL;
    HASH_FIND_STR(worker->pools, address, pool);
    if (pool) return pool->pool;
    pool = mem_new(struct worker_pool);
    pool->address = text_copy(address);
    pool->pool = http_pool_new(&(struct http_pool_config){.loop = &worker->loop,
                                                          .address = address,
                                                          .idle_maximum = 4,
                                                          .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                                          .answer_timeout_ms = ANSWER_TIMEOUT_MS,
                                                          .body_timeout_ms = BODY_TIMEOUT_MS,
                                                          .head_maximum = worker->indexer->settings->head_maximum});
    HASH_ADD_KEYPTR(hh, worker->pools, pool->address, strlen(pool->address), pool);
    return pool->pool;
}

/* The head in JSON, then each text behind its length. Returns the head's size. */
static size_t write_request(struct embed_batch *batch) {
    size_t bytes = 0;
    for (size_t i = 0; i < batch->count; i++) bytes += sizeof(uint32_t) + item_of(batch, i)->size;
    buffer_append_format(&batch->request,
                         "{\"inputs\":[{\"name\":\"text\",\"datatype\":\"BYTES\",\"shape\":[%zu],"
                         "\"parameters\":{\"binary_data_size\":%zu}}],\"parameters\":{\"binary_data_output\":true}}",
                         batch->count, bytes);
    size_t head_size = batch->request.size;
    for (size_t i = 0; i < batch->count; i++) {
        uint32_t size = (uint32_t)item_of(batch, i)->size;
        buffer_append(&batch->request, &size, sizeof size);
        buffer_append(&batch->request, item_of(batch, i)->text, size);
    }
    return head_size;
}

static void post(struct embed_batch *batch, size_t head_size) {
    char head_text[24];
    snprintf(head_text, sizeof head_text, "%zu", head_size);
    const struct http_header headers[] = {{"Content-Type", "application/octet-stream"},
                                          {"Inference-Header-Content-Length", head_text}};
    batch->sent_us = clock_monotonic_us();
    batch->call = http_call(pool_of(batch->run->worker, batch->replica->address),
                            &(struct http_call_request){.method = "POST",
                                                        .target = "/v2/models/encoder/infer",
                                                        .host = "runner",
                                                        .headers = headers,
                                                        .header_count = ARRAY_SIZE(headers),
                                                        .body = batch->request.bytes,
                                                        .body_size = batch->request.size,
                                                        .has_body = true},
                            &handler, batch);
}

void embed_send(struct embed_run *run, struct indexer_replica *replica, bool is_short, const uint32_t *items,
                size_t count, double tokens) {
    struct embed_batch *batch = mem_new(struct embed_batch);
    *batch = (struct embed_batch){.run = run,
                                  .next = run->batches,
                                  .replica = replica,
                                  .is_short = is_short,
                                  .tokens = tokens,
                                  .items = mem_copy(items, count * sizeof *items),
                                  .count = count};
    batch->answer.maximum = ANSWER_HEAD_MAXIMUM + count * run->order->dimension * sizeof(float);
    run->batches = batch;
    run->in_flight++;
    for (size_t i = 0; i < count; i++) item_of(batch, i)->state = EMBED_SENT;
    post(batch, write_request(batch));
}

void embed_cancel(struct embed_run *run) {
    while (run->batches) {
        struct embed_batch *batch = run->batches;
        http_call_cancel(batch->call);
        put_back(batch);
        finish(batch, false);
    }
}
