/* Artifacts that the tracking server hands through ("mlflow-artifacts:"): listing, identities, fetching.
 *
 * A listing tells paths and sizes only. Servers of 3.x whose artifacts lie in a folder give a file's answer an ETag
 * made of its time of change and its size; where they lie elsewhere, and in 2.x, there is none, and nothing tells
 * whether bytes are the same. A file that changed within the last three seconds is not known by its time.
 */

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"

#define ARTIFACTS "/api/2.0/mlflow-artifacts/artifacts"
#define LISTING_MAXIMUM ((size_t)32 << 20) /* one folder's */
#define PROBE_MAXIMUM 65536 /* bytes of an answer that is asked for one byte */
#define IDENTIFIED_MAXIMUM 256 /* files that are asked for one by one */
#define AT_REST_S 3

/* ---- where ---- */

/* "host:port" of a URL, as long as *ret_size says. */
static const char *authority_of(const char *url, size_t *ret_size) {
    const char *authority = strstr(url, "://") + 3;
    *ret_size = strcspn(authority, "/?#");
    return authority;
}

static bool is_same_host(struct mlflow *mlflow, const char *uri) {
    size_t own_size, size;
    const char *own = authority_of(mlflow_url(mlflow), &own_size), *host = authority_of(uri, &size);
    return !size || (size == own_size && !strncasecmp(own, host, size));
}

/* The path in "mlflow-artifacts:/p", "mlflow-artifacts://host:port/p" and, as older servers say it,
 * "http://host:port/api/2.0/mlflow-artifacts/artifacts/p". NULL: another kind. */
static const char *proxied_path(const char *uri) {
    if (!strncasecmp(uri, "mlflow-artifacts:", strlen("mlflow-artifacts:"))) {
        const char *at = uri + strlen("mlflow-artifacts:");
        return text_starts_with(at, "//") ? at + 2 + strcspn(at + 2, "/") : at;
    }
    if (strncasecmp(uri, "http://", 7) && strncasecmp(uri, "https://", 8)) return NULL;
    const char *at = strstr(uri, ARTIFACTS "/");
    return at ? at + strlen(ARTIFACTS) : NULL;
}

int mlflow_artifacts_path(struct mlflow *mlflow, const char *artifact_uri, char **ret_path, struct error **ret_error) {
    const char *path = proxied_path(artifact_uri);
    *ret_path = NULL;
    if (!path) return 0;
    if (strstr(artifact_uri, "://") && !is_same_host(mlflow, artifact_uri))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "the model's files are at %s, which is another server than the tracking server %s; only that "
                         "one is asked",
                         artifact_uri, mlflow_url(mlflow));
    while (*path == '/') path++;
    size_t size = strlen(path);
    while (size && path[size - 1] == '/') size--;
    _cleanup_free_ char *plain = text_copy_bytes(path, size);
    if (!mlflow_path_is_safe(plain))
        return error_set(ret_error, ERROR_CONFIGURATION, "the artifact URI %.200s holds a path that is not taken",
                         artifact_uri);
    *ret_path = TAKE(plain);
    return 0;
}

/* Each part percent-encoded. Caller frees. */
static char *encode_path(const char *path) {
    char *all = text_copy("");
    for (const char *at = path;;) {
        size_t size = strcspn(at, "/");
        _cleanup_free_ char *part = text_percent_encode(at, size);
        char *longer = text_format("%s/%s", all, part);
        free(all);
        all = longer;
        if (!at[size]) return all;
        at += size + 1;
    }
}

/* ---- listing ---- */

struct listing {
    struct mlflow *mlflow;
    struct registry_resolution *resolution;
    const char *root; /* the model's path on the server */
    size_t entry_count;
};

static int ask_folder(struct mlflow *mlflow, const char *path, yyjson_doc **ret_document, yyjson_val **ret_files,
                      struct error **ret_error) {
    _cleanup_free_ char *value = text_percent_encode(path, strlen(path));
    _cleanup_free_ char *query = text_format(ARTIFACTS "?path=%s", value);
    yyjson_val *root = NULL;
    int result = mlflow_get_json(mlflow, query, LISTING_MAXIMUM, ret_document, &root, ret_error);
    if (!result) *ret_files = yyjson_obj_get(root, "files"); /* none where there is no such folder */
    return result;
}

