/* From what a URI names to where the files are: MLflow keeps registered versions that point to logged models or runs,
 * which point to artifacts. */
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"

#define POINTERS_MAXIMUM 4 /* URIs that lead to URIs */

void mlflow_place_clear(struct mlflow_place *place) {
    free(place->artifact_uri);
    free(place->resolved_uri);
    free(place->run_id);
    free(place->model_id);
    *place = (struct mlflow_place){0};
}

/* A path below an artifact URI, which has no query of its own where this is called with a path. */
static char *join(const char *artifact_uri, const char *path) {
    size_t size = strlen(artifact_uri);
    while (size && artifact_uri[size - 1] == '/') size--;
    return *path ? text_format("%.*s/%s", (int)size, artifact_uri, path) : text_copy(artifact_uri);
}

/* Takes the model. */
static void set_logged_model(const struct mlflow_uri *uri, struct mlflow_logged_model *model, const char *path,
                             struct mlflow_place *place) {
    const struct mlflow_uri own = {
        .kind = MLFLOW_LOGGED_MODEL, .server = uri->server, .name = model->model_id, .path = (char *)path};
    place->artifact_uri = join(model->artifact_uri, path);
    place->resolved_uri = mlflow_uri_write(&own);
    place->model_id = TAKE(model->model_id);
    mlflow_logged_model_clear(model);
}

static int locate_logged_model(struct mlflow *mlflow, const struct mlflow_uri *uri, struct mlflow_place *place,
                               struct error **ret_error) {
    struct mlflow_logged_model model = {0};
    int result = mlflow_get_logged_model(mlflow, uri->name, &model, ret_error);
    if (!result) set_logged_model(uri, &model, uri->path, place);
    return result;
}

/* Without a path and without logged models: what 2.x noted of the models that were logged into the run. */
static int choose_path(const struct mlflow_uri *uri, const struct mlflow_run *run, const char **ret_path,
                       struct error **ret_error) {
    if (run->logged_count == 1) {
        *ret_path = run->logged_paths[0];
        return 0;
    }
    if (!run->logged_count)
        return error_set(ret_error, ERROR_MODEL_REGISTRY,
                         "the run %s has no model that was logged as one; name the path in it: runs:/%s/PATH",
                         uri->name, uri->name);
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the run %s has several models, %s and %s among them; name one: "
                     "runs:/%s/%s",
                     uri->name, run->logged_paths[0], run->logged_paths[1], uri->name, run->logged_paths[0]);
}

/* Models win over what lies in the run's own folder, as with MLflow's client. The first part of the path is the model's
 * name, since names have no '/' in them. */
static int locate_in_run(struct mlflow *mlflow, const struct mlflow_uri *uri, const struct mlflow_run *run,
                         struct mlflow_place *place, struct error **ret_error) {
    size_t size = strcspn(uri->path, "/");
    _cleanup_free_ char *name = size ? text_copy_bytes(uri->path, size) : NULL;
    struct mlflow_logged_model model = {0};
    int result = mlflow_find_logged_model(mlflow, run->experiment_id, uri->name, name, &model, ret_error);
    if (result < 0) return result;
    place->run_id = text_copy(uri->name);
    if (model.model_id) {
        set_logged_model(uri, &model, uri->path + size + (uri->path[size] == '/'), place);
        return 0;
    }
    const char *path = uri->path;
    if (!*path && (result = choose_path(uri, run, &path, ret_error)) < 0) return result;
    place->artifact_uri = join(run->artifact_uri, path);
    if (run->has_ended) {
        struct mlflow_uri own = *uri;
        own.path = (char *)path;
        place->resolved_uri = mlflow_uri_write(&own);
    }
    return 0;
}

static int locate_run(struct mlflow *mlflow, const struct mlflow_uri *uri, struct mlflow_place *place,
                      struct error **ret_error) {
    struct mlflow_run run = {0};
    int result = mlflow_get_run(mlflow, uri->name, &run, ret_error);
    if (!result) result = locate_in_run(mlflow, uri, &run, place, ret_error);
    mlflow_run_clear(&run);
    return result;
}

static int locate(struct mlflow *mlflow, const struct mlflow_uri *uri, int depth, struct mlflow_place *place,
                  struct error **ret_error);

/* Where a version points to: files, or a run or a logged model of the same server. */
static int follow(struct mlflow *mlflow, const char *server, const char *target, int depth, struct mlflow_place *place,
                  struct error **ret_error) {
    if (!text_starts_with(target, "runs:") && !text_starts_with(target, "models:")) {
        place->artifact_uri = text_copy(target);
        return 0;
    }
    if (depth >= POINTERS_MAXIMUM)
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "%s is the end of %d URIs that lead to each other", target,
                         POINTERS_MAXIMUM);
    _cleanup_mlflow_uri_ struct mlflow_uri uri = {0};
    int result = mlflow_uri_parse(target, &uri, ret_error);
    if (result < 0) return result;
    if (*uri.server)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s leads to another server, which is not followed", target);
    free(uri.server);
    uri.server = text_copy(server);
    return locate(mlflow, &uri, depth + 1, place, ret_error);
}

static int locate_version(struct mlflow *mlflow, const struct mlflow_uri *uri, const char *version, int depth,
                          struct mlflow_place *place, struct error **ret_error) {
    _cleanup_free_ char *target = NULL;
    int result = mlflow_get_version_uri(mlflow, uri->name, version, &target, ret_error);
    if (result < 0) return result;
    const struct mlflow_uri own = {.kind = MLFLOW_VERSION,
                                   .server = uri->server,
                                   .name = uri->name,
                                   .selector = (char *)version,
                                   .path = (char *)""};
    _cleanup_free_ char *resolved = mlflow_uri_write(&own);
    if ((result = follow(mlflow, uri->server, target, depth, place, ret_error)) < 0)
        return error_wrap(ret_error, "%s is of %s", resolved, target);
    free(place->resolved_uri);
    place->resolved_uri = TAKE(resolved);
    return 0;
}

static int locate(struct mlflow *mlflow, const struct mlflow_uri *uri, int depth, struct mlflow_place *place,
                  struct error **ret_error) {
    _cleanup_free_ char *version = NULL;
    int result = 0;
    switch (uri->kind) {
    case MLFLOW_RUN: return locate_run(mlflow, uri, place, ret_error);
    case MLFLOW_LOGGED_MODEL: return locate_logged_model(mlflow, uri, place, ret_error);
    case MLFLOW_VERSION: version = text_copy(uri->selector); break;
    case MLFLOW_ALIAS: result = mlflow_get_alias(mlflow, uri->name, uri->selector, &version, ret_error); break;
    case MLFLOW_STAGE:
    case MLFLOW_LATEST: result = mlflow_get_latest(mlflow, uri->name, uri->selector, &version, ret_error); break;
    }
    return result < 0 ? result : locate_version(mlflow, uri, version, depth, place, ret_error);
}

int mlflow_locate(struct mlflow *mlflow, const struct mlflow_uri *uri, struct mlflow_place *ret_place,
                  struct error **ret_error) {
    struct mlflow_place place = {0};
    int result = locate(mlflow, uri, 0, &place, ret_error);
    if (result < 0) {
        mlflow_place_clear(&place);
        return result;
    }
    *ret_place = place;
    return 0;
}
