/* The header traceparent, what a runner says of its time, and the slots: bounded, counted, given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/memory.h"
#include "gateway/gateway_trace-internal.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static void a_traceparent_is_read_and_written_as_it_was(void **state) {
    (void)state;
    struct gateway_traceparent parent;
    char text[GATEWAY_TRACEPARENT_SIZE];
    assert_true(gateway_traceparent_parse("00-" TRACE "-" SPAN "-01", &parent));
    assert_true(parent.trace_high == 0x4bf92f3577b34da6 && parent.trace_low == 0xa3ce929d0e0e4736);
    assert_true(parent.span == 0x00f067aa0ba902b7 && parent.is_sampled);
    gateway_traceparent_write(&parent, text);
    assert_string_equal(text, "00-" TRACE "-" SPAN "-01");
    assert_true(gateway_traceparent_parse("00-" TRACE "-" SPAN "-fe", &parent)); /* flags that we do not know */
    assert_false(parent.is_sampled);
    gateway_traceparent_write(&parent, text);
    assert_string_equal(text, "00-" TRACE "-" SPAN "-00");
}

static void a_later_version_is_taken_for_what_is_known_of_it(void **state) {
    (void)state;
    struct gateway_traceparent parent;
    assert_true(gateway_traceparent_parse("01-" TRACE "-" SPAN "-01", &parent));
    assert_true(gateway_traceparent_parse("cc-" TRACE "-" SPAN "-01-and more", &parent));
    assert_true(parent.is_sampled);
    assert_false(gateway_traceparent_parse("cc-" TRACE "-" SPAN "-01.and more", &parent));
}

static void what_is_not_a_traceparent_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" SPAN,
        "00-" TRACE "-" SPAN "-",
        "00-" TRACE "-" SPAN "-1",
        "00-" TRACE "-" SPAN "-01-", /* version 00 has no more */
        "00-" TRACE "-" SPAN "-01-x",
        "00-" TRACE "-" SPAN "-011",
        "ff-" TRACE "-" SPAN "-01",
        "0-" TRACE "-" SPAN "-001",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",
        "00-" TRACE "-00F067AA0BA902B7-01",
        "00-" TRACE "-" SPAN "-0G",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        " 00-" TRACE "-" SPAN "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-" SPAN "-01x",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct gateway_traceparent parent = {7, 7, 7, true};
        if (gateway_traceparent_parse(bad[i], &parent)) fail_msg("was taken: %s", bad[i]);
        assert_int_equal(parent.span, 7);
    }
}

static void a_runners_timing_is_read_strictly(void **state) {
    (void)state;
    struct gateway_trace_timing timing;
    assert_true(gateway_trace_parse_timing("wait=12;run=3400;total=3600;tokens=31", &timing));
    assert_true(timing.is_known && timing.wait_us == 12 && timing.run_us == 3400 && timing.total_us == 3600);
    assert_int_equal(timing.tokens, 31);
    static const char *const bad[] = {"",
                                      "wait=12",
                                      "wait=;run=1;total=1;tokens=0",
                                      "wait=-1;run=1;total=1;tokens=0",
                                      "wait=1;run=1;total=1;tokens=0;",
                                      "wait=1;run=1;total=1;tokens=99999999999999999999",
                                      "wait=9007199254740993;run=1;total=1;tokens=0",
                                      "run=1;wait=1;total=1;tokens=0"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) assert_false(gateway_trace_parse_timing(bad[i], &timing));
}

/* ---- slots ---------------------------------------------------------------------- */

static struct gateway_trace *take(struct gateway_tracer *tracer) {
    struct gateway_trace *trace = gateway_tracer_take(tracer);
    if (!trace) return NULL;
    *trace = (struct gateway_trace){.trace_high = 1, .span = 2, .route = "/x", .status = 200, .method = "GET"};
    return trace;
}

static void there_are_so_many_slots_and_the_rest_is_counted(void **state) {
    (void)state;
    struct gateway_tracer *tracer = gateway_tracer_new("test");
    struct gateway_trace *traces[GATEWAY_TRACE_SLOTS];
    assert_false(gateway_tracer_is_on(tracer)); /* nothing runs without an endpoint */
    for (size_t i = 0; i < GATEWAY_TRACE_SLOTS; i++) assert_non_null(traces[i] = take(tracer));
    assert_null(take(tracer));
    assert_null(take(tracer));
    assert_int_equal(gateway_tracer_dropped(tracer), 2);
    for (size_t i = 0; i < GATEWAY_TRACE_SLOTS; i++) gateway_tracer_put(tracer, traces[i]);
    gateway_tracer_free(tracer);
}

