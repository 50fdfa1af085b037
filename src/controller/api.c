/* The control API's way in and out: a request is matched against http/routes.def, taken apart on the loop thread,
 * handled on libuv's pool, and answered on the loop thread. Calls that wait stand in a list and are looked at again
 * when api_changed() says that the store changed. */
#include "controller/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/api_processes.h"
#include "controller/api_upgrade.h"
#include "controller/follow.h"
#include "controller/packages.h"
#include "controller/upload.h"

#define UPLOAD_PATH "/v1/packages" /* by POST: its body is streamed */
#define PAGE_MAXIMUM 1000
#define WAIT_MAXIMUM_S 600

struct route {
    const char *method, *pattern;
    int (*handler)(struct api_call *call, struct error **ret_error);
};

#define ROUTE_OWN(...)
#define ROUTE_HEALTH(...)
#define ROUTE_DATA(...)
#define ROUTE_DOCUMENT(...)
#define ROUTE_CONTROL(method, pattern, name) {method, pattern, api_##name},
#define ROUTE(method, pattern, handler, role, name, summary) ROUTE_##handler(method, pattern, name)
static const struct route routes[] = {
#include "http/routes.def"
    {"GET", "/metrics", api_metrics},
};
#undef ROUTE

static const char *const parameter_names[API_PARAMETER_COUNT] = {
    "limit",      "offset",  "status",  "kind",   "parent_id", "deployment_id",
    "collection", "task_id", "timeout", "follow", "after",
};

struct api {
    struct controller *controller;
    struct http_server *server;
    uv_async_t woken;
    uv_timer_t timer;
    atomic_uint_fast64_t changes; /* counts api_changed() */
    struct api_call *waiting; /* loop thread only */
    struct process_questions *questions;
    struct upgrade_questions *upgrades;
    struct follows *follows;
    struct uploads *uploads;
    struct package_desk *desk;
};

/* ---- one call ---- */

static void call_free(struct api_call *call) {
    free(call->answer);
    error_free(call->error);
    process_list_free(call->processes);
    free(call->told);
    follow_free(call->follow);
    download_free(call->download);
    free(call);
}

static void send_answer(struct api_call *call) {
    char total[24];
    struct http_header headers[2] = {{"Content-Type", call->content_type ? call->content_type : "application/json"}};
    size_t count = 1;
    if (call->total_count >= 0) {
        snprintf(total, sizeof total, "%lld", (long long)call->total_count);
        headers[count++] = (struct http_header){"X-Total-Count", total};
    }
    if (call->error)
        http_respond_error(call->request, call->error);
    else
        http_respond(call->request, call->status, headers, count, TAKE(call->answer), call->answer_size, free);
    call_free(call);
}

static void run_on_pool(uv_work_t *work);
static void after_pool(uv_work_t *work, int status);

static void set_timer(struct api *api);

static void start_call(struct api *api, struct api_call *call) {
    call->seen_change = atomic_load(&api->changes);
    uv_queue_work(api->controller->loop, &call->work, run_on_pool, after_pool);
}

static void run_follow(struct api_call *call) {
    start_call(call->controller->api, call);
}

static void run_on_pool(uv_work_t *work) {
    struct api_call *call = CONTAINER_OF(work, struct api_call, work);
    int result = call->handler(call, &call->error);
    if (result < 0 && !call->error) error_set(&call->error, ERROR_DEPLOYMENT, "the request failed without a cause");
    call->status = result == API_WAIT && !call->error ? API_WAIT : call->status;
}

