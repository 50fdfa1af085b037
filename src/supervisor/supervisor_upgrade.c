/* Another program in our place (RULES U1), in steps that each leave the service as it was when they fail:
 *
 *   open       the file is ours or root's, nobody else's to write, and a program; from here on its descriptor counts
 *   check      `NEW serve --check-handover` as a child with our state, which it must be able to read, and the databases
 *   flush      what is queued for children goes out
 *   exec       supervisor_execute.c
 *   roles      in the new program: supervisor_replace.c; when they do not stand, back through the old one's descriptor
 *
 * The controller is answered when the check has gone well, or has not; GET /v1/upgrade tells the rest. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "base/version.h"
#include "supervisor/supervisor-internal.h"

#define CHECK_DEADLINE_MS 10000
#define FLUSH_DEADLINE_MS 5000
#define SAID_MAXIMUM 1024 /* bytes of what a check says, from its end */

static const char *const state_names[] = {
#define STATE(constant, name) [UPGRADE_##constant] = name,
    UPGRADE_STATES
#undef STATE
};

static void replace(char **field, char *value) {
    free(*field);
    *field = value;
}

static void close_descriptor(int *descriptor) {
    mem_close_descriptor(descriptor);
    *descriptor = -1;
}

void upgrade_init(struct upgrade *upgrade) {
    *upgrade = (struct upgrade){.executable = -1, .previous = -1, .output = -1, .execute_by_ms = NEVER};
}

void upgrade_clear(struct upgrade *upgrade) {
    char *const owned[] = {upgrade->from, upgrade->to, upgrade->program, upgrade->reason, upgrade->previous_program};
    for (size_t i = 0; i < ARRAY_SIZE(owned); i++) free(owned[i]);
    close_descriptor(&upgrade->executable);
    close_descriptor(&upgrade->previous);
    close_descriptor(&upgrade->output);
    upgrade_init(upgrade);
}

/* ---- telling ---- */

char *upgrade_write(const struct supervisor *supervisor) {
    const struct upgrade *upgrade = &supervisor->upgrade;
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    bool is_known = (unsigned)upgrade->state < ARRAY_SIZE(state_names);
    json_add_text(document, root, "state", is_known ? state_names[upgrade->state] : "none");
    json_add_text(document, root, "version", build_version());
    json_add_text(document, root, "running", supervisor->program);
    json_add_text(document, root, "program", upgrade->program);
    json_add_text(document, root, "from", upgrade->from);
    json_add_text(document, root, "to", upgrade->to);
    json_add_text(document, root, "reason", upgrade->reason);
    json_add_time(document, root, "began_at", upgrade->began_at);
    json_add_time(document, root, "ended_at", upgrade->ended_at);
    return json_write(document, NULL);
}

static void answer(struct supervisor *supervisor, uint64_t request, const struct error *error) {
    _cleanup_free_ char *error_json = error ? json_from_error(error) : NULL, *body = upgrade_write(supervisor);
    role_say(supervisor, ROLE_CONTROLLER, upgrade_answer, .request = request, .error_json = error_json,
             .body_json = body);
}

/* Once for each request. */
static void answer_asker(struct supervisor *supervisor, const struct error *error) {
    uint64_t request = supervisor->upgrade.request;
    supervisor->upgrade.request = 0;
    if (request) answer(supervisor, request, error);
}

static void end_failed(struct supervisor *supervisor, const char *reason) {
    struct upgrade *upgrade = &supervisor->upgrade;
    upgrade->state = UPGRADE_FAILED;
    upgrade->ended_at = clock_wall_ms();
    upgrade->execute_by_ms = NEVER;
    replace(&upgrade->reason, text_copy(reason));
    close_descriptor(&upgrade->executable);
    close_descriptor(&upgrade->previous);
    log_write(LOG_ERROR, "upgrade failed", "program", upgrade->program, "reason", reason, NULL);
}

/* Before the exec: nothing has changed yet. */
static void fail(struct supervisor *supervisor, struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    end_failed(supervisor, text);
    answer_asker(supervisor, error);
    error_free(error);
}

/* ---- open ---- */

static int refuse_file(struct error **ret_error, const char *path, const char *why) {
    return error_set(ret_error, ERROR_CONFIGURATION, "upgrade to %s: %s", path, why);
}

