/* The sandbox, entered in a child with every Landlock ABI up to the kernel's: what still works, and what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/memory.h"
#include "runner/runner_bind-internal.h"
#include "runner/runner_sandbox-internal.h"
#include "support/scratch.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct setting {
    char *folder, *readable, *beside; /* the scratch folder, model/ in it, secret in it */
    int highest_abi;
    uint64_t memory_limit;
};

/* The exit status of `body` in a child. */
static int in_child(void (*body)(const struct setting *), const struct setting *setting) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body(setting);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void with_setting(int highest_abi, uint64_t memory_limit, void (*body)(const struct setting *)) {
    struct setting setting = {.folder = scratch_new(), .highest_abi = highest_abi, .memory_limit = memory_limit};
    scratch_write_text(setting.folder, "model/weights", "weights");
    scratch_write_text(setting.folder, "secret", "secret");
    setting.readable = scratch_path(setting.folder, "model");
    setting.beside = scratch_path(setting.folder, "secret");
    assert_int_equal(in_child(body, &setting), 0);
    free(setting.readable);
    free(setting.beside);
    scratch_free(setting.folder);
}

static struct sandbox_report enter(const struct setting *setting) {
    const char *paths[] = {setting->readable};
    const struct sandbox_config config = {.read_paths = paths,
                                          .read_path_count = 1,
                                          .memory_limit = setting->memory_limit,
                                          .descriptors = 256,
                                          .highest_abi = setting->highest_abi};
    struct sandbox_report report = {0};
    CHILD_CHECK(runner_sandbox_enter(&config, &report, NULL) == 0);
    return report;
}

static bool fails_with(int result, int expected) {
    return result < 0 && errno == expected;
}

/* ---- files ---------------------------------------------------------------------------------------------------------
 */

static void check_files(const struct setting *setting) {
    _cleanup_free_ char *inside = scratch_path(setting->readable, "weights"),
                        *made = scratch_path(setting->readable, "new");
    struct sandbox_report report = enter(setting);
    CHILD_CHECK(report.landlock_abi == setting->highest_abi);
    CHILD_CHECK(report.seccomp);
    CHILD_CHECK(open(inside, O_RDONLY) >= 0);
    CHILD_CHECK(open("/proc/self/statm", O_RDONLY) >= 0);
    CHILD_CHECK(fails_with(open(setting->beside, O_RDONLY), EACCES));
    CHILD_CHECK(fails_with(open("/etc/passwd", O_RDONLY), EACCES));
    CHILD_CHECK(fails_with(open("/proc/1/environ", O_RDONLY), EACCES));
    CHILD_CHECK(fails_with(open(inside, O_WRONLY), EACCES));
    CHILD_CHECK(fails_with(open(made, O_WRONLY | O_CREAT, 0600), EACCES));
    CHILD_CHECK(unlink(inside) < 0);
    CHILD_CHECK(truncate(inside, 0) < 0);
    CHILD_CHECK(rename(inside, made) < 0);
}

static void only_the_model_can_be_read_at_every_abi(void **state) {
    (void)state;
    int highest = runner_sandbox_landlock_abi();
    assert_true(highest > 0); /* the machine that proves this has Landlock */
    for (int abi = 1; abi <= highest; abi++) with_setting(abi, 0, check_files);
}

/* ---- calls ---------------------------------------------------------------------------------------------------------
 */

static void *work(void *context) {
    *(int *)context = 1;
    return NULL;
}

