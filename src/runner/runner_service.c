#include "runner/runner_service-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "slipway_version.h"

#define SEGMENTS_MAXIMUM 8

/* What a route's handler is given: the decoded segments of its {} parts. */
struct route_call {
    struct runner_service *service;
    struct http_request *request;
    const char *model, *version; /* or NULL */
};

/* ---- answers that need no inference ------------------------------------------- */

static void respond(struct route_call *call, int status, const char *type, const char *body, size_t size) {
    const struct http_header header = {"Content-Type", type};
    call->service->statistics.requests[status / 100]++;
    http_respond(call->request, status, &header, 1, body, size, NULL);
}

static void respond_json(struct route_call *call, const char *json) {
    respond(call, 200, "application/json", json, strlen(json));
}

static void serve_live(struct route_call *call) {
    respond_json(call, "{\"live\":true}");
}

static void serve_ready(struct route_call *call) {
    respond_json(call, "{\"ready\":true}");
}

static void serve_model_ready(struct route_call *call) {
    _cleanup_free_ char *json = text_format("{\"name\":\"%s\",\"ready\":true}", call->service->model_name);
    respond_json(call, json); /* the name is a text_is_name(): nothing in it needs escaping */
}

static void serve_server(struct route_call *call) {
    respond_json(call,
                 "{\"name\":\"slipway\",\"version\":\"" SLIPWAY_VERSION "\",\"extensions\":[\"binary_tensor_data\"]}");
}

static void serve_model(struct route_call *call) {
    size_t size;
    _cleanup_free_ char *json = runner_metadata(call->service, call->model, &size);
    respond(call, 200, "application/json", json, size);
}

static void serve_models(struct route_call *call) {
    _cleanup_free_ char *json = text_format(
        "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":0,\"owned_by\":\"slipway\"}]}",
        call->service->model_name);
    respond_json(call, json);
}

static void serve_metrics(struct route_call *call) {
    size_t size;
    _cleanup_free_ char *text = runner_metrics(call->service, &size);
    respond(call, 200, "text/plain; version=0.0.4", text, size);
}

/* ---- inference ---------------------------------------------------------------- */

static void serve_infer(struct route_call *call) {
    bool embedding = call->service->model->recipe->kind == RECIPE_EMBEDDING;
    runner_job_start(call->service, call->request, embedding ? &v2_text_protocol : &v2_tensor_protocol, call->model);
}

static void serve_embeddings(struct route_call *call) {
    if (call->service->model->recipe->kind == RECIPE_EMBEDDING) {
        runner_job_start(call->service, call->request, &openai_protocol, NULL);
        return;
    }
    _cleanup_error_ struct error *error = NULL;
    error_set(&error, ERROR_REQUEST, "this is not an embedding model; ask it at /v2/models/%s/infer",
              call->service->model_name);
    call->service->statistics.requests[4]++;
    openai_protocol.fail(call->request, error);
}

/* ---- routes ------------------------------------------------------------------- */

static const struct route {
    const char *method, *pattern;
    void (*serve)(struct route_call *call);
} routes[] = {
    {"GET", "livez", serve_live},
    {"GET", "readyz", serve_ready},
    {"GET", "metrics", serve_metrics},
    {"GET", "v2", serve_server},
    {"GET", "v2/health/live", serve_live},
    {"GET", "v2/health/ready", serve_ready},
    {"GET", "v2/models/{model}", serve_model},
    {"GET", "v2/models/{model}/ready", serve_model_ready},
    {"POST", "v2/models/{model}/infer", serve_infer},
    {"GET", "v2/models/{model}/versions/{version}", serve_model},
    {"GET", "v2/models/{model}/versions/{version}/ready", serve_model_ready},
    {"POST", "v2/models/{model}/versions/{version}/infer", serve_infer},
    {"POST", "v1/embeddings", serve_embeddings},
    {"GET", "v1/models", serve_models},
};

