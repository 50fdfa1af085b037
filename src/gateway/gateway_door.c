/* The doors by which requests come: the port, plain or over TLS, and the control socket in the state folder. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "gateway/gateway-internal.h"

#define EXPIRES_SOON_MS (7 * 24 * INT64_C(3600000))

static void log_certificate(const struct settings *settings, const struct http_tls_context *tls) {
    int64_t end_ms = http_tls_context_expires_ms(tls);
    time_t end = end_ms / 1000;
    struct tm parts;
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end, &parts));
    bool is_late = end_ms - clock_wall_ms() < EXPIRES_SOON_MS;
    log_write(is_late ? LOG_WARNING : LOG_INFO, is_late ? "the certificate ends soon, or has ended" : "speaking TLS",
              "certificate", settings->tls_certificate, "until", text, NULL);
}

/* Who is called with it owns it from then on. */
static int give_away(int *descriptor) {
    int given = *descriptor;
    *descriptor = -1;
    return given;
}

static int open_port(struct gateway *gateway, struct error **ret_error) {
    const struct settings *settings = gateway->settings;
    if (!*settings->tls_certificate)
        return http_server_listen(gateway->server, give_away(&gateway->config.listener), ret_error);
    struct http_tls_context *tls = NULL;
    const struct http_tls_files files = {settings->tls_certificate, settings->tls_key, settings->tls_client_ca};
    int result = http_tls_context_new(&files, &tls, ret_error);
    if (result < 0) return result;
    log_certificate(settings, tls);
    return http_server_listen_tls(gateway->server, give_away(&gateway->config.listener), tls, ret_error);
}

int gateway_open_doors(struct gateway *gateway, struct error **ret_error) {
    int result = open_port(gateway, ret_error);
    if (result < 0 || gateway->config.control < 0) return result;
    return http_server_listen_local(gateway->server, give_away(&gateway->config.control), ret_error);
}

void gateway_close_doors(struct gateway *gateway) {
    if (gateway->config.listener >= 0) close(gateway->config.listener);
    if (gateway->config.control >= 0) close(gateway->config.control);
}
