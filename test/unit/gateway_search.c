/* Searches through the whole gateway: what is asked, by which encoder, at which moment, by which pair. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/collection_bed.h"
#include "support/document_bed.h"

#define SEARCH "/v1/collections/c/search"
#define QUERIES "/v1/collections/c/queries/search"
#define DOCUMENTS "/v1/collections/c/documents"

static int open_bed(void **state) {
    struct document_bed *bed = calloc(1, sizeof *bed);
    document_bed_open(bed, false, false);
    *state = bed;
    return 0;
}

static int open_quantized(void **state) {
    struct document_bed *bed = calloc(1, sizeof *bed);
    document_bed_open(bed, false, true);
    *state = bed;
    return 0;
}

static int open_keeping(void **state) {
    struct document_bed *bed = calloc(1, sizeof *bed);
    document_bed_open(bed, true, false);
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    document_bed_close(*state);
    free(*state);
    return 0;
}

static void start_with_four(struct document_bed *bed) {
    document_bed_start(bed);
    document_bed_put(bed, "x", "1 0 0 0", "{\"lang\":\"de\",\"n\":1}");
    document_bed_put(bed, "y", "0 1 0 0", "{\"lang\":\"en\",\"n\":2}");
    document_bed_put(bed, "z", "0 0 1 0", "{\"lang\":\"de\",\"n\":3}");
    document_bed_put(bed, "xy", "2 2 0 0", NULL);
    document_bed_index(bed);
}

static void search(struct document_bed *bed, const char *body) {
    document_bed_expect(bed, 200, "POST", SEARCH, body);
}

static double score_of(const struct document_bed *bed, size_t index) {
    _cleanup_json_ yyjson_doc *document = yyjson_read(bed->client.body.bytes, bed->client.body.size, 0);
    yyjson_val *hit = yyjson_arr_get(yyjson_obj_get(yyjson_doc_get_root(document), "hits"), index);
    return yyjson_get_num(yyjson_obj_get(hit, "score"));
}

static struct gateway_collection *known(struct document_bed *bed) {
    return gateway_snapshot_find_collection(bed->bed.gateway->routes.current, "c");
}

/* ---- what is found ------------------------------------------------------------------ */

static void the_documents_most_like_a_text_are_found(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    search(bed, "{\"query\":\"3 1 0 0\",\"limit\":3}");
    assert_string_equal(document_bed_hits(bed), "x xy y");
    assert_true(fabs(score_of(bed, 0) - 3 / sqrt(10)) < 1e-5);
    assert_true(fabs(score_of(bed, 1) - 4 / sqrt(20)) < 1e-5);
    assert_true(document_bed_answer_has(bed, "\"payload\":{\"lang\":\"de\",\"n\":1}"));
    assert_true(document_bed_answer_has(
        bed, "\"encoder\":{\"deployment\":\"enc\",\"revision\":3,\"digest\":\"" BED_DIGEST "\"},\"applied_seq\":4}"));
    assert_false(document_bed_answer_has(bed, "\"vector\""));
}

static void the_documents_most_like_a_vector_are_found_without_a_replica(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    search(bed, "{\"vector\":[0,0,5,0],\"encoder_digest\":\"" BED_DIGEST "\",\"limit\":1,\"with_payload\":false,"
                "\"with_vector\":true}");
    assert_string_equal(document_bed_hits(bed), "z");
    assert_true(document_bed_answer_has(bed, "\"vector\":[0,0,1,0]"));
    assert_false(document_bed_answer_has(bed, "payload"));
    assert_int_equal(bed->a.request_count, 0);
}

static void pages_follow_each_other(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    search(bed, "{\"query\":\"3 1 0 0\",\"limit\":1,\"offset\":1}");
    assert_string_equal(document_bed_hits(bed), "xy");
    search(bed, "{\"query\":\"3 1 0 0\",\"limit\":5,\"offset\":2}");
    assert_string_equal(document_bed_hits(bed), "y z");
    search(bed, "{\"query\":\"3 1 0 0\",\"limit\":5,\"offset\":9}");
    assert_string_equal(document_bed_hits(bed), "");
}

