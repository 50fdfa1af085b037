/* As whom a tracking server is asked. */
#include <ini.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_mlflow-internal.h"

#define FILE_MAXIMUM 65536

/* Whether this is the server that MLFLOW_TRACKING_URI names: the environment's credentials are that one's. */
static bool is_the_environments(const struct registry_servers *servers, const struct registry_server *server) {
    const char *url = registry_environment(servers, "MLFLOW_TRACKING_URI");
    const char *authority = url ? strstr(url, "://") : NULL;
    if (!authority || *server->name) return false;
    authority += 3;
    const char *at = memrchr(authority, '@', strcspn(authority, "/?#"));
    _cleanup_free_ char *plain = text_format("%.*s%s", (int)(authority - url), url, at ? at + 1 : authority);
    size_t size = strlen(plain);
    while (size && plain[size - 1] == '/') size--;
    return strlen(server->url) == size && !strncasecmp(server->url, plain, size);
}

struct found {
    char *user, *password;
};

static int on_entry(void *context, const char *section, const char *name, const char *value) {
    struct found *found = context;
    if (strcmp(section, "mlflow")) return 1;
    char **field = !strcasecmp(name, "mlflow_tracking_username")   ? &found->user
                   : !strcasecmp(name, "mlflow_tracking_password") ? &found->password
                                                                   : NULL;
    if (!field) return 1;
    free(*field);
    *field = text_copy(value);
    return 1;
}

/* ~/.mlflow/credentials; one that is not there, or is something else, says nothing, as with MLflow's client. */
static void read_file(const struct registry_servers *servers, struct found *found) {
    const char *home = registry_environment(servers, "HOME");
    if (!home || *home != '/') return;
    _cleanup_free_ char *path = text_format("%s/.mlflow/credentials", home);
    char *bytes = NULL;
    size_t size;
    if (!fs_exists(path) || fs_read_file(path, FILE_MAXIMUM, &bytes, &size, NULL) < 0) return;
    ini_parse_string(bytes, on_entry, found);
    explicit_bzero(bytes, size);
    free(bytes);
}

static void free_secret(char *secret) {
    if (secret) explicit_bzero(secret, strlen(secret));
    free(secret);
}

/* What the server says, else what the environment says of its own; NULL where neither does. */
static char *choose(const struct registry_servers *servers, bool is_environments, const char *variable, char *file) {
    const char *value = is_environments ? registry_environment(servers, variable) : NULL;
    if (value && *value) return text_copy(value);
    return is_environments && file && *file ? text_copy(file) : NULL;
}

int mlflow_credentials_find(const struct registry_servers *servers, const struct registry_server *server,
                            struct mlflow_credentials *ret_credentials, struct error **ret_error) {
    char *password = NULL, *token = NULL;
    int result = registry_read_secret(server->password, server->password_file, &password, ret_error);
    if (!result) result = registry_read_secret(server->token, server->token_file, &token, ret_error);
    if (result < 0) {
        free_secret(password);
        return result;
    }
    struct found found = {0};
    /* A token of the registries file is not outdone by what the environment says. */
    bool is_environments = is_the_environments(servers, server) &&
                           (!token || text_equal(token, registry_environment(servers, "MLFLOW_TRACKING_TOKEN")));
    if (is_environments && (!server->username || !password)) read_file(servers, &found);
    char *user = text_copy(server->username);
    if (!user) user = choose(servers, is_environments, "MLFLOW_TRACKING_USERNAME", found.user);
    if (!password) password = choose(servers, is_environments, "MLFLOW_TRACKING_PASSWORD", found.password);
    if (!token) token = choose(servers, is_environments, "MLFLOW_TRACKING_TOKEN", NULL);
    free(found.user);
    free_secret(found.password);

    if (user && *user && password && *password) {
        *ret_credentials = (struct mlflow_credentials){TRANSFER_BASIC, TAKE(user), TAKE(password)};
    } else if (token && *token) {
        *ret_credentials = (struct mlflow_credentials){TRANSFER_BEARER, NULL, TAKE(token)};
    } else {
        *ret_credentials = (struct mlflow_credentials){.kind = TRANSFER_ANONYMOUS};
    }
    free(user);
    free_secret(password);
    free_secret(token);
    return 0;
}

void mlflow_credentials_clear(struct mlflow_credentials *credentials) {
    free(credentials->user);
    free_secret(credentials->secret);
    *credentials = (struct mlflow_credentials){.kind = TRANSFER_ANONYMOUS};
}
