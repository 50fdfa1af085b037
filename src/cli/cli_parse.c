#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define NAMES_MAXIMUM 64

/* Says that there is no such command, and which is meant perhaps. group: NULL, or the first of two words. */
static void say_unknown(const char *group, const char *word) {
    static const char *const others[] = {
        "help",
#define ROLE(name, arguments, summary) #name,
#include "cli/roles.def"
#undef ROLE
    };
    char *names[NAMES_MAXIMUM] = {0};
    size_t count = 0, skipped = group ? strlen(group) + 1 : 0;
    for (size_t i = 0; !group && i < ARRAY_SIZE(others); i++) names[count++] = text_copy(others[i]);
    for (size_t i = 0; i < cli_command_count && count < NAMES_MAXIMUM; i++) {
        const char *name = cli_commands[i].name + skipped;
        if (!group || cli_is_in_group(&cli_commands[i], group))
            names[count++] = text_copy_bytes(name, strcspn(name, " "));
    }
    const char *nearest = text_nearest(word, (const char *const *)names, count);
    fprintf(stderr, "slipway%s%s: there is no command \"%s\"%s%s%s; `slipway %s` lists them\n", group ? " " : "",
            group ? group : "", word, nearest ? ": did you mean " : "", nearest ? nearest : "", nearest ? "?" : "",
            group ? group : "help");
    for (size_t i = 0; i < NAMES_MAXIMUM; i++) free(names[i]);
}

/* The command of argv[1], or of argv[1] and argv[2] where the first is a group's name; NULL after saying that there is
 * none. *ret_words: how many words its name has. */
static const struct cli_command *find_command(int argc, char **argv, int *ret_words) {
    bool is_group = false;
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = &cli_commands[i];
        bool in_group = cli_is_in_group(command, argv[1]);
        is_group = is_group || in_group;
        *ret_words = in_group ? 2 : 1;
        if (in_group ? argc > 2 && text_equal(command->name + strlen(argv[1]) + 1, argv[2])
                     : text_equal(command->name, argv[1]))
            return command;
    }
    say_unknown(is_group ? argv[1] : NULL, is_group ? argv[2] : argv[1]);
    return NULL;
}

bool cli_is_group(const char *word) {
    for (size_t i = 0; i < cli_command_count; i++)
        if (cli_is_in_group(&cli_commands[i], word)) return true;
    return false;
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
    const char *word = text_equal(argv[*at], "-f") ? "--follow" : argv[*at];
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
    if (cli->given_count == CLI_FLAGS_MAXIMUM) {
        fprintf(stderr, "slipway %s: more than %d flags\n", cli->command->name, CLI_FLAGS_MAXIMUM);
        return false;
    }
    cli->given[cli->given_count].flag = flag;
    cli->given[cli->given_count++].value = cli->flags[flag];
    return true;
}

static bool take_words(struct cli *cli, int argc, char **argv, int first, const char **arguments) {
    bool only_arguments = false;
    for (int at = first; at < argc; at++) {
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
    cli->json = text_equal(output, "json") || cli->flags[FLAG_JSON];
    if (timeout && (!text_parse_duration(timeout, &milliseconds) || !milliseconds || milliseconds > 86400000)) {
        fprintf(stderr, "slipway %s: --timeout is a time like 90s or 10m, at most a day, not \"%s\"\n",
                cli->command->name, timeout);
        return false;
    }
    cli->timeout_ms = (uint32_t)milliseconds;
    return true;
}

int cli_parse(int argc, char **argv, struct cli *ret_cli, const char ***ret_arguments) {
    int words = 1;
    ret_cli->command = find_command(argc, argv, &words);
    if (!ret_cli->command) return EXIT_USAGE;
    const char **arguments = mem_new_array((size_t)argc, const char *);
    *ret_arguments = arguments;
    ret_cli->arguments = arguments;
    if (!take_words(ret_cli, argc, argv, 1 + words, arguments) || !check_values(ret_cli)) return EXIT_USAGE;
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
