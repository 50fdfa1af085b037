/* What the files of state/ share.
 *
 *   cut.c             one moment of all databases
 *   folder.c          a folder beside its place: locked, filled, synced, renamed; files copied and hashed
 *   manifest.c        what is in a backup
 *   backup.c          writes one; backup_packages.c: the packages in it
 *   restore.c         lays it out; restore_control.c: what changes in the control database; restore_packages.c
 *   check.c           goes through a state folder; check_*.c: its parts
 */
#pragma once
#include "collection/collection_backup.h"
#include "package/package.h"
#include "state/manifest.h"
#include "state/state.h"
#include "store/store.h"

/* ---- one moment (cut.c) ------------------------------------------------------------------------------------------ */

/* A collection that the control database names. */
struct state_collection {
    char id[37];
    char *name, *state; /* "active", "deleting" */
    struct collection *collection; /* NULL when it could not be opened: `error` says why */
    struct collection_read *reads[2]; /* by set; NULL for a set that it does not keep */
    struct error *error;
};
struct state_cut {
    char *folder;
    struct store *control, *watch; /* watch: a second connection, which sees whether anybody commits */
    struct store_transaction *tx; /* on the control database */
    struct state_collection *collections;
    size_t count;
    bool tolerant;
};
/* tolerant: a collection that cannot be read keeps its error and the cut stands; otherwise that fails (but for one that
 * is being deleted and has gone already). UNAVAILABLE: the service was too busy. CONFIGURATION: no state is there. */
int state_cut_open(const char *folder, bool tolerant, struct state_cut **ret_cut, struct error **ret_error);
/* Ends what is open of the cut and takes a new one. */
int state_cut_take(struct state_cut *cut, struct error **ret_error);
/* Ends the transactions: the service's logs need not be kept any longer. The connections stay. */
void state_cut_release(struct state_cut *cut);
void state_collection_release(struct state_collection *entry); /* that one's alone */
void state_cut_close(struct state_cut *cut); /* NULL is fine */
static inline void state_cut_close_pointer(struct state_cut **cut) {
    state_cut_close(*cut);
}
#define _cleanup_cut_ __attribute__((cleanup(state_cut_close_pointer)))

/* One row after the other of a query without parameters; `take` returns 0 to go on, or a negative class with its error.
 */
int state_each_row(struct store_transaction *tx, const char *sql,
                   int (*take)(void *context, struct store_rows *rows, struct error **ret_error), void *context,
                   struct error **ret_error);

/* ---- folders and files (folder.c) -------------------------------------------------------------------------------- */

/* A folder that becomes visible at the end. */
struct state_part {
    char *path; /* <destination>.part, which is being filled */
    char *destination;
    int lock; /* of `path`: one fills it at a time */
};
/* Makes <destination>.part, empty, after a look that `destination` is not there, or is empty (else CONFLICT). The
 * folder above must be there. */
int state_part_begin(const char *destination, struct state_part *ret_part, struct error **ret_error);
/* Syncs every folder in it and renames it. */
int state_part_finish(struct state_part *part, struct error **ret_error);
/* Removes what finish() has not renamed; frees. */
void state_part_end(struct state_part *part);
#define _cleanup_part_ __attribute__((cleanup(state_part_end)))

/* Hashes a file. `from` is relative to `root`; no link is followed. */
int state_hash_file(const char *root, const char *from, uint64_t *ret_size, char ret_sha256[DIGEST_HEX_SIZE],
                    struct error **ret_error);
/* Copies it to the new file `to`, synced, hashing what it reads. */
int state_copy_file(const char *root, const char *from, const char *to, uint64_t *ret_size,
                    char ret_sha256[DIGEST_HEX_SIZE], struct error **ret_error);
/* The folder above a path; caller frees. */
char *state_parent(const char *path);

/* ---- backup ------------------------------------------------------------------------------------------------------ */

#define STATE_PACKAGES "packages/sha256"

/* What is being said while bytes are counted over several files. */
struct state_counter {
    const struct state_progress *progress;
    const char *what;
    uint64_t done_bytes, total_bytes;
};
void state_count(struct state_counter *counter, uint64_t bytes);

/* The packages that a cut refers to, and which of them are in the backup. */
struct backup_packages {
    struct backup_package {
        struct manifest_package package;
        bool is_needed; /* of the last cut */
        bool may_be_absent; /* pinned by a task before it is there (S6) */
        bool is_copied;
    } * items;
    size_t count;
};
void backup_packages_clear(struct backup_packages *packages);
int backup_packages_list(struct state_cut *cut, struct backup_packages *packages, struct error **ret_error);
size_t backup_packages_lacking(const struct backup_packages *packages);
/* Copies those that are needed and not yet there, into <part>/packages. One that has gone meanwhile is left out:
 * *ret_gone of them that may not be absent. */
int backup_packages_copy(const struct state_backup *backup, const struct state_part *part,
                         struct backup_packages *packages, struct manifest *manifest, size_t *ret_gone,
                         struct error **ret_error);
/* Takes those out of the backup that the last cut does not need. */
int backup_packages_drop(const struct state_part *part, struct backup_packages *packages, struct manifest *manifest,
                         struct error **ret_error);

/* ---- restore ----------------------------------------------------------------------------------------------------- */

/* Puts the packages of the backup into <part>/packages, and fetches those that it lacks where that can be. */
int restore_packages(const struct state_restore *restore, const struct manifest *manifest,
                     const struct state_part *part, struct state_summary *summary, struct error **ret_error);
/* Tasks go back to the step that makes what a backup does not have: what was being fetched, and full indexes. */
int restore_control(const struct state_part *part, const struct manifest *manifest, struct error **ret_error);
void state_summary_add_missing(struct state_summary *summary, char *sentence); /* takes it */
