/* MLflow's REST API, as far as it tells where a model's files are: servers of 2.x and 3.x
 * (https://mlflow.org/docs/latest/api_reference/rest-api.html). */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"

#define API "/api/2.0/mlflow/"
#define ANSWER_MAXIMUM ((size_t)16 << 20) /* a run has its metrics and tags in it */
#define PAGES_MAXIMUM 100 /* of one search */
#define LISTED 10 /* how many names an error lists */

struct mlflow {
    const struct registry_context *context;
    const struct registry_server *server;
    struct transfer *transfer;
    struct mlflow_credentials credentials;
    char *host; /* what may be asked: the server itself, and where it may redirect to */
    const char **hosts;
};

/* ---- life ---- */

static void collect_hosts(struct mlflow *mlflow, struct transfer_config *config) {
    const char *authority = strstr(mlflow->server->url, "://") + 3;
    size_t count = 0;
    char *const *more = mlflow->server->redirect_hosts;
    while (more && more[count]) count++;
    mlflow->host = text_copy_bytes(authority, strcspn(authority, "/"));
    mlflow->hosts = mem_new_array(count + 1, const char *);
    mlflow->hosts[0] = mlflow->host;
    for (size_t i = 0; i < count; i++) mlflow->hosts[i + 1] = more[i];
    config->hosts = mlflow->hosts;
    config->host_count = count + 1;
}

int mlflow_open(const struct registry_context *context, const char *server_name, struct mlflow **ret_mlflow,
                struct error **ret_error) {
    const struct registry_server *server = registry_server_named(context->servers, REGISTRY_MLFLOW, server_name);
    if (!server)
        return error_set(ret_error, ERROR_CONFIGURATION, "the MLflow server %s is not configured any more",
                         *server_name ? server_name : "that is the default");
    _cleanup_mlflow_ struct mlflow *mlflow = mem_new(struct mlflow);
    mlflow->context = context;
    mlflow->server = server;
    int result = mlflow_credentials_find(context->servers, server, &mlflow->credentials, ret_error);
    if (result < 0) return result;
    struct transfer_config config = {0};
    registry_transfer_config(context, &config);
    config.ca_file = server->ca_file;
    collect_hosts(mlflow, &config);
    if ((result = transfer_open(&config, &mlflow->transfer, ret_error)) < 0) return result;
    *ret_mlflow = TAKE(mlflow);
    return 0;
}

void mlflow_close(struct mlflow *mlflow) {
    if (!mlflow) return;
    if (mlflow->transfer) transfer_close(mlflow->transfer);
    mlflow_credentials_clear(&mlflow->credentials);
    free(mlflow->host);
    free(mlflow->hosts);
    free(mlflow);
}

const struct registry_context *mlflow_context(const struct mlflow *mlflow) {
    return mlflow->context;
}

struct transfer *mlflow_transfer(struct mlflow *mlflow) {
    return mlflow->transfer;
}

struct transfer_credentials mlflow_credentials(const struct mlflow *mlflow) {
    return (struct transfer_credentials){
        .kind = mlflow->credentials.kind, .user = mlflow->credentials.user, .secret = mlflow->credentials.secret};
}

const char *mlflow_url(const struct mlflow *mlflow) {
    return mlflow->server->url;
}

/* ---- asking ---- */

/* Errors of transfers name the URL. */
static int fail_answer(struct mlflow *mlflow, const struct transfer_answer *answer, struct error **ret_error) {
    transfer_fail_answer(mlflow->transfer, answer, ret_error);
    if (answer->status != 401) return error_wrap(ret_error, "ask MLflow");
    return error_wrap(ret_error, "ask MLflow, %s",
                      mlflow->credentials.kind == TRANSFER_ANONYMOUS
                          ? "for which no credentials are configured"
                          : "which does not take the configured credentials");
}

static int ask(struct mlflow *mlflow, struct transfer_request *request, struct transfer_answer *ret_answer,
               struct error **ret_error) {
    int result = registry_check_canceled(mlflow->context, ret_error);
    if (result < 0) return result;
    _cleanup_free_ char *url = text_format("%s%s", mlflow->server->url, request->url);
    request->url = url;
    request->credentials = mlflow_credentials(mlflow);
    result = transfer_perform(mlflow->transfer, request, ret_answer, ret_error);
    return result < 0 ? error_wrap(ret_error, "ask MLflow") : 0;
}

