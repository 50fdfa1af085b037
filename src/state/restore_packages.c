/* The packages of a restored state: from the backup, or, where it was taken without them, from where the models came
 * from: a URI whose files still have the digest that the state names. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry.h"
#include "state/state-internal.h"

#define TASK "restore" /* the name of the folder that it is made in */
#define ROOTS_MAXIMUM 64

struct laying {
    const struct state_restore *restore;
    const struct state_part *part;
    struct package_store *store;
    struct state_summary *summary;
    struct state_counter counter;
    char *roots[ROOTS_MAXIMUM];
    size_t root_count;
};

/* What lies in the folder that begin() gave becomes the package with that digest, or nothing. */
static int publish(struct laying *laying, const char *digest, const char *from, struct error **ret_error) {
    struct package_info info = {0};
    int result = folder_packages.measure(laying->store, TASK, NULL, &info, ret_error);
    if (!result && strcmp(info.digest, digest) != 0)
        result = error_set(ret_error, ERROR_DEPLOYMENT, "the files of %s have the digest %s instead of %s", from,
                           info.digest, digest);
    if (!result) result = folder_packages.publish(laying->store, TASK, &info, ret_error);
    if (result < 0) folder_packages.abandon(laying->store, TASK);
    return result;
}

/* ---- from the backup ---- */

static void took(void *context, const char *path, uint64_t size_bytes, const char *sha256) {
    (void)path, (void)sha256;
    state_count(&((struct laying *)context)->counter, size_bytes);
}

static int lay_out(struct laying *laying, const char *digest, struct error **ret_error) {
    _cleanup_free_ char *root = fs_join(laying->restore->backup, STATE_PACKAGES), *from = fs_join(root, digest);
    _cleanup_free_ char *to = NULL;
    struct package_listener listener = {took, laying};
    struct package_info info = {0};
    int result = folder_packages.begin(laying->store, TASK, &to, ret_error);
    if (!result) result = package_copy_folder(from, to, &listener, &info, ret_error);
    return result < 0 ? result : publish(laying, digest, from, ret_error);
}

/* ---- from where it came from ---- */

/* As the service would have it (supervisor_start.c): the folder that we are in, and the state's own. */
static void take_roots(struct laying *laying) {
    const char *given = laying->restore->settings->model_roots;
    char here[PATH_MAX];
    _cleanup_free_ char *list =
        *given ? text_copy(given)
               : text_format("%s:%s/models", getcwd(here, sizeof here) ? here : "", laying->restore->state);
    char *save = NULL;
    for (char *root = strtok_r(list, ":", &save); root && laying->root_count < ROOTS_MAXIMUM;
         root = strtok_r(NULL, ":", &save)) {
        char *real = realpath(root, NULL);
        if (real) laying->roots[laying->root_count++] = real;
    }
}

static int fetch_from(struct laying *laying, const char *uri, const char *digest, struct error **ret_error) {
    const struct registry_ops *registry = NULL;
    const struct registry_context context = {.roots = (const char *const *)laying->roots,
                                             .root_count = laying->root_count};
    __attribute__((cleanup(registry_resolution_clear))) struct registry_resolution resolution = {0};
    _cleanup_free_ char *to = NULL;
    int result = registry_find(uri, &registry, ret_error);
    if (!result) result = registry->resolve(&context, uri, &resolution, ret_error);
    if (!result) result = folder_packages.begin(laying->store, TASK, &to, ret_error);
    if (!result) result = registry->fetch(&context, &resolution, to, ret_error);
    if (result < 0) {
        folder_packages.abandon(laying->store, TASK);
        return result;
    }
    return publish(laying, digest, uri, ret_error);
}

struct origin {
    char *name, *uri; /* of a deployment that lives, and its model */
};
struct origins {
    struct origin *items;
    size_t count;
};

static void origins_clear(struct origins *origins) {
    for (size_t i = 0; i < origins->count; i++) {
        free(origins->items[i].name);
        free(origins->items[i].uri);
    }
    free(origins->items);
}

static int read_origins(const struct laying *laying, const char *digest, struct origins *origins,
                        struct error **ret_error) {
    _cleanup_free_ char *path = fs_join(laying->part->path, "control.db");
    const struct store_options options = {.schema = store_control_schema(), .role = STORE_READER, .any_version = true};
    struct store *store = NULL;
    struct store_transaction *tx = NULL;
    struct store_rows *rows = NULL;
    int result = store_open_as(path, &options, &store, ret_error);
    if (result < 0) return result;
    result = store_begin(store, &tx, ret_error);
    if (!result)
        result = store_query(tx, &rows, ret_error,
                             "SELECT DISTINCT d.name, r.model_uri FROM revisions r JOIN deployments d ON d.id = "
                             "r.deployment_id WHERE r.package_digest = ? AND d.status <> 'inactive' ORDER BY 1, 2",
                             "t", digest);
    while (!result && (result = store_next(rows, ret_error)) > 0) {
        origins->items = mem_resize(origins->items, origins->count + 1, sizeof *origins->items);
        origins->items[origins->count++] = (struct origin){store_text_copy(rows, 0), store_text_copy(rows, 1)};
        result = 0;
    }
    store_rows_free(rows);
    store_rollback(tx);
    store_close(store);
    return result;
}

/* Only a full disk, or the like, is an error: otherwise it is fetched or told. */
static int fetch_again(struct laying *laying, const char *digest, struct error **ret_error) {
    __attribute__((cleanup(origins_clear))) struct origins origins = {0};
    int result = read_origins(laying, digest, &origins, ret_error);
    if (result < 0) return result;
    for (size_t i = 0; i < origins.count; i++) {
        _cleanup_error_ struct error *error = NULL;
        result = fetch_from(laying, origins.items[i].uri, digest, &error);
        if (!result) {
            laying->summary->fetched++;
            return 0;
        }
        _cleanup_free_ char *text = error_text(error);
        if (result == -(int)ERROR_UNAVAILABLE) return error_set(ret_error, ERROR_UNAVAILABLE, "%s", text);
        state_summary_add_missing(
            laying->summary,
            text_format(
                "the model of %s cannot be fetched again from %s: %s; once the service runs, deploy it: slipway "
                "update %s URI",
                origins.items[i].name, origins.items[i].uri, text, origins.items[i].name));
    }
    return 0;
}

/* ---- all of them ---- */

int restore_packages(const struct state_restore *restore, const struct manifest *manifest,
                     const struct state_part *part, struct state_summary *summary, struct error **ret_error) {
    struct laying laying = {.restore = restore,
                            .part = part,
                            .summary = summary,
                            .counter = {.progress = restore->progress, .what = "packages"}};
    _cleanup_free_ char *location = fs_join(part->path, "packages");
    int result = folder_packages.open(location, &laying.store, ret_error);
    if (result < 0) return result;
    take_roots(&laying);
    for (size_t i = 0; i < manifest->package_count; i++) laying.counter.total_bytes += manifest->packages[i].size_bytes;
    for (size_t i = 0; i < manifest->package_count && !result; i++) {
        const char *digest = manifest->packages[i].digest;
        result =
            manifest->with_packages ? lay_out(&laying, digest, ret_error) : fetch_again(&laying, digest, ret_error);
        if (result < 0) error_wrap(ret_error, "restore the package sha256:%s", digest);
    }
    folder_packages.close(laying.store);
    for (size_t i = 0; i < laying.root_count; i++) free(laying.roots[i]);
    return result;
}
