/* Whether this program could take a running service over: asked as a child of it, before anything changes. */
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "supervisor/supervisor-internal.h"

static int read_all(struct supervisor *supervisor, struct error **ret_error) {
    _cleanup_free_ char *json = NULL;
    size_t size;
    int result = execute_read(ROLE_DESCRIPTOR_STATE, &json, &size, ret_error);
    if (result >= 0) result = state_read(supervisor, json, size, false, ret_error);
    return result < 0 ? result : settings_check(supervisor->settings, ret_error);
}

int supervisor_check_handover(char **ret_state, struct error **ret_error) {
    struct supervisor supervisor = {.settings = settings_new(),
                                    .asked = settings_new(),
                                    .lock = -1,
                                    .listener = -1,
                                    .control = -1,
                                    .alias_lock = -1,
                                    .signals = -1};
    upgrade_init(&supervisor.upgrade);
    int result = read_all(&supervisor, ret_error);
    if (result >= 0) *ret_state = text_copy(supervisor.settings->state);
    state_forget(&supervisor);
    settings_free(supervisor.settings);
    settings_free(supervisor.asked);
    return result;
}
