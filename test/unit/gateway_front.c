/* The front door itself: token, errors in each family's shape, the controller's routes, health, figures, the access
 * log, and the gateway's life between supervisor and database. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "support/exposition.h"
#include "support/gateway_bed.h"

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

static void start(struct fixture *fixture) {
    gateway_bed_make_database(&fixture->bed);
    gateway_bed_route(&fixture->bed, "d", "m", 1, "a", false);
    gateway_bed_start(&fixture->bed);
    gateway_bed_replica(&fixture->bed, &fixture->runner, "a", 1);
    until(&fixture->bed, gateway_route_is_up(gateway_snapshot_find(fixture->bed.gateway->routes.current, "m", 1)));
}

static void open_controller(struct fixture *fixture) {
    fake_runner_open(&fixture->controller, &fixture->bed.loop, gateway_bed_socket(&fixture->bed, "controller.sock"));
}

static void answered(struct fixture *fixture, int status) {
    client_wait(&fixture->bed, &fixture->client);
    assert_true(fixture->client.has_ended);
    if (fixture->client.status != status)
        fail_msg("%d: %s", fixture->client.status, fixture->client.body.bytes ? fixture->client.body.bytes : "");
}

static void get(struct fixture *fixture, const char *target, int status) {
    client_clear(&fixture->client);
    client_get(&fixture->bed, &fixture->client, target);
    answered(fixture, status);
}

static void get_with(struct fixture *fixture, const char *target, const char *name, const char *value, int status) {
    const struct http_header header = {name, value};
    client_clear(&fixture->client);
    client_ask(&fixture->bed, &fixture->client,
               &(struct http_call_request){
                   .method = "GET", .target = target, .host = "t", .headers = &header, .header_count = 1});
    answered(fixture, status);
}

/* ---- the token --------------------------------------------------------------------- */

static void without_the_token_only_health_answers(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "token", "s3cret", NULL);
    start(fixture);
    open_controller(fixture);
    get(fixture, "/livez", 200);
    get(fixture, "/readyz", 200);
    get(fixture, "/v2/health/live", 200);
    get(fixture, "/v2/health/ready", 200);
    const char *const closed[] = {"/metrics",        "/v2",         "/v2/models/m", "/v1/models",
                                  "/v1/deployments", "/v1/tasks/x", "/nothing",     "/deploy/x"};
    size_t before = fixture->controller.request_count;
    for (size_t i = 0; i < ARRAY_SIZE(closed); i++) {
        get(fixture, closed[i], 401);
        assert_true(client_saw(&fixture->client, "WWW-Authenticate: Bearer realm=\"slipway\""));
    }
    assert_int_equal(fixture->runner.request_count, 0);
    assert_int_equal(fixture->controller.request_count, before);
}

static void only_the_whole_token_opens(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "token", "s3cret", NULL);
    start(fixture);
    const char *const wrong[] = {"Bearer s3cre", "Bearer s3cretx", "Bearer",       "Bearer ",
                                 "s3cret",       "Basic s3cret",   "Bearers3cret", "Bearer S3CRET"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) get_with(fixture, "/v2", "Authorization", wrong[i], 401);
    get_with(fixture, "/v2", "Authorization", "Bearer s3cret", 200);
    get_with(fixture, "/v2", "AUTHORIZATION", "bEARER   s3cret", 200);
    get(fixture, "/v2?token=s3cret", 401);
}

/* ---- errors -------------------------------------------------------------------------- */

