#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "runner/runner_service-internal.h"

#define TIMING_SIZE 128

/* ---- the end -------------------------------------------------------------- */

static void free_job(struct runner_job *job) {
    free(job->tensors.inputs); /* their data is the request's */
    tensor_clear_all(job->tensors.outputs, job->tensors.wanted_count);
    free(job->tensors.wanted);
    free(job->tensors.signature);
    v2_request_clear(&job->v2);
    runner_texts_clear(&job->texts);
    free(job->units);
    buffer_clear(&job->answer);
    error_free(job->error);
    error_free(job->batch.error);
    free(job->model_name);
    job->service->jobs--;
    free(job);
}

static void count_answer(struct runner_service *service, int status) {
    service->statistics.requests[status / 100 < 6 ? status / 100 : 0]++;
}

static void fail(struct runner_job *job, const struct error *error) {
    count_answer(job->service, error->http_status);
    job->protocol->fail(job->request, error);
    free_job(job);
}

/* What became of the time, for whoever traces the request (gateway_trace-internal.h): microseconds. A request that was
 * run again waits until the first time and runs from then on. */
static void write_timing(const struct runner_job *job, char ret_text[TIMING_SIZE]) {
    snprintf(ret_text, TIMING_SIZE, "wait=%" PRIu64 ";run=%" PRIu64 ";total=%" PRIu64 ";tokens=%zu",
             job->batch.waited_us, job->batch.ran_us, clock_monotonic_us() - job->request->received_us,
             runner_texts_tokens(&job->texts));
}

static void answer(struct runner_job *job) {
    const struct model *model = job->service->model;
    char batch[24], head_size[24], truncated[24], timing[TIMING_SIZE];
    struct http_header headers[6];
    size_t count = 0, size;
    snprintf(batch, sizeof batch, "%zu", job->batch.largest_batch);
    headers[count++] =
        (struct http_header){"Content-Type", job->head_size < 0 ? "application/json" : "application/octet-stream"};
    headers[count++] = (struct http_header){"X-Slipway-Batch", batch};
    if (model->recipe->kind == RECIPE_EMBEDDING)
        headers[count++] = (struct http_header){"X-Slipway-Encoder", model->encoder_digest};
    if (job->texts.truncated) {
        snprintf(truncated, sizeof truncated, "%zu", job->texts.truncated);
        headers[count++] = (struct http_header){"X-Slipway-Truncated", truncated};
        job->service->statistics.truncated_texts += job->texts.truncated;
    }
    if (job->head_size >= 0) {
        snprintf(head_size, sizeof head_size, "%" PRId64, job->head_size);
        headers[count++] = (struct http_header){"Inference-Header-Content-Length", head_size};
    }
    if (http_request_header(job->request, "Traceparent")) {
        write_timing(job, timing);
        headers[count++] = (struct http_header){"X-Slipway-Timing", timing};
    }
    char *body = buffer_take(&job->answer, &size);
    count_answer(job->service, 200);
    http_respond(job->request, 200, headers, count, body, size, free);
    free_job(job);
}

/* Somebody has to end the request, though nobody reads the answer. */
static void drop(struct runner_job *job) {
    job->service->statistics.abandoned++;
    http_respond(job->request, 499, NULL, 0, "", 0, NULL);
    free_job(job);
}

/* ---- writing -------------------------------------------------------------- */

static void write_on_worker(uv_work_t *work) {
    struct runner_job *job = work->data;
    job->protocol->write(job, &job->error);
}

static void after_write(uv_work_t *work, int status) {
    (void)status; /* nothing cancels it */
    struct runner_job *job = work->data;
    if (job->error)
        fail(job, job->error);
    else
        answer(job);
}

static void start_writing(struct runner_job *job) {
    job->work.data = job;
    if (job->protocol->answer_bytes(job) > RUNNER_LARGE_BYTES &&
        uv_queue_work(job->service->loop, &job->work, write_on_worker, after_write) == 0)
        return;
    write_on_worker(&job->work);
    after_write(&job->work, 0);
}

/* ---- running --------------------------------------------------------------- */

