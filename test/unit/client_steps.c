/* The three steps of a re-index task that libslipway offers, against a service that answers by a script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "slipway.h"
#include "support/scripted.h"

#define START(...)                                                                                                     \
    static const struct scripted_answer answers[] = {__VA_ARGS__};                                                     \
    struct scripted *peer = scripted_start(answers, ARRAY_SIZE(answers));                                              \
    struct slipway *service = NULL;                                                                                    \
    struct slipway_error *error = NULL;                                                                                \
    assert_int_equal(slipway_open(scripted_url(peer), NULL, &service, &error), 0)

#define TASK(status, more) "{\"task_id\":\"child\",\"kind\":\"deploy\",\"status\":\"" status "\"" more "}"
#define TIMEOUT_504 "{\"error\":\"UnavailableError\",\"detail\":\"not yet\"}"

static void stop(struct scripted *peer, struct slipway *service, struct slipway_error *error) {
    slipway_error_free(error);
    slipway_close(service);
    scripted_stop(peer);
}

static const struct slipway_reindex_task reindex = {
    .task_id = "parent", .source_model_id = "old", .dest_model_id = "new"};
static const struct slipway_model_params quick = {
    .pending_timeout_ms = 100, .processing_timeout_ms = 100, .ready_timeout_ms = 100};

/* What programs bring. */
struct own_worker {
    struct slipway_worker worker;
    char *told; /* the task it was told of; written through the pointer that the const struct holds */
    int answer;
};

static int note_task(const struct slipway_worker *self, const char *task_id) {
    const struct own_worker *own = (const struct own_worker *)self;
    snprintf(own->told, 64, "%s", task_id);
    return own->answer;
}

struct own_plugin {
    struct slipway_plugin plugin;
    unsigned *asked, ready_after;
};

static bool count_and_say(const struct slipway_plugin *self, const char *embedding_model_id) {
    const struct own_plugin *own = (const struct own_plugin *)self;
    assert_string_equal(embedding_model_id, "new");
    return ++*own->asked > own->ready_after;
}

/* ---- deploy and wait ---- */

static void deploying_waits_through_pending_and_processing_and_until_ready(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("pending", ""), 0}, {"GET /v1/tasks/child/wait", 504, TIMEOUT_504, 2},
          {"GET /v1/tasks/child/wait", 200, TASK("done", ""), 0}, {"GET /v1/tasks/child", 200, TASK("pending", ""), 1},
          {"GET /v1/tasks/child", 200, TASK("processing", ""), 2}, {"GET /v1/tasks/child", 200, TASK("done", ""), 0},
          {"GET /v2/models/new/ready", 503, "{\"error\":\"not yet\"}", 2}, {"GET /v2/models/new/ready", 200, NULL, 0},
          {"GET /v1/deployments/new", 200, "{\"deployment_id\":\"d\",\"status\":\"active\"}", 0});
    char told[64] = "";
    const struct own_worker worker = {{note_task}, told, 0};
    const struct slipway_deployment_request config = {.model_uri = "file:///new"};
    const struct slipway_model_params params = {.config = &config, .task_id = "child"};
    struct slipway_deployment *deployment = NULL;
    assert_int_equal(slipway_initiate_model_deployment_and_wait(service, NULL, &reindex, &params, &worker.worker,
                                                                &deployment, &error),
                     0);
    assert_string_equal(deployment->status, "active");
    slipway_deployment_free(deployment);
    assert_string_equal(told, "child");
    assert_string_equal(strchr(scripted_request(peer, 0), '{'),
                        "{\"embedding_model_id\":\"new\",\"task_id\":\"child\",\"parent_id\":\"parent\",\"config\":{"
                        "\"model_uri\":\"file:///new\",\"deployment_target_config\":{\"type\":\"api_service\"}}}");
    assert_int_equal(scripted_count_of(peer, "GET /v2/models/new/ready"), 3);
    stop(peer, service, error);
}

static void a_plugin_says_when_the_model_is_ready_in_place_of_the_server(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("done", ""), 0}, {"GET /v1/tasks/child", 200, TASK("done", ""), 0},
          {"GET /v1/deployments/new", 200, "{\"deployment_id\":\"d\",\"status\":\"active\"}", 0});
    unsigned asked = 0;
    const struct own_plugin plugin = {{count_and_say}, &asked, 2};
    struct slipway_deployment *deployment = NULL;
    assert_int_equal(
        slipway_initiate_model_deployment_and_wait(service, &plugin.plugin, &reindex, NULL, NULL, &deployment, &error),
        0);
    slipway_deployment_free(deployment);
    assert_int_equal(asked, 3);
    assert_int_equal(scripted_count_of(peer, "GET /v2"), 0);
    stop(peer, service, error);
}

