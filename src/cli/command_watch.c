/* events and logs: what happened, and with --follow what happens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define SHORT_ID 8 /* of a replica, before its lines */

/* A whole line at once, so that what reads it need not wait; false when nobody reads any more. */
static bool say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static bool say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    _cleanup_free_ char *line = text_format_list(format, arguments);
    va_end(arguments);
    return fputs(line, stdout) >= 0 && fputc('\n', stdout) >= 0 && fflush(stdout) == 0;
}

static const char *field(yyjson_val *object, const char *name) {
    const char *text = yyjson_get_str(yyjson_obj_get(object, name));
    return text ? text : "";
}

static bool show_line(yyjson_val *object) {
    if (yyjson_get_bool(yyjson_obj_get(object, "gap")))
        fprintf(stderr,
                "slipway logs: lines of replica %s may be missing here: its log was set aside twice meanwhile\n",
                field(object, "replica_id"));
    return say("%.*s  %s", SHORT_ID, field(object, "replica_id"), field(object, "line"));
}

static bool show_event(yyjson_val *object) {
    const char *deployment = field(object, "deployment");
    return say("%s  %-17s %s%s%s", field(object, "at"), field(object, "kind"), deployment, *deployment ? ": " : "",
               field(object, "message"));
}

struct shown {
    const struct cli *cli;
    bool (*show)(yyjson_val *object);
};

static bool take(void *context, const char *json) {
    const struct shown *shown = context;
    if (shown->cli->json) return say("%s", json);
    _cleanup_json_ yyjson_doc *document = yyjson_read(json, strlen(json), 0);
    return shown->show(yyjson_doc_get_root(document));
}

static int follow(struct cli *cli, bool (*show)(yyjson_val *object),
                  int (*start)(struct slipway *service, const char *deployment_id, const struct slipway_follow *how,
                               struct slipway_error **ret_error)) {
    uint64_t limit = 100;
    struct shown shown = {cli, show};
    struct slipway_error *error = NULL;
    if (!cli_number(cli, FLAG_LIMIT, 1000, &limit)) return EXIT_USAGE;
    struct slipway_follow how = {.take = take, .context = &shown, .limit = (size_t)limit};
    const char *name = cli->argument_count ? cli->arguments[0] : NULL;
    return start(cli->service, name, &how, &error) < 0 ? cli_fail(cli, error) : EXIT_OK;
}

int cli_events(struct cli *cli) {
    static const struct cli_column of_one[] = {{"AT", "at"}, {"KIND", "kind"}, {"MESSAGE", "message"}};
    static const struct cli_column of_all[] = {
        {"AT", "at"}, {"KIND", "kind"}, {"DEPLOYMENT", "deployment"}, {"MESSAGE", "message"}};
    if (cli->flags[FLAG_FOLLOW]) return follow(cli, show_event, slipway_follow_events);
    _cleanup_free_ char *parameters = cli_query(cli);
    if (!parameters) return EXIT_USAGE;
    if (!cli->argument_count) {
        _cleanup_free_ char *all = text_format("/v1/events?%s", parameters);
        return cli_show_list(cli, all, of_all, ARRAY_SIZE(of_all));
    }
    _cleanup_free_ char *name = text_percent_encode(cli->arguments[0], strlen(cli->arguments[0]));
    _cleanup_free_ char *path = text_format("/v1/deployments/%s/events?%s", name, parameters);
    return cli_show_list(cli, path, of_one, ARRAY_SIZE(of_one));
}

/* Oldest first, as they were written; the list has them newest first. */
static void print_lines(const struct cli *cli, const char *json) {
    if (cli->json) {
        cli_print_json(json);
        return;
    }
    _cleanup_json_ yyjson_doc *document = yyjson_read(json, strlen(json), 0);
    yyjson_val *array = yyjson_doc_get_root(document);
    for (size_t i = yyjson_arr_size(array); i-- > 0;) show_line(yyjson_arr_get(array, i));
}

int cli_logs(struct cli *cli) {
    if (cli->flags[FLAG_FOLLOW]) return follow(cli, show_line, slipway_follow_logs);
    _cleanup_free_ char *parameters = cli_query(cli);
    if (!parameters) return EXIT_USAGE;
    _cleanup_free_ char *name = text_percent_encode(cli->arguments[0], strlen(cli->arguments[0]));
    _cleanup_free_ char *path = text_format("/v1/deployments/%s/logs?%s", name, parameters);
    char *json = NULL;
    struct slipway_error *error = NULL;
    if (slipway_get_json(cli->service, path, &json, NULL, &error) < 0) return cli_fail(cli, error);
    print_lines(cli, json);
    slipway_text_free(json);
    return EXIT_OK;
}
