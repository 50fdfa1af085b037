/* Archives that somebody uploads: whatever they hold, what comes of them is an error or plain files inside the folder.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "package/package.h"
#include "package/package_import.h"

static void check_path(const char *path, uint64_t size_bytes, void *context) {
    (void)context;
    if (*path == '/' || strstr(path, "..") == path || size_bytes > (1u << 20)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size > (1u << 20)) return 0;
    char folder[] = "/tmp/fuzz-import-XXXXXX";
    if (!mkdtemp(folder)) abort();
    _cleanup_free_ char *model = text_format("%s/model", folder), *beside = text_format("%s/beside", folder);
    int archive = memfd_create("archive", MFD_CLOEXEC);
    if (archive < 0 || write(archive, bytes, size) != (ssize_t)size) abort();
    if (mkdir(model, 0700) < 0 || mkdir(beside, 0700) < 0) abort();
    const struct package_import_limits limits = {.size_maximum = 1u << 20, .file_maximum = 32};
    struct package_import import = {0};
    struct error *error = NULL;
    int result = package_import_read(archive, model, &limits, &import, &error);
    if ((result < 0) != (error != NULL)) abort();
    if (result >= 0 && package_list_folder(model, check_path, NULL, &error) < 0) abort();
    if (rmdir(beside) < 0) abort(); /* nothing was put there */
    package_import_clear(&import);
    error_free(error);
    error = NULL;
    package_remove_folder(folder, &error);
    error_free(error);
    close(archive);
    return 0;
}
