/* Chunks to replicas and back, on the loop: several requests in flight to each, so that it has the next when it is done
 * with one. What an answer means for each row is decided here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "batch/batch-internal.h"

#define IN_FLIGHT 3 /* to one replica */
#define CONNECT_TIMEOUT_MS 2000
#define ANSWER_TIMEOUT_MS (10u * 60 * 1000) /* a replica at idle priority may wait for long */
#define BODY_TIMEOUT_MS 60000
#define HEAD_MAXIMUM 65536
#define SUSPECT_MS 200 /* the supervisor tells of a death a moment after the connection does */
#define ENOUGH_FAILURES 3 /* answers of 500 before a row is what is to blame */
#define ENOUGH_DEATHS 20 /* connections that broke over one chunk */

struct batch_call {
    struct batch_run *run;
    struct batch_call *next;
    struct batch_chunk *chunk;
    struct batch_pool *pool;
    struct http_call *call;
    size_t first, count;
    struct buffer request, answer;
    int status;
    uint64_t head_size, truncated;
};

/* ---- the end of a call ---- */

static void free_call(struct batch_call *call) {
    struct batch_call **link = &call->run->calls;
    while (*link != call) link = &(*link)->next;
    *link = call->next;
    call->pool->in_flight--;
    buffer_clear(&call->request);
    buffer_clear(&call->answer);
    free(call);
}

static void suspect(struct batch_call *call) {
    call->pool->suspect_until_ms = clock_monotonic_ms() + SUSPECT_MS;
}

/* The rest of the chunk is asked for anew, or all of it is done. */
static void go_on(struct batch_call *call) {
    struct batch_run *run = call->run;
    struct batch_chunk *chunk = call->chunk;
    free_call(call);
    if (chunk->done == chunk->count) {
        batch_run_chunk_done(run, chunk);
    } else {
        chunk->next = run->again;
        run->again = chunk;
    }
    uv_async_send(&run->woken); /* not from here: the connection is not back in its pool yet */
}

static void end_run(struct batch_call *call, enum error_class class, bool transient, const char *why) {
    struct error *error = NULL;
    error_set(&error, class, "line %lld of the input and those behind it: %s",
              (long long)call->chunk->lines[call->first], why);
    if (transient) error_mark_transient(&error);
    batch_run_fail(call->run, error);
    go_on(call);
}

/* ---- what an answer means ---- */

static char *detail_of(const struct batch_call *call) {
    _cleanup_json_ yyjson_doc *document = NULL;
    if (call->answer.size) json_parse(call->answer.bytes, call->answer.size, &document, NULL);
    const char *sentence = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(document), "error"));
    return sentence ? text_format("the model refused it: %s", sentence)
                    : text_format("the model refused it with status %d", call->status);
}

static void reject(struct batch_call *call) {
    _cleanup_free_ char *detail = detail_of(call);
    batch_rejects_add(&call->chunk->rejects, call->chunk->lines[call->first], "inference", detail);
    call->chunk->done++;
    call->chunk->failures = 0;
}

static void take_success(struct batch_call *call) {
    struct batch_chunk *chunk = call->chunk;
    const struct batch_run *run = call->run;
    if (batch_answer_take(run->config->spec, &run->model, chunk, call->first, call->count, call->answer.bytes,
                          call->answer.size, (size_t)call->head_size)) {
        chunk->done += call->count;
        chunk->truncated += (int64_t)call->truncated;
        chunk->failures = 0;
        go_on(call);
    } else if (++chunk->failures >= ENOUGH_FAILURES) {
        end_run(call, ERROR_DEPLOYMENT, false, "the model's answer is not what was asked for");
    } else {
        go_on(call);
    }
}

/* Of several rows each is tried alone; what is refused alone is rejected. */
static void take_refusal(struct batch_call *call) {
    if (call->count == 1) reject(call);
    call->chunk->alone = true;
    go_on(call);
}

/* An error of the replica's own may be one row's doing all the same. */
static void take_error(struct batch_call *call) {
    struct batch_chunk *chunk = call->chunk;
    suspect(call);
    if (++chunk->failures >= ENOUGH_FAILURES) {
        if (call->count == 1) reject(call);
        chunk->alone = true;
        chunk->failures = 0;
    }
    go_on(call);
}

static void on_end(struct http_call *http, void *context) {
    struct batch_call *call = context;
    (void)http;
    switch (call->status) {
    case 200: take_success(call); break;
    case 408:
    case 429:
    case 502:
    case 503:
    case 504:
        suspect(call);
        go_on(call);
        break;
    default:
        if (call->status >= 400 && call->status < 500)
            take_refusal(call);
        else
            take_error(call);
    }
}

/* Inference changes nothing: it is asked for again (R4), of whoever is up then. */
static void on_failed(struct http_call *http, const struct http_failure *failure, void *context) {
    struct batch_call *call = context;
    (void)http;
    suspect(call);
    if (++call->chunk->failures < ENOUGH_DEATHS) {
        go_on(call);
        return;
    }
    _cleanup_free_ char *text = error_text(failure->error);
    end_run(call, ERROR_UNAVAILABLE, true, text);
}

/* ---- the call ---- */

static void on_head(struct http_call *http, const struct http_answer *answer, void *context) {
    struct batch_call *call = context;
    (void)http;
    const char *head = http_find_header(answer->headers, answer->header_count, "Inference-Header-Content-Length");
    const char *truncated = http_find_header(answer->headers, answer->header_count, "X-Slipway-Truncated");
    call->status = answer->status;
    if (head) text_parse_number(head, BATCH_ANSWER_MAXIMUM, &call->head_size);
    if (truncated) text_parse_number(truncated, call->count, &call->truncated);
}

