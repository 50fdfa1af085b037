/* The table and what is made of it. The file has its own small reader: the usual ini library, as Debian builds it, cuts
 * lines at 200 bytes, takes an indented line for more of the line before, and strips what follows a ';' in a value,
 * each without a word; a token or a list of folders would be changed silently. */
#include "base/settings.h"

#include <inttypes.h>
#include <string.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"

#define FILE_MAXIMUM (1024 * 1024)
#define NAME_MAXIMUM 64

const struct setting settings_table[] = {
#define SETTING(kind_, when_, name_, initial_, minimum_, maximum_, help_)                                              \
    {.name = #name_,                                                                                                   \
     .initial = initial_,                                                                                              \
     .help = help_,                                                                                                    \
     .kind = SETTING_KIND_##kind_,                                                                                     \
     .when = SETTING_WHEN_##when_,                                                                                     \
     .minimum = minimum_,                                                                                              \
     .maximum = maximum_,                                                                                              \
     .offset = offsetof(struct settings, SETTING_FIELD_##kind_(name_))},
#include "base/settings.def"
#undef SETTING
};
const size_t settings_count = ARRAY_SIZE(settings_table);

static void *field_of(const struct settings *settings, const struct setting *setting) {
    return (char *)settings + setting->offset;
}

/* ---- values ---- */

static int refuse(struct error **ret_error, const struct setting *setting, const char *value, const char *wanted) {
    return error_set(ret_error, ERROR_CONFIGURATION, "setting %s: \"%.100s\" is not %s", setting->name, value, wanted);
}

static int refuse_bounds(struct error **ret_error, const struct setting *setting, const char *value) {
    if (setting->kind == SETTING_KIND_DURATION)
        return error_set(ret_error, ERROR_CONFIGURATION, "setting %s: %s is outside of %" PRId64 "ms to %" PRId64 "ms",
                         setting->name, value, setting->minimum, setting->maximum);
    return error_set(ret_error, ERROR_CONFIGURATION, "setting %s: %s is outside of %" PRId64 " to %" PRId64,
                     setting->name, value, setting->minimum, setting->maximum);
}

static bool has_control_characters(const char *value) {
    for (const unsigned char *at = (const unsigned char *)value; *at; at++)
        if (*at < ' ' || *at == 0x7f) return true;
    return false;
}

static int set_text(struct settings *settings, const struct setting *setting, const char *value,
                    struct error **ret_error) {
    size_t length = strlen(value);
    if (!text_is_utf8(value, length) || has_control_characters(value))
        return error_set(ret_error, ERROR_CONFIGURATION, "setting %s: the value is not plain UTF-8 text",
                         setting->name);
    if (length < (uint64_t)setting->minimum || length > (uint64_t)setting->maximum)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting %s: the value has %zu bytes, outside of %" PRId64 " to %" PRId64, setting->name,
                         length, setting->minimum, setting->maximum);
    char **field = field_of(settings, setting);
    char *copy = text_copy(value);
    free(*field);
    *field = copy;
    return 0;
}

static int set_boolean(struct settings *settings, const struct setting *setting, const char *value,
                       struct error **ret_error) {
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (strcmp(value, words[i])) continue;
        *(bool *)field_of(settings, setting) = i % 2;
        return 0;
    }
    return refuse(ret_error, setting, value, "true or false");
}

/* Sizes without a suffix are read as whole numbers: all 63 bits of them count. */
static int set_number(struct settings *settings, const struct setting *setting, const char *value,
                      struct error **ret_error) {
    uint64_t number = 0;
    if (setting->kind == SETTING_KIND_DURATION) {
        if (!text_parse_duration(value, &number))
            return refuse(ret_error, setting, value, "a duration like 30s, 5m or 250ms");
    } else if (setting->kind == SETTING_KIND_SIZE) {
        if (!text_parse_number(value, INT64_MAX, &number) && !text_parse_size(value, &number))
            return refuse(ret_error, setting, value, "a size in bytes like 65536, 512Ki or 2Gi");
    } else if (!text_parse_number(value, INT64_MAX, &number)) {
        return refuse(ret_error, setting, value, "a whole number");
    }
    if (number > INT64_MAX || (int64_t)number < setting->minimum || (int64_t)number > setting->maximum)
        return refuse_bounds(ret_error, setting, value);
    *(uint64_t *)field_of(settings, setting) = number;
    return 0;
}

