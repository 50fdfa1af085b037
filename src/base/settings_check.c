/* What must hold between settings, and the listening address. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/settings.h"
#include "base/text.h"

/* The host of an address in either family, or of the one name whose meaning is fixed (RFC 6761). */
static bool parse_host(const char *host, bool bracketed) {
    struct in_addr v4;
    struct in6_addr v6;
    return bracketed ? inet_pton(AF_INET6, host, &v6) == 1 : inet_pton(AF_INET, host, &v4) == 1;
}

bool settings_parse_listen(const char *listen, char **ret_host, uint16_t *ret_port) {
    const char *colon = strrchr(listen, ':');
    uint64_t port;
    if (!colon || colon == listen || strlen(colon + 1) > 5 || !text_parse_number(colon + 1, UINT16_MAX, &port))
        return false;
    bool bracketed = listen[0] == '[';
    if (bracketed && colon[-1] != ']') return false;
    _cleanup_free_ char *host = bracketed ? text_copy_bytes(listen + 1, (size_t)(colon - listen) - 2)
                                          : text_copy_bytes(listen, (size_t)(colon - listen));
    if (!bracketed && !strcmp(host, "localhost")) {
        free(host);
        host = text_copy("127.0.0.1");
    }
    if (!parse_host(host, bracketed)) return false;
    *ret_host = TAKE(host);
    *ret_port = (uint16_t)port;
    return true;
}

bool settings_is_loopback(const char *listen) {
    _cleanup_free_ char *host = NULL;
    uint16_t port;
    if (!settings_parse_listen(listen, &host, &port)) return false;
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static int check_listen(const struct settings *settings, struct error **ret_error) {
    _cleanup_free_ char *host = NULL;
    uint16_t port;
    if (!settings_parse_listen(settings->listen, &host, &port))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting listen: \"%s\" is not an address and a port like 127.0.0.1:8400 or [::1]:8400",
                         settings->listen);
    if (!*settings->token && !settings_is_loopback(settings->listen))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting listen: %s can be reached from other machines and no token is set; set a token (the "
                         "setting token or SLIPWAY_TOKEN), or listen on 127.0.0.1",
                         settings->listen);
    return 0;
}

static int check_tls(const struct settings *settings, struct error **ret_error) {
    bool has_certificate = *settings->tls_certificate, has_key = *settings->tls_key;
    if (has_certificate != has_key)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting %s is set and %s is not: a certificate and its key go together",
                         has_key ? "tls_key" : "tls_certificate", has_key ? "tls_certificate" : "tls_key");
    if (*settings->tls_client_ca && !has_certificate)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting tls_client_ca: clients can show certificates only where the service has one: set "
                         "tls_certificate and tls_key");
    return 0;
}

int settings_check(const struct settings *settings, struct error **ret_error) {
    int result = check_listen(settings, ret_error);
    if (!result) result = check_tls(settings, ret_error);
    if (result) return result;
    enum log_level level;
    enum log_format format;
    if (!log_parse_format(settings->log_format, &format))
        return error_set(ret_error, ERROR_CONFIGURATION, "setting log_format: \"%s\" is not text or json",
                         settings->log_format);
    if (*settings->otlp_endpoint && !text_starts_with(settings->otlp_endpoint, "http://") &&
        !text_starts_with(settings->otlp_endpoint, "https://"))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting otlp_endpoint: \"%s\" does not begin with http:// or https://",
                         settings->otlp_endpoint);
    if (!log_parse_level(settings->log_level, &level))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting log_level: \"%s\" is not debug, info, warning or error", settings->log_level);
    if (settings->upstream_timeout_ms > settings->drain_ms)
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting drain: %" PRIu64 "ms is less than upstream_timeout (%" PRIu64
                         "ms), so that requests would be cut off when a replica is stopped; raise drain or lower "
                         "upstream_timeout",
                         settings->drain_ms, settings->upstream_timeout_ms);
    if (*settings->public_url && !text_starts_with(settings->public_url, "http://") &&
        !text_starts_with(settings->public_url, "https://"))
        return error_set(ret_error, ERROR_CONFIGURATION,
                         "setting public_url: \"%s\" does not begin with http:// or https://", settings->public_url);
    return 0;
}
