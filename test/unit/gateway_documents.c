/* Documents through the whole gateway: one, many, all; waiting for the index; what ends a collection. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "collection/collection-internal.h"
#include "support/collection_bed.h"
#include "support/document_bed.h"
#include "support/exposition.h"
#include "support/watch.h"

#define DOCUMENTS "/v1/collections/c/documents"
#define NDJSON "application/x-ndjson"

static int open_bed(void **state) {
    struct document_bed *bed = calloc(1, sizeof *bed);
    document_bed_open(bed, false, false);
    *state = bed;
    return 0;
}

static int close_bed(void **state) {
    document_bed_close(*state);
    free(*state);
    return 0;
}

static uint64_t head_of(struct document_bed *bed) {
    _cleanup_read_ struct collection_read *read = NULL;
    REQUIRE(collection_read_begin(bed->log, COLLECTION_DOCUMENTS, &read, &error));
    return collection_head(read);
}

static struct gateway_collection *known(struct document_bed *bed) {
    return gateway_snapshot_find_collection(bed->bed.gateway->routes.current, "c");
}

/* ---- one ------------------------------------------------------------------------ */

static void a_document_is_written_read_and_deleted(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    assert_int_equal(document_bed_put(bed, "x%20y", "1 0 0 0", "{\"n\":[1,2.50]}"), 1);
    assert_true(document_bed_answer_has(bed, "\"id\":\"x y\""));
    document_bed_expect(bed, 200, "GET", DOCUMENTS "/x%20y", NULL);
    assert_true(document_bed_answer_has(bed, "\"id\":\"x y\",\"text\":\"1 0 0 0\",\"payload\":{\"n\":[1,2.5"));
    assert_int_equal(document_bed_number(bed, "seq"), 1);
    assert_true(document_bed_answer_has(bed, "\"updated_at\":\"20"));
    document_bed_expect(bed, 200, "DELETE", DOCUMENTS "/x%20y", NULL);
    assert_int_equal(document_bed_number(bed, "seq"), 2);
    document_bed_expect(bed, 404, "GET", DOCUMENTS "/x%20y", NULL);
}

static void a_document_that_is_not_there_is_not_deleted_and_nothing_is_written(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    document_bed_expect(bed, 404, "DELETE", DOCUMENTS "/x", NULL);
    assert_int_equal(head_of(bed), 0);
}

static void each_acknowledged_append_is_told_to_the_indexer(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    document_bed_put(bed, "x", "1 0 0 0", NULL);
    until(&bed->bed, bed->bed.supervisor.appended_head == 1);
    document_bed_put(bed, "x", "0 1 0 0", NULL);
    until(&bed->bed, bed->bed.supervisor.appended_head == 2);
    uint64_t before = bed->bed.supervisor.appended_count;
    wire_say(bed->bed.supervisor.channel, indexer_up, .pid = 1); /* one that has just come has not heard it */
    until(&bed->bed, bed->bed.supervisor.appended_count == before + 1);
    assert_int_equal(bed->bed.supervisor.appended_head, 2);
}

static void what_is_no_document_is_refused_with_its_reason(void **state) {
    static const struct {
        const char *body, *reason;
        int status;
    } cases[] = {
        {"{\"text\":\"\"}", "text", 400},
        {"{\"text\":\"  \"}", "text", 400},
        {"{\"text\":7}", "text", 400},
        {"{}", "text", 400},
        {"{\"text\":\"a\"", "", 400},
        {"[]", "", 400},
        {"{\"text\":\"a\",\"x\":1}", "x", 400},
        {"{\"text\":\"a\",\"payload\":[]}", "payload", 400},
        {"", "", 400},
    };
    struct document_bed *bed = *state;
    document_bed_start(bed);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        document_bed_expect(bed, cases[i].status, "PUT", DOCUMENTS "/x", cases[i].body);
        if (!document_bed_answer_has(bed, cases[i].reason)) fail_msg("%s: %s", cases[i].body, bed->client.body.bytes);
        assert_true(client_saw(&bed->client, "Content-Type: application/problem+json"));
    }
    assert_int_equal(head_of(bed), 0);
}