static void a_filter_narrows_what_is_found(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    search(bed, "{\"query\":\"3 1 0 0\",\"filter\":{\"field\":\"lang\",\"eq\":\"de\"}}");
    assert_string_equal(document_bed_hits(bed), "x z");
    search(bed, "{\"query\":\"3 1 0 0\",\"filter\":{\"field\":\"lang\",\"eq\":\"de\"},\"offset\":1,\"limit\":1}");
    assert_string_equal(document_bed_hits(bed), "z");
    search(bed, "{\"query\":\"3 1 0 0\",\"filter\":{}}");
    assert_string_equal(document_bed_hits(bed), "x xy y z");
    search(bed, "{\"query\":\"3 1 0 0\",\"filter\":{\"field\":\"lang\",\"eq\":\"fr\"}}");
    assert_string_equal(document_bed_hits(bed), "");
}

/* More than are tried first do not fit: the whole log is asked. */
static void write_many(struct document_bed *bed, size_t count) {
    struct buffer lines = {0};
    for (size_t i = 0; i < count; i++)
        buffer_append_format(&lines, "{\"id\":\"%zu\",\"text\":\"1 0.%06zu 0 0\",\"payload\":{\"n\":%zu}}\n", i, i, i);
    assert_int_equal(document_bed_ask(bed, "POST", DOCUMENTS, "application/x-ndjson", lines.bytes), 200);
    buffer_clear(&lines);
}

static void a_filter_that_few_fit_is_asked_of_the_whole_log(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    write_many(bed, 1000);
    document_bed_index(bed);
    search(bed, "{\"query\":\"1 0 0 0\",\"limit\":2,\"filter\":{\"field\":\"n\",\"gte\":900}}");
    assert_string_equal(document_bed_hits(bed), "900 901");
    search(bed, "{\"query\":\"1 0 0 0\",\"limit\":10,\"filter\":{\"field\":\"n\",\"gte\":997}}");
    assert_string_equal(document_bed_hits(bed), "997 998 999");
    search(bed, "{\"query\":\"1 0 0 0\",\"limit\":2,\"offset\":1,\"filter\":{\"field\":\"n\",\"gte\":997}}");
    assert_string_equal(document_bed_hits(bed), "998 999");
}

static void L5_a_document_that_is_replaced_is_found_as_it_was_until_the_index_shows_the_new_one(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    write_many(bed, 1000);
    document_bed_index(bed);
    document_bed_put(bed, "999", "0 0 0 1", "{\"n\":-1}");
    document_bed_expect(bed, 200, "DELETE", DOCUMENTS "/998", NULL);
    search(bed, "{\"query\":\"1 0 0 0\",\"limit\":10,\"filter\":{\"field\":\"n\",\"gte\":997}}");
    assert_string_equal(document_bed_hits(bed), "997 998 999"); /* by way of the whole log, too */
    assert_int_equal(document_bed_number(bed, "applied_seq"), 1000);
    search(bed, "{\"query\":\"0 0 0 1\",\"limit\":1}");
    assert_string_equal(document_bed_hits(bed), "0");
    document_bed_index(bed);
    search(bed, "{\"query\":\"0 0 0 1\",\"limit\":1}");
    assert_string_equal(document_bed_hits(bed), "999");
    assert_true(document_bed_answer_has(bed, "\"n\":-1"));
    search(bed, "{\"query\":\"1 0 0 0\",\"limit\":10,\"filter\":{\"field\":\"n\",\"gte\":997}}");
    assert_string_equal(document_bed_hits(bed), "997");
}

