/* The command line of `serve`, with what stands behind it: settings file, environment, flags, in rising precedence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

static const struct {
    int status;
    const char *meaning;
} exits[] = {
#define SERVE_EXIT(constant, status, meaning) {status, meaning},
#include "supervisor/exits.def"
#undef SERVE_EXIT
};

static void print_bounds(const struct setting *setting) {
    if (*setting->initial) printf(" [%s]", setting->initial);
    printf("\n");
}

static void print_help(void) {
    printf("Usage: slipway serve [--settings FILE] [--NAME VALUE]...\n"
           "\n"
           "Runs the service in the foreground until SIGTERM or Ctrl-C. Each setting is a flag, a variable\n"
           "(--memory-budget: SLIPWAY_MEMORY_BUDGET) and a line of the settings file (memory_budget = 2Gi);\n"
           "flags come before variables, variables before the file. Defaults stand in brackets.\n"
           "\n"
           "  --settings FILE\n      settings file; also SLIPWAY_SETTINGS\n");
    for (size_t i = 0; i < settings_count; i++) {
        printf("  --");
        for (const char *at = settings_table[i].name; *at; at++) putchar(*at == '_' ? '-' : *at);
        printf(" VALUE\n      %s", settings_table[i].help);
        print_bounds(&settings_table[i]);
    }
    printf("\nExit status:\n");
    for (size_t i = 0; i < ARRAY_SIZE(exits); i++) printf("  %3d  %s\n", exits[i].status, exits[i].meaning);
}

/* One flag as name and value: "--drain=45s" or "--drain" "45s". *at moves on to the last argument used. */
static int take_flag(int argc, char **argv, int *at, char **ret_name, const char **ret_value,
                     struct error **ret_error) {
    const char *flag = argv[*at];
    if (!text_starts_with(flag, "--") || !flag[2])
        return error_set(ret_error, ERROR_CONFIGURATION, "\"%.100s\" is not a flag; see slipway serve --help", flag);
    const char *equals = strchr(flag, '=');
    _cleanup_free_ char *name = equals ? text_copy_bytes(flag + 2, (size_t)(equals - flag) - 2) : text_copy(flag + 2);
    if (!equals && *at + 1 >= argc)
        return error_set(ret_error, ERROR_CONFIGURATION, "--%.100s needs a value; see slipway serve --help", name);
    *ret_value = equals ? equals + 1 : argv[++*at];
    *ret_name = TAKE(name);
    return 0;
}

/* Where the settings file is named: the last --settings, or the variable. */
static int find_file(int argc, char **argv, const char **ret_path, struct error **ret_error) {
    *ret_path = getenv("SLIPWAY_SETTINGS");
    for (int i = 1; i < argc; i++) {
        _cleanup_free_ char *name = NULL;
        const char *value;
        int result = take_flag(argc, argv, &i, &name, &value, ret_error);
        if (result) return result;
        if (!strcmp(name, "settings")) *ret_path = value;
    }
    return 0;
}

static int set_flags(struct settings *settings, int argc, char **argv, struct error **ret_error) {
    for (int i = 1; i < argc; i++) {
        _cleanup_free_ char *name = NULL;
        const char *value;
        int result = take_flag(argc, argv, &i, &name, &value, ret_error);
        if (!result && strcmp(name, "settings")) {
            result = settings_set(settings, name, value, ret_error);
            if (result) error_wrap(ret_error, "flag --%s", name);
        }
        if (result) return result;
    }
    return 0;
}

int options_read(struct settings *settings, int argc, char **argv, struct error **ret_error) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return print_help(), 1;
    const char *path = NULL;
    int result = find_file(argc, argv, &path, ret_error);
    if (!result && path && *path) result = settings_read_file(settings, path, ret_error);
    if (!result) result = settings_read_environment(settings, environ, ret_error);
    if (!result) result = set_flags(settings, argc, argv, ret_error);
    if (!result) result = settings_check(settings, ret_error);
    return result;
}