static void a_text_that_is_too_long_is_refused_before_it_is_taken(void **state) {
    struct document_bed *bed = *state;
    settings_set(bed->bed.settings, "document_maximum", "4096", NULL);
    document_bed_start(bed);
    size_t size = (size_t)50 << 20;
    char *body = malloc(size + 1);
    memset(body, 'a', size);
    body[size] = 0;
    document_bed_expect(bed, 413, "PUT", DOCUMENTS "/x", body);
    memcpy(body, "{\"text\":\"", 9);
    strcpy(body + 5000, "\"}");
    document_bed_expect(bed, 413, "PUT", DOCUMENTS "/x", body); /* short enough to be looked at */
    strcpy(body + 4000, "\"}");
    document_bed_expect(bed, 200, "PUT", DOCUMENTS "/x", body);
    free(body);
}

static void ids_collections_and_parameters_that_cannot_be_are_told(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    document_bed_expect(bed, 404, "GET", "/v1/collections/nobody/documents/x", NULL);
    assert_true(document_bed_answer_has(bed, "nobody"));
    document_bed_expect(bed, 404, "GET", "/v1/collections/%2e%2e/documents/x", NULL);
    document_bed_expect(bed, 400, "PUT", DOCUMENTS "/%ff", "{\"text\":\"a\"}");
    document_bed_expect(bed, 400, "PUT", DOCUMENTS "/x?wait=written", "{\"text\":\"a\"}");
    document_bed_expect(bed, 400, "PUT", DOCUMENTS "/x?weit=indexed", "{\"text\":\"a\"}");
    document_bed_expect(bed, 400, "GET", DOCUMENTS "/x?wait=indexed", NULL);
    document_bed_expect(bed, 400, "GET", DOCUMENTS "?after=x", NULL);
    char target[2048] = DOCUMENTS "/";
    memset(target + strlen(target), 'a', 513);
    document_bed_expect(bed, 400, "PUT", target, "{\"text\":\"a\"}");
}

static void a_collection_made_a_moment_ago_is_found(void **state) {
    struct document_bed *bed = *state;
    gateway_bed_sql(&bed->bed, "UPDATE collections SET state = 'making'");
    document_bed_start(bed);
    document_bed_expect(bed, 404, "GET", DOCUMENTS "/x", NULL);
    gateway_bed_sql(&bed->bed, "UPDATE collections SET state = 'active'");
    gateway_bed_sql(&bed->bed, "UPDATE routing SET generation = generation + 1"); /* committed, not announced */
    document_bed_put(bed, "x", "1 0 0 0", NULL);
}