int mlflow_get(struct mlflow *mlflow, const char *path, const char *header, size_t maximum,
               struct transfer_answer *ret_answer, struct error **ret_error) {
    struct transfer_request request = {
        .url = path, .headers = &header, .header_count = header ? 1 : 0, .answer_maximum = maximum};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = ask(mlflow, &request, &answer, ret_error);
    if (result < 0) return result;
    bool is_of_range = header && (answer.status == 206 || answer.status == 416);
    if (answer.status != 200 && !is_of_range) return fail_answer(mlflow, &answer, ret_error);
    *ret_answer = answer;
    answer = (struct transfer_answer){0};
    return 0;
}

/* A run whose metrics have a NaN is told with one, which is no JSON: that is taken, as MLflow's client does. */
static int parse_answer(struct mlflow *mlflow, const struct transfer_answer *answer, yyjson_doc **ret_document,
                        yyjson_val **ret_root, struct error **ret_error) {
    yyjson_doc *document = yyjson_read_opts(answer->body, answer->body_size, YYJSON_READ_ALLOW_INF_AND_NAN, NULL, NULL);
    if (yyjson_is_obj(yyjson_doc_get_root(document))) {
        *ret_document = document;
        *ret_root = yyjson_doc_get_root(document);
        return 0;
    }
    yyjson_doc_free(document);
    return error_set(
        ret_error, ERROR_MODEL_REGISTRY,
        "%s answers with something that is not MLflow's JSON; is it the address of a tracking server, with "
        "its path?",
        mlflow->server->url);
}

int mlflow_get_json(struct mlflow *mlflow, const char *path, size_t maximum, yyjson_doc **ret_document,
                    yyjson_val **ret_root, struct error **ret_error) {
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = mlflow_get(mlflow, path, NULL, maximum, &answer, ret_error);
    return result < 0 ? result : parse_answer(mlflow, &answer, ret_document, ret_root, ret_error);
}

/* API + method + "?key=value&…" of up to two pairs; ended by a NULL key. */
static int call(struct mlflow *mlflow, const char *method, const char *const pairs[][2], yyjson_doc **ret_document,
                yyjson_val **ret_root, struct error **ret_error) {
    _cleanup_free_ char *path = text_format(API "%s", method);
    for (size_t i = 0; pairs && pairs[i][0]; i++) {
        if (!pairs[i][1]) continue;
        _cleanup_free_ char *value = text_percent_encode(pairs[i][1], strlen(pairs[i][1]));
        char *longer = text_format("%s%c%s=%s", path, strchr(path, '?') ? '&' : '?', pairs[i][0], value);
        free(path);
        path = longer;
    }
    return mlflow_get_json(mlflow, path, ANSWER_MAXIMUM, ret_document, ret_root, ret_error);
}

/* ---- reading answers: objects inside each other, texts in them ---- */

/* A text that is there, is plain and is not of unlikely length; NULL otherwise. Borrowed. */
static const char *text_of(yyjson_val *object, const char *field) {
    const char *text = yyjson_get_str(yyjson_obj_get(object, field));
    return text && *text && strlen(text) <= 4096 && registry_path_is_plain(text) ? text : NULL;
}

static int fail_lacks(struct mlflow *mlflow, const char *field, struct error **ret_error) {
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "the answer of MLflow at %s has no usable %s",
                     mlflow->server->url, field);
}

static int copy_text(struct mlflow *mlflow, yyjson_val *object, const char *field, char **ret_text,
                     struct error **ret_error) {
    const char *text = text_of(object, field);
    if (!text) return fail_lacks(mlflow, field, ret_error);
    *ret_text = text_copy(text);
    return 0;
}

/* Numbers are also sent as texts (protobuf's JSON form of int64). */
static uint64_t number_of(yyjson_val *object, const char *field) {
    yyjson_val *value = yyjson_obj_get(object, field);
    uint64_t number = 0;
    if (yyjson_is_str(value) && text_parse_number(yyjson_get_str(value), INT64_MAX, &number)) return number;
    return yyjson_get_uint(value);
}

