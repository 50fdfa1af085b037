/* libslipway's calls on collections, against a service that answers by a script: what is sent, and what is made of the
 * answer. */
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

static void stop(struct scripted *peer, struct slipway *service, struct slipway_error *error) {
    slipway_error_free(error);
    slipway_close(service);
    scripted_stop(peer);
}

static void a_collection_is_made_and_read_with_its_pair(void **state) {
    (void)state;
    START(
        {"POST /v1/collections", 201,
         "{\"name\":\"docs\",\"deployment\":\"minilm\",\"metric\":\"cosine\",\"keep_queries\":true,\"quantized\":true,"
         "\"documents\":3,\"blue\":{\"index_id\":\"i-1\",\"set\":\"documents\",\"deployment\":\"minilm\",\"revision\":2,"
         "\"digest\":\"d\",\"dimension\":384,\"state\":\"blue\",\"applied_seq\":5,\"durable_seq\":4,\"head_seq\":6,"
         "\"rows\":3,\"failed\":1,\"rate\":2.5}}",
         0});
    const struct slipway_collection_request request = {
        .name = "docs", .deployment = "minilm", .keep_queries = true, .quantized = true};
    struct slipway_collection *collection = NULL;
    assert_int_equal(slipway_create_collection(service, &request, &collection, &error), 0);
    assert_string_equal(scripted_request(peer, 0),
                        "POST /v1/collections\napplication/json\n{\"name\":\"docs\",\"deployment\":\"minilm\","
                        "\"keep_queries\":true,\"quantized\":true}");
    assert_string_equal(collection->name, "docs");
    assert_true(collection->keep_queries && collection->quantized && collection->documents == 3);
    assert_non_null(collection->blue);
    assert_null(collection->rollback);
    assert_string_equal(collection->blue->state, "blue");
    assert_int_equal(collection->blue->dimension, 384);
    assert_int_equal(collection->blue->applied_seq, 5);
    assert_int_equal(collection->blue->failed, 1);
    assert_true(collection->blue->rate > 2.4);
    slipway_collection_free(collection);
    stop(peer, service, error);
}

static void a_documents_id_is_percent_encoded_and_waiting_is_asked_for(void **state) {
    (void)state;
    START({"PUT /v1/collections/docs/documents/a%2Fb%20%C3%BC?wait=indexed", 200,
           "{\"id\":\"a/b ü\",\"seq\":9,\"indexed\":false,\"detail\":\"empty text\"}", 0},
          {"DELETE /v1/collections/docs/documents/x", 200, "{\"id\":\"x\",\"seq\":10}", 0});
    struct slipway_write write = {0};
    assert_int_equal(slipway_put_document(service, "docs", "a/b ü", "text", "{\"k\":1}", true, &write, &error), 0);
    assert_int_equal(write.seq, 9);
    assert_false(write.indexed);
    assert_string_equal(write.detail, "empty text");
    slipway_write_clear(&write);
    assert_string_equal(strchr(scripted_request(peer, 0), '{'), "{\"text\":\"text\",\"payload\":{\"k\":1}}");
    assert_int_equal(slipway_delete_document(service, "docs", "x", false, NULL, &error), 0);
    stop(peer, service, error);
}

static void a_payload_that_is_not_json_is_told_before_anything_is_sent(void **state) {
    (void)state;
    START({"POST /", 200, NULL, 0});
    const struct slipway_document_write writes[] = {{"a", "text", "{}"}, {"b", "text", "{no"}};
    struct slipway_bulk *bulk = NULL;
    assert_int_equal(slipway_write_documents(service, "docs", writes, 2, false, &bulk, &error), -SLIPWAY_CONFIGURATION);
    assert_non_null(strstr(error->message, "document 2: payload is not JSON"));
    assert_string_equal(error->causes[0], "document 2");
    assert_int_equal(error->cause_count, 2);
    assert_null(bulk);
    assert_int_equal(scripted_count(peer), 0);
    stop(peer, service, error);
}