static void a_collection_that_cannot_be_opened_is_told_and_tried_again(void **state) {
    struct document_bed *bed = *state;
    _cleanup_free_ char *aside = text_format("%s.aside", bed->folder);
    document_bed_start(bed);
    assert_int_equal(rename(bed->folder, aside), 0);
    document_bed_expect(bed, 503, "PUT", DOCUMENTS "/x", "{\"text\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "cannot be opened"));
    assert_true(client_saw(&bed->client, "Retry-After: 1"));
    assert_int_equal(rename(aside, bed->folder), 0);
    document_bed_put(bed, "x", "1 0 0 0", NULL);
}

/* ---- together (one sync for those that wait) --------------------------------------- */

/* Nobody else can write while it is open. */
struct writer_lock {
    struct store *store;
    struct store_transaction *transaction;
};

static void take_lock(struct document_bed *bed, struct writer_lock *lock) {
    const struct store_options options = {.schema = &collection_schema, .role = STORE_WRITER};
    _cleanup_free_ char *path = text_format("%s/documents.db", bed->folder);
    REQUIRE(store_open_as(path, &options, &lock->store, &error));
    REQUIRE(store_begin(lock->store, &lock->transaction, &error));
}

static void give_lock_back(struct writer_lock *lock) {
    store_rollback(lock->transaction);
    store_close(lock->store);
}

static void writes_that_wait_together_share_one_append(void **state) {
    enum { COUNT = 40 };
    struct document_bed *bed = *state;
    struct client clients[COUNT] = {0};
    struct writer_lock lock;
    document_bed_start(bed);
    document_bed_put(bed, "first", "1 0 0 0", NULL);
    take_lock(bed, &lock);
    for (int i = 0; i < COUNT; i++) {
        _cleanup_free_ char *target = text_format(DOCUMENTS "/%d", i);
        document_bed_begin(bed, &clients[i], "PUT", target, NULL, "{\"text\":\"1 0 0 0\"}", 18);
    }
    until(&bed->bed, known(bed)->waiting.count + known(bed)->appending.count == COUNT);
    give_lock_back(&lock);
    bool seen[COUNT + 2] = {0};
    for (int i = 0; i < COUNT; i++) {
        client_wait(&bed->bed, &clients[i]);
        assert_int_equal(clients[i].status, 200);
        const char *seq = strstr(clients[i].body.bytes, "\"seq\":");
        size_t number = strtoul(seq + 6, NULL, 10);
        assert_true(number >= 2 && number < COUNT + 2 && !seen[number]); /* each has its own */
        seen[number] = true;
        client_clear(&clients[i]);
    }
    assert_int_equal(known(bed)->documents_written, COUNT + 1);
    assert_int_equal(known(bed)->writes.batch_count, 3); /* the first; what came before the lock was met; all others */
    assert_int_equal(head_of(bed), COUNT + 1);
}

static size_t count_refused(struct client *clients, size_t count) {
    size_t refused = 0;
    for (size_t i = 0; i < count; i++) refused += clients[i].has_ended && clients[i].status == 429;
    return refused;
}

static void writes_above_the_ceiling_are_turned_away(void **state) {
    enum { COUNT = 30, TAKEN = 1 + 2 };
    struct document_bed *bed = *state;
    struct client clients[COUNT] = {0};
    struct writer_lock lock;
    settings_set(bed->bed.settings, "queue_maximum", "2", NULL);
    document_bed_start(bed);
    document_bed_put(bed, "first", "1 0 0 0", NULL);
    take_lock(bed, &lock);
    document_bed_begin(bed, &clients[0], "PUT", DOCUMENTS "/x", NULL, "{\"text\":\"1 0 0 0\"}", 18);
    until(&bed->bed, known(bed)->is_appending);
    for (int i = 1; i < COUNT; i++)
        document_bed_begin(bed, &clients[i], "PUT", DOCUMENTS "/x", NULL, "{\"text\":\"1 0 0 0\"}", 18);
    until(&bed->bed, count_refused(clients, COUNT) == COUNT - TAKEN);
    assert_int_equal(known(bed)->waiting.count, 2);
    give_lock_back(&lock);
    for (int i = 0; i < COUNT; i++) {
        client_wait(&bed->bed, &clients[i]);
        bool was_refused = clients[i].status == 429;
        if (!was_refused) assert_int_equal(clients[i].status, 200);
        if (was_refused) assert_true(client_saw(&clients[i], "Retry-After: 1"));
        client_clear(&clients[i]);
    }
    assert_int_equal(head_of(bed), 1 + TAKEN);
}

/* ---- many ------------------------------------------------------------------------------ */

static void lines_are_written_and_bad_ones_told(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    int status = document_bed_ask(bed, "POST", DOCUMENTS, NDJSON,
                                  "{\"id\":\"a\",\"text\":\"1 0 0 0\"}\n"
                                  "{\"id\":\"b\",\"text\":\"\"}\n"
                                  "\n"
                                  "{\"id\":\"c\",\"text\":\"0 1 0 0\",\"payload\":{\"k\":1}}\r\n"
                                  "nonsense\n"
                                  "{\"id\":\"a\",\"delete\":true}\n"
                                  "{\"id\":\"nobody\",\"delete\":true}");
    assert_int_equal(status, 200);
    assert_int_equal(document_bed_number(bed, "accepted"), 3);
    assert_int_equal(document_bed_number(bed, "rejected"), 3);
    assert_int_equal(document_bed_number(bed, "seq"), 3);
    assert_true(document_bed_answer_has(bed, "{\"line\":2,\"id\":\"b\",\"detail\":"));
    assert_true(document_bed_answer_has(bed, "{\"line\":5,\"detail\":"));
    assert_true(document_bed_answer_has(bed, "{\"line\":7,\"id\":\"nobody\",\"detail\":"));
    document_bed_expect(bed, 404, "GET", DOCUMENTS "/a", NULL);
    document_bed_expect(bed, 200, "GET", DOCUMENTS "/c", NULL);
    assert_int_equal(head_of(bed), 3);
}

static void a_stream_without_one_document_is_answered_line_by_line(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    assert_int_equal(document_bed_ask(bed, "POST", DOCUMENTS, NDJSON, "x\n{}\n"), 200);
    assert_int_equal(document_bed_number(bed, "accepted"), 0);
    assert_true(document_bed_answer_has(bed, "\"line\":2"));
    assert_int_equal(document_bed_ask(bed, "POST", DOCUMENTS, NDJSON, "\n"), 200);
    assert_int_equal(document_bed_number(bed, "accepted"), 0);
}

static void of_equal_ids_in_one_list_the_last_one_stands(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    document_bed_expect(bed, 200, "POST", DOCUMENTS,
                        "{\"documents\":[{\"id\":\"a\",\"text\":\"1 0 0 0\"},{\"id\":\"b\"},"
                        "{\"id\":\"a\",\"text\":\"0 1 0 0\"}]}");
    assert_int_equal(document_bed_number(bed, "accepted"), 2);
    assert_int_equal(document_bed_number(bed, "seq"), 2);
    assert_true(document_bed_answer_has(bed, "{\"line\":2,\"id\":\"b\""));
    document_bed_expect(bed, 200, "GET", DOCUMENTS "/a", NULL);
    assert_true(document_bed_answer_has(bed, "0 1 0 0"));
    document_bed_expect(bed, 400, "POST", DOCUMENTS, "{\"documents\":{}}");
    document_bed_expect(bed, 400, "POST", DOCUMENTS, "[]");
}

static char *many_lines(size_t count, size_t text_size, size_t *ret_size) {
    struct buffer text = {0};
    _cleanup_free_ char *filler = mem_zeroed(1, text_size + 1);
    memset(filler, 'z', text_size);
    for (size_t i = 0; i < count; i++)
        buffer_append_format(&text, "{\"id\":\"%zu\",\"text\":\"%zu %s\"}\n", i, i, filler);
    return buffer_take(&text, ret_size);
}

static void a_long_stream_is_taken_whole_and_exported_whole(void **state) {
    enum { COUNT = 6000 };
    struct document_bed *bed = *state;
    settings_set(bed->bed.settings, "body_maximum", "1048576", NULL); /* a stream has no ceiling */
    document_bed_start(bed);
    size_t size;
    _cleanup_free_ char *lines = many_lines(COUNT, 1000, &size);
    assert_true(size > 6000000);
    document_bed_begin(bed, &bed->client, "POST", DOCUMENTS, NDJSON, lines, size);
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 200);
    assert_int_equal(document_bed_number(bed, "accepted"), COUNT);
    assert_int_equal(document_bed_number(bed, "seq"), COUNT);
    document_bed_expect(bed, 200, "DELETE", DOCUMENTS "/17", NULL);
    document_bed_expect(bed, 200, "GET", DOCUMENTS, NULL);
    assert_true(client_saw(&bed->client, "Content-Type: application/x-ndjson"));
    size_t count = 0, last = 0;
    for (char *line = bed->client.body.bytes; *line; line = strchr(line, '\n') + 1, count++) {
        size_t seq = strtoul(strstr(line, "\"seq\":") + 6, NULL, 10);
        assert_true(seq > last);
        last = seq;
    }
    assert_int_equal(count, COUNT - 1);
    document_bed_expect(bed, 200, "GET", DOCUMENTS "?after=5999", NULL);
    assert_non_null(strstr(bed->client.body.bytes, "\"id\":\"5999\""));
    assert_int_equal(bed->client.body.bytes + bed->client.body.size - strchr(bed->client.body.bytes, '\n'), 1);
    document_bed_expect(bed, 200, "GET", DOCUMENTS "?after=6001", NULL);
    assert_int_equal(bed->client.body.size, 0);
    document_bed_expect(bed, 200, "HEAD", DOCUMENTS, NULL);
}

