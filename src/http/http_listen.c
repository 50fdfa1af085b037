#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "http/http-internal.h"
#include "http/http_server.h"

/* An old socket stands in the way of bind(); anything else at that path is not ours to remove. */
static void remove_old_socket(const struct http_address *address) {
    struct stat status;
    const char *path = address->local.sun_path;
    if (!lstat(path, &status) && S_ISSOCK(status.st_mode)) unlink(path);
}

int http_listen(const char *address, int *ret_descriptor, struct error **ret_error) {
    struct http_address where;
    int result = http_address_parse(address, &where, ret_error);
    if (result < 0) return error_wrap(ret_error, "listen");
    bool local = where.any.sa_family == AF_UNIX;
    _cleanup_close_ int descriptor = socket(where.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "listen on %s: make a socket", address);
    int yes = 1;
    if (local)
        remove_old_socket(&where);
    else
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (where.any.sa_family == AF_INET6) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (local) fchmod(descriptor, S_IRUSR | S_IWUSR); /* what bind() makes is for its own user only */
    result = bind(descriptor, &where.any, where.size);
    int bind_errno = errno;
    if (result < 0 && bind_errno == EADDRINUSE)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, bind_errno,
                               "listen on %s (another program uses it: stop that, or choose another address)", address);
    if (result < 0) return error_set_errno(ret_error, ERROR_CONFIGURATION, bind_errno, "listen on %s", address);
    if (listen(descriptor, SOMAXCONN) < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "listen on %s", address);
    *ret_descriptor = descriptor;
    descriptor = -1;
    return 0;
}
