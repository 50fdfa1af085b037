/* Runs a fuzz target over every file of the folders (or files) that are given as arguments: the corpus as a plain test.
 * Fails when there was no file, so that a corpus that went missing is noticed. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

static void fail(const char *what, const char *path) {
    fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

/* In a block of exactly its size, so that a sanitizer sees the first byte behind it. */
static void run_file(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status)) fail("open", path);
    size_t size = (size_t)status.st_size;
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes || fread(bytes, 1, size, file) != size) fail("read", path);
    fclose(file);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
}

static unsigned run(const char *path) {
    struct dirent **entries;
    struct stat status;
    if (stat(path, &status)) fail("open", path);
    if (!S_ISDIR(status.st_mode)) {
        run_file(path);
        return 1;
    }
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) fail("list", path);
    unsigned files = 0;
    for (int i = 0; i < count; i++) {
        char *inner = NULL;
        if (entries[i]->d_name[0] != '.' && asprintf(&inner, "%s/%s", path, entries[i]->d_name) > 0)
            files += run(inner);
        free(inner);
        free(entries[i]);
    }
    free(entries);
    return files;
}

int main(int argc, char **argv) {
    unsigned files = 0;
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) files += run(argv[i]);
    if (!files) {
        fprintf(stderr, "no file was found: give the folders of the corpus as arguments\n");
        return 1;
    }
    printf("%u files ran\n", files);
    return 0;
}
