/* What is good in the registries file. No error holds a value of it but names, hosts and buckets. */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "registry/registry_servers-internal.h"

#define URL_MAXIMUM 2048
#define HOST_MAXIMUM 255

bool registry_text_is_plain(const char *text) {
    if (!text_is_utf8(text, strlen(text))) return false;
    for (const unsigned char *at = (const unsigned char *)text; *at; at++)
        if (*at < ' ' || *at == 0x7f) return false;
    return true;
}

/* ---- hosts and URLs ---- */

static bool port_is_good(const char *port) {
    uint64_t number;
    return strlen(port) <= 5 && text_parse_number(port, UINT16_MAX, &number) && number > 0;
}

static bool name_is_good(const char *name, size_t size) {
    if (!size || size > HOST_MAXIMUM || name[0] == '.' || name[0] == '-') return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr(".-_", name[i])) return false;
    return true;
}

static bool is_bracketed_address(const char *host, size_t size) {
    if (size < 4 || host[0] != '[' || host[size - 1] != ']') return false;
    struct in6_addr address;
    _cleanup_free_ char *text = text_copy_bytes(host + 1, size - 2);
    return inet_pton(AF_INET6, text, &address) == 1;
}

bool registry_host_is_good(const char *host) {
    const char *end = *host == '[' ? strchr(host, ']') : NULL;
    size_t size = end ? (size_t)(end + 1 - host) : strcspn(host, ":");
    if (host[size] && (host[size] != ':' || !port_is_good(host + size + 1))) return false;
    if (*host == '[') return is_bracketed_address(host, size);
    if (!strncmp(host, "*.", 2)) return name_is_good(host + 2, size - 2);
    return name_is_good(host, size);
}

/* How many bytes "http://" or "https://" has, 0 when it is neither. */
static size_t scheme_size(const char *url) {
    if (!strncasecmp(url, "http://", 7)) return 7;
    return strncasecmp(url, "https://", 8) ? 0 : 8;
}

int registry_take_url(const char *key, const char *value, char **ret_url, struct error **ret_error) {
    size_t scheme = scheme_size(value), length = strlen(value);
    if (!scheme)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is not a URL that begins with http:// or https://", key);
    size_t authority = strcspn(value + scheme, "/?#");
    _cleanup_free_ char *host = text_copy_bytes(value + scheme, authority);
    if (strchr(host, '@'))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s has a user or password in the URL; give them by keys of their own (username and "
                         "password_file)",
                         key);
    if (*host == '*' || !registry_host_is_good(host) || strpbrk(value, " \t?#") || length > URL_MAXIMUM)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "%s is not a URL of the form http://host:port/path without query and fragment", key);
    while (length > scheme + authority && value[length - 1] == '/') length--;
    free(*ret_url);
    *ret_url = text_copy_bytes(value, length);
    return 0;
}

/* ---- one server ---- */

static int check_credentials(const struct registry_server *server, struct error **ret_error) {
    bool is_s3 = server->kind == REGISTRY_S3;
    const char *user = is_s3 ? "access_key_id" : "username", *secret = is_s3 ? "secret_access_key" : "password",
               *token = is_s3 ? "session_token" : "token";
    bool has_secret = server->password || server->password_file, has_token = server->token || server->token_file;
    if (server->password && server->password_file)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s and %s_file are both given; keep one", secret, secret);
    if (server->token && server->token_file)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s and %s_file are both given; keep one", token, token);
    if (has_secret != !!server->username)
        return error_set(ret_error, ERROR_CONFIGURATION, "%s is given without %s; they go together",
                         has_secret ? secret : user, has_secret ? user : secret);
    if (is_s3 && has_token && !has_secret)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "session_token is given without access_key_id and secret_access_key");
    if (is_s3 && server->profile && server->username)
        return error_set(ret_error, ERROR_CONFIGURATION, "profile and access_key_id are both given; keep one");
    if (!is_s3 && has_token && has_secret)
        return error_set(ret_error, ERROR_CONFIGURATION, "username and token are both given; keep one");
    return 0;
}

static int check_needed(const struct registry_server *server, struct error **ret_error) {
    if (server->kind == REGISTRY_MLFLOW && !server->url)
        return error_set(ret_error, ERROR_CONFIGURATION, "url is missing: the address of the tracking server");
    if ((server->kind == REGISTRY_HTTP || server->kind == REGISTRY_OCI) && (!server->hosts || !*server->hosts))
        return error_set(ret_error, ERROR_CONFIGURATION, "hosts is missing: the servers that may be asked");
    return 0;
}

/* ---- among the others ---- */

/* The entry that both have, or NULL. */
static const char *find_shared(char *const *list, char *const *other) {
    for (; list && *list; list++)
        for (char *const *item = other; item && *item; item++)
            if (!strcasecmp(*list, *item)) return *list;
    return NULL;
}

static char *title_of(const struct registry_server *server) {
    return text_format("[%s%s%s]", registry_kind_names[server->kind], *server->name ? " " : "", server->name);
}

static int check_against(const struct registry_server *server, const struct registry_server *other,
                         struct error **ret_error) {
    _cleanup_free_ char *title = title_of(other);
    const char *host = find_shared(server->hosts, other->hosts);
    if (host) return error_set(ret_error, ERROR_CONFIGURATION, "the host %s is in %s too", host, title);
    const char *bucket = find_shared(server->buckets, other->buckets);
    if (bucket) return error_set(ret_error, ERROR_CONFIGURATION, "the bucket %s is in %s too", bucket, title);
    if (server->kind == REGISTRY_S3 && !server->buckets && !other->buckets)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "neither this nor %s names its buckets, so that it is not told whose a bucket is; give one of "
                         "them the key buckets",
                         title);
    return 0;
}

static int check_all(const struct registry_servers *servers, const struct registry_server *server,
                     struct error **ret_error) {
    int result = check_needed(server, ret_error);
    if (!result) result = check_credentials(server, ret_error);
    for (size_t i = 0; i < servers->count && !result; i++)
        if (&servers->list[i] != server && servers->list[i].kind == server->kind)
            result = check_against(server, &servers->list[i], ret_error);
    return result;
}

int registry_server_check(const struct registry_servers *servers, const struct registry_server *server,
                          struct error **ret_error) {
    _cleanup_free_ char *title = title_of(server);
    int result = check_all(servers, server, ret_error);
    return result < 0 ? error_wrap(ret_error, "section %s", title) : 0;
}
