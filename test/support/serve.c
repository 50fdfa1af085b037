#include "support/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"

/* Looks again until it holds or the deadline is over. */
#define wait_until(condition)                                                                                          \
    ({                                                                                                                 \
        uint64_t until_ = clock_monotonic_ms() + SERVE_DEADLINE_MS;                                                    \
        bool holds_;                                                                                                   \
        while (!(holds_ = (condition)) && clock_monotonic_ms() < until_) usleep(2000);                                 \
        holds_;                                                                                                        \
    })

void serve_prepare(struct serve *serve) {
    *serve = (struct serve){.listener = -1};
    strcpy(serve->folder, "/tmp/slipway-test-XXXXXX");
    assert_non_null(mkdtemp(serve->folder));
    serve->state = fs_join(serve->folder, "state");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/roles", serve->folder);
    serve->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(serve->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(serve->listener, 64), 0);
}

/* The port that the log line "listening" names, once it is there. */
static int find_port(const struct serve *serve) {
    _cleanup_free_ char *log = serve_stderr(serve);
    const char *at = strstr(log, "listening url=http://127.0.0.1:");
    return at && strchr(at, '\n') ? atoi(at + strlen("listening url=http://127.0.0.1:")) : 0;
}

static void become_serve(const struct serve *serve, const char *const *flags) {
    _cleanup_free_ char *log = fs_join(serve->folder, "stderr");
    int file = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(file, STDERR_FILENO);
    char *socket = text_format("%s/roles", serve->folder);
    setenv("FAKE_ROLES_SOCKET", socket, 1);
    char *arguments[32] = {"slipway", "serve", "--state", serve->state};
    size_t count = 4;
    bool has_listen = false;
    for (; flags && *flags; flags++) {
        has_listen = has_listen || !strcmp(*flags, "--listen");
        arguments[count++] = (char *)*flags;
    }
    if (!has_listen) {
        arguments[count++] = "--listen";
        arguments[count++] = "127.0.0.1:0";
    }
    execv("/proc/self/exe", arguments);
    _exit(127);
}

void serve_launch(struct serve *serve, const char *const *flags) {
    _cleanup_free_ char *log = fs_join(serve->folder, "stderr");
    unlink(log);
    serve->pid = fork();
    if (!serve->pid) become_serve(serve, flags);
    assert_true(serve->pid > 0);
}

static struct wire_channel *accept_channel(const struct serve *serve) {
    struct pollfd watched = {.fd = serve->listener, .events = POLLIN};
    if (poll(&watched, 1, SERVE_DEADLINE_MS) != 1) fail_msg("no role connected in time");
    return wire_channel_new(accept4(serve->listener, NULL, NULL, SOCK_CLOEXEC));
}

static void drop(struct fake *fake) {
    wire_channel_free(fake->channel);
    *fake = (struct fake){0};
}

static struct fake *place_of(struct serve *serve, const char *role) {
    return !strcmp(role, "gateway") ? &serve->gateway : !strcmp(role, "indexer") ? &serve->indexer : &serve->controller;
}

struct fake *serve_accept(struct serve *serve, const char *role) {
    struct fake *wanted = place_of(serve, role);
    drop(wanted);
    while (!wanted->channel) {
        struct fake fake = {.channel = accept_channel(serve)};
        struct wire_message hello = fake_expect(&fake, WIRE_hello);
        snprintf(fake.role, sizeof fake.role, "%s", hello.hello.role);
        fake.pid = (pid_t)hello.hello.pid;
        wire_message_clear(&hello);
        struct fake *place = place_of(serve, fake.role);
        drop(place);
        *place = fake;
    }
    return wanted;
}

