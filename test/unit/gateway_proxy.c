/* Data requests through the whole gateway, to fake replicas: which replica, when again, when not, what passes. */
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "support/exposition.h"
#include "support/gateway_bed.h"

#define INFER "/v2/models/m/infer"

struct fixture {
    struct gateway_bed bed;
    struct fake_runner a, b;
    struct client client, other;
};

static int open_fixture(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    gateway_bed_open(&fixture->bed);
    gateway_bed_make_database(&fixture->bed);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state) {
    struct fixture *fixture = *state;
    client_clear(&fixture->client);
    client_clear(&fixture->other);
    if (fixture->a.loop) fake_runner_close(&fixture->a);
    if (fixture->b.loop) fake_runner_close(&fixture->b);
    gateway_bed_close(&fixture->bed);
    free(fixture);
    return 0;
}

/* Deployment m, revision 3, with replica a up. */
static void start_with_a(struct fixture *fixture) {
    gateway_bed_route(&fixture->bed, "d", "m,old", 3, "a", false);
    gateway_bed_start(&fixture->bed);
    gateway_bed_replica(&fixture->bed, &fixture->a, "a", 1);
    until(&fixture->bed, gateway_route_is_up(gateway_snapshot_find(fixture->bed.gateway->routes.current, "m", 1)));
}

static size_t replicas_up(struct fixture *fixture) {
    size_t up = 0;
    for (struct gateway_replica *replica = fixture->bed.gateway->replicas.replicas; replica; replica = replica->hh.next)
        up += replica->up != NULL;
    return up;
}

static void start_with_a_and_b(struct fixture *fixture) {
    gateway_bed_route(&fixture->bed, "d", "m", 3, "a,b", false);
    gateway_bed_start(&fixture->bed);
    gateway_bed_replica(&fixture->bed, &fixture->a, "a", 1);
    gateway_bed_replica(&fixture->bed, &fixture->b, "b", 1);
    until(&fixture->bed, replicas_up(fixture) == 2);
}

static size_t waiting(struct fixture *fixture) {
    return gateway_snapshot_find(fixture->bed.gateway->routes.current, "m", 1)->lane->queue.length;
}

static void ask(struct fixture *fixture) {
    client_clear(&fixture->client);
    client_post(&fixture->bed, &fixture->client, INFER, "{\"inputs\":[]}");
}

static void asked(struct fixture *fixture, int status) {
    client_wait(&fixture->bed, &fixture->client);
    assert_true(fixture->client.has_ended);
    if (fixture->client.status != status)
        fail_msg("%d: %s", fixture->client.status, fixture->client.body.bytes ? fixture->client.body.bytes : "");
}

/* ---- what passes -------------------------------------------------------------- */

static void a_request_reaches_the_replica_and_its_answer_the_client(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    fixture->a.answer = "{\"outputs\":[]}";
    ask(fixture);
    asked(fixture, 200);
    assert_string_equal(fixture->client.body.bytes, "{\"outputs\":[]}");
    assert_true(client_saw(&fixture->client, "Content-Type: application/json"));
    assert_true(client_saw(&fixture->client, "X-Custom: kept"));
    assert_string_equal(fixture->a.method, "POST");
    assert_string_equal(fixture->a.target, INFER);
    assert_string_equal(fixture->a.body.bytes, "{\"inputs\":[]}");
    assert_true(fake_runner_saw(&fixture->a, "Content-Type: application/json"));
}