static void many_writes_go_as_one_list_and_deletes_are_marked(void **state) {
    (void)state;
    START({"POST /v1/collections/docs/documents\n", 200,
           "{\"seq\":4,\"accepted\":1,\"rejected\":1,\"errors\":[{\"line\":2,\"id\":\"b\",\"detail\":\"not there\"}]}",
           0});
    const struct slipway_document_write writes[] = {{"a", "text", NULL}, {.id = "b"}};
    struct slipway_bulk *bulk = NULL;
    assert_int_equal(slipway_write_documents(service, "docs", writes, 2, false, &bulk, &error), 0);
    assert_string_equal(strchr(scripted_request(peer, 0), '{'),
                        "{\"documents\":[{\"id\":\"a\",\"text\":\"text\"},{\"id\":\"b\",\"delete\":true}]}");
    assert_int_equal(bulk->accepted, 1);
    assert_int_equal(bulk->failed, 1);
    assert_int_equal(bulk->errors[0].line, 2);
    assert_string_equal(bulk->errors[0].id, "b");
    slipway_bulk_free(bulk);
    stop(peer, service, error);
}

/* ---- import ---- */

struct source {
    const char *bytes;
    size_t size, piece; /* at most so many at once */
    unsigned told;
};

static int64_t give(void *context, char *buffer, size_t size) {
    struct source *source = context;
    if (size > source->piece) size = source->piece;
    if (size > source->size) size = source->size;
    memcpy(buffer, source->bytes, size);
    source->bytes += size;
    source->size -= size;
    return (int64_t)size;
}

static bool count(void *context, const struct slipway_bulk *so_far, uint64_t bytes) {
    (void)so_far;
    (void)bytes;
    ((struct source *)context)->told++;
    return true;
}

static char *make_lines(size_t count_of_lines) {
    char *text = mem_alloc(count_of_lines * 32 + 1), *at = text;
    for (size_t i = 0; i < count_of_lines; i++) at += sprintf(at, "{\"id\":\"%zu\",\"text\":\"t\"}\n", i);
    return text;
}

static void an_import_goes_in_parts_of_whole_lines_whatever_the_pieces(void **state) {
    (void)state;
    START({"POST /v1/collections/docs/documents", 200,
           "{\"seq\":7,\"accepted\":1999,\"rejected\":3,\"errors\":[{\"line\":3,\"detail\":\"bad\"}]}", 0});
    _cleanup_free_ char *lines = make_lines(4001);
    const size_t size = strlen(lines) - 1, pieces[] = {size, 1000, 77}; /* the last line lacks its end */
    for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
        struct source source = {lines, size, pieces[i], 0};
        const struct slipway_import import = {.read = give, .progress = count, .context = &source};
        struct slipway_bulk *bulk = NULL;
        size_t before = scripted_count(peer);
        assert_int_equal(slipway_import_documents(service, "docs", &import, &bulk, &error), 0);
        assert_int_equal(scripted_count(peer) - before, 3);
        assert_int_equal(source.told, 3);
        assert_int_equal(bulk->accepted, 3 * 1999);
        assert_int_equal(bulk->failed, 9); /* also those that are not listed */
        assert_int_equal(bulk->errors[0].line, 3); /* counted on over the parts */
        assert_int_equal(bulk->errors[1].line, 2003);
        assert_int_equal(bulk->errors[2].line, 4003);
        _cleanup_free_ char *sent = NULL;
        for (size_t place = before; place < before + 3; place++) {
            const char *request = scripted_request(peer, place);
            assert_true(
                text_starts_with(request, "POST /v1/collections/docs/documents\napplication/x-ndjson\n{\"id\""));
            char *both = text_format("%s%s", sent ? sent : "", strchr(request, '{'));
            free(sent);
            sent = both;
        }
        assert_int_equal(strlen(sent), size);
        assert_memory_equal(sent, lines, size);
        slipway_bulk_free(bulk);
    }
    stop(peer, service, error);
}

