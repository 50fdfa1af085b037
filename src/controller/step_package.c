/* package: one rename makes it visible (S8), then one transaction records it: the package's row, the revision's digest
 * and resolved URI, and the revision's pin in place of the task's. A kill between the two finds the package there,
 * pinned by the task, and publishes again, which is success. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/collections.h"
#include "controller/fetch_claims.h"
#include "controller/packages.h"

static int publish(struct step_run *run, const struct step_state *state, struct error **ret_error) {
    struct package_info info = {.size_bytes = (uint64_t)state->size_bytes, .file_count = (uint64_t)state->file_count};
    snprintf(info.digest, sizeof info.digest, "%s", state->digest);
    struct controller *controller = run->controller;
    return controller->packages->publish(controller->package_store, run->task.id, &info, ret_error);
}

static int record_package(struct store_transaction *tx, const struct step_state *state, const struct revision *revision,
                          struct error **ret_error) {
    bool is_package = text_starts_with(revision->model_uri, PACKAGE_URI_PREFIX); /* says nothing of where it is from */
    const struct package_origin origin = {
        .source_uri = is_package ? NULL : revision->model_uri,
        .resolved_uri = state->resolved_uri,
        .facts_json = state->facts_json,
        .recipe_json = revision->recipe_json,
    };
    return package_row_record(tx, state->digest, state->size_bytes, state->file_count, &origin, ret_error);
}

/* From now on the same source is known without fetching it; what is known of packages that have gone is forgotten. */
static int record_source(struct store_transaction *tx, const struct step_state *state, struct error **ret_error) {
    int result = store_run(tx, NULL, ret_error,
                           "DELETE FROM package_sources WHERE NOT EXISTS (SELECT 1 FROM packages p WHERE p.digest = "
                           "package_sources.digest)",
                           "");
    if (result < 0 || !state->fingerprint) return result;
    return store_run(tx, NULL, ret_error,
                     "INSERT INTO package_sources (fingerprint, digest, seen_at) VALUES (?, ?, ?) "
                     "ON CONFLICT (fingerprint) DO UPDATE SET digest = excluded.digest, seen_at = excluded.seen_at",
                     "tti", state->fingerprint, state->digest, clock_wall_ms());
}

static int record_revision(struct store_transaction *tx, struct step_run *run, const struct step_state *state,
                           struct error **ret_error) {
    const struct task *task = &run->task;
    _cleanup_free_ char *package_uri = text_format("package:sha256:%s", state->digest);
    _cleanup_free_ char *holder = text_format("revision:%s/%lld", task->deployment_id, (long long)task->revision);
    _cleanup_free_ char *task_holder = text_format("task:%s", task->id);
    int result = store_run(
        tx, NULL, ret_error,
        "UPDATE revisions SET package_digest = ?, resolved_uri = ? WHERE deployment_id = ? AND number = ?", "ttti",
        state->digest, state->resolved_uri ? state->resolved_uri : package_uri, task->deployment_id, task->revision);
    if (result < 0 || (result = pin_package(tx, state->digest, holder, task->id, ret_error)) < 0) return result;
    return pin_release(tx, task_holder, ret_error);
}

/* An encoder in use stays what it is: where the package was seen running with this recipe, that is known here, before
 * anything is started. */
static int check_encoder(struct store_transaction *tx, const struct step_state *state,
                         const struct deployment *deployment, const struct revision *revision,
                         struct error **ret_error) {
    _cleanup_free_ char *digest = NULL;
    int result = encoder_known_digest(tx, state->digest, revision->recipe_json, &digest, ret_error);
    return result < 0 ? result : encoder_check_digest(tx, deployment, deployment->serving_revision, digest, ret_error);
}

/* What the package is for: a revision of a deployment, or itself. */
static int record_use(struct step_run *run, struct store_transaction *tx, const struct step_state *state,
                      const struct deployment *deployment, const struct revision *revision, struct error **ret_error) {
    if (package_task_is(&run->task)) return package_task_record(run, tx, state->digest, ret_error);
    int result = check_encoder(tx, state, deployment, revision, ret_error);
    return result < 0 ? result : record_revision(tx, run, state, ret_error);
}

static int record(struct step_run *run, const struct step_state *state, struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *size = text_size((uint64_t)state->size_bytes);
    _cleanup_free_ char *words = text_format("package sha256:%s, %s in %lld files%s", state->digest, size,
                                             (long long)state->file_count, state->present ? "; it was here" : "");
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = step_load(run, tx, &deployment, &revision, ret_error)) < 0 ||
        (result = record_package(tx, state, &revision, ret_error)) < 0 ||
        (result = record_source(tx, state, ret_error)) < 0 ||
        (result = record_use(run, tx, state, &deployment, &revision, ret_error)) < 0 ||
        (result = event_add(tx, "package", run->task.deployment_id, run->task.id, words, NULL, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}

int step_package(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    if (!state.digest) return error_set(ret_error, ERROR_DEPLOYMENT, "package: nothing was verified");
    int result = state.present ? 0 : publish(run, &state, ret_error);
    if (result < 0) return error_wrap(ret_error, "package sha256:%s", state.digest);
    if ((result = record(run, &state, ret_error)) >= 0) fetch_claim_finish(run, state.digest);
    return result;
}