static void after_pool(uv_work_t *work, int status) {
    (void)status; /* work is never canceled */
    struct api_call *call = CONTAINER_OF(work, struct api_call, work);
    struct api *api = call->controller->api;
    if (call->follow) {
        follows_take(api->follows, call, call_free);
        return;
    }
    if (call->changed && !call->error) {
        engine_wake(call->controller->engine);
        api_changed(api);
    }
    if (call->download) {
        download_begin(call, call_free);
        return;
    }
    if (call->error || call->status != API_WAIT || http_is_gone(call->request)) {
        if (call->status == API_WAIT && !call->error)
            error_set(&call->error, ERROR_UNAVAILABLE, "the client went away");
        send_answer(call);
    } else if (call->seen_change != atomic_load(&api->changes)) {
        start_call(api, call); /* something changed while it looked */
    } else {
        call->next = api->waiting;
        api->waiting = call;
        set_timer(api);
    }
}

static void end_upload(struct api_call *call) {
    if (call->changed && !call->error) api_changed(call->controller->api);
    send_answer(call);
}

/* ---- calls that wait ---- */

/* Runs those again that have something new to look at, whose deadline is there, or whose client has gone. */
static void look_again(struct api *api) {
    struct api_call *waiting = TAKE(api->waiting);
    uint64_t now = clock_monotonic_ms(), changes = atomic_load(&api->changes);
    while (waiting) {
        struct api_call *call = waiting;
        waiting = call->next;
        call->wait_is_over = now >= call->wait_deadline_ms;
        if (call->seen_change != changes || call->wait_is_over || http_is_gone(call->request)) {
            start_call(api, call);
        } else {
            call->next = api->waiting;
            api->waiting = call;
        }
    }
    set_timer(api);
}

static void on_timer(uv_timer_t *timer) {
    look_again(timer->data);
}

static void on_woken(uv_async_t *woken) {
    struct api *api = woken->data;
    look_again(api);
    follows_look_again(api->follows);
}

/* One timer for the earliest deadline. */
static void set_timer(struct api *api) {
    uint64_t earliest = UINT64_MAX, now = clock_monotonic_ms();
    for (struct api_call *call = api->waiting; call; call = call->next)
        if (call->wait_deadline_ms < earliest) earliest = call->wait_deadline_ms;
    if (earliest == UINT64_MAX)
        uv_timer_stop(&api->timer);
    else
        uv_timer_start(&api->timer, on_timer, earliest > now ? earliest - now : 0, 0);
}

void api_changed(struct api *api) {
    if (!api) return;
    atomic_fetch_add(&api->changes, 1);
    uv_async_send(&api->woken);
}

/* ---- matching ---- */

/* Whether the segments fit the pattern; what its {…} take goes to arguments. */
static bool fits(const char *pattern, const char **segments, int count, const char **arguments) {
    int argument = 0;
    for (int i = 0; i < count; i++) {
        if (*pattern++ != '/') return false;
        size_t length = strcspn(pattern, "/");
        if (*pattern == '{')
            arguments[argument++] = segments[i];
        else if (strlen(segments[i]) != length || memcmp(segments[i], pattern, length))
            return false;
        pattern += length;
    }
    return !*pattern;
}

/* The route of a request, or NULL with an error: 404, or 405 when only the method is wrong. */
static const struct route *find_route(struct http_request *request, const char **arguments, struct error **ret_error) {
    const char *segments[API_SEGMENTS_MAXIMUM];
    int count = http_request_segments(request, segments, API_SEGMENTS_MAXIMUM);
    bool path_is_known = false;
    const char *method = text_equal(request->method, "HEAD") ? "GET" : request->method;
    for (size_t i = 0; count > 0 && i < ARRAY_SIZE(routes); i++) {
        if (!fits(routes[i].pattern, segments, count, arguments)) continue;
        if (text_equal(routes[i].method, method)) return &routes[i];
        path_is_known = true;
    }
    if (path_is_known)
        error_set_status(ret_error, ERROR_REQUEST, 405, "%s is not allowed on %s", request->method, request->path);
    else
        error_set(ret_error, ERROR_NOT_FOUND, "there is no route %s", request->path);
    return NULL;
}

/* ---- from HTTP to a call ---- */

static bool is_upload_path(const char *path) {
    return text_equal(path, UPLOAD_PATH) || text_equal(path, UPLOAD_PATH "/");
}