static void L5_a_row_that_the_log_has_let_go_is_not_shown_without_what_it_says(void **state) {
    struct document_bed *bed = *state;
    uint64_t durable;
    bool more;
    document_bed_start(bed);
    document_bed_put(bed, "x", "1 0 0 0", NULL);
    document_bed_index(bed);
    document_bed_put(bed, "x", "0 1 0 0", NULL);
    float vector[BED_DIMENSION] = {0, 1};
    folder_vectors.kill(bed->blue.writer, 1, 2);
    REQUIRE(folder_vectors.append(bed->blue.writer, 2, vector, &error));
    folder_vectors.publish(bed->blue.writer, 2, 1); /* durable, but held back */
    REQUIRE(folder_vectors.sync(bed->blue.writer, &durable, &error));
    REQUIRE(collection_record_durable(bed->log, BED_BLUE_ID, durable, &error));
    REQUIRE(collection_compact(bed->log, COLLECTION_DOCUMENTS, 100, &more, &error));
    document_bed_expect(bed, 503, "POST", SEARCH, "{\"query\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "row 1"));
    folder_vectors.publish(bed->blue.writer, 2, 2);
    search(bed, "{\"query\":\"1 0 0 0\"}");
    assert_string_equal(document_bed_hits(bed), "x");
    assert_int_equal(document_bed_number(bed, "applied_seq"), 2);
}

/* ---- what is no search ---------------------------------------------------------------- */

static void what_is_no_search_is_refused_with_its_reason(void **state) {
#define WITH_VECTOR(vector) "{\"encoder_digest\":\"" BED_DIGEST "\",\"vector\":" vector "}"
    static const struct {
        const char *body, *reason;
        int status;
    } cases[] = {
        {"{}", "either a query or a vector", 400},
        {"{\"query\":\"1\",\"vector\":[1]}", "either a query or a vector", 400},
        {"{\"query\":\"\"}", "empty", 400},
        {"{\"query\":\" \\n\"}", "empty", 400},
        {"{\"query\":1}", "query", 400},
        {"{\"query\":\"1\",\"top\":3}", "top", 400},
        {"{\"query\":\"1\",\"limit\":0}", "limit", 400},
        {"{\"query\":\"1\",\"limit\":6000,\"offset\":6000}", "search_limit_maximum", 400},
        {"{\"query\":\"1\",\"filter\":{\"field\":\"a\",\"like\":1}}", "like", 400},
        {"{\"query\":\"1\",\"encoder_digest\":\"x\"}", "encoder_digest", 400},
        {"{\"vector\":[1,0,0,0]}", "encoder_digest", 400},
        {WITH_VECTOR("[1,0,0]"), "3 numbers", 400},
        {WITH_VECTOR("[]"), "0 numbers", 400},
        {WITH_VECTOR("[0,0,0,0]"), "length 0", 400},
        {WITH_VECTOR("[1,0,null,0]"), "number 2", 400},
        {WITH_VECTOR("[1,0,1e39,0]"), "number 2", 400},
        {WITH_VECTOR("[1,0,NaN,0]"), "", 400},
        {WITH_VECTOR("\"AAAA\""), "list", 400},
        {"{\"vector\":[1,0,0,0],\"encoder_digest\":\"another\"}", BED_DIGEST, 409},
        {"[1]", "", 400},
    };
    struct document_bed *bed = *state;
    start_with_four(bed);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        document_bed_expect(bed, cases[i].status, "POST", SEARCH, cases[i].body);
        if (!document_bed_answer_has(bed, cases[i].reason)) fail_msg("%s: %s", cases[i].body, bed->client.body.bytes);
    }
    document_bed_expect(bed, 404, "POST", "/v1/collections/nobody/search", "{\"query\":\"1\"}");
    document_bed_expect(bed, 409, "POST", QUERIES, "{\"query\":\"1\"}");
    assert_int_equal(bed->a.request_count, 0);
}

static void a_filter_that_is_too_deep_is_refused(void **state) {
    struct document_bed *bed = *state;
    struct buffer body = {0};
    start_with_four(bed);
    buffer_append_text(&body, "{\"query\":\"1\",\"filter\":");
    for (int i = 0; i < 30; i++) buffer_append_text(&body, "{\"not\":");
    buffer_append_text(&body, "{\"field\":\"a\",\"eq\":1}");
    for (int i = 0; i < 31; i++) buffer_append_text(&body, "}");
    document_bed_expect(bed, 400, "POST", SEARCH, body.bytes);
    assert_true(document_bed_answer_has(bed, "deep"));
    buffer_clear(&body);
}

static void a_long_body_is_read_on_a_worker_and_a_longer_one_refused(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    size_t size = (size_t)50 << 20;
    char *body = malloc(size + 1);
    memset(body, ' ', size);
    body[size] = 0;
    document_bed_expect(bed, 413, "POST", SEARCH, body);
    memcpy(body, "{\"query\":", 9);
    strcpy(body + 1000000, "\"0 0 1 0\",\"limit\":1}");
    search(bed, body);
    assert_string_equal(document_bed_hits(bed), "z");
    free(body);
}

