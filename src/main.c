/* `slipway`: one program, of which every process runs one role. The first argument picks it; what is no role is a
 * command of the CLI. controller, indexer, gateway and (under a service) runner are started by the supervisor, not by
 * people. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/settings.h"
#include "base/version.h"
#include "cli/cli.h"
#include "collection/collection_handover.h"
#include "controller/controller.h"
#include "gateway/gateway.h"
#include "indexer/indexer.h"
#include "runner/runner.h"
#include "store/store_handover.h"
#include "supervisor/supervisor.h"
#include "wire/role.h"

/* The settings that the supervisor passed on; they were checked there. */
static int run_with_settings(int (*role_main)(struct settings *settings)) {
    struct settings *settings = settings_new();
    _cleanup_error_ struct error *error = NULL;
    int status = ROLE_EXIT_PERMANENT;
    if (settings_read_environment(settings, environ, &error)) {
        _cleanup_free_ char *text = error_text(error);
        fprintf(stderr, "slipway: %s\n", text);
    } else {
        status = role_main(settings);
    }
    settings_free(settings);
    return status;
}

static int run_controller(int argc, char **argv) {
    (void)argc, (void)argv;
    return run_with_settings(controller_main);
}

static int run_indexer(int argc, char **argv) {
    (void)argc, (void)argv;
    return run_with_settings(indexer_main);
}

static int run_gateway(int argc, char **argv) {
    (void)argc, (void)argv;
    return run_with_settings(gateway_main);
}

static int check_databases(const char *state, struct error **ret_error) {
    _cleanup_free_ char *control = fs_join(state, "control.db"), *collections = fs_join(state, "collections");
    int result = store_check_handover(control, store_control_schema(), ret_error);
    return result < 0 ? result : collections_check_handover(collections, ret_error);
}

/* Says its version, or why it cannot. */
static int check_handover(void) {
    _cleanup_error_ struct error *error = NULL;
    _cleanup_free_ char *state = NULL;
    if (supervisor_check_handover(&state, &error) >= 0 && check_databases(state, &error) >= 0) {
        puts(build_version());
        return 0;
    }
    _cleanup_free_ char *text = error_text(error);
    fprintf(stderr, "%s\n", text);
    return 1;
}

static int run_supervisor(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--check-handover")) return check_handover();
    struct settings *settings = settings_new();
    int status = supervisor_main(settings, argc, argv);
    settings_free(settings);
    return status;
}

static const struct {
    const char *word; /* argv[1] */
    const char *process_name; /* at most 15 bytes, for ps and top */
    int (*run)(int argc, char **argv); /* argv[0] is the word */
} roles[] = {
    {"serve", "slipway", run_supervisor},        {"controller", "slipway-control", run_controller},
    {"indexer", "slipway-indexer", run_indexer}, {"gateway", "slipway-gateway", run_gateway},
    {"runner", "slipway-runner", runner_main},
};

/* A descriptor that is opened later must not become what others take for stdin, stdout or stderr. */
static void open_standard_descriptors(void) {
    for (int descriptor = 0; descriptor <= STDERR_FILENO; descriptor++)
        if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) _exit(1);
}

int main(int argc, char **argv) {
    open_standard_descriptors();
    for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(roles); i++) {
        if (strcmp(argv[1], roles[i].word)) continue;
        prctl(PR_SET_NAME, roles[i].process_name);
        return roles[i].run(argc - 1, argv + 1);
    }
    return cli_main(argc, argv);
}
