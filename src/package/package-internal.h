/* Trees of files, for back-ends that keep packages in folders: list, hash, sync, make read-only, remove. */
#pragma once
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "package/package.h"

struct package_tree {
    struct package_tree_file {
        char *path; /* relative, '/'-separated */
        uint64_t size_bytes;
    } * files; /* sorted by path */
    size_t file_count;
    char **folders; /* relative, each before what it holds; folders[0] is "", the tree's root */
    size_t folder_count;
    uint64_t size_bytes;
};
void package_tree_clear(struct package_tree *tree);
#define _cleanup_tree_ __attribute__((cleanup(package_tree_clear)))

/* Lists a folder. Errors as package_ops.measure says. `ret_tree` is set only on success. */
int package_tree_read(const char *folder, struct package_tree *ret_tree, struct error **ret_error);
/* Hashes and syncs every file, and syncs the folders. */
int package_tree_measure(const char *folder, const struct package_tree *tree, const atomic_bool *canceled,
                         struct package_info *ret_info, struct error **ret_error);
/* Files 0444 and folders 0555, synced, the innermost first; the root is left writable, since a folder that is not
 * cannot be moved to another one (rename(2), EACCES). */
int package_tree_seal(const char *folder, const struct package_tree *tree, struct error **ret_error);
/* The root's own mode, synced. */
int package_tree_seal_root(const char *folder, struct error **ret_error);
/* Removes the folder with all that is in it, read-only folders too, following no links; missing is fine. */
int package_tree_remove(const char *folder, struct error **ret_error);

/* DEPLOYMENT, or UNAVAILABLE and transient with advice when errno_value says that the disk is full. */
int package_fail_errno(struct error **ret_error, int errno_value, const char *what, const char *path);
