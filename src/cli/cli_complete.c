/* `slipway __complete WORD…`: what could stand for the last word, for the shells' scripts (cli_completion.c).
 *
 * Each line is a word, a tab and what it means; ":files" says that the shell shall offer files as well. What an
 * argument may be follows from what the tables call it: "bash|zsh|fish" are the words themselves, URI a file,
 * COLLECTION one that the service has. It is asked briefly, and nothing is said where it does not answer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/settings.h"
#include "base/text.h"
#include "cli/cli-internal.h"

#define PATIENCE_MS 1000
#define NAMES_MAXIMUM 1000

struct line {
    char *const *words; /* behind "slipway", before the current one */
    size_t count;
    const char *current;
    const char *collection_group; /* "collection": there, NAME is a collection's */
};

static void offer(const struct line *line, const char *word, const char *help) {
    if (text_starts_with(word, line->current)) printf("%s\t%s\n", word, help);
}

/* ---- what the service has ---------------------------------------------------- */

static const char *value_of(const struct line *line, enum cli_flag flag) {
    for (size_t i = 0; i + 1 < line->count; i++)
        if (text_equal(line->words[i], cli_flag_name(flag))) return line->words[i + 1];
    return NULL;
}

static struct slipway *open_service(const struct line *line) {
    const struct slipway_options options = {.url = value_of(line, FLAG_URL),
                                            .token = value_of(line, FLAG_TOKEN),
                                            .ca_file = value_of(line, FLAG_CA),
                                            .certificate_file = value_of(line, FLAG_CLIENT_CERTIFICATE),
                                            .key_file = value_of(line, FLAG_CLIENT_KEY)};
    struct slipway *service = NULL;
    if (cli_connect(&options, &service, NULL)) return NULL;
    slipway_set_timeout(service, PATIENCE_MS);
    return service;
}

static void offer_deployments(const struct line *line) {
    struct slipway *service = open_service(line);
    struct slipway_deployment_list *list = NULL;
    if (service && slipway_list_deployments(service, NAMES_MAXIMUM, 0, NULL, &list, NULL) == 0)
        for (size_t i = 0; i < list->count; i++)
            if (!text_equal(list->deployments[i]->status, "inactive"))
                offer(line, list->deployments[i]->deployment_name, list->deployments[i]->status);
    slipway_deployment_list_free(list);
    slipway_close(service);
}

static void offer_collections(const struct line *line) {
    struct slipway *service = open_service(line);
    struct slipway_collection_list *list = NULL;
    if (service && slipway_list_collections(service, NAMES_MAXIMUM, 0, &list, NULL) == 0)
        for (size_t i = 0; i < list->count; i++) offer(line, list->collections[i]->name, "collection");
    slipway_collection_list_free(list);
    slipway_close(service);
}

/* ---- values by what the tables call them -------------------------------------- */

static void offer_statuses(const struct line *line) {
    bool of_tasks = line->count && text_equal(line->words[0], "tasks");
#define DEPLOYMENT_STATUS(constant, name)                                                                              \
    if (!of_tasks) offer(line, name, "status of a deployment");
#define TASK_STATUS(constant, name, finished)                                                                          \
    if (of_tasks) offer(line, name, "status of a task");
#include "controller/statuses.def"
#undef DEPLOYMENT_STATUS
#undef TASK_STATUS
}