static void on_body(struct http_call *http, const char *bytes, size_t size, void *context) {
    struct batch_call *call = context;
    if (buffer_append(&call->answer, bytes, size)) return;
    http_call_cancel(http);
    if (call->count > 1) { /* fewer rows have a shorter answer */
        call->chunk->alone = true;
        go_on(call);
        return;
    }
    end_run(call, ERROR_DEPLOYMENT, false, "the answer for one row is longer than 64 MiB");
}

static const struct http_call_handler handler = {
    .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_failed = on_failed};

static void post(struct batch_call *call, size_t head_size) {
    char head_text[24];
    snprintf(head_text, sizeof head_text, "%zu", head_size);
    const struct http_header headers[] = {{"Content-Type", "application/octet-stream"},
                                          {"Inference-Header-Content-Length", head_text}};
    call->call = http_call(call->pool->pool,
                           &(struct http_call_request){.method = "POST",
                                                       .target = "/v2/models/batch/infer",
                                                       .host = "runner",
                                                       .headers = headers,
                                                       .header_count = ARRAY_SIZE(headers),
                                                       .body = call->request.bytes,
                                                       .body_size = call->request.size,
                                                       .has_body = true},
                           &handler, call);
}

static void send_chunk(struct batch_run *run, struct batch_pool *pool, struct batch_chunk *chunk) {
    struct batch_call *call = mem_new(struct batch_call);
    *call = (struct batch_call){.run = run,
                                .next = run->calls,
                                .chunk = chunk,
                                .pool = pool,
                                .first = chunk->done,
                                .count = chunk->alone ? 1 : chunk->count - chunk->done};
    call->answer.maximum = BATCH_ANSWER_MAXIMUM;
    run->calls = call;
    pool->in_flight++;
    post(call, batch_request_write(&run->model, chunk, call->first, call->count, &call->request));
}

/* ---- replicas ---- */

static struct batch_pool *find_pool(struct batch_run *run, const char *address) {
    for (struct batch_pool *pool = run->pools; pool; pool = pool->next)
        if (text_equal(pool->address, address)) return pool;
    struct batch_pool *pool = mem_new(struct batch_pool);
    pool->address = text_copy(address);
    pool->pool = http_pool_new(&(struct http_pool_config){.loop = &run->loop,
                                                          .address = address,
                                                          .idle_maximum = IN_FLIGHT,
                                                          .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                                                          .answer_timeout_ms = ANSWER_TIMEOUT_MS,
                                                          .body_timeout_ms = BODY_TIMEOUT_MS,
                                                          .head_maximum = HEAD_MAXIMUM});
    pool->next = run->pools;
    run->pools = pool;
    return pool;
}

static void drop_gone(struct batch_run *run) {
    for (struct batch_pool **link = &run->pools; *link;) {
        struct batch_pool *pool = *link;
        if (pool->is_up || pool->in_flight) {
            link = &pool->next;
            continue;
        }
        *link = pool->next;
        http_pool_release(pool->pool);
        free(pool->address);
        free(pool);
    }
}

int batch_calls_look(struct batch_run *run, struct error **ret_error) {
    const struct batch_host *host = run->config->host;
    struct batch_replica *list = NULL;
    size_t count = 0;
    int result = host->replicas(host->context, &list, &count, ret_error);
    for (struct batch_pool *pool = run->pools; pool; pool = pool->next) pool->is_up = false;
    for (size_t i = 0; i < count; i++) {
        if (result >= 0) find_pool(run, list[i].address)->is_up = true;
        free(list[i].address);
    }
    free(list);
    drop_gone(run);
    pthread_mutex_lock(&run->lock);
    size_t wanted = count * IN_FLIGHT * 2 + IN_FLIGHT;
    if (wanted > run->chunk_maximum) run->chunk_maximum = wanted;
    pthread_mutex_unlock(&run->lock);
    return result;
}

static struct batch_pool *choose_pool(struct batch_run *run) {
    uint64_t now = clock_monotonic_ms();
    struct batch_pool *best = NULL;
    for (struct batch_pool *pool = run->pools; pool; pool = pool->next)
        if (pool->is_up && pool->suspect_until_ms <= now && pool->in_flight < IN_FLIGHT &&
            (!best || pool->in_flight < best->in_flight))
            best = pool;
    return best;
}

static struct batch_chunk *take_chunk(struct batch_run *run) {
    struct batch_chunk *chunk = run->again;
    if (chunk) {
        run->again = chunk->next;
        chunk->next = NULL;
        return chunk;
    }
    pthread_mutex_lock(&run->lock);
    if ((chunk = run->ready)) {
        run->ready = chunk->next;
        if (!run->ready) run->ready_end = &run->ready;
        chunk->next = NULL;
    }
    pthread_mutex_unlock(&run->lock);
    return chunk;
}

void batch_calls_send(struct batch_run *run) {
    struct batch_pool *pool;
    while (!batch_run_is_stopping(run) && (pool = choose_pool(run))) {
        struct batch_chunk *chunk = take_chunk(run);
        if (!chunk) return;
        if (chunk->done == chunk->count)
            batch_run_chunk_done(run, chunk); /* no row of it could be read */
        else
            send_chunk(run, pool, chunk);
    }
}

void batch_calls_cancel(struct batch_run *run) {
    while (run->calls) {
        struct batch_call *call = run->calls;
        struct batch_chunk *chunk = call->chunk;
        http_call_cancel(call->call);
        free_call(call);
        chunk->next = run->again;
        run->again = chunk;
    }
    for (struct batch_pool *pool = run->pools; pool; pool = pool->next) pool->is_up = false;
    drop_gone(run);
}
