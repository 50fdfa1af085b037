/* Marshalling of every message of the table, and what a packet from outside may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "wire/wire.h"

/* Fills every field of every message with values of its own and compares them after the way there and back. */
#define U64(field) sent.field = 0x0102030405060708u + (counter++);
#define TEXT(field)                                                                                                    \
    snprintf(texts[counter], sizeof texts[counter], "%zu-zażółć", counter);                                            \
    sent.field = texts[counter++];
#define MESSAGE(name_, number_, fields)                                                                                \
    static void fill_##name_(struct wire_##name_ *ret, char(*texts)[64]) {                                             \
        struct wire_##name_ sent = {0};                                                                                \
        size_t counter = 0;                                                                                            \
        (void)texts;                                                                                                   \
        fields *ret = sent;                                                                                            \
    }
#include "wire/messages.def"
#undef MESSAGE
#undef TEXT
#undef U64

#define U64(field) assert_true(a->field == b->field);
#define TEXT(field) assert_string_equal(a->field, b->field);
#define MESSAGE(name_, number_, fields)                                                                                \
    static void compare_##name_(const struct wire_##name_ *a, const struct wire_##name_ *b) {                          \
        fields                                                                                                         \
    }
#include "wire/messages.def"
#undef MESSAGE
#undef TEXT
#undef U64

