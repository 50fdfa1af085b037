/* Batch jobs in the controller: what requests for them may ask for, and their rows. The work itself is batch/'s. */
#pragma once
#include "batch/batch.h"
#include "controller/engine-internal.h"

/* What jobs may read and write now, as the settings and the registries file say. */
struct batch_job_access {
    struct batch_access access;
    char **roots;
    char *state, *spool;
    const struct controller *controller;
    atomic_bool *interrupted; /* of a step; NULL: none */
};
void batch_job_open_access(const struct controller *controller, atomic_bool *interrupted,
                           struct batch_job_access *ret_access);
void batch_job_close_access(struct batch_job_access *access);
#define _cleanup_batch_access_ __attribute__((cleanup(batch_job_close_access)))

/* Whether the job may read and write where it says. Asks no network. CONFIGURATION otherwise. Blocking. */
int batch_job_check(const struct controller *controller, const char *target_json, struct error **ret_error);
/* Whether the target config is of a job that runs at idle priority. */
bool batch_job_is_idle(const char *target_json);

/* The rows of a job: where it goes on. All owned. */
struct batch_job_rows {
    char *input_identity, *name, *sha256;
    struct batch_checkpoint checkpoint; /* points to the above */
};
int batch_job_load(struct store_transaction *tx, const char *task_id, struct batch_job_rows *ret_rows,
                   struct error **ret_error);
void batch_job_rows_clear(struct batch_job_rows *rows);
#define _cleanup_batch_rows_ __attribute__((cleanup(batch_job_rows_clear)))
int batch_job_begin(struct store_transaction *tx, const char *task_id, const char *input_identity,
                    struct error **ret_error);
int batch_job_record(struct store_transaction *tx, const char *task_id, const struct batch_part *part,
                     struct error **ret_error);
int batch_job_list(struct store_transaction *tx, const char *task_id,
                   int (*tell)(const struct batch_part *part, void *to), void *to, struct error **ret_error);
/* The rejected rows as failed items: id (the line), line, stage, detail. */
int batch_job_render_rejected(struct store_transaction *tx, const char *task_id, int64_t limit, int64_t offset,
                              yyjson_mut_doc *document, yyjson_mut_val *array, int64_t *ret_total,
                              struct error **ret_error);
/* Rows of jobs whose tasks are gone; spool folders that no task will go on with. */
int batch_job_forget(struct store_transaction *tx, struct error **ret_error);
int batch_job_trim_spool(struct controller *controller, struct error **ret_error);