static int set_value(struct settings *settings, const struct setting *setting, const char *value,
                     struct error **ret_error) {
    switch (setting->kind) {
    case SETTING_KIND_TEXT: return set_text(settings, setting, value, ret_error);
    case SETTING_KIND_BOOLEAN: return set_boolean(settings, setting, value, ret_error);
    default: return set_number(settings, setting, value, ret_error);
    }
}

/* The longest unit that keeps it whole: 30s, 5m, 250ms. */
static char *duration_text(uint64_t ms) {
    static const struct {
        const char *suffix;
        uint64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};
    for (size_t i = 0; ms && i < ARRAY_SIZE(units); i++)
        if (ms % units[i].ms == 0) return text_format("%" PRIu64 "%s", ms / units[i].ms, units[i].suffix);
    return text_format("%" PRIu64 "ms", ms);
}

char *settings_value(const struct settings *settings, const struct setting *setting) {
    const void *field = field_of(settings, setting);
    switch (setting->kind) {
    case SETTING_KIND_TEXT: return text_copy(*(char *const *)field);
    case SETTING_KIND_BOOLEAN: return text_copy(*(const bool *)field ? "true" : "false");
    case SETTING_KIND_DURATION: return duration_text(*(const uint64_t *)field);
    default: return text_format("%" PRIu64, *(const uint64_t *)field);
    }
}

/* ---- names ---- */

static bool names_equal(const char *name, const char *other) {
    for (; *name && *other; name++, other++)
        if ((*name == '-' ? '_' : *name) != *other) return false;
    return *name == *other;
}

const struct setting *settings_find(const char *name) {
    for (size_t i = 0; i < settings_count; i++)
        if (names_equal(name, settings_table[i].name)) return &settings_table[i];
    return NULL;
}

static int refuse_name(struct error **ret_error, const char *name) {
    const char *names[ARRAY_SIZE(settings_table)];
    for (size_t i = 0; i < settings_count; i++) names[i] = settings_table[i].name;
    const char *nearest = strlen(name) <= NAME_MAXIMUM ? text_nearest(name, names, settings_count) : NULL;
    if (nearest)
        return error_set(ret_error, ERROR_CONFIGURATION, "there is no setting %s; did you mean %s?", name, nearest);
    return error_set(ret_error, ERROR_CONFIGURATION, "there is no setting %.*s", NAME_MAXIMUM, name);
}

int settings_set(struct settings *settings, const char *name, const char *value, struct error **ret_error) {
    const struct setting *setting = settings_find(name);
    return setting ? set_value(settings, setting, value, ret_error) : refuse_name(ret_error, name);
}

/* ---- life ---- */

struct settings *settings_new(void) {
    struct settings *settings = mem_new(struct settings);
    for (size_t i = 0; i < settings_count; i++)
        if (set_value(settings, &settings_table[i], settings_table[i].initial, NULL)) abort(); /* the table is wrong */
    return settings;
}

void settings_free(struct settings *settings) {
    if (!settings) return;
    for (size_t i = 0; i < settings_count; i++)
        if (settings_table[i].kind == SETTING_KIND_TEXT) free(*(char **)field_of(settings, &settings_table[i]));
    free(settings);
}

/* ---- the environment ---- */

/* "SLIPWAY_MEMORY_BUDGET"; the caller frees. */
static char *variable_name(const struct setting *setting) {
    char *name = text_format("SLIPWAY_%s", setting->name);
    for (char *at = name; *at; at++)
        if (*at >= 'a' && *at <= 'z') *at = (char)(*at - 'a' + 'A');
    return name;
}