static void begin_stream(struct document_bed *bed) {
    const struct http_header headers[] = {{"Content-Type", NDJSON}};
    client_ask(&bed->bed, &bed->client,
               &(struct http_call_request){.method = "POST",
                                           .target = DOCUMENTS,
                                           .host = "test",
                                           .headers = headers,
                                           .header_count = 1,
                                           .content_length = -1,
                                           .has_body = true});
}

static void a_stream_that_trickles_is_written_as_it_comes(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    begin_stream(bed);
    http_call_send(bed->client.call, "{\"id\":\"a\",\"text\":\"1 0 0 0\"}\n{\"id\":\"b\",", 38);
    until(&bed->bed, head_of(bed) == 1); /* though the stream goes on */
    assert_true(known(bed) && bed->bed.gateway->routes.current->references < 3);
    http_call_send(bed->client.call, "\"text\":\"0 1 0 0\"}\n", 18);
    until(&bed->bed, head_of(bed) == 2);
    http_call_end_body(bed->client.call);
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 200);
    assert_int_equal(document_bed_number(bed, "accepted"), 2);
}

static void a_stream_that_cannot_go_on_says_what_stands(void **state) {
    static const char line[] = "{\"id\":\"a\",\"text\":\"1 0 0 0\"}\n";
    struct document_bed *bed = *state;
    document_bed_start(bed);
    begin_stream(bed);
    http_call_send(bed->client.call, line, sizeof line - 1);
    until(&bed->bed, head_of(bed) == 1);
    REQUIRE(collection_mark_deleted(bed->log, &error));
    http_call_send(bed->client.call, line, sizeof line - 1);
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 409);
    assert_int_equal(document_bed_number(bed, "accepted"), 1);
    assert_int_equal(document_bed_number(bed, "seq"), 1);
    assert_true(document_bed_answer_has(bed, "written up to number 1"));
}

