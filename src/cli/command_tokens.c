/* slipway token create|list|revoke. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

/* All values of a flag that may be given several times; *ret_count of them, NULL for none. Caller frees. */
static const char **all_values(const struct cli *cli, enum cli_flag flag, size_t *ret_count) {
    *ret_count = 0;
    if (!cli->flags[flag]) return NULL;
    const char **values = mem_new_array(cli->given_count, const char *);
    for (size_t i = 0; i < cli->given_count; i++)
        if (cli->given[i].flag == flag) values[(*ret_count)++] = cli->given[i].value;
    return values;
}

static bool read_rate(const struct cli *cli, double *ret_rate) {
    const char *text = cli->flags[FLAG_RATE];
    if (!text) return true;
    char *end = NULL;
    *ret_rate = strtod(text, &end);
    if (end != text && !*end && *ret_rate > 0) return true;
    fprintf(stderr, "slipway %s: --rate is a number of requests a second above 0, not \"%s\"\n", cli->command->name,
            text);
    return false;
}

static void print_field(const char *title, const char *value) {
    if (value) printf("%-18s %s\n", title, value);
}

/* "a, b"; caller frees. */
static char *join(const char *const *names, size_t count) {
    char *text = text_copy(count ? names[0] : "none");
    for (size_t i = 1; i < count; i++) {
        _cleanup_free_ char *before = text;
        text = text_format("%s, %s", before, names[i]);
    }
    return text;
}

static int print_token(const struct cli *cli, const struct slipway_token *token) {
    if (cli->json) {
        cli_print_json(token->json);
        return EXIT_OK;
    }
    _cleanup_free_ char *deployments = join(token->deployments, token->deployment_count);
    _cleanup_free_ char *collections = join(token->collections, token->collection_count);
    _cleanup_free_ char *rate =
        token->rate > 0 ? text_format("%.15g a second, %u at once", token->rate, (unsigned)token->burst) : NULL;
    print_field("name", token->name);
    print_field("id", token->token_id);
    print_field("role", token->role);
    print_field("deployments", token->is_limited ? deployments : NULL);
    print_field("collections", token->is_limited ? collections : NULL);
    print_field("requests", rate);
    print_field("revoked", token->revoked_at);
    print_field("token", token->token);
    if (token->token) fprintf(stderr, "keep the token now: it is shown this once and stored nowhere\n");
    if (token->detail) fprintf(stderr, "%s\n", token->detail);
    return EXIT_OK;
}

static int finish(struct cli *cli, int result, struct slipway_token *token, struct slipway_error *error) {
    if (result < 0) return cli_fail(cli, error);
    int status = print_token(cli, token);
    slipway_token_free(token);
    return status;
}

int cli_token_create(struct cli *cli) {
    struct slipway_token_request request = {.name = cli->arguments[0], .role = cli->flags[FLAG_ROLE]};
    uint64_t burst = 0;
    if (!request.role) {
        fprintf(stderr, "slipway %s: it needs --role admin, deploy, infer or read\n", cli->command->name);
        return EXIT_USAGE;
    }
    if (!read_rate(cli, &request.rate) || !cli_number(cli, FLAG_BURST, UINT32_MAX, &burst)) return EXIT_USAGE;
    request.burst = (uint32_t)burst;
    _cleanup_free_ const char **deployments = all_values(cli, FLAG_DEPLOYMENT, &request.deployment_count);
    _cleanup_free_ const char **collections = all_values(cli, FLAG_COLLECTION, &request.collection_count);
    request.deployments = deployments;
    request.collections = collections;
    struct slipway_token *token = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_create_token(cli->service, &request, &token, &error);
    return finish(cli, result, token, error);
}

int cli_token_list(struct cli *cli) {
    static const struct cli_column columns[] = {
        {"NAME", "name"}, {"ROLE", "role"},          {"DEPLOYMENTS", "deployments"}, {"COLLECTIONS", "collections"},
        {"RATE", "rate"}, {"CREATED", "created_at"}, {"REVOKED", "revoked_at"},      {"ID", "token_id"}};
    uint64_t limit = 100, offset = 0;
    if (!cli_number(cli, FLAG_LIMIT, UINT64_MAX, &limit) || !cli_number(cli, FLAG_OFFSET, INT64_MAX, &offset))
        return EXIT_USAGE;
    _cleanup_free_ char *path =
        text_format("/v1/tokens?limit=%llu&offset=%llu", (unsigned long long)limit, (unsigned long long)offset);
    return cli_show_list(cli, path, columns, ARRAY_SIZE(columns));
}

int cli_token_revoke(struct cli *cli) {
    struct slipway_token *token = NULL;
    struct slipway_error *error = NULL;
    int result = slipway_revoke_token(cli->service, cli->arguments[0], &token, &error);
    return finish(cli, result, token, error);
}
