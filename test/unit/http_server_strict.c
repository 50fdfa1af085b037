/* What the server does not accept, one promise a test: the status is right, the connection is closed, the handler has
 * not seen a request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/http_fixture.h"

static int start(void **state) {
    struct http_fixture *fixture = calloc(1, sizeof *fixture);
    struct http_limits limits = http_fixture_limits;
    limits.head_maximum = 4096;
    limits.body_maximum = 1000;
    http_fixture_start(fixture, &limits);
    *state = fixture;
    return 0;
}

static int stop(void **state) {
    http_fixture_stop(*state);
    free(*state);
    return 0;
}

static void check_refused(struct http_fixture *fixture, const char *request, size_t size, int status) {
    char *answer = http_raw_ask(fixture, request, size);
    if (http_raw_status(answer) != status) fail_msg("%d wanted for \"%s\", but: %s", status, request, answer);
    assert_non_null(strstr(answer, "application/problem+json"));
    assert_non_null(strstr(answer, "Connection: close"));
    assert_non_null(strstr(answer, "\"error\":\"RequestError\""));
    assert_null(strstr(answer, "<reset>"));
    assert_int_equal(fixture->requests, 0);
    free(answer);
}

#define REFUSED(name, status, request)                                                                                 \
    static void name(void **state) {                                                                                   \
        check_refused(*state, request, sizeof(request) - 1, status);                                                   \
    }

#define H "Host: a\r\n"
#define CHUNKED "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"

REFUSED(a_missing_host_is_refused, 400, "GET /hello HTTP/1.1\r\n\r\n")
REFUSED(a_double_host_header_is_refused, 400, "GET /hello HTTP/1.1\r\n" H H "\r\n")
REFUSED(an_empty_host_is_refused, 400, "GET /hello HTTP/1.1\r\nHost:\r\n\r\n")
REFUSED(a_host_with_a_path_is_refused, 400, "GET /hello HTTP/1.1\r\nHost: a/b\r\n\r\n")
REFUSED(a_host_with_user_data_is_refused, 400, "GET /hello HTTP/1.1\r\nHost: u@a\r\n\r\n")
REFUSED(a_host_with_a_blank_is_refused, 400, "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n")
REFUSED(a_host_with_a_bad_port_is_refused, 400, "GET /hello HTTP/1.1\r\nHost: a:8x\r\n\r\n")
REFUSED(an_open_ipv6_host_is_refused, 400, "GET /hello HTTP/1.1\r\nHost: [::1\r\n\r\n")
REFUSED(a_length_with_a_transfer_coding_is_refused, 400,
        "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
REFUSED(a_transfer_coding_with_a_length_is_refused, 400,
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n")
REFUSED(several_lengths_are_refused, 400,
        "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc")
REFUSED(the_same_length_twice_is_refused, 400,
        "POST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc")
REFUSED(a_list_of_lengths_is_refused, 400, "POST /echo HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\nabc")
REFUSED(a_signed_length_is_refused, 400, "POST /echo HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\nabc")
REFUSED(a_negative_length_is_refused, 400, "POST /echo HTTP/1.1\r\n" H "Content-Length: -3\r\n\r\nabc")
REFUSED(a_length_that_overflows_is_refused, 400,
        "POST /echo HTTP/1.1\r\n" H "Content-Length: 99999999999999999999999\r\n\r\nabc")
REFUSED(an_empty_length_is_refused, 400, "POST /echo HTTP/1.1\r\n" H "Content-Length:\r\n\r\nabc")
REFUSED(a_folded_header_is_refused, 400, "GET /hello HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n")
REFUSED(another_transfer_coding_is_not_implemented, 501,
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n")
REFUSED(a_coding_before_chunked_is_not_implemented, 501,
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
REFUSED(chunked_twice_is_refused, 400,
        "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n")
REFUSED(a_transfer_coding_in_http_1_0_is_refused, 400,
        "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
REFUSED(a_length_above_the_ceiling_is_refused_at_once, 413, "POST /echo HTTP/1.1\r\n" H "Content-Length: 1001\r\n\r\n")
REFUSED(a_chunk_size_above_the_ceiling_is_refused_at_once, 413, CHUNKED "3e9\r\n")
REFUSED(chunks_above_the_ceiling_together_are_refused, 413, CHUNKED "1\r\na\r\n3e8\r\n")
REFUSED(a_huge_chunk_size_is_refused, 413, CHUNKED "7fffffffffffffff\r\n")
REFUSED(a_chunk_size_that_overflows_is_refused, 400, CHUNKED "fffffffffffffffff\r\n")
REFUSED(a_chunk_size_with_a_prefix_is_refused, 400, CHUNKED "0x3\r\nabc\r\n0\r\n\r\n")
REFUSED(a_chunk_that_is_longer_than_it_says_is_refused, 400, CHUNKED "3\r\nabcd\r\n0\r\n\r\n")
REFUSED(a_chunk_line_without_a_return_is_refused, 400, CHUNKED "3\nabc\n0\n\n")
REFUSED(a_length_in_a_trailer_is_refused, 400, CHUNKED "0\r\nContent-Length: 4\r\n\r\n")
REFUSED(lines_without_a_return_are_refused, 400, "GET /hello HTTP/1.1\nHost: a\n\n")
REFUSED(a_header_line_without_a_return_is_refused, 400, "GET /hello HTTP/1.1\r\nHost: a\nX: b\r\n\r\n")
REFUSED(a_blank_before_the_colon_is_refused, 400, "GET /hello HTTP/1.1\r\n" H "X : b\r\n\r\n")
REFUSED(a_header_without_a_colon_is_refused, 400, "GET /hello HTTP/1.1\r\n" H "X\r\n\r\n")
REFUSED(a_header_without_a_name_is_refused, 400, "GET /hello HTTP/1.1\r\n" H ": b\r\n\r\n")
REFUSED(a_control_character_in_a_header_is_refused, 400, "GET /hello HTTP/1.1\r\n" H "X: a\x01\r\n\r\n")
REFUSED(a_nul_in_a_header_is_refused, 400, "GET /hello HTTP/1.1\r\n" H "X: a\0b\r\n\r\n")
REFUSED(a_delete_in_a_header_is_refused, 400, "GET /hello HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n")
REFUSED(a_lone_return_in_a_header_is_refused, 400, "GET /hello HTTP/1.1\r\n" H "X: a\rb\r\n\r\n")
REFUSED(a_control_character_in_the_target_is_refused, 400, "GET /hel\x01lo HTTP/1.1\r\n" H "\r\n")
REFUSED(a_byte_above_ascii_in_the_target_is_refused, 400, "GET /hel\xc3\xa4lo HTTP/1.1\r\n" H "\r\n")
REFUSED(a_blank_in_the_target_is_refused, 400, "GET /hel lo HTTP/1.1\r\n" H "\r\n")
REFUSED(two_blanks_before_the_target_are_refused, 400, "GET  /hello HTTP/1.1\r\n" H "\r\n")
REFUSED(a_fragment_in_the_target_is_refused, 400, "GET /hello#x HTTP/1.1\r\n" H "\r\n")
REFUSED(an_absolute_target_is_refused, 400, "GET http://a/hello HTTP/1.1\r\n" H "\r\n")
REFUSED(a_target_without_a_slash_is_refused, 400, "GET hello HTTP/1.1\r\n" H "\r\n")
REFUSED(an_asterisk_is_for_options_only, 400, "GET * HTTP/1.1\r\n" H "\r\n")
REFUSED(connect_is_refused, 400, "CONNECT a:80 HTTP/1.1\r\n" H "\r\n")
REFUSED(an_unknown_method_is_refused, 400, "FROB /hello HTTP/1.1\r\n" H "\r\n")
REFUSED(a_small_method_is_refused, 400, "get /hello HTTP/1.1\r\n" H "\r\n")
REFUSED(http_2_0_is_another_version, 505, "GET /hello HTTP/2.0\r\n" H "\r\n")
REFUSED(http_1_2_is_another_version, 505, "GET /hello HTTP/1.2\r\n" H "\r\n")
REFUSED(http_0_9_is_another_version, 505, "GET /hello HTTP/0.9\r\n" H "\r\n")
REFUSED(the_http_2_preface_is_another_version, 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
REFUSED(another_protocol_is_refused, 400, "GET /hello RTSP/1.0\r\n" H "\r\n")
REFUSED(a_request_line_without_a_version_is_refused, 400, "GET /hello\r\n" H "\r\n")
REFUSED(a_tls_hello_is_refused, 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
REFUSED(another_expectation_is_refused, 417, "POST /echo HTTP/1.1\r\n" H "Expect: gold\r\nContent-Length: 3\r\n\r\nabc")

static void a_too_large_head_is_refused(void **state) {
    char request[6000] = "GET /hello HTTP/1.1\r\nHost: a\r\nX: ";
    memset(request + strlen(request), 'x', 5000);
    check_refused(*state, request, 5000, 431);
}

static void a_head_just_above_the_ceiling_is_refused_though_it_is_complete(void **state) {
    char request[4200] = "GET /hello HTTP/1.1\r\nHost: a\r\nX: ";
    size_t size = strlen(request);
    memset(request + size, 'x', 4097 - size - 4);
    memcpy(request + 4093, "\r\n\r\n", 4);
    check_refused(*state, request, 4097, 431);
}

static void a_head_just_below_the_ceiling_is_served(void **state) {
    char request[4200] = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ";
    size_t size = strlen(request);
    memset(request + size, 'x', 4096 - size - 4);
    memcpy(request + 4092, "\r\n\r\n", 4);
    char *answer = http_raw_ask(*state, request, 4096);
    assert_int_equal(http_raw_status(answer), 200);
    free(answer);
}

static void too_many_headers_are_refused(void **state) {
    char request[4096] = "GET /hello HTTP/1.1\r\nHost: a\r\n";
    for (int i = 0; i < 300; i++) strcat(request, "X: a\r\n");
    strcat(request, "\r\n");
    check_refused(*state, request, strlen(request), 431);
}

static void endless_empty_lines_are_refused(void **state) {
    char request[8192];
    for (size_t i = 0; i < sizeof request; i += 2) memcpy(request + i, "\r\n", 2);
    check_refused(*state, request, sizeof request, 431);
}

static void a_too_large_trailer_is_refused(void **state) {
    char request[8192] = CHUNKED "0\r\n";
    size_t size = strlen(request);
    for (int i = 0; i < 100; i++) size += (size_t)sprintf(request + size, "X%d: %060d\r\n", i, 1);
    check_refused(*state, request, size, 431);
}

static void a_long_chunk_extension_is_refused(void **state) {
    char request[4096] = CHUNKED "3;x=";
    size_t size = strlen(request);
    memset(request + size, 'y', 2000);
    check_refused(*state, request, size + 2000, 400);
}

static void a_flood_of_tiny_chunks_is_refused(void **state) {
    struct http_fixture *fixture = *state;
    fixture->heads = 0;
    static char request[600000];
    size_t size = (size_t)sprintf(request, "POST /manual HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    /* Each says in many words that it carries one byte. */
    while (size < sizeof request - 200) size += (size_t)sprintf(request + size, "%0100d;%050d=1\r\nx\r\n", 1, 1);
    int descriptor = http_raw_connect(fixture);
    http_raw_send(fixture, descriptor, request, size);
    char *answer = http_raw_read_all(fixture, descriptor, NULL);
    assert_int_equal(http_raw_status(answer), 400);
    assert_non_null(strstr(answer, "send larger ones"));
    assert_true(fixture->pieces < 200); /* it was stopped early */
    assert_int_equal(fixture->gone, 1);
    http_respond_json(fixture->held, 200, "{}", 2);
    free(answer);
    close(descriptor);
}

