/* The MLflow registry: models that a tracking server of MLflow 2.x or 3.x knows.
 *
 * URIs: runs:/R/path, runs:/R, mlflow_runs: the same, models:/name/3, models:/name@alias, models:/name/latest,
 * models:/name/stage, models:/m-…; with //NAME/ behind the scheme they ask the server of the section [mlflow NAME].
 *
 * What they are pinned to (resolved_uri):
 *   - an alias, a stage and latest: the version, models:/name/3. MLflow gives a number once.
 *   - a logged model (3.x), also one that was found by its run: models:/m-…, since a run may log a model of the same
 * name again, and the newest counts.
 *   - a path in a run's own folder: runs:/R/path when the run has ended; while it runs, more may be logged over it, so
 * that there is nothing to pin it to but the package itself.
 * MLflow keeps anyone from none of it: who may write artifacts can write them anew. So none of these names tells that
 * bytes are the same; only an ETag does (registry_mlflow_artifacts.c), and the names are pinned for people.
 *
 * A folder with a file MLmodel must have the flavour onnx; one without is taken as it is, as from any other registry.
 * Artifacts that the server does not hand through itself are fetched by the registry that their URI belongs to, within
 * what that one allows: file: (roots), s3: (its servers). The location of a resolution begins with who fetches it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"
#include "registry/registry_s3.h"

#define MLMODEL "MLmodel"

static int check(const struct registry_context *context, const char *uri, struct mlflow_uri *ret_uri,
                 struct error **ret_error) {
    int result = mlflow_uri_parse(uri, ret_uri, ret_error);
    if (result < 0 || registry_server_named(context->servers, REGISTRY_MLFLOW, ret_uri->server)) return result;
    if (!*ret_uri->server)
        return registry_fail_unconfigured(uri,
                                          "give the tracking server's address in MLFLOW_TRACKING_URI, or in the "
                                          "section [mlflow] of the file that the setting registries names",
                                          ret_error);
    _cleanup_free_ char *how =
        text_format("there is no section [mlflow %s] in the file that the setting registries names", ret_uri->server);
    return registry_fail_unconfigured(uri, how, ret_error);
}

static int mlflow_check(const struct registry_context *context, const char *uri, struct error **ret_error) {
    _cleanup_mlflow_uri_ struct mlflow_uri parsed = {0};
    return check(context, uri, &parsed, ret_error);
}

/* ---- who has the files ---- */

static const struct {
    const char *name;
    const struct registry_ops *registry;
} others[] = {{"file", &file_registry}, {"s3", &s3_registry}};

#define PROXIED "proxied " /* + the server's name */

/* The registry that a location begins with, and what it says behind that; NULL: proxied. */
static const struct registry_ops *other_of(const char *location, const char **ret_rest) {
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        size_t size = strlen(others[i].name);
        if (strncmp(location, others[i].name, size) || location[size] != ' ') continue;
        *ret_rest = location + size + 1;
        return others[i].registry;
    }
    *ret_rest = location + strlen(PROXIED);
    return NULL;
}

/* A bare path is a file, too: what a server without --serve-artifacts keeps in a folder has one. */
static int find_other(const char *artifact_uri, size_t *ret_index, struct error **ret_error) {
    const char *uri = *artifact_uri == '/' ? "file:" : artifact_uri;
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        size_t size = strlen(others[i].name);
        if (strncasecmp(others[i].name, uri, size) || uri[size] != ':') continue;
        *ret_index = i;
        return 0;
    }
    return error_set(ret_error, ERROR_CONFIGURATION,
                     "the model's files are at %.200s, and of artifacts there only s3: and file: are fetched from "
                     "elsewhere; start the tracking server with --serve-artifacts, so that it hands them through",
                     artifact_uri);
}

/* ---- the file MLmodel ---- */

static const struct registry_file *find_file(const struct registry_resolution *resolution, const char *path) {
    for (size_t i = 0; i < resolution->file_count; i++)
        if (!strcmp(resolution->files[i].path, path)) return &resolution->files[i];
    return NULL;
}

