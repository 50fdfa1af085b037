/* SIGHUP: flags, variables and settings file are read again (same command line). What is broken changes nothing. What
 * counts from the start on keeps its value, and the log names it; the rest is in force at once here, and in the roles
 * by replacing them (supervisor_replace.c). When those do not stand, the settings before come back. Where no setting
 * has changed, the registries file may have: the controller reads it again, and keeps what it has when the file is
 * broken. */
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

static bool differs(const struct settings *a, const struct settings *b, const struct setting *setting) {
    _cleanup_free_ char *first = settings_value(a, setting), *second = settings_value(b, setting);
    return !text_equal(first, second);
}

/* The values are another settings' own, and so are good. */
static void copy_value(struct settings *to, const struct settings *from, const struct setting *setting) {
    _cleanup_free_ char *value = settings_value(from, setting);
    settings_set(to, setting->name, value, NULL);
}

static struct settings *copy(const struct settings *from) {
    struct settings *settings = settings_new();
    for (size_t i = 0; i < settings_count; i++) copy_value(settings, from, &settings_table[i]);
    return settings;
}

static void copy_all(struct settings *to, const struct settings *from) {
    for (size_t i = 0; i < settings_count; i++) copy_value(to, from, &settings_table[i]);
}

/* What the supervisor itself goes by, and what its next children find. */
static void put_in_force(struct supervisor *supervisor) {
    start_complete_roots(supervisor->settings, supervisor->state);
    log_open_as("supervisor", supervisor->settings->log_level, supervisor->settings->log_format);
    environment_free(supervisor->role_environment);
    supervisor->role_environment = environment_for_roles(supervisor->settings);
}

/* How many of the new ones count; those that cannot are put back in `fresh`. */
static size_t take_changes(struct supervisor *supervisor, struct settings *fresh) {
    size_t taken = 0;
    for (size_t i = 0; i < settings_count; i++) {
        const struct setting *setting = &settings_table[i];
        if (!differs(supervisor->asked, fresh, setting)) continue;
        if (setting->when == SETTING_WHEN_START) {
            log_write(LOG_WARNING, "a setting keeps its value until serve is started anew", "setting", setting->name,
                      NULL);
            copy_value(fresh, supervisor->asked, setting);
            continue;
        }
        log_write(LOG_INFO, "a setting has changed", "setting", setting->name, NULL);
        copy_value(supervisor->settings, fresh, setting);
        taken++;
    }
    return taken;
}

static void replace_roles(struct supervisor *supervisor, bool all) {
    for (size_t i = 0; i < ROLE_COUNT; i++) supervisor->roles[i]->outdated = all || i == ROLE_GATEWAY;
    replace_begin(supervisor, REPLACE_RELOAD);
}

static struct settings *read_again(struct supervisor *supervisor) {
    _cleanup_error_ struct error *error = NULL;
    struct settings *fresh = settings_new();
    if (options_read(fresh, supervisor->argc, supervisor->argv, &error) == 0) return fresh;
    _cleanup_free_ char *text = error_text(error);
    log_write(LOG_ERROR, "settings stay as they are: the new ones cannot be read", "error", text, NULL);
    settings_free(fresh);
    return NULL;
}

void reload_settings(struct supervisor *supervisor) {
    bool is_busy = supervisor->replace.phase || supervisor->upgrade.state == UPGRADE_CHECKING ||
                   supervisor->upgrade.state == UPGRADE_RUNNING;
    if (supervisor->stop.phase) return;
    if (is_busy) {
        supervisor->replace.is_asked_again = true;
        return;
    }
    struct settings *fresh = read_again(supervisor);
    if (!fresh) return;
    supervisor->former = copy(supervisor->settings);
    size_t changes = take_changes(supervisor, fresh);
    supervisor->former_asked = supervisor->asked;
    supervisor->asked = fresh;
    bool has_registries = *supervisor->settings->registries;
    if (!changes && has_registries) role_say(supervisor, ROLE_CONTROLLER, registries_changed, .unused = 0);
    if (!changes && !*supervisor->settings->tls_certificate) {
        if (!has_registries) log_write(LOG_INFO, "no setting has changed", NULL);
        reload_keep(supervisor);
        return;
    }
    put_in_force(supervisor);
    replace_roles(supervisor, changes);
}

void reload_keep(struct supervisor *supervisor) {
    settings_free(TAKE(supervisor->former));
    settings_free(TAKE(supervisor->former_asked));
}

void reload_take_back(struct supervisor *supervisor) {
    if (!supervisor->former) return;
    copy_all(supervisor->settings, supervisor->former);
    settings_free(supervisor->asked);
    supervisor->asked = TAKE(supervisor->former_asked);
    settings_free(TAKE(supervisor->former));
    put_in_force(supervisor);
}
