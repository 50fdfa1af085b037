/* Batch inference jobs: rows of a file or object through a model into parts of an output folder or prefix.
 *
 * Three threads, with a bounded number of chunks (one request's rows) between them, so that memory is constant: one
 * reads and cuts the input into rows, the caller's holds several requests in flight to the replicas (HTTP on their
 * sockets, binary tensors), one writes. The order of rows is kept.
 *
 * Every row is written once. A part is written under a temporary name and synced; then it is recorded (the caller's
 * transaction, with the place in the input that it ends at); only then it gets its name. What was not recorded never
 * had a name; what was recorded without having been given one gets it at the next start, from the same bytes. In S3 the
 * part lies in a local spool file meanwhile, and an object is there as a whole or not at all.
 *
 * The output has an owner: the file .slipway-batch in it (removed at the end) holds the job's id. A folder that has
 * anything else in it is refused, and nothing is ever replaced. The last thing that is written is _SUCCESS, a JSON
 * object that lists the parts.
 *
 * batch_run() blocks and makes threads of its own; batch_spec_parse() and batch_check() are quick and local. May use:
 * base, http, s3.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "s3/s3.h"

enum batch_format { BATCH_NDJSON, BATCH_CSV };

#define BATCH_SIZE_MAXIMUM 4096 /* rows in a request: what a runner takes */
#define BATCH_NAMES_MAXIMUM 64 /* inputs or outputs that are named */

/* A tensor of the model and the field that it is read from or written to. */
struct batch_name {
    char *tensor, *field;
};
struct batch_names {
    struct batch_name *list;
    size_t count;
};

/* What a request says (deployment_target_config of type batch_inference_job). All owned. */
struct batch_spec {
    char *input_uri, *output_uri;
    enum batch_format format;
    bool skips_errors; /* on_error: skip */
    bool is_idle; /* priority: idle */
    size_t batch_size, part_rows;
    char *input_field, *output_field; /* of models that embed */
    char *id_field; /* NULL: rows are named by their line */
    struct batch_names inputs, outputs; /* of other models; none given: each by its own name */
};
void batch_spec_clear(struct batch_spec *spec);
#define _cleanup_batch_spec_ __attribute__((cleanup(batch_spec_clear)))
/* The names of its fields, ended by NULL: they belong to no other type. */
extern const char *const batch_fields[];
/* CONFIGURATION that names the field. Looks at nothing but the object. */
int batch_spec_parse(yyjson_val *target, const char *where, struct batch_spec *ret_spec, struct error **ret_error);
/* Whether a stored deployment_target_config is of this type. */
bool batch_is_job(const char *target_json);

/* What jobs may read and write. */
struct batch_access {
    const char *const *roots; /* real paths of folders */
    size_t root_count;
    const char *state; /* real path; nothing below it is given away, but for what lies in a root below it */
    const char *spool; /* folder for parts on their way to S3; made when needed */
    /* Opens a connection to the server that has the bucket. CONFIGURATION when none is configured. */
    int (*open_s3)(void *context, const char *bucket, struct s3 **ret_s3, struct error **ret_error);
    void *context;
};
/* Whether input and output are allowed, and the output is not there yet; asks no network. CONFIGURATION otherwise. */
int batch_check(const struct batch_spec *spec, const struct batch_access *access, struct error **ret_error);

struct batch_rejected {
    int64_t line;
    const char *stage; /* "inference": the model refused it; "other": it could not be read */
    const char *detail;
};

struct batch_part {
    int64_t number; /* from 0 */
    const char *name; /* of the file or object; "" when no row of it was written */
    int64_t input_end, line_end; /* bytes and lines of the input up to its end */
    int64_t rows, rejected, truncated; /* truncated: texts longer than the model's window */
    int64_t size_bytes;
    const char *sha256; /* hex */
    const struct batch_rejected *rejected_list;
    size_t rejected_listed; /* not all of them, when there are very many */
};

/* Where a job goes on. All zero: at the beginning. */
struct batch_checkpoint {
    const char *input_identity; /* of the input, as it was told first; NULL: not yet */
    int64_t parts, input_end, line_end, rows, rejected;
    struct batch_part last; /* the newest one, when there are any */
};

struct batch_replica {
    char *address; /* "unix:/path"; owned by the list's taker */
};

struct batch_progress {
    int64_t rows, rejected; /* of the whole job, that were written */
    int64_t total; /* reckoned from how much of the input was read; exact at the end */
    double rate; /* rows a second, of the last seconds */
};

/* The caller's side. Those marked W are called on the writing thread, the others on the caller's; never two at once of
 * one kind. */
struct batch_host {
    void *context;
    atomic_bool *interrupted; /* then batch_run() gives UNAVAILABLE soon */
    /* The identity is recorded, once, before anything else happens. */
    int (*begin)(void *context, const char *input_identity, struct error **ret_error);
    /* W: the part is recorded, durably. */
    int (*record)(void *context, const struct batch_part *part, struct error **ret_error);
    /* Calls `tell` for every recorded part in order: for the list at the end. */
    int (*list)(void *context, int (*tell)(const struct batch_part *part, void *to), void *to,
                struct error **ret_error);
    /* The replicas that are up now; an error when none will be any more. Caller frees each address and the array. */
    int (*replicas)(void *context, struct batch_replica **ret_list, size_t *ret_count, struct error **ret_error);
    void (*progress)(void *context, const struct batch_progress *progress);
};

struct batch_config {
    const struct batch_spec *spec;
    const struct batch_access *access;
    const struct batch_host *host;
    const char *job_id; /* a UUID */
    const char *model; /* what _SUCCESS says of the model, or NULL */
    const char *facts_json; /* the runner's report: docs/internals/runner-report.md */
    struct batch_checkpoint checkpoint;
};
struct batch_totals {
    int64_t rows, rejected, truncated, parts;
};
/* To its end. Errors: CONFIGURATION (not allowed, the output is somebody else's), MODEL_REGISTRY (the input is not
 * there, or has changed), DEPLOYMENT (a row was rejected and on_error is fail; replicas were given up), UNAVAILABLE
 * (interrupted; or transient: tried again later, it goes on at the last part). */
int batch_run(const struct batch_config *config, struct batch_totals *ret_totals, struct error **ret_error);