/* ---- runs ---- */

static void add_logged_path(struct mlflow_run *run, const char *path) {
    if (!path || !*path || !mlflow_path_is_safe(path)) return;
    for (size_t i = 0; i < run->logged_count; i++)
        if (!strcmp(run->logged_paths[i], path)) return;
    run->logged_paths = mem_resize(run->logged_paths, run->logged_count + 1, sizeof *run->logged_paths);
    run->logged_paths[run->logged_count++] = text_copy(path);
}

/* [{"artifact_path":"model",…},…] in the tag that 2.x writes. */
static void read_history(struct mlflow_run *run, const char *json) {
    _cleanup_json_ yyjson_doc *document = NULL;
    if (!json || json_parse(json, strlen(json), &document, NULL) < 0) return;
    yyjson_val *entry;
    yyjson_arr_iter entries = yyjson_arr_iter_with(yyjson_doc_get_root(document));
    while ((entry = yyjson_arr_iter_next(&entries)) && run->logged_count <= LISTED)
        add_logged_path(run, text_of(entry, "artifact_path"));
}

static void read_tags(struct mlflow_run *run, yyjson_val *tags) {
    yyjson_val *tag;
    yyjson_arr_iter entries = yyjson_arr_iter_with(tags);
    while ((tag = yyjson_arr_iter_next(&entries)))
        if (text_equal(yyjson_get_str(yyjson_obj_get(tag, "key")), "mlflow.log-model.history"))
            read_history(run, yyjson_get_str(yyjson_obj_get(tag, "value")));
}

int mlflow_get_run(struct mlflow *mlflow, const char *run_id, struct mlflow_run *ret_run, struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    const char *pairs[][2] = {{"run_id", run_id}, {NULL, NULL}};
    int result = call(mlflow, "runs/get", pairs, &document, &root, ret_error);
    if (result < 0) return result;
    yyjson_val *run = yyjson_obj_get(root, "run"), *info = yyjson_obj_get(run, "info");
    if (text_equal(text_of(info, "lifecycle_stage"), "deleted"))
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "MLflow at %s: the run %s is deleted", mlflow->server->url,
                         run_id);
    struct mlflow_run found = {0};
    result = copy_text(mlflow, info, "artifact_uri", &found.artifact_uri, ret_error);
    if (!result) result = copy_text(mlflow, info, "experiment_id", &found.experiment_id, ret_error);
    if (result < 0) {
        mlflow_run_clear(&found);
        return result;
    }
    const char *status = text_of(info, "status");
    found.has_ended = status && strcmp(status, "RUNNING") != 0 && strcmp(status, "SCHEDULED") != 0;
    read_tags(&found, yyjson_obj_get(yyjson_obj_get(run, "data"), "tags"));
    *ret_run = found;
    return 0;
}

void mlflow_run_clear(struct mlflow_run *run) {
    free(run->artifact_uri);
    free(run->experiment_id);
    for (size_t i = 0; i < run->logged_count; i++) free(run->logged_paths[i]);
    free(run->logged_paths);
    *run = (struct mlflow_run){0};
}

/* ---- logged models ---- */

void mlflow_logged_model_clear(struct mlflow_logged_model *model) {
    free(model->model_id);
    free(model->artifact_uri);
    *model = (struct mlflow_logged_model){0};
}

static int read_logged_model(struct mlflow *mlflow, yyjson_val *info, struct mlflow_logged_model *ret_model,
                             struct error **ret_error) {
    const char *id = text_of(info, "model_id"), *status = text_of(info, "status");
    if (status && strstr(status, "FAILED"))
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "MLflow at %s: the upload of the model %s has failed (%s)",
                         mlflow->server->url, id ? id : "", status);
    if (status && strstr(status, "PENDING")) {
        error_set(ret_error, ERROR_MODEL_REGISTRY, "MLflow at %s: the model %s is still being uploaded (%s)",
                  mlflow->server->url, id ? id : "", status);
        return error_mark_transient(ret_error);
    }
    struct mlflow_logged_model model = {0};
    int result = copy_text(mlflow, info, "model_id", &model.model_id, ret_error);
    if (!result) result = copy_text(mlflow, info, "artifact_uri", &model.artifact_uri, ret_error);
    if (result < 0) {
        mlflow_logged_model_clear(&model);
        return result;
    }
    *ret_model = model;
    return 0;
}

