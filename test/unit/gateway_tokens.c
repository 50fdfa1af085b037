/* Tokens in the gateway: the bucket, the table that is read with the routes, who is let in by it, and what a limited
 * token may use. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/gateway_bed.h"

/* ---- the bucket ---------------------------------------------------------------- */

static size_t take_all(struct gateway_bucket *bucket, uint64_t rate_milli, uint64_t burst, uint64_t now_us,
                       uint64_t *ret_retry_after_s) {
    size_t count = 0;
    while (gateway_bucket_take(bucket, rate_milli, burst, now_us, ret_retry_after_s)) count++;
    return count;
}

static void a_bucket_begins_full_and_fills_at_its_rate(void **state) {
    (void)state;
    struct gateway_bucket bucket = {0};
    uint64_t wait = 0, now = 1;
    assert_int_equal(take_all(&bucket, 2000, 5, now, &wait), 5); /* 2 a second */
    assert_int_equal(wait, 1);
    assert_int_equal(take_all(&bucket, 2000, 5, now + 499999, &wait), 0);
    assert_int_equal(take_all(&bucket, 2000, 5, now + 500000, &wait), 1);
    assert_int_equal(take_all(&bucket, 2000, 5, now + 1500000, &wait), 2);
    assert_int_equal(take_all(&bucket, 2000, 5, now + 60000000, &wait), 5); /* never above the burst */
}

static void nothing_is_lost_by_asking_often(void **state) {
    (void)state;
    struct gateway_bucket bucket = {0};
    uint64_t wait, taken = 0;
    take_all(&bucket, 333, 1, 1, &wait); /* a third of one a second, a little less */
    for (uint64_t now = 2; now <= 60 * 1000000; now += 7777)
        if (gateway_bucket_take(&bucket, 333, 1, now, &wait)) taken++;
    assert_int_equal(taken, 19); /* 60 × 0.333 = 19.98 */
}

static void how_long_to_wait_is_rounded_up(void **state) {
    (void)state;
    struct gateway_bucket bucket = {0};
    uint64_t wait = 0;
    assert_int_equal(take_all(&bucket, 1, 1, 1, &wait), 1); /* one in a thousand seconds */
    assert_int_equal(wait, 1000);
    assert_int_equal(take_all(&bucket, 1, 1, 1 + 1, &wait), 0);
    assert_int_equal(wait, 1000);
    assert_int_equal(take_all(&bucket, 1, 1, 1 + 999000001, &wait), 0);
    assert_int_equal(wait, 1);
    assert_int_equal(take_all(&bucket, 1, 1, 1 + 1000000000, &wait), 1);
}

static void neither_large_numbers_nor_a_long_rest_nor_an_older_time_give_more(void **state) {
    (void)state;
    struct gateway_bucket bucket = {0};
    uint64_t wait;
    assert_int_equal(take_all(&bucket, 1000000000, 1000000, 1, &wait), 1000000); /* the most that a token can have */
    assert_int_equal(take_all(&bucket, 1000000000, 1000000, 1, &wait), 0);
    assert_int_equal(take_all(&bucket, 1000000000, 1000000, UINT64_MAX / 2, &wait), 1000000);
    assert_int_equal(take_all(&bucket, 1000000000, 1000000, 1, &wait), 0);
}

/* ---- the table ------------------------------------------------------------------ */

struct fixture {
    struct gateway_bed bed;
    struct fake_runner runner, controller;
    struct client client;
};

static int open_fixture(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    gateway_bed_open(&fixture->bed);
    *state = fixture;
    return 0;
}

static int close_fixture(void **state) {
    struct fixture *fixture = *state;
    client_clear(&fixture->client);
    if (fixture->runner.loop) fake_runner_close(&fixture->runner);
    if (fixture->controller.loop) fake_runner_close(&fixture->controller);
    gateway_bed_close(&fixture->bed);
    free(fixture);
    return 0;
}

/* As the controller says it with each change of tokens. */
#define CHANGED "UPDATE routing SET tokens_generation = tokens_generation + 1"