void serve_begin_with(struct serve *serve, const char *const *flags) {
    serve_prepare(serve);
    serve_launch(serve, flags);
    /* in this order, so that the controller's snapshot tells of the others */
    struct fake *fakes[] = {&serve->gateway, &serve->indexer, &serve->controller};
    static const char *const roles[] = {"gateway", "indexer", "controller"};
    for (size_t i = 0; i < ARRAY_SIZE(fakes); i++)
        if (!fakes[i]->channel) serve_accept(serve, roles[i]);
    for (size_t i = 0; i < ARRAY_SIZE(fakes); i++) {
        wire_say(fakes[i]->channel, hello, .role = fakes[i]->role, .version = "test", .pid = (uint64_t)fakes[i]->pid);
        fake_skip(fakes[i], WIRE_snapshot_end);
    }
    assert_true(wait_until((serve->port = find_port(serve))));
}

void serve_begin(struct serve *serve) {
    serve_begin_with(serve, NULL);
}

int serve_wait(struct serve *serve) {
    int status = 0;
    if (!wait_until(waitpid(serve->pid, &status, WNOHANG) == serve->pid)) fail_msg("serve did not end in time");
    serve->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void serve_end(struct serve *serve) {
    if (serve->pid) {
        kill(serve->pid, SIGKILL);
        waitpid(serve->pid, NULL, 0);
    }
    drop(&serve->controller);
    drop(&serve->indexer);
    drop(&serve->gateway);
    if (serve->listener >= 0) close(serve->listener);
    fs_remove_tree(serve->folder, NULL);
    free(serve->state);
}

char *serve_stderr(const struct serve *serve) {
    _cleanup_free_ char *path = fs_join(serve->folder, "stderr");
    char *text = NULL;
    return fs_read_file(path, 1 << 20, &text, NULL, NULL) ? text_copy("") : text;
}

char *serve_model(const struct serve *serve, const char *script) {
    char *folder = text_format("%s/model-%s", serve->folder, script);
    _cleanup_free_ char *path = fs_join(folder, "script");
    assert_int_equal(fs_make_folders(folder, NULL), 0);
    assert_int_equal(fs_write_file(path, script, strlen(script), NULL), 0);
    return folder;
}

void serve_start_replica(struct serve *serve, const char *id, const char *script, uint64_t restarts,
                         uint64_t ready_deadline_ms) {
    _cleanup_free_ char *model = serve_model(serve, script);
    assert_int_equal(wire_say(serve->controller.channel, start_replica, .replica_id = id,
                              .deployment_id = "deployment-1", .deployment_name = "minilm", .revision = 3,
                              .package_path = model, .package_digest = "abc", .threads = 2,
                              .restarts_maximum = restarts, .ready_deadline_ms = ready_deadline_ms),
                     0);
}

struct wire_message fake_next(struct fake *fake) {
    uint64_t until = clock_monotonic_ms() + SERVE_DEADLINE_MS;
    for (;;) {
        struct wire_message message;
        int result = wire_receive(fake->channel, &message, NULL);
        if (result == 1) return message;
        if (result < 0) fail_msg("the %s is gone", fake->role);
        uint64_t now = clock_monotonic_ms();
        struct pollfd watched = {.fd = wire_channel_descriptor(fake->channel), .events = POLLIN};
        if (now >= until || poll(&watched, 1, (int)(until - now)) < 0)
            fail_msg("the %s heard nothing in time", fake->role);
    }
}

struct wire_message fake_expect(struct fake *fake, enum wire_type type) {
    for (;;) {
        struct wire_message message = fake_next(fake);
        if (message.type == type) return message;
        wire_message_clear(&message);
    }
}

void fake_skip(struct fake *fake, enum wire_type type) {
    struct wire_message message = fake_expect(fake, type);
    wire_message_clear(&message);
}

/* One that waits for a parent to collect it has ended, too. */
static bool has_ended(pid_t pid) {
    _cleanup_free_ char *path = text_format("/proc/%d/stat", (int)pid);
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
    char text[256] = "";
    if (file < 0 || read(file, text, sizeof text - 1) <= 0) return true;
    const char *state = strrchr(text, ')');
    return state && (state[2] == 'Z' || state[2] == 'X');
}

bool process_is_gone(pid_t pid) {
    return wait_until(has_ended(pid));
}
