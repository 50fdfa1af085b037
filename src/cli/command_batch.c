/* slipway batch: rows of a file or object through a model. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

/* What the service takes as it is, or a path here, which need not be there. NULL after saying what is wrong. */
static char *make_place(const struct cli *cli, const char *given) {
    char here[PATH_MAX];
    if (*given == '/' || given[strcspn(given, ":/")] == ':') return text_copy(given);
    if (getcwd(here, sizeof here)) return text_format("%s/%s", here, given);
    fprintf(stderr, "slipway %s: %s: %m\n", cli->command->name, given);
    return NULL;
}

static bool read_flags(const struct cli *cli, struct slipway_deployment_request *request) {
    uint64_t replicas = 0, batch_size = 0, part_rows = 0;
    const char *memory = cli->flags[FLAG_MEMORY];
    if (!cli_number(cli, FLAG_REPLICAS, 1000, &replicas) || !cli_number(cli, FLAG_BATCH_SIZE, 4096, &batch_size) ||
        !cli_number(cli, FLAG_PART_ROWS, 100000000, &part_rows))
        return false;
    if (memory && !text_parse_size(memory, &request->memory_bytes)) {
        fprintf(stderr, "slipway %s: --memory is a size like 2Gi, not \"%s\"\n", cli->command->name, memory);
        return false;
    }
    request->replicas = (uint32_t)replicas;
    request->batch_size = (uint32_t)batch_size;
    request->part_rows = (uint32_t)part_rows;
    request->format = cli->flags[FLAG_FORMAT];
    request->on_error = cli->flags[FLAG_ON_ERROR];
    request->priority = cli->flags[FLAG_PRIORITY];
    request->id_field = cli->flags[FLAG_ID_FIELD];
    request->input_field = cli->flags[FLAG_INPUT_FIELD];
    request->output_field = cli->flags[FLAG_OUTPUT_FIELD];
    request->inputs_json = cli->flags[FLAG_INPUTS];
    request->outputs_json = cli->flags[FLAG_OUTPUTS];
    request->tags_json = cli->flags[FLAG_TAGS];
    request->recipe_json = cli->flags[FLAG_RECIPE];
    request->idempotency_key = cli->flags[FLAG_KEY];
    return true;
}

/* With --wait: the progress of its task, then what became of it. */
static int finish(struct cli *cli, struct slipway_deployment *deployment) {
    struct slipway_error *error = NULL;
    if (!cli->flags[FLAG_WAIT]) {
        int status = cli_print_deployment(cli, deployment);
        slipway_deployment_free(deployment);
        return status;
    }
    _cleanup_free_ char *id = text_copy(deployment->deployment_id), *task_id = text_copy(deployment->task_id);
    slipway_deployment_free(deployment);
    int status = cli_wait_for_task(cli, task_id);
    if (cli->json || status == EXIT_NOT_SETTLED) return status;
    int result = slipway_get_deployment_status(cli->service, id, &deployment, &error);
    if (result < 0) return cli_fail(cli, error);
    cli_print_deployment(cli, deployment);
    slipway_deployment_free(deployment);
    return status;
}

int cli_batch(struct cli *cli) {
    _cleanup_free_ char *uri = cli_make_uri(cli, cli->arguments[1]);
    _cleanup_free_ char *input = uri ? make_place(cli, cli->arguments[2]) : NULL;
    _cleanup_free_ char *output = input ? make_place(cli, cli->arguments[3]) : NULL;
    if (!output) return EXIT_USAGE;
    struct slipway_deployment_request request = {.deployment_name = cli->arguments[0],
                                                 .model_uri = uri,
                                                 .type = "batch_inference_job",
                                                 .input_uri = input,
                                                 .output_uri = output};
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    if (!read_flags(cli, &request)) return EXIT_USAGE;
    int result = slipway_deploy_model(cli->service, &request, &deployment, &error);
    return result < 0 ? cli_fail(cli, error) : finish(cli, deployment);
}
