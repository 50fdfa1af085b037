/* What the environment says of servers: the variables that the usual clients go by make the default servers where the
 * file has none. Their credentials belong to those servers alone. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_servers-internal.h"

static bool is_ours(const char *variable) {
    static const char *const known[] = {"MLFLOW_", "AWS_", "DOCKER_CONFIG=", "HOME="};
    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (text_starts_with(variable, known[i])) return true;
    return false;
}

void registry_keep_environment(struct registry_servers *servers, char *const *environment) {
    size_t count = 0, kept = 0;
    while (environment && environment[count]) count++;
    servers->environment = mem_new_array(count + 1, char *);
    for (size_t i = 0; i < count; i++)
        if (is_ours(environment[i])) servers->environment[kept++] = text_copy(environment[i]);
}

/* One that is set to nothing is not set. */
static const char *ask(const struct registry_servers *servers, const char *name) {
    const char *value = registry_environment(servers, name);
    return value && *value ? value : NULL;
}

static char *ask_copy(const struct registry_servers *servers, const char *name) {
    return text_copy(ask(servers, name));
}

static int check_plain(const char *name, const char *value, struct error **ret_error) {
    if (!value || registry_text_is_plain(value)) return 0;
    return error_set(ret_error, ERROR_CONFIGURATION, "the environment variable %s is not plain UTF-8 text", name);
}

/* "https://user:secret@host/path", as the client takes it, without user and secret, which go to the server's own
 * fields. */
static char *split_url(const char *url, struct registry_server *server) {
    const char *authority = strstr(url, "://") + 3;
    size_t size = strcspn(authority, "/?#");
    const char *at = memrchr(authority, '@', size);
    if (!at) return text_copy(url);
    const char *colon = memchr(authority, ':', (size_t)(at - authority));
    size_t user = (size_t)((colon ? colon : at) - authority), unused;
    text_percent_decode(authority, user, &server->username, &unused);
    if (colon) text_percent_decode(colon + 1, (size_t)(at - colon - 1), &server->password, &unused);
    if (!server->password) server->password = text_copy("");
    return text_format("%.*s%s", (int)(authority - url), url, at + 1);
}

/* Only servers are meant here: the client also takes folders, databases and its own vendors' names, which have no
 * meaning for a service and make no server. */
static int add_mlflow(struct registry_servers *servers, struct error **ret_error) {
    static const char name[] = "MLFLOW_TRACKING_URI";
    const char *url = ask(servers, name);
    if (!url || registry_server_named(servers, REGISTRY_MLFLOW, "")) return 0;
    if (strncasecmp(url, "http://", 7) && strncasecmp(url, "https://", 8)) return 0;
    struct registry_server *server = registry_servers_add(servers, REGISTRY_MLFLOW, "");
    _cleanup_free_ char *plain = split_url(url, server);
    int result = registry_take_url(name, plain, &server->url, ret_error);
    if (result < 0) return result;
    if (!server->username) {
        server->username = ask_copy(servers, "MLFLOW_TRACKING_USERNAME");
        server->password = ask_copy(servers, "MLFLOW_TRACKING_PASSWORD");
        server->token = ask_copy(servers, "MLFLOW_TRACKING_TOKEN");
    }
    server->ca_file = ask_copy(servers, "MLFLOW_TRACKING_SERVER_CERT_PATH");
    if ((result = check_plain("MLFLOW_TRACKING_USERNAME", server->username, ret_error)) < 0 ||
        (result = check_plain("MLFLOW_TRACKING_PASSWORD", server->password, ret_error)) < 0)
        return result;
    return check_plain("MLFLOW_TRACKING_TOKEN", server->token, ret_error);
}

static bool has_server_of_every_bucket(const struct registry_servers *servers) {
    for (size_t i = 0; i < servers->count; i++)
        if (servers->list[i].kind == REGISTRY_S3 && !servers->list[i].buckets) return true;
    return false;
}

static int add_s3(struct registry_servers *servers, struct error **ret_error) {
    const char *id = ask(servers, "AWS_ACCESS_KEY_ID"), *profile = ask(servers, "AWS_PROFILE");
    if ((!id && !profile) || has_server_of_every_bucket(servers) || registry_server_named(servers, REGISTRY_S3, ""))
        return 0;
    struct registry_server *server = registry_servers_add(servers, REGISTRY_S3, "");
    const char *name = ask(servers, "AWS_ENDPOINT_URL_S3") ? "AWS_ENDPOINT_URL_S3" : "AWS_ENDPOINT_URL";
    const char *endpoint = ask(servers, name);
    int result = endpoint ? registry_take_url(name, endpoint, &server->url, ret_error) : 0;
    if (result < 0) return result;
    server->region = ask_copy(servers, ask(servers, "AWS_REGION") ? "AWS_REGION" : "AWS_DEFAULT_REGION");
    server->ca_file = ask_copy(servers, "AWS_CA_BUNDLE");
    if (id) {
        server->username = text_copy(id);
        server->password = ask_copy(servers, "AWS_SECRET_ACCESS_KEY");
        server->token = ask_copy(servers, "AWS_SESSION_TOKEN");
    } else {
        server->profile = text_copy(profile);
    }
    if ((result = check_plain("AWS_ACCESS_KEY_ID", server->username, ret_error)) < 0 ||
        (result = check_plain("AWS_SECRET_ACCESS_KEY", server->password, ret_error)) < 0)
        return result;
    return check_plain("AWS_SESSION_TOKEN", server->token, ret_error);
}

int registry_servers_from_environment(struct registry_servers *servers, struct error **ret_error) {
    int result = add_mlflow(servers, ret_error);
    return result < 0 ? result : add_s3(servers, ret_error);
}