static enum http_body_mode on_head(struct http_request *request, void *context) {
    struct api *api = context;
    bool is_upload = text_equal(request->method, "POST") && is_upload_path(request->path);
    request->body_maximum =
        is_upload ? api->controller->settings->upload_maximum : api->controller->settings->control_body_maximum;
    return is_upload ? HTTP_BODY_STREAM : HTTP_BODY_WHOLE;
}

static int take_apart(struct api *api, struct http_request *request, struct api_call *call, struct error **ret_error) {
    const struct route *route = find_route(request, call->arguments, ret_error);
    if (!route) return -1;
    int result = http_check_parameters(request, parameter_names, API_PARAMETER_COUNT, ret_error);
    if (result < 0) return result;
    for (int i = 0; i < API_PARAMETER_COUNT; i++)
        call->parameters[i] = http_request_parameter(request, parameter_names[i]);
    call->controller = api->controller;
    call->handler = route->handler;
    call->idempotency_key = http_request_header(request, "Idempotency-Key");
    call->body = request->body;
    call->body_size = request->body_size;
    return 0;
}

static void on_request(struct http_request *request, void *context) {
    struct api *api = context;
    struct api_call *call = mem_new(struct api_call), *failed = NULL;
    call->request = request;
    request->context = call;
    call->total_count = -1;
    if (take_apart(api, request, call, &call->error) < 0)
        send_answer(call);
    else if (call->handler == api_package_import)
        uploads_begin(api->uploads, call);
    else if (call->handler == api_process_list || call->handler == api_metrics)
        process_questions_ask(api->questions, call); /* started when the supervisor has told */
    else if (!upgrade_questions_ask(api->upgrades, call, &failed))
        start_call(api, call);
    if (failed) send_answer(failed);
}

static void on_gone(struct http_request *request, void *context) {
    struct api *api = context;
    struct api_call *call = request->context; /* NULL: its body did not come whole */
    if (call && call->upload)
        uploads_gone(call);
    else if (call && call->is_downloading)
        download_gone(call);
    else if (call && call->is_following)
        follows_gone(api->follows, call, call_free);
    else
        look_again(api);
}

static void on_writable(struct http_request *request, void *context) {
    struct api *api = context;
    struct api_call *call = request->context;
    if (call && call->is_downloading)
        download_writable(call);
    else if (call && call->is_following)
        follows_writable(api->follows, call);
}

static void on_body(struct http_request *request, const char *bytes, size_t size, void *context) {
    (void)context;
    uploads_piece(request->context, bytes, size);
}

static void on_body_end(struct http_request *request, void *context) {
    (void)context;
    uploads_body_end(request->context);
}

static const struct http_handler handler = {
    .on_head = on_head,
    .on_request = on_request,
    .on_body = on_body,
    .on_body_end = on_body_end,
    .on_gone = on_gone,
    .on_writable = on_writable,
};

/* ---- for the handlers ---- */

int api_check_parameters(const struct api_call *call, unsigned allowed, struct error **ret_error) {
    for (int i = 0; i < API_PARAMETER_COUNT; i++)
        if (call->parameters[i] && !(allowed & 1u << i))
            return error_set(ret_error, ERROR_CONFIGURATION, "the query parameter %s has no meaning here",
                             parameter_names[i]);
    return 0;
}

int api_page(const struct api_call *call, int64_t *ret_limit, int64_t *ret_offset, struct error **ret_error) {
    uint64_t limit = 100, offset = 0;
    const char *limit_text = call->parameters[API_LIMIT], *offset_text = call->parameters[API_OFFSET];
    if (limit_text && (!text_parse_number(limit_text, PAGE_MAXIMUM, &limit) || limit < 1))
        return error_set(ret_error, ERROR_CONFIGURATION, "limit must be a whole number from 1 to %d, not \"%.64s\"",
                         PAGE_MAXIMUM, limit_text);
    if (offset_text && !text_parse_number(offset_text, INT64_MAX, &offset))
        return error_set(ret_error, ERROR_CONFIGURATION, "offset must be a whole number from 0, not \"%.64s\"",
                         offset_text);
    *ret_limit = (int64_t)limit;
    *ret_offset = (int64_t)offset;
    return 0;
}