static void headers_of_the_hop_and_the_token_stay_here(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "token", "secret", NULL);
    start_with_a(fixture);
    const struct http_header headers[] = {
        {"authorization", "bearer secret"}, {"TE", "trailers"},
        {"Keep-Alive", "timeout=3"},        {"X-Forwarded-For", "10.0.0.9"},
        {"X-Request-Id", "id-77"},          {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"Proxy-Connection", "keep-alive"}, {"X-Kept", "yes"},
    };
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){.method = "POST",
                                           .target = INFER,
                                           .host = "front.example",
                                           .headers = headers,
                                           .header_count = ARRAY_SIZE(headers),
                                           .body = "{}",
                                           .body_size = 2,
                                           .has_body = true});
    asked(fixture, 200);
    const char *seen = fixture->a.headers.bytes;
    assert_null(strcasestr(seen, "authorization"));
    assert_null(strcasestr(seen, "te:"));
    assert_null(strcasestr(seen, "timeout=3"));
    assert_null(strcasestr(seen, "proxy-"));
    assert_null(strcasestr(seen, "front.example"));
    assert_true(fake_runner_saw(&fixture->a, "X-Forwarded-For: 10.0.0.9, 127.0.0.1"));
    assert_true(fake_runner_saw(&fixture->a, "X-Request-Id: id-77"));
    assert_true(fake_runner_saw(&fixture->a, "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    assert_true(fake_runner_saw(&fixture->a, "X-Kept: yes"));
    assert_true(client_saw(&fixture->client, "X-Request-Id: id-77"));
    assert_null(strcasestr(fixture->client.headers.bytes, "not-mine-to-say"));
    assert_null(strcasestr(fixture->client.headers.bytes, "slipway-batch"));
    assert_null(strcasestr(fixture->client.headers.bytes, "keep-alive: timeout=5"));
}

static void a_request_without_an_id_gets_one_that_the_replica_sees_too(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    const struct http_header headers[] = {{"X-Request-Id", "not well formed"}};
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){
                   .method = "GET", .target = "/v2/models/m", .host = "t", .headers = headers, .header_count = 1});
    asked(fixture, 200);
    const char *line = strstr(fixture->client.headers.bytes, "X-Request-Id: ");
    assert_non_null(line);
    char id[200] = "";
    sscanf(line + 14, "%199s", id);
    assert_true(gateway_is_request_id(id));
    char same[256];
    snprintf(same, sizeof same, "X-Request-Id: %s", id);
    assert_true(fake_runner_saw(&fixture->a, same));
}

static void a_former_name_the_id_and_the_serving_revision_answer(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    const char *const targets[] = {"/v2/models/old", "/v2/models/d/ready", "/v2/models/m/versions/3",
                                   "/v2/models/%6d?x=y", "/v2/models/m/versions/3/ready"};
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        client_clear(&fixture->client);
        client_get(&fixture->bed, &fixture->client, targets[i]);
        asked(fixture, 200);
    }
    const char *const absent[] = {"/v2/models/m/versions/2",
                                  "/v2/models/m/versions/x",
                                  "/v2/models/nobody",
                                  "/v2/models/%00",
                                  "/v2/models/a%2fb",
                                  "/v2/models/..",
                                  "/v2/models/m/versions/99999999999999999999/ready"};
    for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
        client_clear(&fixture->client);
        client_get(&fixture->bed, &fixture->client, absent[i]);
        asked(fixture, 404);
        assert_int_equal(strncmp(fixture->client.body.bytes, "{\"error\":\"", 10), 0);
    }
    assert_int_equal(fixture->a.request_count, ARRAY_SIZE(targets));
}

static void embeddings_go_to_the_model_in_the_body(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    client_post(&fixture->bed, &fixture->client, "/v1/embeddings", "{\"input\":[\"x\"],\"model\":\"m\"}");
    asked(fixture, 200);
    assert_string_equal(fixture->a.target, "/v1/embeddings");
    assert_string_equal(fixture->a.body.bytes, "{\"input\":[\"x\"],\"model\":\"m\"}");
    client_clear(&fixture->client);
    client_post(&fixture->bed, &fixture->client, "/v1/embeddings", "{\"input\":[\"x\"],\"model\":\"n\"}");
    asked(fixture, 404);
    assert_non_null(strstr(fixture->client.body.bytes, "\"code\":\"model_not_found\",\"param\":\"model\""));
    client_clear(&fixture->client);
    client_post(&fixture->bed, &fixture->client, "/v1/embeddings", "{\"input\":[\"x\"]}");
    asked(fixture, 400);
    assert_non_null(strstr(fixture->client.body.bytes, "\"type\":\"invalid_request_error\""));
}

static void a_large_embeddings_body_is_searched_on_a_worker_and_served(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    size_t size = 3 * 1024 * 1024;
    _cleanup_free_ char *body = malloc(size + 1);
    memset(body, 'x', size);
    body[size] = 0;
    memcpy(body, "{\"input\":\"", 10);
    memcpy(body + size - 14, "\",\"model\":\"m\"}", 14);
    client_post(&fixture->bed, &fixture->client, "/v1/embeddings", body);
    asked(fixture, 200);
    assert_int_equal(fixture->a.body.size, size);
}