#define MUST_FAIL_WITH(class, sentence)                                                                                \
    do {                                                                                                               \
        struct slipway_deployment *deployment_ = NULL;                                                                 \
        assert_int_equal(                                                                                              \
            slipway_initiate_model_deployment_and_wait(service, NULL, &reindex, &quick, NULL, &deployment_, &error),   \
            -(int)(class));                                                                                            \
        assert_string_equal(error->message, sentence);                                                                 \
        assert_null(deployment_);                                                                                      \
    } while (0)

static void a_task_that_stays_pending_is_given_up(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("pending", ""), 0}, {"GET /v1/tasks/child/wait", 504, TIMEOUT_504, 0},
          {"GET /v1/tasks/child", 200, TASK("pending", ""), 0});
    MUST_FAIL_WITH(SLIPWAY_DEPLOYMENT, "Deployment task is pending too long.");
    stop(peer, service, error);
}

static void a_task_that_stays_processing_is_given_up(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("pending", ""), 0}, {"GET /v1/tasks/child/wait", 504, TIMEOUT_504, 0},
          {"GET /v1/tasks/child", 200, TASK("pending", ""), 1},
          {"GET /v1/tasks/child", 200, TASK("processing", ""), 0});
    MUST_FAIL_WITH(SLIPWAY_DEPLOYMENT, "Deployment task is processing too long.");
    stop(peer, service, error);
}

static void a_model_that_never_answers_ready_is_given_up(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("done", ""), 0}, {"GET /v1/tasks/child", 200, TASK("done", ""), 0},
          {"GET /v2/models/new/ready", 503, "{\"error\":\"loads\"}", 0});
    MUST_FAIL_WITH(SLIPWAY_DEPLOYMENT, "Model is not ready.");
    stop(peer, service, error);
}

static void a_failed_task_gives_its_cause(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("pending", ""), 0},
          {"GET /v1/tasks/child", 200,
           TASK("failed",
                ",\"error\":{\"error\":\"ModelRegistryError\",\"message\":\"fetch: gone\",\"causes\":[\"fetch\","
                "\"gone\"]}"),
           0});
    MUST_FAIL_WITH(SLIPWAY_DEPLOYMENT, "Deployment task failed: fetch: gone");
    assert_int_equal(error->cause_count, 3);
    assert_string_equal(error->causes[2], "gone");
    stop(peer, service, error);
}

static void a_refused_and_a_canceled_task_are_failures_too(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("pending", ""), 0},
          {"GET /v1/tasks/child", 200, TASK("refused", ",\"detail\":\"not enough memory\""), 1},
          {"GET /v1/tasks/child", 200, TASK("canceled", ""), 0});
    MUST_FAIL_WITH(SLIPWAY_DEPLOYMENT, "Deployment task failed: not enough memory");
    slipway_error_free(TAKE(error));
    MUST_FAIL_WITH(SLIPWAY_DEPLOYMENT, "Deployment task failed: canceled");
    stop(peer, service, error);
}

static void a_service_that_restarts_meanwhile_is_waited_for(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("pending", ""), 0},
          {"GET /v1/tasks/child", 503, "{\"error\":\"UnavailableError\",\"detail\":\"restarts\"}", 1},
          {"GET /v1/tasks/child", 200, TASK("done", ""), 0}, {"GET /v2/models/new/ready", 200, NULL, 0},
          {"GET /v1/deployments/new", 200, "{\"deployment_id\":\"d\",\"status\":\"active\"}", 0});
    struct slipway_deployment *deployment = NULL;
    assert_int_equal(
        slipway_initiate_model_deployment_and_wait(service, NULL, &reindex, NULL, NULL, &deployment, &error), 0);
    slipway_deployment_free(deployment);
    stop(peer, service, error);
}

static void a_worker_that_does_not_take_the_task_is_an_error(void **state) {
    (void)state;
    START({"POST /deploy", 200, TASK("pending", ""), 0});
    char told[64] = "";
    const struct own_worker worker = {{note_task}, told, 5};
    struct slipway_deployment *deployment = NULL;
    assert_int_equal(
        slipway_initiate_model_deployment_and_wait(service, NULL, &reindex, NULL, &worker.worker, &deployment, &error),
        -SLIPWAY_EXTERNAL_SERVICE);
    assert_non_null(strstr(error->message, "task child (5)"));
    stop(peer, service, error);
}

/* ---- deletion ---- */

