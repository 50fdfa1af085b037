/* `slipway upgrade`: the service is asked to become another program, its roles are waited for, then each active
 * deployment is restarted, so that its runners are of the new program as well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define LOOK_EVERY_US 100000
#define WAIT_MS (20ull * 60 * 1000) /* a switch that is under way is waited for by the service */
#define RESTART_WAIT_MS (35u * 60 * 1000)
#define DEPLOYMENTS_MAXIMUM 1000

static const char *member(yyjson_doc *record, const char *name) {
    const char *text = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(record), name));
    return text ? text : "";
}

static yyjson_doc *read_record(const char *json) {
    return json ? yyjson_read(json, strlen(json), 0) : NULL;
}

/* {"program": its real path}, or {}; NULL after saying what is wrong. */
static char *write_request(const struct cli *cli) {
    const char *given = cli->flags[FLAG_PROGRAM];
    _cleanup_free_ char *path = given ? realpath(given, NULL) : NULL;
    if (given && !path) {
        fprintf(stderr, "slipway %s: %s: %m\n", cli->command->name, given);
        return NULL;
    }
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    json_add_text(document, root, "program", path);
    return json_write(document, NULL);
}

static bool is_over(yyjson_doc *record) {
    return text_equal(member(record, "state"), "done") || text_equal(member(record, "state"), "failed");
}

/* The record when it is over, or NULL after saying why not; *ret_status is then the exit status. */
static yyjson_doc *wait_until_over(struct cli *cli, int *ret_status) {
    uint64_t deadline_ms = clock_monotonic_ms() + (cli->timeout_ms ? cli->timeout_ms : WAIT_MS);
    for (;;) {
        struct slipway_error *error = NULL;
        char *json = NULL;
        int result = slipway_get_json(cli->service, "/v1/upgrade", &json, NULL, &error);
        yyjson_doc *record = result < 0 ? NULL : read_record(json);
        slipway_text_free(json);
        if (record && is_over(record)) return record;
        yyjson_doc_free(record);
        if (result < 0 && result != -SLIPWAY_UNAVAILABLE) {
            *ret_status = cli_fail(cli, error);
            return NULL;
        }
        slipway_error_free(error);
        if (clock_monotonic_ms() >= deadline_ms) {
            fprintf(stderr, "slipway %s: it is not over yet; GET /v1/upgrade tells how it goes\n", cli->command->name);
            *ret_status = EXIT_NOT_SETTLED;
            return NULL;
        }
        usleep(LOOK_EVERY_US);
    }
}

/* ---- runners ---- */

static void say_not_restarted(const struct cli *cli, const char *name, const char *why) {
    fprintf(stderr, "slipway %s: the replicas of %s go on with the program before: %s\n", cli->command->name, name,
            why);
}

/* One that is not restarted serves as before: that is told, and no failure of the upgrade. */
static void restart(struct cli *cli, const struct slipway_deployment *before) {
    struct slipway_deployment *deployment = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_restart_deployment(cli->service, before->deployment_id, &deployment, &error);
    if (result >= 0) {
        slipway_deployment_free(TAKE(deployment));
        result = slipway_wait_for_deployment(cli->service, before->deployment_id, RESTART_WAIT_MS, &deployment, &error);
    }
    if (result < 0)
        say_not_restarted(cli, before->deployment_name, error->message);
    else if (deployment->message && *deployment->message)
        say_not_restarted(cli, before->deployment_name, deployment->message);
    else if (!cli->json)
        printf("restarted %s\n", before->deployment_name);
    fflush(stdout);
    slipway_deployment_free(deployment);
    slipway_error_free(error);
}

static int restart_all(struct cli *cli) {
    struct slipway_deployment_list *list = NULL;
    struct slipway_error *error = NULL;
    if (slipway_list_deployments(cli->service, DEPLOYMENTS_MAXIMUM, 0, "active", &list, &error) < 0)
        return cli_fail(cli, error);
    for (size_t i = 0; i < list->count; i++) restart(cli, list->deployments[i]);
    slipway_deployment_list_free(list);
    return EXIT_OK;
}

/* ---- the command ---- */

static int show(struct cli *cli, yyjson_doc *record) {
    if (cli->json) {
        _cleanup_free_ char *json = json_write_value(yyjson_doc_get_root(record), NULL);
        cli_print_json(json);
    }
    if (text_equal(member(record, "state"), "done")) {
        if (!cli->json) printf("upgraded %s → %s\n", member(record, "from"), member(record, "to"));
        fflush(stdout);
        return EXIT_OK;
    }
    if (!cli->json)
        fprintf(stderr, "slipway %s: %s goes on: %s\n", cli->command->name, member(record, "version"),
                member(record, "reason"));
    return EXIT_FAILED;
}

int cli_upgrade(struct cli *cli) {
    struct slipway_error *error = NULL;
    _cleanup_free_ char *request = write_request(cli);
    char *answer = NULL;
    if (!request) return EXIT_USAGE;
    if (slipway_send_json(cli->service, "POST", "/v1/upgrade", request, &answer, &error) < 0)
        return cli_fail(cli, error);
    slipway_text_free(answer);
    int status = EXIT_OK;
    _cleanup_json_ yyjson_doc *record = wait_until_over(cli, &status);
    if (record) status = show(cli, record);
    return status == EXIT_OK ? restart_all(cli) : status;
}
