/* Following the logs of a deployment's replicas: by file and offset.
 *
 * A log that has become large is set aside as <id>.log.1 while its runner lives, and a new one takes its name
 * (supervisor_log_rotate.c): the renaming comes after the runner has begun to write into the new one. So a file that no
 * longer has the name is complete; it is held open until it has been read, and the one after it comes next. A file is
 * known by its inode and the time it was made (inodes are used again), which also makes positions that outlive a
 * connection: "<replica>:<file>:<offset>", given with each line, and taken by `after`. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "controller/engine-internal.h"
#include "controller/follow.h"

#define READ_BYTES 65536u /* of one log in a round; a line that is longer comes in pieces */
#define TAIL_BYTES 262144 /* how far back a beginning looks for its lines */
#define POSITION_BYTES 16384u /* of the header; a replica that it has no room for is told again from its beginning */

struct identity {
    uint64_t inode, made; /* made: nanoseconds, 0 where the file system does not know */
};

struct followed_log {
    char *replica_id;
    int64_t revision;
    int file; /* -1: not there yet */
    struct identity identity;
    int64_t offset; /* behind the last line that was told */
    bool is_listed; /* has a row */
    bool has_gap; /* a file went before it was read */
};

struct log_follow {
    struct follow follow;
    char *deployment_id, *folder;
    struct followed_log *logs; /* oldest replica first */
    size_t count, next; /* next: the log that a round begins with */
    bool is_gone; /* the deployment is inactive */
    bool has_caught_up; /* all were read to their ends once */
    char text[READ_BYTES + 1];
};

/* ---- files ---- */

static char *path_of(const struct log_follow *self, const char *replica_id, const char *ending) {
    return text_format("%s/%s.%s", self->folder, replica_id, ending);
}

static struct identity identity_of(int folder, const char *path, int flags, int64_t *ret_size) {
    struct statx facts = {0};
    *ret_size = -1;
    if (statx(folder, path, flags | AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_SIZE | STATX_BTIME, &facts) < 0)
        return (struct identity){0};
    *ret_size = (int64_t)facts.stx_size;
    bool knows = facts.stx_mask & STATX_BTIME;
    return (struct identity){facts.stx_ino,
                             knows ? (uint64_t)facts.stx_btime.tv_sec * 1000000000u + facts.stx_btime.tv_nsec : 0};
}

static bool is_same(const struct identity *a, const struct identity *b) {
    return a->inode == b->inode && a->made == b->made;
}

/* Opens <id>.<ending> at the offset; false when it is not there. */
static bool open_log(const struct log_follow *self, struct followed_log *log, const char *ending, int64_t offset) {
    _cleanup_free_ char *path = path_of(self, log->replica_id, ending);
    int64_t size;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file < 0) return false;
    mem_close_descriptor(&log->file);
    log->file = file;
    log->identity = identity_of(file, "", AT_EMPTY_PATH, &size);
    log->offset = offset;
    return true;
}

/* The name has another file than the one that was read to its end: goes on to that which followed it. */
static bool open_next(const struct log_follow *self, struct followed_log *log) {
    _cleanup_free_ char *aside = path_of(self, log->replica_id, "log.1");
    int64_t size;
    struct identity older = identity_of(AT_FDCWD, aside, 0, &size);
    if (log->file < 0 || is_same(&older, &log->identity)) return open_log(self, log, "log", 0);
    log->has_gap = size >= 0; /* it was set aside twice meanwhile: perhaps not the one that came next */
    return (size >= 0 && open_log(self, log, "log.1", 0)) || open_log(self, log, "log", 0);
}

/* Whether the name still leads to the file that is open, or to none. */
static bool is_current(const struct log_follow *self, const struct followed_log *log) {
    _cleanup_free_ char *path = path_of(self, log->replica_id, "log");
    int64_t size;
    struct identity now = identity_of(AT_FDCWD, path, 0, &size);
    return size < 0 || is_same(&now, &log->identity);
}