int mlflow_get_logged_model(struct mlflow *mlflow, const char *model_id, struct mlflow_logged_model *ret_model,
                            struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    _cleanup_free_ char *method = text_format("logged-models/%s", model_id); /* an id: needs no encoding */
    int result = call(mlflow, method, NULL, &document, &root, ret_error);
    if (result < 0) return result;
    return read_logged_model(mlflow, yyjson_obj_get(yyjson_obj_get(root, "model"), "info"), ret_model, ret_error);
}

/* What a search through a run's models has come to. */
struct search {
    const char *run_id, *name; /* name NULL: any */
    yyjson_doc *document; /* of the page that `newest` is in */
    yyjson_val *newest; /* its info */
    struct {
        char *list[LISTED];
        size_t count;
    } names; /* different ones */
};

static void note_name(struct search *search, const char *name) {
    for (size_t i = 0; i < search->names.count; i++)
        if (!strcmp(search->names.list[i], name)) return;
    if (search->names.count < LISTED) search->names.list[search->names.count++] = text_copy(name);
}

static void clear_search(struct search *search) {
    yyjson_doc_free(search->document);
    for (size_t i = 0; i < search->names.count; i++) free(search->names.list[i]);
}

/* Takes the page. A later model of the same name is a later checkpoint. */
static void look_through(struct search *search, yyjson_doc *page) {
    bool is_kept = false;
    yyjson_val *model;
    yyjson_arr_iter models = yyjson_arr_iter_with(yyjson_obj_get(yyjson_doc_get_root(page), "models"));
    while ((model = yyjson_arr_iter_next(&models))) {
        yyjson_val *info = yyjson_obj_get(model, "info");
        const char *name = text_of(info, "name");
        if (!name || !text_equal(text_of(info, "source_run_id"), search->run_id)) continue;
        if (search->name && strcmp(search->name, name) != 0) continue;
        note_name(search, name);
        if (search->newest &&
            number_of(info, "creation_timestamp_ms") <= number_of(search->newest, "creation_timestamp_ms"))
            continue;
        if (!is_kept) yyjson_doc_free(search->document);
        search->document = page;
        search->newest = info;
        is_kept = true;
    }
    if (!is_kept) yyjson_doc_free(page);
}

static char *write_search(const char *experiment_id, const char *run_id, const char *token) {
    _cleanup_json_mutable_ yyjson_mut_doc *document = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(document);
    yyjson_mut_doc_set_root(document, root);
    yyjson_mut_val *experiments = yyjson_mut_arr(document);
    yyjson_mut_arr_add_strcpy(document, experiments, experiment_id);
    yyjson_mut_obj_add_val(document, root, "experiment_ids", experiments);
    _cleanup_free_ char *filter = text_format("source_run_id = '%s'", run_id); /* an id: no quotes in it */
    json_add_text(document, root, "filter", filter);
    json_add_text(document, root, "page_token", token);
    size_t size;
    return json_write(document, &size);
}

/* 1: a page is there; 0: this server knows no logged models. */
static int search_page(struct mlflow *mlflow, const char *body, yyjson_doc **ret_page, yyjson_val **ret_root,
                       struct error **ret_error) {
    static const char *const headers[] = {"Content-Type: application/json"};
    struct transfer_request request = {.method = "POST",
                                       .url = API "logged-models/search",
                                       .headers = headers,
                                       .header_count = ARRAY_SIZE(headers),
                                       .body = body,
                                       .body_size = strlen(body),
                                       .answer_maximum = ANSWER_MAXIMUM};
    _cleanup_answer_ struct transfer_answer answer = {0};
    int result = ask(mlflow, &request, &answer, ret_error);
    if (result < 0) return result;
    if (answer.status == 404 || answer.status == 405) return 0;
    if (answer.status != 200) return fail_answer(mlflow, &answer, ret_error);
    result = parse_answer(mlflow, &answer, ret_page, ret_root, ret_error);
    return result < 0 ? result : 1;
}