/* limits: deployments and collections as JSON, NULL: none. The token is "secret-<name>". */
static void add_token(struct fixture *fixture, const char *name, const char *role, const char *deployments,
                      const char *collections, int64_t rate_milli, int64_t burst) {
    char id[37], digest[DIGEST_HEX_SIZE];
    _cleanup_free_ char *secret = text_format("secret-%s", name);
    struct store_transaction *transaction;
    text_new_uuid(id);
    digest_bytes(secret, strlen(secret), digest);
    assert_int_equal(store_begin(fixture->bed.store, &transaction, NULL), 0);
    assert_int_equal(store_run(transaction, NULL, NULL,
                               "INSERT INTO tokens (id, name, digest, role, deployments_json, collections_json, "
                               "rate_milli, burst, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)",
                               "ttttttii", id, name, digest, role, deployments, collections, rate_milli, burst),
                     0);
    assert_int_equal(store_run(transaction, NULL, NULL, CHANGED, ""), 0);
    assert_int_equal(store_commit(transaction, NULL), 0);
}

static void revoke_where(struct fixture *fixture, const char *condition) {
    _cleanup_free_ char *sql = text_format("UPDATE tokens SET revoked_at = 5 WHERE %s", condition);
    gateway_bed_sql(&fixture->bed, sql);
    gateway_bed_sql(&fixture->bed, CHANGED);
}

static void change_routes(struct fixture *fixture) {
    fixture->bed.generation++;
    _cleanup_free_ char *sql =
        text_format("UPDATE routing SET generation = %llu", (unsigned long long)fixture->bed.generation);
    gateway_bed_sql(&fixture->bed, sql);
    if (fixture->bed.gateway) gateway_bed_announce(&fixture->bed);
}

static struct gateway_tokens *read_tokens(struct fixture *fixture, struct gateway_tokens *known) {
    struct store_transaction *transaction;
    struct gateway_tokens *tokens = NULL;
    assert_int_equal(store_begin(fixture->bed.store, &transaction, NULL), 0);
    assert_int_equal(gateway_tokens_read(transaction, known, &tokens, NULL), 0);
    store_rollback(transaction);
    return tokens;
}

static struct gateway_token *find(const struct gateway_tokens *tokens, const char *secret) {
    unsigned char digest[DIGEST_SIZE];
    struct digest *running = digest_new();
    digest_again(running, "another before it", 17, digest);
    digest_again(running, secret, strlen(secret), digest);
    digest_free(running);
    return gateway_tokens_find(tokens, digest);
}

static void the_table_has_the_valid_tokens_and_what_they_may(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_make_database(&fixture->bed);
    add_token(fixture, "plain", "deploy", NULL, NULL, 0, 0);
    add_token(fixture, "limited", "infer", "[\"b\",\"a\",\"c\"]", "[]", 1500, 7);
    add_token(fixture, "later", "owner", NULL, NULL, 0, 0); /* a role of another version */
    add_token(fixture, "broken", "read", "{not json", NULL, 0, 0);
    add_token(fixture, "gone", "admin", NULL, NULL, 0, 0);
    revoke_where(fixture, "name = 'gone'");
    struct gateway_tokens *tokens = read_tokens(fixture, NULL);
    assert_int_equal(tokens->count, 3);
    assert_null(find(tokens, "secret-gone"));
    assert_null(find(tokens, "secret-later"));
    assert_null(find(tokens, "secret-plai"));

    const struct gateway_token *plain = find(tokens, "secret-plain"), *limited = find(tokens, "secret-limited");
    assert_string_equal(plain->name, "plain");
    assert_false(plain->is_limited);
    assert_int_equal(plain->may, 1u << ROLE_MEMBER | 1u << ROLE_READ | 1u << ROLE_INFER | 1u << ROLE_DEPLOY);
    assert_true(limited->is_limited && limited->rate_milli == 1500 && limited->burst == 7);
    assert_int_equal(limited->may, 1u << ROLE_MEMBER | 1u << ROLE_INFER);
    const char *const in[] = {"a", "b", "c"}, *const out[] = {"", "A", "aa", "d"};
    for (size_t i = 0; i < ARRAY_SIZE(in); i++) assert_true(gateway_limit_names_have(&limited->deployments, in[i]));
    for (size_t i = 0; i < ARRAY_SIZE(out); i++) assert_false(gateway_limit_names_have(&limited->deployments, out[i]));
    assert_false(gateway_limit_names_have(&limited->collections, "a"));
    const struct gateway_token *broken = find(tokens, "secret-broken");
    assert_true(broken->is_limited && !broken->deployments.count && !broken->collections.count);
    gateway_tokens_release(tokens);
}

