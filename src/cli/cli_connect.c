/* Where the service is, when the command line does not say. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

static const char *or_variable(const char *given, const char *variable) {
    const char *value = given ? given : getenv(variable);
    return value && *value ? value : NULL;
}

/* Beside a state folder its control socket is the nearest door, and asks for no token. */
static char *find_control_socket(void) {
    const char *state = getenv("SLIPWAY_STATE");
    _cleanup_free_ char *path = fs_join(state && *state ? state : "slipway-state", "control.sock");
    struct stat status;
    bool is_ours = !stat(path, &status) && S_ISSOCK(status.st_mode) && access(path, R_OK | W_OK) == 0;
    return is_ours ? text_format("unix:%s", path) : NULL;
}

int cli_connect(const struct slipway_options *given, struct slipway **ret_service, struct slipway_error **ret_error) {
    struct slipway_options options = {.url = or_variable(given->url, "SLIPWAY_URL"),
                                      .token = or_variable(given->token, "SLIPWAY_TOKEN"),
                                      .ca_file = or_variable(given->ca_file, "SLIPWAY_CA"),
                                      .certificate_file = or_variable(given->certificate_file, "SLIPWAY_CERT"),
                                      .key_file = or_variable(given->key_file, "SLIPWAY_KEY")};
    _cleanup_free_ char *control = options.url ? NULL : find_control_socket();
    if (control) options.url = control;
    return slipway_open_with(&options, ret_service, ret_error);
}
