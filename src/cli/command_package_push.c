/* slipway package push. */
#include "cli/cli-internal.h"

int cli_package_push(struct cli *cli) {
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_push_package(cli->service, cli->arguments[0], cli->arguments[1], &task, &error);
    return cli_finish_task(cli, result, task, error);
}