/* Keeps all of libuv's workers busy until it is posted. */
struct blocker {
    uv_work_t work[4];
    sem_t begun, go;
};

static void block(uv_work_t *work) {
    struct blocker *blocker = work->data;
    sem_post(&blocker->begun);
    sem_wait(&blocker->go);
}

static void unblocked(uv_work_t *work, int status) {
    (void)work, (void)status;
}

static void a_client_that_leaves_while_its_body_is_searched_harms_nothing(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    struct blocker *blocker = calloc(1, sizeof *blocker);
    sem_init(&blocker->begun, 0, 0);
    sem_init(&blocker->go, 0, 0);
    for (size_t i = 0; i < 4; i++) {
        blocker->work[i].data = blocker;
        uv_queue_work(&fixture->bed.loop, &blocker->work[i], block, unblocked);
    }
    for (size_t i = 0; i < 4; i++) sem_wait(&blocker->begun);
    size_t size = 1024 * 1024;
    _cleanup_free_ char *body = malloc(size + 1);
    memset(body, ' ', size);
    memcpy(body, "{\"model\":\"m\"", 12);
    body[size - 1] = '}';
    body[size] = 0;
    client_post(&fixture->bed, &fixture->client, "/v1/embeddings", body);
    until(&fixture->bed, fixture->bed.gateway->exchange_count == 1);
    gateway_bed_settle(&fixture->bed, 100);
    until(&fixture->bed, fixture->bed.loop.active_reqs.count == 5); /* all is written; its search waits for a worker */
    client_clear(&fixture->client);
    gateway_bed_settle(&fixture->bed, 20);
    assert_int_equal(fixture->bed.gateway->exchange_count, 1);
    for (size_t i = 0; i < 4; i++) sem_post(&blocker->go);
    until(&fixture->bed, fixture->bed.gateway->exchange_count == 0 && fixture->bed.loop.active_reqs.count == 0);
    assert_int_equal(fixture->a.request_count, 0);
    free(blocker);
}

/* ---- again, and not again -------------------------------------------------------- */

static void a_request_whose_replica_dies_is_answered_by_another(void **state) {
    struct fixture *fixture = *state;
    start_with_a_and_b(fixture);
    fixture->a.does = fixture->b.does = FAKE_HOLDS;
    ask(fixture);
    until(&fixture->bed, fixture->a.held_count + fixture->b.held_count == 1);
    struct fake_runner *dies = fixture->a.held_count ? &fixture->a : &fixture->b;
    struct fake_runner *lives = dies == &fixture->a ? &fixture->b : &fixture->a;
    lives->does = FAKE_ANSWERS;
    lives->answer = "{\"by\":\"another\"}";
    fake_runner_die(dies); /* the supervisor has not said so yet */
    asked(fixture, 200);
    assert_string_equal(fixture->client.body.bytes, "{\"by\":\"another\"}");
    assert_string_equal(lives->body.bytes, "{\"inputs\":[]}");
    assert_int_equal(lives->request_count, 1);
    assert_int_equal(gateway_snapshot_find(fixture->bed.gateway->routes.current, "m", 1)->lane->series.retries, 1);
}

static void a_replica_that_dies_within_a_short_answer_costs_nothing(void **state) {
    struct fixture *fixture = *state;
    start_with_a_and_b(fixture);
    fixture->a.does = fixture->b.does = FAKE_HOLDS;
    ask(fixture);
    until(&fixture->bed, fixture->a.held_count + fixture->b.held_count == 1);
    bool was_a = fixture->a.held_count;
    fake_runner_release(was_a ? &fixture->a : &fixture->b);
    asked(fixture, 200);
    /* The next turn is the other's, which dies in the middle of its answer. */
    struct fake_runner *dies = was_a ? &fixture->b : &fixture->a, *lives = was_a ? &fixture->a : &fixture->b;
    dies->does = FAKE_DIES_HALFWAY;
    lives->does = FAKE_ANSWERS;
    ask(fixture);
    asked(fixture, 200);
    ask(fixture);
    asked(fixture, 200);
    assert_true(dies->request_count >= 1);
    assert_string_equal(fixture->client.body.bytes, "{}");
}

