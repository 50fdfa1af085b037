/* The MLflow registry's own files: registry_mlflow_uri.c (what a URI names), registry_mlflow_credentials.c (as whom a
 * server is asked), registry_mlflow_api.c (its REST API), registry_mlflow_artifacts.c (listing and fetching what the
 * server hands through), registry_mlflow_model.c (the file MLmodel), registry_mlflow_locate.c (from a URI to where the
 * files are), registry_mlflow.c (check, resolve, fetch).
 */
#pragma once
#include "base/json.h"
#include "registry/registry-internal.h"
#include "registry/registry_servers.h"
#include "transfer/transfer.h"

/* ---- registry_mlflow_uri.c ---- */

enum mlflow_uri_kind {
    MLFLOW_RUN, /* runs:/R/path; without a path: the one model that the run has */
    MLFLOW_LOGGED_MODEL, /* models:/m-…, and a path in it */
    MLFLOW_VERSION, /* models:/name/3 */
    MLFLOW_ALIAS, /* models:/name@alias */
    MLFLOW_STAGE, /* models:/name/Production */
    MLFLOW_LATEST, /* models:/name/latest */
};

struct mlflow_uri {
    enum mlflow_uri_kind kind;
    char *server; /* NAME of its section, "": the default one */
    char *name; /* the run's id, the logged model's id, or the registered model's name */
    char *selector; /* the version, the alias or the stage; else NULL */
    char *path; /* below a run or a logged model, without '/' at the ends; "" for none */
};

/* Pure. CONFIGURATION error that says what is wrong and how it is to be. `uri` may be anything. */
int mlflow_uri_parse(const char *uri, struct mlflow_uri *ret_uri, struct error **ret_error);
void mlflow_uri_clear(struct mlflow_uri *uri);
#define _cleanup_mlflow_uri_ __attribute__((cleanup(mlflow_uri_clear)))
/* In one way of writing: runs:, one slash, versions without leading zeros. Parsing it gives the same. Caller frees. */
char *mlflow_uri_write(const struct mlflow_uri *uri);
/* Relative, plain, without empty, "." and ".." parts, and without percent escapes of what could make those on a server
 * that decodes twice. "" is one. */
bool mlflow_path_is_safe(const char *path);

/* ---- registry_mlflow_credentials.c ---- */

struct mlflow_credentials {
    enum transfer_authentication kind;
    char *user, *secret;
};
/* In the order of MLflow's client: a user with a password wins over a token. The server's own come first; the variables
 * MLFLOW_TRACKING_USERNAME, _PASSWORD and _TOKEN and the file ~/.mlflow/credentials count for the server that
 * MLFLOW_TRACKING_URI names and for no other. MODEL_REGISTRY when a file with a secret cannot be read. */
int mlflow_credentials_find(const struct registry_servers *servers, const struct registry_server *server,
                            struct mlflow_credentials *ret_credentials, struct error **ret_error);
void mlflow_credentials_clear(struct mlflow_credentials *credentials);

/* ---- registry_mlflow_api.c ---- */

struct mlflow; /* a server that is being asked; belongs to one thread */
/* `server_name`: "" for the default one. CONFIGURATION when it is not configured. The context must live as long. */
int mlflow_open(const struct registry_context *context, const char *server_name, struct mlflow **ret_mlflow,
                struct error **ret_error);
void mlflow_close(struct mlflow *mlflow);
static inline void mlflow_close_pointer(struct mlflow **mlflow) {
    mlflow_close(*mlflow);
}
#define _cleanup_mlflow_ __attribute__((cleanup(mlflow_close_pointer)))

const struct registry_context *mlflow_context(const struct mlflow *mlflow);
struct transfer *mlflow_transfer(struct mlflow *mlflow);
struct transfer_credentials mlflow_credentials(const struct mlflow *mlflow); /* borrowed */
const char *mlflow_url(const struct mlflow *mlflow); /* without '/' at its end */

/* GET of url() + path; an answer other than 200 (and 206 and 416 where `header` asks for a range) is MODEL_REGISTRY
 * with the server's words. */
int mlflow_get(struct mlflow *mlflow, const char *path, const char *header, size_t maximum,
               struct transfer_answer *ret_answer, struct error **ret_error);