static uint64_t size_of(yyjson_val *file) {
    yyjson_val *value = yyjson_obj_get(file, "file_size");
    uint64_t size;
    if (yyjson_is_uint(value)) return yyjson_get_uint(value);
    if (yyjson_is_str(value) && text_parse_number(yyjson_get_str(value), INT64_MAX, &size)) return size;
    return REGISTRY_SIZE_UNKNOWN;
}

static int list_folder(struct listing *listing, const char *inner, int depth, struct error **ret_error);

/* Names come from outside: registry_resolution_add() holds those of files against what a path may be, and a folder's is
 * held against it here, before it is asked for. */
static int add_entry(struct listing *listing, const char *inner, yyjson_val *file, int depth,
                     struct error **ret_error) {
    const char *name = yyjson_get_str(yyjson_obj_get(file, "path"));
    if (!name || strlen(name) != yyjson_get_len(yyjson_obj_get(file, "path")))
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "MLflow at %s lists a file without a name",
                         mlflow_url(listing->mlflow));
    if (++listing->entry_count > REGISTRY_FILES_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s holds more than %d files and folders", listing->root,
                         REGISTRY_FILES_MAXIMUM);
    _cleanup_free_ char *path = text_format("%s%s%s", inner, *inner ? "/" : "", name);
    _cleanup_free_ char *source = text_format("%s%s%s", listing->root, *listing->root ? "/" : "", path);
    if (!yyjson_get_bool(yyjson_obj_get(file, "is_dir")))
        return registry_resolution_add(mlflow_context(listing->mlflow), listing->resolution, path, size_of(file), NULL,
                                       NULL, source, ret_error);
    if (depth >= REGISTRY_DEPTH_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is deeper than %d folders", listing->root,
                         REGISTRY_DEPTH_MAXIMUM);
    if (!mlflow_path_is_safe(path) || strchr(name, '/'))
        return error_set(ret_error, ERROR_CONFIGURATION, "%s lists a folder by a name that is not taken",
                         listing->root);
    return list_folder(listing, path, depth + 1, ret_error);
}

static int list_folder(struct listing *listing, const char *inner, int depth, struct error **ret_error) {
    _cleanup_free_ char *path = text_format("%s%s%s", listing->root, *listing->root && *inner ? "/" : "", inner);
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *files = NULL, *file;
    int result = ask_folder(listing->mlflow, path, &document, &files, ret_error);
    if (result < 0) return result;
    yyjson_arr_iter entries = yyjson_arr_iter_with(files);
    while ((file = yyjson_arr_iter_next(&entries)))
        if ((result = add_entry(listing, inner, file, depth, ret_error)) < 0) return result;
    return 0;
}

/* What lists as nothing may be a file, which its folder's listing tells. */
static int add_single_file(struct listing *listing, struct error **ret_error) {
    const char *slash = strrchr(listing->root, '/'), *name = slash ? slash + 1 : listing->root;
    _cleanup_free_ char *folder =
        slash ? text_copy_bytes(listing->root, (size_t)(slash - listing->root)) : text_copy("");
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *files = NULL, *file;
    int result = ask_folder(listing->mlflow, folder, &document, &files, ret_error);
    if (result < 0) return result;
    yyjson_arr_iter entries = yyjson_arr_iter_with(files);
    while ((file = yyjson_arr_iter_next(&entries))) {
        if (!text_equal(yyjson_get_str(yyjson_obj_get(file, "path")), name) ||
            yyjson_get_bool(yyjson_obj_get(file, "is_dir")))
            continue;
        if (!text_ends_with(name, ".onnx"))
            return error_set(ret_error, ERROR_CONFIGURATION, "the artifact %s is neither a folder nor an .onnx file",
                             name);
        return registry_resolution_add(mlflow_context(listing->mlflow), listing->resolution, "model.onnx",
                                       size_of(file), NULL, NULL, listing->root, ret_error);
    }
    return 0;
}

int mlflow_artifacts_list(struct mlflow *mlflow, const char *path, struct registry_resolution *resolution,
                          struct error **ret_error) {
    struct listing listing = {.mlflow = mlflow, .resolution = resolution, .root = path};
    int result = list_folder(&listing, "", 0, ret_error);
    if (result < 0 || resolution->file_count || !*path) return result;
    return add_single_file(&listing, ret_error);
}

int mlflow_artifacts_read(struct mlflow *mlflow, const char *path, size_t maximum, struct transfer_answer *ret_answer,
                          struct error **ret_error) {
    _cleanup_free_ char *encoded = encode_path(path);
    _cleanup_free_ char *url = text_format(ARTIFACTS "%s", encoded);
    return mlflow_get(mlflow, url, NULL, maximum, ret_answer, ret_error);
}

