/* Downloads: going on where they broke, and what servers may not do meanwhile. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "support/rough_server.h"
#include "support/scratch.h"
#include "transfer/transfer.h"

struct place {
    char *folder, *host, *url;
    const char *hosts[1];
    struct rough_server *server;
    struct transfer *transfer;
    struct transfer_config config;
    struct transfer_file file;
    struct transfer_download download;
    uint64_t done_bytes, total_bytes;
    char sha256[DIGEST_HEX_SIZE];
    struct error *error;
};

#define TEN "0123456789"

static void note_progress(uint64_t done_bytes, uint64_t total_bytes, void *context) {
    struct place *place = context;
    assert_true(done_bytes >= place->done_bytes && done_bytes <= total_bytes);
    place->done_bytes = done_bytes;
    place->total_bytes = total_bytes;
}

static int set_up(void **state) {
    struct place *place = mem_new(struct place);
    place->folder = scratch_new();
    digest_bytes(TEN, 10, place->sha256);
    place->config = (struct transfer_config){.class = ERROR_MODEL_REGISTRY,
                                             .hosts = place->hosts,
                                             .host_count = 1,
                                             .connect_timeout_ms = 5000,
                                             .stall_timeout_ms = 5000,
                                             .attempts = 3,
                                             .parallel = 2};
    place->file = (struct transfer_file){.path = "a/b/model.onnx", .size_bytes = TRANSFER_SIZE_UNKNOWN};
    place->download = (struct transfer_download){.folder = open(place->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                                                 .files = &place->file,
                                                 .count = 1,
                                                 .on_progress = note_progress,
                                                 .progress_context = place};
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    transfer_close(place->transfer);
    rough_server_stop(place->server);
    error_free(place->error);
    close(place->download.folder);
    scratch_free(place->folder);
    free(place->host);
    free(place->url);
    free(place);
    return 0;
}

static int fetch(struct place *place, const struct rough_answer *answers, size_t count) {
    place->server = rough_server_start(answers, count, 0);
    place->host = text_format("127.0.0.1:%d", rough_server_port(place->server));
    place->hosts[0] = place->host;
    if (!place->file.url) place->file.url = place->url = text_format("http://%s/model.onnx", place->host);
    assert_int_equal(transfer_open(&place->config, &place->transfer, &place->error), 0);
    return transfer_download(place->transfer, &place->download, &place->error);
}
#define FETCH(place, ...)                                                                                              \
    ({                                                                                                                 \
        static const struct rough_answer answers_[] = {__VA_ARGS__};                                                   \
        fetch(place, answers_, ARRAY_SIZE(answers_));                                                                  \
    })

static void expect_file(struct place *place, int result, const char *text) {
    _cleanup_free_ char *why = place->error ? error_text(place->error) : NULL;
    if (result < 0) fail_msg("%s", why);
    size_t size;
    _cleanup_free_ char *bytes = scratch_read(place->folder, place->file.path, &size);
    assert_non_null(bytes);
    assert_string_equal(bytes, text);
    assert_int_equal(size, place->file.ret_size_bytes);
    char sha256[DIGEST_HEX_SIZE];
    digest_bytes(text, strlen(text), sha256);
    assert_string_equal(place->file.ret_sha256, sha256);
    assert_int_equal(place->done_bytes, place->total_bytes);
}

static void expect_error(struct place *place, int result, bool transient, const char *part) {
    assert_int_equal(result, -ERROR_MODEL_REGISTRY);
    _cleanup_free_ char *text = error_text(place->error);
    if (!strstr(text, part) || place->error->transient != transient)
        fail_msg("%s (transient: %d)", text, place->error->transient);
}

#define WHOLE "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"one\"\r\n\r\n" TEN
#define HALF "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"one\"\r\n\r\n01234"
#define REST(range, tag) "HTTP/1.1 206 Part\r\nContent-Range: bytes " range "\r\nETag: \"" tag "\"\r\n"

static void a_file_comes_into_folders_of_its_own(void **state) {
    struct place *place = *state;
    place->file.size_bytes = 10;
    place->file.sha256 = place->sha256;
    place->file.validator = "\"one\"";
    expect_file(place, FETCH(place, {.bytes = WHOLE}), TEN);
    assert_int_equal(place->total_bytes, 10);
}

static void a_broken_download_goes_on_where_it_was(void **state) {
    struct place *place = *state;
    int result = FETCH(place, {.bytes = HALF}, {.bytes = REST("5-9/10", "one") "Content-Length: 5\r\n\r\n5678"},
                       {.bytes = REST("9-9/10", "one") "Content-Length: 1\r\n\r\n9"});
    expect_file(place, result, TEN);
    assert_null(strcasestr(rough_server_request(place->server, 0), "range"));
    assert_non_null(strstr(rough_server_request(place->server, 1), "Range: bytes=5-\r\n"));
    assert_non_null(strstr(rough_server_request(place->server, 1), "If-Range: \"one\"\r\n"));
    assert_non_null(strstr(rough_server_request(place->server, 2), "Range: bytes=9-\r\n"));
}

static void a_file_that_was_replaced_meanwhile_comes_whole(void **state) {
    struct place *place = *state;
    int result =
        FETCH(place, {.bytes = HALF}, {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"two\"\r\n\r\nnew"});
    assert_int_equal(result, 0);
    _cleanup_free_ char *bytes = scratch_read(place->folder, place->file.path, NULL);
    assert_string_equal(bytes, "new");
}

static void a_weak_validator_or_none_begins_anew_unless_a_digest_will_tell(void **state) {
    struct place *place = *state;
    int result = FETCH(place, {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: W/\"one\"\r\n\r\n01234"},
                       {.bytes = WHOLE});
    expect_file(place, result, TEN);
    assert_null(strcasestr(rough_server_request(place->server, 1), "range"));
}

static void with_a_digest_the_rest_is_asked_for_without_a_validator(void **state) {
    struct place *place = *state;
    place->file.sha256 = place->sha256;
    int result = FETCH(place, {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234"},
                       {.bytes = "HTTP/1.1 206 Part\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n56789"});
    expect_file(place, result, TEN);
    assert_non_null(strstr(rough_server_request(place->server, 1), "Range: bytes=5-\r\n"));
    assert_null(strcasestr(rough_server_request(place->server, 1), "if-range"));
}

static void what_was_put_together_wrongly_is_fetched_once_more_in_one(void **state) {
    struct place *place = *state;
    place->file.sha256 = place->sha256;
    int result = FETCH(place, {.bytes = HALF}, {.bytes = REST("5-9/10", "one") "Content-Length: 5\r\n\r\nXXXXX"},
                       {.bytes = WHOLE});
    expect_file(place, result, TEN);
    assert_null(strcasestr(rough_server_request(place->server, 2), "range"));
}

static void another_part_than_was_asked_for_is_refused(void **state) {
    struct place *place = *state;
    int result = FETCH(place, {.bytes = HALF}, {.bytes = REST("4-9/10", "one") "Content-Length: 6\r\n\r\n456789"});
    expect_error(place, result, false, "another part");
}

static void a_part_of_another_version_is_refused(void **state) {
    struct place *place = *state;
    int result = FETCH(place, {.bytes = HALF}, {.bytes = REST("5-9/10", "two") "Content-Length: 5\r\n\r\n56789"});
    expect_error(place, result, true, "another version");
}

static void a_part_that_nobody_asked_for_is_refused(void **state) {
    struct place *place = *state;
    int result = FETCH(place, {.bytes = REST("0-4/10", "one") "Content-Length: 5\r\n\r\n01234"});
    expect_error(place, result, false, "another part");
}

static void another_version_than_was_looked_at_is_refused(void **state) {
    struct place *place = *state;
    place->file.validator = "\"zero\"";
    expect_error(place, FETCH(place, {.bytes = WHOLE}), true, "another version");
}

static void another_length_than_was_announced_is_refused_at_the_head(void **state) {
    struct place *place = *state;
    place->file.size_bytes = 11;
    expect_error(place, FETCH(place, {.bytes = WHOLE}), false, "10 bytes of it, not the 11");
    assert_int_equal(rough_server_count(place->server), 1);
}

static void more_than_was_announced_is_refused(void **state) {
    struct place *place = *state;
    place->file.size_bytes = 5;
    int result =
        FETCH(place, {.bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" TEN "\r\n0\r\n\r\n"});
    expect_error(place, result, false, "more than the 5 bytes");
}

static void a_length_that_never_comes_is_an_error_after_all_tries(void **state) {
    struct place *place = *state;
    int result =
        FETCH(place, {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\nETag: \"one\"\r\n\r\n" TEN},
              {.bytes = REST("10-999999999999/1000000000000", "one") "Content-Length: 999999999990\r\n\r\n"});
    expect_error(place, result, true, "download a/b/model.onnx");
    assert_int_equal(rough_server_count(place->server), 4); /* one that brought something, three that did not */
}

