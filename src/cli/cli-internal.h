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

#define CLI_FLAGS_MAXIMUM 4096 /* with a value, in one command line */

struct cli {
    const struct cli_command *command;
    const char *const *arguments; /* behind the command's name, without flags */
    size_t argument_count;
    const char *flags[FLAG_COUNT]; /* the value, "" for a switch that is on, NULL when it was not given */
    struct {
        enum cli_flag flag;
        const char *value;
    } given[CLI_FLAGS_MAXIMUM]; /* those with a value in their order, also the earlier ones of several of one name */
    size_t given_count;
    bool json; /* --output json */
    uint32_t timeout_ms; /* 0: not given */
    struct slipway *service;
};

struct cli_command {
    const char *name; /* "deploy"; of a group's: "collection create" */
    const char *arguments, *summary;
    size_t least, most;
    int (*run)(struct cli *cli);
    const enum cli_flag *flags;
    size_t flag_count;
};

extern const struct cli_command cli_commands[];
extern const size_t cli_command_count;
#define COMMAND(name, ...) int cli_##name(struct cli *cli);
#define SUBCOMMAND(group, name, ...) int cli_##group##_##name(struct cli *cli);
#include "cli/commands.def"
#undef SUBCOMMAND
#undef COMMAND

/* cli_parse.c: EXIT_OK, or EXIT_USAGE after saying on stderr what is wrong. *ret_arguments is freed by the caller. */
int cli_parse(int argc, char **argv, struct cli *ret_cli, const char ***ret_arguments);
/* Whether the word is the first of commands that have two ("collection"). */
bool cli_is_group(const char *word);
/* A whole number from a flag; false after saying what is wrong. *ret_number stays when the flag was not given. */
bool cli_number(const struct cli *cli, enum cli_flag flag, uint64_t maximum, uint64_t *ret_number);

/* cli_completion.c, cli_complete.c: `completion SHELL` and `__complete WORD…`; argv[0] is the word itself. */
int cli_completion(int argc, char **argv);
int cli_complete(int argc, char **argv);

/* cli_connect.c: opens what the flags say, or else SLIPWAY_URL, _TOKEN, _CA, _CERT and _KEY, or else the control socket
 * of the state folder here (SLIPWAY_STATE, slipway-state). */
int cli_connect(const struct slipway_options *given, struct slipway **ret_service, struct slipway_error **ret_error);

/* cli_help.c */
void cli_print_help(void);
void cli_print_command_help(const struct cli_command *command);
void cli_print_group_help(const char *group);
/* Whether the command is one of that group: its name begins with the group's and a space. */
bool cli_is_in_group(const struct cli_command *command, const char *group);
const char *cli_flag_name(enum cli_flag flag);
const char *cli_flag_argument(enum cli_flag flag); /* NULL: a switch */
const char *cli_flag_help(enum cli_flag flag);

/* cli_output.c */
/* Says the error on stderr (as JSON with --output json), frees it, and gives the exit status of its class. */
int cli_fail(const struct cli *cli, struct slipway_error *error);
int cli_print_deployment(const struct cli *cli, const struct slipway_deployment *deployment);
int cli_print_task(const struct cli *cli, const struct slipway_task *task);
int cli_print_collection(const struct cli *cli, const struct slipway_collection *collection);
void cli_print_json(const char *json);

struct cli_column {
    const char *title, *field; /* field: a dotted path in each element */
};
/* The columns of a terminal that a text takes; continuation bytes of UTF-8 take none. */
int cli_text_width(const char *text);
/* A JSON array as a table (or as it is with --output json). */
int cli_print_table(const struct cli *cli, const char *json, const struct cli_column *columns, size_t count);

/* GET path and show it as a table; says on stderr how many more there are. */
int cli_show_list(struct cli *cli, const char *path, const struct cli_column *columns, size_t count);

/* command_show.c: "limit=…&offset=…" and what the flags filter by, each percent-encoded; NULL after saying what is
 * wrong. Caller frees. */
char *cli_query(struct cli *cli);

/* cli_input.c: what arguments name; caller frees; NULL after saying what is wrong. */
/* The JSON that an argument names: itself, the file behind "@", or stdin for "-". */
char *cli_read_json(const struct cli *cli, const char *argument);
/* The URI to send: a path here becomes an absolute file URI, a URI stays as it is. */
char *cli_make_uri(const struct cli *cli, const char *given);

/* cli_progress.c: on stderr, a line that changes (a terminal) or lines (otherwise). */
struct cli_progress {
    bool is_terminal, has_color, has_line;
    char *last; /* the line that was shown last */
};
void cli_progress_begin(const struct cli *cli, struct cli_progress *ret_progress);
void cli_progress_show(struct cli_progress *progress, const char *line);
void cli_progress_end(struct cli_progress *progress);
/* " [######      ] 43 %", elsewhere than on a terminal " 40 %" in steps of ten; "" while nothing is known; caller
 * frees.
 */
char *cli_progress_bar(const struct cli_progress *progress, int64_t done, int64_t total);
/* "47 s", "3 min 20 s", "2 h 5 min"; caller frees. */
char *cli_duration(double seconds);
/* Waits with progress for a deployment; shows the result; the exit status. */
int cli_wait_and_print(struct cli *cli, const char *name, bool until_gone);

/* cli_wait_task.c: waits with progress until the task is finished, as long as --timeout says (not given: without an
 * end). EXIT_OK when it ended `done`; otherwise the exit status, after saying what is wrong. With --output json the
 * finished task is printed, whatever its status. */
int cli_wait_for_task(struct cli *cli, const char *task_id);
/* What an operation that was begun ends with: with --wait the end of its task, else the task as it is. Takes the task
 * or the error. */
int cli_finish_task(struct cli *cli, int result, struct slipway_task *task, struct slipway_error *error);
/* command_reindex.c: `slipway rollback --collection`. */
int cli_roll_collection_back(struct cli *cli, const char *collection);
