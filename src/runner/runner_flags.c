#include "runner/runner_flags-internal.h"

#include <stddef.h>
#include <string.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

enum flag_kind { FLAG_KIND_TEXT, FLAG_KIND_NUMBER, FLAG_KIND_SIZE, FLAG_KIND_SWITCH };

static const struct flag {
    const char *name, *initial, *value, *help;
    enum flag_kind kind;
    int64_t minimum, maximum;
    size_t offset;
} flags_table[] = {
#define FLAG(kind, field, flag, initial, minimum, maximum, value, help)                                                \
    {flag, initial, value, help, FLAG_KIND_##kind, minimum, maximum, offsetof(struct runner_flags, field)},
#include "runner/runner_flags.def"
#undef FLAG
};

static const struct flag *find_flag(const char *name, size_t size) {
    for (size_t i = 0; i < ARRAY_SIZE(flags_table); i++)
        if (strlen(flags_table[i].name) == size && !memcmp(flags_table[i].name, name, size)) return &flags_table[i];
    return NULL;
}

static bool set_number(const struct flag *flag, const char *text, uint64_t *number) {
    bool parsed = flag->kind == FLAG_KIND_SIZE ? text_parse_size(text, number)
                                               : text_parse_number(text, (uint64_t)flag->maximum, number);
    return parsed && *number >= (uint64_t)flag->minimum && *number <= (uint64_t)flag->maximum;
}

static int set_flag(const struct flag *flag, const char *text, struct runner_flags *flags, struct error **ret_error) {
    void *field = (char *)flags + flag->offset;
    switch (flag->kind) {
    case FLAG_KIND_TEXT:
        *(const char **)field = text;
        if (!text || (strlen(text) >= (size_t)flag->minimum && strlen(text) <= (size_t)flag->maximum)) return 0;
        return error_set(ret_error, ERROR_CONFIGURATION, "--%s needs %lld to %lld characters", flag->name,
                         (long long)flag->minimum, (long long)flag->maximum);
    case FLAG_KIND_SWITCH:
        *(bool *)field = text_equal(text, "on");
        if (text_equal(text, "on") || text_equal(text, "off")) return 0;
        return error_set(ret_error, ERROR_CONFIGURATION, "--%s must be on or off, not %.100s", flag->name, text);
    default:
        if (set_number(flag, text, field)) return 0;
        return error_set(ret_error, ERROR_CONFIGURATION, "--%s must be a whole number from %lld to %lld, not %.100s",
                         flag->name, (long long)flag->minimum, (long long)flag->maximum, text);
    }
}

static int unknown_flag(const char *word, struct error **ret_error) {
    const char *names[ARRAY_SIZE(flags_table)];
    for (size_t i = 0; i < ARRAY_SIZE(flags_table); i++) names[i] = flags_table[i].name;
    bool is_flag = text_starts_with(word, "--");
    _cleanup_free_ char *name = text_copy(is_flag ? word + 2 : word);
    name[strcspn(name, "=")] = 0;
    const char *nearest = text_nearest(name, names, ARRAY_SIZE(names));
    return error_set(ret_error, ERROR_CONFIGURATION, "there is no flag %.100s%s%s%s", word,
                     nearest ? "; did you mean --" : "", nearest ? nearest : "", nearest ? "?" : "");
}

/* Where requests come from and who may ask: exactly one of the two ways of running. */
static int check_flags(const struct runner_flags *flags, struct error **ret_error) {
    enum log_level level;
    enum log_format format;
    if (!flags->model) return error_set(ret_error, ERROR_CONFIGURATION, "--model is missing: name the model's folder");
    if (flags->supervisor_descriptor && (flags->listen || !flags->socket))
        return error_set(ret_error, ERROR_CONFIGURATION, "with --supervisor-fd comes --socket, not --listen");
    if (flags->supervisor_descriptor && !flags->sandbox)
        return error_set(ret_error, ERROR_CONFIGURATION, "--sandbox off is for a runner that runs alone");
    if (!flags->supervisor_descriptor && (!flags->listen || flags->socket))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "--listen is missing: say where to answer, such as 127.0.0.1:9000");
    if (!log_parse_level(flags->log_level, &level))
        return error_set(ret_error, ERROR_CONFIGURATION, "--log-level must be debug, info, warning or error, not %s",
                         flags->log_level);
    if (!log_parse_format(flags->log_format, &format))
        return error_set(ret_error, ERROR_CONFIGURATION, "--log-format must be text or json, not %s",
                         flags->log_format);
    if (flags->name && !text_is_name(flags->name))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "--name must begin with a letter or digit and go on with those or '.', '_', '-'");
    if (flags->package_digest && strspn(flags->package_digest, "0123456789abcdef") != 64)
        return error_set(ret_error, ERROR_CONFIGURATION, "--package-digest must be 64 lower-case hexadecimal digits");
    return 0;
}

int runner_flags_parse(int argc, char **argv, struct runner_flags *ret_flags, struct error **ret_error) {
    struct runner_flags flags = {0};
    int result = 0;
    for (size_t i = 0; result == 0 && i < ARRAY_SIZE(flags_table); i++)
        if (flags_table[i].initial) result = set_flag(&flags_table[i], flags_table[i].initial, &flags, ret_error);
    for (int i = 1; result == 0 && i < argc; i++) {
        const char *word = argv[i];
        if (text_equal(word, "--help") || text_equal(word, "-h")) {
            *ret_flags = (struct runner_flags){.help = true};
            return 0;
        }
        size_t size = strcspn(word, "=");
        const struct flag *flag = text_starts_with(word, "--") ? find_flag(word + 2, size - 2) : NULL;
        if (!flag) return unknown_flag(word, ret_error);
        const char *value = word[size] ? word + size + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value)
            return error_set(ret_error, ERROR_CONFIGURATION, "--%s needs a value (%s)", flag->name, flag->value);
        result = set_flag(flag, value, &flags, ret_error);
    }
    if (result == 0) result = check_flags(&flags, ret_error);
    if (result == 0) *ret_flags = flags;
    return result;
}

char *runner_flags_help(void) {
    struct buffer text = {0};
    buffer_append_text(&text, "slipway runner --model DIR --listen ADDR [flags]\n\n"
                              "Serves one model folder: the Open Inference Protocol at /v2 and, for embedding models,\n"
                              "OpenAI-compatible embeddings at /v1/embeddings.\n\n");
    for (size_t i = 0; i < ARRAY_SIZE(flags_table); i++) {
        const struct flag *flag = &flags_table[i];
        _cleanup_free_ char *left = text_format("--%s %s", flag->name, flag->value);
        buffer_append_format(&text, "  %-26s %s", left, flag->help);
        buffer_append_format(&text, flag->initial && *flag->initial ? " (%s)\n" : "\n", flag->initial);
    }
    buffer_append_text(
        &text, "\nExit status: 0 ended as asked, 2 a wrong flag, 3 the model cannot be served, 4 trying again may "
               "help.\n");
    return buffer_take(&text, NULL);
}