/* ---- lines ---- */

static bool begins_with_time(const char *line) {
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    for (size_t i = 0; i < sizeof form - 1; i++) {
        bool fits = form[i] == 'd' ? line[i] >= '0' && line[i] <= '9' : line[i] == form[i];
        if (!fits) return false; /* also at the line's end */
    }
    return true;
}

/* The time that a line of ours begins with, in either form (base/log.h). */
static const char *time_of(const char *line) {
    static const char json[] = "{\"time\":\"";
    if (!strncmp(line, json, sizeof json - 1)) line += sizeof json - 1;
    return begins_with_time(line) ? line : NULL;
}

void log_line_render(yyjson_mut_doc *document, yyjson_mut_val *object, const char *replica_id, int64_t revision,
                     char *line) {
    const char *time = time_of(line);
    if (time) yyjson_mut_obj_add_strncpy(document, object, "at", time, 24);
    json_add_text(document, object, "replica_id", replica_id);
    yyjson_mut_obj_add_sint(document, object, "revision", revision);
    text_make_utf8(line);
    json_add_text(document, object, "line", line);
}

static char *position_of(const struct followed_log *log) {
    return text_format("%s:%" PRIx64 "-%" PRIx64 ":%" PRId64, log->replica_id, log->identity.inode, log->identity.made,
                       log->offset);
}

static void append_line(struct followed_log *log, char *line, size_t size, struct buffer *out) {
    for (size_t i = 0; i < size; i++)
        if (!line[i]) line[i] = '?';
    line[size] = 0;
    _cleanup_free_ char *position = position_of(log);
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *object = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, object);
    log_line_render(document, object, log->replica_id, log->revision, line);
    if (log->has_gap) yyjson_mut_obj_add_bool(document, object, "gap", true);
    log->has_gap = false;
    json_add_text(document, object, "position", position);
    follow_append(out, document);
}

/* Appends the lines of text[0..size) until the round is full; `to_the_end`: also the last one when it has no end yet.
 * One that is longer than what is read at once comes in pieces. */
static void append_lines(struct followed_log *log, char *text, size_t size, bool to_the_end, struct buffer *out) {
    char *at = text, *end = text + size;
    while (at < end && out->size < FOLLOW_ROUND_BYTES) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        bool is_piece = size == READ_BYTES && at == text;
        if (!stop && !to_the_end && !is_piece) return;
        size_t length = stop ? (size_t)(stop - at) : (size_t)(end - at);
        log->offset += (int64_t)length + (stop != NULL);
        append_line(log, at, length, out);
        at += length + 1;
    }
}

/* Reads what there is of a log, across files, at most about READ_BYTES; true when there may be more at hand. */
static bool read_log(struct log_follow *self, struct followed_log *log, struct buffer *out, struct error **ret_error) {
    bool is_complete = false; /* the open file has lost its name: nobody writes into it any more */
    if (log->file < 0 && !open_next(self, log)) return false;
    for (;;) {
        ssize_t size = pread(log->file, self->text, READ_BYTES, log->offset);
        if (size < 0) {
            error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "read the log of replica %s", log->replica_id);
            return false;
        }
        int64_t before = log->offset;
        append_lines(log, self->text, (size_t)size, is_complete && size < (ssize_t)READ_BYTES, out);
        if (out->size >= FOLLOW_ROUND_BYTES || size == READ_BYTES) return true;
        if (log->offset > before) continue;
        if (is_complete && !open_next(self, log)) return false;
        if (!is_complete && is_current(self, log)) return false;
        is_complete = !is_complete; /* what was written before it lost its name is read first */
    }
}

/* ---- which logs ---- */

static struct followed_log *find_log(struct log_follow *self, const char *replica_id) {
    for (size_t i = 0; i < self->count; i++)
        if (text_equal(self->logs[i].replica_id, replica_id)) return &self->logs[i];
    return NULL;
}

