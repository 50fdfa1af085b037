#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

static const struct cli_command *find_command(const char *name) {
    const char *names[64] = {"serve", "runner", "help"};
    size_t count = 3;
    for (size_t i = 0; i < cli_command_count; i++) {
        if (text_equal(cli_commands[i].name, name)) return &cli_commands[i];
        if (count < ARRAY_SIZE(names)) names[count++] = cli_commands[i].name;
    }
    const char *nearest = text_nearest(name, names, count);
    fprintf(stderr, "slipway: there is no command \"%s\"%s%s%s; `slipway help` lists them\n", name,
            nearest ? ": did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    return NULL;
}

/* The command's flag with that name (which ends at '='), or FLAG_COUNT after saying what is wrong. */
static enum cli_flag find_flag(const struct cli_command *command, const char *word) {
    size_t length = strcspn(word, "=");
    const char *names[FLAG_COUNT];
    for (size_t i = 0; i < command->flag_count; i++) {
        names[i] = cli_flag_name(command->flags[i]);
        if (strlen(names[i]) == length && !memcmp(names[i], word, length)) return command->flags[i];
    }
    _cleanup_free_ char *given = text_copy_bytes(word, length);
    const char *nearest = text_nearest(given, names, command->flag_count);
    fprintf(stderr, "slipway %s: there is no flag %s%s%s%s\n", command->name, given, nearest ? ": did you mean " : "",
            nearest ? nearest : "", nearest ? "?" : "");
    return FLAG_COUNT;
}

/* Reads argv[*at] as a flag with its value, which may be the next word. */
static bool take_flag(struct cli *cli, int argc, char **argv, int *at) {
    const char *word = argv[*at];
    enum cli_flag flag = find_flag(cli->command, word);
    if (flag == FLAG_COUNT) return false;
    const char *value = strchr(word, '=');
    if (!cli_flag_argument(flag)) {
        if (value) fprintf(stderr, "slipway %s: %s takes no value\n", cli->command->name, cli_flag_name(flag));
        cli->flags[flag] = "";
        return !value;
    }
    if (!value && *at + 1 >= argc) {
        fprintf(stderr, "slipway %s: %s needs a value: %s\n", cli->command->name, word, cli_flag_argument(flag));
        return false;
    }
    cli->flags[flag] = value ? value + 1 : argv[++*at];
    return true;
}

static bool take_words(struct cli *cli, int argc, char **argv, const char **arguments) {
    bool only_arguments = false;
    for (int at = 2; at < argc; at++) {
        if (!only_arguments && text_equal(argv[at], "--"))
            only_arguments = true;
        else if (!only_arguments && argv[at][0] == '-' && argv[at][1])
            if (text_equal(argv[at], "-h"))
                cli->flags[FLAG_HELP] = "";
            else if (!take_flag(cli, argc, argv, &at))
                return false;
            else
                continue;
        else
            arguments[cli->argument_count++] = argv[at];
    }
    return true;
}

static bool check_values(struct cli *cli) {
    const char *output = cli->flags[FLAG_OUTPUT], *timeout = cli->flags[FLAG_TIMEOUT];
    uint64_t milliseconds = 0;
    if (output && !text_equal(output, "json") && !text_equal(output, "text")) {
        fprintf(stderr, "slipway %s: --output is text or json, not \"%s\"\n", cli->command->name, output);
        return false;
    }
    cli->json = text_equal(output, "json");
    if (timeout && (!text_parse_duration(timeout, &milliseconds) || !milliseconds || milliseconds > 86400000)) {
        fprintf(stderr, "slipway %s: --timeout is a time like 90s or 10m, at most a day, not \"%s\"\n",
                cli->command->name, timeout);
        return false;
    }
    cli->timeout_ms = (uint32_t)milliseconds;
    return true;
}

int cli_parse(int argc, char **argv, struct cli *ret_cli, const char ***ret_arguments) {
    ret_cli->command = find_command(argv[1]);
    if (!ret_cli->command) return EXIT_USAGE;
    const char **arguments = mem_new_array((size_t)argc, const char *);
    *ret_arguments = arguments;
    ret_cli->arguments = arguments;
    if (!take_words(ret_cli, argc, argv, arguments) || !check_values(ret_cli)) return EXIT_USAGE;
    if (ret_cli->flags[FLAG_HELP]) return EXIT_OK;
    const struct cli_command *command = ret_cli->command;
    if (ret_cli->argument_count >= command->least && ret_cli->argument_count <= command->most) return EXIT_OK;
    fprintf(stderr, "slipway %s: it takes %s; `slipway %s --help` says more\n", command->name,
            *command->arguments ? command->arguments : "no arguments", command->name);
    return EXIT_USAGE;
}

bool cli_number(const struct cli *cli, enum cli_flag flag, uint64_t maximum, uint64_t *ret_number) {
    const char *text = cli->flags[flag];
    if (!text || text_parse_number(text, maximum, ret_number)) return true;
    fprintf(stderr, "slipway %s: %s is a whole number up to %llu, not \"%s\"\n", cli->command->name,
            cli_flag_name(flag), (unsigned long long)maximum, text);
    return false;
}