/* Whatever the collector does, every slot comes back, and every span is counted once: here nobody listens. */
static void slots_come_back_from_a_collector_that_is_not_there(void **state) {
    (void)state;
    struct gateway_tracer *tracer = gateway_tracer_new("test");
    gateway_tracer_configure(tracer, "http://127.0.0.1:1", 100);
    assert_true(gateway_tracer_is_on(tracer) && gateway_tracer_samples(tracer));
    for (size_t i = 0; i < 3; i++) gateway_tracer_put(tracer, take(tracer));
    gateway_tracer_configure(tracer, "", 0);
    assert_false(gateway_tracer_is_on(tracer) || gateway_tracer_samples(tracer));
    gateway_tracer_free(tracer); /* within a second, with what is unsent */
}

static void numbers_of_ids_do_not_repeat(void **state) {
    (void)state;
    struct gateway_tracer *tracer = gateway_tracer_new("test"), *other = gateway_tracer_new("test");
    uint64_t numbers[64];
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        numbers[i] = gateway_tracer_number(i % 2 ? tracer : other);
        assert_true(numbers[i] != 0);
        for (size_t k = 0; k < i; k++) assert_true(numbers[k] != numbers[i]);
    }
    gateway_tracer_free(tracer);
    gateway_tracer_free(other);
}

/* ---- spans ------------------------------------------------------------------------- */

static const char *attribute(yyjson_val *span, const char *key) {
    yyjson_val *found;
    size_t index, count;
    yyjson_arr_foreach(yyjson_obj_get(span, "attributes"), index, count, found) {
        if (strcmp(yyjson_get_str(yyjson_obj_get(found, "key")), key)) continue;
        yyjson_val *value = yyjson_obj_get(found, "value"), *text = yyjson_obj_get(value, "stringValue");
        return yyjson_get_str(text ? text : yyjson_obj_get(value, "intValue"));
    }
    return NULL;
}

static void nothing_that_a_client_sends_breaks_the_json(void **state) {
    (void)state;
    struct gateway_trace trace = {.trace_high = 1,
                                  .trace_low = 2,
                                  .span = 3,
                                  .begin_us = 10,
                                  .end_us = 20,
                                  .open = GATEWAY_TRACE_NO_PART,
                                  .status = 500,
                                  .method = "PROPFIND",
                                  .path = "/a\"b\\",
                                  .host = "[::1]:8400",
                                  .agent = "\xff\"\n",
                                  .state = "a=\"",
                                  .deployment = "d"};
    trace.parts[0] = (struct gateway_trace_part){.kind = GATEWAY_TRACE_REPLICA,
                                                 .parent = GATEWAY_TRACE_NO_PART,
                                                 .span = 8,
                                                 .begin_us = 12,
                                                 .end_us = 18,
                                                 .status = 200,
                                                 .timing = {true, 9, 9, 9, 0}}; /* longer than it can have been */
    trace.part_count = 1;
    assert_int_equal(gateway_trace_span_count(&trace), 2);
    struct buffer out = {0};
    buffer_append_text(&out, "{\"spans\":[");
    gateway_trace_write_spans(&trace, true, &out);
    buffer_append_text(&out, "]}");
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root;
    assert_int_equal(json_parse_object(out.bytes, out.size, &document, &root, NULL), 0);
    yyjson_val *spans = yyjson_obj_get(root, "spans"), *span = yyjson_arr_get(spans, 0);
    assert_int_equal(yyjson_arr_size(spans), 2);
    assert_string_equal(attribute(span, "http.request.method"), "_OTHER");
    assert_string_equal(attribute(span, "http.request.method_original"), "PROPFIND");
    assert_string_equal(attribute(span, "url.path"), "/a\"b\\");
    assert_string_equal(attribute(span, "user_agent.original"), "\xef\xbf\xbd\"\n");
    assert_string_equal(attribute(span, "server.address"), "::1");
    assert_string_equal(attribute(span, "server.port"), "8400");
    assert_string_equal(attribute(span, "error.type"), "500");
    assert_null(yyjson_obj_get(span, "parentSpanId"));
    assert_string_equal(yyjson_get_str(yyjson_obj_get(span, "startTimeUnixNano")), "10000");
    buffer_clear(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_traceparent_is_read_and_written_as_it_was),
        cmocka_unit_test(a_later_version_is_taken_for_what_is_known_of_it),
        cmocka_unit_test(what_is_not_a_traceparent_is_refused),
        cmocka_unit_test(a_runners_timing_is_read_strictly),
        cmocka_unit_test(there_are_so_many_slots_and_the_rest_is_counted),
        cmocka_unit_test(slots_come_back_from_a_collector_that_is_not_there),
        cmocka_unit_test(numbers_of_ids_do_not_repeat),
        cmocka_unit_test(nothing_that_a_client_sends_breaks_the_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