/* A second way to end a task of kind retire has a name only in its table. */
static void offer_kinds(const struct line *line) {
#define KIND(name, ...)                                                                                                \
    if (!text_equal(#name, "retire_index")) offer(line, #name, "kind of task");
#include "controller/steps.def"
#undef KIND
}

/* "bash|zsh|fish" */
static void offer_words(const struct line *line, const char *words) {
    for (const char *at = words; *at; at += strcspn(at, "|"), at += *at == '|') {
        _cleanup_free_ char *word = text_copy_bytes(at, strcspn(at, "|"));
        offer(line, word, "");
    }
}

static void offer_values(const struct line *line, const char *placeholder) {
    static const char *const files[] = {"URI", "FILE", "DIR", "PATH", "DEST", "BACKUP"};
    if (strchr(placeholder, '|')) offer_words(line, placeholder);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++)
        if (text_equal(placeholder, files[i])) printf(":files\n");
    bool is_name = text_equal(placeholder, "NAME");
    if (text_equal(placeholder, "COLLECTION") || (is_name && line->collection_group))
        offer_collections(line);
    else if (text_equal(placeholder, "DEPLOYMENT") || is_name)
        offer_deployments(line);
    else if (text_equal(placeholder, "STATUS"))
        offer_statuses(line);
    else if (text_equal(placeholder, "KIND"))
        offer_kinds(line);
}

/* The placeholder of the argument at that place, of "COLLECTION ID…" or "NAME [URI]"; the last repeats when it says so.
 * NULL when there is none. Caller frees. */
static char *placeholder_at(const char *arguments, size_t place) {
    for (const char *at = arguments; *at; at += strcspn(at, " "), at += *at == ' ') {
        size_t length = strcspn(at, " ");
        bool repeats = length > 3 && !strncmp(at + length - strlen("…"), "…", strlen("…"));
        if (place > 0 && !repeats) {
            place--;
            continue;
        }
        if (repeats) length -= strlen("…");
        if (*at == '[' && length > 2) at++, length -= 2;
        return text_copy_bytes(at, length);
    }
    return NULL;
}

/* ---- a command of the table ----------------------------------------------------- */

static const char *value_wanted(const struct cli_command *command, const char *word) {
    for (size_t i = 0; i < command->flag_count; i++)
        if (text_equal(cli_flag_name(command->flags[i]), word)) return cli_flag_argument(command->flags[i]);
    return NULL;
}

static void complete_command(const struct line *line, const struct cli_command *command, size_t first) {
    size_t place = 0;
    for (size_t i = first; i < line->count; i++) {
        const char *wanted = value_wanted(command, line->words[i]);
        if (wanted && i + 1 == line->count) return offer_values(line, wanted);
        if (wanted)
            i++;
        else if (line->words[i][0] != '-')
            place++;
    }
    _cleanup_free_ char *placeholder = placeholder_at(command->arguments, place);
    if (*line->current == '-' || !placeholder)
        for (size_t i = 0; i < command->flag_count; i++)
            offer(line, cli_flag_name(command->flags[i]), cli_flag_help(command->flags[i]));
    else
        offer_values(line, placeholder);
}

/* ---- the roles, whose flags all take a value ------------------------------------ */

static bool asks_for_value_of(const struct line *line, const char *flag) {
    return line->count > 1 && text_equal(line->words[line->count - 1], flag);
}

static char *flag_of(const struct setting *setting) {
    char *flag = text_format("--%s", setting->name);
    for (char *at = flag; *at; at++)
        if (*at == '_') *at = '-';
    return flag;
}

static void complete_serve(const struct line *line) {
    if (asks_for_value_of(line, "--settings")) {
        printf(":files\n");
        return;
    }
    for (size_t i = 0; i < settings_count; i++) {
        _cleanup_free_ char *flag = flag_of(&settings_table[i]);
        if (!asks_for_value_of(line, flag)) continue;
        if (settings_table[i].kind == SETTING_KIND_BOOLEAN) offer_words(line, "true|false");
        if (settings_table[i].kind == SETTING_KIND_TEXT) printf(":files\n");
        return;
    }
    offer(line, "--settings", "settings file");
    for (size_t i = 0; i < settings_count; i++) {
        _cleanup_free_ char *flag = flag_of(&settings_table[i]);
        offer(line, flag, settings_table[i].help);
    }
}

static void complete_runner(const struct line *line) {
    static const struct {
        const char *flag, *value, *help;
    } flags[] = {
#define FLAG(kind, field, flag, initial, minimum, maximum, value, help) {"--" flag, value, help},
#include "runner/runner_flags.def"
#undef FLAG
    };
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
        if (asks_for_value_of(line, flags[i].flag)) return offer_values(line, flags[i].value);
    for (size_t i = 0; i < ARRAY_SIZE(flags); i++) offer(line, flags[i].flag, flags[i].help);
}

/* ---- the first words ------------------------------------------------------------ */

static void offer_commands(const struct line *line) {
#define ROLE(name, arguments, summary) offer(line, #name, summary);
#include "cli/roles.def"
#undef ROLE
    const char *before = "";
    for (size_t i = 0; i < cli_command_count; i++) {
        const char *name = cli_commands[i].name;
        _cleanup_free_ char *group = text_copy_bytes(name, strcspn(name, " "));
        if (!cli_is_group(group))
            offer(line, name, cli_commands[i].summary);
        else if (!text_starts_with(before, group))
            offer(line, group, "several commands");
        before = name;
    }
    offer(line, "help", "list the commands");
}

static void offer_group(const struct line *line, const char *group) {
    for (size_t i = 0; i < cli_command_count; i++)
        if (cli_is_in_group(&cli_commands[i], group))
            offer(line, cli_commands[i].name + strlen(group) + 1, cli_commands[i].summary);
}

static void complete(struct line *line) {
    if (!line->count) return offer_commands(line);
    const char *first = line->words[0];
    bool is_group = cli_is_group(first);
    if (is_group && line->count == 1) return offer_group(line, first);
    if (text_equal(first, "collection")) line->collection_group = first;
    if (text_equal(first, "serve")) return complete_serve(line);
    if (text_equal(first, "runner")) return complete_runner(line);
    if (text_equal(first, "completion")) return offer_words(line, "bash|zsh|fish");
    for (size_t i = 0; i < cli_command_count; i++) {
        const struct cli_command *command = &cli_commands[i];
        if (is_group ? cli_is_in_group(command, first) && text_equal(command->name + strlen(first) + 1, line->words[1])
                     : text_equal(command->name, first))
            return complete_command(line, command, is_group ? 2 : 1);
    }
}

int cli_complete(int argc, char **argv) {
    /* "--output=js" is one word in some shells, three in others: here two. */
    char **words = mem_new_array((size_t)argc * 2 + 1, char *);
    size_t count = 0;
    for (int i = 1; i < argc; i++) {
        char *equals = argv[i][0] == '-' ? strchr(argv[i], '=') : NULL;
        if (equals) {
            *equals = 0;
            words[count++] = argv[i];
            words[count++] = equals + 1;
        } else if (!text_equal(argv[i], "=")) {
            words[count++] = argv[i];
        } else if (i + 1 == argc) {
            words[count++] = argv[i] + 1;
        }
    }
    if (count) {
        struct line line = {.words = words, .count = count - 1, .current = words[count - 1]};
        complete(&line);
    }
    free(words);
    return fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}
