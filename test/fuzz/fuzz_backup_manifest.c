/* A backup's manifest: it is refused with a sentence, or names only files inside the backup, each once, and is read as
 * the same when it is written again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "state/manifest.h"

static void require(bool holds) {
    if (!holds) abort();
}

static bool leads_out(const char *path) {
    return *path == '/' || !strcmp(path, "..") || text_starts_with(path, "../") || strstr(path, "/../") ||
           text_ends_with(path, "/..") || strstr(path, "//") || text_ends_with(path, "/");
}

static void check(const struct manifest *manifest) {
    bool has_control = false;
    for (size_t i = 0; i < manifest->file_count; i++) {
        const struct manifest_file *file = &manifest->files[i];
        require(!leads_out(file->path) && strlen(file->sha256) == 64);
        require(!i || strcmp(manifest->files[i - 1].path, file->path) < 0);
        has_control = has_control || !strcmp(file->path, "control.db");
    }
    require(has_control && manifest->slipway && manifest->created_at);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > 65536) return 0;
    _cleanup_manifest_ struct manifest manifest = {0}, again = {0};
    _cleanup_error_ struct error *error = NULL;
    _cleanup_free_ char *text = text_copy_bytes((const char *)bytes, size);
    if (manifest_parse(text, size, &manifest, &error) < 0) {
        require(error->class == ERROR_CONFIGURATION && *error->message);
        return 0;
    }
    check(&manifest);
    size_t written = 0;
    _cleanup_free_ char *json = manifest_write(&manifest, &written);
    require(!manifest_parse(json, written, &again, NULL));
    require(again.file_count == manifest.file_count && again.package_count == manifest.package_count);
    require(again.collection_count == manifest.collection_count && again.with_packages == manifest.with_packages);
    return 0;
}