static void an_import_that_breaks_says_how_many_lines_are_safe(void **state) {
    (void)state;
    START({"POST /v1/collections/docs/documents", 200, "{\"seq\":7,\"accepted\":2000,\"errors\":[]}", 1},
          {"POST /v1/collections/docs/documents", 409,
           "{\"error\":\"ConflictError\",\"detail\":\"docs is being deleted\",\"causes\":[\"docs is being deleted\"]}",
           0});
    _cleanup_free_ char *lines = make_lines(4001);
    struct source source = {lines, strlen(lines), 100000, 0};
    const struct slipway_import import = {.read = give, .context = &source};
    struct slipway_bulk *bulk = NULL;
    assert_int_equal(slipway_import_documents(service, "docs", &import, &bulk, &error), -SLIPWAY_CONFLICT);
    assert_string_equal(error->message,
                        "import into docs: the first 2000 lines are safe, what follows is not: docs is being deleted");
    assert_null(bulk);
    stop(peer, service, error);
}

static void an_import_that_waits_is_indexed_only_when_all_its_parts_are(void **state) {
    (void)state;
    START({"POST /v1/collections/docs/documents?wait=indexed", 200,
           "{\"seq\":256,\"accepted\":256,\"errors\":[],\"indexed\":true}", 1},
          {"POST /v1/collections/docs/documents?wait=indexed", 200,
           "{\"seq\":300,\"accepted\":44,\"errors\":[],\"indexed\":false,\"detail\":\"not a number\"}", 1},
          {"POST /v1/collections/docs/documents?wait=indexed", 200,
           "{\"seq\":600,\"accepted\":256,\"errors\":[],\"indexed\":true}", 0});
    _cleanup_free_ char *lines = make_lines(600);
    const char *const ends[] = {strchr(lines, 0), lines + 100};
    const bool all_indexed[] = {false, true};
    for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
        struct source source = {lines, (size_t)(ends[i] - lines), 100000, 0};
        const struct slipway_import import = {.read = give, .context = &source, .wait_indexed = true};
        struct slipway_bulk *bulk = NULL;
        assert_int_equal(slipway_import_documents(service, "docs", &import, &bulk, &error), 0);
        assert_int_equal(bulk->indexed, all_indexed[i]);
        if (all_indexed[i])
            assert_null(bulk->detail);
        else
            assert_string_equal(bulk->detail, "not a number");
        slipway_bulk_free(bulk);
    }
    assert_int_equal(scripted_count(peer), 4);
    stop(peer, service, error);
}

static void an_import_of_nothing_asks_nothing(void **state) {
    (void)state;
    START({"POST /", 200, NULL, 0});
    struct source source = {"", 0, 10, 0};
    const struct slipway_import import = {.read = give, .context = &source};
    struct slipway_bulk *bulk = NULL;
    assert_int_equal(slipway_import_documents(service, "docs", &import, &bulk, &error), 0);
    assert_int_equal(bulk->accepted, 0);
    assert_int_equal(scripted_count(peer), 0);
    slipway_bulk_free(bulk);
    stop(peer, service, error);
}

/* ---- export ---- */

struct sink {
    char bytes[256];
    size_t size, room;
};

static bool keep(void *context, const char *bytes, size_t size) {
    struct sink *sink = context;
    if (size > sink->room - sink->size) return false;
    memcpy(sink->bytes + sink->size, bytes, size);
    sink->size += size;
    return true;
}