static void an_ordinary_body_in_small_chunks_is_taken(void **state) {
    char request[8192] = CHUNKED;
    size_t size = strlen(request);
    for (int i = 0; i < 100; i++) size += (size_t)sprintf(request + size, "8;a=\"b\"\r\nabcdefgh\r\n");
    size += (size_t)sprintf(request + size, "0\r\nT: x\r\n\r\nGET /hello HTTP/1.0\r\n\r\n");
    char *answer = http_raw_ask(*state, request, size);
    assert_int_equal(http_raw_status(answer), 200);
    assert_non_null(strstr(answer, "Content-Length: 800\r\n"));
    assert_non_null(strstr(answer, "{\"hello\":true}"));
    free(answer);
}

static void a_handler_may_lower_the_ceiling(void **state) {
    struct http_fixture *fixture = *state;
    static const char request[] = "POST /small-body HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
    check_refused(fixture, request, sizeof request - 1, 413);
    assert_int_equal(fixture->gone, 1);
}

static void check_served(struct http_fixture *fixture, const char *request, const char *wanted) {
    char *answer = http_raw_ask(fixture, request, strlen(request));
    assert_int_equal(http_raw_status(answer), 200);
    assert_non_null(strstr(answer, wanted));
    assert_null(strstr(answer, "101 "));
    free(answer);
}

