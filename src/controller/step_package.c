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

static int publish(struct step_run *run, const struct step_state *state, struct error **ret_error) {
    struct package_info info = {.size_bytes = (uint64_t)state->size_bytes, .file_count = (uint64_t)state->file_count};
    snprintf(info.digest, sizeof info.digest, "%s", state->digest);
    struct controller *controller = run->controller;
    return controller->packages->publish(controller->package_store, run->task.id, &info, ret_error);
}

static int record_package(struct store_transaction *tx, const struct step_state *state, struct error **ret_error) {
    int64_t now = clock_wall_ms();
    return store_run(
        tx, NULL, ret_error,
        "INSERT INTO packages (digest, size_bytes, file_count, created_at, used_at) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at",
        "tiiii", state->digest, state->size_bytes, state->file_count, now, now);
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
static int check_encoder(struct step_run *run, struct store_transaction *tx, const struct step_state *state,
                         struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    _cleanup_free_ char *digest = NULL;
    int result = step_load(run, tx, &deployment, &revision, ret_error);
    if (result < 0 || (result = encoder_known_digest(tx, state->digest, revision.recipe_json, &digest, ret_error)) < 0)
        return result;
    return encoder_check_digest(tx, &deployment, deployment.serving_revision, digest, ret_error);
}

int step_package(struct step_run *run, struct error **ret_error) {
    _cleanup_state_ struct step_state state = {0};
    step_state_read(&run->task, &state);
    if (!state.digest) return error_set(ret_error, ERROR_DEPLOYMENT, "package: nothing was verified");
    int result = state.present ? 0 : publish(run, &state, ret_error);
    if (result < 0) return error_wrap(ret_error, "package sha256:%s", state.digest);
    _cleanup_free_ char *size = text_size((uint64_t)state.size_bytes);
    _cleanup_free_ char *words = text_format("package sha256:%s, %s in %lld files%s", state.digest, size,
                                             (long long)state.file_count, state.present ? "; it was here" : "");
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if ((result = step_begin(run, &tx, ret_error)) < 0 || (result = check_encoder(run, tx, &state, ret_error)) < 0 ||
        (result = record_package(tx, &state, ret_error)) < 0 || (result = record_source(tx, &state, ret_error)) < 0 ||
        (result = record_revision(tx, run, &state, ret_error)) < 0 ||
        (result = event_add(tx, "package", run->task.deployment_id, run->task.id, words, NULL, ret_error)) < 0)
        return result;
    return step_commit(run, TAKE(tx), ret_error);
}