static void a_client_that_goes_away_leaves_what_was_taken(void **state) {
    static const char line[] = "{\"id\":\"a\",\"text\":\"1 0 0 0\"}\n{\"id\":\"half";
    struct document_bed *bed = *state;
    document_bed_start(bed);
    begin_stream(bed);
    http_call_send(bed->client.call, line, sizeof line - 1);
    until(&bed->bed, head_of(bed) == 1);
    client_clear(&bed->client);
    until(&bed->bed, !bed->bed.gateway->exchange_count);
    document_bed_begin(bed, &bed->client, "PUT", DOCUMENTS "/b", NULL, "{\"text\":\"1 0 0 0\"}", 18);
    until(&bed->bed, known(bed)->is_appending);
    client_clear(&bed->client);
    until(&bed->bed, !bed->bed.gateway->exchange_count);
    assert_int_equal(head_of(bed), 2);
}

static void a_line_that_is_too_long_costs_only_itself(void **state) {
    struct document_bed *bed = *state;
    settings_set(bed->bed.settings, "document_maximum", "1024", NULL);
    document_bed_start(bed);
    struct buffer body = {0};
    buffer_append_text(&body, "{\"id\":\"a\",\"text\":\"1 0 0 0\"}\n{\"id\":\"b\",\"text\":\"");
    for (int i = 0; i < 200000; i++) buffer_append(&body, "y", 1);
    buffer_append_text(&body, "\"}\n{\"id\":\"c\",\"text\":\"0 1 0 0\"}\n");
    assert_int_equal(document_bed_ask(bed, "POST", DOCUMENTS, NDJSON, body.bytes), 200);
    assert_int_equal(document_bed_number(bed, "accepted"), 2);
    assert_true(document_bed_answer_has(bed, "\"line\":2"));
    buffer_clear(&body);
}

static void an_export_is_held_back_for_a_slow_client_and_broken_off_without_an_end(void **state) {
    struct document_bed *bed = *state;
    struct client slow = {.pauses = true};
    document_bed_start(bed);
    size_t size;
    _cleanup_free_ char *lines = many_lines(6000, 2000, &size);
    document_bed_begin(bed, &bed->client, "POST", DOCUMENTS, NDJSON, lines, size);
    client_wait(&bed->bed, &bed->client);
    document_bed_begin(bed, &slow, "GET", DOCUMENTS, NULL, NULL, 0);
    until(&bed->bed, slow.received > 0);
    gateway_bed_settle(&bed->bed, 300);
    assert_true(slow.received < size / 2);
    gateway_bed_sql(&bed->bed, "UPDATE collections SET state = 'deleting'");
    gateway_bed_sql(&bed->bed, "UPDATE routing SET generation = generation + 1");
    bed->bed.generation++;
    gateway_bed_announce(&bed->bed);
    slow.pauses = false;
    http_call_resume(slow.call);
    client_wait(&bed->bed, &slow);
    assert_true(slow.has_failed); /* never a clean end */
    client_clear(&slow);
}

/* ---- wait=indexed (L11) -------------------------------------------------------------------- */

static void begin_waiting(struct document_bed *bed) {
    client_clear(&bed->client);
    document_bed_begin(bed, &bed->client, "PUT", DOCUMENTS "/x?wait=indexed", NULL, "{\"text\":\"1 0 0 0\"}", 18);
    until(&bed->bed, known(bed)->waiting_indexed.length == 1);
}

static void L11_a_write_waits_until_the_index_shows_it(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    document_bed_put(bed, "y", "0 1 0 0", NULL);
    document_bed_index(bed);
    begin_waiting(bed);
    document_bed_say_indexed(bed, 1); /* the write before */
    gateway_bed_settle(&bed->bed, 50);
    assert_false(bed->client.head_came);
    document_bed_index(bed);
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 200);
    assert_string_equal(bed->client.body.bytes, "{\"id\":\"x\",\"seq\":2,\"indexed\":true}");
}

