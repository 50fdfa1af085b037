#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define FLAGS_OF(...)                                                                                                  \
    (const enum cli_flag[]) {                                                                                          \
        __VA_ARGS__                                                                                                    \
    }
#define ROW(name, function, arguments, least, most, summary, ...)                                                      \
    {name,                                                                                                             \
     arguments,                                                                                                        \
     summary,                                                                                                          \
     least,                                                                                                            \
     most,                                                                                                             \
     function,                                                                                                         \
     FLAGS_OF(__VA_ARGS__),                                                                                            \
     sizeof FLAGS_OF(__VA_ARGS__) / sizeof(enum cli_flag)},
#define COMMAND(name, ...) ROW(#name, cli_##name, __VA_ARGS__)
#define SUBCOMMAND(group, name, ...) ROW(#group " " #name, cli_##group##_##name, __VA_ARGS__)
const struct cli_command cli_commands[] = {
#include "cli/commands.def"
};
#undef SUBCOMMAND
#undef COMMAND
#undef ROW
const size_t cli_command_count = ARRAY_SIZE(cli_commands);

/* The connection that flags and environment describe. */
static int open_service(struct cli *cli) {
    const struct slipway_options options = {.url = cli->flags[FLAG_URL],
                                            .token = cli->flags[FLAG_TOKEN],
                                            .ca_file = cli->flags[FLAG_CA],
                                            .certificate_file = cli->flags[FLAG_CLIENT_CERTIFICATE],
                                            .key_file = cli->flags[FLAG_CLIENT_KEY]};
    struct slipway_error *error = NULL;
    if (cli_connect(&options, &cli->service, &error) < 0) return cli_fail(cli, error);
    if (cli->timeout_ms) slipway_set_timeout(cli->service, cli->timeout_ms);
    return EXIT_OK;
}

/* Commands on a state folder ask no service. */
static bool needs_service(const struct cli_command *command) {
    for (size_t i = 0; i < command->flag_count; i++)
        if (command->flags[i] == FLAG_URL) return true;
    return false;
}

int cli_main(int argc, char **argv) {
    struct cli cli = {0};
    const char **arguments = NULL;
    if (argc < 2 || text_equal(argv[1], "help") || text_equal(argv[1], "--help") || text_equal(argv[1], "-h")) {
        cli_print_help();
        return argc < 2 ? EXIT_USAGE : EXIT_OK;
    }
    if (text_equal(argv[1], "--version")) argv[1] = "version";
    if (text_equal(argv[1], "completion")) return cli_completion(argc - 1, argv + 1);
    if (text_equal(argv[1], "__complete")) return cli_complete(argc - 1, argv + 1);
    if (cli_is_group(argv[1]) && (argc < 3 || argv[2][0] == '-')) {
        bool asks = argc > 2 && (text_equal(argv[2], "--help") || text_equal(argv[2], "-h"));
        cli_print_group_help(argv[1]);
        return asks ? EXIT_OK : EXIT_USAGE;
    }
    int status = cli_parse(argc, argv, &cli, &arguments);
    if (status == EXIT_OK && cli.flags[FLAG_HELP]) {
        cli_print_command_help(cli.command);
    } else if (status == EXIT_OK) {
        status = needs_service(cli.command) ? open_service(&cli) : EXIT_OK;
        if (status == EXIT_OK) status = cli.command->run(&cli);
    }
    slipway_close(cli.service);
    free(arguments);
    if (fflush(stdout) != 0 && status == EXIT_OK) {
        perror("slipway: write the result");
        status = EXIT_FAILED;
    }
    return status;
}
