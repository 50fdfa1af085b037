#include "support/gateway_bed.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"

/* ---- the bed --------------------------------------------------------------- */

static void on_tick(uv_timer_t *timer) {
    (void)timer; /* only so that a turn of the loop ends */
}

void gateway_bed_open(struct gateway_bed *bed) {
    *bed = (struct gateway_bed){0};
    strcpy(bed->folder, "/tmp/slipway-test-XXXXXX");
    assert_non_null(mkdtemp(bed->folder));
    _cleanup_free_ char *run = fs_join(bed->folder, "run");
    assert_int_equal(fs_make_folders(run, NULL), 0);
    bed->settings = settings_new();
    assert_int_equal(settings_set(bed->settings, "state", bed->folder, NULL), 0);
    assert_int_equal(settings_set(bed->settings, "access_log", "false", NULL), 0);
    uv_loop_init(&bed->loop);
    uv_timer_init(&bed->loop, &bed->tick);
    uv_timer_start(&bed->tick, on_tick, 1, 1);
    bed->generation = 1;
}

void gateway_bed_make_database(struct gateway_bed *bed) {
    _cleanup_free_ char *path = fs_join(bed->folder, "control.db");
    assert_int_equal(store_open(path, &bed->store, NULL), 0);
}

static void on_end(void *context, int exit_status) {
    struct gateway_bed *bed = context;
    bed->has_ended = true;
    bed->exit_status = exit_status;
}

static void open_client(struct gateway_bed *bed, int listener) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    _cleanup_free_ char *text = text_format("127.0.0.1:%d", ntohs(address.sin_port));
    bed->client = http_pool_new(&(struct http_pool_config){.loop = &bed->loop,
                                                           .address = text,
                                                           .idle_maximum = 64,
                                                           .connect_timeout_ms = 5000,
                                                           .answer_timeout_ms = 60000,
                                                           .body_timeout_ms = 60000,
                                                           .head_maximum = 65536});
}

void gateway_bed_begin(struct gateway_bed *bed) {
    int listener = -1, descriptor = -1;
    assert_int_equal(http_listen("127.0.0.1:0", &listener, NULL), 0);
    open_client(bed, listener);
    fake_supervisor_open(&bed->supervisor, &descriptor);
    bed->gateway = gateway_new(&(struct gateway_config){.loop = &bed->loop,
                                                        .settings = bed->settings,
                                                        .supervisor = descriptor,
                                                        .listener = listener,
                                                        .control = -1,
                                                        .on_end = on_end,
                                                        .context = bed});
}

void gateway_bed_start(struct gateway_bed *bed) {
    gateway_bed_begin(bed);
    wire_say(bed->supervisor.channel, snapshot_end, 0);
    until(bed, bed->gateway->phase == GATEWAY_SERVING);
}

void gateway_bed_close(struct gateway_bed *bed) {
    if (bed->client) http_pool_release(bed->client);
    if (bed->gateway) gateway_end(bed->gateway, 0);
    uv_close((uv_handle_t *)&bed->tick, NULL);
    uv_run(&bed->loop, UV_RUN_DEFAULT); /* until every handle has closed */
    if (bed->gateway) {
        assert_int_equal(bed->gateway->exchange_count, 0);
        gateway_free(bed->gateway);
    }
    fake_supervisor_close(&bed->supervisor);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    store_close(bed->store);
    settings_free(bed->settings);
    fs_remove_tree(bed->folder, NULL);
}

void gateway_bed_turn(struct gateway_bed *bed) {
    uv_run(&bed->loop, UV_RUN_ONCE);
    fake_supervisor_hear(&bed->supervisor);
}

void gateway_bed_settle(struct gateway_bed *bed, unsigned turns) {
    while (turns--) gateway_bed_turn(bed);
}

/* ---- routes and replicas ---------------------------------------------------- */

static struct store_transaction *begin(struct gateway_bed *bed) {
    struct store_transaction *transaction;
    assert_int_equal(store_begin(bed->store, &transaction, NULL), 0);
    return transaction;
}

void gateway_bed_sql(struct gateway_bed *bed, const char *sql) {
    struct store_transaction *transaction = begin(bed);
    assert_int_equal(store_run(transaction, NULL, NULL, sql, ""), 0);
    assert_int_equal(store_commit(transaction, NULL), 0);
}

static void forget(struct store_transaction *transaction, const char *id) {
    store_run(transaction, NULL, NULL, "DELETE FROM routes WHERE deployment_id = ?", "t", id);
    store_run(transaction, NULL, NULL, "DELETE FROM route_replicas WHERE deployment_id = ?", "t", id);
    store_run(transaction, NULL, NULL, "DELETE FROM route_names WHERE deployment_id = ?", "t", id);
}

static void finish(struct gateway_bed *bed, struct store_transaction *transaction) {
    bed->generation++;
    assert_int_equal(
        store_run(transaction, NULL, NULL, "UPDATE routing SET generation = ?", "i", (int64_t)bed->generation), 0);
    assert_int_equal(store_commit(transaction, NULL), 0);
}

