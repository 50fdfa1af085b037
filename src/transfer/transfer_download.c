/* Many files at once. Each lane takes the next file, asks for it, and asks for the rest when the connection breaks: by
 * Range with If-Range, so that a file that was replaced meanwhile comes whole. What is written is hashed as it comes.
 *
 * A file is whole when the server's length, the caller's size and digest, as far as there are any, all agree with what
 * was written; without any of them, when the answer had an end of its own (chunks). */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/text.h"
#include "transfer/transfer-internal.h"

#define TRIES_MAXIMUM 1000 /* of one file: a server that gives a byte at a time is not worth more */
#define PROGRESS_MS 100
#define PARALLEL_MAXIMUM 64

struct download;

struct lane {
    struct call call;
    struct download *download;
    struct transfer_file *file; /* NULL: none */
    int descriptor;
    struct digest *digest;
    uint64_t written_bytes, counted_bytes; /* counted: the most that it ever was, for progress */
    uint64_t asked_from; /* where this try began */
    uint64_t expected_bytes; /* of the whole; TRANSFER_SIZE_UNKNOWN */
    char *validator; /* for If-Range; NULL: what comes cannot be told from what came */
    bool has_end; /* the answer says itself where it ends */
    bool was_resumed, is_totaled;
    char *range, *condition; /* headers of this try */
    unsigned failures, tries;
    uint64_t not_before_ms;
};

struct download {
    struct transfer *transfer;
    const struct transfer_download *what;
    struct lane *lanes;
    struct call **calls;
    size_t lane_count, next, finished;
    uint64_t written_bytes; /* of all files, as they are now */
    uint64_t done_bytes, total_bytes, told_ms;
};

/* ---- what the server's answer must be ---- */