static bool matches(const char *pattern, const char *const *segments, int count, struct route_call *call) {
    for (int i = 0; i < count; i++) {
        size_t size = strcspn(pattern, "/");
        if (!size) return false;
        if (text_starts_with(pattern, "{model}"))
            call->model = segments[i];
        else if (text_starts_with(pattern, "{version}"))
            call->version = segments[i];
        else if (strlen(segments[i]) != size || memcmp(pattern, segments[i], size))
            return false;
        pattern += size;
        if (*pattern == '/') pattern++;
    }
    return !*pattern;
}

static void refuse(struct route_call *call, const struct error *error) {
    call->service->statistics.requests[error->http_status / 100]++;
    if (text_starts_with(call->request->path, "/v2"))
        v2_fail(call->request, error);
    else if (text_starts_with(call->request->path, "/v1/embeddings"))
        openai_protocol.fail(call->request, error);
    else
        http_respond_error(call->request, error);
}

/* Whether the path's model and version are the ones that live here. */
static int check_model(const struct route_call *call, struct error **ret_error) {
    const struct runner_service *service = call->service;
    if (call->model && !service->any_name && !text_equal(call->model, service->model_name))
        return error_set(ret_error, ERROR_NOT_FOUND, "there is no model %.128s here; this is %s", call->model,
                         service->model_name);
    if (call->version && !text_equal(call->version, service->version))
        return error_set(ret_error, ERROR_NOT_FOUND, "the model has no version %.128s here; this is version %s",
                         call->version, service->version);
    return 0;
}

static void dispatch(struct http_request *request, void *context) {
    struct route_call call = {.service = context, .request = request};
    _cleanup_error_ struct error *error = NULL;
    const char *segments[SEGMENTS_MAXIMUM];
    int count = http_request_segments(request, segments, SEGMENTS_MAXIMUM);
    bool is_head = text_equal(request->method, "HEAD"), path_found = false;
    for (size_t i = 0; count > 0 && i < ARRAY_SIZE(routes); i++) {
        if (!matches(routes[i].pattern, segments, count, &call)) continue;
        path_found = true;
        if (!text_equal(is_head ? "GET" : request->method, routes[i].method)) continue;
        if (check_model(&call, &error) < 0)
            refuse(&call, error);
        else
            routes[i].serve(&call);
        return;
    }
    if (path_found)
        error_set_status(&error, ERROR_REQUEST, 405, "%s is not for %s", request->path, request->method);
    else
        error_set(&error, ERROR_NOT_FOUND, "there is nothing at %.200s", request->path);
    refuse(&call, error);
}

static enum http_body_mode on_head(struct http_request *request, void *context) {
    (void)context;
    request->context = NULL;
    return HTTP_BODY_WHOLE;
}

static void on_gone(struct http_request *request, void *context) {
    (void)context;
    struct runner_job *job = request->context;
    if (job) batch_abandon(&job->batch);
}

const struct http_handler runner_handler = {.on_head = on_head, .on_request = dispatch, .on_gone = on_gone};

/* ---- life --------------------------------------------------------------------- */

void runner_service_open(struct runner_service *service, uv_loop_t *loop, struct model *model, const char *model_name,
                         bool any_name, uint64_t revision, const struct batch_config *limits) {
    *service = (struct runner_service){
        .loop = loop, .model = model, .model_name = model_name, .any_name = any_name, .batch = *limits};
    snprintf(service->version, sizeof service->version, "%" PRIu64, revision);
    service->batch.together = model->together;
    service->batch.run = runner_job_run;
    service->batch.finished = runner_job_has_run;
    service->batch.context = service;
    pthread_mutex_init(&service->lock, NULL);
    service->wake_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    uv_poll_init(loop, &service->wake, service->wake_descriptor);
    service->wake.data = service;
    uv_poll_start(&service->wake, UV_READABLE, runner_jobs_finished);
    service->batcher = batcher_new(&service->batch);
}

void runner_service_close(struct runner_service *service) {
    if (!service->batcher) return;
    batcher_free(service->batcher);
    service->batcher = NULL;
    uv_poll_stop(&service->wake);
    uv_close((uv_handle_t *)&service->wake, NULL);
    close(service->wake_descriptor);
    pthread_mutex_destroy(&service->lock);
}
