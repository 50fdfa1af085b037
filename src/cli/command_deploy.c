/* slipway deploy, slipway update: what brings a model to serve. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

/* Fills the request from the flags; false after saying which is wrong. */
static bool read_flags(const struct cli *cli, struct slipway_deployment_request *request) {
    uint64_t replicas = request->replicas, gpu = 0;
    if (!cli_number(cli, FLAG_REPLICAS, 1000, &replicas) || !cli_number(cli, FLAG_GPU, 1024, &gpu)) return false;
    request->replicas = (uint32_t)replicas;
    request->gpu = (uint32_t)gpu;
    const char *memory = cli->flags[FLAG_MEMORY], *cpu = cli->flags[FLAG_CPU];
    if (memory && !text_parse_size(memory, &request->memory_bytes)) {
        fprintf(stderr, "slipway %s: --memory is a size like 2Gi, not \"%s\"\n", cli->command->name, memory);
        return false;
    }
    if (cpu) {
        char *end = NULL;
        request->cpu = strtod(cpu, &end);
        if (end == cpu || *end || !(request->cpu > 0 && request->cpu <= 1024)) {
            fprintf(stderr, "slipway %s: --cpu is a number of cores like 1.5, not \"%s\"\n", cli->command->name, cpu);
            return false;
        }
    }
    if (cli->flags[FLAG_TAGS]) request->tags_json = cli->flags[FLAG_TAGS];
    request->recipe_json = cli->flags[FLAG_RECIPE];
    request->strategy = cli->flags[FLAG_STRATEGY];
    request->target = cli->flags[FLAG_TARGET];
    return true;
}

/* What an operation that was begun ends with: its progress and result with --wait, else the deployment as it is. */
static int finish(struct cli *cli, int result, struct slipway_deployment *deployment, struct slipway_error *error) {
    if (result < 0) return cli_fail(cli, error);
    _cleanup_free_ char *id = text_copy(deployment->deployment_id);
    bool wait = cli->flags[FLAG_WAIT] != NULL;
    int status = wait ? EXIT_OK : cli_print_deployment(cli, deployment);
    slipway_deployment_free(deployment);
    return wait ? cli_wait_and_print(cli, id, text_equal(cli->command->name, "delete")) : status;
}

int cli_deploy(struct cli *cli) {
    _cleanup_free_ char *uri = cli_make_uri(cli, cli->arguments[1]);
    if (!uri) return EXIT_USAGE;
    struct slipway_deployment_request request = {
        .deployment_name = cli->arguments[0], .model_uri = uri, .idempotency_key = cli->flags[FLAG_KEY]};
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    if (!read_flags(cli, &request)) return EXIT_USAGE;
    int result = slipway_deploy_model(cli->service, &request, &deployment, &error);
    return finish(cli, result, deployment, error);
}

static int patch(struct cli *cli, const struct slipway_deployment_request *flags) {
    struct slipway_deployment_patch patch = {
        .replicas = cli->flags[FLAG_REPLICAS] ? flags->replicas : 0,
        .has_resources = cli->flags[FLAG_CPU] || cli->flags[FLAG_MEMORY] || cli->flags[FLAG_GPU],
        .cpu = flags->cpu,
        .memory_bytes = flags->memory_bytes,
        .gpu = flags->gpu,
        .tags_json = cli->flags[FLAG_TAGS],
    };
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_patch_deployment(cli->service, cli->arguments[0], &patch, &deployment, &error);
    return finish(cli, result, deployment, error);
}

int cli_update(struct cli *cli) {
    struct slipway_deployment_request request = {0};
    struct slipway_deployment *now = NULL, *deployment = NULL;
    struct slipway_error *error = NULL;
    if (!read_flags(cli, &request)) return EXIT_USAGE;
    bool new_revision = cli->argument_count == 2 || cli->flags[FLAG_NAME] || cli->flags[FLAG_RECIPE] ||
                        cli->flags[FLAG_STRATEGY] || cli->flags[FLAG_TARGET];
    if (!new_revision) return patch(cli, &request);
    _cleanup_free_ char *uri = cli->argument_count == 2 ? cli_make_uri(cli, cli->arguments[1]) : NULL;
    if (cli->argument_count == 2 && !uri) return EXIT_USAGE;
    int result = slipway_get_deployment_status(cli->service, cli->arguments[0], &now, &error);
    if (result < 0) return cli_fail(cli, error);
    if (!uri) uri = text_copy(now->model_uri);
    request.model_uri = uri;
    request.deployment_name = cli->flags[FLAG_NAME] ? cli->flags[FLAG_NAME] : now->deployment_name;
    if (!request.replicas) request.replicas = (uint32_t)now->replicas;
    if (!request.tags_json) request.tags_json = now->tags_json;
    result = slipway_update_deployment(cli->service, now->deployment_id, &request, &deployment, &error);
    slipway_deployment_free(now);
    return finish(cli, result, deployment, error);
}

int cli_rollback(struct cli *cli) {
    const char *collection = cli->flags[FLAG_COLLECTION];
    if ((cli->argument_count == 1) == (collection != NULL)) {
        fprintf(stderr,
                "slipway rollback: it takes a deployment's NAME or --collection NAME; `slipway rollback --help` says "
                "more\n");
        return EXIT_USAGE;
    }
    if (collection) return cli_roll_collection_back(cli, collection);
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_rollback_deployment(cli->service, cli->arguments[0], &deployment, &error);
    return finish(cli, result, deployment, error);
}

int cli_restart(struct cli *cli) {
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_restart_deployment(cli->service, cli->arguments[0], &deployment, &error);
    return finish(cli, result, deployment, error);
}

int cli_delete(struct cli *cli) {
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_delete_deployment(cli->service, cli->arguments[0], &deployment, &error);
    return finish(cli, result, deployment, error);
}
