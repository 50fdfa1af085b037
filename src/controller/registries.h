/* Where models may come from, as the settings and the registries file have it now: read at the start and when SIGHUP
 * says that the file may have changed. A file that is broken then changes nothing. What was in force stays in memory
 * until the controller ends, since a task may still be fetching by it. Any thread. */
#pragma once
#include "controller/controller-internal.h"

/* `base`: roots and ceilings; what it points to must live as long. CONFIGURATION when the file or the setting
 * default_registry is wrong; with is_strict false a file that cannot be read is done without, and the log says so.
 * Blocking. */
int registries_new(const struct settings *settings, const struct registry_context *base, bool is_strict,
                   struct registries **ret_registries, struct error **ret_error);
void registries_free(struct registries *registries);
/* Reads the file again; the log says what came of it. Blocking. */
void registries_read_again(struct registries *registries);
/* What a fetch or a check goes by; `canceled` and progress are the caller's to set. */
struct registry_context registries_context(const struct controller *controller);

/* The setting default_registry, "" or NULL for none. CONFIGURATION unless it has {id} in it, and a URI made of it is
 * good. */
int registries_check_default(const struct registry_context *context, const char *pattern, struct error **ret_error);
