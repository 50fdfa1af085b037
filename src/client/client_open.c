/* Opening and closing: where the service is, and how it is reached there. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/text.h"
#include "client/client-internal.h"

#define DEFAULT_URL "http://127.0.0.1:8400"

static char *copy_of(const char *text) {
    return text && *text ? text_copy(text) : NULL;
}

static int check_options(const char *url, const struct slipway_options *options, struct slipway_error **ret_error) {
    if (!text_starts_with(url, "http://") && !text_starts_with(url, "https://") && !text_starts_with(url, "unix:"))
        return client_error(ret_error, SLIPWAY_CONFIGURATION, 0,
                            "open %s: the URL of the service must begin with http://, https:// or unix:", url);
    if (options->token && strpbrk(options->token, "\r\n"))
        return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "open %s: the token has a line break in it", url);
    if (options->key_file && *options->key_file && !(options->certificate_file && *options->certificate_file))
        return client_error(ret_error, SLIPWAY_CONFIGURATION, 0, "open %s: a key without its certificate", url);
    return 0;
}

/* A socket's address has 108 bytes; through its open folder every path is short enough. */
static int shorten(struct slipway *service, const char *path, struct slipway_error **ret_error) {
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder = slash ? text_copy_bytes(path, (size_t)(slash - path)) : NULL;
    if (folder && *folder) service->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (service->folder < 0)
        return client_error(ret_error, SLIPWAY_UNAVAILABLE, 0, "open unix:%s: %s", path,
                            folder ? strerrordesc_np(errno) : "the path is too long");
    service->socket = text_format("/proc/self/fd/%d/%s", service->folder, slash + 1);
    return 0;
}

static int set_socket(struct slipway *service, const char *path, struct slipway_error **ret_error) {
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path) {
        int result = shorten(service, path, ret_error);
        if (result < 0) return result;
    } else {
        service->socket = text_copy(path);
    }
    service->url = text_copy("http://localhost");
    return 0;
}

int slipway_open_with(const struct slipway_options *options, struct slipway **ret_service,
                      struct slipway_error **ret_error) {
    const char *url = options->url ? options->url : DEFAULT_URL;
    int result = check_options(url, options, ret_error);
    if (result < 0) return result;
    curl_global_init(CURL_GLOBAL_DEFAULT); /* counted; thread-safe from libcurl 7.84 */
    CURL *curl = curl_easy_init();
    if (!curl) return client_error(ret_error, SLIPWAY_UNAVAILABLE, 0, "open %s: libcurl could not be started", url);
    struct slipway *service = mem_new(struct slipway);
    size_t length = strlen(url);
    while (length && url[length - 1] == '/') length--;
    service->curl = curl;
    service->folder = -1;
    service->shown = text_copy_bytes(url, length);
    service->token = copy_of(options->token);
    service->ca_file = copy_of(options->ca_file);
    service->certificate_file = copy_of(options->certificate_file);
    service->key_file = copy_of(options->key_file);
    if (text_starts_with(url, "unix:"))
        result = set_socket(service, url + strlen("unix:"), ret_error);
    else
        service->url = text_copy(service->shown);
    slipway_set_timeout(service, 0);
    if (result < 0)
        slipway_close(service);
    else
        *ret_service = service;
    return result;
}

int slipway_open(const char *url, const char *token, struct slipway **ret_service, struct slipway_error **ret_error) {
    return slipway_open_with(&(struct slipway_options){.url = url, .token = token}, ret_service, ret_error);
}

void slipway_close(struct slipway *service) {
    if (!service) return;
    curl_easy_cleanup(service->curl);
    if (service->folder >= 0) close(service->folder);
    char *const texts[] = {service->url,     service->shown,   service->token,
                           service->socket,  service->ca_file, service->certificate_file,
                           service->key_file};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) free(texts[i]);
    free(service);
    curl_global_cleanup();
}

void client_set_way(const struct slipway *service) {
    CURL *curl = service->curl;
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, service->socket ? "*" : "127.0.0.1,localhost,::1");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "libslipway");
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (service->socket) curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, service->socket);
    if (service->ca_file) { /* this one alone, not beside the system's */
        curl_easy_setopt(curl, CURLOPT_CAINFO, service->ca_file);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    if (!service->certificate_file) return;
    curl_easy_setopt(curl, CURLOPT_SSLCERT, service->certificate_file);
    curl_easy_setopt(curl, CURLOPT_SSLKEY, service->key_file ? service->key_file : service->certificate_file);
}
