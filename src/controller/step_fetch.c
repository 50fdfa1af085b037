/* fetch: the URI is resolved and its files are copied into the task's private folder. A kill in it leaves half a
 * folder, which the next run empties (packages->begin). Nothing is fetched of a package: URI, nor of a source whose
 * fingerprint tells that its package is here already.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/steps.h"

#define PACKAGE_URI "package:sha256:"
#define PROGRESS_MS 500 /* at most two writes a second */

struct progress {
    struct step_run *run;
    uint64_t began_ms, written_ms;
};

/* Progress is a courtesy: what cannot be written now is written with the next piece. */
static void write_progress(struct progress *progress, uint64_t done, uint64_t total, uint64_t now) {
    struct controller *controller = progress->run->controller;
    uint64_t took = now - progress->began_ms;
    double rate = took ? (double)done * 1000 / (double)took : 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    if (store_begin(controller->store, &tx, NULL) < 0) return;
    if (store_run(
            tx, NULL, NULL,
            "UPDATE tasks SET progress_done = ?, progress_total = ?, progress_rate = ?, updated_at = ? WHERE id = ?",
            "iidit", (int64_t)done, (int64_t)total, rate, clock_wall_ms(), progress->run->task.id) < 0)
        return;
    step_commit(progress->run, TAKE(tx), NULL);
    progress->written_ms = now;
}

static void on_progress(uint64_t done, uint64_t total, void *context) {
    struct progress *progress = context;
    uint64_t now = clock_monotonic_ms();
    if (done < total && now - progress->written_ms < PROGRESS_MS) return;
    write_progress(progress, done, total, now);
}

static int record(struct step_run *run, const struct step_state *state, const char *pinned_digest,
                  struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0) return result;
    if (pinned_digest) {
        _cleanup_free_ char *holder = text_format("task:%s", run->task.id);
        if ((result = pin_package(tx, pinned_digest, holder, run->task.id, ret_error)) < 0) return result;
    }
    result = step_state_write(tx, run, state, ret_error);
    return result < 0 ? result : step_commit(run, TAKE(tx), ret_error);
}

static int read_package_row(struct step_run *run, const char *digest, struct step_state *state,
                            struct error **ret_error) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = store_query(tx, &rows, ret_error, "SELECT size_bytes, file_count FROM packages WHERE digest = ?", "t",
                              digest)) < 0 ||
        (result = store_next(rows, ret_error)) < 0)
        return result;
    if (!result) return error_set(ret_error, ERROR_MODEL_REGISTRY, "there is no package %s here", digest);
    state->size_bytes = store_number(rows, 0);
    state->file_count = store_number(rows, 1);
    return 0;
}

/* It is pinned before anything relies on it, and while nobody can be removing it. */
static int use_present(struct step_run *run, const char *digest, struct step_state *state, struct error **ret_error) {
    struct controller *controller = run->controller;
    package_gate_lock(controller->engine);
    _cleanup_free_ char *path = NULL;
    int result = controller->packages->locate(controller->package_store, digest, &path, ret_error);
    if (result >= 0) result = read_package_row(run, digest, state, ret_error);
    if (result >= 0) {
        state->present = true;
        state->digest = text_copy(digest);
        state->resolved_uri = text_format(PACKAGE_URI "%s", digest);
        result = record(run, state, digest, ret_error);
    } else if (ret_error && *ret_error) {
        (*ret_error)->class = ERROR_MODEL_REGISTRY;
    }
    package_gate_unlock(controller->engine);
    return result;
}

/* The package that was made of the same source before, or NULL. */
static int find_known(struct step_run *run, const struct registry_resolution *resolution, char **ret_digest,
                      struct error **ret_error) {
    if (!resolution->fingerprint) return 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = store_query(tx, &rows, ret_error, "SELECT digest FROM package_sources WHERE fingerprint = ?", "t",
                              resolution->fingerprint)) < 0 ||
        (result = store_next(rows, ret_error)) <= 0)
        return result;
    *ret_digest = text_copy(store_text(rows, 0));
    return 0;
}

