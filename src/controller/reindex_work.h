/* The durable memory of a task that works on a collection (kinds reindex, switch, retire, collection_delete): a part of
 * tasks.state_json, beside what the engine keeps there (struct step_state), and written in the same transaction as what
 * it tells of. */
#pragma once
#include "controller/steps.h"

struct reindex_work {
#define WORK_TEXT char *
#define WORK_NUMBER int64_t
#define WORK_REAL double
#define WORK_FLAG bool
#define REQUESTED(kind, name) WORK_##kind name;
#define FOUND(kind, name) WORK_##kind name;
#include "controller/reindex_work.def"
#undef REQUESTED
#undef FOUND
#undef WORK_TEXT
#undef WORK_NUMBER
#undef WORK_REAL
#undef WORK_FLAG
};
void reindex_work_clear(struct reindex_work *work);
#define _cleanup_work_ __attribute__((cleanup(reindex_work_clear)))
/* Of a task as it was loaded. Owned strings. */
void reindex_work_read(const struct task *task, struct reindex_work *ret_work);
/* Writes it in the transaction and into run->task; what the engine keeps beside it stays. */
int reindex_work_write(struct store_transaction *tx, struct step_run *run, const struct reindex_work *work,
                       struct error **ret_error);
/* As state_json of a task that is about to be inserted; caller frees. */
char *reindex_work_state(const struct reindex_work *work);
/* What was asked for alone, as state_json: a restart begins with that. Caller frees. */
char *reindex_work_restart(const struct task *task);
