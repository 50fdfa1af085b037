/* What is checked and taken before the first child: each fault has its exit status and one sentence that says what to
 * do. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define PROBE_SIZE 65536
#define DESCRIPTORS_WANTED 65536

/* File systems on which locks, mappings and durability are another machine's promise (statfs(2)). */
static const struct {
    unsigned long magic;
    const char *name;
} network_file_systems[] = {
    {0x6969, "NFS"},        {0xff534d42, "CIFS"}, {0xfe534d42, "SMB"},    {0x517b, "SMB"},       {0x5346414f, "AFS"},
    {0x01021997, "9P"},     {0x00c36400, "Ceph"}, {0x73757245, "Coda"},   {0x7461636f, "OCFS2"}, {0x01161970, "GFS2"},
    {0x0bd00bd0, "Lustre"}, {0x564c, "NCP"},      {0x19830326, "BeeGFS"}, {0x47504653, "GPFS"},
};

static bool is_full(int cause) {
    return cause == ENOSPC || cause == EDQUOT;
}

static int refuse_folder(const char *state, int cause, const char *what, struct error **ret_error) {
    if (is_full(cause)) {
        error_set(ret_error, ERROR_CONFIGURATION, "the disk of the state folder %s is full (%s): free some space there",
                  state, what);
        return SERVE_EXIT_DISK_FULL;
    }
    error_set_errno(ret_error, ERROR_CONFIGURATION, cause,
                    "the state folder %s cannot be used (%s); name a folder that can be written with --state", state,
                    what);
    return SERVE_EXIT_UNWRITABLE;
}

/* A folder and its parents, with the errno that fs_make_folders() has only as a sentence. */
static int make_folders(const char *path) {
    _cleanup_free_ char *partial = text_copy(path);
    for (char *at = partial + 1;; at++) {
        if (*at && *at != '/') continue;
        char saved = *at;
        *at = 0;
        if (mkdir(partial, 0700) < 0 && errno != EEXIST) return errno;
        *at = saved;
        if (!saved) break;
    }
    struct stat status;
    if (stat(path, &status) < 0) return errno;
    return S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
}

static int find_state_folder(struct supervisor *supervisor, struct error **ret_error) {
    struct settings *settings = supervisor->settings;
    int cause = make_folders(settings->state);
    if (cause) return refuse_folder(settings->state, cause, "making it failed", ret_error);
    supervisor->state = realpath(settings->state, NULL);
    if (!supervisor->state) return refuse_folder(settings->state, errno, "looking at it failed", ret_error);
    free(settings->state);
    settings->state = text_copy(supervisor->state);
    return SERVE_EXIT_OK;
}

/* Runners work in another folder than serve was started in, and a library that is not there is better said now. */
static int find_onnxruntime(struct supervisor *supervisor, struct error **ret_error) {
    struct settings *settings = supervisor->settings;
    if (!*settings->onnxruntime) return SERVE_EXIT_OK;
    char *path = realpath(settings->onnxruntime, NULL);
    if (!path) {
        error_set_errno(ret_error, ERROR_CONFIGURATION, errno,
                        "the setting onnxruntime names %s, which cannot be opened", settings->onnxruntime);
        return SERVE_EXIT_SETTINGS;
    }
    free(settings->onnxruntime);
    settings->onnxruntime = path;
    return SERVE_EXIT_OK;
}

static int check_file_system(struct supervisor *supervisor, struct error **ret_error) {
    struct statfs status;
    if (statfs(supervisor->state, &status) < 0)
        return refuse_folder(supervisor->state, errno, "looking at its disk failed", ret_error);
    for (size_t i = 0; i < ARRAY_SIZE(network_file_systems); i++) {
        if ((unsigned long)(uint32_t)status.f_type != network_file_systems[i].magic) continue;
        error_set(
            ret_error, ERROR_CONFIGURATION,
            "the state folder %s lies on %s, a network file system, which keeps neither our locks nor our syncs; name "
            "a folder on a local disk with --state",
            supervisor->state, network_file_systems[i].name);
        return SERVE_EXIT_FILE_SYSTEM;
    }
    return SERVE_EXIT_OK;
}

