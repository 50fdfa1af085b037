#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"

#define NOBODY 65534

static void require(bool holds, const char *what, const char *path) {
    if (holds) return;
    fprintf(stderr, "%s %s: %s\n", what, path, strerror(errno));
    abort();
}

char *scratch_new(void) {
    const char *parent = getenv("TMPDIR");
    _cleanup_free_ char *pattern = text_format("%s/slipway-test-XXXXXX", parent && *parent ? parent : "/tmp");
    require(mkdtemp(pattern) != NULL, "make", pattern);
    char *folder = realpath(pattern, NULL);
    require(folder != NULL, "look at", pattern);
    return folder;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where) {
    (void)status, (void)where;
    if (kind == FTW_D || kind == FTW_DNR) return chmod(path, 0700);
    return 0;
}

static int delete_entry(const char *path, const struct stat *status, int kind, struct FTW *where) {
    (void)status, (void)kind, (void)where;
    return remove(path);
}

void scratch_free(char *folder) {
    if (!folder) return;
    nftw(folder, remove_entry, 32, FTW_PHYS); /* read-only folders first become writable */
    require(!nftw(folder, delete_entry, 32, FTW_PHYS | FTW_DEPTH), "remove", folder);
    free(folder);
}

char *scratch_path(const char *folder, const char *name) {
    return text_format("%s/%s", folder, name);
}

static void make_parents(char *path) {
    for (char *at = path + 1; *at; at++) {
        if (*at != '/') continue;
        *at = 0;
        require(!mkdir(path, 0755) || errno == EEXIST, "make", path);
        *at = '/';
    }
}

void scratch_make_folder(const char *folder, const char *name) {
    _cleanup_free_ char *path = scratch_path(folder, name);
    make_parents(path);
    require(!mkdir(path, 0755) || errno == EEXIST, "make", path);
}

void scratch_write(const char *folder, const char *name, const void *bytes, size_t size) {
    _cleanup_free_ char *path = scratch_path(folder, name);
    make_parents(path);
    _cleanup_close_ int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    require(file >= 0, "make", path);
    require(write(file, bytes, size) == (ssize_t)size, "write", path);
}

void scratch_write_text(const char *folder, const char *name, const char *text) {
    scratch_write(folder, name, text, strlen(text));
}

char *scratch_read(const char *folder, const char *name, size_t *ret_size) {
    _cleanup_free_ char *path = scratch_path(folder, name);
    _cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return NULL;
    struct stat status;
    require(!fstat(file, &status), "look at", path);
    char *bytes = mem_alloc((size_t)status.st_size + 1);
    require(read(file, bytes, (size_t)status.st_size) == status.st_size, "read", path);
    bytes[status.st_size] = 0;
    if (ret_size) *ret_size = (size_t)status.st_size;
    return bytes;
}

bool scratch_exists(const char *folder, const char *name) {
    _cleanup_free_ char *path = scratch_path(folder, name);
    struct stat status;
    return !lstat(path, &status);
}

size_t scratch_count(const char *folder, const char *name) {
    _cleanup_free_ char *path = scratch_path(folder, name);
    DIR *entries = opendir(path);
    if (!entries) return 0;
    size_t count = 0;
    while (readdir(entries)) count++;
    closedir(entries);
    return count - 2; /* . and .. */
}

int scratch_run_unprivileged(const char *folder, void (*body)(void *context), void *context) {
    if (folder && !geteuid()) require(!chown(folder, NOBODY, NOBODY), "give away", folder);
    fflush(NULL);
    pid_t child = fork();
    require(child >= 0, "fork for", folder ? folder : "a test");
    if (!child) {
        if (!geteuid() && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)) _exit(98);
        body(context);
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0) require(errno == EINTR, "wait for", "a child");
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void scratch_child_check(bool holds, const char *condition, const char *file, int line) {
    if (holds) return;
    fprintf(stderr, "%s:%d: %s does not hold\n", file, line, condition);
    _exit(97);
}
