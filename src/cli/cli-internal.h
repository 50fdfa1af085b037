/* What the commands share: the parsed command line, the connection, and how results and errors are shown. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "slipway.h"

enum cli_flag {
#define FLAG(identifier, name, argument, help) FLAG_##identifier,
#include "cli/flags.def"
#undef FLAG
    FLAG_COUNT
};

enum cli_exit {
#define EXIT(identifier, number, meaning) EXIT_##identifier = number,
#include "cli/exits.def"
#undef EXIT
};

struct cli {
    const struct cli_command *command;
    const char *const *arguments; /* behind the command's name, without flags */
    size_t argument_count;
    const char *flags[FLAG_COUNT]; /* the value, "" for a switch that is on, NULL when it was not given */
    bool json; /* --output json */
    uint32_t timeout_ms; /* 0: not given */
    struct slipway *service;
};

struct cli_command {
    const char *name, *arguments, *summary;
    size_t least, most;
    int (*run)(struct cli *cli);
    const enum cli_flag *flags;
    size_t flag_count;
};

extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;
#define COMMAND(name, ...) int cli_##name(struct cli *cli);
#include "cli/commands.def"
#undef COMMAND

/* cli_parse.c: EXIT_OK, or EXIT_USAGE after saying on stderr what is wrong. *ret_arguments is freed by the caller. */
int cli_parse(int argc, char **argv, struct cli *ret_cli, const char ***ret_arguments);
/* A whole number from a flag; false after saying what is wrong. *ret_number stays when the flag was not given. */
bool cli_number(const struct cli *cli, enum cli_flag flag, uint64_t maximum, uint64_t *ret_number);

/* cli_help.c */
void cli_print_help(void);
void cli_print_command_help(const struct cli_command *command);
const char *cli_flag_name(enum cli_flag flag);
const char *cli_flag_argument(enum cli_flag flag); /* NULL: a switch */

/* cli_output.c */
/* Says the error on stderr (as JSON with --output json), frees it, and gives the exit status of its class. */
int cli_fail(const struct cli *cli, struct slipway_error *error);
int cli_print_deployment(const struct cli *cli, const struct slipway_deployment *deployment);
void cli_print_json(const char *json);

struct cli_column {
    const char *title, *field; /* field: a dotted path in each element */
};
/* The columns of a terminal that a text takes; continuation bytes of UTF-8 take none. */
int cli_text_width(const char *text);
/* A JSON array as a table (or as it is with --output json). */
int cli_print_table(const struct cli *cli, const char *json, const struct cli_column *columns, size_t count);

/* cli_progress.c: waits with a bar (a terminal) or lines (otherwise) on stderr; shows the result; the exit status. */
int cli_wait_and_print(struct cli *cli, const char *name, bool until_gone);
