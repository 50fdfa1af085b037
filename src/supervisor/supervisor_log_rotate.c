/* A log that has become large is set aside while its runner lives.
 *
 * The supervisor makes <log>.new and sends it to the runner, which takes it for its stdout and stderr between two lines
 * and says so; only then do the names change: <log> becomes <log>.1, <log>.new becomes <log>. So every line is whole
 * and in one of the files, in the order of writing, and whoever reads a file that has lost its name knows that it is
 * complete. A runner that ends in between leaves either an empty <log>.new, which goes, or one with its last lines,
 * which takes its place. What is under way is told by the files alone: it survives an upgrade of the supervisor. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define LOOK_MS 2000 /* at most so often; the pings' turns of the loop bring us here */

static char *new_path(const struct replica *replica) {
    return text_format("%s.new", replica->log_path);
}

static void say_failed(const struct replica *replica, const char *what) {
    log_write(LOG_WARNING, what, "path", replica->log_path, "error", strerror(errno), NULL);
}

static void close_watched(struct replica *replica) {
    if (replica->log_is_watched) close(replica->log_watched);
    replica->log_is_watched = false;
}

/* The size of its log, by a descriptor that is kept: looking touches no disk. -1: it has none. */
static off_t size_of(struct replica *replica) {
    struct stat status;
    if (!replica->log_is_watched) {
        replica->log_watched = open(replica->log_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        replica->log_is_watched = replica->log_watched >= 0;
    }
    return replica->log_is_watched && fstat(replica->log_watched, &status) == 0 ? status.st_size : -1;
}

static void begin_rotation(struct replica *replica) {
    _cleanup_free_ char *path = new_path(replica);
    _cleanup_close_ int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0 && errno == EEXIST) return; /* it has been sent */
    if (file < 0) {
        say_failed(replica, "a log that is full cannot be set aside");
        return;
    }
    const struct wire_message message = {.type = WIRE_log_file};
    if (wire_send_with(replica->process.child.channel, &message, file, NULL) < 0) unlink(path);
}

void log_rotate_look(struct supervisor *supervisor, uint64_t now_ms) {
    if (now_ms < supervisor->look_at_logs_ms) return;
    supervisor->look_at_logs_ms = now_ms + LOOK_MS;
    for (struct process *process = supervisor->processes; process; process = process->next) {
        if (process->kind != &runner_kind || process->forgotten || !process->child.pid || !process->child.channel)
            continue;
        struct replica *replica = CONTAINER_OF(process, struct replica, process);
        if (size_of(replica) > (off_t)supervisor->settings->log_maximum) begin_rotation(replica);
    }
}

/* The runner writes into the new one. */
static void change_names(struct replica *replica, const char *path) {
    _cleanup_free_ char *older = text_format("%s.1", replica->log_path);
    if (rename(replica->log_path, older) < 0 && errno != ENOENT) say_failed(replica, "a log could not be set aside");
    if (rename(path, replica->log_path) < 0) say_failed(replica, "a new log could not be named");
    close_watched(replica);
    replica->log_start = 0;
}

void log_rotate_take(struct replica *replica) {
    _cleanup_free_ char *path = new_path(replica);
    struct stat status;
    if (lstat(path, &status) == 0) change_names(replica, path);
}

void log_rotate_end(struct replica *replica) {
    _cleanup_free_ char *path = new_path(replica);
    struct stat status;
    close_watched(replica);
    if (lstat(path, &status) < 0) return;
    if (status.st_size > 0)
        change_names(replica, path);
    else
        unlink(path);
}