static void searches_above_the_ceiling_are_turned_away(void **state) {
    static const char body[] = "{\"vector\":[1,0,0,0],\"encoder_digest\":\"" BED_DIGEST "\"}";
    struct document_bed *bed = *state;
    struct client first = {0};
    settings_set(bed->bed.settings, "queue_maximum", "1", NULL);
    start_with_four(bed);
    search(bed, body);
    pthread_mutex_t *mutex = &known(bed)->pair->documents.opening; /* the worker stops at it */
    pthread_mutex_lock(mutex);
    document_bed_begin(bed, &first, "POST", SEARCH, NULL, body, sizeof body - 1);
    until(&bed->bed, gateway_workers_busy(bed->bed.gateway->collections.searches) == 1);
    document_bed_expect(bed, 429, "POST", SEARCH, body);
    assert_true(client_saw(&bed->client, "Retry-After: 1"));
    pthread_mutex_unlock(mutex);
    client_wait(&bed->bed, &first);
    assert_int_equal(first.status, 200);
    client_clear(&first);
}

/* ---- by which encoder -------------------------------------------------------------------- */

static void an_answer_of_another_encoder_is_never_compared(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    bed->a.digest = BED_GREEN_DIGEST;
    document_bed_expect(bed, 503, "POST", SEARCH, "{\"query\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "encoder"));
    assert_true(client_saw(&bed->client, "Retry-After: 1"));
    assert_int_equal(known(bed)->mismatches, 1);
    document_bed_expect(bed, 200, "GET", "/metrics", NULL);
    assert_true(document_bed_answer_has(bed, "slipway_search_encoder_mismatch_total{collection=\"c\"} 1\n"));
    assert_true(document_bed_answer_has(bed, "slipway_searches_total{collection=\"c\",code=\"503\"} 1\n"));
    bed->a.digest = BED_DIGEST;
    search(bed, "{\"query\":\"1 0 0 0\"}");
}

static void what_the_model_refuses_is_the_clients(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    bed->a.does = ENCODER_REFUSES;
    document_bed_expect(bed, 400, "POST", SEARCH, "{\"query\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "text 0 has no tokens"));
    bed->a.does = ENCODER_ANSWERS_NONSENSE;
    document_bed_expect(bed, 503, "POST", SEARCH, "{\"query\":\"1 0 0 0\"}");
}

static void R4_a_search_whose_replica_dies_is_embedded_by_another(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    document_bed_second_replica(bed);
    bed->a.does = bed->b.does = ENCODER_DIES;
    bed->bed.gateway->replicas.turn = 0;
    client_clear(&bed->client);
    document_bed_begin(bed, &bed->client, "POST", SEARCH, NULL, "{\"query\":\"1 0 0 0\"}", 19);
    until(&bed->bed, !bed->a.server || !bed->b.server);
    bed->a.does = bed->b.does = ENCODES;
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 200);
    assert_string_equal(document_bed_hits(bed), "x xy y z");
}

static void a_search_waits_for_a_replica_and_is_told_when_none_comes(void **state) {
    struct document_bed *bed = *state;
    settings_set(bed->bed.settings, "upstream_timeout", "100ms", NULL);
    start_with_four(bed);
    fake_encoder_close(&bed->a);
    gateway_bed_say_down(&bed->bed, "a", 1, true);
    until(&bed->bed, !gateway_route_is_up(gateway_snapshot_find(bed->bed.gateway->routes.current, "enc", 3)));
    document_bed_expect(bed, 503, "POST", SEARCH, "{\"query\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "no replica"));
    search(bed, "{\"vector\":[1,0,0,0],\"encoder_digest\":\"" BED_DIGEST "\"}");
}

/* ---- the pair (X1, X5) ------------------------------------------------------------------------ */

static void say_pair(struct document_bed *bed, uint64_t epoch) {
    wire_say(bed->bed.supervisor.channel, pair_changed, .collection_id = BED_COLLECTION_ID, .epoch = epoch);
}

static void X5_a_collection_that_is_not_open_acknowledges_what_it_is_told(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    say_pair(bed, 9);
    until(&bed->bed, bed->bed.supervisor.pair_epoch == 9);
    assert_int_equal(bed->bed.supervisor.pair_lowest, 9);
    wire_say(bed->bed.supervisor.channel, pair_changed, .collection_id = "never-heard-of", .epoch = 4);
    until(&bed->bed, bed->bed.supervisor.pair_epoch == 4);
}

static void X1_a_search_keeps_the_pair_it_began_with(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    search(bed, "{\"query\":\"1 0 0 0\"}");
    until(&bed->bed, bed->bed.supervisor.pair_epoch >= 1);
    uint64_t before = bed->bed.supervisor.pair_epoch;
    bed->a.does = ENCODER_HOLDS;
    client_clear(&bed->client);
    document_bed_begin(bed, &bed->client, "POST", SEARCH, NULL, "{\"query\":\"1 0 0 0\",\"limit\":1}", 29);
    until(&bed->bed, bed->a.held_count == 1);

    gateway_bed_route(&bed->bed, "e", "enc2", 1, "b", true);
    document_bed_flip(bed);
    say_pair(bed, before + 1);
    until(&bed->bed, bed->bed.supervisor.pair_epoch == before + 1);
    assert_int_equal(bed->bed.supervisor.pair_lowest, before); /* it is still used */

    char path[256];
    snprintf(path, sizeof path, "%s", gateway_bed_socket(&bed->bed, "b.1"));
    fake_encoder_open(&bed->b, &bed->bed.loop, path, BED_GREEN_DIGEST, BED_DIMENSION);
    wire_say(bed->bed.supervisor.channel, replica_up, .replica_id = "b", .incarnation = 1, .address = path, .pid = 1);
    struct client other = {0};
    document_bed_begin(bed, &other, "POST", SEARCH, NULL, "{\"query\":\"1 0 0 0\",\"limit\":1}", 29);
    client_wait(&bed->bed, &other);
    assert_int_equal(other.status, 200);
    assert_non_null(
        strstr(other.body.bytes, "\"encoder\":{\"deployment\":\"enc2\",\"revision\":1,\"digest\":\"digest-2\"}"));
    client_clear(&other);

    bed->a.does = ENCODES;
    fake_encoder_release(&bed->a);
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 200);
    assert_true(document_bed_answer_has(bed, "\"digest\":\"digest-1\""));
    until(&bed->bed, bed->bed.supervisor.pair_lowest == before + 1);
}

static void X5_what_is_told_again_is_answered_again(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    search(bed, "{\"query\":\"1 0 0 0\"}");
    until(&bed->bed, bed->bed.supervisor.pair_used_count > 0);
    uint64_t count = bed->bed.supervisor.pair_used_count, epoch = bed->bed.supervisor.pair_epoch;
    say_pair(bed, epoch);
    until(&bed->bed, bed->bed.supervisor.pair_used_count == count + 1);
    assert_int_equal(bed->bed.supervisor.pair_epoch, epoch);
}

/* ---- the index ----------------------------------------------------------------------------------- */

static void L6_a_search_is_refused_while_the_index_recovers(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    folder_vectors.hold(bed->blue.writer, 9);
    document_bed_expect(bed, 503, "POST", SEARCH, "{\"query\":\"1 0 0 0\"}");
    assert_true(client_saw(&bed->client, "Retry-After: 1"));
    assert_true(document_bed_answer_has(bed, "9"));
    folder_vectors.hold(bed->blue.writer, 0);
    document_bed_expect(bed, 200, "GET", DOCUMENTS "/x", NULL);
}

static void an_index_that_is_not_there_yet_is_searched_when_it_is(void **state) {
    struct document_bed *bed = *state;
    _cleanup_free_ char *folder = text_format("%s/indexes/%s", bed->folder, BED_BLUE_ID);
    folder_vectors.close_writer(TAKE(bed->blue.writer));
    REQUIRE(folder_vectors.remove(folder, &error));
    document_bed_start(bed);
    document_bed_put(bed, "x", "1 0 0 0", NULL);
    document_bed_expect(bed, 503, "POST", SEARCH, "{\"query\":\"1 0 0 0\"}");
    document_bed_make_index(bed, &bed->blue);
    document_bed_index(bed);
    search(bed, "{\"query\":\"1 0 0 0\"}");
    assert_string_equal(document_bed_hits(bed), "x");
}

static void L7_an_index_of_another_log_is_never_searched(void **state) {
    struct document_bed *bed = *state;
    _cleanup_free_ char *folder = text_format("%s/indexes/%s", bed->folder, BED_BLUE_ID);
    folder_vectors.close_writer(TAKE(bed->blue.writer));
    REQUIRE(folder_vectors.remove(folder, &error));
    const struct vector_spec spec = {
        .index_id = BED_BLUE_ID, .log_id = "another", .encoder_digest = BED_DIGEST, .dimension = BED_DIMENSION};
    REQUIRE(folder_vectors.create(folder, &spec, &error));
    document_bed_start(bed);
    document_bed_put(bed, "x", "1 0 0 0", NULL); /* appends go on */
    document_bed_expect(bed, 503, "POST", SEARCH, "{\"query\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "log"));
}

/* ---- kept queries (L10) ------------------------------------------------------------------------------ */

static void searched_texts_are_kept_and_found_again(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    search(bed, "{\"query\":\"1 0 0 0\"}");
    until(&bed->bed, bed->bed.supervisor.queries_head == 1);
    search(bed, "{\"query\":\"1 0 0 0\"}");
    search(bed, "{\"query\":\"0 1 0 0\"}");
    until(&bed->bed, bed->bed.supervisor.queries_head == 2);
    search(bed, "{\"vector\":[1,0,0,0],\"encoder_digest\":\"" BED_DIGEST "\"}"); /* no text */
    document_bed_follow(bed, &bed->queries);
    document_bed_expect(bed, 200, "POST", QUERIES, "{\"query\":\"2 1 0 0\",\"limit\":1}");
    assert_true(document_bed_answer_has(bed, "\"text\":\"1 0 0 0\",\"count\":2,\"last_seen\":\"20"));
    assert_int_equal(document_bed_number(bed, "applied_seq"), 2);
    document_bed_expect(bed, 200, "POST", QUERIES, "{\"query\":\"2 1 0 0\"}");
    document_bed_follow(bed, &bed->queries);
    assert_int_equal(bed->bed.supervisor.queries_head, 2); /* asking for queries is no query */
}

static void a_replica_that_answers_when_the_gateway_has_just_ended_harms_nothing(void **state) {
    struct document_bed *bed = *state;
    start_with_four(bed);
    search(bed, "{\"query\":\"1 0 0 0\"}");
    bed->a.does = ENCODER_HOLDS;
    client_clear(&bed->client);
    document_bed_begin(bed, &bed->client, "POST", SEARCH, NULL, "{\"query\":\"1 0 0 0\",\"limit\":1}", 29);
    until(&bed->bed, bed->a.held_count == 1);
    bed->a.does = ENCODES;
    fake_encoder_release(&bed->a); /* the answer is in the socket, */
    gateway_end(bed->bed.gateway, 0); /* and is read in the round in which connections are closed */
    client_wait(&bed->bed, &bed->client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(the_documents_most_like_a_text_are_found),
        cmocka_unit_test_setup_teardown(the_documents_most_like_a_text_are_found, open_quantized, close_bed),
        TEST(the_documents_most_like_a_vector_are_found_without_a_replica),
        TEST(pages_follow_each_other),
        TEST(a_filter_narrows_what_is_found),
        TEST(a_filter_that_few_fit_is_asked_of_the_whole_log),
        TEST(L5_a_document_that_is_replaced_is_found_as_it_was_until_the_index_shows_the_new_one),
        TEST(L5_a_row_that_the_log_has_let_go_is_not_shown_without_what_it_says),
        TEST(what_is_no_search_is_refused_with_its_reason),
        TEST(a_filter_that_is_too_deep_is_refused),
        TEST(a_long_body_is_read_on_a_worker_and_a_longer_one_refused),
        TEST(searches_above_the_ceiling_are_turned_away),
        TEST(an_answer_of_another_encoder_is_never_compared),
        TEST(what_the_model_refuses_is_the_clients),
        TEST(R4_a_search_whose_replica_dies_is_embedded_by_another),
        TEST(a_search_waits_for_a_replica_and_is_told_when_none_comes),
        TEST(X5_a_collection_that_is_not_open_acknowledges_what_it_is_told),
        TEST(X1_a_search_keeps_the_pair_it_began_with),
        TEST(X5_what_is_told_again_is_answered_again),
        TEST(L6_a_search_is_refused_while_the_index_recovers),
        TEST(an_index_that_is_not_there_yet_is_searched_when_it_is),
        TEST(L7_an_index_of_another_log_is_never_searched),
        cmocka_unit_test_setup_teardown(searched_texts_are_kept_and_found_again, open_keeping, close_bed),
        TEST(a_replica_that_answers_when_the_gateway_has_just_ended_harms_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
