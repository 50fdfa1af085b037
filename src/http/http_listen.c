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

static int bind_and_listen(int descriptor, const struct http_address *where, const char *address,
                           struct error **ret_error) {
    int yes = 1;
    if (where->any.sa_family == AF_UNIX) {
        remove_old_socket(where);
        fchmod(descriptor, S_IRUSR | S_IWUSR); /* what bind() makes is for its own user only */
    } else {
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    }
    if (where->any.sa_family == AF_INET6) setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes);
    if (!bind(descriptor, &where->any, where->size) && !listen(descriptor, SOMAXCONN)) return 0;
    const char *advice = errno == EADDRINUSE ? " (another program uses it: stop that, or choose another address)" : "";
    return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "listen on %s%s", address, advice);
}

int http_listen(const char *address, int *ret_descriptor, struct error **ret_error) {
    struct http_address where;
    int result = http_address_parse(address, &where, ret_error);
    if (result < 0) return error_wrap(ret_error, "listen");
    int descriptor = socket(where.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return error_set_errno(ret_error, ERROR_CONFIGURATION, errno, "listen on %s: make a socket", address);
    result = bind_and_listen(descriptor, &where, address, ret_error);
    if (result < 0) {
        close(descriptor);
        return result;
    }
    *ret_descriptor = descriptor;
    return 0;
}