static void deletion_returns_the_pending_task_and_does_not_wait(void **state) {
    (void)state;
    START({"POST /delete", 200, TASK("pending", ""), 0});
    char told[64] = "";
    const struct own_worker worker = {{note_task}, told, 0};
    struct slipway_task *task = NULL;
    assert_int_equal(slipway_initiate_model_deletion(service, &reindex, "old", &worker.worker, &task, &error), 0);
    assert_string_equal(task->status, "pending");
    assert_string_equal(told, "child");
    assert_int_equal(scripted_count(peer), 1);
    assert_string_equal(
        strchr(scripted_request(peer, 0), '{'),
        "{\"embedding_model_id\":\"old\",\"parent_id\":\"parent\",\"reason\":\"re-index task parent\"}");
    slipway_task_free(task);
    stop(peer, service, error);
}

static void a_deletion_that_is_refused_at_once_names_why(void **state) {
    (void)state;
    START({"POST /delete", 200, TASK("refused", ",\"detail\":\"old is the encoder of collection docs\""), 1},
          {"POST /delete", 200, TASK("failed", ",\"detail\":\"old is not deployed\""), 0});
    struct slipway_task *task = NULL;
    assert_int_equal(slipway_initiate_model_deletion(service, &reindex, "old", NULL, &task, &error), -SLIPWAY_REFUSED);
    assert_string_equal(error->message, "Deletion task is refused: old is the encoder of collection docs");
    slipway_error_free(TAKE(error));
    assert_int_equal(slipway_initiate_model_deletion(service, &reindex, "old", NULL, &task, &error),
                     -SLIPWAY_DEPLOYMENT);
    assert_string_equal(error->message, "Deletion task failed: old is not deployed");
    assert_null(task);
    stop(peer, service, error);
}

/* ---- the switch ---- */

#define COLLECTION(name, encoder) "{\"name\":\"" name "\",\"blue\":{\"deployment\":\"" encoder "\"}}"
#define INDEX(id, encoder, set, state)                                                                                 \
    "{\"index_id\":\"" id "\",\"deployment\":\"" encoder "\",\"set\":\"" set "\",\"state\":\"" state "\"}"

static void the_switch_finds_collection_and_index_and_has_no_window(void **state) {
    (void)state;
    START(
        {"GET /v1/tasks?limit=1&parent_id=parent&kind=switch", 200, "[]", 0},
        {"GET /v1/collections?", 200, "[" COLLECTION("other", "x") "," COLLECTION("docs", "old") "]", 1},
        {"GET /v1/collections?", 200, "[]", 0},
        {"GET /v1/collections/docs/indexes", 200,
         "[" INDEX("q", "new", "queries", "ready") "," INDEX("i-2", "new", "documents",
                                                             "ready") "," INDEX("i-1", "old", "documents", "blue") "]",
         0},
        {"POST /v1/collections/docs/switch", 202, "{\"task_id\":\"s\",\"kind\":\"switch\",\"status\":\"pending\"}", 0},
        {"GET /v1/tasks/s/wait", 504, TIMEOUT_504, 1},
        {"GET /v1/tasks/s/wait", 200, "{\"task_id\":\"s\",\"kind\":\"switch\",\"status\":\"done\"}", 0},
        {"GET /v1/tasks?limit=1&parent_id=s&kind=delete", 200, "[]", 0},
        {"GET /v1/tasks?limit=1&parent_id=s&kind=retire", 200, "[{\"task_id\":\"r\"}]", 0},
        {"GET /v1/tasks?limit=1&parent_id=r&kind=delete", 200, "[{\"task_id\":\"deletion\"}]", 0});
    char told[64] = "";
    const struct own_worker worker = {{note_task}, told, 0};
    struct slipway_task *task = NULL;
    assert_int_equal(slipway_blue_switch(service, &reindex, &worker.worker, &task, &error), 0);
    assert_string_equal(task->status, "done");
    assert_string_equal(told, "deletion");
    slipway_task_free(task);
    bool found = false;
    for (size_t i = 0; i < scripted_count(peer); i++)
        if (text_starts_with(scripted_request(peer, i), "POST ")) {
            found = true;
            assert_string_equal(strchr(scripted_request(peer, i), '{'),
                                "{\"index_id\":\"i-2\",\"rollback_window\":0,\"parent_id\":\"parent\"}");
        }
    assert_true(found);
    stop(peer, service, error);
}

static void a_switch_that_was_begun_for_the_task_goes_on(void **state) {
    (void)state;
    START({"GET /v1/tasks?limit=1&parent_id=parent&kind=switch", 200, "[{\"task_id\":\"s\"}]", 0},
          {"GET /v1/tasks/s/wait", 200, "{\"task_id\":\"s\",\"kind\":\"switch\",\"status\":\"done\"}", 0},
          {"GET /v1/tasks/s", 200, "{\"task_id\":\"s\",\"kind\":\"switch\",\"status\":\"processing\"}", 0});
    struct slipway_task *task = NULL;
    assert_int_equal(slipway_blue_switch(service, &reindex, NULL, &task, &error), 0);
    assert_string_equal(task->task_id, "s");
    assert_int_equal(scripted_count_of(peer, "POST "), 0);
    slipway_task_free(task);
    stop(peer, service, error);
}

