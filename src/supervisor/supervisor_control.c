/* The control socket <state>/control.sock: the same API as on the port, for processes of the service's own user and of
 * root, who need no token there. Opened once and handed to every gateway, as the port is (supervisor_listen.c). */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "supervisor/supervisor-internal.h"

#define BACKLOG 4096

static char *control_path(const struct supervisor *supervisor) {
    return fs_join(supervisor->settings->state, "control.sock"); /* the short name, where there is one */
}

static int refuse(const struct supervisor *supervisor, int cause, struct error **ret_error) {
    error_set_errno(ret_error, ERROR_CONFIGURATION, cause,
                    "cannot listen on %s/control.sock; what lies there must be removable, and the folder writable",
                    supervisor->state);
    return SERVE_EXIT_UNWRITABLE;
}

/* The state folder is locked: a socket that lies there is of one that has gone. */
static void remove_left_over(const char *path) {
    struct stat status;
    if (!lstat(path, &status) && S_ISSOCK(status.st_mode)) unlink(path);
}

int control_open(struct supervisor *supervisor, struct error **ret_error) {
    _cleanup_free_ char *path = control_path(supervisor);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) return refuse(supervisor, ENAMETOOLONG, ret_error);
    memcpy(address.sun_path, path, strlen(path) + 1);
    _cleanup_close_ int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control < 0) return refuse(supervisor, errno, ret_error);
    remove_left_over(path);
    fchmod(control, S_IRUSR | S_IWUSR); /* before bind(), which makes the file with this mode */
    if (bind(control, (struct sockaddr *)&address, sizeof address) < 0 || listen(control, BACKLOG) < 0)
        return refuse(supervisor, errno, ret_error);
    supervisor->control = control;
    control = -1;
    return SERVE_EXIT_OK;
}

void control_close(struct supervisor *supervisor) {
    if (supervisor->control < 0) return;
    _cleanup_free_ char *path = control_path(supervisor);
    unlink(path);
    close(supervisor->control);
    supervisor->control = -1;
}
