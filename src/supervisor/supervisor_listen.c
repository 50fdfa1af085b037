/* The listening socket: opened once, handed to every gateway, closed when the service stops. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

#define BACKLOG 4096 /* the kernel lowers it to net.core.somaxconn */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* The settings were checked: the host is an address in numbers. */
static socklen_t make_address(const char *host, uint16_t port, union address *ret_address) {
    *ret_address = (union address){0};
    if (inet_pton(AF_INET, host, &ret_address->v4.sin_addr) == 1) {
        ret_address->v4.sin_family = AF_INET;
        ret_address->v4.sin_port = htons(port);
        return sizeof ret_address->v4;
    }
    inet_pton(AF_INET6, host, &ret_address->v6.sin6_addr);
    ret_address->v6.sin6_family = AF_INET6;
    ret_address->v6.sin6_port = htons(port);
    return sizeof ret_address->v6;
}

static int refuse(const char *listen, uint16_t port, int cause, struct error **ret_error) {
    if (cause == EADDRINUSE) {
        _cleanup_free_ char *holders = holders_of_port(port);
        error_set(ret_error, ERROR_CONFLICT,
                  "cannot listen on %s: the port is in use by %s; stop that, or choose another with --listen", listen,
                  *holders ? holders : "a process that cannot be seen from here (ss -ltnp may name it)");
    } else if (cause == EADDRNOTAVAIL) {
        error_set(ret_error, ERROR_CONFIGURATION,
                  "cannot listen on %s: this machine has no such address; choose another with --listen", listen);
    } else if (cause == EACCES) {
        error_set(ret_error, ERROR_CONFIGURATION,
                  "cannot listen on %s: ports below 1024 need a privilege; choose another with --listen", listen);
    } else {
        error_set_errno(ret_error, ERROR_CONFIGURATION, cause, "cannot listen on %s", listen);
    }
    return SERVE_EXIT_ADDRESS;
}

/* A wildcard is no address that a client could use. */
static char *default_url(const char *scheme, const char *host, uint16_t port) {
    char name[256] = "localhost";
    bool is_wildcard = !strcmp(host, "0.0.0.0") || !strcmp(host, "::");
    if (is_wildcard && gethostname(name, sizeof name) == 0) name[sizeof name - 1] = 0;
    if (is_wildcard) return text_format("%s://%s:%u", scheme, name, port);
    return text_format(strchr(host, ':') ? "%s://[%s]:%u" : "%s://%s:%u", scheme, host, port);
}

/* From here on the settings tell the port that was given, also where 0 was asked for. */
static void record_address(struct supervisor *supervisor, const char *host) {
    union address address = {0};
    socklen_t size = sizeof address;
    struct settings *settings = supervisor->settings;
    if (getsockname(supervisor->listener, &address.any, &size) < 0) return;
    bool is_v4 = address.any.sa_family == AF_INET;
    uint16_t port = ntohs(is_v4 ? address.v4.sin_port : address.v6.sin6_port);
    free(settings->listen);
    settings->listen = text_format(is_v4 ? "%s:%u" : "[%s]:%u", host, port);
    if (*settings->public_url) return;
    free(settings->public_url);
    settings->public_url = default_url(*settings->tls_certificate ? "https" : "http", host, port);
}

int listen_open(struct supervisor *supervisor, struct error **ret_error) {
    const char *listen_at = supervisor->settings->listen;
    _cleanup_free_ char *host = NULL;
    uint16_t port = 0;
    if (!settings_parse_listen(listen_at, &host, &port)) {
        error_set(ret_error, ERROR_CONFIGURATION, "setting listen: \"%s\" is not an address and a port", listen_at);
        return SERVE_EXIT_SETTINGS;
    }
    union address address;
    socklen_t size = make_address(host, port, &address);
    _cleanup_close_ int listener = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) return refuse(listen_at, port, errno, ret_error);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, &address.any, size) < 0 || listen(listener, BACKLOG) < 0)
        return refuse(listen_at, port, errno, ret_error);
    supervisor->listener = listener;
    listener = -1;
    record_address(supervisor, host);
    return SERVE_EXIT_OK;
}