static void L11_a_wait_goes_on_through_the_indexers_restart(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    begin_waiting(bed);
    wire_say(bed->bed.supervisor.channel, indexer_down, 0);
    gateway_bed_settle(&bed->bed, 50);
    assert_false(bed->client.head_came);
    wire_say(bed->bed.supervisor.channel, indexer_up, .pid = 2);
    document_bed_index(bed);
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 200);
}

static void L11_a_wait_that_is_too_long_says_which_number_is_safe(void **state) {
    struct document_bed *bed = *state;
    settings_set(bed->bed.settings, "indexed_timeout", "10ms", NULL);
    document_bed_start(bed);
    document_bed_expect(bed, 503, "PUT", DOCUMENTS "/x?wait=indexed", "{\"text\":\"1 0 0 0\"}");
    assert_int_equal(document_bed_number(bed, "seq"), 1);
    assert_true(document_bed_answer_has(bed, "UnavailableError"));
    document_bed_expect(bed, 200, "GET", DOCUMENTS "/x", NULL);
}

static void a_text_that_the_model_refused_is_told_to_who_waits(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    begin_waiting(bed);
    const struct collection_failure failure = {
        .seq = 1, .id = (char *)"x", .stage = (char *)"inference", .detail = (char *)"text 0 has no tokens"};
    REQUIRE(collection_record_failures(bed->log, BED_BLUE_ID, &failure, 1, NULL, 0, &error));
    document_bed_say_indexed(bed, 1);
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 200);
    assert_true(document_bed_answer_has(bed, "\"indexed\":false,\"detail\":\"text 0 has no tokens\""));

    client_clear(&bed->client);
    document_bed_begin(bed, &bed->client, "POST", DOCUMENTS "?wait=indexed", NDJSON,
                       "{\"id\":\"a\",\"text\":\"1 0 0 0\"}\n{\"id\":\"b\",\"text\":\"1 0 0 0\"}\n", 56);
    until(&bed->bed, known(bed)->waiting_indexed.length == 1);
    const struct collection_failure other = {
        .seq = 3, .id = (char *)"b", .stage = (char *)"inference", .detail = (char *)"no tokens"};
    REQUIRE(collection_record_failures(bed->log, BED_BLUE_ID, &other, 1, NULL, 0, &error));
    document_bed_say_indexed(bed, 3);
    client_wait(&bed->bed, &bed->client);
    assert_true(document_bed_answer_has(bed, "\"accepted\":2"));
    assert_true(document_bed_answer_has(bed, "\"indexed\":false"));
    assert_true(document_bed_answer_has(bed, "b: no tokens"));
}

/* ---- the end of a collection (X8) ------------------------------------------------------------ */

static void route_without(struct document_bed *bed) {
    gateway_bed_sql(&bed->bed, "UPDATE collections SET state = 'deleting'");
    gateway_bed_sql(&bed->bed, "UPDATE routing SET generation = generation + 1");
    bed->bed.generation++;
    wire_say(bed->bed.supervisor.channel, routes_changed, .generation = bed->bed.generation);
}