/* 1: its package is here and used; 0: it is to be fetched. One that was removed meanwhile is fetched again. */
static int use_known(struct step_run *run, const struct registry_resolution *resolution, struct step_state *state,
                     struct error **ret_error) {
    _cleanup_free_ char *digest = NULL;
    int result = find_known(run, resolution, &digest, ret_error);
    if (result < 0 || !digest) return result;
    struct error *error = NULL;
    result = use_present(run, digest, state, &error);
    if (!result) return 1;
    if (error && error->class == ERROR_MODEL_REGISTRY) {
        error_free(error);
        step_state_clear(state);
        return 0;
    }
    *ret_error = error;
    return result;
}

/* What was fetched is what the fingerprint names when the source still has it afterwards. A source that cannot be
 * looked at again was fetched all the same: only nothing is known of it. */
static int keep_fingerprint(struct step_run *run, const struct registry_ops *registry,
                            const struct registry_context *context, const char *uri,
                            const struct registry_resolution *before, struct step_state *state,
                            struct error **ret_error) {
    if (!before->fingerprint) return 0;
    __attribute__((cleanup(registry_resolution_clear))) struct registry_resolution after = {0};
    if (registry->resolve(context, uri, &after, NULL) < 0) return 0;
    if (!text_equal(before->fingerprint, after.fingerprint)) return 0;
    state->fingerprint = text_copy(before->fingerprint);
    return record(run, state, NULL, ret_error);
}

static int fetch_files(struct step_run *run, const char *uri, struct step_state *state, struct error **ret_error) {
    struct controller *controller = run->controller;
    struct progress progress = {.run = run, .began_ms = clock_monotonic_ms()};
    struct registry_context context = controller->registry;
    context.canceled = &run->interrupted;
    context.on_progress = on_progress;
    context.progress_context = &progress;
    const struct registry_ops *registry = NULL;
    __attribute__((cleanup(registry_resolution_clear))) struct registry_resolution resolution = {0};
    int result = registry_find(uri, &registry, ret_error);
    if (result < 0 || (result = registry->resolve(&context, uri, &resolution, ret_error)) < 0 ||
        (result = use_known(run, &resolution, state, ret_error)) != 0)
        return result < 0 ? result : 0;
    state->resolved_uri = text_copy(resolution.resolved_uri);
    state->size_bytes = (int64_t)resolution.size_bytes;
    state->file_count = (int64_t)resolution.file_count;
    _cleanup_free_ char *folder = NULL;
    if ((result = record(run, state, NULL, ret_error)) < 0 ||
        (result = controller->packages->begin(controller->package_store, run->task.id, &folder, ret_error)) < 0)
        return result;
    write_progress(&progress, 0, resolution.size_bytes, clock_monotonic_ms());
    result = registry->fetch(&context, &resolution, folder, ret_error);
    /* What a full disk holds of it would stand in the way of recording that the disk is full. */
    if (result < 0) controller->packages->abandon(controller->package_store, run->task.id);
    return result < 0 ? result : keep_fingerprint(run, registry, &context, uri, &resolution, state, ret_error);
}

int step_fetch(struct step_run *run, struct error **ret_error) {
    _cleanup_deployment_ struct deployment deployment = {0};
    _cleanup_revision_ struct revision revision = {0};
    _cleanup_state_ struct step_state state = {0};
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    int result = step_begin(run, &tx, ret_error);
    if (result < 0 || (result = step_load(run, tx, &deployment, &revision, ret_error)) < 0) return result;
    store_rollback(TAKE(tx));
    if (text_starts_with(revision.model_uri, PACKAGE_URI))
        result = use_present(run, revision.model_uri + strlen(PACKAGE_URI), &state, ret_error);
    else
        result = fetch_files(run, revision.model_uri, &state, ret_error);
    return result < 0 ? error_wrap(ret_error, "fetch %s", revision.model_uri) : 0;
}