static void errors_have_the_shape_of_their_family(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    get(fixture, "/nothing", 404);
    assert_true(client_saw(&fixture->client, "Content-Type: application/problem+json"));
    _cleanup_json_ yyjson_doc *problem = yyjson_read(fixture->client.body.bytes, fixture->client.body.size, 0);
    yyjson_val *root = yyjson_doc_get_root(problem);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "error")), "ResourceNotFoundError");
    assert_int_equal(yyjson_get_int(yyjson_obj_get(root, "status")), 404);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "title")), "Not Found");
    assert_non_null(yyjson_get_str(yyjson_obj_get(root, "detail")));
    assert_int_equal(yyjson_arr_size(yyjson_obj_get(root, "causes")), 1);

    get(fixture, "/v2/models/absent", 404);
    assert_string_equal(fixture->client.body.bytes, "{\"error\":\"there is no deployment absent\"}");
    get(fixture, "/v2x", 404);
    assert_true(client_saw(&fixture->client, "Content-Type: application/problem+json"));
    get(fixture, "/v1/embeddings", 405);
    assert_true(client_saw(&fixture->client, "Allow: POST"));
    _cleanup_json_ yyjson_doc *openai = yyjson_read(fixture->client.body.bytes, fixture->client.body.size, 0);
    yyjson_val *error = yyjson_obj_get(yyjson_doc_get_root(openai), "error");
    assert_non_null(yyjson_get_str(yyjson_obj_get(error, "message")));
    assert_non_null(yyjson_get_str(yyjson_obj_get(error, "type")));
    assert_true(yyjson_is_null(yyjson_obj_get(error, "code")));
    assert_true(yyjson_is_null(yyjson_obj_get(error, "param")));
}

static void every_answer_has_its_request_id(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    get_with(fixture, "/nothing", "X-Request-Id", "abc-1", 404);
    assert_true(client_saw(&fixture->client, "X-Request-Id: abc-1"));
    get_with(fixture, "/livez", "X-Request-Id", "abc-2", 200);
    assert_true(client_saw(&fixture->client, "X-Request-Id: abc-2"));
    get_with(fixture, "/v1/tasks", "X-Request-Id", "abc-3", 503);
    assert_true(client_saw(&fixture->client, "X-Request-Id: abc-3"));
}

static void head_is_answered_like_get_without_a_body(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    fixture->runner.answer = "{\"name\":\"m\"}";
    const char *const targets[] = {"/livez", "/v2/models/m"};
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        client_clear(&fixture->client);
        client_ask(&fixture->bed, &fixture->client,
                   &(struct http_call_request){.method = "HEAD", .target = targets[i], .host = "t"});
        answered(fixture, 200);
        assert_int_equal(fixture->client.received, 0);
    }
    assert_string_equal(fixture->runner.method, "GET");
    get(fixture, "/livez", 200); /* the connection was left in order */
}

/* ---- the controller's routes ----------------------------------------------------------- */

static void control_requests_go_to_the_controller_as_they_are(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    open_controller(fixture);
    fixture->controller.answer = "[]";
    get(fixture, "/v1/deployments?limit=3&offset=%31", 200);
    assert_string_equal(fixture->controller.target, "/v1/deployments?limit=3&offset=%31");
    assert_string_equal(fixture->client.body.bytes, "[]");
    assert_true(client_saw(&fixture->client, "X-Custom: kept"));
    client_clear(&fixture->client);
    client_post(&fixture->bed, &fixture->client, "/api/v1/internal/inference-deployment/deploy",
                "{\"model_id\":\"x\"}");
    answered(fixture, 200);
    assert_string_equal(fixture->controller.method, "POST");
    assert_string_equal(fixture->controller.body.bytes, "{\"model_id\":\"x\"}");
    assert_int_equal(fixture->runner.request_count, 0);
}

static void without_a_controller_control_is_503_and_data_goes_on(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    get(fixture, "/v1/deployments", 503);
    assert_true(client_saw(&fixture->client, "Retry-After: 1"));
    assert_non_null(strstr(fixture->client.body.bytes, "UnavailableError"));
    get(fixture, "/readyz", 503);
    get(fixture, "/livez", 200);
    get(fixture, "/v2/health/ready", 200);
    get(fixture, "/v2/models/m", 200);
    open_controller(fixture);
    get(fixture, "/v1/deployments", 200);
    get(fixture, "/readyz", 200);
    fixture->controller.does = FAKE_DIES;
    get(fixture, "/v1/deployments", 503);
    get(fixture, "/v2/models/m", 200);
}

static void a_control_body_has_its_own_ceiling(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "control_body_maximum", "1024", NULL);
    start(fixture);
    open_controller(fixture);
    client_ask(
        &fixture->bed, &fixture->client,
        &(struct http_call_request){
            .method = "POST", .target = "/v1/deployments", .host = "t", .content_length = 1025, .has_body = true});
    answered(fixture, 413);
    assert_int_equal(fixture->controller.request_count, 0);
}

/* ---- what the gateway answers itself ------------------------------------------------------ */