static void another_digest_is_final(void **state) {
    struct place *place = *state;
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    place->file.sha256 = zeros;
    expect_error(place, FETCH(place, {.bytes = WHOLE}), false, place->sha256);
    assert_int_equal(rough_server_count(place->server), 1);
}

static void an_answer_without_an_end_needs_a_digest(void **state) {
    struct place *place = *state;
    expect_error(place, FETCH(place, {.bytes = "HTTP/1.1 200 OK\r\n\r\n" TEN}), false, "neither a length");
}

static void an_answer_without_an_end_is_told_whole_by_its_digest(void **state) {
    struct place *place = *state;
    place->file.sha256 = place->sha256;
    expect_file(place, FETCH(place, {.bytes = "HTTP/1.1 200 OK\r\n\r\n" TEN}), TEN);
}

static void chunks_have_an_end(void **state) {
    struct place *place = *state;
    int result = FETCH(place, {.bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n"},
                       {.bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" TEN "\r\n0\r\n\r\n"});
    expect_file(place, result, TEN);
}

static void a_ceiling_holds_for_what_comes_and_for_what_is_claimed(void **state) {
    struct place *place = *state;
    place->download.size_maximum = 9;
    expect_error(place, FETCH(place, {.bytes = WHOLE}), false, "more than the 9");
    error_free(TAKE(place->error));
    place->file.size_bytes = 10;
    int result = transfer_download(place->transfer, &place->download, &place->error);
    expect_error(place, result, false, "larger than the 9 B");
    assert_int_equal(rough_server_count(place->server), 1);
}

static void a_ceiling_holds_for_what_has_no_length(void **state) {
    struct place *place = *state;
    place->download.size_maximum = 9;
    int result =
        FETCH(place, {.bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" TEN "\r\n0\r\n\r\n"});
    expect_error(place, result, false, "larger than the 9");
}

static void a_refusal_is_told_with_the_words_of_the_server(void **state) {
    struct place *place = *state;
    int result = FETCH(place, {.bytes = "HTTP/1.1 403 No\r\nContent-Length: 8\r\n\r\nno entry"});
    expect_error(place, result, false, "403 from the server: no entry");
    assert_int_equal(rough_server_count(place->server), 1);
}

static void a_range_behind_the_end_begins_anew(void **state) {
    struct place *place = *state;
    int result = FETCH(place, {.bytes = HALF}, {.bytes = "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n"},
                       {.bytes = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew"});
    assert_int_equal(result, 0);
    _cleanup_free_ char *bytes = scratch_read(place->folder, place->file.path, NULL);
    assert_string_equal(bytes, "new");
}

static void no_link_is_followed_and_no_file_replaced(void **state) {
    struct place *place = *state;
    assert_int_equal(symlinkat("/tmp", place->download.folder, "a"), 0);
    assert_int_equal(FETCH(place, {.bytes = WHOLE}), -ERROR_DEPLOYMENT);
    assert_int_equal(rough_server_count(place->server), 0);
    assert_int_equal(unlinkat(place->download.folder, "a", 0), 0);
    scratch_write_text(place->folder, "a/b/model.onnx", "mine");
    error_free(TAKE(place->error));
    assert_int_equal(transfer_download(place->transfer, &place->download, &place->error), -ERROR_DEPLOYMENT);
    _cleanup_free_ char *bytes = scratch_read(place->folder, place->file.path, NULL);
    assert_string_equal(bytes, "mine");
}

static void many_files_come_over_several_connections(void **state) {
    struct place *place = *state;
    struct transfer_file files[7];
    char paths[7][32];
    place->server = rough_server_start(&(struct rough_answer){.bytes = WHOLE}, 1, 0);
    _cleanup_free_ char *url = text_format("http://127.0.0.1:%d/", rough_server_port(place->server));
    place->hosts[0] = "127.0.0.1";
    for (int i = 0; i < 7; i++) {
        snprintf(paths[i], sizeof paths[i], "part/%d", i);
        files[i] = (struct transfer_file){.url = url, .path = paths[i], .size_bytes = 10};
    }
    place->download.files = files;
    place->download.count = 7;
    assert_int_equal(transfer_open(&place->config, &place->transfer, &place->error), 0);
    assert_int_equal(transfer_download(place->transfer, &place->download, &place->error), 0);
    assert_int_equal(scratch_count(place->folder, "part"), 7);
    assert_int_equal(place->done_bytes, 70);
    for (int i = 0; i < 7; i++) assert_string_equal(files[i].ret_sha256, place->sha256);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_file_comes_into_folders_of_its_own),
        CASE(a_broken_download_goes_on_where_it_was),
        CASE(a_file_that_was_replaced_meanwhile_comes_whole),
        CASE(a_weak_validator_or_none_begins_anew_unless_a_digest_will_tell),
        CASE(with_a_digest_the_rest_is_asked_for_without_a_validator),
        CASE(what_was_put_together_wrongly_is_fetched_once_more_in_one),
        CASE(another_part_than_was_asked_for_is_refused),
        CASE(a_part_of_another_version_is_refused),
        CASE(a_part_that_nobody_asked_for_is_refused),
        CASE(another_version_than_was_looked_at_is_refused),
        CASE(another_length_than_was_announced_is_refused_at_the_head),
        CASE(more_than_was_announced_is_refused),
        CASE(a_length_that_never_comes_is_an_error_after_all_tries),
        CASE(another_digest_is_final),
        CASE(an_answer_without_an_end_needs_a_digest),
        CASE(an_answer_without_an_end_is_told_whole_by_its_digest),
        CASE(chunks_have_an_end),
        CASE(a_ceiling_holds_for_what_comes_and_for_what_is_claimed),
        CASE(a_ceiling_holds_for_what_has_no_length),
        CASE(a_refusal_is_told_with_the_words_of_the_server),
        CASE(a_range_behind_the_end_begins_anew),
        CASE(no_link_is_followed_and_no_file_replaced),
        CASE(many_files_come_over_several_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
