/* Packages: fetched and verified models, content-addressed by the digest of their file tree.
 *
 * package_digest = SHA-256 over the sorted list of "<sha256 of file> <size> <relative path>\n". A package once visible is
 * never changed (files 0444, folders 0555) and complete: it came by one rename (S8). Back-end today: a folder,
 * <state>/packages/sha256/<digest>/. Blocking; worker threads only. May use: base.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct package_store; /* one opened back-end */

struct package_info {
    char digest[65];
    uint64_t size_bytes;
    uint64_t file_count;
};

struct package_ops {
    const char *name;
    int (*open)(const char *location, struct package_store **ret_store, struct error **ret_error);
    void (*close)(struct package_store *store);
    /* A private empty folder for a task to fetch into: <location>/incoming/<task>. A leftover of the same task is emptied. */
    int (*begin)(struct package_store *store, const char *task_id, char **ret_folder, struct error **ret_error);
    /* Hashes everything in that folder: the `verify` step. Refuses links, devices, more files or bytes than allowed. */
    int (*measure)(struct package_store *store, const char *task_id, const atomic_bool *canceled,
                   struct package_info *ret_info, struct error **ret_error);
    /* The `package` step: read-only, synced, renamed to its digest, parent synced. Already there: the new copy is removed,
     * success. Repeatable: success as well when the incoming folder is gone and the package is there. */
    int (*publish)(struct package_store *store, const char *task_id, const struct package_info *info,
                   struct error **ret_error);
    void (*abandon)(struct package_store *store, const char *task_id); /* removes the incoming folder */
    /* Where runners read it; RESOURCE_NOT_FOUND when it is not there. Caller frees *ret_path. */
    int (*locate)(struct package_store *store, const char *digest, char **ret_path, struct error **ret_error);
    /* Takes it away: renamed out of sight first. Missing is fine. The caller has checked the pins (S6). */
    int (*remove)(struct package_store *store, const char *digest, struct error **ret_error);
    /* Calls `visit` for each digest that is there, and removes what a crash left half-removed. */
    int (*scan)(struct package_store *store, void (*visit)(const char *digest, void *context), void *context,
                struct error **ret_error);
};
extern const struct package_ops folder_packages;
