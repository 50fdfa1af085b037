/* fetch: the URI is resolved and its files are copied into the task's private folder. A kill in it leaves half a
 * folder, which the next run empties (packages->begin). Nothing is fetched of a package: URI, nor of a source of which
 * is known that its package is here already, nor of one that another task is fetching (fetch_claims.h): that one's
 * package is waited for.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/pause.h"
#include "base/text.h"
#include "controller/fetch_claims.h"
#include "controller/fetch_source.h"
#include "controller/registries.h"
#include "controller/steps.h"
#include "registry/registry_servers.h"

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
    if (done != total && now - progress->written_ms < PROGRESS_MS) return; /* total 0: nothing tells */
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
static int use_present(struct step_run *run, const char *digest, const char *resolved_uri, struct step_state *state,
                       struct error **ret_error) {
    struct controller *controller = run->controller;
    package_gate_lock(controller->engine);
    _cleanup_free_ char *path = NULL;
    int result = controller->packages->locate(controller->package_store, digest, &path, ret_error);
    if (result >= 0) result = read_package_row(run, digest, state, ret_error);
    if (result >= 0) {
        state->present = true;
        state->digest = text_copy(digest);
        state->resolved_uri = text_copy(resolved_uri);
        result = record(run, state, digest, ret_error);
    } else if (ret_error && *ret_error) {
        (*ret_error)->class = ERROR_MODEL_REGISTRY;
    }
    package_gate_unlock(controller->engine);
    return result;
}

/* One fetch: what is resolved, and by what it is known. */
struct source {
    const char *uri;
    const struct registry_ops *registry;
    struct registry_context context;
    struct registry_resolution resolution;
    char *known_key, *claim_key; /* fetch_source.h; may be NULL */
    struct progress progress;
};

static void source_clear(struct source *source) {
    registry_resolution_clear(&source->resolution);
    free(source->known_key);
    free(source->claim_key);
}

/* ---- what need not be fetched ---- */

/* The package that was made of the same source before, or NULL. */
static int find_known(struct step_run *run, const char *key, char **ret_digest, struct error **ret_error) {
    if (!key) return 0;
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_rows_ struct store_rows *rows = NULL;
    int result = store_begin(run->controller->store, &tx, ret_error);
    if (result < 0 ||
        (result = store_query(tx, &rows, ret_error, "SELECT digest FROM package_sources WHERE fingerprint = ?", "t",
                              key)) < 0 ||
        (result = store_next(rows, ret_error)) <= 0)
        return result;
    *ret_digest = text_copy(store_text(rows, 0));
    return 0;
}

/* 1: the package is here and used; 0: it was removed meanwhile. */
static int use_digest(struct step_run *run, const char *digest, const struct source *source, struct step_state *state,
                      struct error **ret_error) {
    struct error *error = NULL;
    int result = use_present(run, digest, source->resolution.resolved_uri, state, &error);
    if (!result) return 1;
    if (error && error->class == ERROR_MODEL_REGISTRY) {
        error_free(error);
        step_state_clear(state);
        return 0;
    }
    *ret_error = error;
    return result;
}

/* 1: its package is here and used; 0: it is to be fetched. */
static int use_known(struct step_run *run, const struct source *source, struct step_state *state,
                     struct error **ret_error) {
    _cleanup_free_ char *digest = NULL;
    int result = find_known(run, source->known_key, &digest, ret_error);
    return result < 0 || !digest ? result : use_digest(run, digest, source, state, ret_error);
}

static void tell_of_waiting(struct step_run *run, const char *task_id) {
    _cleanup_transaction_ struct store_transaction *tx = NULL;
    _cleanup_free_ char *words = text_format("fetch waits for task %s, which fetches the same model", task_id);
    if (step_begin(run, &tx, NULL) < 0 ||
        event_add(tx, "task_step", run->task.deployment_id, run->task.id, words, NULL, NULL) < 0)
        return;
    step_commit(run, TAKE(tx), NULL);
}

/* The same for what somebody else may be fetching. Who waited for one that failed looks again: a third may have been
 * quicker between. */
static int use_shared(struct step_run *run, const struct source *source, struct step_state *state,
                      struct error **ret_error) {
    _cleanup_free_ char *digest = NULL;
    int result = use_known(run, source, state, ret_error);
    if (result || !source->claim_key) return result;
    result = fetch_claim(run, source->claim_key, tell_of_waiting, &digest, ret_error);
    if (!result) return use_digest(run, digest, source, state, ret_error);
    if (result < 0) return result;
    if ((result = use_known(run, source, state, ret_error))) fetch_claim_release(run);
    return result;
}

