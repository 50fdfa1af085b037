/* The gateway's life, and a tour.
 *
 *   gateway_supervisor.c   hears from the supervisor who is up and when routes change
 *   gateway_reader.c       reads the control database on a worker: routes, and why a name has none
 *   gateway_routes.c       snapshots of the routes, each with its generation
 *   gateway_replicas.c     who is up at which address; lanes: the queue and figures of one revision
 *   gateway_queue.c        the queue itself
 *   gateway_exchange.c     one request from head to end; the server's handler
 *   gateway_door.c         the port, plain or over TLS, and the control socket
 *   gateway_dispatch.c     method and path to a route of http/routes.def
 *   gateway_auth.c         who asks, and whether they may; gateway_limits.c: what a limited token may use
 *   gateway_tokens.c       the tokens that are valid, and what each has left of its rate
 *   gateway_v2.c gateway_openai.c gateway_own.c gateway_control.c gateway_openapi.c   what each route does
 *   gateway_openapi_schema.c gateway_openapi_operation.c    what /openapi.json is made of
 *   gateway_proxy.c        a data request's steps: body, routes, queue, replica, again
 *   gateway_relay.c        to a replica or the controller and back, with gateway_headers.c
 *   gateway_collections.c  the collections: opened when first asked for, each with its pair (gateway_pair.c)
 *   gateway_writes.c       a collection's writes, one append at a time; gateway_indexed.c waits for the index
 *   gateway_documents.c gateway_bulk.c gateway_export.c     one document, many, all
 *   gateway_search.c       a search: gateway_embed.c has its query embedded, gateway_find.c compares and reads, and
 *                          gateway_queries.c keeps its text
 *   gateway_hold.c         control requests wait while the controller is replaced
 *   gateway_handover.c     connections go from a gateway to its successor
 *   gateway_workers.c      the threads that these work on
 *   gateway_errors.c       errors in each family's shape
 *   gateway_metrics.c gateway_exposition.c gateway_access_log.c     what is counted and written
 *   gateway_trace.c gateway_trace_spans.c gateway_trace_sender.c gateway_traceparent.c     traces, if they are wanted
 *
 * Start: hello, the supervisor's snapshot, the routes; then it accepts. End: SIGTERM drains; a lost supervisor or the
 * drain's deadline breaks off. All of it is one loop thread; routes are read on libuv's workers. */
#include "gateway/gateway.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "gateway/gateway-internal.h"
#include "wire/role.h"

#define CONNECT_TIMEOUT_MS 2000
#define CONTROL_ANSWER_TIMEOUT_MS (10u * 60 * 1000) /* waiting for a deployment is a request */
#define CONTROL_PAUSE_MS (60u * 1000) /* in an answer: one that follows something says nothing for 15 s at most */
#define PROBE_TIMEOUT_MS 1000
#define DRAIN_SPARE_MAXIMUM_MS 500u
#define IDLE_MAXIMUM 64 /* connections kept to one address */

/* ---- upstream ------------------------------------------------------------ */

static struct http_pool *controller_pool(const struct gateway *gateway, uint64_t connect_ms, uint64_t answer_ms) {
    _cleanup_free_ char *address = text_format("unix:%s/run/controller.sock", gateway->settings->state);
    struct http_pool_config config = gateway->replicas.pool;
    config.address = address;
    config.connect_timeout_ms = connect_ms;
    config.answer_timeout_ms = answer_ms;
    if (config.body_timeout_ms < CONTROL_PAUSE_MS) config.body_timeout_ms = CONTROL_PAUSE_MS;
    return http_pool_new(&config);
}

static void open_upstream(struct gateway *gateway) {
    const struct settings *settings = gateway->settings;
    gateway->replicas.in_flight_maximum = settings->in_flight_maximum;
    gateway->replicas.queue_maximum = settings->queue_maximum;
    gateway->replicas.pool = (struct http_pool_config){
        .loop = gateway->config.loop,
        .idle_maximum = settings->in_flight_maximum < IDLE_MAXIMUM ? settings->in_flight_maximum : IDLE_MAXIMUM,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .answer_timeout_ms = settings->upstream_timeout_ms,
        .body_timeout_ms = settings->body_timeout_ms,
        .head_maximum = settings->head_maximum,
    };
    gateway->controller = controller_pool(gateway, CONNECT_TIMEOUT_MS, CONTROL_ANSWER_TIMEOUT_MS);
    gateway->controller_probe = controller_pool(gateway, PROBE_TIMEOUT_MS, PROBE_TIMEOUT_MS);
}