static int take_model(const char *bytes, size_t size, struct registry_resolution *resolution,
                      struct error **ret_error) {
    _cleanup_free_ char *onnx_path = NULL, *facts = NULL;
    int result = mlflow_model_read(bytes, size, &onnx_path, &facts, ret_error);
    if (result < 0) return result;
    if (!find_file(resolution, onnx_path))
        return error_set(ret_error, ERROR_MODEL_REGISTRY,
                         "the file MLmodel names %s as the flavor onnx's file, and the model has no such file",
                         onnx_path);
    free(resolution->facts_json);
    resolution->facts_json = TAKE(facts);
    return 0;
}

static int read_from_folder(const struct registry_context *context, const char *location, struct buffer *bytes,
                            struct error **ret_error) {
    _cleanup_free_ char *path = text_format("%s/" MLMODEL, location);
    _cleanup_free_ char *real = realpath(path, NULL); /* it may be a link inside the roots */
    _cleanup_close_ int file = real ? registry_open_inside(context, real, O_RDONLY) : -1;
    ssize_t got = -1;
    if (file >= 0 && buffer_reserve(bytes, MLMODEL_MAXIMUM + 1))
        got = pread(file, bytes->bytes, MLMODEL_MAXIMUM + 1, 0);
    if (got < 0) return registry_fail_source(ret_error, errno, path);
    bytes->size = (size_t)got;
    return 0;
}

static int read_object(struct s3 *s3, const char *bucket, const char *key, struct buffer *bytes,
                       struct error **ret_error) {
    struct s3_object object = {0};
    int result = s3_head(s3, bucket, key, NULL, &object, ret_error);
    if (!result && !object.key) result = error_set(ret_error, ERROR_MODEL_REGISTRY, "s3://%s/%s is gone", bucket, key);
    if (!result && object.size_bytes <= MLMODEL_MAXIMUM && buffer_reserve(bytes, MLMODEL_MAXIMUM))
        result = s3_read(s3, bucket, &object, 0, bytes->bytes, (size_t)object.size_bytes, &bytes->size, ret_error);
    s3_object_clear(&object);
    return result;
}

static int read_from_s3(const struct registry_context *context, const char *artifact_uri, struct buffer *bytes,
                        struct error **ret_error) {
    _cleanup_s3_uri_ struct registry_s3_uri uri = {0};
    int result = registry_s3_parse(artifact_uri, &uri, ret_error);
    if (result < 0) return result;
    struct s3 *s3 = NULL;
    if ((result = registry_s3_open(context, uri.bucket, &s3, ret_error)) < 0) return result;
    size_t size = strlen(uri.key);
    const char *slash = size && uri.key[size - 1] != '/' ? "/" : "";
    _cleanup_free_ char *key = text_format("%s%s" MLMODEL, uri.key, slash);
    result = read_object(s3, uri.bucket, key, bytes, ret_error);
    s3_close(s3);
    return result;
}

/* ---- resolve ---- */

static int read_proxied(struct mlflow *mlflow, const char *path, struct registry_resolution *resolution,
                        struct error **ret_error) {
    const struct registry_file *file = find_file(resolution, MLMODEL);
    if (!file) return 0;
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = mlflow_artifacts_read(mlflow, file->source, MLMODEL_MAXIMUM, &answer, ret_error);
    if (!result) result = take_model(answer.body, answer.body_size, resolution, ret_error);
    return result < 0 ? error_wrap(ret_error, "the artifact %s", path) : 0;
}

static int resolve_proxied(struct mlflow *mlflow, const struct mlflow_uri *uri, const char *path,
                           struct registry_resolution *resolution, struct error **ret_error) {
    _cleanup_free_ char *what = text_format("the artifact %s of MLflow at %s", path, mlflow_url(mlflow));
    int result = mlflow_artifacts_list(mlflow, path, resolution, ret_error);
    if (!result) result = registry_resolution_finish(resolution, what, ret_error);
    if (!result) result = read_proxied(mlflow, path, resolution, ret_error);
    if (!result) result = mlflow_artifacts_identify(mlflow, resolution, ret_error);
    if (!result) resolution->location = text_format(PROXIED "%s", uri->server);
    return result;
}