static void a_request_is_sent_again_once_only(void **state) {
    struct fixture *fixture = *state;
    start_with_a_and_b(fixture);
    fixture->a.does = fixture->b.does = FAKE_DIES;
    ask(fixture);
    asked(fixture, 503);
    assert_true(client_saw(&fixture->client, "Retry-After: 1"));
    assert_int_equal(fixture->a.request_count, 1);
    assert_int_equal(fixture->b.request_count, 1);
}

static void a_request_whose_only_replica_died_waits_for_its_next_incarnation(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    fixture->a.does = FAKE_DIES;
    ask(fixture);
    until(&fixture->bed, waiting(fixture) == 1);
    gateway_bed_say_down(&fixture->bed, "a", 1, false);
    fake_runner_close(&fixture->a);
    gateway_bed_settle(&fixture->bed, 5);
    gateway_bed_replica(&fixture->bed, &fixture->a, "a", 2);
    asked(fixture, 200);
    assert_string_equal(fixture->a.body.bytes, "{\"inputs\":[]}");
    assert_int_equal(fixture->a.request_count, 1);
}

static void a_replica_that_dropped_a_connection_and_lives_is_tried_again(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    fixture->a.does = FAKE_DROPS;
    ask(fixture);
    until(&fixture->bed, waiting(fixture) == 1);
    fixture->a.does = FAKE_ANSWERS; /* the supervisor has nothing to say: the gateway tries by itself */
    asked(fixture, 200);
    assert_int_equal(fixture->a.request_count, 2);
}

static void a_request_whose_replica_dies_after_an_update_goes_to_the_new_one(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    fixture->a.does = FAKE_HOLDS;
    ask(fixture);
    until(&fixture->bed, fixture->a.held_count == 1);
    gateway_bed_replica(&fixture->bed, &fixture->b, "b", 1);
    gateway_bed_route(&fixture->bed, "d", "m", 4, "b", true);
    fake_runner_die(&fixture->a);
    asked(fixture, 200);
    assert_int_equal(fixture->b.request_count, 1);
}

static void what_never_reached_a_dead_replica_is_not_counted_as_sent(void **state) {
    struct fixture *fixture = *state;
    start_with_a_and_b(fixture);
    fake_runner_die(&fixture->a); /* its address refuses; the supervisor has not said so yet */
    fake_runner_die(&fixture->b);
    ask(fixture);
    until(&fixture->bed, waiting(fixture) == 1);
    gateway_bed_settle(&fixture->bed, 20);
    gateway_bed_say_down(&fixture->bed, "a", 1, false);
    gateway_bed_say_down(&fixture->bed, "b", 1, false);
    fake_runner_close(&fixture->a);
    gateway_bed_replica(&fixture->bed, &fixture->a, "a", 2);
    fixture->a.does = FAKE_DIES; /* this one counts: the request was sent */
    until(&fixture->bed, fixture->a.request_count == 1);
    fake_runner_close(&fixture->b);
    gateway_bed_replica(&fixture->bed, &fixture->b, "b", 2);
    asked(fixture, 200);
}

static void an_answer_that_breaks_off_after_bytes_left_is_not_begun_again(void **state) {
    struct fixture *fixture = *state;
    start_with_a_and_b(fixture);
    fixture->a.does = fixture->b.does = FAKE_BREAKS_OFF;
    ask(fixture);
    client_wait(&fixture->bed, &fixture->client);
    assert_true(fixture->client.has_failed);
    assert_int_equal(fixture->client.status, 200);
    assert_true(fixture->client.received < 1000000);
    gateway_bed_settle(&fixture->bed, 20);
    assert_int_equal(fixture->a.request_count + fixture->b.request_count, 1);
}

static void a_large_body_is_not_sent_again(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "retry_body_maximum", "1000", NULL);
    start_with_a_and_b(fixture);
    fixture->a.does = fixture->b.does = FAKE_DIES;
    size_t size = 300 * 1024;
    _cleanup_free_ char *body = malloc(size + 1);
    memset(body, ' ', size);
    body[size] = 0;
    client_post(&fixture->bed, &fixture->client, INFER, body);
    asked(fixture, 503);
    assert_int_equal(fixture->a.request_count + fixture->b.request_count, 1);
}

/* ---- queue and choice ---------------------------------------------------------------- */

