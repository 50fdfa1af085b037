/* The serving side of a runner: HTTP requests to jobs, jobs through the batcher, answers.
 *
 * A job is one inference request. Its steps: parse (on the loop's thread, or on a worker when the body is large), queue
 * (the batcher), write (as parse), answer (loop). A protocol is what a job speaks: how its body becomes units and its
 * results become a body. The http_request is the job's until it is answered, also when the client has gone.
 */
#pragma once
#include <pthread.h>
#include <uv.h>

#include "http/http_server.h"
#include "runner/runner_model-internal.h"
#include "runner/runner_v2-internal.h"

#define RUNNER_LARGE_BYTES (256u * 1024) /* bodies and answers beyond this are worked on by a worker */
#define RUNNER_LARGE_TEXT_BYTES (64u * 1024) /* the same for texts, which must be tokenised */
#define RUNNER_TEXTS_MAXIMUM 4096 /* texts in one request */
#define RUNNER_QUEUE_MAXIMUM 65536 /* units waiting before requests are refused */

struct runner_job;

struct runner_protocol {
    size_t large_bytes; /* of a body */
    /* Any thread. Fills the job's units. */
    int (*parse)(struct runner_job *job, struct error **ret_error);
    /* Any thread. Writes job->answer (and job->head_size). */
    int (*write)(struct runner_job *job, struct error **ret_error);
    size_t (*answer_bytes)(const struct runner_job *job); /* about how large the answer will be */
    /* Loop. Answers with the error in the protocol's own form; ends the request. */
    void (*fail)(struct http_request *request, const struct error *error);
};
extern const struct runner_protocol v2_tensor_protocol, v2_text_protocol, openai_protocol;

/* The texts of an embedding request. */
struct runner_texts {
    int64_t *ids; /* of all texts, one behind the other */
    size_t id_count, id_capacity;
    struct model_text *texts; /* their ids are set by runner_texts_finish() */
    size_t count, capacity;
    float *vectors; /* [count,dimension] */
    size_t truncated;
};

struct runner_statistics {
    uint64_t requests[6]; /* by the first digit of the status */
    uint64_t refused_queue, abandoned, truncated_texts;
};

struct runner_service {
    uv_loop_t *loop;
    const char *model_name;
    bool any_name; /* under a supervisor: the gateway has chosen already; the name is echoed */
    char version[24];
    struct model *model;
    struct batcher *batcher;
    struct batch_config batch;
    struct runner_statistics statistics;
    size_t jobs; /* not yet ended */
    int wake_descriptor; /* an eventfd: uv_async_t spins while its sender has not returned */
    uv_poll_t wake;
    pthread_mutex_t lock;
    struct runner_job *finished; /* from the inference thread, newest first; under the lock */
};

struct runner_job {
    struct batch_request batch; /* first: the batcher hands this back */
    struct runner_service *service;
    const struct runner_protocol *protocol;
    struct http_request *request;
    struct runner_job *next_finished;
    uv_work_t work;
    struct error *error;
    char *model_name; /* as the client said it */
    int64_t request_head_size; /* Inference-Header-Content-Length of the request, or -1 */

    struct v2_request v2;
    struct model_tensors tensors;
    struct batch_unit *units; /* of the request; also batch.units */
    struct runner_texts texts;
    bool base64;

    struct buffer answer;
    int64_t head_size; /* of the answer, -1: plain JSON */
};

/* ---- service (runner_service.c) ------------------------------------------- */

/* Starts the batcher. `model` and `model_name` are borrowed. */
void runner_service_open(struct runner_service *service, uv_loop_t *loop, struct model *model, const char *model_name,
                         bool any_name, uint64_t revision, const struct batch_config *limits);
/* Ends the inference thread and closes the service's handle; no job may be left. */
void runner_service_close(struct runner_service *service);
extern const struct http_handler runner_handler; /* its context is the struct runner_service */

/* ---- jobs (runner_job.c) --------------------------------------------------- */

/* Takes the request over and answers it, now or later. */
void runner_job_start(struct runner_service *service, struct http_request *request,
                      const struct runner_protocol *protocol, const char *model_name);
void runner_jobs_finished(uv_poll_t *wake, int status, int events); /* on the loop */
void runner_job_has_run(void *service, struct batch_request *request); /* batch_config.finished */
int runner_job_run(void *service, struct batch_unit *const *units, size_t count, struct error **ret_error); /* .run */

/* ---- texts (runner_texts.c) ------------------------------------------------ */

int runner_texts_add(struct runner_texts *texts, const struct model *model, const char *text, size_t size,
                     struct error **ret_error);
/* Token ids, taken as they are. REQUEST error when they are none of the vocabulary's or too many. */
int runner_texts_add_ids(struct runner_texts *texts, const struct model *model, yyjson_val *ids,
                         struct error **ret_error);
/* Makes room for the vectors and the job's units. */
int runner_texts_finish(struct runner_job *job, struct error **ret_error);
size_t runner_texts_tokens(const struct runner_texts *texts);
void runner_texts_clear(struct runner_texts *texts);

/* ---- what is said about the model ------------------------------------------ */

void v2_fail(struct http_request *request, const struct error *error); /* {"error": "…"} */
char *runner_metadata(const struct runner_service *service, const char *name, size_t *ret_size);
char *runner_metrics(const struct runner_service *service, size_t *ret_size); /* Prometheus text; caller frees */
uint64_t runner_memory_pss(void); /* bytes; slow, exact */
uint64_t runner_memory_resident(void); /* bytes; quick */