static void an_export_comes_piece_by_piece_and_errors_do_not_go_into_it(void **state) {
    (void)state;
    START(
        {"GET /v1/collections/docs/documents", 200, "{\"id\":\"a\"}\n{\"id\":\"b\"}\n", 0},
        {"GET /v1/collections/none/documents", 404, "{\"error\":\"ResourceNotFoundError\",\"detail\":\"no none\"}", 0});
    struct sink sink = {.room = 256}, small = {.room = 5};
    assert_int_equal(slipway_export_documents(service, "docs", keep, &sink, &error), 0);
    assert_int_equal(sink.size, 22);
    assert_int_equal(slipway_export_documents(service, "docs", keep, &small, &error), -SLIPWAY_CONFIGURATION);
    assert_non_null(strstr(error->message, "the caller broke it off"));
    slipway_error_free(TAKE(error));
    sink.size = 0;
    assert_int_equal(slipway_export_documents(service, "none", keep, &sink, &error), -SLIPWAY_NOT_FOUND);
    assert_string_equal(error->message, "no none");
    assert_int_equal(sink.size, 0);
    stop(peer, service, error);
}

/* ---- search, re-index ---- */

static void a_search_by_vector_names_its_encoder_and_hits_are_read(void **state) {
    (void)state;
    START(
        {"POST /v1/collections/docs/search", 200,
         "{\"hits\":[{\"id\":\"a\",\"score\":0.5,\"payload\":{\"k\":1},\"vector\":[0.25,-1]},{\"id\":\"b\",\"score\":-1}],"
         "\"encoder\":{\"deployment\":\"m\",\"revision\":3,\"digest\":\"d\"},\"applied_seq\":12}",
         0});
    const float vector[] = {0.5f, 0.25f};
    const struct slipway_search_request request = {.vector = vector,
                                                   .dimension = 2,
                                                   .encoder_digest = "d",
                                                   .limit = 2,
                                                   .with_vector = true,
                                                   .filter_json = "{\"field\":\"k\",\"eq\":1}"};
    struct slipway_hits *hits = NULL;
    assert_int_equal(slipway_search(service, "docs", &request, &hits, &error), 0);
    assert_string_equal(strchr(scripted_request(peer, 0), '{'),
                        "{\"vector\":[0.5,0.25],\"encoder_digest\":\"d\",\"limit\":2,\"with_vector\":true,"
                        "\"filter\":{\"field\":\"k\",\"eq\":1}}");
    assert_int_equal(hits->count, 2);
    assert_string_equal(hits->hits[0].payload_json, "{\"k\":1}");
    assert_int_equal(hits->hits[0].dimension, 2);
    assert_true(hits->hits[0].vector[1] == -1.0f);
    assert_null(hits->hits[1].payload_json);
    assert_null(hits->hits[1].vector);
    assert_string_equal(hits->digest, "d");
    assert_int_equal(hits->applied_seq, 12);
    slipway_hits_free(hits);
    stop(peer, service, error);
}

static void only_what_was_set_goes_into_a_reindex(void **state) {
    (void)state;
    START({"POST /v1/collections/docs/reindex", 202, "{\"task_id\":\"t\",\"kind\":\"reindex\",\"status\":\"pending\"}",
           0});
    struct slipway_task *task = NULL;
    const struct slipway_deployment_request made = {.deployment_name = "new", .model_uri = "file:///m"};
    const struct slipway_reindex_request requests[] = {
        {.destination = "new"},
        {.destination = "new", .has_rollback_window = true, .max_failed = 3, .keep_source = true},
        {.destination_request = &made,
         .stop_before_switch = true,
         .max_failed = 0.5,
         .overlap_k = 10,
         .overlap_at_least = 0.5},
    };
    const char *const bodies[] = {
        "{\"destination\":\"new\"}",
        "{\"destination\":\"new\",\"delete_source\":false,\"rollback_window\":0,\"max_failed\":3}",
        ("{\"destination\":{\"deployment_name\":\"new\",\"model_uri\":\"file:///m\",\"deployment_target_config\":{\"type\":"
         "\"api_service\"}},\"blue_switch\":false,\"max_failed\":0.5,\"min_overlap\":{\"k\":10,\"at_least\":0.5}}"),
    };
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        assert_int_equal(slipway_reindex(service, "docs", &requests[i], &task, &error), 0);
        assert_string_equal(task->status, "pending");
        slipway_task_free(task);
        assert_string_equal(strchr(scripted_request(peer, i), '{'), bodies[i]);
    }
    stop(peer, service, error);
}

