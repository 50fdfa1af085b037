/* What batch_output.c and batch_output_s3.c share. */
#pragma once
#include "batch/batch-internal.h"

#define BATCH_CLAIM ".slipway-batch"
#define BATCH_MANIFEST "_SUCCESS"
#define BATCH_PENDING_BYTES ((size_t)256 << 10)

struct batch_output {
    struct batch_place place;
    enum batch_format format;
    char *uri, *job_id;
    int folder; /* in which the temporary files lie: the output itself, or the job's spool */
    struct s3 *s3; /* NULL: a folder */
    char *spool; /* path of the job's spool folder */
    int descriptor; /* of the part that is being written, or -1 */
    int64_t number, size;
    struct digest *digest;
    struct buffer pending;
    char name[64], temporary[128], sha256[DIGEST_HEX_SIZE];
};

/* errno, with what was tried on which name. */
int batch_output_fail(const struct batch_output *output, const char *what, const char *name, struct error **ret_error);

/* ---- S3 (batch_output_s3.c) ---- */

int batch_output_open_prefix(struct batch_output *output, const struct batch_config *config, struct error **ret_error);
/* The temporary file becomes an object, and goes. Run again, it does the same. */
int batch_output_put(struct batch_output *output, const char *temporary, const char *name, struct error **ret_error);
int batch_output_check_object(struct batch_output *output, const struct batch_part *part, struct error **ret_error);
/* The claim goes, and the spool. */
int batch_output_release_prefix(struct batch_output *output, struct error **ret_error);
