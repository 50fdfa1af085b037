/* URLs, read by libcurl's own parser: what we check is what it connects to. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/text.h"
#include "transfer/transfer-internal.h"

#define URL_MAXIMUM 8192

static void free_url(CURLU **url) {
    curl_url_cleanup(*url);
}
#define _cleanup_url_ __attribute__((cleanup(free_url)))

/* NULL when it is malformed. */
static CURLU *parse_url(const char *text) {
    CURLU *url = curl_url();
    if (strlen(text) <= URL_MAXIMUM && !curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME)) return url;
    curl_url_cleanup(url);
    return NULL;
}

/* Our own copy; NULL when the part is missing. */
static char *url_part(const CURLU *url, CURLUPart part, unsigned flags) {
    char *theirs = NULL;
    if (curl_url_get((CURLU *)url, part, &theirs, flags)) return NULL;
    char *text = text_copy(theirs);
    curl_free(theirs);
    return text;
}

/* Lower case, without the dot that a name may end with. */
static char *url_host(const CURLU *url) {
    char *host = url_part(url, CURLUPART_HOST, 0);
    if (!host) return NULL;
    for (char *at = host; *at; at++)
        if (*at >= 'A' && *at <= 'Z') *at += 'a' - 'A';
    size_t size = strlen(host);
    if (size > 1 && host[size - 1] == '.') host[size - 1] = '\0';
    return host;
}

static bool speaks_http(const CURLU *url) {
    _cleanup_free_ char *scheme = url_part(url, CURLUPART_SCHEME, 0);
    return scheme && (!strcasecmp(scheme, "http") || !strcasecmp(scheme, "https"));
}

char *transfer_origin(const char *text) {
    _cleanup_url_ CURLU *url = parse_url(text);
    if (!url || !speaks_http(url)) return NULL;
    _cleanup_free_ char *scheme = url_part(url, CURLUPART_SCHEME, 0);
    _cleanup_free_ char *host = url_host(url);
    _cleanup_free_ char *port = url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    if (!host || !*host || !port) return NULL;
    return text_format("%s://%s:%s", strcasecmp(scheme, "http") ? "https" : "http", host, port);
}

/* "[::1]:9000" and "host:80" have a port, "[::1]" and "host" have none. */
static const char *pattern_port(const char *pattern) {
    const char *colon = strrchr(pattern, ':');
    const char *bracket = strrchr(pattern, ']');
    return colon && (!bracket || bracket < colon) ? colon + 1 : NULL;
}

static bool pattern_matches(const char *pattern, const char *host, const char *port) {
    const char *wanted = pattern_port(pattern);
    if (wanted && strcmp(wanted, port)) return false;
    size_t size = wanted ? (size_t)(wanted - pattern) - 1 : strlen(pattern);
    if (pattern[0] == '*' && pattern[1] == '.') { /* ".example.com" is what it has to end with */
        size_t length = strlen(host);
        return length > size - 1 && !strncasecmp(host + length - (size - 1), pattern + 1, size - 1);
    }
    return strlen(host) == size && !strncasecmp(host, pattern, size);
}

bool transfer_host_matches(const char *text, const char *const *hosts, size_t host_count) {
    _cleanup_url_ CURLU *url = parse_url(text);
    if (!url) return false;
    _cleanup_free_ char *host = url_host(url);
    _cleanup_free_ char *port = url_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    for (size_t i = 0; host && i < host_count; i++)
        if (pattern_matches(hosts[i], host, port ? port : "")) return true;
    return false;
}

char *transfer_public_url(const char *text) {
    _cleanup_url_ CURLU *url = parse_url(text);
    static const CURLUPart secret[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_OPTIONS, CURLUPART_QUERY,
                                       CURLUPART_FRAGMENT};
    for (size_t i = 0; url && i < ARRAY_SIZE(secret); i++) curl_url_set(url, secret[i], NULL, 0);
    char *clean = url ? url_part(url, CURLUPART_URL, 0) : NULL;
    return clean ? clean : text_copy("a malformed URL");
}

static bool has_user(const CURLU *url) {
    _cleanup_free_ char *user = url_part(url, CURLUPART_USER, 0);
    _cleanup_free_ char *password = url_part(url, CURLUPART_PASSWORD, 0);
    return user || password;
}

int transfer_check_url(const struct transfer *transfer, const char *text, struct error **ret_error) {
    const struct transfer_config *config = &transfer->config;
    _cleanup_free_ char *shown = transfer_public_url(text);
    _cleanup_url_ CURLU *url = parse_url(text);
    if (!url) return error_set(ret_error, config->class, "\"%s\" is no URL", shown);
    if (!speaks_http(url)) return error_set(ret_error, config->class, "%s is neither http: nor https:", shown);
    if (has_user(url))
        return error_set(ret_error, config->class,
                         "the URL %s holds a user or password; credentials belong in the configuration", shown);
    if (transfer_host_matches(text, config->hosts, config->host_count)) return 0;
    _cleanup_free_ char *host = url_host(url);
    _cleanup_free_ char *port = url_part(url, CURLUPART_PORT, 0);
    return error_set(ret_error, config->class, "the host %s%s%s is not among those that may be asked",
                     host ? host : "(none)", port ? ":" : "", port ? port : "");
}

int transfer_follow(const struct transfer *transfer, const char *from, const char *location, char **ret_url,
                    struct error **ret_error) {
    _cleanup_url_ CURLU *url = parse_url(from);
    _cleanup_free_ char *old = url ? url_part(url, CURLUPART_SCHEME, 0) : NULL;
    _cleanup_free_ char *next = NULL;
    if (url && !curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0) && strlen(location) <= URL_MAXIMUM &&
        !curl_url_set(url, CURLUPART_URL, location, CURLU_NON_SUPPORT_SCHEME | CURLU_URLENCODE))
        next = url_part(url, CURLUPART_URL, 0);
    int result = 0;
    if (!next)
        result = error_set(ret_error, transfer->config.class, "the redirect's Location is no URL");
    else if (old && !strcasecmp(old, "https") && strncasecmp(next, "https:", 6))
        result = error_set(ret_error, transfer->config.class, "the redirect leaves https");
    else
        result = transfer_check_url(transfer, next, ret_error);
    if (result < 0) {
        _cleanup_free_ char *shown = transfer_public_url(from);
        _cleanup_free_ char *where = transfer_public_url(next ? next : "");
        return error_wrap(ret_error, "%s redirects to %s", shown, where);
    }
    *ret_url = TAKE(next);
    return 0;
}
