/* The servers that models come from: what the operator configured (the file of the setting `registries`), and what the
 * usual environment variables name. docs/registries.md is the manual of that file.
 *
 * Sections, INI form: [http NAME], [mlflow] and [mlflow NAME], [s3] and [s3 NAME], [oci NAME]. Secrets may stand in it,
 * or better in files that it names (password_file, token_file, secret_access_key_file): those are read when they are
 * needed, so that a changed one counts from then on. Nothing here is ever recorded or shown.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum registry_kind { REGISTRY_HTTP, REGISTRY_MLFLOW, REGISTRY_S3, REGISTRY_OCI };

struct registry_server {
    enum registry_kind kind;
    char *name; /* "" for the default one of its kind */
    char *url; /* mlflow: the tracking server, with its path prefix; s3: the endpoint, NULL: AWS */
    char **hosts; /* http: what may be asked; oci: the registries; transfer.h's patterns, ended by NULL */
    char **redirect_hosts; /* where those may redirect to besides */
    char **buckets; /* s3: those that this server has; none: every bucket that no other one has */
    char *region, *ca_file;
    bool path_style, plain_http;
    char *username, *password, *password_file; /* mlflow, http, oci; s3: access key id, secret, its file */
    char *token, *token_file; /* mlflow, http, oci: bearer; s3: session token */
    char *profile; /* s3: of the shared credentials file */
};

struct registry_servers {
    struct registry_server *list;
    size_t count;
    char *broken; /* why the file is not in force, where that is so; registry_servers_explain() */
    char **environment; /* those variables that registries know: MLFLOW_*, AWS_*, DOCKER_CONFIG, HOME; copied */
};

/* Reads the file's text (NULL: only the environment: MLFLOW_TRACKING_URI makes the default mlflow server,
 * AWS_ACCESS_KEY_ID or AWS_PROFILE the default s3 one). CONFIGURATION with the line. */
int registry_servers_new(const char *text, size_t size, const char *where, char *const *environment,
                         struct registry_servers **ret_servers, struct error **ret_error);
void registry_servers_free(struct registry_servers *servers);

/* By name ("" or NULL: the default); NULL when there is none. `servers` may be NULL. */
const struct registry_server *registry_server_named(const struct registry_servers *servers, enum registry_kind kind,
                                                    const char *name);
/* http, oci: the one whose hosts have this URL's or registry's host; s3: the one that has this bucket. NULL: none. */
const struct registry_server *registry_server_for(const struct registry_servers *servers, enum registry_kind kind,
                                                  const char *host_or_bucket);
/* The value of one of the variables that are kept, or NULL. */
const char *registry_environment(const struct registry_servers *servers, const char *name);
/* The secret itself, or the first line of the file that holds it, now. *ret_secret NULL when neither is given; caller
 * frees. MODEL_REGISTRY when the file cannot be read. */
int registry_read_secret(const char *secret, const char *file, char **ret_secret, struct error **ret_error);
/* Puts `broken` before a CONFIGURATION error, which may come of it. Returns the error's class, negative. */
int registry_servers_explain(const struct registry_servers *servers, struct error **error);
/* CONFIGURATION: "<scheme>: is not configured here: <how to>". */
int registry_fail_unconfigured(const char *uri, const char *how, struct error **ret_error);
