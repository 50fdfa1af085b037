/* The targets of this build. */
#include "target/target.h"

#include "base/memory.h"
#include "base/text.h"

static const struct target_ops *const targets[] = {&local_target};

int target_find(const char *name, const struct target_ops **ret_target, struct error **ret_error) {
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        if (!text_equal(targets[i]->name, name)) continue;
        *ret_target = targets[i];
        return 0;
    }
    return error_set(ret_error, ERROR_CONFIGURATION, "target %s is not in this build: it has \"local\"",
                     name ? name : "(none)");
}