static void protocols_are_never_switched(void **state) {
    check_served(*state, "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n",
                 "{\"hello\":true}");
}

static void bytes_behind_an_upgrade_are_the_next_request(void **state) {
    check_served(*state,
                 "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                 "POST /echo HTTP/1.0\r\nContent-Length: 6\r\n\r\nsecond",
                 "second");
}

static void well_formed_hosts_are_accepted(void **state) {
    static const char *const hosts[] = {
        "a", "a.example:80", "127.0.0.1:8400", "[::1]", "[2001:db8::1]:8400", "a_b-c~%20", "a:"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        char request[200];
        snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\nhOST: \t%s \r\nConnection: close\r\n\r\n", hosts[i]);
        check_served(*state, request, "{\"hello\":true}");
    }
}

static void an_asterisk_with_options_is_accepted(void **state) {
    check_served(*state, "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "Content-Length: 0");
}

static void a_refusal_arrives_though_the_client_goes_on_sending(void **state) {
    struct http_fixture *fixture = *state;
    int descriptor = http_raw_connect(fixture);
    static char body[300000];
    memset(body, 'x', sizeof body);
    http_raw_say(fixture, descriptor, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    http_raw_send(fixture, descriptor, body, sizeof body);
    char *answer = http_raw_read_all(fixture, descriptor, NULL);
    assert_int_equal(http_raw_status(answer), 413);
    assert_null(strstr(answer, "<reset>"));
    free(answer);
    close(descriptor);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_missing_host_is_refused),
        TEST(a_double_host_header_is_refused),
        TEST(an_empty_host_is_refused),
        TEST(a_host_with_a_path_is_refused),
        TEST(a_host_with_user_data_is_refused),
        TEST(a_host_with_a_blank_is_refused),
        TEST(a_host_with_a_bad_port_is_refused),
        TEST(an_open_ipv6_host_is_refused),
        TEST(a_length_with_a_transfer_coding_is_refused),
        TEST(a_transfer_coding_with_a_length_is_refused),
        TEST(several_lengths_are_refused),
        TEST(the_same_length_twice_is_refused),
        TEST(a_list_of_lengths_is_refused),
        TEST(a_signed_length_is_refused),
        TEST(a_negative_length_is_refused),
        TEST(a_length_that_overflows_is_refused),
        TEST(an_empty_length_is_refused),
        TEST(a_folded_header_is_refused),
        TEST(another_transfer_coding_is_not_implemented),
        TEST(a_coding_before_chunked_is_not_implemented),
        TEST(chunked_twice_is_refused),
        TEST(a_transfer_coding_in_http_1_0_is_refused),
        TEST(a_length_above_the_ceiling_is_refused_at_once),
        TEST(a_chunk_size_above_the_ceiling_is_refused_at_once),
        TEST(chunks_above_the_ceiling_together_are_refused),
        TEST(a_huge_chunk_size_is_refused),
        TEST(a_chunk_size_that_overflows_is_refused),
        TEST(a_chunk_size_with_a_prefix_is_refused),
        TEST(a_chunk_that_is_longer_than_it_says_is_refused),
        TEST(a_chunk_line_without_a_return_is_refused),
        TEST(a_length_in_a_trailer_is_refused),
        TEST(lines_without_a_return_are_refused),
        TEST(a_header_line_without_a_return_is_refused),
        TEST(a_blank_before_the_colon_is_refused),
        TEST(a_header_without_a_colon_is_refused),
        TEST(a_header_without_a_name_is_refused),
        TEST(a_control_character_in_a_header_is_refused),
        TEST(a_nul_in_a_header_is_refused),
        TEST(a_delete_in_a_header_is_refused),
        TEST(a_lone_return_in_a_header_is_refused),
        TEST(a_control_character_in_the_target_is_refused),
        TEST(a_byte_above_ascii_in_the_target_is_refused),
        TEST(a_blank_in_the_target_is_refused),
        TEST(two_blanks_before_the_target_are_refused),
        TEST(a_fragment_in_the_target_is_refused),
        TEST(an_absolute_target_is_refused),
        TEST(a_target_without_a_slash_is_refused),
        TEST(an_asterisk_is_for_options_only),
        TEST(connect_is_refused),
        TEST(an_unknown_method_is_refused),
        TEST(a_small_method_is_refused),
        TEST(http_2_0_is_another_version),
        TEST(http_1_2_is_another_version),
        TEST(http_0_9_is_another_version),
        TEST(the_http_2_preface_is_another_version),
        TEST(another_protocol_is_refused),
        TEST(a_request_line_without_a_version_is_refused),
        TEST(a_tls_hello_is_refused),
        TEST(another_expectation_is_refused),
        TEST(a_too_large_head_is_refused),
        TEST(a_head_just_above_the_ceiling_is_refused_though_it_is_complete),
        TEST(a_head_just_below_the_ceiling_is_served),
        TEST(too_many_headers_are_refused),
        TEST(endless_empty_lines_are_refused),
        TEST(a_too_large_trailer_is_refused),
        TEST(a_long_chunk_extension_is_refused),
        TEST(a_flood_of_tiny_chunks_is_refused),
        TEST(an_ordinary_body_in_small_chunks_is_taken),
        TEST(a_handler_may_lower_the_ceiling),
        TEST(protocols_are_never_switched),
        TEST(bytes_behind_an_upgrade_are_the_next_request),
        TEST(well_formed_hosts_are_accepted),
        TEST(an_asterisk_with_options_is_accepted),
        TEST(a_refusal_arrives_though_the_client_goes_on_sending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