/* Whoever can write it could become us. */
static int check_file(int file, const char *path, struct error **ret_error) {
    struct stat status;
    char magic[4] = "";
    if (fstat(file, &status) < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "upgrade to %s", path);
    if (!S_ISREG(status.st_mode)) return refuse_file(ret_error, path, "it is not a file");
    if (status.st_uid != 0 && status.st_uid != geteuid())
        return refuse_file(ret_error, path, "it belongs to another user than root and the service's own");
    if (status.st_mode & S_IWOTH) return refuse_file(ret_error, path, "everybody may write it");
    if ((status.st_mode & S_IWGRP) && status.st_gid != getegid() && status.st_gid != 0)
        return refuse_file(ret_error, path, "a group that is not the service's own may write it");
    if (pread(file, magic, sizeof magic, 0) != sizeof magic || memcmp(magic, "\177ELF", sizeof magic))
        return refuse_file(ret_error, path, "it is not a program (no ELF file)");
    return 0;
}

static int open_program(const char *path, struct error **ret_error) {
    if (*path != '/') return refuse_file(ret_error, path, "name it from the root on");
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "upgrade to %s", path);
    int result = check_file(file, path, ret_error);
    if (result < 0) return result;
    int opened = file;
    file = -1;
    return opened;
}

/* ---- check ---- */

static int start_check(struct supervisor *supervisor, struct process *process, struct error **ret_error) {
    struct upgrade *upgrade = &supervisor->upgrade;
    size_t size;
    _cleanup_free_ char *json = state_write(supervisor, &size);
    _cleanup_close_ int state = execute_keep(json, size, ret_error);
    if (state < 0) return -ERROR_DEPLOYMENT;
    char *arguments[] = {upgrade->program, "serve", "--check-handover", NULL};
    struct child_spec spec = {
        .executable = upgrade->executable,
        .arguments = arguments,
        .environment = supervisor->role_environment,
        .members = supervisor->members,
        .listener = state,
        .control = -1,
        .log = upgrade->output,
    };
    int result = child_start(&process->child, &spec, ret_error);
    if (result < 0) return result;
    child_kill_at(&process->child, process->child.started_ms + CHECK_DEADLINE_MS, "it took longer than 10 s");
    return 0;
}

/* What it has said, without blanks at its end; caller frees. */
static char *take_said(struct upgrade *upgrade) {
    char *text = NULL;
    size_t size = 0;
    if (execute_read(upgrade->output, &text, &size, NULL) < 0) return text_copy("");
    while (size && (unsigned char)text[size - 1] <= ' ') text[--size] = 0;
    char *tail = text_copy(size > SAID_MAXIMUM ? text + size - SAID_MAXIMUM : text);
    free(text);
    text_make_utf8(tail);
    return tail;
}

static const char *last_line(const char *text) {
    const char *line = strrchr(text, '\n');
    return line ? line + 1 : text;
}

static void ignore_message(struct supervisor *supervisor, struct process *process, const struct wire_message *message) {
    (void)supervisor, (void)process, (void)message;
}

/* Good: the last line is its version. */
static void end_check(struct supervisor *supervisor, struct process *process, int status, const char *cause) {
    struct upgrade *upgrade = &supervisor->upgrade;
    struct error *error = NULL;
    process->forgotten = true;
    upgrade->check = NULL;
    if (upgrade->state != UPGRADE_CHECKING) return;
    _cleanup_free_ char *said = take_said(upgrade);
    close_descriptor(&upgrade->output);
    if (status < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        error_set(&error, ERROR_CONFLICT, "%s cannot take over: %s", upgrade->program, *said ? last_line(said) : cause);
        fail(supervisor, error);
        return;
    }
    replace(&upgrade->to, text_copy(last_line(said)));
    upgrade->execute_by_ms = clock_monotonic_ms() + FLUSH_DEADLINE_MS;
    log_write(LOG_INFO, "upgrading", "program", upgrade->program, "from", upgrade->from, "to", upgrade->to, NULL);
    answer_asker(supervisor, NULL);
}

static const struct process_kind check_kind = {
    .role = "check", .start = start_check, .on_message = ignore_message, .on_end = end_check};

static void begin_check(struct supervisor *supervisor) {
    struct process *process = mem_new(struct process);
    process_init(process, &check_kind);
    supervisor->upgrade.check = process;
    supervisor_add_process(supervisor, process);
    process_start(supervisor, process);
}

/* ---- asked ---- */

static bool is_under_way(const struct supervisor *supervisor) {
    return supervisor->upgrade.state == UPGRADE_CHECKING || supervisor->upgrade.state == UPGRADE_RUNNING ||
           supervisor->replace.phase;
}

