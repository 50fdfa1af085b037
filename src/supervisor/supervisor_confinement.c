/* What this kernel has to confine runners with, asked before the first of them starts: who needs all of it (the setting
 * sandbox_required) is told at once, and not by the first deployment. Each runner looks again when it confines itself.
 */
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

/* Their headers may be older than the kernel. Sources: docs.kernel.org/userspace-api/landlock, seccomp(2). */
#define CALL_LANDLOCK_CREATE_RULESET 444
#define LANDLOCK_VERSION_FLAG 1u

static bool has_landlock(void) {
    return syscall(CALL_LANDLOCK_CREATE_RULESET, NULL, 0, LANDLOCK_VERSION_FLAG) > 0;
}

static bool has_seccomp_filters(void) {
    unsigned action = SECCOMP_RET_ERRNO;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int confinement_check(const struct settings *settings, struct error **ret_error) {
    bool landlock = has_landlock(), seccomp = has_seccomp_filters();
    if (landlock && seccomp) return SERVE_EXIT_OK;
    const char *missing = landlock ? "seccomp filters" : seccomp ? "Landlock" : "Landlock and seccomp filters";
    if (settings->sandbox_required) {
        error_set(
            ret_error, ERROR_CONFIGURATION,
            "this kernel has no %s, so that runners cannot be confined fully, and sandbox_required is set: switch "
            "that on in the kernel (CONFIG_SECURITY_LANDLOCK and lsm=, CONFIG_SECCOMP_FILTER), or do without with "
            "--sandbox-required false",
            missing);
        return SERVE_EXIT_CONFINEMENT;
    }
    log_write(LOG_WARNING, "runners are confined in part only; --sandbox-required true would refuse to start",
              "missing", missing, NULL);
    return SERVE_EXIT_OK;
}
