/* The main loop: the supervisor's channel, start, end, and the hourly retention. Everything that blocks is done by
 * worker threads; what they say to the supervisor goes through an outbox (wire_channel belongs to one thread). */
#include "controller/controller.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/collections.h"
#include "controller/registries.h"
#include "slipway_version.h"
#include "wire/role.h"
#include "wire/wire.h"

#define RETENTION_MS (60ull * 60 * 1000)
#define LOCK_WAIT_MS 10000 /* a controller that was killed is reaped by then */

struct outgoing {
    char *bytes;
    size_t size;
    struct outgoing *next;
};

struct process {
    struct controller controller;
    struct wire_channel *supervisor;
    uv_poll_t channel;
    uv_async_t outbox_woken;
    uv_timer_t retention;
    uv_signal_t terminate;
    uv_work_t start_work, retention_work, registries_work;
    pthread_mutex_t outbox_mutex;
    struct outgoing *outbox, **outbox_end;
    char *roots[64];
    size_t root_count;
    struct error *start_error;
    int lock, status;
    bool ending, started, retaining, rereading, reread_again;
};

static struct process *process_of(struct controller *controller) {
    return CONTAINER_OF(controller, struct process, controller);
}

/* ---- saying ---- */

static void end(struct process *process, int status) {
    if (process->ending) return;
    process->ending = true;
    process->status = status;
    uv_stop(process->controller.loop);
}

static void on_channel(uv_poll_t *poll, int status, int events);

static void watch_channel(struct process *process) {
    int events = UV_READABLE | UV_DISCONNECT | (wire_channel_wants_write(process->supervisor) ? UV_WRITABLE : 0);
    uv_poll_start(&process->channel, events, on_channel);
}

void controller_say(struct controller *controller, const struct wire_message *message) {
    struct process *process = process_of(controller);
    _cleanup_error_ struct error *error = NULL;
    if (process->ending) return;
    if (wire_send(process->supervisor, message, &error) < 0) {
        _cleanup_free_ char *text = error_text(error);
        log_write(LOG_ERROR, "the supervisor cannot be told; ending", "error", text, NULL);
        end(process, EXIT_FAILURE);
        return;
    }
    watch_channel(process);
}

static int put_into_outbox(const struct wire_message *message, void *context, struct error **ret_error) {
    struct process *process = context;
    struct outgoing *outgoing = mem_new(struct outgoing);
    int result = wire_encode(message, &outgoing->bytes, &outgoing->size, ret_error);
    if (result < 0) {
        free(outgoing);
        return result;
    }
    pthread_mutex_lock(&process->outbox_mutex);
    *process->outbox_end = outgoing;
    process->outbox_end = &outgoing->next;
    pthread_mutex_unlock(&process->outbox_mutex);
    uv_async_send(&process->outbox_woken);
    return 0;
}

static struct outgoing *take_outbox(struct process *process) {
    pthread_mutex_lock(&process->outbox_mutex);
    struct outgoing *outbox = process->outbox;
    process->outbox = NULL;
    process->outbox_end = &process->outbox;
    pthread_mutex_unlock(&process->outbox_mutex);
    return outbox;
}

static void send_outbox(uv_async_t *async) {
    struct process *process = async->data;
    for (struct outgoing *outgoing = take_outbox(process), *next; outgoing; outgoing = next) {
        next = outgoing->next;
        _cleanup_wire_message_ struct wire_message message = {0};
        if (wire_decode(outgoing->bytes, outgoing->size, &message, NULL) >= 0)
            controller_say(&process->controller, &message);
        free(outgoing->bytes);
        free(outgoing);
    }
}

static void announce_routes(uint64_t generation, void *context) {
    put_into_outbox(&(struct wire_message){.type = WIRE_routes_changed, .routes_changed = {.generation = generation}},
                    context, NULL);
}

/* ---- hearing ---- */

static void begin_start(struct process *process);
static void begin_reread(struct process *process);

static void take_target_event(struct process *process, const struct target_event *event) {
    replicas_take_event(process->controller.replicas, event);
    if (event->kind == TARGET_SYNCED) begin_start(process);
}

static void take_message(struct process *process, const struct wire_message *message) {
    struct controller *controller = &process->controller;
    struct target_event event;
    if (local_target_event(message, &event)) {
        take_target_event(process, &event);
        return;
    }
    switch (message->type) {
    case WIRE_ping:
        controller_say(controller,
                       &(struct wire_message){.type = WIRE_pong, .pong = {.sequence = message->ping.sequence}});
        break;
    case WIRE_gateway_up: routing_gateway_up(controller->routing, message->gateway_up.gateway_id); break;
    case WIRE_gateway_down: routing_gateway_down(controller->routing, message->gateway_down.gateway_id); break;
    case WIRE_routes_used:
        routing_gateway_uses(controller->routing, message->routes_used.gateway_id, message->routes_used.generation,
                             message->routes_used.lowest);
        break;
    case WIRE_registries_changed: begin_reread(process); break;
    case WIRE_collection_events: outbox_note(controller->outbox, message->collection_events.collection_id); break;
    default:
        if (controller->api && api_take_message(controller->api, message)) break;
        if (controller->indexer) indexer_link_take(controller->indexer, message);
    }
}

