/* slipway collection create|list|show|delete, slipway indexes, slipway search. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

int cli_collection_create(struct cli *cli) {
    const struct slipway_collection_request request = {.name = cli->arguments[0],
                                                       .deployment = cli->arguments[1],
                                                       .keep_queries = cli->flags[FLAG_KEEP_QUERIES] != NULL,
                                                       .quantized = cli->flags[FLAG_QUANTIZED] != NULL};
    struct slipway_collection *collection = NULL;
    struct slipway_error *error = NULL;
    if (slipway_create_collection(cli->service, &request, &collection, &error) < 0) return cli_fail(cli, error);
    int status = cli_print_collection(cli, collection);
    slipway_collection_free(collection);
    return status;
}

int cli_collection_list(struct cli *cli) {
    static const struct cli_column columns[] = {{"NAME", "name"},
                                                {"DOCUMENTS", "documents"},
                                                {"ENCODER", "blue.deployment"},
                                                {"REVISION", "blue.revision"},
                                                {"DIMENSION", "blue.dimension"},
                                                {"CAN GO BACK TO", "rollback.deployment"}};
    uint64_t limit = 100, offset = 0;
    if (!cli_number(cli, FLAG_LIMIT, UINT64_MAX, &limit) || !cli_number(cli, FLAG_OFFSET, INT64_MAX, &offset))
        return EXIT_USAGE;
    _cleanup_free_ char *path =
        text_format("/v1/collections?limit=%llu&offset=%llu", (unsigned long long)limit, (unsigned long long)offset);
    return cli_show_list(cli, path, columns, ARRAY_SIZE(columns));
}

int cli_collection_show(struct cli *cli) {
    struct slipway_collection *collection = NULL;
    struct slipway_error *error = NULL;
    if (slipway_get_collection(cli->service, cli->arguments[0], &collection, &error) < 0) return cli_fail(cli, error);
    int status = cli_print_collection(cli, collection);
    slipway_collection_free(collection);
    return status;
}

int cli_collection_delete(struct cli *cli) {
    struct slipway_task *task = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_delete_collection(cli->service, cli->arguments[0], &task, &error);
    return cli_finish_task(cli, result, task, error);
}

int cli_indexes(struct cli *cli) {
    static const struct cli_column columns[] = {
        {"INDEX", "index_id"},     {"SET", "set"},           {"STATE", "state"},
        {"ENCODER", "deployment"}, {"REVISION", "revision"}, {"DIMENSION", "dimension"},
        {"ROWS", "rows"},          {"FAILED", "failed"},     {"SEEN", "applied_seq"},
        {"HEAD", "head_seq"},      {"RATE", "rate"}};
    _cleanup_free_ char *name = text_percent_encode(cli->arguments[0], strlen(cli->arguments[0]));
    _cleanup_free_ char *path = text_format("/v1/collections/%s/indexes?limit=1000", name);
    return cli_show_list(cli, path, columns, ARRAY_SIZE(columns));
}

/* ---- search ---- */

static int print_hits(const struct cli *cli, const struct slipway_hits *hits) {
    static const struct cli_column columns[] = {{"SCORE", "score"}, {"ID", "id"}, {"PAYLOAD", "payload"}};
    if (cli->json) {
        cli_print_json(hits->json);
        return EXIT_OK;
    }
    _cleanup_json_ yyjson_doc *document = yyjson_read(hits->json, strlen(hits->json), 0);
    _cleanup_free_ char *array = json_write_value(yyjson_obj_get(yyjson_doc_get_root(document), "hits"), NULL);
    return cli_print_table(cli, array, columns, ARRAY_SIZE(columns) - (cli->flags[FLAG_NO_PAYLOAD] ? 1 : 0));
}

int cli_search(struct cli *cli) {
    uint64_t limit = 0, offset = 0;
    if (!cli_number(cli, FLAG_LIMIT, 1000000, &limit) || !cli_number(cli, FLAG_OFFSET, 1000000, &offset))
        return EXIT_USAGE;
    const char *given = cli->flags[FLAG_FILTER];
    _cleanup_free_ char *filter = given ? cli_read_json(cli, given) : NULL;
    if (given && !filter) return EXIT_USAGE;
    const struct slipway_search_request request = {.query = cli->arguments[1],
                                                   .limit = limit,
                                                   .offset = offset,
                                                   .filter_json = filter,
                                                   .without_payload = cli->flags[FLAG_NO_PAYLOAD] != NULL};
    struct slipway_hits *hits = NULL;
    struct slipway_error *error = NULL;
    int result = cli->flags[FLAG_QUERIES]
                     ? slipway_search_queries(cli->service, cli->arguments[0], &request, &hits, &error)
                     : slipway_search(cli->service, cli->arguments[0], &request, &hits, &error);
    if (result < 0) return cli_fail(cli, error);
    int status = print_hits(cli, hits);
    slipway_hits_free(hits);
    return status;
}