static void begin(struct supervisor *supervisor, uint64_t request, const char *program) {
    struct upgrade *upgrade = &supervisor->upgrade;
    struct error *error = NULL;
    const char *path = *program ? program : supervisor->program;
    if (is_under_way(supervisor) || !supervisor->said_ready) {
        error_set(&error, ERROR_CONFLICT,
                  supervisor->said_ready ? "an upgrade or a reload is under way; wait until it has ended"
                                         : "the service is still starting");
        answer(supervisor, request, error);
        error_free(error);
        return;
    }
    upgrade_clear(upgrade);
    *upgrade = (struct upgrade){.state = UPGRADE_CHECKING,
                                .from = text_copy(build_version()),
                                .program = text_copy(path),
                                .began_at = clock_wall_ms(),
                                .executable = -1,
                                .previous = -1,
                                .output = -1,
                                .request = request,
                                .execute_by_ms = NEVER};
    upgrade->executable = open_program(path, &error);
    if (upgrade->executable >= 0) {
        upgrade->output = execute_keep("", 0, &error);
        if (upgrade->output >= 0) {
            begin_check(supervisor);
            return;
        }
    }
    if (upgrade->executable < 0) upgrade->executable = -1;
    fail(supervisor, error);
}

void upgrade_take_ask(struct supervisor *supervisor, const struct wire_upgrade_ask *ask) {
    if (text_equal(ask->verb, "begin"))
        begin(supervisor, ask->request, ask->program);
    else
        answer(supervisor, ask->request, NULL);
}

/* ---- flush and exec ---- */

static bool is_flushed(struct supervisor *supervisor) {
    for (struct process *process = supervisor->processes; process; process = process->next)
        if (process->child.channel && wire_channel_wants_write(process->child.channel)) return false;
    return true;
}

/* The record as the next program is to find it. Returns when it is not executed. */
static void execute(struct supervisor *supervisor) {
    struct upgrade *upgrade = &supervisor->upgrade;
    struct error *error = NULL;
    int program = upgrade->executable;
    upgrade->previous = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    upgrade->state = UPGRADE_RUNNING;
    upgrade->execute_by_ms = NEVER;
    upgrade->executable = -1; /* closed by the exec */
    upgrade->previous_program = supervisor->program;
    supervisor->program = text_copy(upgrade->program);
    execute_program(supervisor, program, supervisor->program, &error);
    upgrade->executable = program;
    replace(&supervisor->program, TAKE(upgrade->previous_program));
    fail(supervisor, error);
}

uint64_t upgrade_next_time(const struct supervisor *supervisor) {
    return supervisor->upgrade.execute_by_ms;
}

void upgrade_advance(struct supervisor *supervisor, uint64_t now_ms) {
    struct upgrade *upgrade = &supervisor->upgrade;
    if (upgrade->execute_by_ms == NEVER || supervisor->stop.phase) return;
    if (is_flushed(supervisor)) {
        execute(supervisor);
    } else if (now_ms >= upgrade->execute_by_ms) {
        struct error *error = NULL;
        error_set(&error, ERROR_UNAVAILABLE, "a process has not read what it was sent for 5 s");
        fail(supervisor, error);
    }
}

/* ---- afterwards ---- */

void upgrade_finish(struct supervisor *supervisor) {
    struct upgrade *upgrade = &supervisor->upgrade;
    upgrade->state = UPGRADE_DONE;
    upgrade->ended_at = clock_wall_ms();
    replace(&upgrade->to, text_copy(build_version()));
    close_descriptor(&upgrade->previous);
}

void upgrade_take_back(struct supervisor *supervisor, const char *reason) {
    struct upgrade *upgrade = &supervisor->upgrade;
    if (upgrade->previous_program) replace(&supervisor->program, TAKE(upgrade->previous_program));
    end_failed(supervisor, reason);
}

void upgrade_go_back(struct supervisor *supervisor, const char *reason) {
    struct upgrade *upgrade = &supervisor->upgrade;
    _cleanup_error_ struct error *error = NULL;
    int program = upgrade->previous;
    upgrade->previous = -1;
    upgrade_take_back(supervisor, reason);
    if (program < 0) return;
    execute_program(supervisor, program, supervisor->program, &error);
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_ERROR, "there is no way back to the program before", "error", text, NULL);
    close(program);
}

void upgrade_cancel(struct supervisor *supervisor) {
    struct upgrade *upgrade = &supervisor->upgrade;
    upgrade->execute_by_ms = NEVER;
    if (upgrade->check) child_kill(&upgrade->check->child, "the service ends");
}