/* The supervisor is gone: nothing that we could do would reach anyone (P2, P3). */
static void lose_supervisor(struct process *process, const struct error *error) {
    _cleanup_free_ char *text = error ? error_text(error) : NULL;
    log_write(LOG_WARNING, "the supervisor is gone; ending", "error", text, NULL);
    end(process, EXIT_FAILURE);
}

static void on_channel(uv_poll_t *poll, int status, int events) {
    struct process *process = poll->data;
    _cleanup_error_ struct error *error = NULL;
    if (status < 0 || ((events & UV_WRITABLE) && wire_flush(process->supervisor, &error) < 0)) {
        lose_supervisor(process, error);
        return;
    }
    while (!process->ending) {
        _cleanup_wire_message_ struct wire_message message = {0};
        int received = wire_receive(process->supervisor, &message, &error);
        if (received < 0) lose_supervisor(process, error);
        if (received <= 0) break;
        take_message(process, &message);
    }
    if (!process->ending) watch_channel(process);
}

/* ---- start ---- */

static void fail_start(struct process *process, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_ERROR, "the controller cannot start", "error", text, NULL);
    wire_say(process->supervisor, role_failed, .message = text);
    wire_flush(process->supervisor, NULL);
    bool permanent = error && !error->transient && error->class == ERROR_CONFIGURATION;
    end(process, permanent ? ROLE_EXIT_PERMANENT : EXIT_FAILURE);
}

static void run_retention(uv_work_t *work) {
    struct process *process = work->data;
    _cleanup_error_ struct error *error = NULL;
    if (retention_run(&process->controller, &error) >= 0) return;
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_WARNING, "old records cannot be deleted now", "error", text, NULL);
}

static void after_retention(uv_work_t *work, int status) {
    (void)status;
    ((struct process *)work->data)->retaining = false;
}

static void begin_retention(uv_timer_t *timer) {
    struct process *process = timer->data;
    if (process->retaining) return;
    process->retaining = true;
    uv_queue_work(process->controller.loop, &process->retention_work, run_retention, after_retention);
}

static void run_start(uv_work_t *work) {
    struct process *process = work->data;
    struct controller *controller = &process->controller;
    if (engine_reconcile(controller->engine, &process->start_error) >= 0)
        outbox_start(controller->outbox, &process->start_error);
}

static void after_start(uv_work_t *work, int status) {
    struct process *process = work->data;
    _cleanup_error_ struct error *error = TAKE(process->start_error);
    (void)status;
    if (process->ending) return;
    if (!error) api_listen(process->controller.api, &error);
    if (error) {
        fail_start(process, error);
        return;
    }
    uv_timer_start(&process->retention, begin_retention, 0, RETENTION_MS);
    controller_say(&process->controller, &(struct wire_message){.type = WIRE_role_ready});
    log_write(LOG_INFO, "the controller answers", NULL);
}

static void begin_start(struct process *process) {
    if (process->started) return;
    process->started = true;
    uv_queue_work(process->controller.loop, &process->start_work, run_start, after_start);
}

/* ---- the registries file ---- */

static void run_reread(uv_work_t *work) {
    registries_read_again(((struct process *)work->data)->controller.registries);
}

static void after_reread(uv_work_t *work, int status) {
    struct process *process = work->data;
    (void)status;
    process->rereading = false;
    if (process->reread_again && !process->ending) begin_reread(process);
}

/* Asked once more while it is being read, it is read once more: the change may have come behind the reading. */
static void begin_reread(struct process *process) {
    process->reread_again = process->rereading;
    if (process->rereading) return;
    process->rereading = true;
    uv_queue_work(process->controller.loop, &process->registries_work, run_reread, after_reread);
}

/* ---- parts ---- */

/* Exactly one controller a state folder. The one before may still be being reaped. */
static int take_lock(struct process *process, struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(process->controller.settings->state, "controller.lock");
    process->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (process->lock < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "open %s", path);
    uint64_t deadline = clock_monotonic_ms() + LOCK_WAIT_MS;
    while (flock(process->lock, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "lock %s", path);
        if (clock_monotonic_ms() >= deadline) {
            error_set(ret_error, ERROR_UNAVAILABLE, "lock %s: another controller holds it", path);
            return error_mark_transient(ret_error);
        }
        usleep(50 * 1000);
    }
    return 0;
}

static void take_roots(struct process *process) {
    char *rest = process->controller.settings->model_roots, *copy = text_copy(rest), *save = NULL;
    for (char *root = strtok_r(copy, ":", &save); root && process->root_count < ARRAY_SIZE(process->roots);
         root = strtok_r(NULL, ":", &save)) {
        char *real = realpath(root, NULL);
        process->roots[process->root_count++] = real ? real : text_copy(root);
    }
    free(copy);
    process->controller.registry =
        (struct registry_context){.roots = (const char *const *)process->roots, .root_count = process->root_count};
}

