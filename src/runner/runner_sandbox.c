#include "runner/runner_sandbox-internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "runner/runner_syscalls-internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0 /* its shadow memory does not fit under a limit, its leak check traces itself */
#endif

/* ---- Landlock ------------------------------------------------------------ */

/* Debian 12's header ends at ABI 2, so the kernel's interface stands here. */
struct landlock_rules {
    uint64_t handled_fs, handled_net, scoped;
};
struct __attribute__((packed)) landlock_path {
    uint64_t allowed;
    int32_t descriptor;
};
#define LANDLOCK_VERSION_FLAG 1u
#define LANDLOCK_PATH_RULE 1
#define CALL_CREATE_RULESET 444
#define CALL_ADD_RULE 445
#define CALL_RESTRICT_SELF 446
#define RIGHT_READ_FILE (1ull << 2)
#define RIGHT_READ_FOLDER (1ull << 3)

/* Which rights each ABI brought: all of them are taken away, but for reading where read_paths allow it. */
static const struct {
    int abi;
    struct landlock_rules rights;
} abis[] = {
    {1, {.handled_fs = (1ull << 13) - 1}}, /* execute, write, read, list, remove, make… */
    {2, {.handled_fs = 1ull << 13}}, /* move between folders */
    {3, {.handled_fs = 1ull << 14}}, /* truncate */
    {4, {.handled_net = (1ull << 0) | (1ull << 1)}}, /* bind, connect TCP */
    {5, {.handled_fs = 1ull << 15}}, /* ioctl on devices */
    {6, {.scoped = (1ull << 0) | (1ull << 1)}}, /* abstract unix sockets, signals outside */
};

int runner_sandbox_landlock_abi(void) {
    long abi = syscall(CALL_CREATE_RULESET, NULL, 0, LANDLOCK_VERSION_FLAG);
    return abi > 0 ? (int)abi : 0;
}

static int allow_reading(int rules, const char *path, struct error **ret_error) {
    _cleanup_close_ int descriptor = open(path, O_PATH | O_CLOEXEC);
    if (descriptor < 0 && errno == ENOENT) return 0; /* for example /sys in a bare container */
    struct stat state;
    if (descriptor < 0 || fstat(descriptor, &state) < 0)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "open %s for the sandbox", path);
    struct landlock_path rule = {.allowed = RIGHT_READ_FILE, .descriptor = descriptor};
    if (S_ISDIR(state.st_mode)) rule.allowed |= RIGHT_READ_FOLDER;
    if (syscall(CALL_ADD_RULE, rules, LANDLOCK_PATH_RULE, &rule, 0) < 0)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "let the sandbox read %s", path);
    return 0;
}

static int enter_landlock(const struct sandbox_config *config, int abi, struct error **ret_error) {
    static const char *const facts[] = {"/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/sys/vm",
                                        "/sys/devices/system"};
    struct landlock_rules rights = {0};
    for (size_t i = 0; i < ARRAY_SIZE(abis) && abis[i].abi <= abi; i++) {
        rights.handled_fs |= abis[i].rights.handled_fs;
        rights.handled_net |= abis[i].rights.handled_net;
        rights.scoped |= abis[i].rights.scoped;
    }
    _cleanup_close_ int rules = (int)syscall(CALL_CREATE_RULESET, &rights, sizeof rights, 0);
    if (rules < 0) return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "make the Landlock rules (ABI %d)", abi);
    int result = 0;
    for (size_t i = 0; result == 0 && i < ARRAY_SIZE(facts); i++) result = allow_reading(rules, facts[i], ret_error);
    for (size_t i = 0; result == 0 && i < config->read_path_count; i++)
        result = allow_reading(rules, config->read_paths[i], ret_error);
    if (result == 0 && syscall(CALL_RESTRICT_SELF, rules, 0) < 0)
        result = error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "enter Landlock (ABI %d)", abi);
    return result;
}

/* ---- seccomp ------------------------------------------------------------- */

/* A call that the library does not know on this machine is none that it makes. */
static int allow_call(scmp_filter_ctx filter, const char *name) {
    int number = seccomp_syscall_resolve_name(name);
    return number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
}

/* A test of the low 32 bits of a call's argument. (The library's own macros leave a field out, which clang minds.) */
static struct scmp_arg_cmp masked(unsigned argument, uint32_t mask, uint32_t value) {
    return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

static struct scmp_arg_cmp equal(unsigned argument, uint32_t value) {
    return masked(argument, UINT32_MAX, value);
}

/* Calls of which only some uses are let through. */
static int allow_some(scmp_filter_ctx filter) {
    static const uint32_t ioctls[] = {FIONBIO, FIOCLEX, FIONREAD, TCGETS};
    static const int options[] = {PR_SET_NAME, PR_GET_NAME, 0x53564d41 /* PR_SET_VMA, from the allocator */};
    int result = 0;
    for (size_t i = 0; result == 0 && i < ARRAY_SIZE(ioctls); i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, equal(1, ioctls[i]));
    for (size_t i = 0; result == 0 && i < ARRAY_SIZE(options); i++)
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, equal(0, (uint32_t)options[i]));
    if (result == 0) /* threads, but no processes */
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, masked(0, CLONE_THREAD, CLONE_THREAD));
    if (result == 0) /* its flags cannot be seen: the C library then takes clone */
        result = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (result == 0) /* its own limits only */
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, equal(0, 0));
    if (result == 0) /* no memory that can be executed */
        result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, masked(2, PROT_EXEC, 0));
    if (result == 0) result = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, masked(2, PROT_EXEC, 0));
    return result;
}