static void metrics_are_valid_and_count_what_happened(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    for (int i = 0; i < 3; i++) get(fixture, "/v2/models/m", 200);
    get(fixture, "/v2/models/absent", 404);
    get(fixture, "/metrics", 200);
    const char *text = fixture->client.body.bytes;
    const char *fault = exposition_fault(text, fixture->client.body.size);
    if (fault) fail_msg("%s", fault);
    assert_true(client_saw(&fixture->client, "Content-Type: text/plain; version=0.0.4; charset=utf-8"));
    assert_true(exposition_value(text, "slipway_requests_total{deployment=\"m\",revision=\"1\",code=\"200\"}") == 3);
    assert_true(exposition_value(text, "slipway_request_duration_seconds_count{deployment=\"m\",revision=\"1\"}") == 3);
    assert_true(exposition_value(text, "slipway_batch_size_sum{deployment=\"m\",revision=\"1\"}") == 12);
    assert_true(exposition_value(text, "slipway_queue_length{deployment=\"m\",revision=\"1\"}") == 0);
    assert_true(exposition_value(text, "slipway_requests_in_flight{deployment=\"m\",revision=\"1\"}") == 0);
    assert_true(exposition_value(text, "slipway_retries_total{deployment=\"m\",revision=\"1\"}") == 0);
    assert_true(exposition_value(text, "slipway_route_generation") == (double)fixture->bed.generation);
    assert_true(exposition_value(text, "slipway_http_answers_total{kind=\"data\",code=\"404\"}") == 1);
    assert_true(exposition_value(text, "slipway_gateway_resident_memory_bytes") > 100000);
    assert_true(exposition_value(text, "slipway_controller_up") == 0);

    open_controller(fixture);
    fixture->controller.answer = "# HELP slipway_tasks Tasks.\n# TYPE slipway_tasks gauge\nslipway_tasks 7\n";
    get(fixture, "/metrics", 200);
    text = fixture->client.body.bytes;
    fault = exposition_fault(text, fixture->client.body.size);
    if (fault) fail_msg("%s", fault);
    assert_true(exposition_value(text, "slipway_controller_up") == 1);
    assert_true(exposition_value(text, "slipway_tasks") == 7);
    assert_string_equal(fixture->controller.target, "/metrics");
}

static void the_list_of_models_is_openais(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    gateway_bed_route(&fixture->bed, "e", "another,older", 2, "b", true);
    get(fixture, "/v1/models", 200);
    assert_string_equal(
        fixture->client.body.bytes,
        "{\"object\":\"list\",\"data\":[{\"id\":\"another\",\"object\":\"model\",\"created\":0,\"owned_by\":\"slipway\"},"
        "{\"id\":\"m\",\"object\":\"model\",\"created\":0,\"owned_by\":\"slipway\"}]}");
}

static void server_metadata_is_the_protocols(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    get(fixture, "/v2", 200);
    _cleanup_json_ yyjson_doc *document = yyjson_read(fixture->client.body.bytes, fixture->client.body.size, 0);
    yyjson_val *root = yyjson_doc_get_root(document);
    assert_string_equal(yyjson_get_str(yyjson_obj_get(root, "name")), "slipway");
    assert_non_null(yyjson_get_str(yyjson_obj_get(root, "version")));
    assert_string_equal(yyjson_get_str(yyjson_arr_get_first(yyjson_obj_get(root, "extensions"))), "binary_tensor_data");
}

static void the_description_has_every_route_once(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    get(fixture, "/openapi.json", 200);
    _cleanup_json_ yyjson_doc *document = yyjson_read(fixture->client.body.bytes, fixture->client.body.size, 0);
    yyjson_val *paths = yyjson_obj_get(yyjson_doc_get_root(document), "paths"), *key, *path;
    size_t operations = 0, index, count, other_index, other_count;
    yyjson_val *ids[128], *method, *operation;
    yyjson_obj_foreach(paths, index, count, key, path) {
        yyjson_obj_foreach(path, other_index, other_count, method, operation) {
            ids[operations] = yyjson_obj_get(operation, "operationId");
            for (size_t i = 0; i < operations; i++)
                assert_string_not_equal(yyjson_get_str(ids[i]), yyjson_get_str(ids[operations]));
            operations++;
        }
    }
    assert_int_equal(operations, gateway_endpoint_count);
    yyjson_val *infer = yyjson_obj_get(yyjson_obj_get(paths, "/v2/models/{model}/versions/{version}/infer"), "post");
    assert_int_equal(yyjson_arr_size(yyjson_obj_get(infer, "parameters")), 3); /* model, version, and a header */
}

