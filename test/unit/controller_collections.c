/* Collections in the controller: making, deleting, their events, and encoders in use (RULES S4 to S6, X8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/request_collection.h"
#include "support/reindex_bed.h"
#include "support/scratch.h"

#define HOUR_MS (3600 * 1000)

static int open_bed(void **state) {
    struct engine_bed *bed = bed_new();
    reindex_add_model(bed, "one", "digest-one");
    reindex_add_model(bed, "two", "digest-two");
    reindex_add_model(bed, "twin", "digest-one");
    bed_add_model(bed, "plain", "plain");
    bed_add_model(bed, "hanging", "hang");
    bed_open(bed);
    free(bed_deployed(bed, "first", "one", 1));
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    bed_free(*state);
    return 0;
}

static void make(struct engine_bed *bed, const char *name, const char *deployment) {
    struct error *error = NULL;
    char *id = reindex_collection(bed, name, deployment, &error);
    if (!id) fail_msg("%s", error->message);
    free(id);
}

static void expect_turned_down(struct engine_bed *bed, const char *name, const char *deployment, enum error_class class,
                               const char *part) {
    struct error *error = NULL;
    assert_null(reindex_collection(bed, name, deployment, &error));
    assert_int_equal(error->class, class);
    if (!strstr(error->message, part)) fail_msg("it says: %s", error->message);
    error_free(error);
}

static char *id_of(struct engine_bed *bed, const char *deployment) {
    return bed_ask_text(bed, "SELECT id FROM deployments WHERE name = ? AND status <> 'inactive'", deployment);
}

/* ---- making ---- */

static void a_collection_has_its_folder_pin_and_finished_task(void **state) {
    struct engine_bed *bed = *state;
    int64_t generation = bed_ask(bed, "SELECT generation FROM routing", NULL);
    make(bed, "books", "first");
    reindex_check(bed, "books");
    assert_true(bed_ask(bed, "SELECT generation FROM routing", NULL) > generation);
    assert_int_equal(
        bed_ask(bed,
                "SELECT count(*) FROM tasks WHERE kind = 'collection_create' AND status = 'done' AND collection = ?",
                "books"),
        1);
    _cleanup_view_ struct catalog_view view = reindex_view(bed, "books");
    assert_int_equal(view.indexes[0].dimension, 4);
    assert_string_equal(view.pair.encoder_digest, "digest-one");
}

static void what_cannot_be_made_leaves_nothing(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    free(bed_deployed(bed, "plain", "plain", 1));
    char *id = NULL;
    free(bed_deploy(bed, &(struct bed_request){.name = "coming", .model = "hanging"}, &id));
    expect_turned_down(bed, "books", "first", ERROR_CONFLICT, "taken");
    expect_turned_down(bed, "films", "nobody", ERROR_NOT_FOUND, "no deployment nobody");
    expect_turned_down(bed, "films", "plain", ERROR_CONFIGURATION, "not an embedding model");
    expect_turned_down(bed, "films", "coming", ERROR_CONFLICT, "creating");
    assert_int_equal(scratch_count(bed->folder, "collections"), 1);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM collections", NULL), 1);
    free(id);
}

static yyjson_doc *parse(const char *json, yyjson_val **ret_root) {
    yyjson_doc *document = NULL;
    assert_int_equal(json_parse_object(json, strlen(json), &document, ret_root, NULL), 0);
    return document;
}