static void check_calls(const struct setting *setting) {
    pid_t parent = getppid();
    enter(setting);
    CHILD_CHECK(fails_with(socket(AF_INET, SOCK_STREAM, 0), EPERM));
    CHILD_CHECK(fails_with(socket(AF_UNIX, SOCK_STREAM, 0), EPERM));
    int pair[2];
    CHILD_CHECK(fails_with(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), EPERM));
    CHILD_CHECK(fails_with(execl("/bin/true", "true", NULL), EPERM));
    CHILD_CHECK(fails_with(setuid(65534), EPERM));
    CHILD_CHECK(fails_with(chdir("/"), EPERM));
    if (!SANITIZED) { /* whose run-time makes these itself */
        CHILD_CHECK(fails_with(fork(), EPERM));
        CHILD_CHECK(ptrace(PTRACE_ATTACH, parent, NULL, NULL) < 0 && errno == EPERM);
        CHILD_CHECK(fails_with(kill(parent, 0), EPERM));
        CHILD_CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                    MAP_FAILED);
        void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHILD_CHECK(page != MAP_FAILED);
        CHILD_CHECK(fails_with(mprotect(page, 4096, PROT_READ | PROT_EXEC), EPERM));
    }
    struct rlimit limit;
    CHILD_CHECK(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
    CHILD_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max <= 256);
    pthread_t thread;
    int worked = 0;
    CHILD_CHECK(pthread_create(&thread, NULL, work, &worked) == 0); /* inference needs threads */
    CHILD_CHECK(pthread_join(thread, NULL) == 0 && worked == 1);
}

static void there_are_threads_but_no_processes_and_no_network(void **state) {
    (void)state;
    with_setting(0, 0, check_calls);
}

/* ---- the socket -----------------------------------------------------------------------------------------------------
 */

static void check_socket(const struct setting *setting) {
    _cleanup_free_ char *path = scratch_path(setting->folder, "socket");
    char address[256] = "unix:";
    strcat(address, path);
    int listener, peer = socket(AF_UNIX, SOCK_STREAM, 0);
    CHILD_CHECK(runner_bind(address, &listener, NULL) == 0);
    struct sockaddr_un target = {.sun_family = AF_UNIX};
    strcpy(target.sun_path, path);
    CHILD_CHECK(fails_with(connect(peer, (struct sockaddr *)&target, sizeof target), ECONNREFUSED)); /* not ready */
    int descriptors[2];
    CHILD_CHECK(pipe(descriptors) == 0);
    pid_t child = fork(); /* the client, outside the sandbox */
    if (child == 0) {
        char go;
        bool served = read(descriptors[0], &go, 1) == 1 &&
                      connect(peer, (struct sockaddr *)&target, sizeof target) == 0 && read(peer, &go, 1) == 1;
        _exit(!served);
    }
    enter(setting);
    CHILD_CHECK(listen(listener, 8) == 0);
    CHILD_CHECK(write(descriptors[1], "g", 1) == 1);
    int connection;
    do connection = accept4(listener, NULL, NULL, 0);
    while (connection < 0 && errno == EAGAIN);
    CHILD_CHECK(connection >= 0);
    CHILD_CHECK(send(connection, "x", 1, 0) == 1);
    close(connection);
}

static void a_socket_bound_before_listens_and_accepts_inside(void **state) {
    (void)state;
    with_setting(0, 0, check_socket);
}

/* ---- memory ---------------------------------------------------------------------------------------------------------
 */

static void check_memory(const struct setting *setting) {
    struct sandbox_report report = enter(setting);
    if (SANITIZED) { /* its shadow memory would not fit: the limit is left out, and said to be */
        CHILD_CHECK(strcmp(report.memory_limit, "none") == 0);
        CHILD_CHECK(report.missing && strstr(report.missing, "memory limit"));
        return;
    }
    CHILD_CHECK(strcmp(report.memory_limit, "rlimit_data") == 0);
    void *volatile small = malloc(16u << 20), *volatile large = malloc(256u << 20);
    CHILD_CHECK(small != NULL);
    CHILD_CHECK(large == NULL);
}

static void memory_beyond_the_limit_is_not_given(void **state) {
    (void)state;
    with_setting(0, 128u << 20, check_memory);
}

static void *wait_for_ever(void *context) {
    pause();
    return context;
}