int settings_read_environment(struct settings *settings, char *const *environment, struct error **ret_error) {
    for (size_t i = 0; i < settings_count; i++) {
        _cleanup_free_ char *name = variable_name(&settings_table[i]);
        size_t length = strlen(name);
        for (char *const *variable = environment; *variable; variable++) {
            if (strncmp(*variable, name, length) || (*variable)[length] != '=') continue;
            int result = set_value(settings, &settings_table[i], *variable + length + 1, ret_error);
            if (result) return error_wrap(ret_error, "environment variable %s", name), result;
        }
    }
    return 0;
}

char **settings_environment(const struct settings *settings) {
    char **variables = mem_new_array(settings_count + 1, char *);
    for (size_t i = 0; i < settings_count; i++) {
        _cleanup_free_ char *name = variable_name(&settings_table[i]);
        _cleanup_free_ char *value = settings_value(settings, &settings_table[i]);
        variables[i] = text_format("%s=%s", name, value);
    }
    return variables;
}

/* ---- the file ---- */

/* What blanks surround; `line` is changed. */
static char *trim(char *line) {
    line += strspn(line, " \t\r");
    size_t length = strlen(line);
    while (length && strchr(" \t\r", line[length - 1])) line[--length] = 0;
    return line;
}

/* One line of the file. seen[] notes which settings the file has had. */
static int read_line(struct settings *settings, char *line, bool *seen, struct error **ret_error) {
    line = trim(line);
    if (!*line || *line == '#' || *line == ';') return 0;
    if (*line == '[')
        return error_set(ret_error, ERROR_CONFIGURATION, "the settings file has no sections; remove the line %.100s",
                         line);
    char *equals = strchr(line, '=');
    if (!equals || equals == line)
        return error_set(ret_error, ERROR_CONFIGURATION, "\"%.100s\" is not of the form name = value", line);
    *equals = 0;
    char *name = trim(line);
    const struct setting *setting = settings_find(name);
    if (!setting) return refuse_name(ret_error, name);
    if (seen[setting - settings_table])
        return error_set(ret_error, ERROR_CONFIGURATION, "setting %s is there a second time", setting->name);
    seen[setting - settings_table] = true;
    return set_value(settings, setting, trim(equals + 1), ret_error);
}

int settings_read_text(struct settings *settings, const char *bytes, size_t size, const char *where,
                       struct error **ret_error) {
    bool seen[ARRAY_SIZE(settings_table)] = {false};
    static const char mark[] = "\xef\xbb\xbf"; /* the byte order mark that some editors write */
    size_t start = size >= 3 && !memcmp(bytes, mark, 3) ? 3 : 0;
    for (size_t number = 1; start < size; number++) {
        const char *end = memchr(bytes + start, '\n', size - start);
        size_t length = end ? (size_t)(end - (bytes + start)) : size - start;
        _cleanup_free_ char *line = text_copy_bytes(bytes + start, length);
        int result = text_is_utf8(line, length)
                         ? read_line(settings, line, seen, ret_error)
                         : error_set(ret_error, ERROR_CONFIGURATION, "the line is not UTF-8 text");
        if (result) return error_wrap(ret_error, "%s, line %zu", where, number), result;
        start += length + 1;
    }
    return 0;
}

int settings_read_file(struct settings *settings, const char *path, struct error **ret_error) {
    _cleanup_free_ char *bytes = NULL;
    size_t size = 0;
    _cleanup_error_ struct error *cause = NULL;
    if (fs_read_file(path, FILE_MAXIMUM, &bytes, &size, &cause)) {
        _cleanup_free_ char *text = error_text(cause);
        return error_set(ret_error, ERROR_CONFIGURATION, "read the settings file: %s", text);
    }
    return settings_read_text(settings, bytes, size, path, ret_error);
}