/* ---- fetching ---- */

/* What was fetched is what the key names when the source still has it afterwards. A source that cannot be looked at
 * again was fetched all the same: only nothing is known of it. */
static int keep_key(struct step_run *run, struct source *source, struct step_state *state, struct error **ret_error) {
    if (!source->known_key) return 0;
    __attribute__((cleanup(registry_resolution_clear))) struct registry_resolution after = {0};
    if (source->registry->resolve(&source->context, source->uri, &after, NULL) < 0) return 0;
    _cleanup_free_ char *key = fetch_known_key(source->registry, source->uri, &after);
    if (!text_equal(source->known_key, key)) return 0;
    state->fingerprint = TAKE(key);
    return record(run, state, NULL, ret_error);
}

/* Before the first byte: a disk that is filled takes others' work down with it. */
static int check_room(const char *folder, uint64_t needed, struct error **ret_error) {
    struct statvfs disk;
    if (statvfs(folder, &disk) < 0 || needed / disk.f_frsize < disk.f_bavail) return 0;
    _cleanup_free_ char *need = text_size(needed), *room = text_size((uint64_t)disk.f_bavail * disk.f_frsize);
    error_set(ret_error, ERROR_UNAVAILABLE, "the model has %s, and the disk of the state folder has %s free", need,
              room);
    return error_mark_transient(ret_error);
}

static int fetch_files(struct step_run *run, struct source *source, struct step_state *state,
                       struct error **ret_error) {
    struct controller *controller = run->controller;
    const struct registry_resolution *resolution = &source->resolution;
    state->resolved_uri = text_copy(resolution->resolved_uri);
    state->facts_json = text_copy(resolution->facts_json);
    state->size_bytes = (int64_t)resolution->size_bytes;
    state->file_count = (int64_t)resolution->file_count;
    _cleanup_free_ char *folder = NULL;
    int result = record(run, state, NULL, ret_error);
    if (result < 0 ||
        (result = controller->packages->begin(controller->package_store, run->task.id, &folder, ret_error)) < 0)
        return result;
    write_progress(&source->progress, 0, resolution->size_bytes, clock_monotonic_ms());
    pause_point("fetch_begins");
    result = check_room(folder, resolution->size_bytes, ret_error);
    if (result >= 0) result = source->registry->fetch(&source->context, resolution, folder, ret_error);
    pause_point("fetch_ends");
    /* What a full disk holds of it would stand in the way of recording that the disk is full. */
    if (result < 0) controller->packages->abandon(controller->package_store, run->task.id);
    return result < 0 ? result : keep_key(run, source, state, ret_error);
}

/* The engine interrupts at the deadline, and says so; a server that is waited for a little longer does not forestall
 * it. */
#define DEADLINE_MARGIN_MS 2000

static int fetch_source(struct step_run *run, const char *uri, struct step_state *state, struct error **ret_error) {
    __attribute__((cleanup(source_clear))) struct source source = {
        .uri = uri,
        .context = registries_context(run->controller),
        .progress = {.run = run, .began_ms = clock_monotonic_ms()},
    };
    struct registry_resolution *resolution = &source.resolution;
    source.context.canceled = &run->interrupted;
    source.context.on_progress = on_progress;
    source.context.progress_context = &source.progress;
    source.context.deadline_ms =
        run->deadline_ms && run->deadline_ms < STEP_NO_DEADLINE ? run->deadline_ms + DEADLINE_MARGIN_MS : 0;
    int result = registry_find(uri, &source.registry, ret_error);
    if (result < 0) return result;
    if ((result = source.registry->resolve(&source.context, uri, resolution, ret_error)) < 0)
        return registry_servers_explain(source.context.servers, ret_error);
    source.known_key = fetch_known_key(source.registry, uri, resolution);
    source.claim_key = fetch_claim_key(source.registry, uri, resolution);
    result = use_shared(run, &source, state, ret_error);
    if (!result) result = fetch_files(run, &source, state, ret_error);
    return result < 0 ? result : 0;
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
        result = use_present(run, revision.model_uri + strlen(PACKAGE_URI), NULL, &state, ret_error);
    else
        result = fetch_source(run, revision.model_uri, &state, ret_error);
    return result < 0 ? error_wrap(ret_error, "fetch %s", revision.model_uri) : 0;
}