static struct followed_log *add_log(struct log_follow *self, const char *replica_id, int64_t revision) {
    self->logs = mem_resize(self->logs, self->count + 1, sizeof *self->logs);
    struct followed_log *log = &self->logs[self->count++];
    *log = (struct followed_log){.replica_id = text_copy(replica_id), .revision = revision, .file = -1};
    return log;
}

static void clear_log(struct followed_log *log) {
    mem_close_descriptor(&log->file);
    free(log->replica_id);
}

/* The replicas that have a row now; new ones are added. */
static int list_logs(struct log_follow *self, struct api_call *call, struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int64_t living = 0;
    for (size_t i = 0; i < self->count; i++) self->logs[i].is_listed = false;
    int result = store_begin(call->controller->store, &tx, ret_error);
    if (result < 0 || (result = store_query(tx, &rows, ret_error,
                                            "SELECT id, revision FROM replicas WHERE deployment_id = ? "
                                            "ORDER BY created_at, id DESC",
                                            "t", self->deployment_id)) < 0)
        return result;
    while ((result = store_next(rows, ret_error)) > 0) {
        struct followed_log *log = find_log(self, store_text(rows, 0));
        if (!log) log = add_log(self, store_text(rows, 0), store_number(rows, 1));
        log->is_listed = true;
    }
    if (result < 0) return result;
    result = store_ask_number(tx, &living, ret_error,
                              "SELECT count(*) FROM deployments WHERE id = ? AND status <> 'inactive'", "t",
                              self->deployment_id);
    self->is_gone = result >= 0 && !living;
    return result;
}

/* Logs of replicas that have gone and were read to their end. */
static void drop_read(struct log_follow *self) {
    size_t kept = 0;
    for (size_t i = 0; i < self->count; i++) {
        if (self->logs[i].is_listed)
            self->logs[kept++] = self->logs[i];
        else
            clear_log(&self->logs[i]);
    }
    self->count = kept;
    self->next = 0;
}

/* Until all have been read to their ends once, one after the other; from then on a log that never ends does not keep
 * the others waiting: each round begins behind the one that filled the last. */
static int read_logs(struct follow *follow, struct api_call *call, struct buffer *out, bool *ret_more,
                     struct error **ret_error) {
    struct log_follow *self = CONTAINER_OF(follow, struct log_follow, follow);
    struct error *error = NULL;
    int result = follow->record_changed ? list_logs(self, call, ret_error) : 0;
    for (size_t i = 0, from = self->next; i < self->count && result >= 0; i++) {
        size_t at = (from + i) % self->count;
        bool has_more = read_log(self, &self->logs[at], out, &error);
        *ret_more = *ret_more || has_more;
        self->next = at + self->has_caught_up;
        if (error) result = -(int)error->class;
        if (out->size >= FOLLOW_ROUND_BYTES || (has_more && !self->has_caught_up)) break;
    }
    if (error) *ret_error = error;
    if (result < 0 || *ret_more) return result;
    drop_read(self);
    self->has_caught_up = true;
    follow->is_over = self->is_gone && !self->count;
    return 0;
}

static void free_logs(struct follow *follow) {
    struct log_follow *self = CONTAINER_OF(follow, struct log_follow, follow);
    for (size_t i = 0; i < self->count; i++) clear_log(&self->logs[i]);
    free(self->logs);
    free(self->deployment_id);
    free(self->folder);
    free(self);
}

static const struct follow_source log_source = {.reads_logs = true, .read = read_logs, .free = free_logs};

/* ---- where to begin ---- */

/* Opens <id>.<ending> where its last *left lines begin, and takes them off *left. False: it is not there. */
static bool begin_at_tail(struct log_follow *self, struct followed_log *log, const char *ending, int64_t *left) {
    struct stat status;
    if (!open_log(self, log, ending, 0) || fstat(log->file, &status) < 0) return false;
    int64_t end = status.st_size, first = end > TAIL_BYTES ? end - TAIL_BYTES : 0;
    _cleanup_free_ char *text = mem_new_array(TAIL_BYTES, char);
    ssize_t size = pread(log->file, text, (size_t)(end - first), first);
    while (size > 0 && text[size - 1] != '\n') size--; /* a line that has no end yet is told when it has */
    log->offset = size > 0 ? first + size : first;
    for (ssize_t i = size - 2; i >= -1 && *left > 0; i--) {
        if (i < 0 ? first > 0 : text[i] != '\n') continue;
        log->offset = first + i + 1;
        --*left;
    }
    return true;
}

