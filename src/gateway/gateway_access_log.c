#include "gateway/gateway_access_log-internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

#define LINE_MAXIMUM 1024u /* without the path */
#define PATH_MAXIMUM 512u /* bytes of a path that are shown */
#define GATHERED_MAXIMUM (1024u * 1024)
#define WRITE_AT (48u * 1024)
#define WRITE_EVERY_MS 100

struct gateway_access_log {
    uv_loop_t *loop;
    uv_timer_t timer;
    uv_work_t work;
    struct buffer gathered, writing;
    bool is_writing, is_closing, timer_is_running;
    int descriptor;
    uint64_t left_out;
    int64_t stamp_ms; /* of `stamp` */
    char stamp[25];
};

/* ---- writing ------------------------------------------------------------- */

static void write_out(int descriptor, const struct buffer *text) {
    for (size_t done = 0; done < text->size;) {
        ssize_t written = write(descriptor, text->bytes + done, text->size - done);
        if (written <= 0) return; /* nowhere to say so */
        done += (size_t)written;
    }
}

static void on_work(uv_work_t *work) {
    struct gateway_access_log *log = CONTAINER_OF(work, struct gateway_access_log, work);
    write_out(log->descriptor, &log->writing);
}

static void on_written(uv_work_t *work, int status) {
    (void)status;
    struct gateway_access_log *log = CONTAINER_OF(work, struct gateway_access_log, work);
    log->is_writing = false;
    log->writing.size = 0;
}

static void begin_writing(struct gateway_access_log *log) {
    if (log->is_writing || !log->gathered.size) return;
    struct buffer empty = log->writing;
    log->writing = log->gathered;
    log->gathered = empty;
    log->is_writing = !uv_queue_work(log->loop, &log->work, on_work, on_written);
}

static void on_timer(uv_timer_t *timer) {
    struct gateway_access_log *log = timer->data;
    log->timer_is_running = false;
    begin_writing(log);
}

struct gateway_access_log *gateway_access_log_new(uv_loop_t *loop, int descriptor) {
    struct gateway_access_log *log = mem_new(struct gateway_access_log);
    log->loop = loop;
    log->descriptor = descriptor;
    log->gathered.maximum = log->writing.maximum = GATHERED_MAXIMUM;
    uv_timer_init(loop, &log->timer);
    log->timer.data = log;
    return log;
}

void gateway_access_log_close(struct gateway_access_log *log) {
    if (!log || log->is_closing) return;
    log->is_closing = true;
    if (!log->is_writing) {
        write_out(log->descriptor, &log->gathered);
        log->gathered.size = 0;
    }
    uv_close((uv_handle_t *)&log->timer, NULL);
}

void gateway_access_log_free(struct gateway_access_log *log) {
    if (!log) return;
    write_out(log->descriptor, &log->gathered);
    buffer_clear(&log->gathered);
    buffer_clear(&log->writing);
    free(log);
}

uint64_t gateway_access_log_left_out(const struct gateway_access_log *log) {
    return log ? log->left_out : 0;
}

/* ---- a line -------------------------------------------------------------- */

static char *put_text(char *at, const char *text) {
    size_t size = strlen(text);
    memcpy(at, text, size);
    return at + size;
}

static char *put_number(char *at, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count) *at++ = digits[--count];
    return at;
}

/* Milliseconds with three decimals. */
static char *put_duration(char *at, uint64_t duration_us) {
    at = put_number(at, duration_us / 1000);
    *at++ = '.';
    uint64_t rest = duration_us % 1000;
    *at++ = (char)('0' + rest / 100);
    *at++ = (char)('0' + rest / 10 % 10);
    *at++ = (char)('0' + rest % 10);
    return at;
}

/* So that no path can forge a line or a field: what is not plain is percent-encoded (a path in which it stands is not
 * well-formed anyway). */
static char *put_path(char *at, const char *path) {
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; path[i]; i++) {
        if (i == PATH_MAXIMUM) return put_text(at, "...");
        unsigned char byte = (unsigned char)path[i];
        if (byte > ' ' && byte < 0x7f && byte != '"' && byte != '\\') {
            *at++ = (char)byte;
        } else {
            *at++ = '%';
            *at++ = digits[byte >> 4];
            *at++ = digits[byte & 15];
        }
    }
    return at;
}

