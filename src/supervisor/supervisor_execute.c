/* The exec into another program, on the main thread: same pid, same descriptors, same children, whose parent-death
 * signal survives it (RULES U1, P2). The state goes along in a memfd; the variable SLIPWAY_TAKE_OVER names its
 * descriptor and that of the program before, to which the new one goes back when it cannot read the state. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define VARIABLE "SLIPWAY_TAKE_OVER"

static int write_all(int descriptor, const char *bytes, size_t size) {
    while (size) {
        ssize_t written = write(descriptor, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return -1;
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

int execute_keep(const char *bytes, size_t size, struct error **ret_error) {
    int descriptor = memfd_create("slipway-state", MFD_CLOEXEC);
    if (descriptor >= 0 && write_all(descriptor, bytes, size) == 0) return descriptor;
    int cause = errno;
    if (descriptor >= 0) close(descriptor);
    error_set_errno(ret_error, ERROR_DEPLOYMENT, cause, "keep the state for the program that follows");
    return -1;
}

int execute_read(int descriptor, char **ret_text, size_t *ret_size, struct error **ret_error) {
    struct stat status;
    if (fstat(descriptor, &status) < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "read the state in descriptor %d", descriptor);
    if (status.st_size < 0 || (size_t)status.st_size > STATE_MAXIMUM_SIZE)
        return error_set(ret_error, ERROR_CONFIGURATION, "the state in descriptor %d is too large", descriptor);
    size_t size = (size_t)status.st_size, got = 0;
    _cleanup_free_ char *text = mem_alloc(size + 1);
    while (got < size) {
        ssize_t part = pread(descriptor, text + got, size - got, (off_t)got);
        if (part < 0 && errno == EINTR) continue;
        if (part < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "read the state");
        if (!part) break;
        got += (size_t)part;
    }
    text[got] = 0;
    *ret_text = TAKE(text);
    *ret_size = got;
    return 0;
}

/* Only returns when it fails, with the errno. Both descriptors go along. */
static int become(struct supervisor *supervisor, int program, const char *path, int state, int previous) {
    char **arguments = mem_new_array((size_t)supervisor->argc + 2, char *);
    _cleanup_free_ char *there = text_format("/proc/self/fd/%d", program);
    _cleanup_free_ char *value = text_format("%d:%d", state, previous);
    arguments[0] = (char *)path;
    for (int i = 0; i < supervisor->argc; i++) arguments[i + 1] = supervisor->argv[i];
    setenv(VARIABLE, value, 1);
    fcntl(state, F_SETFD, 0);
    execve(there, arguments, environ);
    int cause = errno;
    unsetenv(VARIABLE);
    free(arguments);
    return cause;
}

int execute_program(struct supervisor *supervisor, int program, const char *path, struct error **ret_error) {
    size_t size;
    _cleanup_free_ char *json = state_write(supervisor, &size);
    _cleanup_close_ int state = execute_keep(json, size, ret_error);
    if (state < 0) return -ERROR_DEPLOYMENT;
    state_set_close_on_exec(supervisor, false);
    int cause = become(supervisor, program, path, state, supervisor->upgrade.previous);
    state_set_close_on_exec(supervisor, true);
    return error_set_errno(ret_error, ERROR_DEPLOYMENT, cause, "execute %s", path);
}

bool execute_came_here(int *ret_state, int *ret_previous) {
    const char *value = getenv(VARIABLE);
    if (!value) return false;
    *ret_state = *ret_previous = -1;
    if (sscanf(value, "%d:%d", ret_state, ret_previous) != 2) *ret_state = -1;
    unsetenv(VARIABLE);
    if (*ret_state >= 0) fcntl(*ret_state, F_SETFD, FD_CLOEXEC);
    return true;
}

static int read_state(struct supervisor *supervisor, int state, struct error **ret_error) {
    _cleanup_free_ char *json = NULL;
    size_t size = 0;
    int result = execute_read(state, &json, &size, ret_error);
    return result < 0 ? result : state_read(supervisor, json, size, true, ret_error);
}

/* It wrote this state itself, and so can read it. */
static void go_back(struct supervisor *supervisor, int state, int previous, const struct error *error) {
    _cleanup_free_ char *text = error_text(error);
    log_open_as("supervisor", "info", "text");
    log_write(LOG_ERROR, "the state that was handed over cannot be taken over", "error", text, NULL);
    if (previous >= 0) become(supervisor, previous, "slipway", state, -1);
}

int execute_take_over(struct supervisor *supervisor, int state, int previous, struct error **ret_error) {
    _cleanup_error_ struct error *error = NULL;
    if (read_state(supervisor, state, &error) < 0) {
        go_back(supervisor, state, previous, error);
        if (ret_error) *ret_error = TAKE(error);
        return -ERROR_CONFIGURATION;
    }
    close(state);
    state_set_close_on_exec(supervisor, true);
    supervisor->role_environment = environment_for_roles(supervisor->settings);
    supervisor->runner_environment = environment_for_runners();
    if (previous < 0 && supervisor->upgrade.state == UPGRADE_RUNNING)
        upgrade_take_back(supervisor, "the new program could not take the state over");
    bool goes_on = supervisor->upgrade.state == UPGRADE_RUNNING;
    for (size_t i = 0; i < ROLE_COUNT; i++) {
        struct role *role = supervisor->roles[i];
        role->outdated = goes_on || role->is_fresh || !role->process.child.pid;
        if (!role->process.child.pid) role->process.start_at_ms = NEVER; /* the replacement starts it */
    }
    return 0;
}
