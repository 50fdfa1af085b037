/* State folders as a whole: copied while the service runs (backup), laid out anew (restore), looked at (check).
 *
 * These work on a folder of this machine, beside a running service or without one, and need no token: who may read the
 * folder may do it. They write nothing into the folder they read, but for what SQLite keeps beside a database that is
 * read (its log's index).
 *
 * A backup is a folder: manifest.json (what is in it, with SHA-256 of every file), manifest.sha256 (of the manifest, as
 * sha256sum writes it), control.db, collections/<id>/documents.db and queries.db, packages/sha256/<digest>/. Indexes
 * are not in it: a restore gives every log a new log_id (S9), and they are built again from their logs.
 *
 * It is of one moment. A read transaction on the control database and one on each collection's are open at the same
 * time, and nobody has committed to the control database while they were begun (cut.c): what the control database says
 * of a collection is true of the copy of it. What is opened is never checkpointed (S2). Blocking; one thread. May use:
 * base, store, collection, package, registry, vector.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/settings.h"

/* For people who wait: `what` is being copied or verified, so far, of so much (0: not known). */
struct state_progress {
    void (*tell)(void *context, const char *what, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};

/* ---- backup and restore ------------------------------------------------------------------------------------------ */

struct state_backup {
    const char *state, *destination;
    bool with_packages;
    const struct state_progress *progress; /* NULL: nobody waits */
};
/* What it took or laid out. Owned. */
struct state_summary {
    char *folder;
    char *created_at; /* of the backup, RFC 3339 */
    size_t collections, packages, files;
    uint64_t documents, size_bytes;
    bool with_packages;
    /* Restore: what will not run as it is, one sentence each; packages that were fetched again. */
    char **missing;
    size_t missing_count, fetched;
};
void state_summary_clear(struct state_summary *summary);

/* Writes the backup beside `destination` and renames it into place: it is whole and synced, or not there. `destination`
 * must not exist, or be empty. CONFLICT: it is not empty, or another backup is writing it. CONFIGURATION: there is no
 * state in `state`, or the destination lies inside it. UNAVAILABLE: the disk is full, or the service was too busy. */
int state_backup(const struct state_backup *backup, struct state_summary *ret_summary, struct error **ret_error);

struct state_restore {
    const char *backup, *state;
    const struct settings *settings; /* model_roots: where packages that the backup lacks may be fetched from */
    const struct state_progress *progress;
};
/* Verifies the whole backup, lays the state out beside `state`, and renames it into place. `state` must not exist, or
 * be empty. CONFLICT: it is not. CONFIGURATION: what is there is no backup, or from a newer Slipway. DEPLOYMENT: a file
 * of it is missing, or not as it was written. */
int state_restore(const struct state_restore *restore, struct state_summary *ret_summary, struct error **ret_error);

/* ---- check ------------------------------------------------------------------------------------------------------- */

enum state_gravity {
    STATE_NOTE, /* the service mends it by itself, or it does no harm */
    STATE_FAULT, /* somebody has to do something */
};
struct state_finding {
    enum state_gravity gravity;
    char *subject, *what, *advice; /* "package sha256:…", "3 bytes …", "…" */
};
struct state_report {
    struct state_finding *findings;
    size_t count;
    bool is_running; /* a service uses the folder */
    size_t databases, packages, indexes; /* how many were looked at */
};
void state_report_clear(struct state_report *report);
size_t state_report_faults(const struct state_report *report);

/* An error only when the look itself cannot be taken (no such folder, no right to read it). */
int state_check(const char *state, const struct state_progress *progress, struct state_report *ret_report,
                struct error **ret_error);