static const char *stamp(struct gateway_access_log *log) {
    int64_t now_ms = clock_wall_ms();
    if (now_ms != log->stamp_ms) {
        clock_format(now_ms, log->stamp);
        log->stamp_ms = now_ms;
    }
    return log->stamp;
}

/* What comes before a value, in both forms: numbers stand in JSON as they are, texts in quotes. None of them can have a
 * character that must be escaped: paths are encoded, the rest are names and ids. */
struct form {
    const char *level, *method, *after_path, *path_again;
    const char *status, *bytes, *duration, *request_id, *token, *collection, *deployment, *revision, *replica,
        *trace_id;
    const char *text_end, *end;
};

static const struct form forms[] = {
    [LOG_TEXT] =
        {
            .level = " info access ",
            .after_path = "",
            .status = " status=",
            .bytes = " bytes=",
            .duration = " duration_ms=",
            .request_id = " request_id=",
            .token = " token=",
            .collection = " collection=",
            .deployment = " deployment=",
            .revision = " revision=",
            .replica = " replica=",
            .trace_id = " trace_id=",
            .text_end = "",
            .end = "\n",
        },
    [LOG_JSON] =
        {
            .level = "\",\"level\":\"info\",\"role\":\"access\",\"message\":\"",
            .method = ",\"method\":\"",
            .path_again = ",\"path\":\"",
            .after_path = "\"",
            .status = ",\"status\":",
            .bytes = ",\"bytes\":",
            .duration = ",\"duration_ms\":",
            .request_id = ",\"request_id\":\"",
            .token = ",\"token\":\"",
            .collection = ",\"collection\":\"",
            .deployment = ",\"deployment\":\"",
            .revision = ",\"revision\":",
            .replica = ",\"replica\":\"",
            .trace_id = ",\"trace_id\":\"",
            .text_end = "\"",
            .end = "}\n",
        },
};

/* NULL is left out. */
static char *put_pair(char *at, const struct form *form, const char *before, const char *value) {
    if (!value) return at;
    at = put_text(put_text(at, before), value);
    return put_text(at, form->text_end);
}

static char *put_request(char *at, const struct form *form, const struct gateway_access *access) {
    at = put_text(at, form->level);
    at = put_text(at, access->method);
    *at++ = ' ';
    at = put_path(at, access->path);
    at = put_text(at, form->after_path);
    if (!form->method) return at;
    at = put_pair(at, form, form->method, access->method);
    at = put_path(put_text(at, form->path_again), access->path);
    return put_text(at, form->text_end);
}

static char *put_access(char *at, const char *now, const struct gateway_access *access) {
    const struct form *form = &forms[log_format()];
    if (form->method) at = put_text(at, "{\"time\":\"");
    at = put_text(at, now);
    at = put_request(at, form, access);
    at = put_number(put_text(at, form->status), (uint64_t)access->status);
    at = put_number(put_text(at, form->bytes), access->bytes);
    at = put_duration(put_text(at, form->duration), access->duration_us);
    at = put_pair(at, form, form->request_id, access->request_id);
    at = put_pair(at, form, form->token, access->token);
    at = put_pair(at, form, form->collection, access->collection);
    at = put_pair(at, form, form->deployment, access->deployment);
    if (access->deployment) at = put_number(put_text(at, form->revision), access->revision);
    at = put_pair(at, form, form->replica, access->replica);
    at = put_pair(at, form, form->trace_id, access->trace_id);
    return put_text(at, form->end);
}

void gateway_access_log_add(struct gateway_access_log *log, const struct gateway_access *access) {
    size_t texts = 2 * strlen(access->method) + strlen(access->request_id) +
                   (access->token ? strlen(access->token) : 0) + (access->collection ? strlen(access->collection) : 0) +
                   (access->deployment ? strlen(access->deployment) : 0) +
                   (access->replica ? strlen(access->replica) : 0);
    if (!buffer_reserve(&log->gathered, LINE_MAXIMUM + 2 * 3 * PATH_MAXIMUM + texts)) {
        log->left_out++;
        return;
    }
    char *begin = log->gathered.bytes + log->gathered.size;
    log->gathered.size += (size_t)(put_access(begin, stamp(log), access) - begin);
    if (log->gathered.size >= WRITE_AT) {
        begin_writing(log);
    } else if (!log->timer_is_running && !log->is_closing) {
        log->timer_is_running = true;
        uv_timer_start(&log->timer, on_timer, WRITE_EVERY_MS, 0);
    }
}