static int fill_filter(scmp_filter_ctx filter) {
    int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; result == 0 && sandbox_calls[i]; i++) result = allow_call(filter, sandbox_calls[i]);
    for (size_t i = 0; SANITIZED && result == 0 && sandbox_calls_sanitized[i]; i++)
        result = allow_call(filter, sandbox_calls_sanitized[i]);
    return result == 0 ? allow_some(filter) : result;
}

/* 0, or a negative errno. */
static int enter_seccomp(void) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!filter) return -ENOMEM;
    int result = fill_filter(filter);
    if (result == 0) result = seccomp_load(filter);
    seccomp_release(filter);
    return result;
}

int runner_sandbox_forbid_io_uring(struct error **ret_error) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "give up gaining privileges");
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter) return 0;
    int number = seccomp_syscall_resolve_name("io_uring_setup");
    int result = number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), number, 0);
    if (result == 0) seccomp_load(filter); /* without seccomp there is nothing to pass by; the report says so */
    seccomp_release(filter);
    return 0;
}

/* ---- limits -------------------------------------------------------------- */

/* Lowers a limit, never raises it (that may need a privilege that is not there). */
static bool lower_limit(int resource, rlim_t value) {
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) < 0) return false;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < value) value = limit.rlim_max;
    limit.rlim_cur = limit.rlim_max = value;
    return setrlimit((__rlimit_resource_t)resource, &limit) == 0;
}

static bool is_regular(int descriptor) {
    struct stat state;
    return fstat(descriptor, &state) == 0 && S_ISREG(state.st_mode);
}

static void enter_limits(const struct sandbox_config *config, struct sandbox_report *report) {
    lower_limit(RLIMIT_CORE, 0);
    if (config->descriptors) lower_limit(RLIMIT_NOFILE, config->descriptors);
    if (!is_regular(STDOUT_FILENO) && !is_regular(STDERR_FILENO)) { /* else it could not write its log */
        signal(SIGXFSZ, SIG_IGN);
        lower_limit(RLIMIT_FSIZE, 0);
    }
    report->memory_limit = "none";
    if (config->memory_limit && !SANITIZED && lower_limit(RLIMIT_DATA, config->memory_limit))
        report->memory_limit = "rlimit_data";
}

/* ---- all ----------------------------------------------------------------- */

static size_t count_threads(void) {
    DIR *folder = opendir("/proc/self/task");
    size_t count = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder));) count += entry->d_name[0] != '.';
    if (folder) closedir(folder);
    return count;
}

static void note_missing(struct sandbox_report *report, const char *what) {
    char *before = report->missing;
    report->missing = before ? text_format("%s; %s", before, what) : text_copy(what);
    free(before);
}

int runner_sandbox_enter(const struct sandbox_config *config, struct sandbox_report *ret_report,
                         struct error **ret_error) {
    struct sandbox_report report = {.asked = true};
    if (!SANITIZED && count_threads() > 1)
        return error_set(ret_error, ERROR_DEPLOYMENT, "the sandbox must be entered before there are threads");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_set_errno(ret_error, ERROR_DEPLOYMENT, errno, "give up gaining privileges");
    int abi = runner_sandbox_landlock_abi();
    if (config->highest_abi && abi > config->highest_abi) abi = config->highest_abi;
    int result = abi ? enter_landlock(config, abi, ret_error) : 0;
    if (result < 0) return result;
    report.landlock_abi = abi;
    if (!abi) note_missing(&report, "the kernel has no Landlock: files and the network are confined by seccomp alone");
    enter_limits(config, &report);
    if (config->memory_limit && !strcmp(report.memory_limit, "none"))
        note_missing(&report, "the memory limit could not be put in force");
    int failed = enter_seccomp();
    report.seccomp = failed == 0;
    if (failed) {
        _cleanup_free_ char *why = text_format("no seccomp filter: %s", strerror(-failed));
        note_missing(&report, why);
    }
    if (config->complete && report.missing) {
        error_set(ret_error, ERROR_DEPLOYMENT,
                  "the sandbox is not complete (%s), and the setting sandbox_required asks for all of it",
                  report.missing);
        free(report.missing);
        return -ERROR_DEPLOYMENT;
    }
    *ret_report = report;
    return 0;
}
