/* A channel over a real socketpair: order, what the socket does not take, and the peer's end. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "wire/wire.h"

static void make_pair(struct wire_channel *ret_pair[2]) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    ret_pair[0] = wire_channel_new(ends[0]);
    ret_pair[1] = wire_channel_new(ends[1]);
}

static void messages_arrive_whole_and_in_order(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    assert_int_equal(wire_say(pair[0], ping, .sequence = 1), 0);
    assert_int_equal(wire_say(pair[0], hello, .role = "gateway", .version = "0.1.0", .pid = 7), 0);
    struct wire_message got;
    assert_int_equal(wire_receive(pair[1], &got, NULL), 1);
    assert_int_equal(got.type, WIRE_ping);
    wire_message_clear(&got);
    assert_int_equal(wire_receive(pair[1], &got, NULL), 1);
    assert_string_equal(got.hello.role, "gateway");
    wire_message_clear(&got);
    assert_int_equal(wire_receive(pair[1], &got, NULL), 0);
    wire_channel_free(pair[0]);
    wire_channel_free(pair[1]);
}

static void what_the_socket_does_not_take_is_queued_and_flushed(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    uint64_t count = 0, got_count = 0;
    while (!wire_channel_wants_write(pair[0])) assert_int_equal(wire_say(pair[0], ping, .sequence = count++), 0);
    for (int i = 0; i < 1000; i++) assert_int_equal(wire_say(pair[0], ping, .sequence = count++), 0);
    while (got_count < count) {
        struct wire_message got;
        int result = wire_receive(pair[1], &got, NULL);
        if (!result) {
            assert_true(wire_channel_wants_write(pair[0]));
            assert_int_equal(wire_flush(pair[0], NULL), 0);
            continue;
        }
        assert_int_equal(result, 1);
        assert_int_equal(got.ping.sequence, got_count++);
        wire_message_clear(&got);
    }
    assert_false(wire_channel_wants_write(pair[0]));
    wire_channel_free(pair[0]);
    wire_channel_free(pair[1]);
}

static void is_the_file_of(int descriptor, int other) {
    struct stat one, two;
    assert_int_equal(fstat(descriptor, &one), 0);
    assert_int_equal(fstat(other, &two), 0);
    assert_int_equal(one.st_ino, two.st_ino);
    assert_true(fcntl(descriptor, F_GETFD) & FD_CLOEXEC);
}

static int some_file(void) {
    int file = memfd_create("some", MFD_CLOEXEC);
    assert_true(file >= 0);
    return file;
}

static void a_descriptor_goes_with_its_message_and_no_other(void **state) { /* U2 */
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    int file = some_file();
    const struct wire_message message = {.type = WIRE_ping, .ping = {.sequence = 1}};
    while (!wire_channel_wants_write(pair[0])) assert_int_equal(wire_send(pair[0], &message, NULL), 0);
    assert_int_equal(wire_send_with(pair[0], &message, file, NULL), 0); /* it is queued, with a duplicate */
    int other = some_file();
    assert_int_equal(wire_send_with(pair[0], &message, other, NULL), 0);
    assert_int_equal(wire_say(pair[0], pong, .sequence = 2), 0);
    int got[2], count = 0;
    struct wire_message received = {0};
    while (received.type != WIRE_pong) {
        wire_message_clear(&received);
        if (!wire_receive(pair[1], &received, NULL)) {
            assert_int_equal(wire_flush(pair[0], NULL), 0);
            continue;
        }
        int descriptor = wire_take_descriptor(pair[1]);
        if (descriptor < 0) continue;
        assert_true(count < 2);
        got[count++] = descriptor;
        assert_int_equal(wire_take_descriptor(pair[1]), -1);
    }
    wire_message_clear(&received);
    assert_int_equal(count, 2);
    is_the_file_of(got[0], file);
    is_the_file_of(got[1], other);
    int files[] = {got[0], got[1], file, other};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) close(files[i]);
    wire_channel_free(pair[0]);
    wire_channel_free(pair[1]);
}

static void a_descriptor_that_nobody_takes_is_closed(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    int ends[2];
    make_pair(pair);
    assert_int_equal(pipe(ends), 0);
    const struct wire_message message = {.type = WIRE_ping};
    assert_int_equal(wire_send_with(pair[0], &message, ends[1], NULL), 0);
    close(ends[1]);
    struct wire_message received;
    assert_int_equal(wire_receive(pair[1], &received, NULL), 1);
    wire_message_clear(&received);
    wire_channel_free(pair[1]);
    char nothing;
    assert_int_equal(read(ends[0], &nothing, 1), 0); /* no writer is left */
    close(ends[0]);
    wire_channel_free(pair[0]);
}