static void X8_a_collection_that_is_being_deleted_takes_nothing_more(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    document_bed_put(bed, "x", "1 0 0 0", NULL);
    REQUIRE(collection_mark_deleted(bed->log, &error));
    document_bed_expect(bed, 409, "PUT", DOCUMENTS "/x", "{\"text\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "deleted"));
    route_without(bed);
    until(&bed->bed, bed->bed.supervisor.lowest == bed->bed.generation);
    document_bed_expect(bed, 404, "PUT", DOCUMENTS "/x", "{\"text\":\"1 0 0 0\"}");
    document_bed_expect(bed, 404, "POST", "/v1/collections/c/search", "{\"query\":\"1 0 0 0\"}");
    assert_int_equal(head_of(bed), 1);
}

static void X8_who_waits_for_the_index_of_a_deleted_collection_is_answered(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    begin_waiting(bed);
    route_without(bed);
    client_wait(&bed->bed, &bed->client);
    assert_int_equal(bed->client.status, 404);
    until(&bed->bed, bed->bed.supervisor.lowest == bed->bed.generation);
    until(&bed->bed, !bed->bed.gateway->collections.all); /* and its folder is closed */
}

/* ---- the log and its index (L1) ---------------------------------------------------------------- */

static void L1_nothing_is_appended_while_an_index_is_ahead_of_the_log(void **state) {
    struct document_bed *bed = *state;
    float vector[BED_DIMENSION] = {1};
    REQUIRE(folder_vectors.append(bed->blue.writer, 7, vector, &error));
    folder_vectors.publish(bed->blue.writer, 7, 7); /* as after an older copy of the log was put back */
    document_bed_start(bed);
    document_bed_expect(bed, 503, "PUT", DOCUMENTS "/x", "{\"text\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "longer log"));
    document_bed_expect(bed, 503, "POST", "/v1/collections/c/search", "{\"query\":\"1 0 0 0\"}");
    assert_true(document_bed_answer_has(bed, "ahead of its log"));
    assert_int_equal(head_of(bed), 0);
    folder_vectors.close_writer(TAKE(bed->blue.writer)); /* the indexer makes it anew */
    _cleanup_free_ char *folder = text_format("%s/indexes/%s", bed->folder, BED_BLUE_ID);
    REQUIRE(folder_vectors.remove(folder, &error));
    document_bed_make_index(bed, &bed->blue);
    document_bed_put(bed, "x", "1 0 0 0", NULL);
    document_bed_index(bed);
    document_bed_expect(bed, 200, "POST", "/v1/collections/c/search", "{\"query\":\"1 0 0 0\"}");
    assert_string_equal(document_bed_hits(bed), "x");
}

/* ---- the disk -------------------------------------------------------------------------------------- */

enum { BEFORE, FAILED, READ, AFTER, HEAD, NOTES };

/* Shared with the child. */
struct disk {
    atomic_bool is_bad;
    int error; /* what calls on databases fail with then */
    atomic_int notes[NOTES];
};

/* Only files: the loop writes, too, to wake itself. */
static int decide(void *context, const struct seccomp_notif *call) {
    struct disk *disk = context;
    char link[64], path[512];
    if (!disk->is_bad) return WATCH_PASS;
    snprintf(link, sizeof link, "/proc/%u/fd/%d", call->pid, (int)call->data.args[0]);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    return strstr(path, "documents.db") ? disk->error : WATCH_PASS;
}

/* A write before, one while the disk is bad, a read then, one write after: what became of each, and how many are there.
 */
static void write_on_a_bad_disk(void *context) {
    static struct document_bed bed;
    struct disk *disk = context;
    document_bed_open(&bed, false, false);
    document_bed_start(&bed);
    disk->notes[BEFORE] = document_bed_ask(&bed, "PUT", DOCUMENTS "/x", NULL, "{\"text\":\"1 0 0 0\"}");
    disk->is_bad = true;
    disk->notes[FAILED] = document_bed_ask(&bed, "PUT", DOCUMENTS "/y", NULL, "{\"text\":\"1 0 0 0\"}");
    disk->is_bad = false;
    disk->notes[READ] = document_bed_ask(&bed, "GET", DOCUMENTS "/x", NULL, NULL);
    disk->notes[AFTER] = document_bed_ask(&bed, "PUT", DOCUMENTS "/z", NULL, "{\"text\":\"1 0 0 0\"}");
    disk->notes[HEAD] = (int)head_of(&bed);
    document_bed_close(&bed);
}

static void check_bad_disk(const int *calls, size_t count, int error, const int expected[NOTES]) {
    struct disk *disk = mmap(NULL, sizeof *disk, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(disk != MAP_FAILED);
    disk->error = error;
    const struct watch watch = {.calls = calls, .count = count, .decide = decide, .context = disk};
    assert_int_equal(watch_run(&watch, write_on_a_bad_disk, disk), 0);
    for (int i = 0; i < NOTES; i++)
        if (disk->notes[i] != expected[i]) fail_msg("%d: %d instead of %d", i, disk->notes[i], expected[i]);
    munmap(disk, sizeof *disk);
}

static void a_full_disk_refuses_writes_and_they_go_on_when_there_is_room(void **state) {
    (void)state;
    static const int calls[] = {SYS_write, SYS_pwrite64, SYS_ftruncate, SYS_fallocate};
    check_bad_disk(calls, ARRAY_SIZE(calls), ENOSPC, (const int[]){200, 503, 200, 200, 2});
}

static void S1_a_write_whose_sync_failed_is_not_acknowledged_and_none_is_after_it(void **state) {
    (void)state;
    static const int calls[] = {SYS_fsync, SYS_fdatasync};
    check_bad_disk(calls, ARRAY_SIZE(calls), EIO, (const int[]){200, 503, 503, 503, 1});
}

/* ---- figures --------------------------------------------------------------------------------------- */

static void figures_tell_writes_and_appends(void **state) {
    struct document_bed *bed = *state;
    document_bed_start(bed);
    document_bed_put(bed, "x", "1 0 0 0", NULL);
    document_bed_expect(bed, 400, "PUT", DOCUMENTS "/x", "{}");
    document_bed_expect(bed, 200, "GET", "/metrics", NULL);
    assert_true(document_bed_answer_has(bed, "slipway_documents_written_total{collection=\"c\"} 1\n"));
    assert_true(document_bed_answer_has(bed, "slipway_document_append_size_count{collection=\"c\"} 1\n"));
    assert_true(document_bed_answer_has(bed, "slipway_document_requests_total{collection=\"c\",code=\"400\"} 1\n"));
    assert_true(document_bed_answer_has(bed, "slipway_http_answers_total{kind=\"document\",code=\"200\"} 1\n"));
}

static void a_gateway_that_ends_amid_writes_ends_cleanly(void **state) {
    enum { COUNT = 20 };
    struct document_bed *bed = *state;
    static struct client clients[COUNT];
    memset(clients, 0, sizeof clients);
    document_bed_start(bed);
    for (int i = 0; i < COUNT; i++)
        document_bed_begin(bed, &clients[i], i % 2 ? "GET" : "PUT",
                           i % 2 ? DOCUMENTS "/x" : DOCUMENTS "/x?wait=indexed", NULL,
                           i % 2 ? NULL : "{\"text\":\"1 0 0 0\"}", i % 2 ? 0 : 18);
    until(&bed->bed, known(bed)->is_loading || known(bed)->log);
    gateway_end(bed->bed.gateway, 0);
    for (int i = 0; i < COUNT; i++) {
        client_wait(&bed->bed, &clients[i]);
        client_clear(&clients[i]);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bed, close_bed)

int main(void) {
    const struct CMUnitTest tests[] = {
        /* First, as they fork: ThreadSanitizer wants no threads before. */
        cmocka_unit_test(a_full_disk_refuses_writes_and_they_go_on_when_there_is_room),
        cmocka_unit_test(S1_a_write_whose_sync_failed_is_not_acknowledged_and_none_is_after_it),
        TEST(a_document_is_written_read_and_deleted),
        TEST(a_document_that_is_not_there_is_not_deleted_and_nothing_is_written),
        TEST(each_acknowledged_append_is_told_to_the_indexer),
        TEST(what_is_no_document_is_refused_with_its_reason),
        TEST(a_text_that_is_too_long_is_refused_before_it_is_taken),
        TEST(ids_collections_and_parameters_that_cannot_be_are_told),
        TEST(a_collection_made_a_moment_ago_is_found),
        TEST(a_collection_that_cannot_be_opened_is_told_and_tried_again),
        TEST(writes_that_wait_together_share_one_append),
        TEST(writes_above_the_ceiling_are_turned_away),
        TEST(lines_are_written_and_bad_ones_told),
        TEST(a_stream_without_one_document_is_answered_line_by_line),
        TEST(of_equal_ids_in_one_list_the_last_one_stands),
        TEST(a_long_stream_is_taken_whole_and_exported_whole),
        TEST(a_stream_that_trickles_is_written_as_it_comes),
        TEST(a_stream_that_cannot_go_on_says_what_stands),
        TEST(a_client_that_goes_away_leaves_what_was_taken),
        TEST(a_line_that_is_too_long_costs_only_itself),
        TEST(an_export_is_held_back_for_a_slow_client_and_broken_off_without_an_end),
        TEST(L11_a_write_waits_until_the_index_shows_it),
        TEST(L11_a_wait_goes_on_through_the_indexers_restart),
        TEST(L11_a_wait_that_is_too_long_says_which_number_is_safe),
        TEST(a_text_that_the_model_refused_is_told_to_who_waits),
        TEST(X8_a_collection_that_is_being_deleted_takes_nothing_more),
        TEST(X8_who_waits_for_the_index_of_a_deleted_collection_is_answered),
        TEST(L1_nothing_is_appended_while_an_index_is_ahead_of_the_log),
        TEST(figures_tell_writes_and_appends),
        TEST(a_gateway_that_ends_amid_writes_ends_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