/* ---- the access log ------------------------------------------------------------------------ */

static char *read_log(FILE *file) {
    static char text[8192];
    rewind(file);
    size_t size = fread(text, 1, sizeof text - 1, file);
    text[size] = 0;
    return text;
}

static void the_access_log_has_a_line_a_request_without_its_query(void **state) {
    struct fixture *fixture = *state;
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    settings_set(fixture->bed.settings, "access_log", "true", NULL);
    start(fixture);
    dup2(fileno(file), STDERR_FILENO);
    fixture->runner.answer = "12345";
    get_with(fixture, "/v2/models/m?token=hunter2", "X-Request-Id", "id-1", 200);
    get_with(fixture, "/%0Aforged%20line", "X-Request-Id", "id-2", 404);
    until(&fixture->bed, strstr(read_log(file), "id-2"));
    dup2(saved, STDERR_FILENO);
    close(saved);
    const char *text = read_log(file);
    fclose(file);
    assert_non_null(strstr(text, " info access GET /v2/models/m status=200 bytes=5 duration_ms="));
    assert_non_null(strstr(text, " request_id=id-1 deployment=m revision=1 replica=a\n"));
    assert_non_null(strstr(text, " info access GET /%0Aforged%20line status=404 "));
    assert_null(strstr(text, "hunter2"));
}

/* ---- life --------------------------------------------------------------------------------------- */

static void it_accepts_only_when_it_knows_routes_and_replicas(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_make_database(&fixture->bed);
    gateway_bed_route(&fixture->bed, "d", "m", 1, "a", false);
    gateway_bed_begin(&fixture->bed);
    until(&fixture->bed, fixture->bed.supervisor.said_hello);
    gateway_bed_replica(&fixture->bed, &fixture->runner, "a", 1);
    client_get(&fixture->bed, &fixture->client, "/v2/models/m");
    gateway_bed_settle(&fixture->bed, 30);
    assert_int_equal(fixture->bed.gateway->phase, GATEWAY_STARTING);
    assert_false(fixture->client.head_came);
    assert_false(fixture->bed.supervisor.said_ready);
    wire_say(fixture->bed.supervisor.channel, snapshot_end, 0);
    answered(fixture, 200);
    until(&fixture->bed, fixture->bed.supervisor.said_ready);
    assert_int_equal(fixture->bed.supervisor.generation, fixture->bed.generation);
}

static void the_very_first_start_has_no_database_and_no_routes(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_start(&fixture->bed);
    get(fixture, "/livez", 200);
    get(fixture, "/v2/models/m", 404);
    get(fixture, "/v1/models", 200);
    gateway_bed_make_database(&fixture->bed);
    gateway_bed_route(&fixture->bed, "d", "m", 1, "a", true);
    gateway_bed_replica(&fixture->bed, &fixture->runner, "a", 1);
    get(fixture, "/v2/models/m", 200);
}

static void an_announcement_before_its_database_is_read_when_it_is_there(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_start(&fixture->bed);
    wire_say(fixture->bed.supervisor.channel, routes_changed, .generation = 2);
    gateway_bed_settle(&fixture->bed, 30);
    assert_int_equal(fixture->bed.supervisor.generation, 0); /* never one that it does not route by */
    gateway_bed_make_database(&fixture->bed);
    gateway_bed_route(&fixture->bed, "d", "m", 1, "a", false);
    until(&fixture->bed, fixture->bed.supervisor.generation == 2);
    for (uint64_t i = 0; i < fixture->bed.supervisor.routes_used_count; i++)
        assert_true(fixture->bed.supervisor.generations[i] == 0 || fixture->bed.supervisor.generations[i] == 2);
}