/* The same; the body must be a JSON object. */
int mlflow_get_json(struct mlflow *mlflow, const char *path, size_t maximum, yyjson_doc **ret_document,
                    yyjson_val **ret_root, struct error **ret_error);

struct mlflow_run {
    char *experiment_id, *artifact_uri;
    bool has_ended; /* nothing more is logged into it by the one who made it */
    char **logged_paths; /* 2.x: where models were logged, from the tag mlflow.log-model.history */
    size_t logged_count;
};
int mlflow_get_run(struct mlflow *mlflow, const char *run_id, struct mlflow_run *ret_run, struct error **ret_error);
void mlflow_run_clear(struct mlflow_run *run);

struct mlflow_logged_model {
    char *model_id, *artifact_uri;
};
void mlflow_logged_model_clear(struct mlflow_logged_model *model);
/* 3.x. Fails, and where it can help transiently, unless the model is ready. */
int mlflow_get_logged_model(struct mlflow *mlflow, const char *model_id, struct mlflow_logged_model *ret_model,
                            struct error **ret_error);
/* The newest model that the run logged under that name; `name` NULL: the only one there is (several are an error that
 * lists them). 0 with model_id NULL where there is none, also in 2.x, which knows no logged models. */
int mlflow_find_logged_model(struct mlflow *mlflow, const char *experiment_id, const char *run_id, const char *name,
                             struct mlflow_logged_model *ret_model, struct error **ret_error);

/* Where a version's files are: an artifact URI, or another runs: or models: URI. Caller frees. */
int mlflow_get_version_uri(struct mlflow *mlflow, const char *name, const char *version, char **ret_uri,
                           struct error **ret_error);
/* The version that an alias stands for; the highest one in a stage (NULL: of all). Caller frees. */
int mlflow_get_alias(struct mlflow *mlflow, const char *name, const char *alias, char **ret_version,
                     struct error **ret_error);
int mlflow_get_latest(struct mlflow *mlflow, const char *name, const char *stage, char **ret_version,
                      struct error **ret_error);

/* ---- registry_mlflow_locate.c ---- */

struct mlflow_place {
    char *artifact_uri; /* of the model's folder or file */
    char *resolved_uri; /* or NULL: see registry_mlflow.c */
    char *run_id, *model_id; /* or NULL */
};
void mlflow_place_clear(struct mlflow_place *place);
int mlflow_locate(struct mlflow *mlflow, const struct mlflow_uri *uri, struct mlflow_place *ret_place,
                  struct error **ret_error);

/* ---- registry_mlflow_artifacts.c ---- */

/* The path that a proxied artifact URI names on this server; NULL when the URI is of another kind. CONFIGURATION when
 * it names another server. Caller frees. */
int mlflow_artifacts_path(struct mlflow *mlflow, const char *artifact_uri, char **ret_path, struct error **ret_error);
/* Adds all files below the path (or the one .onnx file that it is, as model.onnx), each with the path on the server as
 * its source; identities where the server's ETags tell them. */
int mlflow_artifacts_list(struct mlflow *mlflow, const char *path, struct registry_resolution *resolution,
                          struct error **ret_error);
/* Must be called when the resolution is finished, as it asks for the files one by one. */
int mlflow_artifacts_identify(struct mlflow *mlflow, struct registry_resolution *resolution, struct error **ret_error);
int mlflow_artifacts_read(struct mlflow *mlflow, const char *path, size_t maximum, struct transfer_answer *ret_answer,
                          struct error **ret_error);
int mlflow_artifacts_fetch(struct mlflow *mlflow, const struct registry_resolution *resolution, const char *folder,
                           struct error **ret_error);

/* ---- registry_mlflow_model.c ---- */

#define MLMODEL_MAXIMUM ((size_t)1 << 20) /* bytes of a file MLmodel */

/* Reads a file MLmodel. *ret_onnx_path: the model's file, relative to it. *ret_facts_json: the flavours, the signature
 * and what else it says. CONFIGURATION that lists the flavours when onnx is not among them; MODEL_REGISTRY when the
 * file is broken. Caller frees both. */
int mlflow_model_read(const char *bytes, size_t size, char **ret_onnx_path, char **ret_facts_json,
                      struct error **ret_error);