static void a_switch_without_a_collection_or_with_several_names_them(void **state) {
    (void)state;
    START({"GET /v1/tasks?", 200, "[]", 0},
          {"GET /v1/collections?limit=1000&offset=0", 200,
           "[" COLLECTION("one", "old") "," COLLECTION("two", "old") "]", 1},
          {"GET /v1/collections?", 200, "[]", 0});
    struct slipway_task *task = NULL;
    assert_int_equal(slipway_blue_switch(service, &reindex, NULL, &task, &error), -SLIPWAY_CONFIGURATION);
    assert_string_equal(error->message, "Several collections are embedded by old: one, two; name one.");
    slipway_error_free(TAKE(error));
    assert_int_equal(slipway_blue_switch(service, &reindex, NULL, &task, &error), -SLIPWAY_CONFIGURATION);
    assert_string_equal(error->message, "No collection is embedded by old.");
    stop(peer, service, error);
}

static void an_index_that_is_not_ready_is_not_switched_to(void **state) {
    (void)state;
    START({"GET /v1/tasks?", 200, "[]", 0},
          {"GET /v1/collections/docs/indexes", 200, "[" INDEX("i", "new", "documents", "filling") "]", 1},
          {"GET /v1/collections/docs/indexes", 200, "[" INDEX("i", "old", "documents", "blue") "]", 0});
    const struct slipway_reindex_task named = {
        .task_id = "parent", .source_model_id = "old", .dest_model_id = "new", .collection = "docs"};
    struct slipway_task *task = NULL;
    assert_int_equal(slipway_blue_switch(service, &named, NULL, &task, &error), -SLIPWAY_CONFLICT);
    assert_string_equal(error->message, "The index of new in collection docs is filling, not ready.");
    slipway_error_free(TAKE(error));
    assert_int_equal(slipway_blue_switch(service, &named, NULL, &task, &error), -SLIPWAY_NOT_FOUND);
    assert_string_equal(error->message, "Collection docs has no index of new.");
    stop(peer, service, error);
}

static void a_switch_that_fails_says_why(void **state) {
    (void)state;
    START({"GET /v1/tasks?limit=1&parent_id=parent&kind=switch", 200, "[{\"task_id\":\"s\"}]", 0},
          {"GET /v1/tasks/s/wait", 200,
           "{\"task_id\":\"s\",\"kind\":\"switch\",\"status\":\"failed\",\"error\":{\"error\":\"DeploymentError\","
           "\"message\":\"writes outrun embedding\"}}",
           0},
          {"GET /v1/tasks/s", 200, "{\"task_id\":\"s\",\"kind\":\"switch\",\"status\":\"processing\"}", 0});
    struct slipway_task *task = NULL;
    assert_int_equal(slipway_blue_switch(service, &reindex, NULL, &task, &error), -SLIPWAY_DEPLOYMENT);
    assert_string_equal(error->message, "The switch failed: writes outrun embedding");
    assert_null(task);
    stop(peer, service, error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deploying_waits_through_pending_and_processing_and_until_ready),
        cmocka_unit_test(a_plugin_says_when_the_model_is_ready_in_place_of_the_server),
        cmocka_unit_test(a_task_that_stays_pending_is_given_up),
        cmocka_unit_test(a_task_that_stays_processing_is_given_up),
        cmocka_unit_test(a_model_that_never_answers_ready_is_given_up),
        cmocka_unit_test(a_failed_task_gives_its_cause),
        cmocka_unit_test(a_refused_and_a_canceled_task_are_failures_too),
        cmocka_unit_test(a_service_that_restarts_meanwhile_is_waited_for),
        cmocka_unit_test(a_worker_that_does_not_take_the_task_is_an_error),
        cmocka_unit_test(deletion_returns_the_pending_task_and_does_not_wait),
        cmocka_unit_test(a_deletion_that_is_refused_at_once_names_why),
        cmocka_unit_test(the_switch_finds_collection_and_index_and_has_no_window),
        cmocka_unit_test(a_switch_that_was_begun_for_the_task_goes_on),
        cmocka_unit_test(a_switch_without_a_collection_or_with_several_names_them),
        cmocka_unit_test(an_index_that_is_not_ready_is_not_switched_to),
        cmocka_unit_test(a_switch_that_fails_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