static int resolve_other(struct mlflow *mlflow, const char *artifact_uri, struct registry_resolution *resolution,
                         struct error **ret_error) {
    const struct registry_context *context = mlflow_context(mlflow);
    size_t index = 0;
    int result = find_other(artifact_uri, &index, ret_error);
    if (result < 0) return result;
    const struct registry_ops *other = others[index].registry;
    if ((result = other->check(context, artifact_uri, ret_error)) < 0 ||
        (result = other->resolve(context, artifact_uri, resolution, ret_error)) < 0)
        return error_wrap(ret_error, "the model's files are at %s", artifact_uri);
    if (find_file(resolution, MLMODEL)) {
        _cleanup_buffer_ struct buffer bytes = {0};
        result = other == &s3_registry ? read_from_s3(context, artifact_uri, &bytes, ret_error)
                                       : read_from_folder(context, resolution->location, &bytes, ret_error);
        if (!result) result = take_model(bytes.bytes ? bytes.bytes : "", bytes.size, resolution, ret_error);
    }
    char *location = text_format("%s %s", others[index].name, resolution->location ? resolution->location : "");
    free(resolution->location);
    resolution->location = location;
    return result < 0 ? error_wrap(ret_error, "the model at %s", artifact_uri) : 0;
}

static int resolve_place(struct mlflow *mlflow, const struct mlflow_uri *uri, struct mlflow_place *place,
                         struct registry_resolution *resolution, struct error **ret_error) {
    _cleanup_free_ char *path = NULL;
    int result = mlflow_artifacts_path(mlflow, place->artifact_uri, &path, ret_error);
    if (result < 0) return result;
    result = path ? resolve_proxied(mlflow, uri, path, resolution, ret_error)
                  : resolve_other(mlflow, place->artifact_uri, resolution, ret_error);
    free(resolution->resolved_uri);
    resolution->resolved_uri = TAKE(place->resolved_uri);
    return result;
}

static int mlflow_resolve(const struct registry_context *context, const char *uri,
                          struct registry_resolution *ret_resolution, struct error **ret_error) {
    _cleanup_mlflow_uri_ struct mlflow_uri parsed = {0};
    _cleanup_mlflow_ struct mlflow *mlflow = NULL;
    struct mlflow_place place = {0};
    int result = check(context, uri, &parsed, ret_error);
    if (!result) result = mlflow_open(context, parsed.server, &mlflow, ret_error);
    if (!result) result = mlflow_locate(mlflow, &parsed, &place, ret_error);
    if (result < 0) return result;
    struct registry_resolution resolution = {0};
    result = resolve_place(mlflow, &parsed, &place, &resolution, ret_error);
    mlflow_place_clear(&place);
    if (result < 0) {
        registry_resolution_clear(&resolution);
        return result;
    }
    *ret_resolution = resolution;
    return 0;
}

/* ---- fetch ---- */

static int mlflow_fetch(const struct registry_context *context, const struct registry_resolution *resolution,
                        const char *folder, struct error **ret_error) {
    const char *rest;
    const struct registry_ops *other = other_of(resolution->location, &rest);
    if (other) {
        struct registry_resolution theirs = *resolution; /* as they made it: the location's beginning is ours */
        theirs.location = *rest ? (char *)rest : NULL;
        return other->fetch(context, &theirs, folder, ret_error);
    }
    _cleanup_mlflow_ struct mlflow *mlflow = NULL;
    int result = mlflow_open(context, rest, &mlflow, ret_error);
    return result < 0 ? result : mlflow_artifacts_fetch(mlflow, resolution, folder, ret_error);
}

static const char *const schemes[] = {"runs", "mlflow_runs", "models", NULL};

const struct registry_ops mlflow_registry = {
    .name = "mlflow",
    .schemes = schemes,
    .check = mlflow_check,
    .resolve = mlflow_resolve,
    .fetch = mlflow_fetch,
};