static void a_table_that_has_not_changed_is_the_same_one(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_make_database(&fixture->bed);
    add_token(fixture, "one", "read", NULL, NULL, 1000, 3);
    struct gateway_tokens *first = read_tokens(fixture, NULL), *second = read_tokens(fixture, first);
    assert_ptr_equal(first, second);
    struct gateway_token *one = find(first, "secret-one");
    uint64_t wait;
    assert_int_equal(take_all(&one->bucket, 1000, 3, 10, &wait), 3);
    one->limited_total = 4;

    add_token(fixture, "two", "read", NULL, NULL, 1000, 3);
    struct gateway_tokens *third = read_tokens(fixture, second);
    assert_ptr_not_equal(second, third);
    gateway_tokens_carry_over(third, second);
    one = find(third, "secret-one");
    assert_int_equal(one->limited_total, 4);
    assert_int_equal(take_all(&one->bucket, 1000, 3, 10, &wait), 0);
    assert_int_equal(take_all(&find(third, "secret-two")->bucket, 1000, 3, 10, &wait), 3);

    revoke_where(fixture, "name = 'one'");
    struct gateway_tokens *fourth = read_tokens(fixture, third);
    assert_ptr_not_equal(third, fourth);
    assert_null(find(fourth, "secret-one"));

    /* One goes for good, one comes in its row, one is revoked: as many of each as before. */
    gateway_bed_sql(&fixture->bed, "DELETE FROM tokens WHERE name = 'one'");
    add_token(fixture, "three", "read", NULL, NULL, 0, 0);
    revoke_where(fixture, "name = 'two'");
    struct gateway_tokens *fifth = read_tokens(fixture, fourth);
    assert_null(find(fifth, "secret-two"));
    assert_non_null(find(fifth, "secret-three"));
    gateway_tokens_release(first);
    gateway_tokens_release(second);
    gateway_tokens_release(third);
    gateway_tokens_release(fourth);
    gateway_tokens_release(fifth);
}

/* ---- the door -------------------------------------------------------------------- */

static void ask(struct fixture *fixture, const char *method, const char *target, const char *secret, const char *body,
                int status) {
    _cleanup_free_ char *value = text_format("Bearer %s", secret ? secret : "");
    const struct http_header header = {"Authorization", value};
    client_clear(&fixture->client);
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){.method = method,
                                           .target = target,
                                           .host = "t",
                                           .headers = &header,
                                           .header_count = secret ? 1 : 0,
                                           .body = body,
                                           .body_size = body ? strlen(body) : 0,
                                           .has_body = body != NULL});
    client_wait(&fixture->bed, &fixture->client);
    if (fixture->client.status != status)
        fail_msg("%s: %d: %s", target, fixture->client.status,
                 fixture->client.body.bytes ? fixture->client.body.bytes : "");
}

static void get(struct fixture *fixture, const char *target, const char *secret, int status) {
    ask(fixture, "GET", target, secret, NULL, status);
}

#define ID_A "aaaaaaaa-0000-4000-8000-000000000000"
#define ID_B "bbbbbbbb-0000-4000-8000-000000000000"

static void start(struct fixture *fixture) {
    gateway_bed_make_database(&fixture->bed);
    gateway_bed_route(&fixture->bed, ID_A, "a,was-a", 1, "r", false);
    gateway_bed_route(&fixture->bed, ID_B, "b", 1, "s", false);
    gateway_bed_start(&fixture->bed);
    gateway_bed_replica(&fixture->bed, &fixture->runner, "r", 1);
    fake_runner_open(&fixture->controller, &fixture->bed.loop, gateway_bed_socket(&fixture->bed, "controller.sock"));
}