/* The last `limit` lines of all, the newest replica's last. */
static void begin_with_last(struct log_follow *self, int64_t limit) {
    for (size_t i = self->count; i-- > 0;) {
        struct followed_log *log = &self->logs[i];
        int64_t left = limit;
        if (!begin_at_tail(self, log, "log", &limit)) continue;
        if (left && limit && log->offset == 0) begin_at_tail(self, log, "log.1", &limit);
    }
}

/* Takes one "<replica>:<inode>-<made>:<offset>". */
static bool begin_behind(struct log_follow *self, const char *position) {
    char id[37];
    struct identity identity;
    int64_t offset;
    int length = 0;
    if (sscanf(position, "%36[0-9a-fA-F-]:%" SCNx64 "-%" SCNx64 ":%" SCNd64 "%n", id, &identity.inode, &identity.made,
               &offset, &length) != 4 ||
        position[length] || offset < 0)
        return false;
    struct followed_log *log = find_log(self, id);
    if (!log) return true; /* it has gone, with its log */
    if (open_log(self, log, "log", offset) && is_same(&log->identity, &identity)) return true;
    if (open_log(self, log, "log.1", offset) && is_same(&log->identity, &identity)) return true;
    log->has_gap = true;
    if (!open_log(self, log, "log.1", 0)) open_log(self, log, "log", 0);
    return true;
}

static int begin_after(struct log_follow *self, const char *after, struct error **ret_error) {
    _cleanup_free_ char *copy = text_copy(after);
    char *save = NULL;
    for (char *position = strtok_r(copy, ",", &save); position; position = strtok_r(NULL, ",", &save))
        if (!begin_behind(self, position))
            return error_set(ret_error, ERROR_CONFIGURATION,
                             "after must be positions of lines joined by commas, not \"%.64s\"", position);
    return 0;
}

/* Where each log stands before its first line is told: a client that has to come again knows it of all. */
static char *write_position(const struct log_follow *self) {
    struct buffer text = {.maximum = POSITION_BYTES};
    for (size_t i = 0; i < self->count; i++) {
        if (self->logs[i].file < 0) continue;
        _cleanup_free_ char *one = position_of(&self->logs[i]);
        buffer_append_format(&text, "%s%s", text.size ? "," : "", one);
    }
    return buffer_take(&text, NULL);
}

static int place(struct log_follow *self, struct api_call *call, struct error **ret_error) {
    int64_t limit, offset;
    int result = api_page(call, &limit, &offset, ret_error);
    if (result < 0 || (result = list_logs(self, call, ret_error)) < 0) return result;
    if (call->parameters[API_AFTER])
        result = begin_after(self, call->parameters[API_AFTER], ret_error);
    else
        begin_with_last(self, limit);
    if (result >= 0) self->follow.position = write_position(self);
    return result;
}

int follow_logs(struct api_call *call, const char *deployment_id, struct error **ret_error) {
    if (call->follow) return follow_round(call, ret_error);
    int result = api_check_parameters(call, 1u << API_LIMIT | 1u << API_FOLLOW | 1u << API_AFTER, ret_error);
    if (result < 0) return result;
    struct log_follow *self = mem_new(struct log_follow);
    self->follow.source = &log_source;
    self->deployment_id = text_copy(deployment_id);
    self->folder = text_format("%s/logs", call->controller->settings->state);
    if ((result = place(self, call, ret_error)) < 0) {
        follow_free(&self->follow);
        return result;
    }
    return follow_begin(call, &self->follow, ret_error);
}