int api_wait_deadline(struct api_call *call, struct error **ret_error) {
    if (call->wait_deadline_ms) return 0;
    uint64_t milliseconds = 60000;
    const char *text = call->parameters[API_TIMEOUT];
    if (text && (!text_parse_duration(text, &milliseconds) || milliseconds > WAIT_MAXIMUM_S * 1000))
        return error_set(ret_error, ERROR_CONFIGURATION, "timeout must be from 0 to %d seconds, not \"%.64s\"",
                         WAIT_MAXIMUM_S, text);
    call->wait_deadline_ms = clock_monotonic_ms() + milliseconds;
    call->wait_is_over = !milliseconds;
    return 0;
}

void api_answer(struct api_call *call, int status, yyjson_mut_doc *document, yyjson_mut_val *root) {
    yyjson_mut_doc_set_root(document, root);
    call->answer = json_write(document, &call->answer_size);
    call->status = status;
}

/* ---- life ---- */

int api_new(struct controller *controller, struct api **ret_api, struct error **ret_error) {
    struct api *api = mem_new(struct api);
    api->controller = controller;
    struct http_server_config config = {
        .loop = controller->loop,
        .limits = {.head_maximum = controller->settings->head_maximum,
                   .body_maximum = controller->settings->control_body_maximum,
                   .connections_maximum = controller->settings->connections_maximum,
                   /* Clients are the gateway's to judge, which stops reading for as long as one of them is slow. */
                   .header_timeout_ms = controller->settings->header_timeout_ms},
        .handler = &handler,
        .context = api,
    };
    api->woken.data = api->timer.data = api;
    if (uv_async_init(controller->loop, &api->woken, on_woken) < 0 ||
        uv_timer_init(controller->loop, &api->timer) < 0) {
        free(api);
        return error_set(ret_error, ERROR_DEPLOYMENT, "set up the control API's event handles");
    }
    api->server = http_server_new(&config);
    api->questions = process_questions_new(controller);
    api->upgrades = upgrade_questions_new(controller);
    api->follows = follows_new(controller, run_follow);
    api->uploads = uploads_new(controller, end_upload);
    api->desk = package_desk_new();
    *ret_api = api;
    return 0;
}

int api_listen(struct api *api, struct error **ret_error) {
    _cleanup_free_ char *address = text_format("unix:%s/run/controller.sock", api->controller->settings->state);
    int descriptor = -1;
    int result = http_listen(address, &descriptor, ret_error);
    if (result < 0) return result;
    return http_server_listen(api->server, descriptor, ret_error);
}

void api_close(struct api *api) {
    if (!api) return;
    package_desk_stop(api->desk);
    uploads_stop(api->uploads);
    http_server_close(api->server);
    follows_close(api->follows);
    uv_close((uv_handle_t *)&api->woken, NULL);
    uv_close((uv_handle_t *)&api->timer, NULL);
}

void api_free(struct api *api) {
    if (!api) return;
    process_questions_free(api->questions);
    upgrade_questions_free(api->upgrades);
    follows_free(api->follows);
    uploads_free(api->uploads);
    package_desk_free(api->desk);
    free(api);
}

struct package_desk *api_package_desk(struct api *api) {
    return api->desk;
}

bool api_take_message(struct api *api, const struct wire_message *message) {
    struct api_call *complete = NULL;
    if (!api) return false;
    if (!process_questions_take(api->questions, message, &complete) &&
        !upgrade_questions_take(api->upgrades, message, &complete))
        return false;
    if (complete) start_call(api, complete);
    return true;
}