/* ---- identities ---- */

static bool read_time(const struct transfer_answer *answer, const char *header, time_t *ret_time) {
    _cleanup_free_ char *text = transfer_answer_header(answer, header);
    struct tm parts = {0};
    const char *end = text ? strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &parts) : NULL;
    *ret_time = timegm(&parts);
    return end && !*end;
}

static char *identity_of(const struct transfer_answer *answer) {
    time_t now, changed;
    if (!read_time(answer, "Date", &now) || !read_time(answer, "Last-Modified", &changed) || changed > now - AT_REST_S)
        return NULL;
    _cleanup_free_ char *etag = transfer_answer_header(answer, "ETag");
    size_t size = etag ? strlen(etag) : 0;
    return size > 2 && size <= 256 && etag[0] == '"' && etag[size - 1] == '"' ? TAKE(etag) : NULL;
}

/* By its first byte, since the route knows no HEAD; an empty file, whose size is not always listed, has none. */
static void identify(struct mlflow *mlflow, struct registry_file *file) {
    _cleanup_free_ char *encoded = encode_path(file->source);
    _cleanup_free_ char *url = text_format(ARTIFACTS "%s", encoded);
    _cleanup_answer_ struct transfer_answer answer = {0};
    const char *range = file->size_bytes ? "Range: bytes=0-0" : NULL;
    int result = mlflow_get(mlflow, url, range, PROBE_MAXIMUM, &answer, NULL);
    if (!result && answer.status == 416) {
        transfer_answer_clear(&answer);
        answer = (struct transfer_answer){0};
        result = mlflow_get(mlflow, url, NULL, PROBE_MAXIMUM, &answer, NULL);
    }
    if (!result) file->identity = identity_of(&answer);
}

static int by_size(const void *a, const void *b) {
    const struct registry_file *const *one = a, *const *other = b;
    return ((*one)->size_bytes > (*other)->size_bytes) - ((*one)->size_bytes < (*other)->size_bytes);
}

/* The smallest first: a server that keeps its artifacts elsewhere fetches a file whole to hand out its first byte, and
 * has no ETag for it, so that the others are not asked for. A server that will not answer so (one that knows no ranges
 * sends the whole file, which is broken off) is no failure: only nothing is known. */
int mlflow_artifacts_identify(struct mlflow *mlflow, struct registry_resolution *resolution, struct error **ret_error) {
    size_t count = resolution->file_count;
    if (!count || count > IDENTIFIED_MAXIMUM) return 0;
    _cleanup_free_ struct registry_file **order = mem_new_array(count, struct registry_file *);
    for (size_t i = 0; i < count; i++) order[i] = &resolution->files[i];
    qsort(order, count, sizeof *order, by_size);
    for (size_t i = 0; i < count; i++) {
        identify(mlflow, order[i]);
        int result = registry_check_canceled(mlflow_context(mlflow), ret_error);
        if (result < 0) return result;
        if (!order[i]->identity) return 0;
    }
    registry_set_fingerprint(resolution);
    return 0;
}

/* ---- fetching ---- */

struct fetch {
    struct mlflow *mlflow;
    char **urls;
    size_t count;
};

static int describe(void *state, const struct registry_file *file, struct transfer_file *ret_file,
                    struct error **ret_error) {
    (void)ret_error;
    struct fetch *fetch = state;
    _cleanup_free_ char *encoded = encode_path(file->source);
    char *url = text_format("%s" ARTIFACTS "%s", mlflow_url(fetch->mlflow), encoded);
    fetch->urls[fetch->count++] = url;
    ret_file->url = url;
    ret_file->credentials = mlflow_credentials(fetch->mlflow);
    ret_file->validator = file->identity;
    return 0;
}

int mlflow_artifacts_fetch(struct mlflow *mlflow, const struct registry_resolution *resolution, const char *folder,
                           struct error **ret_error) {
    struct fetch fetch = {.mlflow = mlflow, .urls = mem_new_array(resolution->file_count, char *)};
    int result = registry_download(mlflow_context(mlflow), mlflow_transfer(mlflow), resolution, folder, describe,
                                   &fetch, ret_error);
    for (size_t i = 0; i < fetch.count; i++) free(fetch.urls[i]);
    free(fetch.urls);
    return result < 0 ? error_wrap(ret_error, "ask MLflow") : 0;
}
