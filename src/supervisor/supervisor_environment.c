/* What children find in their environment (wire/role.h). */
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"
#include "wire/role.h"

static bool names_the_same(const char *variable, const char *other) {
    size_t length = strcspn(variable, "=");
    return !strncmp(variable, other, length) && (other[length] == '=' || !other[length]);
}

static bool is_in(const char *variable, char *const *list) {
    for (; *list; list++)
        if (names_the_same(variable, *list)) return true;
    return false;
}

static size_t count_of(char *const *list) {
    size_t count = 0;
    while (list[count]) count++;
    return count;
}

/* Where models come from, and the credentials for it, concern who fetches them: the controller alone. */
static bool is_of_registries(const char *variable) {
    static const char *const prefixes[] = {"MLFLOW_", "AWS_", "DOCKER_CONFIG="};
    for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
        if (text_starts_with(variable, prefixes[i])) return true;
    return false;
}

static char **make_environment(const struct settings *settings, bool with_registries) {
    char **ours = settings_environment(settings);
    size_t count = count_of(ours), inherited = count_of(environ);
    char **all = mem_new_array(count + inherited + 2, char *);
    memcpy(all, ours, count * sizeof *all);
    for (size_t i = 0; i < inherited; i++) {
        bool is_left_out = is_in(environ[i], ours) || text_starts_with(environ[i], "NOTIFY_SOCKET=") ||
                           text_starts_with(environ[i], ROLE_VARIABLE_STRICT "=") ||
                           (!with_registries && is_of_registries(environ[i]));
        if (!is_left_out) all[count++] = text_copy(environ[i]);
    }
    free(ours);
    return all;
}

char **environment_for_roles(const struct settings *settings) {
    return make_environment(settings, false);
}

char **environment_for_controller(const struct settings *settings, bool is_strict) {
    char **all = make_environment(settings, true);
    if (is_strict) all[count_of(all)] = text_copy(ROLE_VARIABLE_STRICT "=1");
    return all;
}

/* What a runner has to know stands in its flags. Nothing that is secret, the token above all, is among it: a runner
 * works on what others bring. The last lets its malloc ask for huge pages (runner/runner_pages-internal.h). */
char **environment_for_runners(void) {
    static const char *const variables[] = {"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/",
                                            "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"};
    char **all = mem_new_array(ARRAY_SIZE(variables) + 1, char *);
    for (size_t i = 0; i < ARRAY_SIZE(variables); i++) all[i] = text_copy(variables[i]);
    return all;
}

void environment_free(char **environment) {
    for (char **variable = environment; variable && *variable; variable++) free(*variable);
    free(environment);
}