static void a_body_that_is_wrong_is_refused_with_the_field(void **state) {
    (void)state;
    static const struct {
        const char *json, *part;
    } cases[] = {
        {"{\"deployment\":\"d\"}", "name"},
        {"{\"name\":\"b\"}", "deployment"},
        {"{\"name\":\"b\",\"deployment\":\"d\",\"metric\":\"dot\"}", "metric must be cosine"},
        {"{\"name\":\"b/c\",\"deployment\":\"d\"}", "name must be"},
        {"{\"name\":\"01234567-89ab-4cde-8f01-23456789abcd\",\"deployment\":\"d\"}", "shape of a UUID"},
        {"{\"name\":\"b\",\"deployment\":\"d\",\"shards\":3}", "shards"},
        {"{\"name\":\"b\",\"deployment\":\"d\",\"keep_queries\":1}", "keep_queries"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        yyjson_val *root = NULL;
        _cleanup_json_ yyjson_doc *document = parse(cases[i].json, &root);
        assert_non_null(document);
        struct collection_request request;
        struct error *error = NULL;
        assert_int_equal(request_parse_collection(root, &request, &error), -ERROR_CONFIGURATION);
        if (!strstr(error->message, cases[i].part)) fail_msg("%s: it says: %s", cases[i].json, error->message);
        error_free(error);
    }
}

static void a_reindex_body_that_is_wrong_is_refused_with_the_field(void **state) {
    struct engine_bed *bed = *state;
    static const struct {
        const char *json, *part;
    } cases[] = {
        {"{}", "destination"},
        {"{\"destination\":\"a b\"}", "destination"},
        {"{\"destination\":{\"deployment_name\":\"x\"}}", "destination.model_uri"},
        {"{\"destination\":\"x\",\"rollback_window\":-1}", "rollback_window"},
        {"{\"destination\":\"x\",\"max_failed\":1.5}", "max_failed"},
        {"{\"destination\":\"x\",\"min_overlap\":{\"k\":10}}", "min_overlap.at_least"},
        {"{\"destination\":\"x\",\"min_overlap\":{\"k\":0,\"at_least\":0.5}}", "min_overlap.k"},
        {"{\"destination\":\"x\",\"blue\":true}", "blue"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        yyjson_val *root = NULL;
        _cleanup_json_ yyjson_doc *document = parse(cases[i].json, &root);
        assert_non_null(document);
        _cleanup_reindex_request_ struct reindex_request request = {0};
        struct error *error = NULL;
        assert_int_equal(request_parse_reindex(root, &bed->controller, &request, &error), -ERROR_CONFIGURATION);
        _cleanup_free_ char *text = error_text(error);
        if (!strstr(text, cases[i].part)) fail_msg("%s: it says: %s", cases[i].json, text);
        error_free(error);
    }
}

static void a_reindex_body_has_the_defaults_of_the_api(void **state) {
    struct engine_bed *bed = *state;
    yyjson_val *root = NULL;
    _cleanup_json_ yyjson_doc *document = parse("{\"destination\":\"x\"}", &root);
    assert_non_null(document);
    _cleanup_reindex_request_ struct reindex_request request = {0};
    assert_int_equal(request_parse_reindex(root, &bed->controller, &request, NULL), 0);
    assert_true(request.work.blue_switch && request.work.delete_source && !request.work.wait_on_conflict);
    assert_int_equal(request.work.window_ms, bed->settings->rollback_window_ms);
    assert_true(request.work.max_failed == 0 && !request.work.overlap_k);
}

static void failures_may_be_a_count_or_a_share(void **state) {
    (void)state;
    struct reindex_work work = {.max_failed = 5};
    assert_int_equal(reindex_allowed_failures(&work, 1000), 5);
    work.max_failed = 0.01;
    assert_int_equal(reindex_allowed_failures(&work, 1000), 10);
    work.max_failed = 0;
    assert_int_equal(reindex_allowed_failures(&work, 1000), 0);
}

/* ---- encoders in use ---- */

static void an_encoder_in_use_is_not_deleted(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    _cleanup_free_ char *id = id_of(bed, "first");
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    struct store_transaction *tx = NULL;
    struct task task = {0};
    struct error *error = NULL;
    assert_int_equal(store_begin(bed->controller.store, &tx, NULL), 0);
    assert_int_equal(operation_delete(&bed->controller, tx, &deployment, NULL, &task, &error), -ERROR_CONFLICT);
    store_rollback(tx);
    assert_non_null(strstr(error->message, "the collection books"));
    error_free(error);
    reindex_check(bed, "books");
}

static void an_update_to_another_digest_is_refused_before_anything_is_switched(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    _cleanup_free_ char *id = id_of(bed, "first");
    _cleanup_free_ char *task = bed_update(bed, id, &(struct bed_request){.name = "first", .model = "two"});
    bed_expect_task(bed, task, TASK_REFUSED);
    bed_check_serving(bed, id, 1, 1);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    assert_int_equal(deployment.status, DEPLOYMENT_ACTIVE);
    assert_int_equal(deployment.revision, 1);
    assert_non_null(strstr(deployment.message, "re-index"));
    _cleanup_task_ struct task ended = bed_task(bed, task);
    assert_non_null(strstr(ended.error_json, "ConflictError"));
    /* Now it is known what that package embeds with: the next is refused before a replica is started. */
    size_t started = fake_target_started(bed->target);
    _cleanup_free_ char *again = bed_update(bed, id, &(struct bed_request){.name = "first", .model = "two"});
    bed_expect_task(bed, again, TASK_REFUSED);
    assert_int_equal(fake_target_started(bed->target), started);
    reindex_check(bed, "books");
}

static void an_update_to_a_package_of_another_digest_is_refused_at_once(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    free(bed_deployed(bed, "second", "two", 1));
    _cleanup_free_ char *id = id_of(bed, "first"), *other = id_of(bed, "second");
    _cleanup_free_ char *digest =
        bed_ask_text(bed, "SELECT package_digest FROM revisions WHERE deployment_id = ?", other);
    _cleanup_deployment_ struct deployment deployment = bed_load(bed, id);
    _cleanup_request_ struct deployment_request request = {.name = text_copy("first"),
                                                           .model_uri = text_format("package:sha256:%s", digest),
                                                           .target_json = text_copy("{\"type\":\"api_service\"}"),
                                                           .tags_json = text_copy("{}"),
                                                           .replicas = 1};
    struct store_transaction *tx = NULL;
    struct task task = {0};
    struct error *error = NULL;
    assert_int_equal(store_begin(bed->controller.store, &tx, NULL), 0);
    assert_int_equal(operation_update(&bed->controller, tx, &deployment, &request, &task, &error), -ERROR_CONFLICT);
    store_rollback(tx);
    assert_non_null(strstr(error->message, "re-index"));
    error_free(error);
}

static void changes_that_keep_the_digest_are_allowed(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    _cleanup_free_ char *id = id_of(bed, "first");
    _cleanup_free_ char *scale = bed_scale(bed, id, 2, 0), *update = NULL, *back = NULL;
    bed_expect_task(bed, scale, TASK_DONE);
    update = bed_update(bed, id, &(struct bed_request){.name = "first", .model = "twin"});
    bed_expect_task(bed, update, TASK_DONE);
    back = bed_rollback(bed, id);
    bed_expect_task(bed, back, TASK_DONE);
    reindex_check(bed, "books");
}

static void a_rollback_to_another_digest_is_a_conflict(void **state) {
    struct engine_bed *bed = *state;
    _cleanup_free_ char *id = id_of(bed, "first");
    _cleanup_free_ char *update = bed_update(bed, id, &(struct bed_request){.name = "first", .model = "two"});
    bed_expect_task(bed, update, TASK_DONE);
    make(bed, "books", "first");
    assert_null(bed_rollback(bed, id));
    reindex_check(bed, "books");
}

/* X7. */
static void a_model_that_another_collection_uses_stays(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    make(bed, "films", "first");
    _cleanup_free_ char *task = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = 0}, NULL);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_free_ char *window = reindex_child(bed, task, "retire");
    _cleanup_free_ char *deletion = reindex_child(bed, window, "delete");
    bed_expect_task(bed, deletion, TASK_REFUSED);
    _cleanup_task_ struct task ended = bed_task(bed, window), parent = bed_task(bed, task);
    assert_non_null(strstr(ended.detail, "the collection films"));
    assert_non_null(strstr(parent.detail, "the collection films"));
    reindex_check(bed, "books");
    reindex_check(bed, "films");
}