static void the_least_busy_replica_is_chosen(void **state) {
    struct fixture *fixture = *state;
    start_with_a_and_b(fixture);
    fixture->a.does = fixture->b.does = FAKE_HOLDS;
    struct client clients[6] = {0};
    for (size_t i = 0; i < 6; i++) client_post(&fixture->bed, &clients[i], INFER, "{}");
    until(&fixture->bed, fixture->a.held_count + fixture->b.held_count == 6);
    assert_int_equal(fixture->a.held_count, 3);
    assert_int_equal(fixture->b.held_count, 3);
    fake_runner_release(&fixture->a);
    until(&fixture->bed, clients[0].has_ended + clients[1].has_ended + clients[2].has_ended + clients[3].has_ended +
                                 clients[4].has_ended + clients[5].has_ended ==
                             3);
    struct client more[3] = {0};
    for (size_t i = 0; i < 3; i++) client_post(&fixture->bed, &more[i], INFER, "{}");
    until(&fixture->bed, fixture->a.held_count == 3);
    assert_int_equal(fixture->b.held_count, 3);
    fake_runner_release(&fixture->a);
    fake_runner_release(&fixture->b);
    for (size_t i = 0; i < 6; i++) client_wait(&fixture->bed, &clients[i]), client_clear(&clients[i]);
    for (size_t i = 0; i < 3; i++) client_wait(&fixture->bed, &more[i]), client_clear(&more[i]);
}

static void above_the_queues_ceiling_requests_are_answered_429(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "queue_maximum", "2", NULL);
    settings_set(fixture->bed.settings, "in_flight_maximum", "1", NULL);
    start_with_a(fixture);
    fixture->a.does = FAKE_HOLDS;
    struct client clients[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        client_post(&fixture->bed, &clients[i], INFER, "{}");
        until(&fixture->bed, fixture->a.held_count + waiting(fixture) == i + 1);
    }
    ask(fixture);
    asked(fixture, 429);
    assert_true(client_saw(&fixture->client, "Retry-After: 1"));
    assert_int_equal(fixture->a.held_count, 1);
    fixture->a.does = FAKE_ANSWERS;
    fake_runner_release(&fixture->a); /* the two that waited follow by themselves */
    for (size_t i = 0; i < 3; i++) {
        client_wait(&fixture->bed, &clients[i]);
        assert_int_equal(clients[i].status, 200);
        client_clear(&clients[i]);
    }
    assert_int_equal(fixture->a.request_count, 3);
}

static void a_request_waits_for_a_replica_and_is_served_when_it_comes(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_route(&fixture->bed, "d", "m", 3, "a", false);
    gateway_bed_start(&fixture->bed);
    ask(fixture);
    until(&fixture->bed, waiting(fixture) == 1);
    gateway_bed_replica(&fixture->bed, &fixture->a, "a", 1);
    asked(fixture, 200);
}

static void a_request_that_waits_too_long_is_told_why(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "upstream_timeout", "150ms", NULL);
    gateway_bed_route(&fixture->bed, "d", "m", 3, "a", false);
    gateway_bed_start(&fixture->bed);
    ask(fixture);
    asked(fixture, 503);
    assert_non_null(strstr(fixture->client.body.bytes, "no replica of revision 3 is up"));
    assert_int_equal(waiting(fixture), 0);
}

static void a_model_without_a_replica_is_not_ready_at_once(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_route(&fixture->bed, "d", "m", 3, "a", false);
    gateway_bed_start(&fixture->bed);
    client_get(&fixture->bed, &fixture->client, "/v2/models/m/ready");
    asked(fixture, 503);
}

static void a_replica_that_is_slow_to_answer_gives_504(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "upstream_timeout", "150ms", NULL);
    start_with_a(fixture);
    fixture->a.does = FAKE_HOLDS;
    ask(fixture);
    asked(fixture, 504);
    until(&fixture->bed, fixture->a.gone_count == 1); /* the replica is told to stop */
    assert_int_equal(fixture->a.request_count, 1);
}

static void a_client_that_leaves_gives_its_place_back(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "in_flight_maximum", "1", NULL);
    start_with_a(fixture);
    fixture->a.does = FAKE_HOLDS;
    client_post(&fixture->bed, &fixture->other, INFER, "{}");
    until(&fixture->bed, fixture->a.held_count == 1);
    ask(fixture);
    until(&fixture->bed, waiting(fixture) == 1);
    fixture->a.does = FAKE_ANSWERS;
    client_clear(&fixture->other);
    asked(fixture, 200);
    assert_int_equal(fixture->a.gone_count, 1);
    ask(fixture);
    asked(fixture, 200);
}

