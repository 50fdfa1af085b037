#include "fakes/fake_roles.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor.h"
#include "wire/role.h"
#include "wire/wire.h"

#define ORDER 0xff /* no message begins with this byte */

void fake_order(int socket, enum fake_order order) {
    unsigned char packet[2] = {ORDER, (unsigned char)order};
    if (send(socket, packet, sizeof packet, MSG_NOSIGNAL) < 0) perror("fake_order");
}

static int watch_sigterm(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || strlen(path) >= sizeof address.sun_path) return -1;
    strcpy(address.sun_path, path);
    int descriptor = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    return connect(descriptor, (struct sockaddr *)&address, sizeof address) < 0 ? -1 : descriptor;
}

static void send_message(int descriptor, const struct wire_message *message) {
    _cleanup_free_ char *bytes = NULL;
    size_t size;
    if (wire_encode(message, &bytes, &size, NULL)) abort();
    if (send(descriptor, bytes, size, MSG_NOSIGNAL) < 0) _exit(1);
}

/* True when the packet was a ping, which has been answered. */
static bool answer_ping(int descriptor, const char *packet, size_t size, bool deaf) {
    _cleanup_wire_message_ struct wire_message message = {0};
    if (wire_decode(packet, size, &message, NULL) || message.type != WIRE_ping) return false;
    struct wire_message pong = {.type = WIRE_pong, .pong = {.sequence = message.ping.sequence}};
    if (!deaf) send_message(descriptor, &pong);
    return true;
}

static int run_relay(const char *role) {
    int term = watch_sigterm(), test = connect_to(getenv("FAKE_ROLES_SOCKET"));
    if (test < 0) return 1;
    struct wire_message hello = {.type = WIRE_hello, .hello = {.role = role, .pid = (uint64_t)getpid()}};
    send_message(test, &hello);
    struct pollfd watched[] = {{.fd = ROLE_DESCRIPTOR_SUPERVISOR, .events = POLLIN},
                               {.fd = test, .events = POLLIN},
                               {.fd = term, .events = POLLIN}};
    static char packet[WIRE_MESSAGE_MAXIMUM];
    bool deaf = false;
    for (;;) {
        poll(watched, 3, -1);
        if (watched[0].revents) {
            ssize_t size = recv(ROLE_DESCRIPTOR_SUPERVISOR, packet, sizeof packet, 0);
            if (size <= 0) return 1;
            if (!answer_ping(ROLE_DESCRIPTOR_SUPERVISOR, packet, (size_t)size, deaf))
                send(test, packet, (size_t)size, MSG_NOSIGNAL); /* to one that may be gone, but has more to be read */
        }
        if (watched[1].revents) {
            ssize_t size = recv(test, packet, sizeof packet, 0);
            if (size < 0 && errno == ECONNRESET) continue; /* it left something unread; what it sent comes next */
            if (size <= 0) {
                watched[1].fd = -1; /* the test is done with it */
            } else if ((unsigned char)packet[0] != ORDER) {
                if (send(ROLE_DESCRIPTOR_SUPERVISOR, packet, (size_t)size, MSG_NOSIGNAL) < 0) return 1;
            } else if (packet[1] == FAKE_DEAF) {
                deaf = true;
            } else {
                return packet[1] == FAKE_EXIT ? 0 : ROLE_EXIT_PERMANENT;
            }
        }
        if (watched[2].revents) {
            struct signalfd_siginfo info;
            if (read(term, &info, sizeof info) < 0) return 1;
            struct wire_message told = {.type = WIRE_hello, .hello = {.role = "SIGTERM"}};
            send_message(test, &told);
        }
    }
}

/* ---- the runner ---- */

static const char *flag(int argc, char **argv, const char *name) {
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], name)) return argv[i + 1];
    return "";
}

/* What it finds around itself, as JSON: descriptors, variables' names, folder, process group, flags. */
static char *describe_surroundings(int argc, char **argv) {
    struct buffer text = {0};
    buffer_append_text(&text, "{\"descriptors\":\"");
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(folder))
            buffer_append_format(&text, "%s ", entry->d_name);
    if (folder) closedir(folder);
    buffer_append_text(&text, "\",\"environment\":\"");
    for (char **variable = environ; *variable; variable++)
        buffer_append_format(&text, "%.*s ", (int)strcspn(*variable, "="), *variable);
    _cleanup_free_ char *here = getcwd(NULL, 0);
    buffer_append_format(&text, "\",\"folder\":\"%s\",\"own_group\":%d,\"flags\":\"", here, getpgrp() == getpid());
    for (int i = 1; i < argc; i++)
        if (argv[i][0] == '-') buffer_append_format(&text, "%s ", argv[i]);
    buffer_append_text(&text, "\"}");
    return buffer_take(&text, NULL);
}

static void listen_at(const char *path) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof name.sun_path) _exit(2);
    strcpy(name.sun_path, path);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(descriptor, (struct sockaddr *)&name, sizeof name) < 0 || listen(descriptor, 8) < 0) _exit(2);
}

