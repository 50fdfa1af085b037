/* A settings file: it is refused with a sentence, or every value lies in its bounds and survives being written and
 * read. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "base/settings.h"
#include "base/text.h"

static void check_round_trip(struct settings *settings) {
    for (size_t i = 0; i < settings_count; i++) {
        _cleanup_free_ char *value = settings_value(settings, &settings_table[i]);
        if (settings_set(settings, settings_table[i].name, value, NULL)) abort();
        _cleanup_free_ char *again = settings_value(settings, &settings_table[i]);
        if (strcmp(value, again)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > 65536) return 0;
    struct settings *settings = settings_new();
    _cleanup_error_ struct error *error = NULL;
    if (settings_read_text(settings, (const char *)bytes, size, "file", &error)) {
        _cleanup_free_ char *text = error_text(error);
        if (!text_starts_with(text, "file, line ")) abort();
    } else {
        check_round_trip(settings);
        _cleanup_error_ struct error *mismatch = NULL;
        if (!settings_check(settings, &mismatch) != !mismatch) abort();
    }
    settings_free(settings);
    return 0;
}
