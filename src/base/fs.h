/* Files and folders with durability: what returns 0 here has been synced where it says so. Blocking: worker threads
 * only. Errors are DEPLOYMENT errors that name the path. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

char *fs_join(const char *folder, const char *name); /* caller frees */
/* The folder and its parents, mode 0700 for those that are made; existing ones are fine. */
int fs_make_folders(const char *path, struct error **ret_error);
int fs_sync_folder(const char *path, struct error **ret_error);
/* Replaces `path` with the bytes: temporary file beside it, fsync, rename, fsync of the folder. */
int fs_write_file(const char *path, const void *bytes, size_t size, struct error **ret_error);
/* The whole file, NUL-terminated behind *ret_size; larger than maximum is an error. Caller frees. */
int fs_read_file(const char *path, size_t maximum, char **ret_bytes, size_t *ret_size, struct error **ret_error);
/* The last `maximum` bytes of a file at most, cut to whole lines; "" when there is none. Caller frees. */
char *fs_read_tail(const char *path, size_t maximum);
/* Removes a file or a whole folder without following links; missing is fine. */
int fs_remove_tree(const char *path, struct error **ret_error);
bool fs_exists(const char *path);