static void a_client_that_leaves_the_queue_is_forgotten(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_route(&fixture->bed, "d", "m", 3, "a", false);
    gateway_bed_start(&fixture->bed);
    ask(fixture);
    until(&fixture->bed, waiting(fixture) == 1);
    client_clear(&fixture->client);
    until(&fixture->bed, waiting(fixture) == 0);
    gateway_bed_replica(&fixture->bed, &fixture->a, "a", 1);
    gateway_bed_settle(&fixture->bed, 10);
    assert_int_equal(fixture->a.request_count, 0);
}

/* ---- streaming ------------------------------------------------------------------------ */

static void a_long_answer_comes_whole_and_is_held_back_for_a_slow_client(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    fixture->a.does = FAKE_STREAMS;
    fixture->a.stream_size = 64 * 1024 * 1024;
    fixture->client.counts_only = fixture->client.pauses = true;
    client_post(&fixture->bed, &fixture->client, INFER, "{}");
    until(&fixture->bed, fixture->client.received > 0);
    size_t before;
    do { /* until nothing moves any more */
        before = fixture->a.sent;
        gateway_bed_settle(&fixture->bed, 50);
    } while (fixture->a.sent != before);
    assert_true(before < fixture->a.stream_size / 2); /* what buffers and sockets hold, and no more */
    fixture->client.pauses = false;
    http_call_resume(fixture->client.call);
    asked(fixture, 200);
    assert_int_equal(fixture->client.received, fixture->a.stream_size);
}

static void a_long_body_streams_and_is_held_back_for_a_slow_replica(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "body_maximum", "1Gi", NULL);
    start_with_a(fixture);
    fixture->a.does = FAKE_DOES_NOT_READ;
    static char piece[65536];
    size_t total = 64 * 1024 * 1024, given = 0;
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){
                   .method = "POST", .target = INFER, .host = "t", .content_length = (int64_t)total, .has_body = true});
    bool room = true;
    for (unsigned idle = 0; idle < 100; idle++) {
        while (room && given < total) {
            given += sizeof piece;
            fixture->client.is_writable = false;
            room = http_call_send(fixture->client.call, piece, sizeof piece);
            idle = 0;
        }
        gateway_bed_settle(&fixture->bed, 1);
        room = room || fixture->client.is_writable;
    }
    assert_true(given < total / 2);
    fake_runner_read(&fixture->a);
    while (given < total) {
        until(&fixture->bed, room || fixture->client.is_writable);
        given += sizeof piece;
        fixture->client.is_writable = false;
        room = http_call_send(fixture->client.call, piece, sizeof piece);
    }
    http_call_end_body(fixture->client.call);
    asked(fixture, 200);
    assert_int_equal(fixture->a.body_received, total);
}

static void a_long_answer_may_take_longer_than_its_beginning(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "upstream_timeout", "200ms", NULL);
    start_with_a(fixture);
    fixture->a.does = FAKE_STREAMS;
    fixture->a.stream_size = 16 * 1024 * 1024;
    fixture->client.counts_only = fixture->client.pauses = true;
    client_post(&fixture->bed, &fixture->client, INFER, "{}");
    until(&fixture->bed, fixture->client.received > 0);
    uint64_t later_ms = clock_monotonic_ms() + 400;
    until(&fixture->bed, clock_monotonic_ms() > later_ms);
    fixture->client.pauses = false;
    http_call_resume(fixture->client.call);
    asked(fixture, 200);
    assert_int_equal(fixture->client.received, fixture->a.stream_size);
}

static void a_long_body_may_take_longer_than_the_answers_beginning(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "upstream_timeout", "200ms", NULL);
    settings_set(fixture->bed.settings, "retry_body_maximum", "10", NULL);
    start_with_a(fixture);
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){
                   .method = "POST", .target = INFER, .host = "t", .content_length = 40, .has_body = true});
    http_call_send(fixture->client.call, "12345678901234567890", 20);
    until(&fixture->bed, fixture->a.request_count == 1);
    uint64_t later_ms = clock_monotonic_ms() + 400;
    until(&fixture->bed, clock_monotonic_ms() > later_ms);
    http_call_send(fixture->client.call, "12345678901234567890", 20);
    http_call_end_body(fixture->client.call);
    asked(fixture, 200);
    assert_int_equal(fixture->a.body.size, 40);
}

