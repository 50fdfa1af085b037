/* slipway reindex, slipway switch, slipway rollback --collection: what changes a collection's encoder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

/* --window as seconds; false after saying what is wrong. */
static bool read_window(const struct cli *cli, bool *ret_given, uint32_t *ret_seconds) {
    const char *given = cli->flags[FLAG_WINDOW];
    uint64_t milliseconds = 0;
    *ret_given = given != NULL;
    if (!given) return true;
    if (text_parse_duration(given, &milliseconds) && milliseconds / 1000 <= UINT32_MAX) {
        *ret_seconds = (uint32_t)((milliseconds + 999) / 1000);
        return true;
    }
    fprintf(stderr, "slipway %s: --window is a time like 10m, or 0s, not \"%s\"\n", cli->command->name, given);
    return false;
}

/* --max-failed and --min-overlap; false after saying what is wrong. */
static bool read_conditions(const struct cli *cli, struct slipway_reindex_request *request) {
    const char *failed = cli->flags[FLAG_MAX_FAILED], *overlap = cli->flags[FLAG_MIN_OVERLAP];
    char *end = NULL;
    if (failed) {
        request->max_failed = strtod(failed, &end);
        bool is_whole = request->max_failed == (double)(uint64_t)request->max_failed;
        if (end == failed || *end || !(request->max_failed >= 0 && request->max_failed < 1e15) ||
            (request->max_failed > 1 && !is_whole)) {
            fprintf(stderr, "slipway %s: --max-failed is a number of documents or a share below 1, not \"%s\"\n",
                    cli->command->name, failed);
            return false;
        }
    }
    if (!overlap) return true;
    unsigned long k = strtoul(overlap, &end, 10);
    const char *share = end && *end == ':' ? end + 1 : "";
    request->overlap_at_least = strtod(share, &end);
    request->overlap_k = (uint32_t)k;
    if (k >= 1 && k <= 1000 && *share && !*end && request->overlap_at_least >= 0 && request->overlap_at_least <= 1)
        return true;
    fprintf(stderr, "slipway %s: --min-overlap is K:SHARE like 10:0.5, not \"%s\"\n", cli->command->name, overlap);
    return false;
}

static int show_collection(struct cli *cli, const char *name) {
    struct slipway_collection *collection = NULL;
    struct slipway_error *error = NULL;
    if (slipway_get_collection(cli->service, name, &collection, &error) < 0) return cli_fail(cli, error);
    int status = cli_print_collection(cli, collection);
    if (collection->rollback) fprintf(stderr, "the way back: slipway rollback --collection %s\n", name);
    slipway_collection_free(collection);
    return status;
}

/* What comes after a re-index that stopped before the switch. */
static int show_ready_indexes(struct cli *cli, const char *collection) {
    struct slipway_index_list *list = NULL;
    struct slipway_error *error = NULL;
    if (slipway_list_indexes(cli->service, collection, &list, &error) < 0) return cli_fail(cli, error);
    for (size_t i = 0; i < list->count; i++) {
        const struct slipway_index *index = &list->indexes[i];
        if (text_equal(index->set, "documents") && text_equal(index->state, "ready"))
            printf("index %s of %s is ready: slipway switch %s %s\n", index->index_id, index->deployment, collection,
                   index->index_id);
    }
    slipway_index_list_free(list);
    return EXIT_OK;
}

/* Ends the command; with --wait, and when it went well, with what the collection is now. */
static int finish(struct cli *cli, const char *collection, int result, struct slipway_task *task,
                  struct slipway_error *error) {
    int status = cli_finish_task(cli, result, task, error);
    if (status != EXIT_OK || !cli->flags[FLAG_WAIT] || cli->json) return status;
    return cli->flags[FLAG_NO_SWITCH] ? show_ready_indexes(cli, collection) : show_collection(cli, collection);
}

int cli_reindex(struct cli *cli) {
    struct slipway_reindex_request request = {.stop_before_switch = cli->flags[FLAG_NO_SWITCH] != NULL,
                                              .wait_on_conflict = cli->flags[FLAG_QUEUE] != NULL,
                                              .keep_source = cli->flags[FLAG_KEEP_SOURCE] != NULL};
    const char *to = cli->flags[FLAG_TO], *model = cli->flags[FLAG_MODEL];
    if (!to) {
        fprintf(stderr,
                "slipway reindex: --to NAME says which deployment shall embed from now on (with --model URI it is "
                "made first)\n");
        return EXIT_USAGE;
    }
    if (!read_window(cli, &request.has_rollback_window, &request.rollback_window_s) || !read_conditions(cli, &request))
        return EXIT_USAGE;
    _cleanup_free_ char *uri = model ? cli_make_uri(cli, model) : NULL;
    if (model && !uri) return EXIT_USAGE;
    const struct slipway_deployment_request destination = {.deployment_name = to, .model_uri = uri};
    request.destination = model ? NULL : to;
    request.destination_request = model ? &destination : NULL;
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_reindex(cli->service, cli->arguments[0], &request, &task, &error);
    return finish(cli, cli->arguments[0], result, task, error);
}

int cli_switch(struct cli *cli) {
    struct slipway_switch_options options = {.keep_source = cli->flags[FLAG_KEEP_SOURCE] != NULL};
    if (!read_window(cli, &options.has_rollback_window, &options.rollback_window_s)) return EXIT_USAGE;
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_switch(cli->service, cli->arguments[0], cli->arguments[1], &options, &task, &error);
    return finish(cli, cli->arguments[0], result, task, error);
}

int cli_roll_collection_back(struct cli *cli, const char *collection) {
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_rollback_collection(cli->service, collection, &task, &error);
    return finish(cli, collection, result, task, error);
}
