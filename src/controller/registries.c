#include "controller/registries.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"
#include "controller/request.h"
#include "registry/registry_servers.h"

#define FILE_MAXIMUM (1024 * 1024)
/* What a pattern is tried with: a name, and a run's id. */
#define SOME_ID "0123456789abcdef0123456789abcdef"

struct kept {
    struct registry_servers *servers;
    struct kept *next;
};

struct registries {
    pthread_mutex_t mutex;
    const struct settings *settings;
    struct registry_context context; /* its `servers`: those in force; under the mutex */
    struct kept *kept; /* all that ever were */
    char digest[DIGEST_HEX_SIZE]; /* of the file's text in force; "": none */
};

/* ---- reading ---- */

static int read_file(const char *path, char **ret_text, size_t *ret_size, struct error **ret_error) {
    _cleanup_error_ struct error *cause = NULL;
    if (fs_read_file(path, FILE_MAXIMUM, ret_text, ret_size, &cause) >= 0) return 0;
    _cleanup_free_ char *words = error_text(cause);
    return error_set(ret_error, ERROR_CONFIGURATION, "read the registries file: %s", words);
}

static void warn_of_file(const char *path) {
    struct stat status;
    if (!path || stat(path, &status) < 0 || !(status.st_mode & (S_IROTH | S_IWOTH))) return;
    log_write(LOG_WARNING,
              status.st_mode & S_IROTH ? "a file with secrets in it can be read by every user; take that right away"
                                       : "a file with secrets in it can be written by every user; take that right away",
              "path", path, NULL);
}

static void warn_of_rights(const char *path, const struct registry_servers *servers) {
    bool has_secrets = false;
    for (size_t i = 0; i < servers->count; i++) {
        const struct registry_server *server = &servers->list[i];
        has_secrets |= server->password || server->token;
        warn_of_file(server->password_file);
        warn_of_file(server->token_file);
    }
    if (has_secrets && *path) warn_of_file(path);
}

static void put_in_force(struct registries *registries, struct registry_servers *servers, const char *digest) {
    struct kept *kept = mem_new(struct kept);
    pthread_mutex_lock(&registries->mutex);
    *kept = (struct kept){servers, registries->kept};
    registries->kept = kept;
    registries->context.servers = servers;
    snprintf(registries->digest, sizeof registries->digest, "%s", digest);
    pthread_mutex_unlock(&registries->mutex);
}

static int check_and_take(struct registries *registries, struct registry_servers *servers, const char *digest,
                          struct error **ret_error) {
    struct registry_context context = registries->context;
    context.servers = servers;
    int result = registries_check_default(&context, registries->settings->default_registry, ret_error);
    if (result < 0) {
        registry_servers_free(servers);
        return result;
    }
    warn_of_rights(registries->settings->registries, servers);
    put_in_force(registries, servers, digest);
    return 0;
}

/* 1: something else is in force now; 0: the file is the one that is. */
static int read_servers(struct registries *registries, struct error **ret_error) {
    const char *path = registries->settings->registries;
    char *text = NULL, digest[DIGEST_HEX_SIZE] = "";
    size_t size = 0;
    struct registry_servers *servers = NULL;
    int result = *path ? read_file(path, &text, &size, ret_error) : 0;
    if (result >= 0 && text) digest_bytes(text, size, digest);
    bool is_same = registries->kept && text_equal(digest, registries->digest) && *digest;
    if (result >= 0 && !is_same) result = registry_servers_new(text, size, path, environ, &servers, ret_error);
    if (text) explicit_bzero(text, size);
    free(text);
    if (result < 0) return result;
    if (is_same) {
        warn_of_rights(path, registries->context.servers);
        return 0;
    }
    result = check_and_take(registries, servers, digest, ret_error);
    return result < 0 ? result : 1;
}

/* The file broke after a controller had read it: the service goes on with what the environment names. */
static int do_without(struct registries *registries, const struct error *error, struct error **ret_error) {
    _cleanup_free_ char *words = error_text(error);
    struct registry_servers *servers = NULL;
    log_write(LOG_ERROR, "the registries file is not in force until it is mended and SIGHUP is sent", "error", words,
              NULL);
    int result = registry_servers_new(NULL, 0, "", environ, &servers, ret_error);
    if (result < 0) return result;
    servers->broken = TAKE(words);
    put_in_force(registries, servers, "");
    return 0;
}

int registries_new(const struct settings *settings, const struct registry_context *base, bool is_strict,
                   struct registries **ret_registries, struct error **ret_error) {
    struct registries *registries = mem_new(struct registries);
    *registries = (struct registries){.settings = settings, .context = *base};
    pthread_mutex_init(&registries->mutex, NULL);
    registries->context.file_maximum = settings->model_files_maximum;
    registries->context.size_maximum = settings->model_size_maximum;
    registries->context.stall_timeout_ms = settings->fetch_stall_timeout_ms;
    registries->context.parallel = (unsigned)settings->fetch_parallel;
    registries->context.attempts = (unsigned)settings->task_attempts;
    _cleanup_error_ struct error *error = NULL;
    int result = read_servers(registries, &error);
    if (result < 0 && is_strict)
        *ret_error = TAKE(error);
    else if (result < 0)
        result = do_without(registries, error, ret_error);
    if (result < 0) {
        registries_free(registries);
        return result;
    }
    *ret_registries = registries;
    return 0;
}

void registries_free(struct registries *registries) {
    if (!registries) return;
    for (struct kept *kept = registries->kept, *next; kept; kept = next) {
        next = kept->next;
        registry_servers_free(kept->servers);
        free(kept);
    }
    pthread_mutex_destroy(&registries->mutex);
    free(registries);
}

void registries_read_again(struct registries *registries) {
    _cleanup_error_ struct error *error = NULL;
    int result = read_servers(registries, &error);
    if (result < 0) {
        _cleanup_free_ char *words = error_text(error);
        log_write(LOG_ERROR, "registries stay as they are: the registries file cannot be used", "error", words, NULL);
    } else {
        log_write(LOG_INFO, result ? "the registries file was read again" : "the registries file has not changed",
                  NULL);
    }
}

/* ---- asking ---- */

struct registry_context registries_context(const struct controller *controller) {
    struct registries *registries = controller->registries;
    if (!registries) return controller->registry;
    pthread_mutex_lock(&registries->mutex);
    struct registry_context context = registries->context;
    pthread_mutex_unlock(&registries->mutex);
    return context;
}

/* ---- the default registry ---- */

int registries_check_default(const struct registry_context *context, const char *pattern, struct error **ret_error) {
    if (!pattern || !*pattern) return 0;
    if (!strstr(pattern, REQUEST_DEFAULT_ID))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting default_registry has no %s in it, where the model's id goes, as in "
                         "runs:/%s/model",
                         REQUEST_DEFAULT_ID, REQUEST_DEFAULT_ID);
    _cleanup_free_ char *uri = request_default_uri(context, pattern, SOME_ID);
    const struct registry_ops *registry = NULL;
    int result = request_check_public(uri, ret_error);
    if (result >= 0) result = registry_find(uri, &registry, ret_error);
    if (result >= 0) result = registry->check(context, uri, ret_error);
    return result < 0 ? error_wrap(ret_error, "setting default_registry") : 0;
}