static void a_short_chunked_body_is_taken_whole_and_sent_again(void **state) {
    struct fixture *fixture = *state;
    start_with_a_and_b(fixture);
    fixture->a.does = fixture->b.does = FAKE_HOLDS;
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){
                   .method = "POST", .target = INFER, .host = "t", .content_length = -1, .has_body = true});
    http_call_send(fixture->client.call, "{\"a\":", 5);
    gateway_bed_settle(&fixture->bed, 5);
    assert_int_equal(fixture->a.request_count + fixture->b.request_count, 0); /* a slow client keeps no replica busy */
    http_call_send(fixture->client.call, "1}", 2);
    http_call_end_body(fixture->client.call);
    until(&fixture->bed, fixture->a.held_count + fixture->b.held_count == 1);
    struct fake_runner *dies = fixture->a.held_count ? &fixture->a : &fixture->b;
    struct fake_runner *lives = dies == &fixture->a ? &fixture->b : &fixture->a;
    lives->does = FAKE_ANSWERS;
    fake_runner_die(dies);
    asked(fixture, 200);
    assert_string_equal(lives->body.bytes, "{\"a\":1}");
}

static void a_long_chunked_body_streams(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "retry_body_maximum", "1000", NULL);
    start_with_a(fixture);
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){
                   .method = "POST", .target = INFER, .host = "t", .content_length = -1, .has_body = true});
    char piece[700];
    memset(piece, 'x', sizeof piece);
    for (int i = 0; i < 5; i++) {
        http_call_send(fixture->client.call, piece, sizeof piece);
        gateway_bed_settle(&fixture->bed, 3);
        if (i == 1) until(&fixture->bed, fixture->a.request_count == 1); /* sent on before its end */
    }
    http_call_end_body(fixture->client.call);
    asked(fixture, 200);
    assert_int_equal(fixture->a.body.size, 3500);
}

static void a_body_above_the_ceiling_is_413(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "body_maximum", "1024", NULL);
    start_with_a(fixture);
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){
                   .method = "POST", .target = INFER, .host = "t", .content_length = 1025, .has_body = true});
    asked(fixture, 413);
    assert_int_equal(strncmp(fixture->client.body.bytes, "{\"error\":\"", 10), 0);
    assert_int_equal(fixture->a.request_count, 0);
    client_clear(&fixture->client);
    client_get(&fixture->bed, &fixture->client, "/metrics");
    asked(fixture, 200);
    assert_true(
        exposition_value(fixture->client.body.bytes, "slipway_http_answers_total{kind=\"data\",code=\"413\"}") == 1);
}

/* ---- routes that change ------------------------------------------------------------------ */

static void a_request_keeps_the_routes_it_began_with(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    uint64_t before = fixture->bed.supervisor.generation;
    fixture->a.does = FAKE_HOLDS;
    ask(fixture);
    until(&fixture->bed, fixture->a.held_count == 1);
    gateway_bed_replica(&fixture->bed, &fixture->b, "b", 1);
    gateway_bed_route(&fixture->bed, "d", "m", 4, "b", true);
    assert_int_equal(fixture->bed.supervisor.lowest, before); /* so replica a is not stopped */
    client_post(&fixture->bed, &fixture->other, INFER, "{}");
    client_wait(&fixture->bed, &fixture->other);
    assert_int_equal(fixture->b.request_count, 1);
    fake_runner_release(&fixture->a);
    asked(fixture, 200);
    until(&fixture->bed, fixture->bed.supervisor.lowest == fixture->bed.supervisor.generation);
}

static void a_request_that_waits_takes_the_new_routes(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_route(&fixture->bed, "d", "m", 3, "a", false);
    gateway_bed_start(&fixture->bed);
    ask(fixture);
    until(&fixture->bed, waiting(fixture) == 1);
    gateway_bed_replica(&fixture->bed, &fixture->b, "b", 1);
    gateway_bed_route(&fixture->bed, "d", "m", 4, "b", true);
    asked(fixture, 200);
    until(&fixture->bed, fixture->bed.supervisor.lowest == fixture->bed.supervisor.generation);
}