static int refuse(struct lane *lane, bool is_final, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int refuse(struct lane *lane, bool is_final, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *text = text_format_list(format, arguments);
    va_end(arguments);
    struct error *error = NULL;
    error_set(&error, lane->call.transfer->config.class, "%s", text);
    return call_fail(&lane->call, is_final, error);
}

/* Ends all, and may be mended by trying everything again. */
static int refuse_changed(struct lane *lane, const char *what) {
    refuse(lane, true, "%s: the file changed since it was looked at; try again when it is at rest", what);
    return error_mark_transient(&lane->call.failure), -1;
}

static int begin_anew(struct lane *lane) {
    if (lane->written_bytes && (ftruncate(lane->descriptor, 0) < 0 || lseek(lane->descriptor, 0, SEEK_SET) < 0)) {
        struct error *error = NULL;
        transfer_fail_disk(lane->call.transfer, errno, lane->file->path, &error);
        return call_fail(&lane->call, true, error);
    }
    digest_free(lane->digest);
    lane->digest = digest_new();
    lane->download->written_bytes -= lane->written_bytes;
    lane->written_bytes = lane->asked_from = 0;
    lane->was_resumed = false;
    lane->expected_bytes = lane->file->size_bytes;
    free(lane->validator);
    lane->validator = NULL;
    return 0;
}

/* Strong ones only; a date when it is a second older than the answer (RFC 9110, 8.8.2.2). Caller frees. */
static char *strong_validator(const char *head) {
    char *tag = transfer_find_header(head, "ETag");
    if (tag && *tag == '"') return tag;
    free(tag);
    _cleanup_free_ char *date = transfer_find_header(head, "Date");
    char *modified = transfer_find_header(head, "Last-Modified");
    if (date && modified && curl_getdate(modified, NULL) > 0 &&
        curl_getdate(date, NULL) > curl_getdate(modified, NULL) + 1)
        return modified;
    free(modified);
    return NULL;
}

static int expect_size(struct lane *lane, uint64_t size) {
    if (size == TRANSFER_SIZE_UNKNOWN) return 0;
    if (lane->expected_bytes != TRANSFER_SIZE_UNKNOWN && lane->expected_bytes != size)
        return refuse(lane, true, "the server has %llu bytes of it, not the %llu that were announced",
                      (unsigned long long)size, (unsigned long long)lane->expected_bytes);
    uint64_t maximum = lane->download->what->size_maximum;
    if (maximum && size > maximum)
        return refuse(lane, true, "its %llu bytes are more than the %llu that all files may have",
                      (unsigned long long)size, (unsigned long long)maximum);
    if (lane->file->size_bytes == TRANSFER_SIZE_UNKNOWN && !lane->is_totaled) lane->download->total_bytes += size;
    lane->is_totaled = true;
    lane->expected_bytes = size;
    return 0;
}

static int expect_validator(struct lane *lane, const char *head) {
    if (!lane->file->validator) return 0;
    _cleanup_free_ char *tag = transfer_find_header(head, "ETag");
    if (text_equal(tag, lane->file->validator)) return 0;
    return refuse_changed(lane, tag ? "the server gives another version of it" : "the server names no version of it");
}

static int take_whole(struct lane *lane, const char *head) {
    if (lane->written_bytes && begin_anew(lane) < 0) return -1;
    uint64_t size = transfer_content_length(head);
    if (expect_size(lane, size) < 0) return -1;
    free(lane->validator);
    lane->validator = strong_validator(head);
    _cleanup_free_ char *encoding = transfer_find_header(head, "Transfer-Encoding");
    lane->has_end = size != TRANSFER_SIZE_UNKNOWN || encoding;
    return 0;
}

static int take_rest(struct lane *lane, const char *head) {
    uint64_t first, total;
    if (!lane->range || !transfer_content_range(head, &first, &total) || first != lane->written_bytes)
        return refuse(lane, true, "the server answers with another part of the file than was asked for");
    _cleanup_free_ char *tag = transfer_find_header(head, "ETag");
    if (tag && lane->validator && *lane->validator == '"' && strcmp(tag, lane->validator))
        return refuse_changed(lane, "the server goes on with another version of it");
    lane->was_resumed = true;
    lane->has_end = true;
    return expect_size(lane, total);
}

static int take_head(struct call *call) {
    struct lane *lane = call->context;
    const char *head = call->head.bytes;
    if (call->status != 200 && call->status != 206) return 0; /* its words are of interest */
    if (expect_validator(lane, head) < 0) return -1;
    return call->status == 200 ? take_whole(lane, head) : take_rest(lane, head);
}

static int take_body(struct call *call, const char *bytes, size_t size) {
    struct lane *lane = call->context;
    struct download *download = lane->download;
    if (call->status != 200 && call->status != 206) {
        call->is_enough |= !buffer_append(&call->body, bytes, size);
        return call->is_enough ? -1 : 0;
    }
    if (lane->expected_bytes != TRANSFER_SIZE_UNKNOWN && size > lane->expected_bytes - lane->written_bytes)
        return refuse(lane, true, "the server sends more than the %llu bytes that were announced",
                      (unsigned long long)lane->expected_bytes);
    uint64_t maximum = download->what->size_maximum;
    if (maximum && size > maximum - download->written_bytes)
        return refuse(lane, true, "it is larger than the %llu bytes that all files may have",
                      (unsigned long long)maximum);
    if (transfer_write(lane->descriptor, bytes, size) < 0) {
        struct error *error = NULL;
        transfer_fail_disk(call->transfer, errno, lane->file->path, &error);
        return call_fail(call, true, error);
    }
    digest_update(lane->digest, bytes, size);
    transfer_begin_writeback(lane->descriptor, lane->written_bytes, size);
    lane->written_bytes += size;
    download->written_bytes += size;
    if (lane->written_bytes <= lane->counted_bytes) return 0;
    download->done_bytes += lane->written_bytes - lane->counted_bytes;
    lane->counted_bytes = lane->written_bytes;
    return 0;
}

/* ---- a lane's life ---- */

static void leave_file(struct lane *lane) {
    call_stop(&lane->call);
    mem_close_descriptor(&lane->descriptor);
    lane->descriptor = -1;
    digest_free(lane->digest);
    lane->digest = NULL;
    free(lane->validator);
    free(lane->range);
    free(lane->condition);
    lane->validator = lane->range = lane->condition = NULL;
    lane->file = NULL;
}

/* Asks for the file, or for what is missing of it. */
static int ask(struct lane *lane, struct error **ret_error) {
    const struct transfer_file *file = lane->file;
    free(lane->range);
    free(lane->condition);
    lane->range = lane->condition = NULL;
    /* Where nothing tells two versions apart, a digest will. */
    if (lane->written_bytes && !lane->validator && !file->sha256 && begin_anew(lane) < 0) {
        *ret_error = TAKE(lane->call.failure);
        return -(int)(*ret_error)->class;
    }
    if (lane->written_bytes) {
        lane->range = text_format("Range: bytes=%llu-", (unsigned long long)lane->written_bytes);
        if (lane->validator) lane->condition = text_format("If-Range: %s", lane->validator);
    }
    lane->asked_from = lane->written_bytes;
    lane->call.extra_headers[0] = lane->range;
    lane->call.extra_headers[1] = lane->condition;
    struct transfer_request request = {.url = file->url,
                                       .headers = file->headers,
                                       .header_count = file->header_count,
                                       .credentials = file->credentials};
    return call_start(&lane->call, &request, ret_error);
}

static int take_next(struct lane *lane, struct error **ret_error) {
    struct download *download = lane->download;
    struct transfer_file *file = &download->what->files[download->next++];
    lane->file = file;
    lane->written_bytes = lane->counted_bytes = lane->failures = lane->tries = 0;
    lane->not_before_ms = 0;
    lane->was_resumed = lane->is_totaled = false;
    lane->expected_bytes = file->size_bytes;
    lane->digest = digest_new();
    lane->descriptor = transfer_make_file(download->what->folder, file->path);
    if (lane->descriptor < 0) return transfer_fail_disk(download->transfer, errno, file->path, ret_error);
    return ask(lane, ret_error);
}

static int give_up(const struct lane *lane, struct error *error, struct error **ret_error) {
    int class = (int)error->class;
    if (ret_error)
        *ret_error = error;
    else
        error_free(error);
    error_wrap(ret_error, "download %s", lane->file->path);
    return -class;
}

/* Another try, later; or the end. Takes the error. */
static int try_again(struct lane *lane, struct error *error, struct error **ret_error) {
    const struct transfer_config *config = &lane->call.transfer->config;
    lane->failures = lane->written_bytes > lane->asked_from ? 0 : lane->failures + 1;
    uint64_t pause_ms;
    if (lane->failures >= config->attempts || ++lane->tries >= TRIES_MAXIMUM ||
        !call_pause(&lane->call, lane->failures, &pause_ms))
        return give_up(lane, error, ret_error);
    error_free(error);
    lane->not_before_ms = clock_monotonic_ms() + pause_ms;
    return 0;
}

/* All bytes are there. What was put together from several answers and is not right is fetched once more in one. */
static int check_whole(struct lane *lane, struct error **ret_error) {
    struct transfer_file *file = lane->file;
    enum error_class class = lane->call.transfer->config.class;
    struct error *error = NULL;
    digest_finish(TAKE(lane->digest), file->ret_sha256);
    file->ret_size_bytes = lane->written_bytes;
    bool is_another = file->sha256 && strcasecmp(file->sha256, file->ret_sha256);
    bool is_short = lane->expected_bytes != TRANSFER_SIZE_UNKNOWN && lane->written_bytes != lane->expected_bytes;
    if (!is_another && !is_short && (lane->has_end || file->sha256 || file->size_bytes != TRANSFER_SIZE_UNKNOWN)) {
        leave_file(lane);
        lane->download->finished++;
        return 0;
    }
    if (is_short)
        error_set(&error, class, "the server sent %llu bytes of %llu", (unsigned long long)lane->written_bytes,
                  (unsigned long long)lane->expected_bytes);
    else if (is_another)
        error_set(&error, class, "its sha256 is %s, not the %s that was announced", file->ret_sha256, file->sha256);
    else
        error_set(&error, class,
                  "the server says neither a length nor where its answer ends, so that nothing tells whether it is "
                  "whole; give its digest");
    bool is_worth = lane->was_resumed || is_short;
    if (is_worth) error_mark_transient(&error);
    if (begin_anew(lane) < 0) {
        error_free(error);
        return give_up(lane, TAKE(lane->call.failure), ret_error);
    }
    return is_worth ? try_again(lane, error, ret_error) : give_up(lane, error, ret_error);
}

static int finish_answer(struct lane *lane, struct error **ret_error) {
    struct call *call = &lane->call;
    if (call->status == 200 || call->status == 206) return check_whole(lane, ret_error);
    struct error *error = NULL;
    transfer_fail_status(call->transfer, call->status, call->url, call->body.bytes, call->body.size, &error);
    if (call->status != 416 || !lane->range) return give_up(lane, error, ret_error);
    if (begin_anew(lane) == 0) return try_again(lane, error, ret_error); /* it became shorter */
    error_free(error);
    return give_up(lane, TAKE(lane->call.failure), ret_error);
}

static int end_try(struct lane *lane, struct error **ret_error) {
    struct error *error = NULL;
    switch (call_finish(&lane->call, &error)) {
    case CALL_MOVED: return 0;
    case CALL_ANSWERED: return finish_answer(lane, ret_error);
    case CALL_FAILED: return give_up(lane, error, ret_error);
    case CALL_AGAIN: break;
    }
    bool is_there = lane->written_bytes && lane->written_bytes == lane->expected_bytes;
    if (!is_there) return try_again(lane, error, ret_error);
    error_free(error); /* broken behind the last byte */
    return check_whole(lane, ret_error);
}

static int serve_lane(struct lane *lane, struct error **ret_error) {
    struct download *download = lane->download;
    int result = 0;
    if (lane->file && lane->call.is_done) result = end_try(lane, ret_error);
    if (result < 0) return result;
    if (lane->file && !lane->call.is_running && clock_monotonic_ms() >= lane->not_before_ms)
        result = ask(lane, ret_error);
    else if (!lane->file && download->next < download->what->count)
        result = take_next(lane, ret_error);
    return result;
}

/* ---- all of them ---- */

static void tell_progress(struct download *download, bool at_once) {
    const struct transfer_download *what = download->what;
    uint64_t now = clock_monotonic_ms();
    if (!what->on_progress || (!at_once && now - download->told_ms < PROGRESS_MS)) return;
    download->told_ms = now;
    if (download->total_bytes < download->done_bytes) download->total_bytes = download->done_bytes;
    what->on_progress(download->done_bytes, download->total_bytes, what->progress_context);
}

/* Sizes that are known are refused before a byte is asked for. */
static int add_up(struct download *download, struct error **ret_error) {
    const struct transfer_download *what = download->what;
    for (size_t i = 0; i < what->count; i++) {
        uint64_t size = what->files[i].size_bytes;
        if (size == TRANSFER_SIZE_UNKNOWN) continue;
        uint64_t maximum = what->size_maximum ? what->size_maximum : INT64_MAX;
        if (size > maximum || download->total_bytes > maximum - size) {
            _cleanup_free_ char *limit = text_size(maximum);
            return error_set(ret_error, download->transfer->config.class,
                             "the files are larger than the %s that they may have together", limit);
        }
        download->total_bytes += size;
    }
    return 0;
}

static void open_lanes(struct download *download) {
    size_t count = download->transfer->config.parallel;
    if (count > PARALLEL_MAXIMUM) count = PARALLEL_MAXIMUM;
    if (count > download->what->count) count = download->what->count;
    download->lanes = mem_new_array(count, struct lane);
    download->calls = mem_new_array(count, struct call *);
    download->lane_count = count;
    for (size_t i = 0; i < count; i++) {
        struct lane *lane = &download->lanes[i];
        *lane = (struct lane){.download = download, .descriptor = -1};
        call_begin(&lane->call, download->transfer);
        lane->call.body.maximum = TRANSFER_ERROR_BODY_MAXIMUM;
        lane->call.on_head = take_head;
        lane->call.on_body = take_body;
        lane->call.context = lane;
        download->calls[i] = &lane->call;
    }
}

static void close_lanes(struct download *download) {
    for (size_t i = 0; i < download->lane_count; i++) {
        leave_file(&download->lanes[i]);
        call_clear(&download->lanes[i].call);
    }
    free(download->lanes);
    free(download->calls);
}

static uint64_t next_moment(const struct download *download) {
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < download->lane_count; i++) {
        const struct lane *lane = &download->lanes[i];
        if (lane->file && !lane->call.is_running && lane->not_before_ms < next) next = lane->not_before_ms;
    }
    return next;
}

static int run(struct download *download, struct error **ret_error) {
    int result = 0;
    for (;;) {
        for (size_t i = 0; i < download->lane_count && result >= 0; i++)
            result = serve_lane(&download->lanes[i], ret_error);
        bool is_over = result < 0 || download->finished == download->what->count;
        tell_progress(download, is_over);
        if (is_over) return result;
        result =
            transfer_turn(download->transfer, download->calls, download->lane_count, next_moment(download), ret_error);
    }
}

int transfer_download(struct transfer *transfer, const struct transfer_download *what, struct error **ret_error) {
    struct download download = {.transfer = transfer, .what = what};
    int result = add_up(&download, ret_error);
    if (!result) result = transfer_check(transfer, ret_error);
    if (result < 0) return result;
    tell_progress(&download, true);
    open_lanes(&download);
    result = run(&download, ret_error);
    close_lanes(&download);
    return result;
}