static void the_door_is_open_until_there_is_a_token(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    get(fixture, "/v1/tokens", NULL, 200);
    get(fixture, "/v1/tokens", "whatever", 200);
    add_token(fixture, "reader", "read", NULL, NULL, 0, 0);
    change_routes(fixture);
    get(fixture, "/v2", NULL, 401);
    assert_true(client_saw(&fixture->client, "WWW-Authenticate: Bearer realm=\"slipway\""));
    get(fixture, "/v2", "secret-reade", 401);
    assert_true(client_saw(&fixture->client, "WWW-Authenticate: Bearer realm=\"slipway\", error=\"invalid_token\""));
    get(fixture, "/v2", "secret-reader", 200);
    get(fixture, "/v1/tokens", "secret-reader", 403);
    assert_non_null(strstr(fixture->client.body.bytes, "of role admin; the token reader has the role read"));
    get(fixture, "/v2/models/a", "secret-reader", 403);
    assert_string_equal(
        fixture->client.body.bytes,
        "{\"error\":\"this needs a token of role infer or above; the token reader has the role read\"}");
    revoke_where(fixture, "1 = 1");
    change_routes(fixture);
    get(fixture, "/v1/tokens", NULL, 200);
}

static void a_database_that_cannot_be_read_yet_lets_nobody_in(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "token", "root", NULL);
    _cleanup_free_ char *path = text_format("%s/control.db", fixture->bed.folder);
    FILE *file = fopen(path, "w"); /* as a controller that is about to fill it leaves it */
    assert_non_null(file);
    fclose(file);
    gateway_bed_start(&fixture->bed);
    fake_runner_open(&fixture->controller, &fixture->bed.loop, gateway_bed_socket(&fixture->bed, "controller.sock"));
    get(fixture, "/livez", NULL, 200);
    get(fixture, "/readyz", NULL, 503);
    get(fixture, "/v2", NULL, 503);
    get(fixture, "/v2", "secret-reader", 503);
    get(fixture, "/v2", "root", 200);
    settings_set(fixture->bed.settings, "token", "", NULL);
    get(fixture, "/v2", NULL, 503); /* not open either: there may be tokens in it */
    gateway_bed_make_database(&fixture->bed);
    add_token(fixture, "reader", "read", NULL, NULL, 0, 0);
    change_routes(fixture);
    get(fixture, "/readyz", NULL, 200);
    get(fixture, "/v2", NULL, 401);
    get(fixture, "/v2", "secret-reader", 200);
}

static void a_request_that_was_let_in_outlives_its_token(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    add_token(fixture, "user", "infer", "[\"a\"]", "[]", 0, 0);
    change_routes(fixture);
    fixture->runner.does = FAKE_HOLDS;
    const struct http_header header = {"Authorization", "Bearer secret-user"};
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){
                   .method = "GET", .target = "/v2/models/a", .host = "t", .headers = &header, .header_count = 1});
    until(&fixture->bed, fixture->runner.held_count == 1);
    revoke_where(fixture, "1 = 1");
    change_routes(fixture);
    add_token(fixture, "other", "read", NULL, NULL, 0, 0);
    change_routes(fixture);
    fake_runner_release(&fixture->runner);
    client_wait(&fixture->bed, &fixture->client);
    assert_int_equal(fixture->client.status, 200);
    fixture->runner.does = FAKE_ANSWERS;
    get(fixture, "/v2/models/a", "secret-user", 401);
}

static void too_many_requests_are_429_with_when_to_come_again(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    add_token(fixture, "slow", "read", NULL, NULL, 1, 2);
    change_routes(fixture);
    get(fixture, "/v2", "secret-slow", 200);
    get(fixture, "/v1/tokens", "secret-slow", 403); /* counts */
    get(fixture, "/v2", "secret-slow", 429);
    assert_true(client_saw(&fixture->client, "Retry-After: 1000") || client_saw(&fixture->client, "Retry-After: 999"));
    get(fixture, "/livez", "secret-slow", 200);
    add_token(fixture, "root", "admin", NULL, NULL, 0, 0);
    change_routes(fixture);
    get(fixture, "/v2", "secret-slow", 429);
    get(fixture, "/metrics", "secret-root", 200);
    assert_non_null(strstr(fixture->client.body.bytes, "\nslipway_requests_limited_total{token=\"slow\"} 2\n"));
}

/* ---- limits ---------------------------------------------------------------------- */

