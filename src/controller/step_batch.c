/* batch: the rows of the input through the replicas into parts of the output (batch/). Whatever is killed, the next run
 * goes on behind the newest part that is recorded; see batch/batch.h for the order of things. The deployment is
 * `active` while this runs. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/batch_job.h"
#include "controller/steps.h"

struct work {
    struct step_run *run;
    struct deployment deployment;
    struct revision revision;
    struct replica_rows replicas;
    struct batch_spec spec;
    struct batch_job_access access;
    struct batch_job_rows rows;
};

static void work_clear(struct work *work) {
    deployment_clear(&work->deployment);
    revision_clear(&work->revision);
    replica_rows_clear(&work->replicas);
    batch_spec_clear(&work->spec);
    batch_job_close_access(&work->access);
    batch_job_rows_clear(&work->rows);
}

/* ---- what batch/ asks for ---- */

static int begin_job(void *context, const char *input_identity, struct error **ret_error) {
    struct work *work = context;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(work->run, &tx, ret_error);
    if (result < 0 || (result = batch_job_begin(tx, work->run->task.id, input_identity, ret_error)) < 0) return result;
    return step_commit(work->run, TAKE(tx), ret_error);
}

static int record_part(void *context, const struct batch_part *part, struct error **ret_error) {
    struct work *work = context;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(work->run, &tx, ret_error);
    if (result < 0 || (result = batch_job_record(tx, work->run->task.id, part, ret_error)) < 0) return result;
    return step_commit(work->run, TAKE(tx), ret_error);
}

static int list_parts(void *context, int (*tell)(const struct batch_part *part, void *to), void *to,
                      struct error **ret_error) {
    struct work *work = context;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = store_begin(work->run->controller->store, &tx, ret_error);
    return result < 0 ? result : batch_job_list(tx, work->run->task.id, tell, to, ret_error);
}

/* Those that are up. One that was given up does no harm as long as another is there. */
static int list_replicas(void *context, struct batch_replica **ret_list, size_t *ret_count, struct error **ret_error) {
    struct work *work = context;
    size_t given_up = 0;
    struct batch_replica *list = mem_new_array(work->replicas.count + 1, struct batch_replica);
    for (size_t i = 0; i < work->replicas.count; i++) {
        struct replica_view view __attribute__((cleanup(replica_view_clear)));
        replicas_get(work->run->controller->replicas, work->replicas.rows[i].id, &view);
        if (view.up && view.address) list[(*ret_count)++].address = text_format("unix:%s", view.address);
        if (!view.final_down || ++given_up < work->replicas.count) continue;
        if (ret_error) *ret_error = replica_last_words(work->replicas.rows[i].id, &view);
        *ret_list = list;
        return -ERROR_DEPLOYMENT;
    }
    *ret_list = list;
    return 0;
}

/* A courtesy: what cannot be written now is written with the next. */
static void write_progress(void *context, const struct batch_progress *progress) {
    struct work *work = context;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if (store_begin(work->run->controller->store, &tx, NULL) < 0) return;
    if (store_run(tx, NULL, NULL,
                  "UPDATE tasks SET progress_done = ?, progress_total = ?, progress_rate = ?, progress_failed = ?, "
                  "updated_at = ? WHERE id = ?",
                  "iidiit", progress->rows + progress->rejected, progress->total, progress->rate, progress->rejected,
                  clock_wall_ms(), work->run->task.id) >= 0)
        step_commit(work->run, TAKE(tx), NULL);
}

/* ---- before and after ---- */

static bool is_ours(const struct replica_row *row, const void *context) {
    const struct step_run *run = context;
    return step_is_coming(row, run->task.id, run->task.revision);
}

static int parse_target(struct work *work, struct error **ret_error) {
    const char *json = work->revision.target_json;
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    int result = json_parse_object(json, strlen(json), &document, &root, ret_error);
    return result < 0 ? result : batch_spec_parse(root, "deployment_target_config", &work->spec, ret_error);
}

/* Loads all of it; the deployment is active from here on. */
static int prepare(struct work *work, struct step_run *run, struct error **ret_error) {
    work->run = run;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = step_load(run, tx, &work->deployment, &work->revision, ret_error)) < 0 ||
        (result = parse_target(work, ret_error)) < 0 ||
        (result = replica_rows_load(tx, run->task.deployment_id, &work->replicas, ret_error)) < 0 ||
        (result = batch_job_load(tx, run->task.id, &work->rows, ret_error)) < 0)
        return result;
    replica_rows_filter(&work->replicas, is_ours, run);
    batch_job_open_access(run->controller, &run->interrupted, &work->access);
    if (!work->replicas.count) return error_set(ret_error, ERROR_DEPLOYMENT, "there is no replica to ask");
    if (work->deployment.status != DEPLOYMENT_CREATING) return 0;
    _cleanup_free_ char *message = health_base_message(run->controller, work->revision.target_json);
    result = deployment_set_status(tx, work->deployment.id, DEPLOYMENT_ACTIVE, message, NULL, run->task.id, ret_error);
    if (result < 0 || (result = store_run(tx, NULL, ret_error,
                                          "UPDATE tasks SET progress_done = 0, progress_total = 0, progress_rate = 0 "
                                          "WHERE id = ?",
                                          "t", run->task.id)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

static int record_totals(struct work *work, const struct batch_totals *totals, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&work->run->task, &state);
    _cleanup_free_ char *rows = text_count((uint64_t)totals->rows, "row", "rows");
    _cleanup_free_ char *parts = text_count((uint64_t)totals->parts, "part", "parts");
    _cleanup_free_ char *words =
        text_format("%s written in %s, %lld rejected", rows, parts, (long long)totals->rejected);
    free(state.note);
    state.note = totals->truncated ? text_format("%s, %lld longer than the model's window and cut", words,
                                                 (long long)totals->truncated)
                                   : TAKE(words);
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(work->run, &tx, ret_error);
    if (result < 0 || (result = step_state_write(tx, work->run, &state, ret_error)) < 0) return result;
    return step_commit(work->run, TAKE(tx), ret_error);
}

int step_batch(struct step_run *run, struct error **ret_error) {
    __attribute__((cleanup(work_clear))) struct work work = {0};
    /* After a kill of the whole machine the replica is gone, and is started again. */
    int result = step_wait_up(run, run->task.revision, STEP_NO_DEADLINE, ret_error);
    if (result < 0 || (result = prepare(&work, run, ret_error)) < 0) return result;
    const struct batch_host host = {.context = &work,
                                    .interrupted = &run->interrupted,
                                    .begin = begin_job,
                                    .record = record_part,
                                    .list = list_parts,
                                    .replicas = list_replicas,
                                    .progress = write_progress};
    _cleanup_free_ char *package = text_format("package:sha256:%s", work.revision.package_digest);
    const struct batch_config config = {
        .spec = &work.spec,
        .access = &work.access.access,
        .host = &host,
        .job_id = run->task.id,
        .model = work.revision.resolved_uri ? work.revision.resolved_uri : package,
        .facts_json = work.revision.facts_json,
        .checkpoint = work.rows.checkpoint,
    };
    struct batch_totals totals = {0};
    result = batch_run(&config, &totals, ret_error);
    return result < 0 ? result : record_totals(&work, &totals, ret_error);
}
