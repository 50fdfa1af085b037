/* Folders and files for one test. Everything here ends the test program when it fails: a test cannot go on without. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A new empty folder below TMPDIR or /tmp, as a real path. Free it with scratch_free(), which removes it. */
char *scratch_new(void);
void scratch_free(char *folder);
/* folder/name; caller frees. */
char *scratch_path(const char *folder, const char *name);
/* Writes a file (mode 0644) and makes the folders on its way. */
void scratch_write(const char *folder, const char *name, const void *bytes, size_t size);
void scratch_write_text(const char *folder, const char *name, const char *text);
void scratch_make_folder(const char *folder, const char *name);
/* The whole file, NUL-terminated; NULL when it is not there. Caller frees. */
char *scratch_read(const char *folder, const char *name, size_t *ret_size);
bool scratch_exists(const char *folder, const char *name);
/* How many entries a folder has; 0 when it is not there. */
size_t scratch_count(const char *folder, const char *name);

/* Runs body in a child, as user 65534 when this is root, who is given `folder` (may be NULL) first. Returns its exit
 * status, or 128 + signal. */
int scratch_run_unprivileged(const char *folder, void (*body)(void *context), void *context);
/* For bodies that run in a child, where the test framework's assertions would not end it. */
#define CHILD_CHECK(condition) scratch_child_check((condition), #condition, __FILE__, __LINE__)
void scratch_child_check(bool holds, const char *condition, const char *file, int line);