static void an_announcement_before_its_generation_is_read_when_it_is_there(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    uint64_t before = fixture->bed.generation;
    wire_say(fixture->bed.supervisor.channel, routes_changed, .generation = before + 1);
    gateway_bed_settle(&fixture->bed, 30);
    assert_int_equal(fixture->bed.supervisor.generation, before);
    gateway_bed_route(&fixture->bed, "d", "m", 2, "a", false);
    until(&fixture->bed, fixture->bed.supervisor.generation == before + 1);
}

static void each_ping_is_answered(void **state) {
    struct fixture *fixture = *state;
    gateway_bed_begin(&fixture->bed); /* before it serves, too */
    for (uint64_t i = 0; i < 5; i++) wire_say(fixture->bed.supervisor.channel, ping, .sequence = i);
    until(&fixture->bed, fixture->bed.supervisor.pongs == 5);
}

static void what_a_busy_supervisor_does_not_read_waits_for_it(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    uint64_t sent = 0;
    uint64_t deadline_ms = clock_monotonic_ms() + GATEWAY_BED_DEADLINE_MS;
    while (!wire_channel_wants_write(fixture->bed.gateway->supervisor)) {
        assert_true(clock_monotonic_ms() < deadline_ms);
        wire_say(fixture->bed.supervisor.channel, ping, .sequence = sent++);
        uv_run(&fixture->bed.loop, UV_RUN_NOWAIT); /* and nobody hears */
    }
    until(&fixture->bed, fixture->bed.supervisor.pongs == sent);
}

static void a_lost_supervisor_is_the_end(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    fake_supervisor_close(&fixture->bed.supervisor);
    until(&fixture->bed, fixture->bed.has_ended);
    assert_int_equal(fixture->bed.exit_status, 1);
}

static void a_drain_finishes_what_runs_and_ends(void **state) {
    struct fixture *fixture = *state;
    start(fixture);
    fixture->runner.does = FAKE_HOLDS;
    client_post(&fixture->bed, &fixture->client, "/v2/models/m/infer", "{}");
    until(&fixture->bed, fixture->runner.held_count == 1);
    gateway_drain(fixture->bed.gateway);
    gateway_bed_settle(&fixture->bed, 20);
    assert_false(fixture->bed.has_ended);
    fake_runner_release(&fixture->runner);
    answered(fixture, 200);
    until(&fixture->bed, fixture->bed.has_ended);
    assert_int_equal(fixture->bed.exit_status, 0);
}

static void a_drain_breaks_off_at_its_deadline(void **state) {
    struct fixture *fixture = *state;
    settings_set(fixture->bed.settings, "drain", "200ms", NULL);
    start(fixture);
    fixture->runner.does = FAKE_HOLDS;
    client_post(&fixture->bed, &fixture->client, "/v2/models/m/infer", "{}");
    until(&fixture->bed, fixture->runner.held_count == 1);
    gateway_drain(fixture->bed.gateway);
    until(&fixture->bed, fixture->bed.has_ended);
    assert_int_equal(fixture->bed.exit_status, 0);
    client_wait(&fixture->bed, &fixture->client);
    assert_true(fixture->client.has_failed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_fixture, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(without_the_token_only_health_answers),
        TEST(only_the_whole_token_opens),
        TEST(errors_have_the_shape_of_their_family),
        TEST(every_answer_has_its_request_id),
        TEST(head_is_answered_like_get_without_a_body),
        TEST(control_requests_go_to_the_controller_as_they_are),
        TEST(without_a_controller_control_is_503_and_data_goes_on),
        TEST(a_control_body_has_its_own_ceiling),
        TEST(metrics_are_valid_and_count_what_happened),
        TEST(the_list_of_models_is_openais),
        TEST(server_metadata_is_the_protocols),
        TEST(the_description_has_every_route_once),
        TEST(the_access_log_has_a_line_a_request_without_its_query),
        TEST(it_accepts_only_when_it_knows_routes_and_replicas),
        TEST(the_very_first_start_has_no_database_and_no_routes),
        TEST(an_announcement_before_its_database_is_read_when_it_is_there),
        TEST(an_announcement_before_its_generation_is_read_when_it_is_there),
        TEST(each_ping_is_answered),
        TEST(what_a_busy_supervisor_does_not_read_waits_for_it),
        TEST(a_lost_supervisor_is_the_end),
        TEST(a_drain_finishes_what_runs_and_ends),
        TEST(a_drain_breaks_off_at_its_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