static void a_limited_token_reaches_its_deployment_by_every_name(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    add_token(fixture, "user", "infer", "[\"was-a\",\"later\"]", "[]", 0, 0);
    change_routes(fixture);
    get(fixture, "/v2/models/a", "secret-user", 200);
    get(fixture, "/v2/models/was-a", "secret-user", 200);
    get(fixture, "/v2/models/%61", "secret-user", 200);
    get(fixture, "/v2/models/" ID_A, "secret-user", 200);
    get(fixture, "/v2/models/later", "secret-user", 404);
    size_t before = fixture->runner.request_count;
    get(fixture, "/v2/models/b", "secret-user", 403);
    get(fixture, "/v2/models/" ID_B, "secret-user", 403);
    get(fixture, "/v2/models/nothing", "secret-user", 403);
    get(fixture, "/v2/models/a%2F", "secret-user", 403);
    ask(fixture, "POST", "/v1/embeddings", "secret-user", "{\"model\":\"b\",\"input\":\"x\"}", 403);
    assert_non_null(strstr(fixture->client.body.bytes, "\"type\":\"permission_error\""));
    assert_int_equal(fixture->runner.request_count, before);
    ask(fixture, "POST", "/v1/embeddings", "secret-user", "{\"model\":\"was-a\",\"input\":\"x\"}", 200);
    get(fixture, "/v1/models", "secret-user", 200);
    assert_non_null(strstr(fixture->client.body.bytes, "\"id\":\"a\""));
    assert_null(strstr(fixture->client.body.bytes, "\"id\":\"b\""));
    gateway_bed_route(&fixture->bed, ID_B, "b,was-a", 1, "s", true); /* another takes the name */
    get(fixture, "/v2/models/a", "secret-user", 403);
}

static void control_requests_are_judged_by_what_the_database_calls_a_deployment(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    add_token(fixture, "user", "deploy", "[\"was-a\",\"new\"]", "[]", 0, 0);
    /* One that is being made: it has a name, and no route. */
    gateway_bed_sql(&fixture->bed, "INSERT INTO route_names (name, deployment_id, is_current) VALUES ('new', "
                                   "'cccccccc-0000-4000-8000-000000000000', 1)");
    change_routes(fixture);
    const char *const in[] = {"/v1/deployments/was-a",
                              "/v1/deployments/a",
                              ("/v1/deployments/" ID_A),
                              "/v1/deployments/AAAAAAAA-0000-4000-8000-000000000000/events",
                              "/v1/deployments/cccccccc-0000-4000-8000-000000000000",
                              "/v1/deployments/new/wait?timeout=1",
                              "/deploy-status/a"};
    for (size_t i = 0; i < ARRAY_SIZE(in); i++) get(fixture, in[i], "secret-user", 200);
    size_t before = fixture->controller.request_count;
    const char *const out[] = {"/v1/deployments/b",
                               ("/v1/deployments/" ID_B),
                               "/v1/deployments/nothing",
                               "/v1/deployments/x%2Fa",
                               "/v1/deployments",
                               "/v1/tasks",
                               ("/v1/tasks/" ID_A),
                               "/v1/collections",
                               "/v1/collections/a",
                               "/v1/processes",
                               "/metrics",
                               "/deploy-status/b",
                               ("/deploy/" ID_A),
                               "/v1/tokens"};
    for (size_t i = 0; i < ARRAY_SIZE(out); i++) get(fixture, out[i], "secret-user", 403);
    assert_int_equal(fixture->controller.request_count, before);
}