static int search_models(struct mlflow *mlflow, const char *experiment_id, struct search *search,
                         struct error **ret_error) {
    _cleanup_free_ char *token = NULL;
    for (int i = 0; i < PAGES_MAXIMUM; i++) {
        _cleanup_free_ char *body = write_search(experiment_id, search->run_id, token);
        yyjson_doc *page = NULL;
        yyjson_val *root = NULL;
        int result = search_page(mlflow, body, &page, &root, ret_error);
        if (result <= 0) return result;
        free(token);
        token = text_copy(text_of(root, "next_page_token"));
        look_through(search, page);
        if (!token) return 0;
    }
    return error_set(ret_error, ERROR_MODEL_REGISTRY, "MLflow at %s: the run %s has more pages of models than %d",
                     mlflow->server->url, search->run_id, PAGES_MAXIMUM);
}

static int refuse_several(const struct search *search, struct error **ret_error) {
    _cleanup_free_ char *all = text_copy("");
    for (size_t i = 0; i < search->names.count; i++) {
        char *longer = text_format("%s%s%s", all, i ? ", " : "", search->names.list[i]);
        free(all);
        all = longer;
    }
    return error_set(ret_error, ERROR_CONFIGURATION, "the run %s has several models: %s; name one: runs:/%s/%s",
                     search->run_id, all, search->run_id, search->names.list[0]);
}

int mlflow_find_logged_model(struct mlflow *mlflow, const char *experiment_id, const char *run_id, const char *name,
                             struct mlflow_logged_model *ret_model, struct error **ret_error) {
    __attribute__((cleanup(clear_search))) struct search search = {.run_id = run_id, .name = name};
    int result = search_models(mlflow, experiment_id, &search, ret_error);
    if (result < 0 || !search.newest) return result;
    if (search.names.count > 1) return refuse_several(&search, ret_error);
    return read_logged_model(mlflow, search.newest, ret_model, ret_error);
}

/* ---- registered models ---- */

int mlflow_get_version_uri(struct mlflow *mlflow, const char *name, const char *version, char **ret_uri,
                           struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    const char *pairs[][2] = {{"name", name}, {"version", version}, {NULL, NULL}};
    int result = call(mlflow, "model-versions/get-download-uri", pairs, &document, &root, ret_error);
    return result < 0 ? result : copy_text(mlflow, root, "artifact_uri", ret_uri, ret_error);
}

/* A version as a text without leading zeros, or the error that it is none. */
static int take_version(struct mlflow *mlflow, uint64_t version, char **ret_version, struct error **ret_error) {
    if (!version || version > INT32_MAX) return fail_lacks(mlflow, "version", ret_error);
    *ret_version = text_format("%llu", (unsigned long long)version);
    return 0;
}

int mlflow_get_alias(struct mlflow *mlflow, const char *name, const char *alias, char **ret_version,
                     struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL;
    const char *pairs[][2] = {{"name", name}, {"alias", alias}, {NULL, NULL}};
    int result = call(mlflow, "registered-models/alias", pairs, &document, &root, ret_error);
    if (result < 0) return result;
    return take_version(mlflow, number_of(yyjson_obj_get(root, "model_version"), "version"), ret_version, ret_error);
}

int mlflow_get_latest(struct mlflow *mlflow, const char *name, const char *stage, char **ret_version,
                      struct error **ret_error) {
    _cleanup_json_ yyjson_doc *document = NULL;
    yyjson_val *root = NULL, *version;
    const char *pairs[][2] = {{"name", name}, {"stages", stage}, {NULL, NULL}};
    int result = call(mlflow, "registered-models/get-latest-versions", pairs, &document, &root, ret_error);
    if (result < 0) return result;
    uint64_t highest = 0;
    yyjson_arr_iter versions = yyjson_arr_iter_with(yyjson_obj_get(root, "model_versions"));
    while ((version = yyjson_arr_iter_next(&versions))) {
        uint64_t number = number_of(version, "version");
        if (number > highest) highest = number;
    }
    if (!highest)
        return error_set(ret_error, ERROR_MODEL_REGISTRY, "MLflow at %s: the registered model %s has no version%s%s",
                         mlflow->server->url, name, stage ? " in the stage " : "", stage ? stage : "");
    return take_version(mlflow, highest, ret_version, ret_error);
}