static int stay_up(bool deaf) {
    int term = watch_sigterm();
    struct pollfd watched[] = {{.fd = ROLE_DESCRIPTOR_SUPERVISOR, .events = POLLIN}, {.fd = term, .events = POLLIN}};
    for (;;) {
        poll(watched, 2, -1);
        if (watched[1].revents) return 0;
        char packet[4096];
        ssize_t size = recv(ROLE_DESCRIPTOR_SUPERVISOR, packet, sizeof packet, 0);
        if (size <= 0) return 1;
        answer_ping(ROLE_DESCRIPTOR_SUPERVISOR, packet, (size_t)size, deaf);
    }
}

static void take_log(struct wire_channel *supervisor, bool dies) {
    _cleanup_close_ int file = wire_take_descriptor(supervisor);
    if (file < 0 || dup2(file, STDOUT_FILENO) < 0 || dup2(file, STDERR_FILENO) < 0) _exit(2);
    if (dies) {
        dprintf(STDERR_FILENO, "last words\n");
        _exit(7);
    }
    wire_say(supervisor, log_file_taken, .unused = 0);
}

/* Lines without end, a write each, some every millisecond; SIGTERM ends it as it ends any process. */
static int write_lines(bool dies) {
    struct wire_channel *supervisor = wire_channel_new(ROLE_DESCRIPTOR_SUPERVISOR);
    for (unsigned line = 0;; usleep(1000)) {
        for (unsigned end = line + 5; line < end; line++) dprintf(STDERR_FILENO, "line %u\n", line);
        _cleanup_wire_message_ struct wire_message message = {0};
        int received = wire_receive(supervisor, &message, NULL);
        if (received < 0) return 1;
        if (received && message.type == WIRE_ping) wire_say(supervisor, pong, .sequence = message.ping.sequence);
        if (received && message.type == WIRE_log_file) take_log(supervisor, dies);
    }
}

static void report_ready(int argc, char **argv) {
    _cleanup_free_ char *report = describe_surroundings(argc, argv);
    listen_at(flag(argc, argv, "--socket"));
    struct wire_message ready = {.type = WIRE_runner_ready, .runner_ready = {.report_json = report}};
    send_message(ROLE_DESCRIPTOR_SUPERVISOR, &ready);
}

static int report_failure(bool permanent) {
    struct wire_message failed = {
        .type = WIRE_runner_failed,
        .runner_failed = {.error_json = "{\"error\":\"ConfigurationError\"}", .permanent = permanent}};
    send_message(ROLE_DESCRIPTOR_SUPERVISOR, &failed);
    return 3;
}

static int run_runner(int argc, char **argv) {
    _cleanup_free_ char *path = fs_join(flag(argc, argv, "--model"), "script");
    _cleanup_free_ char *script = NULL;
    if (fs_read_file(path, 64, &script, NULL, NULL)) return 2;
    if (!strcmp(script, "silent")) return pause();
    if (!strcmp(script, "permanent")) return report_failure(true);
    if (!strcmp(script, "transient")) return report_failure(false);
    if (!strcmp(script, "rubbish")) return send(ROLE_DESCRIPTOR_SUPERVISOR, "rubbish", 7, 0) < 0 ? 1 : pause();
    if (!strcmp(script, "forge")) {
        struct wire_message forged = {.type = WIRE_stop_replica, .stop_replica = {.replica_id = "other"}};
        send_message(ROLE_DESCRIPTOR_SUPERVISOR, &forged);
        return pause();
    }
    if (!strcmp(script, "exit-7") || !strcmp(script, "crash")) {
        fprintf(stderr, "last words\n");
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would catch it */
        if (script[0] == 'c') raise(SIGSEGV);
        return 7;
    }
    if (!strcmp(script, "stubborn")) signal(SIGTERM, SIG_IGN);
    report_ready(argc, argv);
    if (!strcmp(script, "stubborn"))
        for (char byte; recv(ROLE_DESCRIPTOR_SUPERVISOR, &byte, 1, 0) > 0;) continue;
    if (!strcmp(script, "loud") || !strcmp(script, "dies-loud")) return write_lines(script[0] == 'd');
    return stay_up(!strcmp(script, "deaf"));
}

bool fake_roles_main(int argc, char **argv, int *ret_status) {
    const char *role = argc > 1 ? argv[1] : "";
    if (!strcmp(role, "serve")) {
        struct settings *settings = settings_new();
        *ret_status = supervisor_main(settings, argc - 1, argv + 1);
        settings_free(settings);
    } else if (!strcmp(role, "controller") || !strcmp(role, "indexer") || !strcmp(role, "gateway")) {
        *ret_status = run_relay(role);
    } else if (!strcmp(role, "runner")) {
        *ret_status = run_runner(argc - 1, argv + 1);
    } else {
        return false;
    }
    return true;
}