static void a_reindex_task_by_model_ids_has_a_fraction_as_progress(void **state) {
    (void)state;
    START(
        {"POST /api/v1/internal/reindex-tasks/run", 200,
         "{\"task_id\":\"r\",\"status\":\"processing\",\"progress\":0.5,\"count\":50,\"total\":100}", 0},
        {"PUT /api/v1/internal/reindex-tasks/cancel?task_id=r", 200, "{\"task_id\":\"r\",\"status\":\"canceled\"}", 0});
    const struct slipway_reindex_task wanted = {
        .task_id = "r", .source_model_id = "a", .dest_model_id = "b", .deploy_as_blue = true};
    struct slipway_task *task = NULL;
    assert_int_equal(slipway_run_reindex_task(service, &wanted, &task, &error), 0);
    assert_int_equal(task->progress.done, 50);
    assert_int_equal(task->progress.total, 100);
    slipway_task_free(task);
    assert_string_equal(
        strchr(scripted_request(peer, 0), '{'),
        "{\"id\":\"r\",\"source\":{\"embedding_model_id\":\"a\"},\"dest\":{\"embedding_model_id\":\"b\"},"
        "\"deploy_as_blue\":true}");
    assert_int_equal(slipway_cancel_reindex_task(service, "r", &task, &error), 0);
    assert_string_equal(task->status, "canceled");
    slipway_task_free(task);
    stop(peer, service, error);
}

static void an_answer_that_is_not_slipways_is_a_protocol_error(void **state) {
    (void)state;
    START({"GET /v1/collections/docs", 200, "<html>", 0}, {"POST /v1/collections/docs/search", 200, "{\"a\":1}", 0},
          {"GET /v1/collections?", 200, "{}", 0});
    struct slipway_collection *collection = NULL;
    struct slipway_collection_list *list = NULL;
    struct slipway_hits *hits = NULL;
    const struct slipway_search_request request = {.query = "q"};
    assert_int_equal(slipway_get_collection(service, "docs", &collection, NULL), -SLIPWAY_PROTOCOL);
    assert_int_equal(slipway_list_collections(service, 0, 0, &list, NULL), -SLIPWAY_PROTOCOL);
    assert_int_equal(slipway_search(service, "docs", &request, &hits, &error), -SLIPWAY_PROTOCOL);
    stop(peer, service, error);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_collection_is_made_and_read_with_its_pair),
        cmocka_unit_test(a_documents_id_is_percent_encoded_and_waiting_is_asked_for),
        cmocka_unit_test(a_payload_that_is_not_json_is_told_before_anything_is_sent),
        cmocka_unit_test(many_writes_go_as_one_list_and_deletes_are_marked),
        cmocka_unit_test(an_import_goes_in_parts_of_whole_lines_whatever_the_pieces),
        cmocka_unit_test(an_import_that_breaks_says_how_many_lines_are_safe),
        cmocka_unit_test(an_import_that_waits_is_indexed_only_when_all_its_parts_are),
        cmocka_unit_test(an_import_of_nothing_asks_nothing),
        cmocka_unit_test(an_export_comes_piece_by_piece_and_errors_do_not_go_into_it),
        cmocka_unit_test(a_search_by_vector_names_its_encoder_and_hits_are_read),
        cmocka_unit_test(only_what_was_set_goes_into_a_reindex),
        cmocka_unit_test(a_reindex_task_by_model_ids_has_a_fraction_as_progress),
        cmocka_unit_test(an_answer_that_is_not_slipways_is_a_protocol_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