static void a_route_that_goes_lets_who_has_it_finish(void **state) {
    struct fixture *fixture = *state;
    start_with_a(fixture);
    fixture->a.does = FAKE_HOLDS;
    ask(fixture);
    until(&fixture->bed, fixture->a.held_count == 1);
    gateway_bed_unroute(&fixture->bed, "d");
    client_get(&fixture->bed, &fixture->other, "/v2/models/m");
    client_wait(&fixture->bed, &fixture->other);
    assert_int_equal(fixture->other.status, 404);
    fake_runner_release(&fixture->a);
    asked(fixture, 200);
}

static void a_deployment_that_does_not_serve_says_its_status(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_sql(
        &fixture->bed,
        "INSERT INTO deployments (id, name, status, message, revision, replicas, cpu, memory_bytes, gpu, tags_json, "
        "created_at, updated_at) VALUES ('x', 'coming', 'creating', NULL, 1, 1, 0, 0, 0, '{}', 0, 0), "
        "('y', 'broken', 'failed', 'verify: not an ONNX file', 1, 1, 0, 0, 0, '{}', 0, 0), "
        "('z', 'left', 'inactive', NULL, 1, 1, 0, 0, 0, '{}', 0, 0)");
    gateway_bed_start(&fixture->bed);
    static const struct {
        const char *target, *words;
        int status;
    } cases[] = {{"/v2/models/coming", "it is creating", 503},
                 {"/v2/models/broken/ready", "it is failed: verify: not an ONNX file", 503},
                 {"/v2/models/left", "there is no deployment left", 404},
                 {"/v2/models/none", "there is no deployment none", 404}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        client_clear(&fixture->client);
        client_get(&fixture->bed, &fixture->client, cases[i].target);
        asked(fixture, cases[i].status);
        assert_non_null(strstr(fixture->client.body.bytes, cases[i].words));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_request_reaches_the_replica_and_its_answer_the_client),
        TEST(headers_of_the_hop_and_the_token_stay_here),
        TEST(a_request_without_an_id_gets_one_that_the_replica_sees_too),
        TEST(a_former_name_the_id_and_the_serving_revision_answer),
        TEST(embeddings_go_to_the_model_in_the_body),
        TEST(a_large_embeddings_body_is_searched_on_a_worker_and_served),
        TEST(a_client_that_leaves_while_its_body_is_searched_harms_nothing),
        TEST(a_request_whose_replica_dies_is_answered_by_another),
        TEST(a_replica_that_dies_within_a_short_answer_costs_nothing),
        TEST(a_request_is_sent_again_once_only),
        TEST(a_request_whose_only_replica_died_waits_for_its_next_incarnation),
        TEST(a_replica_that_dropped_a_connection_and_lives_is_tried_again),
        TEST(a_request_whose_replica_dies_after_an_update_goes_to_the_new_one),
        TEST(what_never_reached_a_dead_replica_is_not_counted_as_sent),
        TEST(an_answer_that_breaks_off_after_bytes_left_is_not_begun_again),
        TEST(a_large_body_is_not_sent_again),
        TEST(the_least_busy_replica_is_chosen),
        TEST(above_the_queues_ceiling_requests_are_answered_429),
        TEST(a_request_waits_for_a_replica_and_is_served_when_it_comes),
        TEST(a_request_that_waits_too_long_is_told_why),
        TEST(a_model_without_a_replica_is_not_ready_at_once),
        TEST(a_replica_that_is_slow_to_answer_gives_504),
        TEST(a_client_that_leaves_gives_its_place_back),
        TEST(a_client_that_leaves_the_queue_is_forgotten),
        TEST(a_long_answer_comes_whole_and_is_held_back_for_a_slow_client),
        TEST(a_long_body_streams_and_is_held_back_for_a_slow_replica),
        TEST(a_long_answer_may_take_longer_than_its_beginning),
        TEST(a_long_body_may_take_longer_than_the_answers_beginning),
        TEST(a_short_chunked_body_is_taken_whole_and_sent_again),
        TEST(a_long_chunked_body_streams),
        TEST(a_body_above_the_ceiling_is_413),
        TEST(a_request_keeps_the_routes_it_began_with),
        TEST(a_request_that_waits_takes_the_new_routes),
        TEST(a_route_that_goes_lets_who_has_it_finish),
        TEST(a_deployment_that_does_not_serve_says_its_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
