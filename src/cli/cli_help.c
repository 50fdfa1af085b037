#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "cli/cli-internal.h"

static const struct {
    const char *name, *argument, *help;
} flags[FLAG_COUNT] = {
#define FLAG(identifier, name, argument, help) [FLAG_##identifier] = {name, argument, help},
#include "cli/flags.def"
#undef FLAG
};

const char *cli_flag_name(enum cli_flag flag) {
    return flags[flag].name;
}

const char *cli_flag_argument(enum cli_flag flag) {
    return flags[flag].argument;
}

const char *cli_flag_help(enum cli_flag flag) {
    return flags[flag].help;
}

#define LEFT_WIDTH 35

/* "  deploy NAME URI      what it does"; on two lines where the left is too wide. */
static void print_summary(const char *name, const char *arguments, const char *summary) {
    int width = cli_text_width(name) + 1 + cli_text_width(arguments);
    printf("  %s %s%*s%s\n", name, arguments, width < LEFT_WIDTH ? LEFT_WIDTH - width : 1, "", summary);
}

bool cli_is_in_group(const struct cli_command *command, const char *group) {
    size_t length = strlen(group);
    return text_starts_with(command->name, group) && command->name[length] == ' ';
}

void cli_print_group_help(const char *group) {
    printf("usage: slipway %s COMMAND [ARGUMENTS] [FLAGS]\n\n", group);
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = &cli_commands[i];
        if (cli_is_in_group(command, group)) print_summary(command->name, command->arguments, command->summary);
    }
    printf("\n`slipway %s COMMAND --help` says what a command takes.\n", group);
}

void cli_print_help(void) {
    printf(
        "Slipway deploys machine-learning models and replaces them without a failed request; embedding models together\n"
        "with all that was embedded.\n\n"
        "usage: slipway COMMAND [ARGUMENTS] [FLAGS]\n\n");
#define ROLE(name, arguments, summary) print_summary(#name, "", summary);
#include "cli/roles.def"
#undef ROLE
    for (size_t i = 0; i < cli_command_count; i++)
        print_summary(cli_commands[i].name, cli_commands[i].arguments, cli_commands[i].summary);
    printf("\n`slipway COMMAND --help` says what a command takes.\n\nexit status:\n");
#define EXIT(identifier, number, meaning) printf("  %d  %s\n", number, meaning);
#include "cli/exits.def"
#undef EXIT
}

void cli_print_command_help(const struct cli_command *command) {
    printf("usage: slipway %s%s%s [FLAGS]\n\n%s.\n\n", command->name, *command->arguments ? " " : "",
           command->arguments, command->summary);
    for (size_t i = 0; i < command->flag_count; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", flags[command->flags[i]].name,
                 flags[command->flags[i]].argument ? flags[command->flags[i]].argument : "");
        printf("  %-24s %s\n", left, flags[command->flags[i]].help);
    }
}
