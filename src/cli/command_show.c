/* The commands that only look: status, list, wait, tasks, processes, version. */
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

int cli_status(struct cli *cli) {
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    if (slipway_get_deployment_status(cli->service, cli->arguments[0], &deployment, &error) < 0)
        return cli_fail(cli, error);
    int status = cli_print_deployment(cli, deployment);
    slipway_deployment_free(deployment);
    return status;
}

int cli_wait(struct cli *cli) {
    return cli_wait_and_print(cli, cli->arguments[0], false);
}

char *cli_query(struct cli *cli) {
    static const struct {
        enum cli_flag flag;
        const char *parameter;
    } filters[] = {{FLAG_STATUS, "status"},
                   {FLAG_KIND, "kind"},
                   {FLAG_DEPLOYMENT, "deployment_id"},
                   {FLAG_COLLECTION, "collection"}};
    uint64_t limit = 100, offset = 0;
    if (!cli_number(cli, FLAG_LIMIT, 1000, &limit) || !cli_number(cli, FLAG_OFFSET, INT64_MAX, &offset)) return NULL;
    char *text = text_format("limit=%llu&offset=%llu", (unsigned long long)limit, (unsigned long long)offset);
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        const char *value = cli->flags[filters[i].flag];
        if (!value) continue;
        _cleanup_free_ char *encoded = text_percent_encode(value, __builtin_strlen(value)), *shorter = text;
        text = text_format("%s&%s=%s", shorter, filters[i].parameter, encoded);
    }
    return text;
}

int cli_list(struct cli *cli) {
    static const struct cli_column columns[] = {{"NAME", "deployment_name"},      {"STATUS", "status"},
                                                {"REVISION", "serving_revision"}, {"REPLICAS", "replicas"},
                                                {"UPDATED", "updated_at"},        {"ID", "deployment_id"}};
    _cleanup_free_ char *parameters = cli_query(cli);
    if (!parameters) return EXIT_USAGE;
    _cleanup_free_ char *path = text_format("/v1/deployments?%s", parameters);
    return cli_show_list(cli, path, columns, ARRAY_SIZE(columns));
}

static int show_task(struct cli *cli) {
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    if (slipway_get_task(cli->service, cli->arguments[0], &task, &error) < 0) return cli_fail(cli, error);
    cli_print_task(cli, task);
    slipway_task_free(task);
    return EXIT_OK;
}

static int show_failed_items(struct cli *cli) {
    static const struct cli_column columns[] = {{"ID", "id"}, {"STAGE", "stage"}, {"DETAIL", "detail"}};
    _cleanup_free_ char *parameters = cli_query(cli);
    if (!parameters) return EXIT_USAGE;
    _cleanup_free_ char *id = text_percent_encode(cli->arguments[0], __builtin_strlen(cli->arguments[0]));
    _cleanup_free_ char *path = text_format("/v1/tasks/%s/failed-items?%s", id, parameters);
    return cli_show_list(cli, path, columns, ARRAY_SIZE(columns));
}

int cli_tasks(struct cli *cli) {
    static const struct cli_column columns[] = {{"TASK", "task_id"}, {"KIND", "kind"},          {"STATUS", "status"},
                                                {"STEP", "step"},    {"UPDATED", "updated_at"}, {"DETAIL", "detail"}};
    if (cli->argument_count) return cli->flags[FLAG_FAILED_ITEMS] ? show_failed_items(cli) : show_task(cli);
    _cleanup_free_ char *parameters = cli_query(cli);
    if (!parameters) return EXIT_USAGE;
    _cleanup_free_ char *path = text_format("/v1/tasks?%s", parameters);
    return cli_show_list(cli, path, columns, ARRAY_SIZE(columns));
}

int cli_processes(struct cli *cli) {
    static const struct cli_column columns[] = {{"ROLE", "role"},
                                                {"PID", "pid"},
                                                {"RESTARTS", "restarts"},
                                                {"MEMORY", "memory_bytes"},
                                                {"DEPLOYMENT", "deployment"},
                                                {"REVISION", "revision"},
                                                {"SINCE", "since"}};
    return cli_show_list(cli, "/v1/processes?limit=1000", columns, ARRAY_SIZE(columns));
}

int cli_version(struct cli *cli) {
    printf(cli->json ? "{\"version\":\"%s\"}\n" : "slipway %s\n", slipway_version());
    return EXIT_OK;
}