void gateway_bed_route(struct gateway_bed *bed, const char *deployment_id, const char *names, unsigned revision,
                       const char *replicas, bool announce) {
    struct store_transaction *transaction = begin(bed);
    forget(transaction, deployment_id);
    store_run(transaction, NULL, NULL, "INSERT INTO routes VALUES (?, ?)", "ti", deployment_id, (int64_t)revision);
    _cleanup_free_ char *list = text_format("%s", names), *ids = text_format("%s", replicas);
    int64_t is_current = 1;
    for (char *rest = list, *name; (name = strsep(&rest, ","));) {
        assert_int_equal(store_run(transaction, NULL, NULL, "INSERT OR REPLACE INTO route_names VALUES (?, ?, ?)",
                                   "tti", name, deployment_id, is_current),
                         0);
        is_current = 0;
    }
    for (char *rest = ids, *id; (id = strsep(&rest, ","));)
        if (*id)
            store_run(transaction, NULL, NULL, "INSERT INTO route_replicas VALUES (?, ?)", "tt", deployment_id, id);
    finish(bed, transaction);
    if (announce) gateway_bed_announce(bed);
}

void gateway_bed_unroute(struct gateway_bed *bed, const char *deployment_id) {
    struct store_transaction *transaction = begin(bed);
    forget(transaction, deployment_id);
    finish(bed, transaction);
    gateway_bed_announce(bed);
}

void gateway_bed_announce(struct gateway_bed *bed) {
    wire_say(bed->supervisor.channel, routes_changed, .generation = bed->generation);
    until(bed, bed->supervisor.generation == bed->generation);
}

const char *gateway_bed_socket(struct gateway_bed *bed, const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/run/%s", bed->folder, name);
    return path;
}

void gateway_bed_replica(struct gateway_bed *bed, struct fake_runner *runner, const char *id, unsigned incarnation) {
    char name[64];
    snprintf(name, sizeof name, "%s.%u", id, incarnation);
    const char *path = gateway_bed_socket(bed, name);
    fake_runner_open(runner, &bed->loop, path);
    wire_say(bed->supervisor.channel, replica_up, .replica_id = id, .incarnation = incarnation, .address = path,
             .pid = 1);
}

void gateway_bed_say_down(struct gateway_bed *bed, const char *id, unsigned incarnation, bool final) {
    wire_say(bed->supervisor.channel, replica_down, .replica_id = id, .incarnation = incarnation, .final = final,
             .cause = "killed by signal 9 (Killed)");
}

/* ---- the client --------------------------------------------------------------- */

static void on_head(struct http_call *call, const struct http_answer *answer, void *context) {
    (void)call;
    struct client *client = context;
    client->head_came = true;
    client->status = answer->status;
    for (size_t i = 0; i < answer->header_count; i++)
        buffer_append_format(&client->headers, "%s: %s\n", answer->headers[i].name, answer->headers[i].value);
}

static void on_body(struct http_call *call, const char *bytes, size_t size, void *context) {
    struct client *client = context;
    client->received += size;
    if (!client->counts_only) buffer_append(&client->body, bytes, size);
    if (client->pauses) http_call_pause(call);
}

static void on_call_end(struct http_call *call, void *context) {
    (void)call;
    struct client *client = context;
    client->has_ended = true;
    client->call = NULL;
}

static void on_failed(struct http_call *call, const struct http_failure *failure, void *context) {
    (void)call, (void)failure;
    struct client *client = context;
    client->has_failed = true;
    client->call = NULL;
}

static void on_writable(struct http_call *call, void *context) {
    (void)call;
    struct client *client = context;
    client->is_writable = true;
}

static const struct http_call_handler handler = {on_head, on_body, on_call_end, on_failed, on_writable};

void client_ask(struct gateway_bed *bed, struct client *client, const struct http_call_request *request) {
    client->call = http_call(bed->client, request, &handler, client);
}

void client_get(struct gateway_bed *bed, struct client *client, const char *target) {
    client_ask(bed, client, &(struct http_call_request){.method = "GET", .target = target, .host = "test"});
}

void client_post(struct gateway_bed *bed, struct client *client, const char *target, const char *body) {
    static const struct http_header headers[] = {{"Content-Type", "application/json"}};
    client_ask(bed, client,
               &(struct http_call_request){.method = "POST",
                                           .target = target,
                                           .host = "test",
                                           .headers = headers,
                                           .header_count = 1,
                                           .body = body,
                                           .body_size = strlen(body),
                                           .has_body = true});
}

void client_wait(struct gateway_bed *bed, struct client *client) {
    until(bed, client->has_ended || client->has_failed);
}

bool client_saw(const struct client *client, const char *line) {
    size_t size = strlen(line);
    for (const char *at = client->headers.bytes; at && *at; at = strchr(at, '\n') + 1)
        if (!strncmp(at, line, size) && at[size] == '\n') return true;
    return false;
}

void client_clear(struct client *client) {
    if (client->call) http_call_cancel(client->call);
    buffer_clear(&client->headers);
    buffer_clear(&client->body);
    *client = (struct client){0};
}
