#include <stdio.h>

#include "base/memory.h"
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

void cli_print_help(void) {
    printf("Slipway deploys machine-learning models and replaces them without a failed request.\n\n"
           "usage: slipway COMMAND [ARGUMENTS] [FLAGS]\n\n"
           "  serve      run the service in the foreground (`slipway serve --help` lists its settings)\n"
           "  runner     serve one model alone, without the service (`slipway runner --help`)\n");
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = &cli_commands[i];
        printf("  %-10s %s%*s%s\n", command->name, command->arguments, 12 - cli_text_width(command->arguments), "",
               command->summary);
    }
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