/* ---- start --------------------------------------------------------------- */

static void open_server(struct gateway *gateway) {
    const struct settings *settings = gateway->settings;
    const struct http_server_config config = {
        .loop = gateway->config.loop,
        .handler = &gateway_http_handler,
        .context = gateway,
        .limits = {.head_maximum = settings->head_maximum,
                   .body_maximum = settings->body_maximum,
                   .connections_maximum = settings->connections_maximum,
                   .header_timeout_ms = settings->header_timeout_ms,
                   .body_timeout_ms = settings->body_timeout_ms,
                   .idle_timeout_ms = settings->idle_timeout_ms},
    };
    gateway->server = http_server_new(&config);
}

static void set_id_prefix(struct gateway *gateway) {
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random) random = uv_hrtime() ^ (uint64_t)getpid() << 40;
    snprintf(gateway->id_prefix, sizeof gateway->id_prefix, "%016llx", (unsigned long long)random);
}

static void open_timers(struct gateway *gateway) {
    uv_timer_t *timers[] = {&gateway->deadline_timer, &gateway->suspect_timer, &gateway->drain_timer,
                            &gateway->lost_timer, &gateway->hold.timer};
    for (size_t i = 0; i < ARRAY_SIZE(timers); i++) {
        uv_timer_init(gateway->config.loop, timers[i]);
        timers[i]->data = gateway;
    }
}

static void bind_route(void *context, struct gateway_route *route) {
    struct gateway *gateway = context;
    gateway_replicas_bind(&gateway->replicas, route);
}

static void bind_collection(void *context, struct gateway_collection_name *name) {
    name->collection = gateway_collection_take(context, name->id, name->name);
}

static void unbind_collection(void *context, struct gateway_collection_name *name) {
    (void)context;
    gateway_collection_release(name->collection);
}

static void unbind_route(void *context, struct gateway_route *route) {
    struct gateway *gateway = context;
    gateway_replicas_unbind(&gateway->replicas, route);
}

struct gateway *gateway_new(const struct gateway_config *config) {
    struct gateway *gateway = mem_new(struct gateway);
    gateway->config = *config;
    gateway->settings = config->settings;
    gateway->routes.binder = (struct gateway_route_binder){
        .bind = bind_route,
        .unbind = unbind_route,
        .bind_collection = bind_collection,
        .unbind_collection = unbind_collection,
        .use_changed = gateway_tell_routes_used,
        .context = gateway,
    };
    set_id_prefix(gateway);
    open_timers(gateway);
    open_upstream(gateway);
    open_server(gateway);
    gateway->dispatch = gateway_dispatch_new();
    gateway->digest = digest_new();
    if (gateway->settings->access_log) gateway->access_log = gateway_access_log_new(config->loop, STDERR_FILENO);
    gateway->tracer = gateway_tracer_new(gateway->id_prefix);
    gateway_tracer_configure(gateway->tracer, gateway->settings->otlp_endpoint,
                             (unsigned)gateway->settings->trace_percent);
    gateway_collections_open(gateway);
    gateway->reader = gateway_reader_new(gateway);
    gateway_supervisor_open(gateway);
    return gateway;
}

void gateway_start_serving(struct gateway *gateway) {
    if (gateway->phase != GATEWAY_STARTING) return;
    struct error *error = NULL;
    gateway->phase = GATEWAY_SERVING;
    if (!gateway_open_doors(gateway, &error)) {
        log_write(LOG_INFO, "accepting", NULL);
        gateway_tell_ready(gateway);
        return;
    }
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_ERROR, "cannot accept connections", "cause", text, NULL);
    gateway_tell_failed(gateway, text);
    error_free(error);
    gateway_end(gateway, ROLE_EXIT_PERMANENT);
}

/* ---- end ----------------------------------------------------------------- */

static void on_drained(void *context) {
    gateway_end(context, 0);
}

static void on_drain_deadline(uv_timer_t *timer) {
    struct gateway *gateway = timer->data;
    char open[24];
    snprintf(open, sizeof open, "%zu", gateway->exchange_count);
    log_write(LOG_WARNING, "the drain deadline is over; breaking off what is left", "requests", open, NULL);
    gateway_end(gateway, 0);
}

/* Shorter than what the supervisor, which then kills, allows: what is broken off is still to be told and logged. */
static uint64_t drain_time_ms(const struct settings *settings) {
    uint64_t spare_ms = settings->drain_ms / 8;
    return settings->drain_ms - (spare_ms < DRAIN_SPARE_MAXIMUM_MS ? spare_ms : DRAIN_SPARE_MAXIMUM_MS);
}