static void check_threads_before(const struct setting *setting) {
    const struct sandbox_config config = {.read_paths = (const char *[]){setting->readable}, .read_path_count = 1};
    struct sandbox_report report;
    pthread_t thread;
    CHILD_CHECK(pthread_create(&thread, NULL, wait_for_ever, NULL) == 0);
    CHILD_CHECK(runner_sandbox_enter(&config, &report, NULL) < 0 || SANITIZED);
}

static void a_process_with_threads_is_not_confined_in_part(void **state) {
    (void)state;
    with_setting(0, 0, check_threads_before);
}

/* ---- io_uring, and kernels that lack a piece ---------------------------------------------------------------------
 */

static void on_readable(uv_poll_t *poll, int status, int events) {
    CHILD_CHECK(status == 0 && events == UV_READABLE);
    uv_close((uv_handle_t *)poll, NULL);
}

/* libuv would make a ring with the loop, and end the process when the filter keeps it from using it. */
static void check_io_uring(const struct setting *setting) {
    uv_loop_t loop;
    uv_poll_t poll;
    int descriptors[2];
    CHILD_CHECK(runner_sandbox_forbid_io_uring(NULL) == 0);
    CHILD_CHECK(fails_with((int)syscall(SYS_io_uring_setup, 8, NULL), ENOSYS));
    CHILD_CHECK(uv_loop_init(&loop) == 0 && pipe(descriptors) == 0);
    enter(setting);
    CHILD_CHECK(uv_poll_init(&loop, &poll, descriptors[0]) == 0);
    CHILD_CHECK(uv_poll_start(&poll, UV_READABLE, on_readable) == 0);
    CHILD_CHECK(write(descriptors[1], "x", 1) == 1);
    CHILD_CHECK(uv_run(&loop, UV_RUN_DEFAULT) == 0);
}

static void a_loop_works_inside_without_io_uring(void **state) {
    (void)state;
    with_setting(0, 0, check_io_uring);
}

/* As a kernel without Landlock answers. */
static void take_landlock_away(void) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    CHILD_CHECK(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), 444, 0) == 0 && seccomp_load(filter) == 0);
    seccomp_release(filter);
}

static void check_without_landlock(const struct setting *setting) {
    take_landlock_away();
    struct sandbox_report report = enter(setting);
    CHILD_CHECK(report.landlock_abi == 0 && report.seccomp && strstr(report.missing, "no Landlock"));
    CHILD_CHECK(fails_with(socket(AF_INET, SOCK_STREAM, 0), EPERM));
}

static void what_the_kernel_lacks_is_named_and_the_rest_is_done(void **state) {
    (void)state;
    with_setting(0, 0, check_without_landlock);
}

static void check_required(const struct setting *setting) {
    const struct sandbox_config config = {
        .read_paths = (const char *[]){setting->readable}, .read_path_count = 1, .complete = true};
    struct sandbox_report report;
    struct error *error = NULL;
    take_landlock_away();
    CHILD_CHECK(runner_sandbox_enter(&config, &report, &error) < 0);
    CHILD_CHECK(strstr(error->message, "no Landlock") && strstr(error->message, "sandbox_required"));
}

static void a_sandbox_that_must_be_complete_is_or_the_runner_ends(void **state) {
    (void)state;
    with_setting(0, 0, check_required);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_model_can_be_read_at_every_abi),
        cmocka_unit_test(there_are_threads_but_no_processes_and_no_network),
        cmocka_unit_test(a_socket_bound_before_listens_and_accepts_inside),
        cmocka_unit_test(memory_beyond_the_limit_is_not_given),
        cmocka_unit_test(a_process_with_threads_is_not_confined_in_part),
        cmocka_unit_test(a_loop_works_inside_without_io_uring),
        cmocka_unit_test(what_the_kernel_lacks_is_named_and_the_rest_is_done),
        cmocka_unit_test(a_sandbox_that_must_be_complete_is_or_the_runner_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