/* A small durable write finds a full or read-only disk before anything depends on it. */
static int check_disk(struct supervisor *supervisor, struct error **ret_error) {
    static const char zeros[PROBE_SIZE];
    _cleanup_free_ char *path = fs_join(supervisor->state, "probe");
    _cleanup_close_ int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0) return refuse_folder(supervisor->state, errno, "making a file in it failed", ret_error);
    errno = ENOSPC; /* for a write that falls short */
    bool good = write(file, zeros, sizeof zeros) == (ssize_t)sizeof zeros && fdatasync(file) == 0;
    int cause = errno;
    unlink(path);
    return good ? SERVE_EXIT_OK : refuse_folder(supervisor->state, cause, "writing a file in it failed", ret_error);
}

/* run/ is emptied: its sockets are those of processes that have gone. */
static int make_inner_folders(struct supervisor *supervisor, struct error **ret_error) {
    static const char *const names[] = {"run", "logs", "models", "batch"};
    _cleanup_free_ char *run = fs_join(supervisor->state, names[0]);
    if (fs_remove_tree(run, ret_error)) return SERVE_EXIT_UNWRITABLE;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        _cleanup_free_ char *path = fs_join(supervisor->state, names[i]);
        int cause = make_folders(path);
        if (cause) return refuse_folder(supervisor->state, cause, "making a folder in it failed", ret_error);
    }
    return SERVE_EXIT_OK;
}

/* The default, from where we are: children need not know where that was. A service manager starts its
 * services in "/", which nobody means to open as a whole. */
static void complete_roots(char **roots, const char *state, const char *folder) {
    if (**roots) return;
    char here[PATH_MAX];
    bool use_here = getcwd(here, sizeof here) && strcmp(here, "/") && !strchr(here, ':');
    free(*roots);
    *roots = text_format("%s%s%s/%s", use_here ? here : "", use_here ? ":" : "", state, folder);
}

void start_complete_roots(struct settings *settings, const char *state) {
    complete_roots(&settings->model_roots, state, "models");
    complete_roots(&settings->batch_roots, state, "batch");
}

/* The file, as it is called now: an upgrade without a name looks there again. */
static char *find_program(void) {
    char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size < 0) return text_copy("");
    path[size] = 0;
    return text_copy(path);
}

/* Each client connection is a descriptor in the gateway, and the usual soft limit is 1024. */
static void raise_descriptor_limit(const struct settings *settings) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
    rlim_t wanted = limit.rlim_max < DESCRIPTORS_WANTED ? limit.rlim_max : DESCRIPTORS_WANTED;
    if (limit.rlim_cur < wanted) limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= settings->connections_maximum + 256) return;
    _cleanup_free_ char *text = text_format("%llu", (unsigned long long)limit.rlim_cur);
    log_write(LOG_WARNING,
              "the limit on open files is below connections_maximum: the gateway may have to refuse clients", "limit",
              text, NULL);
}

static int check_confinement(struct supervisor *supervisor, struct error **ret_error) {
    return confinement_check(supervisor->settings, ret_error);
}

int start_prepare(struct supervisor *supervisor, struct error **ret_error) {
    int (*const steps[])(struct supervisor *, struct error **) = {
        check_confinement,     find_onnxruntime,   find_state_folder, check_file_system, lock_state_folder, check_disk,
        lock_wait_for_members, make_inner_folders, alias_make,        listen_open,       control_open,
    };
    for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
        int result = steps[i](supervisor, ret_error);
        if (result) return result;
    }
    start_complete_roots(supervisor->settings, supervisor->state);
    supervisor->program = find_program();
    raise_descriptor_limit(supervisor->settings);
    supervisor->role_environment = environment_for_roles(supervisor->settings);
    supervisor->runner_environment = environment_for_runners();
    return SERVE_EXIT_OK;
}

void start_release(struct supervisor *supervisor) {
    control_close(supervisor);
    alias_remove(supervisor);
    if (supervisor->listener >= 0) close(supervisor->listener);
    if (supervisor->lock >= 0) close(supervisor->lock);
    environment_free(supervisor->role_environment);
    environment_free(supervisor->runner_environment);
    free(supervisor->members);
    free(supervisor->state);
}