bool gateway_is_serving(const struct gateway *gateway) {
    return gateway->phase == GATEWAY_SERVING || (gateway->phase == GATEWAY_DRAINING && gateway->handover);
}

void gateway_begin_draining(struct gateway *gateway) {
    gateway->phase = GATEWAY_DRAINING;
    gateway_control_cut_endless(gateway);
    uv_timer_start(&gateway->drain_timer, on_drain_deadline, drain_time_ms(gateway->settings), 0);
}

void gateway_drain(struct gateway *gateway) {
    if (gateway->phase == GATEWAY_STARTING) {
        gateway_end(gateway, 0);
    } else if (gateway->phase == GATEWAY_SERVING) {
        log_write(LOG_INFO, "draining", NULL);
        gateway_begin_draining(gateway);
        http_server_drain(gateway->server, on_drained, gateway);
    }
}

void gateway_end(struct gateway *gateway, int exit_status) {
    if (gateway->phase == GATEWAY_ENDED) return;
    gateway->phase = GATEWAY_ENDED;
    gateway_supervisor_close(gateway);
    http_server_close(gateway->server);
    uv_handle_t *handles[] = {(uv_handle_t *)&gateway->deadline_timer,  (uv_handle_t *)&gateway->suspect_timer,
                              (uv_handle_t *)&gateway->drain_timer,     (uv_handle_t *)&gateway->lost_timer,
                              (uv_handle_t *)&gateway->supervisor_poll, (uv_handle_t *)&gateway->hold.timer};
    gateway_handover_close(gateway);
    for (size_t i = 0; i < ARRAY_SIZE(handles); i++) uv_close(handles[i], NULL);
    gateway_collections_close(gateway);
    gateway_reader_close(gateway->reader);
    gateway_replicas_close(&gateway->replicas);
    http_pool_release(gateway->controller);
    http_pool_release(gateway->controller_probe);
    gateway_access_log_close(gateway->access_log);
    gateway->config.on_end(gateway->config.context, exit_status);
}

void gateway_free(struct gateway *gateway) {
    gateway_routes_close(&gateway->routes);
    vector_pool_free(gateway->collections.pool);
    gateway_replicas_forget_lanes(&gateway->replicas, UINT64_MAX);
    wire_channel_free(gateway->supervisor);
    gateway_handover_free(gateway);
    gateway_access_log_free(gateway->access_log);
    gateway_dispatch_free(gateway->dispatch);
    digest_free(gateway->digest);
    gateway_free_spare_exchanges(gateway);
    gateway_close_doors(gateway);
    free(gateway->description.json);
    gateway_tracer_free(gateway->tracer);
    free(gateway->headers);
    free(gateway);
}

/* ---- the role ------------------------------------------------------------- */

struct role {
    struct gateway *gateway;
    uv_signal_t sigterm;
    int exit_status;
};

static void on_sigterm(uv_signal_t *signal, int number) {
    (void)number;
    struct role *role = signal->data;
    gateway_drain(role->gateway);
}

static void on_end(void *context, int exit_status) {
    struct role *role = context;
    role->exit_status = exit_status;
    uv_close((uv_handle_t *)&role->sigterm, NULL);
}

/* Bodies come and go with every request: giving their pages back each time costs more than the rest of the request. */
static void keep_some_memory(void) {
    mallopt(M_ARENA_MAX, 2);
    mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 4 * 1024 * 1024);
}

int gateway_main(struct settings *settings) {
    log_open_as("gateway", settings->log_level, settings->log_format);
    keep_some_memory();
    setenv("UV_THREADPOOL_SIZE", "2", 0); /* the reader, and a log write or a search beside it */

    uv_loop_t loop;
    struct role role = {0};
    uv_loop_init(&loop);
    uv_signal_init(&loop, &role.sigterm);
    role.sigterm.data = &role;
    uv_signal_start(&role.sigterm, on_sigterm, SIGTERM);
    role.gateway = gateway_new(&(struct gateway_config){.loop = &loop,
                                                        .settings = settings,
                                                        .supervisor = ROLE_DESCRIPTOR_SUPERVISOR,
                                                        .listener = ROLE_DESCRIPTOR_LISTENER,
                                                        .control = ROLE_DESCRIPTOR_CONTROL,
                                                        .on_end = on_end,
                                                        .context = &role});
    uv_run(&loop, UV_RUN_DEFAULT);
    gateway_free(role.gateway);
    uv_loop_close(&loop);
    return role.exit_status;
}