int runner_job_run(void *context, struct batch_unit *const *units, size_t count, struct error **ret_error) {
    struct runner_service *service = context;
    void *payloads[count];
    for (size_t i = 0; i < count; i++) payloads[i] = units[i]->payload;
    if (service->model->recipe->kind == RECIPE_EMBEDDING)
        return model_run_texts(service->model, (const struct model_text *const *)payloads, count, ret_error);
    return model_run_tensors(service->model, (struct model_tensors *const *)payloads, count, ret_error);
}

void runner_job_has_run(void *context, struct batch_request *request) {
    struct runner_service *service = context;
    struct runner_job *job = (struct runner_job *)request;
    pthread_mutex_lock(&service->lock);
    bool first = !service->finished;
    job->next_finished = service->finished;
    service->finished = job;
    pthread_mutex_unlock(&service->lock);
    if (first && write(service->wake_descriptor, &(uint64_t){1}, sizeof(uint64_t)) < 0) return; /* it cannot be full */
}

void runner_jobs_finished(uv_poll_t *wake, int status, int events) {
    struct runner_service *service = wake->data;
    uint64_t count;
    (void)status, (void)events;
    if (read(service->wake_descriptor, &count, sizeof count) < 0) return; /* nothing new */
    pthread_mutex_lock(&service->lock);
    struct runner_job *newest = service->finished, *oldest = NULL;
    service->finished = NULL;
    pthread_mutex_unlock(&service->lock);
    while (newest) {
        struct runner_job *job = newest;
        newest = job->next_finished;
        job->next_finished = oldest;
        oldest = job;
    }
    while (oldest) {
        struct runner_job *job = oldest;
        oldest = job->next_finished;
        if (atomic_load(&job->batch.abandoned))
            drop(job);
        else if (job->batch.error)
            fail(job, job->batch.error);
        else
            start_writing(job);
    }
    batcher_stir(service->batcher);
}

/* ---- parsing --------------------------------------------------------------- */

static void parse_on_worker(uv_work_t *work) {
    struct runner_job *job = work->data;
    job->protocol->parse(job, &job->error);
}

static void after_parse(uv_work_t *work, int status) {
    (void)status;
    struct runner_job *job = work->data;
    struct runner_service *service = job->service;
    if (!job->error && atomic_load(&batcher_statistics(service->batcher)->queued_units) > RUNNER_QUEUE_MAXIMUM) {
        service->statistics.refused_queue++;
        error_set(&job->error, ERROR_UNAVAILABLE, "too many requests wait for the model; try again later");
    }
    if (job->error)
        fail(job, job->error);
    else
        batcher_submit(service->batcher, &job->batch);
}

/* Inference-Header-Content-Length, and that the body is not compressed. */
static int read_headers(struct runner_job *job, struct error **ret_error) {
    const char *head_size = http_request_header(job->request, "Inference-Header-Content-Length");
    const char *encoding = http_request_header(job->request, "Content-Encoding");
    uint64_t number = 0;
    job->request_head_size = -1;
    if (encoding && strcasecmp(encoding, "identity"))
        return error_set_status(ret_error, ERROR_REQUEST, 415, "the body is encoded as %.100s; send it as it is",
                                encoding);
    if (!head_size) return 0;
    if (!text_parse_number(head_size, INT64_MAX, &number))
        return error_set(ret_error, ERROR_REQUEST,
                         "Inference-Header-Content-Length must be a number of bytes, not %.100s", head_size);
    job->request_head_size = (int64_t)number;
    return 0;
}

void runner_job_start(struct runner_service *service, struct http_request *request,
                      const struct runner_protocol *protocol, const char *model_name) {
    struct runner_job *job = mem_new(struct runner_job);
    job->service = service;
    job->protocol = protocol;
    job->request = request;
    job->model_name = text_copy(model_name);
    job->head_size = -1;
    job->work.data = job;
    service->jobs++;
    request->context = job;
    if (read_headers(job, &job->error) < 0) {
        fail(job, job->error);
        return;
    }
    if (request->body_size > protocol->large_bytes &&
        uv_queue_work(service->loop, &job->work, parse_on_worker, after_parse) == 0)
        return;
    parse_on_worker(&job->work);
    after_parse(&job->work, 0);
}
