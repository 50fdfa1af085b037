/* Settings: one table (settings.def) makes fields, flags, environment variables, file keys, help and bounds.
 *
 * Order of precedence: flag, environment, file, default. Roles get the effective settings from the supervisor through
 * the environment (settings_environment), so that a settings file that breaks later cannot keep a role from restarting.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum setting_kind {
    SETTING_KIND_TEXT,
    SETTING_KIND_SIZE,
    SETTING_KIND_DURATION,
    SETTING_KIND_NUMBER,
    SETTING_KIND_BOOLEAN
};

/* When a change takes effect (settings.def). */
enum setting_when { SETTING_WHEN_RELOAD, SETTING_WHEN_REPLICA, SETTING_WHEN_START };

#define SETTING_TYPE_TEXT char *
#define SETTING_TYPE_SIZE uint64_t
#define SETTING_TYPE_DURATION uint64_t
#define SETTING_TYPE_NUMBER uint64_t
#define SETTING_TYPE_BOOLEAN bool

/* What the field of a setting is called in struct settings: its unit is in its name. */
#define SETTING_FIELD_TEXT(name) name
#define SETTING_FIELD_SIZE(name) name
#define SETTING_FIELD_DURATION(name) name##_ms
#define SETTING_FIELD_NUMBER(name) name
#define SETTING_FIELD_BOOLEAN(name) name

struct settings {
#define SETTING(kind, when, name, initial, minimum, maximum, help) SETTING_TYPE_##kind SETTING_FIELD_##kind(name);
#include "base/settings.def"
#undef SETTING
};

struct setting {
    const char *name; /* as users write it in a file: "memory_budget", "drain" */
    const char *initial; /* default as text */
    const char *help;
    enum setting_kind kind;
    enum setting_when when;
    int64_t minimum, maximum;
    size_t offset; /* in struct settings */
};

extern const struct setting settings_table[];
extern const size_t settings_count;

/* All defaults. Free with settings_free(). */
struct settings *settings_new(void);
void settings_free(struct settings *settings);

/* Sets one by its user name ("drain", "memory-budget" and "memory_budget" alike). CONFIGURATION error that names it
 * and, for an unknown name, the nearest known one. */
int settings_set(struct settings *settings, const char *name, const char *value, struct error **ret_error);
/* Reads "name = value" lines; blank lines and lines that begin with '#' or ';' are passed over, and the value is all up
 * to the line's end. An unknown or repeated name, a bad value, a section or a broken line is an error with the line
 * number. At most 1 MiB. Blocking. */
int settings_read_file(struct settings *settings, const char *path, struct error **ret_error);
/* The same of bytes[0..size), which came from `where`. */
int settings_read_text(struct settings *settings, const char *bytes, size_t size, const char *where,
                       struct error **ret_error);
/* Reads SLIPWAY_<NAME>; SLIPWAY_ variables that are no settings are left alone. */
int settings_read_environment(struct settings *settings, char *const *environment, struct error **ret_error);
/* What must hold between settings (upstream_timeout ≤ drain, token when not on loopback, …). */
int settings_check(const struct settings *settings, struct error **ret_error);

/* "SLIPWAY_NAME=value" for every setting, ended by NULL; caller frees each and the array. */
char **settings_environment(const struct settings *settings);
/* One setting's value as text; caller frees. */
char *settings_value(const struct settings *settings, const struct setting *setting);
/* The setting of that name ('-' and '_' alike), or NULL. */
const struct setting *settings_find(const char *name);

/* Takes "127.0.0.1:8400", "[::1]:8400" or "localhost:8400" apart: *ret_host (an address in numbers, without brackets;
 * caller frees) and the port, which may be 0. False when it is not of that form. */
bool settings_parse_listen(const char *listen, char **ret_host, uint16_t *ret_port);
/* Whether host:port names a loopback address. */
bool settings_is_loopback(const char *listen);