static void bodies_are_judged_by_every_name_in_them(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    add_token(fixture, "user", "deploy", "[\"a\"]", "[\"c\"]", 0, 0);
    change_routes(fixture);
    static const struct {
        const char *method, *target, *body;
        int status;
    } cases[] = {
        {"POST", "/v1/deployments", "{\"deployment_name\":\"a\"}", 200},
        {"POST", "/v1/deployments", "{\"deployment_name\":\"was-a\"}", 403}, /* would be a new one */
        {"POST", "/v1/deployments", "{\"deployment\\u005fname\":\"b\"}", 403},
        {"POST", "/v1/deployments", "{\"deployment_name\":\"a\",\"deployment\\u005fname\":\"b\"}", 400},
        {"POST", "/v1/deployments", "{\"deployment_name\":\"a\"", 400},
        {"POST", "/v1/deployments", "{}", 200}, /* the controller's to refuse */
        {"PUT", "/v1/deployments/a", "{\"deployment_name\":\"a\"}", 200},
        {"PUT", "/v1/deployments/a", "{\"deployment_name\":\"x\"}", 403},
        {"PUT", "/v1/deployments/b", "{\"deployment_name\":\"a\"}", 403},
        {"POST", "/v1/collections", "{\"name\":\"c\",\"deployment\":\"was-a\"}", 200},
        {"POST", "/v1/collections", "{\"name\":\"c\",\"deployment\":\"b\"}", 403},
        {"POST", "/v1/collections", "{\"name\":\"d\",\"deployment\":\"a\"}", 403},
        {"POST", "/v1/collections/c/reindex", "{\"destination\":\"a\",\"delete_source\":false}", 200},
        {"POST", "/v1/collections/c/reindex", "{\"destination\":\"a\"}", 403},
        {"POST", "/v1/collections/c/reindex", "{\"destination\":\"a\",\"delete_source\":true}", 403},
        {"POST", "/v1/collections/c/reindex", "{\"destination\":{\"deployment_name\":\"b\"},\"delete_source\":false}",
         403},
        {"POST", "/v1/collections/d/reindex", "{\"destination\":\"a\",\"delete_source\":false}", 403},
        {"POST", "/v1/collections/c/switch", "{\"index_id\":\"i\"}", 403},
        {"POST", "/v1/collections/c/switch", "{\"index_id\":\"i\",\"delete_source\":false}", 200},
        {"POST", "/v1/collections/c/rollback", NULL, 200},
        {"POST", "/deploy", "{\"embedding_model_id\":\"a\"}", 200},
        {"POST", "/deploy", "{\"embedding_model_id\":\"a\",\"model_id\":\"b\"}", 403},
        {"POST", "/api/v1/internal/inference-deployment/delete", "{\"model_id\":\"b\"}", 403},
        {"POST", "/delete", "{\"model_id\":\"a\"}", 200},
        {"POST", "/api/v1/internal/reindex-tasks/run",
         "{\"source\":{\"embedding_model_id\":\"a\"},\"dest\":{\"embedding_model_id\":\"a\"}}", 403},
        {"POST", "/api/v1/internal/reindex-tasks/run",
         "{\"collection\":\"c\",\"source\":{\"embedding_model_id\":\"a\"},\"dest\":{\"embedding_model_id\":\"b\"}}",
         403},
        {"POST", "/api/v1/internal/reindex-tasks/run",
         "{\"collection\":\"c\",\"source\":{\"embedding_model_id\":\"a\"},\"dest\":{\"embedding_model_id\":\"a\"}}",
         200},
        {"GET", "/api/v1/internal/reindex-tasks/list", NULL, 403},
        {"GET", "/v1/collections/d/documents/x", NULL, 403},
        {"POST", "/v1/collections/d/search", "{\"query\":\"x\"}", 403},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        ask(fixture, cases[i].method, cases[i].target, "secret-user", cases[i].body, cases[i].status);
    /* Nobody else is judged so. */
    add_token(fixture, "free", "deploy", NULL, NULL, 0, 0);
    change_routes(fixture);
    ask(fixture, "POST", "/v1/collections/c/reindex", "secret-free", "{\"destination\":\"b\"}", 200);
}

/* ---- all of them ------------------------------------------------------------------ */

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_begins_full_and_fills_at_its_rate),
        cmocka_unit_test(nothing_is_lost_by_asking_often),
        cmocka_unit_test(how_long_to_wait_is_rounded_up),
        cmocka_unit_test(neither_large_numbers_nor_a_long_rest_nor_an_older_time_give_more),
        TEST(the_table_has_the_valid_tokens_and_what_they_may),
        TEST(a_table_that_has_not_changed_is_the_same_one),
        TEST(the_door_is_open_until_there_is_a_token),
        TEST(a_database_that_cannot_be_read_yet_lets_nobody_in),
        TEST(a_request_that_was_let_in_outlives_its_token),
        TEST(too_many_requests_are_429_with_when_to_come_again),
        TEST(a_limited_token_reaches_its_deployment_by_every_name),
        TEST(control_requests_are_judged_by_what_the_database_calls_a_deployment),
        TEST(bodies_are_judged_by_every_name_in_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