static void every_message_comes_back_as_it_was(void **state) {
    (void)state;
    char texts[16][64];
#define MESSAGE(name_, number_, fields)                                                                                \
    {                                                                                                                  \
        struct wire_message sent = {.type = WIRE_##name_};                                                             \
        _cleanup_wire_message_ struct wire_message got = {0};                                                          \
        _cleanup_free_ char *bytes = NULL;                                                                             \
        size_t size;                                                                                                   \
        fill_##name_(&sent.name_, texts);                                                                              \
        assert_int_equal(wire_encode(&sent, &bytes, &size, NULL), 0);                                                  \
        assert_int_equal(wire_decode(bytes, size, &got, NULL), 0);                                                     \
        assert_int_equal(got.type, WIRE_##name_);                                                                      \
        compare_##name_(&sent.name_, &got.name_);                                                                      \
    }
#include "wire/messages.def"
#undef MESSAGE
}

/* ping as it stands on the wire: number 3, one field, kind 1, 8 bytes. */
static const unsigned char ping[] = {3, 0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0xfe, 0xca, 0, 0, 0, 0, 0, 0x80};

static void the_form_on_the_wire_is_the_documented_one(void **state) {
    (void)state;
    struct wire_message message = {.type = WIRE_ping, .ping = {.sequence = 0x800000000000cafe}};
    _cleanup_free_ char *bytes = NULL;
    size_t size;
    assert_int_equal(wire_encode(&message, &bytes, &size, NULL), 0);
    assert_int_equal(size, sizeof ping);
    assert_memory_equal(bytes, ping, size);
}

static void a_null_text_is_sent_as_the_empty_one(void **state) {
    (void)state;
    struct wire_message message = {.type = WIRE_hello, .hello = {.role = NULL, .version = "1", .pid = 7}};
    _cleanup_wire_message_ struct wire_message got = {0};
    _cleanup_free_ char *bytes = NULL;
    size_t size;
    assert_int_equal(wire_encode(&message, &bytes, &size, NULL), 0);
    assert_int_equal(wire_decode(bytes, size, &got, NULL), 0);
    assert_string_equal(got.hello.role, "");
    assert_int_equal(got.hello.pid, 7);
}

static void a_peer_one_version_older_is_understood(void **state) {
    (void)state;
    static const unsigned char old_hello[] = {1, 0, 0, 0, 1, 0, 0, 0, 2, 2, 0, 0, 0, 'h', 'i'};
    _cleanup_wire_message_ struct wire_message got = {0};
    assert_int_equal(wire_decode(old_hello, sizeof old_hello, &got, NULL), 0);
    assert_string_equal(got.hello.role, "hi");
    assert_string_equal(got.hello.version, "");
    assert_int_equal(got.hello.pid, 0);
}

static void a_peer_one_version_newer_is_understood(void **state) {
    (void)state;
    unsigned char newer[sizeof ping + 7];
    memcpy(newer, ping, sizeof ping);
    newer[4] = 2;
    memcpy(newer + sizeof ping, (unsigned char[]){99, 2, 0, 0, 0, 0xff, 0xff}, 7);
    _cleanup_wire_message_ struct wire_message got = {0};
    assert_int_equal(wire_decode(newer, sizeof newer, &got, NULL), 0);
    assert_int_equal(got.type, WIRE_ping);
    newer[0] = 250;
    _cleanup_wire_message_ struct wire_message unknown = {0};
    assert_int_equal(wire_decode(newer, sizeof newer, &unknown, NULL), 0);
    assert_int_equal(unknown.type, 0);
}

static void a_packet_cut_anywhere_is_malformed(void **state) {
    (void)state;
    for (size_t size = 0; size < sizeof ping; size++) {
        struct wire_message got;
        _cleanup_free_ unsigned char *exact = mem_copy(ping, size);
        assert_int_equal(wire_decode(exact, size, &got, NULL), -ERROR_REQUEST);
    }
}

static void lies_about_kinds_sizes_and_counts_are_malformed(void **state) {
    (void)state;
    static const struct {
        size_t at;
        unsigned char value;
    } lies[] = {{4, 2}, {4, 0}, {7, 0xff}, {8, 2}, {8, 0}, {9, 7}, {9, 9}, {12, 0x80}};
    for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
        unsigned char packet[sizeof ping];
        memcpy(packet, ping, sizeof ping);
        packet[lies[i].at] = lies[i].value;
        struct wire_message got;
        assert_int_equal(wire_decode(packet, sizeof packet, &got, NULL), -ERROR_REQUEST);
    }
}

static void a_text_with_a_nul_or_broken_utf8_is_malformed(void **state) {
    (void)state;
    unsigned char hello[] = {1, 0, 0, 0, 1, 0, 0, 0, 2, 2, 0, 0, 0, 'h', 0};
    struct wire_message got;
    assert_int_equal(wire_decode(hello, sizeof hello, &got, NULL), -ERROR_REQUEST);
    hello[14] = 0xc3;
    assert_int_equal(wire_decode(hello, sizeof hello, &got, NULL), -ERROR_REQUEST);
}

static void bytes_that_are_not_utf8_are_sent_as_question_marks(void **state) {
    (void)state;
    struct wire_message message = {.type = WIRE_hello,
                                   .hello = {.role = "a\xff\xc3\xa9\xe2\x82", .version = "\xf0\x9f\x9a\xa2"}};
    _cleanup_wire_message_ struct wire_message got = {0};
    _cleanup_free_ char *bytes = NULL;
    size_t size;
    assert_int_equal(wire_encode(&message, &bytes, &size, NULL), 0);
    assert_int_equal(wire_decode(bytes, size, &got, NULL), 0);
    assert_string_equal(got.hello.role, "a?\xc3\xa9??");
    assert_string_equal(got.hello.version, "\xf0\x9f\x9a\xa2");
}

static void a_message_over_the_ceiling_is_not_sent(void **state) {
    (void)state;
    _cleanup_free_ char *text = mem_alloc(WIRE_MESSAGE_MAXIMUM + 1);
    memset(text, 'x', WIRE_MESSAGE_MAXIMUM);
    text[WIRE_MESSAGE_MAXIMUM] = 0;
    struct wire_message message = {.type = WIRE_runner_ready, .runner_ready = {.report_json = text}};
    char *bytes = NULL;
    size_t size;
    assert_int_equal(wire_encode(&message, &bytes, &size, NULL), -ERROR_REQUEST);
    text[WIRE_MESSAGE_MAXIMUM - 13] = 0;
    assert_int_equal(wire_encode(&message, &bytes, &size, NULL), 0);
    assert_int_equal(size, WIRE_MESSAGE_MAXIMUM);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_back_as_it_was),
        cmocka_unit_test(the_form_on_the_wire_is_the_documented_one),
        cmocka_unit_test(a_null_text_is_sent_as_the_empty_one),
        cmocka_unit_test(a_peer_one_version_older_is_understood),
        cmocka_unit_test(a_peer_one_version_newer_is_understood),
        cmocka_unit_test(a_packet_cut_anywhere_is_malformed),
        cmocka_unit_test(lies_about_kinds_sizes_and_counts_are_malformed),
        cmocka_unit_test(a_text_with_a_nul_or_broken_utf8_is_malformed),
        cmocka_unit_test(bytes_that_are_not_utf8_are_sent_as_question_marks),
        cmocka_unit_test(a_message_over_the_ceiling_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
