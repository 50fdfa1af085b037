#include "runner/runner_bind-internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"

union address {
    struct sockaddr any;
    struct sockaddr_in inet;
    struct sockaddr_in6 inet6;
    struct sockaddr_un local;
};

static int parse_unix(const char *path, union address *address, socklen_t *ret_size, struct error **ret_error) {
    if (!*path || strlen(path) >= sizeof address->local.sun_path)
        return error_set(ret_error, ERROR_CONFIGURATION, "the path of a unix socket has 1 to %zu bytes, but %s has %zu",
                         sizeof address->local.sun_path - 1, path, strlen(path));
    address->local.sun_family = AF_UNIX;
    strcpy(address->local.sun_path, path);
    *ret_size = sizeof address->local;
    return 0;
}

static int parse(const char *text, union address *address, socklen_t *ret_size, struct error **ret_error) {
    *address = (union address){0};
    if (text_starts_with(text, "unix:")) return parse_unix(text + 5, address, ret_size, ret_error);
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || !text_parse_number(colon + 1, 65535, &port))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is not an address such as 127.0.0.1:9000 or unix:/path",
                         text);
    bool bracketed = *text == '[' && colon > text && colon[-1] == ']';
    _cleanup_free_ char *host = bracketed ? text_copy_bytes(text + 1, (size_t)(colon - text) - 2)
                                          : text_copy_bytes(text, (size_t)(colon - text));
    if (bracketed && inet_pton(AF_INET6, host, &address->inet6.sin6_addr) == 1) {
        address->inet6.sin6_family = AF_INET6;
        address->inet6.sin6_port = htons((uint16_t)port);
        *ret_size = sizeof address->inet6;
        return 0;
    }
    const char *numeric = text_equal(host, "localhost") ? "127.0.0.1" : host;
    if (bracketed || inet_pton(AF_INET, numeric, &address->inet.sin_addr) != 1)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s does not begin with a numeric address such as 127.0.0.1",
                         text);
    address->inet.sin_family = AF_INET;
    address->inet.sin_port = htons((uint16_t)port);
    *ret_size = sizeof address->inet;
    return 0;
}

/* A socket that an earlier process left behind; anything else at that path is not ours to remove. */
static void remove_old_socket(const union address *address) {
    struct stat state;
    const char *path = address->local.sun_path;
    if (address->any.sa_family == AF_UNIX && lstat(path, &state) == 0 && S_ISSOCK(state.st_mode)) unlink(path);
}

int runner_bind(const char *text, int *ret_descriptor, struct error **ret_error) {
    union address address;
    socklen_t size = 0;
    int result = parse(text, &address, &size, ret_error);
    if (result < 0) return result;
    _cleanup_close_ int descriptor = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "make a socket for %s", text);
    int yes = 1;
    if (address.any.sa_family != AF_UNIX) setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (address.any.sa_family == AF_INET6) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    remove_old_socket(&address);
    mode_t before = umask(0177); /* a unix socket is for its own user */
    result = bind(descriptor, &address.any, size);
    int bind_errno = errno;
    umask(before);
    if (result < 0) {
        error_set_errno(ret_error, ERROR_CONFIGURATION, bind_errno, "listen on %s", text);
        return bind_errno == EADDRINUSE ? error_mark_transient(ret_error) : -ERROR_CONFIGURATION;
    }
    *ret_descriptor = descriptor;
    descriptor = -1;
    return 0;
}

char *runner_bound_address(int descriptor, const char *text) {
    union address address = {0};
    socklen_t size = sizeof address;
    char host[INET6_ADDRSTRLEN];
    if (getsockname(descriptor, &address.any, &size) < 0 || address.any.sa_family == AF_UNIX) return text_copy(text);
    if (address.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address.inet6.sin6_addr, host, sizeof host);
        return text_format("[%s]:%u", host, ntohs(address.inet6.sin6_port));
    }
    inet_ntop(AF_INET, &address.inet.sin_addr, host, sizeof host);
    return text_format("%s:%u", host, ntohs(address.inet.sin_port));
}