static int open_parts(struct process *process, struct error **ret_error) {
    struct controller *controller = &process->controller;
    _cleanup_free_ char *database = fs_join(controller->settings->state, "control.db");
    _cleanup_free_ char *packages = fs_join(controller->settings->state, "packages");
    int result = take_lock(process, ret_error);
    if (result < 0 ||
        (result = registries_new(controller->settings, &controller->registry, getenv(ROLE_VARIABLE_STRICT) != NULL,
                                 &controller->registries, ret_error)) < 0)
        return result;
    controller->registry = registries_context(controller);
    if ((result = store_open(database, &controller->store, ret_error)) < 0) return result;
    controller->packages = &folder_packages;
    result = controller->packages->open(packages, &controller->package_store, ret_error);
    if (result < 0) return result;
    controller->target_ops = &local_target;
    controller->target = local_target_new(put_into_outbox, process, controller->settings->memory_budget);
    controller->replicas = replicas_new();
    controller->routing = routing_new(announce_routes, process);
    controller->indexer = indexer_link_new(put_into_outbox, process);
    controller->outbox = outbox_new(controller);
    if ((result = engine_new(controller, &controller->engine, ret_error)) < 0) return result;
    return api_new(controller, &controller->api, ret_error);
}

/* ---- end ---- */

static void on_terminate(uv_signal_t *signal, int number) {
    (void)number;
    log_write(LOG_INFO, "asked to end; tasks go on at the next start", NULL);
    end(signal->data, EXIT_SUCCESS);
}

static void close_handle(uv_handle_t *handle, void *context) {
    (void)context;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

/* Running tasks are interrupted and stay `processing`. What is queued on libuv's pool is waited for by the last run of
 * the loop. */
static void close_parts(struct process *process) {
    struct controller *controller = &process->controller;
    engine_stop(controller->engine);
    if (controller->api) api_close(controller->api);
    uv_walk(controller->loop, close_handle, NULL);
    while (uv_run(controller->loop, UV_RUN_DEFAULT)) continue; /* the first still obeys end() when none ran before */
    engine_free(controller->engine);
    outbox_free(controller->outbox);
    api_free(controller->api);
    indexer_link_free(controller->indexer);
    routing_free(controller->routing);
    replicas_free(controller->replicas);
    local_target_free(controller->target);
    registries_free(controller->registries);
    if (controller->package_store) controller->packages->close(controller->package_store);
    store_close(controller->store);
    for (struct outgoing *outgoing = take_outbox(process), *next; outgoing; outgoing = next) {
        next = outgoing->next;
        free(outgoing->bytes);
        free(outgoing);
    }
    for (size_t i = 0; i < process->root_count; i++) free(process->roots[i]);
    wire_channel_free(process->supervisor);
    mem_close_descriptor(&process->lock);
    error_free(process->start_error);
}

static void open_handles(struct process *process) {
    uv_loop_t *loop = process->controller.loop;
    uv_poll_init(loop, &process->channel, wire_channel_descriptor(process->supervisor));
    uv_async_init(loop, &process->outbox_woken, send_outbox);
    uv_timer_init(loop, &process->retention);
    uv_signal_init(loop, &process->terminate);
    process->channel.data = process->outbox_woken.data = process->retention.data = process->terminate.data = process;
    process->start_work.data = process->retention_work.data = process->registries_work.data = process;
    uv_signal_start(&process->terminate, on_terminate, SIGTERM);
}

static void open_log(const struct settings *settings) {
    log_open_as("controller", settings->log_level, settings->log_format);
}

int controller_main(struct settings *settings) {
    struct process process = {.controller = {.settings = settings}, .lock = -1};
    uv_loop_t loop;
    _cleanup_error_ struct error *error = NULL;
    signal(SIGPIPE, SIG_IGN);
    setenv("UV_THREADPOOL_SIZE", "8", 0); /* packages that are made of uploads take up to UPLOADS_MAXIMUM of them */
    open_log(settings);
    uv_loop_init(&loop);
    process.controller.loop = &loop;
    process.outbox_end = &process.outbox;
    pthread_mutex_init(&process.outbox_mutex, NULL);
    process.supervisor = wire_channel_new(ROLE_DESCRIPTOR_SUPERVISOR);
    open_handles(&process);
    take_roots(&process);
    pause_point("controller_starts");
    if (open_parts(&process, &error) < 0) {
        fail_start(&process, error);
    } else {
        watch_channel(&process);
        controller_say(&process.controller,
                       &(struct wire_message){
                           .type = WIRE_hello,
                           .hello = {.role = "controller", .version = SLIPWAY_VERSION, .pid = (uint64_t)getpid()}});
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    close_parts(&process);
    uv_loop_close(&loop);
    pthread_mutex_destroy(&process.outbox_mutex);
    return process.status;
}