static void the_largest_message_goes_through(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    _cleanup_free_ char *text = mem_alloc(WIRE_MESSAGE_MAXIMUM);
    memset(text, 'x', WIRE_MESSAGE_MAXIMUM);
    text[WIRE_MESSAGE_MAXIMUM - 13] = 0;
    assert_int_equal(wire_say(pair[0], runner_ready, .report_json = text), 0);
    assert_false(wire_channel_wants_write(pair[0]));
    struct wire_message got;
    assert_int_equal(wire_receive(pair[1], &got, NULL), 1);
    assert_string_equal(got.runner_ready.report_json, text);
    wire_message_clear(&got);
    wire_channel_free(pair[0]);
    wire_channel_free(pair[1]);
}

static void a_peer_that_never_reads_is_given_up_at_the_ceiling(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    _cleanup_free_ char *text = mem_alloc(150000);
    memset(text, 'x', 149999);
    text[149999] = 0;
    int result = 0, sent = 0;
    while (!result && sent < 1000) {
        result = wire_say(pair[0], runner_ready, .report_json = text);
        sent++;
    }
    assert_int_equal(result, -ERROR_UNAVAILABLE);
    assert_in_range(sent, 440, 460);
    wire_channel_free(pair[0]);
    wire_channel_free(pair[1]);
}

static void the_end_of_the_peer_is_told_after_its_last_words(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    assert_int_equal(wire_say(pair[0], role_failed, .message = "the last words"), 0);
    wire_channel_free(pair[0]);
    struct wire_message got;
    assert_int_equal(wire_receive(pair[1], &got, NULL), 1);
    assert_string_equal(got.role_failed.message, "the last words");
    wire_message_clear(&got);
    assert_int_equal(wire_receive(pair[1], &got, NULL), -ERROR_UNAVAILABLE);
    assert_int_equal(wire_say(pair[1], ping, .sequence = 1), -ERROR_UNAVAILABLE);
    wire_channel_free(pair[1]);
}

static void last_words_are_heard_though_the_peer_left_something_unread(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    assert_int_equal(wire_say(pair[1], ping, .sequence = 1), 0);
    assert_int_equal(wire_say(pair[0], role_failed, .message = "goodbye"), 0);
    wire_channel_free(pair[0]);
    struct wire_message got;
    assert_int_equal(wire_receive(pair[1], &got, NULL), 1);
    assert_string_equal(got.role_failed.message, "goodbye");
    wire_message_clear(&got);
    assert_true(wire_receive(pair[1], &got, NULL) < 0);
    wire_channel_free(pair[1]);
}

static void a_message_that_nobody_knows_is_passed_over(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    static const char unknown[] = {99, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(send(wire_channel_descriptor(pair[0]), unknown, sizeof unknown, 0), sizeof unknown);
    assert_int_equal(wire_say(pair[0], ping, .sequence = 5), 0);
    struct wire_message got;
    assert_int_equal(wire_receive(pair[1], &got, NULL), 1);
    assert_int_equal(got.ping.sequence, 5);
    wire_message_clear(&got);
    wire_channel_free(pair[0]);
    wire_channel_free(pair[1]);
}

static void rubbish_is_an_error(void **state) {
    (void)state;
    struct wire_channel *pair[2];
    make_pair(pair);
    assert_int_equal(send(wire_channel_descriptor(pair[0]), "rubbish", 7, 0), 7);
    struct wire_message got;
    assert_int_equal(wire_receive(pair[1], &got, NULL), -ERROR_REQUEST);
    wire_channel_free(pair[0]);
    wire_channel_free(pair[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_whole_and_in_order),
        cmocka_unit_test(what_the_socket_does_not_take_is_queued_and_flushed),
        cmocka_unit_test(a_descriptor_goes_with_its_message_and_no_other),
        cmocka_unit_test(a_descriptor_that_nobody_takes_is_closed),
        cmocka_unit_test(the_largest_message_goes_through),
        cmocka_unit_test(a_peer_that_never_reads_is_given_up_at_the_ceiling),
        cmocka_unit_test(the_end_of_the_peer_is_told_after_its_last_words),
        cmocka_unit_test(last_words_are_heard_though_the_peer_left_something_unread),
        cmocka_unit_test(a_message_that_nobody_knows_is_passed_over),
        cmocka_unit_test(rubbish_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