/* X7: what this re-index did not deploy it does not delete; what another collection has come to use neither. */
static void the_cleanup_leaves_a_model_that_another_collection_has_come_to_use(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    fake_indexer_hold(bed->indexer, "gate");
    _cleanup_free_ char *task = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = HOUR_MS},
        NULL);
    assert_true(fake_indexer_wait_held(bed->indexer));
    make(bed, "films", "second");
    assert_int_equal(bed_cancel(bed, task), 0);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, task, TASK_CANCELED);
    _cleanup_free_ char *id = id_of(bed, "second");
    assert_non_null(id);
    reindex_check(bed, "books");
    reindex_check(bed, "films");
}

/* ---- deleting (X8) ---- */

static void expect_gone(struct engine_bed *bed) {
    bed_check_consistent(bed);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM collections", NULL), 0);
    assert_int_equal(bed_ask(bed, "SELECT count(*) FROM pins WHERE subject LIKE 'encoder:%'", NULL), 0);
    assert_int_equal(scratch_count(bed->folder, "collections"), 0);
}

static void a_delete_frees_name_encoder_and_disk(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    _cleanup_free_ char *task = reindex_delete(bed, "books");
    bed_expect_task(bed, task, TASK_DONE);
    expect_gone(bed);
    make(bed, "books", "first");
    reindex_check(bed, "books");
}

