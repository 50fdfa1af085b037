/* Packages: fetched and verified models, content-addressed by the digest of their file tree.
 *
 * package_digest = SHA-256 over "<sha256 of file> <size> <relative path>\n" of every file, sorted by path as bytes;
 * empty folders do not count. A package once visible is never changed (files 0444, folders 0555) and complete: it came
 * by one rename (S8). Back-end today: a folder, <state>/packages/sha256/<digest>/. Blocking; worker threads only, any
 * number of them at once on one opened store; one task's calls come one after the other. May use: base.
 *
 * What a step leaves behind when it is killed anywhere in it is either finished or swept up when it is run again.
 * Errors: DEPLOYMENT unless a function says otherwise; UNAVAILABLE and transient when the disk is full. A failed sync
 * is neither retried nor transient (S1): what it said was written may be lost, so the task has to fetch again.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define PACKAGE_FILES_MAXIMUM 100000 /* files of one package, whatever a registry allowed */
#define PACKAGE_PATH_MAXIMUM 1024 /* bytes of a relative path */
#define PACKAGE_DEPTH_MAXIMUM 32 /* folders inside each other */

struct package_store; /* one opened back-end */

struct package_info {
    char digest[65];
    uint64_t size_bytes;
    uint64_t file_count;
};

struct package_ops {
    const char *name;
    /* Makes what is missing of `location`. */
    int (*open)(const char *location, struct package_store **ret_store, struct error **ret_error);
    void (*close)(struct package_store *store);
    /* A private empty folder for a task to fetch into: <location>/incoming/<task>. A leftover of the same task is
     * emptied. CONFIGURATION when the task's id is no name (text_is_name). */
    int (*begin)(struct package_store *store, const char *task_id, char **ret_folder, struct error **ret_error);
    /* Hashes and syncs everything in that folder: the `verify` step. After it a power cut takes nothing away, so that a
     * recorded digest is the digest of what `publish` finds. CONFIGURATION for links, devices, names that are not UTF-8
     * or hold control characters, and what passes the ceilings above; MODEL_REGISTRY when there is no file; UNAVAILABLE
     * "canceled" when *canceled (may be NULL) is set. */
    int (*measure)(struct package_store *store, const char *task_id, const atomic_bool *canceled,
                   struct package_info *ret_info, struct error **ret_error);
    /* The `package` step: read-only, synced, renamed to its digest, parent synced. Already there: the new copy is
     * removed, success. Repeatable: success as well when the incoming folder is gone and the package is there.
     * NOT_FOUND when both are missing; DEPLOYMENT when the folder is not what was measured (count or size). */
    int (*publish)(struct package_store *store, const char *task_id, const struct package_info *info,
                   struct error **ret_error);
    void (*abandon)(struct package_store *store,
                    const char *task_id); /* removes the incoming folder; missing is fine */
    /* Where runners read it; NOT_FOUND when it is not there. Caller frees *ret_path. */
    int (*locate)(struct package_store *store, const char *digest, char **ret_path, struct error **ret_error);
    /* Takes it away: renamed out of sight first. Missing is fine. The caller has checked the pins (S6). */
    int (*remove)(struct package_store *store, const char *digest, struct error **ret_error);
    /* Calls `visit` for each digest that is there, and removes what a crash left half-removed. */
    int (*scan)(struct package_store *store, void (*visit)(const char *digest, void *context), void *context,
                struct error **ret_error);
    /* Removes the incoming folders of tasks that `is_alive` denies: of tasks that ended while nobody could abandon
     * them. For reconciliation after a start. */
    int (*sweep)(struct package_store *store, bool (*is_alive)(const char *task_id, void *context), void *context,
                 struct error **ret_error);
};
extern const struct package_ops folder_packages;

/* ---- folders of packages, wherever they lie (package_copy.c): for backups and checks ---- */

/* Told of each file when it has been read. */
struct package_listener {
    void (*took)(void *context, const char *path, uint64_t size_bytes, const char *sha256);
    void *context;
};
/* Copies the files to `to`, which is empty or not there yet, synced, writable; *ret_info: of what was read, which the
 * caller compares. `listener` may be NULL. What it leaves after an error is the caller's to remove. */
int package_copy_folder(const char *from, const char *to, const struct package_listener *listener,
                        struct package_info *ret_info, struct error **ret_error);
/* Tells of each file, sorted by path; reads none of them. */
int package_list_folder(const char *folder, void (*visit)(const char *path, uint64_t size_bytes, void *context),
                        void *context, struct error **ret_error);
/* Reads every byte and changes nothing. */
int package_hash_folder(const char *folder, struct package_info *ret_info, struct error **ret_error);
/* Removes a folder, read-only ones in it too; missing is fine. */
int package_remove_folder(const char *folder, struct error **ret_error);