static void a_delete_cancels_a_reindex_and_waits_for_its_cleanup(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    fake_indexer_hold(bed->indexer, "await_ready");
    _cleanup_free_ char *reindex = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = HOUR_MS},
        NULL);
    assert_true(fake_indexer_wait_held(bed->indexer));
    _cleanup_free_ char *task = reindex_delete(bed, "books"), *again = reindex_delete(bed, "books");
    assert_string_equal(task, again); /* one delete */
    bed_expect_task(bed, task, TASK_DONE);
    fake_indexer_release(bed->indexer);
    bed_expect_task(bed, reindex, TASK_CANCELED);
    _cleanup_free_ char *id = id_of(bed, "second");
    assert_null(id);
    expect_gone(bed);
}

static void a_delete_ends_an_open_window(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    _cleanup_free_ char *reindex = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = HOUR_MS},
        NULL);
    bed_expect_task(bed, reindex, TASK_DONE);
    _cleanup_free_ char *window = reindex_child(bed, reindex, "retire"), *task = reindex_delete(bed, "books");
    bed_expect_task(bed, task, TASK_DONE);
    bed_expect_task(bed, window, TASK_CANCELED);
    expect_gone(bed);
}

static void nothing_begins_on_a_collection_that_is_being_deleted(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    bed->gateway_lags = true; /* so that it hangs where gateways are waited for */
    bed->settings->drain_ms = 20000;
    _cleanup_free_ char *task = reindex_delete(bed, "books");
    while (bed_ask(bed, "SELECT count(*) FROM collections WHERE state = 'active'", NULL)) sched_yield();
    struct error *error = NULL;
    assert_null(
        reindex_begin(bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second"}, &error));
    assert_int_equal(error->class, ERROR_CONFLICT);
    error_free(error);
    assert_true(bed_cancel(bed, task) == 0); /* too late, and without effect */
    bed_let_gateway_go_on(bed);
    bed_expect_task(bed, task, TASK_DONE);
    expect_gone(bed);
}

/* ---- events (S4) ---- */

static bool has_events(struct engine_bed *bed, const void *context) {
    return bed_ask(bed, "SELECT count(*) FROM events WHERE kind LIKE 'collection_%' AND message LIKE ?", context) == 1;
}

static void the_events_of_a_collection_are_copied_once(void **state) {
    struct engine_bed *bed = *state;
    make(bed, "books", "first");
    _cleanup_free_ char *task = reindex_begin(
        bed, &(struct reindex_order){.collection = "books", .model = "two", .as = "second", .window_ms = HOUR_MS},
        NULL);
    bed_expect_task(bed, task, TASK_DONE);
    _cleanup_view_ struct catalog_view view = reindex_view(bed, "books");
    outbox_note(bed->controller.outbox, view.facts.collection_id);
    bed_wait_until(bed, has_events, "collection books: switched from %");
    outbox_note(bed->controller.outbox, view.facts.collection_id);
    bed_close(bed);
    bed_open(bed); /* and none again at the next start */
    bed_wait_idle(bed);
    assert_true(has_events(bed, "collection books: switched from %"));
    assert_true(has_events(bed, "collection books: made the collection books"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)
        T(a_collection_has_its_folder_pin_and_finished_task),
        T(what_cannot_be_made_leaves_nothing),
        T(a_body_that_is_wrong_is_refused_with_the_field),
        T(a_reindex_body_that_is_wrong_is_refused_with_the_field),
        T(a_reindex_body_has_the_defaults_of_the_api),
        T(failures_may_be_a_count_or_a_share),
        T(an_encoder_in_use_is_not_deleted),
        T(an_update_to_another_digest_is_refused_before_anything_is_switched),
        T(an_update_to_a_package_of_another_digest_is_refused_at_once),
        T(changes_that_keep_the_digest_are_allowed),
        T(a_rollback_to_another_digest_is_a_conflict),
        T(a_model_that_another_collection_uses_stays),
        T(the_cleanup_leaves_a_model_that_another_collection_has_come_to_use),
        T(a_delete_frees_name_encoder_and_disk),
        T(a_delete_cancels_a_reindex_and_waits_for_its_cleanup),
        T(a_delete_ends_an_open_window),
        T(nothing_begins_on_a_collection_that_is_being_deleted),
        T(the_events_of_a_collection_are_copied_once),
    };
    return cmocka_run_group_tests_name("collections", tests, NULL, NULL);
}
